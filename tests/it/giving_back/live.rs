//! What every delivery promises, seen by a client.

use std::collections::BTreeMap;

use super::site::{SLASH, Site, View, Ways, ask, message, restored};

/// A mailbox with a history: flags, keywords, old dates, a second folder.
fn furnished(site: &Site) {
    let mut session = site.session();
    for name in ["Work", "Archive"] {
        ask(&mut session, &format!("CREATE {name}"));
    }
    drop(session);
    for number in 1..=5 {
        site.deliver("INBOX", &message(number));
    }
    for number in 11..=13 {
        site.deliver("Work", &message(number));
    }
    let mut session = site.session();
    ask(&mut session, "SELECT INBOX");
    ask(&mut session, "STORE 2 +FLAGS (\\Seen \\Answered $Forwarded invoices)");
    ask(&mut session, "STORE 3 +FLAGS (\\Flagged)");
    ask(&mut session, "SELECT Work");
    ask(&mut session, "STORE 1:2 +FLAGS (\\Seen later)");
    drop(session);
}

/// Nothing of the old may be different but the messages that are named, and new ones have new UIDs.
#[track_caller]
fn assert_kept(before: &View, after: &View) {
    assert_eq!(before.validity, after.validity);
    assert!(after.next >= before.next);
    for (uid, seen) in &after.messages {
        match before.messages.get(uid) {
            Some(old) => assert_eq!(old, seen, "UID {uid}"),
            None => assert!(*uid >= before.next, "UID {uid} was another message's"),
        }
    }
    assert!(before.messages.keys().all(|uid| after.messages.contains_key(uid)));
}

/// New mail after a delivery gets UIDs that nobody had.
#[track_caller]
fn assert_next_is_new(site: &Site, folders: &[&str]) {
    for folder in folders {
        let before = site.view(folder);
        site.deliver(folder, &message(99));
        let after = site.view(folder);
        assert_kept(&before, &after);
        assert_eq!(after.messages.len(), before.messages.len() + 1);
    }
}

fn round(name: &str, ways: Ways, into: &str) {
    let Some(site) = Site::new(name, ways) else { return };
    furnished(&site);
    let was: BTreeMap<&str, View> = ["INBOX", "Work"].map(|name| (name, site.view(name))).into();
    let letters = site.letters();
    assert_eq!(letters.len(), 8);
    site.expunge("INBOX", 2);
    site.expunge("INBOX", 4);
    site.expunge("Work", 1);
    let before: BTreeMap<&str, View> = ["INBOX", "Work"].map(|name| (name, site.view(name))).into();
    let files = site.files();
    let mut meanwhile = site.session();
    ask(&mut meanwhile, "SELECT INBOX");

    let report = site.give_back(&letters, &["--into", into]);
    assert_eq!(
        (report["brought"].as_u64(), report["still_there_count"].as_u64()),
        (Some(3), Some(5)),
        "{report}"
    );

    // Nothing that lay there has changed.
    let after = site.files();
    assert!(files.iter().all(|(path, is)| after.get(path) == Some(is)));
    ask(&mut meanwhile, "NOOP");
    ask(&mut meanwhile, "UID FETCH 1:* (FLAGS)");
    let separator = if ways.settings.is_empty() { "." } else { "/" };
    let separator = if ways.fs { "/" } else { separator };
    for folder in ["INBOX", "Work"] {
        assert_kept(&before[folder], &site.view(folder));
        let given = match into {
            "original" => folder.to_owned(),
            _ => format!("{}{separator}{folder}", restored(&site, separator)),
        };
        let given = site.view(&given);
        let lost: Vec<_> = was[folder]
            .messages
            .iter()
            .filter(|(uid, _)| !before[folder].messages.contains_key(uid))
            .collect();
        for (_, lost) in lost {
            let same = given.messages.values().filter(|seen| *seen == lost).count();
            assert_eq!(same, 1, "{folder}: {lost:?} in {given:?}");
        }
    }
    // Once more: nothing is added.
    let again = site.give_back(&letters, &["--into", into]);
    assert_eq!(
        (again["brought"].as_u64(), again["still_there_count"].as_u64()),
        (Some(0), Some(8)),
        "{again}"
    );
    assert_eq!(again["run"], serde_json::Value::Null);
    assert_eq!(site.files().len(), after.len());
    assert_next_is_new(&site, &["INBOX", "Work"]);
    assert_eq!(site.dovecot.complaints(), Vec::<String>::new());
}

#[test]
fn into_a_folder_of_its_own() {
    round("into Restored", Ways::default(), "restored");
}

#[test]
fn into_the_original_folders() {
    round("into original folders", Ways::default(), "original");
}

#[test]
fn with_a_control_directory_and_another_separator() {
    let ways = Ways { control: true, settings: SLASH, ..Ways::default() };
    round("CONTROL= into Restored", ways, "restored");
    round("CONTROL= into original folders", ways, "original");
}

#[test]
fn with_folders_in_folders() {
    for control in [false, true] {
        let ways = Ways { fs: true, control, settings: SLASH };
        round("LAYOUT=fs into Restored", ways, "restored");
        round("LAYOUT=fs into original folders", ways, "original");
    }
}

/// Everything that a client sees of some folders.
fn views(site: &Site, folders: &[&str]) -> Vec<View> {
    folders.iter().map(|folder| site.view(folder)).collect()
}

#[test]
fn what_was_brought_is_taken_back_and_nothing_else() {
    for ways in [
        Ways::default(),
        Ways { control: true, settings: SLASH, ..Ways::default() },
        Ways { control: true, fs: true, settings: SLASH },
    ] {
        let Some(site) = Site::new("undo", ways) else { return };
        furnished(&site);
        let letters = site.letters();
        (2..=4).for_each(|uid| site.expunge("INBOX", uid));
        let inbox: Vec<_> = letters.into_iter().filter(|(letter, _)| letter.folder == "INBOX").collect();
        let before = views(&site, &["INBOX", "Work"]);
        let folder = restored(&site, if ways.settings.is_empty() { "." } else { "/" });
        let run = site.give_back(&inbox, &[])["run"].as_str().unwrap().to_owned();
        assert_eq!(site.view(&folder).messages.len(), 3);
        let whole = site.view(&folder);
        // Taken back at once: the folder goes, its subscription too.
        site.env.mailark(["restore", "--undo", &run]).expect(0);
        assert!(site.view_of(&folder).is_none());
        assert!(!ask(&mut site.session(), "LSUB \"\" *").iter().any(|line| line.contains("Restored")));
        assert!(!ask(&mut site.session(), "LIST \"\" *").iter().any(|line| line.contains("Restored")));
        assert_eq!(views(&site, &["INBOX", "Work"]), before);
        // And put back, with the UIDs that clients have seen.
        site.env.mailark(["restore", "--redo", &run]).expect(0);
        assert_eq!(site.view(&folder), whole);
        // Now the user has moved one, flagged another, and put mail of his own there.
        let mut session = site.session();
        ask(&mut session, &format!("SELECT \"{folder}\""));
        ask(&mut session, "MOVE 1 Work");
        ask(&mut session, "STORE 2 +FLAGS (\\Flagged)");
        drop(session);
        site.deliver(&folder, &message(77));
        site.env.mailark(["restore", "--undo", &run]).expect(0);
        assert_eq!(site.view(&folder).only().text, message(77));
        assert_eq!(site.view("Work").messages.len(), before[1].messages.len() + 1);
        site.env.mailark(["restore", "--redo", &run]).expect(0);
        let again = site.view(&folder);
        assert_eq!(again.messages.len(), 3);
        assert_eq!(
            again.messages.values().filter(|seen| seen.flags.contains(&"\\Flagged".to_owned())).count(),
            2
        );
        assert!(again.next > whole.next);
        assert_eq!(site.dovecot.complaints(), Vec::<String>::new());
    }
}

#[test]
fn flags_are_given_back_without_touching_content() {
    let Some(site) = Site::new("flags only", Ways::default()) else { return };
    furnished(&site);
    let was = views(&site, &["INBOX", "Work"]);
    let letters = site.letters();
    // Somebody marked everything read, and more; one message is gone, one was moved.
    let mut session = site.session();
    ask(&mut session, "SELECT INBOX");
    ask(&mut session, "STORE 1:* FLAGS (\\Seen)");
    ask(&mut session, "UID STORE 5 +FLAGS (\\Deleted)");
    ask(&mut session, "UID MOVE 3 Work");
    ask(&mut session, "SELECT Work");
    ask(&mut session, "STORE 1 -FLAGS (\\Seen later)");
    drop(session);
    site.expunge("INBOX", 4);
    let damaged = views(&site, &["INBOX", "Work"]);
    let mut meanwhile = site.session();
    ask(&mut meanwhile, "SELECT INBOX");
    let files = site.files();
    let report =
        site.apply(&super::site::stream(&letters), &["--flags-only"]).expect(0).json()["flags"][0].take();
    assert_eq!(
        (report["gone"].as_u64(), report["keywords_left"].as_object().unwrap().len()),
        (Some(1), 0),
        "{report}"
    );
    ask(&mut meanwhile, "NOOP");
    // The same files with the same times; only their names are others.
    let content = |files: &BTreeMap<std::path::PathBuf, (Vec<u8>, u64, std::time::SystemTime)>| {
        files.values().map(|(_, inode, time)| (*inode, *time)).collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(content(&files), content(&site.files()));
    let now = views(&site, &["INBOX", "Work"]);
    for (uid, seen) in &now[0].messages {
        assert_eq!(Some(seen), was[0].messages.get(uid), "UID {uid}");
    }
    for (uid, seen) in &was[1].messages {
        assert_eq!(Some(seen), now[1].messages.get(uid), "UID {uid}");
    }
    let moved = now[1].messages.values().find(|seen| seen.text == message(3)).unwrap();
    assert_eq!(moved.flags, ["\\Flagged"]);
    // A second time there is nothing to do.
    let again =
        site.apply(&super::site::stream(&letters), &["--flags-only"]).expect(0).json()["flags"][0].take();
    assert_eq!((again["set"].as_u64(), again["same"].as_u64()), (Some(0), Some(7)), "{again}");
    // Turned back, but for what somebody has set himself since.
    let mut session = site.session();
    ask(&mut session, "SELECT INBOX");
    ask(&mut session, "UID STORE 1 +FLAGS (\\Answered)");
    drop(session);
    site.env.mailark(["restore", "--undo", report["run"].as_str().unwrap()]).expect(0);
    let turned = views(&site, &["INBOX", "Work"]);
    assert_eq!(turned[1], damaged[1]);
    for (uid, seen) in &turned[0].messages {
        let mut wanted = damaged[0].messages[uid].clone();
        if *uid == 1 {
            wanted.flags.insert(0, "\\Answered".to_owned());
        }
        assert_eq!(seen, &wanted, "UID {uid}");
    }
    assert_eq!(site.dovecot.complaints(), Vec::<String>::new());
}
