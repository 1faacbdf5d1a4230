//! Mail is given back to a live mailbox, and a real Dovecot looks on.
//!
//! Before and after each delivery a session notes UIDs, flags, keywords, dates and bytes of all messages, with another
//! session open meanwhile: what lay there must not change, and no UID may be used twice.

mod crashes;
mod hostile;
mod live;
mod odd_folders;
mod places;
pub mod site;
