//! Hosts whose keys are in other hands: nothing that they write counts, and nothing new rests on it.

use std::fs;
use std::path::{Path, PathBuf};

use mailark::base::interrupt::Interrupt;
use mailark::format::content::BlobKind;
use mailark::format::page::{Node, Page};
use mailark::ops::revoke;
use mailark::repo::snapshots;
use serde_json::Value;

use crate::lab::{back_up, new_index};
use crate::library::{Forger, entry, full_writer, open, tree};
use crate::paused::{self, Event};
use crate::support::{Output, TestEnv, copy_folder, files_below, is_root, settle};
use crate::tree::{Ignore, TreeFixture, assert_same};

/// A repository of two hosts that share a domain, and a full key.
struct Two {
    env: TestEnv,
    tree: TreeFixture,
}

impl Two {
    fn new() -> Two {
        let env = TestEnv::with_repository();
        let tree = TreeFixture::new(env.path("vmail"));
        tree.maildir("alice", 0..20);
        let two = Two { env, tree };
        two.add_writer("mx1", "mx1.key");
        two.add_writer("mx2", "mx2.key");
        settle();
        two.back_up("mx1.key").expect(0);
        two.back_up("mx2.key").expect(0);
        two
    }

    fn add_writer(&self, host: &str, file: &str) -> String {
        let path = self.key(file);
        let args = ["key", "add", "--writer", "--host", host, "--domain", "mail", "--json", "--new-key-file"];
        let made = self.env.mailark(args.iter().copied().chain([path.to_str().unwrap()])).expect(0).json();
        made["id"].as_str().unwrap().to_owned()
    }

    fn key(&self, file: &str) -> PathBuf {
        self.env.path(file)
    }

    fn with(&self, file: &str, args: &[&str]) -> Output {
        let key = self.key(file);
        self.env.mailark(args.iter().copied().chain(["--key-file", key.to_str().unwrap()]))
    }

    fn back_up(&self, file: &str) -> Output {
        let root = self.tree.root.to_str().unwrap();
        self.with(file, &["backup", "--json", "--job", "data", "--as", "/data", root])
    }

    fn snapshots(&self) -> Vec<Value> {
        let listed = self.env.mailark(["snapshots", "--json"]).expect(0).json();
        listed.as_array().unwrap().clone()
    }

    fn restores(&self, host: &str, to: &str) {
        self.env.mailark(["restore", "latest", "--host", host, "--to", to]).expect(0);
        let ignore = Ignore { owners: !is_root(), ..Ignore::default() };
        assert_same(&self.tree.root, &self.env.path(to).join("data"), ignore);
    }

    /// A forger with the keys of a host.
    fn thief(&self, host: &str) -> Forger {
        let repository = open(&self.env.repository, &self.env.key_file).unwrap();
        let hosts = mailark::repo::records::hosts(&repository).unwrap();
        let known = hosts.iter().find(|known| known.name == host).unwrap();
        let writer = full_writer(&repository, known.host, known.domain);
        Forger::with(repository, writer.into())
    }

    /// What somebody saves who has the key of mx1 and does not ask whether it counts. Gives the object's name.
    fn steal_in(&self) -> String {
        let before = self.env.objects("snapshots");
        let thief = self.thief("mx1");
        let page = Page::Leaf(vec![entry(b"planted", Node::Fifo)]).encode();
        thief.commit("data", tree(thief.blob(BlobKind::Tree, &page), 0));
        let now = self.env.objects("snapshots");
        let (path, _) = now.iter().find(|(path, _)| before.iter().all(|(known, _)| known != path)).unwrap();
        path.strip_prefix(&self.env.repository).unwrap().to_str().unwrap().to_owned()
    }
}

#[test]
fn a_revoked_host_saves_nothing_more_and_what_it_saved_stays() {
    let two = Two::new();
    two.with("mx1.key", &["key", "revoke", "mx2"]).expect(12).naming("full key");
    two.env.mailark(["key", "revoke", "mx9"]).expect(1).naming("no host 'mx9'").naming("mx1, mx2");
    let slot = two.env.mailark(["key", "list", "--json"]).expect(0).json();
    let is_of_mx1 = |slot: &&Value| slot["host"] == "mx1";
    let slot = slot.as_array().unwrap().iter().find(is_of_mx1).unwrap()["id"].as_str().unwrap().to_owned();
    let said = two.env.mailark(["key", "revoke", "mx1"]).expect(0);
    assert!(said.stdout.contains("revoked host mx1: its snapshots up to number 1 stay"), "{}", said.both());
    assert!(said.stdout.contains(&format!("key remove {slot}")), "{}", said.both());
    assert!(said.stdout.contains("1 other hosts of its domain store again"), "{}", said.both());
    two.env.mailark(["key", "revoke", "mx1"]).expect(1).naming("revoked already");
    two.back_up("mx1.key").expect(12).naming("host mx1 was revoked").naming("\"kind\":\"key\"");
    two.with("mx1.key", &["backup", "--dry-run", two.tree.root.to_str().unwrap()]).expect(12);
    let said = two.with("mx1.key", &["key", "test"]).expect(0);
    assert!(said.stdout.contains("was revoked"), "{}", said.both());
    let listed = two.env.mailark(["key", "list"]).expect(0);
    assert!(listed.stdout.lines().any(|line| line.contains(&slot) && line.contains("revoked")));
    assert_eq!(two.snapshots().len(), 2);
    two.restores("mx1", "restored");
    // It is given up: nobody waits for its next backup, and a check only says what is left to do.
    let late = ["status", "--json", "--warn-after", "0", "--critical-after", "0"];
    let status = two.env.mailark(late).json();
    let jobs = status["jobs"].as_array().unwrap();
    let of = |host: &str| jobs.iter().find(|job| job["host"] == host).unwrap();
    assert_eq!((&of("mx1")["level"], &of("mx1")["revoked"]), (&"ok".into(), &true.into()), "{status}");
    assert_eq!((&of("mx2")["level"], &of("mx2")["revoked"]), (&"critical".into(), &false.into()), "{status}");
    let report = two.env.mailark(["check", "--read-data", "--json"]).expect(0).json();
    let remarks = report["remarks"].as_array().unwrap();
    assert!(remarks.len() == 1 && remarks[0]["object"] == format!("keys/{slot}"), "{report}");
    let removed = two.env.mailark(["key", "remove", &slot]).expect(0);
    assert!(!removed.stdout.contains("Whoever"), "{}", removed.both());
    two.back_up("mx1.key").expect(12);
    assert_eq!(two.env.mailark(["check", "--json"]).expect(0).json()["remarks"], Value::Array(Vec::new()));
}

#[test]
fn a_new_key_makes_a_new_host_of_the_same_name() {
    let two = Two::new();
    two.env.mailark(["key", "revoke", "mx1"]).expect(0);
    two.add_writer("mx1", "new.key");
    two.tree.file("alice/cur/later", crate::tree::mail(77));
    settle();
    two.back_up("new.key").expect(0);
    two.back_up("mx1.key").expect(12);
    let hosts: Vec<Value> = two.snapshots().iter().map(|found| found["host_id"].clone()).collect();
    assert_eq!(hosts.len(), 3);
    assert!(hosts[2] != hosts[0] && hosts[2] != hosts[1]);
    two.restores("mx1", "restored");
    let late = ["status", "--json", "--warn-after", "0", "--critical-after", "0"];
    let jobs = two.env.mailark(late).json()["jobs"].clone();
    assert!(jobs.as_array().unwrap().iter().all(|job| job["revoked"] == false), "{jobs}");
    two.env.check();
}

#[test]
fn what_is_written_after_a_revocation_is_ignored_and_goes_with_the_next_prune() {
    let two = Two::new();
    let mirror = two.env.path("mirror");
    let mirror = mirror.to_str().unwrap();
    two.env.mailark(["key", "revoke", "mx1"]).expect(0);
    let planted = two.steal_in();
    assert_eq!(two.snapshots().len(), 2, "it is listed");
    two.restores("mx1", "restored");
    two.env.mailark(["dump", "latest:/planted", "--host", "mx1"]).expect(1);
    let remarks = two.env.mailark(["check", "--json"]).expect(0).json()["remarks"].clone();
    let named = remarks.as_array().unwrap().iter().filter(|remark| remark["object"] == planted.as_str());
    assert_eq!(named.count(), 1, "{remarks}");
    two.env.mailark(["mirror", "--init", mirror]).expect(0);
    assert!(two.env.path("mirror").join(&planted).exists());
    two.env.mailark(["-r", mirror, "check"]).expect(0);
    // Neither what is refused nor what it refers to keeps a prune from its work.
    two.env.mailark(["prune", "--now"]).expect(0);
    assert!(!two.env.repository.join(&planted).exists());
    // The records tell the mirror why it is gone.
    two.env.mailark(["mirror", mirror, "--delete-after", "0"]).expect(0);
    assert!(!two.env.path("mirror").join(&planted).exists());
    two.env.mailark(["mirror", "--verify", mirror]).expect(0);
    two.env.check();
    two.restores("mx1", "restored-again");
}

#[test]
fn a_delta_of_a_revoked_host_that_lies_is_no_damage() {
    let two = Two::new();
    two.env.mailark(["key", "revoke", "mx1"]).expect(0);
    let before = files_below(&two.env.repository.join("packs"));
    let thief = two.thief("mx1");
    thief.blob(BlobKind::File, b"never there");
    let packs = thief.packs();
    let next = mailark::repo::deltas::next_sequence(&thief.repository, &thief.writer.host).unwrap();
    mailark::repo::deltas::write(&thief.repository, &thief.writer, next, &packs).unwrap();
    for path in files_below(&two.env.repository.join("packs")) {
        if !before.contains(&path) {
            fs::remove_file(path).unwrap();
        }
    }
    let report = two.env.mailark(["check", "--json"]).expect(0).json();
    assert!(report["remarks"].to_string().contains("only a host names it that was revoked"), "{report}");
    // A pack of its own that is needed is missed all the same.
    let known = before.iter().find(|path| path.metadata().unwrap().len() > 4_000).unwrap();
    fs::remove_file(known).unwrap();
    two.env.mailark(["check"]).expect(1).naming("alice");
}

#[test]
fn what_was_saved_before_can_be_purged_after() {
    let two = Two::new();
    two.env.mailark(["key", "revoke", "mx1"]).expect(0);
    two.steal_in();
    let gone = files_below(&two.tree.root.join("alice")).remove(0);
    let logical = format!("/data/{}", gone.strip_prefix(&two.tree.root).unwrap().to_str().unwrap());
    two.env.mailark(["purge", "--path", &logical, "--yes"]).expect(0);
    fs::remove_file(&gone).unwrap();
    let found = two.snapshots();
    assert_eq!(found.iter().filter(|found| found["host"] == "mx1").count(), 1, "{found:?}");
    let restored = |to: &str| {
        two.env.mailark(["restore", "latest", "--host", "mx1", "--to", to]).expect(0);
        assert_eq!(
            files_below(&two.env.path(to).join("data")).len(),
            files_below(&two.tree.root).len(),
            "all but the one that was purged"
        );
    };
    restored("restored");
    two.env.mailark(["prune", "--now"]).expect(0);
    two.env.check();
    restored("restored-again");
}

#[test]
fn nothing_new_rests_on_what_a_revoked_host_stored() {
    let two = Two::new();
    let again = two.back_up("mx2.key").expect(0).json();
    assert_eq!((&again["files_read"], &again["new_bytes"]), (&0.into(), &0.into()));
    two.env.mailark(["key", "revoke", "mx1"]).expect(0);
    // What mx2 found stored by mx1 it stores itself, once.
    let again = two.back_up("mx2.key").expect(0).json();
    assert!(again["files_read"].as_u64().unwrap() >= 20, "{again}");
    let again = two.back_up("mx2.key").expect(0).json();
    assert_eq!((&again["files_read"], &again["new_bytes"]), (&0.into(), &0.into()));
    // So it can do without.
    let mx1 = two.thief("mx1");
    let index = new_index(&mx1.repository);
    mailark::repo::deltas::sync(&mx1.repository, &index).unwrap();
    let ledger = mailark::repo::ledger::Ledger::read(&mx1.repository).unwrap();
    let packs =
        mailark::repo::deltas::of_revoked(&mx1.repository, &index, &ledger, &mx1.writer.domain).unwrap();
    assert!(!packs.is_empty());
    for pack in packs {
        let place = mailark::store::Place::Pack(pack);
        fs::remove_file(two.env.repository.join(place.to_string())).unwrap();
    }
    two.restores("mx2", "restored");
}

#[test]
fn of_two_copies_a_prune_keeps_the_one_that_is_not_of_a_revoked_host() {
    let env = TestEnv::with_repository();
    let tree = TreeFixture::new(env.path("vmail"));
    tree.maildir("alice", 0..20);
    let two = Two { env, tree };
    two.add_writer("mx1", "mx1.key");
    two.add_writer("mx2", "mx2.key");
    settle();
    two.back_up("mx1.key").expect(0);
    // The index of the administrator is to know them first.
    two.env.check();
    // While the packs of mx1 are out of reach, mx2 stores all that is in them.
    let (packs, away) = (two.env.repository.join("packs"), two.env.path("away"));
    fs::rename(&packs, &away).unwrap();
    fs::create_dir(&packs).unwrap();
    assert!(two.back_up("mx2.key").json()["new_bytes"].as_u64().unwrap() > 0);
    copy_folder(&away, &packs);
    two.env.check();
    two.env.mailark(["key", "revoke", "mx2"]).expect(0);
    two.back_up("mx1.key").expect(0);
    two.env.mailark(["prune", "--now", "--max-unused", "0"]).expect(0);
    let again = two.back_up("mx1.key").expect(0).json();
    assert_eq!((&again["files_read"], &again["new_bytes"]), (&0.into(), &0.into()), "{again}");
    two.restores("mx1", "restored-1");
    two.restores("mx2", "restored-2");
    two.env.check();
}

/// Revokes a host of the repository at `root`.
fn revoking(root: &Path, key: Vec<u8>, host: &'static str) -> Event {
    let root = root.to_owned();
    Box::new(move || {
        let (repository, _) = paused::open(&root, &[key], Vec::new());
        revoke::run(&repository, host, &Interrupt::default()).unwrap();
    })
}

#[test]
fn a_run_that_a_revocation_befalls_reports_only_what_counts() {
    let two = Two::new();
    let (full, writer) = (fs::read(&two.env.key_file).unwrap(), fs::read(two.key("mx1.key")).unwrap());
    two.tree.file("alice/cur/new", crate::tree::mail(88));
    settle();
    let (mut counted, mut refused) = (0, 0);
    for call in 0.. {
        let root = two.env.path("stopped");
        let _ = fs::remove_dir_all(&root);
        copy_folder(&two.env.repository, &root);
        let event = revoking(&root, full.clone(), "mx1");
        let (repository, store) = paused::open(&root, std::slice::from_ref(&writer), vec![(call, event)]);
        let index = new_index(&repository);
        let outcome = back_up(&repository, &index, ("mx1", "data", &two.tree.root));
        let calls = store.calls.load(std::sync::atomic::Ordering::SeqCst);
        let (repository, _) = paused::open(&root, std::slice::from_ref(&full), Vec::new());
        let listed = snapshots::list(&repository).unwrap();
        let of_mx1 = listed.snapshots.iter().filter(|info| info.snapshot.host_name == "mx1").count();
        match outcome {
            Ok(()) => {
                assert_eq!(of_mx1, 2, "revoked before call {call}: it is reported, and does not count");
                counted += 1;
            }
            Err(error) => {
                assert!(error.contains("was revoked"), "call {call}: {error}");
                assert_eq!(of_mx1, 1, "call {call}");
                refused += 1;
            }
        }
        if call >= calls {
            break;
        }
    }
    assert!(counted >= 2 && refused > 10, "{counted} counted, {refused} did not");
}

#[test]
fn removing_a_slot_says_what_it_does_not_do() {
    let env = TestEnv::with_repository();
    let file = env.path("password");
    crate::support::write_private(&file, b"not a good one");
    let add = ["key", "add", "--json", "--new-password-file", file.to_str().unwrap()];
    let id = env.mailark(add).expect(0).json()["id"].as_str().unwrap().to_owned();
    let said = env.mailark(["key", "remove", &id]).expect(0);
    assert!(said.stdout.contains("Whoever copied the slot before"), "{}", said.both());
    assert!(said.stdout.contains("only a new repository helps"), "{}", said.both());
    let writer = env.path("mx1.key");
    let add =
        ["key", "add", "--json", "--writer", "--host", "mx1", "--new-key-file", writer.to_str().unwrap()];
    let id = env.mailark(add).expect(0).json()["id"].as_str().unwrap().to_owned();
    let said = env.mailark(["key", "remove", &id]).expect(0);
    assert!(said.stdout.contains("'mailark key revoke mx1' ends that"), "{}", said.both());
}
