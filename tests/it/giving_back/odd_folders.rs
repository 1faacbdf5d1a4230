//! Folders that cannot take mail, or not quite: each fails alone, and what little is missing is made.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::hostile::{apply, maildir, messages};
use super::site::{letter, message, stream};
use crate::support::{TestEnv, files_below};

/// What a run that is done in part reports.
fn in_part(env: &TestEnv, mail: &Path, folders: &[&str], more: &[&str]) -> (Value, String) {
    let letters: Vec<_> = folders
        .iter()
        .enumerate()
        .map(|(number, folder)| letter(folder, &format!("17.M{number}P1.mx"), &message(number as u32)))
        .collect();
    let output = apply(env, mail, &stream(&letters), more).expect(3);
    let told = output.json()["deliveries"][0]["problems"].to_string();
    (output.json()["deliveries"][0].take(), told)
}

/// Nothing of ours is left in the mailbox but mail.
fn assert_clean(mail: &Path) {
    assert_eq!(files_below(&mail.join("tmp")), Vec::<PathBuf>::new());
    let own = fs::read_dir(mail)
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_str().unwrap().contains("mailark-"));
    assert_eq!(own.count(), 0);
}

#[test]
fn one_bad_folder_fails_alone() {
    for kind in ["link", "file", "linked new", "linked cur", "linked list", "linked keywords"] {
        let env = TestEnv::new();
        let (mail, away) = (env.path("mail"), env.path("away"));
        for path in [mail.clone(), mail.join(".Good"), away.clone()] {
            maildir(&path);
        }
        fs::write(away.join("secret"), "secret").unwrap();
        let bad = mail.join(".Bad");
        let part = |name: &str, to: &str| {
            maildir(&bad);
            fs::remove_dir(bad.join(name)).ok();
            symlink(away.join(to), bad.join(name)).unwrap();
        };
        match kind {
            "link" => symlink(&away, &bad).unwrap(),
            "file" => fs::write(&bad, "").unwrap(),
            "linked new" => part("new", "new"),
            "linked cur" => part("cur", "cur"),
            "linked list" => part("dovecot-uidlist", "secret"),
            _ => part("dovecot-keywords", "secret"),
        }
        let folders = ["INBOX", "Bad", "Good", "Bad"];
        for brought in [2, 0] {
            let (report, told) = in_part(&env, &mail, &folders, &["--into", "original"]);
            assert_eq!(report["brought"], brought, "{kind}: {report}");
            assert!(told.contains("folder Bad"), "{kind}: {told}");
            assert_clean(&mail);
            assert_eq!(files_below(&away), [away.join("secret")], "{kind}");
        }
        if kind == "linked list" {
            let flags =
                apply(&env, &mail, &stream(&[letter("Good", "17.M2P1.mx", &message(2))]), &["--flags-only"]);
            let report = flags.expect(3).json()["flags"][0].take();
            assert_eq!(report["same"], 1, "{report}");
            assert!(report["problems"][0].as_str().unwrap().contains("folder Bad"), "{report}");
        }
        // When it is mended, the same command brings what is missing.
        fs::remove_file(&bad).or_else(|_| fs::remove_dir_all(&bad)).unwrap();
        maildir(&bad);
        let letters: Vec<_> = (0..4)
            .map(|number| letter(folders[number], &format!("17.M{number}P1.mx"), &message(number as u32)))
            .collect();
        let report = apply(&env, &mail, &stream(&letters), &["--into", "original"]).expect(0).json();
        assert_eq!(report["deliveries"][0]["brought"], 2, "{kind}: {report}");
        assert_eq!(messages(&mail).len(), 4);
        assert_clean(&mail);
    }
}

#[test]
fn missing_parts_of_a_maildir_are_made() {
    for missing in ["new", "tmp"] {
        let env = TestEnv::new();
        let mail = env.path("mail");
        for path in [mail.clone(), mail.join(".Work")] {
            maildir(&path);
            fs::set_permissions(path.join("cur"), fs::Permissions::from_mode(0o750)).unwrap();
            fs::remove_dir(path.join(missing)).unwrap();
        }
        let mut unseen: Vec<_> = ["INBOX", "Work"]
            .iter()
            .enumerate()
            .map(|(n, folder)| letter(folder, &format!("17.M{n}P1.mx"), &message(n as u32)))
            .collect();
        for (letter, _) in &mut unseen {
            (letter.unseen_by_any, letter.flags) = (true, Vec::new());
        }
        let bytes = stream(&unseen);
        let planned = apply(&env, &mail, &bytes, &["--into", "original", "--dry-run"]).expect(0).json();
        assert_eq!(planned["deliveries"][0]["brought"], 2, "{planned}");
        assert!(!mail.join(missing).exists() && !mail.join(".Work").join(missing).exists());
        let report = apply(&env, &mail, &bytes, &["--into", "original"]).expect(0).json();
        assert_eq!(report["deliveries"][0]["brought"], 2, "{report}");
        for made in [mail.join(missing), mail.join(".Work").join(missing)] {
            assert_eq!(fs::metadata(&made).unwrap().permissions().mode() & 0o7777, 0o750);
        }
        assert_clean(&mail);
        // What was brought goes again, too.
        fs::remove_dir(mail.join("tmp")).unwrap();
        let run = report["deliveries"][0]["run"].as_str().unwrap();
        env.mailark(["restore", "--undo", run]).expect(0);
        assert_eq!(messages(&mail.join("new")).len() + messages(&mail.join("cur")).len(), 0);
    }
    // A folder with `cur` alone is no Maildir that anybody knows.
    let env = TestEnv::new();
    fs::create_dir_all(env.path("mail/cur")).unwrap();
    let one = stream(&[letter("INBOX", "17.M1P1.mx", &message(1))]);
    apply(&env, &env.path("mail"), &one, &[]).expect(1).naming("is no Maildir");
}

#[test]
fn mail_comes_also_where_nobody_can_be_subscribed() {
    let env = TestEnv::new();
    let (mail, away) = (env.path("mail"), env.path("away"));
    maildir(&mail);
    fs::write(&away, "secret\n").unwrap();
    symlink(&away, mail.join("subscriptions")).unwrap();
    let (report, told) = in_part(&env, &mail, &["INBOX", "Work"], &[]);
    assert_eq!((&report["brought"], &report["finished"]), (&2.into(), &true.into()), "{report}");
    assert!(told.contains("Restored/") && told.contains("subscriptions"), "{told}");
    assert_eq!(messages(&mail).len(), 2);
    assert_eq!(fs::read_to_string(&away).unwrap(), "secret\n");
    assert_clean(&mail);
}

#[test]
fn folders_whose_names_no_program_shows_come_into_restored() {
    let env = TestEnv::new();
    let mail = env.path("mail");
    maildir(&mail);
    let names = ["INBOX", "odd\nname/x\x1b[2J", "t\tab"];
    let letters: Vec<_> = names
        .iter()
        .enumerate()
        .map(|(n, folder)| letter(folder, &format!("17.M{n}P1.mx"), &message(n as u32)))
        .collect();
    let report = apply(&env, &mail, &stream(&letters), &[]).expect(0).json()["deliveries"][0].take();
    assert_eq!(report["brought"], 3, "{report}");
    let folders = report["folders"].as_object().unwrap();
    assert!(folders.keys().all(|name| !name.contains(char::is_control)), "{report}");
    assert!(folders.keys().any(|name| name.ends_with("/odd\\x0aname/x\\x1b[2J")), "{report}");
    assert_eq!(report["respelled"]["t\tab"], "t\\x09ab");
    let again = apply(&env, &mail, &stream(&letters), &[]).expect(0).json()["deliveries"][0].take();
    assert_eq!((&again["brought"], &again["still_there_count"]), (&0.into(), &3.into()));
}
