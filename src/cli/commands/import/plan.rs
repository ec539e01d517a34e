//! What an import would do, for each unit and each host. Pure: the state of both clusters in, the plan out. Makes no
//! requests and prints nothing; `report` owns the wording.

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

/// What is done with a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Action {
    /// It is new here and is submitted.
    Submit,
    /// It exists here with the same file.
    Same,
    /// It exists here with another file, which is kept.
    Differs,
    /// It exists here with another file, which is replaced.
    Replace,
    /// It can't be submitted here.
    Refused,
}

/// One unit of the other cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Row {
    /// Its name there.
    pub(super) unit: String,
    /// What is done with it.
    pub(super) action: Action,
    /// Its desired state there.
    pub(super) desired: String,
    /// Its host there; empty if it has none, or is global.
    pub(super) machine: String,
    /// Whether it is global.
    pub(super) global: bool,
    /// Its hash here; also fleet's, unless a note says otherwise.
    pub(super) hash: String,
    /// Its file.
    pub(super) text: String,
    /// Why it is refused.
    pub(super) problems: Vec<String>,
    /// Notes for the user.
    pub(super) notes: Vec<String>,
}

/// A host of the other cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Host {
    /// Its machine id.
    pub(super) machine: String,
    /// Its address.
    pub(super) ip: String,
    /// Its metadata there, static and dynamic.
    pub(super) metadata: BTreeMap<String, String>,
    /// Whether it is also a host of this cluster.
    pub(super) here: bool,
    /// Metadata that is missing or different here; all of it if it isn't a host here.
    pub(super) missing: BTreeMap<String, String>,
}

/// Units that are started or loaded together, in one step of the handover.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Step {
    /// The host that must join before; empty for the step after all have joined.
    pub(super) machine: String,
    /// Units to start.
    pub(super) start: Vec<String>,
    /// Units to load.
    pub(super) load: Vec<String>,
}

/// The whole plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Plan {
    /// The units, by name.
    pub(super) units: Vec<Row>,
    /// Units that hosts report and that the cluster there doesn't list: by name, with the hosts.
    pub(super) unlisted: BTreeMap<String, BTreeSet<String>>,
    /// The hosts, by machine id.
    pub(super) machines: Vec<Host>,
    /// The steps of the handover, in order.
    pub(super) handover: Vec<Step>,
}

/// The state of this cluster.
pub(super) struct Here<'a> {
    pub(super) units: &'a [UnitView],
    pub(super) machines: &'a [MachineView],
}

impl Plan {
    /// The plan for the units of `fleet` that match one of `globs`, or for all if there are none.
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

    /// Whether something can't be imported unchanged.
    pub(super) fn is_incomplete(&self) -> bool {
        !self.unlisted.is_empty() || self.units.iter().any(|row| row.action == Action::Refused)
    }

    /// The batch to send; with `start` it includes the desired states.
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
    /// Its desired state there, if it is possible here: fleet accepted the start of a template, without effect.
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

/// The problems that would be reported if it were submitted.
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

/// The hash that a host reports is that of the file on the host.
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

/// A unit that is launched but not running: starting it here would run it.
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

/// The scheduler places a unit on the least loaded host: this must be the host that has just joined, so it must get no
/// more units than any host before it has. Hence the hosts are sorted by descending number of units, each with its own
/// units; units without a host and global units come last.
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
    /// The number of units.
    pub(super) fn size(&self) -> usize {
        self.start.len() + self.load.len()
    }
}
