//! Trays: the folders that letters are put into. One that is there takes letters as mail programs bring them; one that
//! is not is made beside the others and moved to its place when it is complete, keywords and all.

use rustix::io::Errno;

use super::dirs::{self, Likeness, trouble};
use super::journal::Step;
use super::mailbox::{Folder, Mailbox};
use super::{Layout, Part, Result};
use crate::mail::keywords::Keywords;
use crate::mail::letter::split_flags;
use crate::mail::maildir;
use crate::source::dir::OpenDir;
use crate::source::problem::join;

/// Largest file of keywords or rights that is read, bytes.
const SMALL_BYTES_MAX: u64 = 1 << 20;

/// A folder that letters are put into.
#[derive(Debug, Clone)]
pub(super) struct Tray {
    /// As people call it.
    pub(super) text: String,
    /// Where it lies, or will, below the root of the mailbox.
    pub(super) path: Vec<u8>,
    /// It is being made beside the others.
    pub(super) is_staged: bool,
    /// This run makes it, or has made it.
    pub(super) is_own: bool,
    /// Keywords that letters can have.
    pub(super) keywords: Keywords,
    /// The keywords are ours to add to.
    pub(super) owns_keywords: bool,
    pub(super) like: Likeness,
    /// Its number among the folders whose messages are known.
    pub(super) known: usize,
}

/// Where staged trays of a run lie.
pub(super) fn staging(mailbox: &Mailbox, run: &str) -> Vec<u8> {
    mailbox.own_name(run)
}

/// Where a tray lies now, below the root.
pub(super) fn place(mailbox: &Mailbox, run: &str, number: usize, tray: &Tray) -> Vec<u8> {
    match tray.is_staged {
        true => join(&staging(mailbox, run), number.to_string().as_bytes()),
        false => tray.path.clone(),
    }
}

/// Keywords of a folder, and whether nobody else has named any there.
pub(super) fn keywords_of(mailbox: &Mailbox, path: &[u8]) -> Result<(Keywords, bool)> {
    let Some(control) = mailbox.control_of(path)? else { return Ok((Keywords::default(), true)) };
    let name = b"dovecot-keywords";
    let bytes = dirs::read_small(&control, name, SMALL_BYTES_MAX).map_err(trouble("read", &control, name))?;
    Ok(match bytes {
        Some(bytes) => (Keywords::parse(&bytes), false),
        None => (Keywords::default(), true),
    })
}

/// A tray for a folder that is there.
pub(super) fn open(mailbox: &Mailbox, folder: &Folder, known: usize) -> Result<Tray> {
    let dir = mailbox.open_folder(&folder.path)?;
    Ok(Tray {
        text: folder.text.clone(),
        path: folder.path.clone(),
        is_staged: false,
        is_own: false,
        keywords: keywords_of(mailbox, &folder.path)?.0,
        // Dovecot has the file's content in mind and would write it back.
        owns_keywords: false,
        like: Likeness::of(&dir).map_err(trouble("look at", &dir, b""))?,
        known,
    })
}

/// A tray that takes no letters.
pub(super) fn refused(mailbox: &Mailbox, folder: Folder, known: usize) -> Tray {
    Tray {
        text: folder.text,
        path: folder.path,
        is_staged: false,
        is_own: false,
        keywords: Keywords::default(),
        owns_keywords: false,
        like: mailbox.like,
        known,
    }
}

/// A tray for a folder that is not there yet; makes it beside the others, or takes up what an interrupted run made.
pub(super) fn stage(mailbox: &Mailbox, run: &str, number: usize, folder: &Folder) -> Result<Tray> {
    let like = mailbox.like;
    let name = staging(mailbox, run);
    let (own, _) = dirs::make(&mailbox.root, &name, like).map_err(trouble("create", &mailbox.root, &name))?;
    let name = number.to_string().into_bytes();
    let (dir, is_new) = dirs::make(&own, &name, like).map_err(trouble("create", &own, &name))?;
    for part in [&b"cur"[..], b"new", b"tmp"] {
        dirs::make(&dir, part, like).map_err(trouble("create", &dir, part))?;
    }
    if is_new {
        fill(mailbox, &dir, like)?;
    }
    let (mut keywords, mut owns_keywords) = keywords_of(mailbox, &folder.path)?;
    let kept = dirs::read_small(&dir, KEPT_KEYWORDS, SMALL_BYTES_MAX).map_err(trouble(
        "read",
        &dir,
        KEPT_KEYWORDS,
    ))?;
    if let Some(kept) = kept {
        (keywords, owns_keywords) = (Keywords::parse(&kept), true);
    }
    Ok(Tray {
        text: folder.text.clone(),
        path: folder.path.clone(),
        is_staged: true,
        is_own: true,
        keywords,
        owns_keywords,
        like,
        known: usize::MAX,
    })
}

/// Keywords of a staged tray while letters come.
const KEPT_KEYWORDS: &[u8] = b"dovecot-keywords";

/// What a new folder has beside mail.
fn fill(mailbox: &Mailbox, dir: &OpenDir, like: Likeness) -> Result<()> {
    let write = |name: &[u8], content: &[u8]| match dirs::write_small(dir, name, content, like) {
        Err(Errno::EXIST) => Ok(()),
        other => other.map_err(trouble("create", dir, name)),
    };
    if mailbox.layout == Layout::Maildir {
        write(b"maildirfolder", b"")?;
    }
    let name = b"dovecot-acl";
    // What cannot be read is passed over: nobody loses a right by that.
    if let Some(rights) = dirs::read_small(&mailbox.root, name, SMALL_BYTES_MAX).ok().flatten() {
        write(name, &rights)?;
    }
    Ok(())
}

impl Tray {
    /// The letters of keywords, sorted, and the names that have none here.
    pub(super) fn letters<'k>(&mut self, names: &'k [Option<Vec<u8>>]) -> (Vec<u8>, Vec<&'k [u8]>) {
        let (mut letters, mut left) = (Vec::new(), Vec::new());
        for name in names.iter().flatten() {
            let has_no_space = !name.is_empty() && name.iter().all(|byte| (0x21..0x7f).contains(byte));
            let letter = match self.owns_keywords && has_no_space {
                true => self.keywords.add(name),
                false => self.keywords.letter(name),
            };
            match letter {
                Some(letter) => letters.push(letter),
                None => left.push(name.as_slice()),
            }
        }
        letters.sort_unstable();
        letters.dedup();
        (letters, left)
    }

    /// Keeps the keywords of a staged tray on disk, so that the letters in its names mean something.
    pub(super) fn keep_keywords(&self, dir: &OpenDir) -> Result<()> {
        if !self.is_staged || !self.owns_keywords || self.keywords.is_empty() {
            return Ok(());
        }
        let (content, fresh) = (self.keywords.encode(), b"dovecot-keywords.mailark");
        let kept = dirs::read_small(dir, KEPT_KEYWORDS, SMALL_BYTES_MAX);
        if kept.is_ok_and(|kept| kept.as_ref() == Some(&content)) {
            return Ok(());
        }
        dirs::remove(dir, fresh)
            .and_then(|()| dirs::write_small(dir, fresh, &content, self.like))
            .and_then(|()| rustix::fs::renameat(dir.fd(), fresh.as_slice(), dir.fd(), KEPT_KEYWORDS))
            .map_err(trouble("write", dir, KEPT_KEYWORDS))
    }
}

/// Makes the folders of a path below `top`, all but the last, and gives the one above that.
pub(super) fn make_above(top: &OpenDir, path: &[u8], like: Likeness) -> Result<OpenDir> {
    let mut dir = dirs::open_below(top, b"").map_err(trouble("open", top, b""))?;
    let mut names: Vec<&[u8]> = path.split(|&byte| byte == b'/').collect();
    names.pop();
    for name in names {
        dir = dirs::make(&dir, name, like).map_err(trouble("create", &dir, name))?.0;
    }
    Ok(dir)
}

/// Opens a mail folder, making what is missing of it.
pub(super) fn make_folder(mailbox: &Mailbox, above: &OpenDir, name: &[u8]) -> Result<OpenDir> {
    if name.is_empty() {
        return dirs::open_below(above, b"").map_err(trouble("open", above, b""));
    }
    let like = mailbox.like;
    let (dir, is_new) = dirs::make(above, name, like).map_err(trouble("create", above, name))?;
    for part in [&b"cur"[..], b"new", b"tmp"] {
        dirs::make(&dir, part, like).map_err(trouble("create", &dir, part))?;
    }
    if is_new {
        fill(mailbox, &dir, like)?;
    }
    Ok(dir)
}

/// The last name of a path.
pub(super) fn last_name(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').next().unwrap_or(path)
}

/// Puts the keywords of a new folder where Dovecot looks for them, when that is elsewhere.
pub(super) fn move_keywords(mailbox: &Mailbox, path: &[u8], dir: &OpenDir) -> Result<()> {
    let Some(control) = mailbox.control() else { return Ok(()) };
    let kept = dirs::read_small(dir, KEPT_KEYWORDS, SMALL_BYTES_MAX);
    let Some(kept) = kept.map_err(trouble("read", dir, KEPT_KEYWORDS))? else { return Ok(()) };
    let like = Likeness::of(control).map_err(trouble("look at", control, b""))?;
    let above = make_above(control, path, like)?;
    let name = last_name(path);
    let (own, _) = dirs::make(&above, name, like).map_err(trouble("create", &above, name))?;
    match dirs::write_small(&own, KEPT_KEYWORDS, &kept, like) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(trouble("create", &own, KEPT_KEYWORDS)(errno)),
    }
    dirs::remove(dir, KEPT_KEYWORDS).map_err(trouble("remove", dir, KEPT_KEYWORDS))
}

/// Keywords that a folder does not know: base name and names.
pub(super) type Unknown = Vec<(Vec<u8>, Vec<Vec<u8>>)>;

/// What became of a staged tray.
#[derive(Debug)]
pub(super) enum Published {
    /// It is a folder now.
    New,
    /// Somebody made that folder meanwhile, and its letters were put there; keywords that it does not know.
    Merged(Unknown),
}

/// Moves a staged tray, complete, to its place; `note` writes that down first.
pub(super) fn publish(
    mailbox: &Mailbox,
    run: &str,
    (number, tray): (usize, &mut Tray),
    note: impl FnOnce(&Step) -> Result<()>,
) -> Result<Published> {
    let own = mailbox.open_folder(&staging(mailbox, run))?;
    let name = number.to_string().into_bytes();
    let dir = dirs::step(&own, &name).map_err(trouble("open", &own, &name))?;
    note(&Step::Published(number as u32))?;
    let above = make_above(&mailbox.root, &tray.path, tray.like)?;
    let last = last_name(&tray.path);
    if dirs::step(&above, last).is_err() {
        tray.keep_keywords(&dir)?;
        move_keywords(mailbox, &tray.path, &dir)?;
        dirs::sync(&dir).map_err(trouble("sync", &dir, b""))?;
    }
    let published = match dirs::move_new((&own, &name), (&above, last)) {
        Ok(()) => Published::New,
        Err(Errno::EXIST | Errno::NOTEMPTY) => Published::Merged(merge(mailbox, (&own, &name, &dir), tray)?),
        Err(errno) => return Err(trouble("move", &above, last)(errno)),
    };
    dirs::sync(&above).map_err(trouble("sync", &above, b""))?;
    tray.is_staged = false;
    Ok(published)
}

/// Puts the letters of a staged tray into the folder that has its name.
fn merge(
    mailbox: &Mailbox,
    (own, name, staged): (&OpenDir, &[u8], &OpenDir),
    tray: &mut Tray,
) -> Result<Unknown> {
    let (mut live, _) = keywords_of(mailbox, &tray.path)?;
    std::mem::swap(&mut live, &mut tray.keywords);
    tray.owns_keywords = false;
    let (ours, mut left) = (live, Vec::new());
    let folder = mailbox.open_folder(&tray.path)?;
    for part in [&b"cur"[..], b"new", b"tmp"] {
        // In LAYOUT=fs a folder that only holds others has none of them.
        dirs::make(&folder, part, tray.like).map_err(trouble("create", &folder, part))?;
    }
    for part in [Part::New, Part::Cur] {
        let from = dirs::step(staged, part.name()).map_err(trouble("open", staged, part.name()))?;
        let to = dirs::step(&folder, part.name()).map_err(trouble("open", &folder, part.name()))?;
        let (names, outcome) = from.names();
        outcome.map_err(trouble("list", &from, b""))?;
        for (_, old) in names {
            let parsed = maildir::parse(&old);
            let (flags, letters) = split_flags(parsed.flags.unwrap_or_default());
            let keywords: Vec<_> =
                letters.iter().map(|&letter| ours.name(letter).map(<[u8]>::to_vec)).collect();
            let (letters, unknown) = tray.letters(&keywords);
            let new = match parsed.flags {
                None => old.to_vec(),
                Some(_) => [&old[..parsed.base.len() + 3], &flags, &letters].concat(),
            };
            if !unknown.is_empty() {
                left.push((parsed.base.to_vec(), unknown.into_iter().map(<[u8]>::to_vec).collect()));
            }
            dirs::move_new((&from, &old), (&to, &new)).map_err(trouble("move", &to, &new))?;
        }
        dirs::sync(&to).map_err(trouble("sync", &to, b""))?;
    }
    discard(own, name)?;
    Ok(left)
}

/// Removes a folder of ours that holds no mail.
pub(super) fn discard(above: &OpenDir, name: &[u8]) -> Result<()> {
    let dir = dirs::step(above, name).map_err(trouble("open", above, name))?;
    for part in [&b"cur"[..], b"new", b"tmp"] {
        dirs::remove_folder(&dir, part).map_err(trouble("remove", &dir, part))?;
    }
    for file in [&b"maildirfolder"[..], b"dovecot-acl", KEPT_KEYWORDS] {
        dirs::remove(&dir, file).map_err(trouble("remove", &dir, file))?;
    }
    dirs::remove_folder(above, name).map(drop).map_err(trouble("remove", above, name))
}
