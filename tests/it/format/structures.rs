//! Examples of structures: decoded, compared with what they should say, and encoded again.

use std::convert::Infallible;

use mailark::base::id::{BlobId, ObjectHash};
use mailark::chunk::{BlobSource, join};
use mailark::crypto::seal::Context;
use mailark::format::codec;
use mailark::format::config::Config;
use mailark::format::content::{self, BlobKind, Content, ContentPage};
use mailark::format::delta::{self, PackContents, PackList};
use mailark::format::envelope::PackEnvelope;
use mailark::format::inventory::{Inventory, State};
use mailark::format::keyset::KeySet;
use mailark::format::pack::{Compression, Segment, SegmentTable, Trailer};
use mailark::format::page::{Fence, Page};
use mailark::format::record::{Record, RecordHead, Replacement, SnapshotName};
use mailark::format::snapshot::{Checkpoint, Snapshot};
use mailark::repo::tombstones::{Marker, Marking};

use super::document::{self, bytes};
use super::known;

fn ids() -> Vec<BlobId> {
    bytes("content-ids").as_chunks::<16>().0.iter().map(|id| BlobId(*id)).collect()
}

#[test]
fn every_example_is_looked_at() {
    let here = [
        include_str!("structures.rs"),
        include_str!("objects.rs"),
        include_str!("parity.rs"),
        include_str!("repository.rs"),
        include_str!("known.rs"),
        include_str!("tables.rs"),
    ]
    .concat();
    let blocks = document::hex_blocks();
    assert!(blocks.len() > 25, "{blocks:?}");
    for name in blocks {
        assert!(here.contains(&format!("\"{name}\"")), "nothing looks at {name}");
    }
}

#[test]
fn associated_data_are_as_written() {
    let repository = known::REPOSITORY;
    let context =
        Context { suite: 1, object_type: 3, epoch: 0, repository, salt: known::SALT, kind: 1, position: 0 };
    assert_eq!(context.encode().as_slice(), bytes("associated-data"));
    assert_eq!(Context::BYTES, 63);
}

#[test]
fn configs_are_as_written() {
    let example = bytes("config-clear");
    let config = Config::decode(&example).unwrap();
    assert_eq!((config.repository, config.created), (known::REPOSITORY, 1_767_225_600));
    assert_eq!((config.pack_bytes, config.segment_bytes, config.parity_percent), (32 << 20, 1 << 20, 3));
    assert_eq!(config.encode(), example);
}

#[test]
fn key_sets_are_as_written() {
    let sets = [
        ("full-key-set", KeySet::Full(known::full())),
        ("writer-key-set", KeySet::Writer(Box::new(known::writer()))),
    ];
    for (name, keys) in sets {
        let mut example = bytes(name);
        example.resize(KeySet::PADDED_BYTES, 0);
        let mut encoded = Vec::new();
        keys.encode_padded(&mut encoded);
        assert_eq!(encoded, example, "{name}");
        let mut again = Vec::new();
        KeySet::decode_padded(&example).unwrap().encode_padded(&mut again);
        assert_eq!(again, example, "{name}");
    }
}

#[test]
fn tombstone_marks_are_as_written() {
    let marker = Marker::new(&known::writer().cut_key);
    let mut of_message = None;
    let mut marking = Marking::new(&marker);
    marking.add(&known::section(), b"", &mut |_| ());
    let content = marking.finish(&mut |stretch| of_message = stretch.mark);
    let example = bytes("tombstone-marks");
    let (of_content, of_folder) = example.split_at(16);
    assert_eq!(content.unwrap(), of_content);
    assert_eq!(of_message, content, "a message alone has the mark of its file");
    assert_eq!(marker.folder(b"/data/alice"), of_folder);
}

#[test]
fn segment_tables_and_trailers_are_as_written() {
    let plain = known::pieces();
    let page = known::page().encode();
    let segment = |kind, plain: &[u8]| Segment {
        kind,
        compression: Compression::None,
        frame_bytes: plain.len() as u32 + 16,
        lengths: vec![plain.len() as u32],
    };
    let mut segments: Vec<Segment> = plain.iter().map(|(kind, plain)| segment(*kind, plain)).collect();
    segments.push(segment(BlobKind::Tree, &page));
    let example = bytes("segment-table");
    assert_eq!(SegmentTable::decode(&example).unwrap(), SegmentTable { segments });
    assert_eq!(SegmentTable::decode(&example).unwrap().encode(), example);
    let example: [u8; 16] = bytes("trailer").try_into().unwrap();
    let trailer = Trailer::decode(&example, bytes("pack").len() as u64).unwrap();
    assert_eq!(trailer.encode(), example);
}

#[test]
fn deltas_are_as_written() {
    let clear = bytes("delta-clear");
    let list = PackList::decode(&clear).unwrap();
    let pack = bytes("pack");
    assert_eq!(list.packs, [(ObjectHash(*blake3::hash(&pack).as_bytes()), pack.len() as u64)]);
    assert_eq!(list.encode(), clear);
    let sealed = bytes("delta-sealed");
    let contents = delta::decode(&sealed, 1).unwrap();
    let mut expected = ids();
    expected.push(known::name(BlobKind::Tree, &bytes("page")));
    let table = SegmentTable::decode(&bytes("segment-table")).unwrap();
    assert_eq!(contents, [PackContents { envelope: bytes("pack-envelope"), table, ids: expected }]);
    assert_eq!(delta::encode(&contents), sealed);
    assert!(PackEnvelope::decode(&contents[0].envelope).is_ok());
}

#[test]
fn snapshots_and_checkpoints_are_as_written() {
    let example = bytes("snapshot");
    assert_eq!(Snapshot::decode(&example).unwrap(), known::snapshot());
    assert_eq!(known::snapshot().encode(), example);
    let example = bytes("checkpoint");
    let checkpoint = Checkpoint::decode(&example).unwrap();
    assert_eq!((checkpoint.job.as_str(), checkpoint.packs.len(), checkpoint.parent), ("mail", 1, None));
    assert_eq!(checkpoint.at - checkpoint.started, 900_000_000_000);
    assert_eq!(checkpoint.encode(), example);
}

#[test]
fn records_are_as_written() {
    let clear = bytes("record-clear");
    let head: RecordHead = codec::decode(&clear, "record").unwrap();
    assert_eq!(head, RecordHead { record_type: 0, private: false, at: 1_702_054_000 });
    assert_eq!(codec::encode(&head), clear);
    let sealed = bytes("record-sealed");
    let record = Record::decode(&sealed, &head).unwrap();
    let verifying_key = KeySet::Full(known::full()).host_verifying_key(&known::HOST).unwrap().0;
    let (host, domain, name) = (known::HOST, known::DOMAIN, "mx1".to_owned());
    assert_eq!(record, Record::HostRegistered { host, name, domain, verifying_key });
    assert_eq!(record.encode(), sealed);
    let wrong = RecordHead { record_type: 1, ..head };
    assert!(Record::decode(&sealed, &wrong).is_err());
}

/// The table of record types says what the code says.
#[test]
fn record_types_are_as_written() {
    let rows = document::table("| type | name | who opens it | fields |");
    let zero = ObjectHash::default();
    let name = SnapshotName { host: known::HOST, sequence: 1, hash: zero };
    let records = [
        Record::HostRegistered {
            host: known::HOST,
            name: String::new(),
            domain: known::DOMAIN,
            verifying_key: [0; 32],
        },
        Record::HostRevoked { host: known::HOST, last_sequence: 0 },
        Record::Forget { snapshots: vec![name], rule: String::new() },
        Record::Hold {
            hold: 1,
            snapshots: vec![name],
            users: Vec::new(),
            reason: String::new(),
            released: false,
        },
        Record::Rewrite {
            verb: String::new(),
            replaced: vec![Replacement { old: name, new: None, received: 0 }],
        },
        Record::Condemn { packs: vec![zero] },
        Record::Doom { condemned: zero, packs: vec![zero] },
        Record::PruneEnded { condemned: zero, spared: Vec::new() },
        Record::Result { verb: String::new(), ok: true, text: String::new() },
        Record::Tombstone { domain: known::DOMAIN, scopes: vec![[0; 16]], contents: Vec::new() },
    ];
    assert_eq!(rows.len(), records.len());
    for (row, record) in rows.iter().zip(records) {
        let (record_type, private) = record.class();
        assert_eq!(
            (row[0].as_str(), row[2].as_str() == "full"),
            (&*record_type.to_string(), private),
            "{row:?}"
        );
        assert_eq!(u32::from(record.encode()[0]), record_type, "the variant is the type");
    }
}

#[test]
fn pages_are_as_written() {
    let example = bytes("page");
    assert_eq!(Page::decode(&example).unwrap(), known::page());
    assert_eq!(known::page().encode(), example);
    let Page::Leaf(entries) = known::page() else { panic!("a leaf") };
    let page = known::name(BlobKind::Tree, &example);
    let fence = Page::Fence(vec![Fence { first: entries[0].name.clone(), page, totals: known::totals() }]);
    let example = bytes("page-fence");
    assert_eq!(Page::decode(&example).unwrap(), fence);
    assert_eq!(fence.encode(), example);
}

struct Blobs(Vec<(BlobId, Vec<u8>)>);

impl BlobSource for Blobs {
    type Blob = Vec<u8>;
    type Error = Infallible;

    fn blob(&mut self, id: &BlobId) -> Result<Vec<u8>, Infallible> {
        Ok(self.0.iter().find(|(known, _)| known == id).expect("an example blob").1.clone())
    }
}

#[test]
fn contents_are_as_written_and_give_the_message() {
    let example = bytes("content");
    let content = content::decode(&example, &ids()).unwrap();
    assert_eq!(content, Content::Inline(vec![known::section()]));
    let mut again = Vec::new();
    assert_eq!(content::encode(&content, &mut again), example);
    assert_eq!(again, ids());
    assert!(content::decode(&example, &ids()[1..]).is_err());
    let mut blobs = Blobs(known::pieces().map(|(kind, plain)| (known::name(kind, &plain), plain)).into());
    let mut message = Vec::new();
    let written = join(&known::section(), &mut blobs, |bytes| {
        message.extend_from_slice(bytes);
        Ok::<_, Infallible>(())
    });
    assert!(written.is_ok());
    assert_eq!(message, document::text("message").into_bytes());
}

#[test]
fn pages_of_contents_are_as_written() {
    let leaf = bytes("content-page");
    assert_eq!(ContentPage::decode(&leaf).unwrap(), ContentPage::Leaf(vec![known::section()]));
    let id = known::name(BlobKind::Tree, &leaf);
    let fence = ContentPage::Fence(vec![(id, known::section().length())]);
    assert_eq!(ContentPage::decode(&bytes("content-fence")).unwrap(), fence);
    for name in ["content-page", "content-fence"] {
        assert_eq!(ContentPage::decode(&bytes(name)).unwrap().encode(), bytes(name));
    }
    let paged = content::decode(&bytes("content-paged"), &[id]).unwrap();
    assert_eq!(paged, Content::Paged { root: id, levels: 0, messages: 1 });
    assert_eq!(content::encode(&paged, &mut Vec::new()), bytes("content-paged"));
}

#[test]
fn inventories_are_as_written() {
    let example = bytes("inventory");
    let inventory = Inventory::decode(&example).unwrap();
    assert_eq!((inventory.repository, inventory.at), (known::REPOSITORY, known::MTIME + 43_200));
    let [config, slot] = inventory.objects.as_slice() else { panic!("{inventory:?}") };
    assert_eq!((config.name.as_str(), config.bytes, config.state), ("config", 196, State::There));
    assert_eq!(config.hash, Some(ObjectHash(known::SALT)));
    assert_eq!((slot.name.as_str(), slot.bytes), ("keys/6666666666666666", 4271));
    assert_eq!((slot.hash, slot.state), (None, State::Gone(known::MTIME)));
    assert_eq!(inventory.encode(), example);
}
