//! Messages that were there and are there no longer, by what changed from snapshot to snapshot.
