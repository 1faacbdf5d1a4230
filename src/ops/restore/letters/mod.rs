//! Letters: messages written out one by one, as Maildir, mbox, single files or tar.
//!
//! A writer is told of a folder, then of its messages, then that it ends. It reads the bytes of a message through
//! [`Read`], twice where it has to know that they are whole before it can begin.

mod eml;
mod maildir;
mod mbox;
mod sink;
mod tar;

pub use eml::EmlWriter;
pub use maildir::MaildirWriter;
pub use mbox::{MboxFileWriter, safe_name};
pub use sink::{DirSink, Sink};
pub use tar::{TarPart, TarSink};

use std::path::Path;

use super::RestoreError;
use super::target::{self, Target, TargetError, TargetState, inspect};
use crate::format::page::Owner;
use crate::mail::keywords::Keywords;
use crate::mail::letter::Letter;
use crate::repo::extract::ExtractError;

/// A message found no place.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    /// The target failed.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The stream that the messages go to failed.
    #[error("write the archive")]
    Stream(#[from] std::io::Error),
}

impl PutError {
    /// Going on makes no sense: the target is full, or nobody reads the stream.
    pub fn ends_the_run(&self) -> bool {
        match self {
            PutError::Target(error) => error.is_full(),
            PutError::Stream(_) => true,
        }
    }
}

/// What reading a message or writing it can end with.
pub type LetterError = ExtractError<PutError>;

/// Gives the bytes of a message, each time it is called.
pub type Read<'r> = &'r dyn Fn(&mut dyn FnMut(&[u8]) -> Result<(), LetterError>) -> Result<(), LetterError>;

/// What a folder is known by.
#[derive(Debug, Clone)]
pub struct FolderHead<'a> {
    /// As people call it.
    pub name: &'a str,
    /// UIDVALIDITY.
    pub validity: Option<u32>,
    /// The next UID.
    pub next_uid: u32,
    /// The GUID of the folder, hex digits.
    pub guid: Option<&'a [u8]>,
    /// The letters of its keywords.
    pub keywords: &'a Keywords,
    /// Permission bits of the folder.
    pub mode: u16,
    /// Owner of the folder.
    pub owner: &'a Owner,
}

/// A message to be written.
pub struct Outgoing<'a> {
    /// All that its mailbox knew of it.
    pub letter: &'a Letter,
    /// Permission bits.
    pub mode: u16,
    /// Owner.
    pub owner: &'a Owner,
    /// Its subject, for people.
    pub subject: &'a str,
    /// Its envelope sender, where that is known.
    pub sender: &'a [u8],
    /// Its bytes.
    pub read: Read<'a>,
}

/// What a form could not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lost {
    /// Keywords that found no letter: a Maildir folder has 26.
    pub keywords: u64,
}

/// Writes messages in one form.
pub trait Writer {
    /// A folder begins.
    fn begin(&mut self, folder: &FolderHead<'_>) -> Result<(), PutError>;
    /// A message of the folder that began last.
    ///
    /// # Errors
    /// The message is not there then, and the next one can come; see [`PutError::ends_the_run`].
    fn put(&mut self, message: &Outgoing<'_>) -> Result<(), LetterError>;
    /// The folder ends.
    fn end(&mut self) -> Result<(), PutError>;
    /// Nothing comes any more; `subscriptions` are the lines of the user's own file.
    fn finish(&mut self, subscriptions: Option<&[u8]>) -> Result<(), PutError>;
    /// What could not be held so far.
    fn lost(&self) -> Lost {
        Lost::default()
    }
}

/// Opens an empty or a new folder for letters.
pub fn empty_target(path: &Path) -> Result<Target, RestoreError> {
    let shown = || path.display().to_string();
    match inspect(path).map_err(|error| RestoreError::Inspect { path: shown(), error })? {
        TargetState::Absent | TargetState::Empty => Ok(Target::open(path, target::Options::default())?),
        _ => Err(RestoreError::NotEmpty { path: shown() }),
    }
}
