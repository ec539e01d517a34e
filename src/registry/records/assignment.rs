//! `schedule/<host>/<unit>`: what a host is to do with a unit. Lives until the host has acknowledged `gone`, or died.

use crate::model::cluster::{Change, Versioned};
use crate::model::name::{MachineId, UnitName};
use crate::model::unit::Assignment;

#[cfg(test)]
use super::tests::Form;
use super::{Family, Writer};

/// The family.
pub enum Records {}

impl Family for Records {
    const PATTERN: &'static str = "schedule/<host>/<unit>";
    const WRITER: Writer = Writer::Engine;
    type Names = (MachineId, UnitName);
    type Record = Assignment;

    #[cfg(test)]
    const FORMS: &'static [Form] = &[
        Form::today(
            "schedule/3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a/a.service",
            r#"{"hash":"3750b3e9","target":"launched","global":true,"generation":7,"restart":6}"#,
        ),
        Form::today(
            "schedule/3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a/a.service",
            r#"{"hash":"3750b3e9","target":"gone","generation":7}"#,
        ),
    ];

    fn change((host, unit): Self::Names, record: Option<Versioned<Assignment>>) -> Result<Option<Change>, String> {
        Ok(Some(Change::Assignment(host, unit, record)))
    }
}
