//! Mailark keeps mail servers' messages and configuration in an encrypted, content-addressed repository.
//!
//! The folder tree is the architecture; imports only go downward (`tests/it/layers.rs` holds it so):
//!
//! ```text
//! base      L0  ids, limits, clock, entropy, progress
//! format    L1  stored bytes <-> structs        mail    L1  message formats, pure
//! chunk     L1  files -> pieces (uses mail)     crypto  L1  keys, seals (uses format)    compress  L1
//! store     L2  where objects lie               index   L2  local lookup
//! repo      L3  packs, trees, snapshots, keys   source  L3  what is backed up
//! ops       L4  one module per verb
//! watch     L5  what goes on for ever
//! cli       L6  one file per command
//! ```

pub mod base;
pub mod chunk;
pub mod cli;
pub mod compress;
pub mod crypto;
pub mod format;
pub mod index;
pub mod mail;
pub mod ops;
pub mod repo;
pub mod source;
pub mod store;
pub mod watch;
