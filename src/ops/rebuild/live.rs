//! What lies in a Maildir now.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use super::RebuildError;
use super::dirs::{self, open_below, open_root, read_file};
use super::room::numbers_of;
use crate::mail::folder_name::Layout;
use crate::mail::maildir;
use crate::mail::templates::folder_name;
use crate::mail::uidlist::Uidlist;
use crate::source::dir::OpenDir;

/// Largest `dovecot-uidlist` that is read.
const LIST_BYTES_MAX: u64 = 512 << 20;

/// A folder of a live Maildir.
#[derive(Debug, Default)]
pub struct LiveFolder {
    /// UIDVALIDITY and next UID; `None` when no mail server has opened it.
    pub numbers: Option<(u32, u32)>,
    /// UIDs between the highest that a message has and the next one.
    pub unused: u32,
    /// Base names of its messages.
    pub bases: HashSet<Vec<u8>>,
}

/// A Maildir as it is before a rebuild.
#[derive(Debug, Default)]
pub struct Live {
    /// Where it lies.
    pub path: PathBuf,
    /// Nothing is there yet, or an empty folder.
    pub is_empty: bool,
    /// Its folders, by name.
    pub folders: BTreeMap<String, LiveFolder>,
}

/// Deepest nesting of folders that are looked at.
const DEPTH_MAX: usize = 32;

/// The two folders of messages.
pub(super) const PARTS: [&[u8]; 2] = [b"cur", b"new"];

impl Live {
    /// Looks at a place.
    pub fn look(path: &Path, layout: Layout) -> Result<Live, RebuildError> {
        let mut live = Live { path: path.to_owned(), is_empty: true, folders: BTreeMap::new() };
        let Some(root) = open_root(path)? else { return Ok(live) };
        let there = dirs::names(&root)?;
        if there.is_empty() {
            return Ok(live);
        }
        live.is_empty = false;
        let shown = || path.display().to_string();
        if !is_mail(&root) {
            return Err(RebuildError::NotAMaildir { path: shown() });
        }
        let mail = |dotted: bool| {
            let mut named = there.iter().filter(|name| name.starts_with(b".") == dotted);
            named.any(|name| matches!(open_below(&root, std::slice::from_ref(name)), Ok(Some(dir)) if is_mail(&dir)))
        };
        let (dotted, plain) = (mail(true), mail(false));
        if (layout == Layout::PlusPlus && plain && !dotted) || (layout == Layout::Fs && dotted && !plain) {
            return Err(RebuildError::Layout { path: shown() });
        }
        live.folders.insert("INBOX".to_owned(), LiveFolder::look(&root)?);
        live.add_below(&root, &[], layout)?;
        Ok(live)
    }

    fn add_below(&mut self, dir: &OpenDir, above: &[Vec<u8>], layout: Layout) -> Result<(), RebuildError> {
        for name in dirs::names(dir)? {
            let is_folder = match layout {
                Layout::PlusPlus => name.starts_with(b"."),
                Layout::Fs => !name.starts_with(b".") && !PARTS.contains(&name.as_slice()) && name != b"tmp",
            };
            // What cannot be opened as a folder is none.
            let Some(below) =
                is_folder.then(|| open_below(dir, std::slice::from_ref(&name)).ok().flatten()).flatten()
            else {
                continue;
            };
            let path: Vec<Vec<u8>> = above.iter().cloned().chain([name]).collect();
            if is_mail(&below) {
                let name = folder_name(&path.join(&b'/'));
                self.folders.insert(name, LiveFolder::look(&below)?);
            }
            if layout == Layout::Fs && path.len() < DEPTH_MAX {
                self.add_below(&below, &path, layout)?;
            }
        }
        Ok(())
    }

    /// The folders in which a message lies now, but for one of them.
    pub fn elsewhere<'l>(
        &'l self,
        base: &'l [u8],
        folder: &'l str,
    ) -> impl Iterator<Item = &'l str> + use<'l> {
        let others = self.folders.iter().filter(move |(name, _)| name.as_str() != folder && !base.is_empty());
        others.filter(move |(_, live)| live.bases.contains(base)).map(|(name, _)| name.as_str())
    }
}

/// Does a folder hold messages?
fn is_mail(dir: &OpenDir) -> bool {
    PARTS.iter().any(|part| matches!(open_below(dir, &[part.to_vec()]), Ok(Some(_))))
}

impl LiveFolder {
    /// Its numbers alone.
    pub(super) fn numbers(dir: &OpenDir) -> Result<LiveFolder, RebuildError> {
        let bytes = read_file(dir, b"dovecot-uidlist", LIST_BYTES_MAX)?;
        let numbers = bytes.as_deref().and_then(numbers_of);
        let highest = bytes.as_deref().and_then(Uidlist::parse).map_or(0, |list| list.highest_uid());
        let unused = numbers.map_or(0, |(_, next)| next.saturating_sub(highest.saturating_add(1)));
        Ok(LiveFolder { numbers, unused, bases: HashSet::new() })
    }

    fn look(dir: &OpenDir) -> Result<LiveFolder, RebuildError> {
        let mut bases = HashSet::new();
        // Mail moves from `new` to `cur`: what is looked for in `new` first is found in one of them.
        for part in PARTS.iter().rev() {
            if let Some(messages) = open_below(dir, &[part.to_vec()])? {
                bases.extend(dirs::names(&messages)?.iter().map(|name| maildir::base(name).to_vec()));
            }
        }
        Ok(LiveFolder { bases, ..LiveFolder::numbers(dir)? })
    }
}
