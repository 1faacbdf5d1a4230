//! Content-defined groups of lines, for files that are rewritten all the time and change by a line.

use super::cdc::Gear;

/// Smallest group but for the last, bytes.
const GROUP_BYTES_MIN: usize = 4 << 10;
/// Largest group, bytes; a longer line is cut.
const GROUP_BYTES_MAX: usize = 32 << 10;
/// One line in 64 ends a group that is large enough, so that groups of 70-byte lines come to about 8 KiB.
const THRESHOLD: u64 = 1 << (64 - 6);

/// Cuts a stream of lines into groups.
#[derive(Default)]
pub struct LineGroups {
    buffer: Vec<u8>,
    hash: u64,
}

impl LineGroups {
    /// Takes bytes and gives each complete group to `emit`.
    pub fn push<E>(
        &mut self,
        gear: &Gear,
        mut bytes: &[u8],
        mut emit: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        while !bytes.is_empty() {
            let window = &bytes[..bytes.len().min(GROUP_BYTES_MAX - self.buffer.len())];
            let newline = memchr::memchr(b'\n', window);
            let (line, rest) = bytes.split_at(newline.map_or(window.len(), |at| at + 1));
            self.hash = line.iter().fold(self.hash, |hash, &byte| gear.roll(hash, byte));
            self.buffer.extend_from_slice(line);
            bytes = rest;
            let due = newline.is_some() && self.buffer.len() >= GROUP_BYTES_MIN && self.hash < THRESHOLD;
            if due || self.buffer.len() == GROUP_BYTES_MAX {
                emit(&self.buffer)?;
                self.buffer.clear();
            }
            if newline.is_some() {
                self.hash = 0;
            }
        }
        Ok(())
    }

    /// Ends the stream: the rest is the last group.
    pub fn finish<E>(&mut self, emit: impl FnOnce(&[u8]) -> Result<(), E>) -> Result<(), E> {
        let result = if self.buffer.is_empty() { Ok(()) } else { emit(&self.buffer) };
        self.reset();
        result
    }

    /// Forgets a stream that was not finished.
    pub fn reset(&mut self) {
        self.buffer.clear();
        self.hash = 0;
    }
}
