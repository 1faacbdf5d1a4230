//! Walking through the files of a snapshot by their logical paths.

use super::RepoError;
use super::reader::{Blob, BlobReader};
use super::tree::{self, Listing, TreeError};
use crate::base::id::BlobId;
use crate::base::limits;
use crate::format::page::{Entry, Node};
use crate::format::snapshot::{Snapshot, Tree};

/// One step of a walk.
#[derive(Debug)]
pub enum Step {
    /// An entry, with its logical path. A folder's entries follow unless the walk is told to skip them.
    Entry(Vec<u8>, Entry),
    /// All entries of the folder that was entered last have been given.
    Leave,
    /// A folder or a part of one cannot be read; the walk goes on behind it.
    Broken(Vec<u8>, RepoError),
}

type Entries<'a> = Box<dyn Iterator<Item = Result<Entry, TreeError<RepoError>>> + 'a>;

/// A walk through what lies at or below one logical path, depth first, sorted by name.
pub struct View<'a> {
    reader: &'a BlobReader<'a>,
    wanted: Vec<u8>,
    parts: std::vec::IntoIter<(Vec<u8>, Tree)>,
    /// Open folders: logical path, entries still to come, and whether its end is told.
    open: Vec<(Vec<u8>, Entries<'a>, bool)>,
    /// The folder given last, not yet entered.
    entered: Option<(Vec<u8>, Tree)>,
    /// The folder given last could not be entered.
    leave_next: bool,
}

/// Joins a folder's logical path and a name.
pub fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = folder.to_vec();
    if path.last() != Some(&b'/') {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}

/// Is `path` the same as `folder`, or below it?
pub fn is_within(path: &[u8], folder: &[u8]) -> bool {
    folder == b"/" || path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

/// The logical folder in which a part's listing stands.
pub fn part_folder(path: &[u8]) -> &[u8] {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(cut) if path.len() > 1 => &path[..cut.max(1)],
        _ => b"/",
    }
}

impl<'a> View<'a> {
    /// A walk through everything at or below `wanted`, an absolute path without a trailing slash.
    pub fn new(reader: &'a BlobReader<'a>, snapshot: &Snapshot, wanted: &[u8]) -> View<'a> {
        let parts = snapshot
            .parts
            .iter()
            .filter(|part| is_within(wanted, part_folder(&part.path)) || is_within(&part.path, wanted));
        let parts: Vec<_> = parts.map(|part| (part_folder(&part.path).to_vec(), part.tree)).collect();
        View {
            reader,
            wanted: wanted.to_vec(),
            parts: parts.into_iter(),
            open: Vec::new(),
            entered: None,
            leave_next: false,
        }
    }

    /// Does not go into the folder that was given last.
    pub fn pass_over(&mut self) {
        self.entered = None;
    }

    fn list(&self, tree: &Tree) -> Entries<'a> {
        let reader = self.reader;
        Box::new(Listing::new(tree, move |id: &BlobId| -> Result<Blob, RepoError> { reader.page(id) }))
    }

    /// Opens a folder; where only one of its names leads to the wanted path, only that one is looked at.
    fn enter(&mut self, path: Vec<u8>, tree: &Tree, tell_end: bool) -> Result<(), RepoError> {
        if self.open.len() > limits::TREE_DEPTH_MAX + 64 {
            let detail = "folders nested too deep".to_owned();
            return Err(RepoError::Page { page: tree.root.unwrap_or_default(), detail });
        }
        let entries = if is_within(&path, &self.wanted) {
            self.list(tree)
        } else {
            let below = &self.wanted[if path == b"/" { 1 } else { path.len() + 1 }..];
            let name = below.split(|&byte| byte == b'/').next().unwrap_or_default();
            let found = tree::find(tree, name, &mut |id: &BlobId| self.reader.page(id))?;
            Box::new(found.into_iter().map(Ok))
        };
        self.open.push((path, entries, tell_end));
        Ok(())
    }
}

impl Iterator for View<'_> {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        if std::mem::take(&mut self.leave_next) {
            return Some(Step::Leave);
        }
        if let Some((path, tree)) = self.entered.take()
            && let Err(error) = self.enter(path.clone(), &tree, true)
        {
            // Every folder that was given is left again, whatever became of it.
            self.leave_next = true;
            return Some(Step::Broken(path, error));
        }
        loop {
            let Some((folder, entries, tell_end)) = self.open.last_mut() else {
                let (folder, tree) = self.parts.next()?;
                if let Err(error) = self.enter(folder.clone(), &tree, false) {
                    return Some(Step::Broken(folder, error));
                }
                continue;
            };
            let entry = match entries.next() {
                Some(Ok(entry)) => entry,
                Some(Err(error)) => return Some(Step::Broken(folder.clone(), error.into())),
                None => {
                    let told = *tell_end;
                    self.open.pop();
                    if told {
                        return Some(Step::Leave);
                    }
                    continue;
                }
            };
            let path = join(folder, &entry.name);
            if is_within(&path, &self.wanted) {
                if let Node::Folder(tree) = &entry.node {
                    self.entered = Some((path.clone(), *tree));
                }
                return Some(Step::Entry(path, entry));
            }
            if let (Node::Folder(tree), true) = (&entry.node, is_within(&self.wanted, &path))
                && let Err(error) = self.enter(path.clone(), tree, false)
            {
                return Some(Step::Broken(path, error));
            }
        }
    }
}

/// What stands at a logical path, nothing below it.
#[derive(Debug, Default)]
pub struct Tops {
    /// The entry of that path; above all parts, the parts' topmost entries. Each with its logical path.
    pub entries: Vec<(Vec<u8>, Entry)>,
    /// Folders on the way that cannot be read.
    pub broken: Vec<(Vec<u8>, RepoError)>,
}

/// Looks up what stands at a logical path.
pub fn tops(reader: &BlobReader<'_>, snapshot: &Snapshot, wanted: &[u8]) -> Tops {
    let mut found = Tops::default();
    let mut view = View::new(reader, snapshot, wanted);
    while let Some(step) = view.next() {
        match step {
            Step::Entry(path, entry) => {
                view.pass_over();
                found.entries.push((path, entry));
            }
            Step::Broken(path, error) => found.broken.push((path, error)),
            Step::Leave => {}
        }
    }
    found
}

/// The listing of a folder, out of those parts of a snapshot (path and listing) that may hold it.
pub fn tree_at<'p>(
    reader: &BlobReader<'_>,
    parts: impl Iterator<Item = (&'p [u8], &'p Tree)>,
    folder: &[u8],
) -> Result<Option<Tree>, RepoError> {
    let part = parts.filter(|(path, _)| is_within(folder, path)).max_by_key(|(path, _)| path.len());
    let Some((path, &(mut tree))) = part else { return Ok(None) };
    let mut at = part_folder(path).to_vec();
    while at != folder {
        let rest = &folder[at.len()..];
        let name = rest.split(|&byte| byte == b'/').find(|name| !name.is_empty()).unwrap_or_default();
        match tree::find(&tree, name, &mut |id: &BlobId| reader.page(id))?.map(|entry| entry.node) {
            Some(Node::Folder(below)) => tree = below,
            _ => return Ok(None),
        }
        at = join(&at, name);
    }
    Ok(Some(tree))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_contain_each_other_by_whole_names() {
        assert!(is_within(b"/var/vmail", b"/var"));
        assert!(is_within(b"/var", b"/var"));
        assert!(is_within(b"/var", b"/"));
        assert!(!is_within(b"/variant", b"/var"));
        assert!(!is_within(b"/var", b"/var/vmail"));
        assert_eq!(part_folder(b"/var/vmail"), b"/var");
        assert_eq!(part_folder(b"/etc"), b"/");
        assert_eq!(part_folder(b"/"), b"/");
    }
}
