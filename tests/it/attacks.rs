//! What attackers and tired administrators found, each as it was found.

use std::fs;

use crate::support::{TestEnv, noise};
use crate::tree::{TreeFixture, mail, message_name};

fn backup(env: &TestEnv, more: &[&str], code: i32) {
    let mut args = vec!["backup", "--job", "mail", "--as", "/data", "vmail"];
    args.extend(more);
    env.mailark(args).expect(code);
}

#[test]
fn mail_that_trickles_in_behind_a_lost_mount_makes_nothing_good_again() {
    let env = TestEnv::with_repository();
    let tree = TreeFixture::new(env.path("vmail"));
    tree.maildir("alice", 0..60);
    backup(&env, &[], 0);
    let good = env.mailark(["snapshots", "--json"]).expect(0).json()[0]["id"].as_str().unwrap().to_owned();
    fs::remove_dir_all(&tree.root).unwrap();
    let tree = TreeFixture::new(env.path("vmail"));
    tree.file("alice/cur/none", "");
    backup(&env, &[], 4);
    for number in 0..4 {
        tree.file(format!("alice/cur/{}", message_name(1_000 + number, "")), mail(number));
        backup(&env, &[], 4);
    }
    env.mailark(["forget", "--keep-last", "2", "--hold-down", "0d"]).expect(0);
    let left = env.mailark(["snapshots", "--json"]).expect(0).json();
    assert!(left.as_array().unwrap().iter().any(|one| one["id"] == good.as_str()), "{left}");
    // Somebody says that it is right so, once; from then on it is.
    backup(&env, &["--accept-loss"], 0);
    tree.file(format!("alice/cur/{}", message_name(2_000, "")), mail(2_000));
    backup(&env, &[], 0);
}

#[test]
fn a_file_among_the_records_stops_no_reader_and_can_be_taken_away() {
    let env = TestEnv::with_repository();
    let tree = TreeFixture::new(env.path("vmail"));
    tree.maildir("alice", 0..10);
    backup(&env, &[], 0);
    let records = env.repository.join("records");
    let names = ["000000000077", "000000000078", "000000000079"];
    let rubbish = noise(5, 100);
    let own = blake3::hash(&rubbish).to_hex();
    fs::write(records.join(format!("{}-{own}", names[0])), &rubbish).unwrap();
    fs::write(records.join(format!("{}-{}", names[1], "0".repeat(64))), b"x").unwrap();
    let sparse = fs::File::create(records.join(format!("{}-{}", names[2], "1".repeat(64)))).unwrap();
    sparse.set_len(1 << 36).unwrap();
    backup(&env, &[], 0);
    env.mailark(["restore", "latest", "--to", "back"]).expect(0);
    env.mailark(["forget", "--keep-last", "1"]).expect(1).naming("records/");
    env.mailark(["repair", "records"]).expect(3);
    assert!(!records.join(format!("{}-{own}", names[0])).exists(), "it was never a record");
    env.mailark(["repair", "records", "--drop-unreadable"]).expect(0);
    env.mailark(["forget", "--keep-last", "1", "--hold-down", "0d"]).expect(0);
    env.mailark(["prune", "--now"]).expect(0);
    // Their numbers were never believed, so no gap stays behind.
    env.check();
}

#[test]
fn a_held_user_keeps_nobody_else_from_being_erased() {
    let env = TestEnv::with_repository();
    let tree = TreeFixture::new(env.path("vmail"));
    tree.maildir("alice", 0..10);
    tree.maildir("bob", 20..30);
    backup(&env, &[], 0);
    env.mailark(["hold", "add", "--user", "alice", "--reason", "a lawsuit"]).expect(0);
    env.mailark(["purge", "--user", "alice", "--yes"]).expect(1).naming("hold");
    env.mailark(["purge", "--user", "bob", "--yes"]).expect(0);
    env.mailark(["restore", "latest", "--to", "back"]).expect(0);
    assert!(env.path("back/data/alice").exists() && !env.path("back/data/bob").exists());
    // The hold goes on to hold what stands in the snapshot's place.
    env.mailark(["purge", "--user", "alice", "--yes"]).expect(1).naming("hold");
    let nothing = env.mailark(["purge", "--user", "nobody-of-that-name", "--yes"]).expect(0);
    assert!(nothing.stderr.contains("nothing of it"), "{}", nothing.both());
}

#[test]
fn rotten_parity_is_noticed_and_made_anew() {
    let env = TestEnv::new();
    env.mailark(["init", "--no-recovery-code", "--parity"]).expect(0);
    let tree = TreeFixture::new(env.path("vmail"));
    tree.maildir("alice", 0..40);
    backup(&env, &[], 0);
    let (path, bytes) = env.objects("parity").remove(0);
    let mut rotten = bytes.clone();
    let middle = rotten.len() / 2;
    rotten[middle] ^= 1;
    fs::write(&path, &rotten).unwrap();
    let report = env.mailark(["check", "--read-data", "--json"]).expect(1).json();
    assert_eq!(report["findings"][0]["subject"], "parity", "{report}");
    assert!(report["advice"].as_str().unwrap().contains("No mail is lost"), "{report}");
    env.mailark(["repair", "packs"]).expect(0);
    env.check();
}

#[test]
fn snapshots_are_not_given_up_while_packs_are_unknown() {
    let env = TestEnv::with_repository();
    let tree = TreeFixture::new(env.path("vmail"));
    tree.maildir("alice", 0..40);
    backup(&env, &[], 0);
    for (path, _) in env.objects("index") {
        fs::remove_file(path).unwrap();
    }
    for (path, _) in env.objects("packs") {
        let old = std::time::SystemTime::now() - std::time::Duration::from_secs(86_400);
        fs::File::options().append(true).open(path).unwrap().set_modified(old).unwrap();
    }
    env.mailark(["repair", "snapshots"]).expect(1).naming("repair index");
    env.mailark(["repair", "index"]).expect(0);
    env.mailark(["repair", "snapshots"]).expect(0);
    env.check();
}
