//! Records: signed administrative facts, never changed and never removed.
//!
//! This version writes `HostRegistered` and `HostRevoked`; the others are reserved with their meaning, so that a
//! reader of today respects what a later program writes. An unknown type is kept and makes prune refuse.

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
    /// Snapshots were dropped by rule (type 2, private).
    Forget {
        /// The snapshot objects.
        snapshots: Vec<ObjectHash>,
        /// The rule, for people.
        rule: String,
    },
    /// Nothing of this may be dropped (type 3, private).
    Hold {
        /// Number of the hold.
        hold: u64,
        /// Snapshots that are held.
        snapshots: Vec<ObjectHash>,
        /// Users that are held.
        users: Vec<String>,
        /// Ends the hold of that number.
        released: bool,
    },
    /// Content was taken out of all snapshots (type 4, private).
    Purge {
        /// What was asked for.
        paths: Vec<Vec<u8>>,
        /// Old and new snapshot objects.
        replaced: Vec<(ObjectHash, ObjectHash)>,
    },
    /// Writers treat the blobs of these packs as absent from now on (type 5, shared).
    Condemn {
        /// The packs.
        packs: Vec<ObjectHash>,
    },
    /// The condemned packs are deleted once the store's staleness has passed (type 6, shared).
    Doom {
        /// Sequence of the `Condemn`.
        condemned: u64,
        /// The packs.
        packs: Vec<ObjectHash>,
    },
    /// A prune ended (type 7, shared).
    PruneEnded {
        /// Sequence of its `Condemn`.
        condemned: u64,
        /// Packs that were spared.
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
}

impl Record {
    /// Number of the type and whether it is private.
    pub fn class(&self) -> (u32, bool) {
        match self {
            Record::HostRegistered { .. } => (0, false),
            Record::HostRevoked { .. } => (1, false),
            Record::Forget { .. } => (2, true),
            Record::Hold { .. } => (3, true),
            Record::Purge { .. } => (4, true),
            Record::Condemn { .. } => (5, false),
            Record::Doom { .. } => (6, false),
            Record::PruneEnded { .. } => (7, false),
            Record::Result { .. } => (8, true),
        }
    }

    /// Highest type number that this version knows.
    pub const TYPE_MAX: u32 = 8;

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
