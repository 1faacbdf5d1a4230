//! Which entries a walk leaves out: patterns as restic users write them.
//!
//! - without a slash: matches a name at any depth (`*.tmp`);
//! - with a slash: matches whole names from any depth down (`cache/*.db`);
//! - with a leading slash: matches the absolute path on this host (`/var/vmail/*/tmp`);
//! - a trailing slash: folders only; `!` in front: takes back what an earlier pattern left out; the last match
//!   counts, but nothing comes back below a folder that is left out itself;
//! - `*` and `?` stay within a name, `**` spans names, `[a-z]`, `{this,that}` and `\` as usual.
//!
//! Names are matched as bytes, so `?` is one byte; in a file, blank lines and `#` lines are skipped.

use std::path::Path;

use globset::{Candidate, Glob, GlobBuilder, GlobSet, GlobSetBuilder};

use super::SourceError;
use super::problem::join;
use crate::base::bytes;

#[derive(Debug, Clone)]
struct Rule {
    /// As it was written.
    pattern: String,
    glob: Glob,
    /// Matches the name alone, else the absolute path.
    by_name: bool,
    folders_only: bool,
    takes_back: bool,
}

/// A list of patterns, in order.
#[derive(Debug, Clone, Default)]
pub struct Excludes {
    rules: Vec<Rule>,
    names: Matcher,
    paths: Matcher,
}

#[derive(Debug, Clone, Default)]
struct Matcher {
    set: GlobSet,
    /// For each glob of the set, its place in the list of rules.
    rules: Vec<usize>,
}

impl Matcher {
    fn new(rules: &[Rule], by_name: bool) -> Result<Matcher, globset::Error> {
        let mut builder = GlobSetBuilder::new();
        let mut chosen = Vec::new();
        for (place, rule) in rules.iter().enumerate().filter(|(_, rule)| rule.by_name == by_name) {
            builder.add(rule.glob.clone());
            chosen.push(place);
        }
        Ok(Matcher { set: builder.build()?, rules: chosen })
    }

    fn last_match(&self, text: &[u8], applies: impl Fn(usize) -> bool) -> Option<usize> {
        if self.rules.is_empty() {
            return None;
        }
        let found = self.set.matches_candidate(&Candidate::from_bytes(text));
        found.into_iter().map(|glob| self.rules[glob]).filter(|&rule| applies(rule)).max()
    }
}

fn parse(pattern: &[u8]) -> Result<Option<Rule>, SourceError> {
    let wrong =
        |detail: &str| SourceError::Pattern { pattern: bytes::display(pattern), detail: detail.to_owned() };
    let text =
        str::from_utf8(pattern).map_err(|_| wrong("is not UTF-8; write ? for each byte that is not text"))?;
    let (takes_back, text) = match text.strip_prefix('!') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (folders_only, text) = match text.strip_suffix('/') {
        Some(rest) => (true, rest.trim_end_matches('/')),
        None => (false, text),
    };
    let text = text.trim_start_matches("./");
    if text.is_empty() {
        return if pattern.is_empty() { Ok(None) } else { Err(wrong("matches nothing in particular")) };
    }
    let by_name = !text.contains('/') && text != "**";
    let text = if by_name || text.starts_with('/') { text.to_owned() } else { format!("**/{text}") };
    let glob = GlobBuilder::new(&text)
        .literal_separator(true)
        .backslash_escape(true)
        .build()
        .map_err(|error| wrong(&error.kind().to_string()))?;
    Ok(Some(Rule { pattern: bytes::display(pattern), glob, by_name, folders_only, takes_back }))
}

impl Excludes {
    /// The rules as texts that differ whenever the rules do.
    pub fn patterns(&self) -> impl Iterator<Item = String> {
        let text = |rule: &Rule| {
            format!("{} {} {} {}", rule.by_name, rule.folders_only, rule.takes_back, rule.glob.glob())
        };
        self.rules.iter().map(text)
    }

    /// Takes patterns in order; empty ones are skipped.
    pub fn new<P: AsRef<[u8]>>(patterns: impl IntoIterator<Item = P>) -> Result<Excludes, SourceError> {
        let mut excludes = Excludes::default();
        for pattern in patterns {
            excludes.rules.extend(parse(pattern.as_ref())?);
        }
        excludes.build()
    }

    /// Adds the patterns of a file, one a line.
    pub fn and_file(mut self, path: &Path) -> Result<Excludes, SourceError> {
        let text = std::fs::read(path)
            .map_err(|error| SourceError::ExcludeFile { path: path.display().to_string(), error })?;
        for line in text.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii) {
            if !line.starts_with(b"#") {
                self.rules.extend(parse(line)?);
            }
        }
        self.build()
    }

    fn build(mut self) -> Result<Excludes, SourceError> {
        let wrong = |error: globset::Error| SourceError::Pattern {
            pattern: error.glob().unwrap_or("all together").to_owned(),
            detail: error.kind().to_string(),
        };
        self.names = Matcher::new(&self.rules, true).map_err(wrong)?;
        self.paths = Matcher::new(&self.rules, false).map_err(wrong)?;
        Ok(self)
    }

    /// True when there are no patterns.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Tells whether an entry is left out, by its folder's absolute path and its name.
    pub fn leave_out(&self, folder: &[u8], name: &[u8], is_folder: bool) -> bool {
        self.left_out_by(folder, name, is_folder).is_some()
    }

    /// The pattern that leaves an entry out, as it was written.
    pub fn left_out_by(&self, folder: &[u8], name: &[u8], is_folder: bool) -> Option<&str> {
        if self.rules.is_empty() {
            return None;
        }
        let applies = |rule: usize| is_folder || !self.rules[rule].folders_only;
        let by_name = self.names.last_match(name, applies);
        // The path is put together only when a pattern wants it.
        let by_path = match self.paths.rules.is_empty() {
            true => None,
            false => self.paths.last_match(&join(folder, name), applies),
        };
        let rule = &self.rules[by_name.max(by_path)?];
        (!rule.takes_back).then_some(rule.pattern.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn leaves_out(patterns: &[&str], path: &str, is_folder: bool) -> bool {
        let (folder, name) = path.rsplit_once('/').unwrap();
        Excludes::new(patterns).unwrap().leave_out(folder.as_bytes(), name.as_bytes(), is_folder)
    }

    #[test]
    fn names_match_at_any_depth() {
        assert!(leaves_out(&["*.tmp"], "/a/b/x.tmp", false));
        assert!(leaves_out(&["*.tmp"], "/x.tmp", true));
        assert!(!leaves_out(&["*.tmp"], "/a.tmp/x", false));
        assert!(leaves_out(&["tmp/"], "/a/tmp", true));
        assert!(!leaves_out(&["tmp/"], "/a/tmp", false));
        assert!(leaves_out(&["x[0-9]?"], "/x1z", false));
        assert!(leaves_out(&[".*"], "/a/.hidden", false));
    }

    #[test]
    fn paths_match_whole_names() {
        assert!(leaves_out(&["cache/*.db"], "/v/cache/a.db", false));
        assert!(leaves_out(&["cache/*.db"], "/cache/a.db", false));
        assert!(!leaves_out(&["cache/*.db"], "/v/mycache/a.db", false));
        assert!(!leaves_out(&["cache/*.db"], "/v/cache/b/a.db", false));
        assert!(leaves_out(&["cache/**/*.db"], "/v/cache/b/c/a.db", false));
        assert!(leaves_out(&["/var/*/tmp"], "/var/u/tmp", true));
        assert!(!leaves_out(&["/var/*/tmp"], "/srv/var/u/tmp", true));
        assert!(!leaves_out(&["/var/*"], "/var/u/tmp", true));
        assert!(leaves_out(&["/var/**"], "/var/u/tmp", true));
    }

    #[test]
    fn the_last_match_counts() {
        assert!(!leaves_out(&["*.log", "!keep.log"], "/keep.log", false));
        assert!(leaves_out(&["!keep.log", "*.log"], "/keep.log", false));
        assert!(!leaves_out(&["*.log", "!/a/keep.log"], "/a/keep.log", false));
        assert!(leaves_out(&["*.log", "!/a/keep.log"], "/b/keep.log", false));
        let excludes = Excludes::new(["*.log", "/a/**", "!keep.log", "tmp/"]).unwrap();
        assert_eq!(excludes.left_out_by(b"/b", b"x.log", false), Some("*.log"));
        assert_eq!(excludes.left_out_by(b"/a", b"x.log", false), Some("/a/**"));
        assert_eq!(excludes.left_out_by(b"/b", b"tmp", true), Some("tmp/"));
        assert_eq!(excludes.left_out_by(b"/a", b"keep.log", false), None);
    }

    #[test]
    fn names_that_are_not_utf8_match_as_bytes() {
        let excludes = Excludes::new(["a?z", "/d?r/*.x"]).unwrap();
        assert!(excludes.leave_out(b"/", b"a\xffz", false));
        assert!(excludes.leave_out(b"/d\xfer", b"\xff\xfe.x", false));
        assert!(excludes.leave_out(b"/d\xfer", b"\n.x", false));
        assert!(!excludes.leave_out(b"/", b"a\xc3\xbcz", false));
        assert!(Excludes::new([b"a\xff"]).is_err());
    }

    #[test]
    fn files_hold_a_pattern_a_line() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"# comment\n\n  *.tmp \r\n!a.tmp\n").unwrap();
        let excludes = Excludes::new(["core"]).unwrap().and_file(file.path()).unwrap();
        assert!(excludes.leave_out(b"/", b"core", false));
        assert!(excludes.leave_out(b"/", b"b.tmp", false));
        assert!(!excludes.leave_out(b"/", b"a.tmp", false));
        assert!(Excludes::default().and_file(Path::new("/nonexistent/excludes")).is_err());
        for wrong in ["[a", "{a", "/", "!"] {
            assert!(Excludes::new([wrong]).is_err(), "{wrong}");
        }
    }
}
