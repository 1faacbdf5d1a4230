use std::fs;

use clap::Parser;

use super::*;
use crate::cli::args::Cli;

/// Resolves with these arguments and variables; root's fixed folders lie below `root`.
fn resolve_in(
    root: &Path,
    is_root: bool,
    arguments: &[&str],
    variables: &[(&str, &str)],
) -> Result<Settings, Failure> {
    let line = ["mailark", "snapshots"].iter().chain(arguments);
    let globals = Cli::try_parse_from(line).unwrap().globals;
    let variable = |name: &str| {
        variables.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
    };
    let around =
        Surroundings { variable: &variable, is_root, hostname: "mx1".to_owned(), root: root.to_owned() };
    Settings::resolve(&globals, &around)
}

fn resolve(is_root: bool, arguments: &[&str], variables: &[(&str, &str)]) -> Result<Settings, Failure> {
    resolve_in(Path::new("/nowhere-at-all"), is_root, arguments, variables)
}

const HOME: (&str, &str) = ("HOME", "/nowhere-at-all/home");

#[test]
fn defaults_are_roots_own_or_xdg() {
    let root = resolve(true, &[], &[HOME]).unwrap();
    assert_eq!(root.repository.value, Path::new("/nowhere-at-all/var/lib/mailark/repository"));
    assert_eq!(root.repository.origin, Origin::Default);
    assert_eq!(root.state_dir, Path::new("/nowhere-at-all/var/lib/mailark/state"));
    assert_eq!(root.cache_dir.as_deref(), Some(Path::new("/nowhere-at-all/var/cache/mailark")));
    assert_eq!(root.default_key_file, Path::new("/nowhere-at-all/etc/mailark/key"));
    assert_eq!(root.key.value, KeySource::Prompt);
    assert_eq!(root.host.value, "mx1");

    let user = resolve(false, &[], &[HOME]).unwrap();
    assert_eq!(user.repository.value, Path::new("/nowhere-at-all/home/.local/share/mailark/repository"));
    assert_eq!(user.state_dir, Path::new("/nowhere-at-all/home/.local/state/mailark"));
    assert_eq!(user.cache_dir.as_deref(), Some(Path::new("/nowhere-at-all/home/.cache/mailark")));
    assert_eq!(user.default_key_file, Path::new("/nowhere-at-all/home/.config/mailark/key"));
}

#[test]
fn xdg_variables_win_for_root_too_when_absolute() {
    let variables = [HOME, ("XDG_CACHE_HOME", "/c"), ("XDG_STATE_HOME", "relative"), ("XDG_DATA_HOME", "/d")];
    let settings = resolve(true, &[], &variables).unwrap();
    assert_eq!(settings.cache_dir.as_deref(), Some(Path::new("/c/mailark")));
    assert_eq!(settings.state_dir, Path::new("/nowhere-at-all/var/lib/mailark/state"));
    assert_eq!(settings.repository.value, Path::new("/d/mailark/repository"));
}

#[test]
fn a_user_without_a_home_is_told_what_to_set() {
    let failure = resolve(false, &[], &[]).unwrap_err();
    assert_eq!(failure.kind, Kind::Config);
    assert!(failure.message.contains("HOME"), "{}", failure.message);
    let xdg =
        ["XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME"].map(|name| (name, "/x"));
    resolve(false, &[], &xdg).expect("nothing asks for HOME then");
}

#[test]
fn flag_beats_environment_beats_file_beats_default() {
    let root = tempfile::tempdir().unwrap();
    let config = root.path().join("etc/mailark");
    fs::create_dir_all(&config).unwrap();
    let file = config.join("mailark.toml");
    fs::write(
        &file,
        "repository = \"kept\"\nkey_file = \"k\"\nhost = \"mx2\"\n[jobs.mail]\npaths = [\"/m\"]\n",
    )
    .unwrap();
    let resolve = |arguments: &[&str], variables: &[(&str, &str)]| {
        resolve_in(root.path(), true, arguments, variables).unwrap()
    };

    let from_file = resolve(&[], &[]);
    assert_eq!(from_file.repository.value, config.join("kept"), "relative to the file");
    assert_eq!(from_file.repository.origin, Origin::File(file.clone()));
    assert_eq!(from_file.key.value, KeySource::KeyFile(config.join("k")));
    assert_eq!(from_file.host.value, "mx2");
    assert_eq!(from_file.job("mail").unwrap().paths, [Path::new("/m")]);
    assert!(from_file.job("mial").unwrap_err().hints[0].contains("mail"), "the known jobs are listed");

    let variables = [("MAILARK_REPO", "/env"), ("MAILARK_PASSWORD", "sesame")];
    let from_environment = resolve(&[], &variables);
    assert_eq!(from_environment.repository.value, Path::new("/env"));
    assert_eq!(from_environment.repository.origin.to_string(), "MAILARK_REPO");
    assert_eq!(from_environment.key.value, KeySource::Password(Hidden("sesame".to_owned())));

    let from_flags = resolve(&["-r", "/flag", "--key-file", "/k"], &variables);
    assert_eq!(from_flags.repository.value, Path::new("/flag"));
    assert_eq!(from_flags.key.value, KeySource::KeyFile("/k".into()));
    assert_eq!(from_flags.key.origin, Origin::Flag("--key-file"));

    fs::write(config.join("key"), [1; 32]).unwrap();
    fs::remove_file(&file).unwrap();
    let from_default = resolve(&[], &[("MAILARK_REPO", "")]);
    assert_eq!(from_default.key.value, KeySource::KeyFile(config.join("key")));
    assert_eq!(from_default.repository.origin, Origin::Default, "an empty variable is an unset one");
}

#[test]
fn the_configuration_file_can_be_elsewhere_but_must_be_there() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("my.toml");
    let path = file.to_str().unwrap();
    for (arguments, variables) in
        [(vec!["--config", path], vec![HOME]), (vec![], vec![HOME, ("MAILARK_CONFIG", path)])]
    {
        assert_eq!(resolve(false, &arguments, &variables).unwrap_err().kind, Kind::Config);
    }
    fs::write(&file, "repository = \"/there\"\n").unwrap();
    let settings = resolve(false, &["--config", path], &[HOME, ("MAILARK_CONFIG", "/not/there")]).unwrap();
    assert_eq!(settings.repository.value, Path::new("/there"));
    assert_eq!(settings.config_file.as_deref(), Some(file.as_path()));
}

#[test]
fn two_keys_in_the_environment_are_refused() {
    let variables = [HOME, ("MAILARK_KEY_FILE", "/k"), ("MAILARK_PASSWORD", "p")];
    let failure = resolve(false, &[], &variables).unwrap_err();
    assert!(failure.message.contains("MAILARK_KEY_FILE and MAILARK_PASSWORD"), "{}", failure.message);
    resolve(false, &["--key-file", "/k"], &variables).expect("a flag settles it");
    let mut globals = Cli::try_parse_from(["mailark", "snapshots", "--key-file", "/k"]).unwrap().globals;
    globals.password_command = Some("pass".to_owned());
    let around = Surroundings {
        variable: &|_| None,
        is_root: true,
        hostname: String::new(),
        root: "/nowhere-at-all".into(),
    };
    assert_eq!(Settings::resolve(&globals, &around).unwrap_err().kind, Kind::Usage);
}

#[test]
fn the_cache_can_be_moved_or_left_out() {
    let variables = [HOME, ("MAILARK_CACHE_DIR", "/env")];
    assert_eq!(resolve(false, &[], &variables).unwrap().cache_dir.as_deref(), Some(Path::new("/env")));
    let flag = resolve(false, &["--cache-dir", "/flag"], &variables).unwrap();
    assert_eq!(flag.cache_dir.as_deref(), Some(Path::new("/flag")));
    assert_eq!(resolve(false, &["--no-cache"], &variables).unwrap().cache_dir, None);
}

#[test]
fn remote_places_are_not_taken_for_folders() {
    for place in ["sftp:me@host:/x", "s3:bucket", "https://x"] {
        assert_eq!(resolve(false, &["-r", place], &[HOME]).unwrap_err().kind, Kind::Config, "{place}");
    }
    assert_eq!(
        resolve(false, &["-r", "./s3:bucket"], &[HOME]).unwrap().repository.value,
        Path::new("./s3:bucket")
    );
}
