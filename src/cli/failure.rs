//! How a run ends: the one table of exit codes, and what is said when it does not end well.

use std::error::Error;
use std::fmt::Write;

use serde_json::json;

use crate::base::bytes;
use crate::base::interrupt::Interrupted;

/// How a run ended, for the calling program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Everything asked for was done.
    Ok,
    /// Nothing, or not enough, was done.
    Failed,
    /// The command line was not understood.
    Usage,
    /// A snapshot or a restore was made, but something could not be read or written.
    Incomplete,
    /// A snapshot was made, but it looks too small to be true.
    Suspect,
    /// There is no repository at the given place.
    NoRepository,
    /// Another run holds the job.
    Locked,
    /// The key opens nothing here, or no key was given.
    Key,
    /// A signal ended the run.
    Interrupted,
    /// `status` found something to look at soon.
    Warning,
    /// `status` found something to look at now.
    Critical,
    /// Whoever read our output went away.
    ReaderGone,
}

/// Exit codes in the order of the help text. `status` speaks Nagios (0, 1, 2) and stands apart.
const TABLE: [(Exit, &str); 9] = [
    (Exit::Ok, "done"),
    (Exit::Failed, "failed"),
    (Exit::Usage, "command line not understood"),
    (Exit::Incomplete, "done in part: something could not be read or written"),
    (Exit::Suspect, "snapshot made, but it looks too small to be true"),
    (Exit::NoRepository, "no repository there"),
    (Exit::Locked, "another run of this job is at work"),
    (Exit::Key, "wrong key, or no key"),
    (Exit::Interrupted, "interrupted by a signal"),
];

impl Exit {
    /// The number given to the operating system.
    pub fn code(self) -> u8 {
        match self {
            Exit::Ok => 0,
            Exit::Failed | Exit::Warning => 1,
            Exit::Usage | Exit::Critical => 2,
            Exit::Incomplete => 3,
            Exit::Suspect => 4,
            Exit::NoRepository => 10,
            Exit::Locked => 11,
            Exit::Key => 12,
            Exit::Interrupted => 130,
            // What a shell reports for a program that SIGPIPE ended.
            Exit::ReaderGone => 141,
        }
    }

    /// The table as it stands at the end of every help text.
    pub fn help() -> String {
        let mut text = String::from("Exit codes:\n");
        for (exit, meaning) in TABLE {
            writeln!(text, "  {:>3}  {meaning}", exit.code()).expect("writing to a string cannot fail");
        }
        text.push_str("  (status: 0 ok, 1 warning, 2 critical)");
        text
    }
}

/// What sort of thing went wrong; decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The command line makes no sense, as it turned out after it was parsed.
    Usage,
    /// The request cannot be met as given.
    User,
    /// `mailark.toml` or the environment is wrong.
    Config,
    /// There is no repository at the given place.
    NoRepository,
    /// Another run holds the job.
    Locked,
    /// The key is wrong, missing, or not strong enough for the request.
    Key,
    /// Stored bytes are not what they should be.
    Damaged,
    /// A disk, a share or a pipe failed.
    Storage,
    /// Part of the work could not be done.
    Incomplete,
    /// A signal asked to stop.
    Interrupted,
    /// Whoever read our output went away; nothing is said.
    ReaderGone,
    /// A fault of this program.
    Internal,
}

impl Kind {
    /// The exit code's entry for this kind.
    pub fn exit(self) -> Exit {
        match self {
            Kind::User | Kind::Config | Kind::Damaged | Kind::Storage | Kind::Internal => Exit::Failed,
            Kind::Usage => Exit::Usage,
            Kind::NoRepository => Exit::NoRepository,
            Kind::Locked => Exit::Locked,
            Kind::Key => Exit::Key,
            Kind::Incomplete => Exit::Incomplete,
            Kind::Interrupted => Exit::Interrupted,
            Kind::ReaderGone => Exit::ReaderGone,
        }
    }

    /// The word for this kind in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Usage => "usage",
            Kind::User => "user",
            Kind::Config => "config",
            Kind::NoRepository => "no_repository",
            Kind::Locked => "locked",
            Kind::Key => "key",
            Kind::Damaged => "damaged",
            Kind::Storage => "storage",
            Kind::Incomplete => "incomplete",
            Kind::Interrupted => "interrupted",
            Kind::ReaderGone => "reader_gone",
            Kind::Internal => "internal",
        }
    }
}

/// Why a command could not do its work, and what a person may do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Decides the exit code.
    pub kind: Kind,
    /// One line, lower case, naming the object; causes follow after ": ".
    pub message: String,
    /// What to do next, one line each.
    pub hints: Vec<String>,
}

impl Failure {
    /// A failure without a cause below it.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Failure { kind, message: message.into(), hints: Vec::new() }
    }

    /// A failure that an error caused: `what: error: its source: ...`; `what` may be empty.
    pub fn because(kind: Kind, what: &str, error: &(dyn Error + 'static)) -> Self {
        let mut links: Vec<String> = Vec::new();
        if !what.is_empty() {
            links.push(what.to_owned());
        }
        let mut cause = Some(error);
        while let Some(error) = cause {
            let text = error.to_string();
            // Wrappers that repeat their source, or say nothing, add nothing.
            if !text.is_empty() && links.last().is_none_or(|last| !last.ends_with(&text)) {
                links.push(text);
            }
            cause = error.source();
        }
        Failure::new(kind, links.join(": "))
    }

    /// Adds one line of advice.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// The text for a person: `mailark: message`, then a line for each hint. Safe on a terminal.
    pub fn for_people(&self) -> String {
        let mut text = format!("mailark: {}\n", bytes::display(self.message.as_bytes()));
        for hint in &self.hints {
            writeln!(text, "hint: {}", bytes::display(hint.as_bytes()))
                .expect("writing to a string cannot fail");
        }
        text
    }

    /// The same as one JSON object.
    pub fn for_programs(&self) -> serde_json::Value {
        json!({
            "error": self.message,
            "kind": self.kind.name(),
            "exit_code": self.kind.exit().code(),
            "hints": self.hints,
        })
    }
}

impl From<Interrupted> for Failure {
    fn from(_: Interrupted) -> Self {
        Failure::new(Kind::Interrupted, "interrupted; what was stored stays and is used by the next run")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_end_with_their_documented_codes() {
        let codes = [
            (Kind::Usage, 2),
            (Kind::User, 1),
            (Kind::Config, 1),
            (Kind::Damaged, 1),
            (Kind::Storage, 1),
            (Kind::Internal, 1),
            (Kind::Incomplete, 3),
            (Kind::NoRepository, 10),
            (Kind::Locked, 11),
            (Kind::Key, 12),
            (Kind::Interrupted, 130),
        ];
        for (kind, code) in codes {
            assert_eq!(kind.exit().code(), code, "{kind:?}");
        }
        assert_eq!(Exit::Suspect.code(), 4);
        assert_eq!((Exit::Warning.code(), Exit::Critical.code()), (1, 2), "what Nagios expects");
    }

    #[test]
    fn the_help_table_lists_each_code_once() {
        let help = Exit::help();
        for code in ["  0  ", "  1  ", "  2  ", "  3  ", "  4  ", " 10  ", " 11  ", " 12  ", "130  "] {
            assert_eq!(help.matches(&format!("  {code}").as_str()[2..]).count(), 1, "{code:?} in {help}");
        }
    }

    #[derive(Debug, thiserror::Error)]
    #[error("open pack 3f9a")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn causes_are_joined_and_not_repeated() {
        let cause = Outer(std::io::Error::other("disk on fire"));
        let failure = Failure::because(Kind::Storage, "restore", &cause).hint("replace the disk");
        assert_eq!(failure.message, "restore: open pack 3f9a: disk on fire");
        assert_eq!(
            failure.for_people(),
            "mailark: restore: open pack 3f9a: disk on fire\nhint: replace the disk\n"
        );
        let json = failure.for_programs();
        assert_eq!(json["kind"], "storage");
        assert_eq!(json["exit_code"], 1);
        assert_eq!(json["hints"][0], "replace the disk");
    }

    #[test]
    fn a_message_cannot_move_the_cursor() {
        let failure = Failure::new(Kind::User, "no folder a\x1b[2Jb\nmailark: all is well");
        assert_eq!(failure.for_people(), "mailark: no folder a\\x1b[2Jb\\x0amailark: all is well\n");
    }
}
