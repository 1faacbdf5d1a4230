//! Entries without content: symbolic links, hard links, FIFOs, devices.

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, linkat, makedev, mknodat, renameat, symlinkat, unlinkat};
use rustix::io::Errno;

use super::attributes::Attributes;
use super::folder::Folder;
use super::summary::Count;
use super::{Overwrite, Result, Target, check_name, temporary_name};
use crate::source::meta::{self, Kind, Meta};

/// What became of an entry without content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Made {
    /// It is there as in the snapshot.
    Done,
    /// What had its name stayed.
    Kept,
    /// It belongs to the system, or only a program can make it; counted.
    LeftOut,
}

/// What became of a hard link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Linked {
    /// Both names are one file.
    Done,
    /// What had its name stayed.
    Kept,
    /// The system does not link these: restore this name as a file of its own.
    Refused,
}

/// Looks at a name; `None` when nobody has it.
pub(super) fn look(dir: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<Option<(Kind, Meta)>> {
    match meta::of_entry(dir, name) {
        Ok((kind, meta)) => Ok(Some((kind.unwrap_or(Kind::Socket), meta))),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Where an entry was made: under its name, or beside it until it takes the place of what has the name.
struct Placed<'name> {
    temporary: Option<Vec<u8>>,
    name: &'name [u8],
}

impl Placed<'_> {
    fn at(&self) -> &[u8] {
        self.temporary.as_deref().unwrap_or(self.name)
    }

    fn settle(&mut self, dir: &OwnedFd) -> rustix::io::Result<()> {
        let Some(temporary) = &self.temporary else { return Ok(()) };
        let renamed = renameat(dir, temporary.as_slice(), dir, self.name);
        // Two names of one file: the system leaves both. And after an error, nothing may be left behind.
        match unlinkat(dir, temporary.as_slice(), AtFlags::empty()) {
            Err(errno) if errno != Errno::NOENT => renamed.and(Err(errno)),
            _ => renamed,
        }
    }
}

impl Target {
    /// Makes an entry by `create` under its name or, when that is taken and to be replaced, beside it.
    fn place<'name>(
        &self,
        (dir, folder): (&OwnedFd, &Folder),
        name: &'name [u8],
        is_same: impl Fn(&Kind, &Meta) -> bool,
        create: impl Fn(&[u8]) -> rustix::io::Result<()>,
    ) -> Result<std::result::Result<Option<Placed<'name>>, Errno>> {
        match create(name) {
            Ok(()) => return Ok(Ok(Some(Placed { temporary: None, name }))),
            Err(Errno::EXIST) => {}
            Err(errno) => return Ok(Err(errno)),
        }
        if let Some((kind, meta)) = look(dir.as_fd(), name).map_err(self.io("look at", folder, name))? {
            let same = self.options.overwrite == Overwrite::IfChanged && is_same(&kind, &meta);
            if same || self.options.overwrite == Overwrite::Never {
                self.tally.add(Count::Kept);
                return Ok(Ok(None));
            }
            if kind == Kind::Directory {
                return Err(self.in_the_way(folder, name, &kind));
            }
        }
        let temporary = temporary_name();
        Ok(create(&temporary).map(|()| Some(Placed { temporary: Some(temporary), name })))
    }

    /// Makes a symbolic link, FIFO, device or socket.
    ///
    /// # Errors
    /// Also for [`Kind::File`] and [`Kind::Directory`], which have functions of their own.
    pub fn make_node(
        &self,
        folder: &Folder,
        name: &[u8],
        kind: &Kind,
        attributes: &Attributes,
    ) -> Result<Made> {
        check_name(name)?;
        let trouble = self.io("create", folder, name);
        let dir = self.open.get(&self.beneath, folder)?;
        let (file_type, device) = match kind {
            Kind::Symlink(_) => (FileType::Symlink, 0),
            Kind::Fifo => (FileType::Fifo, 0),
            Kind::Socket => {
                self.tally.note(Count::SocketsLeftOut, || format!("{}: socket left out", folder.shown(name)));
                return Ok(Made::LeftOut);
            }
            Kind::CharDevice { .. } | Kind::BlockDevice { .. } if !self.options.system => {
                self.tally.note(Count::DevicesLeftOut, || format!("{}: device left out", folder.shown(name)));
                return Ok(Made::LeftOut);
            }
            Kind::CharDevice { major, minor } => (FileType::CharacterDevice, makedev(*major, *minor)),
            Kind::BlockDevice { major, minor } => (FileType::BlockDevice, makedev(*major, *minor)),
            Kind::File | Kind::Directory => return Err(trouble(Errno::INVAL)),
        };
        let create = |at: &[u8]| match kind {
            Kind::Symlink(target) => symlinkat(&**target, &*dir, at),
            _ => mknodat(&*dir, at, file_type, Mode::RUSR | Mode::WUSR, device),
        };
        let placed = self.place((&dir, folder), name, |there, _| there == kind, create)?;
        let Some(mut placed) = placed.map_err(&trouble)? else { return Ok(Made::Kept) };
        let outcome = self.set_on_node(&dir, placed.at(), (folder, name), kind, attributes);
        if outcome.is_err() && placed.temporary.is_some() {
            unlinkat(&*dir, placed.at(), AtFlags::empty()).ok();
        }
        outcome?;
        placed.settle(&dir).map_err(trouble)?;
        Ok(Made::Done)
    }

    fn set_on_node(
        &self,
        dir: &OwnedFd,
        at: &[u8],
        entry: (&Folder, &[u8]),
        kind: &Kind,
        attributes: &Attributes,
    ) -> Result<()> {
        if let Kind::Symlink(_) = kind {
            return self.set_on_link(dir.as_fd(), at, entry, attributes);
        }
        let trouble = self.io("set attributes of", entry.0, entry.1);
        let held = self
            .beneath
            .open(dir.as_fd(), at, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .map_err(&trouble)?;
        // Somebody may have put another thing there since: that one keeps its attributes.
        match look_held(&held).map_err(&trouble)? {
            there if there == *kind => self.set_on_special(&held, entry, attributes),
            _ => Err(trouble(Errno::STALE)),
        }
    }

    /// Makes `name` another name of a file that this restore has finished.
    pub fn link(&self, folder: &Folder, name: &[u8], first: (&Folder, &[u8])) -> Result<Linked> {
        check_name(name)?;
        check_name(first.1)?;
        let from = self.open.get(&self.beneath, first.0)?;
        let dir = self.open.get(&self.beneath, folder)?;
        let trouble = self.io("link", folder, name);
        let Some((Kind::File, origin)) = look(from.as_fd(), first.1).map_err(&trouble)? else {
            return Ok(Linked::Refused);
        };
        let create = |at: &[u8]| linkat(&*from, first.1, &*dir, at, AtFlags::empty());
        let is_same = |kind: &Kind, meta: &Meta| *kind == Kind::File && meta.key() == origin.key();
        match self.place((&dir, folder), name, is_same, create)? {
            Ok(Some(mut placed)) => placed.settle(&dir).map(|()| Linked::Done).map_err(trouble),
            Ok(None) => Ok(Linked::Kept),
            Err(
                Errno::XDEV | Errno::MLINK | Errno::PERM | Errno::OPNOTSUPP | Errno::NOENT | Errno::ACCESS,
            ) => Ok(Linked::Refused),
            Err(errno) => Err(trouble(errno)),
        }
    }
}

fn look_held(held: &OwnedFd) -> rustix::io::Result<Kind> {
    let stat = rustix::fs::fstat(held)?;
    let (major, minor) = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
    Ok(match FileType::from_raw_mode(stat.st_mode) {
        FileType::Fifo => Kind::Fifo,
        FileType::CharacterDevice => Kind::CharDevice { major, minor },
        FileType::BlockDevice => Kind::BlockDevice { major, minor },
        FileType::Directory => Kind::Directory,
        FileType::Socket => Kind::Socket,
        _ => Kind::File,
    })
}
