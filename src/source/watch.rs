//! Watches many folders for names that come and go while a backup lists them.
//!
//! What the kernel tells is kept in order, in bounded memory; what did not fit is said as [`Event::Overflow`]. A
//! thread empties the kernel's queue all the time, which holds some ten thousand events and then forgets. Changes by
//! other hosts on a network file system are never told.

use std::collections::{HashMap, VecDeque};
use std::io::Read;
use std::mem::MaybeUninit;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::{Errno, Result, write};

use super::dir::{Name, OpenDir};

/// What the caller calls a folder.
pub type Token = u64;

/// Something that happened in a watched folder, or to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A name is there: created, linked, or moved here; for an attentive watcher also: written and closed, or given
    /// other attributes. Without a name it is the folder itself.
    Came {
        /// The folder.
        token: Token,
        /// The name there.
        name: Name,
        /// For a move: the same number in the event of the other end, when that folder is watched, too.
        cookie: Option<u32>,
    },
    /// A name is no longer there: deleted, or moved away.
    Went {
        /// The folder.
        token: Token,
        /// The name it had there.
        name: Name,
        /// As for [`Event::Came`].
        cookie: Option<u32>,
    },
    /// The folder itself was deleted, moved or unmounted; may be told more than once.
    FolderGone {
        /// The folder.
        token: Token,
    },
    /// Events that came here were lost: nobody knows what happened in any of the folders.
    Overflow,
}

/// Watched folders and what happened in them since the last [`Watcher::drain`].
#[derive(Debug)]
pub struct Watcher {
    shared: Arc<Shared>,
    /// Which folders the kernel means by its number; one that is reached by two paths has two.
    tokens: HashMap<i32, Vec<Token>>,
    limit: usize,
    wanted: WatchFlags,
    drainer: Option<Drainer>,
}

#[derive(Debug)]
struct Drainer {
    stop: Arc<OwnedFd>,
    thread: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    inotify: OwnedFd,
    queue: Mutex<Queue>,
}

/// An event as the kernel tells it; its folder is looked up when the event is handed out, by when it is known.
#[derive(Debug)]
struct Raw {
    watch: i32,
    flags: ReadFlags,
    cookie: u32,
    name: Name,
}

#[derive(Debug)]
struct Queue {
    raw: VecDeque<Raw>,
    /// Memory that `raw` takes, about.
    bytes: usize,
    bytes_max: usize,
    /// The last event is an overflow, and nothing follows it before it is handed out.
    is_full: bool,
    /// Events that the kernel's queue holds at most.
    kernel_events: u64,
    buffer: Box<[MaybeUninit<u8>]>,
}

/// Most memory for events that nobody has asked for yet, bytes; some 300,000 events.
const QUEUE_BYTES_MAX: usize = 32 << 20;
/// What an event takes beside its name, bytes.
const EVENT_BYTES: usize = size_of::<Raw>() + 16;
/// One read of the kernel's queue takes at most this many bytes, some hundred events.
const READ_BYTES: usize = 16 << 10;
/// Events in the kernel's queue where the system does not say how many it holds.
const KERNEL_QUEUE_EVENTS: u64 = 16_384;

const WANTED: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::MOVED_TO)
    .union(WatchFlags::MOVED_FROM)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);

/// What an attentive watcher wants besides.
const WRITTEN: WatchFlags = WatchFlags::CLOSE_WRITE.union(WatchFlags::ATTRIB);

const CAME: ReadFlags =
    ReadFlags::CREATE.union(ReadFlags::MOVED_TO).union(ReadFlags::CLOSE_WRITE).union(ReadFlags::ATTRIB);
const WENT: ReadFlags = ReadFlags::DELETE.union(ReadFlags::MOVED_FROM);
const GONE: ReadFlags = ReadFlags::DELETE_SELF.union(ReadFlags::MOVE_SELF).union(ReadFlags::UNMOUNT);

/// How many folders one user may watch on this system, by all programs together; `None` when it does not say.
pub fn system_limit() -> Option<u64> {
    number_of("/proc/sys/fs/inotify/max_user_watches")
}

fn number_of(path: &str) -> Option<u64> {
    let mut text = String::new();
    std::fs::File::open(path).ok()?.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

impl Watcher {
    /// Begins to watch nothing, and at most `limit` folders.
    ///
    /// `EMFILE` when this user has too many watchers already, `ENOSYS` where there are none.
    pub fn new(limit: usize) -> Result<Watcher> {
        let mut watcher = Watcher::without_thread(limit, QUEUE_BYTES_MAX)?;
        watcher.drainer = Some(Drainer::start(Arc::clone(&watcher.shared))?);
        Ok(watcher)
    }

    /// The same, which is told of names that were written to, too.
    pub fn attentive(limit: usize) -> Result<Watcher> {
        let mut watcher = Watcher::new(limit)?;
        watcher.wanted |= WRITTEN;
        Ok(watcher)
    }

    fn without_thread(limit: usize, bytes_max: usize) -> Result<Watcher> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        let buffer = Box::new_uninit_slice(READ_BYTES);
        let kernel_events =
            number_of("/proc/sys/fs/inotify/max_queued_events").unwrap_or(KERNEL_QUEUE_EVENTS);
        let queue =
            Queue { raw: VecDeque::new(), bytes: 0, bytes_max, is_full: false, kernel_events, buffer };
        let shared = Arc::new(Shared { inotify, queue: Mutex::new(queue) });
        Ok(Watcher { shared, tokens: HashMap::new(), limit, wanted: WANTED, drainer: None })
    }

    /// Watches an open folder, whatever is at its path by now; false when no more can be watched.
    ///
    /// Every change after the return is told. A folder that is watched already is told for both tokens.
    pub fn watch(&mut self, folder: &OpenDir, token: Token) -> Result<bool> {
        let path = format!("/proc/self/fd/{}", folder.fd().as_raw_fd());
        if self.tokens.len() >= self.limit {
            return Ok(false);
        }
        match inotify::add_watch(&self.shared.inotify, path.as_str(), self.wanted) {
            Ok(watch) => {
                let tokens = self.tokens.entry(watch).or_default();
                if !tokens.contains(&token) {
                    tokens.push(token);
                }
                Ok(true)
            }
            Err(Errno::NOSPC) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Folders watched now.
    pub fn count(&self) -> usize {
        self.tokens.len()
    }

    /// Everything that happened before this call, and was not handed out yet, in order.
    pub fn drain(&mut self) -> Vec<Event> {
        let raw = {
            let mut queue = self.shared.lock();
            queue.pump(&self.shared.inotify);
            queue.take()
        };
        let mut events = Vec::with_capacity(raw.len());
        for event in raw {
            self.tell(event, &mut events);
        }
        events
    }

    fn tell(&mut self, raw: Raw, events: &mut Vec<Event>) {
        let Raw { watch, flags, cookie, name } = raw;
        if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
            events.push(Event::Overflow);
            return;
        }
        let cookie = Some(cookie).filter(|&cookie| cookie != 0);
        for &token in self.tokens.get(&watch).into_iter().flatten() {
            if flags.intersects(CAME) {
                events.push(Event::Came { token, name: name.clone(), cookie });
            } else if flags.intersects(WENT) {
                events.push(Event::Went { token, name: name.clone(), cookie });
            } else if flags.intersects(GONE) {
                events.push(Event::FolderGone { token });
            }
        }
        // The kernel has let go of the folder; its number comes back for no other.
        if flags.contains(ReadFlags::IGNORED) {
            self.tokens.remove(&watch);
        }
    }
}

impl Shared {
    /// Nothing in the lock can be left half done, so that a panic elsewhere does no harm.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    /// Reads what the kernel holds by now; false when it can be read no more.
    ///
    /// Ends although more comes all the time: what was there at the beginning fits into the kernel's queue.
    fn pump(&mut self, inotify: &OwnedFd) -> bool {
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut reader = Reader::new(inotify, &mut buffer);
        let mut count = 0;
        let is_alive = loop {
            if count > self.kernel_events && reader.is_buffer_empty() {
                break true;
            }
            match reader.next() {
                Ok(event) => {
                    let name = event.file_name().map(|name| name.to_bytes().into()).unwrap_or_default();
                    let (watch, flags, cookie) = (event.wd(), event.events(), event.cookie());
                    self.push(Raw { watch, flags, cookie, name });
                    count += 1;
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break true,
                Err(_) => {
                    self.overflow();
                    break false;
                }
            }
        };
        self.buffer = buffer;
        is_alive
    }

    fn push(&mut self, raw: Raw) {
        // That a folder is gone must be known for the count of watches; there is one such event for a folder.
        if self.is_full && !raw.flags.contains(ReadFlags::IGNORED) {
            return;
        }
        if raw.flags.contains(ReadFlags::QUEUE_OVERFLOW)
            || self.bytes >= self.bytes_max && !raw.flags.contains(ReadFlags::IGNORED)
        {
            self.overflow();
            return;
        }
        self.bytes += EVENT_BYTES + raw.name.len();
        self.raw.push_back(raw);
    }

    fn overflow(&mut self) {
        if !self.is_full {
            let flags = ReadFlags::QUEUE_OVERFLOW;
            self.raw.push_back(Raw { watch: -1, flags, cookie: 0, name: Name::default() });
            self.is_full = true;
        }
    }

    fn take(&mut self) -> VecDeque<Raw> {
        (self.bytes, self.is_full) = (0, false);
        std::mem::take(&mut self.raw)
    }
}

impl Drainer {
    fn start(shared: Arc<Shared>) -> Result<Drainer> {
        let stop = Arc::new(eventfd(0, EventfdFlags::CLOEXEC)?);
        let ending = Arc::clone(&stop);
        let work = move || {
            loop {
                let mut waiting = [
                    PollFd::new(&shared.inotify, PollFlags::IN),
                    PollFd::from_borrowed_fd(ending.as_fd(), PollFlags::IN),
                ];
                match poll(&mut waiting, None) {
                    Err(Errno::INTR) => continue,
                    Ok(_) if waiting[1].revents().is_empty() => {}
                    _ => return,
                }
                if !shared.lock().pump(&shared.inotify) {
                    return;
                }
            }
        };
        let named = std::thread::Builder::new().name("watch".to_owned());
        let thread =
            named.spawn(work).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::AGAIN))?;
        Ok(Drainer { stop, thread })
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        if let Some(Drainer { stop, thread }) = self.drainer.take()
            && write(&*stop, &1u64.to_ne_bytes()).is_ok()
        {
            // A thread that panicked has nothing to clean up.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests;
