//! `repo-format.md` is executed: its tables are recomputed, its examples decoded and encoded again.
//!
//! The bytes in the document are constants that nothing here writes, so a change of the stored form fails.

#![allow(clippy::unwrap_used)]

pub mod document;
mod known;
mod objects;
mod parity;
mod repository;
mod structures;
mod tables;
