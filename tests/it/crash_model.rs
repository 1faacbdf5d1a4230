//! What a disk may hold after a crash: every name and byte that was not synced is there, in part, or not at all.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use mailark::store::disk::Operation;

use crate::support::{dice, files_below};

/// A file: bytes of its own, or one of the repository as it stood before.
#[derive(Debug, Clone)]
enum File {
    Before(PathBuf),
    New { bytes: Vec<u8>, synced: usize },
}

/// A change of names that is not durable yet.
#[derive(Debug, Clone)]
enum Change {
    Name(PathBuf, usize),
    Gone(PathBuf),
    Folder(PathBuf),
}

impl Change {
    fn path(&self) -> &Path {
        match self {
            Change::Name(path, _) | Change::Gone(path) | Change::Folder(path) => path,
        }
    }
}

/// Which of the states that a crash may leave.
#[derive(Debug, Clone, Copy)]
pub enum Aftermath {
    /// Everything reached the disk.
    Everything,
    /// Only what was synced did.
    Synced,
    /// All names did, and of the bytes only what was synced.
    Names,
    /// The last write stopped in the middle.
    Torn,
    /// Each name and each unsynced byte as the dice fall.
    Dice(u64),
}

/// A disk while operations are played on it.
#[derive(Debug, Clone, Default)]
pub struct CrashModel {
    files: Vec<File>,
    names: BTreeMap<PathBuf, usize>,
    folders: BTreeSet<PathBuf>,
    pending: Vec<Change>,
    /// Files by the name under which they were created.
    by_name: BTreeMap<PathBuf, usize>,
    last_write: Option<(usize, usize)>,
}

/// What lies where.
pub struct State {
    /// Each file: where its bytes are, or the bytes.
    files: BTreeMap<PathBuf, Result<PathBuf, Vec<u8>>>,
    folders: BTreeSet<PathBuf>,
}

impl CrashModel {
    /// A disk that holds a copy of `before`, all durable; all paths are relative to the repository's folder.
    pub fn new(before: Option<&Path>) -> CrashModel {
        let mut model = CrashModel::default();
        let Some(root) = before else { return model };
        model.folders.insert(PathBuf::new());
        for file in files_below(root) {
            let name = file.strip_prefix(root).unwrap().to_owned();
            model.names.insert(name, model.files.len());
            model.files.push(File::Before(file));
        }
        let mut folders = vec![root.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
                if entry.is_dir() {
                    model.folders.insert(entry.strip_prefix(root).unwrap().to_owned());
                    folders.push(entry);
                }
            }
        }
        model
    }

    fn current(&self, path: &Path) -> usize {
        let change = self.pending.iter().rev().find(|change| change.path() == path);
        match change {
            Some(Change::Name(_, file)) => *file,
            Some(_) => panic!("{path:?} is no file"),
            None => self.names[path],
        }
    }

    /// Plays one operation.
    pub fn play(&mut self, operation: &Operation) {
        self.last_write = None;
        match operation {
            Operation::Create(path) => {
                self.by_name.insert(path.clone(), self.files.len());
                self.pending.push(Change::Name(path.clone(), self.files.len()));
                self.files.push(File::New { bytes: Vec::new(), synced: 0 });
            }
            Operation::Write(path, new) => {
                let number = self.by_name[path];
                let File::New { bytes, .. } = &mut self.files[number] else { panic!("{path:?} is not new") };
                self.last_write = Some((number, bytes.len() + new.len() / 2));
                bytes.extend_from_slice(new);
            }
            Operation::SyncFile(path) => {
                let number = self.by_name[path];
                let File::New { bytes, synced } = &mut self.files[number] else { panic!("{path:?}") };
                *synced = bytes.len();
            }
            Operation::Rename(from, to) => {
                let file = self.current(from);
                self.pending.extend([Change::Name(to.clone(), file), Change::Gone(from.clone())]);
            }
            Operation::Remove(path) => self.pending.push(Change::Gone(path.clone())),
            Operation::MakeFolder(path) => {
                // The empty path is the repository's own folder.
                let parts: Vec<&Path> = path.ancestors().collect();
                for folder in parts.into_iter().rev() {
                    let known = self.folders.contains(folder)
                        || self
                            .pending
                            .iter()
                            .any(|change| matches!(change, Change::Folder(f) if f == folder));
                    if !known {
                        self.pending.push(Change::Folder(folder.to_owned()));
                    }
                }
            }
            Operation::SyncFolder(path) => self.sync(path),
        }
    }

    /// Makes the names in a folder durable; what lies outside of the repository holds only its own folder.
    fn sync(&mut self, path: &Path) {
        let outside = path.is_absolute();
        let (durable, pending) =
            std::mem::take(&mut self.pending).into_iter().partition(|change| match change.path().parent() {
                None => outside,
                Some(parent) => !outside && parent == path,
            });
        self.pending = pending;
        let durable: Vec<Change> = durable;
        durable.into_iter().for_each(|change| apply(change, &mut self.names, &mut self.folders));
    }

    /// The state that a crash at this moment leaves.
    pub fn crash(&self, aftermath: Aftermath) -> Option<State> {
        if matches!(aftermath, Aftermath::Torn) && self.last_write.is_none() {
            return None;
        }
        let mut throw = 0;
        let mut coin = |seed: u64| {
            throw += 1;
            dice(seed.wrapping_add(throw * 0x9e37), 4)
        };
        let (mut names, mut folders) = (self.names.clone(), self.folders.clone());
        for change in &self.pending {
            let reaches = match aftermath {
                Aftermath::Everything | Aftermath::Names | Aftermath::Torn => true,
                Aftermath::Synced => false,
                Aftermath::Dice(seed) => coin(seed) < 2,
            };
            if reaches {
                apply(change.clone(), &mut names, &mut folders);
            }
        }
        let mut files = BTreeMap::new();
        for (path, number) in names {
            // In a folder that is not there, nothing is.
            if !path.parent().is_none_or(|folder| reachable(&folders, folder)) {
                continue;
            }
            let bytes = match &self.files[number] {
                File::Before(path) => Ok(path.clone()),
                File::New { bytes, synced } => Err(match aftermath {
                    Aftermath::Everything => bytes.clone(),
                    Aftermath::Synced | Aftermath::Names => bytes[..*synced].to_vec(),
                    Aftermath::Torn => {
                        let cut = self.last_write.filter(|(torn, _)| *torn == number);
                        bytes[..cut.map_or(bytes.len(), |(_, cut)| cut)].to_vec()
                    }
                    Aftermath::Dice(seed) => ragged(bytes, *synced, coin(seed), seed),
                }),
            };
            files.insert(path, bytes);
        }
        let folders = folders.iter().filter(|folder| reachable(&folders, folder)).cloned().collect();
        Some(State { files, folders })
    }
}

fn reachable(folders: &BTreeSet<PathBuf>, folder: &Path) -> bool {
    folder.ancestors().all(|above| folders.contains(above))
}

/// Of the unsynced bytes all, none, some, or zeros in their place.
fn ragged(bytes: &[u8], synced: usize, choice: u64, seed: u64) -> Vec<u8> {
    let unsynced = (bytes.len() - synced) as u64;
    let mut found = bytes.to_vec();
    match choice {
        0 => {}
        1 => found.truncate(synced),
        2 => found.truncate(synced + dice(seed ^ unsynced, unsynced + 1) as usize),
        _ => found[synced..].fill(0),
    }
    found
}

fn apply(change: Change, names: &mut BTreeMap<PathBuf, usize>, folders: &mut BTreeSet<PathBuf>) {
    match change {
        Change::Name(path, file) => drop(names.insert(path, file)),
        Change::Gone(path) => drop(names.remove(&path)),
        Change::Folder(path) => drop(folders.insert(path)),
    }
}

impl State {
    /// The same for states in which the same lies everywhere.
    pub fn digest(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        for (path, bytes) in &self.files {
            hasher.update(path.as_os_str().as_encoded_bytes()).update(b"\0");
            match bytes {
                Ok(before) => hasher.update(before.as_os_str().as_encoded_bytes()),
                Err(bytes) => hasher.update(blake3::hash(bytes).as_bytes()),
            };
        }
        for folder in &self.folders {
            hasher.update(folder.as_os_str().as_encoded_bytes()).update(b"/");
        }
        *hasher.finalize().as_bytes()
    }

    /// Lays the state out in `to`, which is not there; old files are linked, not copied.
    pub fn lay_out(&self, to: &Path) {
        for folder in &self.folders {
            fs::create_dir(to.join(folder)).unwrap();
        }
        for (path, bytes) in &self.files {
            match bytes {
                Ok(before) => fs::hard_link(before, to.join(path)).unwrap(),
                Err(bytes) => fs::write(to.join(path), bytes).unwrap(),
            }
        }
    }
}

/// The same operation with paths relative to `root`; folders above it stay as they are.
pub fn relative(operation: Operation, root: &Path) -> Operation {
    let short = |path: PathBuf| path.strip_prefix(root).map(Path::to_owned).unwrap_or(path);
    match operation {
        Operation::Create(path) => Operation::Create(short(path)),
        Operation::Write(path, bytes) => Operation::Write(short(path), bytes),
        Operation::SyncFile(path) => Operation::SyncFile(short(path)),
        Operation::Rename(from, to) => Operation::Rename(short(from), short(to)),
        Operation::SyncFolder(path) => Operation::SyncFolder(short(path)),
        Operation::MakeFolder(path) => Operation::MakeFolder(short(path)),
        Operation::Remove(path) => Operation::Remove(short(path)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(state: &State) -> Vec<(String, Vec<u8>)> {
        let of = |(path, bytes): (&PathBuf, &Result<PathBuf, Vec<u8>>)| {
            (path.to_string_lossy().into_owned(), bytes.clone().unwrap_err())
        };
        state.files.iter().map(of).collect()
    }

    #[test]
    fn what_was_not_synced_may_be_missing() {
        let mut model = CrashModel::new(None);
        let path = |name: &str| PathBuf::from(name);
        let name = |state: State| files(&state);
        for folder in ["", "tmp", "packs"] {
            model.play(&Operation::MakeFolder(path(folder)));
        }
        assert!(name(model.crash(Aftermath::Synced).unwrap()).is_empty());
        model.play(&Operation::SyncFolder(path("")));
        model.play(&Operation::SyncFolder(path("/above")));
        model.play(&Operation::Create(path("tmp/x")));
        model.play(&Operation::Write(path("tmp/x"), b"12345678".to_vec()));
        assert_eq!(name(model.crash(Aftermath::Torn).unwrap()), [("tmp/x".to_owned(), b"1234".to_vec())]);
        assert_eq!(name(model.crash(Aftermath::Names).unwrap()), [("tmp/x".to_owned(), Vec::new())]);
        assert!(name(model.crash(Aftermath::Synced).unwrap()).is_empty());
        model.play(&Operation::Rename(path("tmp/x"), path("packs/x")));
        assert!(model.crash(Aftermath::Torn).is_none());
        assert_eq!(name(model.crash(Aftermath::Names).unwrap()), [("packs/x".to_owned(), Vec::new())]);
        model.play(&Operation::SyncFolder(path("packs")));
        assert_eq!(name(model.crash(Aftermath::Synced).unwrap()), [("packs/x".to_owned(), Vec::new())]);
        model.play(&Operation::SyncFile(path("tmp/x")));
        model.play(&Operation::Remove(path("packs/x")));
        let kept = [("packs/x".to_owned(), b"12345678".to_vec())];
        assert_eq!(name(model.crash(Aftermath::Synced).unwrap()), kept);
        assert!(name(model.crash(Aftermath::Everything).unwrap()).is_empty());
    }
}
