//! One backup from beginning to end.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant};

use super::counted_on::CountedOn;
use super::folder::FolderJob;
use super::pipeline::{self, Parent, Walker};
use super::recorder::{Recorder, Recording};
use super::report::Finding;
use super::scan::Scan;
use super::worker::{Counts, Findings, Shared, SplitKeys};
use super::{BackupError, Care, Options, Report, stream, suspect};
use crate::base::id::ObjectHash;
use crate::base::interrupt::Interrupt;
use crate::base::progress::Progress;
use crate::base::{bytes, clock};
use crate::crypto::blob_id::BlobNamer;
use crate::crypto::kdf;
use crate::format::keyset::WriterKeys;
use crate::format::snapshot::{Part, PartType, ScanKind, Snapshot, StoredProblem, Totals};
use crate::index::Index;
use crate::index::scan::{Owner, ScanCache};
use crate::repo::blob_writer::BlobWriter;
use crate::repo::ledger::Ledger;
use crate::repo::packer::Packer;
use crate::repo::packs::PackMap;
use crate::repo::presence::Presence;
use crate::repo::reader::BlobReader;
use crate::repo::snapshots::{self, SnapshotInfo};
use crate::repo::tombstones::Tombstones;
use crate::repo::tree::PageCut;
use crate::repo::txn::Transaction;
use crate::repo::{RepoError, Repository, deltas};
use crate::source::SourceError;
use crate::source::calls::Calls;
use crate::source::names::Accounts;
use crate::source::needless::NeedlessCounts;
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
/// Plaintext of the parent's pages that is kept in memory.
const PARENT_CACHE_BYTES: usize = 24 << 20;
/// How often a run begins again because of a prune.
const ATTEMPTS_MAX: usize = 4;
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

struct Run<'a> {
    options: &'a Options,
    shared: &'a Shared<'a>,
    transaction: Mutex<Transaction<'a>>,
    milestones: Mutex<Milestones>,
    cut: &'a PageCut,
    started: i64,
}

/// What the walk brought: the parts' listings, and what could not be opened.
struct Walked<'a> {
    parts: Vec<(Vec<u8>, PartType, Arc<FolderJob<'a>>)>,
    missing: Vec<String>,
    left_out: u64,
    calls: Vec<Arc<Calls>>,
    needless: NeedlessCounts,
}

/// Backs up as `options` say; again when a prune deleted what the run counted on.
pub fn run(
    repository: &Repository,
    index: &RwLock<Index>,
    options: &Options,
    progress: &dyn Progress,
    interrupt: &Interrupt,
) -> Result<Report, BackupError> {
    let mut replaces = None;
    for _ in 0..ATTEMPTS_MAX {
        let ledger = Ledger::read(repository)?;
        let attempt = Attempt { repository, index, options, ledger: &ledger, replaces, progress, interrupt };
        let (report, recording) = attempt.run()?;
        let Some(hash) = report.snapshot else { return Ok(report) };
        let counted_on = CountedOn { repository, index, ledger: &ledger };
        if counted_on.still_stands(&hash, interrupt)? {
            counted_on.settle(&options.job, &hash);
            if let Some(recording) = recording {
                recording.commit(hash, clock::now() as i64);
            }
            return Ok(report);
        }
        if options.stream.is_some() {
            // A stream cannot be read twice.
            return Err(BackupError::Overtaken { snapshot: hash });
        }
        progress.problem("a prune deleted blobs that this run counted on: backing up once more");
        replaces = Some(hash);
    }
    Err(BackupError::Overtaken { snapshot: replaces.expect("there was an attempt") })
}

/// One way through the source.
struct Attempt<'a> {
    repository: &'a Repository,
    index: &'a RwLock<Index>,
    options: &'a Options,
    /// The records before it began.
    ledger: &'a Ledger,
    /// The attempt before, which lacks blobs now.
    replaces: Option<ObjectHash>,
    progress: &'a dyn Progress,
    interrupt: &'a Interrupt,
}

impl Attempt<'_> {
    fn run(&self) -> Result<(Report, Option<Recording>), BackupError> {
        let Attempt { repository, index, options, progress, interrupt, .. } = *self;
        let stopwatch = clock::stopwatch();
        let unusable = self.sync()?;
        let writer = Arc::new(match options.dry_run {
            true => repository.writer_for_rehearsal(&options.host_name)?,
            false => repository.writer_for(&options.host_name)?,
        });
        let job = Job::find(repository, options, &writer)?;
        let parent = &job.parent;
        let packs = PackMap::new(Arc::clone(&repository.keys));
        let namer = BlobNamer::new(&writer.id_key, &writer.host);
        let (store, domain) = (|| Arc::clone(&repository.store), writer.domain);
        let reader = BlobReader::new(store(), &packs, namer.clone(), domain, index, PARENT_CACHE_BYTES);
        let known = parent.as_ref().map(|info| Parent {
            reader: &reader,
            started: info.snapshot.started,
            parts: info.snapshot.parts.iter().map(|part| (part.path.clone(), part.tree)).collect(),
        });
        let (presence, overtaken) = self.presence(&writer, parent.as_ref(), unusable)?;
        let packer = Packer::of(repository, Arc::clone(&writer));
        let blobs = BlobWriter::new(packer, namer, &presence).rehearsing(options.dry_run);
        let shared = Shared {
            blobs: &blobs,
            presence: &presence,
            tombstones: Tombstones::of(&self.ledger.tombstones, &writer.domain, &writer.cut_key),
            keys: split_keys(&writer),
            care: options.care,
            accounts: Accounts::of_this_host(),
            progress,
            interrupt,
            lock_wait: options.lock_wait,
            findings: Mutex::new(Findings::default()),
            counts: Counts::default(),
        };
        let cut = PageCut::new(*kdf::page_cut_secret(&writer.cut_key).bytes());
        let run = Run {
            options,
            shared: &shared,
            transaction: Mutex::new(Transaction::begin(repository, &writer, index, parent.as_ref())?),
            milestones: Mutex::new(Milestones::new()),
            cut: &cut,
            started: clock::now() as i64,
        };
        let (mut scan, recorder) = self.scan(&writer, parent.as_ref(), &presence, run.started);
        scan.reader = Some(&reader);
        let passes_over = scan.may_pass_over;
        let outcome = pipeline::run(&shared, options.workers, &|| run.tick(), |batches| {
            let mut walker = Walker::new(&shared, &cut, known.as_ref(), scan, batches);
            let walked = run.walk(&mut walker)?;
            Ok((walked, walker.finish()))
        });
        let ((walked, failed), leftovers) = match outcome {
            Ok(outcome) => outcome,
            Err(error) => {
                run.keep_what_is_stored(&error);
                return Err(error.into());
            }
        };
        let last = blobs.flush(leftovers.segments)?;
        run.transaction.lock().expect("no holder panics").publish(&last)?;
        if walked.parts.is_empty() {
            return Err(failed.map_or_else(|| BackupError::from(nothing()), BackupError::from));
        }
        let recording = recorder.and_then(|recorder| recorder.finish(self.rules()));
        let mut report = run.commit(walked, &job, self.replaces.or(overtaken), passes_over)?;
        report.split = leftovers.split;
        report.duration = stopwatch.elapsed();
        Ok((report, recording))
    }

    /// The scan cache: what the last run left, and a place for what this one sees.
    fn scan<'s>(
        &self,
        writer: &WriterKeys,
        parent: Option<&SnapshotInfo>,
        presence: &Presence<'_>,
        started: i64,
    ) -> (Scan<'s>, Option<Recorder>) {
        let Attempt { repository, options, .. } = *self;
        let Some(dir) = &options.cache_dir else { return (Scan::none(), None) };
        let (host, domain, job) = (writer.host, writer.domain, options.job.clone());
        let owner = Owner { repository: repository.id(), host, domain, job };
        let opened = ScanCache::open(dir, &owner).and_then(|cache| {
            let draft = if options.dry_run { None } else { Some(cache.draft()?) };
            Ok((cache, draft))
        });
        let (cache, draft) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                self.progress.problem(&format!("scan cache: {error}; looking at every file"));
                return (Scan::none(), None);
            }
        };
        let recorder = draft.map(Recorder::start);
        let binding =
            cache.binding().filter(|binding| parent.is_some_and(|info| info.hash == binding.snapshot));
        let may_pass_over = binding.is_some_and(|binding| binding.rules == self.rules())
            && !presence.doubtful
            && options.care == Care::default();
        let cache = binding.copied().map(|_| cache);
        let sightings = recorder.as_ref().map(Recorder::sender);
        (Scan { cache, may_pass_over, sightings, started, ..Scan::none() }, recorder)
    }

    /// A digest of what decides about names: under other rules an untouched folder may list otherwise.
    fn rules(&self) -> [u8; 16] {
        let options = self.options;
        let mut hasher = blake3::Hasher::new();
        let mut add = |text: String| {
            hasher.update(text.as_bytes()).update(b"\0");
        };
        options.starts.iter().for_each(|start| add(format!("{:?}", start.logical)));
        add(format!("{:?} {}", options.own, options.one_file_system));
        options.excludes.patterns().for_each(&mut add);
        self.ledger.tombstones.iter().for_each(|stone| add(format!("{stone:?}")));
        *hasher.finalize().as_bytes().first_chunk().expect("a digest holds 16 bytes")
    }

    /// Brings the local index up to date; gives how many deltas are of no use.
    fn sync(&self) -> Result<usize, RepoError> {
        self.repository.need_config()?;
        let unusable = deltas::sync(self.repository, self.index)?;
        for (place, error) in &unusable {
            self.progress.problem(&format!("{place}: {error}"));
        }
        Ok(unusable.len())
    }

    /// What this run may lean on, and the parent if a prune deleted what that one counted on.
    fn presence(
        &self,
        writer: &WriterKeys,
        parent: Option<&SnapshotInfo>,
        unusable_deltas: usize,
    ) -> Result<(Presence<'_>, Option<ObjectHash>), RepoError> {
        let overtaken = self.overtaken(parent)?;
        let shunned = self.ledger.shunned();
        let mut presence =
            Presence::new(self.repository, self.index, writer.domain, &shunned, unusable_deltas)?;
        let counted_on = CountedOn { repository: self.repository, index: self.index, ledger: self.ledger };
        presence.doubtful |=
            overtaken.is_some() || parent.is_some() && !counted_on.keeps_deltas(&self.options.job)?;
        if let packs @ 1.. = presence.lost_packs() {
            let text =
                format!("{packs} packs are missing: what the source still has of them is stored again");
            self.progress.problem(&text);
        }
        Ok((presence, overtaken))
    }

    /// The parent, if it lacks something and its run did not live to back up again.
    fn overtaken(&self, parent: Option<&SnapshotInfo>) -> Result<Option<ObjectHash>, RepoError> {
        let Some(parent) = parent else { return Ok(None) };
        let counted_on = CountedOn { repository: self.repository, index: self.index, ledger: self.ledger };
        let stands = counted_on.is_settled(&self.options.job, &parent.hash)?
            || counted_on.reaches_all(parent, self.ledger, self.interrupt)?;
        Ok((!stands).then_some(parent.hash))
    }
}

fn nothing() -> SourceError {
    let error = std::io::Error::new(std::io::ErrorKind::NotFound, "there is nothing to back up");
    SourceError::Start { path: "any of the paths".to_owned(), error }
}

fn split_keys(writer: &WriterKeys) -> SplitKeys {
    SplitKeys {
        cut_secret: *kdf::content_cut_secret(&writer.cut_key).bytes(),
        link_key: *kdf::link_group_secret(&writer.cut_key).bytes(),
    }
}

/// What earlier runs of the job by this host left.
struct Job {
    /// The newest snapshot.
    parent: Option<SnapshotInfo>,
    /// What the newest one held that is beyond doubt.
    trusted: Option<Totals>,
}

impl Job {
    fn find(repository: &Repository, options: &Options, writer: &WriterKeys) -> Result<Job, RepoError> {
        let listed = snapshots::list(repository)?;
        let mut own: Vec<SnapshotInfo> = listed.snapshots;
        own.retain(|info| {
            info.host == writer.host && info.domain == writer.domain && info.snapshot.job == options.job
        });
        own.sort_by_key(|info| (info.position, info.sequence));
        let trusted = own.iter().rev().find(|info| info.snapshot.suspect.is_none());
        let trusted = trusted.map(|info| info.snapshot.totals());
        Ok(Job { parent: own.pop(), trusted })
    }
}

impl<'a> Run<'a> {
    /// Walks all start paths and the stream.
    ///
    /// The error is the repository's and ends the run; a start that fails is a finding.
    fn walk(&self, walker: &mut Walker<'a, '_>) -> Result<(Walked<'a>, Option<SourceError>), RepoError> {
        let options = Arc::new(walk::Options {
            one_file_system: self.options.one_file_system,
            excludes: self.options.excludes.clone(),
            own: self.options.own.clone(),
            all_files: self.options.all_files,
        });
        let (parts, missing, needless) = (Vec::new(), Vec::new(), NeedlessCounts::default());
        let mut walked = Walked { parts, missing, left_out: 0, calls: Vec::new(), needless };
        walker.holding = !self.options.all_files;
        let mut failed = None;
        for start in &self.options.starts {
            let opened = Walk::open(start, Arc::clone(&options));
            match opened {
                Ok(walk) => {
                    walked.calls.push(Arc::clone(walk.calls()));
                    let job = walker.part(walk, &start.logical)?;
                    walked.parts.push((start.logical.clone(), PartType::Mail, job));
                }
                Err(error) => {
                    walked.missing.push(bytes::display(&start.path));
                    self.shared.report_failure(&start.path, &error);
                    failed = Some(error);
                }
            }
        }
        if let Some(stream) = &self.options.stream {
            match stream::store(walker.worker(), self.cut, stream)? {
                Ok((path, job)) => walked.parts.push((path, PartType::Stream, job)),
                Err(error) => {
                    self.shared.report_failure(&stream.path, &error);
                    failed = Some(error);
                }
            }
        }
        walker.catch_up_at_the_end()?;
        (walked.left_out, walked.needless) = (walker.left_out, walker.needless);
        Ok((walked, failed))
    }

    /// Makes what is stored durable now and then, so that an interrupted run is not begun from nothing.
    fn tick(&self) -> Result<(), RepoError> {
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
    fn keep_what_is_stored(&self, error: &RepoError) {
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

    fn commit(
        self,
        walked: Walked<'a>,
        Job { parent, trusted }: &Job,
        replaces: Option<ObjectHash>,
        passes_over: bool,
    ) -> Result<Report, BackupError> {
        let (parent, trusted) = (parent.as_ref(), trusted.as_ref());
        let mut totals = Totals::default();
        let mut parts = Vec::new();
        for (path, part_type, job) in walked.parts {
            let tree = job.take_finished().expect("every batch of the part was delivered");
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
        let hash = if self.options.dry_run { None } else { Some(transaction.commit(&snapshot)?.1) };
        Ok(Report {
            snapshot: hash,
            parent: parent.map(|info| info.hash),
            totals,
            parent_totals: before,
            vanished: findings.vanished,
            left_out: walked.left_out,
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
        let mut text = error.to_string();
        let mut cause = std::error::Error::source(error);
        while let Some(error) = cause {
            text = format!("{text}: {error}");
            cause = error.source();
        }
        let mut findings = self.findings.lock().expect("no holder panics");
        findings.count += 1;
        self.progress.problem(&text);
        findings.list.push(Finding { path: path.to_vec(), text });
    }
}
