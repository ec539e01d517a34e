//! `placement/<unit>`: where a unit is, or why it waits. Lives with the unit.

use crate::model::cluster::{Change, Versioned};
use crate::model::name::UnitName;
use crate::model::unit::Placement;

#[cfg(test)]
use super::tests::Form;
use super::{Family, Writer};

/// The family.
pub enum Records {}

impl Family for Records {
    const PATTERN: &'static str = "placement/<unit>";
    const WRITER: Writer = Writer::Engine;
    type Names = (UnitName,);
    type Record = Placement;

    #[cfg(test)]
    const FORMS: &'static [Form] = &[
        Form::today("placement/a.service", r#"{"on":{"host":"3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a","since":5}}"#),
        Form::today("placement/a.service", r#"{"waiting":{"why":"w","reasons":{"conflicts":2},"since":5}}"#),
        // Before there were reasons for programs.
        Form::today("placement/a.service", r#"{"waiting":{"why":"w","since":5}}"#),
        // A later version that counts a rule which this one doesn't know.
        Form::old(
            "placement/a.service",
            r#"{"waiting":{"why":"w","reasons":{"resources":2},"since":5}}"#,
            r#"{"waiting":{"why":"w","since":5}}"#,
        ),
    ];

    fn change((unit,): (UnitName,), record: Option<Versioned<Placement>>) -> Result<Option<Change>, String> {
        Ok(Some(Change::Placement(unit, record)))
    }
}
