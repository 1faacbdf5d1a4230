//! What a mirror does with what is gone from the repository, and with what moves while it is copied.

use std::fs;
use std::sync::{Arc, Mutex};

use mailark::base::id::ObjectHash;
use mailark::base::interrupt::Interrupt;
use mailark::base::progress::Quiet;
use mailark::crypto::slot::Secret;
use mailark::format::inventory::{Inventory, State};
use mailark::format::record::{Record, SnapshotName};
use mailark::ops::mirror;
use mailark::repo::{Repository, records};
use mailark::store::{Folder, LocalStore, Place, Storage};
use serde_json::Value;

use super::{Objects, Two, objects, tree};
use crate::check::Eventful;
use crate::library::{lone_host, open};
use crate::support::{TestEnv, files_below, is_root, noise, run};
use crate::tree::{Ignore, TreeFixture, assert_same, mail};

#[test]
fn what_is_lost_without_a_reason_is_kept_and_told() {
    let two = Two::mirrored();
    let before = objects(&two.env.repository);
    for folder in ["packs", "index", "snapshots", "records", "parity", "config"] {
        let Some(name) = before.keys().find(|name| name.starts_with(folder)) else { continue };
        let path = two.env.repository.join(name);
        fs::remove_file(&path).unwrap();
        let output =
            two.mirror(&["--delete-after", "0", "--json"]).expect(3).naming(name).naming("repair packs");
        assert_eq!(output.json()["lost"][0], name.as_str());
        assert!(two.dir.join(name).exists());
        // It is as loud the next day, and without a key nobody can know.
        two.mirror(&["--delete-after", "0"]).expect(3).naming(name);
        two.verify().expect(0);
        fs::write(&path, &before[name]).unwrap();
        two.mirror(&[]).expect(0);
    }
    let name = before.keys().find(|name| name.starts_with("packs")).unwrap();
    fs::remove_file(two.env.repository.join(name)).unwrap();
    assert_eq!(two.json(&["--no-key"])["unexplained"], 1);
    two.restores("one", "restored-1");
    two.restores("two", "restored-2");
}

/// Forgets the job `two` and deletes its objects, as a prune would. Gives their names.
fn forget_two(two: &Two, own: &Objects, all: &Objects) -> Vec<String> {
    let gone: Vec<String> = all.keys().filter(|name| !own.contains_key(*name)).cloned().collect();
    let repository = open(&two.env.repository, &two.env.key_file).unwrap();
    let (mut packs, mut snapshots) = (Vec::new(), Vec::new());
    for name in &gone {
        match Place::parse(name).unwrap() {
            Place::Pack(hash) => packs.push(hash),
            Place::Snapshot(host, sequence, hash) => snapshots.push(SnapshotName { host, sequence, hash }),
            _ => {}
        }
    }
    assert!(!packs.is_empty() && !snapshots.is_empty());
    records::write(&repository, &Record::Forget { snapshots, rule: "test".to_owned() }).unwrap();
    let condemned = records::write(&repository, &Record::Condemn { packs: packs.clone() }).unwrap();
    records::write(&repository, &Record::Doom { condemned, packs }).unwrap();
    records::write(&repository, &Record::PruneEnded { condemned, spared: Vec::new() }).unwrap();
    for name in &gone {
        fs::remove_file(two.env.repository.join(name)).unwrap();
    }
    gone
}

/// Two jobs, the second one backed up and mirrored after `own` was all there was.
fn grown() -> (Two, Objects, Objects) {
    let env = TestEnv::with_repository();
    let (one, two) = (tree(&env, "one", 1_000), tree(&env, "two", 2_000));
    let two = Two { dir: env.path("mirror"), env, one, two };
    two.backup("one");
    let own = objects(&two.env.repository);
    two.backup("two");
    let all = objects(&two.env.repository);
    two.mirror(&["--init"]).expect(0);
    (two, own, all)
}

#[test]
fn what_was_removed_for_a_reason_follows_after_the_delay() {
    let (two, own, all) = grown();
    let gone = forget_two(&two, &own, &all);
    let waiting = two.json(&[]);
    assert_eq!((&waiting["waiting"], &waiting["removed"]), (&gone.len().into(), &0.into()), "{waiting}");
    assert!(gone.iter().all(|name| two.dir.join(name).exists()));
    two.check();
    assert_eq!(two.json(&["--delete-after", "1h"])["removed"], 0);

    // Thirteen days later, then fifteen: as the inventory remembers.
    let age = |days: i64| {
        let newest = files_below(&two.dir.join("inventory")).pop().unwrap();
        let mut inventory = Inventory::decode(&fs::read(&newest).unwrap()).unwrap();
        let mut aged = 0;
        for item in &mut inventory.objects {
            if let State::Gone(since) = &mut item.state {
                *since -= days * 86_400;
                aged += 1;
            }
        }
        assert_eq!(aged, gone.len());
        let bytes = inventory.encode();
        let number: u64 = newest.file_name().unwrap().to_str().unwrap()[..12].parse().unwrap();
        let place = Place::Inventory(number + 1, ObjectHash(*blake3::hash(&bytes).as_bytes()));
        fs::write(two.dir.join(place.to_string()), bytes).unwrap();
    };
    age(13);
    assert_eq!(two.json(&[])["removed"], 0);
    age(2);
    assert_eq!(two.json(&["--dry-run"])["removed"], gone.len());
    assert_eq!(two.json(&[])["removed"], gone.len());
    assert!(gone.iter().all(|name| !two.dir.join(name).exists()));
    two.assert_same_objects();
    two.check();
    two.restores("one", "restored");
    assert_eq!(two.json(&[])["waiting"], 0);
}

#[test]
fn real_prunes_are_followed() {
    let env = TestEnv::new();
    env.mailark(["init", "--no-recovery-code", "--parity"]).expect(0);
    let (one, second) = (tree(&env, "one", 1_000), tree(&env, "two", 2_000));
    let two = Two { dir: env.path("mirror"), env, one, two: second };
    two.backup("one");
    two.backup("two");
    two.mirror(&["--init"]).expect(0);
    two.one.file("files/one", noise(9, 3 << 20));
    two.backup("one");
    let listed = two.env.mailark(["snapshots", "--json"]).expect(0).json();
    let id = |number: usize| listed[number]["id"].as_str().unwrap().to_owned();
    two.env.mailark(["forget", "--force", &id(0), &id(1)]).expect(0);
    two.env.mailark(["prune", "--now", "--max-unused", "0%"]).expect(0);
    let report = two.json(&[]);
    assert!(report["waiting"].as_u64().unwrap() >= 6 && report["removed"] == 0, "{report}");
    two.check();
    two.restores("one", "restored-1");
    let report = two.json(&["--delete-after", "0"]);
    assert_eq!(
        (&report["waiting"], &report["only_here"].as_array().unwrap().len()),
        (&0.into(), &1),
        "{report}"
    );
    two.assert_same_objects();
    two.check();
    two.restores("one", "restored-2");
    assert!(two.dir.join("parity").read_dir().unwrap().count() > 0);
}

#[test]
fn packs_stay_while_a_delta_names_them_and_a_writer_removes_no_snapshots() {
    let (two, own, all) = grown();
    let gone = forget_two(&two, &own, &all);
    let host = lone_host(&two.env, "mx1");
    let as_writer = |more: &[&str]| {
        let key = host.key_file.to_str().unwrap();
        let args = ["mirror", two.dir.to_str().unwrap(), "--json", "--key-file", key];
        two.env.mailark([&args, more].concat())
    };
    // The delta is not gone yet.
    let delta = gone.iter().find(|name| name.starts_with("index")).unwrap();
    fs::write(two.env.repository.join(delta), &all[delta]).unwrap();
    let report = as_writer(&["--delete-after", "0"]).expect(0).json();
    let count = |folder: &str| gone.iter().filter(|name| name.starts_with(folder)).count();
    assert_eq!((&report["removed"], &report["waiting"]), (&0.into(), &count("packs").into()), "{report}");
    assert_eq!(report["unexplained"], count("snapshots"), "{report}");
    fs::remove_file(two.env.repository.join(delta)).unwrap();
    let report = as_writer(&["--delete-after", "0"]).expect(0).json();
    assert_eq!(report["removed"], count("packs") + count("index"), "{report}");
    assert_eq!(report["unexplained"], count("snapshots"), "{report}");
    two.verify().expect(0);
    // Its signature is not the repository's: it left no record.
    let before = objects(&two.env.repository).len();
    as_writer(&[]).expect(0);
    assert_eq!(objects(&two.env.repository).len(), before);
    assert_eq!(two.json(&["--delete-after", "0"])["removed"], count("snapshots"));
    two.check();
}

#[test]
fn without_any_key_objects_are_only_added() {
    let (two, own, all) = grown();
    let mut command = two.env.command(["mirror", "--init", "--no-key", "--json", "other"]);
    run(command.env_remove("MAILARK_KEY_FILE")).expect(0);
    assert_eq!(objects(&two.env.path("other")), objects(&two.env.repository));
    let gone = forget_two(&two, &own, &all);
    let mut command = two.env.command(["mirror", "--no-key", "--json", "other"]);
    let report = run(command.env_remove("MAILARK_KEY_FILE")).expect(0).json();
    assert_eq!((&report["removed"], &report["unexplained"]), (&0.into(), &gone.len().into()), "{report}");
    assert!(gone.iter().all(|name| two.env.path("other").join(name).exists()));
    two.env.mailark(["mirror", "--no-key", "--delete-after", "1d", "other"]).expect(2);
}

#[test]
fn the_record_of_a_purge_may_come_before_the_snapshots_it_names() {
    let two = Two::mirrored();
    two.one.file("one/cur/late", mail(1_700));
    two.backup("one");
    let late = two.env.mailark(["purge", "--path", "/data/one/cur/late", "--yes", "--json"]).expect(0).json();
    assert_eq!(late["snapshots"].as_array().map(Vec::len), Some(1), "{late}");
    // What a run that is killed before the first new snapshot has copied of them.
    for (name, bytes) in objects(&two.env.repository) {
        if name.starts_with("records/") {
            fs::write(two.dir.join(name), bytes).unwrap();
        }
    }
    two.check();
    two.mirror(&[]).expect(0);
    two.check();
}

#[test]
fn removed_key_slots_follow_with_a_full_key() {
    let two = Two::mirrored();
    let added = two.env.mailark(["key", "add", "--new-key-file", "second", "--json"]).expect(0).json();
    let slot = format!("keys/{}", added["id"].as_str().unwrap());
    two.mirror(&[]).expect(0);
    assert!(two.dir.join(&slot).exists());
    two.env.mailark(["key", "remove", &slot[5..]]).expect(0);
    assert_eq!(two.json(&["--no-key"])["unexplained"], 1);
    assert_eq!(two.json(&[])["waiting"], 1);
    assert_eq!(two.json(&["--delete-after", "0"])["removed"], 1);
    assert!(!two.dir.join(&slot).exists());
    two.check();
}

#[test]
fn a_mirror_that_is_written_to_keeps_what_is_its_own() {
    let two = Two::mirrored();
    two.two.file("two/cur/only-here", mail(99));
    crate::support::settle();
    two.at_mirror(&["backup", "--job", "two", "--as", "/data", "two"]).expect(0);
    two.at_mirror(&["key", "add", "--new-key-file", "third"]).expect(0);
    for _ in 0..2 {
        let report = two.json(&["--delete-after", "0"]);
        assert_eq!(report["only_here"].as_array().unwrap().len(), 4, "{report}");
        assert_eq!((&report["removed"], &report["lost"]), (&0.into(), &Value::Array(vec![])));
    }
    two.check();
    two.restores("two", "restored");
}

/// A repository of one snapshot, in which a prune moves all blobs once the folder `at` has been listed.
fn pruned_at(at: Folder) -> (TestEnv, TreeFixture, Eventful, Objects) {
    let env = TestEnv::with_repository();
    let tree = tree(&env, "one", 1_000);
    let moves = |name: &str| name.starts_with("packs/") || name.starts_with("index/");
    let files = |names: &dyn Fn(&str) -> bool| -> Objects {
        objects(&env.repository).into_iter().filter(|(name, _)| names(name)).collect()
    };
    env.backup(&tree.root);
    let (before, old) = (files(&|_| true), files(&moves));
    // The same blobs in another pack, as a prune would store them again.
    old.keys().for_each(|name| fs::remove_file(env.repository.join(name)).unwrap());
    env.backup(&tree.root);
    let new = files(&|name| !before.contains_key(name));
    new.keys().for_each(|name| fs::remove_file(env.repository.join(name)).unwrap());
    let new: Objects = new.into_iter().filter(|(name, _)| moves(name)).collect();
    assert!(new.len() >= 2, "{:?}", new.keys());
    old.iter().for_each(|(name, bytes)| fs::write(env.repository.join(name), bytes).unwrap());
    let (root, added) = (env.repository.clone(), new.clone());
    let prune = move || {
        added.iter().for_each(|(name, bytes)| fs::write(root.join(name), bytes).unwrap());
        old.keys().for_each(|name| fs::remove_file(root.join(name)).unwrap());
    };
    let inner = LocalStore::new(&env.repository);
    let store = Eventful { at, inner, event: Mutex::new(Some(Box::new(prune))) };
    (env, tree, store, new)
}

#[test]
fn what_a_prune_moves_while_it_is_copied_is_found_again() {
    // Between the two lists, and between list and copy.
    for at in [Folder::Deltas, Folder::Packs] {
        let (env, tree, store, new) = pruned_at(at);
        let secret = Secret::KeyFile(fs::read(&env.key_file).unwrap());
        let repository = Repository::open(Arc::new(store), &secret).unwrap();
        let source = mirror::Source::with_key(&repository);
        let store = mirror::open(&source, &env.repository, &env.path("mirror"), true).unwrap();
        mirror::prepare(&source, &LocalStore::new(&env.repository), &store).unwrap();
        let target: Arc<dyn Storage> = Arc::new(store);
        let options = mirror::Options { delete_after_s: 1, reread: false, dry_run: false, workers: 2 };
        let (progress, interrupt) = (Quiet::default(), Interrupt::default());
        let report = mirror::run(&source, &target, &options, &progress, &interrupt).unwrap();
        assert!(report.rounds >= 2 && report.is_whole(), "{report:?}");
        let held = objects(&env.path("mirror"));
        assert!(new.keys().all(|name| held.contains_key(name)));
        assert_eq!(held.keys().filter(|name| name.starts_with("snapshots/")).count(), 1);
        env.mailark(["-r", "mirror", "restore", "latest", "--to", "restored"]).expect(0);
        assert_same(
            &tree.root,
            &env.path("restored/data"),
            Ignore { owners: !is_root(), ..Ignore::default() },
        );
    }
}
