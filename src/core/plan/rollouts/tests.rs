//! Who gets which file and when, through changes of the store, with a leader that may change at any time.

mod costing;
mod failing;
mod fitting;
mod forecasting;
mod hooking;
mod hosts;
mod overtaking;
mod riding;
mod silent;
mod sparing;

use super::*;
use crate::model::failure::Failure;
use crate::model::file::UnitFile;
use crate::model::format::ReportKeyForm;
use crate::model::machine::Machine;
use crate::model::name::MachineId;
use crate::model::placement::Constraints;
use crate::model::rollout::{Phase, Verdict};
use crate::model::unit::{Assignment, Target, UnitReport};
use crate::plan::check::check;

const SET: &str = "web@.service";

/// A store, its hosts and a leader.
struct Bench {
    store: Cluster,
    scheduler: Scheduler,
    rollouts: Rollouts,
    now: u64,
    /// Whether another leader takes over after each commit.
    restless: bool,
    /// Programs that fail when they are started.
    bad: Vec<UnitHash>,
    /// The only host on which they do, if it isn't everywhere.
    bad_on: Option<MachineId>,
    /// Programs that end by themselves, and haven't yet.
    busy: Vec<UnitHash>,
    /// Whether hosts report failures before they have read the journal.
    is_unread: bool,
    /// The starts of programs that end by themselves.
    starts: Vec<UnitName>,
    /// A host that carries out nothing.
    silent: Option<MachineId>,
    log: Vec<String>,
}

fn id(at: u64) -> MachineId {
    format!("{at:08x}{at:024x}").parse().unwrap()
}

fn name(text: &str) -> UnitName {
    text.parse().unwrap()
}

/// The file that runs `program`, with these sections.
fn file(program: &str, sections: &str) -> UnitFile {
    UnitFile::parse(format!("[Service]\nExecStart=/bin/{program}\n{sections}\n").as_bytes()).unwrap()
}

/// In the hands of a set: `HealthySec=1`, so that little time has to pass.
fn web(program: &str) -> UnitFile {
    file(program, "[X-Rollout]\nHealthySec=1")
}

impl Bench {
    fn new(hosts: u64) -> Self {
        let mut bench = Self {
            store: Cluster { revision: Revision(1), ..Cluster::default() },
            scheduler: Scheduler::new(Cluster::default()),
            rollouts: Rollouts::default(),
            now: 1_000_000,
            restless: false,
            bad: Vec::new(),
            bad_on: None,
            busy: Vec::new(),
            is_unread: false,
            starts: Vec::new(),
            silent: None,
            log: Vec::new(),
        };
        for at in 1..=hosts {
            bench.tell(Change::Machine(id(at), Some(Machine::new(id(at), format!("n{at}")))));
        }
        bench
    }

    /// The store changes, and the leader sees it.
    fn tell(&mut self, change: Change) {
        self.store.revision = self.store.revision.next();
        self.store.apply(change.clone());
        self.rollouts.apply(&mut self.scheduler, change);
        self.scheduler.advance(self.store.revision);
    }

    /// Another leader, which knows what the store has.
    fn elect(&mut self, damaged: &[&str]) {
        let mut cluster = self.store.clone();
        let damaged: BTreeSet<UnitName> = damaged.iter().map(|text| name(text)).collect();
        damaged.iter().for_each(|name| drop(cluster.rollouts.remove(name)));
        self.rollouts = Rollouts::of(&mut cluster, BTreeSet::new(), damaged);
        self.scheduler = Scheduler::new(cluster);
        self.rollouts.hold_files(&mut self.scheduler);
    }

    fn ask(&mut self, unit: &str, file: &UnitFile, change: impl FnOnce(&mut Unit)) {
        let (hash, revision) = (file.hash(), self.store.revision);
        let value = Versioned { value: Constraints::parse(file).unwrap().into(), revision };
        self.tell(Change::File(hash.clone(), Some(value)));
        let generation = self.store.revision;
        let mut record = match self.store.units.get(&name(unit)) {
            Some(known) => Unit { hash, generation, ..known.clone() },
            None => Unit::new(Desired::Launched, hash, generation),
        };
        change(&mut record);
        self.tell(Change::Unit(name(unit), Some(record)));
    }

    /// A set of three, with all members launched.
    fn ask_set(&mut self, file: &UnitFile) {
        self.ask(SET, file, |set| (set.desired, set.replicas) = (Desired::Inactive, Some(3)));
        for member in 1..=3 {
            self.ask(&format!("web@{member}.service"), file, |_| {});
        }
    }

    /// The leader decides and commits, until it has nothing to do.
    fn decide(&mut self) {
        loop {
            let writes = self.rollouts.step(&mut self.scheduler, self.now);
            let plan = self.scheduler.plan(self.now);
            if writes.is_empty() && plan.is_empty() {
                assert!(!self.rollouts.is_dirty(self.now) && !self.scheduler.is_dirty());
                assert_eq!(self.rollouts.check_itself(&mut self.scheduler, self.now), Vec::<String>::new());
                return;
            }
            let revision = self.store.revision.next();
            let version = |write: Option<Gate>| write.map(|value| Versioned { value, revision });
            let mut changes = Vec::new();
            for (unit, gate) in writes.gates {
                let known = self.store.gates.get(&unit).map(|known| known.revision);
                assert_eq!(gate.write.before, known, "{unit} is guarded by what the store has");
                self.log.push(gate.to_string());
                changes.push(Change::Gate(unit, version(gate.write.after)));
            }
            for rollout in writes.rollouts {
                self.log.extend(rollout.is_news.then(|| rollout.to_string()));
                let after = rollout.write.after.map(|value| Versioned { value, revision });
                changes.push(Change::Rollout(rollout.name, after));
            }
            for decision in &plan.decisions {
                changes.extend(decision.changes(revision));
            }
            for decision in &plan.hosts {
                changes.push(decision.change(revision));
            }
            for (hash, _) in &plan.files {
                changes.push(Change::File(hash.clone(), None));
            }
            changes.into_iter().for_each(|change| self.tell(change));
            if self.restless {
                self.elect(&[]);
            }
            assert_eq!(self.scheduler.check_itself(self.now, &Default::default()), Vec::<String>::new());
        }
    }

    /// The hosts carry out their assignments.
    fn answer(&mut self) {
        let all: Vec<(MachineId, UnitName, Assignment)> = self
            .store
            .schedule
            .iter()
            .filter(|(host, _)| self.store.machines.contains_key(*host) && self.silent.as_ref() != Some(*host))
            .flat_map(|(host, assignments)| {
                assignments.iter().map(|(name, assignment)| (host.clone(), name.clone(), assignment.value.clone()))
            })
            .collect();
        for (host, name, assignment) in all {
            let ends = self.store.files.get(&assignment.hash).is_some_and(|file| file.value.ends);
            let is_bad = self.bad.contains(&assignment.hash) && self.bad_on.as_ref().is_none_or(|only| *only == host);
            let active = match assignment.target {
                Target::Launched if ends && self.busy.contains(&assignment.hash) => "activating",
                Target::Launched if ends && !is_bad => "inactive",
                Target::Launched if is_bad => "failed",
                Target::Launched => "active",
                _ => "inactive",
            };
            let mut report: UnitReport = serde_json::from_value(serde_json::json!({
                "generation": assignment.generation, "target": assignment.target, "hash": assignment.hash,
                "load": "loaded", "active": active, "sub": "dead", "since": 0,
            }))
            .unwrap();
            let lines = if self.is_unread { vec![] } else { vec!["web[7]: no such table".into()] };
            let failure = || Failure { lines: lines.clone(), ..Failure::default() };
            report.result = (ends && active == "inactive").then(|| "done".into());
            report.failure = (active == "failed").then(|| Box::new(failure()));
            let known = self.store.report(&name, &host);
            if ends
                && assignment.target == Target::Launched
                && known.is_none_or(|it| it.generation < assignment.generation)
            {
                self.starts.push(name.clone());
            }
            if known != Some(&report) {
                let revision = self.store.revision.next();
                let report = Some(Versioned { value: report, revision });
                self.tell(Change::Report(name, host, ReportKeyForm::HostFirst, report));
            }
        }
    }

    /// Everybody does what there is to do, for so many seconds.
    fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds * 4 {
            self.decide();
            self.answer();
            self.now += 250;
        }
        self.decide();
    }

    /// As [`Self::settle`], while never more than one of three members is away. They take longer to stop than a member
    /// whose host is gone is waited for.
    fn pass_with_two_launched(&mut self) {
        for quarter in 0..200 {
            self.decide();
            let is_there = |member: &u32| launched(&self.store, &name(&format!("web@{member}.service"))).is_some();
            assert!((1..=3).filter(is_there).count() >= 2, "{:#?}", self.log);
            if quarter % 16 == 15 {
                self.answer();
            }
            self.now += 250;
        }
        self.settle();
    }

    fn settle(&mut self) {
        self.pass(30);
        assert_eq!(check(&self.store), []);
        assert_eq!(self.rollouts.due(), None);
    }

    /// The hashes of the files with which the members run, in order.
    fn runs(&self) -> Vec<UnitHash> {
        let run = |member: u32| launched(&self.store, &name(&format!("web@{member}.service"))).unwrap().1.hash.clone();
        (1..=3).map(run).collect()
    }

    fn rollout(&self) -> &Rollout {
        &self.store.rollouts[&name(SET)].value
    }

    fn gated(&self) -> Vec<&str> {
        self.store.gates.keys().map(UnitName::as_str).collect()
    }
}

fn three(file: &UnitFile) -> Vec<UnitHash> {
    vec![file.hash(); 3]
}

#[test]
fn the_members_of_a_set_get_another_file_one_after_another() {
    for restless in [false, true] {
        let mut bench = Bench { restless, ..Bench::new(3) };
        bench.ask_set(&web("old"));
        bench.settle();
        assert!(bench.store.rollouts.is_empty() && bench.log.is_empty(), "the first file is for all of them");
        bench.ask_set(&web("new"));
        bench.decide();
        assert_eq!(bench.runs(), [web("old").hash(), web("old").hash(), web("new").hash()]);
        assert_eq!(bench.gated(), ["web@1.service", "web@2.service"]);
        bench.settle();
        assert_eq!((bench.runs(), bench.gated()), (three(&web("new")), Vec::<&str>::new()));
        let done = bench.rollout();
        assert_eq!((done.phase, &done.target, &done.from.hash), (Phase::Done, &web("new").hash(), &web("old").hash()));
        let through: Vec<&String> = bench.log.iter().filter(|line| line.contains("through")).collect();
        let target = web("new").hash();
        let lets = |member| format!("rollout of {} lets web@{member}.service through", target.short());
        assert_eq!(through, [&lets(3), &lets(2), &lets(1)], "{:#?}", bench.log);
        assert!(bench.store.files.contains_key(&web("old").hash()), "it may be needed again");
    }
}

#[test]
fn members_that_move_do_so_one_after_another() {
    for restless in [false, true] {
        let mut bench = Bench { restless, ..Bench::new(3) };
        bench.ask_set(&web("old"));
        bench.settle();
        let there = file("new", &format!("[X-Fleet]\nMachineID={}\n[X-Rollout]\nHealthySec=1", id(3)));
        bench.ask_set(&there);
        bench.pass_with_two_launched();
        assert_eq!((bench.runs(), bench.rollout().phase), (three(&there), Phase::Done));
    }
}

#[test]
fn a_file_that_fails_is_taken_back_and_reaches_nobody_else() {
    for restless in [false, true] {
        let mut bench = Bench { restless, bad: vec![web("bad").hash()], ..Bench::new(3) };
        bench.ask_set(&web("old"));
        bench.settle();
        bench.ask_set(&web("bad"));
        bench.settle();
        assert_eq!(bench.runs(), three(&web("old")));
        assert_eq!((bench.rollout().phase, bench.gated().len()), (Phase::Reverted, 3));
        assert!(bench.rollout().why.as_ref().unwrap().contains("web@3.service"), "{:?}", bench.rollout());
        assert_eq!(bench.rollout().outcomes.last().unwrap().verdict, Verdict::Failed);
        let failed = bench.rollout().failed.as_ref().map(ToString::to_string);
        let lines = bench.rollout().lines.as_slice();
        assert_eq!((failed.as_deref(), lines), (Some("web@3.service"), &["web[7]: no such table".to_owned()][..]));
        // A host is lost, one member is restarted and another stopped and started: all with the file before.
        bench.tell(Change::Machine(id(1), None));
        bench.settle();
        let generation = bench.store.revision;
        bench.ask("web@1.service", &web("bad"), |unit| unit.restart = Some(generation));
        bench.ask("web@2.service", &web("bad"), |unit| unit.desired = Desired::Loaded);
        bench.settle();
        bench.ask("web@2.service", &web("bad"), |unit| unit.desired = Desired::Launched);
        bench.settle();
        assert_eq!(bench.runs(), three(&web("old")));
        assert_eq!(launched(&bench.store, &name("web@1.service")).unwrap().1.restart, Some(generation));
        // The file that fixes it isn't kept waiting, nor is the one before.
        bench.ask_set(&web("fix"));
        bench.settle();
        assert_eq!((bench.runs(), bench.rollout().phase), (three(&web("fix")), Phase::Done));
        assert_eq!(bench.rollout().from.hash, web("old").hash(), "the last that was stable");
        assert!(bench.rollout().failed.is_none() && bench.rollout().lines.is_empty());
    }
}

#[test]
fn a_newer_file_overtakes_and_the_present_one_needs_no_rollout() {
    let mut bench = Bench::new(3);
    bench.ask_set(&web("old"));
    bench.settle();
    bench.ask_set(&web("new"));
    bench.pass(1);
    let began = bench.runs();
    assert_ne!(began, three(&web("old")));
    bench.ask_set(&web("newer"));
    bench.settle();
    assert_eq!((bench.runs(), bench.rollout().phase), (three(&web("newer")), Phase::Done));
    // Back in the middle: who has the file that is requested again keeps it.
    bench.ask_set(&web("other"));
    bench.decide();
    assert_eq!(bench.gated(), ["web@1.service", "web@2.service"]);
    bench.log.clear();
    bench.ask_set(&web("newer"));
    bench.settle();
    assert_eq!((bench.runs(), bench.rollout().phase), (three(&web("newer")), Phase::Done));
    assert!(!bench.log.iter().any(|line| line.contains("lets web@1.service")), "{:#?}", bench.log);
}

/// Otherwise their hosts would be told that what they run is what was requested last.
#[test]
fn another_leader_renews_the_gates_of_units_that_were_asked_for_a_newer_file() {
    let mut bench = Bench::new(3);
    let (old, newer, newest) = (web("a"), web("b"), web("c"));
    bench.ask_set(&old);
    bench.pass(2);
    let assigned = |bench: &Bench| {
        let all = bench.store.schedule.values().flat_map(BTreeMap::iter);
        all.map(|(name, assignment)| (name.clone(), assignment.value.clone())).collect::<BTreeMap<_, _>>()
    };
    let before = assigned(&bench);
    bench.ask_set(&newer);
    bench.decide();
    bench.ask_set(&newest);
    bench.elect(&[]);
    bench.decide();
    for member in ["web@1.service", "web@2.service"].map(name) {
        let (gate, record) = (&bench.store.gates[&member].value, &bench.store.units[&member]);
        assert_eq!((&gate.target, gate.asked), (&newest.hash(), record.generation), "{member}");
        assert_eq!(assigned(&bench)[&member], before[&member], "nothing was done there yet");
    }
}

#[test]
fn what_restarts_nothing_or_belongs_to_no_rollout_is_changed_at_once() {
    let mut bench = Bench::new(3);
    bench.ask_set(&web("old"));
    bench.ask("db.service", &file("db", "[X-Rollout]\nHealthySec=1"), |_| {});
    bench.ask("plain.service", &file("plain", ""), |_| {});
    bench.settle();
    let sections = file("old", "[X-Rollout]\nHealthySec=2");
    bench.ask_set(&sections);
    bench.ask("plain.service", &file("plain2", ""), |_| {});
    bench.decide();
    assert_eq!((bench.runs(), bench.gated()), (three(&sections), Vec::<&str>::new()));
    let plain = |bench: &Bench| launched(&bench.store, &name("plain.service")).unwrap().1.hash.clone();
    assert_eq!(plain(&bench), file("plain2", "").hash());
    // A member with a file of its own takes part in no rollout of its set.
    bench.ask("web@2.service", &file("own", ""), |_| {});
    bench.decide();
    assert_eq!((bench.runs()[1].clone(), bench.gated().len()), (file("own", "").hash(), 0));
    // A unit whose file has the section is rolled out by itself, and taken back.
    let bad = file("db2", "[X-Rollout]\nHealthySec=1");
    bench.bad.push(bad.hash());
    bench.ask("db.service", &bad, |_| {});
    bench.settle();
    assert_eq!(bench.gated(), ["db.service"]);
    assert_eq!(bench.store.rollouts[&name("db.service")].value.phase, Phase::Reverted);
    // Without the section, nothing holds the next file back.
    bench.ask("db.service", &file("db3", ""), |_| {});
    bench.settle();
    assert_eq!((bench.gated().len(), bench.store.rollouts.contains_key(&name("db.service"))), (0, false));
    // What isn't launched gets its file at once.
    bench.ask("web@1.service", &sections, |unit| unit.desired = Desired::Loaded);
    bench.settle();
    bench.ask("web@1.service", &web("next"), |_| {});
    bench.decide();
    assert_eq!(bench.gated().len(), 0);
}

#[test]
fn new_members_get_the_file_before_until_the_canaries_have_proved_the_new_one() {
    let canary = |program: &str| file(program, "[X-Rollout]\nHealthySec=1\nCanary=1");
    let mut bench = Bench::new(3);
    bench.ask_set(&canary("old"));
    bench.settle();
    bench.ask_set(&canary("new"));
    bench.settle();
    assert_eq!((bench.rollout().phase, bench.gated()), (Phase::Waiting, vec!["web@1.service", "web@2.service"]));
    bench.ask("web@4.service", &canary("new"), |_| {});
    bench.decide();
    let fourth = launched(&bench.store, &name("web@4.service")).unwrap().1;
    assert_eq!((&fourth.hash, bench.gated().len()), (&canary("old").hash(), 3));
    // Also for the next leader.
    bench.elect(&[]);
    bench.settle();
    assert_eq!((bench.rollout().phase, bench.gated().len()), (Phase::Waiting, 3));
}

#[test]
fn records_that_are_left_or_lost_move_no_unit() {
    let mut bench = Bench { bad: vec![web("bad").hash()], ..Bench::new(3) };
    bench.ask_set(&web("old"));
    bench.settle();
    bench.ask_set(&web("bad"));
    bench.settle();
    // The record of the rollout, and that of a gate, can't be read.
    bench.store.gates.remove(&name("web@2.service"));
    bench.elect(&[SET]);
    bench.settle();
    assert_eq!((bench.runs(), bench.gated().len()), (three(&web("old")), 3));
    let why = bench.rollout().why.as_deref();
    assert_eq!((bench.rollout().phase, why), (Phase::Paused, Some("the record of how far it had got was damaged")));
    // A leader that doesn't know gates lets everybody through; the next one cleans up.
    let mut cluster = std::mem::take(&mut bench.store);
    cluster.units.values_mut().for_each(|unit| unit.generation = cluster.revision);
    for assigned in cluster.schedule.values_mut().flat_map(BTreeMap::values_mut) {
        (assigned.value.hash, assigned.value.generation) = (web("bad").hash(), cluster.revision);
    }
    bench.store = cluster;
    bench.elect(&[]);
    bench.decide();
    assert_eq!(bench.gated(), Vec::<&str>::new());
    assert_eq!(bench.runs(), three(&web("bad")));
}

#[test]
fn nothing_is_left_of_what_was_destroyed() {
    let mut bench = Bench::new(3);
    bench.ask_set(&web("old"));
    bench.settle();
    bench.ask_set(&web("new"));
    bench.decide();
    for unit in [SET, "web@1.service", "web@2.service", "web@3.service"] {
        bench.tell(Change::Unit(name(unit), None));
    }
    bench.pass(5);
    assert_eq!((bench.gated().len(), bench.store.rollouts.len(), bench.store.files.len()), (0, 0, 0));
    assert_eq!(check(&bench.store), []);
    // A unit of the same name is new.
    bench.ask_set(&web("new"));
    bench.settle();
    assert_eq!((bench.runs(), bench.store.rollouts.len()), (three(&web("new")), 0));
}
