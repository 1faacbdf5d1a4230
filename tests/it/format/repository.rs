//! The examples together are a repository that the program opens, checks and reads.

use std::path::Path;
use std::sync::{Arc, RwLock};

use mailark::base::id::ObjectHash;
use mailark::base::interrupt::Interrupt;
use mailark::base::progress::Quiet;
use mailark::crypto::blob_id::BlobNamer;
use mailark::format::content::Content;
use mailark::format::page::Node;
use mailark::index::Index;
use mailark::ops::check::{self, ReadData};
use mailark::repo::packs::PackMap;
use mailark::repo::reader::BlobReader;
use mailark::repo::view::{Step, View};
use mailark::repo::{Repository, deltas, records, snapshots};
use mailark::store::{LocalStore, Place};

use super::document::{bytes, text};
use super::known::{self, DOMAIN, HOST};
use super::{objects, parity};

/// The objects of the examples and their places, in the order of the document's list of names.
fn examples() -> Vec<(Place, Vec<u8>)> {
    let hash = |name: &str| ObjectHash(*blake3::hash(&bytes(name)).as_bytes());
    let (slot, file) = objects::slot();
    vec![
        (Place::Config, bytes("config-object")),
        (Place::KeySlot(slot), file),
        (Place::Pack(hash("pack")), bytes("pack")),
        (Place::Delta(HOST, 1, hash("delta-object")), bytes("delta-object")),
        (Place::Snapshot(HOST, 1, hash("snapshot-object")), bytes("snapshot-object")),
        (Place::Record(1, hash("record-object")), bytes("record-object")),
        (
            Place::Parity(hash("pack"), ObjectHash(*blake3::hash(&parity::object()).as_bytes())),
            parity::object(),
        ),
    ]
}

fn write(root: &Path) {
    for (place, bytes) in examples() {
        let path = root.join(place.to_string());
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
}

#[test]
fn names_are_as_written() {
    let names: String = examples().iter().map(|(place, _)| format!("{place}\n")).collect();
    assert_eq!(names, text("names"));
}

#[test]
fn the_examples_are_a_repository() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("repository");
    write(&root);
    let repository = Repository::open(Arc::new(LocalStore::new(&root)), &objects::secret()).unwrap();
    let index = RwLock::new(Index::open(&folder.path().join("cache"), &repository.id()).unwrap());
    let options = check::Options { read_data: ReadData::All, workers: 1 };
    let mut memory = check::Memory::new();
    let report =
        check::run(&repository, &index, options, &mut memory, &Quiet::default(), &Interrupt::default())
            .unwrap();
    assert_eq!(report.findings, []);
    assert_eq!((report.snapshots, report.deltas, report.packs_read, report.orphan_packs), (1, 1, 1, 0));
    let hosts = records::hosts(&repository).unwrap();
    assert_eq!((hosts.len(), hosts[0].host, hosts[0].domain), (1, HOST, DOMAIN));
    assert!(deltas::sync(&repository, &index).unwrap().is_empty());

    let listed = snapshots::list(&repository).unwrap();
    let snapshot = &listed.snapshots[0].snapshot;
    assert_eq!(*snapshot, known::snapshot());
    let packs = PackMap::new(Arc::clone(&repository.keys));
    let namer = BlobNamer::new(&known::writer().id_key, &known::writer().host);
    let reader = BlobReader::new(Arc::clone(&repository.store), &packs, namer, DOMAIN, &index, 1 << 20);
    let steps: Vec<Step> = View::new(&reader, snapshot, b"/").collect();
    let [Step::Entry(path, message), Step::Entry(drafts, _), Step::Leave] = steps.as_slice() else {
        panic!("{steps:?}")
    };
    assert_eq!(drafts, b"/Drafts");
    assert!(path.starts_with(b"/1702054054.M1P2.mx,S=141,W=153"), "{path:?}");
    let Node::File(file) = &message.node else { panic!("{message:?}") };
    let Content::Inline(sections) = &file.content else { panic!("{file:?}") };
    let pieces = sections[0].pieces.iter().flat_map(|piece| piece.blobs());
    let read: Vec<Vec<u8>> = pieces.map(|id| reader.data(id).unwrap().as_ref().to_vec()).collect();
    assert_eq!(read, known::pieces().map(|(_, plain)| plain));
}
