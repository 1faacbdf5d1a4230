//! The flow: walk -> compare with the parent -> split -> name (dedup) -> segment -> compress -> seal -> pack -> store.
//!
//! The walking thread does the first two stages and keeps the order; workers do the rest, batch by batch.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::folder::{FolderJob, Slot};
use super::parent::{Known, KnownFile, ParentFolder};
use super::worker::{Batch, Item, Shared, Worker};
use crate::base::id::BlobId;
use crate::chunk::SplitStats;
use crate::format::page::{Entry, Node};
use crate::format::snapshot::Tree;
use crate::repo::RepoError;
use crate::repo::blob_writer::LocalSegments;
use crate::repo::reader::BlobReader;
use crate::repo::tombstones::Scope;
use crate::repo::tree::{PageCut, find};
use crate::repo::view::join;
use crate::source::dir::OpenDir;
use crate::source::meta::Kind;
use crate::source::problem::{Problem, What};
use crate::source::start;
use crate::source::walk::{Event, Folder, FolderState, Walk};

/// Files in a batch; few enough that the last batch does not keep one worker alone for long.
const BATCH_FILES: usize = 128;
/// Bytes in a batch.
const BATCH_BYTES: u64 = 4 << 20;
/// Batches that may wait; bounds the names in memory.
const BATCHES_WAITING: usize = 16;

/// The parent snapshot, as the walk consults it.
pub struct Parent<'a> {
    /// Reads its pages.
    pub reader: &'a BlobReader<'a>,
    /// When it began, unix nanoseconds.
    pub started: i64,
    /// Its parts: path and listing.
    pub parts: Vec<(Vec<u8>, Tree)>,
}

/// A folder on the walk's way down.
struct Level<'a> {
    job: Arc<FolderJob<'a>>,
    /// Slots of its folders, in the order in which the walk enters them, with what the parent knows.
    folders: std::vec::IntoIter<(usize, Option<Tree>)>,
}

/// A part's first folder and its listing, with what the parent knows of the folder.
struct BegunPart<'a> {
    folder: Arc<FolderJob<'a>>,
    part: Arc<FolderJob<'a>>,
    known: Option<Tree>,
}

/// Where the files of a folder are opened and where their entries go.
struct Around<'a> {
    job: Arc<FolderJob<'a>>,
    dir: Option<Arc<OpenDir>>,
    folder_name: Vec<u8>,
    scope: Option<Arc<Scope>>,
}

/// The walking thread's side of the pipeline.
pub struct Walker<'a, 'p> {
    shared: &'a Shared<'a>,
    cut: &'a PageCut,
    parent: Option<&'p Parent<'p>>,
    batches: Sender<Batch<'a>>,
    worker: Worker<'a>,
    /// Entries left out so far.
    pub left_out: u64,
}

/// The first failure of any thread; all others stop when they see it.
#[derive(Default)]
struct Failure(Mutex<Option<RepoError>>);

impl Failure {
    fn set(&self, error: RepoError) {
        self.0.lock().expect("no holder panics").get_or_insert(error);
    }

    fn is_set(&self) -> bool {
        self.0.lock().expect("no holder panics").is_some()
    }
}

/// How often the clock thread looks whether something is due.
const CLOCK_TICK: Duration = Duration::from_millis(500);

/// What comes out of the pipeline besides the walk's own result.
pub struct Leftovers {
    /// Segments that are not full.
    pub segments: Vec<LocalSegments>,
    /// What the splitters met.
    pub split: SplitStats,
}

/// Runs `walking` beside `count` workers, calling `tick` now and then, also during a file that takes hours.
pub fn run<'a, T>(
    shared: &'a Shared<'a>,
    count: usize,
    tick: &(dyn Fn() -> Result<(), RepoError> + Sync),
    walking: impl FnOnce(Sender<Batch<'a>>) -> Result<(T, Worker<'a>), RepoError>,
) -> Result<(T, Leftovers), RepoError> {
    let (sender, receiver) = bounded(BATCHES_WAITING);
    let (done, ended) = bounded::<()>(0);
    let failure = Failure::default();
    let outcome = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..count.max(1))
            .map(|_| {
                let (receiver, failure) = (receiver.clone(), &failure);
                scope.spawn(move || work(shared, &receiver, failure))
            })
            .collect();
        drop(receiver);
        scope.spawn(|| {
            // Ends when `done` is dropped.
            while ended.recv_timeout(CLOCK_TICK) == Err(RecvTimeoutError::Timeout) && !failure.is_set() {
                if let Err(error) = tick() {
                    failure.set(error);
                }
            }
        });
        let walked = walking(sender);
        let mut leftovers = Leftovers { segments: Vec::new(), split: SplitStats::default() };
        let mut take = |worker: Worker<'a>| {
            leftovers.split += worker.split;
            leftovers.segments.push(worker.into_segments());
        };
        for worker in workers {
            take(worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        drop(done);
        let (result, worker) = walked?;
        take(worker);
        Ok((result, leftovers))
    });
    // A thread's failure is the cause, the walk's only its echo.
    match failure.0.into_inner().expect("no holder panics") {
        Some(error) => Err(error),
        None => outcome,
    }
}

fn work<'a>(shared: &'a Shared<'a>, batches: &Receiver<Batch<'a>>, failure: &Failure) -> Worker<'a> {
    let mut worker = Worker::new(shared);
    for batch in batches {
        if failure.is_set() {
            break;
        }
        if let Err(error) = worker.run(batch) {
            failure.set(error);
            break;
        }
    }
    worker
}

/// All workers are gone because one failed; the failure itself is reported by [`run`].
fn stopped() -> RepoError {
    RepoError::Interrupted(crate::base::interrupt::Interrupted)
}

impl<'a, 'p> Walker<'a, 'p> {
    /// The walking side, with a worker of its own for what needs no reading.
    pub fn new(
        shared: &'a Shared<'a>,
        cut: &'a PageCut,
        parent: Option<&'p Parent<'p>>,
        batches: Sender<Batch<'a>>,
    ) -> Walker<'a, 'p> {
        Walker { shared, cut, parent, batches, worker: Worker::new(shared), left_out: 0 }
    }

    /// Ends the walk: no more batches come.
    pub fn finish(self) -> Worker<'a> {
        self.worker
    }

    /// The worker that shares this thread.
    pub fn worker(&mut self) -> &mut Worker<'a> {
        &mut self.worker
    }

    /// Walks one start path. Gives the part's listing, complete when all batches are.
    pub fn part(&mut self, walk: Walk, logical: &[u8]) -> Result<Arc<FolderJob<'a>>, RepoError> {
        let known = self
            .parent
            .and_then(|parent| parent.parts.iter().find(|(path, _)| path == logical).map(|(_, tree)| *tree));
        let mut levels: Vec<Level<'a>> = Vec::new();
        let mut part = None;
        for event in walk {
            self.shared.interrupt.check()?;
            match event {
                Event::Enter(folder) => {
                    let (job, tree) = match levels.last_mut() {
                        None => {
                            let begun = self.begin_part(&folder, logical, known.as_ref());
                            part = Some(begun.part);
                            (begun.folder, begun.known)
                        }
                        Some(level) => {
                            let (slot, tree) =
                                level.folders.next().expect("one slot for every folder entered");
                            let parent = Arc::clone(&level.job);
                            match self.begin_folder(&folder, &parent, slot)? {
                                Some(job) => (job, tree),
                                None => {
                                    levels.push(Level { job: parent, folders: Vec::new().into_iter() });
                                    continue;
                                }
                            }
                        }
                    };
                    levels.push(self.enter(*folder, logical, job, tree)?);
                }
                Event::Leave => drop(levels.pop()),
            }
        }
        Ok(part.expect("a walk enters at least one folder"))
    }

    fn begin_part(&mut self, folder: &Folder, logical: &[u8], known: Option<&Tree>) -> BegunPart<'a> {
        let names = folder.entries.len();
        let (_, name) = start::split(logical);
        if folder.state == FolderState::Partial || name.is_empty() {
            // The listing around a single file, or that of `/`, is the part's listing itself.
            let part = FolderJob::part(self.cut, names);
            return BegunPart { folder: Arc::clone(&part), part, known: known.copied() };
        }
        let part = FolderJob::part(self.cut, 1);
        let own = self.worker.folder_entry(name, &folder.meta);
        let job = FolderJob::below(self.cut, names, own, &part, 0);
        let known = known.zip(self.parent).and_then(|(tree, parent)| {
            // An unreadable parent costs time: everything is read again.
            match find(tree, name, &mut |id: &BlobId| parent.reader.page(id)).ok()??.node {
                Node::Folder(tree) => Some(tree),
                _ => None,
            }
        });
        BegunPart { folder: job, part, known }
    }

    fn begin_folder(
        &mut self,
        folder: &Folder,
        parent: &Arc<FolderJob<'a>>,
        slot: usize,
    ) -> Result<Option<Arc<FolderJob<'a>>>, RepoError> {
        if folder.state == FolderState::Vanished {
            self.report(folder);
            self.worker.deliver(parent, [(slot, Slot::Nothing)])?;
            return Ok(None);
        }
        let own: Entry = self.worker.folder_entry(folder.name(), &folder.meta);
        Ok(Some(FolderJob::below(self.cut, folder.entries.len(), own, parent, slot)))
    }

    fn report(&self, folder: &Folder) {
        folder.problems.iter().for_each(|problem| self.shared.report(problem.clone()));
    }

    /// Compares a folder's entries with the parent's and hands the files to the workers.
    fn enter(
        &mut self,
        folder: Folder,
        logical: &[u8],
        job: Arc<FolderJob<'a>>,
        known: Option<Tree>,
    ) -> Result<Level<'a>, RepoError> {
        let scope = self.scope(&folder, logical);
        self.report(&folder);
        self.left_out += folder.left_out;
        let mut parent = match (known, self.parent) {
            (Some(tree), Some(parent)) => {
                ParentFolder::new(&tree, folder.name(), parent.started, parent.reader)
            }
            _ => ParentFolder::none(),
        };
        let around = Around { job, dir: folder.dir.clone(), folder_name: folder.name().to_vec(), scope };
        let mut folders = Vec::new();
        let mut batch = Vec::new();
        let mut batch_bytes = 0;
        for (slot, listed) in folder.entries.into_iter().enumerate() {
            let known = match parent.look_up(&listed) {
                Known::File(file) => self.unless_purged(file, around.scope.as_deref())?,
                Known::Folder(tree) => {
                    folders.push((slot, Some(tree)));
                    continue;
                }
                Known::Unknown => None,
            };
            if listed.kind == Kind::Directory {
                folders.push((slot, None));
                continue;
            }
            self.shared.progress.counters().expect(1, listed.meta.size);
            batch_bytes += if known.is_some() { 0 } else { listed.meta.size };
            batch.push(Item { slot, listed, known });
            if batch.len() >= BATCH_FILES || batch_bytes >= BATCH_BYTES {
                let items = std::mem::take(&mut batch);
                batch_bytes = 0;
                self.send(&around, items)?;
            }
        }
        self.send(&around, batch)?;
        self.worker.deliver(&around.job, [])?;
        Ok(Level { job: around.job, folders: folders.into_iter() })
    }

    /// What was purged and counts for the files of a folder.
    fn scope(&self, folder: &Folder, logical: &[u8]) -> Option<Arc<Scope>> {
        let tombstones = self.shared.tombstones.as_ref()?;
        let path = match folder.state {
            // The listing around a single file.
            FolderState::Partial => start::split(logical).0.to_vec(),
            _ if folder.path.is_empty() => logical.to_vec(),
            _ => join(logical, &folder.path),
        };
        tombstones.over(&path)
    }

    /// An unchanged file, unless something in it may have been purged since: then it is read again.
    fn unless_purged(
        &self,
        file: Box<KnownFile>,
        scope: Option<&Scope>,
    ) -> Result<Option<Box<KnownFile>>, RepoError> {
        let Some((scope, parent)) = scope.zip(self.parent) else { return Ok(Some(file)) };
        let concerned = scope.concerns(&file.file.content, |id: &BlobId| parent.reader.page(id));
        match concerned {
            Ok(false) => Ok(Some(file)),
            Err(error) if error.ends_the_run() => Err(error),
            // What cannot be read of the parent costs time, no mail.
            Ok(true) | Err(_) => Ok(None),
        }
    }

    fn send(&mut self, around: &Around<'a>, items: Vec<Item>) -> Result<(), RepoError> {
        if items.is_empty() {
            return Ok(());
        }
        let Some(dir) = &around.dir else {
            // A folder that could not be opened has no entries; should one appear, it is told and left out.
            items.iter().for_each(|item| {
                let problem =
                    Problem::new(item.listed.name.to_vec(), What::Unreadable, "its folder is closed");
                self.shared.report(problem);
            });
            return self
                .worker
                .deliver(&around.job, items.into_iter().map(|item| (item.slot, Slot::Nothing)));
        };
        let (job, dir) = (Arc::clone(&around.job), Arc::clone(dir));
        let (folder_name, scope) = (around.folder_name.clone(), around.scope.clone());
        self.batches.send(Batch { job, dir, folder_name, scope, items }).map_err(|_| stopped())
    }
}
