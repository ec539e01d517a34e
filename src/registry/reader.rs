//! Consistent reads without a mirror: the parts of a cluster that a question needs, all at one revision of the store.
//! Owns which ranges are read, and how few; must never write. With reports it reads the keys of their hosts, since
//! [`Presences`] decides by these which reports count.

mod tries;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::try_join_all;

use crate::model::cluster::{Change, Cluster};
use crate::model::file::UnitFile;
use crate::model::name::{UnitHash, UnitName};
use crate::model::revision::Revision;
use crate::model::small::SmallMap;
use crate::store::{Error, Event, Kv, Range, Store};

use super::damage::Damage;
use super::keys::{self, Key};
use super::presence::Presences;
use super::records::file::FileRecord;
use super::scope::Scope;
use super::summaries::{FileSummaries, FileSummary, FileSummaryCache};
use super::{Corrupt, decode, mirror, point};

use tries::Tries;

/// How many records are read one by one concurrently, and how many ranges.
const POINTS: usize = 32;

/// The most pairs of a unit and a host whose reports are read one by one. With more, all reports are read.
const MAX_POINTS: usize = 10_000;

/// The most keys that are looked for in one range. It may hold as many others, which are read and discarded.
const SPAN: usize = 500;

/// Units whose records can't be decoded, and what is wrong with them.
pub type Damaged = BTreeMap<UnitName, String>;

/// Reads a cluster's records from a store. Cheap to clone; clones share their caches.
#[derive(Debug, Clone)]
pub struct Reader<S> {
    store: S,
    summaries: Arc<FileSummaryCache>,
    damage: Arc<Mutex<Damage>>,
}

impl<S: Store> Reader<S> {
    /// A reader of `store`.
    #[must_use]
    pub fn new(store: S) -> Self {
        Self { store, summaries: Arc::default(), damage: Arc::default() }
    }

    /// The store that it reads from.
    #[must_use]
    pub fn store(&self) -> &S {
        &self.store
    }

    /// Read the keys of `families` within `scope`, at one revision. Damaged records are skipped and logged.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Refused`].
    pub async fn cluster(&self, families: &[&str], scope: &Scope) -> Result<Cluster, Error> {
        self.read(families, scope).await.map(|parts| parts.cluster)
    }

    /// The same, and the units of `scope` that are skipped because their records are damaged: only a person can repair
    /// them, so they must be shown.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Refused`].
    pub async fn all(&self, families: &[&str], scope: &Scope) -> Result<(Cluster, Damaged), Error> {
        self.read(families, scope).await.map(|parts| (parts.cluster, parts.damaged))
    }

    /// Everything in `families`, at one revision, and the hosts whose reports these are: what a watch continues from.
    /// Damaged records are skipped and logged.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Refused`].
    pub async fn whole(&self, families: &[&str]) -> Result<(Cluster, Presences), Error> {
        self.read(families, &Scope::All).await.map(|parts| (parts.cluster, parts.presences))
    }

    async fn read(&self, families: &[&str], scope: &Scope) -> Result<Parts, Error> {
        let mut tries = Tries::default();
        loop {
            match self.read_once(families, scope).await {
                Err(error) => tries.again(error)?,
                answer => return answer,
            }
        }
    }

    async fn read_once(&self, families: &[&str], scope: &Scope) -> Result<Parts, Error> {
        let (mut parts, mut at, mut families) = (Parts::default(), None, families.to_vec());
        // The hosts that are registered decide where reports are, and which of them count.
        if families.contains(&keys::STATES) {
            let (wants_hosts, all) = (families.contains(&keys::MACHINES), &mut parts);
            let follow = |kv| match wants_hosts {
                true => self.take(all, scope, kv),
                false => all.presences.follow(&Event::Put(kv)),
            };
            at = Some(self.hosts(None, follow).await?);
            families.retain(|family| *family != keys::MACHINES);
        }
        let hosts = parts.presences.hosts();
        let prefixes = families.iter().flat_map(|family| scope.prefixes(family, &hosts)).collect();
        let read = Mutex::new(parts);
        let revision = self
            .ranges_once(&prefixes, at, |page| {
                let parts = &mut *read.lock().unwrap_or_else(PoisonError::into_inner);
                page.into_iter().for_each(|kv| self.take(parts, scope, kv));
            })
            .await?;
        let mut parts = read.into_inner().unwrap_or_else(PoisonError::into_inner);
        parts.cluster.revision = revision;
        Ok(parts)
    }

    /// Apply a record to `parts`, if it belongs to `scope`.
    fn take(&self, parts: &mut Parts, scope: &Scope, kv: Kv) {
        match parts.presences.change(&Event::Put(kv)) {
            Ok(Some(change)) if scope.takes(&change) => parts.cluster.apply(change),
            Ok(_) => {}
            Err(corrupt) => {
                self.warn(&corrupt);
                // A key that names no unit belongs to none.
                if let Ok(Key::Unit(name)) = Key::parse(&corrupt.key)
                    && scope.has(&name)
                {
                    parts.damaged.insert(name, corrupt.why);
                }
            }
        }
    }

    /// Update the records `wanted` in a cluster that was read before, at the revision of that read. A damaged record
    /// stays as it is.
    ///
    /// # Errors
    /// [`Error::Compacted`] if that revision was compacted: read the cluster again.
    /// [`Error::Unavailable`], [`Error::Refused`].
    pub async fn add(&self, cluster: &mut Cluster, wanted: &BTreeSet<Key>) -> Result<(), Error> {
        self.add_known(cluster, wanted, Presences::default()).await
    }

    /// The same, when these hosts are known already to be registered at that revision.
    async fn add_known(&self, cluster: &mut Cluster, wanted: &BTreeSet<Key>, known: Presences) -> Result<(), Error> {
        let kvs = self.some(&known.with_hosts(wanted), Some(cluster.revision)).await?;
        self.replace(cluster, wanted, known, kvs);
        Ok(())
    }

    /// The same as [`Reader::add`], at the newest revision, which the cluster shows then.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Refused`].
    pub async fn refresh(&self, cluster: &mut Cluster, wanted: &BTreeSet<Key>) -> Result<(), Error> {
        let known = Presences::default();
        let (revision, kvs) = self.points(&known.with_hosts(wanted)).await?;
        cluster.revision = revision;
        self.replace(cluster, wanted, known, kvs);
        Ok(())
    }

    /// Make `cluster` show what was found under the keys `wanted`. `found` is in the order of the keys, so that hosts
    /// come before their reports.
    fn replace(&self, cluster: &mut Cluster, wanted: &BTreeSet<Key>, mut presences: Presences, found: Vec<Kv>) {
        let wanted: BTreeSet<String> = wanted.iter().map(ToString::to_string).collect();
        let mut absent = wanted.clone();
        for kv in found {
            absent.remove(&kv.key);
            let is_wanted = wanted.contains(&kv.key);
            if let Some(change) = self.change(&mut presences, &Event::Put(kv)).filter(|_| is_wanted) {
                cluster.apply(change);
            }
        }
        let gone = absent.into_iter().filter_map(|key| self.change(&mut presences, &Event::Delete(key)));
        gone.for_each(|change| cluster.apply(change));
    }

    /// The placements and the reports of `units`, at one revision.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Refused`].
    pub async fn reports(&self, units: &BTreeSet<UnitName>) -> Result<Cluster, Error> {
        let placements: BTreeSet<Key> = units.iter().cloned().map(Key::Placement).collect();
        let mut tries = Tries::default();
        loop {
            let mut cluster = Cluster::default();
            self.refresh(&mut cluster, &placements).await?;
            match self.add_reports(&mut cluster, units).await {
                Err(error) => tries.again(error)?,
                Ok(()) => return Ok(cluster),
            }
        }
    }

    /// Add the reports of `units` to a cluster with their placements, at the revision that it shows. A unit that is
    /// placed is reported by its host. Any other (a global one, one that was destroyed) may be reported by every
    /// registered host: a report and the host's presence have the same lease.
    ///
    /// # Errors
    /// As [`Reader::add`].
    pub async fn add_reports(&self, cluster: &mut Cluster, units: &BTreeSet<UnitName>) -> Result<(), Error> {
        let is_placed = |unit: &UnitName| cluster.placed_on(unit).is_some();
        let mut known = Presences::default();
        if !units.iter().all(is_placed) {
            self.hosts(Some(cluster.revision), |kv| known.follow(&Event::Put(kv))).await?;
        }
        let hosts = known.hosts();
        if units.iter().filter(|unit| !is_placed(unit)).count() * hosts.len() > MAX_POINTS {
            self.add_range(cluster, keys::STATES, known).await?;
            cluster.states.retain(|unit, _| units.contains(unit));
            return Ok(());
        }
        let mut wanted = BTreeSet::new();
        for unit in units {
            // One that is reported already may have lost its placement since.
            let reporting = cluster.states.get(unit).into_iter().flat_map(SmallMap::keys);
            let placed = cluster.placed_on(unit);
            let others = hosts.iter().filter(|_| placed.is_none());
            wanted.extend(reporting.chain(placed).chain(others).flat_map(|host| Key::states(host, unit)));
        }
        self.add_known(cluster, &wanted, known).await
    }

    /// Pass the keys of the hosts that are registered to `take`: at a revision, or at the newest, which is returned.
    async fn hosts(&self, at: Option<Revision>, mut take: impl FnMut(Kv)) -> Result<Revision, Error> {
        let range = Range { prefix: keys::MACHINES.into(), at, ..Range::default() };
        mirror::pages(&self.store, range, |page| {
            page.into_iter().for_each(&mut take);
            ControlFlow::Continue(())
        })
        .await
    }

    /// Add a whole family to a cluster that was read, at the revision that it shows. Not for reports: see
    /// [`Reader::add_reports`].
    ///
    /// # Errors
    /// As [`Reader::add`].
    pub async fn add_family(&self, cluster: &mut Cluster, family: &str) -> Result<(), Error> {
        self.add_range(cluster, family, Presences::default()).await
    }

    /// The same, with the reports of these hosts.
    async fn add_range(&self, cluster: &mut Cluster, family: &str, mut presences: Presences) -> Result<(), Error> {
        let range = Range { prefix: family.into(), at: Some(cluster.revision), ..Range::default() };
        let read = mirror::pages(&self.store, range, |page| {
            let changes = page.into_iter().filter_map(|kv| self.change(&mut presences, &Event::Put(kv)));
            changes.for_each(|change| cluster.apply(change));
            ControlFlow::Continue(())
        });
        read.await.map(drop)
    }

    /// Those of `keys` that exist, in order; at one revision, if one is named.
    ///
    /// # Errors
    /// [`Error::Compacted`] if that revision was compacted. [`Error::Unavailable`], [`Error::Refused`].
    pub async fn some(&self, keys: &BTreeSet<String>, at: Option<Revision>) -> Result<Vec<Kv>, Error> {
        let mut found = Vec::new();
        self.each(keys, at, |kv| found.push(kv)).await?;
        Ok(found)
    }

    /// Pass those of `keys` that exist to `take`, in order. Many keys that are close together, such as those of a page
    /// of units, are read as the range that contains them. If that range turns out to contain many other keys, as the
    /// units of a host lie between the assignments of a global unit, they are read one by one. The cost is thus that of
    /// the keys asked for, never that of a whole family.
    async fn each(&self, keys: &BTreeSet<String>, at: Option<Revision>, mut take: impl FnMut(Kv)) -> Result<(), Error> {
        let sorted: Vec<&String> = keys.iter().collect();
        let (mut rest, mut close) = (&sorted[..], sorted.len() > POINTS);
        while let Some(first) = rest.first() {
            if close {
                let family = first.split_inclusive('/').next().unwrap_or_default();
                let run = rest.partition_point(|key| key.starts_with(family));
                let part = run.min(SPAN);
                // A range begins behind a key: the key without its last character sorts before the first one, with
                // almost nothing in between.
                let after = first.char_indices().last().map(|(end, _)| first[..end].to_owned());
                let range = Range { prefix: family.into(), after, limit: 2 * part, at };
                let page = self.store.range(range).await?;
                let known = match page.kvs.last() {
                    Some(last) if page.more => rest[..run].partition_point(|key| **key <= last.key),
                    _ => run,
                };
                let wanted = |kv: &Kv| kv.key >= **first && keys.contains(&kv.key);
                page.kvs.into_iter().filter(wanted).for_each(&mut take);
                close = 2 * known >= part;
                rest = &rest[known..];
            } else {
                let (part, beyond) = rest.split_at(POINTS.min(rest.len()));
                let found = try_join_all(part.iter().map(|key| point(&self.store, key, at))).await?;
                found.into_iter().filter_map(|(_, kv)| kv).for_each(&mut take);
                rest = beyond;
            }
        }
        Ok(())
    }

    /// The first valid records of a family, up to `number`, at one revision. No more is read than necessary.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Refused`].
    pub async fn first(&self, family: &str, number: usize) -> Result<Cluster, Error> {
        let mut tries = Tries::default();
        loop {
            let (mut cluster, mut presences, mut count) = (Cluster::default(), Presences::default(), 0);
            let range = Range { prefix: family.into(), limit: number, ..Range::default() };
            let read = mirror::pages(&self.store, range, |page| {
                let room = number.saturating_sub(count);
                let changes = page.into_iter().filter_map(|kv| self.change(&mut presences, &Event::Put(kv)));
                count += changes.take(room).map(|change| cluster.apply(change)).count();
                if count < number { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            });
            match read.await {
                Err(error) => tries.again(error)?,
                Ok(revision) => return Ok(Cluster { revision, ..cluster }),
            }
        }
    }

    /// All keys under all `prefixes` at one revision: the first range determines it, the others follow concurrently.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Refused`].
    pub async fn ranges(&self, prefixes: BTreeSet<String>) -> Result<(Revision, Vec<Kv>), Error> {
        let mut tries = Tries::default();
        loop {
            let found = Mutex::new(Vec::new());
            let take = |page| found.lock().unwrap_or_else(PoisonError::into_inner).extend(page);
            match self.ranges_once(&prefixes, None, take).await {
                Err(error) => tries.again(error)?,
                Ok(revision) => return Ok((revision, found.into_inner().unwrap_or_else(PoisonError::into_inner))),
            }
        }
    }

    /// All keys under all `prefixes` at one revision: `at`, or the newest, which the first range determines. Each page
    /// is passed to `take` as soon as it arrives, since a family may be large and the result small.
    async fn ranges_once(
        &self,
        prefixes: &BTreeSet<String>,
        at: Option<Revision>,
        take: impl Fn(Vec<Kv>),
    ) -> Result<Revision, Error> {
        let mut rest: Vec<&String> = prefixes.iter().collect();
        let revision = match at {
            Some(at) => at,
            None if rest.is_empty() => return Err(Error::Refused("nothing to read".into())),
            None => self.range(rest.remove(0), None, &take).await?,
        };
        for part in rest.chunks(POINTS) {
            try_join_all(part.iter().map(|prefix| self.range(prefix, Some(revision), &take))).await?;
        }
        Ok(revision)
    }

    async fn range(&self, prefix: &str, at: Option<Revision>, take: impl Fn(Vec<Kv>)) -> Result<Revision, Error> {
        mirror::pages(&self.store, Range { prefix: prefix.into(), at, ..Range::default() }, |page| {
            take(page);
            ControlFlow::Continue(())
        })
        .await
    }

    /// The records under `keys`, at one revision. Missing ones are skipped.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Refused`].
    pub async fn points(&self, keys: &BTreeSet<String>) -> Result<(Revision, Vec<Kv>), Error> {
        let mut tries = Tries::default();
        loop {
            match self.points_once(keys).await {
                Err(error) => tries.again(error)?,
                answer => return answer,
            }
        }
    }

    async fn points_once(&self, keys: &BTreeSet<String>) -> Result<(Revision, Vec<Kv>), Error> {
        let mut rest = keys.clone();
        let Some(first) = rest.pop_first() else {
            let nothing = Range { limit: 1, ..Range::default() };
            return Ok((self.store.range(nothing).await?.revision, Vec::new()));
        };
        let (revision, first) = point(&self.store, &first, None).await?;
        let rest = self.some(&rest, Some(revision)).await?;
        Ok((revision, first.into_iter().chain(rest).collect()))
    }

    /// Pass the files of `hashes` to `take`, one by one. Missing and damaged ones are skipped and logged. Not at one
    /// revision: a file that is referred to exists, and its hash identifies its content.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Refused`].
    pub async fn files(
        &self,
        hashes: &BTreeSet<UnitHash>,
        mut take: impl FnMut(UnitHash, FileRecord),
    ) -> Result<(), Error> {
        let keys = hashes.iter().map(|hash| Key::File(hash.clone()).to_string()).collect();
        let taken = self.each(&keys, None, |kv| match (Key::parse(&kv.key), decode(&kv)) {
            (Ok(Key::File(hash)), Ok(record)) => take(hash, record),
            (Err(corrupt), _) | (_, Err(corrupt)) => self.warn(&corrupt),
            _ => {}
        });
        taken.await
    }

    /// The complete file of `hash`.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Refused`].
    pub async fn file(&self, hash: &UnitHash) -> Result<Option<UnitFile>, Error> {
        let mut found = None;
        self.files(&[hash.clone()].into(), |hash, record| found = self.parse(&hash, &record)).await?;
        Ok(found)
    }

    /// The file in `record`, unless it is damaged.
    #[must_use]
    pub fn parse(&self, hash: &UnitHash, record: &FileRecord) -> Option<UnitFile> {
        record.file(hash).map_err(|why| self.warn_file(hash, &why)).ok()
    }

    /// The summaries of the files of `hashes`, from the cache or the store. Files that can't be read are skipped.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Refused`].
    pub async fn summaries(&self, hashes: impl IntoIterator<Item = &UnitHash>) -> Result<FileSummaries, Error> {
        let mut found = FileSummaries::new();
        let mut missing = BTreeSet::new();
        for hash in hashes {
            match self.summaries.get(hash) {
                Some(summary) => drop(found.insert(hash.clone(), summary)),
                None => drop(missing.insert(hash.clone())),
            }
        }
        self.files(&missing, |hash, record| {
            if let Some(summary) = self.learn(&hash, &record) {
                found.insert(hash, summary);
            }
        })
        .await?;
        Ok(found)
    }

    /// The summary of the file of `hash`, if it is cached.
    #[must_use]
    pub fn cached(&self, hash: &UnitHash) -> Option<Arc<FileSummary>> {
        self.summaries.get(hash)
    }

    /// Cache the summary of `record`, unless it is damaged.
    pub fn learn(&self, hash: &UnitHash, record: &FileRecord) -> Option<Arc<FileSummary>> {
        if let Some(summary) = self.summaries.get(hash) {
            return Some(summary);
        }
        let summary = record.file(hash).and_then(|file| FileSummary::of(&file));
        let summary = Arc::new(summary.map_err(|why| self.warn_file(hash, &why)).ok()?);
        self.summaries.insert(hash.clone(), Arc::clone(&summary));
        Some(summary)
    }

    /// What an event means for a cluster, given the hosts of all events before it; `None` if the record is damaged,
    /// which is logged once.
    pub fn change(&self, presences: &mut Presences, event: &Event) -> Option<Change> {
        presences.change(event).inspect_err(|corrupt| self.warn(corrupt)).ok().flatten()
    }

    fn warn_file(&self, hash: &UnitHash, why: &dyn fmt::Display) {
        self.warn(&Corrupt { key: Key::File(hash.clone()).to_string(), why: why.to_string() });
    }

    /// Log a damaged record once, not at every list.
    pub fn warn(&self, corrupt: &Corrupt) {
        self.damage.lock().unwrap_or_else(PoisonError::into_inner).warn(corrupt);
    }
}

/// The parts of a cluster that were read.
#[derive(Debug, Default)]
struct Parts {
    cluster: Cluster,
    /// The units whose records are damaged.
    damaged: Damaged,
    /// The hosts whose reports these are.
    presences: Presences,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::name::MachineId;
    use crate::store::embedded::Embedded;
    use crate::store::{Op, Txn};

    /// However they lie among others, and whether they are there or not.
    #[tokio::test(start_paused = true)]
    async fn many_keys_are_found_wherever_they_lie() {
        let store = Embedded::in_memory();
        let key = |family: &str, n: usize| format!("{family}/{n:05}");
        let there: Vec<String> = (0..3000).map(|n| key("a", n)).chain((0..50).map(|n| key("c", n))).collect();
        let put = |key: &String| Op::Put { key: key.clone(), value: key.clone().into(), lease: None };
        for keys in there.chunks(100) {
            store.commit(Txn { guards: vec![], ops: keys.iter().map(put).collect() }).await.unwrap();
        }
        let reader = Reader::new(store);
        let every = |step: usize| (0..3000).step_by(step).map(|n| key("a", n)).collect::<BTreeSet<_>>();
        let wide: BTreeSet<String> =
            ["a", "b", "c", "d"].iter().flat_map(|family| (0..700).map(|n| key(family, n))).collect();
        let beyond: BTreeSet<String> = (2900..3600).map(|n| key("a", n)).collect();
        let few: BTreeSet<String> = [key("a", 2999), key("b", 1), key("c", 0)].into();
        for wanted in [every(1), every(2), every(3), every(40), wide, beyond, few, BTreeSet::new()] {
            let (_, found) = reader.points(&wanted).await.unwrap();
            let found: Vec<String> = found.into_iter().map(|kv| kv.key).collect();
            let expected: Vec<String> = there.iter().filter(|key| wanted.contains(*key)).cloned().collect();
            assert!(found == expected, "{} of {} found, {} asked for", found.len(), expected.len(), wanted.len());
        }
    }

    const HOSTS: [&str; 3] =
        ["00000000000000000000000000000001", "00000000000000000000000000000002", "00000000000000000000000000000003"];

    /// Three hosts. `web@1.service` is placed on the first one, `all.service` is placed nowhere; `reports` are the keys
    /// of reports, each of which has its position as its `sub`.
    async fn reported(reports: &[String]) -> Reader<Embedded> {
        let store = Embedded::in_memory();
        let on = format!(r#"{{"on":{{"host":"{}","since":0}}}}"#, HOSTS[0]);
        let report = |sub: usize| {
            format!(
                r#"{{"generation":1,"target":"launched","hash":"0","load":"","active":"","sub":"{sub}","since":0}}"#
            )
        };
        // A host counts although its record can't be read.
        let hosts = HOSTS.iter().map(|host| (format!("machine/{host}"), "{".to_owned()));
        let reports = reports.iter().enumerate().map(|(sub, key)| (key.clone(), report(sub)));
        let placement = std::iter::once(("placement/web@1.service".to_owned(), on));
        for (key, value) in hosts.chain(placement).chain(reports) {
            let op = Op::Put { key, value: value.into(), lease: None };
            store.commit(Txn { guards: vec![], ops: vec![op] }).await.unwrap();
        }
        Reader::new(store)
    }

    /// The reports in `cluster`: unit, the host's number, and the report's `sub`.
    fn subs(cluster: &Cluster) -> Vec<(&str, usize, &str)> {
        let number = |host: &MachineId| HOSTS.iter().position(|one| *one == host.as_str()).unwrap() + 1;
        let all = cluster.states.keys().flat_map(|name| cluster.reports(name).map(move |found| (name, found)));
        all.map(|(name, (host, report))| (name.as_str(), number(host), report.sub.as_str())).collect()
    }

    #[tokio::test]
    async fn reports_are_found_under_the_keys_of_every_form() {
        let [n1, n2, n3] = HOSTS;
        let reader = reported(&[
            format!("state/{n1}/web@1.service"),
            format!("state/all.service/{n1}"),
            format!("state/{n2}/all.service"),
            // A host that went back to the older version, and one that was upgraded since.
            format!("state/{n3}/all.service"),
            format!("state/all.service/{n3}"),
            format!("state/web@1.service/{n1}"),
            format!("state/{n1}/other.service"),
        ])
        .await;
        let all = [("all.service", 1, "1"), ("all.service", 2, "2"), ("all.service", 3, "4")];
        let web = [("web@1.service", 1, "5")];
        let glob = |glob: &str| Scope::of(vec![glob.parse().unwrap()]);
        let unit = |name: &str| Scope::One(name.parse().unwrap());
        for (scope, expected) in [
            (unit("all.service"), &all[..]),
            (unit("web@1.service"), &web),
            (glob("all.service"), &all),
            (glob("w*"), &web),
            (glob("a*"), &all),
            (glob("*l.service"), &all),
            (unit("nothing.service"), &[]),
        ] {
            let cluster = reader.cluster(&[keys::STATES], &scope).await.unwrap();
            assert_eq!(subs(&cluster), expected, "{scope:?}");
        }
        let whole = reader.cluster(&[keys::STATES], &Scope::All).await.unwrap();
        assert_eq!(subs(&whole), [&all[..], &[("other.service", 1, "6")], &web].concat());
        let names: BTreeSet<UnitName> = ["all.service", "web@1.service"].map(|name| name.parse().unwrap()).into();
        let read = reader.reports(&names).await.unwrap();
        assert_eq!(subs(&read), [&all[..], &web].concat());
        assert!(read.placed_on(&"web@1.service".parse().unwrap()).is_some());
    }

    /// Reports of hosts that a unit has left are brought up to date with it.
    #[tokio::test]
    async fn reports_that_are_gone_are_removed_from_a_cluster() {
        let key = format!("state/{}/web@1.service", HOSTS[1]);
        let reader = reported(std::slice::from_ref(&key)).await;
        let names = BTreeSet::from(["web@1.service".parse::<UnitName>().unwrap()]);
        let mut cluster = reader.cluster(&[keys::STATES, keys::PLACEMENTS], &Scope::All).await.unwrap();
        assert_eq!(subs(&cluster), [("web@1.service", 2, "0")]);
        reader.add_reports(&mut cluster, &names).await.unwrap();
        assert_eq!(subs(&cluster).len(), 1, "it is still reported");
        reader.store().commit(Txn { guards: vec![], ops: vec![Op::Delete(key)] }).await.unwrap();
        reader.refresh(&mut cluster, &BTreeSet::new()).await.unwrap();
        reader.add_reports(&mut cluster, &names).await.unwrap();
        assert_eq!(subs(&cluster), []);
    }
}
