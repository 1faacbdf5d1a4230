//! Whose mail a path holds, by the layouts that mail servers keep: `…/alice`, `…/alice@example.org`,
//! `…/example.org/alice`, `…/example.org/a/alice`.

/// Longest name of a folder that only spreads users over folders: `a`, `al`, or two hex digits of a hash.
const HASHING_FOLDER_BYTES_MAX: usize = 2;

/// Do the last names of this path name the user's own folder?
///
/// `folders` are the names from the root down, without slashes; the last may as well be an mbox file. A user
/// without a domain is that of any domain. ASCII letters match in either case.
pub fn matches(user: &str, folders: &[&[u8]]) -> bool {
    let Some((last, above)) = folders.split_last() else { return false };
    if user.is_empty() {
        return false;
    }
    if last.eq_ignore_ascii_case(user.as_bytes()) {
        return true;
    }
    let Some((name, domain)) = user.rsplit_once('@') else { return false };
    if name.is_empty() || domain.is_empty() || !last.eq_ignore_ascii_case(name.as_bytes()) {
        return false;
    }
    let is_domain = |folder: &&[u8]| folder.eq_ignore_ascii_case(domain.as_bytes());
    match above {
        [.., parent] if is_domain(parent) => true,
        [.., parent, hashing] => hashing.len() <= HASHING_FOLDER_BYTES_MAX && is_domain(parent),
        _ => false,
    }
}

/// Is the user that was found the one that was asked for? One without a domain is that of any domain.
pub fn is_user(wanted: &str, found: &str) -> bool {
    let local = found.rsplit_once('@').map_or(found, |(local, _)| local);
    found.eq_ignore_ascii_case(wanted) || !wanted.contains('@') && local.eq_ignore_ascii_case(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(user: &str, path: &str) -> bool {
        let folders: Vec<&[u8]> =
            path.split('/').filter(|name| !name.is_empty()).map(str::as_bytes).collect();
        matches(user, &folders)
    }

    #[test]
    fn a_user_is_found_in_the_usual_layouts() {
        for (user, path) in [
            ("alice", "/home/alice"),
            ("alice", "/var/vmail/example.org/alice"),
            ("Alice", "/var/vmail/EXAMPLE.org/aLICE"),
            ("alice@example.org", "/var/vmail/alice@example.org"),
            ("alice@example.org", "/var/vmail/example.org/alice"),
            ("ALICE@Example.Org", "/var/vmail/example.org/alice"),
            ("alice@example.org", "/var/vmail/example.org/a/alice"),
            ("alice@example.org", "/var/vmail/example.org/3f/alice"),
            ("alice@example.org", "example.org/alice"),
            ("\"a@b\"@example.org", "/var/vmail/example.org/\"a@b\""),
        ] {
            assert!(holds(user, path), "{user} in {path}");
        }
    }

    #[test]
    fn nobody_else_is_taken_for_the_user() {
        for (user, path) in [
            ("alice", "/"),
            ("alice", "/home/alice2"),
            ("alice", "/home/alice/Maildir"),
            ("alice", "/home/xalice"),
            ("alice", "/home/alice@example.org"),
            ("alice@example.org", "/home/alice"),
            ("alice@example.org", "/alice"),
            ("alice@example.org", "/var/vmail/example.com/alice"),
            ("alice@example.org", "/var/vmail/example.org"),
            ("alice@example.org", "/var/vmail/example.org/bob/alice"),
            ("alice@example.org", "/var/vmail/example.org/a/l/alice"),
            ("alice@example.org", "/var/vmail/example.org/malice"),
            ("@example.org", "/var/vmail/example.org/alice"),
            ("alice@", "/home/alice"),
            ("", "/home"),
        ] {
            assert!(!holds(user, path), "{user} in {path}");
        }
    }
}
