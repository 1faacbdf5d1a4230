//! A snapshot that is asked for by its id and counts no longer: the program says what became of it.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::support::{TestEnv, settle};
use crate::tree::{TreeFixture, mail};

/// A repository with so many snapshots, and their ids, oldest first.
fn with_snapshots(count: u64) -> (TestEnv, Vec<String>) {
    let env = TestEnv::with_repository();
    let tree = TreeFixture::new(env.path("vmail"));
    let mut ids = Vec::new();
    for number in 0..count {
        tree.file(format!("alice/cur/{number}"), mail(number));
        settle();
        ids.push(env.backup(&tree.root)["snapshot"].as_str().unwrap().to_owned());
    }
    (env, ids)
}

/// Every verb that reads a snapshot ends with 1, and says this about it.
#[track_caller]
fn all_say(env: &TestEnv, id: &str, other: &str, text: &str) {
    let (to, path) = (env.path("restored"), format!("{id}:/data/alice"));
    for args in [
        vec!["dump", &path],
        vec!["restore", id, "--to", to.to_str().unwrap()],
        vec!["ls", id],
        vec!["diff", other, id],
        vec!["stats", id],
        vec!["forget", id],
    ] {
        env.mailark(&args).expect(1).naming(&id[..8]).naming(text);
    }
    assert!(!to.exists());
}

#[test]
fn what_was_forgotten_is_told_with_its_time_and_rule() {
    let (env, ids) = with_snapshots(3);
    env.mailark(["forget", &ids[0]]).expect(0);
    let kept = &ids[2];
    all_say(&env, &ids[0], kept, "was forgotten at 20");
    // As long as it is there, whose it was as well.
    env.mailark(["ls", &ids[0]]).expect(1).naming(" data, 20");
    env.mailark(["prune", "--now"]).expect(0);
    all_say(&env, &ids[0][..10], kept, "was forgotten at 20");
    let said = env.mailark(["ls", &ids[0], "--json"]).expect(1);
    let json: Value = serde_json::from_str(said.stderr.lines().last().unwrap()).unwrap();
    assert_eq!(json["kind"], "user", "{json}");
    // What never was is told as before, and what is of somebody else is not called missing.
    env.mailark(["ls", "00000000"]).expect(1).naming("no snapshot '00000000'");
    env.mailark(["ls", kept, "--host", "elsewhere"]).expect(1).naming("is of another host");
    env.mailark(["dump", &format!("{kept}:/other/file")]).expect(1).naming("does not hold /other/file");
}

#[test]
fn what_was_written_anew_is_told_with_what_stands_in_its_place() {
    let (env, ids) = with_snapshots(2);
    let purge = |path: &str| {
        let made = env.mailark(["purge", "--path", path, "--yes", "--json"]).expect(0).json();
        let pairs = made["snapshots"].as_array().unwrap().iter();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        pairs.map(|pair| (text(&pair["id"]), text(&pair["new_id"]))).collect::<BTreeMap<_, _>>()
    };
    let old = &ids[1];
    let first = purge("/data/alice/cur/1")[old].clone();
    let stands = |new: &str| format!("snapshot {} stands in its place", &new[..8]);
    all_say(&env, old, &ids[0], "was written anew by a purge at 20");
    all_say(&env, old, &ids[0], &stands(&first));
    // Written anew once more: the newest is what helps.
    let made = purge("/data/alice/cur/0");
    let (second, other) = (&made[&first], &made[&ids[0]]);
    env.mailark(["prune", "--now"]).expect(0);
    all_say(&env, old, other, &stands(second));
    env.mailark(["forget", "--force", second]).expect(0);
    all_say(&env, old, other, "stood in its place, and was forgotten in its turn");
}
