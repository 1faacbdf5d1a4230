//! Layer 1: a file's bytes into pieces and back, bit-exactly and in bounded memory.
//!
//! [`Splitter`] cuts a stream into sections and hands blobs to a [`Sink`]; [`join()`] turns a section back
//! into bytes. What is cut where is a matter of deduplication and compression alone: `join` of what was split
//! gives the same bytes, whatever they are, and nothing a message holds can make splitting fail.

mod assembly;
mod cdc;
mod encode;
mod frames;
mod join;
mod lines;
mod message;
mod plain;
mod range;
mod splitter;
mod stats;
#[cfg(test)]
mod tests;

pub use join::{BlobSource, JoinError, join};
pub use range::{MeasuredSource, join_range};
pub use splitter::Splitter;
pub use stats::{RawAttachments, SplitStats};

use crate::base::id::BlobId;
use crate::format::content::{BlobKind, Section};
pub use crate::mail::hint::{Hint, hint_for};

/// Receives what a splitter cuts.
pub trait Sink {
    /// Why the sink cannot take more.
    type Error;

    /// Takes a blob, 1 to `limits::BLOB_BYTES_MAX` bytes, and returns its id.
    fn blob(&mut self, kind: BlobKind, data: &[u8]) -> Result<BlobId, Self::Error>;

    /// Takes the next section of the file; its blobs have all been given to `blob` before.
    fn section(&mut self, section: Section) -> Result<(), Self::Error>;
}
