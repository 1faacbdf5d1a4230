//! What stands behind an inode number, for as long as the system knows it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use super::folder::{Folder, Leaf};
use super::views::View;

/// The number of the mount's own folder.
pub const ROOT: u64 = 1;

/// What a name leads to.
#[derive(Clone)]
pub enum Target {
    /// A list of snapshots, or a list of such lists.
    View(View),
    /// A link within such a list.
    Link(Arc<[u8]>),
    /// A folder of a snapshot.
    Folder(Arc<Folder>),
    /// Anything else in a snapshot: the leaf that holds it, and its place there.
    Entry(Arc<Leaf>, u16),
}

/// An inode number that follows from the names that lead to it, so that it is the same at every mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Number {
    /// What the system is told, unless something else has it already.
    pub ino: u64,
    /// Tells apart what shares a number by chance.
    proof: u64,
}

impl Number {
    /// The root's.
    pub const ROOT: Number = Number { ino: ROOT, proof: 0 };

    /// Of `name` in folder number `up`; `salt` tells apart what stands under one name at different times.
    pub fn of(up: u64, name: &[u8], salt: &[u8]) -> Number {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&up.to_le_bytes()).update(&(name.len() as u64).to_le_bytes()).update(name).update(salt);
        let hash = *hasher.finalize().as_bytes();
        let (words, _) = hash.as_chunks::<8>();
        let [ino, proof] = [words[0], words[1]].map(u64::from_le_bytes);
        // Zero is no inode and one is the root; few programs are ready for more than 63 bits.
        Number { ino: (ino >> 1).max(ROOT + 1), proof }
    }
}

struct Inode {
    target: Target,
    proof: u64,
    /// How often the system was told of it and did not forget it.
    lookups: u64,
}

/// The inodes that the system knows.
#[derive(Default)]
pub struct Inodes(Mutex<HashMap<u64, Inode>>);

impl Inodes {
    /// Knows the root.
    pub fn new(root: Target) -> Inodes {
        let inodes = Inodes::default();
        inodes.hold(Number::ROOT, || root);
        inodes
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Inode>> {
        self.0.lock().expect("no holder panics")
    }

    /// Counts one lookup, and gives the inode's number.
    pub fn hold(&self, number: Number, target: impl FnOnce() -> Target) -> u64 {
        let mut inodes = self.lock();
        let mut ino = number.ino;
        loop {
            match inodes.get_mut(&ino) {
                Some(inode) if inode.proof == number.proof => {
                    inode.lookups += 1;
                    return ino;
                }
                Some(_) => ino = ino.wrapping_add(1).max(ROOT + 1),
                None => {
                    inodes.insert(ino, Inode { target: target(), proof: number.proof, lookups: 1 });
                    return ino;
                }
            }
        }
    }

    /// What a number stands for; `None` when the system should have forgotten it.
    pub fn get(&self, ino: u64) -> Option<Target> {
        self.lock().get(&ino).map(|inode| inode.target.clone())
    }

    /// The system forgets so many lookups.
    pub fn forget(&self, ino: u64, lookups: u64) {
        if ino == ROOT {
            return;
        }
        let mut inodes = self.lock();
        if let Some(inode) = inodes.get_mut(&ino) {
            inode.lookups = inode.lookups.saturating_sub(lookups);
            if inode.lookups == 0 {
                inodes.remove(&ino);
            }
        }
    }

    #[cfg(test)]
    fn count(&self) -> usize {
        self.lock().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(text: &str) -> Target {
        Target::Link(Arc::from(text.as_bytes()))
    }

    fn text(inodes: &Inodes, ino: u64) -> Option<Vec<u8>> {
        match inodes.get(ino)? {
            Target::Link(text) => Some(text.to_vec()),
            _ => None,
        }
    }

    #[test]
    fn inodes_live_as_long_as_they_are_looked_up() {
        let inodes = Inodes::new(link("root"));
        let number = Number::of(ROOT, b"a", b"");
        for _ in 0..3 {
            assert_eq!(inodes.hold(number, || link("a")), number.ino);
        }
        inodes.forget(number.ino, 2);
        assert_eq!(text(&inodes, number.ino).as_deref(), Some(&b"a"[..]));
        inodes.forget(number.ino, 1);
        assert_eq!((text(&inodes, number.ino), inodes.count()), (None, 1));
        inodes.forget(number.ino, 1);
        inodes.forget(ROOT, 1_000);
        assert_eq!(text(&inodes, ROOT).as_deref(), Some(&b"root"[..]));
    }

    #[test]
    fn numbers_that_meet_by_chance_stay_apart() {
        let inodes = Inodes::new(link("root"));
        let [a, b, c] = [1, 2, 3].map(|proof| Number { ino: 77, proof });
        assert_eq!(inodes.hold(a, || link("a")), 77);
        assert_eq!(inodes.hold(b, || link("b")), 78);
        assert_eq!(inodes.hold(c, || link("c")), 79);
        assert_eq!(inodes.hold(b, || link("b")), 78);
        inodes.forget(77, 1);
        assert_eq!(text(&inodes, 78).as_deref(), Some(&b"b"[..]));
        assert_eq!(inodes.hold(a, || link("a")), 77);
    }

    #[test]
    fn numbers_follow_from_names() {
        let number = |up, name: &[u8], salt: &[u8]| Number::of(up, name, salt);
        assert_eq!(number(5, b"cur", b""), number(5, b"cur", b""));
        let others = [number(6, b"cur", b""), number(5, b"new", b""), number(5, b"cu", b"r")];
        assert!(others.iter().all(|other| *other != number(5, b"cur", b"")));
        assert!(others.iter().all(|other| other.ino > ROOT && other.ino < 1 << 63));
    }
}
