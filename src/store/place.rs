//! The names of a repository's objects. Section "Layout" of `repo-format.md`.

use std::fmt;

use crate::base::id::{HostId, ObjectHash, SlotId};
use crate::base::limits;

/// Where an object lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    /// `config`
    Config,
    /// `keys/<id>`
    KeySlot(SlotId),
    /// `packs/<xx>/<hash>`
    Pack(ObjectHash),
    /// `index/<host>/<sequence>-<hash>`
    Delta(HostId, u64, ObjectHash),
    /// `snapshots/<host>/<sequence>-<hash>`, snapshots and checkpoints
    Snapshot(HostId, u64, ObjectHash),
    /// `records/<sequence>-<hash>`
    Record(u64, ObjectHash),
    /// `parity/<xx>/<pack>-<hash>`
    Parity(ObjectHash, ObjectHash),
    /// `inventory/<sequence>-<hash>`, in mirrors only
    Inventory(u64, ObjectHash),
}

/// A folder of objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Folder {
    /// `keys`
    Keys,
    /// `packs`
    Packs,
    /// `index`
    Deltas,
    /// `snapshots`
    Snapshots,
    /// `records`
    Records,
    /// `parity`
    Parity,
    /// `inventory`, in mirrors only
    Inventory,
}

impl Folder {
    /// All folders of a repository; a mirror has its inventories besides.
    pub const ALL: [Folder; 6] =
        [Folder::Keys, Folder::Packs, Folder::Deltas, Folder::Snapshots, Folder::Records, Folder::Parity];

    /// The folder's name.
    pub fn name(self) -> &'static str {
        match self {
            Folder::Keys => "keys",
            Folder::Packs => "packs",
            Folder::Deltas => "index",
            Folder::Snapshots => "snapshots",
            Folder::Records => "records",
            Folder::Parity => "parity",
            Folder::Inventory => "inventory",
        }
    }

    /// Objects lie one level deeper than the folder.
    pub(super) fn is_nested(self) -> bool {
        !matches!(self, Folder::Keys | Folder::Records | Folder::Inventory)
    }

    /// Reads the name of an object in this folder; `parent` is the folder between, empty where there is none.
    pub(super) fn parse(self, parent: &str, name: &str) -> Option<Place> {
        let host = || parent.parse::<HostId>().ok();
        match self {
            Folder::Keys => name.parse().ok().map(Place::KeySlot),
            Folder::Packs => name.parse().ok().filter(|_| name.get(..2) == Some(parent)).map(Place::Pack),
            Folder::Deltas => {
                numbered(name).zip(host()).map(|((number, hash), h)| Place::Delta(h, number, hash))
            }
            Folder::Snapshots => {
                numbered(name).zip(host()).map(|((number, hash), h)| Place::Snapshot(h, number, hash))
            }
            Folder::Records => numbered(name).map(|(number, hash)| Place::Record(number, hash)),
            Folder::Parity => {
                let (pack, hash) = name.split_once('-').filter(|_| name.get(..2) == Some(parent))?;
                Some(Place::Parity(pack.parse().ok()?, hash.parse().ok()?))
            }
            Folder::Inventory => numbered(name).map(|(number, hash)| Place::Inventory(number, hash)),
        }
    }
}

fn numbered(name: &str) -> Option<(u64, ObjectHash)> {
    let (digits, hash) = name.split_once('-')?;
    let lawful = digits.len() == SEQUENCE_DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
    let number = digits.parse().ok().filter(|number| *number <= limits::SEQUENCE_MAX)?;
    if lawful { Some((number, hash.parse().ok()?)) } else { None }
}

/// Sequence numbers are written with leading zeros, so that names sort by age.
const SEQUENCE_DIGITS: usize = 12;

impl Place {
    /// Reads an object's name, as it is displayed.
    pub fn parse(name: &str) -> Option<Place> {
        if name == "config" {
            return Some(Place::Config);
        }
        let (top, below) = name.split_once('/')?;
        let folder =
            Folder::ALL.into_iter().chain([Folder::Inventory]).find(|folder| folder.name() == top)?;
        match folder.is_nested() {
            true => below.split_once('/').and_then(|(parent, name)| folder.parse(parent, name)),
            false => folder.parse("", below),
        }
    }

    /// The BLAKE3 of the object, where its name holds it.
    pub fn hash(&self) -> Option<&ObjectHash> {
        match self {
            Place::Config | Place::KeySlot(_) => None,
            Place::Pack(hash) | Place::Record(_, hash) | Place::Parity(_, hash) => Some(hash),
            Place::Delta(_, _, hash) | Place::Snapshot(_, _, hash) => Some(hash),
            Place::Inventory(_, hash) => Some(hash),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Config => write!(f, "config"),
            Place::KeySlot(id) => write!(f, "keys/{id}"),
            Place::Pack(hash) => write!(f, "packs/{:02x}/{hash}", hash.0[0]),
            Place::Delta(host, number, hash) => write!(f, "index/{host}/{number:012}-{hash}"),
            Place::Snapshot(host, number, hash) => write!(f, "snapshots/{host}/{number:012}-{hash}"),
            Place::Record(number, hash) => write!(f, "records/{number:012}-{hash}"),
            Place::Parity(pack, hash) => write!(f, "parity/{:02x}/{pack}-{hash}", pack.0[0]),
            Place::Inventory(number, hash) => write!(f, "inventory/{number:012}-{hash}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_back_and_foreign_ones_do_not() {
        let (host, hash) = (HostId([7; 16]), ObjectHash([0xa5; 32]));
        for (folder, place) in [
            (Folder::Keys, Place::KeySlot(SlotId([1; 8]))),
            (Folder::Packs, Place::Pack(hash)),
            (Folder::Deltas, Place::Delta(host, 12, hash)),
            (Folder::Snapshots, Place::Snapshot(host, limits::SEQUENCE_MAX, hash)),
            (Folder::Records, Place::Record(1, hash)),
            (Folder::Parity, Place::Parity(hash, ObjectHash([3; 32]))),
            (Folder::Inventory, Place::Inventory(7, hash)),
        ] {
            let path = place.to_string();
            let parts: Vec<&str> = path.split('/').collect();
            let parent = if parts.len() == 3 { parts[1] } else { "" };
            assert_eq!(folder.parse(parent, parts[parts.len() - 1]), Some(place), "{path}");
            assert_eq!(Place::parse(&path), Some(place), "{path}");
            assert_eq!(Place::parse(&path[1..]), None);
            assert_eq!(folder.parse("zz", "README"), None);
            assert_eq!(folder.parse(parent, "1-zz"), None);
            assert_eq!(folder.parse(parent, &format!("999999999999-{hash}")), None);
        }
        assert_eq!(Folder::Packs.parse("00", &hash.to_string()), None);
        assert_eq!(Place::parse("config"), Some(Place::Config));
        assert_eq!(Place::parse(&format!("packs/a5/../{hash}")), None);
    }
}
