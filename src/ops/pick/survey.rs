//! Which mail folders a user has in a snapshot, by walking its tree.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::PickError;
use super::mailfile::is_mbox;
use crate::base::id::BlobId;
use crate::base::interrupt::Interrupt;
use crate::format::page::{Entry, File, Node, Owner};
use crate::format::snapshot::{Snapshot, Tree};
use crate::mail::hint::{Hint, hint_for};
use crate::mail::templates::{Mailbox, Users, folder_name};
use crate::mail::user::{self, is_user};
use crate::repo::RepoError;
use crate::repo::reader::BlobReader;
use crate::repo::tree;
use crate::repo::view::{Step, View, part_folder};

/// Users that are remembered to be named where the one asked for is not there.
const USERS_SEEN_MAX: usize = 200;

/// How a mail folder keeps its messages.
#[derive(Debug, Clone)]
pub enum FolderKind {
    /// A Maildir folder: `cur` and `new`.
    Maildir([Option<Tree>; 2]),
    /// An mbox: one file, with its time.
    Mbox(Box<Entry>),
    /// A folder of dbox files.
    Dbox(Tree),
}

/// A mail folder of a user in one snapshot.
#[derive(Debug, Clone)]
pub struct MailFolder {
    /// Whose it is.
    pub user: String,
    /// As people call it: `INBOX`, `Archive/2024`.
    pub name: String,
    /// Its logical path.
    pub path: Vec<u8>,
    /// So many bytes of the path are the root of the user's mail.
    pub root: usize,
    /// Its messages.
    pub kind: FolderKind,
    /// `dovecot-uidlist`, with its logical path.
    pub uidlist: Option<(Vec<u8>, File)>,
    /// `dovecot-keywords`, with its logical path.
    pub keywords: Option<(Vec<u8>, File)>,
    /// Permission bits of the folder.
    pub mode: u16,
    /// Owner of the folder.
    pub owner: Arc<Owner>,
}

/// All mail of a user in one snapshot.
#[derive(Debug, Default)]
pub struct Survey {
    /// The user as the snapshot names it.
    pub user: String,
    /// The mail folders, by name.
    pub folders: Vec<MailFolder>,
    /// `subscriptions`.
    pub subscriptions: Option<File>,
    /// Other users that were met, some of them.
    pub others: BTreeSet<String>,
    /// Listings that cannot be read.
    pub broken: Vec<(Vec<u8>, RepoError)>,
}

/// Control files of folders that lie elsewhere, by the folder's name.
type Control = BTreeMap<String, [Option<(Vec<u8>, File)>; 2]>;

const UIDLIST: &[u8] = b"dovecot-uidlist";
const KEYWORDS: &[u8] = b"dovecot-keywords";
const SUBSCRIPTIONS: &[u8] = b"subscriptions";

struct Walker<'a> {
    reader: &'a BlobReader<'a>,
    users: &'a Users,
    wanted: &'a str,
    survey: Survey,
    found_users: BTreeSet<String>,
    control: Control,
    /// Of each open folder, the topmost Maildir folder on the way to it, or empty.
    tops: Vec<Vec<u8>>,
}

/// Finds the mail folders of `wanted` at or below the logical path `below`.
///
/// Folders of other users are not looked into. Listings that cannot be read are noted.
pub fn survey(
    reader: &BlobReader<'_>,
    (snapshot, name): (&Snapshot, &str),
    users: &Users,
    wanted: &str,
    below: &[u8],
    interrupt: &Interrupt,
) -> Result<Survey, PickError> {
    let mut walker = Walker {
        reader,
        users,
        wanted,
        survey: Survey::default(),
        found_users: BTreeSet::new(),
        control: Control::new(),
        tops: Vec::new(),
    };
    let mut view = View::new(reader, snapshot, below);
    while let Some(step) = view.next() {
        interrupt.check().map_err(RepoError::from)?;
        match step {
            Step::Entry(path, entry) => match walker.entry(path, entry)? {
                Way::In(top) => walker.tops.push(top),
                Way::Past => view.pass_over(),
            },
            Step::Leave => drop(walker.tops.pop()),
            Step::Broken(_, error) if error.ends_the_run() => return Err(error.into()),
            Step::Broken(path, error) => walker.survey.broken.push((path, error)),
        }
    }
    walker.finish(name)
}

/// Where the walk goes from an entry.
enum Way {
    /// Into the folder, below this topmost Maildir folder.
    In(Vec<u8>),
    Past,
}

impl Walker<'_> {
    fn entry(&mut self, path: Vec<u8>, entry: Entry) -> Result<Way, RepoError> {
        let top = self.tops.last().cloned().unwrap_or_default();
        match &entry.node {
            Node::Folder(below) => {
                let below = *below;
                self.folder(path, entry, &below, top)
            }
            Node::File(_) if top.is_empty() => self.file(path, entry).map(|()| Way::Past),
            _ => Ok(Way::Past),
        }
    }

    fn find(&self, below: &Tree, name: &[u8]) -> Result<Option<Entry>, RepoError> {
        Ok(tree::find(below, name, &mut |id: &BlobId| self.reader.page(id))?)
    }

    fn folder(&mut self, path: Vec<u8>, entry: Entry, below: &Tree, top: Vec<u8>) -> Result<Way, RepoError> {
        if !top.is_empty() && matches!(entry.name.as_slice(), b"cur" | b"new" | b"tmp") {
            return Ok(Way::Past);
        }
        // A listing that cannot be read is told when the walk comes to it.
        let folder_in = |name: &[u8]| match self.find(below, name) {
            Ok(Some(Entry { node: Node::Folder(tree), .. })) => Some(tree),
            _ => None,
        };
        let kind = match (folder_in(b"cur"), folder_in(b"new")) {
            // An empty folder may be missing, as after a copy by a tool that keeps none.
            (Some(cur), new) => FolderKind::Maildir([Some(cur), new]),
            (None, Some(new)) if !top.is_empty() => FolderKind::Maildir([None, Some(new)]),
            _ if self.is_dbox(&entry.name, below) => FolderKind::Dbox(*below),
            _ => return Ok(Way::In(top)),
        };
        let is_maildir = matches!(kind, FolderKind::Maildir(_));
        let top = if top.is_empty() && is_maildir { path.clone() } else { top };
        let Some(mailbox) = self.users.mailbox(&path, &top) else { return Ok(Way::In(top)) };
        if !is_user(self.wanted, &mailbox.user) {
            self.meet(mailbox.user);
            return Ok(Way::Past);
        }
        let file_in = |name: &[u8]| match self.find(below, name) {
            Ok(Some(Entry { node: Node::File(file), .. })) => {
                Some((crate::repo::view::join(&path, name), file))
            }
            _ => None,
        };
        let (uidlist, keywords) = (file_in(UIDLIST), file_in(KEYWORDS));
        if let Some((_, file)) = file_in(SUBSCRIPTIONS).filter(|_| path.len() == mailbox.root) {
            self.survey.subscriptions.get_or_insert(file);
        }
        self.add((path, &entry), mailbox, kind, [uidlist, keywords]);
        Ok(if is_maildir { Way::In(top) } else { Way::Past })
    }

    fn is_dbox(&self, name: &[u8], below: &Tree) -> bool {
        let holds = |first: &[u8]| matches!(self.find(below, first), Ok(Some(_)));
        let maps = [&b"dovecot.map.index"[..], b"dovecot.map.index.log"];
        name == b"dbox-Mails" || name == b"storage" && maps.into_iter().any(holds)
    }

    fn add(
        &mut self,
        (path, entry): (Vec<u8>, &Entry),
        mailbox: Mailbox,
        kind: FolderKind,
        [uidlist, keywords]: [Option<(Vec<u8>, File)>; 2],
    ) {
        self.found_users.insert(mailbox.user.clone());
        self.survey.folders.push(MailFolder {
            user: mailbox.user,
            name: folder_name(&path[mailbox.root.min(path.len())..]),
            root: mailbox.root,
            path,
            kind,
            uidlist,
            keywords,
            mode: entry.mode,
            owner: Arc::clone(&entry.owner),
        });
    }

    /// A file outside of any Maildir: an mbox, or what a control folder holds.
    fn file(&mut self, path: Vec<u8>, entry: Entry) -> Result<(), RepoError> {
        let Node::File(file) = &entry.node else { return Ok(()) };
        if let Some(which) = [UIDLIST, KEYWORDS, SUBSCRIPTIONS].iter().position(|name| entry.name == *name) {
            let file = file.clone();
            self.control_file(path, which, file);
            return Ok(());
        }
        let parent = part_folder(&path);
        let parent = &parent[parent.iter().rposition(|&byte| byte == b'/').map_or(0, |at| at + 1)..];
        if file.content.messages() == 0 || hint_for(&entry.name, parent) == Hint::Dbox {
            return Ok(());
        }
        let Some(mailbox) = self.users.mailbox(&path, b"") else { return Ok(()) };
        if !is_user(self.wanted, &mailbox.user) {
            return Ok(());
        }
        match is_mbox(self.reader, file) {
            Ok(true) => {
                self.add((path, &entry), mailbox, FolderKind::Mbox(Box::new(entry.clone())), [None, None])
            }
            Ok(false) => {}
            Err(error) if error.ends_the_run() => return Err(error),
            Err(error) => self.survey.broken.push((path, error)),
        }
        Ok(())
    }

    fn control_file(&mut self, path: Vec<u8>, which: usize, file: File) {
        let folder = part_folder(&path);
        let mailbox = self.users.control(folder).or_else(|| control_by_name(self.wanted, folder));
        let Some(mailbox) = mailbox.filter(|mailbox| is_user(self.wanted, &mailbox.user)) else { return };
        if which == 2 {
            self.survey.subscriptions.get_or_insert(file);
            return;
        }
        let name = folder_name(&folder[mailbox.root.min(folder.len())..]);
        self.control.entry(name).or_default()[which] = Some((path, file));
    }

    fn meet(&mut self, user: String) {
        if self.survey.others.len() < USERS_SEEN_MAX {
            self.survey.others.insert(user);
        }
    }

    fn finish(self, snapshot: &str) -> Result<Survey, PickError> {
        let Walker { mut survey, found_users, mut control, wanted, .. } = self;
        let exact = found_users.iter().find(|user| user.eq_ignore_ascii_case(wanted));
        let Some(user) = exact.or_else(|| found_users.first()).cloned() else {
            let seen = survey.others.into_iter().collect();
            return Err(PickError::NoSuchUser {
                user: wanted.to_owned(),
                snapshot: snapshot.to_owned(),
                seen,
            });
        };
        if exact.is_none() && found_users.len() > 1 {
            let users = found_users.into_iter().collect();
            return Err(PickError::Ambiguous { user: wanted.to_owned(), users });
        }
        survey.folders.retain(|folder| folder.user == user);
        for folder in &mut survey.folders {
            if folder.uidlist.is_none() && folder.keywords.is_none() {
                [folder.uidlist, folder.keywords] = control.remove(&folder.name).unwrap_or_default();
            }
        }
        survey.folders.sort_by(|a, b| {
            (a.name != "INBOX", &a.name, &a.path).cmp(&(b.name != "INBOX", &b.name, &b.path))
        });
        survey.user = user;
        Ok(survey)
    }
}

/// A control folder that no template tells of, where a name on the way is the user.
fn control_by_name(wanted: &str, folder: &[u8]) -> Option<Mailbox> {
    let mut ends = folder.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
    let ends = ends.by_ref().skip(1).chain([folder.len()]);
    let is_own = |end: &usize| {
        let names: Vec<&[u8]> =
            folder[..*end].split(|&byte| byte == b'/').filter(|name| !name.is_empty()).collect();
        user::matches(wanted, &names)
    };
    let root = ends.into_iter().find(is_own)?;
    Some(Mailbox { user: wanted.to_owned(), root })
}

impl Survey {
    /// The folders that are wanted.
    pub fn wanted<'s>(&'s self, query: &super::Query) -> Result<Vec<&'s MailFolder>, PickError> {
        let missing = query
            .folders
            .iter()
            .find(|wanted| !self.folders.iter().any(|folder| super::query::is_folder(wanted, &folder.name)));
        if let Some(folder) = missing {
            let mut seen: Vec<String> = self.folders.iter().map(|folder| folder.name.clone()).collect();
            seen.dedup();
            return Err(PickError::NoSuchFolder { user: self.user.clone(), folder: folder.clone(), seen });
        }
        Ok(self.folders.iter().filter(|folder| query.wants_folder(&folder.name)).collect())
    }

    /// The roots of the user's mail: logical paths, each once.
    pub fn roots(&self) -> Vec<Vec<u8>> {
        let roots: BTreeSet<Vec<u8>> = self
            .folders
            .iter()
            .map(|folder| folder.path[..folder.root.min(folder.path.len())].to_vec())
            .collect();
        roots.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_known_with_and_without_their_domain() {
        assert!(is_user("alice", "alice@x.org") && is_user("Alice@X.org", "alice@x.org"));
        assert!(!is_user("alice@y.org", "alice@x.org") && !is_user("alice@x.org", "alice"));
    }

    #[test]
    fn control_folders_are_known_by_the_user_on_the_way() {
        let found = |user: &str, path: &str| {
            let found = control_by_name(user, path.as_bytes())?;
            Some(folder_name(&path.as_bytes()[found.root..]))
        };
        assert_eq!(found("a@x.org", "/var/control/a@x.org/.INBOX").as_deref(), Some("INBOX"));
        assert_eq!(found("a@x.org", "/var/control/x.org/a/.Old.2").as_deref(), Some("Old/2"));
        assert_eq!(found("a", "/ctl/a").as_deref(), Some("INBOX"));
        assert_eq!(found("b", "/ctl/a"), None);
    }
}
