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
    assert!(all.map(|assignment| &assignment.value.hash).eq(vec![&target; members as usize]));
    bench.rollouts.examined() - before
}

/// The same while a global unit got another file on so many hosts, one by one.
fn examined_hosts(hosts: u64) -> usize {
    let (old, new) = (hosts::agent("old"), hosts::agent("new"));
    let mut bench = Bench::of_agent(hosts, &old);
    bench.ask(hosts::UNIT, &new, |_| {});
    bench.decide();
    while bench.agent().phase != Phase::Done {
        bench.pass(1);
    }
    assert_eq!(bench.on_hosts(&[&old, &new]), "n".repeat(hosts.try_into().unwrap()));
    bench.rollouts.examined()
}

#[test]
fn a_look_examines_the_members_that_it_concerns() {
    for (few, many) in [(examined(4), examined(40)), (examined_hosts(4), examined_hosts(40))] {
        // Ten times as many members take ten times as many looks: if each were at all of them, it would be a hundred
        // times.
        assert!(many <= 12 * few, "{few} for 4 members, {many} for 40");
    }
}
