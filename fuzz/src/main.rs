//! One fuzzing program for all targets; `MAILARK_FUZZ_TARGET` names the one that runs.

#![no_main]

#[path = "../targets/mod.rs"]
mod targets;

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;

fn chosen() -> fn(&[u8]) {
    let name = std::env::var("MAILARK_FUZZ_TARGET").unwrap_or_default();
    match targets::TARGETS.iter().find(|(known, _)| *known == name) {
        Some((_, target)) => *target,
        None => panic!("MAILARK_FUZZ_TARGET names no target: '{name}'"),
    }
}

static TARGET: OnceLock<fn(&[u8])> = OnceLock::new();

fuzz_target!(|bytes: &[u8]| TARGET.get_or_init(chosen)(bytes));
