//! One user's mail in every form. The scripts that people use for this lose times, folders and keywords.

use std::fs;
use std::os::unix::fs::MetadataExt;

use super::{DAY, MARCH, arrive, back_up, base, give, mail_below, message, post, put};
use crate::support::{TestEnv, files_below, run, skipped, tool};

/// Two folders with keywords and UIDs, and what a naive copy gets wrong.
fn alice(env: &TestEnv) -> std::path::PathBuf {
    let (vmail, alice) = post(env);
    let first = arrive(&alice, "one", 1, "FS");
    put(&alice, "new", &base("two", 2), &message("two", 2), MARCH + 2 * DAY);
    let archive = alice.join(".Archive.2026");
    let kept = arrive(&archive, "three", 3, "RSab");
    fs::write(archive.join("dovecot-keywords"), "0 $Label1\n1 work\n").unwrap();
    fs::write(archive.join("dovecot-uidlist"), format!("3 V1700000001 N9 Gaabb\n7 Gfeed :{kept}\n")).unwrap();
    fs::write(alice.join("dovecot-uidlist"), format!("3 V1700000000 N5 Gccdd\n2 :{first}\n4 :gone\n"))
        .unwrap();
    fs::write(alice.join("subscriptions"), "V\t2\n\nArchive\t2026\n").unwrap();
    vmail
}

#[test]
fn a_user_comes_back_as_the_mail_lies() {
    let env = TestEnv::with_repository();
    let vmail = alice(&env);
    back_up(&env, &vmail);
    give(&env, "back", &[]).expect(0);
    let back = env.path("back/var/vmail/example.org");
    assert!(!back.join("bob").exists(), "nobody else's mail comes along");
    assert_eq!(mail_below(&back.join("alice/Maildir")), mail_below(&vmail.join("example.org/alice/Maildir")));
    assert!(tool(
        "diff",
        [
            "-r",
            &back.join("alice").display().to_string(),
            &vmail.join("example.org/alice").display().to_string()
        ]
    ));
    // Another name for the user.
    give(&env, "renamed", &["--map-user", "alice@example.org=alice.smith@example.com"]).expect(0);
    let renamed = env.path("renamed/var/vmail/example.com/alice.smith/Maildir");
    assert_eq!(mail_below(&renamed).len(), 3);
    assert!(!env.path("renamed/var/vmail/example.org").exists());
}

#[test]
fn a_maildir_keeps_names_flags_times_folders_keywords_and_uids() {
    let env = TestEnv::with_repository();
    let vmail = alice(&env);
    back_up(&env, &vmail);
    give(&env, "md", &["--as", "maildir"]).expect(0);
    let (md, source) = (env.path("md"), vmail.join("example.org/alice/Maildir"));
    assert_eq!(mail_below(&md), mail_below(&source));
    for name in mail_below(&md) {
        let (made, was) = (fs::metadata(md.join(&name)).unwrap(), fs::metadata(source.join(&name)).unwrap());
        assert_eq!((made.mtime(), made.mtime_nsec()), (was.mtime(), was.mtime_nsec()), "{name}");
        assert_eq!(fs::read(md.join(&name)).unwrap(), fs::read(source.join(&name)).unwrap());
    }
    let read = |path: &str| fs::read_to_string(md.join(path)).unwrap();
    assert_eq!(read(".Archive.2026/dovecot-keywords"), "0 $Label1\n1 work\n");
    let kept = base("three", 3);
    assert_eq!(
        read(".Archive.2026/dovecot-uidlist"),
        format!("3 V1700000001 N9 Gaabb\n7 Gfeed :{kept}:2,RSab\n")
    );
    assert!(read("dovecot-uidlist").starts_with("3 V1700000000 N5 Gccdd\n2 :"));
    assert_eq!(read("subscriptions"), "V\t2\n\nArchive\t2026\n");
    assert!(md.join(".Archive.2026/maildirfolder").exists() && md.join("tmp").is_dir());
    // The same again elsewhere, with folders in folders.
    give(&env, "fs", &["--as", "maildir", "--layout", "fs"]).expect(0);
    assert_eq!(mail_below(&env.path("fs/Archive/2026")).len(), 1);
    // Never into a folder that holds something.
    give(&env, "md", &["--as", "maildir"]).expect(1).naming("not empty");
}

#[test]
fn folders_and_messages_are_picked() {
    let env = TestEnv::with_repository();
    let vmail = alice(&env);
    back_up(&env, &vmail);
    give(&env, "a", &["--folder", "Archive.2026"]).expect(0);
    assert_eq!(mail_below(&env.path("a")), [format!(".Archive.2026/cur/{}:2,RSab", base("three", 3))]);
    give(&env, "b", &["--message", "<two@example.net>"]).expect(0);
    assert_eq!(mail_below(&env.path("b")), [format!("new/{}", base("two", 2))]);
    give(&env, "c", &["--message", &base("one", 1), "--folder", "inbox"]).expect(0);
    assert_eq!(mail_below(&env.path("c")), [format!("cur/{}:2,FS", base("one", 1))]);
    give(&env, "d", &["--message", "nothing@x"]).expect(1).naming("no message of 'alice@example.org' fits");
    assert!(!env.path("d").exists(), "nothing is left behind");
    give(&env, "d", &["--folder", "Nope"]).expect(1).naming("there are INBOX, Archive/2026");
    let other = env.mailark(["restore", "--user", "carol", "--to", "x"]).expect(1);
    other.naming("it holds mail of alice@example.org, bob@example.org");
    let plan = give(&env, "e", &["-n", "--json", "--folder", "*"]).expect(0).json();
    assert_eq!((plan["messages"].as_u64(), plan["folders"].as_array().map(Vec::len)), (Some(3), Some(2)));
    assert!(!env.path("e").exists());
    // Whoever asked is known.
    let log = env.mailark(["audit", "--json"]).expect(0).stdout;
    assert!(log.contains("\"restore\"") && log.contains("alice@example.org"), "{log}");
}

#[test]
fn mbox_files_hold_state_and_quote_what_would_cut() {
    let env = TestEnv::with_repository();
    let vmail = alice(&env);
    let alice = vmail.join("example.org/alice/Maildir");
    let text = b"Return-Path: <carl@example.net>\nMessage-ID: <q@x>\nSubject: q\n\nFrom here to there\n>From there\nend";
    put(&alice, "cur", "1772500000.M2P2.mx:2,S", text, MARCH + 10 * DAY);
    back_up(&env, &vmail);
    give(&env, "mb", &["--as", "mbox"]).expect(0);
    let inbox = fs::read_to_string(env.path("mb/INBOX.mbox")).unwrap();
    assert!(inbox.contains("From bob@example.net Mon Mar  2 00:00:00 2026 +0000\n"), "{inbox}");
    assert!(
        inbox.contains("X-IMAPbase: 1700000000 0000000004\nX-UID: 2\nStatus: RO\nX-Status: F\n"),
        "{inbox}"
    );
    assert!(inbox.contains("From carl@example.net Wed Mar 11 00:00:00 2026 +0000\n"), "{inbox}");
    assert!(inbox.contains("\n>From here to there\n>>From there\nend\n\n"), "{inbox}");
    let archive = fs::read_to_string(env.path("mb/Archive/2026.mbox")).unwrap();
    assert!(archive.contains("X-UID: 7\nStatus: RO\nX-Status: A\nX-Keywords: $Label1 work\n"), "{archive}");
    // What was written is an mbox to this program, too, and comes back as it was.
    let other = TestEnv::with_repository();
    let mut command = other.command(["backup", "--as", "/home/alice/mail", "--job", "m"]);
    run(command.arg(env.path("mb"))).expect(0);
    let mut command = other.command(["restore", "--user", "alice", "--as", "maildir", "--to"]);
    run(command.arg(other.path("md"))).expect(0);
    let found = mail_below(&other.path("md"));
    assert_eq!(found.len(), 4, "{found:?}");
    let three = found.iter().find(|name| name.contains("Archive")).unwrap();
    assert!(three.ends_with(":2,RSab"), "{three}");
    let path = other.path("md").join(three);
    assert_eq!(fs::read(&path).unwrap(), message("three", 3));
    assert_eq!(fs::metadata(&path).unwrap().mtime(), MARCH + 3 * DAY);
    let list = fs::read_to_string(other.path("md/.Archive.2026_mbox/dovecot-uidlist")).unwrap();
    assert!(list.starts_with("3 V1700000001 N8\n7 :"), "{list}");
    // The UIDs of an mbox are those of the Maildir that is rebuilt from it.
    let mut command = other.command(["restore", "--user", "alice", "--rebuild"]);
    run(command.arg(other.path("rebuilt"))).expect(0);
    let list = fs::read_to_string(other.path("rebuilt/.Archive.2026_mbox/dovecot-uidlist")).unwrap();
    assert!(list.starts_with("3 V1700000001 N") && list.contains("\n7 :"), "{list}");
    let next: u64 = list.split_once(" N").unwrap().1.split_once('\n').unwrap().0.parse().unwrap();
    assert!(next >= 9 + 10_000, "{list}");
}

#[test]
fn single_files_are_called_by_date_and_subject() {
    let env = TestEnv::with_repository();
    let (vmail, alice) = post(&env);
    arrive(&alice, "one", 1, "S");
    let evil = b"Subject: =?utf-8?q?../../../etc/passwd=00=1B[2J?=\nFrom: x\n\nx\n";
    put(&alice, "cur", "2.M1.mx:2,S", evil, MARCH);
    put(&alice, "cur", "3.M1.mx:2,S", evil, MARCH);
    back_up(&env, &vmail);
    give(&env, "eml", &["--as", "eml", "--zone", "UTC"]).expect(0);
    let names: Vec<String> = files_below(&env.path("eml/INBOX"))
        .iter()
        .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    assert_eq!(names.len(), 3, "{names:?}");
    assert!(names.contains(&"2026-03-02_000000_About one.eml".to_owned()), "{names:?}");
    assert!(
        names
            .iter()
            .all(|name| name.starts_with("2026-03-0") && !name.contains(|letter: char| letter.is_control()))
    );
    assert_eq!(files_below(&env.path("eml")).len(), 3, "nothing lies elsewhere");
}

#[test]
fn an_archive_goes_to_standard_output() {
    let env = TestEnv::with_repository();
    let vmail = alice(&env);
    let long = format!("1772500000.M2P2.{},S=1:2,S", "x".repeat(150));
    put(&vmail.join("example.org/alice/Maildir/.Archive.2026"), "cur", &long, &message("long", 4), MARCH);
    back_up(&env, &vmail);
    let to = fs::File::create(env.path("a.tar")).unwrap();
    let mut command = env.command([
        "restore",
        "--user",
        "alice",
        "--as",
        "tar",
        "--to",
        "-",
        "--map-user",
        "alice=alice.smith",
    ]);
    assert!(command.stdout(to).status().unwrap().success());
    if !tool("tar", ["--version"]) {
        return skipped("a tar archive", "tar is not installed");
    }
    fs::create_dir(env.path("out")).unwrap();
    let (archive, out) = (env.path("a.tar").display().to_string(), env.path("out").display().to_string());
    assert!(tool("tar", ["xf", &archive, "-C", &out]));
    let (made, source) = (env.path("out/alice.smith"), vmail.join("example.org/alice/Maildir"));
    assert_eq!(mail_below(&made), mail_below(&source));
    for name in mail_below(&made) {
        assert_eq!(fs::read(made.join(&name)).unwrap(), fs::read(source.join(&name)).unwrap());
        assert_eq!(
            fs::metadata(made.join(&name)).unwrap().mtime(),
            fs::metadata(source.join(&name)).unwrap().mtime()
        );
    }
    assert!(made.join(".Archive.2026/dovecot-uidlist").exists());
    env.mailark(["restore", "--user", "alice", "--as", "tar", "--to", "x"])
        .expect(2)
        .naming("belong together");
}

#[test]
fn lists_of_uids_over_something_are_warned_of() {
    let env = TestEnv::with_repository();
    let vmail = alice(&env);
    back_up(&env, &vmail);
    let target = env.folder("target");
    let restore = |more: &[&str]| {
        let mut command = env.command(["restore", "latest", "--to"]);
        run(command.arg(&target).args(more))
    };
    let first = restore(&[]).expect(0);
    assert!(!first.stderr.contains("UIDs"), "an empty folder is scratch space");
    restore(&["--overwrite", "always"]).expect(1).naming("is a live Maildir");
    restore(&["--overwrite", "always", "--force"])
        .expect(0)
        .naming("2 lists of UIDs go where something lies");
}

#[test]
fn what_cannot_be_read_is_told_and_the_rest_is_given() {
    let env = TestEnv::with_repository();
    let (vmail, alice) = post(&env);
    arrive(&alice, "one", 1, "S");
    back_up(&env, &vmail);
    let old: Vec<_> = env.objects("packs").into_iter().map(|(path, _)| path).collect();
    arrive(&alice, "two", 2, "S");
    back_up(&env, &vmail);
    old.iter().for_each(|pack| fs::remove_file(pack).unwrap());
    for (form, file) in [("maildir", "cur"), ("eml", "INBOX"), ("mbox", "INBOX.mbox")] {
        let said = give(&env, form, &["--as", form]).expect(3).naming("problems: the restore is incomplete");
        assert!(said.stderr.contains("mx-one"), "{}", said.both());
        let files = files_below(&env.path(form).join(file));
        assert_eq!(files.len(), 1, "{files:?}");
        let text = fs::read_to_string(&files[0]).unwrap();
        assert!(
            text.contains("this is two") && !text.contains("From: Bob <bob@example.net>\nFrom"),
            "{text}"
        );
    }
}
