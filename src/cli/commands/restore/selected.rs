//! Which snapshots a restore of a user's mail reads.

use super::messages::Request;
use super::{RestoreArgs, wanted_path};
use crate::cli::commands::Context;
use crate::cli::failure::{Failure, Kind};
use crate::cli::output::{complain, local_time};
use crate::cli::session::{Session, complain_of};
use crate::ops::pick::{self, PickError, Survey};
use crate::repo::reader::BlobReader;
use crate::repo::snapshots::{SnapshotInfo, newest_of_each_job};

/// Which snapshots are read, and from which path on.
pub struct Selection {
    /// The snapshot that the mail comes from; of deleted mail, the last one that is looked at.
    pub snapshot: SnapshotInfo,
    /// All snapshots of its host and job, by time.
    pub job: Vec<SnapshotInfo>,
    /// Only at or below this logical path.
    pub below: Vec<u8>,
}

impl Selection {
    /// Finds the snapshots that the command line means.
    pub fn make(
        args: &RestoreArgs,
        request: &Request,
        session: &Session,
        context: &Context<'_>,
    ) -> Result<Selection, Failure> {
        let below = wanted_path(args.from.as_ref().and_then(|from| from.path.as_deref()))?;
        let filter = args.filter.to_filter().holding(&below);
        let (listed, lost) = session.look()?;
        let snapshot = match &args.from {
            Some(from) => session.snapshot(from.snapshot.text(), &filter)?,
            None => {
                complain_of(&listed, &lost);
                let fitting: Vec<SnapshotInfo> =
                    listed.snapshots.iter().filter(|info| filter.fits(info)).cloned().collect();
                newest_with_user(&fitting, request, session, context)?
            }
        };
        let is_of_job = |info: &&SnapshotInfo| {
            info.snapshot.host_name == snapshot.snapshot.host_name
                && info.snapshot.job == snapshot.snapshot.job
        };
        let job: Vec<SnapshotInfo> = listed.snapshots.iter().filter(is_of_job).cloned().collect();
        let mut selection = Selection { snapshot, job, below };
        if let Some(second) = request.existed_at {
            selection.snapshot = selection.stood_at(second)?;
            let info = &selection.snapshot;
            if !context.output.manner().quiet && !context.output.manner().json {
                let suspect =
                    if info.snapshot.suspect.is_some() { ", which looks too small to be true" } else { "" };
                let at = local_time(info.snapshot.started.into());
                complain(&format!("snapshot {} of {at}{suspect}\n", info.hash.short()));
            }
        }
        Ok(selection)
    }

    fn stood_at(&self, second: i64) -> Result<SnapshotInfo, Failure> {
        let job: Vec<&SnapshotInfo> = self.job.iter().collect();
        let at = i128::from(second) * 1_000_000_000;
        let found = pick::stood_at(&job, at).cloned();
        Ok(found.ok_or_else(|| PickError::NoSnapshotThen { at: local_time(at) })?)
    }

    /// Finds the mail folders of the user in the snapshot.
    pub fn survey(
        &self,
        reader: &BlobReader<'_>,
        user: &str,
        context: &Context<'_>,
    ) -> Result<Survey, Failure> {
        let info = &self.snapshot;
        let (name, users) = (info.hash.short(), &context.settings.users);
        Ok(pick::survey(reader, (&info.snapshot, &name), users, user, &self.below, context.interrupt)?)
    }
}

/// The newest snapshot, where several jobs have one the only one that holds mail of the user.
fn newest_with_user(
    fitting: &[SnapshotInfo],
    request: &Request,
    session: &Session,
    context: &Context<'_>,
) -> Result<SnapshotInfo, Failure> {
    let good: Vec<SnapshotInfo> =
        fitting.iter().filter(|info| info.snapshot.suspect.is_none()).cloned().collect();
    let newest = newest_of_each_job(if good.is_empty() { fitting } else { &good });
    let (mut holding, mut absent) = (Vec::new(), None);
    for info in &newest {
        let reader = session.reader(info)?;
        let name = info.hash.short();
        let user = &request.query.user;
        let users = &context.settings.users;
        match pick::survey(&reader, (&info.snapshot, &name), users, user, b"/", context.interrupt) {
            Ok(_) => holding.push(*info),
            // What is gone as a whole may still have been there before.
            Err(PickError::NoSuchUser { .. }) if newest.len() == 1 && request.is_of_the_past() => {
                holding.push(*info)
            }
            Err(error @ PickError::NoSuchUser { .. }) => absent = Some(error),
            Err(error) => return Err(error.into()),
        }
    }
    match (holding.as_slice(), absent) {
        ([only], _) => Ok((*only).clone()),
        ([], Some(error)) => match last_with_user(fitting, request, session, context)? {
            Some(info) => Ok(info),
            None => Err(error.into()),
        },
        ([], None) => Err(Failure::new(Kind::User, "no snapshot of that host, job or tag")
            .hint("'mailark snapshots' lists them")),
        (several, _) => {
            let names: Vec<String> = several
                .iter()
                .map(|info| format!("--host {} --job {}", info.snapshot.host_name, info.snapshot.job))
                .collect();
            let text = format!("several jobs hold mail of '{}': {}", request.query.user, names.join(", or "));
            Err(Failure::new(Kind::User, text))
        }
    }
}

/// Snapshots that are looked into for a user whom the newest does not know.
const LOOKED_INTO_MAX: usize = 1_000;

/// The last snapshot that held mail of somebody whose mail is gone as a whole; one that looks too small only after all
/// others.
fn last_with_user(
    fitting: &[SnapshotInfo],
    request: &Request,
    session: &Session,
    context: &Context<'_>,
) -> Result<Option<SnapshotInfo>, Failure> {
    let mut past: Vec<&SnapshotInfo> = fitting.iter().collect();
    past.sort_by_key(|info| (info.snapshot.suspect.is_some(), std::cmp::Reverse(info.snapshot.started)));
    let user = &request.query.user;
    for info in past.into_iter().take(LOOKED_INTO_MAX) {
        let reader = session.reader(info)?;
        let name = info.hash.short();
        let users = &context.settings.users;
        match pick::survey(&reader, (&info.snapshot, &name), users, user, b"/", context.interrupt) {
            Ok(_) => {
                let at = local_time(info.snapshot.started.into());
                let shown = crate::base::bytes::display(user.as_bytes());
                complain(&format!("mail of {shown} is in no newer snapshot than {name} of {at}\n"));
                return Ok(Some(info.clone()));
            }
            Err(PickError::NoSuchUser { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(None)
}

impl Request {
    fn is_of_the_past(&self) -> bool {
        self.existed_at.is_some() || self.deleted.is_some()
    }
}
