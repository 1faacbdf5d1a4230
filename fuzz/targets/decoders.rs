//! Every decoder of stored bytes: what decodes encodes again, decodes to the same, and encodes to the same bytes.

use std::fmt::Debug;

use mailark::base::id::BlobId;
use mailark::compress;
use mailark::crypto::recovery::RecoveryCode;
use mailark::format::codec::{self, FormatError};
use mailark::format::config::Config;
use mailark::format::content::{self, ContentPage};
use mailark::format::delta::{self, PackList};
use mailark::format::envelope::PackEnvelope;
use mailark::format::inventory::Inventory;
use mailark::format::keyset::KeySet;
use mailark::format::letters::{LetterError, LetterReader, LetterWriter, decode_letter, encode_letter};
use mailark::format::object::{Object, ObjectType, SIGNATURE_BYTES};
use mailark::format::pack::{Compression, SegmentTable, Trailer};
use mailark::format::page::Page;
use mailark::format::parity::ParityHead;
use mailark::format::record::{Record, RecordHead};
use mailark::format::slot;
use mailark::format::snapshot::{Checkpoint, Snapshot};
use mailark::repo::packs::FIRST_SEGMENT_OFFSET;

use super::Input;

/// Decodes any bytes; the result must survive encoding and decoding.
fn stable<T: PartialEq + Debug>(
    bytes: &[u8],
    decode: impl Fn(&[u8]) -> Result<T, FormatError>,
    encode: impl Fn(&T) -> Vec<u8>,
) -> Option<T> {
    let value = match decode(bytes) {
        Ok(value) => value,
        Err(error) => {
            // A message is made of every refusal.
            assert!(!error.to_string().is_empty());
            return None;
        }
    };
    let encoded = encode(&value);
    let again = decode(&encoded).expect("what was encoded decodes");
    assert!(again == value, "decoding what was encoded gives another value");
    assert!(encode(&again) == encoded);
    Some(value)
}

/// The same, and no encoding is shorter than the one that a writer makes.
fn shortest<T: PartialEq + Debug>(
    bytes: &[u8],
    decode: impl Fn(&[u8]) -> Result<T, FormatError>,
    encode: impl Fn(&T) -> Vec<u8>,
) -> Option<T> {
    let value = stable(bytes, decode, &encode)?;
    let length = encode(&value).len();
    assert!(length <= bytes.len(), "{} bytes became {length}", bytes.len());
    Some(value)
}

/// A reader takes names that are shortened where a writer would not, so a page may become longer.
pub fn page(bytes: &[u8]) {
    let Some(page) = stable(bytes, Page::decode, Page::encode) else { return };
    match page {
        Page::Leaf(entries) => {
            assert!(!entries.is_empty() && entries.is_sorted_by(|one, next| one.name < next.name));
            for entry in &entries {
                assert!(!entry.name.contains(&b'/') && !matches!(entry.name.as_slice(), b"" | b"." | b".."));
                entry.totals();
            }
        }
        Page::Fence(fences) => {
            assert!(!fences.is_empty() && fences.is_sorted_by(|one, next| one.first < next.first));
        }
    }
}

pub fn content_page(bytes: &[u8]) {
    shortest(bytes, ContentPage::decode, ContentPage::encode);
}

/// A stream of letters: what comes out of it makes a stream that gives the same.
pub fn letters(bytes: &[u8]) {
    let Ok((mut reader, head)) = LetterReader::open(bytes) else { return };
    let mut writer = LetterWriter::new(Vec::new(), &head).expect("memory takes everything");
    let mut whole = true;
    loop {
        match reader.next_letter() {
            Ok(Some(letter)) => {
                assert_eq!(decode_letter(&encode_letter(&letter)).as_ref(), Ok(&letter));
                let (size, mut got) = (letter.size, 0);
                let mut sink = writer.letter(&letter).expect("memory takes everything");
                let taken = reader.bytes(|part| {
                    got += part.len() as u64;
                    assert!(got <= size, "more bytes than the letter has");
                    std::io::Write::write_all(&mut sink, part).map_err(LetterError::Read)
                });
                match taken {
                    Ok(()) => sink.finish().expect("memory takes everything"),
                    Err(LetterError::GivenUp(why)) => sink.give_up(&why).expect("memory takes everything"),
                    Err(_) => return,
                }
            }
            Ok(None) => break,
            Err(_) => {
                whole = false;
                break;
            }
        }
    }
    let again = writer.finish().expect("memory takes everything");
    if whole {
        let (mut reader, same) = LetterReader::open(again.as_slice()).expect("what was written is read");
        assert_eq!(same, head);
        while reader.next_letter().expect("what was written is read").is_some() {}
    }
}

/// A number of ids, the ids, and the structure.
pub fn content(bytes: &[u8]) {
    let mut input = Input(bytes);
    let count = usize::from(input.byte());
    let (ids, _) = input.bytes(count * 16).as_chunks::<16>();
    let ids: Vec<BlobId> = ids.iter().map(|id| BlobId(*id)).collect();
    let Ok(content) = content::decode(input.0, &ids) else { return };
    content.messages();
    let mut again = Vec::new();
    let encoded = content::encode(&content, &mut again);
    assert!(again == ids, "other ids");
    assert!(content::decode(&encoded, &again).as_ref() == Ok(&content));
}

pub fn segment_table(bytes: &[u8]) {
    let Some(table) = shortest(bytes, SegmentTable::decode, SegmentTable::encode) else { return };
    table.offset(table.segments.len(), FIRST_SEGMENT_OFFSET);
}

pub fn delta(bytes: &[u8]) {
    // The number of packs stands in front, in one byte while it is small.
    let count = usize::from(bytes.first().copied().unwrap_or_default());
    let Some(packs) = shortest(bytes, |bytes| delta::decode(bytes, count), |packs| delta::encode(packs))
    else {
        return;
    };
    for pack in &packs {
        let blobs: usize = pack.table.segments.iter().map(|segment| segment.lengths.len()).sum();
        assert_eq!(pack.ids.len(), blobs);
    }
}

pub fn pack_list(bytes: &[u8]) {
    shortest(bytes, PackList::decode, PackList::encode);
}

pub fn snapshot(bytes: &[u8]) {
    if let Some(snapshot) = shortest(bytes, Snapshot::decode, Snapshot::encode) {
        snapshot.totals();
    }
}

pub fn checkpoint(bytes: &[u8]) {
    shortest(bytes, Checkpoint::decode, Checkpoint::encode);
}

pub fn config(bytes: &[u8]) {
    shortest(bytes, Config::decode, Config::encode);
}

/// The sealed part of a record of any type, under the head of its type and under a wrong one.
pub fn record(bytes: &[u8]) {
    let record_type = u32::from(bytes.first().copied().unwrap_or_default());
    let mut opened = 0;
    for private in [false, true] {
        let head = RecordHead { record_type, private, at: 0 };
        let record = shortest(bytes, |bytes| Record::decode(bytes, &head), Record::encode);
        assert!(record.as_ref().is_none_or(|record| record.class() == (record_type, private)));
        opened += u32::from(record.is_some());
    }
    assert!(opened < 2, "a record is private or shared");
    let decode = |bytes: &[u8]| codec::decode::<RecordHead>(bytes, "record");
    shortest(bytes, decode, codec::encode);
}

/// A frame of every type.
pub fn object(bytes: &[u8]) {
    let types = [
        ObjectType::Config,
        ObjectType::Delta,
        ObjectType::Snapshot,
        ObjectType::Checkpoint,
        ObjectType::Record,
    ];
    let Ok((object, signed, signature)) = Object::decode(bytes, &types) else { return };
    assert_eq!(signed.len() + SIGNATURE_BYTES, bytes.len());
    let mut encoded = object.clone().encode_unsigned();
    assert!(encoded.len() <= signed.len());
    encoded.extend_from_slice(signature);
    let (again, ..) = Object::decode(&encoded, &types).expect("what was encoded decodes");
    assert!(again == object);
    let others: Vec<ObjectType> = types.into_iter().filter(|other| *other != object.object_type).collect();
    assert!(Object::decode(bytes, &others).is_err(), "an object of one type stands for another");
}

/// A whole slot, and one whose header the input is: its checksum is right.
pub fn slot(bytes: &[u8]) {
    drop(slot::split(bytes));
    let signed = [b"MARKKEY1", bytes, &[0; KeySet::PADDED_BYTES + 16]].concat();
    let whole = slot::join(signed, &[0; 64]);
    let Ok(parts) = slot::split(&whole) else { return };
    assert!(parts.header.encode() == parts.clear, "the header must be the one encoding of what it says");
    parts.header.kind.check().expect("checked before");
}

pub fn key_set(bytes: &[u8]) {
    let mut padded = bytes.to_vec();
    padded.resize(KeySet::PADDED_BYTES, 0);
    let encode = |keys: &KeySet| {
        let mut encoded = Vec::new();
        keys.encode_padded(&mut encoded);
        encoded
    };
    let Ok(keys) = KeySet::decode_padded(&padded) else { return };
    keys.role();
    let encoded = encode(&keys);
    let again = KeySet::decode_padded(&encoded).expect("what was encoded decodes");
    assert!(encode(&again) == encoded);
    assert!(!format!("{keys:?}").is_empty());
}

pub fn envelope(bytes: &[u8]) {
    shortest(bytes, PackEnvelope::decode, |envelope| envelope.encode().to_vec());
}

pub fn trailer(bytes: &[u8]) {
    let mut input = Input(bytes);
    let pack_bytes = input.number(8);
    let Some(fixed) = input.0.first_chunk() else { return };
    let Ok(trailer) = Trailer::decode(fixed, pack_bytes) else { return };
    assert_eq!(trailer.encode(), *fixed);
    let end = trailer.footer_offset + trailer.footer_bytes;
    assert!(end <= pack_bytes, "the footer ends behind the pack");
}

pub fn inventory(bytes: &[u8]) {
    shortest(bytes, Inventory::decode, Inventory::encode);
}

/// The head of a parity object; shards may follow.
pub fn parity(bytes: &[u8]) {
    let head = |bytes: &[u8]| ParityHead::decode(bytes).map(|(head, _)| head);
    let Some(head) = shortest(bytes, head, ParityHead::encode) else { return };
    assert!(head.data.len() as u64 * u64::from(head.shard_bytes) >= head.pack_bytes);
}

pub fn recovery_code(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(code) = RecoveryCode::parse(text) else { return };
    let again = RecoveryCode::parse(&code.text()).expect("a code as it is shown");
    assert_eq!(again.bytes(), code.bytes());
}

/// A claimed length of up to 16 MiB, then what is to be decompressed.
pub fn compressed(bytes: &[u8]) {
    let mut input = Input(bytes);
    let length = input.number(3) as usize;
    if let Ok(plain) = compress::decompress(Compression::Zstd, input.0, length) {
        assert_eq!(plain.len(), length);
    }
}
