//! mbox files that mail is being delivered to.
//!
//! The lock of a mailbox is held to see how far it reaches, never while it is stored. A small mailbox is read into
//! memory under the lock. Of a larger one the first bytes, as many as there were under the lock, are read without it;
//! then it is looked at under the lock again. Unchanged: what was read is what was seen. Changed: the same bytes are
//! read once more. If they are the same before and after a moment at which the lock was held, then they were the
//! mailbox, or the beginning of it, at that moment; and if they also end as the mailbox ended, mail was appended and
//! nothing else happened. Otherwise it was rewritten, and all begins again.
//!
//! At the first attempt no dotlock is made, for that would change the folder: there is none before the mailbox is
//! looked at and none after, and the mailbox did not change between. Only where mail comes in just then it is made.

use std::sync::atomic::Ordering;

use super::purged::Digest;
use super::{Failed, Read, WHOLE_FILE_BYTES, Within, Worker, stretches};
use crate::base::clock;
use crate::chunk::{Hint, hint_for};
use crate::mail::mbox;
use crate::repo::RepoError;
use crate::source::dir::Listed;
use crate::source::mailbox_lock::{self, Locked, NotOpen, last_touched};
use crate::source::meta::{self, Meta};
use crate::source::problem::{Problem, What, join};
use crate::source::read::OpenFile;
use crate::source::shape::{Shape, UID_LIST};

/// Nobody is in the middle of writing to a mailbox that was not touched for so long; it is read like any file.
const QUIET_NANOS: i128 = 600 * 1_000_000_000;
/// How often a mailbox is looked at that is written to meanwhile; the first time without a dotlock.
const ATTEMPTS_MAX: usize = 4;
/// The last time it is read under the lock if it is no larger.
const LOCKED_BYTES_MAX: u64 = 64 << 20;
/// The end of a mailbox that is looked at under the lock.
const TAIL_BYTES: u64 = 64 << 10;
/// File systems keep the time of a change no finer than this.
const TICK_NANOS: i128 = 20_000_000;

/// How a mailbox is after it was read.
#[derive(PartialEq, Eq)]
enum Since {
    Same,
    Appended,
    Rewritten,
}

fn not_open(why: NotOpen) -> Failed {
    match why {
        NotOpen::Interrupted(stop) => Failed::Repository(RepoError::from(stop)),
        NotOpen::Problem(problem) => Failed::Source(problem),
    }
}

/// Could a file be a mailbox, by its place and name?
fn may_be_mailbox(within: &Within, hint: Hint) -> bool {
    matches!(hint, Hint::Detect | Hint::Mbox) && within.shape != Shape::Messages
}

/// True for a file that begins as a mailbox does and was touched a moment ago.
fn is_under_delivery(within: &Within, listed: &Listed, open: &OpenFile, touched: i128) -> bool {
    if clock::now() - touched >= QUIET_NANOS {
        return false;
    }
    let begins = || {
        let mut start = Vec::new();
        open.read_at(0, mbox::FROM_LINE_MAX, &mut start).ok()?;
        let line = start.split(|&byte| byte == b'\n').next().filter(|line| !line.is_empty())?;
        Some(mbox::is_from_line(line))
    };
    // Who writes a mailbox anew may have emptied it first, and may be done by now.
    begins().unwrap_or_else(|| mailbox_lock::is_locked(&within.dir, listed, open) || begins() == Some(true))
}

/// Is what was taken of a small mailbox what it was, all the time? Asked under its lock.
fn is_steady(within: &Within, listed: &Listed, locked: &Locked<'_>) -> bool {
    let was = &locked.open.meta;
    let same = |now: Meta| now.size == was.size && last_touched(&now) == last_touched(was);
    locked.is_alone()
        || meta::of_open(locked.open.fd()).is_ok_and(same)
            && !mailbox_lock::is_locked(&within.dir, listed, &locked.open)
}

impl Worker<'_> {
    /// Reads and stores a file; `open` becomes what was read.
    pub(super) fn contents(
        &mut self,
        within: &Within,
        listed: &Listed,
        open: &mut OpenFile,
    ) -> Result<Read, Failed> {
        let path = || join(within.dir.path(), &listed.name);
        let hint = hint_for(&listed.name, &within.folder_name);
        let (may_be, touched) = (may_be_mailbox(within, hint), last_touched(&open.meta));
        if may_be && is_under_delivery(within, listed, open, touched) {
            return self.mailbox(within, listed, open);
        }
        if within.shape.keeps_uids() && *listed.name == *UID_LIST {
            open.cut_after_last_line().map_err(|errno| Failed::Source(Problem::from_errno(path(), errno)))?;
        }
        let read = self.read(open, hint, false, &path)?;
        let now = if may_be { meta::of_open(open.fd()).ok() } else { None };
        match now.map(|now| last_touched(&now)) {
            // Somebody began to write while it was read.
            Some(now) if now != touched && is_under_delivery(within, listed, open, now) => {
                self.mailbox(within, listed, open)
            }
            _ => Ok(read),
        }
    }

    /// Stores a mailbox as it was at one moment at which nobody wrote to it. `open` becomes what was read.
    fn mailbox(&mut self, within: &Within, listed: &Listed, open: &mut OpenFile) -> Result<Read, Failed> {
        let path = || join(within.dir.path(), &listed.name);
        let mut attempt = 0;
        loop {
            attempt += 1;
            let mut locked = self.locked(within, listed, attempt > 1)?;
            let small = locked.open.meta.size <= WHOLE_FILE_BYTES;
            let tail = self.seen(&mut locked, small, &path)?;
            let last = attempt == ATTEMPTS_MAX;
            let held = !small && last && locked.open.meta.size <= LOCKED_BYTES_MAX;
            let steady = is_steady(within, listed, &locked);
            if !held {
                locked.release();
            }
            if !steady && locked.in_time && !last {
                continue;
            }
            let read = self.read(&locked.open, Hint::Mbox, !small, &path)?;
            locked.release();
            let done = !locked.in_time
                || steady
                    && (small
                        || held
                        || self.since(within, listed, &mut locked, (&read, tail))? != Since::Rewritten);
            if done || last {
                if !done {
                    let why = "it was rewritten each time it was read";
                    self.shared.report(Problem::new(path(), What::Changed, why));
                }
                self.shared.counts.unlocked.fetch_add((!locked.in_time).into(), Ordering::Relaxed);
                *open = locked.open;
                return Ok(read);
            }
        }
    }

    /// Opens a mailbox under its locks, or without them when they are not to be had in time.
    fn locked<'b>(&self, within: &'b Within, listed: &Listed, make: bool) -> Result<Locked<'b>, Failed> {
        let (wait, interrupt) = (self.shared.lock_wait, self.shared.interrupt);
        mailbox_lock::lock(&within.dir, listed, make, wait, interrupt).map_err(not_open)
    }

    /// Under the lock: takes all of a small mailbox, or the digest of the end of a larger one.
    fn seen(
        &self,
        locked: &mut Locked<'_>,
        small: bool,
        path: &dyn Fn() -> Vec<u8>,
    ) -> Result<blake3::Hash, Failed> {
        let trouble = |errno| Failed::Source(Problem::from_errno(path(), errno));
        // A change within the tick of the last one would not show.
        while (!small || !locked.is_alone())
            && (0..TICK_NANOS).contains(&(clock::now() - last_touched(&locked.open.meta)))
        {
            self.shared.interrupt.check().map_err(RepoError::from)?;
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        if small {
            locked.open.take().map_err(trouble)?;
            return Ok(blake3::hash(b""));
        }
        let (size, mut tail) = (locked.open.meta.size, Vec::new());
        let start = size.saturating_sub(TAIL_BYTES);
        locked.open.read_at(start, (size - start) as usize, &mut tail).map_err(trouble)?;
        Ok(blake3::hash(&tail))
    }

    /// What happened to a mailbox since it was `seen` under the lock, given what was read of it.
    fn since(
        &mut self,
        within: &Within,
        listed: &Listed,
        seen: &mut Locked<'_>,
        (read, tail): (&Read, blake3::Hash),
    ) -> Result<Since, Failed> {
        let path = || join(within.dir.path(), &listed.name);
        let was = seen.open.meta.clone();
        let same = |now: &Meta| {
            now.key() == was.key() && now.size == was.size && last_touched(now) == last_touched(&was)
        };
        // Of a file that another one has replaced there is nothing to lock.
        if seen.is_current(&within.dir, listed) {
            let looked = self.locked(within, listed, false)?;
            if looked.in_time && same(&looked.open.meta) {
                return Ok(Since::Same);
            }
            drop(looked);
            // The moment between both readings.
            seen.in_time &= self.locked(within, listed, true)?.in_time;
        }
        let mut again = Digest::new();
        let mut end = Vec::new();
        let Worker { buffer, shared, .. } = self;
        stretches(&seen.open, buffer, shared, &path, &mut |chunk| {
            again.add(&chunk);
            Ok(())
        })?;
        let start = was.size.saturating_sub(TAIL_BYTES);
        let got = seen.open.read_at(start, (was.size - start) as usize, &mut end);
        got.map_err(|errno| Failed::Source(Problem::from_errno(path(), errno)))?;
        let same = read.digest == Some(again.finish()) && blake3::hash(&end) == tail;
        Ok(if same { Since::Appended } else { Since::Rewritten })
    }
}
