//! Pages of a run: 170 records and a checksum that knows which page of which run it is; a small cache of them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::record::{RECORD_BYTES, Record};

pub(super) const PAGE_BYTES: usize = 4096;
/// Bytes of the checksum of a page, and of a filter.
pub(super) const SUM_BYTES: usize = 16;
/// Bytes of a page before its checksum.
pub(super) const BODY_BYTES: usize = PAGE_BYTES - SUM_BYTES;
pub(super) const PAGE_RECORDS: usize = BODY_BYTES / RECORD_BYTES;
/// Pages held in memory by one index: 8 MiB.
const CACHED_PAGES: usize = 2048;

/// Names a run; random, so that no file of another run or another life of the index is taken for it.
pub(super) type RunId = [u8; 16];
pub(super) type Page = [u8; PAGE_BYTES];

/// The checksum of part `number` of run `run`: BLAKE3 with run and number as key, so that a right page in a
/// wrong place is wrong too. It finds accidents; whoever may write the cache could also compute it.
pub(super) fn checksum(run: &RunId, number: u64, bytes: &[u8]) -> [u8; SUM_BYTES] {
    let mut key = [0; blake3::KEY_LEN];
    key[..16].copy_from_slice(run);
    key[16..24].copy_from_slice(&number.to_le_bytes());
    let mut sum = [0; SUM_BYTES];
    sum.copy_from_slice(&blake3::keyed_hash(&key, bytes).as_bytes()[..SUM_BYTES]);
    sum
}

/// Writes the checksum into the end of a page.
pub(super) fn close(page: &mut Page, run: &RunId, number: u64) {
    let sum = checksum(run, number, &page[..BODY_BYTES]);
    page[BODY_BYTES..].copy_from_slice(&sum);
}

/// True when the page is what was written as page `number` of run `run`.
pub(super) fn is_sound(page: &Page, run: &RunId, number: u64) -> bool {
    checksum(run, number, &page[..BODY_BYTES]) == page[BODY_BYTES..]
}

/// Record `index` of a page, below [`PAGE_RECORDS`].
pub(super) fn record(page: &Page, index: usize) -> Record {
    let (records, _) = page[..BODY_BYTES].as_chunks::<RECORD_BYTES>();
    Record::from_bytes(&records[index])
}

type Slot = Option<(RunId, u64, Arc<Page>)>;

/// Recently read pages of all runs. Each page has one slot it can stand in, so a hit takes one short lock.
pub(super) struct PageCache {
    slots: Vec<Mutex<Slot>>,
    reads: AtomicU64,
}

impl PageCache {
    pub(super) fn new() -> PageCache {
        let slots = std::iter::repeat_with(Mutex::default).take(CACHED_PAGES).collect();
        PageCache { slots, reads: AtomicU64::new(0) }
    }

    fn slot(&self, run: &RunId, number: u64) -> std::sync::MutexGuard<'_, Slot> {
        let start = u64::from_le_bytes(run[..8].try_into().expect("a run id is longer than 8 bytes"));
        let slot = start.wrapping_add(number) % CACHED_PAGES as u64;
        self.slots[slot as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn get(&self, run: &RunId, number: u64) -> Option<Arc<Page>> {
        match &*self.slot(run, number) {
            Some((held, page_number, page)) if held == run && *page_number == number => {
                Some(Arc::clone(page))
            }
            _ => None,
        }
    }

    pub(super) fn put(&self, run: &RunId, number: u64, page: &Arc<Page>) {
        self.reads.fetch_add(1, Ordering::Relaxed);
        *self.slot(run, number) = Some((*run, number, Arc::clone(page)));
    }

    /// Pages that were not in the cache and had to be read.
    pub(super) fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }
}
