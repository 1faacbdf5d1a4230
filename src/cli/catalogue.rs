//! The catalogue of a session: opened, and brought into step with the snapshots.

use super::commands::Context;
use super::failure::{Failure, Kind};
use super::output::{complain, count};
use super::progress::Meter;
use super::session::{Session, index_dir};
use crate::base::id::ObjectHash;
use crate::base::progress::{Progress, Quiet};
use crate::format::keyset::KeySet;
use crate::index::IndexError;
use crate::index::catalogue::{Catalogue, FillLock};
use crate::ops::catalogue::{CatalogueError, Options, Report, sync};
use crate::repo::snapshots::SnapshotInfo;

impl From<CatalogueError> for Failure {
    fn from(error: CatalogueError) -> Failure {
        match error {
            CatalogueError::Repository(error) => error.into(),
            CatalogueError::Catalogue(_) => Failure::because(Kind::Storage, "", &error).hint(
                "'mailark cache clean' throws it away; it is made anew by the next command that needs it",
            ),
        }
    }
}

/// The catalogue, in step with all snapshots; tells when that takes a while.
pub fn in_step(
    session: &Session,
    snapshots: &[SnapshotInfo],
    context: &Context<'_>,
) -> Result<Catalogue, Failure> {
    let _held = hold(session, context)?;
    let mut catalogue = open(session, context)?;
    let meter = Meter::start("catalogue", context.output.manner());
    let report = match bring(&mut catalogue, session, snapshots, None, &meter, context) {
        Err(CatalogueError::Catalogue(error)) if error.is_damage() => {
            context.output.remark(&format!("catalogue: {error}: building it anew"));
            drop(catalogue);
            wipe(session, context);
            catalogue = open(session, context)?;
            bring(&mut catalogue, session, snapshots, None, &meter, context)
        }
        report => report,
    };
    meter.finish();
    let report = match report {
        Err(CatalogueError::Catalogue(IndexError::Busy)) => {
            complain(
                "mailark: another run is filling the catalogue: the newest snapshots may be missing from it\n",
            );
            Report::default()
        }
        report => report?,
    };
    if report.messages > 0 {
        context.output.remark(&format!("{} messages were new to the catalogue", count(report.messages)));
    }
    tell_gaps(&report);
    Ok(catalogue)
}

/// Takes out of the catalogue what the repository holds no more, where there is a catalogue.
pub fn follow_purge(session: &Session, context: &Context<'_>) {
    let Some(dir) = index_dir(context, &session.repository) else { return };
    if !Catalogue::exists(&dir, &session.repository.id()) {
        return;
    }
    let followed = session.sync().and_then(|()| {
        let _held = hold(session, context)?;
        let listed = session.look()?.0.snapshots;
        let mut catalogue = open(session, context)?;
        Ok(bring(&mut catalogue, session, &listed, None, &Quiet::default(), context)?)
    });
    if let Err(failure) = followed {
        complain(&format!(
            "mailark: the catalogue still lists what was purged: {}; 'mailark cache clean' removes it\n",
            failure.message
        ));
    }
}

fn wipe(session: &Session, context: &Context<'_>) {
    if let Some(dir) = index_dir(context, &session.repository) {
        Catalogue::wipe(&dir, &session.repository.id());
    }
}

/// Takes the snapshot that a backup just made into the catalogue; what hinders that is told and hinders no backup.
pub fn keep(session: &Session, made: &ObjectHash, context: &Context<'_>) {
    if context.settings.cache_dir.is_none() || !context.settings.catalogue {
        return;
    }
    let kept = hold(session, context).and_then(|_held| {
        let mut catalogue = open(session, context)?;
        let listed = session.look()?.0.snapshots;
        let Some(info) = listed.iter().find(|info| info.hash == *made) else { return Ok(()) };
        let kept = bring(&mut catalogue, session, &listed, Some(info), &Quiet::default(), context);
        if matches!(&kept, Err(CatalogueError::Catalogue(error)) if error.is_damage()) {
            // The next command that needs it makes it anew.
            drop(catalogue);
            wipe(session, context);
            return Ok(());
        }
        Ok(kept.map(drop)?)
    });
    match kept {
        Ok(()) => {}
        // The snapshot is there; the next run takes both in.
        Err(failure) if failure.kind == Kind::Interrupted => {}
        Err(failure) => {
            complain(&format!("mailark: the catalogue was not brought into step: {}\n", failure.message));
        }
    }
}

/// Waits until nobody else brings the catalogue into step.
fn hold(session: &Session, context: &Context<'_>) -> Result<Option<FillLock>, Failure> {
    let Some(dir) = index_dir(context, &session.repository) else { return Ok(None) };
    FillLock::wait(&dir, &session.repository.id()).map(Some).map_err(|error| match error {
        IndexError::Busy => {
            Failure::new(Kind::Storage, "another run is still filling the catalogue".to_owned())
                .hint("try again when it is done")
        }
        error => CatalogueError::from(error).into(),
    })
}

fn open(session: &Session, context: &Context<'_>) -> Result<Catalogue, Failure> {
    let opened = match index_dir(context, &session.repository) {
        Some(dir) => Catalogue::open(&dir, &session.repository.id()),
        None => Catalogue::in_memory(),
    };
    opened.map_err(|error| CatalogueError::from(error).into())
}

fn bring(
    catalogue: &mut Catalogue,
    session: &Session,
    snapshots: &[SnapshotInfo],
    only: Option<&SnapshotInfo>,
    progress: &dyn Progress,
    context: &Context<'_>,
) -> Result<Report, CatalogueError> {
    let local = match session.repository.keys.as_ref() {
        KeySet::Writer(keys) => Some(keys.host),
        KeySet::Full(_) => None,
    };
    let only = only.map(|info| (info.host, info.snapshot.job.as_str()));
    let options = Options { users: &context.settings.users, local, only };
    let open = |info: &SnapshotInfo| session.blobs(info);
    sync(catalogue, snapshots, &open, &options, progress, context.interrupt)
}

fn tell_gaps(report: &Report) {
    if report.broken > 0 {
        complain(&format!(
            "mailark: {} listings cannot be read: what they hold is not in the catalogue\n",
            count(report.broken)
        ));
    }
}
