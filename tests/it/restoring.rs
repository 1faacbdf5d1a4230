//! Restore: what it takes, what it leaves, what it refuses, and that it can be taken up again.

use std::fs;
use std::os::unix::fs::symlink;

use rustix::process::Signal;

use crate::support::{Output, TestEnv, files_below, finished, is_root, noise, signal, wait_until};
use crate::tree::{
    Ignore, LONG_AGO, TreeFixture, assert_described, assert_same, describe, mail, message_name, set_mtime,
};

fn prepared() -> (TestEnv, TreeFixture) {
    let env = TestEnv::with_repository();
    let tree = TreeFixture::new(env.path("vmail"));
    tree.maildir("alice", 0..20);
    tree.maildir("bob", 20..30);
    tree.file("notes/a.txt", b"a");
    tree.file("notes/b.tmp", b"b");
    env.backup(&tree.root);
    (env, tree)
}

fn restore(env: &TestEnv, from: &str, to: &str, more: &[&str]) -> Output {
    env.mailark(["restore", from, "--json", "--to", to].iter().chain(more))
}

fn ignore() -> Ignore {
    Ignore { owners: !is_root(), ..Ignore::default() }
}

#[test]
fn one_path_and_patterns() {
    let (env, tree) = prepared();
    restore(&env, "latest:/data/alice", "path", &[]).expect(0);
    assert_same(&tree.path("alice"), &env.path("path/data/alice"), ignore());
    assert!(!env.path("path/data/bob").exists());
    restore(&env, "latest:/data/notes/a.txt", "file", &[]).expect(0);
    assert_eq!(files_below(&env.path("file")).len(), 1);
    restore(&env, "latest:/data/none", "none", &[]).expect(1).naming("/data/none");
    assert!(!env.path("none").exists(), "a refused restore makes nothing");
    restore(&env, "latest", "include", &["--include", "*.txt", "--include", "cur/"]).expect(0);
    assert_eq!(files_below(&env.path("include")).len(), 31);
    restore(&env, "latest", "exclude", &["--exclude", "bob/", "--exclude", "*.tmp"]).expect(0);
    assert!(!env.path("exclude/data/bob").exists() && !env.path("exclude/data/notes/b.tmp").exists());
    assert!(env.path("exclude/data/notes/a.txt").exists());
}

#[test]
fn overwrite_rules() {
    let (env, tree) = prepared();
    let target = env.restore("latest", "target");
    let (changed, touched, kept) =
        (target.join("notes/a.txt"), target.join("notes/b.tmp"), target.join("mine"));
    let damage = || {
        fs::write(&changed, b"changed by hand").unwrap();
        // Same size, same time: only `always` looks at the bytes.
        fs::write(&touched, b"X").unwrap();
        set_mtime(&touched, LONG_AGO, 0);
        fs::write(&kept, b"mine").unwrap();
    };
    let rule =
        |rule: &str| restore(&env, "latest", "target", &["--overwrite", rule, "--force"]).expect(0).json();
    damage();
    rule("never");
    assert_eq!(fs::read(&changed).unwrap(), b"changed by hand");
    rule("if-changed");
    assert_eq!((fs::read(&changed).unwrap(), fs::read(&touched).unwrap()), (b"a".to_vec(), b"X".to_vec()));
    damage();
    rule("always");
    assert_eq!((fs::read(&changed).unwrap(), fs::read(&touched).unwrap()), (b"a".to_vec(), b"b".to_vec()));
    assert_eq!(fs::read(&kept).unwrap(), b"mine");
    fs::write(target.join("alice/cur/stray"), b"stray").unwrap();
    let report =
        restore(&env, "latest:/data/notes", "target", &["--overwrite", "if-changed", "--force", "--delete"]);
    assert_eq!(report.expect(0).json()["removed"], 0);
    assert!(kept.exists(), "only what lies below the restored path is removed");
    let report = restore(&env, "latest", "target", &["--overwrite", "if-changed", "--force", "--delete"]);
    assert_eq!(report.expect(0).json()["removed"], 2);
    assert_same(&tree.root, &target, ignore());
}

#[test]
fn delete_keeps_what_a_pattern_left_out() {
    let (env, _) = prepared();
    let target = env.restore("latest", "target");
    let options = ["--overwrite", "never", "--force", "--delete", "--exclude", "*.tmp"];
    restore(&env, "latest", "target", &options).expect(0);
    assert!(target.join("notes/b.tmp").exists(), "it is in the snapshot, so it is no extra");
    restore(&env, "latest", "x", &["--delete"]).expect(2);
}

#[test]
fn a_dry_run_writes_nothing() {
    let (env, _) = prepared();
    let report = restore(&env, "latest", "nowhere", &["--dry-run"]).expect(0).json();
    assert_eq!((&report["messages"], &report["dry_run"]), (&30.into(), &true.into()));
    assert!(!env.path("nowhere").exists());
    let target = env.restore("latest", "target");
    fs::remove_file(target.join("notes/a.txt")).unwrap();
    let before = describe(&env.path("target"));
    restore(&env, "latest", "target", &["--dry-run", "--overwrite", "always", "--force", "--delete"])
        .expect(0);
    assert_described(&before, &describe(&env.path("target")), Ignore::default());
}

#[test]
fn refusals() {
    let (env, tree) = prepared();
    let full = TreeFixture::new(env.path("full"));
    full.file("something", b"x");
    restore(&env, "latest", "full", &[]).expect(1).naming("not empty");
    let before = describe(&tree.root);
    restore(&env, "latest", "vmail", &["--overwrite", "always"]).expect(1).naming("live Maildir");
    assert_described(&before, &describe(&tree.root), Ignore::default());
    restore(&env, "latest", "vmail", &[]).expect(1).naming("live Maildir");
    restore(&env, "latest", "full", &["--overwrite", "never"]).expect(0);
    restore(&env, "ffff", "x", &[]).expect(1).naming("ffff");
    restore(&env, "nonsense", "x", &[]).expect(2);
    restore(&env, "latest", "key", &[]).expect(1);
}

#[test]
fn planted_links_are_not_followed() {
    let (env, _) = prepared();
    let outside = env.folder("outside");
    fs::write(outside.join("a.txt"), b"untouched").unwrap();
    let before = describe(&outside);
    let target = env.folder("target");
    fs::create_dir_all(target.join("data/alice")).unwrap();
    fs::create_dir_all(target.join("data/bob")).unwrap();
    symlink(&outside, target.join("data/notes")).unwrap();
    symlink(&outside, target.join("data/alice/cur")).unwrap();
    symlink(outside.join("a.txt"), target.join("data/bob/dovecot-uidlist")).unwrap();
    for rule in ["always", "if-changed", "never"] {
        let output = restore(&env, "latest", "target", &["--overwrite", rule, "--delete", "--force"]);
        assert!(matches!(output.code, 0 | 3), "{}", output.both());
        assert_described(&before, &describe(&outside), Ignore::default());
    }
    symlink(&outside, env.path("entrance")).unwrap();
    // The target itself may be a link: that is the user's own choice.
    restore(&env, "latest:/data/notes", "entrance", &["--overwrite", "never"]).expect(0);
    assert!(outside.join("data/notes/a.txt").exists());
}

#[test]
fn a_killed_restore_is_taken_up_again() {
    let env = TestEnv::with_repository();
    let tree = TreeFixture::new(env.path("vmail"));
    for number in 0..3_000 {
        tree.file(format!("alice/cur/{}", message_name(number, "S")), mail(number));
    }
    (0..20).for_each(|n| drop(tree.file(format!("files/{n}"), noise(n, 1 << 20))));
    env.backup(&tree.root);
    let target = env.path("target");
    for (signal_sent, code, least) in [(Signal::KILL, 137, 100), (Signal::INT, 130, 1_000)] {
        let mut tries = 0;
        loop {
            let child = env.start(["restore", "latest", "--to", target.to_str().unwrap()]);
            wait_until("files appear", || files_below(&target).len() > least);
            signal(&child, signal_sent);
            let output = finished(child);
            if output.code != 0 {
                assert_eq!(output.code, code, "{}", output.both());
                break;
            }
            // It had ended before the signal came: once more from the beginning.
            fs::remove_dir_all(&target).unwrap();
            tries += 1;
            assert!(tries < 50, "no restore was caught at work");
        }
        assert!(target.join(".mailark-restore").exists());
    }
    // Another restore than the interrupted one is refused as ever.
    restore(&env, "latest:/data/files", "target", &[]).expect(1);
    let report = restore(&env, "latest", "target", &[]).expect(0);
    assert_eq!(report.json()["resumed"], true);
    assert_same(&tree.root, &target.join("data"), ignore());
    assert!(!target.join(".mailark-restore").exists());
}

#[test]
fn a_full_target_is_told() {
    let Some((env, disk)) = with_disk("4m") else { return };
    let tree = TreeFixture::new(env.path("vmail"));
    (0..8).for_each(|n| drop(tree.file(format!("files/{n}"), noise(n, 1 << 20))));
    env.backup(&tree.root);
    let output = restore(&env, "latest", disk.0.to_str().unwrap(), &["--overwrite", "never"]);
    assert!(matches!(output.code, 1 | 3), "{}", output.both());
    assert!(output.stderr.contains("space"), "{}", output.both());
}

fn with_disk(size: &str) -> Option<(TestEnv, crate::support::SmallDisk)> {
    let env = TestEnv::with_repository();
    let disk = crate::support::SmallDisk::mount(env.path("disk"), size);
    if disk.is_none() {
        crate::support::skipped("restoring", "mounting a tmpfs is not allowed here");
    }
    disk.map(|disk| (env, disk))
}
