//! Hooks: what runs once before the members get the new file, and after they have it.

use super::*;

const BEFORE: &str = "HealthySec=5\nDeadlineSec=30\nBefore=a.service b.service";
const AFTER: &str = "HealthySec=5\nDeadlineSec=30\nAfter=smoke.service";

impl World {
    /// Look at this second, after the hook that runs has got this state. Returns the one that runs then.
    fn hook_at(&mut self, now: u64, state: MemberState) -> Option<&str> {
        self.now = now;
        if let Some(hook) = &mut self.hook {
            hook.state = state;
        }
        assert_eq!(self.look(), none());
        self.look();
        self.runs()
    }

    fn runs(&self) -> Option<&str> {
        let run = self.rollout.running().map(|run| run.unit.as_str());
        assert_eq!(run, self.hook.as_ref().map(|hook| hook.name.unit.as_str()));
        run
    }

    /// The hooks that have ended, with the time that they took, in seconds.
    fn ended(&self) -> Vec<(&str, u64)> {
        let ended = |run: &'_ HookRun| run.took.map(|took| took / 1000);
        self.rollout.hooks.iter().filter_map(|run| Some((run.unit.as_str(), ended(run)?))).collect()
    }
}

#[test]
fn what_comes_before_runs_in_order_before_anybody_is_let_through() {
    let mut web = web(2, BEFORE);
    assert_eq!(web.at(0, &[]), none());
    assert_eq!((web.phase(), web.runs()), (Phase::Before, Some("a.service")));
    assert_eq!(web.hook_at(1, Pending(None)), Some("a.service"));
    assert_eq!(web.hook_at(4, Healthy), Some("b.service"));
    assert_eq!((web.ended(), web.phase()), (vec![("a.service", 4)], Phase::Before));
    // What is lost is begun again.
    web.hook = None;
    assert_eq!(web.hook_at(6, Pending(None)), Some("b.service"));
    web.now = 8;
    web.hook.as_mut().unwrap().state = Healthy;
    assert_eq!(web.look(), (vec![2], vec![]));
    assert_eq!((web.ended(), web.runs()), (vec![("a.service", 4), ("b.service", 2)], None));
    assert_eq!(web.phase(), Phase::Rolling);
    web.at(9, &[(2, Healthy)]);
    assert_eq!(web.at(14, &[]), (vec![1], vec![]));
    web.at(15, &[(1, Healthy)]);
    web.at(20, &[]);
    assert_eq!((web.phase(), web.ended().len()), (Phase::Done, 2), "each has run once");
}

#[test]
fn one_that_fails_has_stopped_nobody() {
    for (state, at, why) in [
        (Failed("a.service failed on n9: exited 1".into()), 2, "a.service failed on n9: exited 1"),
        (Pending(None), 31, "a.service hasn't ended after 30 s"),
        (Assigned(Some("it fits no host".into())), 31, "a.service didn't run in 30 s: it fits no host"),
        (Assigned(None), 31, "a.service didn't run in 30 s: its host has carried out nothing"),
    ] {
        let mut web = web(2, BEFORE);
        web.at(0, &[]);
        assert_eq!(web.hook_at(1, state.clone()).is_some(), at > 2, "{why}");
        assert_eq!(web.wake(), (at > 2).then_some(31).or(Some(5)), "{why}");
        assert_eq!(web.hook_at(at, state), None);
        assert_eq!((web.why(), web.verdict()), (why, Some(Verdict::Failed)));
        assert_eq!(web.rollout.failed.as_ref().map(UnitName::as_str), Some("a.service"));
        assert!(web.members.iter().all(|member| member.gated), "{why}");
        assert_eq!(web.at(at + 5, &[]), none());
        assert_eq!((web.phase(), web.ended().len()), (Phase::Reverted, 0));
        // Tried again, everything runs again.
        web.ask(Request::Retry);
        assert_eq!((web.phase(), web.runs()), (Phase::Before, Some("a.service")));
    }
    let mut web = web(2, BEFORE);
    web.missing = vec!["b.service".parse().unwrap()];
    web.at(0, &[]);
    assert_eq!(web.hook_at(3, Healthy), None);
    assert_eq!((web.why(), web.phase()), ("there is no b.service", Phase::Reverting));
}

#[test]
fn its_time_is_that_on_one_host_while_the_rollout_goes_on() {
    let mut web = web(2, BEFORE);
    web.at(0, &[]);
    web.hook_at(1, Pending(None));
    // Its host is gone for long, and it runs again on another one.
    web.hook_at(20, Away);
    assert_eq!(web.wake(), None);
    web.hook_at(100, Away);
    web.hook.as_mut().unwrap().host = Some(host(8));
    assert_eq!(web.hook_at(101, Pending(None)), Some("a.service"));
    assert_eq!(web.wake(), Some(131));
    // A pause doesn't stop it, and doesn't count.
    web.now = 121;
    web.ask(Request::Pause);
    assert_eq!((web.phase(), web.runs(), web.wake()), (Phase::Paused, Some("a.service"), None));
    assert_eq!(web.hook_at(500, Pending(None)), Some("a.service"));
    web.ask(Request::Resume);
    assert_eq!((web.phase(), web.wake()), (Phase::Before, Some(530)));
    assert_eq!(web.hook_at(529, Healthy), Some("b.service"));
    // Another leader begins to count again.
    web.hook_at(540, Pending(None));
    web.timers = Timers::default();
    web.hook_at(560, Pending(None));
    assert_eq!(web.wake(), Some(590));
    // It goes to another host, which begins to count then.
    web.hook_at(580, Assigned(None));
    web.hook.as_mut().unwrap().host = None;
    assert_eq!(web.hook_at(609, Assigned(None)), Some("b.service"));
    assert_eq!(web.wake(), Some(639));
}

#[test]
fn one_that_failed_runs_again_when_it_goes_on() {
    let mut web = web(2, &format!("{BEFORE}\nOnFailure=pause"));
    web.at(0, &[]);
    web.hook_at(1, Healthy);
    assert_eq!(web.hook_at(2, Failed("b.service failed".into())), None);
    assert_eq!((web.phase(), web.ended().len()), (Phase::Paused, 1));
    web.ask(Request::Resume);
    assert_eq!((web.phase(), web.runs(), web.ended().len()), (Phase::Before, Some("b.service"), 1));
}

#[test]
fn what_comes_after_runs_when_all_members_have_the_file() {
    for (state, phase) in [(Healthy, Phase::Done), (Failed("smoke.service failed".into()), Phase::Reverting)] {
        let mut web = web(2, AFTER);
        assert_eq!(web.at(0, &[]), (vec![2], vec![]));
        web.at(1, &[(2, Healthy)]);
        assert_eq!(web.at(6, &[]), (vec![1], vec![]));
        web.at(7, &[(1, Healthy)]);
        web.at(12, &[]);
        assert_eq!((web.phase(), web.runs(), web.verdict()), (Phase::After, Some("smoke.service"), None));
        // A member that comes back with the file before gets the new one first.
        web.members.push(member(3));
        assert_eq!(web.at(13, &[]), (vec![3], vec![]));
        assert_eq!((web.phase(), web.runs()), (Phase::Rolling, Some("smoke.service")));
        web.at(14, &[(3, Healthy)]);
        web.at(19, &[]);
        assert_eq!(web.phase(), Phase::After);
        web.hook.as_mut().unwrap().state = state;
        let (_, back) = web.at(20, &[]);
        assert_eq!((web.phase(), web.runs()), (phase, None));
        if phase == Phase::Reverting {
            // One at a time, because they are healthy.
            assert_eq!((web.why(), back), ("smoke.service failed", vec![3]));
            web.at(21, &[(3, Healthy)]);
            assert_eq!(web.at(26, &[]), (vec![], vec![2]));
        } else {
            assert_eq!((web.verdict(), web.ended()), (Some(Verdict::Stable), vec![("smoke.service", 8)]));
        }
    }
}

#[test]
fn a_member_that_fails_meanwhile_fails_the_rollout() {
    let mut web = web(1, AFTER);
    web.at(0, &[]);
    web.at(1, &[(1, Healthy)]);
    web.at(6, &[]);
    assert_eq!(web.phase(), Phase::After);
    web.at(7, &[(1, Failed("web@1.service failed".into()))]);
    assert_eq!((web.why(), web.runs()), ("web@1.service failed", None));
}
