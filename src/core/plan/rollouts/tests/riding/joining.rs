//! Riders that join the rollout of their lead, or leave it: they are rolled out by themselves before that, or after it.

use super::*;

#[test]
fn a_rider_with_a_rollout_of_its_own_keeps_it() {
    let own = |program| file(program, "[X-Fleet]\nReplicas=web@.service\n[X-Rollout]\nHealthySec=1");
    let mut bench = Bench::new(3).with_rider(&web("old"), &own("log1"));
    bench.ask_set(&web("new"));
    bench.ask_rider(RIDER, &own("log2"));
    bench.settle();
    assert_eq!(bench.pairs(), pairs(&web("new"), &own("log2")));
    assert!(bench.store.rollouts.contains_key(&name(RIDER)) && bench.rollout().riders.is_empty());
    // Its file asks for that no longer; and later again, in the middle of the rollout of both.
    bench.ask_rider(RIDER, &log("log3"));
    bench.two_serve(30);
    assert_eq!(bench.store.rollouts.keys().collect::<Vec<_>>(), [&name(SET)]);
    bench.ask_set(&web("newer"));
    bench.ask_rider(RIDER, &log("log4"));
    bench.decide();
    bench.ask_rider(RIDER, &own("log5"));
    bench.settle();
    assert_eq!((bench.pairs(), bench.gated().len()), (pairs(&web("newer"), &own("log5")), 0), "{:#?}", bench.log);
    assert_eq!(bench.store.rollouts[&name(RIDER)].value.phase, Phase::Done);
}

/// A rider whose own rollout has just begun goes back to the file before that, now with its lead, which fails: at once,
/// or with a member. Those that have had that file all the time aren't given the other one.
#[test]
fn a_rider_that_joins_from_its_own_rollout_goes_back_to_what_was_stable() {
    let own = |program| file(program, "[X-Fleet]\nReplicas=web@.service\n[X-Rollout]\nHealthySec=1");
    let missing = file("new", "[X-Rollout]\nHealthySec=1\nBefore=missing.service");
    for (restless, lead) in [(false, &missing), (true, &missing), (false, &web("bad")), (true, &web("bad"))] {
        let bad = vec![web("bad").hash()];
        let mut bench = Bench { restless, bad, ..Bench::new(3) }.with_rider(&web("old"), &log("log1"));
        bench.ask_rider(RIDER, &own("log2"));
        bench.decide();
        let has_old =
            |bench: &Bench| bench.pairs().into_iter().filter(|(_, rider)| *rider == log("log1").hash()).count();
        assert_eq!(has_old(&bench), 2, "{:#?}", bench.log);
        bench.ask_set(lead);
        bench.ask_rider(RIDER, &log("log1"));
        bench.two_serve(30);
        assert_eq!(bench.rollout().phase, Phase::Reverted, "{:#?}", bench.log);
        assert_eq!(bench.rollout().riders[&name(RIDER)].from.hash, log("log1").hash());
        assert!(has_old(&bench) >= 2, "{:#?}", bench.log);
    }
}

/// A rollout that was only for a rider brings nothing any more when that is rolled out by itself. If its spare failed,
/// there would be nothing to go back to, and the spare would get the same file without end.
#[test]
fn a_rollout_that_its_riders_have_left_is_over() {
    let own = |program| file(program, "[X-Fleet]\nReplicas=web@.service\n[X-Rollout]\nHealthySec=1");
    let spared = file("web", "[X-Rollout]\nSpare=1\nHealthySec=1");
    for restless in [false, true] {
        let mut bench = Bench { restless, ..Bench::new(3) }.with_rider(&spared, &log("log1"));
        bench.ask_rider(RIDER, &log("log2"));
        bench.decide();
        assert!(bench.rollout().is_of_riders() && bench.store.gates.values().any(|gate| gate.value.spare));
        bench.ask_rider(RIDER, &own("log3"));
        bench.decide();
        assert_eq!(bench.rollout().phase, Phase::Done, "{:#?}", bench.log);
        bench.two_serve(30);
        assert_eq!(bench.store.rollouts[&name(RIDER)].value.phase, Phase::Done, "{:#?}", bench.log);
        assert!(bench.store.gates.is_empty(), "{:#?}", bench.store.gates);
    }
}

/// An earlier version may write the record of the lead without the names of its riders.
#[test]
fn a_rider_that_its_lead_no_longer_names_is_rolled_out_by_itself() {
    for restless in [false, true] {
        let mut bench = Bench { restless, ..Bench::new(3) }.with_rider(&web("old"), &log("log1"));
        bench.ask_set(&web("new"));
        bench.ask_rider(RIDER, &log("log2"));
        bench.decide();
        bench.ask(SET, &web("new"), |set| set.riders = None);
        // By the defaults, each is waited for for longer.
        bench.pass(60);
        bench.settle();
        assert_eq!((bench.pairs(), bench.gated().len()), (pairs(&web("new"), &log("log2")), 0), "{:#?}", bench.log);
        assert!(bench.store.rollouts.contains_key(&name(RIDER)));
        bench.name_riders(&[RIDER], &web("new"));
        bench.settle();
        assert_eq!(bench.store.rollouts.keys().collect::<Vec<_>>(), [&name(SET)]);
    }
}

#[test]
fn a_rider_joins_a_rollout_at_its_beginning_and_is_another_attempt_later() {
    let (rider, hash) = (name(RIDER), |text: &str| UnitHash::new(text));
    let files = |target: &str| RiderFiles { target: hash(target), from: File { hash: hash("log1"), text: None } };
    let known = |phase, riders: &[&str]| {
        let riders = riders.iter().map(|target| (rider.clone(), files(target))).collect();
        Rollout { riders, ..Rollout::begun(hash("new"), File { hash: hash("old"), text: None }, phase, 0) }
    };
    let (none, log2, log3): (&[&str], &[&str], &[&str]) = (&[], &["log2"], &["log3"]);
    // The phase, the riders of the record and those of the cluster, whether members of the set wait behind gates,
    // whether those of the rider do, and whether it begins again.
    let cases = [
        (Phase::Rolling, log2, log2, true, true, false),
        (Phase::Before, log2, log3, true, true, false),
        (Phase::Canary, none, log3, true, true, false),
        (Phase::Canary, log2, none, true, false, false),
        (Phase::Waiting, log2, log3, true, true, true),
        (Phase::Rolling, log2, log3, true, true, true),
        // Systemd reads the same from it: nobody waits.
        (Phase::Rolling, log2, log3, true, false, false),
        (Phase::Rolling, none, log3, true, false, false),
        (Phase::Rolling, none, log3, true, true, true),
        (Phase::After, log2, log3, false, true, true),
        // After it has failed, the rider may be what is repaired.
        (Phase::Reverted, log2, log2, true, true, false),
        (Phase::Reverted, log2, log3, true, false, true),
        (Phase::Stuck, log2, log3, true, true, true),
        (Phase::Paused, log2, log3, false, false, false),
        (Phase::Done, log2, log3, false, false, false),
        (Phase::Done, log2, log3, false, true, true),
        (Phase::Done, log2, log2, true, false, true),
    ];
    for (at, (phase, before, now, of_set, of_rider, begins)) in cases.into_iter().enumerate() {
        let riders: BTreeMap<_, _> = now.iter().map(|target| (rider.clone(), files(target))).collect();
        let waiting = Waiting { of_set, riders: of_rider.then_some(&rider).into_iter().collect() };
        let expected = if begins { Turn::Begins } else { Turn::GoesOn(riders.clone()) };
        assert_eq!(turn(&known(phase, before), &riders, &waiting), expected, "{at}");
    }
}
