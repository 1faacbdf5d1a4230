//! What the previous snapshot of the job knows, and the scan cache beside it: unchanged files are taken from there
//! without being read.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::sync::Arc;

use super::reason::{Same, Why};
use super::scan::Recall;
use super::whole_page::{OwnerOf, WholePage, are_as_they_were};
use crate::base::id::BlobId;
use crate::format::page::{Entry, File, Node, Xattr};
use crate::format::snapshot::Tree;
use crate::index::scan::Trace;
use crate::mail::maildir;
use crate::repo::RepoError;
use crate::repo::reader::{Blob, BlobReader};
use crate::repo::tree::{Leaf, OutlinedLeaf, Outlines, TreeError};
use crate::source::dir::Listed;
use crate::source::meta::{Kind, Meta};
use crate::source::shape::is_of_messages;

/// A file this young when the previous run began may have been written again within one tick of its clock.
const SETTLED_NANOS: i64 = 2_000_000_000;

/// One tick of a file system's clock, at its coarsest on Linux.
const TICK_NANOS: i64 = 10_000_000;

/// A page, from the repository or from what is at hand.
enum PageBytes {
    Read(Blob),
    AtHand(Vec<u8>),
}

impl AsRef<[u8]> for PageBytes {
    fn as_ref(&self) -> &[u8] {
        match self {
            PageBytes::Read(blob) => blob.as_ref(),
            PageBytes::AtHand(bytes) => bytes,
        }
    }
}

type Fetch<'a> = Box<dyn FnMut(&BlobId) -> Result<PageBytes, RepoError> + 'a>;
type Pages<'a> = Box<dyn Iterator<Item = Result<Leaf, TreeError<RepoError>>> + 'a>;

/// The same folder in the parent snapshot, walked along with the new listing.
pub struct ParentFolder<'a> {
    pages: Option<Pages<'a>>,
    /// The page at hand, not taken apart yet: then `entries` is empty.
    leaf: Option<Box<OutlinedLeaf>>,
    /// Entries of the page at hand, with what the scan cache knows of them, if anything.
    entries: VecDeque<(Entry, Option<Trace>)>,
    recall: Arc<Recall>,
    /// When the parent began, unix nanoseconds.
    started: i64,
    /// The folder holds messages, whose flags are no part of their identity.
    of_messages: bool,
}

/// An unchanged file.
pub struct KnownFile {
    /// Its content.
    pub file: File,
    /// Its extended attributes, unless they may have changed.
    pub xattrs: Option<Vec<Xattr>>,
    /// How it was recognised.
    pub same: Same,
}

/// What of a name stays the same for as long as the file does.
fn identity(of_messages: bool, name: &[u8]) -> &[u8] {
    if of_messages { maildir::base(name) } else { name }
}

/// What the parent says about one listed name.
pub enum Known {
    /// Nothing that helps.
    Unknown(Why),
    /// The same file, unchanged.
    File(Box<KnownFile>),
    /// A folder that was there already.
    Folder(Box<Entry>, Tree),
}

/// Is it the very file that was seen then? Without birth times the number alone proves little.
pub fn is_same_file(trace: &Trace, entry: &Entry, file: &File, meta: &Meta) -> bool {
    trace.inode == meta.inode
        && trace.birth == meta.birth.unwrap_or(0)
        && file.size == meta.size
        && (entry.mtime_s, entry.mtime_ns) == (meta.mtime_s, meta.mtime_ns)
}

impl<'a> ParentFolder<'a> {
    /// Without a parent, everything is new.
    pub fn none() -> ParentFolder<'a> {
        ParentFolder {
            pages: None,
            leaf: None,
            entries: VecDeque::new(),
            recall: Arc::default(),
            started: 0,
            of_messages: false,
        }
    }

    /// The folder `name` with listing `tree` in the parent that began at `started`; `recall` is of the same folder.
    pub fn new(
        tree: &Tree,
        name: &[u8],
        started: i64,
        reader: &'a BlobReader<'a>,
        recall: Arc<Recall>,
    ) -> ParentFolder<'a> {
        let at_hand = Arc::clone(&recall);
        let fetch: Fetch<'a> = Box::new(move |id| match at_hand.contents.get(id) {
            Some(bytes) if reader.proves_page(id, bytes) => Ok(PageBytes::AtHand(bytes.clone())),
            _ => reader.page(id).map(PageBytes::Read),
        });
        let pages: Pages<'a> = Box::new(Outlines::new(tree, fetch));
        let of_messages = is_of_messages(name);
        let entries = VecDeque::new();
        ParentFolder { pages: Some(pages), leaf: None, entries, recall, started, of_messages }
    }

    /// Turns to the next page when the one at hand is used up; false when there is none or it cannot be read.
    fn turn(&mut self) -> bool {
        while self.leaf.is_none() && self.entries.is_empty() {
            match self.pages.as_mut().and_then(Iterator::next) {
                Some(Ok(Leaf::Outlined(leaf))) => self.leaf = Some(leaf),
                Some(Ok(Leaf::Whole(page, entries))) => self.spread(page, entries),
                _ => {
                    self.pages = None;
                    return false;
                }
            }
        }
        true
    }

    fn spread(&mut self, page: BlobId, entries: Vec<Entry>) {
        let traces = self.recall.traces.of_page(&page, entries.len());
        let traces = traces.into_iter().flatten().map(Some).chain(std::iter::repeat(None));
        self.entries = entries.into_iter().zip(traces).collect();
    }

    /// The next page, if all of it stands at the beginning of what is `listed`, as it was: then its names need not be
    /// asked for any more. It is left where it is unless the page `may_serve`.
    pub fn whole_page(
        &mut self,
        listed: &[Listed],
        owner_of: OwnerOf<'_>,
        may_serve: &dyn Fn(&BlobId) -> bool,
    ) -> Option<WholePage> {
        if !self.of_messages || !self.entries.is_empty() || !self.turn() {
            return None;
        }
        let leaf = self.leaf.as_ref()?;
        let count = leaf.outline.count();
        let there = listed.get(..count)?;
        // The last page was not cut by a name, so nothing may follow.
        if leaf.is_last && listed.len() > count {
            return None;
        }
        let traces = self.recall.traces.of_page(&leaf.page, count)?;
        if !are_as_they_were(leaf, &traces, there, owner_of) || !may_serve(&leaf.page) {
            return None;
        }
        Some(WholePage::new(*self.leaf.take()?, traces))
    }

    /// The next entry, unless there is none or a page cannot be read: then everything that follows is new, which
    /// costs time, and no mail.
    fn peek(&mut self) -> Option<&(Entry, Option<Trace>)> {
        if !self.turn() {
            return None;
        }
        if let Some(leaf) = self.leaf.take() {
            match leaf.outline.into_entries() {
                Ok(entries) => self.spread(leaf.page, entries),
                Err(_) => self.pages = None,
            }
        }
        self.entries.front()
    }

    /// Asks for the next name; names must come in ascending order.
    ///
    /// A message is the same under any flags.
    pub fn look_up(&mut self, listed: &Listed) -> Known {
        let of_messages = self.of_messages;
        let wanted = identity(of_messages, &listed.name);
        loop {
            let order = match self.peek() {
                None => return Known::Unknown(Why::New),
                Some((entry, _)) => identity(of_messages, &entry.name).cmp(wanted),
            };
            match order {
                Ordering::Greater => return Known::Unknown(Why::New),
                Ordering::Less => drop(self.entries.pop_front()),
                Ordering::Equal => {
                    let (entry, trace) = self.entries.pop_front().expect("peeked above");
                    return self.judge(listed, entry, trace);
                }
            }
        }
    }

    fn judge(&self, listed: &Listed, entry: Entry, trace: Option<Trace>) -> Known {
        let meta = &listed.meta;
        match (&listed.kind, &entry.node) {
            (Kind::Directory, &Node::Folder(tree)) => Known::Folder(Box::new(entry), tree),
            (Kind::File, Node::File(file)) => {
                let verdict = match &trace {
                    None => self.by_times(listed, &entry, file),
                    Some(Trace::NONE) => Err(Why::Fresh),
                    // Where numbers change by themselves and nothing is born, base name and times must do.
                    Some(trace) if self.of_messages && trace.inode != meta.inode && meta.birth.is_none() => {
                        self.by_times(listed, &entry, file)
                    }
                    Some(trace) => self.by_trace(meta, &entry, file, trace),
                };
                match verdict {
                    Ok((same, keeps_xattrs)) => {
                        let Entry { node: Node::File(file), xattrs, .. } = entry else { unreachable!() };
                        let xattrs = Some(xattrs).filter(|_| keeps_xattrs);
                        Known::File(Box::new(KnownFile { file, xattrs, same }))
                    }
                    Err(why) => Known::Unknown(why),
                }
            }
            _ => Known::Unknown(Why::New),
        }
    }

    /// With the scan cache: is it the file that was seen then?
    fn by_trace(&self, meta: &Meta, entry: &Entry, file: &File, trace: &Trace) -> Result<(Same, bool), Why> {
        let is_untouched = trace.ctime == meta.ctime();
        // Some shares number anew with every mount; there a change time to the nanosecond tells.
        let is_it = trace.inode == meta.inode || meta.birth.is_none() && is_untouched;
        if !is_it || trace.birth != meta.birth.unwrap_or(0) {
            return Err(Why::Replaced);
        }
        differs(entry, file, meta)?;
        // A rename moves the change time; nothing else happens to a message.
        if !is_untouched && !self.of_messages {
            return Err(Why::Touched);
        }
        Ok((if self.of_messages { Same::Trace } else { Same::Times }, is_untouched))
    }

    /// Without it: the parent knows when its run began.
    fn by_times(&self, listed: &Listed, entry: &Entry, file: &File) -> Result<(Same, bool), Why> {
        let (meta, started) = (&listed.meta, self.started);
        differs(entry, file, meta)?;
        if meta.mtime().saturating_add(SETTLED_NANOS) >= started {
            return Err(Why::Fresh);
        }
        // A rename moves the change time and changes the name; under the same name, something else happened.
        if meta.ctime().saturating_add(TICK_NANOS) >= started && entry.name == *listed.name {
            return Err(Why::Touched);
        }
        // A new attribute moves the change time too, so after a rename they are looked at again.
        Ok((Same::Times, meta.ctime().saturating_add(SETTLED_NANOS) < started))
    }
}

fn differs(entry: &Entry, file: &File, meta: &Meta) -> Result<(), Why> {
    if file.size != meta.size {
        return Err(Why::Resized);
    }
    match (entry.mtime_s, entry.mtime_ns) == (meta.mtime_s, meta.mtime_ns) {
        true => Ok(()),
        false => Err(Why::Modified),
    }
}
