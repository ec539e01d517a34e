//! What one step of a rollout costs, by how many members it has: a set is rolled out one member at a time, by a leader
//! whose hosts carry out everything at once. Owns that cluster; must never measure what its hosts do.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use flotilla::model::cluster::{Change, Cluster, Versioned};
use flotilla::model::file::UnitFile;
use flotilla::model::format::ReportKeyForm;
use flotilla::model::name::{MachineId, UnitName};
use flotilla::model::placement::Constraints;
use flotilla::model::revision::Revision;
use flotilla::model::rollout::Phase;
use flotilla::model::unit::{Assignment, Desired, Unit, UnitReport};
use flotilla::plan::forecast::{Present, forecast};
use flotilla::plan::rollouts::Rollouts;
use flotilla::plan::schedule::{Brake, Plan, Scheduler};

use super::{Watch, id, machine};

/// Members on each host.
const DENSITY: usize = 10;
/// A quarter of the `HealthySec=` below, in ms.
const TICK: u64 = 250;
const SET: &str = "web@.service";

/// Rolls out a set of so many members and prints what its leader's computing cost for each of them. Returns what one
/// look cost, in seconds.
pub(super) fn scenario(reference: Duration, members: usize) -> f64 {
    let mut world = World::new(members);
    world.ask("old");
    world.settle();
    world.ask("new");
    (world.spent, world.looks) = (Duration::ZERO, 0);
    let examined = world.rollouts.examined();
    world.settle();
    let rollout = &world.scheduler.cluster().rollouts[&name(SET)].value;
    assert_eq!(rollout.phase, Phase::Done, "{rollout:?}");
    let each = world.spent.as_secs_f64() / members as f64;
    let look = world.spent.as_secs_f64() / world.looks as f64;
    let examined = (world.rollouts.examined() - examined) as f64 / world.looks as f64;
    let ratio = look / reference.as_secs_f64();
    println!(
        "  {members:>5} members: {:>8.0} µs for each of them, {:>7.1} µs a look, {ratio:>8.1} insertions each; \
         a look examines {examined:.1} members",
        each * 1e6,
        look * 1e6
    );
    look
}

/// Computes what another file for a set of so many members would lead to, and prints what that cost.
pub(super) fn planned(members: usize) {
    let mut world = World::new(members);
    world.ask("old");
    world.settle();
    let cluster = world.scheduler.cluster().clone();
    let present = Present { cluster, unreadable: BTreeSet::new(), brake: Brake::off(), now: world.now };
    let changes = world.changes("new");
    let watch = Watch::start();
    let forecast = forecast(present, changes);
    let took = watch.took();
    let course = &forecast.rollouts[&name(SET)];
    assert_eq!((course.phase, course.steps.len(), forecast.is_complete), (Phase::Done, members, true), "{members}");
    println!("  {members:>5} members: {took:>10.1?}, {:>7.1?} for each", took / u32::try_from(members).unwrap_or(1));
}

struct World {
    members: usize,
    scheduler: Scheduler,
    rollouts: Rollouts,
    revision: Revision,
    now: u64,
    spent: Duration,
    looks: usize,
}

impl World {
    fn new(members: usize) -> Self {
        let mut cluster = Cluster { revision: Revision(1), ..Cluster::default() };
        for at in 0..members.div_ceil(DENSITY) {
            cluster.apply(Change::Machine(id(at), Some(machine(at))));
        }
        let rollouts = Rollouts::of(&mut cluster, BTreeSet::new(), BTreeSet::new());
        let scheduler = Scheduler::new(cluster);
        let (now, spent) = (1_000_000, Duration::ZERO);
        Self { members, scheduler, rollouts, revision: Revision(1), now, spent, looks: 0 }
    }

    fn tell(&mut self, change: Change) {
        self.revision = self.revision.next();
        let watch = Watch::start();
        self.rollouts.apply(&mut self.scheduler, change);
        self.scheduler.advance(self.revision);
        self.spent += watch.took();
    }

    /// Ask for a file that runs `program`, for the set and all of its members.
    fn ask(&mut self, program: &str) {
        self.changes(program).into_iter().for_each(|change| self.tell(change));
    }

    fn changes(&self, program: &str) -> Vec<Change> {
        let text = format!("[Service]\nExecStart=/bin/{program}\n[X-Rollout]\nHealthySec=1\n");
        let file = UnitFile::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{error}"));
        let constraints = Constraints::parse(&file).unwrap_or_else(|problems| panic!("{problems:?}"));
        let generation = self.revision.next();
        let value = Versioned { value: Arc::new(constraints), revision: generation };
        let set = Unit::new(Desired::Inactive, file.hash(), generation);
        let set = Unit { replicas: u32::try_from(self.members).ok(), ..set };
        let template = Change::Unit(name(SET), Some(set));
        let members = (1..=self.members).map(|at| {
            let record = Unit::new(Desired::Launched, file.hash(), generation);
            Change::Unit(name(&format!("web@{at}.service")), Some(record))
        });
        [Change::File(file.hash(), Some(value)), template].into_iter().chain(members).collect()
    }

    /// Decide and carry out, until nothing is to be done and no time has to pass.
    fn settle(&mut self) {
        loop {
            while let Some(changes) = self.decide() {
                changes.into_iter().for_each(|change| self.tell(change));
            }
            if self.rollouts.due().is_none() {
                return;
            }
            self.now += TICK;
        }
    }

    /// What is committed, and what the hosts then report; `None` if there is nothing to do.
    fn decide(&mut self) -> Option<Vec<Change>> {
        let watch = Watch::start();
        let writes = self.rollouts.step(&mut self.scheduler, self.now);
        let plan = self.scheduler.plan(self.now);
        self.spent += watch.took();
        self.looks += 1;
        if writes.is_empty() && plan.is_empty() {
            return None;
        }
        let revision = self.revision.next();
        let gates = writes
            .gates
            .into_iter()
            .map(|(unit, gate)| Change::Gate(unit, gate.write.after.map(|value| Versioned { value, revision })));
        let rollouts = writes.rollouts.into_iter().map(|rollout| {
            Change::Rollout(rollout.name, rollout.write.after.map(|value| Versioned { value, revision }))
        });
        let mut changes: Vec<Change> = gates.chain(rollouts).collect();
        changes.extend(plan.decisions.iter().flat_map(|decision| decision.changes(revision)));
        changes.extend(plan.hosts.iter().map(|decision| decision.change(revision)));
        changes.extend(reports(&plan, revision));
        Some(changes)
    }
}

/// What hosts report that have carried out a plan.
pub(super) fn reports(plan: &Plan, revision: Revision) -> Vec<Change> {
    let assigned = plan.decisions.iter().flat_map(|decision| {
        decision.assignments.iter().filter_map(|(host, write)| {
            let told = write.after.as_ref()?;
            Some(report(decision.unit.clone(), host.clone(), told, revision))
        })
    });
    assigned.collect()
}

fn report(unit: UnitName, host: MachineId, told: &Assignment, revision: Revision) -> Change {
    let value: UnitReport = serde_json::from_value(serde_json::json!({
        "generation": told.generation, "target": told.target, "hash": told.hash, "load": "loaded",
        "active": "active", "sub": "running", "since": 0,
    }))
    .unwrap_or_else(|error| panic!("{error}"));
    Change::Report(unit, host, ReportKeyForm::HostFirst, Some(Versioned { value, revision }))
}

fn name(text: &str) -> UnitName {
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}
