//! What `backup` is told on its command line, and what it says about sources that misbehave.

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::process::Stdio;

use crate::support::{SmallDisk, TestEnv, copy_program, files_below, finished, is_root, run, skipped, tool};
use crate::tree::{TreeFixture, mail, set_mode};

fn small_tree(env: &TestEnv) -> TreeFixture {
    let tree = TreeFixture::new(env.path("tree"));
    tree.maildir("alice", 0..5);
    tree.file("alice/cache/data.db", b"db");
    tree.file("alice/notes.tmp", b"tmp");
    tree.file("bob/notes.tmp", b"tmp");
    tree.file("bob/keep.txt", b"keep");
    tree
}

#[test]
fn excludes() {
    let env = TestEnv::with_repository();
    let tree = small_tree(&env);
    let list = env.path("excludes");
    fs::write(&list, "# nothing of these\n\n*.tmp\n!bob/notes.tmp\n").unwrap();
    let from = format!("--exclude-from={}", list.display());
    env.backup_with(&tree.root, &[&from, "--exclude", "cache/", "--exclude", "/nowhere/*"]).expect(0);
    let restored = env.restore("latest", "restored");
    assert!(!restored.join("alice/cache").exists() && !restored.join("alice/notes.tmp").exists());
    assert!(restored.join("bob/notes.tmp").exists() && restored.join("bob/keep.txt").exists());
    env.backup_with(&tree.root, &["--exclude", "["]).expect(2).naming("[");
    env.backup_with(&tree.root, &["--exclude-from", "no-such-file"]).expect(1).naming("no-such-file");
}

#[test]
fn several_paths_and_their_logical_names() {
    let env = TestEnv::with_repository();
    let tree = small_tree(&env);
    let paths = [tree.path("alice"), tree.path("bob")];
    let given: Vec<&OsStr> =
        [OsStr::new("backup")].into_iter().chain(paths.iter().map(|path| path.as_os_str())).collect();
    env.mailark(&given).expect(0);
    let listed = env.mailark(["snapshots", "--json"]).expect(0).json();
    let parts: Vec<&str> =
        listed[0]["parts"].as_array().unwrap().iter().map(|part| part["path"].as_str().unwrap()).collect();
    assert_eq!(parts, [paths[0].to_str().unwrap(), paths[1].to_str().unwrap()]);
    let with_as: Vec<&OsStr> = given.iter().copied().chain(["--as".as_ref(), "/x".as_ref()]).collect();
    env.mailark(with_as).expect(2).naming("--as");
    env.mailark(["backup", "--as", "relative", "tree"]).expect(1);
    env.mailark(["restore", "latest", "--to", "restored"]).expect(0);
    assert!(env.path(&format!("restored{}/keep.txt", paths[1].display())).exists());
}

#[test]
fn one_file_system() {
    let env = TestEnv::with_repository();
    let tree = small_tree(&env);
    let Some(disk) = SmallDisk::mount(tree.path("mounted"), "1m") else {
        return skipped("one_file_system", "mounting a tmpfs is not allowed here");
    };
    fs::write(disk.0.join("other"), b"other disk").unwrap();
    env.backup_with(&tree.root, &["--one-file-system"]).expect(0);
    let restored = env.restore("latest", "one");
    assert!(restored.join("mounted").is_dir() && !restored.join("mounted/other").exists());
    env.backup(&tree.root);
    assert!(env.restore("latest", "both").join("mounted/other").exists());
}

#[test]
fn filters_by_tag_job_and_host() {
    let env = TestEnv::with_repository();
    let tree = small_tree(&env);
    let root = tree.root.to_str().unwrap();
    for (job, host, tag) in [
        ("mail", "mx1", "daily"),
        ("mail", "mx1", "weekly"),
        ("etc", "mx1", "daily"),
        ("mail", "mx2", "daily"),
    ] {
        env.mailark(["backup", "--job", job, "--host", host, "--tag", tag, "--tag", "all", root]).expect(0);
    }
    let count = |args: &[&str]| {
        let all = ["snapshots", "--json"].iter().chain(args);
        env.mailark(all).expect(0).json().as_array().unwrap().len()
    };
    assert_eq!(count(&[]), 4);
    assert_eq!(count(&["--job", "mail"]), 3);
    assert_eq!(count(&["--host", "mx2"]), 1);
    assert_eq!(count(&["--tag", "daily,all"]), 3);
    assert_eq!(count(&["--tag", "daily,weekly"]), 0);
    assert_eq!(count(&["--tag", "daily", "--tag", "weekly"]), 4);
    assert_eq!(count(&["--latest", "1"]), 3);
    env.mailark(["restore", "latest", "--to", "x"]).expect(1).naming("latest");
    env.mailark(["restore", "latest", "--host", "mx2", "--to", "x"]).expect(0);
}

#[test]
fn a_dry_run_stores_nothing_and_registers_nobody() {
    let env = TestEnv::with_repository();
    let tree = small_tree(&env);
    let before = env.objects("");
    let report = env.backup_with(&tree.root, &["--dry-run"]).expect(0).json();
    assert_eq!((&report["snapshot"], &report["files_read"]), (&serde_json::Value::Null, &10.into()));
    let would = report["new_bytes"].as_u64().unwrap();
    assert!(would > 1_000, "{report}");
    assert_eq!(env.objects(""), before, "a dry run changes nothing");
    let report = env.backup(&tree.root);
    assert_eq!(report["new_bytes"].as_u64(), Some(would), "what would be new was counted right");
    let before = env.objects("");
    fs::write(tree.path("alice/new-file"), b"0123456789").unwrap();
    let report = env.backup_with(&tree.root, &["--dry-run"]).expect(0).json();
    assert_eq!(report["files_read"], 1, "{report}");
    assert_eq!(env.objects(""), before);
    env.check();
    let elsewhere = env.path("elsewhere");
    env.backup_with(&tree.root, &["--dry-run", "--init", "--repo", elsewhere.to_str().unwrap()]).expect(10);
    assert!(!elsewhere.exists());
}

#[test]
fn standard_input_and_commands() {
    let env = TestEnv::with_repository();
    let mut child = env
        .command(["backup", "--job", "dump", "--stdin-filename", "users.sql", "--as", "/dumps", "--json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let text = b"insert into users values ('alice');\n".repeat(100_000);
    child.stdin.take().unwrap().write_all(&text).unwrap();
    finished(child).expect(0);
    env.mailark(["restore", "latest", "--job", "dump", "--to", "dump"]).expect(0);
    assert!(fs::read(env.path("dump/dumps/users.sql")).unwrap() == text);

    let command = |script: &str| {
        let args =
            ["backup", "--job", "cmd", "--stdin-filename", "out", "--stdin-from-command", "--", "sh", "-c"];
        env.mailark(args.into_iter().chain([script]))
    };
    command("echo hello").expect(0);
    env.mailark(["restore", "latest", "--job", "cmd", "--to", "cmd"]).expect(0);
    assert_eq!(fs::read(env.path("cmd/out")).unwrap(), b"hello\n");
    let snapshots = || env.mailark(["snapshots", "--json"]).expect(0).json().as_array().unwrap().len();
    assert_eq!(snapshots(), 2);
    command("echo half a dump; exit 7").expect(1).naming("7");
    command("echo half; kill -9 $$").expect(1);
    let missing = ["backup", "--stdin-from-command", "--", "/no/such/program"];
    env.mailark(missing).expect(1).naming("/no/such/program");
    assert_eq!(snapshots(), 2, "a failed command makes no snapshot");
    env.mailark(["backup", "--stdin-filename", "a/b"]).expect(2);
    env.mailark(["backup", "--stdin-from-command"]).expect(2);
    env.check();
}

#[test]
fn unreadable_files_are_named_and_the_rest_is_saved() {
    if !is_root() || !tool("setpriv", ["--reuid=65534", "--regid=65534", "--clear-groups", "true"]) {
        return skipped("unreadable_files_are_named_and_the_rest_is_saved", "needs root and setpriv");
    }
    let env = TestEnv::new();
    let tree = small_tree(&env);
    set_mode(&tree.file("alice/secret", b"s"), 0o600);
    set_mode(&tree.folder("closed"), 0o700);
    let program = env.path("mailark");
    copy_program(&program);
    let mut command = std::process::Command::new("setpriv");
    env.surround(&mut command)
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&program)
        .args(["backup", "--init", "--json", "--job", "data", "--as", "/data", "tree"]);
    for path in ["home", "key"] {
        std::os::unix::fs::chown(env.path(path), Some(65_534), Some(65_534)).unwrap();
    }
    let home = env.folder("nobody");
    std::os::unix::fs::chown(&home, Some(65_534), Some(65_534)).unwrap();
    command.env("MAILARK_REPO", home.join("repository"));
    let output = run(&mut command).expect(3).naming("alice/secret").naming("closed");
    assert!(
        output.stdout.contains("\"problem_count\": 2") || output.stdout.contains("\"problem_count\":2"),
        "{}",
        output.both()
    );
    let args = ["restore", "latest", "--to", "restored", "--repo", "nobody/repository"];
    env.mailark(args).expect(0);
    assert!(env.path("restored/data/bob/keep.txt").exists());
    assert!(!env.path("restored/data/alice/secret").exists());
}

#[test]
fn a_loss_is_suspect() {
    let env = TestEnv::with_repository();
    let tree = TreeFixture::new(env.path("vmail"));
    tree.maildir("alice", 0..100);
    env.backup(&tree.root);
    for path in files_below(&tree.path("alice/cur")).iter().take(30) {
        fs::remove_file(path).unwrap();
    }
    let report = env.backup_with(&tree.root, &[]).expect(4).json();
    assert!(report["suspect"].as_str().unwrap().contains("messages"), "{report}");
    fs::remove_dir_all(tree.path("alice")).unwrap();
    for _ in 0..2 {
        let report = env.backup_with(&tree.root, &[]).expect(4).json();
        assert!(report["suspect"].as_str().unwrap().contains("no message"), "{report}");
    }
    // `latest` is the last good one.
    let restored = env.restore("latest", "restored");
    assert_eq!(files_below(&restored.join("alice/cur")).len(), 100);
    fs::remove_dir_all(&tree.root).unwrap();
    env.backup_with(&tree.root, &[]).expect(1);
    let other = TreeFixture::new(env.path("other"));
    other.file("file", mail(1));
    env.mailark(["backup", "--job", "two", "other", "vmail"]).expect(4).naming("vmail");
    env.check();
}

#[test]
fn the_backup_leaves_its_own_folders_out() {
    let env = TestEnv::with_repository();
    let tree = TreeFixture::new(env.path("home/mail"));
    tree.maildir("alice", 0..3);
    env.mailark(["backup", "--job", "all", "--as", "/all", "."]).expect(0);
    env.mailark(["backup", "--job", "all", "--as", "/all", "."]).expect(0);
    env.mailark(["restore", "latest", "--to", "/dev/null/x"]).expect(1);
    env.mailark(["restore", "latest", "--to", "restored"]).expect(0);
    let restored = env.path("restored/all");
    assert!(restored.join("home/mail/alice/cur").is_dir());
    assert!(files_below(&restored.join("repository")).is_empty());
    assert!(files_below(&restored.join("home/cache")).is_empty());
    assert!(files_below(&restored.join("home/state")).is_empty());
}
