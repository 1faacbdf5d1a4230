//! The catalogue: what find, history and audit tell, and that it tells the same however it came to be.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::library::lone_host;
use crate::support::{Output, TestEnv, dice, noise, run};

/// A mail server's tree that tests change by hand.
struct Server {
    env: TestEnv,
    root: PathBuf,
}

/// The text of a message.
fn text(number: u64, subject: &str) -> String {
    let month = 1 + number % 9;
    format!(
        "Received: from a by b; Thu, 1 Jan 2026 00:00:00 +0000\nFrom: Sender {number} <sender{number}@supplier.com>\n\
         To: anna@example.org\nDate: Mon, 12 {} 2026 10:00:00 +0100\nMessage-ID: <{number}@supplier.com>\n\
         Subject: {subject}\n\nBody of {number}.\n",
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep"][month as usize - 1]
    )
}

impl Server {
    fn new() -> Server {
        let env = TestEnv::with_repository();
        let root = env.folder("vmail");
        Server { env, root }
    }

    fn folder(&self, user: &str, folder: &str) -> PathBuf {
        let below = if folder == "INBOX" { String::new() } else { format!(".{}", folder.replace('/', ".")) };
        let path = self.root.join("example.org").join(user).join(below);
        for name in ["cur", "new", "tmp"] {
            fs::create_dir_all(path.join(name)).unwrap();
        }
        path
    }

    /// Puts a message into a folder; gives its path.
    fn put(&self, user: &str, folder: &str, name: &str, text: &str) -> PathBuf {
        let path = self.folder(user, folder).join(name);
        fs::write(&path, text).unwrap();
        path
    }

    #[track_caller]
    fn backup(&self) -> String {
        let report = self.env.backup_with(&self.root, &["--accept-loss"]).expect(0).json();
        report["snapshot"].as_str().unwrap().to_owned()
    }

    #[track_caller]
    fn find(&self, args: &[&str]) -> Vec<Value> {
        lines(&self.env.mailark(["find", "--json"].iter().chain(args)).expect(0))
    }

    #[track_caller]
    fn subjects(&self, args: &[&str]) -> Vec<String> {
        let found = self.find(args);
        let mut subjects: Vec<String> =
            found.iter().map(|one| one["subject"].as_str().unwrap_or("?").to_owned()).collect();
        subjects.sort();
        subjects
    }
}

fn lines(output: &Output) -> Vec<Value> {
    output.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What a catalogue holds, in an order of its own.
fn sorted(found: &[Value]) -> Vec<String> {
    let mut lines: Vec<String> = found.iter().map(Value::to_string).collect();
    lines.sort();
    lines
}

/// Four snapshots: a message arrives, is read, moves, goes; gives the first and the last.
fn life() -> (Server, String, String) {
    let server = Server::new();
    let new = server.put(
        "anna",
        "INBOX",
        "new/1700000001.M1.mx",
        &text(1, "=?utf-8?q?Vertrag_=C3=BCber_?= =?utf-8?b?5aWR57SE?="),
    );
    server.put("anna", "INBOX", "cur/1700000002.M2.mx:2,S", &text(2, "Lunch"));
    server.put("bob", "INBOX", "cur/1700000003.M3.mx:2,S", &text(3, "Vertrag of another"));
    fs::write(
        server.folder("anna", "INBOX").join("dovecot-uidlist"),
        "3 V77 N3 Gaabb\n1 :1700000001.M1.mx\n2 Gcafe :1700000002.M2.mx\n",
    )
    .unwrap();
    let first = server.backup();
    let seen = server.folder("anna", "INBOX").join("cur/1700000001.M1.mx:2,Sa");
    fs::rename(&new, &seen).unwrap();
    fs::write(server.folder("anna", "INBOX").join("dovecot-keywords"), "0 urgent\n").unwrap();
    server.backup();
    let moved = server.folder("anna", "Archive/2024").join("cur/1700000001.M1.mx:2,FS");
    fs::rename(&seen, &moved).unwrap();
    server.backup();
    fs::remove_file(&moved).unwrap();
    let last = server.backup();
    (server, first, last)
}

#[test]
fn a_message_is_followed_through_its_life() {
    let (server, first, last) = life();

    let found = server.find(&["vertrag", "契約", "--user", "anna"]);
    let [message] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!(message["subject"], "Vertrag über 契約");
    assert_eq!(message["from"], "Sender 1 <sender1@supplier.com>");
    assert_eq!((&message["there"], &message["user"]), (&Value::Bool(false), &"anna@example.org".into()));
    let stays = message["stays"].as_array().unwrap();
    let told: Vec<(&str, &str)> =
        stays.iter().map(|stay| (stay["folder"].as_str().unwrap(), stay["name"].as_str().unwrap())).collect();
    assert_eq!(
        told,
        [
            ("INBOX", "new/1700000001.M1.mx"),
            ("INBOX", "cur/1700000001.M1.mx:2,Sa"),
            ("Archive/2024", "cur/1700000001.M1.mx:2,FS")
        ]
    );
    assert_eq!((&stays[0]["uidvalidity"], &stays[0]["uid"]), (&77.into(), &1.into()));
    assert_eq!(stays[1]["keywords"][0], "urgent");
    assert_eq!(stays[0]["first"]["snapshot"], first.as_str());
    assert_eq!(stays[2]["gone"]["snapshot"], last.as_str());

    let told = server.env.mailark(["history", "1@supplier.com"]).expect(0).stdout;
    for part in [
        "in INBOX: new",
        "new -> seen, urgent, in INBOX",
        "moved from INBOX to Archive/2024: flagged, seen",
        "GONE from Archive/2024",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    server.env.mailark(["history", "9@supplier.com"]).expect(1).naming("no message");
}

#[test]
fn a_message_is_found_by_everything_that_people_remember() {
    let (server, first, last) = life();
    let found = server.find(&["--from", "sender1"]);
    let id = found[0]["id"].as_str().unwrap();
    for args in [
        &["--message-id", "<1@supplier.com>"][..],
        &["--from", "sender1@supplier.com"],
        &["--keyword", "Urgent"],
        &["--user", "anna@example.org", "--folder", "archive.2024"],
        &["--user", "anna", "--gone"],
        &["--uid", "1", "--user", "anna"],
        &["--gone-since", "1d", "--user", "anna"],
        &["--user", "anna", "--flag", "flagged"],
        &["--snapshot", &first, "--user", "anna", "--flag", "no-seen"],
        &["--sent", "2026-02", "--user", "anna"],
        &["--id", id],
    ] {
        assert_eq!(server.subjects(args), ["Vertrag über 契約"], "{args:?}");
    }
    assert_eq!(server.subjects(&["--user", "anna", "--there"]), ["Lunch"]);
    assert_eq!(server.subjects(&["--user", "anna", "--snapshot", &last]), ["Lunch"]);
    assert_eq!(server.subjects(&["--gone-since", "2025"]), Vec::<String>::new());
    assert_eq!(server.subjects(&["--user", "nobody"]), Vec::<String>::new());
    server.env.mailark(["find", "--received", "soon"]).expect(2).naming("'soon' is no time");

    let audited = lines(&server.env.mailark(["audit", "--json", "--user", "bob@example.org"]).expect(0));
    assert!(audited.is_empty(), "{audited:?}");
    let audited = lines(&server.env.mailark(["audit", "--json", "--user", "anna@example.org"]).expect(0));
    assert!(audited.len() >= 10 && audited.iter().all(|entry| entry["uid"].is_number()), "{audited:?}");
}

/// One change of the tree by chance.
fn change(server: &Server, seed: u64) {
    let pick = |salt: u64, end: u64| dice(seed ^ (salt << 32), end);
    let users = ["anna", "bob"];
    let folders = ["INBOX", "Sent", "Archive/2024"];
    let user = users[pick(1, 2) as usize];
    let folder = folders[pick(2, 3) as usize];
    let path = server.folder(user, folder);
    let messages: Vec<PathBuf> = ["cur", "new"]
        .iter()
        .flat_map(|name| fs::read_dir(path.join(name)).unwrap().map(|entry| entry.unwrap().path()))
        .collect();
    let one = messages.get(pick(3, messages.len().max(1) as u64) as usize);
    let base =
        |path: &Path| path.file_name().unwrap().to_str().unwrap().split(":2,").next().unwrap().to_owned();
    let flags = ["", "S", "FS", "RSab"][pick(4, 4) as usize];
    match (pick(5, 12), one) {
        (0..4, _) | (_, None) => {
            // Some have equal content: they are one message in two places.
            let number = pick(6, 40);
            server.put(
                user,
                folder,
                &format!("new/{}.M{}.mx", 1_700_000_000 + number, pick(7, 1 << 40)),
                &text(number, &format!("Subject {number}")),
            );
        }
        (4 | 5, Some(one)) => {
            fs::rename(one, path.join("cur").join(format!("{}:2,{flags}", base(one)))).unwrap()
        }
        (6 | 7, Some(one)) => {
            let other = server.folder(users[pick(8, 2) as usize], folders[pick(9, 3) as usize]);
            fs::rename(one, other.join("cur").join(format!("{}:2,{flags}", base(one)))).unwrap();
        }
        (8, Some(one)) => fs::remove_file(one).unwrap(),
        (9, Some(one)) => {
            let lines = format!("3 V{} N900 Gaa\n{} :{}\n", 1 + pick(10, 2), 1 + pick(11, 800), base(one));
            fs::write(path.join("dovecot-uidlist"), lines).unwrap();
            fs::write(path.join("dovecot-keywords"), "0 one\n1 two\n").unwrap();
        }
        (10, _) => {
            let several = (0..pick(12, 6)).map(|at| {
                let number = pick(20 + at, 40);
                format!(
                    "From s Thu Jan  1 00:00:0{} 2026\n{}\n",
                    at % 10,
                    text(number, &format!("Subject {number}"))
                )
            });
            fs::write(server.root.join("mbox"), several.collect::<String>()).unwrap();
        }
        (_, _) if folder != "INBOX" && pick(13, 3) == 0 => fs::remove_dir_all(&path).unwrap(),
        _ => {}
    }
}

fn catalogue_file(env: &TestEnv) -> PathBuf {
    let files = crate::support::files_below(&env.cache());
    files.into_iter().find(|path| path.ends_with("catalogue.db")).unwrap()
}

/// UIDs and keywords are what some file said once; one that was lost before the catalogue was made tells nothing.
fn without_state(mut found: Vec<Value>) -> Vec<Value> {
    for stay in found.iter_mut().flat_map(|message| message["stays"].as_array_mut().unwrap()) {
        for field in ["uid", "uidvalidity", "guid", "keywords"] {
            stay[field].take();
        }
    }
    found
}

#[test]
fn it_tells_the_same_however_it_came_to_be() {
    let seed =
        std::env::var("MAILARK_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_124);
    println!("seed {seed}");
    let server = Server::new();
    let compare = |context: &str| {
        let all = ["--limit", "100000"];
        let kept = without_state(server.find(&all));
        let other = server.env.path("other-cache");
        let _ = fs::remove_dir_all(&other);
        let anew =
            without_state(server.find(&[&all[..], &["--cache-dir", other.to_str().unwrap()]].concat()));
        let (left, right) = (sorted(&kept), sorted(&anew));
        for (left, right) in left.iter().zip(&right) {
            assert_eq!(left, right, "{context}: the first that differs");
        }
        assert_eq!(left.len(), right.len(), "{context}");
        kept.len()
    };
    let mut most = 0;
    for round in 0..12 {
        for step in 0..25 {
            change(&server, seed ^ (round * 1_000 + step));
        }
        server.backup();
        // Some rounds are taken in together.
        if round % 3 != 1 {
            most = most.max(compare(&format!("round {round}")));
        }
    }
    assert!(most > 40, "{most}");
    let ids = server.env.mailark(["snapshots", "--json", "--all"]).expect(0).json();
    let id = |at: usize| ids[at]["id"].as_str().unwrap().to_owned();
    server.env.mailark(["forget", &id(2), &id(5), &id(6)]).expect(0);
    compare("after forgetting");
    let before = server.subjects(&["--message-id", "7@supplier.com", "--limit", "1000"]).len();
    server.env.mailark(["purge", "--yes", "--message-id", "<7@supplier.com>"]).expect(0);
    let erased = fs::read(catalogue_file(&server.env)).unwrap();
    assert!(
        !erased.windows(20).any(|window| window == b"sender7@supplier.com"),
        "the purged message stands in the file"
    );
    compare("after a purge");
    assert_eq!(server.subjects(&["--message-id", "7@supplier.com"]), Vec::<String>::new(), "of {before}");
    server.env.mailark(["forget", "--keep-last", "1", "--hold-down", "0"]).expect(0);
    compare("after forgetting nearly all");
}

#[test]
fn a_host_that_may_only_write_keeps_its_own_catalogue() {
    let server = Server::new();
    let kept = server.put("anna", "INBOX", "cur/1700000001.M1.mx:2,S", &text(1, "Kept"));
    let gone = server.put("anna", "INBOX", "cur/1700000002.M2.mx:2,S", &text(2, "Deleted later"));
    fs::write(
        server.folder("anna", "INBOX").join("dovecot-uidlist"),
        "3 V77 N3 Gaabb\n1 :1700000001.M1.mx\n2 :1700000002.M2.mx\n",
    )
    .unwrap();
    let host = lone_host(&server.env, "mx1");
    let as_host = |args: &[&str]| {
        let key = host.key_file.to_str().unwrap().to_owned();
        run(&mut server.env.command(args.iter().copied().chain(["--key-file", &key])))
    };
    let root = server.root.to_str().unwrap();
    as_host(&["backup", root]).expect(0);
    fs::remove_file(&gone).unwrap();
    as_host(&["backup", "--accept-loss", root]).expect(0);
    let found = lines(&as_host(&["find", "--json", "deleted"]).expect(0));
    assert_eq!((found.len(), &found[0]["there"]), (1, &Value::Bool(false)), "{found:?}");
    assert_eq!((&found[0]["subject"], &found[0]["stays"][0]["uid"]), (&"Deleted later".into(), &2.into()));
    // Made anew it can read what still lies there, and lists the rest without its headers.
    as_host(&["cache", "clean"]).expect(0);
    let found = lines(&as_host(&["find", "--json"]).expect(0));
    let subjects: Vec<&Value> = found.iter().map(|one| &one["subject"]).collect();
    assert_eq!(found.len(), 2);
    assert!(subjects.contains(&&"Kept".into()) && subjects.contains(&&Value::Null), "{found:?}");
    drop(kept);
    // With a full key both are read.
    let all = server.subjects(&[]);
    assert_eq!(all, ["Deleted later", "Kept"]);
}

#[test]
fn mailboxes_of_all_kinds_are_searched() {
    let server = Server::new();
    let mbox = format!(
        "From a@b Thu Jan 22 12:36:23 2026\n{}\nFrom a@b Fri Jan 23 12:36:23 2026\n{}\n",
        text(1, "In an mbox"),
        text(2, "In an mbox too")
    );
    fs::create_dir_all(server.root.join("mail")).unwrap();
    fs::write(server.root.join("mail/carl"), &mbox).unwrap();
    fs::create_dir_all(server.root.join("fs/dora/Maildir/Work/Old/cur")).unwrap();
    fs::create_dir_all(server.root.join("fs/dora/Maildir/Work/Old/new")).unwrap();
    fs::create_dir_all(server.root.join("control/dora/Work/Old")).unwrap();
    fs::write(server.root.join("fs/dora/Maildir/Work/Old/cur/1700000003.M3.mx:2,Sa"), text(3, "In a tree"))
        .unwrap();
    fs::write(server.root.join("control/dora/Work/Old/dovecot-keywords"), "0 $Label\n").unwrap();
    let coded = [&b"\x1f\x8b\x08\x00"[..], &noise(1, 900)].concat();
    fs::write(server.root.join("fs/dora/Maildir/Work/Old/cur/1700000004.M4.mx,S=2000:2,S"), &coded).unwrap();
    fs::write(
        server.env.path("mailark.toml"),
        "mail = [\"/data/mail/%u\", \"/data/fs/%u/Maildir\"]\ncontrol = [\"/data/control/%u\"]\n",
    )
    .unwrap();
    server.backup();
    let config = server.env.path("mailark.toml");
    let with = |args: &[&str]| server.find(&[args, &["--config", config.to_str().unwrap()]].concat());
    let found = with(&["--user", "carl", "--folder", "inbox"]);
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!(found[0]["stays"][0]["received"], "2026-01-23T13:36:23+01:00");
    let found = with(&["--user", "dora", "--folder", "Work/Old", "tree"]);
    assert_eq!(found[0]["stays"][0]["keywords"][0], "$Label", "{found:?}");
    let found = with(&["--user", "dora"]);
    assert_eq!(found.len(), 2, "{found:?}");
    // One message leaves the mbox, one comes.
    let mbox = format!(
        "From a@b Fri Jan 23 12:36:23 2026\n{}\nFrom a@b Sat Jan 24 12:36:23 2026\n{}\n",
        text(2, "In an mbox too"),
        text(5, "In an mbox now")
    );
    fs::write(server.root.join("mail/carl"), mbox).unwrap();
    server.backup();
    let there: Vec<Value> = with(&["--user", "carl", "--there"]);
    assert_eq!(there.len(), 2, "{there:?}");
    let gone = with(&["--user", "carl", "--gone"]);
    assert_eq!((gone.len(), &gone[0]["subject"]), (1, &"In an mbox".into()));
}

#[test]
fn nothing_in_a_message_moves_the_cursor() {
    let server = Server::new();
    let evil = "Subject: \x1b]0;owned\x07 =?utf-8?q?=1B[2Jgone=0D=0AFake:_line?=\nFrom: =?utf-8?q?=E2=80=AEmoc.live?= <a\x1b[31m@b>\n\
                Message-ID: <\x1b[1m@x>\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\
                Content-Disposition: attachment; filename*=utf-8''%1B%5B5m..%2Fx%0Ay\n\nx\n--b--\n";
    server.put("anna", "INBOX", "cur/1700000001.M\x1b[7m.mx:2,S", evil);
    let binary: Vec<u8> = (0..=255).cycle().take(5_000).collect();
    fs::write(server.folder("anna", "INBOX").join("cur/1700000002.M2.mx:2,"), binary).unwrap();
    server.put("anna", "\x1b[2J", "cur/1700000003.M3.mx:2,S", &text(3, &"long ".repeat(20_000)));
    server.backup();
    let shown = server.env.mailark(["find"]).expect(0);
    assert!(shown.stdout.lines().count() >= 9, "{}", shown.stdout);
    let told = server.env.mailark(["history", "--user", "anna", "3@supplier.com"]).expect(0);
    for text in [shown.stdout, told.stdout] {
        assert!(text.chars().all(|letter| letter == '\n' || !letter.is_control()), "{text:?}");
        assert!(!text.contains('\u{202e}'), "{text:?}");
    }
}

#[test]
fn a_damaged_catalogue_is_made_anew() {
    let server = Server::new();
    for number in 0..200 {
        server.put(
            "anna",
            "INBOX",
            &format!("cur/{}.M1.mx:2,S", 1_700_000_000 + number),
            &text(number, "Same"),
        );
    }
    server.backup();
    let file = catalogue_file(&server.env);
    let whole = fs::read(&file).unwrap();
    for round in 0..12u64 {
        let mut bytes = whole.clone();
        match round {
            0 => bytes.truncate(bytes.len() / 2),
            1 => bytes.clear(),
            2 => bytes = noise(3, 9_000),
            _ => {
                let at = dice(round, bytes.len() as u64 - 4_096) as usize;
                bytes[at..at + 4_096].fill(0xa5);
            }
        }
        fs::write(&file, bytes).unwrap();
        server.put(
            "anna",
            "INBOX",
            &format!("cur/{}.M2.mx:2,S", 1_700_001_000 + round),
            &text(round, "Another"),
        );
        server.env.backup_with(&server.root, &[]).expect(0);
        let found = server.env.mailark(["find", "--json", "--limit", "1000"]).expect(0);
        if round < 3 {
            assert_eq!(lines(&found).len(), 201 + round as usize, "round {round}");
        }
        let cleaned = server.env.mailark(["cache", "clean"]).expect(0);
        drop(cleaned);
        assert_eq!(server.find(&["--limit", "1000"]).len(), 201 + round as usize);
    }
}
