//! One delivery into one mailbox, from the first letter to the journal's last line.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::Write;
use std::sync::Arc;

use rustix::fd::OwnedFd;
use rustix::fs::{Timespec, Timestamps, UTIME_OMIT, fsync, futimens};
use rustix::io::Errno;

use super::dirs::{self, trouble};
use super::fitness::complete;
use super::identity::{Identities, Place};
use super::incoming::{Arrived, Content, Incoming, Rival, Temporary, same_content};
use super::journal::{Brought, Journal, Step};
use super::mailbox::{Folder, Mailbox, lock};
use super::naming::{fits, fresh_base};
use super::trays::{self, Tray};
use super::{DeliverError, Into, LINES_MAX, Options, Part, Report, Result, StillThere};
use crate::base::bytes;
use crate::base::causes::told;
use crate::mail::letter::Letter;
use crate::mail::maildir;
use crate::source::dir::OpenDir;
use crate::source::meta;
use crate::source::problem::join;

/// Letters that wait for their move out of `tmp`, which costs one more write to the journal.
const BATCH: usize = 64;
/// Messages with one base name that a letter is held against.
const RIVALS_MAX: usize = 16;
/// Flags that come back; the mark to be expunged does not.
const UNWANTED_FLAG: u8 = b'T';

/// A folder's name with its control characters written out: mail programs and servers take none.
fn written_out(folder: &str) -> String {
    let mut name = String::with_capacity(folder.len());
    for letter in folder.chars() {
        match letter.is_control() {
            true => name.push_str(&format!("\\x{:02x}", u32::from(letter))),
            false => name.push(letter),
        }
    }
    name
}

/// What became of a letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was brought, or would be.
    Brought,
    /// This run had brought it before.
    BroughtBefore,
    /// It still lies in this folder.
    StillThere(String),
    /// It cannot be brought; why.
    Unfit(String),
}

/// A letter did not come.
#[derive(Debug)]
pub enum Undelivered<E> {
    /// Its bytes could not be had.
    Source(E),
    /// The mailbox did not take it.
    Mailbox(DeliverError),
}

impl<E> From<DeliverError> for Undelivered<E> {
    fn from(error: DeliverError) -> Self {
        Undelivered::Mailbox(error)
    }
}

/// A delivery at work.
#[derive(Debug)]
pub struct Post {
    pub(super) options: Options,
    pub(super) mailbox: Mailbox,
    pub(super) tmp: Arc<OpenDir>,
    pub(super) known: Identities,
    pub(super) trays: Vec<Tray>,
    tray_of: BTreeMap<String, usize>,
    pub(super) journal: Option<Journal>,
    /// (tray, base name's number) -> content, of what this run brought.
    pub(super) brought: HashMap<(usize, u64), [u8; 16]>,
    waiting: Vec<(Brought, Temporary)>,
    pub(super) settled: u64,
    pub(super) next_temporary: u64,
    pub(super) report: Report,
    /// Keywords that only the mail server can set: (tray, base name, names).
    pub(super) keywords_left: Vec<(u32, Vec<u8>, Vec<Vec<u8>>)>,
    /// Folders that letters were for, and why those take none.
    pub(super) looked_at: HashMap<String, Option<String>>,
    /// Held while it is open.
    _lock: Option<File>,
}

impl Post {
    /// Opens a mailbox, and takes up the same request's run where one was interrupted.
    pub fn open(options: Options) -> Result<Post> {
        let mailbox = Mailbox::open(&options.location)?;
        let lock = if options.dry_run { None } else { Some(lock(&options.journals, &mailbox)?) };
        let known = Identities::of(&mailbox)?;
        let tmp = match options.dry_run {
            true => mailbox.open_folder(b"")?,
            false => {
                complete(&mailbox.root)?;
                mailbox.open_folder(b"tmp")?
            }
        };
        let tmp = Arc::new(tmp);
        let mut post = Post {
            options,
            mailbox,
            tmp,
            known,
            trays: Vec::new(),
            tray_of: BTreeMap::new(),
            journal: None,
            brought: HashMap::new(),
            waiting: Vec::new(),
            settled: 0,
            next_temporary: 0,
            report: Report::default(),
            keywords_left: Vec::new(),
            looked_at: HashMap::new(),
            _lock: lock,
        };
        for (number, error) in &post.known.broken {
            let folder = &post.known.folders[*number].text;
            post.report.problem(format!("folder {folder} is not looked into: {}", told(error)));
        }
        if !post.options.dry_run {
            post.begin()?;
        }
        Ok(post)
    }

    pub(super) fn run(&self) -> &str {
        self.journal.as_ref().map_or("", |journal| &journal.id)
    }

    pub(super) fn temporary_name(&self, number: u64) -> Vec<u8> {
        format!("mailark-{}-{number}", self.run()).into_bytes()
    }

    /// The folder that a letter goes to, as people call it.
    fn target(&mut self, letter: &Letter) -> String {
        match &self.options.into {
            Into::Original => letter.folder.clone(),
            Into::Restored { day, several_folders: false } => format!("Restored/{day}"),
            Into::Restored { day, several_folders: true } => {
                let name = written_out(&letter.folder);
                let target = format!("Restored/{day}/{name}");
                if name != letter.folder {
                    self.report.respelled.insert(letter.folder.clone(), name);
                }
                target
            }
        }
    }

    /// Brings one letter; `fill` writes its bytes.
    ///
    /// # Errors
    /// With [`Undelivered::Source`] the next letter can be brought, with [`Undelivered::Mailbox`] none.
    pub fn deliver<E>(
        &mut self,
        letter: &Letter,
        fill: impl FnOnce(&mut dyn Write) -> std::result::Result<(), E>,
    ) -> std::result::Result<Outcome, Undelivered<E>> {
        let target = self.target(letter);
        if let Some(why) = self.refusal(&target)? {
            self.report.problem(why.clone());
            return Ok(Outcome::Unfit(why));
        }
        let base = Some(letter.base.as_slice()).filter(|base| fits(base));
        let (rivals, is_taken) = self.rivals(letter, base, &target)?;
        let name = self.temporary_name(self.next_temporary);
        self.next_temporary += 1;
        let mut incoming = Incoming::new(Arc::clone(&self.tmp), name, rivals, self.options.dry_run);
        let filled = fill(&mut incoming);
        if let Some(error) = incoming.take_error() {
            return Err(error.into());
        }
        filled.map_err(Undelivered::Source)?;
        if incoming.size() != letter.size {
            let (got, wanted) = (incoming.size(), letter.size);
            let error = DeliverError::Size { folder: target, got, wanted };
            self.report.problem(error.to_string());
            return Ok(Outcome::Unfit(error.to_string()));
        }
        match incoming.finish()? {
            Arrived::Same(place) => Ok(self.still_there(letter, &place)),
            Arrived::New(temporary, content) => {
                Ok(self.place(letter, &target, (base, is_taken), (temporary, content))?)
            }
        }
    }

    /// Messages that may be the letter, opened; and whether another message has its base name.
    fn rivals(&mut self, letter: &Letter, base: Option<&[u8]>, target: &str) -> Result<(Vec<Rival>, bool)> {
        let own_tray = self.tray_of.get(target).map(|&tray| self.trays[tray].known);
        let (mut rivals, mut is_taken) = (Vec::new(), false);
        for again in [false, true] {
            (rivals, is_taken) = (Vec::new(), false);
            let mut gone = None;
            let identities = base.into_iter().chain(letter.guid.as_deref());
            let found: Vec<Place> = identities.flat_map(|identity| self.known.find(identity)).collect();
            for place in found.into_iter().filter(|place| !place.is_brought || Some(place.folder) == own_tray)
            {
                let is_base = Some(maildir::base(&place.name)) == base;
                match self.open_message(&place) {
                    Ok(file) => {
                        is_taken |= is_base;
                        let fits = file.metadata().is_ok_and(|meta| meta.len() == letter.size);
                        if fits && rivals.len() < RIVALS_MAX {
                            rivals.push(Rival { place, file });
                        }
                    }
                    Err(Errno::NOENT) if !place.is_brought => gone = Some(place.folder),
                    Err(Errno::NOENT) => {}
                    Err(_) => is_taken |= is_base,
                }
            }
            match gone.filter(|_| !again) {
                Some(folder) => {
                    self.known.read(&self.mailbox, folder)?;
                    self.mark_brought();
                }
                None => break,
            }
        }
        // Where it was asked back for is said first.
        rivals.sort_by_key(|rival| self.known.folders[rival.place.folder].text != letter.folder);
        Ok((rivals, is_taken))
    }

    fn open_message(&self, place: &Place) -> rustix::io::Result<File> {
        let folder = &self.known.folders[place.folder].path;
        let dir = dirs::open_below(&self.mailbox.root, &join(folder, place.part.name()))?;
        dirs::open_file(&dir, &place.name)
    }

    fn still_there(&mut self, letter: &Letter, place: &Place) -> Outcome {
        if place.is_brought {
            self.report.brought_before += 1;
            return Outcome::BroughtBefore;
        }
        let lies_in = self.known.folders[place.folder].text.clone();
        self.report.still_there_count += 1;
        if self.report.still_there.len() < LINES_MAX {
            self.report.still_there.push(StillThere {
                folder: letter.folder.clone(),
                lies_in: lies_in.clone(),
                base: letter.base.clone(),
            });
        }
        Outcome::StillThere(lies_in)
    }

    /// Finds a name for a letter whose bytes came, and the same under that name where it was brought before.
    fn place(
        &mut self,
        letter: &Letter,
        target: &str,
        (base, mut is_taken): (Option<&[u8]>, bool),
        (temporary, content): (Option<Temporary>, Content),
    ) -> Result<Outcome> {
        let tray = self.tray_of.get(target).copied();
        let brought = |base: &[u8]| self.brought.get(&(tray?, self.known.hash(base))).copied();
        match base.and_then(brought) {
            Some(hash) if hash == content.hash => {
                self.report.brought_before += 1;
                return Ok(Outcome::BroughtBefore);
            }
            Some(_) => is_taken = true,
            None => {}
        }
        // It may have come under a fresh name before, whatever became of what stood in its way then.
        let fresh = fresh_base(letter, &content);
        if brought(&fresh) == Some(content.hash) {
            self.report.brought_before += 1;
            return Ok(Outcome::BroughtBefore);
        }
        let own = tray.map(|tray| self.trays[tray].known);
        for place in self.known.find(&fresh) {
            let counts = !place.is_brought || Some(place.folder) == own;
            let Some(there) = self.open_message(&place).ok().filter(|_| counts) else { continue };
            // The name holds a hash of the content: a dry run has nothing else to compare.
            if temporary.as_ref().is_none_or(|temporary| same_content(&there, &temporary.file)) {
                return Ok(self.still_there(letter, &place));
            }
        }
        let is_relisted = base.is_some_and(|base| self.is_relisted(target, base));
        let base = match base.filter(|_| !is_taken && !is_relisted) {
            Some(base) => base.to_vec(),
            None => {
                self.report.renamed += u64::from(is_taken);
                self.report.renumbered += u64::from(is_relisted && !is_taken);
                fresh
            }
        };
        self.report.undeleted += u64::from(letter.flags.contains(&UNWANTED_FLAG));
        match temporary {
            Some(temporary) => self.queue(letter, target, &base, (temporary, content))?,
            None => *self.report.brought.entry(target.to_owned()).or_default() += 1,
        }
        self.report.bytes += content.size;
        Ok(Outcome::Brought)
    }

    fn is_relisted(&self, target: &str, base: &[u8]) -> bool {
        self.mailbox.find(target).is_some_and(|folder| self.known.is_relisted(&folder.path, base))
    }

    /// Gives a letter in `tmp` all it needs, to be moved with the next batch.
    fn queue(
        &mut self,
        letter: &Letter,
        target: &str,
        base: &[u8],
        (temporary, content): (Temporary, Content),
    ) -> Result<()> {
        let number = self.tray(target)?;
        let separator = self.known.separator.unwrap_or(b':');
        let tray = &mut self.trays[number];
        let (letters, left) = tray.letters(&letter.keywords);
        let flags: Vec<u8> = letter.flags.iter().copied().filter(|&flag| flag != UNWANTED_FLAG).collect();
        let is_new = letter.unseen_by_any && flags.is_empty() && letters.is_empty();
        let name = match is_new {
            true => base.to_vec(),
            false => [base, &[separator], b"2,", &flags, &letters].concat(),
        };
        let keywords: Vec<Vec<u8>> = left.into_iter().map(<[u8]>::to_vec).collect();
        let tmp = Arc::clone(&self.tmp);
        let trouble = trouble("write", &tmp, b"");
        let fd: OwnedFd = temporary.file.try_clone().map_err(|error| trouble(dirs::errno_of(&error)))?.into();
        let times = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec { tv_sec: letter.arrived_s, tv_nsec: letter.arrived_ns.into() },
        };
        tray.like
            .give_file(&fd)
            .and_then(|()| futimens(&fd, &times))
            .and_then(|()| fsync(&fd))
            .map_err(&trouble)?;
        let key = meta::of_open(&fd).map_err(&trouble)?.key();
        let part = if is_new { Part::New } else { Part::Cur };
        let known = tray.known;
        let step = Brought {
            tray: number as u32,
            is_new,
            name,
            temporary: self.next_temporary - 1,
            key,
            hash: content.hash,
            keywords,
        };
        self.known.bring(known, part, &step.name);
        self.note_brought(&step);
        *self.report.brought.entry(target.to_owned()).or_default() += 1;
        self.waiting.push((step, temporary));
        if self.waiting.len() >= BATCH { self.commit() } else { Ok(()) }
    }

    /// The tray for a folder; opened, or made beside the others, when it is first needed.
    fn tray(&mut self, target: &str) -> Result<usize> {
        if let Some(&tray) = self.tray_of.get(target) {
            return Ok(tray);
        }
        let number = self.trays.len();
        let folder = match self.mailbox.find(target) {
            Some(folder) => folder.clone(),
            None => {
                // It was looked at when the letter came.
                let path = self.mailbox.path_for(target).unwrap_or_default();
                Folder { path, text: target.to_owned() }
            }
        };
        // Two names may lead to one folder.
        let is_staged = !self.mailbox.folders.iter().any(|there| there.path == folder.path);
        if let Some(journal) = &mut self.journal {
            let (text, path) = (folder.text.clone(), folder.path.clone());
            journal.write_now(&Step::Tray { text, path, is_staged })?;
        }
        match is_staged {
            true => self.add_staged(folder, number),
            false => self.add_open(folder),
        }
    }

    pub(super) fn add_open(&mut self, folder: Folder) -> Result<usize> {
        let known = self.known.folders.iter().position(|known| known.path == folder.path);
        let known = known.unwrap_or_else(|| self.known.add_folder(folder.path.clone(), folder.text.clone()));
        let tray = trays::open(&self.mailbox, &folder, known)?;
        Ok(self.add_tray(tray))
    }

    pub(super) fn add_staged(&mut self, folder: Folder, number: usize) -> Result<usize> {
        let run = self.run().to_owned();
        let mut tray = trays::stage(&self.mailbox, &run, number, &folder)?;
        let place = trays::place(&self.mailbox, &run, number, &tray);
        tray.known = self.known.add_folder(place, folder.text);
        // What an interrupted run put there.
        self.known.read(&self.mailbox, tray.known)?;
        Ok(self.add_tray(tray))
    }

    pub(super) fn add_tray(&mut self, tray: Tray) -> usize {
        let number = self.trays.len();
        self.tray_of.insert(tray.text.clone(), number);
        self.trays.push(tray);
        number
    }

    /// Moves all that waits out of `tmp`.
    pub(super) fn commit(&mut self) -> Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        dirs::sync(&self.tmp).map_err(trouble("sync", &self.tmp, b""))?;
        let Some(journal) = &mut self.journal else { return Ok(()) };
        for (step, _) in &self.waiting {
            journal.write(&Step::Brought(step.clone()));
        }
        journal.sync()?;
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.sort_by_key(|(step, _)| (step.tray, step.is_new));
        let mut open: Option<((u32, bool), OpenDir)> = None;
        let mut count = 0;
        for (step, temporary) in waiting {
            let key = (step.tray, step.is_new);
            if open.as_ref().is_none_or(|(of, _)| *of != key) {
                if let Some((_, dir)) = open.take() {
                    dirs::sync(&dir).map_err(trouble("sync", &dir, b""))?;
                }
                match self.part_of(&step) {
                    Ok(dir) => open = Some((key, dir)),
                    Err(error) if error.is_full() => return Err(error),
                    Err(error) => {
                        let text = self.trays[step.tray as usize].text.clone();
                        self.refuse(&text, &error);
                    }
                }
            }
            count += 1;
            let Some((_, dir)) = &open else {
                let text = &self.trays[step.tray as usize].text;
                self.report.brought.entry(text.clone()).and_modify(|count| *count -= 1);
                continue;
            };
            match dirs::move_new((&self.tmp, &self.temporary_name(step.temporary)), (dir, &step.name)) {
                Ok(()) => temporary.keep(),
                Err(Errno::EXIST) => {
                    let text = format!("{}: somebody took this name meanwhile", bytes::display(&step.name));
                    self.report.problem(text);
                }
                Err(errno) => return Err(trouble("move", dir, &step.name)(errno)),
            }
        }
        if let Some((_, dir)) = open {
            dirs::sync(&dir).map_err(trouble("sync", &dir, b""))?;
        }
        self.settled += count;
        let settled = self.settled;
        if let Some(journal) = &mut self.journal {
            journal.write(&Step::Settled(settled));
        }
        Ok(())
    }

    /// The folder that a letter is moved into, its keywords kept.
    fn part_of(&self, step: &Brought) -> Result<OpenDir> {
        let tray = &self.trays[step.tray as usize];
        let place = trays::place(&self.mailbox, self.run(), step.tray as usize, tray);
        let dir = self.mailbox.open_folder(&place)?;
        tray.keep_keywords(&dir)?;
        let part = if step.is_new { Part::New } else { Part::Cur };
        dirs::step(&dir, part.name()).map_err(trouble("open", &dir, part.name()))
    }
}
