//! Who leaves, who waits and who stays, in small clusters with hosts that carry out everything at once.

mod moves;
mod restore;

use super::*;
use crate::model::cluster::{Change, Versioned};
use crate::model::file::UnitFile;
use crate::model::format::ReportKeyForm;
use crate::model::machine::Machine;
use crate::model::maintenance::Maintenance;
use crate::model::placement::Constraints;
use crate::model::revision::Revision;
use crate::model::rollout::{File, Gate};
use crate::model::unit::{Desired, Placement, Unit, UnitReport};

pub(in crate::plan) struct Bench {
    pub(in crate::plan) scheduler: Scheduler,
    timers: Timers,
    pub(in crate::plan) revision: Revision,
    pub(in crate::plan) now: u64,
}

pub(in crate::plan) fn id(at: u64) -> MachineId {
    format!("{at:08x}{at:024x}").parse().unwrap()
}

pub(in crate::plan) fn name(text: &str) -> UnitName {
    text.parse().unwrap()
}

/// The members of [`Bench::with_set`].
const MEMBERS: [&str; 3] = ["w@1.service", "w@2.service", "w@3.service"];

/// A drain of the n-th host, as it is asked for without options.
pub(in crate::plan) fn drain(change: impl FnOnce(&mut Drain)) -> Option<Drain> {
    let (parallel, deadline, why) = (10, 60, String::new());
    let mut drain = Drain {
        generation: Revision(7),
        began: None,
        since: 0,
        parallel,
        deadline,
        globals: false,
        force: false,
        reboot: false,
        why,
        by: None,
    };
    change(&mut drain);
    Some(drain)
}

impl Bench {
    /// `hosts` hosts, `n1` and up, in zones a and b by turns.
    pub(in crate::plan) fn new(hosts: u64) -> Self {
        let scheduler = Scheduler::new(Cluster::default());
        let mut bench = Self { scheduler, timers: Timers::default(), revision: Revision(1), now: 1_000_000 };
        for at in 1..=hosts {
            let metadata = [("zone".to_owned(), if at % 2 == 1 { "a" } else { "b" }.to_owned())].into();
            let machine = Machine { metadata, ..Machine::new(id(at), format!("n{at}")) };
            bench.scheduler.apply(Change::Machine(id(at), Some(machine)));
        }
        bench
    }

    /// Two hosts with a set of three, and the host that has two of its members.
    fn with_set() -> (Self, u64) {
        let mut bench = Self::new(2);
        bench.start(&[("w@.service", "Replicas=3")]);
        bench.start(&MEMBERS.map(|member| (member, "Replicas=3")));
        let from = if bench.on(1).len() == 2 { 1 } else { 2 };
        (bench, from)
    }

    /// Start units with these sections, and a template with so many members as a set.
    pub(in crate::plan) fn start(&mut self, units: &[(&str, &str)]) {
        for (unit, section) in units {
            let text = format!("[Service]\nExecStart=/bin/true\n[X-Fleet]\n{section}\n");
            let file = UnitFile::parse(text.as_bytes()).unwrap();
            let value = Versioned { value: Constraints::parse(&file).unwrap().into(), revision: self.revision };
            self.scheduler.apply(Change::File(file.hash(), Some(value)));
            let is_set = name(unit).is_template();
            let desired = if is_set { Desired::Inactive } else { Desired::Launched };
            let replicas = is_set.then_some(3);
            let unit_ = Unit { replicas, ..Unit::new(desired, file.hash(), self.revision) };
            self.scheduler.apply(Change::Unit(name(unit), Some(unit_)));
        }
        self.settle();
    }

    pub(in crate::plan) fn drain(&mut self, at: u64, drain: Option<Drain>) {
        self.ask(at, Maintenance { drain: drain.map(Box::new), ..Maintenance::default() });
    }

    fn ask(&mut self, at: u64, value: Maintenance) {
        let asked = Some(Versioned { value, revision: Revision(1) }).filter(|asked| !asked.value.is_empty());
        self.scheduler.apply(Change::Maintenance(id(at), asked));
    }

    /// The leader decides once. Returns who is told to leave.
    pub(in crate::plan) fn step(&mut self) -> Vec<String> {
        step(&mut self.scheduler, &mut self.timers, self.now);
        self.revision = self.revision.next();
        self.scheduler.advance(self.revision);
        let plan = self.scheduler.plan(self.now);
        for decision in &plan.decisions {
            self.revision = self.revision.next();
            decision.changes(self.revision).for_each(|change| self.scheduler.apply(change));
        }
        let leaves = |line: &String| line.contains(" leaves ");
        plan.decisions.iter().map(ToString::to_string).filter(leaves).collect()
    }

    /// All hosts carry out what they were told; `active` is the state of what they run.
    pub(in crate::plan) fn carry_out(&mut self, active: &str) {
        let schedule = self.scheduler.cluster().schedule.clone();
        for (host, there) in schedule {
            for (unit, assignment) in there {
                let known = self.scheduler.cluster().report(&unit, &host).map(|report| report.generation);
                if known == Some(assignment.value.generation) {
                    continue;
                }
                let value = UnitReport { active: active.into(), ..UnitReport::of(&assignment.value) };
                let report = Some(Versioned { value, revision: Revision::default() });
                self.scheduler.apply(Change::Report(unit, host.clone(), ReportKeyForm::HostFirst, report));
            }
        }
    }

    pub(in crate::plan) fn settle(&mut self) {
        for _ in 0..9 {
            self.step();
            self.carry_out("active");
        }
    }

    pub(in crate::plan) fn on(&self, at: u64) -> Vec<String> {
        let there = self.scheduler.cluster().schedule.get(&id(at));
        there.into_iter().flat_map(BTreeMap::keys).map(ToString::to_string).collect()
    }

    fn verdict(&self, at: u64, unit: &str) -> Option<Verdict> {
        look(&self.scheduler, &self.timers, self.now).drained.get(&id(at))?.get(unit).cloned()
    }
}

#[test]
fn units_leave_for_hosts_that_fit_and_others_stay() {
    let mut bench = Bench::new(2);
    bench.start(&[
        ("a.service", "MachineID=00000001"),
        ("b.service", "MachineMetadata=zone=a"),
        ("g.service", "Global=true"),
    ]);
    bench.start(&[("c.service", "MachineOf=b.service"), ("d.service", "MachineMetadata=zone=a zone=b")]);
    bench.start(&[("e.service", "MachineMetadata=zone=a zone=b"), ("f.service", "MachineOf=e.service")]);
    bench.drain(2, drain(|_| ()));
    bench.settle();
    assert_eq!(bench.on(2), ["g.service"]);
    bench.drain(2, None);
    bench.drain(1, drain(|_| ()));
    let groups = ["b.service", "c.service"].map(name);
    assert_eq!(bench.verdict(1, "a.service"), Some(Verdict::Stays(vec![name("a.service")])));
    assert_eq!(bench.verdict(1, "c.service"), Some(Verdict::Stays(groups.to_vec())), "what it follows is bound");
    assert_eq!(bench.verdict(1, "f.service"), Some(Verdict::Leaves), "with the unit that it follows");
    assert_eq!(bench.verdict(1, "g.service"), Some(Verdict::Global));
    bench.settle();
    assert_eq!(bench.on(1), ["a.service", "b.service", "c.service", "g.service"]);
    assert_eq!(bench.on(2), ["d.service", "e.service", "f.service", "g.service"]);
    assert_eq!(bench.scheduler.check_itself(bench.now, &Default::default()), [""; 0]);
}

/// Nobody is evicted into a place that somebody else is about to take.
#[test]
fn of_two_that_need_the_same_place_one_stays() {
    let mut bench = Bench::new(3);
    bench.start(&[("w@1.service", "Conflicts=w@*"), ("w@2.service", "Conflicts=w@*")]);
    assert_eq!((bench.on(1).len(), bench.on(2).len()), (1, 1));
    bench.drain(1, drain(|_| ()));
    bench.drain(2, drain(|_| ()));
    assert_eq!(bench.step().len(), 1);
    bench.settle();
    assert_eq!((bench.on(3).len(), bench.on(1).len() + bench.on(2).len()), (1, 1));
    // It must, whatever it costs.
    bench.drain(1, drain(|drain| drain.force = true));
    bench.drain(2, drain(|drain| drain.force = true));
    bench.settle();
    assert_eq!((bench.on(3).len(), bench.on(1).len() + bench.on(2).len()), (1, 0));
}

#[test]
fn members_of_a_set_go_one_after_another_unless_they_are_not_well() {
    let (mut bench, from) = Bench::with_set();
    bench.drain(from, drain(|_| ()));
    let first = bench.step();
    assert_eq!(first.len(), 1, "{first:?}");
    assert_eq!(bench.step(), [""; 0], "it has yet to stop");
    bench.carry_out("active");
    assert_eq!(bench.step(), [""; 0], "it is placed");
    bench.carry_out("activating");
    assert_eq!(bench.step(), [""; 0], "it isn't up yet");
    let rest: UnitName = bench.on(from)[0].parse().unwrap();
    assert!(matches!(bench.verdict(from, rest.as_str()), Some(Verdict::Waits(Wait::Set { parallel: 1, .. }))));
    // The deadline passes.
    bench.now += 60_000;
    assert_eq!(bench.step().len(), 1);
    bench.settle();
    assert_eq!(bench.on(3 - from), MEMBERS);
}

/// Seed 300509.
#[test]
fn a_member_that_no_longer_fits_its_host_is_as_good_as_away() {
    let mut bench = Bench::new(5);
    let section = "Replicas=2\nMachineMetadata=zone=a";
    bench.start(&[("w@.service", section)]);
    bench.start(&[("w@1.service", section), ("w@2.service", section)]);
    let homes: Vec<u64> = [1, 3, 5].into_iter().filter(|at| !bench.on(*at).is_empty()).collect();
    let [drained, changed] = homes[..] else { panic!("one on each: {homes:?}") };
    let machine = Machine::new(id(changed), format!("n{changed}"));
    bench.scheduler.apply(Change::Machine(id(changed), Some(machine)));
    bench.drain(drained, drain(|_| ()));
    let leaves = bench.step();
    assert!(leaves.len() == 1 && leaves[0].contains("no metadata zone"), "{leaves:?}");
    bench.settle();
    assert_eq!(bench.on(drained), [""; 0], "it left when the other one was up again");
}

/// Seed 302592: its host has registered with a new lease, and has yet to report what has run all along.
#[test]
fn members_of_which_nothing_is_known_yet_keep_the_budget() {
    let (mut bench, from) = Bench::with_set();
    for member in bench.on(from) {
        bench.scheduler.apply(Change::Report(name(&member), id(from), ReportKeyForm::HostFirst, None));
    }
    bench.drain(from, drain(|_| ()));
    assert_eq!(bench.step(), [""; 0]);
    bench.carry_out("active");
    assert_eq!(bench.step().len(), 1);
}

/// Seed 305325.
#[test]
fn a_member_that_is_about_to_be_started_is_as_good_as_away() {
    let (mut bench, _) = Bench::with_set();
    let wanted = bench.scheduler.cluster().units[&name("w@1.service")].clone();
    let ask = |bench: &mut Bench, desired: Desired| {
        let unit = Unit { desired, generation: bench.revision, ..wanted.clone() };
        bench.scheduler.apply(Change::Unit(name("w@1.service"), Some(unit)));
    };
    ask(&mut bench, Desired::Loaded);
    bench.settle();
    ask(&mut bench, Desired::Launched);
    let home = if bench.on(1).contains(&"w@2.service".to_owned()) { 1 } else { 2 };
    bench.drain(home, drain(|_| ()));
    let leaves = bench.step();
    assert!(leaves.iter().all(|line| line.starts_with("w@1.service")), "{leaves:?}");
    bench.settle();
    assert_eq!(bench.on(3 - home), MEMBERS);
}

/// Half of three is one. A member that somebody has stopped isn't counted, neither among all of them nor among those
/// that are away.
#[test]
fn a_member_that_somebody_has_stopped_makes_no_room_for_another_one() {
    let mut bench = Bench::new(1);
    let section = "Replicas=4\n[X-Rollout]\nParallel=50%";
    let members = ["w@1.service", "w@2.service", "w@3.service", "w@4.service"];
    bench.start(&[("w@.service", section)]);
    bench.start(&members.map(|member| (member, section)));
    let stopped = bench.scheduler.cluster().units[&name("w@1.service")].clone();
    let stopped = Unit { desired: Desired::Loaded, generation: bench.revision, ..stopped };
    bench.scheduler.apply(Change::Unit(name("w@1.service"), Some(stopped)));
    bench.settle();
    bench.scheduler.apply(Change::Machine(id(2), Some(Machine::new(id(2), "n2"))));
    bench.drain(1, drain(|_| ()));
    let leaves = |name: &str| format!("{name} leaves n1 (00000001): the host is drained");
    assert_eq!(bench.step(), ["w@1.service", "w@2.service"].map(leaves));
    assert_eq!(bench.step(), [""; 0]);
    bench.settle();
    assert_eq!(bench.on(2), members);
}

/// Seed 330408: half of three is one, also while a spare stands in for one of them. A spare with which the share grew
/// would let two leave together, before it serves itself.
#[test]
fn a_spare_lets_no_more_members_leave() {
    let mut bench = Bench::new(1);
    let section = "Replicas=3\n[X-Rollout]\nParallel=50%";
    bench.start(&[("w@.service", section)]);
    bench.start(&MEMBERS.map(|member| (member, section)));
    bench.scheduler.apply(Change::Machine(id(2), Some(Machine::new(id(2), "n2"))));
    bench.settle();
    let hash = bench.scheduler.cluster().units[&name("w@.service")].hash.clone();
    let held = File { hash: hash.clone(), text: None }.held(bench.revision, None);
    let gate = Gate { spare: true, ..Gate::new(&name("w@.service"), &hash, held, bench.revision) };
    bench.scheduler.apply(Change::Unit(name("w@4.service"), Some(Unit::spare(&gate))));
    let gate = Versioned { value: gate, revision: bench.revision };
    bench.scheduler.apply(Change::Gate(name("w@4.service"), Some(gate)));
    bench.drain(1, drain(|_| ()));
    let leaves = |name: &str| format!("{name} leaves n1 (00000001): the host is drained");
    assert_eq!(bench.step(), ["w@1.service"].map(leaves));
    bench.carry_out("active");
    assert_eq!(bench.step(), [""; 0], "neither while it moves, nor while the spare starts");
    bench.settle();
    assert_eq!(bench.on(1), [""; 0]);
}

#[test]
fn a_deadline_that_has_passed_stays_so_when_the_clock_is_set_back() {
    for (after, leave) in [(60_000, 1), (59_999, 0)] {
        let mut bench = Bench::new(1);
        bench.start(&[("a.service", ""), ("b.service", "")]);
        bench.scheduler.apply(Change::Machine(id(2), Some(Machine::new(id(2), "n2"))));
        bench.settle();
        bench.drain(1, drain(|drain| drain.parallel = 1));
        assert_eq!(bench.step().len(), 1);
        bench.timers.see(bench.scheduler.cluster(), bench.now + after);
        bench.now -= 900_000;
        assert_eq!(bench.step().len(), leave, "after {after} ms");
    }
}

#[test]
fn other_units_go_so_many_at_a_time() {
    let mut bench = Bench::new(1);
    bench.start(&[("a.service", ""), ("b.service", ""), ("c.service", ""), ("d.service", ""), ("e.service", "")]);
    let machine = Machine::new(id(2), "n2");
    bench.scheduler.apply(Change::Machine(id(2), Some(machine)));
    bench.settle();
    bench.drain(1, drain(|drain| drain.parallel = 2));
    assert_eq!(bench.step().len(), 2);
    assert_eq!(bench.verdict(1, "c.service"), Some(Verdict::Waits(Wait::Parallel(2))));
    bench.carry_out("active");
    assert_eq!(bench.step(), [""; 0], "they are on their way until they are up");
    bench.carry_out("active");
    assert_eq!(bench.step().len(), 2);
    bench.settle();
    assert_eq!(bench.on(2).len(), 5);
}

/// Only the order is another one: what has its turn leaves as ever.
#[test]
fn who_has_priority_leaves_last() {
    let unnamed = [("a.service", ""), ("b.service", ""), ("c.service", "")];
    let high = [("a.service", "Priority=10"), ("b.service", ""), ("c.service", "Priority=-5")];
    let equal = [("a.service", "Priority=3"), ("b.service", "Priority=3"), ("c.service", "Priority=2")];
    let tied = [("a.service", ""), ("b.service", "Priority=1"), ("c.service", "MachineOf=a.service\nPriority=7")];
    let cases = [
        (unnamed, ["a.service", "b.service", "c.service"].as_slice()),
        (high, &["c.service", "b.service", "a.service"]),
        (equal, &["c.service", "a.service", "b.service"]),
        (tied, &["b.service", "a.service c.service"]),
    ];
    for (units, expected) in cases {
        let mut bench = Bench::new(1);
        bench.start(&units);
        bench.scheduler.apply(Change::Machine(id(2), Some(Machine::new(id(2), "n2"))));
        bench.settle();
        bench.drain(1, drain(|drain| drain.parallel = 1));
        let mut order = Vec::new();
        for _ in 0..20 {
            let leaves = bench.step();
            let names: Vec<&str> = leaves.iter().filter_map(|line| line.split(' ').next()).collect();
            order.extend(Some(names.join(" ")).filter(|names| !names.is_empty()));
            bench.carry_out("active");
        }
        assert_eq!(order, expected, "{units:?}");
        assert_eq!((bench.on(1), bench.on(2).len()), (Vec::new(), 3), "{units:?}");
    }
}

#[test]
fn a_unit_that_belongs_to_its_host_stays_with_those_that_follow_it() {
    let mut bench = Bench::new(1);
    bench.start(&[("db.service", "MoveAfterSec=infinity"), ("app.service", "MachineOf=db.service")]);
    bench.scheduler.apply(Change::Machine(id(2), Some(Machine::new(id(2), "n2"))));
    bench.drain(1, drain(|drain| drain.force = true));
    assert_eq!(bench.verdict(1, "app.service"), Some(Verdict::Bound(name("db.service"))));
    bench.settle();
    assert_eq!(bench.on(1), ["app.service", "db.service"]);
}

#[test]
fn global_units_leave_last_if_they_leave() {
    let mut bench = Bench::new(2);
    bench.start(&[("g.service", "Global=true"), ("a.service", "MachineMetadata=zone=a")]);
    bench.drain(1, drain(|drain| drain.globals = true));
    bench.settle();
    assert_eq!(bench.on(1), ["a.service", "g.service"], "what stays may need it");
    bench.drain(1, drain(|drain| (drain.globals, drain.force) = (true, true)));
    let leaves = bench.step();
    assert_eq!(leaves, ["a.service leaves n1 (00000001): the host is drained"]);
    bench.settle();
    assert_eq!(bench.on(1), [""; 0]);
    assert_eq!(bench.scheduler.check_itself(bench.now, &Default::default()), [""; 0]);
    bench.drain(1, None);
    bench.settle();
    assert_eq!(bench.on(1), ["a.service", "g.service"]);
}

/// The leader repairs a store that contradicts itself, as it is while somebody restores records by hand. Until it has,
/// the unit is there: its host must not reboot as one that nothing is left on.
#[test]
fn what_its_placement_has_elsewhere_or_nowhere_is_about_to_leave() {
    let elsewhere = Placement::On { host: id(2), since: 0, from: None, tried: None, moved: None };
    for placement in [None, Some(elsewhere)] {
        let mut bench = Bench::new(2);
        bench.start(&[("a.service", "MachineMetadata=zone=a")]);
        let placement = placement.map(|value| Versioned { value, revision: bench.revision });
        bench.scheduler.apply(Change::Placement(name("a.service"), placement));
        bench.drain(1, drain(|_| ()));
        assert_eq!(bench.verdict(1, "a.service"), Some(Verdict::Leaving));
        assert_eq!(bench.step(), ["a.service leaves n1 (00000001): its placement says otherwise"]);
        assert_eq!(bench.verdict(1, "a.service"), Some(Verdict::Leaving));
        bench.settle();
        assert_eq!(bench.on(1), [""; 0]);
    }
}
