//! One restore from beginning to end.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::apply::Apply;
use super::marker::{Begun, Marker};
use super::target::{self, Folder, Overwrite, Owners, Target, TargetState, inspect};
use super::window::Window;
use super::{Finding, Options, Report, RestoreError};
use crate::base::interrupt::Interrupt;
use crate::base::progress::Progress;
use crate::base::{bytes, clock};
use crate::format::page::{Entry, Node};
use crate::repo::RepoError;
use crate::repo::reader::BlobReader;
use crate::repo::view::{Step, View, part_folder};
use crate::source::names::Accounts;
use crate::source::shape::UID_LIST;

/// Restores as `options` say.
///
/// Lists of UIDs that go where something lies are counted: a mail server that goes on from such a list gives UIDs away
/// again that clients have seen since the snapshot.
pub fn run(
    reader: &BlobReader<'_>,
    options: &Options,
    progress: &dyn Progress,
    interrupt: &Interrupt,
) -> Result<Report, RestoreError> {
    let stopwatch = clock::stopwatch();
    let snapshot = &options.snapshot.snapshot;
    if options.delete && !options.force && (snapshot.problem_count > 0 || snapshot.suspect.is_some()) {
        return Err(RestoreError::NotWhole { snapshot: options.snapshot.hash.short() });
    }
    let marker = Marker::new(&options.target, &options.snapshot.hash, &options.path);
    let inspected = |error| RestoreError::Inspect { path: options.target.display().to_string(), error };
    if !options.dry_run {
        marker.remove_torn().map_err(inspected)?;
    }
    let begun = marker.begun();
    let (overwrite, is_scratch) = check_target(options, begun)?;
    let mut report = plan(reader, options, progress, interrupt)?;
    report.resumed = begun.is_some();
    if is_scratch {
        report.uid_lists = 0;
    }
    if report.files + report.folders == 0 && report.problem_count == 0 {
        return Err(RestoreError::NoSuchPath { path: bytes::display(&options.path) });
    }
    if options.dry_run {
        report.duration = stopwatch.elapsed();
        return Ok(report);
    }
    let settings = target::Options { overwrite, system: options.system, sparse: false };
    let target = Target::open(&options.target, settings)?;
    marker.leave().map_err(inspected)?;
    let owners = Owners::new(Accounts::of_this_host(), options.numeric_ids);
    let apply = Apply {
        reader,
        target: &target,
        owners: &owners,
        progress,
        interrupt,
        findings: Mutex::default(),
        problem_count: AtomicU64::new(0),
        full: AtomicBool::new(false),
        written_groups: Mutex::default(),
        done: Default::default(),
    };
    let walked = Restore { apply: &apply, options, folders: 0, removed: 0 }.walk();
    let (summary, errors) = target.finish();
    errors.iter().for_each(|error| apply.refused(b"", error));
    let (folders, removed) = walked?;
    target.sync()?;
    report.problem_count = apply.problem_count.load(Ordering::Relaxed);
    // Only a restore that was cut short is taken up again without being asked how.
    if !apply.full.load(Ordering::Relaxed) {
        marker.remove().map_err(inspected)?;
    }
    let [files, restored_bytes, messages] = apply.done.each_ref().map(|count| count.load(Ordering::Relaxed));
    Ok(Report {
        files,
        folders,
        bytes: restored_bytes,
        messages,
        removed,
        summary,
        findings: apply.findings.into_inner().expect("no holder panics"),
        duration: stopwatch.elapsed(),
        ..report
    })
}

/// Refuses a target in which a restore could do harm; gives the rule for files that are there, and whether none is.
fn check_target(options: &Options, begun: Option<Begun>) -> Result<(Overwrite, bool), RestoreError> {
    let shown = options.target.display().to_string();
    let state =
        inspect(&options.target).map_err(|error| RestoreError::Inspect { path: shown.clone(), error })?;
    let resumed = begun.map(|begun| match begun {
        Begun::Since => Overwrite::IfChanged,
        Begun::Before => Overwrite::Always,
    });
    match (state, options.overwrite.or(resumed)) {
        (TargetState::Absent | TargetState::Empty, rule) => Ok((rule.unwrap_or_default(), true)),
        // What an interrupted restore left looks like live mail, but is its own.
        (_, Some(rule)) if resumed.is_some() && options.overwrite.is_none() => Ok((rule, true)),
        (TargetState::LiveMaildir(_), Some(rule)) if options.force => Ok((rule, false)),
        (TargetState::LiveMaildir(below), _) => {
            Err(RestoreError::LiveMaildir { path: format!("{shown}/{}", bytes::display(&below)) })
        }
        (TargetState::NotEmpty, Some(rule)) => Ok((rule, false)),
        (TargetState::NotEmpty, None) => Err(RestoreError::NotEmpty { path: shown }),
    }
}

impl Options {
    /// Is this entry wanted? `None` when something below it may be.
    fn wants(&self, folder: &[u8], entry: &Entry, inside: bool) -> Option<bool> {
        let is_folder = matches!(entry.node, Node::Folder(_));
        if self.excludes.leave_out(folder, &entry.name, is_folder) {
            return Some(false);
        }
        match &self.includes {
            None => Some(true),
            Some(_) if inside => Some(true),
            Some(includes) if includes.leave_out(folder, &entry.name, is_folder) => Some(true),
            Some(_) if is_folder => None,
            Some(_) => Some(false),
        }
    }
}

/// Adds up what the restore will bring.
fn plan(
    reader: &BlobReader<'_>,
    options: &Options,
    progress: &dyn Progress,
    interrupt: &Interrupt,
) -> Result<Report, RestoreError> {
    let mut report = Report::default();
    let above = options.target.ancestors().find(|path| path.exists());
    let found = above.and_then(|path| rustix::fs::statvfs(path).ok());
    report.available_bytes = found.map(|found| found.f_bavail.saturating_mul(found.f_frsize));
    let mut selection = Selection::default();
    let mut view = View::new(reader, &options.snapshot.snapshot, &options.path);
    while let Some(step) = view.next() {
        interrupt.check().map_err(RepoError::from)?;
        match step {
            Step::Leave => selection.leave(),
            Step::Broken(_, error) if error.ends_the_run() => return Err(error.into()),
            Step::Broken(path, error) => {
                report.problem_count += 1;
                if options.dry_run {
                    let text = error.to_string();
                    progress.problem(&format!("{}: {text}", bytes::display(&path)));
                    report.findings.push(Finding { path, text });
                }
            }
            Step::Entry(path, entry) => match (selection.judge(options, &path, &entry), &entry.node) {
                (Some(false), _) => view.pass_over(),
                (None, _) => {}
                (Some(true), Node::Folder(_)) => report.folders += 1,
                (Some(true), _) => {
                    let totals = entry.totals();
                    report.files += 1;
                    report.uid_lists += u64::from(entry.name == UID_LIST);
                    report.bytes = report.bytes.saturating_add(totals.bytes);
                    report.messages += totals.messages;
                }
            },
        }
    }
    progress.counters().expect(report.files, report.bytes);
    Ok(report)
}

/// Remembers for each open folder whether an include pattern took it whole.
#[derive(Default)]
struct Selection {
    inside: Vec<bool>,
}

impl Selection {
    fn judge(&mut self, options: &Options, path: &[u8], entry: &Entry) -> Option<bool> {
        let inside = self.inside.last().copied().unwrap_or(false);
        let wanted = options.wants(part_folder(path), entry, inside);
        if matches!(entry.node, Node::Folder(_)) && wanted != Some(false) {
            self.inside.push(wanted == Some(true));
        }
        wanted
    }

    fn leave(&mut self) {
        self.inside.pop();
    }
}

/// A folder on the way down.
struct Open {
    /// Made as soon as something is restored into it.
    folder: Option<Folder>,
    entry: Entry,
    wanted: bool,
    /// Its logical path.
    path: Vec<u8>,
    /// Names it holds, when others are to be removed.
    names: Vec<Vec<u8>>,
    /// Part of its listing could not be read: what it holds is not known.
    torn: bool,
}

struct Restore<'a> {
    apply: &'a Apply<'a>,
    options: &'a Options,
    folders: u64,
    removed: u64,
}

fn names_of(path: &[u8]) -> Vec<&[u8]> {
    path.split(|&byte| byte == b'/').filter(|name| !name.is_empty()).collect()
}

impl Restore<'_> {
    fn walk(mut self) -> Result<(u64, u64), RestoreError> {
        let mut window = Window::new(self.apply, self.options.workers);
        let mut selection = Selection::default();
        let mut open: Vec<Open> = Vec::new();
        let mut view = View::new(self.apply.reader, &self.options.snapshot.snapshot, &self.options.path);
        while let Some(step) = view.next() {
            self.apply.interrupt.check().map_err(RepoError::from)?;
            match step {
                Step::Broken(_, error) if error.ends_the_run() => return Err(error.into()),
                Step::Broken(path, error) => {
                    self.apply.fail(&path, &error);
                    open.iter_mut().for_each(|folder| folder.torn = true);
                }
                Step::Leave => {
                    selection.leave();
                    let folder = open.pop().expect("a folder is left after it was entered");
                    self.remove_extras(&folder);
                }
                Step::Entry(path, entry) => {
                    if let Some(above) = open.last_mut().filter(|_| self.options.delete) {
                        above.names.push(entry.name.clone());
                    }
                    let wanted = selection.judge(self.options, &path, &entry);
                    if wanted == Some(false) {
                        view.pass_over();
                    } else if let Node::Folder(_) = entry.node {
                        let wanted = wanted == Some(true);
                        let (folder, names, torn) = (None, Vec::new(), false);
                        open.push(Open { folder, entry, wanted, path: path.clone(), names, torn });
                        if wanted && self.folder(&path, &mut open).is_none() {
                            open.pop();
                            selection.leave();
                            view.pass_over();
                        }
                    } else if wanted == Some(true) {
                        let Some(folder) = self.folder(part_folder(&path), &mut open) else { continue };
                        match entry.node {
                            Node::File(_) => window.add(&folder, path, entry)?,
                            _ => self.apply.node(&folder, &path, &entry),
                        }
                    }
                }
            }
        }
        window.flush()?;
        Ok((self.folders, self.removed))
    }

    /// The target's folder for the logical path `path`, whose last names are those of the open folders.
    fn folder(&mut self, path: &[u8], open: &mut [Open]) -> Option<Folder> {
        let mut names = names_of(path);
        // Everything that is restored lies at or below the path, or on the way to it.
        for (name, other) in
            names.iter_mut().zip(self.options.place.as_deref().map(names_of).unwrap_or_default())
        {
            *name = other;
        }
        if let Some(folder) = open.last().and_then(|last| last.folder.clone()) {
            return Some(folder);
        }
        let (above, inner) = names.split_at(names.len().saturating_sub(open.len()));
        let mut folder = self.apply.target.root().clone();
        for name in above {
            folder = self.make(&folder, name, None, path)?;
        }
        for (name, level) in inner.iter().zip(open) {
            if let Some(made) = &level.folder {
                folder = made.clone();
                continue;
            }
            let attributes = self.apply.attributes(&level.entry);
            folder = self.make(&folder, name, Some(&attributes), path)?;
            level.folder = Some(folder.clone());
            self.folders += u64::from(level.wanted);
        }
        Some(folder)
    }

    fn make(
        &self,
        parent: &Folder,
        name: &[u8],
        attributes: Option<&target::Attributes>,
        path: &[u8],
    ) -> Option<Folder> {
        match self.apply.target.make_folder(parent, name, attributes) {
            Ok(folder) => Some(folder),
            Err(error) => {
                self.apply.refused(path, &error);
                None
            }
        }
    }

    fn remove_extras(&mut self, open: &Open) {
        // A folder that was only passed on the way to something below it keeps what it has.
        let Some(folder) = open.folder.as_ref().filter(|_| self.options.delete && open.wanted) else {
            return;
        };
        // What is not known to be gone stays, and so does what is mounted there.
        if open.torn || folder.key().0 != self.apply.target.key().0 {
            return;
        }
        let excluded = |name: &[u8]| {
            let excludes = &self.options.excludes;
            excludes.leave_out(&open.path, name, true) || excludes.leave_out(&open.path, name, false)
        };
        let names: HashSet<&[u8]> = open.names.iter().map(Vec::as_slice).collect();
        let keep = |name: &[u8]| names.contains(name) || name == Marker::name() || excluded(name);
        match self.apply.target.remove_extras(folder, keep) {
            Ok(removed) => self.removed += removed,
            Err(error) => self.apply.fail(&folder.path(), &error),
        }
    }
}
