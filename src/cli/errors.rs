//! Library errors become failures here, and get their advice.

use super::failure::{Failure, Kind};
use crate::crypto::slot::SlotError;
use crate::ops::backup::BackupError;
use crate::ops::forget::ForgetError;
use crate::ops::hold::HoldError;
use crate::ops::mirror::MirrorError;
use crate::ops::mount::MountError;
use crate::ops::pick::PickError;
use crate::ops::prune::PruneError;
use crate::ops::purge::PurgeError;
use crate::ops::rebuild::RebuildError;
use crate::ops::repair::snapshots::RepairError;
use crate::ops::restore::RestoreError;
use crate::ops::restore::letters::PutError;
use crate::ops::revoke::RevokeError;
use crate::repo::RepoError;
use crate::repo::extract::ExtractError;
use crate::source::SourceError;
use crate::store::{StoreError, StoreErrorKind};

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Failure {
        let failure = Failure::because(Kind::Storage, "", &error);
        match error.kind {
            StoreErrorKind::Full => {
                failure.hint("free space on the repository's disk; nothing that was stored is lost")
            }
            StoreErrorKind::Denied => failure.hint("run as the repository's owner, or make it writable"),
            StoreErrorKind::Missing | StoreErrorKind::Size => {
                failure.hint("'mailark check' tells what else is missing")
            }
            StoreErrorKind::Io => failure,
        }
    }
}

impl From<RepoError> for Failure {
    fn from(error: RepoError) -> Failure {
        let because = |kind| Failure::because(kind, "", &error);
        match &error {
            RepoError::NoRepository { .. } => because(Kind::NoRepository)
                .hint("name it with --repo or MAILARK_REPO, or make one with 'mailark init'"),
            RepoError::Exists { .. } => because(Kind::User),
            RepoError::WrongKey { .. } => because(Kind::Key)
                .hint("'mailark key test' tries a key without doing anything")
                .hint("is the key lost? --recovery-code opens the repository with the recovery code"),
            RepoError::NotForThisKey { .. } | RepoError::NeedsFullKey { .. } => {
                because(Kind::Key).hint("use a full key; it does not belong on the mail server")
            }
            RepoError::Revoked { host } => because(Kind::Key)
                .hint("no snapshot was made that counts")
                .hint(format!("if it is to go on, 'mailark key add --writer --host {host}' makes it a new key")),
            RepoError::Damaged { object, .. } if object.starts_with("keys/") => because(Kind::Damaged)
                .hint("another key opens the repository, or --recovery-code; then 'mailark key add' makes a new slot"),
            RepoError::Damaged { object, .. } if object.starts_with("records/") => {
                because(Kind::Damaged).hint("'mailark repair records' takes it out of the way, or back from a mirror")
            }
            RepoError::Damaged { .. } | RepoError::MissingBlob { .. } | RepoError::Page { .. } => {
                because(Kind::Damaged).hint("'mailark check --read-data' tells all that is damaged")
            }
            RepoError::Refused { .. } => because(Kind::Damaged)
                .hint("somebody who does not hold the keys may have written it; nothing of it was used"),
            RepoError::NoSnapshot(_) | RepoError::UnknownSnapshot(_) => because(Kind::User).hint("'mailark snapshots' lists them"),
            RepoError::Interrupted(_) => Failure::new(Kind::Interrupted, "interrupted"),
            RepoError::Slot(SlotError::Damaged(_) | SlotError::BadSignature) => because(Kind::Damaged),
            RepoError::Slot(SlotError::WrongKey | SlotError::RecoveryCode(_)) => because(Kind::Key),
            RepoError::Slot(_) => because(Kind::User),
            RepoError::Store(_) | RepoError::Index(_) => match error {
                RepoError::Store(error) => error.into(),
                error => Failure::because(Kind::Storage, "", &error),
            },
            RepoError::Unsupported { .. } => {
                because(Kind::User).hint("use the version of mailark that wrote it, or a newer one")
            }
            RepoError::Crypto(_) | RepoError::Compress(_) => because(Kind::Damaged),
            RepoError::Unfaithful => because(Kind::Internal),
        }
    }
}

impl From<SourceError> for Failure {
    fn from(error: SourceError) -> Failure {
        let kind = match error {
            SourceError::Start { .. } | SourceError::Command { .. } | SourceError::CommandFailed { .. } => {
                Kind::Storage
            }
            _ => Kind::User,
        };
        Failure::because(kind, "", &error)
    }
}

impl From<BackupError> for Failure {
    fn from(error: BackupError) -> Failure {
        match error {
            BackupError::Repository(error) => error.into(),
            BackupError::Overtaken { .. } => Failure::because(Kind::Incomplete, "", &error)
                .hint("run the backup again; it stores them anew"),
            BackupError::Source(error) => Failure::from(error).hint("no snapshot was made"),
        }
    }
}

impl From<MountError> for Failure {
    fn from(error: MountError) -> Failure {
        let because = |kind| Failure::because(kind, "", &error);
        match &error {
            MountError::Repository(_) => match error {
                MountError::Repository(error) => error.into(),
                error => Failure::because(Kind::Internal, "", &error),
            },
            MountError::NotAFolder { .. } => because(Kind::User).hint("make an empty folder to mount on"),
            MountError::NotEmpty { .. } => {
                because(Kind::User).hint("name an empty folder: a mount hides what lies below it")
            }
            MountError::DeadMount { place } => {
                because(Kind::User).hint(format!("'fusermount3 -u {place}' clears it away"))
            }
            MountError::NoSuchFolder { .. } => {
                because(Kind::User).hint("'mailark ls' shows what a snapshot holds")
            }
            MountError::Mount { place, source } => of_mount(because(Kind::Storage), place, source),
            MountError::Control(_) | MountError::Serve { .. } => because(Kind::Storage),
        }
    }
}

/// What helps where the system does not mount.
fn of_mount(failure: Failure, place: &str, source: &std::io::Error) -> Failure {
    if !std::path::Path::new(place).exists() {
        return failure.hint(format!("make an empty folder: mkdir {place}"));
    }
    if source.to_string().contains("user_allow_other") {
        return failure.hint("--allow-other needs the line 'user_allow_other' in /etc/fuse.conf, or root");
    }
    failure
        .hint("the kernel must have /dev/fuse ('modprobe fuse'), and this user may have to be let at it")
        .hint("who is not root needs fusermount3: install the package fuse3")
}

impl From<PruneError> for Failure {
    fn from(error: PruneError) -> Failure {
        let because = |kind| Failure::because(kind, "", &error);
        match error {
            PruneError::Repository(error) => error.into(),
            PruneError::Unreadable { .. } => because(Kind::Damaged).hint(
                "'mailark check' tells what is damaged, 'mailark repair packs' and then 'snapshots' mend it",
            ),
            PruneError::UnusableDeltas { .. } => {
                because(Kind::Damaged).hint("'mailark repair index' makes them anew from the packs")
            }
            PruneError::OpenCheckpoints { .. } => because(Kind::Locked)
                .hint("wait until they are through, or prune without --now")
                .hint("if they were interrupted for good, --drop-checkpoints gives up what they stored"),
            PruneError::AnotherPrune => because(Kind::Locked).hint("run it again"),
        }
    }
}

impl From<PurgeError> for Failure {
    fn from(error: PurgeError) -> Failure {
        match error {
            PurgeError::Repository(error) => {
                let damaged = crate::repo::rewrite::is_loss(&error);
                let failure = Failure::from(error);
                match damaged {
                    true => failure.hint(
                        "nothing was purged: what cannot be read may be what has to go; 'mailark repair snapshots' \
                         leaves it out",
                    ),
                    false => failure,
                }
            }
            PurgeError::Held { .. } => Failure::because(Kind::User, "", &error)
                .hint("'mailark hold list' shows all holds; whoever made this one can release it"),
            PurgeError::Overtaken => Failure::because(Kind::Locked, "", &error).hint("run the purge again"),
        }
    }
}

impl From<RepairError> for Failure {
    fn from(error: RepairError) -> Failure {
        match error {
            RepairError::Repository(error) => error.into(),
            RepairError::Unnamed { .. } => {
                Failure::because(Kind::Damaged, "", &error).hint("'mailark repair index' comes first")
            }
            RepairError::Overtaken => Failure::because(Kind::Locked, "", &error).hint("run the repair again"),
        }
    }
}

impl From<MirrorError> for Failure {
    fn from(error: MirrorError) -> Failure {
        match error {
            MirrorError::Repository(error) => error.into(),
            MirrorError::NoMirror { ref location } => Failure::because(Kind::NoRepository, "", &error)
                .hint("is the disk or share mounted there? what looks empty is never filled unasked")
                .hint(format!("'mailark mirror --init {location}' makes a new mirror")),
            MirrorError::Already { .. } => {
                Failure::because(Kind::User, "", &error).hint("leave --init away to bring it up to date")
            }
            MirrorError::OtherRepository { .. } | MirrorError::NotAMirror { .. } => {
                Failure::because(Kind::User, "", &error)
                    .hint("name another folder, an empty one for a new mirror")
            }
            MirrorError::Nested { .. } | MirrorError::Inside { .. } => {
                Failure::because(Kind::User, "", &error)
                    .hint("a mirror belongs on another disk, or it is lost with the first")
            }
        }
    }
}

impl From<ExtractError<Failure>> for Failure {
    fn from(error: ExtractError<Failure>) -> Failure {
        match error {
            ExtractError::Repository(error) => error.into(),
            ExtractError::Write(failure) => failure,
            ExtractError::Recipe(_) => Failure::because(Kind::Damaged, "", &error),
        }
    }
}

impl From<RestoreError> for Failure {
    fn from(error: RestoreError) -> Failure {
        match error {
            RestoreError::Repository(error) => error.into(),
            RestoreError::NotEmpty { .. } => Failure::because(Kind::User, "", &error)
                .hint("restore into a new folder, or say --overwrite if-changed, always or never"),
            RestoreError::LiveMaildir { .. } => Failure::because(Kind::User, "", &error)
                .hint(
                    "restore into a new folder; copying old files over live mail can make clients lose track",
                )
                .hint("if no mail server uses it, say --force together with --overwrite"),
            RestoreError::NotWhole { .. } => Failure::because(Kind::User, "", &error)
                .hint("'mailark snapshots --json' names its problems; --force deletes all the same"),
            RestoreError::NoSuchPath { .. } => {
                Failure::because(Kind::User, "", &error).hint("'mailark ls SNAPSHOT' shows what it holds")
            }
            RestoreError::Target(_) | RestoreError::Inspect { .. } => {
                Failure::because(Kind::Storage, "", &error)
            }
        }
    }
}

impl From<RevokeError> for Failure {
    fn from(error: RevokeError) -> Failure {
        let because = || Failure::because(Kind::User, "", &error);
        match &error {
            RevokeError::NoSuchHost { known, .. } if known.is_empty() => {
                because().hint("no host was ever registered")
            }
            RevokeError::NoSuchHost { known, .. } => {
                because().hint(format!("there are {}; a host's id does too", known.join(", ")))
            }
            RevokeError::Several { hosts, .. } => {
                because().hint(format!("name one by its id: {}", hosts.join(", ")))
            }
            RevokeError::Already { .. } => because(),
            RevokeError::Repository(_) => match error {
                RevokeError::Repository(error) => error.into(),
                _ => because(),
            },
        }
    }
}

impl From<PutError> for Failure {
    fn from(error: PutError) -> Failure {
        match &error {
            PutError::Stream(cause) if cause.kind() == std::io::ErrorKind::BrokenPipe => {
                Failure::new(Kind::ReaderGone, "standard output was closed")
            }
            _ => Failure::because(Kind::Storage, "", &error),
        }
    }
}

impl From<PickError> for Failure {
    fn from(error: PickError) -> Failure {
        let because = || Failure::because(Kind::User, "", &error);
        let listed = |what: &str, names: &[String]| {
            let shown = names.iter().take(20).map(|name| crate::base::bytes::display(name.as_bytes()));
            let more = if names.len() > 20 { ", ..." } else { "" };
            format!("{what}{}{more}", shown.collect::<Vec<_>>().join(", "))
        };
        match error {
            PickError::Repository(error) => error.into(),
            PickError::NoSuchUser { ref seen, .. } if seen.is_empty() => because()
                .hint("users are known by paths: mail = [\"/var/vmail/%d/%n/Maildir\"] in mailark.toml"),
            PickError::NoSuchUser { ref seen, .. } => because()
                .hint(listed("it holds mail of ", seen))
                .hint("users are known by paths: mail = [\"/var/vmail/%d/%n/Maildir\"] in mailark.toml"),
            PickError::NoSuchFolder { ref seen, .. } => because().hint(listed("there are ", seen)),
            PickError::Ambiguous { .. } => because(),
            PickError::NoSnapshotThen { .. } => because().hint("'mailark snapshots' lists them"),
        }
    }
}

impl From<RebuildError> for Failure {
    fn from(error: RebuildError) -> Failure {
        let because = |kind| Failure::because(kind, "", &error);
        match error {
            RebuildError::Repository(error) => error.into(),
            RebuildError::NotAMaildir { .. } => because(Kind::User)
                .hint("rebuild into a new folder, and bring that into the mailbox with 'doveadm sync -1 -R'"),
            RebuildError::Layout { .. } => {
                because(Kind::User).hint("--layout maildir++ is .Archive.2024, --layout fs is Archive/2024")
            }
            RebuildError::Locked { .. } => {
                because(Kind::Locked).hint("run it again; a lock that nobody holds is older than two minutes")
            }
            RebuildError::Changed { .. } => because(Kind::Locked).hint("run it again"),
            RebuildError::Io { .. } => because(Kind::Storage),
        }
    }
}

impl From<HoldError> for Failure {
    fn from(error: HoldError) -> Failure {
        match error {
            HoldError::Repository(error) => error.into(),
            HoldError::Empty => Failure::because(Kind::User, "", &error)
                .hint("--snapshot ID holds a snapshot, --user NAME all mail of a user"),
            HoldError::NoSuchHold { .. } => {
                Failure::because(Kind::User, "", &error).hint("'mailark hold list' shows them")
            }
            HoldError::Forgotten { .. } => Failure::because(Kind::User, "", &error)
                .hint("do not prune; what the snapshot held can still be restored from a mirror made before"),
            HoldError::Text { .. } => Failure::because(Kind::User, "", &error),
        }
    }
}

impl From<ForgetError> for Failure {
    fn from(error: ForgetError) -> Failure {
        let because = || Failure::because(Kind::User, "", &error);
        match error {
            ForgetError::Repository(error) => error.into(),
            ForgetError::KeepsNothing => because()
                .hint("--keep-daily 7 --keep-weekly 4 --keep-monthly 12 is a good beginning")
                .hint("or in mailark.toml: retention = { daily = 7, weekly = 4, monthly = 12 }"),
            ForgetError::Copied { .. } => because()
                .hint("was the repository copied? --trust-host-clocks goes by the hosts' clocks instead")
                .hint("if it was not, a host lies about its time: look at 'mailark snapshots' first"),
            ForgetError::Held { .. } => because().hint("'mailark hold list' says why"),
            ForgetError::LastGood { .. } => because().hint("--force forgets it all the same"),
            ForgetError::HeldMeanwhile => {
                because().hint("run it again, and look at 'mailark hold list' and 'mailark snapshots --all'")
            }
        }
    }
}

impl Failure {
    /// Did the local index turn out to be damaged?
    pub fn is_index_damage(&self) -> bool {
        self.message.starts_with("damaged index")
    }
}
