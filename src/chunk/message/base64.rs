//! Base64 as it stands in messages: lines of one width, decoded only where encoding gives the same bytes
//! back.
//!
//! Full lines hold a multiple of four characters of the alphabet and no padding; four such characters and
//! three bytes are one to one, so decoding strictly is the proof that encoding again is exact. Only the last
//! line may hold padding; it is encoded again and compared.

use base64_simd::{STANDARD, STANDARD_NO_PAD};
use memchr::memchr;

use crate::base::limits;

/// Lines that are decoded in one go hold about this many characters, to stay in the first-level cache.
const BLOCK_CHARACTERS: usize = 8 << 10;

/// The lines of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lines {
    /// Characters per line, a multiple of 4.
    pub width: usize,
    /// Lines end with CRLF.
    pub crlf: bool,
}

/// Why a part does not begin with a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deviation {
    /// Fewer than 4 KiB come before the end of the lines.
    Small,
    /// A line of another width or ending.
    Irregular,
    /// Characters outside the alphabet.
    Characters,
    /// Encoding again would give other characters.
    NotCanonical,
}

/// What the first lines of a part say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// More bytes are needed.
    More,
    /// A run begins here that holds an attachment.
    Run(Lines),
    /// None does.
    Raw(Deviation),
}

/// Buffers that blocks pass through.
#[derive(Default)]
pub struct Decoder {
    stripped: Vec<u8>,
    /// What the last call decoded.
    pub decoded: Vec<u8>,
}

impl Lines {
    /// Bytes of a full line with its ending.
    pub fn stride(self) -> usize {
        self.width + self.ending().len()
    }

    /// Bytes that a full line holds.
    fn decoded(self) -> usize {
        self.width / 4 * 3
    }

    fn ending(self) -> &'static [u8] {
        if self.crlf { b"\r\n" } else { b"\n" }
    }

    /// Full lines at the start of `data`, by the place of their endings alone.
    fn count(self, data: &[u8], most: usize) -> usize {
        let mut lines = data.chunks_exact(self.stride()).take(most);
        let regular =
            |line: &[u8]| line[line.len() - 1] == b'\n' && (!self.crlf || line[line.len() - 2] == b'\r');
        lines.by_ref().take_while(|line| regular(line)).count()
    }
}

impl Decoder {
    /// Decodes the regular full lines at the start of `data`, at most `most` and about a block; returns how
    /// many.
    pub fn full_lines(&mut self, data: &[u8], lines: Lines, most: usize) -> usize {
        let block = (BLOCK_CHARACTERS / lines.width).max(1);
        let count = lines.count(data, most.min(block));
        self.decoded.clear();
        self.stripped.clear();
        for line in data.chunks_exact(lines.stride()).take(count) {
            self.stripped.extend_from_slice(&line[..lines.width]);
        }
        if STANDARD_NO_PAD.decode_append(&self.stripped, &mut self.decoded).is_ok() {
            return count;
        }
        self.decoded.clear();
        let good = |line: &&[u8]| STANDARD_NO_PAD.check(line).is_ok();
        let count = self.stripped.chunks_exact(lines.width).take_while(good).count();
        let checked = &self.stripped[..count * lines.width];
        STANDARD_NO_PAD.decode_append(checked, &mut self.decoded).expect("the lines have just been checked");
        count
    }

    /// Decodes the last line of a run, which `data` begins with; returns its length and whether it has the
    /// ending of the others. `None` when the line is no base64 or does not come back the same.
    pub fn last_line(&mut self, data: &[u8], lines: Lines) -> Option<(usize, bool)> {
        let content = line_content(data, lines.width)?;
        self.decoded.clear();
        if content.is_empty() || STANDARD.decode_append(content, &mut self.decoded).is_err() {
            return None;
        }
        self.stripped.clear();
        STANDARD.encode_append(&self.decoded, &mut self.stripped);
        if self.stripped != content {
            return None;
        }
        let closed = data[content.len()..].starts_with(lines.ending());
        Some((content.len() + if closed { lines.ending().len() } else { 0 }, closed))
    }

    /// Looks at the start of a part's body, at a line that is not blank. `end` when nothing follows `data`.
    pub fn probe(&mut self, data: &[u8], end: bool) -> Probe {
        let window = &data[..data.len().min(limits::BASE64_WIDTH_MAX + 2)];
        let (width, crlf) = match memchr(b'\n', window) {
            Some(at) if window[..at].ends_with(b"\r") => (at - 1, true),
            Some(at) => (at, false),
            None if window.len() < data.len() => return Probe::Raw(Deviation::Irregular),
            None if end => (window.len(), false),
            None => return Probe::More,
        };
        if !(limits::BASE64_WIDTH_MIN..=limits::BASE64_WIDTH_MAX).contains(&width) || !width.is_multiple_of(4)
        {
            return Probe::Raw(deviation(data, limits::BASE64_WIDTH_MAX));
        }
        let lines = Lines { width, crlf };
        let wanted = limits::ATTACHMENT_BYTES_MIN.div_ceil(lines.decoded());
        // One byte more, for a CRLF where LF is expected.
        if data.len() <= wanted * lines.stride() && !end {
            return Probe::More;
        }
        let mut taken = 0;
        let mut count = self.full_lines(data, lines, wanted);
        while count > 0 {
            taken += count;
            count = self.full_lines(&data[taken * lines.stride()..], lines, wanted - taken);
        }
        let rest = &data[taken * lines.stride()..];
        let mut decoded = taken * lines.decoded();
        if decoded < limits::ATTACHMENT_BYTES_MIN && self.last_line(rest, lines).is_some() {
            decoded += self.decoded.len();
        }
        if decoded >= limits::ATTACHMENT_BYTES_MIN {
            Probe::Run(lines)
        } else {
            Probe::Raw(deviation(rest, width))
        }
    }
}

/// The characters of the line that `data` begins with, without a line ending of either kind; `None` when
/// there are more than `width`.
fn line_content(data: &[u8], width: usize) -> Option<&[u8]> {
    let window = &data[..data.len().min(width + 2)];
    let content = match memchr(b'\n', window) {
        Some(at) => window[..at].strip_suffix(b"\r").unwrap_or(&window[..at]),
        None => window,
    };
    (content.len() <= width).then_some(content)
}

/// Names what is wrong with the line that `data` begins with.
fn deviation(data: &[u8], width: usize) -> Deviation {
    let Some(content) = line_content(data, width) else { return Deviation::Irregular };
    let alphabet = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    let padding = content.iter().rev().take_while(|&&byte| byte == b'=').count();
    if content.is_empty() || content.starts_with(b"--") {
        Deviation::Small
    } else if !content[..content.len() - padding].iter().all(alphabet) {
        Deviation::Characters
    } else if content.len() % 4 != 0 {
        Deviation::Irregular
    } else if STANDARD.check(content).is_ok() {
        // A good last line: the part is over, and too short.
        Deviation::Small
    } else {
        Deviation::NotCanonical
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(bytes: usize, width: usize, ending: &str) -> Vec<u8> {
        let bytes: Vec<u8> = (0..bytes).map(|i| (i * 7 + i / 251) as u8).collect();
        let text = STANDARD.encode_to_string(&bytes);
        text.as_bytes().chunks(width).flat_map(|line| [line, ending.as_bytes()].concat()).collect()
    }

    #[test]
    fn probing_finds_width_ending_and_size() {
        let mut decoder = Decoder::default();
        for (width, ending, crlf) in [(76, "\r\n", true), (4, "\n", false), (65_536, "\r\n", true)] {
            let run = Probe::Run(Lines { width, crlf });
            let lines = encoded(60_000, width, ending);
            assert_eq!(decoder.probe(&lines, true), run);
            assert_eq!(decoder.probe(&lines[..width / 2], false), Probe::More);
        }
        assert_eq!(
            decoder.probe(&encoded(4096, 76, "\n"), true),
            Probe::Run(Lines { width: 76, crlf: false })
        );
        assert_eq!(decoder.probe(&encoded(4095, 76, "\n"), true), Probe::Raw(Deviation::Small));
        assert_eq!(decoder.probe(&encoded(60_000, 78, "\n"), true), Probe::Raw(Deviation::Irregular));
        assert_eq!(decoder.probe(&vec![b'A'; 70_000], false), Probe::Raw(Deviation::Irregular));
        let unterminated = encoded(5000, 80_000, "");
        assert_eq!(
            decoder.probe(&unterminated, true),
            Probe::Run(Lines { width: unterminated.len(), crlf: false })
        );
    }

    #[test]
    fn deviating_lines_have_names() {
        let mut decoder = Decoder::default();
        let mut spoilt = |at: usize, with: &[u8]| {
            let mut lines = encoded(6000, 76, "\n");
            lines.splice(at..at + with.len(), with.iter().copied());
            decoder.probe(&lines, true)
        };
        assert_eq!(spoilt(77 * 3, b"!"), Probe::Raw(Deviation::Characters));
        assert_eq!(spoilt(77 * 3 + 70, b"\n"), Probe::Raw(Deviation::Irregular));
        assert_eq!(spoilt(77 * 4 - 3, b"B="), Probe::Raw(Deviation::NotCanonical));
    }

    #[test]
    fn last_lines_must_come_back_the_same() {
        let mut decoder = Decoder::default();
        let lines = Lines { width: 8, crlf: true };
        assert_eq!(decoder.last_line(b"QUI=\r\nx", lines), Some((6, true)));
        assert_eq!(decoder.last_line(b"QUI=\nx", lines), Some((4, false)));
        assert_eq!(decoder.last_line(b"QUJDREVG", lines), Some((8, false)));
        for wrong in
            [&b"QUJ=\r\n"[..], b"QUI\r\n", b"\r\n", b"", b"QUJDREVGQUJD\r\n", b"QU=I\r\n", b"====\r\n"]
        {
            assert_eq!(decoder.last_line(wrong, lines), None);
        }
    }
}
