//! Folders that are made, keywords, names, and letters that are there already in one way or another.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use super::site::{SLASH, Site, Ways, ask, letter, message, restored};
use crate::support::{skipped, write_private};

const ACL: &str = "mail_plugins = acl\nprotocol imap {\n  mail_plugins = acl imap_acl\n}\nplugin {\n  acl = vfile\n}\n\
                   namespace inbox {\n  inbox = yes\n  separator = /\n}\n";

/// The names of the folders that a session lists, or that are subscribed.
fn listed(site: &Site, command: &str) -> Vec<String> {
    let lines = ask(&mut site.session(), &format!("{command} \"\" \"*\""));
    lines.iter().filter_map(|line| Some(line.rsplit_once("\" ")?.1.trim_matches('"').to_owned())).collect()
}

#[test]
fn a_new_folder_is_seen_and_subscribed_once() {
    for ways in [
        Ways::default(),
        Ways { settings: ACL, ..Ways::default() },
        Ways { settings: ACL, control: true, ..Ways::default() },
        Ways { settings: ACL, control: true, fs: true },
    ] {
        let Some(site) = Site::new("a new folder is seen", ways) else { return };
        if !ways.settings.is_empty() && !Path::new("/usr/lib/dovecot/modules/lib01_acl_plugin.so").exists() {
            return skipped("a new folder under ACLs", "the acl plugin of Dovecot is not installed");
        }
        let separator = if ways.settings.is_empty() { "." } else { "/" };
        site.deliver("INBOX", &message(1));
        drop(site.session());
        if !ways.settings.is_empty() {
            fs::write(site.mail.join("dovecot-acl"), "owner lrwstipekxa\nuser=bob lr\n").unwrap();
        }
        fs::set_permissions(&site.mail, PermissionsExt::from_mode(0o2770)).unwrap();
        let folder = restored(&site, separator);
        for number in 2..4 {
            site.give_back(&[letter("INBOX", &format!("17.M{number}P1.mx"), &message(number))], &[]);
            assert!(listed(&site, "LIST").contains(&folder), "{:?}", listed(&site, "LIST"));
            let subscribed = listed(&site, "LSUB");
            assert_eq!(subscribed.iter().filter(|name| **name == folder).count(), 1, "{subscribed:?}");
        }
        assert_eq!(site.view(&folder).messages.len(), 2);
        // As a client makes one, in everything that can be seen.
        ask(&mut site.session(), "CREATE Made");
        let below = |folder: &str| match ways.fs {
            true => site.mail.join(folder),
            false => site.mail.join(format!(".{}", folder.replace('/', "."))),
        };
        let (made, ours) = (below("Made"), below(&folder));
        for part in ["", "cur", "new", "tmp", "maildirfolder"] {
            let seen = |folder: &Path| {
                fs::metadata(folder.join(part)).ok().map(|meta| (meta.mode(), meta.uid(), meta.gid()))
            };
            assert_eq!(seen(&made), seen(&ours), "{part}");
        }
        let message = fs::read_dir(ours.join("cur")).unwrap().next().unwrap().unwrap().metadata().unwrap();
        let inbox = fs::metadata(&site.mail).unwrap();
        assert_eq!((message.mode() & 0o777, message.uid()), (0o660, inbox.uid()));
        assert_eq!((message.mtime(), message.mtime_nsec()), (1_700_000_000, 5));
        assert_eq!(ours.join("dovecot-acl").exists(), !ways.settings.is_empty());
    }
}

#[test]
fn a_folder_that_is_gone_is_made_again_with_its_keywords() {
    for control in [false, true] {
        let ways = Ways { control, settings: SLASH, ..Ways::default() };
        let Some(site) = Site::new("a folder that is gone", ways) else { return };
        ask(&mut site.session(), "CREATE Entw&APw-rfe/2024");
        site.deliver("Entwürfe/2024", &message(1));
        let mut session = site.session();
        ask(&mut session, "SELECT Entw&APw-rfe/2024");
        ask(&mut session, "STORE 1 +FLAGS (work $Forwarded)");
        drop(session);
        let was = site.view("Entw&APw-rfe/2024");
        let letters = site.letters();
        ask(&mut site.session(), "DELETE Entw&APw-rfe/2024");
        assert!(site.view_of("Entw&APw-rfe/2024").is_none());
        let report = site.give_back(&letters, &["--into", "original"]);
        assert_eq!(report["folders"]["Entwürfe/2024"], 1, "{report}");
        let now = site.view("Entw&APw-rfe/2024");
        assert_eq!(now.only(), was.only());
        assert!(listed(&site, "LSUB").contains(&"Entw&APw-rfe/2024".to_owned()));
        assert_eq!(site.dovecot.complaints(), Vec::<String>::new());
    }
}

/// A `doveadm` that needs no daemon: the same program on the same mailbox.
fn doveadm(site: &Site) -> String {
    let path = site.env.path("doveadm");
    let real = site.dovecot.command("doveadm", "alice", &site.location());
    let quoted = |word: &std::ffi::OsStr| format!("'{}'", word.to_str().unwrap());
    let words: Vec<String> = std::iter::once(real.get_program()).chain(real.get_args()).map(quoted).collect();
    let home = real.get_envs().find(|(name, _)| *name == "HOME").unwrap().1.unwrap();
    // Users are a matter of the daemon, which is not there.
    let script = format!(
        "#!/bin/bash\nargs=()\nwhile [ $# -gt 0 ]; do if [ \"$1\" = -u ]; then shift 2; else args+=(\"$1\"); shift; fi; \
         done\ncd /; export USER=alice HOME={}; exec {} \"${{args[@]}}\"\n",
        home.to_str().unwrap(),
        words.join(" ")
    );
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    format!("bash {}", path.display())
}

#[test]
fn keywords_that_a_live_folder_does_not_know_are_set_by_the_server_or_named() {
    for (with_doveadm, settings) in [(false, ""), (true, ""), (true, SLASH)] {
        let Some(site) = Site::new("keywords", Ways { settings, ..Ways::default() }) else { return };
        site.deliver("INBOX", &message(1));
        let mut session = site.session();
        ask(&mut session, "SELECT INBOX");
        ask(&mut session, "STORE 1 +FLAGS (known)");
        let (mut given, _) = (letter("INBOX", "1700000000.M2P1.mx", &message(2)), ());
        given.0.keywords =
            vec![Some(b"known".to_vec()), Some(b"$Strange".to_vec()), Some(b"other".to_vec()), None];
        let keywords = fs::read(site.mail.join("dovecot-keywords")).unwrap();
        let doveadm = with_doveadm.then(|| doveadm(&site));
        let mut more = vec!["--into", "original"];
        more.extend(doveadm.iter().flat_map(|doveadm| ["--doveadm", doveadm]));
        let output = site.apply(&super::site::stream(&[given]), &more).expect(0);
        let report = output.json()["deliveries"][0].take();
        assert_eq!(report["brought"], 1);
        ask(&mut session, "NOOP");
        drop(session);
        let view = site.view("INBOX");
        let flags = &view.messages[&2].flags;
        match with_doveadm {
            true => {
                assert_eq!(report["keywords_left"], serde_json::json!({}), "{}", output.both());
                assert_eq!(flags, &["$Strange", "\\Seen", "known", "other"]);
            }
            false => {
                assert_eq!(report["keywords_left"], serde_json::json!({"$Strange": 1, "other": 1}));
                assert_eq!(flags, &["\\Seen", "known"]);
                assert_eq!(fs::read(site.mail.join("dovecot-keywords")).unwrap(), keywords);
            }
        }
        assert_eq!(view.messages[&1].flags, ["known"]);
    }
}

#[test]
fn a_doveadm_that_fails_is_named() {
    let Some(site) = Site::new("a doveadm that fails", Ways::default()) else { return };
    site.deliver("INBOX", &message(1));
    let config = site.env.path("home/config/mailark");
    fs::create_dir_all(&config).unwrap();
    write_private(
        &config.join("mailark.toml"),
        b"doveadm = [\"sh\", \"-c\", \"echo Error: no mail today >&2\"]\n",
    );
    let mut given = letter("INBOX", "1700000000.M2P1.mx", &message(2));
    given.0.keywords = vec![Some(b"strange".to_vec())];
    let report = site.give_back(&[given], &["--into", "original"]);
    assert_eq!(report["keywords_left"]["strange"], 1);
    assert!(report["doveadm_failed"].as_str().unwrap().contains("no mail today"), "{report}");
}

#[test]
fn the_same_name_with_another_content_is_another_message() {
    let Some(site) = Site::new("the same name, another content", Ways::default()) else { return };
    site.deliver("INBOX", &message(1));
    let mut letters = site.letters();
    // Same length, other bytes: only a comparison to the end tells.
    let last = letters[0].1.len() - 2;
    letters[0].1[last] = b'!';
    for (brought, there) in [(1, 0), (0, 1)] {
        let report = site.give_back(&letters, &["--into", "original"]);
        assert_eq!(
            (report["brought"].as_u64(), report["still_there_count"].as_u64()),
            (Some(brought), Some(there))
        );
    }
    let view = site.view("INBOX");
    assert_eq!(view.messages.len(), 2);
    assert!(
        view.texts().iter().any(|text| text.ends_with("!\n"))
            && view.texts().iter().any(|text| !text.ends_with("!\n"))
    );
    assert_eq!(site.dovecot.complaints(), Vec::<String>::new());
}

#[test]
fn letters_without_a_name_get_one_and_come_once() {
    let Some(site) = Site::new("letters without a name", Ways::default()) else { return };
    site.deliver("INBOX", &message(1));
    let letters: Vec<_> = (2..5).map(|number| letter("INBOX", "", &message(number))).collect();
    for brought in [3, 0] {
        assert_eq!(site.give_back(&letters, &["--into", "original"])["brought"], brought);
    }
    let view = site.view("INBOX");
    assert_eq!(view.messages.len(), 4);
    for (_, bytes) in &letters {
        assert!(view.texts().contains(&std::str::from_utf8(bytes).unwrap()));
    }
    // Sizes in the names are believed by the server.
    let sizes = ask(
        &mut {
            let mut session = site.session();
            ask(&mut session, "SELECT INBOX");
            session
        },
        "FETCH 2:4 (RFC822.SIZE)",
    );
    assert_eq!(sizes.len(), 3);
    assert_eq!(site.dovecot.complaints(), Vec::<String>::new());
}

#[test]
fn copies_of_one_message_come_back_to_each_folder() {
    let Some(site) = Site::new("copies of one message", Ways::default()) else { return };
    ask(&mut site.session(), "CREATE Work");
    site.deliver("INBOX", &message(1));
    let mut session = site.session();
    ask(&mut session, "SELECT INBOX");
    ask(&mut session, "COPY 1 Work");
    drop(session);
    let letters = site.letters();
    assert_eq!(letters[0].0.base, letters[1].0.base, "a copy keeps its name");
    site.expunge("INBOX", 1);
    site.expunge("Work", 1);
    assert_eq!(site.give_back(&letters, &["--into", "original"])["brought"], 2);
    assert_eq!((site.view("INBOX").messages.len(), site.view("Work").messages.len()), (1, 1));
    // One is gone, the other still there: that is said, and nothing doubled.
    let uid = *site.view("Work").messages.keys().next().unwrap();
    site.expunge("Work", uid);
    let report = site.give_back(&letters, &["--into", "original"]);
    assert_eq!((report["brought"].as_u64(), report["still_there_count"].as_u64()), (Some(0), Some(2)));
    assert!(
        report["still_there"].as_array().unwrap().iter().all(|there| there["lies_in"] == "INBOX"),
        "{report}"
    );
}

#[test]
fn a_message_that_the_server_renamed_is_known_by_its_guid() {
    let Some(site) = Site::new("known by its GUID", Ways::default()) else { return };
    ask(&mut site.session(), "CREATE Work");
    site.deliver("INBOX", &message(1));
    let mut session = site.session();
    ask(&mut session, "SELECT INBOX");
    // The second copy into one folder cannot keep the name.
    ask(&mut session, "COPY 1 Work");
    ask(&mut session, "COPY 1 Work");
    drop(session);
    let list = fs::read_to_string(site.mail.join(".Work/dovecot-uidlist")).unwrap();
    assert!(list.lines().skip(1).any(|line| line.contains(" G")), "{list}");
    let letters = site.letters();
    site.expunge("INBOX", 1);
    site.expunge("Work", 1);
    let report = site.give_back(&letters[..1], &["--into", "original"]);
    assert_eq!(report["still_there"][0]["lies_in"], "Work", "{report}");
}

#[test]
fn mail_of_one_user_goes_to_another_and_never_by_accident() {
    let Some(site) = Site::new("mail of one user to another", Ways::default()) else { return };
    site.deliver("INBOX", &message(1));
    let mut old = letter("INBOX", "17.M2P1.mx", &message(2));
    old.0.user = "old@x.org".to_owned();
    let both = super::site::stream(&[letter("INBOX", "17.M3P1.mx", &message(3)), old.clone()]);
    site.apply(&both, &["--into", "original"]).expect(1).naming("messages of two users");
    site.apply(&both, &["--into", "original", "--map-user", "old@x.org=alice"]).expect(0);
    assert_eq!(site.view("INBOX").messages.len(), 3);
    // By a template, each to their own.
    let (users, input) = (site.env.path("users"), site.env.path("stream"));
    for part in ["cur", "new", "tmp"] {
        fs::create_dir_all(users.join("y.org/new/Maildir").join(part)).unwrap();
    }
    fs::write(&input, super::site::stream(&[old])).unwrap();
    let template = format!("{}/%d/%n/Maildir", users.display());
    let mut command =
        site.env.command(["apply", "--mailbox", &template, "--map-user", "old@x.org=new@y.org"]);
    crate::support::run(command.stdin(fs::File::open(&input).unwrap())).expect(0);
    assert_eq!(
        crate::support::files_below(&users)
            .iter()
            .filter(|path| path.ends_with("cur/17.M2P1.mx:2,S"))
            .count(),
        1
    );
}

#[test]
fn a_message_marked_to_be_deleted_comes_back_without_the_mark() {
    let Some(site) = Site::new("without the mark", Ways::default()) else { return };
    site.deliver("INBOX", &message(1));
    let mut marked = letter("INBOX", "17.M2P1.mx", &message(2));
    marked.0.flags = b"FT".to_vec();
    let report = site.give_back(&[marked], &["--into", "original"]);
    assert_eq!(report["undeleted"], 1);
    assert_eq!(site.view("INBOX").messages[&2].flags, ["\\Flagged"]);
}

struct Calm<'s>(&'s AtomicBool);

impl Drop for Calm<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn while_the_server_moves_everything_nothing_is_harmed() {
    let Some(site) = Site::new("while the server moves everything", Ways::default()) else { return };
    ask(&mut site.session(), "CREATE Work");
    for number in 1..=20 {
        site.deliver("INBOX", &message(number));
    }
    let letters: Vec<_> = (0..300)
        .map(|number| {
            letter("INBOX", &format!("1700000000.M{number}P1.mx"), &format!("N: {number}\n\nback\n"))
        })
        .collect();
    let stop = AtomicBool::new(false);
    let mut shown = std::collections::BTreeMap::new();
    std::thread::scope(|scope| {
        // Also when something below fails; else the other would go on for ever.
        let calm = Calm(&stop);
        let busy = scope.spawn(|| {
            let mut number = 100;
            while !stop.load(Ordering::Relaxed) {
                site.deliver("INBOX", &message(number));
                number += 1;
                let mut session = site.session();
                ask(&mut session, "SELECT INBOX");
                ask(&mut session, "STORE 1:10 +FLAGS (\\Seen)");
                ask(&mut session, "STORE 1:10 -FLAGS (\\Seen)");
                ask(&mut session, "COPY 1 Work");
                ask(&mut session, "STORE 1 +FLAGS (\\Deleted)");
                ask(&mut session, "EXPUNGE");
            }
            number - 100
        });
        for chunk in letters.chunks(75) {
            site.give_back(chunk, &["--into", "original"]);
            // Whatever was shown once keeps its UID.
            for (uid, seen) in site.view("INBOX").messages {
                let before = shown.entry(uid).or_insert_with(|| seen.text.clone());
                assert_eq!(*before, seen.text, "UID {uid}");
            }
        }
        drop(calm);
        let delivered = busy.join().unwrap();
        let view = site.view("INBOX");
        for (uid, seen) in &view.messages {
            assert!(shown.get(uid).is_none_or(|before| *before == seen.text), "UID {uid}");
        }
        // Each round of the other took one away, and none twice.
        let here = view.messages.len() + site.view("Work").messages.len();
        assert_eq!(here, 20 + 300 + delivered as usize);
        let back = view
            .texts()
            .iter()
            .chain(&site.view("Work").texts())
            .filter(|text| text.ends_with("back\n"))
            .count();
        assert_eq!(back, 300);
    });
    assert_eq!(site.dovecot.complaints(), Vec::<String>::new());
}

#[test]
fn quotas_count_what_comes_and_goes() {
    let Some(site) = Site::new("quotas", Ways::default()) else { return };
    site.deliver("INBOX", &message(1));
    let size = site.mail.join("maildirsize");
    fs::write(&size, "1000000S\n66 1\n").unwrap();
    let letters = [letter("INBOX", "17.M2P1.mx", &message(2)), letter("Work", "17.M3P1.mx", &message(3))];
    let bytes: usize = letters.iter().map(|(_, bytes)| bytes.len()).sum();
    let run = site.give_back(&letters, &[])["run"].as_str().unwrap().to_owned();
    site.env.mailark(["restore", "--undo", &run]).expect(0);
    site.env.mailark(["restore", "--redo", &run]).expect(0);
    let wanted = format!("1000000S\n66 1\n{bytes} 2\n-{bytes} -2\n{bytes} 2\n");
    assert_eq!(fs::read_to_string(&size).unwrap(), wanted);
}

#[test]
fn mailark_toml_says_where_mailboxes_lie() {
    let env = crate::support::TestEnv::new();
    let (users, control) = (env.path("vmail"), env.path("control"));
    for part in ["cur", "new", "tmp"] {
        fs::create_dir_all(users.join("x.org/alice").join(part)).unwrap();
    }
    fs::create_dir_all(control.join("x.org/alice")).unwrap();
    let config = env.folder("home/config/mailark");
    let text =
        format!("mail = [\"{0}/%d/%n\"]\ncontrol = [\"{1}/%d/%n\"]\n", users.display(), control.display());
    write_private(&config.join("mailark.toml"), text.as_bytes());
    let mut given = letter("INBOX", "17.M2P1.mx", &message(2));
    let mut apply = |user: &str| {
        given.0.user = user.to_owned();
        fs::write(env.path("stream"), super::site::stream(&[given.clone()])).unwrap();
        crate::support::run(env.command(["apply"]).stdin(fs::File::open(env.path("stream")).unwrap()))
    };
    apply("alice@x.org").expect(0);
    assert!(fs::read_to_string(control.join("x.org/alice/subscriptions")).unwrap().contains("Restored"));
    apply("bob@x.org").expect(1).naming("nothing says where the mail of bob@x.org lies");
}

#[test]
fn a_dry_run_tells_and_changes_nothing() {
    let Some(site) = Site::new("a dry run", Ways::default()) else { return };
    site.deliver("INBOX", &message(1));
    let mut letters = site.letters();
    letters.push(letter("Work", "17.M3P1.mx", &message(3)));
    let all = || crate::support::files_below(&site.mail);
    let before = all();
    let report = site.give_back(&letters, &["--dry-run"]);
    assert_eq!(
        (report["brought"].as_u64(), report["still_there_count"].as_u64()),
        (Some(1), Some(1)),
        "{report}"
    );
    assert_eq!(all(), before);
    assert_eq!(site.env.mailark(["restore", "--runs", "--json"]).expect(0).json(), serde_json::json!([]));
}

#[test]
fn a_folder_that_a_client_makes_meanwhile_takes_the_letters() {
    let Some(site) = Site::new("a folder made meanwhile", Ways::default()) else { return };
    // Dovecot makes the mailbox when it opens the inbox.
    ask(&mut site.session(), "SELECT INBOX");
    let letters: Vec<_> = (1..=2)
        .map(|number| {
            let mut one = letter("Gone", &format!("17.M{number}P1.mx"), &message(number));
            one.0.keywords = vec![Some(b"ours".to_vec()), Some(b"theirs".to_vec())];
            one
        })
        .collect();
    let stream = super::site::stream(&letters);
    let input = site.env.path("stream");
    fs::write(&input, b"").unwrap();
    let mut command = site.apply_command(&input, &["--into", "original"]);
    let mut child =
        command.stdin(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let mut pipe = child.stdin.take().unwrap();
    // All but the frame that ends the stream.
    let (most, end) = stream.split_at(stream.len() - 4);
    std::io::Write::write_all(&mut pipe, most).unwrap();
    let staged = || {
        let names = fs::read_dir(&site.mail).unwrap().map(|entry| entry.unwrap().file_name());
        names.filter(|name| name.to_string_lossy().starts_with("mailark-")).count() > 0
    };
    crate::support::wait_until("a folder of ours", || {
        if child.try_wait().unwrap().is_some() {
            let mut told = String::new();
            std::io::Read::read_to_string(child.stderr.as_mut().unwrap(), &mut told).unwrap();
            panic!("it ended: {told}");
        }
        staged()
    });
    let mut session = site.session();
    ask(&mut session, "CREATE Gone");
    site.deliver("Gone", &message(7));
    ask(&mut session, "SELECT Gone");
    ask(&mut session, "STORE 1 +FLAGS (theirs)");
    drop(session);
    std::io::Write::write_all(&mut pipe, end).unwrap();
    drop(pipe);
    let report = crate::support::finished(child).expect(0).json()["deliveries"][0].take();
    assert_eq!(report["keywords_left"], serde_json::json!({"ours": 2}), "{report}");
    let view = site.view("Gone");
    let flags: Vec<_> = view.messages.values().map(|seen| seen.flags.join(" ")).collect();
    assert_eq!(flags, ["theirs", "\\Seen theirs", "\\Seen theirs"]);
    site.env.mailark(["restore", "--undo", report["run"].as_str().unwrap()]).expect(0);
    assert_eq!(site.view("Gone").only().text, message(7));
    assert_eq!(site.dovecot.complaints(), Vec::<String>::new());
}

#[test]
fn letters_of_one_user_do_not_go_to_another_without_a_word() {
    let env = crate::support::TestEnv::new();
    let mail = env.path("x.org/anna/Maildir");
    super::hostile::maildir(&mail);
    let mut one = letter("INBOX", "17.M1P1.mx", &message(1));
    let mut give = |user: &str, more: &[&str]| {
        one.0.user = user.to_owned();
        super::hostile::apply(&env, &mail, &super::site::stream(&[one.clone()]), more)
    };
    for foreign in ["carl", "anna@y.org"] {
        let said = give(foreign, &[]).expect(1).naming("the mailbox of anna@x.org");
        assert!(said.stderr.contains(&format!("--map-user {foreign}=anna@x.org")), "{}", said.both());
    }
    assert!(super::hostile::messages(&mail).is_empty());
    for own in ["anna", "anna@x.org", "Anna@X.org"] {
        give(own, &[]).expect(0);
    }
    give("carl", &["--map-user", "carl=anna@x.org"]).expect(0);
}

#[test]
fn a_message_that_clients_saw_go_gets_no_uid_that_they_know() {
    for control in [false, true] {
        let ways = Ways { control, ..Ways::default() };
        let Some(site) = Site::new("a UID that clients saw expunged", ways) else { return };
        (1..=3).for_each(|number| site.deliver("INBOX", &message(number)));
        let before = site.view("INBOX");
        let letters = site.letters();
        site.expunge("INBOX", 2);
        let list = match control {
            true => site.control.join(".INBOX/dovecot-uidlist"),
            false => site.mail.join("dovecot-uidlist"),
        };
        let listed = fs::read_to_string(&list).unwrap();
        assert!(listed.lines().any(|line| line.starts_with("2 ")), "the list has forgotten it: {listed}");
        // The index goes, as after a crash or by an administrator's hand.
        for path in crate::support::files_below(&site.mail) {
            if path.file_name().unwrap().to_str().unwrap().starts_with("dovecot.index") {
                fs::remove_file(path).unwrap();
            }
        }
        let report = site.give_back(&letters, &["--into", "original"]);
        let after = site.view("INBOX");
        assert_eq!(after.validity, before.validity);
        let back: Vec<u32> =
            after.messages.iter().filter(|(_, seen)| seen.text == message(2)).map(|(uid, _)| *uid).collect();
        assert!(back.len() == 1 && back[0] >= before.next, "{back:?} below {}", before.next);
        assert_eq!((&report["brought"], &report["renumbered"]), (&1.into(), &1.into()), "{report}");
        // Whatever the server has made of its list since, the message is known again.
        for _ in 0..2 {
            let again = site.give_back(&letters, &["--into", "original"]);
            assert_eq!((&again["brought"], &again["still_there_count"]), (&0.into(), &3.into()), "{again}");
            fs::write(
                &list,
                listed
                    .lines()
                    .filter(|line| !line.starts_with("2 "))
                    .map(|line| format!("{line}\n"))
                    .collect::<String>(),
            )
            .unwrap();
        }
    }
}

#[test]
fn old_journals_go_and_unfinished_ones_stay() {
    let env = crate::support::TestEnv::new();
    let mail = env.path("mail");
    super::hostile::maildir(&mail);
    let bring = |number: u32, into: &str| {
        let one = letter("INBOX", &format!("17.M{number}P1.mx"), &message(number));
        let stream = super::site::stream(&[one]);
        super::hostile::apply(&env, &mail, &stream, &["--into", into]).expect(0).json()["deliveries"][0]
            ["run"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let journals = env.path("home/state/mailark/deliveries");
    let path = |run: &str| journals.join(format!("{run}.journal"));
    let age = |run: &str, days: u64| {
        let then = std::time::SystemTime::now() - std::time::Duration::from_secs(days * 86_400);
        fs::File::options().append(true).open(path(run)).unwrap().set_modified(then).unwrap();
    };
    let runs: Vec<String> = (1..=4).map(|number| bring(number, "original")).collect();
    // One was interrupted: its last step, a frame, is not there.
    let whole = fs::read(path(&runs[2])).unwrap();
    fs::write(path(&runs[2]), &whole[..whole.len() - 1]).unwrap();
    for (run, days) in runs.iter().zip([91, 80, 400, 91]) {
        age(run, days);
    }
    env.mailark(["restore", "--undo", &runs[3]]).expect(0);
    // The same request would take up the one that was interrupted.
    bring(5, "restored");
    let there: Vec<bool> = runs.iter().map(|run| path(run).exists()).collect();
    assert_eq!(there, [false, true, true, true], "old and done; young; unfinished; lately undone");
    env.mailark(["restore", "--undo", &runs[0]]).expect(1).naming("there is no run");
    env.mailark(["restore", "--undo", &runs[1]]).expect(0);
    env.mailark(["restore", "--redo", &runs[3]]).expect(0);
}
