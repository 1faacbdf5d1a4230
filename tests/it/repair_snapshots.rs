//! `repair snapshots`: what is lost is named and left out, nothing else suffers.

use std::fs;
use std::path::PathBuf;

use mailark::format::record::Record;
use mailark::repo::{records, snapshots};
use serde_json::Value;

use crate::library::{lone_host, open};
use crate::support::{TestEnv, is_root, noise};
use crate::tree::{Ignore, TreeFixture, assert_same, mail, message_name};

fn ignore() -> Ignore {
    Ignore { owners: !is_root(), folder_times: true, ..Ignore::default() }
}

/// Two users and so many large files that they fill several packs; the pages stand in the last.
fn large(env: &TestEnv) -> TreeFixture {
    let tree = TreeFixture::new(env.path("vmail"));
    tree.maildir("alice", 0..20);
    env.backup(&tree.root);
    for number in 0..6 {
        let name = format!("bob/cur/{}", message_name(number, "S"));
        tree.file(name, [mail(number), noise(number, 9 << 20)].concat());
    }
    env.backup(&tree.root);
    tree.file(format!("alice/new/{}", message_name(70, "")), mail(70));
    env.backup(&tree.root);
    tree
}

/// How many snapshots [`large`] makes.
const SNAPSHOTS: usize = 3;

fn largest_pack(env: &TestEnv) -> PathBuf {
    env.objects("packs").into_iter().max_by_key(|(_, bytes)| bytes.len()).unwrap().0
}

fn ids(env: &TestEnv) -> Vec<String> {
    let listed = env.mailark(["snapshots", "--json"]).expect(0).json();
    listed.as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect()
}

fn list(report: &Value, name: &str) -> Vec<Value> {
    report[name].as_array().unwrap_or_else(|| panic!("{name} of {report}")).clone()
}

#[track_caller]
fn assert_left(env: &TestEnv, tree: &TreeFixture, lost: &[Value], to: &str) {
    let expected = TreeFixture::new(env.path(&format!("expected-{to}")));
    crate::support::copy_folder(&tree.root, &expected.root);
    for path in crate::support::files_below(&expected.root) {
        crate::tree::set_mtime(&path, crate::tree::LONG_AGO, 0);
    }
    for file in lost {
        let folder = file["folder"].as_str().unwrap().strip_prefix("/data/").unwrap();
        let base = file["name"].as_str().unwrap();
        let found = fs::read_dir(expected.path(folder)).unwrap().map(|entry| entry.unwrap().path());
        let of_name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with(base);
        fs::remove_file(found.into_iter().find(of_name).unwrap()).unwrap();
    }
    let newest = ids(env).pop().unwrap();
    env.mailark(["restore", &newest, "--to", &format!("{to}-newest"), "--system"]).expect(0);
    assert_same(&expected.root, &env.path(&format!("{to}-newest")).join("data"), ignore());
}

#[test]
fn a_lost_pack_costs_its_own_files_only() {
    let env = TestEnv::with_repository();
    let tree = large(&env);
    env.mailark(["repair", "snapshots"]).expect(0);
    let before = ids(&env);
    fs::remove_file(largest_pack(&env)).unwrap();
    let plan = env.mailark(["repair", "snapshots", "--dry-run", "--json"]).expect(3).json();
    assert_eq!(ids(&env), before);
    let report = env.mailark(["repair", "snapshots", "--json"]).expect(3).json();
    assert_eq!(report["files"], plan["files"]);
    let lost = list(&report, "files");
    assert!(
        (1..6).contains(&lost.len()) && lost.iter().all(|file| file["mailbox"] == "/data/bob"),
        "{report}"
    );
    assert_eq!((list(&report, "pages").len(), list(&report, "snapshots").len()), (0, 2), "{report}");
    assert!(lost.iter().all(|file| file["still_there"] == Value::Null), "{report}");
    let after = ids(&env);
    assert!(after.len() == SNAPSHOTS && after[0] == before[0]);
    assert_left(&env, &tree, &lost, "repaired");
    env.mailark(["repair", "snapshots"]).expect(0);
    assert_eq!(ids(&env), after, "there is nothing left to do");
    // The source still has it: the next backup makes it whole.
    let report = env.backup(&tree.root);
    assert_eq!(report["problem_count"], 0, "{report}");
    assert_left(&env, &tree, &[], "whole");
}

#[test]
fn a_copy_in_another_domain_is_told() {
    let env = TestEnv::with_repository();
    let tree = large(&env);
    let lost_pack = largest_pack(&env);
    let host = lone_host(&env, "mx1");
    let key = host.key_file.to_str().unwrap();
    let root = tree.root.to_str().unwrap();
    env.mailark(["backup", "--job", "data", "--as", "/copy", "--key-file", key, root]).expect(0);
    fs::remove_file(lost_pack).unwrap();
    let report = env.mailark(["repair", "snapshots", "--json"]).expect(3).json();
    let lost = list(&report, "files");
    assert!(!lost.is_empty());
    for file in lost {
        let path = file["still_there"]["path"].as_str().unwrap_or_default();
        assert!(
            path.starts_with("/copy/bob/cur/") && path.contains(file["name"].as_str().unwrap()),
            "{file}"
        );
    }
    assert_eq!(list(&report, "snapshots").len(), 2, "the copy is whole");
}

#[test]
fn damage_inside_a_pack_shows_when_content_is_read() {
    let env = TestEnv::with_repository();
    let tree = large(&env);
    let pack = largest_pack(&env);
    let mut bytes = fs::read(&pack).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::remove_file(&pack).unwrap();
    fs::write(&pack, bytes).unwrap();
    env.mailark(["repair", "snapshots"]).expect(0);
    let report = env.mailark(["repair", "snapshots", "--read-data", "--json"]).expect(3).json();
    let lost = list(&report, "files");
    assert!((1..=2).contains(&lost.len()), "one segment, of one file or two: {report}");
    assert_left(&env, &tree, &lost, "repaired");
}

#[test]
fn a_lost_listing_is_left_out() {
    let env = TestEnv::with_repository();
    let tree = TreeFixture::new(env.path("vmail"));
    tree.maildir("alice", 0..20);
    tree.maildir("bob", 30..40);
    env.backup(&tree.root);
    let first: Vec<PathBuf> = env.objects("packs").into_iter().map(|(path, _)| path).collect();
    tree.file(format!("alice/cur/{}", message_name(70, "")), mail(70));
    env.backup(&tree.root);
    let before = ids(&env);
    let second = env.objects("packs").into_iter().map(|(path, _)| path).find(|path| !first.contains(path));
    fs::remove_file(second.unwrap()).unwrap();
    let report = env.mailark(["repair", "snapshots", "--json"]).expect(3).json();
    assert!(!list(&report, "pages").is_empty(), "{report}");
    assert_eq!(list(&report, "snapshots").len(), 1, "{report}");
    let after = ids(&env);
    assert_eq!((after.len(), &after[0]), (2, &before[0]), "the first lacks nothing");
    env.mailark(["repair", "snapshots"]).expect(0);
    assert_eq!(env.backup(&tree.root)["problem_count"], 0);
}

#[test]
fn an_unreadable_snapshot_is_dropped_when_asked_and_a_held_one_stays() {
    let env = TestEnv::with_repository();
    let tree = TreeFixture::new(env.path("vmail"));
    tree.maildir("alice", 0..5);
    for number in 0..3 {
        tree.file(format!("alice/new/{}", message_name(70 + number, "")), mail(70 + number));
        env.backup(&tree.root);
    }
    let full = open(&env.repository, &env.key_file).unwrap();
    let named = snapshots::list(&full).unwrap().snapshots[1].name();
    let held = |released| {
        let (snapshots, users) = (vec![named], Vec::new());
        let record = Record::Hold { hold: 1, snapshots, users, reason: "a case".to_owned(), released };
        records::write(&full, &record).unwrap();
    };
    held(false);
    let path = env.objects("snapshots").into_iter().map(|(path, _)| path);
    let path =
        path.into_iter().find(|path| path.to_str().unwrap().contains(&named.hash.to_string())).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes[100] ^= 1;
    fs::remove_file(&path).unwrap();
    fs::write(&path, bytes).unwrap();
    env.mailark(["repair", "snapshots"]).expect(3).naming("--drop-unreadable");
    let report = env.mailark(["repair", "snapshots", "--drop-unreadable", "--json"]).expect(3).json();
    assert_eq!((&report["dropped"], list(&report, "held").len()), (&0.into(), 1), "{report}");
    held(true);
    let report = env.mailark(["repair", "snapshots", "--drop-unreadable", "--json"]).expect(3).json();
    assert_eq!((&report["dropped"], list(&report, "unreadable").len()), (&1.into(), 1), "{report}");
    assert_eq!(ids(&env).len(), 2);
    env.mailark(["repair", "snapshots"]).expect(0);
}
