//! Rollouts: how a new file reaches the members of a set, or a unit whose file has `[X-Rollout]`. Owns the records that
//! say how far it has got. `plan::pace` decides who is next.

pub mod hosts;
pub mod policy;
pub mod riding;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::author::Author;
use super::name::{MachineId, UnitHash, UnitName};
use super::revision::Revision;
use hosts::Hosts;
use riding::RiderFiles;

/// How many files a [`Rollout`] remembers the outcomes of.
const REMEMBERED: usize = 10;

/// The file that a unit goes on with, because its rollout hasn't let it through to the one that was requested, or has
/// taken it back (`gate/<unit>`; written by the engine). Without one, the unit has the file of its record.
///
/// A spare has nothing but such a record: it is launched with the file of its gate as long as that is there, unless a
/// unit of its name was submitted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gate {
    /// Whether the unit runs as a hook of the rollout: it is launched with this file until the rollout has its result,
    /// whatever is requested of it meanwhile. Versions that don't know the field take the gate for that of a unit whose
    /// rollout hasn't let it through, so that one that isn't to be launched is stopped.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hook: bool,
    /// Whether it is that of a spare. Versions that don't know the field delete the gate, since no unit has its name.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub spare: bool,
    /// The set's template, that of its lead if it is a rider, or the unit itself: where its [`Rollout`] is.
    pub rollout: UnitName,
    /// The hash of the file that was requested, which it holds back; of a spare or a hook, that of the rollout that
    /// added it or runs it.
    pub target: UnitHash,
    /// The hash of the file that the unit goes on with.
    pub hash: UnitHash,
    /// The key of its text, as in [`Unit::text`](super::unit::Unit::text).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<UnitHash>,
    /// The generation of an assignment with this file.
    pub generation: Revision,
    /// As in [`Unit::restart`](super::unit::Unit::restart), for such an assignment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart: Option<Revision>,
    /// The generation of the unit's record that asks for the other file. What a later one asks for, such as a restart,
    /// is carried out with this file.
    pub asked: Revision,
    /// Of a global unit, and of no other: the hosts that have another file than this one. Versions that don't know the
    /// field delete the gate, so that all hosts get the new file at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hosts: Option<Box<Hosts>>,
}

/// A member of a rollout: a unit, or a global unit on one of its hosts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MemberName {
    /// The unit.
    pub unit: UnitName,
    /// The host, if the unit is global.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<MachineId>,
}

impl MemberName {
    /// The number of a member of a set.
    #[must_use]
    pub fn number(&self) -> Option<u32> {
        self.unit.number()
    }
}

impl From<UnitName> for MemberName {
    fn from(unit: UnitName) -> Self {
        Self { unit, host: None }
    }
}

/// `web@1.service`, `agent.service on 3ec325e8`.
impl fmt::Display for MemberName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Some(host) => write!(f, "{} on {}", self.unit, host.short()),
            None => self.unit.fmt(f),
        }
    }
}

/// The last rollout of a set or a unit (`rollout/<name>`; written by the engine). It remains when it has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    /// The hash of the new file.
    pub target: UnitHash,
    /// The file before it: the last one that was stable.
    pub from: File,
    /// The files of the riders that take part in it, by their templates. Versions that don't know the field lose it,
    /// and leave members of riders behind their gates until a rider gets another file, which they roll out by itself.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub riders: BTreeMap<UnitName, RiderFiles>,
    /// How far it has got.
    pub phase: Phase,
    /// Since when it is in this phase, ms since the epoch.
    pub since: u64,
    /// When it began, ms since the epoch.
    pub began: u64,
    /// Why it failed, was paused, or doesn't go on, as a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The member that has failed with the new file, or the hook that has failed, until it is resumed or tried again.
    /// Earlier versions don't say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<UnitName>,
    /// The host on which it has failed, if it is a global unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_on: Option<MachineId>,
    /// The last lines of that unit's journal, if its host has reported them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<String>,
    /// The hooks that it has run, and last the one that runs. Versions that don't know the field lose it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hooks: Vec<HookRun>,
    /// The hook that ran when this rollout took the place of another one, until the next one begins: that waits until
    /// this one has left its host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopping: Option<UnitName>,
    /// The rollout whose place it has taken before that had ended. Versions that don't know the field lose it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overtook: Option<Box<Overtaken>>,
    /// How those members are that have the new file, so that another leader knows who has proved it. `None` if nothing
    /// is known, as from versions that don't know the field: a leader waits for all of them anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub through: Option<Box<Through>>,
    /// Whether it has been let go beyond its canaries.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub promoted: bool,
    /// Whether its canaries get no new connections before that. Versions that don't know the field ignore it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub preview: bool,
    /// The generation of the last [`Ask`] that was heeded.
    #[serde(default)]
    pub heeded: Revision,
    /// What became of files, the latest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outcomes: Vec<FileOutcome>,
}

impl Rollout {
    /// One that begins `at` this time (ms since the epoch) in `phase`: from the file `from` to that with the hash
    /// `target`.
    #[must_use]
    pub fn begun(target: UnitHash, from: File, phase: Phase, at: u64) -> Self {
        Self {
            target,
            from,
            riders: BTreeMap::new(),
            phase,
            since: at,
            began: at,
            why: None,
            failed: None,
            failed_on: None,
            lines: Vec::new(),
            hooks: Vec::new(),
            stopping: None,
            overtook: None,
            through: None,
            promoted: false,
            preview: false,
            heeded: Revision::default(),
            outcomes: Vec::new(),
        }
    }

    /// The hook that runs.
    #[must_use]
    pub fn running(&self) -> Option<&HookRun> {
        self.hooks.last().filter(|run| run.took.is_none())
    }

    /// Whether something follows for it from what happens to this unit, as a hook.
    #[must_use]
    pub fn waits_for_hook(&self, unit: &UnitName) -> bool {
        self.running().map(|run| &run.unit).into_iter().chain(&self.stopping).any(|hook| hook == unit)
    }

    /// How many of its hooks have run before its members, or `after` them.
    #[must_use]
    pub fn have_run(&self, after: bool) -> usize {
        self.hooks.iter().filter(|run| run.after == after && run.took.is_some()).count()
    }

    /// Note what became of a file; earlier notes about it are forgotten, and the oldest ones.
    pub fn note(&mut self, hash: UnitHash, verdict: Verdict, why: Option<String>) {
        self.outcomes.retain(|known| known.hash != hash);
        self.outcomes.push(FileOutcome { hash, verdict, why });
        let superfluous = self.outcomes.len().saturating_sub(REMEMBERED);
        self.outcomes.drain(..superfluous);
    }

    /// Whether a member that is to run, or runs, the file with this hash is to get no new connections for now. If only
    /// files of riders change, no member of the set is new.
    #[must_use]
    pub fn previews(&self, hash: &UnitHash) -> bool {
        let is_new = *hash == self.target && self.target != self.from.hash;
        is_new && self.preview && !self.promoted && self.phase != Phase::Done
    }

    /// Whether its file has failed and nothing was asked since, so that it can be tried again.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        let mut outcomes = self.outcomes.iter();
        let verdict = outcomes.find(|known| known.hash == self.target).map(|known| known.verdict);
        verdict == Some(Verdict::Failed) && self.phase.accepts().contains(&Request::Retry)
    }
}

/// One run of a hook: a unit that runs once for the rollout, before its members get the new file or after they have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookRun {
    /// The unit.
    pub unit: UnitName,
    /// Whether it runs after the members.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub after: bool,
    /// The generation of the unit with which it runs.
    pub generation: Revision,
    /// When it was begun, ms since the epoch.
    pub since: u64,
    /// The host on which it has run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<MachineId>,
    /// How long it took, in ms, if it has ended well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub took: Option<u64>,
}

/// A rollout that a newer one has taken the place of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overtaken {
    /// The hash of its file.
    pub target: UnitHash,
    /// How many members had it by then, of all.
    pub reached: usize,
    /// How many members there were.
    pub members: usize,
}

/// The members that have the new file of a rollout, when its record was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Through {
    /// How many there are, spares included. If there are others by now, nothing is known of them.
    pub members: usize,
    /// Those of them that had not yet been healthy for `HealthySec=` without a break.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unproven: Vec<MemberName>,
}

/// A file, by what it is stored under.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// Its hash.
    pub hash: UnitHash,
    /// The key of its text, as in [`Unit::text`](super::unit::Unit::text).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<UnitHash>,
}

/// What became of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileOutcome {
    /// Its hash.
    pub hash: UnitHash,
    /// Whether it was good.
    pub verdict: Verdict,
    /// Why it failed, as a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// Whether a file was good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "testing", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// A rollout of it ended with all members healthy.
    Stable,
    /// A rollout of it failed.
    Failed,
}

/// How far a rollout has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "testing", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// The units of `Before=` run, and no member gets the new file.
    Before,
    /// The canaries get the new file.
    Canary,
    /// They are healthy with it, and the others wait until it is promoted.
    Waiting,
    /// The members get the new file.
    Rolling,
    /// All members have the new file, and the units of `After=` run.
    After,
    /// Nobody gets the new file until it is resumed.
    Paused,
    /// It failed, and members that have the new file go back to the one before.
    Reverting,
    /// It failed, and no member has the new file.
    Reverted,
    /// It failed, and members aren't healthy with the file before either.
    Stuck,
    /// All members are healthy with the new file.
    Done,
}

impl Phase {
    /// All phases, in the usual order.
    pub const ALL: [Self; 10] = [
        Self::Before,
        Self::Canary,
        Self::Waiting,
        Self::Rolling,
        Self::After,
        Self::Paused,
        Self::Reverting,
        Self::Reverted,
        Self::Stuck,
        Self::Done,
    ];

    /// What it is called in records and to programs.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::Canary => "canary",
            Self::Waiting => "waiting",
            Self::Rolling => "rolling",
            Self::After => "after",
            Self::Paused => "paused",
            Self::Reverting => "reverting",
            Self::Reverted => "reverted",
            Self::Stuck => "stuck",
            Self::Done => "done",
        }
    }

    /// What can be asked of a rollout in this phase.
    #[must_use]
    pub fn accepts(self) -> &'static [Request] {
        match self {
            Self::Canary | Self::Waiting => &[Request::Pause, Request::Promote],
            Self::Before | Self::Rolling | Self::After => &[Request::Pause],
            Self::Paused => &[Request::Resume, Request::Retry],
            Self::Done => &[],
            Self::Reverting | Self::Reverted | Self::Stuck => &[Request::Retry],
        }
    }

    /// Whether nothing more will happen unless somebody requests it.
    #[must_use]
    pub fn is_over(self) -> bool {
        matches!(self, Self::Reverted | Self::Stuck | Self::Done)
    }
}

/// What a person asks of a running rollout, in the record of its set or unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// What.
    pub what: Request,
    /// The store's revision at which it was requested.
    pub generation: Revision,
    /// Who asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Box<Author>>,
}

/// What can be asked of a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "testing", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Request {
    /// Let nobody else through.
    Pause,
    /// Go on.
    Resume,
    /// Go on beyond the canaries.
    Promote,
    /// Begin again with the file that failed.
    Retry,
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Promote => "promote",
            Self::Retry => "retry",
        })
    }
}

/// As in `web@.service is waiting for promotion`.
impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Before => "running what comes before it",
            Self::Canary => "changing its canaries",
            Self::Waiting => "waiting for promotion",
            Self::Rolling => "rolling",
            Self::After => "running what comes after it",
            Self::Paused => "paused",
            Self::Reverting => "going back",
            Self::Reverted => "reverted",
            Self::Stuck => "stuck",
            Self::Done => "done",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_has_one_name_for_records_and_programs() {
        for phase in Phase::ALL {
            assert_eq!(serde_json::to_value(phase).unwrap(), phase.key());
        }
    }

    #[test]
    fn the_outcomes_of_the_last_files_are_remembered() {
        let file = |number: usize| UnitHash::new(&number.to_string());
        let mut rollout = Rollout::begun(file(1), File { hash: file(0), text: None }, Phase::Rolling, 0);
        (0..12).for_each(|number| rollout.note(file(number), Verdict::Stable, None));
        rollout.note(file(5), Verdict::Failed, Some("it broke".into()));
        let hashes: Vec<&str> = rollout.outcomes.iter().map(|known| known.hash.as_str()).collect();
        assert_eq!(hashes, ["2", "3", "4", "6", "7", "8", "9", "10", "11", "5"]);
    }

    #[test]
    fn a_file_that_has_failed_can_be_tried_again_until_it_is() {
        let file = |number: usize| UnitHash::new(&number.to_string());
        for (phase, verdict, expected) in [
            (Phase::Reverted, Some(Verdict::Failed), true),
            (Phase::Reverting, Some(Verdict::Failed), true),
            (Phase::Stuck, Some(Verdict::Failed), true),
            (Phase::Paused, Some(Verdict::Failed), true),
            (Phase::Canary, Some(Verdict::Failed), false),
            (Phase::Done, Some(Verdict::Stable), false),
            // A person has paused it.
            (Phase::Paused, None, false),
        ] {
            let mut rollout = Rollout::begun(file(1), File { hash: file(0), text: None }, phase, 0);
            verdict.into_iter().for_each(|verdict| rollout.note(file(1), verdict, None));
            rollout.note(file(2), Verdict::Failed, None);
            assert_eq!(rollout.has_failed(), expected, "{phase:?} {verdict:?}");
        }
    }
}
