//! A run in which nothing changed leaves nothing behind, where that was asked for.

use super::Report;
use super::recorder::Recording;
use crate::base::clock;
use crate::format::snapshot::Snapshot;
use crate::repo::snapshots::SnapshotInfo;

/// Would the snapshot `now` say only what its parent says already?
///
/// One that has to stand in another's place is always wanted. So is one that is no longer suspect, and one that is
/// now: only people know which of the two is right.
pub(super) fn says_nothing_new(parent: Option<&SnapshotInfo>, now: &Snapshot) -> bool {
    let same = |before: &Snapshot| {
        before.parts == now.parts
            && before.suspect.is_some() == now.suspect.is_some()
            && before.problem_count == now.problem_count
    };
    now.replaces.is_none() && parent.is_some_and(|parent| same(&parent.snapshot))
}

/// Lets the scan cache speak of the parent: what was seen is what that one holds.
pub(super) fn keep_sightings(report: Report, recording: Option<Recording>) -> Report {
    if let (true, Some(parent), Some(recording)) = (report.unchanged, report.parent, recording) {
        recording.commit(parent, clock::now() as i64);
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::ObjectHash;
    use crate::format::snapshot::{Part, PartType, Totals, Tree};

    fn snapshot(messages: u64) -> Snapshot {
        let tree = Tree { root: None, levels: 0, totals: Totals { messages, ..Totals::default() } };
        let part = Part { part_type: PartType::Mail, path: b"/m".to_vec(), tree, problems: 0 };
        Snapshot { started: 1, ended: 2, parts: vec![part], ..Snapshot::of_nothing() }
    }

    #[test]
    fn anything_new_is_worth_a_snapshot() {
        let parent = SnapshotInfo::numbered(1, snapshot(5));
        let skips = |now: &Snapshot| says_nothing_new(Some(&parent), now);
        let later = Snapshot { started: 9, ended: 10, vanished: 3, ..snapshot(5) };
        assert!(skips(&later));
        assert!(!skips(&snapshot(6)));
        assert!(!skips(&Snapshot { suspect: Some("small".to_owned()), ..snapshot(5) }));
        assert!(!skips(&Snapshot { replaces: Some(ObjectHash([2; 32])), ..snapshot(5) }));
        assert!(!skips(&Snapshot { problem_count: 1, ..snapshot(5) }));
        assert!(!says_nothing_new(None, &later));
    }
}
