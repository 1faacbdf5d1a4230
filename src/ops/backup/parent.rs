//! What the previous snapshot of the job knows: unchanged files are taken from it without being read.

use std::cmp::Ordering;
use std::iter::Peekable;

use crate::base::id::BlobId;
use crate::format::page::{Entry, File, Node, Xattr};
use crate::format::snapshot::Tree;
use crate::mail::maildir;
use crate::repo::RepoError;
use crate::repo::reader::{Blob, BlobReader};
use crate::repo::tree::{Listing, TreeError};
use crate::source::dir::Listed;
use crate::source::meta::Kind;

/// A file this young when the previous run began may have been written again within one tick of its clock.
const SETTLED_NANOS: i128 = 2_000_000_000;

/// One tick of a file system's clock, at its coarsest on Linux.
const TICK_NANOS: i128 = 10_000_000;

type Fetch<'a> = Box<dyn FnMut(&BlobId) -> Result<Blob, RepoError> + 'a>;
type Entries<'a> = Box<dyn Iterator<Item = Result<Entry, TreeError<RepoError>>> + 'a>;

/// The same folder in the parent snapshot, walked along with the new listing.
pub struct ParentFolder<'a> {
    entries: Option<Peekable<Entries<'a>>>,
    /// When the parent began, unix nanoseconds.
    started: i128,
    /// The folder holds messages, whose flags are no part of their identity.
    of_messages: bool,
}

/// An unchanged file.
pub struct KnownFile {
    /// Its content.
    pub file: File,
    /// Its extended attributes, unless they may have changed.
    pub xattrs: Option<Vec<Xattr>>,
}

/// What of a name stays the same for as long as the file does.
fn identity(of_messages: bool, name: &[u8]) -> &[u8] {
    if of_messages { maildir::base(name) } else { name }
}

/// What the parent says about one listed name.
pub enum Known {
    /// Nothing that helps.
    Unknown,
    /// The same file, unchanged.
    File(Box<KnownFile>),
    /// A folder that was there already.
    Folder(Tree),
}

impl<'a> ParentFolder<'a> {
    /// Without a parent, everything is new.
    pub fn none() -> ParentFolder<'a> {
        ParentFolder { entries: None, started: 0, of_messages: false }
    }

    /// The folder `name` with listing `tree` in the parent that began at `started`.
    pub fn new(tree: &Tree, name: &[u8], started: i64, reader: &'a BlobReader<'a>) -> ParentFolder<'a> {
        let fetch: Fetch<'a> = Box::new(|id| reader.page(id));
        let entries: Entries<'a> = Box::new(Listing::new(tree, fetch));
        let of_messages = matches!(name, b"cur" | b"new");
        ParentFolder { entries: Some(entries.peekable()), started: started.into(), of_messages }
    }

    /// Asks for the next name; names must come in ascending order.
    ///
    /// A message is the same under any flags. An unreadable parent makes everything new: it costs time, no mail.
    pub fn look_up(&mut self, listed: &Listed) -> Known {
        let of_messages = self.of_messages;
        let Some(entries) = &mut self.entries else { return Known::Unknown };
        let wanted = identity(of_messages, &listed.name);
        loop {
            let order = match entries.peek() {
                None => return Known::Unknown,
                Some(Err(_)) => {
                    self.entries = None;
                    return Known::Unknown;
                }
                Some(Ok(entry)) => identity(of_messages, &entry.name).cmp(wanted),
            };
            match order {
                Ordering::Greater => return Known::Unknown,
                Ordering::Less => drop(entries.next()),
                Ordering::Equal => {
                    let entry = entries.next().and_then(Result::ok);
                    return entry.map_or(Known::Unknown, |entry| self.judge(listed, entry));
                }
            }
        }
    }

    fn judge(&self, listed: &Listed, entry: Entry) -> Known {
        let meta = &listed.meta;
        let nanos = |seconds: i64, nanos: u32| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
        let ctime = nanos(meta.ctime_s, meta.ctime_ns);
        // A rename moves the change time and changes the name; under the same name, something else happened.
        let touched = ctime + TICK_NANOS >= self.started && entry.name == *listed.name;
        match (&listed.kind, entry.node) {
            (Kind::Directory, Node::Folder(tree)) => Known::Folder(tree),
            (Kind::File, Node::File(file))
                if file.size == meta.size
                    && entry.mtime_s == meta.mtime_s
                    && entry.mtime_ns == meta.mtime_ns
                    && nanos(meta.mtime_s, meta.mtime_ns) + SETTLED_NANOS < self.started
                    && !touched =>
            {
                // A new attribute moves the change time too, so after a rename they are looked at again.
                let xattrs = if ctime + SETTLED_NANOS < self.started { Some(entry.xattrs) } else { None };
                Known::File(Box::new(KnownFile { file, xattrs }))
            }
            _ => Known::Unknown,
        }
    }
}
