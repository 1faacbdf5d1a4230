//! What may befall a repository: plain data, so that a list of it can be printed, cut down and replayed.

use std::ops::Range;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use crate::support::noise;

/// Who backs up: two by a full key, then two with writer keys and domains of their own.
pub const HOSTS: usize = 4;
/// The hosts that hold a full key, and so share a domain.
pub const FULL_HOSTS: usize = 2;
/// What each host backs up: its whole tree, or some parts of it.
pub const JOBS: usize = 2;
/// Places with a cache: the hosts, and the administrator's.
pub const SEATS: usize = HOSTS + 1;
/// Messages that there are; few, so that the same ones turn up everywhere.
pub const MESSAGES: u64 = 24;
/// Users with a Maildir.
pub const USERS: [&str; 2] = ["alice", "bob"];
/// All users; the last one has an mbox.
pub const ALL_USERS: [&str; 3] = ["alice", "bob", "carol"];
/// Folders of each Maildir.
pub const FOLDERS: [&str; 3] = ["cur", "new", ".Sent/cur"];

/// A number that is taken modulo what there is to choose from, so that it means something in any list.
pub type Pick = usize;

/// A change to one host's files.
#[derive(Debug, Clone, PartialEq)]
pub enum Edit {
    /// A message comes.
    Arrive { user: usize, folder: usize, number: u64 },
    /// A message gets another flag: its name changes.
    Flag { pick: Pick },
    /// A file goes.
    Remove { pick: Pick },
    /// A message goes to the end of the mbox, or out of it.
    Mbox { number: u64 },
    /// A file is written anew.
    Write { slot: u64, seed: u64, length: usize },
    /// A message is kept as a file outside any mailbox.
    Save { slot: u64, number: u64 },
    /// The state of a mailbox is written anew.
    Uids { user: usize, lines: u64 },
    /// A link points elsewhere.
    Link { target: u64 },
    /// All mail of a user goes.
    Sweep { user: usize },
}

/// How long a prune waits before it deletes what it condemned.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Grace {
    /// Not at all.
    None,
    /// Until the next prune.
    Moment,
    /// For ever, so another prune must come.
    Long,
}

/// What is purged.
#[derive(Debug, Clone, PartialEq)]
pub enum Aim {
    /// One of the paths that there are.
    Path(Pick),
    /// A message, wherever it is.
    Message(u64),
    /// All mail of a user.
    User(usize),
}

/// One step of a history.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// Files change.
    Edit { host: usize, edits: Vec<Edit> },
    /// A host backs up.
    Backup { host: usize, job: usize },
    /// A backup breaks off: the store fails from that call on.
    BrokenBackup { host: usize, job: usize, spared: u64 },
    /// A prune breaks off likewise.
    BrokenPrune { grace: Grace, spared: u64 },
    /// A mirror run breaks off: the mirror's store fails from that call on.
    BrokenMirror { delete_at_once: bool, spared: u64 },
    /// While a host backs up, prunes come before calls of the store with these numbers.
    Overtaken { host: usize, job: usize, prunes: Vec<(u64, Grace)> },
    /// The newest so many of each job stay, of one host or all.
    KeepLast { count: u32, host: Option<usize> },
    /// A rule that goes by time.
    KeepDaily { count: u32 },
    /// Snapshots are let go by their ids.
    Forget { picks: Vec<Pick>, force: bool },
    /// All snapshots of a host are let go.
    ForgetHost { host: usize },
    /// A hold on snapshots.
    Hold { picks: Vec<Pick> },
    /// A hold on a user's mail.
    HoldUser { user: usize },
    /// A hold ends.
    Release { pick: Pick },
    /// Something is purged, from all snapshots or one.
    Purge { aim: Aim, only: Option<Pick> },
    /// A prune.
    Prune { grace: Grace },
    /// The mirror is made or brought up to date.
    Mirror { delete_at_once: bool, reread: bool },
    /// `repair snapshots`, which has nothing to do.
    Repair { read_data: bool },
    /// A cache is lost.
    LoseCache { seat: usize },
    /// An image of a cache is taken.
    KeepCache { seat: usize },
    /// A cache comes back as the image has it.
    RollBack { seat: usize },
    /// The store says that it received snapshots at another time: one of them, or all.
    Clock { pick: Option<Pick>, seconds: i64 },
    /// The repository is lost, and its mirror takes its place.
    Disaster,
    /// Everything is read.
    Look,
}

fn edit() -> impl Strategy<Value = Edit> {
    let arrive = (0..USERS.len(), 0..FOLDERS.len(), 0..MESSAGES);
    prop_oneof![
        10 => arrive.prop_map(|(user, folder, number)| Edit::Arrive { user, folder, number }),
        5 => pick().prop_map(|pick| Edit::Flag { pick }),
        3 => pick().prop_map(|pick| Edit::Remove { pick }),
        5 => (0..MESSAGES).prop_map(|number| Edit::Mbox { number }),
        4 => (0u64..4, 0u64..12, 1usize..20_000)
            .prop_map(|(slot, seed, length)| Edit::Write { slot, seed, length }),
        2 => (0u64..2, 0..MESSAGES).prop_map(|(slot, number)| Edit::Save { slot, number }),
        1 => (0..USERS.len(), 1u64..30).prop_map(|(user, lines)| Edit::Uids { user, lines }),
        1 => (0u64..3).prop_map(|target| Edit::Link { target }),
        3 => (0..USERS.len()).prop_map(|user| Edit::Sweep { user }),
    ]
}

fn pick() -> Range<Pick> {
    0..10_000
}

fn aim() -> impl Strategy<Value = Aim> {
    prop_oneof![
        5 => pick().prop_map(Aim::Path),
        5 => (0..MESSAGES).prop_map(Aim::Message),
        1 => (0..ALL_USERS.len()).prop_map(Aim::User),
    ]
}

fn grace() -> impl Strategy<Value = Grace> {
    prop_oneof![Just(Grace::None), Just(Grace::Moment), Just(Grace::Long)]
}

fn time() -> impl Strategy<Value = i64> {
    // 1970 and 2099.
    prop_oneof![0i64..1_000_000, 4_080_000_000i64..4_081_000_000]
}

/// Verbs of those who hold a full key.
fn administration() -> impl Strategy<Value = Op> {
    let picks = || prop::collection::vec(pick(), 1..4);
    prop_oneof![
        3 => (1u32..5, prop::option::of(0..HOSTS)).prop_map(|(count, host)| Op::KeepLast { count, host }),
        1 => (1u32..3).prop_map(|count| Op::KeepDaily { count }),
        3 => (picks(), prop::bool::weighted(0.2)).prop_map(|(picks, force)| Op::Forget { picks, force }),
        2 => (0..HOSTS).prop_map(|host| Op::ForgetHost { host }),
        3 => picks().prop_map(|picks| Op::Hold { picks }),
        1 => (0..ALL_USERS.len()).prop_map(|user| Op::HoldUser { user }),
        3 => pick().prop_map(|pick| Op::Release { pick }),
        4 => (aim(), prop::option::weighted(0.2, pick())).prop_map(|(aim, only)| Op::Purge { aim, only }),
        8 => grace().prop_map(|grace| Op::Prune { grace }),
        5 => (any::<bool>(), prop::bool::weighted(0.2))
            .prop_map(|(delete_at_once, reread)| Op::Mirror { delete_at_once, reread }),
        1 => any::<bool>().prop_map(|read_data| Op::Repair { read_data }),
    ]
}

/// What nobody asked for.
fn mishap() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => (0..SEATS).prop_map(|seat| Op::LoseCache { seat }),
        3 => (0..SEATS).prop_map(|seat| Op::KeepCache { seat }),
        3 => (0..SEATS).prop_map(|seat| Op::RollBack { seat }),
        6 => (prop::option::weighted(0.7, pick()), time())
            .prop_map(|(pick, seconds)| Op::Clock { pick, seconds }),
        3 => (0..HOSTS, 0..JOBS, 0u64..120)
            .prop_map(|(host, job, spared)| Op::BrokenBackup { host, job, spared }),
        4 => (grace(), 0u64..200).prop_map(|(grace, spared)| Op::BrokenPrune { grace, spared }),
        3 => (any::<bool>(), 0u64..150)
            .prop_map(|(delete_at_once, spared)| Op::BrokenMirror { delete_at_once, spared }),
        8 => (0..HOSTS, 0..JOBS, prop::collection::vec((0u64..120, grace()), 1..4))
            .prop_map(|(host, job, prunes)| Op::Overtaken { host, job, prunes }),
        2 => Just(Op::Disaster),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        30 => (0..HOSTS, prop::collection::vec(edit(), 1..6))
            .prop_map(|(host, edits)| Op::Edit { host, edits }),
        30 => (0..HOSTS, 0..JOBS).prop_map(|(host, job)| Op::Backup { host, job }),
        34 => administration(),
        13 => mishap(),
        3 => Just(Op::Look),
    ]
}

/// A list of so many steps, the same for the same seed.
pub fn history(seed: u64, length: usize) -> Vec<Op> {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &noise(seed, 32));
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    prop::collection::vec(op(), length).new_tree(&mut runner).expect("nothing is rejected").current()
}
