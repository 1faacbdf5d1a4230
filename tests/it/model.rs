//! Random histories of a repository, against plain copies kept beside it.
//!
//! Four hosts (two with a full key, two with writer keys and domains of their own) back up, break off, are overtaken by
//! prunes, lose their caches and get old ones back; an administrator forgets, holds, purges, prunes, mirrors and
//! repairs; clocks jump; the repository is lost and its mirror takes its place. A model in memory says after each step
//! which snapshots there are, in which order, with which bytes, and which of them are held. A history that fails is cut
//! down to the steps that matter and printed.

mod copies;
mod expected;
mod look;
mod operations;
mod remains;
mod sources;
mod world;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use operations::{Op, history};
use world::World;

use crate::lab::{is_long, seed};

/// Steps between two looks at everything.
const LOOK_EVERY: usize = 25;
/// How long a failing history is cut down at most.
const SHRINK_MAX: Duration = Duration::from_secs(600);

/// How often each thing was done.
type Counts = BTreeMap<&'static str, u64>;

/// Lives through a history; the error is the number of steps that were begun, and what is wrong.
fn live(seed: u64, ops: &[Op]) -> Result<Counts, (usize, String)> {
    let mut world = World::new(seed);
    let mut guarded = |number: usize, act: &mut dyn FnMut(&mut World) -> Result<(), String>| {
        let outcome = catch_unwind(AssertUnwindSafe(|| act(&mut world)));
        outcome.unwrap_or_else(|_| Err("it panicked".to_owned())).map_err(|why| (number, why))
    };
    for (place, op) in ops.iter().enumerate() {
        guarded(place + 1, &mut |world| {
            world.step(op)?;
            world.glance()?;
            if (place + 1) % LOOK_EVERY == 0 { world.look() } else { Ok(()) }
        })?;
    }
    guarded(ops.len(), &mut World::ends)?;
    Ok(world.counts.into_iter().collect())
}

/// Drops steps as long as what is left still fails.
fn cut_down(mut ops: Vec<Op>, fails: &dyn Fn(&[Op]) -> bool) -> Vec<Op> {
    let begun = Instant::now();
    let mut size = ops.len().div_ceil(2);
    loop {
        let before = ops.len();
        let mut at = 0;
        while at < ops.len() && begun.elapsed() < SHRINK_MAX {
            let mut fewer = ops.clone();
            fewer.drain(at..(at + size).min(ops.len()));
            match fails(&fewer) {
                true => ops = fewer,
                false => at += size,
            }
        }
        if size == 1 && ops.len() == before || begun.elapsed() >= SHRINK_MAX {
            return ops;
        }
        size = (size / 2).max(1);
    }
}

/// Lives through one history of that length; panics with the smallest that fails.
fn try_history(seed: u64, length: usize) -> Counts {
    let ops = history(seed, length);
    let (steps, why) = match live(seed, &ops) {
        Ok(counts) => return counts,
        Err(failed) => failed,
    };
    println!("MAILARK_TEST_SEED={seed} fails at step {steps} of {length}, {:?}: {why}", ops.get(steps - 1));
    let smallest = cut_down(ops[..steps].to_vec(), &|fewer| live(seed, fewer).is_err());
    let why = live(seed, &smallest).err().map_or("not every time".to_owned(), |(_, why)| why);
    panic!("MAILARK_TEST_SEED={seed}: {why}\nafter {} steps: {smallest:#?}", smallest.len());
}

#[test]
fn random_histories_come_out_as_the_model_says() {
    let (histories, length) = if is_long() { (100, 150) } else { (8, 60) };
    let (seed, begun) = (seed(), Instant::now());
    let mut counts = Counts::new();
    for number in 0..histories {
        if number > 0 && number % 20 == 0 {
            println!("{number} histories in {:?}", begun.elapsed());
        }
        for (what, count) in try_history(seed.wrapping_add(number), length) {
            *counts.entry(what).or_default() += count;
        }
    }
    println!("{histories} histories of {length} steps in {:?}: {counts:?}", begun.elapsed());
}

#[test]
fn a_failing_list_is_cut_down_to_what_matters() {
    let ops = history(1, 60);
    let (third, last) = (ops[20].clone(), ops[59].clone());
    let fails = |ops: &[Op]| ops.contains(&third) && ops.contains(&last);
    assert_eq!(cut_down(ops.clone(), &fails), [third.clone(), last.clone()]);
    assert_eq!(history(1, 60), ops, "the same seed gives the same list");
}
