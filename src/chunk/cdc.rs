//! Content-defined chunks: FastCDC with normalised sizes, over a gear table drawn from a secret.
//!
//! The whole table is secret, not one seed mixed into a known table: with a known table an exclusive-or of 64
//! bits is found from a few observed cuts. The loop is our own because it goes on where the last bytes ended;
//! nothing is scanned twice or moved.

/// Smallest chunk but for the last of a stream, bytes.
pub const CHUNK_BYTES_MIN: usize = 256 << 10;
/// Size that chunks are drawn towards, bytes.
pub const CHUNK_BYTES_AIM: usize = 1 << 20;
/// Largest chunk, bytes.
pub const CHUNK_BYTES_MAX: usize = 4 << 20;
/// A stream shorter than this is one chunk, bytes.
pub const WHOLE_BYTES: usize = 1 << 20;

/// Bytes that still weigh in the hash.
const WINDOW: usize = 64;
/// A cut before the aim needs 22 zero bits, after it 18.
const STRICT: u64 = 1 << (64 - 22);
const LOOSE: u64 = 1 << (64 - 18);

/// The secret table that decides where chunks end.
pub struct Gear([u64; 256]);

impl Gear {
    /// Derives the table: 2,048 bytes of keyed BLAKE3 output, as little-endian words.
    pub fn new(secret: &[u8; 32]) -> Gear {
        let mut bytes = [0; 2048];
        blake3::Hasher::new_keyed(secret).update(b"mailark gear table").finalize_xof().fill(&mut bytes);
        let mut table = [0; 256];
        for (word, bytes) in table.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        Gear(table)
    }

    /// The hash after one more byte; the byte 64 before it has lost its weight.
    #[inline(always)]
    pub fn roll(&self, hash: u64, byte: u8) -> u64 {
        (hash << 1).wrapping_add(self.0[usize::from(byte)])
    }

    /// Rolls over `bytes` until the hash falls below `threshold`; returns how many bytes that took.
    #[inline]
    fn search(&self, hash: &mut u64, bytes: &[u8], threshold: u64) -> Option<usize> {
        let mut rolled = *hash;
        for (index, &byte) in bytes.iter().enumerate() {
            rolled = self.roll(rolled, byte);
            if rolled < threshold {
                *hash = rolled;
                return Some(index + 1);
            }
        }
        *hash = rolled;
        None
    }
}

/// Cuts one stream at a time into chunks.
#[derive(Default)]
pub struct Chunker {
    /// The chunk that is not complete yet.
    buffer: Vec<u8>,
    hash: u64,
    /// The stream is too long for one chunk.
    cutting: bool,
}

impl Chunker {
    /// Takes bytes and gives each complete chunk to `emit`.
    pub fn push<E>(
        &mut self,
        gear: &Gear,
        bytes: &[u8],
        mut emit: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.cutting {
            return self.cut(gear, bytes, &mut emit);
        }
        let room = WHOLE_BYTES - self.buffer.len();
        if bytes.len() < room {
            self.buffer.extend_from_slice(bytes);
            return Ok(());
        }
        let (fitting, rest) = bytes.split_at(room);
        self.buffer.extend_from_slice(fitting);
        self.cutting = true;
        let whole = std::mem::take(&mut self.buffer);
        self.cut(gear, &whole, &mut emit)?;
        self.cut(gear, rest, &mut emit)
    }

    /// Ends the stream: the rest is the last chunk. The chunker is ready for another stream.
    pub fn finish<E>(&mut self, emit: impl FnOnce(&[u8]) -> Result<(), E>) -> Result<(), E> {
        let result = if self.buffer.is_empty() { Ok(()) } else { emit(&self.buffer) };
        self.reset();
        result
    }

    /// Forgets a stream that was not finished.
    pub fn reset(&mut self) {
        self.buffer.clear();
        self.hash = 0;
        self.cutting = false;
    }

    fn cut<E>(
        &mut self,
        gear: &Gear,
        mut bytes: &[u8],
        emit: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        while let Some(length) = self.find_end(gear, bytes) {
            let (chunk, rest) = bytes.split_at(length);
            self.hash = 0;
            if self.buffer.is_empty() {
                emit(chunk)?;
            } else {
                self.buffer.extend_from_slice(chunk);
                emit(&self.buffer)?;
                self.buffer.clear();
            }
            bytes = rest;
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    /// How many of `bytes` still belong to the open chunk; `None` when it goes on behind them.
    fn find_end(&mut self, gear: &Gear, bytes: &[u8]) -> Option<usize> {
        let start = self.buffer.len();
        let at = |position: usize| position.saturating_sub(start).min(bytes.len());
        let stretches = [
            (CHUNK_BYTES_MIN - WINDOW, CHUNK_BYTES_MIN, 0),
            (CHUNK_BYTES_MIN, CHUNK_BYTES_AIM, STRICT),
            (CHUNK_BYTES_AIM, CHUNK_BYTES_MAX, LOOSE),
        ];
        for (from, to, threshold) in stretches {
            let from = at(from);
            if let Some(length) = gear.search(&mut self.hash, &bytes[from..at(to)], threshold) {
                return Some(from + length);
            }
        }
        (start + bytes.len() >= CHUNK_BYTES_MAX).then(|| CHUNK_BYTES_MAX - start)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    /// Bytes without pattern, the same for the same seed.
    fn noise(seed: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
        bytes
    }

    fn chunks(gear: &Gear, bytes: &[u8], step: usize) -> Vec<Vec<u8>> {
        let mut chunker = Chunker::default();
        let mut found = Vec::new();
        let mut keep = |chunk: &[u8]| {
            found.push(chunk.to_vec());
            Ok::<_, Infallible>(())
        };
        for slice in bytes.chunks(step) {
            chunker.push(gear, slice, &mut keep).unwrap();
        }
        chunker.finish(&mut keep).unwrap();
        found
    }

    #[test]
    fn sizes_stay_in_bounds_and_slicing_does_not_matter() {
        let gear = Gear::new(&[7; 32]);
        let bytes = noise(1, 24 << 20);
        let found = chunks(&gear, &bytes, 1 << 20);
        assert_eq!(found.concat(), bytes);
        assert!((12..60).contains(&found.len()), "{}", found.len());
        assert!(
            found[..found.len() - 1].iter().all(|c| (CHUNK_BYTES_MIN..=CHUNK_BYTES_MAX).contains(&c.len()))
        );
        assert_eq!(chunks(&gear, &bytes, 9_999), found);
        assert_eq!(chunks(&gear, &bytes, usize::MAX), found);
        assert_ne!(chunks(&Gear::new(&[8; 32]), &bytes, 1 << 20), found);
        assert_eq!(
            chunks(&gear, &vec![0; 9 << 20], 1 << 20).iter().map(Vec::len).max(),
            Some(CHUNK_BYTES_MAX)
        );
    }

    #[test]
    fn short_streams_are_one_chunk() {
        let gear = Gear::new(&[7; 32]);
        assert_eq!(chunks(&gear, &noise(2, WHOLE_BYTES - 1), 5_000).len(), 1);
        assert!(chunks(&gear, b"", 1).is_empty());
    }

    #[test]
    fn an_insertion_changes_few_chunks() {
        let gear = Gear::new(&[7; 32]);
        let mut bytes = noise(3, 16 << 20);
        let before = chunks(&gear, &bytes, 1 << 20);
        bytes.splice(3 << 20..3 << 20, *b"inserted");
        let after = chunks(&gear, &bytes, 1 << 20);
        let shared = after.iter().filter(|chunk| before.contains(chunk)).count();
        assert!(shared + 3 >= after.len(), "{shared} of {}", after.len());
    }
}
