//! A file that is given up when the disk is full, so that a prune can still write the records that let it delete.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Place;
use super::disk::Disk;
use super::local::RESERVE_BYTES;

/// The file's name in `tmp/`.
pub(super) const SPARE_NAME: &str = "spare";
/// Its size: some hundred records, or a few deltas and snapshots.
pub(super) const SPARE_BYTES: u64 = 1 << 20;

/// The spare file of a store.
#[derive(Debug)]
pub(super) struct Spare {
    path: PathBuf,
    disk: Arc<dyn Disk>,
    /// Nothing to do for now: it is there, or it could not be made.
    settled: AtomicBool,
}

impl Spare {
    /// The spare file of the store in `root`, there or not.
    pub(super) fn new(root: &Path, disk: Arc<dyn Disk>) -> Spare {
        Spare { path: root.join("tmp").join(SPARE_NAME), disk, settled: AtomicBool::new(false) }
    }

    /// May it be given up for this object? What frees nothing in the end has to stand in line.
    pub(super) fn serves(place: &Place, bytes: usize) -> bool {
        let small = matches!(place, Place::Record(..) | Place::Delta(..) | Place::Snapshot(..));
        small && (bytes as u64) < SPARE_BYTES
    }

    /// Makes the file when it is missing and there is room beyond the reserve.
    pub(super) fn keep(&self, available: impl FnOnce() -> Option<u64>) {
        if self.settled.load(Ordering::Relaxed) {
            return;
        }
        match fs::metadata(&self.path) {
            Ok(found) if found.len() >= SPARE_BYTES => return self.settled.store(true, Ordering::Relaxed),
            // Its maker was killed.
            Ok(_) => drop(self.disk.remove_file(&self.path)),
            Err(_) => {}
        }
        if available().is_none_or(|bytes| bytes >= RESERVE_BYTES + SPARE_BYTES) {
            self.make();
            // One that cannot be made is tried again by the next process, not with each object.
            self.settled.store(true, Ordering::Relaxed);
        }
    }

    fn make(&self) {
        let Ok(file) = self.disk.create_file(&self.path) else { return };
        // Bytes that no file system stores smaller than they are.
        let mut bytes = vec![0; SPARE_BYTES as usize];
        blake3::Hasher::new_derive_key("mailark 2026-11 spare").finalize_xof().fill(&mut bytes);
        if self.disk.write(&file, &self.path, &bytes).is_err() {
            let _ = self.disk.remove_file(&self.path);
        }
    }

    /// Frees its bytes; false when there are none to free.
    pub(super) fn give_up(&self) -> bool {
        self.settled.store(false, Ordering::Relaxed);
        self.disk.remove_file(&self.path).is_ok()
    }
}
