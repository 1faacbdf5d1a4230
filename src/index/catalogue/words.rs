//! Words as the full-text table knows them: letters of scripts that put no blanks between words stand alone there, and
//! an address is a word of its own besides its parts, which many messages share.

use crate::mail::heading::Heading;

/// Texts with more words than this are cut: nobody looks for the thousandth receiver by a word in the middle.
const TEXT_BYTES_MAX: usize = 16 << 10;

/// Scripts without blanks between words: Chinese, Japanese, Korean syllables, Thai, Lao, Khmer, Burmese.
fn stands_alone(letter: char) -> bool {
    matches!(letter,
        '\u{0e00}'..='\u{0eff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}' | '\u{2e80}'..='\u{2fdf}'
        | '\u{3040}'..='\u{30ff}' | '\u{3100}'..='\u{312f}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}'
        | '\u{ac00}'..='\u{d7af}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}')
}

/// What joins the parts of an address to one word: a letter that nobody writes there.
const JOINT: char = '\u{1c0}';

/// What the full-text table is told of a message.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Words {
    pub(super) sender: String,
    pub(super) receivers: String,
    pub(super) subject: String,
    pub(super) attachments: String,
}

impl Words {
    pub(super) fn of(heading: &Heading) -> Words {
        let mut receivers = String::with_capacity(2 * (heading.to.len() + heading.cc.len()) + 2);
        add(&heading.to, &mut receivers);
        receivers.push(' ');
        add(&heading.cc, &mut receivers);
        Words {
            sender: indexed(&heading.from),
            receivers,
            subject: indexed(&heading.subject),
            attachments: indexed(&heading.attachments),
        }
    }
}

/// The part of a word that is an address; `None` in a word without one.
fn address(word: &str) -> Option<&str> {
    let word = word.trim_matches(|letter: char| !letter.is_alphanumeric() && letter != '@');
    word.find('@').is_some_and(|at| at > 0).then_some(word)
}

/// Adds an address as one word.
fn join(address: &str, words: &mut String) {
    words.extend(address.chars().map(|letter| if letter.is_alphanumeric() { letter } else { JOINT }));
}

/// The words of a text for the table.
fn indexed(text: &str) -> String {
    let mut words = String::with_capacity(2 * text.len() + 2);
    add(text, &mut words);
    words
}

fn add(text: &str, words: &mut String) {
    let text = &text[..text.floor_char_boundary(TEXT_BYTES_MAX)];
    set_apart(text, words);
    if !text.contains('@') {
        return;
    }
    for address in text.split_whitespace().filter_map(address) {
        words.push(' ');
        join(address, words);
    }
}

/// Sets letters that stand alone apart.
fn set_apart(text: &str, words: &mut String) {
    if text.is_ascii() {
        words.push_str(text);
        return;
    }
    for letter in text.chars() {
        if stands_alone(letter) {
            words.push(' ');
            words.push(letter);
            words.push(' ');
        } else {
            words.push(letter);
        }
    }
}

fn apart(text: &str) -> String {
    let mut words = String::with_capacity(text.len() + 16);
    set_apart(text, &mut words);
    words
}

/// What the full-text table is asked for: all words of `text`, each as the beginning of a word; `None` without a word.
///
/// What people put between words (`.`, `-`) ends a word there too, so the parts of a name have to follow each other.
pub(super) fn phrases(text: &str) -> Option<String> {
    let mut asked: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        if let Some(address) = address(word) {
            let mut joined = String::with_capacity(address.len() + 8);
            join(address, &mut joined);
            asked.push(format!("\"{joined}\"*"));
            continue;
        }
        let parts = apart(word);
        let is_word = parts.chars().any(char::is_alphanumeric);
        if is_word {
            let ends_in_letter =
                word.chars().last().is_some_and(|last| last.is_alphanumeric() && !stands_alone(last));
            let prefix = if ends_in_letter { "*" } else { "" };
            asked.push(format!("\"{}\"{prefix}", parts.replace('"', " ").trim()));
        }
    }
    (!asked.is_empty()).then(|| asked.join(" AND "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_set_apart() {
        assert_eq!(apart("Re: 契約 v2").split_whitespace().collect::<Vec<_>>(), ["Re:", "契", "約", "v2"]);
        assert_eq!(phrases("offer").unwrap(), "\"offer\"*");
        assert_eq!(phrases("boss@x.org  2026").unwrap(), "\"bossǀxǀorg\"* AND \"2026\"*");
        assert_eq!(
            phrases("<boss@x.org>, @x.org boss@").unwrap(),
            "\"bossǀxǀorg\"* AND \"@x.org\"* AND \"bossǀ\"*"
        );
        assert!(indexed("Boss <boss@x.org>").ends_with(" bossǀxǀorg"));
        assert_eq!(phrases("契約").unwrap(), "\"契  約\"");
        assert_eq!(phrases("a\"b").unwrap(), "\"a b\"*");
        assert_eq!(phrases("\"").is_none(), phrases(" -- ").is_none());
        assert_eq!(phrases(" "), None);
    }
}
