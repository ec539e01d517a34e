//! Properties of `plan::whatif`: what it says of a loss is what the scheduler does when the hosts are really gone, over
//! the random clusters of the other properties.

use flotilla::plan::whatif::{Supposed, WhatIf, what_if};

use super::*;

impl World {
    /// Afterwards, the scheduler is as it was.
    fn what_if(&self, supposed: &Supposed, losses: &[BTreeSet<MachineId>]) -> (WhatIf, Vec<WhatIf>) {
        let mut copy = Scheduler::new(self.store.clone());
        let found = what_if(&mut copy, supposed, losses, self.store.revision.0, &|| false);
        let after = Cluster { revision: self.store.revision, ..copy.cluster().clone() };
        assert_eq!(after, self.store, "it is as it was");
        assert_eq!(copy.check_itself(0, &Default::default()), Vec::<String>::new());
        found
    }

    /// Where each unit is that isn't global, or that it waits.
    fn places(&self) -> BTreeMap<UnitName, Option<MachineId>> {
        let placed = self.store.placements.iter();
        placed.map(|(name, placement)| (name.clone(), placement.value.host().cloned())).collect()
    }

    /// What is told is the difference between two clusters.
    fn holds(&self, found: &WhatIf, after: &Self) {
        let (before, then) = (self.places(), after.places());
        let moves: BTreeMap<&UnitName, (&Option<MachineId>, &MachineId)> =
            found.moves.iter().map(|it| (&it.unit, (&it.from, &it.to))).collect();
        assert_eq!(moves.len(), found.moves.len(), "each unit once");
        let waits: BTreeSet<&UnitName> = found.waits.iter().chain(&found.bound).map(|it| &it.unit).collect();
        let waited: BTreeSet<&UnitName> = found.waited.iter().map(|it| &it.unit).collect();
        for (unit, on) in &then {
            let from = before.get(unit).cloned().flatten();
            match on {
                Some(to) if from.as_ref() == Some(to) => assert!(!moves.contains_key(unit), "{unit}"),
                Some(to) => assert_eq!(moves.get(unit), Some(&(&from, to)), "{unit}"),
                None if before.get(unit) == Some(&None) => assert!(waited.contains(unit), "{unit}"),
                None => assert!(waits.contains(unit), "{unit}"),
            }
        }
        let told = moves.len() + waits.len() + waited.len();
        let changed = then.iter().filter(|(unit, on)| on.is_none() || before.get(*unit) != Some(*on)).count();
        assert_eq!(told, changed, "{found:?}");
    }

    fn settled(ops: &[Op]) -> Self {
        let mut world = Self::new();
        ops.iter().for_each(|op| world.act(op));
        world.settle();
        world
    }

    fn copy(&self) -> Self {
        Self { store: self.store.clone(), scheduler: self.scheduler.clone(), backwards: false }
    }
}

proptest! {
    #![proptest_config(config())]

    /// What is told of the loss of some hosts happens when they die.
    #[test]
    fn what_is_told_of_a_loss_happens(ops in proptest::collection::vec(op(), 5..60), dead in 0..32_u8) {
        let world = World::settled(&ops);
        let dead = (0..HOSTS).filter(|at| dead & (1 << at) != 0 && world.store.machines.contains_key(&host(*at)));
        let dead: Vec<usize> = dead.collect();
        let lost = dead.iter().map(|at| host(*at)).collect();
        let (found, _) = world.what_if(&Supposed { lost, ..Supposed::default() }, &[]);
        prop_assert!(found.is_complete && found.joined.is_empty());
        let mut after = world.copy();
        // Their leases end at the same moment.
        for at in &dead {
            after.act(&Op::Dies(*at));
        }
        after.settle();
        world.holds(&found, &after);
        let globals = |cluster: &Cluster| -> BTreeSet<(MachineId, UnitName)> {
            let all = cluster.schedule.iter().flat_map(|(host, there)| there.iter().map(move |it| (host, it)));
            let all = all.filter(|(_, (_, it))| it.value.global && it.value.target != Target::Removed);
            all.map(|(host, (unit, _))| (host.clone(), unit.clone())).collect()
        };
        let (before, then) = (globals(&world.store), globals(&after.store));
        prop_assert_eq!(&found.globals_lost, &before.difference(&then).cloned().collect());
        prop_assert_eq!(&found.globals_gained, &then.difference(&before).cloned().collect());
    }

    /// Nothing follows from nothing, and a loss that is looked at among others is told as alone.
    #[test]
    fn each_loss_is_told_as_alone(ops in proptest::collection::vec(op(), 5..60)) {
        let world = World::settled(&ops);
        let losses: Vec<BTreeSet<MachineId>> = world.store.machines.keys().map(|id| [id.clone()].into()).collect();
        let (none, each) = world.what_if(&Supposed::default(), &losses);
        prop_assert_eq!((none.decisions, none.moves.len(), none.waits.len()), (0, 0, 0));
        prop_assert_eq!(each.len(), losses.len());
        for (found, lost) in each.into_iter().zip(losses) {
            let (alone, _) = world.what_if(&Supposed { lost, ..Supposed::default() }, &[]);
            prop_assert_eq!(found, alone);
        }
    }

    /// What is told of a host that joins, and of a unit that starts, happens.
    #[test]
    fn what_is_told_of_a_new_host_and_a_unit_happens(
        ops in proptest::collection::vec(op(), 5..60),
        zone in 0..3_usize,
        of in any_file(),
    ) {
        let mut world = World::settled(&ops);
        world.act(&Op::Destroy(3));
        world.settle();
        let zone = [None, Some("a"), Some("b")][zone].map(|zone| ("zone".to_owned(), zone.to_owned()));
        let (hash, constraints) = file(of);
        let revision = world.store.revision.next();
        let submitted = vec![
            Change::File(hash.clone(), Some(Versioned { value: constraints, revision })),
            Change::Unit(unit_name(3), Some(Unit::new(Desired::Launched, hash, revision))),
        ];
        let added = vec![zone.into_iter().collect()];
        let supposed = Supposed { added, submitted: submitted.clone(), ..Supposed::default() };
        let (found, _) = world.what_if(&supposed, &[]);
        prop_assert!(found.is_complete);
        let (id, name) = found.joined.first_key_value().unwrap();
        prop_assert_eq!(name, "new-1");
        // The same host, as it is described.
        let joined = joins(&world, &supposed, id);
        let mut after = world.copy();
        after.commit([Change::Machine(id.clone(), Some(joined))].into_iter().chain(submitted));
        after.settle();
        world.holds(&found, &after);
    }
}

/// The host that is supposed: with the most usual hardware, and what all hosts have in common.
fn joins(world: &World, supposed: &Supposed, id: &MachineId) -> Machine {
    let all: Vec<(&MachineId, &Machine)> = world.store.machines.iter().collect();
    let mut metadata = supposed.added[0].clone();
    if let Some((first, _)) = all.first() {
        for (key, value) in world.store.effective_metadata(first) {
            if all.iter().all(|(id, _)| world.store.effective_metadata(id).get(&key) == Some(&value)) {
                metadata.entry(key).or_insert(value);
            }
        }
    }
    let offers = |machine: &Machine| {
        [Kind::Memory, Kind::Cpu].map(|kind| machine.has(kind).map(|all| all.saturating_sub(machine.reserved.of(kind))))
    };
    let alike = |one: &Machine| all.iter().filter(|(_, other)| offers(one) == offers(other)).count();
    let usual = all.iter().rev().max_by_key(|(_, machine)| (alike(machine), offers(machine)));
    let usual = usual.map_or_else(|| Machine::new(id.clone(), ""), |(_, machine)| (*machine).clone());
    Machine { metadata, builtin: usual.builtin, reserved: usual.reserved, ..Machine::new(id.clone(), "new-1") }
}
