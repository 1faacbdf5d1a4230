use super::*;
use crate::base::interval::Interval;
use crate::mail::heading::Heading;
use crate::mail::keywords::Keywords;
use crate::mail::uidlist::Uidlist;

fn content(number: u8) -> ContentId {
    [number; 16]
}

fn hash(number: i64) -> ObjectHash {
    ObjectHash([number as u8; 32])
}

fn heading(from: &str, subject: &str) -> Heading {
    Heading {
        date: Some(1_700_000_000),
        from: from.to_owned(),
        to: "Anna <anna@x.org>".to_owned(),
        subject: subject.to_owned(),
        message_id: format!("{subject}@x"),
        ..Heading::default()
    }
}

fn facts(number: u8, from: &str, subject: &str) -> Facts {
    let heading = Some(heading(from, subject));
    Facts::new(content(number), 100 * u64::from(number), heading, false)
}

fn inbox(path: &[u8]) -> Mailfolder<'_> {
    Mailfolder { path, top: b"/v/x.org/anna", kind: Kind::Maildir, user: "anna@x.org", name: "INBOX" }
}

const HOST: HostId = HostId([7; 16]);

/// Three snapshots: message 1 arrives, is flagged, goes; message 2 arrives and moves to the archive.
fn sample() -> Catalogue {
    let mut catalogue = Catalogue::in_memory().unwrap();
    let fill = catalogue.fill().unwrap();
    let series = Series { host: HOST, host_name: "mx1".to_owned(), job: "mail".to_owned() };
    let number = fill.series(&series).unwrap();
    let folder = fill.folder(number, &inbox(b"/v/x.org/anna")).unwrap();
    let archive = Mailfolder { name: "Archive/2024", ..inbox(b"/v/x.org/anna/.Archive.2024") };
    let archive = fill.folder(number, &archive).unwrap();
    let one = fill.add_message(&facts(1, "Boss <boss@supplier.com>", "Contract 契約書")).unwrap();
    let two = fill.add_message(&facts(2, "list@y.org", "Café menu")).unwrap();
    fill.add_snapshot(number, 1, &hash(1), 1_000_000_000_000, true).unwrap();
    fill.arrive(folder, one, b"new/1.M1.mx", 500, 1).unwrap();
    fill.arrive(folder, two, b"cur/2.M2.mx:2,S", 600, 1).unwrap();
    fill.add_snapshot(number, 2, &hash(2), 2_000_000_000_000, true).unwrap();
    fill.leave(folder, b"new/1.M1.mx", 1).unwrap();
    fill.arrive(folder, one, b"cur/1.M1.mx:2,Sa", 500, 2).unwrap();
    fill.add_snapshot(number, 3, &hash(3), 3_000_000_000_000, true).unwrap();
    fill.leave(folder, b"cur/1.M1.mx:2,Sa", 2).unwrap();
    fill.leave(folder, b"cur/2.M2.mx:2,S", 2).unwrap();
    fill.arrive(archive, two, b"cur/2.M2.mx:2,S", 600, 3).unwrap();
    fill.set_keywords(folder, &Keywords::parse(b"0 work\n")).unwrap();
    fill.set_uids(folder, &Uidlist::parse(b"3 V9 N3\n1 :1.M1.mx\n2 Gabc :2.M2.mx\n").unwrap()).unwrap();
    fill.commit().unwrap();
    catalogue
}

fn subjects(catalogue: &Catalogue, query: &Query) -> Vec<String> {
    let (found, _) = catalogue.asker().unwrap().find(query, 10).unwrap();
    found.into_iter().map(|found| found.heading.unwrap().subject).collect()
}

#[test]
fn messages_are_found_by_what_people_remember() {
    let catalogue = sample();
    let both = ["Café menu", "Contract 契約書"];
    let ask = |query: Query| subjects(&catalogue, &query);
    let text = |text: &str| text.to_owned();
    assert_eq!(ask(Query::default()), both);
    for query in [
        Query { words: text("contr"), ..Query::default() },
        Query { words: text("契約"), ..Query::default() },
        Query { words: text("SUPPLIER boss"), ..Query::default() },
        Query { sender: text("boss@supplier.com"), ..Query::default() },
        Query { message_id: Some(text("Contract 契約書@x")), ..Query::default() },
        Query { content: Some(text("0101")), ..Query::default() },
        Query { content: Some(text("01010")), ..Query::default() },
        Query { size_max: Some(100), ..Query::default() },
        Query { arrived: Interval { from: Some(500), to: Some(600) }, ..Query::default() },
        Query { keyword: Some(text("Work")), ..Query::default() },
        Query { state: State::Gone, ..Query::default() },
        Query { uid: Some(1), user: Some(text("anna")), ..Query::default() },
        Query { gone: Interval { from: Some(3_000), to: None }, ..Query::default() },
    ] {
        assert_eq!(ask(query.clone()), ["Contract 契約書"], "{query:?}");
    }
    for query in [
        Query { subject: text("cafe"), ..Query::default() },
        Query { state: State::There, ..Query::default() },
        Query { folder: Some(text("archive.2024")), user: Some(text("ANNA@x.org")), ..Query::default() },
        Query { size_min: Some(101), ..Query::default() },
        Query { with_flags: b"S".to_vec(), within: vec![(1, 1)], ..Query::default() },
    ] {
        assert_eq!(ask(query.clone()), ["Café menu"], "{query:?}");
    }
    for query in [
        Query { words: text("約契"), ..Query::default() },
        Query { subject: text("boss"), ..Query::default() },
        Query { user: Some(text("bob")), ..Query::default() },
        Query { sent: Interval { from: Some(1_700_000_001), to: None }, ..Query::default() },
        Query { without_flags: b"S".to_vec(), within: vec![(1, 3)], ..Query::default() },
        Query { content: Some(text("zz")), ..Query::default() },
    ] {
        assert_eq!(ask(query.clone()), Vec::<String>::new(), "{query:?}");
    }
    let (found, more) = catalogue.asker().unwrap().find(&Query::default(), 1).unwrap();
    assert_eq!((found.len(), more), (1, true));
}

#[test]
fn stays_tell_the_history() {
    let catalogue = sample();
    let asker = catalogue.asker().unwrap();
    let (found, _) = asker.find(&Query { words: "contract".to_owned(), ..Query::default() }, 10).unwrap();
    let [first, second] = found[0].stays.as_slice() else { panic!("{found:?}") };
    assert_eq!((first.first.number, first.last.number), (1, 1));
    assert!(first.is_new() && !second.is_new());
    assert_eq!((second.first.number, second.last.number), (2, 2));
    assert_eq!(second.gone.as_ref().unwrap().number, 3);
    assert_eq!((second.flags(), second.keywords.clone()), (b"S".to_vec(), vec!["work".to_owned()]));
    assert_eq!((second.uid, second.guid.clone()), (Some((9, 1)), None));
    assert!(!found[0].is_there());
    let (found, _) = asker.find(&Query { words: "menu".to_owned(), ..Query::default() }, 10).unwrap();
    assert_eq!((found[0].stays[0].uid, found[0].stays[0].guid.as_deref()), (Some((9, 2)), Some(&b"abc"[..])));
    assert!(found[0].is_there());
    assert_eq!(found[0].newest().unwrap().folder, "Archive/2024");
}

#[test]
fn what_no_snapshot_holds_is_not_listed() {
    let mut catalogue = sample();
    let fill = catalogue.fill().unwrap();
    fill.drop_snapshot(1, 1).unwrap();
    assert_eq!(fill.sweep().unwrap(), 0);
    fill.commit().unwrap();
    let asker = catalogue.asker().unwrap();
    let (found, _) = asker.find(&Query { words: "contract".to_owned(), ..Query::default() }, 10).unwrap();
    assert_eq!(found[0].stays.len(), 1);
    let fill = catalogue.fill().unwrap();
    fill.drop_snapshot(1, 2).unwrap();
    assert_eq!(fill.sweep().unwrap(), 1);
    fill.commit().unwrap();
    assert_eq!(subjects(&catalogue, &Query::default()), ["Café menu"]);
    assert_eq!(
        subjects(&catalogue, &Query { words: "contract".to_owned(), ..Query::default() }),
        Vec::<String>::new()
    );
    let fill = catalogue.fill().unwrap();
    fill.drop_series(1).unwrap();
    assert_eq!(fill.sweep().unwrap(), 1);
    fill.commit().unwrap();
    assert!(catalogue.is_empty().unwrap());
    assert_eq!(catalogue.count().unwrap(), (0, 0));
}

#[test]
fn a_head_that_comes_later_is_added() {
    let mut catalogue = Catalogue::in_memory().unwrap();
    let fill = catalogue.fill().unwrap();
    let series = Series { host: HOST, host_name: "mx1".to_owned(), job: "mail".to_owned() };
    let number = fill.series(&series).unwrap();
    fill.add_snapshot(number, 1, &hash(1), 0, true).unwrap();
    let folder = fill.folder(number, &inbox(b"/v/x.org/anna")).unwrap();
    let bare = Facts { heading: None, ..facts(1, "", "") };
    let message = fill.add_message(&bare).unwrap();
    fill.arrive(folder, message, b"cur/1.M1.mx:2,", 1, 1).unwrap();
    let opaque = Facts { opaque: true, heading: None, ..facts(2, "", "") };
    let opaque = fill.add_message(&opaque).unwrap();
    fill.arrive(folder, opaque, b"cur/2.M2.mx:2,", 1, 1).unwrap();
    let unread = fill.unread(&HOST, 10).unwrap();
    assert_eq!(unread, [(content(1), 100, b"/v/x.org/anna/cur/1.M1.mx:2,".to_vec())]);
    assert_eq!(fill.add_message(&facts(1, "a@b", "late")).unwrap(), message);
    assert_eq!(fill.add_message(&facts(1, "a@b", "twice")).unwrap(), message);
    assert_eq!(fill.unread(&HOST, 10).unwrap(), []);
    fill.commit().unwrap();
    assert_eq!(subjects(&catalogue, &Query { words: "late".to_owned(), ..Query::default() }), ["late"]);
}

#[test]
fn it_lives_in_one_file_that_is_made_anew_when_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let id = RepositoryId([1; 16]);
    let mut catalogue = Catalogue::open(dir.path(), &id).unwrap();
    let fill = catalogue.fill().unwrap();
    fill.set_fact("users", b"x").unwrap();
    fill.commit().unwrap();
    assert!(!Catalogue::exists(dir.path(), &id), "before it is finished");
    assert!(matches!(Catalogue::open(dir.path(), &id), Err(IndexError::Busy)), "one makes it");
    catalogue.finish().unwrap();
    drop(catalogue);
    let again = Catalogue::open(dir.path(), &id).unwrap();
    assert_eq!(again.fact("users").unwrap(), Some(b"x".to_vec()));
    drop(again);
    let path = path_of(dir.path(), &id);
    std::fs::write(&path, b"no database at all").unwrap();
    let anew = Catalogue::open(dir.path(), &id).unwrap();
    assert_eq!(anew.fact("users").unwrap(), None);
    std::mem::forget(anew);
    Catalogue::wipe(dir.path(), &id);
    let mut after = Catalogue::open(dir.path(), &id).unwrap();
    after.finish().unwrap();
    drop(after);
    Catalogue::wipe(dir.path(), &id);
    assert!(std::fs::read_dir(path.parent().unwrap()).unwrap().next().is_none());
}

#[test]
fn one_fills_it_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let id = RepositoryId([1; 16]);
    let first = FillLock::wait(dir.path(), &id).unwrap();
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let second = FillLock::wait(dir.path(), &id).unwrap();
            sender.send("second").unwrap();
            drop(second);
        });
        assert!(receiver.recv_timeout(Duration::from_millis(200)).is_err(), "the first one has it");
        drop(first);
        assert_eq!(receiver.recv().unwrap(), "second");
    });
}
