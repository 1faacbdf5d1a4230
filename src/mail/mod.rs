//! Layer 1: the formats of mail. Pure functions over bytes; nothing here fails on odd input.

pub mod dbox;
pub mod detect;
pub mod folder_name;
pub mod heading;
pub mod hint;
pub mod keywords;
pub mod letter;
pub mod maildir;
pub mod mbox;
pub mod mbox_cuts;
pub mod mbox_state;
pub mod mbox_writer;
pub mod message_id;
pub mod mime;
pub mod reading;
pub mod templates;
pub mod uidlist;
pub mod user;
