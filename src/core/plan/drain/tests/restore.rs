//! Who returns after a drain, who waits for it and who stays away.

use super::*;
use crate::model::maintenance::Restore;

/// Undrain the n-th host, and bring back what the drain of generation 7 took.
fn restore(bench: &mut Bench, at: u64, generation: u64, parallel: u32) {
    let restore = Restore { generation: Revision(generation), drain: Revision(7), parallel, by: None };
    bench.ask(at, Maintenance { restore: Some(Box::new(restore)), ..Maintenance::default() });
}

/// A host, whose units went to another one, and may return.
fn drained(units: &[(&str, &str)]) -> Bench {
    let mut bench = Bench::new(1);
    // Records are newer than what is asked of hosts in these tests.
    bench.revision = Revision(100);
    bench.start(units);
    let (machine, metadata) = (Machine::new(id(2), "n2"), [("zone".to_owned(), "b".to_owned())].into());
    bench.scheduler.apply(Change::Machine(id(2), Some(Machine { metadata, ..machine })));
    bench.settle();
    bench.drain(1, drain(|_| ()));
    bench.settle();
    assert_eq!(bench.on(1), [""; 0]);
    bench
}

fn returning(bench: &Bench, unit: &str) -> Option<Verdict> {
    look(&bench.scheduler, &bench.timers, bench.now).returning.get(&id(1))?.get(unit).cloned()
}

#[test]
fn what_a_drain_took_returns_and_nothing_else() {
    let mut bench = drained(&[("a.service", ""), ("b.service", ""), ("c.service", "MachineOf=b.service")]);
    bench.start(&[("n.service", "MachineMetadata=zone=b")]);
    // Somebody asks for something else of it.
    let unit = bench.scheduler.cluster().units[&name("a.service")].clone();
    let generation = bench.revision.next();
    bench.scheduler.apply(Change::Unit(name("a.service"), Some(Unit { generation, ..unit })));
    bench.settle();
    bench.drain(1, None);
    bench.settle();
    assert_eq!(bench.on(1), [""; 0], "nothing was asked");
    bench.drain(1, drain(|_| ()));
    bench.settle();
    restore(&mut bench, 1, 200, 10);
    assert_eq!(returning(&bench, "a.service"), None);
    assert_eq!(returning(&bench, "c.service"), Some(Verdict::Leaves));
    let leaves = bench.step();
    let why = "it returns to the host that a drain took it from";
    assert_eq!(leaves, ["b.service", "c.service"].map(|unit| format!("{unit} leaves n2 (00000002): {why}")));
    bench.settle();
    assert_eq!(
        (bench.on(1), bench.on(2)),
        (["b.service", "c.service"].map(String::from).to_vec(), ["a.service", "n.service"].map(String::from).to_vec(),)
    );
    assert!(!is_under_way(&bench.scheduler));
    assert_eq!(bench.scheduler.check_itself(bench.now, &Default::default()), [""; 0]);
}

/// What stays isn't brought back later, when it would fit, unless somebody asks again.
#[test]
fn who_does_not_fit_any_more_stays_for_good() {
    let mut bench = drained(&[("a.service", "Conflicts=n.service"), ("b.service", "")]);
    bench.start(&[("n.service", "MachineMetadata=zone=a")]);
    restore(&mut bench, 1, 200, 10);
    // The one that waits for the host comes first, although it isn't there yet.
    assert_eq!(bench.step(), [""; 0]);
    bench.settle();
    assert_eq!(
        (bench.on(1), bench.on(2)),
        (vec!["b.service".into(), "n.service".into()], vec!["a.service".to_owned()])
    );
    assert_eq!(returning(&bench, "a.service"), Some(Verdict::Stays(vec![name("a.service")])));
    assert!(!is_under_way(&bench.scheduler));
    bench.scheduler.apply(Change::Unit(name("n.service"), None));
    bench.settle();
    assert_eq!(bench.on(2), ["a.service"], "nobody has asked again");
    restore(&mut bench, 1, 201, 10);
    bench.settle();
    assert_eq!(bench.on(1), ["a.service", "b.service"]);
    assert_eq!(bench.scheduler.check_itself(bench.now, &Default::default()), [""; 0]);
}

#[test]
fn so_many_return_at_a_time() {
    let mut bench = drained(&[("a.service", ""), ("b.service", ""), ("c.service", "")]);
    restore(&mut bench, 1, 200, 2);
    assert_eq!(bench.step().len(), 2);
    assert_eq!(returning(&bench, "a.service"), Some(Verdict::Leaving));
    assert_eq!(returning(&bench, "c.service"), Some(Verdict::Waits(Wait::Parallel(2))));
    bench.carry_out("active");
    assert_eq!(bench.step(), [""; 0], "they are on their way until they are up");
    bench.carry_out("active");
    assert_eq!(bench.step().len(), 1);
    bench.settle();
    assert_eq!(bench.on(1).len(), 3);
}

#[test]
fn members_of_a_set_return_one_after_another() {
    let members = ["w@1.service", "w@2.service", "w@3.service"].map(|unit| (unit, "Replicas=3"));
    let mut bench = drained(&[&[("w@.service", "Replicas=3")][..], &members].concat());
    restore(&mut bench, 1, 200, 10);
    assert_eq!(bench.step().len(), 1);
    assert_eq!(bench.step(), [""; 0]);
    assert!(matches!(returning(&bench, "w@2.service"), Some(Verdict::Waits(Wait::Set { parallel: 1, .. }))));
    bench.carry_out("active");
    assert_eq!(bench.step(), [""; 0], "it is placed");
    bench.carry_out("activating");
    assert_eq!(bench.step(), [""; 0], "it isn't up yet");
    bench.now += 24 * 3_600_000;
    assert_eq!(bench.step(), [""; 0], "there is no deadline");
    for _ in 0..30 {
        bench.settle();
        let reports = bench.scheduler.cluster().clone();
        for unit in ["w@1.service", "w@2.service", "w@3.service"].map(name) {
            let Some(home) = reports.placed_on(&unit) else { continue };
            let Some(report) = reports.report(&unit, home) else { continue };
            let value = UnitReport { active: "active".into(), ..report.clone() };
            let report = Some(Versioned { value, revision: Revision::default() });
            bench.scheduler.apply(Change::Report(unit, home.clone(), ReportKeyForm::HostFirst, report));
        }
    }
    assert_eq!(bench.on(1).len(), 3);
}

#[test]
fn a_group_returns_whole_or_not_at_all() {
    let mut bench = drained(&[("a.service", ""), ("b.service", "MachineOf=a.service"), ("d.service", "")]);
    // New ones: one that follows a unit which returns, and one that is followed by it.
    bench.start(&[("c.service", "MachineOf=a.service")]);
    restore(&mut bench, 1, 200, 10);
    assert_eq!(returning(&bench, "c.service"), Some(Verdict::Leaves), "it comes along");
    bench.settle();
    assert_eq!(bench.on(1), ["a.service", "b.service", "c.service", "d.service"]);
    bench.drain(1, drain(|_| ()));
    bench.settle();
    bench.start(&[("n.service", "MachineMetadata=zone=a\nConflicts=b.service")]);
    restore(&mut bench, 1, 200, 10);
    bench.settle();
    assert_eq!(bench.on(1), ["d.service", "n.service"]);
    let group = ["a.service", "b.service", "c.service"].map(name).to_vec();
    assert!(matches!(returning(&bench, "a.service"), Some(Verdict::Stays(_))), "{group:?}");
    assert_eq!(bench.scheduler.check_itself(bench.now, &Default::default()), [""; 0]);
}

#[test]
fn a_host_that_is_away_gets_its_units_when_it_is_back() {
    let mut bench = drained(&[("a.service", "")]);
    let machine = bench.scheduler.cluster().machines[&id(1)].clone();
    bench.scheduler.apply(Change::Machine(id(1), None));
    restore(&mut bench, 1, 200, 10);
    bench.settle();
    assert_eq!(returning(&bench, "a.service"), Some(Verdict::Waits(Wait::Away)));
    bench.scheduler.apply(Change::Machine(id(1), Some(machine)));
    bench.settle();
    assert_eq!(bench.on(1), ["a.service"]);
}

/// It may still run there: when it is started elsewhere is up to its `MoveAfterSec=`, and to the grace period.
#[test]
fn a_unit_does_not_return_from_a_host_that_is_away() {
    let mut bench = drained(&[("a.service", "MoveAfterSec=1h")]);
    let machine = bench.scheduler.cluster().machines[&id(2)].clone();
    bench.scheduler.apply(Change::Machine(id(2), None));
    restore(&mut bench, 1, 200, 10);
    assert_eq!(returning(&bench, "a.service"), Some(Verdict::Waits(Wait::Away)));
    assert_eq!(bench.step(), [""; 0]);
    bench.scheduler.apply(Change::Machine(id(2), Some(machine)));
    bench.settle();
    assert_eq!(bench.on(1), ["a.service"]);
}

/// The leader has told them to leave, and they have yet to stop when the host is undrained.
#[test]
fn what_is_on_its_way_when_the_host_is_undrained_returns_too() {
    let mut bench = Bench::new(1);
    bench.start(&[("a.service", "")]);
    bench.scheduler.apply(Change::Machine(id(2), Some(Machine::new(id(2), "n2"))));
    bench.settle();
    bench.drain(1, drain(|_| ()));
    assert_eq!(bench.step().len(), 1);
    restore(&mut bench, 1, 1_000, 10);
    bench.settle();
    assert_eq!(bench.on(1), ["a.service"]);
    assert_eq!(bench.scheduler.cluster().placements[&name("a.service")].value.taken(), None);
}
