//! Parity that packs should have: made where it is missing, made anew where it is damaged.

use super::reading;
use crate::base::id::ObjectHash;
use crate::base::interrupt::Interrupt;
use crate::base::progress::Progress;
use crate::repo::{RepoError, Repository, parity};
use crate::store::{Place, Storage};

/// How parity is looked after.
pub(super) struct Upkeep<'a> {
    pub(super) repository: &'a Repository,
    /// Look only for what is missing.
    pub(super) quick: bool,
    /// Write nothing.
    pub(super) dry_run: bool,
}

impl Upkeep<'_> {
    /// Looks after the parity of whole packs; gives how many had none, and how many had damaged one.
    pub(super) fn keep(
        &self,
        packs: impl Iterator<Item = ObjectHash>,
        progress: &dyn Progress,
        interrupt: &Interrupt,
    ) -> Result<(u64, u64), RepoError> {
        let percent = self.repository.config.parity_percent;
        if percent == 0 {
            return Ok((0, 0));
        }
        let store = self.repository.store.as_ref();
        let known = parity::list(store)?;
        let (mut made, mut mended) = (0, 0);
        for pack in packs {
            interrupt.check()?;
            let places = known.get(&pack).map_or(&[][..], Vec::as_slice);
            let damaged = if self.quick { Vec::new() } else { damaged_ones(store, places)? };
            if !places.is_empty() && damaged.is_empty() {
                continue;
            }
            let outcome = if self.dry_run { Ok(()) } else { parity::renew(store, pack, percent, &damaged) };
            match outcome {
                Ok(()) if places.is_empty() => made += 1,
                Ok(()) => mended += 1,
                Err(error @ RepoError::Damaged { .. }) => progress.problem(&error.to_string()),
                // A prune removed it meanwhile.
                Err(RepoError::Store(error)) if error.is_missing() => {}
                Err(error) => return Err(error),
            }
        }
        Ok((made, mended))
    }
}

/// The parity objects among these that are damaged.
fn damaged_ones(store: &dyn Storage, places: &[Place]) -> Result<Vec<Place>, RepoError> {
    let mut damaged = Vec::new();
    for place in places {
        match parity::verify(store, place) {
            Ok(()) => {}
            Err(RepoError::Damaged { .. }) => damaged.push(*place),
            Err(RepoError::Store(error)) if error.is_missing() => {}
            Err(RepoError::Store(error)) if reading::is_damage(&error) => damaged.push(*place),
            Err(error) => return Err(error),
        }
    }
    Ok(damaged)
}
