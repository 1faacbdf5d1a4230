//! What really happened to every message, and what a snapshot may say about it.
//!
//! Times are nanoseconds of one clock that never goes back. Every operation is noted with the time before and the
//! time after it, so that whatever is claimed here holds wherever in between it took effect.

use std::collections::BTreeMap;

/// The state of a copy from one operation on.
#[derive(Debug, Clone)]
pub struct Step {
    pub before: u64,
    pub after: u64,
    pub folder: usize,
    /// Sorted letters; `None` while it lies in `new`.
    pub flags: Option<String>,
    /// It was moved by a second name and the deletion of the first: while that went on both were there.
    pub is_linked: bool,
}

/// One place's worth of a message: a delivery, or a copy that is a message of its own since.
#[derive(Debug, Clone)]
pub struct Copy {
    pub message: u64,
    pub steps: Vec<Step>,
    /// Before and after its deletion.
    pub gone: Option<(u64, u64)>,
}

/// A message as a snapshot shows it.
#[derive(Debug, Clone)]
pub struct Sighting {
    pub message: u64,
    pub folder: usize,
    pub flags: String,
    /// Its bytes are those that were delivered.
    pub is_exact: bool,
}

/// What is wrong with a snapshot.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Faults {
    /// Copies that existed all the time and are not there.
    pub lost: u64,
    /// Messages that are there more often than they can have been.
    pub doubled: u64,
    /// Messages in a place, or with flags, that they did not have while the backup ran.
    pub untrue: u64,
    /// Messages with other bytes, and files that are no messages.
    pub damaged: u64,
    /// Messages that never existed while the backup ran.
    pub foreign: u64,
    pub examples: Vec<String>,
}

const EXAMPLES_MAX: usize = 4;

impl Faults {
    pub fn add(&mut self, other: Faults) {
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.untrue += other.untrue;
        self.damaged += other.damaged;
        self.foreign += other.foreign;
        other.examples.into_iter().for_each(|example| self.example(example));
    }

    pub fn example(&mut self, example: String) {
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(example);
        }
    }

    pub fn count(&self) -> u64 {
        self.lost + self.doubled + self.untrue + self.damaged + self.foreign
    }
}

/// The time of a backup, and how long after an operation a state may still be seen that it ended.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    pub begin: u64,
    pub end: u64,
    pub slack: u64,
}

impl Copy {
    pub fn now(&self) -> Option<&Step> {
        self.steps.last().filter(|_| self.gone.is_none())
    }

    fn existed_throughout(&self, span: &Span) -> bool {
        self.steps[0].after <= span.begin && self.gone.is_none_or(|(before, _)| before >= span.end)
    }

    fn existed_at_all(&self, span: &Span) -> bool {
        self.steps[0].before <= span.end && self.gone.is_none_or(|(_, after)| after >= span.begin)
    }

    fn fits(&self, seen: &Sighting, span: &Span) -> bool {
        self.steps.iter().enumerate().any(|(at, step)| {
            let end = match self.steps.get(at + 1) {
                Some(next) => next.after.saturating_add(span.slack),
                None => self.gone.map_or(u64::MAX, |(_, after)| after),
            };
            let is_then = step.before <= span.end && end >= span.begin;
            is_then && step.folder == seen.folder && step.flags.as_deref().unwrap_or("") == seen.flags
        })
    }

    /// Both names of a move can have been there when the backup looked for the last time.
    ///
    /// That is somewhere in its second half.
    fn may_be_two(&self, span: &Span) -> bool {
        let middle = span.begin + (span.end - span.begin) / 2;
        self.steps.iter().any(|step| step.is_linked && step.after >= middle && step.before <= span.end)
    }
}

/// Gives a slot a sighting, moving others to other ones where that makes room.
fn assign(slot: usize, fits: &[Vec<usize>], taken: &mut [Option<usize>], tried: &mut [bool]) -> bool {
    for &seen in &fits[slot] {
        if std::mem::replace(&mut tried[seen], true) {
            continue;
        }
        if taken[seen].is_none_or(|other| assign(other, fits, taken, tried)) {
            taken[seen] = Some(slot);
            return true;
        }
    }
    false
}

fn judge_message(copies: &[&Copy], seen: &[&Sighting], span: &Span) -> Faults {
    let mut faults = Faults::default();
    let mut slots: Vec<&Copy> = copies.iter().copied().filter(|copy| copy.existed_throughout(span)).collect();
    let needed = slots.len();
    slots.extend(
        copies.iter().copied().filter(|copy| copy.existed_at_all(span) && !copy.existed_throughout(span)),
    );
    let possible = slots.clone();
    slots.extend(copies.iter().copied().filter(|copy| copy.may_be_two(span)));
    let fitting = |copy: &&Copy| (0..seen.len()).filter(|&at| copy.fits(seen[at], span)).collect();
    let fits: Vec<Vec<usize>> = slots.iter().map(fitting).collect();
    let mut taken = vec![None; seen.len()];
    let mut unmet = 0;
    for slot in 0..slots.len() {
        let found = assign(slot, &fits, &mut taken, &mut vec![false; seen.len()]);
        unmet += u64::from(!found && slot < needed);
    }
    for (at, _) in taken.iter().enumerate().filter(|(_, taken)| taken.is_none()) {
        if possible.is_empty() {
            faults.foreign += 1;
        } else if seen.len() > slots.len() || possible.iter().any(|copy| copy.fits(seen[at], span)) {
            faults.doubled += 1;
        } else {
            // Seen with a state that it never had: that is one fault and not two.
            faults.untrue += 1;
            unmet = unmet.saturating_sub(1);
        }
    }
    faults.lost = unmet;
    faults.damaged = seen.iter().filter(|seen| !seen.is_exact).count() as u64;
    if faults.count() > 0 {
        faults.example(format!("{faults:?}\n    copies {copies:?}\n    seen {seen:?}\n    in {span:?}"));
    }
    faults
}

/// Compares what a snapshot shows with what happened.
pub fn judge<'a>(copies: impl IntoIterator<Item = &'a Copy>, seen: &'a [Sighting], span: &Span) -> Faults {
    let mut messages: BTreeMap<u64, (Vec<&Copy>, Vec<&Sighting>)> = BTreeMap::new();
    copies.into_iter().for_each(|copy| messages.entry(copy.message).or_default().0.push(copy));
    seen.iter().for_each(|seen| messages.entry(seen.message).or_default().1.push(seen));
    let mut faults = Faults::default();
    for (copies, seen) in messages.values() {
        faults.add(judge_message(copies, seen, span));
    }
    faults
}

fn copy(steps: &[(u64, usize, &str)], gone: Option<u64>) -> Copy {
    let step = |&(at, folder, flags): &(u64, usize, &str)| Step {
        before: at,
        after: at + 1,
        folder,
        flags: Some(flags.to_owned()),
        is_linked: false,
    };
    Copy { message: 1, steps: steps.iter().map(step).collect(), gone: gone.map(|at| (at, at + 1)) }
}

fn judged(copies: &[Copy], seen: &[(usize, &str)]) -> [u64; 4] {
    let seen: Vec<Sighting> = seen
        .iter()
        .map(|&(folder, flags)| Sighting { message: 1, folder, flags: flags.to_owned(), is_exact: true })
        .collect();
    let faults = judge(copies, &seen, &Span { begin: 100, end: 200, slack: 0 });
    [faults.lost, faults.doubled, faults.untrue, faults.foreign]
}

#[test]
fn the_oracle_of_the_storm_knows_right_from_wrong() {
    let still = [copy(&[(10, 0, "")], None)];
    assert_eq!(judged(&still, &[(0, "")]), [0; 4]);
    assert_eq!(judged(&still, &[]), [1, 0, 0, 0]);
    assert_eq!(judged(&still, &[(0, ""), (0, "")]), [0, 1, 0, 0]);
    assert_eq!(judged(&still, &[(0, "S")]), [0, 0, 1, 0]);
    assert_eq!(judged(&[], &[(0, "S")]), [0, 0, 0, 1]);
    let moved = [copy(&[(10, 0, ""), (150, 1, "S")], None)];
    assert_eq!(judged(&moved, &[(0, "")]), [0; 4]);
    assert_eq!(judged(&moved, &[(1, "S")]), [0; 4]);
    assert_eq!(judged(&moved, &[(0, ""), (1, "S")]), [0, 1, 0, 0]);
    assert_eq!(judged(&moved, &[(0, "S")]), [0, 0, 1, 0]);
    let twins = [copy(&[(10, 0, "")], None), copy(&[(20, 1, ""), (150, 2, "")], None)];
    assert_eq!(judged(&twins, &[(0, ""), (2, "")]), [0; 4]);
    assert_eq!(judged(&twins, &[(1, ""), (2, "")]), [1, 1, 0, 0], "one twin twice, the other not at all");
    let ended = [copy(&[(10, 0, "")], Some(150))];
    assert_eq!(judged(&ended, &[]), [0; 4]);
    assert_eq!(judged(&ended, &[(0, "")]), [0; 4]);
    let before = [copy(&[(10, 0, "")], Some(50))];
    assert_eq!(judged(&before, &[(0, "")]), [0, 0, 0, 1]);
    let earlier = [copy(&[(10, 0, ""), (50, 0, "S")], None)];
    assert_eq!(judged(&earlier, &[(0, "")]), [0, 0, 1, 0]);
    for (at, doubled) in [(120, 1), (170, 0)] {
        let mut linked = copy(&[(10, 0, ""), (at, 1, "")], None);
        linked.steps[1].is_linked = true;
        assert_eq!(judged(&[linked], &[(0, ""), (1, "")]), [0, doubled, 0, 0], "moved at {at}");
    }
}
