//! Repair: what was lost or damaged is had again from what is still there. Nothing is deleted: what is damaged is
//! set aside, where no reader looks.

mod domains;
pub mod index;
pub mod packs;
mod reading;
pub mod records;
mod salvage;
pub mod snapshots;
mod upkeep;
