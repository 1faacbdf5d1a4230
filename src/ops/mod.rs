//! Layer 4: one folder per verb. Verbs never import each other; what they share lies in `repo` and `source`.

pub mod backup;
pub mod catalogue;
pub mod check;
pub mod deliver;
pub mod diff;
pub mod forget;
pub mod hold;
pub mod mirror;
pub mod mount;
pub mod pick;
pub mod prune;
pub mod purge;
pub mod rebuild;
pub mod repair;
pub mod restore;
pub mod revoke;
pub mod stats;
pub mod status;
