//! Some entries of a tree put and taken away: only the pages that change are written anew.

use std::collections::{BTreeMap, BTreeSet};

use super::RepoError;
use super::tree::{Leaves, PageCut, TreeBuilder};
use crate::base::id::BlobId;
use crate::format::page::{Entry, Node};
use crate::format::snapshot::Tree;

/// What happens to a folder and what lies below it.
#[derive(Debug, Default)]
pub struct Edit {
    /// Names that go.
    remove: BTreeSet<Vec<u8>>,
    /// Entries that come, in place of any of the same name.
    put: BTreeMap<Vec<u8>, Entry>,
    /// Folders of this one in which something happens.
    below: BTreeMap<Vec<u8>, Edit>,
}

impl Edit {
    /// Nothing happens.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.put.is_empty() && self.below.values().all(Edit::is_empty)
    }

    /// The folder at a path below this one.
    pub fn folder(&mut self, path: &[u8]) -> &mut Edit {
        let names = path.split(|&byte| byte == b'/').filter(|name| !name.is_empty());
        names.fold(self, |folder, name| folder.below.entry(name.to_vec()).or_default())
    }

    /// An entry goes.
    pub fn remove(&mut self, name: &[u8]) {
        if !self.put.contains_key(name) {
            self.remove.insert(name.to_vec());
        }
    }

    /// An entry comes.
    pub fn put(&mut self, entry: Entry) {
        self.remove.remove(&entry.name);
        self.put.insert(entry.name.clone(), entry);
    }
}

/// Reads a page.
pub type Read<'a> = &'a dyn Fn(&BlobId) -> Result<Vec<u8>, RepoError>;
/// Stores a page.
pub type Store<'a> = &'a mut dyn FnMut(&[u8]) -> Result<BlobId, RepoError>;

/// The listing of a folder after an edit.
pub fn apply(
    tree: &Tree,
    edit: Edit,
    cut: &PageCut,
    read: Read<'_>,
    store: Store<'_>,
) -> Result<Tree, RepoError> {
    if edit.is_empty() {
        return Ok(*tree);
    }
    let Edit { remove, put, mut below } = edit;
    let mut put = put.into_values().peekable();
    let mut builder = TreeBuilder::new(cut);
    for leaf in Leaves::new(tree, read) {
        for mut entry in leaf?.1 {
            let mut is_replaced = false;
            while let Some(coming) = put.next_if(|coming| coming.name <= entry.name) {
                is_replaced |= coming.name == entry.name;
                builder.push(coming, &mut |page| store(page))?;
            }
            if is_replaced || remove.contains(&entry.name) {
                continue;
            }
            if let (Node::Folder(tree), Some(edit)) = (&entry.node, below.remove(&entry.name)) {
                entry.node = Node::Folder(apply(tree, edit, cut, read, store)?);
            }
            builder.push(entry, &mut |page| store(page))?;
        }
    }
    for coming in put {
        builder.push(coming, &mut |page| store(page))?;
    }
    builder.finish(&mut |page| store(page))
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::HashMap;

    use super::*;
    use crate::format::content::Content;
    use crate::format::page::{File, Owner};
    use crate::repo::tree::Listing;

    #[derive(Default)]
    struct Memory(RefCell<HashMap<BlobId, Vec<u8>>>);

    impl Memory {
        fn read(&self, id: &BlobId) -> Result<Vec<u8>, RepoError> {
            Ok(self.0.borrow()[id].clone())
        }

        fn store(&self, page: &[u8]) -> Result<BlobId, RepoError> {
            let id = BlobId(*blake3::hash(page).as_bytes().first_chunk().unwrap());
            self.0.borrow_mut().insert(id, page.to_vec());
            Ok(id)
        }
    }

    fn entry(name: &str, node: Node) -> Entry {
        let owner = std::sync::Arc::new(Owner::default());
        Entry { name: name.into(), mode: 0o600, owner, mtime_s: 5, mtime_ns: 0, xattrs: Vec::new(), node }
    }

    fn file(name: &str) -> Entry {
        let file = File { size: 3, content: Content::EMPTY, sparse: false, link_group: None };
        entry(name, Node::File(file))
    }

    fn folder(entries: Vec<Entry>, memory: &Memory) -> Tree {
        let cut = PageCut::new([1; 32]);
        let mut builder = TreeBuilder::new(&cut);
        for entry in entries {
            builder.push(entry, &mut |page| memory.store(page)).unwrap();
        }
        builder.finish(&mut |page| memory.store(page)).unwrap()
    }

    fn names(tree: &Tree, memory: &Memory) -> Vec<String> {
        Listing::new(tree, |id: &BlobId| memory.read(id))
            .map(|entry| String::from_utf8(entry.unwrap().name).unwrap())
            .collect()
    }

    #[test]
    fn an_edit_makes_the_tree_that_would_have_been_built() {
        let memory = Memory::default();
        let before: Vec<String> = (0..1_000).map(|n| format!("{n:04}")).collect();
        let cur = folder(before.iter().map(|name| file(name)).collect(), &memory);
        let new = folder(vec![file("9000")], &memory);
        let tree = folder(vec![entry("cur", Node::Folder(cur)), entry("new", Node::Folder(new))], &memory);
        let mut edit = Edit::default();
        assert!(edit.is_empty());
        edit.folder(b"cur").remove(b"0007");
        edit.folder(b"/cur/").put(file("0500x"));
        edit.folder(b"new").remove(b"9000");
        edit.folder(b"nowhere").remove(b"x");
        let cut = PageCut::new([1; 32]);
        let edited = apply(&tree, edit, &cut, &|id| memory.read(id), &mut |page| memory.store(page)).unwrap();
        let mut after = before;
        after.retain(|name| name != "0007");
        after.insert(after.iter().position(|name| name == "0501").unwrap(), "0500x".to_owned());
        let cur = folder(after.iter().map(|name| file(name)).collect(), &memory);
        let new = folder(Vec::new(), &memory);
        let expected =
            folder(vec![entry("cur", Node::Folder(cur)), entry("new", Node::Folder(new))], &memory);
        assert_eq!(edited, expected);
        assert_eq!(names(&edited, &memory), ["cur", "new"]);
        assert_eq!(edited.totals.files, 1_000);
    }
}
