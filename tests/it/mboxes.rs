//! mbox files that mail programs write to while they are backed up.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::fs::{FlockOperation, fcntl_lock};

use crate::support::{SmallDisk, Stop, TestEnv, dice, noise, skipped, tool};
use crate::tree::mail;

/// A message as it stands in an mbox.
fn framed(number: u64, filler: usize) -> Vec<u8> {
    let mut text = b"From bob@example.org Mon Nov 23 10:00:00 2026\n".to_vec();
    text.extend_from_slice(&mail(number));
    for line in noise(number, filler / 2).chunks(36) {
        line.iter().for_each(|byte| text.extend_from_slice(format!("{byte:02x}").as_bytes()));
        text.push(b'\n');
    }
    text.push(b'\n');
    text
}

fn mbox(numbers: impl IntoIterator<Item = u64>, filler: usize) -> Vec<u8> {
    numbers.into_iter().flat_map(|number| framed(number, filler)).collect()
}

/// What the locks of a mailbox guard: takes both as a mail program does.
fn locked<T>(path: &Path, work: impl FnOnce(&File) -> T) -> T {
    let dotlock = PathBuf::from(format!("{}.lock", path.display()));
    loop {
        if let Ok(mut lock) = OpenOptions::new().write(true).create_new(true).open(&dotlock) {
            lock.write_all(format!("{}:", std::process::id()).as_bytes()).unwrap();
            let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
            if fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
                let result = work(&file);
                drop(file);
                fs::remove_file(&dotlock).unwrap();
                return result;
            }
            drop(file);
            fs::remove_file(&dotlock).unwrap();
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

type Digests = Mutex<Vec<[u8; 32]>>;

fn digest(bytes: &[u8]) -> [u8; 32] {
    *blake3::hash(bytes).as_bytes()
}

/// Writes in pieces, so that somebody who looks without a lock sees a half.
fn write_slowly(file: &File, bytes: &[u8], pieces: usize, mut at: u64) {
    for piece in bytes.chunks(bytes.len().div_ceil(pieces).max(1)) {
        file.write_all_at(piece, at).unwrap();
        at += piece.len() as u64;
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Appends messages until told to stop; notes each state that is seen under the lock.
fn deliver(path: &Path, filler: usize, states: &Digests, stop: &AtomicBool) {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&fs::read(path).unwrap());
    for number in 5_000.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let message = framed(number, filler);
        locked(path, |file| {
            write_slowly(file, &message, 4, file.metadata().unwrap().size());
            hasher.update(&message);
            states.lock().unwrap().push(*hasher.finalize().as_bytes());
        });
        std::thread::sleep(Duration::from_millis(dice(number, 15)));
    }
}

/// Writes the mailbox anew in its place, with some messages gone, some changed and one more.
fn rewrite(path: &Path, filler: usize, states: &Digests, stop: &AtomicBool) {
    let count = (fs::metadata(path).unwrap().len() as usize / framed(0, filler).len()) as u64;
    let wholes: Vec<Vec<u8>> = (0..4).map(|first| mbox(first..count + 2 - first % 3, filler)).collect();
    states.lock().unwrap().extend(wholes.iter().map(|whole| digest(whole)));
    for round in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let whole = &wholes[round as usize % wholes.len()];
        locked(path, |file| {
            if round % 3 == 0 {
                file.set_len(0).unwrap();
            }
            // Most of the time the mailbox is neither the old one nor the new one.
            write_slowly(file, whole, 20, 0);
            file.set_len(whole.len() as u64).unwrap();
        });
        std::thread::sleep(Duration::from_millis(2 + dice(round, 10)));
    }
}

/// Puts another file in its place, as some mail programs do.
fn replace(path: &Path, filler: usize, states: &Digests, stop: &AtomicBool) {
    for round in 1.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        locked(path, |_| {
            let whole = mbox(dice(round, 9)..20 + dice(round, 30), filler);
            let new = path.with_extension("new");
            let file = File::create(&new).unwrap();
            write_slowly(&file, &whole, 4, 0);
            states.lock().unwrap().push(digest(&whole));
            fs::rename(&new, path).unwrap();
        });
        std::thread::sleep(Duration::from_millis(5 + dice(round, 60)));
    }
}

type Writer = fn(&Path, usize, &Digests, &AtomicBool);

/// Backs up again and again beside a writer: every snapshot holds a state that was seen under the lock.
fn storm(writer: Writer, messages: u64, filler: usize, backups: usize) {
    let env = TestEnv::with_repository();
    let folder = env.folder("spool");
    let path = folder.join("alice");
    let first = mbox(0..messages, filler);
    fs::write(&path, &first).unwrap();
    let (states, stop) = (Mutex::new(vec![digest(&first)]), AtomicBool::new(false));
    let changed = || fs::metadata(&path).map(|meta| (meta.ino(), meta.ctime(), meta.ctime_nsec())).unwrap();
    let before = changed();
    let outputs = std::thread::scope(|scope| {
        let _stop = Stop(&stop);
        scope.spawn(|| writer(&path, filler, &states, &stop));
        crate::support::wait_until("the writer to begin", || changed() != before);
        let excluded = ["--exclude", "*.lock", "--exclude", "*.new", "--accept-loss"];
        let next = || {
            let last = changed();
            crate::support::wait_until("the writer to go on", || changed() != last);
            env.backup_with(&folder, &excluded)
        };
        (0..backups).map(|_| next()).collect::<Vec<_>>()
    });
    for output in outputs {
        let report = output.expect(0).json();
        assert_eq!(report["unlocked"], 0, "{report}");
    }
    assert!(!folder.join("alice.lock").exists());
    let states = states.into_inner().unwrap();
    let snapshots = env.mailark(["snapshots", "--json"]).expect(0).json();
    let mut seen = std::collections::BTreeSet::new();
    for (number, snapshot) in snapshots.as_array().unwrap().iter().enumerate() {
        let restored = env.restore(snapshot["id"].as_str().unwrap(), &format!("restored-{number}"));
        let bytes = fs::read(restored.join("alice")).unwrap();
        let state = states.iter().position(|state| *state == digest(&bytes));
        seen.insert(state.unwrap_or_else(|| panic!("{} bytes that never were the mailbox", bytes.len())));
    }
    assert!(seen.len() > 1, "nothing was written: {seen:?}");
    env.check();
}

#[test]
fn a_small_mailbox_under_delivery() {
    storm(deliver, 10, 500, 8);
}

#[test]
fn a_large_mailbox_under_delivery() {
    storm(deliver, 60, 120_000, 4);
}

#[test]
fn a_small_mailbox_that_is_rewritten() {
    storm(rewrite, 30, 500, 8);
}

#[test]
fn a_large_mailbox_that_is_rewritten() {
    storm(rewrite, 60, 120_000, 4);
}

#[test]
fn a_mailbox_that_is_replaced() {
    storm(replace, 30, 500, 8);
}

#[test]
fn a_calm_mailbox_leaves_its_folder_as_it_was() {
    let env = TestEnv::with_repository();
    let folder = env.folder("spool");
    fs::write(folder.join("alice"), mbox(0..9, 0)).unwrap();
    fs::write(folder.join("large"), mbox(0..50, 120_000)).unwrap();
    let times =
        || fs::metadata(&folder).map(|meta| (meta.mtime(), meta.mtime_nsec(), meta.ctime_nsec())).unwrap();
    let before = times();
    let report = env.backup(&folder);
    assert_eq!((&report["unlocked"], &report["problem_count"]), (&0.into(), &0.into()), "{report}");
    assert_eq!(times(), before, "a dotlock was made");
}

#[test]
fn a_lock_that_is_held_too_long_is_told() {
    let env = TestEnv::with_repository();
    let folder = env.folder("spool");
    let whole = mbox(0..9, 0);
    fs::write(folder.join("alice"), &whole).unwrap();
    fs::write(folder.join("bob"), &whole).unwrap();
    fs::write(folder.join("alice.lock"), "somebody").unwrap();
    let bob = OpenOptions::new().read(true).write(true).open(folder.join("bob")).unwrap();
    fcntl_lock(&bob, FlockOperation::NonBlockingLockExclusive).unwrap();
    let report = env.backup_with(&folder, &["--lock-wait", "1s"]).expect(0).json();
    assert_eq!((&report["unlocked"], &report["problem_count"]), (&2.into(), &0.into()), "{report}");
    assert_eq!(fs::read(folder.join("alice.lock")).unwrap(), b"somebody");
    assert!(!folder.join("bob.lock").exists());
    assert_eq!(fs::read(env.restore("latest", "restored").join("alice")).unwrap(), whole);
    // The one who made the lock is no more.
    let mut child = std::process::Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    let host = rustix::system::uname();
    let owner = format!("{}:{}", child.id(), host.nodename().to_str().unwrap());
    fs::write(folder.join("alice.lock"), &owner).unwrap();
    drop(bob);
    let report = env.backup_with(&folder, &["--lock-wait", "0"]).expect(0).json();
    assert_eq!(report["unlocked"], 0, "{report}");
    assert_eq!(fs::read_to_string(folder.join("alice.lock")).unwrap(), owner, "it is not ours to remove");
}

#[test]
fn stopped_backups_leave_no_lock() {
    let env = TestEnv::with_repository();
    let folder = env.folder("spool");
    let path = folder.join("alice");
    fs::write(&path, mbox(0..50, 20_000)).unwrap();
    let (states, stop) = (Mutex::new(Vec::new()), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let _stop = Stop(&stop);
        scope.spawn(|| deliver(&path, 20_000, &states, &stop));
        for round in 0..8 {
            let child = env.start(["backup".as_ref(), folder.as_os_str()]);
            std::thread::sleep(Duration::from_millis(30 + dice(round, 100)));
            crate::support::signal(&child, rustix::process::Signal::INT);
            let output = crate::support::finished(child);
            assert!([0, 2, 130].contains(&output.code), "{}", output.both());
        }
    });
    assert!(!folder.join("alice.lock").exists());
}

#[test]
fn a_read_only_source_is_not_written_to() {
    let env = TestEnv::with_repository();
    let Some(disk) = SmallDisk::mount(env.path("disk"), "4m") else {
        return skipped("a_read_only_source_is_not_written_to", "only root may mount");
    };
    let whole = mbox(0..9, 0);
    fs::write(disk.0.join("alice"), &whole).unwrap();
    let remounted = tool("mount", ["-o".as_ref(), "remount,ro".as_ref(), disk.0.as_os_str()]);
    assert!(remounted);
    let report = env.backup(&disk.0);
    assert_eq!((&report["unlocked"], &report["problem_count"]), (&0.into(), &0.into()), "{report}");
    assert_eq!(fs::read(env.restore("latest", "restored").join("alice")).unwrap(), whole);
}

#[test]
fn a_rewritten_mailbox_stores_the_messages_that_changed() {
    let env = TestEnv::with_repository();
    let folder = env.folder("spool");
    fs::write(folder.join("alice"), mbox(0..200, 20_000)).unwrap();
    let first = env.backup(&folder);
    assert!(first["new_bytes"].as_u64().unwrap() > 4_000_000, "{first}");
    // Four are expunged, one gets a flag, one comes.
    let gone = [0, 17, 18, 150];
    let mut whole = Vec::new();
    for number in (0..201).filter(|number| !gone.contains(number)) {
        let message = framed(number, 20_000);
        let headers = message.windows(9).position(|bytes| bytes == b"Subject: ").unwrap();
        whole.extend_from_slice(&message[..headers]);
        if number == 99 {
            whole.extend_from_slice(b"Status: RO\n");
        }
        whole.extend_from_slice(&message[headers..]);
    }
    fs::write(folder.join("alice"), &whole).unwrap();
    let second = env.backup(&folder);
    // One message, one header, and the list of what the mailbox is made of.
    assert!(second["new_bytes"].as_u64().unwrap() < 80_000, "{second}");
    assert_eq!(fs::read(env.restore("latest", "restored").join("alice")).unwrap(), whole);
}
