//! What lies in a repository's folder beside its objects: a note for people, and what is nobody's.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::local::DAMAGED;
use super::{Folder, LocalStore, Place, StoreError};
use crate::base::{bytes, limits};

/// Name of the note that says how to get the data back.
pub const RECOVERY_NOTE: &str = "RECOVERY.txt";

/// Most files that are named as nobody's.
const STRAYS_MAX: usize = 1_000;

impl LocalStore {
    /// The folder is there.
    pub fn exists(&self) -> Result<bool, StoreError> {
        self.root
            .try_exists()
            .map_err(|error| StoreError::new("open", self.root.display().to_string(), error))
    }

    /// The folder's own file of locks and half-written objects.
    pub fn temporary_file(&self, name: &str) -> PathBuf {
        self.root.join("tmp").join(name)
    }

    /// The note that says how to get the data back; `None` when there is none.
    pub fn recovery_note(&self) -> Result<Option<Vec<u8>>, StoreError> {
        let fail = |error| StoreError::new("read", RECOVERY_NOTE, error);
        let file = match fs::File::open(self.root.join(RECOVERY_NOTE)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(fail)?,
        };
        let mut bytes = Vec::new();
        file.take(limits::SMALL_OBJECT_BYTES_MAX).read_to_end(&mut bytes).map_err(fail)?;
        Ok(Some(bytes))
    }

    /// Writes that note, in place of one that is there.
    pub fn write_recovery_note(&self, text: &[u8]) -> Result<(), StoreError> {
        let fail = |error| StoreError::new("write", RECOVERY_NOTE, error);
        let (file, temporary) = self.begin("object")?;
        let written = (self.disk.write(&file, &temporary, text))
            .and_then(|()| self.disk.sync_file(&file, &temporary))
            .and_then(|()| self.disk.rename_over(&temporary, &self.root.join(RECOVERY_NOTE)))
            .and_then(|()| self.disk.sync_folder(&self.root));
        if written.is_err() {
            // Best effort: what stays in tmp/ is collected by prune.
            let _ = self.disk.remove_file(&temporary);
        }
        written.map_err(fail)
    }

    /// Files and folders that are neither objects nor anything else of a repository's, sorted; names are displayed.
    pub fn strays(&self) -> Result<Vec<String>, StoreError> {
        let fail = |error| StoreError::new("list", self.root.display().to_string(), error);
        let mut strays = Vec::new();
        let mut folders = vec![PathBuf::new()];
        while let Some(folder) = folders.pop() {
            let entries = match fs::read_dir(self.root.join(&folder)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                entries => entries.map_err(fail)?,
            };
            for entry in entries {
                let entry = entry.map_err(fail)?;
                let path = folder.join(entry.file_name());
                let is_folder = entry.file_type().map_err(fail)?.is_dir();
                match is_ours(&path, is_folder) {
                    true if is_folder && path != Path::new("tmp") && path != Path::new(DAMAGED) => {
                        folders.push(path)
                    }
                    true => {}
                    false if strays.len() < STRAYS_MAX => {
                        strays.push(bytes::display(path.as_os_str().as_encoded_bytes()));
                    }
                    false => {}
                }
            }
        }
        strays.sort();
        Ok(strays)
    }
}

/// Is it a folder of objects, an object, or the note?
fn is_ours(path: &Path, is_folder: bool) -> bool {
    let Some(name) = path.to_str() else { return false };
    if !is_folder {
        return name == RECOVERY_NOTE || Place::parse(name).is_some();
    }
    let mut parts = name.split('/');
    let top = parts.next().unwrap_or_default();
    let folder = Folder::ALL.into_iter().chain([Folder::Inventory]).find(|folder| folder.name() == top);
    match (folder, parts.next(), parts.next()) {
        (_, None, _) => top == "tmp" || top == DAMAGED || folder.is_some(),
        // What a folder between is called shows in the names of its objects.
        (Some(folder), Some(_), None) => folder.is_nested(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Storage;

    #[test]
    fn strays_are_told_from_what_belongs_there() {
        let folder = tempfile::tempdir().unwrap();
        let store = LocalStore::new(&folder.path().join("store"));
        assert!(!store.exists().unwrap());
        store.prepare().unwrap();
        assert_eq!(store.recovery_note().unwrap(), None);
        store.write_recovery_note(b"one").unwrap();
        store.write_recovery_note(b"two").unwrap();
        assert_eq!(store.recovery_note().unwrap().unwrap(), b"two");
        let hash = blake3::hash(b"x");
        let place = Place::parse(&format!("packs/{}/{}", &hash.to_hex()[..2], hash.to_hex())).unwrap();
        store.create(&place, b"x").unwrap();
        fs::write(store.temporary_file("mirror.lock"), "").unwrap();
        assert_eq!(store.strays().unwrap(), Vec::<String>::new());
        for name in ["note", "packs/note", "records/folder/deep", "packs/00/x", "tmp/x"] {
            let path = store.root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        assert_eq!(store.strays().unwrap(), ["note", "packs/00/x", "packs/note", "records/folder"]);
    }

    #[test]
    fn a_copy_takes_the_place_of_what_stood_there_and_its_time() {
        let folder = tempfile::tempdir().unwrap();
        let store = LocalStore::new(folder.path());
        store.prepare().unwrap();
        let hash = blake3::hash(b"content");
        let place = Place::parse(&format!("records/000000000001-{}", hash.to_hex())).unwrap();
        store.create(&place, b"rotten").unwrap();
        let mut copy = store.begin_copy(7).unwrap();
        copy.write(b"content").unwrap();
        assert_eq!(Some(&copy.hash()), place.hash());
        store.finish_copy(copy, &place, 1_234_567_890_000_000_000).unwrap();
        store.barrier().unwrap();
        assert_eq!(store.read(&place, 100).unwrap(), b"content");
        assert_eq!(store.received(&place).unwrap(), 1_234_567_890_000_000_000);
        drop(store.begin_copy(7).unwrap());
        assert_eq!(store.temporary().unwrap(), []);
    }
}
