//! The walking thread: goes through the source, compares with the parent, and hands to the workers what is to be
//! read.

mod held;
mod late;
mod whole;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use crossbeam_channel::Sender;

pub(super) use held::Holding;
use late::Late;

use super::folder::{FolderJob, Slot};
use super::parent::{Known, KnownFile, ParentFolder};
use super::reason::{Same, Why};
use super::scan::{Recall, Scan, Sight, stamp};
use super::shared::Shared;
use super::worker::{Batch, Item, Within, Worker};
use crate::base::id::BlobId;
use crate::format::content::Content;
use crate::format::page::{Entry, Node};
use crate::format::snapshot::Tree;
use crate::index::scan::{FolderKey, Trace};
use crate::repo::RepoError;
use crate::repo::reader::BlobReader;
use crate::repo::tombstones::Scope;
use crate::repo::tree::{PageCut, find};
use crate::repo::view::join;
use crate::source::dir::{Listed, Name, OpenDir};
use crate::source::live::Live;
use crate::source::meta::Kind;
use crate::source::needless::NeedlessCounts;
use crate::source::problem::{Problem, What};
use crate::source::shape::{Shape, is_of_messages};
use crate::source::start;
use crate::source::walk::{Event, Folder, FolderState, Walk};

/// Files in a batch; few enough that the last batch does not keep one worker alone for long.
const BATCH_FILES: usize = 128;
/// Bytes in a batch.
const BATCH_BYTES: u64 = 4 << 20;

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
    /// Slots of the folders that the walk enters, in its order, with what the parent knows.
    folders: std::vec::IntoIter<(usize, Option<Tree>)>,
    /// Its UID list, read when the walk leaves the folder.
    late: Option<Late<'a>>,
}

/// A part's first folder and its listing, with what the parent knows of the folder.
struct BegunPart<'a> {
    folder: Arc<FolderJob<'a>>,
    part: Arc<FolderJob<'a>>,
    known: Option<Tree>,
}

/// Where the files of a folder are opened and where their entries go.
#[derive(Clone)]
struct Around<'a> {
    job: Arc<FolderJob<'a>>,
    dir: Option<Arc<OpenDir>>,
    folder_name: Vec<u8>,
    shape: Shape,
    scope: Option<Arc<Scope>>,
}

/// What is known of a folder while its entries are compared.
struct Look<'p> {
    parent: ParentFolder<'p>,
    /// Its path in the snapshot.
    path: Vec<u8>,
    /// It is one of these.
    of_messages: bool,
    /// It has its turn to be looked at closely.
    is_due: bool,
    /// Pages of the parent whose files are as they were may be taken over.
    takes_pages: bool,
}

/// A folder's path in the snapshot.
fn path_of(folder: &Folder, logical: &[u8]) -> Vec<u8> {
    match folder.state {
        // The listing around a single file.
        FolderState::Partial => start::split(logical).0.to_vec(),
        _ if folder.path.is_empty() => logical.to_vec(),
        _ => join(logical, &folder.path),
    }
}

fn key_of(folder: &Folder, logical: &[u8]) -> FolderKey {
    FolderKey::of(&path_of(folder, logical))
}

/// The walking thread's side of the pipeline.
pub struct Walker<'a, 'p> {
    shared: &'a Shared<'a>,
    cut: &'a PageCut,
    parent: Option<&'p Parent<'p>>,
    scan: Scan<'p>,
    batches: Sender<Batch<'a>>,
    worker: Worker<'a>,
    /// UID lists that are read when everything else was walked.
    at_the_end: Vec<Late<'a>>,
    /// Folders of messages that are passed over are watched too.
    pub live: Option<Arc<Mutex<Live>>>,
    /// Index files of Maildir folders are read once a day.
    pub holding: bool,
    /// Entries left out so far by a pattern or as part of the backup itself.
    pub left_out: u64,
    /// Entries left out so far because a mail server makes them again.
    pub needless: NeedlessCounts,
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
        scan: Scan<'p>,
        batches: Sender<Batch<'a>>,
    ) -> Walker<'a, 'p> {
        Walker {
            shared,
            cut,
            parent,
            scan,
            batches,
            worker: Worker::new(shared),
            at_the_end: Vec::new(),
            live: None,
            holding: true,
            left_out: 0,
            needless: NeedlessCounts::default(),
        }
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
    pub fn part(&mut self, mut walk: Walk, logical: &[u8]) -> Result<Arc<FolderJob<'a>>, RepoError> {
        let known = self
            .parent
            .and_then(|parent| parent.parts.iter().find(|(path, _)| path == logical).map(|(_, tree)| *tree));
        let mut levels: Vec<Level<'a>> = Vec::new();
        let mut part = None;
        while let Some(event) = walk.next() {
            self.shared.interrupt.check()?;
            match event {
                Event::Enter(folder) => {
                    let recall = self.recall(&folder, logical);
                    let (job, tree) = match levels.last_mut() {
                        None => {
                            let begun = self.begin_part(&folder, logical, known.as_ref(), &recall);
                            part = Some(begun.part);
                            (begun.folder, begun.known)
                        }
                        Some(level) => {
                            let (slot, tree) =
                                level.folders.next().expect("one slot for every folder entered");
                            let parent = Arc::clone(&level.job);
                            match self.begin_folder(&folder, logical, (&parent, slot), &recall)? {
                                Some(job) => (job, tree),
                                None => {
                                    let folders = Vec::new().into_iter();
                                    levels.push(Level { job: parent, folders, late: None });
                                    continue;
                                }
                            }
                        }
                    };
                    let mut level = self.enter(&mut walk, *folder, logical, job, (tree, recall))?;
                    // Those that lie deep in each other are not all kept open.
                    let waiting = levels.iter().filter(|level| level.late.is_some()).count();
                    level.late.iter_mut().for_each(|late| late.bound(waiting));
                    levels.push(level);
                }
                Event::Leave => {
                    if let Some(late) = levels.pop().and_then(|level| level.late) {
                        self.catch_up(late)?;
                    }
                }
            }
        }
        Ok(part.expect("a walk enters at least one folder"))
    }

    fn begin_part(
        &mut self,
        folder: &Folder,
        logical: &[u8],
        known: Option<&Tree>,
        recall: &Arc<Recall>,
    ) -> BegunPart<'a> {
        let names = folder.entries.len();
        let (_, name) = start::split(logical);
        if folder.state == FolderState::Partial || name.is_empty() {
            // The listing around a single file, or that of `/`, is the part's listing itself.
            let sight = self.sight(folder, logical, recall);
            let part = FolderJob::part(self.cut, names, sight);
            return BegunPart { folder: Arc::clone(&part), part, known: known.copied() };
        }
        let part = FolderJob::part(self.cut, 1, None);
        let own = self.worker.folder_entry(name, &folder.meta);
        let job = FolderJob::below(self.cut, names, own, (&part, 0), self.sight(folder, logical, recall));
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
        logical: &[u8],
        (parent, slot): (&Arc<FolderJob<'a>>, usize),
        recall: &Arc<Recall>,
    ) -> Result<Option<Arc<FolderJob<'a>>>, RepoError> {
        if folder.state == FolderState::Vanished {
            self.report(folder);
            self.worker.deliver(parent, [(slot, Slot::Nothing)])?;
            return Ok(None);
        }
        let own: Entry = self.worker.folder_entry(folder.name(), &folder.meta);
        let sight = self.sight(folder, logical, recall);
        Ok(Some(FolderJob::below(self.cut, folder.entries.len(), own, (parent, slot), sight)))
    }

    /// What the scan cache will know of a folder; nothing of one that was not listed as a whole.
    fn sight(&self, folder: &Folder, logical: &[u8], recall: &Arc<Recall>) -> Option<Sight> {
        if folder.state != FolderState::Read {
            return None;
        }
        self.scan.sight(key_of(folder, logical), folder, is_of_messages(folder.name()), Arc::clone(recall))
    }

    /// What the last run saw of a folder.
    fn recall(&mut self, folder: &Folder, logical: &[u8]) -> Arc<Recall> {
        match folder.state {
            FolderState::Read => {
                let key = key_of(folder, logical);
                Arc::new(self.scan.recall(&key, folder, is_of_messages(folder.name())))
            }
            _ => Arc::default(),
        }
    }

    fn report(&self, folder: &Folder) {
        folder.problems.iter().for_each(|problem| self.shared.report(problem.clone()));
    }

    /// Compares a folder's entries with the parent's and hands the files to the workers.
    fn enter(
        &mut self,
        walk: &mut Walk,
        mut folder: Folder,
        logical: &[u8],
        job: Arc<FolderJob<'a>>,
        known: (Option<Tree>, Arc<Recall>),
    ) -> Result<Level<'a>, RepoError> {
        let scope = self.scope(&folder, logical);
        self.report(&folder);
        self.left_out += folder.left_out;
        self.needless += folder.needless;
        let mut holding = Holding::new(&folder, known.0.as_ref());
        let entries = std::mem::take(&mut folder.entries);
        let mut look = self.look(&folder, logical, known);
        let (folder_name, shape) = (folder.name().to_vec(), folder.shape);
        let around = Around { job, dir: folder.dir.clone(), folder_name, shape, scope };
        let mut folders: Vec<(Name, usize, Option<Tree>)> = Vec::new();
        let (mut list, mut batch) = (None, Vec::new());
        let mut batch_bytes = 0;
        let (names, mut entries) = (entries.len(), entries.into_iter());
        loop {
            self.take_pages(&mut look, &around, (names, &mut entries))?;
            let slot = names - entries.len();
            let Some(listed) = entries.next() else { break };
            let known = look.parent.look_up(&listed);
            if listed.kind == Kind::Directory {
                let Known::Folder(entry, tree) = known else {
                    folders.push((listed.name, slot, None));
                    continue;
                };
                match self.passed_over(&folder, &look, &listed, *entry) {
                    None => folders.push((listed.name, slot, Some(tree))),
                    Some(kept) => {
                        walk.pass_over(&listed.name);
                        self.worker.deliver(&around.job, [(slot, kept)])?;
                    }
                }
                continue;
            }
            let known = match self.settle(known, &listed, &look) {
                Ok(file) => self.unless_purged(file, around.scope.as_deref())?,
                Err(why) => Err(why),
            };
            self.shared.progress.counters().expect(1, listed.meta.size);
            if let Err(why) = known
                && let Some(held) = self.hold(&mut holding, (&listed, why), around.scope.as_deref())?
            {
                self.worker.deliver(&around.job, [(slot, held)])?;
                continue;
            }
            batch_bytes += if known.is_ok() { 0 } else { listed.meta.size };
            let item = Item { slot, listed, known };
            if around.is_uid_list(&item.listed) {
                list = Some(item);
                continue;
            }
            batch.push(item);
            if batch.len() >= BATCH_FILES || batch_bytes >= BATCH_BYTES {
                let items = std::mem::take(&mut batch);
                batch_bytes = 0;
                self.send(&around, items)?;
            }
        }
        let looks = folders.iter().any(|(name, ..)| is_of_messages(name));
        let late = list.and_then(|item| self.put_off(&around, item, looks, &mut batch));
        self.send(&around, batch)?;
        self.worker.deliver(&around.job, [])?;
        around.shape.put_in_order(&mut folders, |(name, ..)| name);
        let folders: Vec<_> = folders.into_iter().map(|(_, slot, tree)| (slot, tree)).collect();
        Ok(Level { job: around.job, folders: folders.into_iter(), late })
    }

    /// Gets together what is known of a folder.
    fn look(
        &mut self,
        folder: &Folder,
        logical: &[u8],
        (known, recall): (Option<Tree>, Arc<Recall>),
    ) -> Look<'p> {
        let (is_due, of_messages) = (recall.is_due, is_of_messages(folder.name()));
        let parent = match (known, self.parent) {
            _ if self.shared.care.reread => ParentFolder::none(),
            (Some(tree), Some(parent)) => {
                ParentFolder::new(&tree, folder.name(), parent.started, parent.reader, recall)
            }
            _ => ParentFolder::none(),
        };
        // Elsewhere index files and UID lists have ways of their own.
        let takes_pages = folder.shape == Shape::Messages && !is_due && !self.shared.presence.doubtful;
        Look { parent, path: path_of(folder, logical), of_messages, is_due, takes_pages }
    }

    /// The entry of a folder of messages that nobody touched since the parent.
    fn passed_over(
        &mut self,
        around: &Folder,
        look: &Look<'_>,
        listed: &Listed,
        entry: Entry,
    ) -> Option<Slot> {
        let Node::Folder(tree) = entry.node else { return None };
        if around.shape != Shape::Maildir || !is_of_messages(&listed.name) {
            return None;
        }
        let path = join(&look.path, &listed.name);
        let key = FolderKey::of(&path);
        if !self.scan.is_untouched(&key, around, listed, &tree) || !self.is_watched(around, path, listed) {
            return None;
        }
        self.scan.keep(key);
        self.shared.counts.reasons.same(Same::Folder, tree.totals.files);
        self.shared.counts.folders_passed_over.fetch_add(1, Ordering::Relaxed);
        let counters = self.shared.progress.counters();
        counters.expect(tree.totals.files, tree.totals.bytes);
        counters.add(tree.totals.files, tree.totals.bytes);
        let own = self.worker.entry_of(&listed.name, &listed.meta, entry.xattrs, Node::Folder(tree));
        Some(Slot::Entry(Box::new(own), Trace::NONE))
    }

    /// Watches a folder that is to be passed over; false when it was touched meanwhile.
    fn is_watched(&self, around: &Folder, path: Vec<u8>, listed: &Listed) -> bool {
        let (Some(live), Some(around_dir)) = (&self.live, &around.dir) else { return true };
        let Ok(dir) = around_dir.open_folder(&listed.name) else { return false };
        let is_remote = around.file_system.is_remote;
        live.lock().expect("no holder panics").pass_over(&dir, path, &listed.meta, is_remote);
        dir.meta().is_ok_and(|meta| stamp(&meta) == stamp(&listed.meta))
    }

    /// Decides whether a file is taken from the parent.
    fn settle(&mut self, known: Known, listed: &Listed, look: &Look<'_>) -> Result<Box<KnownFile>, Why> {
        match known {
            _ if self.shared.care.reread => Err(Why::Asked),
            Known::File(_) if look.is_due && look.of_messages && self.scan.is_sampled(&listed.name) => {
                Err(Why::Sampled)
            }
            known => self.scan.recognise(known, listed, look.of_messages),
        }
    }

    /// What was purged and counts for the files of a folder.
    fn scope(&self, folder: &Folder, logical: &[u8]) -> Option<Arc<Scope>> {
        let tombstones = self.shared.tombstones.as_ref()?;
        tombstones.over(&path_of(folder, logical))
    }

    /// An unchanged file, unless something in it may have been purged since: then it is read again.
    fn unless_purged(
        &self,
        file: Box<KnownFile>,
        scope: Option<&Scope>,
    ) -> Result<Result<Box<KnownFile>, Why>, RepoError> {
        Ok(if self.concerns(&file.file.content, scope)? { Err(Why::Purged) } else { Ok(file) })
    }

    /// May something in what the parent knows have been purged since?
    fn concerns(&self, content: &Content, scope: Option<&Scope>) -> Result<bool, RepoError> {
        let Some((scope, parent)) = scope.zip(self.parent) else { return Ok(false) };
        let concerned = scope.concerns(content, |id: &BlobId| {
            self.shared.interrupt.check()?;
            parent.reader.page(id)
        });
        match concerned {
            Err(error) if error.ends_the_run() => Err(error),
            // What cannot be read of the parent costs time, no mail.
            Err(_) => Ok(true),
            told => Ok(told?),
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
        let within = Within { dir, folder_name, shape: around.shape };
        let batch = Batch { job, within, scope, items };
        self.batches.send(batch).map_err(|_| stopped())
    }
}
