//! v2: why units wait, or are where they are. Owns what is read for it, how many units are answered for at once, and
//! how it is shown; `plan::account` and `plan::remedy` find it on a copy of the cluster, beside the runtime. Changes
//! nothing.

mod remedy;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::Uri;

use crate::api::server::error::Failure;
use crate::api::server::extract::query;
use crate::api::server::state::Api;
use crate::api::server::views::{self, machine_ref};
use crate::api::wire::{
    Explanation, Explanations, HostsAgainst, MachineRef, ObstacleView, OptionLine, PlaceView, Progress,
    StandingOfUnit as Shown, UnitView,
};
use crate::model::cluster::Cluster;
use crate::model::file::UnitFile;
use crate::model::name::{MachineId, UnitHash, UnitName};
use crate::model::unit::Desired;
use crate::plan::account::line::{Lines, declared_by};
use crate::plan::account::{Account, Because, HostStand, Place, account, held};
use crate::plan::drain::{Timers, look};
use crate::plan::explain::Standing;
use crate::plan::gate::is_spare;
use crate::plan::remedy::{Remedies, remedies};
use crate::plan::schedule::{Obstacle, Scheduler};
use crate::registry::drains;
use crate::registry::scope::Scope;
use crate::store::{Error, Store};

use super::globs;
use super::units::joined;

/// For so many units at most, a request is answered.
const UNITS: usize = 50;

/// Of so many units that wait, fixes are looked for: that takes longer than all the rest.
const REMEDIES: usize = 3;

/// So many groups of hosts with the same obstacles are told of a unit.
const GROUPS: usize = 500;

/// So many unit files at most are read to name lines of them.
const FILES: usize = 100;

pub(super) async fn get<S: Store>(State(api): State<Api<S>>, uri: Uri) -> Result<Json<Explanations>, Failure> {
    let names = globs(query(&uri)?, "; `name` is known")?;
    explained(&api, &Scope::of(names)).await.map(Json).map_err(|error| api.failed(&error))
}

/// Without names, of the units that wait.
async fn explained<S: Store>(api: &Api<S>, scope: &Scope) -> Result<Explanations, Error> {
    // Each takes a copy of the cluster, and time of a processor.
    let turn = Arc::clone(&api.planning).lock_owned().await;
    let (cluster, summaries, _) = joined(api, scope).await?;
    let submitted = cluster.units.iter().filter(|(name, _)| !is_spare(&cluster, name));
    let views = submitted.map(|(name, unit)| views::unit(&cluster, &summaries, name, unit, None));
    let is_meant = |view: &UnitView| !matches!(scope, Scope::All) || view.waiting.is_some();
    let views: Vec<UnitView> = views.filter(is_meant).collect();
    let left_out = views.len().saturating_sub(UNITS);
    let names: Vec<UnitName> = views.iter().take(UNITS).map(|view| view.name.clone()).collect();
    if names.is_empty() {
        return Ok(Explanations { revision: cluster.revision, ..Explanations::default() });
    }
    let waiting = views
        .iter()
        .filter(|view| view.machine.is_none() && !view.global && view.desired != Desired::Inactive)
        .take(REMEDIES);
    let waiting =
        waiting.filter_map(|view| Some((view.name.clone(), cluster.units.get(&view.name)?.file_key().clone())));
    let own = files(api, &waiting.collect()).await?;
    let (now, brake) = (api.clock.now_ms(), api.settings.brake);
    let work = move |scheduler: &mut Scheduler| (Found::of(scheduler, &names, &own, now), turn).0;
    let found = drains::scheduled(&api.reader, api.clock, brake, work).await?;
    let files = files(api, &found.files).await?;
    let lines = files.iter().map(|(name, file)| (name, Lines::of(file, name))).collect();
    let show = Show { hosts: &found.hosts, lines };
    // Those that were destroyed meanwhile are unknown by now.
    let told = found.told.iter().zip(&views).filter(|(told, _)| told.account.standing != Standing::Unknown);
    Ok(Explanations {
        revision: found.hosts.revision,
        units: told.map(|(told, view)| show.unit(told, view)).collect(),
        left_out,
    })
}

/// What was found of one unit.
struct Told {
    account: Account,
    held: Vec<String>,
    remedies: Remedies,
}

/// What was found of all units.
struct Found {
    told: Vec<Told>,
    /// The names of hosts.
    hosts: Cluster,
    /// The files of the units with options because of which others don't fit.
    files: BTreeMap<UnitName, UnitHash>,
}

impl Found {
    /// `own` has the files of units that wait, of which fixes are looked for.
    fn of(scheduler: &mut Scheduler, names: &[UnitName], own: &BTreeMap<UnitName, Arc<UnitFile>>, now: u64) -> Self {
        let leaving = look(scheduler, &Timers::default(), now);
        let mut told: Vec<Told> = Vec::new();
        for name in names {
            let (held, account) = (held(scheduler.cluster(), &leaving, name), account(scheduler, name));
            told.push(Told { account, held, remedies: Remedies::default() });
        }
        // Only now, because the leader decides first what it is about to decide.
        for told in told.iter_mut().filter(|told| told.account.standing == Standing::Waiting).take(REMEDIES) {
            let unit = &told.account.unit;
            told.remedies = remedies(scheduler, unit, own.get(unit).map(|file| &**file), now);
        }
        let cluster = scheduler.cluster();
        let mut files = BTreeMap::new();
        for name in told.iter().flat_map(|told| stands(&told.account)).flat_map(declaring) {
            if files.len() < FILES
                && let Some(unit) = cluster.units.get(name)
            {
                files.insert(name.clone(), unit.file_key().clone());
            }
        }
        let (machines, roster, revision) = (cluster.machines.clone(), cluster.roster.clone(), cluster.revision);
        let hosts = Cluster { machines, roster, revision, ..Cluster::default() };
        Self { told, hosts, files }
    }
}

/// The hosts of which an explanation tells.
fn stands(account: &Account) -> impl Iterator<Item = &HostStand> {
    account.hosts.iter().chain(account.place.iter().flat_map(|place| &place.passed))
}

/// The units whose files have the options because of which a host doesn't fit.
fn declaring(stand: &HostStand) -> impl Iterator<Item = &UnitName> {
    stand.obstacles.iter().filter_map(|Obstacle { unit, misfit }| declared_by(unit, misfit))
}

/// The files of these units, as they were submitted. One that can't be read names no lines.
async fn files<S: Store>(
    api: &Api<S>,
    named: &BTreeMap<UnitName, UnitHash>,
) -> Result<BTreeMap<UnitName, Arc<UnitFile>>, Error> {
    let mut read = BTreeMap::new();
    let hashes: BTreeSet<UnitHash> = named.values().cloned().collect();
    let take = |hash: UnitHash, record| {
        if let Some(file) = api.reader.parse(&hash, &record) {
            read.insert(hash, Arc::new(file));
        }
    };
    api.reader.files(&hashes, take).await?;
    let named = named.iter().filter_map(|(name, hash)| Some((name.clone(), Arc::clone(read.get(hash)?))));
    Ok(named.collect())
}

/// Shows what was found.
struct Show<'a> {
    hosts: &'a Cluster,
    lines: BTreeMap<&'a UnitName, Lines<'a>>,
}

impl Show<'_> {
    fn unit(&self, told: &Told, view: &UnitView) -> Explanation {
        let Account { unit, standing, since, with, apart, hosts, place, moves } = &told.account;
        let (shown, machine) = match standing {
            Standing::Unknown | Standing::Inactive => (Shown::Inactive, None),
            Standing::Template => (Shown::Template, None),
            Standing::FileUnknown => (Shown::FileUnknown, None),
            Standing::Done { host } => (Shown::Done, Some(host)),
            Standing::Placed { host } => (Shown::Placed, Some(host)),
            Standing::Away { host, .. } => (Shown::Away, Some(host)),
            Standing::Everywhere { .. } => (Shown::Global, None),
            Standing::Leaving { .. } => (Shown::Leaving, None),
            Standing::Waiting => (Shown::Waiting, None),
        };
        let with = match place {
            Some(place) => place.with.clone(),
            None => with.clone(),
        };
        let mut hosts = self.against(unit, hosts, true);
        let left_out = hosts.drain(hosts.len().min(GROUPS)..).map(|group| group.machines.len()).sum();
        Explanation {
            name: unit.clone(),
            standing: shown,
            why: self.why(&told.account),
            machine: machine.map(|host| self.host(host)),
            since: *since,
            held: unfinished(view, shown).into_iter().chain(told.held.iter().cloned()).collect(),
            with,
            excluded: *apart,
            hosts,
            hosts_left_out: left_out,
            place: place.as_ref().map(|place| Box::new(self.place(unit, place))),
            moves: moves.clone(),
            by_itself: told.remedies.by_itself.as_ref().map(|host| self.host(host)),
            remedies: told.remedies.found.iter().map(|remedy| remedy::view(self.hosts, remedy)).collect(),
        }
    }

    fn why(&self, account: &Account) -> String {
        match &account.standing {
            Standing::Placed { host } => format!("on {}", self.host(host).name()),
            Standing::Done { host } => format!("has run once on {}, and is done", self.host(host).name()),
            Standing::Leaving { hosts } => {
                let hosts: Vec<String> = hosts.iter().map(|host| self.host(host).name()).collect();
                format!("waits for {} to stop it", hosts.join(" and "))
            }
            Standing::Waiting if account.fits_somewhere() => "is about to be placed".into(),
            standing => standing.to_string(),
        }
    }

    fn host(&self, host: &MachineId) -> MachineRef {
        machine_ref(self.hosts, host)
    }

    /// Hosts with the same obstacles together; those with the fewest first, or in the order in which they are given.
    fn against(&self, unit: &UnitName, stands: &[HostStand], sorted: bool) -> Vec<HostsAgainst> {
        let mut found: Vec<HostsAgainst> = Vec::new();
        let mut known: BTreeMap<Vec<(Option<UnitName>, String)>, usize> = BTreeMap::new();
        for stand in stands {
            let obstacles: Vec<ObstacleView> = stand.obstacles.iter().map(|it| self.obstacle(unit, it)).collect();
            let key = obstacles.iter().map(|it| (it.unit.clone(), it.why.clone())).collect();
            let at = *known.entry(key).or_insert_with(|| {
                found.push(HostsAgainst { machines: Vec::new(), obstacles });
                found.len() - 1
            });
            found[at].machines.push(self.host(&stand.host));
        }
        if sorted {
            found.sort_by_key(|hosts| hosts.obstacles.len());
        }
        found
    }

    fn obstacle(&self, unit: &UnitName, obstacle: &Obstacle) -> ObstacleView {
        let Obstacle { unit: whose, misfit } = obstacle;
        let rule = serde_json::to_value(misfit.rule()).ok().and_then(|rule| Some(rule.as_str()?.to_owned()));
        let option = declared_by(whose, misfit).and_then(|declaring| {
            let found = self.lines.get(declaring)?.find(misfit)?;
            let text = format!("{}={}", found.name, found.value);
            Some(OptionLine { unit: declaring.clone(), line: found.line, text })
        });
        let other = Some(whose.clone()).filter(|whose| whose != unit);
        ObstacleView { rule: rule.unwrap_or_default(), why: misfit.to_string(), unit: other, option }
    }

    fn place(&self, unit: &UnitName, place: &Place) -> PlaceView {
        let (because, runner_up, runner_up_is_better) = match &place.because {
            Because::With(peer) => (format!("it must be with {peer}, which is there"), None, false),
            Because::OnlyHost => ("no other host fits".to_owned(), None, false),
            Because::Compared { by, runner_up, is_better } => (by.clone(), Some(self.host(runner_up)), *is_better),
        };
        let passed_over = self.against(unit, &place.passed, false);
        PlaceView { because, runner_up, runner_up_is_better, passed_over, passed_over_in_all: place.passed_in_all }
    }
}

/// What a unit that has a host waits for, or that it has failed, as far as its progress tells.
fn unfinished(view: &UnitView, standing: Shown) -> Option<String> {
    match (standing, view.progress.as_ref()?) {
        (Shown::Waiting | Shown::Template, _) => None,
        (_, Progress::Waiting(what) | Progress::Idle(what) | Progress::Failed(what) | Progress::Failing(what)) => {
            Some(what.clone())
        }
        _ => None,
    }
}
