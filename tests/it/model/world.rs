//! The repository, those who work on it, and every step done to it and to the model.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use jiff::tz::TimeZone;
use mailark::base::id::ObjectHash;
use mailark::base::interrupt::Interrupt;
use mailark::base::progress::Quiet;
use mailark::crypto::blob_id::BlobNamer;
use mailark::index::Index;
use mailark::ops::backup;
use mailark::ops::forget::{self, ForgetError, GroupBy, Period, Plan, Policy};
use mailark::ops::hold;
use mailark::ops::purge::{self, PurgeError};
use mailark::ops::repair::snapshots as repair;
use mailark::repo::holds::UserSearch;
use mailark::repo::ledger::Ledger;
use mailark::repo::packs::PackMap;
use mailark::repo::reader::BlobReader;
use mailark::repo::repository::NewSlot;
use mailark::repo::snapshots::{self, SnapshotInfo};
use mailark::repo::{Repository, deltas};
use mailark::store::fault::{Fault, FaultSwitch, FaultyStore, Plan as FaultPlan};
use mailark::store::{LocalStore, Place, Storage};

use super::expected::{Kept, Model, Target};
use super::operations::{ALL_USERS, Aim, FULL_HOSTS, Grace, HOSTS, Op, Pick};
use super::sources::{Entries, Source, home, message_id};
use crate::lab::{claim, local, new_index, open_with, options, prune, secret, text};
use crate::library::lone_host;
use crate::paused::{self, Event};
use crate::support::{TestEnv, copy_folder, files_below};
use crate::tree::set_mtime;

/// Seat of the administrator, behind those of the hosts.
pub const ADMIN: usize = HOSTS;

/// Somebody with a key and a cache.
struct Seat {
    key: Vec<u8>,
    cache: PathBuf,
    image: PathBuf,
}

/// The repository and everybody around it.
pub struct World {
    pub env: TestEnv,
    seats: Vec<Seat>,
    sources: Vec<Source>,
    pub model: Model,
    /// What the mirror has to hold.
    pub mirrored: Option<Model>,
    /// A run broke off: the mirror holds that, and some of what came after.
    pub torn: bool,
    /// How often each kind of thing was done, for the figures.
    pub counts: HashMap<&'static str, u64>,
}

impl Grace {
    fn time(self) -> Duration {
        match self {
            Grace::None => Duration::ZERO,
            Grace::Moment => Duration::from_nanos(1),
            Grace::Long => Duration::from_secs(1 << 40),
        }
    }
}

pub fn host_name(host: usize) -> String {
    format!("mx{}", host + 1)
}

pub fn job_name(job: usize) -> &'static str {
    ["all", "some"][job]
}

/// Says which snapshots are to go.
type Judge<'j> = dyn for<'a> Fn(
        &'a [SnapshotInfo],
        &forget::Times,
        &Ledger,
        &mut forget::HoldsMailOf<'_>,
    ) -> Result<Vec<Plan<'a>>, ForgetError>
    + 'j;

impl World {
    /// A new repository, with parity in some.
    pub fn new(seed: u64) -> World {
        let env = TestEnv::new();
        let full = fs::read(&env.key_file).unwrap();
        let slot = NewSlot { secret: &secret(&full), label: "full" };
        let parity = [0, 5][(seed % 2) as usize];
        Repository::init(LocalStore::new(&env.repository), &[slot], parity).unwrap();
        let key = |seat: usize| match seat {
            FULL_HOSTS..HOSTS => fs::read(lone_host(&env, &host_name(seat)).key_file).unwrap(),
            _ => full.clone(),
        };
        let seat = |number: usize| Seat {
            key: key(number),
            cache: env.path(&format!("cache-{number}")),
            image: env.path(&format!("image-{number}")),
        };
        let seats = (0..=ADMIN).map(seat).collect();
        let sources = (0..HOSTS).map(|host| Source::new(env.path(&host_name(host)), host as u64)).collect();
        let (model, mirrored, torn, counts) = Default::default();
        World { env, seats, sources, model, mirrored, torn, counts }
    }

    /// The repository with somebody's key.
    pub fn open(&self, seat: usize) -> Result<Repository, String> {
        self.open_at(seat, local(&self.env.repository))
    }

    fn open_at(&self, seat: usize, store: Arc<dyn Storage>) -> Result<Repository, String> {
        open_with(&store, std::slice::from_ref(&self.seats[seat].key)).map_err(text)
    }

    /// The bytes of the file with a full key.
    pub fn full_key(&self) -> Vec<u8> {
        self.seats[ADMIN].key.clone()
    }

    /// Somebody's index.
    pub fn index(&self, seat: usize, repository: &Repository) -> Result<RwLock<Index>, String> {
        Index::open(&self.seats[seat].cache, &repository.id()).map(RwLock::new).map_err(text)
    }

    pub fn count(&mut self, what: &'static str) {
        self.count_many(what, 1);
    }

    fn count_many(&mut self, what: &'static str, many: u64) {
        *self.counts.entry(what).or_default() += many;
    }

    /// Does one step.
    pub fn step(&mut self, op: &Op) -> Result<(), String> {
        match op {
            Op::Edit { host, edits } => {
                edits.iter().for_each(|edit| self.sources[*host].edit(edit));
                Ok(())
            }
            Op::Backup { host, job } => self.back_up(*host, *job),
            Op::BrokenBackup { host, job, spared } => self.break_off(*host, *job, *spared),
            Op::BrokenPrune { grace, spared } => self.break_off_prune(*grace, *spared),
            Op::BrokenMirror { delete_at_once, spared } => self.break_off_mirror(*delete_at_once, *spared),
            Op::Overtaken { host, job, prunes } => self.overtake(*host, *job, prunes),
            Op::KeepLast { count, host } => self.keep_last(*count, *host),
            Op::KeepDaily { count } => self.keep_daily(*count),
            Op::Forget { picks, force } => self.forget(picks, *force),
            Op::ForgetHost { host } => self.forget_host(*host),
            Op::Hold { picks } => self.hold(picks),
            Op::HoldUser { user } => self.hold_user(*user),
            Op::Release { pick } => self.release(*pick),
            Op::Purge { aim, only } => self.purge(aim, *only),
            Op::Prune { grace } => self.prune(*grace),
            Op::Mirror { delete_at_once, reread } => self.mirror(*delete_at_once, *reread),
            Op::Repair { read_data } => self.repair(*read_data),
            Op::LoseCache { seat } => {
                let _ = fs::remove_dir_all(&self.seats[*seat].cache);
                Ok(())
            }
            Op::KeepCache { seat } => {
                let seat = &self.seats[*seat];
                replace(&seat.cache, &seat.image);
                Ok(())
            }
            Op::RollBack { seat } => {
                let seat = &self.seats[*seat];
                replace(&seat.image, &seat.cache);
                Ok(())
            }
            Op::Clock { pick, seconds } => self.move_clock(*pick, *seconds),
            Op::Disaster => self.fall_back_on_the_mirror(),
            Op::Look => self.look(),
        }
    }

    fn options(&self, host: usize, job: usize) -> backup::Options {
        let starts = self.sources[host].starts(job);
        backup::Options { starts, ..options(&host_name(host), job_name(job), &self.env.path("")) }
    }

    fn back_up(&mut self, host: usize, job: usize) -> Result<(), String> {
        self.count("backups");
        let (stored, left_out) = self.model.stored(host, self.sources[host].entries(job));
        let repository = self.open(host)?;
        let index = self.index(host, &repository)?;
        let options = self.options(host, job);
        let report = backup::run(&repository, &index, &options, &Quiet::default(), &Interrupt::default());
        let report = report.map_err(text)?;
        claim(report.problem_count == 0, &format!("problems with the source: {:?}", report.findings))?;
        let parent = self.model.newest(host, job).map(|kept| kept.hash);
        claim(report.parent == parent, &format!("its parent is {:?} instead of {parent:?}", report.parent))?;
        let purged = format!("{} purged files and messages left out, not {left_out}", report.purged);
        claim(report.purged == left_out, &purged)?;
        self.count_many("left out of backups", left_out);
        let hash = report.snapshot.ok_or("no snapshot")?;
        self.add(host, job, &[hash], stored)
    }

    /// Notes new snapshots, all of the same content.
    fn add(
        &mut self,
        host: usize,
        job: usize,
        hashes: &[ObjectHash],
        entries: Entries,
    ) -> Result<(), String> {
        let repository = self.open(ADMIN)?;
        let listed = snapshots::list(&repository).map_err(text)?;
        for hash in hashes {
            let info = listed.snapshots.iter().find(|info| info.hash == *hash);
            let info = info.ok_or_else(|| format!("new snapshot {} is not listed", hash.short()))?;
            claim(info.position == info.sequence, "a new snapshot stands in another's place")?;
            let above = self.model.kept.iter().filter(|kept| kept.host == host).map(|kept| kept.position);
            claim(above.max() < Some(info.position), "a new snapshot is not the newest")?;
            self.model.kept.push(Kept {
                host,
                job,
                hash: *hash,
                forebears: Vec::new(),
                position: info.position,
                received: info.received,
                suspect: info.snapshot.suspect.is_some(),
                entries: entries.clone(),
            });
            self.count_many("suspect snapshots", info.snapshot.suspect.iter().len() as u64);
        }
        Ok(())
    }

    /// The repository, and what makes its store fail.
    fn open_faulty(&self, seat: usize) -> Result<(Repository, Arc<FaultSwitch>), String> {
        let switch = Arc::new(FaultSwitch::default());
        let store = FaultyStore::new(local(&self.env.repository), Arc::clone(&switch));
        let repository = self.open_at(seat, Arc::new(store))?;
        // Records are read once: only then the calls are those of the run itself.
        Ledger::read(&repository).map_err(text)?;
        Ok((repository, switch))
    }

    fn break_off(&mut self, host: usize, job: usize, spared: u64) -> Result<(), String> {
        self.count("broken backups");
        let (stored, _) = self.model.stored(host, self.sources[host].entries(job));
        let (repository, switch) = self.open_faulty(host)?;
        let index = self.index(host, &repository)?;
        switch.arm(breaking(spared));
        let options = self.options(host, job);
        let _ = backup::run(&repository, &index, &options, &Quiet::default(), &Interrupt::default());
        switch.disarm();
        // It may have got to the snapshot before it broke, and not know it.
        let made = self.unknown()?;
        self.add(host, job, &made, stored)
    }

    /// Snapshots that the model does not know yet, oldest first.
    fn unknown(&self) -> Result<Vec<ObjectHash>, String> {
        let known: BTreeSet<ObjectHash> = self.model.kept.iter().map(|kept| kept.hash).collect();
        let mut listed = snapshots::list(&self.open(ADMIN)?).map_err(text)?.snapshots;
        listed.sort_by_key(|info| info.position);
        Ok(listed.iter().map(|info| info.hash).filter(|hash| !known.contains(hash)).collect())
    }

    fn overtake(&mut self, host: usize, job: usize, prunes: &[(u64, Grace)]) -> Result<(), String> {
        self.count("overtaken backups");
        let (stored, _) = self.model.stored(host, self.sources[host].entries(job));
        let refusals: Arc<Mutex<Vec<String>>> = Arc::default();
        let event = |grace: Grace| -> Event {
            let (root, key) = (self.env.repository.clone(), self.full_key());
            let refusals = Arc::clone(&refusals);
            Box::new(move || {
                let pruned = open_with(&local(&root), &[key]).map_err(text).and_then(|repository| {
                    let index = new_index(&repository);
                    prune(&repository, &index, grace.time())
                });
                refusals.lock().unwrap().extend(pruned.err());
            })
        };
        let mut events: Vec<(u64, Event)> =
            prunes.iter().map(|(call, grace)| (*call, event(*grace))).collect();
        events.sort_by_key(|(call, _)| *call);
        let key = std::slice::from_ref(&self.seats[host].key);
        let (repository, store) = paused::open(&self.env.repository, key, Vec::new());
        // Records are read once: only then the calls are those of the run itself.
        Ledger::read(&repository).map_err(text)?;
        store.begin(events);
        let index = self.index(host, &repository)?;
        let options = self.options(host, job);
        let report = backup::run(&repository, &index, &options, &Quiet::default(), &Interrupt::default());
        let hash = report.map_err(text)?.snapshot.ok_or("no snapshot")?;
        let mut made = self.unknown()?;
        claim(made.last() == Some(&hash), "its snapshot is not the newest")?;
        if made.len() > 1 {
            // It had to begin again. What the first snapshot lacks keeps other prunes from deleting, and goes itself.
            self.count("backups begun again");
            self.prune(Grace::None)?;
            made = self.unknown()?;
        } else {
            let refusals = std::mem::take(&mut *refusals.lock().unwrap());
            claim(refusals.is_empty(), &format!("a prune beside it said {refusals:?}"))?;
        }
        self.add(host, job, &made, stored)
    }

    /// Lists all, judges as `judge` says, and writes what came of it; gives what stayed, or why nothing was done.
    fn judged(&self, judge: &Judge) -> Result<Result<BTreeSet<ObjectHash>, ForgetError>, String> {
        let repository = self.open(ADMIN)?;
        let index = self.index(ADMIN, &repository)?;
        deltas::sync(&repository, &index).map_err(text)?;
        let ledger = Ledger::read(&repository).map_err(text)?;
        let listed = snapshots::list(&repository).map_err(text)?.snapshots;
        let packs = PackMap::new(Arc::clone(&repository.keys));
        let mut holds_mail_of = |info: &SnapshotInfo, user: &str| {
            let keys = repository.keys.domain(&info.domain).expect("a full key has them all");
            let namer = BlobNamer::new(&keys.id_key, &info.host);
            let store = Arc::clone(&repository.store);
            let reader = BlobReader::new(store, &packs, namer, info.domain, &index, 1 << 20);
            UserSearch::new(user).finds(&reader, info, &Interrupt::default())
        };
        let times = forget::effective(&listed, false);
        let written = judge(&listed, &times, &ledger, &mut holds_mail_of).and_then(|plans| {
            forget::write(&repository, &ledger, &plans)?;
            Ok(plans.iter().flat_map(Plan::names).map(|name| name.hash).collect::<BTreeSet<_>>())
        });
        let all = listed.iter().map(|info| info.hash);
        Ok(written.map(|gone| all.filter(|hash| !gone.contains(hash)).collect()))
    }

    fn by_policy(&self, policy: &Policy, host: Option<usize>) -> Result<BTreeSet<ObjectHash>, String> {
        let host = host.map(host_name);
        let stayed = self.judged(&|listed, times, ledger, holds_mail_of| {
            let wanted =
                |info: &SnapshotInfo| host.as_ref().is_none_or(|host| info.snapshot.host_name == *host);
            let groups = forget::groups(listed, &wanted, GroupBy::default(), times);
            let judge =
                |group| forget::by_policy(group, policy, &TimeZone::UTC, false, ledger, &mut *holds_mail_of);
            groups.into_iter().map(judge).collect()
        })?;
        stayed.map_err(text)
    }

    fn keep_last(&mut self, count: u32, host: Option<usize>) -> Result<(), String> {
        self.count("forgets by rule");
        let policy = Policy { last: Some(count), hold_down: Period::default(), ..Policy::default() };
        let stayed = self.by_policy(&policy, host)?;
        let expected = self.model.kept_by_count(count as usize, host);
        claim(stayed == expected, &format!("{stayed:?} stayed instead of {expected:?}"))?;
        self.model.kept.retain(|kept| stayed.contains(&kept.hash));
        Ok(())
    }

    fn keep_daily(&mut self, count: u32) -> Result<(), String> {
        self.count("forgets by rule");
        let policy = Policy { daily: Some(count), hold_down: Period::default(), ..Policy::default() };
        let stayed = self.by_policy(&policy, None)?;
        // Which of them make a day is the policy's own matter, and tested there.
        for group in self.model.groups() {
            let missing: Vec<ObjectHash> =
                self.model.never_go(&group).into_iter().filter(|hash| !stayed.contains(hash)).collect();
            claim(missing.is_empty(), &format!("{missing:?} were let go"))?;
        }
        self.model.kept.retain(|kept| stayed.contains(&kept.hash));
        Ok(())
    }

    /// The snapshots that are meant; none where there are none.
    fn picked(&self, picks: &[Pick]) -> BTreeSet<ObjectHash> {
        let kept = &self.model.kept;
        picks.iter().filter_map(|pick| kept.get(pick % kept.len().max(1))).map(|kept| kept.hash).collect()
    }

    fn forget(&mut self, picks: &[Pick], force: bool) -> Result<(), String> {
        self.forget_named(self.picked(picks), force)
    }

    fn forget_host(&mut self, host: usize) -> Result<(), String> {
        let of_host = self.model.kept.iter().filter(|kept| kept.host == host);
        self.forget_named(of_host.map(|kept| kept.hash).collect(), true)
    }

    fn forget_named(&mut self, named: BTreeSet<ObjectHash>, force: bool) -> Result<(), String> {
        self.count("forgets by id");
        let may = self.model.may_go(&named, force);
        let stayed = self.judged(&|listed, times, ledger, holds_mail_of| {
            let infos: Vec<&SnapshotInfo> = listed.iter().filter(|info| named.contains(&info.hash)).collect();
            forget::by_name(listed, &infos, times, force, ledger, holds_mail_of)
        })?;
        match stayed {
            Ok(_) if !may => Err("it forgot what has to stay".to_owned()),
            Ok(_) => {
                self.model.kept.retain(|kept| !named.contains(&kept.hash));
                Ok(())
            }
            Err(ForgetError::Held { .. } | ForgetError::LastGood { .. }) if !may => {
                self.count("refused forgets");
                Ok(())
            }
            Err(error) => Err(text(error)),
        }
    }

    fn hold(&mut self, picks: &[Pick]) -> Result<(), String> {
        let picked = self.picked(picks);
        if picked.is_empty() {
            return Ok(());
        }
        self.count("holds");
        let repository = self.open(ADMIN)?;
        let listed = snapshots::list(&repository).map_err(text)?.snapshots;
        let names = listed.iter().filter(|info| picked.contains(&info.hash)).map(SnapshotInfo::name);
        let number = hold::add(&repository, names.collect(), Vec::new(), "test".to_owned());
        self.model.hold(picked.into_iter().collect(), None);
        claim(number.map_err(text)? == self.model.last_hold, "the hold has another number")
    }

    fn hold_user(&mut self, user: usize) -> Result<(), String> {
        self.count("holds");
        let users = vec![ALL_USERS[user].to_owned()];
        let number = hold::add(&self.open(ADMIN)?, Vec::new(), users, "test".to_owned());
        self.model.hold(Vec::new(), Some(user));
        claim(number.map_err(text)? == self.model.last_hold, "the hold has another number")
    }

    fn release(&mut self, pick: Pick) -> Result<(), String> {
        if self.model.holds.is_empty() {
            return Ok(());
        }
        let hold = self.model.holds.remove(pick % self.model.holds.len());
        hold::remove(&self.open(ADMIN)?, hold.number).map_err(text)
    }

    fn purge(&mut self, aim: &Aim, only: Option<Pick>) -> Result<(), String> {
        if self.model.kept.is_empty() {
            return Ok(());
        }
        let only = only.map(|pick| pick % self.model.kept.len());
        let paths = self.model.paths();
        let (target, wanted) = match aim {
            Aim::Path(pick) => {
                let Some(path) = paths.iter().nth(pick % paths.len().max(1)) else { return Ok(()) };
                (Target::Path(path.to_vec()), purge::Target::Path(path.to_vec()))
            }
            Aim::Message(number) => (Target::Message(*number), purge::Target::MessageId(message_id(*number))),
            Aim::User(user) => (Target::Path(home(*user)), purge::Target::User(ALL_USERS[*user].to_owned())),
        };
        let expected = self.model.purge(&target, only);
        let user = match aim {
            Aim::User(user) => Some(ALL_USERS[*user]),
            _ => None,
        };
        let may = self.model.may_purge(&expected, user);
        let repository = self.open(ADMIN)?;
        let index = self.index(ADMIN, &repository)?;
        let options = purge::Options {
            targets: vec![wanted],
            filter: Default::default(),
            snapshots: only.map(|place| self.model.kept[place].hash).into_iter().collect(),
            dry_run: false,
        };
        let (quiet, interrupt) = (Quiet::default(), Interrupt::default());
        self.count("purges");
        match purge::run(&repository, &index, &options, &quiet, &interrupt) {
            Ok(_) if !may => Err(format!("it purged {target:?} out of what is held")),
            Ok(report) => {
                claim(report.problems.is_empty(), &format!("problems: {:?}", report.problems))?;
                self.count_many("snapshots purged", report.made.len() as u64);
                self.model.purged(expected, &report.made).map_err(|why| format!("{target:?}: {why}"))
            }
            Err(PurgeError::Held { .. }) if !may => {
                self.count("refused purges");
                Ok(())
            }
            Err(error) => Err(text(error)),
        }
    }

    /// Prunes; without a grace nothing of what was dropped is left.
    pub fn prune(&mut self, grace: Grace) -> Result<(), String> {
        self.count("prunes");
        let repository = self.open(ADMIN)?;
        let index = self.index(ADMIN, &repository)?;
        prune(&repository, &index, grace.time())?;
        if grace != Grace::None {
            return Ok(());
        }
        let listed = snapshots::list(&repository).map_err(text)?;
        claim(listed.dropped.is_empty(), "snapshots that were dropped are still there")?;
        let ledger = Ledger::read(&repository).map_err(text)?;
        claim(ledger.open_condemns().count() == 0, "a condemn is open")
    }

    fn break_off_prune(&mut self, grace: Grace, spared: u64) -> Result<(), String> {
        self.count("broken prunes");
        let (repository, switch) = self.open_faulty(ADMIN)?;
        let index = self.index(ADMIN, &repository)?;
        switch.arm(breaking(spared));
        let _ = prune(&repository, &index, grace.time());
        Ok(())
    }

    fn repair(&mut self, read_data: bool) -> Result<(), String> {
        self.count("repairs");
        let repository = self.open(ADMIN)?;
        let index = self.index(ADMIN, &repository)?;
        let before = files_below(&self.env.repository);
        let options = repair::Options { read_data, ..Default::default() };
        let report = repair::run(&repository, &index, &options, &Quiet::default(), &Interrupt::default());
        let report = report.map_err(text)?;
        claim(report.is_whole() && report.rewritten.is_empty(), &format!("it found {report:?}"))?;
        claim(files_below(&self.env.repository) == before, "it wrote or removed something")
    }

    fn move_clock(&mut self, pick: Option<Pick>, seconds: i64) -> Result<(), String> {
        let listed = snapshots::list(&self.open(ADMIN)?).map_err(text)?.snapshots;
        let hashes = match pick {
            Some(pick) => self.picked(&[pick]),
            None => listed.iter().map(|info| info.hash).collect(),
        };
        for info in listed.iter().filter(|info| hashes.contains(&info.hash)) {
            let place = Place::Snapshot(info.host, info.sequence, info.hash);
            set_mtime(&self.env.repository.join(place.to_string()), seconds, 0);
        }
        // One that stands in another's place has its time from a record.
        let moved = self.model.kept.iter_mut();
        moved
            .filter(|kept| hashes.contains(&kept.hash) && kept.forebears.is_empty())
            .for_each(|kept| kept.received = i128::from(seconds) * 1_000_000_000);
        Ok(())
    }
}

/// A store that fails for good after so many calls.
pub fn breaking(spared: u64) -> FaultPlan {
    FaultPlan { fault: Fault::Error, method: None, spared, lasting: true }
}

/// Puts a copy of a folder in the place of another; where there is nothing to copy, nothing happens.
fn replace(from: &std::path::Path, to: &std::path::Path) {
    if from.exists() {
        let _ = fs::remove_dir_all(to);
        copy_folder(from, to);
    }
}
