//! Splitting and joining together: identity, slicing, deduplication, hostile sections, real mail.

mod corpora;
mod dedup;
mod grammar;
mod hostile;
mod identity;
mod ranges;
mod sections;

use std::collections::HashMap;
use std::convert::Infallible;

use super::{BlobSource, Hint, JoinError, Sink, SplitStats, Splitter, join};
use crate::base::id::BlobId;
use crate::base::limits;
use crate::format::content::{BlobKind, Content, Section, decode, encode};

const SECRET: [u8; 32] = [7; 32];

/// Keeps what a splitter gives.
#[derive(Default)]
struct Store {
    blobs: HashMap<BlobId, (BlobKind, Vec<u8>)>,
    sections: Vec<Section>,
}

impl Sink for Store {
    type Error = Infallible;

    fn blob(&mut self, kind: BlobKind, data: &[u8]) -> Result<BlobId, Infallible> {
        assert!((1..=limits::BLOB_BYTES_MAX).contains(&data.len()));
        assert!(kind != BlobKind::Head || data.len() <= limits::HEAD_BYTES_MAX);
        let mut id = BlobId::default();
        id.0.copy_from_slice(&blake3::hash(data).as_bytes()[..16]);
        self.blobs.insert(id, (kind, data.to_vec()));
        Ok(id)
    }

    fn section(&mut self, section: Section) -> Result<(), Infallible> {
        assert!(section.runs.len() <= limits::SECTION_RUNS_MAX && !section.runs.is_empty());
        assert!(section.pieces.len() <= limits::SECTION_PIECES_MAX);
        assert!(
            section.pieces.iter().map(|piece| piece.blobs().len()).sum::<usize>()
                <= limits::SECTION_BLOBS_MAX
        );
        assert!(section.runs.windows(2).all(|two| two[0].piece != two[1].piece), "runs are merged");
        self.sections.push(section);
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Missing;

impl BlobSource for Store {
    type Blob = Vec<u8>;
    type Error = Missing;

    fn blob(&mut self, id: &BlobId) -> Result<Vec<u8>, Missing> {
        self.blobs.get(id).map(|(_, data)| data.clone()).ok_or(Missing)
    }
}

impl Store {
    /// The bytes of all sections.
    fn joined(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for section in self.sections.clone() {
            let part = joined(&section, self).unwrap();
            assert_eq!(part.len() as u64, section.length());
            bytes.extend_from_slice(&part);
        }
        bytes
    }

    fn blobs_of(&self, kind: BlobKind) -> Vec<Vec<u8>> {
        let ids = self.sections.iter().flat_map(|section| &section.pieces).flat_map(|piece| piece.blobs());
        ids.filter_map(|id| self.blobs.get(id))
            .filter(|blob| blob.0 == kind)
            .map(|blob| blob.1.clone())
            .collect()
    }
}

/// Joins one section.
fn joined(section: &Section, store: &mut Store) -> Result<Vec<u8>, JoinError<Missing, Infallible>> {
    let mut bytes = Vec::new();
    join(section, store, |part| {
        bytes.extend_from_slice(part);
        Ok(())
    })?;
    Ok(bytes)
}

/// Splits with a fresh splitter, `step` bytes at a time.
fn split_by(hint: Hint, bytes: &[u8], step: usize) -> (Store, SplitStats) {
    split_with(&mut Splitter::new(SECRET), hint, bytes.chunks(step.max(1)))
}

fn split(hint: Hint, bytes: &[u8]) -> (Store, SplitStats) {
    split_by(hint, bytes, usize::MAX)
}

fn split_with<'a>(
    splitter: &mut Splitter,
    hint: Hint,
    slices: impl Iterator<Item = &'a [u8]>,
) -> (Store, SplitStats) {
    let mut store = Store::default();
    splitter.begin(hint);
    for slice in slices {
        splitter.push(slice, &mut store).unwrap();
    }
    let stats = splitter.finish(&mut store).unwrap();
    (store, stats)
}

/// Splits, joins, and sends the recipe through its stored form.
fn check_identity(hint: Hint, bytes: &[u8]) -> (Store, SplitStats) {
    let (mut store, stats) = split(hint, bytes);
    assert!(store.joined() == bytes, "{hint:?}: join gives other bytes");
    assert_eq!(stats.bytes, bytes.len() as u64);
    if store.sections.len() <= limits::PAGE_SECTIONS_MAX {
        let content = Content::Inline(store.sections.clone());
        let mut ids = Vec::new();
        let structure = encode(&content, &mut ids);
        assert_eq!(decode(&structure, &ids).unwrap(), content);
    }
    (store, stats)
}

/// Bytes without pattern, the same for the same seed.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// Base64 lines, each with the ending.
fn base64_lines(bytes: &[u8], width: usize, ending: &str) -> Vec<u8> {
    let text = base64_simd::STANDARD.encode_to_string(bytes);
    text.as_bytes().chunks(width).flat_map(|line| [line, ending.as_bytes()].concat()).collect()
}

/// A message with a text and one base64 attachment.
fn message_with(attachment: &[u8], width: usize, ending: &str, boundary: &str) -> Vec<u8> {
    let head = format!(
        "Received: by mx\nFrom: a@example.org\nTo: b@example.org\nSubject: plan\nMIME-Version: 1.0\n\
         Content-Type: multipart/mixed;\n boundary=\"{boundary}\"\n\n--{boundary}\n\
         Content-Type: text/plain\n\nSee the plan.\n\n--{boundary}\nContent-Type: application/pdf\n\
         Content-Transfer-Encoding: base64\n\n"
    );
    let mut message = head.replace('\n', ending).into_bytes();
    message.extend_from_slice(&base64_lines(attachment, width, ending));
    message.extend_from_slice(format!("\n--{boundary}--\n").replace('\n', ending).as_bytes());
    message
}
