//! The folders below the start paths, watched as far as that goes: as whole file systems, or one by one.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::each_folder::{EachFolder, Wanted};
use super::file_systems::FileSystems;
use super::mounts::Mounts;
use super::scope::{Scope, What};
use crate::source::meta::FileKey;
use crate::source::start::{self, Start, below};

/// How much is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watched {
    /// File systems that are watched as a whole.
    pub file_systems: usize,
    /// Folders that are watched one by one.
    pub folders: usize,
    /// Folders that nobody tells of, or not all.
    pub blind: u64,
}

/// Watched folders.
#[derive(Debug)]
pub(super) struct Folders<'a> {
    scope: Scope<'a>,
    mounts: Mounts,
    /// `None` where no file system may be watched.
    whole: Option<FileSystems>,
    each: EachFolder,
    is_out_of_date: bool,
    /// What stood at the start paths: after a mount it is another folder, and nobody tells.
    starts: Vec<Option<FileKey>>,
}

fn keys_of(starts: &[Start]) -> Vec<Option<FileKey>> {
    starts.iter().map(|start| start::key_of(Path::new(OsStr::from_bytes(&start.path)))).collect()
}

/// What is left for watching one by one.
#[derive(Default)]
struct Left<'a> {
    starts: Vec<&'a Start>,
    /// Other file systems below those that are watched.
    parts: Vec<Wanted>,
}

impl<'a> Folders<'a> {
    /// Watches what is there now. Every change after the return is told, as far as [`Folders::sees_all`].
    pub(super) fn survey(what: &'a What<'a>) -> Folders<'a> {
        let starts = keys_of(what.starts);
        let scope = Scope::new(what);
        let mounts = Mounts::around(&scope.places(), what.one_file_system);
        let mut whole = if what.each { None } else { FileSystems::new() };
        let left = watch_whole(&scope, &mounts, &mut whole);
        let told = whole.as_ref().map(|whole| whole.devices().clone()).unwrap_or_default();
        let mut each = EachFolder::new(what.limit, told);
        for start in left.starts {
            each.begin(&scope, start);
        }
        for wanted in left.parts {
            each.add(&scope, wanted);
        }
        Folders { scope, mounts, whole, each, is_out_of_date: false, starts }
    }

    /// Is every folder watched, and told of by whoever changes it?
    pub(super) fn sees_all(&self) -> bool {
        self.watched().blind == 0
    }

    /// How much is watched.
    pub(super) fn watched(&self) -> Watched {
        let (folders, blind) = self.each.counts();
        Watched { file_systems: self.whole.as_ref().map_or(0, FileSystems::count), folders, blind }
    }

    /// Does it not know any more what it watches? Then a new survey is due before the next run.
    pub(super) fn is_out_of_date(&self) -> bool {
        self.is_out_of_date || self.each.is_out_of_date() || self.starts != keys_of(self.scope.what.starts)
    }

    /// Did anything change since the last call? Watches folders that are new.
    pub(super) fn have_changed(&mut self) -> bool {
        let mut changed = self.mounts_have_changed();
        if let Some(whole) = &mut self.whole {
            changed |= whole.have_changed(&self.scope);
            self.is_out_of_date |= whole.is_lost();
        }
        changed |= self.each.have_changed(&self.scope);
        changed
    }

    fn mounts_have_changed(&mut self) -> bool {
        if !self.mounts.may_have_changed() {
            return false;
        }
        let now = Mounts::around(&self.scope.places(), self.scope.what.one_file_system);
        let differ =
            now.differ_from(&self.mounts) || self.whole.as_ref().is_some_and(|whole| !whole.watch_again());
        self.mounts = now;
        self.is_out_of_date |= differ;
        differ
    }
}

/// Watches as whole file systems what can be watched so; gives the rest.
fn watch_whole<'a>(scope: &Scope<'a>, mounts: &Mounts, whole: &mut Option<FileSystems>) -> Left<'a> {
    let mut left = Left::default();
    let Some(whole) = whole else {
        left.starts.extend(scope.what.starts);
        return left;
    };
    for (start, ground) in scope.what.starts.iter().zip(&scope.grounds) {
        let is_whole = ground.root().is_some_and(|root| whole.watch(root));
        if !is_whole {
            left.starts.push(start);
        }
        let Some((folder, device)) = &ground.folder else { continue };
        let mut roots = vec![(folder.clone(), is_whole)];
        for point in mounts.below(folder) {
            let Some(path) = scope.path_within(start, ground, &point) else { continue };
            let is_whole = whole.watch(&point);
            // A walk goes on into what is mounted, but for what is watched as a whole.
            let holder = roots.iter().rev().find(|(root, _)| below(&point, root).is_some());
            if !is_whole && holder.is_some_and(|(_, is_whole)| *is_whole) {
                left.parts.push(Wanted { path, device: Some(*device), of_messages: false });
            }
            roots.push((point, is_whole));
        }
    }
    left
}

#[cfg(test)]
mod tests;
