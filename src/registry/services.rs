//! Announcements: instances of services, each bound to a lease of its own. Owns who may announce, renew and withdraw an
//! instance; must never announce anything on its own.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::name::{MachineId, UnitName};
use crate::model::revision::Revision;
use crate::model::service::{Instance, InstanceName, ServiceName};
use crate::store::{Error, Event, Kv, LeaseId, Store};

use super::commit::services;
use super::keys::{self, Key};
use super::reader::Reader;
use super::records::Family as _;
use super::records::service::Records;
use super::{decode, mirror, point, unchanged};

/// Attempts at an announcement while others change the same instance.
const MAX_ATTEMPTS: usize = 4;

/// Instances, as they are in the store.
pub type Instances = BTreeMap<(ServiceName, InstanceName), Instance>;

/// What keeps an announcement alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Granted {
    /// The lease to renew.
    pub lease: LeaseId,
    /// It expires after this time, which is at least what was requested.
    pub ttl: Duration,
}

/// Who withdraws.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum By {
    /// Regardless of who announced it: an operator.
    Anybody,
    /// The announcer that renews this lease.
    Holder(LeaseId),
    /// The announcer with this owner, which doesn't know whether its announcement was committed.
    Owner(String),
}

/// Whose announcements may be changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authority {
    /// Anyone's.
    All,
    /// Those of one unit on one host.
    Announcer {
        /// The unit that announces.
        unit: UnitName,
        /// The host.
        host: Option<MachineId>,
    },
}

impl Authority {
    fn covers(&self, there: &Instance) -> bool {
        match self {
            Self::All => true,
            Self::Announcer { unit, host } => there.announcer.as_ref() == Some(unit) && there.machine == *host,
        }
    }
}

/// Why an instance wasn't announced or withdrawn.
#[derive(Debug, Clone, PartialEq)]
pub enum Refusal {
    /// Another announcer has it.
    Taken(Box<Instance>),
    /// The store refused or is unreachable; nothing was changed.
    Store(Error),
    /// The outcome of a change is unknown.
    Unknown(Error),
    /// Others kept changing it.
    Contended,
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

/// Announce `wanted`, or continue an announcement: by `held`, the lease of an earlier answer, or by its owner, if
/// `authority` covers it. Announcing an unchanged instance only renews its lease.
///
/// # Errors
/// See [`Refusal`].
pub async fn announce<S: Store>(
    reader: &Reader<S>,
    service: &ServiceName,
    instance: &InstanceName,
    wanted: &Instance,
    held: Option<LeaseId>,
    authority: &Authority,
) -> Result<Granted, Refusal> {
    let key = Key::Service(service.clone(), instance.clone());
    let mut announcement = Announcement { reader, key, wanted, held, authority, granted: None };
    let done = announcement.attempts().await;
    // A lease to which nothing is bound expires by itself, but a busy store shouldn't hold many of them.
    if let (Some(unused), Ok(_) | Err(Refusal::Taken(_) | Refusal::Contended)) = (announcement.granted, &done)
        && done.as_ref() != Ok(&unused)
    {
        let _ = reader.store().revoke(unused.lease).await;
    }
    done
}

/// One announcement, over several attempts.
struct Announcement<'a, S> {
    reader: &'a Reader<S>,
    key: Key,
    wanted: &'a Instance,
    held: Option<LeaseId>,
    authority: &'a Authority,
    /// The lease that was granted for it, if one was.
    granted: Option<Granted>,
}

/// What an announcement finds in the store.
struct Found {
    /// The record, bound to the lease of its announcer.
    kv: Kv,
    /// `None` if it is damaged; any announcer may then replace it.
    instance: Option<Instance>,
}

impl<S: Store> Announcement<'_, S> {
    async fn attempts(&mut self) -> Result<Granted, Refusal> {
        for _ in 0..MAX_ATTEMPTS {
            if let Some(granted) = self.attempt().await? {
                return Ok(granted);
            }
        }
        Err(Refusal::Contended)
    }

    /// `None` if the record was changed meanwhile.
    async fn attempt(&mut self) -> Result<Option<Granted>, Refusal> {
        let found = self.read().await?;
        let wanted = self.permitted(found.as_ref())?;
        let renewed = self.renew(found.as_ref()).await?;
        if let (Some(granted), Some(Found { instance: Some(instance), .. })) = (renewed, &found)
            && *instance == wanted
        {
            return Ok(Some(granted));
        }
        let granted = match renewed {
            Some(granted) => granted,
            None => self.grant().await?,
        };
        let guard = unchanged(&self.key, found.as_ref().map(|found| found.kv.revision));
        match services::announce(self.reader.store(), &self.key, &wanted, granted.lease, guard).await {
            Ok(_) => {
                // The holder of the old lease learns from its end that another announcer has taken over.
                if let Some(old) = found.and_then(|found| found.kv.lease).filter(|old| *old != granted.lease) {
                    let _ = self.reader.store().revoke(old).await;
                }
                Ok(Some(granted))
            }
            Err(Error::Conflict) => Ok(None),
            Err(Error::LeaseLost) => {
                self.granted = None;
                Ok(None)
            }
            Err(error @ Error::Unavailable(_)) => Err(Refusal::Unknown(error)),
            Err(error) => Err(Refusal::Store(error)),
        }
    }

    async fn read(&self) -> Result<Option<Found>, Error> {
        let (_, found) = point(self.reader.store(), &self.key.to_string(), None).await?;
        Ok(found.map(|kv| {
            let instance = decode::<Instance>(&kv).map_err(|corrupt| self.reader.warn(&corrupt)).ok();
            Found { kv, instance }
        }))
    }

    /// What may be written in place of `found`; refused if another announcer has it.
    fn permitted(&self, found: Option<&Found>) -> Result<Instance, Refusal> {
        let mut wanted = self.wanted.clone();
        if let Some(Found { kv, instance: Some(instance) }) = found {
            let returns = !instance.owner.is_empty() && instance.owner == wanted.owner;
            if !(self.authority.covers(instance) && (self.is_ours(kv) || returns)) {
                return Err(Refusal::Taken(Box::new(instance.clone())));
            }
            wanted.since = instance.since;
        }
        Ok(wanted)
    }

    fn is_ours(&self, kv: &Kv) -> bool {
        kv.lease.is_some() && kv.lease == self.held
    }

    /// Renew the lease that `found` is bound to, if it is ours and has the requested TTL.
    async fn renew(&self, found: Option<&Found>) -> Result<Option<Granted>, Error> {
        match found {
            Some(Found { kv, instance: Some(instance) }) if self.is_ours(kv) && instance.ttl == self.wanted.ttl => {
                renewed(self.reader.store(), kv.lease, Duration::from_secs(instance.ttl.into())).await
            }
            _ => Ok(None),
        }
    }

    /// The lease granted for this announcement, now or by an earlier attempt.
    async fn grant(&mut self) -> Result<Granted, Error> {
        if let Some(granted) = self.granted {
            return Ok(granted);
        }
        let ttl = Duration::from_secs(self.wanted.ttl.into());
        let lease = self.reader.store().grant(ttl).await?;
        Ok(*self.granted.insert(Granted { lease, ttl }))
    }
}

async fn renewed<S: Store>(store: &S, lease: Option<LeaseId>, ttl: Duration) -> Result<Option<Granted>, Error> {
    let Some(lease) = lease else { return Ok(None) };
    match store.keep_alive(lease, ttl / 3).await {
        Ok(ttl) => Ok(Some(Granted { lease, ttl })),
        Err(Error::LeaseLost) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Renew an announcement if it is bound to `lease`: one read and one keep-alive, no write.
///
/// # Errors
/// [`Error::LeaseLost`] if it doesn't exist, is bound to another lease, or isn't covered by `authority`; it must then
/// be announced again.
pub async fn keep_alive<S: Store>(
    reader: &Reader<S>,
    service: &ServiceName,
    instance: &InstanceName,
    lease: LeaseId,
    authority: &Authority,
) -> Result<Duration, Error> {
    let key = Key::Service(service.clone(), instance.clone()).to_string();
    let (_, found) = point(reader.store(), &key, None).await?;
    let Some(kv) = found.filter(|kv| kv.lease == Some(lease)) else { return Err(Error::LeaseLost) };
    // A damaged record is repaired when it is announced again.
    let there = Records::read(&kv).map_err(|corrupt| reader.warn(&corrupt)).map_err(|()| Error::LeaseLost)?;
    if !authority.covers(&there) {
        return Err(Error::LeaseLost);
    }
    reader.store().keep_alive(lease, Duration::from_secs(there.ttl.into()) / 3).await
}

/// Withdraw an instance at once, if it belongs to `by` and `authority` covers it. Returns whether there was one.
///
/// # Errors
/// See [`Refusal`].
pub async fn withdraw<S: Store>(
    reader: &Reader<S>,
    service: &ServiceName,
    instance: &InstanceName,
    by: &By,
    authority: &Authority,
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
        if !theirs || !authority.covers(&there) {
            return Err(Refusal::Taken(Box::new(there)));
        }
    }
    match kv.lease {
        // Revoking the lease deletes what is bound to it, which is only this instance.
        Some(lease) => reader.store().revoke(lease).await.map_err(Refusal::Unknown)?,
        None => match services::remove(reader.store(), &key, kv.revision).await {
            Ok(_) => {}
            Err(Error::Conflict) => return Err(Refusal::Contended),
            Err(error) => return Err(Refusal::Unknown(error)),
        },
    }
    Ok(true)
}

/// All instances, or those of one service, at one revision. Damaged ones are skipped and logged.
///
/// # Errors
/// [`Error::Unavailable`], [`Error::Refused`].
pub async fn list<S: Store>(reader: &Reader<S>, service: Option<&ServiceName>) -> Result<(Revision, Instances), Error> {
    let (revision, kvs) = mirror::list(reader.store(), &prefix(service)).await?;
    Ok((revision, kvs.iter().filter_map(|kv| instance(reader, kv)).collect()))
}

/// The mirror that follows all instances, or those of one service.
#[must_use]
pub fn prefix(service: Option<&ServiceName>) -> String {
    service.map_or_else(|| keys::SERVICES.into(), keys::instances_of)
}

/// What an event means for an instance: its new value, or `None` if it no longer exists.
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
    let read = Key::parse(&kv.key).and_then(|key| match key {
        Key::Service(service, name) => Ok(Some(((service, name), Records::read(kv)?))),
        _ => Ok(None),
    });
    match read {
        Ok(instance) => instance,
        Err(corrupt) => {
            reader.warn(&corrupt);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::embedded::Embedded;

    fn announcer(unit: &str, host: &str) -> Authority {
        Authority::Announcer { unit: unit.parse().unwrap(), host: Some(host.repeat(32).parse().unwrap()) }
    }

    fn instance(by: &Authority) -> Instance {
        let json = r#"{"address":"10.0.0.1","port":80,"weight":1,"owner":"anything","ttl":10,"since":5}"#;
        let instance: Instance = serde_json::from_str(json).unwrap();
        match by.clone() {
            Authority::All => instance,
            Authority::Announcer { unit, host } => Instance { announcer: Some(unit), machine: host, ..instance },
        }
    }

    /// Neither the owner, which anyone can guess, nor the lease is enough.
    #[tokio::test]
    async fn an_announcement_belongs_to_the_unit_and_the_host_that_made_it() {
        let reader = Reader::new(Embedded::in_memory());
        let (service, name) = ("web".parse().unwrap(), "web-1".parse().unwrap());
        let own = announcer("web-announce@1.service", "1");
        let put = async |by: &Authority, held| announce(&reader, &service, &name, &instance(by), held, by).await;
        let lease = put(&own, None).await.unwrap().lease;
        for other in [announcer("evil.service", "1"), announcer("web-announce@1.service", "2")] {
            assert!(matches!(put(&other, None).await, Err(Refusal::Taken(_))), "{other:?}");
            assert!(matches!(put(&other, Some(lease)).await, Err(Refusal::Taken(_))), "{other:?}");
            assert_eq!(keep_alive(&reader, &service, &name, lease, &other).await, Err(Error::LeaseLost), "{other:?}");
            for by in [By::Anybody, By::Holder(lease), By::Owner("anything".into())] {
                let refusal = withdraw(&reader, &service, &name, &by, &other).await;
                assert!(matches!(refusal, Err(Refusal::Taken(_))), "{other:?} {by:?}");
            }
        }
        assert_eq!(put(&own, Some(lease)).await.unwrap().lease, lease);
        assert!(keep_alive(&reader, &service, &name, lease, &own).await.is_ok());
        assert!(withdraw(&reader, &service, &name, &By::Anybody, &Authority::All).await.unwrap());
        // What an admin announced isn't an announcer's.
        put(&Authority::All, None).await.unwrap();
        assert!(matches!(put(&own, None).await, Err(Refusal::Taken(_))));
    }
}
