//! What of a mail folder is left out: what its mail server makes again by itself, and what would do harm when it
//! came back.
//!
//! By Dovecot's exact names and in folders that [`Shape`] knows as Dovecot's only: a file of such a name anywhere else
//! is somebody's file. `dovecot.index`, its log and the map index are never among them, for in dbox they are data.

use std::ops::{AddAssign, Index};

use rustix::fs::AtFlags;

use super::dir::{Listed, OpenDir};
use super::meta::Kind;
use super::shape::Shape;

/// Why an entry of a mail folder is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Needless {
    /// A lock: restored, it would shut the mailbox.
    Lock,
    /// A socket: it is nothing without its program.
    Socket,
    /// A cache of message headers.
    Cache,
    /// An index over the list of mailboxes.
    ListIndex,
    /// A full-text index.
    FullText,
    /// A delivery that is not finished, or that never was.
    Unfinished,
}

const LOCKS: [&[u8]; 16] = [
    b"dovecot-acl.lock",
    b"dovecot-attributes.lock",
    b"dovecot-keywords.lock",
    b"dovecot-uidlist.lock",
    b"dovecot-vsize.lock",
    b"dovecot.autoexpunge.lock",
    b"dovecot.index.cache.lock",
    b"dovecot.index.lock",
    b"dovecot.index.log.lock",
    b"dovecot.index.log.newlock",
    b"dovecot.list.index.log.lock",
    b"dovecot.list.index.log.newlock",
    b"dovecot.map.index.log.lock",
    b"dovecot.map.index.log.newlock",
    b"mailboxes.lock",
    b"subscriptions.lock",
];
const CACHES: [&[u8]; 2] = [b"dovecot.index.cache", b"dovecot.list.index.cache"];
const LIST_INDEXES: [&[u8]; 4] = [
    b"dovecot.list.index",
    b"dovecot.list.index.log",
    b"dovecot.list.index.log.2",
    b"dovecot.list.index.uidmap",
];
/// Folders of the plugins fts-flatcurve, fts-lucene and fts-xapian.
const FULL_TEXT_FOLDERS: [&[u8]; 3] = [b"fts-flatcurve", b"lucene-indexes", b"xapian-indexes"];
/// Files of the plugin fts-squat.
const FULL_TEXT_FILES: [&[u8]; 3] =
    [b"dovecot.index.search", b"dovecot.index.search.lock", b"dovecot.index.search.uids"];
/// What Dovecot writes its next UID list to.
const UNFINISHED: &[u8] = b"dovecot-uidlist.tmp";

impl Needless {
    /// All reasons, in the order in which they are told.
    pub const ALL: [Needless; 6] = [
        Needless::Lock,
        Needless::Socket,
        Needless::Cache,
        Needless::ListIndex,
        Needless::FullText,
        Needless::Unfinished,
    ];

    /// What is counted, for people and as a key.
    pub fn name(self) -> &'static str {
        match self {
            Needless::Lock => "locks",
            Needless::Socket => "sockets",
            Needless::Cache => "caches",
            Needless::ListIndex => "list indexes",
            Needless::FullText => "full-text indexes",
            Needless::Unfinished => "unfinished deliveries",
        }
    }

    /// Tells whether an entry of a folder of this shape is left out, by its name and kind.
    ///
    /// A folder is left out with all that is in it: see [`holds_mail`].
    pub fn judge(shape: Shape, listed: &Listed) -> Option<Needless> {
        let is_file = listed.kind == Kind::File;
        match shape {
            Shape::Plain | Shape::Messages => return None,
            // A mail program puts no folders there.
            Shape::Unfinished => {
                return (listed.kind != Kind::Directory).then_some(Needless::Unfinished);
            }
            Shape::Maildir | Shape::Control | Shape::Index => {}
        }
        let is_one_of = |names: &[&[u8]]| names.contains(&&*listed.name);
        match listed.kind {
            Kind::Socket => Some(Needless::Socket),
            Kind::Directory => is_one_of(&FULL_TEXT_FOLDERS).then_some(Needless::FullText),
            // Dotlocks may be links.
            Kind::File | Kind::Symlink(_) if is_one_of(&LOCKS) => Some(Needless::Lock),
            _ if !is_file => None,
            _ if is_one_of(&CACHES) => Some(Needless::Cache),
            _ if is_one_of(&LIST_INDEXES) => Some(Needless::ListIndex),
            _ if is_one_of(&FULL_TEXT_FILES) => Some(Needless::FullText),
            _ if *listed.name == *UNFINISHED => Some(Needless::Unfinished),
            _ => None,
        }
    }
}

/// True when a folder named like a full-text index holds a mailbox, itself or one level down: with `LAYOUT=fs` people
/// may call a mailbox as they like.
pub fn holds_mail(dir: &OpenDir, name: &[u8]) -> bool {
    // What cannot be looked into is told when the walk comes to it.
    let Ok(folder) = dir.open_folder(name) else { return true };
    let is_mailbox = |path: &[u8]| {
        [&b"cur"[..], b"dbox-Mails"].into_iter().any(|inside| {
            let path = super::problem::join(path, inside);
            rustix::fs::statat(folder.fd(), path, AtFlags::SYMLINK_NOFOLLOW).is_ok()
        })
    };
    let (names, outcome) = folder.names();
    outcome.is_err() || is_mailbox(b"") || names.iter().any(|(_, name)| is_mailbox(name))
}

/// How many entries were left out, for each reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NeedlessCounts([u64; Needless::ALL.len()]);

impl NeedlessCounts {
    /// Counts one more.
    pub fn add(&mut self, why: Needless) {
        self.0[why as usize] += 1;
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

impl Index<Needless> for NeedlessCounts {
    type Output = u64;

    fn index(&self, why: Needless) -> &u64 {
        &self.0[why as usize]
    }
}

impl AddAssign for NeedlessCounts {
    fn add_assign(&mut self, other: NeedlessCounts) {
        self.0.iter_mut().zip(other.0).for_each(|(count, more)| *count += more);
    }
}

#[cfg(test)]
mod tests {
    use super::super::shape::tests::listing;
    use super::*;

    fn judged(shape: Shape, names: &[&str]) -> Vec<Option<Needless>> {
        listing(names).iter().map(|listed| Needless::judge(shape, listed)).collect()
    }

    #[test]
    fn exact_names_in_mail_folders_are_left_out() {
        let cases = [
            ("dovecot-uidlist.lock", Needless::Lock),
            ("dovecot.index.log.newlock", Needless::Lock),
            ("indexer=", Needless::Socket),
            ("dovecot.index.cache", Needless::Cache),
            ("dovecot.list.index", Needless::ListIndex),
            ("dovecot.list.index.log.2", Needless::ListIndex),
            ("xapian-indexes/", Needless::FullText),
            ("fts-flatcurve/", Needless::FullText),
            ("dovecot.index.search.uids", Needless::FullText),
            ("dovecot-uidlist.tmp", Needless::Unfinished),
        ];
        for (name, why) in cases {
            for shape in [Shape::Maildir, Shape::Control, Shape::Index] {
                assert_eq!(judged(shape, &[name]), [Some(why)], "{name} in {shape:?}");
            }
            for shape in [Shape::Plain, Shape::Messages] {
                assert_eq!(judged(shape, &[name]), [None], "{name} in {shape:?}");
            }
        }
    }

    #[test]
    fn what_a_mailbox_needs_stays() {
        let needed = [
            "cur/",
            "dovecot-acl",
            "dovecot-keywords",
            "dovecot-uidlist",
            "dovecot-uidvalidity",
            "dovecot-uidvalidity.5f3a2b1c",
            "dovecot.index",
            "dovecot.index.backup",
            "dovecot.index.cache.mine",
            "dovecot.index.log",
            "dovecot.index.log.2",
            "dovecot.mailbox.log",
            "dovecot.map.index",
            "dovecot.map.index.log",
            "fts-flatcurve",
            "maildirsize",
            "my.lock",
            "subscriptions",
            "tmp/",
            "u.1",
        ];
        for shape in [Shape::Maildir, Shape::Control, Shape::Index] {
            assert_eq!(judged(shape, &needed), [None; 20], "{shape:?}");
        }
        assert_eq!(judged(Shape::Unfinished, &["1.a.mx", "inside/"]), [Some(Needless::Unfinished), None]);
    }

    #[test]
    fn a_mailbox_with_the_name_of_an_index_holds_mail() {
        let root = tempfile::tempdir().unwrap();
        let make = |path: &str| std::fs::create_dir_all(root.path().join(path)).unwrap();
        make("xapian-indexes/db_5f3a");
        make("fts-flatcurve/cur");
        make("lucene-indexes/Work/dbox-Mails");
        let dir = std::fs::File::open(root.path()).unwrap();
        let dir = OpenDir::from_fd(dir.into(), b"/".to_vec()).unwrap();
        let holding = FULL_TEXT_FOLDERS.map(|name| holds_mail(&dir, name));
        assert_eq!(holding, [true, true, false]);
    }
}
