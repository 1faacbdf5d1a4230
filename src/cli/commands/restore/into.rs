//! `mailark restore --runs`, `--undo` and `--redo`: what was given back to live mailboxes, and taking that back.

use clap::Args;
use serde_json::{Value, json};

use crate::base::bytes;
use crate::cli::commands::Context;
use crate::cli::delivery::journals;
use crate::cli::failure::{Exit, Failure};
use crate::cli::output::{Side, Table, count, insert_name, local_time, rfc3339};
use crate::ops::deliver::{self, Moved, Run, State};

/// What was given back to live mailboxes.
#[derive(Debug, Clone, Default, Args)]
pub struct RunsArgs {
    /// List what was given back to live mailboxes in the last 90 days
    #[arg(long, conflicts_with_all = ["from", "to", "undo", "redo"])]
    pub runs: bool,
    /// Take away what this run brought to a live mailbox, up to 90 days ago; it is kept beside the mail
    #[arg(long, value_name = "ID", conflicts_with_all = ["from", "to", "redo"])]
    pub undo: Option<String>,
    /// Put back what --undo took away
    #[arg(long, value_name = "ID", conflicts_with_all = ["from", "to"])]
    pub redo: Option<String>,
}

/// Does what is asked for; `None` when it is a restore.
pub fn run(args: &RunsArgs, context: &Context<'_>) -> Result<Option<Exit>, Failure> {
    let folder = journals(context);
    match (&args.undo, &args.redo) {
        (Some(id), _) => tell(&deliver::undo(&folder, id)?, true, context)?,
        (None, Some(id)) => tell(&deliver::redo(&folder, id)?, false, context)?,
        (None, None) if args.runs => list(&deliver::runs(&folder)?, context)?,
        (None, None) => return Ok(None),
    }
    Ok(Some(Exit::Ok))
}

fn tell(moved: &Moved, is_undo: bool, context: &Context<'_>) -> Result<(), Failure> {
    let out = context.output;
    if out.manner().json {
        return out.json(&json!({
            "run": moved.run,
            "undone": is_undo,
            "messages": moved.messages,
            "left": moved.left,
            "folders": moved.folders,
            "folders_kept": moved.kept,
            "held": moved.held.as_ref().map(|held| held.display().to_string()),
        }));
    }
    let verb = if is_undo { "took back" } else { "put back" };
    out.summary(&format!("{verb} {} messages of run {}", count(moved.messages), moved.run))?;
    if moved.left > 0 {
        let left = count(moved.left);
        out.notice(&format!(
            "{left} messages of run {} left alone: they were moved or deleted since",
            moved.run
        ));
    }
    for folder in &moved.kept {
        let folder = bytes::display(folder.as_bytes());
        out.notice(&format!("folder {folder} stays: there is other mail in it"));
    }
    if let Some(held) = &moved.held {
        out.summary(&format!("all of it is kept in {}", held.display()))?;
        let run = &moved.run;
        out.summary(&format!(
            "'mailark restore --redo {run}' puts it back; delete that folder when nobody needs it"
        ))?;
    }
    Ok(())
}

fn state(run: &Run) -> &'static str {
    match run.state {
        State::Open => "interrupted",
        State::Done => "done",
        State::Undoing => "half taken back",
        State::Undone => "taken back",
        State::Redoing => "half put back",
    }
}

fn list(runs: &[Run], context: &Context<'_>) -> Result<(), Failure> {
    let out = context.output;
    if out.manner().json {
        return out.json(&runs.iter().map(as_json).collect::<Vec<_>>());
    }
    if runs.is_empty() {
        return out.line("nothing was given back to a live mailbox from here");
    }
    let columns = [
        ("ID", Side::Left),
        ("Time", Side::Left),
        ("State", Side::Left),
        ("Messages", Side::Right),
        ("User", Side::Left),
        ("Mailbox", Side::Left),
    ];
    let mut table = Table::new(&columns);
    for run in runs {
        let messages = match run.begun.flags_only {
            true => format!("{} flagged", count(run.flagged)),
            false => count(run.brought),
        };
        table.row(vec![
            run.id.clone(),
            local_time(run.begun.at.into()),
            state(run).to_owned(),
            messages,
            bytes::display(run.begun.user.as_bytes()),
            bytes::display(&run.begun.mailbox),
        ]);
    }
    table.write(out)
}

fn as_json(run: &Run) -> Value {
    let mut object = serde_json::Map::new();
    insert_name(&mut object, "mailbox", &run.begun.mailbox);
    for (key, value) in [
        ("id", json!(run.id)),
        ("time", json!(rfc3339(run.begun.at.into()))),
        ("state", json!(state(run))),
        ("flags_only", json!(run.begun.flags_only)),
        ("brought", json!(run.brought)),
        ("flagged", json!(run.flagged)),
        ("user", json!(run.begun.user)),
        ("title", json!(run.begun.title)),
    ] {
        object.insert(key.to_owned(), value);
    }
    Value::Object(object)
}
