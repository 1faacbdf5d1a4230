//! Reading: which messages fit a query, and where each of them stayed.

use std::collections::{BTreeMap, HashMap, HashSet};

use rusqlite::types::Value;
use rusqlite::{OptionalExtension, params, params_from_iter};

use super::query::{Query, State};
use super::{ASK_CACHE_KIB, Catalogue, ContentId, Kind, KnownSnapshot, Series, SeriesNumber, number_of};
use crate::base::id::ObjectHash;
use crate::index::Result;
use crate::mail::heading::Heading;
use crate::mail::letter::split_flags;
use crate::mail::maildir;

/// A message, in a mailbox of one user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its content.
    pub content: ContentId,
    /// Whose.
    pub user: String,
    /// Bytes.
    pub size: u64,
    /// What its head says; `None` where nobody could read that.
    pub heading: Option<Heading>,
    /// Where it stayed, oldest first.
    pub stays: Vec<Stay>,
}

impl Found {
    /// Is it still in a mailbox of its user?
    pub fn is_there(&self) -> bool {
        self.stays.iter().any(|stay| stay.gone.is_none())
    }

    /// The stay that it was seen at last.
    pub fn newest(&self) -> Option<&Stay> {
        self.stays.iter().max_by_key(|stay| stay.recency())
    }
}

/// A message under one name in one folder, through some snapshots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stay {
    /// The series of snapshots.
    pub series: SeriesNumber,
    /// The logical path of the folder, or of the file that holds it.
    pub path: Vec<u8>,
    /// The topmost mail folder on the way there; empty for a file outside of all.
    pub top: Vec<u8>,
    /// What the folder is.
    pub kind: Kind,
    /// What people call it.
    pub folder: String,
    /// `cur/…` or `new/…` below that path.
    pub name: Vec<u8>,
    /// When it arrived there (INTERNALDATE), unix seconds.
    pub arrived: i64,
    /// The first snapshot that holds it, of those that are left.
    pub first: KnownSnapshot,
    /// The last one.
    pub last: KnownSnapshot,
    /// The first snapshot after that; `None` when it is in the newest.
    pub gone: Option<KnownSnapshot>,
    /// UIDVALIDITY and UID, where the folder's list said so.
    pub uid: Option<(u32, u32)>,
    /// What the server told it by, where that is not the base name.
    pub guid: Option<Vec<u8>>,
    /// Names of its keywords.
    pub keywords: Vec<String>,
}

impl Stay {
    /// The flags of its name: standard letters, sorted.
    pub fn flags(&self) -> Vec<u8> {
        split_flags(maildir::parse(&self.name).flags.unwrap_or_default()).0
    }

    /// Orders stays by how late a message was seen there.
    fn recency(&self) -> impl Ord + use<> {
        (self.gone.is_none(), self.last.started)
    }

    /// Nobody had looked into the folder since it came.
    pub fn is_new(&self) -> bool {
        self.name.starts_with(b"new/")
    }
}

#[derive(Debug, Clone)]
struct Folder {
    series: SeriesNumber,
    path: Vec<u8>,
    top: Vec<u8>,
    kind: Kind,
    user: String,
    name: String,
}

/// Asks a catalogue; sees what it held when the asking began.
pub struct Asker<'a> {
    catalogue: &'a Catalogue,
    folders: HashMap<i64, Folder>,
    snapshots: BTreeMap<SeriesNumber, Vec<KnownSnapshot>>,
    /// The series, by their numbers.
    pub series: BTreeMap<SeriesNumber, Series>,
}

/// Messages that are few enough to be sorted.
const FEW: i64 = 20_000;

/// A stay as its row says it.
struct Row {
    folder: i64,
    message: i64,
    name: Vec<u8>,
    arrived: i64,
    first: i64,
    last: Option<i64>,
}

const ROW: &str = "s.folder, s.message, s.name, s.arrived, s.first, s.last";

fn row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Row> {
    Ok(Row {
        folder: row.get(0)?,
        message: row.get(1)?,
        name: row.get(2)?,
        arrived: row.get(3)?,
        first: row.get(4)?,
        last: row.get(5)?,
    })
}

impl Catalogue {
    /// Begins to ask.
    pub fn asker(&self) -> Result<Asker<'_>> {
        self.connection.pragma_update(None, "cache_size", -ASK_CACHE_KIB)?;
        let series: BTreeMap<_, _> = self.series()?.into_iter().collect();
        let mut snapshots = BTreeMap::new();
        for &number in series.keys() {
            snapshots.insert(number, self.snapshots(number)?);
        }
        let mut statement =
            self.connection.prepare("SELECT id, series, path, kind, user, name, top FROM folders")?;
        let rows = statement.query_map([], |row| {
            let kind = if row.get::<_, i64>(3)? == 0 { Kind::Maildir } else { Kind::File };
            let folder = Folder {
                series: row.get(1)?,
                path: row.get(2)?,
                kind,
                user: row.get(4)?,
                name: row.get(5)?,
                top: row.get(6)?,
            };
            Ok((row.get(0)?, folder))
        })?;
        let folders = rows.collect::<rusqlite::Result<_>>()?;
        drop(statement);
        Ok(Asker { catalogue: self, folders, snapshots, series })
    }
}

impl Asker<'_> {
    /// The snapshots of a series, in order.
    pub fn snapshots(&self, series: SeriesNumber) -> &[KnownSnapshot] {
        self.snapshots.get(&series).map_or(&[], Vec::as_slice)
    }

    /// Users that have mail, sorted.
    pub fn users(&self) -> Vec<&str> {
        let users: HashSet<&str> = self.folders.values().map(|folder| folder.user.as_str()).collect();
        let mut users: Vec<&str> = users.into_iter().collect();
        users.sort_unstable();
        users
    }

    /// Finds up to `most` messages, those that arrived last first; the flag says that there are more.
    pub fn find(&self, query: &Query, most: usize) -> Result<(Vec<Found>, bool)> {
        let chosen = self.choose(query)?;
        if chosen.as_ref().is_some_and(Vec::is_empty) {
            return Ok((Vec::new(), false));
        }
        let (sql, values) = statement(query, chosen.is_some(), self.is_rare(query)?);
        let mut statement = self.catalogue.connection.prepare(&sql)?;
        let mut rows = statement.query(params_from_iter(values))?;
        let mut seen: HashSet<(i64, &str)> = HashSet::new();
        let mut found = Vec::new();
        while let Some(next) = rows.next()? {
            let stay = row(next)?;
            let Some(folder) = self.folders.get(&stay.folder) else { continue };
            if seen.contains(&(stay.message, folder.user.as_str())) || !self.row_fits(query, &stay, folder)? {
                continue;
            }
            seen.insert((stay.message, &folder.user));
            let Some(message) = self.look_up(stay.message, &folder.user)? else { continue };
            if !fits(query, &message) {
                continue;
            }
            if found.len() == most {
                return Ok((found, true));
            }
            found.push(message);
        }
        Ok((found, false))
    }

    /// The stay of a message that a query means, and the newest snapshot of those that are asked for to hold it.
    ///
    /// Where no stay fits by itself, it is the one that the message was seen at last.
    pub fn stand<'f>(&self, query: &Query, found: &'f Found) -> Option<(&'f Stay, ObjectHash)> {
        let held_by = |stay: &Stay| {
            let numbers = query.within.iter().filter(|(series, number)| {
                *series == stay.series && (stay.first.number..=stay.last.number).contains(number)
            });
            let newest = numbers.map(|(_, number)| *number).max()?;
            self.snapshots(stay.series).iter().find(|known| known.number == newest).map(|known| known.hash)
        };
        let fits =
            |stay: &&Stay| query.fits_stay(stay) && (query.within.is_empty() || held_by(stay).is_some());
        let fitting = found.stays.iter().filter(fits).max_by_key(|stay| stay.recency());
        let stay = fitting.or_else(|| found.newest())?;
        Some((stay, held_by(stay).unwrap_or(stay.last.hash)))
    }

    /// Do size or date of sending alone leave few messages? Else it is quicker to look through them as they arrived.
    fn is_rare(&self, query: &Query) -> Result<bool> {
        let condition = match (query.size_min, query.size_max, query.sent.from, query.sent.to) {
            (None, None, None, None) => return Ok(false),
            (Some(least), ..) => format!("size >= {}", i64::try_from(least).unwrap_or(i64::MAX)),
            (_, Some(most), ..) => format!("size <= {}", i64::try_from(most).unwrap_or(i64::MAX)),
            (_, _, from, to) => {
                format!("date >= {} AND date < {}", from.unwrap_or(i64::MIN), to.unwrap_or(i64::MAX))
            }
        };
        let sql =
            format!("SELECT count(*) FROM (SELECT 1 FROM messages WHERE {condition} LIMIT {})", FEW + 1);
        let found: i64 = self.catalogue.connection.query_row(&sql, [], |row| row.get(0))?;
        Ok(found <= FEW)
    }

    /// Puts the folders that are asked for into a table `chosen`; `None` when all are.
    fn choose(&self, query: &Query) -> Result<Option<Vec<i64>>> {
        if query.user.is_none() && query.folder.is_none() && query.within.is_empty() {
            return Ok(None);
        }
        let in_series = |folder: &Folder| {
            query.within.is_empty() || query.within.iter().any(|(series, _)| *series == folder.series)
        };
        let fits = |folder: &Folder| {
            in_series(folder) && query.fits_user(&folder.user) && query.fits_folder(&folder.name)
        };
        let chosen: Vec<i64> =
            self.folders.iter().filter(|(_, folder)| fits(folder)).map(|(&number, _)| number).collect();
        let connection = &self.catalogue.connection;
        connection.execute_batch(
            "CREATE TEMP TABLE IF NOT EXISTS chosen (id INTEGER PRIMARY KEY); DELETE FROM chosen",
        )?;
        let mut statement = connection.prepare("INSERT INTO chosen VALUES (?)")?;
        for number in &chosen {
            statement.execute([number])?;
        }
        Ok(Some(chosen))
    }

    fn row_fits(&self, query: &Query, stay: &Row, folder: &Folder) -> Result<bool> {
        let flags = maildir::parse(&stay.name).flags.unwrap_or_default();
        let (flags, letters) = split_flags(flags);
        if !query.fits_flags(&flags) || !query.arrived.holds(stay.arrived) {
            return Ok(false);
        }
        let is_within = |&(series, number): &(SeriesNumber, i64)| {
            series == folder.series && stay.first <= number && stay.last.is_none_or(|last| last >= number)
        };
        if !query.within.is_empty() && !query.within.iter().any(is_within) {
            return Ok(false);
        }
        if let Some(wanted) = &query.keyword {
            let names = self.keywords(stay.folder, &letters)?;
            if !names.iter().any(|name| name.eq_ignore_ascii_case(wanted)) {
                return Ok(false);
            }
        }
        if let Some(wanted) = query.uid {
            return Ok(self.uid(stay)?.is_some_and(|(uid, _)| uid.1 == wanted));
        }
        Ok(true)
    }

    /// A message with all its stays in mailboxes of one user; `None` when no snapshot holds it.
    fn look_up(&self, message: i64, user: &str) -> Result<Option<Found>> {
        let connection = &self.catalogue.connection;
        let mut statement = connection.prepare_cached(
            "SELECT m.content, m.size, m.date, t.sender, t.receivers, t.copies, t.subject, t.message_id, t.attachments \
             FROM messages m LEFT JOIN texts t ON t.id = m.id WHERE m.id = ?",
        )?;
        let read = |row: &rusqlite::Row<'_>| {
            let heading = match row.get::<_, Option<String>>(3)? {
                None => None,
                Some(from) => Some(Heading {
                    date: row.get(2)?,
                    from,
                    to: row.get(4)?,
                    cc: row.get(5)?,
                    subject: row.get(6)?,
                    message_id: row.get(7)?,
                    attachments: row.get(8)?,
                }),
            };
            Ok((row.get::<_, ContentId>(0)?, row.get::<_, i64>(1)?.unsigned_abs(), heading))
        };
        let Some((content, size, heading)) = statement.query_row([message], read).optional()? else {
            return Ok(None);
        };
        let sql = format!("SELECT {ROW} FROM stays s WHERE s.message = ? ORDER BY s.first, s.id");
        let mut statement = connection.prepare_cached(&sql)?;
        let rows = statement.query_map([message], row)?.collect::<rusqlite::Result<Vec<Row>>>()?;
        let mut stays = Vec::new();
        for row in rows {
            match self.folders.get(&row.folder) {
                Some(folder) if folder.user == user => stays.extend(self.stay(row, folder)?),
                _ => {}
            }
        }
        let order = |stay: &Stay| (stay.series, stay.first.number, stay.last.number);
        stays.sort_by(|a, b| (order(a), &a.path, &a.name).cmp(&(order(b), &b.path, &b.name)));
        self.join(&mut stays);
        let found = Found { content, user: user.to_owned(), size, heading, stays };
        Ok(Some(found).filter(|found| !found.stays.is_empty()))
    }

    /// Joins stays under one name that nothing lies between any more, since snapshots were forgotten.
    fn join(&self, stays: &mut Vec<Stay>) {
        let mut joined: Vec<Stay> = Vec::new();
        for stay in stays.drain(..) {
            let follows = |before: &&mut Stay| {
                (before.series, &before.path, &before.name) == (stay.series, &stay.path, &stay.name)
                    && before.gone.as_ref().is_some_and(|gone| gone.number == stay.first.number)
            };
            match joined.iter_mut().rev().find(follows) {
                Some(before) => (before.last, before.gone) = (stay.last, stay.gone),
                None => joined.push(stay),
            }
        }
        *stays = joined;
    }

    /// `None` when all snapshots that held it are gone.
    fn stay(&self, row: Row, folder: &Folder) -> Result<Option<Stay>> {
        let snapshots = self.snapshots(folder.series);
        let from = snapshots.partition_point(|known| known.number < row.first);
        let behind =
            row.last.map_or(snapshots.len(), |last| snapshots.partition_point(|known| known.number <= last));
        if from >= behind {
            return Ok(None);
        }
        let (_, letters) = split_flags(maildir::parse(&row.name).flags.unwrap_or_default());
        let uid = self.uid(&row)?;
        Ok(Some(Stay {
            series: folder.series,
            path: folder.path.clone(),
            top: folder.top.clone(),
            kind: folder.kind,
            folder: folder.name.clone(),
            keywords: self.keywords(row.folder, &letters)?,
            uid: uid.as_ref().map(|(uid, _)| *uid),
            guid: uid.and_then(|(_, guid)| guid),
            name: row.name,
            arrived: row.arrived,
            first: snapshots[from].clone(),
            last: snapshots[behind - 1].clone(),
            gone: snapshots.get(behind).cloned(),
        }))
    }

    #[allow(clippy::type_complexity)]
    fn uid(&self, row: &Row) -> Result<Option<((u32, u32), Option<Vec<u8>>)>> {
        let name = row.name.get(4..).unwrap_or_default();
        let mut statement = self
            .catalogue
            .connection
            .prepare_cached("SELECT validity, uid, guid FROM uids WHERE folder = ? AND base = ?")?;
        let read = |row: &rusqlite::Row<'_>| Ok(((row.get(0)?, row.get(1)?), row.get(2)?));
        Ok(statement.query_row(params![row.folder, number_of(maildir::base(name))], read).optional()?)
    }

    fn keywords(&self, folder: i64, letters: &[u8]) -> Result<Vec<String>> {
        let mut statement = self
            .catalogue
            .connection
            .prepare_cached("SELECT name FROM keywords WHERE folder = ? AND letter = ?")?;
        let mut names = Vec::new();
        for letter in letters {
            let name: Option<Vec<u8>> =
                statement.query_row(params![folder, letter], |row| row.get(0)).optional()?;
            names.push(name.map_or_else(
                || format!("unknown-{}", letter - b'a'),
                |name| String::from_utf8_lossy(&name).into_owned(),
            ));
        }
        Ok(names)
    }
}

/// What can only be told of all stays of a message together.
fn fits(query: &Query, found: &Found) -> bool {
    let there = found.is_there();
    let right_place = match query.state {
        State::Any => true,
        State::There => there,
        State::Gone => !there,
    };
    if !right_place || !query.fits_content(&found.content) {
        return false;
    }
    if query.gone.is_open() {
        return true;
    }
    let went = found.stays.iter().filter_map(|stay| stay.gone.as_ref()).map(|gone| gone.started).max();
    !there && went.is_some_and(|went| query.gone.holds(went.div_euclid(1_000_000_000)))
}

/// Finds the stays that may fit, the latest arrival first.
fn statement(query: &Query, chosen: bool, rare: bool) -> (String, Vec<Value>) {
    let mut values: Vec<Value> = Vec::new();
    let mut conditions: Vec<String> = Vec::new();
    let from = if let Some(text) = query.full_text() {
        conditions.push("words MATCH ?".to_owned());
        values.push(text.into());
        "words w CROSS JOIN stays s ON s.message = w.rowid CROSS JOIN messages m ON m.id = s.message"
    } else if query.message_id.is_some() || query.content.is_some() || rare {
        "messages m CROSS JOIN stays s ON s.message = m.id"
    } else if chosen {
        "temp.chosen c CROSS JOIN stays s ON s.folder = c.id CROSS JOIN messages m ON m.id = s.message"
    } else {
        "stays s CROSS JOIN messages m ON m.id = s.message"
    };
    let mut add = |condition: &str, value: Value| {
        conditions.push(condition.to_owned());
        values.push(value);
    };
    let number = |number: u64| Value::from(i64::try_from(number).unwrap_or(i64::MAX));
    if let Some(id) = &query.message_id {
        add("m.message_id = ?", number_of(id.as_bytes()).into());
    }
    if let Some((from, to)) = query.content.as_deref().and_then(content_range) {
        add("m.content >= ?", Value::Blob(from));
        add("m.content <= ?", Value::Blob(to));
    }
    for (bound, condition) in [
        (query.arrived.from, "s.arrived >= ?"),
        (query.arrived.to, "s.arrived < ?"),
        (query.sent.from, "m.date >= ?"),
        (query.sent.to, "m.date < ?"),
    ] {
        if let Some(bound) = bound {
            add(condition, bound.into());
        }
    }
    if let Some(least) = query.size_min {
        add("m.size >= ?", number(least));
    }
    if let Some(most) = query.size_max {
        add("m.size <= ?", number(most));
    }
    if chosen {
        conditions.push("s.folder IN temp.chosen".to_owned());
    }
    if query.state == State::Gone || !query.gone.is_open() {
        conditions.push("s.last NOT NULL".to_owned());
    }
    let wanted =
        if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
    (format!("SELECT {ROW} FROM {from}{wanted} ORDER BY s.arrived DESC, s.id DESC"), values)
}

/// The least and the greatest content id that begin with these hex digits.
fn content_range(digits: &str) -> Option<(Vec<u8>, Vec<u8>)> {
    let fill = |digit: char| -> Option<Vec<u8>> {
        let text: String = digits.chars().chain(std::iter::repeat(digit)).take(32).collect();
        (0..32).step_by(2).map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok()).collect()
    };
    Some((fill('0')?, fill('f')?))
}
