//! `gate/<unit>`: the file that a unit goes on with until its rollout lets it through. Deleted in the transaction that
//! gives the unit's host the new file.

use crate::model::cluster::{Change, Versioned};
use crate::model::name::UnitName;
use crate::model::rollout::Gate;

#[cfg(test)]
use super::tests::Form;
use super::{Family, Writer};

/// The family.
pub enum Records {}

impl Family for Records {
    const PATTERN: &'static str = "gate/<unit>";
    const WRITER: Writer = Writer::Engine;
    type Names = (UnitName,);
    type Record = Gate;

    #[cfg(test)]
    const FORMS: &'static [Form] = &[
        Form::today(
            "gate/web@1.service",
            concat!(
                r#"{"rollout":"web@.service","target":"5b1e0b2f","hash":"3750b3e9","text":"0f4a7a5c","#,
                r#""generation":3,"restart":2,"asked":7}"#,
            ),
        ),
        Form::today(
            "gate/web@4.service",
            concat!(
                r#"{"spare":true,"rollout":"web@.service","target":"5b1e0b2f","hash":"5b1e0b2f","generation":9,"#,
                r#""asked":9}"#,
            ),
        ),
        // Of a unit that runs as a hook.
        Form::today(
            "gate/web-migrate.service",
            concat!(
                r#"{"hook":true,"rollout":"web@.service","target":"5b1e0b2f","hash":"77c0e12a","generation":9,"#,
                r#""restart":9,"asked":4}"#,
            ),
        ),
        Form::today(
            "gate/agent.service",
            concat!(
                r#"{"rollout":"agent.service","target":"5b1e0b2f","hash":"3750b3e9","generation":3,"asked":7,"#,
                r#""hosts":{"3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a":null,"#,
                r#""844a1f3b6c0e4d2f8a9b7c6d5e4f3a2b":{"hash":"90bb1de0","text":"0f4a7a5c","generation":5,"#,
                r#""restart":2}}}"#,
            ),
        ),
        Form::today(
            "gate/db.service",
            r#"{"rollout":"db.service","target":"5b1e0b2f","hash":"3750b3e9","generation":3,"asked":7}"#,
        ),
    ];

    fn change((unit,): (UnitName,), record: Option<Versioned<Gate>>) -> Result<Option<Change>, String> {
        Ok(Some(Change::Gate(unit, record)))
    }
}
