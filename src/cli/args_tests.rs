use std::os::unix::ffi::OsStringExt;

use super::*;
use crate::cli::commands::backup::Input;
use crate::cli::commands::check::Subset;
use crate::cli::commands::key::KeyCommand;
use crate::cli::commands::restore::Overwrite;
use crate::cli::failure::Kind;
use crate::cli::selection::Selector;

fn parsed(line: &str) -> Cli {
    parse(words(line)).unwrap_or_else(|error| panic!("{line}: {error}"))
}

fn refused(line: &str) -> String {
    parse(words(line)).err().unwrap_or_else(|| panic!("{line} was accepted")).to_string()
}

fn words(line: &str) -> impl Iterator<Item = OsString> {
    std::iter::once("mailark").chain(line.split(' ')).map(OsString::from)
}

#[test]
fn the_definition_is_sound() {
    definition().debug_assert();
}

#[test]
fn every_help_text_shows_the_exit_codes() {
    fn visit(command: &mut clap::Command) {
        let help = command.render_long_help().to_string();
        assert!(help.contains("Exit codes:") && help.contains("130"), "{}", command.get_name());
        command.get_subcommands_mut().for_each(visit);
    }
    let mut definition = definition();
    definition.build();
    visit(&mut definition);
}

#[test]
fn global_options_stand_before_or_after_the_command() {
    for line in ["-r /x --json -vv snapshots", "snapshots --repo /x --json -v -v"] {
        let globals = parsed(line).globals;
        assert_eq!(globals.repository.as_deref(), Some("/x".as_ref()));
        assert_eq!((globals.json, globals.verbose), (true, 2));
    }
    refused("snapshots -q -v");
    refused("snapshots --key-file a --password-file b");
    refused("snapshots --no-cache --cache-dir x");
}

fn input(line: &str) -> Result<Input, Kind> {
    match parsed(line).command {
        Command::Backup(args) => args.input().map_err(|failure| failure.kind),
        _ => panic!("{line} is no backup"),
    }
}

#[test]
fn a_backup_knows_what_to_read() {
    assert_eq!(input("backup /a /b"), Ok(Input::Paths(vec!["/a".into(), "/b".into()])));
    assert_eq!(input("backup --job mail /a"), Ok(Input::Paths(vec!["/a".into()])));
    assert_eq!(input("backup --job mail"), Ok(Input::Job("mail".to_owned())));
    assert_eq!(input("backup -- -odd"), Ok(Input::Paths(vec!["-odd".into()])));
    assert_eq!(input("backup --stdin-filename db.sql"), Ok(Input::Stdin("db.sql".into())));
    assert_eq!(
        input("backup --stdin-filename db.sql --stdin-from-command -- mysqldump --all-databases"),
        Ok(Input::Command {
            name: "db.sql".into(),
            words: vec!["mysqldump".into(), "--all-databases".into()]
        })
    );
    for wrong in [
        "backup",
        "backup --as /x /a /b",
        "backup --stdin-filename x /a",
        "backup --stdin-filename a/b",
        "backup --stdin-filename ..",
    ] {
        assert_eq!(input(wrong), Err(Kind::Usage), "{wrong}");
    }
    refused("backup --stdin-from-command");
    refused("backup --job ../x /a");
}

#[test]
fn paths_may_hold_any_bytes() {
    let odd = OsString::from_vec(b"latest:cur/\xff".to_vec());
    let line = ["mailark".into(), "restore".into(), odd, "--target".into(), "/o".into()];
    let Command::Restore(args) = parse(line).unwrap().command else { panic!("not a restore") };
    let from = args.from.unwrap();
    assert_eq!(from.snapshot, Selector::Latest);
    assert_eq!(from.path.as_deref(), Some(&b"cur/\xff"[..]));
    assert_eq!(args.to, Some(PathBuf::from("/o")));
    assert_eq!(args.overwrite, None);
}

#[test]
fn a_restore_deletes_only_where_it_may_overwrite() {
    refused("restore latest");
    refused("restore latest --to /o --delete");
    let Command::Restore(args) = parsed("restore 3f9a --to /o --delete --overwrite if-changed").command
    else {
        panic!("not a restore")
    };
    assert_eq!(args.overwrite, Some(Overwrite::IfChanged));
}

#[test]
fn shares_of_the_data_are_understood() {
    assert_eq!("5%".parse(), Ok(Subset::Percent(5.0)));
    assert_eq!("2.5%".parse(), Ok(Subset::Percent(2.5)));
    assert_eq!("7/7".parse(), Ok(Subset::Share { part: 7, of: 7 }));
    for wrong in ["", "5", "0%", "101%", "nan%", "-1%", "0/7", "8/7", "1/0", "a/b"] {
        assert!(wrong.parse::<Subset>().is_err(), "{wrong}");
    }
    refused("check --read-data --read-data-subset 5%");
}

#[test]
fn writer_keys_need_their_host() {
    refused("key add --writer");
    refused("key add --host mx1");
    refused("key add --recovery --new-key-file k");
    let Command::Key(args) =
        parsed("key add --writer --host mx1 --domain all --new-key-file k --label a").command
    else {
        panic!("not a key command")
    };
    let KeyCommand::Add(add) = args.command else { panic!("not an addition") };
    assert_eq!((add.host.as_deref(), add.domain.as_deref()), (Some("mx1"), Some("all")));
}
