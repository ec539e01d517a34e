//! v2: units that a person wants on other hosts. Owns what is refused at once, judged as the leader judges it, and how
//! the rest is shown; the leader decides who goes when.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::{Extension, Json};

use crate::api::server::caller::Caller;
use crate::api::server::error::Failure;
use crate::api::server::extract::json_body;
use crate::api::server::state::Api;
use crate::api::server::views;
use crate::api::wire::{MoveUnits, MoveWhat, MovesView, MovingUnit};
use crate::model::cluster::{Change, Cluster};
use crate::model::name::{MachineId, UnitName};
use crate::plan::drain::group::group_of;
use crate::plan::drain::moves::{Moves, Moving, refusal};
use crate::plan::drain::{Found, Timers, Verdict, look};
use crate::plan::gate;
use crate::plan::schedule::Scheduler;
use crate::registry::apply::{Trial, trial_of_moves};
use crate::registry::drains;
use crate::registry::moves::{Refusal, Request};
use crate::registry::units::Problem;
use crate::store::Store;

use super::no_parameters;

/// What becomes of the units that are to move.
pub(super) async fn list<S: Store>(State(api): State<Api<S>>, uri: Uri) -> Result<Json<MovesView>, Failure> {
    no_parameters(&uri)?;
    let turn = Arc::clone(&api.planning).lock_owned().await;
    let look = move |cluster: &Cluster, found: Found| (view(cluster, found.moving), turn).0;
    let found = drains::looked(&api.reader, api.clock, |_| true, look).await;
    let view = found.map_err(|error| api.failed(&error))?;
    Ok(Json(view.unwrap_or_default()))
}

/// Ask units to move: all or none.
pub(super) async fn post<S: Store>(
    State(api): State<Api<S>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<MovesView>, Failure> {
    no_parameters(&uri)?;
    let asked = json_body(&headers, &body, "what is asked")?;
    let request = request(asked, &caller)?;
    let turn = Arc::clone(&api.planning).lock_owned().await;
    let trial = trial(&api, &request).await?;
    let names = request.units.clone();
    let now = api.clock.now_ms();
    let work = move || (judge(trial, &request, now).map(|judged| (judged, request)), turn);
    let (judged, _) = tokio::task::spawn_blocking(work).await.map_err(failed)?;
    let (Judged { view, on, group }, request) = judged?;
    group.iter().try_for_each(|unit| caller.check_name(unit))?;
    if !on.is_empty() {
        let by = api.author(&caller);
        request.ask(&api.reader, &on, &by).await.map_err(|refusal| refused(&api, refusal))?;
        names.iter().for_each(|unit| tracing::info!(%by, "asked to move {unit}"));
    }
    Ok(Json(view))
}

/// What is asked of which units.
pub(super) fn request(asked: MoveUnits, caller: &Caller) -> Result<Request, Failure> {
    let MoveUnits { units, to, each, force } = asked;
    let units: BTreeSet<UnitName> = units.into_iter().chain(each.keys().cloned()).collect();
    units.iter().try_for_each(|unit| caller.check_name(unit))?;
    if units.is_empty() {
        return Err(Failure::bad_request("no unit is named"));
    }
    Ok(Request { units, to, each, force })
}

/// The cluster, and what the request would change in it.
pub(super) async fn trial<S: Store>(api: &Api<S>, request: &Request) -> Result<Trial, Failure> {
    trial_of_moves(&api.reader, request).await.map_err(|error| api.failed(&error))
}

/// What a request comes to.
pub(super) struct Judged {
    view: MovesView,
    /// The units that are asked to move, and where they are: all but those that are where they are to be.
    on: BTreeMap<UnitName, MachineId>,
    /// All units that would move.
    group: BTreeSet<UnitName>,
}

/// What would become of the units, or everything that is against it.
pub(super) fn judge(trial: Trial, request: &Request, now: u64) -> Result<Judged, Failure> {
    let Trial { changes, mut cluster, unreadable, .. } = trial;
    let mut targets = request.to.iter().chain(request.each.values());
    if let Some(to) = targets.find(|to| !cluster.machines.contains_key(*to)) {
        let away = cluster.hostname(to).map(|name| format!("the host {name} is away"));
        return Err(Failure::bad_request(away.unwrap_or_else(|| format!("no host {to} is known"))));
    }
    let problem = |unit: &UnitName, what: String| Problem { unit: format!("move {unit}"), line: None, what };
    let mut problems: Vec<Problem> = Vec::new();
    let mut on = BTreeMap::new();
    for unit in &request.units {
        match place(&cluster, unit, (request, unreadable.contains(unit))) {
            Ok(home) => drop(on.insert(unit.clone(), home.clone())),
            Err(why) => problems.push(problem(unit, why)),
        }
    }
    on.retain(|unit, home| request.to(unit) != Some(home));
    let asked = changes.into_iter().filter(|change| matches!(change, Change::Unit(name, _) if on.contains_key(name)));
    asked.for_each(|change| cluster.apply(change));
    gate::apply(&mut cluster);
    let scheduler = Scheduler::new(cluster);
    let cluster = scheduler.cluster();
    let group: BTreeSet<UnitName> = on.iter().flat_map(|(unit, home)| group_of(cluster, home, unit)).collect();
    let mut moves = look(&scheduler, &Timers::default(), now).moving;
    moves.retain(|unit, _| group.contains(unit));
    for unit in on.keys() {
        let record = cluster.units.get(unit).and_then(|record| record.moves.as_deref());
        let why =
            record.zip(moves.get(unit)).and_then(|(asked, moving)| refusal(cluster, unit, asked, &moving.verdict));
        problems.extend(why.map(|why| problem(unit, why)));
    }
    if !problems.is_empty() {
        return Err(Failure::problems(problems));
    }
    let mut view = view(cluster, moves);
    view.units.retain(|unit| group.contains(&unit.name));
    Ok(Judged { view, on, group })
}

/// The host of a unit that may be asked to move; otherwise why it may not be.
fn place<'a>(
    cluster: &'a Cluster,
    unit: &UnitName,
    (request, is_damaged): (&Request, bool),
) -> Result<&'a MachineId, String> {
    if is_damaged {
        return Err("its record can't be read".into());
    }
    let record = cluster.units.get(unit).ok_or("there is no such unit")?;
    if record.replicas.is_some() {
        return Err("it is a set: move its members".into());
    }
    if cluster.constraints(unit).is_some_and(|constraints| constraints.global) {
        return Err("it is global".into());
    }
    let home = cluster.placed_on(unit).ok_or("it is on no host")?;
    if let Some(since) = views::away(cluster, home).filter(|_| !request.force).map(views::since) {
        let name = cluster.hostname(home).unwrap_or(home.short());
        return Err(format!(
            "{name} has been away{since}; if it is only cut off, {unit} still runs there and runs twice until {name} \
             hears of it (--force moves it nevertheless)"
        ));
    }
    Ok(home)
}

fn view(cluster: &Cluster, moves: Moves) -> MovesView {
    let moving = |(name, Moving { verdict, to, home }): (UnitName, Moving)| {
        let asked = cluster.units.get(&name).and_then(|unit| unit.moves.as_deref());
        let why = asked.and_then(|asked| refusal(cluster, &name, asked, &verdict));
        let (what, why) = match verdict {
            Verdict::Leaves | Verdict::Leaving => (MoveWhat::Leaves, None),
            Verdict::Waits(wait) => (MoveWhat::Waits, Some(wait.to_string())),
            Verdict::Stays(_) | Verdict::Bound(_) | Verdict::Tied(_) | Verdict::Global => (MoveWhat::Stays, why),
        };
        let machine = views::machine_ref(cluster, &home);
        let to = to.map(|to| views::machine_ref(cluster, &to));
        (name.clone(), MovingUnit { name, what, why, machine, to })
    };
    let mut all: BTreeMap<UnitName, MovingUnit> = moves.into_iter().map(moving).collect();
    // Those that the leader has left where they are.
    for (name, unit) in &cluster.units {
        let Some(asked) = unit.moves.as_deref() else { continue };
        let placement = cluster.placements.get(name).map(|known| &known.value);
        let moved = placement.and_then(|placement| placement.moved()).filter(|m| m.generation == asked.generation);
        if let Some((why, home)) = moved.and_then(|moved| moved.why.clone()).zip(cluster.placed_on(name)) {
            let machine = views::machine_ref(cluster, home);
            let stays = MovingUnit { name: name.clone(), what: MoveWhat::Stays, why: Some(why), machine, to: None };
            all.insert(name.clone(), stays);
        }
    }
    MovesView { units: all.into_values().collect() }
}

/// Why nothing was asked of units.
fn refused<S: Store>(api: &Api<S>, refusal: Refusal) -> Failure {
    match refusal {
        Refusal::Unknown(name) => Failure::new(StatusCode::CONFLICT, format!("{name} was destroyed meanwhile")),
        Refusal::Damaged(name, why) => Failure::damaged(&name, &why),
        Refusal::TooMany => Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "these are too many units at once"),
        Refusal::Contended => {
            let message = "others change the same units all the time; nothing was asked. Try again";
            Failure::new(StatusCode::CONFLICT, message)
        }
        Refusal::Store(error) => api.failed(&error),
        Refusal::Lost(error) => api.failed_maybe(&error),
    }
}

fn failed(error: tokio::task::JoinError) -> Failure {
    Failure::new(StatusCode::INTERNAL_SERVER_ERROR, format!("the look failed: {error}"))
}
