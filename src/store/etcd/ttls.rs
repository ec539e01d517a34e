//! The TTLs that etcd granted. Owns how long they are kept: a lease that isn't renewed expires silently, and forgetting
//! a TTL too early only costs one more message with the next keep-alive.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::store::LeaseId;

/// Below this number, no cleanup is made.
const FEW: usize = 64;

/// TTLs of live leases, and of some that have ended.
#[derive(Debug, Default)]
pub(super) struct Ttls {
    /// With the time at which the lease was last known to be alive.
    leases: BTreeMap<LeaseId, (Duration, Instant)>,
    /// How many were left after the last cleanup.
    left: usize,
}

impl Ttls {
    /// The TTL of a lease, if it is known.
    pub(super) fn get(&self, lease: LeaseId) -> Option<Duration> {
        self.leases.get(&lease).map(|(ttl, _)| *ttl)
    }

    /// A lease was alive at this time, with this TTL.
    pub(super) fn heard(&mut self, lease: LeaseId, ttl: Duration) {
        let now = Instant::now();
        self.leases.insert(lease, (ttl, now));
        // Whenever their number has doubled, so that the amortized cost is constant.
        if self.leases.len() > FEW.max(2 * self.left) {
            // etcd extends leases after an election.
            self.leases.retain(|_, (ttl, heard)| now.duration_since(*heard) < *ttl * 4);
            self.left = self.leases.len();
        }
    }

    /// A lease has ended.
    pub(super) fn ended(&mut self, lease: LeaseId) {
        self.leases.remove(&lease);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn leases_that_ran_out_are_forgotten_and_those_that_live_are_not() {
        let (mut ttls, ttl) = (Ttls::default(), Duration::from_secs(10));
        for number in 0..10_000 {
            ttls.heard(LeaseId(-1), ttl);
            ttls.heard(LeaseId(number), ttl);
            tokio::time::advance(Duration::from_secs(1)).await;
            assert!(ttls.leases.len() <= 2 * FEW, "{} after {number} s", ttls.leases.len());
        }
        assert_eq!(
            (ttls.get(LeaseId(-1)), ttls.get(LeaseId(9_999)), ttls.get(LeaseId(0))),
            (Some(ttl), Some(ttl), None)
        );
        ttls.ended(LeaseId(-1));
        assert_eq!(ttls.get(LeaseId(-1)), None);
    }

    #[tokio::test(start_paused = true)]
    async fn many_that_live_stay() {
        let (mut ttls, ttl) = (Ttls::default(), Duration::from_secs(10));
        for number in 0..1000 {
            ttls.heard(LeaseId(number), ttl);
        }
        assert!((0..1000).all(|number| ttls.get(LeaseId(number)) == Some(ttl)));
    }
}
