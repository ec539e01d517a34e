//! The daemon's metrics, for Prometheus. The only user of `prometheus_client`.
//!
//! Owns the names, labels and meanings of all series; callers only report what has happened. There is one value for
//! each daemon, passed to its parts when they are created, so that several daemons in one process (tests, the
//! simulation) don't mix. It must never influence a decision, and has no task or timer.

mod series;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use series::{Millis, Series};

/// The content type of [`Metrics::text`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The metrics of one daemon. Cheap to clone; clones count together.
#[derive(Clone)]
pub struct Metrics(Arc<Series>);

impl Default for Metrics {
    /// All series at zero.
    fn default() -> Self {
        Self(Arc::new(Series::new()))
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

/// A change that an engine made to an assignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// A host was assigned a unit.
    Schedule,
    /// A host was assigned to remove a unit.
    Unschedule,
    /// The assignment of a unit to its host was changed.
    Update,
    /// The assignment of a removed unit, or of a dead host, was deleted.
    Clear,
}

impl Task {
    const ALL: [Self; 4] = [Self::Schedule, Self::Unschedule, Self::Update, Self::Clear];

    fn name(self) -> &'static str {
        match self {
            Self::Schedule => "schedule",
            Self::Unschedule => "unschedule",
            Self::Update => "update",
            Self::Clear => "clear",
        }
    }
}

/// What became of a unit that had failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rescheduled {
    /// It moves to another host.
    Move,
    /// It is started again where it is.
    Start,
}

impl Rescheduled {
    const ALL: [Self; 2] = [Self::Move, Self::Start];

    fn name(self) -> &'static str {
        match self {
            Self::Move => "move",
            Self::Start => "start",
        }
    }
}

/// What became of a unit that a person wants on another host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AskedMove {
    /// It was told to go there.
    Move,
    /// It stays where it is.
    Stay,
}

impl AskedMove {
    const ALL: [Self; 2] = [Self::Move, Self::Stay];

    fn name(self) -> &'static str {
        match self {
            Self::Move => "move",
            Self::Stay => "stay",
        }
    }
}

/// The two leases that a daemon may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseOf {
    /// The host's presence.
    Presence,
    /// The engine's leadership.
    Leadership,
}

impl LeaseOf {
    fn name(self) -> &'static str {
        match self {
            Self::Presence => "presence",
            Self::Leadership => "leadership",
        }
    }
}

/// How many members of a set stand in which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SetCounts {
    /// They should run.
    pub wanted: usize,
    /// They serve.
    pub ready: usize,
    /// No host fits them.
    pub waiting: usize,
    /// They run once, and have.
    pub done: usize,
}

/// An open stream, counted until it is dropped.
#[derive(Debug)]
pub struct Open(Metrics);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.0.watches.dec();
    }
}

impl Metrics {
    /// All series in the format of [`CONTENT_TYPE`].
    #[must_use]
    pub fn text(&self) -> String {
        self.0.text()
    }

    /// The daemon's version, as a label of a series that is always 1.
    pub fn version(&self, version: &'static str) {
        self.0.build.get_or_create(&[("version", version)]).set(1);
    }

    // --- engine

    /// This engine has led since `since`, in ms after the epoch; `None` if it doesn't lead any more.
    pub fn leads(&self, since: Option<u64>) {
        self.0.leader_start.set(since.map_or(0.0, Millis::seconds));
        if since.is_none() {
            self.0.hosts.set(0);
            self.0.units.set(0);
            self.0.waiting.set(0);
            self.0.held.set(0);
            self.0.cordoned.set(0);
            self.moves(0, 0);
            self.0.rollouts.clear();
            self.0.offered.clear();
            self.0.taken.clear();
            self.0.sets.set(0);
            self.0.clear_members();
        }
    }

    /// The number of hosts and units in the leader's state.
    pub fn cluster_size(&self, hosts: usize, units: usize, waiting: usize) {
        self.0.hosts.set(signed(hosts));
        self.0.units.set(signed(units));
        self.0.waiting.set(signed(waiting));
    }

    /// How many rollouts are in each phase, as far as the leader knows.
    pub fn rollouts(&self, phases: impl IntoIterator<Item = (&'static str, usize)>) {
        for (phase, count) in phases {
            self.0.rollouts.get_or_create(&[("phase", phase)]).set(signed(count));
        }
    }

    /// The number of sets.
    pub fn sets(&self, sets: usize) {
        self.0.sets.set(signed(sets));
    }

    /// How the members of a set stand; `None` if it isn't counted any more.
    pub fn set_members(&self, set: &str, counts: Option<SetCounts>) {
        let numbers = counts.map(|SetCounts { wanted, ready, waiting, done }| [wanted, ready, waiting, done]);
        self.0.count_members(set, numbers.map(|numbers| numbers.map(signed)));
    }

    /// The number of hosts whose units the leader holds after a mass loss.
    pub fn hosts_held(&self, hosts: usize) {
        self.0.held.set(signed(hosts));
    }

    /// The number of hosts that are alive and cordoned.
    pub fn hosts_cordoned(&self, hosts: usize) {
        self.0.cordoned.set(signed(hosts));
    }

    /// The number of hosts that have a slot for their reboot, and of those that wait for one.
    pub fn reboots(&self, slots: usize, waiting: usize) {
        for (stage, hosts) in [("slot", slots), ("waits", waiting)] {
            self.0.reboots.get_or_create(&[("stage", stage)]).set(signed(hosts));
        }
    }

    /// The number of units that a person wants on another host and that wait for their turn, and of those that were
    /// told to leave for it, with those that must be with them, and haven't left.
    pub fn moves(&self, waiting: usize, leaving: usize) {
        for (stage, units) in [("waits", waiting), ("leaves", leaving)] {
            self.0.moves.get_or_create(&[("stage", stage)]).set(signed(units));
        }
    }

    /// How much of something all hosts offer, and how much units take.
    pub fn resources(&self, kind: &'static str, offered: u64, taken: u64) {
        for (series, amount) in [(&self.0.offered, offered), (&self.0.taken, taken)] {
            series.get_or_create(&[("resource", kind)]).set(i64::try_from(amount).unwrap_or(i64::MAX));
        }
    }

    /// Batches of changes that an engine coalesced before it planned.
    pub fn coalesced(&self, changes: usize) {
        self.0.engine_changes.observe(real(changes));
    }

    /// The engine has planned and committed a round. `failure` is why it must be repeated.
    pub fn reconciled(&self, took: Duration, failure: Option<&'static str>) {
        self.0.reconciles.inc();
        self.0.reconcile_seconds.observe(took.as_secs_f64());
        if let Some(class) = failure {
            self.0.reconcile_failures.get_or_create(&[("type", class)]).inc();
        }
    }

    /// `number` tasks of a kind were committed, or their commit failed.
    pub fn tasks(&self, task: Task, number: usize, done: bool) {
        let family = if done { &self.0.tasks } else { &self.0.task_failures };
        family.get_or_create(&[("type", task.name())]).inc_by(number as u64);
    }

    /// A unit that had failed was told to move to another host, or is started again where it is.
    pub fn rescheduled(&self, what: Rescheduled) {
        self.0.rescheduled.get_or_create(&[("type", what.name())]).inc();
    }

    /// What became of a unit that a person wants on another host.
    pub fn asked_move(&self, what: AskedMove) {
        self.0.asked_moves.get_or_create(&[("type", what.name())]).inc();
    }

    // --- agent

    /// The agent has finished a pass. `failure` is why it must be repeated.
    pub fn passed(&self, took: Duration, failure: Option<&'static str>) {
        self.0.passes.inc();
        self.0.pass_seconds.observe(took.as_secs_f64());
        if let Some(class) = failure {
            self.0.pass_failures.get_or_create(&[("type", class)]).inc();
        }
    }

    /// The agent's queues: dirty units, running systemd jobs, unread events.
    pub fn queues(&self, dirty: usize, jobs: usize, events: usize) {
        for (queue, depth) in [("units", dirty), ("jobs", jobs), ("events", events)] {
            self.0.queues.get_or_create(&[("queue", queue)]).set(signed(depth));
        }
    }

    /// The units of this host by `ActiveState`; states that don't occur have none. `missing` of them should run and
    /// don't; `unready` of them are active, and their probes say that they aren't ready.
    pub fn units_by_state<'a>(&self, active: impl Iterator<Item = &'a str>, missing: usize, unready: usize) {
        self.0.count_states(active);
        self.0.units_missing.set(signed(missing));
        self.0.units_unready.set(signed(unready));
    }

    /// A unit was probed: `passed`, `failed` or `not-run`.
    pub fn probed(&self, result: &'static str) {
        self.0.probes.get_or_create(&[("result", result)]).inc();
    }

    // --- store

    /// A watch of the store was opened. Its failures show in the following request.
    pub fn store_watched(&self) {
        self.0.operations.get_or_create(&[("type", "watch")]).inc();
    }

    /// A request to the store was answered; `failure` is the class of its error.
    pub fn stored(&self, kind: &'static str, took: Duration, failure: Option<&'static str>) {
        self.0.operations.get_or_create(&[("type", kind)]).inc();
        self.0.operation_seconds.get_or_create(&[("type", kind)]).observe(took.as_secs_f64());
        if let Some(class) = failure {
            self.0.operation_failures.get_or_create(&[("type", kind), ("class", class)]).inc();
        }
    }

    /// A lease is held, or not any more.
    pub fn lease_held(&self, lease: LeaseOf, held: bool) {
        self.0.leases.get_or_create(&[("lease", lease.name())]).set(i64::from(held));
    }

    /// A lease was lost.
    pub fn lease_lost(&self, lease: LeaseOf) {
        self.lease_held(lease, false);
        self.0.lease_losses.get_or_create(&[("lease", lease.name())]).inc();
    }

    /// A lease was renewed.
    pub fn lease_renewed(&self) {
        self.0.renewals.inc();
    }

    // --- systemd

    /// A call to systemd was answered; `failures` has the class of each unit's error.
    pub fn called(&self, call: &'static str, took: Duration, failures: impl IntoIterator<Item = &'static str>) {
        self.0.calls.get_or_create(&[("call", call)]).inc();
        self.0.call_seconds.get_or_create(&[("call", call)]).observe(took.as_secs_f64());
        for class in failures {
            self.0.call_failures.get_or_create(&[("call", call), ("class", class)]).inc();
        }
    }

    // --- API

    /// A request was answered; for a stream, its response has begun.
    pub fn answered(&self, route: &str, method: &str, status: u16, took: Duration) {
        let labels = [("route", route.to_owned()), ("method", method.to_owned()), ("status", status.to_string())];
        self.0.requests.get_or_create(&labels).inc();
        self.0.request_seconds.get_or_create(&[("route", route.to_owned())]).observe(took.as_secs_f64());
    }

    /// A stream of changes is open until the returned value is dropped.
    #[must_use]
    pub fn watching(&self) -> Open {
        self.0.watches.inc();
        Open(self.clone())
    }
}

fn signed(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[expect(clippy::cast_precision_loss, reason = "a count of changes")]
fn real(number: usize) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(metrics: &Metrics, series: &str) -> Option<f64> {
        let text = metrics.text();
        text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
    }

    /// `docs/metrics.md` of CoreOS fleet.
    #[test]
    fn what_fleet_documents_is_there_from_the_beginning() {
        let metrics = Metrics::default();
        for series in [
            "fleet_engine_leader_start_time",
            "fleet_engine_task_count_total{type=\"schedule\"}",
            "fleet_engine_task_failure_count_total{type=\"unschedule\"}",
            "fleet_engine_reconcile_count_total",
            "fleet_engine_reconcile_duration_second_count",
            "fleet_engine_reconcile_failure_count_total{type=\"conflict\"}",
            "fleet_registry_operation_count_total{type=\"commit\"}",
            "fleet_registry_operation_failed_count_total{type=\"range\",class=\"unavailable\"}",
            "fleet_registry_operation_duration_second_count{type=\"range\"}",
        ] {
            assert_eq!(value(&metrics, series), Some(0.0), "{series} in\n{}", metrics.text());
        }
    }

    #[test]
    fn each_daemon_counts_for_itself() {
        let (one, other) = (Metrics::default(), Metrics::default());
        one.clone().reconciled(Duration::from_millis(3), Some("conflict"));
        assert_eq!(value(&one, "fleet_engine_reconcile_count_total"), Some(1.0));
        assert_eq!(value(&one, "fleet_engine_reconcile_failure_count_total{type=\"conflict\"}"), Some(1.0));
        assert_eq!(value(&other, "fleet_engine_reconcile_count_total"), Some(0.0));
    }

    #[test]
    fn leadership_that_ends_leaves_nothing_behind() {
        let metrics = Metrics::default();
        metrics.leads(Some(1_500));
        metrics.cluster_size(3, 212, 1);
        metrics.hosts_held(2);
        metrics.hosts_cordoned(1);
        assert_eq!(value(&metrics, "fleet_engine_hosts_cordoned"), Some(1.0));
        metrics.rollouts([("stuck", 1), ("done", 2)]);
        metrics.resources("memory", 4096, 512);
        let memory = |what: &str| value(&metrics, &format!("fleet_engine_resources_{what}{{resource=\"memory\"}}"));
        assert_eq!(["offered", "taken"].map(memory), [4096.0, 512.0].map(Some));
        metrics.sets(1);
        metrics.set_members("web@.service", Some(SetCounts { wanted: 3, ready: 2, waiting: 1, done: 0 }));
        let members = |what: &str| value(&metrics, &format!("fleet_engine_set_{what}{{set=\"web@.service\"}}"));
        assert_eq!(["wanted", "ready", "waiting", "done"].map(members), [3.0, 2.0, 1.0, 0.0].map(Some));
        metrics.set_members("web@.service", None);
        assert_eq!(["wanted", "ready", "waiting", "done"].map(members), [None; 4]);
        metrics.set_members("web@.service", Some(SetCounts { wanted: 3, ready: 2, waiting: 1, done: 0 }));
        assert_eq!(value(&metrics, "fleet_engine_rollouts{phase=\"stuck\"}"), Some(1.0));
        assert_eq!(value(&metrics, "fleet_engine_leader_start_time"), Some(1.5));
        metrics.leads(None);
        let series = ["leader_start_time", "hosts", "units", "units_waiting", "hosts_held", "hosts_cordoned", "sets"];
        for series in series.map(|name| format!("fleet_engine_{name}")) {
            assert_eq!(value(&metrics, &series), Some(0.0), "{series}");
        }
        assert_eq!(value(&metrics, "fleet_engine_rollouts{phase=\"stuck\"}"), None);
        assert_eq!(["offered", "taken"].map(memory), [None; 2]);
        assert_eq!(["wanted", "ready", "waiting", "done"].map(members), [None; 4]);
    }

    #[test]
    fn hosts_that_are_to_reboot_are_counted() {
        let metrics = Metrics::default();
        metrics.reboots(1, 3);
        let hosts = |stage: &str| value(&metrics, &format!("fleet_reboot_hosts{{stage=\"{stage}\"}}"));
        assert_eq!(["slot", "waits"].map(hosts), [1.0, 3.0].map(Some));
        metrics.reboots(0, 0);
        assert_eq!(["slot", "waits"].map(hosts), [0.0, 0.0].map(Some));
    }

    #[test]
    fn moves_are_counted_from_the_beginning_and_by_a_leader_only() {
        let metrics = Metrics::default();
        let stages = |metrics: &Metrics| {
            ["waits", "leaves"].map(|stage| value(metrics, &format!("fleet_engine_moves{{stage=\"{stage}\"}}")))
        };
        let ends = |metrics: &Metrics| {
            ["move", "stay"].map(|end| value(metrics, &format!("fleet_engine_move_count_total{{type=\"{end}\"}}")))
        };
        assert_eq!((stages(&metrics), ends(&metrics)), ([Some(0.0); 2], [Some(0.0); 2]));
        metrics.moves(3, 10);
        metrics.asked_move(AskedMove::Stay);
        assert_eq!((stages(&metrics), ends(&metrics)), ([3.0, 10.0].map(Some), [0.0, 1.0].map(Some)));
        metrics.leads(None);
        assert_eq!((stages(&metrics), ends(&metrics)), ([Some(0.0); 2], [0.0, 1.0].map(Some)));
    }

    #[test]
    fn a_state_that_no_unit_is_in_any_more_has_none() {
        let metrics = Metrics::default();
        metrics.units_by_state(["active", "failed", "active"].into_iter(), 1, 1);
        assert_eq!(value(&metrics, "fleet_agent_units_unready"), Some(1.0));
        assert_eq!(value(&metrics, "fleet_agent_units_missing"), Some(1.0));
        assert_eq!(value(&metrics, "fleet_agent_units{active=\"active\"}"), Some(2.0));
        metrics.units_by_state(["failed"].into_iter(), 0, 0);
        assert_eq!(value(&metrics, "fleet_agent_units_missing"), Some(0.0));
        assert_eq!(value(&metrics, "fleet_agent_units{active=\"active\"}"), Some(0.0));
        assert_eq!(value(&metrics, "fleet_agent_units{active=\"failed\"}"), Some(1.0));
    }

    #[test]
    fn an_open_stream_is_counted_while_it_lives() {
        let metrics = Metrics::default();
        let open = (metrics.watching(), metrics.watching());
        assert_eq!(value(&metrics, "fleet_api_watches"), Some(2.0));
        drop(open);
        assert_eq!(value(&metrics, "fleet_api_watches"), Some(0.0));
    }
}
