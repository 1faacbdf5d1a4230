//! Writing differences into the catalogue.

use super::{CatalogueError, Change, Message, Place, Report};
use crate::index::catalogue::{Fill, Mailfolder, SeriesNumber};
use crate::mail::keywords::Keywords;
use crate::mail::templates::{self, Users};
use crate::mail::uidlist::Uidlist;

/// Takes the differences of one snapshot.
pub(super) struct Applier<'a, 'c> {
    pub(super) fill: &'a Fill<'c>,
    pub(super) users: &'a Users,
    pub(super) series: SeriesNumber,
    /// The number of the snapshot.
    pub(super) number: i64,
    /// That of the one before it.
    pub(super) before: i64,
    /// The folder used last.
    pub(super) folder: Option<(Vec<u8>, i64)>,
    /// The file of several messages that is open.
    pub(super) file: Option<i64>,
    pub(super) report: &'a mut Report,
}

/// Whose mail lies there, and what people call the place.
pub(super) fn name(users: &Users, path: &[u8], top: &[u8]) -> (String, String) {
    match users.mailbox(path, top) {
        Some(mailbox) => {
            let folder = templates::folder_name(path.get(mailbox.root..).unwrap_or_default());
            (mailbox.user, folder)
        }
        None => (String::new(), String::from_utf8_lossy(path).into_owned()),
    }
}

impl Applier<'_, '_> {
    pub(super) fn apply(&mut self, change: Change) -> Result<(), CatalogueError> {
        match change {
            Change::Left { folder, name } => {
                if let Some(folder) = self.known_folder(&folder)? {
                    self.fill.leave(folder, &name, self.before)?;
                }
            }
            Change::Arrived { folder, name, message, arrived } => {
                let folder = self.folder(&folder)?;
                let message = self.message(message)?;
                self.fill.arrive(folder, message, &name, arrived, self.number)?;
            }
            Change::Opened { file } => {
                self.file = Some(self.folder(&file)?);
                self.fill.begin_file()?;
            }
            Change::Inside { content, message, line, arrived } => {
                let Some(file) = self.file else { return Ok(()) };
                // Equal messages of one file are told apart by their turn.
                let turn = u16::try_from(self.fill.turns_in_file(&content)?).unwrap_or(u16::MAX);
                let line = line.unwrap_or_default().to_be_bytes();
                let name = [content.as_slice(), &turn.to_be_bytes(), &line].concat();
                if !self.fill.stays_in_file(file, &name, &content)? {
                    let message = self.message(message)?;
                    self.fill.arrive(file, message, &name, arrived, self.number)?;
                    self.fill.stays_in_file(file, &name, &content)?;
                }
            }
            Change::Closed => {
                if let Some(file) = self.file.take() {
                    self.fill.end_file(file, self.before)?;
                }
            }
            Change::Uids { folder, bytes } => {
                if let (Some(folder), Some(list)) = (self.state_folder(&folder)?, Uidlist::parse(&bytes)) {
                    self.fill.set_uids(folder, &list)?;
                }
            }
            Change::Keywords { folder, bytes } => {
                if let Some(folder) = self.state_folder(&folder)? {
                    self.fill.set_keywords(folder, &Keywords::parse(&bytes))?;
                }
            }
        }
        Ok(())
    }

    fn known_folder(&mut self, path: &[u8]) -> Result<Option<i64>, CatalogueError> {
        match &self.folder {
            Some((known, number)) if known == path => Ok(Some(*number)),
            _ => {
                let found = self.fill.folder_at(self.series, path)?;
                self.folder = found.map(|number| (path.to_vec(), number));
                Ok(found)
            }
        }
    }

    fn folder(&mut self, place: &Place) -> Result<i64, CatalogueError> {
        if let Some(number) = self.known_folder(&place.path)? {
            return Ok(number);
        }
        let (user, name) = name(self.users, &place.path, &place.top);
        let folder =
            Mailfolder { path: &place.path, top: &place.top, kind: place.kind, user: &user, name: &name };
        let number = self.fill.folder(self.series, &folder)?;
        self.folder = Some((place.path.clone(), number));
        Ok(number)
    }

    /// The mail folder that a file of the mail server speaks of: the one it lies in, or that of a control folder.
    fn state_folder(&mut self, place: &Place) -> Result<Option<i64>, CatalogueError> {
        if let Some(control) = self.users.control(&place.path) {
            let name = templates::folder_name(place.path.get(control.root..).unwrap_or_default());
            return Ok(self.fill.folder_named(self.series, &control.user, &name)?);
        }
        self.known_folder(&place.path)
    }

    fn message(&mut self, message: Message) -> Result<i64, CatalogueError> {
        let facts = match message {
            Message::Known(content) => match self.fill.message(&content)? {
                Some(number) => return Ok(number),
                // It was known to the run before, which was not committed.
                None => Box::new(super::Facts::new(content, 0, None, false)),
            },
            Message::New(facts) => facts,
        };
        self.report.messages += 1;
        self.report.unread += u64::from(facts.heading.is_none() && !facts.opaque);
        Ok(self.fill.add_message(&facts)?)
    }
}
