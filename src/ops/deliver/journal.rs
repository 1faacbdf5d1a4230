//! What a delivery does, written down before it is done, so that it can be taken up again and taken back.
//!
//! A file of frames: length (4 bytes, big endian), 8 bytes of a BLAKE3 hash, the encoding of a [`Step`]. A frame that
//! was not written to its end, and what follows it, count as not there. The file is locked while somebody works on it.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use bincode::{Decode, Encode};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::{DeliverError, Layout, Result};
use crate::base::{bytes, clock, entropy};
use crate::format::codec;

/// Largest frame, bytes.
const STEP_BYTES_MAX: usize = 64 << 10;
/// Largest journal that is read, bytes.
const JOURNAL_BYTES_MAX: u64 = 4 << 30;
const ENDING: &str = "journal";
/// So long after it was done or undone a run can be undone or redone: 90 days.
const KEPT_SECONDS: i64 = 90 * 86_400;

/// How a run began.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Begun {
    /// The mailbox, as it was named.
    pub mailbox: Vec<u8>,
    /// Where its control files lie, when not there.
    pub control: Option<Vec<u8>>,
    /// How its folders lie on disk.
    pub layout: Layout,
    /// The day of `Restored/<day>`; none when letters went where they had been.
    pub day: Option<String>,
    /// Only flags are set.
    pub flags_only: bool,
    /// What was asked for.
    pub title: String,
    /// Whose mailbox it is.
    pub user: String,
    /// When, unix nanoseconds.
    pub at: i64,
}

/// A message that is brought.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(super) struct Brought {
    /// Number of its tray.
    pub(super) tray: u32,
    /// It goes to `new`.
    pub(super) is_new: bool,
    /// Its file name there.
    pub(super) name: Vec<u8>,
    /// Number in its name in `tmp`.
    pub(super) temporary: u64,
    /// Device and inode.
    pub(super) key: (u64, u64),
    /// Of its bytes.
    pub(super) hash: [u8; 16],
    /// Keywords that only the mail server can set.
    pub(super) keywords: Vec<Vec<u8>>,
}

/// A message whose flags are set.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(super) struct Flagged {
    /// Its folder below the root.
    pub(super) folder: Vec<u8>,
    /// What identifies it.
    pub(super) base: Vec<u8>,
    /// Flags and keyword letters before; none for one in `new`.
    pub(super) from: Option<Vec<u8>>,
    /// And after.
    pub(super) to: Vec<u8>,
}

/// What is done next, or was done.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(super) enum Step {
    /// First.
    Begun(Begun),
    /// A folder that letters are put into; they are numbered as they come.
    Tray {
        /// As people call it.
        text: String,
        /// Where it lies, or will.
        path: Vec<u8>,
        /// It is being made beside the others, and moved there when it is complete.
        is_staged: bool,
    },
    /// Moved out of `tmp` next.
    Brought(Brought),
    /// So many of them lie where they should.
    Settled(u64),
    /// A staged tray is moved to its place next.
    Published(u32),
    /// A line was added to `subscriptions` for a tray.
    Subscribed(u32),
    /// Flags are set next.
    Flagged(Flagged),
    /// The mail server has set the keywords that only it can.
    KeywordsSet,
    /// All is done.
    Ended,
    /// What was brought is taken away.
    UndoBegun,
    /// It lies in the holding area.
    UndoEnded,
    /// What was taken away is put back.
    RedoBegun,
    /// It lies where it was.
    RedoEnded,
}

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It was interrupted, or is at work.
    Open,
    /// All is done.
    Done,
    /// It is being taken back, or that was interrupted.
    Undoing,
    /// What it brought lies in the holding area.
    Undone,
    /// That is being put back, or was interrupted.
    Redoing,
}

/// A run as its journal tells it.
#[derive(Debug, Clone)]
pub struct Run {
    /// Its name.
    pub id: String,
    /// How it began.
    pub begun: Begun,
    /// How far it is.
    pub state: State,
    /// Messages that it brought.
    pub brought: u64,
    /// Messages whose flags it set.
    pub flagged: u64,
}

/// An open journal; nobody else has it.
#[derive(Debug)]
pub(super) struct Journal {
    pub(super) id: String,
    path: PathBuf,
    file: File,
    waiting: Vec<u8>,
}

fn trouble<'p>(action: &'static str, path: &'p Path) -> impl Fn(std::io::Error) -> DeliverError + use<'p> {
    move |error| DeliverError::Io { action, path: path.display().to_string(), error }
}

impl Journal {
    /// Begins a run.
    pub(super) fn begin(folder: &Path, begun: Begun) -> Result<Journal> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(trouble("create", folder))?;
        drop_old(folder);
        let id = bytes::hex(&entropy::random::<4>());
        let path = folder.join(format!("{id}.{ENDING}"));
        let file = OpenOptions::new().read(true).append(true).create_new(true).mode(0o600).open(&path);
        let file = file.map_err(trouble("create", &path))?;
        let mut journal = Journal { id, path, file, waiting: Vec::new() };
        journal.lock()?;
        journal.write(&Step::Begun(begun));
        journal.sync()?;
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(trouble("sync", folder))?;
        Ok(journal)
    }

    fn lock(&self) -> Result<()> {
        match flock(&self.file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(()),
            Err(Errno::WOULDBLOCK) => Err(DeliverError::Busy { what: format!("run {}", self.id) }),
            Err(errno) => Err(trouble("lock", &self.path)(errno.into())),
        }
    }

    /// Opens a run's journal to go on in it, and gives its steps; a torn end is cut off.
    pub(super) fn open(folder: &Path, id: &str) -> Result<(Journal, Vec<Step>)> {
        let well_formed = id.len() == 8 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        let path = folder.join(format!("{id}.{ENDING}"));
        let no_run = || DeliverError::NoRun { id: id.to_owned() };
        if !well_formed {
            return Err(no_run());
        }
        let file = OpenOptions::new().read(true).append(true).open(&path).map_err(|error| {
            if error.kind() == std::io::ErrorKind::NotFound {
                no_run()
            } else {
                trouble("open", &path)(error)
            }
        })?;
        let journal = Journal { id: id.to_owned(), path, file, waiting: Vec::new() };
        journal.lock()?;
        let mut steps = Vec::new();
        let whole = read_steps(&journal.file, &journal.path, |step| steps.push(step))?;
        journal.file.set_len(whole).map_err(trouble("write", &journal.path))?;
        if !matches!(steps.first(), Some(Step::Begun(_))) {
            return Err(no_run());
        }
        Ok((journal, steps))
    }

    /// Adds a step; it is on disk after [`Journal::sync`].
    pub(super) fn write(&mut self, step: &Step) {
        let encoded = codec::encode(step);
        self.waiting.extend_from_slice(&(encoded.len() as u32).to_be_bytes());
        self.waiting.extend_from_slice(&blake3::hash(&encoded).as_bytes()[..8]);
        self.waiting.extend_from_slice(&encoded);
    }

    /// Brings all steps to disk.
    pub(super) fn sync(&mut self) -> Result<()> {
        if !self.waiting.is_empty() {
            let outcome = self.file.write_all(&self.waiting).and_then(|()| self.file.sync_data());
            outcome.map_err(trouble("write", &self.path))?;
            self.waiting.clear();
        }
        Ok(())
    }

    /// A step that must be on disk before anything else happens.
    pub(super) fn write_now(&mut self, step: &Step) -> Result<()> {
        self.write(step);
        self.sync()
    }

    /// A run that did nothing leaves no journal.
    pub(super) fn discard(self) -> Result<()> {
        std::fs::remove_file(&self.path).map_err(trouble("remove", &self.path))
    }
}

/// Hands out the whole steps from the beginning, and gives where they end.
fn read_steps(mut file: &File, path: &Path, mut take: impl FnMut(Step)) -> Result<u64> {
    let trouble = trouble("read", path);
    file.seek(SeekFrom::Start(0)).map_err(&trouble)?;
    let mut input = BufReader::new(file.take(JOURNAL_BYTES_MAX));
    let (mut whole, mut frame) = (0, Vec::new());
    loop {
        let mut head = [0; 12];
        if !filled(&mut input, &mut head).map_err(&trouble)? {
            return Ok(whole);
        }
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        if length > STEP_BYTES_MAX {
            return Ok(whole);
        }
        frame.resize(length, 0);
        if !filled(&mut input, &mut frame).map_err(&trouble)?
            || blake3::hash(&frame).as_bytes()[..8] != head[4..]
        {
            return Ok(whole);
        }
        let Ok(step) = codec::decode(&frame, "step") else { return Ok(whole) };
        take(step);
        whole += (head.len() + length) as u64;
    }
}

fn filled(input: &mut impl Read, buffer: &mut [u8]) -> std::io::Result<bool> {
    match input.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// How far the steps say that a run is.
pub(super) fn state_of<'s>(steps: impl IntoIterator<Item = &'s Step>) -> State {
    steps.into_iter().fold(State::Open, next_state)
}

fn next_state(state: State, step: &Step) -> State {
    match step {
        Step::Ended | Step::RedoEnded => State::Done,
        Step::UndoBegun => State::Undoing,
        Step::UndoEnded => State::Undone,
        Step::RedoBegun => State::Redoing,
        _ => state,
    }
}

/// Removes the journals of finished runs that nobody has touched for long; what hinders that hinders no delivery.
fn drop_old(folder: &Path) {
    let then = clock::now_seconds() - KEPT_SECONDS;
    let is_old = |path: &Path| {
        path.extension().is_some_and(|ending| ending == ENDING)
            && path.symlink_metadata().is_ok_and(|meta| meta.is_file() && meta.mtime() < then)
    };
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if !is_old(&path) {
            continue;
        }
        let Ok(file) = File::open(&path) else { continue };
        let mut state = State::Open;
        let read = read_steps(&file, &path, |step| {
            state = next_state(state, &step);
        });
        // One that is not finished may have left something behind.
        let is_free = flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok();
        if read.is_ok() && is_free && matches!(state, State::Done | State::Undone) {
            std::fs::remove_file(&path).ok();
        }
    }
}

/// All runs whose journals lie in a folder, the newest first.
pub fn runs(folder: &Path) -> Result<Vec<Run>> {
    let mut runs = Vec::new();
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(runs),
        Err(error) => return Err(trouble("list", folder)(error)),
    };
    for entry in entries {
        let path = entry.map_err(trouble("list", folder))?.path();
        if path.extension().is_none_or(|ending| ending != ENDING) {
            continue;
        }
        let file = File::open(&path).map_err(trouble("open", &path))?;
        let (mut begun, mut state, mut brought, mut flagged) = (None, State::Open, 0, 0);
        read_steps(&file, &path, |step| match step {
            Step::Begun(how) => begun = Some(how),
            Step::Brought(_) => brought += 1,
            Step::Flagged(_) => flagged += 1,
            Step::Ended | Step::UndoBegun | Step::UndoEnded | Step::RedoBegun | Step::RedoEnded => {
                state = state_of([&step]);
            }
            _ => {}
        })?;
        let id = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if let Some(begun) = begun {
            runs.push(Run { id, begun, state, brought, flagged });
        }
    }
    runs.sort_by_key(|run| std::cmp::Reverse((run.begun.at, run.id.clone())));
    Ok(runs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps() -> Vec<Step> {
        let letter = Brought {
            tray: 0,
            is_new: false,
            name: b"17.M1P1.mx:2,S".to_vec(),
            temporary: 3,
            key: (1, u64::MAX),
            hash: [7; 16],
            keywords: vec![b"work".to_vec()],
        };
        let flags = Flagged { folder: b".A".to_vec(), base: b"1".to_vec(), from: None, to: b"S".to_vec() };
        vec![
            Step::Tray { text: "Work".to_owned(), path: b".Work".to_vec(), is_staged: true },
            Step::Brought(letter),
            Step::Settled(1),
            Step::Flagged(flags),
            Step::Ended,
        ]
    }

    fn begun() -> Begun {
        Begun {
            mailbox: b"/mail".to_vec(),
            control: None,
            layout: Layout::Maildir,
            day: Some("2026-11-24".to_owned()),
            flags_only: false,
            title: String::new(),
            user: "alice".to_owned(),
            at: 5,
        }
    }

    #[test]
    fn a_journal_cut_anywhere_holds_its_whole_steps() {
        let folder = tempfile::tempdir().unwrap();
        let mut journal = Journal::begin(folder.path(), begun()).unwrap();
        steps().iter().for_each(|step| journal.write(step));
        journal.sync().unwrap();
        let (id, path) = (journal.id.clone(), journal.path.clone());
        assert!(matches!(Journal::open(folder.path(), &id), Err(DeliverError::Busy { .. })));
        drop(journal);
        let whole = std::fs::read(&path).unwrap();
        let all: Vec<Step> = [vec![Step::Begun(begun())], steps()].concat();
        let mut lengths = std::collections::BTreeSet::new();
        for length in 0..=whole.len() {
            for damage in [&b""[..], b"\0\0\0\x02garbage"] {
                std::fs::write(&path, [&whole[..length], damage].concat()).unwrap();
                let Ok((mut journal, got)) = Journal::open(folder.path(), &id) else { continue };
                assert!(all.starts_with(&got));
                lengths.insert(got.len());
                // What is written next is read next time.
                journal.write_now(&Step::UndoBegun).unwrap();
                drop(journal);
                let (_, again) = Journal::open(folder.path(), &id).unwrap();
                assert_eq!(again, [got, vec![Step::UndoBegun]].concat());
            }
        }
        assert_eq!(lengths.into_iter().collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
        std::fs::write(&path, &whole).unwrap();
        let runs = runs(folder.path()).unwrap();
        assert_eq!((runs.len(), runs[0].state, runs[0].brought, runs[0].flagged), (1, State::Done, 1, 1));
        for strange in ["", "../../x", "0000000", "zzzzzzzz", "00000000"] {
            assert!(
                matches!(Journal::open(folder.path(), strange), Err(DeliverError::NoRun { .. })),
                "{strange}"
            );
        }
    }
}
