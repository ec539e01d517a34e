//! What taking a cluster over would do, unit by unit and host by host. Pure: what both clusters say in, the plan out.
//! Asks nobody and prints nothing; the words of a plan as text are `report`'s.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::reading;
use crate::api::client::Fleet;
use crate::api::wire::v1::{State, Unit};
use crate::api::wire::{ApplyUnit, MachineView, UnitView};
use crate::model::file::{UnitFile, canonical};
use crate::model::glob::Glob;
use crate::model::name::UnitName;
use crate::model::placement::Constraints;
use crate::model::reserved;
use crate::model::unit::Desired;

/// What becomes of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Action {
    /// It is new here.
    Submit,
    /// It is here, with the same file.
    Same,
    /// It is here with another file, which stays.
    Differs,
    /// It is here with another file, which goes.
    Replace,
    /// It can't be here.
    Refused,
}

/// One unit of the other cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Row {
    /// Its name, as it is there.
    pub(super) unit: String,
    /// What becomes of it.
    pub(super) action: Action,
    /// What is wanted of it there.
    pub(super) desired: String,
    /// Where it is placed there; empty for one that is nowhere, or everywhere.
    pub(super) machine: String,
    /// Whether it is global.
    pub(super) global: bool,
    /// Its hash here: fleet's too, unless a note says otherwise.
    pub(super) hash: String,
    /// Its file.
    pub(super) text: String,
    /// Why it is refused.
    pub(super) problems: Vec<String>,
    /// What is worth knowing.
    pub(super) notes: Vec<String>,
}

/// A host of the other cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Host {
    /// Its machine id.
    pub(super) machine: String,
    /// Its address.
    pub(super) ip: String,
    /// Its metadata there, whichever way it got it.
    pub(super) metadata: BTreeMap<String, String>,
    /// Whether it is a host here too.
    pub(super) here: bool,
    /// What its metadata here lacks, or has otherwise. All of it while it isn't here.
    pub(super) missing: BTreeMap<String, String>,
}

/// Units to be asked for together, at one point of the hand-over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Step {
    /// The host that has to join before; empty for what comes when all have joined.
    pub(super) machine: String,
    /// To start.
    pub(super) start: Vec<String>,
    /// To load.
    pub(super) load: Vec<String>,
}

/// All of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Plan {
    /// By name.
    pub(super) units: Vec<Row>,
    /// Units that hosts there report, and the cluster there doesn't list: by name, with the hosts.
    pub(super) unlisted: BTreeMap<String, BTreeSet<String>>,
    /// By machine id.
    pub(super) machines: Vec<Host>,
    /// In this order.
    pub(super) handover: Vec<Step>,
}

/// What this cluster has.
pub(super) struct Here<'a> {
    pub(super) units: &'a [UnitView],
    pub(super) machines: &'a [MachineView],
}

impl Plan {
    /// The plan for those units of `fleet` that match one of `globs`, or all.
    pub(super) fn new(fleet: &Fleet, here: &Here, globs: &[Glob], replace: bool) -> Self {
        let wanted = |name: &str| globs.is_empty() || globs.iter().any(|glob| glob.matches(name));
        let known: BTreeMap<&str, &UnitView> = here.units.iter().map(|unit| (unit.name.as_str(), unit)).collect();
        let listed: BTreeSet<&str> = fleet.units.iter().map(|unit| unit.name.as_str()).collect();
        let mut units: Vec<Row> = fleet
            .units
            .iter()
            .filter(|unit| wanted(&unit.name))
            .map(|unit| row(unit, &fleet.states, known.get(unit.name.as_str()).copied(), replace))
            .collect();
        units.sort_by(|a, b| a.unit.cmp(&b.unit));
        let mut unlisted: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for state in fleet.states.iter().filter(|s| wanted(&s.name) && !listed.contains(s.name.as_str())) {
            unlisted.entry(state.name.clone()).or_default().insert(state.machine_id.clone());
        }
        let machines = hosts(fleet, here.machines);
        let handover = steps(&units);
        Self { units, unlisted, machines, handover }
    }

    /// Whether something can't be taken over as it is.
    pub(super) fn is_incomplete(&self) -> bool {
        !self.unlisted.is_empty() || self.units.iter().any(|row| row.action == Action::Refused)
    }

    /// What to ask of this cluster; with `start`, the wanted states too.
    pub(super) fn batch(&self, start: bool) -> Vec<ApplyUnit> {
        let ask = |row: &Row| {
            let desired = start.then(|| row.wanted()).filter(|wanted| *wanted != Desired::Inactive);
            let file = matches!(row.action, Action::Submit | Action::Replace);
            let asked = file || (desired.is_some() && row.action == Action::Same);
            asked.then(|| ApplyUnit {
                name: row.unit.clone(),
                text: file.then(|| row.text.clone()),
                desired,
                replace: row.action == Action::Replace,
                ..ApplyUnit::default()
            })
        };
        self.units.iter().filter_map(ask).collect()
    }
}

impl Row {
    /// What is wanted of it there, if that can be wanted here: fleet let people start templates, to no effect.
    pub(super) fn wanted(&self) -> Desired {
        let template = self.unit.parse::<UnitName>().is_ok_and(|name| name.is_template());
        if template { Desired::Inactive } else { self.desired.parse().unwrap_or(Desired::Inactive) }
    }
}

fn row(unit: &Unit, states: &[State], here: Option<&UnitView>, replace: bool) -> Row {
    let text = canonical(&unit.options);
    let mut row = Row {
        unit: unit.name.clone(),
        action: Action::Submit,
        desired: unit.desired_state.clone(),
        machine: unit.machine_id.clone(),
        global: false,
        hash: String::new(),
        text: String::new(),
        problems: Vec::new(),
        notes: Vec::new(),
    };
    let file = match UnitFile::parse(text.as_bytes()) {
        Ok(file) => file,
        Err(error) => {
            row.action = Action::Refused;
            row.problems.push(error.to_string());
            return row;
        }
    };
    row.hash = file.hash().to_string();
    row.text = text;
    row.problems = problems(&unit.name, &file);
    row.global = Constraints::parse(&file).is_ok_and(|constraints| constraints.global);
    row.notes = reading::differences(&file);
    row.notes.extend(file.warnings().iter().map(|warning| format!("{}, ignored by systemd", warning.what)));
    row.notes.extend(hash_note(unit, &file, states));
    if unit.desired_state.parse::<Desired>().is_err() {
        row.notes
            .push(format!("`{}` is wanted of it there, which is no state: taken for inactive", unit.desired_state));
    }
    row.notes.extend(rest(unit, states));
    row.action = match here {
        _ if !row.problems.is_empty() => Action::Refused,
        None => Action::Submit,
        Some(here) if here.hash.as_str() == row.hash => Action::Same,
        Some(_) if replace => Action::Replace,
        Some(_) => Action::Differs,
    };
    row
}

/// What would be said of it if it were submitted.
fn problems(name: &str, file: &UnitFile) -> Vec<String> {
    let name = match name.parse::<UnitName>() {
        Ok(name) => name,
        Err(error) => return vec![error.to_string()],
    };
    if let Some(why) = reserved::why(&name) {
        return vec![why.into()];
    }
    match Constraints::parse(file) {
        Err(problems) => problems.into_iter().map(|problem| problem.what).collect(),
        Ok(constraints) => {
            let resolved = Constraints::resolve(&std::sync::Arc::new(constraints), &name);
            let itself = resolved.machine_of.contains(name.as_str());
            itself.then(|| format!("`MachineOf` names {name} itself: it must name other units")).into_iter().collect()
        }
    }
}

/// fleet's hash, where a host reports it, is that of the file that is there.
fn hash_note(unit: &Unit, file: &UnitFile, states: &[State]) -> Option<String> {
    let theirs = states.iter().find(|state| state.name == unit.name && !state.hash.is_empty())?;
    if theirs.hash == file.hash().as_str() {
        return None;
    }
    let short: String = theirs.hash.chars().take(7).collect();
    Some(format!(
        "the file on {} has another hash ({short}): it will be replaced, and the unit restarted",
        theirs.machine_id
    ))
}

/// A unit that is to run and doesn't: taking it over would run it.
fn rest(unit: &Unit, states: &[State]) -> Option<String> {
    let resting = |state: &&State| {
        let stopped = matches!(state.systemd_active_state.as_str(), "inactive" | "failed");
        state.name == unit.name && unit.desired_state == "launched" && stopped
    };
    let state = states.iter().find(resting)?;
    Some(format!(
        "it is to run and is {}/{} on {}: it has ended or failed, and starting it here runs it again",
        state.systemd_active_state, state.systemd_sub_state, state.machine_id
    ))
}

fn hosts(fleet: &Fleet, here: &[MachineView]) -> Vec<Host> {
    let mut hosts: Vec<Host> = fleet
        .machines
        .iter()
        .map(|machine| {
            let known = here.iter().find(|known| known.id.as_str() == machine.id);
            let lacks = |key: &String, value: &String| known.is_none_or(|known| known.metadata.get(key) != Some(value));
            let missing = machine.metadata.iter().filter(|(key, value)| lacks(key, value));
            Host {
                machine: machine.id.clone(),
                ip: machine.primary_ip.clone(),
                metadata: machine.metadata.clone(),
                here: known.is_some(),
                missing: missing.map(|(key, value)| (key.clone(), value.clone())).collect(),
            }
        })
        .collect();
    hosts.sort_by(|a, b| a.machine.cmp(&b.machine));
    hosts
}

/// Units go to the least loaded host: one that has just joined, and is to get no more units than any host before it
/// has. Hence hosts in the order of how many units they have, each with its own; then what may be anywhere, or is
/// everywhere.
fn steps(rows: &[Row]) -> Vec<Step> {
    let mut by_host: BTreeMap<&str, Step> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.action != Action::Refused) {
        let host = if row.global { "" } else { row.machine.as_str() };
        let step =
            by_host.entry(host).or_insert_with(|| Step { machine: host.into(), start: Vec::new(), load: Vec::new() });
        match row.wanted() {
            Desired::Launched => step.start.push(row.unit.clone()),
            Desired::Loaded => step.load.push(row.unit.clone()),
            Desired::Inactive => {}
        }
    }
    let mut steps: Vec<Step> = by_host.into_values().filter(|step| step.size() > 0).collect();
    steps.sort_by_key(|step| (step.machine.is_empty(), std::cmp::Reverse(step.size()), step.machine.clone()));
    steps
}

impl Step {
    /// How many units.
    pub(super) fn size(&self) -> usize {
        self.start.len() + self.load.len()
    }
}
