//! Decides whether a leader may treat absent hosts as dead. After a store outage all leases have expired together, and
//! the host that re-registers first would get all units, although they still run where they were. A leader whose own
//! host has lost its presence, or has only just registered, therefore waits up to one TTL for the others. Must never
//! wait longer: a host may be alive and never register.

use std::time::Duration;

use tokio::time::Instant;

use crate::model::cluster::{Cluster, Versioned};
use crate::model::machine::KnownHost;
use crate::model::name::MachineId;

/// How long one leader still waits for absent hosts.
#[derive(Debug)]
pub(super) struct PresenceGrace {
    ttl: Duration,
    /// Whether the leader's own host was absent at the last check; `None` before the first one.
    absent: Option<bool>,
    until: Option<Instant>,
}

impl PresenceGrace {
    /// Nothing to wait for yet.
    pub(super) fn new(ttl: Duration) -> Self {
        Self { ttl, absent: None, until: None }
    }

    /// Checks which hosts are present. Returns until when nothing may be planned, if there is anything to wait for.
    /// `now_ms` is no later than since the host registered has passed, whatever the clock was set to since.
    pub(super) fn evaluate(&mut self, cluster: &Cluster, me: &MachineId, now_ms: u64) -> Option<Instant> {
        let now = Instant::now();
        let mine = cluster.machines.get(me);
        match (self.absent, mine) {
            // Its host may have been unreachable as long as the others, and have come back before it became leader.
            (None, Some(mine)) => {
                let age = Duration::from_millis(now_ms.saturating_sub(mine.since));
                self.until = self.ttl.checked_sub(age).map(|rest| now + rest);
            }
            (None | Some(false), None) => self.until = Some(now + self.ttl),
            // Hosts reach the store again within moments of each other, since their back-off is shorter than this.
            (Some(true), Some(_)) => self.until = self.until.map(|until| until.min(now + self.ttl / 3)),
            _ => {}
        }
        self.absent = Some(mine.is_none());
        let expected = |(host, known): (_, &Versioned<KnownHost>)| known.value.gone.is_none().then_some(host);
        let mut expected = cluster.schedule.keys().chain(cluster.roster.iter().filter_map(expected));
        let are_missing = expected.any(|host| !cluster.machines.contains_key(host));
        self.until = self.until.filter(|until| *until > now && are_missing);
        self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::cluster::{Change, Versioned};
    use crate::model::machine::Machine;
    use crate::model::name::UnitHash;
    use crate::model::revision::Revision;
    use crate::model::unit::{Assignment, Target};

    const TTL: Duration = Duration::from_secs(9);

    fn id(number: u8) -> MachineId {
        format!("{number:032x}").parse().unwrap()
    }

    /// Hosts 1 and 2 have a unit each; those of `present` are registered, since then.
    fn cluster(present: &[(u8, u64)]) -> Cluster {
        let mut cluster = Cluster::default();
        for host in [1, 2] {
            let (hash, target, generation) = (UnitHash::new("a"), Target::Launched, Revision(1));
            let value = Assignment::new(hash, target, generation);
            let entry = Versioned { value, revision: Revision(1) };
            cluster.apply(Change::Assignment(id(host), format!("{host}.service").parse().unwrap(), Some(entry)));
        }
        for (host, since) in present {
            let machine = Machine { since: *since, ..Machine::new(id(*host), "") };
            cluster.apply(Change::Machine(id(*host), Some(machine)));
        }
        cluster
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_whose_host_has_only_just_registered_waits_for_the_others() {
        let mut grace = PresenceGrace::new(TTL);
        let now = Instant::now();
        let until = grace.evaluate(&cluster(&[(1, 99_000)]), &id(1), 100_000);
        assert_eq!(until, Some(now + Duration::from_secs(8)), "a TTL after it registered");
        assert_eq!(grace.evaluate(&cluster(&[(1, 99_000), (2, 101_000)]), &id(1), 101_000), None, "all are there");
        assert_eq!(grace.evaluate(&cluster(&[(1, 99_000)]), &id(1), 102_000), None, "one that dies now is dead");
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_that_was_there_all_the_time_believes_at_once() {
        for since in [0, 91_000] {
            assert_eq!(PresenceGrace::new(TTL).evaluate(&cluster(&[(1, since)]), &id(1), 100_000), None);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_whose_host_is_missing_waits_a_ttl_at_most_and_moments_once_it_is_back() {
        let mut grace = PresenceGrace::new(TTL);
        let begin = Instant::now();
        assert_eq!(grace.evaluate(&cluster(&[]), &id(1), 100_000), Some(begin + TTL));
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(grace.evaluate(&cluster(&[(1, 102_000)]), &id(1), 102_000), Some(begin + Duration::from_secs(5)));
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(grace.evaluate(&cluster(&[(1, 102_000)]), &id(1), 105_000), None);
    }
}
