//! Snapshots for tests.

use crate::base::clock::UnixNanos;
use crate::base::id::{DomainId, HostId, ObjectHash};
use crate::format::snapshot::{ScanKind, Snapshot};
use crate::repo::snapshots::SnapshotInfo;

/// The day on which a clock stands that went wrong upwards, counted as in [`at_day`].
pub(super) const YEAR_2099: f64 = 26_800.0;

/// Noon of a day; day 0 is 2026-01-01.
pub(super) fn at_day(day: f64) -> UnixNanos {
    (1_767_268_800.0 + day * 86_400.0) as UnixNanos * 1_000_000_000
}

/// A good snapshot of host mx1 and job mail.
pub(super) fn snapshot(sequence: u64) -> SnapshotInfo {
    let snapshot = Snapshot {
        host_name: "mx1".to_owned(),
        job: "mail".to_owned(),
        previous: None,
        previous_sequence: 0,
        started: 0,
        ended: 0,
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
    let mut hash = ObjectHash([0; 32]);
    hash.0[..8].copy_from_slice(&sequence.to_be_bytes());
    SnapshotInfo {
        hash,
        host: HostId([1; 16]),
        domain: DomainId::default(),
        sequence,
        position: sequence,
        received: 0,
        snapshot,
    }
}
