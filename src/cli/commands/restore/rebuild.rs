//! `mailark restore --user U --rebuild MAILDIR`: a lost mailbox comes back so that mail clients do not notice.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::RestoreArgs;
use super::doveadm::{self, Ran};
use super::letters::head_of;
use super::messages::Request;
use super::outlet::{Outlet, Tally};
use super::selected::Selection;
use crate::base::{bytes, clock, entropy};
use crate::cli::commands::Context;
use crate::cli::failure::{Exit, Failure, Kind};
use crate::cli::output::{Side, Table, complain, count, in_zone};
use crate::cli::progress::Meter;
use crate::cli::retrieve::Readers;
use crate::cli::session::Session;
use crate::mail::folder_name::Layout;
use crate::mail::letter::Letter;
use crate::ops::pick::{self, FolderKind, MailFolder, State, Step, Survey};
use crate::ops::rebuild::place::{self, Staged};
use crate::ops::rebuild::room::{Observer, Seen, Witness, goes_on, next_uid};
use crate::ops::rebuild::{Live, Placed, Way};
use crate::ops::restore::letters::{DirSink, FolderHead, MaildirWriter, empty_target};
use crate::ops::restore::target::Owners;
use crate::repo::reader::BlobReader;
use crate::source::names::Accounts;

/// What becomes of one folder.
struct Fate {
    name: String,
    validity: Option<u32>,
    next: u32,
    way: Way,
    /// Its numbering stays as it is.
    stays: bool,
}

/// A rebuild that was thought through.
struct Plan<'s> {
    survey: &'s Survey,
    live: Live,
    layout: Layout,
    fates: Vec<Fate>,
    /// Above every modification sequence that a client can have seen.
    modseq: i64,
}

/// Rebuilds.
pub fn run(
    args: &RestoreArgs,
    request: &Request,
    selection: &Selection,
    session: &Session,
    context: &Context<'_>,
) -> Result<Exit, Failure> {
    let Some(maildir) = &args.messages.rebuild else { return Ok(Exit::Failed) };
    let maildir = &plain(maildir);
    if !request.query.wants_all() || request.deleted.is_some() {
        let text = "--rebuild brings whole folders: --message, --received, --sent and --deleted-between do not go with it";
        return Err(Failure::new(Kind::Usage, text));
    }
    let reader = session.reader(&selection.snapshot)?;
    let survey = selection.survey(&reader, &request.query.user, context)?;
    let plan = Plan::make(args, request, (&survey, &reader), maildir, session, context)?;
    if args.dry_run {
        plan.tell(args, selection, context)?;
        return Ok(Exit::Ok);
    }
    // A server that runs must not see half a Maildir.
    let stage = place::stage_path(maildir, &bytes::hex(&entropy::random::<4>()));
    let meter = Meter::start("rebuild", context.output.manner());
    let written = plan.write((args, request), &reader, &stage, &meter, context);
    meter.finish();
    let placed = written.and_then(|tally| Ok((tally, plan.place(&stage)?)));
    let ((tally, moved), placed) = placed.map_err(|failure| match stage.exists() {
        true => failure.hint(format!("what was written so far is in {}", stage.display())),
        false => failure,
    })?;
    let lines = plan.doveadm_lines(&survey.user);
    let ran = doveadm::run(&lines, maildir, &survey.user, context);
    plan.report((args, selection), (&tally, &placed, moved), (&lines, &ran), context)?;
    Ok(if tally.problem_count == 0 && !ran.failed { Exit::Ok } else { Exit::Incomplete })
}

/// The place itself, without links and slashes at the end: something is written beside it.
fn plain(maildir: &Path) -> PathBuf {
    let path = maildir.canonicalize().or_else(|_| std::path::absolute(maildir));
    path.unwrap_or_else(|_| maildir.to_owned()).components().collect()
}

/// Knows which messages were moved to another folder since: they do not come twice.
struct Moved<'m, 's> {
    plan: &'m Plan<'s>,
    reader: &'m BlobReader<'m>,
    context: &'m Context<'m>,
    /// What the snapshot's folders held, as far as it was asked for.
    bases: HashMap<String, HashSet<Vec<u8>>>,
    count: u64,
}

impl Moved<'_, '_> {
    /// Does a message lie in a folder now that did not hold it then? A copy that lay there before is another message.
    fn has(&mut self, letter: &Letter) -> Result<bool, Failure> {
        for name in self.plan.live.elsewhere(&letter.base, &letter.folder) {
            if !self.bases.contains_key(name) {
                let mut held = HashSet::new();
                for folder in self.plan.survey.folders.iter().filter(|folder| folder.name == name) {
                    held.extend(pick::bases(self.reader, folder, self.context.interrupt)?);
                }
                self.bases.insert(name.to_owned(), held);
            }
            if self.bases.get(name).is_some_and(|held| !held.contains(&letter.base)) {
                self.count += 1;
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Where a folder's numbers are looked for.
fn witness(folder: &MailFolder) -> Option<Witness> {
    match (&folder.uidlist, &folder.kind) {
        (Some((path, _)), _) => Some(Witness::List(path.clone())),
        (None, FolderKind::Mbox(_)) => Some(Witness::Mbox(folder.path.clone())),
        _ => None,
    }
}

impl<'s> Plan<'s> {
    fn make(
        args: &RestoreArgs,
        request: &Request,
        (survey, reader): (&'s Survey, &BlobReader<'_>),
        maildir: &Path,
        session: &Session,
        context: &Context<'_>,
    ) -> Result<Plan<'s>, Failure> {
        let layout = args.messages.layout.unwrap_or_default().into();
        let folders = survey.wanted(&request.query)?;
        let live = Live::look(maildir, layout)?;
        let seen = observe(&folders, session, context)?;
        let now = clock::now_seconds();
        let mut fates: Vec<Fate> = Vec::new();
        for folder in folders {
            if fates.iter().any(|fate| fate.name == folder.name) {
                continue;
            }
            let mut own = seen.get(&folder.name).cloned().unwrap_or_default();
            let there = live.folders.get(&folder.name);
            let numbers = there.and_then(|live| live.numbers);
            let unused = there.map_or(0, |live| live.unused);
            let goes_on = numbers.filter(|numbers| goes_on(*numbers, unused, &own));
            own.extend(numbers.map(|(validity, next)| Seen { at: now, validity, next }));
            let validity = validity_of(folder, reader, &own, context)?;
            let numbered = validity.and_then(|validity| Some((validity, next_uid(validity, &own, now)?)));
            if numbered.is_none() && witness(folder).is_some() {
                complain(&format!(
                    "mailark: {}: its UIDs cannot be kept (the list is damaged, or all UIDs are used up): mail programs \
                     will fetch this folder anew\n",
                    crate::base::bytes::display(folder.name.as_bytes())
                ));
            }
            let (validity, next) =
                (numbered.map(|(validity, _)| validity), numbered.map_or(0, |(_, next)| next));
            let way = Way::of(validity, there);
            let kept = goes_on.filter(|_| way == Way::Merge);
            let next = kept.map_or(next, |(_, next)| next);
            fates.push(Fate { name: folder.name.clone(), validity, next, way, stays: kept.is_some() });
        }
        Ok(Plan { survey, live, layout, fates, modseq: now })
    }

    /// Writes all folders into `stage`; gives also how many messages were left where they lie now.
    fn write(
        &self,
        (args, request): (&RestoreArgs, &Request),
        reader: &BlobReader<'_>,
        stage: &Path,
        meter: &Meter,
        context: &Context<'_>,
    ) -> Result<(Tally, u64), Failure> {
        let owners = Owners::new(Accounts::of_this_host(), args.numeric_ids);
        if let Some(folder) = self.survey.folders.first() {
            let name = |name: &[u8]| if name.is_empty() { None } else { Some(name.to_vec()) };
            let uid = owners.uid(folder.owner.uid, name(&folder.owner.user).as_deref());
            let gid = owners.gid(folder.owner.gid, name(&folder.owner.group).as_deref());
            place::make_above(stage, uid, gid)?;
        }
        let target = empty_target(stage)?;
        let mut writer = MaildirWriter::new(DirSink::new(&target, &owners), self.layout);
        let mut outlet = Outlet::new(Some(&mut writer), meter, false);
        self.survey.broken.iter().for_each(|(path, error)| outlet.broken(path, error));
        let mut moved = Moved { plan: self, reader, context, bases: HashMap::new(), count: 0 };
        for folder in self.survey.wanted(&request.query)? {
            let Some(fate) = self.fates.iter().find(|fate| fate.name == folder.name) else { continue };
            let state = State::read(reader, folder, context.interrupt)?;
            state.broken.iter().for_each(|(path, error)| outlet.broken(path, error));
            let head = FolderHead { validity: fate.validity, next_uid: fate.next, ..head_of(folder, &state) };
            outlet.folder(&head)?;
            let live = self.live.folders.get(&folder.name).filter(|_| fate.way == Way::Merge);
            let source = (reader, context.interrupt, &request.zone);
            pick::letters(source, folder, &state, &request.query, &mut |step| match step {
                Step::Letter(picked) if moved.has(&picked.letter)? => Ok(()),
                Step::Letter(picked) if live.is_some_and(|live| live.bases.contains(&picked.letter.base)) => {
                    Ok(())
                }
                Step::Letter(picked) => outlet.letter(&head, &picked),
                Step::Broken(path, error) => {
                    outlet.broken(&path, &error);
                    Ok::<_, Failure>(())
                }
            })?;
        }
        let subscriptions = match &self.survey.subscriptions {
            Some(file) => pick::read_subscriptions(reader, file, context.interrupt)?,
            None => None,
        };
        let count = moved.count;
        Ok((outlet.finish(subscriptions.as_deref())?, count))
    }

    fn place(&self, stage: &Path) -> Result<Placed, Failure> {
        if self.live.is_empty && place::put_whole(stage, &self.live.path)? {
            return Ok(Placed::default());
        }
        let staged = |fate: &Fate| Staged { name: fate.name.clone(), validity: fate.validity, way: fate.way };
        let staged: Vec<Staged> = self.fates.iter().map(staged).collect();
        let stamp = in_zone(clock::now(), "%Y-%m-%dT%H%M%S", &jiff::tz::TimeZone::system());
        Ok(place::place(stage, &self.live.path, self.layout, &staged, &stamp)?)
    }

    /// The arguments of `doveadm`, two calls for each folder; the last is the folder's name with slashes.
    ///
    /// The first has Dovecot take the folder in. A folder without an index must not be updated before: Dovecot begins an
    /// index with the new numbers then, finds it at odds with the list, and loses track of messages.
    fn doveadm_lines(&self, user: &str) -> Vec<Vec<String>> {
        let known = self.fates.iter().filter(|fate| fate.validity.is_some() && !fate.stays);
        let lines = |fate: &Fate| {
            let (next, modseq) = (fate.next.to_string(), self.modseq.to_string());
            let look = ["mailbox", "status", "-u", user, "messages uidnext"];
            let update =
                ["mailbox", "update", "-u", user, "--min-next-uid", &next, "--min-highest-modseq", &modseq];
            [&look[..], &update].map(|words| -> Vec<String> {
                words.iter().map(|word| (*word).to_owned()).chain([fate.name.clone()]).collect()
            })
        };
        known.flat_map(lines).collect()
    }

    fn table(&self) -> Table {
        let mut table = Table::new(&[
            ("UIDVALIDITY", Side::Right),
            ("NEXT UID", Side::Right),
            ("WAY", Side::Left),
            ("FOLDER", Side::Left),
        ]);
        for fate in &self.fates {
            let number = |number: Option<u32>| number.map_or("-".to_owned(), |number| number.to_string());
            let next = fate.validity.map(|_| fate.next);
            let way = way_name(fate.way).to_owned();
            table.row(vec![number(fate.validity), number(next), way, bytes::display(fate.name.as_bytes())]);
        }
        table
    }

    fn tell(&self, args: &RestoreArgs, selection: &Selection, context: &Context<'_>) -> Result<(), Failure> {
        if context.output.manner().json {
            return context.output.json(&self.as_json(args, selection));
        }
        self.table().write(context.output)?;
        context.output.line(&format!("would rebuild {}", self.live.path.display()))
    }

    fn as_json(&self, args: &RestoreArgs, selection: &Selection) -> Value {
        let folder = |fate: &Fate| {
            json!({
                "folder": fate.name,
                "uidvalidity": fate.validity,
                "next_uid": fate.validity.map(|_| fate.next),
                "way": way_name(fate.way),
            })
        };
        json!({
            "snapshot": selection.snapshot.hash.to_string(),
            "user": self.survey.user,
            "maildir": self.live.path.display().to_string(),
            "dry_run": args.dry_run,
            "folders": self.fates.iter().map(folder).collect::<Vec<_>>(),
        })
    }

    fn report(
        &self,
        (args, selection): (&RestoreArgs, &Selection),
        (tally, placed, moved): (&Tally, &Placed, u64),
        (lines, ran): (&[Vec<String>], &Ran),
        context: &Context<'_>,
    ) -> Result<(), Failure> {
        let out = context.output;
        if out.manner().json {
            let mut object = self.as_json(args, selection);
            object["messages"] = tally.messages().into();
            object["merged"] = placed.merged.into();
            object["moved"] = moved.into();
            object["live_only"] = placed.live_only.into();
            object["aside"] = placed.aside.as_ref().map(|path| path.display().to_string()).into();
            object["keywords_missing"] = placed.keywords_missing.iter().cloned().collect::<Vec<_>>().into();
            object["doveadm"] = lines.to_vec().into();
            object["doveadm_ran"] = ran.done.into();
            object["problem_count"] = tally.problem_count.into();
            return out.json(&object);
        }
        if out.manner().tells_success() {
            self.table().write(out)?;
        }
        out.summary(&format!(
            "{} messages came back to {}",
            count(tally.messages()),
            self.live.path.display()
        ))?;
        if placed.live_only > 0 {
            out.summary(&format!(
                "{} messages that only lay there came back as new mail",
                count(placed.live_only)
            ))?;
        }
        if moved > 0 {
            out.summary(&format!("{} messages lie in another folder by now, and stay there", count(moved)))?;
        }
        if let Some(aside) = &placed.aside {
            out.summary(&format!("what lay there before is in {}", aside.display()))?;
        }
        if !placed.keywords_missing.is_empty() {
            let names: Vec<&str> = placed.keywords_missing.iter().map(String::as_str).collect();
            complain(&format!(
                "mailark: keywords that the live folder does not know were left out: {}\n",
                names.join(", ")
            ));
        }
        ran.complaints.iter().for_each(|text| complain(&format!("mailark: {text}\n")));
        if !ran.done && !lines.is_empty() && !out.manner().quiet {
            out.line("")?;
            out.line("Clients that ask for changes only (CONDSTORE) need this too; call folders as your server does:")?;
            for line in lines {
                out.line(&format!("  doveadm {}", doveadm::shell_words(line)))?;
            }
            if self.live.is_empty {
                out.line(
                    "For a server that keeps mail in another form than Maildir, into an empty mailbox:",
                )?;
                let path = std::path::absolute(&self.live.path).unwrap_or_else(|_| self.live.path.clone());
                out.line(&format!(
                    "  doveadm sync -1 -R -u {} maildir:{}",
                    self.survey.user,
                    path.display()
                ))?;
            }
        }
        if tally.problem_count > 0 {
            complain(&format!(
                "mailark: {} problems: the rebuild is incomplete\n",
                count(tally.problem_count)
            ));
        }
        Ok(())
    }
}

fn way_name(way: Way) -> &'static str {
    match way {
        Way::New => "new",
        Way::Merge => "merge",
        Way::Replace => "replace",
    }
}

/// The UIDVALIDITY that a folder had.
fn validity_of(
    folder: &MailFolder,
    reader: &BlobReader<'_>,
    seen: &[Seen],
    context: &Context<'_>,
) -> Result<Option<u32>, Failure> {
    if let FolderKind::Mbox(_) = folder.kind {
        return Ok(seen.last().map(|seen| seen.validity));
    }
    Ok(State::read(reader, folder, context.interrupt)?.validity())
}

/// What the folders showed in all snapshots that hold them, oldest first.
fn observe(
    folders: &[&MailFolder],
    session: &Session,
    context: &Context<'_>,
) -> Result<BTreeMap<String, Vec<Seen>>, Failure> {
    let listed = session.look()?.0.snapshots;
    let readers = Readers::new(session, listed.iter())?;
    let mut observer = Observer::default();
    let mut seen: BTreeMap<String, Vec<Seen>> = BTreeMap::new();
    for folder in folders {
        let Some(witness) = witness(folder) else { continue };
        for info in &listed {
            let found = observer.look(readers.of(info), info, &witness, context.interrupt)?;
            seen.entry(folder.name.clone()).or_default().extend(found);
        }
    }
    Ok(seen)
}
