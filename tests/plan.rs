//! Properties of the scheduler: over random clusters, random changes, hosts that answer late, and engines that crash
//! between two commits.
//!
//! `World` is the store, the API, the hosts and the engine in one: it commits decisions one by one, and checks the
//! guards of each.

#![allow(clippy::unwrap_used, reason = "names and files here are constants")]

#[path = "plan/explain.rs"]
mod explain;
#[path = "plan/forecast.rs"]
mod forecast;
#[path = "plan/pace.rs"]
mod pace;
#[path = "plan/pack.rs"]
mod pack;
#[path = "plan/rebalance.rs"]
mod rebalance;
#[path = "plan/remedy.rs"]
mod remedy;
#[path = "plan/skew.rs"]
mod skew;
#[path = "plan/whatif.rs"]
mod whatif;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use flotilla::model::cluster::{Change, Cluster, Versioned};
use flotilla::model::file::UnitFile;
use flotilla::model::format::ReportKeyForm;
use flotilla::model::machine::{Machine, Metadata};
use flotilla::model::maintenance::{Cordon, Maintenance};
use flotilla::model::name::{MachineId, UnitHash, UnitName};
use flotilla::model::placement::Constraints;
use flotilla::model::placement::preference::{Spread, Wanted};
use flotilla::model::resources::{Kind, Resources};
use flotilla::model::rollout::Gate;
use flotilla::model::rollout::hosts::HeldFile;
use flotilla::model::settings::{Order, Settings};
use flotilla::model::unit::{Assignment, Desired, Placement, Target, Unit, UnitReport};
use flotilla::plan::check::{always, check};
use flotilla::plan::fit::{Question, Stance, View as _, fit};
use flotilla::plan::schedule::{Brake, Decision, Departure, Plan, Reason, Scheduler, Write};
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

const HOSTS: usize = 5;

/// The files of global units.
const GLOBALS: std::ops::Range<usize> = 23..27;
const UNITS: [&str; 10] = [
    "a.service",
    "b.service",
    "c.service",
    "d.service",
    "t@.service",
    "w@1.service",
    "w@2.service",
    "w@3.service",
    "w@4.service",
    "w@.service",
];
const FILES: [&str; 61] = [
    "",
    "",
    "Conflicts=w@*",
    "Conflicts=%p@*",
    "Conflicts=a.service",
    "Conflicts=b*",
    "Conflicts=*",
    "MachineMetadata=zone=a",
    "MachineMetadata=zone=b disk=ssd",
    "MachineMetadata=zone=a zone=b\nConflicts=c.service",
    "MachineOf=a.service",
    "MachineOf=b.service",
    "MachineOf=c.service",
    "MachineOf=d.service w@1.service",
    "MachineOf=a.service\nConflicts=w@*",
    "MachineOf=c.service\nMachineMetadata=zone=a",
    "MachineOf=b.service\nReplaces=c.service",
    "MachineOf=w@1.service\nReplaces=d.service",
    "Replaces=a.service",
    "Replaces=b.service",
    "Replaces=c.service d.service",
    "Replaces=w@*",
    "Replaces=*",
    "Global=true",
    "Global=true\nConflicts=w@*",
    "Global=true\nMachineMetadata=zone=a",
    "Global=true\nConflicts=a.service c.service",
    "MachineID=00000000000000000000000000000001",
    "MachineID=00000000",
    "MachineOf=a.service b.service",
    "MachineMetadata=zone=a zone=b",
    "MachineMetadata=zone!=a",
    "MachineMetadata=!disk zone~[ab]",
    "MachineMetadata=zone>=b\nConflicts=w@*",
    "MachineMetadata=zone<b disk!=ssd",
    "MachineMetadata=zone",
    "Global=true\nMachineMetadata=!zone",
    "Spread=zone",
    "Spread=zone\nMaxSkew=1\nConflicts=%p@*",
    "Spread=zone w@*\nAvoids=a*",
    "Spread=zone *\nMaxSkew=2",
    "Avoids=w@* b.service\nMachinePrefers=zone=a",
    "MachinePrefers=disk=ssd\nMachinePrefers=zone!=a",
    "Spread=disk w@*\nMaxSkew=1\nMachineMetadata=zone\nPriority=5",
    "MachineOf=a.service\nSpread=zone w@*\nPriority=-1",
    "Port=80",
    "Port=80 53/udp",
    "Port=8%i 80\nConflicts=b.service",
    "Port=53/udp\nMachineOf=a.service",
    "Port=81\nMachineMetadata=zone=a",
    "Global=true\nPort=80",
    "Replaces=b.service\nPort=53/udp",
    "Memory=300M",
    "Memory=600M\nCPU=50%",
    "CPU=120%",
    "Memory=200M\nMachineOf=a.service",
    "Memory=400M\nMachineOf=b.service\nConflicts=w@*",
    "Global=true\nMemory=200M",
    "Replaces=b.service\nMemory=500M",
    "Memory=300M\nSpread=zone w@*",
    "Memory=100M\nMachineMetadata=zone",
];

/// The file of a global unit that takes memory.
const GREEDY: usize = 57;

fn host(at: usize) -> MachineId {
    // Two of them have the same first eight digits, because `MachineID=` may contain only these.
    let high = if at < 2 { 0 } else { at };
    format!("{high:08x}{:024x}", at + 1).parse().unwrap()
}

fn unit_name(at: usize) -> UnitName {
    UNITS[at].parse().unwrap()
}

fn file(at: usize) -> (UnitHash, Arc<Constraints>) {
    let text = format!("[Service]\nExecStart=/bin/true {}\n[X-Fleet]\n{}\n", at % 2, FILES[at]);
    let file = UnitFile::parse(text.as_bytes()).unwrap();
    (file.hash(), Arc::new(Constraints::parse(&file).unwrap()))
}

/// The report of a unit by a host; `None` deletes it.
fn report(unit: &UnitName, host: &MachineId, report: Option<Versioned<UnitReport>>) -> Change {
    Change::Report(unit.clone(), host.clone(), ReportKeyForm::HostFirst, report)
}

/// What can happen.
#[derive(Debug, Clone)]
enum Op {
    /// Submit or change: unit, file, desired state.
    Unit(usize, usize, Desired),
    /// Change the desired state alone.
    Desire(usize, Desired),
    /// Request a restart.
    Restart(usize),
    Destroy(usize),
    /// The gate of a global unit says that it goes on with this file, but on some hosts with the one that was
    /// requested, and on some with a third one. Or it has none.
    Gate(usize, usize, u8, u8, usize),
    /// A host joins, or changes its metadata.
    Machine(usize, usize),
    Dies(usize),
    Dynamic(usize, usize),
    /// A host is cordoned, or no longer.
    Cordon(usize, bool),
    /// A host has other hardware.
    Hardware(usize, usize),
    /// The settings of the cluster change.
    Settings(usize),
    /// Some hosts carry out their assignments.
    Hosts(u8),
    /// The engine plans, and commits all of it.
    Plan,
    /// The engine plans, and dies after committing some of it.
    Crash(Index),
    /// The leader changes before the plan is committed: another engine continues.
    Audit,
}

/// Manual changes of a store.
#[derive(Debug, Clone)]
enum Edit {
    NoAssignment(usize, usize),
    Assignment(usize, usize, usize, Target, bool),
    NoPlacement(usize),
    On(usize, usize),
    Waiting(usize),
}

fn desired() -> impl Strategy<Value = Desired> {
    prop_oneof![1 => Just(Desired::Inactive), 1 => Just(Desired::Loaded), 6 => Just(Desired::Launched)]
}

/// A file. One whose units prefer something is taken more often than others: there are few of them.
fn any_file() -> impl Strategy<Value = usize> {
    let prefers = |text: &str| ["Spread=", "Avoids=", "MachinePrefers="].iter().any(|option| text.contains(option));
    let preferring: Vec<usize> = (0..FILES.len()).filter(|at| prefers(FILES[*at])).collect();
    prop_oneof![2 => 0..FILES.len(), 1 => proptest::sample::select(preferring)]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (0..UNITS.len(), any_file(), desired()).prop_map(|(u, f, d)| Op::Unit(u, f, d)),
        2 => (0..UNITS.len(), desired()).prop_map(|(u, d)| Op::Desire(u, d)),
        1 => (0..UNITS.len()).prop_map(Op::Restart),
        2 => (0..UNITS.len()).prop_map(Op::Destroy),
        4 => (0..UNITS.len(), global(), any::<u8>(), any::<u8>(), global())
            .prop_map(|(u, f, through, third, other)| Op::Gate(u, f, through, third, other)),
        4 => (0..HOSTS, 0..4_usize).prop_map(|(h, m)| Op::Machine(h, m)),
        2 => (0..HOSTS).prop_map(Op::Dies),
        1 => (0..HOSTS, 0..4_usize).prop_map(|(h, m)| Op::Dynamic(h, m)),
        3 => (0..HOSTS, any::<bool>()).prop_map(|(h, c)| Op::Cordon(h, c)),
        5 => any::<u8>().prop_map(Op::Hosts),
        5 => Just(Op::Plan),
        2 => any::<Index>().prop_map(Op::Crash),
        1 => Just(Op::Audit),
        2 => (0..HOSTS, 0..4_usize).prop_map(|(h, w)| Op::Hardware(h, w)),
        1 => (0..4_usize).prop_map(Op::Settings),
    ]
}

fn global() -> impl Strategy<Value = usize> {
    prop_oneof![4 => GLOBALS, 1 => Just(GREEDY)]
}

/// What a host says of its hardware, and what it reserves.
fn hardware(which: usize) -> (Metadata, Resources) {
    let (memory, cpus, reserved) = [(1000, 2, 0), (700, 1, 0), (1200, 4, 300), (300, 1, 0)][which];
    let builtin = [("@memory", memory), ("@cpus", cpus)].map(|(key, value)| (key.to_owned(), value.to_string()));
    (builtin.into(), Resources { memory: reserved << 20, cpu: 0 })
}

fn edit() -> impl Strategy<Value = Edit> {
    let target = prop_oneof![Just(Target::Removed), Just(Target::Launched)];
    prop_oneof![
        (0..HOSTS, 0..UNITS.len()).prop_map(|(h, u)| Edit::NoAssignment(h, u)),
        (0..HOSTS, 0..UNITS.len(), 0..FILES.len(), target, any::<bool>())
            .prop_map(|(h, u, f, t, g)| Edit::Assignment(h, u, f, t, g)),
        (0..UNITS.len()).prop_map(Edit::NoPlacement),
        (0..HOSTS, 0..UNITS.len()).prop_map(|(h, u)| Edit::On(h, u)),
        (0..UNITS.len()).prop_map(Edit::Waiting),
    ]
}

struct World {
    store: Cluster,
    scheduler: Scheduler,
    /// Whether the scheduler receives the changes of each commit in reverse order.
    backwards: bool,
}

impl World {
    fn new() -> Self {
        Self { store: Cluster::default(), scheduler: Scheduler::new(Cluster::default()), backwards: false }
    }

    /// One commit of the API, a host or the engine.
    fn commit(&mut self, changes: impl IntoIterator<Item = Change>) {
        self.store.revision = self.store.revision.next();
        let mut changes: Vec<Change> = changes.into_iter().collect();
        changes.iter().for_each(|change| self.store.apply(change.clone()));
        if self.backwards {
            changes.reverse();
        }
        changes.into_iter().for_each(|change| self.scheduler.apply(change));
        self.scheduler.advance(self.store.revision);
    }

    fn act(&mut self, op: &Op) {
        let next = self.store.revision.next();
        match op {
            Op::Unit(unit, at, desired) => {
                let (hash, constraints) = file(*at);
                let submitted = self.store.units.get(&unit_name(*unit)).map_or(next.0, |unit| unit.submitted);
                // Most templates are sets; how many members they should have is nothing to the scheduler.
                let replicas = u32::try_from(*at).ok().filter(|at| unit_name(*unit).is_template() && at % 4 != 0);
                let unit_ = Unit { submitted, replicas, ..Unit::new(*desired, hash.clone(), next) };
                let file = Versioned { value: constraints, revision: next };
                let mut changes = vec![Change::File(hash, Some(file)), Change::Unit(unit_name(*unit), Some(unit_))];
                changes.extend(self.no_gate(*unit));
                self.commit(changes);
            }
            Op::Desire(unit, desired) => {
                let name = unit_name(*unit);
                if let Some(unit) = self.store.units.get(&name) {
                    let unit = Unit { desired: *desired, generation: next, ..unit.clone() };
                    self.commit([Change::Unit(name, Some(unit))]);
                }
            }
            Op::Restart(unit) => {
                let name = unit_name(*unit);
                if let Some(unit) = self.store.units.get(&name) {
                    let (desired, restart) = (Desired::Launched, Some(next));
                    let unit = Unit { desired, generation: next, restart, ..unit.clone() };
                    self.commit([Change::Unit(name, Some(unit))]);
                }
            }
            Op::Destroy(unit) => {
                let gate = self.no_gate(*unit);
                self.commit([Change::Unit(unit_name(*unit), None)].into_iter().chain(gate));
            }
            Op::Gate(unit, at, through, third, other) => self.gate(unit_name(*unit), *at, (*through, *third), *other),
            Op::Machine(at, metadata) => {
                let values = [vec![], vec![("zone", "a")], vec![("zone", "b")], vec![("zone", "b"), ("disk", "ssd")]];
                let metadata = values[*metadata].iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
                // The last one is of a version that doesn't report it.
                let (builtin, reserved) = if *at + 1 < HOSTS { hardware(at % 4) } else { Default::default() };
                let machine = Machine { metadata, builtin, reserved, ..Machine::new(host(*at), format!("n{at}")) };
                self.commit([Change::Machine(host(*at), Some(machine))]);
            }
            Op::Hardware(at, which) => {
                if let Some(machine) = self.store.machines.get(&host(*at)).cloned() {
                    let (builtin, reserved) = hardware(*which);
                    let machine = Machine { builtin, reserved, ..machine };
                    self.commit([Change::Machine(host(*at), Some(machine))]);
                }
            }
            Op::Settings(which) => {
                let overcommit = (which % 2 == 1).then_some(150);
                let order = (which / 2 == 1).then_some(Order::Pack);
                let (overcommit_memory, overcommit_cpu, placement) = (overcommit, overcommit, order);
                let value = Settings { overcommit_memory, overcommit_cpu, placement, ..Settings::default() };
                self.commit([Change::Settings(Some(Versioned { value, revision: next }))]);
            }
            Op::Dies(at) => {
                // Its lease ends, and its reports with it.
                let id = host(*at);
                let states = self.store.states.iter().filter(|(_, states)| states.contains_key(&id));
                let mut changes: Vec<Change> = states.map(|(unit, _)| report(unit, &id, None)).collect();
                changes.push(Change::Machine(id, None));
                self.commit(changes);
            }
            Op::Dynamic(at, value) => {
                let value = [None, Some("a"), Some("b"), Some("")][*value].map(Into::into);
                self.commit([Change::Metadata(host(*at), "zone".into(), value)]);
            }
            Op::Cordon(at, cordoned) => {
                let cordon = cordoned.then(Cordon::default);
                let asked = cordon.map(|cordon| Maintenance { cordon: Some(cordon), ..Maintenance::default() });
                let asked = asked.map(|value| Versioned { value, revision: next });
                self.commit([Change::Maintenance(host(*at), asked)]);
            }
            Op::Hosts(which) => self.hosts(|at| which & (1 << at) != 0),
            Op::Plan => self.plan_and_commit(usize::MAX),
            Op::Crash(at) => {
                let plan = self.scheduler.plan(self.store.revision.0);
                let some = at.index(plan.decisions.len() + 1);
                self.commit_plan(plan, some);
                self.scheduler = Scheduler::new(self.store.clone());
            }
            Op::Audit => self.scheduler = Scheduler::new(self.store.clone()),
        }
    }

    /// A gate that is left of a record before.
    fn no_gate(&self, unit: usize) -> Option<Change> {
        let name = unit_name(unit);
        self.store.gates.contains_key(&name).then_some(Change::Gate(name, None))
    }

    fn gate(&mut self, name: UnitName, at: usize, (through, third): (u8, u8), other: usize) {
        let Some(record) = self.store.units.get(&name).filter(|_| !name.is_template()).cloned() else { return };
        if !self.store.files.get(&record.hash).is_some_and(|file| file.value.global) {
            return;
        }
        let revision = self.store.revision.next();
        let held = |at: usize| HeldFile { hash: file(at).0, text: None, generation: revision, restart: None };
        let bit = |mask: u8, at: usize| mask & (1 << at) != 0;
        let on = |at: usize| match (bit(through, at), bit(third, at)) {
            (true, _) => Some((host(at), None)),
            (false, true) => Some((host(at), Some(held(other)))),
            (false, false) => None,
        };
        let gate = Gate {
            hook: false,
            spare: false,
            rollout: name.clone(),
            target: record.hash.clone(),
            hash: file(at).0,
            text: None,
            generation: revision,
            restart: None,
            asked: record.generation,
            hosts: Some(Box::new((0..HOSTS).filter_map(on).collect())),
        };
        // Every eighth removes it.
        let gate = (through % 8 != 0).then_some(Versioned { value: gate, revision });
        let files = [at, other].map(file);
        let file = |(hash, value)| Change::File(hash, Some(Versioned { value, revision }));
        self.commit(files.map(file).into_iter().chain([Change::Gate(name, gate)]));
    }

    fn edit(&mut self, edit: &Edit) {
        let revision = self.store.revision.next();
        let change = match edit {
            Edit::NoAssignment(at, unit) => Change::Assignment(host(*at), unit_name(*unit), None),
            Edit::Assignment(at, unit, of, target, global) => {
                let value = Assignment { global: *global, ..Assignment::new(file(*of).0, *target, revision) };
                Change::Assignment(host(*at), unit_name(*unit), Some(Versioned { value, revision }))
            }
            Edit::NoPlacement(unit) => Change::Placement(unit_name(*unit), None),
            Edit::On(at, unit) => {
                let value = Placement::On { host: host(*at), since: 0, from: None, tried: None, moved: None };
                Change::Placement(unit_name(*unit), Some(Versioned { value, revision }))
            }
            Edit::Waiting(unit) => {
                let value = Placement::Waiting { why: "a hand".into(), reasons: None, tried: None, since: 0 };
                Change::Placement(unit_name(*unit), Some(Versioned { value, revision }))
            }
        };
        self.commit([change]);
    }

    /// Live hosts carry out their assignments, and report it.
    fn hosts(&mut self, chosen: impl Fn(usize) -> bool) {
        let mut changes = Vec::new();
        for at in (0..pack::MANY).filter(|at| self.store.machines.contains_key(&host(*at)) && chosen(*at)) {
            let id = host(at);
            let empty = BTreeMap::new();
            let assignments = self.store.schedule.get(&id).unwrap_or(&empty);
            for (unit, assignment) in assignments {
                let active = if assignment.value.target == Target::Launched { "active" } else { "inactive" };
                let state = UnitReport { active: active.into(), ..UnitReport::of(&assignment.value) };
                let revision = self.store.revision.next();
                changes.push(report(unit, &id, Some(Versioned { value: state, revision })));
            }
            for (unit, states) in &self.store.states {
                if states.contains_key(&id) && !assignments.contains_key(unit) {
                    changes.push(report(unit, &id, None));
                }
            }
        }
        self.commit(changes);
    }

    fn plan_and_commit(&mut self, some: usize) {
        let plan = self.scheduler.plan(self.store.revision.0);
        assert!(!self.scheduler.is_dirty());
        assert!(self.scheduler.plan(self.store.revision.0).is_empty(), "a plan after a plan, before any echo");
        self.commit_plan(plan, some);
        assert!(!self.scheduler.is_dirty(), "its own decisions make nothing dirty");
    }

    /// Commit the first `some` decisions, each as a transaction of its own, and show each to the scheduler.
    fn commit_plan(&mut self, plan: Plan, some: usize) {
        let all = plan.decisions.len() <= some;
        let before = self.store.clone();
        for decision in plan.decisions.into_iter().take(some) {
            self.hold_to_guards(&decision);
            self.hold_to_reasons(&before, &decision);
            self.hold_to_cordons(&before, &decision);
            self.hold_to_amounts(&before, &decision);
            let changes: Vec<Change> = decision.changes(self.store.revision.next()).collect();
            self.commit(changes);
            assert_eq!(always(&self.store), [], "after {decision}");
        }
        if all {
            for decision in plan.hosts {
                let known = self.store.roster.get(&decision.host).map(|known| known.revision);
                assert_eq!(decision.write.before, known, "{decision}");
                self.commit([decision.change(self.store.revision.next())]);
            }
            for (hash, revision) in plan.files {
                assert_eq!(self.store.files.get(&hash).map(|file| file.revision), Some(revision));
                self.commit([Change::File(hash, None)]);
                assert_eq!(always(&self.store), [], "a file was collected");
            }
        }
    }

    fn hold_to_guards(&self, decision: &Decision) {
        self.hold_to_guards_of_revision(decision);
        for (host, write) in &decision.assignments {
            let known = self.store.schedule.get(host).and_then(|assignments| assignments.get(&decision.unit));
            let gone = |target| target == Target::Removed;
            if let Some(known) = known.filter(|known| gone(known.value.target) && self.is_alive(host)) {
                let state = self.store.report(&decision.unit, host);
                let acknowledged =
                    state.is_some_and(|state| gone(state.target) && state.generation == known.value.generation);
                assert!(acknowledged, "taken away before {host} said so: {decision}");
            }
            if let Some(after) = write.after.as_ref().filter(|after| gone(after.target)) {
                assert!(known.is_some_and(|known| known.value.generation < after.generation), "{decision}");
            }
            if write.after.is_none()
                && let Some(known) = known
            {
                assert!(gone(known.value.target) || !self.is_alive(host), "deleted without a stop: {decision}");
            }
        }
    }

    /// Healthy units stay: no unit leaves a live host without a reason that held before the plan or holds after it.
    fn hold_to_reasons(&self, before: &Cluster, decision: &Decision) {
        let unit = &decision.unit;
        for (host, write) in &decision.assignments {
            let known = self
                .store
                .schedule
                .get(host)
                .and_then(|assignments| assignments.get(unit))
                .map(|known| known.value.target);
            let leaves = write.after.as_ref().is_some_and(|after| after.target == Target::Removed);
            if !leaves || known == Some(Target::Removed) || !self.is_alive(host) {
                continue;
            }
            let after = self.scheduler.cluster();
            let told =
                self.store.schedule.get(host).and_then(|assignments| assignments.get(unit)).map(|e| e.value.generation);
            if after.record_on(unit, host).map(|unit| unit.generation) != told {
                continue; // its own record or its gate changed
            }
            let wanted = after.units.get(unit).is_some_and(|unit| unit.desired != Desired::Inactive);
            let constraints = after.constraints_at(unit, host).filter(|_| wanted && !unit.is_template());
            let Some(constraints) = constraints else { continue };
            let home = match self.store.placements.get(unit).map(|placement| &placement.value) {
                Some(Placement::On { host, .. }) => Some(host),
                _ => None,
            };
            if !constraints.global && home != Some(host) {
                continue; // unexplained
            }
            let because = |because: &Departure| matches!(because, Departure::Failed { .. } | Departure::Moves { .. });
            if matches!(&decision.why, Reason::Leaves { because: why, .. } if because(why)) {
                continue; // as the property asked for
            }
            let question = Question { unit, constraints: &constraints, host, stance: Stance::Stay, with: &[] };
            assert!(fit(before, &question).is_err() || fit(after, &question).is_err(), "{decision}, yet it fits");
        }
    }

    /// No unit that isn't global is new on a host that was cordoned before the plan, unless it runs there or must be
    /// with one that stays there.
    fn hold_to_cordons(&self, before: &Cluster, decision: &Decision) {
        let unit = &decision.unit;
        for (host, write) in &decision.assignments {
            let live = |cluster: &Cluster, name: &str| {
                let told = cluster.schedule.get(host).and_then(|there| there.get(name)).map(|told| &told.value);
                told.filter(|told| told.target != Target::Removed).cloned()
            };
            let Some(after) = write.after.as_ref().filter(|after| after.target != Target::Removed && !after.global)
            else {
                continue;
            };
            if !before.is_closed(host) || live(before, unit.as_str()).is_some() {
                continue;
            }
            let after_plan = self.scheduler.cluster();
            let runs = before.report(unit, host).is_some_and(|report| report.target == Target::Launched);
            let constraints = Constraints::resolve(&after_plan.files[&after.hash].value, unit);
            let stays = |peer: &String| live(after_plan, peer).is_some_and(|peer| !peer.global);
            assert!(runs || constraints.machine_of.iter().any(stays), "{decision}, which is cordoned");
        }
    }

    /// No unit is new on a host of which more of what it takes is taken than is offered, unless it runs there.
    fn hold_to_amounts(&self, before: &Cluster, decision: &Decision) {
        let (unit, after) = (&decision.unit, self.scheduler.cluster());
        for (host, _) in
            decision.assignments.iter().filter(|(_, write)| write.before.is_none() && write.after.is_some())
        {
            let own = after.constraints_at(unit, host).map(|constraints| constraints.resources).unwrap_or_default();
            let runs = before.report(unit, host).is_some_and(|report| report.target == Target::Launched);
            let there = after.schedule.get(host).into_iter().flat_map(BTreeMap::keys);
            let taken = there.filter_map(|name| after.constraints_at(name, host)).map(|it| it.resources);
            let taken = taken.fold(Resources::default(), Resources::with);
            for kind in Kind::ALL.into_iter().filter(|kind| own.of(*kind) > 0 && !runs) {
                assert!(taken.of(kind) <= offered(after, host, kind), "{decision}: too little {}", kind.name());
            }
        }
    }

    fn is_alive(&self, host: &MachineId) -> bool {
        self.store.machines.contains_key(host)
    }

    /// Continue until the engine has nothing to do and the hosts have nothing to report.
    fn settle(&mut self) {
        const ROUNDS: usize = 60;
        for _ in 0..ROUNDS {
            let revision = self.store.revision;
            self.plan_and_commit(usize::MAX);
            let planned = self.store.revision != revision;
            self.hosts(|_| true);
            if !planned && !self.scheduler.is_dirty() {
                return;
            }
        }
        panic!("doesn't settle");
    }

    fn hold_to_everything(&mut self) {
        self.settle();
        assert_eq!(check(&self.store), [], "when settled");
        assert_eq!(*self.scheduler.cluster(), self.store, "the scheduler's picture is the store's content");
        assert_eq!(self.scheduler.check_itself(0, &Default::default()), [""; 0]);
        let audit = Scheduler::new(self.store.clone()).plan(0);
        assert!(audit.is_empty(), "an audit finds something to do: {:#?}", audit.decisions);
    }
}

/// How much of something units can take of a host.
fn offered(cluster: &Cluster, host: &MachineId, kind: Kind) -> u64 {
    let Some(machine) = cluster.machines.get(host) else { return 0 };
    let number = |key: &str| machine.builtin.get(key).map_or(0, |value| value.parse::<u64>().unwrap());
    let (has, overcommit) = match kind {
        Kind::Memory => (number("@memory") << 20, cluster.settings.overcommit_memory()),
        Kind::Cpu => (number("@cpus") * 100, cluster.settings.overcommit_cpu()),
    };
    (has - machine.reserved.of(kind).min(has)) * u64::from(overcommit) / 100
}

/// Whether an assignment is deleted.
fn write_ends(write: &Write<Assignment>) -> bool {
    write.after.is_none()
}

/// The host that a new unit should go to, found without any index. Of those that fit and that it may go to, by what
/// tells them apart first: the fewest units on all hosts with the same value of its `Spread=`; the fewest members of
/// its set, if it belongs to one, and units that it avoids; the first line of its `MachinePrefers=` that holds; the
/// smaller share of memory or CPU that is taken; the fewest assignments; the smallest id. With `placement=pack`, the
/// last three are turned round for a unit that takes memory or CPU.
fn best_host(cluster: &Cluster, unit: &UnitName, without: &BTreeSet<MachineId>) -> Option<MachineId> {
    let constraints = cluster.constraints(unit)?;
    let fits = |host: &&MachineId| {
        let question = Question { unit, constraints: &constraints, host, stance: Stance::Arrive, with: &[] };
        !without.contains(*host) && fit(cluster, &question).is_ok()
    };
    let set = unit.template().filter(|template| {
        unit.number().is_some() && cluster.units.get(template).is_some_and(|template| template.replicas.is_some())
    });
    let assignments = |host: &MachineId| cluster.schedule.get(host).into_iter().flat_map(BTreeMap::keys);
    let is_member = |name: &&UnitName| set.as_ref().is_some_and(|set| name.number_in(set).is_some());
    let preferences = constraints.preferences.clone().unwrap_or_default();
    let value = |host: &MachineId, key: &str| cluster.effective_metadata(host).get(key).cloned();
    let live = |host: &MachineId, counts: &dyn Fn(&UnitName) -> bool| {
        let there = cluster.schedule.get(host).into_iter().flatten();
        there.filter(|(name, told)| told.value.target != Target::Removed && *name != unit && counts(name)).count()
    };
    let spread = |host: &MachineId| {
        let Some(Spread { key, of, .. }) = &preferences.spread else { return 0 };
        let counts = |name: &UnitName| match of {
            Some(glob) => glob.matches(name.as_str()),
            None => unit.template().is_some() && name.template() == unit.template(),
        };
        let alike = cluster.machines.keys().filter(|other| value(other, key) == value(host, key));
        alike.map(|other| live(other, &counts)).sum::<usize>()
    };
    let avoided = |host: &MachineId| {
        let avoids = preferences.avoids.iter();
        let members = assignments(host).filter(is_member).count();
        members + avoids.map(|glob| live(host, &|name| glob.matches(name.as_str()))).sum::<usize>()
    };
    let missed = |host: &MachineId| -> Vec<bool> {
        let has = |wanted: &Wanted| {
            let holds =
                |(key, values): (&String, &BTreeSet<String>)| value(host, key).is_some_and(|v| values.contains(&v));
            let conditions = wanted.conditions.iter().all(|one| one.holds(value(host, &one.key).as_deref()));
            wanted.values.iter().all(holds) && conditions
        };
        preferences.prefers.iter().map(|wanted| !has(wanted)).collect()
    };
    let share = |host: &MachineId| -> u64 {
        let taken = assignments(host).filter_map(|name| cluster.constraints_at(name, host));
        let taken = taken.fold(Resources::default(), |sum, of| sum.with(of.resources));
        let of = |kind: Kind| match (taken.of(kind), offered(cluster, host, kind)) {
            (0, _) => 0,
            (_, 0) => 100,
            (taken, offered) => taken * 100 / offered,
        };
        of(Kind::Memory).max(of(Kind::Cpu))
    };
    let packs = cluster.settings.order() == Order::Pack && !constraints.resources.is_none();
    let compared = |a: &&MachineId, b: &&MachineId| {
        let preferred = |host: &MachineId| (spread(host), avoided(host), missed(host));
        let full = |host: &MachineId| (share(host), assignments(host).count(), host.clone());
        let full = if packs { full(b).cmp(&full(a)) } else { full(a).cmp(&full(b)) };
        preferred(a).cmp(&preferred(b)).then(full)
    };
    cluster.machines.keys().filter(fits).min_by(compared).cloned()
}

/// `PROPTEST_CASES` sets the number of cases, `PROPTEST_RNG_SEED` selects others.
fn config() -> ProptestConfig {
    const CASES: u32 = 400;
    let asked = ProptestConfig::default();
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { asked.cases } else { CASES };
    ProptestConfig { cases, max_shrink_iters: asked.max_shrink_iters.min(20_000), ..asked }
}

/// The keys after an engine crashed while a unit became global: its old placement, and an assignment elsewhere.
#[test]
fn a_placement_goes_with_the_assignment_that_it_names() {
    let global = FILES.iter().position(|file| *file == "Global=true").unwrap();
    for was_global in [false, true] {
        let mut world = World::new();
        [0, 1].iter().for_each(|at| world.act(&Op::Machine(*at, 0)));
        world.act(&Op::Unit(0, 0, Desired::Launched));
        world.act(&Op::Plan);
        assert_eq!(world.store.placed_on(&unit_name(0)), Some(&host(0)));
        world.act(&Op::Unit(0, global, Desired::Inactive));
        world.edit(&Edit::Assignment(0, 0, global, Target::Removed, was_global));
        world.edit(&Edit::Assignment(1, 0, global, Target::Launched, true));
        world.act(&Op::Hosts(1));
        // Checks after each decision that a placement names a host that has the unit.
        world.act(&Op::Plan);
        assert_eq!(world.store.placed_on(&unit_name(0)), None);
        world.hold_to_everything();
    }
}

/// Random worlds are too small to show the order of values: the best host of one value is rarely busy enough.
#[test]
fn hosts_of_several_metadata_values_are_ranked_together() {
    let file = |section| FILES.iter().position(|file| *file == section).unwrap();
    let mut world = World::new();
    // Host 0 is in zone a, host 1 in zone b, the others in neither.
    [(0, 1), (1, 2), (2, 0), (3, 0), (4, 0)].iter().for_each(|(at, zone)| world.act(&Op::Machine(*at, *zone)));
    for (unit, section, expected) in [(0, "MachineMetadata=zone=a", 0), (1, "MachineMetadata=zone=a zone=b", 1)] {
        world.act(&Op::Unit(unit, file(section), Desired::Launched));
        let best = best_host(&world.store, &unit_name(unit), &BTreeSet::new());
        world.act(&Op::Plan);
        let placement = &world.store.placements[&unit_name(unit)].value;
        assert!(matches!(placement, Placement::On { host: on, .. } if *on == host(expected)), "{placement:?}");
        assert_eq!(best, Some(host(expected)), "the oracle");
    }
}

/// In random worlds the host with the fewest members is mostly the least loaded one as well.
#[test]
fn members_of_a_set_avoid_each_other() {
    let mut world = World::new();
    (0..3).for_each(|at| world.act(&Op::Machine(at, 0)));
    world.act(&Op::Unit(9, 1, Desired::Inactive));
    for (unit, expected) in [(5, 0), (0, 1), (1, 2), (2, 0), (3, 1), (6, 2), (7, 1), (8, 0)] {
        world.act(&Op::Unit(unit, 0, Desired::Launched));
        let best = best_host(&world.store, &unit_name(unit), &BTreeSet::new());
        world.act(&Op::Plan);
        let chosen = world.store.placed_on(&unit_name(unit)).cloned();
        assert_eq!((chosen, best), (Some(host(expected)), Some(host(expected))), "{}", unit_name(unit));
    }
    world.hold_to_everything();
}

proptest! {
    #![proptest_config(config())]

    /// Checks guards, reasons and the invariants after every commit, that each plan settles, and everything at the
    /// end.
    #[test]
    fn anything_settles_and_nothing_breaks_on_the_way(ops in proptest::collection::vec(op(), 1..60)) {
        let mut world = World::new();
        for op in &ops {
            world.act(op);
        }
        world.hold_to_everything();
    }

    /// As above, after manual changes of the store. Invariants that these violate may be violated until the repair.
    #[test]
    fn any_store_is_repaired(
        ops in proptest::collection::vec(op(), 1..30),
        edits in proptest::collection::vec(edit(), 1..8),
        audit in any::<bool>(),
    ) {
        let mut world = World::new();
        // All files stay, so that an assignment by hand has one.
        for op in &ops {
            world.act(op);
        }
        for edit in &edits {
            if let Edit::Assignment(_, _, of, ..) = edit {
                let (hash, constraints) = file(*of);
                let revision = world.store.revision.next();
                world.commit([Change::File(hash, Some(Versioned { value: constraints, revision }))]);
            }
            world.edit(edit);
        }
        if audit {
            world.scheduler = Scheduler::new(world.store.clone());
        }
        world.repair();
        world.hold_to_everything();
    }

    /// Hosts that vanish together keep the units that should run until the period ends, and none after that.
    #[test]
    fn a_mass_loss_is_held_until_its_period_ends(
        ops in proptest::collection::vec(op(), 1..40),
        chosen in proptest::sample::subsequence((0..HOSTS).collect::<Vec<_>>(), 0..=HOSTS),
    ) {
        let mut world = World::new();
        for op in &ops {
            world.act(op);
        }
        world.settle();
        let brake = Brake::new(33, Duration::from_secs(300), Duration::from_secs(9));
        world.scheduler = Scheduler::new(world.store.clone()).with_brake(brake);
        prop_assert!(world.scheduler.plan(0).is_empty(), "it has settled");
        let all = world.store.machines.len();
        let lost: Vec<usize> = chosen.into_iter().filter(|at| world.is_alive(&host(*at))).collect();
        lost.iter().for_each(|at| world.act(&Op::Dies(*at)));
        let before = world.store.clone();
        let plan = world.scheduler.plan(1_000_000);
        let due = match lost.len() {
            0 => None,
            many if many >= 3 && many * 100 > 33 * all => Some(1_300_000),
            _ if all >= 4 => Some(1_004_000),
            _ => None,
        };
        prop_assert_eq!(world.scheduler.due(), due);
        for decision in &plan.decisions {
            let wanted = before.units.get(&decision.unit).is_some_and(|unit| unit.desired != Desired::Inactive);
            let left = |(host, write): &(MachineId, _)| write_ends(write) && !before.machines.contains_key(host);
            let held = wanted && !decision.unit.is_template() && due.is_some();
            prop_assert!(!held || !decision.assignments.iter().any(left), "moved: {}", decision);
        }
        world.commit_plan(plan, usize::MAX);
        prop_assert_eq!(world.scheduler.check_itself(1_000_000, &Default::default()), Vec::<String>::new());
        if let Some(due) = due {
            prop_assert!(world.scheduler.plan(due - 1).is_empty(), "nothing is due yet");
            let plan = world.scheduler.plan(due);
            world.commit_plan(plan, usize::MAX);
            prop_assert_eq!(world.scheduler.due(), None);
            prop_assert_eq!(world.scheduler.check_itself(due + 1, &Default::default()), Vec::<String>::new());
        }
        for known in world.store.roster.values() {
            prop_assert_eq!(known.value.gone.and_then(|gone| gone.held), None);
        }
        world.hold_to_everything();
    }

    /// The same changes give the same plans, in whatever order the changes of one revision are received.
    #[test]
    fn plans_are_determined(ops in proptest::collection::vec(op(), 1..40), backwards in any::<bool>()) {
        let (mut one, mut two) = (World::new(), World { backwards, ..World::new() });
        for op in &ops {
            one.act(op);
            two.act(op);
            prop_assert_eq!(&one.store, &two.store);
        }
        let from_scratch = |store: Cluster| Scheduler::new(store).plan(1);
        prop_assert_eq!(from_scratch(one.store), from_scratch(two.store));
    }

    /// After any history, a new unit is placed on the best of the hosts that it fits, as is a new member of a set.
    #[test]
    fn a_new_unit_goes_to_the_best_host(
        ops in proptest::collection::vec(op(), 1..40),
        of in any_file(),
        new in prop_oneof![Just(3_usize), Just(8)],
        is_set in any::<bool>(),
        hosts in proptest::collection::vec(0..4_usize, HOSTS),
    ) {
        const TEMPLATE: usize = 9;
        let mut world = World::new();
        ops.iter().for_each(|op| world.act(op));
        // The more hosts there are to choose from, the sooner a wrong choice shows.
        hosts.iter().enumerate().for_each(|(at, metadata)| world.act(&Op::Machine(at, *metadata)));
        if is_set {
            world.act(&Op::Unit(TEMPLATE, 1, Desired::Inactive));
        }
        world.act(&Op::Destroy(new));
        world.settle();
        world.act(&Op::Unit(new, of, Desired::Launched));
        let name = unit_name(new);
        let names_it = |unit: &UnitName| {
            world.store.constraints(unit).is_some_and(|constraints| constraints.machine_of.contains(name.as_str()))
        };
        // Units that name it are placed with it, on a host that fits all of them.
        if FILES[of].contains("Global") || world.store.units.keys().any(names_it) {
            return Ok(());
        }
        let best = best_host(&world.store, &name, &BTreeSet::new());
        let placed = |world: &World| {
            let others = world.store.placements.iter().filter(|(other, _)| **other != name);
            others.filter_map(|(other, placement)| Some((other.clone(), placement.value.host()?.clone()))).collect()
        };
        let before: BTreeMap<UnitName, MachineId> = placed(&world);
        world.plan_and_commit(usize::MAX);
        // The new unit may complete a cycle of `Replaces=`; then a unit that waited is placed first.
        if placed(&world) != before {
            return Ok(());
        }
        let chosen = match world.store.placements.get(&name).map(|placement| &placement.value) {
            Some(Placement::On { host, .. }) => Some(host),
            _ => None,
        };
        prop_assert_eq!(chosen, best.as_ref());
    }

    /// After any history, a unit that has failed again and again is moved to the best of the hosts that it fits and
    /// where it hasn't failed, as long as there is one.
    #[test]
    fn a_failed_unit_goes_to_the_best_host_where_it_has_not(
        ops in proptest::collection::vec(op(), 1..40),
        of in any_file(),
        new in prop_oneof![Just(3_usize), Just(8)],
    ) {
        let mut world = World::new();
        ops.iter().for_each(|op| world.act(op));
        world.act(&Op::Unit(new, of, Desired::Launched));
        let name = unit_name(new);
        let is_tied = |world: &World| {
            let names_it = |unit: &UnitName| {
                world.store.constraints(unit).is_some_and(|constraints| constraints.machine_of.contains(name.as_str()))
            };
            world.store.units.keys().any(names_it)
        };
        if FILES[of].contains("Global") || FILES[of].contains("MachineOf") || is_tied(&world) {
            return Ok(());
        }
        let mut failed = BTreeSet::new();
        for times in 1.. {
            world.settle();
            let known = |world: &World| world.store.tried(&name).map(|tried| tried.hosts.iter().cloned().collect());
            let Some(home) = world.store.placed_on(&name).cloned() else { break };
            // Evicted meanwhile, it has waited, and begins anew.
            if known(&world).unwrap_or_default() != failed {
                break;
            }
            prop_assert!(failed.insert(home.clone()) && times <= HOSTS, "it is where it has failed before");
            let fits = best_host(&world.store, &name, &failed).is_some();
            let group = std::slice::from_ref(&name);
            prop_assert_eq!(world.scheduler.untried(group, &home).is_some(), fits);
            if !fits {
                break;
            }
            world.scheduler.move_away(group, &name);
            world.plan_and_commit(usize::MAX);
            prop_assert_eq!(known(&world), Some(failed.clone()));
            world.hosts(|_| true);
            let best = best_host(&world.store, &name, &failed);
            let placed = |world: &World| {
                let others = world.store.placements.iter().filter(|(other, _)| **other != name);
                others.map(|(other, placement)| (other.clone(), placement.value.clone())).collect()
            };
            let before: BTreeMap<UnitName, Placement> = placed(&world);
            world.plan_and_commit(usize::MAX);
            // Others may be placed first, where it was.
            if placed(&world) != before {
                break;
            }
            prop_assert_eq!(world.store.placed_on(&name), best.as_ref());
        }
        world.hold_to_everything();
    }

    /// Without `Replaces=`, cordoning a host moves no unit, and neither does uncordoning it; after that, no unit waits
    /// that fits there.
    #[test]
    fn a_cordon_moves_nothing(ops in proptest::collection::vec(op(), 1..40), at in 0..HOSTS) {
        let mut world = World::new();
        // What waited for the host replaces others when it arrives.
        let replaces = |op: &&Op| matches!(op, Op::Unit(_, file, _) if FILES[*file].contains("Replaces"));
        ops.iter().filter(|op| !replaces(op)).for_each(|op| world.act(op));
        for cordoned in [true, false] {
            world.settle();
            let before = world.store.clone();
            world.act(&Op::Cordon(at, cordoned));
            world.hold_to_everything();
            let placed = before.placements.iter().filter(|(_, placement)| placement.value.host().is_some());
            for (name, placement) in placed {
                prop_assert_eq!(world.store.placements.get(name), Some(placement));
            }
        }
    }

    /// Without `Replaces=`, a new host or a new unit moves no unit.
    #[test]
    fn healthy_units_stay(
        ops in proptest::collection::vec(op(), 1..40),
        plain in 0..2_usize,
        joins in any::<bool>(),
    ) {
        const NEW: usize = 3;
        const LAST: usize = HOSTS - 1;
        let mut world = World::new();
        for op in &ops {
            match op {
                Op::Dies(LAST) | Op::Machine(LAST, _) | Op::Dynamic(LAST, _) | Op::Unit(NEW, ..) => {}
                Op::Unit(_, file, _) if FILES[*file].contains("Replaces") => {}
                op => world.act(op),
            }
        }
        world.settle();
        let before = world.store.clone();
        world.act(&if joins { Op::Machine(LAST, 0) } else { Op::Unit(NEW, plain, Desired::Launched) });
        world.settle();
        for (name, placement) in &before.placements {
            if matches!(placement.value, Placement::On { .. }) {
                prop_assert_eq!(world.store.placements.get(name), Some(placement));
            }
        }
    }
}

/// Cases that the properties found in thousands of runs, unchanged.
#[test]
fn what_once_failed() {
    use Desired::Loaded;
    let first = Op::Crash(any::<Index>().new_tree(&mut TestRunner::deterministic()).unwrap().current());
    let cases: [(&[Op], &[Edit]); 6] = [
        // A destroyed unit that had not left yet had precedence over a unit that it no longer replaced: placing never
        // ended.
        (
            &[
                Op::Machine(0, 0),
                Op::Unit(2, 19, Loaded),
                Op::Plan,
                Op::Unit(3, 16, Loaded),
                Op::Unit(1, 0, Loaded),
                Op::Destroy(2),
            ],
            &[],
        ),
        // Two hosts had different files of a destroyed unit: the first one that reported it as removed also removed the
        // conflicts of the other one.
        (
            &[Op::Unit(3, 23, Loaded), Op::Machine(4, 0), Op::Machine(1, 0)],
            &[Edit::Assignment(4, 1, 0, Target::Removed, false), Edit::Assignment(1, 1, 6, Target::Removed, false)],
        ),
        // One unit of a cycle had to be checked on one host, the other on all: only one host was checked.
        (
            &[
                Op::Unit(1, 17, Loaded),
                Op::Unit(0, 19, Loaded),
                Op::Machine(0, 0),
                Op::Unit(5, 0, Loaded),
                Op::Plan,
                Op::Unit(5, 11, Loaded),
                Op::Machine(1, 0),
            ],
            &[Edit::On(1, 0)],
        ),
        // A cycle that a crash left half placed.
        (
            &[
                Op::Unit(0, 17, Loaded),
                Op::Unit(5, 14, Loaded),
                Op::Unit(2, 3, Loaded),
                Op::Machine(0, 0),
                first.clone(),
                Op::Unit(5, 0, Loaded),
            ],
            &[],
        ),
        // A destroyed unit was part of a cycle, because of which a `Replaces=` had no effect. When the unit had left
        // its last host, the unit that then had to leave was not examined.
        (
            &[Op::Unit(0, 20, Loaded), Op::Unit(5, 22, Loaded), Op::Machine(2, 0), Op::Machine(1, 0)],
            &[Edit::Assignment(1, 2, 21, Target::Removed, false)],
        ),
        // A unit fitted no host, and later had to wait for another one: the old reasons stayed.
        (
            &[
                Op::Machine(0, 2),
                Op::Unit(0, 6, Loaded),
                Op::Unit(1, 24, Loaded),
                Op::Unit(2, 19, Loaded),
                Op::Machine(1, 1),
                Op::Unit(8, 22, Loaded),
                Op::Plan,
                Op::Unit(8, 0, Desired::Inactive),
                Op::Unit(0, 19, Loaded),
                Op::Plan,
                Op::Unit(1, 12, Loaded),
                first.clone(),
                Op::Unit(2, 7, Loaded),
            ],
            &[],
        ),
    ];
    for (ops, edits) in cases {
        let mut world = World::new();
        ops.iter().for_each(|op| world.act(op));
        for edit in edits {
            if let Edit::Assignment(_, _, of, ..) = edit {
                let (hash, constraints) = file(*of);
                let revision = world.store.revision.next();
                world.commit([Change::File(hash, Some(Versioned { value: constraints, revision }))]);
            }
            world.edit(edit);
        }
        world.repair();
        world.hold_to_everything();
    }
}

impl World {
    /// Plan and commit. Manual changes may violate anything: a plan must not violate anything else, and in the end
    /// nothing is violated.
    fn repair(&mut self) {
        const ROUNDS: usize = 60;
        let mut wrong = always(&self.store);
        for _ in 0..ROUNDS {
            let plan = self.scheduler.plan(0);
            let done = plan.is_empty();
            for decision in &plan.decisions {
                self.hold_to_guards_of_revision(decision);
                let changes: Vec<Change> = decision.changes(self.store.revision.next()).collect();
                self.commit(changes);
            }
            for decision in plan.hosts {
                self.commit([decision.change(self.store.revision.next())]);
            }
            for (hash, _) in plan.files {
                self.commit([Change::File(hash, None)]);
            }
            self.hosts(|_| true);
            let now = always(&self.store);
            let new: Vec<_> = now.iter().filter(|violation| !wrong.contains(violation)).collect();
            assert!(new.is_empty(), "a repair breaks something: {new:?}");
            wrong = now;
            if done && !self.scheduler.is_dirty() {
                assert_eq!(wrong, [], "when repaired");
                return;
            }
        }
        panic!("isn't repaired in {ROUNDS} rounds");
    }

    fn hold_to_guards_of_revision(&self, decision: &Decision) {
        if let Some(write) = &decision.placement {
            let known = self.store.placements.get(&decision.unit).map(|known| known.revision);
            assert_eq!(write.before, known, "placement, {decision}");
        }
        for (host, write) in &decision.assignments {
            let known = self.store.schedule.get(host).and_then(|assignments| assignments.get(&decision.unit));
            assert_eq!(write.before, known.map(|known| known.revision), "assignment on {host}, {decision}");
        }
    }
}
