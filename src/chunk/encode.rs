//! Encodes a stream as base64 lines, any number of bytes at a time.
//!
//! What is left over between two calls is a few bytes, never a line, so that a hostile section with a
//! thousand pieces of long lines costs no memory.

use base64_simd::STANDARD;

use crate::format::content::Base64Lines;

/// Where in a stream of base64 lines the encoding stands.
pub struct Encoder {
    lines: Base64Lines,
    /// Characters of the current line so far.
    column: usize,
    /// Bytes that do not fill a quantum yet.
    carry: Vec<u8>,
    /// Encoded bytes that were not wanted yet: less than a quantum, or than a line ending.
    spare: Vec<u8>,
    ended: bool,
}

impl Encoder {
    /// Begins a stream.
    pub fn new(lines: Base64Lines) -> Encoder {
        Encoder { lines, column: 0, carry: Vec::new(), spare: Vec::new(), ended: false }
    }

    /// Encodes from `bytes` until `out`, which is empty, holds `wanted` bytes; returns how many it used, at
    /// least one unless `out` is full.
    pub fn feed(&mut self, bytes: &[u8], wanted: usize, out: &mut Vec<u8>) -> usize {
        self.put_spare(wanted, out);
        let mut used = 0;
        while out.len() < wanted && used < bytes.len() {
            if self.column == self.width() {
                self.put_ending(wanted, out);
                continue;
            }
            let rest = &bytes[used..];
            let fitting =
                ((self.width() - self.column) / 4).min((wanted - out.len()) / 4).min(rest.len() / 3);
            if self.carry.is_empty() && fitting > 0 {
                STANDARD.encode_append(&rest[..fitting * 3], out);
                self.column += fitting * 4;
                used += fitting * 3;
            } else {
                let missing = (3 - self.carry.len()).min(rest.len());
                self.carry.extend_from_slice(&rest[..missing]);
                used += missing;
                if self.carry.len() == 3 {
                    self.put_quantum(wanted, out);
                }
            }
        }
        used
    }

    /// Encodes the end of the stream into `out`, which is empty, up to `wanted` bytes.
    pub fn end(&mut self, wanted: usize, out: &mut Vec<u8>) {
        self.put_spare(wanted, out);
        while out.len() < wanted && !self.ended {
            if self.carry.is_empty() {
                self.ended = true;
                if self.lines.closed && self.column > 0 {
                    self.put_ending(wanted, out);
                }
            } else if self.column == self.width() {
                self.put_ending(wanted, out);
            } else {
                self.put_quantum(wanted, out);
            }
        }
    }

    /// True when all that was fed has been given out, and the last line ending too where there is one.
    pub fn is_used_up(&self) -> bool {
        let ending = self.ended || !self.lines.closed || self.column == 0;
        self.spare.is_empty() && self.carry.is_empty() && ending
    }

    fn width(&self) -> usize {
        self.lines.width as usize
    }

    fn put_spare(&mut self, wanted: usize, out: &mut Vec<u8>) {
        let fitting = self.spare.len().min(wanted);
        out.extend(self.spare.drain(..fitting));
    }

    fn put_quantum(&mut self, wanted: usize, out: &mut Vec<u8>) {
        STANDARD.encode_append(&self.carry, out);
        self.carry.clear();
        self.column += 4;
        self.keep_spare(wanted, out);
    }

    fn put_ending(&mut self, wanted: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(if self.lines.crlf { b"\r\n" } else { b"\n" });
        self.column = 0;
        self.keep_spare(wanted, out);
    }

    fn keep_spare(&mut self, wanted: usize, out: &mut Vec<u8>) {
        if out.len() > wanted {
            self.spare.extend(out.drain(wanted..));
        }
    }
}
