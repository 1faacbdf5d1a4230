//! `subscriptions`: which folders mail programs show. Changed as Dovecot does: the lock file is the new content.
//!
//! Version 2 begins with `V`, tab, `2` and an empty line; in it the parts of a name are parted by tabs, in the version
//! before by the separator of the folders on disk.

use std::fs::File;
use std::time::Duration;

use rustix::fs::renameat;
use rustix::io::Errno;

use super::dirs::{self, Likeness, trouble};
use super::{Layout, Result};
use crate::base::clock;
use crate::source::dir::OpenDir;
use crate::source::meta;

const NAME: &[u8] = b"subscriptions";
const LOCK: &[u8] = b"subscriptions.lock";
const VERSION_2: &[u8] = b"V\t2\n\n";
/// Largest file that is read, bytes.
const BYTES_MAX: u64 = 16 << 20;
/// How often a lock is looked at that somebody holds, and how long each time is waited.
const TRIES: usize = 30;
const NAP: Duration = Duration::from_millis(100);
/// A lock that nobody has touched for so long is nobody's: nobody needs it for more than a moment.
const OLD_SECONDS: i64 = 60;

/// What is done with a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Add,
    Remove,
}

fn separator(content: &[u8], layout: Layout) -> u8 {
    match (content.starts_with(b"V\t"), layout) {
        (true, _) => b'\t',
        (false, Layout::Maildir) => b'.',
        (false, Layout::Fs) => b'/',
    }
}

/// The file after a change; `None` when it stays as it is.
fn changed(content: &[u8], parts: &[Vec<u8>], layout: Layout, change: Change) -> Option<Vec<u8>> {
    let content = if content.is_empty() { VERSION_2 } else { content };
    let wanted = parts.join(&separator(content, layout));
    let is_there = content.split(|&byte| byte == b'\n').any(|line| line == wanted);
    match (change, is_there) {
        (Change::Add, true) | (Change::Remove, false) => None,
        (Change::Add, false) => {
            let mut content = content.to_vec();
            if !content.ends_with(b"\n") {
                content.push(b'\n');
            }
            content.extend_from_slice(&wanted);
            content.push(b'\n');
            Some(content)
        }
        (Change::Remove, true) => {
            let lines = content.split_inclusive(|&byte| byte == b'\n');
            Some(
                lines
                    .filter(|line| line.strip_suffix(b"\n").unwrap_or(line) != wanted)
                    .flatten()
                    .copied()
                    .collect(),
            )
        }
    }
}

/// Adds or removes the line of a folder; false when somebody holds the lock all the time.
pub(super) fn change(dir: &OpenDir, parts: &[Vec<u8>], layout: Layout, change: Change) -> Result<bool> {
    let like = Likeness::of(dir).map_err(trouble("look at", dir, b""))?;
    for _ in 0..TRIES {
        // The lock is the new file: made empty, so that the old one stands still while it is read.
        let lock = match dirs::create(dir, LOCK) {
            Ok(lock) => lock,
            Err(Errno::EXIST) => {
                break_old(dir)?;
                std::thread::sleep(NAP);
                continue;
            }
            Err(errno) => return Err(trouble("create", dir, LOCK)(errno)),
        };
        let outcome = write_changed((dir, lock), parts, (layout, change), like);
        if !matches!(outcome, Ok(true)) {
            dirs::remove(dir, LOCK).map_err(trouble("remove", dir, LOCK))?;
        }
        return outcome.map(|_| true);
    }
    Ok(false)
}

/// Takes a lock away that a killed program left, as Dovecot does.
fn break_old(dir: &OpenDir) -> Result<()> {
    match meta::of_entry(dir.fd(), LOCK) {
        Ok((_, meta)) if meta.mtime_s < clock::now_seconds() - OLD_SECONDS => {
            dirs::remove(dir, LOCK).map_err(trouble("remove", dir, LOCK))
        }
        _ => Ok(()),
    }
}

/// Writes the lock file and makes it the list; false when nothing is to be changed.
fn write_changed(
    (dir, lock): (&OpenDir, File),
    parts: &[Vec<u8>],
    (layout, change): (Layout, Change),
    like: Likeness,
) -> Result<bool> {
    let content = dirs::read_small(dir, NAME, BYTES_MAX).map_err(trouble("read", dir, NAME))?;
    let Some(content) = changed(&content.unwrap_or_default(), parts, layout, change) else {
        return Ok(false);
    };
    dirs::fill(lock, &content, like)
        .and_then(|()| renameat(dir.fd(), LOCK, dir.fd(), NAME))
        .and_then(|()| dirs::sync(dir))
        .map_err(trouble("write", dir, NAME))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(name: &str) -> Vec<Vec<u8>> {
        name.split('/').map(|part| part.as_bytes().to_vec()).collect()
    }

    #[test]
    fn a_line_comes_once_and_goes() {
        let add = |content: &[u8], name| changed(content, &parts(name), Layout::Maildir, Change::Add);
        let remove = |content: &[u8], name| changed(content, &parts(name), Layout::Maildir, Change::Remove);
        let one = add(b"", "Restored/2026").unwrap();
        assert_eq!(one, b"V\t2\n\nRestored\t2026\n");
        assert_eq!(add(&one, "Restored/2026"), None);
        let two = add(&one, "Work").unwrap();
        assert_eq!(remove(&two, "Restored/2026").unwrap(), b"V\t2\n\nWork\n");
        assert_eq!(remove(&two, "Rest"), None);
        // The version before.
        let old = add(b"Sent\nArchive.2024", "Restored/2026").unwrap();
        assert_eq!(old, b"Sent\nArchive.2024\nRestored.2026\n");
        assert_eq!(remove(&old, "Archive/2024").unwrap(), b"Sent\nRestored.2026\n");
        let fs = changed(b"Sent\n", &parts("A/B"), Layout::Fs, Change::Add).unwrap();
        assert_eq!(fs, b"Sent\nA/B\n");
    }
}
