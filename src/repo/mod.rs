//! Layer 3: a repository: its keys, packs, trees, snapshots, and the order in which they are written.

pub mod blob_writer;
pub mod content;
pub mod deltas;
pub mod edit;
mod error;
pub mod extract;
pub mod holds;
pub mod ledger;
pub mod lockstep;
pub mod objects;
pub mod packer;
pub mod packs;
pub mod parity;
pub mod presence;
pub mod reach;
pub mod reader;
pub mod records;
pub mod recovery_note;
pub mod repository;
pub mod rewrite;
pub mod seek;
pub mod segment;
pub mod snapshots;
pub mod tombstones;
pub mod tree;
pub mod txn;
pub mod view;

pub use error::RepoError;
pub use repository::Repository;

use crate::base::limits;
use crate::store::{Folder, Place};

/// The highest number among names that prove themselves: anyone who can add a file can add one with any number.
///
/// In all but odd cases one object is read.
fn highest(numbered: impl Iterator<Item = (u64, Place)>, proves: impl Fn(&Place) -> bool) -> u64 {
    let mut all: Vec<(u64, Place)> = numbered.collect();
    all.sort_unstable();
    all.into_iter().rev().find(|(_, place)| proves(place)).map_or(0, |(number, _)| number)
}

/// The number after `last` in a folder; names above the limit are refused by every reader, so none is written.
fn following(last: u64, folder: Folder) -> Result<u64, RepoError> {
    if last < limits::SEQUENCE_MAX {
        return Ok(last + 1);
    }
    let detail = format!("an object numbered {last} leaves no number for new ones: move it away");
    Err(RepoError::Damaged { object: folder.name().to_owned(), detail })
}
