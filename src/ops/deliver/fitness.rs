//! Whether a folder can take letters: one that cannot is told by name, and the others get theirs.

use rustix::io::Errno;

use super::dirs::{self, Likeness, trouble};
use super::mailbox::{Folder, Mailbox};
use super::post::Post;
use super::trays;
use super::{DeliverError, Result};
use crate::base::causes::told;
use crate::source::dir::OpenDir;

/// Makes `new` and `tmp` where they are missing, like `cur`: mail programs do, too.
pub(super) fn complete(folder: &OpenDir) -> Result<()> {
    let cur = dirs::step(folder, b"cur").map_err(trouble("open", folder, b"cur"))?;
    let like = Likeness::of(&cur).map_err(trouble("look at", &cur, b""))?;
    for part in [&b"new"[..], b"tmp"] {
        dirs::make(folder, part, like).map_err(trouble("create", folder, part))?;
    }
    Ok(())
}

/// Can the parts of a folder be used, or made?
fn look_at_parts(folder: &OpenDir) -> Result<()> {
    for part in [&b"cur"[..], b"new", b"tmp"] {
        match dirs::step(folder, part) {
            Err(Errno::NOENT) => {}
            opened => drop(opened.map_err(trouble("open", folder, part))?),
        }
    }
    Ok(())
}

/// Is the place of a folder that is to be made free, or held by folders alone?
fn look_at_place(mailbox: &Mailbox, path: &[u8]) -> Result<()> {
    let mut dir = mailbox.open_folder(b"")?;
    for name in path.split(|&byte| byte == b'/') {
        dir = match dirs::step(&dir, name) {
            Ok(below) => below,
            Err(Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(trouble("open", &dir, name)(errno)),
        };
    }
    look_at_parts(&dir)
}

impl Post {
    /// Why a folder can take no letters; it is looked at once, and what little is missing of it is made.
    ///
    /// # Errors
    /// A disk that is full.
    pub(super) fn refusal(&mut self, target: &str) -> Result<Option<String>> {
        if let Some(known) = self.looked_at.get(target) {
            return Ok(known.clone());
        }
        let refusal = match self.look_at(target) {
            Ok(refusal) => refusal.map(str::to_owned),
            Err(error) if error.is_full() => return Err(error),
            Err(error) => Some(told(&error)),
        };
        let refusal = refusal.map(|why| format!("folder {target}: {why}"));
        self.looked_at.insert(target.to_owned(), refusal.clone());
        Ok(refusal)
    }

    fn look_at(&self, target: &str) -> Result<Option<&'static str>> {
        let path = match self.mailbox.find(target) {
            Some(folder) => folder.path.clone(),
            None => match self.mailbox.path_for(target) {
                Ok(path) => path,
                Err(why) => return Ok(Some(why)),
            },
        };
        let number = self.known.folders.iter().position(|known| known.path == path);
        if number.is_some_and(|number| self.known.broken.iter().any(|(broken, _)| *broken == number)) {
            return Ok(Some("it cannot be read"));
        }
        if self.mailbox.folders.iter().any(|there| there.path == path) {
            let folder = self.mailbox.open_folder(&path)?;
            look_at_parts(&folder)?;
            if !self.options.dry_run {
                complete(&folder)?;
            }
        } else {
            look_at_place(&self.mailbox, &path)?;
        }
        trays::keywords_of(&self.mailbox, &path)?;
        Ok(None)
    }

    /// Notes that a folder takes no letters any more.
    pub(super) fn refuse(&mut self, target: &str, error: &DeliverError) {
        let why = format!("folder {target}: {}", told(error));
        self.report.problem(why.clone());
        self.looked_at.insert(target.to_owned(), Some(why));
    }

    /// Takes a folder of an interrupted run for one that takes no letters; its number stays.
    pub(super) fn add_refused(&mut self, folder: Folder, error: &DeliverError) -> usize {
        self.refuse(&folder.text, error);
        let known = self.known.add_folder(folder.path.clone(), folder.text.clone());
        self.add_tray(trays::refused(&self.mailbox, folder, known))
    }
}
