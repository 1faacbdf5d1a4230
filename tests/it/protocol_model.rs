//! The protocol of prune itself, gone through exhaustively by spin: it holds, and each mistake that one could make
//! in it is found.

use std::path::Path;
use std::process::Command;

use crate::lab::is_long;
use crate::support::{run, skipped, temporary_folder, tool};

/// What the model can get wrong on purpose; named and explained at its head.
const MISTAKES: [&str; 6] = [
    "NO_LOOK_AFTER_SNAPSHOT",
    "NO_LOOK_BEFORE_DELETE",
    "ONE_WAIT",
    "LOOK_BEFORE_SNAPSHOT",
    "COUNT_ON_DOOMED",
    "SPARED_IS_GOOD_AGAIN",
];

/// Goes through all states; gives what spin's checker printed, or nothing without spin.
fn explore(name: &str, mistake: Option<&str>) -> Option<String> {
    if !tool("spin", ["-V"]) || !tool("cc", ["--version"]) {
        skipped(name, "spin or a C compiler is missing");
        return None;
    }
    let folder = temporary_folder();
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/model/prune.pml");
    let mut spin = Command::new("spin");
    spin.arg("-a")
        .args(is_long().then_some("-DLIMIT=4"))
        .args(mistake.map(|mistake| format!("-D{mistake}")))
        .arg(&model)
        .current_dir(folder.path());
    run(&mut spin).expect(0);
    let mut compile = Command::new("cc");
    compile.args(["-O2", "-w", "-DSAFETY", "-DCOLLAPSE", "-DMEMLIM=4096", "-o", "pan", "pan.c"]);
    run(compile.current_dir(folder.path())).expect(0);
    // A process may sleep for ever, so ending in the middle is no error (-E).
    let explored =
        run(Command::new(folder.path().join("pan")).args(["-E", "-m100000"]).current_dir(folder.path()));
    assert!(!explored.stdout.contains("search depth too small"), "{}", explored.both());
    assert!(!explored.stdout.contains("Search not completed") || mistake.is_some(), "{}", explored.both());
    Some(explored.stdout)
}

#[test]
fn the_protocol_of_prune_deletes_nothing_that_is_needed() {
    let Some(explored) = explore("the_protocol_of_prune_deletes_nothing_that_is_needed", None) else {
        return;
    };
    assert!(explored.contains("errors: 0"), "{explored}");
    let states = explored.lines().find(|line| line.contains("states, stored")).unwrap_or_default();
    println!("{}", states.trim());
}

#[test]
fn each_mistake_in_the_protocol_is_found() {
    for mistake in MISTAKES {
        let Some(explored) = explore("each_mistake_in_the_protocol_is_found", Some(mistake)) else { return };
        assert!(explored.contains("assertion violated"), "{mistake}: {explored}");
    }
}
