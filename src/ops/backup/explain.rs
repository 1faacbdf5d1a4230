//! Would a backup read this file, and why? The same questions as in a run, asked of one path.

mod reach;

use std::sync::{Arc, RwLock};

pub use reach::Barred;
use reach::{Reached, reach};

use super::BackupError;
use super::parent::ParentFolder;
use super::reason::{Same, Why};
use super::scan::{Scan, stamp};
use super::walker::Holding;
use crate::base::clock;
use crate::base::id::BlobId;
use crate::crypto::blob_id::BlobNamer;
use crate::format::page::Entry;
use crate::format::snapshot::Tree;
use crate::index::Index;
use crate::index::scan::{self, FolderKey, Owner, ScanCache, Stamp};
use crate::repo::packs::PackMap;
use crate::repo::reader::BlobReader;
use crate::repo::snapshots::SnapshotInfo;
use crate::repo::tree::find;
use crate::repo::view::tree_at;
use crate::repo::{Repository, deltas};
use crate::source::dir::{Listed, OpenDir};
use crate::source::file_system::FileSystem;
use crate::source::meta::Kind;
use crate::source::needless::NeedlessCounts;
use crate::source::shape::{Shape, is_of_messages};
use crate::source::start::{Start, split};
use crate::source::walk::{Folder, FolderState, Options};

/// Plaintext of pages that is kept in memory.
const CACHE_BYTES: usize = 8 << 20;

/// What is asked.
pub struct Question<'a> {
    /// The job's newest snapshot.
    pub parent: &'a SnapshotInfo,
    /// The path as the system knows it.
    pub path: &'a Start,
    /// Where caches lie.
    pub cache_dir: Option<&'a std::path::Path>,
    /// What a backup takes and leaves out.
    pub options: &'a Arc<Options>,
}

/// A folder as it is and as it was.
#[derive(Debug, Clone, Copy)]
pub struct Stamps {
    /// What the system says now.
    pub now: Stamp,
    /// What the last run saw, if it was settled then and the scan cache is good.
    pub then: Option<Stamp>,
    /// The folder of messages is passed over.
    pub is_passed_over: bool,
    /// It is listed because it has its turn.
    pub is_due: bool,
}

/// What a backup would do with a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is taken from the last snapshot.
    Same(Same),
    /// It is read.
    Read(Why),
    /// It has changed, and the copy in the last snapshot stays for now: it is part of an index that is read once a day.
    Held(Why),
    /// No backup comes to it.
    LeftOut(Barred),
}

/// The answer.
pub struct Explanation {
    /// What the system says of the file.
    pub listed: Listed,
    /// What the snapshot has at this path.
    pub entry: Option<Entry>,
    /// The folder around it.
    pub folder: Stamps,
    /// Whether the file would be read.
    pub verdict: Verdict,
    /// There is a scan cache for this snapshot.
    pub is_cached: bool,
}

/// Asks about one file. `None` when the path is a folder or no file at all.
pub fn explain(
    repository: &Repository,
    index: &RwLock<Index>,
    question: &Question<'_>,
) -> Result<Option<Explanation>, BackupError> {
    deltas::sync(repository, index)?;
    let info = question.parent;
    let Some(keys) = repository.keys.domain(&info.domain) else { return Ok(None) };
    let packs = PackMap::new(Arc::clone(&repository.keys));
    let namer = BlobNamer::new(&keys.id_key, &info.host);
    let store = Arc::clone(&repository.store);
    let reader = BlobReader::new(store, &packs, namer, info.domain, index, CACHE_BYTES);
    let (folder, name) = split(&question.path.logical);
    let dir = Arc::new(question.path.around()?);
    let Ok(listed) = dir.look(name.into()) else { return Ok(None) };
    if listed.kind != Kind::File {
        return Ok(None);
    }
    let mut scan = scan(repository, question, &reader);
    let key = FolderKey::of(folder);
    let state = scan.state(&key);
    let parts = info.snapshot.parts.iter().map(|part| (part.path.as_slice(), &part.tree));
    // Without a page of the parent a backup reads again.
    let known = tree_at(&reader, parts, folder).ok().flatten();
    let here = folder_of(&dir)?;
    let (own_name, started) = (split(folder).1, info.snapshot.started);
    let recall = Arc::new(scan.recall(&key, &here, is_of_messages(own_name)));
    let mut parent = match &known {
        Some(tree) => ParentFolder::new(tree, own_name, started, &reader, recall),
        None => ParentFolder::none(),
    };
    let stamps = stamps(&mut scan, &key, state.as_ref(), &here, known.as_ref());
    let known_file = scan.recognise(parent.look_up(&listed), &listed, is_of_messages(own_name));
    let parts = info.snapshot.parts.iter().map(|part| part.path.as_slice());
    let verdict = match (reach(question.path, parts, question.options), known_file) {
        (Reached::Barred(barred), _) => Verdict::LeftOut(barred),
        (_, Ok(_)) if stamps.is_passed_over => Verdict::Same(Same::Folder),
        (_, Ok(file)) => Verdict::Same(file.same),
        (Reached::Folder(around), Err(why))
            if !question.options.all_files && is_held(&around, name, why, (known.as_ref(), &reader)) =>
        {
            Verdict::Held(why)
        }
        (_, Err(why)) => Verdict::Read(why),
    };
    let fetch = |id: &BlobId| reader.page(id);
    let entry = known.and_then(|tree| find(&tree, name, &mut { fetch }).ok().flatten());
    let is_cached = scan.cache.is_some();
    Ok(Some(Explanation { listed, entry, folder: stamps, verdict, is_cached }))
}

fn is_held(around: &Folder, name: &[u8], why: Why, (tree, reader): (Option<&Tree>, &BlobReader<'_>)) -> bool {
    let copies = || Holding::new(around, tree).fresh_copies(reader);
    Holding::concerns(name, why)
        && copies().is_some_and(|copies| copies.iter().any(|entry| *entry.name == *name))
}

fn scan<'a>(repository: &Repository, question: &Question<'_>, reader: &'a BlobReader<'a>) -> Scan<'a> {
    let info = question.parent;
    let (host, domain, job) = (info.host, info.domain, info.snapshot.job.clone());
    let owner = Owner { repository: repository.id(), host, domain, job };
    let cache = question.cache_dir.and_then(|dir| ScanCache::open(dir, &owner).ok());
    let cache = cache.and_then(|cache| cache.of(&info.hash));
    let may_pass_over = cache.is_some();
    let started = clock::now() as i64;
    Scan { cache, may_pass_over, reader: Some(reader), started, ..Scan::none() }
}

/// The folder as a walk would give it.
fn folder_of(dir: &Arc<OpenDir>) -> Result<Folder, BackupError> {
    let trouble = |errno: rustix::io::Errno| crate::source::SourceError::Start {
        path: crate::base::bytes::display(dir.path()),
        error: errno.into(),
    };
    Ok(Folder {
        path: Vec::new(),
        meta: dir.meta().map_err(trouble)?,
        state: FolderState::Read,
        file_system: FileSystem::of(dir.fd()),
        seen: clock::now() as i64,
        dir: Some(Arc::clone(dir)),
        entries: Vec::new(),
        problems: Vec::new(),
        left_out: 0,
        shape: Shape::default(),
        needless: NeedlessCounts::default(),
    })
}

fn stamps(
    scan: &mut Scan<'_>,
    key: &FolderKey,
    state: Option<&scan::FolderState>,
    here: &Folder,
    tree: Option<&Tree>,
) -> Stamps {
    let own = here.dir.as_ref().map(|dir| split(dir.path()).1.to_vec()).unwrap_or_default();
    let around = here.dir.as_ref().and_then(|dir| dir.open_parent().ok());
    let in_mailbox =
        around.is_some_and(|around| Shape::of(Shape::Plain, b"", &around.list().entries) == Shape::Maildir);
    let listed = Listed { name: own.clone().into(), kind: Kind::Directory, meta: here.meta.clone() };
    let is_passed_over = in_mailbox
        && is_of_messages(&own)
        && tree.is_some_and(|tree| scan.is_untouched(key, here, &listed, tree));
    Stamps {
        now: stamp(&here.meta),
        then: state.and_then(|state| state.stamp),
        is_passed_over,
        is_due: scan.is_due(key, state),
    }
}
