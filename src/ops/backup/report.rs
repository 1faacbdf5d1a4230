//! What a backup tells at its end.

use std::time::Duration;

use super::reason::{Same, Why};
use crate::base::id::ObjectHash;
use crate::chunk::SplitStats;
use crate::format::snapshot::Totals;
use crate::source::needless::NeedlessCounts;

/// A non-fatal finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Where.
    pub path: Vec<u8>,
    /// What.
    pub text: String,
}

/// What a backup did.
#[derive(Debug, Default)]
pub struct Report {
    /// The snapshot; `None` after a dry run, and where nothing changed and that was asked for.
    pub snapshot: Option<ObjectHash>,
    /// No snapshot was made because the parent says the same.
    pub unchanged: bool,
    /// Its parent.
    pub parent: Option<ObjectHash>,
    /// Everything it holds.
    pub totals: Totals,
    /// What the parent held.
    pub parent_totals: Option<Totals>,
    /// Files that were read.
    pub files_read: u64,
    /// Bytes of them.
    pub bytes_read: u64,
    /// Files taken from the parent.
    pub files_unchanged: u64,
    /// How they were recognised.
    pub recognised: Vec<(Same, u64)>,
    /// Why the others were read.
    pub read_because: Vec<(Why, u64)>,
    /// What was asked of the system: folders listed, entries looked at, files opened.
    pub calls: [u64; 3],
    /// Folders of messages that nobody had touched: neither they nor their messages were looked at.
    pub folders_passed_over: u64,
    /// Files, and messages in files, left out because they were purged.
    pub purged: u64,
    /// Files that were longer or shorter at their end than when they were listed.
    pub changed_while_read: u64,
    /// Messages that moved during the run and were put where they stood at its end.
    pub moved_meanwhile: u64,
    /// Files that vanished between listing and reading.
    pub vanished: u64,
    /// Entries left out by a pattern.
    pub left_out: u64,
    /// Entries of mail folders left out because their mail server makes them again.
    pub needless: NeedlessCounts,
    /// Index files of Maildir folders taken from the parent although they changed.
    pub held: u64,
    /// Mailboxes read without their lock, which was not to be had in time.
    pub unlocked: u64,
    /// Plaintext bytes that were new to the repository.
    pub new_bytes: u64,
    /// Bytes added to packs.
    pub stored_bytes: u64,
    /// What the splitter met.
    pub split: SplitStats,
    /// The first problems.
    pub findings: Vec<Finding>,
    /// All problems.
    pub problem_count: u64,
    /// Looks too small to be true: why.
    pub suspect: Option<String>,
    /// How long it took.
    pub duration: Duration,
}
