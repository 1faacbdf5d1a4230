//! When each snapshot came, as retention sees it: by the store's times of receipt, cleaned of wrong clocks.
//!
//! The number that a host gave a snapshot says which came first. A time that contradicts the numbers is not
//! believed. A host's own clock never makes a snapshot older or newer: all that it may do is to shorten a leap of
//! the store's clock.

use std::collections::{BTreeMap, HashMap};

use crate::base::clock::UnixNanos;
use crate::base::id::ObjectHash;
use crate::repo::snapshots::SnapshotInfo;

const HOUR: UnixNanos = 3_600_000_000_000;
const DAY: UnixNanos = 24 * HOUR;
/// From here on the host's clock is asked whether so much time really went by between two snapshots.
const LEAP: UnixNanos = 7 * DAY;
/// What stays at least of a leap: longer than any local day, so that its two sides never share a bucket.
const LEAP_LEFT: UnixNanos = 25 * HOUR;
/// Objects of a copy are received within this time of each other.
const BURST: UnixNanos = HOUR;
/// Hosts whose clocks say that less than this went by may well have been so busy.
const COPIED_SPAN: UnixNanos = 2 * DAY;
/// Fewer objects than this are no copy.
const COPIED_MIN: usize = 3;
/// Days of backups, in order and received within an hour, that only a copy explains.
const COPIED_DAYS_MIN: usize = 5;

/// When snapshots came, by their hashes.
pub type Times = HashMap<ObjectHash, UnixNanos>;

/// The times of all snapshots; give all that there are, of all jobs: each bears witness for its host's others.
///
/// With `trust_host_clocks` the end of the run by the host's clock counts where it lies before the receipt.
pub fn effective(snapshots: &[SnapshotInfo], trust_host_clocks: bool) -> Times {
    let mut hosts: BTreeMap<_, Vec<&SnapshotInfo>> = BTreeMap::new();
    snapshots.iter().for_each(|info| hosts.entry(info.host).or_default().push(info));
    let mut times = Times::new();
    for mut of_host in hosts.into_values() {
        of_host.sort_by_key(|info| (info.position, info.sequence));
        let ended = |info: &&SnapshotInfo| UnixNanos::from(info.snapshot.ended);
        let told: Vec<UnixNanos> = match trust_host_clocks {
            true => of_host.iter().map(|info| ended(info).min(info.received)).collect(),
            false => of_host.iter().map(|info| info.received).collect(),
        };
        let trusted = longest_ascent(&told);
        let mut ascent: Vec<UnixNanos> = trusted.iter().map(|&at| told[at]).collect();
        if !trust_host_clocks {
            let claimed: Vec<UnixNanos> = trusted.iter().map(|&at| ended(&of_host[at])).collect();
            shorten_leaps(&mut ascent, &claimed);
        }
        for (at, info) in of_host.iter().enumerate() {
            // The trusted neighbour before; for the first ones, the one after.
            let neighbour = trusted.partition_point(|&trusted| trusted <= at).saturating_sub(1);
            times.insert(info.hash, ascent[neighbour]);
        }
    }
    times
}

/// Places of the longest subsequence that never decreases; of several, one that ends lowest.
fn longest_ascent(values: &[UnixNanos]) -> Vec<usize> {
    // tails[n]: where an ascent of n + 1 values ends lowest.
    let mut tails: Vec<usize> = Vec::new();
    let mut before: Vec<Option<usize>> = Vec::with_capacity(values.len());
    for (at, value) in values.iter().enumerate() {
        let length = tails.partition_point(|&tail| values[tail] <= *value);
        before.push(length.checked_sub(1).map(|shorter| tails[shorter]));
        match tails.get_mut(length) {
            Some(tail) => *tail = at,
            None => tails.push(at),
        }
    }
    let mut ascent = Vec::with_capacity(tails.len());
    let mut next = tails.last().copied();
    while let Some(at) = next {
        ascent.push(at);
        next = before[at];
    }
    ascent.reverse();
    ascent
}

/// Moves together what a wrong clock of the store tore apart.
///
/// A leap is a long gap of which the host's clock has seen less than half. The stretch between two leaps that has
/// the most snapshots keeps its times; what lies before and after it is moved towards it.
fn shorten_leaps(times: &mut [UnixNanos], claimed: &[UnixNanos]) {
    let mut begins = vec![0];
    let mut excess = vec![0];
    for at in 1..times.len() {
        let (gap, seen) = (times[at] - times[at - 1], claimed[at] - claimed[at - 1]);
        if gap > LEAP && (0..gap / 2).contains(&seen) {
            begins.push(at);
            excess.push(gap - seen.max(LEAP_LEFT));
        }
    }
    if begins.len() == 1 {
        return;
    }
    let end = |stretch: usize| begins.get(stretch + 1).copied().unwrap_or(times.len());
    let rank = |&stretch: &usize| {
        let first = begins[stretch];
        (end(stretch) - first, std::cmp::Reverse((times[first] - claimed[first]).abs()))
    };
    let kept = (0..begins.len()).max_by_key(rank).expect("one at least");
    let ranges: Vec<_> = (0..begins.len()).map(|stretch| begins[stretch]..end(stretch)).collect();
    for (stretch, range) in ranges.into_iter().enumerate() {
        let shift: UnixNanos = match stretch < kept {
            true => excess[stretch + 1..=kept].iter().sum(),
            false => -excess[kept + 1..=stretch].iter().sum::<UnixNanos>(),
        };
        times[range].iter_mut().for_each(|time| *time += shift);
    }
}

/// Do the times of receipt tell when the objects were copied, rather than when they were made?
///
/// Either most of a group came within an hour although the hosts' clocks say that the same runs ended days apart, or
/// a good part did, which then lies in the hosts' order, day after day.
pub fn are_of_a_copy(group: &[&SnapshotInfo]) -> bool {
    let mut received = group.to_vec();
    received.sort_by_key(|info| (info.received, info.host, info.position));
    let mut largest = 0..0;
    let mut first = 0;
    for at in 0..received.len() {
        while received[at].received - received[first].received > BURST {
            first += 1;
        }
        if at + 1 - first > largest.len() {
            largest = first..at + 1;
        }
    }
    let ends = received[largest].iter().map(|info| UnixNanos::from(info.snapshot.ended));
    let most = ends.len() >= COPIED_MIN && ends.len() * 2 > group.len();
    let span = ends.clone().max().unwrap_or(0) - ends.min().unwrap_or(0);
    (most && span > COPIED_SPAN) || bursts(&received).any(is_day_after_day)
}

/// Objects that were received within an hour of the first among them.
fn bursts<'a, 'b>(received: &'b [&'a SnapshotInfo]) -> impl Iterator<Item = &'b [&'a SnapshotInfo]> {
    let mut rest = received;
    std::iter::from_fn(move || {
        let begun = rest.first()?.received;
        let (burst, after) = rest.split_at(rest.partition_point(|info| info.received - begun <= BURST));
        rest = after;
        Some(burst)
    })
}

fn is_day_after_day(burst: &[&SnapshotInfo]) -> bool {
    if burst.len() < COPIED_DAYS_MIN {
        return false;
    }
    let mut ordered = burst.to_vec();
    ordered.sort_by_key(|info| (info.host, info.position));
    let mut in_order = 0;
    let mut days = 0;
    for of_host in ordered.chunk_by(|a, b| a.host == b.host) {
        let ends: Vec<UnixNanos> = of_host.iter().map(|info| info.snapshot.ended.into()).collect();
        let ascent = longest_ascent(&ends);
        in_order += ascent.len();
        let mut seen: Vec<UnixNanos> = ascent.into_iter().map(|at| ends[at].div_euclid(DAY)).collect();
        seen.dedup();
        days = days.max(seen.len());
    }
    days >= COPIED_DAYS_MIN && in_order * 4 >= burst.len() * 3
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::forget::testing::{YEAR_2099, at_day, snapshot};

    const DAYS: i64 = 86_400;

    /// Effective days of snapshots of one host, by their days of receipt; the host's clock says one a day.
    fn days(received: &[f64]) -> Vec<f64> {
        let mut all = Vec::new();
        for (position, day) in received.iter().enumerate() {
            let mut info = snapshot(position as u64 + 1);
            info.received = at_day(*day);
            info.snapshot.ended = at_day(position as f64 + 1.0) as i64;
            all.push(info);
        }
        let times = effective(&all, false);
        all.iter().map(|info| (times[&info.hash] - at_day(0.0)) as f64 / DAY as f64).collect()
    }

    fn year_1970() -> f64 {
        -(at_day(0.0) as f64) / DAY as f64
    }

    #[test]
    fn good_clocks_are_believed() {
        assert_eq!(days(&[1.0, 2.0, 3.0, 3.5]), [1.0, 2.0, 3.0, 3.5]);
        assert_eq!(days(&[]), [0.0; 0]);
    }

    #[test]
    fn an_outlier_takes_the_time_of_its_neighbour() {
        assert_eq!(days(&[1.0, 2.0, YEAR_2099, 4.0, 5.0]), [1.0, 2.0, 2.0, 4.0, 5.0]);
        assert_eq!(days(&[1.0, 2.0, year_1970(), 4.0, 5.0]), [1.0, 2.0, 2.0, 4.0, 5.0]);
        assert_eq!(days(&[1.0, 2.0, 3.0, year_1970()]), [1.0, 2.0, 3.0, 3.0]);
        assert_eq!(days(&[YEAR_2099, 2.0, 3.0]), [2.0, 2.0, 3.0]);
    }

    #[test]
    fn a_store_in_2099_or_1970_moves_nothing_even_at_the_ends() {
        assert_eq!(days(&[1.0, 2.0, 3.0, YEAR_2099]), [1.0, 2.0, 3.0, 3.0 + 25.0 / 24.0]);
        let tail = days(&[1.0, 2.0, 3.0, YEAR_2099, YEAR_2099 + 1.0]);
        assert_eq!(tail[4] - tail[3], 1.0);
        assert!(tail[4] < 6.0, "{tail:?}");
        assert_eq!(days(&[year_1970(), 2.0, 3.0])[1..], [2.0, 3.0]);
        assert!(days(&[year_1970(), 2.0, 3.0])[0] > 0.9);
    }

    #[test]
    fn a_long_pause_that_the_host_saw_too_is_one() {
        let mut first = snapshot(1);
        let mut second = snapshot(2);
        (first.received, first.snapshot.ended) = (at_day(0.0), at_day(0.0) as i64);
        (second.received, second.snapshot.ended) = (at_day(900.0), at_day(899.0) as i64);
        let times = effective(&[first, second.clone()], false);
        assert_eq!(times[&second.hash], at_day(900.0));
    }

    #[test]
    fn hosts_clocks_change_nothing() {
        for claimed in [0, -DAYS * 9_000, i64::MAX / 2_000_000_000, DAYS * 20_000] {
            let mut all: Vec<SnapshotInfo> = (1..20).map(snapshot).collect();
            for (at, info) in all.iter_mut().enumerate() {
                info.received = at_day(at as f64);
                info.snapshot.ended = match at % 3 {
                    0 => claimed * 1_000_000_000,
                    _ => at_day(at as f64) as i64,
                };
            }
            let times = effective(&all, false);
            assert!(all.iter().all(|info| times[&info.hash] == info.received), "{claimed}");
        }
    }

    #[test]
    fn trusted_hosts_date_a_copy() {
        let mut all: Vec<SnapshotInfo> = (1..6).map(snapshot).collect();
        for (at, info) in all.iter_mut().enumerate() {
            info.received = at_day(400.0);
            info.snapshot.ended = at_day(at as f64) as i64;
        }
        all[2].snapshot.ended = at_day(YEAR_2099) as i64;
        let times = effective(&all, true);
        let day = |at: usize| (times[&all[at].hash] - at_day(0.0)) / DAY;
        assert_eq!([day(0), day(1), day(2), day(3), day(4)], [0, 1, 1, 3, 4]);
    }

    fn copy(received: &[f64], ended: &[f64]) -> bool {
        let all: Vec<SnapshotInfo> = received
            .iter()
            .zip(ended)
            .enumerate()
            .map(|(at, (received, ended))| {
                let mut info = snapshot(at as u64 + 1);
                info.received = at_day(*received);
                info.snapshot.ended = at_day(*ended) as i64;
                info
            })
            .collect();
        are_of_a_copy(&all.iter().collect::<Vec<_>>())
    }

    #[test]
    fn a_copy_is_told_from_nights() {
        let nights: Vec<f64> = (0..40).map(f64::from).collect();
        assert!(copy(&[100.0; 40], &nights));
        assert!(!copy(&nights, &nights));
        assert!(!copy(&[100.0; 40], &[5.0; 40]), "a busy hour is none");
        assert!(!copy(&[100.0, 100.0], &[1.0, 50.0]), "a clock that was set is none");
        // Copied, and then a longer time of nights.
        let received: Vec<f64> = (0..40).map(|at| f64::from(at.max(10)) + 0.5).collect();
        assert!(copy(&received, &nights));
        // Many in one night, with clocks that say anything.
        let received: Vec<f64> = (0..300).map(|at| 40.0 + f64::from(at) / 900.0).collect();
        let anything: Vec<f64> = (0..300).map(|at| f64::from(at * 7_919 % 3_001) * 9.0).collect();
        assert!(!copy(&received, &anything));
    }
}
