//! Purge: what has to go is gone from every snapshot and stays away, all else is as it was.

use std::fs;
use std::path::Path;

use mailark::format::record::{Record, SnapshotName};
use mailark::repo::{records, snapshots};
use serde_json::Value;

use crate::library::{lone_host, open};
use crate::support::{Output, Progress, TestEnv, copy_folder, dice, is_root, killed_after};
use crate::tree::{Ignore, TreeFixture, assert_same, mail, mail_with_attachment, message_name};

fn ignore() -> Ignore {
    Ignore { owners: !is_root(), folder_times: true, ..Ignore::default() }
}

fn ids(env: &TestEnv) -> Vec<String> {
    let listed = env.mailark(["snapshots", "--json"]).expect(0).json();
    listed.as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect()
}

fn starts(env: &TestEnv) -> Vec<String> {
    let listed = env.mailark(["snapshots", "--json"]).expect(0).json();
    listed.as_array().unwrap().iter().map(|one| one["time"].as_str().unwrap().to_owned()).collect()
}

/// Every page and every byte is whole; gaps in the numbers are another matter.
#[track_caller]
fn check_content(env: &TestEnv) {
    let report = env.mailark(["check", "--read-data", "--json"]).json();
    let findings = report["findings"].as_array().unwrap();
    let is_gap = |text: &str| text.contains("predecessor") || text.contains("removed");
    let damage = findings.iter().filter(|finding| !is_gap(finding["problem"].as_str().unwrap()));
    assert_eq!(damage.count(), 0, "{report}");
}

/// Everything of a snapshot, as it is restored.
fn restored(env: &TestEnv, id: &str, to: &str) -> std::path::PathBuf {
    env.mailark(["restore", id, "--to", to, "--system"]).expect(0);
    env.path(to).join("data")
}

/// A tree of two users and some files, in three snapshots that differ; gives what each holds.
struct Grown {
    env: TestEnv,
    tree: TreeFixture,
}

impl Grown {
    fn new() -> Grown {
        let env = TestEnv::with_repository();
        let tree = TreeFixture::new(env.path("vmail"));
        tree.maildir("example.org/alice", 0..12);
        tree.maildir("example.org/bob", 10..30);
        tree.file("example.org/bob/.Archive/cur/empty", b"");
        tree.file("example.org/alice/.Drafts/cur/empty", b"");
        tree.file("config/main.cf", b"myhostname = mx1\n");
        let grown = Grown { env, tree };
        for round in 1..=3 {
            grown.env.backup(&grown.tree.root);
            copy_folder(&grown.tree.root, &grown.env.path(&format!("kept-{round}")));
            for user in ["alice", "bob"] {
                let name = message_name(round * 100, "");
                grown.tree.file(format!("example.org/{user}/new/{name}"), mail(round * 100));
            }
        }
        grown
    }

    fn purge(&self, args: &[&str]) -> Output {
        self.env.mailark(["purge", "--yes", "--json"].iter().chain(args))
    }

    /// Compares snapshot number `round`, from 1, with what was there then, without some of it.
    fn assert_holds(&self, round: usize, gone: &[&str], context: &str) {
        let id = ids(&self.env)[round - 1].clone();
        let found = restored(&self.env, &id, &format!("{context}-{round}"));
        let expected = self.env.path(&format!("expected-{context}-{round}"));
        copy_with_times(&self.env.path(&format!("kept-{round}")), &expected);
        for path in gone {
            let path = expected.join(path);
            if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
        }
        assert_same(&expected, &found, Ignore { owners: true, ..ignore() });
    }
}

/// `copy_folder` gives files new times; those of the fixture are all alike.
fn copy_with_times(from: &Path, to: &Path) {
    copy_folder(from, to);
    for path in crate::support::files_below(to) {
        crate::tree::set_mtime(&path, crate::tree::LONG_AGO, 0);
    }
}

#[test]
fn a_user_is_gone_from_every_snapshot_and_nothing_else_changes() {
    let grown = Grown::new();
    let env = &grown.env;
    let (before, times) = (ids(env), starts(env));
    let objects = env.objects("").len();
    let plan = env.mailark(["purge", "--user", "alice@example.org", "--dry-run", "--json"]).expect(0).json();
    assert_eq!(plan["snapshots"].as_array().unwrap().len(), 3, "{plan}");
    assert_eq!((ids(env), env.objects("").len()), (before.clone(), objects), "a dry run changes nothing");
    env.mailark(["purge", "--user", "alice@example.org"]).expect(1).naming("--yes");
    let report = grown.purge(&["--user", "alice@example.org"]).expect(0).json();
    assert_eq!(report["folders"], plan["folders"], "the plan is what is done");
    let cur = report["folders"]
        .as_array()
        .unwrap()
        .iter()
        .find(|folder| folder["folder"] == "/data/example.org/alice/cur");
    assert_eq!(cur.unwrap()["messages"], 12, "{report}");
    let after = ids(env);
    assert!(after.iter().all(|id| !before.contains(id)), "{after:?}");
    assert_eq!(starts(env), times, "the order is what it was");
    let latest = env.mailark(["ls", "latest", "-R", "--json"]).expect(0).stdout;
    assert!(!latest.contains("alice") && latest.contains("bob"), "{latest}");
    for round in 1..=3 {
        grown.assert_holds(round, &["example.org/alice"], "purged");
    }
    assert!(fs::read_dir(env.repository.join("records")).unwrap().count() >= 4);
    // Again: there is nothing left to do, and nothing is written.
    let objects = env.objects("").len();
    let report = grown.purge(&["--user", "alice@example.org"]).expect(0).json();
    assert_eq!(report["snapshots"].as_array().map(Vec::len), Some(0), "{report}");
    assert_eq!(env.objects("").len(), objects);
    let listed = env.mailark(["purge", "--list", "--json"]).expect(0).json();
    assert_eq!(listed.as_array().map(Vec::len), Some(1), "{listed}");
    assert!(listed[0]["what"].as_str().unwrap().contains("alice@example.org"), "{listed}");
}

#[test]
fn prune_deletes_what_was_purged() {
    let env = TestEnv::with_repository();
    let tree = TreeFixture::new(env.path("vmail"));
    tree.maildir("alice", 0..5);
    tree.file("alice/secret", crate::support::noise(1, 3_000_000));
    tree.maildir("bob", 10..20);
    env.backup(&tree.root);
    tree.file(format!("bob/new/{}", message_name(70, "")), mail(70));
    env.backup(&tree.root);
    env.mailark(["purge", "--user", "alice", "--yes"]).expect(0);
    let size = || env.objects("packs").iter().map(|(_, bytes)| bytes.len()).sum::<usize>();
    assert!(size() > 3_000_000);
    env.mailark(["prune", "--now"]).expect(0);
    assert!(size() < 1_000_000, "{}", size());
    assert_eq!(env.objects("snapshots").len(), 2);
    env.check();
    fs::remove_dir_all(tree.path("alice")).unwrap();
    assert_same(&tree.root, &restored(&env, "latest", "pruned"), ignore());
    env.backup(&tree.root);
    env.check();
}

#[test]
fn what_the_source_still_has_stays_away_and_new_mail_comes() {
    let grown = Grown::new();
    let env = &grown.env;
    grown.purge(&["--user", "alice@example.org"]).expect(0);
    let new = format!("example.org/alice/cur/{}", message_name(77, "S"));
    grown.tree.file(&new, mail(77));
    // A message that got another name, and another's copy of the same message.
    let old = grown.tree.path(format!("example.org/alice/cur/{}", message_name(3, "S")));
    fs::rename(old, grown.tree.path(format!("example.org/alice/cur/{}", message_name(3, "RS")))).unwrap();
    let copy = format!("example.org/bob/cur/{}", message_name(3, ""));
    grown.tree.file(&copy, mail(3));
    for _ in 0..2 {
        let report = env.backup(&grown.tree.root);
        // Its twelve messages, those of two rounds, and the list of them; the last round came after the snapshots.
        assert_eq!(report["purged"], 12 + 2 + 1, "{report}");
        let found = restored(env, "latest", &format!("again-{}", ids(env).len()));
        assert!(found.join(&new).exists() && found.join(&copy).exists());
        let left = crate::support::files_below(&found.join("example.org/alice"));
        let names: Vec<String> = left.iter().map(|path| path.display().to_string()).collect();
        assert_eq!(left.len(), 3, "new mail, the one of the last round, and an empty file: {names:?}");
    }
    check_content(env);
}

#[test]
fn a_writer_host_leaves_it_out_too() {
    let env = TestEnv::with_repository();
    let tree = TreeFixture::new(env.path("vmail"));
    tree.maildir("alice", 0..12);
    tree.maildir("bob", 20..30);
    let host = lone_host(&env, "mx1");
    let key = host.key_file.to_str().unwrap().to_owned();
    let root = tree.root.to_str().unwrap().to_owned();
    let backup = || {
        crate::support::settle();
        env.mailark(["backup", "--json", "--job", "data", "--as", "/data", "--key-file", &key, &root])
            .expect(0)
            .json()
    };
    backup();
    env.mailark(["purge", "--user", "alice", "--yes", "--key-file", &key]).expect(12);
    env.mailark(["purge", "--user", "alice", "--yes"]).expect(0);
    tree.file(format!("alice/cur/{}", message_name(50, "S")), mail(50));
    for _ in 0..2 {
        let report = backup();
        assert_eq!((&report["purged"], &report["messages"]), (&13.into(), &11.into()), "{report}");
        assert_eq!(report["suspect"], Value::Null, "{report}");
    }
    let listed = env.mailark(["snapshots", "--json", "--key-file", &key]).expect(0).json();
    assert_eq!(listed.as_array().map(Vec::len), Some(3), "{listed}");
}

fn mbox(numbers: impl IntoIterator<Item = u64>) -> Vec<u8> {
    let mut text = Vec::new();
    for number in numbers {
        text.extend_from_slice(format!("From bob{number}@example.org Mon Nov 23 10:00:00 2026\n").as_bytes());
        text.extend(if number % 4 == 0 { mail_with_attachment(number, 9_000) } else { mail(number) });
        text.push(b'\n');
    }
    text
}

#[test]
fn a_message_goes_out_of_maildirs_and_mboxes() {
    let env = TestEnv::with_repository();
    let tree = TreeFixture::new(env.path("vmail"));
    tree.maildir("alice", 1..5);
    tree.maildir("bob", 3..9);
    tree.file("spool/first", mbox([3, 5, 6]));
    tree.file("spool/middle", mbox([5, 3, 6]));
    tree.file("spool/last", mbox([5, 6, 3]));
    tree.file("spool/only", mbox([3]));
    tree.file("spool/many", mbox((0..400).chain([3])));
    tree.file("spool/other", mbox([5, 6]));
    tree.file("letter", mail(3));
    tree.file("quoted", [b"Subject: about\n\n".as_slice(), &mail(3)].concat());
    env.backup(&tree.root);
    let report =
        env.mailark(["purge", "--message-id", "<3@example.org>", "--yes", "--json"]).expect(0).json();
    assert_eq!(report["problems"].as_array().map(Vec::len), Some(0), "{report}");
    let expected = |to: &str| {
        let other = TreeFixture::new(env.path(to));
        copy_with_times(&tree.root, &other.root);
        let name = message_name(3, "S");
        for gone in [format!("alice/cur/{name}"), format!("bob/cur/{name}"), "letter".to_owned()] {
            fs::remove_file(other.path(gone)).unwrap();
        }
        other.file("spool/first", mbox([5, 6]));
        other.file("spool/middle", mbox([5, 6]));
        other.file("spool/last", mbox([5, 6]));
        other.file("spool/only", b"");
        other.file("spool/many", mbox((0..400).filter(|number| *number != 3)));
        other
    };
    let found = restored(&env, "latest", "once");
    assert_same(&expected("expected-once").root, &found, ignore());
    // The sources still have it, and some of the mailboxes have grown.
    tree.file("spool/middle", mbox([5, 3, 6, 8]));
    for round in 0..2 {
        let report = env.backup(&tree.root);
        assert_eq!(report["purged"], 3 + 6, "{report}");
        let other = expected(&format!("expected-{round}"));
        other.file("spool/middle", mbox([5, 6, 8]));
        assert_same(&other.root, &restored(&env, "latest", &format!("again-{round}")), ignore());
    }
    check_content(&env);
}

#[test]
fn what_snapshots_share_is_written_once() {
    let env = TestEnv::with_repository();
    let tree = TreeFixture::new(env.path("vmail"));
    for number in 0..2_000 {
        tree.file(format!("alice/cur/{}", message_name(number, "S")), mail(number));
    }
    for round in 0..6 {
        tree.file(format!("bob/cur/{}", message_name(round, "S")), mail(9_000 + round));
        env.backup(&tree.root);
    }
    let size = || env.objects("packs").iter().map(|(_, bytes)| bytes.len()).sum::<usize>();
    let before = size();
    env.mailark(["purge", "--message-id", "1000@example.org", "--yes"]).expect(0);
    // Of forty pages of alice's one or two, and the few above them, though six snapshots are written anew.
    assert!(size() - before < before / 8, "{} bytes more than {before}", size() - before);
    assert_eq!(env.mailark(["ls", "latest:/data/alice/cur"]).expect(0).stdout.lines().count(), 1_999);
}

#[test]
fn a_path_goes_with_all_below_it() {
    let grown = Grown::new();
    let file = format!("example.org/bob/cur/{}", message_name(11, "S"));
    grown.purge(&["--path", "/data/config", "--path", &format!("/data/{file}")]).expect(0);
    for round in 1..=3 {
        grown.assert_holds(round, &["config", &file], "path");
    }
    assert_eq!(grown.env.backup(&grown.tree.root)["purged"], 2);
    grown.purge(&["--path", "/data"]).expect(0);
    assert_eq!(ids(&grown.env).len(), 4, "a snapshot of nothing is still one");
    let listed = grown.env.mailark(["snapshots", "--json"]).expect(0).json();
    assert!(listed.as_array().unwrap().iter().all(|one| one["files"] == 0), "{listed}");
}

#[test]
fn only_some_snapshots() {
    let grown = Grown::new();
    let before = ids(&grown.env);
    let report = grown.purge(&["--user", "bob@example.org", "--snapshot", &before[1]]).expect(0).json();
    assert_eq!(report["looked_at"], 1, "{report}");
    let after = ids(&grown.env);
    assert_eq!((&after[0], &after[2]), (&before[0], &before[2]));
    grown.assert_holds(1, &[], "some");
    grown.assert_holds(2, &["example.org/bob"], "some");
    grown.assert_holds(3, &[], "some");
    // Not the newest: the next backup goes on from the newest.
    // Bob's mail was not to vanish, only to leave that snapshot.
    let report = grown.env.backup(&grown.tree.root);
    assert_eq!((&report["parent"], &report["purged"]), (&before[2].as_str().into(), &0.into()), "{report}");
}

#[test]
fn a_hold_refuses() {
    let grown = Grown::new();
    let env = &grown.env;
    let before = (ids(env), env.objects("snapshots"));
    let hold = |hold, snapshots: Vec<SnapshotName>, users: &[&str], released| {
        let full = open(&env.repository, &env.key_file).unwrap();
        let users = users.iter().map(|user| (*user).to_owned()).collect();
        let reason = "the Smith case".to_owned();
        records::write(&full, &Record::Hold { hold, snapshots, users, reason, released }).unwrap();
    };
    hold(1, Vec::new(), &["alice@example.org"], false);
    for args in
        [["--user", "alice@example.org"], ["--path", "/data/example.org"], ["--message-id", "3@example.org"]]
    {
        let refused = grown.purge(&args).expect(1).naming("hold 1").naming("the Smith case");
        assert!(refused.stdout.is_empty());
        assert_eq!((ids(env), env.objects("snapshots")), before);
    }
    hold(1, Vec::new(), &[], true);
    let full = open(&env.repository, &env.key_file).unwrap();
    let held = snapshots::list(&full).unwrap().snapshots[1].name();
    hold(2, vec![held], &[], false);
    grown.purge(&["--user", "alice@example.org"]).expect(1).naming("hold 2");
    assert_eq!((ids(env), env.objects("snapshots")), before);
    // What the hold does not name can go.
    let (first, last) = (before.0[0].clone(), before.0[2].clone());
    grown.purge(&["--user", "alice@example.org", "--snapshot", &first, "--snapshot", &last]).expect(0);
    hold(2, Vec::new(), &[], true);
    grown.purge(&["--user", "alice@example.org"]).expect(0);
    assert!(ids(env).iter().all(|id| !before.0.contains(id)));
}

#[test]
fn killed_purges_leave_each_snapshot_old_or_new() {
    let seed = match std::env::var("MAILARK_TEST_SEED").ok().and_then(|text| text.parse().ok()) {
        Some(seed) => seed,
        None => std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64,
    };
    println!("MAILARK_TEST_SEED={seed}");
    let grown = Grown::new();
    let whole = grown.env.path("whole");
    copy_folder(&grown.env.repository, &whole);
    let args = ["purge", "--user", "alice@example.org", "--yes"];
    let progress = Progress::of(&grown.env.repository);
    grown.env.mailark(args).expect(0);
    let all = progress.steps();
    let (mut killed, mut round) = (0, 0);
    while killed < 6 {
        round += 1;
        assert!(round < 100, "only {killed} of {round} were killed before they had ended");
        fs::remove_dir_all(&grown.env.repository).unwrap();
        copy_folder(&whole, &grown.env.repository);
        drop(fs::remove_dir_all(grown.env.path("home/state")));
        let progress = Progress::of(&grown.env.repository);
        if !killed_after(1 + dice(seed + round, all), &progress, grown.env.start(args)) {
            continue;
        }
        killed += 1;
        let after = ids(&grown.env);
        assert_eq!(after.len(), 3, "{after:?}");
        for number in 1..=3 {
            let found = restored(&grown.env, &after[number - 1], &format!("killed-{round}-{number}"));
            let there = found.join("example.org/alice").exists();
            assert!(found.join("example.org/bob").exists());
            let gone: &[&str] = if there { &[] } else { &["example.org/alice"] };
            grown.assert_holds(number, gone, &format!("round{round}"));
        }
        grown.env.mailark(args).expect(0);
        for number in 1..=3 {
            grown.assert_holds(number, &["example.org/alice"], &format!("again{round}"));
        }
        check_content(&grown.env);
    }
}
