//! Is this backup too small to be true? A lost mount looks like an empty mailbox.

use crate::format::snapshot::Totals;

/// A loss of more than this share since the last run wants a person to look.
const LOSS_PERCENT_MAX: u64 = 20;
/// Below this a mailbox may well lose a fifth in a day.
const WORTH_WATCHING: u64 = 20;

/// Says what is suspicious about `now`, when `before` is what the last snapshot held that was beyond doubt.
///
/// Some mail that comes in behind a lost mount must not make an empty mailbox look right.
pub fn suspicion(before: Option<&Totals>, now: &Totals, missing_parts: &[String]) -> Option<String> {
    if !missing_parts.is_empty() {
        return Some(format!("{} cannot be opened any more", missing_parts.join(", ")));
    }
    let before = before?;
    if before.messages > 0 && now.messages == 0 {
        return Some(format!("no message at all, {} before", before.messages));
    }
    if before.files > 0 && now.files == 0 {
        return Some(format!("no file at all, {} before", before.files));
    }
    let counts = [
        ("messages", before.messages, now.messages),
        ("files", before.files, now.files),
        ("folders", before.folders, now.folders),
        ("bytes", before.bytes, now.bytes),
    ];
    let lost = counts.into_iter().find(|&(_, before, now)| {
        before >= WORTH_WATCHING && now.saturating_mul(100) < before.saturating_mul(100 - LOSS_PERCENT_MAX)
    });
    lost.map(|(what, before, now)| format!("{now} {what}, {before} before"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_losses_are_suspect() {
        let totals = |messages, bytes| Totals { files: messages, messages, bytes, folders: 5, newest: 0 };
        let before = totals(1000, 1_000_000);
        assert_eq!(suspicion(None, &totals(0, 0), &[]), None);
        assert_eq!(suspicion(Some(&before), &totals(801, 900_000), &[]), None);
        assert!(suspicion(Some(&before), &totals(799, 900_000), &[]).is_some());
        assert!(suspicion(Some(&before), &totals(1000, 700_000), &[]).is_some());
        assert!(suspicion(Some(&before), &totals(0, 0), &[]).unwrap().contains("no message"));
        assert!(suspicion(Some(&totals(10, 5)), &totals(5, 5), &[]).is_none());
        assert!(suspicion(None, &before, &["/var/vmail".to_owned()]).is_some());
    }
}
