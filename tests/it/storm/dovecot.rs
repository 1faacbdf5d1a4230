//! The same with a real Dovecot: its delivery agent and sessions that store, copy, move and expunge.
//!
//! Afterwards a restored Maildir is opened by it, too: no message may have a UID other than the one it was shown with.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::oracle::{Copy, Faults, Sighting, Span, Step, judge};
use super::script::{Row, content};
use super::{Calm, Weather, besiege, storm_time};
use crate::imap::{Dovecot, Imap, give};
use crate::lab::seed;
use crate::support::{TestEnv, skipped};

const USERS: usize = 2;
const MAILBOXES: [&str; 4] = ["INBOX", "Work", "Archive", "Lists"];
/// Two for each user, so that sessions meet in the same mailboxes.
const ACTORS: usize = 4;
/// An actor expunges rather than delivers once it has so many messages.
const POPULATION: usize = 300;
const BALLAST: usize = 150;
/// Dovecot may name a file by its new flags a little after it said so.
const SLACK: u64 = 2_000_000_000;

/// The server, the log, and the UIDs that it showed.
struct Post {
    source: PathBuf,
    dovecot: Dovecot,
    clock: Instant,
    seed: u64,
    logs: Vec<Mutex<Vec<Copy>>>,
    /// Somebody wants to read the logs; whoever writes them all the time lets him.
    is_asked: AtomicBool,
    /// (mailbox, UID) -> message.
    shown: Mutex<BTreeMap<(usize, u64), u64>>,
    validity: Mutex<BTreeMap<usize, u64>>,
    stop: AtomicBool,
    operations: AtomicU64,
}

fn user(folder: usize) -> String {
    format!("u{}", folder / MAILBOXES.len())
}

fn maildir(root: &Path, folder: usize) -> PathBuf {
    root.join(user(folder))
}

fn mailbox(folder: usize) -> &'static str {
    MAILBOXES[folder % MAILBOXES.len()]
}

fn folder_path(root: &Path, folder: usize) -> PathBuf {
    match mailbox(folder) {
        "INBOX" => maildir(root, folder),
        name => maildir(root, folder).join(format!(".{name}")),
    }
}

fn folders() -> std::ops::Range<usize> {
    0..USERS * MAILBOXES.len()
}

#[track_caller]
fn ask(session: &mut Imap, command: &str) -> Vec<String> {
    let answer = session.ask(command).unwrap();
    assert!(answer.is_ok(), "{command}: {}", answer.end);
    answer.lines
}

/// UIDVALIDITY, and each message with its UID.
fn look(session: &mut Imap, folder: usize) -> (u64, Vec<(u64, u64)>) {
    let selected = ask(session, &format!("SELECT {}", mailbox(folder)));
    let validity = selected.iter().find_map(|line| number_after(line, "[UIDVALIDITY ")).unwrap();
    // An empty mailbox has no message 1.
    let fetched = session.ask("FETCH 1:* (UID BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)])").unwrap();
    let (mut messages, mut uid) = (Vec::new(), None);
    for line in fetched.lines {
        uid = number_after(&line, "FETCH (UID ").or(uid);
        if let (Some(message), Some(uid)) = (number_after(&line, "Message-ID: <"), uid) {
            messages.push((uid, message));
        }
    }
    (validity, messages)
}

fn number_after(line: &str, mark: &str) -> Option<u64> {
    let digits = line.split_once(mark)?.1;
    digits[..digits.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(digits.len())].parse().ok()
}

impl Post {
    fn now(&self) -> u64 {
        self.clock.elapsed().as_nanos() as u64
    }

    fn session(&self, root: &Path, folder: usize) -> Imap {
        self.dovecot.session(&user(folder), &maildir(root, folder)).unwrap()
    }

    /// Looks into a live mailbox and notes what it shows.
    fn note(&self, session: &mut Imap, folder: usize) -> BTreeMap<u64, u64> {
        let (validity, messages) = look(session, folder);
        assert_eq!(*self.validity.lock().unwrap().entry(folder).or_insert(validity), validity);
        let mut shown = self.shown.lock().unwrap();
        for &(uid, message) in &messages {
            assert_eq!(*shown.entry((folder, uid)).or_insert(message), message, "UIDs of a live mailbox");
        }
        messages.into_iter().map(|(uid, message)| (message, uid)).collect()
    }

    /// An actor's log, to be held during an operation.
    fn log(&self, actor: usize) -> MutexGuard<'_, Vec<Copy>> {
        while self.is_asked.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.logs[actor].lock().unwrap()
    }

    fn copies(&self) -> Vec<Copy> {
        self.is_asked.store(true, Ordering::Relaxed);
        let copies = self.logs.iter().flat_map(|log| log.lock().unwrap().clone()).collect();
        self.is_asked.store(false, Ordering::Relaxed);
        copies
    }

    fn done(&self) {
        self.operations.fetch_add(1, Ordering::Relaxed);
    }

    fn deliver(&self, actor: usize, row: &mut Row) {
        let folder = actor % USERS * MAILBOXES.len() + row.below(MAILBOXES.len());
        let mut log = self.log(actor);
        let message = (log.len() * ACTORS + actor) as u64;
        let before = self.now();
        let path = maildir(&self.source, folder);
        let done = self.dovecot.deliver(&user(folder), &path, mailbox(folder), &content(message)).unwrap();
        assert!(done, "{:?}", self.dovecot.complaints());
        let steps =
            vec![Step { before, after: self.now(), folder, flags: Some(String::new()), is_linked: false }];
        log.push(Copy { message, steps, gone: None });
        self.done();
    }

    /// One session: a mailbox, and what the actor does to its own messages there.
    fn work(&self, actor: usize, row: &mut Row) {
        let first = actor % USERS * MAILBOXES.len();
        let folder = first + row.below(MAILBOXES.len());
        let mut session = self.session(&self.source, folder);
        let uids = self.note(&mut session, folder);
        for _ in 0..10 {
            let mut log = self.log(actor);
            let here: Vec<usize> =
                (0..log.len()).filter(|&at| log[at].now().is_some_and(|now| now.folder == folder)).collect();
            if here.is_empty() {
                break;
            }
            let at = here[row.below(here.len())];
            let Some(&uid) = uids.get(&log[at].message) else { continue };
            let crowd = log.iter().filter(|copy| copy.now().is_some()).count() > POPULATION;
            let action = if crowd { 9 } else { row.below(10) };
            let target = first + row.below(MAILBOXES.len());
            let is_there = log.iter().any(|copy| {
                copy.message == log[at].message && copy.now().is_some_and(|now| now.folder == target)
            });
            if (4..8).contains(&action) && is_there {
                continue;
            }
            self.operate(&mut session, &mut log, (at, uid), (action, target, row.below(8)));
        }
        ask(&mut session, "LOGOUT");
    }

    fn operate(
        &self,
        session: &mut Imap,
        log: &mut Vec<Copy>,
        (at, uid): (usize, u64),
        (action, folder, bits): (usize, usize, usize),
    ) {
        let before = self.now();
        let now = log[at].now().unwrap().clone();
        let step = |flags: Option<String>, folder, is_linked| Step {
            before,
            after: self.now(),
            folder,
            flags,
            is_linked,
        };
        match action {
            0..4 => {
                let chosen = [("F", "\\Flagged"), ("R", "\\Answered"), ("S", "\\Seen")];
                let chosen = chosen.iter().enumerate().filter(|(bit, _)| bits >> bit & 1 == 1);
                let (letters, words): (String, Vec<&str>) = chosen.map(|(_, flag)| *flag).unzip();
                ask(session, &format!("UID STORE {uid} FLAGS ({})", words.join(" ")));
                log[at].steps.push(step(Some(letters), now.folder, false));
            }
            4..6 => {
                ask(session, &format!("UID COPY {uid} {}", mailbox(folder)));
                let copy = Copy {
                    message: log[at].message,
                    steps: vec![step(now.flags, folder, false)],
                    gone: None,
                };
                log.push(copy);
            }
            6..8 => {
                ask(session, &format!("UID MOVE {uid} {}", mailbox(folder)));
                log[at].steps.push(step(now.flags, folder, true));
            }
            _ => {
                ask(session, &format!("UID STORE {uid} +FLAGS (\\Deleted)"));
                let flags = now.flags.unwrap_or_default();
                log[at].steps.push(step(Some(format!("{flags}T")), now.folder, false));
                ask(session, &format!("UID EXPUNGE {uid}"));
                log[at].gone = Some((before, self.now()));
            }
        }
        self.done();
    }

    fn act(&self, actor: usize) {
        let mut row = Row::new(self.seed, actor as u64);
        while !self.stop.load(Ordering::Relaxed) {
            (0..4).for_each(|_| self.deliver(actor, &mut row));
            self.work(actor, &mut row);
        }
    }

    fn sightings(&self, restored: &Path) -> Vec<Sighting> {
        let mut seen = Vec::new();
        for folder in folders() {
            for part in ["cur", "new"] {
                for entry in fs::read_dir(folder_path(restored, folder).join(part)).into_iter().flatten() {
                    let path = entry.unwrap().path();
                    let name = path.file_name().unwrap().to_string_lossy().into_owned();
                    let bytes = fs::read(&path).unwrap();
                    let text = String::from_utf8_lossy(&bytes);
                    let message = number_after(&text, "Message-ID: <").unwrap_or(u64::MAX);
                    // Lower case letters are keywords.
                    let flags = name.split_once(":2,").map_or("", |(_, flags)| flags);
                    let flags = flags.chars().filter(char::is_ascii_uppercase).collect();
                    let is_exact = bytes.ends_with(&content(message));
                    seen.push(Sighting { message, folder, flags, is_exact });
                }
            }
        }
        seen
    }

    /// Messages that a Dovecot on the restored tree shows with a UID that was another message's, or not their own.
    ///
    /// A message that the restored list does not know gets a new UID when it is opened: those are not counted.
    fn wrong_uids(&self, restored: &Path) -> (u64, u64) {
        give(restored).unwrap();
        let above = restored.parent().unwrap();
        fs::set_permissions(above, PermissionsExt::from_mode(0o755)).unwrap();
        let (mut wrong, mut checked) = (0, 0);
        for folder in folders() {
            let list = fs::read(folder_path(restored, folder).join("dovecot-uidlist")).unwrap_or_default();
            let list = String::from_utf8_lossy(&list).into_owned();
            let listed = list.lines().skip(1).filter_map(|line| line.split(' ').next()?.parse::<u64>().ok());
            let highest = listed.max().unwrap_or(0);
            let mut session = self.session(restored, folder);
            let (validity, messages) = look(&mut session, folder);
            if !list.is_empty()
                && self.validity.lock().unwrap().get(&folder).is_some_and(|&is| is != validity)
            {
                wrong += 1;
            }
            let shown = self.shown.lock().unwrap();
            for (uid, message) in messages.into_iter().filter(|&(uid, _)| uid <= highest) {
                checked += 1;
                wrong += u64::from(shown.get(&(folder, uid)).is_some_and(|&is| is != message));
            }
        }
        (wrong, checked)
    }
}

/// Mail that nobody touches, in folders that lie between the others: a backup is long on its way from one to the next.
fn ballast(source: &Path) {
    for (user, number) in (0..USERS).flat_map(|user| (0..BALLAST).map(move |number| (user, number))) {
        let folder = source.join(format!("u{user}/.Ballast.{number}"));
        for part in ["cur", "new", "tmp"] {
            fs::create_dir_all(folder.join(part)).unwrap();
        }
        for message in 0..25 {
            let bytes = content((1 << 40) + (number * 25 + message) as u64);
            fs::write(folder.join(format!("cur/17000.M{message}P1.old:2,S")), bytes).unwrap();
        }
    }
    give(source).unwrap();
}

struct Siege<'p> {
    post: &'p Post,
    /// Restored snapshots' UIDs: wrong and looked at.
    uids: Mutex<(u64, u64)>,
}

impl Weather for Siege<'_> {
    fn now(&self) -> u64 {
        self.post.now()
    }

    fn source(&self) -> &Path {
        &self.post.source
    }

    fn judge(&self, restored: &Path, begin: u64, end: u64) -> Faults {
        let seen = self.post.sightings(restored);
        let copies = self.post.copies();
        // Whatever is in the snapshot by now was shown by a session that looks after it.
        for folder in folders() {
            let mut session = self.post.session(&self.post.source, folder);
            self.post.note(&mut session, folder);
        }
        let (wrong, checked) = self.post.wrong_uids(restored);
        let mut uids = self.uids.lock().unwrap();
        *uids = (uids.0 + wrong, uids.1 + checked);
        judge(&copies, &seen, &Span { begin, end, slack: SLACK })
    }
}

fn post(seed: u64, folder: &Path) -> Option<Post> {
    let dovecot = Dovecot::find(&folder.join("state")).unwrap()?;
    let source = folder.join("mail");
    fs::create_dir(&source).unwrap();
    give(&source).unwrap();
    let post = Post {
        source,
        dovecot,
        clock: Instant::now(),
        seed,
        logs: (0..ACTORS).map(|_| Mutex::default()).collect(),
        is_asked: AtomicBool::new(false),
        shown: Mutex::default(),
        validity: Mutex::default(),
        stop: AtomicBool::new(false),
        operations: AtomicU64::new(0),
    };
    for user in 0..USERS {
        let mut session = post.session(&post.source, user * MAILBOXES.len());
        MAILBOXES[1..].iter().for_each(|name| drop(ask(&mut session, &format!("CREATE {name}"))));
    }
    ballast(&post.source);
    for actor in 0..ACTORS {
        let mut row = Row::new(seed, 1_000 + actor as u64);
        (0..60).for_each(|_| post.deliver(actor, &mut row));
    }
    Some(post)
}

#[test]
fn a_real_dovecot_loses_nothing_and_keeps_its_uids() {
    let (env, seed) = (TestEnv::with_repository(), seed());
    println!("seed {seed}");
    let place = tempfile::tempdir().unwrap();
    fs::set_permissions(place.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let Some(post) = post(seed, place.path()) else {
        return skipped("a real Dovecot", "dovecot-imapd is not installed");
    };
    let siege = Siege { post: &post, uids: Mutex::default() };
    let outcome = std::thread::scope(|scope| {
        let post = &post;
        let calm = Calm(&post.stop);
        let actors: Vec<_> = (0..ACTORS).map(|actor| scope.spawn(move || post.act(actor))).collect();
        let outcome = besiege(&env, &siege, storm_time(), seed);
        drop(calm);
        actors.into_iter().for_each(|actor| actor.join().unwrap());
        outcome
    });
    outcome.print("dovecot", seed);
    let (wrong, checked) = *siege.uids.lock().unwrap();
    let complaints = post.dovecot.complaints();
    println!(
        "{} operations, {checked} UIDs looked at, {wrong} wrong; Dovecot logged {} complaints, such as {:?}",
        post.operations.load(Ordering::Relaxed),
        complaints.len(),
        complaints.first(),
    );
    env.check();
    assert_eq!(wrong, 0, "UIDs");
    outcome.assert_clean();
}
