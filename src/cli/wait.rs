//! When is a command done? A pure answer for one unit: what was asked × what the cluster says now → done, failed, or
//! what it waits for. Owns the rules; knows no time, no connection and no terminal (`follow` does).

use crate::api::wire::{StateView, UnitView};
use crate::model::name::UnitName;
use crate::model::revision::Revision;
use crate::model::unit::{Desired, Target};

/// What a command asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Aim {
    /// On a host, not started.
    Load,
    /// Started, as systemd understands it.
    Start,
    /// Stopped and started where it is.
    Restart,
    /// Stopped, still on its host.
    Stop,
    /// On no host.
    Unload,
    /// Gone.
    Destroy,
}

impl Aim {
    /// The command's name.
    pub(super) fn verb(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Start => "start",
            Self::Restart => "restart",
            Self::Stop => "stop",
            Self::Unload => "unload",
            Self::Destroy => "destroy",
        }
    }

    /// What the unit's state is called once it is done.
    pub(super) fn state(self) -> &'static str {
        match self {
            Self::Load | Self::Stop => "loaded",
            Self::Start | Self::Restart => "launched",
            Self::Unload => "inactive",
            Self::Destroy => "destroyed",
        }
    }

    /// The state to ask the cluster for.
    pub(super) fn desired(self) -> Option<Desired> {
        match self {
            Self::Load | Self::Stop => Some(Desired::Loaded),
            Self::Start | Self::Restart => Some(Desired::Launched),
            Self::Unload => Some(Desired::Inactive),
            Self::Destroy => None,
        }
    }
}

/// What was asked of one unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Goal {
    /// The unit.
    pub(super) name: UnitName,
    /// What for.
    pub(super) aim: Aim,
    /// A host that has carried out this generation has carried out what was asked.
    pub(super) generation: Revision,
    /// Whether asking changed anything; if not, what happened before counts.
    pub(super) changed: bool,
}

/// How far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Done.
    Done,
    /// Done, unless more hosts are still to be heard of. Counts when it stays so.
    Settling,
    /// It won't get done; why, a sentence.
    Failed(String),
    /// It fails for now, but what others do in the same moment may change that. Counts when it stays so.
    Failing(String),
    /// No host fits for now: why, in short. Counts when it stays so.
    Unplaced(String),
    /// Under way; what with.
    Waiting(String),
}

/// What the cluster says of a unit.
#[derive(Debug, Clone, Copy)]
pub(super) enum Sight<'a> {
    /// Nothing: it doesn't have it.
    Gone,
    /// It was destroyed, and a host has yet to stop and forget it.
    Leaving,
    /// This.
    There(&'a UnitView),
}

/// How far `goal` is.
pub(super) fn judge(goal: &Goal, sight: Sight<'_>) -> Verdict {
    let view = match (sight, goal.aim) {
        (Sight::There(view), _) => view,
        (_, Aim::Load | Aim::Start | Aim::Restart) => return Verdict::Failed("was destroyed meanwhile".into()),
        (Sight::Gone, _) => return Verdict::Done,
        (Sight::Leaving, _) => return Verdict::Waiting("waiting for its host to stop and forget it".into()),
    };
    if view.generation < goal.generation {
        return Verdict::Waiting("the cluster has yet to take notice".into());
    }
    if goal.aim == Aim::Destroy {
        return if view.generation > goal.generation {
            // It was destroyed, and somebody has submitted it again.
            Verdict::Done
        } else {
            Verdict::Waiting(leaving(view))
        };
    }
    if view.generation > goal.generation && goal.aim.desired() != Some(view.desired) {
        return Verdict::Failed(format!("is to be {} meanwhile, as somebody else asked", view.desired));
    }
    match goal.aim {
        Aim::Unload if view.machine.is_none() && view.states.is_empty() => Verdict::Done,
        Aim::Unload => Verdict::Waiting(leaving(view)),
        _ if view.global => everywhere(goal, view),
        _ => on_its_host(goal, view),
    }
}

fn leaving(view: &UnitView) -> String {
    let hosts: Vec<String> =
        view.states.iter().map(|state| format!("{}{}", state.machine.name(), what_of(state))).collect();
    if hosts.is_empty() { "leaving its host".into() } else { format!("leaving {}", hosts.join(", ")) }
}

fn on_its_host(goal: &Goal, view: &UnitView) -> Verdict {
    match (&view.machine, &view.waiting) {
        (None, _) if goal.aim == Aim::Stop => Verdict::Done,
        (None, Some(why)) => Verdict::Unplaced(why.clone()),
        (None, None) => Verdict::Waiting("waiting for a host".into()),
        (Some(machine), _) => match view.states.iter().find(|state| state.machine.id == machine.id) {
            Some(state) => on(goal, state),
            None if goal.aim == Aim::Stop && !goal.changed => Verdict::Done,
            None => Verdict::Waiting(format!("waiting for {}", machine.name())),
        },
    }
}

/// A global is done when it is done on every host that has it. Hosts that have just been told of it are not known yet.
fn everywhere(goal: &Goal, view: &UnitView) -> Verdict {
    let present: Vec<&StateView> = view.states.iter().filter(|state| state.target != Target::Removed).collect();
    if present.is_empty() {
        return match (&view.waiting, goal.aim) {
            (_, Aim::Stop) => Verdict::Settling,
            (Some(why), _) => Verdict::Unplaced(why.clone()),
            (None, _) => Verdict::Waiting("waiting for hosts".into()),
        };
    }
    let mut verdicts: Vec<Verdict> = present.iter().map(|state| on(goal, state)).collect();
    verdicts.extend(view.hosts.iter().filter(|order| order.target != Target::Removed).filter_map(|order| {
        let heard = present.iter().any(|state| state.machine.id == order.machine.id);
        (order.generation < goal.generation || !heard)
            .then(|| Verdict::Waiting(format!("waiting for {}", order.machine.name())))
    }));
    let all = |kind: fn(&Verdict) -> Option<&String>| -> Option<String> {
        let texts: Vec<&str> = verdicts.iter().filter_map(kind).map(String::as_str).collect();
        (!texts.is_empty()).then(|| texts.join("; "))
    };
    let failed = |verdict: &Verdict| matches!(verdict, Verdict::Failed(_));
    if verdicts.iter().any(failed) {
        // One host's failure is told with all that are known; the others go on.
        let text = all(|verdict| match verdict {
            Verdict::Failed(why) | Verdict::Failing(why) => Some(why),
            _ => None,
        });
        return Verdict::Failed(text.unwrap_or_default());
    }
    if let Some(text) = all(|verdict| if let Verdict::Failing(why) = verdict { Some(why) } else { None }) {
        return Verdict::Failing(text);
    }
    match all(|verdict| if let Verdict::Waiting(what) = verdict { Some(what) } else { None }) {
        Some(text) => Verdict::Waiting(text),
        None => Verdict::Settling,
    }
}

/// One host's part.
fn on(goal: &Goal, state: &StateView) -> Verdict {
    let host = state.machine.name();
    if state.generation < goal.generation {
        let trouble = state.error.as_ref().map_or(String::new(), |error| format!(": {error}"));
        return Verdict::Waiting(format!("waiting for {host} to {} it{trouble}", goal.aim.verb()));
    }
    if let Some(job) = &state.job {
        return Verdict::Waiting(format!("{job} job on {host}{}", what_of(state)));
    }
    if let Some(error) = &state.error
        && state.active != "active"
    {
        let text = format!("failed on {host}: {error}");
        return match (goal.aim, state.active.as_str()) {
            (Aim::Stop, "failed") => Verdict::Done,
            (Aim::Stop, _) => Verdict::Waiting(text),
            // systemd has made up its mind.
            (Aim::Start | Aim::Restart, "failed") => Verdict::Failed(text),
            _ => Verdict::Failing(text),
        };
    }
    match goal.aim {
        Aim::Start | Aim::Restart => started(goal, state, &host),
        Aim::Load if state.load == "loaded" => Verdict::Done,
        Aim::Load => Verdict::Failing(format!("failed on {host}: systemd can't load it ({})", state.load)),
        _ if matches!(state.active.as_str(), "inactive" | "failed") => Verdict::Done,
        _ => Verdict::Waiting(format!("on {host}{}", what_of(state))),
    }
}

fn started(goal: &Goal, state: &StateView, host: &str) -> Verdict {
    let result = state.result.as_deref();
    let went_wrong = || {
        let detail = match result {
            Some("dependency") => "a unit it needs failed".into(),
            Some("timeout") => "systemd's start job timed out".into(),
            Some("canceled") => "its start was cancelled by another job".into(),
            Some(result @ ("failed" | "invalid" | "assert" | "unsupported")) => {
                format!("systemd's start job ended as `{result}`")
            }
            _ => "it failed after it was started".into(),
        };
        let load = if matches!(state.load.as_str(), "loaded" | "") {
            String::new()
        } else {
            format!(", load state {}", state.load)
        };
        format!("failed on {host}: {detail}, now {} ({}){load}", state.active, state.sub)
    };
    match (state.active.as_str(), result) {
        ("active" | "reloading", _) => Verdict::Done,
        ("failed", _) => Verdict::Failed(went_wrong()),
        // A unit it needs may be on its way in the same batch.
        (_, Some("dependency")) => Verdict::Failing(went_wrong()),
        (_, Some("failed" | "timeout" | "canceled" | "invalid" | "assert" | "unsupported")) => {
            Verdict::Failed(went_wrong())
        }
        // A oneshot that is over, or a unit whose conditions didn't hold: systemd calls both done.
        ("inactive", Some("done" | "skipped")) => Verdict::Done,
        // A host whose fleetd was restarted no longer knows how the job ended, long ago.
        ("inactive", None) if !goal.changed => Verdict::Done,
        _ if !matches!(state.load.as_str(), "loaded" | "") => Verdict::Failing(went_wrong()),
        _ => Verdict::Waiting(format!("starting on {host}{}", what_of(state))),
    }
}

fn what_of(state: &StateView) -> String {
    let StateView { active, sub, error, .. } = state;
    let trouble = error.as_ref().map_or(String::new(), |error| format!(": {error}"));
    if active.is_empty() { trouble } else { format!(" ({active}, {sub}){trouble}") }
}

#[cfg(test)]
mod tests {
    use super::Sight::There;
    use super::*;
    use crate::api::wire::MachineRef;

    const ID: &str = "aaaaaaaabbbbccccddddeeeeffff0000";

    /// `gen load active sub [job=…] [result=…] [error=…] [target]`
    fn state(text: &str) -> StateView {
        let words: Vec<&str> = text.split_whitespace().collect();
        let after = |key: &str| words.iter().find_map(|word| word.strip_prefix(key)).map(str::to_owned);
        StateView {
            machine: machine(ID),
            generation: Revision(words[0].parse().unwrap()),
            target: if words.contains(&"gone") { Target::Removed } else { Target::Launched },
            hash: crate::model::name::UnitHash::new("0"),
            load: words[1].into(),
            active: words[2].into(),
            sub: words[3].into(),
            job: after("job="),
            result: after("result="),
            error: after("error="),
            since: 0,
        }
    }

    fn machine(id: &str) -> MachineRef {
        MachineRef { id: id.parse().unwrap(), ip: "10.0.0.1".into(), hostname: "n1".into() }
    }

    fn view(desired: Desired, placed: bool, states: &[&str]) -> UnitView {
        UnitView {
            name: "a.service".parse().unwrap(),
            hash: crate::model::name::UnitHash::new("0"),
            description: String::new(),
            global: false,
            desired,
            current: String::new(),
            generation: Revision(7),
            machine: placed.then(|| machine(ID)),
            hosts: Vec::new(),
            waiting: None,
            states: states.iter().map(|text| state(text)).collect(),
        }
    }

    fn goal(aim: Aim) -> Goal {
        Goal { name: "a.service".parse().unwrap(), aim, generation: Revision(7), changed: true }
    }

    fn shown(verdict: &Verdict) -> String {
        match verdict {
            Verdict::Done => "done".into(),
            Verdict::Settling => "settling".into(),
            Verdict::Failed(why) => format!("FAILED {why}"),
            Verdict::Failing(why) => format!("failing {why}"),
            Verdict::Unplaced(why) => format!("unplaced {why}"),
            Verdict::Waiting(what) => format!("waiting {what}"),
        }
    }

    #[test]
    fn a_start_is_done_when_systemd_says_so() {
        let cases = [
            ("7 loaded active running", "done"),
            ("8 loaded active running", "done"),
            ("7 loaded active exited result=done", "done"),
            ("7 loaded inactive dead result=done", "done"),
            ("7 loaded reloading reload", "done"),
            ("6 loaded active running", "waiting waiting for n1 to start it"),
            ("6 loaded failed failed result=failed", "waiting waiting for n1 to start it"),
            ("6 loaded inactive dead error=full", "waiting waiting for n1 to start it: full"),
            ("7 loaded activating start-pre job=start", "waiting start job on n1 (activating, start-pre)"),
            ("7 loaded inactive dead job=start result=failed", "waiting start job on n1 (inactive, dead)"),
            ("7 loaded activating auto-restart result=done", "waiting starting on n1 (activating, auto-restart)"),
            (
                "7 loaded activating auto-restart result=failed",
                "FAILED failed on n1: systemd's start job ended as `failed`, now activating (auto-restart)",
            ),
            ("7 loaded inactive dead", "waiting starting on n1 (inactive, dead)"),
            (
                "7 loaded failed failed result=failed",
                "FAILED failed on n1: systemd's start job ended as `failed`, now failed (failed)",
            ),
            (
                "7 loaded failed failed result=done",
                "FAILED failed on n1: it failed after it was started, now failed (failed)",
            ),
            (
                "7 loaded inactive dead result=timeout",
                "FAILED failed on n1: systemd's start job timed out, now inactive (dead)",
            ),
            (
                "7 loaded inactive dead result=dependency",
                "failing failed on n1: a unit it needs failed, now inactive (dead)",
            ),
            (
                "7 not-found inactive dead",
                "failing failed on n1: it failed after it was started, now inactive (dead), load state not-found",
            ),
            ("7 bad-setting inactive dead error=no-ExecStart", "failing failed on n1: no-ExecStart"),
            ("7 loaded failed failed error=203/EXEC", "FAILED failed on n1: 203/EXEC"),
            ("7 loaded active running error=stale", "done"),
        ];
        for (state, expected) in cases {
            let verdict = judge(&goal(Aim::Start), There(&view(Desired::Launched, true, &[state])));
            assert_eq!(shown(&verdict), expected, "{state}");
        }
        let old = Goal { changed: false, ..goal(Aim::Start) };
        assert_eq!(judge(&old, There(&view(Desired::Launched, true, &["7 loaded inactive dead"]))), Verdict::Done);
    }

    #[test]
    fn other_aims_have_their_own_end() {
        use Aim::{Destroy, Load, Stop, Unload};
        use Desired::{Inactive, Loaded};
        let cases: &[(Aim, Desired, bool, &[&str], &str)] = &[
            (Load, Loaded, true, &["7 loaded inactive dead"], "done"),
            (
                Load,
                Loaded,
                true,
                &["7 loaded deactivating stop job=stop"],
                "waiting stop job on n1 (deactivating, stop)",
            ),
            (
                Load,
                Loaded,
                true,
                &["7 bad-setting inactive dead"],
                "failing failed on n1: systemd can't load it (bad-setting)",
            ),
            (Load, Loaded, true, &[], "waiting waiting for n1"),
            (Load, Loaded, false, &[], "waiting waiting for a host"),
            (Stop, Loaded, true, &["7 loaded inactive dead"], "done"),
            (Stop, Loaded, true, &["7 loaded failed failed result=done"], "done"),
            (Stop, Loaded, true, &["6 loaded active running"], "waiting waiting for n1 to stop it"),
            (
                Stop,
                Loaded,
                true,
                &["7 loaded deactivating stop-sigterm job=stop"],
                "waiting stop job on n1 (deactivating, stop-sigterm)",
            ),
            (
                Stop,
                Loaded,
                true,
                &["7 loaded active running error=refused"],
                "waiting on n1 (active, running): refused",
            ),
            (Stop, Loaded, true, &[], "waiting waiting for n1"),
            (Stop, Loaded, false, &[], "done"),
            (Unload, Inactive, false, &[], "done"),
            (Unload, Inactive, true, &["6 loaded active running"], "waiting leaving n1 (active, running)"),
            (
                Unload,
                Inactive,
                false,
                &["9 loaded deactivating stop job=stop gone"],
                "waiting leaving n1 (deactivating, stop)",
            ),
            (Destroy, Loaded, false, &[], "waiting leaving its host"),
            (Destroy, Loaded, true, &["6 loaded active running"], "waiting leaving n1 (active, running)"),
        ];
        for (aim, desired, placed, states, expected) in cases {
            assert_eq!(
                shown(&judge(&goal(*aim), There(&view(*desired, *placed, states)))),
                *expected,
                "{aim:?} {states:?}"
            );
        }
    }

    #[test]
    fn the_gone_the_waiting_and_the_overruled() {
        let leaving = "waiting waiting for its host to stop and forget it";
        for (aim, then, expected) in [
            (Aim::Start, "FAILED was destroyed meanwhile", "FAILED was destroyed meanwhile"),
            (Aim::Stop, leaving, "done"),
            (Aim::Unload, leaving, "done"),
            (Aim::Destroy, leaving, "done"),
        ] {
            let verdicts = [Sight::Leaving, Sight::Gone].map(|sight| shown(&judge(&goal(aim), sight)));
            assert_eq!(verdicts, [then, expected], "{aim:?}");
        }
        let mut unit = view(Desired::Launched, false, &[]);
        unit.waiting = Some("1 of 1 hosts: conflict".into());
        assert_eq!(shown(&judge(&goal(Aim::Start), There(&unit))), "unplaced 1 of 1 hosts: conflict");
        assert_eq!(
            shown(&judge(&goal(Aim::Stop), There(&UnitView { desired: Desired::Loaded, ..unit.clone() }))),
            "done"
        );
        unit.generation = Revision(6);
        assert_eq!(shown(&judge(&goal(Aim::Start), There(&unit))), "waiting the cluster has yet to take notice");
        let newer = UnitView { generation: Revision(9), ..view(Desired::Loaded, true, &["9 loaded inactive dead"]) };
        assert_eq!(
            shown(&judge(&goal(Aim::Start), There(&newer))),
            "FAILED is to be loaded meanwhile, as somebody else asked"
        );
        assert_eq!(
            (judge(&goal(Aim::Stop), There(&newer)), judge(&goal(Aim::Destroy), There(&newer))),
            (Verdict::Done, Verdict::Done)
        );
    }

    #[test]
    fn only_the_host_it_is_placed_on_counts() {
        let mut unit = view(Desired::Launched, true, &["7 loaded active running"]);
        unit.states[0].machine = machine("bbbbbbbbbbbbccccddddeeeeffff0000");
        assert_eq!(shown(&judge(&goal(Aim::Start), There(&unit))), "waiting waiting for n1");
    }

    #[test]
    fn globals_are_done_when_all_their_hosts_are() {
        let cases: &[(&[&str], &str)] = &[
            (&[], "waiting waiting for hosts"),
            (&["7 loaded active running", "8 loaded active running"], "settling"),
            (&["7 loaded active running", "6 loaded inactive dead gone"], "settling"),
            (&["7 loaded active running", "6 loaded inactive dead"], "waiting waiting for n1 to start it"),
            (
                &["7 loaded failed failed", "7 loaded activating start job=start", "7 loaded inactive dead error=x"],
                "FAILED failed on n1: it failed after it was started, now failed (failed); failed on n1: x",
            ),
        ];
        for (states, expected) in cases {
            let unit = UnitView { global: true, ..view(Desired::Launched, false, states) };
            assert_eq!(shown(&judge(&goal(Aim::Start), There(&unit))), *expected, "{states:?}");
        }
        let stopped = UnitView { global: true, ..view(Desired::Loaded, false, &[]) };
        assert_eq!(judge(&goal(Aim::Stop), There(&stopped)), Verdict::Settling);
    }
}
