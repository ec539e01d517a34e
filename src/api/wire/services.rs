//! The JSON of `/fleet/v2/services`. Types only.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::name::{MachineId, UnitName};
use crate::model::revision::Revision;
use crate::model::service::{Instance, InstanceName, ServiceName};

/// The weight of an instance that says nothing.
pub const WEIGHT: u16 = 1;

/// How long an announcement lives without being renewed, in seconds, if it says nothing.
pub const TTL: u32 = 10;

/// One instance of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct InstanceView {
    /// Of which service.
    pub service: ServiceName,
    /// Its name among the service's instances.
    pub instance: InstanceName,
    /// Where it is, and all the rest.
    #[serde(flatten)]
    pub is: Instance,
}

/// A service: `GET /fleet/v2/services/NAME`. There is one as long as an instance is announced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ServiceView {
    /// Its name.
    pub name: ServiceName,
    /// Sorted by name.
    pub instances: Vec<InstanceView>,
}

/// `GET /fleet/v2/services[?name=GLOB…]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ServiceList {
    /// The store's revision this shows.
    pub revision: Revision,
    /// Sorted by name.
    pub services: Vec<ServiceView>,
}

/// `PUT /fleet/v2/services/NAME/INSTANCE`: announce an instance, or go on with its announcement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Announce {
    /// An IP address or a DNS name.
    pub address: String,
    /// From 1.
    #[cfg_attr(test, schemars(range(min = 1)))]
    pub port: u16,
    /// Its share of new connections against the others'; 0 for none.
    #[serde(default = "weight")]
    #[cfg_attr(test, schemars(range(max = 256)))]
    pub weight: u16,
    /// The unit it stands for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<UnitName>,
    /// Whatever else.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// Who announces: an announcer that comes back under the same one, after a crash say, takes its announcement over.
    /// Any other is refused while the instance is announced.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub owner: String,
    /// Seconds without renewal after which it vanishes.
    #[serde(default = "ttl")]
    #[cfg_attr(test, schemars(range(min = 2, max = 3600)))]
    pub ttl: u32,
    /// What an earlier announcement was answered with: this goes on with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<String>,
}

impl Announce {
    /// What is announced: by a host, since then.
    #[must_use]
    pub fn instance(self, machine: Option<MachineId>, hostname: String, since: u64) -> Instance {
        let Self { address, port, weight, unit, metadata, owner, ttl, lease: _ } = self;
        Instance { address, port, weight, unit, machine, hostname, metadata, owner, ttl, since }
    }
}

fn weight() -> u16 {
    WEIGHT
}

fn ttl() -> u32 {
    TTL
}

/// The answer to an [`Announce`] or a [`KeepAlive`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Announced {
    /// What to renew; a number, as text because it may be larger than some readers of JSON can hold.
    pub lease: String,
    /// Within so many seconds: at least those asked for.
    pub ttl: u32,
}

/// `POST /fleet/v2/services/NAME/INSTANCE/keep-alive`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct KeepAlive {
    /// What the announcement was answered with.
    pub lease: String,
}

/// An instance by its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct InstanceRef {
    /// Of which service.
    pub service: ServiceName,
    /// Which.
    pub instance: InstanceName,
}

/// One line of `GET /fleet/v2/watch/services[?name=GLOB…]` (NDJSON): first every instance as it is, then `synced`, then
/// what changes. Empty lines say that the stream lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum ServiceLine {
    /// An instance as it is now.
    Instance(Box<InstanceView>),
    /// An instance was withdrawn, or its announcer has died.
    Gone(InstanceRef),
    /// Everything up to this revision has been told.
    Synced(Revision),
    /// The stream ends because of this; open another.
    Error(String),
}
