//! A store in a folder of a local disk or a mounted share.
//!
//! An object is written under `tmp/`, synced, and linked to its name, so a name never holds half an object. The
//! folder that received the name is synced before `create` returns, for packs at the next barrier.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::disk::{Disk, RealDisk};
use super::spare::{SPARE_NAME, Spare};
use super::{Folder, Place, Storage, StoreError, StoreErrorKind, Temporary};
use crate::base::clock::{self, UnixNanos};
use crate::base::entropy;
use crate::base::id::{HostId, ObjectHash};
use crate::base::remote::is_remote;

/// Bytes of the disk that a backup leaves alone, so that the mail on the same disk can still be delivered.
pub(super) const RESERVE_BYTES: u64 = 32 << 20;

/// A store in a folder.
#[derive(Debug)]
pub struct LocalStore {
    pub(super) root: PathBuf,
    pub(super) disk: Arc<dyn Disk>,
    spare: Spare,
    /// What the administrator says of it, who may know better than the file system's type.
    staleness: Option<Duration>,
    /// Folders that received a pack since the last barrier.
    unsynced: Mutex<BTreeSet<PathBuf>>,
    /// Why a barrier failed: a later one that goes well proves nothing about what the first one covered.
    broken: Mutex<Option<String>>,
}

impl LocalStore {
    /// Opens the store in `root`, which need not exist.
    pub fn new(root: &Path) -> LocalStore {
        LocalStore::with_disk(root, Arc::new(RealDisk))
    }

    /// The same, with all changes made by `disk`.
    pub fn with_disk(root: &Path, disk: Arc<dyn Disk>) -> LocalStore {
        let spare = Spare::new(root, Arc::clone(&disk));
        let (staleness, unsynced, broken) = Default::default();
        LocalStore { root: root.to_owned(), disk, spare, staleness, unsynced, broken }
    }

    /// The same store, whose lists every host sees that late; `None` to go by the type of the file system.
    pub fn with_staleness(self, staleness: Option<Duration>) -> LocalStore {
        LocalStore { staleness, ..self }
    }

    /// Makes the folders of a new store; `root` must be absent or empty.
    pub fn prepare(&self) -> Result<(), StoreError> {
        let fail = |error| StoreError::new("create", self.location(), error);
        let is_blank = match fs::read_dir(&self.root) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            entries => entries.map_err(fail)?.next().is_none(),
        };
        if !is_blank {
            let detail = match self.list(Folder::Packs)?.len() {
                0 => "the folder is not empty (an interrupted init leaves one, without packs)".to_owned(),
                packs => format!("the folder holds {packs} packs of a repository: do not remove it"),
            };
            return Err(fail(io::Error::new(io::ErrorKind::AlreadyExists, detail)));
        }
        self.make_folders()
    }

    /// Makes the folder of a store, and those in it, where they are not there.
    pub fn make_folders(&self) -> Result<(), StoreError> {
        let fail = |error| StoreError::new("create", self.location(), error);
        let new: Vec<&Path> = self.root.ancestors().take_while(|folder| !folder.exists()).collect();
        self.disk.make_folder(&self.root).map_err(fail)?;
        for name in Folder::ALL.iter().map(|folder| folder.name()).chain(["tmp"]) {
            self.disk.make_folder(&self.root.join(name)).map_err(fail)?;
        }
        self.disk.sync_folder(&self.root).map_err(fail)?;
        for parent in new.into_iter().filter_map(Path::parent) {
            let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            match self.disk.sync_folder(parent) {
                // A folder in which one may make others and not look.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
                synced => synced.map_err(fail)?,
            }
        }
        self.spare.keep(|| self.available_bytes());
        Ok(())
    }

    pub(super) fn path(&self, place: &Place) -> PathBuf {
        self.root.join(place.to_string())
    }

    pub(super) fn begin(&self, owner: &str) -> Result<(File, PathBuf), StoreError> {
        let path =
            self.root.join("tmp").join(format!("{owner}-{:016x}", u64::from_le_bytes(entropy::random())));
        let file = self.disk.create_file(&path).or_else(|error| {
            // A copy of a repository made by a tool that skips empty folders has no tmp/.
            if error.kind() != io::ErrorKind::NotFound || !self.root.join("config").exists() {
                return Err(error);
            }
            self.disk.make_folder(&self.root.join("tmp"))?;
            self.disk.create_file(&path)
        });
        let file = file.map_err(|error| StoreError::new("create a file in", self.location(), error))?;
        Ok((file, path))
    }

    /// Gives a finished temporary file its name, unless the name is taken; then the file is dropped.
    fn publish(&self, temporary: &Path, place: &Place) -> Result<PathBuf, StoreError> {
        let fail = |error| StoreError::new("create", place.to_string(), error);
        let target = self.path(place);
        let folder = target.parent().expect("objects lie in folders").to_owned();
        let mut moved = self.disk.rename_new(temporary, &target);
        if matches!(&moved, Err(error) if error.kind() == io::ErrorKind::NotFound) {
            self.disk.make_folder(&folder).map_err(fail)?;
            moved = self.disk.rename_new(temporary, &target);
        }
        match moved {
            Ok(()) => Ok(folder),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && place.hash().is_some() => {
                // The same name is the same content, so the twin is as good; readers verify the hash anyway.
                self.disk.remove_file(temporary).map_err(fail)?;
                Ok(folder)
            }
            Err(error) => Err(fail(error)),
        }
    }

    /// A folder and those above it, up to the store's own.
    ///
    /// All are synced for a name in the first: whoever made one of them may have come to an end before it was synced
    /// into the one above it, and a copy of a repository, a mirror or an older one may lack some.
    fn with_those_above<'f>(&'f self, folder: &'f Path) -> impl Iterator<Item = &'f Path> {
        folder.ancestors().take_while(|above| above.starts_with(&self.root))
    }

    /// Makes the names in a folder of objects durable, and that of the folder itself.
    fn sync_names(&self, folder: &Path) -> io::Result<()> {
        self.with_those_above(folder).try_for_each(|folder| self.disk.sync_folder(folder))
    }

    /// Writes a whole file under `tmp/`, syncs it and hands it on; when anything fails the file is removed.
    fn write_and<T>(
        &self,
        place: &Place,
        bytes: &[u8],
        publish: impl FnOnce(&Path) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let (file, temporary) = self.begin("object")?;
        let written =
            self.disk.write(&file, &temporary, bytes).and_then(|()| self.disk.sync_file(&file, &temporary));
        let published = match written {
            Ok(()) => publish(&temporary),
            Err(error) => Err(StoreError::new("write", place.to_string(), error)),
        };
        published.inspect_err(|_| {
            // Best effort: what stays in tmp/ is collected by prune.
            let _ = self.disk.remove_file(&temporary);
        })
    }

    fn create_once(&self, place: &Place, bytes: &[u8]) -> Result<(), StoreError> {
        let folder = self.write_and(place, bytes, |temporary| self.publish(temporary, place))?;
        self.sync_names(&folder).map_err(|error| StoreError::new("sync", place.to_string(), error))
    }

    fn check_space(&self, bytes: u64, object: &str) -> Result<(), StoreError> {
        match self.available_bytes() {
            Some(available) if available < bytes + RESERVE_BYTES => {
                let detail = format!("{available} bytes are left and {RESERVE_BYTES} are kept in reserve");
                Err(StoreError::new("create", object, io::Error::new(io::ErrorKind::StorageFull, detail)))
            }
            _ => Ok(()),
        }
    }
}

/// Where damaged objects are kept.
pub(super) const DAMAGED: &str = "damaged";

/// How late other hosts may see in a listing on a share what was created: NFS clients look again after a minute at most.
const SHARE_STALENESS: Duration = Duration::from_secs(65);

impl Storage for LocalStore {
    fn location(&self) -> String {
        self.root.display().to_string()
    }

    fn read(&self, place: &Place, bytes_max: u64) -> Result<Vec<u8>, StoreError> {
        let fail = |error| StoreError::new("read", place.to_string(), error);
        let file = File::open(self.path(place)).map_err(fail)?;
        let size = file.metadata().map_err(fail)?.len();
        if size > bytes_max {
            return Err(StoreError::sized("read", place.to_string(), format!("{size} bytes are too many")));
        }
        let mut bytes = Vec::with_capacity(size as usize + 1);
        file.take(bytes_max).read_to_end(&mut bytes).map_err(fail)?;
        Ok(bytes)
    }

    fn read_range(&self, place: &Place, offset: u64, length: usize) -> Result<Vec<u8>, StoreError> {
        let fail = |error| StoreError::new("read", place.to_string(), error);
        let file = File::open(self.path(place)).map_err(fail)?;
        // A truncated object is told before memory is taken for what it lacks.
        let size = file.metadata().map_err(fail)?.len();
        if offset.checked_add(length as u64).is_none_or(|end| end > size) {
            let detail = format!("the file ends at {size}, bytes from {offset} were expected");
            return Err(StoreError::sized("read", place.to_string(), detail));
        }
        let mut bytes = vec![0; length];
        file.read_exact_at(&mut bytes, offset).map_err(fail)?;
        Ok(bytes)
    }

    fn list(&self, folder: Folder) -> Result<Vec<(Place, u64)>, StoreError> {
        let top = self.root.join(folder.name());
        let fail = |error| StoreError::new("list", folder.name(), error);
        let mut found = Vec::new();
        let mut add = |parent: &str, path: &Path| -> Result<(), StoreError> {
            let entries = match fs::read_dir(path) {
                Ok(entries) => entries,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(fail(error)),
            };
            for entry in entries {
                let entry = entry.map_err(fail)?;
                let place = entry.file_name().to_str().and_then(|name| folder.parse(parent, name));
                let Some(place) = place else { continue };
                match entry.metadata() {
                    Ok(metadata) if metadata.is_file() => found.push((place, metadata.len())),
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(StoreError::new("read", place.to_string(), error)),
                }
            }
            Ok(())
        };
        if !folder.is_nested() {
            add("", &top)?;
        } else if let Some(parents) = subfolders(&top).map_err(fail)? {
            parents.iter().try_for_each(|parent| add(parent, &top.join(parent)))?;
        }
        found.sort();
        Ok(found)
    }

    fn create(&self, place: &Place, bytes: &[u8]) -> Result<(), StoreError> {
        // The reserve is kept from packs only: without their delta and snapshot they would be worth nothing.
        let mut created = self.create_once(place, bytes);
        if matches!(&created, Err(error) if error.kind == StoreErrorKind::Full)
            && Spare::serves(place, bytes.len())
            && self.spare.give_up()
        {
            created = self.create_once(place, bytes);
        }
        created?;
        self.spare.keep(|| self.available_bytes());
        Ok(())
    }

    fn create_pack(&self, host: &HostId) -> Result<PackFile, StoreError> {
        self.check_space(crate::base::limits::PACK_BYTES_AIM, "a pack")?;
        PackFile::begin(self, &host.to_string())
    }

    fn begin_copy(&self, bytes: u64) -> Result<PackFile, StoreError> {
        self.check_space(bytes, "a copy")?;
        PackFile::begin(self, "mirror")
    }

    fn finish_copy(&self, mut copy: PackFile, place: &Place, received: UnixNanos) -> Result<(), StoreError> {
        let fail = |error| StoreError::new("create", place.to_string(), error);
        let file = copy.file.as_ref().expect("a copy is finished once");
        // Where times cannot be set, retention takes the copy for younger than it is, and keeps it longer.
        let _ = file.set_modified(clock::system_time(received));
        let synced = self.disk.sync_file(file, &copy.path);
        synced.map_err(|error| StoreError::new("sync", place.to_string(), error))?;
        let target = self.path(place);
        let folder = target.parent().expect("objects lie in folders").to_owned();
        if !folder.try_exists().map_err(fail)? {
            self.disk.make_folder(&folder).map_err(fail)?;
        }
        self.disk.rename_over(&copy.path, &target).map_err(fail)?;
        copy.file = None;
        match place {
            Place::Pack(_) | Place::Parity(..) => {
                self.unsynced.lock().expect("no holder panics").insert(folder);
                Ok(())
            }
            _ => self.sync_names(&folder).map_err(|error| StoreError::new("sync", place.to_string(), error)),
        }
    }

    fn barrier(&self) -> Result<(), StoreError> {
        let mut broken = self.broken.lock().expect("no holder panics");
        if let Some(why) = broken.as_ref() {
            let error = io::Error::other(format!("it failed before: {why}"));
            return Err(StoreError::new("sync", self.location(), error));
        }
        let mut folders = self.unsynced.lock().expect("no holder panics");
        let all: BTreeSet<&Path> = folders.iter().flat_map(|folder| self.with_those_above(folder)).collect();
        for folder in all {
            if let Err(error) = self.disk.sync_folder(folder) {
                *broken = Some(error.to_string());
                return Err(StoreError::new("sync", folder.display().to_string(), error));
            }
        }
        folders.clear();
        Ok(())
    }

    fn remove(&self, place: &Place) -> Result<(), StoreError> {
        let path = self.path(place);
        let removed = self
            .disk
            .remove_file(&path)
            .and_then(|()| self.disk.sync_folder(path.parent().expect("an object's folder")));
        removed.map_err(|error| StoreError::new("remove", place.to_string(), error))
    }

    fn replace(&self, place: &Place, bytes: &[u8]) -> Result<(), StoreError> {
        let fail = |error| StoreError::new("replace", place.to_string(), error);
        let target = self.path(place);
        let folder = target.parent().expect("objects lie in folders");
        if !folder.exists() {
            self.disk.make_folder(folder).map_err(fail)?;
        }
        self.write_and(place, bytes, |temporary| self.disk.rename_over(temporary, &target).map_err(fail))?;
        self.sync_names(folder).map_err(fail)
    }

    fn set_aside(&self, place: &Place) -> Result<String, StoreError> {
        let fail = |error| StoreError::new("set aside", place.to_string(), error);
        let (from, folder) = (self.path(place), self.root.join(DAMAGED));
        self.disk.make_folder(&folder).map_err(fail)?;
        let plain = place.to_string().replace('/', "-");
        let mut number = 1;
        // One object can be damaged, come back and be damaged again.
        let name = loop {
            let name = if number == 1 { plain.clone() } else { format!("{plain}.{number}") };
            match self.disk.rename_new(&from, &folder.join(&name)) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
                moved => break moved.map(|()| name).map_err(fail)?,
            }
        };
        let folders = [&folder, &self.root, from.parent().expect("objects lie in folders")];
        folders.into_iter().try_for_each(|folder| self.disk.sync_folder(folder)).map_err(fail)?;
        Ok(format!("{DAMAGED}/{name}"))
    }

    fn available_bytes(&self) -> Option<u64> {
        let found = rustix::fs::statvfs(&self.root).ok()?;
        Some(found.f_bavail.saturating_mul(found.f_frsize))
    }

    fn received(&self, place: &Place) -> Result<UnixNanos, StoreError> {
        let fail = |error| StoreError::new("read", place.to_string(), error);
        Ok(clock::of(fs::metadata(self.path(place)).and_then(|found| found.modified()).map_err(fail)?))
    }

    fn time(&self) -> UnixNanos {
        let probe = || -> Result<UnixNanos, StoreError> {
            let (file, path) = self.begin("probe")?;
            let now = file.metadata().and_then(|found| found.modified());
            // What stays is collected like everything else in tmp/.
            let _ = self.disk.remove_file(&path);
            now.map(clock::of).map_err(|error| StoreError::new("read", "tmp", error))
        };
        // The clock of a share may differ from ours; of a full or read-only one ours is as good as it gets.
        probe().unwrap_or_else(|_| clock::now())
    }

    fn staleness(&self) -> Duration {
        self.staleness.unwrap_or_else(|| {
            let kind = rustix::fs::statfs(&self.root).map(|found| found.f_type as u32);
            if kind.is_ok_and(is_remote) { SHARE_STALENESS } else { Duration::ZERO }
        })
    }

    fn temporary(&self) -> Result<Vec<Temporary>, StoreError> {
        let folder = self.root.join("tmp");
        let fail = |error| StoreError::new("list", "tmp", error);
        let now = self.time();
        let mut found = Vec::new();
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
            entries => entries.map_err(fail)?,
        };
        for entry in entries {
            let entry = entry.map_err(fail)?;
            // What its writer just finished is gone; a name of ours is ASCII.
            let (Ok(metadata), Ok(name)) = (entry.metadata(), entry.file_name().into_string()) else {
                continue;
            };
            if metadata.is_file() && name != SPARE_NAME {
                let written = clock::of(metadata.modified().map_err(fail)?);
                let idle = Duration::from_nanos((now - written).clamp(0, i64::MAX.into()) as u64);
                found.push(Temporary { name, bytes: metadata.len(), idle });
            }
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    fn remove_temporary(&self, name: &str) -> Result<(), StoreError> {
        let fail = |error| StoreError::new("remove", format!("tmp/{name}"), error);
        if name.contains('/') || name.starts_with('.') {
            return Err(fail(io::ErrorKind::InvalidInput.into()));
        }
        self.disk.remove_file(&self.root.join("tmp").join(name)).map_err(fail)
    }

    fn finish_pack(&self, mut pack: PackFile) -> Result<(ObjectHash, u64), StoreError> {
        let hash = pack.hash();
        let place = Place::Pack(hash);
        let file = pack.file.as_ref().expect("a pack is finished once");
        let synced = self.disk.sync_file(file, &pack.path);
        synced.map_err(|error| StoreError::new("sync", place.to_string(), error))?;
        let folder = self.publish(&pack.path, &place)?;
        pack.file = None;
        self.unsynced.lock().expect("no holder panics").insert(folder);
        Ok((hash, pack.bytes))
    }
}

/// The names of a folder's subfolders; `None` when it is not there.
fn subfolders(path: &Path) -> io::Result<Option<Vec<String>>> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        entries => entries?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry?;
        // A stray file is nobody's folder of objects.
        if entry.file_type()?.is_dir() {
            names.extend(entry.file_name().into_string().ok());
        }
    }
    Ok(Some(names))
}

/// A pack, or a copy of any object, that is being written under `tmp/`; dropped unfinished, it is removed.
#[derive(Debug)]
pub struct PackFile {
    disk: Arc<dyn Disk>,
    file: Option<File>,
    path: PathBuf,
    hasher: blake3::Hasher,
    bytes: u64,
}

impl PackFile {
    fn begin(store: &LocalStore, owner: &str) -> Result<PackFile, StoreError> {
        let (file, path) = store.begin(owner)?;
        let disk = Arc::clone(&store.disk);
        Ok(PackFile { disk, file: Some(file), path, hasher: blake3::Hasher::new(), bytes: 0 })
    }

    /// Appends bytes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        let file = self.file.as_ref().expect("an open pack has its file");
        self.disk.write(file, &self.path, bytes).map_err(|error| StoreError::new("write", "a pack", error))
    }

    /// BLAKE3 of the bytes written so far.
    pub fn hash(&self) -> ObjectHash {
        ObjectHash(*self.hasher.finalize().as_bytes())
    }

    /// Bytes written so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for PackFile {
    fn drop(&mut self) {
        if self.file.is_some() {
            // Best effort: what stays in tmp/ is collected by prune.
            let _ = self.disk.remove_file(&self.path);
        }
    }
}
