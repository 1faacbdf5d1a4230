//! Backups in the middle of a storm: mail programs deliver, flag, move, copy and delete while the program runs again
//! and again, and some runs are killed.
//!
//! Afterwards every snapshot is restored and compared with what really happened: every message that existed during
//! the whole backup is there exactly once for each place it really lay in, with flags that it had in that time, and
//! byte for byte.

mod dovecot;
mod oracle;
mod script;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::lab::{is_long, seed};
use crate::support::{TestEnv, dice, finished, settle};

use oracle::{Faults, Sighting, Span, judge};
use script::Script;

/// How long a storm goes on.
fn storm_time() -> Duration {
    Duration::from_secs(if is_long() { 90 } else { 15 })
}

/// A kind of storm, as the siege needs it.
trait Weather {
    /// Nanoseconds since it began.
    fn now(&self) -> u64;
    /// Where the mail lies.
    fn source(&self) -> &Path;
    /// Compares a restored snapshot with what happened.
    fn judge(&self, restored: &Path, begin: u64, end: u64) -> Faults;
}

/// Ends a storm, also when what it is about has failed; else its threads would go on for ever.
struct Calm<'s>(&'s AtomicBool);

impl Drop for Calm<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// All that came of a siege.
#[derive(Default)]
struct Outcome {
    snapshots: u64,
    killed: u64,
    /// Runs that ended with another code than 0, and what they said.
    complaints: Vec<String>,
    /// Snapshots with a fault.
    faulty: u64,
    faults: Faults,
    longest: Duration,
}

impl Outcome {
    fn print(&self, name: &str, seed: u64) {
        let Faults { lost, doubled, untrue, damaged, foreign, examples } = &self.faults;
        println!(
            "{name}: seed {seed}: {} snapshots (longest run {:.2?}), {} killed, {} runs with a complaint, {} \
             snapshots faulty: {lost} lost, {doubled} doubled, {untrue} with a state they never had, {damaged} \
             damaged, {foreign} foreign",
            self.snapshots,
            self.longest,
            self.killed,
            self.complaints.len(),
            self.faulty,
        );
        examples.iter().for_each(|example| println!("  {example}"));
        self.complaints.iter().take(3).for_each(|complaint| println!("  {complaint}"));
    }

    #[track_caller]
    fn assert_clean(&self) {
        assert_eq!(self.faults.count(), 0, "lost, doubled or untrue messages");
        assert_eq!(self.complaints.len(), 0, "{:?}", self.complaints.first());
        assert!(self.snapshots > 0);
    }
}

/// Backs up until the time is over; every third run is killed somewhere on its way.
fn besiege(env: &TestEnv, weather: &impl Weather, time: Duration, seed: u64) -> Outcome {
    let mut outcome = Outcome::default();
    let begun = Instant::now();
    let mut round = 0;
    while begun.elapsed() < time {
        round += 1;
        let mut command = env.command(["backup", "--json", "--job", "data", "--as", "/data"]);
        command.arg(weather.source());
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        let begin = weather.now();
        let mut child = command.spawn().unwrap();
        if round % 3 == 0 {
            std::thread::sleep(Duration::from_millis(dice(seed ^ round, 300)));
            child.kill().unwrap();
            child.wait().unwrap();
            outcome.killed += 1;
            continue;
        }
        let output = finished(child);
        let end = weather.now();
        outcome.longest = outcome.longest.max(Duration::from_nanos(end - begin));
        assert!(!output.stderr.contains("panicked"), "{}", output.both());
        if output.code != 0 {
            outcome.complaints.push(output.both());
            if output.code != 3 {
                continue;
            }
        }
        let restored = env.restore("latest", &format!("restored-{round}"));
        let faults = weather.judge(&restored, begin, end);
        outcome.snapshots += 1;
        outcome.faulty += u64::from(faults.count() > 0);
        outcome.faults.add(faults);
        fs::remove_dir_all(restored.parent().unwrap()).unwrap();
    }
    outcome
}

/// The script and where it plays.
struct Harsh<'s> {
    script: &'s Script,
    source: PathBuf,
}

impl Weather for Harsh<'_> {
    fn now(&self) -> u64 {
        self.script.now()
    }

    fn source(&self) -> &Path {
        &self.source
    }

    fn judge(&self, restored: &Path, begin: u64, end: u64) -> Faults {
        let (seen, strange): (Vec<Sighting>, _) = self.script.sightings(&self.source, restored);
        let mut faults = judge(&self.script.copies(), &seen, &Span { begin, end, slack: 0 });
        faults.foreign += strange.len() as u64;
        strange.iter().take(2).for_each(|path| faults.example(format!("strange: {}", path.display())));
        faults
    }
}

#[test]
fn a_calm_between_storms_is_caught_as_it_is() {
    let env = TestEnv::with_repository();
    let source = tempfile::tempdir().unwrap();
    let script = Script::new(source.path(), 5);
    settle();
    let harsh = Harsh { script: &script, source: source.path().to_owned() };
    let outcome = besiege(&env, &harsh, Duration::from_millis(1), 5);
    outcome.print("calm", 5);
    outcome.assert_clean();
}

#[test]
fn a_harsh_storm_loses_and_doubles_nothing() {
    let (env, seed) = (TestEnv::with_repository(), seed());
    println!("seed {seed}");
    // A real disk lists folders in another order than memory does, and gives inode numbers out again.
    let source = tempfile::tempdir().unwrap();
    let script = Script::new(source.path(), seed);
    let harsh = Harsh { script: &script, source: source.path().to_owned() };
    let outcome = std::thread::scope(|scope| {
        let calm = Calm(&script.stop);
        let threads: Vec<_> = Script::threads()
            .map(|thread| {
                scope.spawn({
                    let script = &script;
                    move || script.run(thread)
                })
            })
            .collect();
        let begun = Instant::now();
        let outcome = besiege(&env, &harsh, storm_time(), seed);
        let operations = script.operations.load(Ordering::Relaxed);
        println!("{:.0} operations a second", operations as f64 / begun.elapsed().as_secs_f64());
        drop(calm);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        outcome
    });
    outcome.print("storm", seed);
    env.check();
    outcome.assert_clean();
}
