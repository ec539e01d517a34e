//! Formats and parses keys. No other code knows how a key is spelled; what is stored under it is defined by its family
//! in [`records`].

use std::collections::BTreeSet;
use std::fmt;

use crate::model::cluster::{Change, Cluster};
use crate::model::format::ReportKeyForm;
use crate::model::name::{MachineId, UnitHash, UnitName};
use crate::model::reboot::Group;
use crate::model::service::{InstanceName, ServiceName};
use crate::store::{Event, Kv};

use super::Corrupt;
use super::records::report::ReportKey;
use super::records::{self, Family, Names as _};

/// From the table of families: a constant for each prefix, and [`Key`] with how it is formatted, parsed and decoded.
macro_rules! families {
    ($($(#[$doc:meta])+ $variant:ident $(($($field:ident: $type:ty),+))?, $prefix:ident, $module:ident;)+) => {
        $(
            #[doc = concat!("What the keys of [`Key::", stringify!($variant), "`] begin with.")]
            pub const $prefix: &str = records::prefix(<records::$module::Records as Family>::PATTERN);
        )+

        /// A key, by what it names.
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Key {
            $($(#[$doc])+ $variant $(($($type),+))?,)+
        }

        impl fmt::Display for Key {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$variant $(($($field),+))? => spell(f, $prefix, &[$($($field),+)?]),)+
                }
            }
        }

        impl Key {
            /// Parse a key.
            ///
            /// # Errors
            /// [`Corrupt`] if it belongs to no family.
            pub fn parse(key: &str) -> Result<Self, Corrupt> {
                let corrupt = |why: String| Corrupt { key: key.into(), why };
                $(
                    if let Some(rest) = key.strip_prefix($prefix) {
                        let ($($($field,)+)?) =
                            <records::$module::Records as Family>::Names::read(rest).map_err(corrupt)?;
                        return Ok(Self::$variant $(($($field),+))?);
                    }
                )+
                Err(corrupt(records::UNKNOWN_FAMILY.into()))
            }
        }

        /// What `record`, or its absence, under `key` means for a cluster.
        fn meaning(key: &str, record: Option<&Kv>) -> Result<Option<Change>, Corrupt> {
            match Key::parse(key)? {
                $(Key::$variant $(($($field),+))? => {
                    records::meaning::<records::$module::Records>(key, ($($($field,)+)?), record)
                })+
            }
        }

        /// The families, for the test that iterates over them.
        #[cfg(test)]
        pub(super) fn table() -> Vec<records::tests::Row> {
            vec![$(records::tests::Row::of::<records::$module::Records>()),+]
        }
    };
}

families! {
    /// [`crate::model::unit::Unit`].
    Unit(name: UnitName), UNITS, unit;
    /// [`records::file::FileRecord`].
    File(hash: UnitHash), FILES, file;
    /// [`crate::model::history::History`].
    History(unit: UnitName), HISTORIES, history;
    /// [`crate::model::machine::Machine`].
    Machine(id: MachineId), MACHINES, machine;
    /// [`crate::model::machine::KnownHost`].
    Roster(id: MachineId), ROSTER, roster;
    /// A string.
    Metadata(id: MachineId, key: String), METADATA, metadata;
    /// [`crate::model::maintenance::Maintenance`].
    Host(id: MachineId), HOSTS, host;
    /// [`crate::model::reboot::Reboots`].
    Reboots(group: Group), REBOOTS, reboots;
    /// [`crate::model::unit::Placement`].
    Placement(unit: UnitName), PLACEMENTS, placement;
    /// [`crate::model::rollout::Gate`].
    Gate(unit: UnitName), GATES, gate;
    /// [`crate::model::rollout::Rollout`].
    Rollout(name: UnitName), ROLLOUTS, rollout;
    /// [`crate::model::unit::Assignment`].
    Schedule(host: MachineId, unit: UnitName), SCHEDULE, assignment;
    /// [`crate::model::unit::UnitReport`].
    State(key: ReportKey), STATES, report;
    /// [`crate::model::service::Instance`].
    Service(service: ServiceName, instance: InstanceName), SERVICES, service;
    /// [`crate::model::settings::Settings`].
    Cluster, SETTINGS, settings;
    /// [`records::leader::LeaderRecord`].
    Leader, LEADER, leader;
}

impl Key {
    /// The key of a host's report of a unit, spelled in this form.
    #[must_use]
    pub fn state(host: &MachineId, unit: &UnitName, form: ReportKeyForm) -> Self {
        Self::State(ReportKey { host: host.clone(), unit: unit.clone(), form })
    }

    /// The same in every form: a host writes one of them, and readers look at all.
    pub fn states(host: &MachineId, unit: &UnitName) -> impl Iterator<Item = Self> {
        let (host, unit) = (host.clone(), unit.clone());
        ReportKeyForm::ALL.into_iter().map(move |form| Self::state(&host, &unit, form))
    }

    /// Its length in bytes.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "no key is empty")]
    pub fn len(&self) -> usize {
        self.to_string().len()
    }
}

/// The prefix of one host's assignments.
#[must_use]
pub fn assignments_of(host: &MachineId) -> String {
    format!("{SCHEDULE}{host}/")
}

/// The prefix of one host's reports, in the current form of their keys.
#[must_use]
pub fn states_of(host: &MachineId) -> String {
    format!("{STATES}{host}/")
}

/// The prefix of all instances of one service.
#[must_use]
pub fn instances_of(service: &ServiceName) -> String {
    format!("{SERVICES}{service}/")
}

/// The prefix of all dynamic metadata of one host.
#[must_use]
pub fn metadata_of(host: &MachineId) -> String {
    format!("{METADATA}{host}/")
}

/// What an event of the store means for a cluster; `None` for keys that a cluster doesn't hold.
///
/// # Errors
/// [`Corrupt`] for keys of no family and for values that can't be decoded.
pub fn change(event: &Event) -> Result<Option<Change>, Corrupt> {
    match event {
        Event::Put(kv) => meaning(&kv.key, Some(kv)),
        Event::Delete(key) => meaning(key, None),
    }
}

/// The keys of the rollouts that units of `cluster` wait for behind their gates.
#[must_use]
pub fn rollouts_of(cluster: &Cluster) -> BTreeSet<Key> {
    cluster.gates.values().map(|gate| Key::Rollout(gate.value.rollout.clone())).collect()
}

fn spell(f: &mut fmt::Formatter<'_>, prefix: &str, names: &[&dyn fmt::Display]) -> fmt::Result {
    f.write_str(prefix)?;
    for (at, name) in names.iter().enumerate() {
        let slash = if at > 0 { "/" } else { "" };
        write!(f, "{slash}{name}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_keys_are_corrupt() {
        for key in [
            "",
            "x",
            "leaders",
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
