//! `history/<unit>`: the texts that a unit's file had before. Written in the transaction that replaces the text or
//! destroys the unit, and only then. Its second writer is the leader, which deletes it a week after the unit was
//! destroyed. The texts that it names are kept.

use crate::model::cluster::{Change, Versioned};
use crate::model::history::History;
use crate::model::name::UnitName;

#[cfg(test)]
use super::tests::Form;
use super::{Family, Writer};

/// The family.
pub enum Records {}

impl Family for Records {
    const PATTERN: &'static str = "history/<unit>";
    const WRITER: Writer = Writer::Api;
    type Names = (UnitName,);
    type Record = History;

    #[cfg(test)]
    const FORMS: &'static [Form] = &[
        // Before the fields `since`, `author` and `batch` were added.
        Form::today(
            "history/web.service",
            concat!(
                r#"{"revisions":[{"n":1,"hash":"3750b3e9","until":5,"by":{"uid":0,"user":"root"}},"#,
                r#"{"n":2,"hash":"5b1e0b2f","text":"0f4a7a5c","until":7,"destroyed":true}],"gone":7}"#,
            ),
        ),
        // Replaced in a batch with others, of which it is the first.
        Form::today(
            "history/web@.service",
            concat!(
                r#"{"revisions":[{"n":7,"hash":"3750b3e9","until":5,"by":{"uid":0,"user":"root"},"since":4,"#,
                r#""author":{"uid":1001,"user":"ci"},"batch":{"unit":"web@.service","n":7,"with":["log@.service"]}}]}"#,
            ),
        ),
        Form::today(
            "history/log@.service",
            concat!(
                r#"{"revisions":[{"n":2,"hash":"3750b3e9","until":5,"since":4,"#,
                r#""batch":{"unit":"web@.service","n":7}}]}"#,
            ),
        ),
        Form::today("history/db.service", r#"{"revisions":[]}"#),
    ];

    fn change((name,): (UnitName,), record: Option<Versioned<History>>) -> Result<Option<Change>, String> {
        let kept = record.map(|record| Versioned { value: record.value.kept(), revision: record.revision });
        Ok(Some(Change::History(name, kept)))
    }
}
