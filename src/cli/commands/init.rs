//! `mailark init`: a new repository.

use std::path::Path;

use clap::Args;

use crate::base::limits;
use crate::cli::commands::Context;
use crate::cli::failure::{Exit, Failure, Kind};
use crate::cli::secret::{self, Secret};
use crate::cli::settings::KeySource;
use crate::crypto::recovery::RecoveryCode;
use crate::repo::Repository;
use crate::repo::repository::NewSlot;
use crate::store::LocalStore;

/// Make a repository and the key that opens it.
///
/// The key file named by --key-file (or the default one) is made when it is missing. A recovery code is printed
/// once: whoever holds neither key nor code can never read the repository again.
#[derive(Debug, Default, Args)]
pub struct InitArgs {
    /// Print no recovery code, and make no key slot for one
    #[arg(long)]
    pub no_recovery_code: bool,
    /// Add so much parity to every pack (3 without a number), so that 'repair packs' heals damaged ones without a
    /// second copy; cannot be changed later
    #[arg(
        long,
        value_name = "PERCENT",
        num_args = 0..=1,
        require_equals = true,
        default_value_t = 0,
        default_missing_value = "3",
        hide_default_value = true,
        value_parser = clap::value_parser!(u32).range(0..=i64::from(limits::PARITY_PERCENT_MAX))
    )]
    pub parity: u32,
}

/// Makes the repository.
pub fn run(args: &InitArgs, context: &Context<'_>) -> Result<Exit, Failure> {
    create(context, args)?;
    Ok(Exit::Ok)
}

/// Makes the repository that the settings name, with the key that they name, and tells what to keep safe.
pub fn create(context: &Context<'_>, args: &InitArgs) -> Result<Repository, Failure> {
    let settings = &context.settings;
    let with_recovery_code = !args.no_recovery_code;
    let (secret, key_file) = match &settings.key.value {
        KeySource::KeyFile(path) => (key_file(path)?, Some(path.clone())),
        // Nothing named: a key file at the usual place, so that tonight's cron job finds it.
        KeySource::Prompt => (key_file(&settings.default_key_file)?, Some(settings.default_key_file.clone())),
        KeySource::RecoveryPrompt | KeySource::RecoveryFile(_) => {
            return Err(Failure::new(Kind::Usage, "a new repository makes its recovery code itself")
                .hint("leave --recovery-code away"));
        }
        source => (secret::obtain(source, context.interrupt)?, None),
    };
    let code = RecoveryCode::generate();
    let recovery = Secret::Recovery(code.text().to_string());
    let mut slots = vec![NewSlot { secret: &secret, label: "first key" }];
    if with_recovery_code {
        slots.push(NewSlot { secret: &recovery, label: "recovery code" });
    }
    let path = &settings.repository.value;
    let repository = Repository::init(LocalStore::new(path), &slots, args.parity)?;
    let out = context.output;
    if out.manner().json {
        let mut result = serde_json::json!({
            "repository": path.display().to_string(),
            "id": repository.id().to_string(),
            "parity_percent": args.parity,
            "key_file": key_file.as_ref().map(|path| path.display().to_string()),
        });
        if with_recovery_code {
            result["recovery_code"] = code.text().as_str().into();
        }
        out.json(&result)?;
        return Ok(repository);
    }
    out.line(&format!("made repository {}", path.display()))?;
    if let Some(key_file) = &key_file {
        out.line(&format!("key file        {}", key_file.display()))?;
    }
    if with_recovery_code {
        out.line(&format!("recovery code   {}", code.text().as_str()))?;
        out.line("")?;
        out.line("Write the recovery code down and keep a copy of the key file away from this machine:")?;
    } else {
        out.line("")?;
        out.line("Keep a copy of the key away from this machine:")?;
    }
    out.line("without either of them nobody can ever read these backups, not even you.")?;
    out.flush()?;
    Ok(repository)
}

fn key_file(path: &Path) -> Result<Secret, Failure> {
    if path.exists() { secret::key_file(path) } else { secret::make_key_file(path) }
}
