//! What a folder is, by what lies in it: mail folders, and the folders where Dovecot keeps its own files.
//!
//! A folder with `cur` and `new` is a Maildir folder, whatever it is called and wherever it lies, so that Maildir,
//! Maildir++ and nested mailboxes (`LAYOUT=fs`) need no configuration. A folder without them that holds Dovecot's own
//! files is where `CONTROL=` or `INDEX=` put these, the root of a mail store, or dbox.

use rustix::fs::AtFlags;

use super::dir::{Listed, OpenDir};
use super::meta::Kind;
use super::problem::join;

/// The list of the UIDs of a Maildir folder.
pub const UID_LIST: &[u8] = b"dovecot-uidlist";

/// The index of a mailbox and its log, sorted: in a Maildir folder they change with each login.
pub const INDEX_FILES: [&[u8]; 3] = [b"dovecot.index", b"dovecot.index.log", b"dovecot.index.log.2"];

/// Files that only Dovecot makes, and makes in folders of its own that are no Maildir folders. None of them is ever left
/// out: a file that would be makes no folder Dovecot's.
const OWN_FILES: [&[u8]; 6] = [
    b"dovecot.index",
    b"dovecot.index.log",
    b"dovecot.mailbox.log",
    b"dovecot.map.index",
    b"dovecot.map.index.log",
    b"dovecot-uidvalidity",
];

/// Of the root of an `INDEX=` this is all that lies in it besides folders.
const LIST_LOG: &[u8] = b"dovecot.list.index.log";
/// What one of these folders holds, or is called in dbox.
const BELOW_ROOT: [&[u8]; 2] = [b"dovecot.index.log", b"dovecot.map.index.log"];
/// Most folders that are looked into for it.
const LOOKED_INTO_MAX: usize = 64;

/// What a folder is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Shape {
    /// Nothing that matters here.
    #[default]
    Plain,
    /// A Maildir folder: it has `cur` and `new`.
    Maildir,
    /// `cur` or `new` of a Maildir folder.
    Messages,
    /// `tmp` of a Maildir folder: deliveries that are not finished.
    Unfinished,
    /// Holds the UID list of a Maildir folder that lies elsewhere.
    Control,
    /// Holds an index or other files of Dovecot: dbox, `INDEX=`, the root of a mail store.
    Index,
}

/// Finds an entry in a sorted listing.
pub fn find<'l>(entries: &'l [Listed], name: &[u8]) -> Option<&'l Listed> {
    entries.binary_search_by(|listed| (*listed.name).cmp(name)).ok().map(|place| &entries[place])
}

/// Do folders of this name hold messages, where they lie in a mail folder?
pub fn is_of_messages(name: &[u8]) -> bool {
    matches!(name, b"cur" | b"new")
}

impl Shape {
    /// The shape of the folder `name` with these `entries`, sorted by name, in a folder of shape `above`.
    pub fn of(above: Shape, name: &[u8], entries: &[Listed]) -> Shape {
        let is = |name: &[u8], kind: &Kind| find(entries, name).is_some_and(|listed| listed.kind == *kind);
        let is_file = |name: &[u8]| is(name, &Kind::File);
        if is(b"cur", &Kind::Directory) && is(b"new", &Kind::Directory) {
            Shape::Maildir
        } else if is_file(UID_LIST) {
            Shape::Control
        } else if OWN_FILES.into_iter().any(is_file) {
            Shape::Index
        } else {
            match (above, name) {
                (Shape::Maildir, b"cur" | b"new") => Shape::Messages,
                (Shape::Maildir, b"tmp") => Shape::Unfinished,
                _ => Shape::Plain,
            }
        }
    }

    /// As [`Shape::of`], and looks into the folders of what may be the root of an `INDEX=`.
    pub(super) fn of_dir(above: Shape, name: &[u8], dir: &OpenDir, entries: &[Listed]) -> Shape {
        let shape = Shape::of(above, name, entries);
        if shape != Shape::Plain || find(entries, LIST_LOG).is_none_or(|log| log.kind != Kind::File) {
            return shape;
        }
        let folders = entries.iter().filter(|listed| listed.kind == Kind::Directory).take(LOOKED_INTO_MAX);
        let holds = |folder: &[u8], file: &[u8]| {
            rustix::fs::statat(dir.fd(), join(folder, file), AtFlags::SYMLINK_NOFOLLOW).is_ok()
        };
        let is_root = |folder: &Listed| {
            *folder.name == *b"mailboxes" || BELOW_ROOT.into_iter().any(|file| holds(&folder.name, file))
        };
        if folders.into_iter().any(is_root) { Shape::Index } else { shape }
    }

    /// Puts the folders of a folder of this shape, sorted by name, into the order in which they are walked.
    ///
    /// Mail moves from `new` to `cur` and never back: what is looked for in `new` first is found in one of them.
    pub fn put_in_order<T>(self, folders: &mut [T], name: impl Fn(&T) -> &[u8]) {
        if self != Shape::Maildir {
            return;
        }
        let place = |wanted: &[u8]| folders.iter().position(|folder| name(folder) == wanted);
        if let (Some(cur), Some(new)) = (place(b"cur"), place(b"new"))
            && cur < new
        {
            folders[cur..=new].rotate_right(1);
        }
    }

    /// True where the UID list of a Maildir folder is kept.
    pub fn keeps_uids(self) -> bool {
        matches!(self, Shape::Maildir | Shape::Control)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::source::meta::Meta;

    /// A sorted listing; folders are written with a slash at the end, sockets with an equals sign.
    pub(in crate::source) fn listing(names: &[&str]) -> Vec<Listed> {
        let folder = tempfile::tempdir().unwrap();
        let meta: Meta = crate::source::meta::of_open(std::fs::File::open(folder.path()).unwrap()).unwrap();
        let entry = |name: &&str| {
            let (name, kind) = match (name.strip_suffix('/'), name.strip_suffix('=')) {
                (Some(name), _) => (name, Kind::Directory),
                (None, Some(name)) => (name, Kind::Socket),
                (None, None) => (*name, Kind::File),
            };
            Listed { name: name.as_bytes().into(), kind, meta: meta.clone() }
        };
        let mut entries: Vec<Listed> = names.iter().map(entry).collect();
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        entries
    }

    fn shape(above: Shape, name: &str, names: &[&str]) -> Shape {
        Shape::of(above, name.as_bytes(), &listing(names))
    }

    #[test]
    fn maildir_folders_are_known_by_cur_and_new() {
        let inbox = ["cur/", "new/", "tmp/", ".Sent/", "dovecot-uidlist", "subscriptions"];
        assert_eq!(shape(Shape::Plain, "Maildir", &inbox), Shape::Maildir);
        assert_eq!(shape(Shape::Maildir, ".Sent", &["cur/", "new/"]), Shape::Maildir);
        assert_eq!(shape(Shape::Plain, "Work", &["cur/", "new/", "tmp/", "Projects/"]), Shape::Maildir);
        for wrong in [&["cur/", "tmp/"][..], &["new/", "tmp/"], &["cur", "new/"], &["Cur/", "New/"], &[]] {
            assert_eq!(shape(Shape::Plain, "alice", wrong), Shape::Plain, "{wrong:?}");
        }
    }

    #[test]
    fn the_three_folders_are_known_by_the_one_around_them() {
        for name in ["cur", "new"] {
            assert_eq!(shape(Shape::Maildir, name, &["1.a.mx:2,S"]), Shape::Messages);
            assert_eq!(shape(Shape::Plain, name, &["1.a.mx:2,S"]), Shape::Plain);
        }
        assert_eq!(shape(Shape::Maildir, "tmp", &["1.a.mx"]), Shape::Unfinished);
        assert_eq!(shape(Shape::Plain, "tmp", &["1.a.mx"]), Shape::Plain);
        assert_eq!(shape(Shape::Messages, "tmp", &[]), Shape::Plain);
        // A mailbox of that name is one.
        assert_eq!(shape(Shape::Maildir, "tmp", &["cur/", "new/"]), Shape::Maildir);
    }

    #[test]
    fn dovecots_own_folders_are_known_by_its_files() {
        assert_eq!(shape(Shape::Plain, "alice", &["dovecot-uidlist", "dovecot-keywords"]), Shape::Control);
        assert_eq!(shape(Shape::Plain, "dbox-Mails", &["u.1", "dovecot.index.log"]), Shape::Index);
        assert_eq!(shape(Shape::Plain, "storage", &["m.1", "dovecot.map.index.log"]), Shape::Index);
        assert_eq!(
            shape(Shape::Plain, "mdbox", &["mailboxes/", "storage/", "dovecot-uidvalidity"]),
            Shape::Index
        );
        // These alone make nothing: they are what would be left out.
        let needless = [
            "dovecot.index.cache",
            "dovecot-uidlist.lock",
            "dovecot.list.index.log",
            "xapian-indexes/",
            "dovecot.index/",
        ];
        assert_eq!(shape(Shape::Plain, "notes", &needless), Shape::Plain);
    }

    #[test]
    fn the_root_of_an_index_is_known_by_its_folders() {
        let root = tempfile::tempdir().unwrap();
        let shape = || {
            let dir = std::fs::File::open(root.path()).unwrap();
            let dir = OpenDir::from_fd(dir.into(), b"/index".to_vec()).unwrap();
            Shape::of_dir(Shape::Plain, b"index", &dir, &dir.list().entries)
        };
        std::fs::create_dir(root.path().join(".Sent")).unwrap();
        std::fs::write(root.path().join(".Sent/dovecot.index.log"), "").unwrap();
        assert_eq!(shape(), Shape::Plain);
        std::fs::write(root.path().join("dovecot.list.index.log"), "").unwrap();
        assert_eq!(shape(), Shape::Index);
        std::fs::remove_file(root.path().join(".Sent/dovecot.index.log")).unwrap();
        assert_eq!(shape(), Shape::Plain);
        std::fs::create_dir(root.path().join("mailboxes")).unwrap();
        assert_eq!(shape(), Shape::Index);
    }

    #[test]
    fn new_comes_before_cur() {
        let order = |shape: Shape, names: &[&'static str]| {
            let mut names = names.to_vec();
            shape.put_in_order(&mut names, |name| name.as_bytes());
            names.join(" ")
        };
        assert_eq!(order(Shape::Maildir, &[".Sent", "cur", "dict", "new", "tmp"]), ".Sent new cur dict tmp");
        assert_eq!(order(Shape::Maildir, &["cur", "new"]), "new cur");
        assert_eq!(order(Shape::Maildir, &["cur"]), "cur");
        assert_eq!(order(Shape::Plain, &["cur", "new"]), "cur new");
    }
}
