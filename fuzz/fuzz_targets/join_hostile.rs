//! Any section over any blobs: an error or exactly the bytes that the runs say, never a panic.
#![no_main]

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use mailark::base::id::BlobId;
use mailark::chunk::{BlobSource, JoinError, join};
use mailark::format::content::{Base64Lines, Piece, Run, Section, Shape};

/// More is refused by the writer, as a full disk would.
const WRITE_MAX: u64 = 8 << 20;

#[derive(Arbitrary, Debug)]
enum AnyPiece {
    Plain(Vec<u8>),
    Base64 { width: u16, crlf: bool, closed: bool, blobs: Vec<u8> },
    Zeros(u64),
}

#[derive(Arbitrary, Debug)]
struct Input {
    pieces: Vec<AnyPiece>,
    runs: Vec<(u8, u64)>,
    blobs: Vec<Vec<u8>>,
}

struct Blobs(Vec<Vec<u8>>);

impl BlobSource for Blobs {
    type Blob = Vec<u8>;
    type Error = ();

    fn blob(&mut self, id: &BlobId) -> Result<Vec<u8>, ()> {
        self.0.get(usize::from(id.0[0])).cloned().ok_or(())
    }
}

fn ids(numbers: Vec<u8>) -> Vec<BlobId> {
    numbers.into_iter().map(|number| BlobId([number; 16])).collect()
}

fuzz_target!(|input: Input| {
    let pieces = input.pieces.into_iter().map(|piece| match piece {
        AnyPiece::Plain(blobs) => Piece::Plain(ids(blobs)),
        AnyPiece::Base64 { width, crlf, closed, blobs } => {
            Piece::Base64(Base64Lines { width: width.into(), crlf, closed }, ids(blobs))
        }
        AnyPiece::Zeros(length) => Piece::Zeros(length),
    });
    let runs: Vec<Run> =
        input.runs.iter().map(|&(piece, length)| Run { piece: piece.into(), length }).collect();
    let expected: u128 = runs.iter().map(|run| u128::from(run.length)).sum();
    let section = Section { shape: Shape::Bytes, pieces: pieces.collect(), runs };
    let mut written = 0;
    let result = join(&section, &mut Blobs(input.blobs), |part| {
        written += part.len() as u64;
        if written <= WRITE_MAX { Ok(()) } else { Err(()) }
    });
    assert!(u128::from(written) <= expected);
    match result {
        Ok(()) => assert_eq!(u128::from(written), expected),
        Err(JoinError::Write(())) => assert!(written > WRITE_MAX),
        Err(JoinError::Blob { .. } | JoinError::Malformed(_)) => {}
    }
});
