//! Which fixes are worth trying: of each host with few obstacles what would remove them, and what would help whatever
//! the host. Owns their order; must never decide whether one helps (`trial` does).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::model::cluster::Cluster;
use crate::model::file::{UnitFile, UnitOption};
use crate::model::machine::BUILT_IN;
use crate::model::name::{MachineId, UnitName};
use crate::model::placement::{Condition, Constraints, Test};
use crate::model::resources::Kind as Amount;
use crate::model::unit::Desired;

use super::super::account::HostStand;
use super::super::account::line::{Lines, declared_by};
use super::super::drain::group::group_of;
use super::super::drain::moves::goes_at_once;
use super::super::fit::resources::{declared, offered};
use super::super::fit::{Misfit, Shortage};
use super::super::schedule::{Obstacle, Scheduler};
use super::Step;

/// The most steps of a fix.
const STEPS: usize = 3;

/// How many units of a host are looked at to find one that makes room.
const MOVABLE: usize = 4;

/// A kind of step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Start,
    Open,
    Metadata,
    Move,
    Drop,
    Join,
}

impl Kind {
    /// How dear a step of this kind is.
    fn cost(self) -> usize {
        match self {
            Self::Start => 1,
            Self::Open => 2,
            Self::Metadata => 3,
            Self::Move => 4,
            Self::Drop => 6,
            Self::Join => 9,
        }
    }
}

/// What would help.
#[derive(Debug, Clone)]
pub(super) enum Help {
    Start(UnitName),
    Open(MachineId),
    Metadata(MachineId, BTreeMap<String, String>, BTreeSet<String>),
    /// This unit leaves the host.
    Away(MachineId, UnitName),
    /// So much of something is free on the host.
    Room(MachineId, Amount, u64),
    Drop(Vec<UnitName>, UnitOption, Box<UnitFile>),
    Join(MachineId),
}

impl Help {
    fn kind(&self) -> Kind {
        match self {
            Self::Start(_) => Kind::Start,
            Self::Open(_) => Kind::Open,
            Self::Metadata(..) => Kind::Metadata,
            Self::Away(..) | Self::Room(..) => Kind::Move,
            Self::Drop(..) => Kind::Drop,
            Self::Join(_) => Kind::Join,
        }
    }
}

/// Help that is to be tried together.
#[derive(Debug, Clone)]
pub(super) struct Candidate(Vec<Help>);

impl Candidate {
    pub(super) fn kinds(&self) -> BTreeSet<Kind> {
        self.0.iter().map(Help::kind).collect()
    }

    fn cost(&self) -> usize {
        self.0.iter().map(|help| help.kind().cost()).sum()
    }

    /// The file without the option that is dropped, if one is.
    pub(super) fn file(&self) -> Option<&UnitFile> {
        self.0.iter().find_map(|help| match help {
            Help::Drop(_, _, file) => Some(&**file),
            _ => None,
        })
    }

    /// What a person would do; `None` if nothing does it.
    pub(super) fn steps(&self, scheduler: &Scheduler) -> Option<Vec<Step>> {
        let mut steps: Vec<Step> = Vec::new();
        for help in &self.0 {
            let moved = |unit: &UnitName| {
                steps.iter().any(|step| matches!(step, Step::Move { unit: moved, .. } if moved == unit))
            };
            let step = match help {
                Help::Start(unit) => Step::Start(unit.clone()),
                Help::Open(host) => {
                    let asked = scheduler.cluster().asked_of(host)?;
                    let (cordoned, drained) = (asked.cordon.is_some(), asked.drain.is_some());
                    Step::Open { host: host.clone(), cordoned, drained }
                }
                Help::Metadata(host, set, unset) => {
                    Step::Metadata { host: host.clone(), set: set.clone(), unset: unset.clone() }
                }
                Help::Away(_, unit) if moved(unit) => continue,
                Help::Away(host, unit) => moving(scheduler, host, unit)?,
                Help::Room(host, kind, lack) => room(scheduler, host, *kind, *lack)?,
                Help::Drop(units, option, _) => {
                    let text = format!("{}={}", option.name, option.value);
                    Step::Drop { units: units.clone(), line: option.line, option: text }
                }
                Help::Join(like) => Step::Join { like: like.clone() },
            };
            steps.push(step);
        }
        Some(steps)
    }
}

/// Fixes for `group`, of which `unit` is the one in question, given what each host has against it; the cheapest first,
/// and of those that cost the same the least loaded host.
pub(super) fn candidates(
    scheduler: &Scheduler,
    (unit, group): (&UnitName, &[UnitName]),
    stands: &[HostStand],
    file: Option<&UnitFile>,
) -> Vec<Candidate> {
    let cluster = scheduler.cluster();
    let of_host = |stand: &HostStand| {
        let help = on_host(stand)?;
        Some((scheduler.load(&stand.host), Candidate(help)))
    };
    let mut of_hosts: Vec<_> = stands.iter().filter_map(of_host).collect();
    of_hosts.sort_by_key(|(load, candidate)| (candidate.cost(), *load));
    let mut all: Vec<Candidate> = of_hosts.into_iter().map(|(_, candidate)| candidate).collect();
    all.extend(starting(cluster, group).map(Candidate));
    all.extend(file.into_iter().flat_map(|file| dropping(cluster, unit, stands, file)));
    all.extend(joining(cluster, stands).map(|like| Candidate(vec![Help::Join(like)])));
    all.sort_by_key(Candidate::cost);
    all
}

/// What would remove every obstacle of a host; `None` if something can't be removed.
fn on_host(HostStand { host, obstacles }: &HostStand) -> Option<Vec<Help>> {
    let (mut help, mut open) = (Vec::new(), false);
    let (mut set, mut unset) = (BTreeMap::new(), BTreeSet::new());
    for obstacle in obstacles {
        match &obstacle.misfit {
            Misfit::Cordoned { .. } => open = true,
            Misfit::Metadata { key, wanted, .. } if !key.starts_with(BUILT_IN) => {
                let conditions = obstacles.iter().filter_map(|other| match &other.misfit {
                    Misfit::Condition { asked, .. } if asked.key == *key => Some(asked),
                    _ => None,
                });
                let conditions: Vec<&Condition> = conditions.collect();
                let holds = |value: &&String| conditions.iter().all(|asked| asked.holds(Some(value.as_str())));
                let value = wanted.iter().find(holds)?;
                set.insert(key.clone(), value.clone());
            }
            Misfit::Condition { asked, .. } if !asked.key.starts_with(BUILT_IN) => {}
            Misfit::Conflict { with: other, leaving: false, .. } | Misfit::Port { of: other, leaving: false, .. } => {
                help.push(Help::Away(host.clone(), other.clone()));
            }
            Misfit::Resources(shortage) => help.push(Help::Room(host.clone(), shortage.kind, lacking(shortage)?)),
            _ => return None,
        }
    }
    for obstacle in obstacles {
        let Misfit::Condition { asked, .. } = &obstacle.misfit else { continue };
        match set.get(&asked.key) {
            Some(value) if asked.holds(Some(value.as_str())) => {}
            None if asked.holds(None) => drop(unset.insert(asked.key.clone())),
            None => drop(set.insert(asked.key.clone(), value_for(asked)?)),
            Some(_) => return None,
        }
    }
    if !set.is_empty() || !unset.is_empty() {
        help.insert(0, Help::Metadata(host.clone(), set, unset));
    }
    if open {
        help.insert(0, Help::Open(host.clone()));
    }
    (!help.is_empty() && help.len() <= STEPS).then_some(help)
}

/// A value for which a condition holds, if one follows from it.
fn value_for(asked: &Condition) -> Option<String> {
    let value = match &asked.test {
        Test::AtLeast(value) | Test::AtMost(value) => value.clone(),
        Test::Exists => "yes".to_owned(),
        Test::Matches(glob) if glob.is_literal() => glob.as_str().to_owned(),
        Test::Differs(_) | Test::Below(_) | Test::Above(_) | Test::Matches(_) | Test::Missing => return None,
    };
    Some(value).filter(|value| asked.holds(Some(value.as_str())))
}

/// How much more must be free; `None` if the host can't have so much.
fn lacking(shortage: &Shortage) -> Option<u64> {
    let has = shortage.has?.saturating_sub(shortage.reserved);
    let offered = u64::try_from(u128::from(has) * u128::from(shortage.overcommit) / 100).ok()?;
    let wanted = shortage.taken.amount.of(shortage.kind).checked_add(shortage.wanted)?;
    (shortage.wanted <= offered).then(|| wanted.saturating_sub(offered))
}

/// The step that moves a unit away from a host, if nothing must move with it, it needn't wait for others of its set,
/// and another host fits.
fn moving(scheduler: &Scheduler, host: &MachineId, unit: &UnitName) -> Option<Step> {
    let cluster = scheduler.cluster();
    let constraints = cluster.constraints(unit)?;
    let may_move = cluster.placed_on(unit) == Some(host) && !constraints.global && !constraints.belongs_to_its_host();
    if !may_move || group_of(cluster, host, unit).len() > 1 || !goes_at_once(scheduler, unit) {
        return None;
    }
    let to = scheduler.elsewhere(std::slice::from_ref(unit), host)?;
    Some(Step::Move { unit: unit.clone(), to })
}

/// The step that moves the smallest unit away that makes enough room.
fn room(scheduler: &Scheduler, host: &MachineId, kind: Amount, lack: u64) -> Option<Step> {
    let cluster = scheduler.cluster();
    let there = cluster.schedule.get(host).into_iter().flat_map(BTreeMap::keys);
    let amount = |unit: &UnitName| declared(cluster, unit, host).of(kind);
    let mut large: Vec<(u64, &UnitName)> =
        there.map(|unit| (amount(unit), unit)).filter(|(amount, _)| *amount >= lack).collect();
    large.sort();
    large.into_iter().take(MOVABLE).find_map(|(_, unit)| moving(scheduler, host, unit))
}

/// To start the units that must be on the same host, if that is all that is missing of these.
fn starting(cluster: &Cluster, group: &[UnitName]) -> Option<Vec<Help>> {
    let mut missing = BTreeSet::new();
    for member in group {
        for peer in &cluster.constraints(member)?.machine_of {
            let is_placed = cluster.schedule.values().any(|there| there.contains_key(peer.as_str()));
            if !is_placed && !group.iter().any(|unit| unit.as_str() == peer) {
                missing.insert(peer.parse::<UnitName>().ok()?);
            }
        }
    }
    let can_start = |unit: &UnitName| {
        let record = cluster.units.get(unit).filter(|_| !unit.is_template());
        record.is_some_and(|record| record.desired == Desired::Inactive)
    };
    let all = !missing.is_empty() && missing.len() <= STEPS && missing.iter().all(can_start);
    all.then(|| missing.into_iter().map(Help::Start).collect())
}

/// To drop an option of the unit's own file that is all that speaks against a host; first those that do so of the most
/// hosts. None while a rollout holds the unit back, which has another file then.
fn dropping(cluster: &Cluster, unit: &UnitName, stands: &[HostStand], file: &UnitFile) -> Vec<Candidate> {
    let Some(record) = cluster.units.get(unit).filter(|_| !cluster.gates.contains_key(unit)) else { return Vec::new() };
    if record.hash != file.hash() {
        return Vec::new();
    }
    let own = Lines::of(file, unit);
    let mut lines: BTreeMap<usize, usize> = BTreeMap::new();
    for stand in stands {
        let is_own = |it: &Obstacle| it.unit == *unit && declared_by(unit, &it.misfit) == Some(unit);
        let line = |it: &Obstacle| Some(own.find(&it.misfit).filter(|_| is_own(it))?.line);
        let found: BTreeSet<Option<usize>> = stand.obstacles.iter().map(line).collect();
        if let [Some(line)] = found.into_iter().collect::<Vec<_>>()[..] {
            *lines.entry(line).or_default() += 1;
        }
    }
    let mut lines: Vec<(usize, usize)> = lines.into_iter().collect();
    lines.sort_by_key(|(line, hosts)| (std::cmp::Reverse(*hosts), *line));
    let units = sharing(cluster, unit);
    let drop = |(line, _): (usize, usize)| {
        let option = file.options().iter().find(|option| option.line == line)?.clone();
        let rest: Vec<UnitOption> = file.options().iter().filter(|option| option.line != line).cloned().collect();
        let rest = UnitFile::from_options(&rest).ok()?;
        Constraints::parse(&rest).ok()?;
        Some(Candidate(vec![Help::Drop(units.clone(), option, Box::new(rest))]))
    };
    lines.into_iter().filter_map(drop).collect()
}

/// The unit, or the set that it belongs to and the members with the same file: these get another one together.
fn sharing(cluster: &Cluster, unit: &UnitName) -> Vec<UnitName> {
    let is_set = |template: &UnitName| cluster.units.get(template).is_some_and(|record| record.replicas.is_some());
    let Some(set) = unit.set().filter(is_set) else { return vec![unit.clone()] };
    let hash = cluster.units.get(unit).map(|record| &record.hash);
    let same = cluster
        .units
        .iter()
        .filter(|(name, record)| (**name == set || name.number_in(&set).is_some()) && Some(&record.hash) == hash);
    same.map(|(name, _)| name.clone()).collect()
}

/// The host like which another one would help: the largest of those that only have no room.
fn joining(cluster: &Cluster, stands: &[HostStand]) -> Option<MachineId> {
    let is_full = |stand: &&HostStand| {
        stand.obstacles.iter().all(|it| {
            matches!(
                it.misfit,
                Misfit::Cordoned { .. }
                    | Misfit::Conflict { .. }
                    | Misfit::Port { .. }
                    | Misfit::Replaced { .. }
                    | Misfit::Spread(_)
                    | Misfit::Resources(_)
            )
        })
    };
    let size = |host: &MachineId| (offered(cluster, host, Amount::Memory), offered(cluster, host, Amount::Cpu));
    let full = stands.iter().filter(is_full).map(|stand| &stand.host);
    full.max_by(|a, b| size(a).cmp(&size(b)).then(b.cmp(a))).cloned()
}

/// The constraints in a file that was parsed before.
pub(super) fn constraints(file: &UnitFile) -> Option<Arc<Constraints>> {
    Constraints::parse(file).ok().map(Arc::new)
}
