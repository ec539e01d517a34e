//! Tables of global units, whose members are their hosts.

use super::*;

/// A global unit on so many hosts, `n1` and so on, which the new file doesn't fit on some.
fn agent(hosts: u32, leaving: &[u32], policy: &str) -> World {
    let mut world = web(hosts, policy);
    for (number, member) in (1..).zip(&mut world.members) {
        member.name = MemberName { unit: "agent.service".parse().unwrap(), host: member.host.clone() };
        member.about = member.name.unit.clone();
        (member.hostname, member.leaves) = (Some(format!("n{number}")), leaving.contains(&number));
    }
    world
}

impl World {
    /// Look after some seconds in which everybody has become healthy. Returns the hosts that get the new file.
    fn hosts(&mut self, seconds: u64) -> Vec<u32> {
        self.now += seconds;
        self.members.iter_mut().for_each(|member| member.state = Healthy);
        self.step()
    }

    /// Look, and do what was decided. A host that loses the unit is no member any more.
    fn step(&mut self) -> Vec<u32> {
        let before: Vec<(MemberName, bool)> =
            self.members.iter().map(|member| (member.name.clone(), member.gated)).collect();
        self.look();
        let is_through = |name: &MemberName| self.members.iter().any(|member| member.name == *name && !member.gated);
        let through = before.iter().filter(|(name, gated)| *gated && is_through(name));
        let number = |(name, _): &(MemberName, bool)| name.host.as_ref()?.as_str().parse().ok();
        let numbers = through.filter_map(number).collect();
        self.members.retain(|member| !member.leaves || member.gated);
        numbers
    }

    fn host(&mut self, number: u32) -> &mut Member {
        self.members.iter_mut().find(|member| member.host == Some(host(number))).unwrap()
    }
}

#[test]
fn hosts_follow_one_another_in_the_order_of_their_ids() {
    let mut agent = agent(3, &[], "");
    assert_eq!(agent.step(), [1]);
    assert_eq!((agent.hosts(1), agent.hosts(9)), (vec![], vec![]));
    assert_eq!((agent.hosts(1), agent.hosts(1), agent.hosts(10)), (vec![2], vec![], vec![3]));
    assert_eq!((agent.hosts(1), agent.hosts(10), agent.phase()), (vec![], vec![], Phase::Done));
}

#[test]
fn one_that_isnt_healthy_comes_first_and_one_that_dies_is_no_member_any_more() {
    let mut agent = agent(4, &[], "");
    agent.host(3).state = Failed("agent.service failed on n3".into());
    assert_eq!(agent.step(), [3]);
    // It dies while the new file is started on it, and with it what the leader waited for.
    agent.members.retain(|member| member.host != Some(host(3)));
    assert_eq!(agent.step(), [1]);
    // Nor does one that the leader takes for gone block the others for longer than a member must be healthy.
    agent.hosts(1);
    agent.host(1).state = Away;
    agent.now += 1;
    assert_eq!(agent.step(), Vec::<u32>::new());
    agent.now += 10;
    assert_eq!(agent.step(), [2]);
}

/// It is away already, so that nobody else may be stopped before it is no member any more.
#[test]
fn one_that_loses_the_unit_and_is_down_goes_first() {
    for policy in ["", "Canary=1\nPromote=auto", "Parallel=50%"] {
        let mut agent = agent(3, &[2, 3], policy);
        agent.host(2).state = Failed("agent.service failed on n2".into());
        assert_eq!(agent.step(), [2], "{policy}");
        // The other one that loses it serves, and does so until the file is proven.
        assert_eq!((agent.hosts(1), agent.hosts(1)), (vec![1], vec![]), "{policy}");
        assert_eq!(agent.hosts(10), [3], "{policy}");
    }
}

#[test]
fn sentences_name_the_host() {
    let mut agent = agent(2, &[], "DeadlineSec=20");
    agent.step();
    agent.host(1).state = Pending(Some("tcp:80: connection refused".into()));
    agent.step();
    agent.now = 21;
    agent.step();
    let why = "agent.service on n1 isn't ready after 20 s: tcp:80: connection refused";
    assert_eq!((agent.rollout.why.as_deref(), agent.phase()), (Some(why), Phase::Reverting));
    let failed = (agent.rollout.failed.clone().unwrap().to_string(), agent.rollout.failed_on.clone());
    assert_eq!(failed, ("agent.service".into(), Some(host(1))));
}

#[test]
fn hosts_that_lose_it_are_last_and_only_after_another_has_proved_the_file() {
    let mut agent = agent(3, &[1, 2], "Canary=2\nPromote=auto");
    // Only one host can be a canary.
    assert_eq!((agent.step(), agent.phase()), (vec![3], Phase::Canary));
    assert_eq!((agent.hosts(1), agent.hosts(5)), (vec![], vec![]));
    assert_eq!((agent.hosts(5), agent.hosts(1)), (vec![1], vec![2]));
    assert_eq!((agent.hosts(1), agent.phase()), (vec![], Phase::Done));
}

#[test]
fn a_host_that_carries_out_nothing_holds_up_no_other() {
    let mut agent = agent(3, &[], "DeadlineSec=60");
    assert_eq!((agent.step(), agent.step()), (vec![1], vec![]));
    agent.now = 60;
    assert_eq!(agent.step(), [2]);
    let why = "agent.service on n1 isn't waited for: its host has carried out nothing for 60 s";
    assert_eq!((agent.why(), agent.phase()), (why, Phase::Rolling));
    agent.host(2).state = Healthy;
    agent.now = 61;
    assert!(agent.step().is_empty());
    agent.now = 71;
    assert_eq!(agent.step(), [3]);
}
