//! The series: names, labels, help texts. Each is registered once, with its known labels at zero, so that a rate can be
//! computed before the first event.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Metric, Registry};

use super::{AskedMove, LeaseOf, Rescheduled, Task};

type One = [(&'static str, &'static str); 1];
type Two = [(&'static str, &'static str); 2];
/// The template of a set.
type Set = [(&'static str, String); 1];
type Counters<L> = Family<L, Counter>;
type Seconds<L> = Family<L, Histogram, fn() -> Histogram>;

/// The kinds of requests to the store, without watches.
const OPERATIONS: [&str; 5] = ["range", "commit", "grant", "keep_alive", "revoke"];

/// The usual values of `ActiveState`.
const STATES: [&str; 5] = ["active", "activating", "deactivating", "inactive", "failed"];

/// Converts milliseconds since the epoch to Prometheus's seconds.
pub(super) struct Millis;

impl Millis {
    #[expect(clippy::cast_precision_loss, reason = "exact for some hundred thousand years")]
    pub(super) fn seconds(ms: u64) -> f64 {
        ms as f64 / 1000.0
    }
}

/// All series of one daemon.
pub(super) struct Series {
    registry: Registry,
    pub(super) build: Family<One, Gauge>,
    pub(super) leader_start: Gauge<f64, AtomicU64>,
    pub(super) hosts: Gauge,
    pub(super) units: Gauge,
    pub(super) waiting: Gauge,
    pub(super) held: Gauge,
    pub(super) cordoned: Gauge,
    pub(super) reboots: Family<One, Gauge>,
    pub(super) moves: Family<One, Gauge>,
    pub(super) offered: Family<One, Gauge>,
    pub(super) taken: Family<One, Gauge>,
    pub(super) rollouts: Family<One, Gauge>,
    pub(super) sets: Gauge,
    set_wanted: Family<Set, Gauge>,
    set_ready: Family<Set, Gauge>,
    set_waiting: Family<Set, Gauge>,
    set_done: Family<Set, Gauge>,
    pub(super) engine_changes: Histogram,
    pub(super) tasks: Counters<One>,
    pub(super) task_failures: Counters<One>,
    pub(super) rescheduled: Counters<One>,
    pub(super) asked_moves: Counters<One>,
    pub(super) reconciles: Counter,
    pub(super) reconcile_seconds: Histogram,
    pub(super) reconcile_failures: Counters<One>,
    pub(super) passes: Counter,
    pub(super) pass_seconds: Histogram,
    pub(super) pass_failures: Counters<One>,
    pub(super) queues: Family<One, Gauge>,
    pub(super) units_missing: Gauge,
    pub(super) units_unready: Gauge,
    pub(super) probes: Counters<One>,
    unit_states: Family<[(&'static str, String); 1], Gauge>,
    pub(super) operations: Counters<One>,
    pub(super) operation_failures: Counters<Two>,
    pub(super) operation_seconds: Seconds<One>,
    pub(super) leases: Family<One, Gauge>,
    pub(super) lease_losses: Counters<One>,
    pub(super) renewals: Counter,
    pub(super) calls: Counters<One>,
    pub(super) call_failures: Counters<Two>,
    pub(super) call_seconds: Seconds<One>,
    pub(super) requests: Counters<[(&'static str, String); 3]>,
    pub(super) request_seconds: Seconds<[(&'static str, String); 1]>,
    pub(super) watches: Gauge,
}

impl Series {
    pub(super) fn new() -> Self {
        let mut r = Registry::with_prefix("fleet");
        let series = Self {
            build: add(&mut r, "build_info", "Always 1; the label is the version of this fleetd", Family::default()),
            leader_start: add(
                &mut r,
                "engine_leader_start_time",
                "When this fleetd became leader, seconds since the epoch; 0 while it doesn't lead",
                Gauge::default(),
            ),
            hosts: add(&mut r, "engine_hosts", "Hosts that are alive; 0 unless this fleetd leads", Gauge::default()),
            units: add(&mut r, "engine_units", "Submitted units; 0 unless this fleetd leads", Gauge::default()),
            waiting: add(
                &mut r,
                "engine_units_waiting",
                "Units that no host fits; 0 unless this fleetd leads",
                Gauge::default(),
            ),
            held: add(
                &mut r,
                "engine_hosts_held",
                "Hosts that vanished together and whose units aren't moved yet; 0 unless this fleetd leads",
                Gauge::default(),
            ),
            cordoned: add(
                &mut r,
                "engine_hosts_cordoned",
                "Hosts that are alive and on which no new units are placed; 0 unless this fleetd leads",
                Gauge::default(),
            ),
            reboots: add(
                &mut r,
                "reboot_hosts",
                "Hosts that have a slot for their reboot, and hosts that wait for one, as this fleetd knows",
                Family::default(),
            ),
            moves: add(
                &mut r,
                "engine_moves",
                "Units that people want on other hosts and that wait, and those that leave for them; 0 unless this \
                 fleetd leads",
                Family::default(),
            ),
            offered: add(
                &mut r,
                "engine_resources_offered",
                "Memory in bytes, and CPU in percent of one core, that units can take of all hosts that are alive; \
                 none unless this fleetd leads",
                Family::default(),
            ),
            taken: add(
                &mut r,
                "engine_resources_taken",
                "What they take of that with Memory= and CPU=; none unless this fleetd leads",
                Family::default(),
            ),
            rollouts: add(
                &mut r,
                "engine_rollouts",
                "Sets and units whose last rollout is in that phase; none unless this fleetd leads",
                Family::default(),
            ),
            sets: add(&mut r, "engine_sets", "Sets; 0 unless this fleetd leads", Gauge::default()),
            set_wanted: add(
                &mut r,
                "engine_set_wanted",
                "Members of a set that should run; of the first 256 sets, and none unless this fleetd leads",
                Family::default(),
            ),
            set_ready: add(&mut r, "engine_set_ready", "Those that are ready", Family::default()),
            set_waiting: add(&mut r, "engine_set_waiting", "Those that are on no host", Family::default()),
            set_done: add(&mut r, "engine_set_done", "Those that run once and have", Family::default()),
            engine_changes: add(
                &mut r,
                "engine_changes",
                "Batches of changes that were coalesced before a round",
                Histogram::new(exponential_buckets(1.0, 4.0, 6)),
            ),
            tasks: add(&mut r, "engine_task_count", "Tasks done: assignments written", Family::default()),
            task_failures: add(
                &mut r,
                "engine_task_failure_count",
                "Tasks whose commit failed or has an unknown outcome; the leader reads and plans again",
                Family::default(),
            ),
            rescheduled: add(
                &mut r,
                "engine_reschedule_count",
                "Units that had failed and were moved to another host, or started again where they were",
                Family::default(),
            ),
            asked_moves: add(
                &mut r,
                "engine_move_count",
                "Units that people wanted on other hosts and that were told to go there, or stay where they are",
                Family::default(),
            ),
            reconciles: add(&mut r, "engine_reconcile_count", "Rounds of the engine as leader", Counter::default()),
            reconcile_seconds: add(
                &mut r,
                "engine_reconcile_duration_second",
                "How long a round takes, with its commits",
                seconds(),
            ),
            reconcile_failures: add(
                &mut r,
                "engine_reconcile_failure_count",
                "Rounds that must be repeated, by the class of the store's error",
                Family::default(),
            ),
            passes: add(&mut r, "agent_reconcile_count", "Passes of the agent over its units", Counter::default()),
            pass_seconds: add(&mut r, "agent_reconcile_duration_second", "How long a pass takes", seconds()),
            pass_failures: add(
                &mut r,
                "agent_reconcile_failure_count",
                "Passes that must be repeated, by what failed",
                Family::default(),
            ),
            queues: add(
                &mut r,
                "agent_queue",
                "The agent's queues: dirty units, running systemd jobs, unread events",
                Family::default(),
            ),
            units_missing: add(
                &mut r,
                "agent_units_missing",
                "Units of this host that should run and don't: failed, or stopped by other means",
                Gauge::default(),
            ),
            units_unready: add(
                &mut r,
                "agent_units_unready",
                "Units of this host that are active and whose probes say that they aren't ready",
                Gauge::default(),
            ),
            probes: add(&mut r, "agent_probes", "Probes of this host's units, by their result", Family::default()),
            unit_states: add(&mut r, "agent_units", "Units of this host by systemd's ActiveState", Family::default()),
            operations: add(&mut r, "registry_operation_count", "Requests to the store", Family::default()),
            operation_failures: add(
                &mut r,
                "registry_operation_failed_count",
                "Requests to the store that failed, by class; `conflict` is normal: another change came first",
                Family::default(),
            ),
            operation_seconds: add(
                &mut r,
                "registry_operation_duration_second",
                "How long the store takes to answer",
                Seconds::new_with_constructor(seconds),
            ),
            leases: add(&mut r, "lease_held", "1 while this fleetd holds that lease", Family::default()),
            lease_losses: add(&mut r, "lease_losses", "Leases that were lost", Family::default()),
            renewals: add(&mut r, "lease_renewals", "Renewals of leases", Counter::default()),
            calls: add(&mut r, "systemd_calls", "Calls to systemd, each for one or many units", Family::default()),
            call_failures: add(
                &mut r,
                "systemd_call_failures",
                "Units for which a call to systemd failed (1 if it failed as a whole), by class",
                Family::default(),
            ),
            call_seconds: add(
                &mut r,
                "systemd_call_duration_seconds",
                "How long a call to systemd takes",
                Seconds::new_with_constructor(seconds),
            ),
            requests: add(&mut r, "api_requests", "Requests answered", Family::default()),
            request_seconds: add(
                &mut r,
                "api_request_duration_seconds",
                "How long a request waits for its answer (of a stream: for its beginning)",
                Seconds::new_with_constructor(seconds),
            ),
            watches: add(&mut r, "api_watches", "Open streams of changes", Gauge::default()),
            registry: r,
        };
        series.begin();
        series
    }

    /// Create the series whose labels are known in advance.
    fn begin(&self) {
        for task in Task::ALL {
            drop(self.tasks.get_or_create(&[("type", task.name())]));
            drop(self.task_failures.get_or_create(&[("type", task.name())]));
        }
        for what in Rescheduled::ALL {
            drop(self.rescheduled.get_or_create(&[("type", what.name())]));
        }
        for what in AskedMove::ALL {
            drop(self.asked_moves.get_or_create(&[("type", what.name())]));
        }
        for stage in ["waits", "leaves"] {
            drop(self.moves.get_or_create(&[("stage", stage)]));
        }
        for class in ["conflict", "unavailable"] {
            drop(self.reconcile_failures.get_or_create(&[("type", class)]));
        }
        for class in ["store", "systemd", "files"] {
            drop(self.pass_failures.get_or_create(&[("type", class)]));
        }
        for result in ["passed", "failed", "not-run"] {
            drop(self.probes.get_or_create(&[("result", result)]));
        }
        for kind in OPERATIONS {
            drop(self.operations.get_or_create(&[("type", kind)]));
            drop(self.operation_failures.get_or_create(&[("type", kind), ("class", "unavailable")]));
            drop(self.operation_seconds.get_or_create(&[("type", kind)]));
        }
        for lease in [LeaseOf::Presence, LeaseOf::Leadership] {
            drop(self.leases.get_or_create(&[("lease", lease.name())]));
            drop(self.lease_losses.get_or_create(&[("lease", lease.name())]));
        }
        self.count_states(std::iter::empty());
    }

    fn members(&self) -> [&Family<Set, Gauge>; 4] {
        [&self.set_wanted, &self.set_ready, &self.set_waiting, &self.set_done]
    }

    /// How many members of a set are wanted, ready, waiting and done; `None` removes its series.
    pub(super) fn count_members(&self, set: &str, counts: Option<[i64; 4]>) {
        let label = [("set", set.to_owned())];
        for (at, family) in self.members().into_iter().enumerate() {
            match counts {
                Some(counts) => drop(family.get_or_create(&label).set(counts[at])),
                None => drop(family.remove(&label)),
            }
        }
    }

    /// No set is counted any more.
    pub(super) fn clear_members(&self) {
        self.members().into_iter().for_each(Family::clear);
    }

    pub(super) fn count_states<'a>(&self, active: impl Iterator<Item = &'a str>) {
        let mut counts: BTreeMap<&str, i64> = STATES.into_iter().map(|state| (state, 0)).collect();
        for state in active {
            *counts.entry(state).or_default() += 1;
        }
        // Removes states that no unit has any more.
        self.unit_states.clear();
        for (state, count) in counts {
            self.unit_states.get_or_create(&[("active", state.to_owned())]).set(count);
        }
    }

    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string can't fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

fn add<M: Metric + Clone>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M {
    registry.register(name, help, metric.clone());
    metric
}

/// Buckets from 1 ms to 10 s: shorter times are good, and longer ones time out.
fn seconds() -> Histogram {
    Histogram::new([0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0])
}
