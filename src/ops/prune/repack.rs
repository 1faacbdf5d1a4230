//! Packing anew: what is in use of half-empty and small packs, by user, folder and arrival, no segment of two users.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex};

use super::PruneError;
use super::judge::{Judge, Needs};
use super::plan::Plan;
use super::survey::Survey;
use super::verify::reader;
use crate::base::id::{BlobId, DomainId, HostId};
use crate::base::limits;
use crate::compress::Effort;
use crate::format::content::BlobKind;
use crate::index::{Location, PackNumber};
use crate::repo::RepoError;
use crate::repo::packer::Packer;
use crate::repo::packs::PackMap;
use crate::repo::reader::BlobReader;
use crate::repo::segment::OpenSegment;
use crate::repo::txn::Transaction;

/// Packs that are made durable together.
const PUBLISHED_PACKS: usize = 8;

/// A blob that moves.
struct Moved {
    order: u64,
    id: BlobId,
    place: Location,
}

/// What moves, by domain and by the host that wrote it: only that host can read its own pages back.
type Moves = BTreeMap<(DomainId, HostId), Vec<Moved>>;

/// Stores the plan's half-empty packs anew; gives the bytes written. The old ones stay as they are, and `failed` are
/// those of which something could not be read.
pub fn repack(
    judge: &Judge<'_>,
    survey: &Survey,
    needs: &Needs,
    plan: &Plan,
    failed: &mut HashSet<PackNumber>,
) -> Result<u64, PruneError> {
    let mut written = 0;
    for ((domain, host), mut moves) in collect(judge, survey, needs, plan)? {
        moves.sort_unstable_by_key(|moved| (moved.order, moved.place));
        written += repack_host(judge, (domain, host), &moves, failed)?;
    }
    Ok(written)
}

fn collect(judge: &Judge<'_>, survey: &Survey, needs: &Needs, plan: &Plan) -> Result<Moves, PruneError> {
    let hosts: BTreeMap<_, _> = survey.packs.iter().map(|pack| (pack.number, pack.host)).collect();
    let mut moves = Moves::new();
    let index = judge.index.read().expect("no holder panics");
    let mut places = Vec::new();
    for (domain, ids) in &needs.ids {
        let (mut sweep, mut wanted) = (index.sweep(domain)?, ids.pass()?);
        let mut next = wanted.advance()?;
        while let Some(id) = sweep.advance(&mut places)? {
            while next.is_some_and(|(earlier, _)| earlier < id) {
                next = wanted.advance()?;
            }
            let Some((_, order)) = next.filter(|(wanted, _)| *wanted == id) else { continue };
            let kept = places.iter().find(|place| plan.moved.contains(&place.pack) && survey.is_kept(place));
            if let Some(place) = kept {
                let host = hosts[&place.pack];
                moves.entry((*domain, host)).or_default().push(Moved { order, id, place: *place });
            }
        }
    }
    Ok(moves)
}

/// Segments on their way to the threads that compress them.
type Full = (BlobKind, OpenSegment);

fn repack_host(
    judge: &Judge<'_>,
    (domain, host): (DomainId, HostId),
    moves: &[Moved],
    failed: &mut HashSet<PackNumber>,
) -> Result<u64, PruneError> {
    let repository = judge.repository;
    let keys = Arc::new(repository.need_full("pruning")?.writer(host, domain));
    let packer = Packer::of(repository, Arc::clone(&keys));
    let mut transaction = match Transaction::begin(repository, &keys, judge.index, None) {
        // Its own numbers are used up: its packs stay as they are.
        Err(error @ RepoError::Damaged { .. }) => {
            judge.progress.problem(&error.to_string());
            failed.extend(moves.iter().map(|moved| moved.place.pack));
            return Ok(0);
        }
        begun => begun?,
    };
    let packs = PackMap::new(Arc::clone(&repository.keys));
    let reader = reader(repository, judge.index, &packs, domain, host)?;
    judge.progress.counters().expect(moves.len() as u64, 0);
    let press = Press { packer: &packer, outcome: Mutex::new(Ok(0)) };
    let (sender, receiver) = crossbeam_channel::bounded::<Full>(judge.options.workers.max(1));
    std::thread::scope(|scope| -> Result<(), PruneError> {
        for _ in 0..judge.options.workers.max(1) {
            let (receiver, press) = (receiver.clone(), &press);
            scope.spawn(move || receiver.iter().for_each(|full| press.store(full)));
        }
        let sender = sender;
        let mut ready = Vec::new();
        gather(judge, &reader, moves, failed, &mut |full| {
            sender.send(full).expect("the threads take segments until the sender is gone");
            ready.extend(packer.take_finished_so_far());
            if ready.len() >= PUBLISHED_PACKS {
                transaction.publish(&std::mem::take(&mut ready))?;
            }
            press.is_going_well()
        })?;
        transaction.publish(&ready)?;
        Ok(())
    })?;
    let written = press.outcome.into_inner().expect("no holder panics")?;
    transaction.publish(&packer.flush()?)?;
    Ok(written)
}

/// What the compressing threads share.
struct Press<'a> {
    packer: &'a Packer,
    /// Bytes written, or the first failure.
    outcome: Mutex<Result<u64, RepoError>>,
}

impl Press<'_> {
    fn store(&self, (kind, segment): Full) {
        let stored = segment.store(self.packer, kind, Effort::Repack);
        let mut outcome = self.outcome.lock().expect("no holder panics");
        match (outcome.as_mut(), stored) {
            (Ok(written), Ok(bytes)) => *written += bytes,
            (Ok(_), Err(error)) => *outcome = Err(error),
            (Err(_), _) => {}
        }
    }

    /// Ends the gathering early; the reason is given at the end.
    fn is_going_well(&self) -> Result<bool, RepoError> {
        Ok(self.outcome.lock().expect("no holder panics").is_ok())
    }
}

/// Reads what moves, in its new order, into segments that hold blobs of one user only.
fn gather(
    judge: &Judge<'_>,
    reader: &BlobReader<'_>,
    moves: &[Moved],
    failed: &mut HashSet<PackNumber>,
    give: &mut dyn FnMut(Full) -> Result<bool, RepoError>,
) -> Result<(), PruneError> {
    let mut segments: [OpenSegment; BlobKind::ALL.len()] = Default::default();
    let mut user = None;
    for moved in moves {
        judge.interrupt.check().map_err(RepoError::from)?;
        judge.progress.counters().add(1, 0);
        if user.replace(moved.order >> 32) != Some(moved.order >> 32) {
            give_all(&mut segments, give)?;
        }
        let blob = match reader.read_at(&moved.id, None, moved.place) {
            Ok(blob) => blob,
            Err(error) if error.ends_the_run() => return Err(error.into()),
            Err(error) => {
                judge.progress.problem(&error.to_string());
                failed.insert(moved.place.pack);
                continue;
            }
        };
        let (kind, plain) = (blob.kind(), blob.as_ref());
        let segment = &mut segments[kind as usize];
        segment.push(moved.id, plain);
        let is_full = segment.plain.len() >= limits::SEGMENT_BYTES_AIM
            || segment.ids.len() >= limits::SEGMENT_BLOBS_MAX / 2;
        if is_full && !give((kind, std::mem::take(segment)))? {
            return Ok(());
        }
    }
    give_all(&mut segments, give)
}

fn give_all(
    segments: &mut [OpenSegment; BlobKind::ALL.len()],
    give: &mut dyn FnMut(Full) -> Result<bool, RepoError>,
) -> Result<(), PruneError> {
    for (kind, segment) in BlobKind::ALL.into_iter().zip(segments) {
        if !segment.ids.is_empty() {
            give((kind, std::mem::take(segment)))?;
        }
    }
    Ok(())
}
