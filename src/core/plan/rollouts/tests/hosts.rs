//! Global units, whose hosts get their new files one after another, and what happens to hosts meanwhile.

use super::*;
use crate::model::rollout::{Ask, Request};

pub(super) const UNIT: &str = "agent.service";

/// A file of the unit, with more options of `[X-Fleet]` and `[X-Rollout]`.
pub(super) fn agent_with(program: &str, fleet: &str, rollout: &str) -> UnitFile {
    file(program, &format!("[X-Fleet]\nGlobal=true\n{fleet}\n[X-Rollout]\nHealthySec=1\n{rollout}"))
}

pub(super) fn agent(program: &str) -> UnitFile {
    agent_with(program, "", "")
}

impl Bench {
    /// So many hosts, on which the unit runs with the file `old`.
    pub(super) fn of_agent(hosts: u64, old: &UnitFile) -> Self {
        let mut bench = Self::new(hosts);
        bench.ask(UNIT, old, |_| {});
        bench.settle();
        bench
    }

    /// The first letters of the programs that hosts are told to run, by number: `o` for `old`; `-` is none.
    pub(super) fn on_hosts(&self, files: &[&UnitFile]) -> String {
        let letter = |host: &MachineId| {
            let assignment = self.store.schedule.get(host).and_then(|assignments| assignments.get(&name(UNIT)));
            let assignment = assignment.filter(|assignment| assignment.value.target == Target::Launched);
            let Some(assignment) = assignment else { return '-' };
            let known = files.iter().find(|file| file.hash() == assignment.value.hash);
            known.and_then(|file| file.text().split("/bin/").nth(1)?.chars().next()).unwrap_or('?')
        };
        self.store.machines.keys().map(letter).collect()
    }

    fn join(&mut self, at: u64, metadata: &[(&str, &str)]) {
        let metadata = metadata.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
        let machine = Machine { metadata, ..Machine::new(id(at), format!("n{at}")) };
        self.tell(Change::Machine(id(at), Some(machine)));
    }

    pub(super) fn agent(&self) -> &Rollout {
        &self.store.rollouts[&name(UNIT)].value
    }
}

#[test]
fn hosts_get_another_file_one_after_another() {
    for restless in [false, true] {
        let (old, new) = (agent("old"), agent("new"));
        let mut bench = Bench { restless, ..Bench::of_agent(3, &old) };
        assert!(bench.store.rollouts.is_empty() && bench.log.is_empty(), "the first file is for all of them");
        bench.ask(UNIT, &new, |_| {});
        let mut seen = Vec::new();
        for _ in 0..60 {
            bench.decide();
            let now = bench.on_hosts(&[&old, &new]);
            if seen.last() != Some(&now) {
                seen.push(now);
            }
            bench.answer();
            bench.now += 250;
        }
        assert_eq!(seen, ["noo", "nno", "nnn"], "{:#?}", bench.log);
        bench.settle();
        let done = bench.agent();
        assert_eq!((done.phase, &done.target, &done.from.hash), (Phase::Done, &new.hash(), &old.hash()));
        assert_eq!((bench.gated().len(), bench.store.files.len()), (0, 2), "the file before may be needed again");
        let lets = format!("rollout of {} lets agent.service on 00000002 through", new.hash().short());
        assert_eq!(bench.log.iter().filter(|line| **line == lets).count(), 1, "{:#?}", bench.log);
    }
}

/// A global unit without the section, and sections that systemd doesn't read, are changed at once.
#[test]
fn without_the_section_or_with_the_same_body_all_hosts_are_changed_at_once() {
    let (old, sections) = (agent("old"), agent_with("old", "", "Parallel=2"));
    let plain = file("plain", "[X-Fleet]\nGlobal=true");
    let mut bench = Bench::of_agent(3, &old);
    for (file, expected) in [(&sections, "ooo"), (&plain, "ppp")] {
        bench.ask(UNIT, file, |_| {});
        bench.decide();
        assert_eq!((bench.on_hosts(&[file]), bench.gated().len()), (expected.into(), 0));
        bench.settle();
    }
}

#[test]
fn a_host_that_joins_gets_the_file_before_until_all_get_the_new_one() {
    for restless in [false, true] {
        let (old, new) = (agent("old"), agent_with("new", "", "Canary=1"));
        let files = [&old, &new];
        let mut bench = Bench { restless, ..Bench::of_agent(2, &old) };
        bench.ask(UNIT, &new, |_| {});
        bench.settle();
        assert_eq!((bench.on_hosts(&files), bench.agent().phase), ("no".into(), Phase::Waiting));
        bench.join(3, &[]);
        bench.settle();
        assert_eq!((bench.on_hosts(&files), bench.agent().phase), ("noo".into(), Phase::Waiting));
        // The canary's host dies, and another one takes its place. It comes back with the file that it had.
        bench.tell(Change::Machine(id(1), None));
        bench.pass(3);
        bench.join(1, &[]);
        bench.settle();
        assert_eq!((bench.on_hosts(&files), bench.agent().phase), ("nno".into(), Phase::Waiting));
        let generation = bench.store.revision;
        let promote = Ask { what: Request::Promote, generation, by: None };
        bench.ask(UNIT, &new, |unit| unit.ask = Some(Box::new(promote)));
        bench.decide();
        bench.join(4, &[]);
        bench.decide();
        assert_eq!(bench.on_hosts(&files).chars().nth(3), Some('n'), "all get it now");
        bench.settle();
        assert_eq!((bench.on_hosts(&files), bench.agent().phase), ("nnnn".into(), Phase::Done));
    }
}

#[test]
fn a_file_that_fails_is_taken_back_and_reaches_no_host_that_joins() {
    for restless in [false, true] {
        let (old, bad, fix) = (agent("old"), agent_with("bad", "", "Parallel=2"), agent("fix"));
        let files = [&old, &bad, &fix];
        let mut bench = Bench { restless, bad: vec![bad.hash()], ..Bench::of_agent(3, &old) };
        bench.ask(UNIT, &bad, |_| {});
        bench.decide();
        assert_eq!(bench.on_hosts(&files), "bbo");
        bench.settle();
        assert_eq!((bench.on_hosts(&files), bench.agent().phase), ("ooo".into(), Phase::Reverted));
        let failed = (bench.agent().failed.clone(), bench.agent().failed_on.clone(), bench.agent().lines.len());
        assert_eq!(failed, (Some(name(UNIT)), Some(id(1)), 1));
        let why = bench.agent().why.clone().unwrap_or_default();
        assert!(why.starts_with("agent.service failed on n1"), "{why}");
        bench.join(4, &[]);
        bench.tell(Change::Machine(id(1), None));
        bench.settle();
        // A restart, and a stop and start, are carried out with the file before.
        let generation = bench.store.revision;
        bench.ask(UNIT, &bad, |unit| unit.restart = Some(generation));
        bench.settle();
        assert_eq!((bench.on_hosts(&files), bench.agent().phase), ("ooo".into(), Phase::Reverted));
        let assignment = &bench.store.schedule[&id(2)][&name(UNIT)].value;
        assert_eq!((assignment.restart, assignment.generation > generation), (Some(generation), true));
        bench.ask(UNIT, &fix, |_| {});
        bench.settle();
        assert_eq!((bench.on_hosts(&files), bench.agent().phase), ("fff".into(), Phase::Done));
        assert_eq!(bench.agent().from.hash, old.hash(), "the last that was stable");
    }
}

/// Which leader sees a host lose the unit, and when, makes no difference.
#[test]
fn after_a_failure_a_host_that_was_away_gets_the_file_of_all_others() {
    for restless in [false, true] {
        let (old, late, bad) = (agent("old"), agent_with("late", "", "Canary=1"), agent("bad"));
        let files = [&old, &late, &bad];
        let mut bench = Bench { restless, bad: vec![bad.hash()], ..Bench::new(0) };
        (2..=4).for_each(|at| bench.join(at, &[]));
        bench.ask(UNIT, &old, |_| {});
        bench.settle();
        bench.ask(UNIT, &late, |_| {});
        bench.settle();
        assert_eq!((bench.on_hosts(&files), bench.agent().phase), ("loo".into(), Phase::Waiting));
        bench.join(1, &[]);
        bench.settle();
        bench.ask(UNIT, &bad, |_| {});
        bench.settle();
        assert_eq!((bench.on_hosts(&files), bench.agent().phase), ("oloo".into(), Phase::Reverted));
        // Its assignment is deleted, and written again when it is back.
        bench.tell(Change::Machine(id(2), None));
        bench.settle();
        assert_eq!(bench.on_hosts(&files), "ooo");
        bench.join(2, &[]);
        bench.settle();
        assert_eq!((bench.on_hosts(&files), bench.agent().phase), ("oooo".into(), Phase::Reverted));
    }
}

/// The file was stable: the other hosts keep it, and none of them is asked for anything.
#[test]
fn a_host_that_gets_a_file_late_and_fails_takes_it_from_no_other_host() {
    for restless in [false, true] {
        let (old, new) = (agent("old"), agent("new"));
        let mut bench = Bench { restless, ..Bench::of_agent(4, &old) };
        let before = bench.store.schedule[&id(4)][&name(UNIT)].value.clone();
        bench.ask(UNIT, &new, |_| {});
        bench.settle();
        assert_eq!((bench.on_hosts(&[&old, &new]), bench.agent().phase), ("nnnn".into(), Phase::Done));
        // The last one was away, and an earlier leader had ended the rollout without it.
        let generation = bench.store.units[&name(UNIT)].generation;
        let gate = Gate::new(&name(UNIT), &new.hash(), gate::hosts::file_of(&before), generation);
        let through = (1..=3).map(|at| (id(at), None)).collect();
        let (value, revision) = (Gate { hosts: Some(Box::new(through)), ..gate }, bench.store.revision);
        bench.tell(Change::Gate(name(UNIT), Some(Versioned { value, revision })));
        bench.tell(Change::Assignment(id(4), name(UNIT), Some(Versioned { value: before, revision })));
        let assigned = bench.store.schedule.clone();
        (bench.bad, bench.bad_on) = (vec![new.hash()], Some(id(4)));
        bench.settle();
        assert_eq!(bench.on_hosts(&[&old, &new]), "nnnn", "{:#?}", bench.log);
        assert_eq!(bench.agent().phase, Phase::Stuck, "{:#?}", bench.log);
        for at in 1..=3 {
            assert_eq!(bench.store.schedule[&id(at)], assigned[&id(at)], "{at} {:#?}", bench.log);
        }
    }
}

#[test]
fn a_newer_file_overtakes_and_the_one_before_reaches_those_that_have_another() {
    for restless in [false, true] {
        let (old, new, late) = (agent("old"), agent("new"), agent("late"));
        let files = [&old, &new, &late];
        let mut bench = Bench { restless, ..Bench::of_agent(3, &old) };
        bench.ask(UNIT, &new, |_| {});
        bench.pass(2);
        assert_eq!(bench.on_hosts(&files), "nno");
        bench.ask(UNIT, &late, |_| {});
        bench.decide();
        assert_eq!(bench.on_hosts(&files), "lno", "nobody has to go back first");
        bench.settle();
        assert_eq!((bench.on_hosts(&files), bench.agent().phase), ("lll".into(), Phase::Done));
        bench.ask(UNIT, &new, |_| {});
        bench.decide();
        assert_eq!(bench.on_hosts(&files), "nll");
        bench.ask(UNIT, &late, |_| {});
        bench.settle();
        assert_eq!((bench.on_hosts(&files), bench.gated().len()), ("lll".into(), 0));
    }
}

#[test]
fn hosts_that_the_new_file_doesnt_fit_lose_the_unit_last() {
    for restless in [false, true] {
        let zone = |program: &str, zones: &str| {
            let zones: String = zones.chars().map(|zone| format!("MachineMetadata=zone={zone}\n")).collect();
            agent_with(program, &zones, "")
        };
        let (old, new, gone) = (zone("old", "ab"), zone("new", "bc"), zone("gone", "x"));
        let files = [&old, &new, &gone];
        let mut bench = Bench { restless, ..Bench::new(0) };
        for (at, zone) in [(1, "a"), (2, "b"), (3, "a"), (4, "b"), (5, "c")] {
            bench.join(at, &[("zone", zone)]);
        }
        bench.ask(UNIT, &old, |_| {});
        bench.settle();
        assert_eq!(bench.on_hosts(&files), "oooo-");
        bench.ask(UNIT, &new, |_| {});
        let mut seen = vec![bench.on_hosts(&files)];
        for _ in 0..60 {
            bench.decide();
            let now = bench.on_hosts(&files);
            if seen.last() != Some(&now) {
                seen.push(now);
            }
            bench.answer();
            bench.now += 250;
        }
        // Another leader waits anew until the file has proved itself.
        seen.retain(|hosts| !restless || hosts != "-nonn");
        // Where nothing has to be stopped for it, it is started at once.
        assert_eq!(seen, ["oooo-", "onoon", "ononn", "-n-nn"], "{:#?}", bench.log);
        bench.settle();
        assert_eq!((bench.on_hosts(&files), bench.agent().phase), ("-n-nn".into(), Phase::Done));
        // A file that fits no host stops nobody.
        bench.ask(UNIT, &gone, |_| {});
        bench.settle();
        assert_eq!((bench.on_hosts(&files), bench.agent().phase), ("-n-nn".into(), Phase::Reverted));
        assert!(bench.agent().why.as_ref().unwrap().contains("fits no host"), "{:?}", bench.agent());
    }
}

/// Systemd reads the same from all of these files: where they fit, nothing is restarted.
#[test]
fn a_change_of_where_a_global_unit_may_be_takes_it_from_one_host_after_another_or_from_none() {
    for restless in [false, true] {
        let zone = |zones: &str| {
            let zones: String = zones.chars().map(|zone| format!("MachineMetadata=zone={zone}\n")).collect();
            agent_with("old", &zones, "")
        };
        let (old, new, gone) = (zone("ab"), zone("bc"), zone("x"));
        let mut bench = Bench { restless, ..Bench::new(0) };
        for (at, zone) in [(1, "a"), (2, "b"), (3, "a"), (4, "b"), (5, "c")] {
            bench.join(at, &[("zone", zone)]);
        }
        bench.ask(UNIT, &old, |_| {});
        bench.settle();
        bench.ask(UNIT, &gone, |_| {});
        bench.settle();
        assert_eq!((bench.on_hosts(&[&old]), bench.agent().phase), ("oooo-".into(), Phase::Reverted));
        bench.ask(UNIT, &new, |_| {});
        let mut seen = vec![bench.on_hosts(&[&old, &new])];
        for _ in 0..60 {
            bench.decide();
            let now = bench.on_hosts(&[&old, &new]);
            if seen.last() != Some(&now) {
                seen.push(now);
            }
            bench.answer();
            bench.now += 250;
        }
        // Another leader waits anew until the file has proved itself.
        seen.retain(|hosts| !restless || hosts != "-oooo");
        assert_eq!(seen, ["oooo-", "ooooo", "-o-oo"], "{:#?}", bench.log);
        bench.settle();
        assert_eq!((bench.on_hosts(&[&new]), bench.agent().phase), ("-o-oo".into(), Phase::Done));
    }
}

/// Conflicts hold on each host as the file there says.
#[test]
fn files_with_other_instances_are_in_force_where_hosts_have_them() {
    for restless in [false, true] {
        let old = file("old", "[Unit]\nWants=helper@1.service\n[X-Fleet]\nGlobal=true\n");
        let new = agent_with("new", "", "Canary=1");
        let files = [&old, &new];
        let mut bench = Bench { restless, ..Bench::of_agent(2, &old) };
        bench.ask("helper@.service", &file("helper", ""), |unit| unit.desired = Desired::Inactive);
        bench.settle();
        let templates = |bench: &Bench, at: u64| bench.store.schedule[&id(at)][&name(UNIT)].value.templates.len();
        assert_eq!((templates(&bench, 1), templates(&bench, 2)), (1, 1));
        bench.ask(UNIT, &new, |_| {});
        bench.settle();
        assert_eq!((bench.on_hosts(&files), bench.agent().phase), ("no".into(), Phase::Waiting));
        assert_eq!((templates(&bench, 1), templates(&bench, 2)), (0, 1));
        // A change of the template reaches the host that has it.
        bench.ask("helper@.service", &file("helper2", ""), |unit| unit.desired = Desired::Inactive);
        bench.settle();
        let helper = file("helper2", "").hash();
        let assignment = &bench.store.schedule[&id(2)][&name(UNIT)].value;
        assert_eq!(assignment.templates.values().collect::<Vec<_>>(), [&helper]);
    }
}

/// What excludes others is the same on all hosts.
#[test]
fn a_file_that_excludes_other_units_than_the_one_before_reaches_all_hosts_at_once() {
    let plain = agent_with("new", "", "Canary=1");
    let excludes = |program: &str| agent_with(program, "Conflicts=other.service", "Canary=1");
    for (old, new, all, gates) in [
        (&agent("old"), &excludes("x"), "xx", 0),
        (&excludes("x"), &plain, "nn", 0),
        (&excludes("old"), &excludes("x"), "xo", 1),
    ] {
        let mut bench = Bench::of_agent(2, old);
        bench.ask(UNIT, new, |_| {});
        bench.settle();
        assert_eq!((bench.on_hosts(&[old, new]), bench.gated().len()), (all.into(), gates));
    }
}

#[test]
fn a_unit_that_is_stopped_or_destroyed_has_no_rollout_to_go_on_with() {
    let (old, new) = (agent("old"), agent_with("new", "", "Canary=1"));
    let mut bench = Bench::of_agent(2, &old);
    bench.ask(UNIT, &new, |_| {});
    bench.settle();
    assert_eq!(bench.gated(), [UNIT]);
    bench.ask(UNIT, &new, |unit| unit.desired = Desired::Loaded);
    bench.settle();
    assert_eq!((bench.gated().len(), bench.agent().phase), (0, Phase::Done));
    bench.ask(UNIT, &new, |unit| unit.desired = Desired::Launched);
    bench.settle();
    assert_eq!(bench.on_hosts(&[&new]), "nn");
    bench.ask(UNIT, &old, |_| {});
    bench.decide();
    bench.tell(Change::Unit(name(UNIT), None));
    bench.pass(5);
    assert_eq!((bench.gated().len(), bench.store.rollouts.len(), bench.store.files.len()), (0, 0, 0));
    assert_eq!(check(&bench.store), []);
}

/// A leader that doesn't know such gates lets all hosts through; the next one finds nothing to do. What is lost of a
/// gate is written again from what hosts run.
#[test]
fn gates_that_are_left_or_lost_stop_no_host() {
    let (old, new) = (agent("old"), agent_with("new", "", "Canary=1"));
    let files = [&old, &new];
    let mut bench = Bench::of_agent(3, &old);
    bench.ask(UNIT, &new, |_| {});
    bench.settle();
    bench.store.gates.clear();
    bench.elect(&[]);
    bench.settle();
    assert_eq!((bench.on_hosts(&files), bench.gated().len()), ("noo".into(), 1));
    let generation = bench.store.units[&name(UNIT)].generation;
    for assigned in bench.store.schedule.values_mut().flat_map(BTreeMap::values_mut) {
        (assigned.value.hash, assigned.value.generation) = (new.hash(), generation);
    }
    bench.elect(&[]);
    bench.decide();
    assert_eq!((bench.on_hosts(&files), bench.gated().len()), ("nnn".into(), 1));
    bench.settle();
    assert_eq!((bench.on_hosts(&files), bench.agent().phase), ("nnn".into(), Phase::Waiting));
    // Without the record of its rollout, nobody waits behind this gate.
    bench.store.rollouts.clear();
    bench.elect(&[]);
    bench.settle();
    assert_eq!((bench.on_hosts(&files), bench.gated().len(), bench.store.rollouts.len()), ("nnn".into(), 0, 0));
}
