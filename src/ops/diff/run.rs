//! The walk through both trees, with a stack of open folders.

use std::collections::BTreeMap;

use super::moves::{Moves, is_message};
use super::{Change, ChangeKind, Options, Side, Summary};
use crate::base::id::BlobId;
use crate::base::interrupt::Interrupt;
use crate::base::limits;
use crate::format::page::{Entry, Node};
use crate::format::snapshot::{Totals, Tree};
use crate::repo::RepoError;
use crate::repo::lockstep::{Lockstep, Pair};
use crate::repo::view::join;

type Fetch<'a, B> = Box<dyn Fn(&BlobId) -> Result<B, RepoError> + 'a>;

/// Full logical path and entry of what was asked for.
type Top = (Vec<u8>, Entry);

/// A folder that is being compared.
struct Level<'a, B> {
    pairs: Lockstep<Fetch<'a, B>>,
    left: Vec<u8>,
    right: Vec<u8>,
    /// Both sides have the folder.
    both: bool,
    /// The level, this or the one above, that collects messages in case they only moved.
    collector: Option<usize>,
    moves: Moves,
}

struct Diff<'a, 'b, B, E> {
    sides: [&'a Side<'a, B>; 2],
    options: Options,
    levels: Vec<Level<'a, B>>,
    summary: Summary,
    tell: &'b mut dyn FnMut(Change) -> Result<(), E>,
}

/// Compares two sides; every difference is told, in the order of the paths as far as folders go.
///
/// # Errors
/// Those of `tell`, and an interruption. Listings that cannot be read are told as changes and counted.
pub fn run<B: AsRef<[u8]>, E: From<RepoError>>(
    sides: [&Side<'_, B>; 2],
    options: Options,
    interrupt: &Interrupt,
    tell: &mut dyn FnMut(Change) -> Result<(), E>,
) -> Result<Summary, E> {
    let mut diff = Diff { sides, options, levels: Vec::new(), summary: Summary::default(), tell };
    let mut tops: BTreeMap<Vec<u8>, [Option<&Top>; 2]> = BTreeMap::new();
    for (number, side) in sides.into_iter().enumerate() {
        for top in &side.tops {
            let relative = top.0.strip_prefix(side.base.as_slice()).unwrap_or(&top.0).to_vec();
            tops.entry(relative).or_default()[number] = Some(top);
        }
    }
    for [left, right] in tops.into_values() {
        let path = |top: Option<&Top>| top.map(|(path, _)| path.clone()).unwrap_or_default();
        let entry = |top: Option<&Top>| top.map(|(_, entry)| Box::new(entry.clone()));
        diff.compare([path(left), path(right)], [entry(left), entry(right)])?;
        diff.walk(interrupt)?;
    }
    Ok(diff.summary)
}

fn tree(entry: &Entry) -> Option<&Tree> {
    match &entry.node {
        Node::Folder(tree) => Some(tree),
        _ => None,
    }
}

/// What an entry adds by itself, without what lies below it.
fn own_totals(entry: &Entry) -> Totals {
    match tree(entry) {
        Some(_) => Totals { folders: 1, ..Totals::default() },
        None => entry.totals(),
    }
}

fn size(entry: &Entry) -> Option<u64> {
    match &entry.node {
        Node::File(file) => Some(file.size),
        _ => None,
    }
}

impl<'a, B: AsRef<[u8]>, E: From<RepoError>> Diff<'a, '_, B, E> {
    fn walk(&mut self, interrupt: &Interrupt) -> Result<(), E> {
        while let Some(level) = self.levels.last_mut() {
            interrupt.check().map_err(RepoError::from)?;
            let Some(pair) = level.pairs.next() else {
                let moves = std::mem::take(&mut level.moves);
                self.levels.pop();
                self.settle(moves)?;
                continue;
            };
            let name = match &pair {
                Pair::Left(entry) | Pair::Right(entry) | Pair::Both(entry, _) => entry.name.as_slice(),
                Pair::Broken(_) => b"",
            };
            let paths = [join(&level.left, name), join(&level.right, name)];
            match pair {
                Pair::Left(entry) => self.compare(paths, [Some(entry), None])?,
                Pair::Right(entry) => self.compare(paths, [None, Some(entry)])?,
                Pair::Both(left, right) => self.compare(paths, [Some(left), Some(right)])?,
                Pair::Broken(error) => {
                    let path = level.right.clone();
                    self.unreadable(path, &RepoError::from(error))?;
                }
            }
        }
        Ok(())
    }

    fn unreadable(&mut self, path: Vec<u8>, error: &RepoError) -> Result<(), E> {
        self.summary.unreadable += 1;
        let kind = ChangeKind::Unreadable(error.to_string());
        (self.tell)(Change { kind, path, folder: true, size_before: None, size: None })
    }

    fn settle(&mut self, moves: Moves) -> Result<(), E> {
        for (change, totals) in moves.settle() {
            match change.kind {
                ChangeKind::Added => self.summary.added += totals,
                ChangeKind::Removed => self.summary.removed += totals,
                _ => self.summary.flags += 1,
            }
            (self.tell)(change)?;
        }
        Ok(())
    }

    fn compare(&mut self, [left, right]: [Vec<u8>; 2], entries: [Option<Box<Entry>>; 2]) -> Result<(), E> {
        match entries {
            [None, None] => Ok(()),
            [Some(before), None] => self.one(0, left, &before),
            [None, Some(after)] => self.one(1, right, &after),
            [Some(before), Some(after)] => {
                if std::mem::discriminant(&before.node) != std::mem::discriminant(&after.node) {
                    self.one(0, left, &before)?;
                    return self.one(1, right, &after);
                }
                self.both([left, right], &before, &after)
            }
        }
    }

    /// An entry that only one side has, with everything below it.
    fn one(&mut self, side: usize, path: Vec<u8>, entry: &Entry) -> Result<(), E> {
        let collector = self.levels.last().and_then(|level| level.collector).filter(|_| is_message(entry));
        if let Some(level) = collector.and_then(|number| self.levels.get_mut(number)) {
            match side {
                0 => level.moves.remove(path, entry, self.options.comparable),
                _ => level.moves.add(path, entry, self.options.comparable),
            }
            return Ok(());
        }
        let (kind, size_before, size) = match side {
            0 => (ChangeKind::Removed, size(entry), None),
            _ => (ChangeKind::Added, None, size(entry)),
        };
        let sum = if side == 0 { &mut self.summary.removed } else { &mut self.summary.added };
        *sum += own_totals(entry);
        let folder = tree(entry).is_some();
        (self.tell)(Change { kind, path: path.clone(), folder, size_before, size })?;
        match (tree(entry), side) {
            (None, _) => Ok(()),
            (below, 0) => self.enter([path.clone(), path], [below, None]),
            (below, _) => self.enter([path.clone(), path], [None, below]),
        }
    }

    fn both(&mut self, [left, right]: [Vec<u8>; 2], before: &Entry, after: &Entry) -> Result<(), E> {
        let same_content = match (&before.node, &after.node) {
            // What differs below is told there.
            (Node::Folder(_), Node::Folder(_)) => true,
            (Node::File(a), Node::File(b)) if self.options.comparable => {
                a.size == b.size && a.content == b.content
            }
            (Node::File(a), Node::File(b)) => {
                a.size == b.size && (before.mtime_s, before.mtime_ns) == (after.mtime_s, after.mtime_ns)
            }
            (a, b) => a == b,
        };
        let same_metadata = before.mode == after.mode
            && before.owner == after.owner
            && (before.mtime_s, before.mtime_ns) == (after.mtime_s, after.mtime_ns)
            && before.xattrs == after.xattrs;
        let kind = match (same_content, same_metadata) {
            (false, _) => Some(ChangeKind::Content),
            (true, false) => Some(ChangeKind::Metadata),
            (true, true) => None,
        };
        match kind {
            Some(ChangeKind::Content) => self.summary.content += 1,
            Some(_) => self.summary.metadata += 1,
            None => {}
        }
        if let Some(kind) = kind.filter(|kind| *kind == ChangeKind::Content || self.options.metadata) {
            let (folder, size_before, size) = (tree(after).is_some(), size(before), size(after));
            (self.tell)(Change { kind, path: right.clone(), folder, size_before, size })?;
        }
        match (tree(before), tree(after)) {
            (Some(a), Some(b)) if !self.options.comparable || (a.root, a.levels) != (b.root, b.levels) => {
                self.enter([left, right], [Some(a), Some(b)])
            }
            _ => Ok(()),
        }
    }

    fn enter(&mut self, [left, right]: [Vec<u8>; 2], trees: [Option<&Tree>; 2]) -> Result<(), E> {
        if self.levels.len() > limits::TREE_DEPTH_MAX {
            let page = trees.iter().flatten().find_map(|tree| tree.root).unwrap_or_default();
            return self
                .unreadable(right, &RepoError::Page { page, detail: "folders nested too deep".to_owned() });
        }
        let both = trees.iter().all(Option::is_some);
        let holds_mail = right.ends_with(b"/cur") || right.ends_with(b"/new");
        let this = self.levels.len();
        // Between `new` and `cur` of one Maildir a message is followed; where a whole Maildir came or went, none is.
        let collector = match self.levels.last() {
            Some(above) if holds_mail && above.both => Some(this - 1),
            None if holds_mail && both => Some(this),
            _ => None,
        };
        let [a, b] = self.sides.map(|side| -> Fetch<'a, B> { Box::new(move |id: &BlobId| (side.fetch)(id)) });
        let pairs = Lockstep::new((trees[0], a), (trees[1], b), self.options.comparable);
        self.levels.push(Level { pairs, left, right, both, collector, moves: Moves::default() });
        Ok(())
    }
}
