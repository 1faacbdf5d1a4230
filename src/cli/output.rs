//! What goes to standard output and standard error, and in which shape: for people or as JSON.

use std::io::{self, BufWriter, IsTerminal, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Map, Value};

use super::failure::{Failure, Kind};
use crate::base::bytes;
use crate::base::clock::UnixNanos;

/// How much is said, and to whom.
#[derive(Debug, Clone, Copy, Default)]
pub struct Manner {
    /// Exact, for programs.
    pub json: bool,
    /// Nothing but results and problems.
    pub quiet: bool,
    /// 0 for the usual, more for more.
    pub verbose: u8,
    /// A person sees standard output.
    pub stdout_terminal: bool,
    /// A person sees standard error.
    pub stderr_terminal: bool,
}

impl Manner {
    /// Looks at the flags and at where our output goes.
    pub fn detect(json: bool, quiet: bool, verbose: u8) -> Self {
        let (stdout_terminal, stderr_terminal) = (io::stdout().is_terminal(), io::stderr().is_terminal());
        Manner { json, quiet, verbose, stdout_terminal, stderr_terminal }
    }

    /// True if success is worth words: never with `--quiet`, and in a cron job only when asked for.
    pub fn tells_success(&self) -> bool {
        !self.quiet && (self.json || self.verbose > 0 || self.stdout_terminal || self.stderr_terminal)
    }
}

/// Writes results to standard output and remarks to standard error.
///
/// A reader that went away gives a failure of [`Kind::ReaderGone`], which ends the run without a word.
pub struct Output {
    manner: Manner,
    stdout: Mutex<Box<dyn Write + Send>>,
}

impl Output {
    /// Writes to this process's streams.
    pub fn new(manner: Manner) -> Self {
        Output::to(manner, Box::new(BufWriter::with_capacity(1 << 16, io::stdout())))
    }

    /// Writes results to `stdout`.
    pub fn to(manner: Manner, stdout: Box<dyn Write + Send>) -> Self {
        Output { manner, stdout: Mutex::new(stdout) }
    }

    /// How much is said.
    pub fn manner(&self) -> &Manner {
        &self.manner
    }

    /// Writes raw bytes to standard output: contents, not names.
    pub fn raw(&self, content: &[u8]) -> Result<(), Failure> {
        written(self.lock().write_all(content))
    }

    /// Writes one line of text to standard output; names in it went through [`bytes::display`].
    pub fn line(&self, text: &str) -> Result<(), Failure> {
        let mut stdout = self.lock();
        written(stdout.write_all(text.as_bytes()).and_then(|()| stdout.write_all(b"\n")))
    }

    /// Writes one JSON value as one line to standard output.
    pub fn json(&self, value: &impl Serialize) -> Result<(), Failure> {
        let mut line = serde_json::to_vec(value)
            .map_err(|error| Failure::because(Kind::Internal, "write JSON", &error))?;
        line.push(b'\n');
        self.raw(&line)
    }

    /// Writes a line about a successful run, where [`Manner::tells_success`] says so and JSON is not wanted.
    pub fn summary(&self, text: &str) -> Result<(), Failure> {
        if self.manner.tells_success() && !self.manner.json { self.line(text) } else { Ok(()) }
    }

    /// Tells a person something beside the results, on standard error.
    pub fn remark(&self, text: &str) {
        if self.manner.tells_success() && !self.manner.json {
            complain(&format!("{text}\n"));
        }
    }

    /// Tells what somebody has to know also when nobody watches, on standard error.
    pub fn notice(&self, text: &str) {
        if !self.manner.quiet && !self.manner.json {
            complain(&format!("mailark: {text}\n"));
        }
    }

    /// Gives everything written so far to the operating system.
    pub fn flush(&self) -> Result<(), Failure> {
        written(self.lock().flush())
    }

    fn lock(&self) -> MutexGuard<'_, Box<dyn Write + Send>> {
        // A panic elsewhere leaves at worst half a line.
        self.stdout.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn written(result: io::Result<()>) -> Result<(), Failure> {
    result.map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::new(Kind::ReaderGone, "standard output was closed"),
        _ => Failure::because(Kind::Storage, "write standard output", &error),
    })
}

/// Writes to standard error; nobody can be told when that fails.
pub fn complain(text: &str) {
    drop(io::stderr().lock().write_all(text.as_bytes()));
}

/// Inserts a name into a JSON object: `key` holds text, and `key_hex` the exact bytes when the text cannot.
pub fn insert_name(object: &mut Map<String, Value>, key: &str, name: &[u8]) {
    object.insert(key.to_owned(), Value::String(String::from_utf8_lossy(name).into_owned()));
    if bytes::exact_text(name).is_none() {
        object.insert(format!("{key}_hex"), Value::String(bytes::hex(name)));
    }
}

/// Problems for programs: each with its path by the same rule.
pub fn problems<'a>(found: impl Iterator<Item = (&'a [u8], &'a str)>) -> Vec<Value> {
    let as_object = |(path, text): (&[u8], &str)| {
        let mut object = Map::new();
        insert_name(&mut object, "path", path);
        object.insert("problem".to_owned(), bytes::display(text.as_bytes()).into());
        Value::Object(object)
    };
    found.map(as_object).collect()
}

/// The same rule for structs: a field of this type under `#[serde(flatten)]`.
#[derive(Debug, Clone, Copy)]
pub struct NameField<'a> {
    /// The member's name, such as `path`.
    pub key: &'a str,
    /// The exact bytes.
    pub name: &'a [u8],
}

impl Serialize for NameField<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let exact = bytes::exact_text(self.name);
        let mut map = serializer.serialize_map(Some(1 + usize::from(exact.is_none())))?;
        map.serialize_entry(self.key, &String::from_utf8_lossy(self.name))?;
        if exact.is_none() {
            map.serialize_entry(&format!("{}_hex", self.key), &bytes::hex(self.name))?;
        }
        map.end()
    }
}

/// A size for people: `0 B`, `1023 B`, `1.0 KiB`, `12.3 GiB`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    // 1023.95 would be rounded up to 1024.0.
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// A count for people, with thousands apart: `1,234,567`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A length of time for people: `0.35 s`, `12.3 s`, `2 min 05 s`, `1 h 02 min`, `3 d 04 h`.
pub fn duration(length: Duration) -> String {
    let seconds = length.as_secs();
    match seconds {
        0..10 => format!("{:.2} s", length.as_secs_f64()),
        10..60 => format!("{:.1} s", length.as_secs_f64()),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {:02} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {:02} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// How long ago something was, for people: `3 h ago`.
pub fn age(then: UnixNanos, now: UnixNanos) -> String {
    let seconds = (now - then).div_euclid(1_000_000_000);
    let (number, unit) = match seconds {
        ..-60 => return "in the future".to_owned(),
        -60..60 => return "just now".to_owned(),
        60..3600 => (seconds / 60, "min"),
        3600..172_800 => (seconds / 3600, "h"),
        _ => (seconds / 86_400, "days"),
    };
    format!("{number} {unit} ago")
}

/// A moment for people, in the local time zone: `2026-11-23 17:04:05`.
pub fn local_time(at: UnixNanos) -> String {
    in_zone(at, "%Y-%m-%d %H:%M:%S", &TimeZone::system())
}

/// A moment for programs: RFC 3339 with the local offset, to the nanosecond where it has any.
pub fn rfc3339(at: UnixNanos) -> String {
    in_zone(at, "%Y-%m-%dT%H:%M:%S%.f%:z", &TimeZone::system())
}

/// A moment in a time zone, in the shape that `strftime` gives it.
pub fn in_zone(at: UnixNanos, format: &str, zone: &TimeZone) -> String {
    match Timestamp::from_nanosecond(at) {
        Ok(moment) => moment.to_zoned_datetime(zone.clone()).strftime(format).to_string(),
        // Outside the calendar's years: a damaged time stamp stays readable as a number of seconds.
        Err(_) => format!("@{}", at.div_euclid(1_000_000_000)),
    }
}

/// On which side of its column a cell stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// Rows of text in aligned columns; cells with names went through [`bytes::display`]. Names belong last.
#[derive(Debug, Clone)]
pub struct Table {
    sides: Vec<Side>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these column titles.
    pub fn new(columns: &[(&str, Side)]) -> Self {
        let titles = columns.iter().map(|(title, _)| (*title).to_owned()).collect();
        Table { sides: columns.iter().map(|&(_, side)| side).collect(), rows: vec![titles] }
    }

    /// Adds a row; missing cells are empty, cells beyond the last column are not shown.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// The lines, without spaces at their ends.
    pub fn lines(&self) -> Vec<String> {
        let empty = String::new();
        let width_of = |column: usize| {
            self.rows
                .iter()
                .map(|row| row.get(column).map_or(0, |cell| cell.chars().count()))
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.sides.len()).map(width_of).collect();
        let line_of = |row: &Vec<String>| {
            let cells = self.sides.iter().zip(&widths).enumerate().map(|(column, (side, &width))| {
                let cell = row.get(column).unwrap_or(&empty);
                match side {
                    Side::Left => format!("{cell:<width$}"),
                    Side::Right => format!("{cell:>width$}"),
                }
            });
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        self.rows.iter().map(line_of).collect()
    }

    /// Writes all lines.
    pub fn write(&self, output: &Output) -> Result<(), Failure> {
        self.lines().iter().try_for_each(|line| output.line(line))
    }
}

#[cfg(test)]
#[path = "output_tests.rs"]
mod tests;
