//! At the end, pruned: the packs hold nothing but what snapshots hold.

use std::collections::BTreeSet;
use std::sync::Arc;

use mailark::base::id::HostId;
use mailark::crypto::blob_id::BlobNamer;
use mailark::format::content::BlobKind;
use mailark::mail::message_id;
use mailark::repo::ledger::Ledger;
use mailark::repo::packs::PackMap;
use mailark::repo::reader::BlobReader;
use mailark::repo::records::registered;
use mailark::repo::{Repository, deltas};
use mailark::store::Folder;

use super::expected::{Model, domain};
use super::operations::{Grace, HOSTS};
use super::sources;
use super::world::{ADMIN, World, host_name};
use crate::lab::{claim, new_index, text};

/// What may stand in the packs of a domain.
struct Wanted {
    plain: Vec<Vec<u8>>,
    message_ids: BTreeSet<Vec<u8>>,
}

impl Wanted {
    fn new(model: &Model, domain: usize) -> Wanted {
        let bodies = model.bodies(domain);
        let messages = bodies.iter().flat_map(|body| body.messages());
        Wanted {
            plain: bodies.iter().flat_map(|body| body.plain()).collect(),
            message_ids: messages.map(|number| sources::message_id(*number)).collect(),
        }
    }

    fn holds(&self, kind: BlobKind, blob: &[u8]) -> bool {
        match kind {
            // Listings: that their snapshots count is seen from the packs that hold nothing else.
            BlobKind::Tree => true,
            // All headers of a message, whose parts stand apart.
            BlobKind::Head => message_id::find(blob).is_some_and(|id| self.message_ids.contains(&id)),
            _ => self.plain.iter().any(|bytes| memchr::memmem::find(bytes, blob).is_some()),
        }
    }
}

impl World {
    /// Looks at everything, prunes, and looks at everything and at all that is left.
    pub fn ends(&mut self) -> Result<(), String> {
        self.look()?;
        self.prune(Grace::None)?;
        self.prune(Grace::None)?;
        self.look()?;
        let repository = self.open(ADMIN)?;
        let hosts = Ledger::read(&repository).map_err(text)?.hosts;
        let number_of = |host: &HostId| {
            let name = &registered(&hosts, host)?.name;
            (0..HOSTS).find(|number| host_name(*number) == *name)
        };
        let wanted: Vec<Wanted> = (0..HOSTS).map(|host| Wanted::new(&self.model, domain(host))).collect();
        each_blob(&repository, &mut |host, kind, blob| {
            let wanted = &wanted[number_of(host).ok_or("a host that nobody knows")?];
            let shown = || String::from_utf8_lossy(&blob[..blob.len().min(200)]).into_owned();
            claim(wanted.holds(kind, blob), &format!("what no snapshot holds is still there: {}", shown()))
        })
    }
}

/// Hears of each blob: who wrote it, its kind, its bytes.
type Tell<'t> = &'t mut dyn FnMut(&HostId, BlobKind, &[u8]) -> Result<(), String>;

/// Reads every blob of every pack that a delta names.
fn each_blob(repository: &Repository, tell: Tell<'_>) -> Result<(), String> {
    let index = new_index(repository);
    deltas::sync(repository, &index).map_err(text)?;
    let hosts = Ledger::read(repository).map_err(text)?.hosts;
    let packs = PackMap::new(Arc::clone(&repository.keys));
    for (place, _) in repository.store.list(Folder::Deltas).map_err(text)? {
        let delta = deltas::read(repository, &hosts, &place).map_err(text)?;
        let delta = delta.ok_or("a full key opens every delta")?;
        let keys = repository.keys.domain(&delta.domain).ok_or("no keys of its domain")?;
        let namer = BlobNamer::new(&keys.id_key, &delta.host);
        let store = Arc::clone(&repository.store);
        let reader = BlobReader::new(store, &packs, namer, delta.domain, &index, 8 << 20);
        for (_, _, contents) in &delta.packs {
            let kinds = contents.table.segments.iter();
            let kinds = kinds.flat_map(|segment| segment.lengths.iter().map(|_| segment.kind));
            for (id, kind) in contents.ids.iter().zip(kinds) {
                let blob = match kind {
                    BlobKind::Tree => reader.page(id),
                    _ => reader.data(id),
                };
                tell(&delta.host, kind, blob.map_err(text)?.as_ref())?;
            }
        }
    }
    Ok(())
}
