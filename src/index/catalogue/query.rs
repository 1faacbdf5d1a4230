//! What somebody looks for.

use super::{ContentId, SeriesNumber, Stay};
use crate::base::bytes::hex;
use crate::base::interval::Interval;
use crate::mail::user::is_user;

/// Where a message must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum State {
    /// Anywhere, now or before.
    #[default]
    Any,
    /// Still in a mailbox of that user, as far as the newest snapshot tells.
    There,
    /// In none any more.
    Gone,
}

/// Everything that is asked for must be true of a message.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// Words of any field, each as the beginning of one.
    pub words: String,
    /// Words of the senders.
    pub sender: String,
    /// Words of the receivers, those of copies among them.
    pub receivers: String,
    /// Words of the subject.
    pub subject: String,
    /// Words of the attachments' names.
    pub attachment: String,
    /// Its Message-ID, without angle brackets.
    pub message_id: Option<String>,
    /// The first hex digits of its content id.
    pub content: Option<String>,
    /// Whose; one without a domain is that of any domain.
    pub user: Option<String>,
    /// In a folder of this name; levels are parted by `/` or `.`.
    pub folder: Option<String>,
    /// When it arrived.
    pub arrived: Interval,
    /// When its sender says that it was sent.
    pub sent: Interval,
    /// Bytes, at least.
    pub size_min: Option<u64>,
    /// Bytes, at most.
    pub size_max: Option<u64>,
    /// It had these flags when it was seen last.
    pub with_flags: Vec<u8>,
    /// It had none of these.
    pub without_flags: Vec<u8>,
    /// It had this keyword.
    pub keyword: Option<String>,
    /// Its UID in that folder.
    pub uid: Option<u32>,
    /// Where it must be.
    pub state: State,
    /// When it went: the time of the first snapshot without it.
    pub gone: Interval,
    /// Only what one of these snapshots holds: series and number; empty for all.
    pub within: Vec<(SeriesNumber, i64)>,
}

impl Query {
    /// Is this the user that is asked for?
    pub(super) fn fits_user(&self, user: &str) -> bool {
        self.user.as_ref().is_none_or(|wanted| is_user(wanted, user))
    }

    /// Is this the folder that is asked for?
    pub(super) fn fits_folder(&self, folder: &str) -> bool {
        let Some(wanted) = &self.folder else { return true };
        let level = |letter: char| if letter == '.' { '/' } else { letter };
        let lower = |text: &str| text.to_lowercase().chars().map(level).collect::<String>();
        lower(folder) == lower(wanted.trim_matches('/'))
    }

    /// Does a stay have all that one can have by itself?
    pub(super) fn fits_stay(&self, stay: &Stay) -> bool {
        self.fits_folder(&stay.folder)
            && self.fits_flags(&stay.flags())
            && self.arrived.holds(stay.arrived)
            && self.uid.is_none_or(|uid| stay.uid.is_some_and(|(_, own)| own == uid))
            && self
                .keyword
                .as_ref()
                .is_none_or(|wanted| stay.keywords.iter().any(|name| name.eq_ignore_ascii_case(wanted)))
    }

    pub(super) fn fits_content(&self, content: &ContentId) -> bool {
        self.content.as_ref().is_none_or(|prefix| hex(content).starts_with(&prefix.to_ascii_lowercase()))
    }

    pub(super) fn fits_flags(&self, flags: &[u8]) -> bool {
        self.with_flags.iter().all(|flag| flags.contains(flag))
            && !self.without_flags.iter().any(|flag| flags.contains(flag))
    }

    /// The full-text table is asked for this, if for anything.
    pub(super) fn full_text(&self) -> Option<String> {
        let columns = [
            ("", &self.words),
            ("sender : ", &self.sender),
            ("receivers : ", &self.receivers),
            ("subject : ", &self.subject),
            ("attachments : ", &self.attachment),
        ];
        let asked: Vec<String> = columns
            .into_iter()
            .filter_map(|(column, text)| Some(format!("{column}({})", super::words::phrases(text)?)))
            .collect();
        (!asked.is_empty()).then(|| asked.join(" AND "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_folders_match_as_people_write_them() {
        let query = |user: &str, folder: &str| Query {
            user: Some(user.to_owned()),
            folder: Some(folder.to_owned()),
            ..Query::default()
        };
        assert!(query("alice", "archive.2024").fits_user("Alice@x.org"));
        assert!(query("alice", "archive.2024").fits_folder("Archive/2024"));
        assert!(
            query("a@x.org", "inbox").fits_user("a@X.org") && query("a@x.org", "inbox").fits_folder("INBOX")
        );
        assert!(!query("a@x.org", "Sent").fits_user("a") && !query("a", "Sent").fits_folder("Sent/Old"));
        assert!(!query("ali", "x").fits_user("alice@x.org"));
    }
}
