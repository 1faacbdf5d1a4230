//! Repositories through the library: other hosts, forged objects, hostile contents.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};

use mailark::base::id::{BlobId, DomainId, HostId, ObjectHash};
use mailark::crypto::blob_id::BlobNamer;
use mailark::crypto::slot::Secret;
use mailark::format::content::BlobKind;
use mailark::format::keyset::{KeySet, WriterKeys};
use mailark::format::pack::Compression;
use mailark::format::page::{Entry, Node, Owner};
use mailark::format::snapshot::{Part, PartType, ScanKind, Snapshot, Totals, Tree};
use mailark::index::Index;
use mailark::repo::packer::{FinishedPack, Packer, PlainSegment};
use mailark::repo::txn::Transaction;
use mailark::repo::{RepoError, Repository, records};
use mailark::store::{LocalStore, Storage};

use crate::support::{TestEnv, noise, write_private};

/// Opens a repository with the bytes of a key file.
pub fn open(repository: &Path, key_file: &Path) -> Result<Repository, RepoError> {
    let store: Arc<dyn Storage> = Arc::new(LocalStore::new(repository));
    Repository::open(store, &Secret::KeyFile(fs::read(key_file).unwrap()))
}

/// A host with a writer key and a dedup domain of its own.
pub struct LoneHost {
    pub host: HostId,
    pub domain: DomainId,
    pub key_file: PathBuf,
}

/// Registers a host and gives it a writer key.
pub fn lone_host(env: &TestEnv, name: &str) -> LoneHost {
    let repository = open(&env.repository, &env.key_file).unwrap();
    let (host, domain) = records::register_lone_host(&repository, name).unwrap();
    let keys = KeySet::Writer(Box::new(full_writer(&repository, host, domain)));
    let key_file = env.path(&format!("key-of-{name}"));
    write_private(&key_file, &noise(u64::from_le_bytes(*host.0.first_chunk().unwrap()), 40));
    let secret = Secret::KeyFile(fs::read(&key_file).unwrap());
    repository.add_slot(&keys, &secret, name, name).unwrap();
    LoneHost { host, domain, key_file }
}

/// The writer keys of any host, from the full keys.
pub fn full_writer(repository: &Repository, host: HostId, domain: DomainId) -> WriterKeys {
    repository.keys.writer_for(host, domain).unwrap()
}

/// Writes whatever it is told, sealed and signed as it should be.
pub struct Forger {
    pub repository: Repository,
    pub writer: Arc<WriterKeys>,
    packer: Packer,
    namer: BlobNamer,
    index: RwLock<Index>,
}

impl Forger {
    /// With a full key, as the host of that name.
    pub fn new(env: &TestEnv, host: &str) -> Forger {
        let repository = open(&env.repository, &env.key_file).unwrap();
        let writer = Arc::new(repository.writer_for(host).unwrap());
        Forger::with(repository, writer)
    }

    /// With these keys.
    pub fn with(repository: Repository, writer: Arc<WriterKeys>) -> Forger {
        let packer = Packer::new(Arc::clone(&repository.store), Arc::clone(&writer), 1 << 20);
        let namer = BlobNamer::new(&writer.id_key, &writer.host);
        let index = RwLock::new(Index::in_memory(&repository.id()));
        Forger { repository, writer, packer, namer, index }
    }

    /// Stores a blob in a segment of its own.
    pub fn blob(&self, kind: BlobKind, plain: &[u8]) -> BlobId {
        let id = self.namer.name(kind, plain);
        self.segment(PlainSegment {
            kind,
            compression: Compression::None,
            stored: plain.to_vec(),
            lengths: vec![plain.len() as u32],
            ids: vec![id],
        });
        id
    }

    /// Stores any segment.
    pub fn segment(&self, segment: PlainSegment) {
        self.packer.append(segment).unwrap();
    }

    /// Ends the packs, so that a delta can be made of them.
    pub fn packs(&self) -> Vec<FinishedPack> {
        self.packer.flush().unwrap()
    }

    /// Publishes everything with a snapshot of `tree` as the content of `/`.
    pub fn commit(&self, job: &str, tree: Tree) -> ObjectHash {
        let mut transaction = Transaction::begin(&self.repository, &self.writer, &self.index, None).unwrap();
        transaction.publish(&self.packs()).unwrap();
        transaction.commit(&snapshot(job, tree)).unwrap().1
    }
}

/// A snapshot whose only part is `/` with that listing.
pub fn snapshot(job: &str, tree: Tree) -> Snapshot {
    let part = Part { part_type: PartType::Mail, path: b"/".to_vec(), tree, problems: 0 };
    Snapshot {
        host_name: "forger".to_owned(),
        job: job.to_owned(),
        previous: None,
        previous_sequence: 0,
        started: 1_700_000_000_000_000_000,
        ended: 1_700_000_000_000_000_001,
        parts: vec![part],
        tags: Vec::new(),
        scan: ScanKind::Full,
        suspect: None,
        replaces: None,
        problem_count: 0,
        problems: Vec::new(),
        vanished: 0,
        program: "forger".to_owned(),
    }
}

/// A listing without counts.
pub fn tree(root: BlobId, levels: u8) -> Tree {
    Tree { root: Some(root), levels, totals: Totals::default() }
}

/// An entry of a page.
pub fn entry(name: &[u8], node: Node) -> Entry {
    Entry {
        name: name.to_vec(),
        mode: 0o755,
        owner: Arc::new(Owner::default()),
        mtime_s: 1_700_000_000,
        mtime_ns: 0,
        xattrs: Vec::new(),
        node,
    }
}
