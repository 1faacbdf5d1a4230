//! Where files went that were renamed, moved, linked and deleted while a walk looked: told by events, in their order.
//!
//! A listing cannot be trusted about a name that came or went while it was read, and neither can two listings taken
//! one after the other. The last event about a name can. What was listed under a name without any event stands.

use std::collections::{HashMap, HashSet};

use super::dir::Name;
use super::watch::{Event, Token};

/// A name in a watched folder.
pub type Place = (Token, Name);

/// Places of one file that are remembered; of more, the first and the last.
const TRAIL_MAX: usize = 64;

/// A file that events spoke of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Being {
    /// Where it was, the last place last; where it stands now, if it does.
    pub trail: Vec<Place>,
    /// It stood at the first of these places before anything happened.
    pub is_old: bool,
    /// It stands at the last of these places.
    pub is_there: bool,
}

/// What happened, put together.
#[derive(Debug, Default)]
pub struct Moves {
    beings: Vec<Being>,
    /// Who stands at a place that events spoke of.
    there: HashMap<Place, usize>,
    /// Places that somebody left and that nobody took.
    left: HashSet<Place>,
    /// Who left a folder and did not arrive in another yet.
    on_the_way: HashMap<u32, usize>,
    /// Folders that were moved or removed themselves.
    pub gone: HashSet<Token>,
    /// Some events were lost.
    pub is_incomplete: bool,
}

impl Moves {
    /// Takes what happened next.
    pub fn take(&mut self, events: impl IntoIterator<Item = Event>) {
        for event in events {
            match event {
                Event::Came { token, name, cookie } => self.came((token, name), cookie),
                Event::Went { token, name, cookie } => self.went((token, name), cookie),
                Event::FolderGone { token } => drop(self.gone.insert(token)),
                Event::Overflow => self.is_incomplete = true,
            }
        }
    }

    fn came(&mut self, place: Place, cookie: Option<u32>) {
        // What stood there is overwritten, unless it is the same name once more.
        if let Some(before) = self.there.remove(&place) {
            self.beings[before].is_there = false;
        }
        let known = cookie.and_then(|cookie| self.on_the_way.remove(&cookie));
        let being = known.unwrap_or_else(|| {
            self.beings.push(Being { trail: Vec::new(), is_old: false, is_there: true });
            self.beings.len() - 1
        });
        let Being { trail, is_there, .. } = &mut self.beings[being];
        if trail.len() == TRAIL_MAX {
            trail.remove(1);
        }
        trail.push(place.clone());
        *is_there = true;
        self.left.remove(&place);
        self.there.insert(place, being);
    }

    fn went(&mut self, place: Place, cookie: Option<u32>) {
        let being = self.there.remove(&place).unwrap_or_else(|| {
            // Once left, a place has nobody of old any more.
            let is_old = !self.left.contains(&place);
            self.beings.push(Being { trail: vec![place.clone()], is_old, is_there: true });
            self.beings.len() - 1
        });
        self.beings[being].is_there = false;
        self.left.insert(place);
        if let Some(cookie) = cookie {
            self.on_the_way.insert(cookie, being);
        }
    }

    /// Who stands at a place, by its number among [`Moves::beings`], if events spoke of it.
    pub fn holder(&self, place: &Place) -> Option<usize> {
        self.there.get(place).copied()
    }

    /// All files that events spoke of.
    pub fn beings(&self) -> &[Being] {
        &self.beings
    }
}

impl Being {
    /// The last place.
    pub fn last(&self) -> &Place {
        self.trail.last().expect("a being was somewhere")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn came(token: Token, name: &str, cookie: u32) -> Event {
        Event::Came { token, name: name.as_bytes().into(), cookie: (cookie > 0).then_some(cookie) }
    }

    fn went(token: Token, name: &str, cookie: u32) -> Event {
        Event::Went { token, name: name.as_bytes().into(), cookie: (cookie > 0).then_some(cookie) }
    }

    fn place(token: Token, name: &str) -> Place {
        (token, name.as_bytes().into())
    }

    #[test]
    fn a_message_is_followed_through_its_names() {
        let mut moves = Moves::default();
        moves.take([
            went(1, "m", 7),
            came(2, "m:2,", 7),
            went(2, "m:2,", 8),
            came(2, "m:2,S", 8),
            went(2, "m:2,S", 9),
            came(3, "m:2,S", 9),
            // A delivery, which is deleted.
            came(1, "n", 10),
            went(1, "n", 0),
            // One goes where nobody looks.
            went(1, "o", 11),
        ]);
        let [moved, delivered, lost] = moves.beings() else { panic!("{moves:?}") };
        assert!(moved.is_old && moved.is_there);
        assert_eq!(moved.trail, [place(1, "m"), place(2, "m:2,"), place(2, "m:2,S"), place(3, "m:2,S")]);
        assert!(!delivered.is_old && !delivered.is_there);
        assert!(lost.is_old && !lost.is_there);
        moves.take([Event::Overflow, Event::FolderGone { token: 3 }]);
        assert!(moves.is_incomplete && moves.gone.contains(&3));
    }

    #[test]
    fn what_is_overwritten_is_gone() {
        let mut moves = Moves::default();
        moves.take([came(1, "a", 0), went(1, "b", 5), came(1, "a", 5)]);
        let [first, second] = moves.beings() else { panic!("{moves:?}") };
        assert!(!first.is_there && second.is_there && second.is_old);
    }

    proptest! {
        /// Folders with files that are known by number, against what the events alone tell.
        #[test]
        fn events_tell_where_everything_is(
            steps in proptest::collection::vec((0u8..4, 0u64..3, 0u8..5, 0u64..3, 0u8..5), 0..60),
        ) {
            let mut files: BTreeMap<(u64, u8), u32> = (0..9).map(|n| ((n % 3, (n / 3) as u8), n as u32)).collect();
            let begin = files.clone();
            let (mut next, mut moves) = (100, Moves::default());
            for (cookie, (verb, from, old, to, new)) in (1..).zip(steps) {
                let (source, target) = ((from, old), (to, new));
                let (old, new) = (old.to_string(), new.to_string());
                match (verb, files.get(&source).copied()) {
                    (0, None) => {
                        files.insert(source, next);
                        next += 1;
                        moves.take([came(from, &old, 0)]);
                    }
                    (1, Some(file)) if source != target => {
                        files.remove(&source);
                        files.insert(target, file);
                        moves.take([went(from, &old, cookie), came(to, &new, cookie)]);
                    }
                    (2, Some(_)) => {
                        files.remove(&source);
                        moves.take([went(from, &old, 0)]);
                    }
                    _ => {}
                }
            }
            for being in moves.beings() {
                let key = |place: &Place| (place.0, String::from_utf8(place.1.to_vec()).unwrap().parse().unwrap());
                let last: (u64, u8) = key(being.last());
                if being.is_there {
                    prop_assert!(files.contains_key(&last));
                    if being.is_old {
                        prop_assert_eq!(files.get(&last), begin.get(&key(&being.trail[0])));
                    }
                }
            }
            let there = |place: &(u64, u8)| {
                let name = place.1.to_string();
                moves.there.contains_key(&(place.0, name.as_bytes().into()))
            };
            for (place, file) in &files {
                prop_assert!(there(place) || begin.get(place) == Some(file));
            }
        }
    }
}
