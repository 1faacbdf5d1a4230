//! What must hold after each step, and what is looked at when everything is read.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::{Arc, RwLock};

use mailark::base::interrupt::Interrupt;
use mailark::base::progress::Quiet;
use mailark::crypto::blob_id::BlobNamer;
use mailark::index::Index;
use mailark::ops::check::ReadData;
use mailark::ops::mirror;
use mailark::ops::restore;
use mailark::repo::Repository;
use mailark::repo::ledger::Ledger;
use mailark::repo::packs::PackMap;
use mailark::repo::reader::BlobReader;
use mailark::repo::snapshots::{self, SnapshotInfo};
use mailark::store::LocalStore;

use super::expected::{Kept, Model};
use super::operations::{FULL_HOSTS, HOSTS};
use super::sources::{self, Node};
use super::world::{ADMIN, World, host_name, job_name};
use crate::lab::{claim, contents, findings, findings_reading, local, new_index, open_with, text};

impl World {
    /// The cheap part: every snapshot is listed, none that was dropped is, and all holds stand.
    pub fn glance(&self) -> Result<(), String> {
        let repository = self.open(ADMIN)?;
        listed_as(&repository, &self.model).map(drop)?;
        let ledger = Ledger::read(&repository).map_err(text)?;
        let stand = ledger.holds.iter().map(|hold| (hold.hold, hold.users.len(), hold.snapshots.len()));
        let expected =
            self.model.holds.iter().map(|hold| (hold.number, hold.user.iter().len(), hold.snapshots.len()));
        claim(stand.eq(expected), &format!("holds are {:?} instead of {:?}", ledger.holds, self.model.holds))
    }

    /// Everything: each byte of each snapshot, all objects, what writers see, and the mirror.
    pub fn look(&mut self) -> Result<(), String> {
        self.count("looks");
        let repository = self.open(ADMIN)?;
        // Whose cache it is makes no difference, whatever befell it.
        let seats = [ADMIN, 0, 1];
        let seat = seats[self.counts["looks"] as usize % seats.len()];
        let index = self.index(seat, &repository)?;
        reads_as(&repository, &index, &self.model)?;
        for host in FULL_HOSTS..HOSTS {
            let own = |kept: &&Kept| kept.host == host;
            let expected: BTreeSet<_> = self.model.kept.iter().filter(own).map(|kept| kept.hash).collect();
            let writer = self.open(host)?;
            let index = self.index(host, &writer)?;
            let found = findings_reading(&writer, &index, ReadData::No).map_err(text)?;
            claim(found.is_empty(), &format!("a check by {} finds {found:?}", host_name(host)))?;
            let listed = snapshots::list(&writer).map_err(text)?;
            let seen: BTreeSet<_> = listed.snapshots.iter().map(|info| info.hash).collect();
            claim(
                seen == expected && listed.unusable.is_empty(),
                &format!("{} sees {seen:?} instead of {expected:?}", host_name(host)),
            )?;
        }
        self.look_at_mirror().map_err(|why| format!("in the mirror: {why}"))
    }

    fn look_at_mirror(&self) -> Result<(), String> {
        let Some(model) = &self.mirrored else { return Ok(()) };
        let root = self.mirror_root();
        let seen = mirror::verify(&LocalStore::new(&root), 1, &Quiet::default(), &Interrupt::default());
        let seen = seen.map_err(text)?;
        claim(seen.findings.is_empty(), &format!("{:?}", seen.findings))?;
        let repository = open_with(&local(&root), &[self.full_key()]).map_err(text)?;
        let index = new_index(&repository);
        if self.torn {
            return self.torn_reads(&repository, &index, model);
        }
        reads_as(&repository, &index, model)?;
        match model.kept.last() {
            Some(kept) => self.restores(&repository, &index, kept),
            None => Ok(()),
        }
    }

    /// A mirror whose last run broke off is whole; each of its snapshots that somebody knows is right.
    fn torn_reads(
        &self,
        repository: &Repository,
        index: &RwLock<Index>,
        before: &Model,
    ) -> Result<(), String> {
        let found = findings(repository, index).map_err(text)?;
        claim(found.is_empty(), &format!("check finds {found:?}"))?;
        for info in snapshots::list(repository).map_err(text)?.snapshots {
            let held = contents(repository, index, &info)?;
            let mut known = self.model.kept.iter().chain(&before.kept);
            if let Some(kept) = known.find(|kept| kept.hash == info.hash) {
                let is_right = held == sources::contents(&kept.entries);
                claim(is_right, &format!("snapshot {} is another", info.hash.short()))?;
            }
        }
        Ok(())
    }

    /// A restore gives the same files.
    fn restores(&self, repository: &Repository, index: &RwLock<Index>, kept: &Kept) -> Result<(), String> {
        let listed = snapshots::list(repository).map_err(text)?.snapshots;
        let info = listed.into_iter().find(|info| info.hash == kept.hash).ok_or("it is not listed")?;
        let packs = PackMap::new(Arc::clone(&repository.keys));
        let reader = reader(repository, &packs, index, &info);
        let to = self.env.path("restored");
        let _ = fs::remove_dir_all(&to);
        let options = restore::Options {
            place: None,
            snapshot: info,
            path: b"/".to_vec(),
            includes: None,
            excludes: Default::default(),
            target: to.clone(),
            overwrite: None,
            delete: false,
            dry_run: false,
            force: false,
            system: true,
            numeric_ids: true,
            workers: 1,
        };
        let report = match restore::run(&reader, &options, &Quiet::default(), &Interrupt::default()) {
            Err(restore::RestoreError::NoSuchPath { .. }) if kept.entries.is_empty() => return Ok(()),
            report => report.map_err(text)?,
        };
        claim(report.problem_count == 0, &format!("a restore had problems: {:?}", report.findings))?;
        let files = kept.entries.iter().filter_map(|(path, entry)| match &entry.node {
            Node::File(body) => Some((path, body)),
            _ => None,
        });
        let mut count = 0;
        for (path, body) in files {
            let path = std::str::from_utf8(path).unwrap();
            let restored = fs::read(to.join(&path[1..])).map_err(|error| format!("{path}: {error}"))?;
            claim(restored == body.bytes(), &format!("{path} was restored with other bytes"))?;
            count += 1;
        }
        claim(report.files >= count, "a restore did less than it should")
    }
}

fn reader<'a>(
    repository: &'a Repository,
    packs: &'a PackMap,
    index: &'a RwLock<Index>,
    info: &SnapshotInfo,
) -> BlobReader<'a> {
    let keys = repository.keys.domain(&info.domain).expect("a full key has those of all");
    let namer = BlobNamer::new(&keys.id_key, &info.host);
    BlobReader::new(Arc::clone(&repository.store), packs, namer, info.domain, index, 8 << 20)
}

/// Are exactly the snapshots of the model listed, each in its place and with its time?
fn listed_as(repository: &Repository, model: &Model) -> Result<Vec<SnapshotInfo>, String> {
    let listed = snapshots::list(repository).map_err(text)?;
    claim(listed.unusable.is_empty(), &format!("unusable: {:?}", listed.unusable))?;
    let seen: BTreeMap<_, &SnapshotInfo> = listed.snapshots.iter().map(|info| (info.hash, info)).collect();
    for kept in &model.kept {
        let short = kept.hash.short();
        let info = seen.get(&kept.hash).ok_or_else(|| format!("snapshot {short} is gone"))?;
        let snapshot = &info.snapshot;
        claim(
            snapshot.host_name == host_name(kept.host) && snapshot.job == job_name(kept.job),
            &format!("snapshot {short} is of host {}, job {}", snapshot.host_name, snapshot.job),
        )?;
        claim(
            info.position == kept.position && info.received == kept.received,
            &format!(
                "snapshot {short} has place {} and time {} instead of {} and {}",
                info.position, info.received, kept.position, kept.received
            ),
        )?;
    }
    let extra: Vec<String> = seen
        .keys()
        .filter(|hash| model.kept.iter().all(|kept| kept.hash != **hash))
        .map(|hash| hash.short())
        .collect();
    claim(extra.is_empty(), &format!("listed without need: {extra:?}"))?;
    for group in model.groups() {
        let is_of_group = |info: &&SnapshotInfo| group.iter().any(|kept| kept.hash == info.hash);
        let mut by_place: Vec<&SnapshotInfo> = listed.snapshots.iter().filter(is_of_group).collect();
        let as_listed: Vec<_> = by_place.iter().map(|info| info.hash).collect();
        by_place.sort_by_key(|info| info.position);
        let expected: Vec<_> = group.iter().map(|kept| kept.hash).collect();
        let by_place: Vec<_> = by_place.into_iter().map(|info| info.hash).collect();
        claim(
            by_place == expected && as_listed == expected,
            &format!("a job is listed as {as_listed:?}, its places say {by_place:?}, it was {expected:?}"),
        )?;
    }
    Ok(listed.snapshots)
}

/// Does every snapshot hold what the model says, and does a check find nothing?
fn reads_as(repository: &Repository, index: &RwLock<Index>, model: &Model) -> Result<(), String> {
    let found = findings(repository, index).map_err(text)?;
    claim(found.is_empty(), &format!("check finds {found:?}"))?;
    let listed = listed_as(repository, model)?;
    for kept in &model.kept {
        let info = listed.iter().find(|info| info.hash == kept.hash).ok_or("it is not listed")?;
        let (held, expected) = (contents(repository, index, info)?, sources::contents(&kept.entries));
        if held != expected {
            let differ = |path: &&Vec<u8>| held.get(*path) != expected.get(*path);
            let paths: BTreeSet<&Vec<u8>> = held.keys().chain(expected.keys()).collect();
            let told = paths.into_iter().filter(differ).take(5).map(|path| {
                let is = held.get(path).map(|(what, _)| what);
                let should = expected.get(path).map(|(what, _)| what);
                format!("{}: {is:?} instead of {should:?}", String::from_utf8_lossy(path))
            });
            let told: Vec<String> = told.collect();
            return Err(format!("snapshot {} of {}: {told:?}", kept.hash.short(), host_name(kept.host)));
        }
    }
    Ok(())
}
