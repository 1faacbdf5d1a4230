//! What one snapshot holds of mail that the one before does not, and the other way round.

use std::collections::BTreeMap;

use super::heads::Heads;
use super::{CatalogueError, Change, Message, Place, StateFile};
use crate::base::id::{BlobId, DomainId};
use crate::base::interrupt::Interrupt;
use crate::base::limits;
use crate::base::progress::Progress;
use crate::format::content::{Section, Shape};
use crate::format::page::{Entry, File, Node};
use crate::format::snapshot::Tree;
use crate::index::catalogue::Kind;
use crate::mail::{maildir, mbox};
use crate::repo::RepoError;
use crate::repo::lockstep::{Lockstep, Pair};
use crate::repo::reader::{Blob, BlobReader};
use crate::repo::snapshots::SnapshotInfo;
use crate::repo::tombstones::each_section;
use crate::repo::tree;
use crate::repo::view::{join, part_folder};

/// Sections of one message that count for its content id; more are a message of many gigabytes.
pub(super) const MESSAGE_SECTIONS_MAX: usize = 256;

type Fetch<'a> = Box<dyn Fn(&BlobId) -> Result<Blob, RepoError> + 'a>;
type Tell<'t> = dyn FnMut(Change) -> Result<(), CatalogueError> + 't;

/// One of the two snapshots.
#[derive(Clone, Copy)]
pub(super) struct Side<'a> {
    pub(super) info: &'a SnapshotInfo,
    pub(super) reader: &'a BlobReader<'a>,
}

/// A folder that is being compared.
struct Level<'a> {
    pairs: Lockstep<Fetch<'a>>,
    path: Vec<u8>,
    top: Vec<u8>,
    /// It holds `cur`.
    is_mail: bool,
    /// It is the `cur` or `new` of the mail folder above.
    holds_messages: bool,
}

/// A walk through what differs.
pub(super) struct Walk<'a, 't> {
    before: Option<Side<'a>>,
    after: Side<'a>,
    /// Equal pages have equal ids.
    comparable: bool,
    heads: &'a mut Heads<'t>,
    levels: Vec<Level<'a>>,
    state_files: Vec<StateFile>,
    pub(super) broken: u64,
    progress: &'a dyn Progress,
    interrupt: &'a Interrupt,
}

impl<'a, 't> Walk<'a, 't> {
    pub(super) fn new(
        before: Option<Side<'a>>,
        after: Side<'a>,
        heads: &'a mut Heads<'t>,
        progress: &'a dyn Progress,
        interrupt: &'a Interrupt,
    ) -> Walk<'a, 't> {
        let comparable = before.is_none_or(|before| before.info.domain == after.info.domain);
        let (levels, state_files) = (Vec::new(), Vec::new());
        Walk { before, after, comparable, heads, levels, state_files, broken: 0, progress, interrupt }
    }

    /// Tells every difference; what the mail server's own files say comes last.
    pub(super) fn run(&mut self, tell: &mut Tell<'_>) -> Result<(), CatalogueError> {
        let mut parts: BTreeMap<&'a [u8], [Option<Tree>; 2]> = BTreeMap::new();
        for (number, side) in [self.before, Some(self.after)].into_iter().enumerate() {
            for part in side.iter().flat_map(|side| &side.info.snapshot.parts) {
                parts.entry(&part.path).or_default()[number] = Some(part.tree);
            }
        }
        for (path, trees) in parts {
            self.enter(part_folder(path).to_vec(), Vec::new(), false, trees.each_ref().map(Option::as_ref))?;
            while let Some(level) = self.levels.last_mut() {
                self.interrupt.check().map_err(RepoError::from)?;
                match level.pairs.next() {
                    None => drop(self.levels.pop()),
                    Some(pair) => self.pair(pair, tell)?,
                }
            }
        }
        for state in std::mem::take(&mut self.state_files) {
            let Some(bytes) = self.heads.bytes_of(self.after.reader, &state.path, &state.file)? else {
                continue;
            };
            tell(match state.is_uidlist {
                true => Change::Uids { folder: state.folder, bytes },
                false => Change::Keywords { folder: state.folder, bytes },
            })?;
        }
        Ok(())
    }

    /// Begins to compare a folder; with equal listings there is nothing to compare.
    fn enter(
        &mut self,
        path: Vec<u8>,
        above: Vec<u8>,
        holds_messages: bool,
        trees: [Option<&Tree>; 2],
    ) -> Result<(), CatalogueError> {
        if let [Some(before), Some(after)] = trees
            && self.comparable
            && (before.root, before.levels) == (after.root, after.levels)
        {
            return Ok(());
        }
        if self.levels.len() > limits::TREE_DEPTH_MAX {
            return self.trouble(&path, &"folders nested too deep");
        }
        let after = self.after.reader;
        let before = self.before.map_or(after, |side| side.reader);
        let shown = trees[1].map(|tree| (tree, after)).or(trees[0].map(|tree| (tree, before)));
        let is_mail = match shown {
            Some((tree, reader)) if !holds_messages => {
                match tree::find(tree, b"cur", &mut |id: &BlobId| reader.page(id)).map_err(RepoError::from) {
                    Ok(found) => found.is_some_and(|entry| matches!(entry.node, Node::Folder(_))),
                    Err(error) if error.ends_the_run() => return Err(error.into()),
                    // The walk meets it again and tells.
                    Err(_) => false,
                }
            }
            _ => false,
        };
        let top = if above.is_empty() && is_mail { path.clone() } else { above };
        let fetch =
            |reader: &'a BlobReader<'a>| -> Fetch<'a> { Box::new(move |id: &BlobId| reader.page(id)) };
        let pairs = Lockstep::new((trees[0], fetch(before)), (trees[1], fetch(after)), self.comparable);
        self.levels.push(Level { pairs, path, top, is_mail, holds_messages });
        Ok(())
    }

    fn trouble(&mut self, path: &[u8], error: &dyn std::fmt::Display) -> Result<(), CatalogueError> {
        self.broken += 1;
        self.progress.problem(&format!("{}: {error}", crate::base::bytes::display(path)));
        Ok(())
    }

    fn pair(&mut self, pair: Pair<RepoError>, tell: &mut Tell<'_>) -> Result<(), CatalogueError> {
        match pair {
            Pair::Left(entry) => self.entry([Some(*entry), None], tell),
            Pair::Right(entry) => self.entry([None, Some(*entry)], tell),
            Pair::Both(before, after) if self.comparable && before == after => Ok(()),
            Pair::Both(before, after) => {
                if std::mem::discriminant(&before.node) == std::mem::discriminant(&after.node) {
                    return self.entry([Some(*before), Some(*after)], tell);
                }
                self.entry([Some(*before), None], tell)?;
                self.entry([None, Some(*after)], tell)
            }
            Pair::Broken(error) => {
                let error = RepoError::from(error);
                if !is_passing(&error) {
                    return Err(error.into());
                }
                let path = self.levels.last().map(|level| level.path.clone()).unwrap_or_default();
                self.trouble(&path, &error)
            }
        }
    }

    fn entry(
        &mut self,
        [before, after]: [Option<Entry>; 2],
        tell: &mut Tell<'_>,
    ) -> Result<(), CatalogueError> {
        let Some(level) = self.levels.last() else { return Ok(()) };
        let Some(one) = after.as_ref().or(before.as_ref()) else { return Ok(()) };
        let path = join(&level.path, &one.name);
        if let Node::Folder(_) = one.node {
            let holds_messages = level.is_mail && matches!(one.name.as_slice(), b"cur" | b"new");
            let top = level.top.clone();
            let trees = [&before, &after].map(|entry| match entry.as_ref().map(|entry| &entry.node) {
                Some(Node::Folder(tree)) => Some(tree),
                _ => None,
            });
            return self.enter(path, top, holds_messages, trees);
        }
        let Node::File(file) = &one.node else { return Ok(()) };
        let folder = |path: &[u8], kind| Place { path: path.to_vec(), top: level.top.clone(), kind };
        let is_uidlist = one.name == b"dovecot-uidlist";
        if level.holds_messages {
            let place = folder(mail_folder(&level.path), Kind::Maildir);
            return self.message(place, [before, after], tell);
        }
        if is_uidlist || one.name == b"dovecot-keywords" {
            if after.is_some() {
                let folder = folder(&level.path, Kind::Maildir);
                self.state_files.push(StateFile { folder, path, file: file.clone(), is_uidlist });
            }
            return Ok(());
        }
        let holds = |entry: &Option<Entry>| match entry.as_ref().map(|entry| &entry.node) {
            Some(Node::File(file)) => file.content.messages(),
            _ => 0,
        };
        if holds(&before) + holds(&after) == 0 {
            return Ok(());
        }
        tell(Change::Opened { file: folder(&path, Kind::File) })?;
        let whole = match &after {
            Some(Entry { node: Node::File(file), mtime_s, .. }) => {
                self.inside(&path, file, *mtime_s, tell)?
            }
            _ => true,
        };
        // Of a file that cannot be read to its end nobody knows what it lacks.
        if whole { tell(Change::Closed) } else { Ok(()) }
    }

    /// A file of `cur` or `new`.
    fn message(
        &mut self,
        folder: Place,
        [before, after]: [Option<Entry>; 2],
        tell: &mut Tell<'_>,
    ) -> Result<(), CatalogueError> {
        let content = |entry: &Option<Entry>| match entry.as_ref().map(|entry| &entry.node) {
            Some(Node::File(file)) => Some(file.content.clone()),
            _ => None,
        };
        if let (Some(one), Some(two)) = (&before, &after)
            && one.mtime_s == two.mtime_s
            && self.comparable
            && content(&before) == content(&after)
        {
            // Another owner or mode is no other message.
            return Ok(());
        }
        let directory = self.levels.last().map(|level| level.path.clone()).unwrap_or_default();
        let below = &directory[folder.path.len() + 1..];
        let name = |entry: &Entry| [below, b"/", entry.name.as_slice()].concat();
        let is_message =
            |entry: &Entry, file: &File| maildir::is_message_name(&entry.name) || file.content.messages() > 0;
        if let Some(entry @ Entry { node: Node::File(_), .. }) = &before {
            tell(Change::Left { folder: folder.path.clone(), name: name(entry) })?;
        }
        if let Some(entry @ Entry { node: Node::File(file), mtime_s, .. }) = &after
            && is_message(entry, file)
        {
            self.progress.counters().add(1, file.size);
            let path = join(&directory, &entry.name);
            let message = self.heads.of_file(self.after.reader, &self.after.info.domain, &path, file)?;
            tell(Change::Arrived { folder, name: name(entry), message, arrived: *mtime_s })?;
        }
        Ok(())
    }

    /// Tells the messages of a file of several; false when its recipe cannot be read to the end.
    fn inside(
        &mut self,
        path: &[u8],
        file: &File,
        mtime: i64,
        tell: &mut Tell<'_>,
    ) -> Result<bool, CatalogueError> {
        let (reader, domain) = (self.after.reader, self.after.info.domain);
        self.progress.counters().add(0, file.size);
        let progress = self.progress;
        let mut gathering =
            Gathering { heads: self.heads, reader, domain, mtime, progress, arrived: None, open: Vec::new() };
        let mut failed = None;
        let gathered = each_section(
            &file.content,
            |id: &BlobId| reader.page(id),
            |id: &BlobId| reader.data(id),
            |section, begin| {
                self.interrupt.check()?;
                gathering.add(section, begin, tell).map_err(|error| match error {
                    CatalogueError::Repository(error) => error,
                    error @ CatalogueError::Catalogue(_) => {
                        failed = Some(error);
                        crate::base::interrupt::Interrupted.into()
                    }
                })
            },
        );
        if let Some(failed) = failed {
            return Err(failed);
        }
        let gathered = gathered.map_err(CatalogueError::from).and_then(|()| gathering.close(tell));
        match gathered {
            Ok(()) => Ok(true),
            Err(CatalogueError::Repository(error)) if is_passing(&error) => {
                self.trouble(path, &error)?;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }
}

/// Can the walk go on behind it?
fn is_passing(error: &RepoError) -> bool {
    crate::repo::rewrite::is_loss(error) || matches!(error, RepoError::NotForThisKey { .. })
}

/// The mail folder of a `cur` or `new`.
fn mail_folder(path: &[u8]) -> &[u8] {
    &path[..path.iter().rposition(|&byte| byte == b'/').unwrap_or(0)]
}

/// Puts the sections of a file together to messages.
struct Gathering<'g, 'h, 'a> {
    heads: &'g mut Heads<'h>,
    reader: &'a BlobReader<'a>,
    domain: DomainId,
    mtime: i64,
    progress: &'g dyn Progress,
    /// What the `From ` line before said.
    arrived: Option<i64>,
    open: Vec<Section>,
}

impl Gathering<'_, '_, '_> {
    fn add(&mut self, section: Section, begin: &[u8], tell: &mut Tell<'_>) -> Result<(), CatalogueError> {
        match section.shape {
            Shape::Continued if !self.open.is_empty() => {
                if self.open.len() < MESSAGE_SECTIONS_MAX {
                    self.open.push(section);
                }
            }
            Shape::Bytes => {
                self.close(tell)?;
                self.arrived = begin.split(|&byte| byte == b'\n').find_map(mbox::arrival);
            }
            Shape::Message | Shape::Opaque | Shape::Continued => {
                self.close(tell)?;
                self.open.push(section);
            }
        }
        Ok(())
    }

    /// Tells the message whose sections are together.
    fn close(&mut self, tell: &mut Tell<'_>) -> Result<(), CatalogueError> {
        if self.open.is_empty() {
            return Ok(());
        }
        let sections = std::mem::take(&mut self.open);
        let line = self.arrived.take();
        let (content, message) = self.heads.of_sections(self.reader, &self.domain, sections)?;
        let sent = match &message {
            Message::New(facts) => facts.heading.as_ref().and_then(|heading| heading.date),
            Message::Known(_) => None,
        };
        self.progress.counters().add(1, 0);
        tell(Change::Inside { content, message, line, arrived: line.or(sent).unwrap_or(self.mtime) })
    }
}
