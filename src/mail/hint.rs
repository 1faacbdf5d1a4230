//! What a file's place and name say about its bytes.

use super::maildir;

/// How a file's bytes should be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Hint {
    /// Look at the first bytes.
    #[default]
    Detect,
    /// No mail meaning.
    Bytes,
    /// One message.
    Message,
    /// Messages after `From ` lines; looked at like `Detect` when the first line is none.
    Mbox,
    /// Messages in the frames of Dovecot's sdbox and mdbox.
    Dbox,
    /// Lines that are rewritten all the time (`dovecot-uidlist`).
    State,
}

/// Returns the hint for a file called `name` in a folder called `parent`; both without slashes.
///
/// A file in `cur` or `new` without a Maildir name is left to detection, so that a folder that happens to be
/// called `new` does not turn its files into broken messages.
pub fn hint_for(name: &[u8], parent: &[u8]) -> Hint {
    if name == b"dovecot-uidlist" {
        Hint::State
    } else if matches!(parent, b"cur" | b"new") && maildir::is_message_name(name) {
        Hint::Message
    } else if let Some(number) = name.strip_prefix(b"m.").or_else(|| name.strip_prefix(b"u."))
        && !number.is_empty()
        && number.iter().all(u8::is_ascii_digit)
    {
        Hint::Dbox
    } else {
        Hint::Detect
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_and_names_give_hints() {
        assert_eq!(hint_for(b"1700503780.M740895P9388.mx1,S=1203,W=1232", b"new"), Hint::Message);
        assert_eq!(hint_for(b"1700503780.M740895P9388.mx1:2,S", b"cur"), Hint::Message);
        assert_eq!(hint_for(b"main.c", b"new"), Hint::Detect);
        assert_eq!(hint_for(b"1700503780.M740895P9388.mx1", b"tmp"), Hint::Detect);
        assert_eq!(hint_for(b"dovecot-uidlist", b"Maildir"), Hint::State);
        assert_eq!(hint_for(b"u.17", b"dbox-Mails"), Hint::Dbox);
        assert_eq!(hint_for(b"m.1", b"storage"), Hint::Dbox);
        assert_eq!(hint_for(b"m.", b"storage"), Hint::Detect);
        assert_eq!(hint_for(b"m.x", b"storage"), Hint::Detect);
    }
}
