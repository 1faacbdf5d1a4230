//! Which repository, key, job and folders a run uses: flag, then environment, then `mailark.toml`, then default.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use zeroize::{Zeroize, ZeroizeOnDrop};

use super::args::Globals;
use super::config_file::{ConfigFile, Job};
use super::failure::{Failure, Kind};
use super::retention::Retention;
use crate::mail::templates::Users;
use crate::store::LocalStore;

/// Where a setting came from, as a person would name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// An option of the command line.
    Flag(&'static str),
    /// An environment variable.
    Environment(&'static str),
    /// `mailark.toml`.
    File(PathBuf),
    /// Nobody said anything.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Flag(name) | Origin::Environment(name) => f.write_str(name),
            Origin::File(path) => write!(f, "{}", path.display()),
            Origin::Default => f.write_str("the default"),
        }
    }
}

/// A setting and where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting<T> {
    /// What is used.
    pub value: T,
    /// Who said so.
    pub origin: Origin,
}

/// Text that no debug output shows.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Hidden(String);

impl Hidden {
    /// The text.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("..")
    }
}

/// From where the key is to be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// The bytes of a file.
    KeyFile(PathBuf),
    /// The environment.
    Password(Hidden),
    /// The first line of a file.
    PasswordFile(PathBuf),
    /// What a shell command prints.
    PasswordCommand(String),
    /// A person, if there is one.
    Prompt,
    /// A person who has the recovery code.
    RecoveryPrompt,
    /// The recovery code in a file.
    RecoveryFile(PathBuf),
}

/// Everything around a command that its own options do not say.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The repository's folder.
    pub repository: Setting<PathBuf>,
    /// How late hosts may see what another one stored there, where somebody says so.
    pub staleness: Option<Duration>,
    /// From where the key is to be had.
    pub key: Setting<KeySource>,
    /// Where `init` puts a key file when no key was named, and where one is looked for.
    pub default_key_file: PathBuf,
    /// Where the index lives; none with `--no-cache`.
    pub cache_dir: Option<PathBuf>,
    /// Where locks and high-water marks live.
    pub state_dir: PathBuf,
    /// This host's name, unless `--host` says another.
    pub host: Setting<String>,
    /// What is kept of jobs that do not say it themselves.
    pub retention: Option<Retention>,
    /// Where users' mail lies.
    pub users: Users,
    /// Backups keep the catalogue in step.
    pub catalogue: bool,
    /// How Dovecot's `doveadm` is called, where somebody says so.
    pub doveadm: Option<Vec<String>>,
    /// The jobs of `mailark.toml`, by name.
    pub jobs: BTreeMap<String, Job>,
    /// The `mailark.toml` that was read.
    pub config_file: Option<PathBuf>,
}

/// What the process stands in; injected, so that tests have none of it.
pub struct Surroundings<'a> {
    /// Looks up an environment variable.
    pub variable: &'a dyn Fn(&str) -> Option<OsString>,
    /// The effective user is root.
    pub is_root: bool,
    /// The system's name for this host.
    pub hostname: String,
    /// Root's fixed folders lie below this ("/").
    pub root: PathBuf,
}

impl Surroundings<'_> {
    fn variable(&self, name: &str) -> Option<OsString> {
        (self.variable)(name).filter(|value| !value.is_empty())
    }

    fn text(&self, name: &'static str) -> Result<Option<String>, Failure> {
        let wrong = |_| Failure::new(Kind::Config, format!("{name} is not UTF-8 text"));
        self.variable(name).map(|value| value.into_string().map_err(wrong)).transpose()
    }

    /// A folder of ours: `$XDG_...` when set (for root too), else root's fixed one, else one below `$HOME`.
    fn folder(&self, xdg: &str, for_root: &str, below_home: &str) -> Result<PathBuf, Failure> {
        // The XDG rules: a relative path there counts as unset.
        if let Some(base) = self.variable(xdg).map(PathBuf::from).filter(|base| base.is_absolute()) {
            return Ok(base.join("mailark"));
        }
        if self.is_root {
            return Ok(self.root.join(for_root));
        }
        match self.variable("HOME") {
            Some(home) => Ok(Path::new(&home).join(below_home).join("mailark")),
            None => Err(Failure::new(Kind::Config, format!("neither HOME nor {xdg} is set"))
                .hint(format!("set {xdg} to an absolute path"))),
        }
    }
}

impl Settings {
    /// Settles everything from the command line's global options and the surroundings.
    pub fn resolve(globals: &Globals, around: &Surroundings<'_>) -> Result<Settings, Failure> {
        let config_dir = around.folder("XDG_CONFIG_HOME", "etc/mailark", ".config")?;
        let data_dir = around.folder("XDG_DATA_HOME", "var/lib/mailark", ".local/share")?;
        let file = find_config_file(globals, around, &config_dir)?;
        let default_key_file = config_dir.join("key");
        let cache_dir = match (globals.no_cache, &globals.cache_dir, around.variable("MAILARK_CACHE_DIR")) {
            (true, ..) => None,
            (false, Some(given), _) => Some(given.clone()),
            (false, None, Some(given)) => Some(given.into()),
            (false, None, None) => Some(around.folder("XDG_CACHE_HOME", "var/cache/mailark", ".cache")?),
        };
        Ok(Settings {
            repository: repository(globals, around, file.as_ref(), &data_dir)?,
            staleness: file.as_ref().and_then(|file| file.staleness),
            key: key(globals, around, file.as_ref(), &default_key_file)?,
            default_key_file,
            cache_dir,
            state_dir: around.folder("XDG_STATE_HOME", "var/lib/mailark/state", ".local/state")?,
            host: match file.as_ref().and_then(|file| Some((file.host.clone()?, file))) {
                Some((value, file)) => Setting { value, origin: Origin::File(file.path.clone()) },
                None => Setting { value: around.hostname.clone(), origin: Origin::Default },
            },
            config_file: file.as_ref().map(|file| file.path.clone()),
            retention: file.as_ref().and_then(|file| file.retention.clone()),
            users: file.as_ref().map(|file| file.users.clone()).unwrap_or_default(),
            catalogue: file.as_ref().is_none_or(|file| file.catalogue),
            doveadm: file.as_ref().and_then(|file| file.doveadm.clone()),
            jobs: file.map(|file| file.jobs).unwrap_or_default(),
        })
    }

    /// The place that holds the repository.
    pub fn store(&self) -> LocalStore {
        LocalStore::new(&self.repository.value).with_staleness(self.staleness)
    }

    /// A job of `mailark.toml` with something to back up; a name that is not there fails and lists those that are.
    pub fn job(&self, name: &str) -> Result<&Job, Failure> {
        self.jobs.get(name).filter(|job| !job.paths.is_empty()).ok_or_else(|| {
            let failure =
                Failure::new(Kind::User, format!("no paths given, and no job '{name}' in mailark.toml"));
            let mut names = self
                .jobs
                .iter()
                .filter(|(_, job)| !job.paths.is_empty())
                .map(|(name, _)| name.as_str())
                .peekable();
            match (&self.config_file, names.peek().is_none()) {
                (None, _) => failure.hint("no mailark.toml was found"),
                (Some(path), true) => failure.hint(format!("{} names no jobs with paths", path.display())),
                (Some(path), false) => {
                    let names: Vec<&str> = names.collect();
                    failure.hint(format!("{} names these: {}", path.display(), names.join(", ")))
                }
            }
        })
    }
}

fn find_config_file(
    globals: &Globals,
    around: &Surroundings<'_>,
    config_dir: &Path,
) -> Result<Option<ConfigFile>, Failure> {
    match globals.config.clone().or_else(|| around.variable("MAILARK_CONFIG").map(PathBuf::from)) {
        Some(named) => ConfigFile::read(&named)?
            .map(Some)
            .ok_or_else(|| Failure::new(Kind::Config, format!("{}: no such file", named.display()))),
        None => ConfigFile::read(&config_dir.join("mailark.toml")),
    }
}

fn repository(
    globals: &Globals,
    around: &Surroundings<'_>,
    file: Option<&ConfigFile>,
    data_dir: &Path,
) -> Result<Setting<PathBuf>, Failure> {
    let (place, origin) = if let Some(given) = &globals.repository {
        (given.clone(), Origin::Flag("--repo"))
    } else if let Some(given) = around.variable("MAILARK_REPO") {
        (given, Origin::Environment("MAILARK_REPO"))
    } else if let Some((given, file)) = file.and_then(|file| Some((file.repository.as_ref()?, file))) {
        (given.clone(), Origin::File(file.path.clone()))
    } else {
        return Ok(Setting { value: data_dir.join("repository"), origin: Origin::Default });
    };
    if let Some(scheme) = remote_scheme(&place) {
        let what = format!("repository {} ({origin}): {scheme} is not supported yet", place.display());
        return Err(Failure::new(Kind::Config, what)
            .hint("use a folder on a disk or on a mounted share; ./ before the name makes it one"));
    }
    let value = match &origin {
        Origin::File(path) => path.parent().unwrap_or(Path::new("")).join(&place),
        _ => PathBuf::from(place),
    };
    Ok(Setting { value, origin })
}

/// `sftp:...` and the like, which would otherwise silently make a folder of that name.
fn remote_scheme(place: &OsStr) -> Option<&'static str> {
    const SCHEMES: [&str; 8] = ["sftp:", "ssh:", "s3:", "b2:", "rest:", "rclone:", "http:", "https:"];
    let text = place.as_encoded_bytes();
    SCHEMES
        .into_iter()
        .find(|scheme| text.starts_with(scheme.as_bytes()))
        .map(|scheme| &scheme[..scheme.len() - 1])
}

fn key(
    globals: &Globals,
    around: &Surroundings<'_>,
    file: Option<&ConfigFile>,
    default_key_file: &Path,
) -> Result<Setting<KeySource>, Failure> {
    let flags = [
        globals.key_file.clone().map(|path| (KeySource::KeyFile(path), "--key-file")),
        globals.password_file.clone().map(|path| (KeySource::PasswordFile(path), "--password-file")),
        globals.password_command.clone().map(|text| (KeySource::PasswordCommand(text), "--password-command")),
        globals.recovery_code.then_some((KeySource::RecoveryPrompt, "--recovery-code")),
        globals
            .recovery_code_file
            .clone()
            .map(|path| (KeySource::RecoveryFile(path), "--recovery-code-file")),
    ];
    if let Some((value, name)) = the_only_one(flags, Kind::Usage)? {
        return Ok(Setting { value, origin: Origin::Flag(name) });
    }
    let path = |name: &'static str| around.variable(name).map(PathBuf::from);
    let password = around.text("MAILARK_PASSWORD")?;
    let command = around.text("MAILARK_PASSWORD_COMMAND")?;
    let variables = [
        path("MAILARK_KEY_FILE").map(|path| (KeySource::KeyFile(path), "MAILARK_KEY_FILE")),
        path("MAILARK_PASSWORD_FILE").map(|path| (KeySource::PasswordFile(path), "MAILARK_PASSWORD_FILE")),
        command.map(|text| (KeySource::PasswordCommand(text), "MAILARK_PASSWORD_COMMAND")),
        password.map(|text| (KeySource::Password(Hidden(text)), "MAILARK_PASSWORD")),
    ];
    if let Some((value, name)) = the_only_one(variables, Kind::Config)? {
        return Ok(Setting { value, origin: Origin::Environment(name) });
    }
    if let Some((value, file)) = file.and_then(|file| Some((file.key.clone()?, file))) {
        return Ok(Setting { value, origin: Origin::File(file.path.clone()) });
    }
    let value = if default_key_file.exists() {
        KeySource::KeyFile(default_key_file.to_owned())
    } else {
        KeySource::Prompt
    };
    Ok(Setting { value, origin: Origin::Default })
}

/// The key that was named, with the name of its option or variable; naming two is a mistake of `kind`.
///
/// clap compares options only where they stand on the same side of the command, so flags come through here too.
fn the_only_one(
    named: impl IntoIterator<Item = Option<(KeySource, &'static str)>>,
    kind: Kind,
) -> Result<Option<(KeySource, &'static str)>, Failure> {
    let mut named = named.into_iter().flatten();
    match (named.next(), named.next()) {
        (Some((_, one)), Some((_, other))) => {
            Err(Failure::new(kind, format!("{one} and {other} both name a key; keep one of them")))
        }
        (first, _) => Ok(first),
    }
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
