//! The mailbox that letters are given back to: its folders, and where they lie on disk.

use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::dirs::{self, Likeness, trouble};
use super::{DeliverError, Layout, Location, Result};
use crate::base::bytes;
use crate::mail::{folder_name, templates};
use crate::source::dir::OpenDir;
use crate::source::links::foreign_link;
use crate::source::meta;
use crate::source::problem::join;

/// Deepest nesting of folders that is looked at.
const DEPTH_MAX: usize = 32;
/// Longest name that a folder gets on disk, bytes: Dovecot adds to it for files of its own.
const FOLDER_NAME_BYTES_MAX: usize = 200;
/// What ours are named by in a mailbox; mail programs take neither for a folder.
const OWN_NAME: &[u8] = b"mailark-";

/// A folder that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Folder {
    /// Its path below the root of the mailbox; empty for the inbox.
    pub(super) path: Vec<u8>,
    /// As people call it.
    pub(super) text: String,
}

/// An open mailbox.
#[derive(Debug)]
pub(super) struct Mailbox {
    pub(super) root: OpenDir,
    control: Option<OpenDir>,
    pub(super) layout: Layout,
    pub(super) like: Likeness,
    /// The inbox first.
    pub(super) folders: Vec<Folder>,
}

fn has(dir: &OpenDir, name: &[u8]) -> bool {
    dirs::step(dir, name).is_ok()
}

/// Subfolders that may be mail folders, by their names alone.
fn names(dir: &OpenDir, wanted: impl Fn(&[u8]) -> bool) -> Result<Vec<Vec<u8>>> {
    let (listed, outcome) = dir.names();
    outcome.map_err(trouble("list", dir, b""))?;
    let mut names: Vec<Vec<u8>> =
        listed.into_iter().map(|(_, name)| name.into_vec()).filter(|name| wanted(name)).collect();
    names.sort_unstable();
    Ok(names)
}

fn may_be_fs_folder(name: &[u8]) -> bool {
    !name.starts_with(b".") && !name.starts_with(OWN_NAME) && !matches!(name, b"cur" | b"new" | b"tmp")
}

/// Folders of LAYOUT=fs below `dir`, deepest last.
fn fs_folders(dir: &OpenDir, path: &[u8], depth: usize, found: &mut Vec<Vec<u8>>) -> Result<()> {
    if depth == 0 {
        return Ok(());
    }
    for name in names(dir, may_be_fs_folder)? {
        // Most names are files of Dovecot's; a link is no folder of this mailbox.
        let Ok(below) = dirs::step(dir, &name) else { continue };
        let path = join(path, &name);
        if has(&below, b"cur") {
            found.push(path.clone());
        }
        fs_folders(&below, &path, depth - 1, found)?;
    }
    Ok(())
}

fn maildir_folders(root: &OpenDir) -> Result<Vec<Vec<u8>>> {
    let mut found = names(root, |name| name.starts_with(b".") && name.len() > 1 && !name.starts_with(b".."))?;
    found.retain(|name| dirs::step(root, name).is_ok_and(|dir| has(&dir, b"cur")));
    Ok(found)
}

/// One delivery at a time into a mailbox: what this gives is held meanwhile.
pub(super) fn lock(journals: &Path, mailbox: &Mailbox) -> Result<File> {
    let (device, inode) = mailbox.root.key();
    let path = journals.join(format!("{device:x}-{inode:x}.lock"));
    let io = |error| DeliverError::Io { action: "lock", path: path.display().to_string(), error };
    DirBuilder::new().recursive(true).mode(0o700).create(journals).map_err(io)?;
    let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(io)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(Errno::WOULDBLOCK) => Err(DeliverError::Busy {
            what: format!("a delivery into {}", bytes::display(mailbox.root.path())),
        }),
        Err(errno) => Err(io(errno.into())),
    }
}

impl Mailbox {
    /// Opens a mailbox and looks for its folders.
    pub(super) fn open(location: &Location) -> Result<Mailbox> {
        let shown = location.mailbox.display().to_string();
        let open = |path: &Path| {
            dirs::open_root(path).map_err(|errno| DeliverError::Io {
                action: "open",
                path: path.display().to_string(),
                error: errno.into(),
            })
        };
        for path in [Some(&location.mailbox), location.control.as_ref()].into_iter().flatten() {
            let found = foreign_link(path);
            let found =
                found.map_err(|error| DeliverError::Io { action: "look at", path: shown.clone(), error })?;
            if let Some(link) = found {
                return Err(DeliverError::ForeignLink { path: link.display().to_string() });
            }
        }
        let root = open(&location.mailbox)?;
        let is_free = |name: &[u8]| matches!(dirs::step(&root, name), Ok(_) | Err(Errno::NOENT));
        // Programs that copy or clear up leave empty folders out.
        let is_plain = [&b"new"[..], b"tmp"].iter().any(|part| has(&root, part))
            || meta::of_entry(root.fd(), b"dovecot-uidlist").is_ok();
        if !has(&root, b"cur") || !is_plain || !is_free(b"new") || !is_free(b"tmp") {
            return Err(DeliverError::NoMaildir { path: shown });
        }
        let control = location.control.as_deref().map(open).transpose()?;
        let like = Likeness::of(&root).map_err(trouble("look at", &root, b""))?;
        let mut paths = maildir_folders(&root)?;
        let layout = match location.layout {
            Some(layout) => layout,
            None if paths.is_empty() => {
                fs_folders(&root, b"", DEPTH_MAX, &mut paths)?;
                if paths.is_empty() { Layout::Maildir } else { Layout::Fs }
            }
            None => Layout::Maildir,
        };
        if location.layout == Some(Layout::Fs) {
            paths.clear();
            fs_folders(&root, b"", DEPTH_MAX, &mut paths)?;
        }
        let mut mailbox = Mailbox { root, control, layout, like, folders: Vec::new() };
        mailbox.folders.push(Folder { path: Vec::new(), text: "INBOX".to_owned() });
        for path in paths {
            let text = templates::folder_name(&path);
            mailbox.folders.push(Folder { path, text });
        }
        Ok(mailbox)
    }

    /// The folder that people call so.
    pub(super) fn find(&self, text: &str) -> Option<&Folder> {
        self.folders.iter().find(|folder| folder.text == text)
    }

    /// Where a folder of that name that is not there yet belongs, below the root; why not, where it cannot be.
    pub(super) fn path_for(&self, text: &str) -> std::result::Result<Vec<u8>, &'static str> {
        let parts: Vec<&str> = text.split('/').collect();
        let odd =
            |part: &&str| part.is_empty() || *part == "." || *part == ".." || part.contains(char::is_control);
        if parts.iter().any(odd) {
            return Err("no folder can have that name");
        }
        // Where Dovecot was told to name folders in UTF-8, those that are there show it.
        let plain = self.folders.iter().any(|folder| !folder.path.is_ascii());
        let encode = |part: &&str| if plain { part.as_bytes().to_vec() } else { folder_name::encode(part) };
        let mut parts: Vec<Vec<u8>> = parts.iter().map(encode).collect();
        let path = match self.layout {
            Layout::Maildir => {
                // A dot would make two folders of one.
                parts.iter_mut().flatten().filter(|byte| **byte == b'.').for_each(|byte| *byte = b'_');
                [&b"."[..], &parts.join(&b'.')].concat()
            }
            Layout::Fs => {
                let taken = |part: &Vec<u8>| !may_be_fs_folder(part) || part.len() > FOLDER_NAME_BYTES_MAX;
                if parts.len() > DEPTH_MAX || parts.iter().any(taken) {
                    return Err("no folder can have that name");
                }
                parts.join(&b'/')
            }
        };
        match self.layout == Layout::Maildir && path.len() > FOLDER_NAME_BYTES_MAX {
            true => Err("its name is too long"),
            false => Ok(path),
        }
    }

    /// The name of a folder of ours in the root of the mailbox, such that no mail program takes it for mail.
    pub(super) fn own_name(&self, what: &str) -> Vec<u8> {
        let dot = if self.layout == Layout::Fs { &b"."[..] } else { b"" };
        [dot, OWN_NAME, what.as_bytes()].concat()
    }

    /// Opens the folder at a path below the root.
    pub(super) fn open_folder(&self, path: &[u8]) -> Result<OpenDir> {
        dirs::open_below(&self.root, path).map_err(trouble("open", &self.root, path))
    }

    /// Where the files lie by which Dovecot knows a folder; `None` where they are not made yet.
    pub(super) fn control_of(&self, path: &[u8]) -> Result<Option<OpenDir>> {
        let (top, path) = match (&self.control, self.layout, path) {
            (None, ..) => (&self.root, path),
            (Some(control), Layout::Maildir, b"") => (control, &b".INBOX"[..]),
            (Some(control), Layout::Fs, b"") => (control, &b"INBOX"[..]),
            (Some(control), ..) => (control, path),
        };
        match dirs::open_below(top, path) {
            Ok(dir) => Ok(Some(dir)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(trouble("open", top, path)(errno)),
        }
    }

    /// The folder for control files, where there is one of their own.
    pub(super) fn control(&self) -> Option<&OpenDir> {
        self.control.as_ref()
    }

    /// Where `subscriptions` lies.
    pub(super) fn subscriptions_in(&self) -> &OpenDir {
        self.control.as_ref().unwrap_or(&self.root)
    }

    /// A folder's name as `subscriptions` has it: the parts, encoded as on disk.
    pub(super) fn subscription_of(&self, path: &[u8]) -> Vec<Vec<u8>> {
        let (path, separator) = match self.layout {
            Layout::Maildir => (path.strip_prefix(b".").unwrap_or(path), b'.'),
            Layout::Fs => (path, b'/'),
        };
        path.split(|&byte| byte == separator).map(<[u8]>::to_vec).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mailbox(folders: &[&str], layout: Option<Layout>) -> (tempfile::TempDir, Mailbox) {
        let root = tempfile::tempdir().unwrap();
        for folder in folders.iter().chain(&[""]) {
            for part in ["cur", "new", "tmp"] {
                std::fs::create_dir_all(root.path().join(folder).join(part)).unwrap();
            }
        }
        let location = Location { mailbox: root.path().to_owned(), control: None, layout };
        let mailbox = Mailbox::open(&location).unwrap();
        (root, mailbox)
    }

    fn texts(mailbox: &Mailbox) -> Vec<&str> {
        mailbox.folders.iter().map(|folder| folder.text.as_str()).collect()
    }

    #[test]
    fn the_layout_is_seen_by_what_is_there() {
        let (_root, plain) = mailbox(&[".Entw&APw-rfe", ".A.B", "..odd", "mailark-held-1/0"], None);
        assert_eq!((plain.layout, texts(&plain)), (Layout::Maildir, vec!["INBOX", "A/B", "Entwürfe"]));
        let (_root, fs) = mailbox(&["A", "A/B", ".mailark-held-1"], None);
        assert_eq!((fs.layout, texts(&fs)), (Layout::Maildir, vec!["INBOX", "mailark-held-1"]));
        let (_root, fs) = mailbox(&["A", "A/B.C"], None);
        assert_eq!((fs.layout, texts(&fs)), (Layout::Fs, vec!["INBOX", "A", "A/B.C"]));
        let (_root, told) = mailbox(&["A", ".B"], Some(Layout::Fs));
        assert_eq!(texts(&told), ["INBOX", "A"]);
    }

    #[test]
    fn new_folders_have_a_place_or_none() {
        let (_root, plain) = mailbox(&[], None);
        assert_eq!(
            plain.path_for("Restored/2026-11-24/Entwürfe").unwrap(),
            b".Restored.2026-11-24.Entw&APw-rfe"
        );
        assert_eq!(plain.path_for("a.b/c").unwrap(), b".a_b.c");
        assert_eq!(plain.subscription_of(b".A.B"), [b"A", b"B"]);
        let (_root, utf8) = mailbox(&[".Entwürfe"], None);
        assert_eq!(utf8.path_for("Späm").unwrap(), ".Späm".as_bytes());
        let (_root, fs) = mailbox(&["A"], None);
        assert_eq!(fs.path_for("A/b.c").unwrap(), b"A/b.c");
        for bad in ["", "a//b", "/a", "..", "a/..", "a\nb", "a\0b"] {
            assert!(plain.path_for(bad).is_err() && fs.path_for(bad).is_err(), "{bad:?}");
        }
        for bad in ["cur", "a/new", ".a", "mailark-1"] {
            assert!(fs.path_for(bad).is_err(), "{bad:?}");
        }
        assert!(plain.path_for(&"x/".repeat(120)).is_err());
    }
}
