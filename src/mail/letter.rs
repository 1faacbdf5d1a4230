//! A message on its way back to somebody: all that a mailbox knows of it but its bytes.

/// The flags that every Maildir program knows, sorted: passed on, replied, seen, trashed, draft, flagged.
pub const FLAGS: &[u8] = b"DFPRST";

/// A message as it stood in a mailbox, without its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// Whose it was.
    pub user: String,
    /// The folder, as people call it: `INBOX`, `Archive/2024`.
    pub folder: String,
    /// The base name of its file; empty for a message out of an mbox or dbox.
    pub base: Vec<u8>,
    /// Letters out of [`FLAGS`], sorted.
    pub flags: Vec<u8>,
    /// Names of its keywords; `None` for a letter that its folder gave no name.
    pub keywords: Vec<Option<Vec<u8>>>,
    /// It stood in `new`: no program had looked at it.
    pub unseen_by_any: bool,
    /// When it arrived (INTERNALDATE), unix seconds.
    pub arrived_s: i64,
    /// Nanoseconds of that.
    pub arrived_ns: u32,
    /// Bytes.
    pub size: u64,
    /// What the server told it by where that is not the base name.
    pub guid: Option<Vec<u8>>,
    /// UIDVALIDITY of the folder and UID of the message there, where they are known.
    pub uid: Option<(u32, u32)>,
}

/// The flags of a Maildir name, sorted, and its keyword letters.
pub fn split_flags(letters: &[u8]) -> (Vec<u8>, Vec<u8>) {
    // Some programs write more after a second comma.
    let own = letters.split(|&byte| byte == b',').next().unwrap_or_default();
    let mut flags: Vec<u8> = own.iter().copied().filter(|letter| FLAGS.contains(letter)).collect();
    let mut keywords: Vec<u8> = own.iter().copied().filter(u8::is_ascii_lowercase).collect();
    for letters in [&mut flags, &mut keywords] {
        letters.sort_unstable();
        letters.dedup();
    }
    (flags, keywords)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_come_apart() {
        assert_eq!(split_flags(b"SRab"), (b"RS".to_vec(), b"ab".to_vec()));
        assert_eq!(split_flags(b"aFFS,x"), (b"FS".to_vec(), b"a".to_vec()));
        assert_eq!(split_flags(b""), (vec![], vec![]));
    }
}
