//! Check: does the repository hold what its snapshots refer to, and is every byte still what it was?

mod packs;
mod structure;
mod trees;

use std::sync::RwLock;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use crate::base::clock;
use crate::base::interrupt::Interrupt;
use crate::base::progress::Progress;
use crate::index::Index;
use crate::repo::{RepoError, Repository, deltas};

/// Which packs are read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ReadData {
    /// None.
    No,
    /// All.
    All,
    /// A random share, percent.
    Percent(f64),
    /// Those whose hash falls into the `part`-th of `of` equal shares.
    Share {
        /// From 1 to `of`.
        part: u64,
        /// Number of shares.
        of: u64,
    },
}

/// How much to check.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Which packs are read.
    pub read_data: ReadData,
    /// Threads.
    pub workers: usize,
}

/// Something is wrong with an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The object, or the snapshot and path that suffer.
    pub object: String,
    /// What is wrong.
    pub text: String,
}

/// What a check saw.
#[derive(Debug, Default)]
pub struct Report {
    /// Snapshots whose trees were walked.
    pub snapshots: u64,
    /// Pages that were read.
    pub pages: u64,
    /// Blobs that were looked up.
    pub blobs: u64,
    /// Deltas that were verified.
    pub deltas: u64,
    /// Packs that deltas name.
    pub packs: u64,
    /// Bytes of them.
    pub pack_bytes: u64,
    /// Packs that were read and verified.
    pub packs_read: u64,
    /// Bytes of them.
    pub bytes_read: u64,
    /// Packs that are lost and whose content was stored again since: harmless.
    pub replaced_packs: u64,
    /// Packs that no delta names: left by interrupted runs, harmless.
    pub orphan_packs: u64,
    /// Objects of others that our key cannot open; they were verified as far as possible.
    pub foreign: u64,
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// How long it took.
    pub duration: Duration,
}

/// What the parts of a check share.
struct Check<'a> {
    repository: &'a Repository,
    index: &'a RwLock<Index>,
    options: Options,
    progress: &'a dyn Progress,
    interrupt: &'a Interrupt,
    report: Report,
    bytes_read: AtomicU64,
}

impl Check<'_> {
    fn find(&mut self, object: impl Into<String>, text: impl Into<String>) {
        let finding = Finding { object: object.into(), text: text.into() };
        self.progress.problem(&format!("{}: {}", finding.object, finding.text));
        self.report.findings.push(finding);
    }
}

/// Checks a repository; damage is a finding, not an error.
pub fn run(
    repository: &Repository,
    index: &RwLock<Index>,
    options: Options,
    progress: &dyn Progress,
    interrupt: &Interrupt,
) -> Result<Report, RepoError> {
    let stopwatch = clock::stopwatch();
    deltas::sync(repository, index)?;
    let (report, bytes_read) = Default::default();
    let mut check = Check { repository, index, options, progress, interrupt, report, bytes_read };
    check.keys()?;
    let packs = check.packs_of_deltas()?;
    check.snapshots()?;
    check.read_packs(packs)?;
    check.report.duration = stopwatch.elapsed();
    Ok(check.report)
}
