//! Which folders this client mirrors a repository into: what is missing there was never copied, not rolled back.
//!
//! One line a mirror in `<state>/<repository id>/mirrors`: its path in hex. Only this file tells, never a mirror
//! itself: whoever can write into a repository must not be able to hush up that snapshots were removed.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::base::bytes;
use crate::base::id::RepositoryId;

/// Most bytes of the file that are looked at.
const BYTES_MAX: u64 = 1 << 20;

fn file(state_dir: &Path, repository: RepositoryId) -> PathBuf {
    state_dir.join(repository.to_string()).join("mirrors")
}

fn line(dir: &Path) -> io::Result<String> {
    Ok(bytes::hex(dir.canonicalize()?.as_os_str().as_bytes()))
}

/// Is this folder one of them?
pub fn includes(state_dir: &Path, repository: RepositoryId, dir: &Path) -> bool {
    let known = || -> io::Result<bool> {
        let (line, mut text) = (line(dir)?, String::new());
        File::open(file(state_dir, repository))?.take(BYTES_MAX).read_to_string(&mut text)?;
        Ok(text.lines().any(|known| known == line))
    };
    known().unwrap_or(false)
}

/// Remembers an existing folder.
pub fn remember(state_dir: &Path, repository: RepositoryId, dir: &Path) -> io::Result<()> {
    if includes(state_dir, repository, dir) {
        return Ok(());
    }
    let path = file(state_dir, repository);
    DirBuilder::new().recursive(true).mode(0o700).create(path.parent().expect("a file in a folder"))?;
    let mut open = fs::OpenOptions::new();
    let mut file = open.append(true).create(true).mode(0o600).open(&path)?;
    file.write_all(format!("{}\n", line(dir)?).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_remembered_by_where_they_truly_lie() {
        let folder = tempfile::tempdir().unwrap();
        let (state, id) = (folder.path().join("state"), RepositoryId([1; 16]));
        let (mirror, other) = (folder.path().join("mirror\n"), folder.path().join("other"));
        fs::create_dir_all(&mirror).unwrap();
        fs::create_dir_all(&other).unwrap();
        assert!(!includes(&state, id, &mirror));
        for _ in 0..2 {
            remember(&state, id, &mirror).unwrap();
        }
        remember(&state, id, &other.join("..").join("other")).unwrap();
        assert!(includes(&state, id, &mirror) && includes(&state, id, &other));
        assert!(!includes(&state, RepositoryId([2; 16]), &mirror) && !includes(&state, id, folder.path()));
        assert_eq!(fs::read_to_string(file(&state, id)).unwrap().lines().count(), 2);
    }
}
