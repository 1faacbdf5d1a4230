//! A note in the target of a restore that is under way, so that the same command takes it up again.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::base::clock;
use crate::base::id::ObjectHash;

const NAME: &str = ".mailark-restore";

/// Longer notes are none of ours.
const BYTES_MAX: u64 = 4096;

/// When a restore was begun that has not come to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    /// Since the machine started: whatever has its size and time is whole.
    Since,
    /// Perhaps before. After a power cut a file may have its size and time and not its bytes.
    Before,
}

/// The note of one restore.
pub struct Marker {
    path: PathBuf,
    text: String,
    boot: String,
}

impl Marker {
    /// The note for restoring `path` of a snapshot below `target`.
    pub fn new(target: &Path, snapshot: &ObjectHash, path: &[u8]) -> Marker {
        let digest = blake3::hash(path).to_hex();
        let text =
            format!("mailark restore {snapshot} {digest}\nThis restore is not finished: run it again.\n");
        Marker { path: target.join(NAME), text, boot: format!("{}\n", clock::boot()) }
    }

    /// Tells when the very same restore was begun here; `None` when it was not, or came to its end.
    pub fn begun(&self) -> Option<Begun> {
        let found = self.read()?;
        let boot = found.strip_prefix(&self.text)?;
        Some(if boot == self.boot && boot.len() > 1 { Begun::Since } else { Begun::Before })
    }

    fn read(&self) -> Option<String> {
        // A link planted here must not be followed.
        let plain = fs::symlink_metadata(&self.path).ok()?;
        if !plain.is_file() || plain.len() > BYTES_MAX {
            return None;
        }
        fs::read_to_string(&self.path).ok()
    }

    /// Takes away a note that was cut short while it was left, where nothing else is: nothing was restored yet.
    pub fn remove_torn(&self) -> io::Result<()> {
        let whole = format!("{}{}", self.text, self.boot);
        let is_torn = self.read().is_some_and(|found| found.len() < whole.len() && whole.starts_with(&found));
        let folder = self.path.parent().expect("it lies in the target");
        if is_torn && fs::read_dir(folder)?.count() == 1 { self.remove() } else { Ok(()) }
    }

    /// Leaves the note, in the place of that of another restore.
    pub fn leave(&self) -> io::Result<()> {
        if self.begun().is_some() {
            return Ok(());
        }
        if fs::symlink_metadata(&self.path).is_ok_and(|found| found.is_file()) {
            self.remove()?;
        }
        let mut file = fs::File::options().write(true).create_new(true).open(&self.path)?;
        let left = file.write_all(self.text.as_bytes()).and_then(|()| file.write_all(self.boot.as_bytes()));
        // A full disk must not leave one that nobody knows.
        left.inspect_err(|_| drop(self.remove()))
    }

    /// Takes the note away.
    pub fn remove(&self) -> io::Result<()> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    /// The note's name, which no cleaning up may remove.
    pub fn name() -> &'static [u8] {
        NAME.as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_tells_which_restore_and_when_it_was_begun() {
        let target = tempfile::tempdir().unwrap();
        let marker =
            |snapshot: u8, path: &[u8]| Marker::new(target.path(), &ObjectHash([snapshot; 32]), path);
        let note = marker(1, b"/");
        assert_eq!(note.begun(), None);
        note.leave().unwrap();
        assert_eq!(note.begun(), Some(Begun::Since));
        assert_eq!((marker(2, b"/").begun(), marker(1, b"/data").begun()), (None, None));
        // Another start of the machine, and a version that did not say which.
        for boot in ["of another\n", ""] {
            fs::write(&note.path, format!("{}{boot}", note.text)).unwrap();
            assert_eq!(note.begun(), Some(Begun::Before));
            note.leave().unwrap();
            assert_eq!(note.begun(), Some(Begun::Before), "until it has come to its end");
        }
        let other = marker(2, b"/");
        other.leave().unwrap();
        assert_eq!((note.begun(), other.begun()), (None, Some(Begun::Since)));
        other.remove().unwrap();
        other.remove().unwrap();
    }

    #[test]
    fn a_torn_note_alone_is_taken_away() {
        let target = tempfile::tempdir().unwrap();
        let note = Marker::new(target.path(), &ObjectHash([1; 32]), b"/");
        for torn in [0, 1, 40, note.text.len()] {
            fs::write(&note.path, &note.text[..torn]).unwrap();
            note.remove_torn().unwrap();
            assert!(!note.path.exists(), "{torn}");
        }
        for whole in [format!("{}{}", note.text, note.boot), "something else".to_owned()] {
            fs::write(&note.path, whole).unwrap();
            note.remove_torn().unwrap();
            assert!(note.path.exists());
        }
        fs::write(&note.path, b"").unwrap();
        fs::write(target.path().join("mail"), b"mine").unwrap();
        note.remove_torn().unwrap();
        assert!(note.path.exists(), "somebody's folder is not touched");
    }
}
