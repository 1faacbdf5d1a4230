//! One paragraph for an administrator: is mail lost, what is wrong, what to do, in which order.

use super::finding::{Finding, Kind, Subject};
use super::{Coverage, Report};

/// What all findings together mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The worst of it, for programs: `lost`, `refused`, `gap`, `snapshots`, `index`, `records`, `keys`, `unread`,
    /// `remarks` or `whole`.
    pub word: &'static str,
    /// The paragraph.
    pub text: String,
    /// What to run, in this order.
    pub commands: Vec<&'static str>,
}

const CHECK: &str = "mailark check --read-data";
const REPAIR_INDEX: &str = "mailark repair index";
const REPAIR_PACKS: &str = "mailark repair packs --from MIRROR";
const REPAIR_PARITY: &str = "mailark repair packs";
const BACKUP: &str = "mailark backup ...";
const REPAIR_SNAPSHOTS: &str = "mailark repair snapshots";

/// What was found, by what it means.
struct Symptoms {
    /// Packs are lost or rotten, or content is in no pack at all.
    content: bool,
    /// Only files suffer, and the index is damaged or does not know some packs: the packs may well be whole.
    hidden: bool,
    /// Packs are there that the index does not know: they may hold what is missing.
    unnamed: bool,
    refused: bool,
    gap: bool,
    snapshots: bool,
    index: bool,
    records: bool,
    keys: bool,
    parity: bool,
    unread: bool,
}

impl Symptoms {
    fn of(report: &Report) -> Symptoms {
        let any = |fits: &dyn Fn(&Finding) -> bool| report.findings.iter().any(fits);
        let broken = |subject: Subject| {
            any(&|found| found.subject == subject && matches!(found.kind, Kind::Damaged | Kind::Lost))
        };
        let (packs, files, index) = (broken(Subject::Pack), broken(Subject::File), broken(Subject::Index));
        let hidden = files && !packs && (index || report.orphan_packs > 0);
        Symptoms {
            content: packs || (files && !hidden),
            hidden,
            unnamed: report.orphan_packs > 0,
            refused: any(&|found| found.kind == Kind::Refused),
            gap: any(&|found| found.kind == Kind::Gap),
            snapshots: broken(Subject::Snapshot),
            index: index || hidden,
            records: broken(Subject::Record),
            parity: broken(Subject::Parity),
            keys: any(&|found| found.kind == Kind::Keys),
            unread: any(&|found| found.kind == Kind::Unread),
        }
    }

    fn word(&self, report: &Report) -> &'static str {
        let words = [
            (self.content, "lost"),
            (self.refused, "refused"),
            (self.gap, "gap"),
            (self.snapshots, "snapshots"),
            (self.index, "index"),
            (self.records, "records"),
            (self.keys, "keys"),
            (self.parity, "parity"),
            (self.unread, "unread"),
            (report.has_remarks(), "remarks"),
        ];
        words.into_iter().find(|(is_so, _)| *is_so).map_or("whole", |(_, word)| word)
    }

    /// Is mail lost?
    fn loss(&self, report: &Report) -> String {
        let snapshots = match report.broken_snapshots {
            0 => "Which snapshots suffer is not known yet.".to_owned(),
            1 => "1 snapshot lacks something.".to_owned(),
            number => format!("{number} snapshots lack something."),
        };
        if self.content {
            let hope = "What is named above cannot be restored as it stands, but it may still lie in a mirror, or on \
                        the mail server.";
            return format!("Mail may be lost. {snapshots} {hope}");
        }
        if self.hidden {
            return format!("No mail is lost as far as can be told, but it is out of reach. {snapshots}");
        }
        if self.snapshots || self.gap {
            return "Whole backups may be lost: those that are named above cannot be restored.".to_owned();
        }
        if self.unread {
            return "Nothing is known to be lost, but not everything could be looked at.".to_owned();
        }
        "No mail is lost.".to_owned()
    }

    /// What each trouble is, and what a person must do about it besides running commands.
    fn explanations(&self) -> Vec<&'static str> {
        let all = [
            (
                self.unread,
                "Some objects could not be read: look at the disk, the mount and the permissions, and check again.",
            ),
            (
                self.refused,
                "Refused objects were not made by this repository's hosts for the place where they are, or say what \
                 is not true: somebody who can write to the storage forged or moved them, or a machine with failing \
                 memory wrote them. They count for nothing. Keep a copy as evidence, find out who can write there, \
                 and change those credentials and the writer keys concerned.",
            ),
            (
                self.gap,
                "Something was removed without a signed record, or an older copy of the repository was put in place. \
                 This program never does that: find out who can delete on the storage. A mirror may still have it.",
            ),
            (
                self.snapshots,
                "A damaged snapshot object loses one backup, not its content: copy the named file back from a \
                 mirror, and do not prune before. If no copy is left, `mailark repair snapshots --drop-unreadable` \
                 strikes it off.",
            ),
            (
                self.index,
                "The index is damaged or incomplete. It is made anew from the packs, which hold the mail.",
            ),
            (
                self.content,
                "Damaged or missing packs are taken from a mirror (without `--from` only what parity can mend is \
                 mended); what the mail server still has is stored again by the next backup; the last step says by \
                 user, folder and message what is truly lost, and takes it out of the snapshots, so that all else \
                 restores without an error.",
            ),
            (
                self.parity,
                "Damaged parity loses nothing by itself: it is made anew while its packs are whole.",
            ),
            (
                self.records,
                "A damaged record counts for nothing, and nothing is pruned beside it: copy the named file back from \
                 a mirror (`mailark repair records --from MIRROR`). It may be one that holds a snapshot.",
            ),
            (
                self.keys,
                "Copy a damaged config or key slot back from a mirror. If there is none, replace a key slot with \
                 `mailark key add` and `mailark key remove`. A damaged config keeps backups from being made, not \
                 from being restored.",
            ),
        ];
        all.into_iter().filter(|(is_so, _)| *is_so).map(|(_, text)| text).collect()
    }

    fn commands(&self) -> Vec<&'static str> {
        let mut commands = Vec::new();
        if self.index || self.content && self.unnamed {
            commands.push(REPAIR_INDEX);
        }
        if self.content {
            commands.extend([REPAIR_PACKS, BACKUP, REPAIR_SNAPSHOTS]);
        } else if self.snapshots || self.gap || self.hidden {
            commands.push(BACKUP);
        }
        if self.parity && !self.content {
            commands.push(REPAIR_PARITY);
        }
        commands.push(CHECK);
        commands
    }
}

impl Report {
    /// Is there something worth knowing that is not wrong?
    fn has_remarks(&self) -> bool {
        !self.remarks.is_empty()
            || self.orphan_packs + self.replaced_packs + self.pruned_packs + self.doomed_packs > 0
    }

    /// How far the content was read.
    pub fn content_text(&self) -> String {
        let days = |seconds: i64| match seconds / 86_400 {
            0 => "the last day".to_owned(),
            days => format!("the last {} days", days + 1),
        };
        match (self.packs, self.coverage) {
            (0, _) => "there is no content yet".to_owned(),
            (_, Coverage { never_read: 0, oldest_s: Some(oldest) }) => {
                format!("all content was read within {}", days(oldest))
            }
            (packs, Coverage { never_read, .. }) if never_read >= packs => {
                "stored content was never read: --read-data does that".to_owned()
            }
            (packs, Coverage { never_read, oldest_s }) => {
                let rest = oldest_s.map(|oldest| format!(", the others within {}", days(oldest)));
                let rest = rest.unwrap_or_default();
                format!("{never_read} of {packs} packs were never read{rest}")
            }
        }
    }

    /// What all of it means.
    pub fn verdict(&self) -> Verdict {
        let symptoms = Symptoms::of(self);
        let word = symptoms.word(self);
        if self.findings.is_empty() {
            let harmless = if word == "remarks" { " What is remarked above is harmless." } else { "" };
            let text = format!("No damage found: {}.{harmless}", self.content_text());
            return Verdict { word, text, commands: Vec::new() };
        }
        let commands = symptoms.commands();
        let mut sentences = vec![symptoms.loss(self)];
        sentences.extend(symptoms.explanations().into_iter().map(str::to_owned));
        sentences.push("Everything that is not named above is whole and can be restored.".to_owned());
        let steps: Vec<String> = commands
            .iter()
            .enumerate()
            .map(|(number, command)| format!("{}. `{command}`", number + 1))
            .collect();
        let first =
            if word == "unread" || word == "keys" { "" } else { " First make a copy of the repository." };
        sentences.push(format!("What to do:{first} Then, in this order: {}.", steps.join(", ")));
        Verdict { word, text: sentences.join(" "), commands }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(found: &[(Kind, Subject)]) -> Report {
        let mut report = Report { packs: 10, ..Report::default() };
        report.coverage.never_read = 10;
        for (kind, subject) in found {
            report.add(Finding::new(*kind, *subject, "object", "text"));
        }
        report
    }

    #[track_caller]
    fn assert_verdict(report: &Report, word: &str, commands: &[&str], says: &str) {
        let verdict = report.verdict();
        assert_eq!(verdict.word, word, "{}", verdict.text);
        assert_eq!(verdict.commands, commands, "{}", verdict.text);
        assert!(verdict.text.contains(says), "nothing says '{says}': {}", verdict.text);
        let steps = verdict.commands.iter().map(|command| verdict.text.find(&format!("`{command}`")));
        assert!(steps.is_sorted(), "{}", verdict.text);
    }

    #[test]
    fn nothing_wrong_and_harmless_remarks() {
        assert_verdict(&report(&[]), "whole", &[], "No damage found: stored content was never read");
        let remark = report(&[(Kind::Remark, Subject::Record)]);
        assert_verdict(&remark, "remarks", &[], "harmless");
        assert_eq!((remark.finding_count, remark.remarks.len()), (0, 1));
        assert_verdict(&Report { orphan_packs: 1, ..report(&[]) }, "remarks", &[], "harmless");
    }

    #[test]
    fn content_is_mended_in_order() {
        let all = [REPAIR_PACKS, BACKUP, REPAIR_SNAPSHOTS, CHECK];
        for kind in [Kind::Lost, Kind::Damaged] {
            assert_verdict(&report(&[(kind, Subject::Pack)]), "lost", &all, "Mail may be lost");
            assert_verdict(&report(&[(kind, Subject::File)]), "lost", &all, "taken from a mirror");
        }
        let both = report(&[(Kind::Damaged, Subject::Index), (Kind::Lost, Subject::Pack)]);
        let all = [REPAIR_INDEX, REPAIR_PACKS, BACKUP, REPAIR_SNAPSHOTS, CHECK];
        assert_verdict(&both, "lost", &all, "made anew from the packs");
    }

    #[test]
    fn a_damaged_index_loses_no_mail() {
        let alone = report(&[(Kind::Damaged, Subject::Index)]);
        assert_verdict(&alone, "index", &[REPAIR_INDEX, CHECK], "No mail is lost.");
        let mut hidden = report(&[(Kind::Lost, Subject::File), (Kind::Damaged, Subject::Index)]);
        hidden.broken_snapshots = 2;
        let steps = [REPAIR_INDEX, BACKUP, CHECK];
        assert_verdict(&hidden, "index", &steps, "out of reach. 2 snapshots lack something");
        // The delta is gone altogether: its packs are left, and nobody names them.
        let unnamed = Report { orphan_packs: 1, ..report(&[(Kind::Lost, Subject::File)]) };
        assert_verdict(&unnamed, "index", &steps, "out of reach");
    }

    #[test]
    fn snapshots_records_and_keys() {
        let snapshot = report(&[(Kind::Damaged, Subject::Snapshot)]);
        assert_verdict(&snapshot, "snapshots", &[BACKUP, CHECK], "do not prune before");
        let record = report(&[(Kind::Damaged, Subject::Record)]);
        assert_verdict(&record, "records", &[CHECK], "No mail is lost. A damaged record");
        let keys = report(&[(Kind::Keys, Subject::Key)]);
        assert_verdict(&keys, "keys", &[CHECK], "No mail is lost. Copy a damaged config");
        let unread = report(&[(Kind::Unread, Subject::Pack)]);
        assert_verdict(&unread, "unread", &[CHECK], "permissions");
    }

    #[test]
    fn tampering_says_what_it_means() {
        let refused = report(&[(Kind::Refused, Subject::Snapshot)]);
        assert_verdict(&refused, "refused", &[CHECK], "No mail is lost. Refused objects");
        let gap = report(&[(Kind::Gap, Subject::History)]);
        assert_verdict(&gap, "gap", &[BACKUP, CHECK], "without a signed record");
        let worst =
            report(&[(Kind::Refused, Subject::Key), (Kind::Lost, Subject::Pack), (Kind::Keys, Subject::Key)]);
        assert_eq!(worst.verdict().word, "lost");
        assert!(worst.verdict().text.contains("evidence") && worst.verdict().text.contains("key slot"));
    }

    #[test]
    fn how_far_the_content_was_read() {
        let text = |never_read, oldest_s| {
            Report { packs: 10, coverage: Coverage { never_read, oldest_s }, ..Report::default() }
                .content_text()
        };
        assert_eq!(text(0, Some(5)), "all content was read within the last day");
        assert_eq!(text(0, Some(86_400 * 3)), "all content was read within the last 4 days");
        assert_eq!(text(4, Some(5)), "4 of 10 packs were never read, the others within the last day");
        assert!(text(10, None).contains("never read"));
        assert_eq!(Report::default().content_text(), "there is no content yet");
    }
}
