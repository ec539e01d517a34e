//! The end of an agent. A daemon that stops leaves units and presence as they are. When the whole system is shutting
//! down no daemon comes back in time, so the lease is revoked, but never before the last unit has stopped: the units
//! start on other hosts as soon as the lease is gone.

use std::time::Duration;

use tokio::sync::mpsc;

use crate::model::machine::Machine;
use crate::model::name::UnitName;
use crate::model::systemd::{ActiveState, JobKind, UnitState};
use crate::registry::commit::hosts;
use crate::registry::keys::Key;
use crate::registry::unchanged;
use crate::store::lease::Lease;
use crate::store::{Error, Store};
use crate::systemd::{Event, Systemd};

use super::{Agent, Status};

/// How long systemd may take to say whether the system is shutting down. An operator who stops the daemon waits for
/// this.
const ANSWER: Duration = Duration::from_secs(2);

/// How often to check whether units have stopped, in case signals are lost with the bus.
const LOOK: Duration = Duration::from_millis(500);

/// Give up after this many checks in a row without an answer: a shutdown must not hang because the bus is gone.
const MAX_UNANSWERED: usize = 10;

impl<S: Store, H: Systemd> Agent<S, H> {
    /// Leave units and presence as they are; but if the system is shutting down, wait for the units to stop and revoke
    /// the lease.
    pub(super) async fn drain_for_shutdown(&self, lease: Lease<S>, events: &mut mpsc::UnboundedReceiver<Event>) {
        if !matches!(tokio::time::timeout(ANSWER, self.host.going_down()).await, Ok(Ok(true))) {
            return;
        }
        let mut unanswered = 0;
        loop {
            // Drained before systemd is asked, so that events that arrive later cause another check.
            while events.try_recv().is_ok() {}
            match self.still_up().await {
                Some(up) if up.is_empty() => break,
                Some(up) if up.iter().all(|(_, stops)| !stops) => {
                    let (unit, count) = (&up[0].0, up.len());
                    tracing::warn!(
                        %unit,
                        count,
                        "doesn't stop with the system, so its host stays registered until its lease expires"
                    );
                    return;
                }
                Some(up) => {
                    unanswered = 0;
                    self.show_left(up.len());
                }
                None if unanswered == MAX_UNANSWERED => return,
                None => unanswered += 1,
            }
            tokio::select! {
                () = lease.lost() => return,
                Some(_) = events.recv() => {}
                () = tokio::time::sleep(LOOK) => {}
            }
        }
        let leave = async {
            // If the leader doesn't learn that this host leaves, it treats it as one that vanishes.
            let _ = self.say_goodbye(&lease).await;
            lease.revoke().await
        };
        match tokio::time::timeout(self.options.ttl / 3, leave).await {
            Ok(Ok(())) => {
                tracing::info!("the system is shutting down and all units have stopped; this host has left the cluster")
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "can't revoke the lease of this host; it will expire by itself")
            }
            Err(_) => {
                tracing::warn!("the store doesn't answer; the lease of this host will expire by itself")
            }
        }
    }

    /// Write into this host's key that it leaves, unless the key has become another's.
    async fn say_goodbye(&self, lease: &Lease<S>) -> Result<(), Error> {
        let Some(claimed) = self.claimed else { return Ok(()) };
        let machine = Machine { leaving: true, ..self.options.machine.clone() };
        let guard = unchanged(&Key::Machine(machine.id.clone()), Some(claimed));
        hosts::register(&self.store, &machine, lease.id(), guard).await.map(drop)
    }

    /// Units that are still up, and whether each is stopping; `None` if systemd doesn't answer.
    async fn still_up(&self) -> Option<Vec<(UnitName, bool)>> {
        let names = self.state.units().map(|(name, _)| name.clone()).collect();
        let seen = self.host.in_memory(names).await.ok()?;
        let up = seen.into_iter().filter(|(_, unit)| unit.active.is_up());
        // A unit whose start never ends doesn't stop either.
        let stops = |unit: &UnitState| unit.job == Some(JobKind::Stop) || unit.active == ActiveState::Deactivating;
        Some(up.map(|(name, unit)| (name, stops(&unit))).collect())
    }

    fn show_left(&self, units: usize) {
        let now = Status::Leaving { units };
        if *self.status.borrow() != now {
            tracing::info!(units, "the system is shutting down; waiting for units to stop");
            self.status.send_replace(now);
        }
    }
}
