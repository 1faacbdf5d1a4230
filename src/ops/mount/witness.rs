//! Who looks at whose mail: noted once for each user of this system and each user with mail.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use super::folder::{Child, Folder};
use super::inode::Target;
use super::vault::Vault;
use crate::base::limits;
use crate::format::page::Node;
use crate::mail::templates::Users;
use crate::repo::RepoError;
use crate::repo::view::join;

/// Takes the number of a user of this system, and whose mail it looks at.
pub type Note = Arc<dyn Fn(u32, &str) + Send + Sync>;

/// Sees who opens what.
///
/// The system keeps what it was told: who asks for a file by its name, after somebody else did, is not seen.
pub struct Witness {
    note: Note,
    templates: Users,
    /// Who has come to which folder.
    folders: Mutex<HashSet<(u32, u64)>>,
    noted: Mutex<HashSet<(u32, String)>>,
}

impl Witness {
    /// Notes through `note`; `templates` tell whose mail lies where.
    pub fn new(note: Note, templates: Users) -> Witness {
        Witness { note, templates, folders: Mutex::default(), noted: Mutex::default() }
    }

    /// Somebody lists a folder, or finds something in it.
    ///
    /// # Errors
    /// What cannot be read on the way; whoever reads it next is told.
    pub fn saw(
        &self,
        vault: &Vault,
        uid: u32,
        folder: &Arc<Folder>,
        child: Option<&Child>,
    ) -> Result<(), RepoError> {
        let file = child.and_then(|child| match &child.entry.as_ref()?.entry().node {
            Node::File(file) if file.content.messages() > 0 => Some(join(&folder.logical, &child.name)),
            _ => None,
        });
        if file.is_none() && !self.is_first(uid, folder.ino) {
            return Ok(());
        }
        let (path, top) = match (topmost(vault, folder)?, file) {
            (Some(top), _) => (folder.logical.clone(), top),
            (None, Some(file)) => (file, Vec::new()),
            (None, None) => return Ok(()),
        };
        if let Some(mailbox) = self.templates.mailbox(&path, &top) {
            let is_new = {
                let mut noted = self.noted.lock().expect("no holder panics");
                noted.len() < limits::mount::TOLD_MAX && noted.insert((uid, mailbox.user.clone()))
            };
            if is_new {
                (self.note)(uid, &mailbox.user);
            }
        }
        Ok(())
    }

    fn is_first(&self, uid: u32, ino: u64) -> bool {
        let mut folders = self.folders.lock().expect("no holder panics");
        if folders.len() >= limits::mount::TOLD_MAX {
            folders.clear();
        }
        folders.insert((uid, ino))
    }
}

/// The topmost mail folder on the way to a folder, or the folder itself.
fn topmost(vault: &Vault, folder: &Arc<Folder>) -> Result<Option<Vec<u8>>, RepoError> {
    let mut at = Folder::top(&folder.shown, 0, 0, Vec::new());
    let mut logical = Vec::new();
    for name in folder.logical.split(|&byte| byte == b'/').filter(|name| !name.is_empty()) {
        let Some(Target::Folder(inner)) = at.child(vault, name)?.map(|child| child.target) else {
            return Ok(None);
        };
        logical = [logical.as_slice(), b"/", name].concat();
        if inner.child(vault, b"cur")?.is_some() {
            return Ok(Some(logical));
        }
        at = inner;
    }
    Ok(None)
}
