//! What etcd made of the TTLs that were asked for. Owns how long that is remembered: a lease that nobody renews runs
//! out without a word, and what is forgotten too early only costs its next keep-alive one more message.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::store::LeaseId;

/// Fewer aren't looked through.
const FEW: usize = 64;

/// TTLs of leases that live, and of some that have ended.
#[derive(Debug, Default)]
pub(super) struct Ttls {
    /// With when it was heard last that the lease lives.
    leases: BTreeMap<LeaseId, (Duration, Instant)>,
    /// So many are left from the last time they were looked through.
    left: usize,
}

impl Ttls {
    /// The TTL of a lease, if it is known.
    pub(super) fn get(&self, lease: LeaseId) -> Option<Duration> {
        self.leases.get(&lease).map(|(ttl, _)| *ttl)
    }

    /// A lease lives for so long from now.
    pub(super) fn heard(&mut self, lease: LeaseId, ttl: Duration) {
        let now = Instant::now();
        self.leases.insert(lease, (ttl, now));
        // When they have doubled: each is looked at twice, on average, however many there are.
        if self.leases.len() > FEW.max(2 * self.left) {
            // etcd lets one live longer after an election.
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
