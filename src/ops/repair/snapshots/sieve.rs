//! What is lost: files without their content, folders without their listing.

use std::collections::HashSet;

use super::{LostFile, LostPage};
use crate::base::id::{BlobId, ObjectHash};
use crate::format::page::{Entry, File, Node};
use crate::mail::maildir;
use crate::repo::RepoError;
use crate::repo::content::Sections;
use crate::repo::presence::Presence;
use crate::repo::reader::Blob;
use crate::repo::rewrite::{Sieve, Tools, Verdict, is_loss};
use crate::repo::snapshots::SnapshotInfo;

/// Blobs that are remembered; beyond this they are looked up again.
const KNOWN_BLOBS_MAX: usize = 1 << 20;

/// Tells whether a file can be had.
pub(super) struct Looker<'a> {
    presence: &'a Presence<'a>,
    read_data: bool,
    whole: HashSet<BlobId>,
}

impl<'a> Looker<'a> {
    /// Looks blobs up, and reads them when `read_data`.
    pub(super) fn new(presence: &'a Presence<'a>, read_data: bool) -> Looker<'a> {
        Looker { presence, read_data, whole: HashSet::new() }
    }

    /// Why a file cannot be had; `None` when it can.
    pub(super) fn loss(&mut self, file: &File, tools: &Tools<'_, '_>) -> Result<Option<String>, RepoError> {
        let mut length = 0u64;
        let fetch = |id: &BlobId| -> Result<Blob, RepoError> { tools.reader.page(id) };
        for section in Sections::new(&file.content, fetch) {
            tools.interrupt.check()?;
            let section = match section.map_err(RepoError::from) {
                Ok(section) => section,
                Err(error) if is_loss(&error) => return Ok(Some(error.to_string())),
                Err(error) => return Err(error),
            };
            length = length.saturating_add(section.length());
            if length > file.size {
                break;
            }
            for id in section.pieces.iter().flat_map(|piece| piece.blobs()) {
                if let Some(why) = self.blob(id, tools)? {
                    return Ok(Some(why));
                }
            }
        }
        let recipe = || format!("its recipe does not give as many bytes as the file has, {}", file.size);
        Ok((length != file.size).then(recipe))
    }

    fn blob(&mut self, id: &BlobId, tools: &Tools<'_, '_>) -> Result<Option<String>, RepoError> {
        if self.whole.contains(id) {
            return Ok(None);
        }
        if !self.presence.holds(id)? {
            return Ok(Some(RepoError::MissingBlob { id: *id }.to_string()));
        }
        if self.read_data {
            match tools.reader.data(id) {
                Ok(_) => {}
                Err(error) if is_loss(&error) => return Ok(Some(error.to_string())),
                Err(error) => return Err(error),
            }
        }
        if self.whole.len() < KNOWN_BLOBS_MAX {
            self.whole.insert(*id);
        }
        Ok(None)
    }
}

/// Leaves out what is lost, and lists it.
pub(super) struct RepairSieve<'a> {
    looker: Looker<'a>,
    snapshot: ObjectHash,
    /// Each file once, however many snapshots hold it.
    pub(super) files: Vec<LostFile>,
    pub(super) pages: Vec<LostPage>,
    told: HashSet<(Vec<u8>, Vec<u8>, u64, i64)>,
}

/// The mailbox of a folder: what stands above `cur` or `new`, and above the folders of a Maildir++.
fn mailbox_of(folder: &[u8]) -> &[u8] {
    let above = |path: &'_ [u8]| path.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
    let name = |path: &'_ [u8]| path[above(path)..].to_vec();
    if !matches!(name(folder).as_slice(), b"/cur" | b"/new") {
        return folder;
    }
    let mut mailbox = &folder[..above(folder)];
    while name(mailbox).starts_with(b"/.") {
        mailbox = &mailbox[..above(mailbox)];
    }
    mailbox
}

impl<'a> RepairSieve<'a> {
    pub(super) fn new(looker: Looker<'a>) -> RepairSieve<'a> {
        let (snapshot, files, pages, told) = Default::default();
        RepairSieve { looker, snapshot, files, pages, told }
    }
}

impl Sieve for RepairSieve<'_> {
    fn begin(&mut self, info: &SnapshotInfo) {
        self.snapshot = info.hash;
    }

    fn judge(
        &mut self,
        folder: &[u8],
        entry: &Entry,
        tools: &mut Tools<'_, '_>,
    ) -> Result<Verdict, RepoError> {
        let file = match &entry.node {
            Node::Folder(_) => return Ok(Verdict::Enter),
            Node::File(file) => file,
            _ => return Ok(Verdict::Keep),
        };
        let Some(why) = self.looker.loss(file, tools)? else { return Ok(Verdict::Keep) };
        let name = maildir::base(&entry.name).to_vec();
        if self.told.insert((folder.to_vec(), name.clone(), file.size, entry.mtime_s)) {
            self.files.push(LostFile {
                snapshot: self.snapshot,
                mailbox: mailbox_of(folder).to_vec(),
                folder: folder.to_vec(),
                name,
                size: file.size,
                mtime_s: entry.mtime_s,
                why,
                still_there: None,
            });
        }
        Ok(Verdict::Drop)
    }

    fn broken(&mut self, folder: &[u8], error: RepoError) -> Result<(), RepoError> {
        let (folder, why) = (folder.to_vec(), error.to_string());
        if !self.pages.iter().any(|page| page.folder == folder && page.why == why) {
            self.pages.push(LostPage { snapshot: self.snapshot, folder, why });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mailbox_is_what_stands_above_its_folders() {
        for (folder, mailbox) in [
            ("/var/vmail/example.org/alice/cur", "/var/vmail/example.org/alice"),
            ("/var/vmail/alice/Maildir/.Sent.2025/new", "/var/vmail/alice/Maildir"),
            ("/etc/postfix", "/etc/postfix"),
            ("/cur", ""),
            ("/", "/"),
        ] {
            assert_eq!(mailbox_of(folder.as_bytes()), mailbox.as_bytes(), "{folder}");
        }
    }
}
