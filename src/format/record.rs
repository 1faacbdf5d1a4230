//! Records: signed administrative facts, never changed and never removed.
//!
//! An unknown type is kept and makes prune refuse, so that a program of today respects what a later one writes.

use bincode::{Decode, Encode};

use super::codec::{self, Result};
use crate::base::id::{DomainId, HostId, ObjectHash};

/// The clear part: which key the sealed part needs, and the order of prune.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct RecordHead {
    /// Number of the type, see [`Record`]; stands outside the seal so that an unknown type can be respected.
    pub record_type: u32,
    /// Sealed for full keys only; else for writers too.
    pub private: bool,
    /// When it was made, unix seconds, by the clock of its writer.
    pub at: i64,
}

/// A snapshot as records name it: also after it is gone, its number explains the gap that it left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct SnapshotName {
    /// Who wrote it.
    pub host: HostId,
    /// Its number among the host's.
    pub sequence: u64,
    /// Hash of the object.
    pub hash: ObjectHash,
}

/// What took a snapshot's place when it was written anew.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct Replacement {
    /// The snapshot that counts no longer, once `new` is there.
    pub old: SnapshotName,
    /// The one that stands in its place, with its number and age; none when nothing was left of it.
    pub new: Option<SnapshotName>,
    /// When the store received the first that stood in this place, unix nanoseconds.
    pub received: i64,
}

/// The sealed part.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub enum Record {
    /// A host may write from now on (type 0, shared).
    HostRegistered {
        /// The host.
        host: HostId,
        /// Its name, for people and for finding it again.
        name: String,
        /// Its dedup domain.
        domain: DomainId,
        /// Its Ed25519 public key.
        verifying_key: [u8; 32],
    },
    /// Nothing that the host writes from now on counts (type 1, shared).
    HostRevoked {
        /// The host.
        host: HostId,
        /// Its last snapshot that counts.
        last_sequence: u64,
    },
    /// Snapshots were dropped by rule (type 2, shared: a writer must know which of its snapshots count).
    Forget {
        /// The snapshots.
        snapshots: Vec<SnapshotName>,
        /// The rule, for people.
        rule: String,
    },
    /// Nothing of this may be dropped (type 3, private).
    Hold {
        /// Number of the hold.
        hold: u64,
        /// Snapshots that are held.
        snapshots: Vec<SnapshotName>,
        /// Users that are held: no snapshot that holds their mail is dropped.
        users: Vec<String>,
        /// Why, for people.
        reason: String,
        /// Ends the hold of that number.
        released: bool,
    },
    /// Snapshots were written anew without some of their content (type 4, shared).
    ///
    /// Written before the new snapshots, so that none of them ever passes for the newest of its job. What was taken
    /// out stands in a `Result`, which writers cannot read.
    Rewrite {
        /// `purge` or `repair`.
        verb: String,
        /// Old and new snapshots.
        replaced: Vec<Replacement>,
    },
    /// Writers treat the blobs of these packs as absent until this prune has ended (type 5, shared).
    Condemn {
        /// The packs.
        packs: Vec<ObjectHash>,
    },
    /// These packs are about to be deleted; nobody may lean on them ever again (type 6, shared).
    Doom {
        /// The `Condemn`.
        condemned: ObjectHash,
        /// The packs.
        packs: Vec<ObjectHash>,
    },
    /// A prune ended (type 7, shared).
    PruneEnded {
        /// Its `Condemn`.
        condemned: ObjectHash,
        /// Packs that were spared; of these, the doomed ones stay doomed.
        spared: Vec<ObjectHash>,
    },
    /// Result of a check, drill or mirror (type 8, private).
    Result {
        /// `check`, `drill`, `mirror`.
        verb: String,
        /// Did it end well?
        ok: bool,
        /// For people.
        text: String,
    },
    /// Purged content that backups leave out from now on (type 9, shared).
    Tombstone {
        /// The domain whose keys made the marks.
        domain: DomainId,
        /// Marks of folders: only below one of them is anything left out.
        scopes: Vec<[u8; 16]>,
        /// Marks of the contents that are left out.
        contents: Vec<[u8; 16]>,
    },
}

impl Record {
    /// Number of the type and whether it is private.
    pub fn class(&self) -> (u32, bool) {
        match self {
            Record::HostRegistered { .. } => (0, false),
            Record::HostRevoked { .. } => (1, false),
            Record::Forget { .. } => (2, false),
            Record::Hold { .. } => (3, true),
            Record::Rewrite { .. } => (4, false),
            Record::Condemn { .. } => (5, false),
            Record::Doom { .. } => (6, false),
            Record::PruneEnded { .. } => (7, false),
            Record::Result { .. } => (8, true),
            Record::Tombstone { .. } => (9, false),
        }
    }

    /// Highest type number that this version knows.
    pub const TYPE_MAX: u32 = 9;

    /// Encodes the sealed part.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Decodes the sealed part and compares it with the clear one.
    pub fn decode(bytes: &[u8], head: &RecordHead) -> Result<Record> {
        let record: Record = codec::decode(bytes, "record")?;
        codec::agree(record.class() == (head.record_type, head.private), "type of a record")?;
        Ok(record)
    }
}
