//! What the kernel tells of a file system, out of the bytes it tells it in: no byte of them is believed.
//!
//! ```text
//! event     length u32 | version u8 | 0 u8 | length of this head u16 | mask u64 | descriptor i32 | process i32 | records
//! record    type u8 | 0 u8 | length u16 | file system 8 | handle length u32 | handle type i32 | handle | name | 0 ...
//! ```
//! Numbers are in the machine's own order.

use super::super::dir::Name;

/// Length of an event's head, bytes.
const HEAD_BYTES: usize = 24;
/// Length of a record's head with the file system, and of the head of the handle behind it, bytes.
const RECORD_BYTES: usize = 12;
const HANDLE_HEAD_BYTES: usize = 8;

/// Which folder the kernel means, on a file system.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Handle {
    kind: i32,
    bytes: Box<[u8]>,
}

impl Handle {
    /// Longest handle, bytes.
    pub(super) const BYTES_MAX: usize = libc::MAX_HANDLE_SZ as usize;

    /// `None` when it is longer than any.
    pub(super) fn new(kind: i32, bytes: &[u8]) -> Option<Handle> {
        (bytes.len() <= Handle::BYTES_MAX).then(|| Handle { kind, bytes: bytes.into() })
    }

    pub(super) fn kind(&self) -> i32 {
        self.kind
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Something that happened in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The file system, by the number that `statvfs` gives it.
    pub file_system: u64,
    /// The folder.
    pub folder: Handle,
    /// What came, went or was written to there; empty for the folder itself.
    pub name: Name,
    /// The name is, or was, one of a folder.
    pub is_folder: bool,
    /// The name was moved, here or away, or deleted.
    pub has_moved_or_gone: bool,
}

/// What the kernel told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// Something happened; several changes of one name in a row may be told as one.
    Change(Change),
    /// Events were lost, or cannot be understood: nobody knows what happened on any of the file systems.
    Overflow,
}

/// Everything that one read gave.
pub(super) fn all(mut bytes: &[u8]) -> Vec<Told> {
    let mut told = Vec::new();
    while !bytes.is_empty() {
        let Some((event, rest)) = cut(bytes) else {
            told.push(Told::Overflow);
            break;
        };
        told.push(tell(event).map_or(Told::Overflow, Told::Change));
        bytes = rest;
    }
    told
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<usize> {
    array(bytes, at).map(|bytes| u16::from_ne_bytes(bytes).into())
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    array(bytes, at).map(u32::from_ne_bytes)
}

/// Cuts the first event off.
fn cut(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = u32_at(bytes, 0)? as usize;
    if length < HEAD_BYTES || bytes.get(4) != Some(&libc::FANOTIFY_METADATA_VERSION) {
        return None;
    }
    bytes.split_at_checked(length)
}

fn tell(event: &[u8]) -> Option<Change> {
    let mask = array(event, 8).map(u64::from_ne_bytes)?;
    if mask & libc::FAN_Q_OVERFLOW != 0 {
        return None;
    }
    let mut records = event.get(u16_at(event, 6)?.max(HEAD_BYTES)..)?;
    loop {
        let length = u16_at(records, 2)?;
        // One without a length would come again and again.
        let (record, rest) = records.split_at_checked(length.max(RECORD_BYTES))?;
        if matches!(record[0], libc::FAN_EVENT_INFO_TYPE_DFID_NAME | libc::FAN_EVENT_INFO_TYPE_DFID) {
            return change(record, mask);
        }
        records = rest;
    }
}

fn change(record: &[u8], mask: u64) -> Option<Change> {
    let (low, high) = (u32_at(record, 4)?, u32_at(record, 8)?);
    let file_system = u64::from(low) | u64::from(high) << 32;
    let handle = &record[RECORD_BYTES..];
    let (length, kind) = (u32_at(handle, 0)? as usize, array(handle, 4).map(i32::from_ne_bytes)?);
    let (bytes, behind) = handle[HANDLE_HEAD_BYTES..].split_at_checked(length)?;
    // A record of a folder alone has nothing there but what fills it up.
    let name = behind.split(|&byte| byte == 0).next().unwrap_or_default();
    Some(Change {
        file_system,
        folder: Handle::new(kind, bytes)?,
        name: if name == b"." { Name::default() } else { name.into() },
        is_folder: mask & libc::FAN_ONDIR != 0,
        has_moved_or_gone: mask & (libc::FAN_MOVE | libc::FAN_DELETE) != 0,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FSID: [u8; 8] = [1, 0, 0, 0, 2, 0, 0, 0];

    /// A record as the kernel writes it, padded to four bytes.
    fn record(kind: u8, handle: &[u8], name: Option<&[u8]>) -> Vec<u8> {
        let mut body = FSID.to_vec();
        body.extend((handle.len() as u32).to_ne_bytes());
        body.extend(0x81i32.to_ne_bytes());
        body.extend(handle);
        if let Some(name) = name {
            body.extend(name);
            body.push(0);
        }
        body.resize(body.len().next_multiple_of(4), 0);
        let mut record = vec![kind, 0];
        record.extend((body.len() as u16 + 4).to_ne_bytes());
        record.extend(body);
        record
    }

    fn event(mask: u64, records: &[Vec<u8>]) -> Vec<u8> {
        let records = records.concat();
        let mut event = (HEAD_BYTES as u32 + records.len() as u32).to_ne_bytes().to_vec();
        event.extend([libc::FANOTIFY_METADATA_VERSION, 0]);
        event.extend((HEAD_BYTES as u16).to_ne_bytes());
        event.extend(mask.to_ne_bytes());
        event.extend(libc::FAN_NOFD.to_ne_bytes());
        event.extend(7i32.to_ne_bytes());
        event.extend(records);
        event
    }

    fn told(bytes: &[u8]) -> Change {
        match &all(bytes)[..] {
            [Told::Change(change)] => change.clone(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn names_and_folders_are_told() {
        let named = record(libc::FAN_EVENT_INFO_TYPE_DFID_NAME, b"12345678", Some(b"a.b"));
        let change = told(&event(libc::FAN_CREATE, &[named]));
        assert_eq!(change.file_system, 2 << 32 | 1);
        assert_eq!(change.folder, Handle::new(0x81, b"12345678").unwrap());
        assert_eq!(&*change.name, b"a.b");
        assert!(!change.is_folder && !change.has_moved_or_gone);

        let itself = record(libc::FAN_EVENT_INFO_TYPE_DFID_NAME, b"1234", Some(b"."));
        let change = told(&event(libc::FAN_ATTRIB | libc::FAN_ONDIR, &[itself]));
        assert!(change.name.is_empty() && change.is_folder);
        let alone = record(libc::FAN_EVENT_INFO_TYPE_DFID, b"1234", None);
        assert!(told(&event(libc::FAN_ATTRIB | libc::FAN_ONDIR, &[alone])).name.is_empty());

        // What is not asked for is passed over.
        let other = record(libc::FAN_EVENT_INFO_TYPE_PIDFD, b"", None);
        let named = record(libc::FAN_EVENT_INFO_TYPE_DFID_NAME, b"1", Some(b"x"));
        let change = told(&event(libc::FAN_MOVED_FROM | libc::FAN_ONDIR, &[other, named]));
        assert!(change.is_folder && change.has_moved_or_gone && *change.name == *b"x");
    }

    #[test]
    fn events_come_in_order_and_what_was_lost_is_told() {
        let named = |name: &[u8]| {
            let record = record(libc::FAN_EVENT_INFO_TYPE_DFID_NAME, b"12345678", Some(name));
            event(libc::FAN_CLOSE_WRITE, &[record])
        };
        let bytes = [named(b"one"), named(b"other"), event(libc::FAN_Q_OVERFLOW, &[])].concat();
        let names = all(&bytes).into_iter().map(|told| match told {
            Told::Change(change) => change.name,
            Told::Overflow => b"?".as_slice().into(),
        });
        assert_eq!(names.collect::<Vec<_>>(), [&b"one"[..], b"other", b"?"].map(Name::from));
    }

    #[test]
    fn what_is_cut_short_or_of_another_version_is_an_overflow() {
        let named = record(libc::FAN_EVENT_INFO_TYPE_DFID_NAME, b"12345678", Some(b"a"));
        let whole = event(libc::FAN_CREATE, &[named]);
        for end in 1..whole.len() {
            assert_eq!(all(&whole[..end]), [Told::Overflow], "{end}");
        }
        let mut newer = whole.clone();
        newer[4] += 1;
        assert_eq!(all(&newer), [Told::Overflow]);
        let long = record(libc::FAN_EVENT_INFO_TYPE_DFID_NAME, &[7; Handle::BYTES_MAX + 1], Some(b"a"));
        assert_eq!(all(&event(libc::FAN_CREATE, &[long])), [Told::Overflow]);
        assert_eq!(all(&event(libc::FAN_CREATE, &[])), [Told::Overflow]);
        let mut without_end = whole.clone();
        without_end[HEAD_BYTES + 2..HEAD_BYTES + 4].copy_from_slice(&0u16.to_ne_bytes());
        assert_eq!(all(&without_end), [Told::Overflow]);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            all(&bytes);
        }

        #[test]
        fn no_changed_event_panics(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
            name in prop::collection::vec(1u8.., 0..40),
        ) {
            let record = record(libc::FAN_EVENT_INFO_TYPE_DFID_NAME, b"12345678", Some(&name));
            let mut bytes = event(libc::FAN_CREATE, &[record.clone(), record]).repeat(2);
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            prop_assert!(all(&bytes).len() <= 2 * bytes.len() / HEAD_BYTES);
        }
    }
}
