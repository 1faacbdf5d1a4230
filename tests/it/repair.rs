//! Repair: lost indexes, damaged packs; what can be had again comes back, and nothing else suffers.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use mailark::base::id::ObjectHash;
use mailark::format::object::ObjectType;
use mailark::format::record::Record;
use mailark::repo::objects::{NewObject, Signer};
use mailark::repo::{parity, records};
use serde_json::Value;

use crate::library::{lone_host, open};
use crate::support::{Output, TestEnv, copy_folder, dice, files_below, is_root, noise, settle};
use crate::tree::{Ignore, TreeFixture, assert_same, mail, mail_with_attachment, message_name};

mod disk;

/// A repository with three backups of a growing tree.
struct Stored {
    env: TestEnv,
    tree: TreeFixture,
}

fn grow(tree: &TreeFixture, round: u64) {
    let numbers = round * 100..round * 100 + 10;
    numbers.for_each(|number| {
        tree.file(format!("mail/cur/{}", message_name(number, "S")), mail(number));
    });
    tree.file(
        format!("mail/cur/{}", message_name(round * 100 + 50, "")),
        mail_with_attachment(round, 40_000),
    );
    tree.file(format!("files/{round}"), noise(round + 70, 300_000));
    settle();
}

impl Stored {
    fn new(init: &[&str]) -> Stored {
        let env = TestEnv::new();
        env.mailark(["init", "--no-recovery-code"].iter().chain(init)).expect(0);
        let tree = TreeFixture::new(env.path("vmail"));
        let stored = Stored { env, tree };
        for round in 1..4 {
            grow(&stored.tree, round);
            stored.env.backup(&stored.tree.root);
        }
        stored
    }

    fn repair(&self, args: &[&str]) -> Output {
        self.env.mailark(["repair"].iter().chain(args).chain(&["--json"]))
    }

    /// Every file with its bytes, to be compared.
    fn bytes(&self, folder: &str) -> BTreeMap<PathBuf, Vec<u8>> {
        self.env.objects(folder).into_iter().collect()
    }

    #[track_caller]
    fn assert_restores(&self) {
        let to = self.env.path("restored");
        if to.exists() {
            fs::remove_dir_all(&to).unwrap();
        }
        self.env.restore("latest", "restored");
        self.assert_same(&to);
    }

    #[track_caller]
    fn assert_same(&self, to: &Path) {
        let ignore = Ignore { owners: !is_root(), ..Ignore::default() };
        assert_same(&self.tree.root, &to.join("data"), ignore);
    }

    /// Restores what can be had and gives the names of what could not.
    fn lacking(&self) -> BTreeSet<PathBuf> {
        let to = self.env.path("restored");
        if to.exists() {
            fs::remove_dir_all(&to).unwrap();
        }
        let output = self.env.mailark(["restore", "latest", "--to", to.to_str().unwrap()]);
        assert!([0, 3].contains(&output.code), "{}", output.both());
        let same = |file: &PathBuf| {
            fs::read(to.join("data").join(file))
                .is_ok_and(|bytes| bytes == fs::read(self.tree.path(file)).unwrap())
        };
        let files = files_below(&self.tree.root).into_iter();
        let files = files.map(|file| file.strip_prefix(&self.tree.root).unwrap().to_owned());
        files.filter(|file| !same(file)).collect()
    }

    /// The one pack that a backup wrote; its file makes most of it.
    fn pack_of(&self, round: usize) -> PathBuf {
        let mut paths: Vec<PathBuf> = self.bytes("packs").into_keys().collect();
        paths.sort_by_key(|path| fs::metadata(path).unwrap().modified().unwrap());
        assert_eq!(paths.len(), 3);
        paths[round - 1].clone()
    }
}

/// The name of a pack.
fn name(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

fn flip(path: &Path, places: impl IntoIterator<Item = u64>) {
    let mut bytes = fs::read(path).unwrap();
    let length = bytes.len() as u64;
    places.into_iter().for_each(|place| bytes[(place % length) as usize] ^= 0x10);
    fs::write(path, bytes).unwrap();
}

#[test]
fn lost_deltas_come_back_from_packs() {
    let stored = Stored::new(&[]);
    fs::remove_dir_all(stored.env.repository.join("index")).unwrap();
    stored.env.mailark(["check"]).expect(1);
    // The packs are young: they might belong to a backup that is running.
    let report = stored.repair(&["index"]).expect(0).json();
    assert_eq!((&report["packs"], &report["young_packs"]), (&0.into(), &3.into()), "{report}");
    let report = stored.repair(&["index", "--min-age", "0", "--dry-run"]).expect(0).json();
    assert_eq!((&report["packs"], &report["deltas_written"]), (&3.into(), &1.into()), "{report}");
    assert!(stored.bytes("index").is_empty(), "a dry run writes nothing");
    let packs = stored.bytes("packs");
    let report = stored.repair(&["index", "--min-age", "0"]).expect(0).json();
    assert_eq!((&report["packs"], &report["guessed_hosts"]), (&3.into(), &Value::Array(vec![])), "{report}");
    assert!(report["blobs"].as_u64().unwrap() > 30, "{report}");
    assert_eq!(stored.bytes("packs"), packs, "packs are only read");
    stored.env.check();
    stored.assert_restores();
    let again = stored.repair(&["index", "--min-age", "0"]).expect(0).json();
    assert_eq!((&again["packs"], &again["deltas_written"]), (&0.into(), &0.into()), "{again}");
    // What is known again is not stored again.
    let backup = stored.env.backup(&stored.tree.root);
    assert_eq!(backup["new_bytes"], 0, "{backup}");
}

#[test]
fn damaged_deltas_are_replaced_and_set_aside() {
    let stored = Stored::new(&[]);
    let whole = stored.bytes("index");
    for (number, length) in whole.values().map(|bytes| bytes.len() as u64).enumerate() {
        let (path, bytes) = whole.iter().nth(number).unwrap();
        // A bit in the signature (the packs it names can still be read), one anywhere, a cut, nothing left.
        for kept in [length, length, length / 2, 0] {
            match kept == length {
                true => flip(path, [length - 1 - dice(kept, 60)]),
                false => fs::write(path, &bytes[..kept as usize]).unwrap(),
            }
            let report = stored.repair(&["index", "--min-age", "0"]).expect(0).json();
            assert_eq!(report["packs"], 1, "{report}");
            let removed = &report["deltas_removed"][0];
            assert!(removed["object"].as_str().unwrap().contains(&name(path)), "{report}");
            assert!(stored.env.repository.join(removed["kept_as"].as_str().unwrap()).exists());
            assert!(!path.exists());
            stored.env.check();
            // As before, for the next damage.
            for new in stored.bytes("index").into_keys().filter(|path| !whole.contains_key(path)) {
                fs::remove_file(new).unwrap();
            }
            fs::write(path, bytes).unwrap();
        }
    }
    stored.assert_restores();
}

#[test]
fn a_damaged_delta_stays_while_a_pack_needs_it() {
    let stored = Stored::new(&[]);
    let (delta, bytes) = stored.bytes("index").pop_first().unwrap();
    let pack = stored.bytes("packs").into_keys().next().unwrap();
    fs::write(&delta, &bytes[..100]).unwrap();
    for path in stored.bytes("index").into_keys() {
        fs::write(&path, b"").unwrap();
    }
    flip(&pack, [5_000]);
    let report = stored.repair(&["index", "--min-age", "0"]).expect(3).json();
    assert_eq!(report["packs"], 2, "{report}");
    let left: Vec<&str> =
        report["left"].as_array().unwrap().iter().filter_map(|l| l["object"].as_str()).collect();
    assert_eq!(left.len(), 4, "the pack, and the deltas that may name it: {report}");
    assert!(left[0].contains(&name(&pack)), "{report}");
    assert!(delta.exists());
    // Mended, it is named like the others, and the rest is cleared away.
    flip(&pack, [5_000]);
    let report = stored.repair(&["index", "--min-age", "0"]).expect(0).json();
    assert_eq!(report["deltas_removed"].as_array().unwrap().len(), 3, "{report}");
    stored.env.check();
    stored.assert_restores();
}

#[test]
fn what_a_newer_version_wrote_is_left_alone() {
    let stored = Stored::new(&[]);
    let repository = open(&stored.env.repository, &stored.env.key_file).unwrap();
    let host = repository.writer_for("anything").unwrap();
    let object = NewObject {
        object_type: ObjectType::Delta,
        epoch: 0,
        host: host.host,
        domain: host.domain,
        sequence: 77,
        clear: b"\xff\xff a new kind of list".to_vec(),
        secret: Vec::new(),
    };
    let key = &host.delta_key;
    let place =
        object.write(repository.store.as_ref(), &repository.id(), Some(key), Signer::Host(&host)).unwrap();
    let report = stored.repair(&["index", "--min-age", "0"]).expect(3).json();
    assert_eq!(report["left"][0]["object"], place.to_string(), "{report}");
    assert!(stored.env.repository.join(place.to_string()).exists());
}

#[test]
fn deltas_of_hosts_with_their_own_domain_come_back() {
    let stored = Stored::new(&[]);
    let lone = lone_host(&stored.env, "mx1");
    let args = ["backup", "--job", "lone", "--as", "/data", stored.tree.root.to_str().unwrap()];
    let key = ["--key-file", lone.key_file.to_str().unwrap()];
    stored.env.mailark(args.iter().chain(&key)).expect(0);
    fs::remove_dir_all(stored.env.repository.join("index")).unwrap();
    // Without any record the snapshots tell the domain.
    let records = stored.env.path("records");
    fs::rename(stored.env.repository.join("records"), &records).unwrap();
    let report = stored.repair(&["index", "--min-age", "0"]).expect(0).json();
    assert_eq!((&report["packs"], &report["deltas_written"]), (&4.into(), &2.into()), "{report}");
    assert_eq!(report["guessed_hosts"].as_array().unwrap().len(), 0, "{report}");
    fs::rename(&records, stored.env.repository.join("records")).unwrap();
    stored.env.check();
    let index = stored.env.repository.join(format!("index/{}", lone.host));
    assert_eq!(files_below(&index).len(), 1, "signed as the host");
    // The writer reads its deltas, and stores nothing again.
    let again = stored.env.mailark(args.iter().chain(&key).chain(&["--json"])).expect(0).json();
    assert_eq!(again["new_bytes"], 0, "{again}");
    // With nothing at all to tell it, a guess is told.
    for folder in ["index", "records", "snapshots"] {
        fs::remove_dir_all(stored.env.repository.join(folder)).unwrap();
    }
    let report = stored.repair(&["index", "--min-age", "0"]).expect(0).json();
    assert_eq!(report["guessed_hosts"].as_array().unwrap().len(), 2, "{report}");
}

#[test]
fn condemned_packs_are_left_to_their_prune() {
    let stored = Stored::new(&[]);
    let packs: Vec<ObjectHash> =
        stored.bytes("packs").keys().map(|path| name(path).parse().unwrap()).collect();
    let repository = open(&stored.env.repository, &stored.env.key_file).unwrap();
    let condemned = records::write(&repository, &Record::Condemn { packs: packs[..2].to_vec() }).unwrap();
    records::write(&repository, &Record::Doom { condemned, packs: packs[..1].to_vec() }).unwrap();
    fs::remove_dir_all(stored.env.repository.join("index")).unwrap();
    let report = stored.repair(&["index", "--min-age", "0"]).expect(0).json();
    assert_eq!((&report["packs"], &report["condemned_packs"]), (&1.into(), &2.into()), "{report}");
}

#[test]
fn a_pack_that_a_prune_deleted_is_not_brought_back() {
    let stored = Stored::new(&["--parity"]);
    let mirror = stored.env.path("mirror");
    copy_folder(&stored.env.repository, &mirror);
    let pack = stored.bytes("packs").into_keys().next().unwrap();
    let packs: Vec<ObjectHash> = vec![name(&pack).parse().unwrap()];
    let repository = open(&stored.env.repository, &stored.env.key_file).unwrap();
    let condemned = records::write(&repository, &Record::Condemn { packs: packs.clone() }).unwrap();
    records::write(&repository, &Record::Doom { condemned, packs }).unwrap();
    fs::remove_file(&pack).unwrap();
    let report = stored.repair(&["packs", "--from", mirror.to_str().unwrap()]).expect(0).json();
    assert_eq!(report["damaged"].as_array().unwrap().len(), 0, "{report}");
    assert!(!pack.exists());
}

#[test]
fn parity_heals_to_the_byte() {
    let stored = Stored::new(&["--parity"]);
    let packs = stored.bytes("packs");
    assert_eq!(stored.bytes("parity").len(), 3, "one for each pack");
    for (number, (path, bytes)) in packs.iter().enumerate() {
        let length = bytes.len() as u64;
        let shards = bytes.len().div_ceil(4_096) as u64;
        let recovery = (shards * 3).div_ceil(100);
        assert!(recovery >= 2 && shards > 80, "{shards} {recovery}");
        let bits = |count: u64| (0..count).map(|n| n * 5 * 4_096 + dice(n, 4_096)).collect::<Vec<u64>>();
        type Damage<'a> = (&'static str, Box<dyn Fn() + 'a>);
        let damages: [Damage<'_>; 5] = [
            ("one bit", Box::new(|| flip(path, [dice(number as u64, length)]))),
            ("bits in as many shards as may be", Box::new(|| flip(path, bits(recovery)))),
            ("cut", Box::new(|| fs::write(path, &bytes[..bytes.len() - 4_096]).unwrap())),
            ("grown", Box::new(|| fs::write(path, [bytes, &noise(1, 9_999)[..]].concat()).unwrap())),
            (
                "zeros",
                Box::new(|| {
                    let mut damaged = bytes.clone();
                    damaged[4_096..4_096 * 3].fill(0);
                    fs::write(path, damaged).unwrap();
                }),
            ),
        ];
        for (what, damage) in damages {
            damage();
            let dry = stored.repair(&["packs", "--dry-run"]).expect(0).json();
            assert_eq!(dry["damaged"][0]["cure"], "parity", "{what}: {dry}");
            assert_ne!(&fs::read(path).unwrap(), bytes, "{what}: a dry run writes nothing");
            let report = stored.repair(&["packs"]).expect(0).json();
            assert_eq!(report["damaged"].as_array().unwrap().len(), 1, "{what}: {report}");
            assert_eq!(report["damaged"][0]["pack"], name(path), "{what}: {report}");
            assert_eq!(report["missing_blobs"], 0, "{what}: {report}");
            assert_eq!(stored.bytes("packs"), packs, "{what}");
        }
    }
    stored.env.check();
    assert!(!stored.env.repository.join("damaged").exists());
    let temporary = files_below(&stored.env.repository.join("tmp"));
    assert!(temporary.iter().all(|path| name(path) == "spare"), "{temporary:?}");
    let report = stored.repair(&["packs"]).expect(0).json();
    assert_eq!((&report["parity_made"], &report["parity_mended"]), (&0.into(), &0.into()), "{report}");
}

#[test]
fn several_packs_and_their_parity_are_damaged_at_once() {
    let stored = Stored::new(&["--parity=5"]);
    let (packs, parity) = (stored.bytes("packs"), stored.bytes("parity"));
    for path in packs.keys() {
        flip(path, [100, 9_000]);
    }
    // One recovery shard of each.
    for path in parity.keys() {
        let length = fs::metadata(path).unwrap().len();
        flip(path, [length - 1]);
    }
    let report = stored.repair(&["packs"]).expect(0).json();
    assert_eq!((&report["missing_blobs"], &report["parity_mended"]), (&0.into(), &3.into()), "{report}");
    assert_eq!(stored.bytes("packs"), packs);
    assert_eq!(stored.bytes("parity"), parity, "the same parity again");
    fs::remove_dir_all(stored.env.repository.join("parity")).unwrap();
    let repository = open(&stored.env.repository, &stored.env.key_file).unwrap();
    assert_eq!(parity::missing(&repository).unwrap().len(), 3);
    let check = stored.env.mailark(["check", "--json"]).expect(0).json();
    assert!(
        check["remarks"][0]["problem"].as_str().unwrap().starts_with("3 packs have no parity"),
        "{check}"
    );
    let report = stored.repair(&["packs", "--quick"]).expect(0).json();
    assert_eq!(report["parity_made"], 3, "{report}");
    assert_eq!(stored.bytes("parity"), parity);
    assert!(parity::missing(&repository).unwrap().is_empty());
    let plain = Stored::new(&[]);
    assert_eq!(plain.repair(&["packs"]).expect(0).json()["parity_made"], 0);
    assert!(plain.bytes("parity").is_empty(), "nobody asked for it");
    for refused in ["--parity=51", "--parity=-1", "--parity=x"] {
        TestEnv::new().mailark(["init", refused]).expect(2);
    }
}

#[test]
fn a_mirror_gives_what_parity_cannot() {
    for init in [&[][..], &["--parity"]] {
        let stored = Stored::new(init);
        let mirror = stored.env.path("mirror");
        copy_folder(&stored.env.repository, &mirror);
        let packs = stored.bytes("packs");
        let paths: Vec<&PathBuf> = packs.keys().collect();
        fs::remove_file(paths[0]).unwrap();
        fs::write(paths[1], b"").unwrap();
        flip(paths[2], (0..200).map(|n| n * 4_096));
        // A mirror that is damaged too gives nothing of that pack.
        let theirs = mirror.join(paths[2].strip_prefix(&stored.env.repository).unwrap());
        let whole = fs::read(&theirs).unwrap();
        fs::write(&theirs, &whole[1..]).unwrap();
        let from = ["packs", "--from", mirror.to_str().unwrap(), "--pack", &name(paths[2]), "--dry-run"];
        let report = stored.repair(&from).json();
        assert!(report["damaged"][0]["notes"].to_string().contains("damaged too"), "{report}");
        fs::write(&theirs, &whole).unwrap();
        let report = stored.repair(&["packs", "--from", mirror.to_str().unwrap()]).expect(0).json();
        let cures: Vec<&str> =
            report["damaged"].as_array().unwrap().iter().filter_map(|pack| pack["cure"].as_str()).collect();
        assert_eq!(cures, ["mirror"; 3], "{report}");
        assert_eq!(stored.bytes("packs"), packs);
        stored.env.check();
        stored.assert_restores();
    }
    let stored = Stored::new(&[]);
    let nothing = stored.env.folder("nothing");
    stored.repair(&["packs", "--from", nothing.to_str().unwrap()]).expect(1).naming("no copy");
}

#[test]
fn what_still_opens_of_a_damaged_pack_is_salvaged() {
    let stored = Stored::new(&[]);
    let pack = stored.pack_of(2);
    let (others, length) = (stored.bytes("packs"), fs::metadata(&pack).unwrap().len());
    flip(&pack, [length / 2]);
    assert_eq!(stored.lacking(), BTreeSet::from([PathBuf::from("files/2")]));
    let dry = stored.repair(&["packs", "--dry-run"]).expect(3).json();
    assert_eq!(stored.bytes("packs").len(), 3, "a dry run writes nothing");
    let report = stored.repair(&["packs"]).expect(3).json();
    let treated = &report["damaged"][0];
    assert_eq!((&treated["pack"], &treated["cure"]), (&name(&pack).into(), &"salvage".into()), "{report}");
    assert!(treated["salvaged_blobs"].as_u64().unwrap() > 5, "{report}");
    assert_eq!(treated["missing_blobs"], 1, "{report}");
    for field in ["salvaged_blobs", "missing_blobs"] {
        assert_eq!(dry["damaged"][0][field], treated[field], "{dry}");
    }
    assert!(stored.env.repository.join(treated["kept_as"].as_str().unwrap()).exists());
    assert!(!pack.exists());
    for (path, bytes) in others.iter().filter(|(path, _)| **path != pack) {
        assert_eq!(&fs::read(path).unwrap(), bytes, "the others are not touched");
    }
    // Nothing but the file suffers.
    assert_eq!(stored.lacking(), BTreeSet::from([PathBuf::from("files/2")]));
    let again = stored.repair(&["packs"]).expect(3).json();
    assert_eq!(
        (&again["missing_blobs"], &again["damaged"][0]["cure"]),
        (&1.into(), &"none".into()),
        "{again}"
    );
    // The source has it still.
    let backup = stored.env.backup(&stored.tree.root);
    assert!(backup["new_bytes"].as_u64().unwrap() >= 300_000, "{backup}");
    stored.assert_restores();
    let last = stored.repair(&["packs"]).expect(0).json();
    assert_eq!((&last["missing_blobs"], &last["replaced_packs"]), (&0.into(), &1.into()), "{last}");
    stored.env.check();
    for id in stored.env.mailark(["snapshots", "--json"]).expect(0).json().as_array().unwrap() {
        stored.env.restore(id["id"].as_str().unwrap(), &format!("old-{}", id["id"].as_str().unwrap()));
    }
}

#[test]
fn a_repair_backs_the_source_up_when_told() {
    let stored = Stored::new(&[]);
    let pack = stored.pack_of(3);
    flip(&pack, [fs::metadata(&pack).unwrap().len() / 2]);
    let source = stored.tree.root.to_str().unwrap();
    let output = stored.env.mailark(["repair", "packs", "--from-source", source, "--json"]).expect(0);
    let last: Value = serde_json::from_str(output.stdout.lines().last().unwrap()).unwrap();
    assert_eq!((&last["missing_blobs"], output.stdout.lines().count()), (&0.into(), 2), "{}", output.both());
    stored.env.check();
    // A job of mailark.toml.
    let config = stored.env.path("mailark.toml");
    let text = format!("[jobs.data]\npaths = [\"{source}\"]\nas = \"/data\"\n");
    fs::write(&config, text).unwrap();
    for path in stored.bytes("packs").into_keys() {
        fs::remove_file(path).unwrap();
    }
    let config = ["--config", config.to_str().unwrap()];
    stored.repair(&["packs", "--quick"]).expect(3);
    // Listings of older snapshots no source can give back.
    let args = ["repair", "packs", "--quick", "--from-source", "data"];
    stored.env.mailark(args.iter().chain(&config)).expect(3).naming("repair snapshots");
    let to = stored.env.path("restored");
    let args = ["restore", "latest", "--job", "data", "--to", to.to_str().unwrap(), "--system"];
    stored.env.mailark(args).expect(0);
    stored.assert_same(&to);
}

#[test]
fn empty_and_missing_packs_are_told_and_come_back() {
    let stored = Stored::new(&[]);
    let mirror = stored.env.path("mirror");
    copy_folder(&stored.env.repository, &mirror);
    let packs = stored.bytes("packs");
    let paths: Vec<&PathBuf> = packs.keys().collect();
    for round in 0..2 {
        fs::write(paths[0], b"").unwrap();
        fs::remove_file(paths[1]).unwrap();
        let quick = stored.repair(&["packs", "--quick", "--dry-run"]).expect(3).json();
        assert_eq!(quick["damaged"].as_array().unwrap().len(), 2, "{quick}");
        let report = stored.repair(&["packs"]).expect(3).json();
        let of = |path: &Path| {
            let all = report["damaged"].as_array().unwrap();
            all.iter().find(|treated| treated["pack"] == name(path)).unwrap().clone()
        };
        assert_eq!(of(paths[0])["cure"], "none", "{report}");
        let suffix = if round == 0 { String::new() } else { format!(".{}", round + 1) };
        assert_eq!(
            of(paths[0])["kept_as"],
            format!("damaged/packs-{}-{}{suffix}", &name(paths[0])[..2], name(paths[0]))
        );
        assert_eq!(of(paths[1])["problem"], "is missing", "{report}");
        assert!(of(paths[1])["missing_blobs"].as_u64().unwrap() > 1, "{report}");
        // For people the way on is told.
        stored.env.mailark(["repair", "packs"]).expect(3).naming("back up your jobs now");
        stored.repair(&["packs", "--quick", "--from", mirror.to_str().unwrap()]).expect(0);
        assert_eq!(stored.bytes("packs"), packs);
    }
    stored.env.check();
}

#[test]
fn a_damaged_pack_of_a_lost_delta_is_salvaged_by_its_own_footer() {
    let stored = Stored::new(&[]);
    let pack = stored.pack_of(2);
    flip(&pack, [fs::metadata(&pack).unwrap().len() / 2]);
    fs::remove_dir_all(stored.env.repository.join("index")).unwrap();
    stored.repair(&["index", "--min-age", "0"]).expect(3).naming("repair packs");
    let report = stored.repair(&["packs"]).expect(3).json();
    assert_eq!(report["damaged"][0]["cure"], "salvage", "{report}");
    assert_eq!(report["damaged"][0]["missing_blobs"], 1, "{report}");
    assert_eq!(stored.lacking(), BTreeSet::from([PathBuf::from("files/2")]));
    stored.env.backup(&stored.tree.root);
    stored.assert_restores();
    stored.repair(&["packs"]).expect(0);
}

#[test]
fn packs_of_other_hosts_are_salvaged_as_theirs() {
    let stored = Stored::new(&[]);
    let lone = lone_host(&stored.env, "mx1");
    let before: BTreeSet<PathBuf> = stored.bytes("packs").into_keys().collect();
    let args = ["backup", "--json", "--job", "lone", "--as", "/data", stored.tree.root.to_str().unwrap()];
    let key = ["--key-file", lone.key_file.to_str().unwrap()];
    stored.env.mailark(args.iter().chain(&key)).expect(0);
    let pack = stored.bytes("packs").into_keys().find(|path| !before.contains(path)).unwrap();
    flip(&pack, [fs::metadata(&pack).unwrap().len() / 2]);
    let report = stored.repair(&["packs"]).expect(3).json();
    assert_eq!(report["damaged"][0]["cure"], "salvage", "{report}");
    let backup = stored.env.mailark(args.iter().chain(&key)).expect(0).json();
    assert!(backup["new_bytes"].as_u64().unwrap() > 0, "{backup}");
    let unchanged = backup["files_unchanged"].as_u64().unwrap();
    assert!(unchanged > 20, "the writer still reads its listings: {backup}");
    stored.repair(&["packs"]).expect(0);
    stored.env.check();
}

#[test]
fn a_writer_key_repairs_nothing() {
    let stored = Stored::new(&[]);
    let lone = lone_host(&stored.env, "mx1");
    let before = files_below(&stored.env.repository);
    for verb in ["index", "packs"] {
        stored.repair(&[verb, "--key-file", lone.key_file.to_str().unwrap()]).expect(12).naming("full key");
    }
    assert_eq!(files_below(&stored.env.repository), before);
}
