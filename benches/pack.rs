//! Blobs into packs and back: `cargo bench --bench pack`.
//!
//! Through naming, deduplication, compression, sealing and the store; on two threads, as a backup does it.

use std::path::Path;
use std::sync::{Arc, RwLock};

use mailark::base::clock;
use mailark::base::id::{BlobId, HostId};
use mailark::crypto::blob_id::BlobNamer;
use mailark::crypto::slot::Secret;
use mailark::format::content::BlobKind;
use mailark::index::Index;
use mailark::repo::Repository;
use mailark::repo::blob_writer::{BlobWriter, LocalWriter};
use mailark::repo::packer::Packer;
use mailark::repo::packs::PackMap;
use mailark::repo::presence::Presence;
use mailark::repo::reader::BlobReader;
use mailark::repo::repository::NewSlot;
use mailark::repo::txn::Transaction;
use mailark::store::LocalStore;

const TOTAL_BYTES: usize = 512 << 20;
const CACHE_BYTES: usize = 64 << 20;

/// Text that compresses about as mail does: words out of a hash, each blob its own.
fn blob(number: usize, size: usize) -> Vec<u8> {
    let mut words = vec![0; size / 4];
    blake3::Hasher::new().update(&number.to_le_bytes()).finalize_xof().fill(&mut words);
    words
        .iter()
        .flat_map(|byte| [b"mail", b"ark ", b"text", b"\nre:"][usize::from(byte & 3)])
        .copied()
        .collect()
}

fn write(repository: &Repository, index: &RwLock<Index>, kind: BlobKind, blobs: &[Vec<u8>]) -> Vec<BlobId> {
    let writer = Arc::new(repository.writer_for("bench").expect("a full key writes"));
    let packer = Packer::of(repository, Arc::clone(&writer));
    let presence =
        Presence::new(repository, index, writer.domain, &Default::default(), 0).expect("a fresh repository");
    let shared = BlobWriter::new(packer, BlobNamer::new(&writer.id_key, &writer.host), &presence);
    let halves = blobs.split_at(blobs.len() / 2);
    let work = |half: &[Vec<u8>]| {
        let mut local = LocalWriter::new(&shared);
        let ids: Vec<BlobId> =
            half.iter().map(|plain| local.put(kind, plain).expect("there is room")).collect();
        (ids, local.into_segments())
    };
    let (ids, segments): (Vec<_>, Vec<_>) = std::thread::scope(|scope| {
        let first = scope.spawn(|| work(halves.0));
        let second = work(halves.1);
        [first.join().expect("no panic"), second].into_iter().unzip()
    });
    let packs = shared.flush(segments).expect("there is room");
    let mut transaction = Transaction::begin(repository, &writer, index, None).expect("a fresh repository");
    transaction.publish(&packs).expect("there is room");
    ids.concat()
}

fn run(folder: &Path, kind: BlobKind, size: usize) {
    let secret = Secret::KeyFile((0..32).collect());
    let slots = [NewSlot { secret: &secret, label: "bench" }];
    let repository = Repository::init(LocalStore::new(folder), &slots, 0).expect("an empty folder");
    let index = RwLock::new(Index::in_memory(&repository.id()));
    let blobs: Vec<Vec<u8>> = (0..TOTAL_BYTES / size).map(|number| blob(number, size)).collect();
    let rate = |seconds: f64| TOTAL_BYTES as f64 / 1e6 / seconds;
    let watch = clock::stopwatch();
    let ids = write(&repository, &index, kind, &blobs);
    let written = watch.elapsed().as_secs_f64();
    let watch = clock::stopwatch();
    write(&repository, &index, kind, &blobs);
    let again = watch.elapsed().as_secs_f64();
    let keys =
        repository.keys.domain(&mailark::repo::records::SHARED_DOMAIN).expect("a full key has every domain");
    let packs = PackMap::new(Arc::clone(&repository.keys));
    let (store, namer) = (Arc::clone(&repository.store), BlobNamer::new(&keys.id_key, &HostId::default()));
    let domain = mailark::repo::records::SHARED_DOMAIN;
    let reader = BlobReader::new(store, &packs, namer, domain, &index, CACHE_BYTES);
    let watch = clock::stopwatch();
    for (id, plain) in ids.iter().zip(&blobs) {
        assert_eq!(reader.data(id).expect("just written").as_ref(), plain.as_slice());
    }
    let read = watch.elapsed().as_secs_f64();
    println!("{size:>8} {:>14.0} {:>14.0} {:>14.0}", rate(written), rate(again), rate(read));
}

fn main() {
    println!("   bytes     write MB/s     known MB/s      read MB/s");
    for (kind, size) in [(BlobKind::Text, 4 << 10), (BlobKind::Attachment, 1 << 20)] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        run(&folder.path().join("repository"), kind, size);
    }
}
