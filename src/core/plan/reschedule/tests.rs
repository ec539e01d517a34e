//! Which units are moved or started again, and when, in small clusters whose hosts carry out everything at once.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::model::cluster::{Change, Versioned};
use crate::model::file::UnitFile;
use crate::model::format::ReportKeyForm;
use crate::model::machine::Machine;
use crate::model::maintenance::{Cordon, Maintenance};
use crate::model::placement::Constraints;
use crate::model::revision::Revision;
use crate::model::rollout::{File, Phase};
use crate::model::unit::{Assignment, Desired, Unit};
use crate::plan::check::check;

const ON: &str = "Reschedule=on-failure";

struct Bench {
    scheduler: Scheduler,
    timers: Timers,
    revision: Revision,
    /// In seconds.
    now: u64,
    /// Where each unit fails when it is started.
    bad: BTreeMap<UnitName, BTreeSet<MachineId>>,
}

fn id(at: u64) -> MachineId {
    format!("{at:08x}{at:024x}").parse().unwrap()
}

fn name(text: &str) -> UnitName {
    text.parse().unwrap()
}

impl Bench {
    /// `hosts` hosts, `n1` and up, without anything.
    fn new(hosts: u64) -> Self {
        let (timers, bad) = Default::default();
        let mut bench =
            Self { scheduler: Scheduler::new(Cluster::default()), timers, revision: Revision(1), now: 0, bad };
        for at in 1..=hosts {
            bench.apply(Change::Machine(id(at), Some(Machine::new(id(at), format!("n{at}")))));
        }
        bench
    }

    fn apply(&mut self, change: Change) {
        let about = about(&change);
        self.scheduler.apply(change);
        about.into_iter().for_each(|unit| self.timers.happened(self.scheduler.cluster(), unit));
    }

    /// Start a unit with this section on some host, where it fails if that is among `bad`.
    fn start(&mut self, unit: &str, section: &str, bad: &[u64]) {
        let text = format!("[Service]\nExecStart=/bin/true\n[X-Fleet]\n{section}\n");
        let file = UnitFile::parse(text.as_bytes()).unwrap();
        let value = Versioned { value: Constraints::parse(&file).unwrap().into(), revision: self.revision };
        self.apply(Change::File(file.hash(), Some(value)));
        self.revision = self.revision.next();
        self.apply(Change::Unit(name(unit), Some(Unit::new(Desired::Launched, file.hash(), self.revision))));
        self.bad.insert(name(unit), bad.iter().map(|at| id(*at)).collect());
        self.settle();
    }

    fn cordon(&mut self, at: u64) {
        let value = Maintenance { cordon: Some(Cordon::default()), ..Maintenance::default() };
        self.apply(Change::Maintenance(id(at), Some(Versioned { value, revision: Revision(1) })));
    }

    /// The leader decides once. Returns what it logs about units that leave or are started again.
    fn step(&mut self) -> Vec<String> {
        let now = self.now * 1000;
        self.revision = self.revision.next();
        self.scheduler.advance(self.revision);
        step(&mut self.scheduler, &mut self.timers, now);
        let plan = self.scheduler.plan(now);
        for decision in &plan.decisions {
            self.revision = self.revision.next();
            decision.changes(self.revision).for_each(|change| self.apply(change));
        }
        let lines = plan.decisions.iter().map(ToString::to_string);
        lines.filter(|line| !line.contains("placed on") && !line.contains("moves from")).collect()
    }

    fn report(&mut self, unit: &UnitName, host: &MachineId, assignment: &Assignment, active: &str) {
        let since = self.now * 1000;
        let value = UnitReport { active: active.into(), since, ..UnitReport::of(assignment) };
        let report = Some(Versioned { value, revision: Revision::default() });
        self.apply(Change::Report(unit.clone(), host.clone(), ReportKeyForm::HostFirst, report));
    }

    fn carry_out(&mut self) {
        for (host, there) in self.scheduler.cluster().schedule.clone() {
            for (unit, assignment) in there {
                let known = self.scheduler.cluster().report(&unit, &host).map(|report| report.generation);
                let fails = self.bad.get(&unit).is_some_and(|bad| bad.contains(&host));
                if known != Some(assignment.value.generation) {
                    self.report(&unit, &host, &assignment.value, if fails { "failed" } else { "active" });
                }
            }
        }
    }

    fn settle(&mut self) -> Vec<String> {
        let mut said = Vec::new();
        for _ in 0..6 {
            said.extend(self.step());
            self.carry_out();
        }
        said
    }

    /// Let so many seconds pass. Returns what was logged, each with its second.
    fn pass(&mut self, seconds: u64) -> Vec<String> {
        let mut said = Vec::new();
        let end = self.now + seconds;
        while self.now < end {
            self.now += 1;
            let lines = if self.timers.is_dirty(self.now * 1000) { self.settle() } else { Vec::new() };
            said.extend(lines.into_iter().map(|line| format!("{}: {line}", self.now)));
        }
        said
    }

    fn home(&self, unit: &str) -> String {
        let cluster = self.scheduler.cluster();
        cluster.placed_on(&name(unit)).and_then(|host| cluster.hostname(host)).unwrap_or("-").to_owned()
    }

    fn outlook(&self, unit: &str) -> Option<(Vec<&str>, u64, bool)> {
        let cluster = self.scheduler.cluster();
        let constraints = cluster.constraints(&name(unit))?;
        let outlook = outlook(cluster, &name(unit), &constraints)?;
        let hosts = outlook.hosts.iter().map(|host| cluster.hostname(host).unwrap()).collect();
        Some((hosts, outlook.at / 1000, outlook.stays()))
    }

    fn settled(&self) {
        assert_eq!(check(self.scheduler.cluster()), []);
        assert_eq!(self.scheduler.check_itself(self.now * 1000, &Default::default()), [""; 0]);
    }
}

#[test]
fn it_moves_with_a_growing_delay_until_it_has_failed_on_three_hosts() {
    let mut bench = Bench::new(4);
    bench.start("a.service", &format!("{ON}\nRescheduleMaxDelaySec=300"), &[1, 2, 3, 4]);
    assert_eq!(bench.outlook("a.service"), Some((vec!["n1"], 30, false)));
    assert_eq!(bench.pass(29), [""; 0]);
    let leaves = "a.service leaves n1 (00000001): it has failed there (Reschedule=on-failure)";
    assert_eq!(bench.pass(1), [format!("30: {leaves}")]);
    assert_eq!((bench.home("a.service").as_str(), bench.outlook("a.service").unwrap().1), ("n2", 90));
    assert_eq!(bench.pass(60), [format!("90: {}", leaves.replace('1', "2"))]);
    assert_eq!(bench.outlook("a.service"), Some((vec!["n1", "n2", "n3"], 390, true)));
    let again = |at: u64, times: u32| {
        format!("{at}: a.service has failed on n3 (00000003), and is started again there (try {times})")
    };
    assert_eq!(bench.pass(600), [again(390, 3), again(690, 4)]);
    bench.settled();
    // It recovers, and after ten minutes nothing is left of this.
    bench.bad.clear();
    assert_eq!(bench.pass(300), [again(990, 5)]);
    let recovered = "1590: a.service has been well on n3 (00000003) for a while: its failures are forgotten";
    assert_eq!(bench.pass(700), [recovered]);
    bench.settled();
    let assignment = bench.scheduler.cluster().schedule[&id(3)][&name("a.service")].value.clone();
    bench.report(&name("a.service"), &id(3), &assignment, "failed");
    bench.settle();
    assert_eq!(bench.outlook("a.service"), Some((vec!["n3"], bench.now + 30, false)));
    assert_eq!(bench.pass(30).len(), 1);
    assert_eq!(bench.home("a.service"), "n1", "a host where it failed before that counts again");
    bench.settled();
}

#[test]
fn without_another_host_it_is_started_again_where_it_is() {
    let mut bench = Bench::new(2);
    bench.cordon(2);
    bench.start("a.service", ON, &[1]);
    let again = |at: u64, times: u32| {
        format!("{at}: a.service has failed on n1 (00000001), and is started again there (try {times})")
    };
    assert_eq!(bench.pass(100), [again(30, 1), again(90, 2)]);
    bench.settled();
    // Somebody asks for it: it begins anew.
    bench.start("a.service", ON, &[1]);
    let now = bench.now;
    assert_eq!(bench.pass(31), [again(now + 30, 1)]);
    bench.apply(Change::Maintenance(id(2), None));
    assert_eq!(bench.pass(60).len(), 1);
    assert_eq!(bench.home("a.service"), "n2");
    bench.settled();
}

#[test]
fn what_does_not_ask_for_it_stays_failed() {
    let mut bench = Bench::new(2);
    bench.start("a.service", "", &[1, 2]);
    bench.start("b.service", "Reschedule=no\nRescheduleSec=1", &[1, 2]);
    bench.start("fine.service", ON, &[]);
    assert_eq!(bench.pass(10_000), [""; 0]);
    assert_eq!(bench.outlook("a.service"), None);
    assert_eq!(bench.outlook("fine.service"), None);
}

#[test]
fn one_host_gets_one_unit_at_a_time() {
    let leaves =
        |at: u64, unit: &str| format!("{at}: {unit} leaves n1 (00000001): it has failed there (Reschedule=on-failure)");
    // One that never comes up keeps others away for a minute only.
    let mut bench = Bench::new(2);
    bench.cordon(2);
    bench.start("a.service", ON, &[1]);
    bench.start("b.service", ON, &[1]);
    bench.apply(Change::Maintenance(id(2), None));
    bench.now = 30;
    assert_eq!(bench.step(), [leaves(30, "a.service")[4..].to_owned()]);
    let gone = bench.scheduler.cluster().schedule[&id(1)][&name("a.service")].value.clone();
    bench.report(&name("a.service"), &id(1), &gone, "inactive");
    for now in [30, 31, 35, 60, 90] {
        bench.now = now;
        assert_eq!(bench.step(), [""; 0], "{now}");
    }
    bench.now = 91;
    bench.timers.changed(name("b.service"));
    assert_eq!(bench.step(), [leaves(91, "b.service")[4..].to_owned()]);
}

/// The leader follows its clock while it waits for nothing.
#[test]
fn nothing_waits_for_what_a_clock_showed_before_it_was_set_back() {
    let mut bench = Bench::new(2);
    bench.now = 100_000;
    bench.cordon(2);
    bench.start("a.service", ON, &[1]);
    bench.start("b.service", ON, &[1]);
    bench.apply(Change::Maintenance(id(2), None));
    bench.now += 30;
    assert_eq!(bench.step().len(), 1, "the first one leaves");
    let gone = bench.scheduler.cluster().schedule[&id(1)][&name("a.service")].value.clone();
    bench.report(&name("a.service"), &id(1), &gone, "inactive");
    assert_eq!(bench.step(), [""; 0], "it arrives, and never comes up");
    bench.now = 1_000;
    assert_eq!(bench.step(), [""; 0]);
    bench.now += 61;
    assert_eq!(bench.step().len(), 1, "the other one has waited for long enough");
}

#[test]
fn a_group_moves_for_its_leaders_sake_only() {
    let mut bench = Bench::new(2);
    bench.start("db.service", ON, &[1]);
    bench.start("app.service", "MachineOf=db.service", &[]);
    let moved = [
        "30: db.service leaves n1 (00000001): it has failed there (Reschedule=on-failure)",
        "30: app.service leaves n1 (00000001): it moves with db.service, which has failed there",
    ];
    assert_eq!(bench.pass(30), moved);
    assert_eq!((bench.home("db.service"), bench.home("app.service")), ("n2".into(), "n2".into()));
    let assignment = bench.scheduler.cluster().schedule[&id(2)][&name("app.service")].value.clone();
    bench.report(&name("app.service"), &id(2), &assignment, "failed");
    assert_eq!(bench.pass(500), [""; 0]);
    bench.settled();
}

#[test]
fn nothing_happens_during_a_rollout() {
    use crate::model::rollout::Rollout;
    let mut bench = Bench::new(2);
    bench.start("web@1.service", ON, &[1]);
    let hash = bench.scheduler.cluster().units[&name("web@1.service")].hash.clone();
    let rollout = |phase| {
        let value = Rollout::begun(hash.clone(), File { hash: hash.clone(), text: None }, phase, 0);
        Some(Versioned { value, revision: Revision(1) })
    };
    bench.apply(Change::Rollout(name("web@.service"), rollout(Phase::Rolling)));
    assert_eq!(bench.pass(100), [""; 0]);
    assert_eq!(bench.outlook("web@1.service"), None);
    bench.apply(Change::Rollout(name("web@.service"), rollout(Phase::Done)));
    assert_eq!(bench.pass(5).len(), 1);
    assert_eq!(bench.home("web@1.service"), "n2");
}

/// Also a leader that follows finds in the store where it failed; only its delays begin anew.
#[test]
fn another_leader_goes_on() {
    let mut bench = Bench::new(3);
    bench.start("a.service", ON, &[1, 2, 3]);
    bench.pass(35);
    assert_eq!(bench.home("a.service"), "n2");
    bench.timers = Timers::default();
    bench.scheduler = Scheduler::new(bench.scheduler.cluster().clone());
    bench.timers.listed(bench.scheduler.cluster());
    assert_eq!(bench.pass(60).len(), 0);
    assert_eq!(bench.pass(1).len(), 1);
    assert_eq!(bench.home("a.service"), "n3");
    bench.settled();
}

/// It may come back to a host that has carried out what was asked of it there.
#[test]
fn no_host_gets_an_older_generation_of_a_unit_that_was_started_again() {
    let mut bench = Bench::new(1);
    bench.start("a.service", ON, &[1]);
    bench.pass(35);
    let unit = name("a.service");
    let asked = |bench: &Bench, at: u64| bench.scheduler.cluster().schedule[&id(at)][&unit].value.generation;
    let again = asked(&bench, 1);
    assert!(again > bench.scheduler.cluster().units[&name("a.service")].generation);
    bench.apply(Change::Machine(id(1), None));
    bench.settle();
    let tried = bench.scheduler.cluster().tried(&name("a.service")).unwrap().clone();
    assert_eq!((tried.hosts, tried.times, tried.again), (vec![], 0, Some(again)), "it waits, and begins anew");
    bench.bad.clear();
    for at in [1, 2] {
        bench.apply(Change::Machine(id(at), Some(Machine::new(id(at), format!("n{at}")))));
        bench.settle();
        assert_eq!(asked(&bench, at), again);
        bench.apply(Change::Machine(id(at), None));
        bench.settle();
    }
    // Until somebody asks for it.
    bench.apply(Change::Machine(id(1), Some(Machine::new(id(1), "n1"))));
    bench.start("a.service", ON, &[]);
    assert_eq!(asked(&bench, 1), bench.scheduler.cluster().units[&name("a.service")].generation);
    assert!(asked(&bench, 1) > again);
    bench.settled();
}

/// A host that dies is no try, and what is placed elsewhere then avoids the hosts where it has failed.
#[test]
fn a_dead_host_counts_for_nothing() {
    let mut bench = Bench::new(3);
    bench.start("a.service", ON, &[1]);
    bench.start("b.service", "MachineID=00000003", &[]);
    bench.start("c.service", "MachineID=00000003", &[]);
    bench.pass(30);
    assert_eq!(bench.home("a.service"), "n2");
    bench.apply(Change::Machine(id(2), None));
    bench.settle();
    assert_eq!(bench.home("a.service"), "n3", "although n1 has fewer units");
    let tried = bench.scheduler.cluster().tried(&name("a.service")).unwrap().clone();
    assert_eq!((tried.hosts, tried.times, tried.again), (vec![id(1)], 1, None));
}
