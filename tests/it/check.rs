//! What `check` says of a repository in all states of its life, and what it remembers.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use mailark::base::clock::UnixNanos;
use mailark::base::id::{HostId, ObjectHash};
use mailark::base::interrupt::Interrupt;
use mailark::base::progress::Quiet;
use mailark::crypto::slot::Secret;
use mailark::format::codec;
use mailark::format::content::{BlobKind, Content, Piece, Run, Section, Shape};
use mailark::format::object::ObjectType;
use mailark::format::page::{File, Node, Page};
use mailark::format::record::{Record, RecordHead, SnapshotName};
use mailark::format::snapshot::Snapshot;
use mailark::index::Index;
use mailark::ops::check::{Memory, Options, ReadData, run};
use mailark::repo::objects::{NewObject, Signer};
use mailark::repo::{Repository, deltas, records, snapshots};
use mailark::store::{Folder, LocalStore, PackFile, Place, Storage, StoreError, Temporary};
use serde_json::Value;

use crate::library::{Forger, entry, full_writer, lone_host, open, snapshot, tree};
use crate::support::{TestEnv, files_below, noise};
use crate::tree::{TreeFixture, mail};

/// A repository with `count` snapshots of one job, each with a file and packs of its own.
fn with_snapshots(count: u64) -> (TestEnv, TreeFixture) {
    let env = TestEnv::with_repository();
    let tree = TreeFixture::new(env.path("vmail"));
    for number in 1..=count {
        tree.file("file", noise(number, 30_000));
        env.backup(&tree.root);
    }
    (env, tree)
}

fn full(env: &TestEnv) -> Repository {
    open(&env.repository, &env.key_file).unwrap()
}

#[track_caller]
fn check(env: &TestEnv, code: i32, more: &[&str]) -> Value {
    env.mailark(["check", "--json"].iter().chain(more)).expect(code).json()
}

/// Kinds and objects of what was found (or remarked).
fn told(report: &Value, list: &str) -> Vec<(String, String)> {
    let text = |found: &Value, key: &str| found[key].as_str().unwrap().to_owned();
    let list = report[list].as_array().unwrap();
    list.iter().map(|found| (text(found, "kind"), text(found, "object"))).collect()
}

fn names(repository: &Repository) -> Vec<SnapshotName> {
    snapshots::list(repository).unwrap().snapshots.iter().map(|info| info.name()).collect()
}

fn path_of(env: &TestEnv, name: &SnapshotName) -> PathBuf {
    env.repository.join(Place::Snapshot(name.host, name.sequence, name.hash).to_string())
}

#[test]
fn a_gap_is_damage_until_a_signed_record_names_it() {
    let (env, _) = with_snapshots(3);
    let repository = full(&env);
    let names = names(&repository);
    fs::remove_file(path_of(&env, &names[0])).unwrap();
    fs::remove_file(path_of(&env, &names[1])).unwrap();
    let report = check(&env, 1, &["--no-record"]);
    assert_eq!(report["verdict"], "gap", "{report}");
    assert_eq!(told(&report, "findings").len(), 2, "the numbers, and the predecessor: {report}");
    assert!(report["findings"][0]["problem"].as_str().unwrap().contains("numbers 1 to 2 were removed"));
    let rule = "test".to_owned();
    records::write(&repository, &Record::Forget { snapshots: names[..1].to_vec(), rule: rule.clone() })
        .unwrap();
    assert_eq!(told(&check(&env, 1, &["--no-record"]), "findings").len(), 2, "number 2 is still missing");
    records::write(&repository, &Record::Forget { snapshots: names[1..2].to_vec(), rule }).unwrap();
    env.check();
}

#[test]
fn a_pruned_pack_is_no_loss_unless_a_file_needs_it() {
    let (env, _) = with_snapshots(2);
    let repository = full(&env);
    let names = names(&repository);
    let packs = |sequence: u64| -> Vec<ObjectHash> {
        let hosts = records::hosts(&repository).unwrap();
        let places = repository.store.list(Folder::Deltas).unwrap();
        let place = places.into_iter().map(|(place, _)| place);
        let mut of_number =
            place.filter(|place| matches!(place, Place::Delta(_, number, _) if *number == sequence));
        let delta = deltas::read(&repository, &hosts, &of_number.next().unwrap()).unwrap().unwrap();
        delta.packs.iter().map(|(hash, ..)| *hash).collect()
    };
    // What a prune does for a snapshot that was forgotten, up to where it is interrupted.
    let rule = "test".to_owned();
    records::write(&repository, &Record::Forget { snapshots: names[..1].to_vec(), rule }).unwrap();
    let condemned = records::write(&repository, &Record::Condemn { packs: packs(1) }).unwrap();
    let report = check(&env, 0, &[]);
    assert_eq!(report["verdict"], "remarks");
    assert!(report["remarks"][0]["problem"].as_str().unwrap().contains("`mailark prune` goes on with it"));
    records::write(&repository, &Record::Doom { condemned, packs: packs(1) }).unwrap();
    assert_eq!(check(&env, 0, &[])["doomed_packs"], packs(1).len());
    for pack in packs(1) {
        fs::remove_file(env.repository.join(Place::Pack(pack).to_string())).unwrap();
    }
    let report = check(&env, 0, &["--read-data"]);
    assert_eq!((&report["pruned_packs"], &report["doomed_packs"]), (&packs(1).len().into(), &0.into()));
    records::write(&repository, &Record::PruneEnded { condemned, spared: Vec::new() }).unwrap();
    assert!(told(&check(&env, 0, &[]), "remarks").is_empty());
    // A doom excuses no loss.
    let condemned = records::write(&repository, &Record::Condemn { packs: packs(2) }).unwrap();
    records::write(&repository, &Record::Doom { condemned, packs: packs(2) }).unwrap();
    for pack in packs(2) {
        fs::remove_file(env.repository.join(Place::Pack(pack).to_string())).unwrap();
    }
    let report = check(&env, 1, &[]);
    assert_eq!((&report["verdict"], &report["broken_snapshots"]), (&"lost".into(), &1.into()), "{report}");
    assert!(
        told(&report, "findings")
            .iter()
            .all(|(kind, object)| kind == "lost" && object.starts_with("snapshot "))
    );
}

/// Publishes what `forger` has stored since as packs of their own; gives where they lie.
fn publish(forger: &Forger, sequence: u64) -> Vec<Place> {
    let packs = forger.packs();
    forger.repository.store.barrier().unwrap();
    deltas::write(&forger.repository, &forger.writer, sequence, &packs).unwrap();
    packs.iter().map(|pack| Place::Pack(pack.hash)).collect()
}

/// A file of one blob, and the page of the folder `/` that lists it, as the forger's packs 1 and 2.
fn file_and_page(forger: &Forger) -> (Vec<Place>, Vec<Place>, Snapshot) {
    let content = noise(1, 30_000);
    let blob = forger.blob(BlobKind::File, &content);
    let packs = publish(forger, 1);
    let runs = vec![Run { piece: 0, length: 30_000 }];
    let section = Section { shape: Shape::Bytes, pieces: vec![Piece::Plain(vec![blob])], runs };
    let content = Content::Inline(vec![section]);
    let file = Node::File(File { size: 30_000, content, sparse: false, link_group: None });
    let page = forger.blob(BlobKind::Tree, &Page::Leaf(vec![entry(b"precious", file)]).encode());
    (packs, publish(forger, 2), snapshot("mail", tree(page, 0)))
}

#[test]
fn files_that_need_a_lost_pack_are_named_with_their_path() {
    let env = TestEnv::with_repository();
    let forger = Forger::new(&env, "mx1");
    let (packs, _, snapshot) = file_and_page(&forger);
    write_snapshot(&forger, 1, &snapshot);
    check(&env, 0, &["--read-data", "--no-record"]);
    packs.iter().for_each(|pack| fs::remove_file(env.repository.join(pack.to_string())).unwrap());
    let report = check(&env, 1, &[]);
    let told = told(&report, "findings");
    assert_eq!(told.len(), 2, "{report}");
    assert!(told[0].0 == "lost" && told[0].1 == packs[0].to_string(), "{report}");
    assert!(told[1].0 == "lost" && told[1].1.ends_with(", /precious"), "{report}");
    assert_eq!((&report["verdict"], &report["broken_snapshots"]), (&"lost".into(), &1.into()));
    let commands: Vec<&str> =
        report["commands"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let steps = ["repair packs --from MIRROR", "backup ...", "repair snapshots", "check --read-data"];
    assert_eq!(commands, steps.map(|step| format!("mailark {step}")));
}

/// A store in which something happens when a folder has been listed for the first time.
pub struct Eventful {
    pub at: Folder,
    pub inner: LocalStore,
    pub event: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl Storage for Eventful {
    fn list(&self, folder: Folder) -> Result<Vec<(Place, u64)>, StoreError> {
        let listed = self.inner.list(folder);
        if folder == self.at
            && let Some(event) = self.event.lock().unwrap().take()
        {
            event();
        }
        listed
    }
    fn location(&self) -> String {
        self.inner.location()
    }
    fn read(&self, place: &Place, bytes_max: u64) -> Result<Vec<u8>, StoreError> {
        self.inner.read(place, bytes_max)
    }
    fn read_range(&self, place: &Place, offset: u64, length: usize) -> Result<Vec<u8>, StoreError> {
        self.inner.read_range(place, offset, length)
    }
    fn create(&self, place: &Place, bytes: &[u8]) -> Result<(), StoreError> {
        self.inner.create(place, bytes)
    }
    fn create_pack(&self, host: &HostId) -> Result<PackFile, StoreError> {
        self.inner.create_pack(host)
    }
    fn finish_pack(&self, pack: PackFile) -> Result<(ObjectHash, u64), StoreError> {
        self.inner.finish_pack(pack)
    }
    fn begin_copy(&self, bytes: u64) -> Result<PackFile, StoreError> {
        self.inner.begin_copy(bytes)
    }
    fn finish_copy(&self, copy: PackFile, place: &Place, received: UnixNanos) -> Result<(), StoreError> {
        self.inner.finish_copy(copy, place, received)
    }
    fn barrier(&self) -> Result<(), StoreError> {
        self.inner.barrier()
    }
    fn remove(&self, place: &Place) -> Result<(), StoreError> {
        self.inner.remove(place)
    }
    fn replace(&self, place: &Place, bytes: &[u8]) -> Result<(), StoreError> {
        self.inner.replace(place, bytes)
    }
    fn set_aside(&self, place: &Place) -> Result<String, StoreError> {
        self.inner.set_aside(place)
    }
    fn available_bytes(&self) -> Option<u64> {
        self.inner.available_bytes()
    }
    fn received(&self, place: &Place) -> Result<UnixNanos, StoreError> {
        self.inner.received(place)
    }
    fn time(&self) -> UnixNanos {
        self.inner.time()
    }
    fn staleness(&self) -> Duration {
        self.inner.staleness()
    }
    fn temporary(&self) -> Result<Vec<Temporary>, StoreError> {
        self.inner.temporary()
    }
    fn remove_temporary(&self, name: &str) -> Result<(), StoreError> {
        self.inner.remove_temporary(name)
    }
}

#[test]
fn a_prune_at_work_beside_a_check_is_no_damage() {
    let env = TestEnv::with_repository();
    let forger = Forger::new(&env, "mx1");
    let (content, page, whole) = file_and_page(&forger);
    let old: Vec<Place> = content.into_iter().chain(page).collect();
    write_snapshot(&forger, 1, &whole);
    let dropped = write_snapshot(&forger, 2, &broken(&forger, "mail"));
    // Once the check has listed everything, a prune drops a snapshot and moves all blobs to other packs.
    let hashes: Vec<ObjectHash> = old.iter().map(|place| *place.hash().unwrap()).collect();
    let root = env.repository.clone();
    let host = forger.writer.host;
    let event = move || {
        let rule = "test".to_owned();
        let name = SnapshotName { host, sequence: 2, hash: dropped };
        records::write(&forger.repository, &Record::Forget { snapshots: vec![name], rule }).unwrap();
        let condemned =
            records::write(&forger.repository, &Record::Condemn { packs: hashes.clone() }).unwrap();
        records::write(&forger.repository, &Record::Doom { condemned, packs: hashes }).unwrap();
        let (_, _, again) = file_and_page(&forger);
        assert_eq!(again, whole, "the same content");
        old.iter().for_each(|pack| fs::remove_file(root.join(pack.to_string())).unwrap());
    };
    let store = Eventful {
        at: Folder::Snapshots,
        inner: LocalStore::new(&env.repository),
        event: Mutex::new(Some(Box::new(event))),
    };
    let secret = Secret::KeyFile(fs::read(&env.key_file).unwrap());
    let repository = Repository::open(Arc::new(store), &secret).unwrap();
    let index = RwLock::new(Index::in_memory(&repository.id()));
    let options = Options { read_data: ReadData::All, workers: 2 };
    let (progress, interrupt) = (Quiet::default(), Interrupt::default());
    let mut memory = Memory::new();
    let report = run(&repository, &index, options, &mut memory, &progress, &interrupt).unwrap();
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    assert_eq!(report.pruned_packs, 2);
    env.check();
}

#[test]
fn a_lost_delta_puts_mail_out_of_reach_and_a_damaged_one_too() {
    let (env, _) = with_snapshots(1);
    let (path, bytes) = env.objects("index").remove(0);
    for damage in ["removed", "damaged"] {
        match damage {
            "removed" => fs::remove_file(&path).unwrap(),
            _ => fs::write(&path, &bytes[..bytes.len() - 1]).unwrap(),
        }
        let report = check(&env, 1, &["--no-cache", "--no-record"]);
        assert_eq!(
            (&report["verdict"], &report["commands"][0]),
            (&"index".into(), &"mailark repair index".into())
        );
        assert!(report["advice"].as_str().unwrap().contains("out of reach"), "{damage}: {report}");
        fs::write(&path, &bytes).unwrap();
    }
    let output = env.mailark(["check"]).expect(0);
    assert_eq!(output.stdout, "", "silent in cron");
    assert!(env.mailark(["check", "-v"]).expect(0).stdout.contains("No damage found"));
}

/// A snapshot of `forger` whose only page is nowhere to be found.
fn broken(forger: &Forger, job: &str) -> Snapshot {
    let root = forger.blob(BlobKind::Tree, &Page::Leaf(vec![entry(job.as_bytes(), Node::Fifo)]).encode());
    forger.packs();
    snapshot(job, tree(root, 0))
}

fn write_snapshot(forger: &Forger, sequence: u64, snapshot: &Snapshot) -> ObjectHash {
    let (repository, writer) = (&forger.repository, &forger.writer);
    let object = NewObject {
        object_type: ObjectType::Snapshot,
        epoch: writer.epoch,
        host: writer.host,
        domain: writer.domain,
        sequence,
        clear: Vec::new(),
        secret: snapshot.encode(),
    };
    let key = Some(&writer.snapshot_key as &dyn mailark::crypto::seal::SealingKey);
    let place = object.write(repository.store.as_ref(), &repository.id(), key, Signer::Host(writer)).unwrap();
    *place.hash().unwrap()
}

#[test]
fn a_superseded_snapshot_may_lack_content() {
    let env = TestEnv::with_repository();
    let forger = Forger::new(&env, "mx1");
    let old = write_snapshot(&forger, 1, &broken(&forger, "mail"));
    assert_eq!(check(&env, 1, &["--no-record"])["broken_snapshots"], 1);
    let whole = forger.blob(BlobKind::Tree, &Page::Leaf(vec![entry(b"whole", Node::Fifo)]).encode());
    deltas::write(&forger.repository, &forger.writer, 1, &forger.packs()).unwrap();
    // Another job's word does not count.
    let mut later = snapshot("other", tree(whole, 0));
    (later.previous, later.previous_sequence, later.replaces) = (Some(old), 1, Some(old));
    write_snapshot(&forger, 2, &later);
    assert_eq!(check(&env, 1, &["--no-record"])["broken_snapshots"], 1);
    later.job = "mail".to_owned();
    write_snapshot(&forger, 3, &later);
    let report = check(&env, 0, &["--no-record"]);
    assert_eq!(report["broken_snapshots"], 0);
    assert_eq!(told(&report, "remarks"), [("remark".to_owned(), format!("snapshot {}", old.short()))]);
}

#[test]
fn domains_registrations_and_revocations() {
    let (env, _) = with_snapshots(1);
    let (mx1, mx2) = (lone_host(&env, "mx1"), lone_host(&env, "mx2"));
    let repository = full(&env);
    // A delta of mx1 in the domain of mx2, signed and sealed as it should be.
    let evil = full_writer(&repository, mx1.host, mx2.domain);
    deltas::write(&repository, &evil, 1, &[]).unwrap();
    let found = told(&check(&env, 1, &["--no-record"]), "findings");
    assert_eq!(found.len(), 1);
    assert!(found[0].0 == "refused" && found[0].1.starts_with("index/"), "{found:?}");
    for path in files_below(&env.repository.join("index").join(mx1.host.to_string())) {
        fs::remove_file(path).unwrap();
    }
    // Two domains under one name are a waste, no damage.
    let other = lone_host(&env, "mx1");
    let report = check(&env, 0, &[]);
    assert_eq!(told(&report, "remarks"), [("remark".to_owned(), "host mx1".to_owned())]);
    // What a revoked host writes is ignored.
    records::write(&repository, &Record::HostRevoked { host: other.host, last_sequence: 0 }).unwrap();
    let forger = Forger::with(full(&env), full_writer(&repository, other.host, other.domain).into());
    write_snapshot(&forger, 1, &broken(&forger, "mail"));
    let remarks = told(&check(&env, 0, &[]), "remarks");
    assert!(remarks.len() == 1 && remarks[0].1.starts_with("snapshots/"), "{remarks:?}");
}

#[test]
fn a_removed_registration_is_noticed_though_it_was_the_last_record() {
    let env = TestEnv::with_repository();
    let tree = TreeFixture::new(env.path("vmail"));
    tree.file("mail", mail(1));
    env.backup(&tree.root);
    let (path, bytes) = env.objects("records").pop().unwrap();
    fs::remove_file(&path).unwrap();
    let report = check(&env, 1, &["--no-record"]);
    assert_eq!(told(&report, "findings").len(), 1, "{report}");
    assert!(
        report["findings"][0]["problem"].as_str().unwrap().contains("no record registers it"),
        "{report}"
    );
    fs::write(path, bytes).unwrap();
    env.check();
}

#[test]
fn records_of_a_newer_version_are_remarked_and_missing_ones_are_damage() {
    let (env, _) = with_snapshots(1);
    let repository = full(&env);
    let object = NewObject {
        object_type: ObjectType::Record,
        epoch: 0,
        host: Default::default(),
        domain: Default::default(),
        sequence: 7,
        clear: codec::encode(&RecordHead { record_type: 99, private: false, at: 0 }),
        secret: b"from the future".to_vec(),
    };
    let signer = Signer::Repository(repository.need_full("a test").unwrap());
    let key = repository.keys.shared_record_key();
    let place = object.write(repository.store.as_ref(), &repository.id(), Some(&key), signer).unwrap();
    let report = check(&env, 1, &["--no-record"]);
    assert_eq!(told(&report, "remarks"), [("remark".to_owned(), place.to_string())]);
    assert_eq!(told(&report, "findings"), [("gap".to_owned(), "records".to_owned())]);
    assert!(report["findings"][0]["problem"].as_str().unwrap().contains("numbers 2 to 6"));
}

#[test]
fn repeated_shares_read_everything_in_turn() {
    let (env, _) = with_snapshots(8);
    let packs = env.objects("packs").len() as u64;
    assert!(packs >= 8);
    let before = check(&env, 0, &[]);
    assert_eq!((&before["packs_never_read"], &before["oldest_read_seconds"]), (&packs.into(), &Value::Null));
    let mut never = packs;
    for run in 0..packs {
        let report = check(&env, 0, &["--read-data-subset", "20%"]);
        let left = report["packs_never_read"].as_u64().unwrap();
        assert_eq!(
            left,
            never - report["packs_read"].as_u64().unwrap().min(never),
            "run {run} read one again"
        );
        never = left;
        if never == 0 {
            break;
        }
    }
    assert_eq!(never, 0);
    let text = env.mailark(["check", "-v"]).expect(0).stdout;
    assert!(text.contains("all content was read within the last day"), "{text}");
    assert!(env.mailark(["status"]).stdout.contains("read back   the oldest content just now"));
    // A pack that turns out to be damaged was not read, and is the first to be read again.
    let (path, bytes) = env.objects("packs").remove(3);
    let mut changed = bytes.clone();
    changed[200] ^= 1;
    fs::write(&path, changed).unwrap();
    let report = check(&env, 1, &["--read-data"]);
    assert_eq!((&report["packs_never_read"], &report["findings"][0]["kind"]), (&1.into(), &"damaged".into()));
    fs::write(&path, bytes).unwrap();
    let report = check(&env, 0, &["--read-data-subset", "0.1%"]);
    assert_eq!((&report["packs_read"], &report["packs_never_read"]), (&1.into(), &0.into()));
    // Rubbish in the memory costs a second reading, nothing else.
    let memory =
        files_below(&env.path("home/state")).into_iter().find(|path| path.ends_with("verified")).unwrap();
    fs::write(&memory, noise(5, 10_000)).unwrap();
    assert_eq!(check(&env, 0, &["--read-data-subset", "1/1"])["packs_never_read"], 0);
    assert_eq!(fs::read_to_string(memory).unwrap().lines().count() as u64, packs);
}

#[test]
fn results_are_recorded_and_status_knows_them() {
    let (env, _) = with_snapshots(1);
    let count = || env.objects("records").len();
    let status = |code: i32| env.mailark(["status", "--json"]).expect(code).json();
    let before = count();
    assert_eq!(check(&env, 0, &[])["recorded"], false);
    assert_eq!(check(&env, 0, &["--read-data", "--no-record"])["recorded"], false);
    assert_eq!((count(), &status(1)["last_check"]), (before, &Value::Null));
    assert_eq!(check(&env, 0, &["--read-data"])["recorded"], true);
    let last = status(1)["last_check"].clone();
    assert_eq!((count(), &last["ok"]), (before + 1, &true.into()), "{last}");
    assert!(last["text"].as_str().unwrap().contains("no damage found"), "{last}");
    let warnings = |status: &Value| {
        let findings = status["findings"].as_array().unwrap();
        findings.iter().filter(|found| found["problem"].as_str().unwrap().contains("last check")).count()
    };
    assert_eq!(warnings(&status(1)), 0, "only that there is one key");
    let (path, bytes) = env.objects("packs").remove(0);
    let mut changed = bytes.clone();
    changed[200] ^= 1;
    fs::write(&path, changed).unwrap();
    assert_eq!(check(&env, 1, &["--read-data"])["recorded"], true);
    assert_eq!(warnings(&status(1)), 1);
    // Looking less closely finds nothing, and takes nothing back.
    check(&env, 0, &[]);
    assert_eq!(warnings(&status(1)), 1);
    fs::write(&path, bytes).unwrap();
    check(&env, 0, &["--read-data"]);
    assert_eq!(warnings(&status(1)), 0);
    // Who holds no full key signs nothing, and can check all the same.
    let writer = lone_host(&env, "mx1");
    let before = count();
    let key = writer.key_file.to_str().unwrap();
    assert_eq!(check(&env, 0, &["--read-data", "--key-file", key])["recorded"], false);
    assert_eq!(count(), before);
}
