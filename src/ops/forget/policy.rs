//! Which snapshots of a group stay, and by which rule.

use std::fmt;

use jiff::tz::TimeZone;

use super::period::{Period, timestamp};
use super::thin;
use crate::base::clock::UnixNanos;
use crate::repo::snapshots::{Filter, SnapshotInfo};

/// What is kept; what no rule keeps goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// The newest so many.
    pub last: Option<u32>,
    /// The newest of each of so many hours.
    pub hourly: Option<u32>,
    /// The newest of each of so many days.
    pub daily: Option<u32>,
    /// The newest of each of so many weeks; they begin on Monday.
    pub weekly: Option<u32>,
    /// The newest of each of so many months.
    pub monthly: Option<u32>,
    /// The newest of each of so many years.
    pub yearly: Option<u32>,
    /// All that came not longer than this before the newest.
    pub within: Option<Period>,
    /// All that have every tag of one of these groups.
    pub tags: Vec<Vec<String>>,
    /// Whatever the rules say, nothing goes that came not longer than this before the newest.
    pub hold_down: Period,
}

impl Default for Policy {
    /// No rule, and the usual hold-down of 24 hours.
    fn default() -> Policy {
        Policy {
            last: None,
            hourly: None,
            daily: None,
            weekly: None,
            monthly: None,
            yearly: None,
            within: None,
            tags: Vec::new(),
            hold_down: Period::hours(24),
        }
    }
}

/// Why a snapshot stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Among the last.
    Last,
    /// Newest of its hour.
    Hourly,
    /// Newest of its day.
    Daily,
    /// Newest of its week.
    Weekly,
    /// Newest of its month.
    Monthly,
    /// Newest of its year.
    Yearly,
    /// Young enough.
    Within,
    /// By its tags.
    Tag,
    /// No rule keeps it, but it is too young to go.
    HoldDown,
    /// No rule keeps it, but it is the newest of its group.
    Newest,
    /// No rule keeps it, but it is the newest that is not suspect.
    NewestGood,
    /// No policy is there to let it go.
    NoPolicy,
    /// The hold of that number.
    Hold(u64),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::Last => "last",
            Reason::Hourly => "hourly",
            Reason::Daily => "daily",
            Reason::Weekly => "weekly",
            Reason::Monthly => "monthly",
            Reason::Yearly => "yearly",
            Reason::Within => "within",
            Reason::Tag => "tag",
            Reason::HoldDown => "hold-down",
            Reason::Newest => "newest",
            Reason::NewestGood => "newest good one",
            Reason::NoPolicy => "no policy",
            Reason::Hold(number) => return write!(f, "hold {number}"),
        })
    }
}

/// What tells two buckets apart; the offset makes two of the hour that a clock shows twice.
pub(super) type Bucket = [i32; 4];

/// The bucket of each calendar rule that a moment falls into.
pub(super) fn buckets(at: UnixNanos, zone: &TimeZone) -> [Bucket; 5] {
    let local = timestamp(at).to_zoned_datetime(zone.clone());
    let (year, month, day) = (i32::from(local.year()), i32::from(local.month()), i32::from(local.day()));
    let week = local.date().iso_week_date();
    let day_of_year = month * 100 + day;
    [
        [year, day_of_year, local.hour().into(), local.offset().seconds()],
        [year, day_of_year, 0, 0],
        [week.year().into(), week.week().into(), 0, 0],
        [year, month, 0, 0],
        [year, 0, 0, 0],
    ]
}

impl Policy {
    /// Does any rule keep anything? One that does not would forget all.
    pub fn keeps_something(&self) -> bool {
        self.counts().iter().any(|(_, count)| count.is_some())
            || self.within.is_some()
            || !self.tags.is_empty()
    }

    fn counts(&self) -> [(Reason, Option<u32>); 6] {
        [
            (Reason::Last, self.last),
            (Reason::Hourly, self.hourly),
            (Reason::Daily, self.daily),
            (Reason::Weekly, self.weekly),
            (Reason::Monthly, self.monthly),
            (Reason::Yearly, self.yearly),
        ]
    }

    /// Why each snapshot of a group stays; those without a reason go. `group` begins with the newest and is given
    /// with the times of [`super::times`].
    ///
    /// A suspect snapshot stands for nothing while the group has a good one. Of old snapshots of a follower only the
    /// last of each hour counts, unless a tag rule names them.
    pub fn judge(&self, group: &[(&SnapshotInfo, UnixNanos)], zone: &TimeZone) -> Vec<Vec<Reason>> {
        let mut reasons = vec![Vec::new(); group.len()];
        let Some(newest) = group.iter().map(|(_, at)| *at).max() else { return reasons };
        let has_good = group.iter().any(|(info, _)| is_good(info));
        let counts = |info: &SnapshotInfo| is_good(info) || !has_good;
        let young = self.within.map(|within| within.before(newest, zone));
        let tagged = Filter { tag_groups: self.tags.clone(), ..Filter::default() };
        let mut left = self.counts();
        let mut last: [Option<Bucket>; 5] = [None; 5];
        let surplus = thin::surplus(group, self.hold_down, zone);
        for (((info, at), reasons), is_surplus) in group.iter().zip(&mut reasons).zip(surplus) {
            if counts(info) && !is_surplus {
                let now = buckets(*at, zone);
                for (rule, (reason, left)) in left.iter_mut().enumerate() {
                    // The first rule takes every snapshot, the others one of each bucket.
                    let is_new = rule
                        .checked_sub(1)
                        .is_none_or(|rule| last[rule].replace(now[rule]) != Some(now[rule]));
                    if let Some(left) = left.as_mut().filter(|left| is_new && **left > 0) {
                        *left -= 1;
                        reasons.push(*reason);
                    }
                }
                if young.is_some_and(|limit| *at > limit) {
                    reasons.push(Reason::Within);
                }
            }
            if !self.tags.is_empty() && tagged.tags_fit(&info.snapshot.tags) {
                reasons.push(Reason::Tag);
            }
        }
        self.add_floor(group, &mut reasons, self.hold_down.before(newest, zone));
        reasons
    }

    /// What stays whatever the rules say.
    fn add_floor(
        &self,
        group: &[(&SnapshotInfo, UnixNanos)],
        reasons: &mut [Vec<Reason>],
        held_down: UnixNanos,
    ) {
        let newest_good = group.iter().position(|(info, _)| is_good(info));
        for (place, ((_, at), reasons)) in group.iter().zip(reasons).enumerate() {
            if !reasons.is_empty() {
                continue;
            }
            reasons.extend(if place == 0 {
                Some(Reason::Newest)
            } else if newest_good == Some(place) {
                Some(Reason::NewestGood)
            } else {
                (*at > held_down).then_some(Reason::HoldDown)
            });
        }
    }
}

/// Does it look as large as it should?
pub(super) fn is_good(info: &SnapshotInfo) -> bool {
    info.snapshot.suspect.is_none()
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rules: Vec<String> = Vec::new();
        rules.extend(self.counts().iter().filter_map(|(rule, count)| Some(format!("{} {rule}", (*count)?))));
        rules.extend(self.within.map(|within| format!("within {within}")));
        rules.extend(self.tags.iter().map(|group| format!("tag {}", group.join("+"))));
        write!(f, "keep {}; hold-down {}", rules.join(", "), self.hold_down)
    }
}
