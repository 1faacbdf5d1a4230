//! Writing: what one snapshot has that the one before it has not.

use rusqlite::{OptionalExtension, Transaction, TransactionBehavior, params};

use super::words::Words;
use super::{Catalogue, ContentId, FILL_CACHE_KIB, Kind, Series, SeriesNumber, number_of};
use crate::base::id::{HostId, ObjectHash};
use crate::index::Result;
use crate::mail::heading::Heading;
use crate::mail::keywords::Keywords;
use crate::mail::uidlist::Uidlist;

/// The head of a message was not read so far.
const UNREAD: i64 = 0;
/// It was read.
const READ: i64 = 1;
/// It cannot be read.
const OPAQUE: i64 = 2;

/// A place that holds messages.
#[derive(Debug, Clone, Copy)]
pub struct Mailfolder<'a> {
    /// Its logical path: the folder that holds `cur` and `new`, or the file.
    pub path: &'a [u8],
    /// The topmost mail folder on the way, as far as one is.
    pub top: &'a [u8],
    /// What it is.
    pub kind: Kind,
    /// Whose it is.
    pub user: &'a str,
    /// What people call it.
    pub name: &'a str,
}

/// What is known of a message besides its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// Its content.
    pub content: ContentId,
    /// Bytes.
    pub size: u64,
    /// What its head says; `None` where that cannot be read.
    pub heading: Option<Heading>,
    /// Its server has compressed or encrypted it: nobody will ever read its head.
    pub opaque: bool,
    pub(super) words: Words,
}

impl Facts {
    /// Puts together what is known of a message.
    pub fn new(content: ContentId, size: u64, heading: Option<Heading>, opaque: bool) -> Facts {
        let words = heading.as_ref().map(Words::of).unwrap_or_default();
        Facts { content, size, heading, opaque, words }
    }
}

/// A change of the catalogue; nothing of it counts before it is committed.
pub struct Fill<'a> {
    transaction: Transaction<'a>,
}

impl Catalogue {
    /// Begins a change; waits a while for another process that is at it.
    pub fn fill(&mut self) -> Result<Fill<'_>> {
        self.connection.pragma_update(None, "cache_size", -FILL_CACHE_KIB)?;
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        Ok(Fill { transaction })
    }
}

impl Fill<'_> {
    /// Makes the change count.
    pub fn commit(self) -> Result<()> {
        Ok(self.transaction.commit()?)
    }

    /// Sets such a fact.
    pub fn set_fact(&self, name: &str, value: &[u8]) -> Result<()> {
        let mut statement = self.transaction.prepare_cached("INSERT OR REPLACE INTO facts VALUES (?, ?)")?;
        statement.execute(params![name, value])?;
        Ok(())
    }

    /// The number of a series; it is made when it is new, and takes the host's name of today.
    pub fn series(&self, series: &Series) -> Result<SeriesNumber> {
        let mut statement =
            self.transaction.prepare_cached("SELECT id FROM series WHERE host = ? AND job = ?")?;
        let found: Option<i64> =
            statement.query_row(params![series.host.0, series.job], |row| row.get(0)).optional()?;
        if let Some(number) = found {
            self.transaction.execute(
                "UPDATE series SET host_name = ?2 WHERE id = ?1 AND host_name <> ?2",
                params![number, series.host_name],
            )?;
            return Ok(number);
        }
        self.transaction.execute(
            "INSERT INTO series (host, host_name, job) VALUES (?, ?, ?)",
            params![series.host.0, series.host_name, series.job],
        )?;
        Ok(self.transaction.last_insert_rowid())
    }

    /// The number of the newest snapshot of a series; 0 without one.
    pub fn last_number(&self, series: SeriesNumber) -> Result<i64> {
        let mut statement = self
            .transaction
            .prepare_cached("SELECT coalesce(max(number), 0) FROM snapshots WHERE series = ?")?;
        Ok(statement.query_row([series], |row| row.get(0))?)
    }

    /// Takes in a snapshot as number `number` of its series.
    pub fn add_snapshot(
        &self,
        series: SeriesNumber,
        number: i64,
        hash: &ObjectHash,
        started: i64,
        whole: bool,
    ) -> Result<()> {
        let mut statement =
            self.transaction.prepare_cached("INSERT INTO snapshots VALUES (?, ?, ?, ?, ?)")?;
        statement.execute(params![series, number, hash.0, started, whole])?;
        Ok(())
    }

    /// Takes out a snapshot. What stayed in no other is left for [`Fill::sweep`].
    pub fn drop_snapshot(&self, series: SeriesNumber, number: i64) -> Result<()> {
        let mut statement =
            self.transaction.prepare_cached("DELETE FROM snapshots WHERE series = ? AND number = ?")?;
        statement.execute([series, number])?;
        Ok(())
    }

    /// Takes out a series, with its stays; messages are left for [`Fill::sweep`].
    pub fn drop_series(&self, series: SeriesNumber) -> Result<()> {
        for statement in [
            "DELETE FROM stays WHERE folder IN (SELECT id FROM folders WHERE series = ?)",
            "DELETE FROM uids WHERE folder IN (SELECT id FROM folders WHERE series = ?)",
            "DELETE FROM keywords WHERE folder IN (SELECT id FROM folders WHERE series = ?)",
            "DELETE FROM folders WHERE series = ?",
            "DELETE FROM snapshots WHERE series = ?",
            "DELETE FROM series WHERE id = ?",
        ] {
            self.transaction.execute(statement, [series])?;
        }
        Ok(())
    }

    /// Takes out stays that no snapshot holds any more, and messages that stay nowhere; gives how many messages.
    pub fn sweep(&self) -> Result<u64> {
        self.transaction.execute(
            "DELETE FROM stays WHERE last NOT NULL AND NOT EXISTS (SELECT 1 FROM folders JOIN snapshots ON \
             snapshots.series = folders.series WHERE folders.id = stays.folder AND snapshots.number BETWEEN \
             stays.first AND stays.last)",
            [],
        )?;
        self.transaction.execute_batch(
            "CREATE TEMP TABLE IF NOT EXISTS nowhere (id INTEGER PRIMARY KEY); DELETE FROM nowhere; \
             INSERT INTO nowhere SELECT id FROM messages WHERE NOT EXISTS (SELECT 1 FROM stays WHERE message = messages.id)",
        )?;
        for statement in [
            "DELETE FROM words WHERE rowid IN nowhere",
            "DELETE FROM texts WHERE id IN nowhere",
            "DELETE FROM uids WHERE NOT EXISTS (SELECT 1 FROM folders WHERE id = uids.folder)",
        ] {
            self.transaction.execute(statement, [])?;
        }
        let gone = self.transaction.execute("DELETE FROM messages WHERE id IN nowhere", [])?;
        if gone > 0 {
            // A deleted word stands in the file until its part is written anew.
            self.transaction.execute("INSERT INTO words (words) VALUES ('optimize')", [])?;
        }
        Ok(gone as u64)
    }

    /// The number of a mail folder; it is made when it is new.
    pub fn folder(&self, series: SeriesNumber, folder: &Mailfolder<'_>) -> Result<i64> {
        if let Some(number) = self.folder_at(series, folder.path)? {
            return Ok(number);
        }
        let mut statement = self.transaction.prepare_cached(
            "INSERT INTO folders (series, path, top, kind, user, name, validity, highest) VALUES (?, ?, ?, ?, ?, ?, 0, 0)",
        )?;
        let kind = folder.kind as i64;
        statement.execute(params![series, folder.path, folder.top, kind, folder.user, folder.name])?;
        Ok(self.transaction.last_insert_rowid())
    }

    /// The number of a mail folder that is known.
    pub fn folder_at(&self, series: SeriesNumber, path: &[u8]) -> Result<Option<i64>> {
        let mut statement =
            self.transaction.prepare_cached("SELECT id FROM folders WHERE series = ? AND path = ?")?;
        Ok(statement.query_row(params![series, path], |row| row.get(0)).optional()?)
    }

    /// The mail folder of a user under the name that people call it by.
    pub fn folder_named(&self, series: SeriesNumber, user: &str, name: &str) -> Result<Option<i64>> {
        let mut statement = self.transaction.prepare_cached(
            "SELECT id FROM folders WHERE user = ? AND series = ? AND name = ? AND kind = 0",
        )?;
        Ok(statement.query_row(params![user, series, name], |row| row.get(0)).optional()?)
    }

    /// Begins to hear what a file of several messages holds now.
    pub fn begin_file(&self) -> Result<()> {
        Ok(self.transaction.execute_batch(
            "CREATE TEMP TABLE IF NOT EXISTS held (stay INTEGER PRIMARY KEY, content BLOB); \
             CREATE INDEX IF NOT EXISTS temp.held_contents ON held (content); DELETE FROM temp.held",
        )?)
    }

    /// How many messages of this content the file was heard to hold.
    pub fn turns_in_file(&self, content: &ContentId) -> Result<u64> {
        let mut statement =
            self.transaction.prepare_cached("SELECT count(*) FROM temp.held WHERE content = ?")?;
        Ok(statement.query_row([content], |row| row.get::<_, i64>(0))?.unsigned_abs())
    }

    /// Notes that the file holds a message that stays there under this name; false when none does.
    pub fn stays_in_file(&self, file: i64, name: &[u8], content: &ContentId) -> Result<bool> {
        let mut statement = self.transaction.prepare_cached(
            "INSERT OR IGNORE INTO temp.held SELECT id, ?3 FROM stays WHERE folder = ?1 AND name = ?2 AND last IS NULL",
        )?;
        Ok(statement.execute(params![file, name, content])? > 0)
    }

    /// Whatever stayed in the file and was not heard of stood there up to snapshot `last`.
    pub fn end_file(&self, file: i64, last: i64) -> Result<()> {
        let mut statement = self.transaction.prepare_cached(
            "UPDATE stays SET last = ? WHERE folder = ? AND last IS NULL AND id NOT IN (SELECT stay FROM temp.held)",
        )?;
        statement.execute([last, file])?;
        Ok(())
    }

    /// The number of a message, if its content is known.
    pub fn message(&self, content: &ContentId) -> Result<Option<i64>> {
        let mut statement = self.transaction.prepare_cached("SELECT id FROM messages WHERE content = ?")?;
        Ok(statement.query_row([content], |row| row.get(0)).optional()?)
    }

    /// Lists a message, or adds what was not known of it before.
    pub fn add_message(&self, facts: &Facts) -> Result<i64> {
        let heading = facts.heading.as_ref();
        let id = heading.filter(|heading| !heading.message_id.is_empty());
        let id = id.map(|heading| number_of(heading.message_id.as_bytes()));
        let mut statement = self.transaction.prepare_cached(
            "INSERT INTO messages (content, size, date, message_id, read) VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO \
             UPDATE SET date = ?3, message_id = ?4, read = ?5 WHERE read = 0 RETURNING id",
        )?;
        let size = i64::try_from(facts.size).unwrap_or(i64::MAX);
        let date = heading.and_then(|heading| heading.date);
        let read = match heading {
            Some(_) => READ,
            None if facts.opaque => OPAQUE,
            None => UNREAD,
        };
        let added: Option<i64> =
            statement.query_row(params![facts.content, size, date, id, read], |row| row.get(0)).optional()?;
        let Some(number) = added else {
            return self.message(&facts.content)?.ok_or_else(|| super::IndexError::damaged("table messages"));
        };
        if let Some(heading) = heading {
            self.add_texts(number, heading, &facts.words)?;
        }
        Ok(number)
    }

    fn add_texts(&self, number: i64, heading: &Heading, words: &Words) -> Result<()> {
        let mut statement =
            self.transaction.prepare_cached("INSERT OR REPLACE INTO texts VALUES (?, ?, ?, ?, ?, ?, ?)")?;
        statement.execute(params![
            number,
            heading.from,
            heading.to,
            heading.cc,
            heading.subject,
            heading.message_id,
            heading.attachments
        ])?;
        let mut statement = self.transaction.prepare_cached(
            "INSERT INTO words (rowid, sender, receivers, subject, attachments) VALUES (?, ?, ?, ?, ?)",
        )?;
        statement.execute(params![
            number,
            words.sender,
            words.receivers,
            words.subject,
            words.attachments
        ])?;
        Ok(())
    }

    /// A message stands in a folder from snapshot `first` on.
    pub fn arrive(&self, folder: i64, message: i64, name: &[u8], arrived: i64, first: i64) -> Result<()> {
        let mut statement = self.transaction.prepare_cached(
            "INSERT INTO stays (folder, message, name, arrived, first, last) VALUES (?, ?, ?, ?, ?, NULL)",
        )?;
        statement.execute(params![folder, message, name, arrived, first])?;
        Ok(())
    }

    /// A message stood in a folder up to snapshot `last`.
    pub fn leave(&self, folder: i64, name: &[u8], last: i64) -> Result<()> {
        let mut statement = self
            .transaction
            .prepare_cached("UPDATE stays SET last = ? WHERE folder = ? AND name = ? AND last IS NULL")?;
        statement.execute(params![last, folder, name])?;
        Ok(())
    }

    /// Notes the UIDs of a folder: under one UIDVALIDITY only those above the highest that is known, for UIDs ascend.
    pub fn set_uids(&self, folder: i64, list: &Uidlist<'_>) -> Result<()> {
        let known: (i64, i64) = self.transaction.query_row(
            "SELECT validity, highest FROM folders WHERE id = ?",
            [folder],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
        let validity = i64::from(list.header.validity);
        let above = if known.0 == validity { known.1 } else { 0 };
        let mut highest = above;
        let mut statement =
            self.transaction.prepare_cached("INSERT OR REPLACE INTO uids VALUES (?, ?, ?, ?, ?)")?;
        for line in list.lines().filter(|line| i64::from(line.uid) > above) {
            highest = highest.max(line.uid.into());
            statement.execute(params![folder, number_of(line.base()), line.uid, validity, line.guid])?;
        }
        self.transaction.execute(
            "UPDATE folders SET validity = ?, highest = ? WHERE id = ?",
            params![validity, highest, folder],
        )?;
        Ok(())
    }

    /// Notes what the letters of a folder's keywords mean.
    pub fn set_keywords(&self, folder: i64, keywords: &Keywords) -> Result<()> {
        let mut statement =
            self.transaction.prepare_cached("INSERT OR REPLACE INTO keywords VALUES (?, ?, ?)")?;
        for (letter, name) in keywords.iter() {
            statement.execute(params![folder, letter, name])?;
        }
        Ok(())
    }

    /// Messages whose head could not be read so far: content, and where they stand now (folder path, name).
    pub fn unread(&self, host: &HostId, most: usize) -> Result<Vec<(ContentId, u64, Vec<u8>)>> {
        let mut statement = self.transaction.prepare(
            "SELECT m.content, m.size, f.path, s.name FROM messages m CROSS JOIN stays s ON s.message = m.id JOIN folders f \
             ON f.id = s.folder JOIN series e ON e.id = f.series WHERE m.read = 0 AND s.last IS NULL AND f.kind = 0 AND \
             e.host = ? GROUP BY m.id LIMIT ?",
        )?;
        let rows = statement.query_map(params![host.0, most as i64], |row| {
            let path: Vec<u8> = row.get(2)?;
            let name: Vec<u8> = row.get(3)?;
            let size: i64 = row.get(1)?;
            Ok((row.get(0)?, size.unsigned_abs(), [path.as_slice(), b"/", name.as_slice()].concat()))
        })?;
        Ok(rows.collect::<rusqlite::Result<_>>()?)
    }
}
