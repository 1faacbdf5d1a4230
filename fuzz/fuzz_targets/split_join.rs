//! Any bytes, under every hint and sliced in any way: joining what was split gives the same bytes.
#![no_main]

use std::collections::HashMap;
use std::convert::Infallible;

use libfuzzer_sys::fuzz_target;
use mailark::base::id::BlobId;
use mailark::chunk::{BlobSource, Hint, Sink, Splitter, join};
use mailark::format::content::{BlobKind, Section};

const HINTS: [Hint; 6] = [Hint::Detect, Hint::Bytes, Hint::Message, Hint::Mbox, Hint::Dbox, Hint::State];

#[derive(Default)]
struct Store {
    blobs: HashMap<BlobId, Vec<u8>>,
    sections: Vec<Section>,
}

impl Sink for Store {
    type Error = Infallible;

    fn blob(&mut self, _kind: BlobKind, data: &[u8]) -> Result<BlobId, Infallible> {
        assert!(!data.is_empty());
        let mut id = BlobId::default();
        id.0.copy_from_slice(&blake3::hash(data).as_bytes()[..16]);
        self.blobs.insert(id, data.to_vec());
        Ok(id)
    }

    fn section(&mut self, section: Section) -> Result<(), Infallible> {
        self.sections.push(section);
        Ok(())
    }
}

impl BlobSource for Store {
    type Blob = Vec<u8>;
    type Error = ();

    fn blob(&mut self, id: &BlobId) -> Result<Vec<u8>, ()> {
        self.blobs.get(id).cloned().ok_or(())
    }
}

fn split(splitter: &mut Splitter, hint: Hint, bytes: &[u8], step: usize) -> Store {
    let mut store = Store::default();
    splitter.begin(hint);
    for slice in bytes.chunks(step) {
        let Ok(()) = splitter.push(slice, &mut store);
    }
    let Ok(stats) = splitter.finish(&mut store);
    assert_eq!(stats.bytes, bytes.len() as u64);
    store
}

fuzz_target!(|input: (u8, u16, &[u8])| {
    let (hint, step, bytes) = input;
    let hint = HINTS[usize::from(hint) % HINTS.len()];
    let mut splitter = Splitter::new([7; 32]);
    let mut whole = split(&mut splitter, hint, bytes, usize::MAX);
    let sliced = split(&mut splitter, hint, bytes, usize::from(step) + 1);
    assert!(whole.sections == sliced.sections, "slicing changed the sections");
    let mut joined = Vec::new();
    for section in whole.sections.clone() {
        let result = join(&section, &mut whole, |part| {
            joined.extend_from_slice(part);
            Ok::<_, Infallible>(())
        });
        assert!(result.is_ok());
    }
    assert!(joined == bytes, "joining gave other bytes");
});
