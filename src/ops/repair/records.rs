//! Records that cannot be used come back from a mirror, or are taken out of the way.
//!
//! Whoever drops, rewrites or deletes must know every hold, so one file in `records/` that nobody can read stops
//! them all. A file that is what its name promises and yet no record was never one. One that is not may have been.

use crate::base::id::ObjectHash;
use crate::base::limits;
use crate::repo::ledger::Ledger;
use crate::repo::{RepoError, Repository};
use crate::store::{Place, Storage, StoreErrorKind};

/// How to repair.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    /// A mirror that may have what is damaged here.
    pub from: Option<&'a dyn Storage>,
    /// Take also those out of the way that may once have been records.
    pub drop_unreadable: bool,
    /// Look, but change nothing.
    pub dry_run: bool,
}

/// What became of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It came back from the mirror.
    Restored,
    /// It was never a record, and lies there now; empty in a dry run.
    SetAside(String),
    /// It may have been a record, and was told to go; it lies there now.
    Dropped(String),
    /// It may have been a record, and stays.
    Left,
}

/// Each file that could not be used, why, and what became of it.
pub type Report = Vec<(Place, String, Outcome)>;

/// Repairs the records.
pub fn run(repository: &Repository, options: Options<'_>) -> Result<Report, RepoError> {
    repository.need_full("repairing records")?;
    let mut report = Report::new();
    for (place, error) in Ledger::read(repository)?.unusable {
        let outcome = mend(repository, &place, &error, options)?;
        report.push((place, error.to_string(), outcome));
    }
    Ok(report)
}

fn mend(
    repository: &Repository,
    place: &Place,
    error: &RepoError,
    options: Options<'_>,
) -> Result<Outcome, RepoError> {
    let store = repository.store.as_ref();
    if let Some(bytes) = options.from.and_then(|mirror| whole(mirror, place)) {
        if !options.dry_run {
            store.replace(place, &bytes)?;
        }
        return Ok(Outcome::Restored);
    }
    let set_aside = || match options.dry_run {
        true => Ok(String::new()),
        false => store.set_aside(place),
    };
    let is_out_of_reach = matches!(error, RepoError::Store(error) if error.kind != StoreErrorKind::Size);
    match error {
        RepoError::Refused { .. } => Ok(Outcome::SetAside(set_aside()?)),
        // A disk that refuses says nothing about what it holds.
        _ if options.drop_unreadable && !is_out_of_reach => Ok(Outcome::Dropped(set_aside()?)),
        _ => Ok(Outcome::Left),
    }
}

/// The object, if the mirror has it as its name promises.
fn whole(mirror: &dyn Storage, place: &Place) -> Option<Vec<u8>> {
    let bytes = mirror.read(place, limits::OBJECT_BYTES_MAX).ok()?;
    (place.hash() == Some(&ObjectHash(*blake3::hash(&bytes).as_bytes()))).then_some(bytes)
}
