//! `leader`: the host whose engine leads. A single key, bound to that host's lease.

use serde::{Deserialize, Serialize};

use crate::model::cluster::{Change, Versioned};
use crate::model::format::Format;
use crate::model::name::MachineId;

#[cfg(test)]
use super::tests::Form;
use super::{Family, Writer};

/// The family, which has one key.
pub enum Records {}

/// The leader.
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
    /// The format of the store that every host writes: the lowest one of all registered hosts.
    #[serde(default)]
    pub format: Format,
}

impl Family for Records {
    const PATTERN: &'static str = "leader";
    const WRITER: Writer = Writer::Engine;
    type Names = ();
    type Record = LeaderRecord;

    #[cfg(test)]
    const FORMS: &'static [Form] = &[
        Form::today(
            "leader",
            r#"{"machine":"3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a","hostname":"n1","ip":"10.0.0.1","since":5,"format":2}"#,
        ),
        Form::old(
            "leader",
            r#"{"machine":"3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a","since":5}"#,
            r#"{"machine":"3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a","hostname":"","ip":"","since":5,"format":1}"#,
        ),
    ];

    /// The leader isn't part of a cluster's plan.
    fn change((): (), _: Option<Versioned<LeaderRecord>>) -> Result<Option<Change>, String> {
        Ok(None)
    }
}
