//! How fast files are cut and joined on one core, without hashing, compression or storage.
//!
//! `cargo bench --bench split` prints a line per workload; `cargo bench --bench split -- mail` only those
//! whose name holds "mail".

use std::collections::HashMap;
use std::convert::Infallible;
use std::hint::black_box;
use std::time::Instant;

use mailark::base::id::BlobId;
use mailark::chunk::{BlobSource, Hint, Sink, Splitter, join};
use mailark::format::content::{BlobKind, Section};

const ROUNDS: usize = 7;

/// Numbers the blobs, keeps them when asked to.
#[derive(Default)]
struct Counting {
    next: u64,
    keep: bool,
    blobs: HashMap<BlobId, Vec<u8>>,
    sections: Vec<Section>,
}

impl Sink for Counting {
    type Error = Infallible;

    fn blob(&mut self, _kind: BlobKind, data: &[u8]) -> Result<BlobId, Infallible> {
        self.next += 1;
        let mut id = BlobId::default();
        id.0[..8].copy_from_slice(&self.next.to_le_bytes());
        if self.keep {
            self.blobs.insert(id, data.to_vec());
        }
        Ok(id)
    }

    fn section(&mut self, section: Section) -> Result<(), Infallible> {
        if self.keep {
            self.sections.push(section);
        } else {
            black_box(section);
        }
        Ok(())
    }
}

/// Lends blobs without copying them.
struct Lent<'a>(&'a HashMap<BlobId, Vec<u8>>);

impl<'a> BlobSource for Lent<'a> {
    type Blob = &'a [u8];
    type Error = ();

    fn blob(&mut self, id: &BlobId) -> Result<&'a [u8], ()> {
        self.0.get(id).map(Vec::as_slice).ok_or(())
    }
}

struct Workload {
    name: &'static str,
    hint: Hint,
    files: Vec<Vec<u8>>,
}

/// Bytes without pattern, the same for the same seed.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

fn header(number: u64) -> String {
    let mut header = format!("Return-Path: <user{number}@example.org>\n");
    for hop in 0..4 {
        header += &format!(
            "Received: from mx{hop}.example.org (mx{hop}.example.org [192.0.2.{hop}])\n\
             \tby mail.example.net (Postfix) with ESMTPS id {number:016X}\n\
             \tfor <user@example.net>; Thu, 22 Aug 2002 12:36:23 +0200 (CEST)\n"
        );
    }
    header
        + &format!(
            "Message-ID: <{number}@example.org>\nDate: Thu, 22 Aug 2002 12:36:23 +0200\n\
             From: Some Body <user{number}@example.org>\nTo: user@example.net\nSubject: the plan {number}\n\
             MIME-Version: 1.0\n"
        )
}

fn text(length: usize) -> String {
    let line = "The quick brown fox jumps over the lazy dog -- and then it goes home again.\n";
    line.repeat(length.div_ceil(line.len()))
}

fn plain(number: u64, length: usize) -> Vec<u8> {
    format!("{}Content-Type: text/plain\n\n{}", header(number), text(length)).into_bytes()
}

fn multipart(number: u64, length: usize) -> Vec<u8> {
    let body = text(length / 2);
    format!(
        "{}Content-Type: multipart/alternative;\n\tboundary=\"=_b{number}\"\n\n--=_b{number}\n\
         Content-Type: text/plain\n\n{body}\n--=_b{number}\nContent-Type: text/html\n\n{body}\n--=_b{number}--\n",
        header(number)
    )
    .into_bytes()
}

fn attached(number: u64, length: usize, ending: &str) -> Vec<u8> {
    let encoded = base64_simd::STANDARD.encode_to_string(noise(number, length));
    let lines: Vec<&str> = encoded
        .as_bytes()
        .chunks(76)
        .map(|line| std::str::from_utf8(line).expect("base64 is ASCII"))
        .collect();
    format!(
        "{}Content-Type: multipart/mixed;\n\tboundary=\"=_b\"\n\n--=_b\nContent-Type: text/plain\n\n{}\n--=_b\n\
         Content-Type: application/pdf\nContent-Transfer-Encoding: base64\n\n",
        header(number),
        text(1500)
    )
    .replace('\n', ending)
    .into_bytes()
    .into_iter()
    .chain(lines.join(ending).into_bytes())
    .chain(format!("{ending}--=_b--{ending}").into_bytes())
    .collect()
}

fn mbox(messages: u64) -> Vec<u8> {
    (0..messages)
        .flat_map(|number| {
            [&b"From a@example.org Thu Aug 22 12:36:23 2002\n"[..], &plain(number, 3000), b"\n"].concat()
        })
        .collect()
}

fn workloads() -> Vec<Workload> {
    let make = |name, hint, files| Workload { name, hint, files };
    vec![
        make("mail plain 4 KB", Hint::Message, (0..8000).map(|n| plain(n, 3000)).collect()),
        make("mail plain 60 KB", Hint::Message, (0..600).map(|n| plain(n, 60_000)).collect()),
        make("mail multipart 10 KB", Hint::Message, (0..4000).map(|n| multipart(n, 9000)).collect()),
        make("mail base64 140 KB LF", Hint::Message, (0..300).map(|n| attached(n, 100_000, "\n")).collect()),
        make(
            "mail base64 140 KB CRLF",
            Hint::Message,
            (0..300).map(|n| attached(n, 100_000, "\r\n")).collect(),
        ),
        make("mail base64 27 MB", Hint::Message, (0..2).map(|n| attached(n, 20 << 20, "\n")).collect()),
        make("mbox", Hint::Detect, vec![mbox(10_000)]),
        make("file 64 MB", Hint::Bytes, vec![noise(1, 64 << 20)]),
    ]
}

fn split_all(work: &Workload, splitter: &mut Splitter, sink: &mut Counting) {
    for file in &work.files {
        splitter.begin(work.hint);
        for slice in file.chunks(1 << 20) {
            splitter.push(slice, sink).expect("the sink takes all");
        }
        black_box(splitter.finish(sink).expect("the sink takes all"));
    }
}

fn best(bytes: usize, mut run: impl FnMut()) -> f64 {
    let rounds = (0..ROUNDS).map(|_| {
        let began = Instant::now();
        run();
        began.elapsed().as_secs_f64()
    });
    bytes as f64 / 1e6 / rounds.fold(f64::INFINITY, f64::min)
}

fn main() {
    let filter = std::env::args().skip(1).find(|argument| !argument.starts_with("--")).unwrap_or_default();
    println!("{:<26}{:>12}{:>12}", "", "split MB/s", "join MB/s");
    for work in workloads().into_iter().filter(|work| work.name.contains(&filter)) {
        let bytes = work.files.iter().map(Vec::len).sum();
        let mut splitter = Splitter::new([7; 32]);
        let mut sink = Counting::default();
        let split = best(bytes, || split_all(&work, &mut splitter, &mut sink));
        let mut kept = Counting { keep: true, ..Counting::default() };
        split_all(&work, &mut splitter, &mut kept);
        let joined = best(bytes, || {
            for section in &kept.sections {
                let written = join(section, &mut Lent(&kept.blobs), |part| {
                    black_box(part);
                    Ok::<_, Infallible>(())
                });
                assert!(written.is_ok());
            }
        });
        println!("{:<26}{split:>12.0}{joined:>12.0}", work.name);
    }
}
