//! Whether a leader may believe that hosts are dead. A leader whose own host has lost its presence has learned that the store was out of reach,
//! not that hosts have died: after an outage all leases have run out together, and whoever registered first would get all units, which
//! run well where they are. So it waits for the others. Must never wait for long: a host may be alive and yet not register.

use std::time::Duration;

use tokio::time::Instant;

use crate::model::cluster::Cluster;
use crate::model::name::MachineId;

/// The doubt of one leader.
#[derive(Debug)]
pub(super) struct Doubt {
    ttl: Duration,
    /// Whether the leader's own host was missing when it looked last.
    absent: bool,
    until: Option<Instant>,
}

impl Doubt {
    /// None yet.
    pub(super) fn new(ttl: Duration) -> Self {
        Self { ttl, absent: false, until: None }
    }

    /// Look at who is there; until when nothing may be planned, if so.
    pub(super) fn look(&mut self, cluster: &Cluster, me: &MachineId) -> Option<Instant> {
        let now = Instant::now();
        let absent = !cluster.machines.contains_key(me);
        match (self.absent, absent) {
            (false, true) => self.until = Some(now + self.ttl),
            // Hosts find the store again within moments of each other: their back-off is shorter than this.
            (true, false) => self.until = self.until.map(|until| until.min(now + self.ttl / 3)),
            _ => {}
        }
        self.absent = absent;
        let missing =
            |until: &Instant| *until > now && cluster.schedule.keys().any(|host| !cluster.machines.contains_key(host));
        self.until = self.until.filter(missing);
        self.until
    }
}
