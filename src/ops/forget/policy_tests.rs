//! The calendar cases.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::policy::{Policy, Reason};
use super::testing::snapshot;
use crate::base::clock::UnixNanos;
use crate::repo::snapshots::SnapshotInfo;

fn at(text: &str) -> UnixNanos {
    format!("{text}Z").parse::<Timestamp>().unwrap().as_nanosecond()
}

/// What a policy keeps of snapshots given oldest first as `day time tags`, `!` for a suspect one; oldest first.
fn kept_in(zone: &TimeZone, policy: &Policy, texts: &[&str]) -> Vec<(usize, Vec<Reason>)> {
    let made = |(place, text): (usize, &&str)| {
        let mut words = text.split(' ');
        let mut info = snapshot(place as u64 + 1);
        info.received = at(words.next().unwrap());
        info.snapshot.tags = words.clone().filter(|word| *word != "!").map(str::to_owned).collect();
        info.snapshot.suspect = words.any(|word| word == "!").then(|| "empty".to_owned());
        info
    };
    let all: Vec<SnapshotInfo> = texts.iter().enumerate().map(made).collect();
    let group: Vec<(&SnapshotInfo, UnixNanos)> = all.iter().rev().map(|info| (info, info.received)).collect();
    let mut reasons = policy.judge(&group, zone);
    reasons.reverse();
    reasons.into_iter().enumerate().filter(|(_, reasons)| !reasons.is_empty()).collect()
}

fn kept(policy: &Policy, texts: &[&str]) -> Vec<usize> {
    kept_in(&TimeZone::UTC, policy, texts).into_iter().map(|(place, _)| place).collect()
}

/// A policy without hold-down.
fn policy(change: impl FnOnce(&mut Policy)) -> Policy {
    let mut policy = Policy { hold_down: "0".parse().unwrap(), ..Policy::default() };
    change(&mut policy);
    policy
}

const CALENDAR: [&str; 16] = [
    "2014-12-28T10:00:00", // 0: Sunday, last of week 52
    "2014-12-29T10:00:00", // 1: Monday, week 1 of 2015
    "2015-12-31T23:59:59", // 2: week 53 of 2015
    "2016-01-01T01:02:03", // 3: week 53 of 2015
    "2016-01-01T01:03:03", // 4
    "2016-01-01T07:08:03", // 5
    "2016-01-03T07:02:03", // 6: Sunday
    "2016-01-04T10:23:03", // 7: Monday
    "2016-01-04T11:23:03", // 8
    "2016-01-04T12:23:03", // 9
    "2016-01-04T12:24:03", // 10
    "2016-01-12T21:02:03", // 11
    "2016-01-12T21:08:03", // 12
    "2016-01-18T12:02:03", // 13: Monday
    "2016-02-01T00:00:00", // 14
    "2016-02-29T12:00:00", // 15
];

#[test]
fn rules_count_buckets_and_keep_the_newest_of_each() {
    type Change = fn(&mut Policy);
    let cases: [(&str, Change, &[usize]); 15] = [
        ("last 1", |p| p.last = Some(1), &[15]),
        ("last 3", |p| p.last = Some(3), &[13, 14, 15]),
        ("last 99", |p| p.last = Some(99), &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]),
        ("hourly 6", |p| p.hourly = Some(6), &[8, 10, 12, 13, 14, 15]),
        ("hourly 9", |p| p.hourly = Some(9), &[5, 6, 7, 8, 10, 12, 13, 14, 15]),
        ("daily 3", |p| p.daily = Some(3), &[13, 14, 15]),
        ("daily 7", |p| p.daily = Some(7), &[5, 6, 10, 12, 13, 14, 15]),
        ("daily 30", |p| p.daily = Some(30), &[0, 1, 2, 5, 6, 10, 12, 13, 14, 15]),
        ("weekly 6", |p| p.weekly = Some(6), &[6, 10, 12, 13, 14, 15]),
        ("weekly 8", |p| p.weekly = Some(8), &[0, 1, 6, 10, 12, 13, 14, 15]),
        ("monthly 3", |p| p.monthly = Some(3), &[2, 13, 15]),
        ("monthly 12", |p| p.monthly = Some(12), &[1, 2, 13, 15]),
        ("yearly 2", |p| p.yearly = Some(2), &[2, 15]),
        ("yearly 10", |p| p.yearly = Some(10), &[1, 2, 15]),
        (
            "daily 2, weekly 3, monthly 12",
            |p| (p.daily, p.weekly, p.monthly) = (Some(2), Some(3), Some(12)),
            &[1, 2, 13, 14, 15],
        ),
    ];
    for (name, change, expected) in cases {
        assert_eq!(kept(&policy(change), &CALENDAR), expected, "{name}");
    }
}

#[test]
fn the_usual_policy_settles_at_its_numbers() {
    let usual = policy(|p| (p.daily, p.weekly, p.monthly) = (Some(7), Some(4), Some(12)));
    let start = at("2024-01-01T02:00:00");
    let mut left: Vec<SnapshotInfo> = Vec::new();
    for night in 0..800_u64 {
        let mut info = snapshot(night + 1);
        info.received = start + UnixNanos::from(night) * 86_400_000_000_000;
        left.insert(0, info);
        let group: Vec<_> = left.iter().map(|info| (info, info.received)).collect();
        let mut reasons = usual.judge(&group, &TimeZone::UTC).into_iter();
        left.retain(|_| !reasons.next().unwrap().is_empty());
        assert!(left.len() <= 23 && left.len() >= (night as usize + 1).min(7), "{night}: {}", left.len());
    }
    // A year back there is one of each month.
    let oldest = left.last().unwrap().received;
    assert!(left[0].received - oldest > 300 * 86_400_000_000_000, "{}", left.len());
}

#[test]
fn within_counts_back_from_the_newest() {
    let within = |text: &str| policy(|p| p.within = Some(text.parse().unwrap()));
    assert_eq!(kept(&within("1d"), &CALENDAR), [15]);
    assert_eq!(kept(&within("1m"), &CALENDAR), [14, 15]);
    assert_eq!(kept(&within("1m17d"), &CALENDAR), [11, 12, 13, 14, 15]);
    assert_eq!(kept(&within("2y"), &CALENDAR).len(), 16);
    // What lies exactly so far back is not within.
    assert_eq!(kept(&within("24h"), &["2026-01-01T00:00:00", "2026-01-02T00:00:00"]), [1]);
}

#[test]
fn tags_keep_all_that_have_them() {
    let tags = |groups: &[&[&str]]| {
        let groups = groups.iter().map(|group| group.iter().map(|tag| (*tag).to_owned()).collect());
        policy(|p| p.tags = groups.collect())
    };
    let texts =
        ["2026-01-01T00:00:00 a", "2026-01-02T00:00:00 b a", "2026-01-03T00:00:00 b", "2026-01-04T00:00:00"];
    assert_eq!(kept(&tags(&[&["a"]]), &texts), [0, 1, 3]);
    assert_eq!(kept(&tags(&[&["a", "b"]]), &texts), [1, 3]);
    assert_eq!(kept(&tags(&[&["a"], &["b"]]), &texts), [0, 1, 2, 3]);
}

#[test]
fn local_time_decides_on_days_and_hours() {
    let zone = TimeZone::get("Europe/Berlin").unwrap();
    // 23:30 and 00:30 of the next day in Berlin, one day in UTC.
    let texts = ["2026-07-01T21:30:00", "2026-07-01T22:30:00"];
    let daily = policy(|p| p.daily = Some(9));
    assert_eq!(kept_in(&zone, &daily, &texts).len(), 2);
    assert_eq!(kept(&daily, &texts), [1]);
    // The hour that the clocks show twice is two hours.
    let texts = ["2026-10-25T00:30:00", "2026-10-25T01:30:00"];
    assert_eq!(kept_in(&zone, &policy(|p| p.hourly = Some(9)), &texts).len(), 2);
}

#[test]
fn reasons_tell_every_rule_that_keeps() {
    let policy = policy(|p| (p.last, p.daily, p.yearly) = (Some(1), Some(2), Some(1)));
    let texts = ["2026-01-01T00:00:00", "2026-01-02T00:00:00", "2026-01-03T00:00:00"];
    assert_eq!(
        kept_in(&TimeZone::UTC, &policy, &texts),
        [(1, vec![Reason::Daily]), (2, vec![Reason::Last, Reason::Daily, Reason::Yearly])]
    );
}

#[test]
fn nothing_young_is_forgotten() {
    let policy = Policy { last: Some(1), ..Policy::default() };
    let texts = ["2026-01-01T00:00:00", "2026-01-01T00:00:01", "2026-01-01T12:00:00", "2026-01-02T00:00:00"];
    assert_eq!(
        kept_in(&TimeZone::UTC, &policy, &texts),
        [(1, vec![Reason::HoldDown]), (2, vec![Reason::HoldDown]), (3, vec![Reason::Last])]
    );
    assert_eq!(kept(&Policy { hold_down: "0".parse().unwrap(), ..policy }, &texts), [3]);
}

#[test]
fn suspect_snapshots_never_win() {
    let good_days = ["2026-01-01T00:00:00", "2026-01-02T00:00:00", "2026-01-03T01:00:00"];
    let suspect_days = ["2026-01-03T02:00:00 !", "2026-01-04T00:00:00 !", "2026-01-05T00:00:00 !"];
    let texts: Vec<&str> = good_days.into_iter().chain(suspect_days).collect();
    for (name, rule) in [
        ("daily", policy(|p| p.daily = Some(3))),
        ("last", policy(|p| p.last = Some(3))),
        ("weekly", policy(|p| (p.weekly, p.within) = (Some(1), "5d".parse().ok()))),
    ] {
        let kept = kept_in(&TimeZone::UTC, &rule, &texts);
        assert!(kept.iter().any(|(place, _)| *place == 2), "{name}: the newest good one stays");
        assert!(kept.contains(&(5, vec![Reason::Newest])), "{name}: the newest stays");
        assert!(!kept.iter().any(|(place, _)| matches!(place, 3 | 4)), "{name}: {kept:?}");
    }
    assert_eq!(kept(&policy(|p| p.daily = Some(3)), &texts), [0, 1, 2, 5]);
    // Not before their hold-down is over.
    let held = Policy { daily: Some(3), hold_down: "36h".parse().unwrap(), ..Policy::default() };
    assert_eq!(kept(&held, &texts), [0, 1, 2, 4, 5]);
    // A tag keeps them.
    let tagged = policy(|p| p.tags = vec![vec!["x".to_owned()]]);
    assert_eq!(
        kept(&tagged, &["2026-01-01T00:00:00", "2026-01-02T00:00:00 ! x", "2026-01-03T00:00:00"]),
        [1, 2]
    );
}

#[test]
fn the_newest_good_one_stays_though_no_rule_reaches_it() {
    let rule = policy(|p| p.tags = vec![vec!["x".to_owned()]]);
    let texts =
        ["2026-01-01T00:00:00", "2026-01-02T00:00:00", "2026-01-03T00:00:00 !", "2026-01-04T00:00:00 !"];
    assert_eq!(
        kept_in(&TimeZone::UTC, &rule, &texts),
        [(1, vec![Reason::NewestGood]), (3, vec![Reason::Newest])]
    );
}

#[test]
fn where_all_are_suspect_they_count() {
    let texts = ["2026-01-01T00:00:00 !", "2026-01-02T00:00:00 !", "2026-01-03T00:00:00 !"];
    assert_eq!(kept(&policy(|p| p.daily = Some(2)), &texts), [1, 2]);
}

#[test]
fn a_policy_says_what_it_is() {
    let mut policy = Policy { daily: Some(7), monthly: Some(12), ..Policy::default() };
    policy.tags = vec![vec!["a".to_owned(), "b".to_owned()]];
    assert_eq!(policy.to_string(), "keep 7 daily, 12 monthly, tag a+b; hold-down 24h");
    assert!(policy.keeps_something() && !Policy::default().keeps_something());
}
