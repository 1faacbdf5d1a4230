//! The folders of messages that a walk came to, watched from before they were listed.
//!
//! Mail moves while a backup looks. What came and went in these folders is told by events as far as the kernel can
//! watch them; of the others, that is of those on network file systems, beyond the limit, and after an overflow, by
//! listing them once more.

use std::collections::{HashMap, HashSet};

use super::dir::OpenDir;
use super::meta::{FileKey, Meta};
use super::moves::Moves;
use super::watch::{Event, Token, Watcher};

/// Watches that are asked for at most; each takes about a kilobyte of the kernel's memory.
const WATCHES_MAX: usize = 1 << 16;

/// A folder of messages.
#[derive(Debug, Clone)]
pub struct LiveFolder {
    /// Its path in the snapshot.
    pub logical: Vec<u8>,
    /// Its path on this host.
    pub path: Vec<u8>,
    key: FileKey,
    /// Modification and change time right before it was listed.
    touched: (i64, i64),
    is_watched: bool,
    /// It was listed in this run, not passed over.
    pub is_listed: bool,
}

/// The folders of messages of a run.
#[derive(Debug, Default)]
pub struct Live {
    watcher: Option<Watcher>,
    folders: Vec<LiveFolder>,
    tokens: HashMap<FileKey, Token>,
}

impl Live {
    /// Begins to watch. Where the system refuses, folders are compared.
    pub fn new() -> Live {
        Live { watcher: Watcher::new(WATCHES_MAX).ok(), ..Live::default() }
    }

    /// Begins without events, as on a system that has none.
    pub fn without_events() -> Live {
        Live::default()
    }

    /// Watches a folder whose listing is known, and that is not listed again; `meta` was read before.
    pub fn pass_over(&mut self, dir: &OpenDir, logical: Vec<u8>, meta: &Meta, is_remote: bool) {
        self.add(dir, logical, meta, is_remote);
    }

    /// Watches a folder that is about to be listed; `meta` was read before.
    pub fn list(&mut self, dir: &OpenDir, logical: Vec<u8>, meta: &Meta, is_remote: bool) {
        let token = self.add(dir, logical, meta, is_remote);
        self.folders[token as usize].is_listed = true;
    }

    fn add(&mut self, dir: &OpenDir, logical: Vec<u8>, meta: &Meta, is_remote: bool) -> Token {
        let touched = (meta.mtime(), meta.ctime());
        if let Some(&token) = self.tokens.get(&dir.key()) {
            self.folders[token as usize].touched = touched;
            return token;
        }
        let token = self.folders.len() as Token;
        // What other hosts do on a share is never told.
        let is_watched = !is_remote
            && self.watcher.as_mut().is_some_and(|watcher| watcher.watch(dir, token).unwrap_or(false));
        self.tokens.insert(dir.key(), token);
        let path = dir.path().to_vec();
        let key = dir.key();
        self.folders.push(LiveFolder { logical, path, key, touched, is_watched, is_listed: false });
        token
    }

    /// A folder by its token.
    pub fn folder(&self, token: Token) -> &LiveFolder {
        &self.folders[token as usize]
    }

    /// Takes what happened until now.
    pub fn take(&mut self, moves: &mut Moves) {
        if let Some(watcher) = &mut self.watcher {
            moves.take(watcher.drain());
        }
    }

    /// Opens a folder once more; `None` when another stands in its place.
    pub fn open(&self, token: Token) -> Option<OpenDir> {
        let folder = self.folder(token);
        let dir = OpenDir::open_path(&folder.path, folder.path.clone()).ok()?;
        (dir.key() == folder.key).then_some(dir)
    }

    /// Lists the folders once more that were touched since they were looked at last, and that events do not tell of
    /// (of none, after an overflow). `names` gives what was seen in one. True when there were any.
    pub fn compare(
        &mut self,
        all: bool,
        moves: &mut Moves,
        names: &mut dyn FnMut(Token) -> HashSet<Vec<u8>>,
    ) -> bool {
        let mut any = false;
        for token in 0..self.folders.len() as Token {
            if self.folder(token).is_watched && !all {
                continue;
            }
            let Some(dir) = self.open(token) else { continue };
            let Ok(meta) = dir.meta() else { continue };
            let touched = (meta.mtime(), meta.ctime());
            if touched == self.folder(token).touched {
                continue;
            }
            any = true;
            self.folders[token as usize].touched = touched;
            let seen = names(token);
            let now: HashSet<Vec<u8>> = dir.names().0.into_iter().map(|(_, name)| name.into()).collect();
            let event = |name: &Vec<u8>, came: bool| match came {
                true => Event::Came { token, name: name.as_slice().into(), cookie: None },
                false => Event::Went { token, name: name.as_slice().into(), cookie: None },
            };
            moves.take(seen.difference(&now).map(|name| event(name, false)));
            moves.take(now.difference(&seen).map(|name| event(name, true)));
        }
        any
    }

    /// Folders that were added.
    pub fn len(&self) -> usize {
        self.folders.len()
    }

    /// No folder was added.
    pub fn is_empty(&self) -> bool {
        self.folders.is_empty()
    }

    /// Folders that are watched, and those that are compared.
    pub fn counts(&self) -> (usize, usize) {
        let watched = self.folders.iter().filter(|folder| folder.is_watched).count();
        (watched, self.folders.len() - watched)
    }
}
