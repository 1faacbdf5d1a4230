//! A letter's bytes as they come: held against what lies in the mailbox, and written to `tmp` once nothing there is it.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use super::dirs::{self, trouble};
use super::identity::Place;
use super::{DeliverError, Result};
use crate::source::dir::OpenDir;

/// Bytes that are compared or copied at a time.
const BLOCK_BYTES: usize = 64 << 10;

/// A message in the mailbox that may be the letter.
#[derive(Debug)]
pub(super) struct Rival {
    pub(super) place: Place,
    pub(super) file: File,
}

/// A file in `tmp`; dropping it removes it.
#[derive(Debug)]
pub(super) struct Temporary {
    tmp: Arc<OpenDir>,
    name: Vec<u8>,
    pub(super) file: File,
    kept: bool,
}

impl Temporary {
    /// It stays.
    pub(super) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.kept {
            // What cannot be removed is what mail servers clear out of `tmp` after a while.
            dirs::remove(&self.tmp, &self.name).ok();
        }
    }
}

/// What became of the bytes.
#[derive(Debug)]
pub(super) enum Arrived {
    /// A message in the mailbox has just these.
    Same(Place),
    /// They lie in `tmp`; in a dry run nowhere.
    New(Option<Temporary>, Content),
}

/// What the bytes are like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Content {
    /// Of a BLAKE3 hash.
    pub(super) hash: [u8; 16],
    /// Bytes.
    pub(super) size: u64,
    /// The same with CRLF line ends.
    pub(super) wire_size: u64,
}

/// Takes a letter's bytes.
#[derive(Debug)]
pub(super) struct Incoming {
    tmp: Arc<OpenDir>,
    name: Vec<u8>,
    rivals: Vec<Rival>,
    file: Option<Temporary>,
    hasher: blake3::Hasher,
    size: u64,
    bare_line_feeds: u64,
    last: u8,
    dry_run: bool,
    error: Option<DeliverError>,
}

impl Incoming {
    /// Begins a letter that goes to `name` in `tmp` unless it is one of the rivals.
    pub(super) fn new(tmp: Arc<OpenDir>, name: Vec<u8>, rivals: Vec<Rival>, dry_run: bool) -> Incoming {
        Incoming {
            tmp,
            name,
            rivals,
            file: None,
            hasher: blake3::Hasher::new(),
            size: 0,
            bare_line_feeds: 0,
            last: 0,
            dry_run,
            error: None,
        }
    }

    /// Our own trouble while bytes were taken, if there was any.
    pub(super) fn take_error(&mut self) -> Option<DeliverError> {
        self.error.take()
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        let mut last_rival = None;
        let mut at = 0;
        while at < self.rivals.len() {
            if is_at(&self.rivals[at].file, self.size, bytes) {
                at += 1;
            } else {
                last_rival = Some(self.rivals.swap_remove(at));
            }
        }
        if self.rivals.is_empty() && !self.dry_run {
            self.begin(last_rival)?;
        }
        if let Some(file) = &mut self.file {
            file.file.write_all(bytes).map_err(|error| failed(&file.tmp, &file.name, &error))?;
        }
        self.hasher.update(bytes);
        let mut before = self.last;
        for &byte in bytes {
            self.bare_line_feeds += u64::from(byte == b'\n' && before != b'\r');
            before = byte;
        }
        self.last = before;
        self.size += bytes.len() as u64;
        Ok(())
    }

    /// Makes the file; what was the same as in the last rival so far is copied from there.
    fn begin(&mut self, rival: Option<Rival>) -> Result<()> {
        if self.file.is_some() {
            return Ok(());
        }
        let file = dirs::create(&self.tmp, &self.name).map_err(trouble("create", &self.tmp, &self.name))?;
        let mut file = Temporary { tmp: Arc::clone(&self.tmp), name: self.name.clone(), file, kept: false };
        if self.size > 0 {
            let copied = rival.map(|rival| copy(&rival.file, &mut file.file, self.size)).transpose();
            let copied = copied.map_err(|error| failed(&self.tmp, &self.name, &error))?;
            if copied != Some(self.hasher.finalize()) {
                let changed = io::Error::other("a message changed while it was compared");
                return Err(failed(&self.tmp, &self.name, &changed));
            }
        }
        self.file = Some(file);
        Ok(())
    }

    /// Bytes that came so far.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// All bytes have come.
    pub(super) fn finish(mut self) -> Result<Arrived> {
        let size = self.size;
        let is_whole = |rival: &Rival| rival.file.metadata().is_ok_and(|meta| meta.len() == size);
        if let Some(same) = self.rivals.iter().position(is_whole) {
            return Ok(Arrived::Same(self.rivals.swap_remove(same).place));
        }
        if !self.dry_run {
            let longer = self.rivals.pop();
            self.begin(longer)?;
        }
        let mut hash = [0; 16];
        hash.copy_from_slice(&self.hasher.finalize().as_bytes()[..16]);
        let content = Content { hash, size, wire_size: size + self.bare_line_feeds };
        Ok(Arrived::New(self.file, content))
    }
}

fn failed(tmp: &OpenDir, name: &[u8], error: &io::Error) -> DeliverError {
    trouble("write", tmp, name)(dirs::errno_of(error))
}

/// Are these the bytes there?
fn is_at(file: &File, offset: u64, bytes: &[u8]) -> bool {
    let mut buffer = vec![0; bytes.len().min(BLOCK_BYTES)];
    let mut at = offset;
    bytes.chunks(BLOCK_BYTES).all(|block| {
        let there = &mut buffer[..block.len()];
        let same = file.read_exact_at(there, at).is_ok() && there == block;
        at += block.len() as u64;
        same
    })
}

/// Copies the first bytes and gives their hash.
fn copy(from: &File, to: &mut File, length: u64) -> io::Result<blake3::Hash> {
    let (mut buffer, mut hasher, mut at) = (vec![0; BLOCK_BYTES], blake3::Hasher::new(), 0);
    while at < length {
        let block =
            &mut buffer[..usize::try_from(length - at).map_or(BLOCK_BYTES, |left| left.min(BLOCK_BYTES))];
        from.read_exact_at(block, at)?;
        to.write_all(block)?;
        hasher.update(block);
        at += block.len() as u64;
    }
    Ok(hasher.finalize())
}

/// Do two files hold the same bytes?
pub(super) fn same_content(one: &File, other: &File) -> bool {
    let (Ok(size), Ok(other_size)) = (one.metadata().map(|m| m.len()), other.metadata().map(|m| m.len()))
    else {
        return false;
    };
    let (mut buffer, mut at) = (vec![0; BLOCK_BYTES], 0);
    while size == other_size && at < size {
        let block =
            &mut buffer[..usize::try_from(size - at).map_or(BLOCK_BYTES, |left| left.min(BLOCK_BYTES))];
        if one.read_exact_at(block, at).is_err() || !is_at(other, at, block) {
            return false;
        }
        at += block.len() as u64;
    }
    size == other_size
}

impl Write for Incoming {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.put(bytes) {
            Ok(()) => Ok(bytes.len()),
            Err(error) => {
                self.error = Some(error);
                Err(io::Error::other("the letter cannot be written"))
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use proptest::prelude::*;

    use super::super::Part;
    use super::*;

    proptest! {
        /// Whatever lies there and however the bytes come: they are found, or stand in `tmp` as they came.
        #[test]
        fn a_letter_is_found_or_written_whole(
            letter in proptest::collection::vec(0u8..4, 0..60),
            others in proptest::collection::vec((any::<proptest::sample::Index>(), proptest::collection::vec(0u8..4, 0..9)), 0..4),
            cuts in proptest::collection::vec(0usize..20, 1..9),
        ) {
            let folder = tempfile::tempdir().unwrap();
            // Each begins as the letter does.
            let others: Vec<Vec<u8>> = others
                .iter()
                .map(|(cut, tail)| [&letter[..cut.index(letter.len() + 1)], tail].concat())
                .collect();
            let dir = Arc::new(dirs::open_root(folder.path()).unwrap());
            let rivals = others.iter().enumerate().map(|(number, bytes)| {
                let name = format!("rival {number}");
                std::fs::write(folder.path().join(&name), bytes).unwrap();
                let place = Place { folder: number, part: Part::Cur, name: name.clone().into_bytes(), is_brought: false };
                Rival { place, file: dirs::open_file(&dir, name.as_bytes()).unwrap() }
            });
            let mut incoming = Incoming::new(Arc::clone(&dir), b"letter".to_vec(), rivals.collect(), false);
            let (mut rest, mut cuts) = (letter.as_slice(), cuts.iter().cycle());
            while !rest.is_empty() {
                let (part, more) = rest.split_at((cuts.next().unwrap() + 1).min(rest.len()));
                incoming.write_all(part).unwrap();
                rest = more;
            }
            match incoming.finish().unwrap() {
                Arrived::Same(place) => prop_assert_eq!(&others[place.folder], &letter),
                Arrived::New(temporary, content) => {
                    prop_assert!(!others.contains(&letter));
                    let mut got = Vec::new();
                    File::open(folder.path().join("letter")).unwrap().read_to_end(&mut got).unwrap();
                    prop_assert_eq!(&got, &letter);
                    prop_assert_eq!(content.size, letter.len() as u64);
                    let hash = blake3::hash(&letter);
                    prop_assert_eq!(&content.hash[..], &hash.as_bytes()[..16]);
                    drop(temporary);
                }
            }
            prop_assert!(!folder.path().join("letter").exists());
        }
    }

    #[test]
    fn bare_line_feeds_make_the_wire_size() {
        let folder = tempfile::tempdir().unwrap();
        let dir = Arc::new(dirs::open_root(folder.path()).unwrap());
        let mut incoming = Incoming::new(dir, b"letter".to_vec(), Vec::new(), false);
        for part in [&b"a\n"[..], b"\nb\r", b"\nc\r\n"] {
            incoming.write_all(part).unwrap();
        }
        let Arrived::New(_, content) = incoming.finish().unwrap() else { panic!("nothing is there") };
        assert_eq!((content.size, content.wire_size), (9, 11));
    }
}
