//! The commands that look and those that handle keys, through the real program.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

/// A home of its own, with a repository and some mail.
struct Home {
    folder: TempDir,
}

const MESSAGE: &str = "From: a@example.org\nSubject: one\n\nhello\n";

impl Home {
    fn new() -> Home {
        let home = Home { folder: tempfile::tempdir().unwrap() };
        home.write("mail/alice/cur/1.M1.mx:2,", MESSAGE);
        home.write("mail/alice/cur/2.M2.mx:2,S", &MESSAGE.replace("one", "two"));
        home.write("mail/alice/new/3.M3.mx", &MESSAGE.replace("one", "three"));
        home.write("mail/alice/dovecot-uidlist", "3 V1 N4\n1 :1.M1.mx\n");
        fs::create_dir(home.path("mail/empty")).unwrap();
        home.ok(&["backup", "--init", "mail", "--job", "mail"]);
        home
    }

    fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join(below)
    }

    fn write(&self, below: &str, content: &str) {
        let path = self.path(below);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// The place of a path in a snapshot.
    fn at(&self, snapshot: &str, below: &str) -> String {
        format!("{snapshot}:{}", self.path(below).display())
    }

    fn run<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mailark"));
        command.args(arguments).current_dir(self.folder.path()).env_clear().env("TZ", "UTC");
        for name in ["CACHE", "STATE", "DATA", "CONFIG"] {
            command.env(format!("XDG_{name}_HOME"), self.path(name));
        }
        command.output().unwrap()
    }

    /// Runs a command that must succeed; gives its standard output.
    fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command that must end with `code`; gives its standard error.
    fn fails(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {output:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    fn json(&self, arguments: &[&str]) -> Vec<Value> {
        self.ok(arguments).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn repository(&self) -> PathBuf {
        self.path("DATA/mailark/repository")
    }

    fn snapshot_ids(&self) -> Vec<String> {
        let listed = &self.json(&["snapshots", "--json"])[0];
        listed.as_array().unwrap().iter().map(|info| info["id"].as_str().unwrap().to_owned()).collect()
    }
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(files_below(&path)) } else { files.push(path) }
    }
    files.sort();
    files
}

fn with_code<'a>(words: &[&'a str]) -> Vec<&'a str> {
    [&["--recovery-code-file", "code"], words].concat()
}

fn with_writer<'a>(words: &[&'a str]) -> Vec<&'a str> {
    [&["--key-file", "w9"], words].concat()
}

#[test]
fn ls_lists_one_level_or_all() {
    let home = Home::new();
    let mail = home.path("mail").display().to_string();
    assert_eq!(home.ok(&["ls", "latest"]), format!("{mail}/\n"));
    let one = format!("{mail}/alice/\n{mail}/empty/\n");
    for path in ["mail", "mail/"] {
        assert_eq!(home.ok(&["ls", &home.at("latest", path)]), one);
    }
    assert_eq!(home.ok(&["ls", &home.at("latest", "")]).trim_end(), format!("{mail}/"));
    assert_eq!(home.ok(&["ls", &home.at("latest", "mail/empty")]), "");
    let all = home.json(&["ls", "-R", "--json", "latest"]);
    assert_eq!(all.len(), 9);
    let sizes: u64 = all.iter().filter(|e| e["type"] == "file").map(|e| e["size"].as_u64().unwrap()).sum();
    assert_eq!(all[0]["size"], sizes);
    let one = home.ok(&["ls", "-l", &home.at("latest", "mail/alice/new/3.M3.mx")]);
    assert!(one.starts_with("-rw") && one.ends_with("/new/3.M3.mx\n"), "{one}");
    home.fails(1, &["ls", &home.at("latest", "mail/bob")]);
}

#[test]
fn names_that_are_not_text_come_through() {
    let home = Home::new();
    let odd = home.path("mail").join(OsStr::from_bytes(b"odd\xff\n"));
    fs::write(&odd, b"bytes\0\xff").unwrap();
    home.ok(&["backup", "mail", "--job", "mail"]);
    let listed = home.json(&["ls", "--json", &home.at("latest", "mail")]);
    let hex = listed.iter().find_map(|entry| entry["path_hex"].as_str()).unwrap();
    assert!(hex.ends_with("6f6464ff0a"), "{hex}");
    assert!(home.ok(&["ls", &home.at("latest", "mail")]).contains("odd\\xff\\x0a\n"));
    let at = [b"latest:".as_slice(), odd.as_os_str().as_bytes()].concat();
    let output = home.run(&[OsStr::new("dump"), OsStr::from_bytes(&at)]);
    assert_eq!(output.stdout, b"bytes\0\xff");
}

#[test]
fn dump_gives_one_file_and_nothing_else() {
    let home = Home::new();
    assert_eq!(home.ok(&["dump", &home.at("latest", "mail/alice/cur/1.M1.mx:2,")]), MESSAGE);
    assert!(home.fails(1, &["dump", &home.at("latest", "mail/alice")]).contains("restore"));
    assert!(home.fails(1, &["dump", &home.at("latest", "")]).contains("is a folder"));
    assert!(home.fails(1, &["dump", &home.at("latest", "mail/bob")]).contains("holds nothing"));
    assert!(home.fails(2, &["dump", "latest"]).contains("needs a path"));
}

#[test]
fn latest_with_a_path_is_the_newest_that_holds_it() {
    let home = Home::new();
    home.write("config/main.cf", "relay=no\n");
    home.ok(&["backup", "config", "--job", "config"]);
    assert!(home.fails(1, &["ls", "latest"]).contains("of which?"));
    assert!(home.ok(&["ls", &home.at("latest", "config")]).contains("main.cf"));
    assert_eq!(home.ok(&["dump", &home.at("latest", "config/main.cf")]), "relay=no\n");
    assert_eq!(home.ok(&["dump", &home.at("latest", "mail/alice/cur/1.M1.mx:2,")]), MESSAGE);
    home.ok(&["restore", &home.at("latest", "config"), "--to", "back"]);
    assert!(home.fails(1, &["restore", "latest:/typo", "--to", "none"]).contains("no snapshot holds /typo"));
}

#[test]
fn a_damaged_blob_is_never_written() {
    let home = Home::new();
    let pack = files_below(&home.repository().join("packs")).remove(0);
    let mut bytes = fs::read(&pack).unwrap();
    // Everything but the listings, which come last, is turned upside down.
    bytes[200..400].iter_mut().for_each(|byte| *byte ^= 0xff);
    fs::set_permissions(&pack, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    fs::write(&pack, bytes).unwrap();
    let mut damaged = 0;
    for (name, text) in
        [("cur/1.M1.mx:2,", MESSAGE.to_owned()), ("new/3.M3.mx", MESSAGE.replace("one", "three"))]
    {
        let output = home.run(&["dump", &home.at("latest", &format!("mail/alice/{name}"))]);
        assert!(text.as_bytes().starts_with(&output.stdout), "{output:?}");
        if !output.status.success() {
            assert_eq!(output.status.code(), Some(1));
            assert!(String::from_utf8_lossy(&output.stderr).contains("damaged"), "{output:?}");
            damaged += 1;
        }
    }
    assert!(damaged > 0, "the damage hit nothing");
}

#[test]
fn diff_tells_what_a_mail_server_did() {
    let home = Home::new();
    let alice = home.path("mail/alice");
    fs::rename(alice.join("new/3.M3.mx"), alice.join("cur/3.M3.mx:2,S")).unwrap();
    fs::rename(alice.join("cur/1.M1.mx:2,"), alice.join("cur/1.M1.mx:2,RS")).unwrap();
    fs::remove_file(alice.join("cur/2.M2.mx:2,S")).unwrap();
    home.write("mail/alice/new/4.M4.mx", &MESSAGE.replace("one", "four"));
    home.write("mail/alice/dovecot-uidlist", "3 V1 N5\n1 :1.M1.mx\n");
    home.ok(&["backup", "mail", "--job", "mail"]);
    let ids = home.snapshot_ids();
    let text = home.ok(&["diff", &ids[0], "latest"]);
    let shown = alice.display();
    for line in [
        format!("F {shown}/cur/1.M1.mx:2, -> cur/1.M1.mx:2,RS"),
        format!("F {shown}/new/3.M3.mx -> cur/3.M3.mx:2,S"),
        format!("- {shown}/cur/2.M2.mx:2,S"),
        format!("+ {shown}/new/4.M4.mx"),
        format!("M {shown}/dovecot-uidlist"),
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in {text}");
    }
    assert!(!text.contains("\nU "));
    assert!(home.ok(&["diff", "--metadata", &ids[0], "latest"]).contains("\nU "));
    let lines = home.json(&["diff", "--json", &home.at(&ids[0], "mail/alice/cur"), "latest"]);
    let summary = lines.last().unwrap();
    assert_eq!((&summary["type"], &summary["flags"]), (&"summary".into(), &1.into()));
    assert_eq!((&summary["added"]["messages"], &summary["removed"]["messages"]), (&1.into(), &1.into()));
    assert!(home.ok(&["diff", &ids[0], &ids[0]]).starts_with("no difference"));
    home.fails(1, &["diff", &home.at(&ids[0], "mail/bob"), "latest"]);
}

#[test]
fn stats_account_for_every_stored_byte() {
    let home = Home::new();
    let stats = &home.json(&["stats", "--json"])[0];
    let stored: u64 = ["keys", "packs", "index", "snapshots", "records"]
        .iter()
        .flat_map(|folder| files_below(&home.repository().join(folder)))
        .map(|file| file.metadata().unwrap().len())
        .sum();
    assert_eq!(stats["stored_bytes"], stored);
    assert_eq!(stats["newest_snapshots"]["messages"], 3);
    let kinds: u64 =
        stats["kinds"].as_object().unwrap().values().map(|k| k["stored_bytes"].as_u64().unwrap()).sum();
    let rest: u64 = ["footer_bytes", "padding_bytes"].iter().map(|name| stats[name].as_u64().unwrap()).sum();
    assert_eq!(stats["pack_bytes"], kinds + rest);
    let snapshot = &home.json(&["stats", "--json", "latest"])[0];
    assert_eq!((&snapshot["messages"], &snapshot["files"]), (&3.into(), &4.into()));
}

#[test]
fn status_speaks_as_monitoring_expects() {
    let home = Home::new();
    assert!(home.ok(&["status"]).starts_with("OK\n"));
    home.fails(1, &["status", "--warn-after", "0"]);
    home.fails(2, &["status", "--critical-after", "0", "--warn-after", "0"]);
    home.fails(2, &["status", "--job", "nothing"]);
    let status = &home.json(&["status", "--json"])[0];
    assert_eq!((&status["level"], &status["keys"]["recovery"]), (&"ok".into(), &1.into()));
    assert_eq!(status["last_check"], Value::Null);
    fs::remove_dir_all(home.repository()).unwrap();
    home.fails(10, &["status"]);
}

#[test]
fn a_rollback_is_noticed_by_everybody() {
    let home = Home::new();
    home.ok(&["backup", "mail", "--job", "mail"]);
    let newest = files_below(&home.repository().join("snapshots")).pop().unwrap();
    let kept = fs::read(&newest).unwrap();
    fs::remove_file(&newest).unwrap();
    let told = "snapshots were removed or the repository was rolled back";
    for (code, words) in [(1, &["snapshots"][..]), (1, &["check"]), (0, &["backup", "mail", "--job", "mail"])]
    {
        let text = home.fails(code, words);
        assert!(text.contains(told), "{words:?}: {text}");
    }
    let output = home.run(&["status"]);
    assert_eq!(output.status.code(), Some(2), "what was written since hides nothing");
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("CRITICAL: snapshots were removed"));
    for file in files_below(&home.repository().join("snapshots")).into_iter().skip(1) {
        fs::remove_file(file).unwrap();
    }
    fs::write(&newest, kept).unwrap();
    home.ok(&["snapshots"]);
    // The check above left a record of what it found; one that looks as closely and finds nothing ends the warning.
    home.fails(1, &["status"]);
    home.ok(&["check"]);
    home.ok(&["status"]);
}

fn slot_ids(home: &Home, field: &str, value: &str) -> Vec<String> {
    let slots = home.json(&["key", "list", "--json"]);
    let fitting = slots[0].as_array().unwrap().iter().filter(|slot| slot[field] == value);
    fitting.map(|slot| slot["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn keys_come_and_go_but_never_the_last() {
    let home = Home::new();
    home.write("password", "correct horse\n");
    home.ok(&["key", "add", "--new-password-file", "password", "--label", "office"]);
    let test = &home.json(&["--password-file", "password", "key", "test", "--json"])[0];
    assert_eq!(
        (&test["kind"], &test["label"], &test["role"]),
        (&"password".into(), &"office".into(), &"full".into())
    );
    home.ok(&["--password-file", "password", "key", "change", "--new-key-file", "made"]);
    assert_eq!(home.path("made").metadata().unwrap().len(), 32);
    home.fails(12, &["--password-file", "password", "snapshots"]);
    assert_eq!(home.json(&["--key-file", "made", "key", "test", "--json"])[0]["label"], "office");
    let ids: Vec<String> =
        ["recovery code", "key file"].iter().flat_map(|kind| slot_ids(&home, "kind", kind)).collect();
    assert_eq!(ids.len(), 3);
    home.fails(1, &["key", "remove", "zzzz"]);
    home.fails(1, &["key", "remove", "0"]);
    let own = home.json(&["key", "test", "--json"])[0]["id"].as_str().unwrap().to_owned();
    for id in ids.iter().filter(|id| **id != own) {
        home.ok(&["key", "remove", &id[..8]]);
    }
    assert!(home.fails(1, &["key", "remove", &own]).contains("no full key would be left"));
    home.fails(1, &["status"]);
}

#[test]
fn the_recovery_code_alone_is_enough() {
    let home = Home::new();
    let code =
        home.json(&["key", "add", "--recovery", "--json"])[0]["recovery_code"].as_str().unwrap().to_owned();
    home.write("code", &code.to_lowercase().replace('-', "\n"));
    fs::remove_file(home.path("CONFIG/mailark/key")).unwrap();
    home.fails(12, &["snapshots"]);
    home.ok(&with_code(&["restore", &home.at("latest", "mail/alice"), "--to", "out"]));
    let restored = home.path("out").join(home.path("mail/alice/cur/1.M1.mx:2,").strip_prefix("/").unwrap());
    assert_eq!(fs::read_to_string(restored).unwrap(), MESSAGE);
    home.fails(1, &with_code(&["key", "change", "--new-key-file", "new"]));
    home.ok(&with_code(&["key", "add", "--new-key-file", "new"]));
    home.ok(&["--key-file", "new", "check"]);
    home.write("code", &code.replacen(&code[..1], if code.starts_with('Z') { "Y" } else { "Z" }, 1));
    assert!(home.fails(12, &with_code(&["snapshots"])).contains("group 1"));
}

#[test]
fn a_writer_key_saves_and_lists_its_own_and_nothing_else() {
    let home = Home::new();
    home.ok(&["key", "add", "--writer", "--host", "mx9", "--new-key-file", "w9"]);
    assert_eq!(home.json(&with_writer(&["key", "test", "--json"]))[0]["host"], "mx9");
    home.ok(&with_writer(&["backup", "mail/alice", "--job", "own"]));
    home.ok(&with_writer(&["backup", "mail/alice", "--job", "own"]));
    let listed = &home.json(&with_writer(&["snapshots", "--json"]))[0];
    assert_eq!(listed.as_array().unwrap().len(), 2);
    assert_eq!(listed[0]["host"], "mx9", "the repository says what a host is called");
    assert!(home.ok(&with_writer(&["ls", "-R", "latest"])).contains("3.M3.mx"));
    assert!(
        home.ok(&with_writer(&["diff", &listed[0]["id"].as_str().unwrap()[..8], "latest"]))
            .starts_with("no difference")
    );
    home.ok(&with_writer(&["status"]));
    home.fails(12, &with_writer(&["dump", &home.at("latest", "mail/alice/cur/1.M1.mx:2,")]));
    home.fails(12, &with_writer(&["restore", "latest", "--to", "out"]));
    home.fails(12, &with_writer(&["key", "add", "--new-key-file", "more"]));
    home.fails(12, &with_writer(&["key", "remove", "abcd"]));
    home.fails(12, &with_writer(&["key", "change", "--new-key-file", "more"]));
    assert!(!home.path("more").exists(), "a refused command makes no key file");
    assert_eq!(home.ok(&["dump", "--host", "mx9", &home.at("latest", "mail/alice/cur/1.M1.mx:2,")]), MESSAGE);
    let ids = slot_ids(&home, "host", "mx9");
    home.ok(&["key", "remove", &ids[0]]);
    home.fails(12, &with_writer(&["snapshots"]));
}

#[test]
fn hosts_with_one_domain_name_share_a_domain() {
    let home = Home::new();
    for host in ["mx7", "mx8"] {
        home.ok(&["key", "add", "--writer", "--host", host, "--domain", "cluster", "--new-key-file", host]);
    }
    let stored: Vec<u64> = ["mx7", "mx8"]
        .iter()
        .map(|host| {
            let report = &home.json(&["--key-file", host, "backup", "mail/alice", "--job", "x", "--json"])[0];
            report["new_bytes"].as_u64().unwrap()
        })
        .collect();
    assert!(stored[0] > 0);
    assert!(stored[1] < stored[0], "{stored:?}");
}
