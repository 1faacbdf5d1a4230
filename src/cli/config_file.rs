//! `mailark.toml`: repository, key, host and jobs. Relative paths in it count from its own folder.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use super::failure::{Failure, Kind};
use super::retention::Retention;
use super::settings::KeySource;
use crate::mail::templates::{Template, TemplateError, Users};

/// Most bytes of a configuration file.
const CONFIG_BYTES_MAX: u64 = 1 << 20;
/// Most characters of a job's name: it becomes part of a file name.
const JOB_NAME_MAX: usize = 64;

/// A file that was read and understood.
#[derive(Debug, Clone)]
pub struct ConfigFile {
    /// Where it lies.
    pub path: PathBuf,
    /// The repository as written.
    pub repository: Option<OsString>,
    /// From where the key is to be had.
    pub key: Option<KeySource>,
    /// How late hosts may see what another one stored there.
    pub staleness: Option<Duration>,
    /// This host's name.
    pub host: Option<String>,
    /// What is kept of jobs that do not say it themselves.
    pub retention: Option<Retention>,
    /// Where users' mail lies.
    pub users: Users,
    /// Backups keep the catalogue in step.
    pub catalogue: bool,
    /// How Dovecot's `doveadm` is called: the program and its first arguments.
    pub doveadm: Option<Vec<String>>,
    /// The jobs, by name.
    pub jobs: BTreeMap<String, Job>,
}

/// What is backed up together, under one name.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Job {
    /// Files and folders to save; absolute after reading. None for a job of another host that is only kept here.
    #[serde(default)]
    pub paths: Vec<PathBuf>,
    /// Patterns of what is left out.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// Tags of its snapshots.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Stay on the file systems that the paths lie on.
    #[serde(default)]
    pub one_file_system: bool,
    /// Save also what a mail server makes again by itself.
    #[serde(default)]
    pub all_files: bool,
    /// How long the lock of an mbox is waited for.
    #[serde(default, deserialize_with = "written_time")]
    pub lock_wait: Option<Duration>,
    /// The logical path recorded instead of the one path.
    #[serde(rename = "as")]
    pub logical_path: Option<PathBuf>,
    /// What is kept of it.
    pub retention: Option<Retention>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    repository: Option<String>,
    staleness: Option<String>,
    key_file: Option<PathBuf>,
    password_command: Option<String>,
    host: Option<String>,
    retention: Option<Retention>,
    #[serde(default)]
    mail: Vec<String>,
    #[serde(default)]
    control: Vec<String>,
    catalogue: Option<bool>,
    doveadm: Option<CommandWords>,
    #[serde(default)]
    jobs: BTreeMap<String, Job>,
}

/// A command as people write it: one text, or its words.
#[derive(Deserialize)]
#[serde(untagged)]
enum CommandWords {
    Text(String),
    Words(Vec<String>),
}

impl CommandWords {
    /// The words; no shell ever sees them, so nothing in them means anything.
    fn split(self) -> Result<Vec<String>, String> {
        let words: Vec<String> = match self {
            CommandWords::Text(text) => text.split_whitespace().map(str::to_owned).collect(),
            CommandWords::Words(words) => words,
        };
        if words.first().is_none_or(String::is_empty) {
            return Err("doveadm names no program".to_owned());
        }
        Ok(words)
    }
}

impl ConfigFile {
    /// Reads a file; `None` when there is none.
    pub fn read(path: &Path) -> Result<Option<Self>, Failure> {
        let trouble = |error: &io::Error| Failure::because(Kind::Config, &path.display().to_string(), error);
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(trouble(&error)),
        };
        let mut text = String::new();
        file.take(CONFIG_BYTES_MAX + 1).read_to_string(&mut text).map_err(|e| trouble(&e))?;
        if text.len() as u64 > CONFIG_BYTES_MAX {
            return Err(Failure::new(Kind::Config, format!("{}: too large", path.display())));
        }
        Self::parse(path, &text).map(Some)
    }

    /// Understands the text of a file that lies at `path`.
    pub fn parse(path: &Path, text: &str) -> Result<Self, Failure> {
        let written: Written = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count());
            Failure::new(Kind::Config, format!("{}:{line}: {}", path.display(), error.message()))
        })?;
        let wrong = |what: String| Failure::new(Kind::Config, format!("{}: {what}", path.display()));
        let folder = path.parent().unwrap_or(Path::new(""));
        let key = match (written.key_file, written.password_command) {
            (Some(_), Some(_)) => return Err(wrong("key_file and password_command are both set".to_owned())),
            (Some(file), None) => Some(KeySource::KeyFile(folder.join(file))),
            (None, command) => command.map(KeySource::PasswordCommand),
        };
        let mut jobs = written.jobs;
        for (name, job) in &mut jobs {
            job_name(name).map_err(&wrong)?;
            if job.retention.as_ref().is_some_and(|retention| !retention.keeps_something()) {
                return Err(wrong(format!("[jobs.{name}.retention] keeps nothing")));
            }
            if job.paths.is_empty() && job.retention.is_none() {
                return Err(wrong(format!("job '{name}' has no paths")));
            }
            if job.logical_path.is_some() && job.paths.len() > 1 {
                return Err(wrong(format!("job '{name}': 'as' needs exactly one path")));
            }
            job.paths.iter_mut().for_each(|path| *path = folder.join(&*path));
        }
        let retention = written.retention;
        if retention.as_ref().is_some_and(|retention| !retention.keeps_something()) {
            return Err(wrong("[retention] keeps nothing".to_owned()));
        }
        let templates =
            |texts: &[String]| texts.iter().map(|text| Template::parse(text)).collect::<Result<_, _>>();
        let (mail, control) = (templates(&written.mail), templates(&written.control));
        let refused = |error: TemplateError| wrong(error.to_string());
        let users = Users::new(mail.map_err(refused)?, control.map_err(refused)?);
        let staleness = written.staleness.as_deref().map(waiting_time).transpose();
        Ok(ConfigFile {
            path: path.to_owned(),
            repository: written.repository.map(OsString::from),
            staleness: staleness.map_err(|text| wrong(format!("staleness: {text}")))?,
            key,
            host: written.host,
            retention,
            users,
            catalogue: written.catalogue.unwrap_or(true),
            doveadm: written.doveadm.map(|words| words.split().map_err(&wrong)).transpose()?,
            jobs,
        })
    }
}

/// A time to wait, as people write it: `0`, `65s`, `90m`, `12h`, `2d`.
pub fn waiting_time(text: &str) -> Result<Duration, String> {
    let wrong = || format!("'{text}' is no time like 90m, 12h or 2d");
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let unit = text.chars().next_back().ok_or_else(wrong)?;
    let number = u64::from_str(&text[..text.len() - unit.len_utf8()]).map_err(|_| wrong())?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    number.checked_mul(seconds).map(Duration::from_secs).ok_or_else(wrong)
}

fn written_time<'de, D: Deserializer<'de>>(text: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(text)?;
    waiting_time(&text).map(Some).map_err(serde::de::Error::custom)
}

/// Checks a job's name: letters, digits, `.`, `_`, `-`, first a letter or digit; it names a lock file.
pub fn job_name(name: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty()
        || name.len() > JOB_NAME_MAX
        || !name.starts_with(|c: char| c.is_ascii_alphanumeric())
        || !name.chars().all(fits)
    {
        return Err(format!(
            "'{name}' is no name for a job: up to {JOB_NAME_MAX} of A-Z a-z 0-9 . _ - and first a letter or digit"
        ));
    }
    Ok(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ConfigFile, Failure> {
        ConfigFile::parse(Path::new("/etc/mailark/mailark.toml"), text)
    }

    #[test]
    fn a_whole_file_is_understood() {
        let file = parse(
            "repository = \"repo\"\nkey_file = \"/etc/mailark/key\"\nhost = \"mx1.example.org\"\n\
             [jobs.mail]\npaths = [\"/var/vmail\"]\nexclude = [\"*.tmp\"]\ntags = [\"daily\"]\n\
             one_file_system = true\nall_files = true\nlock_wait = \"65s\"\nas = \"/mail\"\n[jobs.config]\npaths = [\"../postfix\"]\n",
        )
        .unwrap();
        assert_eq!(file.host.as_deref(), Some("mx1.example.org"));
        assert_eq!(file.key, Some(KeySource::KeyFile("/etc/mailark/key".into())));
        let mail = &file.jobs["mail"];
        assert!(mail.one_file_system && mail.all_files);
        assert_eq!(mail.lock_wait, Some(Duration::from_secs(65)));
        assert_eq!(mail.logical_path.as_deref(), Some(Path::new("/mail")));
        assert_eq!(file.jobs["config"].paths, [Path::new("/etc/mailark/../postfix")]);
    }

    #[test]
    fn mistakes_name_the_line_and_the_key() {
        let cases = [
            ("repository = \"x\"\nrepositry = \"y\"\n", ":2: unknown field `repositry`"),
            ("\n\n[jobs.mail]\npaths = [\"/a\"]\nexcludes = []\n", ":5: unknown field `excludes`"),
            ("host = 5\n", ":1: invalid type"),
            ("staleness = \"1\"\n", "staleness: '1' is no time"),
            ("host = \"a\nb\"\n", "mailark.toml:"),
            ("key_file = \"a\"\npassword_command = \"b\"\n", "both set"),
            ("[jobs.mail]\npaths = [\"/a\"]\nlock_wait = \"1\"\n", "'1' is no time"),
            ("[jobs.mail]\npaths = []\n", "job 'mail' has no paths"),
            ("[jobs.mail]\npaths = [\"/a\", \"/b\"]\nas = \"/c\"\n", "exactly one path"),
            ("retention = { dayly = 7 }\n", "unknown field `dayly`"),
            ("retention = { daily = 0 }\n", "nonzero"),
            ("retention = { within = \"soon\" }\n", "no length of time"),
            ("retention = { hold_down = \"3d\" }\n", "[retention] keeps nothing"),
            ("[jobs.mail]\npaths = [\"/a\"]\nretention = {}\n", "[jobs.mail.retention] keeps nothing"),
            ("[jobs.\"../x\"]\npaths = [\"/a\"]\n", "no name for a job"),
        ];
        for (text, expected) in cases {
            let failure = parse(text).unwrap_err();
            assert_eq!(failure.kind, Kind::Config);
            assert!(failure.message.contains(expected), "{text:?} gave {}", failure.message);
            assert!(!failure.message.contains('\n'), "{:?}", failure.message);
        }
    }

    #[test]
    fn times_to_wait_are_understood() {
        for (text, seconds) in [("0", 0), ("90m", 5_400), ("12h", 43_200), ("2d", 172_800), ("5s", 5)] {
            assert_eq!(waiting_time(text), Ok(Duration::from_secs(seconds)));
        }
        for text in ["", "h", "12", "-1h", "1y", "99999999999999999999d", "1ä"] {
            assert!(waiting_time(text).is_err(), "{text}");
        }
        let file = parse("staleness = \"65s\"\n").unwrap();
        assert_eq!(file.staleness, Some(Duration::from_secs(65)));
    }

    #[test]
    fn policies_are_global_or_a_jobs_own() {
        let file = parse(
            "retention = { daily = 7, weekly = 4, monthly = 12 }\n[jobs.mail.retention]\nlast = 3\n\
             within = \"1y2m\"\ntags = [\"a,b\"]\nhold_down = \"0\"\n",
        )
        .unwrap();
        let policy = file.retention.unwrap().policy(None);
        assert_eq!(
            (policy.daily, policy.weekly, policy.monthly, policy.last),
            (Some(7), Some(4), Some(12), None)
        );
        assert_eq!(policy.hold_down.to_string(), "24h");
        let own = file.jobs["mail"].retention.as_ref().unwrap().policy("7d".parse().ok());
        assert_eq!((own.last, own.daily, own.hold_down.to_string()), (Some(3), None, "0".to_owned()));
        assert_eq!(own.tags, [["a", "b"]]);
    }

    #[test]
    fn doveadm_is_a_command_of_words() {
        let words = |text: &str| parse(text).map(|file| file.doveadm.unwrap_or_default());
        let docker = ["docker", "exec", "dovecot", "doveadm"];
        assert_eq!(words("doveadm = \"docker exec dovecot  doveadm\"\n").unwrap(), docker);
        assert_eq!(words("doveadm = [\"ssh\", \"mx 1\"]\n").unwrap(), ["ssh", "mx 1"]);
        assert_eq!(words("").unwrap(), [""; 0]);
        for wrong in ["doveadm = \" \"\n", "doveadm = []\n", "doveadm = 5\n"] {
            assert!(words(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn job_names_stay_in_their_folder() {
        for good in ["mail", "a", "mx1.example.org", "A_b-9"] {
            assert_eq!(job_name(good).as_deref(), Ok(good));
        }
        for wrong in ["", ".", "..", ".x", "-x", "a/b", "a b", "ä", "a\0", &"x".repeat(65)] {
            assert!(job_name(wrong).is_err(), "{wrong:?}");
        }
    }
}
