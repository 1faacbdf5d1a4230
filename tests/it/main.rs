//! The integration tests: the program as a user runs it, and the library where the program has no door.
//!
//! Every test has a home, a cache and a repository of its own. A test that lacks something of the system prints
//! `SKIPPED: <name>: <why>` and passes; `tests/run` counts those.

#![allow(clippy::unwrap_used)] // A test that cannot go on says so by panicking.

mod attacks;
mod catalogue;
mod changes;
mod check;
mod commands;
mod corpora;
mod crash_model;
mod crash_points;
mod crashes;
mod damage;
mod damage_sweep;
mod disks;
mod dropped;
mod exits;
mod explained;
mod follow;
mod forget;
mod format;
mod found;
mod fuzz_replay;
mod giving_back;
mod golden;
mod hostile;
mod imap;
mod lab;
mod layers;
mod levels;
mod library;
mod mboxes;
mod mirror;
mod model;
mod mount;
mod options;
mod paused;
mod picking;
mod protocol;
mod protocol_model;
mod prune;
mod purge;
mod repair;
mod repair_snapshots;
mod restore_faults;
mod restoring;
mod revocation;
mod roles;
mod round_trip;
mod shapes;
mod spare;
mod ssh;
mod store_faults;
mod storm;
mod support;
mod thrash;
mod tree;
mod undelete;
