//! v2: how much memory and CPU units take of each host. Owns how the sums of `plan::fit` are shown.

use axum::Json;
use axum::extract::State;
use axum::http::Uri;

use crate::api::server::error::Failure;
use crate::api::server::state::Api;
use crate::api::wire::{Amount, HostResources, ResourceList};
use crate::model::cluster::Cluster;
use crate::model::name::MachineId;
use crate::model::resources::Kind;
use crate::plan::fit::resources::{offered, taken_on};
use crate::store::Store;

use super::{fits, no_parameters};

pub(super) async fn list<S: Store>(State(api): State<Api<S>>, uri: Uri) -> Result<Json<ResourceList>, Failure> {
    no_parameters(&uri)?;
    let cluster = fits::whole(&api).await.map_err(|error| api.failed(&error))?;
    Ok(Json(ResourceList { hosts: cluster.machines.keys().map(|host| of_host(&cluster, host)).collect() }))
}

fn of_host(cluster: &Cluster, host: &MachineId) -> HostResources {
    let taken = taken_on(cluster, host);
    let amount = |kind: Kind| Amount {
        has: cluster.machines.get(host).and_then(|machine| machine.has(kind)),
        reserved: cluster.machines.get(host).map_or(0, |machine| machine.reserved.of(kind)),
        offered: offered(cluster, host, kind),
        taken: taken.amount.of(kind),
    };
    HostResources { id: host.clone(), memory: amount(Kind::Memory), cpu: amount(Kind::Cpu), units: taken.units }
}
