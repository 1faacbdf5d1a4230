//! `mailark repair packs`: lost and damaged packs come back from parity, from a mirror, or piece by piece.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use crate::base::id::ObjectHash;
use crate::cli::commands::{Context, backup};
use crate::cli::failure::{Exit, Failure, Kind};
use crate::cli::output::{complain, count, duration, size};
use crate::cli::progress::Meter;
use crate::cli::session::{self, Session};
use crate::ops::repair::packs::{self, Cure, Options, Report, Treated};
use crate::store::{Folder, LocalStore, Storage};

/// Mend lost and damaged packs by parity, from a mirror, or piece by piece.
///
/// Reads every pack. One that is not whole is made anew from its parity (init --parity) or taken from the mirror;
/// failing both, what still opens of it is stored again and the file is moved to damaged/ in the repository. Also
/// makes parity that is missing. Ends with 3 while something that was stored is nowhere any more.
#[derive(Debug, Args)]
pub struct PacksArgs {
    /// Take packs from this copy of the repository
    #[arg(long, value_name = "MIRROR")]
    pub from: Option<PathBuf>,
    /// Back up this job or these paths afterwards, so that what was lost is stored again; repeat for more
    #[arg(long, value_name = "JOB|PATH", conflicts_with = "dry_run")]
    pub from_source: Vec<PathBuf>,
    /// Look at this pack only; repeat for more
    #[arg(long, value_name = "HASH")]
    pub pack: Vec<ObjectHash>,
    /// Look only for packs that are missing or have another size; do not read the others
    #[arg(long)]
    pub quick: bool,
    /// Read, and say what would be done; write nothing
    #[arg(short = 'n', long)]
    pub dry_run: bool,
}

/// Repairs packs.
pub(super) fn run(args: &PacksArgs, context: &Context<'_>) -> Result<Exit, Failure> {
    let session = Session::open(context)?;
    let mirror = args.from.as_deref().map(open_mirror).transpose()?;
    let options = Options {
        mirror: mirror.as_ref().map(|store| store as &dyn Storage),
        only: &args.pack,
        quick: args.quick,
        workers: session::workers(),
        dry_run: args.dry_run,
    };
    let meter = Meter::start("repair packs", context.output.manner());
    let (repository, index) = (&session.repository, &session.index);
    let outcome = packs::run(repository, index, options, &meter, context.interrupt);
    meter.finish();
    let mut report = outcome?;
    if !args.from_source.is_empty() {
        back_up(&args.from_source, context)?;
        packs::recount(repository, index, &mut report)?;
    }
    match context.output.manner().json {
        true => context.output.json(&as_json(&report, args))?,
        false => tell(&report, args, context)?,
    }
    Ok(if report.missing() == 0 { Exit::Ok } else { Exit::Incomplete })
}

fn open_mirror(path: &Path) -> Result<LocalStore, Failure> {
    let store = LocalStore::new(path);
    // A copy without its config is as good: each pack proves itself.
    if path.join("config").exists() || !store.list(Folder::Packs)?.is_empty() {
        return Ok(store);
    }
    Err(Failure::new(Kind::User, format!("{} holds no copy of a repository", path.display())))
}

/// Backs up jobs, and all paths as one job, as `mailark backup` would.
fn back_up(sources: &[PathBuf], context: &Context<'_>) -> Result<(), Failure> {
    let name = |source: &PathBuf| {
        source.to_str().filter(|name| context.settings.jobs.contains_key(*name)).map(str::to_owned)
    };
    for job in sources.iter().filter_map(name) {
        backup::run(&backup::BackupArgs { job: Some(job), ..backup::BackupArgs::default() }, context)?;
    }
    let paths: Vec<PathBuf> = sources.iter().filter(|source| name(source).is_none()).cloned().collect();
    if !paths.is_empty() {
        backup::run(&backup::BackupArgs { paths, ..backup::BackupArgs::default() }, context)?;
    }
    Ok(())
}

fn cure_word(cure: Cure) -> &'static str {
    match cure {
        Cure::Parity => "parity",
        Cure::Mirror => "mirror",
        Cure::Salvage => "salvage",
        Cure::None => "none",
    }
}

fn tell(report: &Report, args: &PacksArgs, context: &Context<'_>) -> Result<(), Failure> {
    let out = context.output;
    let say = |text: &str| if args.dry_run { out.line(text) } else { out.summary(text) };
    say(&format!(
        "looked at {} packs ({}) in {}: {} were not whole",
        count(report.packs),
        size(report.bytes_read),
        duration(report.duration),
        count(report.treated.len() as u64)
    ))?;
    for treated in &report.treated {
        tell_of(treated, args);
    }
    if report.replaced > 0 {
        say(&format!("{} lost packs were stored again since (harmless)", count(report.replaced)))?;
    }
    let would = if args.dry_run { "would make" } else { "made" };
    if report.parity_made > 0 {
        say(&format!("{would} parity of {} packs that had none", count(report.parity_made)))?;
    }
    if report.parity_mended > 0 {
        say(&format!("{would} damaged parity of {} packs anew", count(report.parity_mended)))?;
    }
    match report.missing() {
        0 => say("nothing is missing"),
        missing => {
            complain(&format!(
                "mailark: {} blobs are missing still. What to do: back up your jobs now, what the source still has \
                 is stored again; then 'mailark repair snapshots' names what is truly lost\n",
                count(missing)
            ));
            Ok(())
        }
    }
}

fn tell_of(treated: &Treated, args: &PacksArgs) {
    let Treated { pack, trouble, cure, salvaged, kept_as, notes, .. } = treated;
    let done = match (cure, args.dry_run) {
        (Cure::Parity, false) => "healed by parity".to_owned(),
        (Cure::Parity, true) => "parity would heal it".to_owned(),
        (Cure::Mirror, false) => "replaced from the mirror".to_owned(),
        (Cure::Mirror, true) => "the mirror has it".to_owned(),
        (Cure::Salvage, false) => format!("{} blobs of it were stored again", count(*salvaged)),
        (Cure::Salvage, true) => format!("{} blobs of it would be stored again", count(*salvaged)),
        (Cure::None, _) => "could not be had again".to_owned(),
    };
    let mut text = format!("mailark: pack {pack}: {trouble}: {done}");
    if treated.missing() > 0 {
        text.push_str(&format!(", {} are missing", count(treated.missing())));
    }
    for note in notes.iter().filter(|_| !matches!(cure, Cure::Parity | Cure::Mirror)) {
        text.push_str(&format!("; {note}"));
    }
    if let Some(kept_as) = kept_as {
        text.push_str(&format!("; the damaged file is kept as {kept_as}"));
    }
    complain(&format!("{text}\n"));
}

fn as_json(report: &Report, args: &PacksArgs) -> Value {
    let treated: Vec<Value> = report
        .treated
        .iter()
        .map(|treated| {
            json!({
                "pack": treated.pack.to_string(),
                "problem": treated.trouble,
                "cure": cure_word(treated.cure),
                "salvaged_blobs": treated.salvaged,
                "missing_blobs": treated.missing(),
                "kept_as": treated.kept_as,
                "notes": treated.notes,
            })
        })
        .collect();
    json!({
        "dry_run": args.dry_run,
        "packs": report.packs,
        "bytes_read": report.bytes_read,
        "damaged": treated,
        "replaced_packs": report.replaced,
        "parity_made": report.parity_made,
        "parity_mended": report.parity_mended,
        "missing_blobs": report.missing(),
        "seconds": report.duration.as_secs_f64(),
    })
}
