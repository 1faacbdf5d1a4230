//! Snapshots for tests.

use crate::base::clock::UnixNanos;
use crate::base::id::ObjectHash;
use crate::format::snapshot::Snapshot;
use crate::repo::snapshots::SnapshotInfo;

/// The day on which a clock stands that went wrong upwards, counted as in [`at_day`].
pub(super) const YEAR_2099: f64 = 26_800.0;

/// Noon of a day; day 0 is 2026-01-01.
pub(super) fn at_day(day: f64) -> UnixNanos {
    (1_767_268_800.0 + day * 86_400.0) as UnixNanos * 1_000_000_000
}

/// A good snapshot of host mx1 and job mail.
pub(super) fn snapshot(sequence: u64) -> SnapshotInfo {
    let mut hash = ObjectHash([0; 32]);
    hash.0[..8].copy_from_slice(&sequence.to_be_bytes());
    SnapshotInfo { hash, ..SnapshotInfo::numbered(sequence, Snapshot::of_nothing()) }
}
