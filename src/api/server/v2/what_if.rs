//! v2: where units would be if hosts were lost or added, or units started. Owns what may be supposed, how long a
//! request may take and how the answer is shown; `plan::whatif` finds it on a copy of the cluster, beside the runtime.
//! Changes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use tokio::time::Instant;

use crate::api::server::error::Failure;
use crate::api::server::extract::json_body;
use crate::api::server::state::Api;
use crate::api::server::views::machine_ref;
use crate::api::wire::{
    AddedHosts, Apply, MachineRef, SupposedGlobal, SupposedLoss, SupposedMove, SupposedWait, WhatIf, WhatIfRequest,
};
use crate::model::cluster::Cluster;
use crate::model::machine::{Machine, check_key};
use crate::model::name::{MachineId, UnitName};
use crate::plan::schedule::Scheduler;
use crate::plan::whatif::{Globals, Supposed, Wait, WhatIf as Found, what_if};
use crate::registry::drains;
use crate::store::Store;

use super::{apply, no_parameters};

/// So many hosts at most are added.
const ADDED: usize = 1_000;

/// So many losses at most are looked at, each alone.
const LOSSES: usize = 500;

/// So many units that move are told.
const MOVES: usize = 10_000;

/// It ends early when it has had its turn for so long: a request may take 5 s.
const SEARCH: Duration = Duration::from_secs(3);

pub(super) async fn post<S: Store>(
    State(api): State<Api<S>>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<WhatIf>, Failure> {
    no_parameters(&uri)?;
    let WhatIfRequest { lose, add, start, each } = json_body(&headers, &body, "what is supposed")?;
    let added = added(add)?;
    if each.len() > LOSSES {
        return Err(Failure::bad_request(format!("`each` has more than {LOSSES} losses: ask for fewer at once")));
    }
    let intents = apply::checked(&api, &Apply { units: start }).await?;
    // Each takes a copy of the cluster, and time of a processor.
    let turn = Arc::clone(&api.planning).lock_owned().await;
    let (now, brake, end) = (api.clock.now_ms(), api.settings.brake, Instant::now() + SEARCH);
    let each: Vec<BTreeSet<MachineId>> = each.into_iter().map(BTreeSet::from_iter).collect();
    let lost = lose.into_iter().collect();
    let work = move |scheduler: &mut Scheduler, submitted| {
        let supposed = Supposed { lost, added, submitted };
        let is_known = |host: &&MachineId| {
            let cluster = scheduler.cluster();
            cluster.machines.contains_key(*host) || cluster.roster.contains_key(*host)
        };
        let mut named = supposed.lost.iter().chain(each.iter().flatten());
        if let Some(unknown) = named.find(|host| !is_known(host)) {
            return (Err(Failure::bad_request(format!("no host {unknown} is known"))), turn);
        }
        let found = what_if(scheduler, &supposed, &each, now, &|| Instant::now() >= end);
        (Ok(Show::of(scheduler.cluster(), &found.0).view(found, &each)), turn)
    };
    let found = drains::supposed(&api.reader, api.clock, brake, &intents, work).await;
    let (view, _) = found.map_err(|why| api.not_tried(why))?;
    view.map(Json)
}

/// The metadata of each host to add.
fn added(add: Vec<AddedHosts>) -> Result<Vec<BTreeMap<String, String>>, Failure> {
    let mut all = Vec::new();
    for AddedHosts { count, metadata } in add {
        metadata.keys().try_for_each(|key| check_key(key)).map_err(Failure::bad_request)?;
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        if count > ADDED.saturating_sub(all.len()) {
            return Err(Failure::bad_request(format!("more than {ADDED} hosts are added")));
        }
        all.extend(std::iter::repeat_n(metadata, count));
    }
    Ok(all)
}

/// Shows what was found.
struct Show {
    /// The names of hosts.
    hosts: Cluster,
}

impl Show {
    /// With the names of hosts that are added.
    fn of(cluster: &Cluster, found: &Found) -> Self {
        let (mut machines, roster, revision) = (cluster.machines.clone(), cluster.roster.clone(), cluster.revision);
        machines.extend(found.joined.iter().map(|(id, name)| (id.clone(), Machine::new(id.clone(), name))));
        Self { hosts: Cluster { machines, roster, revision, ..Cluster::default() } }
    }

    fn view(&self, (found, losses): (Found, Vec<Found>), each: &[BTreeSet<MachineId>]) -> WhatIf {
        let moves = found.moves.iter().take(MOVES).map(|moved| SupposedMove {
            name: moved.unit.clone(),
            from: moved.from.as_ref().map(|host| self.host(host)),
            to: self.host(&moved.to),
            why: moved.why.clone(),
            after: Some(seconds(moved.after)).filter(|after| *after > 0),
        });
        WhatIf {
            revision: self.hosts.revision,
            added: found.joined.keys().rev().map(|host| self.host(host)).collect(),
            moves: moves.collect(),
            moves_left_out: found.moves.len().saturating_sub(MOVES),
            waits: self.waits(&found.waits),
            bound: self.waits(&found.bound),
            waited: self.waits(&found.waited),
            globals_lost: self.globals(&found.globals_lost),
            globals_gained: self.globals(&found.globals_gained),
            held: found.held.map(seconds),
            complete: found.is_complete,
            each: losses.iter().zip(each).map(|(found, lost)| self.loss(found, lost)).collect(),
        }
    }

    fn loss(&self, found: &Found, lost: &BTreeSet<MachineId>) -> SupposedLoss {
        SupposedLoss {
            machines: lost.iter().map(|host| self.host(host)).collect(),
            units: found.units_of(lost),
            moves: found.moves.len(),
            waits: self.waits(&found.waits),
            bound: self.waits(&found.bound),
            held: found.held.map(seconds),
            complete: found.is_complete,
        }
    }

    fn host(&self, host: &MachineId) -> MachineRef {
        machine_ref(&self.hosts, host)
    }

    fn waits(&self, waits: &[Wait]) -> Vec<SupposedWait> {
        let one = |Wait { unit, from, why }: &Wait| SupposedWait {
            name: unit.clone(),
            from: from.as_ref().map(|host| self.host(host)),
            why: why.clone(),
        };
        waits.iter().map(one).collect()
    }

    fn globals(&self, globals: &Globals) -> Vec<SupposedGlobal> {
        let one =
            |(host, unit): &(MachineId, UnitName)| SupposedGlobal { name: unit.clone(), machine: self.host(host) };
        globals.iter().map(one).collect()
    }
}

/// Of ms; a moment is a second.
fn seconds(ms: u64) -> u64 {
    ms.div_ceil(1000)
}
