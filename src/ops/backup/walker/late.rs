//! `dovecot-uidlist` is read late: after the messages that it names were looked for.
//!
//! Dovecot gives a message its UID when it finds it in the folder. A list that is older than the look at the folder
//! would lack a message that is in the snapshot, and the restored Dovecot might give it another UID than people saw.
//! A list that is newer names messages that are not there, which is normal.

use std::sync::Arc;

use super::{Around, Walker};
use crate::ops::backup::folder::Slot;
use crate::ops::backup::reason::Why;
use crate::ops::backup::worker::Item;
use crate::repo::RepoError;
use crate::source::dir::{Listed, OpenDir};
use crate::source::meta::{FileKey, Kind};
use crate::source::shape::{Shape, UID_LIST};

/// Folders that are kept open for their lists, one in the other; a list further down is found again by its path.
const KEPT_OPEN_MAX: usize = 16;

/// A UID list whose slot is still empty.
pub(super) struct Late<'a> {
    around: Around<'a>,
    item: Item,
    path: Vec<u8>,
    key: FileKey,
}

impl Around<'_> {
    /// Is this entry the UID list of messages, here or elsewhere?
    pub(super) fn is_uid_list(&self, listed: &Listed) -> bool {
        *listed.name == *UID_LIST && listed.kind == Kind::File && self.shape.keeps_uids()
    }
}

impl Late<'_> {
    /// Closes the folder when many around it are kept open.
    pub(super) fn bound(&mut self, kept_open: usize) {
        if kept_open >= KEPT_OPEN_MAX {
            self.around.dir = None;
        }
    }
}

impl<'a> Walker<'a, '_> {
    /// Puts the UID list off until its folder is left, or to the very end where its messages lie elsewhere.
    ///
    /// Where nobody `looks` for messages, for none of their folders was touched, it is read with the other files of its
    /// folder: it was looked at together with them.
    pub(super) fn put_off(
        &mut self,
        around: &Around<'a>,
        item: Item,
        looks: bool,
        batch: &mut Vec<Item>,
    ) -> Option<Late<'a>> {
        let elsewhere = around.shape == Shape::Control;
        let Some(dir) = around.dir.clone().filter(|_| looks || elsewhere) else {
            batch.push(item);
            return None;
        };
        let mut late = Late { around: around.clone(), item, path: dir.path().to_vec(), key: dir.key() };
        if !elsewhere {
            return Some(late);
        }
        // There may be as many as there are mailboxes.
        late.around.dir = None;
        self.at_the_end.push(late);
        None
    }

    /// Reads a UID list, as it is now.
    pub(super) fn catch_up(&mut self, late: Late<'a>) -> Result<(), RepoError> {
        let Late { mut around, mut item, path, key } = late;
        let dir = match around.dir.take() {
            Some(dir) => Ok(dir),
            None => OpenDir::open_again(&path, key).map(Arc::new),
        };
        let found = dir.and_then(|dir| Ok((dir.look(item.listed.name.clone())?, dir)));
        match found {
            Ok((now, dir)) => {
                if now != item.listed {
                    (item.known, item.listed) = (Err(Why::Modified), now);
                }
                around.dir = Some(dir);
                self.send(&around, vec![item])
            }
            Err(problem) => {
                self.shared.report(problem);
                self.worker.deliver(&around.job, [(item.slot, Slot::Nothing)])
            }
        }
    }

    /// Reads the UID lists that lie apart from their messages; call when everything else was walked.
    pub fn catch_up_at_the_end(&mut self) -> Result<(), RepoError> {
        for late in std::mem::take(&mut self.at_the_end) {
            self.shared.interrupt.check()?;
            self.catch_up(late)?;
        }
        Ok(())
    }
}
