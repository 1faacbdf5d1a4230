//! What is mounted where: other file systems below the start paths have to be watched for themselves.

use std::fs::File;
use std::io::Read;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::source::start::below;

/// The list of mounts.
const LIST: &str = "/proc/self/mountinfo";
/// Longest list that is read, bytes; some hundred thousand mounts.
const LIST_BYTES_MAX: u64 = 32 << 20;

/// A mount: its number, which is used again after it, and the device that is mounted.
type Mount = (Vec<u8>, Vec<u8>, Vec<u8>);

/// The mounts that have to do with the start paths, as they are now.
#[derive(Debug)]
pub(super) struct Mounts {
    /// Open, for the kernel to tell of changes; `None` where it does not show its list.
    list: Option<File>,
    /// By path: mounts at or above a start, and below one unless no backup goes there.
    mounts: Vec<Mount>,
}

impl Mounts {
    /// Reads the list, for start paths without links.
    pub(super) fn around(starts: &[Vec<u8>], one_file_system: bool) -> Mounts {
        let mut text = Vec::new();
        // Opened before it is read: what changes after that is told.
        let list = File::open(LIST)
            .and_then(|list| (&list).take(LIST_BYTES_MAX).read_to_end(&mut text).map(|_| list))
            .ok();
        let concerns = |point: &[u8]| {
            starts.iter().any(|start| {
                below(start, point).is_some() || !one_file_system && below(point, start).is_some()
            })
        };
        let lines = text.split(|&byte| byte == b'\n');
        let mut mounts: Vec<Mount> = lines.filter_map(parse).filter(|(point, ..)| concerns(point)).collect();
        mounts.sort();
        Mounts { list, mounts }
    }

    /// The folders below `start` at which something is mounted, sorted, each once.
    pub(super) fn below(&self, start: &[u8]) -> Vec<Vec<u8>> {
        let points = self.mounts.iter().map(|(point, ..)| point);
        let mut points: Vec<_> = points
            .filter(|point| below(point, start).is_some_and(|rest| !rest.is_empty()))
            .cloned()
            .collect();
        points.dedup();
        points
    }

    /// Was anything mounted or unmounted on this host since this was read, or asked last?
    pub(super) fn may_have_changed(&self) -> bool {
        let Some(list) = &self.list else { return false };
        let mut waiting = [PollFd::new(list, PollFlags::PRI)];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut waiting, Some(&at_once)).is_ok() && waiting[0].revents().contains(PollFlags::PRI)
    }

    /// Are the mounts other ones?
    pub(super) fn differ_from(&self, others: &Mounts) -> bool {
        self.mounts != others.mounts
    }
}

/// A line: number, number of the one below, device, what of it is mounted, where, and more.
fn parse(line: &[u8]) -> Option<Mount> {
    let mut words = line.split(|&byte| byte == b' ');
    let number = words.next()?.to_vec();
    let device = words.nth(1)?.to_vec();
    let point = unescape(words.nth(1)?);
    point.starts_with(b"/").then_some((point, number, device))
}

/// Blanks, line ends and backslashes stand there as `\` and three octal digits.
fn unescape(word: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(word.len());
    let mut left = word;
    while let [first, rest @ ..] = left {
        let escaped = match left {
            [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] => {
                Some((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'))
            }
            _ => None,
        };
        text.push(escaped.unwrap_or(*first));
        left = if escaped.is_some() { &left[4..] } else { rest };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_the_kernel_writes_them() {
        let line = br"36 35 98:0 /mnt1 /mnt/a\040b\134c rw,noatime master:1 - ext3 /dev/root rw";
        let (point, number, device) = parse(line).unwrap();
        assert_eq!((&point[..], &number[..], &device[..]), (&b"/mnt/a b\\c"[..], &b"36"[..], &b"98:0"[..]));
        for odd in [&b""[..], b"1 2 3 4", b"1 2 3 4 relative", b"    "] {
            assert_eq!(parse(odd), None);
        }
        assert_eq!(unescape(br"\0\04\999\"), br"\0\04\999\");
    }

    #[test]
    fn mounts_below_a_start_are_found() {
        let mounts = Mounts::around(&[b"/".to_vec()], false);
        let points = mounts.below(b"/");
        assert!(points.contains(&b"/proc".to_vec()) && !points.contains(&b"/".to_vec()), "{points:?}");
        assert!(points.is_sorted() && points.iter().all(|point| below(point, b"/").is_some()));
        assert!(mounts.below(b"/proc").iter().all(|point| point.starts_with(b"/proc/")));
        let none = Mounts::around(&[b"/not/there".to_vec()], false);
        assert!(none.below(b"/not/there").is_empty() && mounts.differ_from(&none));
        let alone = Mounts::around(&[b"/".to_vec()], true);
        assert!(alone.below(b"/").is_empty() && alone.differ_from(&none) == none.mounts.is_empty());
    }
}
