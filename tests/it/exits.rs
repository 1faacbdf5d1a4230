//! Exit codes, locks, signals, and what programs read.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;

use rustix::process::Signal;

use crate::support::{TestEnv, finished, noise, signal, wait_until, write_private};
use crate::tree::{TreeFixture, mail};

#[test]
fn without_a_repository_nothing_is_made() {
    let env = TestEnv::new();
    let tree = TreeFixture::new(env.path("vmail"));
    tree.file("mail", mail(1));
    for args in [
        &["backup", "vmail"][..],
        &["snapshots"],
        &["check"],
        &["restore", "latest", "--to", "x"],
        &["cache", "info"],
    ] {
        let output = env.mailark(args).expect(10).naming("no repository");
        assert!(output.stdout.is_empty(), "{}", output.both());
    }
    assert!(!env.repository.exists());
    // With nothing configured at all, a cron job does not make the default repository.
    let mut command = env.command(["backup", "vmail"]);
    command.env_remove("MAILARK_REPO").env_remove("MAILARK_KEY_FILE");
    crate::support::run(&mut command).expect(10).naming("--init");
    env.mailark(["backup", "--init", "vmail"]).expect(0);
    env.mailark(["init"]).expect(1).naming("already");
}

#[test]
fn wrong_keys() {
    let env = TestEnv::with_repository();
    let other = env.path("other-key");
    write_private(&other, &crate::support::noise(9, 32));
    let wrong = |args: &[&OsStr]| env.mailark([OsStr::new("snapshots")].iter().chain(args)).expect(12);
    wrong(&["--key-file".as_ref(), other.as_ref()]);
    wrong(&["--key-file".as_ref(), "no-such-file".as_ref()]).naming("no-such-file");
    write_private(&other, &[9; 31]);
    wrong(&["--key-file".as_ref(), other.as_ref()]);
    fs::write(env.path("password"), "sesame\n").unwrap();
    wrong(&["--password-file".as_ref(), "password".as_ref()]);
    let mut command = env.command(["snapshots"]);
    command.env_remove("MAILARK_KEY_FILE");
    crate::support::run(&mut command).expect(12).naming("--key-file");
}

#[test]
fn usage() {
    let env = TestEnv::new();
    for args in [
        &["nonsense"][..],
        &["backup", "--no-such-option"],
        &["restore", "latest"],
        &["check", "--read-data-subset", "7/3"],
    ] {
        env.mailark(args).expect(2);
    }
    assert!(env.mailark(["--help"]).expect(0).stdout.contains("130"));
    env.mailark(["--version"]).expect(0);
    // What only shows when it is thought about ends the same way.
    for (args, said) in [
        (&["backup"][..], "nothing to save"),
        (&["backup", "--as", "/x", "a", "b"], "exactly one path"),
        (&["find", "--received", "soon"], "soon"),
        (&["find", "--zone", "Mars", "--sent", "2026"], "Mars"),
        (&["find", "x", "--restore-to", "-", "--as", "eml"], "belong together"),
        (&["undelete", "--yes"], "--user"),
        (&["undelete", "--user", "a", "--yes", "--deleted-since", "then"], "then"),
        (&["restore", "--user", "a", "--to", "x", "--received", "soon"], "soon"),
        (&["restore", "--user", "a", "--to", "-", "--as", "eml"], "belong together"),
        (&["restore", "--user", "a", "--to", "x", "--as", "eml", "--force"], "--as files"),
        (&["purge", "--yes", "--path", "/"], "empty every snapshot"),
        (&["dump", "latest"], "needs a path"),
        (&["forget", "abcd", "--keep-daily", "7"], "one or the other"),
    ] {
        env.mailark(args).expect(2).naming(said);
    }
}

/// A command that waits until the file `go` appears.
fn slow_backup(job: &str) -> Vec<String> {
    let script = "echo begun; while [ ! -e go ]; do sleep 0.02; done; echo done";
    let words = ["backup", "--job", job, "--stdin-from-command", "--", "sh", "-c", script];
    words.map(str::to_owned).into()
}

#[test]
fn runs_of_one_job_exclude_each_other() {
    let env = TestEnv::with_repository();
    let tree = TreeFixture::new(env.path("vmail"));
    tree.file("mail", mail(1));
    let holder = env.start(slow_backup("data"));
    let state = env.path("home/state");
    wait_until("the lock is held", || {
        crate::support::files_below(&state)
            .iter()
            .any(|path| path.ends_with("data.lock") && fs::read(path).is_ok_and(|note| !note.is_empty()))
    });
    env.backup_with(&tree.root, &[]).expect(11).naming("data");
    env.mailark(["backup", "--job", "another", "vmail"]).expect(0);
    env.mailark(["snapshots"]).expect(0);
    fs::write(env.path("go"), b"").unwrap();
    finished(holder).expect(0);
    env.backup(&tree.root);
    env.check();
}

#[test]
fn an_interrupted_backup_keeps_what_it_stored() {
    let env = TestEnv::with_repository();
    let tree = TreeFixture::new(env.path("vmail"));
    (0..40).for_each(|n| drop(tree.file(format!("{n:02}"), noise(n, 3 << 20))));
    for signal_sent in [Signal::INT, Signal::TERM] {
        let child = env.start(["backup", "--job", "data", "--as", "/data", tree.root.to_str().unwrap()]);
        let before = packed(&env);
        wait_until("something is stored", || packed(&env) > before + (6 << 20));
        signal(&child, signal_sent);
        let output = finished(child);
        assert_eq!(output.code, 130, "{}", output.both());
        env.check();
    }
    assert_eq!(env.mailark(["snapshots", "--json"]).expect(0).json().as_array().unwrap().len(), 0);
    let report = env.backup(&tree.root);
    let (bytes, new) = (report["bytes_read"].as_u64().unwrap(), report["new_bytes"].as_u64().unwrap());
    assert!(new + (4 << 20) < bytes, "the runs before left something: {report}");
    let restored = env.restore("latest", "restored");
    crate::tree::assert_same(
        &tree.root,
        &restored,
        crate::tree::Ignore { owners: !crate::support::is_root(), ..crate::tree::Ignore::default() },
    );
}

/// Bytes of all packs, finished or not.
fn packed(env: &TestEnv) -> u64 {
    let sizes = |folder: &str| -> u64 {
        let files = crate::support::files_below(&env.repository.join(folder));
        files.iter().filter_map(|path| path.metadata().ok()).map(|meta| meta.len()).sum()
    };
    sizes("packs") + sizes("tmp")
}

#[test]
fn json_is_json_and_odd_names_have_one_rule() {
    let env = TestEnv::with_repository();
    let tree = TreeFixture::new(env.path("vmail"));
    tree.file(OsStr::from_bytes(b"odd\xff"), b"x");
    let args = ["backup", "--json", "--job", "odd"].map(OsString::from);
    let path = tree.path(OsStr::from_bytes(b"odd\xff"));
    let report = env.mailark(args.iter().cloned().chain([path.clone().into()])).expect(0).json();
    assert_eq!(report["files"], 1);
    let listed = env.mailark(["snapshots", "--json"]).expect(0).json();
    let part = &listed[0]["parts"][0];
    let hex: String = path.as_os_str().as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(part["path_hex"].as_str(), Some(hex.as_str()), "{part}");
    assert!(part["path"].as_str().unwrap().ends_with("odd\u{fffd}"), "{part}");
    env.mailark(["check", "--json"]).expect(0).json();
    env.mailark(["cache", "info", "--json"]).expect(0).json();
    env.mailark(["restore", "latest", "--json", "--to", "restored"]).expect(0).json();
    let output = env.mailark(["restore", "ffff", "--json", "--to", "x"]).expect(1);
    let line = output.stderr.lines().find(|line| line.starts_with('{')).expect("the failure as JSON");
    assert_eq!(serde_json::from_str::<serde_json::Value>(line).unwrap()["exit_code"], 1);
}

#[test]
fn silent_in_cron() {
    let env = TestEnv::with_repository();
    let tree = TreeFixture::new(env.path("vmail"));
    tree.file("mail", mail(1));
    let output = env.mailark(["backup", "--quiet", "vmail"]).expect(0);
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("", ""), "{}", output.both());
}
