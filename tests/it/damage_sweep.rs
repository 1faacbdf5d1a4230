//! Every kind of damage to every file, by the thousand: noticed, never wrong bytes, never a panic; what is local heals.

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};

use mailark::format::record::Record;
use mailark::index::Index;
use mailark::ops::check::ReadData;
use mailark::repo::{Repository, deltas, records, snapshots};

use crate::lab::{Lab, contents, findings_reading, is_long, local, new_index, open_with, secret, seed, text};
use crate::support::{TestEnv, copy_folder, dice, files_below};
use crate::tree::TreeFixture;

/// Bits flipped and lengths cut in each file of the short form.
const SPOTS: u64 = 48;
const SPOTS_LONG: u64 = 1_000;

/// How often each kind of damage was done, and what was wrong.
#[derive(Default)]
struct Tally {
    done: BTreeMap<&'static str, u64>,
    wrong: Vec<String>,
}

impl Tally {
    fn note(&mut self, kind: &'static str, judged: Result<(), String>, what: impl Fn() -> String) {
        *self.done.entry(kind).or_default() += 1;
        if let Err(text) = judged {
            self.wrong.push(format!("{}: {text}", what()));
        }
    }

    fn tell(self, name: &str) {
        println!("{name}: {} damages, {:?}", self.done.values().sum::<u64>(), self.done);
        let first = self.wrong.iter().take(12).cloned().collect::<Vec<_>>().join("\n");
        assert!(self.wrong.is_empty(), "{name}: {} wrong\n{first}", self.wrong.len());
    }
}

/// A kind of damage, where, and what is left.
type Damage = (&'static str, u64, Vec<u8>);

fn spots(length: u64, seed: u64, count: u64) -> impl Iterator<Item = u64> {
    let step = length.div_ceil(count).max(1);
    (dice(seed, step)..length).step_by(step as usize)
}

/// Bits flipped and lengths cut all over the file, bytes added, nothing left, zeros.
fn damages(bytes: &[u8], seed: u64, count: u64) -> Vec<Damage> {
    let length = bytes.len() as u64;
    let mut all: Vec<Damage> = spots(length, seed, count)
        .map(|at| {
            let mut changed = bytes.to_vec();
            changed[at as usize] ^= 1 << dice(seed ^ at, 8);
            ("flip", at, changed)
        })
        .collect();
    all.extend(spots(length, seed + 1, count / 3).map(|keep| ("cut", keep, bytes[..keep as usize].to_vec())));
    all.extend([1u64, 16, 4_096].map(|more| {
        let tail = crate::support::noise(seed, more as usize);
        ("grown", more, [bytes, &tail].concat())
    }));
    all.push(("emptied", 0, Vec::new()));
    all.push(("zeros", 0, vec![0; bytes.len()]));
    all
}

/// What others of its kind hold, under its name.
fn exchanged(files: &BTreeMap<PathBuf, Vec<u8>>, path: &Path) -> Vec<Damage> {
    let others = files.iter().filter(|(other, _)| *other != path);
    others.enumerate().take(4).map(|(at, (_, bytes))| ("exchanged", at as u64, bytes.clone())).collect()
}

fn read_all(files: Vec<PathBuf>) -> BTreeMap<PathBuf, Vec<u8>> {
    files
        .into_iter()
        .map(|path| {
            let bytes = fs::read(&path).unwrap();
            (path, bytes)
        })
        .collect()
}

fn without_panic(act: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(act)).unwrap_or_else(|_| Err("it panicked".to_owned()))
}

/// Reads all snapshots that can be read: each file is what it was, or an error. Gives how many are whole.
fn read_snapshots(lab: &Lab, repository: &Repository, index: &RwLock<Index>) -> Result<usize, String> {
    let mut whole = 0;
    let Ok(listed) = snapshots::list(repository) else { return Ok(0) };
    for info in &listed.snapshots {
        let known = lab.older.get(&info.hash).ok_or("a snapshot that nobody made")?;
        match contents(repository, index, info) {
            Ok(held) if held == *known => whole += 1,
            Ok(_) => return Err("WRONG BYTES".to_owned()),
            Err(_) => {}
        }
    }
    Ok(whole)
}

/// Damage in the repository is found by a check, or nothing opens; and nothing ever gives wrong bytes.
fn judge_repository(lab: &Lab, root: &Path, read_data: ReadData) -> Result<(), String> {
    let mut opened = false;
    let mut noticed = false;
    for key in &lab.keys {
        let Ok(repository) = open_with(&local(root), std::slice::from_ref(key)) else { continue };
        opened = true;
        let index = new_index(&repository);
        let unusable = deltas::sync(&repository, &index);
        noticed |= unusable.as_ref().map_or(true, |unusable| !unusable.is_empty());
        read_snapshots(lab, &repository, &index)?;
        let found = findings_reading(&repository, &new_index(&repository), read_data);
        noticed |= found.map_or(true, |found| !found.is_empty());
        // The other key sees the same, unless the slot in use is what is damaged.
        if noticed {
            break;
        }
    }
    if opened && !noticed { Err("nothing noticed it".to_owned()) } else { Ok(()) }
}

fn sweep_folders(name: &str, folders: &[&str], read_data: ReadData) {
    let seed = seed();
    let lab = Lab::new();
    let root = lab.env.path("damaged");
    copy_folder(&lab.env.path("grown"), &root);
    let repository = lab.open(&root).unwrap();
    repository.add_slot(&repository.keys, &secret(&lab.keys[1]), "second", "").unwrap();
    let result = Record::Result { verb: "check".to_owned(), ok: true, text: "whole".to_owned() };
    records::write(&repository, &result).unwrap();
    judge_repository(&lab, &root, read_data).expect_err("an undamaged repository shows nothing");
    let count = if is_long() { SPOTS_LONG } else { SPOTS };
    for folder in folders {
        let files = read_all(files_below(&root.join(folder)));
        assert!(!files.is_empty(), "{folder} is empty");
        let mut tally = Tally::default();
        for (number, (path, bytes)) in files.iter().enumerate() {
            let mut all = damages(bytes, seed + 1_000 * number as u64, count);
            all.extend(exchanged(&files, path));
            for (kind, at, changed) in all.into_iter().filter(|(.., changed)| changed != bytes) {
                fs::write(path, changed).unwrap();
                let judged = without_panic(|| judge_repository(&lab, &root, read_data));
                tally.note(kind, judged, || format!("{kind} {at} of {}", path.display()));
            }
            fs::write(path, bytes).unwrap();
        }
        tally.tell(&format!("{name} {folder}"));
    }
    judge_repository(&lab, &root, read_data).expect_err("all is as it was");
}

#[test]
fn damage_to_small_objects() {
    let folders = ["config", "keys", "records", "index", "snapshots"];
    sweep_folders("objects in", &folders, ReadData::No);
}

#[test]
fn damage_to_packs() {
    sweep_folders("objects in", &["packs"], ReadData::All);
}

/// Damage to the index: the answers are right, or it is known to be damaged and starts over.
fn judge_index(lab: &Lab, repository: &Repository, cache: &Path) -> Result<(), String> {
    let all = lab.older.len();
    let mut index = RwLock::new(Index::open(cache, &repository.id()).map_err(text)?);
    for _ in 0..2 {
        let whole = deltas::sync(repository, &index)
            .map_err(text)
            .and_then(|_| read_snapshots(lab, repository, &index));
        match whole {
            Ok(whole) if whole == all => return Ok(()),
            Err(error) if error == "WRONG BYTES" => return Err(error),
            _ => index = RwLock::new(index.into_inner().unwrap().start_over().map_err(text)?),
        }
    }
    Err("it does not heal".to_owned())
}

#[test]
fn damage_to_the_index() {
    let seed = seed();
    let lab = Lab::new();
    let repository = lab.open(&lab.env.path("grown")).unwrap();
    let (whole, cache) = (lab.env.folder("index-whole"), lab.env.path("index-damaged"));
    let index = Index::open(&whole, &repository.id()).unwrap();
    index.set("a fact", b"of some length").unwrap();
    let index = RwLock::new(index);
    deltas::sync(&repository, &index).unwrap();
    index.into_inner().unwrap().settle().unwrap();
    let files = read_all(files_below(&whole));
    let mut tally = Tally::default();
    let count = if is_long() { SPOTS_LONG } else { 3 * SPOTS };
    for (number, (path, bytes)) in files.iter().enumerate() {
        let name = path.strip_prefix(&whole).unwrap();
        let mut all = damages(bytes, seed + 1_000 * number as u64, count);
        all.extend(exchanged(&files, path));
        for (kind, at, changed) in all {
            copy_folder(&whole, &cache);
            fs::write(cache.join(name), changed).unwrap();
            let judged = without_panic(|| judge_index(&lab, &repository, &cache));
            tally.note(kind, judged, || format!("{kind} {at} of {}", name.display()));
            fs::remove_dir_all(&cache).unwrap();
        }
    }
    tally.tell("index");
}

/// Runs a command on damaged notes of this host: it does its work, or names the file that must go.
fn judge_state(env: &TestEnv, args: &[&str], file: &Path) -> Result<bool, String> {
    let output = env.mailark(args);
    if output.stderr.contains("panicked") || output.code > 100 {
        return Err(output.both());
    }
    match output.code {
        0 => Ok(true),
        _ if output.stderr.contains(&file.display().to_string()) => Ok(false),
        _ => Err(format!("{args:?} does not name the file: {}", output.both())),
    }
}

#[test]
fn damage_to_the_notes_of_this_host() {
    let seed = seed();
    let env = TestEnv::with_repository();
    let tree = TreeFixture::new(env.path("vmail"));
    tree.maildir("alice", 0..10);
    tree.file("note", b"the bytes of a file");
    env.backup(&tree.root);
    env.check();
    let state = env.path("home/state");
    let files = read_all(files_below(&state));
    let names: Vec<_> = files.keys().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
    assert!(["highest", "signing-key", "verified"].iter().all(|name| names.contains(name)), "{names:?}");
    let whole = env.path("state-whole");
    copy_folder(&state, &whole);
    let count = if is_long() { 400 } else { 12 };
    let (mut tally, mut refused) = (Tally::default(), 0);
    for (number, (path, bytes)) in files.iter().enumerate().filter(|(_, (_, bytes))| !bytes.is_empty()) {
        let mut all = damages(bytes, seed + 1_000 * number as u64, count);
        all.extend(exchanged(&files, path));
        for (kind, at, changed) in all {
            fs::write(path, changed).unwrap();
            let dump = env.mailark(["dump", "latest:/data/note"]);
            let judged = match dump.stdout.as_str() {
                "the bytes of a file" | "" => judge_state(&env, &["check", "--read-data"], path),
                _ => Err("WRONG BYTES".to_owned()),
            };
            refused += u64::from(matches!(judged, Ok(false)));
            tally.note(kind, judged.map(drop), || format!("{kind} {at} of {}", path.display()));
            // Without the file that was named, all is well.
            fs::remove_file(path).unwrap();
            if at % 5 == 0 {
                env.check();
            }
            fs::remove_dir_all(&state).unwrap();
            copy_folder(&whole, &state);
        }
    }
    println!("{refused} of them ended in a refusal that names the file");
    tally.tell("notes");
}

#[test]
fn the_sweep_sees_what_it_should() {
    let lab = Arc::new(Lab::new());
    let root = lab.env.path("grown");
    let (path, _) = read_all(files_below(&root.join("packs"))).into_iter().next().unwrap();
    fs::remove_file(path).unwrap();
    judge_repository(&lab, &root, ReadData::No).unwrap();
}
