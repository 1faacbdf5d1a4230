//! What lies in a Maildir now.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use super::RebuildError;
use super::dirs::{self, open_below, open_root, read_file};
use super::room::numbers_of;
use crate::mail::folder_name::{Layout, to_maildir};
use crate::mail::maildir;
use crate::source::dir::OpenDir;

/// Largest `dovecot-uidlist` that is read.
const LIST_BYTES_MAX: u64 = 512 << 20;

/// A folder of a live Maildir.
#[derive(Debug, Default)]
pub struct LiveFolder {
    /// UIDVALIDITY and next UID; `None` when no mail server has opened it.
    pub numbers: Option<(u32, u32)>,
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
    /// Those of the wanted folders that are there, by name.
    pub folders: BTreeMap<String, LiveFolder>,
}

/// The two folders of messages.
pub(super) const PARTS: [&[u8]; 2] = [b"cur", b"new"];

impl Live {
    /// Looks at a place for these folders.
    pub fn look<'n>(
        path: &Path,
        layout: Layout,
        names: impl Iterator<Item = &'n str>,
    ) -> Result<Live, RebuildError> {
        let mut live = Live { path: path.to_owned(), is_empty: true, folders: BTreeMap::new() };
        let Some(root) = open_root(path)? else { return Ok(live) };
        let there = dirs::names(&root)?;
        if there.is_empty() {
            return Ok(live);
        }
        live.is_empty = false;
        let shown = || path.display().to_string();
        let is_folder = |name: &[u8]| matches!(open_below(&root, &[name.to_vec()]), Ok(Some(_)));
        if !PARTS.iter().any(|part| is_folder(part)) {
            return Err(RebuildError::NotAMaildir { path: shown() });
        }
        let is_mail =
            |name: &Vec<u8>| matches!(open_below(&root, &[name.clone(), b"cur".to_vec()]), Ok(Some(_)));
        let dotted = there.iter().any(|name| name.starts_with(b".") && is_mail(name));
        let plain = there.iter().any(|name| !name.starts_with(b".") && is_mail(name));
        if (layout == Layout::PlusPlus && plain && !dotted) || (layout == Layout::Fs && dotted && !plain) {
            return Err(RebuildError::Layout { path: shown() });
        }
        for name in names {
            if let Some(dir) = open_below(&root, &to_maildir(name, layout))? {
                live.folders.insert(name.to_owned(), LiveFolder::look(&dir)?);
            }
        }
        Ok(live)
    }
}

impl LiveFolder {
    /// Its numbers alone.
    pub(super) fn numbers(dir: &OpenDir) -> Result<LiveFolder, RebuildError> {
        let list = read_file(dir, b"dovecot-uidlist", LIST_BYTES_MAX)?;
        Ok(LiveFolder { numbers: list.as_deref().and_then(numbers_of), bases: HashSet::new() })
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
