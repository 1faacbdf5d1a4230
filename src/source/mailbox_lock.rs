//! The locks of mbox files, as mail programs take them: a dotlock (`FILE.lock`), then a read lock of `fcntl`.
//!
//! Mail programs disagree on which of the two they take, so both are asked for. While one is waited for the other is
//! not held: a program that takes them in the other order is not shut out. A lock of somebody else is never removed;
//! one that is stale by Dovecot's rule is taken for none. Where no dotlock can be made (no right to write, a read-only
//! file system) it is enough that there is none.

use std::time::Duration;

use rustix::fd::AsFd;
use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, fcntl_lock, openat, unlinkat};
use rustix::io::{Errno, write};
use rustix::process::{Pid, getpid, test_kill_process};

use super::dir::{Listed, OpenDir};
use super::meta::{self, FileKey, Meta};
use super::problem::Problem;
use super::read::OpenFile;
use crate::base::interrupt::{Interrupt, Interrupted};
use crate::base::{clock, limits};

/// A lock is stale when neither it nor its mailbox was written to for this long.
const STALE_NANOS: i128 = 300 * 1_000_000_000;
/// How long until a lock is asked for again.
const NAP: Duration = Duration::from_millis(20);
/// Longest content of a dotlock that is looked at: a process and its host.
const OWNER_BYTES_MAX: usize = 300;

/// A dotlock of ours; removed when dropped.
#[derive(Debug)]
struct Dotlock<'d> {
    dir: &'d OpenDir,
    name: Vec<u8>,
    key: FileKey,
}

impl Drop for Dotlock<'_> {
    fn drop(&mut self) {
        // Somebody may have taken it for stale and made one of their own.
        let is_ours = meta::look_at(self.dir.fd(), &*self.name).is_ok_and(|(_, meta)| meta.key() == self.key);
        if is_ours {
            let _ = unlinkat(self.dir.fd(), &*self.name, AtFlags::empty());
        }
    }
}

/// A mailbox, opened under its locks.
#[derive(Debug)]
pub struct Locked<'d> {
    /// The mailbox, with the size it had under the lock.
    pub open: OpenFile,
    /// Both locks were to be had.
    pub in_time: bool,
    dotlock: Option<Dotlock<'d>>,
}

/// Why a mailbox is not open.
pub enum NotOpen {
    /// The user asked to stop.
    Interrupted(Interrupted),
    /// It cannot be opened.
    Problem(Problem),
}

/// What came of asking for a lock.
enum Asked<T> {
    Got(T),
    Busy,
}

/// When something was last written to or changed, unix nanoseconds; the later of both times, for mail programs set the
/// first one back.
pub fn last_touched(meta: &Meta) -> i128 {
    let nanos = |seconds: i64, nanos: u32| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
    nanos(meta.mtime_s, meta.mtime_ns).max(nanos(meta.ctime_s, meta.ctime_ns))
}

/// Opens a mailbox under its locks, after at most `wait`; then without them, and with `in_time` unset.
///
/// The dotlock is made only where `make` is set: it changes the folder's times. Otherwise it is enough that there is
/// none, and the caller looks once more afterwards.
pub fn lock<'d>(
    dir: &'d OpenDir,
    listed: &Listed,
    make: bool,
    wait: Duration,
    interrupt: &Interrupt,
) -> Result<Locked<'d>, NotOpen> {
    let begun = clock::stopwatch();
    loop {
        if let Asked::Got(locked) = ask(dir, listed, make).map_err(NotOpen::Problem)? {
            return Ok(locked);
        }
        if begun.elapsed() >= wait {
            let open = dir.open_file(listed).map_err(NotOpen::Problem)?;
            return Ok(Locked { open, in_time: false, dotlock: None });
        }
        interrupt.sleep(NAP).map_err(NotOpen::Interrupted)?;
    }
}

/// True when a mail program is at work on a mailbox: it holds one of the locks.
pub fn is_locked(dir: &OpenDir, listed: &Listed, open: &OpenFile) -> bool {
    let name = lock_name(dir.real(&listed.name));
    let locked = name.is_some_and(|name| foreign(dir, &name, &open.meta)) || file_lock(open) == Some(false);
    let _ = fcntl_lock(open.fd(), FlockOperation::Unlock);
    locked
}

impl Locked<'_> {
    /// Gives the locks back.
    pub fn release(&mut self) {
        // The other way round: who waits for the dotlock then finds the file free.
        let _ = fcntl_lock(self.open.fd(), FlockOperation::Unlock);
        self.dotlock = None;
    }

    /// Is there nobody who could write meanwhile? Without a dotlock of ours, who takes no other lock could.
    pub fn is_alone(&self) -> bool {
        self.dotlock.is_some()
    }

    /// Is this still the file of that name? A mail program may have put another one in its place.
    pub fn is_current(&self, dir: &OpenDir, listed: &Listed) -> bool {
        is_current(dir, listed, &self.open)
    }
}

fn is_current(dir: &OpenDir, listed: &Listed, open: &OpenFile) -> bool {
    meta::look_at(dir.fd(), dir.real(&listed.name)).is_ok_and(|(_, meta)| meta.key() == open.meta.key())
}

fn ask<'d>(dir: &'d OpenDir, listed: &Listed, make: bool) -> Result<Asked<Locked<'d>>, Problem> {
    let dotlock = match lock_name(dir.real(&listed.name)) {
        None => None,
        Some(name) => match dotlock(dir, listed, name, make) {
            Asked::Got(dotlock) => dotlock,
            Asked::Busy => return Ok(Asked::Busy),
        },
    };
    let mut open = dir.open_file(listed)?;
    if file_lock(&open) == Some(false) || !is_current(dir, listed, &open) {
        return Ok(Asked::Busy);
    }
    // What was written before the lock was had belongs to it.
    open.look_again()
        .map_err(|errno| Problem::from_errno(super::problem::join(dir.path(), &listed.name), errno))?;
    Ok(Asked::Got(Locked { open, in_time: true, dotlock }))
}

/// A read lock on the whole file; `None` where there are no such locks.
fn file_lock(open: &OpenFile) -> Option<bool> {
    match fcntl_lock(open.fd(), FlockOperation::NonBlockingLockShared) {
        Ok(()) => Some(true),
        Err(Errno::AGAIN | Errno::ACCESS) => Some(false),
        Err(_) => None,
    }
}

fn lock_name(name: &[u8]) -> Option<Vec<u8>> {
    let name = [name, b".lock"].concat();
    (name.len() <= limits::NAME_BYTES_MAX).then_some(name)
}

fn dotlock<'d>(dir: &'d OpenDir, listed: &Listed, name: Vec<u8>, make: bool) -> Asked<Option<Dotlock<'d>>> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let made = make.then(|| openat(dir.fd(), &*name, flags, Mode::from_raw_mode(0o644)).ok()).flatten();
    let Some(file) = made else {
        // It is there, or is not to be made here.
        let mailbox = meta::look_at(dir.fd(), dir.real(&listed.name));
        let busy = mailbox.is_ok_and(|(_, mailbox)| foreign(dir, &name, &mailbox));
        return if busy { Asked::Busy } else { Asked::Got(None) };
    };
    let Ok(key) = meta::of_open(&file).map(|meta| meta.key()) else { return Asked::Busy };
    let host = rustix::system::uname();
    let owner = format!("{}:{}", getpid().as_raw_nonzero(), host.nodename().to_string_lossy());
    // Without its owner it is as good: only who finds it left behind knows less.
    let _ = write(&file, owner.as_bytes());
    Asked::Got(Some(Dotlock { dir, name, key }))
}

/// True when somebody else holds the dotlock `name` of a mailbox, and is at work.
fn foreign(dir: &OpenDir, name: &[u8], mailbox: &Meta) -> bool {
    let Ok((_, lock)) = meta::look_at(dir.fd(), name) else { return false };
    !is_stale(last_touched(&lock), last_touched(mailbox), clock::now()) && !owner_is_gone(dir, name)
}

fn is_stale(lock: i128, mailbox: i128, now: i128) -> bool {
    now - lock.max(mailbox) >= STALE_NANOS
}

/// True when a dotlock names a process of this host that is no more.
fn owner_is_gone(dir: &OpenDir, name: &[u8]) -> bool {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let Ok(file) = openat(dir.fd(), name, flags, Mode::empty()) else { return false };
    let mut owner = Vec::with_capacity(OWNER_BYTES_MAX);
    if rustix::io::read(file.as_fd(), rustix::buffer::spare_capacity(&mut owner)).is_err() {
        return false;
    }
    let text = str::from_utf8(&owner).unwrap_or_default().trim_end();
    let Some((process, host)) = text.split_once(':') else { return false };
    let process = process.parse().ok().and_then(Pid::from_raw);
    host.as_bytes() == rustix::system::uname().nodename().to_bytes()
        && process.is_some_and(|process| test_kill_process(process) == Err(Errno::SRCH))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn open(folder: &Path) -> (OpenDir, Listed) {
        let dir = std::fs::File::open(folder).unwrap();
        let dir = OpenDir::from_fd(dir.into(), folder.as_os_str().as_encoded_bytes().to_vec()).unwrap();
        let listed = dir.look(b"alice"[..].into()).unwrap();
        (dir, listed)
    }

    fn lock_now<'d>(dir: &'d OpenDir, listed: &Listed) -> Locked<'d> {
        lock(dir, listed, true, Duration::ZERO, &Interrupt::default()).ok().unwrap()
    }

    #[test]
    fn a_lock_goes_stale_when_nobody_writes() {
        let minute = 60 * 1_000_000_000;
        assert!(!is_stale(0, 0, 4 * minute) && !is_stale(0, 9 * minute, 10 * minute));
        assert!(!is_stale(9 * minute, 0, 10 * minute) && !is_stale(9 * minute, 0, 0));
        assert!(is_stale(0, 0, 5 * minute) && is_stale(1, 2, 9 * minute));
    }

    #[test]
    fn the_dotlock_is_made_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let dotlock = folder.path().join("alice.lock");
        std::fs::write(folder.path().join("alice"), "mail").unwrap();
        let (dir, listed) = open(folder.path());
        let mut locked = lock_now(&dir, &listed);
        assert!(locked.in_time && locked.is_alone() && locked.is_current(&dir, &listed));
        let owner = std::fs::read_to_string(&dotlock).unwrap();
        assert!(owner.starts_with(&format!("{}:", std::process::id())), "{owner}");
        // Our own process lives: nobody takes its lock for left behind.
        assert!(!lock_now(&dir, &listed).in_time);
        locked.release();
        assert!(!dotlock.exists());
        drop(lock_now(&dir, &listed));
        assert!(!dotlock.exists());
    }

    #[test]
    fn a_look_makes_no_dotlock() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("alice"), "mail").unwrap();
        let (dir, listed) = open(folder.path());
        let look = || lock(&dir, &listed, false, Duration::ZERO, &Interrupt::default()).ok().unwrap();
        let looked = look();
        assert!(looked.in_time && !looked.is_alone() && !folder.path().join("alice.lock").exists());
        std::fs::write(folder.path().join("alice.lock"), "").unwrap();
        assert!(!look().in_time);
    }

    #[test]
    fn the_lock_of_another_stays() {
        let folder = tempfile::tempdir().unwrap();
        let dotlock = folder.path().join("alice.lock");
        std::fs::write(folder.path().join("alice"), "mail").unwrap();
        let (dir, listed) = open(folder.path());
        let mut locked = lock_now(&dir, &listed);
        // Somebody took ours for stale.
        std::fs::write(folder.path().join("other"), "0").unwrap();
        std::fs::rename(folder.path().join("other"), &dotlock).unwrap();
        locked.release();
        assert_eq!(std::fs::read(&dotlock).unwrap(), b"0");
        let open = dir.open_file(&listed).unwrap();
        assert!(is_locked(&dir, &listed, &open) && !lock_now(&dir, &listed).in_time);
        std::fs::remove_file(&dotlock).unwrap();
        // A link is never followed.
        std::os::unix::fs::symlink("/nonexistent/lock", &dotlock).unwrap();
        assert!(!lock_now(&dir, &listed).in_time);
        std::fs::remove_file(&dotlock).unwrap();
        assert!(lock_now(&dir, &listed).in_time);
    }

    #[test]
    fn a_replaced_mailbox_is_the_new_one() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("alice"), "mail").unwrap();
        let (dir, listed) = open(folder.path());
        std::fs::write(folder.path().join("new"), "more mail").unwrap();
        std::fs::rename(folder.path().join("new"), folder.path().join("alice")).unwrap();
        let mut locked = lock_now(&dir, &listed);
        assert!(locked.is_current(&dir, &listed));
        locked.open.take().unwrap();
        assert_eq!(locked.open.taken(), Some(&b"more mail"[..]));
    }
}
