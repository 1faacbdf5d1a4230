//! A page of the parent whose files are all as they were: it is taken over by its id, neither taken apart nor made anew.
//!
//! Pages are cut by names alone, but where they grow too large, so the same entries one after the other give the same
//! page as soon as one begins with the first of them. Whether one does shows only in [`super::folder`], when what comes
//! before is known; where none does, the page is taken apart after all.

use std::sync::Arc;

use crate::base::id::BlobId;
use crate::format::page::{Entry, Line, Outline, Owner};
use crate::format::snapshot::Totals;
use crate::index::scan::Trace;
use crate::repo::RepoError;
use crate::repo::tree::OutlinedLeaf;
use crate::source::dir::Listed;
use crate::source::meta::Kind;

/// A page of the parent of which nothing changed.
pub struct WholePage {
    /// The page.
    pub page: BlobId,
    /// Sums over its files.
    pub totals: Totals,
    outline: Outline,
    traces: Vec<Trace>,
}

/// Gives the owner with the names that its numbers have now.
pub type OwnerOf<'a> = &'a mut dyn FnMut(u32, u32) -> Arc<Owner>;

/// Would this file's entry be the same, and need no look at its attributes?
fn is_as_it_was(line: &Line<'_>, trace: &Trace, listed: &Listed, owner_of: OwnerOf<'_>) -> bool {
    let meta = &listed.meta;
    *trace != Trace::NONE
        && trace.inode == meta.inode
        && trace.birth == meta.birth.unwrap_or(0)
        && trace.ctime == meta.ctime()
        && line.size == meta.size
        && (line.mtime_s, line.mtime_ns) == (meta.mtime_s, meta.mtime_ns)
        && u32::from(line.mode) == meta.mode & 0o7777
        && meta.nlink == 1
        && listed.kind == Kind::File
        && line.name == &*listed.name
        && *line.owner == owner_of(meta.uid, meta.gid)
}

/// Are these the files of the page, all as they were?
pub fn are_as_they_were(
    leaf: &OutlinedLeaf,
    traces: &[Trace],
    listed: &[Listed],
    owner_of: OwnerOf<'_>,
) -> bool {
    let Totals { files, folders, bytes, .. } = leaf.totals;
    let sizes = listed.iter().fold(0u64, |sum, listed| sum.saturating_add(listed.meta.size));
    (files, folders, bytes) == (listed.len() as u64, 0, sizes)
        && traces.len() == listed.len()
        && leaf.outline.count() == listed.len()
        && leaf
            .outline
            .lines()
            .zip(traces)
            .zip(listed)
            .all(|((line, trace), listed)| is_as_it_was(&line, trace, listed, owner_of))
}

impl WholePage {
    /// A leaf whose files [`are_as_they_were`].
    pub fn new(leaf: OutlinedLeaf, traces: Vec<Trace>) -> WholePage {
        let OutlinedLeaf { page, outline, totals, .. } = leaf;
        WholePage { page, totals, outline, traces }
    }

    /// Its entries.
    pub fn count(&self) -> usize {
        self.outline.count()
    }

    /// Its first and its last name.
    pub fn bounds(&self) -> (&[u8], &[u8]) {
        self.outline.bounds().expect("a leaf of plain files has names")
    }

    /// Its entries with what the next run is to know of them.
    pub fn take_apart(self) -> Result<impl Iterator<Item = (Entry, Trace)>, RepoError> {
        let entries = self.outline.into_entries().map_err(|error| RepoError::Damaged {
            object: format!("page {} of the last snapshot", self.page),
            detail: format!("{error}; --reread does without it"),
        })?;
        Ok(entries.into_iter().zip(self.traces))
    }
}
