//! What became of a snapshot that is asked for by its id and counts no longer.

use super::failure::{Failure, Kind};
use super::output::local_time;
use crate::base::bytes;
use crate::base::clock::UnixNanos;
use crate::base::id::ObjectHash;
use crate::repo::ledger::{Dropped, Ledger};
use crate::repo::snapshots::{self, Listed};
use crate::repo::{RepoError, Repository};
use crate::store::Place;

/// Says what the records know of the one dropped snapshot whose id begins with `text`; `None` when they know nothing,
/// or of several.
pub fn explain(repository: &Repository, listed: &Listed, text: &str) -> Result<Option<Failure>, RepoError> {
    let begins = |place: &&Place| place.hash().is_some_and(|hash| hash.to_string().starts_with(text));
    if let Some(place) = listed.revoked.iter().find(begins) {
        let short = place.hash().map(ObjectHash::short).unwrap_or_default();
        let what =
            format!("snapshot {short} was written after its host had been revoked, and does not count");
        return Ok(Some(Failure::new(Kind::User, what).hint("'mailark snapshots' lists those that do")));
    }
    let ledger = Ledger::read(repository)?;
    let mut found = ledger.dropped().filter(|(hash, _)| hash.to_string().starts_with(text));
    let (Some((hash, dropped)), None) = (found.next(), found.next()) else { return Ok(None) };
    let name = match listed.dropped.iter().find(|place| place.hash() == Some(hash)) {
        Some(place) => named(repository, place, hash),
        None => format!("snapshot {}", hash.short()),
    };
    let what = format!("{name} {}", sentence(&ledger, hash, dropped));
    let hint = match ledger.successor(hash) {
        Some(new) if listed.snapshots.iter().any(|info| info.hash == new) => {
            format!("ask for {}; it lacks what was taken out", new.short())
        }
        _ => "'mailark snapshots' lists those that there are; a mirror made before may still have it"
            .to_owned(),
    };
    Ok(Some(Failure::new(Kind::User, what).hint(hint)))
}

/// Whose it was, as long as no prune has removed it.
fn named(repository: &Repository, place: &Place, hash: &ObjectHash) -> String {
    let short = hash.short();
    match snapshots::read_dropped(repository, place) {
        Ok(Some(info)) => {
            let (snapshot, at) = (&info.snapshot, local_time(info.snapshot.started.into()));
            let of = bytes::display(format!("{} {}", snapshot.host_name, snapshot.job).as_bytes());
            format!("snapshot {short} ({of}, {at})")
        }
        _ => format!("snapshot {short}"),
    }
}

fn sentence(ledger: &Ledger, hash: &ObjectHash, dropped: &Dropped) -> String {
    let at = local_time(UnixNanos::from(dropped.at) * 1_000_000_000);
    let verb = match dropped.verb.as_str() {
        "purge" => "a purge",
        "repair" => "a repair",
        "undo" => "a purge or repair that was overtaken",
        other => other,
    };
    if ledger.forgotten.contains_key(hash) {
        return format!("was forgotten at {at} ({})", bytes::display(dropped.why.as_bytes()));
    }
    let Some(new) = ledger.successor(hash) else {
        return format!("was given up by {verb} at {at}: nothing of it could be read");
    };
    let later = match ledger.forgotten.contains_key(&new) {
        true => "stood in its place, and was forgotten in its turn",
        false => "stands in its place",
    };
    format!("was written anew by {verb} at {at}: snapshot {} {later}", new.short())
}
