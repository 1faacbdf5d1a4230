//! Prune: gives back what nothing needs, keeps everything else byte for byte.

use std::fs;
use std::path::Path;

use mailark::base::id::ObjectHash;
use mailark::format::record::Record;
use mailark::repo::{records, snapshots};

use crate::library::open;
use crate::support::{TestEnv, is_root, noise};
use crate::tree::{Ignore, TreeFixture, assert_same, mail, mail_with_attachment, message_name};

fn ignore() -> Ignore {
    Ignore { owners: !is_root(), ..Ignore::default() }
}

/// Forgets all snapshots but those in `kept`.
fn forget_all_but(env: &TestEnv, kept: &[&str]) {
    let repository = open(&env.repository, &env.key_file).unwrap();
    let listed = snapshots::list(&repository).unwrap();
    let names = listed.snapshots.iter().filter(|info| !kept.contains(&info.hash.to_string().as_str()));
    let snapshots = names.map(|info| info.name()).collect();
    records::write(&repository, &Record::Forget { snapshots, rule: "test".to_owned() }).unwrap();
}

fn packs(env: &TestEnv) -> usize {
    env.objects("packs").len()
}

fn pack_bytes(env: &TestEnv) -> u64 {
    env.objects("packs").iter().map(|(_, bytes)| bytes.len() as u64).sum()
}

/// A tree of three users whose letters come and go.
fn fill(tree: &TreeFixture, generation: u64) {
    for user in 0..3 {
        for number in generation * 40..generation * 40 + 60 {
            let name = message_name(number, if number % 3 == 0 { "S" } else { "" });
            tree.file(format!("user{user}/cur/{name}"), mail(user * 10_000 + number));
        }
        let number = generation * 10 + user;
        let letter = mail_with_attachment(900 + number, 150_000);
        tree.file(format!("user{user}/.Sent/cur/{}", message_name(500 + number, "S")), letter);
    }
    tree.file(format!("files/{generation}"), noise(generation, 300_000));
    tree.file("mbox", (0..20).flat_map(|n| mbox_letter(generation * 7 + n)).collect::<Vec<u8>>());
}

fn mbox_letter(number: u64) -> Vec<u8> {
    [b"From bob Mon Nov 23 10:00:00 2026\n".to_vec(), mail(77_000 + number), b"\n".to_vec()].concat()
}

/// Backs up `generations` states, each in a tree of its own; gives the snapshots' ids.
fn generations(env: &TestEnv, generations: u64) -> Vec<String> {
    (0..generations)
        .map(|generation| {
            let tree = TreeFixture::new(env.path(&format!("vmail{generation}")));
            fill(&tree, generation);
            env.backup(&tree.root)["snapshot"].as_str().unwrap().to_owned()
        })
        .collect()
}

fn same_as(env: &TestEnv, snapshot: &str, source: &Path, to: &str) {
    assert_same(source, &env.restore(snapshot, to), ignore());
}

#[test]
fn what_nothing_needs_is_deleted_at_once_when_asked() {
    let env = TestEnv::with_repository();
    let ids = generations(&env, 4);
    let before = pack_bytes(&env);
    let report = env.mailark(["prune", "--now", "--json"]).expect(0).json();
    assert_eq!(report["deleted"]["packs"], 0, "nothing was forgotten: {report}");
    forget_all_but(&env, &[&ids[1], &ids[3]]);
    let plan = env.mailark(["prune", "--now", "--dry-run", "--json"]).expect(0).json();
    assert_eq!(pack_bytes(&env), before, "a plan changes nothing");
    let report = env.mailark(["prune", "--now", "--max-unused", "0", "--json"]).expect(0).json();
    assert!(report["deleted"]["packs"].as_u64() > Some(0), "{plan} {report}");
    assert_eq!(report["dropped_snapshots"], 2);
    assert!(pack_bytes(&env) < before * 3 / 4, "{before} {}", pack_bytes(&env));
    env.check();
    for (generation, name) in [(1, "one"), (3, "three")] {
        same_as(&env, &ids[generation], &env.path(&format!("vmail{generation}")), name);
    }
    let again = env.mailark(["prune", "--now", "--max-unused", "0", "--json"]).expect(0).json();
    assert_eq!((&again["deleted"]["packs"], &again["repacked"]["packs"]), (&0.into(), &0.into()), "{again}");
    fill(&TreeFixture::new(env.path("vmail9")), 9);
    env.backup(&env.path("vmail9"));
    same_as(&env, "latest", &env.path("vmail9"), "nine");
    env.check();
}

#[test]
fn a_grace_lies_between_condemning_and_deleting() {
    let env = TestEnv::with_repository();
    let ids = generations(&env, 3);
    forget_all_but(&env, &[&ids[2]]);
    let before = packs(&env);
    let first = env.mailark(["prune", "--json"]).expect(0).json();
    assert!(first["condemned"]["packs"].as_u64() > Some(0), "{first}");
    assert!(packs(&env) >= before, "nothing is deleted before the grace is over");
    let early = env.mailark(["prune", "--json"]).expect(0).json();
    assert_eq!(early["condemned"], first["condemned"], "{early}");
    assert!(early["wait_seconds"].as_u64() > Some(0), "{early}");
    // What is condemned is not leaned on: the same mail is stored once more.
    let tree = TreeFixture::new(env.path("vmail0"));
    let stored = env.backup(&tree.root)["stored_bytes"].as_u64().unwrap();
    assert!(stored > 100_000, "{stored}");
    let late = env.mailark(["prune", "--grace", "0", "--json"]).expect(0).json();
    assert!(late["deleted"]["packs"].as_u64() > Some(0), "{late}");
    env.check();
    same_as(&env, &ids[2], &env.path("vmail2"), "two");
    same_as(&env, "latest", &env.path("vmail0"), "nought");
}

#[test]
fn a_writer_key_deletes_nothing() {
    let env = TestEnv::with_repository();
    let ids = generations(&env, 2);
    forget_all_but(&env, &[&ids[1]]);
    env.mailark(["key", "add", "--writer", "--host", "mx1", "--new-key-file", "mx1.key"]).expect(0);
    let before = packs(&env);
    env.mailark(["--key-file", "mx1.key", "prune", "--now"]).expect(12).naming("full key");
    assert_eq!(packs(&env), before);
}

#[test]
fn damage_stops_a_prune_before_it_deletes() {
    let env = TestEnv::with_repository();
    let ids = generations(&env, 2);
    forget_all_but(&env, &[&ids[1]]);
    let before = packs(&env);
    let deltas = env.objects("index");
    // A lost delta makes live packs look like rubbish.
    for (path, _) in &deltas {
        fs::remove_file(path).unwrap();
    }
    let refused = env.mailark(["prune", "--now"]);
    assert!(refused.code == 1, "{}", refused.both());
    assert_eq!(packs(&env), before, "{}", refused.both());
    for (path, bytes) in &deltas {
        fs::write(path, bytes).unwrap();
    }
    let (path, bytes) = &deltas[0];
    fs::write(path, &bytes[..bytes.len() - 1]).unwrap();
    env.mailark(["cache", "clear"]);
    env.mailark(["prune", "--now"]).expect(1).naming("index deltas cannot be used");
    fs::write(path, bytes).unwrap();
    let (path, bytes) = &env.objects("snapshots")[1];
    fs::write(path, &bytes[..60]).unwrap();
    env.mailark(["prune", "--now"]).expect(1).naming("nothing is deleted");
    fs::write(path, bytes).unwrap();
    assert_eq!(packs(&env), before);
    env.mailark(["prune", "--now"]).expect(0);
    env.check();
    same_as(&env, &ids[1], &env.path("vmail1"), "one");
}

#[test]
fn a_copy_is_dropped_only_when_the_other_one_is_good() {
    let env = TestEnv::with_repository();
    let tree = TreeFixture::new(env.path("vmail"));
    fill(&tree, 0);
    let first = env.backup(&tree.root)["snapshot"].as_str().unwrap().to_owned();
    let originals = env.objects("packs");
    let deltas = env.objects("index");
    // The index is lost and everything stored again: two copies of each blob, then the first index comes back.
    for (path, _) in &deltas {
        fs::remove_file(path).unwrap();
    }
    fs::remove_dir_all(env.cache()).unwrap();
    env.mailark(["backup", "--job", "again", "--as", "/data", "vmail"]).expect(0);
    for (path, bytes) in &deltas {
        fs::write(path, bytes).unwrap();
    }
    // The second copy rots in the middle of its pack.
    let copy = env.objects("packs").into_iter().find(|pack| !originals.contains(pack)).unwrap();
    let mut bytes = copy.1.clone();
    for at in (200..bytes.len() - 200).step_by(997) {
        bytes[at] ^= 1;
    }
    fs::write(&copy.0, &bytes).unwrap();
    let report = env.mailark(["prune", "--now", "--json"]);
    assert!([0, 3].contains(&report.code), "{}", report.both());
    same_as(&env, &first, &tree.root, "first");
    let hash: ObjectHash = originals[0].0.file_name().unwrap().to_str().unwrap().parse().unwrap();
    assert!(
        env.objects("packs").iter().any(|(path, _)| path.ends_with(hash.to_string())),
        "the good copy stays"
    );
}

#[test]
fn small_packs_are_joined() {
    let env = TestEnv::with_repository();
    let tree = TreeFixture::new(env.path("vmail"));
    for number in 0..14 {
        tree.file(format!("alice/cur/{}", message_name(number, "S")), mail(number));
        env.backup(&tree.root);
    }
    let before = packs(&env);
    env.mailark(["prune", "--now"]).expect(0);
    assert!(packs(&env) < before / 4, "{before} {}", packs(&env));
    env.check();
    same_as(&env, "latest", &tree.root, "joined");
    let listed = env.mailark(["snapshots", "--json"]).expect(0).json();
    assert_eq!(listed.as_array().unwrap().len(), 14);
    let second = env.mailark(["prune", "--now", "--json"]).expect(0).json();
    assert_eq!(second["repacked"]["packs"], 0, "{second}");
}

#[test]
fn two_prunes_that_know_packs_by_other_numbers_keep_every_copy_that_one_may_count_on() {
    let env = TestEnv::with_repository();
    let tree = TreeFixture::new(env.path("vmail"));
    fill(&tree, 0);
    let first = env.backup(&tree.root)["snapshot"].as_str().unwrap().to_owned();
    let deltas = env.objects("index");
    for (path, _) in &deltas {
        fs::remove_file(path).unwrap();
    }
    fs::remove_dir_all(env.cache()).unwrap();
    env.mailark(["backup", "--job", "again", "--as", "/data", "vmail"]).expect(0);
    for (path, bytes) in &deltas {
        fs::write(path, bytes).unwrap();
    }
    // All copies are condemned and doomed, as two prunes leave it that saw nothing that needs them.
    let repository = open(&env.repository, &env.key_file).unwrap();
    let all: Vec<ObjectHash> = env
        .objects("packs")
        .iter()
        .map(|(path, _)| path.file_name().unwrap().to_str().unwrap().parse().unwrap())
        .collect();
    let condemned = records::write(&repository, &Record::Condemn { packs: all.clone() }).unwrap();
    records::write(&repository, &Record::Doom { condemned, packs: all.clone() }).unwrap();
    let report = env.mailark(["prune", "--now", "--max-unused", "unlimited", "--json"]).expect(0).json();
    assert_eq!(report["spared"], all.len() as u64, "{report}");
    same_as(&env, &first, &tree.root, "first");
    env.check();
}

#[test]
fn rubbish_in_the_store_stops_no_prune() {
    let env = TestEnv::with_repository();
    let ids = generations(&env, 3);
    forget_all_but(&env, &[&ids[2]]);
    let host = env.objects("snapshots")[0].0.parent().unwrap().file_name().unwrap().to_owned();
    let rubbish = noise(77, 300);
    let hash = blake3::hash(&rubbish).to_hex();
    for folder in ["index", "snapshots"] {
        for number in ["000000000007", "001000000000"] {
            fs::write(env.repository.join(folder).join(&host).join(format!("{number}-{hash}")), &rubbish)
                .unwrap();
        }
    }
    fs::write(env.repository.join("records").join(format!("001000000000-{hash}")), &rubbish).unwrap();
    let tree = TreeFixture::new(env.path("vmail9"));
    fill(&tree, 9);
    env.backup(&tree.root);
    same_as(&env, "latest", &tree.root, "nine");
    // A record that nobody can read may be a hold.
    env.mailark(["prune", "--now"]).expect(1).naming("records/001000000000");
    fs::remove_file(env.repository.join("records").join(format!("001000000000-{hash}"))).unwrap();
    let report = env.mailark(["prune", "--now", "--json"]).expect(0).json();
    assert!(report["deleted"]["packs"].as_u64() > Some(0), "{report}");
    same_as(&env, &ids[2], &env.path("vmail2"), "two");
}

#[test]
fn a_pack_that_was_cut_off_and_stored_again_goes() {
    let env = TestEnv::with_repository();
    let tree = TreeFixture::new(env.path("vmail"));
    fill(&tree, 0);
    env.backup(&tree.root);
    for (path, bytes) in env.objects("packs") {
        fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
    }
    let cut: Vec<_> = env.objects("packs").into_iter().map(|(path, _)| path).collect();
    // What the source still has is stored again.
    env.backup_with(&tree.root, &[]);
    let report = env.mailark(["prune", "--now", "--json"]).expect(0).json();
    assert_eq!(report["deleted"]["packs"], cut.len() as u64, "{report}");
    assert!(cut.iter().all(|path| !path.exists()));
    env.check();
    same_as(&env, "latest", &tree.root, "healed");
}
