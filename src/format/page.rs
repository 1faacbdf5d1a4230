//! Pages: a stretch of a folder's listing, sorted by name; and fence pages, which list pages.
//!
//! Nothing volatile stands here (no inode, access or change time): an untouched folder gives the same page again.
//! Section "Tree" of `repo-format.md`; the columns in which entries are stored are in [`super::page_wire`].

use std::sync::Arc;

use bincode::{Decode, Encode};

use super::codec::{self, FormatError, Result};
use super::content::Content;
use super::page_wire;
pub use super::page_wire::{Line, Outline};
use super::snapshot::{Totals, Tree};
use crate::base::id::BlobId;
use crate::base::limits;

/// Who owns an entry: numbers, and names where the host knew them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Encode, Decode)]
pub struct Owner {
    /// User number.
    pub uid: u32,
    /// Group number.
    pub gid: u32,
    /// User name; empty when unknown.
    pub user: Vec<u8>,
    /// Group name; empty when unknown.
    pub group: Vec<u8>,
}

/// An extended attribute: name and value.
pub type Xattr = (Vec<u8>, Vec<u8>);

/// What stands behind a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A regular file.
    File(File),
    /// A folder and all below it.
    Folder(Tree),
    /// A symbolic link and its target.
    Symlink(Vec<u8>),
    /// A named pipe.
    Fifo,
    /// A socket; restored by nobody.
    Socket,
    /// A character device: major, minor.
    CharDevice(u32, u32),
    /// A block device: major, minor.
    BlockDevice(u32, u32),
}

/// The bytes of a regular file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Bytes.
    pub size: u64,
    /// What they are made of.
    pub content: Content,
    /// The file had holes.
    pub sparse: bool,
    /// Files of one part with the same number were hard links of each other; advisory.
    pub link_group: Option<u64>,
}

/// One entry of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Name, bytes without `/` and NUL.
    pub name: Vec<u8>,
    /// Permission bits, 12 of them.
    pub mode: u16,
    /// Owner; shared by the entries that have the same.
    pub owner: Arc<Owner>,
    /// Modification time, unix seconds.
    pub mtime_s: i64,
    /// Nanoseconds of it.
    pub mtime_ns: u32,
    /// Extended attributes, sorted by name, POSIX ACLs among them.
    pub xattrs: Vec<Xattr>,
    /// What it is.
    pub node: Node,
}

impl Entry {
    /// What this entry adds to the sums of its folder.
    pub fn totals(&self) -> Totals {
        match &self.node {
            Node::Folder(tree) => {
                let mut totals = tree.totals;
                totals.folders = totals.folders.saturating_add(1);
                totals
            }
            Node::File(file) => Totals {
                files: 1,
                folders: 0,
                bytes: file.size,
                messages: file.content.messages(),
                newest: self.mtime_s.max(0),
            },
            _ => Totals { files: 1, ..Totals::default() },
        }
    }
}

/// A page below a fence page.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Fence {
    /// First name in it or below it.
    pub first: Vec<u8>,
    /// The page.
    pub page: BlobId,
    /// Sums over everything below.
    pub totals: Totals,
}

/// One page of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Page {
    /// Entries, strictly ascending by name.
    Leaf(Vec<Entry>),
    /// Pages, strictly ascending by first name.
    Fence(Vec<Fence>),
}

#[derive(Encode, Decode)]
enum Wire {
    Leaf(Box<page_wire::Columns>),
    Fence(Vec<Fence>),
}

impl Page {
    /// The plaintext of the page's blob.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(&match self {
            Page::Leaf(entries) => Wire::Leaf(Box::new(page_wire::to_columns(entries))),
            Page::Fence(fences) => Wire::Fence(fences.clone()),
        })
    }

    /// Reads the plaintext of a page's blob and checks names, order and limits.
    pub fn decode(bytes: &[u8]) -> Result<Page> {
        codec::limit("bytes of a page", bytes.len() as u64, limits::PAGE_BYTES_MAX as u64)?;
        let page = match codec::decode(bytes, "page")? {
            Wire::Leaf(columns) => Page::Leaf(page_wire::from_columns(*columns)?),
            Wire::Fence(fences) => Page::Fence(fences),
        };
        page.check()?;
        Ok(page)
    }

    fn check(&self) -> Result<()> {
        match self {
            Page::Leaf(entries) => check_entries(entries),
            Page::Fence(fences) => check_names(fences.iter().map(|fence| fence.first.as_slice())),
        }
    }
}

/// The columns of a leaf.
pub(super) fn columns(bytes: &[u8]) -> Result<page_wire::Columns> {
    codec::limit("bytes of a page", bytes.len() as u64, limits::PAGE_BYTES_MAX as u64)?;
    match codec::decode(bytes, "page")? {
        Wire::Leaf(columns) => Ok(*columns),
        Wire::Fence(_) => Err(FormatError::Inconsistent { what: "level of a page" }),
    }
}

pub(super) fn check_entries(entries: &[Entry]) -> Result<()> {
    check_names(entries.iter().map(|entry| entry.name.as_slice()))
}

/// Names of a page: some, not too many, legal, in order.
pub(super) fn check_names<'a>(names: impl ExactSizeIterator<Item = &'a [u8]>) -> Result<()> {
    codec::agree(names.len() > 0, "empty page")?;
    codec::limit("entries of a page", names.len() as u64, limits::PAGE_ENTRIES_MAX as u64)?;
    let mut before: &[u8] = b"";
    for name in names {
        check_name(name)?;
        codec::agree(before < name, "order of names in a page")?;
        before = name;
    }
    Ok(())
}

/// Refuses a name that no folder can hold.
pub fn check_name(name: &[u8]) -> Result<()> {
    codec::limit("length of a name", name.len() as u64, limits::NAME_BYTES_MAX as u64)?;
    let legal =
        !name.is_empty() && name != b"." && name != b".." && !name.contains(&b'/') && !name.contains(&0);
    if legal { Ok(()) } else { Err(FormatError::Inconsistent { what: "name in a page" }) }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::format::content::{Piece, Run, Section, Shape};

    fn section() -> impl Strategy<Value = Section> {
        (any::<[u8; 16]>(), 1u64..1 << 40, any::<bool>()).prop_map(|(id, length, message)| Section {
            shape: if message { Shape::Message } else { Shape::Bytes },
            pieces: vec![Piece::Plain(vec![BlobId(id)]), Piece::Zeros(length)],
            runs: vec![Run { piece: 0, length }, Run { piece: 1, length }],
        })
    }

    fn node() -> impl Strategy<Value = Node> {
        let content =
            prop_oneof![
                proptest::collection::vec(section(), 0..3).prop_map(Content::Inline),
                (any::<[u8; 16]>(), 0u8..12, any::<u64>())
                    .prop_map(|(id, levels, messages)| Content::Paged { root: BlobId(id), levels, messages }),
            ];
        let file = (any::<u64>(), content, any::<bool>(), any::<Option<u64>>())
            .prop_map(|(size, content, sparse, link_group)| File { size, content, sparse, link_group });
        let tree = (any::<Option<[u8; 16]>>(), 0u8..12, any::<u64>()).prop_map(|(root, levels, n)| Tree {
            root: root.map(BlobId),
            levels,
            totals: Totals { files: n, bytes: n / 3, ..Totals::default() },
        });
        prop_oneof![
            4 => file.prop_map(Node::File),
            1 => tree.prop_map(Node::Folder),
            1 => proptest::collection::vec(any::<u8>(), 1..40).prop_map(Node::Symlink),
            1 => Just(Node::Fifo),
            1 => Just(Node::Socket),
            1 => any::<(u32, u32)>().prop_map(|(a, b)| Node::CharDevice(a, b)),
            1 => any::<(u32, u32)>().prop_map(|(a, b)| Node::BlockDevice(a, b)),
        ]
    }

    fn name(mtime: i64, size: u64) -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            proptest::collection::vec(any::<u8>().prop_filter("legal", |b| *b != 0 && *b != b'/'), 1..40),
            (any::<u32>(), 0u64..99).prop_map(move |(n, w)| format!(
                "{mtime}.M{n}P1.mx,S={size},W={}:2,S",
                size.wrapping_add(w)
            )
            .into_bytes()),
            (any::<u32>()).prop_map(move |n| format!("0{mtime}.M{n},S=0{size},W=+3,S={size}").into_bytes()),
        ]
    }

    pub(in crate::format) fn entry() -> impl Strategy<Value = Entry> {
        (node(), any::<i64>(), 0u16..0o10000, 0u32..1_000_000_000, 0u32..3).prop_flat_map(
            |(node, mtime_s, mode, mtime_ns, uid)| {
                let size = if let Node::File(file) = &node { file.size } else { 0 };
                let xattrs = proptest::collection::vec((any::<[u8; 4]>(), any::<[u8; 9]>()), 0..2);
                (name(mtime_s, size), xattrs).prop_map(move |(name, xattrs)| Entry {
                    name,
                    mode,
                    owner: Arc::new(Owner { uid, gid: 8, user: b"vmail".to_vec(), group: Vec::new() }),
                    mtime_s,
                    mtime_ns,
                    xattrs: xattrs.iter().map(|(n, v)| (n.to_vec(), v.to_vec())).collect(),
                    node: node.clone(),
                })
            },
        )
    }

    proptest! {
        #[test]
        fn pages_round_trip(mut entries in proptest::collection::vec(entry(), 1..20)) {
            entries.sort_by(|a, b| a.name.cmp(&b.name));
            entries.dedup_by(|a, b| a.name == b.name);
            entries.retain(|entry| check_name(&entry.name).is_ok());
            prop_assume!(!entries.is_empty());
            let page = Page::Leaf(entries);
            prop_assert_eq!(Page::decode(&page.encode()).unwrap(), page);
        }

        #[test]
        fn damaged_pages_never_panic(entries in proptest::collection::vec(entry(), 1..6), at: usize, byte: u8) {
            let mut bytes = Page::Leaf(entries).encode();
            let at = at % bytes.len();
            bytes[at] ^= byte;
            let _ = Page::decode(&bytes);
            let _ = Page::decode(&bytes[..at]);
        }
    }

    #[test]
    fn names_that_escape_are_refused() {
        for name in [&b""[..], b".", b"..", b"a/b", b"/", b"a\0", &[b'x'; 256]] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
        assert!(check_name(b"...").is_ok());
    }

    fn fifo(name: &[u8]) -> Entry {
        let owner = Arc::new(Owner { uid: 1, gid: 2, user: Vec::new(), group: Vec::new() });
        let (mtime_s, mtime_ns, xattrs) = (7, 0, Vec::new());
        Entry { name: name.to_vec(), mode: 0o600, owner, mtime_s, mtime_ns, xattrs, node: Node::Fifo }
    }

    #[test]
    fn pages_whose_names_are_not_in_order_are_refused() {
        let leaf = |names: &[&[u8]]| Page::Leaf(names.iter().map(|name| fifo(name)).collect());
        let fence =
            |name: &&[u8]| Fence { first: name.to_vec(), page: BlobId([1; 16]), totals: Totals::default() };
        let fences = |names: &[&[u8]]| Page::Fence(names.iter().map(fence).collect());
        for make in [&leaf as &dyn Fn(&[&[u8]]) -> Page, &fences] {
            assert!(Page::decode(&make(&[b"a", b"b"]).encode()).is_ok());
            let bad: [&[&[u8]]; 5] = [&[], &[b"b", b"a"], &[b"a", b"a"], &[b".."], &[b"a", b"b/c"]];
            for bad in bad {
                assert!(Page::decode(&make(bad).encode()).is_err(), "{bad:?}");
            }
        }
    }

    #[test]
    fn an_entry_weighs_what_is_below_it() {
        let below = Totals { files: 3, folders: 1, bytes: 9, messages: 2, newest: 5 };
        let folder = Node::Folder(Tree { root: None, levels: 0, totals: below });
        assert_eq!(Entry { node: folder, ..fifo(b"a") }.totals(), Totals { folders: 2, ..below });
        let content = Content::Paged { root: BlobId([1; 16]), levels: 1, messages: 4 };
        let file = Node::File(File { size: 8, content, sparse: false, link_group: None });
        let weight = Totals { files: 1, folders: 0, bytes: 8, messages: 4, newest: 7 };
        assert_eq!(Entry { node: file, ..fifo(b"a") }.totals(), weight);
        assert_eq!(fifo(b"a").totals(), Totals { files: 1, ..Totals::default() });
    }
}
