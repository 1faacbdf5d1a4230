//! Examples of whole objects: opened with the known keys, sealed and signed again to the same bytes.

use mailark::base::id::{DomainId, HostId, SlotId};
use mailark::crypto::pack::{FrameKind, PackKeys};
use mailark::crypto::seal::{Context, FrameCipher, SealingKey};
use mailark::crypto::sign::{self, Statement};
use mailark::crypto::slot::{self, Secret, SlotDetails};
use mailark::format::content::BlobKind;
use mailark::format::envelope::PackEnvelope;
use mailark::format::keyset::KeySet;
use mailark::format::object::{Object, ObjectType};
use mailark::format::pack;

use super::document::{DOCUMENT, bytes};
use super::known::{self, HOST, REPOSITORY};

/// Opens an object, compares its sealed part, and makes it again.
fn check(name: &str, object_type: ObjectType, sealed: Option<(&str, &dyn SealingKey)>) -> Object {
    let example = bytes(name);
    let (object, signed, signature) = Object::decode(&example, &[object_type]).unwrap();
    let keys = KeySet::Full(known::full());
    let host = (object.header.host != HostId::default()).then_some(object.header.host);
    let key = host.map_or(keys.repository_verifying_key(), |host| keys.host_verifying_key(&host).unwrap());
    let sequence = object.header.sequence;
    let statement =
        Statement { object_type: object_type as u8, repository: REPOSITORY, host, sequence, bytes: signed };
    sign::verify(&key, &statement, signature).unwrap();
    assert_eq!(object.header.salt, known::SALT);
    if let Some((plain, key)) = sealed {
        let context = Context {
            suite: 1,
            object_type: object_type as u8,
            epoch: 0,
            repository: REPOSITORY,
            salt: known::SALT,
            kind: 0,
            position: sequence,
        };
        let cipher = FrameCipher::for_object(key, &context);
        let mut opened = object.sealed.clone();
        cipher.open_in_place(&context, &mut opened).unwrap();
        assert_eq!(opened, bytes(plain), "{name}");
        cipher.seal_in_place(&context, &mut opened);
        assert_eq!(opened, object.sealed, "{name}");
    }
    let mut again = object.clone().encode_unsigned();
    let signature = match host {
        Some(_) => known::writer().sign(object_type as u8, sequence, &again),
        None => known::full().sign(object_type as u8, sequence, &again),
    };
    again.extend_from_slice(&signature);
    assert_eq!(again, example, "{name}");
    object
}

#[test]
fn objects_are_as_written() {
    let writer = known::writer();
    let config = check("config-object", ObjectType::Config, None);
    assert_eq!(config.clear, bytes("config-clear"));
    assert_eq!((config.header.host, config.header.sequence), (HostId::default(), 0));
    let delta = check("delta-object", ObjectType::Delta, Some(("delta-sealed", &writer.delta_key)));
    assert_eq!(delta.clear, bytes("delta-clear"));
    assert_eq!((delta.header.host, delta.header.domain), (HOST, known::DOMAIN));
    let snapshot = check("snapshot-object", ObjectType::Snapshot, Some(("snapshot", &writer.snapshot_key)));
    assert_eq!((snapshot.clear, snapshot.header.domain), (Vec::new(), known::DOMAIN));
    let record =
        check("record-object", ObjectType::Record, Some(("record-sealed", &writer.shared_record_key)));
    assert_eq!((record.clear, record.header.domain), (bytes("record-clear"), DomainId::default()));
}

#[test]
fn the_statement_is_what_is_signed() {
    let object = bytes("config-object");
    let (signed, signature) = object.split_last_chunk::<64>().unwrap();
    let statement = bytes("statement");
    assert_eq!((statement.len(), &statement[66..]), (98, blake3::hash(signed).as_bytes().as_slice()));
    let key = known::writer().repository_public.0;
    let key = ed25519_dalek::VerifyingKey::from_bytes(&key).unwrap();
    key.verify_strict(&statement, &ed25519_dalek::Signature::from_bytes(signature)).unwrap();
}

/// The slot of the example, made from what the document says.
pub fn slot() -> (SlotId, Vec<u8>) {
    // The salt of the slot is drawn second.
    let details = SlotDetails { label: "label", host_name: "host", created: 1, ..SlotDetails::default() };
    let (full, secret) = (known::full(), secret());
    let keys = KeySet::Full(full.clone());
    slot::create_slot_with(&full, &keys, &secret, &details, &mut known::counted()).unwrap()
}

pub fn secret() -> Secret {
    Secret::KeyFile((0..32).collect())
}

#[test]
fn the_key_slot_is_as_written() {
    let (id, file) = slot();
    let clear = bytes("slot-clear");
    assert_eq!(file[..clear.len()], clear);
    assert_eq!(file.len(), clear.len() + 4096 + 16 + 64 + 32);
    assert!(DOCUMENT.contains(&format!("has {} bytes", file.len())));
    assert_eq!(blake3::hash(&file).as_bytes().as_slice(), bytes("slot-hash"));
    assert_eq!(id, SlotId([0x66; 8]));
    assert_eq!(slot::open_slot(&file, &secret()).unwrap().repository(), REPOSITORY);
}

#[test]
fn the_pack_is_as_written() {
    let example = bytes("pack");
    let (keys, envelope) = PackKeys::create_with(&known::writer(), &mut known::counted()).unwrap();
    assert_eq!(envelope.encode().as_slice(), bytes("pack-envelope"));
    assert_eq!(PackEnvelope::decode(&bytes("pack-envelope")), Ok(envelope));
    let mut again = [pack::MAGIC.as_slice(), &envelope.encode()].concat();
    let mut append = |kind: FrameKind, position: u64, plain: &[u8]| {
        let mut frame = plain.to_vec();
        keys.frame_cipher(kind).unwrap().seal_in_place(&keys.context(kind, position), &mut frame);
        again.extend_from_slice(&frame);
        again.len()
    };
    let mut blobs: Vec<(BlobKind, Vec<u8>)> = known::pieces().into();
    blobs.push((BlobKind::Tree, bytes("page")));
    for (position, (kind, plain)) in (0..).zip(&blobs) {
        append(FrameKind::Blob(*kind), position, plain);
    }
    let table = bytes("segment-table");
    let unpadded = append(FrameKind::Padding, 0, &[]) as u64 + table.len() as u64 + 16 + 32;
    again.truncate(again.len() - 16);
    let padding = pack::padded_bytes(unpadded) - unpadded;
    let mut append = |kind: FrameKind, plain: &[u8]| {
        let mut frame = plain.to_vec();
        keys.frame_cipher(kind).unwrap().seal_in_place(&keys.context(kind, 0), &mut frame);
        again.extend_from_slice(&frame);
    };
    append(FrameKind::Padding, &vec![0; padding as usize]);
    append(FrameKind::Footer, &table);
    append(FrameKind::Trailer, &bytes("trailer"));
    assert_eq!(again, example);
}
