//! The chain: numbers of a host without a gap, each predecessor there, or a signed record that says where it went.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::finding::{Finding, Kind, Subject};
use crate::base::id::{HostId, ObjectHash};
use crate::format::record::SnapshotName;
use crate::repo::ledger::Ledger;
use crate::repo::snapshots::Listed;
use crate::store::Place;

/// Looks for what was removed from `snapshots/`, of the hosts whose snapshots our key `opens`.
///
/// Records name those of all hosts; of what stands in the place of the others nothing is known here. A mirror `lags`
/// behind its records: what they name beyond its newest snapshot says nothing of those before.
pub(super) fn judge(
    listed: &Listed,
    ledger: &Ledger,
    opens: &dyn Fn(&HostId) -> bool,
    lags: bool,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut find = |object: String, text: String| {
        findings.push(Finding::new(Kind::Gap, Subject::History, object, text));
    };
    let is_to_come = |host: &HostId, sequence: u64| lags && sequence > newest(listed, host);
    for (host, mut taken) in numbers(listed, ledger, opens) {
        taken.retain(|number| !is_to_come(&host, *number));
        let name = listed.snapshots.iter().find(|info| info.host == host);
        let name = name.map(|info| format!(" (host {})", info.snapshot.host_name)).unwrap_or_default();
        for text in gaps(taken) {
            find(format!("snapshots/{host}"), format!("{text}{name}"));
        }
    }
    let there: HashMap<&ObjectHash, (HostId, u64)> =
        listed.snapshots.iter().map(|info| (&info.hash, (info.host, info.sequence))).collect();
    // What cannot be used, or is named as dropped, is told elsewhere or lawful.
    let places = listed.unusable.iter().map(|(place, _)| place).chain(&listed.dropped).chain(&listed.revoked);
    let known: HashSet<&ObjectHash> =
        places.filter_map(Place::hash).chain(ledger.explains().map(|name| &name.hash)).collect();
    for info in &listed.snapshots {
        let Some(previous) = &info.snapshot.previous else { continue };
        let is_there = there
            .get(previous)
            .is_some_and(|(host, sequence)| *host == info.host && *sequence < info.sequence);
        if !is_there && !known.contains(previous) {
            let text = format!("its predecessor {} is not there", previous.short());
            find(format!("snapshot {}", info.hash.short()), text);
        }
    }
    let unfinished = unfinished(listed, ledger, &there).into_iter();
    let judged = unfinished.filter(|(old, new)| opens(&old.host) && !is_to_come(&new.host, new.sequence));
    findings.extend(judged.map(|(old, _)| {
        let text = "it was written anew, and neither it nor the new one is there";
        Finding::new(Kind::Gap, Subject::History, format!("snapshot {}", old.hash.short()), text)
    }));
    findings
}

/// The highest number of a host's snapshots; 0 when there is none.
fn newest(listed: &Listed, host: &HostId) -> u64 {
    let of_host = listed.snapshots.iter().filter(|info| info.host == *host);
    of_host.map(|info| info.sequence).max().unwrap_or(0)
}

/// The numbers that are taken, or were lawfully, for each host that has written something.
///
/// A number that only the name of an unusable object claims fills a gap below what is proven, and opens none.
fn numbers(
    listed: &Listed,
    ledger: &Ledger,
    opens: &dyn Fn(&HostId) -> bool,
) -> BTreeMap<HostId, BTreeSet<u64>> {
    let of_place = |place: &Place| match place {
        Place::Snapshot(host, sequence, _) => Some((*host, *sequence)),
        _ => None,
    };
    let checkpoints = listed.checkpoints.iter().filter_map(|(place, _)| of_place(place));
    let proven = listed
        .snapshots
        .iter()
        .map(|info| (info.host, info.sequence))
        .chain(checkpoints)
        .chain(ledger.explains().filter(|name| opens(&name.host)).map(|name| (name.host, name.sequence)));
    let mut taken: BTreeMap<HostId, BTreeSet<u64>> = BTreeMap::new();
    for (host, sequence) in proven {
        taken.entry(host).or_default().insert(sequence);
    }
    for (host, sequence) in listed.unusable.iter().filter_map(|(place, _)| of_place(place)) {
        if let Some(proven) = taken.get_mut(&host)
            && proven.last().is_some_and(|last| sequence < *last)
        {
            proven.insert(sequence);
        }
    }
    taken
}

/// Says for each gap below the highest of some numbers which are missing; they begin at 1.
pub(super) fn gaps(taken: impl IntoIterator<Item = u64>) -> Vec<String> {
    let mut expected = 1;
    let mut texts = Vec::new();
    for number in taken {
        match number.saturating_sub(expected) {
            0 => {}
            1 => texts.push(format!("number {expected} was removed")),
            _ => texts.push(format!("numbers {expected} to {} were removed", number - 1)),
        }
        expected = number.saturating_add(1);
    }
    texts
}

/// A snapshot that was written anew must be there, or the one that it replaced; gives the old and the new name where
/// neither is.
fn unfinished(
    listed: &Listed,
    ledger: &Ledger,
    there: &HashMap<&ObjectHash, (HostId, u64)>,
) -> Vec<(SnapshotName, SnapshotName)> {
    let kept: HashSet<&ObjectHash> = listed
        .dropped
        .iter()
        .chain(listed.unusable.iter().map(|(place, _)| place))
        .filter_map(Place::hash)
        .collect();
    let is_known = |hash: &ObjectHash| {
        there.contains_key(hash) || kept.contains(hash) || ledger.forgotten.contains_key(hash)
    };
    let lost = ledger.replaced.values().filter_map(|step| {
        let new = step.new?;
        let is_lost =
            !is_known(&new.hash) && !ledger.replaced.contains_key(&new.hash) && !is_known(&step.old.hash);
        is_lost.then_some((step.old, new))
    });
    let mut lost: Vec<(SnapshotName, SnapshotName)> = lost.collect();
    lost.sort_by_key(|(old, _)| old.hash);
    lost
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::format::record::Replacement;
    use crate::format::snapshot::Snapshot;
    use crate::repo::RepoError;
    use crate::repo::snapshots::SnapshotInfo;

    const HOST: HostId = HostId([1; 16]);

    fn hash(number: u64) -> ObjectHash {
        ObjectHash([number as u8; 32])
    }

    fn name(sequence: u64) -> SnapshotName {
        SnapshotName { host: HOST, sequence, hash: hash(sequence) }
    }

    fn info(sequence: u64, previous: Option<u64>) -> SnapshotInfo {
        let (previous, previous_sequence) = (previous.map(hash), previous.unwrap_or(0));
        let snapshot = Snapshot { previous, previous_sequence, ..Snapshot::of_nothing() };
        SnapshotInfo { host: HOST, hash: hash(sequence), ..SnapshotInfo::numbered(sequence, snapshot) }
    }

    /// Snapshots 1 to 5, each after the one before, without those in `missing`.
    fn chain(missing: &[u64]) -> Listed {
        let all = (1..=5).map(|number| info(number, number.checked_sub(1).filter(|before| *before > 0)));
        let snapshots = all.filter(|info| !missing.contains(&info.sequence)).collect();
        Listed { snapshots, ..Listed::default() }
    }

    #[test]
    fn a_mirror_may_lag_behind_its_records() {
        let mut ledger = Ledger::default();
        ledger.forgotten.insert(hash(5), name(5));
        let listed = chain(&[3, 4, 5]);
        assert_eq!(judge(&listed, &ledger, &|_| true, false).len(), 1, "3 and 4 were there before 5");
        assert!(judge(&listed, &ledger, &|_| true, true).is_empty(), "they are still to come");
        assert_eq!(judge(&chain(&[2, 5]), &ledger, &|_| true, true).len(), 2, "2 is not");
    }

    #[test]
    fn a_mirror_may_have_the_record_of_a_snapshot_written_anew_before_the_snapshot() {
        let mut ledger = Ledger::default();
        let step = Replacement { old: name(3), new: Some(name(5)), received: 0 };
        ledger.replaced.insert(hash(3), step);
        assert!(judge(&chain(&[3, 4, 5]), &ledger, &|_| true, true).is_empty(), "both are still to come");
        assert_eq!(judge(&chain(&[3, 4, 5]), &ledger, &|_| true, false).len(), 1, "one is lost");
        // What came after the new one is there: it was lost.
        let mut listed = chain(&[3, 5]);
        listed.snapshots.push(info(6, Some(4)));
        let found = judge(&listed, &ledger, &|_| true, true);
        assert!(found.iter().any(|found| found.text.contains("neither")), "{found:?}");
    }

    fn texts(listed: &Listed, ledger: &Ledger) -> Vec<(Kind, String)> {
        judge(listed, ledger, &|host| *host == HOST, false)
            .into_iter()
            .map(|found| (found.kind, found.text))
            .collect()
    }

    #[test]
    fn a_whole_chain_says_nothing_and_a_gap_names_its_numbers() {
        assert_eq!(gaps([1, 2, 3]), Vec::<String>::new());
        assert_eq!(gaps([3, 4, 7]), ["numbers 1 to 2 were removed", "numbers 5 to 6 were removed"]);
        assert_eq!(gaps([2]), ["number 1 was removed"]);
        assert!(texts(&chain(&[]), &Ledger::default()).is_empty());
        let found = texts(&chain(&[2, 3]), &Ledger::default());
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!(found[0], (Kind::Gap, "numbers 2 to 3 were removed (host mx1)".to_owned()));
        assert!(found[1].1.starts_with("its predecessor 03030303"), "{found:?}");
    }

    #[test]
    fn what_a_signed_record_names_is_no_gap() {
        let mut ledger = Ledger::default();
        ledger.forgotten.insert(hash(1), name(1));
        let step = Replacement { old: name(3), new: Some(name(5)), received: 0 };
        ledger.replaced.insert(hash(3), step.clone());
        assert!(texts(&chain(&[1, 3]), &ledger).is_empty());
        assert_eq!(texts(&chain(&[1, 2, 3]), &ledger).len(), 1, "nothing explains number 2");
        // The new one is gone as well: that no record explains.
        let gone = texts(&chain(&[1, 3, 5]), &ledger);
        assert!(gone.len() == 1 && gone[0].1.contains("neither"), "{gone:?}");
        ledger.forgotten.insert(hash(5), name(5));
        assert!(texts(&chain(&[1, 3, 5]), &ledger).is_empty());
    }

    #[test]
    fn nothing_is_said_of_hosts_whose_snapshots_our_key_does_not_open() {
        let of_another = |sequence| SnapshotName { host: HostId([2; 16]), ..name(sequence) };
        let mut ledger = Ledger::default();
        ledger.forgotten.insert(hash(7), of_another(7));
        let step = Replacement { old: of_another(8), new: Some(of_another(9)), received: 0 };
        ledger.replaced.insert(hash(8), step);
        let found = texts(&chain(&[]), &ledger);
        assert!(found.is_empty(), "{found:?}");
    }

    #[test]
    fn a_name_alone_opens_no_gap_and_work_does_not_follow_its_number() {
        let mut listed = chain(&[2]);
        for sequence in [2, 900_000_000] {
            let place = Place::Snapshot(HOST, sequence, hash(sequence));
            listed.unusable.push((place, RepoError::Unfaithful));
        }
        let found = texts(&listed, &Ledger::default());
        assert!(found.is_empty(), "told as unusable, not twice: {found:?}");
    }
}
