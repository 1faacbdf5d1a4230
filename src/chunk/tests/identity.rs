//! Joining what was split gives the same bytes, however they were sliced.

use proptest::collection::vec;
use proptest::prelude::*;

use super::grammar;
use super::{Hint, SECRET, Splitter, Store, check_identity, split, split_with};

const HINTS: [Hint; 6] = [Hint::Detect, Hint::Bytes, Hint::Message, Hint::Mbox, Hint::Dbox, Hint::State];

fn any_file() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => grammar::message(),
        2 => grammar::mbox(),
        2 => grammar::dbox(),
        1 => vec(any::<u8>(), 0..3000),
    ]
}

/// Cuts bytes at places drawn from small and large steps.
fn slices<'a>(bytes: &'a [u8], steps: &'a [usize]) -> impl Iterator<Item = &'a [u8]> {
    let mut at = 0;
    let mut steps = steps.iter().copied().cycle();
    std::iter::from_fn(move || {
        let step = steps.next().unwrap_or(usize::MAX).min(bytes.len() - at);
        at += step;
        (at < bytes.len() || step > 0).then(|| &bytes[at - step..at])
    })
}

fn same(left: &Store, right: &Store) -> bool {
    left.sections == right.sections
}

proptest! {
    #[test]
    fn split_then_join_is_the_identity(bytes in any_file()) {
        for hint in HINTS {
            check_identity(hint, &bytes);
        }
    }

    #[test]
    fn slicing_does_not_matter(bytes in any_file(), steps in vec(1usize..200, 1..20), large in 1usize..9000) {
        for hint in HINTS {
            let (whole, stats) = split(hint, &bytes);
            let mut splitter = Splitter::new(SECRET);
            for steps in [&steps[..], &[large], &[1, large]] {
                let (sliced, sliced_stats) = split_with(&mut splitter, hint, slices(&bytes, steps));
                prop_assert!(same(&sliced, &whole), "{:?} {:?}", hint, steps);
                prop_assert_eq!(sliced_stats, stats);
            }
        }
    }

    #[test]
    fn small_sections_lose_nothing(bytes in any_file(), span in 100u64..5000, step in 1usize..500) {
        let mut splitter = Splitter::with_span(SECRET, span);
        let (mut whole, stats) = split_with(&mut splitter, Hint::Message, std::iter::once(&bytes[..]));
        prop_assert!(whole.joined() == bytes);
        let (sliced, sliced_stats) = split_with(&mut splitter, Hint::Message, bytes.chunks(step));
        prop_assert!(same(&sliced, &whole));
        prop_assert_eq!(sliced_stats, stats);
    }
}

#[test]
fn every_single_byte_slice() {
    let message = super::message_with(&super::noise(5, 9000), 76, "\r\n", "b");
    let mbox = [
        b"From a Thu Aug 22 12:36:23 2002\r\n",
        &message[..],
        b"\r\nFrom b Thu Aug 22 12:36:23 2002\r\n",
        &message,
        b"\r\n",
    ]
    .concat();
    let dbox =
        [b"2 M1e C0\n", &grammar::dbox_frame(&message, "G1\n")[..], &grammar::dbox_frame(&message, "")]
            .concat();
    for (hint, bytes) in [(Hint::Message, &message), (Hint::Mbox, &mbox), (Hint::Dbox, &dbox)] {
        let (whole, _) = check_identity(hint, bytes);
        assert!(same(&super::split_by(hint, bytes, 1).0, &whole), "{hint:?}");
    }
}

#[test]
fn holes_and_their_surroundings() {
    let mut splitter = Splitter::new(SECRET);
    for hint in HINTS {
        let mut store = Store::default();
        splitter.begin(hint);
        splitter.push(b"From a Thu Aug 22 12:36:23 2002\nSubject: x\n\nbefore", &mut store).unwrap();
        splitter.zeros(100_000, &mut store).unwrap();
        splitter.zeros(0, &mut store).unwrap();
        splitter.push(b"after", &mut store).unwrap();
        splitter.zeros(3, &mut store).unwrap();
        assert_eq!(splitter.finish(&mut store).unwrap().bytes, 50 + 100_000 + 5 + 3);
        let bytes =
            [b"From a Thu Aug 22 12:36:23 2002\nSubject: x\n\nbefore", &vec![0; 100_000][..], b"after\0\0\0"]
                .concat();
        assert!(store.joined() == bytes, "{hint:?}");
    }
}
