//! Names are bytes: how they are shown to people and written to JSON.

use std::fmt::Write;

/// Returns a name for a terminal or a log line: valid printable UTF-8 as it is, any other byte as `\xNN`.
///
/// Control characters, and those that turn the direction of text or break lines, are escaped, so that a file
/// name can neither move the cursor nor forge or reorder a line.
pub fn display(bytes: &[u8]) -> String {
    let mut shown = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() || rearranges(c) {
                let mut buffer = [0; 4];
                c.encode_utf8(&mut buffer).bytes().for_each(|byte| escape(&mut shown, byte));
            } else {
                shown.push(c);
            }
        }
        chunk.invalid().iter().for_each(|&byte| escape(&mut shown, byte));
    }
    shown
}

/// Marks, embeddings, overrides and isolates of text direction, line and paragraph separators, byte order mark.
fn rearranges(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

fn escape(shown: &mut String, byte: u8) {
    write!(shown, "\\x{byte:02x}").expect("writing to a string cannot fail");
}

/// Returns a name as JSON text that gives the bytes back: one rule for every command.
///
/// Valid UTF-8 stays as it is, a byte that is not becomes U+FFFD, and the caller adds the exact bytes in hex
/// beside it (`"path_hex"`) when this returns `None`.
pub fn exact_text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

/// Lower-case hex of any bytes.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a string cannot fail");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_bytes_are_escaped() {
        assert_eq!(display("Entwürfe".as_bytes()), "Entwürfe");
        assert_eq!(display(b"a\xffb\x1b[0m\n"), "a\\xffb\\x1b[0m\\x0a");
        assert_eq!(display("a\u{202e}b".as_bytes()), "a\\xe2\\x80\\xaeb");
    }
}
