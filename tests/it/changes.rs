//! The second backup: what is read again, what is not, and that no change is missed.

use std::fs;
use std::path::Path;

use crate::support::{TestEnv, is_root, settle, skipped, tool};
use crate::tree::{
    Ignore, LONG_AGO, TreeFixture, assert_same, mail, mail_with_attachment, message_name, set_mode,
    set_mtime, set_xattr,
};

#[track_caller]
fn assert_restores(env: &TestEnv, source: &Path, to: &str) {
    let restored = env.restore("latest", to);
    assert_same(source, &restored, Ignore { owners: !is_root(), ..Ignore::default() });
}

#[test]
fn an_unchanged_tree_is_not_read() {
    let env = TestEnv::with_repository();
    let tree = TreeFixture::new(env.path("vmail"));
    tree.maildir("alice", 0..150);
    tree.file("config/main.cf", b"myhostname = mx1\n");
    settle();
    let first = env.backup(&tree.root);
    assert_eq!((&first["files_read"], &first["messages"]), (&152.into(), &150.into()));
    let second = env.backup(&tree.root);
    assert_eq!((&second["files_read"], &second["bytes_read"]), (&0.into(), &0.into()), "{second}");
    assert_eq!(second["files_unchanged"], 152);
    assert_eq!(second["new_bytes"], 0, "an unchanged tree adds nothing: {second}");
    assert_eq!(second["parent"], first["snapshot"]);
    assert_restores(&env, &tree.root, "restored");
}

#[test]
fn changed_new_and_removed_files() {
    let env = TestEnv::with_repository();
    let tree = TreeFixture::new(env.path("vmail"));
    tree.maildir("alice", 0..100);
    tree.file("same-size", b"aaaa");
    settle();
    env.backup(&tree.root);
    let before = env.path("before");
    assert!(tool("cp", ["-a".as_ref(), tree.root.as_os_str(), before.as_os_str()]));
    fs::remove_file(tree.path(format!("alice/cur/{}", message_name(7, "S")))).unwrap();
    tree.file(format!("alice/new/{}", message_name(500, "")), mail(500));
    set_mtime(&tree.file("same-size", b"bbbb"), LONG_AGO + 1, 0);
    let grown = tree.file(format!("alice/cur/{}", message_name(8, "S")), mail_with_attachment(8, 50_000));
    set_mtime(&grown, LONG_AGO, 1);
    let report = env.backup(&tree.root);
    assert_eq!(report["files_read"], 3, "{report}");
    assert_restores(&env, &tree.root, "after");
    let snapshots = env.mailark(["snapshots", "--json"]).expect(0).json();
    let first = snapshots[0]["id"].as_str().unwrap().to_owned();
    let ignore = Ignore { owners: !is_root(), ..Ignore::default() };
    assert_same(&before, &env.restore(&first, "older"), ignore);
}

#[test]
fn kinds_may_change_places() {
    let env = TestEnv::with_repository();
    let tree = TreeFixture::new(env.path("vmail"));
    tree.file("was-file", b"x");
    tree.file("was-folder/inside", b"y");
    std::os::unix::fs::symlink("a", tree.path("was-link")).unwrap();
    env.backup(&tree.root);
    fs::remove_file(tree.path("was-file")).unwrap();
    fs::remove_dir_all(tree.path("was-folder")).unwrap();
    fs::remove_file(tree.path("was-link")).unwrap();
    tree.file("was-file/inside", b"1");
    tree.file("was-folder", b"2");
    tree.file("was-link", b"3");
    env.backup(&tree.root);
    assert_restores(&env, &tree.root, "restored");
}

#[test]
fn new_flags_and_moves_between_new_and_cur() {
    let env = TestEnv::with_repository();
    let tree = TreeFixture::new(env.path("vmail"));
    tree.maildir("alice", 0..50);
    settle();
    env.backup(&tree.root);
    for (number, flags) in [(3, "RS"), (4, ""), (9, "FRST")] {
        let path = |flags: &str| tree.path(format!("alice/cur/{}", message_name(number, flags)));
        fs::rename(path("S"), path(flags)).unwrap();
    }
    let report = env.backup(&tree.root);
    assert_eq!(report["files_read"], 0, "flags are no content: {report}");
    assert_restores(&env, &tree.root, "restored");
}

#[test]
fn changed_attributes_of_unchanged_files() {
    let env = TestEnv::with_repository();
    let tree = TreeFixture::new(env.path("vmail"));
    tree.maildir("alice", 0..10);
    let message = |number| tree.path(format!("alice/cur/{}", message_name(number, "S")));
    settle();
    env.backup(&tree.root);
    set_mode(&message(1), 0o640);
    if !set_xattr(&message(2), "user.keyword", b"$Junk") {
        skipped("changed_attributes_of_unchanged_files", "user attributes are not supported");
    }
    let acl = message(3);
    if !tool("setfacl", ["-m".as_ref(), "u:1234:r".as_ref(), acl.as_os_str()]) {
        skipped("changed_attributes_of_unchanged_files", "ACLs: setfacl is missing or refused");
    }
    set_mode(&tree.path("alice/tmp"), 0o700);
    let report = env.backup(&tree.root);
    // What was touched under its old name is looked into again, and found to be the same.
    assert!(report["files_read"].as_u64() <= Some(3), "{report}");
    assert_eq!(report["attachments"]["decoded"], 0, "{report}");
    assert_restores(&env, &tree.root, "restored");
}

#[test]
fn a_file_written_during_the_last_run_is_read_again() {
    let env = TestEnv::with_repository();
    let tree = TreeFixture::new(env.path("vmail"));
    let path = tree.path("fresh");
    fs::write(&path, b"first ").unwrap();
    env.backup(&tree.root);
    let modified = path.metadata().unwrap().modified().unwrap();
    fs::write(&path, b"second").unwrap();
    // As if the clock had not ticked between the backup's look and the next write.
    fs::File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
    env.backup(&tree.root);
    assert_restores(&env, &tree.root, "restored");
}

#[test]
fn one_attachment_in_many_messages_is_stored_once() {
    let env = TestEnv::with_repository();
    let tree = TreeFixture::new(env.path("vmail"));
    let message = mail_with_attachment(1, 400_000);
    for recipient in 0..12 {
        let head = format!("Delivered-To: user{recipient}@example.org\n");
        tree.file(
            format!("user{recipient}/cur/1.M{recipient}P1.mx:2,"),
            [head.as_bytes(), &message].concat(),
        );
    }
    let report = env.backup(&tree.root);
    let new = report["new_bytes"].as_u64().unwrap();
    assert!(new < 450_000, "{report}");
    assert_eq!(report["attachments"]["decoded"], 12, "{report}");
    assert_restores(&env, &tree.root, "restored");
}

#[test]
fn an_edit_that_hides_behind_an_old_time_is_read() {
    let env = TestEnv::with_repository();
    let tree = TreeFixture::new(env.path("vmail"));
    tree.file("config", b"relay=no ");
    settle();
    env.backup(&tree.root);
    // Same size, same time, as `cp -p` and `touch -r` leave it: only the change time tells.
    tree.file("config", b"relay=yes");
    let report = env.backup(&tree.root);
    assert_eq!(report["files_read"], 1, "{report}");
    assert_restores(&env, &tree.root, "restored");
}
