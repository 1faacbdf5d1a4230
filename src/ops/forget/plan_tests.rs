//! Groups, holds, floods and clocks.

use jiff::tz::TimeZone;

use super::testing::{YEAR_2099, at_day, snapshot};
use super::{ForgetError, GroupBy, Plan, Policy, Reason, by_name, by_policy, effective, groups};
use crate::repo::RepoError;
use crate::repo::ledger::{Hold, Ledger};
use crate::repo::snapshots::SnapshotInfo;

fn nobodys(_: &SnapshotInfo, _: &str) -> Result<bool, RepoError> {
    Ok(false)
}

fn planned<'a>(
    all: &'a [SnapshotInfo],
    policy: &Policy,
    ledger: &Ledger,
    trust: bool,
) -> Result<Vec<Plan<'a>>, ForgetError> {
    let times = effective(all, trust);
    let judge = |group| by_policy(group, policy, &TimeZone::UTC, trust, ledger, &mut nobodys);
    groups(all, &|_| true, GroupBy::default(), &times).into_iter().map(judge).collect()
}

/// Numbers of the snapshots that stay, oldest first.
fn stays(all: &[SnapshotInfo], policy: &Policy) -> Vec<u64> {
    let plans = planned(all, policy, &Ledger::default(), false).unwrap();
    let verdicts = plans.iter().flat_map(|plan| &plan.verdicts);
    let mut kept: Vec<u64> =
        verdicts.filter(|verdict| !verdict.reasons.is_empty()).map(|verdict| verdict.info.sequence).collect();
    kept.sort_unstable();
    kept
}

fn nights(count: u64) -> Vec<SnapshotInfo> {
    let night = |number: u64| {
        let mut info = snapshot(number);
        info.received = at_day(number as f64);
        info.snapshot.ended = info.received as i64;
        info
    };
    (1..=count).map(night).collect()
}

fn daily(count: u32) -> Policy {
    Policy { daily: Some(count), ..Policy::default() }
}

#[test]
fn wrong_clocks_change_nothing() {
    let good = nights(40);
    let usual = Policy { weekly: Some(4), within: "10d".parse().ok(), ..daily(7) };
    let expected = stays(&good, &usual);
    let year_1970 = 0;
    for wrong in [at_day(YEAR_2099), year_1970] {
        // A host's own clock, now and then or for good.
        for every in [1, 2, 7] {
            let mut all = good.clone();
            all.iter_mut().step_by(every).for_each(|info| info.snapshot.ended = wrong as i64);
            all.iter_mut().step_by(every).for_each(|info| info.snapshot.started = wrong as i64);
            assert_eq!(stays(&all, &usual), expected);
        }
        // The store's clock for some nights: at the beginning, between, and last of all.
        for wrong_nights in [0..3, 10..14, 20..21, 37..40, 39..40] {
            let mut all = good.clone();
            for (at, info) in all[wrong_nights.clone()].iter_mut().enumerate() {
                info.received = wrong + at as i128 * 86_400_000_000_000;
            }
            let kept = stays(&all, &usual);
            let missing: Vec<_> = expected.iter().filter(|number| !kept.contains(number)).collect();
            // Only nights of which the day is not known can share one.
            let excused = |number: &u64| wrong_nights.contains(&(*number as usize - 1));
            assert!(missing.iter().all(|number| excused(number)), "{wrong_nights:?}: {missing:?}");
            assert!(kept.contains(&40) && kept.len() + wrong_nights.len() >= expected.len());
        }
    }
}

#[test]
fn a_flood_pushes_out_no_good_day() {
    // Ten nights, then 300 snapshots in one, by a writer that names any time it likes.
    for claimed in [at_day(YEAR_2099) as i64, 0, at_day(3.0) as i64, i64::MIN, i64::MAX] {
        let mut all = nights(10);
        for number in 11..=310_u64 {
            let mut info = snapshot(number);
            info.received = at_day(11.0) + i128::from(number) * 90_000_000_000;
            info.snapshot.ended = match number % 2 {
                0 => claimed,
                _ => at_day((number * 7_919 % 1_000) as f64) as i64,
            };
            info.snapshot.started = claimed;
            all.push(info);
        }
        let kept = stays(&all, &daily(7));
        let before: Vec<u64> = kept.iter().copied().filter(|number| *number <= 10).collect();
        assert_eq!(before, [5, 6, 7, 8, 9, 10]);
        assert_eq!(kept.len(), 306, "and of the flood nothing goes before its time");
        // When it is over, one of the flood is left.
        let mut last = snapshot(311);
        last.received = at_day(14.0);
        all.push(last);
        assert_eq!(stays(&all, &daily(7)), [6, 7, 8, 9, 10, 310, 311]);
    }
}

#[test]
fn a_flood_of_suspect_snapshots_takes_no_day_at_all() {
    let mut all = nights(30);
    all[10..].iter_mut().for_each(|info| info.snapshot.suspect = Some("no mail".to_owned()));
    assert_eq!(stays(&all, &daily(7)), [4, 5, 6, 7, 8, 9, 10, 30]);
}

#[test]
fn a_copy_is_refused_unless_the_hosts_are_trusted() {
    let mut all = nights(30);
    all.iter_mut().for_each(|info| info.received = at_day(500.0));
    let refused = planned(&all, &daily(7), &Ledger::default(), false);
    assert!(matches!(refused, Err(ForgetError::Copied { snapshots: 30 })));
    let plans = planned(&all, &daily(7), &Ledger::default(), true).unwrap();
    assert_eq!(plans[0].goes().count(), 23);
}

#[test]
fn groups_are_judged_apart() {
    let mut all = nights(6);
    all[0].snapshot.job = "config".to_owned();
    all[1].snapshot.host_name = "mx2".to_owned();
    all[2].snapshot.tags = vec!["b".to_owned(), "a".to_owned()];
    all[3].snapshot.tags = vec!["a".to_owned(), "b".to_owned()];
    let count =
        |host, job, tags| groups(&all, &|_| true, GroupBy { host, job, tags }, &effective(&all, false)).len();
    assert_eq!([count(true, true, false), count(true, false, false), count(false, true, false)], [3, 2, 2]);
    assert_eq!([count(false, false, true), count(true, true, true), count(false, false, false)], [2, 4, 1]);
    assert_eq!(stays(&all, &daily(1)), [1, 2, 6], "the last of a group stays");
}

#[test]
fn the_number_decides_what_is_newest() {
    let mut all = nights(3);
    // Written anew by a repair: a high number of its own, the place and the time of the one that it replaced.
    all[0].sequence = 9;
    all[2].received = all[1].received;
    assert_eq!(
        stays(&all, &Policy { last: Some(1), hold_down: "0".parse().unwrap(), ..Policy::default() }),
        [3]
    );
}

fn hold(number: u64, info: Option<&SnapshotInfo>, users: &[&str]) -> Ledger {
    let mut ledger = Ledger::default();
    ledger.holds.push(Hold {
        hold: number,
        snapshots: info.iter().map(|info| info.name()).collect(),
        users: users.iter().map(|user| (*user).to_owned()).collect(),
        reason: String::new(),
        at: 0,
    });
    ledger
}

#[test]
fn what_is_held_stays() {
    let all = nights(5);
    let ledger = hold(4, Some(&all[1]), &[]);
    let plans = planned(&all, &daily(2), &ledger, false).unwrap();
    let held: Vec<_> = plans[0].verdicts.iter().filter(|v| v.reasons == [Reason::Hold(4)]).collect();
    assert_eq!((held.len(), held[0].info.sequence), (1, 2));

    let ledger = hold(5, None, &["alice"]);
    let mut asked = Vec::new();
    let mut of_alice = |info: &SnapshotInfo, user: &str| {
        asked.push((info.sequence, user.to_owned()));
        Ok(info.sequence == 1)
    };
    let times = effective(&all, false);
    let group = groups(&all, &|_| true, GroupBy::default(), &times).remove(0);
    let plan = by_policy(group, &daily(2), &TimeZone::UTC, false, &ledger, &mut of_alice).unwrap();
    assert_eq!(plan.goes().map(|verdict| verdict.info.sequence).collect::<Vec<_>>(), [3, 2]);
    assert_eq!(asked.len(), 3, "only what would go is looked into");
}

#[test]
fn names_are_obeyed_but_for_holds_and_the_last_good_one() {
    let mut all = nights(3);
    all[2].snapshot.suspect = Some("empty".to_owned());
    let times = effective(&all, false);
    let name = |numbers: &[usize], force, ledger: &Ledger| {
        let named: Vec<&SnapshotInfo> = numbers.iter().map(|at| &all[*at]).collect();
        let plans = by_name(&all, &named, &times, force, ledger, &mut nobodys)?;
        Ok::<_, ForgetError>(plans.iter().map(|plan| plan.goes().count()).sum::<usize>())
    };
    let free = Ledger::default();
    assert_eq!(name(&[0], false, &free).unwrap(), 1);
    assert_eq!(name(&[2], false, &free).unwrap(), 1, "the newest may go by name");
    assert!(matches!(name(&[0, 1], false, &free), Err(ForgetError::LastGood { .. })));
    assert_eq!(name(&[0, 1], true, &free).unwrap(), 2);
    assert!(matches!(name(&[0, 1, 2], false, &free), Err(ForgetError::LastGood { .. })));
    assert_eq!(name(&[0, 1, 2], true, &free).unwrap(), 3);
    let held = hold(1, Some(&all[0]), &[]);
    assert!(matches!(name(&[0], true, &held), Err(ForgetError::Held { hold: 1, .. })));
}

#[test]
fn a_policy_that_keeps_nothing_is_refused() {
    let refused = planned(&nights(3), &Policy::default(), &Ledger::default(), false).unwrap_err();
    assert!(matches!(refused, ForgetError::KeepsNothing));
}
