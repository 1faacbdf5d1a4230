//! Which packs `check` read when, and found whole: so that repeated partial checks read everything in turn.
//!
//! One line a pack in `<state>/<repository id>/verified` (`verified-writer` for a key that opens only a part of
//! them): hash, unix seconds by this machine's clock.

use std::fs::{self, DirBuilder, File};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::base::id::{ObjectHash, RepositoryId};
use crate::format::keyset::Role;
use crate::ops::check::Memory;

/// Most packs that are remembered: 128 TiB of usual ones.
const PACKS_MAX: usize = 4 << 20;
/// Bytes of a line, more than any has.
const LINE_BYTES: u64 = 100;

/// The file of one repository.
pub struct VerifiedFile(PathBuf);

fn parse(line: &[u8]) -> Option<(ObjectHash, i64)> {
    let (hash, at) = std::str::from_utf8(line).ok()?.trim_end().split_once(' ')?;
    Some((hash.parse().ok()?, at.parse().ok()?))
}

impl VerifiedFile {
    /// Where it lies.
    pub fn new(state_dir: &Path, repository: RepositoryId, role: Role) -> VerifiedFile {
        let name = match role {
            Role::Full => "verified",
            Role::Writer => "verified-writer",
        };
        VerifiedFile(state_dir.join(repository.to_string()).join(name))
    }

    /// Reads what is remembered; a file that cannot be read remembers nothing, and lines that make no sense are
    /// passed over: at worst a pack is read once more.
    pub fn load(&self) -> Memory {
        let mut memory = Memory::new();
        let Ok(file) = File::open(&self.0) else { return memory };
        let mut lines = BufReader::new(file.take(PACKS_MAX as u64 * LINE_BYTES));
        let mut line = Vec::new();
        while memory.len() < PACKS_MAX {
            line.clear();
            match lines.by_ref().take(LINE_BYTES).read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => break,
                Ok(_) => memory.extend(parse(&line)),
            }
        }
        memory
    }

    /// Writes what is to be remembered, all or none.
    pub fn save(&self, memory: &Memory) -> io::Result<()> {
        let folder = self.0.parent().expect("a file in a folder");
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let temporary = self.0.with_extension(format!("new-{}", std::process::id()));
        let file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        let mut file = BufWriter::new(file);
        for (hash, at) in memory.iter().take(PACKS_MAX) {
            writeln!(file, "{hash} {at}")?;
        }
        file.flush()?;
        fs::rename(&temporary, &self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(state: &Path) -> VerifiedFile {
        VerifiedFile::new(state, RepositoryId([9; 16]), Role::Full)
    }

    #[test]
    fn what_was_saved_is_loaded() {
        let state = tempfile::tempdir().unwrap();
        assert!(file(state.path()).load().is_empty());
        let memory: Memory = (0..100u8).map(|n| (ObjectHash([n; 32]), i64::from(n) - 5)).collect();
        file(state.path()).save(&memory).unwrap();
        assert_eq!(file(state.path()).load(), memory);
        let writer = VerifiedFile::new(state.path(), RepositoryId([9; 16]), Role::Writer);
        assert!(writer.load().is_empty(), "another key sees less");
    }

    #[test]
    fn rubbish_is_passed_over() {
        let state = tempfile::tempdir().unwrap();
        let file = file(state.path());
        file.save(&Memory::new()).unwrap();
        let good = format!("{} 17", ObjectHash([7; 32]));
        let long = "x".repeat(100_000);
        let rubbish = [b"\xff\xfe\n\n \nzz 4\n".as_slice(), long.as_bytes(), b"\n", good.as_bytes()].concat();
        fs::write(&file.0, rubbish).unwrap();
        assert_eq!(file.load(), Memory::from([(ObjectHash([7; 32]), 17)]));
        fs::write(&file.0, format!("{} 1{}\n", ObjectHash([7; 32]), "0".repeat(40))).unwrap();
        assert!(file.load().is_empty(), "a number beyond all bounds");
        fs::remove_file(&file.0).unwrap();
        fs::create_dir(&file.0).unwrap();
        assert!(file.load().is_empty());
    }
}
