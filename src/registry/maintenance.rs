//! Asks something of hosts: that they are cordoned or drained, or no longer. Owns the transaction, all hosts or none,
//! and what is the same as before; the leader acts on it.

use std::collections::BTreeSet;

use crate::model::author::Author;
use crate::model::cluster::{Change, Cluster, Versioned};
use crate::model::maintenance::{Cordon, Drain, Maintenance, Restore};
use crate::model::name::MachineId;
use crate::model::revision::Revision;
use crate::store::{Error, MAX_OPS, Store, Txn};

use super::keys::Key;
use super::reader::Reader;
use super::records::{Family as _, host};
use super::{Corrupt, MAX_ATTEMPTS, committed, replace};

/// What is asked of hosts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// No new unit is to be placed there.
    Cordon {
        /// Why; if it is empty, a host that is cordoned already keeps the reason that it has.
        why: String,
    },
    /// New units may be placed there.
    Uncordon,
    /// Units are to leave, and no new one is to be placed there.
    Drain(Options),
    /// Units needn't leave any more; nothing else was asked of the host by this.
    Undrain {
        /// Whether what the drain took is brought back, with so many units that belong to no set at once.
        restore: Option<u32>,
    },
}

/// How a host is drained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// As in [`Drain`].
    pub parallel: u32,
    /// As in [`Drain`].
    pub deadline: u64,
    /// As in [`Drain`].
    pub globals: bool,
    /// As in [`Drain`].
    pub force: bool,
    /// Why; if it is empty, a host that is drained already keeps the reason that it has.
    pub why: String,
}

/// What a host has now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The host.
    pub host: MachineId,
    /// What is asked of it from now on.
    pub now: Maintenance,
    /// Whether this is something else than before.
    pub changed: bool,
}

/// Why nothing was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// This host is neither registered nor remembered.
    Unknown(MachineId),
    /// These are too many hosts for one commit.
    TooMany,
    /// Others change the same all the time.
    Contended,
    /// The store failed before the commit.
    Store(Error),
    /// The store failed during the commit, which may have taken effect.
    Lost(Error),
}

/// What is asked of a host, unless its record can't be read.
///
/// # Errors
/// As [`Store::range`].
pub async fn asked_of<S: Store>(reader: &Reader<S>, host: &MachineId) -> Result<Result<Maintenance, Corrupt>, Error> {
    let key = Key::Host(host.clone()).to_string();
    let (_, found) = reader.points(&BTreeSet::from([key])).await?;
    Ok(found.first().map_or(Ok(Maintenance::default()), host::Records::read))
}

/// Ask the same of all `hosts`, or of none, at `now`, in ms since the epoch. A record that can't be read is replaced.
///
/// # Errors
/// See [`Refusal`].
pub async fn ask<S: Store>(
    reader: &Reader<S>,
    hosts: &BTreeSet<MachineId>,
    request: &Request,
    by: &Author,
    now: u64,
) -> Result<Vec<Asked>, Refusal> {
    if hosts.len() > MAX_OPS {
        return Err(Refusal::TooMany);
    }
    let keys = |id: &MachineId| [Key::Machine(id.clone()), Key::Roster(id.clone()), Key::Host(id.clone())];
    let wanted: BTreeSet<String> = hosts.iter().flat_map(keys).map(|key| key.to_string()).collect();
    for attempt in 1..=MAX_ATTEMPTS {
        let (revision, found) = reader.points(&wanted).await.map_err(Refusal::Store)?;
        let find = |key: Key| found.iter().find(|kv| kv.key == key.to_string());
        if let Some(unknown) = hosts.iter().find(|id| keys(id).into_iter().all(|key| find(key).is_none())) {
            return Err(Refusal::Unknown(unknown.clone()));
        }
        let (mut txn, mut all) = (Txn { guards: Vec::new(), ops: Vec::new() }, Vec::new());
        for id in hosts {
            let key = Key::Host(id.clone());
            let stored = find(key.clone());
            let before = stored.and_then(|kv| host::Records::read(kv).inspect_err(|corrupt| reader.warn(corrupt)).ok());
            let after = next(before.as_ref(), request, by, (now, revision));
            let changed = stored.is_some() && before.is_none() || after != before.unwrap_or_default();
            if changed {
                replace(&mut txn, &key, stored, Some(&after).filter(|after| !after.is_empty()));
            }
            all.push(Asked { host: id.clone(), now: after, changed });
        }
        if txn.ops.is_empty() {
            return Ok(all);
        }
        if committed(reader.store(), txn, attempt).await.map_err(Refusal::Lost)? {
            return Ok(all);
        }
    }
    Err(Refusal::Contended)
}

/// What it would change in `cluster` to ask `request` of `hosts`.
///
/// # Errors
/// [`Refusal::Unknown`]
pub fn trial(
    cluster: &Cluster,
    hosts: &BTreeSet<MachineId>,
    request: &Request,
    by: &Author,
    now: u64,
) -> Result<Vec<Change>, Refusal> {
    let is_known = |id: &MachineId| {
        cluster.machines.contains_key(id) || cluster.roster.contains_key(id) || cluster.maintenance.contains_key(id)
    };
    if let Some(unknown) = hosts.iter().find(|id| !is_known(id)) {
        return Err(Refusal::Unknown(unknown.clone()));
    }
    let change = |id: &MachineId| {
        let value = next(cluster.asked_of(id), request, by, (now, cluster.revision));
        let asked = Some(Versioned { value, revision: cluster.revision });
        Change::Maintenance(id.clone(), asked.filter(|asked| !asked.value.is_empty()))
    };
    Ok(hosts.iter().map(change).collect())
}

/// What is asked of a host after `request`. Asked twice for the same, the first author remains.
pub(super) fn next(
    before: Option<&Maintenance>,
    request: &Request,
    by: &Author,
    (now, revision): (u64, Revision),
) -> Maintenance {
    let before = before.cloned().unwrap_or_default();
    match request {
        Request::Cordon { why } => {
            let same = before.cordon.as_ref().is_some_and(|cordon| why.is_empty() || cordon.why == *why);
            if same {
                return before;
            }
            let by = Some(Box::new(by.clone()));
            Maintenance { cordon: Some(Cordon { since: now, why: why.clone(), by }), ..before }
        }
        Request::Uncordon => Maintenance { cordon: None, ..before },
        Request::Undrain { restore } => {
            let restored = restore.zip(before.drain_began()).map(|(parallel, drain)| {
                Box::new(Restore { generation: revision, drain, parallel, by: Some(Box::new(by.clone())) })
            });
            Maintenance { drain: None, restore: restored, ..before }
        }
        Request::Drain(Options { parallel, deadline, globals, force, why }) => {
            let wanted = (*parallel, *deadline, *globals, *force);
            let is_same = |drain: &Drain| {
                let known = (drain.parallel, drain.deadline, drain.globals, drain.force);
                known == wanted && !drain.reboot && (why.is_empty() || drain.why == *why)
            };
            if before.drain.as_deref().is_some_and(is_same) {
                return before;
            }
            let (why, by) = (why.clone(), Some(Box::new(by.clone())));
            let (parallel, deadline, globals, force) = wanted;
            // What a drain has taken already, and hasn't come back yet, is taken by this one.
            let (generation, began) = (revision, before.drain_began());
            let (since, reboot) = (now, false);
            let drain = Drain { generation, began, since, parallel, deadline, globals, force, reboot, why, by };
            Maintenance { drain: Some(Box::new(drain)), restore: None, ..before }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::forget::{Forgotten, forget};
    use crate::registry::point;
    use crate::store::Op;
    use crate::store::embedded::Embedded;

    fn by(user: &str) -> Author {
        Author { uid: Some(1001), user: user.into(), ..Author::default() }
    }

    fn id(number: u8) -> MachineId {
        format!("{number:032x}").parse().unwrap()
    }

    async fn store(records: &[(Key, &str)]) -> Reader<Embedded> {
        let store = Embedded::in_memory();
        for (key, value) in records {
            let op = Op::Put { key: key.to_string(), value: (*value).into(), lease: None };
            store.commit(Txn { guards: vec![], ops: vec![op] }).await.unwrap();
        }
        Reader::new(store)
    }

    async fn stored(reader: &Reader<Embedded>, id: &MachineId) -> Option<String> {
        let (_, kv) = point(reader.store(), &Key::Host(id.clone()).to_string(), None).await.unwrap();
        kv.map(|kv| String::from_utf8(kv.value).unwrap())
    }

    #[test]
    fn what_is_asked_twice_stays_as_it_was_asked_first() {
        let cordon = |why: &str, user: &str, since| Maintenance {
            cordon: Some(Cordon { since, why: why.into(), by: Some(Box::new(by(user))) }),
            ..Maintenance::default()
        };
        let ask = |why: &str| Request::Cordon { why: why.into() };
        let first = cordon("kernel", "ci", 5);
        for (before, request, after) in [
            (None, ask(""), cordon("", "op", 9)),
            (None, ask("disk"), cordon("disk", "op", 9)),
            (Some(&first), ask(""), first.clone()),
            (Some(&first), ask("kernel"), first.clone()),
            (Some(&first), ask("disk"), cordon("disk", "op", 9)),
            (Some(&first), Request::Uncordon, Maintenance::default()),
            (None, Request::Uncordon, Maintenance::default()),
        ] {
            assert_eq!(next(before, &request, &by("op"), (9, Revision(7))), after, "{before:?} {request:?}");
        }
    }

    /// What a drain took is brought back, and taken by the drain after that, until a plain undrain forgets it.
    #[test]
    fn a_restore_and_a_drain_after_it_go_on_with_what_the_first_drain_took() {
        let options = |parallel| {
            let (deadline, globals, force, why) = (60, false, false, String::new());
            Request::Drain(Options { parallel, deadline, globals, force, why })
        };
        let after = |requests: &[Request]| {
            let asks = requests.iter().zip(7..);
            let step =
                |before, (request, at)| Some(next(Option::as_ref(&before), request, &by("op"), (9, Revision(at))));
            let now = asks.fold(None, step).unwrap();
            (
                now.drain.map(|drain| (drain.generation.0, drain.began().0)),
                now.restore.map(|it| (it.generation.0, it.drain.0)),
            )
        };
        let (undrain, restore) = (Request::Undrain { restore: None }, Request::Undrain { restore: Some(3) });
        let [undrain, restore] = [undrain, restore].map(|request| move || request.clone());
        for (requests, expected) in [
            (vec![options(1)], (Some((7, 7)), None)),
            (vec![options(1), options(2)], (Some((8, 7)), None)),
            (vec![options(1), options(2), restore()], (None, Some((9, 7)))),
            (vec![options(1), restore(), restore()], (None, Some((9, 7)))),
            (vec![options(1), restore(), options(1)], (Some((9, 7)), None)),
            (vec![options(1), restore(), undrain()], (None, None)),
            (vec![options(1), undrain(), options(1)], (Some((9, 9)), None)),
            (vec![options(1), undrain(), restore()], (None, None)),
        ] {
            assert_eq!(after(&requests), expected, "{requests:?}");
        }
    }

    #[tokio::test]
    async fn all_hosts_or_none() {
        let (here, gone, unknown) = (id(1), id(2), id(3));
        let reader = store(&[(Key::Machine(here.clone()), "{}"), (Key::Roster(gone.clone()), "{}")]).await;
        let cordon = Request::Cordon { why: "kernel".into() };
        let ask = async |hosts: &[&MachineId], request: &Request| {
            let hosts = hosts.iter().map(|id| (*id).clone()).collect();
            ask(&reader, &hosts, request, &by("ci"), 5).await
        };
        let refused = ask(&[&here, &unknown], &cordon).await;
        assert_eq!(refused, Err(Refusal::Unknown(unknown)));
        assert_eq!(stored(&reader, &here).await, None);
        let changed =
            |asked: Result<Vec<Asked>, Refusal>| asked.unwrap().iter().map(|asked| asked.changed).collect::<Vec<_>>();
        assert_eq!(changed(ask(&[&gone], &cordon).await), [true]);
        assert_eq!(changed(ask(&[&here, &gone], &cordon).await), [true, false]);
        let record = r#"{"cordon":{"since":5,"why":"kernel","by":{"uid":1001,"user":"ci"}}}"#;
        assert_eq!(stored(&reader, &gone).await.as_deref(), Some(record));
        assert_eq!(changed(ask(&[&here, &gone], &Request::Uncordon).await), [true, true]);
        assert_eq!(changed(ask(&[&here], &Request::Uncordon).await), [false]);
        assert_eq!((stored(&reader, &here).await, stored(&reader, &gone).await), (None, None));
        let many = (1..=MAX_OPS + 1).map(|number| format!("{number:032x}").parse().unwrap()).collect();
        let refused = super::ask(&reader, &many, &cordon, &by("ci"), 5).await;
        assert_eq!(refused, Err(Refusal::TooMany));
    }

    /// A person can repair it by asking again.
    #[tokio::test]
    async fn a_record_that_can_not_be_read_is_replaced() {
        for (request, expected) in [
            (Request::Cordon { why: String::new() }, Some(r#"{"cordon":{"since":5,"by":{"uid":1001,"user":"ci"}}}"#)),
            (Request::Uncordon, None),
        ] {
            let reader = store(&[(Key::Machine(id(1)), "{}"), (Key::Host(id(1)), "{")]).await;
            let asked = ask(&reader, &[id(1)].into(), &request, &by("ci"), 5).await.unwrap();
            assert!(asked[0].changed);
            assert_eq!(stored(&reader, &id(1)).await.as_deref(), expected);
        }
    }

    #[tokio::test]
    async fn a_host_that_is_forgotten_is_not_cordoned_any_more() {
        let reader = store(&[(Key::Roster(id(1)), "{}")]).await;
        ask(&reader, &[id(1)].into(), &Request::Cordon { why: String::new() }, &by("ci"), 5).await.unwrap();
        assert_eq!(forget(&reader, &id(1)).await, Ok(Forgotten::Done));
        assert_eq!(stored(&reader, &id(1)).await, None);
        assert_eq!(forget(&reader, &id(1)).await, Ok(Forgotten::Unknown));
    }
}
