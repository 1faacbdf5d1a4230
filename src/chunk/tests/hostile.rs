//! Sections that nobody cut: an error or bytes, never a panic, never more than the runs say.

use std::convert::Infallible;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::{Missing, SECRET, Splitter, Store, joined, message_with, noise, split_with};
use crate::base::id::BlobId;
use crate::chunk::{Hint, JoinError, Sink, join};
use crate::format::content::{Base64Lines, BlobKind, Piece, Run, Section, Shape};

fn blobs(store: &mut Store, contents: &[&[u8]]) -> Vec<BlobId> {
    contents.iter().map(|content| Sink::blob(store, BlobKind::Text, content).unwrap()).collect()
}

fn section(pieces: Vec<Piece>, runs: &[(u16, u64)]) -> Section {
    let runs = runs.iter().map(|&(piece, length)| Run { piece, length }).collect();
    Section { shape: Shape::Bytes, pieces, runs }
}

#[test]
fn pieces_must_be_used_up_exactly() {
    let mut store = Store::default();
    let ids = blobs(&mut store, &[b"abc", b"de"]);
    let plain = |runs: &[(u16, u64)]| section(vec![Piece::Plain(ids.clone()), Piece::Zeros(2)], runs);
    assert_eq!(joined(&plain(&[(0, 1), (1, 2), (0, 4)]), &mut store).unwrap(), b"a\0\0bcde");
    for wrong in [
        &[(0, 5)][..],
        &[(1, 2)],
        &[(0, 6), (1, 2)],
        &[(0, 5), (1, 3)],
        &[(0, 4), (1, 2)],
        &[(2, 1)],
        &[(0, 0)],
    ] {
        assert!(matches!(joined(&plain(wrong), &mut store), Err(JoinError::Malformed(_))), "{wrong:?}");
    }
    let endless = section(vec![Piece::Zeros(u64::MAX)], &[(0, u64::MAX), (0, 1)]);
    assert!(matches!(joined(&endless, &mut store), Err(JoinError::Malformed(_))));
    let missing = BlobId([9; 16]);
    let absent = section(vec![Piece::Plain(vec![missing])], &[(0, 1)]);
    assert_eq!(joined(&absent, &mut store), Err(JoinError::Blob { id: missing, source: Missing }));
}

#[test]
fn base64_pieces_may_be_read_in_any_runs() {
    let mut store = Store::default();
    let ids = blobs(&mut store, &[b"A", b"BCDEFG", b"HI", b"JKLMN"]);
    for (closed, crlf, expected) in [
        (true, true, "QUJDREVG\r\nR0hJSktM\r\nTU4=\r\n"),
        (false, true, "QUJDREVG\r\nR0hJSktM\r\nTU4="),
        (true, false, "QUJDREVG\nR0hJSktM\nTU4=\n"),
    ] {
        let piece = Piece::Base64(Base64Lines { width: 8, crlf, closed }, ids.clone());
        for step in 1..=expected.len() {
            let mut runs: Vec<(u16, u64)> = vec![(0, step as u64); expected.len() / step];
            runs.extend((expected.len() % step > 0).then_some((0, (expected.len() % step) as u64)));
            let whole = section(vec![piece.clone()], &runs);
            assert_eq!(joined(&whole, &mut store).unwrap(), expected.as_bytes(), "{step}");
        }
        for wrong in [expected.len() - 1, expected.len() + 1] {
            let whole = section(vec![piece.clone()], &[(0, wrong as u64)]);
            assert!(matches!(joined(&whole, &mut store), Err(JoinError::Malformed(_))));
        }
    }
}

#[test]
fn a_thousand_alternating_pieces_hold_few_blobs() {
    let mut store = Store::default();
    let large = blobs(&mut store, &[&noise(1, 1 << 20)]);
    let pieces = vec![Piece::Plain(large); 500];
    let runs: Vec<(u16, u64)> =
        (0..1000).map(|run| (run % 500, if run < 500 { 1 } else { (1 << 20) - 1 })).collect();
    let mut length = 0;
    let alternating = section(pieces, &runs);
    let written = join(&alternating, &mut store, |part| {
        length += part.len();
        Ok::<_, Infallible>(())
    });
    assert_eq!(written, Ok(()));
    assert_eq!(length, 500 << 20);
}

/// One thing wrong with a section.
#[derive(Debug, Clone)]
enum Spoil {
    RunPiece(Index, u16),
    RunLength(Index, u64),
    AddRun(u16, u64),
    DropRun(Index),
    AddHole(u64),
    DropPiece,
    Lines(Base64Lines),
}

fn spoil() -> impl Strategy<Value = Spoil> {
    let length = || prop_oneof![8 => 0u64..20_000, 1 => any::<u64>()];
    let width = prop_oneof![4 => (0u32..30).prop_map(|quanta| quanta * 4), 1 => any::<u32>()];
    prop_oneof![
        (any::<Index>(), 0u16..6).prop_map(|(run, piece)| Spoil::RunPiece(run, piece)),
        (any::<Index>(), length()).prop_map(|(run, length)| Spoil::RunLength(run, length)),
        (0u16..4, length()).prop_map(|(piece, length)| Spoil::AddRun(piece, length)),
        any::<Index>().prop_map(Spoil::DropRun),
        length().prop_map(Spoil::AddHole),
        Just(Spoil::DropPiece),
        (width, any::<bool>(), any::<bool>()).prop_map(|(width, crlf, closed)| Spoil::Lines(Base64Lines {
            width,
            crlf,
            closed
        })),
    ]
}

fn apply(spoil: Spoil, section: &mut Section) {
    let runs = section.runs.len();
    match spoil {
        Spoil::RunPiece(run, piece) if runs > 0 => section.runs[run.index(runs)].piece = piece,
        Spoil::RunLength(run, length) if runs > 0 => section.runs[run.index(runs)].length = length,
        Spoil::DropRun(run) if runs > 0 => drop(section.runs.remove(run.index(runs))),
        Spoil::RunPiece(..) | Spoil::RunLength(..) | Spoil::DropRun(_) => {}
        Spoil::AddRun(piece, length) => section.runs.push(Run { piece, length }),
        Spoil::AddHole(length) => section.pieces.push(Piece::Zeros(length)),
        Spoil::DropPiece => drop(section.pieces.pop()),
        Spoil::Lines(other) => {
            for piece in &mut section.pieces {
                if let Piece::Base64(lines, _) = piece {
                    *lines = other;
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn spoilt_sections_never_panic(seed in any::<u64>(), spoils in vec(spoil(), 1..4)) {
        const WRITE_MAX: u128 = 1 << 20;
        let message = message_with(&noise(seed, 6000), 76, "\n", "b");
        let whole = std::iter::once(&message[..]);
        let (mut store, _) = split_with(&mut Splitter::new(SECRET), Hint::Message, whole);
        let mut section = store.sections.remove(0);
        spoils.into_iter().for_each(|spoil| apply(spoil, &mut section));
        let expected: u128 = section.runs.iter().map(|run| u128::from(run.length)).sum();
        let mut written = 0u128;
        let result = join(&section, &mut store, |part| {
            written += part.len() as u128;
            if written <= WRITE_MAX { Ok(()) } else { Err(Missing) }
        });
        prop_assert!(written <= expected);
        if result.is_ok() {
            prop_assert_eq!(written, expected);
        }
    }
}
