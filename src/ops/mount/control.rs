//! Control folders for a mail server that serves mounted Maildirs: UIDs and the names of keywords as they were.
//!
//! A mount cannot be written to, and Dovecot has to write locks and indexes. So `DIR/control/<user>/<time>` gets what
//! the snapshot has of it when the mail server enters that snapshot for the first time, `DIR/index/<user>` is made for
//! it to fill, and `latest` in both leads where the mounted one leads. Both belong to the owner of the mail. What is
//! being made lies in `DIR/new`, where nobody else comes in, until all of it has its owner.

use std::collections::HashSet;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::folder::{Child, Folder};
use super::inode::Target;
use super::mounted::{Mounted, PrepareError};
use super::vault::Vault;
use super::views::as_name;
use crate::base::id::ObjectHash;
use crate::base::limits;
use crate::format::page::Node;
use crate::mail::maildir;
use crate::mail::uidlist::{Header, Uidlist, UidlistWriter};

const UID_LIST: &[u8] = b"dovecot-uidlist";
/// What is copied as it is.
const COPIED: [&[u8]; 2] = [b"dovecot-keywords", b"subscriptions"];
/// Folders of messages: nothing lies below them that a control folder has.
const MESSAGES: [&[u8]; 2] = [b"cur", b"new"];
const UNFINISHED: &[u8] = b"tmp";

const CONTROL: &str = "control";
const INDEX: &str = "index";

/// Numbers of a user and a group.
type Owner = (u32, u32);

/// Makes control folders.
pub struct Control {
    dir: PathBuf,
    prepared: Mutex<HashSet<(String, ObjectHash)>>,
}

/// Says what was tried with which path.
fn tried(verb: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PrepareError {
    let path = path.display().to_string();
    move |source| PrepareError { verb, path, source }
}

/// A name of the mount as a name on disk.
fn os(name: &[u8]) -> &std::ffi::OsStr {
    std::os::unix::ffi::OsStrExt::from_bytes(name)
}

impl Control {
    /// Below `dir`, which is made if need be.
    pub fn new(dir: &Path) -> Result<Control, PrepareError> {
        make_folder(dir, 0o711)?;
        let dir = dir.canonicalize().map_err(tried("find", dir))?;
        Ok(Control { dir, prepared: Mutex::default() })
    }

    /// The folder of a kind that a user has, made if need be.
    fn of_user(&self, kind: &str, user: &str, owner: Owner) -> Result<PathBuf, PrepareError> {
        let all = self.dir.join(kind);
        make_folder(&all, 0o711)?;
        let own = all.join(os(&as_name(user)));
        if !own.exists() {
            make_folder(&own, 0o700)?;
            give(&own, owner)?;
        }
        Ok(own)
    }

    /// A new empty folder that only we can enter.
    fn staging(&self) -> Result<PathBuf, PrepareError> {
        let new = self.dir.join("new");
        if new.exists() {
            fs::remove_dir_all(&new).map_err(tried("remove", &new))?;
        }
        make_folder(&new, 0o700)?;
        Ok(new)
    }

    /// Makes the control folder of a user's snapshot, unless it is there.
    pub fn prepare(&self, mounted: &Mounted, user: &str, mail: &Arc<Folder>) -> Result<(), PrepareError> {
        let mut prepared = self.prepared.lock().expect("no holder panics");
        let mark = (user.to_owned(), mail.shown.info.hash);
        if prepared.contains(&mark) {
            return Ok(());
        }
        let owner = mail.entry.as_ref().map_or((0, 0), |entry| {
            let attributes = mounted.owners.attributes(0, entry);
            (attributes.uid, attributes.gid)
        });
        for kind in [CONTROL, INDEX] {
            let place = self.of_user(kind, user, owner)?.join(&mail.shown.name);
            if place.exists() {
                continue;
            }
            let new = self.staging()?.join(&mail.shown.name);
            make_folder(&new, 0o700)?;
            if kind == CONTROL {
                Copies { mounted, shown_at: mail.shown.info.snapshot.started }.fill(mail, &new)?;
            }
            give(&new, owner)?;
            fs::rename(&new, &place).map_err(tried("make", &place))?;
        }
        if prepared.len() >= limits::mount::PREPARED_MAX {
            prepared.clear();
        }
        prepared.insert(mark);
        Ok(())
    }

    /// Lets `latest` lead to the snapshot of this name, once that has been entered.
    pub fn point(&self, user: &str, name: &[u8]) -> Result<(), PrepareError> {
        let _turn = self.prepared.lock().expect("no holder panics");
        for kind in [CONTROL, INDEX] {
            let link = self.dir.join(kind).join(os(&as_name(user))).join("latest");
            let is_made = link.parent().is_some_and(Path::is_dir);
            if !is_made || fs::read_link(&link).is_ok_and(|to| to.as_os_str() == os(name)) {
                continue;
            }
            let new = self.staging()?.join("latest");
            std::os::unix::fs::symlink(os(name), &new).map_err(tried("make", &new))?;
            fs::rename(&new, &link).map_err(tried("make", &link))?;
        }
        Ok(())
    }
}

fn make_folder(path: &Path, mode: u32) -> Result<(), PrepareError> {
    match DirBuilder::new().mode(0o700).create(path) {
        // Whatever the mask of this process is.
        Ok(()) => fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(tried("open", path)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) => Err(tried("make", path)(error)),
    }
}

/// Gives a folder and all below to the user who will use it, what lies in a folder before the folder itself: nobody else
/// may come in before all is given.
fn give(path: &Path, owner: Owner) -> Result<(), PrepareError> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    if fs::symlink_metadata(path).map_err(tried("look at", path))?.is_dir() {
        for entry in fs::read_dir(path).map_err(tried("list", path))? {
            give(&entry.map_err(tried("list", path))?.path(), owner)?;
        }
    }
    std::os::unix::fs::lchown(path, Some(owner.0), Some(owner.1)).map_err(tried("give away", path))
}

struct Copies<'a> {
    mounted: &'a Mounted,
    /// When the snapshot was begun.
    shown_at: i64,
}

impl Copies<'_> {
    fn vault(&self) -> &Vault {
        &self.mounted.vault
    }

    /// Copies what a mail folder and those in it have.
    fn fill(&self, mail: &Arc<Folder>, to: &Path) -> Result<(), PrepareError> {
        let mut open = vec![(Arc::clone(mail), to.to_owned())];
        while let Some((folder, to)) = open.pop() {
            let (mut uids, mut messages) = (None, Vec::new());
            let mut cursor = folder.open();
            while let Some(child) = cursor.peek(self.vault()) {
                match &child.target {
                    Target::Folder(inner) if MESSAGES.contains(&child.name.as_slice()) => {
                        messages.push(Arc::clone(inner));
                    }
                    Target::Folder(inner) if child.name != UNFINISHED => {
                        let below = to.join(os(&child.name));
                        make_folder(&below, 0o700)?;
                        open.push((Arc::clone(inner), below));
                    }
                    Target::Entry(..) if child.name == UID_LIST => uids = self.content(&folder, child),
                    Target::Entry(..) if COPIED.contains(&child.name.as_slice()) => {
                        if let Some(bytes) = self.content(&folder, child) {
                            write(&to.join(os(&child.name)), &bytes)?;
                        }
                    }
                    _ => {}
                }
                cursor.advance();
            }
            if let Some(bytes) = uids {
                write(&to.join(os(UID_LIST)), &self.own_numbering(bytes, &messages))?;
            }
        }
        Ok(())
    }

    /// The bytes of a file; what cannot be read was told, and the mail server makes one of its own.
    fn content(&self, folder: &Folder, child: &Child) -> Option<Vec<u8>> {
        let kept = child.entry.as_ref()?;
        let Node::File(file) = &kept.entry().node else { return None };
        let mut bytes = Vec::new();
        let is_small = file.size <= limits::mount::CONTROL_FILE_BYTES_MAX;
        (is_small && self.mounted.read_kept(folder, kept, 0..file.size, &mut bytes).is_ok()).then_some(bytes)
    }

    /// The list of UIDs, under a UIDVALIDITY of its own when some message has no UID yet.
    ///
    /// The mail server will number such a message, and the live one may have given that number to another: under the
    /// same UIDVALIDITY a client would take one for the other.
    fn own_numbering(&self, bytes: Vec<u8>, folders: &[Arc<Folder>]) -> Vec<u8> {
        let Some(list) = Uidlist::parse(&bytes) else { return bytes };
        let listed: HashSet<&[u8]> = list.lines().map(|line| line.base()).collect();
        let all_listed = folders.iter().all(|folder| {
            let mut cursor = folder.open();
            while let Some(child) = cursor.peek(self.vault()) {
                if !listed.contains(maildir::base(&child.name)) {
                    return false;
                }
                cursor.advance();
            }
            true
        });
        if all_listed {
            return bytes;
        }
        let begun = u32::try_from(self.shown_at.div_euclid(1_000_000_000)).unwrap_or_default().max(2);
        // A mailbox may be as young as the snapshot.
        let validity = if begun == list.header.validity { begun ^ 1 } else { begun };
        let header = Header { validity, next: list.next_uid(), ..list.header };
        let mut own = UidlistWriter::new(&header);
        list.lines().for_each(|line| own.push(&line));
        own.finish()
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), PrepareError> {
    let written = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(bytes));
    written.map_err(tried("write", path))
}
