//! Snapshots: the sealed, signed result of one backup; and checkpoints, the trace of a running one.

use bincode::{Decode, Encode};

use super::codec::{self, Result};
use crate::base::id::{BlobId, ObjectHash};
use crate::base::limits;

/// The tag of snapshots that `backup --follow` made; no user can give it.
pub const FOLLOW_TAG: &str = "follow";

/// Sums over everything below a folder, a fence page or a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
pub struct Totals {
    /// Files, links and special files; not folders.
    pub files: u64,
    /// Folders.
    pub folders: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// Messages in all files.
    pub messages: u64,
    /// Newest modification time of a file, unix seconds; 0 when there is none.
    pub newest: i64,
}

impl std::ops::AddAssign for Totals {
    fn add_assign(&mut self, other: Totals) {
        self.files = self.files.saturating_add(other.files);
        self.folders = self.folders.saturating_add(other.folders);
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.messages = self.messages.saturating_add(other.messages);
        self.newest = self.newest.max(other.newest);
    }
}

/// Where the listing of a folder begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct Tree {
    /// The top page; `None` for an empty folder.
    pub root: Option<BlobId>,
    /// Levels of fence pages above the leaves.
    pub levels: u8,
    /// Sums over everything below.
    pub totals: Totals,
}

/// What a part is a backup of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum PartType {
    /// Mailboxes, or any tree of files.
    Mail,
    /// Configuration.
    Config,
    /// Users and passwords.
    UserDb,
    /// A mail queue.
    Queue,
    /// Keys and certificates.
    Keys,
    /// Logs.
    Logs,
    /// The output of a command, or standard input.
    Stream,
}

/// One typed piece of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Part {
    /// What it is.
    pub part_type: PartType,
    /// The logical absolute path that the user gave or `--as` replaced; for a tree of several paths one part each.
    pub path: Vec<u8>,
    /// A listing whose single entry is what stood at `path`, under its own name.
    pub tree: Tree,
    /// Problems met in this part.
    pub problems: u64,
}

/// A non-fatal finding kept with the snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct StoredProblem {
    /// The path it was met at.
    pub path: Vec<u8>,
    /// What was met, for people.
    pub text: String,
}

/// How the run decided what changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum ScanKind {
    /// Every file was read.
    Full,
    /// Every file was looked at, unchanged ones were taken from the parent.
    Stat,
    /// Untouched folders were taken from the scan cache.
    Folders,
}

/// The sealed part of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Snapshot {
    /// Name of the host, for people.
    pub host_name: String,
    /// The job.
    pub job: String,
    /// Hash of the job's previous snapshot object.
    pub previous: Option<ObjectHash>,
    /// Sequence number of the host's highest object when this one was made, for the chain.
    pub previous_sequence: u64,
    /// When the run began, unix nanoseconds.
    pub started: i64,
    /// When it ended, unix nanoseconds.
    pub ended: i64,
    /// The parts, sorted by path.
    pub parts: Vec<Part>,
    /// The user's tags, or [`FOLLOW_TAG`].
    pub tags: Vec<String>,
    /// How it was decided what changed.
    pub scan: ScanKind,
    /// Looks too small to be true: why.
    pub suspect: Option<String>,
    /// The snapshot that this one supersedes.
    pub replaces: Option<ObjectHash>,
    /// Problems in all parts; the list may hold fewer.
    pub problem_count: u64,
    /// The first problems.
    pub problems: Vec<StoredProblem>,
    /// Files that vanished while the run was on.
    pub vanished: u64,
    /// Version of the program that wrote it.
    pub program: String,
}

#[cfg(test)]
impl Snapshot {
    /// A good snapshot of nothing, by host mx1 and job mail.
    pub(crate) fn of_nothing() -> Snapshot {
        Snapshot {
            host_name: "mx1".to_owned(),
            job: "mail".to_owned(),
            previous: None,
            previous_sequence: 0,
            started: 0,
            ended: 0,
            parts: Vec::new(),
            tags: Vec::new(),
            scan: ScanKind::Stat,
            suspect: None,
            replaces: None,
            problem_count: 0,
            problems: Vec::new(),
            vanished: 0,
            program: String::new(),
        }
    }
}

impl Snapshot {
    /// Sums over all parts.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        self.parts.iter().for_each(|part| totals += part.tree.totals);
        totals
    }

    /// Did `backup --follow` make it?
    pub fn is_of_follow(&self) -> bool {
        self.tags.iter().any(|tag| tag == FOLLOW_TAG)
    }

    /// Encodes the sealed part.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Decodes the sealed part and checks its limits.
    pub fn decode(bytes: &[u8]) -> Result<Snapshot> {
        let snapshot: Snapshot = codec::decode(bytes, "snapshot")?;
        for part in &snapshot.parts {
            codec::limit("levels of a folder", part.tree.levels.into(), limits::PAGE_LEVELS_MAX.into())?;
            codec::limit("length of a path", part.path.len() as u64, limits::PATH_BYTES_MAX as u64)?;
        }
        Ok(snapshot)
    }
}

/// The sealed part of a checkpoint: what a running backup has stored and will refer to.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Checkpoint {
    /// The job.
    pub job: String,
    /// When the run began, unix nanoseconds.
    pub started: i64,
    /// When this was written, unix nanoseconds.
    pub at: i64,
    /// Packs stored by this run so far.
    pub packs: Vec<ObjectHash>,
    /// The snapshot from which this run takes what did not change; prune spares what it reaches.
    pub parent: Option<ObjectHash>,
}

impl Checkpoint {
    /// Encodes the sealed part.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Decodes the sealed part.
    pub fn decode(bytes: &[u8]) -> Result<Checkpoint> {
        codec::decode(bytes, "checkpoint")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(totals: Totals) -> Part {
        let tree = Tree { root: None, levels: 0, totals };
        Part { part_type: PartType::Mail, path: b"/var/vmail".to_vec(), tree, problems: 0 }
    }

    #[test]
    fn a_snapshot_weighs_what_its_parts_do() {
        let one = Totals { files: 1, folders: 2, bytes: 3, messages: 4, newest: 5 };
        let two = Totals { files: 10, folders: 20, bytes: u64::MAX, messages: 40, newest: 2 };
        let parts = vec![part(one), part(two)];
        let sum = Totals { files: 11, folders: 22, bytes: u64::MAX, messages: 44, newest: 5 };
        assert_eq!(Snapshot { parts, ..Snapshot::of_nothing() }.totals(), sum);
        assert_eq!(Snapshot::of_nothing().totals(), Totals::default());
    }

    #[test]
    fn a_follower_marks_what_it_makes() {
        let tagged =
            |tag: &str| Snapshot { tags: vec!["a".to_owned(), tag.to_owned()], ..Snapshot::of_nothing() };
        assert!(tagged(FOLLOW_TAG).is_of_follow());
        assert!(!tagged("b").is_of_follow() && !Snapshot::of_nothing().is_of_follow());
    }
}
