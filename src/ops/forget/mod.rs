//! Forget: which snapshots count no longer, by rule or by name. Nothing is deleted here, prune does that.

mod period;
mod plan;
mod policy;
mod thin;
mod times;

#[cfg(test)]
#[path = "plan_tests.rs"]
mod plan_tests;
#[cfg(test)]
#[path = "policy_tests.rs"]
mod policy_tests;
#[cfg(test)]
mod testing;

pub use period::{Period, PeriodError};
pub use plan::{Group, GroupBy, GroupKey, HoldsMailOf, Plan, Verdict, by_name, by_policy, groups};
pub use policy::{Policy, Reason};
pub use thin::{by_thinning, has_surplus};
pub use times::{Times, effective};

use crate::base::id::ObjectHash;
use crate::format::record::Record;
use crate::repo::ledger::Ledger;
use crate::repo::{RepoError, Repository, records};

/// Nothing was forgotten.
#[derive(Debug, thiserror::Error)]
pub enum ForgetError {
    /// The repository cannot be read or written.
    #[error(transparent)]
    Repository(#[from] RepoError),
    /// A policy without a rule.
    #[error("no rule says what to keep")]
    KeepsNothing,
    /// The store's times say nothing about age.
    #[error(
        "of {snapshots} snapshots many reached this place together, within an hour, although their hosts' clocks \
         put days between them: their age is not known here"
    )]
    Copied {
        /// How many the group has.
        snapshots: usize,
    },
    /// A named snapshot must stay.
    #[error("snapshot {} stays: hold {hold} is on it", .snapshot.short())]
    Held {
        /// The snapshot.
        snapshot: ObjectHash,
        /// Number of the hold.
        hold: u64,
    },
    /// No good snapshot of a job would be left.
    #[error(
        "snapshot {} stays: no good snapshot of host {}, job {} would be left",
        .snapshot.short(), .key.host.as_deref().unwrap_or_default(), .key.job.as_deref().unwrap_or_default()
    )]
    LastGood {
        /// The newest of those that were named.
        snapshot: ObjectHash,
        /// Whose.
        key: GroupKey,
    },
    /// What was planned is out of date.
    #[error("a hold was put on something while this run was on")]
    HeldMeanwhile,
}

/// Writes one signed record for each plan that lets something go; gives the records' hashes, in the plans' order.
///
/// `known` is the ledger that the plans were made with.
pub fn write(
    repository: &Repository,
    known: &Ledger,
    plans: &[Plan<'_>],
) -> Result<Vec<Option<ObjectHash>>, ForgetError> {
    let unchanged = || -> Result<(), ForgetError> {
        let now = Ledger::read(repository)?;
        now.need_known()?;
        if now.holds == known.holds { Ok(()) } else { Err(ForgetError::HeldMeanwhile) }
    };
    unchanged()?;
    let mut written = Vec::with_capacity(plans.len());
    for plan in plans {
        let snapshots = plan.names();
        written.push(match snapshots.is_empty() {
            true => None,
            false => {
                let record = Record::Forget { snapshots, rule: plan.rule.clone() };
                Some(records::write(repository, &record)?)
            }
        });
    }
    // What was held between the look and the writing is forgotten all the same, but not in silence.
    unchanged()?;
    Ok(written)
}
