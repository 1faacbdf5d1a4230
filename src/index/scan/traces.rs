//! What a listing page leaves out of its files, and how it is stored: three columns of differences.

use std::collections::HashMap;

use crate::base::id::BlobId;

/// What the system said of a file that no snapshot keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trace {
    /// Its number; 0 for what is not to be recognised again: a folder, or a file too fresh to be settled.
    pub inode: u64,
    /// Birth time in unix nanoseconds; 0 where the file system keeps none.
    pub birth: i64,
    /// Change time, unix nanoseconds.
    pub ctime: i64,
}

impl Trace {
    /// Says nothing of a file.
    pub const NONE: Trace = Trace { inode: 0, birth: 0, ctime: 0 };
}

/// The traces of a folder's files by the page that lists them.
#[derive(Debug, Default)]
pub struct Traces(HashMap<BlobId, Vec<u8>>);

impl Traces {
    pub(super) fn add(&mut self, page: BlobId, bytes: &[u8]) {
        self.0.insert(page, bytes.to_vec());
    }

    /// Those of one page, in the order of its entries; none when they do not fit it.
    pub fn of_page(&self, page: &BlobId, entries: usize) -> Option<Vec<Trace>> {
        decode(self.0.get(page)?).filter(|traces| traces.len() == entries)
    }

    /// Are these the traces of a page?
    pub fn are(&self, page: &BlobId, traces: &[Trace]) -> bool {
        self.0.get(page).is_some_and(|bytes| *bytes == encode(traces))
    }
}

fn put(number: u64, bytes: &mut Vec<u8>) {
    let mut left = number;
    while left >= 0x80 {
        bytes.push(left as u8 | 0x80);
        left >>= 7;
    }
    bytes.push(left as u8);
}

fn get(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

/// Small numbers of either sign become small numbers.
fn fold(difference: i64) -> u64 {
    (difference << 1 ^ difference >> 63) as u64
}

fn unfold(folded: u64) -> i64 {
    (folded >> 1) as i64 ^ -((folded & 1) as i64)
}

/// Numbers against those of the file before, birth times too, change times against birth times: the files of a page
/// mostly came one after the other and were left alone since.
pub(super) fn encode(traces: &[Trace]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(traces.len() * 14);
    let mut before = Trace::NONE;
    for trace in traces {
        put(fold(trace.inode.wrapping_sub(before.inode) as i64), &mut bytes);
        put(fold(trace.birth.wrapping_sub(before.birth)), &mut bytes);
        put(fold(trace.ctime.wrapping_sub(trace.birth)), &mut bytes);
        before = *trace;
    }
    bytes
}

pub(super) fn decode(mut bytes: &[u8]) -> Option<Vec<Trace>> {
    let mut traces = Vec::with_capacity(bytes.len() / 8);
    let mut before = Trace::NONE;
    while !bytes.is_empty() {
        let inode = before.inode.wrapping_add(unfold(get(&mut bytes)?) as u64);
        let birth = before.birth.wrapping_add(unfold(get(&mut bytes)?));
        let ctime = birth.wrapping_add(unfold(get(&mut bytes)?));
        before = Trace { inode, birth, ctime };
        traces.push(before);
    }
    Some(traces)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn traces_round_trip(fields in proptest::collection::vec(any::<(u64, i64, i64)>(), 0..100)) {
            let traces: Vec<Trace> =
                fields.into_iter().map(|(inode, birth, ctime)| Trace { inode, birth, ctime }).collect();
            prop_assert_eq!(decode(&encode(&traces)), Some(traces));
        }

        #[test]
        fn rubbish_is_no_trace(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = decode(&bytes);
        }
    }

    #[test]
    fn files_that_came_one_after_the_other_take_few_bytes() {
        let born = 1_790_000_000_123_456_789;
        let at = |n: i64| Trace { inode: 7_000 + n as u64, birth: born + n * 60_000_000_000, ctime: 0 };
        let traces: Vec<Trace> = (0..70).map(|n| Trace { ctime: at(n).birth + 90_000, ..at(n) }).collect();
        assert!(encode(&traces).len() < 70 * 12, "{}", encode(&traces).len());
    }
}
