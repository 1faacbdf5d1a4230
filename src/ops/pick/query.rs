//! Which messages are wanted.

use crate::base::interval::Interval;
use crate::mail::message_id;

/// What is asked for; whatever is not said does not count.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// The user; without a domain that of any.
    pub user: String,
    /// Names of folders; any of them.
    pub folders: Vec<String>,
    /// Message-IDs or base names; any of them.
    pub messages: Vec<Vec<u8>>,
    /// When it arrived.
    pub received: Option<Interval>,
    /// What its `Date:` says.
    pub sent: Option<Interval>,
}

/// A folder's name in one spelling: `Archive.2024` is `Archive/2024`, `inbox` is `INBOX`, `INBOX.Sent` is `Sent`.
fn one_spelling(name: &str) -> String {
    let name = name.trim_matches('/').replace('.', "/");
    let (first, rest) = name.split_once('/').unwrap_or((&name, ""));
    match (first.eq_ignore_ascii_case("INBOX"), rest) {
        (true, "") => "INBOX".to_owned(),
        (true, rest) => rest.to_owned(),
        (false, _) => name.clone(),
    }
}

/// Does a folder have the name that somebody asked for? `Archive/*` is everything below `Archive`, and itself.
pub fn is_folder(wanted: &str, name: &str) -> bool {
    let (wanted, below) = match wanted.strip_suffix('*') {
        Some(above) => (one_spelling(above.trim_end_matches(['/', '.'])), true),
        None => (one_spelling(wanted), false),
    };
    let name = one_spelling(name);
    name == wanted
        || below
            && (wanted.is_empty() || name.strip_prefix(&wanted).is_some_and(|rest| rest.starts_with('/')))
}

impl Query {
    /// Does any folder do, or is it one of those that are wanted?
    pub fn wants_folder(&self, name: &str) -> bool {
        self.folders.is_empty() || self.folders.iter().any(|wanted| is_folder(wanted, name))
    }

    /// Are all messages of the folders wanted?
    pub fn wants_all(&self) -> bool {
        self.messages.is_empty() && self.received.is_none() && self.sent.is_none()
    }

    /// Is the time of arrival one that is wanted?
    pub fn wants_arrival(&self, second: i64) -> bool {
        self.received.is_none_or(|interval| interval.holds(second))
    }

    /// Does the header decide, when the base name is `base`?
    pub fn needs_head(&self, base: &[u8]) -> bool {
        self.sent.is_some() || !self.messages.is_empty() && !self.names(base)
    }

    /// Is the base name asked for?
    fn names(&self, base: &[u8]) -> bool {
        !base.is_empty() && self.messages.iter().any(|wanted| wanted == base)
    }

    /// Is a message with this base name and header wanted? `sent` reads the header's date.
    pub fn wants_head(
        &self,
        base: &[u8],
        head: Option<&[u8]>,
        sent: impl FnOnce(&[u8]) -> Option<i64>,
    ) -> bool {
        let is_named = || {
            let id = head.and_then(message_id::find);
            id.is_some_and(|id| self.messages.iter().any(|wanted| message_id::bare(wanted) == id))
        };
        let message_fits = self.messages.is_empty() || self.names(base) || is_named();
        let sent_fits = || {
            self.sent.is_none_or(|interval| head.and_then(sent).is_some_and(|second| interval.holds(second)))
        };
        message_fits && sent_fits()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_have_names_in_every_dress() {
        for (wanted, name) in [
            ("inbox", "INBOX"),
            ("Archive.2024", "Archive/2024"),
            ("Archive/2024", "Archive/2024"),
            ("INBOX.Sent", "Sent"),
            ("INBOX/Sent/", "Sent"),
            ("Archive/*", "Archive/2024/Q1"),
            ("Archive.*", "Archive"),
            ("*", "Anything"),
            ("Entwürfe", "Entwürfe"),
        ] {
            assert!(is_folder(wanted, name), "{wanted} {name}");
        }
        for (wanted, name) in [
            ("Archive", "Archive/2024"),
            ("archive", "Archive"),
            ("Archive/*", "Archives"),
            ("INBOX", "Sent"),
        ] {
            assert!(!is_folder(wanted, name), "{wanted} {name}");
        }
    }

    #[test]
    fn messages_are_named_by_id_or_file() {
        let query = Query { messages: vec![b"<1@x>".to_vec(), b"17.M1.mx".to_vec()], ..Query::default() };
        let head = |id: &str| format!("Message-ID: <{id}>\n\n").into_bytes();
        assert!(query.wants_head(b"a", Some(&head("1@x")), |_| None));
        assert!(!query.wants_head(b"a", Some(&head("2@x")), |_| None));
        assert!(query.wants_head(b"17.M1.mx", None, |_| None) && !query.needs_head(b"17.M1.mx"));
        assert!(!query.wants_head(b"a", None, |_| None) && query.needs_head(b"a"));
        let query = Query { sent: Some(Interval { from: Some(5), to: None }), ..Query::default() };
        assert!(
            query.wants_head(b"a", Some(b""), |_| Some(5)) && !query.wants_head(b"a", Some(b""), |_| None)
        );
    }
}
