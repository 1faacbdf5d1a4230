//! Layer 1: compression of segments, with one bounded decoder.

use std::borrow::Cow;
use std::cell::RefCell;

use crate::base::limits;
use crate::format::content::BlobKind;
use crate::format::pack::Compression;

/// A segment could not be compressed or decompressed.
#[derive(Debug, thiserror::Error)]
pub enum CompressError {
    /// zstd refused the bytes.
    #[error("zstd: {0}")]
    Zstd(#[from] std::io::Error),
    /// The result has another length than the segment table says.
    #[error("decompressed to {got} bytes instead of {expected}")]
    Length {
        /// By the segment table.
        expected: usize,
        /// What came out.
        got: usize,
    },
}

/// Below this share of the original, compression is worth the reader's time.
const WORTH_NUMERATOR: usize = 97;
const WORTH_DENOMINATOR: usize = 100;
/// Attachments are probed on this many bytes before all of them are compressed.
const PROBE_BYTES: usize = 64 << 10;

thread_local! {
    static COMPRESSOR: RefCell<Option<(i32, zstd::bulk::Compressor<'static>)>> = const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<zstd::bulk::Decompressor<'static>>> = const { RefCell::new(None) };
}

/// How much time a segment is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// Somebody waits for the backup.
    Usual,
    /// It was compressed once before and stays for long.
    Repack,
}

/// The zstd level of a kind; by measurement, see `benches/RESULTS.md`.
fn level(kind: BlobKind, effort: Effort) -> i32 {
    match (kind, effort) {
        (BlobKind::Attachment, _) => 1,
        (_, Effort::Usual) => 3,
        (_, Effort::Repack) => 9,
    }
}

fn worth(compressed: usize, plain: usize) -> bool {
    compressed * WORTH_DENOMINATOR < plain * WORTH_NUMERATOR
}

fn zstd_into(level: i32, plain: &[u8]) -> Result<Vec<u8>, CompressError> {
    COMPRESSOR.with_borrow_mut(|slot| {
        if slot.as_ref().is_none_or(|(made_for, _)| *made_for != level) {
            *slot = Some((level, zstd::bulk::Compressor::new(level)?));
        }
        let (_, compressor) = slot.as_mut().expect("set above");
        Ok(compressor.compress(plain)?)
    })
}

/// Compresses the plaintext of a segment; gives `None` when it would not become smaller.
pub fn compress(kind: BlobKind, plain: &[u8], effort: Effort) -> Result<Option<Vec<u8>>, CompressError> {
    if kind == BlobKind::Attachment && plain.len() > 2 * PROBE_BYTES {
        // The middle: a document's first kilobyte says little about the picture that follows it.
        let start = (plain.len() - PROBE_BYTES) / 2;
        let probe = zstd_into(1, &plain[start..start + PROBE_BYTES])?;
        if !worth(probe.len(), PROBE_BYTES) {
            return Ok(None);
        }
    }
    let compressed = zstd_into(level(kind, effort), plain)?;
    if !worth(compressed.len(), plain.len()) {
        return Ok(None);
    }
    Ok(Some(compressed))
}

/// Gives the plaintext of a segment of exactly `length` bytes.
pub fn decompress(
    compression: Compression,
    stored: &[u8],
    length: usize,
) -> Result<Cow<'_, [u8]>, CompressError> {
    let plain = match compression {
        Compression::None => Cow::Borrowed(stored),
        Compression::Zstd => DECOMPRESSOR.with_borrow_mut(|slot| -> Result<_, CompressError> {
            if slot.is_none() {
                let mut decompressor = zstd::bulk::Decompressor::new()?;
                let window = zstd::zstd_safe::DParameter::WindowLogMax(limits::ZSTD_WINDOW_LOG_MAX);
                decompressor.set_parameter(window)?;
                *slot = Some(decompressor);
            }
            Ok(Cow::Owned(slot.as_mut().expect("set above").decompress(stored, length)?))
        })?,
    };
    if plain.len() == length {
        Ok(plain)
    } else {
        Err(CompressError::Length { expected: length, got: plain.len() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_round_trip_and_noise_stays_raw() {
        let text = b"Received: from mx1.example.org\r\n".repeat(5000);
        let small = compress(BlobKind::Head, &text, Effort::Usual).unwrap().unwrap();
        assert!(small.len() < text.len() / 50);
        assert_eq!(decompress(Compression::Zstd, &small, text.len()).unwrap(), text);
        assert!(decompress(Compression::Zstd, &small, text.len() - 1).is_err());
        assert!(decompress(Compression::Zstd, &small[..small.len() / 2], text.len()).is_err());
        let mut noise = vec![0; 300_000];
        blake3::Hasher::new().finalize_xof().fill(&mut noise);
        assert_eq!(compress(BlobKind::Attachment, &noise, Effort::Usual).unwrap(), None);
        assert_eq!(decompress(Compression::None, &noise, noise.len()).unwrap(), noise);
    }

    #[test]
    fn a_bomb_gives_an_error() {
        let bomb = zstd::bulk::compress(&vec![0; 50 << 20], 3).unwrap();
        assert!(decompress(Compression::Zstd, &bomb, 1000).is_err());
    }
}
