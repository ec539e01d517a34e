//! Units with `MaxSkew=` in zones where not all of them find room: each that waits is placed as soon as it fits, be it
//! because others have arrived where there were the fewest.

use super::*;

/// What units ask for. Ports, memory and conflicts keep some of them out of the zone that has the fewest.
const ASKS: [&str; 9] = [
    "Spread=zone\nMaxSkew=1\nPort=80",
    "Spread=zone\nMaxSkew=1\nMemory=400M",
    "Spread=zone\nMaxSkew=2\nConflicts=n@*",
    "Spread=zone m@*\nMaxSkew=1\nPort=80",
    "Spread=zone *\nMaxSkew=1\nMemory=600M",
    "",
    "MachineMetadata=zone=a\nPort=80",
    "MachineMetadata=zone=b",
    "Memory=300M",
];

const NAMES: [&str; 8] = [
    "m@1.service",
    "m@2.service",
    "m@3.service",
    "m@4.service",
    "m@5.service",
    "n@1.service",
    "n@2.service",
    "o.service",
];

#[derive(Debug, Clone)]
enum Step {
    /// A unit is submitted, or asks for something else.
    Unit(usize, usize),
    Destroy(usize),
    /// A host joins, in a zone and with some hardware.
    Join(usize, usize),
    Dies(usize),
    Cordon(usize, bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0..NAMES.len(), 0..ASKS.len()).prop_map(|(unit, asks)| Step::Unit(unit, asks)),
        4 => (0..NAMES.len()).prop_map(Step::Destroy),
        1 => (0..HOSTS, 0..4_usize).prop_map(|(at, which)| Step::Join(at, which)),
        1 => (0..HOSTS).prop_map(Step::Dies),
        1 => (0..HOSTS, any::<bool>()).prop_map(|(at, cordoned)| Step::Cordon(at, cordoned)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: config().cases.div_ceil(4), ..config() })]

    #[test]
    fn a_unit_waits_for_a_smaller_skew_no_longer_than_it_must(
        hosts in proptest::collection::vec(0..4_usize, HOSTS),
        steps in proptest::collection::vec(step(), 1..40),
    ) {
        let mut world = World::new();
        hosts.iter().enumerate().for_each(|(at, which)| world.join(at, *which));
        for step in &steps {
            match step {
                Step::Unit(unit, asks) => world.submit(&NAMES[*unit].parse().unwrap(), ASKS[*asks]),
                Step::Destroy(unit) => world.commit([Change::Unit(NAMES[*unit].parse().unwrap(), None)]),
                Step::Join(at, which) => world.join(*at, *which),
                Step::Dies(at) => world.act(&Op::Dies(*at)),
                Step::Cordon(at, cordoned) => world.act(&Op::Cordon(*at, *cordoned)),
            }
            world.hold_to_everything();
        }
    }
}
