//! Mirrors: whole at each moment, never made worse by damage, and nothing leaves them without a reason.

mod faults;
mod gone;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use crate::support::{
    Output, Progress, SmallDisk, Stop, TestEnv, dice, files_below, is_root, killed_after, noise, run, skipped,
};
use crate::tree::{Ignore, TreeFixture, assert_same, mail, mail_with_attachment, message_name};

/// A repository with two jobs whose objects stand apart, and a place for a mirror.
struct Two {
    env: TestEnv,
    one: TreeFixture,
    two: TreeFixture,
    dir: PathBuf,
}

fn tree(env: &TestEnv, name: &str, seed: u64) -> TreeFixture {
    let tree = TreeFixture::new(env.path(name));
    for number in seed..seed + 12 {
        tree.file(format!("{name}/cur/{}", message_name(number, "S")), mail(number));
    }
    tree.file(format!("{name}/cur/{}", message_name(seed + 50, "")), mail_with_attachment(seed, 40_000));
    tree.file(format!("files/{name}"), noise(seed, 3 << 20));
    tree
}

impl Two {
    fn new() -> Two {
        let env = TestEnv::with_repository();
        let (one, two) = (tree(&env, "one", 1_000), tree(&env, "two", 2_000));
        let two = Two { dir: env.path("mirror"), env, one, two };
        two.backup("one");
        two.backup("two");
        two
    }

    fn mirrored() -> Two {
        let two = Two::new();
        two.mirror(&["--init"]).expect(0);
        two
    }

    fn backup(&self, job: &str) {
        crate::support::settle();
        let source = self.env.path(job);
        self.env.mailark(["backup", "--job", job, "--as", "/data", source.to_str().unwrap()]).expect(0);
    }

    fn mirror(&self, more: &[&str]) -> Output {
        self.env.mailark([&["mirror", self.dir.to_str().unwrap()], more].concat())
    }

    fn json(&self, more: &[&str]) -> Value {
        self.mirror(&[&["--json"], more].concat()).expect(0).json()
    }

    /// Verifies the mirror with neither key nor repository.
    fn verify(&self) -> Output {
        let mut command = self.env.command(["mirror", "--verify", self.dir.to_str().unwrap()]);
        run(command.env_remove("MAILARK_KEY_FILE").env_remove("MAILARK_REPO"))
    }

    /// The whole of the mirror proves itself, with a key and without.
    fn check(&self) {
        self.verify().expect(0);
        let report = self.at_mirror(&["check", "--read-data", "--json"]).expect(0).json();
        assert_eq!(report["findings"].as_array().map(Vec::len), Some(0), "{report}");
    }

    /// The mirror has every object of the repository, and nothing else but records that checks wrote into it.
    #[track_caller]
    fn assert_same_objects(&self) {
        let (held, own) = (objects(&self.dir), objects(&self.env.repository));
        let differing: Vec<&String> = own.keys().filter(|name| held.get(*name) != own.get(*name)).collect();
        assert!(differing.is_empty(), "not in the mirror: {differing:?}");
        let foreign = held.keys().filter(|name| !own.contains_key(*name) && !name.starts_with("records/"));
        let foreign: Vec<&String> = foreign.collect();
        assert!(foreign.is_empty(), "only in the mirror: {foreign:?}");
    }

    fn at_mirror(&self, args: &[&str]) -> Output {
        self.env.mailark([&["-r", self.dir.to_str().unwrap()], args].concat())
    }

    fn restores(&self, job: &str, to: &str) {
        self.at_mirror(&["restore", "latest", "--job", job, "--to", to]).expect(0);
        let tree = if job == "one" { &self.one } else { &self.two };
        let ignore = Ignore { owners: !is_root(), ..Ignore::default() };
        assert_same(&tree.root, &self.env.path(to).join("data"), ignore);
    }
}

/// Objects by name.
type Objects = BTreeMap<String, Vec<u8>>;

/// Every object at a place.
fn objects(root: &Path) -> Objects {
    let files = files_below(root).into_iter().map(|path| {
        let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        (name, fs::read(path).unwrap())
    });
    files.filter(|(name, _)| !name.starts_with("tmp/") && !name.starts_with("inventory/")).collect()
}

/// What a run left in `tmp/`, but its lock and the store's spare bytes.
fn half_written(root: &Path) -> Vec<PathBuf> {
    let files = files_below(&root.join("tmp")).into_iter();
    files.filter(|path| !path.ends_with("mirror.lock") && !path.ends_with("spare")).collect()
}

fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_mirror_holds_the_same_objects_and_is_a_repository() {
    let two = Two::new();
    two.mirror(&[]).expect(10).naming("--init").naming("mounted");
    assert!(!two.dir.exists());
    let planned = two.json(&["--init", "--dry-run"]);
    assert!(!two.dir.exists(), "a dry run wrote something");
    let before = objects(&two.env.repository);
    let done = two.json(&["--init"]);
    let held = objects(&two.dir);
    assert!(held.len() == before.len() && before.iter().all(|(name, bytes)| held.get(name) == Some(bytes)));
    let count = before.len() as u64 - 1; // without RECOVERY.txt
    assert_eq!((&done["copied"], &done["objects"]), (&count.into(), &count.into()));
    assert_eq!((&planned["copied"], &planned["removed"]), (&done["copied"], &0.into()));
    for name in before.keys().filter(|name| name.contains('/')) {
        let time = |root: &Path| root.join(name).metadata().unwrap().modified().unwrap();
        assert_eq!(time(&two.dir), time(&two.env.repository), "{name}");
    }
    two.check();
    two.restores("one", "restored");
    two.mirror(&["--init"]).expect(1).naming("leave --init away");

    // The first run left a record; then nothing is new.
    assert_eq!(two.json(&[])["copied"], 1);
    assert_eq!(two.json(&[])["copied"], 0);
    two.one.file("one/cur/new-mail", mail(77));
    two.backup("one");
    let more = two.json(&[]);
    assert_eq!((&more["copied"], &more["removed"], &more["waiting"]), (&3.into(), &0.into(), &0.into()));
    two.assert_same_objects();
    two.check();
    two.restores("one", "restored-2");
    assert_eq!(files_below(&two.dir.join("inventory")).len(), 2);
    // Cron hears nothing but the warning about the only key.
    let quiet = two.mirror(&[]).expect(0);
    assert!(quiet.stdout.is_empty() && quiet.stderr.lines().count() == 1, "{}", quiet.both());
}

#[test]
fn only_an_empty_folder_or_a_mirror_of_this_repository_will_do() {
    let two = Two::new();
    let env = &two.env;
    let at = |dir: &Path, more: &[&str]| env.mailark([&["mirror", dir.to_str().unwrap()], more].concat());
    let empty = env.folder("empty");
    at(&empty, &[]).expect(10).naming("mounted");
    assert_eq!(files_below(&empty).len(), 0);
    for more in [&["--init"][..], &[]] {
        let full = env.folder("full");
        fs::write(full.join("precious"), "x").unwrap();
        at(&full, more).expect(1).naming("precious");
        assert_eq!(files_below(&full).len(), 1);
        let other = TestEnv::with_repository();
        at(&other.repository, more).expect(1).naming("another repository");
        for inside in ["mirror", "packs/mirror", "packs"] {
            at(&other.repository.join(inside), more).expect(1).naming("inside the repository");
        }
        fs::remove_file(other.repository.join("config")).unwrap();
        at(&other.repository, more).expect(1).naming("keys/");
        at(&env.repository, more).expect(1).naming("within each other");
        at(&env.repository.join("packs/mirror"), more).expect(1).naming("within each other");
        at(env.repository.parent().unwrap(), more).expect(1).naming("within each other");
    }
    env.mailark(["mirror", "--verify", "nowhere"]).expect(10);
    env.mailark(["mirror", "--verify", "--init", "empty"]).expect(2);
    env.mailark(["mirror", "--delete-after", "soon", "empty"]).expect(2).naming("14d");
    // A file system's own folder is not ours, and a mirror below it is.
    fs::create_dir(empty.join("lost+found")).unwrap();
    at(&empty, &["--init"]).expect(1).naming("lost+found");
    at(&empty.join("mirror"), &["--init"]).expect(0);
    // Its config is gone: the key slots say whose mirror it is, and the config comes back.
    fs::remove_file(empty.join("mirror/config")).unwrap();
    at(&empty.join("mirror"), &[]).expect(0);
    assert!(empty.join("mirror/config").exists());
}

#[test]
fn damage_is_never_copied() {
    let two = Two::new();
    let before = objects(&two.env.repository);
    // One object of each kind, damaged before the mirror is made.
    for folder in ["packs", "index", "snapshots", "records", "keys", "config"] {
        let name = before.keys().find(|name| name.starts_with(folder)).unwrap();
        let path = two.env.repository.join(name);
        flip(&path);
        let key = if folder == "keys" { &["--no-key"][..] } else { &[] };
        let dir = two.env.path(folder);
        let args = [&["mirror", "--init", dir.to_str().unwrap()], key].concat();
        two.env.mailark(args).expect(3).naming(name).naming("not copied");
        assert!(!dir.join(name).exists());
        assert_eq!(half_written(&dir), Vec::<PathBuf>::new());
        fs::write(&path, &before[name]).unwrap();
        let again = if folder == "keys" { &["--no-key"][..] } else { &[] };
        two.env.mailark([&["mirror", dir.to_str().unwrap()], again].concat()).expect(0);
        assert_eq!(fs::read(dir.join(name)).unwrap(), before[name]);
        let mut verify = two.env.command(["mirror", "--verify", dir.to_str().unwrap()]);
        run(verify.env_remove("MAILARK_KEY_FILE")).expect(0);
    }
    // Damaged after: what the mirror has stays, whatever its size is now.
    two.mirror(&["--init"]).expect(0);
    for name in before.keys().filter(|name| name.as_str() != "RECOVERY.txt" && !name.starts_with("keys")) {
        let path = two.env.repository.join(name);
        fs::write(&path, &before[name][..before[name].len() / 2]).unwrap();
        let output = two.mirror(&["--reread"]);
        assert_eq!(output.code, 3, "{name}: {}", output.both());
        assert_eq!(fs::read(two.dir.join(name)).unwrap(), before[name], "{name}");
        fs::write(&path, &before[name]).unwrap();
    }
    two.check();
}

#[test]
fn damage_and_absence_in_the_mirror_show_without_a_key() {
    let two = Two::mirrored();
    two.mirror(&[]).expect(0);
    let before = objects(&two.dir);
    let verify_json = || {
        let mut command = two.env.command(["mirror", "--verify", "--json", two.dir.to_str().unwrap()]);
        run(command.env_remove("MAILARK_KEY_FILE").env_remove("MAILARK_REPO"))
    };
    assert_eq!(verify_json().expect(0).json()["unlisted"], 0);
    for name in before.keys().filter(|name| name.as_str() != "RECOVERY.txt") {
        let path = two.dir.join(name);
        let length = before[name].len();
        for damage in ["flip", "cut", "grow", "remove"] {
            match damage {
                "flip" => {
                    let mut bytes = before[name].clone();
                    bytes[dice(length as u64, length as u64) as usize] ^= 0x10;
                    fs::write(&path, bytes).unwrap();
                }
                "cut" => fs::write(&path, &before[name][..length - 1]).unwrap(),
                "grow" => fs::write(&path, [&before[name][..], b"x"].concat()).unwrap(),
                _ => fs::remove_file(&path).unwrap(),
            }
            let seen = verify_json();
            assert_eq!(seen.code, 1, "{damage} {name}: {}", seen.both());
            let findings = &seen.json()["findings"];
            assert_eq!(findings.as_array().unwrap().len(), 1, "{damage} {name}: {findings}");
            assert_eq!(findings[0]["object"], name.as_str(), "{damage}: {findings}");
            fs::write(&path, &before[name]).unwrap();
        }
    }
    // Several at once; mirroring brings back what is missing or short, --reread all.
    let of = |folder: &str| two.dir.join(before.keys().find(|name| name.starts_with(folder)).unwrap());
    fs::remove_file(of("packs")).unwrap();
    fs::write(of("snapshots"), "short").unwrap();
    flip(&of("index"));
    flip(&of("keys"));
    two.verify().expect(1).naming("packs/").naming("snapshots/").naming("--reread");
    two.mirror(&[]).expect(0);
    two.verify().expect(1).naming("index/");
    assert_eq!(fs::read(of("keys")).unwrap(), before[before.keys().find(|n| n.starts_with("keys")).unwrap()]);
    // The repository's id is in the config, and what cannot be read is not taken for another repository.
    for at in 0..before["config"].len() {
        let mut bytes = before["config"].clone();
        bytes[at] ^= 1;
        fs::write(two.dir.join("config"), bytes).unwrap();
        if at % 40 == 20 {
            two.mirror(&[]).expect(0);
            assert_eq!(fs::read(two.dir.join("config")).unwrap(), before["config"], "byte {at}");
        } else {
            assert_eq!(two.mirror(&["--dry-run"]).code, 0, "byte {at}");
        }
    }
    fs::write(two.dir.join("config"), &before["config"]).unwrap();
    assert_eq!(two.json(&["--reread"])["replaced"], 1);
    two.check();
    let now = objects(&two.dir);
    assert!(before.iter().all(|(name, bytes)| now.get(name) == Some(bytes)));

    // Inventories themselves.
    let inventories = files_below(&two.dir.join("inventory"));
    flip(&inventories[1]);
    two.verify().expect(1).naming("inventory/");
    fs::remove_file(&inventories[1]).unwrap();
    two.verify().expect(0);
    fs::remove_file(&inventories[0]).unwrap();
    two.verify().expect(1).naming("inventory");
    fs::write(two.dir.join("packs/stranger"), "x").unwrap();
    two.mirror(&[]).expect(0);
    two.verify().expect(0).naming("packs/stranger");
}

#[test]
fn killed_mirrors_are_gone_on_with() {
    let two = Two::new();
    for number in 0..8 {
        two.one.file(format!("files/more-{number}"), noise(number, 500_000));
        two.backup("one");
    }
    let (mut killed, mut checked, mut round) = (0, 0, 0);
    while killed < 8 || checked < 2 {
        round += 1;
        assert!(
            round < 200,
            "only {killed} of {round} were killed before they had ended, {checked} looked at"
        );
        // Killed as soon as there is a little more than the last one left, be it half an object.
        let progress = Progress::of(&two.dir);
        let child = two.env.start(["mirror", two.dir.to_str().unwrap(), "--init"]);
        let ended = !killed_after(1 + dice(round, 6), &progress, child);
        killed += u64::from(!ended);
        if ended || !files_below(&two.dir.join("inventory")).is_empty() {
            // It is complete: once more from the beginning.
            fs::remove_dir_all(&two.dir).unwrap();
        } else if two.dir.join("config").exists() {
            // Whatever snapshots there are, they are whole.
            let report = two.at_mirror(&["check", "--read-data", "--json"]).expect(0).json();
            assert_eq!(report["findings"].as_array().map(Vec::len), Some(0), "{report}");
            checked += 1;
        }
    }
    two.mirror(&["--init"]).expect(0);
    // What is left of a run that was killed when it asked for the store's time.
    fs::write(two.dir.join("tmp/probe-0123456789abcdef"), b"").unwrap();
    two.mirror(&[]).expect(0);
    two.assert_same_objects();
    two.check();
    two.restores("one", "restored");
    // A record that was half written when it was killed may as well be somebody's who is at work: a prune collects it.
    let is_own = |path: &PathBuf| !path.file_name().unwrap().as_encoded_bytes().starts_with(b"object-");
    let left: Vec<PathBuf> = half_written(&two.dir).into_iter().filter(is_own).collect();
    assert_eq!(left, Vec::<PathBuf>::new());
}

#[test]
fn mirrors_beside_running_backups_are_whole() {
    let two = Two::new();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _stop = Stop(&stop);
        scope.spawn(|| {
            for number in 0.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                two.one.file(format!("files/loop-{number}"), noise(number, 300_000));
                two.backup("one");
            }
        });
        let mut args = vec!["--init"];
        for _ in 0..6 {
            two.mirror(&args).expect(0);
            args.clear();
            let report = two.at_mirror(&["check", "--read-data", "--json"]).expect(0).json();
            assert_eq!(report["findings"].as_array().map(Vec::len), Some(0), "{report}");
        }
    });
    two.mirror(&[]).expect(0);
    two.check();
    two.restores("one", "restored");
    two.mirror(&[]).expect(0);
    two.assert_same_objects();
}

#[test]
fn two_runs_on_one_mirror_exclude_each_other() {
    let two = Two::mirrored();
    let lock = fs::File::open(two.dir.join("tmp/mirror.lock")).unwrap();
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    two.mirror(&[]).expect(11).naming("already running");
    two.verify().expect(11);
    two.mirror(&["--dry-run"]).expect(0);
    drop(lock);
    two.mirror(&[]).expect(0);
}

#[test]
fn a_full_disk_ends_the_run_and_more_space_goes_on() {
    let two = Two::new();
    let Some(disk) = SmallDisk::mount(two.env.path("disk"), "36M") else {
        return skipped("a_full_disk_ends_the_run_and_more_space_goes_on", "mounting needs root");
    };
    let dir = disk.0.join("mirror");
    let args = ["mirror", "--init", dir.to_str().unwrap()];
    two.env.mailark(args).expect(1).naming("free space");
    let options = ["-o", "remount,size=100M", disk.0.to_str().unwrap()];
    assert!(crate::support::tool("mount", options));
    two.env.mailark(args).expect(0);
    assert_eq!(objects(&dir).len() + 1, objects(&two.env.repository).len(), "all but the new record");
}

#[test]
fn the_only_key_being_a_file_is_said_and_mirrors_are_remembered() {
    let two = Two::new();
    assert_eq!(two.env.mailark(["status", "--json"]).expect(1).json()["last_mirror"], Value::Null);
    two.env.mailark(["status"]).expect(1).stdout.contains("key file only");
    two.mirror(&["--init"]).expect(0).naming("on paper");
    two.env.mailark(["key", "add", "--recovery"]).expect(0);
    let output = two.mirror(&[]).expect(0);
    assert!(output.stderr.is_empty(), "{}", output.both());
    let status = two.env.mailark(["status", "--json"]).expect(0).json();
    assert_eq!(status["last_mirror"]["ok"], true, "{status}");
    assert!(status["last_mirror"]["text"].as_str().unwrap().starts_with(two.dir.to_str().unwrap()));
    // A bad one is recorded too, and leaves the good one standing.
    let pack = two.env.objects("packs").remove(0).0;
    let bytes = fs::read(&pack).unwrap();
    fs::remove_file(&pack).unwrap();
    two.mirror(&[]).expect(3);
    fs::write(&pack, bytes).unwrap();
    let status = two.env.mailark(["status", "--json"]).expect(0).json();
    assert_eq!(status["last_mirror"]["ok"], false, "{status}");
    let lines = two.env.mailark(["status"]).expect(0).stdout;
    assert!(lines.contains("last mirror ") && lines.contains("1 lost"), "{lines}");
}

#[test]
fn the_note_in_every_repository_says_how_to_get_the_data_back() {
    let env = TestEnv::new();
    let made = env.mailark(["init", "--json"]).expect(0).json();
    let tree = tree(&env, "one", 1_000);
    env.backup(&tree.root);
    env.mailark(["mirror", "--init", "mirror"]).expect(0);
    let note = fs::read_to_string(env.repository.join("RECOVERY.txt")).unwrap();
    assert!(note.contains(made["id"].as_str().unwrap()));
    assert_eq!(fs::read_to_string(env.path("mirror/RECOVERY.txt")).unwrap(), note);
    let commands: Vec<&str> = note.lines().filter_map(|line| line.strip_prefix("    mailark ")).collect();
    assert_eq!(commands.len(), 3, "{note}");
    // On another machine: nothing but the folder, the program and a way to open it.
    let code = env.path("code");
    crate::support::write_private(&code, made["recovery_code"].as_str().unwrap().as_bytes());
    let id =
        env.mailark(["snapshots", "--json"]).expect(0).json()[0]["short_id"].as_str().unwrap().to_owned();
    for (number, folder) in [env.repository.clone(), env.path("mirror")].iter().enumerate() {
        for (way, key) in [("--key-file KEY-FILE", &env.key_file), ("--recovery-code-file KEY-FILE", &code)] {
            let machine = TestEnv::new();
            let to = machine.path(&format!("restored-{number}"));
            let mut shown = String::new();
            for command in &commands {
                let command = command
                    .replace("--key-file KEY-FILE", way)
                    .replace("KEY-FILE", key.to_str().unwrap())
                    .replace("SNAPSHOT", &id)
                    .replace("NEW-FOLDER", to.to_str().unwrap());
                let mut command = machine.command(command.split(' '));
                command.env_remove("MAILARK_KEY_FILE").env_remove("MAILARK_REPO").current_dir(folder);
                shown.push_str(&run(&mut command).expect(0).stdout);
            }
            assert!(shown.contains(&id), "{shown}");
            let ignore = Ignore { owners: !is_root(), ..Ignore::default() };
            assert_same(&tree.root, &to.join("data"), ignore);
        }
    }
    // One that an administrator wrote into is left alone.
    fs::write(env.path("mirror/RECOVERY.txt"), "ask Alice").unwrap();
    env.mailark(["mirror", "mirror"]).expect(0);
    assert_eq!(fs::read_to_string(env.path("mirror/RECOVERY.txt")).unwrap(), "ask Alice");
}
