//! What a check has to say about an object, sorted by what it means.

use crate::crypto::slot::SlotError;
use crate::repo::RepoError;
use crate::store::Place;

/// What is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It should be there and is not.
    Lost,
    /// It is not what it was when it was written.
    Damaged,
    /// It proves to be forged, replayed or moved; it counts for nothing.
    Refused,
    /// Something was there before and was taken away without a signed record.
    Gap,
    /// The config or a key slot cannot be used.
    Keys,
    /// The store did not give it: nothing is known of its bytes.
    Unread,
    /// Nothing is wrong, but somebody may want to know.
    Remark,
}

impl Kind {
    /// The word for programs.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Lost => "lost",
            Kind::Damaged => "damaged",
            Kind::Refused => "refused",
            Kind::Gap => "gap",
            Kind::Keys => "keys",
            Kind::Unread => "unread",
            Kind::Remark => "remark",
        }
    }

    /// What an error says about the object that it names.
    pub(super) fn of(error: &RepoError) -> Kind {
        match error {
            RepoError::Refused { .. } | RepoError::Slot(SlotError::BadSignature) => Kind::Refused,
            RepoError::Slot(_) => Kind::Keys,
            RepoError::MissingBlob { .. } => Kind::Lost,
            RepoError::Store(error) if error.is_missing() => Kind::Lost,
            RepoError::Store(error) if error.kind == crate::store::StoreErrorKind::Size => Kind::Damaged,
            RepoError::Store(_) => Kind::Unread,
            _ => Kind::Damaged,
        }
    }
}

/// What it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// `config`.
    Config,
    /// A key slot.
    Key,
    /// A record.
    Record,
    /// A delta.
    Index,
    /// A pack, or what belongs to one.
    Pack,
    /// The parity of a pack.
    Parity,
    /// A snapshot or checkpoint.
    Snapshot,
    /// A file or folder of a snapshot.
    File,
    /// What should be there by the numbers and signed records.
    History,
}

impl Subject {
    /// The word for programs.
    pub fn name(self) -> &'static str {
        match self {
            Subject::Config => "config",
            Subject::Key => "key",
            Subject::Record => "record",
            Subject::Index => "index",
            Subject::Parity => "parity",
            Subject::Pack => "pack",
            Subject::Snapshot => "snapshot",
            Subject::File => "file",
            Subject::History => "history",
        }
    }
}

impl From<&Place> for Subject {
    fn from(place: &Place) -> Subject {
        match place {
            Place::Config => Subject::Config,
            Place::KeySlot(_) => Subject::Key,
            Place::Pack(_) | Place::Parity(..) => Subject::Pack,
            Place::Delta(..) => Subject::Index,
            Place::Snapshot(..) => Subject::Snapshot,
            Place::Record(..) => Subject::Record,
            Place::Inventory(..) => Subject::History,
        }
    }
}

/// Something to be told about an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What is wrong with it.
    pub kind: Kind,
    /// What it is.
    pub subject: Subject,
    /// The object, or the snapshot and path that suffer.
    pub object: String,
    /// What shows it.
    pub text: String,
}

impl Finding {
    /// A finding.
    pub fn new(kind: Kind, subject: Subject, object: impl Into<String>, text: impl Into<String>) -> Finding {
        Finding { kind, subject, object: object.into(), text: text.into() }
    }

    /// What an error says of the object at a place.
    pub(super) fn at(place: &Place, error: &RepoError) -> Finding {
        Finding::new(Kind::of(error), place.into(), place.to_string(), error.to_string())
    }
}
