//! The open folders from a root down to where a walk stands, with a bounded number of descriptors.

use std::sync::Arc;

use rustix::io::{Errno, Result};

use super::dir::OpenDir;
use super::meta::FileKey;

/// Folders kept open at a time; those further up are opened again on the way back.
const OPEN_MAX: usize = 48;

#[derive(Debug)]
struct Rung {
    name: Box<[u8]>,
    key: FileKey,
    dir: Option<Arc<OpenDir>>,
}

/// A path of open folders; the first stays open, of the others the last [`OPEN_MAX`]. Empty by default.
#[derive(Debug, Default)]
pub struct Ladder {
    rungs: Vec<Rung>,
}

impl Ladder {
    /// Begins at a root.
    pub fn new(root: Arc<OpenDir>) -> Ladder {
        Ladder { rungs: vec![Rung { name: Box::default(), key: root.key(), dir: Some(root) }] }
    }

    /// Folders from the root to the last, both counted.
    pub fn depth(&self) -> usize {
        self.rungs.len()
    }

    /// Goes down into a folder that was opened in the last one.
    pub fn push(&mut self, name: &[u8], dir: Arc<OpenDir>) {
        self.rungs.push(Rung { name: name.into(), key: dir.key(), dir: Some(dir) });
        if let Some(far) = self.rungs.len().checked_sub(OPEN_MAX + 1).filter(|&far| far > 0) {
            self.rungs[far].dir = None;
        }
    }

    /// Goes up, opening the folder above again if need be.
    pub fn pop(&mut self) {
        let Some(left) = self.rungs.pop() else { return };
        let Some(above) = self.rungs.last_mut() else { return };
        if above.dir.is_none()
            && let Some(parent) = left.dir.and_then(|dir| dir.open_parent().ok())
            && parent.key() == above.key
        {
            above.dir = Some(Arc::new(parent));
        }
    }

    /// The last folder.
    ///
    /// When `..` did not lead back to it, it is looked for from the nearest open folder above; `ESTALE` when
    /// another folder is found in its place.
    pub fn last(&mut self) -> Result<Arc<OpenDir>> {
        let open = self.rungs.iter().rposition(|rung| rung.dir.is_some()).ok_or(Errno::STALE)?;
        let mut dir = self.rungs[open].dir.clone().ok_or(Errno::STALE)?;
        for rung in &self.rungs[open + 1..] {
            dir = Arc::new(dir.open_folder(&rung.name)?);
            if dir.key() != rung.key {
                return Err(Errno::STALE);
            }
        }
        if let Some(rung) = self.rungs.last_mut() {
            rung.dir = Some(Arc::clone(&dir));
        }
        Ok(dir)
    }
}
