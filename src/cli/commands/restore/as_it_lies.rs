//! All mail of one user, as the same files below DIR.

use super::selected::Selection;
use super::{RestoreArgs, options, tell};
use crate::cli::commands::Context;
use crate::cli::failure::{Exit, Failure, Kind};
use crate::cli::progress::Meter;
use crate::cli::session::Session;
use crate::ops::restore::{self, target::Overwrite};

/// Restores the roots of the user's mail one after the other.
pub fn run(
    args: &RestoreArgs,
    selection: &Selection,
    session: &Session,
    context: &Context<'_>,
) -> Result<Exit, Failure> {
    let reader = session.reader(&selection.snapshot)?;
    let user = args.messages.user.as_deref().unwrap_or_default();
    let survey = selection.survey(&reader, user, context)?;
    let mut exit = Exit::Ok;
    for (number, root) in survey.roots().into_iter().enumerate() {
        let mut options = options(args, selection.snapshot.clone(), root.clone())?;
        if let Some((old, new)) = &args.messages.map_user {
            options.place = Some(renamed(&root, old, new).ok_or_else(|| {
                let text = format!("no name in {} is that of '{old}'", crate::base::bytes::display(&root));
                Failure::new(Kind::User, text)
            })?);
        }
        if number > 0 {
            // The root before lies there now, and is nobody's live mail.
            options.overwrite = options.overwrite.or(Some(Overwrite::Never));
            options.force = true;
        }
        let meter = Meter::start("restore", context.output.manner());
        let outcome = restore::run(&reader, &options, &meter, context.interrupt);
        meter.finish();
        let report = outcome?;
        tell(&report, &options, context)?;
        if report.problem_count > 0 {
            exit = Exit::Incomplete;
        }
    }
    Ok(exit)
}

/// A path in which the names of one user are those of another: user, or name and domain.
fn renamed(path: &[u8], old: &str, new: &str) -> Option<Vec<u8>> {
    let mut names: Vec<Vec<u8>> =
        path.split(|&byte| byte == b'/').filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect();
    let parts = |user: &str| {
        let (name, domain) =
            user.rsplit_once('@').map_or((user, None), |(name, domain)| (name, Some(domain)));
        (name.to_owned(), domain.map(str::to_owned))
    };
    let ((old_name, old_domain), (new_name, new_domain)) = (parts(old), parts(new));
    let is = |name: &[u8], text: &str| name.eq_ignore_ascii_case(text.as_bytes());
    let at = names.iter().rposition(|name| is(name, old) || is(name, &old_name))?;
    if is(&names[at], old) && old_domain.is_some() {
        let whole = match (&new_domain, &old_domain) {
            (None, Some(domain)) => format!("{new_name}@{domain}"),
            _ => new.to_owned(),
        };
        names[at] = whole.into_bytes();
    } else {
        names[at] = new_name.into_bytes();
        if let (Some(old), Some(new)) = (old_domain, new_domain)
            && let Some(domain) = names[..at].iter().rposition(|name| is(name, &old))
        {
            names[domain] = new.into_bytes();
        }
    }
    Some([b"/", names.join(&b'/').as_slice()].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_renamed_in_their_paths() {
        let renamed = |path: &str, old, new| {
            renamed(path.as_bytes(), old, new).map(|path| String::from_utf8(path).unwrap())
        };
        for (path, old, new, expected) in [
            ("/home/john/Maildir", "john", "john.smith", "/home/john.smith/Maildir"),
            ("/v/x.org/john/Maildir", "john@x.org", "js@x.org", "/v/x.org/js/Maildir"),
            ("/v/x.org/john", "john@x.org", "js@y.org", "/v/y.org/js"),
            ("/v/john@x.org", "john@x.org", "js", "/v/js@x.org"),
            ("/v/john@x.org", "john@x.org", "js@y.org", "/v/js@y.org"),
            ("/var/mail/john", "john", "js", "/var/mail/js"),
        ] {
            assert_eq!(renamed(path, old, new).as_deref(), Some(expected));
        }
        assert_eq!(renamed("/home/jane", "john", "js"), None);
    }
}
