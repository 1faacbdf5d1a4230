//! A note in the target of a restore that is under way, so that the same command takes it up again.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::base::id::ObjectHash;

const NAME: &str = ".mailark-restore";

/// The note of one restore.
pub struct Marker {
    path: PathBuf,
    text: String,
}

impl Marker {
    /// The note for restoring `path` of a snapshot below `target`.
    pub fn new(target: &Path, snapshot: &ObjectHash, path: &[u8]) -> Marker {
        let digest = blake3::hash(path).to_hex();
        let text =
            format!("mailark restore {snapshot} {digest}\nThis restore is not finished: run it again.\n");
        Marker { path: target.join(NAME), text }
    }

    /// True when the very same restore was begun here and not finished.
    pub fn is_there(&self) -> bool {
        // A link planted here must not be followed.
        let plain = fs::symlink_metadata(&self.path).is_ok_and(|meta| meta.is_file() && meta.len() < 4096);
        plain && fs::read_to_string(&self.path).is_ok_and(|text| text == self.text)
    }

    /// Leaves the note.
    pub fn leave(&self) -> io::Result<()> {
        if self.is_there() {
            return Ok(());
        }
        let mut options = fs::File::options();
        io::Write::write_all(
            &mut options.write(true).create_new(true).open(&self.path)?,
            self.text.as_bytes(),
        )
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
