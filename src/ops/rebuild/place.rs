//! Putting folders that were written aside into the place of live ones, under a mail server that may be running.

use std::collections::BTreeSet;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::dirs::{
    exchange, move_away, move_new, names, open_below, open_root, read_file, remove, sync, trouble, write_file,
};
use super::live::PARTS;
use super::{LiveFolder, RebuildError};
use crate::base::bytes;
use crate::mail::folder_name::{Layout, to_maildir};
use crate::mail::keywords::Keywords;
use crate::mail::letter::split_flags;
use crate::mail::maildir;
use crate::source::dir::OpenDir;
use rustix::io::Errno;

/// What happens to a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// It is not there: it comes as it was.
    New,
    /// It is there with the same UIDVALIDITY: it gets back the messages that it lacks, as new mail.
    Merge,
    /// It is there with another UIDVALIDITY, or none: it goes aside, and what only it holds comes back as new mail.
    Replace,
}

impl Way {
    /// The way of a folder of this UIDVALIDITY.
    pub fn of(validity: Option<u32>, live: Option<&LiveFolder>) -> Way {
        match (live, validity) {
            (None, _) => Way::New,
            // Without UIDs in the snapshot there is nothing that the live list could contradict.
            (Some(_), None) => Way::Merge,
            (Some(live), Some(validity)) => match live.numbers {
                Some((own, _)) if own == validity => Way::Merge,
                _ => Way::Replace,
            },
        }
    }
}

/// What was done.
#[derive(Debug, Default)]
pub struct Placed {
    /// Messages that only the live folders held and that came back as new mail.
    pub live_only: u64,
    /// Messages of the snapshot that live folders got back.
    pub merged: u64,
    /// Names of keywords that a live folder does not know: messages came back without them.
    pub keywords_missing: BTreeSet<String>,
    /// Where the live folders went that were replaced.
    pub aside: Option<PathBuf>,
}

/// Files of a folder that name its messages by number; they go with the list.
const INDEXES: [&[u8]; 5] = [
    b"dovecot.index",
    b"dovecot.index.log",
    b"dovecot.index.log.2",
    b"dovecot.index.cache",
    b"dovecot.index.backup",
];
const LIST: &[u8] = b"dovecot-uidlist";
const LOCK: &[u8] = b"dovecot-uidlist.lock";
const KEYWORDS: &[u8] = b"dovecot-keywords";
const SUBSCRIPTIONS: &[u8] = b"subscriptions";
/// Largest small file that is read.
const SMALL_BYTES_MAX: u64 = 4 << 20;
/// So often, a tenth of a second apart, the lock of a folder is tried.
const LOCK_TRIES: u32 = 100;

/// Where the folders of a rebuild are written before they take their place.
pub fn stage_path(live: &Path, mark: &str) -> PathBuf {
    beside(live, &format!("mailark-{mark}"))
}

fn beside(live: &Path, end: &str) -> PathBuf {
    let mut name = live.as_os_str().to_owned();
    name.push(".");
    name.push(end);
    PathBuf::from(name)
}

/// A folder that was written, and what was known when it was.
#[derive(Debug, Clone)]
pub struct Staged {
    /// As people call it.
    pub name: String,
    /// Its UIDVALIDITY.
    pub validity: Option<u32>,
    /// With [`Way::Merge`] it holds only what the live folder lacked.
    pub way: Way,
}

/// Makes the folders above a place that are not there, for an owner.
pub fn make_above(place: &Path, uid: u32, gid: u32) -> Result<(), RebuildError> {
    let above = place.ancestors().skip(1).filter(|path| !path.as_os_str().is_empty());
    let missing: Vec<&Path> = above.take_while(|path| !path.exists()).collect();
    for path in missing.into_iter().rev() {
        let io = |error| RebuildError::Io { action: "make", path: path.display().to_string(), error };
        std::fs::DirBuilder::new().mode(0o700).create(path).map_err(io)?;
        // Only root can give folders away; whoever else writes here owns the mail.
        std::os::unix::fs::lchown(path, Some(uid), Some(gid)).ok();
    }
    Ok(())
}

/// Puts `stage` where nothing lies, in one step; false when something lies there by now.
pub fn put_whole(stage: &Path, place: &Path) -> Result<bool, RebuildError> {
    match rustix::fs::rename(stage, place) {
        Ok(()) => Ok(true),
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
        Err(errno) => {
            let path = place.display().to_string();
            Err(RebuildError::Io { action: "rename the new Maildir to", path, error: errno.into() })
        }
    }
}

/// Brings all folders from `stage` into the live Maildir; `aside` names what was moved away, such as a date.
pub fn place(
    stage: &Path,
    live: &Path,
    layout: Layout,
    folders: &[Staged],
    aside: &str,
) -> Result<Placed, RebuildError> {
    let open = |path: &Path| {
        let missing = || RebuildError::Io {
            action: "open",
            path: path.display().to_string(),
            error: std::io::ErrorKind::NotFound.into(),
        };
        open_root(path)?.ok_or_else(missing)
    };
    let (from, to) = (open(stage)?, open(live)?);
    let mut placed = Placed::default();
    let mut ways = Vec::new();
    for staged in folders {
        let path = to_maildir(&staged.name, layout);
        let way = way_now(&to, staged, &path)?;
        match way {
            Way::New => place_new(&from, &to, &path)?,
            Way::Merge => merge(&from, &to, &path, &mut placed)?,
            Way::Replace => replace(&from, &to, &path, &mut placed)?,
        }
        ways.push((path, way));
    }
    subscribe(&from, &to)?;
    // The quota is counted anew.
    remove(&to, b"maildirsize")?;
    sync(&to)?;
    let io = |action, error| RebuildError::Io { action, path: stage.display().to_string(), error };
    if ways.iter().any(|(_, way)| *way == Way::Replace) {
        for (path, _) in ways.iter().filter(|(_, way)| *way == Way::Merge) {
            drop_stage_folder(stage, path).map_err(|error| io("clear away", error))?;
        }
        let aside = beside(live, &format!("before-{aside}"));
        std::fs::rename(stage, &aside).map_err(|error| io("rename", error))?;
        placed.aside = Some(aside);
    } else {
        std::fs::remove_dir_all(stage).map_err(|error| io("clear away", error))?;
    }
    Ok(placed)
}

/// The way of a folder as it is at this moment: a mail server may have made it since it was looked at.
fn way_now(to: &OpenDir, staged: &Staged, path: &[Vec<u8>]) -> Result<Way, RebuildError> {
    let live = open_below(to, path)?.map(|dir| LiveFolder::numbers(&dir)).transpose()?;
    let way = Way::of(staged.validity, live.as_ref());
    if staged.way == Way::Merge && way != Way::Merge {
        return Err(RebuildError::Changed { folder: staged.name.clone() });
    }
    Ok(way)
}

fn drop_stage_folder(stage: &Path, names: &[Vec<u8>]) -> std::io::Result<()> {
    use std::os::unix::ffi::OsStrExt;
    if names.is_empty() {
        // The INBOX is the stage itself: only what was written for it goes.
        for part in [&b"cur"[..], b"new", LIST, KEYWORDS] {
            let path = stage.join(std::ffi::OsStr::from_bytes(part));
            let gone =
                if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
            gone.or_else(
                |error| if error.kind() == std::io::ErrorKind::NotFound { Ok(()) } else { Err(error) },
            )?;
        }
        return Ok(());
    }
    let path = names.iter().fold(stage.to_owned(), |path, name| path.join(std::ffi::OsStr::from_bytes(name)));
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        gone => gone,
    }
}

/// A folder that is not there comes as a whole, with those on the way to it that are not there either.
fn place_new(from: &OpenDir, to: &OpenDir, path: &[Vec<u8>]) -> Result<(), RebuildError> {
    for depth in 0..path.len() {
        if open_below(to, &path[..=depth])?.is_some() {
            continue;
        }
        let (Some(source), Some(parent)) =
            (open_below(from, &path[..depth])?, open_below(to, &path[..depth])?)
        else {
            return Ok(());
        };
        move_new(&source, &path[depth], &parent, &path[depth])?;
        return sync(&parent);
    }
    Ok(())
}

fn messages(dir: &OpenDir, part: &[u8]) -> Result<Option<OpenDir>, RebuildError> {
    open_below(dir, &[part.to_vec()])
}

/// The name of a message under the letters of another folder's keywords.
fn renamed(name: &[u8], from: &Keywords, to: &Keywords, missing: &mut BTreeSet<String>) -> Vec<u8> {
    let parsed = maildir::parse(name);
    let Some(flags) = parsed.flags else { return name.to_vec() };
    let (flags, letters) = split_flags(flags);
    let mut mapped: Vec<u8> = Vec::new();
    for keyword in letters.iter().filter_map(|&letter| from.name(letter)) {
        match to.letter(keyword) {
            Some(letter) => mapped.push(letter),
            None => drop(missing.insert(bytes::display(keyword))),
        }
    }
    mapped.sort_unstable();
    [parsed.base, b":2,", &flags, &mapped].concat()
}

fn keywords_of(dir: &OpenDir) -> Result<Keywords, RebuildError> {
    let content = read_file(dir, KEYWORDS, SMALL_BYTES_MAX)?;
    Ok(content.map(|content| Keywords::parse(&content)).unwrap_or_default())
}

/// Moves the messages of one folder into another, those whose base name is there stay behind.
fn bring(
    (from, own): (&OpenDir, &Keywords),
    (to, theirs): (&OpenDir, &Keywords),
    missing: &mut BTreeSet<String>,
) -> Result<u64, RebuildError> {
    let mut there = BTreeSet::new();
    for part in PARTS.iter().rev() {
        if let Some(dir) = messages(to, part)? {
            there.extend(names(&dir)?.iter().map(|name| maildir::base(name).to_vec()));
        }
    }
    let mut moved = 0;
    for part in PARTS {
        let (Some(source), Some(target)) = (messages(from, part)?, messages(to, part)?) else { continue };
        for name in names(&source)? {
            if name.starts_with(b".") || there.contains(maildir::base(&name)) {
                continue;
            }
            let as_name = renamed(&name, own, theirs, missing);
            moved += u64::from(move_new(&source, &name, &target, &as_name)?);
        }
        sync(&target)?;
    }
    Ok(moved)
}

fn merge(from: &OpenDir, to: &OpenDir, path: &[Vec<u8>], placed: &mut Placed) -> Result<(), RebuildError> {
    let (Some(source), Some(target)) = (open_below(from, path)?, open_below(to, path)?) else {
        return Ok(());
    };
    // The list and the keywords of a live folder are its server's.
    let (own, theirs) = (keywords_of(&source)?, keywords_of(&target)?);
    placed.merged += bring((&source, &own), (&target, &theirs), &mut placed.keywords_missing)?;
    Ok(())
}

fn replace(from: &OpenDir, to: &OpenDir, path: &[Vec<u8>], placed: &mut Placed) -> Result<(), RebuildError> {
    let (Some(source), Some(target)) = (open_below(from, path)?, open_below(to, path)?) else {
        return Ok(());
    };
    // Their names are there before their messages come.
    let (mut own, theirs) = (keywords_of(&source)?, keywords_of(&target)?);
    let before = own.clone();
    for (_, name) in theirs.iter() {
        own.add(name);
    }
    if own != before {
        remove(&source, KEYWORDS)?;
        write_file(&source, KEYWORDS, &own.encode(), None)?;
    }
    let lock = Lock::take(&target)?;
    for name in INDEXES {
        move_away(&target, name, &source, name)?;
    }
    // The list is last: whoever ends us before leaves the live numbering, and the next rebuild replaces all again.
    PARTS.iter().try_for_each(|part| exchange(&source, &target, part))?;
    exchange(&source, &target, KEYWORDS)?;
    exchange(&source, &target, LIST)?;
    sync(&target)?;
    // What was there, and what came until this moment, lies in the other folder now.
    placed.live_only += bring((&source, &theirs), (&target, &own), &mut placed.keywords_missing)?;
    drop(lock);
    sync(&source)
}

/// Keeps Dovecot from renaming files of a folder.
struct Lock<'d>(&'d OpenDir);

impl<'d> Lock<'d> {
    fn take(dir: &'d OpenDir) -> Result<Lock<'d>, RebuildError> {
        let content = format!("{}:mailark", std::process::id());
        for _ in 0..LOCK_TRIES {
            match write_file(dir, LOCK, content.as_bytes(), None) {
                Ok(()) => return Ok(Lock(dir)),
                Err(RebuildError::Io { error, .. }) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                    std::thread::sleep(Duration::from_millis(100));
                }
                Err(error) => return Err(error),
            }
        }
        let RebuildError::Io { path, .. } = trouble("lock", dir, LOCK)(Errno::EXIST) else {
            return Err(RebuildError::Locked { path: String::new() });
        };
        Err(RebuildError::Locked { path })
    }
}

impl Drop for Lock<'_> {
    fn drop(&mut self) {
        // One that cannot be removed goes by itself: Dovecot breaks locks that are old.
        remove(self.0, LOCK).ok();
    }
}

/// Adds the subscriptions of the snapshot that the live file lacks.
fn subscribe(from: &OpenDir, to: &OpenDir) -> Result<(), RebuildError> {
    let Some(own) = read_file(from, SUBSCRIPTIONS, SMALL_BYTES_MAX)? else { return Ok(()) };
    let Some(live) = read_file(to, SUBSCRIPTIONS, SMALL_BYTES_MAX)? else {
        move_new(from, SUBSCRIPTIONS, to, SUBSCRIPTIONS)?;
        return Ok(());
    };
    let Some(merged) = with_subscriptions(&live, &own) else { return Ok(()) };
    let name = b".mailark-subscriptions";
    remove(to, name)?;
    write_file(to, name, &merged, Some(SUBSCRIPTIONS))?;
    move_away(to, name, to, SUBSCRIPTIONS).map(drop)
}

/// The lines of both files; `None` when the first holds them all, or they are written in different ways.
fn with_subscriptions(live: &[u8], own: &[u8]) -> Option<Vec<u8>> {
    let header = |lines: &[u8]| lines.starts_with(b"V\t");
    if header(live) != header(own) {
        return None;
    }
    let lines = |text| -> BTreeSet<&[u8]> { <[u8]>::split(text, |&byte| byte == b'\n').collect() };
    let there = lines(live);
    let missing: Vec<&[u8]> = own.split(|&byte| byte == b'\n').filter(|line| !there.contains(line)).collect();
    if missing.is_empty() {
        return None;
    }
    let mut merged = live.to_vec();
    if !merged.is_empty() && !merged.ends_with(b"\n") {
        merged.push(b'\n');
    }
    for line in missing {
        merged.extend_from_slice(line);
        merged.push(b'\n');
    }
    Some(merged)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differing_numberings_are_never_mixed() {
        let live = |numbers| LiveFolder { numbers, ..LiveFolder::default() };
        assert_eq!(Way::of(Some(7), None), Way::New);
        assert_eq!(Way::of(Some(7), Some(&live(Some((7, 3))))), Way::Merge);
        assert_eq!(Way::of(Some(7), Some(&live(Some((8, 3))))), Way::Replace);
        assert_eq!(Way::of(Some(7), Some(&live(None))), Way::Replace);
        assert_eq!(Way::of(None, Some(&live(Some((8, 3))))), Way::Merge);
    }

    #[test]
    fn letters_follow_the_names_of_keywords() {
        let (from, to) = (Keywords::parse(b"0 work\n1 home\n2 rare\n"), Keywords::parse(b"0 home\n3 Work\n"));
        let mut missing = BTreeSet::new();
        assert_eq!(renamed(b"1.M1.mx:2,FSabc", &from, &to, &mut missing), b"1.M1.mx:2,FSad");
        assert_eq!(renamed(b"1.M1.mx", &from, &to, &mut missing), b"1.M1.mx");
        assert_eq!(missing.into_iter().collect::<Vec<_>>(), ["rare"]);
    }

    #[test]
    fn subscriptions_are_added_and_none_goes() {
        let merged = |live: &str, own: &str| {
            with_subscriptions(live.as_bytes(), own.as_bytes()).map(|text| String::from_utf8(text).unwrap())
        };
        assert_eq!(merged("a\nb\n", "b\nc\n").as_deref(), Some("a\nb\nc\n"));
        assert_eq!(merged("V\t2\n\nA", "V\t2\n\nB\n").as_deref(), Some("V\t2\n\nA\nB\n"));
        assert_eq!(merged("a\n", "a\n"), None);
        assert_eq!(merged("a\n", "V\t2\n\nb\n"), None);
    }
}
