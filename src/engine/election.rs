//! Leadership. Owns the leader's key: who holds it, when it is free, and how a leader proves that it still holds it.
//! Must never plan.

use crate::model::format::Format;
use crate::model::machine::Machine;
use crate::registry::commit::leader;
use crate::registry::keys::{self, Key};
use crate::registry::mirror::{Mirror, Update, list};
use crate::registry::records::leader::LeaderRecord;
use crate::registry::{decode, point};
use crate::store::lease::Lease;
use crate::store::{Error, Event, Guard, Kv, Store};

use super::Engine;
use super::commit::Fence;

/// What was claimed with the leader's key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Claim {
    /// What fences the leader's commits.
    pub(super) fence: Fence,
    /// The format in which all hosts write.
    pub(super) format: Format,
}

impl<S: Store> Engine<S> {
    /// Wait until there is no leader, and become it.
    pub(super) async fn campaign(&self) -> Result<(Lease<S>, Claim), Error> {
        let key = Key::Leader.to_string();
        let mut mirror = Mirror::new(self.store.clone(), &key);
        let mut holder: Option<Kv> = None;
        loop {
            self.pulse.beat();
            let update = tokio::select! {
                biased;
                update = mirror.next() => update?,
                () = self.pulse.due() => continue,
            };
            match update {
                Update::Reset { kvs, .. } => holder = kvs.into_iter().find(|kv| kv.key == key),
                Update::Batch(batch) => {
                    for event in batch.events {
                        match event {
                            Event::Put(kv) if kv.key == key => holder = Some(kv),
                            Event::Delete(name) if name == key => holder = None,
                            _ => {}
                        }
                    }
                }
            }
            self.sees(holder.as_ref().and_then(|kv| decode(kv).ok()));
            if let Some(kv) = &holder {
                // The key is that of the previous daemon on this host. That daemon has ended, so there is no need to
                // wait until its lease expires. Another host with the same id isn't this one.
                let mine =
                    decode::<LeaderRecord>(kv).is_ok_and(|leader| self.record(leader.since, leader.format) == leader);
                if let (true, Some(lease)) = (mine, kv.lease) {
                    self.store.revoke(lease).await?;
                }
                continue;
            }
            let format = self.lowest_format().await?;
            let lease = Lease::grant(&self.store, self.options.ttl).await?;
            match self.claim(Guard::Absent(key.clone()), &lease, format).await {
                Ok(fence) => return Ok((lease, Claim { fence, format })),
                // Another candidate was faster.
                Err(Error::Conflict) => lease.revoke().await?,
                Err(error) => return Err(error),
            }
        }
    }

    /// The lowest format of the registered hosts. Hosts that can't be read don't count.
    async fn lowest_format(&self) -> Result<Format, Error> {
        let (_, machines) = list(&self.store, keys::MACHINES).await?;
        let formats = machines.iter().filter_map(|kv| Some(decode::<Machine>(kv).ok()?.format));
        Ok(self.options.machine.lowest_format(formats))
    }

    /// This host as leader.
    pub(super) fn record(&self, since: u64, format: Format) -> LeaderRecord {
        let Machine { id, hostname, ip, .. } = self.options.machine.clone();
        LeaderRecord { machine: id, hostname, ip, since, format }
    }

    /// Write the leader's key.
    async fn claim(&self, guard: Guard, lease: &Lease<S>, format: Format) -> Result<Fence, Error> {
        let leader = self.record(self.options.clock.now_ms(), format);
        leader::claim(&self.store, &leader, lease.id(), guard).await.map(Fence)
    }

    /// Write the leader's key again, with `format`: requests that were sent under the old one can then no longer take
    /// effect.
    pub(super) async fn claim_again(&self, lease: &Lease<S>, format: Format) -> Result<Fence, Error> {
        let key = Key::Leader.to_string();
        let (_, held) = point(&self.store, &key, None).await?;
        let Some(kv) = held.filter(|kv| kv.lease == Some(lease.id())) else { return Err(Error::LeaseLost) };
        tracing::debug!("the leader's key is written again, so that no earlier commit can take effect");
        self.claim(Guard::Unchanged(key, kv.revision), lease, format).await
    }
}
