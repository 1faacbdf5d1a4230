//! One run of a job at a time on this machine, one mirroring into a folder: an advisory lock that vanishes with its
//! process.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::failure::{Failure, Kind};
use super::output::local_time;
use crate::base::clock::{self, UnixNanos};
use crate::base::id::RepositoryId;

/// Most bytes of a lock file that are looked at.
const NOTE_BYTES_MAX: u64 = 256;

/// The right to run one job; given back when dropped or when the process ends, however it ends.
#[derive(Debug)]
pub struct JobLock {
    file: File,
}

impl JobLock {
    /// Takes the lock of `job` below `state_dir`, without waiting.
    ///
    /// Fails with [`Kind::Locked`], naming the holder, while another process has it.
    pub fn acquire(state_dir: &Path, repository: RepositoryId, job: &str) -> Result<Self, Failure> {
        let path = state_dir.join(repository.to_string()).join(format!("{job}.lock"));
        JobLock::at(&path, &format!("job '{job}'"))
    }

    /// Takes the lock that the file `path` stands for; `what` names it for people.
    pub fn at(path: &Path, what: &str) -> Result<Self, Failure> {
        let folder = path.parent().expect("a lock file lies in a folder");
        let trouble = |error: &std::io::Error| {
            Failure::because(Kind::Storage, &format!("lock {}", path.display()), error)
        };
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|e| trouble(&e))?;
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(|e| trouble(&e))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(held(what, &mut file)),
            Err(errno) => return Err(trouble(&errno.into())),
        }
        let note = format!("{} {}\n", std::process::id(), clock::now());
        file.set_len(0).and_then(|()| file.write_all(note.as_bytes())).map_err(|e| trouble(&e))?;
        Ok(JobLock { file })
    }
}

impl Drop for JobLock {
    fn drop(&mut self) {
        // The file stays: removing it would let two runs hold locks on two files of one name. Only the note goes.
        // Should that fail, the note is read by nobody unless the lock is held, and then it is written anew.
        drop(self.file.set_len(0));
        // Said outright: a child between fork and exec shares the open file, and closing ours would not be enough.
        let _ = flock(&self.file, FlockOperation::Unlock);
    }
}

fn held(what: &str, file: &mut File) -> Failure {
    let mut note = String::new();
    let holder = match file.take(NOTE_BYTES_MAX).read_to_string(&mut note) {
        Ok(_) => parse_note(&note),
        Err(_) => None,
    };
    let who = match holder {
        Some((pid, since)) => format!("process {pid}, since {}", local_time(since)),
        // The holder took the lock a moment ago and has not signed it yet.
        None => "another process".to_owned(),
    };
    Failure::new(Kind::Locked, format!("{what} is already running ({who})"))
        .hint("wait for that run; the lock goes with its process, there is nothing to remove")
}

fn parse_note(note: &str) -> Option<(u32, UnixNanos)> {
    let (pid, since) = note.trim_end().split_once(' ')?;
    Some((pid.parse().ok()?, since.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_job_names_its_holder_and_comes_free() {
        let state = tempfile::tempdir().unwrap();
        let repository = RepositoryId([7; 16]);
        let lock = JobLock::acquire(state.path(), repository, "mail").unwrap();
        let failure = JobLock::acquire(state.path(), repository, "mail").unwrap_err();
        assert_eq!(failure.kind, Kind::Locked);
        assert!(failure.message.contains(&format!("process {}", std::process::id())), "{}", failure.message);
        JobLock::acquire(state.path(), repository, "config").expect("another job is free");
        JobLock::acquire(state.path(), RepositoryId([8; 16]), "mail").expect("another repository is free");
        drop(lock);
        JobLock::acquire(state.path(), repository, "mail").expect("free again");
    }

    #[test]
    fn a_strange_note_is_no_trouble() {
        for note in ["", "12", "x y", "-1 5", "12 5 6"] {
            assert_eq!(parse_note(note), None, "{note:?}");
        }
        assert_eq!(parse_note("12 5\n"), Some((12, 5)));
    }
}
