//! The follower: waits, lets somebody back up, waits again.

use std::time::Duration;

use super::folders::{Folders, Watched};
use super::pace::{Pace, Times};
use super::scope::What;
use crate::base::clock;
use crate::base::interrupt::Interrupt;

/// How often the events are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// After this time the folders are looked for anew: something may have been mounted below the start paths.
const SURVEY_EVERY: Duration = Duration::from_secs(3_600);

/// How a run ended that does not end the follower.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ran {
    /// Whatever changed is in a snapshot.
    Done,
    /// It came to nothing, and may do better later.
    Failed,
    /// Another run of the job was on.
    Busy,
}

/// Whoever does the work.
pub trait Follower {
    /// What ends it all.
    type Error;

    /// Backs up once.
    fn run(&mut self) -> Result<Ran, Self::Error>;

    /// So much is watched.
    fn surveyed(&mut self, watched: Watched);

    /// The next try of what failed comes after this time.
    fn pauses(&mut self, pause: Duration);
}

/// Runs at once, and then whenever something changed, until `interrupt` is raised or a run ends it all.
///
/// A run that is on when the interrupt comes ends as it would alone; what it stored is used by the next one.
pub fn follow<F: Follower>(
    what: &What<'_>,
    times: Times,
    follower: &mut F,
    interrupt: &Interrupt,
) -> Result<(), F::Error> {
    let mut folders = Folders::survey(what);
    let (mut told, mut surveyed) = (None, clock::stopwatch());
    let mut pace = Pace::new(times, clock::stopwatch());
    loop {
        let watched = folders.watched();
        let new = (watched.file_systems, watched.blind);
        if told.replace(new) != Some(new) {
            follower.surveyed(watched);
        }
        if wait(&mut folders, &mut pace, interrupt).is_none() {
            return Ok(());
        }
        if folders.is_out_of_date() || surveyed.elapsed() >= SURVEY_EVERY {
            (folders, surveyed) = (Folders::survey(what), clock::stopwatch());
        }
        pace.begins(clock::stopwatch());
        let ran = follower.run()?;
        if interrupt.is_raised() {
            return Ok(());
        }
        let now = clock::stopwatch();
        match ran {
            Ran::Done => pace.ended(now),
            Ran::Failed => {
                let pause = pace.failed(now);
                follower.pauses(pause);
            }
            Ran::Busy => pace.was_busy(now),
        }
    }
}

/// Waits for the next run; `None` when there is to be none.
fn wait(folders: &mut Folders<'_>, pace: &mut Pace, interrupt: &Interrupt) -> Option<()> {
    loop {
        interrupt.check().ok()?;
        let changed = folders.have_changed();
        let now = clock::stopwatch();
        if changed {
            pace.changed(now);
        }
        let left = pace.wait(now, folders.sees_all());
        if left.is_zero() {
            return Some(());
        }
        interrupt.sleep(left.min(LOOK_EVERY)).ok()?;
    }
}
