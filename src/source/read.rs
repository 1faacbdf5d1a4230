//! Reading an open file that may grow or shrink meanwhile.

use std::io::{self, Read};

use rustix::buffer::spare_capacity;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::io::{Errno, Result, pread};

use super::extents::{Extents, extents};
use super::meta::{self, Meta};
use super::xattr::{self, Xattrs};

/// How far the end of a last line is looked for at a time.
const TAIL_BYTES: u64 = 64 << 10;

/// A file did not have the size that was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Changed {
    /// Bytes it was listed with.
    pub expected: u64,
    /// Bytes that were read.
    pub got: u64,
    /// More was there than what was read.
    pub more: bool,
}

/// A regular file open for reading.
#[derive(Debug)]
pub struct OpenFile {
    fd: OwnedFd,
    expected: u64,
    /// What the system said when it was opened; belongs to what is read, so store this.
    pub meta: Meta,
    /// Another file than the one that was listed under this name.
    pub replaced: bool,
    /// All of it, when it was read at once.
    taken: Option<Vec<u8>>,
}

impl OpenFile {
    pub(super) fn new(fd: OwnedFd, meta: Meta, listed_bytes: u64, replaced: bool) -> OpenFile {
        let expected = if replaced { meta.size } else { listed_bytes };
        OpenFile { fd, expected, meta, replaced, taken: None }
    }

    /// The descriptor.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Most bytes that are read from it, however fast it grows.
    pub fn limit(&self) -> u64 {
        self.expected.max(self.meta.size)
    }

    /// Looks at the file again: its size now is the size that counts.
    pub fn look_again(&mut self) -> Result<()> {
        self.meta = meta::of_open(&self.fd)?;
        self.expected = self.meta.size;
        Ok(())
    }

    /// Ends the file after its last line feed, as far as it reached when it was opened; what is behind was still
    /// being written.
    pub fn cut_after_last_line(&mut self) -> Result<()> {
        let (mut end, mut block) = (self.meta.size, Vec::new());
        while end > 0 {
            let start = end.saturating_sub(TAIL_BYTES);
            block.clear();
            fill(&self.fd, start, (end - start) as usize, &mut block)?;
            if let Some(place) = memchr::memrchr(b'\n', &block) {
                end = start + place as u64 + 1;
                break;
            }
            end = start;
        }
        self.expected = end;
        self.meta.size = end;
        Ok(())
    }

    /// Reads all of it now; whoever reads it later gets these bytes. For files that fit into memory.
    pub fn take(&mut self) -> Result<()> {
        let mut bytes = Vec::new();
        fill(&self.fd, 0, usize::try_from(self.limit()).map_err(|_| Errno::FBIG)?, &mut bytes)?;
        self.expected = bytes.len() as u64;
        self.meta.size = self.expected;
        self.taken = Some(bytes);
        Ok(())
    }

    /// What was read at once.
    pub fn taken(&self) -> Option<&[u8]> {
        self.taken.as_deref()
    }

    /// Appends the whole file to `buffer`; see [`read_file`]. For files that fit into memory.
    pub fn read_into(&self, buffer: &mut Vec<u8>) -> Result<Option<Changed>> {
        read_file(&self.fd, self.expected, self.limit(), buffer)
    }

    /// Reads up to `length` bytes at `offset` onto the end of `buffer`; fewer only at the end of the file.
    pub fn read_at(&self, offset: u64, length: usize, buffer: &mut Vec<u8>) -> Result<usize> {
        fill(&self.fd, offset, length, buffer)
    }

    /// Reads the file from its beginning, at most [`OpenFile::limit`] bytes.
    pub fn reader(&self) -> FileReader<'_> {
        FileReader { file: self, at: 0 }
    }

    /// Where the file has holes; see [`Meta::maybe_sparse`].
    pub fn extents(&self) -> Extents<'_> {
        extents(&self.fd, self.meta.size)
    }

    /// Reads its extended attributes.
    pub fn xattrs(&self) -> Result<Xattrs> {
        xattr::read_xattrs(&self.fd)
    }

    /// Looks at the file once more and tells whether `got` bytes are still all of it.
    pub fn changed_since(&self, got: u64) -> Result<Option<Changed>> {
        let now = meta::of_open(&self.fd)?.size;
        let changed = Changed { expected: self.expected, got, more: now > got };
        Ok((now != got || got != self.expected).then_some(changed))
    }
}

/// A file as a stream with an end, even while it grows.
#[derive(Debug)]
pub struct FileReader<'file> {
    file: &'file OpenFile,
    at: u64,
}

impl FileReader<'_> {
    /// Bytes read so far.
    pub fn position(&self) -> u64 {
        self.at
    }
}

impl Read for FileReader<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let left = self.file.limit().saturating_sub(self.at);
        let most = out.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        if most == 0 {
            return Ok(0);
        }
        let got = retry(|| pread(&self.file.fd, &mut out[..most], self.at))?;
        self.at += got as u64;
        Ok(got)
    }
}

fn retry<T>(mut call: impl FnMut() -> Result<T>) -> Result<T> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            other => return other,
        }
    }
}

fn fill(fd: impl AsFd, offset: u64, length: usize, buffer: &mut Vec<u8>) -> Result<usize> {
    let start = buffer.len();
    buffer.reserve(length);
    while buffer.len() - start < length {
        let at = offset + (buffer.len() - start) as u64;
        let left = length - (buffer.len() - start);
        // The buffer may have more room than was asked for: a file must not give more than its share.
        let got = match buffer.capacity() - buffer.len() > left {
            false => retry(|| pread(&fd, spare_capacity(buffer), at))?,
            true => {
                let begin = buffer.len();
                buffer.resize(begin + left, 0);
                let got = retry(|| pread(&fd, &mut buffer[begin..], at));
                buffer.truncate(begin + got.unwrap_or(0));
                got?
            }
        };
        if got == 0 {
            break;
        }
    }
    Ok(buffer.len() - start)
}

/// Appends a file to `buffer`: what is there up to its end, but never more than `limit` bytes.
///
/// `expected` is the size it was listed with, `limit` the larger of that and its size when it was opened: a
/// file that grows faster than it is read still ends. Tells when the bytes read are not `expected`, or not
/// all.
pub fn read_file(fd: impl AsFd, expected: u64, limit: u64, buffer: &mut Vec<u8>) -> Result<Option<Changed>> {
    let start = buffer.len();
    let most = usize::try_from(limit).map_err(|_| Errno::FBIG)?;
    // One byte more than expected shows growth in the same call, and a full file by a short read.
    let got = fill_probing(&fd, most, buffer)?;
    let more = got > most;
    buffer.truncate(start + got.min(most));
    let got = (buffer.len() - start) as u64;
    Ok((more || got != expected).then_some(Changed { expected, got, more }))
}

fn fill_probing(fd: impl AsFd, most: usize, buffer: &mut Vec<u8>) -> Result<usize> {
    let start = buffer.len();
    let wanted = most.checked_add(1).ok_or(Errno::FBIG)?;
    buffer.try_reserve(wanted).map_err(|_| Errno::NOMEM)?;
    loop {
        let got = buffer.len() - start;
        // All that was expected is here: a file system that gives short reads is not asked again.
        if got >= most && got > 0 {
            return Ok(got);
        }
        if retry(|| pread(&fd, spare_capacity(buffer), got as u64))? == 0 {
            return Ok(got);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    fn read(file: &std::fs::File, expected: u64, limit: u64) -> (Vec<u8>, Option<Changed>) {
        let mut buffer = b"before".to_vec();
        let changed = read_file(file, expected, limit, &mut buffer).unwrap();
        (buffer.split_off(6), changed)
    }

    #[test]
    fn growing_and_shrinking_files_are_told() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&[b'x'; 1000], 0).unwrap();
        assert_eq!(read(&file, 1000, 1000), (vec![b'x'; 1000], None));
        let (bytes, changed) = read(&file, 600, 600);
        assert_eq!(bytes.len(), 600);
        assert_eq!(changed, Some(Changed { expected: 600, got: 600, more: true }));
        let (bytes, changed) = read(&file, 600, 1000);
        assert_eq!(bytes.len(), 1000);
        assert_eq!(changed, Some(Changed { expected: 600, got: 1000, more: false }));
        let (bytes, changed) = read(&file, 5000, 5000);
        assert_eq!(bytes.len(), 1000);
        assert_eq!(changed, Some(Changed { expected: 5000, got: 1000, more: false }));
        let empty = tempfile::tempfile().unwrap();
        assert_eq!(read(&empty, 0, 0), (vec![], None));
    }

    #[test]
    fn parts_are_read_without_more_than_asked() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&[b'x'; 1000], 0).unwrap();
        for capacity in [0, 10, 5000] {
            let mut buffer = Vec::with_capacity(capacity);
            assert_eq!(fill(&file, 900, 50, &mut buffer).unwrap(), 50);
            assert_eq!(fill(&file, 950, 100, &mut buffer).unwrap(), 50);
            assert_eq!(buffer.len(), 100);
        }
    }

    #[test]
    fn a_file_ends_after_its_last_line() {
        let folder = tempfile::tempdir().unwrap();
        let long = format!("a\n{}", "x".repeat(3 * TAIL_BYTES as usize));
        let exact = format!("a\n{}", "x".repeat(TAIL_BYTES as usize));
        for (text, whole) in
            [("", ""), ("a\n", "a\n"), ("a\nb", "a\n"), ("torn", ""), (&*long, "a\n"), (&*exact, "a\n")]
        {
            std::fs::write(folder.path().join("list"), text).unwrap();
            let fd: OwnedFd = std::fs::File::open(folder.path().join("list")).unwrap().into();
            let meta = meta::of_open(&fd).unwrap();
            let mut open = OpenFile::new(fd, meta, text.len() as u64, false);
            open.cut_after_last_line().unwrap();
            let mut bytes = Vec::new();
            open.read_into(&mut bytes).unwrap();
            assert_eq!((bytes.as_slice(), open.limit()), (whole.as_bytes(), whole.len() as u64));
        }
    }
}
