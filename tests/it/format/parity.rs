//! The parity example, and the code of parity computed anew by the document's words alone.

use mailark::base::id::ObjectHash;
use mailark::format::parity::{self, Cut, ParityHead};
use mailark::repo::parity as made;

use super::document::{self, bytes};

/// The parity object of the example pack: one shard of data, so the one shard of recovery is the same.
pub fn object() -> Vec<u8> {
    let mut shard = bytes("pack");
    shard.resize(4_096, 0);
    [bytes("parity-head"), shard].concat()
}

fn hash(bytes: &[u8]) -> ObjectHash {
    ObjectHash(*blake3::hash(bytes).as_bytes())
}

#[test]
fn parity_objects_are_as_written() {
    let pack = bytes("pack");
    let (head, shards) = ParityHead::decode(&object()).map(|(head, rest)| (head, rest.to_vec())).unwrap();
    assert_eq!((head.pack, head.pack_bytes, head.shard_bytes), (hash(&pack), pack.len() as u64, 4_096));
    assert_eq!((&head.data, &head.recovery), (&vec![parity::sum(&shards)], &vec![parity::sum(&shards)]));
    assert_eq!(head.encode(), bytes("parity-head"));
    assert_eq!(made::make(pack.clone(), hash(&pack), 3), object());
    assert_eq!(made::heal(&pack[..600], &hash(&pack), &object()), Ok(pack));
}

#[test]
fn packs_are_cut_as_written() {
    for row in document::table("| pack bytes | percent | shard bytes | data | recovery |") {
        let number = |at: usize| row[at].replace(',', "").parse::<u64>().unwrap();
        let cut = Cut { shard_bytes: number(2), data: number(3), recovery: number(4) };
        assert_eq!(parity::cut(number(0), number(1) as u32), cut, "{row:?}");
    }
}

/// The field of 65536 elements as the document describes it.
struct Field {
    basis: Vec<u16>,
    /// The word of each element.
    words: Vec<u16>,
}

impl Field {
    fn new() -> Field {
        let basis: Vec<u16> = document::text("parity-basis")
            .split_whitespace()
            .map(|word| u16::from_str_radix(word, 16).unwrap())
            .collect();
        let mut field = Field { basis, words: vec![0; 1 << 16] };
        for word in 0..=u16::MAX {
            let element = field.element(word);
            field.words[usize::from(element)] = word;
        }
        field
    }

    fn element(&self, word: u16) -> u16 {
        let of_bits = (0..16).filter(|bit| word >> bit & 1 == 1).map(|bit| self.basis[bit]);
        of_bits.fold(0, |sum, basis| sum ^ basis)
    }

    fn times(a: u16, b: u16) -> u16 {
        let (mut product, mut a) = (0u32, u32::from(a));
        for bit in 0..16 {
            product ^= if b >> bit & 1 == 1 { a } else { 0 };
            a = if a << 1 & 0x1_0000 == 0 { a << 1 } else { a << 1 ^ 0x1_002d };
        }
        product as u16
    }

    fn inverse(a: u16) -> u16 {
        // a to the power of 2^16 - 2.
        let (mut power, mut result) = (a, 1);
        for _ in 1..16 {
            power = Field::times(power, power);
            result = Field::times(result, power);
        }
        result
    }

    /// The value at `at` of the polynomial of lowest degree that goes through these points.
    fn interpolate(points: &[(u16, u16)], at: u16) -> u16 {
        let terms = points.iter().map(|(x, y)| {
            let others = points.iter().filter(|(other, _)| other != x);
            others.fold(*y, |term, (other, _)| {
                Field::times(term, Field::times(at ^ other, Field::inverse(x ^ other)))
            })
        });
        terms.fold(0, |sum, term| sum ^ term)
    }

    /// Recovery shards by the words of the document: slow, and plain to see.
    fn recover(&self, data: &[&[u8]], recovery: usize) -> Vec<Vec<u8>> {
        let group = recovery.next_power_of_two();
        let word_at = |shard: &[u8], block: usize, at: usize| {
            u16::from_le_bytes([shard[block + at], shard[block + 32 + at]])
        };
        let mut shards = vec![vec![0; data[0].len()]; recovery];
        for (number, shard) in shards.iter_mut().enumerate() {
            for (block, at) in (0..data[0].len()).step_by(64).flat_map(|b| (0..32).map(move |at| (b, at))) {
                let mut sum = 0;
                for (first, members) in data.chunks(group).enumerate() {
                    let points: Vec<(u16, u16)> = (0..group)
                        .map(|member| {
                            let word = members.get(member).map_or(0, |shard| word_at(shard, block, at));
                            let point = (group + first * group + member) as u16;
                            (self.element(point), self.element(word))
                        })
                        .collect();
                    sum ^= Field::interpolate(&points, self.element(number as u16));
                }
                let [low, high] = self.words[usize::from(sum)].to_le_bytes();
                (shard[block + at], shard[block + 32 + at]) = (low, high);
            }
        }
        shards
    }
}

#[test]
fn the_code_is_the_one_that_is_described() {
    let field = Field::new();
    let data = bytes("parity-data");
    let shards: Vec<&[u8]> = data.chunks(64).collect();
    assert_eq!(shards.len(), 3);
    assert_eq!(field.recover(&shards, 2).concat(), bytes("parity-recovery"));
    assert_eq!(made::encode(&data, 64, 2), bytes("parity-recovery"));
    for (count, recovery) in [(1, 1), (2, 1), (4, 3), (9, 5), (17, 2), (30, 15)] {
        let mut data = vec![0; count * 128];
        blake3::Hasher::new().update(&[count as u8]).finalize_xof().fill(&mut data);
        let shards: Vec<&[u8]> = data.chunks(128).collect();
        let found = made::encode(&data, 128, recovery);
        assert_eq!(field.recover(&shards, recovery).concat(), found, "{count} {recovery}");
    }
}
