//! The files of each host: on disk, and in memory beside it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use mailark::source::start::Start;

use super::operations::{Edit, FOLDERS, MESSAGES, USERS};
use crate::lab::Contents;
use crate::support::noise;
use crate::tree::{LONG_AGO, TreeFixture, mail, mail_with_attachment, message_name, set_mtime, uidlist};

/// Bytes of the attachment that some messages have.
const ATTACHMENT_BYTES: usize = 7_000;
/// The user with an mbox.
const MBOX: &str = "mail/carol";

/// What a file holds, by what it was made of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Body {
    /// One message.
    Mail(u64),
    /// Messages one after the other.
    Mbox(Vec<u64>),
    /// Noise.
    Noise(u64, usize),
    /// The state of a mailbox.
    Uids(u64),
}

fn has_attachment(number: u64) -> bool {
    number.is_multiple_of(5)
}

fn message(number: u64) -> Vec<u8> {
    if has_attachment(number) { mail_with_attachment(number, ATTACHMENT_BYTES) } else { mail(number) }
}

/// The Message-ID of a message, without angle brackets.
pub fn message_id(number: u64) -> Vec<u8> {
    let letter = if has_attachment(number) { "a" } else { "" };
    format!("{letter}{number}@example.org").into_bytes()
}

impl Body {
    pub fn bytes(&self) -> Vec<u8> {
        match self {
            Body::Mail(number) => message(*number),
            Body::Mbox(numbers) => {
                let framed = numbers.iter().map(|number| {
                    [b"From bob@example.org Mon Nov 23 10:00:00 2026\n", message(*number).as_slice(), b"\n"]
                        .concat()
                });
                framed.collect::<Vec<_>>().concat()
            }
            Body::Noise(seed, length) => noise(1_000 + seed, *length),
            Body::Uids(lines) => uidlist(*lines),
        }
    }

    /// The messages in it.
    pub fn messages(&self) -> &[u64] {
        match self {
            Body::Mail(number) => std::slice::from_ref(number),
            Body::Mbox(numbers) => numbers,
            _ => &[],
        }
    }

    /// What pieces of it that stand in packs are cut from: its bytes, and attachments as they were before base64.
    pub fn plain(&self) -> Vec<Vec<u8>> {
        let letters = self.messages().iter().filter(|number| has_attachment(**number));
        let attachments = letters.map(|number| noise(*number, ATTACHMENT_BYTES));
        std::iter::once(self.bytes()).chain(attachments).collect()
    }

    /// What a tombstone knows it by, see "Purge" in `repo-format.md`.
    pub fn marks(&self) -> Vec<Body> {
        match self {
            Body::Mbox(numbers) if numbers.is_empty() => Vec::new(),
            Body::Mbox(numbers) => {
                numbers.iter().map(|number| Body::Mail(*number)).chain([self.clone()]).collect()
            }
            other => vec![other.clone()],
        }
    }
}

/// What stands at a path.
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    Folder,
    File(Body),
    Link(Vec<u8>),
}

/// What stands at a path, with mode and time.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub node: Node,
    meta: String,
}

/// Everything in a snapshot, by its logical path.
pub type Entries = BTreeMap<Vec<u8>, Entry>;

impl Entry {
    fn at(path: &Path, node: Node) -> Entry {
        let meta = path.symlink_metadata().unwrap();
        let meta = format!("{:o} {}.{}", meta.mode() & 0o7777, meta.mtime(), meta.mtime_nsec());
        Entry { node, meta }
    }
}

/// As the library is asked for it.
pub fn contents(entries: &Entries) -> Contents {
    let tell = |(path, entry): (&Vec<u8>, &Entry)| {
        let (what, bytes) = match &entry.node {
            Node::Folder => ("folder".to_owned(), Vec::new()),
            Node::Link(target) => (format!("Symlink({target:?})"), Vec::new()),
            Node::File(body) => {
                let bytes = body.bytes();
                (format!("file {}", bytes.len()), bytes)
            }
        };
        (path.clone(), (format!("{what} {}", entry.meta), *blake3::hash(&bytes).as_bytes()))
    };
    entries.iter().map(tell).collect()
}

/// Where a user's mail lies in snapshots.
pub fn home(user: usize) -> Vec<u8> {
    let path = match USERS.get(user) {
        Some(user) => format!("/data/{user}"),
        None => format!("/data/{MBOX}"),
    };
    path.into_bytes()
}

/// What each job backs up: a path of the tree, and the path that it is stored under.
const STARTS: [&[(&str, &str)]; 2] =
    [&[("", "/data")], &[("alice", "/data/alice"), ("files", "/data/files"), (MBOX, "/data/mail/carol")]];

/// One host's files.
pub struct Source {
    tree: TreeFixture,
    files: BTreeMap<String, Node>,
}

impl Source {
    /// A few files to begin with.
    pub fn new(root: PathBuf, host: u64) -> Source {
        let tree = TreeFixture::new(root);
        for user in USERS {
            for folder in ["cur", "new", "tmp", ".Sent/cur", ".Sent/new", ".Sent/tmp"] {
                tree.folder(format!("{user}/{folder}"));
            }
        }
        let mut source = Source { tree, files: BTreeMap::new() };
        source.put("files/empty".to_owned(), Body::Mbox(Vec::new()));
        source.put(MBOX.to_owned(), Body::Mbox(vec![host]));
        for number in 0..3 {
            let number = (host * 2 + number) % MESSAGES;
            source.edit(&Edit::Arrive { user: number as usize % USERS.len(), folder: 0, number });
        }
        source
    }

    /// Where each job of [`STARTS`] begins.
    pub fn starts(&self, job: usize) -> Vec<Start> {
        let start =
            |(path, logical): &(&str, &str)| Start::new(&self.path(path), Some(logical.as_bytes())).unwrap();
        STARTS[job].iter().map(start).collect()
    }

    fn path(&self, name: &str) -> PathBuf {
        if name.is_empty() { self.tree.root.clone() } else { self.tree.path(name) }
    }

    /// Paths under which a job stores something, whatever it is.
    pub fn parts(job: usize) -> Vec<Vec<u8>> {
        STARTS[job].iter().map(|(_, logical)| logical.as_bytes().to_vec()).collect()
    }

    /// Everything that a job has to find, as it is now.
    pub fn entries(&self, job: usize) -> Entries {
        let mut entries = Entries::new();
        for (name, logical) in STARTS[job] {
            self.add(&self.path(name), logical, &mut entries);
        }
        entries
    }

    fn add(&self, path: &Path, logical: &str, entries: &mut Entries) {
        let name = path.strip_prefix(&self.tree.root).unwrap().to_str().unwrap();
        let node = self.files.get(name).cloned().unwrap_or(Node::Folder);
        if node == Node::Folder {
            for below in fs::read_dir(path).unwrap() {
                let below = below.unwrap();
                let logical = format!("{logical}/{}", below.file_name().to_str().unwrap());
                self.add(&below.path(), &logical, entries);
            }
        }
        entries.insert(logical.as_bytes().to_vec(), Entry::at(path, node));
    }

    fn put(&mut self, name: String, body: Body) {
        self.tree.file(&name, body.bytes());
        self.files.insert(name, Node::File(body));
    }

    fn remove(&mut self, name: &str) {
        fs::remove_file(self.tree.path(name)).unwrap();
        self.files.remove(name);
    }

    /// Mail of a user, or of all.
    fn mail(&self, user: &str) -> Vec<String> {
        let is_mail = |name: &&String| name.starts_with(user) && name.contains(".mx1,");
        self.files.keys().filter(is_mail).cloned().collect()
    }

    /// Changes the files; what cannot be done is left.
    pub fn edit(&mut self, edit: &Edit) {
        match edit {
            Edit::Arrive { user, folder, number } => {
                let flags = if FOLDERS[*folder] == "new" { "" } else { "S" };
                let name = format!("{}/{}/{}", USERS[*user], FOLDERS[*folder], message_name(*number, flags));
                self.put(name, Body::Mail(*number));
            }
            Edit::Flag { pick } => {
                let mail = self.mail("");
                let Some(name) = mail.get(pick % mail.len().max(1)) else { return };
                let (base, _) = name.rsplit_once(":2,").unwrap();
                let flagged = format!("{base}:2,{}", ["", "S", "F", "FS"][pick % 4]);
                fs::rename(self.tree.path(name), self.tree.path(&flagged)).unwrap();
                let node = self.files.remove(name).unwrap();
                self.files.insert(flagged, node);
            }
            Edit::Remove { pick } => {
                let names: Vec<String> = self.files.keys().filter(|name| *name != MBOX).cloned().collect();
                if let Some(name) = names.get(pick % names.len().max(1)) {
                    self.remove(name);
                }
            }
            Edit::Mbox { number } => {
                let Node::File(Body::Mbox(mut numbers)) = self.files[MBOX].clone() else { return };
                match numbers.iter().position(|held| held == number) {
                    Some(at) => drop(numbers.remove(at)),
                    None => numbers.push(*number),
                }
                self.put(MBOX.to_owned(), Body::Mbox(numbers));
            }
            Edit::Write { slot, seed, length } => {
                self.put(format!("files/noise-{slot}"), Body::Noise(*seed, *length));
            }
            Edit::Save { slot, number } => self.put(format!("files/{slot}.eml"), Body::Mail(*number)),
            Edit::Uids { user, lines } => {
                self.put(format!("{}/dovecot-uidlist", USERS[*user]), Body::Uids(*lines));
            }
            Edit::Link { target } => self.link(&format!("files/{target}.eml")),
            Edit::Sweep { user } => self.mail(USERS[*user]).iter().for_each(|name| self.remove(name)),
        }
    }

    fn link(&mut self, target: &str) {
        let path = self.tree.path("files/link");
        let _ = fs::remove_file(&path);
        symlink(target, &path).unwrap();
        set_mtime(&path, LONG_AGO, 0);
        let target = Path::new(target).as_os_str().as_bytes().to_vec();
        self.files.insert("files/link".to_owned(), Node::Link(target));
    }
}
