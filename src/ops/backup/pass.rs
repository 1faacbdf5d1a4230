//! One pass through the source: the walk, what is made durable on the way, what moved meanwhile, and the snapshot.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::folder::FolderJob;
use super::live::{Amend, Amended};
use super::report::Finding;
use super::run::Job;
use super::shared::Shared;
use super::walker::Walker;
use super::worker::Worker;
use super::{BackupError, Options, Report, stream, suspect, unchanged};
use crate::base::causes::told;
use crate::base::id::{BlobId, ObjectHash};
use crate::base::{bytes, clock};
use crate::format::content::BlobKind;
use crate::format::snapshot::{Part, PartType, ScanKind, Snapshot, StoredProblem, Totals, Tree};
use crate::repo::blob_writer::LocalSegments;
use crate::repo::reader::BlobReader;
use crate::repo::tree::PageCut;
use crate::repo::txn::Transaction;
use crate::repo::{RepoError, edit};
use crate::source::SourceError;
use crate::source::calls::Calls;
use crate::source::live::Live;
use crate::source::needless::NeedlessCounts;
use crate::source::problem::{Problem, What};
use crate::source::walk::{self, Walk};

/// What a run has stored is made durable after this many bytes,
const PUBLISH_BYTES: u64 = 256 << 20;
/// or this many blobs, whose ids take memory until then,
const PUBLISH_BLOBS: u64 = 1 << 18;
/// or after this time, whichever comes first.
const PUBLISH_AFTER: Duration = Duration::from_secs(60);
/// A checkpoint is written after this many bytes,
const CHECKPOINT_BYTES: u64 = 1 << 30;
/// or after this time.
const CHECKPOINT_AFTER: Duration = Duration::from_secs(900);
/// Problems that are stored with the snapshot.
const STORED_PROBLEMS_MAX: usize = 100;

/// Where a run stands between two publications.
struct Milestones {
    published_bytes: u64,
    published_blobs: u64,
    published_at: Instant,
    checkpoint_bytes: u64,
    checkpoint_at: Instant,
}

impl Milestones {
    fn new() -> Milestones {
        let (published_at, checkpoint_at) = (clock::stopwatch(), clock::stopwatch());
        Milestones {
            published_bytes: 0,
            published_blobs: 0,
            published_at,
            checkpoint_bytes: 0,
            checkpoint_at,
        }
    }
}

/// A pass through the source.
pub struct Pass<'a> {
    options: &'a Options,
    shared: &'a Shared<'a>,
    transaction: Mutex<Transaction<'a>>,
    milestones: Mutex<Milestones>,
    cut: &'a PageCut,
    /// The folders of messages that it came to.
    live: Option<Arc<Mutex<Live>>>,
    /// When it began, unix nanoseconds.
    pub started: i64,
}

/// What the walk brought.
pub struct Walked<'a> {
    jobs: Vec<(Vec<u8>, PartType, Arc<FolderJob<'a>>)>,
    /// The parts' listings, when all batches are done.
    parts: Vec<(Vec<u8>, PartType, Tree)>,
    missing: Vec<String>,
    /// A start that failed.
    pub failed: Option<SourceError>,
    left_out: u64,
    calls: Vec<Arc<Calls>>,
    needless: NeedlessCounts,
    amended: Amended,
}

impl Walked<'_> {
    /// Nothing could be opened.
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }
}

impl<'a> Pass<'a> {
    /// Begins now.
    pub fn begin(
        options: &'a Options,
        shared: &'a Shared<'a>,
        cut: &'a PageCut,
        transaction: Transaction<'a>,
    ) -> Pass<'a> {
        Pass {
            options,
            shared,
            transaction: Mutex::new(transaction),
            milestones: Mutex::new(Milestones::new()),
            cut,
            live: (!options.dry_run).then(|| Arc::new(Mutex::new(Live::new()))),
            started: clock::now() as i64,
        }
    }

    /// Walks all start paths and the stream.
    ///
    /// The error is the repository's and ends the run; a start that fails is a finding.
    pub fn walk(&self, walker: &mut Walker<'a, '_>) -> Result<Walked<'a>, RepoError> {
        let options = Arc::new(walk::Options {
            one_file_system: self.options.one_file_system,
            excludes: self.options.excludes.clone(),
            own: self.options.own.clone(),
            all_files: self.options.all_files,
            live: self.live.clone(),
        });
        let mut walked = Walked {
            jobs: Vec::new(),
            parts: Vec::new(),
            missing: Vec::new(),
            failed: None,
            left_out: 0,
            calls: Vec::new(),
            needless: NeedlessCounts::default(),
            amended: Amended::default(),
        };
        walker.holding = !self.options.all_files;
        walker.live.clone_from(&self.live);
        for start in &self.options.starts {
            let opened = Walk::open(start, Arc::clone(&options));
            match opened {
                Ok(walk) => {
                    walked.calls.push(Arc::clone(walk.calls()));
                    let job = walker.part(walk, &start.logical)?;
                    walked.jobs.push((start.logical.clone(), PartType::Mail, job));
                }
                Err(error) => {
                    walked.missing.push(bytes::display(&start.path));
                    self.shared.report_failure(&start.path, &error);
                    walked.failed = Some(error);
                }
            }
        }
        if let Some(stream) = &self.options.stream {
            match stream::store(walker.worker(), self.cut, stream)? {
                Ok((path, job)) => walked.jobs.push((path, PartType::Stream, job)),
                Err(error) => {
                    self.shared.report_failure(&stream.path, &error);
                    walked.failed = Some(error);
                }
            }
        }
        walker.catch_up_at_the_end()?;
        (walked.left_out, walked.needless) = (walker.left_out, walker.needless);
        Ok(walked)
    }

    /// Makes everything durable that the workers stored; all batches are done.
    pub fn store_rest(&self, segments: Vec<LocalSegments>) -> Result<(), RepoError> {
        let last = self.shared.blobs.flush(segments)?;
        self.transaction.lock().expect("no holder panics").publish(&last)
    }

    /// Puts mail that moved during the walk where it stands now; what the walk stored is durable.
    pub fn catch_up(&self, walked: &mut Walked<'a>, reader: &BlobReader<'_>) -> Result<(), RepoError> {
        for (path, part_type, job) in std::mem::take(&mut walked.jobs) {
            let tree = job.take_finished().expect("every batch of the part was delivered");
            walked.parts.push((path, part_type, tree));
        }
        let Some(live) = &self.live else { return Ok(()) };
        let live = &mut *live.lock().expect("no holder panics");
        let parts: Vec<(Vec<u8>, Tree)> =
            walked.parts.iter().map(|(path, _, tree)| (path.clone(), *tree)).collect();
        let mut worker = Worker::new(self.shared);
        let mut amend = Amend::new(live, &parts, reader, &mut worker, self.started);
        walked.amended = amend.decide()?;
        amend.read_uid_lists()?;
        let edits: Vec<edit::Edit> = parts.iter().map(|(path, _)| amend.edit(path)).collect();
        for ((_, _, tree), edit) in walked.parts.iter_mut().zip(edits) {
            let read = |id: &BlobId| Ok(reader.page(id)?.as_ref().to_vec());
            let local = &mut worker.local;
            *tree = edit::apply(tree, edit, self.cut, &read, &mut |page| local.put(BlobKind::Tree, page))?;
        }
        if walked.amended.is_unsure {
            let why =
                "mail kept moving while it was listed: some of it may be missing or twice in this snapshot";
            let path = walked.parts.first().map(|(path, ..)| path.clone()).unwrap_or_default();
            self.shared.report(Problem::new(path, What::Changed, why));
        }
        self.store_rest(vec![worker.into_segments()])
    }

    /// Makes what is stored durable now and then, so that an interrupted run is not begun from nothing.
    pub fn tick(&self) -> Result<(), RepoError> {
        let milestones = &mut *self.milestones.lock().expect("no holder panics");
        let stored = self.shared.blobs.counters.stored_bytes.load(Ordering::Relaxed);
        let blobs = self.shared.blobs.counters.new_blobs.load(Ordering::Relaxed);
        let due = stored - milestones.published_bytes >= PUBLISH_BYTES
            || blobs - milestones.published_blobs >= PUBLISH_BLOBS
            || milestones.published_at.elapsed() >= PUBLISH_AFTER && stored > milestones.published_bytes;
        if !due {
            return Ok(());
        }
        let ready = self.shared.blobs.take_ready()?;
        let mut transaction = self.transaction.lock().expect("no holder panics");
        transaction.publish(&ready)?;
        self.shared.blobs.settle(&ready);
        milestones.published_bytes = stored;
        milestones.published_blobs = blobs;
        milestones.published_at = clock::stopwatch();
        if stored - milestones.checkpoint_bytes >= CHECKPOINT_BYTES
            || milestones.checkpoint_at.elapsed() >= CHECKPOINT_AFTER
        {
            transaction.checkpoint(&self.options.job, self.started, clock::now() as i64)?;
            milestones.checkpoint_bytes = stored;
            milestones.checkpoint_at = clock::stopwatch();
        }
        Ok(())
    }

    /// After a failure or Ctrl-C: publishes the packs that are whole, for the next run.
    pub fn keep_what_is_stored(&self, error: &RepoError) {
        let flushed = match error {
            RepoError::Interrupted(_) => self.shared.blobs.flush(Vec::new()),
            _ => self.shared.blobs.take_ready(),
        };
        let kept =
            flushed.and_then(|packs| self.transaction.lock().expect("no holder panics").publish(&packs));
        if let Err(error) = kept {
            self.shared.progress.problem(&format!("what was stored so far could not be kept: {error}"));
        }
    }

    /// Ends the pass with its snapshot, unless it is a rehearsal or says nothing new, and tells what it did.
    pub fn commit(
        self,
        walked: Walked<'a>,
        Job { parent, trusted }: &Job,
        replaces: Option<ObjectHash>,
        passes_over: bool,
    ) -> Result<Report, BackupError> {
        let (parent, trusted) = (parent.as_ref(), trusted.as_ref());
        let mut totals = Totals::default();
        let mut parts = Vec::new();
        for (path, part_type, tree) in walked.parts {
            totals += tree.totals;
            parts.push(Part { part_type, path, tree, problems: 0 });
        }
        parts.sort_by(|a, b| a.path.cmp(&b.path));
        let before = parent.map(|info| info.snapshot.totals());
        let suspect = match self.options.accept_loss {
            true => None,
            false => suspect::suspicion(trusted.or(before.as_ref()), &totals, &walked.missing),
        };
        let findings = std::mem::take(&mut *self.shared.findings.lock().expect("no holder panics"));
        for part in &mut parts {
            part.problems =
                findings.list.iter().filter(|finding| finding.path.starts_with(&part.path)).count() as u64;
        }
        let stored = findings.list.iter().take(STORED_PROBLEMS_MAX);
        let snapshot = Snapshot {
            host_name: self.options.host_name.clone(),
            job: self.options.job.clone(),
            previous: parent.map(|info| info.hash),
            previous_sequence: parent.map_or(0, |info| info.sequence),
            started: self.started,
            ended: clock::now() as i64,
            parts,
            tags: self.options.tags.clone(),
            scan: match parent {
                Some(_) if passes_over => ScanKind::Folders,
                Some(_) if !self.options.care.reread => ScanKind::Stat,
                _ => ScanKind::Full,
            },
            suspect: suspect.clone(),
            replaces,
            problem_count: findings.count,
            problems: stored
                .map(|finding| StoredProblem { path: finding.path.clone(), text: finding.text.clone() })
                .collect(),
            vanished: findings.vanished,
            program: concat!("mailark ", env!("CARGO_PKG_VERSION")).to_owned(),
        };
        let transaction = self.transaction.into_inner().expect("no holder panics");
        let dry_run = self.options.dry_run;
        let unchanged =
            self.options.skip_unchanged && !dry_run && unchanged::says_nothing_new(parent, &snapshot);
        let writes = !dry_run && !unchanged;
        let hash = if writes { Some(transaction.commit(&snapshot)?.1) } else { None };
        Ok(Report {
            snapshot: hash,
            unchanged,
            parent: parent.map(|info| info.hash),
            totals,
            parent_totals: before,
            vanished: findings.vanished,
            left_out: walked.left_out,
            moved_meanwhile: walked.amended.moved + walked.amended.doubled + walked.amended.late,
            needless: walked.needless,
            calls: walked.calls.iter().fold([0; 3], |sums, calls| {
                let totals = calls.totals();
                std::array::from_fn(|kind| sums[kind] + totals[kind])
            }),
            findings: findings.list,
            problem_count: findings.count,
            suspect,
            ..self.shared.counted()
        })
    }
}

impl Shared<'_> {
    /// A report with nothing but what was counted.
    fn counted(&self) -> Report {
        let (counts, blobs) = (&self.counts, &self.blobs.counters);
        Report {
            files_read: counts.files_read.load(Ordering::Relaxed),
            bytes_read: counts.bytes_read.load(Ordering::Relaxed),
            files_unchanged: counts.reasons.recognised().iter().map(|(_, files)| files).sum(),
            recognised: counts.reasons.recognised(),
            read_because: counts.reasons.reasons(),
            folders_passed_over: counts.folders_passed_over.load(Ordering::Relaxed),
            purged: counts.purged.load(Ordering::Relaxed),
            changed_while_read: counts.changed_while_read.load(Ordering::Relaxed),
            held: counts.held.load(Ordering::Relaxed),
            unlocked: counts.unlocked.load(Ordering::Relaxed),
            new_bytes: blobs.new_bytes.load(Ordering::Relaxed),
            stored_bytes: blobs.stored_bytes.load(Ordering::Relaxed),
            ..Report::default()
        }
    }

    /// Notes that a whole part failed.
    fn report_failure(&self, path: &[u8], error: &SourceError) {
        let text = told(error);
        let mut findings = self.findings.lock().expect("no holder panics");
        findings.count += 1;
        self.progress.problem(&text);
        findings.list.push(Finding { path: path.to_vec(), text });
    }
}
