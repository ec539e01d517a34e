//! Properties of `plan::rebalance`: over random clusters that have settled, in which hosts join, get other metadata and
//! are cordoned after units were placed. What is found is asked for as `fleetctl rebalance` asks for it, carried out as
//! the leader does, and looked at again.

use flotilla::model::unit::Move;
use flotilla::plan::drain;
use flotilla::plan::rebalance::{Rebalance, Relocation, rebalance};

use super::*;

/// Files with which nothing but metadata decides where a unit may be, and with which units prefer something.
const WISHING: &[&str] = &[
    "",
    "MachineMetadata=zone=a zone=b",
    "MachineMetadata=zone=b disk=ssd",
    "MachineMetadata=zone!=a",
    "MachineMetadata=!disk zone~[ab]",
    "MachineID=00000000000000000000000000000001",
    "Global=true",
    "Global=true\nMachineMetadata=zone=a",
    "Spread=zone",
    "Spread=zone w@*\nAvoids=a*",
    "Avoids=w@* b.service\nMachinePrefers=zone=a",
    "MachinePrefers=disk=ssd\nMachinePrefers=zone!=a",
    "",
    "Spread=zone",
];

/// The first of them, with which units prefer nothing.
const FREE: &[&str] = WISHING.split_at(8).0;

/// First hosts and units in any order, then hosts that make other places better.
fn cluster(files: &'static [&'static str]) -> impl Strategy<Value = Vec<Op>> {
    let at = move |which: usize| FILES.iter().position(|file| *file == files[which]).unwrap();
    let unit = (0..UNITS.len(), 0..files.len()).prop_map(move |(u, f)| Op::Unit(u, at(f), Desired::Launched));
    let change = prop_oneof![
        4 => (0..HOSTS, 0..4_usize).prop_map(|(h, m)| Op::Machine(h, m)),
        1 => (0..HOSTS, 0..4_usize).prop_map(|(h, m)| Op::Dynamic(h, m)),
        1 => (0..HOSTS, any::<bool>()).prop_map(|(h, c)| Op::Cordon(h, c)),
        1 => (0..HOSTS).prop_map(Op::Dies),
        3 => Just(Op::Hosts(u8::MAX)),
        3 => Just(Op::Plan),
    ];
    let any = prop_oneof![3 => unit, 2 => change.clone()];
    (proptest::collection::vec(any, 4..30), proptest::collection::vec(change, 1..10)).prop_map(|(mut ops, more)| {
        ops.extend(more);
        ops
    })
}

impl World {
    fn of(ops: &[Op]) -> Self {
        let mut world = Self::new();
        ops.iter().for_each(|op| world.act(op));
        world.settle();
        world
    }

    /// Ask for these moves, and go on until nothing moves any more.
    fn carry_out(&mut self, moves: &[Relocation]) {
        for Relocation { group, from, to, .. } in moves {
            let generation = self.store.revision.next();
            let asked = Move { generation, from: from.clone(), to: Some(to.clone()), force: false, by: None };
            let record = Unit { moves: Some(Box::new(asked)), ..self.store.units[&group[0]].clone() };
            self.commit([Change::Unit(group[0].clone(), Some(record))]);
        }
        let mut timers = drain::Timers::default();
        for _ in 0..60 {
            if !drain::is_under_way(&self.scheduler) {
                return self.settle();
            }
            drain::step(&mut self.scheduler, &mut timers, 0);
            self.settle();
        }
        panic!("something is still to move");
    }

    fn rebalance(&self, limit: usize) -> Rebalance {
        rebalance(&self.scheduler, &[], limit, &|| false)
    }

    /// Each move is of units that may be moved, and goes to a host that fits all of them as they are now.
    fn hold_to_moves(&self, found: &Rebalance) {
        for Relocation { group, from, to, .. } in &found.moves {
            assert!(from != to && self.store.machines.contains_key(to));
            assert!(!self.store.is_closed(to) && !self.store.is_closed(from), "a host that is cordoned takes no part");
            for unit in group {
                assert_eq!(self.store.placed_on(unit), Some(from));
                let constraints = self.store.constraints(unit).unwrap();
                assert!(!constraints.global && constraints.machine_id.is_none() && constraints.replaces.is_empty());
                let question =
                    Question { unit, constraints: &constraints, host: to, stance: Stance::Arrive, with: group };
                assert_eq!(fit(&self.store, &question), Ok(()), "{unit} to {to}");
            }
        }
    }
}

proptest! {
    #![proptest_config(config())]

    /// Whatever units ask for: moves are those that may be made, the limit cuts them off, and a few looks later there
    /// is nothing left.
    #[test]
    fn a_rebalance_moves_what_fits_and_comes_to_an_end(ops in proptest::collection::vec(op(), 1..50)) {
        let mut world = World::of(&ops);
        let mut looks = 0;
        loop {
            let found = world.rebalance(usize::MAX);
            world.hold_to_moves(&found);
            let first = world.rebalance(2);
            assert_eq!((&first.moves[..], first.all), (&found.moves[..found.all.min(2)], found.all));
            if found.moves.is_empty() {
                break;
            }
            world.carry_out(&found.moves);
            looks += 1;
            assert!(looks < 10, "each look finds more: {:?}", found.moves);
        }
        world.hold_to_everything();
    }

    /// If no unit is in the way of another, all of it happens, and a second look finds nothing.
    #[test]
    fn after_a_rebalance_a_second_one_does_nothing(ops in cluster(WISHING)) {
        let mut world = World::of(&ops);
        let found = world.rebalance(usize::MAX);
        world.hold_to_moves(&found);
        world.carry_out(&found.moves);
        for Relocation { group, to, .. } in &found.moves {
            assert!(group.iter().all(|unit| world.store.placed_on(unit) == Some(to)), "{group:?} isn't on {to}");
        }
        for (host, (_, then)) in &found.hosts {
            assert_eq!(world.store.schedule.get(host).map_or(0, BTreeMap::len), *then);
        }
        assert_eq!(world.rebalance(usize::MAX).moves, []);
        world.hold_to_everything();
    }

    /// The same, one move after the other: what is left out of a plan doesn't turn it round.
    #[test]
    fn a_rebalance_in_steps_comes_to_an_end_too(ops in cluster(WISHING)) {
        let mut world = World::of(&ops);
        let mut looks = 0;
        loop {
            let found = world.rebalance(1);
            if found.moves.is_empty() {
                break;
            }
            world.carry_out(&found.moves);
            looks += 1;
            assert!(looks < 40, "each look finds more: {:?}", found.moves);
        }
    }

    /// Afterwards any two hosts differ by less than two units, or no unit of the fuller one may be on the other one.
    #[test]
    fn hosts_have_as_many_units_as_rules_allow(ops in cluster(FREE)) {
        let mut world = World::of(&ops);
        let found = world.rebalance(usize::MAX);
        world.carry_out(&found.moves);
        let units = |host: &MachineId| world.store.schedule.get(host).map_or(0, BTreeMap::len);
        let is_set = |unit: &UnitName| {
            unit.set().is_some_and(|set| world.store.units.get(&set).is_some_and(|it| it.replicas.is_some()))
        };
        let open = || world.store.machines.keys().filter(|host| !world.store.is_closed(host));
        for (full, other) in open().flat_map(|full| open().map(move |other| (full, other))) {
            if units(full) < units(other) + 2 {
                continue;
            }
            for unit in world.store.schedule.get(full).into_iter().flat_map(BTreeMap::keys) {
                let constraints = world.store.constraints(unit).unwrap();
                // Members of a set avoid each other, whatever that does to the load.
                if constraints.global || constraints.machine_id.is_some() || is_set(unit) {
                    continue;
                }
                let (host, constraints) = (other, &*constraints);
                let question = Question { unit, constraints, host, stance: Stance::Arrive, with: &[] };
                assert!(fit(&world.store, &question).is_err(), "{unit} could be on {other} instead of {full}");
            }
        }
    }
}
