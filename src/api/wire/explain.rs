//! The JSON of `/fleet/v2/explain`. Types only.

use serde::{Deserialize, Serialize};

use crate::model::name::UnitName;
use crate::model::revision::Revision;

use super::machines::MachineRef;

/// v2: `GET /fleet/v2/explain`: why units wait, or are where they are. Nothing is changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Explanations {
    /// The revision of the store at which that is so.
    pub revision: Revision,
    /// The first of the units that were asked about, sorted by name.
    pub units: Vec<Explanation>,
    /// How many more there are.
    #[serde(default, skip_serializing_if = "crate::model::unit::is_zero")]
    pub left_out: usize,
}

/// v2: the explanation of one unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Explanation {
    /// Its name.
    pub name: UnitName,
    /// Its standing.
    pub standing: Standing,
    /// The same as a sentence without its name.
    pub why: String,
    /// The host that it is on, waits for, or has run on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<MachineRef>,
    /// Since when it is on its host, waits, or is done, in ms since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
    /// What holds it up although it has a host, as sentences: its host, a rollout, a drain, a move.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held: Vec<String>,
    /// Units without a host that it must be with: it is placed where all of them fit. Of one that has a host, those
    /// that came with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub with: Vec<UnitName>,
    /// Whether these can't share any host, because they exclude each other.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub excluded: bool,
    /// Of a unit that waits or leaves, and of a global one: the registered hosts that don't have it, or that it doesn't
    /// fit. Hosts with the same obstacles are together; those with the fewest come first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<HostsAgainst>,
    /// How many more hosts there are, if more than 500 groups of them differ.
    #[serde(default, skip_serializing_if = "crate::model::unit::is_zero")]
    pub hosts_left_out: usize,
    /// Of a unit that is placed: why on its host rather than on another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<Box<PlaceView>>,
    /// Of a unit that is placed: what would make it move, as parts of a sentence.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub moves: Vec<String>,
    /// Of a unit that waits: the host on which it is placed by itself, once hosts have stopped what leaves them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_itself: Option<MachineRef>,
    /// Of a unit that waits: what a person could do so that it is placed, the cheapest first, and at most three. Each
    /// was tried on a copy of the cluster. Only of the first units that wait.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remedies: Vec<RemedyView>,
}

/// v2: what a person could do so that a unit is placed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RemedyView {
    /// What to do, in this order.
    pub steps: Vec<RemedyStep>,
    /// The host on which the unit is placed then; left out if that is one to add.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<MachineRef>,
}

/// v2: one thing to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RemedyStep {
    /// `start`, `open`, `metadata`, `move`, `drop` or `join`. Later versions may have more.
    pub kind: String,
    /// What it does, as a sentence.
    pub what: String,
    /// The commands that do it; empty if none does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub commands: Vec<String>,
}

/// v2: the standing of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// It is a template, of which only instances run.
    Template,
    /// Its desired state is `inactive`.
    Inactive,
    /// Its file can't be read.
    FileUnknown,
    /// It runs once, and has.
    Done,
    /// It is on its host.
    Placed,
    /// It waits for its host, which is gone.
    Away,
    /// It is global.
    Global,
    /// Hosts must still stop it.
    Leaving,
    /// No host fits, or the leader hasn't placed it yet.
    Waiting,
}

/// v2: what hosts have against a unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct HostsAgainst {
    /// The hosts, which have the same against it.
    pub machines: Vec<MachineRef>,
    /// Every rule that speaks against them; empty if the unit fits.
    pub obstacles: Vec<ObstacleView>,
}

/// v2: a rule that speaks against a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ObstacleView {
    /// The rule: `cordoned`, `machine-id`, `metadata`, `machine-of`, `conflicts`, `replaces`, `spread`, `port` or
    /// `resources`. Later versions may have more.
    pub rule: String,
    /// How it is broken.
    pub why: String,
    /// The unit that breaks it, if it isn't the one in question, but one that must be with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<UnitName>,
    /// The option that asks for it, if a unit file does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub option: Option<OptionLine>,
}

/// v2: an option of a unit file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct OptionLine {
    /// The unit that has the file.
    pub unit: UnitName,
    /// The line on which the option begins, from 1.
    pub line: usize,
    /// The option: `MachineMetadata=zone=a`.
    pub text: String,
}

/// v2: why a unit is on its host, as the cluster is now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PlaceView {
    /// What decides, as a sentence: `units 1 < 4`.
    pub because: String,
    /// The best of the other hosts that fit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runner_up: Option<MachineRef>,
    /// Whether that is better by now. It doesn't move because of it, unless a person asks for a rebalance.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub runner_up_is_better: bool,
    /// The first of the hosts that would be better and don't fit, the best first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub passed_over: Vec<HostsAgainst>,
    /// How many such hosts there are.
    pub passed_over_in_all: usize,
}
