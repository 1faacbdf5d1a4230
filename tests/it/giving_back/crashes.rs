//! Killed before any of its changes of the disk, a delivery goes on or is taken back: each letter once, nothing else.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use mailark::mail::letter::Letter;

use super::site::{letter, message, stream};
use crate::support::{PROGRAM, TestEnv, files_below, skipped, tool};

/// What a delivery changes the disk with.
const CALLS: [&str; 7] = ["mkdirat", "renameat2", "renameat", "unlinkat", "fsync", "fdatasync", "fchmod"];

/// A mailbox of files alone.
struct Place {
    env: TestEnv,
    mail: PathBuf,
    stream: PathBuf,
    letters: Vec<(Letter, Vec<u8>)>,
    into: &'static str,
}

/// Files below the mailbox with their bytes, but those that a run holds.
fn state(mail: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let all = files_below(mail).into_iter();
    let seen = all.filter(|path| !path.to_string_lossy().contains("mailark-held-"));
    seen.map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

impl Place {
    fn new(into: &'static str) -> Place {
        let env = TestEnv::new();
        let mail = env.folder("mail");
        for folder in ["", ".Work/"] {
            for part in ["cur", "new", "tmp"] {
                fs::create_dir_all(mail.join(format!("{folder}{part}"))).unwrap();
            }
        }
        fs::write(mail.join("cur/1.M1P1.mx,S=5:2,S"), "other").unwrap();
        fs::write(mail.join("subscriptions"), "V\t2\n\nWork\n").unwrap();
        let letters = vec![
            letter("INBOX", "1700000001.M1P1.mx", &message(1)),
            letter("Work", "1700000002.M1P1.mx", &message(2)),
            letter("Gone", "1700000003.M1P1.mx", &message(3)),
            // Lies there already.
            letter("INBOX", "1.M1P1.mx,S=5", "other"),
        ];
        let path = env.path("stream");
        fs::write(&path, stream(&letters)).unwrap();
        Place { env, mail, stream: path, letters, into }
    }

    fn apply(&self) -> Command {
        let mut command = self.env.command(["apply", "--json", "--into", self.into, "--mailbox"]);
        command.arg(&self.mail).stdin(fs::File::open(&self.stream).unwrap());
        command
    }

    /// Kills the program when it makes a call for the n-th time; false when it does not get there.
    fn killed_at(&self, program: &[&str], call: &str, number: u32) -> bool {
        let inject = format!("inject={call}:signal=KILL:when={number}");
        let mut command = Command::new("strace");
        command.args([
            "-f",
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            &format!("trace={call}"),
            "-e",
            &inject,
            PROGRAM,
        ]);
        self.env.surround(&mut command).args(program).stdin(fs::File::open(&self.stream).unwrap());
        let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
        status.signal() == Some(9) || status.code() == Some(137)
    }

    fn kill_apply(&self, call: &str, number: u32) -> bool {
        let mail = self.mail.to_str().unwrap();
        self.killed_at(&["apply", "--json", "--into", self.into, "--mailbox", mail], call, number)
    }

    /// Every letter lies there once, and nothing of ours is left beside.
    #[track_caller]
    fn assert_whole(&self, before: &BTreeMap<PathBuf, Vec<u8>>, what: &str) {
        let after = state(&self.mail);
        for (path, bytes) in before {
            if !path.ends_with("subscriptions") {
                assert_eq!(after.get(path), Some(bytes), "{what}: {}", path.display());
            }
        }
        for (letter, bytes) in &self.letters {
            let base = String::from_utf8(letter.base.clone()).unwrap();
            let found: Vec<_> = after
                .iter()
                .filter(|(path, _)| path.to_string_lossy().contains(&format!("/{base}:2,")))
                .collect();
            assert_eq!(found.len(), 1, "{what}: {base} in {:?}", after.keys());
            assert_eq!(found[0].1, bytes);
        }
        self.assert_tidy(what);
        let list = fs::read_to_string(self.mail.join("subscriptions")).unwrap();
        let new = if self.into == "original" { "Gone" } else { "Restored\t" };
        assert!(list.contains(new), "{what}: {list}");
        let lines: Vec<&str> = list.lines().skip(2).collect();
        assert_eq!(lines.iter().collect::<std::collections::BTreeSet<_>>().len(), lines.len(), "{list}");
    }

    #[track_caller]
    fn assert_tidy(&self, what: &str) {
        let names = fs::read_dir(&self.mail).unwrap().map(|entry| entry.unwrap().file_name());
        let odd: Vec<_> = names
            .filter(|name| {
                let name = name.to_string_lossy();
                name.ends_with(".lock")
                    || (name.starts_with("mailark-") && !name.starts_with("mailark-held-"))
            })
            .collect();
        assert_eq!(odd, Vec::<std::ffi::OsString>::new(), "{what}");
        assert_eq!(files_below(&self.mail.join("tmp")), Vec::<PathBuf>::new(), "{what}");
    }

    /// The one run there is, and its state; none when it was killed before it had begun.
    fn run(&self) -> Option<(String, String)> {
        let runs = self.env.mailark(["restore", "--runs", "--json"]).expect(0).json();
        let run = runs.as_array().unwrap().first()?.clone();
        let text = |key: &str| run[key].as_str().unwrap().to_owned();
        Some((text("id"), text("state")))
    }
}

/// A lock of Dovecot's is nobody's but its maker's: a killed one leaves it, and mail servers take it away in time.
fn unlock(place: &Place) {
    let lock = place.mail.join("subscriptions.lock");
    if lock.exists() {
        fs::remove_file(lock).unwrap();
    }
}

/// Kills at every point, and each time on a new mailbox; gives how many there were.
fn sweep(into: &'static str, then: impl Fn(&Place, &BTreeMap<PathBuf, Vec<u8>>, &str)) -> u32 {
    let mut points = 0;
    for call in CALLS {
        for number in 1.. {
            let place = Place::new(into);
            let before = state(&place.mail);
            if !place.kill_apply(call, number) {
                break;
            }
            points += 1;
            unlock(&place);
            then(&place, &before, &format!("{into}, {call} {number}"));
        }
    }
    points
}

fn can_strace() -> bool {
    let can = tool("strace", ["-f", "-qq", "-o", "/dev/null", "true"]);
    if !can {
        skipped("deliveries killed at each step", "strace is not installed or not allowed");
    }
    can
}

fn goes_on(into: &'static str) {
    if !can_strace() {
        return;
    }
    let points = sweep(into, |place, before, what| {
        let begun = place.run().map(|(id, _)| id);
        let report = crate::support::run(&mut place.apply()).expect(0).json();
        place.assert_whole(before, what);
        let (id, state) = place.run().unwrap_or_else(|| panic!("{what}: {report}"));
        assert_eq!(state, "done", "{what}");
        // Killed at its very end, the run may have been over.
        assert!(begun.is_none_or(|begun| begun == id), "{what}: another run");
        // Once more adds nothing.
        crate::support::run(&mut place.apply()).expect(0);
        place.assert_whole(before, what);
        place.env.mailark(["restore", "--undo", &id]).expect(0);
        assert_eq!(self::state(&place.mail), *before, "{what}");
    });
    println!("{into}: killed at {points} points");
    assert!(points > 20, "{points}");
}

fn is_taken_back(into: &'static str) {
    if !can_strace() {
        return;
    }
    let points = sweep(into, |place, before, what| {
        let Some((id, _)) = place.run() else {
            return assert_eq!(state(&place.mail), *before, "{what}");
        };
        place.env.mailark(["restore", "--undo", &id]).expect(0);
        assert_eq!(state(&place.mail), *before, "{what}");
        place.assert_tidy(what);
        place.env.mailark(["restore", "--undo", &id]).expect(1).naming("was taken back already");
        // What had come is put back, the rest comes with the same request.
        place.env.mailark(["restore", "--redo", &id]).expect(0);
        crate::support::run(&mut place.apply()).expect(0);
        let after = state(&place.mail);
        for (letter, _) in &place.letters {
            let base = String::from_utf8(letter.base.clone()).unwrap();
            let count = after.keys().filter(|path| path.to_string_lossy().contains(&base)).count();
            assert_eq!(count, 1, "{what}: {base}");
        }
    });
    println!("{into}: killed and taken back at {points} points");
    assert!(points > 20, "{points}");
}

#[test]
fn a_killed_delivery_goes_on_where_it_was() {
    goes_on("restored");
}

#[test]
fn a_killed_delivery_into_original_folders_goes_on() {
    goes_on("original");
}

#[test]
fn a_killed_delivery_is_taken_back() {
    is_taken_back("restored");
}

#[test]
fn a_killed_delivery_into_original_folders_is_taken_back() {
    is_taken_back("original");
}

#[test]
fn a_killed_undo_goes_on() {
    if !can_strace() {
        return;
    }
    let mut points = 0;
    for into in ["restored", "original"] {
        for (verb, call) in ["--undo", "--redo"].into_iter().flat_map(|verb| CALLS.map(|call| (verb, call))) {
            for number in 1.. {
                let place = Place::new(into);
                let before = state(&place.mail);
                crate::support::run(&mut place.apply()).expect(0);
                let whole = state(&place.mail);
                let (id, _) = place.run().unwrap();
                if verb == "--redo" {
                    place.env.mailark(["restore", "--undo", &id]).expect(0);
                }
                if !place.killed_at(&["restore", verb, &id], call, number) {
                    break;
                }
                points += 1;
                unlock(&place);
                let what = format!("{into}, {verb}, {call} {number}");
                if place.run().is_some_and(|(_, state)| {
                    state.starts_with("half") || verb == "--redo" && state != "done"
                }) {
                    place.env.mailark(["restore", verb, &id]).expect(0);
                }
                if verb == "--undo" && place.run().is_some_and(|(_, state)| state == "done") {
                    place.env.mailark(["restore", verb, &id]).expect(0);
                }
                let wanted = if verb == "--undo" { before } else { whole };
                assert_eq!(state(&place.mail), wanted, "{what}");
                place.assert_tidy(&what);
            }
        }
    }
    println!("killed at {points} points");
    assert!(points > 20, "{points}");
}
