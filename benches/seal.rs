//! How fast blobs are named, and frames sealed and opened, on one core: `cargo bench --bench seal`.

use std::hint::black_box;
use std::time::{Duration, Instant};

use mailark::base::id::HostId;
use mailark::crypto::blob_id::BlobNamer;
use mailark::crypto::pack::PackKeys;
use mailark::crypto::slot::{Secret, SlotDetails, create_slot, open_slot};
use mailark::format::content::BlobKind;
use mailark::format::keyset::{FullKeys, KeySet};

const ROUNDS: usize = 5;
const BYTES_PER_ROUND: usize = 256 << 20;

/// The best of some rounds: the machine is shared.
fn best(mut round: impl FnMut() -> Duration) -> Duration {
    (0..ROUNDS).map(|_| round()).min().expect("there is a round")
}

fn gigabytes_per_second(name: &str, size: usize, mut work: impl FnMut()) {
    let count = BYTES_PER_ROUND / size;
    let taken = best(|| {
        let start = Instant::now();
        (0..count).for_each(|_| work());
        start.elapsed()
    });
    println!("{name:<10} {size:>8} bytes  {:>6.2} GB/s", (count * size) as f64 / taken.as_secs_f64() / 1e9);
}

fn microseconds(name: &str, count: u32, mut work: impl FnMut()) {
    let taken = best(|| {
        let start = Instant::now();
        (0..count).for_each(|_| work());
        start.elapsed()
    });
    println!("{name:<27} {:>6.1} us", taken.as_secs_f64() * 1e6 / f64::from(count));
}

fn main() {
    let full = FullKeys::generate();
    let host = HostId([0x44; 16]);
    let writer = full.writer(host, host.own_domain());
    let namer = BlobNamer::new(&writer.id_key, &host);
    let (pack, envelope) = PackKeys::create(&writer).expect("generated keys are sound");
    let cipher = pack.frame_cipher(BlobKind::Text).expect("the sealer has every key");
    for size in [4 << 10, 1 << 20] {
        let plain: Vec<u8> = (0..size).map(|index| ((index * 31) >> 3) as u8).collect();
        gigabytes_per_second("name", size, || {
            black_box(namer.name(BlobKind::Text, black_box(&plain)));
        });
        let mut frame = plain.clone();
        let mut position = 0;
        gigabytes_per_second("seal", size, || {
            frame.truncate(size);
            cipher.seal_in_place(&pack.context(BlobKind::Text, position), &mut frame);
            position += 1;
        });
        let context = pack.context(BlobKind::Text, position);
        frame.truncate(size);
        cipher.seal_in_place(&context, &mut frame);
        // Opening turns the frame into plaintext, so it needs a copy of the sealed bytes each time.
        let mut opened = Vec::with_capacity(frame.len());
        gigabytes_per_second("open+copy", size, || {
            opened.clear();
            opened.extend_from_slice(&frame);
            cipher.open_in_place(&context, &mut opened).expect("the frame was sealed here");
        });
    }
    let keys = KeySet::Full(full.clone());
    microseconds("create pack keys", 500, || {
        black_box(PackKeys::create(&writer).expect("generated keys are sound"));
    });
    microseconds("open pack keys (full)", 500, || {
        black_box(PackKeys::open(&keys, &envelope).expect("the envelope was made here"));
    });
    let details = SlotDetails::default();
    for (name, secret, count) in [
        ("open slot (key file)", Secret::KeyFile((0..32).collect()), 500),
        ("open slot (password)", Secret::Password("mailark".into()), 2),
    ] {
        let (_, bytes) = create_slot(&full, &keys, &secret, &details).expect("the secret is usable");
        microseconds(name, count, || {
            black_box(open_slot(&bytes, &secret).expect("the slot was made here"));
        });
    }
}
