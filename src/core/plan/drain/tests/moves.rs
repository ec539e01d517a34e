//! Who moves because a person asked for it, who waits for it and who stays.

use super::*;
use crate::model::unit::Move;
use crate::plan::drain::moves::Moving;

/// Ask that a unit moves, to the n-th host or anywhere else.
fn ask(bench: &mut Bench, unit: &str, to: Option<u64>, force: bool) {
    let record = bench.scheduler.cluster().units[&name(unit)].clone();
    let from = bench.scheduler.cluster().placed_on(&name(unit)).unwrap().clone();
    bench.revision = bench.revision.next();
    let moves = Move { generation: bench.revision, from, to: to.map(id), force, by: None };
    bench.scheduler.apply(Change::Unit(name(unit), Some(Unit { moves: Some(Box::new(moves)), ..record })));
}

fn moving(bench: &Bench, unit: &str) -> Option<Verdict> {
    let moving: Moving = look(&bench.scheduler, &bench.timers, bench.now).moving.remove(&name(unit))?;
    Some(moving.verdict)
}

fn why(bench: &Bench, unit: &str) -> Option<String> {
    bench.scheduler.cluster().placements[&name(unit)].value.moved()?.why.clone()
}

/// One host with these units, and then two more without any.
fn three(units: &[(&str, &str)]) -> Bench {
    let mut bench = Bench::new(1);
    bench.start(units);
    for at in [2, 3] {
        let metadata = (at == 3).then(|| ("role".to_owned(), "x".to_owned())).into_iter().collect();
        let machine = Machine { metadata, ..Machine::new(id(at), format!("n{at}")) };
        bench.scheduler.apply(Change::Machine(id(at), Some(machine)));
    }
    bench.settle();
    bench
}

fn is_at_rest(bench: &Bench) {
    assert!(!is_under_way(&bench.scheduler));
    assert_eq!(bench.scheduler.check_itself(bench.now, &Default::default()), [""; 0]);
}

#[test]
fn a_unit_moves_once_to_where_it_is_asked_to() {
    let mut bench = three(&[("a.service", ""), ("b.service", "")]);
    ask(&mut bench, "a.service", Some(3), false);
    let leaves = bench.step();
    assert_eq!(leaves, ["a.service leaves n1 (00000001): it was asked to move, and fits n3 (00000003)"]);
    assert_eq!(moving(&bench, "a.service"), Some(Verdict::Leaving));
    assert_eq!(bench.on(3), [""; 0], "it stops here before it starts there");
    bench.settle();
    assert_eq!((bench.on(1), bench.on(3)), (vec!["b.service".to_owned()], vec!["a.service".to_owned()]));
    is_at_rest(&bench);
    // Back by another way, it isn't moved again.
    bench.drain(3, drain(|_| ()));
    bench.drain(2, drain(|_| ()));
    bench.settle();
    bench.drain(3, None);
    bench.settle();
    assert_eq!(bench.on(1), ["a.service", "b.service"]);
    is_at_rest(&bench);
}

#[test]
fn without_a_host_it_goes_to_the_best_of_the_others() {
    let mut bench = three(&[("a.service", "")]);
    bench.start(&[("x.service", "MachineID=00000002")]);
    ask(&mut bench, "a.service", None, false);
    bench.settle();
    assert_eq!((bench.on(1), bench.on(3)), (Vec::new(), vec!["a.service".to_owned()]));
    is_at_rest(&bench);
}

#[test]
fn a_group_moves_whole_or_not_at_all() {
    let units = [("a.service", ""), ("b.service", "MachineOf=a.service"), ("c.service", "MachineOf=b.service")];
    let mut bench = three(&units);
    ask(&mut bench, "c.service", Some(2), false);
    bench.settle();
    assert_eq!(bench.on(2), ["a.service", "b.service", "c.service"]);
    is_at_rest(&bench);
    bench.start(&[("x.service", "MachineMetadata=role=x\nConflicts=b.service")]);
    ask(&mut bench, "a.service", Some(3), false);
    assert_eq!(bench.step(), [""; 0]);
    let said =
        "doesn't fit n3: b.service: conflicts with x.service, which runs there (Conflicts=b.service of its file)";
    assert_eq!(why(&bench, "a.service").as_deref(), Some(said));
    bench.settle();
    assert_eq!(bench.on(2).len(), 3);
    is_at_rest(&bench);
}

/// What fits later isn't moved, unless somebody asks again.
#[test]
fn a_move_that_does_not_fit_any_more_is_dropped() {
    let mut bench = three(&[("a.service", "Port=80")]);
    bench.start(&[("x.service", "MachineID=00000002\nPort=80")]);
    ask(&mut bench, "a.service", Some(2), false);
    assert_eq!(bench.step(), [""; 0]);
    assert_eq!(why(&bench, "a.service").unwrap(), "doesn't fit n2: port 80 is that of x.service, which runs there");
    is_at_rest(&bench);
    bench.scheduler.apply(Change::Unit(name("x.service"), None));
    bench.settle();
    assert_eq!((bench.on(1), bench.on(2)), (vec!["a.service".to_owned()], Vec::new()));
    ask(&mut bench, "a.service", Some(2), false);
    bench.settle();
    assert_eq!(bench.on(2), ["a.service"]);
    is_at_rest(&bench);
}

/// Of two that need the same place, one gets it, and the other one isn't stopped in vain.
#[test]
fn a_place_that_another_one_is_about_to_take_is_none() {
    let mut bench = three(&[("a.service", "Port=80")]);
    bench.start(&[("b.service", "Port=80"), ("c.service", "Port=80")]);
    bench.drain(1, drain(|_| ()));
    bench.settle();
    assert_eq!(bench.on(1), ["a.service"], "the other hosts are taken");
    bench.drain(1, None);
    bench.scheduler.apply(Change::Machine(id(4), Some(Machine::new(id(4), "n4"))));
    bench.settle();
    for unit in ["a.service", "b.service"] {
        ask(&mut bench, unit, Some(4), false);
    }
    assert_eq!(bench.step().len(), 1);
    assert_eq!(why(&bench, "b.service").unwrap(), "doesn't fit n4: others that are on their way go there");
    bench.settle();
    assert_eq!(bench.on(4), ["a.service"]);
    is_at_rest(&bench);
}

#[test]
fn members_of_a_set_that_move_draw_on_the_budget_of_drains() {
    let mut bench = three(&[("w@.service", "Replicas=3")]);
    let members = ["w@1.service", "w@2.service", "w@3.service"];
    bench.start(&members.map(|unit| (unit, "Replicas=3")));
    assert_eq!([1, 2, 3].map(|at| bench.on(at).len()), [1, 1, 1]);
    bench.scheduler.apply(Change::Machine(id(4), Some(Machine::new(id(4), "n4"))));
    bench.settle();
    let there = name(&bench.on(2)[0]);
    bench.drain(1, drain(|_| ()));
    assert_eq!(bench.step().len(), 1);
    ask(&mut bench, there.as_str(), Some(4), false);
    assert!(matches!(moving(&bench, there.as_str()), Some(Verdict::Waits(Wait::Set { parallel: 1, .. }))));
    assert_eq!(bench.step(), [""; 0], "one member is on its way");
    bench.settle();
    assert_eq!((bench.on(1).len(), bench.on(2).len()), (0, 0));
    assert!(bench.on(4).contains(&there.to_string()));
    is_at_rest(&bench);
}

#[test]
fn ten_of_the_others_move_at_once() {
    let units: Vec<String> = (10..22).map(|at| format!("u{at}.service")).collect();
    let mut bench = three(&units.iter().map(|unit| (unit.as_str(), "")).collect::<Vec<_>>());
    units.iter().for_each(|unit| ask(&mut bench, unit, Some(2), false));
    assert_eq!(bench.step().len(), 10);
    assert_eq!(moving(&bench, "u21.service"), Some(Verdict::Waits(Wait::Moves(10))));
    // Another leader, which hasn't seen who left.
    bench.timers = Timers::default();
    assert_eq!(bench.step(), [""; 0]);
    bench.settle();
    assert_eq!(bench.on(2).len(), 12);
    is_at_rest(&bench);
}

#[test]
fn a_unit_that_belongs_to_its_host_moves_where_it_is_sent() {
    let mut bench = three(&[("db.service", "MoveAfterSec=infinity"), ("app.service", "MachineOf=db.service")]);
    ask(&mut bench, "app.service", None, false);
    bench.settle();
    let said = "db.service belongs to n1 (MoveAfterSec=infinity): name the host to move to, or use --force";
    assert_eq!((why(&bench, "app.service").as_deref(), bench.on(1).len()), (Some(said), 2));
    is_at_rest(&bench);
    ask(&mut bench, "db.service", Some(3), false);
    bench.settle();
    assert_eq!(bench.on(3), ["app.service", "db.service"]);
    is_at_rest(&bench);
    bench.drain(3, drain(|_| ()));
    bench.settle();
    assert_eq!(bench.on(3).len(), 2, "it belongs to that host now");
    ask(&mut bench, "db.service", None, true);
    bench.settle();
    assert_eq!(bench.on(3), [""; 0]);
    is_at_rest(&bench);
}

#[test]
fn a_unit_whose_host_is_away_moves_only_if_that_is_forced() {
    let mut bench = three(&[("db.service", "MoveAfterSec=infinity")]);
    let known = crate::model::machine::KnownHost {
        hostname: "n1".into(),
        ip: String::new(),
        version: String::new(),
        gone: None,
    };
    let known = Versioned { value: known, revision: Revision(1) };
    bench.scheduler.apply(Change::Roster(id(1), Some(known)));
    let machine = bench.scheduler.cluster().machines[&id(1)].clone();
    let report = |bench: &mut Bench, report| {
        bench.scheduler.apply(Change::Report(name("db.service"), id(1), ReportKeyForm::HostFirst, report));
    };
    let stored = bench.scheduler.cluster().states[&name("db.service")].get(&id(1)).unwrap().value.clone();
    report(&mut bench, None);
    bench.scheduler.apply(Change::Machine(id(1), None));
    bench.settle();
    assert_eq!(bench.on(1), ["db.service"], "it waits for its host");
    ask(&mut bench, "db.service", Some(2), false);
    assert_eq!(bench.step(), [""; 0]);
    assert_eq!(moving(&bench, "db.service"), Some(Verdict::Waits(Wait::Away)));
    ask(&mut bench, "db.service", Some(2), true);
    bench.step();
    bench.settle();
    assert_eq!((bench.on(1), bench.on(2)), (Vec::new(), vec!["db.service".to_owned()]));
    // The host was only cut off. It is told nothing of the unit, so it stops it.
    bench.scheduler.apply(Change::Machine(id(1), Some(machine)));
    report(&mut bench, Some(Versioned { value: stored, revision: Revision::default() }));
    bench.settle();
    assert_eq!((bench.on(1), bench.on(2)), (Vec::new(), vec!["db.service".to_owned()]));
    is_at_rest(&bench);
}

/// Something else was asked of it since, or it is on another host by now.
#[test]
fn a_stale_request_is_not_carried_out() {
    let mut bench = three(&[("a.service", "")]);
    bench.drain(3, drain(|_| ()));
    ask(&mut bench, "a.service", Some(3), false);
    let record = bench.scheduler.cluster().units[&name("a.service")].clone();
    bench.drain(1, drain(|_| ()));
    bench.settle();
    assert_eq!(bench.on(2), ["a.service"], "the host that it is asked to move to takes no units");
    // As a leader writes it that knows nothing of moves.
    let value = Placement::On { host: id(2), since: 0, from: None, tried: None, moved: None };
    let value = Some(Versioned { value, revision: bench.revision });
    bench.scheduler.apply(Change::Placement(name("a.service"), value));
    bench.drain(1, None);
    bench.drain(3, None);
    bench.scheduler.apply(Change::Unit(name("a.service"), Some(record)));
    bench.settle();
    assert_eq!(bench.on(2), ["a.service"]);
    is_at_rest(&bench);
}
