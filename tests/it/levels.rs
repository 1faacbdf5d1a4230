//! What a backup asks of the system when little has changed, and that it misses nothing by asking little.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::support::{TestEnv, copy_folder, files_below, is_root, tool};
use crate::tree::{Ignore, LONG_AGO, TreeFixture, assert_same, mail, message_name, set_mode, set_mtime};

/// Until what was touched just now is settled on a local disk.
const SETTLED: Duration = Duration::from_millis(2_100);

/// A mail server of two users, with a first backup; on a disk, where births are kept and numbers used again.
struct Server {
    env: TestEnv,
    tree: TreeFixture,
    _disk: tempfile::TempDir,
    restores: std::cell::Cell<u32>,
}

impl Server {
    fn new() -> Server {
        let disk = tempfile::tempdir_in(std::env::temp_dir()).unwrap();
        let env = TestEnv::with_repository();
        let tree = TreeFixture::new(disk.path().join("vmail"));
        for user in ["alice", "bob"] {
            tree.maildir(user, 0..40);
            tree.maildir(&format!("{user}/.Sent"), 100..300);
            tree.file(format!("{user}/new/{}", message_name(900, "").replace(":2,", "")), mail(900));
        }
        std::thread::sleep(SETTLED);
        let server = Server { env, tree, _disk: disk, restores: 0.into() };
        server.backup();
        server
    }

    /// Backs up and proves that the snapshot holds what is there.
    #[track_caller]
    fn backup(&self) -> Value {
        self.backup_with(&[])
    }

    #[track_caller]
    fn backup_with(&self, more: &[&str]) -> Value {
        let report = self.env.backup_with(&self.tree.root, more).expect(0).json();
        self.restores.set(self.restores.get() + 1);
        let restored = self.env.restore("latest", &format!("restored{}", self.restores.get()));
        assert_same(
            &self.tree.root,
            &restored,
            Ignore { owners: !is_root(), links: true, ..Ignore::default() },
        );
        report
    }

    fn message(&self, folder: &str, number: u64, flags: &str) -> PathBuf {
        self.tree.path(folder).join("cur").join(message_name(number, flags))
    }
}

fn number(report: &Value, path: &str) -> u64 {
    report.pointer(path).and_then(Value::as_u64).unwrap_or_else(|| panic!("{path} in {report}"))
}

#[test]
fn an_untouched_mailbox_is_neither_listed_nor_looked_at() {
    let server = Server::new();
    let report = server.backup();
    // Two users with two folders each.
    assert_eq!(number(&report, "/folders_passed_over"), 8, "{report}");
    assert_eq!(number(&report, "/recognised/folder"), 2 * 241, "{report}");
    assert_eq!(number(&report, "/files_opened"), 0, "{report}");
    // The start, and of each mail folder itself and its `tmp`.
    assert!(number(&report, "/folders_listed") <= 9, "{report}");
    assert!(number(&report, "/entries_looked_at") <= 20, "{report}");
    assert_eq!(number(&report, "/new_bytes"), 0, "{report}");
}

/// Pages of the parent are taken over where nothing changed: in front, in the middle and at the end of a folder it must
/// be the listing that reading everything gives, which then stores nothing new.
/// What befalls the messages of a page.
type Change<'c> = &'c dyn Fn(&[PathBuf]);

#[test]
fn a_listing_is_the_same_whether_its_pages_are_taken_over_or_made_anew() {
    let server = Server::new();
    let sent = "alice/.Sent";
    server.tree.maildir(sent, 2_000..3_000);
    std::thread::sleep(SETTLED);
    server.backup();
    let cur = server.tree.path(sent).join("cur");
    let names = || {
        let mut names: Vec<PathBuf> =
            fs::read_dir(&cur).unwrap().map(|entry| entry.unwrap().path()).collect();
        names.sort();
        names
    };
    let deliver = |name: &str, number| drop(server.tree.file(format!("{sent}/cur/{name}"), mail(number)));
    let changes: [Change<'_>; 6] = [
        &|_| deliver("0000000001.M1P1.mx:2,", 5_000),
        &|_| deliver("9999999999.M1P1.mx:2,", 5_001),
        &|names| fs::rename(&names[500], PathBuf::from(format!("{}T", names[500].display()))).unwrap(),
        &|names| names.iter().skip(200).step_by(97).for_each(|name| fs::remove_file(name).unwrap()),
        &|names| names.iter().rev().take(70).for_each(|name| fs::remove_file(name).unwrap()),
        &|names| set_mode(&names[300], 0o640),
    ];
    for (n, change) in changes.iter().enumerate() {
        change(&names());
        let report = server.backup();
        assert!(number(&report, "/files_read") <= 2, "{n}: {report}");
        let again = server.backup_with(&["--reread"]);
        assert_eq!(number(&again, "/new_bytes"), 0, "{n}: {again}");
    }
}

#[test]
fn flags_moves_and_copies_read_nothing() {
    let server = Server::new();
    fs::rename(server.message("alice", 3, "S"), server.message("alice", 3, "RS")).unwrap();
    let new = server.tree.path("alice/new").join(message_name(900, "").replace(":2,", ""));
    fs::rename(&new, server.message("alice", 900, "S")).unwrap();
    fs::rename(server.message("alice", 4, "S"), server.message("alice/.Sent", 4, "S")).unwrap();
    fs::rename(server.message("alice/.Sent", 104, "S"), server.message("bob", 104, "T")).unwrap();
    fs::hard_link(server.message("bob/.Sent", 107, "S"), server.message("alice", 107, "S")).unwrap();
    let report = server.backup();
    assert_eq!(number(&report, "/files_read"), 0, "{report}");
    assert_eq!(number(&report, "/recognised/moved"), 4, "{report}");
    // Nobody touched bob's `new`, the two of `.Sent`, and the folder from which a copy was made.
    assert_eq!(number(&report, "/folders_passed_over"), 4, "{report}");
    let added = server.tree.path("bob/.Sent/new").join("1700000000.M1P1.mx1");
    fs::write(&added, mail(5)).unwrap();
    let report = server.backup();
    assert_eq!((number(&report, "/files_read"), number(&report, "/read_because/new")), (1, 1), "{report}");
}

#[test]
fn another_file_behind_an_old_name_is_read() {
    let server = Server::new();
    let mut reused = 0;
    for (n, way) in ["remove", "cp", "sed", "mv"].into_iter().enumerate() {
        let path = server.message("alice", 10 + n as u64, "S");
        let before = fs::metadata(&path).unwrap();
        let text = fs::read_to_string(&path).unwrap().replace("as lines go", "so lines go");
        let other = server.env.path("other");
        fs::write(&other, &text).unwrap();
        match way {
            "remove" => {
                fs::remove_file(&path).unwrap();
                fs::write(&path, &text).unwrap();
            }
            "cp" => {
                assert!(tool("cp", ["--remove-destination".as_ref(), other.as_os_str(), path.as_os_str()]))
            }
            "sed" => assert!(tool("sed", ["-i".as_ref(), "s/as lines/so lines/".as_ref(), path.as_os_str()])),
            // From the file system of the environment, which is another one.
            _ => assert!(tool("mv", ["-f".as_ref(), other.as_os_str(), path.as_os_str()])),
        }
        set_mtime(&path, LONG_AGO, 0);
        let after = fs::metadata(&path).unwrap();
        assert_eq!((before.len(), before.mtime()), (after.len(), after.mtime()), "{way}");
        reused += u32::from(before.ino() == after.ino());
    }
    println!("{reused} of 4 have the number of the file before");
    let report = server.backup();
    assert_eq!(number(&report, "/read_because/replaced"), 4, "{report}");
}

#[test]
fn modes_of_untouched_messages_are_noticed() {
    let server = Server::new();
    assert!(tool("chmod", ["-R".as_ref(), "g+rX".as_ref(), server.tree.path("alice").as_os_str()]));
    let report = server.backup();
    assert_eq!(number(&report, "/read_because/new"), 0, "{report}");
    if is_root() {
        assert!(tool("chown", ["-R".as_ref(), "12:34".as_ref(), server.tree.path("bob").as_os_str()]));
        server.backup();
    }
}

#[test]
fn control_files_that_change_in_place_are_noticed() {
    let server = Server::new();
    let path = server.tree.path("bob/.Sent/dovecot-uidlist");
    let mut list = OpenOptions::new().append(true).open(path).unwrap();
    list.write_all(b"900 :1700000000.M1P1.mx1\n").unwrap();
    let report = server.backup();
    assert_eq!((number(&report, "/files_read"), number(&report, "/folders_passed_over")), (1, 8), "{report}");
}

#[test]
fn a_folder_that_was_just_touched_is_listed_once_more() {
    let server = Server::new();
    fs::write(server.tree.path("bob/new/1700000000.M1P1.mx1"), mail(1)).unwrap();
    server.backup();
    // It was younger than two seconds when it was listed: a second message in the same tick would not show.
    let report = server.backup();
    assert_eq!(number(&report, "/folders_passed_over"), 7, "{report}");
    std::thread::sleep(SETTLED);
    server.backup();
    assert_eq!(number(&server.backup(), "/folders_passed_over"), 8);
}

#[test]
fn what_was_left_out_comes_when_the_rules_change() {
    let server = Server::new();
    let excluding = ["--exclude", "*P77*"];
    server.env.backup_with(&server.tree.root, &excluding).expect(4);
    server.env.backup_with(&server.tree.root, &excluding).expect(4);
    let report = server.backup();
    assert_eq!(number(&report, "/messages"), 2 * 241, "{report}");
}

#[test]
fn the_same_tree_at_another_path_is_not_looked_at_either() {
    let mut server = Server::new();
    let moved = server.tree.path("../snapshot-of-vmail");
    fs::rename(&server.tree.root, &moved).unwrap();
    server.tree = TreeFixture::new(moved);
    assert_eq!(number(&server.backup(), "/folders_passed_over"), 8);
}

#[test]
fn a_full_look_is_one_option_away() {
    let server = Server::new();
    // An edit that hides: nothing but its content tells.
    let path = server.message("alice", 20, "S");
    let text = fs::read_to_string(&path).unwrap().replace("as lines go", "so lines go");
    let mut file = OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
    set_mtime(&path, LONG_AGO, 0);
    drop(file);
    let report = server.env.backup_with(&server.tree.root, &["--rescan"]).expect(0).json();
    assert_eq!(number(&report, "/folders_passed_over"), 0, "{report}");
    assert!(number(&report, "/entries_looked_at") > 480, "{report}");
    let report = server.backup_with(&["--reread"]);
    assert_eq!(number(&report, "/read_because/asked"), 2 * 241 + 4, "{report}");
    assert_eq!(number(&server.backup(), "/folders_passed_over"), 8);
}

/// The files of the scan cache, without the journals.
fn caches(env: &TestEnv) -> Vec<PathBuf> {
    let is_ours = |path: &PathBuf| path.parent().unwrap().ends_with("scan");
    files_below(&env.cache()).into_iter().filter(is_ours).collect()
}

fn scan_folder(env: &TestEnv) -> PathBuf {
    caches(env)[0].parent().unwrap().to_owned()
}

#[test]
fn no_cache_makes_a_wrong_snapshot() {
    let server = Server::new();
    let folder = scan_folder(&server.env);
    let old = server.env.path("old-cache");
    copy_folder(&folder, &old);
    let put_back = |from: &Path| {
        fs::remove_dir_all(&folder).unwrap();
        copy_folder(from, &folder);
    };
    let change = |n: u64| {
        fs::remove_file(server.message("alice", 20 + n, "S")).unwrap();
        fs::rename(server.message("bob", 20 + n, "S"), server.message("alice", 20 + n, "S")).unwrap();
        fs::write(server.tree.path(format!("bob/new/{n}.M9P9.mx1")), mail(n)).unwrap();
        std::thread::sleep(SETTLED);
    };
    // Rolled back by one run, and by two.
    for n in 0..2 {
        change(n);
        server.backup();
        change(n + 10);
        put_back(&old);
        server.backup();
    }
    // Gone.
    change(3);
    fs::remove_dir_all(&folder).unwrap();
    server.backup();
    // Torn.
    change(4);
    for path in caches(&server.env) {
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() / 3 * 2]).unwrap();
    }
    server.backup();
    // Of another repository, in the place of ours.
    change(5);
    let mut other = TestEnv::with_repository();
    other.backup(&server.tree.root);
    let foreign = other.path("foreign");
    copy_folder(&scan_folder(&other), &foreign);
    let mine = caches(&server.env).into_iter().find(|path| path.extension().is_some_and(|s| s == "db"));
    fs::remove_dir_all(&folder).unwrap();
    fs::create_dir(&folder).unwrap();
    let theirs = files_below(&foreign).into_iter().find(|path| path.extension().is_some_and(|s| s == "db"));
    fs::copy(theirs.unwrap(), mine.unwrap()).unwrap();
    server.backup();
    // Newer than the repository, which was put back.
    let repository = server.env.path("older-repository");
    copy_folder(&server.env.repository, &repository);
    change(6);
    server.backup();
    fs::remove_dir_all(&server.env.repository).unwrap();
    copy_folder(&repository, &server.env.repository);
    change(7);
    server.backup();
    other.repository = server.env.repository.clone();
}

#[test]
fn a_mailbox_that_comes_back_is_not_taken_for_the_one_that_went() {
    let server = Server::new();
    let aside = server.tree.path("../aside");
    fs::rename(server.tree.path("alice/.Sent"), &aside).unwrap();
    server.backup_with(&["--accept-loss"]);
    server.tree.maildir("alice/.Sent", 100..290);
    server.backup();
    fs::remove_dir_all(server.tree.path("alice/.Sent")).unwrap();
    fs::rename(&aside, server.tree.path("alice/.Sent")).unwrap();
    set_mode(&server.tree.path("alice/.Sent"), 0o755);
    server.backup();
}

#[test]
fn explain_says_what_a_backup_would_do() {
    let server = Server::new();
    let explain = |path: &Path| {
        let real = server_path(&server, path);
        let args = ["explain".as_ref(), "--as".as_ref(), path.as_os_str(), real.as_os_str()];
        server.env.mailark(args).expect(0).stdout
    };
    let logical = |path: PathBuf| Path::new("/data").join(path.strip_prefix(&server.tree.root).unwrap());
    let message = logical(server.message("alice", 3, "S"));
    let said = explain(&message);
    assert!(said.contains("would not be read: its folder was not touched"), "{said}");
    fs::rename(server.message("alice", 3, "S"), server.message("alice", 3, "RS")).unwrap();
    let said = explain(&logical(server.message("alice", 3, "RS")));
    assert!(said.contains("would not be read: it is the same file"), "{said}");
    assert!(said.contains("listed: modification time was"), "{said}");
    fs::rename(server.message("alice", 4, "S"), server.message("bob/.Sent", 4, "S")).unwrap();
    let said = explain(&logical(server.message("bob/.Sent", 4, "S")));
    assert!(said.contains("would not be read: it is a file that stood in another folder"), "{said}");
    fs::write(server.tree.path("bob/new/1.M1P1.mx1"), mail(1)).unwrap();
    let said = explain(Path::new("/data/bob/new/1.M1P1.mx1"));
    assert!(said.contains("would be read: the last snapshot has no such file"), "{said}");
    let list = server.tree.file("bob/dovecot-uidlist", b"3 V1 N1\n");
    let said = explain(&logical(list));
    assert!(said.contains("would be read:") && said.contains("only folders of messages"), "{said}");
    server.env.mailark(["explain", "--as", "/data/bob", "vmail"]).expect(1);
}

/// Where a logical path lies.
fn server_path(server: &Server, logical: &Path) -> PathBuf {
    server.tree.path(logical.strip_prefix("/data").unwrap())
}
