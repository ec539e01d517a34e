//! How rollouts go on from member to member in a copy of the cluster. Owns what is told of it; must never decide who is
//! next (`pace` does).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::model::cluster::Cluster;
use crate::model::name::{MachineId, UnitHash, UnitName};
use crate::model::rollout::policy::{Policy, Promote};
use crate::model::rollout::{Gate, MemberName, Phase, Rollout};
use crate::model::unit::Assignment;

use super::super::gate::hosts::launched_on;
use super::super::gate::{instances, launched};
use super::super::rollouts::{GateEvent, GateWrite, Writes};

/// A rollout, as it would go on if every member becomes healthy at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Course {
    /// The file that it brings.
    pub target: UnitHash,
    /// The units that run once before the members get it.
    pub before: Vec<UnitName>,
    /// The members that get it, in their order: those of a step together, with the units that ride with them.
    pub steps: Vec<Vec<MemberName>>,
    /// The units that run once when all of them have it.
    pub after: Vec<UnitName>,
    /// The members that don't get it, because the rollout waits, or ends before; with the units that ride with them.
    pub held: Vec<MemberName>,
    /// How many members may be unavailable at a time because of it.
    pub parallel: usize,
    /// How many members get the file first, and are waited for.
    pub canaries: usize,
    /// The fewest members that are ready at any time.
    pub least_ready: usize,
    /// How far it gets.
    pub phase: Phase,
    /// Why it doesn't get further, if something prevents it.
    pub why: Option<String>,
    /// How long it takes at most once hosts have started its members, since each must be healthy by its deadline.
    /// `None` if there is no limit.
    pub longest: Option<Duration>,
}

/// The rollouts of a copy.
#[derive(Debug, Clone, Default)]
pub(super) struct Courses {
    all: BTreeMap<UnitName, Draft>,
    /// The members of sets that are ready.
    ready: BTreeMap<UnitName, Ready>,
}

/// The members of a set that are healthy, with the units that ride with them, with what their hosts were told last.
/// Only members to which something has happened are looked at again.
#[derive(Debug, Clone, Default)]
struct Ready {
    /// The template of the set, and those of its riders.
    templates: Vec<UnitName>,
    members: BTreeSet<u32>,
    touched: BTreeSet<u32>,
}

impl Ready {
    fn count(&mut self, cluster: &Cluster, set: &UnitName) -> usize {
        let rollout = cluster.rollouts.get(set).map(|rollout| &rollout.value);
        let riders = || rollout.into_iter().flat_map(|rollout| rollout.riders.keys());
        if self.templates.is_empty() || !self.templates[1..].iter().eq(riders()) {
            self.templates = std::iter::once(set).chain(riders()).cloned().collect();
            self.members.clear();
            self.touched.extend(instances(cluster, set).filter_map(UnitName::number));
        }
        for number in std::mem::take(&mut self.touched) {
            let member = set.numbered(number).ok();
            if member.is_some_and(|member| is_whole(cluster, &self.templates, &member)) {
                self.members.insert(number);
            } else {
                self.members.remove(&number);
            }
        }
        self.members.len()
    }
}

#[derive(Debug, Clone)]
struct Draft {
    target: UnitHash,
    /// The files of riders.
    riders: BTreeMap<UnitName, UnitHash>,
    steps: Vec<Vec<MemberName>>,
    least_ready: Option<usize>,
}

impl Courses {
    /// Something has happened to a unit.
    pub(super) fn happened_to(&mut self, unit: &UnitName) {
        for ready in self.ready.values_mut() {
            ready.touched.extend(ready.templates.iter().find_map(|template| unit.number_in(template)));
        }
    }

    /// Take in what was decided; `cluster` shows what hosts were told since.
    pub(super) fn follow(&mut self, writes: &Writes, cluster: &Cluster) {
        for rollout in writes.rollouts.iter().filter(|rollout| rollout.is_news) {
            let Some(after) = &rollout.write.after else {
                self.all.remove(&rollout.name);
                continue;
            };
            let draft = self.all.entry(rollout.name.clone()).or_insert_with(|| Draft::to(after));
            if !draft.is_of(after) {
                *draft = Draft::to(after);
            }
        }
        let mut steps: BTreeMap<&UnitName, Vec<MemberName>> = BTreeMap::new();
        for gate in writes.gates.values().filter(|gate| gate.why == GateEvent::LetThrough) {
            steps.entry(&gate.rollout.0).or_default().extend(let_through(gate, cluster));
        }
        for (name, step) in steps {
            let Some(rollout) = cluster.rollouts.get(name).map(|rollout| &rollout.value) else { continue };
            let draft = self.all.entry(name.clone()).or_insert_with(|| Draft::to(rollout));
            let ready = match name.is_template() {
                true => self.ready.entry(name.clone()).or_default().count(cluster, name),
                false => ready(cluster, name),
            };
            draft.least_ready = Some(draft.least_ready.map_or(ready, |least| least.min(ready)));
            draft.steps.push(step);
        }
    }

    /// What is known of them at the end. Those that had nobody to stop aren't worth telling.
    pub(super) fn ended(&self, cluster: &Cluster) -> BTreeMap<UnitName, Course> {
        let ended = |(name, draft): (&UnitName, &Draft)| Some((name.clone(), draft.ended(cluster, name)?));
        self.all.iter().filter_map(ended).collect()
    }
}

impl Draft {
    fn to(rollout: &Rollout) -> Self {
        let riders = rollout.riders.iter().map(|(rider, files)| (rider.clone(), files.target.clone())).collect();
        Self { target: rollout.target.clone(), riders, steps: Vec::new(), least_ready: None }
    }

    fn is_of(&self, rollout: &Rollout) -> bool {
        let Self { target, riders, .. } = Self::to(rollout);
        (&self.target, &self.riders) == (&target, &riders)
    }

    fn ended(&self, cluster: &Cluster, name: &UnitName) -> Option<Course> {
        let rollout = &cluster.rollouts.get(name)?.value;
        let is_held = |unit: &UnitName, gate: &Gate| {
            gate.rollout == *name && gate.target == *rollout.target_of(unit) && !gate.hook
        };
        let gates = cluster.gates.iter().filter(|(unit, gate)| is_held(unit, &gate.value));
        let held: Vec<MemberName> = gates.flat_map(|(name, gate)| held_by(cluster, name, &gate.value)).collect();
        // Those that ride with a member have its number.
        let named = self.steps.iter().flatten().chain(&held).map(|member| (member.number(), &member.host));
        let members = named.collect::<BTreeSet<_>>().len();
        if members == 0 {
            return None;
        }
        let policy = cluster.files.get(&self.target).and_then(|file| file.value.rollout.as_deref().cloned());
        let policy: Policy = policy.unwrap_or_default();
        let run = |after| {
            let runs = rollout.hooks.iter().filter(move |run| run.after == after);
            runs.map(|run| run.unit.clone()).collect()
        };
        let canaries = policy.canary.at_most_all_of(members);
        Some(Course {
            target: self.target.clone(),
            before: run(false),
            steps: self.steps.clone(),
            after: run(true),
            parallel: policy.parallel.at_least_one_of(members),
            canaries,
            least_ready: self.least_ready.unwrap_or_else(|| ready(cluster, name)),
            phase: rollout.phase,
            why: rollout.why.clone(),
            longest: longest(&policy, self.steps.len() + rollout.hooks.len(), canaries)
                .filter(|_| rollout.phase == Phase::Done),
            held,
        })
    }
}

/// The members that a gate lets through. A host that doesn't have a global unit is none.
fn let_through<'a>(gate: &'a GateWrite, cluster: &'a Cluster) -> Box<dyn Iterator<Item = MemberName> + 'a> {
    if !gate.write.after.as_ref().is_some_and(Gate::is_by_host) {
        return Box::new(std::iter::once(gate.unit.clone().into()));
    }
    let has_it =
        |host: &&MachineId| cluster.schedule.get(*host).is_some_and(|assignments| assignments.contains_key(&gate.unit));
    let hosts = gate.hosts.iter().filter(has_it).cloned();
    Box::new(hosts.map(|host| MemberName { unit: gate.unit.clone(), host: Some(host) }))
}

/// The members that a gate holds back.
fn held_by(cluster: &Cluster, name: &UnitName, gate: &Gate) -> Vec<MemberName> {
    if !gate.is_by_host() {
        return vec![name.clone().into()];
    }
    let hosts = launched_on(cluster, name).map(|(host, _)| host).filter(|host| gate.held_on(host).is_some());
    hosts.map(|host| MemberName { unit: name.clone(), host: Some(host.clone()) }).collect()
}

/// How long so many steps take at most.
fn longest(policy: &Policy, steps: usize, canaries: usize) -> Option<Duration> {
    if policy.deadline == Duration::MAX {
        return None;
    }
    let all = policy.deadline.checked_mul(u32::try_from(steps).ok()?)?;
    match policy.promote {
        Promote::After(time) if canaries > 0 => all.checked_add(time),
        _ => Some(all),
    }
}

/// How many members of a set, with the units that ride with them, or of the unit itself or its hosts, are healthy with
/// what their hosts were told last.
fn ready(cluster: &Cluster, name: &UnitName) -> usize {
    if name.is_template() {
        return Ready::default().count(cluster, name);
    }
    let hosts = launched_on(cluster, name).filter(|assignment| is_ready(cluster, *assignment, name)).count();
    hosts + usize::from(launched(cluster, name).is_some_and(|assignment| is_ready(cluster, assignment, name)))
}

/// Whether a unit is healthy on a host with what that was told.
fn is_ready(cluster: &Cluster, (host, assignment): (&MachineId, &Assignment), unit: &UnitName) -> bool {
    let ends = cluster.files.get(&assignment.hash).is_some_and(|file| file.value.ends);
    let report = cluster.report(unit, host).filter(|_| cluster.machines.contains_key(host));
    report.is_some_and(|report| report.generation >= assignment.generation && report.is_healthy(ends))
}

/// Whether a member of a set is healthy, and the units that ride with it, as far as these are launched. The templates
/// are those of the set and its riders.
fn is_whole(cluster: &Cluster, templates: &[UnitName], member: &UnitName) -> bool {
    let serves = |unit: &UnitName| launched(cluster, unit).map(|assignment| is_ready(cluster, assignment, unit));
    let riders = templates[1..].iter().filter_map(|rider| rider.numbered(member.number()?).ok());
    let mut with_it = riders.map(|unit| serves(&unit).unwrap_or(true));
    cluster.units.contains_key(member) && serves(member) == Some(true) && with_it.all(|serves| serves)
}
