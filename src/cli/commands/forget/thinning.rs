//! Thinning what `backup --follow` made, beside every policy: by its follower with a full key, and before a prune.

use jiff::tz::TimeZone;

use super::Search;
use crate::cli::commands::Context;
use crate::cli::failure::Failure;
use crate::cli::output::complain;
use crate::cli::session::Session;
use crate::cli::settings::Settings;
use crate::format::keyset::KeySet;
use crate::format::snapshot::FOLLOW_TAG;
use crate::ops::forget::{self, ForgetError, Group, GroupBy, Period, Policy};
use crate::repo::ledger::Ledger;
use crate::repo::snapshots::{Listed, SnapshotInfo};

/// The hold-down that `mailark.toml` has for a group, by the job of its newest snapshot.
pub(super) fn hold_down(group: &Group<'_>, settings: &Settings) -> Period {
    let global = settings.retention.as_ref().and_then(|retention| retention.hold_down());
    let job = group.snapshots.first().and_then(|(info, _)| settings.jobs.get(&info.snapshot.job));
    let own = job.and_then(|job| job.retention.as_ref()).and_then(|retention| retention.hold_down());
    own.or(global).unwrap_or(Policy::default().hold_down)
}

/// Does a policy of `mailark.toml` ask for all of them?
fn are_kept_by_tag(group: &Group<'_>, settings: &Settings) -> bool {
    let job = group.snapshots.first().and_then(|(info, _)| settings.jobs.get(&info.snapshot.job));
    let retention = job.and_then(|job| job.retention.as_ref()).or(settings.retention.as_ref());
    retention.is_some_and(|retention| retention.keeps_tag(FOLLOW_TAG))
}

/// Forgets, of what followers made and `wanted` lets through, all but the last of each hour; gives how many.
///
/// Nothing without a full key, and nothing of a job whose times of receipt are those of a copy.
pub fn thin(
    session: &Session,
    listed: &Listed,
    wanted: &dyn Fn(&SnapshotInfo) -> bool,
    context: &Context<'_>,
) -> Result<u64, Failure> {
    let is_full = matches!(session.repository.keys.as_ref(), KeySet::Full(_));
    if !is_full || !listed.snapshots.iter().any(|info| info.snapshot.is_of_follow()) {
        return Ok(0);
    }
    let (zone, settings) = (TimeZone::system(), &context.settings);
    let times = forget::effective(&listed.snapshots, false);
    let mut groups = forget::groups(&listed.snapshots, wanted, GroupBy::default(), &times);
    groups.retain(|group| {
        forget::has_surplus(group, hold_down(group, settings), &zone) && !are_kept_by_tag(group, settings)
    });
    if groups.is_empty() {
        return Ok(0);
    }
    let ledger = Ledger::read(&session.repository)?;
    ledger.need_known()?;
    if ledger.holds.iter().any(|hold| !hold.users.is_empty()) {
        session.sync()?;
    }
    let mut search = Search::new(session, context);
    let mut holds_mail_of = |info: &SnapshotInfo, user: &str| search.finds(info, user);
    let mut plans = Vec::new();
    for group in groups {
        let hold_down = hold_down(&group, settings);
        match forget::by_thinning(group, hold_down, &zone, false, &ledger, &mut holds_mail_of) {
            Ok(plan) => plans.push(plan),
            Err(error @ ForgetError::Copied { .. }) => complain(&format!("mailark: thinning: {error}\n")),
            Err(error) => return Err(error.into()),
        }
    }
    let thinned = plans.iter().map(|plan| plan.goes().count() as u64).sum();
    forget::write(&session.repository, &ledger, &plans)?;
    Ok(thinned)
}
