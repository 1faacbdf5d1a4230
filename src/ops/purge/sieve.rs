//! What a purge takes out.

use std::collections::{BTreeMap, HashSet};

use super::messages::{Found, Searcher, cut};
use super::stones::Stones;
use super::{Taken, Target};
use crate::base::id::BlobId;
use crate::base::limits;
use crate::format::content::Content;
use crate::format::page::{Entry, File, Node, Page};
use crate::format::snapshot::Tree;
use crate::mail::{maildir, user};
use crate::repo::RepoError;
use crate::repo::rewrite::{Sieve, Tools, Verdict};
use crate::repo::tombstones::{Mark, Marking, each_section};
use crate::repo::tree::read_page;
use crate::repo::view::{is_within, join};

/// Decides entry by entry, and notes what goes.
pub struct PurgeSieve<'a> {
    targets: &'a [Target],
    /// Marks of the domain at hand.
    pub stones: Stones,
    /// Looks for messages.
    pub searcher: &'a mut Searcher,
    /// What went, by target and folder.
    pub folders: BTreeMap<(usize, Vec<u8>), Taken>,
    /// What cannot be done.
    pub problems: Vec<(Vec<u8>, String)>,
    /// Files that were counted already, and pages that were looked through for files.
    counted: HashSet<[u8; 16]>,
}

fn short_hash(parts: &[&[u8]]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
    }
    *hasher.finalize().as_bytes().first_chunk().expect("a hash is longer than that")
}

fn names(path: &[u8]) -> Vec<&[u8]> {
    path.split(|&byte| byte == b'/').filter(|name| !name.is_empty()).collect()
}

/// Where something goes, and why.
struct Cause<'p> {
    target: usize,
    /// The folder below which it must not come back.
    scope: &'p [u8],
}

impl<'a> PurgeSieve<'a> {
    /// Begins with one host and domain.
    pub fn new(targets: &'a [Target], stones: Stones, searcher: &'a mut Searcher) -> PurgeSieve<'a> {
        let (folders, problems, counted) = Default::default();
        PurgeSieve { targets, stones, searcher, folders, problems, counted }
    }

    /// The target that takes a whole entry out.
    fn target_of(&self, path: &[u8]) -> Option<usize> {
        let names = names(path);
        self.targets.iter().position(|target| match target {
            Target::User(name) => user::matches(name, &names),
            Target::Path(wanted) => is_within(path, wanted),
            Target::MessageId(_) => false,
        })
    }

    /// Can anything below this folder be meant?
    fn leads_on(&self, path: &[u8]) -> bool {
        self.targets.iter().any(|target| match target {
            Target::User(_) | Target::MessageId(_) => true,
            Target::Path(wanted) => is_within(wanted, path),
        })
    }

    fn count(&mut self, target: usize, folder: &[u8], name: &[u8], taken: Taken, mark: Option<Mark>) {
        let number = (target as u64).to_le_bytes();
        let once = short_hash(&[b"file", &number, folder, maildir::base(name), &mark.unwrap_or_default()]);
        if self.counted.insert(once) {
            let sum = self.folders.entry((target, folder.to_vec())).or_default();
            sum.files += taken.files;
            sum.messages += taken.messages;
            sum.bytes += taken.bytes;
        }
    }

    /// Notes a file that goes, with the marks that keep it from coming back.
    fn file(
        &mut self,
        cause: &Cause<'_>,
        folder: &[u8],
        entry: &Entry,
        file: &File,
        tools: &Tools<'_, '_>,
    ) -> Result<(), RepoError> {
        let mut marks = Vec::new();
        let mark = marks_of(&file.content, &self.stones.marker, &mut marks, tools)?;
        self.stones.add(cause.scope, marks.into_iter().chain(mark));
        let taken = Taken { files: 1, messages: file.content.messages(), bytes: file.size };
        self.count(cause.target, folder, &entry.name, taken, mark);
        Ok(())
    }

    /// Notes an entry that goes, and all below it.
    fn entry(
        &mut self,
        cause: &Cause<'_>,
        folder: &[u8],
        entry: &Entry,
        tools: &Tools<'_, '_>,
        depth: usize,
    ) -> Result<(), RepoError> {
        let path = join(folder, &entry.name);
        match &entry.node {
            Node::Folder(tree) => self.folder(cause, &path, tree, tools, depth),
            Node::File(file) => self.file(cause, folder, entry, file, tools),
            _ => {
                let taken = Taken { files: 1, ..Taken::default() };
                self.count(cause.target, folder, &entry.name, taken, None);
                Ok(())
            }
        }
    }

    fn folder(
        &mut self,
        cause: &Cause<'_>,
        folder: &[u8],
        tree: &Tree,
        tools: &Tools<'_, '_>,
        depth: usize,
    ) -> Result<(), RepoError> {
        if depth > limits::TREE_DEPTH_MAX {
            let page = tree.root.unwrap_or_default();
            return Err(RepoError::Page { page, detail: "folders nested too deep".to_owned() });
        }
        let number = (cause.target as u64).to_le_bytes();
        let mut pending: Vec<(BlobId, u8)> = tree.root.iter().map(|root| (*root, tree.levels)).collect();
        while let Some((page, level)) = pending.pop() {
            tools.interrupt.check()?;
            if !self.counted.insert(short_hash(&[b"page", &number, folder, cause.scope, &page.0, &[level]])) {
                continue;
            }
            match read_page(&page, level, &mut |id: &BlobId| tools.reader.page(id))? {
                Page::Fence(fences) => pending.extend(fences.iter().map(|fence| (fence.page, level - 1))),
                Page::Leaf(entries) => {
                    for entry in &entries {
                        self.entry(cause, folder, entry, tools, depth + 1)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn problem(&mut self, path: Vec<u8>, text: String) {
        let problem = (path, text);
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    /// Looks for wanted messages in a file.
    fn messages(
        &mut self,
        folder: &[u8],
        entry: &Entry,
        file: &File,
        tools: &mut Tools<'_, '_>,
    ) -> Result<Verdict, RepoError> {
        let path = || join(folder, &entry.name);
        let is_id = |target: &Target| matches!(target, Target::MessageId(_));
        let cause = Cause { target: self.targets.iter().position(is_id).unwrap_or_default(), scope: b"/" };
        let found = self.searcher.search(&file.content, &self.stones.marker, tools)?;
        if let unread @ 1.. = self.searcher.take_unread() {
            let text =
                format!("{unread} messages have lost their header: whether they are wanted is not known");
            self.problem(path(), text);
        }
        match found {
            Found::Nothing => Ok(Verdict::Keep),
            Found::Whole => {
                self.file(&cause, folder, entry, file, tools)?;
                Ok(Verdict::Drop)
            }
            Found::Cut(cuts, messages, marks) => {
                let mark = marks.first().copied();
                self.stones.add(cause.scope, marks);
                let left = cut(file, &cuts, tools)?;
                let taken = Taken { files: 0, messages, bytes: file.size - left.size };
                self.count(cause.target, folder, &entry.name, taken, mark);
                Ok(Verdict::Replace(Box::new(Entry { node: Node::File(left), ..entry.clone() })))
            }
            Found::NotPossible(messages) => {
                let text = format!(
                    "{messages} wanted messages stay: they are parts of a file that is no mbox, and its mail server \
                     counts on every byte of it; delete them there, and purge the file by --path"
                );
                self.problem(path(), text);
                Ok(Verdict::Keep)
            }
        }
    }
}

/// Notes the marks of messages in an mbox, and gives that of the content as a whole.
fn marks_of(
    content: &Content,
    marker: &crate::repo::tombstones::Marker,
    marks: &mut Vec<Mark>,
    tools: &Tools<'_, '_>,
) -> Result<Option<Mark>, RepoError> {
    let mut marking = Marking::new(marker);
    let (page, data) = (|id: &BlobId| tools.page(id), |id: &BlobId| tools.reader.data(id));
    let mut of_messages = Vec::new();
    each_section(content, page, data, |section, begin| {
        marking.add(&section, begin, &mut |stretch| of_messages.extend(stretch.mark));
        Ok(())
    })?;
    let is_mbox = marking.is_mbox();
    let whole = marking.finish(&mut |stretch| of_messages.extend(stretch.mark));
    if is_mbox {
        marks.extend(of_messages);
    }
    Ok(whole)
}

impl Sieve for PurgeSieve<'_> {
    fn judge(
        &mut self,
        folder: &[u8],
        entry: &Entry,
        tools: &mut Tools<'_, '_>,
    ) -> Result<Verdict, RepoError> {
        let path = join(folder, &entry.name);
        if let Some(target) = self.target_of(&path) {
            // A folder that was emptied must not bring back its files; a file is known by the folder it stands in.
            let scope = if matches!(entry.node, Node::Folder(_)) { path.as_slice() } else { folder };
            self.entry(&Cause { target, scope }, folder, entry, tools, 0)?;
            return Ok(Verdict::Drop);
        }
        match &entry.node {
            Node::Folder(_) if self.leads_on(&path) => Ok(Verdict::Enter),
            Node::File(file) if !self.searcher.is_idle() => self.messages(folder, entry, file, tools),
            _ => Ok(Verdict::Keep),
        }
    }

    fn broken(&mut self, _: &[u8], error: RepoError) -> Result<(), RepoError> {
        // What cannot be read may be what has to go.
        Err(error)
    }
}
