//! Where a sparse file holds data and where holes.

use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{SeekFrom, seek};
use rustix::io::{Errno, Result};

/// A stretch of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// Bytes to read.
    Data {
        /// Where they begin.
        offset: u64,
        /// How many.
        len: u64,
    },
    /// Zeros that take no space.
    Hole {
        /// Where they begin.
        offset: u64,
        /// How many.
        len: u64,
    },
}

/// Iterates over the stretches of an open file in order; together they are `0..size`.
///
/// Moves the file's position: read with offsets. A file system that cannot tell gives one stretch of data.
#[derive(Debug)]
pub struct Extents<'fd> {
    fd: BorrowedFd<'fd>,
    at: u64,
    size: u64,
    /// A stretch of data that was found behind a hole.
    data_end: Option<u64>,
}

/// Returns the stretches of the first `size` bytes of an open file.
pub fn extents<Fd: AsFd>(fd: &Fd, size: u64) -> Extents<'_> {
    Extents { fd: fd.as_fd(), at: 0, size, data_end: None }
}

impl Extents<'_> {
    fn data_until(&mut self, end: u64) -> Extent {
        let extent = Extent::Data { offset: self.at, len: end - self.at };
        self.at = end;
        extent
    }

    fn step(&mut self) -> Result<Extent> {
        if let Some(end) = self.data_end.take() {
            return Ok(self.data_until(end));
        }
        let data = match seek(self.fd, SeekFrom::Data(self.at)) {
            Ok(data) => data.clamp(self.at, self.size),
            Err(Errno::NXIO) => self.size,
            Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(self.data_until(self.size)),
            Err(error) => return Err(error),
        };
        let end = match data < self.size {
            true => match seek(self.fd, SeekFrom::Hole(data)) {
                // A file that is written meanwhile may answer anything: always get on by at least one byte.
                Ok(hole) => Some(hole.clamp(data + 1, self.size)),
                Err(Errno::NXIO) => Some(self.size),
                Err(error) => return Err(error),
            },
            false => None,
        };
        if data > self.at {
            let extent = Extent::Hole { offset: self.at, len: data - self.at };
            self.at = data;
            self.data_end = end;
            return Ok(extent);
        }
        Ok(self.data_until(end.unwrap_or(self.size)))
    }
}

impl Iterator for Extents<'_> {
    type Item = Result<Extent>;

    fn next(&mut self) -> Option<Result<Extent>> {
        if self.at >= self.size {
            return None;
        }
        let step = self.step();
        if step.is_err() {
            self.at = self.size;
        }
        Some(step)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    #[test]
    fn holes_and_data_cover_the_file() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&[7; 8192], 1 << 20).unwrap();
        file.write_all_at(&[7; 100], 2 << 20).unwrap();
        file.set_len(3 << 20).unwrap();
        let all: Vec<Extent> = extents(&file, 3 << 20).collect::<Result<_>>().unwrap();
        assert_eq!(all.len(), 5, "{all:?}");
        let mut at = 0;
        for extent in &all {
            let (Extent::Data { offset, len } | Extent::Hole { offset, len }) = *extent;
            assert_eq!(offset, at);
            assert!(len > 0);
            at += len;
        }
        assert_eq!(at, 3 << 20);
        assert_eq!(all[1], Extent::Data { offset: 1 << 20, len: 8192 });
        assert!(matches!(all[4], Extent::Hole { .. }));
    }

    #[test]
    fn whole_empty_and_shrunk_files() {
        let file = tempfile::tempfile().unwrap();
        assert_eq!(extents(&file, 0).count(), 0);
        file.write_all_at(&[7; 5000], 0).unwrap();
        let all: Vec<Extent> = extents(&file, 5000).collect::<Result<_>>().unwrap();
        assert_eq!(all, [Extent::Data { offset: 0, len: 5000 }]);
        // What was cut off since reads as a hole; reading will report the change.
        file.set_len(0).unwrap();
        let all: Vec<Extent> = extents(&file, 5000).collect::<Result<_>>().unwrap();
        assert_eq!(all, [Extent::Hole { offset: 0, len: 5000 }]);
    }
}
