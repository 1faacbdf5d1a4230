//! mbox files, one for each folder: `INBOX.mbox`, `Archive/2024.mbox`.

use std::cell::RefCell;

use super::sink::{DirSink, Meta};
use super::{FolderHead, LetterError, Outgoing, PutError, Sink, Writer};
use crate::format::page::Owner;
use crate::mail::keywords::Keywords;
use crate::mail::mbox_writer::{self, MboxWriter};
use crate::ops::restore::target::FileWriter;
use crate::repo::extract::ExtractError;

/// A message up to here is read once, into memory; a larger one is read twice, so that no half of it is ever written.
const WHOLE_BYTES_MAX: u64 = 8 << 20;
/// Bytes that are put together before they are written.
const WRITE_BYTES: usize = 256 << 10;

/// Writes mbox files.
pub struct MboxFileWriter<'t> {
    sink: DirSink<'t>,
    open: Option<Open<'t>>,
}

struct Open<'t> {
    file: FileWriter<'t>,
    mode: u16,
    owner: Owner,
    validity: Option<u32>,
    last_uid: u32,
    keywords: Keywords,
    is_first: bool,
    newest: i64,
}

impl<'t> MboxFileWriter<'t> {
    /// Writes below a target.
    pub fn new(sink: DirSink<'t>) -> MboxFileWriter<'t> {
        MboxFileWriter { sink, open: None }
    }
}

/// A name that is safe on any file system, for people.
pub fn safe_name(text: &str, bytes_max: usize) -> String {
    let is_safe = |letter: char| {
        !letter.is_control() && !matches!(letter, '/' | '\\' | ':' | '*' | '?' | '"' | '<' | '>' | '|')
    };
    let safe: String = text.chars().map(|letter| if is_safe(letter) { letter } else { '_' }).collect();
    let safe = &safe[..safe.floor_char_boundary(bytes_max)];
    let safe = safe.trim_matches(|letter: char| letter.is_whitespace() || letter == '.');
    if safe.is_empty() { "_".to_owned() } else { safe.to_owned() }
}

/// The names of the folders on the way to a folder's own place, and its last name.
pub(super) fn place(folder: &str) -> (Vec<Vec<u8>>, String) {
    let mut names: Vec<String> =
        folder.split('/').filter(|name| !name.is_empty()).map(|name| safe_name(name, 200)).collect();
    let last = names.pop().unwrap_or_else(|| "INBOX".to_owned());
    (names.into_iter().map(String::into_bytes).collect(), last)
}

impl Writer for MboxFileWriter<'_> {
    fn begin(&mut self, folder: &FolderHead<'_>) -> Result<(), PutError> {
        let (above, name) = place(folder.name);
        // A folder lets in whoever may read the mail in it.
        let mtime_s = crate::base::clock::now_seconds();
        let meta = Meta { mode: 0o700 | folder.mode & 0o770, owner: folder.owner, mtime_s, mtime_ns: 0 };
        let folders = self.sink.make(&above, &meta)?;
        let mode = 0o600 | folder.mode & 0o660;
        let attributes = self.sink.attributes(&Meta { mode, ..meta });
        let target = self.sink.target();
        for number in 1u32.. {
            let name = if number == 1 { format!("{name}.mbox") } else { format!("{name}-{number}.mbox") };
            if let Some(file) = target.create_file(&folders, name.as_bytes(), 0, &attributes)? {
                self.open = Some(Open {
                    file,
                    mode,
                    owner: folder.owner.clone(),
                    validity: folder.validity,
                    last_uid: folder.next_uid.saturating_sub(1),
                    keywords: folder.keywords.clone(),
                    is_first: true,
                    newest: 0,
                });
                break;
            }
        }
        Ok(())
    }

    fn put(&mut self, message: &Outgoing<'_>) -> Result<(), LetterError> {
        let Some(open) = &mut self.open else { return Ok(()) };
        let letter = message.letter;
        if letter.size > WHOLE_BYTES_MAX {
            (message.read)(&mut |_| Ok(()))?;
        }
        let mut text = mbox_writer::from_line(message.sender, letter.arrived_s);
        let names: Vec<Vec<u8>> = open.keywords.iter().map(|(_, name)| name.to_vec()).collect();
        open.validity = open.validity.or(letter.uid.map(|(validity, _)| validity));
        let mut told = letter.clone();
        told.uid = letter.uid.filter(|(validity, _)| Some(*validity) == open.validity);
        let first = open
            .validity
            .filter(|_| open.is_first)
            .map(|validity| (validity, open.last_uid, names.as_slice()));
        let mut writer = MboxWriter::new(mbox_writer::notes(&told, first));
        let put = |error| ExtractError::Write(PutError::Target(error));
        let file = RefCell::new(&mut open.file);
        (message.read)(&mut |bytes| {
            writer.push(bytes, &mut text);
            if letter.size > WHOLE_BYTES_MAX && text.len() >= WRITE_BYTES {
                file.borrow_mut().write(&text).map_err(put)?;
                text.clear();
            }
            Ok(())
        })?;
        writer.finish(&mut text);
        open.file.write(&text).map_err(put)?;
        open.is_first = false;
        open.newest = open.newest.max(letter.arrived_s);
        Ok(())
    }

    fn end(&mut self) -> Result<(), PutError> {
        let Some(open) = self.open.take() else { return Ok(()) };
        let meta = Meta { mode: open.mode, owner: &open.owner, mtime_s: open.newest, mtime_ns: 0 };
        Ok(open.file.finish(&self.sink.attributes(&meta))?)
    }

    fn finish(&mut self, _: Option<&[u8]>) -> Result<(), PutError> {
        self.sink.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_safe() {
        assert_eq!(safe_name("a/b: \"c\" ", 100), "a_b_ _c_");
        assert_eq!(safe_name("...", 100), "_");
        assert_eq!(safe_name(".ssh", 100), "ssh");
        assert_eq!(safe_name("x\u{1b}[2J\n", 100), "x_[2J_");
        assert_eq!(safe_name("ää", 3), "ä");
        assert_eq!(place("Archive/2024"), (vec![b"Archive".to_vec()], "2024".to_owned()));
        assert_eq!(place("../x"), (vec![b"_".to_vec()], "x".to_owned()));
    }
}
