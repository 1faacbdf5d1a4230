//! The four meanings of a date.

use std::fs;

use super::{DAY, MARCH, arrive, back_up, base, give, mail_below, message, post, put};
use crate::support::{TestEnv, run};

fn ids(found: &[String]) -> Vec<String> {
    let mut ids: Vec<String> = found
        .iter()
        .map(|name| name.split_once("mx-").unwrap().1.split_once(",S").unwrap().0.to_owned())
        .collect();
    ids.sort();
    ids
}

#[test]
fn received_goes_by_arrival_and_sent_by_the_senders_clock() {
    let env = TestEnv::with_repository();
    let (vmail, alice) = post(&env);
    // Days in UTC; the zone of the tests is Berlin, an hour ahead until March 29th.
    for (id, day) in [("feb", -1), ("first", 0), ("mid", 14), ("last", 30), ("april", 31)] {
        arrive(&alice, id, day, "S");
    }
    put(
        &alice.join(".Old"),
        "cur",
        &format!("{}:2,", base("late", 14)),
        &message("late", -40),
        MARCH + 14 * DAY,
    );
    back_up(&env, &vmail);
    let pick = |to: &str, more: &[&str]| {
        let output = give(&env, to, more).expect(0);
        (ids(&mail_below(&env.path(to))), output.stderr)
    };
    let (march, said) = pick("a", &["--received", "2026-03", "--zone", "UTC"]);
    assert_eq!(march, ["first", "last", "late", "mid"]);
    assert!(
        said.contains("from 2026-03-01 00:00:00 +00:00 up to, and not including, 2026-04-01 00:00:00 +00:00")
    );
    let (half, _) = pick("b", &["--received", "2026-03-01..2026-03-15", "--zone", "UTC"]);
    assert_eq!(half, ["first"], "the end is not meant");
    let (berlin, said) = pick("c", &["--received", "2026-03-15"]);
    assert_eq!(berlin, ["late", "mid"]);
    assert!(said.contains("2026-03-15 00:00:00 +01:00"), "{said}");
    // The folder is kept, and what was sent in January and came in March is found by either.
    let (sent, _) = pick("d", &["--sent", "2026-01"]);
    assert_eq!(sent, ["late"]);
    assert!(mail_below(&env.path("d"))[0].starts_with(".Old/cur/"));
    let (both, _) = pick("e", &["--sent", "2026-03", "--received", "2026-03-15..", "--folder", "INBOX"]);
    assert_eq!(both, ["last", "mid"]);
    give(&env, "f", &["--received", "soon"]).expect(2).naming("is no time");
    let plan = give(&env, "g", &["-n", "--json", "--received", "2026-03-15"]).expect(0).json();
    assert!(plan["times"]["received"].as_str().unwrap().contains("+01:00"), "{plan}");
}

/// The second in which a snapshot was made, and one later: the next one is made after it.
fn moment() -> String {
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    let now = jiff::Timestamp::now().as_second();
    let text = jiff::Timestamp::from_second(now).unwrap().to_string();
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    text
}

#[test]
fn existed_and_deleted_go_by_snapshots() {
    let env = TestEnv::with_repository();
    let (vmail, alice) = post(&env);
    let folders = [alice.clone(), alice.join(".Trash"), alice.join(".Work")];
    for (id, folder) in [("stays", 0), ("moves", 0), ("dies", 0), ("trashed", 0), ("work", 2)] {
        arrive(&folders[folder], id, 1, "S");
    }
    fs::create_dir_all(folders[1].join("cur")).unwrap();
    fs::create_dir_all(folders[1].join("new")).unwrap();
    let path = |folder: usize, id: &str, flags: &str| {
        folders[folder].join("cur").join(format!("{}:2,{flags}", base(id, 1)))
    };
    give(&env, "none", &["--existed-at", "1d"]).expect(1).naming("no snapshot");
    let before = moment();
    back_up(&env, &vmail);
    let first = moment();
    fs::rename(path(0, "trashed", "S"), path(1, "trashed", "ST")).unwrap();
    fs::rename(path(0, "stays", "S"), path(0, "stays", "FS")).unwrap();
    arrive(&alice, "late", 2, "");
    back_up(&env, &vmail);
    let second = moment();
    fs::remove_file(path(1, "trashed", "ST")).unwrap();
    fs::remove_file(path(0, "dies", "S")).unwrap();
    fs::rename(path(0, "moves", "S"), path(2, "moves", "S")).unwrap();
    fs::remove_dir_all(folders[2].join("tmp")).unwrap();
    fs::remove_file(path(2, "work", "S")).unwrap();
    back_up(&env, &vmail);

    give(&env, "a", &["--existed-at", &before]).expect(1).naming("no snapshot stood at");
    give(&env, "b", &["--existed-at", &first, "--as", "maildir"]).expect(0);
    assert_eq!(ids(&mail_below(&env.path("b"))), ["dies", "moves", "stays", "trashed", "work"]);
    give(&env, "c", &["--existed-at", &second, "--as", "maildir", "--folder", "INBOX"]).expect(0);
    assert_eq!(ids(&mail_below(&env.path("c"))), ["dies", "late", "moves", "stays"]);

    // What moved is not gone; what went through the trash is found where it was before.
    let gone = give(&env, "d", &["--deleted-between", &format!("{before}..")]).expect(0);
    let found = mail_below(&env.path("d"));
    assert_eq!(ids(&found), ["dies", "trashed", "work"], "{}", gone.both());
    assert!(found.contains(&format!("cur/{}:2,S", base("trashed", 1))), "{found:?}");
    assert!(found.contains(&format!(".Work/cur/{}:2,S", base("work", 1))), "{found:?}");
    // From the second snapshot on it lay in the trash.
    give(&env, "e", &["--deleted-between", &format!("{second}.."), "--folder", "Trash"]).expect(0);
    assert_eq!(ids(&mail_below(&env.path("e"))), ["trashed"]);
    // Nothing had gone by then.
    give(&env, "f", &["--deleted-between", &format!("{before}..{second}")]).expect(1).naming("no message");
    give(&env, "g", &["--deleted-between", "1d", "--received", "2026-04"]).expect(1).naming("no message");
}

#[test]
fn messages_deleted_from_an_mbox_are_found() {
    let env = TestEnv::with_repository();
    let mail = env.folder("mail");
    let mbox = |ids: &[&str], status: &str| -> Vec<u8> {
        let one = |id: &&str| {
            let text = String::from_utf8(message(id, 1)).unwrap().replacen(
                "From: ",
                &format!("Status: {status}\nFrom: "),
                1,
            );
            format!("From bob@example.net Mon Mar  2 12:00:00 2026\n{text}\n")
        };
        ids.iter().map(one).collect::<String>().into_bytes()
    };
    let back_up = || {
        crate::support::settle();
        let mut command = env.command(["backup", "--as", "/var/mail", "--job", "mail", "--accept-loss"]);
        run(command.arg(&mail)).expect(0);
    };
    fs::write(mail.join("alice"), mbox(&["a", "b", "c", "d"], "O")).unwrap();
    back_up();
    // Two went, and all others were looked at.
    fs::write(mail.join("alice"), mbox(&["a", "c"], "RO")).unwrap();
    back_up();
    let give = |to: &str, more: &[&str]| {
        let mut command = env.command(["restore", "--user", "alice", "--as", "eml", "--to"]);
        run(command.arg(env.path(to)).args(more))
    };
    give("gone", &["--deleted-between", "1h"]).expect(0);
    let texts: Vec<String> = crate::support::files_below(&env.path("gone"))
        .iter()
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    assert_eq!(texts.len(), 2);
    for id in ["b", "d"] {
        assert!(texts.iter().any(|text| text.as_bytes() == message(id, 1)), "{id}: {texts:?}");
    }
    give("all", &[]).expect(0);
    assert_eq!(crate::support::files_below(&env.path("all")).len(), 2);
}
