//! Whose mailbox a path is, and which folder of it: by path templates as Dovecot writes them, else by the path's shape.

use super::folder_name;

/// Names that servers give to the folder that holds all mail of a user; what stands above it is the user.
const ROOT_NAMES: [&str; 6] = ["Maildir", ".maildir", "mdbox", "sdbox", "dbox", "mail"];
/// What a user's own folder `mail` never lies in: `/var/mail`, `/var/spool/mail`.
const SPOOL_PARENTS: [&[u8]; 2] = [b"var", b"spool"];
/// Longest name of a folder that only spreads users over folders.
const HASHING_FOLDER_BYTES_MAX: usize = 2;

/// A template cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// It must begin at the root.
    #[error("path template '{0}' does not begin with /")]
    NotAbsolute(String),
    /// Nothing in it says who the user is.
    #[error("path template '{0}' names no user: %u, or %n with %d")]
    NoUser(String),
    /// A variable that is not known.
    #[error("path template '{0}' has an unknown variable '{1}'")]
    Unknown(String, String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Literal(Vec<u8>),
    User,
    Name,
    Domain,
    Any,
}

/// A path with variables: `%u` the user, `%n` the part before the `@`, `%d` the domain, `*` anything in one name.
///
/// Dovecot's long forms (`%{user}`, `%{user | username}`, `%{user | domain}`) and modifiers (`%Ln`, `%1n`) are
/// understood; what a modifier cuts or hashes matches anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    text: String,
    names: Vec<Vec<Token>>,
}

/// Whose mail lies below a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mailbox {
    /// The user, with the domain where one is known.
    pub user: String,
    /// So many bytes of the path are the root of the user's mail.
    pub root: usize,
}

#[derive(Default)]
struct Bound<'p> {
    user: Option<&'p [u8]>,
    name: Option<&'p [u8]>,
    domain: Option<&'p [u8]>,
}

impl Template {
    /// Reads a template.
    pub fn parse(text: &str) -> Result<Template, TemplateError> {
        let Some(below) = text.strip_prefix('/') else {
            return Err(TemplateError::NotAbsolute(text.to_owned()));
        };
        let names = below.split('/').filter(|name| !name.is_empty());
        let names: Vec<Vec<Token>> = names.map(|name| tokens(text, name)).collect::<Result<_, _>>()?;
        let says_who = names.iter().flatten().any(|token| matches!(token, Token::User | Token::Name));
        if says_who {
            Ok(Template { text: text.to_owned(), names })
        } else {
            Err(TemplateError::NoUser(text.to_owned()))
        }
    }

    /// The text it was read from.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whose mail is at or below `path`, when the path begins as the template says.
    pub fn find(&self, path: &[u8]) -> Option<Mailbox> {
        let mut bound = Bound::default();
        let mut end = 0;
        let mut given = spans(path);
        for tokens in &self.names {
            let (from, to) = given.next()?;
            if !bind(tokens, &path[from..to], &mut bound) {
                return None;
            }
            end = to;
        }
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let user = match (bound.user, bound.name, bound.domain) {
            (Some(user), ..) => text(user),
            (None, Some(name), Some(domain)) => format!("{}@{}", text(name), text(domain)),
            (None, name, _) => text(name?),
        };
        Some(Mailbox { user, root: end })
    }
}

impl Template {
    /// The root of a user's mail as the template says; `None` where it does not say all of it, or nobody can be called so.
    pub fn root_of(&self, user: &str) -> Option<Vec<u8>> {
        let (name, domain) = user.split_once('@').map_or((user, None), |(name, domain)| (name, Some(domain)));
        let mut path = Vec::new();
        for tokens in &self.names {
            let start = path.len() + 1;
            path.push(b'/');
            for token in tokens {
                path.extend_from_slice(match token {
                    Token::Literal(literal) => literal,
                    Token::User => user.as_bytes(),
                    Token::Name => name.as_bytes(),
                    Token::Domain => domain?.as_bytes(),
                    Token::Any => return None,
                });
            }
            let made = &path[start..];
            if matches!(made, b"" | b"." | b"..") || made.iter().any(|byte| matches!(byte, b'/' | 0)) {
                return None;
            }
        }
        Some(path)
    }
}

/// The names of a path: where each begins and ends.
fn spans(path: &[u8]) -> impl Iterator<Item = (usize, usize)> {
    let mut at = 0;
    path.split(|&byte| byte == b'/').filter_map(move |name| {
        let from = at;
        at += name.len() + 1;
        (!name.is_empty()).then_some((from, from + name.len()))
    })
}

fn tokens(template: &str, name: &str) -> Result<Vec<Token>, TemplateError> {
    let mut found: Vec<Token> = Vec::new();
    let mut rest = name;
    while let Some(letter) = rest.chars().next() {
        let (token, length) = match letter {
            '*' => (Token::Any, 1),
            '%' if rest.starts_with("%%") => (Token::Literal(b"%".to_vec()), 2),
            '%' => {
                variable(rest).ok_or_else(|| TemplateError::Unknown(template.to_owned(), rest.to_owned()))?
            }
            _ => {
                let end = rest.find(['%', '*']).unwrap_or(rest.len());
                (Token::Literal(rest.as_bytes()[..end].to_vec()), end)
            }
        };
        found.push(token);
        rest = &rest[length..];
    }
    Ok(found)
}

/// The variable at the start, and its length.
fn variable(text: &str) -> Option<(Token, usize)> {
    if let Some(long) = text.strip_prefix("%{") {
        let end = long.find('}')?;
        let words: Vec<&str> = long[..end].split('|').map(str::trim).collect();
        let token = match words.as_slice() {
            ["user"] => Token::User,
            ["user", "username"] | ["username"] => Token::Name,
            ["user", "domain"] | ["domain"] => Token::Domain,
            ["user" | "username" | "domain", ..] => Token::Any,
            _ => return None,
        };
        return Some((token, end + 3));
    }
    let modifiers = text[1..].bytes().take_while(|byte| !matches!(byte, b'u' | b'n' | b'd')).count();
    let modifier = &text.as_bytes()[1..1 + modifiers];
    if !modifier.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'.') {
        return None;
    }
    let plain = modifier.iter().all(|byte| matches!(byte, b'L' | b'U'));
    let token = match (text.as_bytes().get(1 + modifiers)?, plain) {
        (_, false) => Token::Any,
        (b'u', _) => Token::User,
        (b'n', _) => Token::Name,
        _ => Token::Domain,
    };
    Some((token, modifiers + 2))
}

/// Holds one name of a path against its tokens; a variable that stands twice must mean the same.
fn bind<'p>(tokens: &[Token], name: &'p [u8], bound: &mut Bound<'p>) -> bool {
    let Some((token, rest)) = tokens.split_first() else { return name.is_empty() };
    if let Token::Literal(literal) = token {
        return name.strip_prefix(literal.as_slice()).is_some_and(|name| bind(rest, name, bound));
    }
    (1..=name.len()).rev().any(|length| {
        let value = &name[..length];
        let mut tried = Bound { ..*bound };
        let place = match token {
            Token::User => &mut tried.user,
            Token::Name => &mut tried.name,
            Token::Domain => &mut tried.domain,
            Token::Any | Token::Literal(_) => &mut None,
        };
        if place.is_some_and(|known| !known.eq_ignore_ascii_case(value)) {
            return false;
        }
        *place = Some(value);
        let fits = bind(rest, &name[length..], &mut tried);
        if fits {
            *bound = tried;
        }
        fits
    })
}

/// Where users' mail lies, and where their control folders do.
#[derive(Debug, Clone, Default)]
pub struct Users {
    mail: Vec<Template>,
    control: Vec<Template>,
}

impl Users {
    /// Knows the templates of mail and those of control folders (`CONTROL=`); the first that fits counts.
    pub fn new(mail: Vec<Template>, control: Vec<Template>) -> Users {
        Users { mail, control }
    }

    /// Whose mail a mail folder or mailbox file at `path` is.
    ///
    /// `top` is the topmost mail folder on the way to it or itself, as the tree's shape tells; empty when there is none,
    /// as for an mbox. It counts where no template fits and no name on the way is one that servers give to users' mail.
    pub fn mailbox(&self, path: &[u8], top: &[u8]) -> Option<Mailbox> {
        self.mail.iter().find_map(|template| template.find(path)).or_else(|| guess(path, top))
    }

    /// Whose mailbox a path plainly is: by a template, or by names such as `/home/alice`, `example.org/alice` or
    /// `alice@example.org`; `None` where it may be anybody's.
    pub fn owner(&self, path: &[u8]) -> Option<String> {
        if let Some(mailbox) = self.mail.iter().find_map(|template| template.find(path)) {
            return Some(mailbox.user);
        }
        let guessed = guess(path, path)?.user;
        (guessed.contains('@') || path.starts_with(b"/home/")).then_some(guessed)
    }

    /// Where the mail of a user lies, by each template that says all of it.
    pub fn mail_roots(&self, user: &str) -> Vec<Vec<u8>> {
        self.mail.iter().filter_map(|template| template.root_of(user)).collect()
    }

    /// The same for control folders.
    pub fn control_roots(&self, user: &str) -> Vec<Vec<u8>> {
        self.control.iter().filter_map(|template| template.root_of(user)).collect()
    }

    /// Whose control folder is at or below `path`.
    pub fn control(&self, path: &[u8]) -> Option<Mailbox> {
        self.control.iter().find_map(|template| template.find(path))
    }
}

fn guess(path: &[u8], top: &[u8]) -> Option<Mailbox> {
    let names: Vec<(usize, usize)> = spans(path).collect();
    let name = |number: usize| &path[names[number].0..names[number].1];
    let is_root = |number: &usize| {
        ROOT_NAMES.iter().any(|known| name(*number).eq_ignore_ascii_case(known.as_bytes()))
            && !SPOOL_PARENTS.contains(&name(number - 1))
    };
    if let Some(root) = (1..names.len()).find(is_root) {
        let above: Vec<&[u8]> = (0..root).map(name).collect();
        return Some(Mailbox { user: user_of(&above)?, root: names[root].1 });
    }
    let own = if top.is_empty() { path } else { top };
    let own: Vec<(usize, usize)> = spans(own).collect();
    let above: Vec<&[u8]> = own.iter().map(|&(from, to)| &path[from..to]).collect();
    Some(Mailbox { user: user_of(&above)?, root: own.last()?.1 })
}

/// The user whose own folder these names lead to.
fn user_of(names: &[&[u8]]) -> Option<String> {
    let text = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
    let (last, above) = names.split_last()?;
    let is_domain = |name: &[u8]| !name.starts_with(b".") && name.contains(&b'.');
    if last.contains(&b'@') {
        return Some(text(last));
    }
    Some(match above {
        [.., domain] if is_domain(domain) => format!("{}@{}", text(last), text(domain)),
        [.., domain, hashing] if hashing.len() <= HASHING_FOLDER_BYTES_MAX && is_domain(domain) => {
            format!("{}@{}", text(last), text(domain))
        }
        _ => text(last),
    })
}

/// What people call the mail folder whose path below the root of the mailbox is `below`: `INBOX`, `Archive/2024`.
///
/// Maildir++ (`.Archive.2024`), LAYOUT=fs (`Archive/2024`), and the folders of dbox (`mailboxes/Archive/dbox-Mails/u.1`);
/// an mdbox storage file belongs to no folder and gives `(storage)`.
pub fn folder_name(below: &[u8]) -> String {
    let mut names: Vec<&[u8]> = spans(below).map(|(from, to)| &below[from..to]).collect();
    if names.first() == Some(&&b"storage"[..]) {
        return "(storage)".to_owned();
    }
    if names.first() == Some(&&b"mailboxes"[..]) {
        names.remove(0);
    }
    if let Some(end) = names.iter().position(|name| *name == b"dbox-Mails") {
        names.truncate(end);
    }
    match names.as_slice() {
        [] => return "INBOX".to_owned(),
        [only] if only.starts_with(b".") => {
            names = only.split(|&byte| byte == b'.').filter(|name| !name.is_empty()).collect();
        }
        _ => {}
    }
    if let [only] = names.as_slice()
        && only.eq_ignore_ascii_case(b"INBOX")
    {
        return "INBOX".to_owned();
    }
    let text = names.iter().map(|name| folder_name::decode(name)).collect::<Vec<_>>().join("/");
    // A name of dots alone is none.
    if text.is_empty() { String::from_utf8_lossy(below).trim_matches('/').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(template: &str, path: &str) -> Option<(String, String)> {
        let found = Template::parse(template).unwrap().find(path.as_bytes())?;
        Some((found.user, path[..found.root].to_owned()))
    }

    #[test]
    fn some_paths_are_plainly_of_somebody() {
        let users = Users::new(vec![Template::parse("/srv/%n").unwrap()], Vec::new());
        let owner = |path: &str| users.owner(path.as_bytes());
        for (path, user) in [
            ("/srv/anna", "anna"),
            ("/var/vmail/x.org/anna/Maildir", "anna@x.org"),
            ("/var/vmail/anna@x.org", "anna@x.org"),
            ("/home/anna/Maildir", "anna"),
        ] {
            assert_eq!(owner(path).as_deref(), Some(user), "{path}");
        }
        assert_eq!((owner("/tmp/mail"), owner("/data/restore/Maildir")), (None, None));
    }

    #[test]
    fn templates_bind_their_variables() {
        for (template, path, user, root) in [
            ("/var/mail/%u", "/var/mail/alice", "alice", "/var/mail/alice"),
            (
                "/var/vmail/%d/%n/Maildir",
                "/var/vmail/x.org/al/Maildir/.Sent/cur",
                "al@x.org",
                "/var/vmail/x.org/al/Maildir",
            ),
            ("/home/%u/Maildir/", "/home/a@b/Maildir/cur", "a@b", "/home/a@b/Maildir"),
            ("/v/%1n/%n", "/v/a/alice/cur", "alice", "/v/a/alice"),
            ("/v/%{user | domain}/%{user|username}", "/v/x.org/al", "al@x.org", "/v/x.org/al"),
            ("/v/%Ld/*/%Ln.box", "/v/x.org/7f/al.box/cur", "al@x.org", "/v/x.org/7f/al.box"),
            ("/v/%d/%n@%d", "/v/x.org/al@x.org/new", "al@x.org", "/v/x.org/al@x.org"),
        ] {
            assert_eq!(find(template, path), Some((user.to_owned(), root.to_owned())), "{template}");
        }
        for (template, path) in [
            ("/var/mail/%u", "/var/mail"),
            ("/home/%u/Maildir", "/home/al/mail/cur"),
            ("/v/%d/%n@%d", "/v/x.org/al@y.org/new"),
        ] {
            assert_eq!(find(template, path), None, "{template}");
        }
        for (template, user, root) in [
            ("/var/vmail/%d/%n/Maildir", "al@x.org", Some("/var/vmail/x.org/al/Maildir")),
            ("/home/%Lu/Maildir", "al", Some("/home/al/Maildir")),
            ("/v/%d/%n", "al", None),
            ("/v/%1n/%n", "al", None),
            ("/v/%u", "../etc", None),
            ("/v/%d/%n", "passwd@..", None),
            ("/v/%u", "", None),
        ] {
            let found = Template::parse(template).unwrap().root_of(user);
            assert_eq!(found.as_deref(), root.map(str::as_bytes), "{template} {user}");
        }
        for bad in ["mail/%u", "/var/mail", "/v/%d", "/v/%x", "/v/%{home}/%u", "/v/%"] {
            assert!(Template::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn users_are_guessed_from_the_shape_of_the_path() {
        let users = Users::default();
        for (path, top, user, folder) in [
            ("/var/vmail/x.org/al/Maildir/.Sent", "/var/vmail/x.org/al/Maildir", "al@x.org", "Sent"),
            ("/var/vmail/x.org/al/.Archive.2024", "/var/vmail/x.org/al", "al@x.org", "Archive/2024"),
            ("/var/vmail/x.org/al/Work/New", "/var/vmail/x.org/al", "al@x.org", "Work/New"),
            ("/var/vmail/x.org/a/al", "/var/vmail/x.org/a/al", "al@x.org", "INBOX"),
            ("/var/vmail/al@x.org/maildir", "/var/vmail/al@x.org/maildir", "al@x.org", "INBOX"),
            ("/home/al/Maildir", "/home/al/Maildir", "al", "INBOX"),
            ("/home/al/mail/Entw&APw-rfe", "", "al", "Entwürfe"),
            ("/var/mail/al", "", "al", "INBOX"),
            ("/var/spool/mail/al/cur", "/var/spool/mail/al", "al", "cur"),
            ("/srv/x.org/al/sdbox/mailboxes/Old/dbox-Mails/u.17", "", "al@x.org", "Old"),
            ("/srv/x.org/al/mdbox/storage/m.1", "", "al@x.org", "(storage)"),
        ] {
            let found = users.mailbox(path.as_bytes(), top.as_bytes()).unwrap();
            let below = &path.as_bytes()[found.root..];
            assert_eq!((found.user.as_str(), folder_name(below).as_str()), (user, folder), "{path}");
        }
        assert_eq!(users.mailbox(b"/", b""), None);
        assert_eq!(folder_name(b"/...."), "....");
    }
}
