//! Live mail, each message once: what moved while the walk looked is put where it stands when the walk is over.
//!
//! A message that existed during the whole run was seen at one place, at several (it moved into a folder that was
//! still to come), or at none (it moved into one that had been). Events tell all its places; so it is kept at the
//! last one, with what was read of it anywhere, and read there if it was read nowhere. What was deleted stays at its
//! last place. Copies are messages of their own.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::worker::{One, Within, Worker};
use crate::base::id::BlobId;
use crate::format::page::{Entry, Node};
use crate::format::snapshot::Tree;
use crate::mail::maildir;
use crate::repo::RepoError;
use crate::repo::edit::Edit;
use crate::repo::reader::BlobReader;
use crate::repo::tree::{Listing, find};
use crate::repo::view::{is_within, part_folder, tree_at};
use crate::source::dir::Name;
use crate::source::live::Live;
use crate::source::meta::Kind;
use crate::source::moves::{Being, Moves, Place};
use crate::source::shape::{Shape, UID_LIST};
use crate::source::start::split;
use crate::source::watch::{Event, Token};

/// How often what moves on is run after.
const CHASES_MAX: usize = 50;
/// How often folders that events do not tell of are listed again.
const ROUNDS_MAX: usize = 6;

/// What was seen of the mail, and what is to be changed about it.
pub struct Amend<'a, 'w> {
    /// The folders.
    live: &'a mut Live,
    /// The parts as the walk left them: path and listing.
    parts: &'a [(Vec<u8>, Tree)],
    /// Reads their pages.
    reader: &'a BlobReader<'a>,
    /// Reads what was not read.
    worker: &'a mut Worker<'w>,
    /// When the run began, unix nanoseconds.
    started: i64,
    /// Listings by folder.
    trees: HashMap<Token, Option<Tree>>,
    /// Decided places: an entry, or nothing.
    decided: HashMap<Place, Option<Entry>>,
    /// UID lists that were read again, by folder.
    uid_lists: HashMap<Vec<u8>, Entry>,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Amended {
    /// Messages that were put where they stand.
    pub moved: u64,
    /// Messages that were seen twice and are kept once.
    pub doubled: u64,
    /// Messages that were read afterwards.
    pub late: u64,
    /// Folders kept changing, and events do not tell how.
    pub is_unsure: bool,
}

/// A file that came or went and of which events do not say where from or where to.
struct Loose {
    place: Place,
    entry: Entry,
}

impl<'a, 'w> Amend<'a, 'w> {
    /// Begins with nothing decided.
    pub fn new(
        live: &'a mut Live,
        parts: &'a [(Vec<u8>, Tree)],
        reader: &'a BlobReader<'a>,
        worker: &'a mut Worker<'w>,
        started: i64,
    ) -> Amend<'a, 'w> {
        let (trees, decided, uid_lists) = (HashMap::new(), HashMap::new(), HashMap::new());
        Amend { live, parts, reader, worker, started, trees, decided, uid_lists }
    }

    /// Decides about everything that moved.
    pub fn decide(&mut self) -> Result<Amended, RepoError> {
        let mut amended = Amended::default();
        let mut moves = Moves::default();
        self.live.take(&mut moves);
        let mut round = 0;
        loop {
            self.follow(&mut moves, &mut amended)?;
            if !self.compare(&mut moves)? {
                return Ok(amended);
            }
            round += 1;
            if round == ROUNDS_MAX {
                amended.is_unsure = true;
                return Ok(amended);
            }
        }
    }

    /// Lists again what events do not tell of; true when something moved there.
    fn compare(&mut self, moves: &mut Moves) -> Result<bool, RepoError> {
        let all = moves.is_incomplete;
        let (mut fresh, mut any) = (Moves::default(), false);
        for token in self.live.tokens() {
            let Some(now) = self.live.list_again(token, all) else { continue };
            any = true;
            let seen = self.names_seen(token)?;
            fresh.take(seen.difference(&now).map(|name| Event::Went {
                token,
                name: name.clone(),
                cookie: None,
            }));
            fresh.take(now.difference(&seen).map(|name| Event::Came {
                token,
                name: name.clone(),
                cookie: None,
            }));
        }
        if all {
            // After an overflow the listings are what the events from now on go by.
            self.live.take(&mut fresh);
        }
        *moves = fresh;
        Ok(any)
    }

    /// The names that the snapshot has in a folder, as decided so far.
    fn names_seen(&mut self, token: Token) -> Result<HashSet<Name>, RepoError> {
        let (tree, reader) = (self.tree(token)?, self.reader);
        let entries = tree.iter().flat_map(|tree| Listing::new(tree, |id: &BlobId| reader.page(id)));
        let mut names: HashSet<Name> =
            entries.map(|entry| Ok(entry?.name.into())).collect::<Result<_, RepoError>>()?;
        for ((_, name), entry) in self.decided.iter().filter(|((of, _), _)| *of == token) {
            match entry {
                Some(_) => names.insert(name.clone()),
                None => names.remove(name),
            };
        }
        Ok(names)
    }

    /// The listing of a folder as the walk left it.
    fn tree(&mut self, token: Token) -> Result<Option<Tree>, RepoError> {
        if let Some(tree) = self.trees.get(&token) {
            return Ok(*tree);
        }
        let parts = self.parts.iter().map(|(path, tree)| (path.as_slice(), tree));
        let tree = tree_at(self.reader, parts, &self.live.folder(token).logical)?;
        self.trees.insert(token, tree);
        Ok(tree)
    }

    /// Goes through what happened, and runs after what goes on moving.
    fn follow(&mut self, moves: &mut Moves, amended: &mut Amended) -> Result<(), RepoError> {
        let (mut came, mut went) = (Vec::new(), Vec::new());
        let mut pending: Vec<usize> = (0..moves.beings().len()).collect();
        for chase in 0..CHASES_MAX {
            let mut missed = Vec::new();
            for being in std::mem::take(&mut pending) {
                let found = own_trail(moves, being);
                if !self.settle(&found, &mut came, &mut went, amended)? {
                    missed.push(being);
                }
            }
            if missed.is_empty() {
                break;
            }
            amended.is_unsure |= chase + 1 == CHASES_MAX;
            let before = moves.beings().len();
            self.live.take(moves);
            pending = missed.iter().map(|being| heir(moves, *being, before)).collect();
        }
        // A move by link and delete: the one that went is the one that came.
        let mut gone = Vec::new();
        for loose in went {
            match came.iter().position(|other| is_same_message(&loose.entry, &other.entry)) {
                Some(at) => {
                    came.swap_remove(at);
                    self.forget(loose.place, amended);
                }
                None => gone.push(loose),
            }
        }
        self.look_for(gone, amended)
    }

    fn forget(&mut self, place: Place, amended: &mut Amended) {
        amended.doubled += 1;
        self.decided.insert(place, None);
    }

    /// What left a folder may have come to one that was not watched yet, and have been listed there.
    fn look_for(&mut self, gone: Vec<Loose>, amended: &mut Amended) -> Result<(), RepoError> {
        if gone.is_empty() {
            return Ok(());
        }
        let mut wanted: HashMap<Vec<u8>, Vec<Loose>> = HashMap::new();
        for loose in gone {
            wanted.entry(maildir::base(&loose.place.1).to_vec()).or_default().push(loose);
        }
        // It may have moved on from there.
        let decided: Vec<(Place, Entry)> = self
            .decided
            .iter()
            .filter(|((_, name), _)| wanted.contains_key(maildir::base(name)))
            .filter_map(|(place, entry)| Some((place.clone(), entry.clone()?)))
            .collect();
        for (place, entry) in decided {
            // One of them may have been forgotten for the other.
            if self.decided.get(&place).is_none_or(Option::is_none) {
                continue;
            }
            self.settle_twin(&mut wanted, &place, &entry, amended);
        }
        let reader = self.reader;
        for token in self.live.tokens() {
            if !self.live.folder(token).is_listed {
                continue;
            }
            let Some(tree) = self.tree(token)? else { continue };
            for entry in Listing::new(&tree, |id: &BlobId| reader.page(id)) {
                let entry = entry?;
                let place: Place = (token, entry.name.as_slice().into());
                if !self.decided.contains_key(&place) {
                    self.settle_twin(&mut wanted, &place, &entry, amended);
                }
            }
        }
        Ok(())
    }

    /// Forgets one of those that went when it is what stands at another place.
    fn settle_twin(
        &mut self,
        wanted: &mut HashMap<Vec<u8>, Vec<Loose>>,
        place: &Place,
        entry: &Entry,
        amended: &mut Amended,
    ) {
        let Some(loose) = wanted.get_mut(maildir::base(&entry.name)) else { return };
        let found = |one: &Loose| one.place != *place && is_same_message(&one.entry, entry);
        if let Some(at) = loose.iter().position(found) {
            let one = loose.swap_remove(at);
            self.forget(one.place, amended);
        }
    }

    /// Decides about one file; false when it moved on before it could be read.
    fn settle(
        &mut self,
        being: &Being,
        came: &mut Vec<Loose>,
        went: &mut Vec<Loose>,
        amended: &mut Amended,
    ) -> Result<bool, RepoError> {
        let Some(last) = being.trail.last().cloned() else { return Ok(true) };
        let mut seen: Vec<(Place, Entry)> = Vec::new();
        for place in &being.trail {
            if seen.iter().all(|(known, _)| known != place)
                && let Some(entry) = self.seen_at(place)?
            {
                seen.push((place.clone(), entry));
            }
        }
        let Some((at, entry)) = seen.iter().rev().find(|(place, _)| *place == last).or(seen.last()).cloned()
        else {
            return if being.is_there { self.read(&last, being, came, amended) } else { Ok(true) };
        };
        amended.doubled += seen.len() as u64 - 1;
        for (place, _) in seen {
            self.decided.insert(place, None);
        }
        let (place, entry) = match being.is_there {
            true => {
                amended.moved += u64::from(at != last);
                (last.clone(), Entry { name: last.1.to_vec(), ..entry })
            }
            false => (at, entry),
        };
        self.decided.insert(place.clone(), Some(entry.clone()));
        let loose = Loose { place, entry };
        match being {
            Being { is_there: false, .. } => went.push(loose),
            Being { is_old: false, .. } => came.push(loose),
            _ => {}
        }
        Ok(true)
    }

    /// Reads a message that was seen nowhere, unless it is younger than the run.
    fn read(
        &mut self,
        place: &Place,
        being: &Being,
        came: &mut Vec<Loose>,
        amended: &mut Amended,
    ) -> Result<bool, RepoError> {
        // A folder that is gone took its mail along.
        let Some(dir) = self.live.open(place.0) else { return Ok(true) };
        let Ok(listed) = dir.look(place.1.clone()) else { return Ok(false) };
        let is_young = !being.is_old && listed.meta.birth.is_some_and(|birth| birth >= self.started);
        if listed.kind != Kind::File || is_young {
            return Ok(true);
        }
        let logical = self.live.folder(place.0).logical.clone();
        let folder_name = split(&logical).1.to_vec();
        let within = Within { dir: Arc::new(dir), folder_name, shape: Shape::Messages };
        match self.worker.one(&within, &logical, listed)? {
            One::Vanished => Ok(false),
            One::Nothing => Ok(true),
            One::Entry(entry) => {
                amended.late += 1;
                self.decided.insert(place.clone(), Some((*entry).clone()));
                if !being.is_old {
                    came.push(Loose { place: place.clone(), entry: *entry });
                }
                Ok(true)
            }
        }
    }

    /// What the snapshot has at a place, as decided so far.
    fn seen_at(&mut self, place: &Place) -> Result<Option<Entry>, RepoError> {
        if let Some(decided) = self.decided.get(place) {
            return Ok(decided.clone());
        }
        let Some(tree) = self.tree(place.0)? else { return Ok(None) };
        let reader = self.reader;
        let entry = find(&tree, &place.1, &mut |id: &BlobId| reader.page(id))?;
        Ok(entry.filter(|entry| matches!(entry.node, Node::File(_))))
    }

    /// Reads the UID lists of folders in which something was decided: a list must not be older than the look at its
    /// folder, or a message that it lacks may get another UID than people saw.
    pub fn read_uid_lists(&mut self) -> Result<(), RepoError> {
        let tokens: HashSet<Token> = self.decided.keys().map(|(token, _)| *token).collect();
        for token in tokens {
            let logical = part_folder(&self.live.folder(token).logical).to_vec();
            let Some(Ok(dir)) = self.live.open(token).map(|dir| dir.open_parent()) else { continue };
            let Ok(listed) = dir.look(UID_LIST.into()) else { continue };
            if self.uid_lists.contains_key(&logical) || listed.kind != Kind::File {
                continue;
            }
            let folder_name = split(&logical).1.to_vec();
            let within = Within { dir: Arc::new(dir), folder_name, shape: Shape::Maildir };
            if let One::Entry(entry) = self.worker.one(&within, &logical, listed)? {
                self.uid_lists.insert(logical, *entry);
            }
        }
        Ok(())
    }

    /// What was decided, as edits of a part's listing.
    pub fn edit(&self, part: &[u8]) -> Edit {
        let mut edit = Edit::default();
        let above = part_folder(part).len();
        for ((token, name), entry) in &self.decided {
            let folder = &self.live.folder(*token).logical;
            if !is_within(folder, part) {
                continue;
            }
            let folder = edit.folder(&folder[above..]);
            match entry {
                Some(entry) => folder.put(entry.clone()),
                None => folder.remove(name),
            }
        }
        for (folder, entry) in self.uid_lists.iter().filter(|(folder, _)| is_within(folder, part)) {
            edit.folder(&folder[above..]).put(entry.clone());
        }
        edit
    }
}

/// A file with the places that nobody else took after it.
fn own_trail(moves: &Moves, being: usize) -> Being {
    let found = &moves.beings()[being];
    let is_own = |place: &&Place| moves.holder(place).is_none_or(|holder| holder == being);
    let trail = found.trail.iter().filter(is_own).cloned().collect();
    Being { trail, ..*found }
}

/// Who stands for a file that was missed: itself, or who was linked under its base name before it was deleted.
fn heir(moves: &Moves, being: usize, before: usize) -> usize {
    let missed = &moves.beings()[being];
    if missed.is_there {
        return being;
    }
    let base = maildir::base(&missed.last().1);
    let is_heir = |other: &Being| other.is_there && !other.is_old && maildir::base(&other.last().1) == base;
    let found = moves.beings()[before..].iter().position(is_heir);
    found.map_or(being, |at| before + at)
}

fn is_same_message(one: &Entry, other: &Entry) -> bool {
    let (Node::File(file), Node::File(same)) = (&one.node, &other.node) else { return false };
    file.content == same.content && (one.mtime_s, one.mtime_ns) == (other.mtime_s, other.mtime_ns)
}
