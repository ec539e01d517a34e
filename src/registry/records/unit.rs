//! `unit/<name>`: what users request. Exists until the unit is destroyed.

use crate::model::cluster::{Change, Versioned};
use crate::model::name::UnitName;
use crate::model::unit::Unit;

#[cfg(test)]
use super::tests::Form;
use super::{Family, Writer};

/// The family.
pub enum Records {}

impl Family for Records {
    const PATTERN: &'static str = "unit/<name>";
    const WRITER: Writer = Writer::Api;
    type Names = (UnitName,);
    type Record = Unit;

    #[cfg(test)]
    const FORMS: &'static [Form] = &[
        Form::today(
            "unit/web@1.service",
            concat!(
                r#"{"desired":"launched","hash":"3750b3e9f3962a56c7582929426e9abb012754cf","#,
                r#""text":"0f4a7a5c6d1f3a5e8b9c2d4e6f8a0b1c2d3e4f50","#,
                r#""generation":7,"restart":6,"submitted":5,"by":{"host":"3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a","#,
                r#""uid":0,"user":"root","unit":"session-4.scope","address":"127.0.0.1"}}"#,
            ),
        ),
        // Its algorithm by name, as any version may write it.
        Form::old(
            "unit/web.service",
            concat!(
                r#"{"desired":"inactive","hash":"sha1:3750b3e9","text":"sha1:0f4a7a5c","#,
                r#""generation":7,"submitted":5}"#,
            ),
            r#"{"desired":"inactive","hash":"3750b3e9","text":"0f4a7a5c","generation":7,"submitted":5}"#,
        ),
        // A set.
        Form::today(
            "unit/set@.service",
            r#"{"desired":"inactive","hash":"3750b3e9","generation":7,"replicas":3,"submitted":5}"#,
        ),
        // A set that has riders.
        Form::today(
            "unit/led@.service",
            concat!(
                r#"{"desired":"inactive","hash":"3750b3e9","generation":7,"replicas":3,"#,
                r#""riders":["led-announce@.service"],"submitted":5}"#,
            ),
        ),
        // A file that somebody went back to.
        Form::today(
            "unit/back@.service",
            concat!(
                r#"{"desired":"inactive","hash":"3750b3e9","generation":7,"replicas":3,"without_hooks":true,"#,
                r#""submitted":5}"#,
            ),
        ),
        // A rollout that was paused.
        Form::today(
            "unit/paused@.service",
            concat!(
                r#"{"desired":"inactive","hash":"3750b3e9","generation":7,"replicas":3,"#,
                r#""ask":{"what":"pause","generation":9,"by":{"uid":0,"user":"root"}},"submitted":5}"#,
            ),
        ),
        // It is to move.
        Form::today(
            "unit/moves.service",
            concat!(
                r#"{"desired":"launched","hash":"3750b3e9","generation":7,"#,
                r#""move":{"generation":9,"from":"3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a","#,
                r#""to":"3ec325e8bf0d4d5a9c6a7b8c9d0e1f2b","force":true,"by":{"uid":0,"user":"root"}},"submitted":5}"#,
            ),
        ),
        Form::today(
            "unit/leaves.service",
            concat!(
                r#"{"desired":"launched","hash":"3750b3e9","generation":7,"#,
                r#""move":{"generation":9,"from":"3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a"},"submitted":5}"#,
            ),
        ),
        // Somebody else has asked for something since it was submitted.
        Form::today(
            "unit/db.service",
            concat!(
                r#"{"desired":"inactive","hash":"3750b3e9","generation":7,"submitted":5,"#,
                r#""submitter":{"uid":1001,"user":"ci"},"by":{"uid":0,"user":"root"}}"#,
            ),
        ),
        // Before authors were added, and texts that differ from another one in comments only.
        Form::today("unit/web@.service", r#"{"desired":"inactive","hash":"3750b3e9","generation":7,"submitted":5}"#),
    ];

    fn change((name,): (UnitName,), record: Option<Versioned<Unit>>) -> Result<Option<Change>, String> {
        Ok(Some(Change::Unit(name, record.map(|record| record.value))))
    }
}
