//! The JSON of `/fleet/v2/reboots`. Types only.

use serde::{Deserialize, Serialize};

use crate::model::author::Author;
use crate::model::name::MachineId;
use crate::model::reboot::Group;

use super::machines::MachineRef;

/// v2: `GET /fleet/v2/reboots`: hosts that are to reboot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RebootList {
    /// By group: those that have a slot first, then those that wait, in their order.
    pub reboots: Vec<RebootView>,
}

/// v2: a host that is to reboot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RebootView {
    /// The host.
    pub machine: MachineRef,
    /// The hosts with which it shares slots.
    pub group: Group,
    /// How far it has got.
    pub stage: RebootStage,
    /// Since when it has its slot, or waits, in ms since the epoch.
    pub since: u64,
    /// Set if it isn't registered: since when, in ms since the epoch; 0 if that is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gone: Option<u64>,
    /// Why, in the words of whoever asked.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// Who asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Box<Author>>,
    /// Set if a program on the host has asked, which reboots it: how it calls its host.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub program: String,
    /// Why it can't go on, if it can't.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub error: String,
}

/// v2: how far the reboot of a host has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum RebootStage {
    /// It waits for a slot.
    Waits,
    /// It has a slot, and its units leave; or it is about to go down.
    Leaves,
    /// It has a slot, and isn't registered.
    Away,
    /// It has rebooted, and its units come back.
    Returns,
}

/// v2: hosts are to reboot, one after the other: all or none. The body of `POST /fleet/v2/reboots`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct AskReboots {
    /// The machine ids of the hosts, which must be registered, in the order in which they are to reboot.
    pub hosts: Vec<MachineId>,
    /// Why, for people: at most 256 bytes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// How many units that belong to no set may be on their way at once; otherwise 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallel: Option<u32>,
    /// After so many seconds, no budget counts any more; otherwise an hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<u64>,
    /// Whether units are stopped that no other host fits.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
}

/// v2: which hosts are to reboot that weren't before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct AskedReboots {
    /// Those, sorted by id.
    pub hosts: Vec<MachineId>,
}
