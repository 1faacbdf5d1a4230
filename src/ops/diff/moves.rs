//! Messages of one Maildir that seem to have come or gone: some only have another name now.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::{Change, ChangeKind};
use crate::format::page::{Entry, Node};
use crate::format::snapshot::Totals;
use crate::mail::maildir;

/// A message that one side has under this name.
struct Loose {
    path: Vec<u8>,
    totals: Totals,
    /// Says that two messages are the same, together with the base name.
    content: u64,
}

/// The messages of `cur` and `new` that have no partner of the same name.
#[derive(Default)]
pub(super) struct Moves {
    removed: Vec<Loose>,
    added: Vec<Loose>,
}

fn loose(path: Vec<u8>, entry: &Entry, comparable: bool) -> Loose {
    let mut hasher = DefaultHasher::new();
    if let Node::File(file) = &entry.node {
        file.size.hash(&mut hasher);
        match comparable {
            true => file.content.hash(&mut hasher),
            false => entry.mtime_s.hash(&mut hasher),
        }
    }
    Loose { path, totals: entry.totals(), content: hasher.finish() }
}

fn name(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').next().unwrap_or_default()
}

impl Loose {
    fn key(&self) -> (&[u8], u64) {
        (maildir::base(name(&self.path)), self.content)
    }
}

/// Can an entry be a message that moves?
pub(super) fn is_message(entry: &Entry) -> bool {
    matches!(entry.node, Node::File(_)) && maildir::is_message_name(&entry.name)
}

impl Moves {
    pub(super) fn remove(&mut self, path: Vec<u8>, entry: &Entry, comparable: bool) {
        self.removed.push(loose(path, entry, comparable));
    }

    pub(super) fn add(&mut self, path: Vec<u8>, entry: &Entry, comparable: bool) {
        self.added.push(loose(path, entry, comparable));
    }

    /// Pairs what belongs together; gives all changes in the order of their paths, each with its sums.
    pub(super) fn settle(self) -> Vec<(Change, Totals)> {
        let mut changes = Vec::with_capacity(self.removed.len().max(self.added.len()));
        let mut gone: HashMap<(&[u8], u64), Vec<&Loose>> = HashMap::new();
        // From behind, so that twins are paired in the order of their names.
        self.removed.iter().rev().for_each(|loose| gone.entry(loose.key()).or_default().push(loose));
        for new in &self.added {
            let size = Some(new.totals.bytes);
            let old = gone.get_mut(&new.key()).and_then(Vec::pop);
            let change = match old {
                Some(old) => Change {
                    kind: ChangeKind::Flags(new.path.clone()),
                    path: old.path.clone(),
                    folder: false,
                    size_before: size,
                    size,
                },
                None => Change {
                    kind: ChangeKind::Added,
                    path: new.path.clone(),
                    folder: false,
                    size_before: None,
                    size,
                },
            };
            changes.push((change, new.totals));
        }
        for old in gone.into_values().flatten() {
            let change = Change {
                kind: ChangeKind::Removed,
                path: old.path.clone(),
                folder: false,
                size_before: Some(old.totals.bytes),
                size: None,
            };
            changes.push((change, old.totals));
        }
        changes.sort_by(|(a, _), (b, _)| a.path.cmp(&b.path));
        changes
    }
}
