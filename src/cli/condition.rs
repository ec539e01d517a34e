//! The state of a unit in one word, with its reason: what the tables and the overview show to people. Pure. Owns the
//! words and which states need attention; what systemd and the cluster say of a unit is the API's.

use crate::api::wire::{MachineRef, RetryView, StateView, UnitView};
use crate::cli::output::fitted::Tone;
use crate::cli::output::people::ago;
use crate::model::systemd::{ActiveState, JobKind, JobResult};
use crate::model::unit::Desired;

/// The kinds of states; those that need attention come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// systemd or the host gave up on it.
    Failed,
    /// It should run and doesn't.
    Dead,
    /// systemd restarts it, or has restarted it.
    Restarting,
    /// It runs, and its probes say that it isn't ready.
    Unready,
    /// No host fits.
    Waiting,
    /// On its way up.
    Starting,
    /// On its way down.
    Stopping,
    /// It runs.
    Running,
    /// It has finished: a oneshot.
    Done,
    /// It isn't meant to run.
    Inactive,
}

impl Kind {
    /// All kinds, in order.
    pub(super) const ALL: [Self; 10] = [
        Self::Failed,
        Self::Dead,
        Self::Restarting,
        Self::Unready,
        Self::Waiting,
        Self::Starting,
        Self::Stopping,
        Self::Running,
        Self::Done,
        Self::Inactive,
    ];

    /// The word for counts and for `--state`.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Dead => "dead",
            Self::Restarting => "restarting",
            Self::Unready => "unready",
            Self::Waiting => "waiting",
            Self::Starting => "starting",
            Self::Stopping => "stopping",
            Self::Running => "running",
            Self::Done => "done",
            Self::Inactive => "inactive",
        }
    }

    /// A sign in front of the unit's name.
    pub(super) fn mark(self) -> &'static str {
        match self {
            Self::Failed => "×",
            Self::Dead => "!",
            Self::Restarting => "↻",
            Self::Unready => "◌",
            Self::Waiting => "…",
            Self::Starting => "↑",
            Self::Stopping => "↓",
            Self::Running => "●",
            Self::Done => "✓",
            Self::Inactive => "○",
        }
    }

    /// The emphasis.
    pub(super) fn tone(self) -> Tone {
        match self {
            Self::Failed | Self::Dead => Tone::Bad,
            Self::Restarting | Self::Unready | Self::Waiting | Self::Starting | Self::Stopping => Tone::Busy,
            Self::Running => Tone::Good,
            Self::Done | Self::Inactive => Tone::Dim,
        }
    }
}

/// The state of a unit on one host, or of one that is on none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Condition {
    /// The kind.
    pub(super) kind: Kind,
    /// The state, with its reason.
    pub(super) text: String,
    /// Since when, in ms since the epoch; 0 if unknown.
    pub(super) since: u64,
}

impl Condition {
    fn new(kind: Kind, text: impl Into<String>, since: u64) -> Self {
        Self { kind, text: text.into(), since }
    }

    /// Of a unit that no host reports.
    pub(super) fn without_report(unit: &UnitView) -> Self {
        if let Some(since) = unit.done {
            return Self::new(Kind::Done, "done", since);
        }
        match (&unit.waiting, unit.desired) {
            (_, Desired::Inactive) => Self::new(Kind::Inactive, "inactive", 0),
            (Some(why), _) => Self::new(Kind::Waiting, format!("waiting: {why}"), 0),
            (None, _) if unit.machine.as_ref().is_some_and(MachineRef::is_absent) => {
                Self::new(Kind::Starting, "unknown: its host is gone", 0)
            }
            (None, _) => Self::new(Kind::Starting, "starting: no report from its host yet", 0),
        }
    }

    /// Of a unit with this desired state, as a host reports it.
    pub(super) fn reported(desired: Option<Desired>, state: &StateView) -> Self {
        let launched = desired == Some(Desired::Launched);
        let report = &state.report;
        let new = |kind, text: &str| Self::new(kind, text, report.since);
        let because = |word: &str| match state.trouble() {
            Some(why) => format!("{word}: {}", why.lines().next().unwrap_or_default()),
            None => word.to_owned(),
        };
        let doing = |word: &str| report.status.as_ref().map_or(word.to_owned(), |status| format!("{word}: {status}"));
        if report.error.is_some() && report.active != ActiveState::Active {
            return new(Kind::Failed, &because("failed"));
        }
        match (&report.active, report.sub.as_str()) {
            (ActiveState::Failed, _) => new(Kind::Failed, &because("failed")),
            (ActiveState::Activating, "auto-restart" | "auto-restart-queued") => {
                new(Kind::Restarting, &because(&restarted("restarting", report.restarts)))
            }
            (ActiveState::Activating, _) => new(Kind::Starting, &doing("starting")),
            (ActiveState::Deactivating, _) => new(Kind::Stopping, &doing("stopping")),
            (active, sub) if active.is_active() && !report.is_ready() => {
                let why = report.health.as_ref().map_or(String::new(), |why| format!(": {why}"));
                new(Kind::Unready, &format!("{}, not ready{why}", restarted(sub, report.restarts)))
            }
            (ActiveState::Active, "exited") => new(Kind::Done, "done"),
            (active, sub) if active.is_active() => new(Kind::Running, &restarted(sub, report.restarts)),
            _ if report.job == Some(JobKind::Start) => new(Kind::Starting, "starting"),
            _ if report.load.is_unusable() => new(Kind::Failed, &format!("failed: {}", report.load)),
            _ if !launched => new(Kind::Inactive, "inactive"),
            _ if report.missing => new(Kind::Dead, "dead: it should run"),
            // As systemd sees it, a oneshot that has finished and a unit whose conditions weren't met are done.
            _ if matches!(report.result, Some(JobResult::Done | JobResult::Skipped)) => new(Kind::Done, "done"),
            _ => new(Kind::Dead, "dead: it should run"),
        }
    }
}

impl Condition {
    /// The same at `now`, in ms since the epoch, of a unit that is tried again by itself: when.
    pub(super) fn tried_again(self, unit: &UnitView, now: u64) -> Self {
        let Some(RetryView { at, failed_on, stays }) = unit.retry.as_deref().filter(|_| self.kind == Kind::Failed)
        else {
            return self;
        };
        let next = if *at > now { format!("next try in {}", ago(now, *at)) } else { "next try soon".into() };
        let hosts: Vec<String> = failed_on.iter().map(MachineRef::name).collect();
        let text = match (stays, hosts.split_last()) {
            (true, Some((last, others))) if !others.is_empty() => {
                let hosts = format!("{} and {last}", others.join(", "));
                let reset = format!("fleetctl reset-failed {} for now", unit.name);
                format!("failed on {hosts}: not moved any more; {next} ({reset})")
            }
            _ => format!("{}; {next}", self.text),
        };
        Self { text, ..self }
    }
}

/// `running, 29 restarts`: a crash loop looks like one whenever it is looked at.
fn restarted(word: &str, restarts: u32) -> String {
    match restarts {
        0 => word.to_owned(),
        1 => format!("{word}, 1 restart"),
        count => format!("{word}, {count} restarts"),
    }
}

/// `6 units: 1 failed, 5 running`.
pub(super) fn summary(total: &str, kinds: impl Iterator<Item = Kind> + Clone) -> String {
    let count = |kind: &Kind| kinds.clone().filter(|other| other == kind).count();
    let parts: Vec<String> = Kind::ALL
        .iter()
        .map(|kind| (count(kind), kind))
        .filter(|(count, _)| *count > 0)
        .map(|(count, kind)| format!("{count} {}", kind.word()))
        .collect();
    if parts.is_empty() { total.to_owned() } else { format!("{total}: {}", parts.join(", ")) }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::api::wire::HostReasons;
    use crate::model::name::UnitHash;
    use crate::model::revision::Revision;
    use crate::model::unit::UnitReport;
    use crate::model::unit::testing::report;

    /// The host `name`, and why a unit doesn't fit there.
    pub(in crate::cli) fn host(name: &str, misfits: &[&str]) -> HostReasons {
        let id = "3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a".parse().unwrap();
        let machine = MachineRef { id, ip: String::new(), hostname: name.into() };
        HostReasons { machine, misfits: misfits.iter().map(ToString::to_string).collect() }
    }

    /// `host active sub`, and any of `result=`, `error=`, `job=`, `restarts=`, `exit=`, `status=`, `ready=yes|no`,
    /// `health=` and `missing`; since 60 s after the epoch.
    pub(in crate::cli) fn state(text: &str) -> StateView {
        let words: Vec<&str> = text.split_whitespace().collect();
        let digit = words[0].chars().last().unwrap().to_string();
        StateView {
            machine: MachineRef {
                id: digit.repeat(32).parse().unwrap(),
                ip: format!("10.0.0.{digit}"),
                hostname: words[0].into(),
            },
            preview: false,
            report: UnitReport { since: 60_000, ..report(&format!("1 loaded {}", words[1..].join(" "))) },
        }
    }

    /// A unit with these reports, placed on the host of the first one.
    pub(in crate::cli) fn unit(name: &str, desired: Desired, states: &[&str]) -> UnitView {
        let states: Vec<StateView> = states.iter().map(|text| state(text)).collect();
        UnitView {
            name: name.parse().unwrap(),
            hash: UnitHash::new("0"),
            description: String::new(),
            global: false,
            replicas: None,
            desired,
            current: String::new(),
            generation: Revision(1),
            machine: states.first().map(|state| state.machine.clone()),
            done: None,
            hosts: Vec::new(),
            waiting: None,
            retry: None,
            states,
            progress: None,
        }
    }

    #[test]
    fn without_a_report_it_is_said_whether_its_host_is_gone() {
        let placed = |hostname: &str| {
            let id = "3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a".parse().unwrap();
            let machine = Some(MachineRef { id, ip: String::new(), hostname: hostname.into() });
            Condition::without_report(&UnitView { machine, ..unit("a.service", Desired::Launched, &[]) }).text
        };
        assert_eq!(placed("n1"), "starting: no report from its host yet");
        assert_eq!(placed(""), "unknown: its host is gone");
    }

    #[test]
    fn a_state_is_one_word_and_its_reason() {
        use Desired::{Launched, Loaded};
        for (desired, text, kind, said) in [
            (Launched, "n1 active running", Kind::Running, "running"),
            (Launched, "n1 active listening", Kind::Running, "listening"),
            (Launched, "n1 active running ready=yes", Kind::Running, "running"),
            (Launched, "n1 active running ready=no", Kind::Unready, "running, not ready"),
            (
                Launched,
                "n1 active running ready=no health=tcp:80:refused restarts=1",
                Kind::Unready,
                "running, 1 restart, not ready: tcp:80:refused",
            ),
            (Launched, "n1 refreshing refresh-extensions", Kind::Running, "refresh-extensions"),
            (Launched, "n1 refreshing refresh ready=no", Kind::Unready, "refresh, not ready"),
            (Launched, "n1 activating start ready=no", Kind::Starting, "starting"),
            (Launched, "n1 active exited", Kind::Done, "done"),
            (Launched, "n1 activating start", Kind::Starting, "starting"),
            (Launched, "n1 activating start status=loading", Kind::Starting, "starting: loading"),
            (Loaded, "n1 deactivating stop status=flushing", Kind::Stopping, "stopping: flushing"),
            (Launched, "n1 activating auto-restart", Kind::Restarting, "restarting"),
            (Launched, "n1 deactivating stop-sigterm", Kind::Stopping, "stopping"),
            (Launched, "n1 failed failed", Kind::Failed, "failed"),
            (Launched, "n1 failed failed exit=203/EXEC", Kind::Failed, "failed: exit status 203/EXEC"),
            (Launched, "n1 active running restarts=29", Kind::Running, "running, 29 restarts"),
            (
                Launched,
                "n1 activating auto-restart restarts=1 exit=1/FAILURE",
                Kind::Restarting,
                "restarting, 1 restart: exit status 1/FAILURE",
            ),
            (Launched, "n1 inactive dead error=disk", Kind::Failed, "failed: disk"),
            (Launched, "n1 inactive dead result=done", Kind::Done, "done"),
            (Launched, "n1 inactive dead result=done missing", Kind::Dead, "dead: it should run"),
            (Launched, "n1 inactive dead job=start", Kind::Starting, "starting"),
            (Launched, "n1 inactive dead result=canceled", Kind::Dead, "dead: it should run"),
            (Launched, "n1 inactive dead", Kind::Dead, "dead: it should run"),
            (Loaded, "n1 inactive dead", Kind::Inactive, "inactive"),
        ] {
            let condition = Condition::reported(Some(desired), &state(text));
            assert_eq!((condition.kind, condition.text.as_str()), (kind, said), "{text}");
        }
        let mut unit = unit("a.service", Launched, &[]);
        assert_eq!(Condition::without_report(&unit).kind, Kind::Starting);
        unit.waiting = Some("2 of 2 hosts: conflict".into());
        assert_eq!(Condition::without_report(&unit).text, "waiting: 2 of 2 hosts: conflict");
        unit.desired = Desired::Inactive;
        assert_eq!(Condition::without_report(&unit).kind, Kind::Inactive);
    }

    #[test]
    fn what_is_tried_again_says_when() {
        let machine = |name: &str| host(name, &[]).machine;
        let said = |hosts: &[&str], stays, at| {
            let failed_on = hosts.iter().map(|name| machine(name)).collect();
            let retry = Some(Box::new(RetryView { at, failed_on, stays }));
            let unit = UnitView { retry, ..unit("web@1.service", Desired::Launched, &["n1 failed failed exit=1"]) };
            Condition::reported(Some(unit.desired), &unit.states[0]).tried_again(&unit, 100_000).text
        };
        assert_eq!(said(&["n1"], false, 112_000), "failed: exit status 1; next try in 12 s");
        assert_eq!(said(&["n2", "n1"], false, 99_000), "failed: exit status 1; next try soon");
        assert_eq!(
            said(&["n1", "n2", "n3"], true, 3_580_000),
            "failed on n1, n2 and n3: not moved any more; next try in 58 min (fleetctl reset-failed web@1.service for \
             now)"
        );
        let plain = unit("a.service", Desired::Launched, &["n1 failed failed"]);
        let condition = Condition::reported(Some(plain.desired), &plain.states[0]);
        assert_eq!(condition.clone().tried_again(&plain, 0), condition);
    }

    #[test]
    fn a_summary_counts_what_there_is_the_troubled_first() {
        let kinds = [Kind::Running, Kind::Failed, Kind::Running];
        assert_eq!(summary("3 units", kinds.into_iter()), "3 units: 1 failed, 2 running");
        assert_eq!(summary("0 units", [].into_iter()), "0 units");
    }
}
