//! Messages that the catalogue found, taken out of snapshots that held them.

use std::collections::HashMap;

use jiff::tz::TimeZone;

use super::commands::Context;
use super::failure::{Failure, Kind};
use super::session::Session;
use crate::base::bytes;
use crate::base::id::{DomainId, HostId, ObjectHash};
use crate::index::catalogue::{Found, Kind as Place, Stay};
use crate::ops::catalogue::{Mark, Marks, mark_of};
use crate::ops::pick::{Picked, Picker};
use crate::repo::reader::BlobReader;
use crate::repo::snapshots::SnapshotInfo;
use crate::repo::view;

/// Readers of several snapshots: those of one host and domain share one.
pub struct Readers<'s> {
    readers: HashMap<(DomainId, HostId), BlobReader<'s>>,
}

impl<'s> Readers<'s> {
    /// Readers for these snapshots.
    pub fn new<'i>(
        session: &'s Session,
        infos: impl Iterator<Item = &'i SnapshotInfo>,
    ) -> Result<Readers<'s>, Failure> {
        let mut readers = HashMap::new();
        for info in infos {
            if let std::collections::hash_map::Entry::Vacant(place) = readers.entry((info.domain, info.host))
            {
                place.insert(session.reader(info)?);
            }
        }
        Ok(Readers { readers })
    }

    /// The reader of a snapshot that this was made for.
    pub fn of(&self, info: &SnapshotInfo) -> &BlobReader<'s> {
        self.readers.get(&(info.domain, info.host)).expect("a reader was made for each")
    }
}

/// A message that is to be had: where it stood, and the snapshot that it is taken from.
#[derive(Clone, Copy)]
pub struct Wanted<'f> {
    /// The message.
    pub message: &'f Found,
    /// Where it stood.
    pub stay: &'f Stay,
    /// One that held it there.
    pub snapshot: ObjectHash,
}

impl<'f> Wanted<'f> {
    /// From where it was seen at last.
    pub fn newest(message: &'f Found) -> Option<Wanted<'f>> {
        let stay = message.newest()?;
        Some(Wanted { message, stay, snapshot: stay.last.hash })
    }

    /// What comes together is had together.
    fn order(&self) -> impl Ord + use<'f> {
        let (message, stay) = (self.message, self.stay);
        (&message.user, &stay.folder, self.snapshot, &stay.path, &stay.name)
    }

    fn is_of_file(&self, other: &Wanted<'_>) -> bool {
        self.stay.kind == Place::File
            && (self.snapshot, &self.stay.path) == (other.snapshot, &other.stay.path)
    }

    fn lost(&self) -> Failure {
        let (path, snapshot) = (bytes::display(&self.stay.path), self.snapshot.short());
        Failure::new(Kind::Damaged, format!("{path}: snapshot {snapshot} does not hold the message"))
    }
}

/// Takes a message, or why it cannot be had.
pub type Tell<'t> = dyn FnMut(&Wanted<'_>, Result<Picked<'_>, Failure>) -> Result<(), Failure> + 't;

/// Gives each message, or why it cannot be had: user by user, folder by folder.
///
/// # Errors
/// Those of `tell`, and what ends any run.
pub fn each(
    session: &Session,
    listed: &[SnapshotInfo],
    mut wanted: Vec<Wanted<'_>>,
    context: &Context<'_>,
    tell: &mut Tell<'_>,
) -> Result<(), Failure> {
    wanted.sort_by_cached_key(Wanted::order);
    let infos: HashMap<ObjectHash, &SnapshotInfo> = listed.iter().map(|info| (info.hash, info)).collect();
    let mut needed: Vec<&SnapshotInfo> =
        wanted.iter().filter_map(|one| infos.get(&one.snapshot).copied()).collect();
    needed.sort_by_key(|info| info.hash);
    needed.dedup_by_key(|info| info.hash);
    let readers = Readers::new(session, needed.into_iter())?;
    let zone = TimeZone::system();
    for of_user in wanted.chunk_by(|a, b| a.message.user == b.message.user) {
        // What a picker knows of a user's folders serves all of them.
        let mut pickers: HashMap<ObjectHash, Picker<'_>> = HashMap::new();
        for together in of_user.chunk_by(Wanted::is_of_file) {
            context.interrupt.check().map_err(crate::repo::RepoError::from)?;
            let Some(info) = together.first().and_then(|one| infos.get(&one.snapshot)) else {
                together.iter().try_for_each(|one| tell(one, Err(one.lost())))?;
                continue;
            };
            let picker = pickers.entry(info.hash).or_insert_with(|| {
                let source = (readers.of(info), context.interrupt, &zone);
                Picker::new(source, &info.snapshot, &context.settings.users)
            });
            match together {
                [one] if one.stay.kind == Place::Maildir => {
                    let path = view::join(&one.stay.path, &one.stay.name);
                    let picked = picker.message(&path, 0).map_err(Failure::from);
                    tell(one, picked.and_then(|picked| picked.ok_or_else(|| one.lost())))?;
                }
                of_file => each_of_file(picker, info, of_file, tell)?,
            }
        }
    }
    Ok(())
}

/// Gives messages that lie in one file.
fn each_of_file(
    picker: &mut Picker<'_>,
    info: &SnapshotInfo,
    wanted: &[Wanted<'_>],
    tell: &mut Tell<'_>,
) -> Result<(), Failure> {
    let Some(first) = wanted.first() else { return Ok(()) };
    let mut left: HashMap<Mark, &Wanted<'_>> =
        wanted.iter().filter_map(|one| Some((mark_of(&one.stay.name)?, one))).collect();
    let (mut marks, mut found) = (Marks::new(info.domain), Vec::new());
    let picked = picker.select(&first.stay.path, &mut |_, content| {
        let one = left.remove(&marks.next(content));
        found.extend(one);
        one.is_some()
    });
    match picked.map_err(Failure::from) {
        Ok(picked) => {
            for (one, picked) in found.into_iter().zip(picked) {
                tell(one, Ok(picked))?;
            }
            left.into_values().try_for_each(|one| tell(one, Err(one.lost())))
        }
        Err(failure) => wanted.iter().try_for_each(|one| tell(one, Err(failure.clone()))),
    }
}
