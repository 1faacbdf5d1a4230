use std::sync::Arc;

use serde_json::json;

use super::*;

#[test]
fn sizes_read_well_at_the_edges() {
    let cases = [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (1_048_575, "1.0 MiB"),
        (160 << 20, "160.0 MiB"),
        (u64::MAX, "16.0 EiB"),
    ];
    for (bytes, text) in cases {
        assert_eq!(size(bytes), text, "{bytes}");
    }
    assert_eq!((count(0), count(999), count(1000)), ("0".into(), "999".into(), "1,000".into()));
    assert_eq!(count(1_234_567), "1,234,567");
}

#[test]
fn times_read_well_at_the_edges() {
    let cases = [
        (350, "0.35 s"),
        (12_340, "12.3 s"),
        (125_000, "2 min 05 s"),
        (3_725_000, "1 h 02 min"),
        (273_600_000, "3 d 04 h"),
    ];
    for (milliseconds, text) in cases {
        assert_eq!(duration(Duration::from_millis(milliseconds)), text);
    }
    let now = 1_000_000_000_000_000_000;
    let second = 1_000_000_000;
    let ages = [
        (now - 30 * second, "just now"),
        (now - 90 * second, "1 min ago"),
        (now - 7200 * second, "2 h ago"),
        (now - 86_400 * 9 * second, "9 days ago"),
        (now + 3600 * second, "in the future"),
    ];
    for (then, text) in ages {
        assert_eq!(age(then, now), text);
    }
}

#[test]
fn moments_carry_their_offset_and_fraction() {
    let zone = TimeZone::fixed(jiff::tz::offset(2));
    let format = "%Y-%m-%dT%H:%M:%S%.f%:z";
    assert_eq!(in_zone(0, format, &zone), "1970-01-01T02:00:00+02:00");
    assert_eq!(in_zone(1_500_000_000, format, &zone), "1970-01-01T02:00:01.5+02:00");
    assert_eq!(in_zone(-1_000_000_000, format, &TimeZone::UTC), "1969-12-31T23:59:59+00:00");
    assert_eq!(in_zone(i128::MAX, format, &zone), format!("@{}", i128::MAX.div_euclid(1_000_000_000)));
}

#[test]
fn names_that_are_not_text_keep_their_bytes_in_json() {
    #[derive(serde::Serialize)]
    struct Entry<'a> {
        #[serde(flatten)]
        path: NameField<'a>,
        size: u64,
    }
    for (name, expected) in [
        (&b"cur/1:2,S"[..], json!({"path": "cur/1:2,S", "size": 5})),
        (b"a\xff", json!({"path": "a\u{fffd}", "path_hex": "61ff", "size": 5})),
        // The replacement character itself is text like any other.
        ("\u{fffd}".as_bytes(), json!({"path": "\u{fffd}", "size": 5})),
    ] {
        let mut object = Map::new();
        insert_name(&mut object, "path", name);
        object.insert("size".into(), 5.into());
        assert_eq!(Value::Object(object), expected);
        let entry = Entry { path: NameField { key: "path", name }, size: 5 };
        assert_eq!(serde_json::to_value(entry).unwrap(), expected);
    }
}

#[test]
fn tables_align_and_do_not_trail() {
    let mut table = Table::new(&[("id", Side::Left), ("size", Side::Right), ("name", Side::Left)]);
    table.row(vec!["a".into(), "1.0 KiB".into(), "x".into()]);
    table.row(vec!["abc".into(), "5 B".into()]);
    assert_eq!(table.lines(), ["id      size  name", "a    1.0 KiB  x", "abc      5 B"]);
}

struct Broken(io::ErrorKind);

impl Write for Broken {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(self.0.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_reader_that_left_ends_the_run_quietly_and_a_full_disk_does_not() {
    let kind_of = |error| {
        let output = Output::to(Manner::default(), Box::new(Broken(error)));
        output.line("x").unwrap_err().kind
    };
    assert_eq!(kind_of(io::ErrorKind::BrokenPipe), Kind::ReaderGone);
    assert_eq!(kind_of(io::ErrorKind::StorageFull), Kind::Storage);
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn success_is_silent_in_cron_and_told_to_people() {
    let cron = Manner::default();
    let person = Manner { stdout_terminal: true, ..cron };
    let cases = [
        (cron, ""),
        (person, "saved\n"),
        (Manner { verbose: 1, ..cron }, "saved\n"),
        (Manner { quiet: true, ..person }, ""),
        (Manner { json: true, ..person }, ""),
    ];
    for (manner, expected) in cases {
        let written = Shared::default();
        Output::to(manner, Box::new(written.clone())).summary("saved").unwrap();
        assert_eq!(written.0.lock().unwrap().as_slice(), expected.as_bytes(), "{manner:?}");
    }
}
