//! Units in the cluster: the desired state of each, the assignments of each host, and its reports.

mod moves;
mod placement;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::author::Author;
use super::failure::Failure;
use super::name::{UnitHash, UnitName};
use super::revision::Revision;
use super::rollout::hosts::Held;
use super::rollout::{Ask, Gate};
use super::systemd::{ActiveState, JobKind, JobResult, LoadState};
pub use moves::Move;
pub use placement::{Done, Moved, Placement, Taken, Tried};

/// What the user wants of a unit. Each includes the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "testing", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Desired {
    /// Known to the cluster, on no host.
    Inactive,
    /// On a host and known to its systemd, not started by us.
    Loaded,
    /// Started.
    Launched,
}

impl Desired {
    /// The spelling in the API and the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inactive => "inactive",
            Self::Loaded => "loaded",
            Self::Launched => "launched",
        }
    }
}

impl fmt::Display for Desired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The error for a string that isn't a desired state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no desired state: it must be inactive, loaded or launched")]
pub struct DesiredError(String);

impl FromStr for Desired {
    type Err = DesiredError;
    fn from_str(text: &str) -> Result<Self, DesiredError> {
        match text {
            "inactive" => Ok(Self::Inactive),
            "loaded" => Ok(Self::Loaded),
            "launched" => Ok(Self::Launched),
            other => Err(DesiredError(other.into())),
        }
    }
}

/// A unit as submitted (`unit/<name>`; written by the API).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unit {
    /// Its desired state.
    pub desired: Desired,
    /// The hash of its file (`file/<hash>`).
    pub hash: UnitHash,
    /// The key of its text (`file/<text>`), if the text under `hash` differs from it in comments or white space.
    /// Versions that don't know the field use the text under `hash`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<UnitHash>,
    /// The store's revision at which this was decided. It grows with every change of the unit, even if the unit is
    /// destroyed and submitted again.
    pub generation: Revision,
    /// The generation at which a restart was last requested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart: Option<Revision>,
    /// How many members it has, if it is a template and a set. Versions that don't know the field ignore it, and lose
    /// it when they write the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u32>,
    /// The templates whose files say that they have as many members as this one, if there are any. Versions that don't
    /// know the field ignore it, and lose it when they write the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub riders: Option<Box<BTreeSet<UnitName>>>,
    /// Whether the rollout of its file runs no hooks, as was asked for together with the file. Versions that don't know
    /// the field ignore it, and lose it when they write the record.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub without_hooks: bool,
    /// What was last asked of its rollout, if it is a set or has `[X-Rollout]`. It may change without a new generation,
    /// because no host has to do anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ask: Option<Box<Ask>>,
    /// That it is to move to another host, if nothing else has been asked of it since. It comes without a new
    /// generation, because no host has to do anything. Versions that don't know the field ignore it, and lose it when
    /// they write the record.
    #[serde(default, rename = "move", skip_serializing_if = "Option::is_none")]
    pub moves: Option<Box<Move>>,
    /// When it was first submitted, ms since the epoch.
    pub submitted: u64,
    /// Who first submitted it, if somebody else has asked for something since. Versions that don't know the field
    /// ignore it, and lose it when they write the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub submitter: Option<Box<Author>>,
    /// Who asked for this generation; `None` in records of versions that didn't write it, and in the leader's copy of
    /// the cluster, which nothing needs an author in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Box<Author>>,
}

impl Unit {
    /// A unit without anything that is optional.
    #[must_use]
    pub fn new(desired: Desired, hash: UnitHash, generation: Revision) -> Self {
        Self {
            desired,
            hash,
            text: None,
            generation,
            restart: None,
            replicas: None,
            riders: None,
            without_hooks: false,
            ask: None,
            moves: None,
            submitted: 0,
            submitter: None,
            by: None,
        }
    }

    /// The record by which it is scheduled while it has `gate`: with the gate's file; launched, if it is a hook's. That
    /// of a global unit is the same as before, since its gate holds back single hosts
    /// ([`Cluster::record_on`](super::cluster::Cluster::record_on)).
    #[must_use]
    pub fn behind(&self, gate: &Gate) -> Self {
        if gate.hook {
            let (hash, text) = (gate.hash.clone(), gate.text.clone());
            let (generation, restart) = (gate.generation, gate.restart);
            return Self { desired: Desired::Launched, hash, text, generation, restart, ..self.clone() };
        }
        if gate.is_by_host() { self.clone() } else { self.with(gate.held(), gate.asked) }
    }

    /// The record by which it is scheduled with a file that a gate names, which has held it back since `asked`.
    #[must_use]
    pub fn with(&self, held: Held<'_>, asked: Revision) -> Self {
        let unit = Self { hash: held.hash.clone(), text: held.text.cloned(), ..self.clone() };
        if unit.generation > asked {
            return unit;
        }
        Self { generation: held.generation, restart: held.restart, ..unit }
    }

    /// The record by which a spare is scheduled, which has none of its own: by its `gate`.
    #[must_use]
    pub fn spare(gate: &Gate) -> Self {
        Self { text: gate.text.clone(), ..Self::new(Desired::Launched, gate.hash.clone(), gate.generation) }
    }

    /// Who first submitted it, if that is known.
    #[must_use]
    pub fn submitter(&self) -> Option<&Author> {
        self.submitter.as_deref().or(self.by.as_deref())
    }

    /// The same, asked for by another author.
    #[must_use]
    pub fn signed(self, by: Author) -> Self {
        let first = self.submitter().filter(|first| **first != by).cloned();
        Self { submitter: first.map(Box::new), by: Some(Box::new(by)), ..self }
    }

    /// The templates that have as many members as this one.
    pub fn riders(&self) -> impl Iterator<Item = &UnitName> {
        self.riders.iter().flat_map(|riders| riders.iter())
    }

    /// The name under which its text is stored.
    #[must_use]
    pub fn file_key(&self) -> &UnitHash {
        self.text.as_ref().unwrap_or(&self.hash)
    }
}

/// What a host must do with a unit that is assigned to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "testing", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Target {
    /// Stop and remove the unit, then acknowledge. Final: an assignment that is `gone` never gets another target.
    #[serde(rename = "gone")]
    Removed,
    /// Install its file without starting it.
    Loaded,
    /// Start it.
    Launched,
}

impl Target {
    /// The spelling of a unit's current state in the API: `gone` is `inactive`.
    #[must_use]
    pub fn as_state(self) -> &'static str {
        match self {
            Self::Removed => "inactive",
            Self::Loaded => "loaded",
            Self::Launched => "launched",
        }
    }
}

/// What a host must do with one unit (`schedule/<host>/<unit>`; written by the engine).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// The hash of the file to install.
    pub hash: UnitHash,
    /// The key of its text, as in [`Unit::text`]; `None` if any text with this hash will do. It may change without a
    /// new generation, because systemd reads the same from both texts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<UnitHash>,
    /// The target state on the host.
    pub target: Target,
    /// Whether the unit is global, for tables.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub global: bool,
    /// The unit's generation; for `gone`, the engine's revision at which this was decided. Different assignments of a
    /// unit to a host have different generations.
    pub generation: Revision,
    /// The generation at which a restart was last requested: a host on which the unit has been running since before
    /// then stops it and starts it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart: Option<Revision>,
    /// Templates that must be on the host because of the unit, and the hashes of their files. They may change without
    /// a new generation, because the unit itself doesn't change with them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub templates: BTreeMap<UnitName, UnitHash>,
    /// Of these templates, the keys of the texts that are stored under a key of their own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub template_texts: BTreeMap<UnitName, UnitHash>,
}

impl Assignment {
    /// An assignment of a unit that isn't global and was never restarted by a request, and brings no templates.
    #[must_use]
    pub fn new(hash: UnitHash, target: Target, generation: Revision) -> Self {
        let (templates, template_texts) = Default::default();
        Self { hash, text: None, target, global: false, generation, restart: None, templates, template_texts }
    }

    /// Whether units that name this one in their `MachineOf=` must be on its host, and on no other.
    #[must_use]
    pub fn anchors(&self) -> bool {
        self.target != Target::Removed && !self.global
    }

    /// The keys under which the texts are stored that only the field `text` names, of the unit and of its templates.
    pub fn texts(&self) -> impl Iterator<Item = &UnitHash> {
        self.text.iter().chain(self.template_texts.values())
    }
}

/// What a host reports about one of its units (`state/<host>/<unit>`; written by the agent, bound to its lease).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "testing", derive(schemars::JsonSchema))]
pub struct UnitReport {
    /// The unit's generation that this host has carried out: its jobs were queued.
    pub generation: Revision,
    /// The target of that assignment; `gone` acknowledges that the unit was stopped and removed.
    pub target: Target,
    /// The hash of the file on the host.
    pub hash: UnitHash,
    /// systemd's `LoadState`.
    #[cfg_attr(feature = "testing", schemars(with = "String"))]
    pub load: LoadState,
    /// systemd's `ActiveState`.
    #[cfg_attr(feature = "testing", schemars(with = "String"))]
    pub active: ActiveState,
    /// systemd's `SubState`.
    pub sub: String,
    /// The type of the job that systemd has queued or is running for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "testing", schemars(with = "Option<String>"))]
    pub job: Option<JobKind>,
    /// The result of the last job, as systemd spells it: `done`, `failed`, `dependency`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "testing", schemars(with = "Option<String>"))]
    pub result: Option<JobResult>,
    /// Why the host can't carry out its assignment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Since when `active` and `sub` have these values, in ms since the epoch.
    pub since: u64,
    /// Whether it was started, should run and doesn't: it failed, or was stopped by other means. Not so for a unit that
    /// is meant to end by itself (`Type=oneshot` without `RemainAfterExit=`), and has.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub missing: bool,
    /// How often systemd has started it again by itself since it was last started (`NRestarts`).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub restarts: u32,
    /// Why it failed, or is about to be started again by systemd. Hosts of earlier versions don't say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Box<Failure>>,
    /// The unit's own text about what it is doing (`STATUS=`), while it starts, reloads or stops: one line of at most
    /// 200 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// Whether it is active and its probes say that it is ready. Missing if its file has no `Ready=`, and from hosts of
    /// earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<bool>,
    /// The probe that fails or couldn't be run, and why: `http://:8080/ready: 503 Service Unavailable`; after
    /// `not alive: `, that of `Live=` for which the unit was found not to work; or why `[X-Health]` can't be used. One
    /// line of at most 200 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<String>,
}

impl UnitReport {
    /// The report of a host that has carried out this assignment and says nothing of systemd's states yet.
    #[must_use]
    pub fn of(assignment: &Assignment) -> Self {
        Self {
            generation: assignment.generation,
            target: assignment.target,
            hash: assignment.hash.clone(),
            load: LoadState::default(),
            active: ActiveState::default(),
            sub: String::new(),
            job: None,
            result: None,
            error: None,
            since: 0,
            missing: false,
            restarts: 0,
            failure: None,
            status: None,
            ready: None,
            health: None,
        }
    }

    /// Whether the unit serves, as far as its host can tell: it is ready, or active if it isn't probed.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.ready.unwrap_or(self.active.is_active())
    }

    /// Whether it isn't active because something on its host went wrong: it failed, or can't be loaded or started.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        let went_wrong = self.error.is_some()
            || self.failure.is_some()
            || self.active == ActiveState::Failed
            || self.load.is_unusable()
            || self.result.as_ref().is_some_and(JobResult::is_failure);
        went_wrong && !self.active.is_active()
    }

    /// Whether it is as it should be once it was started: ready, with nothing left to do; or over, if its file `ends`
    /// by itself and it has ended well.
    #[must_use]
    pub fn is_healthy(&self, ends: bool) -> bool {
        let is_over = ends && self.active == ActiveState::Inactive && self.result == Some(JobResult::Done);
        self.job.is_none() && (self.is_ready() || is_over)
    }
}

/// For numbers that are left out of JSON if they are 0.
pub fn is_zero<T: Default + PartialEq>(number: &T) -> bool {
    *number == T::default()
}

/// The result of submitting, changing or destroying a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "testing", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The unit is new.
    Created,
    /// Its file was replaced.
    Replaced,
    /// Its desired state was changed.
    Changed,
    /// A restart was requested; it is started if it wasn't running.
    Restarted,
    /// It already had this file and desired state.
    Unchanged,
    /// Its file differs and was kept (no `replace`). Its desired state was changed if another one was requested.
    Differs,
    /// It was destroyed; a host may still have to stop it.
    Destroyed,
    /// It had been destroyed before, and a host has yet to stop and remove it.
    Leaving,
    /// It doesn't exist.
    Absent,
}

#[cfg(test)]
mod tests {
    use super::super::rollout::File;
    use super::*;

    /// A version without sets ignores the count.
    #[test]
    fn older_versions_read_a_set() {
        #[derive(Deserialize)]
        struct Old {
            desired: Desired,
            submitted: u64,
        }
        let new = || Unit::new(Desired::Inactive, UnitHash::new("a"), Revision(7));
        let text = serde_json::to_string(&Unit { replicas: Some(3), ..new() }).unwrap();
        assert_eq!(text, r#"{"desired":"inactive","hash":"a","generation":7,"replicas":3,"submitted":0}"#);
        let Old { desired, submitted } = serde_json::from_str(&text).unwrap();
        assert_eq!((desired, submitted), (Desired::Inactive, 0));
        let riders = Some(Box::new(["log@.service".parse().unwrap()].into()));
        let text = serde_json::to_string(&Unit { replicas: Some(3), riders, ..new() }).unwrap();
        assert!(text.contains(r#""replicas":3,"riders":["log@.service"],"submitted":0}"#), "{text}");
        let Old { desired, submitted } = serde_json::from_str(&text).unwrap();
        assert_eq!((desired, submitted), (Desired::Inactive, 0));
        // What isn't a set is written as before.
        let plain = r#"{"desired":"inactive","hash":"a","generation":7,"submitted":0}"#;
        assert_eq!(serde_json::to_string(&new()).unwrap(), plain);
    }

    #[test]
    fn behind_a_gate_a_unit_keeps_its_file_and_what_is_asked_later_is_done() {
        let (old, new) = (UnitHash::new("aa"), UnitHash::new("bb"));
        let file = File { hash: old.clone(), text: Some(UnitHash::new("cc")) };
        let held = file.held(Revision(3), Some(Revision(2)));
        let gate = Gate::new(&"web@.service".parse().unwrap(), &new, held, Revision(7));
        let asked = Unit { restart: Some(Revision(7)), ..Unit::new(Desired::Launched, new, Revision(7)) };
        let behind = asked.behind(&gate);
        assert_eq!((behind.hash, behind.text), (old.clone(), Some(UnitHash::new("cc"))));
        assert_eq!((behind.generation, behind.restart), (Revision(3), Some(Revision(2))));
        let later = Unit { desired: Desired::Loaded, generation: Revision(8), restart: Some(Revision(8)), ..asked };
        let behind = later.behind(&gate);
        assert_eq!((behind.hash, behind.desired), (old, Desired::Loaded));
        assert_eq!((behind.generation, behind.restart), (Revision(8), Some(Revision(8))));
    }
}
