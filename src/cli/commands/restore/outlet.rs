//! Takes messages one by one, gives them to a writer, and counts.

use std::collections::BTreeMap;
use std::io;

use crate::base::bytes;
use crate::base::causes::told;
use crate::base::progress::Progress;
use crate::cli::failure::{Failure, Kind};
use crate::cli::output::{Output, count};
use crate::mail::heading::HeadingReader;
use crate::mail::mbox_state;
use crate::ops::pick::Picked;
use crate::ops::restore::letters::{FolderHead, LetterError, Lost, Outgoing, Writer};
use crate::repo::extract::ExtractError;

/// Problems that are kept; all are counted.
const PROBLEMS_MAX: usize = 1_000;

/// What came of it.
#[derive(Default)]
pub struct Tally {
    /// Messages and bytes by folder.
    pub folders: BTreeMap<String, (u64, u64)>,
    /// The first problems: where and what.
    pub problems: Vec<(Vec<u8>, String)>,
    /// All problems.
    pub problem_count: u64,
    /// Messages that nobody can look into.
    pub opaque: u64,
    /// What the form could not hold.
    pub lost: Lost,
}

impl Tally {
    /// Messages in all folders.
    pub fn messages(&self) -> u64 {
        self.folders.values().map(|(messages, _)| messages).sum()
    }

    /// Bytes of all of them.
    pub fn bytes(&self) -> u64 {
        self.folders.values().fold(0, |sum, (_, bytes)| sum.saturating_add(*bytes))
    }

    /// What a person may miss in what was written, one line each.
    pub fn gaps(&self) -> Vec<String> {
        let gaps = [
            (self.opaque, "messages are compressed or encrypted by the mail server, and given as they lie"),
            (self.lost.keywords, "keywords left out: a Maildir folder has no more than 26"),
        ];
        let gaps = gaps.into_iter().filter(|(number, _)| *number > 0);
        gaps.map(|(number, what)| format!("{} {what}", count(number))).collect()
    }
}

/// Takes messages and gives them to a writer, if there is one.
pub struct Outlet<'w, 'p> {
    writer: Option<&'w mut dyn Writer>,
    progress: &'p dyn Progress,
    headings: HeadingReader,
    with_subjects: bool,
    open: Option<String>,
    /// What came of it.
    pub tally: Tally,
}

impl<'w, 'p> Outlet<'w, 'p> {
    /// Without a writer it only counts.
    pub fn new(
        writer: Option<&'w mut dyn Writer>,
        progress: &'p dyn Progress,
        with_subjects: bool,
    ) -> Outlet<'w, 'p> {
        let headings = HeadingReader::default();
        Outlet { writer, progress, headings, with_subjects, open: None, tally: Tally::default() }
    }

    /// Begins a folder, unless it is the one that is open.
    pub fn folder(&mut self, head: &FolderHead<'_>) -> Result<(), Failure> {
        if self.open.as_deref() == Some(head.name) {
            return Ok(());
        }
        self.end()?;
        if let Some(writer) = &mut self.writer {
            writer.begin(head)?;
        }
        self.open = Some(head.name.to_owned());
        self.tally.folders.entry(head.name.to_owned()).or_default();
        Ok(())
    }

    /// Notes what cannot be read or written.
    pub fn broken(&mut self, path: &[u8], error: &(dyn std::error::Error + 'static)) {
        self.lost(path, told(error));
    }

    /// Notes what is missing, and why.
    pub fn lost(&mut self, path: &[u8], text: String) {
        self.progress.problem(&format!("{}: {text}", bytes::display(path)));
        self.tally.problem_count += 1;
        if self.tally.problems.len() < PROBLEMS_MAX {
            self.tally.problems.push((path.to_vec(), text));
        }
    }

    /// Takes a message of a folder.
    pub fn letter(&mut self, head: &FolderHead<'_>, picked: &Picked<'_>) -> Result<(), Failure> {
        self.folder(head)?;
        match self.put(picked) {
            Ok(()) => {
                let done = self.tally.folders.entry(head.name.to_owned()).or_default();
                *done = (done.0 + 1, done.1.saturating_add(picked.letter.size));
                self.progress.counters().add(1, picked.letter.size);
                Ok(())
            }
            Err(ExtractError::Repository(error)) if error.ends_the_run() => Err(error.into()),
            Err(ExtractError::Write(error)) if error.ends_the_run() => Err(error.into()),
            Err(error) => {
                self.broken(&picked.path, &error);
                Ok(())
            }
        }
    }

    fn put(&mut self, picked: &Picked<'_>) -> Result<(), LetterError> {
        self.tally.opaque += u64::from(picked.body.is_opaque()?);
        let Some(writer) = &mut self.writer else { return Ok(()) };
        let head = if self.with_subjects { picked.body.head()? } else { None };
        let head = head.as_ref().map(AsRef::as_ref).unwrap_or_default();
        let subject = if head.is_empty() { String::new() } else { self.headings.read(head).subject };
        let read = |out: &mut dyn FnMut(&[u8]) -> Result<(), LetterError>| picked.body.read(out);
        writer.put(&Outgoing {
            letter: &picked.letter,
            mode: picked.mode,
            owner: &picked.owner,
            subject: &subject,
            sender: mbox_state::envelope_sender(head).unwrap_or_default(),
            read: &read,
        })
    }

    fn end(&mut self) -> Result<(), Failure> {
        match (&mut self.writer, self.open.take()) {
            (Some(writer), Some(_)) => Ok(writer.end()?),
            _ => Ok(()),
        }
    }

    /// Ends the last folder, and all.
    pub fn finish(mut self, subscriptions: Option<&[u8]>) -> Result<Tally, Failure> {
        self.end()?;
        if let Some(writer) = &mut self.writer {
            writer.finish(subscriptions)?;
            self.tally.lost = writer.lost();
        }
        Ok(self.tally)
    }
}

/// Standard output as a stream of bytes.
pub struct Stdout<'o>(pub &'o Output);

impl io::Write for Stdout<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let gone = |failure: Failure| match failure.kind {
            Kind::ReaderGone => io::Error::from(io::ErrorKind::BrokenPipe),
            _ => io::Error::other(failure.message),
        };
        self.0.raw(bytes).map_err(gone)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(|failure| io::Error::other(failure.message))
    }
}
