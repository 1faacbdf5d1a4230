//! Reading blobs: one range read a segment, every blob verified against its id.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, RwLock};

use super::RepoError;
use super::packs::PackMap;
use crate::base::id::{BlobId, DomainId, HostId};
use crate::compress;
use crate::crypto::blob_id::BlobNamer;
use crate::crypto::pack::FrameKind;
use crate::format::content::BlobKind;
use crate::index::{Index, IndexError, Location};
use crate::store::{Place, Storage, StoreErrorKind};

/// A blob inside a decompressed segment.
#[derive(Clone)]
pub struct Blob {
    segment: Arc<PlainSegment>,
    range: Range<usize>,
}

impl Blob {
    /// The kind of its segment.
    pub fn kind(&self) -> BlobKind {
        self.segment.kind
    }
}

impl AsRef<[u8]> for Blob {
    fn as_ref(&self) -> &[u8] {
        &self.segment.plain[self.range.clone()]
    }
}

struct PlainSegment {
    kind: BlobKind,
    plain: Vec<u8>,
    /// Where each blob ends.
    ends: Vec<u32>,
    /// What each blob is called, once somebody asked for it: hashing a large blob for each of its stretches would cost
    /// more than reading it.
    names: Vec<OnceLock<BlobId>>,
}

/// The reader's space, pack, segment.
type SegmentKey = (u32, u32, u16);

/// Segments read last, up to a number of bytes.
struct SegmentCache {
    segments: HashMap<SegmentKey, (u64, Arc<PlainSegment>)>,
    bytes: usize,
    bytes_max: usize,
    clock: u64,
}

impl SegmentCache {
    fn get(&mut self, key: SegmentKey) -> Option<Arc<PlainSegment>> {
        self.clock += 1;
        let (used, segment) = self.segments.get_mut(&key)?;
        *used = self.clock;
        Some(Arc::clone(segment))
    }

    fn insert(&mut self, key: SegmentKey, segment: Arc<PlainSegment>) {
        self.clock += 1;
        self.bytes += segment.plain.len();
        if let Some((_, old)) = self.segments.insert(key, (self.clock, segment)) {
            self.bytes -= old.plain.len();
        }
        while self.bytes > self.bytes_max && self.segments.len() > 1 {
            let oldest = self.segments.iter().min_by_key(|(_, (used, _))| *used).map(|(key, _)| *key);
            let (_, segment) =
                oldest.and_then(|key| self.segments.remove(&key)).expect("more than one segment");
            self.bytes -= segment.plain.len();
        }
    }
}

/// What readers of several hosts keep in common, so that all of them together stay within one bound.
pub struct ReadCache {
    segments: Mutex<SegmentCache>,
    /// Each verifies by its own key; the place of one is its number.
    spaces: Mutex<Vec<(HostId, DomainId)>>,
    /// Refreshes that may still bring nothing new before no more are tried.
    refreshes_left: AtomicU32,
}

impl ReadCache {
    /// Keeps up to `bytes` of plaintext.
    pub fn new(bytes: usize) -> ReadCache {
        let segments = SegmentCache { segments: HashMap::new(), bytes: 0, bytes_max: bytes, clock: 0 };
        let refreshes_left = AtomicU32::new(VAIN_REFRESHES_MAX);
        ReadCache { segments: Mutex::new(segments), spaces: Mutex::default(), refreshes_left }
    }

    /// The number of the space in which a host's blobs of a domain are kept.
    pub fn space(&self, host: &HostId, domain: &DomainId) -> u32 {
        let mut spaces = self.spaces.lock().expect("no holder panics");
        let known = spaces.iter().position(|space| *space == (*host, *domain));
        let number = known.unwrap_or(spaces.len());
        if known.is_none() {
            spaces.push((*host, *domain));
        }
        number as u32
    }
}

/// Is it what a reader meets whose index is older than a prune?
fn is_gone(error: &RepoError) -> bool {
    match error {
        RepoError::Store(error) => error.is_missing(),
        RepoError::MissingBlob { .. } | RepoError::Index(IndexError::UnknownPack(_)) => true,
        _ => false,
    }
}

/// Reads the blobs of one domain; shared by all threads.
pub struct BlobReader<'a> {
    store: Arc<dyn Storage>,
    packs: &'a PackMap,
    namer: BlobNamer,
    domain: DomainId,
    index: &'a RwLock<Index>,
    cache: Arc<ReadCache>,
    /// Tells the segments of this reader from those of others in the same cache: each verifies by its own key.
    space: u32,
    refresh: Option<Refresh<'a>>,
}

/// Brings the index into step with the store; true when it learned something.
pub type Refresh<'a> = Box<dyn Fn() -> Result<bool, RepoError> + Send + Sync + 'a>;

/// So often a reader looks in vain whether a prune has packed anew what is missing.
const VAIN_REFRESHES_MAX: u32 = 8;

impl<'a> BlobReader<'a> {
    /// A reader that keeps up to `cache_bytes` of plaintext.
    pub fn new(
        store: Arc<dyn Storage>,
        packs: &'a PackMap,
        namer: BlobNamer,
        domain: DomainId,
        index: &'a RwLock<Index>,
        cache_bytes: usize,
    ) -> BlobReader<'a> {
        let cache = Arc::new(ReadCache::new(cache_bytes));
        BlobReader { store, packs, namer, domain, index, cache, space: 0, refresh: None }
    }

    /// The same reader, but with a cache that readers of other domains and hosts use too, each in a space of its own.
    #[must_use]
    pub fn sharing(self, cache: &Arc<ReadCache>, space: u32) -> Self {
        BlobReader { cache: Arc::clone(cache), space, ..self }
    }

    /// The same reader, but where a pack is gone it looks whether a prune has packed its content anew.
    #[must_use]
    pub fn refreshing(self, refresh: Refresh<'a>) -> BlobReader<'a> {
        BlobReader { refresh: Some(refresh), ..self }
    }

    /// Where a blob lies first; the order in which a restore reads.
    pub fn locate(&self, id: &BlobId) -> Result<Option<Location>, RepoError> {
        let index = self.index.read().expect("no holder panics");
        Ok(index.lookup(&self.domain, id)?.into_iter().next())
    }

    /// Bytes of a blob, as the table of its pack says; nothing is read for it.
    pub fn length(&self, id: &BlobId) -> Result<u64, RepoError> {
        let missing = || RepoError::MissingBlob { id: *id };
        let measured = || -> Result<u64, RepoError> {
            let location = self.locate(id)?.ok_or_else(missing)?;
            let pack = self.packs.get(self.index, location.pack)?;
            let segment = pack.table.segments.get(usize::from(location.segment));
            let length = segment.and_then(|segment| segment.lengths.get(usize::from(location.position)));
            length.map(|length| u64::from(*length)).ok_or_else(missing)
        };
        match measured() {
            Err(error) if is_gone(&error) && self.learns()? => measured(),
            measured => measured,
        }
    }

    /// Reads a page of a tree.
    pub fn page(&self, id: &BlobId) -> Result<Blob, RepoError> {
        self.read(id, true)
    }

    /// Are these the bytes of the page `id`?
    pub fn proves_page(&self, id: &BlobId, bytes: &[u8]) -> bool {
        self.namer.name(BlobKind::Tree, bytes) == *id
    }

    /// Reads a piece of a file.
    pub fn data(&self, id: &BlobId) -> Result<Blob, RepoError> {
        self.read(id, false)
    }

    fn read(&self, id: &BlobId, page: bool) -> Result<Blob, RepoError> {
        match self.read_any(id, page) {
            Err(error) if is_gone(&error) && self.learns()? => self.read_any(id, page),
            read => read,
        }
    }

    /// Did the index learn of anything new?
    fn learns(&self) -> Result<bool, RepoError> {
        let Some(refresh) = &self.refresh else { return Ok(false) };
        if self.cache.refreshes_left.load(Ordering::Relaxed) == 0 {
            return Ok(false);
        }
        let learned = refresh()?;
        if !learned {
            self.cache.refreshes_left.fetch_sub(1, Ordering::Relaxed);
        }
        Ok(learned)
    }

    fn read_any(&self, id: &BlobId, page: bool) -> Result<Blob, RepoError> {
        let locations = self.index.read().expect("no holder panics").lookup(&self.domain, id)?;
        let mut first_error = None;
        for location in locations {
            match self.read_at(id, Some(page), location) {
                Ok(blob) => return Ok(blob),
                // Another copy may be whole.
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        Err(first_error.unwrap_or(RepoError::MissingBlob { id: *id }))
    }

    /// Reads one copy of a blob; with `page`, it must be a page or must not.
    pub fn read_at(&self, id: &BlobId, page: Option<bool>, location: Location) -> Result<Blob, RepoError> {
        let key = (self.space, location.pack, location.segment);
        let cached = self.cache.segments.lock().expect("no holder panics").get(key);
        let segment = match cached {
            Some(segment) => segment,
            None => {
                let segment = Arc::new(self.load(location)?);
                self.cache.segments.lock().expect("no holder panics").insert(key, Arc::clone(&segment));
                segment
            }
        };
        let position = usize::from(location.position);
        let start = position.checked_sub(1).map_or(Some(0), |before| segment.ends.get(before).copied());
        let range = start.zip(segment.ends.get(position).copied()).map(|(s, e)| s as usize..e as usize);
        let range = range.ok_or(RepoError::MissingBlob { id: *id })?;
        let name = || self.namer.name(segment.kind, &segment.plain[range.clone()]);
        if segment.names[position].get_or_init(name) != id
            || page.is_some_and(|page| page != (segment.kind == BlobKind::Tree))
        {
            let pack = self.index.read().expect("no holder panics").pack(location.pack)?;
            let detail = format!("blob {id} is not what its id promises");
            return Err(RepoError::Damaged { object: Place::Pack(pack.hash).to_string(), detail });
        }
        Ok(Blob { segment, range })
    }

    /// Loads a segment, again where it does not open: what a disk or a share gives the second time was no damage.
    fn load(&self, location: Location) -> Result<PlainSegment, RepoError> {
        match self.load_once(location) {
            Err(RepoError::Damaged { .. }) => self.load_once(location),
            Err(RepoError::Store(error)) if error.kind == StoreErrorKind::Size => self.load_once(location),
            loaded => loaded,
        }
    }

    fn load_once(&self, location: Location) -> Result<PlainSegment, RepoError> {
        let pack = self.packs.get(self.index, location.pack)?;
        let number = usize::from(location.segment);
        let damaged =
            |detail: String| RepoError::Damaged { object: Place::Pack(pack.hash).to_string(), detail };
        let segment =
            pack.table.segments.get(number).ok_or_else(|| damaged(format!("it has no segment {number}")))?;
        if !pack.opens(FrameKind::Blob(segment.kind)) {
            return Err(RepoError::NotForThisKey { object: Place::Pack(pack.hash).to_string() });
        }
        let frame = self.store.read_range(
            &Place::Pack(pack.hash),
            pack.offsets[number],
            segment.frame_bytes as usize,
        )?;
        let stored = pack
            .open_frame(FrameKind::Blob(segment.kind), number as u64, frame)
            .map_err(|error| damaged(format!("segment {number}: {error}")))?;
        let plain = compress::decompress(segment.compression, &stored, segment.plain_bytes() as usize)
            .map_err(|error| damaged(format!("segment {number}: {error}")))?
            .into_owned();
        let mut end = 0;
        let ends = segment.lengths.iter().map(|length| {
            end += length;
            end
        });
        let names = segment.lengths.iter().map(|_| OnceLock::new()).collect();
        Ok(PlainSegment { kind: segment.kind, ends: ends.collect(), plain, names })
    }
}
