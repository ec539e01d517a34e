//! The JSON of `/fleet/v2/machines`, and how other answers name a host. Types only.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::machine::Gone;
use crate::model::maintenance::{Cordon, Drain};
use crate::model::name::MachineId;

/// v2: a host, as far as tables need it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct MachineRef {
    /// Its machine id.
    pub id: MachineId,
    /// Its address; empty if it is unknown or the host is dead.
    #[serde(default)]
    pub ip: String,
    /// Its host name; empty if it is unknown or the host is dead.
    #[serde(default)]
    pub hostname: String,
}

impl MachineRef {
    /// What people call the host: its name, otherwise its address, otherwise the beginning of its id.
    #[must_use]
    pub fn name(&self) -> String {
        [&self.hostname, &self.ip]
            .into_iter()
            .find(|name| !name.is_empty())
            .map_or_else(|| self.id.short().to_owned(), Clone::clone)
    }

    /// Whether the host isn't registered.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        self.hostname.is_empty() && self.ip.is_empty()
    }

    /// `3ec325e8.../10.88.0.13`, as CoreOS fleet shows a host; `full` shows the complete id. Without an address, only
    /// the id.
    #[must_use]
    pub fn legend(&self, full: bool) -> String {
        let (id, cut) = if full { (self.id.as_str(), "") } else { (self.id.short(), "...") };
        let slash = if self.ip.is_empty() { "" } else { "/" };
        [id, cut, slash, &self.ip].concat()
    }
}

/// v2: a host. `GET /fleet/v2/machines` answers `{"machines":[…]}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct MachineView {
    /// Its machine id.
    pub id: MachineId,
    /// Its address.
    pub ip: String,
    /// Its host name.
    pub hostname: String,
    /// Its metadata; dynamic values take precedence over static ones.
    pub metadata: BTreeMap<String, String>,
    /// What it reports of itself, by names that begin with `@`. Hosts that are gone, and those of earlier versions,
    /// have none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub builtin: BTreeMap<String, String>,
    /// The version of its `fleetd`.
    pub version: String,
    /// Since when it has been registered without interruption, in ms since the epoch; 0 if that is unknown.
    #[serde(default)]
    pub since: u64,
    /// Set if the host is gone: the rest is as it was then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gone: Option<Gone>,
    /// Set while no new unit is placed on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cordon: Option<Cordon>,
    /// Set while it is drained: units leave it, and no new one is placed on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<Box<Drain>>,
}

impl MachineView {
    /// Why no new unit is placed on it, as a sentence, and since when; the drain, if it is both.
    #[must_use]
    pub fn closed(&self) -> Option<(String, u64)> {
        let drained = self.drain.as_ref().map(|drain| (drain.to_string(), drain.since));
        drained.or_else(|| self.cordon.as_ref().map(|cordon| (cordon.to_string(), cordon.since)))
    }

    /// What people call the host, as in [`MachineRef::name`].
    #[must_use]
    pub fn name(&self) -> String {
        let Self { id, ip, hostname, .. } = self;
        MachineRef { id: id.clone(), ip: ip.clone(), hostname: hostname.clone() }.name()
    }
}

/// v2: all hosts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct MachineList {
    /// The host whose `fleetd` answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub here: Option<MachineId>,
    /// The hosts that are alive, sorted by id.
    pub machines: Vec<MachineView>,
    /// The hosts that are gone and weren't forgotten, sorted by id.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gone: Vec<MachineView>,
    /// Only with `offline=true`: this is what one host knows, and not what the cluster has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offline: Option<Box<Offline>>,
}

/// v2: something is asked of hosts: all or none. The body of `POST /fleet/v2/machines`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct AskHosts {
    /// What is asked.
    pub ask: HostAsk,
    /// The machine ids of the hosts, registered or remembered.
    pub hosts: Vec<MachineId>,
    /// Why, for people: at most 256 bytes. Without a reason, a host that is cordoned already keeps the one that it has.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// How a host is drained, or what was drained is brought back.
    #[serde(flatten)]
    pub options: DrainOptions,
}

/// v2: how a host is drained, or what was drained is brought back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct DrainOptions {
    /// How many units that belong to no set may be on their way at once; otherwise 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallel: Option<u32>,
    /// After so many seconds, no budget counts any more; otherwise an hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<u64>,
    /// Whether global units leave too, when nothing else is left.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub globals: bool,
    /// Whether units leave that no other host fits.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
    /// Whether the units that left come back, as far as they fit; of a host that is drained no longer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub restore: bool,
}

/// v2: what can be asked of hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum HostAsk {
    /// No new unit is to be placed there.
    Cordon,
    /// New units may be placed there again.
    Uncordon,
    /// Units are to leave, and no new one is to be placed there.
    Drain,
    /// Units needn't leave any more.
    Undrain,
}

/// v2: what is asked of hosts from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct AskedHosts {
    /// The hosts of the request, sorted by id.
    pub hosts: Vec<AskedHost>,
}

/// v2: what is asked of a host from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct AskedHost {
    /// Its machine id.
    pub id: MachineId,
    /// Whether this is something else than before.
    pub changed: bool,
    /// Set while no new unit is placed on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cordon: Option<Cordon>,
    /// Set while units leave it, and no new one is placed on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<Box<Drain>>,
}

/// v2: the mark of an answer that was given without the store. Without `seen`, it is what one host knows by itself: the
/// unit files that it has installed, the assignments that it has carried out, and the states that its systemd reports;
/// `generation` and `desired` of a unit are those that the host has carried out last. With `seen`, it is the whole
/// cluster as the host's `fleetd` saw it last, with the present states of the units on the host itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Offline {
    /// The host.
    pub host: MachineRef,
    /// When it was asked, in ms since the epoch: the states of its own units are as of then.
    pub at: u64,
    /// Since when it has not reached the store, in ms since the epoch; missing if it reaches the store, or never has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
    /// If this is about the whole cluster: when it was seen last, in ms since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<u64>,
    /// The host that led the cluster when this one reached the store last, if that is known. It may know more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<MachineRef>,
}
