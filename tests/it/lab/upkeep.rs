//! Holds, repairs, and mirrors.

use std::fs;
use std::path::Path;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use mailark::base::interrupt::Interrupt;
use mailark::base::progress::Quiet;
use mailark::index::Index;
use mailark::ops::hold::{self, HoldError};
use mailark::ops::repair::records::Outcome;
use mailark::ops::{mirror, repair};
use mailark::repo::Repository;
use mailark::repo::ledger::Ledger;
use mailark::repo::repository::NewSlot;
use mailark::store::{Folder, LocalStore, Storage};

use super::{
    Contents, Lab, Scenario, Then, Verb, all_contents, back_up, claim, new_index, prune, secret, text,
};
use crate::support::{copy_folder, files_below};

pub(super) fn rows(lab: &Arc<Lab>) -> Vec<Scenario> {
    let mut all = Vec::from(hold_rows(lab));
    all.extend([parity_row(lab), index_row(lab), packs_row(lab), mirror_row(lab)]);
    all.extend([snapshots_row(lab), records_row(lab)]);
    all
}

fn hold_rows(lab: &Arc<Lab>) -> [Scenario; 2] {
    let template = lab.env.path("held");
    copy_folder(&lab.env.path("grown"), &template);
    hold::add(&lab.open(&template).unwrap(), Vec::new(), vec!["alice".to_owned()], "test".to_owned())
        .unwrap();
    let holds = |user: &'static str, wanted: bool| -> Verb {
        Box::new(move |repository, _| {
            let ledger = Ledger::read(repository).map_err(text)?;
            let stands = ledger.holds.iter().any(|hold| hold.users.iter().any(|held| held == user));
            claim(stands == wanted, "the holds are not what they should be")
        })
    };
    let add: Verb = Box::new(|repository, _| {
        let added = hold::add(repository, Vec::new(), vec!["bob".to_owned()], "test".to_owned());
        added.map(drop).map_err(text)
    });
    let remove: Verb = Box::new(|repository, _| match hold::remove(repository, 1) {
        Err(HoldError::NoSuchHold { .. }) => {
            // The run before was told that it had failed, and had not.
            let ledger = Ledger::read(repository).map_err(text)?;
            claim(ledger.last_hold == 1 && ledger.holds.is_empty(), "no hold is seen")
        }
        removed => removed.map_err(text),
    });
    let row = |name, verb, done| Scenario {
        name,
        template: template.clone(),
        verb,
        done,
        drops: Vec::new(),
        replaces: false,
        bears_stale_lists: true,
        then: Then::Backup,
    };
    [row("hold add", add, holds("bob", true)), row("hold remove", remove, holds("alice", false))]
}

/// A backup into a repository that makes parity.
fn parity_row(lab: &Arc<Lab>) -> Scenario {
    let template = lab.env.path("with-parity");
    let slot = NewSlot { secret: &secret(&lab.keys[0]), label: "first" };
    Repository::init(LocalStore::new(&template), &[slot], 10).unwrap();
    let (doing, done) = (Arc::clone(lab), Arc::clone(lab));
    let verb: Verb = Box::new(move |repository, index| {
        back_up(repository, index, ("mx1", "data", &doing.source("data-2")))
    });
    Scenario {
        name: "first backup with parity",
        template,
        verb,
        // A pack whose parity could not be made is a pack all the same.
        done: Box::new(move |repository, index| done.holds_newest(repository, index, "mx1", "data-2")),
        drops: Vec::new(),
        replaces: false,
        bears_stale_lists: true,
        then: Then::Backup,
    }
}

/// Turns a bit in the middle of a file.
fn rot(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    fs::write(path, bytes).unwrap();
}

/// The first and the last file of a folder of a template.
fn first_and_last(template: &Path, folder: &str) -> [std::path::PathBuf; 2] {
    let files = files_below(&template.join(folder));
    assert!(files.len() > 1);
    [files[0].clone(), files[files.len() - 1].clone()]
}

fn healing(lab: &Arc<Lab>, name: &'static str, verb: Verb) -> Scenario {
    let template = lab.env.path(name);
    copy_folder(&lab.env.path("grown"), &template);
    Scenario {
        name,
        template,
        verb,
        // That all is whole is looked at for every verb.
        done: Box::new(|_, _| Ok(())),
        drops: Vec::new(),
        replaces: false,
        bears_stale_lists: false,
        then: Then::Heals,
    }
}

fn index_row(lab: &Arc<Lab>) -> Scenario {
    let verb: Verb = Box::new(|repository, _| {
        let options = repair::index::Options { min_age: Duration::ZERO, dry_run: false };
        let report = repair::index::run(repository, options, &Quiet::default(), &Interrupt::default());
        claim(report.map_err(text)?.left.is_empty(), "something could not be helped")
    });
    let row = healing(lab, "repair index", verb);
    let [lost, rotten] = first_and_last(&row.template, "index");
    fs::remove_file(lost).unwrap();
    rot(&rotten);
    row
}

fn packs_row(lab: &Arc<Lab>) -> Scenario {
    let whole = lab.env.path("grown");
    let verb: Verb = Box::new(move |repository, index| {
        let mirror = LocalStore::new(&whole);
        let options = repair::packs::Options {
            mirror: Some(&mirror),
            only: &[],
            quick: false,
            workers: 1,
            dry_run: false,
        };
        let report = repair::packs::run(repository, index, options, &Quiet::default(), &Interrupt::default());
        claim(report.map_err(text)?.missing() == 0, "blobs are still missing")
    });
    let row = healing(lab, "repair packs", verb);
    let [lost, rotten] = first_and_last(&row.template, "packs");
    fs::remove_file(lost).unwrap();
    rot(&rotten);
    row
}

/// Mends what nothing brings back, and gives up what cannot be mended; then the packs that nothing needs any more go.
fn repair_snapshots(repository: &Repository, index: &RwLock<Index>) -> Result<(), String> {
    let options = repair::snapshots::Options { drop_unreadable: true, ..Default::default() };
    let report =
        repair::snapshots::run(repository, index, &options, &Quiet::default(), &Interrupt::default());
    claim(report.map_err(text)?.held.is_empty(), "something is held")?;
    prune(repository, index, Duration::ZERO)
}

/// A pack is lost, and the object of one snapshot is rotten.
fn snapshots_row(lab: &Arc<Lab>) -> Scenario {
    let mut row = healing(lab, "repair snapshots", Box::new(repair_snapshots));
    let standing = lab.standing(&row.template);
    let packs = files_below(&row.template.join("packs")).into_iter();
    // The first one: it holds content of the oldest snapshot, which the later ones share.
    fs::remove_file(packs.max_by_key(|path| path.metadata().unwrap().len()).unwrap()).unwrap();
    let [rotten, _] = first_and_last(&row.template, "snapshots");
    rot(&rotten);
    // Once, where nobody troubles it: what is left is what was there, but for some files.
    let tried = lab.env.path("tried");
    copy_folder(&row.template, &tried);
    let repository = lab.open(&tried).unwrap();
    repair_snapshots(&repository, &new_index(&repository)).unwrap();
    let left = all_contents(&repository, &new_index(&repository)).unwrap();
    assert_eq!(left.len(), standing.len() - 1, "all but the one that cannot be read");
    let mut expected: Vec<Contents> = left.into_iter().map(|(_, held)| held).collect();
    for held in &expected {
        let is_left_of = |before: &Contents| held.iter().all(|(path, what)| before.get(path) == Some(what));
        assert!(held.len() > 3 && lab.older.values().any(is_left_of), "something else is there");
    }
    let is_less = |held: &&Contents| lab.older.values().all(|before| before != *held);
    assert!(expected.iter().any(|held| is_less(&held)), "nothing was lost");
    lab.allow(expected.clone());
    expected.sort();
    row.drops = standing;
    row.done = Box::new(move |repository, index| {
        mailark::repo::deltas::sync(repository, index).map_err(text)?;
        let mut held: Vec<Contents> =
            all_contents(repository, index)?.into_iter().map(|(_, held)| held).collect();
        held.sort();
        claim(held == expected, "other files are left than could be")
    });
    row
}

/// A record is rotten, and whole in a mirror; and something lies there that never was a record.
fn records_row(lab: &Arc<Lab>) -> Scenario {
    let whole = lab.env.path("grown");
    let verb: Verb = Box::new(move |repository, _| {
        let mirror = LocalStore::new(&whole);
        let options =
            repair::records::Options { from: Some(&mirror), drop_unreadable: false, dry_run: false };
        let report = repair::records::run(repository, options).map_err(text)?;
        let is_left = |(_, _, outcome): &(_, _, Outcome)| *outcome == Outcome::Left;
        claim(!report.iter().any(is_left), "something could not be helped")
    });
    let mut row = healing(lab, "repair records", verb);
    let rubbish = b"no record";
    let name = format!("{:012}-{}", 900, blake3::hash(rubbish).to_hex());
    let records = row.template.join("records");
    rot(&files_below(&records)[0]);
    fs::write(records.join(name), rubbish).unwrap();
    row.done = Box::new(|repository, _| {
        let ledger = Ledger::read(repository).map_err(text)?;
        claim(ledger.unusable.is_empty() && !ledger.hosts.is_empty(), "a record is still lost")
    });
    row
}

/// Mirrors `from`, a repository that nobody troubles, to a place.
pub fn mirror(lab: &Lab, from: &Path, to: &Arc<dyn Storage>) -> Result<(), String> {
    let repository = lab.open(from)?;
    let options = mirror::Options { delete_after_s: 0, reread: false, dry_run: false, workers: 1 };
    let source = mirror::Source::with_key(&repository);
    let report = mirror::run(&source, to, &options, &Quiet::default(), &Interrupt::default());
    claim(report.map_err(text)?.is_whole(), "the mirror is not whole")
}

/// A mirror holds what the repository does, and can prove it.
pub fn is_mirrored(from: &Path, to: &dyn Storage) -> Result<(), String> {
    let own = LocalStore::new(from);
    for folder in Folder::ALL.into_iter().filter(|folder| *folder != Folder::Inventory) {
        let list = |store: &dyn Storage| store.list(folder).map_err(text);
        claim(list(&own)? == list(to)?, "the mirror holds other objects than the repository")?;
    }
    let seen = mirror::verify(to, 1, &Quiet::default(), &Interrupt::default()).map_err(text)?;
    claim(seen.inventory_at.is_some(), "there is no inventory")?;
    seen.findings.first().map_or(Ok(()), |found| Err(format!("{}: {}", found.object, found.text)))
}

fn mirror_row(lab: &Arc<Lab>) -> Scenario {
    let (template, from) = (lab.env.path("mirrored"), lab.env.path("grown"));
    fs::create_dir(&template).unwrap();
    let store = LocalStore::new(&template);
    store.make_folders().unwrap();
    mirror(lab, &lab.env.path("fresh"), &(Arc::new(store) as _)).unwrap();
    let (doing, source) = (Arc::clone(lab), from.clone());
    Scenario {
        name: "mirror",
        template,
        verb: Box::new(move |target: &Repository, _: &RwLock<Index>| mirror(&doing, &source, &target.store)),
        done: Box::new(move |target, _| is_mirrored(&from, target.store.as_ref())),
        drops: Vec::new(),
        replaces: false,
        bears_stale_lists: false,
        then: Then::Again,
    }
}
