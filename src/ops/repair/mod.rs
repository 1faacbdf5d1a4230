//! Repair: what was lost or damaged is had again from what is still there.

pub mod snapshots;
