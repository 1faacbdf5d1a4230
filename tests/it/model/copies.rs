//! The mirror, runs of it that break off, and the repository that comes back from it.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use mailark::base::clock::UnixNanos;
use mailark::base::id::ObjectHash;
use mailark::base::interrupt::Interrupt;
use mailark::base::progress::Quiet;
use mailark::ops::mirror::{self, MirrorError, Source};
use mailark::repo::snapshots;
use mailark::store::fault::{FaultSwitch, FaultyStore};
use mailark::store::{LocalStore, Storage};

use super::world::{ADMIN, World, breaking};
use crate::lab::{claim, local, open_with, text};

/// Time for which a mirror keeps what is gone, when it does.
const MIRROR_KEEPS_S: i64 = 10 * 86_400;

impl World {
    /// Where the mirror lies.
    pub fn mirror_root(&self) -> PathBuf {
        self.env.path("mirror")
    }

    /// Mirrors; `switch` makes the mirror's store fail.
    fn run_mirror(
        &self,
        (delete_at_once, reread): (bool, bool),
        switch: &Arc<FaultSwitch>,
    ) -> Result<mirror::Report, String> {
        let repository = self.open(ADMIN)?;
        let source = Source::with_key(&repository);
        let (own, root) = (LocalStore::new(&self.env.repository), self.mirror_root());
        let open = |new| mirror::open(&source, &self.env.repository, &root, new);
        let target = match open(self.mirrored.is_none()) {
            // A first run may have got far enough.
            Err(MirrorError::Already { .. }) if self.torn => open(false),
            opened => opened,
        };
        let target = target.map_err(text)?;
        mirror::prepare(&source, &own, &target).map_err(text)?;
        let delete_after_s = if delete_at_once { 0 } else { MIRROR_KEEPS_S };
        let options = mirror::Options { delete_after_s, reread, dry_run: false, workers: 1 };
        let target: Arc<dyn Storage> = Arc::new(FaultyStore::new(Arc::new(target), Arc::clone(switch)));
        mirror::run(&source, &target, &options, &Quiet::default(), &Interrupt::default()).map_err(text)
    }

    pub(super) fn break_off_mirror(&mut self, delete_at_once: bool, spared: u64) -> Result<(), String> {
        self.count("broken mirror runs");
        let switch = Arc::new(FaultSwitch::default());
        switch.arm(breaking(spared));
        let report = self.run_mirror((delete_at_once, false), &switch);
        match switch.disarm() {
            Some(_) => self.torn = true,
            None => self.note_mirror(&report?)?,
        }
        Ok(())
    }

    pub(super) fn mirror(&mut self, delete_at_once: bool, reread: bool) -> Result<(), String> {
        self.count("mirror runs");
        let report = self.run_mirror((delete_at_once, reread), &Arc::default())?;
        self.note_mirror(&report)
    }

    /// The mirror has all that the repository has.
    fn note_mirror(&mut self, report: &mirror::Report) -> Result<(), String> {
        claim(report.is_whole() && report.only_here.is_empty(), &format!("{report:?}"))?;
        claim(report.unexplained == 0 && report.replaced == 0, &format!("{report:?}"))?;
        let mut now = self.model.clone();
        // The store's time is copied once, with the object.
        let copy = open_with(&local(&self.mirror_root()), &[self.full_key()]);
        let listed = snapshots::list(&copy.map_err(text)?).map_err(text)?.snapshots;
        let known = self.mirrored.iter().flat_map(|model| &model.kept);
        let known: HashMap<ObjectHash, UnixNanos> = match self.torn {
            // Which run copied it is not known.
            true => listed.iter().map(|info| (info.hash, info.received)).collect(),
            false => known.map(|kept| (kept.hash, kept.received)).collect(),
        };
        for kept in &mut now.kept {
            kept.received = known.get(&kept.hash).copied().unwrap_or(kept.received);
        }
        (self.mirrored, self.torn) = (Some(now), false);
        Ok(())
    }

    pub(super) fn fall_back_on_the_mirror(&mut self) -> Result<(), String> {
        if self.torn {
            return Ok(());
        }
        let Some(model) = self.mirrored.take() else { return Ok(()) };
        self.count("disasters");
        self.model = model;
        fs::remove_dir_all(&self.env.repository).unwrap();
        fs::rename(self.mirror_root(), &self.env.repository).unwrap();
        Ok(())
    }
}
