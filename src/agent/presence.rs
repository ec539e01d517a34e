//! The host's presence: a lease, and the machine key bound to it. Owns who may claim a machine id.

use crate::model::machine::Machine;
use crate::reconcile::{Backoff, Outage};
use crate::registry::keys::Key;
use crate::registry::{decode, put, unchanged};
use crate::store::lease::Lease;
use crate::store::{Error, Guard, LeaseId, Range, Store, Txn};
use crate::systemd::{self, Systemd};

use super::{Agent, Status};

/// The note with the lease's id: a restarted daemon goes on with the lease of the one before, and its reports stay.
const NOTE: &str = "lease";

/// Why a host can't register now.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("{0}")]
    Store(#[from] Error),
    /// A host that can't run units must not be given any.
    #[error("{0}")]
    Systemd(#[from] systemd::Error),
    #[error(
        "another live host has the machine id {id}: {theirs}, and this is {ours}; give one of them its own \
         (`rm /etc/machine-id && systemd-machine-id-setup`) and restart it"
    )]
    Duplicate { id: String, theirs: String, ours: String },
}

impl<S: Store, H: Systemd> Agent<S, H> {
    /// Register, however long it takes.
    pub(super) async fn register(&self) -> Lease<S> {
        let mut backoff = Backoff::new(self.options.ttl, self.options.machine.id.as_str());
        let mut outage = Outage::new("the cluster", self.options.clock);
        loop {
            match self.claim().await {
                Ok(lease) => {
                    outage.works();
                    let machine = &self.options.machine;
                    tracing::info!(machine = %machine.id, ip = machine.ip, "registered");
                    self.status.send_replace(Status::Present { units: self.units.len(), settled: false });
                    return lease;
                }
                Err(refusal) => {
                    outage.failed(&refusal);
                    self.status.send_replace(Status::Away(refusal.to_string()));
                    backoff.wait().await;
                }
            }
        }
    }

    async fn claim(&self) -> Result<Lease<S>, Refusal> {
        // Any unit will do: the root slice is always there.
        self.host.units("-.slice".parse().into_iter().collect()).await?;
        let machine = &self.options.machine;
        let key = Key::Machine(machine.id.clone());
        let name = key.to_string();
        let range = Range { prefix: name.clone(), limit: 1, ..Range::default() };
        let held = self.store.range(range).await?.kvs.into_iter().find(|kv| kv.key == name);
        let noted = self.noted_lease().await?;
        let guard = match &held {
            None => unchanged(&key, None),
            Some(kv) => {
                if (kv.lease.is_none() || kv.lease != noted)
                    && let Ok(other) = decode::<Machine>(kv)
                    && (&other.hostname, &other.ip) != (&machine.hostname, &machine.ip)
                {
                    let show = |m: &Machine| format!("{} ({})", m.hostname, m.ip);
                    let (theirs, ours) = (show(&other), show(machine));
                    return Err(Refusal::Duplicate { id: machine.id.to_string(), theirs, ours });
                }
                Guard::Unchanged(name, kv.revision)
            }
        };
        let lease = self.lease(noted).await?;
        // The same host coming back takes its key over at once; the old lease then ends without effect.
        self.store.commit(Txn { guards: vec![guard], ops: vec![put(&key, machine, Some(lease.id()))] }).await?;
        Ok(lease)
    }

    /// The lease that the daemon before this one noted. One of another identity is ended: that machine is no more, and must
    /// not be taken for alive.
    async fn noted_lease(&self) -> Result<Option<LeaseId>, Error> {
        let Some(note) = self.host.read_note(NOTE).await.ok().flatten() else { return Ok(None) };
        let Some((id, machine)) = note.trim().split_once(' ') else { return Ok(None) };
        let Some(id) = id.parse().ok().map(LeaseId) else { return Ok(None) };
        if machine == self.options.machine.id.as_str() {
            return Ok(Some(id));
        }
        self.store.revoke(id).await?;
        Ok(None)
    }

    /// The lease of the daemon before this one, if it still lives; else a new one.
    async fn lease(&self, noted: Option<LeaseId>) -> Result<Lease<S>, Error> {
        if let Some(id) = noted {
            match Lease::adopt(&self.store, id, self.options.ttl).await {
                Err(Error::LeaseLost) => {}
                other => return other,
            }
        }
        let lease = Lease::grant(&self.store, self.options.ttl).await?;
        let note = format!("{} {}", lease.id().0, self.options.machine.id);
        if let Err(error) = self.host.write_note(NOTE, &note).await {
            // Not worth being absent for: a restarted daemon then takes its key over by its name and address.
            tracing::warn!(%error, "the lease could not be noted; a restart of fleetd will begin a new one");
        }
        Ok(lease)
    }
}
