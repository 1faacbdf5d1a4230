//! What was found is written out: `find --restore-to`.

use std::fs;
use std::path::PathBuf;

use crate::picking::{arrive, back_up, base, mail_below, message, put};
use crate::support::{TestEnv, files_below, run};

const DAY: i64 = crate::picking::DAY;
const MARCH: i64 = crate::picking::MARCH;

/// Two users with mail about a contract, some of it gone since, some of it moved; and an mbox with equal messages.
fn office() -> TestEnv {
    let env = TestEnv::with_repository();
    let vmail = env.folder("vmail");
    let (alice, bob) = (vmail.join("example.org/alice/Maildir"), vmail.join("example.org/bob/Maildir"));
    arrive(&alice, "contract-1", 1, "FS");
    let moved = arrive(&alice, "contract-2", 2, "S");
    arrive(&alice, "lunch", 2, "S");
    let work = alice.join(".Work.Old");
    let keyed = arrive(&work, "contract-3", 3, "RSa");
    fs::write(work.join("dovecot-keywords"), "0 urgent\n").unwrap();
    fs::write(work.join("dovecot-uidlist"), format!("3 V1700000001 N9 Gaabb\n7 :{keyed}\n")).unwrap();
    arrive(&bob, "contract-4", 4, "");
    let mbox = |ids: &[&str]| {
        let one = |id: &&str| {
            format!("From b@s Mon Mar  2 10:00:00 2026\n{}\n", String::from_utf8(message(id, 2)).unwrap())
        };
        ids.iter().map(one).collect::<String>()
    };
    fs::write(vmail.join("example.org/carl"), mbox(&["x", "contract-5", "contract-5", "y", "contract-6"]))
        .unwrap();
    back_up(&env, &vmail);
    fs::remove_file(alice.join("cur").join(base("contract-1", 1) + ":2,FS")).unwrap();
    fs::rename(
        alice.join("cur").join(format!("{moved}:2,S")),
        alice.join(".Work.Old/cur").join(format!("{moved}:2,S")),
    )
    .unwrap();
    fs::write(vmail.join("example.org/carl"), mbox(&["x", "y"])).unwrap();
    back_up(&env, &vmail);
    put(&alice, "new", &base("contract-7", 5), &message("contract-7", 5), MARCH + 5 * DAY);
    fs::remove_dir_all(&work).unwrap();
    back_up(&env, &vmail);
    env
}

fn ids(found: &serde_json::Value) -> Vec<String> {
    let mut ids: Vec<String> =
        found["found"].as_array().unwrap().iter().map(|one| one["id"].to_string()).collect();
    ids.sort();
    ids
}

#[test]
fn a_search_result_comes_back_as_a_maildir_for_each_user() {
    let env = office();
    let report = env.mailark(["find", "contract", "--restore-to", "back", "--json"]).expect(0).json();
    assert_eq!((&report["messages"], &report["problem_count"]), (&7.into(), &0.into()), "{report}");
    // Just what a search lists.
    let listed = env.mailark(["find", "contract", "--json"]).expect(0).stdout;
    let mut shown: Vec<String> = listed
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["id"].to_string())
        .collect();
    shown.sort();
    assert_eq!(ids(&report), shown);
    let back = env.path("back");
    let alice = back.join("alice@example.org");
    assert_eq!(
        mail_below(&alice),
        [
            format!(".Work.Old/cur/{}:2,S", base("contract-2", 2)),
            format!(".Work.Old/cur/{}:2,RSa", base("contract-3", 3)),
            format!("cur/{}:2,FS", base("contract-1", 1)),
            format!("new/{}", base("contract-7", 5)),
        ]
    );
    let read = |path: &str| fs::read(alice.join(path)).unwrap();
    assert_eq!(read(&format!("cur/{}:2,FS", base("contract-1", 1))), message("contract-1", 1));
    assert_eq!(read(".Work.Old/dovecot-keywords"), b"0 urgent\n");
    assert!(String::from_utf8(read(".Work.Old/dovecot-uidlist")).unwrap().contains("\n7 :"));
    assert_eq!(mail_below(&back.join("bob@example.org")), [format!("cur/{}:2,", base("contract-4", 4))]);
    let carl: Vec<Vec<u8>> = mail_below(&back.join("carl@example.org"))
        .iter()
        .map(|name| fs::read(back.join("carl@example.org").join(name)).unwrap())
        .collect();
    assert_eq!(carl.len(), 2);
    assert!(carl.contains(&message("contract-5", 2)) && carl.contains(&message("contract-6", 2)));
    // Never over what is there.
    env.mailark(["find", "contract", "--restore-to", "back"]).expect(1).naming("not empty");
    let log = env.mailark(["audit", "--user", "bob@example.org", "--json"]).expect(0).stdout;
    assert!(log.lines().any(|line| line.contains("\"command\":\"restore\"")), "{log}");
}

#[test]
fn what_was_asked_for_decides_where_a_message_is_taken_from() {
    let env = office();
    let first = env.mailark(["snapshots", "--json"]).expect(0).json()[0]["id"].as_str().unwrap().to_owned();
    let id = ["find", "--message-id", "<contract-2@example.net>"];
    for (to, more, place) in [
        ("newest", &[][..], ".Work.Old/cur"),
        ("then", &["--snapshot", &first], "cur"),
        ("inbox", &["--folder", "INBOX"], "cur"),
    ] {
        env.mailark(id.iter().chain(more).chain(&["--restore-to", to])).expect(0);
        let there = mail_below(&env.path(to).join("alice@example.org"));
        assert_eq!(there, [format!("{place}/{}:2,S", base("contract-2", 2))], "{to}");
    }
}

#[test]
fn a_search_result_has_every_form() {
    let env = office();
    let find = |to: &str, form: &str| env.mailark(["find", "contract", "--restore-to", to, "--as", form]);
    let told = find("eml", "eml").expect(0).stdout;
    assert!(
        told.contains("wrote 7 messages") && told.contains("About contract-1") && !told.contains("lunch"),
        "{told}"
    );
    let eml = files_below(&env.path("eml"));
    assert_eq!(eml.len(), 7);
    assert!(
        eml.iter()
            .any(|path| path.ends_with("alice@example.org/INBOX/2026-03-02_010000_About contract-1.eml")),
        "{eml:?}"
    );
    find("mbox", "mbox").expect(0);
    let mboxes: Vec<PathBuf> = files_below(&env.path("mbox"));
    let mboxes: Vec<_> =
        mboxes.iter().map(|path| path.strip_prefix(env.path("mbox")).unwrap().to_str().unwrap()).collect();
    assert_eq!(
        mboxes,
        [
            "alice@example.org/INBOX.mbox",
            "alice@example.org/Work/Old.mbox",
            "bob@example.org/INBOX.mbox",
            "carl@example.org/INBOX.mbox"
        ]
    );
    let archive = env.path("archive.tar");
    let mut command = env.command(["find", "contract", "--restore-to", "-", "--as", "tar"]);
    let status = command.stdout(fs::File::create(&archive).unwrap()).status().unwrap();
    assert!(status.success());
    env.folder("untar");
    assert!(crate::support::tool(
        "tar",
        ["-xf", archive.to_str().unwrap(), "-C", env.path("untar").to_str().unwrap()]
    ));
    let untarred: usize = ["alice", "bob", "carl"]
        .iter()
        .map(|user| mail_below(&env.path("untar").join(format!("{user}@example.org"))).len())
        .sum();
    assert_eq!(untarred, 7);
    // Down a pipe into live mailboxes.
    let mut command = env.command(["find", "contract", "--user", "alice", "--restore-to", "-"]);
    let letters = env.path("letters");
    assert!(command.stdout(fs::File::create(&letters).unwrap()).status().unwrap().success());
    let mailbox = env.folder("live");
    for part in ["cur", "new", "tmp"] {
        fs::create_dir(mailbox.join(part)).unwrap();
    }
    let mut command = env.command(["apply", "--json", "--map-user", "alice@example.org=live", "--mailbox"]);
    let report = run(command.arg(&mailbox).stdin(fs::File::open(&letters).unwrap())).expect(0).json();
    assert_eq!(report["deliveries"][0]["brought"], 4, "{report}");
    // What makes no sense, and what does not fit.
    find("-", "eml").naming("belong together");
    find("x", "tar").naming("belong together");
    env.mailark(["find", "contract", "--as", "eml"]).expect(2);
    env.mailark(["find", "nothing-like-it", "--restore-to", "none"]).expect(1).naming("nothing found");
    assert!(!env.path("none").exists());
    env.mailark(["find", "contract", "--limit", "2", "--restore-to", "two", "--as", "eml"]).expect(0);
    assert_eq!(files_below(&env.path("two")).len(), 2);
}
