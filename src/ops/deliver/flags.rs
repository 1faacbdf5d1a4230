//! Flags alone: messages that still lie in the mailbox get the read and flag state of the letters, as Dovecot gives it,
//! by a new name for the same file.

use std::collections::BTreeMap;

use rustix::io::Errno;

use super::dirs::{self, trouble};
use super::identity::{Identities, Place};
use super::journal::{Flagged, Journal, Step};
use super::mailbox::{Folder, Mailbox, lock};
use super::resume::begun;
use super::trays::{self, Tray};
use super::{Options, Part, Result};
use crate::base::bytes;
use crate::base::causes::told;
use crate::mail::letter::{FLAGS, Letter};
use crate::mail::maildir;
use crate::source::dir::OpenDir;
use crate::source::meta;
use crate::source::problem::join;

/// Messages that wait for their new names, which costs one write to the journal.
const BATCH: usize = 64;
/// How often a message is looked for again that its reader renames meanwhile.
const TRIES: usize = 5;
/// The mark to be expunged is taken away, and never set.
const UNWANTED_FLAG: u8 = b'T';

/// What became of a letter's message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marked {
    /// It gets the letter's flags.
    Set,
    /// It has them.
    Same,
    /// It is not in the mailbox any more, or has another content.
    Gone,
    /// Copies of it lie in several folders, and none in the letter's.
    Unclear,
}

/// What was done, or would be.
#[derive(Debug, Clone, Default)]
pub struct FlagReport {
    /// The run's name; none when nothing was done.
    pub run: Option<String>,
    /// Messages that got other flags, by folder.
    pub set: BTreeMap<String, u64>,
    /// Messages that had them.
    pub same: u64,
    /// Letters whose message is gone.
    pub gone: u64,
    /// Letters of which it is not clear which message is meant.
    pub unclear: u64,
    /// Folders whose messages stay as they are, for they cannot be read, and why.
    pub problems: Vec<String>,
    /// Keywords that could not be set, and on how many messages.
    pub keywords_left: BTreeMap<String, u64>,
    /// Why `doveadm` did not set them.
    pub doveadm_failed: Option<String>,
}

/// Gives flags back, letter by letter.
#[derive(Debug)]
pub struct Flagger {
    options: Options,
    mailbox: Mailbox,
    known: Identities,
    /// By folder: its keywords.
    trays: BTreeMap<usize, Tray>,
    journal: Option<Journal>,
    waiting: Vec<(Place, Flagged)>,
    /// Keywords that only the mail server can set: (folder, names) -> GUIDs.
    left: BTreeMap<(String, Vec<Vec<u8>>), Vec<String>>,
    report: FlagReport,
    _lock: Option<std::fs::File>,
}

/// The flags of a name and what some programs write after them, after a second comma.
fn letters_of(name: &[u8]) -> (&[u8], &[u8]) {
    let flags = maildir::parse(name).flags.unwrap_or_default();
    let end = flags.iter().position(|&byte| byte == b',').unwrap_or(flags.len());
    flags.split_at(end)
}

/// A file's name with other flags.
pub(super) fn with_letters(name: &[u8], separator: u8, letters: &[u8]) -> Vec<u8> {
    let parsed = maildir::parse(name);
    let separator = if parsed.flags.is_some() { name[parsed.base.len()] } else { separator };
    let mut letters = letters.to_vec();
    letters.sort_unstable();
    letters.dedup();
    [parsed.base, &[separator], b"2,", &letters, letters_of(name).1].concat()
}

/// What a message should have: the letter's flags, and of its own what no letter can speak of.
fn wanted(own: &[u8], letter: &Letter, keywords: &[u8], tray: &Tray) -> Vec<u8> {
    let is_ours = |byte: &u8| {
        FLAGS.contains(byte) || (byte.is_ascii_lowercase() && tray.keywords.name(*byte).is_some())
    };
    let mut wanted: Vec<u8> = own.iter().copied().filter(|byte| !is_ours(byte)).collect();
    wanted.extend(letter.flags.iter().filter(|&&flag| flag != UNWANTED_FLAG));
    wanted.extend(keywords);
    wanted.sort_unstable();
    wanted.dedup();
    wanted
}

impl Flagger {
    /// Opens a mailbox.
    pub fn open(options: Options) -> Result<Flagger> {
        let mailbox = Mailbox::open(&options.location)?;
        let lock = if options.dry_run { None } else { Some(lock(&options.journals, &mailbox)?) };
        let known = Identities::of(&mailbox)?;
        let broken = known.broken.iter().map(|(number, error)| {
            format!("folder {} is not looked into: {}", known.folders[*number].text, told(error))
        });
        let problems = broken.collect();
        let report = FlagReport { problems, ..FlagReport::default() };
        Ok(Flagger {
            options,
            mailbox,
            known,
            trays: BTreeMap::new(),
            journal: None,
            waiting: Vec::new(),
            left: BTreeMap::new(),
            report,
            _lock: lock,
        })
    }

    /// Gives the message of a letter its flags.
    pub fn mark(&mut self, letter: &Letter) -> Result<Marked> {
        let marked = self.look(letter)?;
        match marked {
            Marked::Set => {}
            Marked::Same => self.report.same += 1,
            Marked::Gone => self.report.gone += 1,
            Marked::Unclear => self.report.unclear += 1,
        }
        Ok(marked)
    }

    fn look(&mut self, letter: &Letter) -> Result<Marked> {
        let mut places: Vec<Place> = self.known.find(&letter.base);
        places.extend(letter.guid.as_deref().map(|guid| self.known.find(guid)).unwrap_or_default());
        places.retain(|place| self.is_it(place, letter));
        let here = places.iter().position(|place| self.known.folders[place.folder].text == letter.folder);
        let place = match (here, places.len()) {
            (Some(here), _) => places.swap_remove(here),
            (None, 1) => places.swap_remove(0),
            (None, 0) => return Ok(Marked::Gone),
            (None, _) => return Ok(Marked::Unclear),
        };
        let tray = self.tray(place.folder)?;
        let (keywords, left) = tray.letters(&letter.keywords);
        let own = letters_of(&place.name).0;
        let to = wanted(own, letter, &keywords, tray);
        let left: Vec<Vec<u8>> = left.into_iter().map(<[u8]>::to_vec).collect();
        let base = maildir::base(&place.name).to_vec();
        if !left.is_empty() {
            let folder = self.known.folders[place.folder].text.clone();
            let guid = String::from_utf8_lossy(letter.guid.as_deref().unwrap_or(&base)).into_owned();
            self.left.entry((folder, left)).or_default().push(guid);
        }
        let mut sorted = own.to_vec();
        sorted.sort_unstable();
        if sorted == to {
            return Ok(Marked::Same);
        }
        let text = self.known.folders[place.folder].text.clone();
        *self.report.set.entry(text).or_default() += 1;
        if self.options.dry_run {
            return Ok(Marked::Set);
        }
        let folder = self.known.folders[place.folder].path.clone();
        let from = (place.part == Part::Cur).then(|| own.to_vec());
        self.waiting.push((place, Flagged { folder, base, from, to }));
        if self.waiting.len() >= BATCH {
            self.commit()?;
        }
        Ok(Marked::Set)
    }

    /// Same identity, same size.
    fn is_it(&self, place: &Place, letter: &Letter) -> bool {
        let folder = join(&self.known.folders[place.folder].path, place.part.name());
        let Ok(dir) = dirs::open_below(&self.mailbox.root, &folder) else { return false };
        let named = find(&dir, &place.name).or_else(|| {
            // Its reader has renamed it since: the journal's turn is later, here its size is enough.
            let base = maildir::base(&place.name);
            let (names, _) = dir.names();
            let name = names.into_iter().find(|(_, name)| maildir::base(name) == base)?.1;
            find(&dir, &name)
        });
        named == Some(letter.size)
    }

    fn tray(&mut self, folder: usize) -> Result<&mut Tray> {
        if !self.trays.contains_key(&folder) {
            let known = &self.known.folders[folder];
            let place = Folder { path: known.path.clone(), text: known.text.clone() };
            self.trays.insert(folder, trays::open(&self.mailbox, &place, folder)?);
        }
        Ok(self.trays.get_mut(&folder).expect("it was just opened"))
    }

    /// Gives all that wait their names.
    fn commit(&mut self) -> Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let journal = match &mut self.journal {
            Some(journal) => journal,
            None => {
                let begun = begun(&self.options, self.mailbox.layout, true);
                self.journal.insert(Journal::begin(&self.options.journals, begun)?)
            }
        };
        for (_, step) in &self.waiting {
            journal.write(&Step::Flagged(step.clone()));
        }
        journal.sync()?;
        let separator = self.known.separator.unwrap_or(b':');
        for (place, step) in std::mem::take(&mut self.waiting) {
            let folder = self.mailbox.open_folder(&step.folder)?;
            if !rename(&folder, (place.part, &place.name), separator, &step)? {
                self.report.gone += 1;
                let text = &self.known.folders[place.folder].text;
                self.report.set.entry(text.clone()).and_modify(|count| *count -= 1);
            }
        }
        Ok(())
    }

    /// All letters have come, or no more do.
    pub fn finish(mut self) -> Result<FlagReport> {
        self.commit()?;
        let doveadm = self.options.doveadm.clone().filter(|_| !self.options.dry_run);
        for ((folder, keywords), guids) in std::mem::take(&mut self.left) {
            let names =
                keywords.iter().map(|name| String::from_utf8_lossy(name)).collect::<Vec<_>>().join(" ");
            let user = &self.options.user;
            match doveadm.as_ref().map(|doveadm| doveadm.add_keywords(user, &folder, &names, &guids)) {
                Some(Ok(())) => continue,
                Some(Err(error)) => self.report.doveadm_failed = Some(told(&error)),
                None => {}
            }
            for keyword in &keywords {
                *self.report.keywords_left.entry(bytes::display(keyword)).or_default() += guids.len() as u64;
            }
        }
        if let Some(mut journal) = self.journal.take() {
            journal.write_now(&Step::Ended)?;
            self.report.run = Some(journal.id);
        }
        self.report.set.retain(|_, count| *count > 0);
        Ok(self.report)
    }
}

/// The size of a file.
fn find(dir: &OpenDir, name: &[u8]) -> Option<u64> {
    meta::of_entry(dir.fd(), name).ok().map(|(_, meta)| meta.size)
}

/// Where a message of a folder lies now.
pub(super) fn look_for(folder: &OpenDir, base: &[u8]) -> Result<Option<(Part, Vec<u8>)>> {
    for part in [Part::New, Part::Cur] {
        let Ok(dir) = dirs::step(folder, part.name()) else { continue };
        let (names, outcome) = dir.names();
        outcome.map_err(trouble("list", &dir, b""))?;
        if let Some((_, name)) = names.into_iter().find(|(_, name)| maildir::base(name) == base) {
            return Ok(Some((part, name.into_vec())));
        }
    }
    Ok(None)
}

/// Gives a message other flags; false when it is gone.
fn rename(folder: &OpenDir, at: (Part, &[u8]), separator: u8, step: &Flagged) -> Result<bool> {
    let mut at = (at.0, at.1.to_vec());
    for _ in 0..TRIES {
        // What its reader has set since the letter was compared stays, where the letter does not speak of it.
        let own = letters_of(&at.1).0;
        let to = turned(own, step.from.as_deref().unwrap_or_default(), &step.to);
        match move_to_cur(folder, (at.0, &at.1), &with_letters(&at.1, separator, &to))? {
            true => return Ok(true),
            false => match look_for(folder, &step.base)? {
                Some(there) => at = there,
                None => return Ok(false),
            },
        }
    }
    Ok(false)
}

/// Renames a message within its folder; false when it is not there under that name.
pub(super) fn move_to_cur(folder: &OpenDir, from: (Part, &[u8]), to: &[u8]) -> Result<bool> {
    let open = |part: Part| dirs::step(folder, part.name()).map_err(trouble("open", folder, part.name()));
    let (dir, cur) = (open(from.0)?, open(Part::Cur)?);
    if from.0 == Part::Cur && from.1 == to {
        return Ok(find(&cur, to).is_some());
    }
    match dirs::move_new((&dir, from.1), (&cur, to)) {
        Ok(()) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(trouble("move", &cur, to)(errno)),
    }
}

/// Letters that are as in `from` become as in `to`, where both differ; all others stay.
pub(super) fn turned(own: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let is_moot = |letter: &u8| from.contains(letter) == to.contains(letter);
    let mut letters: Vec<u8> =
        own.iter().copied().filter(|letter| is_moot(letter) || to.contains(letter)).collect();
    letters.extend(to.iter().filter(|letter| !is_moot(letter)));
    letters.sort_unstable();
    letters.dedup();
    letters
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_turned() {
        // Between from and to S went and F came; R was set by somebody since.
        assert_eq!(turned(b"RS", b"S", b"F"), b"FR");
        // And back: what somebody changed himself stays changed where it is so already.
        assert_eq!(turned(b"FR", b"F", b"S"), b"RS");
        assert_eq!(turned(b"Sa", b"a", b"b"), b"Sb");
        assert_eq!(with_letters(b"1.a.b,S=3:2,S,x", b':', b"SF"), b"1.a.b,S=3:2,FS,x");
        assert_eq!(with_letters(b"1.a.b;2,", b':', b"S"), b"1.a.b;2,S");
        assert_eq!(with_letters(b"1.a.b", b'!', b""), b"1.a.b!2,");
    }
}
