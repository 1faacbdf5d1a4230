//! The n-th call of the store, or of the disk below it, fails, for every n: nothing older suffers, nothing false is
//! reported as done, and the verb works when the fault is gone.

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, RwLock};

use mailark::index::Index;
use mailark::repo::Repository;
use mailark::store::fault::{Fault, FaultSwitch, FaultyDisk, FaultyStore, Method, Plan};
use mailark::store::{LocalStore, Storage};

use crate::crash_model::{Aftermath, CrashModel};
use crate::lab::{Lab, Scenario, Then, is_long, local, new_index, open_with, scenarios, seed};
use crate::support::dice;

/// Where the fault sits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Store,
    Disk,
}

/// Calls that are failed in the short form, with each fault.
const CALLS_MAX: u64 = 24;

const ONCE: bool = false;
const LASTING: bool = true;

fn faults(level: Level, scenario: &Scenario) -> Vec<(Fault, bool)> {
    let mut all = vec![
        (Fault::Error, ONCE),
        (Fault::Error, LASTING),
        (Fault::Short, ONCE),
        (Fault::Full, ONCE),
        (Fault::Full, LASTING),
        (Fault::LostAcknowledgement, ONCE),
    ];
    if level == Level::Store && scenario.bears_stale_lists {
        all.push((Fault::StaleList { lists: 1, newest: 1 }, ONCE));
        all.push((Fault::StaleList { lists: 4, newest: 3 }, ONCE));
    }
    all
}

/// Opens the repository with the fault in its way.
fn faulty(lab: &Lab, root: &Path, level: Level, switch: &Arc<FaultSwitch>) -> Repository {
    let store: Arc<dyn Storage> = match level {
        Level::Disk => Arc::new(LocalStore::with_disk(root, Arc::new(FaultyDisk::new(Arc::clone(switch))))),
        Level::Store => Arc::new(FaultyStore::new(local(root), Arc::clone(switch))),
    };
    open_with(&store, &lab.keys).unwrap()
}

/// What came of one fault.
struct Outcome {
    /// The call that it befell; none when the run needs fewer calls.
    struck: Option<Method>,
    /// The verb said that all went well.
    ok: bool,
}

/// Runs the verb once with a fault, then without.
fn strike(
    lab: &Lab,
    scenario: &Scenario,
    (level, plan): (Level, Plan),
    root: &Path,
) -> Result<Outcome, String> {
    let switch = Arc::new(FaultSwitch::default());
    let repository = faulty(lab, root, level, &switch);
    let index = new_index(&repository);
    switch.arm(plan);
    let result = catch_unwind(AssertUnwindSafe(|| (scenario.verb)(&repository, &index)))
        .map_err(|_| "it panicked".to_owned())?;
    let struck = switch.disarm();
    let outcome = Outcome { struck, ok: result.is_ok() };
    if struck.is_none() {
        return result.map(|()| outcome);
    }
    drop(repository);
    if scenario.then != Then::Heals {
        lab.is_whole(root, scenario)?;
    }
    let done = |index: &RwLock<Index>| lab.open(root).and_then(|now| (scenario.done)(&now, index));
    if outcome.ok {
        done(&new_index(&lab.open(root)?)).map_err(|text| format!("it said Ok, but {text}"))?;
    }
    // What the failed run knew must not mislead the next one.
    let index = if plan.spared % 2 == 0 { index } else { new_index(&lab.open(root)?) };
    (scenario.verb)(&lab.open(root)?, &index).map_err(|text| format!("again: {text}"))?;
    done(&index).map_err(|text| format!("again: {text}"))?;
    lab.is_whole(root, scenario).map_err(|text| format!("again: {text}"))?;
    Ok(outcome)
}

/// Calls of one verb that a fault can befall.
fn count_calls(lab: &Lab, scenario: &Scenario, (level, fault): (Level, Fault), root: &Path) -> u64 {
    let switch = Arc::new(FaultSwitch::default());
    let repository = faulty(lab, root, level, &switch);
    switch.arm(Plan { fault, method: None, spared: u64::MAX, lasting: false });
    (scenario.verb)(&repository, &new_index(&repository)).unwrap();
    switch.counted()
}

/// Which calls are failed: every one in the long form, else so many, spread evenly.
fn numbers(calls: u64, seed: u64) -> impl Iterator<Item = u64> {
    let step = if is_long() { 1 } else { calls.div_ceil(CALLS_MAX).max(1) };
    // The number of calls differs a little from run to run, as threads meet.
    (dice(seed, step)..calls + 3 * step).step_by(step as usize)
}

/// Every fault at every call of one verb.
fn fail_every_call(lab: &Lab, scenario: &Scenario, level: Level, seed: u64) {
    let root = lab.env.path("struck");
    let before = CrashModel::new(Some(&scenario.template)).crash(Aftermath::Everything).unwrap();
    let mut wrong = Vec::new();
    let (mut cases, mut survived) = (0, 0);
    let mut methods: BTreeMap<String, u64> = BTreeMap::new();
    for (fault, lasting) in faults(level, scenario) {
        before.lay_out(&root);
        let calls = count_calls(lab, scenario, (level, fault), &root);
        fs::remove_dir_all(&root).unwrap();
        for spared in numbers(calls, seed ^ cases) {
            before.lay_out(&root);
            let plan = Plan { fault, method: None, spared, lasting };
            let outcome = strike(lab, scenario, (level, plan), &root);
            fs::remove_dir_all(&root).unwrap();
            match outcome {
                Ok(Outcome { struck: None, .. }) => break,
                Ok(Outcome { struck: Some(method), ok }) => {
                    *methods.entry(format!("{method:?}")).or_default() += 1;
                    survived += u64::from(ok);
                }
                Err(text) => wrong.push(format!("{plan:?}: {text}")),
            }
            cases += 1;
        }
    }
    println!(
        "{} ({level:?}): {cases} faults, {survived} of them borne and reported as success; by call: {methods:?}",
        scenario.name
    );
    let first = wrong.iter().take(10).cloned().collect::<Vec<_>>().join("\n");
    assert!(wrong.is_empty(), "{} ({level:?}): {} of {cases}\n{first}", scenario.name, wrong.len());
}

fn fail_everywhere(level: Level, chosen: impl Fn(&Scenario) -> bool) {
    let seed = seed();
    let lab = Arc::new(Lab::new());
    for scenario in scenarios(&lab).iter().filter(|scenario| chosen(scenario)) {
        fail_every_call(&lab, scenario, level, seed);
    }
}

fn is_backup(scenario: &Scenario) -> bool {
    scenario.name.contains("backup")
}

#[test]
fn every_call_of_the_store_fails_in_a_backup() {
    fail_everywhere(Level::Store, is_backup);
}

fn is_prune(scenario: &Scenario) -> bool {
    scenario.name.contains("prune")
}

#[test]
fn every_call_of_the_store_fails_in_a_prune() {
    fail_everywhere(Level::Store, is_prune);
}

#[test]
fn every_call_of_the_disk_fails_in_a_prune() {
    fail_everywhere(Level::Disk, is_prune);
}

#[test]
fn every_call_of_the_store_fails_in_other_verbs() {
    fail_everywhere(Level::Store, |scenario| !is_backup(scenario) && !is_prune(scenario));
}

#[test]
fn every_call_of_the_disk_fails_in_a_backup() {
    fail_everywhere(Level::Disk, is_backup);
}

#[test]
fn every_call_of_the_disk_fails_in_other_verbs() {
    fail_everywhere(Level::Disk, |scenario| !is_backup(scenario) && !is_prune(scenario));
}
