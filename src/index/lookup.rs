//! Opening an index and asking it.

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use rusqlite::Connection;

use super::error::IndexError;
use super::folder::{Folder, Place};
use super::merge::MergeJob;
use super::pack_cache::PackCache;
use super::run_writer::Shelf;
use super::tables;
use super::view::View;
use super::{Location, PackInfo, PackNumber, Result};
use crate::base::id::{BlobId, DomainId, ObjectHash, RepositoryId};

/// How often a reader looks again when another process merged runs away under it.
const LOOK_AGAIN_MAX: usize = 8;

/// The local lookup of one repository.
///
/// Questions take `&self` and may come from several threads; `contains` and `lookup` do not use the database.
pub struct Index {
    pub(super) repository: RepositoryId,
    /// `None` for an index in memory.
    pub(super) place: Option<Place>,
    pub(super) shelf: Shelf,
    // Locked before `view` wherever both are.
    pub(super) connection: Mutex<Connection>,
    pub(super) view: RwLock<View>,
    pub(super) packs: PackCache,
    pub(super) merge: Option<MergeJob>,
    pub(super) are_strays_removed: bool,
}

/// Sizes of an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Deltas applied.
    pub delta_count: u64,
    /// Packs they name.
    pub pack_count: u64,
    /// Blob locations; a blob in two packs counts twice.
    pub location_count: u64,
    /// Sorted runs that hold them.
    pub run_count: u64,
    /// Bytes of the runs.
    pub run_bytes: u64,
    /// Bytes of the filters that are in memory by now.
    pub filter_bytes: u64,
    /// Pages of runs read by questions since the index was opened.
    pub page_reads: u64,
}

impl Index {
    /// Opens the index of a repository below the cache directory `dir`, and makes an empty one when there is none.
    ///
    /// One that is damaged, of another repository or of another version is thrown away: what it knew, as
    /// [`Index::deltas`] shows, is then nothing.
    ///
    /// # Errors
    /// [`IndexError::Busy`] when other processes hold it for long, or the reason why the directory cannot be
    /// used; [`Index::in_memory`] serves then.
    pub fn open(dir: &Path, repository: &RepositoryId) -> Result<Index> {
        Index::open_at(&Place::create(dir, repository)?, repository)
    }

    pub(super) fn open_at(place: &Place, repository: &RepositoryId) -> Result<Index> {
        match Index::open_current(place, repository) {
            Err(error) if error.is_damage() => {}
            opened => return opened,
        }
        let lock = place.lock()?;
        // Another process may have been first to start over.
        match Index::open_current(place, repository) {
            Err(error) if error.is_damage() => {}
            opened => return opened,
        }
        let folder = place.renew(&lock)?;
        let connection = tables::create(&folder.database(), repository)?;
        Ok(Index::assemble(*repository, Some(place.clone()), Some(folder), connection))
    }

    /// An empty index that lives in memory, for when the cache directory cannot be used.
    ///
    /// # Panics
    /// When there is no memory for an empty database.
    pub fn in_memory(repository: &RepositoryId) -> Index {
        let connection = tables::create_in_memory(repository).expect("a database in memory needs no file");
        Index::assemble(*repository, None, None, connection)
    }

    fn assemble(
        repository: RepositoryId,
        place: Option<Place>,
        folder: Option<Folder>,
        connection: Connection,
    ) -> Index {
        Index {
            repository,
            place,
            shelf: Shelf::new(folder),
            connection: Mutex::new(connection),
            view: RwLock::default(),
            packs: PackCache::default(),
            merge: None,
            are_strays_removed: false,
        }
    }

    fn open_current(place: &Place, repository: &RepositoryId) -> Result<Index> {
        let folder = place.current()?;
        let connection = tables::open(&folder.database())?;
        let index = Index::assemble(*repository, Some(place.clone()), Some(folder), connection);
        index.reload(&index.connection())?;
        index.ask(|view| view.all_runs().try_for_each(|run| run.check_length()))?;
        Ok(index)
    }

    pub(super) fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn view(&self) -> RwLockReadGuard<'_, View> {
        self.view.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn view_mut(&self) -> RwLockWriteGuard<'_, View> {
        self.view.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads all small rows anew.
    fn reload(&self, connection: &Connection) -> Result<()> {
        let transaction = connection.unchecked_transaction()?;
        let view = View::read(&transaction, &self.repository, &self.shelf, &self.view())?;
        *self.view_mut() = view;
        Ok(())
    }

    /// Inside a transaction: reads the small rows anew if another process has written.
    pub(super) fn refresh(&self, transaction: &Connection) -> Result<()> {
        if tables::generation(transaction)? != self.view().state.generation {
            let view = View::read(transaction, &self.repository, &self.shelf, &self.view())?;
            *self.view_mut() = view;
        }
        Ok(())
    }

    /// Puts a question to the runs; again with a newer view if another process merged some away meanwhile.
    pub(super) fn ask<T>(&self, question: impl Fn(&View) -> Result<T>) -> Result<T> {
        for _ in 0..LOOK_AGAIN_MAX {
            let seen = {
                let view = self.view();
                match question(&view) {
                    Err(error) if error.is_gone() => view.state.generation,
                    answer => return answer,
                }
            };
            self.reload(&self.connection())?;
            if self.view().state.generation == seen {
                break;
            }
        }
        Err(IndexError::damaged("a run's file is missing"))
    }

    /// Puts a question to the database at one moment, of which the view is the picture.
    fn inquire<T>(&self, question: impl FnOnce(&Connection, &View) -> Result<T>) -> Result<T> {
        let connection = self.connection();
        let transaction = connection.unchecked_transaction()?;
        self.refresh(&transaction)?;
        question(&transaction, &self.view())
    }

    /// The deltas applied so far.
    pub fn deltas(&self) -> Result<HashSet<ObjectHash>> {
        self.inquire(|_, view| Ok(view.applied.clone()))
    }

    /// True when some delta of the domain names this blob. A new id is mostly answered from memory.
    pub fn contains(&self, domain: &DomainId, id: &BlobId) -> Result<bool> {
        let id = u128::from_be_bytes(id.0);
        self.ask(|view| {
            for run in view.domain_runs(domain) {
                if run.contains(id)? {
                    return Ok(true);
                }
            }
            Ok(false)
        })
    }

    /// All places of a blob in packs of the domain, the newest pack first; a place named twice stands twice.
    pub fn lookup(&self, domain: &DomainId, id: &BlobId) -> Result<Vec<Location>> {
        let id = u128::from_be_bytes(id.0);
        self.ask(|view| {
            let mut found = Vec::new();
            for run in view.domain_runs(domain) {
                run.collect(id, &mut found)?;
            }
            found.sort_unstable_by(|a, b| b.cmp(a));
            Ok(found)
        })
    }

    /// The pack with a number that [`Index::lookup`] or [`Index::packs`] gave.
    ///
    /// # Errors
    /// [`IndexError::UnknownPack`] when its delta was forgotten meanwhile.
    pub fn pack(&self, number: PackNumber) -> Result<Arc<PackInfo>> {
        if self.view().delta_of(number).is_some()
            && let Some(pack) = self.packs.get(number)
        {
            return Ok(pack);
        }
        self.inquire(|connection, view| {
            let delta = view.delta_of(number).ok_or(IndexError::UnknownPack(number))?;
            let pack = Arc::new(tables::read_pack(connection, number, delta)?);
            self.packs.put(number, &pack);
            Ok(pack)
        })
    }

    /// Number, name and size in bytes of every pack; a pack that two deltas name stands twice.
    pub fn packs(&self) -> Result<Vec<(PackNumber, ObjectHash, u64)>> {
        self.inquire(|connection, view| tables::read_packs(connection, &view.deltas))
    }

    /// The packs that each delta names.
    pub fn packs_by_delta(&self) -> Result<Vec<(ObjectHash, Vec<ObjectHash>)>> {
        self.inquire(|connection, view| {
            let mut packs = tables::read_packs(connection, &view.deltas)?.into_iter();
            let of_delta = |delta: &tables::DeltaRow| {
                let count = delta.packs().len();
                (delta.hash, packs.by_ref().take(count).map(|(_, hash, _)| hash).collect())
            };
            Ok(view.deltas.iter().map(of_delta).collect())
        })
    }

    /// Blob locations; a blob in two packs counts twice.
    pub fn blob_count(&self) -> u64 {
        self.stats().location_count
    }

    /// Sizes, without reading any run.
    pub fn stats(&self) -> Stats {
        let view = self.view();
        let mut stats = Stats {
            delta_count: view.deltas.len() as u64,
            pack_count: view.deltas.iter().map(|delta| u64::from(delta.pack_count)).sum(),
            page_reads: self.shelf.cache.reads(),
            ..Stats::default()
        };
        for run in view.all_runs() {
            stats.location_count += u64::from(run.row().records);
            stats.run_count += 1;
            stats.run_bytes += run.row().bytes();
            stats.filter_bytes += run.loaded_filter_bytes();
        }
        stats
    }

    /// The value that [`Index::set`] stored under `key`, if the index still has it.
    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        self.inquire(|connection, view| {
            view.facts.get(key).map(|fact| tables::read_fact(connection, fact)).transpose()
        })
    }
}
