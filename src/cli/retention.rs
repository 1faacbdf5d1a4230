//! What is kept, as options of the command line and as `[retention]` in `mailark.toml`.

use std::num::NonZeroU32;

use clap::Args;
use serde::{Deserialize, Deserializer};

use crate::ops::forget::{Period, Policy};

/// A policy as `mailark.toml` has it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    last: Option<NonZeroU32>,
    hourly: Option<NonZeroU32>,
    daily: Option<NonZeroU32>,
    weekly: Option<NonZeroU32>,
    monthly: Option<NonZeroU32>,
    yearly: Option<NonZeroU32>,
    #[serde(default, deserialize_with = "period")]
    within: Option<Period>,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default, deserialize_with = "period")]
    hold_down: Option<Period>,
}

fn period<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Period>, D::Error> {
    let text = String::deserialize(value)?;
    text.parse().map(Some).map_err(serde::de::Error::custom)
}

/// What is kept, on the command line.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "What to keep")]
pub struct KeepArgs {
    /// Keep the newest N
    #[arg(long, value_name = "N")]
    pub keep_last: Option<NonZeroU32>,
    /// Keep the newest of each of N hours
    #[arg(long, value_name = "N")]
    pub keep_hourly: Option<NonZeroU32>,
    /// Keep the newest of each of N days
    #[arg(long, value_name = "N")]
    pub keep_daily: Option<NonZeroU32>,
    /// Keep the newest of each of N weeks
    #[arg(long, value_name = "N")]
    pub keep_weekly: Option<NonZeroU32>,
    /// Keep the newest of each of N months
    #[arg(long, value_name = "N")]
    pub keep_monthly: Option<NonZeroU32>,
    /// Keep the newest of each of N years
    #[arg(long, value_name = "N")]
    pub keep_yearly: Option<NonZeroU32>,
    /// Keep all that came not longer than this before the newest, such as 1y2m3d4h
    #[arg(long, value_name = "DURATION")]
    pub keep_within: Option<Period>,
    /// Keep all with this tag; repeat for any of several, `a,b` for both
    #[arg(long, value_name = "TAG[,TAG]")]
    pub keep_tag: Vec<String>,
    /// Forget nothing that came not longer than this before the newest, whatever the rules say [default: 24h]
    #[arg(long, value_name = "DURATION")]
    pub hold_down: Option<Period>,
}

impl KeepArgs {
    /// The policy, if one was given.
    pub fn given(&self) -> Option<Retention> {
        let retention = Retention {
            last: self.keep_last,
            hourly: self.keep_hourly,
            daily: self.keep_daily,
            weekly: self.keep_weekly,
            monthly: self.keep_monthly,
            yearly: self.keep_yearly,
            within: self.keep_within,
            tags: self.keep_tag.clone(),
            hold_down: None,
        };
        retention.keeps_something().then_some(retention)
    }
}

impl Retention {
    /// Does it have a rule?
    pub fn keeps_something(&self) -> bool {
        self.policy(None).keeps_something()
    }

    /// The policy; `hold_down` stands in for one that it does not name.
    pub fn policy(&self, hold_down: Option<Period>) -> Policy {
        let plain = |count: Option<NonZeroU32>| count.map(NonZeroU32::get);
        let usual = Policy::default();
        let tags = self.tags.iter().map(|group| group.split(',').map(str::to_owned).collect()).collect();
        Policy {
            last: plain(self.last),
            hourly: plain(self.hourly),
            daily: plain(self.daily),
            weekly: plain(self.weekly),
            monthly: plain(self.monthly),
            yearly: plain(self.yearly),
            within: self.within,
            tags,
            hold_down: self.hold_down.or(hold_down).unwrap_or(usual.hold_down),
        }
    }

    /// Does it keep all that have this tag alone?
    pub fn keeps_tag(&self, tag: &str) -> bool {
        self.tags.iter().any(|group| group == tag)
    }

    /// How long it forgets nothing, where it says so.
    pub fn hold_down(&self) -> Option<Period> {
        self.hold_down
    }
}
