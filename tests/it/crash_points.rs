//! A crash between any two changes of the disk: older snapshots stay as they were, and the next backup works.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use mailark::crypto::slot::Secret;
use mailark::repo::Repository;
use mailark::repo::repository::NewSlot;
use mailark::store::disk::{Operation, RecordingDisk};
use mailark::store::{LocalStore, Storage};

use crate::crash_model::{Aftermath, CrashModel, relative};
use crate::lab::{
    Lab, Scenario, Then, findings, is_long, local, new_index, open_with, scenarios, secret, seed, text,
    upkeep,
};
use crate::support::{copy_folder, dice};

/// States of one point that are left to the dice.
const DICE: u64 = 12;
const DICE_LONG: u64 = 100;
/// One state of so many is backed up into.
const GOES_ON: u64 = 12;

/// From so many operations on a row is a large one.
const MANY: usize = 50;

/// What a sweep saw.
#[derive(Debug, Default)]
struct Tally {
    operations: usize,
    points: u64,
    states: u64,
    continued: u64,
    wrong: Vec<String>,
}

impl Tally {
    fn tell(self, name: &str) {
        let Tally { operations, points, states, continued, wrong } = self;
        println!(
            "{name}: {operations} operations, {points} crash points, {states} different states, \
             {continued} continued"
        );
        let first = wrong.iter().take(10).cloned().collect::<Vec<_>>().join("\n");
        assert!(wrong.is_empty(), "{name}: {} of {points} points are wrong\n{first}", wrong.len());
    }
}

fn aftermaths(seed: u64, point: usize) -> impl Iterator<Item = Aftermath> {
    use Aftermath::{Everything, Names, Synced, Torn};
    let thrown = if is_long() { DICE_LONG } else { DICE };
    let dice = (0..thrown).map(move |n| Aftermath::Dice(seed.wrapping_add(point as u64 * 1_000 + n)));
    [Everything, Synced, Names, Torn].into_iter().chain(dice)
}

/// Lays out every state that a crash within `operations` may leave and lets `judge` look at it; with `true` when
/// the run was over.
fn sweep(
    before: Option<&Path>,
    operations: &[Operation],
    (seed, scratch): (u64, &Path),
    mut judge: impl FnMut(&Path, bool, &mut Tally) -> Result<(), String>,
) -> Tally {
    let mut model = CrashModel::new(before);
    let mut tally = Tally { operations: operations.len(), ..Tally::default() };
    let mut seen = HashSet::new();
    for point in 0..=operations.len() {
        if let Some(operation) = point.checked_sub(1).map(|last| &operations[last]) {
            model.play(operation);
        }
        let over = point == operations.len();
        for aftermath in aftermaths(seed, point) {
            let Some(state) = model.crash(aftermath) else { continue };
            tally.points += 1;
            if !seen.insert((over, state.digest())) {
                continue;
            }
            tally.states += 1;
            let root = scratch.join("state");
            state.lay_out(&root);
            if let Err(text) = judge(&root, over, &mut tally) {
                let after = point.checked_sub(1).map(|last| &operations[last]);
                tally.wrong.push(format!("{aftermath:?} after operation {point} ({}): {text}", brief(after)));
            }
            if root.exists() {
                fs::remove_dir_all(&root).unwrap();
            }
        }
    }
    tally
}

fn brief(operation: Option<&Operation>) -> String {
    match operation {
        None => "none".to_owned(),
        Some(Operation::Write(path, bytes)) => format!("write of {} bytes to {path:?}", bytes.len()),
        Some(operation) => format!("{operation:?}"),
    }
}

/// Runs the verb once and gives all that it did to the disk.
fn record(lab: &Lab, scenario: &Scenario) -> Vec<Operation> {
    let root = lab.env.path("recorded");
    copy_folder(&scenario.template, &root);
    let disk = Arc::new(RecordingDisk::default());
    let store: Arc<dyn Storage> = Arc::new(LocalStore::with_disk(&root, Arc::clone(&disk) as _));
    let repository = open_with(&store, &lab.keys).unwrap();
    disk.take();
    (scenario.verb)(&repository, &new_index(&repository)).unwrap();
    let operations = disk.take();
    (scenario.done)(&repository, &new_index(&repository)).unwrap();
    fs::remove_dir_all(&root).unwrap();
    operations.into_iter().map(|operation| relative(operation, &root)).collect()
}

/// What comes after a crash works.
fn go_on(lab: &Lab, root: &Path, scenario: &Scenario) -> Result<(), String> {
    if scenario.then == Then::Backup {
        return lab.goes_on(root);
    }
    let repository = lab.open(root)?;
    (scenario.verb)(&repository, &new_index(&repository)).map_err(|text| format!("again: {text}"))?;
    (scenario.done)(&repository, &new_index(&repository)).map_err(|text| format!("again: {text}"))
}

fn crash_everywhere(chosen: impl Fn(&Scenario) -> bool) {
    let seed = seed();
    let lab = Arc::new(Lab::new());
    let scratch = lab.env.folder("scratch");
    for scenario in scenarios(&lab).iter().filter(|scenario| chosen(scenario)) {
        let operations = record(&lab, scenario);
        // What is damaged shows nothing until it is healed; where that takes long, the long form looks at each state.
        let each = scenario.then == Then::Heals && (is_long() || operations.len() < MANY);
        let judge = |root: &Path, over: bool, tally: &mut Tally| {
            if over || scenario.then != Then::Heals {
                lab.is_whole(root, scenario)?;
            }
            if over {
                // What was reported as done is there, whatever was left unsynced.
                let repository = lab.open(root)?;
                (scenario.done)(&repository, &new_index(&repository))?;
            }
            if over || each || dice(seed ^ tally.states, GOES_ON) == 0 {
                tally.continued += 1;
                go_on(&lab, root, scenario)?;
                lab.is_whole(root, scenario)?;
            }
            Ok(())
        };
        sweep(Some(&scenario.template), &operations, (seed, &scratch), judge).tell(scenario.name);
    }
}

#[test]
fn a_crash_at_any_point_of_a_backup() {
    crash_everywhere(|scenario| scenario.name.contains("backup"));
}

#[test]
fn a_crash_at_any_point_of_a_key_change() {
    crash_everywhere(|scenario| scenario.name.starts_with("key"));
}

#[test]
fn a_crash_at_any_point_of_a_prune() {
    crash_everywhere(|scenario| scenario.name.contains("prune"));
}

#[test]
fn a_crash_at_any_point_of_a_repair() {
    crash_everywhere(|scenario| scenario.then == Then::Heals);
}

#[test]
fn a_crash_at_any_point_of_a_mirror() {
    crash_everywhere(|scenario| scenario.name == "mirror");
}

#[test]
fn a_crash_at_any_point_of_a_first_mirror() {
    let seed = seed();
    let lab = Arc::new(Lab::new());
    let (root, from, scratch) = (lab.env.path("made"), lab.env.path("source"), lab.env.folder("scratch"));
    let rows = scenarios(&lab);
    // With every kind of object that there is.
    copy_folder(&rows.iter().find(|row| row.name.contains("parity")).unwrap().template, &from);
    lab.goes_on(&from).unwrap();
    let mut row = rows.into_iter().find(|row| row.name == "mirror").unwrap();
    // None of its snapshots has to be there before the end.
    row.drops = lab.older.keys().copied().collect();
    let make = |store: LocalStore| {
        store.make_folders().map_err(text)?;
        upkeep::mirror(&lab, &from, &(Arc::new(store) as _))
    };
    let disk = Arc::new(RecordingDisk::default());
    make(LocalStore::with_disk(&root, Arc::clone(&disk) as _)).unwrap();
    let operations: Vec<Operation> =
        disk.take().into_iter().map(|operation| relative(operation, &root)).collect();
    let judge = |root: &Path, over: bool, tally: &mut Tally| {
        if root.join("config").exists() {
            lab.is_whole(root, &row)?;
        }
        if over {
            upkeep::is_mirrored(&from, &LocalStore::new(root))?;
        }
        if over || dice(seed ^ tally.states, GOES_ON) == 0 {
            tally.continued += 1;
            make(LocalStore::new(root))?;
            upkeep::is_mirrored(&from, &LocalStore::new(root))?;
            lab.is_whole(root, &row)?;
        }
        Ok(())
    };
    sweep(None, &operations, (seed, &scratch), judge).tell("first mirror");
}

#[test]
fn a_crash_at_any_point_of_another_verb() {
    let told = ["backup", "key", "prune", "repair", "mirror"];
    crash_everywhere(|scenario| !told.iter().any(|name| scenario.name.contains(name)));
}

#[test]
fn a_crash_at_any_point_of_init() {
    let seed = seed();
    let lab = Lab::new();
    let (root, scratch) = (lab.env.path("made"), lab.env.folder("scratch"));
    let disk = Arc::new(RecordingDisk::default());
    let store = LocalStore::with_disk(&root, Arc::clone(&disk) as _);
    let slot: Secret = secret(&lab.keys[0]);
    Repository::init(store, &[NewSlot { secret: &slot, label: "first" }], 0).unwrap();
    let operations: Vec<Operation> =
        disk.take().into_iter().map(|operation| relative(operation, &root)).collect();
    let judge = |root: &Path, over: bool, tally: &mut Tally| {
        let made = root.join("config").exists();
        if over && !made {
            return Err("init was done, and the repository is gone".to_owned());
        }
        match open_with(&local(root), &lab.keys) {
            Ok(repository) if made => {
                let found = findings(&repository, &new_index(&repository)).map_err(text)?;
                if !found.is_empty() {
                    return Err(format!("check finds {found:?}"));
                }
                tally.continued += 1;
                lab.goes_on(root)
            }
            Err(error) if made => Err(text(error)),
            // Nothing is written into a repository without a config.
            Ok(repository) => repository.need_config().map_or(Ok(()), |()| Err("half made, and used".into())),
            Err(_) => Ok(()),
        }
    };
    sweep(None, &operations, (seed, &scratch), judge).tell("init");
}
