//! How long work tells a person where it is.

use std::sync::atomic::{AtomicU64, Ordering};

/// Where a run is; the counters only grow.
#[derive(Debug, Default)]
pub struct Counters {
    /// Files (or packs, or objects) finished.
    pub items: AtomicU64,
    /// Bytes finished.
    pub bytes: AtomicU64,
    /// Items expected in all; 0 while unknown.
    pub items_total: AtomicU64,
    /// Bytes expected in all; 0 while unknown.
    pub bytes_total: AtomicU64,
}

impl Counters {
    /// Adds finished work.
    pub fn add(&self, items: u64, bytes: u64) {
        self.items.fetch_add(items, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Raises the expected totals.
    pub fn expect(&self, items: u64, bytes: u64) {
        self.items_total.fetch_add(items, Ordering::Relaxed);
        self.bytes_total.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// Receives what happens during a run; called from many threads.
pub trait Progress: Sync {
    /// The counters that the work advances and the display reads.
    fn counters(&self) -> &Counters;
    /// A non-fatal finding, as one line.
    fn problem(&self, line: &str);
}

/// A progress that only counts.
#[derive(Debug, Default)]
pub struct Quiet(Counters);

impl Progress for Quiet {
    fn counters(&self) -> &Counters {
        &self.0
    }

    fn problem(&self, _line: &str) {}
}
