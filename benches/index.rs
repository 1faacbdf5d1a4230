//! The local index at 6 million blobs: inserts a second per tenth, lookups, reads, opening, disk and memory.
//!
//! `cargo bench --bench index [BLOBS]`

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use mailark::base::clock;
use mailark::base::id::{BlobId, DomainId, ObjectHash, RepositoryId};
use mailark::index::{DeltaPack, Index, PackInfo};

const REPOSITORY: RepositoryId = RepositoryId([7; 16]);
const DOMAIN: DomainId = DomainId([1; 16]);
const PACKS_PER_DELTA: u64 = 100;
const QUESTIONS: u64 = 500_000;

fn digest(label: &[u8], number: u64) -> [u8; 32] {
    *blake3::Hasher::new().update(label).update(&number.to_le_bytes()).finalize().as_bytes()
}

fn blob(number: u64) -> BlobId {
    BlobId(digest(b"blob", number)[..16].try_into().expect("a digest has 16 bytes"))
}

fn packs(first: u64, count: u64) -> Vec<DeltaPack> {
    let per_pack = count / PACKS_PER_DELTA;
    (0..PACKS_PER_DELTA)
        .map(|pack| {
            let start = first + pack * per_pack;
            let info =
                PackInfo { hash: ObjectHash(digest(b"pack", start)), size: 32 << 20, table: vec![7; 900] };
            let blobs = (0..per_pack).map(|at| (blob(start + at), (at / 300) as u16, (at % 300) as u16));
            DeltaPack { info, blobs: blobs.collect() }
        })
        .collect()
}

fn memory(field: &str) -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap_or("unknown");
    line.split_whitespace().skip(1).collect::<Vec<_>>().join(" ")
}

fn per_second(count: u64, time: Duration) -> u64 {
    (count as f64 / time.as_secs_f64()) as u64
}

/// Processor time of all threads, which other work on the machine does not stretch as it does wall time.
fn processor_time() -> Duration {
    let spent = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(spent.tv_sec.unsigned_abs(), spent.tv_nsec as u32)
}

fn bytes_below(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).expect("the index is readable");
    entries
        .flatten()
        .map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => bytes_below(&entry.path()),
            _ => entry.metadata().map_or(0, |found| found.len()),
        })
        .sum()
}

/// Fills an index in deltas of `per_delta` blobs and prints what each tenth of it took.
fn fill(dir: &Path, blobs: u64, per_delta: u64) {
    println!("\n{blobs} blobs in deltas of {per_delta}, {PACKS_PER_DELTA} packs each");
    let mut index = Index::open(dir, &REPOSITORY).expect("a new index opens");
    let deltas = blobs / per_delta;
    let (mut whole, mut tenth, mut longest) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
    let (mut done, mut rates) = (0, Vec::new());
    let (mut work, mut costs) = (Duration::ZERO, Vec::new());
    for delta in 0..deltas {
        let packs = packs(delta * per_delta, per_delta);
        let (watch, worked) = (clock::stopwatch(), processor_time());
        index.apply(&DOMAIN, &ObjectHash(digest(b"delta", delta)), &packs).expect("a delta applies");
        let took = watch.elapsed();
        work += processor_time().saturating_sub(worked);
        (tenth, whole, longest, done) = (tenth + took, whole + took, longest.max(took), done + 1);
        if (delta + 1) * 10 / deltas > delta * 10 / deltas {
            rates.push(per_second(done * per_delta, tenth));
            costs.push(work.as_nanos() as u64 / (done * per_delta));
            (tenth, work, done) = (Duration::ZERO, Duration::ZERO, 0);
        }
    }
    println!("  inserts/s by tenth  {rates:?}");
    println!("  processor ns/insert {costs:?}");
    println!("  inserts/s in all    {}, longest apply {longest:.1?}", per_second(deltas * per_delta, whole));
    let watch = clock::stopwatch();
    index.settle().expect("merges finish");
    println!("  settle              {:.1?}", watch.elapsed());
    println!("  {:?}", index.stats());
    println!("  memory              now {}, most {}", memory("VmRSS"), memory("VmHWM"));
    let watch = clock::stopwatch();
    drop(index);
    println!("  close               {:.1?}, {} bytes on disk", watch.elapsed(), bytes_below(dir));
}

fn ask(dir: &Path, blobs: u64) {
    let watch = clock::stopwatch();
    let index = Index::open(dir, &REPOSITORY).expect("the index opens");
    println!("  open                {:.2?}", watch.elapsed());
    let watch = clock::stopwatch();
    let known = index.contains(&DOMAIN, &blob(blobs + 1)).expect("a question is answered");
    println!("  first question      {:.2?} ({known}), loads the filters", watch.elapsed());
    for (label, first, step) in [("new ids  ", blobs + 10, 1), ("known ids", 0, blobs / QUESTIONS)] {
        let ids: Vec<BlobId> = (0..QUESTIONS).map(|number| blob(first + number * step)).collect();
        let before = index.stats().page_reads;
        let watch = clock::stopwatch();
        let found = ids.iter().filter(|id| index.contains(&DOMAIN, id).expect("an answer")).count();
        let rate = per_second(QUESTIONS, watch.elapsed());
        let reads = index.stats().page_reads - before;
        println!("  contains {label}  {rate}/s, {found} found, {reads} page reads of {QUESTIONS}");
        let watch = clock::stopwatch();
        let places: usize = ids.iter().map(|id| index.lookup(&DOMAIN, id).expect("an answer").len()).sum();
        println!("  lookup   {label}  {}/s, {places} places", per_second(QUESTIONS, watch.elapsed()));
    }
}

fn forget(dir: &Path) {
    let mut index = Index::open(dir, &REPOSITORY).expect("the index opens");
    let gone = ObjectHash(digest(b"delta", 3));
    let listed: HashSet<ObjectHash> =
        index.deltas().expect("deltas").into_iter().filter(|hash| *hash != gone).collect();
    let watch = clock::stopwatch();
    index.retain(&listed).expect("a delta is forgotten");
    println!("  retain (one delta)  {:.1?}, {} locations left", watch.elapsed(), index.blob_count());
}

fn main() {
    let blobs = std::env::args().filter_map(|argument| argument.parse().ok()).next().unwrap_or(6_000_000);
    for per_delta in [30_000, 100_000, 200_000] {
        let dir = tempfile::tempdir().expect("a folder for the index");
        fill(dir.path(), blobs, per_delta);
        ask(dir.path(), blobs);
        forget(dir.path());
    }
    println!("memory                most {}", memory("VmHWM"));
}
