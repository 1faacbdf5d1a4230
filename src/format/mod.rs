//! Layer 1: stored bytes <-> structs. No I/O and no keys; `repo-format.md` is normative for all of it.

pub mod codec;
pub mod config;
pub mod content;
pub mod delta;
pub mod envelope;
pub mod inventory;
pub mod keyset;
pub mod letters;
pub mod object;
pub mod pack;
pub mod page;
mod page_wire;
pub mod parity;
pub mod record;
pub mod slot;
pub mod snapshot;
