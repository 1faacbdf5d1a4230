//! Which snapshot, and which path in it: `latest`, `3f9a`, `latest:/var/vmail/alice`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser};

use super::config_file::job_name;
use crate::repo::snapshots::Filter;

/// Names one snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// The newest one that the filters let through.
    Latest,
    /// The one whose id begins with these lower-case hex digits.
    Prefix(String),
}

/// One snapshot, or one path in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotPath {
    /// The snapshot.
    pub snapshot: Selector,
    /// The bytes after the colon, if there was one.
    pub path: Option<Vec<u8>>,
}

/// Lets only some snapshots through.
#[derive(Debug, Clone, Default, Args)]
pub struct SnapshotFilter {
    /// Consider snapshots of this host only
    #[arg(long, value_name = "NAME")]
    pub host: Option<String>,
    /// Consider snapshots of this job only
    #[arg(long, value_name = "NAME", value_parser = job_name)]
    pub job: Option<String>,
    /// Consider snapshots with this tag only; repeat for any of several, `a,b` for both
    #[arg(long, value_name = "TAG[,TAG]")]
    pub tag: Vec<String>,
}

impl SnapshotFilter {
    /// The same for the repository.
    pub fn to_filter(&self) -> Filter {
        let groups = self.tag.iter().map(|group| group.split(',').map(str::to_owned).collect()).collect();
        Filter { host: self.host.clone(), job: self.job.clone(), tag_groups: groups, path: None }
    }
}

impl Selector {
    /// The text that [`crate::repo::snapshots::resolve`] understands.
    pub fn text(&self) -> &str {
        match self {
            Selector::Latest => "latest",
            Selector::Prefix(digits) => digits,
        }
    }

    fn parse(text: &[u8]) -> Result<Self, String> {
        if text == b"latest" {
            return Ok(Selector::Latest);
        }
        let wrong = || {
            let shown = crate::base::bytes::display(text);
            format!("'{shown}' is neither 'latest' nor the beginning of a snapshot id (up to 64 hex digits)")
        };
        if text.is_empty() || text.len() > 64 || !text.iter().all(u8::is_ascii_hexdigit) {
            return Err(wrong());
        }
        String::from_utf8(text.to_ascii_lowercase()).map(Selector::Prefix).map_err(|_| wrong())
    }
}

impl SnapshotPath {
    fn parse(text: &OsStr) -> Result<Self, String> {
        let bytes = text.as_bytes();
        match bytes.iter().position(|&byte| byte == b':') {
            Some(colon) => {
                let path = Some(bytes[colon + 1..].to_vec());
                Ok(SnapshotPath { snapshot: Selector::parse(&bytes[..colon])?, path })
            }
            None => Ok(SnapshotPath { snapshot: Selector::parse(bytes)?, path: None }),
        }
    }
}

/// Parses `SNAPSHOT` for clap.
pub fn selector() -> impl TypedValueParser<Value = Selector> {
    OsStringValueParser::new().try_map(|text: OsString| Selector::parse(&text.into_vec()).map_err(Refused))
}

/// Parses `SNAPSHOT[:PATH]` for clap; the path may hold any bytes.
pub fn snapshot_path() -> impl TypedValueParser<Value = SnapshotPath> {
    OsStringValueParser::new().try_map(|text: OsString| SnapshotPath::parse(&text).map_err(Refused))
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refused(String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_and_paths_are_told_apart() {
        let parse = |text: &[u8]| SnapshotPath::parse(OsStr::from_bytes(text));
        let of =
            |snapshot, path: Option<&[u8]>| Ok(SnapshotPath { snapshot, path: path.map(<[u8]>::to_vec) });
        let prefix = || Selector::Prefix("3f9a".to_owned());
        assert_eq!(parse(b"latest"), of(Selector::Latest, None));
        assert_eq!(parse(b"3F9A"), of(prefix(), None));
        assert_eq!(parse(b"3f9a:/var/vmail"), of(prefix(), Some(b"/var/vmail")));
        assert_eq!(parse(b"latest:cur/1:2,S\xff"), of(Selector::Latest, Some(b"cur/1:2,S\xff")));
        assert_eq!(parse(b"latest:"), of(Selector::Latest, Some(b"")));
        for wrong in [&b""[..], b":x", b"newest", b"3f9g", b"\xff", &[b'a'; 65]] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn tags_are_any_of_all_of() {
        let filter = |tag: &[&str]| SnapshotFilter {
            tag: tag.iter().map(|t| t.to_string()).collect(),
            ..Default::default()
        };
        let tags = ["daily".to_owned(), "mail".to_owned()];
        assert!(filter(&[]).to_filter().tags_fit(&tags));
        assert!(filter(&["daily,mail"]).to_filter().tags_fit(&tags));
        assert!(filter(&["weekly", "mail"]).to_filter().tags_fit(&tags));
        assert!(!filter(&["daily,weekly"]).to_filter().tags_fit(&tags));
    }
}
