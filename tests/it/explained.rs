//! `explain`: why a file is in no snapshot, and which ones wait for their day.

use std::fs;

use crate::support::{TestEnv, settle};
use crate::tree::{TreeFixture, mail, message_name, set_mtime};

const DAY: i64 = 86_400;

/// A job of `mailark.toml` whose repository lies below what it saves.
struct Site {
    env: TestEnv,
    tree: TreeFixture,
}

impl Site {
    fn new(more: &str) -> Site {
        let env = TestEnv::with_repository();
        let tree = TreeFixture::new(env.path("vmail"));
        tree.maildir("alice", 0..3);
        tree.maildir("bob", 3..5);
        let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() as i64;
        for (user, ago) in [("alice", 3_600), ("bob", 2 * DAY)] {
            for index in ["dovecot.index", "dovecot.index.log"] {
                set_mtime(&tree.file(format!("{user}/{index}"), b"an index"), now - ago, 7);
            }
        }
        tree.file("alice/dovecot.index.cache", b"a cache");
        tree.file("alice/tmp/1.a.mx", b"half a mess");
        tree.file("alice/notes.bak", b"notes");
        tree.file("old/deep/er/letter", b"a letter");
        let config = env.folder("home/config/mailark");
        let text = format!("[jobs.mail]\npaths = [\"{}\"]\nas = \"/data\"\n{more}", tree.root.display());
        fs::write(config.join("mailark.toml"), text).unwrap();
        settle();
        env.mailark(["backup", "--job", "mail"]).expect(0);
        Site { env, tree }
    }

    /// What is said of a file, and its reason as a word.
    fn explain(&self, name: &str, more: &[&str]) -> (String, String) {
        let (logical, real) = (format!("/data/{name}"), self.tree.path(name));
        let args = |json: &'static [&'static str]| {
            let args = ["explain", "--as", &logical, real.to_str().unwrap()].map(str::to_owned);
            args.into_iter().chain(more.iter().chain(json).map(|&arg| arg.to_owned()))
        };
        let said = self.env.mailark(args(&[])).expect(0).stdout;
        let json = self.env.mailark(args(&["--json"])).expect(0).json();
        assert_eq!(json["left_out"], said.contains(" would be left out: "), "{said}{json}");
        assert_eq!(json["read"], said.contains(" would be read: "), "{said}{json}");
        (said, json["reason"].as_str().unwrap().to_owned())
    }

    #[track_caller]
    fn expect(&self, name: &str, word: &str, text: &str) {
        let (said, reason) = self.explain(name, &[]);
        assert!(reason == word && said.contains(text), "{name}: {reason}: {said}");
    }
}

#[test]
fn what_is_left_out_is_said_with_its_reason() {
    let site = Site::new("exclude = [\"*.bak\", \"/**/old/deep/\"]\n");
    let root = site.tree.root.display().to_string();
    site.expect("alice/notes.bak", "pattern", "it matches the pattern '*.bak'");
    let pattern = format!("{root}/old/deep matches the pattern '/**/old/deep/'");
    site.expect("old/deep/er/letter", "pattern", &pattern);
    site.expect("alice/dovecot.index.cache", "needless", "it is one of the caches");
    site.expect("alice/tmp/1.a.mx", "needless", "it is one of the unfinished deliveries");
    let message = format!("alice/cur/{}", message_name(1, "S"));
    let said = site.explain(&message, &[]).0;
    assert!(!said.contains("left out"), "{said}");
    let (said, reason) = site.explain(&message, &["--exclude", "alice"]);
    assert_eq!(reason, "pattern", "{said}");
    assert!(said.contains(&format!("{root}/alice matches the pattern 'alice'")), "{said}");

    // The backup says the same: nothing of these is in the snapshot.
    let listed = site.env.mailark(["ls", "latest:/data/alice"]).expect(0).stdout;
    for name in ["notes.bak", "dovecot.index.cache"] {
        assert!(!listed.contains(name), "{listed}");
    }
}

#[test]
fn with_all_files_nothing_is_needless() {
    let site = Site::new("all_files = true\n");
    for name in ["alice/dovecot.index.cache", "alice/tmp/1.a.mx", "alice/notes.bak"] {
        let (said, _) = site.explain(name, &[]);
        assert!(!said.contains("left out"), "{said}");
    }
    site.tree.file("alice/dovecot.index.log", b"another login");
    assert!(site.explain("alice/dovecot.index.log", &[]).0.contains(" would be read: "));
}

#[test]
fn what_belongs_to_the_backup_is_left_out() {
    let site = Site::new("");
    let inside = site.tree.path("repository");
    fs::rename(&site.env.repository, &inside).unwrap();
    let repository = inside.to_str().unwrap();
    let (said, reason) = site.explain("repository/config", &["--repo", repository]);
    assert_eq!(reason, "own", "{said}");
    assert!(said.contains("repository belongs to the backup itself"), "{said}");
}

#[test]
fn an_index_with_a_fresh_copy_is_held() {
    let site = Site::new("");
    for user in ["alice", "bob"] {
        site.tree.file(format!("{user}/dovecot.index.log"), b"another login, and another size");
    }
    site.expect("alice/dovecot.index.log", "held", "would not be read yet: it has another size, but ");
    // Nobody opened this one for two days.
    site.expect("bob/dovecot.index.log", "resized", " would be read: ");
    let job = ["backup", "--job", "mail", "--json"];
    assert_eq!(site.env.mailark(job).expect(0).json()["held"], 1, "the backup does what was said");
}

#[test]
fn a_message_is_never_held() {
    let site = Site::new("");
    fs::write(site.tree.path("alice/new/1.M1P1.mx1"), mail(1)).unwrap();
    site.expect("alice/new/1.M1P1.mx1", "new", " would be read: ");
}
