//! Reading the document: fenced blocks by name, tables by their header.

pub const DOCUMENT: &str = include_str!("../../../repo-format.md");

/// The lines of the block that begins with "```<language> name=<name>".
fn lines(language: &str, name: &str) -> Vec<&'static str> {
    let fence = format!("```{language} name={name}");
    let mut lines = DOCUMENT.lines().skip_while(|line| *line != fence);
    assert!(lines.next().is_some(), "no {language} block named {name}");
    lines.take_while(|line| *line != "```").collect()
}

/// The text of a block, each line ended by LF.
pub fn text(name: &str) -> String {
    lines("text", name).iter().map(|line| format!("{line}\n")).collect()
}

/// The bytes of a block of hex; what follows `#` on a line is for people.
pub fn bytes(name: &str) -> Vec<u8> {
    let digits: String = lines("hex", name)
        .iter()
        .map(|line| line.split('#').next().unwrap())
        .flat_map(|line| line.chars().filter(|c| !c.is_whitespace()))
        .collect();
    unhex(&digits)
}

/// Names of all blocks of hex, in order.
pub fn hex_blocks() -> Vec<&'static str> {
    DOCUMENT.lines().filter_map(|line| line.strip_prefix("```hex name=")).collect()
}

pub fn unhex(digits: &str) -> Vec<u8> {
    assert!(digits.len().is_multiple_of(2), "{digits}");
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

/// The rows below a table's header line, cell by cell, without backquotes.
pub fn table(header: &str) -> Vec<Vec<String>> {
    let mut lines = DOCUMENT.lines().skip_while(|line| *line != header);
    assert!(lines.next().is_some() && lines.next().is_some(), "no table {header}");
    let cells =
        |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().replace('`', "")).collect();
    lines.take_while(|line| line.starts_with('|')).map(cells).collect()
}
