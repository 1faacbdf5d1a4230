//! Descriptions of packs that were asked for, bounded by bytes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{PackInfo, PackNumber};

const CACHE_BYTES_MAX: usize = 16 << 20;

#[derive(Default)]
struct Held {
    packs: HashMap<PackNumber, Arc<PackInfo>>,
    bytes: usize,
}

/// Packs by number; emptied when it is full, since a restore reads packs in order and asks for few at a time.
#[derive(Default)]
pub(super) struct PackCache(Mutex<Held>);

impl PackCache {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn get(&self, number: PackNumber) -> Option<Arc<PackInfo>> {
        self.held().packs.get(&number).cloned()
    }

    pub(super) fn put(&self, number: PackNumber, pack: &Arc<PackInfo>) {
        let bytes = pack.table.len() + size_of::<PackInfo>();
        let mut held = self.held();
        if held.bytes + bytes > CACHE_BYTES_MAX {
            *held = Held::default();
        }
        held.bytes += bytes;
        held.packs.insert(number, Arc::clone(pack));
    }
}
