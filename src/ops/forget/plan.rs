//! Groups of snapshots, and what of each group stays and goes.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;

use super::ForgetError;
use super::policy::{Policy, Reason, is_good};
use super::times::{self, Times};
use crate::base::clock::UnixNanos;
use crate::format::record::SnapshotName;
use crate::repo::RepoError;
use crate::repo::holds;
use crate::repo::ledger::Ledger;
use crate::repo::snapshots::SnapshotInfo;

/// By what snapshots are put together; each group is judged by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupBy {
    /// Each host apart, by its name.
    pub host: bool,
    /// Each job apart.
    pub job: bool,
    /// Each set of tags apart.
    pub tags: bool,
}

impl Default for GroupBy {
    fn default() -> GroupBy {
        GroupBy { host: true, job: true, tags: false }
    }
}

/// What all snapshots of a group have in common; `None` for what they were not grouped by.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct GroupKey {
    /// Name of the host.
    pub host: Option<String>,
    /// The job.
    pub job: Option<String>,
    /// The tags, sorted.
    pub tags: Option<Vec<String>>,
}

impl GroupBy {
    fn key(self, info: &SnapshotInfo) -> GroupKey {
        let sorted = || {
            let mut tags = info.snapshot.tags.clone();
            tags.sort();
            tags.dedup();
            tags
        };
        GroupKey {
            host: self.host.then(|| info.snapshot.host_name.clone()),
            job: self.job.then(|| info.snapshot.job.clone()),
            tags: self.tags.then(sorted),
        }
    }
}

/// Snapshots that are judged together, newest first, each with its time of receipt as it is believed.
#[derive(Debug)]
pub struct Group<'a> {
    /// What they have in common.
    pub key: GroupKey,
    /// The snapshots.
    pub snapshots: Vec<(&'a SnapshotInfo, UnixNanos)>,
}

/// Puts together the snapshots that `wanted` lets through; `times` come from [`times::effective`].
pub fn groups<'a>(
    snapshots: &'a [SnapshotInfo],
    wanted: &dyn Fn(&SnapshotInfo) -> bool,
    by: GroupBy,
    times: &Times,
) -> Vec<Group<'a>> {
    let mut groups: BTreeMap<GroupKey, Vec<(&SnapshotInfo, UnixNanos)>> = BTreeMap::new();
    for info in snapshots.iter().filter(|info| wanted(info)) {
        let at = times.get(&info.hash).copied().unwrap_or(info.received);
        groups.entry(by.key(info)).or_default().push((info, at));
    }
    let newest_first = |(key, mut snapshots): (GroupKey, Vec<(&'a SnapshotInfo, UnixNanos)>)| {
        // Within a host the times never contradict the numbers.
        snapshots.sort_by_key(|(info, at)| std::cmp::Reverse((*at, info.host, info.position, info.sequence)));
        Group { key, snapshots }
    };
    groups.into_iter().map(newest_first).collect()
}

/// A snapshot and what becomes of it.
#[derive(Debug)]
pub struct Verdict<'a> {
    /// The snapshot.
    pub info: &'a SnapshotInfo,
    /// When it came, as it is believed.
    pub at: UnixNanos,
    /// Why it stays; empty for one that goes.
    pub reasons: Vec<Reason>,
}

/// What becomes of a group, newest first.
#[derive(Debug)]
pub struct Plan<'a> {
    /// What its snapshots have in common.
    pub key: GroupKey,
    /// By what rule, for people.
    pub rule: String,
    /// All its snapshots, or those that were named.
    pub verdicts: Vec<Verdict<'a>>,
}

impl<'a> Plan<'a> {
    /// What goes.
    pub fn goes(&self) -> impl Iterator<Item = &Verdict<'a>> {
        self.verdicts.iter().filter(|verdict| verdict.reasons.is_empty())
    }

    /// The same, as records name it.
    pub fn names(&self) -> Vec<SnapshotName> {
        self.goes().map(|verdict| verdict.info.name()).collect()
    }
}

/// Tells whether a snapshot holds mail of a user.
pub type HoldsMailOf<'a> = dyn FnMut(&SnapshotInfo, &str) -> Result<bool, RepoError> + 'a;

/// Judges one group by a policy.
///
/// Fails for a policy that keeps nothing, and where the times of receipt are those of a copy, unless the hosts' clocks
/// are trusted.
pub fn by_policy<'a>(
    group: Group<'a>,
    policy: &Policy,
    zone: &TimeZone,
    trust_host_clocks: bool,
    ledger: &Ledger,
    holds_mail_of: &mut HoldsMailOf<'_>,
) -> Result<Plan<'a>, ForgetError> {
    if !policy.keeps_something() {
        return Err(ForgetError::KeepsNothing);
    }
    let infos: Vec<&SnapshotInfo> = group.snapshots.iter().map(|(info, _)| *info).collect();
    if !trust_host_clocks && times::are_of_a_copy(&infos) {
        return Err(ForgetError::Copied { snapshots: infos.len() });
    }
    let reasons = policy.judge(&group.snapshots, zone);
    let mut verdicts = Vec::with_capacity(reasons.len());
    for ((info, at), mut reasons) in group.snapshots.into_iter().zip(reasons) {
        // Only what would go is looked into: that may read many pages.
        if reasons.is_empty()
            && let Some(hold) = holds::held_by(ledger, info, &mut |user| holds_mail_of(info, user))?
        {
            reasons.push(Reason::Hold(hold.hold));
        }
        verdicts.push(Verdict { info, at, reasons });
    }
    Ok(Plan { key: group.key, rule: policy.to_string(), verdicts })
}

/// Lets exactly the `named` snapshots go, whatever a policy says.
///
/// Fails for a held one; and for the last good one of a host's job, unless `force` is given.
pub fn by_name<'a>(
    snapshots: &'a [SnapshotInfo],
    named: &[&SnapshotInfo],
    times: &Times,
    force: bool,
    ledger: &Ledger,
    holds_mail_of: &mut HoldsMailOf<'_>,
) -> Result<Vec<Plan<'a>>, ForgetError> {
    let is_named = |info: &SnapshotInfo| named.iter().any(|named| named.hash == info.hash);
    let mut plans = Vec::new();
    for group in groups(snapshots, &|_| true, GroupBy::default(), times) {
        let (go, stay): (Vec<_>, Vec<_>) = group.snapshots.into_iter().partition(|(info, _)| is_named(info));
        for (info, _) in &go {
            if let Some(hold) = holds::held_by(ledger, info, &mut |user| holds_mail_of(info, user))? {
                return Err(ForgetError::Held { snapshot: info.hash, hold: hold.hold });
            }
        }
        let any_good = |some: &[(&SnapshotInfo, UnixNanos)]| some.iter().any(|(info, _)| is_good(info));
        let loses_all = !go.is_empty() && stay.is_empty();
        if !force && (loses_all || (any_good(&go) && !any_good(&stay))) {
            return Err(ForgetError::LastGood { snapshot: go[0].0.hash, key: group.key });
        }
        if !go.is_empty() {
            let verdict = |(info, at)| Verdict { info, at, reasons: Vec::new() };
            let verdicts = go.into_iter().map(verdict).collect();
            plans.push(Plan { key: group.key, rule: "named by their ids".to_owned(), verdicts });
        }
    }
    Ok(plans)
}
