//! What is kept of members from look to look says the same as a look at all of them.

use super::*;

/// A number below `most`, which follows from the ones before.
struct Random(u64);

impl Random {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }

    fn one_of<T: Clone>(&mut self, all: &[T]) -> T {
        all[usize::try_from(self.below(all.len() as u64)).unwrap()].clone()
    }

    fn state(&mut self) -> MemberState {
        let why = || Some("it can't".to_owned());
        let healthy = [Healthy, Healthy, Healthy, Healthy, Healthy];
        let others = [
            Pending(None),
            Pending(why()),
            Assigned(None),
            Assigned(why()),
            Failed("it failed".into()),
            Away,
            Unplaced,
        ];
        self.one_of(&[&healthy[..], &others].concat())
    }

    fn phase(&mut self) -> Phase {
        self.one_of(&[Phase::Canary, Phase::Waiting, Phase::Rolling, Phase::After, Phase::Reverting, Phase::Paused])
    }
}

/// Something happens to a member, or it comes or goes.
fn change(world: &mut World, random: &mut Random) -> MemberName {
    let number = u32::try_from(random.below(8)).unwrap() + 1;
    let known = world.members.iter().position(|member| member.name == name(number));
    let at = known.unwrap_or_else(|| {
        world.members.push(Member { spare: random.below(4) == 0, gated: random.below(2) == 0, ..member(number) });
        world.members.len() - 1
    });
    let member = &mut world.members[at];
    match random.below(12) {
        0 => drop(world.members.remove(at)),
        1 => member.host = Some(host(number + u32::try_from(random.below(2)).unwrap() * 100)),
        2 => member.gated = !member.gated,
        3 => member.lacks = !member.lacks,
        4 => member.partly = !member.partly,
        5 => member.leaves = !member.leaves,
        6 => member.spare = !member.spare,
        7 if member.spare => (member.state, member.goes_on) = (FitsNowhere, false),
        _ => {
            member.state = random.state();
            member.goes_on = member.state == Assigned(None) && number % 2 == 0;
        }
    }
    world.members.iter_mut().for_each(|member| {
        member.partly &= member.gated;
        member.leaves &= member.gated && !member.partly;
    });
    world.members.sort_by_key(|member| (member.spare, member.name.clone()));
    name(number)
}

#[test]
fn what_is_kept_says_the_same_as_a_look_at_all_members() {
    let policies = ["", "Parallel=2\nCanary=2", "Parallel=50%\nSpare=2", "Canary=1\nPromote=auto\nDeadlineSec=7"];
    for (seed, policy) in (1..=40).flat_map(|seed| policies.map(|policy| (seed, policy))) {
        let mut random = Random(seed);
        let mut world = web(5, &format!("HealthySec=3\n{policy}"));
        let mut all = Timers::default();
        world.timers.tell_all(world.members.clone());
        for turn in 0..120 {
            for _ in 0..random.below(3) {
                let name = change(&mut world, &mut random);
                match world.members.iter().find(|member| member.name == name) {
                    Some(member) => world.timers.tell(member.clone()),
                    None => world.timers.forget(&name),
                }
            }
            if random.below(25) == 0 {
                world.rollout.phase = random.phase();
            }
            let ask = Ask {
                what: random.one_of(&[Request::Pause, Request::Resume, Request::Retry, Request::Promote]),
                generation: Revision(turn + 1),
                by: None,
            };
            let ask = Some(ask).filter(|_| random.below(20) == 0);
            let unfit = name(u32::try_from(random.below(30)).unwrap());
            let fits = |member: &Member| if member.name == unfit { Err("it fits no host".into()) } else { Ok(()) };
            let can_run = |_: &UnitName| Ok(());
            let (rollout, policy) = (&world.rollout, &world.policy);
            let look = Look { rollout, policy, ask: ask.as_ref(), fits: &fits, hook: None, can_run: &can_run };
            all.tell_all(world.members.clone());
            let step = advance(&look, &mut world.timers, world.now * 500);
            assert_eq!(step, advance(&look, &mut all, world.now * 500), "{seed} {turn} {:?}", world.members);
            assert_eq!(world.timers.fault(), None, "{seed} {turn}");
            assert_eq!(world.timers.differs_from(&all), None, "{seed} {turn}");
            world.rollout = step.rollout;
            for (names, gated) in [(&step.let_through, false), (&step.revert, true)] {
                for member in world.members.iter_mut().filter(|member| names.contains(&member.name)) {
                    (member.gated, member.partly, member.leaves, member.state) = (gated, false, false, Assigned(None));
                    world.timers.tell(member.clone());
                }
            }
            world.now += random.below(4);
        }
    }
}
