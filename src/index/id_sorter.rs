//! Sorting more ids than memory should hold: sorted stretches go to files that nobody else sees, and are merged.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::path::PathBuf;

use super::Result;
use super::error::IndexError;
use super::folder;
use super::lookup::Index;
use crate::base::bytes::hex;
use crate::base::entropy;
use crate::base::id::BlobId;

/// Ids that are sorted in memory at once, 32 bytes each.
const HELD_MAX: usize = 1 << 20;
/// Bytes of one id and its tag in a file.
const ENTRY_BYTES: usize = 24;
/// Bytes of a stretch that are read at once.
const READ_BYTES: usize = 64 << 10;

type Entry = (u128, u64);

/// Collects ids with a tag each; of one id the lowest tag counts.
///
/// Memory: 32 MiB, and 64 KiB for every million ids; files of 24 bytes an id. Without a folder all stays in memory.
pub struct IdSorter {
    folder: Option<PathBuf>,
    held: Vec<Entry>,
    held_max: usize,
    stretches: Vec<File>,
}

fn tidy(entries: &mut Vec<Entry>) {
    entries.sort_unstable();
    entries.dedup_by_key(|entry| entry.0);
}

impl IdSorter {
    fn new(folder: Option<PathBuf>, held_max: usize) -> IdSorter {
        IdSorter { folder, held: Vec::new(), held_max, stretches: Vec::new() }
    }

    /// Adds an id.
    pub fn push(&mut self, id: &BlobId, tag: u64) -> Result<()> {
        self.held.push((u128::from_be_bytes(id.0), tag));
        if self.held.len() < self.held_max {
            return Ok(());
        }
        tidy(&mut self.held);
        match self.folder.clone() {
            // What repeats itself takes no room; only what is really too much is written out.
            Some(folder) if self.held.len() > self.held_max / 2 => self.write_out(folder),
            Some(_) => Ok(()),
            None => {
                self.held_max = self.held_max.max(self.held.len() * 2);
                Ok(())
            }
        }
    }

    fn write_out(&mut self, folder: PathBuf) -> Result<()> {
        let path = folder.join(format!("{}.run", hex(&entropy::random::<8>())));
        let file = folder::create_file(&path)?;
        // Nobody else finds it, and it is gone with this process; one that dies here leaves a stray run.
        std::fs::remove_file(&path).map_err(IndexError::io(&path))?;
        let write = || -> io::Result<File> {
            let mut writer = BufWriter::with_capacity(1 << 20, file);
            for (id, tag) in &self.held {
                writer.write_all(&id.to_be_bytes())?;
                writer.write_all(&tag.to_be_bytes())?;
            }
            let mut file = writer.into_inner().map_err(io::IntoInnerError::into_error)?;
            file.rewind()?;
            Ok(file)
        };
        let file = write().map_err(IndexError::io(&path))?;
        self.stretches.push(file);
        self.held.clear();
        Ok(())
    }

    /// Ends the collection. It can be gone through any number of times.
    pub fn finish(mut self) -> SortedIds {
        tidy(&mut self.held);
        SortedIds { held: self.held, stretches: self.stretches }
    }
}

/// Ids in ascending order, each once, with its lowest tag.
pub struct SortedIds {
    held: Vec<Entry>,
    stretches: Vec<File>,
}

struct Stretch(BufReader<File>);

impl Stretch {
    fn next(&mut self) -> Result<Option<Entry>> {
        let mut bytes = [0; ENTRY_BYTES];
        let mut filled = 0;
        while filled < ENTRY_BYTES {
            match self.0.read(&mut bytes[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(IndexError::damaged("a file of sorted ids ends early")),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(IndexError::Io { path: PathBuf::from("sorted ids"), source }),
            }
        }
        let (id, tag) = bytes.split_at(16);
        let id = u128::from_be_bytes(id.try_into().expect("16 of 24 bytes"));
        Ok(Some((id, u64::from_be_bytes(tag.try_into().expect("the other 8")))))
    }
}

impl SortedIds {
    /// Goes through the ids from the first to the last.
    pub fn pass(&self) -> Result<Pass<'_>> {
        let mut stretches = Vec::new();
        let mut heads = BinaryHeap::new();
        for (source, file) in self.stretches.iter().enumerate() {
            let opened = file.try_clone().and_then(|mut file| file.rewind().map(|()| file));
            let file =
                opened.map_err(|source| IndexError::Io { path: PathBuf::from("sorted ids"), source })?;
            let mut stretch = Stretch(BufReader::with_capacity(READ_BYTES, file));
            heads.extend(stretch.next()?.map(|entry| Reverse((entry, source))));
            stretches.push(stretch);
        }
        Ok(Pass { held: self.held.iter(), ahead: None, stretches, heads, last: None })
    }
}

/// One way through [`SortedIds`]; there must not be two at a time.
pub struct Pass<'a> {
    held: std::slice::Iter<'a, Entry>,
    ahead: Option<Entry>,
    stretches: Vec<Stretch>,
    heads: BinaryHeap<Reverse<(Entry, usize)>>,
    last: Option<u128>,
}

impl Pass<'_> {
    /// Gives the next id and its tag.
    pub fn advance(&mut self) -> Result<Option<(BlobId, u64)>> {
        loop {
            let Some((id, tag)) = self.next_entry()? else { return Ok(None) };
            // The same id may stand in several stretches; the lowest tag came first.
            if self.last.replace(id) != Some(id) {
                return Ok(Some((BlobId(id.to_be_bytes()), tag)));
            }
        }
    }

    fn next_entry(&mut self) -> Result<Option<Entry>> {
        self.ahead = self.ahead.take().or_else(|| self.held.next().copied());
        let Some(mut head) = self.heads.peek_mut() else { return Ok(self.ahead.take()) };
        let Reverse((entry, source)) = *head;
        if self.ahead.is_some_and(|held| held <= entry) {
            return Ok(self.ahead.take());
        }
        match self.stretches[source].next()? {
            Some(next) => *head = Reverse((next, source)),
            None => drop(PeekMut::pop(head)),
        }
        Ok(Some(entry))
    }
}

impl Index {
    /// An empty sorter, which keeps what is too much for memory beside the index.
    pub fn sorter(&self) -> IdSorter {
        let folder = self.shelf.folder.as_ref().map(|folder| folder.path().to_owned());
        IdSorter::new(folder, HELD_MAX)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn ids_come_back_sorted_once_and_with_their_lowest_tag() {
        let folder = tempfile::tempdir().unwrap();
        for place in [Some(folder.path().to_owned()), None] {
            let mut sorter = IdSorter::new(place.clone(), 1000);
            let mut expected: BTreeMap<BlobId, u64> = BTreeMap::new();
            for number in 0..30_000u64 {
                let hash = blake3::hash(&(number % 9_000).to_le_bytes());
                let id = BlobId(*hash.as_bytes().first_chunk().unwrap());
                let tag = number.wrapping_mul(7919) % 10_000;
                sorter.push(&id, tag).unwrap();
                expected.entry(id).and_modify(|known| *known = tag.min(*known)).or_insert(tag);
            }
            let sorted = sorter.finish();
            assert_eq!(sorted.stretches.is_empty(), place.is_none());
            for _ in 0..2 {
                let mut pass = sorted.pass().unwrap();
                let mut found = Vec::new();
                while let Some(entry) = pass.advance().unwrap() {
                    found.push(entry);
                }
                assert!(found.into_iter().eq(expected.iter().map(|(id, tag)| (*id, *tag))));
            }
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
