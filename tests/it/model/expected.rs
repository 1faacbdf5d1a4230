//! What should be there: plain copies in memory, and what each verb makes of them.

use std::collections::BTreeSet;

use mailark::base::clock::UnixNanos;
use mailark::base::id::ObjectHash;
use mailark::repo::view::is_within;

use super::operations::{ALL_USERS, FULL_HOSTS};
use super::sources::{Body, Entries, Node, Source};

/// A snapshot that counts.
#[derive(Debug, Clone)]
pub struct Kept {
    pub host: usize,
    pub job: usize,
    pub hash: ObjectHash,
    /// Those in whose place it stands.
    pub forebears: Vec<ObjectHash>,
    pub position: u64,
    pub received: UnixNanos,
    pub suspect: bool,
    pub entries: Entries,
}

/// A hold that stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Hold {
    pub number: u64,
    pub snapshots: Vec<ObjectHash>,
    pub user: Option<&'static str>,
}

/// Content that must not come back: the domain, the folder below which, and the content.
type Stone = (usize, Vec<u8>, Body);

/// What is purged.
#[derive(Debug, Clone, PartialEq)]
pub enum Target {
    Path(Vec<u8>),
    Message(u64),
}

/// What a purge has to do.
#[derive(Debug, Default)]
pub struct Purge {
    /// Places of the snapshots of which something goes, and what is left of them.
    pub rewritten: Vec<(usize, Entries)>,
    stones: Vec<Stone>,
}

/// Everything that should be there.
#[derive(Debug, Clone, Default)]
pub struct Model {
    /// All snapshots, in the order in which they were made.
    pub kept: Vec<Kept>,
    pub holds: Vec<Hold>,
    pub last_hold: u64,
    stones: BTreeSet<Stone>,
}

/// The domain of a host.
pub fn domain(host: usize) -> usize {
    host.saturating_sub(FULL_HOSTS - 1)
}

fn parent(path: &[u8]) -> &[u8] {
    let cut = path.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
    &path[..cut.max(1)]
}

impl Kept {
    /// Does it hold mail of a user?
    fn has_mail_of(&self, user: &str) -> bool {
        let is_users = |path: &[u8]| path.split(|&byte| byte == b'/').any(|name| name == user.as_bytes());
        let parts = Source::parts(self.job);
        parts.iter().any(|path| is_users(path)) || self.entries.keys().any(|path| is_users(path))
    }
}

impl Model {
    /// The newest snapshot of a host's job.
    pub fn newest(&self, host: usize, job: usize) -> Option<&Kept> {
        self.kept.iter().rfind(|kept| (kept.host, kept.job) == (host, job))
    }

    pub fn is_held(&self, kept: &Kept) -> bool {
        self.is_held_for(kept, &|_| true)
    }

    /// Is it held, with holds on users that `counts` lets through?
    fn is_held_for(&self, kept: &Kept, counts: &dyn Fn(&str) -> bool) -> bool {
        self.holds.iter().any(|hold| {
            hold.snapshots.iter().any(|hash| *hash == kept.hash || kept.forebears.contains(hash))
                || hold.user.is_some_and(|user| counts(user) && kept.has_mail_of(user))
        })
    }

    pub fn hold(&mut self, snapshots: Vec<ObjectHash>, user: Option<usize>) {
        self.last_hold += 1;
        self.holds.push(Hold { number: self.last_hold, snapshots, user: user.map(|user| ALL_USERS[user]) });
    }

    /// What a rule keeps that says how many of each job, over the snapshots of one host or all.
    pub fn kept_by_count(&self, count: usize, host: Option<usize>) -> BTreeSet<ObjectHash> {
        let mut stay = BTreeSet::new();
        for group in self.groups() {
            if host.is_some_and(|host| host != group[0].host) {
                stay.extend(group.iter().map(|kept| kept.hash));
                continue;
            }
            let has_good = group.iter().any(|kept| !kept.suspect);
            let counts = |kept: &&&Kept| !kept.suspect || !has_good;
            stay.extend(group.iter().rev().filter(counts).take(count).map(|kept| kept.hash));
            stay.extend(self.never_go(&group));
        }
        stay
    }

    /// What no rule lets go: the newest of a job, the newest good one, and what is held.
    pub fn never_go(&self, group: &[&Kept]) -> BTreeSet<ObjectHash> {
        let newest = group.last();
        let good = group.iter().rev().find(|kept| !kept.suspect);
        let held = group.iter().filter(|kept| self.is_held(kept));
        newest.into_iter().chain(good).chain(held).map(|kept| kept.hash).collect()
    }

    /// The snapshots of each job, oldest first.
    pub fn groups(&self) -> Vec<Vec<&Kept>> {
        let jobs: BTreeSet<(usize, usize)> = self.kept.iter().map(|kept| (kept.host, kept.job)).collect();
        let of_job = |job: (usize, usize)| self.kept.iter().filter(move |kept| (kept.host, kept.job) == job);
        jobs.into_iter().map(|job| of_job(job).collect()).collect()
    }

    /// May these be forgotten by their ids?
    pub fn may_go(&self, named: &BTreeSet<ObjectHash>, force: bool) -> bool {
        self.groups().iter().all(|group| {
            let (go, stay): (Vec<&Kept>, Vec<&Kept>) =
                group.iter().partition(|kept| named.contains(&kept.hash));
            let any_good = |some: &[&Kept]| some.iter().any(|kept| !kept.suspect);
            let loses = !go.is_empty() && stay.is_empty() || any_good(&go) && !any_good(&stay);
            !go.iter().any(|kept| self.is_held(kept)) && (force || !loses)
        })
    }

    /// What a backup has to store of a source, and how many files and messages it leaves out.
    pub fn stored(&self, host: usize, source: Entries) -> (Entries, u64) {
        let (mut stored, mut left_out) = (Entries::new(), 0);
        for (path, mut entry) in source {
            let is_purged = |body: &Body| {
                let counts = |(of, scope, purged): &Stone| {
                    *of == domain(host) && purged == body && is_within(parent(&path), scope)
                };
                self.stones.iter().any(counts)
            };
            if let Node::File(body) = &mut entry.node {
                if is_purged(body) {
                    left_out += 1;
                    continue;
                }
                if let Body::Mbox(numbers) = body {
                    let before = numbers.len();
                    numbers.retain(|number| !is_purged(&Body::Mail(*number)));
                    left_out += (before - numbers.len()) as u64;
                }
            }
            stored.insert(path, entry);
        }
        (stored, left_out)
    }

    /// What a purge has to do, out of all snapshots or one.
    pub fn purge(&self, target: &Target, only: Option<usize>) -> Purge {
        let mut purge = Purge::default();
        for (place, kept) in self.kept.iter().enumerate() {
            if only.is_some_and(|only| only != place) {
                continue;
            }
            let (mut left, mut stones) = (Entries::new(), Vec::new());
            for (path, entry) in &kept.entries {
                let mut entry = entry.clone();
                let gone = match target {
                    Target::Path(wanted) if is_within(path, wanted) => {
                        let scope = if path == wanted { parent(path) } else { wanted };
                        if let Node::File(body) = &entry.node {
                            stones.extend(body.marks().into_iter().map(|mark| (scope.to_vec(), mark)));
                        }
                        true
                    }
                    Target::Path(_) => false,
                    Target::Message(wanted) => match &mut entry.node {
                        Node::File(Body::Mail(number)) => number == wanted,
                        Node::File(Body::Mbox(numbers)) => {
                            numbers.retain(|number| number != wanted);
                            false
                        }
                        _ => false,
                    },
                };
                if !gone {
                    left.insert(path.clone(), entry);
                }
            }
            if left != kept.entries {
                if let Target::Message(number) = target {
                    stones.push((b"/".to_vec(), Body::Mail(*number)));
                }
                purge.rewritten.push((place, left));
                purge.stones.extend(stones.into_iter().map(|(scope, mark)| (domain(kept.host), scope, mark)));
            }
        }
        if only.is_some() {
            purge.stones.clear();
        }
        purge
    }

    /// Nothing that a purge would change may be held. The mail of a named user is nobody else's.
    pub fn may_purge(&self, purge: &Purge, named: Option<&str>) -> bool {
        let counts = |held: &str| named.is_none_or(|named| named == held);
        purge.rewritten.iter().all(|(place, _)| !self.is_held_for(&self.kept[*place], &counts))
    }

    /// Does what a purge did; `made` tells new snapshots by the old ones.
    pub fn purged(&mut self, purge: Purge, made: &[(ObjectHash, ObjectHash)]) -> Result<(), String> {
        if made.len() != purge.rewritten.len() {
            return Err(format!(
                "{} snapshots are written anew instead of {}",
                made.len(),
                purge.rewritten.len()
            ));
        }
        for (place, left) in purge.rewritten {
            let kept = &mut self.kept[place];
            let new = made.iter().find(|(old, _)| *old == kept.hash);
            let (old, new) =
                new.ok_or_else(|| format!("snapshot {} is not written anew", kept.hash.short()))?;
            kept.forebears.push(*old);
            kept.hash = *new;
            kept.entries = left;
        }
        self.stones.extend(purge.stones);
        Ok(())
    }

    /// What files hold, in any snapshot of a domain.
    pub fn bodies(&self, of: usize) -> BTreeSet<&Body> {
        let kept = self.kept.iter().filter(|kept| domain(kept.host) == of);
        let files = kept.flat_map(|kept| kept.entries.values()).filter_map(|entry| match &entry.node {
            Node::File(body) => Some(body),
            _ => None,
        });
        files.collect()
    }

    /// Every path that there is, sorted, but for the top.
    pub fn paths(&self) -> BTreeSet<&Vec<u8>> {
        self.kept.iter().flat_map(|kept| kept.entries.keys()).filter(|path| *path != b"/data").collect()
    }
}
