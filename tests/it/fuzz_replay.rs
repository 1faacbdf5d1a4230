//! Every input that a fuzz target began with or failed on, fed to the same function again; and its neighbours.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::support::{dice, files_below};

mod seeds;
#[path = "../../fuzz/targets/mod.rs"]
mod targets;

use targets::TARGETS;

/// All corpora together stay small.
const BYTES_MAX: u64 = 300 << 10;
/// Changed copies of each input.
const NEIGHBOURS: u64 = 2_000;

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target)
}

#[test]
fn every_target_has_a_corpus_and_no_other_is_there() {
    let there: BTreeSet<String> = fs::read_dir(corpus(""))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(there, TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect());
    assert!(TARGETS.iter().all(|(name, _)| !files_below(&corpus(name)).is_empty()));
    let bytes: u64 = files_below(&corpus("")).iter().map(|path| path.metadata().unwrap().len()).sum();
    assert!(bytes < BYTES_MAX, "{bytes} bytes");
}

#[test]
fn all_kept_inputs_pass() {
    for (name, target) in TARGETS {
        for path in files_below(&corpus(name)) {
            println!("{}", path.display());
            target(&fs::read(path).unwrap());
        }
        target(b"");
    }
}

/// A bit, a byte, a stretch or the end is changed.
fn neighbour(bytes: &[u8], seed: u64) -> Vec<u8> {
    let mut changed = bytes.to_vec();
    let at = dice(seed, bytes.len().max(1) as u64) as usize;
    let odd = [0, 1, 250, 251, 252, 253, 254, 255][dice(seed + 1, 8) as usize];
    match dice(seed + 2, 5) {
        _ if bytes.is_empty() => changed.push(odd),
        0 => changed[at] ^= 1 << dice(seed + 3, 8),
        1 => changed[at] = odd,
        2 => changed.truncate(at),
        3 => drop(changed.splice(at..at, [odd; 9])),
        _ => drop(changed.drain(at..bytes.len().min(at + 3))),
    }
    changed
}

#[test]
fn neighbours_of_all_kept_inputs_pass() {
    for (number, (name, target)) in TARGETS.iter().enumerate() {
        for (file, path) in files_below(&corpus(name)).iter().enumerate() {
            let bytes = fs::read(path).unwrap();
            for round in 0..NEIGHBOURS {
                let seed = (number as u64) << 40 | (file as u64) << 20 | round << 2;
                println!("{} {seed}", path.display());
                target(&neighbour(&bytes, seed));
            }
        }
    }
}
