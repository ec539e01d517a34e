//! The host's presence: a lease, and the machine key bound to it. Owns which host may claim a machine id.

use std::time::Duration;

use crate::model::machine::Machine;
use crate::model::revision::Revision;
use crate::reconcile::{Backoff, Outage};
use crate::registry::commit::hosts;
use crate::registry::keys::Key;
use crate::registry::{decode, point, unchanged};
use crate::store::lease::Lease;
use crate::store::{Error, Guard, LeaseId, Store};
use crate::systemd::{self, Systemd};

use super::{Agent, Cause, Status};

/// The file that records the lease, so that a restarted daemon adopts it and its reports stay. The format is
/// `<lease> <machine id> <TTL in ms>`. Older daemons didn't write the TTL; the current one is assumed then.
const LEASE_FILE: &str = "lease";

/// The content of that file.
struct Noted {
    id: LeaseId,
    ttl: Option<Duration>,
}

/// Why a host can't register now.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("{0}")]
    Store(#[from] Error),
    /// A host that can't run units must not be assigned any.
    #[error("{0}")]
    Systemd(#[from] systemd::Error),
    #[error(
        "another live host has the machine id {id}: {theirs}, and this is {ours}; give one of them its own \
         (`rm /etc/machine-id && systemd-machine-id-setup`) and restart it"
    )]
    Duplicate { id: String, theirs: String, ours: String },
}

impl Refusal {
    fn cause(&self) -> Cause {
        match self {
            Self::Store(_) => Cause::Store,
            Self::Systemd(_) => Cause::Systemd,
            Self::Duplicate { .. } => Cause::Duplicate,
        }
    }
}

impl<S: Store, H: Systemd> Agent<S, H> {
    /// Register the host, retrying without limit, and return the lease to which its key is bound.
    pub(super) async fn register(&mut self) -> Lease<S> {
        let mut backoff = Backoff::new(self.options.ttl, self.options.machine.id.as_str());
        let mut outage = Outage::new("the cluster", self.options.clock);
        loop {
            self.heartbeat.beat();
            match self.claim().await {
                Ok(lease) => {
                    outage.works();
                    let machine = &self.options.machine;
                    tracing::info!(machine = %machine.id, ip = machine.ip, "registered");
                    self.status.send_replace(Status::Present {
                        units: self.state.count(),
                        settled: false,
                        unreachable: None,
                    });
                    return lease;
                }
                Err(refusal) => {
                    outage.failed(&refusal);
                    self.status.send_replace(Status::Away { why: refusal.to_string(), cause: refusal.cause() });
                    backoff.wait().await;
                }
            }
        }
    }

    async fn claim(&mut self) -> Result<Lease<S>, Refusal> {
        self.answers().await?;
        let noted = self.noted_lease().await?;
        // The claim to the id is checked first: a refused host must not keep a lease alive.
        let (guard, since) = self.guard(noted.as_ref().map(|noted| noted.id)).await?;
        let lease = self.lease(noted).await?;
        self.options.machine.since = since.unwrap_or_else(|| self.options.clock.now_ms());
        self.write(&lease, guard).await?;
        Ok(lease)
    }

    /// Check that systemd answers. Any unit will do; the root slice always exists.
    pub(super) async fn answers(&self) -> Result<(), systemd::Error> {
        self.host.units("-.slice".parse().into_iter().collect()).await.map(drop)
    }

    /// The condition on which this host may write its key: the key doesn't exist, or belongs to this host according to
    /// its lease or its hostname and address. In the latter case also the time since when the host has been registered.
    async fn guard(&self, known: Option<LeaseId>) -> Result<(Guard, Option<u64>), Refusal> {
        let machine = &self.options.machine;
        let key = Key::Machine(machine.id.clone());
        let name = key.to_string();
        let (_, Some(held)) = point(&self.store, &name, None).await? else {
            return Ok((unchanged(&key, None), None));
        };
        let other = decode::<Machine>(&held).ok();
        if (held.lease.is_none() || held.lease != known)
            && let Some(other) = &other
            && (&other.hostname, &other.ip) != (&machine.hostname, &machine.ip)
        {
            let show = |m: &Machine| format!("{} ({})", m.hostname, m.ip);
            let (theirs, ours) = (show(other), show(machine));
            return Err(Refusal::Duplicate { id: machine.id.to_string(), theirs, ours });
        }
        Ok((Guard::Unchanged(name, held.revision), other.map(|other| other.since)))
    }

    /// Write the host's key, bound to `lease`. A host that comes back takes its key over at once; the old lease then
    /// expires without effect. The new revision of the key invalidates every request that this daemon or an earlier one
    /// sent under an older revision.
    async fn write(&mut self, lease: &Lease<S>, guard: Guard) -> Result<(), Error> {
        self.claimed = None;
        let machine = &self.options.machine;
        self.claimed = Some(hosts::register(&self.store, machine, lease.id(), guard).await?);
        Ok(())
    }

    /// The revision of the host's key as this daemon wrote it, which guards its reports. After a report with an unknown
    /// outcome the key is written again, so that the report can't be committed late and overwrite a newer one.
    pub(super) async fn claimed(&mut self, lease: &Lease<S>) -> Result<Revision, Error> {
        if self.claimed.is_none() {
            let (guard, _) = self.guard(Some(lease.id())).await.map_err(|refusal| match refusal {
                Refusal::Store(error) => error,
                // Registering again reports this error until it is resolved.
                _ => Error::Conflict,
            })?;
            self.write(lease, guard).await?;
        }
        self.claimed.ok_or(Error::Conflict)
    }

    /// The lease that the previous daemon recorded. If it was for another machine id it is revoked: that machine no
    /// longer exists and must not appear alive.
    async fn noted_lease(&self) -> Result<Option<Noted>, Error> {
        let Some(note) = self.host.read_boot_file(LEASE_FILE).await.ok().flatten() else { return Ok(None) };
        let mut words = note.split_whitespace();
        let (Some(id), Some(machine)) = (words.next(), words.next()) else { return Ok(None) };
        let Some(id) = id.parse().ok().map(LeaseId) else { return Ok(None) };
        if machine == self.options.machine.id.as_str() {
            return Ok(Some(Noted { id, ttl: words.next().and_then(|ms| ms.parse().ok()).map(Duration::from_millis) }));
        }
        self.store.revoke(id).await?;
        Ok(None)
    }

    /// The recorded lease if it is still alive, else a new one. A store can't change a lease's TTL: if the TTL was
    /// reconfigured, the old lease expires by itself after everything was bound to the new one.
    async fn lease(&self, noted: Option<Noted>) -> Result<Lease<S>, Error> {
        let ttl = self.options.ttl;
        if let Some(noted) = noted.filter(|noted| noted.ttl.is_none_or(|noted| noted == ttl)) {
            match Lease::adopt(&self.store, noted.id, ttl).await {
                Err(Error::LeaseLost) => {}
                other => return other,
            }
        }
        let lease = Lease::grant(&self.store, ttl).await?;
        let note = format!("{} {} {}", lease.id().0, self.options.machine.id, ttl.as_millis());
        if let Err(error) = self.host.write_boot_file(LEASE_FILE, &note).await {
            // Not worth refusing to register: a restarted daemon recognizes its key by hostname and address.
            tracing::warn!(%error, "the lease could not be saved; after a restart, fleetd will use a new one");
        }
        Ok(lease)
    }
}
