//! The scan cache in a run: which folders need not be listed, which files are old friends under new names, and what
//! the next run is to know.

use std::collections::HashMap;
use std::sync::Arc;

use crossbeam_channel::Sender;

use super::parent::{Known, KnownFile, is_same_file};
use super::reason::{Same, Why};
use crate::base::id::BlobId;
use crate::format::content::Content;
use crate::format::page::{Entry, Node, Page};
use crate::format::snapshot::Tree;
use crate::index::scan::{FolderKey, FolderState, ScanCache, Spot, Stamp, Trace, Traces};
use crate::mail::maildir;
use crate::repo::reader::BlobReader;
use crate::source::dir::Listed;
use crate::source::file_system::FileSystem;
use crate::source::meta::{Kind, Meta};
use crate::source::walk::Folder;

/// Within so many days every folder is listed at least once, touched or not.
const ROUND_DAYS: u32 = 7;
/// Of so many files in a folder that has its turn, one is read again.
const SAMPLE: u64 = 64;

const DAY_NANOS: i64 = 86_400_000_000_000;

/// A page of a listing with the traces of its entries; without them when they are as they were.
pub type SeenPage = (BlobId, Option<Vec<Trace>>);

/// What a run saw of one folder.
pub enum Sighting {
    /// It is as it was.
    Kept(FolderKey),
    /// It was listed, and is otherwise than it was.
    Listed {
        /// Which.
        key: FolderKey,
        /// What was seen of it.
        state: FolderState,
        /// The pages of its listing.
        pages: Vec<SeenPage>,
        /// Bytes of all pages, of a folder that is listed in every run.
        contents: Vec<(BlobId, Vec<u8>)>,
    },
    /// That was all.
    End,
}

/// What the last run saw of a folder and its files.
#[derive(Default)]
pub struct Recall {
    /// The folder.
    pub state: Option<FolderState>,
    /// Its files.
    pub traces: Traces,
    /// Pages of its listing.
    pub contents: HashMap<BlobId, Vec<u8>>,
    /// It has its turn to be looked at closely.
    pub is_due: bool,
}

/// What is to be told of a folder when its pages are done.
pub struct Sight {
    key: FolderKey,
    state: FolderState,
    file_system: FileSystem,
    seen: i64,
    of_messages: bool,
    before: Arc<Recall>,
    sightings: Sender<Sighting>,
}

impl Sight {
    /// What to remember of a file; nothing of one that was touched just now.
    pub fn trace(&self, kind: &Kind, meta: &Meta) -> Trace {
        let is_settled = self.file_system.is_settled(meta.mtime(), self.seen)
            // A message is whole before it gets its name; renames are no reason to doubt it.
            && (self.of_messages || self.file_system.has_ticked(meta.ctime(), self.seen));
        match kind {
            Kind::File if is_settled => {
                Trace { inode: meta.inode, birth: meta.birth.unwrap_or(0), ctime: meta.ctime() }
            }
            _ => Trace::NONE,
        }
    }

    /// Tells it. A folder of which something is missing is listed again next time.
    pub fn tell(&self, tree: &Tree, pages: Vec<SeenPage>, contents: Vec<(BlobId, Vec<u8>)>, is_whole: bool) {
        let stamp = self.state.stamp.filter(|_| is_whole);
        let state = FolderState { stamp, root: tree.root, ..self.state };
        let as_it_was = |(page, traces): &SeenPage| {
            traces.as_ref().is_none_or(|traces| self.before.traces.are(page, traces))
        };
        let is_known = self.before.state == Some(state) && pages.iter().all(as_it_was);
        let key = self.key;
        let sighting = match is_known {
            true => Sighting::Kept(key),
            false => Sighting::Listed { key, state, pages, contents },
        };
        // Nobody listens any more when the cache failed: it costs time next time.
        let _ = self.sightings.send(sighting);
    }

    /// A folder that is listed in every run: its pages are kept at hand.
    pub fn keeps_contents(&self) -> bool {
        !self.of_messages
    }
}

/// How thoroughly a run looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Care {
    /// List every folder and look at every file.
    pub rescan: bool,
    /// Read every file.
    pub reread: bool,
}

/// The scan cache as a run consults and feeds it.
pub struct Scan<'a> {
    /// What the last run saw; none when that is of no use for this one.
    pub cache: Option<ScanCache>,
    /// Untouched folders may be passed over: what is left out is the same as then, and nothing is doubtful.
    pub may_pass_over: bool,
    /// Where sightings go.
    pub sightings: Option<Sender<Sighting>>,
    /// The parent's pages.
    pub reader: Option<&'a BlobReader<'a>>,
    /// When this run began, unix nanoseconds.
    pub started: i64,
    /// The page read last, for files that moved together.
    pub last_page: Option<(BlobId, Vec<Entry>)>,
}

impl<'a> Scan<'a> {
    /// Remembers nothing and knows nothing.
    pub fn none() -> Scan<'a> {
        Scan { cache: None, may_pass_over: false, sightings: None, reader: None, started: 0, last_page: None }
    }

    fn day(&self) -> u32 {
        u32::try_from(self.started.div_euclid(DAY_NANOS)).unwrap_or(0)
    }

    fn ask<T>(&mut self, question: impl FnOnce(&ScanCache) -> crate::index::Result<T>) -> Option<T> {
        let answer = question(self.cache.as_ref()?);
        if answer.is_err() {
            // A cache that fails is not asked again.
            self.cache = None;
        }
        answer.ok()
    }

    /// What is known of a folder.
    pub fn state(&mut self, key: &FolderKey) -> Option<FolderState> {
        self.ask(|cache| cache.folder(key))?
    }

    /// Has the folder its turn to be looked at closely?
    pub fn is_due(&self, key: &FolderKey, state: Option<&FolderState>) -> bool {
        let (Some(state), today) = (state, self.day()) else { return false };
        let turn = key.dice().wrapping_add(u64::from(today)) % u64::from(ROUND_DAYS) == 0;
        today.abs_diff(state.day) >= ROUND_DAYS || turn && state.day != today
    }

    /// Is a file of a folder that has its turn one of those that are read?
    pub fn is_sampled(&self, name: &[u8]) -> bool {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.day().to_le_bytes()).update(name);
        u64::from_le_bytes(*hasher.finalize().as_bytes().first_chunk().expect("a digest holds 8 bytes"))
            .is_multiple_of(SAMPLE)
    }

    /// Did nobody touch the folder of messages `listed` since its listing `tree` was read?
    ///
    /// Then the listing is as it was. It must be the parent's, and hold no folder, in which anything may have changed.
    pub fn is_untouched(&mut self, key: &FolderKey, around: &Folder, listed: &Listed, tree: &Tree) -> bool {
        let (meta, file_system) = (&listed.meta, around.file_system);
        if !self.may_pass_over || tree.totals.folders > 0 || meta.device != around.meta.device {
            return false;
        }
        let Some(state) = self.state(key) else { return false };
        state.root == tree.root
            && state.stamp == Some(stamp(meta))
            && (state.file_system == file_system.id || meta.birth.is_some())
            && !self.is_due(key, Some(&state))
    }

    /// Tells that a folder is as it was.
    pub fn keep(&self, key: FolderKey) {
        if let Some(sightings) = &self.sightings {
            let _ = sightings.send(Sighting::Kept(key));
        }
    }

    /// What is to be told of a folder that is listed.
    pub fn sight(
        &self,
        key: FolderKey,
        folder: &Folder,
        of_messages: bool,
        before: Arc<Recall>,
    ) -> Option<Sight> {
        let sightings = self.sightings.clone()?;
        // Its turn is over only when it had it.
        let day = before.state.filter(|_| !before.is_due).map(|state| state.day);
        let changed = folder.meta.mtime().max(folder.meta.ctime());
        let is_settled = folder.file_system.is_settled(changed, folder.seen);
        let stamp = Some(stamp(&folder.meta)).filter(|_| is_settled && folder.problems.is_empty());
        let day = day.unwrap_or(self.day());
        let state = FolderState { file_system: folder.file_system.id, stamp, root: None, day };
        let (file_system, seen) = (folder.file_system, folder.seen);
        Some(Sight { key, state, file_system, seen, of_messages, before, sightings })
    }

    /// What is known of a folder and its files.
    pub fn recall(&mut self, key: &FolderKey, folder: &Folder, of_messages: bool) -> Recall {
        let Some(state) = self.state(key) else { return Recall::default() };
        let is_due = self.is_due(key, Some(&state));
        // Numbers of another file system say nothing; births do.
        let is_comparable = state.file_system == folder.file_system.id || folder.meta.birth.is_some();
        let traces = match is_comparable {
            true => self.ask(|cache| cache.traces(key)).unwrap_or_default(),
            false => Traces::default(),
        };
        let contents = match of_messages {
            true => HashMap::new(),
            false => self.ask(|cache| cache.contents(key)).unwrap_or_default(),
        };
        Recall { state: Some(state), traces, contents, is_due }
    }

    /// Decides whether a file is taken from the parent, by what that one says of its name, or else as a message that
    /// stood elsewhere.
    pub fn recognise(
        &mut self,
        known: Known,
        listed: &Listed,
        of_messages: bool,
    ) -> Result<Box<KnownFile>, Why> {
        match known {
            Known::File(file) => Ok(file),
            Known::Folder(..) => Err(Why::Replaced),
            Known::Unknown(why @ (Why::New | Why::Replaced)) if of_messages => self.moved(listed).ok_or(why),
            Known::Unknown(why) => Err(why),
        }
    }

    /// A message that stood elsewhere in the parent snapshot.
    fn moved(&mut self, listed: &Listed) -> Option<Box<KnownFile>> {
        let meta = &listed.meta;
        let ended = self.cache.as_ref()?.binding()?.ended;
        // What was born since stood nowhere.
        if listed.kind != Kind::File || meta.birth.is_some_and(|birth| birth > ended) {
            return None;
        }
        let spots = self.ask(|cache| cache.spots(meta.inode))?;
        spots.iter().find_map(|spot| self.entry_at(spot, listed))
    }

    fn entry_at(&mut self, spot: &Spot, listed: &Listed) -> Option<Box<KnownFile>> {
        if self.last_page.as_ref().is_none_or(|(page, _)| *page != spot.page) {
            let bytes = self.reader?.page(&spot.page).ok()?;
            let Ok(Page::Leaf(entries)) = Page::decode(bytes.as_ref()) else { return None };
            self.last_page = Some((spot.page, entries));
        }
        let entry = self.last_page.as_ref()?.1.get(spot.position)?;
        let Node::File(file) = &entry.node else { return None };
        let same_name = maildir::base(&entry.name) == maildir::base(&listed.name);
        // What a list of pages refers to is sure to be there only below a page of the parent.
        let is_whole = matches!(file.content, Content::Inline(_));
        let same = is_same_file(&spot.trace, entry, file, &listed.meta);
        if !same || !is_whole || spot.trace.birth == 0 && !same_name {
            return None;
        }
        let xattrs = (spot.trace.ctime == listed.meta.ctime()).then(|| entry.xattrs.clone());
        Some(Box::new(KnownFile { file: file.clone(), xattrs, same: Same::Moved }))
    }
}

/// What tells an untouched folder from a touched one.
pub fn stamp(meta: &Meta) -> Stamp {
    Stamp {
        inode: meta.inode,
        birth: meta.birth,
        mtime: meta.mtime(),
        ctime: meta.ctime(),
        mode: meta.mode,
        uid: meta.uid,
        gid: meta.gid,
    }
}
