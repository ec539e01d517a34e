//! Each kind of decision, as the operator reads it, and how a chain, a cycle, a global and a hand in the store are
//! dealt with.

mod cordon;
mod once;
mod ports;
mod preferred;
mod resources;
mod sets;
mod waits;

use super::*;
use crate::model::file::UnitFile;
use crate::model::format::ReportKeyForm;
use crate::model::machine::Machine;
use crate::model::placement::Constraints;
use crate::model::unit::{Assignment, Desired, Placement, Target, Unit, UnitReport};
use crate::plan::check::{always, check};
use crate::plan::explain::explain;

/// A store, its hosts and an engine; every change is planned and committed.
struct Bench {
    scheduler: Scheduler,
    revision: Revision,
    /// In ms since the epoch.
    now: u64,
}

fn id(at: u64) -> MachineId {
    format!("{at:08x}{at:024x}").parse().unwrap()
}

/// `host` has carried out `assignment`.
fn report(name: &UnitName, host: &MachineId, assignment: &Assignment) -> Change {
    let report = Versioned { value: UnitReport::of(assignment), revision: Revision::default() };
    Change::Report(name.clone(), host.clone(), ReportKeyForm::HostFirst, Some(report))
}

impl Bench {
    /// `hosts` hosts, `n1` and up, in zones a and b by turns.
    fn new(hosts: u64) -> Self {
        let mut bench = Self { scheduler: Scheduler::new(Cluster::default()), revision: Revision(1), now: 7 };
        (1..=hosts).for_each(|at| drop(bench.host(at)));
        bench
    }

    fn host(&mut self, at: u64) -> Vec<String> {
        let metadata = [("zone".to_owned(), if at % 2 == 1 { "a" } else { "b" }.to_owned())].into();
        let machine = Machine { metadata, ..Machine::new(id(at), format!("n{at}")) };
        self.then([Change::Machine(id(at), Some(machine))])
    }

    fn submit(&mut self, units: &[(&str, &str)]) -> Vec<String> {
        let changes = units.iter().flat_map(|(name, section)| {
            let text = format!("[Service]\nExecStart=/bin/true\n[X-Fleet]\n{section}\n");
            let file = UnitFile::parse(text.as_bytes()).unwrap();
            let constraints = Versioned { value: Constraints::parse(&file).unwrap().into(), revision: self.revision };
            let unit = Unit::new(Desired::Launched, file.hash(), self.revision);
            [Change::File(file.hash(), Some(constraints)), Change::Unit(name.parse().unwrap(), Some(unit))]
        });
        let changes: Vec<Change> = changes.collect();
        self.then(changes)
    }

    fn desire(&mut self, name: &str, desired: Desired) -> Vec<String> {
        let name: UnitName = name.parse().unwrap();
        let unit = Unit { desired, generation: self.revision, ..self.scheduler.cluster().units[&name].clone() };
        self.then([Change::Unit(name, Some(unit))])
    }

    /// What the engine would log.
    fn then(&mut self, changes: impl IntoIterator<Item = Change>) -> Vec<String> {
        changes.into_iter().for_each(|change| self.scheduler.apply(change));
        self.revision = self.revision.next();
        self.scheduler.advance(self.revision);
        let plan = self.scheduler.plan(self.now);
        for decision in &plan.decisions {
            self.revision = self.revision.next();
            decision.changes(self.revision).for_each(|change| self.scheduler.apply(change));
        }
        for decision in &plan.hosts {
            self.scheduler.apply(decision.change(self.revision));
        }
        self.scheduler.advance(self.revision);
        plan.decisions.iter().map(ToString::to_string).collect()
    }

    /// All hosts answer.
    fn answer(&mut self) -> Vec<String> {
        let schedule = self.scheduler.cluster().schedule.clone();
        let states = schedule.iter().flat_map(|(host, assignments)| {
            assignments.iter().map(|(name, assignment)| report(name, host, &assignment.value))
        });
        self.then(states.collect::<Vec<_>>())
    }

    fn settled(mut self) {
        self.answer();
        self.answer();
        assert_eq!(check(self.scheduler.cluster()), []);
        assert_eq!(self.scheduler.check_itself(0, &Default::default()), [""; 0]);
    }
}

#[test]
fn a_unit_comes_changes_and_goes() {
    let mut bench = Bench::new(2);
    assert_eq!(bench.submit(&[("a.service", "")]), ["a.service placed on n1 (00000001): the least loaded host"]);
    assert_eq!(bench.submit(&[("b.service", "")]), ["b.service placed on n2 (00000002): the least loaded host"]);
    assert_eq!(bench.desire("a.service", Desired::Loaded), ["a.service updated on n1 (00000001)"]);
    assert_eq!(
        bench.desire("a.service", Desired::Inactive),
        ["a.service leaves n1 (00000001): its desired state is inactive"]
    );
    // Wanted again before the host has answered: it waits for the answer.
    assert_eq!(bench.desire("a.service", Desired::Launched), [""; 0]);
    let name = "a.service".parse().unwrap();
    assert_eq!(explain(bench.scheduler.cluster(), &name).standing.to_string(), "waits for 00000001 to stop it");
    assert_eq!(bench.answer(), ["a.service comes back to n1 (00000001): stopped there; the least loaded host"]);
    assert_eq!(bench.then([Change::Unit(name, None)]), ["a.service leaves n1 (00000001): it was destroyed"]);
    assert_eq!(bench.answer(), ["a.service left n1 (00000001): stopped there"]);
    bench.settled();
}

/// The store has lost its data, and the hosts report what they still run.
#[test]
fn a_unit_goes_to_the_host_that_already_runs_it_if_it_fits_there() {
    let mut bench = Bench::new(3);
    let runs = |name: &str, at: u64| {
        let assignment = Assignment::new(UnitHash::new("0"), Target::Launched, Revision(1));
        report(&name.parse().unwrap(), &id(at), &assignment)
    };
    let reports = [("a", 3), ("b", 1), ("m", 2), ("n", 2), ("n", 3)];
    bench.then(reports.map(|(name, at)| runs(&format!("{name}.service"), at)));
    bench.then([runs("gone.service", 9)]);
    for (name, section, expected) in [
        ("a.service", "", "placed on n3 (00000003): it already runs there"),
        ("b.service", "MachineMetadata=zone=b", "placed on n2 (00000002): the least loaded host"),
        ("gone.service", "", "placed on n1 (00000001): the least loaded host"),
    ] {
        assert_eq!(bench.submit(&[(name, section)]), [format!("{name} {expected}")]);
    }
    // Of units that must be together, most run on n2.
    assert_eq!(
        bench.submit(&[("m.service", ""), ("n.service", "MachineOf=m.service")]),
        ["m.service", "n.service"].map(|name| format!("{name} placed on n2 (00000002): it already runs there"))
    );
}

#[test]
fn a_dead_hosts_units_move_at_once_and_a_chain_stays_together() {
    let mut bench = Bench::new(2);
    bench.submit(&[("x.service", ""), ("y.service", "")]);
    let chain = [("a.service", "MachineOf=m.service"), ("m.service", ""), ("z.service", "MachineOf=a.service")];
    assert_eq!(
        bench.submit(&chain),
        [
            "m.service placed on n1 (00000001): the least loaded host",
            "a.service placed on n1 (00000001): the least loaded host",
            "z.service placed on n1 (00000001): the least loaded host",
        ]
    );
    bench.host(3);
    // n2 and n3 both fit m, only n3 all of it.
    bench.submit(&[("w.service", "MachineMetadata=zone=b\nConflicts=z.service")]);
    assert_eq!(
        bench.then([Change::Machine(id(1), None)]),
        [
            "m.service moves from n1 (00000001) to n3 (00000003): the host is gone; the least loaded host",
            "a.service moves from n1 (00000001) to n3 (00000003): the host is gone; the least loaded host",
            "z.service moves from n1 (00000001) to n3 (00000003): the host is gone; the least loaded host",
            "x.service moves from n1 (00000001) to n2 (00000002): the host is gone; the least loaded host",
        ]
    );
    assert_eq!(
        bench.desire("m.service", Desired::Inactive),
        [
            "m.service leaves n3 (00000003): its desired state is inactive",
            "a.service leaves n3 (00000003): m.service isn't placed anywhere",
            "z.service leaves n3 (00000003): a.service isn't placed anywhere",
        ]
    );
    bench.settled();
}

#[test]
fn units_that_follow_each_other_are_placed_as_one() {
    let mut bench = Bench::new(1);
    let a = ("a.service", "MachineOf=b.service\nMachineMetadata=zone=b");
    assert_eq!(bench.submit(&[a]), ["a.service waits: for b.service to be placed"]);
    assert_eq!(
        bench.submit(&[("b.service", "MachineOf=a.service")]),
        ["a.service waits: 1 of 1 host: metadata", "b.service waits: 1 of 1 host: metadata"]
    );
    assert_eq!(
        bench.host(2),
        [
            "a.service placed on n2 (00000002): the least loaded host",
            "b.service placed on n2 (00000002): the least loaded host",
        ]
    );
    bench.settled();
}

#[test]
fn who_waits_is_told_why_and_gets_the_first_host_that_fits() {
    let mut bench = Bench::new(2);
    let web = |at: usize| format!("web@{at}.service");
    let units: Vec<String> = (1..4).map(web).collect();
    let units: Vec<(&str, &str)> = units.iter().map(|name| (name.as_str(), "Conflicts=%p@*")).collect();
    assert_eq!(bench.submit(&units)[0], "web@3.service waits: 2 of 2 hosts: conflict");
    let explanation = explain(bench.scheduler.cluster(), &"web@3.service".parse().unwrap()).to_string();
    assert_eq!(
        explanation,
        "web@3.service: can't run anywhere yet\n  \
         n1  conflicts with web@1.service, which runs there (Conflicts=web@*)\n  \
         n2  conflicts with web@2.service, which runs there (Conflicts=web@*)"
    );
    assert_eq!(bench.host(3), ["web@3.service placed on n3 (00000003): the least loaded host"]);
    bench.settled();
}

#[test]
fn reasons_are_renewed_when_hosts_join_leave_and_change() {
    let mut bench = Bench::new(1);
    let unit = [("a.service", "Conflicts=b.service\nMachineMetadata=zone=a"), ("b.service", "")];
    bench.submit(&[unit[1]]);
    assert_eq!(bench.submit(&[unit[0]]), ["a.service waits: 1 of 1 host: conflict"]);
    assert_eq!(bench.host(2), ["a.service waits: 1 of 2 hosts: metadata; 1 of 2 hosts: conflict"]);
    assert_eq!(bench.host(4), ["a.service waits: 2 of 3 hosts: metadata; 1 of 3 hosts: conflict"]);
    let zone = |at: u64, zone: &str| Change::Metadata(id(at), "zone".into(), Some(zone.into()));
    assert_eq!(bench.then([zone(1, "b")]), ["a.service waits: 3 of 3 hosts: metadata"]);
    assert_eq!(bench.then([Change::Machine(id(4), None)]), ["a.service waits: 2 of 2 hosts: metadata"]);
    bench.settled();
}

#[test]
fn a_host_that_reports_something_else_of_itself_is_looked_at_again() {
    let mut bench = Bench::new(1);
    let with = |kernel: &str| {
        let builtin = [("@kernel".to_owned(), kernel.to_owned())].into();
        Change::Machine(id(1), Some(Machine { builtin, ..Machine::new(id(1), "n1") }))
    };
    let unit = [("a.service", "MachineMetadata=@kernel=6.10")];
    assert_eq!(bench.submit(&unit), ["a.service waits: 1 of 1 host: metadata"]);
    assert_eq!(bench.then([with("6.10")]), ["a.service placed on n1 (00000001): the least loaded host"]);
    let leaves = "a.service leaves n1 (00000001): metadata @kernel is 6.12, wanted 6.10";
    assert_eq!(bench.then([with("6.12")]), [leaves]);
    assert_eq!(bench.answer(), ["a.service left n1 (00000001): stopped there; waits: 1 of 1 host: metadata"]);
    bench.settled();
}

#[test]
fn a_global_that_fits_no_host_counts_the_hosts_that_join() {
    let mut bench = Bench::new(2);
    let global = [("g.service", "Global=true\nMachineMetadata=zone=c")];
    assert_eq!(bench.submit(&global), ["g.service waits: 2 of 2 hosts: metadata"]);
    assert_eq!(bench.host(3), ["g.service waits: 3 of 3 hosts: metadata"]);
    bench.settled();
}

/// As versions wrote it that had only the sentence.
#[test]
fn a_placement_without_typed_reasons_gets_them() {
    let mut bench = Bench::new(1);
    bench.submit(&[("b.service", ""), ("a.service", "Conflicts=b.service")]);
    let name: UnitName = "b.service".parse().unwrap();
    let old: Placement = serde_json::from_str(r#"{"waiting":{"why":"1 of 1 host: conflict","since":3}}"#).unwrap();
    let old = Versioned { value: old, revision: Revision(1) };
    assert_eq!(bench.then([Change::Placement(name.clone(), Some(old))]), ["b.service waits: 1 of 1 host: conflict"]);
    let renewed = serde_json::to_string(&bench.scheduler.cluster().placements[&name].value).unwrap();
    let expected = r#"{"waiting":{"why":"1 of 1 host: conflict","reasons":{"conflicts":1},"since":3}}"#;
    assert_eq!(renewed, expected);
    bench.settled();
}

/// As a store may hold it from before there was a limit: 250 units with names of 200 characters, and one unit whose
/// thousands of patterns have to be compared with each of them.
#[test]
fn a_unit_with_too_many_patterns_harms_only_itself() {
    let mut bench = Bench::new(3);
    let names: Vec<String> = (0..250).map(|at| format!("{}{at:03}.service", "a".repeat(189))).collect();
    bench.submit(&names.iter().map(|name| (name.as_str(), "")).collect::<Vec<_>>());
    let patterns: String = (0..9_000).map(|at| format!("Conflicts=*a*a*a*a*a*b{at}x\n")).collect();
    let waits =
        "poison.service waits: for a file with fewer patterns: its Conflicts= and Replaces= cost too much to plan";
    assert_eq!(bench.submit(&[("poison.service", &patterns)]), [waits]);
    assert!(bench.scheduler.index.conflicts.is_empty());
    assert_eq!(bench.submit(&[("b.service", "")]), ["b.service placed on n2 (00000002): the least loaded host"]);
    let fixed = ["poison.service placed on n3 (00000003): the least loaded host"];
    assert_eq!(bench.submit(&[("poison.service", "Conflicts=*b0x")]), fixed);
    // It stays where it is when it gets too many again, and goes when it is destroyed.
    assert_eq!(bench.submit(&[("poison.service", &patterns)]), [""; 0]);
    let name: UnitName = "poison.service".parse().unwrap();
    assert_eq!(bench.then([Change::Unit(name, None)]), ["poison.service leaves n3 (00000003): it was destroyed"]);
    bench.settled();
}

#[test]
fn a_unit_that_is_left_out_is_planned_again_with_another_file() {
    let mut bench = Bench::new(1);
    bench.submit(&[("a.service", "Conflicts=x*")]);
    let cluster = bench.scheduler.cluster().clone();
    let name: UnitName = "a.service".parse().unwrap();
    let hash = cluster.units[&name].hash.clone();
    bench.scheduler = Scheduler::leaving_out(cluster, [(name, hash)].into());
    assert_eq!(bench.submit(&[("x.service", "")]), ["x.service placed on n1 (00000001): the least loaded host"]);
    // What it asks of x.service isn't heeded, and that is no bug.
    assert_eq!(always(bench.scheduler.cluster()).len(), 1);
    assert_eq!(bench.scheduler.check_itself(0, &Default::default()), [""; 0]);
    assert_eq!(bench.submit(&[("a.service", "Conflicts=y*")]), ["a.service updated on n1 (00000001)"]);
    bench.settled();
}

#[test]
fn the_replaced_leaves_and_the_replacer_stays() {
    let mut bench = Bench::new(1);
    bench.submit(&[("old.service", "")]);
    assert_eq!(
        bench.submit(&[("new.service", "Replaces=old.service")]),
        [
            "old.service leaves n1 (00000001): replaced by new.service, which runs there (Replaces=old.service)",
            "new.service placed on n1 (00000001): the least loaded host",
        ]
    );
    assert_eq!(bench.answer(), ["old.service left n1 (00000001): stopped there; waits: 1 of 1 host: replaced there"]);
    assert_eq!(bench.host(2), ["old.service placed on n2 (00000002): the least loaded host"]);
    bench.settled();
}

#[test]
fn globals_are_everywhere_they_fit_after_the_others() {
    let mut bench = Bench::new(2);
    assert_eq!(
        bench.submit(&[("g.service", "Global=true\nConflicts=solo.service"), ("solo.service", "")]),
        [
            "solo.service placed on n1 (00000001): the least loaded host",
            "g.service placed on n2 (00000002): the least loaded host",
        ]
    );
    assert_eq!(bench.host(3), ["g.service placed on n3 (00000003): the least loaded host"]);
    assert_eq!(bench.then([Change::Machine(id(2), None)]), ["g.service left n2 (00000002): the host is gone"]);
    assert_eq!(
        bench.submit(&[("g.service", "Global=true\nMachineMetadata=zone=c")]),
        ["g.service leaves n3 (00000003): metadata zone is a, wanted c"]
    );
    assert_eq!(
        bench.answer(),
        ["g.service left n3 (00000003): stopped there", "g.service waits: 2 of 2 hosts: metadata"]
    );
    bench.settled();
}

#[test]
fn a_store_that_contradicts_itself_is_repaired() {
    let mut bench = Bench::new(2);
    bench.submit(&[("a.service", "")]);
    let assignment = bench.scheduler.cluster().schedule[&id(1)].values().next().cloned();
    let name: UnitName = "a.service".parse().unwrap();
    assert_eq!(
        bench.then([Change::Assignment(id(2), name.clone(), assignment)]),
        ["a.service leaves n2 (00000002): its placement says otherwise"]
    );
    bench.answer();
    assert_eq!(
        bench.then([Change::Placement(name.clone(), None)]),
        ["a.service leaves n1 (00000001): its placement says otherwise"]
    );
    bench.answer();
    assert_eq!(
        bench.then([Change::Assignment(id(1), name, None)]),
        ["a.service placed on n1 (00000001): the least loaded host"]
    );
    bench.settled();
}

#[test]
fn what_a_unit_waits_for_is_told_in_a_line() {
    let mut bench = Bench::new(1);
    let section = (10..500).map(|at| format!("MachineOf=u{at}.service")).collect::<Vec<_>>().join("\n");
    let waits = "a.service waits: for u10.service and u100.service and u101.service and u102.service and u103.service \
        and 485 more to be placed";
    assert_eq!(bench.submit(&[("a.service", &section)]), [waits]);
}

#[test]
fn a_unit_waits_silently_for_its_file_and_files_go_with_their_last_use() {
    let mut bench = Bench::new(1);
    bench.submit(&[("a.service", "")]);
    let (hash, file) = bench.scheduler.cluster().files.first_key_value().map(|(h, f)| (h.clone(), f.clone())).unwrap();
    let name: UnitName = "b.service".parse().unwrap();
    let other = UnitHash::new("other");
    let unit = Unit::new(Desired::Launched, other.clone(), Revision(9));
    assert_eq!(bench.then([Change::Unit(name.clone(), Some(unit))]), [""; 0]);
    assert_eq!(
        bench.then([Change::File(other.clone(), Some(file))]),
        ["b.service placed on n1 (00000001): the least loaded host"]
    );
    bench.then([Change::Unit(name, None)]);
    assert!(bench.scheduler.cluster().files.contains_key(&other), "its host still has it");
    bench.answer();
    assert!(!bench.scheduler.cluster().files.contains_key(&other));
    assert!(bench.scheduler.cluster().files.contains_key(&hash));
    bench.settled();
}

/// The templates in the assignments of a.service, as `host: template`, and the assignments' generation.
fn brought(bench: &Bench) -> (Vec<String>, Revision) {
    let name: UnitName = "a.service".parse().unwrap();
    let schedule = &bench.scheduler.cluster().schedule;
    let (host, assignment) = schedule.iter().find_map(|(host, units)| Some((host, units.get(&name)?))).unwrap();
    let hash = |template: &UnitName| &bench.scheduler.cluster().units[template].hash;
    let templates = assignment.value.templates.iter();
    let templates = templates.inspect(|(template, carried)| assert_eq!(*carried, hash(template)));
    (templates.map(|(template, _)| format!("{}: {template}", host.short())).collect(), assignment.value.generation)
}

#[test]
fn a_unit_brings_the_templates_whose_instances_it_names() {
    let mut bench = Bench::new(2);
    bench.submit(&[("a.service", "[Unit]\nWants=w@1.service")]);
    let (none, generation) = brought(&bench);
    assert!(none.is_empty(), "there is no such template yet: {none:?}");
    let updated = ["a.service updated on n1 (00000001)"];
    assert_eq!(bench.submit(&[("w@.service", "[Unit]\nWants=%p-%i@x.service v@%i.service")]), updated);
    assert_eq!(brought(&bench), (vec!["00000001: w@.service".into()], generation));
    // Another file of the template, and a template that it names itself.
    assert_eq!(bench.submit(&[("w@.service", "[Unit]\nWants=v@%i.service")]), updated);
    assert_eq!(bench.submit(&[("v@.service", "")]), updated);
    assert_eq!(brought(&bench), (vec!["00000001: v@.service".into(), "00000001: w@.service".into()], generation));
    // The instance is a unit of its own: it is placed by itself, and must not run here as well.
    assert_eq!(
        bench.submit(&[("w@1.service", "MachineMetadata=zone=b")]),
        ["a.service updated on n1 (00000001)", "w@1.service placed on n2 (00000002): the least loaded host"]
    );
    assert_eq!(brought(&bench), (Vec::new(), generation));
    bench.then([Change::Unit("w@1.service".parse().unwrap(), None)]);
    assert_eq!(brought(&bench).0.len(), 2);
    assert_eq!(bench.then([Change::Unit("w@.service".parse().unwrap(), None)]), updated);
    assert_eq!(brought(&bench), (Vec::new(), generation));
    bench.settled();
}

#[test]
fn a_text_is_collected_when_neither_a_unit_nor_an_assignment_nor_a_history_has_it() {
    const WEEK: u64 = 604_800_000;
    let mut bench = Bench::new(1);
    bench.submit(&[("a.service", "")]);
    let name: UnitName = "a.service".parse().unwrap();
    let (unit, text) = (bench.scheduler.cluster().units[&name].clone(), UnitHash::new("text"));
    let constraints = bench.scheduler.cluster().files[&unit.hash].clone();
    let with_text = Unit { text: Some(text.clone()), ..unit.clone() };
    // Another comment: the host is told, and no generation changes.
    let changes = [Change::File(text.clone(), Some(constraints)), Change::Unit(name.clone(), Some(with_text))];
    assert_eq!(bench.then(changes), ["a.service updated on n1 (00000001)"]);
    let assigned = |bench: &Bench| bench.scheduler.cluster().schedule[&id(1)][&name].value.clone();
    assert_eq!((assigned(&bench).text, assigned(&bench).generation), (Some(text.clone()), unit.generation));
    // It is destroyed, and its host has stopped it.
    let kept = KeptTexts { keys: vec![text.clone()], gone: Some(1000) };
    let history = Change::History(name.clone(), Some(Versioned { value: kept, revision: Revision(90) }));
    bench.then([Change::Unit(name.clone(), None), history]);
    bench.answer();
    let has = |bench: &Bench, key: &UnitHash| bench.scheduler.cluster().files.contains_key(key);
    assert!(has(&bench, &text) && !has(&bench, &unit.hash));
    bench.scheduler.expire(1000 + WEEK - 1);
    assert!(!bench.scheduler.is_dirty());
    bench.scheduler.expire(1000 + WEEK);
    let plan = bench.scheduler.plan(1000 + WEEK);
    assert_eq!(plan.histories, [(name, Revision(90))]);
    assert_eq!(plan.files.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>(), [text]);
    bench.settled();
}
