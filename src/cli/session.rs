//! An opened repository with its local index, as every command needs it.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};

use super::commands::Context;
use super::failure::{Failure, Kind};
use super::highest::{HighestSeen, Seen};
use super::{gone, mirrors, secret};
use crate::base::bytes;
use crate::base::id::ObjectHash;
use crate::crypto::blob_id::BlobNamer;
use crate::format::keyset::KeySet;
use crate::index::Index;
use crate::repo::ledger::Ledger;
use crate::repo::packs::PackMap;
use crate::repo::reader::{BlobReader, ReadCache};
use crate::repo::snapshots::{self, Filter, Listed, SnapshotInfo};
use crate::repo::{RepoError, Repository, deltas};
use crate::store::{Folder, Place, Storage};

/// Plaintext of segments that a reading command keeps in memory.
const READ_CACHE_BYTES: usize = 48 << 20;

/// An opened repository.
pub struct Session {
    /// The repository.
    pub repository: Repository,
    /// The local index, not yet in step with the store.
    pub index: RwLock<Index>,
    /// Keys of packs in use.
    pub packs: PackMap,
    /// What was read last, for all readers.
    pub cache: Arc<ReadCache>,
    state_dir: PathBuf,
    /// This client mirrors another place into this one, which therefore lags behind what was seen there.
    is_mirror: bool,
}

/// Threads for work on many files.
pub fn workers() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from).clamp(1, 8)
}

impl Session {
    /// Opens the repository that the settings name.
    pub fn open(context: &Context<'_>) -> Result<Session, Failure> {
        let settings = &context.settings;
        let store: Arc<dyn Storage> = Arc::new(settings.store());
        let place = &settings.repository.value;
        let there =
            place.join("config").try_exists().and_then(|there| Ok(there || place.join("keys").try_exists()?));
        match there {
            Ok(true) => {}
            // Told before anybody is asked for a password.
            Ok(false) => return Err(RepoError::NoRepository { location: store.location() }.into()),
            Err(error) => {
                let what = format!("open repository {}", place.display());
                return Err(Failure::because(Kind::Storage, &what, &error));
            }
        }
        let secret = secret::obtain(&settings.key.value, context.interrupt)?;
        let repository = Repository::open(store, &secret)?;
        context.output.remark(&format!("repository {}", settings.repository.value.display()));
        Session::with(context, repository)
    }

    /// Takes a repository that was just opened or made.
    pub fn with(context: &Context<'_>, repository: Repository) -> Result<Session, Failure> {
        pin(&context.settings.state_dir, &repository)?;
        if let Some(damage) = &repository.config_damage {
            super::output::complain(&format!("mailark: {damage}; reading goes on\n"));
        }
        let index = open_index(index_dir(context, &repository).as_deref(), &repository)?;
        let packs = PackMap::new(Arc::clone(&repository.keys));
        let state_dir = context.settings.state_dir.clone();
        let is_mirror = mirrors::includes(&state_dir, repository.id(), &context.settings.repository.value);
        let cache = Arc::new(ReadCache::new(READ_CACHE_BYTES));
        Ok(Session { repository, index: RwLock::new(index), packs, cache, state_dir, is_mirror })
    }

    /// The repository, its index, and the keys of packs in use, for work that outlives the command's own.
    pub fn into_parts(self) -> (Repository, RwLock<Index>, PackMap) {
        (self.repository, self.index, self.packs)
    }

    /// Brings the index into step with the store, telling what is damaged.
    pub fn sync(&self) -> Result<(), Failure> {
        for (place, error) in deltas::sync(&self.repository, &self.index)? {
            super::output::complain(&format!("mailark: {place}: {error}\n"));
        }
        Ok(())
    }

    /// All snapshots that can be read; the others are told, and so is what is gone.
    pub fn snapshots(&self) -> Result<Listed, Failure> {
        let (listed, lost) = self.look()?;
        complain_of(&listed, &lost);
        Ok(listed)
    }

    /// All snapshots, and a sentence about each host whose newest one was seen before and is gone.
    pub fn look(&self) -> Result<(Listed, Vec<String>), Failure> {
        let listed = snapshots::list(&self.repository)?;
        let lost = self.compare_with_memory(listed.snapshots.iter().map(Seen::from))?;
        Ok((listed, lost))
    }

    /// What was seen before and is gone, without reading any snapshot.
    pub fn lost(&self) -> Result<Vec<String>, Failure> {
        self.compare_with_memory([])
    }

    /// Remembers a snapshot that was just made.
    pub fn remember(&self, made: ObjectHash, host_name: &str) -> Result<(), Failure> {
        let listed = self.repository.store.list(Folder::Snapshots)?;
        let seen = listed.into_iter().filter_map(|(place, _)| match place {
            Place::Snapshot(host, sequence, hash) if hash == made => {
                Some(Seen { host, sequence, hash, host_name })
            }
            _ => None,
        });
        self.compare_with_memory(seen).map(drop)
    }

    fn compare_with_memory<'a>(
        &self,
        seen: impl IntoIterator<Item = Seen<'a>>,
    ) -> Result<Vec<String>, Failure> {
        if self.is_mirror {
            return Ok(Vec::new());
        }
        let mut memory = HighestSeen::load(&self.state_dir, self.repository.id()).map_err(|error| {
            let what = format!("read which snapshots were seen in {}", self.state_dir.display());
            Failure::because(Kind::Storage, &what, &error)
        })?;
        // After the snapshots were read: one that came meanwhile does no harm.
        let stored: Vec<Place> =
            self.repository.store.list(Folder::Snapshots)?.into_iter().map(|(place, _)| place).collect();
        // Records tell why something is gone, to full keys alone; mostly nothing is, and none need be read.
        let full = matches!(self.repository.keys.as_ref(), KeySet::Full(_));
        let ledger = match full && memory.misses_any(&stored) {
            true => Ledger::read(&self.repository)?,
            false => Ledger::default(),
        };
        let dropped =
            |hash: &ObjectHash| ledger.forgotten.contains_key(hash) || ledger.replaced.contains_key(hash);
        let mut lost = memory.lost(&stored, if full { Some(&dropped) } else { None });
        if let Some(last) = lost.last_mut() {
            last.push_str(&format!(" (if that was on purpose, remove {})", memory.path().display()));
        }
        // A read-only home must not keep anybody from restoring; the signing key's file told of it already.
        if memory.raise(seen, &stored, &dropped) {
            drop(memory.save());
        }
        Ok(lost)
    }

    /// The one among the listed snapshots that is asked for; where there is none, what became of it.
    pub fn resolve<'l>(
        &self,
        listed: &'l Listed,
        text: &str,
        filter: &Filter,
    ) -> Result<&'l SnapshotInfo, Failure> {
        let missing = match snapshots::resolve(&listed.snapshots, text, filter) {
            Err(RepoError::UnknownSnapshot(text)) => RepoError::UnknownSnapshot(text),
            found => return Ok(found?),
        };
        Err(gone::explain(&self.repository, listed, text)?.unwrap_or_else(|| missing.into()))
    }

    /// The one snapshot that was asked for.
    pub fn snapshot(&self, text: &str, filter: &Filter) -> Result<SnapshotInfo, Failure> {
        let listed = self.snapshots()?;
        let found = self.resolve(&listed, text, filter)?.clone();
        if text == "latest" && !listed.unusable.is_empty() {
            let at = super::output::local_time(found.snapshot.started.into());
            super::output::complain(&format!(
                "mailark: WARNING: a newer snapshot may be among the unusable ones; {} of {at} is used\n",
                found.hash.short()
            ));
        }
        Ok(found)
    }

    /// Reads what a snapshot refers to; the index must be in step.
    pub fn reader(&self, snapshot: &SnapshotInfo) -> Result<BlobReader<'_>, Failure> {
        self.blobs(snapshot).map_err(|error| match error {
            RepoError::NotForThisKey { object } => {
                Failure::new(Kind::Key, format!("{object} is not for this key"))
            }
            error => error.into(),
        })
    }

    /// As [`Session::reader`], with an error of the repository.
    pub fn blobs(&self, snapshot: &SnapshotInfo) -> Result<BlobReader<'_>, RepoError> {
        let keys = self.repository.keys.domain(&snapshot.domain).ok_or_else(|| RepoError::NotForThisKey {
            object: format!("snapshot {}", snapshot.hash.short()),
        })?;
        let namer = BlobNamer::new(&keys.id_key, &snapshot.host);
        let store = Arc::clone(&self.repository.store);
        let space = self.cache.space(&snapshot.host, &snapshot.domain);
        let reader = BlobReader::new(store, &self.packs, namer, snapshot.domain, &self.index, 0)
            .sharing(&self.cache, space);
        Ok(reader.refreshing(Box::new(|| deltas::learn(&self.repository, &self.index))))
    }
}

/// Tells people what is wrong with the snapshots as a whole.
pub fn complain_of(listed: &Listed, lost: &[String]) {
    for (_, error) in &listed.unusable {
        super::output::complain(&format!("mailark: {error}\n"));
    }
    for text in lost {
        super::output::complain(&format!("mailark: WARNING: {text}\n"));
    }
}

/// Where the index lies that these keys fill: a writer's holds less than that of a full key.
pub fn index_dir(context: &Context<'_>, repository: &Repository) -> Option<PathBuf> {
    let dir = context.settings.cache_dir.as_ref()?;
    Some(match repository.keys.as_ref() {
        KeySet::Full(_) => dir.clone(),
        KeySet::Writer(keys) => dir.join(format!("writer-{}-{}", keys.host, keys.domain.short())),
    })
}

/// Opens the cache; one that cannot be used is replaced by memory, which is slower and as right.
fn open_index(cache_dir: Option<&Path>, repository: &Repository) -> Result<Index, Failure> {
    let Some(dir) = cache_dir else { return Ok(Index::in_memory(&repository.id())) };
    match Index::open(dir, &repository.id()) {
        Ok(index) => Ok(index),
        Err(error) => {
            super::output::complain(&format!("mailark: cache {}: {error}; working without\n", dir.display()));
            Ok(Index::in_memory(&repository.id()))
        }
    }
}

fn pin_path(state_dir: &Path, repository: &Repository) -> PathBuf {
    state_dir.join(repository.id().to_string()).join("signing-key")
}

/// Remembers the key that signs for this repository, and refuses another one ever after.
fn pin(state_dir: &Path, repository: &Repository) -> Result<(), Failure> {
    let path = pin_path(state_dir, repository);
    let key = bytes::hex(&repository.verifying_key().0);
    match fs::read_to_string(&path) {
        Ok(pinned) if pinned.trim() == key => Ok(()),
        Ok(pinned) if !pinned.trim().is_empty() => {
            Err(Failure::new(Kind::Key, "the repository is signed by another key than ever before")
                .hint("somebody may have replaced it: compare with another host before you go on")
                .hint(format!("if you know why, remove {}", path.display())))
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Failure::because(Kind::Storage, &format!("read {}", path.display()), &error))
        }
        // Absent, or left empty by a crash.
        _ => {
            let written = fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(path.parent().expect("a file in a folder"))
                .and_then(|()| {
                    fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(&path)
                })
                .and_then(|mut file| writeln!(file, "{key}"));
            // A read-only home must not keep anybody from restoring.
            if let Err(error) = written {
                super::output::complain(&format!(
                    "mailark: remember the signing key in {}: {error}\n",
                    path.display()
                ));
            }
            Ok(())
        }
    }
}
