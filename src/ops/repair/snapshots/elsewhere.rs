//! Does another snapshot, or another mailbox, still have what is lost?

use std::collections::{HashMap, HashSet};

use super::LostFile;
use super::sieve::Looker;
use crate::base::id::ObjectHash;
use crate::format::page::{Entry, Node};
use crate::mail::maildir;
use crate::repo::RepoError;
use crate::repo::presence::Presence;
use crate::repo::rewrite::{self, Run, Sieve, Tools, Verdict};
use crate::repo::snapshots::SnapshotInfo;
use crate::repo::view::join;

/// Name without flags, size, time: what two copies of one message have in common.
type Likeness = (Vec<u8>, u64, i64);

/// A search for files that look like lost ones.
pub(super) struct Elsewhere {
    wanted: HashSet<Likeness>,
    found: HashMap<Likeness, (ObjectHash, Vec<u8>)>,
}

struct FindSieve<'a> {
    search: &'a mut Elsewhere,
    looker: Looker<'a>,
    snapshot: ObjectHash,
}

impl Elsewhere {
    pub(super) fn new(lost: &[LostFile]) -> Elsewhere {
        let wanted = lost.iter().map(|file| (file.name.clone(), file.size, file.mtime_s)).collect();
        Elsewhere { wanted, found: HashMap::new() }
    }

    /// Looks through the snapshots of one host.
    pub(super) fn search(
        &mut self,
        run: &Run<'_>,
        infos: &[&SnapshotInfo],
        read_data: bool,
    ) -> Result<(), RepoError> {
        let Some(first) = infos.first() else { return Ok(()) };
        let shunned = HashSet::new();
        let there = Presence::new(run.repository, run.index, first.domain, &shunned, run.unusable_deltas)?;
        let looker = Looker::new(&there, read_data);
        let mut sieve = FindSieve { search: self, looker, snapshot: first.hash };
        rewrite::host(&Run { dry_run: true, ..*run }, infos, &mut sieve).map(drop)
    }

    /// Where a file is still to be had.
    pub(super) fn found(&self, file: &LostFile) -> Option<(ObjectHash, Vec<u8>)> {
        self.found.get(&(file.name.clone(), file.size, file.mtime_s)).cloned()
    }
}

impl Sieve for FindSieve<'_> {
    fn begin(&mut self, info: &SnapshotInfo) {
        self.snapshot = info.hash;
    }

    fn judge(
        &mut self,
        folder: &[u8],
        entry: &Entry,
        tools: &mut Tools<'_, '_>,
    ) -> Result<Verdict, RepoError> {
        let file = match &entry.node {
            Node::Folder(_) => return Ok(Verdict::Enter),
            Node::File(file) => file,
            _ => return Ok(Verdict::Keep),
        };
        let likeness = (maildir::base(&entry.name).to_vec(), file.size, entry.mtime_s);
        let is_sought = self.search.wanted.contains(&likeness) && !self.search.found.contains_key(&likeness);
        if is_sought && self.looker.loss(file, tools)?.is_none() {
            self.search.found.insert(likeness, (self.snapshot, join(folder, &entry.name)));
        }
        Ok(Verdict::Keep)
    }

    fn broken(&mut self, _: &[u8], _: RepoError) -> Result<(), RepoError> {
        Ok(())
    }
}
