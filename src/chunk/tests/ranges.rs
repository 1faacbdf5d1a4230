//! Any stretch of a section is what the whole section has there, and needs only the blobs that hold it.

use proptest::prelude::*;

use super::{BlobSource, Hint, Missing, Store, base64_lines, joined, message_with, noise, split};
use crate::base::id::BlobId;
use crate::chunk::{JoinError, MeasuredSource, join_range};
use crate::format::content::{Piece, Run, Section, Shape};

impl MeasuredSource for Store {
    fn length(&mut self, id: &BlobId) -> Result<u64, Missing> {
        self.blobs.get(id).map(|(_, data)| data.len() as u64).ok_or(Missing)
    }
}

/// Also notes which blobs are read.
struct Watched<'a>(&'a mut Store, Vec<BlobId>);

impl BlobSource for Watched<'_> {
    type Blob = Vec<u8>;
    type Error = Missing;

    fn blob(&mut self, id: &BlobId) -> Result<Vec<u8>, Missing> {
        self.1.push(*id);
        self.0.blob(id)
    }
}

impl MeasuredSource for Watched<'_> {
    fn length(&mut self, id: &BlobId) -> Result<u64, Missing> {
        self.0.length(id)
    }
}

fn stretch(
    section: &Section,
    store: &mut Store,
    from: usize,
    to: usize,
) -> Result<Vec<u8>, JoinError<Missing, std::convert::Infallible>> {
    let mut bytes = Vec::new();
    join_range(section, store, from as u64..to as u64, |part| {
        bytes.extend_from_slice(part);
        Ok(())
    })?;
    Ok(bytes)
}

/// Compares stretches that begin and end everywhere near the given places.
fn check(message: &[u8], places: &[usize]) {
    let (mut store, _) = split(Hint::Message, message);
    let [section] = store.sections.as_slice() else { panic!("{} sections", store.sections.len()) };
    let section = section.clone();
    assert!(joined(&section, &mut store).unwrap() == message);
    let near = |place: &usize| place.saturating_sub(3)..place + 4;
    for from in places.iter().flat_map(near) {
        for to in places.iter().flat_map(near).filter(|to| *to >= from) {
            let expected = &message[from.min(message.len())..to.min(message.len())];
            let given = stretch(&section, &mut store, from, to).unwrap();
            assert!(given == expected, "{from}..{to}: {} bytes", given.len());
        }
    }
}

#[test]
fn stretches_begin_and_end_anywhere() {
    for (length, width, ending) in
        [(4_096, 76, "\n"), (5_001, 76, "\r\n"), (5_700, 76, "\r\n"), (9_000, 4, "\n")]
    {
        let message = message_with(&noise(1, length), width, ending, "b");
        let begin = message.windows(8).position(|eight| eight == b"base64\n\n" || eight == b"4\r\n\r\n--");
        let line = width + ending.len();
        let begin = begin.unwrap_or(0);
        check(&message, &[0, begin, begin + line, begin + 7 * line, message.len() - 40, message.len()]);
    }
}

#[test]
fn only_what_is_asked_for_is_read() {
    let bytes = noise(5, 9 << 20);
    let (mut store, _) = split(Hint::Bytes, &bytes);
    let sections = store.sections.clone();
    let section = &sections[0];
    let blobs = section.pieces[0].blobs().len();
    assert!(blobs > 4, "{blobs}");
    let mut watched = Watched(&mut store, Vec::new());
    let end = section.length();
    let mut given = Vec::new();
    join_range(section, &mut watched, end - 10..end, |part| {
        given.extend_from_slice(part);
        Ok::<_, ()>(())
    })
    .unwrap();
    assert_eq!(given, bytes[(end - 10) as usize..end as usize]);
    assert_eq!(watched.1.len(), 1);
}

#[test]
fn hostile_sections_give_errors() {
    let mut store = Store::default();
    let id =
        crate::chunk::Sink::blob(&mut store, crate::format::content::BlobKind::Text, b"0123456789").unwrap();
    let section = |piece, length| Section {
        shape: Shape::Bytes,
        pieces: vec![piece],
        runs: vec![Run { piece: 0, length }],
    };
    let lines = crate::format::content::Base64Lines { width: 76, crlf: false, closed: true };
    for (section, from, to) in [
        (section(Piece::Plain(vec![id]), 11), 9, 11),
        (section(Piece::Plain(vec![id]), 100), 50, 60),
        (section(Piece::Plain(Vec::new()), 5), 0, 1),
        (section(Piece::Base64(lines, vec![id]), 1_000), 10, 30),
        (section(Piece::Base64(lines, vec![id]), 1_000), 900, 910),
        (section(Piece::Zeros(5), 6), 0, 6),
        (section(Piece::Zeros(5), u64::MAX), 1 << 40, (1 << 40) + 1),
        (section(Piece::Plain(vec![BlobId([9; 16])]), 5), 0, 5),
    ] {
        assert!(stretch(&section, &mut store, from, to).is_err(), "{section:?}");
    }
    let whole = section(Piece::Zeros(1 << 40), 1 << 40);
    assert_eq!(stretch(&whole, &mut store, 1 << 39, (1 << 39) + 3).unwrap(), [0; 3]);
}

proptest! {
    #[test]
    fn any_stretch_of_any_message(
        body in proptest::collection::vec(any::<u8>(), 0..300),
        length in 4_096usize..12_000,
        width in 1usize..40,
        crlf: bool,
        from in 0usize..20_000,
        size in 0usize..20_000,
    ) {
        let ending = if crlf { "\r\n" } else { "\n" };
        let mut message = message_with(&noise(3, length), width * 4, ending, "b");
        message.extend_from_slice(&body);
        message.extend_from_slice(&base64_lines(&body, 8, "\n"));
        let (mut store, _) = split(Hint::Message, &message);
        for section in store.sections.clone() {
            let all = joined(&section, &mut store).unwrap();
            let to = from.saturating_add(size);
            let expected = &all[from.min(all.len())..to.min(all.len())];
            prop_assert_eq!(stretch(&section, &mut store, from, to).unwrap(), expected);
        }
    }
}
