//! `schedule/<host>/<unit>`: what a host must do with a unit. Exists until the host has acknowledged `gone`, or is
//! dead.

use serde::Serialize;

use crate::model::author::Author;
use crate::model::cluster::{Change, Versioned};
use crate::model::name::{MachineId, UnitName};
use crate::model::unit::Assignment;

#[cfg(test)]
use super::tests::Form;
use super::{Family, Writer};

/// The family.
pub enum Records {}

/// An assignment as it is written, with its author, which affects no decision and is ignored by readers.
#[derive(Debug, Serialize)]
pub struct Signed<'a> {
    /// The assignment.
    #[serde(flatten)]
    pub assignment: &'a Assignment,
    /// The host whose engine decided.
    pub by: &'a Author,
}

impl Family for Records {
    const PATTERN: &'static str = "schedule/<host>/<unit>";
    const WRITER: Writer = Writer::Engine;
    type Names = (MachineId, UnitName);
    type Record = Assignment;

    #[cfg(test)]
    const FORMS: &'static [Form] = &[
        Form::signed(
            "schedule/3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a/a.service",
            concat!(
                r#"{"hash":"3750b3e9","target":"launched","global":true,"generation":7,"restart":6,"#,
                r#""by":{"host":"3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a"}}"#,
            ),
            r#"{"hash":"3750b3e9","target":"launched","global":true,"generation":7,"restart":6}"#,
        ),
        // A unit that brings a template.
        Form::today(
            "schedule/3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a/a.socket",
            concat!(
                r#"{"hash":"3750b3e9","target":"launched","generation":7,"#,
                r#""templates":{"a@.service":"5b1e0b2f"}}"#,
            ),
        ),
        // Texts that differ from others in comments only.
        Form::today(
            "schedule/3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a/b.socket",
            concat!(
                r#"{"hash":"3750b3e9","text":"0f4a7a5c","target":"launched","generation":7,"#,
                r#""templates":{"a@.service":"5b1e0b2f"},"template_texts":{"a@.service":"77c0e125"}}"#,
            ),
        ),
        // Before authors were added.
        Form::today(
            "schedule/3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a/a.service",
            r#"{"hash":"3750b3e9","target":"gone","generation":7}"#,
        ),
    ];

    fn change((host, unit): Self::Names, record: Option<Versioned<Assignment>>) -> Result<Option<Change>, String> {
        Ok(Some(Change::Assignment(host, unit, record)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_the_form_that_is_read() {
        let by = Author { host: "3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a".parse().ok(), ..Author::default() };
        let stored = Records::FORMS[0].stored();
        let signed = Signed { assignment: &serde_json::from_str(stored).unwrap(), by: &by };
        assert_eq!(serde_json::to_string(&signed).unwrap(), stored);
    }
}
