//! Which snapshots are new and which are gone, series by series; and the two threads that take a new one in.

use std::collections::BTreeMap;

use super::apply::Applier;
use super::heads::Heads;
use super::walk::{Side, Walk};
use super::{CatalogueError, Change, Options, Report};
use crate::base::id::{HostId, ObjectHash};
use crate::base::interrupt::Interrupt;
use crate::base::progress::Progress;
use crate::index::IndexError;
use crate::index::catalogue::{Catalogue, Facts, KnownSnapshot, Series, SeriesNumber};
use crate::mail::templates::Users;
use crate::repo::RepoError;
use crate::repo::reader::BlobReader;
use crate::repo::snapshots::SnapshotInfo;

/// Changes that go from thread to thread at once.
const BATCH: usize = 512;
/// Batches that wait between the threads.
const BATCHES_WAITING: usize = 8;
/// Heads of messages that could not be read before, and are tried again in a run.
const RETRIES_MAX: usize = 10_000;
/// The fact that says by which rules folders were named.
const RULES: &str = "users";

/// Opens what a snapshot refers to.
pub type OpenReader<'a> = dyn Fn(&SnapshotInfo) -> Result<BlobReader<'a>, RepoError> + 'a;

/// What is to be done with a series.
struct Plan<'s> {
    /// Everything of it is taken in anew: its order was changed, or its last listed snapshot is gone.
    anew: bool,
    /// Numbers of snapshots that are gone.
    gone: Vec<i64>,
    /// The snapshot that the catalogue stands at.
    from: Option<(&'s SnapshotInfo, i64)>,
    /// Snapshots to take in, in order.
    new: Vec<&'s SnapshotInfo>,
}

/// Brings the catalogue into step with `snapshots`, all that are listed.
///
/// Each snapshot that was taken in counts, whatever becomes of the next one.
pub fn sync<'a>(
    catalogue: &mut Catalogue,
    snapshots: &[SnapshotInfo],
    open: &OpenReader<'a>,
    options: &Options<'_>,
    progress: &dyn Progress,
    interrupt: &Interrupt,
) -> Result<Report, CatalogueError> {
    let mut report = Report::default();
    follow_rules(catalogue, options.users)?;
    let mut listed: BTreeMap<(HostId, &str), Vec<&SnapshotInfo>> = BTreeMap::new();
    for info in snapshots {
        listed.entry((info.host, info.snapshot.job.as_str())).or_default().push(info);
    }
    listed.values_mut().for_each(|series| series.sort_by_key(|info| (info.position, info.sequence)));
    let known: Vec<(SeriesNumber, Series)> = catalogue.series()?;
    let is_listed = |series: &Series| listed.contains_key(&(series.host, series.job.as_str()));
    let lost: Vec<SeriesNumber> =
        known.iter().filter(|(_, series)| !is_listed(series)).map(|(number, _)| *number).collect();
    let mut swept = lost.is_empty();
    if !lost.is_empty() {
        let fill = catalogue.fill()?;
        lost.iter().try_for_each(|&number| fill.drop_series(number))?;
        fill.commit()?;
    }
    for ((host, job), infos) in &listed {
        if options.only.is_some_and(|only| only != (*host, *job)) {
            continue;
        }
        let of_series = |(_, series): &&(SeriesNumber, Series)| series.host == *host && series.job == *job;
        let number = known.iter().find(of_series).map(|(number, _)| *number);
        let before = number.map_or(Ok(Vec::new()), |number| catalogue.snapshots(number))?;
        let plan = plan(&before, infos);
        report.gone += plan.gone.len() as u64;
        swept &= plan.gone.is_empty() && !plan.anew;
        let series = Series {
            host: *host,
            host_name: infos.last().map(|info| info.snapshot.host_name.clone()).unwrap_or_default(),
            job: (*job).to_owned(),
        };
        let run = Run { open, options, progress, interrupt };
        run.series(catalogue, &series, plan, &mut report)?;
    }
    if !swept {
        let fill = catalogue.fill()?;
        let gone = fill.sweep()?;
        fill.commit()?;
        if gone > 0 {
            catalogue.settle()?;
        }
    }
    catalogue.finish()?;
    if let Some(host) = &options.local
        && catalogue.has_unread()?
    {
        read_later(catalogue, host)?;
    }
    Ok(report)
}

/// Compares what is known of a series with what is there.
fn plan<'s>(known: &[KnownSnapshot], infos: &[&'s SnapshotInfo]) -> Plan<'s> {
    let place = |hash: &ObjectHash| infos.iter().position(|info| info.hash == *hash);
    let places: Vec<(i64, Option<usize>)> =
        known.iter().map(|known| (known.number, place(&known.hash))).collect();
    let there: Vec<usize> = places.iter().filter_map(|(_, place)| *place).collect();
    let in_order = there.windows(2).all(|pair| pair[0] < pair[1]);
    let last = places.last().and_then(|&(number, place)| Some((infos[place?], number, place?)));
    let Some((from, number, at)) = last.filter(|(.., at)| in_order && at + 1 == there.len()) else {
        let gone = places.iter().filter(|(_, place)| place.is_none()).map(|(number, _)| *number);
        return Plan { anew: !known.is_empty(), gone: gone.collect(), from: None, new: infos.to_vec() };
    };
    let gone = places.iter().filter(|(_, place)| place.is_none()).map(|(number, _)| *number).collect();
    Plan { anew: false, gone, from: Some((from, number)), new: infos[at + 1..].to_vec() }
}

/// Where folders were named by other rules, all are listed anew; what is known of messages stays.
fn follow_rules(catalogue: &mut Catalogue, users: &Users) -> Result<(), CatalogueError> {
    let rules = blake3::hash(format!("{users:?}").as_bytes());
    if catalogue.fact(RULES)?.as_deref() == Some(rules.as_bytes()) {
        return Ok(());
    }
    let known = catalogue.series()?;
    let fill = catalogue.fill()?;
    known.iter().try_for_each(|(number, _)| fill.drop_series(*number))?;
    fill.set_fact(RULES, rules.as_bytes())?;
    Ok(fill.commit()?)
}

/// Tries to read heads of this host's messages that no key opened, where the files lie.
fn read_later(catalogue: &mut Catalogue, host: &HostId) -> Result<(), CatalogueError> {
    let fill = catalogue.fill()?;
    let heads = Heads::new(None, true);
    for (content, size, path) in fill.unread(host, RETRIES_MAX)? {
        if let Some(heading) = heads.of_local_file(&path, size) {
            fill.add_message(&Facts::new(content, size, Some(heading), false))?;
        }
    }
    Ok(fill.commit()?)
}

struct Run<'r, 'a> {
    open: &'r OpenReader<'a>,
    options: &'r Options<'r>,
    progress: &'r dyn Progress,
    interrupt: &'r Interrupt,
}

impl<'a> Run<'_, 'a> {
    fn series(
        &self,
        catalogue: &mut Catalogue,
        series: &Series,
        plan: Plan<'_>,
        report: &mut Report,
    ) -> Result<(), CatalogueError> {
        if !plan.anew && plan.gone.is_empty() && plan.new.is_empty() {
            return Ok(());
        }
        let fill = catalogue.fill()?;
        let number = fill.series(series)?;
        if plan.anew {
            fill.drop_series(number)?;
        }
        for &gone in &plan.gone {
            fill.drop_snapshot(number, gone)?;
        }
        fill.commit()?;
        let mut before = plan.from;
        // The reader of the snapshot before serves the next one too, while both lie in one domain.
        let mut reader: Option<(&SnapshotInfo, BlobReader<'a>)> = None;
        for info in plan.new {
            let second = catalogue.second()?;
            let fill = catalogue.fill()?;
            let number = fill.series(series)?;
            let next = before.map_or(1, |(_, number)| number + 1);
            if fill.last_number(number)? != next - 1 {
                // Another process is at it, without a lock, and nobody knows how far it is.
                return Err(IndexError::Busy.into());
            }
            let reuse = reader.as_ref().is_some_and(|(of, _)| of.domain == info.domain);
            let after = if reuse { reader.take().expect("looked at above").1 } else { (self.open)(info)? };
            let older = match before {
                Some((older, _)) if older.domain != info.domain => Some((self.open)(older)?),
                _ => None,
            };
            let sides = Sides {
                before: before.map(|(older_info, _)| Side {
                    info: older_info,
                    reader: older.as_ref().unwrap_or(&after),
                }),
                after: Side { info, reader: &after },
            };
            let mut applier = Applier {
                fill: &fill,
                users: self.options.users,
                series: number,
                number: next,
                before: next - 1,
                folder: None,
                file: None,
                report,
            };
            let local = self.options.local == Some(info.host);
            let broken = self.take_in(sides, &mut applier, second.as_ref(), local)?;
            report.snapshots += 1;
            report.broken += broken;
            fill.add_snapshot(number, next, &info.hash, info.snapshot.started, broken == 0)?;
            fill.commit()?;
            catalogue.finish()?;
            before = Some((info, next));
            reader = Some((info, after));
        }
        Ok(())
    }

    /// One thread walks and reads heads, this one writes; gives how many listings could not be read.
    fn take_in(
        &self,
        sides: Sides<'_>,
        applier: &mut Applier<'_, '_>,
        second: Option<&Catalogue>,
        local: bool,
    ) -> Result<u64, CatalogueError> {
        let (sender, receiver) = crossbeam_channel::bounded::<Vec<Change>>(BATCHES_WAITING);
        // A connection can be handed to a thread, and not be shared with one.
        let second = second.map(Catalogue::second).transpose()?.flatten();
        let (progress, interrupt) = (self.progress, self.interrupt);
        std::thread::scope(|scope| {
            let walker = scope.spawn(move || {
                let mut heads = Heads::new(second.as_ref(), local);
                let mut walk = Walk::new(sides.before, sides.after, &mut heads, progress, interrupt);
                let mut batch = Vec::with_capacity(BATCH);
                let walked = walk.run(&mut |change| {
                    batch.push(change);
                    if batch.len() == BATCH {
                        // Nobody takes it when writing failed: that error counts.
                        let _ = sender.send(std::mem::replace(&mut batch, Vec::with_capacity(BATCH)));
                    }
                    Ok(())
                });
                let _ = sender.send(batch);
                walked.map(|()| walk.broken)
            });
            let mut written = Ok(());
            for batch in receiver {
                if written.is_ok() {
                    written = batch.into_iter().try_for_each(|change| applier.apply(change));
                }
            }
            let walked = walker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            written.and(walked)
        })
    }
}

#[derive(Clone, Copy)]
struct Sides<'a> {
    before: Option<Side<'a>>,
    after: Side<'a>,
}
