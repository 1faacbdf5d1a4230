//! How far up the next UID of a folder is put.

use std::collections::HashMap;

use crate::base::id::{BlobId, DomainId};
use crate::base::interrupt::Interrupt;
use crate::format::content::{Content, Shape};
use crate::format::page::Node;
use crate::mail::mbox_state::MboxState;
use crate::mail::uidlist::Uidlist;
use crate::repo::RepoError;
use crate::repo::content::Sections;
use crate::repo::extract::read_small;
use crate::repo::reader::{Blob, BlobReader};
use crate::repo::rewrite::is_loss;
use crate::repo::snapshots::SnapshotInfo;
use crate::repo::{tree, view};

/// UIDs that are left out at least: one for each message that may have come since.
const ROOM_MIN: u32 = 10_000;
/// Room for so many times the growth that the folder showed.
const GROWTH_TIMES: i128 = 10;
/// A UIDVALIDITY from here on is the second in which the folder was made.
const SECONDS_FROM: u32 = 500_000_000;
/// Sections of an mbox that are looked at for its first message.
const FIRST_SECTIONS_MAX: usize = 4;
/// Largest list that is read.
const LIST_BYTES_MAX: u64 = 512 << 20;

/// The next UID that a folder showed at some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// When, unix seconds.
    pub at: i64,
    /// UIDVALIDITY then.
    pub validity: u32,
    /// The next UID.
    pub next: u32,
}

/// The next UID of a folder: above all that was seen under its UIDVALIDITY, in snapshots and live, and so far that
/// what was given away since the last look does not come again. `now` is unix seconds.
///
/// `None` when so much room is not left below the highest UID there can be: the numbering is used up.
pub fn next_uid(validity: u32, seen: &[Seen], now: i64) -> Option<u32> {
    let own = || seen.iter().filter(|seen| seen.validity == validity);
    let highest = own().map(|seen| seen.next).max().unwrap_or(1);
    let (first, last) = (own().min_by_key(|seen| seen.at), own().max_by_key(|seen| seen.at));
    let (Some(first), Some(last)) = (first, last) else { return highest.checked_add(ROOM_MIN) };
    let age = i128::from(now.saturating_sub(last.at).max(0));
    let growth = |begin: i64, from: u32| {
        let time = i128::from(last.at.saturating_sub(begin));
        let grown = i128::from(last.next.saturating_sub(from));
        if time > 0 { grown * age * GROWTH_TIMES / time } else { 0 }
    };
    let recent = growth(first.at, first.next);
    let since_made = if validity >= SECONDS_FROM { growth(validity.into(), 1) } else { 0 };
    let room = recent.max(since_made).max(ROOM_MIN.into());
    // Much growth may ask for more than there is; the least room has to be there.
    let most = u32::MAX - 1;
    let reached = highest.saturating_add(u32::try_from(room).unwrap_or(u32::MAX)).min(most);
    (most.checked_sub(highest)? >= ROOM_MIN).then_some(reached)
}

/// Has a live list of this UIDVALIDITY and next UID all the room it needs? `unused` UIDs lie below the next one.
///
/// One that went on since the last snapshot was not put back, and gives no UID away twice. One that stands where a
/// snapshot saw it may have been put back by hand, unless a rebuild has left room already.
pub fn goes_on((validity, next): (u32, u32), unused: u32, snapshots: &[Seen]) -> bool {
    let seen = snapshots.iter().filter(|seen| seen.validity == validity).map(|seen| seen.next).max();
    seen.is_none_or(|seen| next > seen || next == seen && unused >= ROOM_MIN)
}

/// What tells a folder's numbers in a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Witness {
    /// The logical path of its `dovecot-uidlist`.
    List(Vec<u8>),
    /// The logical path of the mbox.
    Mbox(Vec<u8>),
}

/// Collects what folders showed, snapshot by snapshot; what did not change is read once.
#[derive(Default)]
pub struct Observer {
    by_folder: HashMap<(DomainId, BlobId), Option<(u32, u32)>>,
    by_content: HashMap<(DomainId, Content), Option<(u32, u32)>>,
}

impl Observer {
    /// The numbers that a folder had in a snapshot; `None` when it was not there or its list is lost.
    pub fn look(
        &mut self,
        reader: &BlobReader<'_>,
        info: &SnapshotInfo,
        witness: &Witness,
        interrupt: &Interrupt,
    ) -> Result<Option<Seen>, RepoError> {
        interrupt.check()?;
        let found = match witness {
            Witness::List(path) => self.list(reader, info, path, interrupt),
            Witness::Mbox(path) => self.mbox(reader, info, path),
        };
        let numbers = match found {
            Err(error) if is_loss(&error) => None,
            found => found?,
        };
        let at = info.snapshot.started.div_euclid(1_000_000_000);
        Ok(numbers.map(|(validity, next)| Seen { at, validity, next }))
    }

    fn list(
        &mut self,
        reader: &BlobReader<'_>,
        info: &SnapshotInfo,
        path: &[u8],
        interrupt: &Interrupt,
    ) -> Result<Option<(u32, u32)>, RepoError> {
        let folder = view::part_folder(path);
        let parts = info.snapshot.parts.iter().map(|part| (part.path.as_slice(), &part.tree));
        let Some(tree) = view::tree_at(reader, parts, folder)? else { return Ok(None) };
        let Some(root) = tree.root else { return Ok(None) };
        if let Some(known) = self.by_folder.get(&(info.domain, root)) {
            return Ok(*known);
        }
        let name = &path[path.iter().rposition(|&byte| byte == b'/').map_or(0, |at| at + 1)..];
        let entry = tree::find(&tree, name, &mut |id: &BlobId| reader.page(id))?;
        let numbers = match entry.map(|entry| entry.node) {
            Some(Node::File(file)) => {
                let key = (info.domain, file.content.clone());
                match self.by_content.get(&key) {
                    Some(known) => *known,
                    None => {
                        let read = read_small(reader, &file, LIST_BYTES_MAX, interrupt)?;
                        let numbers = read.and_then(|bytes| numbers_of(&bytes));
                        self.by_content.insert(key, numbers);
                        numbers
                    }
                }
            }
            _ => None,
        };
        self.by_folder.insert((info.domain, root), numbers);
        Ok(numbers)
    }

    fn mbox(
        &mut self,
        reader: &BlobReader<'_>,
        info: &SnapshotInfo,
        path: &[u8],
    ) -> Result<Option<(u32, u32)>, RepoError> {
        let tops = view::tops(reader, &info.snapshot, path);
        let entry = tops.entries.into_iter().find(|(found, _)| found == path);
        let Some(Node::File(file)) = entry.map(|(_, entry)| entry.node) else { return Ok(None) };
        let fetch = |id: &BlobId| -> Result<Blob, RepoError> { reader.page(id) };
        for section in Sections::new(&file.content, fetch).take(FIRST_SECTIONS_MAX) {
            let section = section.map_err(RepoError::from)?;
            let head = section.pieces.first().and_then(|piece| piece.blobs().first());
            if let (Shape::Message, Some(head)) = (section.shape, head) {
                let base = MboxState::read(reader.data(head)?.as_ref()).base;
                return Ok(base.map(|(validity, last)| (validity, last.saturating_add(1))));
            }
        }
        Ok(None)
    }
}

/// UIDVALIDITY and next UID of a list.
pub(super) fn numbers_of(bytes: &[u8]) -> Option<(u32, u32)> {
    let list = Uidlist::parse(bytes)?;
    (list.header.validity > 0).then(|| (list.header.validity, list.next_uid()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400;

    fn seen(day: i64, validity: u32, next: u32) -> Seen {
        Seen { at: 1_700_000_000 + day * DAY, validity, next }
    }

    fn next(validity: u32, all: &[Seen], day: i64) -> u32 {
        next_uid(validity, all, 1_700_000_000 + day * DAY).unwrap_or_default()
    }

    #[test]
    fn there_is_always_room() {
        assert_eq!(next(7, &[], 0), 10_001);
        assert_eq!(next(7, &[seen(0, 7, 100)], 1), 10_100);
        // The live list, or any snapshot, may have gone further than the last one.
        assert_eq!(next(7, &[seen(0, 7, 500), seen(1, 7, 100)], 1), 10_500);
        // Another numbering does not count.
        assert_eq!(next(7, &[seen(0, 7, 100), seen(1, 8, 90_000)], 1), 10_100);
    }

    #[test]
    fn a_list_that_went_on_needs_no_room() {
        let snapshots = [seen(0, 7, 100), seen(1, 7, 200), seen(1, 8, 900)];
        assert!(goes_on((7, 201), 0, &snapshots) && goes_on((9, 1), 0, &snapshots));
        assert!(!goes_on((7, 200), 0, &snapshots) && !goes_on((7, 150), 20_000, &snapshots));
        assert!(goes_on((7, 200), ROOM_MIN, &snapshots), "a rebuild was saved");
    }

    #[test]
    fn busy_folders_get_more() {
        // 1,000 a day, unseen for 30 days: ten times 30,000.
        assert_eq!(next(7, &[seen(0, 7, 1), seen(10, 7, 10_001)], 40), 10_001 + 300_000);
        // Nothing went on lately, but 5,000 a day since the folder was made 100 days ago.
        let made = (1_700_000_000 - 100 * DAY) as u32;
        assert_eq!(next(made, &[seen(0, made, 500_001)], 1), 500_001 + 50_000);
        assert_eq!(next(7, &[seen(0, 7, u32::MAX)], 1), 0, "used up");
        assert_eq!(next(7, &[seen(0, 7, u32::MAX - 9_000)], 1), 0, "nearly used up");
        assert_eq!(next(7, &[seen(0, 7, u32::MAX - 20_000)], 1), u32::MAX - 10_000);
        assert_eq!(next(7, &[seen(5, 7, 100)], 0), 10_100, "a clock that went back");
    }
}
