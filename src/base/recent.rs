//! A map that keeps what was used last, up to a weight.

use std::collections::HashMap;
use std::hash::Hash;

/// Values by key, in two generations: when the younger is half of all, it becomes the older, and the older goes.
///
/// What is asked for becomes young again, so what is used often stays. Every step takes constant time.
#[derive(Debug)]
pub struct Recent<K, V> {
    young: HashMap<K, (V, usize)>,
    old: HashMap<K, (V, usize)>,
    young_weight: usize,
    weight_max: usize,
}

impl<K: Hash + Eq, V: Clone> Recent<K, V> {
    /// An empty map that keeps so much weight; one value may be heavier.
    pub fn new(weight_max: usize) -> Recent<K, V> {
        Recent { young: HashMap::new(), old: HashMap::new(), young_weight: 0, weight_max }
    }

    /// The value of a key, if it is kept still.
    pub fn get(&mut self, key: &K) -> Option<V> {
        if let Some((value, _)) = self.young.get(key) {
            return Some(value.clone());
        }
        let (key, (value, weight)) = self.old.remove_entry(key)?;
        let given = value.clone();
        self.insert(key, value, weight);
        Some(given)
    }

    /// Keeps a value for a while.
    pub fn insert(&mut self, key: K, value: V, weight: usize) {
        if self.young_weight.saturating_add(weight) > self.weight_max / 2 {
            self.old = std::mem::take(&mut self.young);
            self.young_weight = 0;
        }
        self.young_weight = self.young_weight.saturating_add(weight);
        if let Some((_, before)) = self.young.insert(key, (value, weight)) {
            self.young_weight -= before;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_what_is_not_goes() {
        let mut recent = Recent::new(100);
        recent.insert(0, "often", 10);
        for number in 1..200 {
            recent.insert(number, "once", 10);
            assert_eq!(recent.get(&0), Some("often"), "{number}");
            assert!(recent.young.len() + recent.old.len() <= 10);
        }
        assert_eq!(recent.get(&199), Some("once"));
        assert_eq!(recent.get(&100), None);
        recent.insert(7, "heavy", 1_000);
        assert_eq!(recent.get(&7), Some("heavy"));
        recent.insert(8, "next", 1);
        recent.insert(9, "and next", 50);
        assert_eq!(recent.get(&7), None);
    }

    #[test]
    fn a_value_put_twice_weighs_once() {
        let mut recent = Recent::new(100);
        (0..1_000).for_each(|_| recent.insert(1, 1, 30));
        recent.insert(2, 2, 10);
        assert_eq!((recent.get(&1), recent.get(&2)), (Some(1), Some(2)));
    }
}
