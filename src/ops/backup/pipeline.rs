//! The flow: walk -> compare with the parent -> split -> name (dedup) -> segment -> compress -> seal -> pack -> store.
//!
//! The walking thread ([`super::walker`]) does the first two stages and keeps the order; workers do the rest, batch
//! by batch.

use std::sync::Mutex;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::shared::Shared;
use super::worker::{Batch, Worker};
use crate::chunk::SplitStats;
use crate::repo::RepoError;
use crate::repo::blob_writer::LocalSegments;

/// Batches that may wait; bounds the names in memory.
const BATCHES_WAITING: usize = 16;

/// The first failure of any thread; all others stop when they see it.
#[derive(Default)]
struct Failure(Mutex<Option<RepoError>>);

impl Failure {
    fn set(&self, error: RepoError) {
        self.0.lock().expect("no holder panics").get_or_insert(error);
    }

    fn is_set(&self) -> bool {
        self.0.lock().expect("no holder panics").is_some()
    }
}

/// How often the clock thread looks whether something is due.
const CLOCK_TICK: Duration = Duration::from_millis(500);

/// What comes out of the pipeline besides the walk's own result.
pub struct Leftovers {
    /// Segments that are not full.
    pub segments: Vec<LocalSegments>,
    /// What the splitters met.
    pub split: SplitStats,
}

/// Runs `walking` beside `count` workers, calling `tick` now and then, also during a file that takes hours.
pub fn run<'a, T>(
    shared: &'a Shared<'a>,
    count: usize,
    tick: &(dyn Fn() -> Result<(), RepoError> + Sync),
    walking: impl FnOnce(Sender<Batch<'a>>) -> Result<(T, Worker<'a>), RepoError>,
) -> Result<(T, Leftovers), RepoError> {
    let (sender, receiver) = bounded(BATCHES_WAITING);
    let (done, ended) = bounded::<()>(0);
    let failure = Failure::default();
    let outcome = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..count.max(1))
            .map(|_| {
                let (receiver, failure) = (receiver.clone(), &failure);
                scope.spawn(move || work(shared, &receiver, failure))
            })
            .collect();
        drop(receiver);
        scope.spawn(|| {
            // Ends when `done` is dropped.
            while ended.recv_timeout(CLOCK_TICK) == Err(RecvTimeoutError::Timeout) && !failure.is_set() {
                if let Err(error) = tick() {
                    failure.set(error);
                }
            }
        });
        let walked = walking(sender);
        let mut leftovers = Leftovers { segments: Vec::new(), split: SplitStats::default() };
        let mut take = |worker: Worker<'a>| {
            leftovers.split += worker.split;
            leftovers.segments.push(worker.into_segments());
        };
        for worker in workers {
            take(worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        drop(done);
        let (result, worker) = walked?;
        take(worker);
        Ok((result, leftovers))
    });
    // A thread's failure is the cause, the walk's only its echo.
    match failure.0.into_inner().expect("no holder panics") {
        Some(error) => Err(error),
        None => outcome,
    }
}

fn work<'a>(shared: &'a Shared<'a>, batches: &Receiver<Batch<'a>>, failure: &Failure) -> Worker<'a> {
    let mut worker = Worker::new(shared);
    for batch in batches {
        if failure.is_set() {
            break;
        }
        if let Err(error) = worker.run(batch) {
            failure.set(error);
            break;
        }
    }
    worker
}
