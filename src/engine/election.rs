//! Leadership. Owns the leader's key: who holds it, when it is free, and how a leader proves that it still holds it.
//! Must never plan.

use crate::model::machine::Machine;
use crate::registry::commit::leader;
use crate::registry::keys::Key;
use crate::registry::mirror::{Mirror, Update};
use crate::registry::records::leader::LeaderRecord;
use crate::registry::{decode, point};
use crate::store::lease::Lease;
use crate::store::{Error, Event, Guard, Kv, Store};

use super::Engine;
use super::commit::Fence;

impl<S: Store> Engine<S> {
    /// Wait until there is no leader, and become it.
    pub(super) async fn campaign(&self) -> Result<(Lease<S>, Fence), Error> {
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
            if let Some(kv) = &holder {
                // The key is that of the previous daemon on this host. That daemon has ended, so there is no need to
                // wait until its lease expires. Another host with the same id isn't this one.
                let me = self.record(0);
                let mine = decode::<LeaderRecord>(kv).is_ok_and(|leader| LeaderRecord { since: 0, ..leader } == me);
                if let (true, Some(lease)) = (mine, kv.lease) {
                    self.store.revoke(lease).await?;
                }
                continue;
            }
            let lease = Lease::grant(&self.store, self.options.ttl).await?;
            match self.claim(Guard::Absent(key.clone()), &lease).await {
                Ok(fence) => return Ok((lease, fence)),
                // Another candidate was faster.
                Err(Error::Conflict) => lease.revoke().await?,
                Err(error) => return Err(error),
            }
        }
    }

    /// This host as leader.
    fn record(&self, since: u64) -> LeaderRecord {
        let Machine { id, hostname, ip, .. } = self.options.machine.clone();
        LeaderRecord { machine: id, hostname, ip, since }
    }

    /// Write the leader's key.
    async fn claim(&self, guard: Guard, lease: &Lease<S>) -> Result<Fence, Error> {
        let leader = self.record(self.options.clock.now_ms());
        leader::claim(&self.store, &leader, lease.id(), guard).await.map(Fence)
    }

    /// Write the leader's key again: requests that were sent under the old one can then no longer take effect.
    pub(super) async fn claim_again(&self, lease: &Lease<S>) -> Result<Fence, Error> {
        let key = Key::Leader.to_string();
        let (_, held) = point(&self.store, &key, None).await?;
        let Some(kv) = held.filter(|kv| kv.lease == Some(lease.id())) else { return Err(Error::LeaseLost) };
        self.claim(Guard::Unchanged(key, kv.revision), lease).await
    }
}
