//! A small repository with some history, the verbs that change one, and what must hold whatever befell them.

mod keys;
pub mod upkeep;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use mailark::base::id::ObjectHash;
use mailark::base::interrupt::Interrupt;
use mailark::base::progress::Quiet;
use mailark::crypto::blob_id::BlobNamer;
use mailark::crypto::slot::Secret;
use mailark::format::page::Node;
use mailark::format::record::Record;
use mailark::index::Index;
use mailark::ops::{backup, check, prune, purge};
use mailark::repo::extract::extract_bytes;
use mailark::repo::ledger::Ledger;
use mailark::repo::packs::PackMap;
use mailark::repo::reader::{BlobReader, ReadCache};
use mailark::repo::repository::NewSlot;
use mailark::repo::snapshots::{self, SnapshotInfo};
use mailark::repo::view::{Step, View};
use mailark::repo::{RepoError, Repository, deltas, records};
use mailark::source::exclude::Excludes;
use mailark::source::start::Start;
use mailark::store::{Folder, LocalStore, Storage};

use crate::support::{TestEnv, copy_folder, files_below, noise, settle};
use crate::tree::{TreeFixture, mail, mail_with_attachment, message_name};

/// Something done to an open repository.
pub type Verb = Box<dyn Fn(&Repository, &RwLock<Index>) -> Result<(), String> + Send + Sync>;

/// Each path of a snapshot: what it is, and the digest of its bytes.
pub type Contents = BTreeMap<Vec<u8>, (String, [u8; 32])>;

/// A verb, where it is run, and what it may do.
pub struct Scenario {
    pub name: &'static str,
    /// The repository as it stands before.
    pub template: PathBuf,
    pub verb: Verb,
    /// Holds once the verb has said that all went well.
    pub done: Verb,
    /// Older snapshots that the verb may drop.
    pub drops: Vec<ObjectHash>,
    /// Another snapshot stands in the place of each that is dropped.
    pub replaces: bool,
    /// A listing that lags behind is within what the verb promises to bear.
    pub bears_stale_lists: bool,
    pub then: Then,
}

/// What must work after a crash or a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// All is whole, and another backup works.
    Backup,
    /// All is whole, and the verb works again.
    Again,
    /// The template is damaged: the verb works again, and then all is whole.
    Heals,
}

/// Where it all lies.
pub struct Lab {
    pub env: TestEnv,
    /// What opens the repository: one of them at any time.
    pub keys: [Vec<u8>; 2],
    /// All snapshots of the templates.
    pub older: BTreeMap<ObjectHash, Contents>,
    /// What any other snapshot may hold.
    newer: Mutex<Vec<Contents>>,
}

/// `MAILARK_TEST_SEED`, or another one each time.
pub fn seed() -> u64 {
    let now = || std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64;
    let seed = std::env::var("MAILARK_TEST_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(now);
    println!("MAILARK_TEST_SEED={seed}");
    seed
}

/// The long form, which takes many minutes.
pub fn is_long() -> bool {
    std::env::var_os("MAILARK_TEST_LONG").is_some_and(|value| !value.is_empty() && value != "0")
}

pub fn secret(key: &[u8]) -> Secret {
    Secret::KeyFile(key.to_vec())
}

pub fn text(error: impl std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// What the purge under test takes out of all snapshots.
const PURGED: &[u8] = b"/data/files/same";

/// Packs so small that a run makes several.
const PACK_BYTES: u64 = 16 << 10;

/// A backup of a source as `/data`.
pub fn options(host: &str, job: &str, source: &Path) -> backup::Options {
    backup::Options {
        care: backup::Care::default(),
        cache_dir: None,
        host_name: host.to_owned(),
        job: job.to_owned(),
        starts: vec![Start::new(source, Some(b"/data")).unwrap()],
        stream: None,
        excludes: Excludes::default(),
        all_files: false,
        lock_wait: Duration::from_secs(10),
        own: Vec::new(),
        one_file_system: false,
        tags: Vec::new(),
        accept_loss: false,
        skip_unchanged: false,
        dry_run: false,
        read_cache: Arc::new(ReadCache::new(1 << 20)),
        workers: 1,
    }
}

pub fn back_up(
    repository: &Repository,
    index: &RwLock<Index>,
    (host, job, source): (&str, &str, &Path),
) -> Result<(), String> {
    let report =
        backup::run(repository, index, &options(host, job, source), &Quiet::default(), &Interrupt::default());
    let report = report.map_err(text)?;
    match report.problem_count {
        0 => Ok(()),
        _ => Err(format!("problems with the source: {:?}", report.findings)),
    }
}

pub fn new_index(repository: &Repository) -> RwLock<Index> {
    RwLock::new(Index::in_memory(&repository.id()))
}

/// Opens with the first key that fits.
pub fn open_with(store: &Arc<dyn Storage>, keys: &[Vec<u8>]) -> Result<Repository, RepoError> {
    let mut last = None;
    for key in keys {
        match Repository::open(Arc::clone(store), &secret(key)) {
            Ok(mut repository) => {
                repository.config.pack_bytes = PACK_BYTES;
                return Ok(repository);
            }
            Err(error) => last = Some(error),
        }
    }
    Err(last.expect("at least one key"))
}

pub fn local(root: &Path) -> Arc<dyn Storage> {
    Arc::new(LocalStore::new(root))
}

/// Reads everything that a snapshot holds.
pub fn contents(
    repository: &Repository,
    index: &RwLock<Index>,
    info: &SnapshotInfo,
) -> Result<Contents, String> {
    let packs = PackMap::new(Arc::clone(&repository.keys));
    let keys = repository.keys.domain(&info.domain).ok_or("no keys of its domain")?;
    let namer = BlobNamer::new(&keys.id_key, &info.host);
    let store = Arc::clone(&repository.store);
    let reader = BlobReader::new(store, &packs, namer, info.domain, index, 8 << 20)
        .refreshing(Box::new(|| mailark::repo::deltas::learn(repository, index)));
    let mut contents = Contents::new();
    for step in View::new(&reader, &info.snapshot, b"/") {
        let (path, entry) = match step {
            Step::Entry(path, entry) => (path, entry),
            Step::Leave => continue,
            Step::Broken(path, error) => {
                return Err(format!("{}: {}", String::from_utf8_lossy(&path), text(error)));
            }
        };
        let mut hasher = blake3::Hasher::new();
        let what = match &entry.node {
            Node::File(file) => {
                let interrupt = Interrupt::default();
                extract_bytes::<String>(&reader, file, &interrupt, |bytes| {
                    hasher.update(bytes);
                    Ok(())
                })
                .map_err(|error| format!("{}: {error}", String::from_utf8_lossy(&path)))?;
                format!("file {}", file.size)
            }
            Node::Folder(_) => "folder".to_owned(),
            other => format!("{other:?}"),
        };
        let what = format!("{what} {:o} {}.{}", entry.mode, entry.mtime_s, entry.mtime_ns);
        contents.insert(path, (what, *hasher.finalize().as_bytes()));
    }
    Ok(contents)
}

/// The files of a source are those of a snapshot, byte for byte.
fn assert_holds(contents: &Contents, source: &Path) {
    let files = files_below(source);
    let stored = contents.values().filter(|(what, _)| what.starts_with("file")).count();
    assert_eq!(files.len(), stored);
    for file in files {
        let path = Path::new("/data").join(file.strip_prefix(source).unwrap());
        let (_, digest) = &contents[path.as_os_str().as_encoded_bytes()];
        assert_eq!(digest, blake3::hash(&fs::read(&file).unwrap()).as_bytes(), "{path:?}");
    }
}

/// The files of one state of the mail that is backed up.
fn source(env: &TestEnv, name: &str, numbers: std::ops::Range<u64>) -> TreeFixture {
    let tree = TreeFixture::new(env.path(name));
    for number in numbers.clone() {
        tree.file(format!("{}/cur/{}", number % 3, message_name(number, "S")), mail(number));
    }
    let letter = numbers.start + 1_000;
    tree.file(format!("0/cur/{}", message_name(letter, "")), mail_with_attachment(letter, 30_000));
    tree.file("files/same", noise(1, 9_000));
    tree.file("files/other", noise(numbers.end, 20_000 + numbers.end as usize));
    tree
}

/// All snapshots that can be read, with what they hold; damage is an error.
pub fn all_contents(
    repository: &Repository,
    index: &RwLock<Index>,
) -> Result<Vec<(SnapshotInfo, Contents)>, String> {
    let listed = snapshots::list(repository).map_err(text)?;
    if let Some((place, error)) = listed.unusable.first() {
        return Err(format!("{place}: {error}"));
    }
    listed
        .snapshots
        .into_iter()
        .map(|info| {
            let held = contents(repository, index, &info)?;
            Ok((info, held))
        })
        .collect()
}

/// Everything that `check --read-data` finds.
pub fn findings(repository: &Repository, index: &RwLock<Index>) -> Result<Vec<String>, RepoError> {
    findings_reading(repository, index, check::ReadData::All)
}

/// Everything that a check finds which reads these packs.
pub fn findings_reading(
    repository: &Repository,
    index: &RwLock<Index>,
    read_data: check::ReadData,
) -> Result<Vec<String>, RepoError> {
    let options = check::Options { read_data, workers: 1 };
    let (quiet, interrupt) = (Quiet::default(), Interrupt::default());
    let memory = &mut check::Memory::default();
    let report = check::run(repository, index, options, memory, &quiet, &interrupt)?;
    Ok(report.findings.into_iter().map(|found| format!("{}: {}", found.object, found.text)).collect())
}

impl Lab {
    pub fn new() -> Lab {
        let env = TestEnv::new();
        let keys = [noise(11, 32), noise(12, 32)];
        for (name, numbers) in [("old-1", 0..8), ("old-2", 4..12), ("data-1", 20..32), ("data-2", 26..40)] {
            source(&env, name, numbers);
        }
        settle();
        let fresh = env.path("fresh");
        let first = secret(&keys[0]);
        Repository::init(LocalStore::new(&fresh), &[NewSlot { secret: &first, label: "first" }], 0).unwrap();
        let mut lab = Lab { env, keys, older: BTreeMap::new(), newer: Mutex::default() };
        lab.extend(&fresh, &["old-1", "old-2"], "old");
        let grown = lab.env.path("grown");
        copy_folder(&fresh, &grown);
        lab.extend(&grown, &["data-1"], "data");
        // What the run under test is going to make, from a repository that nobody troubles.
        let whole = lab.env.path("whole");
        copy_folder(&grown, &whole);
        let older = lab.older.clone();
        lab.extend(&whole, &["data-2"], "data");
        lab.older = older;
        assert_eq!((lab.standing(&fresh).len(), lab.standing(&grown).len()), (2, 3));
        lab
    }

    /// Backs up and notes what came of it.
    fn extend(&mut self, root: &Path, sources: &[&str], job: &str) {
        let repository = open_with(&local(root), &self.keys).unwrap();
        let index = new_index(&repository);
        for name in sources {
            let source = self.env.path(name);
            back_up(&repository, &index, ("mx1", job, &source)).unwrap();
            let made = all_contents(&repository, &index).unwrap();
            let (info, held) = made.into_iter().max_by_key(|(info, _)| info.sequence).unwrap();
            assert_holds(&held, &source);
            self.older.insert(info.hash, held.clone());
            let mut purged = held.clone();
            purged.remove(PURGED);
            self.allow([held, purged]);
        }
    }

    /// Snapshots that a verb makes may hold this.
    pub fn allow(&self, contents: impl IntoIterator<Item = Contents>) {
        self.newer.lock().unwrap().extend(contents);
    }

    pub fn source(&self, name: &str) -> PathBuf {
        self.env.path(name)
    }

    /// Opens a repository in which all may be as it should.
    pub fn open(&self, root: &Path) -> Result<Repository, String> {
        open_with(&local(root), &self.keys).map_err(text)
    }

    /// Nothing older suffered, nothing is damaged, and what is new is right.
    ///
    /// `older` are the snapshots that stood before.
    pub fn is_whole(&self, root: &Path, scenario: &Scenario) -> Result<(), String> {
        let repository = self.open(root)?;
        let index = new_index(&repository);
        self.is_sound(&repository, &index, scenario)
    }

    pub fn is_sound(
        &self,
        repository: &Repository,
        index: &RwLock<Index>,
        scenario: &Scenario,
    ) -> Result<(), String> {
        let found = findings(repository, index).map_err(text)?;
        if !found.is_empty() {
            return Err(format!("check finds {found:?}"));
        }
        let held = all_contents(repository, index)?;
        for (info, contents) in &held {
            let right = match self.older.get(&info.hash) {
                Some(known) => known == contents,
                None => self.newer.lock().unwrap().contains(contents),
            };
            if !right {
                return Err(format!("snapshot {} does not hold what it should", info.hash.short()));
            }
        }
        let standing = self.standing(&scenario.template);
        if scenario.replaces && held.len() < standing.len() {
            return Err(format!("{} snapshots are left of {}", held.len(), standing.len()));
        }
        for hash in standing {
            if !scenario.drops.contains(&hash) && !held.iter().any(|(info, _)| info.hash == hash) {
                return Err(format!("snapshot {} is gone", hash.short()));
            }
        }
        Ok(())
    }

    /// The snapshots of a template.
    fn standing(&self, template: &Path) -> Vec<ObjectHash> {
        let names = files_below(&template.join("snapshots"));
        let is_named =
            |hash: &ObjectHash| names.iter().any(|name| name.to_string_lossy().ends_with(&hash.to_string()));
        self.older.keys().copied().filter(is_named).collect()
    }

    /// Another backup works, and what it made can be read.
    pub fn goes_on(&self, root: &Path) -> Result<(), String> {
        let repository = self.open(root)?;
        let index = new_index(&repository);
        back_up(&repository, &index, ("mx1", "data", &self.source("data-2")))?;
        self.holds_newest(&repository, &new_index(&repository), "mx1", "data-2")
    }

    /// The newest snapshot of the job `data` holds that source.
    fn holds_newest(
        &self,
        repository: &Repository,
        index: &RwLock<Index>,
        host: &str,
        source: &str,
    ) -> Result<(), String> {
        deltas::sync(repository, index).map_err(text)?;
        let listed = snapshots::list(repository).map_err(text)?;
        let own = listed
            .snapshots
            .iter()
            .filter(|info| info.snapshot.job == "data" && info.snapshot.host_name == host);
        let newest = own.max_by_key(|info| info.snapshot.started).ok_or("there is no snapshot of the job")?;
        let held = contents(repository, index, newest)?;
        let ledger = Ledger::read(repository).map_err(text)?;
        // Where something was purged, nothing brings it back.
        let purged = usize::from(!ledger.tombstones.is_empty() && !held.contains_key(PURGED));
        let files = files_below(&self.source(source)).len() - purged;
        let stored = held.values().filter(|(what, _)| what.starts_with("file")).count();
        if files != stored || !self.newer.lock().unwrap().contains(&held) {
            return Err("the newest snapshot does not hold the source".to_owned());
        }
        Ok(())
    }
}

/// Every verb under test. A new verb is one more row.
pub fn scenarios(lab: &Arc<Lab>) -> Vec<Scenario> {
    let mut all = vec![
        backup_row(lab, "first backup of a job", "fresh", "mx1"),
        backup_row(lab, "second backup of a job", "grown", "mx1"),
        backup_row(lab, "first backup of a host", "grown", "mx2"),
    ];
    all.extend(keys::rows(lab));
    all.extend(prune_rows(lab));
    all.push(forget_row(lab));
    all.push(purge_row(lab));
    all.extend(upkeep::rows(lab));
    all
}

fn forget_row(lab: &Arc<Lab>) -> Scenario {
    let template = lab.env.path("grown");
    let repository = lab.open(&template).unwrap();
    let listed = snapshots::list(&repository).unwrap();
    let oldest = listed.snapshots.iter().find(|info| info.snapshot.job == "old").unwrap().name();
    Scenario {
        name: "forget",
        template,
        verb: Box::new(move |repository, _| {
            let forget = Record::Forget { snapshots: vec![oldest], rule: "test".to_owned() };
            records::write(repository, &forget).map(drop).map_err(text)
        }),
        done: Box::new(move |repository, _| {
            let ledger = Ledger::read(repository).map_err(text)?;
            claim(ledger.forgotten.contains_key(&oldest.hash), "it is not forgotten")
        }),
        drops: vec![oldest.hash],
        replaces: false,
        bears_stale_lists: true,
        then: Then::Backup,
    }
}

fn purge_row(lab: &Arc<Lab>) -> Scenario {
    let template = lab.env.path("grown");
    let drops = lab.standing(&template);
    let verb: Verb = Box::new(|repository, index| {
        let options = purge::Options {
            targets: vec![purge::Target::Path(PURGED.to_vec())],
            filter: Default::default(),
            snapshots: Vec::new(),
            dry_run: false,
        };
        let (quiet, interrupt) = (Quiet::default(), Interrupt::default());
        let report = purge::run(repository, index, &options, &quiet, &interrupt).map_err(text)?;
        claim(report.problems.is_empty(), "it could not read everything")
    });
    let done: Verb = Box::new(|repository, index| {
        deltas::sync(repository, index).map_err(text)?;
        let held = all_contents(repository, index)?;
        claim(held.iter().all(|(_, held)| !held.contains_key(PURGED)), "it is still in a snapshot")?;
        let ledger = Ledger::read(repository).map_err(text)?;
        claim(!ledger.tombstones.is_empty(), "nothing keeps it from coming back")
    });
    Scenario {
        name: "purge",
        template,
        verb,
        done,
        drops,
        replaces: true,
        bears_stale_lists: false,
        then: Then::Backup,
    }
}

/// Writes the record that drops the oldest snapshot of the job `old`; gives its hash.
fn forget_oldest(lab: &Lab, root: &Path) -> ObjectHash {
    let repository = lab.open(root).unwrap();
    let listed = snapshots::list(&repository).unwrap();
    let oldest = listed.snapshots.iter().find(|info| info.snapshot.job == "old").unwrap();
    let forget = Record::Forget { snapshots: vec![oldest.name()], rule: "test".to_owned() };
    records::write(&repository, &forget).unwrap();
    oldest.hash
}

/// Leaves nothing unused in packs.
pub fn prune(repository: &Repository, index: &RwLock<Index>, grace: Duration) -> Result<(), String> {
    let options = prune::Options {
        grace,
        max_unused: prune::MaxUnused::Percent(0.0),
        drop_checkpoints: false,
        dry_run: false,
        workers: 1,
    };
    let pruned = prune::run(repository, index, options, &Quiet::default(), &Interrupt::default());
    pruned.map(drop).map_err(text)
}

fn prune_rows(lab: &Arc<Lab>) -> [Scenario; 2] {
    let template = lab.env.path("forgotten");
    copy_folder(&lab.env.path("grown"), &template);
    let dropped = forget_oldest(lab, &template);
    let row = |name, verb| Scenario {
        name,
        template: template.clone(),
        verb,
        done: Box::new(move |repository: &Repository, _: &RwLock<Index>| {
            let listed = repository.store.list(Folder::Snapshots).map_err(text)?;
            let gone = listed.iter().all(|(place, _)| place.hash() != Some(&dropped));
            claim(gone, "the forgotten snapshot is still there")?;
            let ledger = Ledger::read(repository).map_err(text)?;
            claim(ledger.open_condemns().count() == 0, "a condemn is open")
        }),
        drops: vec![dropped],
        replaces: false,
        // A store without staleness shows at once what was created; prune rests on that.
        bears_stale_lists: false,
        then: Then::Backup,
    };
    let now: Verb = Box::new(|repository, index| prune(repository, index, Duration::ZERO));
    // The first condemns, the second deletes and finds nothing more to condemn.
    let later: Verb = Box::new(|repository, index| {
        let moment = Duration::from_nanos(1);
        (0..3).try_for_each(|_| prune(repository, index, moment))
    });
    [row("prune at once", now), row("prune with a grace", later)]
}

fn backup_row(lab: &Arc<Lab>, name: &'static str, template: &str, host: &'static str) -> Scenario {
    let (doing, done) = (Arc::clone(lab), Arc::clone(lab));
    Scenario {
        name,
        template: lab.env.path(template),
        verb: Box::new(move |repository, index| {
            back_up(repository, index, (host, "data", &doing.source("data-2")))
        }),
        done: Box::new(move |repository, index| done.holds_newest(repository, index, host, "data-2")),
        drops: Vec::new(),
        replaces: false,
        bears_stale_lists: true,
        then: Then::Backup,
    }
}

pub fn claim(holds: bool, what: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what.to_owned()) }
}
