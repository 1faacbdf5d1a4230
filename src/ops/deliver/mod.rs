//! Deliver: letters are given back to a live Maildir, as mail programs bring mail.
//!
//! Nothing that lies there is touched: a letter is written to `tmp`, gets owner, mode and time, and is renamed to a
//! name that nobody has. What still lies in the mailbox is not brought again. New folders are made beside the others and
//! appear complete, with keywords of their own. A journal, written first, lets a run be taken up again and taken back.

mod dirs;
mod doveadm;
mod finish;
mod fitness;
mod flags;
mod identity;
mod incoming;
mod journal;
mod mailbox;
mod naming;
mod post;
mod quota;
mod resume;
mod subscriptions;
mod trays;
mod undo;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use bincode::{Decode, Encode};

pub use doveadm::{Doveadm, DoveadmError};
pub use flags::{FlagReport, Flagger, Marked};
pub use journal::{Begun, Run, State, runs};
pub use post::{Outcome, Post, Undelivered};
pub use undo::{Moved, redo, undo};

/// How the folders of a mailbox lie on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Layout {
    /// Maildir++: `.Archive.2024`, all beside each other.
    Maildir,
    /// LAYOUT=fs: `Archive/2024`.
    Fs,
}

/// Where letters go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Into {
    /// To the folder `Restored/<day>`, or to folders below it.
    Restored {
        /// As in 2026-11-24.
        day: String,
        /// The letters stood in more folders than one, which are kept apart.
        several_folders: bool,
    },
    /// To the folder that they stood in.
    Original,
}

/// Where a mailbox is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// Its root, in which the inbox's `cur` and `new` lie; absolute, since journals name it.
    pub mailbox: PathBuf,
    /// Where `dovecot-uidlist` and its like lie, when elsewhere (`CONTROL=`).
    pub control: Option<PathBuf>,
    /// How folders lie on disk; what is there tells when nobody else does.
    pub layout: Option<Layout>,
}

/// Where and how letters are delivered.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the mailbox is.
    pub location: Location,
    /// Where letters go.
    pub into: Into,
    /// What was asked for, for people. The same request takes up a run that was interrupted.
    pub title: String,
    /// Whose mailbox it is.
    pub user: String,
    /// The folder for journals.
    pub journals: PathBuf,
    /// What sets keywords that only the mail server can.
    pub doveadm: Option<Doveadm>,
    /// Say what would be done.
    pub dry_run: bool,
}

/// Letters could not be delivered.
#[derive(Debug, thiserror::Error)]
pub enum DeliverError {
    /// The system refused.
    #[error("{action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or folder.
        path: String,
        /// The system's reason.
        #[source]
        error: io::Error,
    },
    /// No mail lies there.
    #[error("{path} is no Maildir: it has no cur, new and tmp")]
    NoMaildir {
        /// The folder.
        path: String,
    },
    /// Somebody else may have put a link there.
    #[error("symbolic link {path} belongs to somebody else than what it leads to")]
    ForeignLink {
        /// The link.
        path: String,
    },
    /// Somebody works there already.
    #[error("{what} is at work elsewhere")]
    Busy {
        /// The run or mailbox.
        what: String,
    },
    /// No journal tells of such a run.
    #[error("there is no run {id}")]
    NoRun {
        /// Its name.
        id: String,
    },
    /// A letter came with more or fewer bytes than it should have.
    #[error("a letter for {folder} has {got} bytes and should have {wanted}")]
    Size {
        /// Its folder.
        folder: String,
        /// Bytes that came.
        got: u64,
        /// Bytes that were promised.
        wanted: u64,
    },
    /// A run cannot be taken back or put back as it is.
    #[error("run {id} {why}")]
    NotNow {
        /// Its name.
        id: String,
        /// What it is.
        why: &'static str,
    },
}

impl DeliverError {
    /// True when the disk is full or the quota used up: going on makes no sense.
    pub fn is_full(&self) -> bool {
        let DeliverError::Io { error, .. } = self else { return false };
        matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }
}

/// Shorthand for results here.
pub type Result<T> = std::result::Result<T, DeliverError>;

/// A letter that was not brought because the mailbox has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StillThere {
    /// The folder it was asked back for.
    pub folder: String,
    /// The folder it lies in.
    pub lies_in: String,
    /// Its base name.
    pub base: Vec<u8>,
}

/// What was done, or would be.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// The run's name, by which it can be taken back; none when nothing was done.
    pub run: Option<String>,
    /// It took up an interrupted one.
    pub resumed: bool,
    /// It is not finished, and the same request goes on with it: new folders appear when it is.
    pub is_open: bool,
    /// Letters brought, by folder.
    pub brought: BTreeMap<String, u64>,
    /// Their bytes.
    pub bytes: u64,
    /// Letters that this run, before it was interrupted, had brought already.
    pub brought_before: u64,
    /// Folders that came under another name, and that name: control characters are written out.
    pub respelled: BTreeMap<String, String>,
    /// Letters that still lie in the mailbox.
    pub still_there_count: u64,
    /// The first of them.
    pub still_there: Vec<StillThere>,
    /// Letters brought under a new name, since theirs has another content now.
    pub renamed: u64,
    /// Letters brought under a new name, since the mail server would give theirs a UID that clients saw go.
    pub renumbered: u64,
    /// Letters brought without the mark that the next expunge would delete them by.
    pub undeleted: u64,
    /// Keywords that could not be set, and on how many letters.
    pub keywords_left: BTreeMap<String, u64>,
    /// Why `doveadm` did not set them.
    pub doveadm_failed: Option<String>,
    /// New folders that are not in the list of subscriptions, for somebody had it locked.
    pub not_subscribed: Vec<String>,
    /// Other runs into this mailbox that were interrupted.
    pub open_runs: Vec<String>,
    /// Letters that could not be brought, and why: the first.
    pub problems: Vec<String>,
    /// All of those.
    pub problem_count: u64,
}

/// Most lines of a kind in a report.
const LINES_MAX: usize = 1_000;

impl Report {
    /// Letters brought.
    pub fn brought_count(&self) -> u64 {
        self.brought.values().sum()
    }

    /// Notes a letter that could not be brought.
    pub fn problem(&mut self, text: String) {
        self.problem_count += 1;
        if self.problems.len() < LINES_MAX {
            self.problems.push(text);
        }
    }
}

/// The two places of messages in a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Cur,
    New,
}

impl Part {
    fn name(self) -> &'static [u8] {
        match self {
            Part::Cur => b"cur",
            Part::New => b"new",
        }
    }
}
