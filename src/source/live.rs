//! The folders of messages that a walk came to, watched from before they were listed.
//!
//! Mail moves while a backup looks. What came and went in these folders is told by events as far as the kernel can
//! watch them; of the others, that is of those on network file systems, beyond the limit, and after an overflow, by
//! listing them once more.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use super::dir::{Name, OpenDir};
use super::meta::{FileKey, Meta};
use super::moves::Moves;
use super::watch::{Token, Watcher};

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
        let touched = touched(meta);
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

    /// The folders, in the order in which the walk came to them.
    pub fn tokens(&self) -> Range<Token> {
        0..self.folders.len() as Token
    }

    /// Opens a folder once more; `None` when another stands in its place.
    pub fn open(&self, token: Token) -> Option<OpenDir> {
        let folder = self.folder(token);
        OpenDir::open_again(&folder.path, folder.key).ok()
    }

    /// The names that are in a folder now, if it was touched since it was looked at last and events do not tell of it;
    /// after an overflow they tell of none, which is `all`.
    pub fn list_again(&mut self, token: Token, all: bool) -> Option<HashSet<Name>> {
        if self.folder(token).is_watched && !all {
            return None;
        }
        let dir = self.open(token)?;
        let touched = touched(&dir.meta().ok()?);
        let before = &mut self.folders[token as usize].touched;
        if std::mem::replace(before, touched) == touched {
            return None;
        }
        Some(dir.names().0.into_iter().map(|(_, name)| name).collect())
    }
}

fn touched(meta: &Meta) -> (i64, i64) {
    (meta.mtime(), meta.ctime())
}
