//! The index of a Maildir folder is read once a day: it changes with each login.
//!
//! Its files belong together, so they are held or read together. No time of reading is stored: what the parent holds
//! was read later than it was last written to, so that a copy written to within a day was read within a day. A
//! mailbox that nobody opened for a day is therefore read at once when somebody does.

use std::sync::atomic::Ordering;

use super::Walker;
use crate::base::clock;
use crate::base::id::BlobId;
use crate::format::page::{Entry, Node};
use crate::format::snapshot::Tree;
use crate::index::scan::Trace;
use crate::ops::backup::folder::Slot;
use crate::ops::backup::reason::Why;
use crate::repo::RepoError;
use crate::repo::reader::BlobReader;
use crate::repo::tombstones::Scope;
use crate::repo::tree::find;
use crate::source::dir::Listed;
use crate::source::meta::Kind;
use crate::source::shape::{self, INDEX_FILES};
use crate::source::walk::Folder;

/// A copy this young is good enough.
const FRESH_NANOS: i128 = 24 * 3600 * 1_000_000_000;

/// The index files of a folder, and the parent's copies that stand for those that have changed.
pub(in crate::ops::backup) struct Holding {
    /// For each of [`INDEX_FILES`]: is it there, and is it a plain file with one name?
    present: [Option<bool>; INDEX_FILES.len()],
    tree: Option<Tree>,
    /// Looked for when the first file turns out to have changed; empty when nothing is held.
    copies: Option<Vec<Entry>>,
}

/// Was the newest of these files written to within a day before `now`?
fn is_fresh(entries: &[Entry], now: i128) -> bool {
    let written = |entry: &Entry| i128::from(entry.mtime_s) * 1_000_000_000 + i128::from(entry.mtime_ns);
    // A time to come says nothing.
    entries.iter().map(written).max().is_some_and(|newest| (0..FRESH_NANOS).contains(&(now - newest)))
}

impl Holding {
    /// Nothing is held but in a Maildir folder that the parent knows.
    pub(in crate::ops::backup) fn new(folder: &Folder, tree: Option<&Tree>) -> Holding {
        let plain = |listed: &Listed| listed.kind == Kind::File && listed.meta.nlink == 1;
        let present = INDEX_FILES.map(|name| shape::find(&folder.entries, name).map(plain));
        Holding { present, tree: tree.filter(|_| folder.shape.keeps_uids()).copied(), copies: None }
    }

    /// Can a file be held that would be read for this reason?
    pub(in crate::ops::backup) fn concerns(name: &[u8], why: Why) -> bool {
        INDEX_FILES.contains(&name) && !matches!(why, Why::Asked | Why::Purged)
    }

    /// The parent's copies of the folder's index, if they are all there and fresh.
    pub(in crate::ops::backup) fn fresh_copies(&self, reader: &BlobReader<'_>) -> Option<Vec<Entry>> {
        let tree = self.tree?;
        let mut copies = Vec::new();
        for (name, present) in INDEX_FILES.into_iter().zip(self.present) {
            // What cannot be read of the parent costs time, no mail.
            let copy = find(&tree, name, &mut |id: &BlobId| reader.page(id)).ok().flatten();
            match (present, copy) {
                (None, None) => {}
                (Some(true), Some(copy)) => copies.push(copy),
                // The set is another one: nothing of it is held.
                _ => return None,
            }
        }
        is_fresh(&copies, clock::now()).then_some(copies)
    }
}

impl Walker<'_, '_> {
    /// What stands for a file that would be read for this reason; `None` when it is to be read.
    pub(super) fn hold(
        &mut self,
        holding: &mut Holding,
        (listed, why): (&Listed, Why),
        scope: Option<&Scope>,
    ) -> Result<Option<Slot>, RepoError> {
        if !self.holding || !Holding::concerns(&listed.name, why) {
            return Ok(None);
        }
        if holding.copies.is_none() {
            holding.copies = Some(self.copies(holding, scope)?);
        }
        let copy = holding.copies.iter().flatten().find(|entry| *entry.name == *listed.name).cloned();
        let Some(copy) = copy else { return Ok(None) };
        self.shared.counts.held.fetch_add(1, Ordering::Relaxed);
        self.shared.progress.counters().add(1, listed.meta.size);
        // What the disk says now is not what was read.
        Ok(Some(Slot::Entry(Box::new(self.as_held(copy, listed)), Trace::NONE)))
    }

    /// The parent's copies of a folder's index, if they are all there, fresh, and may still be used.
    fn copies(&mut self, holding: &Holding, scope: Option<&Scope>) -> Result<Vec<Entry>, RepoError> {
        let none = Vec::new();
        let copies = self.parent.and_then(|parent| holding.fresh_copies(parent.reader));
        let Some(copies) = copies else { return Ok(none) };
        for copy in &copies {
            match &copy.node {
                Node::File(file)
                    if file.link_group.is_none()
                        && !self.concerns(&file.content, scope)?
                        && self.worker.is_stored(&file.content)? => {}
                _ => return Ok(none),
            }
        }
        Ok(copies)
    }

    /// A held entry: the parent's copy with its own size and times; mode and owner are what they are now.
    fn as_held(&mut self, copy: Entry, listed: &Listed) -> Entry {
        let now = self.worker.entry_of(&listed.name, &listed.meta, Vec::new(), Node::Fifo);
        Entry { mode: now.mode, owner: now.owner, ..copy }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::format::page::Owner;

    #[test]
    fn a_day_counts_from_the_newest_file() {
        let day = FRESH_NANOS / 1_000_000_000;
        let owner = Arc::new(Owner { uid: 0, gid: 0, user: Vec::new(), group: Vec::new() });
        let at = |mtime_s: i128| Entry {
            name: b"dovecot.index".to_vec(),
            mode: 0o600,
            owner: Arc::clone(&owner),
            mtime_s: mtime_s as i64,
            mtime_ns: 0,
            xattrs: Vec::new(),
            node: Node::Fifo,
        };
        let now = 1_800_000_000;
        let fresh = |times: &[i128]| {
            is_fresh(&times.iter().map(|&time| at(time)).collect::<Vec<_>>(), now * 1_000_000_000)
        };
        assert!(fresh(&[now]) && fresh(&[now - day + 1]) && fresh(&[now - 9 * day, now - 60]));
        assert!(!fresh(&[]) && !fresh(&[now - day]) && !fresh(&[now - 60, now + 1]));
    }
}
