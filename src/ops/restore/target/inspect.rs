//! Looking at a target before anything is written.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::base::clock;
use crate::source::SourceError;
use crate::source::meta::Kind;
use crate::source::start::Start;
use crate::source::walk::{Event, Folder, Walk};

/// What a target is before a restore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetState {
    /// Nothing has that path.
    Absent,
    /// A folder without entries.
    Empty,
    /// A folder with entries, or something that is no folder.
    NotEmpty,
    /// A Maildir that a mail server uses, at this path below the target (empty for the target itself).
    LiveMaildir(Vec<u8>),
}

/// A Maildir into which mail came, or in which it was moved, within these seconds is in use: 30 days.
const RECENT_SECONDS: i64 = 30 * 24 * 3600;

/// Tells whether a folder is a Maildir in use: it has `cur` and `new`, and a UID list or recent changes in
/// them.
fn is_live_maildir(folder: &Folder, now: i64) -> bool {
    let entry = |name: &[u8]| folder.entries.iter().find(|listed| &*listed.name == name);
    let (Some(cur), Some(new)) = (entry(b"cur"), entry(b"new")) else { return false };
    if cur.kind != Kind::Directory || new.kind != Kind::Directory {
        return false;
    }
    let newest = cur.meta.mtime_s.max(new.meta.mtime_s);
    entry(b"dovecot-uidlist").is_some() || now.saturating_sub(newest) < RECENT_SECONDS
}

/// Looks at a target; a live Maildir is searched in the whole tree below it, without following links.
pub fn inspect(target: &Path) -> io::Result<TargetState> {
    match target.metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(TargetState::Absent),
        Err(error) => return Err(error),
        Ok(meta) if !meta.is_dir() => return Ok(TargetState::NotEmpty),
        Ok(_) => {}
    }
    // The slash makes a link to a folder that folder.
    let mut path = PathBuf::from(target).into_os_string();
    path.push("/");
    let to_io = |error: SourceError| match error {
        SourceError::Start { error, .. } => error,
        other => io::Error::other(other.to_string()),
    };
    let start = Start::new(Path::new(&path), None).map_err(to_io)?;
    let walk = Walk::open(&start, Arc::default()).map_err(to_io)?;
    let now = clock::now_seconds();
    let mut state = TargetState::Empty;
    for event in walk {
        let Event::Enter(folder) = event else { continue };
        if is_live_maildir(&folder, now) {
            return Ok(TargetState::LiveMaildir(folder.path));
        }
        if !folder.entries.is_empty() || !folder.problems.is_empty() {
            state = TargetState::NotEmpty;
        }
    }
    Ok(state)
}
