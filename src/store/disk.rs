//! The changes that a store makes to a disk, all through one narrow door, so that they can be recorded and failed.
//!
//! A crash may come between any two of them, and what was not synced may then be there, in part or not at all.

use std::fmt::Debug;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// Makes all changes of a store.
pub trait Disk: Send + Sync + Debug {
    /// Creates a file that only its owner reads; a name that is taken is refused.
    fn create_file(&self, path: &Path) -> io::Result<File>;
    /// Appends bytes to the file that was created as `path`.
    fn write(&self, file: &File, path: &Path, bytes: &[u8]) -> io::Result<()>;
    /// Makes the bytes of the file that was created as `path` durable.
    fn sync_file(&self, file: &File, path: &Path) -> io::Result<()>;
    /// Gives a file another name, which must be free.
    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Gives a file another name, in the place of the file that may have it.
    fn rename_over(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Makes the names in a folder durable.
    fn sync_folder(&self, path: &Path) -> io::Result<()>;
    /// Makes a folder for its owner alone, and those above it that are not there.
    fn make_folder(&self, path: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
}

/// The disk as the system gives it.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn create_file(&self, path: &Path) -> io::Result<File> {
        File::options().write(true).create_new(true).mode(0o600).open(path)
    }

    fn write(&self, mut file: &File, _path: &Path, bytes: &[u8]) -> io::Result<()> {
        file.write_all(bytes)
    }

    fn sync_file(&self, file: &File, _path: &Path) -> io::Result<()> {
        file.sync_all()
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        use rustix::fs::{CWD, RenameFlags, renameat_with};
        match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
            // Shares without RENAME_NOREPLACE: a hard link refuses a taken name as well.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS | rustix::io::Errno::NOTSUP) => {
                match fs::hard_link(from, to) {
                    Ok(()) => fs::remove_file(from),
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
                    Err(_) if to.try_exists()? => Err(io::ErrorKind::AlreadyExists.into()),
                    Err(_) => fs::rename(from, to),
                }
            }
            result => Ok(result?),
        }
    }

    fn rename_over(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn make_folder(&self, path: &Path) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }
}

/// One change that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// A file was created.
    Create(PathBuf),
    /// Bytes were appended to the file created under that name.
    Write(PathBuf, Vec<u8>),
    /// The file created under that name was synced.
    SyncFile(PathBuf),
    /// A file got another name.
    Rename(PathBuf, PathBuf),
    /// A folder was synced.
    SyncFolder(PathBuf),
    /// A folder was made.
    MakeFolder(PathBuf),
    /// A file was removed.
    Remove(PathBuf),
}

/// The real disk, and a record of what was done to it, in order.
#[derive(Debug, Default)]
pub struct RecordingDisk {
    operations: Mutex<Vec<Operation>>,
}

impl RecordingDisk {
    /// What was done since the last call.
    pub fn take(&self) -> Vec<Operation> {
        std::mem::take(&mut self.operations.lock().expect("no holder panics"))
    }

    /// Does something and notes it, with nothing in between; what failed changed nothing.
    fn note<T>(
        &self,
        operation: impl FnOnce() -> Operation,
        act: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        let mut operations = self.operations.lock().expect("no holder panics");
        let done = act()?;
        operations.push(operation());
        Ok(done)
    }
}

impl Disk for RecordingDisk {
    fn create_file(&self, path: &Path) -> io::Result<File> {
        self.note(|| Operation::Create(path.to_owned()), || RealDisk.create_file(path))
    }

    fn write(&self, file: &File, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let operation = || Operation::Write(path.to_owned(), bytes.to_vec());
        self.note(operation, || RealDisk.write(file, path, bytes))
    }

    fn sync_file(&self, file: &File, path: &Path) -> io::Result<()> {
        self.note(|| Operation::SyncFile(path.to_owned()), || RealDisk.sync_file(file, path))
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        let operation = || Operation::Rename(from.to_owned(), to.to_owned());
        self.note(operation, || RealDisk.rename_new(from, to))
    }

    fn rename_over(&self, from: &Path, to: &Path) -> io::Result<()> {
        let operation = || Operation::Rename(from.to_owned(), to.to_owned());
        self.note(operation, || RealDisk.rename_over(from, to))
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.note(|| Operation::SyncFolder(path.to_owned()), || RealDisk.sync_folder(path))
    }

    fn make_folder(&self, path: &Path) -> io::Result<()> {
        if path.is_dir() {
            return Ok(());
        }
        self.note(|| Operation::MakeFolder(path.to_owned()), || RealDisk.make_folder(path))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.note(|| Operation::Remove(path.to_owned()), || RealDisk.remove_file(path))
    }
}
