//! One mount from beginning to end.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use fuser::{Config, MountOption, Session, SessionACL, SessionUnmounter};
use rustix::mount::{MountFlags, UnmountFlags};

use super::ahead::Ahead;
use super::attributes::Owners;
use super::bridge::Bridge;
use super::control::Control;
use super::folder::Folder;
use super::inode::{Inodes, ROOT, Target};
use super::mounted::{Mounted, Troubles};
use super::roll::Roll;
use super::users::{self, Mailboxes};
use super::vault::Vault;
use super::views::View;
use super::witness::Witness;
use super::{Ended, MountError, Options, Report};
use crate::base::interrupt::Interrupt;
use crate::base::{bytes, clock};
use crate::source::names::Accounts;

/// What the system's list of mounts calls it.
const NAME: &str = "mailark";
/// How often it is looked whether the mount has ended.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long an unmounted file system may still be in use before the run ends without it.
const PATIENCE: Duration = Duration::from_secs(2);

/// Mounts, says so through `ready` with the number of snapshots, and stays until a signal or an unmount.
///
/// # Errors
/// A damaged local index ends the mount; all else that cannot be read is told and answered with an error.
pub fn run<E: From<MountError>>(
    vault: Vault,
    options: Options,
    interrupt: &Interrupt,
    ready: impl FnOnce(usize) -> Result<(), E>,
) -> Result<Report, E> {
    let stopwatch = clock::stopwatch();
    check_place(&options.place)?;
    let mounted = Arc::new(assemble(vault, &options)?);
    let shown = mounted.roll.current().shown.len();
    let (serving, unmounter) = serve(&mounted, &options)?;
    let mut serving = Serving { thread: Some(serving), unmounter, place: &options.place };
    ready(shown)?;
    let ended = loop {
        if serving.is_over() {
            break Ended::Outside;
        }
        if mounted.troubles.is_fatal() || interrupt.sleep(LOOK_EVERY).is_err() {
            break Ended::Signal;
        }
    };
    let in_use = serving.end()?;
    if let Some(error) = mounted.troubles.take_fatal() {
        return Err(MountError::from(error).into());
    }
    Ok(Report {
        ended,
        in_use,
        bytes_read: mounted.bytes_read.load(Ordering::Relaxed),
        problem_count: mounted.troubles.count(),
        duration: stopwatch.elapsed(),
    })
}

/// Refuses a place that is no empty folder.
fn check_place(place: &Path) -> Result<(), MountError> {
    let shown = || place.display().to_string();
    let failed = |source: io::Error| match rustix::io::Errno::from_io_error(&source) {
        Some(rustix::io::Errno::NOTCONN) => MountError::DeadMount { place: shown() },
        Some(rustix::io::Errno::NOTDIR) => MountError::NotAFolder { place: shown() },
        _ => MountError::Mount { place: shown(), source },
    };
    match fs::read_dir(place).map_err(failed)?.next() {
        None => Ok(()),
        Some(_) => Err(MountError::NotEmpty { place: shown() }),
    }
}

fn assemble(vault: Vault, options: &Options) -> Result<Mounted, MountError> {
    let roll = Roll::new(options.filter.clone(), options.zone.clone());
    let control = options.control.as_deref().map(Control::new).transpose()?;
    let root = match &options.only {
        Some((info, path)) => Target::Folder(only(&vault, info, path)?),
        None => Target::View(View::Root),
    };
    // Whoever opened the repository told of these.
    let unusable = roll.look(&vault)?;
    Ok(Mounted {
        vault,
        roll,
        mailboxes: Mailboxes::new(options.users.clone()),
        owners: Owners::new(Accounts::of_this_host(), options.numeric_ids, options.control.is_some()),
        inodes: Inodes::new(root),
        control,
        place: options.place.clone(),
        tell: Arc::clone(&options.tell),
        witness: Witness::new(Arc::clone(&options.note), options.users.clone()),
        troubles: Troubles::knowing(unusable.iter().map(ToString::to_string)),
        bytes_read: AtomicU64::new(0),
        ahead: OnceLock::new(),
    })
}

/// The folder at a path of a snapshot, as the root of the mount.
fn only(
    vault: &Vault,
    info: &crate::repo::snapshots::SnapshotInfo,
    path: &[u8],
) -> Result<Arc<Folder>, MountError> {
    let missing = || MountError::NoSuchFolder { path: bytes::display(path) };
    let shown = Arc::new(vault.show(info.clone(), info.hash.short()).ok_or_else(missing)?);
    let top = Folder::top(&shown, ROOT, ROOT, Vec::new());
    if path == b"/" {
        return Ok(top);
    }
    match users::walk(vault, &top, path)?.map(|child| child.target) {
        Some(Target::Folder(folder)) => Ok(folder.moved(ROOT, ROOT, Vec::new())),
        _ => Err(missing()),
    }
}

type Thread = JoinHandle<io::Result<()>>;

/// Mounts, and answers from then on.
fn serve(mounted: &Arc<Mounted>, options: &Options) -> Result<(Thread, SessionUnmounter), MountError> {
    let failed = |source: io::Error| {
        // What fusermount3 said ends with a line feed.
        let said = source.to_string();
        let source = match said.ends_with('\n') {
            true => io::Error::new(source.kind(), said.trim_end().to_owned()),
            false => source,
        };
        MountError::Mount { place: options.place.display().to_string(), source }
    };
    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::NoDev,
        MountOption::NoSuid,
        MountOption::FSName(NAME.to_owned()),
        MountOption::Subtype(NAME.to_owned()),
    ];
    if options.control.is_none() {
        config.mount_options.push(MountOption::RO);
    }
    if options.allow_other {
        config.mount_options.push(MountOption::DefaultPermissions);
        config.acl = SessionACL::All;
    }
    config.n_threads = Some(options.threads.max(1));
    let bridge = Bridge::new(Arc::clone(mounted), options.allow_other);
    let mut session = Session::new(bridge, &options.place, &config).map_err(failed)?;
    let ahead = Ahead::start(Arc::downgrade(mounted), session.notifier()).map_err(failed)?;
    drop(mounted.ahead.set(ahead));
    let unmounter = session.unmount_callable();
    let thread = std::thread::Builder::new().name("mount".to_owned()).spawn(move || session.run());
    if options.control.is_some() {
        seal(&options.place);
    }
    Ok((thread.map_err(failed)?, unmounter))
}

/// Makes the mount read-only, not the file system: of a read-only file system Dovecot thinks that mail can be written to
/// it, since it asks whether that is forbidden, and is told that it is impossible.
fn seal(place: &Path) {
    let flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NODEV | MountFlags::NOSUID;
    // Who may not do that is no root, and has no right to write to anything there.
    let _ = rustix::mount::mount_remount(place, flags, c"");
}

/// A mount that stands; gone when dropped.
struct Serving<'a> {
    thread: Option<Thread>,
    unmounter: SessionUnmounter,
    place: &'a Path,
}

impl Serving<'_> {
    fn is_over(&self) -> bool {
        self.thread.as_ref().is_none_or(Thread::is_finished)
    }

    /// Unmounts what is mounted still. Is it in use all the same?
    fn end(&mut self) -> Result<bool, MountError> {
        let failed = |source| MountError::Serve { place: self.place.display().to_string(), source };
        if !self.is_over() && self.unmounter.unmount().is_err() {
            // Somebody stands in it, or holds a file open: it goes out of sight, and ends with them or with us.
            rustix::mount::unmount(self.place, UnmountFlags::DETACH).map_err(|errno| failed(errno.into()))?;
        }
        let begun = clock::stopwatch();
        while !self.is_over() && begun.elapsed() < PATIENCE {
            std::thread::sleep(LOOK_EVERY);
        }
        if !self.is_over() {
            return Ok(true);
        }
        let outcome = self.thread.take().map(JoinHandle::join);
        match outcome {
            Some(Ok(Err(source))) => Err(failed(source)),
            Some(Err(_)) => Err(failed(io::Error::other("a thread ended by a fault of this program"))),
            Some(Ok(Ok(()))) | None => Ok(false),
        }
    }
}

impl Drop for Serving<'_> {
    fn drop(&mut self) {
        if self.thread.is_some() {
            drop(self.end());
        }
    }
}
