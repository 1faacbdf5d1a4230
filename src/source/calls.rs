//! What a walk asked of the system: what an unchanged mailbox costs is a number, not a feeling.

use std::sync::atomic::{AtomicU64, Ordering};

/// Calls by kind, over all threads.
#[derive(Debug, Default)]
pub struct Calls {
    /// Folders whose names were read.
    pub folders_listed: AtomicU64,
    /// Entries that were looked at.
    pub entries_looked_at: AtomicU64,
    /// Files that were opened.
    pub files_opened: AtomicU64,
}

impl Calls {
    pub(super) fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Folders listed, entries looked at, files opened.
    pub fn totals(&self) -> [u64; 3] {
        [&self.folders_listed, &self.entries_looked_at, &self.files_opened]
            .map(|counter| counter.load(Ordering::Relaxed))
    }
}
