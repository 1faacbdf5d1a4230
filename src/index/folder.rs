//! Where an index lies: `<cache>/<repository id>/` holds `lock`, `current` and one folder for each life of the
//! index; `current` names the one that counts.
//!
//! Starting over makes a new folder instead of clearing the old one, so that a process that still holds the old
//! database never mixes its files (SQLite removes its journal by name) with those of the new one.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use super::Result;
use super::error::IndexError;
use super::page::RunId;
use crate::base::bytes::hex;
use crate::base::entropy;
use crate::base::id::RepositoryId;

/// How long an index that is made or thrown away is waited for.
const LOCK_WAIT: Duration = Duration::from_secs(10);
const LOCK_PAUSE: Duration = Duration::from_millis(20);
const RUN_SUFFIX: &str = ".run";
const NAME_DIGITS: usize = 16;

/// The place of all lives of one repository's index.
#[derive(Debug, Clone)]
pub(super) struct Place {
    root: PathBuf,
}

/// Held while the index is made or thrown away; other processes that want the same wait.
pub(super) struct PlaceLock {
    _file: File,
}

/// Locks a file, made where there is none, against other processes until it is dropped.
///
/// # Errors
/// [`IndexError::Busy`] when it is locked for all of `wait`; [`IndexError::Io`] when it cannot be made or locked.
pub(super) fn lock_file(path: &Path, wait: Duration) -> Result<File> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
        .map_err(IndexError::io(path))?;
    for _ in 0..wait.as_millis() / LOCK_PAUSE.as_millis() {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            Err(TryLockError::Error(source)) => return Err(IndexError::Io { path: path.to_owned(), source }),
        }
    }
    Err(IndexError::Busy)
}

impl Place {
    /// Makes the place, readable by its owner alone.
    pub(super) fn create(cache: &Path, repository: &RepositoryId) -> Result<Place> {
        let root = cache.join(repository.to_string());
        make_folder(&root)?;
        Ok(Place { root })
    }

    pub(super) fn lock(&self) -> Result<PlaceLock> {
        Ok(PlaceLock { _file: lock_file(&self.root.join("lock"), LOCK_WAIT)? })
    }

    /// The folder that counts; damage when there is none.
    pub(super) fn current(&self) -> Result<Folder> {
        let path = self.root.join("current");
        let name = match fs::read(&path) {
            Ok(name) => name,
            Err(error) if [ErrorKind::NotFound, ErrorKind::IsADirectory].contains(&error.kind()) => {
                Vec::new()
            }
            Err(source) => return Err(IndexError::Io { path, source }),
        };
        match String::from_utf8(name) {
            Ok(name) if is_folder_name(&name) => Ok(Folder::new(self.root.join(name))),
            _ => Err(IndexError::damaged("no current folder")),
        }
    }

    /// Makes a new, empty folder the current one and removes all others.
    pub(super) fn renew(&self, _lock: &PlaceLock) -> Result<Folder> {
        let name = hex(&entropy::random::<{ NAME_DIGITS / 2 }>());
        let folder = Folder::new(self.root.join(&name));
        make_folder(&folder.path)?;
        self.name_current(&name)?;
        self.remove_others(&name);
        Ok(folder)
    }

    /// Removes every life of the index.
    pub(super) fn clear(&self, _lock: &PlaceLock) -> Result<()> {
        let path = self.root.join("current");
        match fs::remove_file(&path) {
            Err(source) if source.kind() != ErrorKind::NotFound => {
                return Err(IndexError::Io { path, source });
            }
            _ => self.remove_others(""),
        }
        Ok(())
    }

    fn name_current(&self, name: &str) -> Result<()> {
        let path = self.root.join("current");
        let draft = self.root.join("current.new");
        // What lies here may be anything; a folder in the way is as foreign as a file with other bytes.
        for stale in [&path, &draft] {
            if stale.is_dir() {
                fs::remove_dir_all(stale).map_err(IndexError::io(stale))?;
            }
        }
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&draft)
            .and_then(|mut file| file.write_all(name.as_bytes()))
            .and_then(|()| fs::rename(&draft, &path))
            .map_err(IndexError::io(&path))
    }

    fn remove_others(&self, kept: &str) {
        let Ok(entries) = fs::read_dir(&self.root) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            if name.to_str().is_some_and(|name| name != kept && is_folder_name(name)) {
                // What cannot be removed is in nobody's way; the next renewal tries again.
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }
}

fn is_folder_name(name: &str) -> bool {
    name.len() == NAME_DIGITS && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

pub(super) fn make_folder(path: &Path) -> Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(IndexError::io(path))?;
    let mode = fs::metadata(path).map_err(IndexError::io(path))?.permissions().mode();
    if mode & 0o077 != 0 {
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(IndexError::io(path))?;
    }
    Ok(())
}

/// One life of an index.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// Run files that are held open, over all runs.
    pub(super) open_files: AtomicUsize,
}

impl Folder {
    fn new(path: PathBuf) -> Folder {
        Folder { path, open_files: AtomicUsize::new(0) }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn database(&self) -> PathBuf {
        self.path.join("index.db")
    }

    pub(super) fn run(&self, id: &RunId) -> PathBuf {
        self.path.join(hex(id) + RUN_SUFFIX)
    }

    /// Removes run files that no row names: an earlier process ended while it wrote or merged them.
    pub(super) fn remove_strays(&self, is_named: impl Fn(&str) -> bool) {
        let Ok(entries) = fs::read_dir(&self.path) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let stem = name.to_str().and_then(|name| name.strip_suffix(RUN_SUFFIX));
            if stem.is_some_and(|stem| !is_named(stem)) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

/// Creates a file that only its owner reads, refusing one that is there.
pub(super) fn create_file(path: &Path) -> Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(IndexError::io(path))
}
