//! Finds the delimiter lines of the multiparts that are open.

use memchr::memchr;
use memchr::memmem::Finder;

/// Longest delimiter line, bytes with its ending; also how far behind a line start one must see.
pub const DELIMITER_MAX: usize = 1024;
/// Deepest nesting of multiparts that is followed.
const DEPTH_MAX: usize = 32;

/// A delimiter line of the open multipart number `depth`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delimiter {
    /// Index of the multipart, outermost first.
    pub depth: usize,
    /// The line ends the multipart.
    pub closing: bool,
}

/// What the next bytes hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scan {
    /// A delimiter line of `length` bytes begins at `at`.
    Found {
        /// Where it begins.
        at: usize,
        /// Its length with its ending.
        length: usize,
        /// Which it is.
        delimiter: Delimiter,
    },
    /// No delimiter line begins in that many bytes; one may behind them.
    Clear(usize),
}

/// The boundaries of the multiparts that are open, outermost first.
pub struct Boundaries {
    open: Vec<Vec<u8>>,
    dashes: Finder<'static>,
}

impl Default for Boundaries {
    fn default() -> Self {
        Boundaries { open: Vec::new(), dashes: Finder::new(b"\n--") }
    }
}

enum Line {
    Is(usize, Delimiter),
    No,
    More,
}

impl Boundaries {
    /// Forgets all multiparts.
    pub fn clear(&mut self) {
        self.open.clear();
    }

    /// Enters a multipart; false when it is nested too deep to be followed.
    pub fn enter(&mut self, boundary: Vec<u8>) -> bool {
        let fits = self.open.len() < DEPTH_MAX;
        if fits {
            self.open.push(boundary);
        }
        fits
    }

    /// Leaves the multiparts that a delimiter line ends.
    pub fn pass(&mut self, delimiter: Delimiter) {
        self.open.truncate(delimiter.depth + usize::from(!delimiter.closing));
    }

    /// Reads a whole line with its ending.
    pub fn read(&self, line: &[u8]) -> Option<Delimiter> {
        let rest = line.strip_prefix(b"--").filter(|_| line.len() <= DELIMITER_MAX)?.trim_ascii_end();
        self.open.iter().enumerate().rev().find_map(|(depth, boundary)| {
            let behind = rest.strip_prefix(&boundary[..])?;
            let closing = behind == b"--";
            (closing || behind.is_empty()).then_some(Delimiter { depth, closing })
        })
    }

    /// Looks for the next delimiter line. `line_start` when `data` begins a line, `end` when nothing follows
    /// it.
    pub fn scan(&self, data: &[u8], line_start: bool, end: bool) -> Scan {
        if self.open.is_empty() {
            return Scan::Clear(data.len());
        }
        if line_start {
            match self.look(data, end) {
                Line::Is(length, delimiter) => return Scan::Found { at: 0, length, delimiter },
                Line::More => return Scan::Clear(0),
                Line::No => {}
            }
        }
        for newline in self.dashes.find_iter(data) {
            let at = newline + 1;
            match self.look(&data[at..], end) {
                Line::Is(length, delimiter) => return Scan::Found { at, length, delimiter },
                Line::More => return Scan::Clear(at),
                Line::No => {}
            }
        }
        let begun = !end && data.ends_with(b"\n-");
        Scan::Clear(data.len() - usize::from(begun))
    }

    fn look(&self, line: &[u8], end: bool) -> Line {
        if !line.starts_with(b"--") {
            return if !end && b"--".starts_with(line) { Line::More } else { Line::No };
        }
        let window = &line[..line.len().min(DELIMITER_MAX)];
        let length = match memchr(b'\n', window) {
            Some(at) => at + 1,
            None if window.len() == DELIMITER_MAX => return Line::No,
            None if end => window.len(),
            None => return Line::More,
        };
        self.read(&line[..length]).map_or(Line::No, |delimiter| Line::Is(length, delimiter))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boundaries() -> Boundaries {
        let mut boundaries = Boundaries::default();
        assert!(boundaries.enter(b"outer".to_vec()) && boundaries.enter(b"outer2".to_vec()));
        boundaries
    }

    #[test]
    fn delimiter_lines_are_whole_lines() {
        let open = boundaries();
        let found =
            |at, length, depth, closing| Scan::Found { at, length, delimiter: Delimiter { depth, closing } };
        assert_eq!(open.scan(b"a\n--outer\nb", true, false), found(2, 8, 0, false));
        assert_eq!(open.scan(b"--outer2-- \r\nb", true, false), found(0, 13, 1, true));
        assert_eq!(open.scan(b"--outer\n", false, true), Scan::Clear(8));
        assert_eq!(open.scan(b"x\n--outer--", false, true), found(2, 9, 0, true));
        assert_eq!(open.scan(b"x\n--outer--", false, false), Scan::Clear(2));
        assert_eq!(open.scan(b"x\n--outer3\n\n-- \n-", true, false), Scan::Clear(16));
        assert_eq!(open.scan(b"-", true, false), Scan::Clear(0));
        assert_eq!(open.scan(b"-", true, true), Scan::Clear(1));
        assert_eq!(open.scan(b"", true, false), Scan::Clear(0));
        let long = [b"--outer", &[b' '; 2000][..], b"\n"].concat();
        assert_eq!(open.scan(&long, true, false), Scan::Clear(long.len()));
    }

    #[test]
    fn depth_is_bounded() {
        let mut open = Boundaries::default();
        assert_eq!((0..100).filter(|_| open.enter(b"x".to_vec())).count(), DEPTH_MAX);
        open.pass(Delimiter { depth: 0, closing: true });
        assert!(open.open.is_empty());
    }
}
