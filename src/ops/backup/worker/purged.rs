//! Purged content is left out: a file below a tombstone's scope is first split to learn its marks, and nothing is
//! stored of it.

use std::sync::atomic::Ordering;

use super::{Chunk, Failed, Shared, Worker, stretches};
use crate::base::id::BlobId;
use crate::chunk::{Hint, Sink};
use crate::crypto::blob_id::BlobNamer;
use crate::format::content::{BlobKind, Section};
use crate::mail::mbox;
use crate::mail::mbox_cuts::Bytes;
use crate::repo::RepoError;
use crate::repo::tombstones::{Demand, Judge, Scope};
use crate::source::problem::{Problem, What};
use crate::source::read::OpenFile;

/// First bytes of a blob that are kept: a `From ` line with the blank line before it.
const BEGIN_BYTES: usize = mbox::FROM_LINE_MAX + 2;

/// Ranges of a file that are left out, and the digest of the file that they were found in.
pub(super) struct Cuts {
    ranges: Vec<Bytes>,
    digest: blake3::Hash,
}

/// Names blobs and stores none.
struct NamingSink<'n> {
    namer: &'n BlobNamer,
    judge: Judge<'n>,
    /// First bytes of the first blob of the section that comes.
    begin: Vec<u8>,
    begun: bool,
}

impl Sink for NamingSink<'_> {
    type Error = RepoError;

    fn blob(&mut self, kind: BlobKind, data: &[u8]) -> Result<BlobId, RepoError> {
        if !self.begun {
            self.begun = true;
            self.begin.clear();
            self.begin.extend_from_slice(&data[..data.len().min(BEGIN_BYTES)]);
        }
        Ok(self.namer.name(kind, data))
    }

    fn section(&mut self, section: Section) -> Result<(), RepoError> {
        let begin = if self.begun { self.begin.as_slice() } else { b"" };
        self.judge.add(&section, begin);
        self.begun = false;
        Ok(())
    }
}

/// Digests a file as it is read.
pub(super) struct Digest(blake3::Hasher);

impl Digest {
    pub(super) fn new() -> Digest {
        Digest(blake3::Hasher::new())
    }

    pub(super) fn add(&mut self, chunk: &Chunk<'_>) {
        match chunk {
            Chunk::Data(bytes) => drop(self.0.update(bytes)),
            Chunk::Hole(length) => drop(self.0.update(&length.to_le_bytes())),
        }
    }

    pub(super) fn finish(self) -> blake3::Hash {
        self.0.finalize()
    }
}

impl Cuts {
    /// The stretches of `bytes`, which begin at `offset` of the file, that are not left out.
    pub(super) fn left<'b>(&self, offset: u64, bytes: &'b [u8]) -> Vec<&'b [u8]> {
        let end = offset + bytes.len() as u64;
        let (mut at, mut left) = (offset, Vec::new());
        let place = |position: u64| (position - offset) as usize;
        for range in self.ranges.iter().filter(|range| range.start < end && range.end > offset) {
            if range.start > at {
                left.push(&bytes[place(at)..place(range.start)]);
            }
            at = range.end.min(end);
        }
        if at < end {
            left.push(&bytes[place(at)..]);
        }
        left
    }

    /// Was the file the same, byte by byte, when it was read to be stored?
    pub(super) fn fits(&self, digest: blake3::Hash) -> bool {
        digest == self.digest
    }
}

/// Notes what was left out.
pub(super) fn count(shared: &Shared<'_>, files_or_messages: u64) {
    shared.counts.purged.fetch_add(files_or_messages, Ordering::Relaxed);
}

/// A mailbox that is written to while purged messages are cut out of it.
pub(super) fn unsteady(path: Vec<u8>) -> Failed {
    let why = "it kept changing while purged messages were to be left out of it";
    Failed::Source(Problem::new(path, What::Unreadable, why))
}

impl Worker<'_> {
    /// Looks at an open file before anything of it is stored; gives what is to be cut out of it.
    ///
    /// # Errors
    /// [`Failed::Purged`] when the file is to be left out.
    pub(super) fn look_for_purged(
        &mut self,
        open: &OpenFile,
        hint: Hint,
        scope: &Scope,
        path: &dyn Fn() -> Vec<u8>,
    ) -> Result<Option<(Cuts, u64)>, Failed> {
        let Worker { splitter, buffer, shared, local, .. } = self;
        let judge = Judge::new(scope);
        let mut sink = NamingSink { namer: local.namer(), judge, begin: Vec::new(), begun: false };
        let mut digest = Digest::new();
        splitter.begin(hint);
        stretches(open, buffer, shared, path, &mut |chunk| {
            digest.add(&chunk);
            match chunk {
                Chunk::Data(bytes) => splitter.push(bytes, &mut sink),
                Chunk::Hole(length) => splitter.zeros(length, &mut sink),
            }
        })?;
        splitter.finish(&mut sink)?;
        match sink.judge.finish() {
            Demand::Nothing => Ok(None),
            Demand::LeaveOut => Err(Failed::Purged),
            Demand::Cut(ranges, messages) => Ok(Some((Cuts { ranges, digest: digest.finish() }, messages))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_leave_the_rest_however_it_is_sliced() {
        let whole: Vec<u8> = (0..100).collect();
        let cuts = Cuts { ranges: vec![0..3, 10..20, 50..51, 90..100], digest: blake3::hash(b"") };
        let expected: Vec<u8> =
            whole.iter().copied().filter(|byte| !matches!(byte, 0..3 | 10..20 | 50 | 90..)).collect();
        for slice in [1, 7, 10, 33, 100] {
            let mut left = Vec::new();
            for (number, bytes) in whole.chunks(slice).enumerate() {
                cuts.left((number * slice) as u64, bytes)
                    .iter()
                    .for_each(|part| left.extend_from_slice(part));
            }
            assert_eq!(left, expected, "{slice}");
        }
    }
}
