//! Layer 5: what goes on for ever. A follower backs up again soon after something changed.
//!
//! Events only wake it. What a run saves is what a run finds, so a lost event costs time and no mail: there is a
//! rescan in any case, and where folders cannot be watched it comes as often as a settled change would.

mod each_folder;
mod file_systems;
mod folders;
mod follow;
mod mounts;
mod pace;
mod scope;

pub use each_folder::default_limit;
pub use folders::Watched;
pub use follow::{Follower, Ran, follow};
pub use pace::Times;
pub use scope::What;
