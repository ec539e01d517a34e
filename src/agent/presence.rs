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
        let noted = self.noted_lease().await?;
        // First whether the id is ours: a host that is refused must not keep a lease alive.
        let guard = self.guard(noted).await?;
        let lease = self.lease(noted).await?;
        self.write(&lease, guard).await?;
        Ok(lease)
    }

    /// What must hold for this host to write its key: that it is free, or its own, by lease or by name and address.
    async fn guard(&self, known: Option<LeaseId>) -> Result<Guard, Refusal> {
        let machine = &self.options.machine;
        let key = Key::Machine(machine.id.clone());
        let name = key.to_string();
        let range = Range { prefix: name.clone(), limit: 1, ..Range::default() };
        let Some(held) = self.store.range(range).await?.kvs.into_iter().find(|kv| kv.key == name) else {
            return Ok(unchanged(&key, None));
        };
        if (held.lease.is_none() || held.lease != known)
            && let Ok(other) = decode::<Machine>(&held)
            && (&other.hostname, &other.ip) != (&machine.hostname, &machine.ip)
        {
            let show = |m: &Machine| format!("{} ({})", m.hostname, m.ip);
            let (theirs, ours) = (show(&other), show(machine));
            return Err(Refusal::Duplicate { id: machine.id.to_string(), theirs, ours });
        }
        Ok(Guard::Unchanged(name, held.revision))
    }

    /// Write the host's key, bound to `lease`. The same host coming back takes it over at once; an old lease then ends without
    /// effect. Whatever this host, or a daemon of it before this one, has sent on its way to the store under an earlier revision
    /// of the key can't be done any more.
    async fn write(&mut self, lease: &Lease<S>, guard: Guard) -> Result<(), Error> {
        self.claimed = None;
        let machine = &self.options.machine;
        let op = put(&Key::Machine(machine.id.clone()), machine, Some(lease.id()));
        self.claimed = Some(self.store.commit(Txn { guards: vec![guard], ops: vec![op] }).await?);
        Ok(())
    }

    /// The revision of the host's key that this daemon wrote: what its reports are guarded with. Written again after a report whose
    /// outcome isn't known, so that the report can't come late and cover a newer one.
    pub(super) async fn claimed(&mut self, lease: &Lease<S>) -> Result<Revision, Error> {
        if self.claimed.is_none() {
            let guard = self.guard(Some(lease.id())).await.map_err(|refusal| match refusal {
                Refusal::Store(error) => error,
                // Registering anew says so until it is over.
                _ => Error::Conflict,
            })?;
            self.write(lease, guard).await?;
        }
        self.claimed.ok_or(Error::Conflict)
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
