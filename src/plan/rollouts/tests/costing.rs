//! What a rollout costs its leader: however many members there are, a look examines those that it concerns.

use super::*;

/// How many members were examined while a set of so many got another file one by one, each as often as it was.
fn examined(members: u32) -> usize {
    let mut bench = Bench::new(5);
    let ask = |bench: &mut Bench, file: &UnitFile| {
        bench.ask(SET, file, |set| (set.desired, set.replicas) = (Desired::Inactive, Some(members)));
        (1..=members).for_each(|member| bench.ask(&format!("web@{member}.service"), file, |_| {}));
    };
    ask(&mut bench, &web("old"));
    bench.settle();
    let before = bench.rollouts.examined();
    ask(&mut bench, &web("new"));
    bench.decide();
    while bench.rollout().phase != Phase::Done {
        bench.pass(1);
    }
    let target = web("new").hash();
    let all = bench.store.schedule.values().flat_map(BTreeMap::values);
    assert!(all.map(|told| &told.value.hash).eq(vec![&target; members as usize]));
    bench.rollouts.examined() - before
}

#[test]
fn a_look_examines_the_members_that_it_concerns() {
    let (few, many) = (examined(4), examined(40));
    // Ten times as many members take ten times as many looks: if each were at all of them, it would be a hundred times.
    assert!(many <= 12 * few, "{few} for 4 members, {many} for 40");
}
