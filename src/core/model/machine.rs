//! Machines: the hosts of a cluster, as they register, and what the cluster remembers of them when they are gone.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::format::Format;
use super::name::MachineId;
use super::resources::{Kind, Resources};

/// `key=value` pairs that describe a host.
pub type Metadata = BTreeMap<String, String>;

/// What the names of built-in metadata begin with. Nobody can set such a name, so it never clashes with one of a user.
pub const BUILT_IN: char = '@';

/// Their names.
pub const BUILT_INS: [&str; 7] = ["@arch", CPUS, "@kernel", MEMORY, "@os", "@os-version", SYSTEMD];

/// How many CPUs are online.
pub const CPUS: &str = "@cpus";

/// The memory in MiB.
pub const MEMORY: &str = "@memory";

/// systemd's version on the host, without what its distribution adds: `255`.
pub const SYSTEMD: &str = "@systemd";

/// Whether `key` can be given to a host by a request.
///
/// # Errors
/// Why it can't.
pub fn check_key(key: &str) -> Result<(), String> {
    if key.starts_with(BUILT_IN) {
        return Err(format!("`{key}` can't be set: each host reports what begins with {BUILT_IN} by itself"));
    }
    let is_allowed = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    if key.is_empty() || !key.bytes().all(is_allowed) {
        return Err(format!("`{key}` is no key of metadata: it must consist of letters, digits, `_`, `.` and `-`"));
    }
    Ok(())
}

/// A registered host (`machine/<id>`; written by its agent, bound to its lease).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Its machine id.
    pub id: MachineId,
    /// Its address for other hosts; empty if none was found.
    pub ip: String,
    /// Its host name.
    pub hostname: String,
    /// Its static metadata. Dynamic metadata takes precedence.
    #[serde(default)]
    pub metadata: Metadata,
    /// What it reports of itself, under names that begin with [`BUILT_IN`]. Hosts of earlier versions report nothing.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub builtin: Metadata,
    /// What of its memory and CPU its configuration keeps from units.
    #[serde(default, skip_serializing_if = "Resources::is_none")]
    pub reserved: Resources,
    /// The version of its `fleetd`.
    pub version: String,
    /// `/proc/sys/kernel/random/boot_id`, which distinguishes a reboot from a restart.
    pub boot_id: String,
    /// Since when it has been registered without interruption, in ms since the epoch; 0 from daemons that didn't record
    /// it.
    #[serde(default)]
    pub since: u64,
    /// The newest format of the store that its `fleetd` reads and writes.
    #[serde(default)]
    pub format: Format,
    /// Whether its units have stopped and it is about to delete this record: it doesn't vanish, it leaves.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub leaving: bool,
}

impl Machine {
    /// A host of which only this is known.
    #[must_use]
    pub fn new(id: MachineId, hostname: impl Into<String>) -> Self {
        let (ip, metadata, builtin, reserved, version, boot_id, since, format) = Default::default();
        let (hostname, leaving) = (hostname.into(), false);
        Self { id, ip, hostname, metadata, builtin, reserved, version, boot_id, since, format, leaving }
    }

    /// How much it has of something, reserved or not; `None` if it doesn't report that.
    #[must_use]
    pub fn has(&self, kind: Kind) -> Option<u64> {
        let (name, of_one) = match kind {
            Kind::Memory => (MEMORY, 1 << 20),
            Kind::Cpu => (CPUS, 100),
        };
        Some(self.builtin.get(name)?.parse::<u64>().ok()?.saturating_mul(of_one))
    }

    /// The lowest format of this host and others: what all of them can read.
    #[must_use]
    pub fn lowest_format(&self, others: impl IntoIterator<Item = Format>) -> Format {
        others.into_iter().fold(self.format, Format::min)
    }
}

/// What the cluster remembers of a host (`roster/<id>`; written by the engine, kept when the host goes). Later versions
/// may add fields, which have defaults.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownHost {
    /// Its host name when it was last registered.
    pub hostname: String,
    /// Its address then.
    #[serde(default)]
    pub ip: String,
    /// The version of its `fleetd` then.
    #[serde(default)]
    pub version: String,
    /// Set while the host is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gone: Option<Gone>,
}

/// That a host is gone, and what became of its units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "testing", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Gone {
    /// When the leader saw that the host's lease had ended, in ms since the epoch.
    pub since: u64,
    /// How many of its units were placed on other hosts then,
    pub moved: u32,
    /// how many didn't fit on any other host,
    pub waiting: u32,
    /// and how many ended: global units, which run on every other host anyway, and units that were to be removed.
    pub ended: u32,
    /// How many stayed assigned to it, because they wait for it (`MoveAfterSec=`).
    #[serde(skip_serializing_if = "super::unit::is_zero")]
    pub kept: u32,
    /// Set while its units stay assigned to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held: Option<Held>,
}

/// That the units of a host that is gone aren't moved yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "testing", derive(schemars::JsonSchema))]
pub struct Held {
    /// Until when, in ms since the epoch.
    pub until: u64,
    /// Whether it vanished together with so many other hosts that the store or the network may have failed instead.
    /// Otherwise it isn't known yet whether others follow.
    pub mass_loss: bool,
}

impl KnownHost {
    /// The record of a host that is registered.
    #[must_use]
    pub fn present(machine: &Machine) -> Self {
        let Machine { hostname, ip, version, .. } = machine.clone();
        Self { hostname, ip, version, gone: None }
    }
}
