//! Messages that were there and are there no longer, by what changed from snapshot to snapshot.

use std::collections::{BTreeMap, HashMap, HashSet};

use jiff::tz::TimeZone;

use super::folder::{Source, message_file};
use super::mailfile::{self, Frames};
use super::{FolderKind, MailFolder, PickError, Picked, Query, Step, Survey};
use crate::base::id::BlobId;
use crate::base::interrupt::Interrupt;
use crate::format::page::{Entry, Node};
use crate::format::snapshot::Tree;
use crate::mail::templates::Users;
use crate::mail::{maildir, message_id};
use crate::repo::RepoError;
use crate::repo::lockstep::{Lockstep, Pair};
use crate::repo::reader::{Blob, BlobReader};
use crate::repo::snapshots::SnapshotInfo;
use crate::repo::tree::Listing;
use crate::repo::view::join;

/// What users call the folder that deleted mail goes to.
const TRASH: [&str; 12] = [
    "trash",
    "bin",
    "deleted",
    "deleted items",
    "deleted messages",
    "papierkorb",
    "gelöscht",
    "gelöschte elemente",
    "corbeille",
    "éléments supprimés",
    "papelera",
    "cestino",
];

/// A snapshot of a job, and what reads it.
#[derive(Clone, Copy)]
pub struct Stand<'a> {
    /// The snapshot.
    pub info: &'a SnapshotInfo,
    /// Reads it.
    pub reader: &'a BlobReader<'a>,
}

/// Where a message stood that is gone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deleted {
    /// Its folder, as people call it.
    pub folder: String,
    /// Number of the last snapshot, among those that were compared, in which it stood there.
    pub stand: usize,
    /// The logical path of the file.
    pub path: Vec<u8>,
    /// Its number in an mbox or a dbox file, from 0.
    pub number: u64,
}

/// All messages that went between snapshots.
#[derive(Debug, Default)]
pub struct Gone {
    /// By folder, then by snapshot and path.
    pub messages: Vec<Deleted>,
    /// Listings that cannot be read: what went there is not known.
    pub broken: Vec<(Vec<u8>, RepoError)>,
}

/// What a message is known by whatever its folder and flags: its base name, or what it is made of.
type Identity = Vec<u8>;

/// The snapshots, out of those of one job in the order of time, that tell what went from `from` to `to` (unix
/// nanoseconds): the one that stood at the beginning, all in between, and the one that stands at the end.
pub fn stands_between<'s>(
    job: &[&'s SnapshotInfo],
    from: Option<i128>,
    to: Option<i128>,
) -> Vec<&'s SnapshotInfo> {
    let ended = |info: &SnapshotInfo| i128::from(info.snapshot.ended);
    let is_before = |info: &&&SnapshotInfo| to.is_none_or(|to| ended(info) < to);
    let until: Vec<&SnapshotInfo> = job.iter().filter(is_before).copied().collect();
    let first = from.and_then(|from| until.iter().rposition(|info| ended(info) <= from)).unwrap_or(0);
    until[first..].to_vec()
}

/// The snapshot, out of those of one job in the order of time, that stood at a moment.
pub fn stood_at<'s>(job: &[&'s SnapshotInfo], at: i128) -> Option<&'s SnapshotInfo> {
    job.iter().rev().find(|info| i128::from(info.snapshot.ended) <= at).copied()
}

struct Search<'a, 'q> {
    interrupt: &'a Interrupt,
    zone: &'a TimeZone,
    query: &'q Query,
    found: HashMap<Identity, (bool, Deleted)>,
    broken: Vec<(Vec<u8>, RepoError)>,
}

/// Finds what is in one of the snapshots and no longer in the last one, by what changed between each and the next.
///
/// Of the query user and folders count. A message that moved is not gone; one that went through the trash is told
/// where it stood before.
pub fn deleted<'a>(
    stands: &[Stand<'a>],
    (users, below): (&Users, &[u8]),
    query: &Query,
    (interrupt, zone): (&'a Interrupt, &'a TimeZone),
) -> Result<Gone, PickError> {
    let mut search = Search { interrupt, zone, query, found: HashMap::new(), broken: Vec::new() };
    let mut before: Option<(Stand<'a>, Survey)> = None;
    let mut known_somewhere = false;
    let mut absent = None;
    for (number, stand) in stands.iter().enumerate() {
        let name = stand.info.hash.short();
        let survey =
            super::survey(stand.reader, (&stand.info.snapshot, &name), users, &query.user, below, interrupt);
        let survey = match survey {
            // A user may have come, or gone as a whole.
            Err(error @ PickError::NoSuchUser { .. }) => {
                absent = Some(error);
                Survey::default()
            }
            survey => survey?,
        };
        known_somewhere |= !survey.folders.is_empty();
        if let Some((last, left)) = &before {
            search.compare(number - 1, (*last, left), (*stand, &survey))?;
        }
        before = Some((*stand, survey));
    }
    if let (false, Some(error)) = (known_somewhere, absent) {
        return Err(error);
    }
    if let Some((last, survey)) = &before {
        search.keep_what_is_gone(*last, survey)?;
    }
    let mut messages: Vec<Deleted> = search.found.into_values().map(|(_, deleted)| deleted).collect();
    messages.sort();
    Ok(Gone { messages, broken: search.broken })
}

fn is_trash(folder: &str) -> bool {
    let last = folder.rsplit('/').next().unwrap_or(folder).to_lowercase();
    TRASH.contains(&last.as_str())
}

/// The files of a mail folder: of each where it lies, with its listing; an mbox lies in none.
fn parts(folder: &MailFolder) -> Vec<(Vec<u8>, Option<Tree>)> {
    match &folder.kind {
        FolderKind::Maildir([cur, new]) => {
            vec![(join(&folder.path, b"cur"), *cur), (join(&folder.path, b"new"), *new)]
        }
        FolderKind::Dbox(tree) => vec![(folder.path.clone(), Some(*tree))],
        FolderKind::Mbox(_) => Vec::new(),
    }
}

fn is_maildir(folder: &MailFolder) -> bool {
    matches!(folder.kind, FolderKind::Maildir(_))
}

/// The identity of a message that has no name of its own.
fn content_identity(picked: &Picked<'_>) -> Result<Identity, RepoError> {
    let mut hasher = blake3::Hasher::new();
    if let crate::format::content::Content::Inline(sections) = &picked.body.file().content {
        // The head holds what an mbox notes of a message: it changes, the message does not.
        let bodies = sections.iter().enumerate().flat_map(|(number, section)| {
            section.pieces.iter().skip(usize::from(number == 0)).flat_map(|piece| piece.blobs())
        });
        for id in bodies {
            hasher.update(&id.0);
        }
    }
    match picked.body.head()? {
        Some(head) => match message_id::find(head.as_ref()) {
            Some(id) => drop(hasher.update(&id)),
            None => {
                let block = head.as_ref();
                hasher.update(&crate::mail::mbox_state::without_state(block));
            }
        },
        None => {
            let first = picked.body.file().content.first_blob();
            if let Some(id) = first {
                hasher.update(&id.0);
            }
        }
    }
    Ok([b"=", &hasher.finalize().as_bytes()[..16]].concat())
}

/// The identity of a message that is a file with a name.
fn named_identity(base: &[u8]) -> Identity {
    [b":", base].concat()
}

impl<'a> Search<'a, '_> {
    fn source(&self, stand: Stand<'a>) -> Source<'a> {
        Source { reader: stand.reader, interrupt: self.interrupt, zone: self.zone }
    }

    fn compare(
        &mut self,
        number: usize,
        (left, left_survey): (Stand<'a>, &Survey),
        (right, right_survey): (Stand<'a>, &Survey),
    ) -> Result<(), RepoError> {
        let others: BTreeMap<&[u8], &MailFolder> =
            right_survey.folders.iter().map(|folder| (folder.path.as_slice(), folder)).collect();
        let wanted = left_survey.folders.iter().filter(|folder| self.query.wants_folder(&folder.name));
        for folder in wanted.collect::<Vec<_>>() {
            let other = others.get(folder.path.as_slice()).copied();
            self.folder(number, (left, folder), (right, other))?;
        }
        Ok(())
    }

    fn folder(
        &mut self,
        number: usize,
        (left, folder): (Stand<'a>, &MailFolder),
        (right, other): (Stand<'a>, Option<&MailFolder>),
    ) -> Result<(), RepoError> {
        if let FolderKind::Mbox(entry) = &folder.kind {
            let there = other.and_then(|other| match &other.kind {
                FolderKind::Mbox(entry) => Some(entry.as_ref()),
                _ => None,
            });
            return self.mailfile(number, (left, folder, &folder.path, entry), (right, there));
        }
        let others = other.map(parts).unwrap_or_default();
        let comparable = left.info.domain == right.info.domain && left.info.host == right.info.host;
        let (mut gone, mut come) = (Vec::new(), HashSet::new());
        for (path, tree) in parts(folder) {
            let there = others.iter().find(|(other, _)| *other == path).and_then(|(_, tree)| *tree);
            let same = |tree: &Tree| {
                there.is_some_and(|there| (there.root, there.levels) == (tree.root, tree.levels))
            };
            if comparable && tree.as_ref().is_some_and(same) {
                continue;
            }
            type Fetch<'f> = Box<dyn Fn(&BlobId) -> Result<Blob, RepoError> + 'f>;
            let fetch = |reader: &'a BlobReader<'a>| -> Fetch<'a> { Box::new(move |id| reader.page(id)) };
            let sides = ((tree.as_ref(), fetch(left.reader)), (there.as_ref(), fetch(right.reader)));
            for pair in Lockstep::new(sides.0, sides.1, comparable) {
                self.interrupt.check()?;
                match pair {
                    Pair::Left(entry) => gone.push((join(&path, &entry.name), entry)),
                    Pair::Right(entry) => drop(come.insert(maildir::base(&entry.name).to_vec())),
                    Pair::Both(before, after) if !is_maildir(folder) && before != after => {
                        let path = join(&path, &before.name);
                        self.mailfile(number, (left, folder, &path, &before), (right, Some(&after)))?;
                    }
                    Pair::Both(..) => {}
                    Pair::Broken(error) => {
                        let error = RepoError::from(error);
                        if error.ends_the_run() {
                            return Err(error);
                        }
                        self.broken.push((path.clone(), error));
                    }
                }
            }
        }
        for (path, entry) in gone {
            if !is_maildir(folder) {
                self.mailfile(number, (left, folder, &path, &entry), (right, None))?;
            } else if message_file(&entry).is_some() && !come.contains(maildir::base(&entry.name)) {
                let identity = named_identity(maildir::base(&entry.name));
                self.note(identity, Deleted { folder: folder.name.clone(), stand: number, path, number: 0 });
            }
        }
        Ok(())
    }

    fn note(&mut self, identity: Identity, deleted: Deleted) {
        let in_trash = is_trash(&deleted.folder);
        match self.found.get(&identity) {
            // Where it stood before it was thrown away tells more than the trash.
            Some((false, _)) if in_trash => {}
            _ => drop(self.found.insert(identity, (in_trash, deleted))),
        }
    }

    /// The identities of the messages of a mailbox file, in order.
    fn identities(
        &mut self,
        stand: Stand<'a>,
        folder: &MailFolder,
        (path, entry): (&[u8], &Entry),
    ) -> Result<Vec<Identity>, RepoError> {
        let is_dbox = mailfile::is_dbox_name(&entry.name) && matches!(folder.kind, FolderKind::Dbox(_));
        let frames = if is_dbox { Frames::Dbox } else { Frames::Mbox };
        let (mut found, mut broken) = (Vec::new(), Vec::new());
        mailfile::each(self.source(stand), folder, (path, entry), frames, &mut |step| match step {
            Step::Letter(picked) => match content_identity(&picked) {
                Ok(identity) => {
                    found.push(identity);
                    Ok(())
                }
                Err(error) if error.ends_the_run() => Err(error),
                Err(error) => {
                    // Numbers count messages: this one keeps its own.
                    found.push(Vec::new());
                    broken.push((picked.path, error));
                    Ok(())
                }
            },
            Step::Broken(path, error) => {
                broken.push((path, error));
                Ok(())
            }
        })?;
        self.broken.append(&mut broken);
        Ok(found)
    }

    fn mailfile(
        &mut self,
        number: usize,
        (left, folder, path, entry): (Stand<'a>, &MailFolder, &[u8], &Entry),
        (right, there): (Stand<'a>, Option<&Entry>),
    ) -> Result<(), RepoError> {
        let content = |entry: &Entry| match &entry.node {
            Node::File(file) => Some(file.content.clone()),
            _ => None,
        };
        if left.info.domain == right.info.domain && there.and_then(content) == content(entry) {
            return Ok(());
        }
        let before = self.identities(left, folder, (path, entry))?;
        let after: HashSet<Identity> = match there {
            Some(there) => self.identities(right, folder, (path, there))?.into_iter().collect(),
            None => HashSet::new(),
        };
        for (place, identity) in before.into_iter().enumerate() {
            if !identity.is_empty() && !after.contains(&identity) {
                let (folder, path) = (folder.name.clone(), path.to_vec());
                self.note(identity, Deleted { folder, stand: number, path, number: place as u64 });
            }
        }
        Ok(())
    }

    /// Drops what still stands somewhere in the last snapshot.
    fn keep_what_is_gone(&mut self, last: Stand<'a>, survey: &Survey) -> Result<(), RepoError> {
        if self.found.is_empty() {
            return Ok(());
        }
        let by_content = self.found.keys().any(|identity| identity.starts_with(b"="));
        for folder in &survey.folders {
            match &folder.kind {
                FolderKind::Mbox(entry) if by_content => {
                    let there = self.identities(last, folder, (&folder.path, entry))?;
                    there.iter().for_each(|identity| drop(self.found.remove(identity)));
                }
                FolderKind::Mbox(_) => {}
                FolderKind::Dbox(_) if !by_content => {}
                _ => self.drop_present(last, folder)?,
            }
        }
        Ok(())
    }

    fn drop_present(&mut self, last: Stand<'a>, folder: &MailFolder) -> Result<(), RepoError> {
        let reader = last.reader;
        for (path, tree) in parts(folder) {
            let Some(tree) = tree else { continue };
            for entry in
                Listing::new(&tree, move |id: &BlobId| -> Result<Blob, RepoError> { reader.page(id) })
            {
                self.interrupt.check()?;
                match entry.map_err(RepoError::from) {
                    Ok(entry) if is_maildir(folder) => {
                        self.found.remove(&named_identity(maildir::base(&entry.name)));
                    }
                    Ok(entry) if mailfile::is_dbox_name(&entry.name) => {
                        let there = self.identities(last, folder, (&join(&path, &entry.name), &entry))?;
                        there.iter().for_each(|identity| drop(self.found.remove(identity)));
                    }
                    Ok(_) => {}
                    Err(error) if error.ends_the_run() => return Err(error),
                    Err(error) => self.broken.push((path.clone(), error)),
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::snapshot::Snapshot;

    #[test]
    fn the_snapshots_of_a_time_are_found() {
        let at = |sequence: u64, ended: i64| {
            SnapshotInfo::numbered(sequence, Snapshot { started: ended - 1, ended, ..Snapshot::of_nothing() })
        };
        let all = [at(1, 10), at(2, 20), at(3, 30), at(4, 40)];
        let job: Vec<&SnapshotInfo> = all.iter().collect();
        let between =
            |from, to| stands_between(&job, from, to).iter().map(|info| info.sequence).collect::<Vec<_>>();
        assert_eq!(between(Some(25), Some(40)), [2, 3]);
        assert_eq!(between(Some(20), Some(41)), [2, 3, 4]);
        assert_eq!(between(Some(5), None), [1, 2, 3, 4]);
        assert_eq!(between(None, Some(15)), [1]);
        assert_eq!(between(None, Some(5)), [] as [u64; 0]);
        assert_eq!(stood_at(&job, 29).map(|info| info.sequence), Some(2));
        assert_eq!(stood_at(&job, 9).map(|info| info.sequence), None);
    }

    #[test]
    fn trash_has_many_names() {
        assert!(is_trash("Trash") && is_trash("INBOX/Papierkorb") && is_trash("Deleted Items"));
        assert!(!is_trash("Archive") && !is_trash("Trash/Old"));
    }
}
