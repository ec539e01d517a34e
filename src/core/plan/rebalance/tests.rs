//! What moves, what stays, and that it comes to an end, in small clusters.

use super::*;
use crate::model::cluster::{Change, Versioned};
use crate::model::machine::{BUILT_IN, Machine};
use crate::model::settings::Settings;
use crate::model::unit::{Desired, Move, Unit};
use crate::plan::drain::tests::{Bench, drain, id, name};

/// So many hosts with these units, and then so many more.
fn bench(hosts: u64, units: &[(&str, &str)], more: u64) -> Bench {
    let mut bench = Bench::new(hosts);
    units.iter().for_each(|unit| bench.start(&[*unit]));
    (hosts + 1..=hosts + more).for_each(|at| join(&mut bench, at, &[]));
    bench
}

/// A host joins, with this metadata.
fn join(bench: &mut Bench, at: u64, metadata: &[(&str, &str)]) {
    let zone = if at % 2 == 1 { "a" } else { "b" };
    let pairs = [("zone", zone)].into_iter().chain(metadata.iter().copied());
    let (builtin, metadata): (Vec<_>, Vec<_>) =
        pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).partition(|(key, _)| key.starts_with(BUILT_IN));
    let (builtin, metadata) = (builtin.into_iter().collect(), metadata.into_iter().collect());
    let machine = Machine { metadata, builtin, ..Machine::new(id(at), format!("n{at}")) };
    bench.scheduler.apply(Change::Machine(id(at), Some(machine)));
    bench.settle();
}

fn plan(bench: &Bench) -> Vec<String> {
    shown(&rebalance(&bench.scheduler, &[], usize::MAX, &|| false).moves, bench)
}

fn shown(moves: &[Relocation], bench: &Bench) -> Vec<String> {
    let name = |host: &MachineId| bench.scheduler.cluster().hostname(host).unwrap_or_default().to_owned();
    let one = |it: &Relocation| {
        let group: Vec<&str> = it.group.iter().map(UnitName::as_str).collect();
        format!("{} {} -> {}: {}", group.join(" "), name(&it.from), name(&it.to), it.gain)
    };
    moves.iter().map(one).collect()
}

/// Ask for these moves, of which each fits by itself.
fn ask(bench: &mut Bench, moves: &[Relocation]) {
    for Relocation { group, from, to, .. } in moves {
        bench.revision = bench.revision.next();
        let asked =
            Move { generation: bench.revision, from: from.clone(), to: Some(to.clone()), force: false, by: None };
        let record = bench.scheduler.cluster().units[&group[0]].clone();
        let record = Unit { moves: Some(Box::new(asked)), ..record };
        bench.scheduler.apply(Change::Unit(group[0].clone(), Some(record)));
    }
}

/// Carry out all moves: a second look finds none, and each unit is where it was to go.
fn carry_out(bench: &mut Bench) {
    let Rebalance { moves, all, ended_early, hosts } = rebalance(&bench.scheduler, &[], usize::MAX, &|| false);
    assert_eq!((moves.len(), ended_early), (all, false));
    ask(bench, &moves);
    assert_eq!(plan(bench), [""; 0], "what was asked is as if it had been done");
    bench.settle();
    for it in &moves {
        assert!(it.group.iter().all(|unit| bench.scheduler.cluster().placed_on(unit) == Some(&it.to)), "{it:?}");
    }
    for (host, (_, then)) in hosts {
        assert_eq!(bench.scheduler.load(&host).units, then);
    }
    assert_eq!(plan(bench), [""; 0]);
    assert_eq!(bench.scheduler.check_itself(bench.now, &Default::default()), [""; 0]);
}

const PLAIN: [(&str, &str); 7] = [
    ("a.service", ""),
    ("b.service", ""),
    ("c.service", ""),
    ("d.service", ""),
    ("e.service", ""),
    ("f.service", ""),
    ("g.service", ""),
];

#[test]
fn an_empty_host_gets_units_until_the_difference_is_less_than_two() {
    let mut bench = bench(2, &PLAIN, 1);
    let moves = ["a.service n1 -> n3: units 1 < 4", "c.service n1 -> n3: units 2 < 3"];
    assert_eq!(plan(&bench), moves);
    let first = rebalance(&bench.scheduler, &[], 1, &|| false);
    assert_eq!((shown(&first.moves, &bench), first.all), (vec![moves[0].to_owned()], 2));
    assert_eq!(first.hosts.into_values().collect::<Vec<_>>(), [(4, 3), (3, 3), (0, 1)]);
    carry_out(&mut bench);
    assert_eq!([1, 2, 3].map(|at| bench.on(at).len()), [2, 3, 2]);
}

/// What was found until then is moved, and that there may be more is said.
#[test]
fn a_search_that_has_to_end_has_the_first_moves() {
    let bench = bench(2, &PLAIN, 1);
    let asked = std::cell::Cell::new(0);
    let twice = || asked.replace(asked.get() + 1) > 0;
    let Rebalance { moves, all, ended_early, .. } = rebalance(&bench.scheduler, &[], 9, &twice);
    assert_eq!((shown(&moves, &bench), all), (vec!["a.service n1 -> n3: units 1 < 4".to_owned()], 1));
    assert!(ended_early);
}

#[test]
fn only_units_that_match_move() {
    let bench = bench(2, &PLAIN, 1);
    let only = |glob: &str| shown(&rebalance(&bench.scheduler, &[glob.parse().unwrap()], 9, &|| false).moves, &bench);
    assert_eq!(only("c.*"), ["c.service n1 -> n3: units 1 < 4"]);
    assert_eq!(only("x*"), [""; 0]);
}

#[test]
fn members_of_a_set_are_spread_again_and_what_they_prefer_comes_before_the_load() {
    let set: Vec<(&str, &str)> = vec![("w@.service", "Replicas=3\nSpread=zone"), ("x.service", "MachineID=00000002")];
    let mut bench = bench(1, &[], 0);
    join(&mut bench, 3, &[]);
    bench.start(&set[..1]);
    for member in ["w@1.service", "w@2.service", "w@3.service"] {
        bench.start(&[(member, "Replicas=3\nSpread=zone")]);
    }
    assert_eq!((bench.on(1).len(), bench.on(3).len()), (2, 1), "both are in zone a");
    join(&mut bench, 2, &[]);
    bench.start(&set[1..]);
    assert_eq!(plan(&bench), ["w@1.service n1 -> n2: spread zone b 0 < a 2"]);
    carry_out(&mut bench);
    assert_eq!(bench.on(2), ["w@1.service", "x.service"]);
}

#[test]
fn a_preference_that_became_possible_is_a_reason() {
    let mut bench = bench(1, &[("a.service", "MachinePrefers=disk=ssd"), ("b.service", "Avoids=a.*")], 0);
    join(&mut bench, 2, &[("disk", "ssd")]);
    assert_eq!(plan(&bench), ["a.service n1 -> n2: prefers disk=ssd"], "then nothing is beside b.service");
    carry_out(&mut bench);
    let mut bench = Bench::new(1);
    bench.start(&[("a.service", ""), ("b.service", "Avoids=a.*")]);
    join(&mut bench, 2, &[]);
    assert_eq!(plan(&bench), ["b.service n1 -> n2: avoided units 0 < 1"]);
    carry_out(&mut bench);
}

#[test]
fn units_that_are_tied_move_together() {
    let stays = "MachineID=00000001";
    let units = [("z.service", ""), ("a.service", "MachineOf=z.service"), ("b.service", stays), ("c.service", stays)];
    let mut bench = bench(1, &units, 1);
    assert_eq!(plan(&bench), ["z.service a.service n1 -> n2: units 2 < 4"], "the first one leads");
    carry_out(&mut bench);
    let units = [("z.service", ""), ("a.service", "MachineOf=z.service"), ("b.service", "MachineOf=z.service")];
    let bench = super::tests::bench(1, &units, 1);
    assert_eq!(plan(&bench), [""; 0], "three instead of three are no gain");
}

/// Of two units, one would go; with this file it stays, and the other one goes.
#[test]
fn what_belongs_to_its_host_stays() {
    let stays = |section: &str| plan(&bench(1, &[("a.service", section), ("b.service", "")], 1));
    assert_eq!(stays("#"), ["a.service n1 -> n2: units 1 < 2"]);
    for section in ["MachineID=00000001", "MoveAfterSec=infinity", "Replaces=x.service", "MachineMetadata=zone=a"] {
        assert_eq!(stays(section), ["b.service n1 -> n2: units 1 < 2"], "{section}");
    }
    assert_eq!(stays("Global=true"), ["b.service n1 -> n2: units 2 < 3"; 0], "a global one is on both");
    assert_eq!(stays("MachineMetadata=zone=b"), [""; 0], "it has gone there by itself");
}

#[test]
fn what_is_not_well_stays_and_so_does_its_set() {
    let mut bench = bench(1, &[("a.service", ""), ("b.service", "")], 0);
    bench.start(&[("w@.service", "Replicas=3")]);
    bench.start(&["w@1.service", "w@2.service"].map(|unit| (unit, "Replicas=3")));
    join(&mut bench, 2, &[]);
    assert_eq!(plan(&bench), ["w@1.service n1 -> n2: avoided units 0 < 1", "a.service n1 -> n2: units 2 < 3",]);
    let mut value = bench.scheduler.cluster().report(&name("w@2.service"), &id(1)).unwrap().clone();
    value.active = "failed".into();
    let report = Versioned { value, revision: bench.revision };
    let form = crate::model::format::ReportKeyForm::HostFirst;
    bench.scheduler.apply(Change::Report(name("w@2.service"), id(1), form, Some(report)));
    let only: [Glob; 1] = ["w@*".parse().unwrap()];
    assert_eq!(
        rebalance(&bench.scheduler, &only, 9, &|| false),
        Rebalance { hosts: [(id(1), (4, 4)), (id(2), (0, 0))].into(), ..Rebalance::default() }
    );
    let loaded = Unit { desired: Desired::Loaded, ..bench.scheduler.cluster().units[&name("a.service")].clone() };
    bench.scheduler.apply(Change::Unit(name("a.service"), Some(loaded)));
    bench.settle();
    assert_eq!(plan(&bench), ["b.service n1 -> n2: units 1 < 4"]);
}

#[test]
fn hosts_that_get_no_new_units_take_no_part() {
    let mut bench = bench(2, &PLAIN, 1);
    bench.drain(3, drain(|_| ()));
    assert_eq!(plan(&bench), [""; 0]);
    bench.drain(3, None);
    bench.drain(2, drain(|_| ()));
    let moves = rebalance(&bench.scheduler, &[], 9, &|| false).moves;
    let from: Vec<MachineId> = moves.into_iter().map(|it| it.from).collect();
    assert_eq!(from, [id(1), id(1)]);
}

#[test]
fn the_share_that_is_taken_comes_before_the_number_unless_units_are_packed() {
    let mut bench = Bench::new(0);
    join(&mut bench, 1, &[("@memory", "1000")]);
    bench.start(&[("a.service", "Memory=300M"), ("b.service", "Memory=300M"), ("c.service", "")]);
    join(&mut bench, 2, &[("@memory", "1000")]);
    let packs = Settings { placement: Some(Order::Pack), ..Settings::default() };
    let settings =
        |value: Settings| Change::Settings(Some(Versioned { value, revision: crate::model::revision::Revision(9) }));
    bench.scheduler.apply(settings(packs));
    assert_eq!(plan(&bench), [""; 0]);
    bench.scheduler.apply(settings(Settings::default()));
    assert_eq!(plan(&bench), ["a.service n1 -> n2: taken 30% < 60%"]);
    carry_out(&mut bench);
}

/// A swap is needed: it isn't found, and nothing is stopped for it.
#[test]
fn what_fits_only_when_another_one_has_left_is_not_moved() {
    let units = [("a.service", "Port=80\nMachinePrefers=zone=b"), ("x.service", "MachineID=00000002\nPort=80")];
    let mut bench = Bench::new(2);
    bench.start(&units[1..]);
    bench.start(&units[..1]);
    assert_eq!((bench.on(1), bench.on(2)), (vec!["a.service".to_owned()], vec!["x.service".to_owned()]));
    assert_eq!(plan(&bench), [""; 0]);
}

/// Each avoids the next one: whoever moves is beside one that avoids it.
#[test]
fn units_that_run_after_each_other_come_to_rest() {
    let units = [("a.service", "Avoids=b.*"), ("b.service", "Avoids=c.*"), ("c.service", "Avoids=a.*")];
    for order in [[0, 1, 2], [1, 2, 0], [2, 1, 0], [2, 0, 1]] {
        let mut bench = bench(1, &order.map(|at| units[at]), 1);
        carry_out(&mut bench);
        assert!(!bench.on(1).is_empty() && !bench.on(2).is_empty());
    }
}
