//! Mail programs at their worst: threads that deliver, flag, move, copy and delete without a pause.
//!
//! Every thread has messages of its own, so that it knows what it did to them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::oracle::{Copy, Sighting, Step};
use crate::support::{dice, noise};

const USERS: usize = 5;
const MAILBOXES: [&str; 6] = ["", ".Archive", ".Sent", ".Lists", ".Lists.Kernel", ".Trash"];
const THREADS: usize = 4;
/// All threads together; more than a thousand a second are asked for.
const OPERATIONS_PER_SECOND: u64 = 2_400;
/// Messages that are there, about.
const POPULATION: usize = 10_000;
const FLAGS: [&str; 6] = ["S", "RS", "FS", "", "FRS", "T"];

/// The Maildirs and the log of all that happened to them.
pub struct Script {
    folders: Vec<PathBuf>,
    clock: Instant,
    seed: u64,
    logs: Vec<Mutex<Vec<Copy>>>,
    pub stop: AtomicBool,
    pub operations: AtomicU64,
}

/// A row of numbers.
pub struct Row {
    seed: u64,
    at: u64,
}

impl Row {
    pub fn new(seed: u64, of: u64) -> Row {
        Row { seed: dice(seed ^ of.rotate_left(32), u64::MAX), at: 0 }
    }

    pub fn below(&mut self, end: usize) -> usize {
        self.at += 1;
        dice(self.seed.wrapping_add(self.at), end as u64) as usize
    }
}

/// The message of that number; no two are alike, and most are small.
pub fn content(message: u64) -> Vec<u8> {
    let words = noise(message, 40 + dice(message, 1_200) as usize);
    let text: String = words.iter().map(|byte| char::from(b'a' + byte % 26)).collect();
    let head = format!("From: a@example.net\nMessage-ID: <{message}@storm>\nSubject: {message}\n\n");
    let lines = text.as_bytes().chunks(70).map(|line| format!("{}\n", String::from_utf8_lossy(line)));
    (head + &lines.collect::<String>()).into_bytes()
}

fn base_name(message: u64) -> String {
    let size = content(message).len();
    format!("17000{:05}.M{message}P7.storm,S={size}", message % 100_000)
}

impl Script {
    /// Makes the Maildirs with their first messages.
    pub fn new(root: &Path, seed: u64) -> Script {
        let paths = (0..USERS).flat_map(|user| {
            let maildir = root.join(format!("u{user}"));
            MAILBOXES.iter().map(move |mailbox| maildir.join(mailbox))
        });
        let script = Script {
            folders: paths.collect(),
            clock: Instant::now(),
            seed,
            logs: (0..THREADS).map(|_| Mutex::default()).collect(),
            stop: AtomicBool::new(false),
            operations: AtomicU64::new(0),
        };
        for folder in &script.folders {
            for part in ["cur", "new", "tmp"] {
                fs::create_dir_all(folder.join(part)).unwrap();
            }
            // A delivery that never came to its end.
            fs::write(folder.join("tmp/1.M1P1.half"), "From: half").unwrap();
        }
        for thread in 0..THREADS {
            let mut worker = Worker::new(&script, thread);
            (0..POPULATION / THREADS).for_each(|_| worker.deliver());
        }
        script
    }

    pub fn now(&self) -> u64 {
        self.clock.elapsed().as_nanos() as u64
    }

    /// What happened so far; an operation that goes on is waited for.
    pub fn copies(&self) -> Vec<Copy> {
        self.logs.iter().flat_map(|log| log.lock().unwrap().clone()).collect()
    }

    /// Goes on until it is told to stop, as fast as it may.
    pub fn run(&self, thread: usize) {
        let mut worker = Worker::new(self, thread);
        let begun = Instant::now();
        let mut done = 0;
        while !self.stop.load(Ordering::Relaxed) {
            worker.act();
            done += 1;
            self.operations.fetch_add(1, Ordering::Relaxed);
            let due = Duration::from_micros(done * 1_000_000 * THREADS as u64 / OPERATIONS_PER_SECOND);
            if let Some(early) = due.checked_sub(begun.elapsed()) {
                std::thread::sleep(early);
            }
        }
    }

    pub fn threads() -> std::ops::Range<usize> {
        0..THREADS
    }

    /// What a restored tree shows; and files that are not where messages are.
    pub fn sightings(&self, source: &Path, restored: &Path) -> (Vec<Sighting>, Vec<PathBuf>) {
        let (mut seen, mut strange) = (Vec::new(), Vec::new());
        for (number, folder) in self.folders.iter().enumerate() {
            let folder = restored.join(folder.strip_prefix(source).unwrap());
            for part in ["cur", "new", "tmp"] {
                for entry in fs::read_dir(folder.join(part)).into_iter().flatten() {
                    let path = entry.unwrap().path();
                    match sighting(&path, number).filter(|_| part != "tmp") {
                        Some(sighting) => seen.push(sighting),
                        None => strange.push(path),
                    }
                }
            }
        }
        (seen, strange)
    }
}

fn sighting(path: &Path, folder: usize) -> Option<Sighting> {
    let name = path.file_name()?.to_str()?;
    let (base, flags) = name.split_once(":2,").unwrap_or((name, ""));
    let message = base.split_once(".M")?.1.split_once('P')?.0.parse().ok()?;
    let is_exact = base == base_name(message) && fs::read(path).ok()? == content(message);
    Some(Sighting { message, folder, flags: flags.to_owned(), is_exact })
}

/// One thread's view.
struct Worker<'s> {
    script: &'s Script,
    thread: usize,
    row: Row,
    /// Places in the log of copies that are there.
    alive: Vec<usize>,
    next: u64,
}

impl<'s> Worker<'s> {
    fn new(script: &'s Script, thread: usize) -> Worker<'s> {
        let log = script.logs[thread].lock().unwrap();
        let alive = (0..log.len()).filter(|&at| log[at].now().is_some()).collect();
        let made = log.iter().map(|copy| copy.message / THREADS as u64 + 1).max().unwrap_or(0);
        let row = Row::new(script.seed, (thread as u64) << 32 | made);
        Worker { script, thread, row, alive, next: made }
    }

    fn log(&self) -> MutexGuard<'s, Vec<Copy>> {
        self.script.logs[self.thread].lock().unwrap()
    }

    fn path(&self, message: u64, folder: usize, flags: Option<&str>) -> PathBuf {
        let base = base_name(message);
        match flags {
            Some(flags) => self.script.folders[folder].join("cur").join(format!("{base}:2,{flags}")),
            None => self.script.folders[folder].join("new").join(base),
        }
    }

    fn path_of(&self, copy: &Copy) -> PathBuf {
        let now = copy.now().unwrap();
        self.path(copy.message, now.folder, now.flags.as_deref())
    }

    fn act(&mut self) {
        let full = self.alive.len() >= POPULATION / THREADS;
        match self.row.below(100) {
            0..25 if !full => self.deliver(),
            25..55 => self.flag(),
            55..75 => self.move_away(),
            75..85 if !full => self.copy(),
            _ => self.delete(),
        }
    }

    fn any(&mut self) -> Option<usize> {
        (!self.alive.is_empty()).then(|| self.row.below(self.alive.len()))
    }

    fn deliver(&mut self) {
        let message = self.next * THREADS as u64 + self.thread as u64;
        self.next += 1;
        let folder = self.row.below(self.script.folders.len());
        let by_link = self.row.below(2) == 0;
        let draft = self.script.folders[folder].join("tmp").join(base_name(message));
        let path = self.path(message, folder, None);
        let mut log = self.log();
        let before = self.script.now();
        fs::write(&draft, content(message)).unwrap();
        if by_link {
            fs::hard_link(&draft, &path).unwrap();
            fs::remove_file(&draft).unwrap();
        } else {
            fs::rename(&draft, &path).unwrap();
        }
        let step = Step { before, after: self.script.now(), folder, flags: None, is_linked: false };
        self.alive.push(log.len());
        log.push(Copy { message, steps: vec![step], gone: None });
    }

    fn rename(&mut self, at: usize, folder: usize, flags: Option<String>) {
        let mut log = self.log();
        let copy = &mut log[self.alive[at]];
        let (from, to) = (self.path_of(copy), self.path(copy.message, folder, flags.as_deref()));
        let before = self.script.now();
        fs::rename(from, to).unwrap();
        copy.steps.push(Step { before, after: self.script.now(), folder, flags, is_linked: false });
    }

    fn flag(&mut self) {
        let Some(at) = self.any() else { return };
        let flags = FLAGS[self.row.below(FLAGS.len())].to_owned();
        let folder = self.log()[self.alive[at]].now().unwrap().folder;
        self.rename(at, folder, Some(flags));
    }

    /// A folder where the message is not yet.
    fn other_folder(&mut self, at: usize) -> Option<usize> {
        let folder = self.row.below(self.script.folders.len());
        let log = self.log();
        let message = log[self.alive[at]].message;
        let is_there =
            |copy: &Copy| copy.message == message && copy.now().is_some_and(|now| now.folder == folder);
        (!self.alive.iter().any(|&other| is_there(&log[other]))).then_some(folder)
    }

    fn move_away(&mut self) {
        let Some(at) = self.any() else { return };
        let Some(folder) = self.other_folder(at) else { return };
        let flags = self.log()[self.alive[at]].now().unwrap().flags.clone();
        self.rename(at, folder, Some(flags.unwrap_or_default()));
    }

    fn copy(&mut self) {
        let Some(at) = self.any() else { return };
        let Some(folder) = self.other_folder(at) else { return };
        let mut log = self.log();
        let original = &log[self.alive[at]];
        let (message, flags) = (original.message, original.now().unwrap().flags.clone().unwrap_or_default());
        let before = self.script.now();
        fs::hard_link(self.path_of(original), self.path(message, folder, Some(&flags))).unwrap();
        let after = self.script.now();
        let steps = vec![Step { before, after, folder, flags: Some(flags), is_linked: false }];
        self.alive.push(log.len());
        log.push(Copy { message, steps, gone: None });
    }

    fn delete(&mut self) {
        let Some(at) = self.any() else { return };
        let mut log = self.log();
        let copy = &mut log[self.alive.swap_remove(at)];
        let path = self.path_of(copy);
        let before = self.script.now();
        fs::remove_file(path).unwrap();
        copy.gone = Some((before, self.script.now()));
    }
}
