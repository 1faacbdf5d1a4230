//! Status: is all well? Judged from snapshots, key slots and what this client remembers; nothing large is read.

use crate::base::bytes;
use crate::base::clock::UnixNanos;
use crate::format::keyset::Role;
use crate::format::slot::{SlotHeader, SlotKind};
use crate::repo::ledger::PastResult;
use crate::repo::snapshots::{self, Listed, SnapshotInfo};

/// How bad something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Level {
    /// All is well.
    #[default]
    Ok,
    /// To be looked at soon.
    Warning,
    /// To be looked at now.
    Critical,
}

/// From which age on a last backup is too old.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Seconds until a warning.
    pub warning_s: i64,
    /// Seconds until it is critical.
    pub critical_s: i64,
}

/// How one host's job stands.
#[derive(Debug)]
pub struct JobStatus {
    /// Its last snapshot.
    pub last: SnapshotInfo,
    /// How many snapshots it has.
    pub snapshots: u64,
    /// How bad its findings are.
    pub level: Level,
}

/// What opens the repository.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KeyStatus {
    /// Slots of full keys whose signature holds.
    pub full: u64,
    /// Slots of writer keys whose signature holds.
    pub writer: u64,
    /// Full ones among them that a recovery code opens.
    pub recovery: u64,
    /// Slots that cannot be used, or whose signature does not hold.
    pub unusable: u64,
}

/// How all stands.
#[derive(Debug, Default)]
pub struct Status {
    /// Each host and job.
    pub jobs: Vec<JobStatus>,
    /// Key slots.
    pub keys: KeyStatus,
    /// The last check that left a record.
    pub last_check: Option<PastResult>,
    /// What is not as it should be, the worst first.
    pub findings: Vec<(Level, String)>,
}

impl Status {
    /// The worst of all findings.
    pub fn level(&self) -> Level {
        self.findings.iter().map(|(level, _)| *level).max().unwrap_or_default()
    }

    fn find(&mut self, level: Level, text: String) -> Level {
        self.findings.push((level, text));
        level
    }

    /// Judges the jobs of the snapshots that `wanted` lets through.
    fn judge_jobs(
        &mut self,
        listed: &Listed,
        wanted: &dyn Fn(&SnapshotInfo) -> bool,
        now: UnixNanos,
        limits: Limits,
    ) {
        let wanted: Vec<SnapshotInfo> =
            listed.snapshots.iter().filter(|info| wanted(info)).cloned().collect();
        for last in snapshots::newest_of_each_job(&wanted) {
            let snapshot = &last.snapshot;
            let of_job = wanted.iter().filter(|info| {
                info.snapshot.host_name == snapshot.host_name && info.snapshot.job == snapshot.job
            });
            let name = bytes::display(format!("{} {}", snapshot.host_name, snapshot.job).as_bytes());
            let age_s = ((now - UnixNanos::from(snapshot.ended)) / 1_000_000_000) as i64;
            let mut level = Level::Ok;
            if age_s >= limits.warning_s {
                let bad = if age_s >= limits.critical_s { Level::Critical } else { Level::Warning };
                level = level
                    .max(self.find(bad, format!("{name}: the last backup is {} hours old", age_s / 3_600)));
            } else if age_s < -600 {
                let text = format!("{name}: the last backup is from the future: a clock is wrong");
                level = level.max(self.find(Level::Warning, text));
            }
            if let Some(why) = &snapshot.suspect {
                let why = bytes::display(why.as_bytes());
                level = level
                    .max(self.find(Level::Warning, format!("{name}: the last backup is suspect: {why}")));
            }
            if snapshot.problem_count > 0 {
                let text = format!("{name}: the last backup could not read {} files", snapshot.problem_count);
                level = level.max(self.find(Level::Warning, text));
            }
            self.jobs.push(JobStatus { last: last.clone(), snapshots: of_job.count() as u64, level });
        }
        if self.jobs.is_empty() {
            self.find(Level::Critical, "there is no snapshot".to_owned());
        }
    }

    /// Counts the key slots; `slots` says of each what it is, or that it cannot be trusted.
    fn judge_keys<'a>(&mut self, slots: impl Iterator<Item = Option<&'a SlotHeader>>) {
        for slot in slots {
            match slot {
                None => self.keys.unusable += 1,
                Some(SlotHeader { role: Role::Writer, .. }) => self.keys.writer += 1,
                Some(SlotHeader { kind, .. }) => {
                    self.keys.full += 1;
                    self.keys.recovery += u64::from(matches!(kind, SlotKind::Recovery { .. }));
                }
            }
        }
        if self.keys.full <= 1 {
            let text =
                "only one full key: if it is lost, nobody can read the backups (mailark key add --recovery)";
            self.find(Level::Warning, text.to_owned());
        }
        if self.keys.unusable > 0 {
            let text =
                format!("{} key slots are damaged or not signed by this repository", self.keys.unusable);
            self.find(Level::Critical, text);
        }
    }
}

impl Status {
    /// The last check decides, whatever earlier ones said.
    fn judge_check(&mut self, results: &[PastResult]) {
        self.last_check = results.iter().rfind(|result| result.verb == "check").cloned();
        if let Some(PastResult { ok: false, text, .. }) = &self.last_check {
            let text = bytes::display(text.as_bytes());
            let text =
                format!("the last check found damage: {text} (mailark check --read-data says what to do)");
            self.find(Level::Warning, text);
        }
    }
}

/// Judges what was found.
///
/// `lost` are the texts about snapshots that this client saw before and that are gone; `results` those of earlier
/// runs, oldest first.
pub fn judge<'a>(
    listed: &Listed,
    wanted: &dyn Fn(&SnapshotInfo) -> bool,
    slots: impl Iterator<Item = Option<&'a SlotHeader>>,
    lost: &[String],
    results: &[PastResult],
    (now, limits): (UnixNanos, Limits),
) -> Status {
    let mut status = Status::default();
    for text in lost {
        status.find(Level::Critical, text.clone());
    }
    for (_, error) in &listed.unusable {
        status.find(Level::Critical, error.to_string());
    }
    status.judge_jobs(listed, wanted, now, limits);
    status.judge_keys(slots);
    status.judge_check(results);
    status.findings.sort_by_key(|(level, _)| std::cmp::Reverse(*level));
    status
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::{DomainId, HostId, ObjectHash, SlotId};
    use crate::format::envelope::SUITE;
    use crate::format::slot::ShortText;
    use crate::format::snapshot::{ScanKind, Snapshot};

    const HOUR: i64 = 3_600_000_000_000;
    const LIMITS: Limits = Limits { warning_s: 26 * 3_600, critical_s: 50 * 3_600 };

    fn snapshot(host: u8, sequence: u64, ended: i64) -> SnapshotInfo {
        let snapshot = Snapshot {
            host_name: "mx1".to_owned(),
            job: "mail".to_owned(),
            previous: None,
            previous_sequence: 0,
            started: ended - 1,
            ended,
            parts: Vec::new(),
            tags: Vec::new(),
            scan: ScanKind::Stat,
            suspect: None,
            replaces: None,
            problem_count: 0,
            problems: Vec::new(),
            vanished: 0,
            program: String::new(),
        };
        let hash = ObjectHash([sequence as u8; 32]);
        SnapshotInfo {
            hash,
            host: HostId([host; 16]),
            domain: DomainId::default(),
            sequence,
            position: sequence,
            received: ended.into(),
            snapshot,
        }
    }

    fn slot(kind: SlotKind, role: Role) -> SlotHeader {
        let text = ShortText::new("").unwrap();
        SlotHeader {
            suite: SUITE,
            id: SlotId([1; 8]),
            kind,
            role,
            label: text.clone(),
            host_name: text,
            created: 0,
        }
    }

    fn judged(snapshots: Vec<SnapshotInfo>, now: i64) -> Status {
        let listed = Listed { snapshots, ..Listed::default() };
        let slots = [
            slot(SlotKind::KeyFile { salt: [0; 32] }, Role::Full),
            slot(SlotKind::Recovery { salt: [0; 32] }, Role::Full),
        ];
        judge(&listed, &|_| true, slots.iter().map(Some), &[], &[], (now.into(), LIMITS))
    }

    #[test]
    fn age_decides() {
        for (hours, level) in [
            (0, Level::Ok),
            (25, Level::Ok),
            (26, Level::Warning),
            (49, Level::Warning),
            (50, Level::Critical),
            (-2, Level::Warning),
        ] {
            let status = judged(vec![snapshot(1, 1, 100 * HOUR)], (100 + hours) * HOUR);
            assert_eq!(status.level(), level, "{hours} {:?}", status.findings);
        }
        assert_eq!(judged(Vec::new(), 0).level(), Level::Critical);
    }

    #[test]
    fn the_last_of_a_job_counts_and_says_what_was_wrong() {
        let mut old = snapshot(1, 1, HOUR);
        old.snapshot.suspect = Some("old".to_owned());
        let status = judged(vec![old.clone(), snapshot(1, 2, 2 * HOUR)], 3 * HOUR);
        assert_eq!((status.level(), status.jobs[0].snapshots), (Level::Ok, 2));
        (old.sequence, old.position) = (3, 3);
        old.snapshot.problem_count = 4;
        let status = judged(vec![old, snapshot(1, 2, 2 * HOUR)], 3 * HOUR);
        assert_eq!((status.level(), status.findings.len()), (Level::Warning, 2));
    }

    #[test]
    fn keys_are_counted_and_a_single_one_is_a_risk() {
        let only = slot(SlotKind::KeyFile { salt: [0; 32] }, Role::Full);
        let writer = slot(SlotKind::KeyFile { salt: [0; 32] }, Role::Writer);
        let listed = Listed { snapshots: vec![snapshot(1, 1, 0)], ..Listed::default() };
        let judge = |slots: Vec<Option<&SlotHeader>>| {
            judge(&listed, &|_| true, slots.into_iter(), &[], &[], (0, LIMITS))
        };
        let status = judge(vec![Some(&only), Some(&writer)]);
        assert_eq!(status.keys, KeyStatus { full: 1, writer: 1, recovery: 0, unusable: 0 });
        assert_eq!(status.level(), Level::Warning);
        assert_eq!(judge(vec![Some(&only), Some(&only), None]).level(), Level::Critical);
    }

    #[test]
    fn the_last_check_is_told_and_its_damage_is_a_warning() {
        let result = |verb: &str, ok| PastResult { verb: verb.to_owned(), ok, text: "x".to_owned(), at: 0 };
        let slots = [
            slot(SlotKind::KeyFile { salt: [0; 32] }, Role::Full),
            slot(SlotKind::Recovery { salt: [0; 32] }, Role::Full),
        ];
        let listed = Listed { snapshots: vec![snapshot(1, 1, 0)], ..Listed::default() };
        let judge = |results: &[PastResult]| {
            judge(&listed, &|_| true, slots.iter().map(Some), &[], results, (0, LIMITS))
        };
        assert_eq!(judge(&[]).last_check, None);
        assert_eq!(judge(&[result("check", true), result("check", false)]).level(), Level::Warning);
        let status = judge(&[result("check", false), result("check", true), result("mirror", false)]);
        assert_eq!((status.level(), status.last_check), (Level::Ok, Some(result("check", true))));
    }
}
