//! What is held: the one rule by which everything that drops or rewrites snapshots leaves some alone.

use std::collections::HashSet;

use super::RepoError;
use super::ledger::{Hold, Ledger};
use super::reader::BlobReader;
use super::snapshots::SnapshotInfo;
use super::tree;
use super::view::{Step, View};
use crate::base::id::{BlobId, ObjectHash};
use crate::base::interrupt::Interrupt;
use crate::format::page::Node;
use crate::format::snapshot::Tree;
use crate::mail::user;

/// Most folders of a walk; a hostile tree names the same folder without end.
const FOLDERS_MAX: u64 = 20_000_000;
/// Most folders that are remembered between walks.
const REMEMBERED_MAX: usize = 1 << 17;

/// The first hold that keeps a snapshot.
///
/// `holds_mail_of` says whether it holds mail of a user; it is asked only when no hold names the snapshot.
pub fn held_by<'l, E>(
    ledger: &'l Ledger,
    info: &SnapshotInfo,
    holds_mail_of: &mut dyn FnMut(&str) -> Result<bool, E>,
) -> Result<Option<&'l Hold>, E> {
    let hashes = with_forebears(ledger, info.hash);
    let names = |hold: &&Hold| hold.snapshots.iter().any(|name| hashes.contains(&name.hash));
    if let Some(hold) = ledger.holds.iter().find(names) {
        return Ok(Some(hold));
    }
    for hold in &ledger.holds {
        for user in &hold.users {
            if holds_mail_of(user)? {
                return Ok(Some(hold));
            }
        }
    }
    Ok(None)
}

/// A snapshot and those in whose place it stands, by their hashes: what holds one of them holds it.
fn with_forebears(ledger: &Ledger, hash: ObjectHash) -> Vec<ObjectHash> {
    let mut hashes = vec![hash];
    let mut at = 0;
    while let Some(&hash) = hashes.get(at) {
        at += 1;
        let steps = ledger.replaced.values().filter(|step| step.new.is_some_and(|new| new.hash == hash));
        for step in steps {
            if !hashes.contains(&step.old.hash) {
                hashes.push(step.old.hash);
            }
        }
    }
    hashes
}

/// Looks for a user's mail in snapshot after snapshot; what they have in common is looked at once.
#[derive(Debug)]
pub struct UserSearch {
    user: String,
    /// Folders below which nothing was found: the hash of path and top page.
    without: HashSet<[u8; 16]>,
}

impl UserSearch {
    /// Looks for this user, see [`user::matches`].
    pub fn new(user: &str) -> UserSearch {
        UserSearch { user: user.to_owned(), without: HashSet::new() }
    }

    /// Does the snapshot hold mail of the user? One that cannot be read counts as if it did.
    ///
    /// Reads pages of folders only, and goes into no mailbox. The index must be in step.
    pub fn finds(
        &mut self,
        reader: &BlobReader<'_>,
        info: &SnapshotInfo,
        interrupt: &Interrupt,
    ) -> Result<bool, RepoError> {
        if info.snapshot.parts.iter().any(|part| self.is_users_or_below(&part.path)) {
            return Ok(true);
        }
        let mut seen = Vec::new();
        let mut folders = 0;
        let mut view = View::new(reader, &info.snapshot, b"/");
        while let Some(step) = view.next() {
            let (path, entry) = match step {
                Step::Entry(path, entry) => (path, entry),
                Step::Leave => continue,
                Step::Broken(_, error) if error.ends_the_run() => return Err(error),
                Step::Broken(..) => return Ok(true),
            };
            let tree = match entry.node {
                Node::Folder(tree) => Some(tree),
                // An mbox is a user's mail as well.
                Node::File(_) => None,
                _ => continue,
            };
            if user::matches(&self.user, &names(&path)) {
                return Ok(true);
            }
            let Some(tree) = tree else { continue };
            interrupt.check()?;
            folders += 1;
            if folders > FOLDERS_MAX {
                return Ok(true);
            }
            let mark = mark(&path, &tree);
            if self.without.contains(&mark) {
                view.pass_over();
                continue;
            }
            match is_maildir(reader, &tree) {
                Ok(true) => view.pass_over(),
                Ok(false) => {}
                Err(error) if error.ends_the_run() => return Err(error),
                Err(_) => return Ok(true),
            }
            if self.without.len() + seen.len() < REMEMBERED_MAX {
                seen.push(mark);
            }
        }
        self.without.extend(seen);
        Ok(false)
    }

    /// Is this path, or one above it, the user's own folder?
    fn is_users_or_below(&self, path: &[u8]) -> bool {
        let names = names(path);
        (1..=names.len()).any(|end| user::matches(&self.user, &names[..end]))
    }
}

fn names(path: &[u8]) -> Vec<&[u8]> {
    path.split(|&byte| byte == b'/').filter(|name| !name.is_empty()).collect()
}

fn mark(path: &[u8], tree: &Tree) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&tree.root.unwrap_or_default().0).update(&[tree.levels]).update(path);
    *hasher.finalize().as_bytes().first_chunk().expect("16 of 32 bytes")
}

/// Nobody's folder lies inside a mailbox; one with a stray `cur` alone is not taken for one.
fn is_maildir(reader: &BlobReader<'_>, tree: &Tree) -> Result<bool, RepoError> {
    if tree.totals.folders < 2 {
        return Ok(false);
    }
    for name in [&b"cur"[..], b"new"] {
        let found = tree::find(tree, name, &mut |id: &BlobId| reader.page(id))?;
        if !found.is_some_and(|entry| matches!(entry.node, Node::Folder(_))) {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    use crate::format::record::{Replacement, SnapshotName};
    use crate::format::snapshot::Snapshot;

    fn info(sequence: u64) -> SnapshotInfo {
        SnapshotInfo::numbered(sequence, Snapshot::of_nothing())
    }

    fn held(mut ledger: Ledger, holds: impl IntoIterator<Item = Hold>) -> Ledger {
        ledger.holds.extend(holds);
        ledger
    }

    fn hold(hold: u64, snapshots: Vec<SnapshotName>, users: &[&str]) -> Hold {
        let users = users.iter().map(|user| (*user).to_owned()).collect();
        Hold { hold, snapshots, users, reason: String::new(), at: 0 }
    }

    fn keeper(ledger: &Ledger, info: &SnapshotInfo, mail_of: &[&str]) -> Option<u64> {
        let mut asked = |user: &str| Ok::<_, Infallible>(mail_of.contains(&user));
        held_by(ledger, info, &mut asked).unwrap().map(|hold| hold.hold)
    }

    #[test]
    fn snapshots_are_held_by_name_and_by_user() {
        let holds = [hold(1, vec![info(1).name()], &[]), hold(2, Vec::new(), &["alice", "bob"])];
        let ledger = held(Ledger::default(), holds);
        assert_eq!(keeper(&ledger, &info(1), &[]), Some(1));
        assert_eq!(keeper(&ledger, &info(2), &["bob"]), Some(2));
        assert_eq!(keeper(&ledger, &info(2), &["carol"]), None);
        assert_eq!(keeper(&Ledger::default(), &info(1), &["bob"]), None);
    }

    #[test]
    fn what_stands_in_a_held_ones_place_is_held() {
        for named in [1, 5, 9] {
            let mut ledger = held(Ledger::default(), [hold(3, vec![info(named).name()], &[])]);
            for (old, new) in [(1, 5), (5, 9)] {
                let step = Replacement { old: info(old).name(), new: Some(info(new).name()), received: 0 };
                ledger.replaced.insert(step.old.hash, step);
            }
            assert_eq!(keeper(&ledger, &info(9), &[]), Some(3));
            assert_eq!(keeper(&ledger, &info(8), &[]), None);
        }
    }
}
