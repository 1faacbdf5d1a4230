//! Writing a run as its records come, in ascending order: one page and the filter are in memory.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use super::Result;
use super::error::IndexError;
use super::filter::FilterBuilder;
use super::folder::{self, Folder};
use super::page::{self, BODY_BYTES, PAGE_BYTES, Page, PageCache, RunId};
use super::record::{RECORD_BYTES, Record};
use super::run::{FILTER_NUMBER, Run, RunBytes, RunRow};
use crate::base::entropy;
use crate::base::id::DomainId;

const WRITE_BYTES: usize = 256 << 10;

/// Where the runs of one index lie, and the pages of them that are in memory.
#[derive(Clone)]
pub(super) struct Shelf {
    /// `None` for an index in memory.
    pub(super) folder: Option<Arc<Folder>>,
    pub(super) cache: Arc<PageCache>,
}

impl Shelf {
    pub(super) fn new(folder: Option<Folder>) -> Shelf {
        Shelf { folder: folder.map(Arc::new), cache: Arc::new(PageCache::new()) }
    }

    /// A run that a row names; `None` for an index in memory, whose runs are never opened again.
    pub(super) fn open(&self, row: RunRow) -> Option<Run> {
        let folder = Arc::clone(self.folder.as_ref()?);
        let path = folder.run(&row.id);
        let bytes = RunBytes::File { folder, path, handle: OnceLock::new() };
        Some(Run::new(row, bytes, None, &self.cache))
    }
}

enum Sink {
    File(BufWriter<File>, Draft),
    Memory(Vec<u8>),
}

/// Removes a file that is not wanted after all.
struct Draft(Option<PathBuf>);

impl Drop for Draft {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            let _ = fs::remove_file(path);
        }
    }
}

impl Sink {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        match self {
            Sink::Memory(all) => all.extend_from_slice(bytes),
            Sink::File(file, Draft(path)) => file.write_all(bytes).map_err(|source| {
                let path = path.clone().unwrap_or_default();
                IndexError::Io { path, source }
            })?,
        }
        Ok(())
    }
}

/// A run on its way; dropped before `finish`, it leaves nothing.
pub(super) struct RunWriter {
    shelf: Shelf,
    id: RunId,
    domain: DomainId,
    sink: Sink,
    page: Box<Page>,
    /// Bytes of `page` in use.
    filled: usize,
    page_count: u64,
    records: u32,
    filter: FilterBuilder,
}

impl RunWriter {
    /// Begins a run of about `expected` records.
    pub(super) fn create(shelf: &Shelf, domain: DomainId, expected: usize) -> Result<RunWriter> {
        let id = entropy::random();
        let sink = match &shelf.folder {
            None => Sink::Memory(Vec::new()),
            Some(folder) => {
                let path = folder.run(&id);
                let file = folder::create_file(&path).map_err(|error| match error.is_gone() {
                    true => IndexError::damaged("its folder is gone"),
                    false => error,
                })?;
                Sink::File(BufWriter::with_capacity(WRITE_BYTES, file), Draft(Some(path)))
            }
        };
        Ok(RunWriter {
            shelf: shelf.clone(),
            id,
            domain,
            sink,
            page: Box::new([0; PAGE_BYTES]),
            filled: 0,
            page_count: 0,
            records: 0,
            filter: FilterBuilder::new(expected),
        })
    }

    /// Adds a record that is not below the last one.
    pub(super) fn push(&mut self, record: Record) -> Result<()> {
        self.page[self.filled..self.filled + RECORD_BYTES].copy_from_slice(&record.to_bytes());
        self.filled += RECORD_BYTES;
        self.filter.push(record.id);
        self.records += 1;
        if self.filled == BODY_BYTES { self.write_page() } else { Ok(()) }
    }

    fn write_page(&mut self) -> Result<()> {
        self.page[self.filled..].fill(0);
        page::close(&mut self.page, &self.id, self.page_count);
        self.sink.write(&self.page[..])?;
        self.page_count += 1;
        self.filled = 0;
        Ok(())
    }

    /// Completes the run; `None` when it has no records.
    pub(super) fn finish(mut self) -> Result<Option<Run>> {
        if self.records == 0 {
            return Ok(None);
        }
        if self.filled > 0 {
            self.write_page()?;
        }
        let filter = self.filter.finish();
        self.sink.write(filter.as_bytes())?;
        self.sink.write(&page::checksum(&self.id, FILTER_NUMBER, filter.as_bytes()))?;
        let buckets = filter.buckets();
        let row = RunRow { id: self.id, domain: self.domain, records: self.records, buckets };
        let bytes = match self.sink {
            Sink::Memory(mut bytes) => {
                bytes.shrink_to_fit();
                RunBytes::Memory(bytes)
            }
            Sink::File(writer, mut draft) => {
                let path = draft.0.clone().expect("a draft has a path until it is kept");
                let file = writer.into_inner().map_err(|error| IndexError::io(&path)(error.into_error()))?;
                let folder = self.shelf.folder.clone().expect("a run file lies in a folder");
                let bytes = RunBytes::File { folder, path, handle: OnceLock::new() };
                bytes.keep_open(file);
                draft.0 = None;
                bytes
            }
        };
        Ok(Some(Run::new(row, bytes, Some(filter), &self.shelf.cache)))
    }
}
