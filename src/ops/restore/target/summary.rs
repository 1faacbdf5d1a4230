//! What a restore left out, counted once instead of told for every file.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Examples that are kept for people.
const NOTES_MAX: usize = 20;

/// What a restore left out or let stand.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// Entries that were there and stayed.
    pub kept: u64,
    /// Entries whose owner or group the system did not let us set.
    pub owners_refused: u64,
    /// Entries whose mode or time the target's file system did not take.
    pub attributes_refused: u64,
    /// Files restored without their setuid or setgid bit.
    pub modes_reduced: u64,
    /// Extended attributes left out because they belong to the system.
    pub xattrs_left_out: u64,
    /// Extended attributes that the target's file system did not take.
    pub xattrs_refused: u64,
    /// Sockets, which only a running program can make.
    pub sockets_left_out: u64,
    /// Devices left out because they belong to the system.
    pub devices_left_out: u64,
    /// Examples, as lines for people.
    pub notes: Vec<String>,
}

/// What is counted.
#[derive(Debug, Clone, Copy)]
pub(super) enum Count {
    Kept,
    OwnersRefused,
    AttributesRefused,
    ModesReduced,
    XattrsLeftOut,
    XattrsRefused,
    SocketsLeftOut,
    DevicesLeftOut,
}

/// The counters while threads work.
#[derive(Debug, Default)]
pub(super) struct Tally {
    counts: [AtomicU64; 8],
    notes: Mutex<Vec<String>>,
}

impl Tally {
    pub(super) fn add(&self, what: Count) {
        self.counts[what as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts, and keeps an example of the first times.
    pub(super) fn note(&self, what: Count, line: impl FnOnce() -> String) {
        if self.counts[what as usize].fetch_add(1, Ordering::Relaxed) < 3 {
            let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
            if notes.len() < NOTES_MAX {
                notes.push(line());
            }
        }
    }

    pub(super) fn summary(&self) -> Summary {
        let count = |what: Count| self.counts[what as usize].load(Ordering::Relaxed);
        Summary {
            kept: count(Count::Kept),
            owners_refused: count(Count::OwnersRefused),
            attributes_refused: count(Count::AttributesRefused),
            modes_reduced: count(Count::ModesReduced),
            xattrs_left_out: count(Count::XattrsLeftOut),
            xattrs_refused: count(Count::XattrsRefused),
            sockets_left_out: count(Count::SocketsLeftOut),
            devices_left_out: count(Count::DevicesLeftOut),
            notes: self.notes.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }
}
