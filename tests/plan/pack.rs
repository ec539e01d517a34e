//! Units that are packed: with many hosts, most of them full, each new unit goes to the fullest one with room for it.

use super::*;

/// More hosts than fit into a few places of the rankings.
pub(super) const MANY: usize = 14;

/// What units take. Small ones fill what larger ones leave.
const TAKES: [&str; 10] = [
    "Memory=100M",
    "Memory=150M\nCPU=10%",
    "CPU=60%",
    "Memory=90M\nCPU=80%",
    "Memory=30M",
    "CPU=15%",
    "Memory=120M\nMachineMetadata=zone=a",
    "Memory=110M\nCPU=5%\nMachineMetadata=zone!=a",
    "Memory=80M\nSpread=zone",
    "",
];

#[derive(Debug, Clone)]
enum Step {
    /// A new unit, which takes this.
    Unit(usize),
    /// One of the units is destroyed.
    Destroy(Index),
    /// A host joins, or has other hardware.
    Join(usize, usize),
    Dies(usize),
    Cordon(usize, bool),
    /// The settings change. Mostly units are packed afterwards.
    Settings(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        40 => (0..TAKES.len()).prop_map(Step::Unit),
        3 => any::<Index>().prop_map(Step::Destroy),
        2 => (0..MANY, 0..5_usize).prop_map(|(at, which)| Step::Join(at, which)),
        1 => (0..MANY).prop_map(Step::Dies),
        2 => (0..MANY, any::<bool>()).prop_map(|(at, cordoned)| Step::Cordon(at, cordoned)),
        1 => prop_oneof![Just(0_usize), Just(1), Just(2), Just(3), Just(2), Just(3)].prop_map(Step::Settings),
    ]
}

impl World {
    /// A host joins, in one of three zones.
    pub(super) fn join(&mut self, at: usize, which: usize) {
        let zone = ["a", "b", "c"][at % 3];
        let (builtin, reserved) = if which < 4 { hardware(which) } else { Default::default() };
        let metadata = [("zone".to_owned(), zone.to_owned())].into();
        let machine = Machine { metadata, builtin, reserved, ..Machine::new(host(at), format!("n{at}")) };
        self.commit([Change::Machine(host(at), Some(machine))]);
    }

    /// A unit that should run, with this section of its file.
    pub(super) fn submit(&mut self, unit: &UnitName, section: &str) {
        let text = format!("[Service]\nExecStart=/bin/true\n[X-Fleet]\n{section}\n");
        let file = UnitFile::parse(text.as_bytes()).unwrap();
        let (hash, revision) = (file.hash(), self.store.revision.next());
        let value = Arc::new(Constraints::parse(&file).unwrap());
        let record = Unit::new(Desired::Launched, hash.clone(), revision);
        self.commit([
            Change::File(hash, Some(Versioned { value, revision })),
            Change::Unit(unit.clone(), Some(record)),
        ]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: config().cases.div_ceil(16), ..config() })]

    #[test]
    fn a_new_unit_is_packed_on_the_fullest_host_with_room(
        hosts in proptest::collection::vec(0..4_usize, MANY),
        steps in proptest::collection::vec(step(), 60..160),
    ) {
        let mut world = World::new();
        hosts.iter().enumerate().for_each(|(at, which)| world.join(at, *which));
        world.act(&Op::Settings(2));
        for (at, step) in steps.iter().enumerate() {
            match step {
                Step::Unit(which) => {
                    let unit: UnitName = format!("u{}@{at}.service", at % 3).parse().unwrap();
                    world.submit(&unit, TAKES[*which]);
                    let best = best_host(&world.store, &unit, &BTreeSet::new());
                    world.plan_and_commit(usize::MAX);
                    prop_assert_eq!(world.store.placed_on(&unit), best.as_ref(), "{}", TAKES[*which]);
                    continue;
                }
                Step::Destroy(index) if !world.store.units.is_empty() => {
                    let unit = world.store.units.keys().nth(index.index(world.store.units.len())).cloned().unwrap();
                    world.commit([Change::Unit(unit, None)]);
                }
                Step::Destroy(_) => {}
                Step::Join(at, which) => world.join(*at, *which),
                Step::Dies(at) => world.act(&Op::Dies(*at)),
                Step::Cordon(at, cordoned) => world.act(&Op::Cordon(*at, *cordoned)),
                Step::Settings(which) => world.act(&Op::Settings(*which)),
            }
            world.settle();
            prop_assert_eq!(world.scheduler.check_itself(0, &Default::default()), [""; 0]);
        }
        world.hold_to_everything();
    }
}
