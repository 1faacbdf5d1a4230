//! Layer 5: what goes on for ever. A follower backs up again soon after something changed.
//!
//! Events only wake it. What a run saves is what a run finds, so a lost event costs time and no mail: there is a
//! rescan in any case, and where folders cannot be watched it comes as often as a settled change would.

mod folders;
mod follow;
mod pace;

pub use folders::{What, default_limit};
pub use follow::{Follower, Ran, follow};
pub use pace::Times;
