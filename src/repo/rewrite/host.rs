//! All chosen snapshots of one host, written anew.

use std::sync::{Arc, RwLock};

use super::folders::Folders;
use super::{Rewritten, Sieve};
use crate::base::interrupt::Interrupt;
use crate::base::progress::Progress;
use crate::crypto::blob_id::BlobNamer;
use crate::crypto::kdf;
use crate::format::snapshot::Part;
use crate::index::Index;
use crate::repo::blob_writer::{BlobWriter, LocalWriter};
use crate::repo::ledger::Ledger;
use crate::repo::packer::Packer;
use crate::repo::packs::PackMap;
use crate::repo::presence::Presence;
use crate::repo::reader::BlobReader;
use crate::repo::snapshots::SnapshotInfo;
use crate::repo::tree::PageCut;
use crate::repo::txn::Transaction;
use crate::repo::view::part_folder;
use crate::repo::{RepoError, Repository, deltas};

/// Plaintext that is kept in memory.
const CACHE_BYTES: usize = 64 << 20;

/// Stack of the thread that walks: folders may be nested as deep as the format allows.
const STACK_BYTES: usize = 256 << 20;

/// What a run works with.
pub struct Run<'a> {
    /// The repository, open with a full key.
    pub repository: &'a Repository,
    /// The local index, in step with the store.
    pub index: &'a RwLock<Index>,
    /// The records before the run began.
    pub ledger: &'a Ledger,
    /// Deltas that could not be used.
    pub unusable_deltas: usize,
    /// Look, but store nothing.
    pub dry_run: bool,
    /// Where people look.
    pub progress: &'a dyn Progress,
    /// Raised to stop.
    pub interrupt: &'a Interrupt,
}

/// Makes the new listings of some snapshots of one host and domain, and gives those of which something went.
///
/// Everything that the new listings refer to is durable on return, unless the run is a dry one.
pub fn host(
    run: &Run<'_>,
    snapshots: &[&SnapshotInfo],
    sieve: &mut dyn Sieve,
) -> Result<Vec<Rewritten>, RepoError> {
    let Some(first) = snapshots.first() else { return Ok(Vec::new()) };
    let (host, domain) = (first.host, first.domain);
    let repository = run.repository;
    let writer = Arc::new(repository.need_full("writing snapshots anew")?.writer(host, domain));
    let packs = PackMap::new(Arc::clone(&repository.keys));
    let namer = BlobNamer::new(&writer.id_key, &host);
    let store = || Arc::clone(&repository.store);
    let reader = BlobReader::new(store(), &packs, namer.clone(), domain, run.index, CACHE_BYTES);
    let mut shunned = run.ledger.shunned();
    shunned.extend(deltas::of_revoked(repository, run.index, run.ledger, &domain)?);
    let presence = Presence::new(repository, run.index, domain, &shunned, run.unusable_deltas)?;
    let packer = Packer::of(repository, Arc::clone(&writer));
    let blobs = BlobWriter::new(packer, namer, &presence).rehearsing(run.dry_run);
    let cut = PageCut::new(*kdf::page_cut_secret(&writer.cut_key).bytes());
    let mut transaction = Transaction::begin(repository, &writer, run.index, None)?;
    let local = LocalWriter::new(&blobs);
    let mut folders = Folders::new(&reader, local, &cut, sieve, run.interrupt);
    let walk = || -> Result<_, RepoError> {
        let mut rewritten = Vec::new();
        for info in snapshots {
            rewritten.extend(snapshot(&mut folders, info)?);
            run.progress.counters().add(1, 0);
            let ready = blobs.take_ready()?;
            transaction.publish(&ready)?;
            blobs.settle(&ready);
        }
        let last = blobs.flush(vec![folders.into_segments()])?;
        transaction.publish(&last)?;
        Ok(rewritten)
    };
    std::thread::scope(|scope| {
        let builder = std::thread::Builder::new().stack_size(STACK_BYTES);
        let thread = builder.spawn_scoped(scope, walk).expect("the system can start a thread");
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn snapshot(folders: &mut Folders<'_, '_>, info: &SnapshotInfo) -> Result<Option<Rewritten>, RepoError> {
    let mut changed = false;
    folders.begin(info);
    let mut parts: Vec<Part> = Vec::with_capacity(info.snapshot.parts.len());
    for part in &info.snapshot.parts {
        let made = folders.tree(part_folder(&part.path), &part.tree, 0)?;
        changed |= made.is_some();
        parts.push(Part { tree: made.unwrap_or(part.tree), ..part.clone() });
    }
    Ok(changed.then(|| Rewritten { old: info.clone(), parts }))
}
