//! Reads ahead from message to message: who reads a folder in order finds the next files in the kernel already.
//!
//! A message is small, and asking for each costs more than reading it. So when files of a folder are read one after the
//! other, a thread of its own gives the kernel the rest of their leaf. It is none of those that answer: the kernel lets
//! it wait for a page that somebody else asks for at that moment, and then somebody must be left to answer.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use fuser::{INodeNo, Notifier};

use super::folder::{Kept, Leaf};
use super::inode::{Number, Target};
use super::mounted::Mounted;
use crate::base::id::BlobId;
use crate::base::recent::Recent;
use crate::format::page::Node;
use crate::repo::seek;

/// Files above this are left to the kernel, which reads ahead within them.
const FILE_BYTES_MAX: u64 = 64 << 10;
/// Who goes on by no more files than this reads in order.
const NEAR: usize = 4;
/// Leaves that wait to be read ahead; more readers than that do without.
const WAITING_MAX: usize = 64;
/// Folders whose readers are watched.
const WATCHED_MAX: usize = 1 << 10;

/// How far somebody has read in a leaf of a folder.
struct Pace {
    page: BlobId,
    at: AtomicUsize,
    asked: AtomicBool,
}

struct Job {
    leaf: Arc<Leaf>,
    pace: Arc<Pace>,
}

/// Watches what is read, and asks for what comes next.
pub struct Ahead {
    jobs: Sender<Job>,
    paces: Mutex<Recent<u64, Arc<Pace>>>,
}

impl Ahead {
    /// Begins, with the way to the kernel.
    pub fn start(mounted: Weak<Mounted>, notifier: Notifier) -> io::Result<Ahead> {
        let (jobs, waiting) = bounded(WAITING_MAX);
        let thread = std::thread::Builder::new().name("ahead".to_owned());
        thread.spawn(move || work(&waiting, &mounted, &notifier))?;
        Ok(Ahead { jobs, paces: Mutex::new(Recent::new(WATCHED_MAX)) })
    }

    /// File number `at` of a leaf is being read from its beginning.
    pub fn note(&self, leaf: &Arc<Leaf>, at: u16) {
        let at = usize::from(at);
        let mut paces = self.paces.lock().expect("no holder panics");
        let known = paces.get(&leaf.folder.ino);
        let (pace, in_order) = match known {
            Some(pace) if pace.page == leaf.page => {
                let before = pace.at.swap(at, Ordering::Relaxed);
                (pace, (1..=NEAR).contains(&at.wrapping_sub(before)))
            }
            known => {
                let (at, asked) = (AtomicUsize::new(at), AtomicBool::new(false));
                let begins = known.is_some() && at.load(Ordering::Relaxed) < NEAR;
                let pace = Arc::new(Pace { page: leaf.page, at, asked });
                paces.insert(leaf.folder.ino, Arc::clone(&pace), 1);
                (pace, begins)
            }
        };
        drop(paces);
        if in_order && !pace.asked.swap(true, Ordering::Relaxed) {
            match self.jobs.try_send(Job { leaf: Arc::clone(leaf), pace }) {
                Ok(()) | Err(TrySendError::Disconnected(_)) => {}
                Err(TrySendError::Full(job)) => job.pace.asked.store(false, Ordering::Relaxed),
            }
        }
    }
}

fn work(waiting: &Receiver<Job>, mounted: &Weak<Mounted>, notifier: &Notifier) {
    while let (Ok(job), Some(mounted)) = (waiting.recv(), mounted.upgrade()) {
        // What cannot be read is told to whoever asks for it.
        let _ = read_ahead(&job, &mounted, notifier);
    }
}

/// Gives the kernel the files behind those that are being read; `None` when something cannot be read.
fn read_ahead(job: &Job, mounted: &Mounted, notifier: &Notifier) -> Option<()> {
    let (folder, vault) = (&job.leaf.folder, &mounted.vault);
    let shown = &folder.shown;
    let page = vault.page(shown, &job.leaf.page, 0).ok()?;
    let reader = vault.reader(shown);
    let (mut next, mut content) = (0, Vec::new());
    loop {
        // Never behind the one that is read now.
        next = (job.pace.at.load(Ordering::Relaxed) + 1).max(next);
        let kept = Kept::new(&page, next)?;
        next += 1;
        let entry = kept.entry();
        let Node::File(file) = &entry.node else { continue };
        let number = Number::of(folder.ino, &entry.name, b"");
        if file.size == 0 || file.size > FILE_BYTES_MAX || !is_it(mounted, number.ino, &job.leaf, next - 1) {
            continue;
        }
        content.clear();
        let pages = &mut |awaited: &_| vault.content_page(shown, awaited);
        seek::read_range(&reader, file, 0..file.size, &mut content, pages).ok()?;
        notifier.store(INodeNo(number.ino), 0, &content).ok()?;
        mounted.bytes_read.fetch_add(content.len() as u64, Ordering::Relaxed);
    }
}

/// Does the number stand for this file?
fn is_it(mounted: &Mounted, ino: u64, leaf: &Arc<Leaf>, at: usize) -> bool {
    match mounted.inodes.get(ino) {
        Some(Target::Entry(other, place)) => {
            usize::from(place) == at && other.page == leaf.page && other.folder.ino == leaf.folder.ino
        }
        _ => false,
    }
}
