//! Writing single entries; one that fails is told and the rest goes on.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::Finding;
use super::target::{Attributes, Folder, Owners, Target, TargetError};
use crate::base::bytes;
use crate::base::interrupt::Interrupt;
use crate::base::progress::Progress;
use crate::format::page::{Entry, File, Node};
use crate::repo::RepoError;
use crate::repo::extract::{ExtractError, Stretch, extract};
use crate::repo::reader::BlobReader;
use crate::source::meta::Kind;

/// Findings that are kept; all are counted.
const FINDINGS_MAX: usize = 1_000;

/// What all threads of a restore share.
pub struct Apply<'a> {
    /// Where blobs come from.
    pub reader: &'a BlobReader<'a>,
    /// Where files go.
    pub target: &'a Target,
    /// Who gets them.
    pub owners: &'a Owners,
    /// Where people look.
    pub progress: &'a dyn Progress,
    /// Raised to stop.
    pub interrupt: &'a Interrupt,
    /// The first failures.
    pub findings: Mutex<Vec<Finding>>,
    /// All failures.
    pub problem_count: AtomicU64,
    /// The target is full: going on makes no sense.
    pub full: AtomicBool,
    /// Link groups of which a file was really written: only to such a one another name may be linked.
    pub written_groups: Mutex<HashSet<u64>>,
    /// Restored: files, bytes, messages.
    pub done: [AtomicU64; 3],
}

impl Apply<'_> {
    /// Notes that an entry was not restored.
    pub fn fail(&self, path: &[u8], error: &dyn std::error::Error) {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            let line = error.to_string();
            if !text.ends_with(&line) {
                text = format!("{text}: {line}");
            }
            cause = error.source();
        }
        self.progress.problem(&format!("{}: {text}", bytes::display(path)));
        self.problem_count.fetch_add(1, Ordering::Relaxed);
        let mut findings = self.findings.lock().expect("no holder panics");
        if findings.len() < FINDINGS_MAX {
            findings.push(Finding { path: path.to_vec(), text });
        }
    }

    /// The same for what the target refused. A full one ends the restore, which is then taken up again.
    pub fn refused(&self, path: &[u8], error: &TargetError) {
        if error.is_full() && !self.full.swap(true, Ordering::Relaxed) {
            self.progress.problem("the target is full: make room and run the same command again");
        }
        self.fail(path, error);
    }

    /// Counts an entry as restored.
    pub fn count(&self, entry: &Entry) {
        let totals = entry.totals();
        for (done, count) in self.done.iter().zip([totals.files, totals.bytes, totals.messages]) {
            done.fetch_add(count, Ordering::Relaxed);
        }
        self.progress.counters().add(1, totals.bytes);
    }

    /// What an entry is given besides its content.
    pub fn attributes(&self, entry: &Entry) -> Attributes {
        let known = |name: &[u8]| if name.is_empty() { None } else { Some(name.to_vec()) };
        let owner = &entry.owner;
        Attributes {
            mode: entry.mode.into(),
            uid: self.owners.uid(owner.uid, known(&owner.user).as_deref()),
            gid: self.owners.gid(owner.gid, known(&owner.group).as_deref()),
            mtime_s: entry.mtime_s,
            mtime_ns: entry.mtime_ns,
            xattrs: entry.xattrs.clone(),
        }
    }

    /// Makes a link or a special file.
    pub fn node(&self, folder: &Folder, path: &[u8], entry: &Entry) {
        let kind = match &entry.node {
            Node::Symlink(target) => Kind::Symlink(target.as_slice().into()),
            Node::Fifo => Kind::Fifo,
            Node::Socket => Kind::Socket,
            Node::CharDevice(major, minor) => Kind::CharDevice { major: *major, minor: *minor },
            Node::BlockDevice(major, minor) => Kind::BlockDevice { major: *major, minor: *minor },
            Node::File(_) | Node::Folder(_) => return,
        };
        match self.target.make_node(folder, &entry.name, &kind, &self.attributes(entry)) {
            Ok(_) => self.count(entry),
            Err(error) => self.refused(path, &error),
        }
    }

    /// Writes a file; only an interruption, a damaged index or a full target ends the restore.
    pub fn file(&self, folder: &Folder, path: &[u8], entry: &Entry) -> Result<(), RepoError> {
        self.interrupt.check()?;
        if self.full.load(Ordering::Relaxed) {
            self.problem_count.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        let Node::File(file) = &entry.node else { return Ok(()) };
        match self.write(folder, entry, file) {
            Ok(()) => self.count(entry),
            Err(ExtractError::Repository(error)) if error.ends_the_run() => return Err(error),
            Err(ExtractError::Write(error)) => self.refused(path, &error),
            Err(error) => self.fail(path, &error),
        }
        Ok(())
    }

    fn write(&self, folder: &Folder, entry: &Entry, file: &File) -> Result<(), ExtractError<TargetError>> {
        let attributes = self.attributes(entry);
        let created = self.target.create_file(folder, &entry.name, file.size, &attributes);
        let Some(mut writer) = created.map_err(ExtractError::Write)? else { return Ok(()) };
        extract(self.reader, file, self.interrupt, |stretch| match stretch {
            Stretch::Bytes(bytes) => writer.write(bytes),
            Stretch::Hole(length) => writer.zeros(length),
        })?;
        writer.finish(&attributes).map_err(ExtractError::Write)?;
        if let Some(group) = file.link_group {
            self.written_groups.lock().expect("no holder panics").insert(group);
        }
        Ok(())
    }
}
