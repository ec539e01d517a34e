//! Who may reboot, and who waits: the transactions on `reboot/` records, each together with the `host/` record of the
//! host concerned. Owns that no more hosts have a slot than there are, and that a drain for a reboot begins with the
//! slot; must never decide whose turn it is (`plan::reboot` does).

pub mod program;

use std::collections::BTreeSet;

use crate::model::author::Author;
use crate::model::machine::Machine;
use crate::model::maintenance::{Drain, Maintenance};
use crate::model::name::MachineId;
use crate::model::reboot::{Group, Holder, MAX_QUEUE, Reboots, Request};
use crate::model::revision::Revision;
use crate::plan::reboot::{Turn, before, turn};
use crate::store::{Error, Kv, Store, Txn};

use super::keys::{self, Key};
use super::reader::Reader;
use super::records::{Family as _, host, machine, reboots};
use super::{Corrupt, MAX_ATTEMPTS, committed, maintenance, replace};

/// How hosts are to reboot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// As in [`Request`].
    pub parallel: u32,
    /// As in [`Request`], in seconds.
    pub deadline: u64,
    /// As in [`Request`].
    pub force: bool,
    /// As in [`Request`].
    pub why: String,
}

/// Why nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// This host isn't registered.
    Away(MachineId),
    /// More hosts would wait than [`MAX_QUEUE`].
    TooMany,
    /// The record can't be read, and so it isn't known who has a slot. [`release`] replaces it.
    Damaged(Corrupt),
    /// Others change the same all the time.
    Contended,
    /// The store failed before the commit.
    Store(Error),
    /// The store failed during the commit, which may have taken effect.
    Lost(Error),
}

/// Ask all of `hosts` to reboot, one after the other in this order, or none of them, at `now`, in ms since the epoch.
/// Returns those that weren't asked already.
///
/// # Errors
/// See [`Refusal`].
pub async fn ask<S: Store>(
    reader: &Reader<S>,
    hosts: &[MachineId],
    options: &Options,
    by: &Author,
    now: u64,
) -> Result<BTreeSet<MachineId>, Refusal> {
    let group = Key::Reboots(Group::default());
    let machines = hosts.iter().map(|id| Key::Machine(id.clone()).to_string());
    let wanted: BTreeSet<String> = machines.chain([group.to_string()]).collect();
    for attempt in 1..=MAX_ATTEMPTS {
        let (revision, found) = reader.points(&wanted).await.map_err(Refusal::Store)?;
        let find = |key: String| found.iter().find(|kv| kv.key == key);
        let mut all = find(group.to_string()).map_or(Ok(Reboots::default()), reboots::Records::read);
        let all = all.as_mut().map_err(|corrupt| Refusal::Damaged(corrupt.clone()))?;
        let mut new = BTreeSet::new();
        for host in hosts {
            let machine = find(Key::Machine(host.clone()).to_string()).and_then(|kv| machine::Records::read(kv).ok());
            let Machine { boot_id: boot, .. } = machine.ok_or_else(|| Refusal::Away(host.clone()))?;
            if all.has(host) || new.contains(host) {
                continue;
            }
            let Options { parallel, deadline, force, why } = options.clone();
            let (host, by) = (host.clone(), Some(Box::new(by.clone())));
            new.insert(host.clone());
            all.queue.push(Request {
                host,
                boot,
                generation: revision,
                since: now,
                parallel,
                deadline,
                force,
                why,
                by,
            });
        }
        if all.queue.len() > MAX_QUEUE {
            return Err(Refusal::TooMany);
        }
        if new.is_empty() {
            return Ok(new);
        }
        let mut txn = Txn { guards: Vec::new(), ops: Vec::new() };
        replace(&mut txn, &group, find(group.to_string()), Some(&*all));
        if committed(reader.store(), txn, attempt).await.map_err(Refusal::Lost)? {
            return Ok(new);
        }
    }
    Err(Refusal::Contended)
}

/// Whether it is the turn of `host` to take one of `slots`, of which `all` are the reboots in its group.
///
/// # Errors
/// As [`Store::range`].
pub async fn turn_of<S: Store>(
    reader: &Reader<S>,
    all: &Reboots,
    host: &MachineId,
    slots: usize,
) -> Result<Turn, Error> {
    // Usually, the first of them is registered.
    let mut registered = None;
    for other in before(all, host) {
        let key = Key::Machine(other.clone()).to_string();
        if !reader.points(&BTreeSet::from([key])).await?.1.is_empty() {
            registered = Some(other);
            break;
        }
    }
    Ok(turn(all, host, slots, |other| registered == Some(other)))
}

/// A slot for `host`, if one of `slots` is free, and with it the drain of the host, unless a person drains it. Returns
/// the reboots of the group then: whether the host has a slot.
///
/// # Errors
/// See [`Refusal`].
pub async fn take<S: Store>(
    reader: &Reader<S>,
    (group, host): (&Group, &MachineId),
    (slots, drain): (usize, impl Fn(&Reboots, Option<Revision>, Revision) -> Option<(Holder, Drain)>),
) -> Result<Reboots, Refusal> {
    let taken = edit(reader, (group, host), false, |(all, asked), revision| {
        if all.holder(host).is_some() || all.holders.len() >= slots {
            return None;
        }
        let (holder, drain) = drain(all, asked.drain_began(), revision)?;
        let mut all = all.clone().without(host);
        all.holders.push(holder);
        let asked = match asked.drain {
            Some(_) => asked.clone(),
            None => Maintenance { drain: Some(Box::new(drain)), restore: None, ..asked.clone() },
        };
        Some((all, asked))
    });
    taken.await.map(|(all, _)| all)
}

/// The host has rebooted: it takes units again, and those come back that its drain for the reboot took. A drain of a
/// person goes on.
///
/// # Errors
/// See [`Refusal`].
pub async fn bring_back<S: Store>(reader: &Reader<S>, group: &Group, host: &MachineId) -> Result<(), Refusal> {
    let back = edit(reader, (group, host), false, |(all, asked), revision| {
        let mut all = all.clone();
        let holder = all.holders.iter_mut().find(|holder| holder.host == *host && !holder.back)?;
        holder.back = true;
        Some((all, restored(asked, revision).unwrap_or_else(|| asked.clone())))
    });
    back.await.map(drop)
}

/// The host gives up its slot, or waits no more. With `undrain`, also its drain for the reboot ends. Returns whether it
/// had either.
///
/// # Errors
/// See [`Refusal`].
pub async fn release<S: Store>(
    reader: &Reader<S>,
    group: &Group,
    host: &MachineId,
    undrain: bool,
) -> Result<bool, Refusal> {
    let mut had = false;
    let released = edit(reader, (group, host), true, |(all, asked), revision| {
        let is_there = all.has(host);
        let restored = restored(asked, revision).filter(|_| undrain);
        had |= is_there;
        let asked = restored.unwrap_or_else(|| asked.clone());
        // A record that can't be read, and so is taken for an empty one, is deleted.
        (is_there || all.is_empty()).then(|| (all.clone().without(host), asked))
    });
    released.await?;
    Ok(had)
}

/// As [`release`], in whatever group the host is.
///
/// # Errors
/// See [`Refusal`].
pub async fn forget<S: Store>(reader: &Reader<S>, host: &MachineId, undrain: bool) -> Result<bool, Refusal> {
    let mut had = false;
    // Those that can't be read may have the host: they are replaced.
    let (_, found) = reader.ranges(BTreeSet::from([keys::REBOOTS.to_owned()])).await.map_err(Refusal::Store)?;
    for kv in found {
        if let Ok(Key::Reboots(group)) = Key::parse(&kv.key)
            && read(reader, &kv).as_ref().is_none_or(|all| all.has(host))
        {
            had |= release(reader, &group, host, undrain).await?;
        }
    }
    Ok(had)
}

/// The reboot of a host is about to begin. Returns whether it may: it has its slot, and is drained.
///
/// # Errors
/// See [`Refusal`].
pub async fn begin<S: Store>(reader: &Reader<S>, group: &Group, host: &MachineId) -> Result<bool, Refusal> {
    let begun = edit(reader, (group, host), false, |(all, asked), _| {
        let mut all = all.clone();
        let holder = all.holders.iter_mut().find(|holder| holder.host == *host && !holder.down)?;
        asked.drain.as_ref()?;
        holder.down = true;
        Some((all, asked.clone()))
    });
    begun.await.map(|(all, asked)| all.holder(host).is_some_and(|holder| holder.down) && asked.drain.is_some())
}

/// Why the reboot of a host can't go on; empty if it can.
///
/// # Errors
/// See [`Refusal`].
pub async fn note<S: Store>(reader: &Reader<S>, group: &Group, host: &MachineId, error: &str) -> Result<(), Refusal> {
    let noted = edit(reader, (group, host), false, |(all, asked), _| {
        let mut all = all.clone();
        let holder = all.holders.iter_mut().find(|holder| holder.host == *host)?;
        let is_news = holder.error != error;
        holder.error = error.into();
        is_news.then(|| (all, asked.clone()))
    });
    noted.await.map(drop)
}

/// The reboots of all groups.
///
/// # Errors
/// As [`Store::range`].
pub async fn all<S: Store>(reader: &Reader<S>) -> Result<Vec<(Group, Reboots)>, Error> {
    let (_, found) = reader.ranges(BTreeSet::from([keys::REBOOTS.to_owned()])).await?;
    Ok(groups(reader, &found))
}

/// Those of these records that can be read.
pub fn groups<S: Store>(reader: &Reader<S>, found: &[Kv]) -> Vec<(Group, Reboots)> {
    let group = |kv: &Kv| match Key::parse(&kv.key) {
        Ok(Key::Reboots(group)) => Some((group, read(reader, kv)?)),
        _ => None,
    };
    found.iter().filter_map(group).collect()
}

/// What is asked of a host now that it is back: nothing, if its drain isn't for a reboot.
fn restored(asked: &Maintenance, revision: Revision) -> Option<Maintenance> {
    let drain = asked.drain.as_ref().filter(|drain| drain.reboot)?;
    let undrain = maintenance::Request::Undrain { restore: Some(drain.parallel) };
    Some(maintenance::next(Some(asked), &undrain, &drain.by.clone().unwrap_or_default(), (drain.since, revision)))
}

/// Change the reboots of a group together with what is asked of a host, until nobody else changes them meanwhile.
/// Returns what both are then. With `repair`, a record that can't be read is replaced.
async fn edit<S: Store>(
    reader: &Reader<S>,
    (group, host): (&Group, &MachineId),
    repair: bool,
    mut change: impl FnMut((&Reboots, &Maintenance), Revision) -> Option<(Reboots, Maintenance)>,
) -> Result<(Reboots, Maintenance), Refusal> {
    let (group, host) = (Key::Reboots(group.clone()), Key::Host(host.clone()));
    let wanted = BTreeSet::from([group.to_string(), host.to_string()]);
    for attempt in 1..=MAX_ATTEMPTS {
        let (revision, found) = reader.points(&wanted).await.map_err(Refusal::Store)?;
        let find = |key: &Key| found.iter().find(|kv| kv.key == key.to_string());
        let all = match find(&group).map_or(Ok(Reboots::default()), reboots::Records::read) {
            Err(corrupt) if !repair => return Err(Refusal::Damaged(corrupt)),
            read => read.unwrap_or_default(),
        };
        let asked = find(&host).and_then(|kv| host::Records::read(kv).inspect_err(|error| reader.warn(error)).ok());
        let asked = asked.unwrap_or_default();
        let Some((all_after, asked_after)) = change((&all, &asked), revision) else { return Ok((all, asked)) };
        let mut txn = Txn { guards: Vec::new(), ops: Vec::new() };
        replace(&mut txn, &group, find(&group), Some(&all_after).filter(|all| !all.is_empty()));
        replace(&mut txn, &host, find(&host), Some(&asked_after).filter(|asked| !asked.is_empty()));
        if txn.ops.is_empty() {
            return Ok((all_after, asked_after));
        }
        if committed(reader.store(), txn, attempt).await.map_err(Refusal::Lost)? {
            return Ok((all_after, asked_after));
        }
    }
    Err(Refusal::Contended)
}

fn read<S: Store>(reader: &Reader<S>, kv: &Kv) -> Option<Reboots> {
    reboots::Records::read(kv).inspect_err(|corrupt| reader.warn(corrupt)).ok()
}

#[cfg(test)]
mod tests;
