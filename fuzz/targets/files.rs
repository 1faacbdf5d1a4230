//! Cutting any file and joining it again; joining what nobody ever cut.

use std::collections::HashMap;
use std::convert::Infallible;

use mailark::base::id::BlobId;
use mailark::chunk::{BlobSource, Hint, JoinError, Sink, Splitter, join};
use mailark::format::content::{Base64Lines, BlobKind, Piece, Run, Section, Shape};

use super::Input;

/// More is refused by the writer, as a full disk would.
const WRITE_MAX: u64 = 1 << 20;
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

/// A hint, a step, and a file: joining what was split gives the same bytes, however it was sliced.
pub fn split_join(bytes: &[u8]) {
    let mut input = Input(bytes);
    let hint = HINTS[usize::from(input.byte()) % HINTS.len()];
    let step = input.number(2) as usize + 1;
    let bytes = input.0;
    let mut splitter = Splitter::new([7; 32]);
    let mut whole = split(&mut splitter, hint, bytes, usize::MAX);
    let sliced = split(&mut splitter, hint, bytes, step);
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
}

struct Blobs<'a>(Vec<&'a [u8]>);

impl<'a> BlobSource for Blobs<'a> {
    type Blob = &'a [u8];
    type Error = ();

    fn blob(&mut self, id: &BlobId) -> Result<&'a [u8], ()> {
        self.0.get(usize::from(id.0[0])).copied().ok_or(())
    }
}

/// Any section over any blobs: an error, or exactly as many bytes as the runs say.
pub fn join_hostile(bytes: &[u8]) {
    let mut input = Input(bytes);
    let pieces: Vec<Piece> = (0..input.byte() % 16)
        .map(|_| {
            let kind = input.byte();
            let mut ids = || -> Vec<BlobId> {
                let count = usize::from(input.byte() % 16);
                input.bytes(count).iter().map(|number| BlobId([*number; 16])).collect()
            };
            match kind % 3 {
                0 => Piece::Plain(ids()),
                1 => Piece::Zeros(input.number(8) >> (kind >> 2)),
                _ => {
                    let ids = ids();
                    let width = input.number(2) as u32;
                    let lines = Base64Lines { width, crlf: kind & 4 != 0, closed: kind & 8 != 0 };
                    Piece::Base64(lines, ids)
                }
            }
        })
        .collect();
    let runs: Vec<Run> = (0..input.byte())
        .map(|_| {
            let piece = input.byte();
            Run { piece: piece.into(), length: input.number(usize::from(piece >> 5) + 1) }
        })
        .collect();
    let mut blobs = Vec::new();
    while !input.is_empty() {
        blobs.push(input.stretch());
    }
    let expected: u128 = runs.iter().map(|run| u128::from(run.length)).sum();
    let section = Section { shape: Shape::Bytes, pieces, runs };
    let mut written = 0;
    let result = join(&section, &mut Blobs(blobs), |part| {
        written += part.len() as u64;
        if written <= WRITE_MAX { Ok(()) } else { Err(()) }
    });
    assert!(u128::from(written) <= expected);
    match result {
        Ok(()) => assert_eq!(u128::from(written), expected),
        Err(JoinError::Write(())) => assert!(written > WRITE_MAX),
        Err(JoinError::Blob { .. } | JoinError::Malformed(_)) => {}
    }
}
