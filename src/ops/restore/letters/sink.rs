//! Where the files of a Maildir go: a folder on disk, or an archive.

use std::collections::HashMap;

use super::{LetterError, PutError, Read};
use crate::format::page::Owner;
use crate::ops::restore::target::{Attributes, Folder, Owners, Target};
use crate::repo::extract::ExtractError;

/// What an entry is given besides its bytes.
#[derive(Debug, Clone)]
pub struct Meta<'a> {
    /// Permission bits.
    pub mode: u16,
    /// Owner.
    pub owner: &'a Owner,
    /// Modification time, unix seconds.
    pub mtime_s: i64,
    /// Nanoseconds of that.
    pub mtime_ns: u32,
}

/// Takes folders and files; a folder comes before what lies in it.
pub trait Sink {
    /// Makes a folder; one that is there stays.
    fn folder(&mut self, path: &[Vec<u8>], meta: &Meta<'_>) -> Result<(), PutError>;
    /// Writes a file of `size` bytes into a folder that was made; false when the name is taken.
    fn file(
        &mut self,
        place: (&[Vec<u8>], &[u8]),
        size: u64,
        meta: &Meta<'_>,
        read: Read<'_>,
    ) -> Result<bool, LetterError>;
    /// Nothing comes any more.
    fn finish(&mut self) -> Result<(), PutError>;
}

/// A folder on disk.
pub struct DirSink<'t> {
    /// Everything goes below this folder of the target.
    top: Vec<Vec<u8>>,
    target: &'t Target,
    owners: &'t Owners,
    folders: HashMap<Vec<Vec<u8>>, Folder>,
}

impl<'t> DirSink<'t> {
    /// Writes below a target.
    pub fn new(target: &'t Target, owners: &'t Owners) -> DirSink<'t> {
        DirSink { top: Vec::new(), target, owners, folders: HashMap::new() }
    }

    /// Writes below a folder of a target, made where it is not there.
    pub fn below(target: &'t Target, owners: &'t Owners, name: &str) -> DirSink<'t> {
        DirSink { top: vec![name.as_bytes().to_vec()], ..DirSink::new(target, owners) }
    }

    /// The target itself.
    pub fn target(&self) -> &'t Target {
        self.target
    }

    /// What an entry is given on this host.
    pub fn attributes(&self, meta: &Meta<'_>) -> Attributes {
        let known = |name: &[u8]| if name.is_empty() { None } else { Some(name.to_vec()) };
        let owner = meta.owner;
        Attributes {
            mode: meta.mode.into(),
            uid: self.owners.uid(owner.uid, known(&owner.user).as_deref()),
            gid: self.owners.gid(owner.gid, known(&owner.group).as_deref()),
            mtime_s: meta.mtime_s,
            mtime_ns: meta.mtime_ns,
            xattrs: Vec::new(),
        }
    }

    /// A folder that was made, or those on the way to it too, with the same attributes.
    pub fn make(&mut self, path: &[Vec<u8>], meta: &Meta<'_>) -> Result<Folder, PutError> {
        let path = [self.top.as_slice(), path].concat();
        self.make_at(&path, meta)
    }

    fn make_at(&mut self, path: &[Vec<u8>], meta: &Meta<'_>) -> Result<Folder, PutError> {
        if let Some(folder) = self.folders.get(path) {
            return Ok(folder.clone());
        }
        let attributes = self.attributes(meta);
        let folder = match path.split_last() {
            None => {
                self.target.set_later(self.target.root(), &attributes);
                self.target.root().clone()
            }
            Some((name, above)) => {
                let parent =
                    if above.is_empty() { self.target.root().clone() } else { self.make_at(above, meta)? };
                self.target.make_folder(&parent, name, Some(&attributes))?
            }
        };
        self.folders.insert(path.to_vec(), folder.clone());
        Ok(folder)
    }
}

impl Sink for DirSink<'_> {
    fn folder(&mut self, path: &[Vec<u8>], meta: &Meta<'_>) -> Result<(), PutError> {
        self.make(path, meta).map(drop)
    }

    fn file(
        &mut self,
        (path, name): (&[Vec<u8>], &[u8]),
        size: u64,
        meta: &Meta<'_>,
        read: Read<'_>,
    ) -> Result<bool, LetterError> {
        let folder = self.make(path, meta).map_err(ExtractError::Write)?;
        let attributes = self.attributes(meta);
        let target_error = |error| ExtractError::Write(PutError::Target(error));
        let created = self.target.create_file(&folder, name, size, &attributes).map_err(target_error)?;
        let Some(mut writer) = created else { return Ok(false) };
        read(&mut |bytes| writer.write(bytes).map_err(target_error))?;
        writer.finish(&attributes).map_err(target_error)?;
        Ok(true)
    }

    fn finish(&mut self) -> Result<(), PutError> {
        let (_, errors) = self.target.finish();
        if let Some(error) = errors.into_iter().next() {
            return Err(error.into());
        }
        Ok(self.target.sync()?)
    }
}
