//! Every decoder of stored bytes: no input may panic or take memory without bound, and what decodes encodes again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use mailark::crypto::recovery::RecoveryCode;
use mailark::format::config::Config;
use mailark::format::content::{self, ContentPage};
use mailark::format::delta::{self, PackList};
use mailark::format::envelope::PackEnvelope;
use mailark::format::inventory::Inventory;
use mailark::format::object::{Object, ObjectType};
use mailark::format::pack::{SegmentTable, Trailer};
use mailark::format::page::Page;
use mailark::format::parity::ParityHead;
use mailark::format::record::{Record, RecordHead};
use mailark::format::slot;
use mailark::format::snapshot::{Checkpoint, Snapshot};

fuzz_target!(|input: (u8, &[u8])| {
    let (choice, bytes) = input;
    match choice % 13 {
        0 => {
            if let Ok(page) = Page::decode(bytes) {
                assert_eq!(Page::decode(&page.encode()).as_ref(), Ok(&page));
            }
        }
        1 => {
            if let Ok(page) = ContentPage::decode(bytes) {
                assert_eq!(ContentPage::decode(&page.encode()).as_ref(), Ok(&page));
            }
        }
        2 => {
            if let Ok(table) = SegmentTable::decode(bytes) {
                assert_eq!(SegmentTable::decode(&table.encode()).as_ref(), Ok(&table));
            }
        }
        3 => drop(delta::decode(bytes, bytes.first().map_or(0, |&count| count.into()))),
        4 => drop(PackList::decode(bytes)),
        5 => {
            if let Ok(snapshot) = Snapshot::decode(bytes) {
                assert_eq!(Snapshot::decode(&snapshot.encode()).as_ref(), Ok(&snapshot));
            }
        }
        6 => drop(Checkpoint::decode(bytes)),
        7 => {
            let record_type = u32::from(bytes.first().copied().unwrap_or_default());
            let head = RecordHead { record_type, private: record_type & 1 == 1, at: 0 };
            drop(Record::decode(bytes, &head));
        }
        8 => {
            for object_type in [ObjectType::Config, ObjectType::Delta, ObjectType::Snapshot, ObjectType::Record] {
                drop(Object::decode(bytes, &[object_type]));
            }
            drop(Config::decode(bytes));
        }
        9 => {
            drop(slot::split(bytes));
            drop(ParityHead::decode(bytes));
        }
        10 => {
            drop(PackEnvelope::decode(bytes));
            if let Some(trailer) = bytes.first_chunk() {
                drop(Trailer::decode(trailer, bytes.len() as u64));
            }
            drop(content::decode(bytes, &[]));
        }
        11 => {
            if let Ok(inventory) = Inventory::decode(bytes) {
                assert_eq!(Inventory::decode(&inventory.encode()).as_ref(), Ok(&inventory));
            }
        }
        _ => {
            if let Ok(text) = std::str::from_utf8(bytes) {
                drop(RecoveryCode::parse(text));
            }
        }
    }
});
