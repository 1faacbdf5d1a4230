//! Which packs are read: all, a share by hash, or those that were read longest ago.

use std::collections::{HashMap, HashSet};

use super::ReadData;
use crate::base::id::ObjectHash;

/// When packs were last read and found whole, in unix seconds by this machine's clock.
pub type Memory = HashMap<ObjectHash, i64>;

/// How far the content was read, now or earlier.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Coverage {
    /// Packs that were never read, as far as this machine remembers.
    pub never_read: u64,
    /// Seconds since the pack that was read longest ago, among those that were read.
    pub oldest_s: Option<i64>,
}

/// When a pack was read; a time in the future comes from a clock that was wrong, and says nothing.
fn read_at(memory: &Memory, pack: &ObjectHash, now: i64) -> Option<i64> {
    memory.get(pack).copied().filter(|at| *at <= now)
}

/// Chooses among all packs, which `packs` gives with their sizes.
pub(super) fn choose(
    read_data: ReadData,
    packs: &HashMap<ObjectHash, u64>,
    memory: &Memory,
    now: i64,
) -> HashSet<ObjectHash> {
    match read_data {
        ReadData::No => HashSet::new(),
        ReadData::All => packs.keys().copied().collect(),
        ReadData::Share { part, of } => {
            let number = |hash: &ObjectHash| {
                u64::from_be_bytes(*hash.0.first_chunk().expect("32 bytes hold 8")) % of.max(1)
            };
            packs.keys().filter(|hash| number(hash) == part.saturating_sub(1)).copied().collect()
        }
        ReadData::Percent(percent) => {
            let goal = packs.values().sum::<u64>() as f64 * percent / 100.0;
            let mut by_age: Vec<(Option<i64>, ObjectHash)> =
                packs.keys().map(|hash| (read_at(memory, hash, now), *hash)).collect();
            by_age.sort_unstable();
            let mut bytes = 0.0;
            let wanted = by_age.into_iter().take_while(|(_, hash)| {
                let short = bytes < goal;
                bytes += packs[hash] as f64;
                short
            });
            wanted.map(|(_, hash)| hash).collect()
        }
    }
}

impl Coverage {
    /// How far `packs` were read.
    pub(super) fn of<'a>(packs: impl Iterator<Item = &'a ObjectHash>, memory: &Memory, now: i64) -> Coverage {
        let mut coverage = Coverage::default();
        for pack in packs {
            match read_at(memory, pack, now) {
                None => coverage.never_read += 1,
                Some(at) => {
                    let age = now.saturating_sub(at);
                    coverage.oldest_s = Some(coverage.oldest_s.map_or(age, |oldest| oldest.max(age)));
                }
            }
        }
        coverage
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packs(count: u8) -> HashMap<ObjectHash, u64> {
        (0..count).map(|number| (ObjectHash(*blake3::hash(&[number]).as_bytes()), 100)).collect()
    }

    #[test]
    fn repeated_shares_reach_every_pack_before_any_is_read_again() {
        let (packs, mut memory) = (packs(40), Memory::new());
        for run in 0..20 {
            let chosen = choose(ReadData::Percent(5.0), &packs, &memory, 1_000 + run);
            assert_eq!(chosen.len(), 2, "5 % of 40 packs of one size");
            assert!(chosen.iter().all(|pack| !memory.contains_key(pack)), "run {run} reads one again");
            memory.extend(chosen.into_iter().map(|pack| (pack, 1_000 + run)));
        }
        let coverage = Coverage::of(packs.keys(), &memory, 1_019);
        assert_eq!(coverage, Coverage { never_read: 0, oldest_s: Some(19) });
        let again = choose(ReadData::Percent(5.0), &packs, &memory, 1_020);
        assert!(again.iter().all(|pack| memory[pack] == 1_000), "the oldest come first");
    }

    #[test]
    fn at_least_one_pack_is_read_and_a_clock_of_tomorrow_counts_for_nothing() {
        let (packs, mut memory) = (packs(3), Memory::new());
        assert_eq!(choose(ReadData::Percent(0.001), &packs, &memory, 5).len(), 1);
        assert_eq!(choose(ReadData::Percent(100.0), &packs, &memory, 5).len(), 3);
        let future = *packs.keys().next().unwrap();
        memory.extend(packs.keys().map(|pack| (*pack, 4)));
        memory.insert(future, i64::MAX);
        assert_eq!(choose(ReadData::Percent(1.0), &packs, &memory, 5), HashSet::from([future]));
        assert_eq!(Coverage::of(packs.keys(), &memory, 5), Coverage { never_read: 1, oldest_s: Some(1) });
    }

    #[test]
    fn equal_shares_are_a_partition() {
        let (packs, memory) = (packs(50), Memory::new());
        let share = |part| choose(ReadData::Share { part, of: 7 }, &packs, &memory, 0);
        assert_eq!((1..=7).map(|part| share(part).len()).sum::<usize>(), 50);
        assert_eq!((1..=7).flat_map(share).collect::<HashSet<_>>().len(), 50);
        assert_eq!(choose(ReadData::All, &packs, &memory, 0).len(), 50);
        assert!(choose(ReadData::No, &packs, &memory, 0).is_empty());
    }
}
