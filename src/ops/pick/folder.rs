//! The messages of one mail folder, one after the other.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::mailfile::{self, Frames};
use super::{Body, FolderKind, MailFolder, PickError, Picked, Query, State, Step, Survey};
use crate::base::id::BlobId;
use crate::base::interrupt::Interrupt;
use crate::format::content::Content;
use crate::format::page::{Entry, File, Node};
use crate::format::snapshot::{Snapshot, Tree};
use crate::mail::heading::HeadingReader;
use crate::mail::letter::{Letter, split_flags};
use crate::mail::maildir;
use crate::mail::templates::Users;
use crate::repo::RepoError;
use crate::repo::reader::{Blob, BlobReader};
use crate::repo::tree::Listing;
use crate::repo::view::{self, join, part_folder};
use jiff::tz::TimeZone;

/// Where messages come from, and how their times are read.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) reader: &'a BlobReader<'a>,
    pub(super) interrupt: &'a Interrupt,
    /// The zone of times that say none.
    pub(super) zone: &'a TimeZone,
}

/// Gives the messages of a folder that a query wants; `state` is that of the folder.
///
/// # Errors
/// Those of `tell`, an interruption, and what ends any run. Whatever else cannot be read is told.
pub fn letters<'a, E: From<RepoError>>(
    (reader, interrupt, zone): (&'a BlobReader<'a>, &'a Interrupt, &'a TimeZone),
    folder: &MailFolder,
    state: &State,
    query: &Query,
    tell: &mut dyn FnMut(Step<'a>) -> Result<(), E>,
) -> Result<(), E> {
    let source = Source { reader, interrupt, zone };
    let sieve = Sieve::new(query);
    let mut give = |step: Step<'a>| sieve.pass(step, tell);
    match &folder.kind {
        FolderKind::Maildir(trees) => {
            for (tree, part) in trees.iter().zip([&b"cur"[..], b"new"]) {
                let Some(tree) = tree else { continue };
                let path = join(&folder.path, part);
                let take = |entry: &Entry, file: &File| {
                    maildir_letter(source, (folder, state), &path, (entry, file))
                };
                each_file((source, query), &path, tree, &take, &mut give)?;
            }
            Ok(())
        }
        FolderKind::Mbox(entry) => {
            mailfile::each(source, folder, (&folder.path, entry), Frames::Mbox, &mut give)
        }
        FolderKind::Dbox(tree) => {
            let listing =
                Listing::new(tree, move |id: &BlobId| -> Result<Blob, RepoError> { reader.page(id) });
            for entry in listing {
                interrupt.check().map_err(RepoError::from)?;
                match entry.map_err(RepoError::from) {
                    Ok(entry) if mailfile::is_dbox_name(&entry.name) => {
                        let path = join(&folder.path, &entry.name);
                        mailfile::each(source, folder, (&path, &entry), Frames::Dbox, &mut give)?;
                    }
                    Ok(_) => {}
                    Err(error) if error.ends_the_run() => return Err(error.into()),
                    Err(error) => give(Step::Broken(folder.path.clone(), error))?,
                }
            }
            Ok(())
        }
    }
}

/// The base names of the messages of a Maildir folder; of another one none. What cannot be read is left out.
pub fn bases(
    reader: &BlobReader<'_>,
    folder: &MailFolder,
    interrupt: &Interrupt,
) -> Result<HashSet<Vec<u8>>, RepoError> {
    let mut found = HashSet::new();
    let FolderKind::Maildir(trees) = &folder.kind else { return Ok(found) };
    for tree in trees.iter().flatten() {
        for entry in Listing::new(tree, |id: &BlobId| -> Result<Blob, RepoError> { reader.page(id) }) {
            interrupt.check()?;
            match entry.map_err(RepoError::from) {
                Ok(entry) => drop(found.insert(maildir::base(&entry.name).to_vec())),
                Err(error) if error.ends_the_run() => return Err(error),
                Err(_) => {}
            }
        }
    }
    Ok(found)
}

/// Goes through the files of `cur` or `new`; those that arrived at no wanted time are not looked at.
fn each_file<'a, E: From<RepoError>>(
    (source, query): (Source<'a>, &Query),
    path: &[u8],
    tree: &Tree,
    take: &dyn Fn(&Entry, &File) -> Picked<'a>,
    give: &mut dyn FnMut(Step<'a>) -> Result<(), E>,
) -> Result<(), E> {
    let reader = source.reader;
    for entry in Listing::new(tree, move |id: &BlobId| -> Result<Blob, RepoError> { reader.page(id) }) {
        source.interrupt.check().map_err(RepoError::from)?;
        match entry.map_err(RepoError::from) {
            Ok(entry) => {
                if let Some(file) = message_file(&entry).filter(|_| query.wants_arrival(entry.mtime_s)) {
                    give(Step::Letter(Box::new(take(&entry, file))))?;
                }
            }
            Err(error) if error.ends_the_run() => return Err(error.into()),
            Err(error) => give(Step::Broken(path.to_vec(), error))?,
        }
    }
    Ok(())
}

/// Mail programs take every file there for a message whose name has no dot in front.
pub(super) fn message_file(entry: &Entry) -> Option<&File> {
    match &entry.node {
        Node::File(file) if !entry.name.starts_with(b".") => Some(file),
        _ => None,
    }
}

/// The letter of a message file in `cur` or `new` of a Maildir folder.
pub(super) fn maildir_letter<'a>(
    source: Source<'a>,
    (folder, state): (&MailFolder, &State),
    parent: &[u8],
    (entry, file): (&Entry, &File),
) -> Picked<'a> {
    let name = maildir::parse(&entry.name);
    let (flags, letters) = split_flags(name.flags.unwrap_or_default());
    let line = state.uids.as_ref().and_then(|uids| uids.find(name.base));
    let letter = Letter {
        user: folder.user.clone(),
        folder: folder.name.clone(),
        base: name.base.to_vec(),
        flags,
        keywords: letters.iter().map(|&letter| state.keywords.name(letter).map(<[u8]>::to_vec)).collect(),
        unseen_by_any: parent.ends_with(b"/new"),
        arrived_s: entry.mtime_s,
        arrived_ns: entry.mtime_ns,
        size: file.size,
        guid: line.and_then(|line| line.guid).map(<[u8]>::to_vec),
        uid: line.and_then(|line| Some((state.validity()?, line.uid))),
    };
    let path = join(parent, &entry.name);
    let body = Body::new(source.reader, source.interrupt, file.clone());
    Picked { letter, body, path, mode: entry.mode, owner: Arc::clone(&entry.owner) }
}

/// Lets through what a query wants.
pub struct Sieve<'q> {
    query: &'q Query,
    headings: HeadingReader,
}

impl<'q> Sieve<'q> {
    /// A sieve for many messages.
    pub fn new(query: &'q Query) -> Sieve<'q> {
        Sieve { query, headings: HeadingReader::default() }
    }

    fn pass<'a, E: From<RepoError>>(
        &self,
        step: Step<'a>,
        tell: &mut dyn FnMut(Step<'a>) -> Result<(), E>,
    ) -> Result<(), E> {
        let Step::Letter(picked) = step else { return tell(step) };
        match self.wants(&picked) {
            Ok(true) => tell(Step::Letter(picked)),
            Ok(false) => Ok(()),
            Err(error) if error.ends_the_run() => Err(error.into()),
            Err(error) => tell(Step::Broken(picked.path, error)),
        }
    }

    /// Is the message wanted, whatever its folder?
    pub fn wants(&self, picked: &Picked<'_>) -> Result<bool, RepoError> {
        let (letter, query) = (&picked.letter, self.query);
        if !query.wants_arrival(letter.arrived_s) {
            return Ok(false);
        }
        let head = if query.needs_head(&letter.base) { picked.body.head()? } else { None };
        let head = head.as_ref().map(AsRef::as_ref);
        Ok(query.wants_head(&letter.base, head, |head| self.headings.read(head).date))
    }
}

/// Finds single messages by their place; remembers a user's folders, and the state of the folder it looked into last.
pub struct Picker<'a> {
    source: Source<'a>,
    snapshot: &'a Snapshot,
    users: &'a Users,
    surveys: HashMap<String, Survey>,
    last: Option<(MailFolder, State)>,
}

impl<'a> Picker<'a> {
    /// Looks into one snapshot.
    pub fn new(
        (reader, interrupt, zone): (&'a BlobReader<'a>, &'a Interrupt, &'a TimeZone),
        snapshot: &'a Snapshot,
        users: &'a Users,
    ) -> Picker<'a> {
        let source = Source { reader, interrupt, zone };
        Picker { source, snapshot, users, surveys: HashMap::new(), last: None }
    }

    /// The message at a logical path; of an mbox or a dbox file message number `number`, counted from 0.
    ///
    /// `None` when the snapshot has no such message there, or nobody whose mail it would be.
    pub fn message(&mut self, path: &[u8], number: u64) -> Result<Option<Picked<'a>>, PickError> {
        Ok(self.messages(path, &BTreeSet::from([number]))?.pop())
    }

    /// As [`Picker::message`], several of one file; those that are not there are left out.
    pub fn messages(&mut self, path: &[u8], numbers: &BTreeSet<u64>) -> Result<Vec<Picked<'a>>, PickError> {
        self.select(path, &mut |number, _| numbers.contains(&number))
    }

    /// The messages at a logical path that `wanted` wants by their number and what they are made of.
    pub fn select(
        &mut self,
        path: &[u8],
        wanted: &mut dyn FnMut(u64, &Content) -> bool,
    ) -> Result<Vec<Picked<'a>>, PickError> {
        let tops = view::tops(self.source.reader, self.snapshot, path);
        if let Some((_, error)) = tops.broken.into_iter().next() {
            return Err(error.into());
        }
        let nothing = Ok(Vec::new());
        let Some((_, entry)) = tops.entries.into_iter().find(|(found, _)| found == path) else {
            return nothing;
        };
        let Node::File(file) = &entry.node else { return nothing };
        let parent = part_folder(path);
        let in_maildir = parent.ends_with(b"/cur") || parent.ends_with(b"/new");
        let is_dbox = mailfile::is_dbox_name(&entry.name);
        let at = match (in_maildir, is_dbox) {
            (true, _) => part_folder(parent),
            (false, true) => parent,
            (false, false) => path,
        };
        if self.last.as_ref().is_none_or(|(known, _)| known.path != at) {
            let Some(folder) = self.folder_at(at, in_maildir)? else { return nothing };
            let state = State::read(self.source.reader, &folder, self.source.interrupt)?;
            self.last = Some((folder, state));
        }
        let Some((folder, state)) = &self.last else { return nothing };
        if in_maildir {
            let is_wanted = wanted(0, &file.content);
            let letter = || maildir_letter(self.source, (folder, state), parent, (&entry, file));
            return Ok(if is_wanted { vec![letter()] } else { Vec::new() });
        }
        let frames = if is_dbox { Frames::Dbox } else { Frames::Mbox };
        let (mut at, mut found) = (0, Vec::new());
        mailfile::each(self.source, folder, (path, &entry), frames, &mut |step| match step {
            Step::Letter(picked) => {
                found.extend(wanted(at, &picked.body.file().content).then_some(*picked));
                at += 1;
                Ok(())
            }
            Step::Broken(_, error) => Err(error),
        })?;
        Ok(found)
    }

    /// The mail folder at a path, out of all folders of its user.
    fn folder_at(&mut self, at: &[u8], in_maildir: bool) -> Result<Option<MailFolder>, PickError> {
        let top = if in_maildir { self.top_of(at)? } else { Vec::new() };
        let Some(mailbox) = self.users.mailbox(at, &top) else { return Ok(None) };
        if !self.surveys.contains_key(&mailbox.user) {
            let (reader, interrupt) = (self.source.reader, self.source.interrupt);
            let found =
                super::survey(reader, (self.snapshot, ""), self.users, &mailbox.user, b"/", interrupt);
            let survey = match found {
                Err(PickError::NoSuchUser { .. }) => Survey::default(),
                found => found?,
            };
            self.surveys.insert(mailbox.user.clone(), survey);
        }
        let survey = self.surveys.get(&mailbox.user);
        Ok(survey.and_then(|survey| survey.folders.iter().find(|folder| folder.path == at)).cloned())
    }

    /// The topmost Maildir folder on the way to one, or the folder itself.
    fn top_of(&self, folder: &[u8]) -> Result<Vec<u8>, RepoError> {
        let ends = folder.iter().enumerate().skip(1).filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        for end in ends.chain([folder.len()]) {
            let parts = self.snapshot.parts.iter().map(|part| (part.path.as_slice(), &part.tree));
            let is_there = |name: &[u8]| {
                let tree = view::tree_at(self.source.reader, parts.clone(), &join(&folder[..end], name))?;
                Ok::<bool, RepoError>(tree.is_some())
            };
            if is_there(b"cur")? {
                return Ok(folder[..end].to_vec());
            }
        }
        Ok(Vec::new())
    }
}
