//! Why a file was read, or was not: counted in every run, and said of one path by `explain`.

use std::sync::atomic::{AtomicU64, Ordering};

/// How an unchanged file was recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Same {
    /// With its folder, which nobody touched: neither listed nor looked at.
    Folder,
    /// By number, birth time, size and modification time: the same message under whatever name.
    Trace,
    /// The same, in another folder than before.
    Moved,
    /// By name, size and times.
    Times,
}

/// Why a file is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// There was none like it.
    New,
    /// Another file stands under its name.
    Replaced,
    /// It has another size.
    Resized,
    /// It has another modification time.
    Modified,
    /// It was touched under its name: mode, owner, attributes, links, or an edit that hides.
    Touched,
    /// It was so fresh in the last run that a change within one tick of the clock would not have shown.
    Fresh,
    /// One of those that are read again now and then, to find edits that hide.
    Sampled,
    /// Everything is read, as it was asked for.
    Asked,
    /// Something in it may have been purged since.
    Purged,
    /// The repository lacks what the last snapshot refers to.
    Lost,
}

impl Same {
    /// All of them, in the order of the counters.
    pub const ALL: [Same; 4] = [Same::Folder, Same::Trace, Same::Moved, Same::Times];

    /// A word for counters.
    pub fn word(self) -> &'static str {
        match self {
            Same::Folder => "folder",
            Same::Trace => "trace",
            Same::Moved => "moved",
            Same::Times => "times",
        }
    }

    /// A sentence for people.
    pub fn sentence(self) -> &'static str {
        match self {
            Same::Folder => "its folder was not touched",
            Same::Trace => "it is the same file: number, birth time, size and modification time agree",
            Same::Moved => "it is a file that stood in another folder before",
            Same::Times => "name, size and times agree with the last snapshot",
        }
    }
}

impl Why {
    /// All of them, in the order of the counters.
    pub const ALL: [Why; 10] = [
        Why::New,
        Why::Replaced,
        Why::Resized,
        Why::Modified,
        Why::Touched,
        Why::Fresh,
        Why::Sampled,
        Why::Asked,
        Why::Purged,
        Why::Lost,
    ];

    /// A word for counters.
    pub fn word(self) -> &'static str {
        match self {
            Why::New => "new",
            Why::Replaced => "replaced",
            Why::Resized => "resized",
            Why::Modified => "modified",
            Why::Touched => "touched",
            Why::Fresh => "fresh",
            Why::Sampled => "sampled",
            Why::Asked => "asked",
            Why::Purged => "purged",
            Why::Lost => "lost",
        }
    }

    /// A sentence for people.
    pub fn sentence(self) -> &'static str {
        match self {
            Why::New => "the last snapshot has no such file",
            Why::Replaced => "another file stands under its name now",
            Why::Resized => "it has another size",
            Why::Modified => "it has another modification time",
            Why::Touched => "its change time moved under the same name",
            Why::Fresh => "it was too fresh in the last run to be sure of it",
            Why::Sampled => "it is one of those that are read again now and then",
            Why::Asked => "everything is read",
            Why::Purged => "something in it may have been purged since",
            Why::Lost => "the repository lacks what the last snapshot has of it",
        }
    }
}

/// Counts by reason, over all threads.
#[derive(Debug, Default)]
pub struct Reasons {
    same: [AtomicU64; Same::ALL.len()],
    read: [AtomicU64; Why::ALL.len()],
}

impl Reasons {
    /// Counts unchanged files.
    pub fn same(&self, how: Same, files: u64) {
        self.same[how as usize].fetch_add(files, Ordering::Relaxed);
    }

    /// Counts a file that is read.
    pub fn read(&self, why: Why) {
        self.read[why as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How unchanged files were recognised.
    pub fn recognised(&self) -> Vec<(Same, u64)> {
        let count = |how: Same| (how, self.same[how as usize].load(Ordering::Relaxed));
        Same::ALL.into_iter().map(count).collect()
    }

    /// Why files were read.
    pub fn reasons(&self) -> Vec<(Why, u64)> {
        let count = |why: Why| (why, self.read[why as usize].load(Ordering::Relaxed));
        Why::ALL.into_iter().map(count).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_counter_of_its_own() {
        let reasons = Reasons::default();
        for (n, how) in Same::ALL.into_iter().enumerate() {
            assert_eq!(how as usize, n);
            reasons.same(how, n as u64);
        }
        for (n, why) in Why::ALL.into_iter().enumerate() {
            assert_eq!(why as usize, n);
            reasons.read(why);
        }
        assert_eq!(reasons.recognised()[2], (Same::Moved, 2));
        assert!(reasons.reasons().iter().all(|(_, count)| *count == 1));
    }
}
