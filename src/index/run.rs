//! An immutable sorted run of blob locations: pages of 170 records, then the filter and its checksum.
//!
//! A file has no header: its row in the database says how many records and filter buckets there are, so every
//! byte's place is known, and every page's checksum holds the run's random id.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use super::error::IndexError;
use super::filter::{Filter, filter_bytes};
use super::folder::Folder;
use super::page::{self, PAGE_BYTES, PAGE_RECORDS, Page, PageCache, RunId, SUM_BYTES};
use super::record::Record;
use super::{Location, Result};
use crate::base::bytes::hex;
use crate::base::id::DomainId;

/// Run files that one index holds open; further ones are opened for each read.
const OPEN_FILES_MAX: usize = 256;
/// The checksum number of a filter, which no page has.
pub(super) const FILTER_NUMBER: u64 = u64::MAX;

/// What the database says about a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RunRow {
    pub(super) id: RunId,
    /// Runs never mix domains, so that no host can make another believe that a blob is stored.
    pub(super) domain: DomainId,
    pub(super) records: u32,
    pub(super) buckets: u32,
}

impl RunRow {
    pub(super) fn page_count(&self) -> u64 {
        u64::from(self.records).div_ceil(PAGE_RECORDS as u64)
    }

    fn filter_offset(&self) -> u64 {
        self.page_count() * PAGE_BYTES as u64
    }

    fn filter_bytes(&self) -> usize {
        filter_bytes(self.records, self.buckets)
    }

    /// Bytes of the whole run.
    pub(super) fn bytes(&self) -> u64 {
        self.filter_offset() + (self.filter_bytes() + SUM_BYTES) as u64
    }
}

/// The bytes of a run, in a file or (for an index in memory) in memory.
pub(super) enum RunBytes {
    File { folder: Arc<Folder>, path: PathBuf, handle: OnceLock<File> },
    Memory(Vec<u8>),
}

impl RunBytes {
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        match self {
            RunBytes::Memory(bytes) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX);
                let held = bytes.get(start..).and_then(|rest| rest.get(..out.len()));
                out.copy_from_slice(held.ok_or(io::ErrorKind::UnexpectedEof)?);
                Ok(())
            }
            RunBytes::File { path, handle, .. } => match handle.get() {
                Some(file) => file.read_exact_at(out, offset),
                None => {
                    let file = File::open(path)?;
                    file.read_exact_at(out, offset)?;
                    self.keep_open(file);
                    Ok(())
                }
            },
        }
    }

    pub(super) fn keep_open(&self, file: File) {
        if let RunBytes::File { folder, handle, .. } = self {
            let is_full = folder.open_files.fetch_add(1, Ordering::Relaxed) >= OPEN_FILES_MAX;
            if is_full || handle.set(file).is_err() {
                folder.open_files.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }
}

impl Drop for RunBytes {
    fn drop(&mut self) {
        if let RunBytes::File { folder, handle, .. } = self
            && handle.get().is_some()
        {
            folder.open_files.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// A run that can be searched; filter and pages are read when first needed.
pub(super) struct Run {
    row: RunRow,
    bytes: RunBytes,
    filter: OnceLock<Filter>,
    cache: Arc<PageCache>,
}

impl Run {
    pub(super) fn new(row: RunRow, bytes: RunBytes, filter: Option<Filter>, cache: &Arc<PageCache>) -> Run {
        let filter = filter.map(OnceLock::from).unwrap_or_default();
        Run { row, bytes, filter, cache: Arc::clone(cache) }
    }

    pub(super) fn row(&self) -> &RunRow {
        &self.row
    }

    fn damaged(&self, what: &str) -> IndexError {
        IndexError::damaged(format!("run {}: {what}", hex(&self.row.id)))
    }

    /// Compares the length of the file with the row, without reading it.
    pub(super) fn check_length(&self) -> Result<()> {
        let RunBytes::File { path, .. } = &self.bytes else { return Ok(()) };
        let found = fs::metadata(path).map_err(IndexError::io(path))?;
        if found.is_file() && found.len() == self.row.bytes() {
            Ok(())
        } else {
            Err(self.damaged("length of its file"))
        }
    }

    /// Removes the file once no row names it; readers that hold it open go on reading.
    pub(super) fn remove_file(&self) {
        if let RunBytes::File { path, .. } = &self.bytes {
            // A file left behind is collected as a stray.
            let _ = fs::remove_file(path);
        }
    }

    /// Bytes of the filter, if it is in memory.
    pub(super) fn loaded_filter_bytes(&self) -> u64 {
        self.filter.get().map_or(0, |filter| filter.as_bytes().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        self.bytes.read(offset, out).map_err(|source| match (&self.bytes, source.kind()) {
            (_, io::ErrorKind::UnexpectedEof) => self.damaged("ends too early"),
            (RunBytes::File { path, .. }, _) => IndexError::Io { path: path.clone(), source },
            (RunBytes::Memory(_), _) => self.damaged("not readable"),
        })
    }

    fn filter(&self) -> Result<&Filter> {
        if let Some(filter) = self.filter.get() {
            return Ok(filter);
        }
        // Before memory is taken for as much as the row claims.
        self.check_length()?;
        let mut bytes = vec![0; self.row.filter_bytes() + SUM_BYTES];
        self.read(self.row.filter_offset(), &mut bytes)?;
        let sum = bytes.split_off(self.row.filter_bytes());
        if page::checksum(&self.row.id, FILTER_NUMBER, &bytes) != *sum {
            return Err(self.damaged("checksum of its filter"));
        }
        let filter = Filter::from_bytes(bytes, self.row.records, self.row.buckets)
            .ok_or_else(|| self.damaged("size of its filter"))?;
        Ok(self.filter.get_or_init(|| filter))
    }

    /// Reads pages in a row, past the cache, and checks them.
    pub(super) fn read_pages(&self, first: u64, out: &mut [Page]) -> Result<()> {
        self.read(first * PAGE_BYTES as u64, out.as_flattened_mut())?;
        let is_sound = (first..).zip(&*out).all(|(number, page)| page::is_sound(page, &self.row.id, number));
        if is_sound { Ok(()) } else { Err(self.damaged("checksum of a page")) }
    }

    fn page(&self, number: u64) -> Result<Arc<Page>> {
        if let Some(page) = self.cache.get(&self.row.id, number) {
            return Ok(page);
        }
        let mut page = [[0; PAGE_BYTES]];
        self.read_pages(number, &mut page)?;
        let [page] = page;
        let page = Arc::new(page);
        self.cache.put(&self.row.id, number, &page);
        Ok(page)
    }

    /// True when some record has this id.
    pub(super) fn contains(&self, id: u128) -> Result<bool> {
        Ok(self.first(id)?.is_some())
    }

    /// Appends the locations of this id.
    pub(super) fn collect(&self, id: u128, found: &mut Vec<Location>) -> Result<()> {
        let Some((mut reader, first)) = self.first(id)? else { return Ok(()) };
        for index in first..self.row.records as usize {
            let record = reader.record(index)?;
            if record.id != id {
                break;
            }
            found.push(record.location());
        }
        Ok(())
    }

    /// Finds the first record with this id, reading nothing when the filter knows better.
    fn first(&self, id: u128) -> Result<Option<(RecordReader<'_>, usize)>> {
        let candidates = self.filter()?.candidates(id);
        if candidates.is_empty() {
            return Ok(None);
        }
        let mut reader = RecordReader { run: self, page: None };
        // Honest ids give one candidate; a crowd that somebody chose is still searched in a few steps.
        let (mut low, mut high) = (candidates.start, candidates.end);
        while low < high {
            let middle = low + (high - low) / 2;
            if reader.record(middle)?.id < id {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        let is_found = low < candidates.end && reader.record(low)?.id == id;
        Ok(is_found.then_some((reader, low)))
    }
}

/// Reads records by number and keeps the last page at hand.
struct RecordReader<'a> {
    run: &'a Run,
    page: Option<(u64, Arc<Page>)>,
}

impl RecordReader<'_> {
    fn record(&mut self, index: usize) -> Result<Record> {
        let number = (index / PAGE_RECORDS) as u64;
        let page = match self.page.take() {
            Some((held, page)) if held == number => page,
            _ => self.run.page(number)?,
        };
        let record = page::record(&page, index % PAGE_RECORDS);
        self.page = Some((number, page));
        Ok(record)
    }
}
