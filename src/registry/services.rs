//! Announcements: instances of services, each bound to a lease of its own. Owns who may announce, renew and withdraw an
//! instance; must never announce anything by itself.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::revision::Revision;
use crate::model::service::{Instance, InstanceName, ServiceName};
use crate::store::{Error, Event, Guard, Kv, LeaseId, Store, Txn};

use super::keys::{self, Key};
use super::reader::Reader;
use super::{decode, delete, mirror, point, put, unchanged};

/// An announcement is tried again so often when others change the same instance.
const TRIES: usize = 4;

/// Instances, as they are now.
pub type Instances = BTreeMap<(ServiceName, InstanceName), Instance>;

/// What keeps an announcement alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Granted {
    /// To be renewed.
    pub lease: LeaseId,
    /// Within this time: at least what was asked for.
    pub ttl: Duration,
}

/// Who withdraws.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum By {
    /// Whoever it is: an operator.
    Anybody,
    /// The announcer that renews this lease.
    Holder(LeaseId),
    /// The announcer under this name, which doesn't know whether its announcement was heard.
    Owner(String),
}

/// Why an instance isn't announced or withdrawn.
#[derive(Debug, Clone, PartialEq)]
pub enum Refusal {
    /// Somebody else announces it.
    Taken(Box<Instance>),
    /// The store says no; nothing was changed.
    Store(Error),
    /// The store didn't answer a change: it may have been made.
    Unknown(Error),
    /// Others change it all the time.
    Contended,
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

/// Announce `wanted`, or go on with an announcement: by `held`, the lease it was answered with before, or as its owner.
/// Announcing what is announced already only renews its lease.
///
/// # Errors
/// See [`Refusal`].
pub async fn announce<S: Store>(
    reader: &Reader<S>,
    service: &ServiceName,
    instance: &InstanceName,
    wanted: &Instance,
    held: Option<LeaseId>,
) -> Result<Granted, Refusal> {
    let mut spare = None;
    let done = settle(reader, service, instance, wanted, held, &mut spare).await;
    // Nobody keeps a lease alive that nothing is bound to; it would end by itself, but a busy store needn't hold so
    // many.
    if let (Some(spare), Ok(_) | Err(Refusal::Taken(_) | Refusal::Contended)) = (spare, &done)
        && done.as_ref().map(|granted| granted.lease) != Ok(spare)
    {
        let _ = reader.store().revoke(spare).await;
    }
    done
}

async fn settle<S: Store>(
    reader: &Reader<S>,
    service: &ServiceName,
    instance: &InstanceName,
    wanted: &Instance,
    held: Option<LeaseId>,
    spare: &mut Option<LeaseId>,
) -> Result<Granted, Refusal> {
    let store = reader.store();
    let key = Key::Service(service.clone(), instance.clone());
    let mut fresh = None;
    for _ in 0..TRIES {
        let (_, found) = point(store, &key.to_string(), None).await?;
        let mut wanted = wanted.clone();
        let mut guard = unchanged(&key, None);
        let mut outlived = None;
        let mut kept = None;
        if let Some(kv) = &found {
            guard = Guard::Unchanged(kv.key.clone(), kv.revision);
            let there = decode::<Instance>(kv).map_err(|corrupt| reader.warn(&corrupt)).ok();
            let ours = kv.lease.is_some() && kv.lease == held;
            if let Some(there) = there {
                let returns = !there.owner.is_empty() && there.owner == wanted.owner;
                if !ours && !returns {
                    return Err(Refusal::Taken(Box::new(there)));
                }
                wanted.since = there.since;
                if ours && there.ttl == wanted.ttl {
                    let ttl = Duration::from_secs(there.ttl.into());
                    kept = renewed(store, kv.lease, ttl).await?;
                    if let (Some(granted), true) = (kept, there == wanted) {
                        return Ok(granted);
                    }
                }
            }
            // Whoever holds the old lease learns from its end that another one has taken over.
            outlived = kv.lease.filter(|lease| kept.is_none_or(|kept| kept.lease != *lease));
        }
        let granted = match (kept, fresh) {
            (Some(granted), _) | (None, Some(granted)) => granted,
            (None, None) => {
                let asked = Duration::from_secs(wanted.ttl.into());
                let granted = Granted { lease: store.grant(asked).await?, ttl: asked };
                *spare = Some(granted.lease);
                *fresh.insert(granted)
            }
        };
        let op = put(&key, &wanted, Some(granted.lease));
        match store.commit(Txn { guards: vec![guard], ops: vec![op] }).await {
            Ok(_) => {
                if let Some(old) = outlived {
                    let _ = store.revoke(old).await;
                }
                return Ok(granted);
            }
            // Changed meanwhile, or it has just ended: look again.
            Err(Error::Conflict) => {}
            Err(Error::LeaseLost) => fresh = None,
            Err(error @ Error::Unavailable(_)) => return Err(Refusal::Unknown(error)),
            Err(error) => return Err(Refusal::Store(error)),
        }
    }
    Err(Refusal::Contended)
}

async fn renewed<S: Store>(store: &S, lease: Option<LeaseId>, ttl: Duration) -> Result<Option<Granted>, Error> {
    let Some(lease) = lease else { return Ok(None) };
    match store.keep_alive(lease, ttl / 3).await {
        Ok(ttl) => Ok(Some(Granted { lease, ttl })),
        Err(Error::LeaseLost) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Renew an announcement, if `lease` is what it is bound to: one read and one keep-alive, and nothing is written.
///
/// # Errors
/// [`Error::LeaseLost`] when it is gone, or bound to another: announce it again.
pub async fn keep_alive<S: Store>(
    reader: &Reader<S>,
    service: &ServiceName,
    instance: &InstanceName,
    lease: LeaseId,
) -> Result<Duration, Error> {
    let key = Key::Service(service.clone(), instance.clone()).to_string();
    let (_, found) = point(reader.store(), &key, None).await?;
    let Some(kv) = found.filter(|kv| kv.lease == Some(lease)) else { return Err(Error::LeaseLost) };
    // A damaged record is mended when it is announced again.
    let there: Instance = decode(&kv).map_err(|corrupt| reader.warn(&corrupt)).map_err(|()| Error::LeaseLost)?;
    reader.store().keep_alive(lease, Duration::from_secs(there.ttl.into()) / 3).await
}

/// Withdraw an instance at once, if it is that of `by`; whether there was one.
///
/// # Errors
/// See [`Refusal`].
pub async fn withdraw<S: Store>(
    reader: &Reader<S>,
    service: &ServiceName,
    instance: &InstanceName,
    by: &By,
) -> Result<bool, Refusal> {
    let key = Key::Service(service.clone(), instance.clone());
    let (_, found) = point(reader.store(), &key.to_string(), None).await?;
    let Some(kv) = found else { return Ok(false) };
    if let Ok(there) = decode::<Instance>(&kv) {
        let theirs = match by {
            By::Anybody => true,
            By::Holder(lease) => kv.lease == Some(*lease),
            By::Owner(owner) => there.owner == *owner,
        };
        if !theirs {
            return Err(Refusal::Taken(Box::new(there)));
        }
    }
    match kv.lease {
        // What is bound to it goes with it, and that is this instance alone.
        Some(lease) => reader.store().revoke(lease).await.map_err(Refusal::Unknown)?,
        None => {
            let guards = vec![Guard::Unchanged(kv.key, kv.revision)];
            match reader.store().commit(Txn { guards, ops: vec![delete(&key)] }).await {
                Ok(_) => {}
                Err(Error::Conflict) => return Err(Refusal::Contended),
                Err(error) => return Err(Refusal::Unknown(error)),
            }
        }
    }
    Ok(true)
}

/// All instances, or those of one service, at one revision. What is damaged is left out, loudly.
///
/// # Errors
/// [`Error::Unavailable`], [`Error::Refused`].
pub async fn list<S: Store>(reader: &Reader<S>, service: Option<&ServiceName>) -> Result<(Revision, Instances), Error> {
    let (revision, kvs) = mirror::list(reader.store(), &prefix(service)).await?;
    Ok((revision, kvs.iter().filter_map(|kv| instance(reader, kv)).collect()))
}

/// What to follow to hear of all instances, or of those of one service.
#[must_use]
pub fn prefix(service: Option<&ServiceName>) -> String {
    service.map_or_else(|| keys::SERVICES.into(), keys::instances_of)
}

/// What an event says of an instance: that it is this now, or (`None`) that it is gone.
pub fn change<S: Store>(reader: &Reader<S>, event: &Event) -> Option<((ServiceName, InstanceName), Option<Instance>)> {
    match event {
        Event::Put(kv) => instance(reader, kv).map(|(name, instance)| (name, Some(instance))),
        Event::Delete(key) => match Key::parse(key) {
            Ok(Key::Service(service, instance)) => Some(((service, instance), None)),
            _ => None,
        },
    }
}

/// The instance in a record, unless it is damaged.
pub fn instance<S: Store>(reader: &Reader<S>, kv: &Kv) -> Option<((ServiceName, InstanceName), Instance)> {
    let read = Key::parse(&kv.key).and_then(|key| Ok((key, decode(kv)?)));
    match read {
        Ok((Key::Service(service, name), instance)) => Some(((service, name), instance)),
        Ok(_) => None,
        Err(corrupt) => {
            reader.warn(&corrupt);
            None
        }
    }
}
