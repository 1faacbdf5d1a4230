//! Keeps what a run sees for the next one: a thread takes the sightings of all workers into the scan cache.

use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::scan::Sighting;
use crate::base::id::ObjectHash;
use crate::index::scan::{Binding, Draft};

/// Folders that may wait to be written.
const WAITING: usize = 256;

/// A scan cache that is being written.
pub struct Recorder {
    sender: Sender<Sighting>,
    thread: JoinHandle<Option<Draft>>,
}

/// What a run saw, whole: it counts when its snapshot is final.
pub struct Recording {
    draft: Draft,
    rules: [u8; 16],
}

impl Recorder {
    /// Begins.
    pub fn start(draft: Draft) -> Recorder {
        let (sender, receiver) = bounded(WAITING);
        Recorder { sender, thread: std::thread::spawn(move || record(draft, &receiver)) }
    }

    /// Where sightings go.
    pub fn sender(&self) -> Sender<Sighting> {
        self.sender.clone()
    }

    /// Ends: all was seen. Nothing when the cache cannot be written, which costs the next run time.
    pub fn finish(self, rules: [u8; 16]) -> Option<Recording> {
        let _ = self.sender.send(Sighting::End);
        let draft = self.thread.join().ok().flatten()?;
        Some(Recording { draft, rules })
    }
}

impl Recording {
    /// Lets it count for the run after `snapshot`, which ended at `ended`, unix nanoseconds.
    pub fn commit(self, snapshot: ObjectHash, ended: i64) {
        // A cache that cannot be written costs the next run time, and this one is a success.
        let _ = self.draft.commit(&Binding { snapshot, rules: self.rules, ended });
    }
}

fn record(mut draft: Draft, sightings: &Receiver<Sighting>) -> Option<Draft> {
    for sighting in sightings {
        let outcome = match sighting {
            Sighting::Kept(key) => {
                draft.keep(&key);
                Ok(())
            }
            Sighting::Listed { key, state, pages, contents } => {
                draft.put(&key, &state, &pages).and_then(|()| draft.put_contents(&key, &contents))
            }
            Sighting::End => return Some(draft),
        };
        // With the receiver gone, sending fails at once, and nobody waits.
        outcome.ok()?;
    }
    None
}
