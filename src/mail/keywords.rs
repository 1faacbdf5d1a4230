//! `dovecot-keywords`: what the letters `a` to `z` in the flags of a Maildir folder mean.
//!
//! Lines `<number> <name>`; number 0 is letter `a`. Each folder has its own.

use std::collections::BTreeMap;

/// Letters there are.
const LETTERS: u8 = 26;

/// The keywords of one folder.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Keywords {
    names: BTreeMap<u8, Vec<u8>>,
}

impl Keywords {
    /// Reads the file; what is no line is passed over, of two names for one letter the last counts.
    pub fn parse(bytes: &[u8]) -> Keywords {
        let mut names = BTreeMap::new();
        for line in bytes.split(|&byte| byte == b'\n') {
            let Some(space) = memchr::memchr(b' ', line) else { continue };
            let (digits, name) = (&line[..space], line[space + 1..].trim_ascii_end());
            let number = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse::<u8>().ok());
            if let Some(number) = number.filter(|&number| number < LETTERS && !name.is_empty()) {
                names.insert(b'a' + number, name.to_vec());
            }
        }
        Keywords { names }
    }

    /// The name of a letter.
    pub fn name(&self, letter: u8) -> Option<&[u8]> {
        self.names.get(&letter).map(Vec::as_slice)
    }

    /// The letter of a name; keywords match whatever the case of their ASCII letters.
    pub fn letter(&self, name: &[u8]) -> Option<u8> {
        self.names.iter().find(|(_, known)| known.eq_ignore_ascii_case(name)).map(|(&letter, _)| letter)
    }

    /// Gives a name a letter, a new one when it has none; `None` when all are taken.
    pub fn add(&mut self, name: &[u8]) -> Option<u8> {
        if let Some(letter) = self.letter(name) {
            return Some(letter);
        }
        let letter = (b'a'..b'a' + LETTERS).find(|letter| !self.names.contains_key(letter))?;
        self.names.insert(letter, name.to_vec());
        Some(letter)
    }

    /// Letters and their names, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (u8, &[u8])> {
        self.names.iter().map(|(&letter, name)| (letter, name.as_slice()))
    }

    /// Are there none?
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The file's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (&letter, name) in &self.names {
            bytes.extend_from_slice((letter - b'a').to_string().as_bytes());
            bytes.push(b' ');
            bytes.extend_from_slice(name);
            bytes.push(b'\n');
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn letters_have_names() {
        let mut keywords = Keywords::parse(b"0 $Forwarded\n1 NonJunk\r\n3 work\nx y\n26 far\n2 \n300 a\n");
        assert_eq!(keywords.name(b'a'), Some(&b"$Forwarded"[..]));
        assert_eq!((keywords.name(b'b'), keywords.name(b'c')), (Some(&b"NonJunk"[..]), None));
        assert_eq!(keywords.letter(b"nonjunk"), Some(b'b'));
        assert_eq!((keywords.add(b"WORK"), keywords.add(b"new")), (Some(b'd'), Some(b'c')));
        assert_eq!(keywords.encode(), b"0 $Forwarded\n1 NonJunk\n2 new\n3 work\n");
        assert_eq!(Keywords::parse(&keywords.encode()), keywords);
        (0..22).for_each(|n| assert!(keywords.add(format!("k{n}").as_bytes()).is_some()));
        assert_eq!(keywords.add(b"one too many"), None);
    }

    proptest! {
        #[test]
        fn any_bytes_have_an_answer(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let keywords = Keywords::parse(&bytes);
            prop_assert_eq!(Keywords::parse(&keywords.encode()), keywords);
        }
    }
}
