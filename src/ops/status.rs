//! Status: is all well? Judged from snapshots, key slots and what this client remembers; nothing large is read.

use crate::base::bytes;
use crate::base::clock::UnixNanos;
use crate::format::keyset::Role;
use crate::format::slot::{SlotHeader, SlotKind};
use crate::format::snapshot::Snapshot;
use crate::repo::ledger::{Ledger, PastResult};
use crate::repo::records::{self, HostInfo};
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
    /// Its host was revoked, and none of that name took its place: nothing is to be expected of it.
    pub revoked: bool,
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
    /// The last mirroring that a record tells of.
    pub mirror: Option<PastResult>,
    /// What is not as it should be, the worst first.
    pub findings: Vec<(Level, String)>,
}

/// Age from which on the last good mirroring is too old: a week, and a day for the one that was late.
const MIRROR_AGE_S: i64 = 8 * 86_400;

/// What is wrong when no full key would outlive the machine that holds the key file.
///
/// `full` are the slots of full keys.
pub fn key_risk<'a>(full: impl Iterator<Item = &'a SlotHeader>) -> Option<String> {
    let full: Vec<&SlotHeader> = full.collect();
    let is_file = |slot: &&SlotHeader| matches!(slot.kind, SlotKind::KeyFile { .. });
    if !full.is_empty() && full.iter().all(is_file) {
        let text = "the mail can be read with a key file only, and a key file that lies on the server that is \
                    backed up is lost together with it: make a recovery code (mailark key add --recovery) and \
                    keep it on paper, away from the server";
        return Some(text.to_owned());
    }
    let text = "only one full key: if it is lost, nobody can read the backups (mailark key add --recovery)";
    (full.len() <= 1).then(|| text.to_owned())
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
        hosts: &[HostInfo],
        (now, limits): (UnixNanos, Limits),
    ) {
        let wanted: Vec<SnapshotInfo> =
            listed.snapshots.iter().filter(|info| wanted(info)).cloned().collect();
        for last in snapshots::newest_of_each_job(&wanted) {
            let snapshot = &last.snapshot;
            let of_job = wanted.iter().filter(|info| {
                info.snapshot.host_name == snapshot.host_name && info.snapshot.job == snapshot.job
            });
            let revoked = records::is_revoked_name(hosts, &snapshot.host_name);
            // A host that was given up is silent, however old its last backup is and whatever was wrong with that.
            let level = if revoked { Level::Ok } else { self.judge_last(snapshot, (now, limits)) };
            let snapshots = of_job.count() as u64;
            self.jobs.push(JobStatus { last: last.clone(), snapshots, level, revoked });
        }
        if self.jobs.is_empty() {
            self.find(Level::Critical, "there is no snapshot".to_owned());
        }
    }

    /// Judges the last snapshot of a job.
    fn judge_last(&mut self, snapshot: &Snapshot, (now, limits): (UnixNanos, Limits)) -> Level {
        let name = bytes::display(format!("{} {}", snapshot.host_name, snapshot.job).as_bytes());
        let age_s = ((now - UnixNanos::from(snapshot.ended)) / 1_000_000_000) as i64;
        let mut level = Level::Ok;
        if age_s >= limits.warning_s {
            let bad = if age_s >= limits.critical_s { Level::Critical } else { Level::Warning };
            let text = format!("{name}: the last backup is {} hours old", age_s / 3_600);
            level = level.max(self.find(bad, text));
        } else if age_s < -600 {
            let text = format!("{name}: the last backup is from the future: a clock is wrong");
            level = level.max(self.find(Level::Warning, text));
        }
        if let Some(why) = &snapshot.suspect {
            let why = bytes::display(why.as_bytes());
            level =
                level.max(self.find(Level::Warning, format!("{name}: the last backup is suspect: {why}")));
        }
        if snapshot.problem_count > 0 {
            let text = format!("{name}: the last backup could not read {} files", snapshot.problem_count);
            level = level.max(self.find(Level::Warning, text));
        }
        level
    }

    /// Counts the key slots; `slots` says of each what it is, or that it cannot be trusted.
    fn judge_keys<'a>(&mut self, slots: impl Iterator<Item = Option<&'a SlotHeader>>) {
        let mut full = Vec::new();
        for slot in slots {
            match slot {
                None => self.keys.unusable += 1,
                Some(SlotHeader { role: Role::Writer, .. }) => self.keys.writer += 1,
                Some(slot) => {
                    self.keys.full += 1;
                    self.keys.recovery += u64::from(matches!(slot.kind, SlotKind::Recovery { .. }));
                    full.push(slot);
                }
            }
        }
        if let Some(text) = key_risk(full.into_iter()) {
            self.find(Level::Warning, text);
        }
        if self.keys.unusable > 0 {
            let text =
                format!("{} key slots are damaged or not signed by this repository", self.keys.unusable);
            self.find(Level::Critical, text);
        }
    }

    /// Where a mirror was ever made, it must not be forgotten.
    fn judge_mirror(&mut self, results: &[PastResult], now: UnixNanos) {
        let of_mirrors = || results.iter().filter(|result| result.verb == "mirror");
        self.mirror = of_mirrors().next_back().cloned();
        let age_s = |result: &PastResult| now.div_euclid(1_000_000_000) as i64 - result.at;
        let text = match (&self.mirror, of_mirrors().rfind(|result| result.ok)) {
            (None, _) => return,
            (Some(_), Some(good)) if age_s(good) < MIRROR_AGE_S => return,
            (Some(_), Some(good)) => format!("the last good mirror is {} days old", age_s(good) / 86_400),
            (Some(_), None) => "no mirror is whole yet".to_owned(),
        };
        self.find(Level::Warning, text);
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
/// `lost` are the texts about snapshots that this client saw before and that are gone; `ledger` says which hosts were
/// revoked, and what came of earlier runs.
pub fn judge<'a>(
    listed: &Listed,
    wanted: &dyn Fn(&SnapshotInfo) -> bool,
    slots: impl Iterator<Item = Option<&'a SlotHeader>>,
    lost: &[String],
    ledger: &Ledger,
    (now, limits): (UnixNanos, Limits),
) -> Status {
    let mut status = Status::default();
    for text in lost {
        status.find(Level::Critical, text.clone());
    }
    for (_, error) in &listed.unusable {
        status.find(Level::Critical, error.to_string());
    }
    status.judge_jobs(listed, wanted, &ledger.hosts, (now, limits));
    status.judge_keys(slots);
    status.judge_check(&ledger.results);
    status.judge_mirror(&ledger.results, now);
    status.findings.sort_by_key(|(level, _)| std::cmp::Reverse(*level));
    status
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::{HostId, SlotId};
    use crate::format::envelope::SUITE;
    use crate::format::slot::ShortText;

    const HOUR: i64 = 3_600_000_000_000;
    const LIMITS: Limits = Limits { warning_s: 26 * 3_600, critical_s: 50 * 3_600 };

    fn snapshot(host: u8, sequence: u64, ended: i64) -> SnapshotInfo {
        let snapshot = Snapshot { started: ended - 1, ended, ..Snapshot::of_nothing() };
        let info = SnapshotInfo::numbered(sequence, snapshot);
        SnapshotInfo { host: HostId([host; 16]), received: ended.into(), ..info }
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
        judge(&listed, &|_| true, slots.iter().map(Some), &[], &Ledger::default(), (now.into(), LIMITS))
    }

    #[test]
    fn nothing_is_expected_of_a_host_that_was_revoked() {
        let mut last = snapshot(1, 1, HOUR);
        (last.snapshot.suspect, last.snapshot.problem_count) = (Some("small".to_owned()), 3);
        let listed = Listed { snapshots: vec![last.clone()], ..Listed::default() };
        let host = |host: u8, revoked| HostInfo {
            host: HostId([host; 16]),
            name: last.snapshot.host_name.clone(),
            domain: Default::default(),
            verifying_key: [0; 32],
            revoked,
        };
        let judged = |hosts: Vec<HostInfo>| {
            let mut status = Status::default();
            status.judge_jobs(&listed, &|_| true, &hosts, ((900 * HOUR).into(), LIMITS));
            (status.findings.len(), status.jobs[0].revoked)
        };
        assert_eq!(judged(vec![host(1, None)]), (3, false));
        assert_eq!(judged(vec![host(1, Some(1))]), (0, true));
        assert_eq!(
            judged(vec![host(1, Some(1)), host(2, None)]),
            (3, false),
            "it got a new key, and is silent"
        );
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
            judge(&listed, &|_| true, slots.into_iter(), &[], &Ledger::default(), (0, LIMITS))
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
            let mut ledger = Ledger::default();
            ledger.results.extend_from_slice(results);
            judge(&listed, &|_| true, slots.iter().map(Some), &[], &ledger, (0, LIMITS))
        };
        assert_eq!(judge(&[]).last_check, None);
        assert_eq!(judge(&[result("check", true), result("check", false)]).level(), Level::Warning);
        let status = judge(&[result("check", false), result("check", true), result("drill", false)]);
        assert_eq!((status.level(), status.last_check), (Level::Ok, Some(result("check", true))));
    }

    #[test]
    fn key_files_alone_are_a_risk() {
        let file = slot(SlotKind::KeyFile { salt: [0; 32] }, Role::Full);
        let password =
            slot(SlotKind::Password { memory_kib: 1, passes: 1, lanes: 1, salt: [0; 32] }, Role::Full);
        let risk = |slots: &[&SlotHeader]| key_risk(slots.iter().copied());
        assert!(risk(&[&file]).unwrap().contains("key file only"));
        assert!(risk(&[&file, &file]).unwrap().contains("on paper"));
        assert!(risk(&[&password]).unwrap().contains("only one full key"));
        assert_eq!(risk(&[&file, &password]), None);
    }

    #[test]
    fn a_mirror_that_was_forgotten_shows() {
        let result =
            |verb: &str, ok: bool, at: i64| PastResult { verb: verb.to_owned(), ok, text: String::new(), at };
        let judged = |results: &[PastResult]| {
            let mut status = Status::default();
            status.judge_mirror(results, UnixNanos::from(20 * 86_400) * 1_000_000_000);
            status.level()
        };
        let day = 86_400;
        assert_eq!(judged(&[result("check", true, 0)]), Level::Ok, "none was ever made");
        assert_eq!(judged(&[result("mirror", true, 13 * day)]), Level::Ok);
        assert_eq!(judged(&[result("mirror", true, 12 * day)]), Level::Warning);
        assert_eq!(judged(&[result("mirror", true, 13 * day), result("mirror", false, 19 * day)]), Level::Ok);
        assert_eq!(judged(&[result("mirror", false, 19 * day)]), Level::Warning);
    }
}
