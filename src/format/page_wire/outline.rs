//! A leaf page whose files are told apart by name, size and times alone: their contents are not taken out of the
//! columns before somebody wants them.

use std::sync::Arc;

use super::{Columns, FORM_VSIZE, FORMS, KIND_FILE, KIND_SPARSE, Take, from_columns, lengthen, take_slice};
use crate::base::limits;
use crate::format::codec::{self, Result};
use crate::format::page::{Entry, Owner, check_entries, check_names, columns};

/// A leaf page, not taken apart.
pub struct Outline {
    columns: Columns,
    /// All names, one after the other; none unless all entries are plain files.
    names: Vec<u8>,
    /// Where each of them ends.
    ends: Vec<usize>,
}

/// A file of an outline.
pub struct Line<'o> {
    /// Its name.
    pub name: &'o [u8],
    /// Permission bits.
    pub mode: u16,
    /// Owner.
    pub owner: &'o Arc<Owner>,
    /// Modification time, unix seconds.
    pub mtime_s: i64,
    /// Nanoseconds of it.
    pub mtime_ns: u32,
    /// Bytes.
    pub size: u64,
}

impl Outline {
    /// Reads the plaintext of a leaf's blob.
    pub fn decode(bytes: &[u8]) -> Result<Outline> {
        let mut outline = Outline { columns: columns(bytes)?, names: Vec::new(), ends: Vec::new() };
        if outline.is_plain() {
            outline.spell_names()?;
            check_names(outline.names())?;
        }
        Ok(outline)
    }

    /// Entries of the page.
    pub fn count(&self) -> usize {
        self.columns.kinds.len()
    }

    /// Nothing but files with one name each.
    fn is_plain(&self) -> bool {
        let Columns { kinds, link_groups, .. } = &self.columns;
        link_groups.is_empty() && kinds.iter().all(|kind| matches!(*kind, KIND_FILE | KIND_SPARSE))
    }

    /// Writes the names out; all columns that a line takes from are as long as they should be afterwards.
    fn spell_names(&mut self) -> Result<()> {
        let (columns, count) = (&self.columns, self.count());
        codec::limit("entries of a page", count as u64, limits::PAGE_ENTRIES_MAX as u64)?;
        let fits = |length: usize| codec::agree(length == count, "columns of a page");
        fits(columns.modes.len()).and(fits(columns.mtimes.len())).and(fits(columns.sizes.len()))?;
        fits(columns.name_forms.len()).and(fits(columns.name_lengths.len()))?;
        let may_lack = |length: usize| if length == 0 { Ok(()) } else { fits(length) };
        may_lack(columns.mtime_nanos.len()).and(may_lack(columns.owner_numbers.len()))?;
        let owners = columns.owners.len();
        let known = columns.owner_numbers.iter().all(|number| (*number as usize) < owners);
        codec::agree(owners > 0 && known, "columns of a page")?;
        let mut stored = columns.names.as_slice();
        let mut excesses = Take(columns.vsize_excess.iter());
        self.names.reserve(stored.len() + count * 32);
        self.ends.reserve(count);
        let mut mtime = 0i64;
        for at in 0..count {
            mtime = mtime.wrapping_add(columns.mtimes[at]);
            let form = columns.name_forms[at];
            codec::agree(form & !FORMS == 0, "form of a name")?;
            let rest = take_slice(&mut stored, columns.name_lengths[at])?;
            let excess = if form & FORM_VSIZE != 0 { *excesses.next()? } else { 0 };
            lengthen((form, rest), mtime, columns.sizes[at], excess, &mut self.names)?;
            self.ends.push(self.names.len());
        }
        codec::agree(stored.is_empty(), "columns of a page")?;
        excesses.end()
    }

    /// The names in order; none unless all entries are plain files.
    fn names(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        let begin = |at: usize| at.checked_sub(1).map_or(0, |before| self.ends[before]);
        (0..self.ends.len()).map(move |at| &self.names[begin(at)..self.ends[at]])
    }

    /// The first and the last name; `None` where there are no lines.
    pub fn bounds(&self) -> Option<(&[u8], &[u8])> {
        let mut names = self.names();
        let first = names.next()?;
        Some((first, names.last().unwrap_or(first)))
    }

    /// Its files in order; none unless all entries are plain files with one name each.
    pub fn lines(&self) -> impl Iterator<Item = Line<'_>> {
        let columns = &self.columns;
        let mut mtime_s = 0i64;
        self.names().enumerate().map(move |(at, name)| {
            mtime_s = mtime_s.wrapping_add(columns.mtimes[at]);
            let owner = columns.owner_numbers.get(at).map_or(0, |number| *number as usize);
            Line {
                name,
                mode: columns.modes[at],
                owner: &columns.owners[owner],
                mtime_s,
                mtime_ns: columns.mtime_nanos.get(at).copied().unwrap_or(0),
                size: columns.sizes[at],
            }
        })
    }

    /// Takes the page apart.
    pub fn into_entries(self) -> Result<Vec<Entry>> {
        let entries = from_columns(self.columns)?;
        check_entries(&entries)?;
        Ok(entries)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::format::page::tests::entry;
    use crate::format::page::{Node, Page, check_name};

    proptest! {
        #[test]
        fn an_outline_says_what_the_entries_say(
            mut entries in proptest::collection::vec(entry(), 1..20),
            plain: bool,
        ) {
            entries.sort_by(|a, b| a.name.cmp(&b.name));
            entries.dedup_by(|a, b| a.name == b.name);
            entries.retain(|entry| check_name(&entry.name).is_ok());
            let is_plain = |entry: &Entry| matches!(&entry.node, Node::File(file) if file.link_group.is_none());
            entries.retain(|entry| !plain || is_plain(entry));
            prop_assume!(!entries.is_empty());
            let outline = Outline::decode(&Page::Leaf(entries.clone()).encode()).unwrap();
            prop_assert_eq!(outline.count(), entries.len());
            let all_plain = entries.iter().all(is_plain);
            prop_assert_eq!(outline.lines().count(), if all_plain { entries.len() } else { 0 });
            for (line, entry) in outline.lines().zip(&entries) {
                let Node::File(file) = &entry.node else { panic!("{entry:?}") };
                prop_assert_eq!(line.name, entry.name.as_slice());
                prop_assert_eq!((line.mode, line.owner, line.size), (entry.mode, &entry.owner, file.size));
                prop_assert_eq!((line.mtime_s, line.mtime_ns), (entry.mtime_s, entry.mtime_ns));
            }
            let bounds = Some((&*entries[0].name, &*entries[entries.len() - 1].name)).filter(|_| all_plain);
            prop_assert_eq!(outline.bounds(), bounds);
            prop_assert_eq!(outline.into_entries().unwrap(), entries);
        }

        #[test]
        fn damaged_outlines_never_panic(entries in proptest::collection::vec(entry(), 1..6), at: usize, byte: u8) {
            let mut bytes = Page::Leaf(entries).encode();
            let at = at % bytes.len();
            bytes[at] ^= byte;
            for bytes in [&bytes[..], &bytes[..at]] {
                if let Ok(outline) = Outline::decode(bytes) {
                    let _ = (outline.lines().count(), outline.into_entries());
                }
            }
        }
    }
}
