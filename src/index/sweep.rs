//! All blobs of a domain in the order of their ids: every run read once, from its first record to its last.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::sync::Arc;

use super::lookup::Index;
use super::page::{self, PAGE_BYTES, PAGE_RECORDS, Page};
use super::record::Record;
use super::run::Run;
use super::{Location, Result};
use crate::base::id::{BlobId, DomainId};

/// Pages that are read at once from each run.
const READ_PAGES: usize = 16;

/// Reads a run from its first record to its last.
struct Cursor {
    run: Arc<Run>,
    pages: Vec<Page>,
    /// Number of the page after those in `pages`.
    next_page: u64,
    /// The next record, counted from the first in `pages`.
    at: usize,
    /// Records not yet returned.
    left: u32,
}

impl Cursor {
    fn new(run: &Arc<Run>) -> Cursor {
        Cursor { pages: Vec::new(), next_page: 0, at: 0, left: run.row().records, run: Arc::clone(run) }
    }

    fn next(&mut self) -> Result<Option<Record>> {
        if self.left == 0 {
            return Ok(None);
        }
        if self.at == self.pages.len() * PAGE_RECORDS {
            let count = (self.run.row().page_count() - self.next_page).min(READ_PAGES as u64);
            self.pages.resize(count as usize, [0; PAGE_BYTES]);
            self.run.read_pages(self.next_page, &mut self.pages)?;
            self.next_page += count;
            self.at = 0;
        }
        let record = page::record(&self.pages[self.at / PAGE_RECORDS], self.at % PAGE_RECORDS);
        self.at += 1;
        self.left -= 1;
        Ok(Some(record))
    }
}

/// The records of several runs in one ascending order.
pub(super) struct Merged {
    cursors: Vec<Cursor>,
    heads: BinaryHeap<Reverse<(Record, usize)>>,
}

impl Merged {
    pub(super) fn new(runs: &[Arc<Run>]) -> Result<Merged> {
        let mut cursors: Vec<Cursor> = runs.iter().map(Cursor::new).collect();
        let mut heads = BinaryHeap::with_capacity(cursors.len());
        for (source, cursor) in cursors.iter_mut().enumerate() {
            heads.extend(cursor.next()?.map(|record| Reverse((record, source))));
        }
        Ok(Merged { cursors, heads })
    }

    pub(super) fn next(&mut self) -> Result<Option<Record>> {
        let Some(mut head) = self.heads.peek_mut() else { return Ok(None) };
        let Reverse((record, source)) = *head;
        match self.cursors[source].next()? {
            Some(next) => *head = Reverse((next, source)),
            None => drop(PeekMut::pop(head)),
        }
        Ok(Some(record))
    }
}

/// The blobs of one domain, ascending by id, each with all its places.
///
/// Memory: a few pages a run.
pub struct Sweep {
    merged: Merged,
    ahead: Option<Record>,
}

impl Sweep {
    /// Gives the next blob; its places replace what `places` held, the newest pack first.
    pub fn advance(&mut self, places: &mut Vec<Location>) -> Result<Option<BlobId>> {
        places.clear();
        let first = match self.ahead.take() {
            Some(record) => record,
            None => match self.merged.next()? {
                Some(record) => record,
                None => return Ok(None),
            },
        };
        places.push(first.location());
        while let Some(record) = self.merged.next()? {
            if record.id != first.id {
                self.ahead = Some(record);
                break;
            }
            places.push(record.location());
        }
        places.reverse();
        Ok(Some(BlobId(first.id.to_be_bytes())))
    }
}

impl Index {
    /// Domains of which this index knows blobs, in any order.
    pub fn domains(&self) -> Vec<DomainId> {
        self.view().runs.iter().filter(|(_, runs)| !runs.is_empty()).map(|(domain, _)| *domain).collect()
    }

    /// Goes through all blobs of a domain as they are known now.
    pub fn sweep(&self, domain: &DomainId) -> Result<Sweep> {
        // The files of runs are open from here on: another process may merge them away meanwhile.
        let merged = self.ask(|view| Merged::new(view.domain_runs(domain)))?;
        Ok(Sweep { merged, ahead: None })
    }
}
