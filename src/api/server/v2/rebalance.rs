//! v2: which units would be better on other hosts. Owns what is asked, and how it is shown; `plan::rebalance` finds
//! them. Changes nothing.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use tokio::time::Instant;

use crate::api::server::error::Failure;
use crate::api::server::extract::query;
use crate::api::server::state::Api;
use crate::api::server::views::machine_ref;
use crate::api::wire::{BetterHost, HostUnits, RebalanceView};
use crate::model::cluster::Cluster;
use crate::plan::rebalance::{Rebalance, Relocation};
use crate::registry::drains;
use crate::store::Store;

use super::globs;

/// How many moves are shown if nothing is said of it.
const MOVES: usize = 10;

/// The search ends when it has had its turn for so long: a request may take 5 s.
const SEARCH: Duration = Duration::from_secs(3);

pub(super) async fn get<S: Store>(State(api): State<Api<S>>, uri: Uri) -> Result<Json<RebalanceView>, Failure> {
    let (limits, names): (Vec<_>, Vec<_>) = query(&uri)?.into_iter().partition(|(key, _)| key == "max_moves");
    let only = globs(names, "; `name` and `max_moves` are known")?;
    let limit = match &limits[..] {
        [] => Ok(MOVES),
        [(_, value)] => value.parse().map_err(|_| Failure::bad_request("`max_moves` is a number")),
        _ => Err(Failure::bad_request("`max_moves` is given once")),
    }?;
    // It takes a copy of the cluster, and time of a processor.
    let turn = Arc::clone(&api.planning).lock_owned().await;
    let end = Instant::now() + SEARCH;
    let show = move |cluster: &Cluster, found: Rebalance| (view(cluster, found), turn).0;
    let view = drains::better(&api.reader, api.clock, only, limit, move || Instant::now() >= end, show)
        .await
        .map_err(|error| api.failed(&error))?;
    Ok(Json(view))
}

fn view(cluster: &Cluster, found: Rebalance) -> RebalanceView {
    let Rebalance { moves, all, ended_early, hosts } = found;
    let better = |Relocation { group, from, to, gain }: Relocation| {
        let (from, to) = (machine_ref(cluster, &from), machine_ref(cluster, &to));
        BetterHost { units: group, from, to, why: gain.to_string() }
    };
    let units = |(host, (now, then))| HostUnits { machine: machine_ref(cluster, &host), now, then };
    let (moves, hosts) = (moves.into_iter().map(better).collect(), hosts.into_iter().map(units).collect());
    RebalanceView { moves, all, ended_early, hosts }
}
