//! Names of files that letters get.

use super::incoming::Content;
use crate::base::bytes;
use crate::mail::letter::Letter;
use crate::mail::maildir;

/// Longest base name that leaves room for flags.
const BASE_BYTES_MAX: usize = 220;

/// May a file in a Maildir be called so?
pub(super) fn fits(base: &[u8]) -> bool {
    !base.is_empty()
        && base.len() <= BASE_BYTES_MAX
        && !base.starts_with(b".")
        && base.iter().all(|byte| !byte.is_ascii_control() && !matches!(byte, b'/' | b' '))
        && maildir::base(base) == base
}

/// A base name for a letter that cannot have its own; the same letter gets the same.
pub(super) fn fresh_base(letter: &Letter, content: &Content) -> Vec<u8> {
    let seconds = letter.arrived_s.max(0);
    let mut base = format!("{seconds}.R{}.mailark", bytes::hex(&content.hash[..10])).into_bytes();
    let sizes = maildir::parse(&letter.base);
    // Of a compressed file only its old name tells the sizes.
    let (size, wire_size) = match (fits(&letter.base), sizes.size) {
        (true, Some(size)) => (size, sizes.wire_size),
        _ => (content.size, Some(content.wire_size)),
    };
    base.extend_from_slice(format!(",S={size}").as_bytes());
    if let Some(wire_size) = wire_size {
        base.extend_from_slice(format!(",W={wire_size}").as_bytes());
    }
    base
}
