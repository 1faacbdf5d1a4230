//! What a scan needs to know of the file system that a folder lies on.

use rustix::fd::AsFd;
use rustix::fs::{fstatfs, fstatvfs};

use crate::base::remote::is_remote;

/// A file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileSystem {
    /// Its own number: mostly outlives a reboot and another device number.
    pub id: u64,
    /// How long after its last change something is settled, nanoseconds: what changes within one tick of the clock
    /// that gives the times would not show.
    pub settle: i64,
    /// The same for change times, which nobody can set.
    pub tick: i64,
    /// Another machine, or a program, keeps it: what happens there is not told.
    pub is_remote: bool,
}

/// On a local disk times come from the kernel's clock, which is the one that we read.
const SETTLE_LOCAL: i64 = 2_000_000_000;
/// One tick of that clock, at its coarsest.
const TICK_LOCAL: i64 = 10_000_000;
/// Elsewhere they come from another machine, or from a program.
const SETTLE_REMOTE: i64 = 120_000_000_000;

impl FileSystem {
    /// Asks about an open file; one that does not answer is taken for a remote one without a number.
    pub fn of(fd: impl AsFd) -> FileSystem {
        let fd = fd.as_fd();
        let is_remote = fstatfs(fd).map_or(true, |found| is_remote(found.f_type as u32));
        let id = fstatvfs(fd).map_or(0, |found| found.f_fsid);
        let (settle, tick) =
            if is_remote { (SETTLE_REMOTE, SETTLE_REMOTE) } else { (SETTLE_LOCAL, TICK_LOCAL) };
        FileSystem { id, settle, tick, is_remote }
    }

    /// Would a change after `now` show in a change time? Some file systems keep whole seconds only.
    pub fn has_ticked(&self, ctime: i64, now: i64) -> bool {
        let tick = if ctime % 1_000_000_000 == 0 { self.settle } else { self.tick };
        ctime.saturating_add(tick) < now
    }

    /// Was it settled at `now`, when it was last changed at `changed`? Never in the future. Unix nanoseconds.
    pub fn is_settled(&self, changed: i64, now: i64) -> bool {
        changed.saturating_add(self.settle) < now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_local_disk_settles_soon() {
        let file = tempfile::tempfile().unwrap();
        let found = FileSystem::of(&file);
        assert_eq!(found, FileSystem::of(tempfile::tempfile().unwrap()));
        let now = 1_790_000_000_000_000_000;
        assert!(found.is_settled(now - 3_000_000_000, now));
        assert!(!found.is_settled(now - 1_000_000_000, now) && !found.is_settled(now + 1, now));
        assert!(!found.is_settled(i64::MAX, now));
        assert!(found.has_ticked(now - 20_000_001, now) && !found.has_ticked(now - 1, now));
        assert!(!found.has_ticked(now - 1_000_000_000, now), "whole seconds");
    }
}
