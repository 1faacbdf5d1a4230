//! Holds: what may not be dropped or rewritten while they stand.

use std::collections::HashSet;

use crate::base::id::ObjectHash;
use crate::format::record::{Record, SnapshotName};
use crate::repo::ledger::Ledger;
use crate::repo::{RepoError, Repository, records};

/// Longest name of a user, and longest reason, bytes.
pub const TEXT_BYTES_MAX: usize = 1_024;

/// A hold was not made or not removed.
#[derive(Debug, thiserror::Error)]
pub enum HoldError {
    /// The repository cannot be read or written.
    #[error(transparent)]
    Repository(#[from] RepoError),
    /// It would hold nothing.
    #[error("a hold needs a snapshot or a user")]
    Empty,
    /// A text that cannot be a user's name or a reason.
    #[error("{what} is empty, too long, or has characters that do not belong there")]
    Text {
        /// Which.
        what: &'static str,
    },
    /// No such hold stands.
    #[error("no hold {number}")]
    NoSuchHold {
        /// The number.
        number: u64,
    },
    /// Another run was faster.
    #[error("hold {number} stands, but snapshot {} was forgotten meanwhile", .snapshot.short())]
    Forgotten {
        /// Number of the hold.
        number: u64,
        /// The snapshot.
        snapshot: ObjectHash,
    },
}

/// Puts a hold on snapshots and users; gives its number.
pub fn add(
    repository: &Repository,
    snapshots: Vec<SnapshotName>,
    users: Vec<String>,
    reason: String,
) -> Result<u64, HoldError> {
    repository.need_full("holding")?;
    if snapshots.is_empty() && users.is_empty() {
        return Err(HoldError::Empty);
    }
    let fits = |text: &String| !text.trim().is_empty() && text.len() <= TEXT_BYTES_MAX;
    if !users.iter().all(|user| fits(user) && !user.contains(['/', '\0'])) {
        return Err(HoldError::Text { what: "the name of a user" });
    }
    if !fits(&reason) {
        return Err(HoldError::Text { what: "the reason" });
    }
    let ledger = Ledger::read(repository)?;
    let number = ledger.last_hold.saturating_add(1);
    let record = Record::Hold { hold: number, snapshots: snapshots.clone(), users, reason, released: false };
    records::write_after(repository, &record, ledger.last_record())?;
    // A forget that ran beside this may have written its record without having seen the hold.
    let ledger = Ledger::read(repository)?;
    match snapshots.iter().find(|name| ledger.forgotten.contains_key(&name.hash)) {
        Some(name) => Err(HoldError::Forgotten { number, snapshot: name.hash }),
        None => Ok(number),
    }
}

/// Ends a hold.
pub fn remove(repository: &Repository, number: u64) -> Result<(), HoldError> {
    repository.need_full("ending a hold")?;
    let ledger = Ledger::read(repository)?;
    if !ledger.holds.iter().any(|hold| hold.hold == number) {
        // A record that cannot be read just now may be the one.
        ledger.need_known()?;
        return Err(HoldError::NoSuchHold { number });
    }
    let (snapshots, users, reason) = (Vec::new(), Vec::new(), String::new());
    let release = Record::Hold { hold: number, snapshots, users, reason, released: true };
    // Behind the hold: of two with one number, chance decides which comes first.
    records::write_after(repository, &release, ledger.last_record())?;
    Ok(())
}

/// Drops what is there twice, keeping the order.
pub fn distinct<T: Clone + Eq + std::hash::Hash>(values: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut seen = HashSet::new();
    values.into_iter().filter(|value| seen.insert(value.clone())).collect()
}
