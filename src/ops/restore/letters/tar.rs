//! A tar archive (ustar, with pax headers where a name or a size needs one), written as it comes.

use std::collections::HashSet;
use std::io::Write;

use super::mbox::safe_name;
use super::sink::{Meta, Sink};
use super::{LetterError, PutError, Read};
use crate::repo::extract::ExtractError;

const BLOCK: usize = 512;
/// What the octal field of a size holds.
const SIZE_MAX: u64 = 0o77_777_777_777;
const NAME_MAX: usize = 100;
const ZEROS: [u8; BLOCK] = [0; BLOCK];

/// Writes an archive.
pub struct TarSink<W> {
    out: W,
    top: Vec<u8>,
    folders: HashSet<Vec<Vec<u8>>>,
    /// Names that are taken, by their digests.
    files: HashSet<[u8; 16]>,
}

/// Writes digits and a NUL into a field.
fn octal(field: &mut [u8], value: u64) {
    let digits = format!("{value:0width$o}", width = field.len() - 1);
    field[..digits.len()].copy_from_slice(digits.as_bytes());
}

fn text(field: &mut [u8], value: &[u8]) {
    let length = value.len().min(field.len());
    field[..length].copy_from_slice(&value[..length]);
}

fn header(path: &[u8], kind: u8, size: u64, meta: &Meta<'_>) -> [u8; BLOCK] {
    let mut block = ZEROS;
    text(&mut block[..NAME_MAX], path);
    octal(&mut block[100..108], (meta.mode & 0o7777).into());
    octal(&mut block[108..116], u64::from(meta.owner.uid).min(0o7_777_777));
    octal(&mut block[116..124], u64::from(meta.owner.gid).min(0o7_777_777));
    octal(&mut block[124..136], size.min(SIZE_MAX));
    octal(&mut block[136..148], meta.mtime_s.max(0) as u64 & SIZE_MAX);
    block[156] = kind;
    text(&mut block[257..265], b"ustar\x0000");
    text(&mut block[265..296], &meta.owner.user);
    text(&mut block[297..328], &meta.owner.group);
    block[148..156].fill(b' ');
    let sum: u64 = block.iter().map(|&byte| u64::from(byte)).sum();
    octal(&mut block[148..155], sum);
    block[154] = 0;
    block
}

/// A line of a pax header: its own length, a blank, `key=value`, a line feed.
fn pax_line(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length.to_string().len() + rest != length {
        length = length.to_string().len() + rest;
    }
    [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
}

impl<W: Write> TarSink<W> {
    /// Writes into a stream; everything lies in a folder called `top`.
    pub fn new(out: W, top: &str) -> TarSink<W> {
        TarSink {
            out,
            top: safe_name(top, NAME_MAX / 2).into_bytes(),
            folders: HashSet::new(),
            files: HashSet::new(),
        }
    }

    /// What comes next lies in a folder of this name, which is safe, and which no other one has.
    pub fn go_into(&mut self, top: &str) {
        self.top = top.as_bytes().to_vec();
        self.folders.clear();
        self.files.clear();
    }

    fn path(&self, path: &[Vec<u8>]) -> Vec<u8> {
        [std::slice::from_ref(&self.top), path].concat().join(&b'/')
    }

    fn pad(&mut self, length: u64) -> std::io::Result<()> {
        let over = (length % BLOCK as u64) as usize;
        if over == 0 { Ok(()) } else { self.out.write_all(&ZEROS[over..]) }
    }

    fn entry(&mut self, path: &[u8], kind: u8, size: u64, meta: &Meta<'_>) -> std::io::Result<()> {
        let mut pax = Vec::new();
        if path.len() > NAME_MAX {
            pax.extend_from_slice(&pax_line("path", path));
        }
        if size > SIZE_MAX {
            pax.extend_from_slice(&pax_line("size", size.to_string().as_bytes()));
        }
        if !pax.is_empty() {
            self.out.write_all(&header(b"pax", b'x', pax.len() as u64, meta))?;
            self.out.write_all(&pax)?;
            self.pad(pax.len() as u64)?;
        }
        self.out.write_all(&header(path, kind, size, meta))
    }
}

impl<W: Write> Sink for TarSink<W> {
    fn folder(&mut self, path: &[Vec<u8>], meta: &Meta<'_>) -> Result<(), PutError> {
        if !self.folders.insert(path.to_vec()) {
            return Ok(());
        }
        let name = [self.path(path).as_slice(), b"/"].concat();
        Ok(self.entry(&name, b'5', 0, &Meta { mode: meta.mode | 0o700, ..meta.clone() })?)
    }

    /// A file that turns out to be unreadable half-way is filled up with zeros: its size has been told already.
    fn file(
        &mut self,
        (path, name): (&[Vec<u8>], &[u8]),
        size: u64,
        meta: &Meta<'_>,
        read: Read<'_>,
    ) -> Result<bool, LetterError> {
        let stream = |error| ExtractError::Write(PutError::Stream(error));
        let name = self.path(&[path, &[name.to_vec()]].concat());
        let digest = blake3::hash(&name);
        if !self.files.insert(*digest.as_bytes().first_chunk().expect("a digest holds 16 bytes")) {
            return Ok(false);
        }
        self.entry(&name, b'0', size, meta).map_err(stream)?;
        let mut left = size;
        let out = &mut self.out;
        let read = read(&mut |bytes| {
            let fitting = bytes.len().min(left.try_into().unwrap_or(usize::MAX));
            left -= fitting as u64;
            out.write_all(&bytes[..fitting]).map_err(stream)
        });
        if !matches!(read, Err(ExtractError::Write(_))) {
            while left > 0 {
                let zeros = left.min(BLOCK as u64);
                self.out.write_all(&ZEROS[..zeros as usize]).map_err(stream)?;
                left -= zeros;
            }
            self.pad(size).map_err(stream)?;
        }
        read.map(|()| true)
    }

    fn finish(&mut self) -> Result<(), PutError> {
        self.out.write_all(&ZEROS)?;
        self.out.write_all(&ZEROS)?;
        Ok(self.out.flush()?)
    }
}

/// A stretch of an archive after which others may come.
pub struct TarPart<'t, W>(pub &'t mut TarSink<W>);

impl<W: Write> Sink for TarPart<'_, W> {
    fn folder(&mut self, path: &[Vec<u8>], meta: &Meta<'_>) -> Result<(), PutError> {
        self.0.folder(path, meta)
    }

    fn file(
        &mut self,
        place: (&[Vec<u8>], &[u8]),
        size: u64,
        meta: &Meta<'_>,
        read: Read<'_>,
    ) -> Result<bool, LetterError> {
        self.0.file(place, size, meta, read)
    }

    fn finish(&mut self) -> Result<(), PutError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::page::Owner;

    #[test]
    fn headers_are_those_of_ustar() {
        let owner = Owner { uid: 5000, gid: 8, user: b"vmail".to_vec(), group: b"mail".to_vec() };
        let block = header(
            b"cur/1",
            b'0',
            1234,
            &Meta { mode: 0o600, owner: &owner, mtime_s: 1_700_000_000, mtime_ns: 0 },
        );
        assert_eq!(&block[..6], b"cur/1\0");
        assert_eq!(&block[100..108], b"0000600\0");
        assert_eq!(&block[124..136], b"00000002322\0");
        assert_eq!(&block[257..265], b"ustar\x0000");
        let mut blank = block;
        blank[148..156].fill(b' ');
        let sum: u64 = blank.iter().map(|&byte| u64::from(byte)).sum();
        assert_eq!(&block[148..156], format!("{sum:06o}\0 ").as_bytes());
    }

    #[test]
    fn pax_lines_count_themselves() {
        assert_eq!(pax_line("path", b"a"), b"9 path=a\n");
        let long = pax_line("path", &[b'x'; 91]);
        assert!(long.starts_with(b"101 path=") && long.len() == 101);
        assert_eq!(pax_line("path", &[b'x'; 89]).len(), 98);
    }
}
