//! Writing a scan cache: one transaction that lasts as long as the run, and counts only when its snapshot is final.

use std::collections::{HashMap, HashSet};

use rusqlite::{Connection, params};

use super::{
    Binding, FolderKey, FolderState, Trace, binding_checksum, folder_checksum, leaf_checksum, traces,
};
use crate::base::id::BlobId;
use crate::index::Result;

/// What a run sees, until its snapshot is final; given up when dropped.
pub struct Draft {
    connection: Connection,
    owner: [u8; 32],
    /// Nothing that is there counts: every folder is written anew.
    is_new: bool,
    seen: HashSet<i64>,
}

impl Draft {
    pub(super) fn begin(connection: Connection, owner: [u8; 32], continues: bool) -> Result<Draft> {
        connection.execute_batch("BEGIN IMMEDIATE")?;
        if !continues {
            for table in ["places", "contents", "leaves", "folders", "binding"] {
                connection.execute(&format!("DELETE FROM {table}"), [])?;
            }
        }
        Ok(Draft { connection, owner, is_new: !continues, seen: HashSet::new() })
    }

    /// The folder is as it was.
    pub fn keep(&mut self, key: &FolderKey) {
        self.seen.insert(key.number());
    }

    /// A folder that was listed: its state, and the pages of its listing with the traces of their entries; without them
    /// for a page whose traces are as they were.
    pub fn put(
        &mut self,
        key: &FolderKey,
        state: &FolderState,
        pages: &[(BlobId, Option<Vec<Trace>>)],
    ) -> Result<()> {
        let number = key.number();
        self.seen.insert(number);
        let state = state.encode(key);
        self.connection
            .prepare_cached("INSERT OR REPLACE INTO folders VALUES (?, ?, ?)")?
            .execute(params![number, state, folder_checksum(number, &state)])?;
        let mut there = self.leaves(number)?;
        for (page, found) in pages {
            let before = there.remove(page);
            let Some(found) = found else { continue };
            let bytes = traces::encode(found);
            match before {
                Some((_, before)) if before == bytes => continue,
                Some((leaf, before)) => self.remove_leaf(leaf, &before)?,
                None => {}
            }
            self.add_leaf(number, page, found, &bytes)?;
        }
        for (leaf, before) in there.into_values() {
            self.remove_leaf(leaf, &before)?;
        }
        Ok(())
    }

    /// Keeps the pages of a folder that is listed in every run, in place of earlier ones.
    pub fn put_contents(&mut self, key: &FolderKey, pages: &[(BlobId, Vec<u8>)]) -> Result<()> {
        let folder = key.number();
        let mut there: HashSet<BlobId> = HashSet::new();
        if !self.is_new {
            let mut statement =
                self.connection.prepare_cached("SELECT page FROM contents WHERE folder = ?")?;
            let rows = statement.query_map([folder], |row| Ok(BlobId(row.get(0)?)))?;
            there = rows.collect::<rusqlite::Result<_>>()?;
        }
        for (page, bytes) in pages.iter().filter(|(page, _)| !there.remove(page)) {
            self.connection
                .prepare_cached("INSERT OR REPLACE INTO contents VALUES (?, ?, ?)")?
                .execute(params![folder, page.0, bytes])?;
        }
        for page in there {
            self.connection
                .prepare_cached("DELETE FROM contents WHERE folder = ? AND page = ?")?
                .execute(params![folder, page.0])?;
        }
        Ok(())
    }

    /// The leaves of a folder by page: number and traces.
    fn leaves(&self, folder: i64) -> Result<HashMap<BlobId, (i64, Vec<u8>)>> {
        if self.is_new {
            return Ok(HashMap::new());
        }
        let mut statement =
            self.connection.prepare_cached("SELECT number, page, traces FROM leaves WHERE folder = ?")?;
        let rows =
            statement.query_map([folder], |row| Ok((BlobId(row.get(1)?), (row.get(0)?, row.get(2)?))))?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }

    fn add_leaf(&self, folder: i64, page: &BlobId, found: &[Trace], bytes: &[u8]) -> Result<()> {
        self.connection.prepare_cached("INSERT INTO leaves VALUES (NULL, ?, ?, ?, ?)")?.execute(params![
            folder,
            page.0,
            bytes,
            leaf_checksum(folder, &page.0, bytes)
        ])?;
        let leaf = self.connection.last_insert_rowid();
        let mut inodes: Vec<u64> =
            found.iter().map(|trace| trace.inode).filter(|inode| *inode != 0).collect();
        inodes.sort_unstable();
        inodes.dedup();
        let mut statement = self.connection.prepare_cached("INSERT OR IGNORE INTO places VALUES (?, ?)")?;
        for inode in inodes {
            statement.execute([inode as i64, leaf])?;
        }
        Ok(())
    }

    fn remove_leaf(&self, leaf: i64, bytes: &[u8]) -> Result<()> {
        let mut statement =
            self.connection.prepare_cached("DELETE FROM places WHERE inode = ? AND leaf = ?")?;
        for trace in traces::decode(bytes).unwrap_or_default() {
            statement.execute([trace.inode as i64, leaf])?;
        }
        self.connection.prepare_cached("DELETE FROM leaves WHERE number = ?")?.execute([leaf])?;
        Ok(())
    }

    /// Takes away the folders that were not seen and lets the rest count.
    pub fn commit(self, binding: &Binding) -> Result<()> {
        let mut gone = Vec::new();
        {
            let mut statement = self.connection.prepare_cached("SELECT number FROM folders")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let number: i64 = row.get(0)?;
                if !self.seen.contains(&number) {
                    gone.push(number);
                }
            }
        }
        for number in gone {
            for (leaf, bytes) in self.leaves(number)?.into_values() {
                self.remove_leaf(leaf, &bytes)?;
            }
            self.connection.execute("DELETE FROM contents WHERE folder = ?", [number])?;
            self.connection.execute("DELETE FROM folders WHERE number = ?", [number])?;
        }
        let sum = binding_checksum(&self.owner, binding);
        self.connection.execute(
            "INSERT OR REPLACE INTO binding VALUES (0, ?, ?, ?, ?, ?)",
            params![self.owner, binding.snapshot.0, binding.rules, binding.ended, sum],
        )?;
        Ok(self.connection.execute_batch("COMMIT")?)
    }
}
