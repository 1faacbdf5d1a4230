//! One backup from beginning to end.

use std::sync::{Arc, Mutex, RwLock};

use super::counted_on::CountedOn;
use super::pass::Pass;
use super::pipeline;
use super::recorder::{Recorder, Recording};
use super::scan::Scan;
use super::shared::{Counts, Findings, Shared, SplitKeys};
use super::walker::{Parent, Walker};
use super::{BackupError, Care, Options, Report, unchanged};
use crate::base::clock;
use crate::base::id::ObjectHash;
use crate::base::interrupt::Interrupt;
use crate::base::progress::Progress;
use crate::crypto::blob_id::BlobNamer;
use crate::crypto::kdf;
use crate::format::keyset::WriterKeys;
use crate::format::snapshot::Totals;
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
use crate::source::names::Accounts;

/// How often a run begins again because of a prune.
const ATTEMPTS_MAX: usize = 4;

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
        let Some(hash) = report.snapshot else { return Ok(unchanged::keep_sightings(report, recording)) };
        let counted_on = CountedOn { repository, index, ledger: &ledger };
        let now = Ledger::read(repository)?;
        counted_on.need_counting(&hash, &now)?;
        if counted_on.still_stands(&hash, &now, interrupt)? {
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
        let Attempt { repository, index, options, .. } = *self;
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
        let cache = &options.read_cache;
        let reader = BlobReader::new(store(), &packs, namer.clone(), domain, index, 0)
            .sharing(cache, cache.space(&writer.host, &domain));
        let known = parent.as_ref().map(|info| Parent {
            reader: &reader,
            started: info.snapshot.started,
            parts: info.snapshot.parts.iter().map(|part| (part.path.clone(), part.tree)).collect(),
        });
        let (presence, overtaken) = self.presence(&writer, parent.as_ref(), unusable)?;
        let packer = Packer::of(repository, Arc::clone(&writer));
        let blobs = BlobWriter::new(packer, namer, &presence).rehearsing(options.dry_run);
        let shared = self.shared(&writer, &blobs, &presence);
        let cut = PageCut::new(*kdf::page_cut_secret(&writer.cut_key).bytes());
        let transaction = Transaction::begin(repository, &writer, index, parent.as_ref())?;
        let pass = Pass::begin(options, &shared, &cut, transaction);
        let (mut scan, recorder) = self.scan(&writer, parent.as_ref(), &presence, pass.started);
        scan.reader = Some(&reader);
        let passes_over = scan.may_pass_over;
        let outcome = pipeline::run(&shared, options.workers, &|| pass.tick(), |batches| {
            let mut walker = Walker::new(&shared, &cut, known.as_ref(), scan, batches);
            let walked = pass.walk(&mut walker)?;
            Ok((walked, walker.finish()))
        });
        let (mut walked, leftovers) = outcome.inspect_err(|error| pass.keep_what_is_stored(error))?;
        pass.store_rest(leftovers.segments)?;
        if walked.is_empty() {
            return Err(walked.failed.map_or_else(|| BackupError::from(nothing()), BackupError::from));
        }
        pass.catch_up(&mut walked, &reader)?;
        let recording = recorder.and_then(|recorder| recorder.finish(self.rules()));
        let mut report = pass.commit(walked, &job, self.replaces.or(overtaken), passes_over)?;
        report.split = leftovers.split;
        report.duration = stopwatch.elapsed();
        Ok((report, recording))
    }

    fn shared<'s>(
        &'s self,
        writer: &WriterKeys,
        blobs: &'s BlobWriter<'s>,
        presence: &'s Presence<'s>,
    ) -> Shared<'s> {
        Shared {
            blobs,
            presence,
            tombstones: Tombstones::of(&self.ledger.tombstones, &writer.domain, &writer.cut_key),
            keys: split_keys(writer),
            care: self.options.care,
            accounts: Accounts::of_this_host(),
            progress: self.progress,
            interrupt: self.interrupt,
            lock_wait: self.options.lock_wait,
            findings: Mutex::new(Findings::default()),
            counts: Counts::default(),
        }
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
        let cache = parent.and_then(|info| cache.of(&info.hash));
        let binding = cache.as_ref().and_then(ScanCache::binding);
        let may_pass_over = binding.is_some_and(|binding| binding.rules == self.rules())
            && !presence.doubtful
            && options.care == Care::default();
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
        let mut shunned = self.ledger.shunned();
        shunned.extend(deltas::of_revoked(self.repository, self.index, self.ledger, &writer.domain)?);
        let mut presence =
            Presence::new(self.repository, self.index, writer.domain, &shunned, unusable_deltas)?;
        let (counted_on, job) = (self.counted_on(), &self.options.job);
        presence.doubtful |= overtaken.is_some()
            || parent.is_some() && !(counted_on.keeps_deltas(job)? && counted_on.knows_revoked(job)?);
        if let packs @ 1.. = presence.lost_packs() {
            let text =
                format!("{packs} packs are missing: what the source still has of them is stored again");
            self.progress.problem(&text);
        }
        Ok((presence, overtaken))
    }

    fn counted_on(&self) -> CountedOn<'_> {
        CountedOn { repository: self.repository, index: self.index, ledger: self.ledger }
    }

    /// The parent, if it lacks something and its run did not live to back up again.
    fn overtaken(&self, parent: Option<&SnapshotInfo>) -> Result<Option<ObjectHash>, RepoError> {
        let Some(parent) = parent else { return Ok(None) };
        let counted_on = self.counted_on();
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
pub struct Job {
    /// The newest snapshot.
    pub parent: Option<SnapshotInfo>,
    /// What the newest one held that is beyond doubt.
    pub trusted: Option<Totals>,
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
