//! Messages that the catalogue found, taken out of the snapshots that held them last.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;

use super::commands::Context;
use super::failure::{Failure, Kind};
use super::session::Session;
use crate::base::bytes;
use crate::base::id::ObjectHash;
use crate::format::page::Node;
use crate::index::catalogue::{Found, Kind as Place, Stay};
use crate::ops::catalogue::position;
use crate::ops::pick::{Picked, Picker};
use crate::repo::reader::BlobReader;
use crate::repo::snapshots::SnapshotInfo;
use crate::repo::view;

/// Takes a message, or why it cannot be had.
pub type Tell<'t> = dyn FnMut(&Found, &Stay, Result<Picked<'_>, Failure>) -> Result<(), Failure> + 't;

/// Gives each message, or why it cannot be had, from the stay that it was seen at last; snapshot by snapshot.
///
/// # Errors
/// Those of `tell`, and what ends any run.
pub fn each(
    session: &Session,
    listed: &[SnapshotInfo],
    found: &[Found],
    context: &Context<'_>,
    tell: &mut Tell<'_>,
) -> Result<(), Failure> {
    let mut by_snapshot: BTreeMap<ObjectHash, Vec<(&Found, &Stay)>> = BTreeMap::new();
    for message in found {
        let Some(stay) = message.newest() else { continue };
        by_snapshot.entry(stay.last.hash).or_default().push((message, stay));
    }
    let zone = TimeZone::system();
    for (hash, mut messages) in by_snapshot {
        let Some(info) = listed.iter().find(|info| info.hash == hash) else { continue };
        let reader = session.reader(info)?;
        let mut picker =
            Picker::new((&reader, context.interrupt, &zone), &info.snapshot, &context.settings.users);
        // Folder by folder: what a picker knows of one serves all of its messages.
        messages.sort_by(|(_, a), (_, b)| (&a.path, &a.name).cmp(&(&b.path, &b.name)));
        for (message, stay) in messages {
            context.interrupt.check().map_err(crate::repo::RepoError::from)?;
            tell(message, stay, pick(&mut picker, &reader, info, stay))?;
        }
    }
    Ok(())
}

fn pick<'a>(
    picker: &mut Picker<'a>,
    reader: &BlobReader<'a>,
    info: &SnapshotInfo,
    stay: &Stay,
) -> Result<Picked<'a>, Failure> {
    let lost = || {
        let path = bytes::display(&stay.path);
        Failure::new(
            Kind::Damaged,
            format!("{path}: snapshot {} does not hold the message", info.hash.short()),
        )
    };
    let (path, number) = match stay.kind {
        Place::Maildir => (view::join(&stay.path, &stay.name), 0),
        Place::File => {
            let tops = view::tops(reader, &info.snapshot, &stay.path);
            let entry = tops.entries.into_iter().find(|(path, _)| *path == stay.path).ok_or_else(lost)?.1;
            let Node::File(file) = &entry.node else { return Err(lost()) };
            let number = position(reader, &info.domain, file, &stay.name)?.ok_or_else(lost)?;
            (stay.path.clone(), number)
        }
    };
    picker.message(&path, number)?.ok_or_else(lost)
}
