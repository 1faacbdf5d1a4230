//! Writing one regular file.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, Mode, OFlags, ftruncate, renameat, unlinkat};
use rustix::io::{Errno, pwrite};

use super::attributes::Attributes;
use super::folder::Folder;
use super::summary::Count;
use super::{Overwrite, Result, Target, TargetError, check_name, node, temporary_name};
use crate::source::meta::Kind;

/// Zeros are looked for in blocks that file systems can leave out.
const BLOCK_BYTES: usize = 4096;

const ZEROS: [u8; BLOCK_BYTES] = [0; BLOCK_BYTES];

/// A regular file being written; dropping it unfinished removes it.
#[derive(Debug)]
pub struct FileWriter<'target> {
    target: &'target Target,
    folder: Folder,
    dir: Arc<OwnedFd>,
    name: Box<[u8]>,
    /// Where it lies until it is finished, when the name itself is taken.
    temporary: Option<Vec<u8>>,
    fd: OwnedFd,
    at: u64,
    /// End of what was really written.
    end: AtomicU64,
    finished: bool,
}

impl Target {
    /// Begins a regular file of `size` bytes.
    ///
    /// `None` when the overwrite rule lets an existing file stay. A free name is written to directly; a taken
    /// one is replaced by a rename when the file is finished, so that there is always one or the other.
    pub fn create_file(
        &self,
        folder: &Folder,
        name: &[u8],
        size: u64,
        attributes: &Attributes,
    ) -> Result<Option<FileWriter<'_>>> {
        check_name(name)?;
        let dir = self.open.get(&self.beneath, folder)?;
        let trouble = self.io("create", folder, name);
        let create = |name: &[u8]| {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            self.beneath.open(dir.as_fd(), name, flags, Mode::RUSR | Mode::WUSR)
        };
        let (fd, temporary) = match create(name) {
            Ok(fd) => (fd, None),
            Err(Errno::EXIST) => {
                if self.stays(&dir, folder, name, size, attributes)? {
                    self.tally.add(Count::Kept);
                    return Ok(None);
                }
                let temporary = temporary_name();
                (create(&temporary).map_err(trouble)?, Some(temporary))
            }
            Err(errno) => return Err(trouble(errno)),
        };
        Ok(Some(FileWriter {
            target: self,
            folder: folder.clone(),
            dir,
            name: name.into(),
            temporary,
            fd,
            at: 0,
            end: AtomicU64::new(0),
            finished: false,
        }))
    }

    /// Tells whether what has the name now stays.
    fn stays(
        &self,
        dir: &OwnedFd,
        folder: &Folder,
        name: &[u8],
        size: u64,
        attributes: &Attributes,
    ) -> Result<bool> {
        let Some((kind, meta)) = node::look(dir.as_fd(), name).map_err(self.io("look at", folder, name))?
        else {
            return Ok(false);
        };
        let same_time = (meta.mtime_s, meta.mtime_ns) == (attributes.mtime_s, attributes.mtime_ns);
        match (self.options.overwrite, &kind) {
            (Overwrite::Never, _) => Ok(true),
            (_, Kind::Directory) => Err(self.in_the_way(folder, name, &kind)),
            (Overwrite::IfChanged, Kind::File) => Ok(meta.size == size && same_time),
            _ => Ok(false),
        }
    }
}

impl FileWriter<'_> {
    fn trouble(&self, errno: Errno) -> TargetError {
        self.target.io("write", &self.folder, &self.name)(errno)
    }

    fn put(&self, mut bytes: &[u8], mut offset: u64) -> Result<()> {
        while !bytes.is_empty() {
            match pwrite(&self.fd, bytes, offset) {
                Ok(0) => return Err(self.trouble(Errno::NOSPC)),
                Ok(written) => {
                    offset += written as u64;
                    bytes = &bytes[written..];
                }
                Err(Errno::INTR) => {}
                Err(errno) => return Err(self.trouble(errno)),
            }
        }
        self.end.fetch_max(offset, Ordering::Relaxed);
        Ok(())
    }

    /// Writes bytes at a place of their own; from several threads if need be.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        if !self.target.options.sparse {
            return self.put(bytes, offset);
        }
        // Stretches of blocks that are all zero, or not, alternate; partial blocks count as data.
        let lead = (BLOCK_BYTES - (offset % BLOCK_BYTES as u64) as usize) % BLOCK_BYTES;
        let (first, aligned) = bytes.split_at(lead.min(bytes.len()));
        self.put(first, offset)?;
        let mut at = offset + first.len() as u64;
        for stretch in
            aligned.chunks(BLOCK_BYTES).collect::<Vec<_>>().chunk_by(|a, b| is_hole(a) == is_hole(b))
        {
            let length: usize = stretch.iter().map(|block| block.len()).sum();
            let begin = (at - offset) as usize;
            if !is_hole(stretch[0]) {
                self.put(&bytes[begin..begin + length], at)?;
            }
            at += length as u64;
        }
        Ok(())
    }

    /// Writes the next bytes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.write_at(self.at, bytes)?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// Leaves out the next `count` bytes: a hole.
    pub fn zeros(&mut self, count: u64) -> Result<()> {
        self.at = self.at.checked_add(count).ok_or_else(|| self.trouble(Errno::FBIG))?;
        Ok(())
    }

    /// Where the next bytes go.
    pub fn position(&self) -> u64 {
        self.at
    }

    /// Moves to where the next bytes go, and so says how long the file is at least.
    pub fn seek(&mut self, position: u64) {
        self.at = position;
    }

    /// Gives the file its attributes and, where something had its name, puts it in its place.
    pub fn finish(mut self, attributes: &Attributes) -> Result<()> {
        if self.at > *self.end.get_mut() {
            ftruncate(&self.fd, self.at).map_err(|errno| self.trouble(errno))?;
        }
        let born = self.folder.born(&self.fd).map_err(|errno| self.trouble(errno))?;
        self.target.set_on_file(&self.fd, (&self.folder, &self.name), born, attributes);
        if let Some(temporary) = &self.temporary {
            renameat(&*self.dir, temporary.as_slice(), &*self.dir, &*self.name).map_err(self.target.io(
                "replace",
                &self.folder,
                &self.name,
            ))?;
        }
        self.finished = true;
        Ok(())
    }
}

fn is_hole(block: &[u8]) -> bool {
    block == ZEROS
}

impl Drop for FileWriter<'_> {
    fn drop(&mut self) {
        if !self.finished {
            let name = self.temporary.as_deref().unwrap_or(&self.name);
            // What cannot be removed stays as an incomplete file with a wrong time; the error was told.
            unlinkat(&*self.dir, name, AtFlags::empty()).ok();
        }
    }
}
