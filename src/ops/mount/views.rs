//! The folders above the snapshots: by time, by host and job, by user.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::folder::{Child, Folder, below};
use super::inode::{Number, Target};
use super::roll::Snapshots;
use super::users::Mailboxes;
use super::vault::{Shown, Vault};
use crate::repo::RepoError;

/// The link to the newest snapshot of a list.
pub(super) const LATEST: &[u8] = b"latest";

/// A folder that no snapshot holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum View {
    /// The mount's own folder.
    Root,
    /// All snapshots.
    Snapshots,
    /// The hosts.
    Hosts,
    /// The jobs of a host.
    Host(Arc<str>),
    /// The snapshots of a job.
    Job(Arc<(String, String)>),
    /// The users.
    Users,
    /// The snapshots that hold a user's mail.
    User(Arc<str>),
}

/// Text as the name of a folder.
pub(super) fn as_name(text: &str) -> Vec<u8> {
    match text {
        "" | "." | ".." => b"_".to_vec(),
        _ => text.replace(['/', '\0'], "_").into_bytes(),
    }
}

/// What views are made from.
pub struct Sight<'a> {
    /// The repository.
    pub vault: &'a Vault,
    /// The snapshots of this moment.
    pub snapshots: &'a Snapshots,
    /// The users.
    pub mailboxes: &'a Mailboxes,
}

impl View {
    /// Where it stands below the mount's own folder.
    pub fn path(&self) -> Vec<u8> {
        match self {
            View::Root => Vec::new(),
            View::Snapshots => b"snapshots".to_vec(),
            View::Hosts => b"hosts".to_vec(),
            View::Host(host) => below(b"hosts", &as_name(host)),
            View::Job(job) => below(&below(b"hosts", &as_name(&job.0)), &as_name(&job.1)),
            View::Users => b"users".to_vec(),
            View::User(user) => below(b"users", &as_name(user)),
        }
    }

    /// Its permission bits: who has mail here is nobody else's business.
    pub fn mode(&self) -> u16 {
        if *self == View::Users { 0o511 } else { 0o555 }
    }

    /// Its inode number.
    pub fn number(&self) -> Number {
        match self {
            View::Root => Number::ROOT,
            view => {
                let up = view.up().number().ino;
                let path = view.path();
                let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
                Number::of(up, name, b"")
            }
        }
    }

    /// The view that it lies in.
    pub fn up(&self) -> View {
        match self {
            View::Root | View::Snapshots | View::Hosts | View::Users => View::Root,
            View::Host(_) => View::Hosts,
            View::Job(job) => View::Host(Arc::from(job.0.as_str())),
            View::User(_) => View::Users,
        }
    }

    /// The views in it.
    fn views(&self, sight: &Sight<'_>) -> Vec<View> {
        let shown = &sight.snapshots.shown;
        match self {
            View::Root => vec![View::Snapshots, View::Hosts, View::Users],
            View::Hosts => {
                let hosts: BTreeSet<&str> =
                    shown.iter().map(|shown| shown.info.snapshot.host_name.as_str()).collect();
                hosts.into_iter().map(|host| View::Host(Arc::from(host))).collect()
            }
            View::Host(host) => {
                let of_host = shown.iter().map(|shown| &shown.info.snapshot);
                let of_host = of_host.filter(|snapshot| *snapshot.host_name == **host);
                let jobs: BTreeSet<&str> = of_host.map(|snapshot| snapshot.job.as_str()).collect();
                jobs.into_iter().map(|job| View::Job(Arc::new((host.to_string(), job.to_owned())))).collect()
            }
            View::Users => {
                sight.mailboxes.users().into_iter().map(|user| View::User(Arc::from(user))).collect()
            }
            View::Snapshots | View::Job(_) | View::User(_) => Vec::new(),
        }
    }

    /// Is it a list of snapshots?
    fn lists_snapshots(&self) -> bool {
        matches!(self, View::Snapshots | View::Job(_) | View::User(_))
    }

    /// Would it list this snapshot, as far as the snapshot itself tells?
    fn fits(&self, shown: &Shown) -> bool {
        let snapshot = &shown.info.snapshot;
        match self {
            View::Job(job) => snapshot.host_name == job.0 && snapshot.job == job.1,
            _ => true,
        }
    }

    /// What it shows of a snapshot.
    fn show(&self, sight: &Sight<'_>, shown: &Arc<Shown>) -> Result<Option<Child>, RepoError> {
        let name = shown.name.as_bytes();
        let up = self.number().ino;
        let number = Number::of(up, name, &shown.info.hash.0);
        let path = below(&self.path(), name);
        let child = |target, entry| Child { name: name.to_vec(), number, target, entry };
        let top = Folder::top(shown, number.ino, up, path.clone());
        let View::User(user) = self else {
            return Ok(self.fits(shown).then(|| child(Target::Folder(top), None)));
        };
        let found = sight.mailboxes.find(sight.vault, &top, user)?;
        Ok(found.map(|found| match found.target {
            Target::Folder(folder) => child(Target::Folder(folder.moved(number.ino, up, path)), found.entry),
            other => child(other, found.entry),
        }))
    }

    /// The link to the newest snapshot, if there is any.
    fn latest(&self, sight: &Sight<'_>) -> Result<Option<Child>, RepoError> {
        let mut fitting: Vec<&Arc<Shown>> =
            sight.snapshots.shown.iter().filter(|shown| self.fits(shown)).collect();
        // Mostly the first that is looked at holds the user's mail.
        while let Some(newest) = Snapshots::newest(fitting.iter().copied()) {
            if self.show(sight, newest)?.is_some() {
                let number = Number::of(self.number().ino, LATEST, &newest.info.hash.0);
                let target = Target::Link(Arc::from(newest.name.as_bytes()));
                return Ok(Some(Child { name: LATEST.to_vec(), number, target, entry: None }));
            }
            let hash = newest.info.hash;
            fitting.retain(|shown| shown.info.hash != hash);
        }
        Ok(None)
    }

    /// Finds the users of new snapshots, where that matters.
    fn look(&self, sight: &Sight<'_>) -> Result<(), RepoError> {
        match self {
            View::Users | View::User(_) => sight.mailboxes.look(sight.vault, sight.snapshots),
            _ => Ok(()),
        }
    }

    /// All that is in it.
    pub fn children(&self, sight: &Sight<'_>) -> Result<Vec<Child>, RepoError> {
        self.look(sight)?;
        let mut children: Vec<Child> = self.views(sight).into_iter().map(View::into_child).collect();
        if self.lists_snapshots() {
            for shown in &sight.snapshots.shown {
                children.extend(self.show(sight, shown)?);
            }
            children.extend(self.latest(sight)?);
        }
        Ok(children)
    }

    /// Finds a name in it.
    pub fn child(&self, sight: &Sight<'_>, name: &[u8]) -> Result<Option<Child>, RepoError> {
        self.look(sight)?;
        if self.lists_snapshots() {
            return match sight.snapshots.named(name) {
                _ if name == LATEST => self.latest(sight),
                Some(shown) => self.show(sight, shown),
                None => Ok(None),
            };
        }
        if let (View::Users, Ok(user)) = (self, std::str::from_utf8(name))
            && sight.mailboxes.knows(user)
        {
            return Ok(Some(View::User(Arc::from(user)).into_child()));
        }
        let views = self.views(sight).into_iter();
        Ok(views.map(View::into_child).find(|child| child.name == name))
    }

    fn into_child(self) -> Child {
        let path = self.path();
        let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or_default().to_vec();
        Child { name, number: self.number(), target: Target::View(self), entry: None }
    }
}
