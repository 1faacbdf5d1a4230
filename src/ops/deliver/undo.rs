//! Taking back what a run brought, and putting that back again.
//!
//! What is taken away lies in a folder of ours in the mailbox, `mailark-held-<run>`, which mail programs pass over:
//! nothing is deleted. A message is taken only out of the folder that it was brought to, and only when it is the same
//! file; what its reader has moved stays where it is. Both ways go on where they were interrupted.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::OsString;
use std::fs::File;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::dirs::{self, trouble};
use super::fitness::complete;
use super::flags::{look_for, move_to_cur, turned, with_letters};
use super::journal::{Begun, Brought, Flagged, Journal, State, Step, state_of};
use super::mailbox::{Mailbox, lock};
use super::quota::{self, Weight};
use super::subscriptions::{self, Change};
use super::trays::{self, last_name};
use super::{DeliverError, Location, Part, Result};
use crate::mail::maildir;
use crate::source::dir::OpenDir;
use crate::source::meta;
use crate::source::problem::join;

/// What was taken away, or put back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Moved {
    /// The run.
    pub run: String,
    /// Messages, or messages whose flags were turned back.
    pub messages: u64,
    /// Messages that are not where the run had put them: their reader moved or deleted them.
    pub left: u64,
    /// Folders that went, or came back.
    pub folders: Vec<String>,
    /// Folders of the run that stay, for other mail lies in them.
    pub kept: Vec<String>,
    /// Where it all lies now.
    pub held: Option<PathBuf>,
}

/// A folder that letters were put into, as the journal tells.
struct Tray {
    text: String,
    path: Vec<u8>,
    /// The run made it.
    is_own: bool,
    is_subscribed: bool,
    letters: Vec<Brought>,
}

/// A run that is taken back or put back.
struct Work {
    journal: Journal,
    mailbox: Mailbox,
    begun: Begun,
    trays: Vec<Tray>,
    flags: Vec<Flagged>,
    moved: Moved,
    _lock: File,
}

/// How often a message is looked for that its reader renames meanwhile.
const TRIES: usize = 5;

fn path_of(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsString::from_vec(bytes.to_vec()))
}

/// Opens a run that is in one of the states.
fn open(journals: &Path, id: &str, states: &[State], why: &'static str) -> Result<Work> {
    let (journal, steps) = Journal::open(journals, id)?;
    if !states.contains(&state_of(&steps)) {
        return Err(DeliverError::NotNow { id: id.to_owned(), why });
    }
    let (mut begun, mut trays, mut flags) = (None, Vec::<Tray>::new(), Vec::new());
    for step in steps {
        match step {
            Step::Begun(how) => begun = Some(how),
            Step::Tray { text, path, is_staged } => {
                trays.push(Tray { text, path, is_own: is_staged, is_subscribed: false, letters: Vec::new() });
            }
            Step::Brought(letter) => {
                if let Some(tray) = trays.get_mut(letter.tray as usize) {
                    tray.letters.push(letter);
                }
            }
            Step::Subscribed(tray) => {
                if let Some(tray) = trays.get_mut(tray as usize) {
                    tray.is_subscribed = true;
                }
            }
            Step::Flagged(step) => flags.push(step),
            _ => {}
        }
    }
    let begun: Begun = begun.ok_or_else(|| DeliverError::NoRun { id: id.to_owned() })?;
    let location = Location {
        mailbox: path_of(&begun.mailbox),
        control: begun.control.as_deref().map(path_of),
        layout: Some(begun.layout),
    };
    let mailbox = Mailbox::open(&location)?;
    let lock = lock(journals, &mailbox)?;
    let moved = Moved { run: id.to_owned(), ..Moved::default() };
    Ok(Work { journal, mailbox, begun, trays, flags, moved, _lock: lock })
}

/// Takes away what a run brought.
pub fn undo(journals: &Path, id: &str) -> Result<Moved> {
    let states = [State::Open, State::Done, State::Undoing];
    let mut work = open(journals, id, &states, "was taken back already")?;
    work.journal.write_now(&Step::UndoBegun)?;
    if work.begun.flags_only {
        work.turn_flags(true)?;
    } else {
        work.take_all()?;
    }
    work.journal.write_now(&Step::UndoEnded)?;
    Ok(work.moved)
}

/// Puts back what was taken away.
pub fn redo(journals: &Path, id: &str) -> Result<Moved> {
    let mut work = open(journals, id, &[State::Undone, State::Redoing], "was not taken back")?;
    work.journal.write_now(&Step::RedoBegun)?;
    if work.begun.flags_only {
        work.turn_flags(false)?;
    } else {
        work.put_all()?;
    }
    work.journal.write_now(&Step::RedoEnded)?;
    Ok(work.moved)
}

/// Names of the messages in a part of a folder.
fn messages(dir: &OpenDir) -> Result<Vec<Vec<u8>>> {
    let (names, outcome) = dir.names();
    outcome.map_err(trouble("list", dir, b""))?;
    Ok(names.into_iter().map(|(_, name)| name.into_vec()).filter(|name| !name.starts_with(b".")).collect())
}

/// How many messages a folder holds, and files on their way to it.
fn population(folder: &OpenDir) -> Result<usize> {
    let mut count = 0;
    for part in [&b"cur"[..], b"new", b"tmp"] {
        match dirs::step(folder, part) {
            Ok(dir) => count += messages(&dir)?.len(),
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(trouble("open", folder, part)(errno)),
        }
    }
    Ok(count)
}

/// Do other folders lie in this one on disk?
fn has_subfolders(folder: &OpenDir) -> bool {
    let (names, _) = folder.names();
    let other = |name: &[u8]| !matches!(name, b"cur" | b"new" | b"tmp") && dirs::step(folder, name).is_ok();
    names.iter().any(|(_, name)| other(name))
}

impl Work {
    fn held_name(&self) -> Vec<u8> {
        self.mailbox.own_name(&format!("held-{}", self.moved.run))
    }

    /// The holding area of a tray; made where it is not there.
    fn held(&self, number: usize) -> Result<OpenDir> {
        let (root, like, name) = (&self.mailbox.root, self.mailbox.like, self.held_name());
        let (own, _) = dirs::make(root, &name, like).map_err(trouble("create", root, &name))?;
        let name = number.to_string().into_bytes();
        let (dir, _) = dirs::make(&own, &name, like).map_err(trouble("create", &own, &name))?;
        for part in [Part::Cur, Part::New] {
            dirs::make(&dir, part.name(), like).map_err(trouble("create", &dir, part.name()))?;
        }
        Ok(dir)
    }

    /// Removes what is empty of the holding area.
    fn clear_held(&self) -> Result<()> {
        let (root, name) = (&self.mailbox.root, self.held_name());
        let Ok(own) = dirs::step(root, &name) else { return Ok(()) };
        for number in 0..self.trays.len() {
            let number = number.to_string().into_bytes();
            let Ok(dir) = dirs::step(&own, &number) else { continue };
            for part in [Part::Cur, Part::New] {
                dirs::remove_folder(&dir, part.name()).map_err(trouble("remove", &dir, part.name()))?;
            }
            dirs::remove_folder(&own, &number).map_err(trouble("remove", &own, &number))?;
        }
        dirs::remove_folder(root, &name).map(drop).map_err(trouble("remove", root, &name))
    }

    /// What lies in the holding area.
    fn weight(&self) -> Weight {
        dirs::step(&self.mailbox.root, &self.held_name()).map(|held| quota::weigh(&held)).unwrap_or_default()
    }

    fn take_all(&mut self) -> Result<()> {
        self.clear_tmp()?;
        let before = self.weight();
        // A folder that lies in another goes before it.
        let mut numbers: Vec<usize> = (0..self.trays.len()).collect();
        numbers.sort_by_key(|&number| std::cmp::Reverse(self.trays[number].path.len()));
        for number in numbers {
            if !self.take_staged(number)? {
                self.take(number)?;
            }
        }
        let (root, staging) = (&self.mailbox.root, trays::staging(&self.mailbox, &self.moved.run));
        dirs::remove_folder(root, &staging).map_err(trouble("remove", root, &staging))?;
        quota::note(&self.mailbox.root, self.weight().since(before).away())?;
        self.clear_held()?;
        let held = self.held_name();
        if dirs::step(&self.mailbox.root, &held).is_ok() {
            self.moved.held = Some(path_of(&join(&self.begun.mailbox, &held)));
        }
        Ok(())
    }

    /// Letters that had not left `tmp` are nobody's yet.
    fn clear_tmp(&self) -> Result<()> {
        let Ok(tmp) = self.mailbox.open_folder(b"tmp") else { return Ok(()) };
        let prefix = format!("mailark-{}-", self.moved.run).into_bytes();
        for name in messages(&tmp)?.iter().filter(|name| name.starts_with(&prefix)) {
            dirs::remove(&tmp, name).map_err(trouble("remove", &tmp, name))?;
        }
        Ok(())
    }

    /// A tray that never appeared goes as a whole; false when there is none.
    fn take_staged(&mut self, number: usize) -> Result<bool> {
        let staging = trays::staging(&self.mailbox, &self.moved.run);
        let name = number.to_string().into_bytes();
        let Ok(own) = dirs::step(&self.mailbox.root, &staging) else { return Ok(false) };
        let Ok(staged) = dirs::step(&own, &name) else { return Ok(false) };
        let count = population(&staged)?;
        if count == 0 {
            trays::discard(&own, &name)?;
            return Ok(true);
        }
        let held = self.held(number)?;
        dirs::move_new((&own, &name), (&held, b"folder")).map_err(trouble("move", &own, &name))?;
        self.moved.messages += count as u64;
        self.moved.folders.push(self.trays[number].text.clone());
        Ok(true)
    }

    /// Takes the letters of a tray, and the folder when it is the run's own and nothing else is in it.
    fn take(&mut self, number: usize) -> Result<()> {
        let path = self.trays[number].path.clone();
        let total = self.trays[number].letters.len() as u64;
        let folder = match dirs::open_below(&self.mailbox.root, &path) {
            Ok(folder) => folder,
            Err(Errno::NOENT) => {
                let held = self.held(number)?;
                if dirs::step(&held, b"folder").is_err() {
                    self.moved.left += total;
                    return Ok(());
                }
                // An interrupted undo took it.
                self.move_control(&path, (&held, true))?;
                return self.forget_folder(number);
            }
            Err(errno) => return Err(trouble("open", &self.mailbox.root, &path)(errno)),
        };
        let held = self.held(number)?;
        // A listing may miss a name that changes meanwhile: until nothing more is found.
        let mut taken = 0;
        loop {
            let more = self.take_letters(number, &folder, &held)?;
            taken += more;
            if more == 0 {
                break;
            }
        }
        let already = population(&held)? as u64;
        self.moved.messages += taken;
        self.moved.left += total.saturating_sub(already);
        for part in [Part::Cur, Part::New] {
            let dir = dirs::step(&held, part.name()).map_err(trouble("open", &held, part.name()))?;
            dirs::sync(&dir).map_err(trouble("sync", &dir, b""))?;
        }
        if !self.trays[number].is_own {
            return Ok(());
        }
        match self.take_folder(&path, &folder, &held)? {
            true => self.forget_folder(number),
            false => {
                self.moved.kept.push(self.trays[number].text.clone());
                Ok(())
            }
        }
    }

    /// A folder is gone: nothing is to speak of it.
    fn forget_folder(&mut self, number: usize) -> Result<()> {
        self.moved.folders.push(self.trays[number].text.clone());
        self.subscribe(number, Change::Remove)?;
        self.remove_above(&self.trays[number].path)
    }

    fn take_letters(&self, number: usize, folder: &OpenDir, held: &OpenDir) -> Result<u64> {
        let own: HashMap<&[u8], &Brought> =
            self.trays[number].letters.iter().map(|letter| (maildir::base(&letter.name), letter)).collect();
        let mut taken = 0;
        for part in [Part::New, Part::Cur] {
            let Ok(dir) = dirs::step(folder, part.name()) else { continue };
            let to = dirs::step(held, part.name()).map_err(trouble("open", held, part.name()))?;
            for name in messages(&dir)? {
                let Some(letter) = own.get(maildir::base(&name)) else { continue };
                if !is_same(&dir, &name, letter) {
                    continue;
                }
                match dirs::move_new((&dir, &name), (&to, &name)) {
                    Ok(()) => taken += 1,
                    // Its reader was faster: it has another name now, or is gone.
                    Err(Errno::NOENT) => taken += u64::from(self.take_again(folder, held, letter)?),
                    Err(errno) => return Err(trouble("move", &dir, &name)(errno)),
                }
            }
        }
        Ok(taken)
    }

    fn take_again(&self, folder: &OpenDir, held: &OpenDir, letter: &Brought) -> Result<bool> {
        let Some((part, name)) = look_for(folder, maildir::base(&letter.name))? else { return Ok(false) };
        let dir = dirs::step(folder, part.name()).map_err(trouble("open", folder, part.name()))?;
        let to = dirs::step(held, part.name()).map_err(trouble("open", held, part.name()))?;
        Ok(is_same(&dir, &name, letter) && dirs::move_new((&dir, &name), (&to, &name)).is_ok())
    }

    /// Takes a folder away when no mail is in it; true when it is gone.
    fn take_folder(&self, path: &[u8], folder: &OpenDir, held: &OpenDir) -> Result<bool> {
        if population(folder)? > 0 || has_subfolders(folder) {
            return Ok(false);
        }
        let cut = path.len() - last_name(path).len();
        let above = self.mailbox.open_folder(&path[..cut])?;
        let name = last_name(path);
        dirs::move_new((&above, name), (held, b"folder")).map_err(trouble("move", &above, name))?;
        // Mail that was delivered in that moment came along: it goes back with its folder.
        if population(folder)? > 0 {
            let back = dirs::move_new((held, b"folder"), (&above, name));
            return back.map(|()| false).map_err(trouble("move", &above, name));
        }
        self.move_control(path, (held, true))?;
        Ok(true)
    }

    /// The files by which Dovecot knows a folder go with it, when they lie elsewhere.
    fn move_control(&self, path: &[u8], (held, is_away): (&OpenDir, bool)) -> Result<()> {
        let Some(control) = self.mailbox.control() else { return Ok(()) };
        let (cut, name) = (path.len() - last_name(path).len(), last_name(path));
        if !is_away && dirs::step(held, b"control").is_err() {
            return Ok(());
        }
        let above = match is_away {
            false => trays::make_above(control, path, self.mailbox.like)?,
            true => match dirs::open_below(control, &path[..cut]) {
                Ok(above) => above,
                Err(_) => return Ok(()),
            },
        };
        let outcome = match is_away {
            true => dirs::move_new((&above, name), (held, b"control")),
            false => dirs::move_new((held, b"control"), (&above, name)),
        };
        match outcome {
            // On another disk, they stay: a folder of that name goes on counting there.
            Ok(()) | Err(Errno::NOENT | Errno::XDEV | Errno::EXIST) => Ok(()),
            Err(errno) => Err(trouble("move", &above, name)(errno)),
        }
    }

    /// Folders above one that is gone, and in which nothing is left.
    fn remove_above(&self, path: &[u8]) -> Result<()> {
        for top in [Some(&self.mailbox.root), self.mailbox.control()].into_iter().flatten() {
            let mut rest = path;
            while let Some(cut) = rest.iter().rposition(|&byte| byte == b'/') {
                rest = &rest[..cut];
                let above = rest.len() - last_name(rest).len();
                let Ok(dir) = dirs::open_below(top, &rest[..above]) else { break };
                if !dirs::remove_folder(&dir, last_name(rest)).map_err(trouble("remove", top, rest))? {
                    break;
                }
            }
        }
        Ok(())
    }

    fn subscribe(&self, number: usize, change: Change) -> Result<()> {
        let tray = &self.trays[number];
        if tray.is_subscribed {
            let parts = self.mailbox.subscription_of(&tray.path);
            subscriptions::change(self.mailbox.subscriptions_in(), &parts, self.mailbox.layout, change)?;
        }
        Ok(())
    }

    fn put_all(&mut self) -> Result<()> {
        let held = self.held_name();
        let Ok(own) = dirs::step(&self.mailbox.root, &held) else { return Ok(()) };
        let before = self.weight();
        for number in 0..self.trays.len() {
            let name = number.to_string().into_bytes();
            if let Ok(held) = dirs::step(&own, &name) {
                self.put(number, &held)?;
            }
        }
        quota::note(&self.mailbox.root, self.weight().since(before).away())?;
        self.clear_held()
    }

    fn put(&mut self, number: usize, held: &OpenDir) -> Result<()> {
        let path = self.trays[number].path.clone();
        let above = trays::make_above(&self.mailbox.root, &path, self.mailbox.like)?;
        let name = last_name(&path);
        match dirs::move_new((held, b"folder"), (&above, name)) {
            Ok(()) => {
                self.moved.folders.push(self.trays[number].text.clone());
                let folder = self.mailbox.open_folder(&path)?;
                self.moved.messages += population(&folder)? as u64;
            }
            Err(Errno::NOENT | Errno::EXIST | Errno::NOTEMPTY) => {}
            Err(errno) => return Err(trouble("move", &above, name)(errno)),
        }
        let folder = trays::make_folder(&self.mailbox, &above, name)?;
        complete(&folder)?;
        self.move_control(&path, (held, false))?;
        if self.trays[number].is_own {
            trays::move_keywords(&self.mailbox, &path, &folder)?;
            // A run that was interrupted had not come to it.
            self.journal.write_now(&Step::Subscribed(number as u32))?;
            self.trays[number].is_subscribed = true;
            self.subscribe(number, Change::Add)?;
        }
        let sources = [
            dirs::step(held, b"folder").ok(),
            Some(dirs::open_below(held, b"").map_err(trouble("open", held, b""))?),
        ];
        for from in sources.iter().flatten() {
            for part in [Part::New, Part::Cur] {
                let Ok(dir) = dirs::step(from, part.name()) else { continue };
                let to = dirs::step(&folder, part.name()).map_err(trouble("open", &folder, part.name()))?;
                for name in messages(&dir)? {
                    match dirs::move_new((&dir, &name), (&to, &name)) {
                        Ok(()) => self.moved.messages += 1,
                        Err(Errno::EXIST) => self.moved.left += 1,
                        Err(errno) => return Err(trouble("move", &to, &name)(errno)),
                    }
                }
                dirs::sync(&to).map_err(trouble("sync", &to, b""))?;
            }
        }
        Ok(())
    }

    /// Turns the flags of messages back, or again.
    fn turn_flags(&mut self, is_back: bool) -> Result<()> {
        let mut steps = std::mem::take(&mut self.flags);
        if is_back {
            steps.reverse();
        }
        let mut folders: HashMap<Vec<u8>, Option<(OpenDir, Names)>> = HashMap::new();
        for step in steps {
            let folder = match folders.entry(step.folder.clone()) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => {
                    let open = dirs::open_below(&self.mailbox.root, &step.folder).ok();
                    entry.insert(open.map(|dir| names_of(&dir).map(|names| (dir, names))).transpose()?)
                }
            };
            let there = match folder {
                Some((dir, names)) => turn(dir, names, &step, is_back)?,
                None => false,
            };
            match there {
                true => self.moved.messages += 1,
                false => self.moved.left += 1,
            }
        }
        Ok(())
    }
}

/// Messages of a folder: base name -> where it lies.
type Names = HashMap<Vec<u8>, (Part, Vec<u8>)>;

fn names_of(folder: &OpenDir) -> Result<Names> {
    let mut all = Names::new();
    for part in [Part::New, Part::Cur] {
        let Ok(dir) = dirs::step(folder, part.name()) else { continue };
        all.extend(messages(&dir)?.into_iter().map(|name| (maildir::base(&name).to_vec(), (part, name))));
    }
    Ok(all)
}

/// Turns the flags of one message; false when it is not there.
fn turn(folder: &OpenDir, names: &mut Names, step: &Flagged, is_back: bool) -> Result<bool> {
    let before = step.from.as_deref().unwrap_or_default();
    let (from, to) = if is_back { (step.to.as_slice(), before) } else { (before, step.to.as_slice()) };
    let mut at = names.remove(&step.base);
    for _ in 0..TRIES {
        let Some((part, name)) = at else { return Ok(false) };
        let own = maildir::parse(&name).flags.unwrap_or_default();
        let own = own.split(|&byte| byte == b',').next().unwrap_or_default();
        let new = with_letters(&name, b':', &turned(own, from, to));
        let stays = part == Part::New && own.is_empty() && to.is_empty();
        if stays || move_to_cur(folder, (part, &name), &new)? {
            let there = if stays { (part, name) } else { (Part::Cur, new) };
            names.insert(step.base.clone(), there);
            return Ok(true);
        }
        at = look_for(folder, &step.base)?;
    }
    Ok(false)
}

/// Is this the file that was brought, or one with its bytes?
fn is_same(dir: &OpenDir, name: &[u8], letter: &Brought) -> bool {
    match meta::of_entry(dir.fd(), name) {
        Ok((_, meta)) if meta.key() == letter.key => return true,
        Ok(_) => {}
        Err(_) => return false,
    }
    let Ok(mut file) = dirs::open_file(dir, name) else { return false };
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(&mut file).is_ok() && hasher.finalize().as_bytes()[..16] == letter.hash
}
