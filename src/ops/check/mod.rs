//! Check: does the repository hold what its snapshots refer to, and is every byte still what it was?

mod administration;
mod chain;
mod choice;
mod finding;
mod packs;
mod structure;
mod trees;
mod verdict;

pub use choice::{Coverage, Memory};
pub use finding::{Finding, Kind, Subject};
pub use verdict::Verdict;

use std::collections::{HashMap, HashSet};
use std::sync::RwLock;
use std::time::Duration;

use crate::base::clock;
use crate::base::id::ObjectHash;
use crate::base::interrupt::Interrupt;
use crate::base::progress::Progress;
use crate::index::{Index, PackNumber};
use crate::repo::ledger::Ledger;
use crate::repo::{RepoError, Repository};
use crate::store::Place;

/// Which packs are read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ReadData {
    /// None.
    No,
    /// All.
    All,
    /// Those that were read longest ago, until they are this share of all bytes, percent.
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

/// Findings that are kept; more are counted.
const FINDINGS_MAX: usize = 10_000;

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
    /// How far all packs were read, now or earlier.
    pub coverage: Coverage,
    /// Packs that are lost and whose content was stored again since: harmless.
    pub replaced_packs: u64,
    /// Packs that deltas still name and that a prune deleted, as it said before: harmless.
    pub pruned_packs: u64,
    /// Packs that a prune doomed and that are still there: harmless.
    pub doomed_packs: u64,
    /// Packs that no delta names: left by interrupted runs, harmless.
    pub orphan_packs: u64,
    /// Objects of others that our key cannot open; they were verified as far as possible.
    pub foreign: u64,
    /// Snapshots that lack something.
    pub broken_snapshots: u64,
    /// What is wrong, up to a bound.
    pub findings: Vec<Finding>,
    /// How much is wrong in all.
    pub finding_count: u64,
    /// What is not wrong and worth knowing.
    pub remarks: Vec<Finding>,
    /// How long it took.
    pub duration: Duration,
}

impl Report {
    /// Adds a finding, among the remarks where it is one.
    pub fn add(&mut self, finding: Finding) {
        let list = match finding.kind {
            Kind::Remark => &mut self.remarks,
            _ => {
                self.finding_count += 1;
                &mut self.findings
            }
        };
        if list.len() < FINDINGS_MAX {
            list.push(finding);
        }
    }
}

/// What the parts of a check share.
struct Check<'a> {
    repository: &'a Repository,
    index: &'a RwLock<Index>,
    options: Options,
    progress: &'a dyn Progress,
    interrupt: &'a Interrupt,
    report: Report,
    /// Unix seconds.
    now: i64,
    /// The deltas that the index knows.
    deltas: Vec<Place>,
    /// All packs that are there, with their sizes.
    stored: HashMap<ObjectHash, u64>,
    /// Packs that deltas name and that are missing, or have another size.
    absent: HashSet<PackNumber>,
}

impl Check<'_> {
    fn find(&mut self, finding: Finding) {
        if finding.kind != Kind::Remark && self.report.findings.len() < FINDINGS_MAX {
            self.progress.problem(&format!("{}: {}", finding.object, finding.text));
        }
        self.report.add(finding);
    }

    fn remark(&mut self, subject: Subject, object: impl Into<String>, text: impl Into<String>) {
        self.report.add(Finding::new(Kind::Remark, subject, object, text));
    }
}

/// Checks a repository; damage is a finding, not an error.
///
/// `memory` tells which packs were read when, and learns of those that are read now, also when the run is
/// interrupted.
pub fn run(
    repository: &Repository,
    index: &RwLock<Index>,
    options: Options,
    memory: &mut Memory,
    progress: &dyn Progress,
    interrupt: &Interrupt,
) -> Result<Report, RepoError> {
    let stopwatch = clock::stopwatch();
    let mut check = Check {
        repository,
        index,
        options,
        progress,
        interrupt,
        report: Report::default(),
        now: clock::now_seconds(),
        deltas: Vec::new(),
        stored: HashMap::new(),
        absent: HashSet::new(),
    };
    check.synchronise()?;
    // After the packs were listed: what a prune had deleted by then is doomed in these records.
    let ledger = Ledger::read(repository)?;
    check.keys()?;
    check.records(&ledger)?;
    let packs = check.packs_of_deltas(&ledger)?;
    check.snapshots(&ledger)?;
    check.read_packs(&packs, memory)?;
    check.report.duration = stopwatch.elapsed();
    Ok(check.report)
}
