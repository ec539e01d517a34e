//! The JSON of `/fleet/v2/services`. Types only.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::name::{MachineId, UnitName};
use crate::model::revision::Revision;
use crate::model::service::{Instance, InstanceName, ServiceName};

/// The weight of an instance if none is given.
pub const WEIGHT: u16 = 1;

/// How long an announcement lives without being renewed if no TTL is given, in seconds.
pub const TTL: u32 = 10;

/// One instance of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct InstanceView {
    /// The service's name.
    pub service: ServiceName,
    /// Its name among the service's instances.
    pub instance: InstanceName,
    /// Its address and everything else.
    #[serde(flatten)]
    pub is: Instance,
}

/// A service: `GET /fleet/v2/services/NAME`. It exists as long as an instance is announced.
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
    /// The store's revision that this shows.
    pub revision: Revision,
    /// Sorted by name.
    pub services: Vec<ServiceView>,
}

/// `PUT /fleet/v2/services/NAME/INSTANCE`: announce an instance, or continue its announcement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Announce {
    /// An IP address or a DNS name.
    pub address: String,
    /// From 1.
    #[cfg_attr(test, schemars(range(min = 1)))]
    pub port: u16,
    /// Its share of new connections relative to the others; 0 for none.
    #[serde(default = "weight")]
    #[cfg_attr(test, schemars(range(max = 256)))]
    pub weight: u16,
    /// The unit that it represents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<UnitName>,
    /// Arbitrary metadata.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// Identifies the announcer: one that returns with the same owner, for example after a crash, takes its
    /// announcement over. Any other is refused while the instance is announced.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub owner: String,
    /// Its time to live in seconds: it expires after this time without being renewed.
    #[serde(default = "ttl")]
    #[cfg_attr(test, schemars(range(min = 2, max = 3600)))]
    pub ttl: u32,
    /// The lease from the answer to an earlier announcement, which is continued.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<String>,
}

impl Announce {
    /// The instance as it is stored: announced by a host, since a time.
    #[must_use]
    pub fn instance(self, machine: Option<MachineId>, hostname: String, since: u64) -> Instance {
        let Self { address, port, weight, unit, metadata, owner, ttl, lease: _ } = self;
        let announcer = None;
        Instance { address, port, weight, unit, announcer, machine, hostname, metadata, owner, ttl, since }
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
    /// The lease to renew; a number, as text because it may be larger than some JSON parsers can represent.
    pub lease: String,
    /// Renew it within this number of seconds, which is at least the requested one.
    pub ttl: u32,
}

/// `POST /fleet/v2/services/NAME/INSTANCE/keep-alive`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct KeepAlive {
    /// The lease from the answer to the announcement.
    pub lease: String,
}

/// An instance by its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct InstanceRef {
    /// The service's name.
    pub service: ServiceName,
    /// The instance's name.
    pub instance: InstanceName,
}

/// One line of `GET /fleet/v2/watch/services[?name=GLOB…]` (NDJSON): first every instance, then `synced`, then the
/// changes. Empty lines are heartbeats.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum ServiceLine {
    /// The current state of an instance.
    Instance(Box<InstanceView>),
    /// An instance was withdrawn, or its announcement has expired.
    Gone(InstanceRef),
    /// Everything up to this revision has been sent.
    Synced(Revision),
    /// The stream ends for this reason; open another.
    Error(String),
}
