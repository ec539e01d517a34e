//! The JSON of `/fleet/v2/store`: how the members of the store are, and the `fleetd` that answers. Types only.

use serde::{Deserialize, Serialize};

/// v2: the store, as the host that answers reaches it. `GET /fleet/v2/store` answers it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct StoreView {
    /// The members of etcd, in the order of `etcd_servers`; none if the host is standalone.
    pub members: Vec<StoreMemberView>,
    /// The `fleetd` that answers; missing if it has an older version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub daemon: Option<DaemonView>,
}

/// v2: what a `fleetd` says of itself, also if it isn't registered with its cluster, which can't know it then.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct DaemonView {
    /// The name of its host.
    pub hostname: String,
    /// Why it isn't registered; missing if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits: Option<DaemonWait>,
    /// How many files it has open; 0 if unknown.
    #[serde(default)]
    pub open_files: u64,
    /// How many it may have open (`LimitNOFILE=`); missing if there is no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_files_limit: Option<u64>,
}

/// v2: why a `fleetd` isn't registered with its cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct DaemonWait {
    /// What it waits for.
    pub r#for: WaitKind,
    /// Why. Completes the sentence `fleetd on HOST …`.
    pub why: String,
    /// Since when, in ms since the epoch.
    pub since: u64,
}

/// v2: what a `fleetd` waits for. Later versions may have more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum WaitKind {
    /// A moment: it is starting.
    Start,
    /// The store.
    Store,
    /// systemd on its host.
    Systemd,
    /// A machine id of its own: another live host has the same.
    MachineId,
    /// Something else.
    #[serde(other)]
    Other,
}

/// v2: a member of etcd at one of the addresses at which the host reaches it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct StoreMemberView {
    /// `host:port`.
    pub address: String,
    /// Its id in hexadecimal digits, as etcdctl prints it; empty if it doesn't answer.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// Its version; empty if it doesn't answer.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// Whether it leads.
    #[serde(default)]
    pub leads: bool,
    /// How large its database is on its disk, in bytes.
    #[serde(default)]
    pub size: u64,
    /// How much of that is in use, in bytes.
    #[serde(default)]
    pub in_use: u64,
    /// How large its database may get, in bytes; missing if it doesn't say so (etcd before 3.6).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<u64>,
    /// The alarms that are set, also those of other members.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alarms: Vec<StoreAlarm>,
    /// Why it can't be asked; missing if it answers. Completes the sentence `etcd at ADDRESS …`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// v2: something that a member of etcd says is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct StoreAlarm {
    /// `no-space` or `corrupt`; `other` for everything else.
    pub kind: AlarmKind,
    /// The id of the member that it is about, in hexadecimal digits; empty if it is the one that says so.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub member: String,
    /// What the member says.
    pub text: String,
}

/// v2: what is wrong with a member of etcd. Later versions may have more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum AlarmKind {
    /// The database has reached its quota: nothing can be written until somebody makes room and disarms the alarm.
    NoSpace,
    /// The database differs from that of other members.
    Corrupt,
    /// Something else.
    #[serde(other)]
    Other,
}
