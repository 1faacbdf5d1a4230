//! What `backup --follow` makes thins out by itself: when it is a day old, the last snapshot of each hour is enough.

use std::collections::HashMap;

use jiff::tz::TimeZone;

use super::ForgetError;
use super::period::Period;
use super::plan::{Group, HoldsMailOf, Plan, Verdict};
use super::policy::{Bucket, Reason, buckets, is_good};
use super::times;
use crate::base::clock::UnixNanos;
use crate::repo::holds;
use crate::repo::ledger::Ledger;
use crate::repo::snapshots::SnapshotInfo;

/// Younger ones all stay, counted from the newest of their group.
const ALL_FOR_HOURS: u16 = 24;

/// Made by a follower, and nothing that anybody wants to keep or to look at.
fn may_go(info: &SnapshotInfo) -> bool {
    info.snapshot.is_of_follow() && info.snapshot.tags.len() == 1 && is_good(info)
}

/// Which of a group are more than one an hour of a follower; `group` begins with the newest.
///
/// A calendar rule never misses them: the last of each hour stands for every longer time, too.
pub(super) fn surplus(group: &[(&SnapshotInfo, UnixNanos)], hold_down: Period, zone: &TimeZone) -> Vec<bool> {
    let Some(newest) = group.iter().map(|(_, at)| *at).max() else { return Vec::new() };
    let old = Period::hours(ALL_FOR_HOURS).before(newest, zone).min(hold_down.before(newest, zone));
    let mut hours: HashMap<(&str, &str), Bucket> = HashMap::new();
    let mut surplus = vec![false; group.len()];
    for ((info, at), surplus) in group.iter().zip(&mut surplus).filter(|((info, _), _)| may_go(info)) {
        let [hour, ..] = buckets(*at, zone);
        // One group may hold several jobs.
        let of = (info.snapshot.host_name.as_str(), info.snapshot.job.as_str());
        *surplus = hours.insert(of, hour) == Some(hour) && *at <= old;
    }
    surplus
}

/// Would [`by_thinning`] let anything go, but for holds?
pub fn has_surplus(group: &Group<'_>, hold_down: Period, zone: &TimeZone) -> bool {
    surplus(&group.snapshots, hold_down, zone).contains(&true)
}

/// Lets go what a group without a policy has too much of, and nothing else.
///
/// Fails where the times of receipt are those of a copy, unless the hosts' clocks are trusted.
pub fn by_thinning<'a>(
    group: Group<'a>,
    hold_down: Period,
    zone: &TimeZone,
    trust_host_clocks: bool,
    ledger: &Ledger,
    holds_mail_of: &mut HoldsMailOf<'_>,
) -> Result<Plan<'a>, ForgetError> {
    let infos: Vec<&SnapshotInfo> = group.snapshots.iter().map(|(info, _)| *info).collect();
    if !trust_host_clocks && times::are_of_a_copy(&infos) {
        return Err(ForgetError::Copied { snapshots: infos.len() });
    }
    let surplus = surplus(&group.snapshots, hold_down, zone);
    let mut verdicts = Vec::with_capacity(infos.len());
    for ((info, at), is_surplus) in group.snapshots.into_iter().zip(surplus) {
        let reason = match is_surplus {
            false => Some(Reason::NoPolicy),
            true => holds::held_by(ledger, info, &mut |user| holds_mail_of(info, user))?
                .map(|hold| Reason::Hold(hold.hold)),
        };
        verdicts.push(Verdict { info, at, reasons: reason.into_iter().collect() });
    }
    let rule = format!("of --follow the last of each hour; hold-down {hold_down}");
    Ok(Plan { key: group.key, rule, verdicts })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::snapshot::FOLLOW_TAG;
    use crate::ops::forget::testing::{at_day, snapshot};
    use crate::ops::forget::{GroupBy, Policy, groups};

    const MINUTE: f64 = 1.0 / 1_440.0;

    /// One snapshot each of these minutes before noon of day 10, newest first.
    fn made(minutes: impl IntoIterator<Item = u32>) -> Vec<SnapshotInfo> {
        let make = |ago: u32| {
            let mut info = snapshot(1_000_000 - u64::from(ago));
            info.received = at_day(10.0 - f64::from(ago) * MINUTE);
            info.snapshot.ended = info.received as i64;
            info.snapshot.tags = vec![FOLLOW_TAG.to_owned()];
            info
        };
        minutes.into_iter().map(make).collect()
    }

    fn ago(info: &SnapshotInfo) -> u32 {
        ((at_day(10.0) - info.received) / 60_000_000_000) as u32
    }

    fn group(all: &[SnapshotInfo]) -> Vec<(&SnapshotInfo, UnixNanos)> {
        all.iter().map(|info| (info, info.received)).collect()
    }

    /// Ages of what stays, in minutes.
    fn left(all: &[SnapshotInfo], hold_down: &str) -> Vec<u32> {
        let surplus = surplus(&group(all), hold_down.parse().unwrap(), &TimeZone::UTC);
        all.iter().zip(surplus).filter(|(_, goes)| !goes).map(|(info, _)| ago(info)).collect()
    }

    #[test]
    fn a_day_of_all_and_then_the_last_of_each_hour() {
        let all = made(0..60 * 72);
        let stays = left(&all, "24h");
        // Minute 0 is noon itself; the last of an hour is the one a minute before the next.
        let wanted: Vec<u32> = (0..1_440).chain((1_441..60 * 72).step_by(60)).collect();
        assert_eq!(stays, wanted);
        assert_eq!(left(&all, "0"), stays, "a day is the least");
        assert_eq!(left(&all, "2d").len(), 2_880 + 24);
        let thinned = made(stays.clone());
        assert_eq!(left(&thinned, "24h"), stays, "a second time changes nothing");
    }

    #[test]
    fn only_what_nobody_marked_goes() {
        let mut all = made(2_000..2_010);
        all.splice(0..0, made([0]));
        let untouched = left(&all, "0");
        assert_eq!(untouched.len(), 2);
        all[5].snapshot.tags.push("before the move".to_owned());
        all[6].snapshot.tags.clear();
        all[7].snapshot.suspect = Some("small".to_owned());
        all[8].snapshot.job = "other".to_owned();
        let stays = left(&all, "0");
        assert_eq!(stays, [0, 2_000, 2_004, 2_005, 2_006, 2_007]);
        // A suspect one is nobody's last of the hour.
        all[1].snapshot.suspect = Some("small".to_owned());
        assert_eq!(left(&all, "0"), [0, 2_000, 2_001, 2_004, 2_005, 2_006, 2_007]);
    }

    #[test]
    fn rules_choose_among_what_is_left() {
        let all = made(0..60 * 72);
        let judge = |policy: Policy| {
            let reasons = policy.judge(&group(&all), &TimeZone::UTC);
            all.iter().zip(reasons).filter(|(_, reasons)| !reasons.is_empty()).count()
        };
        let within = Policy { within: Some("3d".parse().unwrap()), ..Policy::default() };
        assert_eq!(judge(within), 1_440 + 48);
        let daily = Policy { daily: Some(7), ..Policy::default() };
        assert_eq!(judge(daily), 1_440 + 2, "the last of two days that are not young");
        let last = Policy { last: Some(1_450), ..Policy::default() };
        assert_eq!(judge(last), 1_450);
        let tagged = Policy { tags: vec![vec![FOLLOW_TAG.to_owned()]], ..Policy::default() };
        assert_eq!(judge(tagged), all.len(), "unless they are wanted by name");
    }

    #[test]
    fn without_a_policy_nothing_else_goes() {
        let mut all = made((0..10).chain(3_000..3_060));
        for info in all.iter_mut().step_by(2) {
            info.snapshot.tags.clear();
        }
        let times = all.iter().map(|info| (info.hash, info.received)).collect();
        let mut groups = groups(&all, &|_| true, GroupBy::default(), &times);
        let group = groups.pop().unwrap();
        let (hold_down, zone) = (Period::hours(24), TimeZone::UTC);
        assert!(has_surplus(&group, hold_down, &zone));
        let ledger = Ledger::default();
        let plan = by_thinning(group, hold_down, &zone, false, &ledger, &mut |_, _| Ok(false)).unwrap();
        assert_eq!(plan.goes().count(), 29, "of thirty in an hour");
        assert!(plan.goes().all(|verdict| verdict.info.snapshot.is_of_follow()));
    }
}
