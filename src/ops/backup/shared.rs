//! What all threads of a backup share: keys, counters, and what goes wrong.

use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use super::reason::Reasons;
use super::report::Finding;
use super::scan::Care;
use crate::base::bytes;
use crate::base::interrupt::Interrupt;
use crate::base::progress::Progress;
use crate::repo::blob_writer::BlobWriter;
use crate::repo::presence::Presence;
use crate::repo::tombstones::Tombstones;
use crate::source::names::Accounts;
use crate::source::problem::{Problem, What};

/// Findings that are kept; all are counted.
const FINDINGS_MAX: usize = 1_000;

/// What all threads of a backup share.
pub struct Shared<'a> {
    /// Where blobs go.
    pub blobs: &'a BlobWriter<'a>,
    /// What the repository holds.
    pub presence: &'a Presence<'a>,
    /// What was purged.
    pub tombstones: Option<Tombstones>,
    /// Domain and key material for names and cuts.
    pub keys: SplitKeys,
    /// How thoroughly to look.
    pub care: Care,
    /// Names of users and groups.
    pub accounts: Accounts,
    /// Where people look.
    pub progress: &'a dyn Progress,
    /// Raised to stop.
    pub interrupt: &'a Interrupt,
    /// How long a mailbox's lock is waited for.
    pub lock_wait: Duration,
    /// What went wrong with the source.
    pub findings: Mutex<Findings>,
    /// Counts over all threads.
    pub counts: Counts,
}

/// Keys that decide where cuts fall.
pub struct SplitKeys {
    /// Secret of the content-defined cuts.
    pub cut_secret: [u8; 32],
    /// Names link groups.
    pub link_key: [u8; 32],
}

/// Counts over all threads.
#[derive(Debug, Default)]
pub struct Counts {
    /// Files that were read.
    pub files_read: AtomicU64,
    /// Bytes of them.
    pub bytes_read: AtomicU64,
    /// Folders of messages that nobody had touched.
    pub folders_passed_over: AtomicU64,
    /// Why files were read, or were not.
    pub reasons: Reasons,
    /// Index files taken from the parent although they changed.
    pub held: AtomicU64,
    /// Mailboxes that were read without their lock, because it was not to be had in time.
    pub unlocked: AtomicU64,
    /// Files, and messages in files, left out because they were purged.
    pub purged: AtomicU64,
    /// Files that had another size at their end than when they were listed.
    pub changed_while_read: AtomicU64,
}

/// What went wrong with the source.
#[derive(Debug, Default)]
pub struct Findings {
    /// The first of them.
    pub list: Vec<Finding>,
    /// All of them.
    pub count: u64,
    /// Names that vanished.
    pub vanished: u64,
}

impl Shared<'_> {
    /// Notes a finding about the source.
    pub fn report(&self, problem: Problem) {
        let mut findings = self.findings.lock().expect("no holder panics");
        if problem.what == What::Vanished {
            findings.vanished += 1;
            return;
        }
        findings.count += 1;
        self.progress.problem(&format!("{}: {}", bytes::display(&problem.path), problem.error));
        if findings.list.len() < FINDINGS_MAX {
            findings.list.push(Finding { path: problem.path, text: problem.error });
        }
    }
}
