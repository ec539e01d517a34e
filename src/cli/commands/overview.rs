//! The cluster on one screen: what `fleetctl status` shows without a unit, and `fleetctl doctor` begins with. Pure: the
//! cluster's answer in, counts and findings out. Owns what needs a person, and what is worst; the words for states are
//! `condition`'s.

mod problem;
mod rebooting;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::api::wire::{ClusterView, DamagedUnit, MachineRef, MachineView, Offline, OpenRollout, StateView};
use crate::cli::commands::list::UnitFile;
use crate::cli::commands::list::people::{Line, of_unit, retried};
use crate::cli::condition::{Condition, Kind, summary};
use crate::cli::mass_loss::MassLoss;
use crate::cli::output::fitted::{Cell, Tone};
use crate::cli::output::people::{ago, count, natural};
use crate::clock::utc;
use crate::model::name::MachineId;
use crate::model::rollout::Phase;

use problem::About;
pub(in crate::cli::commands) use problem::Problem;

/// A unit that systemd has restarted this often is in a crash loop
const LOOP: u32 = 3;

/// if the last restart was no longer ago than this, in ms.
const RECENTLY: u64 = 10 * 60 * 1000;

/// How long a unit may take to get ready, in ms.
const START: u64 = 60 * 1000;

/// How long a rollout may be in a phase in which it goes on by itself, in ms.
const LONG: u64 = 60 * 60 * 1000;

/// By how much the clocks of hosts may differ, in ms.
const TOLERANCE: u64 = 5000;

/// The most lines of findings on a terminal: with the head, they fit on 24 lines.
const MOST_LINES: usize = 20;

/// Something that needs a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(in crate::cli::commands) struct Finding {
    /// What kind of problem it is.
    pub(in crate::cli::commands) problem: Problem,
    /// The unit, the set or the host.
    pub(in crate::cli::commands) name: String,
    /// The host of the unit, or the address of the host; empty if there is none.
    pub(in crate::cli::commands) host: String,
    /// What is wrong, and why.
    pub(in crate::cli::commands) text: String,
    /// Since when, in ms since the epoch; 0 if unknown.
    pub(in crate::cli::commands) since: u64,
}

/// A host on which no new unit is placed. Somebody wants it so, so that it needs nobody; but it must not be forgotten.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(in crate::cli::commands) struct Cordoned {
    /// Its name,
    pub(in crate::cli::commands) name: String,
    /// and its address.
    pub(in crate::cli::commands) host: String,
    /// By whom, and why.
    pub(in crate::cli::commands) text: String,
    /// Since when, in ms since the epoch.
    pub(in crate::cli::commands) since: u64,
}

/// The leader.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(in crate::cli::commands) struct Leader {
    /// Its host.
    pub(in crate::cli::commands) host: String,
    /// Since when, in ms since the epoch.
    pub(in crate::cli::commands) since: u64,
}

/// The cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(in crate::cli::commands) struct Overview {
    /// Whether nothing needs a person.
    pub(in crate::cli::commands) healthy: bool,
    /// The leader, if there is one.
    pub(in crate::cli::commands) leader: Option<Leader>,
    /// How many hosts are registered,
    pub(in crate::cli::commands) hosts: usize,
    /// and how many are gone.
    pub(in crate::cli::commands) gone: usize,
    /// The hosts on which no new unit is placed, by name.
    pub(in crate::cli::commands) cordoned: Vec<Cordoned>,
    /// How many registered hosts have which version.
    pub(in crate::cli::commands) versions: BTreeMap<String, usize>,
    /// How many units there are.
    pub(in crate::cli::commands) units: usize,
    /// How many of them are in which state. Of a unit on several hosts, the worst counts.
    pub(in crate::cli::commands) states: BTreeMap<&'static str, usize>,
    /// How many rollouts are in which phase, without those that are done.
    pub(in crate::cli::commands) rollouts: BTreeMap<&'static str, usize>,
    /// The worst first.
    pub(in crate::cli::commands) findings: Vec<Finding>,
    /// Set if the cluster couldn't be asked: this is what one host knows of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli::commands) offline: Option<Box<Offline>>,
    #[serde(skip)]
    kinds: Vec<Kind>,
}

impl Overview {
    /// What `cluster` shows at `now`, in ms since the epoch.
    pub(in crate::cli::commands) fn of(cluster: ClusterView, now: u64) -> Self {
        let ClusterView { hosts, leader, units, damaged, rollouts, reboots } = cluster;
        let units: Vec<UnitFile> = units.into_iter().map(Ok).chain(damaged.into_iter().map(Err)).collect();
        let (mut kinds, mut findings) = (Vec::new(), Vec::new());
        for unit in &units {
            let lines = retried(of_unit(unit, &Default::default()), unit, now);
            kinds.push(lines.iter().map(|line| line.condition.kind).min().unwrap_or(Kind::Inactive));
            findings.extend(lines.iter().filter_map(|line| of_line(line, now)));
            findings.extend(unit.as_ref().err().map(damage));
        }
        findings.extend(rollouts.iter().filter_map(|rollout| of_rollout(rollout, now)));
        findings.extend(hosts.gone.iter().map(gone));
        findings.extend(rebooting::findings(&reboots, now));
        findings.extend(clocks(&hosts.machines, &units, now));
        if let Some(loss) = MassLoss::of(&hosts) {
            let (name, host, text) = ("-".into(), String::new(), loss.sentence());
            findings.push(Finding { problem: Problem::MassLoss, name, host, text, since: loss.since });
        }
        let leader = leader.map(|leader| Leader { host: leader.machine.name(), since: leader.since });
        // Without the store it may be unknown who leads.
        if leader.is_none() && hosts.offline.is_none() {
            findings.push(Finding {
                problem: Problem::Leaderless,
                name: "-".into(),
                host: String::new(),
                text: "no host leads: units are neither placed nor moved".into(),
                since: 0,
            });
        }
        sort(&mut findings);
        let mut cordoned: Vec<Cordoned> = hosts.machines.iter().chain(&hosts.gone).filter_map(cordoned).collect();
        cordoned.sort_by(|a, b| natural(&a.name, &b.name).then_with(|| a.host.cmp(&b.host)));
        let mut versions = BTreeMap::new();
        hosts.machines.iter().for_each(|machine| *versions.entry(machine.version.clone()).or_default() += 1);
        let mut phases = BTreeMap::new();
        rollouts.iter().for_each(|rollout| *phases.entry(rollout.phase.key()).or_default() += 1);
        let number = |kind: Kind| kinds.iter().filter(|other| **other == kind).count();
        Self {
            healthy: findings.is_empty() && hosts.offline.is_none(),
            leader,
            hosts: hosts.machines.len(),
            gone: hosts.gone.len(),
            cordoned,
            versions,
            units: units.len(),
            states: Kind::ALL.iter().map(|kind| (kind.word(), number(*kind))).collect(),
            rollouts: phases,
            findings,
            offline: hosts.offline,
            kinds,
        }
    }

    /// The lines that sum it up: a mark, and a text.
    pub(in crate::cli::commands) fn head(&self, now: u64) -> Vec<Vec<Cell>> {
        let bad = |about| self.findings.iter().any(|finding| finding.problem.about() == about);
        let mark = |bad| if bad { Cell::new("×", Tone::Bad) } else { Cell::new("●", Tone::Good) };
        let mut hosts = count(self.hosts, "host");
        if self.gone > 0 {
            hosts += &format!(", {} gone", self.gone);
        }
        if !self.cordoned.is_empty() {
            hosts += &format!(", {} without new units", self.cordoned.len());
        }
        hosts += &match &self.leader {
            Some(Leader { host, since }) => format!("; leader {host} for {}", ago(*since, now)),
            None if self.offline.is_some() => "; leader unknown".into(),
            None => "; no leader".into(),
        };
        let versions: Vec<String> = match self.versions.len() {
            0 | 1 => self.versions.keys().map(|version| format!("version {version}")).collect(),
            _ => self
                .versions
                .iter()
                .map(|(version, hosts)| format!("{} with {version}", count(*hosts, "host")))
                .collect(),
        };
        if !versions.is_empty() {
            hosts += &format!("; {}", versions.join(", "));
        }
        let units = summary(&count(self.units, "unit"), self.kinds.iter().copied());
        let hosts_are_bad = self.offline.is_some() || bad(About::Hosts);
        let mut head =
            vec![vec![mark(hosts_are_bad), Cell::plain(hosts)], vec![mark(bad(About::Units)), Cell::plain(units)]];
        if !self.rollouts.is_empty() {
            let phases: Vec<String> = self.rollouts.iter().map(|(phase, number)| format!("{number} {phase}")).collect();
            let all = count(self.rollouts.values().sum(), "rollout");
            let rollouts = format!("{all}: {}", phases.join(", "));
            head.push(vec![mark(bad(About::Rollouts)), Cell::plain(rollouts)]);
        }
        head
    }

    /// The hosts have different versions: an upgrade isn't finished.
    pub(in crate::cli::commands) fn skew(&self) -> Option<Finding> {
        if self.versions.len() < 2 {
            return None;
        }
        let each = self.versions.iter().map(|(version, hosts)| format!("{} with {version}", count(*hosts, "host")));
        let text = format!("its hosts have different versions: {}", each.collect::<Vec<_>>().join(", "));
        Some(Finding { problem: Problem::Versions, name: "-".into(), host: String::new(), text, since: 0 })
    }

    /// The findings for a terminal, and below each kind how many others there are.
    pub(in crate::cli::commands) fn rows(&self, now: u64) -> Vec<Vec<Cell>> {
        let kinds: Vec<&[Finding]> = self.findings.chunk_by(|a, b| a.problem == b.problem).collect();
        let each = most(&kinds.iter().map(|kind| kind.len()).collect::<Vec<_>>());
        let mut rows = Vec::new();
        for kind in kinds {
            rows.extend(kind.iter().take(each).map(|finding| row(finding, now)));
            if let Some(first) = kind.first().filter(|_| kind.len() > each) {
                let more = format!("and {} more: fleetctl {}", kind.len() - each, first.problem.list());
                rows.push(vec![Cell::plain(""), Cell::plain("…"), Cell::plain(""), Cell::new(more, Tone::Dim)]);
            }
        }
        let room = MOST_LINES.saturating_sub(rows.len());
        rows.extend(self.cordoned.iter().take(room).map(|cordoned| {
            let Cordoned { name, host, text, since } = cordoned;
            let plain = [Cell::plain("○"), Cell::plain(name), Cell::plain(host), Cell::plain(text)];
            plain.into_iter().chain([Cell::plain(ago(*since, now))]).collect()
        }));
        rows
    }

    /// The same for programs: lines of words that are separated by tabs.
    pub(in crate::cli::commands) fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let mut line = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| word.replace(char::is_control, " ")).collect();
            lines.push(words.join("\t"));
        };
        if let Some(Leader { host, since }) = &self.leader {
            line(&["leader", host, &since.to_string()]);
        }
        line(&["hosts", &self.hosts.to_string()]);
        line(&["gone", &self.gone.to_string()]);
        for Cordoned { name, host, text, since } in &self.cordoned {
            line(&["cordoned", name, host, &since.to_string(), text]);
        }
        for (version, hosts) in &self.versions {
            line(&["version", version, &hosts.to_string()]);
        }
        line(&["units", &self.units.to_string()]);
        for kind in Kind::ALL {
            line(&[kind.word(), &self.states[kind.word()].to_string()]);
        }
        for (phase, rollouts) in &self.rollouts {
            line(&["rollout", phase, &rollouts.to_string()]);
        }
        for Finding { problem, name, host, text, since } in &self.findings {
            let host = if host.is_empty() { "-" } else { host };
            line(&["problem", problem.word(), name, host, &since.to_string(), text]);
        }
        lines
    }
}

fn row(finding: &Finding, now: u64) -> Vec<Cell> {
    let Finding { problem, name, host, text, since } = finding;
    let (mark, tone) = problem.mark();
    let host = if host.is_empty() { "-" } else { host };
    vec![
        Cell::new(mark, tone),
        Cell::unit(name),
        Cell::plain(host),
        Cell::new(text, tone),
        Cell::plain(ago(*since, now)),
    ]
}

/// How many findings of each kind are shown, so that all of it has at most [`MOST_LINES`] lines; at least one.
fn most(kinds: &[usize]) -> usize {
    let lines = |each: usize| -> usize { kinds.iter().map(|kind| if *kind > each { each + 1 } else { *kind }).sum() };
    (1..=MOST_LINES).rev().find(|each| lines(*each) <= MOST_LINES).unwrap_or(1)
}

/// The worst first, and of each kind the latest.
pub(in crate::cli::commands) fn sort(findings: &mut [Finding]) {
    let latest = |a: &Finding, b: &Finding| b.since.cmp(&a.since);
    findings.sort_by(|a, b| {
        let by_name = || natural(&a.name, &b.name).then_with(|| natural(&a.host, &b.host));
        a.problem.cmp(&b.problem).then_with(|| latest(a, b)).then_with(by_name)
    });
}

fn damage(unit: &DamagedUnit) -> Finding {
    let host = unit.machine.as_ref().map(MachineRef::name).unwrap_or_default();
    let text = format!("its record in the store is damaged: {}", unit.why);
    Finding { problem: Problem::Damaged, name: unit.name.to_string(), host, text, since: 0 }
}

/// What is wrong with a unit on a host, if it needs a person.
fn of_line(line: &Line<'_>, now: u64) -> Option<Finding> {
    let Condition { kind, text, since } = &line.condition;
    let looping = line.state.is_some_and(|state| is_looping(state, now));
    let problem = match kind {
        Kind::Failed => Problem::Failed,
        Kind::Dead => Problem::Dead,
        Kind::Waiting => Problem::Waiting,
        Kind::Restarting | Kind::Running | Kind::Unready | Kind::Starting if looping => Problem::Restarting,
        // Most units need a moment after their start.
        Kind::Unready if now.saturating_sub(*since) >= START => Problem::Unready,
        Kind::Restarting
        | Kind::Unready
        | Kind::Starting
        | Kind::Stopping
        | Kind::Running
        | Kind::Done
        | Kind::Inactive => return None,
    };
    let host = if line.host == "-" { String::new() } else { line.host.clone() };
    Some(Finding { problem, name: line.name.to_string(), host, text: text.clone(), since: *since })
}

/// What is wrong with a rollout, if it needs a person: it doesn't go on by itself, or has gone on for long.
fn of_rollout(rollout: &OpenRollout, now: u64) -> Option<Finding> {
    let OpenRollout { name, phase, since, why, promotes_itself } = rollout;
    let problem = match phase {
        Phase::Stuck => Problem::Stuck,
        Phase::Reverted => Problem::Reverted,
        Phase::Paused => Problem::Paused,
        Phase::Waiting if !promotes_itself => Problem::Unpromoted,
        Phase::Before | Phase::Canary | Phase::Rolling | Phase::After | Phase::Reverting
            if now.saturating_sub(*since) >= LONG =>
        {
            Problem::Slow
        }
        Phase::Before
        | Phase::Canary
        | Phase::Waiting
        | Phase::Rolling
        | Phase::After
        | Phase::Reverting
        | Phase::Done => return None,
    };
    let why = why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    let text = format!("{phase}{why}");
    Some(Finding { problem, name: name.to_string(), host: String::new(), text, since: *since })
}

/// Whether systemd restarts it again and again: a unit that was restarted long ago is well.
fn is_looping(state: &StateView, now: u64) -> bool {
    state.report.restarts >= LOOP && now.saturating_sub(state.report.since) <= RECENTLY
}

/// The hosts that name times in the future, by more than clocks may differ: when they registered, and when their units
/// changed. A clock that is behind names none; but on its host, the others are ahead.
fn clocks(hosts: &[MachineView], units: &[UnitFile], now: u64) -> Vec<Finding> {
    let mut latest: BTreeMap<&MachineId, u64> = hosts.iter().map(|host| (&host.id, host.since)).collect();
    let states = units.iter().flat_map(|unit| match unit {
        Ok(unit) => &unit.states,
        Err(damaged) => &damaged.states,
    });
    for state in states {
        latest.entry(&state.machine.id).and_modify(|latest| *latest = state.report.since.max(*latest));
    }
    let is_ahead = |host: &&MachineView| latest[&host.id] > now + TOLERANCE;
    let finding = |host: &MachineView| Finding {
        problem: Problem::Clock,
        name: host.name(),
        host: host.ip.clone(),
        text: format!("its clock is ahead of this machine's by {} or more", ago(now, latest[&host.id])),
        since: 0,
    };
    hosts.iter().filter(is_ahead).map(finding).collect()
}

fn cordoned(host: &MachineView) -> Option<Cordoned> {
    let (text, since) = host.closed()?;
    Some(Cordoned { name: host.name(), host: host.ip.clone(), text, since })
}

fn gone(host: &MachineView) -> Finding {
    let gone = host.gone.unwrap_or_default();
    let mut text = if gone.since == 0 { "gone".to_owned() } else { format!("gone since {}", utc(gone.since)) };
    let counts = [(gone.moved, "moved"), (gone.waiting, "waited"), (gone.ended, "ended"), (gone.kept, "wait for it")];
    let units: Vec<String> =
        counts.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}")).collect();
    if !units.is_empty() {
        text += &format!("; of its units {}", units.join(", "));
    }
    if let Some(held) = gone.held {
        text += &format!("; its units are held until {}", utc(held.until));
    }
    Finding { problem: Problem::Gone, name: host.name(), host: host.ip.clone(), text, since: gone.since }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::wire::{LeaderView, MachineList, UnitView};
    use crate::cli::condition::tests::unit;
    use crate::cli::mass_loss::tests::host;
    use crate::cli::output::fitted::render;
    use crate::model::author::Author;
    use crate::model::machine::{Gone, Held};
    use crate::model::maintenance::Cordon;
    use crate::model::unit::Desired::{Inactive, Launched};

    /// Units are in their states since 60 s after the epoch.
    const NOW: u64 = 180_000;

    fn machine(digit: char, version: &str) -> MachineView {
        let (metadata, builtin, since, gone, cordon, drain) = Default::default();
        let (hostname, ip) = (format!("n{digit}"), format!("10.0.0.{digit}"));
        MachineView {
            id: digit.to_string().repeat(32).parse().unwrap(),
            ip,
            hostname,
            metadata,
            builtin,
            version: version.into(),
            since,
            gone,
            cordon,
            drain,
        }
    }

    fn cluster(units: Vec<UnitView>) -> ClusterView {
        let machines = vec![machine('1', "0.1.0"), machine('2', "0.1.0"), machine('3', "0.1.0")];
        let leader = Some(LeaderView {
            machine: unit("l.service", Launched, &["n1 active running"]).machine.unwrap(),
            since: 60_000,
        });
        ClusterView {
            hosts: MachineList { here: None, machines, gone: vec![], offline: None },
            leader,
            units,
            damaged: vec![],
            rollouts: vec![],
            reboots: vec![],
        }
    }

    /// Since 60 s after the epoch.
    fn rollout(phase: Phase, why: Option<&str>) -> OpenRollout {
        let (name, why) = ("web@.service".parse().unwrap(), why.map(str::to_owned));
        OpenRollout { name, phase, since: 60_000, why, promotes_itself: false }
    }

    fn waiting(name: &str) -> UnitView {
        UnitView { waiting: Some("3 of 3 hosts: conflict".into()), ..unit(name, Launched, &[]) }
    }

    #[test]
    fn what_needs_a_person() {
        use Problem::{Dead, Failed, Restarting, Unready, Waiting};
        for (desired, state, problem) in [
            (Launched, "n1 active running", None),
            (Launched, "n1 active exited", None),
            (Launched, "n1 activating start", None),
            (Launched, "n1 deactivating stop", None),
            (Launched, "n1 inactive dead result=done", None),
            (Inactive, "n1 inactive dead", None),
            (Launched, "n1 failed failed exit=203/EXEC", Some(Failed)),
            (Launched, "n1 inactive dead error=disk", Some(Failed)),
            (Launched, "n1 inactive dead missing", Some(Dead)),
            (Launched, "n1 active running restarts=2", None),
            (Launched, "n1 active running restarts=29", Some(Restarting)),
            (Launched, "n1 activating auto-restart restarts=3", Some(Restarting)),
            (Launched, "n1 activating auto-restart restarts=1", None),
            (Launched, "n1 active running ready=yes", None),
            (Launched, "n1 active running ready=no", Some(Unready)),
            (Launched, "n1 active running ready=no restarts=29", Some(Restarting)),
        ] {
            let overview = Overview::of(cluster(vec![unit("a.service", desired, &[state])]), NOW);
            let found: Vec<Problem> = overview.findings.iter().map(|finding| finding.problem).collect();
            assert_eq!(found, Vec::from_iter(problem), "{state}");
            assert_eq!(overview.healthy, problem.is_none());
        }
        let later = Overview::of(
            cluster(vec![unit("a.service", Launched, &["n1 active running restarts=29"])]),
            NOW + RECENTLY,
        );
        assert!(later.healthy, "it runs since then");
        let found = |cluster| Overview::of(cluster, NOW).findings.into_iter().map(|f| f.problem).collect::<Vec<_>>();
        assert_eq!(found(cluster(vec![waiting("a.service")])), [Waiting]);
        assert_eq!(found(ClusterView { leader: None, ..cluster(vec![]) }), [Problem::Leaderless]);
        // Another version is shown, and isn't wrong: hosts are upgraded one after another.
        let mut mixed = cluster(vec![]);
        mixed.hosts.machines[1].version = "0.2.0".into();
        assert_eq!(found(mixed), []);
    }

    #[test]
    fn a_rollout_that_does_not_go_on_by_itself_needs_a_person() {
        let found = |rollout: OpenRollout, now: u64| {
            let rollouts = vec![rollout];
            let overview = Overview::of(ClusterView { rollouts, ..cluster(vec![]) }, now);
            assert_eq!(overview.healthy, overview.findings.is_empty());
            overview.findings.into_iter().map(|finding| (finding.problem, finding.text)).collect::<Vec<_>>()
        };
        let soon = |phase: Phase| found(rollout(phase, None), 60_000 + LONG - 1);
        let later = |phase: Phase| found(rollout(phase, None), 60_000 + LONG);
        for (phase, at_once, after_long) in [
            (Phase::Before, None, Some(Problem::Slow)),
            (Phase::Canary, None, Some(Problem::Slow)),
            (Phase::Waiting, Some(Problem::Unpromoted), Some(Problem::Unpromoted)),
            (Phase::Rolling, None, Some(Problem::Slow)),
            (Phase::After, None, Some(Problem::Slow)),
            (Phase::Paused, Some(Problem::Paused), Some(Problem::Paused)),
            (Phase::Reverting, None, Some(Problem::Slow)),
            (Phase::Reverted, Some(Problem::Reverted), Some(Problem::Reverted)),
            (Phase::Stuck, Some(Problem::Stuck), Some(Problem::Stuck)),
            (Phase::Done, None, None),
        ] {
            let problems = |found: Vec<(Problem, String)>| found.into_iter().map(|(problem, _)| problem);
            assert_eq!(problems(soon(phase)).collect::<Vec<_>>(), Vec::from_iter(at_once), "{phase:?}");
            assert_eq!(problems(later(phase)).collect::<Vec<_>>(), Vec::from_iter(after_long), "{phase:?}");
        }
        let by_itself = OpenRollout { promotes_itself: true, ..rollout(Phase::Waiting, None) };
        assert_eq!(found(by_itself, NOW), []);
        let why = rollout(Phase::Stuck, Some("web@2.service on n2: failed"));
        assert_eq!(found(why, NOW), [(Problem::Stuck, "stuck: web@2.service on n2: failed".to_owned())]);
    }

    #[test]
    fn rollouts_have_a_line_of_their_own() {
        let running = || unit("a.service", Launched, &["n1 active running"]);
        let mut cluster = cluster(vec![running()]);
        cluster.rollouts = vec![rollout(Phase::Rolling, None)];
        let head = "●  3 hosts; leader n1 for 2 min; version 0.1.0\n●  1 unit: 1 running\n";
        assert_eq!(shown(cluster.clone(), 80), format!("{head}●  1 rollout: 1 rolling\n"));
        cluster.rollouts.push(rollout(Phase::Waiting, None));
        let rest = "×  2 rollouts: 1 rolling, 1 waiting\n…  web@.service  -  waiting for promotion  2 min\n";
        assert_eq!(shown(cluster.clone(), 80), format!("{head}{rest}"));
        let lines = Overview::of(cluster, NOW).lines();
        assert!(lines.ends_with(&[
            "rollout\trolling\t1".into(),
            "rollout\twaiting\t1".into(),
            "problem\tunpromoted\tweb@.service\t-\t60000\twaiting for promotion".into(),
        ]));
    }

    #[test]
    fn a_problem_has_one_name_for_programs() {
        for problem in Problem::ALL {
            assert_eq!(serde_json::to_value(problem).unwrap(), problem.word());
        }
    }

    #[test]
    fn a_mass_loss_is_said_once_and_at_each_of_its_hosts() {
        let mut cluster = cluster(vec![]);
        let held = Some(Held { until: 360_000, mass_loss: true });
        cluster.hosts.gone = (6..9).map(|number| host(number, Some((60_000, held)))).collect();
        let overview = Overview::of(cluster, NOW);
        let found: Vec<&str> = overview.findings.iter().map(|finding| finding.text.as_str()).collect();
        let gone = "gone since 00:01:00 UTC; its units are held until 00:06:00 UTC";
        let loss = "3 of 6 hosts vanished together, so the store or the network may have failed: their units are held \
                    until 00:06:00 UTC";
        assert_eq!(found, [loss, gone, gone, gone]);
        let line = format!("problem\tmass-loss\t-\t-\t60000\t{loss}");
        assert!(overview.lines().contains(&line), "{:?}", overview.lines());
    }

    /// A bad night.
    fn night() -> ClusterView {
        let mut exporter =
            unit("exporter.service", Launched, &["n1 active running", "n3 failed failed exit=1/FAILURE"]);
        exporter.global = true;
        let mut night = cluster(vec![
            unit("api.service", Launched, &["n3 failed failed exit=203/EXEC"]),
            unit("app.service", Launched, &["n1 inactive dead missing"]),
            unit("crash.service", Launched, &["n1 active running restarts=29"]),
            exporter,
            unit("template@.service", Inactive, &[]),
            waiting("web@10.service"),
            waiting("web@2.service"),
        ]);
        night.hosts.machines.remove(1);
        night.hosts.machines[1].version = "0.2.0".into();
        let gone = Some(Gone { since: 60_000, moved: 1, waiting: 1, ..Gone::default() });
        night.hosts.gone = vec![MachineView { gone, ..machine('2', "0.1.0") }];
        let (name, why) = ("z.service".parse().unwrap(), "expected value".into());
        night.damaged = vec![DamagedUnit { name, why, machine: None, states: vec![] }];
        night
    }

    fn shown(cluster: ClusterView, columns: usize) -> String {
        let overview = Overview::of(cluster, NOW);
        let render = |rows: &[Vec<Cell>]| render(&[], rows, Some(columns), false);
        render(&overview.head(NOW)) + &render(&overview.rows(NOW))
    }

    #[test]
    fn a_bad_night_shows_the_worst_first_and_fits() {
        assert_eq!(
            shown(night(), 100),
            "×  2 hosts, 1 gone; leader n1 for 2 min; 1 host with 0.1.0, 1 host with 0.2.0\n\
             ×  8 units: 2 failed, 1 dead, 2 waiting, 1 running, 2 inactive\n\
             ×  z.service         -         its record in the store is damaged: expected value       -\n\
             ×  api.service       n3        failed: exit status 203/EXEC                             2 min\n\
             ×  exporter.service  n3        failed: exit status 1/FAILURE                            2 min\n\
             !  app.service       n1        dead: it should run                                      2 min\n\
             ↻  crash.service     n1        running, 29 restarts                                     2 min\n\
             !  n2                10.0.0.2  gone since 00:01:00 UTC; of its units 1 moved, 1 waited  2 min\n\
             …  web@2.service     -         waiting: 3 of 3 hosts: conflict                          -\n\
             …  web@10.service    -         waiting: 3 of 3 hosts: conflict                          -\n"
        );
        for columns in [80, 45] {
            let text = shown(night(), columns);
            assert!(text.lines().all(|line| line.chars().count() < columns), "{text}");
        }
    }

    #[test]
    fn times_in_the_future_name_the_host_whose_clock_is_ahead() {
        let clocks = |cluster: ClusterView, now: u64| {
            let findings = Overview::of(cluster, now).findings.into_iter();
            findings.map(|Finding { problem, name, text, .. }| format!("{problem:?} {name} {text}")).collect::<Vec<_>>()
        };
        let ahead = |host: &str, by: &str| format!("Clock {host} its clock is ahead of this machine's by {by} or more");
        // When it registered,
        let mut registered = cluster(vec![]);
        registered.hosts.machines[1].since = NOW + TOLERANCE;
        assert_eq!(clocks(registered.clone(), NOW), [""; 0], "clocks are never quite the same");
        registered.hosts.machines[1].since = NOW + 3_600_000;
        assert_eq!(clocks(registered, NOW), [ahead("n2", "1 h")]);
        // or when a unit was started, at 60 s.
        let started = || cluster(vec![unit("a.service", Launched, &["n1 active running", "n3 active running"])]);
        assert_eq!(clocks(started(), 50_000), [ahead("n1", "10 s"), ahead("n3", "10 s")]);
        assert_eq!(clocks(started(), 60_000), [""; 0]);
        let overview = Overview::of(started(), 50_000);
        assert_eq!(overview.lines().last().unwrap().split('\t').nth(1), Some("clock"));
    }

    #[test]
    fn a_cluster_that_is_well_takes_two_lines() {
        let units = vec![
            unit("a.service", Launched, &["n1 active running"]),
            unit("b.service", Launched, &["n2 active exited"]),
        ];
        assert_eq!(
            shown(cluster(units), 80),
            "●  3 hosts; leader n1 for 2 min; version 0.1.0\n●  2 units: 1 running, 1 done\n"
        );
    }

    #[test]
    fn a_cordoned_host_is_shown_and_needs_nobody() {
        let mut cluster = cluster(vec![]);
        let by = Some(Box::new(Author { uid: Some(7), user: "ci".into(), ..Author::default() }));
        cluster.hosts.machines[1].cordon = Some(Cordon { since: 60_000, why: "kernel".into(), by });
        let overview = Overview::of(cluster.clone(), NOW);
        assert!(overview.healthy);
        let line = "cordoned\tn2\t10.0.0.2\t60000\tcordoned by ci: kernel";
        assert!(overview.lines().contains(&line.to_owned()), "{:?}", overview.lines());
        assert_eq!(
            shown(cluster, 80),
            "●  3 hosts, 1 without new units; leader n1 for 2 min; version 0.1.0\n\
             ●  0 units\n\
             ○  n2  10.0.0.2  cordoned by ci: kernel  2 min\n"
        );
    }

    #[test]
    fn a_thousand_problems_fit_on_the_screen() {
        let mut bad = night();
        let failed = |number: usize| unit(&format!("f@{number}.service"), Launched, &["n1 failed failed"]);
        bad.units.extend((0..1000).map(failed).chain((0..50).map(|number| waiting(&format!("w@{number}.service")))));
        let text = shown(bad, 80);
        assert!(text.lines().count() <= 22, "{} lines:\n{text}", text.lines().count());
        assert!(text.contains("more: fleetctl list-units --failed") && text.contains("n2  "), "{text}");
        for (kinds, each) in [(&[][..], 20), (&[20], 20), (&[21], 19), (&[1000, 1, 1], 17), (&[9; 7], 1), (&[2; 7], 20)]
        {
            assert_eq!(most(kinds), each, "{kinds:?}");
        }
    }

    #[test]
    fn programs_get_every_count_and_every_finding() {
        let lines = Overview::of(night(), NOW).lines();
        assert_eq!(
            lines[..6],
            ["leader\tn1\t60000", "hosts\t2", "gone\t1", "version\t0.1.0\t1", "version\t0.2.0\t1", "units\t8"]
        );
        assert!(lines.contains(&"restarting\t0".to_owned()) && lines.contains(&"failed\t2".to_owned()));
        assert!(lines.contains(
            &"problem\tdamaged\tz.service\t-\t0\tits record in the store is damaged: expected value".to_owned()
        ));
        assert_eq!(lines.iter().filter(|line| line.starts_with("problem\t")).count(), 8);
    }
}
