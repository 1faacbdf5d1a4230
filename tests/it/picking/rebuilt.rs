//! Lost mailboxes come back under a real Dovecot: clients keep their caches, and no UID names two messages.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use super::back_up;
use super::mailbox::{Folder, Mailbox, ask, body, look};
use crate::imap::give;
use crate::support::{Output, TestEnv, run};

/// Everything that any session has ever shown: (folder, UIDVALIDITY, UID) -> Message-ID.
#[derive(Default)]
struct Shown(BTreeMap<(String, u64, u64), String>);

impl Shown {
    #[track_caller]
    fn note(&mut self, name: &str, folder: &Folder) {
        for (uid, seen) in &folder.messages {
            let known =
                self.0.entry((name.to_owned(), folder.validity, *uid)).or_insert_with(|| seen.id.clone());
            assert_eq!(*known, seen.id, "UID {uid} of {name} was another message's before");
        }
    }

    #[track_caller]
    fn note_all(&mut self, mailbox: &Mailbox) -> BTreeMap<String, Folder> {
        let all = mailbox.look_at_all();
        all.iter().for_each(|(name, folder)| self.note(name, folder));
        all
    }
}

fn rebuild(env: &TestEnv, maildir: &Path, more: &[&str]) -> Output {
    let mut command = env.command(["restore", "--user", "alice@example.org", "--rebuild"]);
    run(command.arg(maildir).args(more))
}

/// What the tests run as may not be what Dovecot runs as.
fn hand_over(mailbox: &Mailbox) {
    give(&mailbox.vmail).unwrap();
}

#[test]
fn a_lost_maildir_comes_back_and_clients_notice_nothing() {
    let env = TestEnv::with_repository();
    let Some(mailbox) = Mailbox::new(&env, "a rebuilt Maildir") else { return };
    mailbox.live();
    let mut shown = Shown::default();
    let before = shown.note_all(&mailbox);
    let inbox = &before["INBOX"];
    let texts: BTreeMap<u64, String> = {
        let mut session = mailbox.session();
        ask(&mut session, "SELECT INBOX");
        inbox.messages.keys().map(|uid| (*uid, body(&mut session, *uid))).collect()
    };
    back_up(&env, &mailbox.vmail);
    // What came after the backup was shown, and is lost.
    (0..5).for_each(|number| mailbox.deliver("INBOX", &format!("lost{number}")));
    shown.note_all(&mailbox);
    fs::remove_dir_all(mailbox.vmail.join("example.org")).unwrap();

    let plan = rebuild(&env, &mailbox.maildir, &["-n", "--json"]).expect(0).json();
    assert_eq!(plan["folders"][0]["way"], "new");
    assert!(!mailbox.maildir.exists());
    let said = rebuild(&env, &mailbox.maildir, &[]).expect(0);
    assert!(
        said.stdout.contains("doveadm mailbox update -u alice@example.org --min-next-uid 1"),
        "{}",
        said.both()
    );
    hand_over(&mailbox);
    let after = shown.note_all(&mailbox);
    for (name, folder) in &before {
        let now = &after[name];
        assert_eq!((now.validity, &now.messages), (folder.validity, &folder.messages), "{name}");
        assert!(now.next >= folder.next + 10_000, "{name}: {} {}", now.next, folder.next);
    }
    let mut session = mailbox.session();
    ask(&mut session, "SELECT INBOX");
    texts.iter().for_each(|(uid, text)| assert_eq!(body(&mut session, *uid), *text));
    let subscribed = ask(&mut session, "LSUB \"\" *");
    assert!(subscribed.iter().any(|line| line.contains("Archive.2026")), "{subscribed:?}");
    // New mail, while that session is open.
    mailbox.deliver("INBOX", "new");
    mailbox.deliver("Archive.2026", "new in archive");
    ask(&mut session, "NOOP");
    let last = shown.note_all(&mailbox);
    assert!(last["INBOX"].uid("new").unwrap() >= inbox.next + 10_000);
    shown.note("INBOX", &look(&mut session, "INBOX"));
    assert_eq!(mailbox.dovecot.complaints(), [""; 0]);
}

#[test]
fn a_mailbox_that_was_wiped_and_made_again_loses_nothing() {
    let env = TestEnv::with_repository();
    let Some(mailbox) = Mailbox::new(&env, "a mailbox that was made again") else { return };
    mailbox.live();
    let mut shown = Shown::default();
    let before = shown.note_all(&mailbox);
    back_up(&env, &mailbox.vmail);
    fs::remove_dir_all(&mailbox.maildir).unwrap();
    // UIDVALIDITY is the second, or a little more for a second folder: later ones have to come.
    let second = u64::try_from(jiff::Timestamp::now().as_second()).unwrap();
    let newest = before.values().map(|folder| folder.validity).max().unwrap().max(second);
    crate::support::wait_until("a second", || jiff::Timestamp::now().as_second() > newest as i64 + 1);
    fs::create_dir(&mailbox.maildir).unwrap();
    hand_over(&mailbox);
    mailbox.deliver("INBOX", "after1");
    let mut open = mailbox.session();
    let wiped = look(&mut open, "INBOX");
    assert_ne!(wiped.validity, before["INBOX"].validity);
    shown.note("INBOX", &wiped);
    ask(&mut open, "STORE 1 +FLAGS (\\Seen fresh)");
    mailbox.deliver("INBOX", "after2");
    ask(&mut open, "NOOP");

    let report = rebuild(&env, &mailbox.maildir, &["--json"]).expect(0).json();
    assert_eq!(report["live_only"], 2, "{report}");
    let ways: Vec<&str> =
        report["folders"].as_array().unwrap().iter().map(|one| one["way"].as_str().unwrap()).collect();
    assert_eq!(ways, ["replace", "new"]);
    let aside = Path::new(report["aside"].as_str().unwrap()).to_owned();
    assert!(aside.join("dovecot-uidlist").exists(), "what was there is kept");
    assert!(!mailbox.maildir.join("dovecot-uidlist.lock").exists());
    hand_over(&mailbox);
    // The session that was open all the time shows no old UID for another message, if it goes on at all.
    if let Ok(answer) = open.ask("NOOP") {
        drop(answer);
    }
    let after = shown.note_all(&mailbox);
    let (old, now) = (&before["INBOX"], &after["INBOX"]);
    assert_eq!(now.validity, old.validity);
    for (uid, seen) in &old.messages {
        assert_eq!(now.messages.get(uid), Some(seen));
    }
    for id in ["after1", "after2"] {
        assert!(now.uid(id).unwrap() >= old.next + 10_000, "{id}");
    }
    let first = &now.messages[&now.uid("after1").unwrap()];
    assert_eq!(first.flags, ["\\Seen", "fresh"], "flags and keywords of live mail are kept");
    assert_eq!(now.messages.len(), old.messages.len() + 2);
    assert_eq!(after["Archive.2026"].messages, before["Archive.2026"].messages);
    mailbox.deliver("INBOX", "new");
    shown.note_all(&mailbox);
    // Once more: nothing is doubled, and nothing goes aside.
    let again = rebuild(&env, &mailbox.maildir, &["--json"]).expect(0).json();
    assert_eq!((again["merged"].as_u64(), again["aside"].is_null()), (Some(0), true), "{again}");
    let last = shown.note_all(&mailbox);
    assert_eq!(last["INBOX"].messages.len(), old.messages.len() + 3);
    assert_eq!(mailbox.dovecot.complaints(), [""; 0]);
}

#[test]
fn a_live_maildir_of_the_same_numbering_gets_back_what_it_lacks() {
    let env = TestEnv::with_repository();
    let Some(mailbox) = Mailbox::new(&env, "a live Maildir that lacks messages") else { return };
    mailbox.live();
    let mut shown = Shown::default();
    let before = shown.note_all(&mailbox);
    back_up(&env, &mailbox.vmail);
    let mut open = mailbox.session();
    ask(&mut open, "SELECT INBOX");
    // A client throws one away for good, and a new one comes.
    ask(&mut open, "STORE 1 +FLAGS (\\Deleted)");
    ask(&mut open, "EXPUNGE");
    // Another is put into another folder.
    let kept = before["INBOX"].uid("m4").unwrap();
    ask(&mut open, &format!("UID MOVE {kept} {}", mailbox.archive));
    mailbox.deliver("INBOX", "later");
    ask(&mut open, "NOOP");
    let live = shown.note_all(&mailbox);
    let lost = before["INBOX"].messages.values().next().unwrap().clone();
    let report = rebuild(&env, &mailbox.maildir, &["--json"]).expect(0).json();
    assert_eq!((report["merged"].as_u64(), report["moved"].as_u64()), (Some(1), Some(1)), "{report}");
    hand_over(&mailbox);
    ask(&mut open, "NOOP");
    let after = shown.note_all(&mailbox);
    let now = &after["INBOX"];
    for (uid, seen) in &live["INBOX"].messages {
        assert_eq!(now.messages.get(uid), Some(seen), "live mail is as it was");
    }
    assert_eq!(
        (now.uid("m4"), after[&mailbox.archive].uid("m4").is_some()),
        (None, true),
        "what moved stays there"
    );
    let back = now.uid(&lost.id).unwrap();
    assert!(back >= live["INBOX"].next, "a client that saw it go would never look at its old UID again");
    assert_eq!(now.messages[&back], lost, "flags, keywords and date");
    shown.note("INBOX", &look(&mut open, "INBOX"));
    assert_eq!(mailbox.dovecot.complaints(), [""; 0]);
}

#[test]
fn doveadm_raises_what_files_cannot() {
    let env = TestEnv::with_repository();
    let Some(mailbox) = Mailbox::new(&env, "modification sequences after a rebuild") else { return };
    mailbox.live();
    let before = mailbox.look_at_all();
    back_up(&env, &mailbox.vmail);
    fs::remove_dir_all(&mailbox.maildir).unwrap();
    let Some(_) = mailbox.doveadm(&env) else {
        return crate::support::skipped("modification sequences after a rebuild", "doveadm is not installed");
    };
    let elsewhere = rebuild(&env, &env.path("elsewhere"), &["--json"]).expect(0);
    assert_eq!(elsewhere.json()["doveadm_ran"], false, "that is not where the mail is");
    // Owners are those of the snapshot, so Dovecot can be called at once.
    let report = rebuild(&env, &mailbox.maildir, &["--json"]).expect(0);
    assert_eq!(report.json()["doveadm_ran"].as_bool(), Some(true), "{}", report.both());
    let after = mailbox.look_at_all();
    for (name, folder) in &before {
        assert_eq!(after[name].messages, folder.messages, "{name}");
        assert!(
            after[name].modseq > folder.modseq + 1_000_000,
            "{name}: {} {}",
            after[name].modseq,
            folder.modseq
        );
        assert!(after[name].next >= folder.next + 10_000);
    }
}

#[test]
fn a_rebuilt_maildir_brings_everything_into_any_dovecot_format() {
    let env = TestEnv::with_repository();
    let Some(mailbox) = Mailbox::with_separator(&env, "a rebuilt Maildir through dsync", '/') else { return };
    let Some(doveadm) = mailbox.doveadm(&env) else {
        return crate::support::skipped("a rebuilt Maildir through dsync", "doveadm is not installed");
    };
    mailbox.live();
    let before = mailbox.look_at_all();
    back_up(&env, &mailbox.vmail);
    let rebuilt = env.path("vmail/rebuilt");
    rebuild(&env, &rebuilt, &[]).expect(0);
    hand_over(&mailbox);
    // Twice: what is there is not doubled.
    for format in ["mdbox", "sdbox", "mdbox"] {
        let place = env.folder(&format!("vmail/{format}"));
        give(&place).unwrap();
        let location = format!("{format}:{}", place.display());
        let mut sync = Command::new(&doveadm);
        sync.env("LOCATION", &location).args(["sync", "-1", "-R", "-u", "alice"]);
        let said = run(sync.arg(format!("maildir:{}", rebuilt.display())));
        assert_eq!(said.code, 0, "{}", said.both());
        let mut session = mailbox.dovecot.session_in("alice@example.org", &location).unwrap();
        for (name, folder) in &before {
            let own =
                if format == "mdbox" || format == "sdbox" { name.replace('.', "/") } else { name.clone() };
            let now = look(&mut session, &own);
            assert_eq!((now.validity, &now.messages), (folder.validity, &folder.messages), "{format} {name}");
            assert!(now.next >= folder.next + 10_000, "{format} {name}: {} {}", now.next, folder.next);
        }
        let subscribed = ask(&mut session, "LSUB \"\" *");
        assert!(subscribed.iter().any(|line| line.contains("2026")), "{subscribed:?}");
    }
}

#[test]
fn mail_that_comes_while_a_mailbox_is_rebuilt_is_not_lost() {
    let env = TestEnv::with_repository();
    let Some(mailbox) = Mailbox::new(&env, "a rebuild under delivery") else { return };
    mailbox.live();
    let mut shown = Shown::default();
    let before = shown.note_all(&mailbox);
    back_up(&env, &mailbox.vmail);
    for round in 0..3 {
        fs::remove_dir_all(&mailbox.maildir).unwrap();
        let second = jiff::Timestamp::now().as_second().max(before["INBOX"].validity as i64) + round;
        crate::support::wait_until("a second", || jiff::Timestamp::now().as_second() > second + 1);
        fs::create_dir(&mailbox.maildir).unwrap();
        hand_over(&mailbox);
        mailbox.deliver("INBOX", &format!("first{round}"));
        let stop = std::sync::atomic::AtomicBool::new(false);
        let delivered = std::thread::scope(|scope| {
            let deliverer = scope.spawn(|| {
                let mut count = 0;
                // A delivery may fail in this very moment; a mail server tries again.
                while !stop.load(std::sync::atomic::Ordering::Relaxed) || count < 3 {
                    let text = format!("Message-ID: <r{round}n{count}>\n\nx\n");
                    let deliver = || {
                        mailbox.dovecot.deliver("alice", &mailbox.maildir, "INBOX", text.as_bytes()).unwrap()
                    };
                    while !deliver() {}
                    count += 1;
                }
                count
            });
            let report = rebuild(&env, &mailbox.maildir, &["--json"]).expect(0).json();
            assert_eq!(report["folders"][0]["way"], "replace");
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
            deliverer.join().unwrap()
        });
        hand_over(&mailbox);
        let after = mailbox.look_at_all();
        let now = &after["INBOX"];
        assert_eq!(now.validity, before["INBOX"].validity);
        let mut ids: Vec<&str> = now.messages.values().map(|seen| seen.id.as_str()).collect();
        ids.sort_unstable();
        let mut expected: Vec<String> = (0..delivered).map(|count| format!("r{round}n{count}")).collect();
        expected.push(format!("first{round}"));
        expected.extend(before["INBOX"].messages.values().map(|seen| seen.id.clone()));
        expected.sort_unstable();
        assert_eq!(ids, expected, "each message once");
        for (uid, seen) in &before["INBOX"].messages {
            assert_eq!(now.messages.get(uid), Some(seen));
        }
    }
}

#[test]
fn control_files_that_lie_elsewhere_are_found() {
    let env = TestEnv::with_repository();
    let Some(mailbox) = Mailbox::new(&env, "a control directory elsewhere") else { return };
    let control = mailbox.vmail.join("control/alice@example.org");
    fs::create_dir_all(&control).unwrap();
    hand_over(&mailbox);
    let location = format!("maildir:{}:CONTROL={}", mailbox.maildir.display(), control.display());
    let session = || mailbox.dovecot.session_in("alice@example.org", &location).unwrap();
    let mut open = session();
    ask(&mut open, "CREATE Work");
    for folder in ["INBOX", "Work"] {
        for id in ["a", "b"] {
            let text = format!("Message-ID: <{id}>\r\n\r\nx\r\n");
            ask(&mut open, &format!("APPEND {folder} (\\Seen todo) {{{}+}}\r\n{text}", text.len()));
        }
    }
    let before: Vec<Folder> = ["INBOX", "Work"].iter().map(|name| look(&mut open, name)).collect();
    assert!(!mailbox.maildir.join("dovecot-uidlist").exists());
    back_up(&env, &mailbox.vmail);
    let rebuilt = env.path("vmail/rebuilt");
    rebuild(&env, &rebuilt, &[]).expect(0);
    hand_over(&mailbox);
    let mut session = mailbox.dovecot.session("alice@example.org", &rebuilt).unwrap();
    for (name, folder) in ["INBOX", "Work"].iter().zip(&before) {
        let now = look(&mut session, name);
        assert_eq!((now.validity, &now.messages), (folder.validity, &folder.messages), "{name}");
        assert_eq!(now.messages.values().next().unwrap().flags, ["\\Seen", "todo"]);
    }
}

#[test]
fn messages_of_dbox_files_are_given_out() {
    let env = TestEnv::with_repository();
    let Some(mailbox) = Mailbox::new(&env, "messages out of dbox") else { return };
    for format in ["sdbox", "mdbox"] {
        let place = mailbox.vmail.join("example.org/alice").join(format);
        fs::create_dir_all(&place).unwrap();
        hand_over(&mailbox);
        let location = format!("{format}:{}", place.display());
        let mut session = mailbox.dovecot.session_in("alice@example.org", &location).unwrap();
        ask(&mut session, "CREATE Work");
        for (folder, id) in [("INBOX", "a"), ("INBOX", "b"), ("Work", "c")] {
            let text = format!("Message-ID: <{format}-{id}>\r\nSubject: {id}\r\n\r\nbody of {id}\r\n");
            let append =
                format!("APPEND {folder} () \" 5-Mar-2026 10:11:12 +0100\" {{{}+}}\r\n{text}", text.len());
            ask(&mut session, &append);
        }
    }
    fs::remove_dir_all(&mailbox.maildir).unwrap();
    back_up(&env, &mailbox.vmail);
    super::give(&env, "eml", &["--as", "eml", "--zone", "Europe/Berlin"]).expect(0);
    for (folder, count) in [("INBOX", 4), ("Work", 2)] {
        let files = crate::support::files_below(&env.path("eml").join(folder));
        assert_eq!(files.len(), count, "{files:?}");
        for file in files {
            assert!(
                file.file_name().unwrap().to_str().unwrap().starts_with("2026-03-05_101112_"),
                "{file:?}"
            );
            assert!(fs::read_to_string(file).unwrap().contains("body of"));
        }
    }
    super::give(&env, "one", &["--message", "mdbox-b@x", "--as", "mbox"]).expect(1);
    super::give(&env, "one", &["--message", "<mdbox-c>", "--as", "mbox"]).expect(0);
    assert!(env.path("one/Work.mbox").exists());
}

#[test]
fn a_second_rebuild_changes_nothing() {
    let env = TestEnv::with_repository();
    let (vmail, alice) = super::post(&env);
    let first = super::arrive(&alice, "one", 1, "S");
    let numbers = |next: u32| format!("3 V1700000000 N{next} Gccdd\n2 :{first}:2,S\n");
    fs::write(alice.join("dovecot-uidlist"), numbers(5)).unwrap();
    back_up(&env, &vmail);
    fs::remove_dir_all(&alice).unwrap();
    let next = |more: &[&str]| {
        let report = rebuild(&env, &alice, &[&["--json"], more].concat()).expect(0).json();
        let calls = report["doveadm"].as_array().map_or(0, Vec::len);
        (report["folders"][0]["next_uid"].as_u64().unwrap(), calls)
    };
    let (given, calls) = next(&[]);
    assert!(given >= 10_005 && calls == 2, "{given} {calls}");
    let list = || fs::read_to_string(alice.join("dovecot-uidlist")).unwrap();
    let after = list();
    assert!(after.contains(&format!("N{given} ")), "{after}");
    for is_saved in [false, true] {
        if is_saved {
            back_up(&env, &vmail);
        }
        for more in [&["-n"][..], &[]] {
            assert_eq!(next(more), (given, 0), "saved: {is_saved}");
            assert_eq!(list(), after);
        }
    }
    // A list that somebody put back needs room, although the numbering is the same.
    fs::write(alice.join("dovecot-uidlist"), numbers(5)).unwrap();
    let (raised, calls) = next(&[]);
    assert!(raised >= given + 10_000 && calls == 2, "{raised} {calls}");
}
