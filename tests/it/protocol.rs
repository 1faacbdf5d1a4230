//! Writers, prunes and readers stopped between any two calls to the store, while others do all they can meanwhile:
//! what a snapshot needs is never deleted.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use mailark::base::interrupt::Interrupt;
use mailark::base::progress::Quiet;
use mailark::format::record::Record;
use mailark::index::Index;
use mailark::ops::mirror;
use mailark::ops::prune::{self, MaxUnused, PruneError, Report};
use mailark::repo::{Repository, deltas, records, snapshots};
use mailark::store::{Folder, LocalStore, Place, Storage};

use crate::lab::{Contents, Lab, back_up, contents, findings, is_long, new_index};
use crate::paused::{self, Event, Paused};
use crate::support::{copy_folder, files_below};

/// Opens a repository; the calls that opening makes do not count.
fn open(root: &Path, lab: &Lab, events: Vec<(u64, Event)>) -> (Repository, Arc<Paused>) {
    paused::open(root, &lab.keys, events)
}

fn prune_with(repository: &Repository, grace: Duration) -> Result<Report, PruneError> {
    let options = prune::Options {
        grace,
        max_unused: MaxUnused::Bytes(0),
        drop_checkpoints: false,
        dry_run: false,
        workers: 1,
    };
    let index = new_index(repository);
    prune::run(repository, &index, options, &Quiet::default(), &Interrupt::default())
}

/// Prunes at once, whatever is going on.
fn prune_now(root: &Path, lab: &Lab) {
    let (repository, _) = open(root, lab, Vec::new());
    prune_with(&repository, Duration::ZERO).unwrap();
}

/// Drops all snapshots of a job.
fn forget_job(root: &Path, lab: &Lab, job: &str) {
    let (repository, _) = open(root, lab, Vec::new());
    let listed = snapshots::list(&repository).unwrap();
    let names = listed.snapshots.iter().filter(|info| info.snapshot.job == job).map(|info| info.name());
    let snapshots = names.collect();
    records::write(&repository, &Record::Forget { snapshots, rule: "test".to_owned() }).unwrap();
}

/// Every snapshot can be read whole, `check` finds nothing, and the newest of `job` holds what was backed up.
fn assert_whole(root: &Path, lab: &Lab, job: &str, expected: &Contents, what: &str) {
    let (repository, _) = open(root, lab, Vec::new());
    let index = new_index(&repository);
    let found = findings(&repository, &index).unwrap();
    assert!(found.is_empty(), "{what}: {found:?}");
    let listed = snapshots::list(&repository).unwrap();
    let newest =
        listed.snapshots.iter().filter(|info| info.snapshot.job == job).max_by_key(|info| info.sequence);
    let newest = newest.unwrap_or_else(|| panic!("{what}: no snapshot of {job}"));
    assert!(contents(&repository, &index, newest).unwrap() == *expected, "{what}: other content");
}

/// A lab with a repository whose job `old` has two snapshots, and what its newest one holds.
fn template(lab: &Lab) -> (std::path::PathBuf, Contents) {
    let root = lab.env.path("fresh");
    let (repository, _) = open(&root, lab, Vec::new());
    let index = new_index(&repository);
    deltas::sync(&repository, &index).unwrap();
    let listed = snapshots::list(&repository).unwrap();
    let newest = listed.snapshots.iter().max_by_key(|info| info.sequence).unwrap();
    let held = contents(&repository, &index, newest).unwrap();
    (root, held)
}

/// Calls that a verb makes on a copy of the template when nobody disturbs it.
fn calls_of(root: &Path, lab: &Lab, verb: &dyn Fn(&Repository)) -> u64 {
    let copy = lab.env.path("counted");
    let _ = std::fs::remove_dir_all(&copy);
    copy_folder(root, &copy);
    let (repository, store) = open(&copy, lab, Vec::new());
    verb(&repository);
    store.calls.load(Ordering::SeqCst)
}

/// Runs `verb` once for each place between two of its calls at which `event` may happen.
fn at_every_call(
    lab: &Arc<Lab>,
    prepare: &dyn Fn(&Path),
    verb: &dyn Fn(&Repository),
    event: &dyn Fn(&Path) -> Event,
    afterwards: &dyn Fn(&Path, u64),
) -> u64 {
    let root = lab.env.path("prepared");
    let _ = std::fs::remove_dir_all(&root);
    copy_folder(&template(lab).0, &root);
    prepare(&root);
    let calls = calls_of(&root, lab, verb);
    for call in 0..calls {
        let copy = lab.env.path("stopped");
        let _ = std::fs::remove_dir_all(&copy);
        copy_folder(&root, &copy);
        let (repository, _) = open(&copy, lab, vec![(call, event(&copy))]);
        verb(&repository);
        drop(repository);
        afterwards(&copy, call);
    }
    println!("{calls} places");
    calls
}

fn back_up_old(lab: &Lab, repository: &Repository, index: &RwLock<Index>, job: &str) {
    back_up(repository, index, ("mx1", job, &lab.source("old-2"))).unwrap();
}

#[test]
fn a_writer_is_stopped_anywhere_while_what_it_leans_on_is_pruned() {
    let lab = Arc::new(Lab::new());
    let (_, expected) = template(&lab);
    // The blobs that the writer finds belong to snapshots that nobody wants any more.
    let prepare = |root: &Path| forget_job(root, &lab, "old");
    let verb = |repository: &Repository| back_up_old(&lab, repository, &new_index(repository), "new");
    let event = |root: &Path| -> Event {
        let (root, lab) = (root.to_owned(), Arc::clone(&lab));
        Box::new(move || prune_now(&root, &lab))
    };
    let afterwards =
        |root: &Path, call: u64| assert_whole(root, &lab, "new", &expected, &format!("call {call}"));
    assert!(at_every_call(&lab, &prepare, &verb, &event, &afterwards) > 10);
}

#[test]
fn a_writer_is_stopped_anywhere_while_its_parent_is_forgotten_and_pruned() {
    let lab = Arc::new(Lab::new());
    let (_, expected) = template(&lab);
    let verb = |repository: &Repository| back_up_old(&lab, repository, &new_index(repository), "old");
    let event = |root: &Path| -> Event {
        let (root, lab) = (root.to_owned(), Arc::clone(&lab));
        Box::new(move || {
            forget_job(&root, &lab, "old");
            prune_now(&root, &lab);
            // Months go by: others back up, forget and prune.
            let (repository, _) = open(&root, &lab, Vec::new());
            back_up(&repository, &new_index(&repository), ("mx2", "other", &lab.source("data-1"))).unwrap();
            forget_job(&root, &lab, "other");
            prune_now(&root, &lab);
        })
    };
    let afterwards = |root: &Path, call: u64| {
        // Stopped at its end, its snapshot was forgotten with the others.
        let (repository, _) = open(root, &lab, Vec::new());
        if !snapshots::list(&repository).unwrap().snapshots.is_empty() {
            assert_whole(root, &lab, "old", &expected, &format!("call {call}"));
        }
    };
    at_every_call(&lab, &|_| {}, &verb, &event, &afterwards);
}

#[test]
fn a_condemn_and_a_deletion_befall_a_writer_at_any_two_moments() {
    let lab = Arc::new(Lab::new());
    let (template, expected) = template(&lab);
    let root = lab.env.path("prepared");
    copy_folder(&template, &root);
    forget_job(&root, &lab, "old");
    let verb = |repository: &Repository| back_up_old(&lab, repository, &new_index(repository), "new");
    let calls = calls_of(&root, &lab, &verb);
    let step = if is_long() { 1 } else { 1 + calls / 9 };
    let mut pairs = 0;
    for first in (0..=calls).step_by(step as usize) {
        for second in (first..=calls).step_by(step as usize) {
            let copy = lab.env.path("stopped");
            let _ = std::fs::remove_dir_all(&copy);
            copy_folder(&root, &copy);
            let event = |grace: Duration| -> Event {
                let (copy, lab) = (copy.clone(), Arc::clone(&lab));
                Box::new(move || {
                    let (repository, _) = open(&copy, &lab, Vec::new());
                    prune_with(&repository, grace).unwrap();
                })
            };
            let events = vec![(first, event(Duration::from_secs(1 << 40))), (second, event(Duration::ZERO))];
            let (repository, _) = open(&copy, &lab, events);
            verb(&repository);
            drop(repository);
            assert_whole(&copy, &lab, "new", &expected, &format!("calls {first} and {second}"));
            pairs += 1;
        }
    }
    println!("{pairs} pairs of places");
}

#[test]
fn a_prune_is_stopped_anywhere_while_writers_lean_on_what_it_deletes() {
    let lab = Arc::new(Lab::new());
    let (_, expected) = template(&lab);
    let prepare = |root: &Path| forget_job(root, &lab, "old");
    let verb = |repository: &Repository| {
        prune_with(repository, Duration::ZERO).unwrap();
    };
    let event = |root: &Path| -> Event {
        let (root, lab) = (root.to_owned(), Arc::clone(&lab));
        Box::new(move || {
            let (repository, _) = open(&root, &lab, Vec::new());
            back_up_old(&lab, &repository, &new_index(&repository), "new");
        })
    };
    let afterwards =
        |root: &Path, call: u64| assert_whole(root, &lab, "new", &expected, &format!("call {call}"));
    assert!(at_every_call(&lab, &prepare, &verb, &event, &afterwards) > 25);
}

#[test]
fn a_prune_is_stopped_anywhere_while_another_one_and_a_writer_do_their_work() {
    let lab = Arc::new(Lab::new());
    let (_, expected) = template(&lab);
    let prepare = |root: &Path| forget_job(root, &lab, "old");
    let verb = |repository: &Repository| match prune_with(repository, Duration::ZERO) {
        Ok(_) | Err(PruneError::AnotherPrune) => {}
        // The other one deleted packs and deltas between two looks: it says so and has deleted nothing itself.
        Err(PruneError::Unreadable { .. }) => {}
        Err(PruneError::Repository(error)) => {
            assert!(error.to_string().contains("No such file"), "{error}");
        }
        Err(error) => panic!("{error}"),
    };
    let event = |root: &Path| -> Event {
        let (root, lab) = (root.to_owned(), Arc::clone(&lab));
        Box::new(move || {
            let back_up = || {
                let (repository, _) = open(&root, &lab, Vec::new());
                back_up_old(&lab, &repository, &new_index(&repository), "new");
            };
            back_up();
            prune_now(&root, &lab);
            back_up();
        })
    };
    let afterwards = |root: &Path, call: u64| {
        assert_whole(root, &lab, "new", &expected, &format!("call {call}"));
        prune_now(root, &lab);
        assert_whole(root, &lab, "new", &expected, &format!("call {call}, pruned once more"));
    };
    at_every_call(&lab, &prepare, &verb, &event, &afterwards);
}

#[test]
fn a_host_that_was_rolled_back_leans_on_nothing_that_is_gone() {
    let lab = Arc::new(Lab::new());
    let (template, expected) = template(&lab);
    let root = lab.env.path("prepared");
    copy_folder(&template, &root);
    let cache = lab.env.folder("cache");
    let (repository, _) = open(&root, &lab, Vec::new());
    let index = RwLock::new(Index::open(&cache, &repository.id()).unwrap());
    back_up_old(&lab, &repository, &index, "new");
    drop((index, repository));
    let image = lab.env.path("image");
    copy_folder(&cache, &image);
    forget_job(&root, &lab, "new");
    forget_job(&root, &lab, "old");
    prune_now(&root, &lab);
    // The virtual machine comes back as it was: its index knows packs that are gone.
    let (repository, _) = open(&root, &lab, Vec::new());
    let index = RwLock::new(Index::open(&image, &repository.id()).unwrap());
    back_up_old(&lab, &repository, &index, "new");
    drop((index, repository));
    assert_whole(&root, &lab, "new", &expected, "rolled back");
}

#[test]
fn a_reader_goes_on_while_a_prune_packs_everything_anew() {
    let lab = Arc::new(Lab::new());
    let (template, expected) = template(&lab);
    let root = lab.env.path("prepared");
    copy_folder(&template, &root);
    let (repository, _) = open(&root, &lab, Vec::new());
    let index = new_index(&repository);
    deltas::sync(&repository, &index).unwrap();
    let listed = snapshots::list(&repository).unwrap();
    let (older, newest) = (listed.snapshots[0].name(), listed.snapshots[1].clone());
    records::write(&repository, &Record::Forget { snapshots: vec![older], rule: "test".to_owned() }).unwrap();
    let before = repository.store.list(Folder::Packs).unwrap();
    prune_now(&root, &lab);
    let after = repository.store.list(Folder::Packs).unwrap();
    assert!(before.iter().any(|pack| !after.contains(pack)), "{before:?} {after:?}");
    // This index still knows the old packs alone.
    let read = contents(&repository, &index, &newest).unwrap();
    assert!(read == expected);
}

/// Forgets the older snapshot of the template, and takes it away as a prune does.
fn forget_the_older(root: &Path, lab: &Lab) {
    let (repository, _) = open(root, lab, Vec::new());
    let older = snapshots::list(&repository).unwrap().snapshots[0].name();
    let place = Place::Snapshot(older.host, older.sequence, older.hash);
    records::write(&repository, &Record::Forget { snapshots: vec![older], rule: "test".to_owned() }).unwrap();
    repository.store.remove(&place).unwrap();
}

/// Mirrors what is there, and removes what went so long ago.
fn mirror_to(target: &Path, repository: &Repository, delete_after_s: i64) {
    let store = LocalStore::new(target);
    store.make_folders().unwrap();
    let options = mirror::Options { delete_after_s, reread: false, dry_run: false, workers: 1 };
    let target: Arc<dyn Storage> = Arc::new(store);
    let source = mirror::Source::with_key(repository);
    mirror::run(&source, &target, &options, &Quiet::default(), &Interrupt::default()).unwrap();
}

#[test]
fn a_mirror_explains_what_went_while_it_was_made() {
    let lab = Arc::new(Lab::new());
    let (older, target) = (lab.env.path("older mirror"), lab.env.path("mirror"));
    for filled in [false, true] {
        let prepare = |root: &Path| {
            if filled {
                mirror_to(&older, &open(root, &lab, Vec::new()).0, 0);
            } else {
                std::fs::create_dir(&older).unwrap();
            }
        };
        let verb = |repository: &Repository| {
            let _ = std::fs::remove_dir_all(&target);
            copy_folder(&older, &target);
            mirror_to(&target, repository, 0);
        };
        let event = |root: &Path| -> Event {
            let (root, lab) = (root.to_owned(), Arc::clone(&lab));
            Box::new(move || forget_the_older(&root, &lab))
        };
        let afterwards = |_: &Path, call: u64| {
            let (mirrored, _) = open(&target, &lab, Vec::new());
            let found = findings(&mirrored, &new_index(&mirrored)).unwrap();
            assert!(found.is_empty(), "filled: {filled}, call {call}: {found:?}");
        };
        assert!(at_every_call(&lab, &prepare, &verb, &event, &afterwards) > 10);
        std::fs::remove_dir_all(&older).unwrap();
    }
}

#[test]
fn a_mirror_proves_itself_though_it_copied_a_delta_whose_packs_were_gone() {
    let lab = Arc::new(Lab::new());
    let target = lab.env.path("mirror");
    let verb = |repository: &Repository| {
        let _ = std::fs::remove_dir_all(&target);
        mirror_to(&target, repository, 1_000_000);
        // The prune is run again, and then the mirror.
        prune_now(Path::new(&repository.store.location()), &lab);
        mirror_to(&target, repository, 1_000_000);
    };
    let event = |root: &Path| -> Event {
        let (root, lab) = (root.to_owned(), Arc::clone(&lab));
        Box::new(move || {
            forget_the_older(&root, &lab);
            let (index, kept) = (root.join("index"), root.join("kept"));
            copy_folder(&index, &kept);
            prune_now(&root, &lab);
            // Killed when the packs were deleted, and before the deltas were and a record said so.
            copy_folder(&kept, &index);
            std::fs::remove_file(files_below(&root.join("records")).pop().unwrap()).unwrap();
            std::fs::remove_dir_all(&kept).unwrap();
        })
    };
    let afterwards = |_: &Path, call: u64| {
        let store = LocalStore::new(&target);
        let seen = mirror::verify(&store, 1, &Quiet::default(), &Interrupt::default()).unwrap();
        assert!(seen.findings.is_empty(), "call {call}: {:?}", seen.findings);
        let (mirrored, _) = open(&target, &lab, Vec::new());
        let found = findings(&mirrored, &new_index(&mirrored)).unwrap();
        assert!(found.is_empty(), "call {call}: {found:?}");
    };
    assert!(at_every_call(&lab, &|_| {}, &verb, &event, &afterwards) > 30);
}
