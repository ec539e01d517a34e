//! Spells and reads keys, and reads what stands under them. Nothing else in the source knows how a key looks.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::cluster::{Change, Versioned};
use crate::model::file::UnitFile;
use crate::model::name::{MachineId, UnitHash, UnitName};
use crate::model::placement::Constraints;
use crate::model::service::{InstanceName, ServiceName};
use crate::store::{Event, Kv};

use super::{Corrupt, decode};

/// All unit records.
pub const UNITS: &str = "unit/";
/// All unit files.
pub const FILES: &str = "file/";
/// All hosts that are alive.
pub const MACHINES: &str = "machine/";
/// All dynamic metadata.
pub const METADATA: &str = "metadata/";
/// All placements.
pub const PLACEMENTS: &str = "placement/";
/// All slices.
pub const SCHEDULE: &str = "schedule/";
/// All reports of hosts.
pub const STATES: &str = "state/";

/// All services.
pub const SERVICES: &str = "service/";

/// A key, by what it names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// `unit/<name>`: [`crate::model::unit::Unit`].
    Unit(UnitName),
    /// `file/<hash>`: [`FileRecord`].
    File(UnitHash),
    /// `machine/<id>`: [`crate::model::machine::Machine`].
    Machine(MachineId),
    /// `metadata/<id>/<key>`: a string; an empty one hides static metadata.
    Metadata(MachineId, String),
    /// `placement/<unit>`: [`crate::model::unit::Placement`].
    Placement(UnitName),
    /// `schedule/<host>/<unit>`: [`crate::model::unit::Assignment`].
    Schedule(MachineId, UnitName),
    /// `state/<unit>/<host>`: [`crate::model::unit::UnitReport`].
    State(UnitName, MachineId),
    /// `service/<name>/<instance>`: [`crate::model::service::Instance`].
    Service(ServiceName, InstanceName),
    /// `leader`: [`LeaderRecord`].
    Leader,
}

/// A unit file in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRecord {
    /// The text as it was submitted last with this meaning.
    pub text: String,
}

/// Who leads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaderRecord {
    /// The host whose engine leads,
    pub machine: MachineId,
    /// its name,
    #[serde(default)]
    pub hostname: String,
    /// and its address: two hosts may have one machine id.
    #[serde(default)]
    pub ip: String,
    /// Since when, ms since the epoch.
    pub since: u64,
}

/// The prefix of one host's assignments.
#[must_use]
pub fn assignments_of(host: &MachineId) -> String {
    format!("{SCHEDULE}{host}/")
}

/// The prefix of all instances of one service.
#[must_use]
pub fn instances_of(service: &ServiceName) -> String {
    format!("{SERVICES}{service}/")
}

/// The prefix of all reports of one unit.
#[must_use]
pub fn states_of(unit: &UnitName) -> String {
    format!("{STATES}{unit}/")
}

/// The prefix of all dynamic metadata of one host.
#[must_use]
pub fn metadata_of(host: &MachineId) -> String {
    format!("{METADATA}{host}/")
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unit(name) => write!(f, "{UNITS}{name}"),
            Self::File(hash) => write!(f, "{FILES}{hash}"),
            Self::Machine(id) => write!(f, "{MACHINES}{id}"),
            Self::Metadata(id, key) => write!(f, "{METADATA}{id}/{key}"),
            Self::Placement(name) => write!(f, "{PLACEMENTS}{name}"),
            Self::Schedule(host, name) => write!(f, "{SCHEDULE}{host}/{name}"),
            Self::State(name, host) => write!(f, "{STATES}{name}/{host}"),
            Self::Service(name, instance) => write!(f, "{SERVICES}{name}/{instance}"),
            Self::Leader => f.write_str("leader"),
        }
    }
}

impl Key {
    /// Its length in bytes.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "no key is empty")]
    pub fn len(&self) -> usize {
        self.to_string().len()
    }

    /// Read a key.
    ///
    /// # Errors
    /// [`Corrupt`] for one that isn't ours.
    pub fn parse(key: &str) -> Result<Self, Corrupt> {
        let corrupt = |why: &dyn fmt::Display| Corrupt { key: key.into(), why: why.to_string() };
        let name = |text: &str| text.parse::<UnitName>().map_err(|error| corrupt(&error));
        let id = |text: &str| text.parse::<MachineId>().map_err(|error| corrupt(&error));
        if key == "leader" {
            return Ok(Self::Leader);
        }
        let (family, rest) = key.split_once('/').ok_or_else(|| corrupt(&"no such family of keys"))?;
        let pair = || rest.split_once('/').ok_or_else(|| corrupt(&"half of the key is missing"));
        Ok(match family {
            "unit" => Self::Unit(name(rest)?),
            "file" if rest.len() == 40 && rest.bytes().all(|b| b.is_ascii_hexdigit()) => {
                Self::File(UnitHash::new(rest))
            }
            "file" => return Err(corrupt(&"a file's key must be a SHA-1")),
            "machine" => Self::Machine(id(rest)?),
            "metadata" => pair().and_then(|(host, key)| Ok(Self::Metadata(id(host)?, key.into())))?,
            "placement" => Self::Placement(name(rest)?),
            "schedule" => pair().and_then(|(host, unit)| Ok(Self::Schedule(id(host)?, name(unit)?)))?,
            "service" => pair().and_then(|(name, instance)| {
                let name = name.parse().map_err(|error| corrupt(&error))?;
                Ok(Self::Service(name, instance.parse().map_err(|error| corrupt(&error))?))
            })?,
            "state" => pair().and_then(|(unit, host)| Ok(Self::State(name(unit)?, id(host)?)))?,
            _ => return Err(corrupt(&"no such family of keys")),
        })
    }
}

/// What an event of the store means for a cluster; `None` for keys that a cluster doesn't hold.
///
/// # Errors
/// [`Corrupt`] for keys that aren't ours and values that aren't the record they should be.
pub fn change(event: &Event) -> Result<Option<Change>, Corrupt> {
    match event {
        Event::Put(kv) => changed(kv),
        Event::Delete(key) => Ok(match Key::parse(key)? {
            Key::Unit(name) => Some(Change::Unit(name, None)),
            Key::File(hash) => Some(Change::File(hash, None)),
            Key::Machine(id) => Some(Change::Machine(id, None)),
            Key::Metadata(id, key) => Some(Change::Metadata(id, key, None)),
            Key::Placement(name) => Some(Change::Placement(name, None)),
            Key::Schedule(host, name) => Some(Change::Assignment(host, name, None)),
            Key::State(name, host) => Some(Change::Report(name, host, None)),
            // Services are no part of a cluster's plan.
            Key::Service(..) | Key::Leader => None,
        }),
    }
}

fn changed(kv: &Kv) -> Result<Option<Change>, Corrupt> {
    let revision = kv.revision;
    Ok(match Key::parse(&kv.key)? {
        Key::Unit(name) => Some(Change::Unit(name, Some(decode(kv)?))),
        Key::File(hash) => {
            let value = Arc::new(constraints(&decode::<FileRecord>(kv)?, &kv.key)?);
            Some(Change::File(hash, Some(Versioned { value, revision })))
        }
        Key::Machine(id) => Some(Change::Machine(id, Some(decode(kv)?))),
        Key::Metadata(id, key) => Some(Change::Metadata(id, key, Some(decode(kv)?))),
        Key::Placement(name) => Some(Change::Placement(name, Some(Versioned { value: decode(kv)?, revision }))),
        Key::Schedule(host, name) => {
            Some(Change::Assignment(host, name, Some(Versioned { value: decode(kv)?, revision })))
        }
        Key::State(name, host) => Some(Change::Report(name, host, Some(decode(kv)?))),
        Key::Service(..) | Key::Leader => None,
    })
}

/// A file of which only the constraints are kept. It was checked when it was submitted, so a problem means damage.
fn constraints(record: &FileRecord, key: &str) -> Result<Constraints, Corrupt> {
    let corrupt = |why: String| Corrupt { key: key.into(), why };
    let file = UnitFile::parse(record.text.as_bytes()).map_err(|error| corrupt(error.to_string()))?;
    Constraints::parse(&file)
        .map_err(|problems| corrupt(problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_read_back() {
        let name: UnitName = "web@1.service".parse().unwrap();
        let id: MachineId = "3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a".parse().unwrap();
        let keys = [
            Key::Unit(name.clone()),
            Key::File(UnitHash::new("3750b3e9f3962a56c7582929426e9abb012754cf")),
            Key::Machine(id.clone()),
            Key::Metadata(id.clone(), "zone".into()),
            Key::Placement(name.clone()),
            Key::Schedule(id.clone(), name.clone()),
            Key::State(name, id),
            Key::Service("web".parse().unwrap(), "web-1.n1".parse().unwrap()),
            Key::Leader,
        ];
        for key in keys {
            assert_eq!(Key::parse(&key.to_string()), Ok(key));
        }
    }

    #[test]
    fn foreign_keys_are_corrupt() {
        for key in [
            "x",
            "unit/",
            "unit/a b",
            "file/12",
            "state/a.service",
            "schedule/n1/a.service",
            "service/a",
            "service/a/B",
            "other/a",
        ] {
            assert_eq!(Key::parse(key).unwrap_err().key, key);
        }
        let kv = Kv { key: "unit/a.service".into(), value: b"{".to_vec(), revision: Default::default(), lease: None };
        assert!(change(&Event::Put(kv)).is_err());
    }
}
