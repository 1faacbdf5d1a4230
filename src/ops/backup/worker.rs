//! A worker: takes a batch of one folder's files from open to sealed segment.

mod mailbox;
mod purged;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use purged::{Cuts, Digest};

use super::folder::{FolderJob, Slot};
use super::parent::KnownFile;
use super::reason::Why;
use super::shared::Shared;
use crate::base::id::BlobId;
use crate::base::limits;
use crate::chunk::{Hint, Sink, SplitStats, Splitter};
use crate::format::content::{BlobKind, Content, Section};
use crate::format::page::{Entry, File, Node, Owner, Xattr};
use crate::format::snapshot::Tree;
use crate::index::scan::Trace;
use crate::repo::RepoError;
use crate::repo::blob_writer::{LocalSegments, LocalWriter};
use crate::repo::content::ContentBuilder;
use crate::repo::tombstones::Scope;
use crate::source::dir::{Listed, OpenDir};
use crate::source::extents::Extent;
use crate::source::meta::{Kind, Meta};
use crate::source::problem::{Problem, What, join};
use crate::source::read::OpenFile;
use crate::source::shape::Shape;

/// Files up to this size are read whole; larger ones stream.
const WHOLE_FILE_BYTES: u64 = 4 << 20;
/// Bytes of a streamed file that are in memory at a time.
const BLOCK_BYTES: usize = 1 << 20;
/// How often a mailbox is looked at again that changes while messages are cut out of it.
const CUT_ATTEMPTS_MAX: usize = 3;

/// A file to be looked at.
pub struct Item {
    /// Where its entry belongs.
    pub slot: usize,
    /// What the listing said.
    pub listed: Listed,
    /// What the parent snapshot says when it is unchanged since, or why it is to be read.
    pub known: Result<Box<KnownFile>, Why>,
}

/// Some files of one folder.
pub struct Batch<'a> {
    /// The folder they belong to.
    pub job: Arc<FolderJob<'a>>,
    /// The folder.
    pub within: Within,
    /// What was purged and counts here.
    pub scope: Option<Arc<Scope>>,
    /// The files, in order.
    pub items: Vec<Item>,
}

/// The folder in which files are opened.
#[derive(Clone)]
pub struct Within {
    /// Opens them.
    pub dir: Arc<OpenDir>,
    /// The folder's own name.
    pub folder_name: Vec<u8>,
    /// What the folder is.
    pub shape: Shape,
}

/// One thread's tools.
pub struct Worker<'a> {
    shared: &'a Shared<'a>,
    /// Where its blobs go.
    pub local: LocalWriter<'a>,
    splitter: Splitter,
    buffer: Vec<u8>,
    /// What was purged and counts in the folder at hand.
    scope: Option<Arc<Scope>>,
    owners: HashMap<(u32, u32), Arc<Owner>>,
    /// What its splitter met.
    pub split: SplitStats,
}

/// Where the splitter's cuts go.
struct PieceSink<'w, 'a> {
    local: &'w mut LocalWriter<'a>,
    content: ContentBuilder,
}

impl Sink for PieceSink<'_, '_> {
    type Error = RepoError;

    fn blob(&mut self, kind: BlobKind, data: &[u8]) -> Result<BlobId, RepoError> {
        self.local.put(kind, data)
    }

    fn section(&mut self, section: Section) -> Result<(), RepoError> {
        self.content.push(section, &mut |page| self.local.put(BlobKind::Tree, page))
    }
}

/// A file that was read and stored.
struct Read {
    content: Content,
    /// Its length, bytes, without what was left out.
    size: u64,
    /// Of the whole file, if that was wanted.
    digest: Option<blake3::Hash>,
}

/// What reading a file does besides storing it.
#[derive(Clone, Copy)]
struct Extra<'c> {
    /// Ranges that are left out.
    cuts: Option<&'c Cuts>,
    /// The file is digested.
    digest: bool,
}

/// What came of a single file.
pub enum One {
    /// It is read.
    Entry(Box<Entry>),
    /// It is gone.
    Vanished,
    /// It could not be read, which is told; or it was purged.
    Nothing,
}

/// Why a file has no entry.
enum Failed {
    Source(Problem),
    Repository(RepoError),
    /// It was purged.
    Purged,
}

impl From<RepoError> for Failed {
    fn from(error: RepoError) -> Failed {
        Failed::Repository(error)
    }
}

impl<'a> Worker<'a> {
    /// A worker with its own segments and buffers.
    pub fn new(shared: &'a Shared<'a>) -> Worker<'a> {
        Worker {
            shared,
            local: LocalWriter::new(shared.blobs),
            splitter: Splitter::new(shared.keys.cut_secret),
            buffer: Vec::new(),
            scope: None,
            owners: HashMap::new(),
            split: SplitStats::default(),
        }
    }

    /// Gives up the segments that are not full.
    pub fn into_segments(self) -> LocalSegments {
        self.local.into_segments()
    }

    /// Takes a batch through; only the repository can fail.
    pub fn run(&mut self, batch: Batch<'a>) -> Result<(), RepoError> {
        let mut delivered = Vec::with_capacity(batch.items.len());
        self.scope = batch.scope;
        for item in batch.items {
            self.shared.interrupt.check()?;
            let (slot, size) = (item.slot, item.listed.meta.size);
            let what = match self.entry(&batch.within, item) {
                Ok((entry, seen)) => {
                    let trace = seen.map_or(Trace::NONE, |meta| batch.job.trace(&Kind::File, &meta));
                    Slot::Entry(Box::new(entry), trace)
                }
                Err(Failed::Repository(error)) => return Err(error),
                Err(Failed::Source(problem)) => {
                    self.shared.report(problem);
                    Slot::Nothing
                }
                Err(Failed::Purged) => {
                    purged::count(self.shared, 1);
                    Slot::Nothing
                }
            };
            self.shared.progress.counters().add(1, size);
            delivered.push((slot, what));
        }
        let local = &mut self.local;
        batch.job.deliver(delivered, &mut |page| local.put(BlobKind::Tree, page))
    }

    /// Takes one file of the folder at `logical` through, apart from any batch.
    pub fn one(&mut self, within: &Within, logical: &[u8], listed: Listed) -> Result<One, RepoError> {
        let item = Item { slot: 0, listed, known: Err(Why::New) };
        self.scope = self.shared.tombstones.as_ref().and_then(|tombstones| tombstones.over(logical));
        match self.entry(within, item) {
            Ok((entry, _)) => Ok(One::Entry(Box::new(entry))),
            Err(Failed::Repository(error)) => Err(error),
            Err(Failed::Source(problem)) if problem.what == What::Vanished => Ok(One::Vanished),
            Err(Failed::Source(problem)) => {
                self.shared.report(problem);
                Ok(One::Nothing)
            }
            Err(Failed::Purged) => {
                purged::count(self.shared, 1);
                Ok(One::Nothing)
            }
        }
    }

    /// Delivers without reading anything.
    pub fn deliver(
        &mut self,
        job: &Arc<FolderJob<'a>>,
        slots: impl IntoIterator<Item = (usize, Slot)>,
    ) -> Result<(), RepoError> {
        let local = &mut self.local;
        job.deliver(slots, &mut |page| local.put(BlobKind::Tree, page))
    }

    /// An owner with the names that its numbers have on this host.
    pub fn owner(&mut self, uid: u32, gid: u32) -> Arc<Owner> {
        let accounts = &self.shared.accounts;
        let owner = self.owners.entry((uid, gid)).or_insert_with(|| {
            let user = accounts.user(uid).unwrap_or_default().to_vec();
            let group = accounts.group(gid).unwrap_or_default().to_vec();
            Arc::new(Owner { uid, gid, user, group })
        });
        Arc::clone(owner)
    }

    /// Who runs this program.
    pub fn own_owner(&mut self) -> Arc<Owner> {
        self.owner(rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
    }

    /// An entry of the snapshot out of what the system says.
    pub fn entry_of(&mut self, name: &[u8], meta: &Meta, xattrs: Vec<Xattr>, node: Node) -> Entry {
        Entry {
            name: name.to_vec(),
            mode: (meta.mode & 0o7777) as u16,
            owner: self.owner(meta.uid, meta.gid),
            mtime_s: meta.mtime_s,
            mtime_ns: meta.mtime_ns,
            xattrs,
            node,
        }
    }

    /// The entry of a folder, whose listing is still to come.
    pub fn folder_entry(&mut self, name: &[u8], meta: &Meta) -> Entry {
        let empty = Tree { root: None, levels: 0, totals: Default::default() };
        self.entry_of(name, meta, sorted(meta.xattrs.clone()), Node::Folder(empty))
    }

    /// An entry, and for a file what the system said of the content that it has.
    fn entry(&mut self, within: &Within, item: Item) -> Result<(Entry, Option<Meta>), Failed> {
        let Item { listed, known, .. } = item;
        let node = match &listed.kind {
            Kind::File => return self.file(within, listed, known),
            Kind::Directory => Node::Folder(Tree { root: None, levels: 0, totals: Default::default() }),
            Kind::Symlink(target) => Node::Symlink(target.to_vec()),
            Kind::Fifo => Node::Fifo,
            Kind::Socket => Node::Socket,
            Kind::CharDevice { major, minor } => Node::CharDevice(*major, *minor),
            Kind::BlockDevice { major, minor } => Node::BlockDevice(*major, *minor),
        };
        // Many file systems know no attributes of links and devices; having none is no finding.
        let xattrs = within.dir.xattrs_of(&listed.name).map(|xattrs| xattrs.list).unwrap_or_default();
        Ok((self.entry_of(&listed.name, &listed.meta, sorted(xattrs), node), None))
    }

    /// The entry of an unchanged file; otherwise why it must be read.
    fn unchanged(
        &mut self,
        dir: &OpenDir,
        listed: &Listed,
        known: KnownFile,
    ) -> Result<Result<Entry, Why>, RepoError> {
        if !self.is_stored(&known.file.content)? {
            return Ok(Err(Why::Lost));
        }
        let KnownFile { mut file, xattrs, same } = known;
        let xattrs = match xattrs {
            Some(xattrs) => xattrs,
            None => match dir.xattrs_of(&listed.name) {
                Ok(found) if !found.cut => sorted(found.list),
                // What cannot be looked up by name is read through the open file, and told there.
                _ => return Ok(Err(Why::Touched)),
            },
        };
        file.link_group = self.link_group(&listed.meta);
        self.shared.counts.reasons.same(same, 1);
        Ok(Ok(self.entry_of(&listed.name, &listed.meta, xattrs, Node::File(file))))
    }

    fn file(
        &mut self,
        within: &Within,
        listed: Listed,
        known: Result<Box<KnownFile>, Why>,
    ) -> Result<(Entry, Option<Meta>), Failed> {
        let dir = &*within.dir;
        let why = match known {
            Err(why) => why,
            Ok(known) => match self.unchanged(dir, &listed, *known)? {
                Ok(entry) => return Ok((entry, Some(listed.meta))),
                Err(why) => why,
            },
        };
        let path = || join(dir.path(), &listed.name);
        let mut open = dir.open_file(&listed).map_err(Failed::Source)?;
        let Read { content, size, .. } = self.contents(within, &listed, &mut open)?;
        let xattrs = match open.xattrs() {
            Ok(xattrs) if xattrs.cut => {
                let why = "extended attributes too large, left out";
                self.shared.report(Problem::new(path(), What::Unsupported, why));
                xattrs.list
            }
            Ok(xattrs) => xattrs.list,
            Err(errno) => return Err(Failed::Source(Problem::from_errno(path(), errno))),
        };
        let counts = &self.shared.counts;
        counts.files_read.fetch_add(1, Ordering::Relaxed);
        counts.reasons.read(why);
        counts.bytes_read.fetch_add(size, Ordering::Relaxed);
        let is_steady = size == listed.meta.size;
        if !is_steady {
            counts.changed_while_read.fetch_add(1, Ordering::Relaxed);
        }
        let sparse = open.meta.maybe_sparse();
        let link_group = self.link_group(&open.meta);
        let node = Node::File(File { size, content, sparse, link_group });
        let entry = self.entry_of(&listed.name, &open.meta, sorted(xattrs), node);
        Ok((entry, is_steady.then(|| open.meta.clone())))
    }

    /// Reads a file through the splitter, without what was purged; with a digest of the whole file if that is wanted.
    fn read(
        &mut self,
        open: &OpenFile,
        hint: Hint,
        digest: bool,
        path: &dyn Fn() -> Vec<u8>,
    ) -> Result<Read, Failed> {
        let Some(scope) = self.scope.clone() else {
            return self.store(open, hint, Extra { cuts: None, digest }, path);
        };
        for _ in 0..CUT_ATTEMPTS_MAX {
            let found = self.look_for_purged(open, hint, &scope, path)?;
            let cuts = found.as_ref().map(|(cuts, _)| cuts);
            let read = self.store(open, hint, Extra { cuts, digest }, path)?;
            if cuts.is_none_or(|cuts| read.digest.is_some_and(|digest| cuts.fits(digest))) {
                purged::count(self.shared, found.map_or(0, |(_, messages)| messages));
                return Ok(read);
            }
        }
        Err(purged::unsteady(path()))
    }

    /// Reads a file, perhaps without some ranges of it.
    fn store(
        &mut self,
        open: &OpenFile,
        hint: Hint,
        extra: Extra<'_>,
        path: &dyn Fn() -> Vec<u8>,
    ) -> Result<Read, Failed> {
        let Worker { local, splitter, buffer, split, shared, .. } = self;
        let mut sink = PieceSink { local, content: ContentBuilder::default() };
        let (mut at, mut size) = (0, 0);
        let mut digest = (extra.digest || extra.cuts.is_some()).then(Digest::new);
        splitter.begin(hint);
        stretches(open, buffer, shared, path, &mut |chunk| {
            digest.iter_mut().for_each(|digest| digest.add(&chunk));
            match (chunk, extra.cuts) {
                (Chunk::Hole(length), _) => {
                    (at, size) = (at + length, size + length);
                    splitter.zeros(length, &mut sink)
                }
                (Chunk::Data(bytes), None) => {
                    size += bytes.len() as u64;
                    splitter.push(bytes, &mut sink)
                }
                (Chunk::Data(bytes), Some(cuts)) => {
                    let left = cuts.left(at, bytes);
                    at += bytes.len() as u64;
                    left.into_iter().try_for_each(|part| {
                        size += part.len() as u64;
                        splitter.push(part, &mut sink)
                    })
                }
            }
        })?;
        *split += splitter.finish(&mut sink)?;
        let PieceSink { local, mut content } = sink;
        let content = content.finish(&mut |page| local.put(BlobKind::Tree, page))?;
        Ok(Read { content, size, digest: digest.map(Digest::finish) })
    }

    /// Reads a stream that has no file behind it.
    pub fn read_stream(
        &mut self,
        stream: &mut dyn std::io::Read,
    ) -> Result<(Content, u64), Result<std::io::Error, RepoError>> {
        let Worker { local, splitter, buffer, split, shared, .. } = self;
        let mut sink = PieceSink { local, content: ContentBuilder::default() };
        splitter.begin(crate::chunk::Hint::Detect);
        buffer.resize(BLOCK_BYTES, 0);
        let mut size = 0;
        loop {
            shared.interrupt.check().map_err(|stop| Err(stop.into()))?;
            match stream.read(buffer) {
                Ok(0) => break,
                Ok(got) => {
                    splitter.push(&buffer[..got], &mut sink).map_err(Err)?;
                    size += got as u64;
                    shared.progress.counters().add(0, got as u64);
                }
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Ok(error)),
            }
        }
        *split += splitter.finish(&mut sink).map_err(Err)?;
        let PieceSink { local, mut content } = sink;
        let content = content.finish(&mut |page| local.put(BlobKind::Tree, page)).map_err(Err)?;
        Ok((content, size))
    }

    /// Does the repository still hold what the parent refers to? A lost pack is healed by reading again.
    pub fn is_stored(&self, content: &Content) -> Result<bool, RepoError> {
        let presence = self.shared.presence;
        if !presence.doubtful {
            return Ok(true);
        }
        match content {
            Content::Paged { .. } => Ok(false),
            Content::Inline(sections) => {
                for id in sections.iter().flat_map(|s| &s.pieces).flat_map(|piece| piece.blobs()) {
                    if !presence.holds(id)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
        }
    }

    fn link_group(&self, meta: &Meta) -> Option<u64> {
        if meta.nlink < 2 {
            return None;
        }
        let mut hasher = blake3::Hasher::new_keyed(&self.shared.keys.link_key);
        hasher.update(&meta.device.to_le_bytes()).update(&meta.inode.to_le_bytes());
        Some(u64::from_le_bytes(*hasher.finalize().as_bytes().first_chunk().expect("32 bytes hold 8")))
    }
}

/// The next bytes of a file.
enum Chunk<'b> {
    Data(&'b [u8]),
    Hole(u64),
}

/// Gives a file from its beginning to its end.
fn stretches(
    open: &OpenFile,
    buffer: &mut Vec<u8>,
    shared: &Shared<'_>,
    path: &dyn Fn() -> Vec<u8>,
    give: &mut dyn FnMut(Chunk<'_>) -> Result<(), RepoError>,
) -> Result<(), Failed> {
    let trouble = |errno| Failed::Source(Problem::from_errno(path(), errno));
    if let Some(taken) = open.taken() {
        return Ok(give(Chunk::Data(taken))?);
    }
    buffer.clear();
    if open.limit() <= WHOLE_FILE_BYTES {
        open.read_into(buffer).map_err(trouble)?;
        return Ok(give(Chunk::Data(buffer))?);
    }
    let whole = [Ok(Extent::Data { offset: 0, len: open.limit() })];
    let mut sparse = open.meta.maybe_sparse().then(|| open.extents());
    let extents: &mut dyn Iterator<Item = _> = match sparse {
        Some(ref mut extents) => extents,
        None => &mut whole.into_iter(),
    };
    for extent in extents {
        let (mut at, end) = match extent.map_err(trouble)? {
            Extent::Hole { len: length, .. } => {
                give(Chunk::Hole(length))?;
                continue;
            }
            Extent::Data { offset, len: length } => (offset, offset + length),
        };
        while at < end {
            shared.interrupt.check().map_err(RepoError::from)?;
            buffer.clear();
            let most = (end - at).min(BLOCK_BYTES as u64) as usize;
            let got = open.read_at(at, most, buffer).map_err(trouble)?;
            if got == 0 {
                break;
            }
            give(Chunk::Data(buffer))?;
            at += got as u64;
        }
    }
    Ok(())
}

fn sorted(mut xattrs: Vec<Xattr>) -> Vec<Xattr> {
    xattrs.sort();
    xattrs.retain(|(name, value)| name.len() + value.len() <= limits::XATTR_INLINE_MAX);
    xattrs
}
