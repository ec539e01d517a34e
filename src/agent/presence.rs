//! The host's presence: a lease, and the machine key bound to it. Owns who may claim a machine id.

use crate::model::machine::Machine;
use crate::model::revision::Revision;
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
    pub(super) async fn register(&mut self) -> Lease<S> {
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

    async fn claim(&mut self) -> Result<Lease<S>, Refusal> {
        // Any unit will do: the root slice is always there.
        self.host.units("-.slice".parse().into_iter().collect()).await?;
        let lease = self.lease().await?;
        self.hold(&lease).await?;
        Ok(lease)
    }

    /// Write the host's key, bound to `lease`. Whatever this host, or a daemon of it before this one, has sent on its way to the store
    /// under an earlier revision of the key can't be done any more.
    async fn hold(&mut self, lease: &Lease<S>) -> Result<(), Refusal> {
        self.claimed = None;
        let machine = &self.options.machine;
        let key = Key::Machine(machine.id.clone());
        let name = key.to_string();
        let range = Range { prefix: name.clone(), limit: 1, ..Range::default() };
        let held = self.store.range(range).await?.kvs.into_iter().find(|kv| kv.key == name);
        let guard = match &held {
            None => unchanged(&key, None),
            Some(kv) => {
                if kv.lease != Some(lease.id())
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
        // The same host coming back takes its key over at once; the old lease then ends without effect.
        let txn = Txn { guards: vec![guard], ops: vec![put(&key, machine, Some(lease.id()))] };
        self.claimed = Some(self.store.commit(txn).await?);
        Ok(())
    }

    /// The revision of the host's key that this daemon wrote: what its reports are guarded with. Written again after a report whose
    /// outcome isn't known, so that the report can't come late and cover a newer one.
    pub(super) async fn claimed(&mut self, lease: &Lease<S>) -> Result<Revision, Error> {
        if self.claimed.is_none() {
            self.hold(lease).await.map_err(|refusal| match refusal {
                Refusal::Store(error) => error,
                // Registering anew says so until it is over.
                _ => Error::Conflict,
            })?;
        }
        self.claimed.ok_or(Error::Conflict)
    }

    /// The lease of the daemon before this one, if it still lives; else a new one.
    async fn lease(&self) -> Result<Lease<S>, Error> {
        let noted = self.host.read_note(NOTE).await.ok().flatten().and_then(|id| id.trim().parse().ok());
        if let Some(id) = noted {
            match Lease::adopt(&self.store, LeaseId(id), self.options.ttl).await {
                Err(Error::LeaseLost) => {}
                other => return other,
            }
        }
        let lease = Lease::grant(&self.store, self.options.ttl).await?;
        if let Err(error) = self.host.write_note(NOTE, &lease.id().0.to_string()).await {
            // Not worth being absent for: a restart will then wait for nothing, but take its key over by name.
            tracing::warn!(%error, "the lease could not be noted; a restart of fleetd will begin a new one");
        }
        Ok(lease)
    }
}
