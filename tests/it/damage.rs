//! Damaged objects and damaged caches: a clear word, never wrong bytes, never a panic, and no harm to the rest.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::{Output, TestEnv, copy_folder, dice, files_below, is_root, noise, settle};
use crate::tree::{Ignore, TreeFixture, assert_same, describe, mail, mail_with_attachment, message_name};

/// A tree that shares no blob with those of other seeds.
fn tree(env: &TestEnv, name: &str, seed: u64) -> TreeFixture {
    let tree = TreeFixture::new(env.path(name));
    for number in seed..seed + 12 {
        tree.file(format!("{name}/cur/{}", message_name(number, "S")), mail(number));
    }
    tree.file(format!("{name}/cur/{}", message_name(seed + 50, "")), mail_with_attachment(seed, 40_000));
    tree.file(format!("files/{name}"), noise(seed, 50_000));
    settle();
    tree
}

struct Damaged {
    env: TestEnv,
    /// Job and its tree; the objects of each stand apart.
    jobs: [(&'static str, TreeFixture); 2],
}

impl Damaged {
    fn new() -> Damaged {
        let env = TestEnv::with_repository();
        let jobs = [("one", tree(&env, "one", 1_000)), ("two", tree(&env, "two", 2_000))];
        for (job, tree) in &jobs {
            env.mailark(["backup", "--job", job, "--as", "/data", tree.root.to_str().unwrap()]).expect(0);
        }
        Damaged { env, jobs }
    }

    fn run(&self, args: &[&str]) -> Output {
        let output = self.env.mailark(args.iter().chain(&["--no-cache"]));
        assert!(!output.stderr.contains("panicked") && output.code < 100, "{args:?}: {}", output.both());
        output
    }

    /// Restores a job: all of it or less, but never anything else. Gives the exit code.
    fn restore(&self, number: usize, what: &str) -> i32 {
        let (job, tree) = &self.jobs[number];
        let to = self.env.path("restored");
        if to.exists() {
            fs::remove_dir_all(&to).unwrap();
        }
        let output = self.run(&["restore", "latest", "--job", job, "--to", to.to_str().unwrap()]);
        if output.code == 0 {
            assert_same(&tree.root, &to.join("data"), Ignore { owners: !is_root(), ..Ignore::default() });
        } else {
            assert!(output.stderr.contains("mailark: "), "{what}: {}", output.both());
            for file in files_below(&to).iter().filter(|file| !file.ends_with(".mailark-restore")) {
                let source = tree.root.join(file.strip_prefix(to.join("data")).unwrap());
                assert!(
                    fs::read(file).unwrap() == fs::read(source).unwrap(),
                    "{what}: wrong bytes in {file:?}"
                );
            }
        }
        output.code
    }
}

/// Ways to damage a file of `bytes`, each with a name.
fn damages(bytes: &[u8], seed: u64) -> Vec<(String, Vec<u8>)> {
    let length = bytes.len() as u64;
    let mut places: Vec<u64> = [0, 5, 40, length / 2].into();
    places.extend([70, 20, 1].map(|back| length.saturating_sub(back)));
    places.extend((0..3).map(|n| dice(seed + n, length)));
    let mut all: Vec<(String, Vec<u8>)> = places
        .into_iter()
        .filter(|&place| place < length)
        .map(|place| {
            let mut changed = bytes.to_vec();
            changed[place as usize] ^= 1 << dice(seed + place, 8);
            (format!("bit of byte {place}"), changed)
        })
        .collect();
    for keep in [0, 10.min(length - 1), length / 2, length - 1] {
        all.push((format!("cut to {keep}"), bytes[..keep as usize].to_vec()));
    }
    all.push(("grown".to_owned(), [bytes, b"x"].concat()));
    all
}

/// What the program must say when it meets damage in a folder of the repository.
fn damage_everything_in(folder: &str, both_suffer: bool, one_names: impl Fn(&Output, &str) -> bool) {
    let damaged = Damaged::new();
    let objects = damaged.env.objects(folder);
    assert!(!objects.is_empty());
    for (number, (path, bytes)) in objects.iter().enumerate() {
        let name = path.strip_prefix(&damaged.env.repository).unwrap().to_str().unwrap().to_owned();
        for (how, changed) in damages(bytes, number as u64 * 31) {
            let what = format!("{name}, {how}");
            fs::write(path, changed).unwrap();
            let check = damaged.run(&["check", "--read-data"]);
            assert_ne!(check.code, 0, "{what}: check saw nothing");
            assert!(one_names(&check, &name), "{what} is not named: {}", check.both());
            let codes = [damaged.restore(0, &what), damaged.restore(1, &what)];
            assert!(both_suffer || codes.contains(&0), "{what}: both snapshots suffer");
            fs::write(path, bytes).unwrap();
        }
    }
    assert_eq!([damaged.restore(0, "mended"), damaged.restore(1, "mended")], [0, 0]);
    damaged.env.check();
}

fn named(output: &Output, name: &str) -> bool {
    output.stderr.contains(name)
}

#[test]
fn damaged_config() {
    damage_everything_in("config", false, named);
}

#[test]
fn damaged_key_slots() {
    // A slot whose sealed part is damaged looks like one for another key.
    damage_everything_in("keys", true, |output, name| named(output, name) || output.code == 12);
}

#[test]
fn damaged_records() {
    damage_everything_in("records", false, named);
}

#[test]
fn damaged_deltas() {
    damage_everything_in("index", false, named);
}

#[test]
fn damaged_snapshots() {
    damage_everything_in("snapshots", false, named);
}

#[test]
fn damaged_packs() {
    damage_everything_in("packs", false, named);
}

#[test]
fn a_damaged_slot_blocks_no_other_key() {
    let env = TestEnv::new();
    env.mailark(["init"]).expect(0);
    assert_eq!(env.objects("keys").len(), 2, "key file and recovery code");
    for (path, bytes) in env.objects("keys") {
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        let output = env.mailark(["snapshots"]);
        assert!(output.code == 0 || output.stderr.contains("keys/"), "{}", output.both());
        fs::write(&path, &bytes).unwrap();
    }
}

#[test]
fn missing_objects_are_noticed_and_healed() {
    for folder in ["packs", "index"] {
        let damaged = Damaged::new();
        let (path, _) = damaged.env.objects(folder).remove(0);
        fs::remove_file(&path).unwrap();
        assert_eq!(damaged.run(&["check"]).code, 1, "{folder}");
        let codes = [damaged.restore(0, folder), damaged.restore(1, folder)];
        assert!(codes.contains(&0) && codes != [0, 0], "{folder}: {codes:?}");
        if folder == "index" {
            // A backup that finds blobs nowhere stores them again.
            for (job, tree) in &damaged.jobs {
                let args = ["backup", "--job", job, "--as", "/data", tree.root.to_str().unwrap()];
                assert_eq!(damaged.run(&args).code, 0);
            }
            assert_eq!([damaged.restore(0, "healed"), damaged.restore(1, "healed")], [0, 0]);
        }
    }
    let damaged = Damaged::new();
    let oldest = damaged.env.objects("snapshots").remove(0).0;
    fs::remove_file(oldest).unwrap();
    let check = damaged.run(&["check"]);
    assert!(check.code == 1 && check.stderr.contains("was removed"), "{}", check.both());
}

/// Everything that reads works on whatever the cache holds now, and says the truth.
#[track_caller]
fn assert_cache_heals(env: &TestEnv, tree: &Path, what: &str) {
    let to = env.path("restored");
    if to.exists() {
        fs::remove_dir_all(&to).unwrap();
    }
    let output = env.mailark(["restore", "latest", "--to", "restored"]);
    assert_eq!(output.code, 0, "{what}: {}", output.both());
    assert_same(tree, &to.join("data"), Ignore { owners: !is_root(), ..Ignore::default() });
    let report = env.backup_with(tree, &[]);
    assert_eq!(report.code, 0, "{what}: {}", report.both());
    assert_eq!(report.json()["files_read"], 0, "{what}");
    let check = env.mailark(["check"]);
    assert_eq!(check.code, 0, "{what}: {}", check.both());
}

#[test]
fn a_damaged_cache_rebuilds_itself() {
    let env = TestEnv::with_repository();
    let tree = tree(&env, "vmail", 3_000);
    env.backup(&tree.root);
    let (cache, whole) = (env.cache(), env.path("whole-cache"));
    copy_folder(&cache, &whole);
    let files: Vec<PathBuf> =
        files_below(&whole).iter().map(|path| path.strip_prefix(&whole).unwrap().to_owned()).collect();
    assert!(files.len() >= 2, "{files:?}");
    for (number, file) in files.iter().enumerate() {
        let bytes = fs::read(whole.join(file)).unwrap();
        if bytes.is_empty() {
            continue;
        }
        let all = damages(&bytes, number as u64);
        // Some of each kind: this runs three commands each.
        for (how, changed) in all.into_iter().step_by(2) {
            fs::remove_dir_all(&cache).unwrap();
            copy_folder(&whole, &cache);
            fs::write(cache.join(file), changed).unwrap();
            assert_cache_heals(&env, &tree.root, &format!("{} {how}", file.display()));
        }
        fs::remove_dir_all(&cache).unwrap();
        copy_folder(&whole, &cache);
        fs::remove_file(cache.join(file)).unwrap();
        assert_cache_heals(&env, &tree.root, &format!("{} deleted", file.display()));
    }
}

#[test]
fn foreign_old_and_unwritable_caches() {
    let env = TestEnv::with_repository();
    let tree = tree(&env, "vmail", 4_000);
    env.backup(&tree.root);
    let (cache, old) = (env.cache(), env.path("old-cache"));
    copy_folder(&cache, &old);
    tree.file("files/more", noise(77, 80_000));
    settle();
    env.backup(&tree.root);
    fs::remove_dir_all(&cache).unwrap();
    copy_folder(&old, &cache);
    assert_cache_heals(&env, &tree.root, "rolled back");
    fs::remove_dir_all(&cache).unwrap();
    assert_cache_heals(&env, &tree.root, "deleted");
    // The files of another repository's cache, under the names of ours.
    let other = TestEnv::with_repository();
    other.backup(&tree.root);
    let mut theirs = files_below(&other.cache());
    for ours in files_below(&cache) {
        let same_kind = theirs.iter().position(|path| path.extension() == ours.extension());
        if let Some(place) = same_kind {
            fs::copy(theirs.remove(place), &ours).unwrap();
        }
    }
    assert_cache_heals(&env, &tree.root, "foreign");
    fs::remove_dir_all(&cache).unwrap();
    fs::write(&cache, b"a file where the folder should be").unwrap();
    assert_cache_heals(&env, &tree.root, "no folder");
}

#[test]
fn an_older_repository_is_not_hidden_by_a_newer_cache() {
    let env = TestEnv::with_repository();
    let tree = tree(&env, "vmail", 5_000);
    env.backup(&tree.root);
    let copy = env.path("copy");
    copy_folder(&env.repository, &copy);
    tree.file("files/more", noise(78, 80_000));
    env.backup(&tree.root);
    // The repository goes back; the cache knows packs that are gone.
    fs::remove_dir_all(&env.repository).unwrap();
    fs::rename(&copy, &env.repository).unwrap();
    let before = describe(&tree.root);
    env.backup(&tree.root);
    let restored = env.restore("latest", "restored");
    let ignore = Ignore { owners: !is_root(), ..Ignore::default() };
    crate::tree::assert_described(&before, &describe(&restored), ignore);
    // This host remembers what it has seen, and says so until it is told that all is well.
    env.mailark(["check"]).expect(1).naming("rolled back");
    let highest = files_below(&env.path("home/state")).into_iter().find(|path| path.ends_with("highest"));
    fs::remove_file(highest.expect("the note of the highest snapshot")).unwrap();
    env.check();
}

#[test]
fn stray_files_and_a_missing_config_keep_nobody_from_mail() {
    let damaged = Damaged::new();
    for folder in ["keys", "packs", "index", "snapshots", "records"] {
        fs::write(damaged.env.repository.join(folder).join(".stray"), "x").unwrap();
    }
    assert_eq!([damaged.restore(0, "stray files"), damaged.restore(1, "stray files")], [0, 0]);
    damaged.env.check();
    fs::remove_file(damaged.env.repository.join("config")).unwrap();
    assert_eq!(damaged.restore(0, "no config"), 0);
    damaged.run(&["check"]).expect(1).naming("config is missing");
    damaged.run(&["init"]).expect(1).naming("do not remove it");
}

#[test]
fn a_lost_pack_heals_with_the_next_backup() {
    let damaged = Damaged::new();
    for (path, _) in damaged.env.objects("packs") {
        fs::remove_file(path).unwrap();
    }
    damaged.run(&["check"]).expect(1).naming("is missing");
    for (job, tree) in &damaged.jobs {
        damaged.run(&["backup", "--job", job, "--as", "/data", tree.root.to_str().unwrap()]).expect(0);
    }
    assert_eq!([damaged.restore(0, "healed"), damaged.restore(1, "healed")], [0, 0]);
    damaged.run(&["check", "--read-data"]).expect(0);
}
