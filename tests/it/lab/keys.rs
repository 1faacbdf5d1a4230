//! Keys that come, go, and change.

use std::sync::Arc;

use mailark::base::id::SlotId;
use mailark::repo::{RepoError, Repository};
use mailark::store::{Place, StoreErrorKind};

use super::{Lab, Scenario, Then, Verb, claim, secret, text};
use crate::support::{copy_folder, noise};

fn opens(repository: &Repository, key: &[u8]) -> bool {
    Repository::open(Arc::clone(&repository.store), &secret(key)).is_ok()
}

/// Removes a slot as the program does: one that is gone already is removed.
fn remove_slot(repository: &Repository, id: SlotId) -> Result<(), String> {
    match repository.remove_slot(id) {
        Err(RepoError::Store(error)) if error.kind == StoreErrorKind::Missing => Ok(()),
        removed => removed.map_err(text),
    }
}

pub(super) fn rows(lab: &Arc<Lab>) -> [Scenario; 3] {
    let two = lab.env.path("two-keys");
    copy_folder(&lab.env.path("grown"), &two);
    let repository = lab.open(&two).unwrap();
    let third = noise(13, 32);
    let added = repository.add_slot(&repository.keys, &secret(&third), "third", "").unwrap();
    let (old, second) = (repository.opened.unwrap(), lab.keys[1].clone());
    let row = |name, template, verb, done| {
        let template = lab.env.path(template);
        let (drops, then) = (Vec::new(), Then::Backup);
        Scenario { name, template, verb, done, drops, replaces: false, bears_stale_lists: true, then }
    };
    let key = second.clone();
    let add: Verb = Box::new(move |repository, _| {
        repository.add_slot(&repository.keys, &secret(&key), "second", "").map(drop).map_err(text)
    });
    let key = second.clone();
    let is_added: Verb =
        Box::new(move |repository, _| claim(opens(repository, &key), "the new key does not open"));
    let remove: Verb = Box::new(move |repository, _| remove_slot(repository, added));
    let is_removed: Verb =
        Box::new(move |repository, _| claim(!opens(repository, &third), "the removed key still opens"));
    let key = second.clone();
    let change: Verb = Box::new(move |repository, _| {
        if repository.opened == Some(old) {
            repository.add_slot(&repository.keys, &secret(&key), "second", "").map_err(text)?;
        }
        remove_slot(repository, old)
    });
    let is_changed: Verb = Box::new(move |repository, _| {
        let gone =
            repository.store.read(&Place::KeySlot(old), 1 << 16).is_err_and(|error| error.is_missing());
        claim(opens(repository, &second) && gone, "the key was not changed")
    });
    [
        row("key add", "grown", add, is_added),
        row("key remove", "two-keys", remove, is_removed),
        row("key change", "grown", change, is_changed),
    ]
}
