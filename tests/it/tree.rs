//! File trees for tests: making them, and comparing all that two of them hold.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_OMIT, XattrFlags, utimensat};

use crate::support::noise;

/// All there is to know of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    kind: String,
    mode: u32,
    owner: (u32, u32),
    mtime: (i64, i64),
    /// Digest of the bytes, target of a link, number of a device.
    content: Vec<u8>,
    size: u64,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// The first path of the file, when it has several.
    linked: Option<Vec<u8>>,
}

/// What a comparison leaves out.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ignore {
    /// Owners, which only root can give.
    pub owners: bool,
    /// Modification times of folders, which the test itself moved.
    pub folder_times: bool,
    /// Which files are links of each other: copies of messages are messages.
    pub links: bool,
}

fn xattrs(path: &Path) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut names = vec![0; 64 << 10];
    let Ok(length) = rustix::fs::llistxattr(path, names.as_mut_slice()) else { return Vec::new() };
    let mut found: Vec<_> = names[..length]
        .split(|&byte| byte == 0)
        .filter(|name| !name.is_empty() && !name.starts_with(b"security.selinux"))
        .map(|name| {
            let mut value = vec![0; 64 << 10];
            let length = rustix::fs::lgetxattr(path, name, value.as_mut_slice()).unwrap();
            value.truncate(length);
            (name.to_vec(), value)
        })
        .collect();
    found.sort();
    found
}

fn digest(path: &Path) -> Vec<u8> {
    let mut hasher = blake3::Hasher::new();
    let mut file = File::open(path).unwrap();
    let mut block = vec![0; 1 << 20];
    loop {
        match file.read(&mut block).unwrap() {
            0 => return hasher.finalize().as_bytes().to_vec(),
            got => hasher.update(&block[..got]),
        };
    }
}

fn node(path: &Path, relative: &[u8], firsts: &mut BTreeMap<(u64, u64), Vec<u8>>) -> Node {
    let meta = path.symlink_metadata().unwrap();
    let kind = meta.file_type();
    let (name, content) = if kind.is_dir() {
        ("folder", Vec::new())
    } else if kind.is_symlink() {
        ("link", fs::read_link(path).unwrap().as_os_str().as_bytes().to_vec())
    } else if kind.is_fifo() {
        ("fifo", Vec::new())
    } else if kind.is_char_device() || kind.is_block_device() {
        (if kind.is_char_device() { "char" } else { "block" }, meta.rdev().to_le_bytes().to_vec())
    } else if kind.is_socket() {
        ("socket", Vec::new())
    } else {
        ("file", digest(path))
    };
    let is_file = kind.is_file();
    let linked = (is_file && meta.nlink() > 1)
        .then(|| firsts.entry((meta.dev(), meta.ino())).or_insert_with(|| relative.to_vec()).clone());
    Node {
        kind: name.to_owned(),
        mode: if kind.is_symlink() { 0 } else { meta.mode() & 0o7777 },
        owner: (meta.uid(), meta.gid()),
        mtime: (meta.mtime(), meta.mtime_nsec()),
        content,
        size: if is_file { meta.len() } else { 0 },
        xattrs: xattrs(path),
        linked,
    }
}

/// Describes everything at and below a path.
pub fn describe(root: &Path) -> BTreeMap<Vec<u8>, Node> {
    let mut paths = vec![root.to_owned()];
    let mut next = 0;
    while let Some(path) = paths.get(next).cloned() {
        next += 1;
        if path.symlink_metadata().unwrap_or_else(|error| panic!("{path:?}: {error}")).is_dir() {
            paths.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    paths.sort();
    let mut firsts = BTreeMap::new();
    paths
        .iter()
        .map(|path| {
            let relative = path.strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec();
            let node = node(path, &relative, &mut firsts);
            (relative, node)
        })
        .collect()
}

/// Fails the test unless two trees hold the same, to the nanosecond and the attribute.
#[track_caller]
pub fn assert_same(left: &Path, right: &Path, ignore: Ignore) {
    assert_described(&describe(left), &describe(right), ignore);
}

/// As [`assert_same`], for trees described earlier.
#[track_caller]
pub fn assert_described(left: &BTreeMap<Vec<u8>, Node>, right: &BTreeMap<Vec<u8>, Node>, ignore: Ignore) {
    let plain = |node: &Node| {
        let mut node = node.clone();
        if ignore.owners {
            node.owner = (0, 0);
        }
        if ignore.folder_times && node.kind == "folder" {
            node.mtime = (0, 0);
        }
        if ignore.links {
            node.linked = None;
        }
        node
    };
    let mut differences = Vec::new();
    for name in left.keys().chain(right.keys().filter(|name| !left.contains_key(*name))) {
        let (one, other) = (left.get(name).map(plain), right.get(name).map(plain));
        if one != other {
            differences.push(format!("{}:\n  {one:?}\n  {other:?}", String::from_utf8_lossy(name)));
        }
    }
    assert!(differences.is_empty(), "{} differences\n{}", differences.len(), differences.join("\n"));
}

/// Sets a modification time; links are not followed.
pub fn set_mtime(path: &Path, seconds: i64, nanos: i64) {
    let omit = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
    let times =
        Timestamps { last_access: omit, last_modification: Timespec { tv_sec: seconds, tv_nsec: nanos } };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// False where the file system knows no such attributes.
pub fn set_xattr(path: &Path, name: &str, value: &[u8]) -> bool {
    rustix::fs::lsetxattr(path, name, value, XattrFlags::empty()).is_ok()
}

pub fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Seconds of a time long settled.
pub const LONG_AGO: i64 = 1_700_000_000;

/// A tree under construction; every file and folder is as old as its content says.
pub struct TreeFixture {
    pub root: PathBuf,
}

impl TreeFixture {
    pub fn new(root: PathBuf) -> TreeFixture {
        fs::create_dir_all(&root).unwrap();
        TreeFixture { root }
    }

    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.root.join(name)
    }

    pub fn folder(&self, name: impl AsRef<Path>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// Writes a file that was last changed long ago.
    pub fn file(&self, name: impl AsRef<Path>, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        set_mtime(&path, LONG_AGO, 0);
        path
    }

    /// A Maildir with messages number `first` to `end - 1`, every fifth with an attachment.
    pub fn maildir(&self, name: &str, numbers: std::ops::Range<u64>) -> PathBuf {
        let maildir = self.folder(name);
        for sub in ["cur", "new", "tmp"] {
            self.folder(format!("{name}/{sub}"));
        }
        for number in numbers {
            let bytes = if number % 5 == 0 { mail_with_attachment(number, 9_000) } else { mail(number) };
            self.file(format!("{name}/cur/{}", message_name(number, "S")), bytes);
        }
        self.file(format!("{name}/dovecot-uidlist"), uidlist(40));
        maildir
    }
}

pub fn message_name(number: u64, flags: &str) -> String {
    format!("{}.M{number}P77.mx1,S={}:2,{flags}", LONG_AGO + number as i64, 400 + number)
}

/// A plain message.
pub fn mail(number: u64) -> Vec<u8> {
    let mut text = format!(
        "Return-Path: <bob{number}@example.org>\nReceived: by mx1.example.org; Mon, 23 Nov 2026 10:00:00 +0100\n\
         From: Bob <bob{number}@example.org>\nTo: alice@example.org\nSubject: number {number}\n\
         Message-ID: <{number}@example.org>\nDate: Mon, 23 Nov 2026 10:00:00 +0100\n\n"
    );
    for line in 0..8 {
        text.push_str(&format!("line {line} of message {number}, as lines go: {}\n", number * 7919 + line));
    }
    text.into_bytes()
}

/// A message with a base64 attachment of `bytes` bytes, which depend on its number.
pub fn mail_with_attachment(number: u64, bytes: usize) -> Vec<u8> {
    let encoded = base64(&noise(number, bytes));
    let mut text = format!(
        "From: carol@example.org\nTo: alice@example.org\nSubject: document {number}\nMIME-Version: 1.0\n\
         Date: Mon, 23 Nov 2026 10:00:00 +0100\nMessage-ID: <a{number}@example.org>\n\
         Content-Type: multipart/mixed; boundary=\"b{number}\"\n\n--b{number}\nContent-Type: text/plain\n\n\
         See the attachment of {number}.\n\n--b{number}\nContent-Type: application/octet-stream\n\
         Content-Transfer-Encoding: base64\n\n"
    );
    for line in encoded.as_bytes().chunks(76) {
        text.push_str(str::from_utf8(line).unwrap());
        text.push('\n');
    }
    text.push_str(&format!("--b{number}--\n"));
    text.into_bytes()
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let word =
            three.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        for place in 0..4 {
            let digit = DIGITS[(word >> (18 - 6 * place)) as usize & 63];
            text.push(if place <= three.len() { digit as char } else { '=' });
        }
    }
    text
}

pub fn uidlist(lines: u64) -> Vec<u8> {
    let mut text = format!("3 V1700000000 N{} G9f0f6e1b2c3d4e5f60718293a4b5c6d7\n", lines + 1);
    (1..=lines).for_each(|uid| text.push_str(&format!("{uid} :{}.M{uid}P77.mx1\n", LONG_AGO + uid as i64)));
    text.into_bytes()
}
