//! Properties of `plan::remedy`: every fix that is told places the unit when a person does it, over the random clusters
//! of the other properties.

use flotilla::model::unit::Move;
use flotilla::plan::drain;
use flotilla::plan::remedy::{ATTEMPTS, MOST, Remedy, Step, remedies};

use super::*;

/// The host that is added.
const NEW: usize = 40;

fn text(hash: &UnitHash) -> Option<UnitFile> {
    let parsed = |at: usize| {
        let text = format!("[Service]\nExecStart=/bin/true {}\n[X-Fleet]\n{}\n", at % 2, FILES[at]);
        UnitFile::parse(text.as_bytes()).unwrap()
    };
    (0..FILES.len()).map(parsed).find(|file| file.hash() == *hash)
}

impl World {
    /// A person does what a fix says.
    fn heal(&mut self, steps: &[Step]) {
        for step in steps {
            let revision = self.store.revision.next();
            let record =
                |world: &Self, unit: &UnitName| Unit { generation: revision, ..world.store.units[unit].clone() };
            match step {
                Step::Start(unit) => {
                    let unit_ = Unit { desired: Desired::Launched, ..record(self, unit) };
                    self.commit([Change::Unit(unit.clone(), Some(unit_))]);
                }
                Step::Open { host, .. } => self.commit([Change::Maintenance(host.clone(), None)]),
                Step::Metadata { host, set, unset } => {
                    let set = set.iter().map(|(key, value)| (key.clone(), value.clone()));
                    let unset = unset.iter().map(|key| (key.clone(), String::new()));
                    let change = |(key, value)| Change::Metadata(host.clone(), key, Some(value));
                    self.commit(set.chain(unset).map(change).collect::<Vec<_>>());
                }
                Step::Move { unit, to } => {
                    let from = self.store.placed_on(unit).unwrap().clone();
                    let asked = Move { generation: revision, from, to: Some(to.clone()), force: false, by: None };
                    let unit_ = Unit { moves: Some(Box::new(asked)), ..self.store.units[unit].clone() };
                    self.commit([Change::Unit(unit.clone(), Some(unit_))]);
                }
                Step::Drop { units, line, .. } => {
                    let file = text(&self.store.units[&units[0]].hash).unwrap();
                    let rest: Vec<_> = file.options().iter().filter(|option| option.line != *line).cloned().collect();
                    let rest = UnitFile::from_options(&rest).unwrap();
                    let value = Arc::new(Constraints::parse(&rest).unwrap());
                    let file = Change::File(rest.hash(), Some(Versioned { value, revision }));
                    let renewed = |unit: &UnitName| {
                        let record = Unit { hash: rest.hash(), text: None, ..record(self, unit) };
                        Change::Unit(unit.clone(), Some(record))
                    };
                    let changes: Vec<Change> = [file].into_iter().chain(units.iter().map(renewed)).collect();
                    self.commit(changes);
                }
                Step::Join { like } => {
                    let metadata = self.store.effective_metadata(like);
                    let machine = self.store.machines[like].clone();
                    let machine = Machine { metadata, id: host(NEW), ..machine };
                    self.commit([Change::Machine(host(NEW), Some(machine))]);
                }
            }
            let mut timers = drain::Timers::default();
            for _ in 0..9 {
                drain::step(&mut self.scheduler, &mut timers, 0);
                self.settle();
            }
        }
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn every_fix_places_the_unit(ops in proptest::collection::vec(op(), 5..60)) {
        let mut world = World::new();
        ops.iter().for_each(|op| world.act(op));
        world.settle();
        let waits = |known: &Placement| matches!(known, Placement::Waiting { .. });
        let waiting = world.store.placements.iter().filter(|(_, known)| waits(&known.value));
        let waiting: Vec<UnitName> = waiting.map(|(name, _)| name.clone()).collect();
        for name in waiting {
            let Some(record) = world.store.units.get(&name) else { continue };
            let file = text(&record.hash);
            let mut copy = Scheduler::new(world.store.clone());
            let found = remedies(&mut copy, &name, file.as_ref(), 0);
            let after = Cluster { revision: world.store.revision, ..copy.cluster().clone() };
            prop_assert_eq!(&after, &world.store, "it is as it was");
            prop_assert_eq!(copy.check_itself(0, &Default::default()), Vec::<String>::new());
            prop_assert!(found.found.len() <= MOST && found.attempts <= ATTEMPTS);
            prop_assert_eq!(&found.by_itself, &None, "all hosts have stopped what leaves them");
            for Remedy { steps, host: on } in found.found {
                let (store, scheduler) = (world.store.clone(), world.scheduler.clone());
                let mut healed = World { store, scheduler, backwards: false };
                healed.heal(&steps);
                let on = on.unwrap_or(host(NEW));
                prop_assert_eq!(healed.store.placed_on(&name), Some(&on), "{}: {:?}", name, steps);
                let placed = world.store.placements.iter();
                let others = placed.filter_map(|(name, known)| Some((name, known.value.host()?)));
                for (other, home) in others {
                    let moves = steps.iter().any(|step| matches!(step, Step::Move { unit, .. } if unit == other));
                    let now = healed.store.placed_on(other);
                    prop_assert!(if moves { now.is_some() } else { now == Some(home) }, "{} is on {:?}", other, now);
                }
            }
        }
    }
}
