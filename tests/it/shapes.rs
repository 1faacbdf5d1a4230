//! Mail folders known by what is in them: what is left out there, what is read late, and what only once a day.

use std::fs;
use std::io::Write;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use crate::support::{Stop, TestEnv, files_below, is_root};
use crate::tree::{Ignore, LONG_AGO, TreeFixture, assert_same, set_mtime};

/// Names of what is left out, below a mail folder.
const NEEDLESS: [&str; 11] = [
    "dovecot-uidlist.lock",
    "dovecot-keywords.lock",
    "dovecot.index.log.newlock",
    "subscriptions.lock",
    "dovecot.index.cache",
    "dovecot.list.index",
    "dovecot.list.index.log",
    "xapian-indexes/db_5f3a/glass",
    "fts-flatcurve/index.1/docdata.glass",
    "lucene-indexes/segments_1",
    "dovecot.index.search",
];

const NEEDED: [&str; 12] = [
    "dovecot-keywords",
    "dovecot-uidlist",
    "dovecot-uidvalidity",
    "dovecot-uidvalidity.5f3a2b1c",
    "dovecot.index",
    "dovecot.index.log",
    "dovecot.index.log.2",
    "dovecot.mailbox.log",
    "maildirsize",
    "subscriptions",
    "my.lock",
    "sieve/rules.sieve",
];

fn below(root: &Path) -> Vec<String> {
    files_below(root)
        .iter()
        .map(|path| path.strip_prefix(root).unwrap().to_str().unwrap().to_owned())
        .collect()
}

fn fill(tree: &TreeFixture, folder: &str, names: &[&str]) {
    names.iter().for_each(|name| drop(tree.file(format!("{folder}/{name}"), format!("{name}\n"))));
}

/// A tree in which everything that has a name is there, in folders of each shape and in one of none.
fn mail_server(env: &TestEnv) -> TreeFixture {
    let tree = TreeFixture::new(env.path("vmail"));
    for maildir in ["alice", "alice/.Sent", "fs/Work/Projects"] {
        tree.maildir(maildir, 0..3);
        fill(&tree, maildir, &NEEDLESS);
        fill(&tree, maildir, &NEEDED);
        tree.file(format!("{maildir}/tmp/1700000000.M1P1.mx1"), "half a mess");
    }
    for apart in ["control/alice", "index/alice"] {
        fill(&tree, apart, &NEEDLESS);
        fill(&tree, apart, &NEEDED);
    }
    fs::remove_file(tree.path("index/alice/dovecot-uidlist")).unwrap();
    fill(&tree, "sdbox/mailboxes/INBOX/dbox-Mails", &["u.1", "dovecot.index", "dovecot.index.log"]);
    fill(&tree, "sdbox/mailboxes/INBOX/dbox-Mails", &["dovecot.index.cache"]);
    fill(&tree, "mdbox/storage", &["m.1", "dovecot.map.index", "dovecot.map.index.log"]);
    // Somebody's own files, in no mail folder.
    fill(&tree, "home", &NEEDLESS);
    fill(&tree, "home/tmp", &["letter"]);
    // People may call a mailbox as they like.
    tree.maildir("fs/Work/Projects/xapian-indexes", 0..2);
    tree
}

#[test]
fn what_a_mail_server_makes_again_is_left_out_and_counted() {
    let env = TestEnv::with_repository();
    let tree = mail_server(&env);
    let socket = UnixListener::bind(tree.path("alice/indexer"));
    let report = env.backup(&tree.root);
    let needless = &report["needless"];
    // Of five folders, three are Maildir folders; the one with a mailbox called xapian-indexes keeps it.
    assert_eq!(needless["locks"], 5 * 4, "{report}");
    assert_eq!(needless["caches"], 5 + 1, "{report}");
    assert_eq!(needless["list_indexes"], 5 * 2, "{report}");
    assert_eq!(needless["full_text_indexes"], 5 * 4 - 1, "{report}");
    assert_eq!(needless["unfinished_deliveries"], 3, "{report}");
    assert_eq!(needless["sockets"], u64::from(socket.is_ok()), "{report}");
    assert_eq!((&report["left_out"], &report["problem_count"]), (&0.into(), &0.into()));
    let restored = env.restore("latest", "restored");
    let expected: Vec<String> = below(&tree.root)
        .into_iter()
        .filter(|path| {
            let is_needless = NEEDLESS.iter().any(|needless| path.ends_with(&format!("/{needless}")));
            path.starts_with("home/")
                || path.starts_with("fs/Work/Projects/xapian-indexes/")
                || !is_needless && !path.contains("/tmp/") && !path.ends_with("/indexer")
        })
        .collect();
    assert_eq!(below(&restored), expected);
    for maildir in ["alice", "alice/.Sent", "fs/Work/Projects"] {
        assert!(restored.join(maildir).join("tmp").is_dir(), "{maildir} has no tmp");
        NEEDED.iter().for_each(|name| assert!(restored.join(maildir).join(name).exists(), "{name}"));
    }
}

#[test]
fn all_files_are_saved_on_demand() {
    let env = TestEnv::with_repository();
    let tree = mail_server(&env);
    let report = env.backup_with(&tree.root, &["--all-files"]).expect(0).json();
    let counts = report["needless"].as_object().unwrap();
    assert!(counts.len() == 6 && counts.values().all(|count| *count == 0), "{report}");
    let restored = env.restore("latest", "restored");
    assert_same(&tree.root, &restored, Ignore { owners: !is_root(), ..Ignore::default() });
    let toml = format!("[jobs.mail]\npaths = [{:?}]\nall_files = true\nas = \"/data\"\n", tree.root);
    fs::create_dir_all(env.path("home/config/mailark")).unwrap();
    fs::write(env.path("home/config/mailark/mailark.toml"), toml).unwrap();
    let report = env.mailark(["backup", "--json", "--job", "mail"]).expect(0).json();
    assert_eq!(report["needless"], serde_json::json!(counts), "{report}");
}

#[test]
fn the_summary_says_what_was_left_out() {
    let env = TestEnv::with_repository();
    let tree = TreeFixture::new(env.path("vmail"));
    tree.maildir("alice", 0..1);
    fill(&tree, "alice", &["dovecot.index.cache", "dovecot-uidlist.lock", "tmp/1.a.mx", "tmp/2.b.mx"]);
    let told = env.mailark(["backup".as_ref(), "-v".as_ref(), tree.root.as_os_str()]).expect(0).both();
    let line = "left out, for mail servers make it again: 1 locks, 0 sockets, 1 caches, 0 list indexes, \
                0 full-text indexes, 2 unfinished deliveries";
    assert!(told.contains(line), "{told}");
}

const DAY: i64 = 24 * 3600;

fn now() -> i64 {
    std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() as i64
}

/// Writes a file that was last written to so many seconds ago.
fn written(tree: &TreeFixture, name: &str, bytes: &str, seconds_ago: i64) -> PathBuf {
    let path = tree.file(name, bytes);
    set_mtime(&path, now() - seconds_ago, 7);
    path
}

fn counts(report: &Value) -> (u64, u64) {
    (report["held"].as_u64().unwrap(), report["files_read"].as_u64().unwrap())
}

#[test]
fn logins_cost_nothing_for_a_day() {
    let env = TestEnv::with_repository();
    let tree = TreeFixture::new(env.path("vmail"));
    for maildir in ["alice", "bob"] {
        tree.maildir(maildir, 0..3);
        written(&tree, &format!("{maildir}/dovecot.index"), "index", 9 * DAY);
    }
    // Alice was there an hour ago, Bob two days ago.
    let old = written(&tree, "alice/dovecot.index.log", "an hour ago", 3600);
    let old = (fs::read(&old).unwrap(), fs::metadata(&old).unwrap().modified().unwrap());
    written(&tree, "bob/dovecot.index.log", "two days ago", 2 * DAY);
    written(&tree, "dbox-Mails/dovecot.index.log", "an hour ago", 3600);
    env.backup(&tree.root);
    for place in ["alice", "bob", "dbox-Mails"] {
        written(&tree, &format!("{place}/dovecot.index.log"), "just now, another login", 1);
    }
    // The index belongs to the log: new beside an old log it would be damaged.
    written(&tree, "alice/dovecot.index", "a newer index", 1);
    // Bob's and the one of dbox are read, and those of the day are held.
    let report = env.backup(&tree.root);
    assert_eq!(counts(&report), (2, 2), "{report}");
    let restored = env.restore("latest", "restored");
    let log = restored.join("alice/dovecot.index.log");
    assert_eq!((fs::read(&log).unwrap(), fs::metadata(&log).unwrap().modified().unwrap()), old);
    assert_eq!(fs::read(restored.join("alice/dovecot.index")).unwrap(), b"index");
    for place in ["bob", "dbox-Mails"] {
        let log = fs::read(restored.join(place).join("dovecot.index.log")).unwrap();
        assert_eq!(log, b"just now, another login", "{place}");
    }
    // Again: still the copy of the first run, and Bob's of the second.
    for place in ["alice", "bob"] {
        written(&tree, &format!("{place}/dovecot.index.log"), "and once more", 0);
    }
    assert_eq!(counts(&env.backup(&tree.root)).0, 3);
    let report = env.backup_with(&tree.root, &["--all-files"]).expect(0).json();
    assert_eq!(report["held"], 0, "{report}");
    let restored = env.restore("latest", "all");
    assert_eq!(fs::read(restored.join("alice/dovecot.index.log")).unwrap(), b"and once more");
}

#[test]
fn an_index_of_other_files_is_read_as_a_whole() {
    let env = TestEnv::with_repository();
    let tree = TreeFixture::new(env.path("vmail"));
    tree.maildir("alice", 0..3);
    written(&tree, "alice/dovecot.index", "index", 3600);
    written(&tree, "alice/dovecot.index.log", "log", 3600);
    env.backup(&tree.root);
    // The log was rotated.
    written(&tree, "alice/dovecot.index", "index 2", 1);
    written(&tree, "alice/dovecot.index.log", "log 2", 1);
    written(&tree, "alice/dovecot.index.log.2", "log", 3600);
    assert_eq!(counts(&env.backup(&tree.root)), (0, 3));
    // Mode and owner are no part of the content: they are what they are now.
    let log = written(&tree, "alice/dovecot.index.log", "log 3", 1);
    crate::tree::set_mode(&log, 0o640);
    // The index itself may count as changed, too: it was written to a moment before the last run.
    let (held, read) = counts(&env.backup(&tree.root));
    assert!((1..=2).contains(&held) && read == 0, "{held} held, {read} read");
    let restored = env.restore("latest", "restored").join("alice/dovecot.index.log");
    assert_eq!(fs::read(&restored).unwrap(), b"log 2");
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&restored).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o640);
}

#[test]
fn a_uid_list_ends_with_its_last_whole_line() {
    let env = TestEnv::with_repository();
    let tree = TreeFixture::new(env.path("vmail"));
    let whole = "3 V1700000000 N3 G9f0f\n1 :1700000001.M1P77.mx1\n";
    let torn = format!("{whole}2 :17000000");
    tree.maildir("alice", 0..1);
    for name in ["alice/dovecot-uidlist", "control/dovecot-uidlist", "alice/subscriptions"] {
        tree.file(name, &torn);
    }
    // A long line, further than one look.
    tree.maildir("bob", 0..1);
    tree.file("bob/dovecot-uidlist", format!("{whole}2 :{}", "x".repeat(200_000)));
    tree.maildir("carol", 0..1);
    tree.file("carol/dovecot-uidlist", "3 V17");
    let report = env.backup(&tree.root);
    assert_eq!(report["problem_count"], 0, "{report}");
    let restored = env.restore("latest", "restored");
    for name in ["alice/dovecot-uidlist", "bob/dovecot-uidlist", "control/dovecot-uidlist"] {
        assert_eq!(fs::read_to_string(restored.join(name)).unwrap(), whole, "{name}");
    }
    assert_eq!(fs::read(restored.join("carol/dovecot-uidlist")).unwrap(), b"");
    assert_eq!(fs::read_to_string(restored.join("alice/subscriptions")).unwrap(), torn);
    env.check();
}

#[test]
fn uid_lists_of_folders_in_folders_are_found_again() {
    let env = TestEnv::with_repository();
    let tree = TreeFixture::new(env.path("vmail"));
    let mut name = "fs".to_owned();
    for depth in 0..40 {
        name = format!("{name}/{depth}");
        tree.maildir(&name, depth..depth + 1);
    }
    let report = env.backup(&tree.root);
    assert_eq!((&report["problem_count"], &report["messages"]), (&0.into(), &40.into()), "{report}");
    let restored = env.restore("latest", "restored");
    assert_same(&tree.root, &restored, Ignore { owners: !is_root(), ..Ignore::default() });
}

/// Delivers as a mail server that shows each message at once: first its UID, then the message, until told to stop.
/// The line of a UID comes in two pieces.
fn serve(uid_list: &Path, cur: &Path, stop: &AtomicBool) {
    let mut list = fs::OpenOptions::new().append(true).open(uid_list).unwrap();
    for uid in 1_000_001.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let name = format!("{}.M{uid}P1.mx1", LONG_AGO + uid);
        let line = format!("{uid} :{name}\n");
        let (first, second) = line.split_at(12);
        list.write_all(first.as_bytes()).unwrap();
        list.write_all(second.as_bytes()).unwrap();
        fs::write(cur.join(format!("{name}:2,S")), format!("Subject: {uid}\n\n")).unwrap();
        if uid % 8 == 0 {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }
}

/// Every message has the UID that the server showed.
fn assert_known(uid_list: &Path, cur: &Path) -> usize {
    let list = fs::read_to_string(uid_list).unwrap();
    assert!(list.ends_with('\n'));
    let known: std::collections::HashSet<&str> = list
        .lines()
        .skip(1)
        .map(|line| {
            let (uid, name) = line.split_once(" :").unwrap_or_else(|| panic!("a torn line: {line}"));
            assert!(uid.len() < 7 || name.contains(&format!(".M{uid}P1.")), "{line}");
            name
        })
        .collect();
    let shown = below(cur);
    for name in &shown {
        let base = name.split(':').next().unwrap();
        assert!(!base.ends_with("P1.mx1") || known.contains(base), "{base} would get another UID");
    }
    shown.len()
}

#[test]
fn no_message_gets_another_uid_than_it_had() {
    // Here the list lies beside its messages, there it lies elsewhere, where the walk comes first.
    for (list, maildir) in
        [("mail/alice/dovecot-uidlist", "mail/alice"), ("control/dovecot-uidlist", "mail/bob")]
    {
        let env = TestEnv::with_repository();
        let tree = TreeFixture::new(env.path("vmail"));
        tree.maildir(maildir, 0..200);
        // The walk comes to these before it comes to the messages.
        (10..90).for_each(|number| drop(tree.maildir(&format!("{maildir}/.A{number}"), 0..40)));
        tree.file(list, "3 V1700000000 N1 G9f0f\n");
        let stop = AtomicBool::new(false);
        let (uid_list, cur) = (tree.path(list), tree.path(format!("{maildir}/cur")));
        std::thread::scope(|scope| {
            let _stop = Stop(&stop);
            scope.spawn(|| serve(&uid_list, &cur, &stop));
            for _ in 0..3 {
                env.backup_with(&tree.root, &[]).expect(0);
            }
        });
        let snapshots = env.mailark(["snapshots", "--json"]).expect(0).json();
        for (number, snapshot) in snapshots.as_array().unwrap().iter().enumerate() {
            let restored = env.restore(snapshot["id"].as_str().unwrap(), &format!("restored-{number}"));
            let shown = assert_known(&restored.join(list), &restored.join(maildir).join("cur"));
            assert!(shown >= 200);
        }
    }
}
