//! Recovery codes: 160 random bits that a person can write on paper and type back.
//!
//! Eight groups of five characters of Crockford's base32; the fifth checks the group and its place, so that a
//! typing error is named by its group. Section "Recovery codes" of `repo-format.md`.

use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::{Entropy, draw};
use crate::base::entropy;

const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const GROUPS: usize = 8;
const DATA_CHARACTERS: usize = 4;
const GROUP_CHARACTERS: usize = DATA_CHARACTERS + 1;
const CHARACTERS: usize = GROUPS * GROUP_CHARACTERS;

/// The text is no recovery code; never repeats what was typed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecoveryCodeError {
    /// Too few or too many characters.
    #[error("recovery code has {found} characters instead of {CHARACTERS}, spaces and dashes not counted")]
    Length {
        /// Characters found; counting stops at one too many.
        found: usize,
    },
    /// A character that no code holds.
    #[error("group {group} of the recovery code holds a character that no code has")]
    Character {
        /// The group, from 1.
        group: usize,
    },
    /// A group whose check character does not fit.
    #[error("group {group} of the recovery code is mistyped")]
    Group {
        /// The group, from 1.
        group: usize,
    },
}

/// The random bits of a recovery code.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct RecoveryCode([u8; 20]);

impl std::fmt::Debug for RecoveryCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RecoveryCode(secret)")
    }
}

/// Twice a value in the field of 32 elements, modulo x^5 + x^2 + 1.
fn double(value: u8) -> u8 {
    let shifted = value << 1;
    if shifted & 0x20 == 0 { shifted } else { shifted ^ 0x25 }
}

/// Check value of a group: `2 v1 + 4 v2 + 8 v3 + 16 v4 + group number` in the field of 32 elements.
///
/// Unequal factors catch each single wrong character and each swap of two; the number catches swapped groups.
fn check_value(values: &[u8], group: usize) -> u8 {
    let weighted = values.iter().rev().fold(0, |sum, &value| double(sum ^ value));
    weighted ^ group as u8
}

fn value_of(character: char) -> Option<u8> {
    let canonical = match character.to_ascii_uppercase() {
        'O' => '0',
        'I' | 'L' => '1',
        other => other,
    };
    ALPHABET.iter().position(|&known| char::from(known) == canonical).map(|value| value as u8)
}

fn separates(character: char) -> bool {
    // Word processors turn a typed dash into one of U+2010 to U+2015.
    character.is_whitespace() || character == '-' || ('\u{2010}'..='\u{2015}').contains(&character)
}

impl RecoveryCode {
    /// Makes a fresh code.
    pub fn generate() -> RecoveryCode {
        RecoveryCode::generate_with(&mut entropy::fill)
    }

    /// Makes a code of the 20 bytes that it draws.
    pub fn generate_with(entropy: Entropy<'_>) -> RecoveryCode {
        RecoveryCode(draw(entropy))
    }

    /// The bits.
    pub fn bytes(&self) -> &[u8; 20] {
        &self.0
    }

    /// The code as it is shown once to its owner: eight groups with dashes between.
    pub fn text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(CHARACTERS + GROUPS));
        // 20 bits a group, the highest first: two groups in five bytes.
        for (pair, bytes) in self.0.chunks_exact(5).enumerate() {
            let bits = bytes.iter().fold(0u64, |bits, &byte| bits << 8 | u64::from(byte));
            for half in 0..2 {
                let group = 2 * pair + half;
                let values: [u8; DATA_CHARACTERS] =
                    std::array::from_fn(|index| (bits >> (35 - 5 * (4 * half + index)) & 31) as u8);
                if group > 0 {
                    text.push('-');
                }
                for value in values.into_iter().chain([check_value(&values, group + 1)]) {
                    text.push(char::from(ALPHABET[usize::from(value)]));
                }
            }
        }
        text
    }

    /// Reads a code as people type it: any case, spaces and dashes anywhere, O for 0, I or L for 1.
    ///
    /// # Errors
    /// What is wrong, and in which group.
    pub fn parse(text: &str) -> Result<RecoveryCode, RecoveryCodeError> {
        let mut values = Zeroizing::new([0u8; CHARACTERS]);
        let mut found = 0;
        for character in text.chars().filter(|&character| !separates(character)) {
            if found == CHARACTERS {
                return Err(RecoveryCodeError::Length { found: found + 1 });
            }
            let group = found / GROUP_CHARACTERS + 1;
            values[found] = value_of(character).ok_or(RecoveryCodeError::Character { group })?;
            found += 1;
        }
        if found != CHARACTERS {
            return Err(RecoveryCodeError::Length { found });
        }
        let mut code = RecoveryCode([0; 20]);
        for (pair, characters) in values.chunks_exact(2 * GROUP_CHARACTERS).enumerate() {
            let mut bits = 0u64;
            for (half, characters) in characters.chunks_exact(GROUP_CHARACTERS).enumerate() {
                let (group, (data, check)) = (2 * pair + half + 1, characters.split_at(DATA_CHARACTERS));
                if check != [check_value(data, group)] {
                    return Err(RecoveryCodeError::Group { group });
                }
                bits = data.iter().fold(bits, |bits, &value| bits << 5 | u64::from(value));
            }
            code.0[5 * pair..5 * pair + 5].copy_from_slice(&bits.to_be_bytes()[3..]);
        }
        Ok(code)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn code(bytes: [u8; 20]) -> RecoveryCode {
        RecoveryCode(bytes)
    }

    proptest! {
        #[test]
        fn codes_round_trip_as_people_type_them(bytes: [u8; 20]) {
            let text = code(bytes).text();
            prop_assert_eq!(text.len(), CHARACTERS + GROUPS - 1);
            let sloppy = text.to_lowercase().replace('-', " – ").replace('0', "o").replace('1', "l");
            let run_on = text.replace('-', "").replace('1', "I");
            for typed in [text.as_str(), &sloppy, &run_on, &format!("\n {} ", *text)] {
                prop_assert_eq!(*RecoveryCode::parse(typed).unwrap().bytes(), bytes);
            }
        }

        #[test]
        fn any_text_parses_or_is_refused(text in "\\PC{0,60}") {
            let _ = RecoveryCode::parse(&text);
        }

        #[test]
        fn slips_name_their_group(bytes: [u8; 20], place in 0..CHARACTERS, step in 1u8..32) {
            let text = code(bytes).text().replace('-', "");
            let mut typed = text.clone().into_bytes();
            let value = value_of(char::from(typed[place])).unwrap();
            typed[place] = ALPHABET[usize::from((value + step) % 32)];
            let group = place / GROUP_CHARACTERS + 1;
            let error = RecoveryCode::parse(std::str::from_utf8(&typed).unwrap()).unwrap_err();
            prop_assert_eq!(error, RecoveryCodeError::Group { group });
            let mut swapped = text.clone().into_bytes();
            let next = (place + 1).min(CHARACTERS - 1);
            swapped.swap(place, next);
            let same_group = place / GROUP_CHARACTERS == next / GROUP_CHARACTERS;
            if same_group && swapped != text.as_bytes() {
                prop_assert!(RecoveryCode::parse(std::str::from_utf8(&swapped).unwrap()).is_err());
            }
        }
    }

    #[test]
    fn swapped_groups_are_noticed() {
        let text = code(*b"the same twenty byte").text();
        let groups: Vec<&str> = text.split('-').collect();
        for first in 0..GROUPS {
            for second in first + 1..GROUPS {
                let mut swapped = groups.clone();
                swapped.swap(first, second);
                let error = RecoveryCode::parse(&swapped.concat()).unwrap_err();
                assert_eq!(error, RecoveryCodeError::Group { group: first + 1 });
            }
        }
    }

    #[test]
    fn wrong_lengths_and_characters_are_refused() {
        let text = code([0xa5; 20]).text().replace('-', "");
        let length = |text: &str| RecoveryCode::parse(text).unwrap_err();
        assert_eq!(length(""), RecoveryCodeError::Length { found: 0 });
        assert_eq!(length(&text[1..]), RecoveryCodeError::Length { found: 39 });
        assert_eq!(length(&(text.clone() + "0")), RecoveryCodeError::Length { found: 41 });
        assert_eq!(length("U"), RecoveryCodeError::Character { group: 1 });
        assert_eq!(length(&(text[..39].to_owned() + "é")), RecoveryCodeError::Character { group: 8 });
    }
}
