//! `placement/<unit>`: the host of a unit, or why it waits. Exists as long as the unit.

use serde::Serialize;

use crate::model::author::Author;
use crate::model::cluster::{Change, Versioned};
use crate::model::name::{MachineId, UnitName};
use crate::model::rule::Reasons;
use crate::model::unit::{Done, Moved, Placement, Taken, Tried};

#[cfg(test)]
use super::tests::Form;
use super::{Family, Writer};

/// The family.
pub enum Records {}

/// A placement as it is written, with its author, which affects no decision and is ignored by readers. The author is
/// within the variant, because the variant is the only key of a placement.
#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Signed<'a> {
    /// [`Placement::On`].
    On {
        /// As there.
        host: &'a MachineId,
        /// As there.
        since: u64,
        /// As there.
        #[serde(skip_serializing_if = "Option::is_none")]
        from: Option<&'a Taken>,
        /// As there.
        #[serde(skip_serializing_if = "Option::is_none")]
        tried: Option<&'a Tried>,
        /// As there.
        #[serde(skip_serializing_if = "Option::is_none")]
        moved: Option<&'a Moved>,
        /// The host whose engine decided.
        by: &'a Author,
    },
    /// [`Placement::Waiting`], and [`Placement::Done`].
    Waiting {
        /// As there.
        why: &'a str,
        /// As there.
        #[serde(skip_serializing_if = "Option::is_none")]
        reasons: Option<&'a Reasons>,
        /// As there.
        #[serde(skip_serializing_if = "Option::is_none")]
        tried: Option<&'a Tried>,
        /// Of [`Placement::Done`].
        #[serde(skip_serializing_if = "Option::is_none")]
        done: Option<&'a Done>,
        /// As there.
        since: u64,
        /// The host whose engine decided.
        by: &'a Author,
    },
}

impl<'a> Signed<'a> {
    /// `placement`, decided by `by`.
    #[must_use]
    pub fn new(placement: &'a Placement, by: &'a Author) -> Self {
        match placement {
            Placement::On { host, since, from, tried, moved } => Self::On {
                host,
                since: *since,
                from: from.as_deref(),
                tried: tried.as_deref(),
                moved: moved.as_deref(),
                by,
            },
            Placement::Waiting { why, reasons, tried, since } => {
                Self::Waiting { why, reasons: reasons.as_ref(), tried: tried.as_deref(), done: None, since: *since, by }
            }
            Placement::Done { done, since } => {
                Self::Waiting { why: Placement::DONE, reasons: None, tried: None, done: Some(done), since: *since, by }
            }
        }
    }
}

impl Family for Records {
    const PATTERN: &'static str = "placement/<unit>";
    const WRITER: Writer = Writer::Engine;
    type Names = (UnitName,);
    type Record = Placement;

    #[cfg(test)]
    const FORMS: &'static [Form] = &[
        Form::signed(
            "placement/a.service",
            concat!(
                r#"{"on":{"host":"3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a","since":5,"#,
                r#""by":{"host":"3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a"}}}"#,
            ),
            r#"{"on":{"host":"3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a","since":5}}"#,
        ),
        // Failed on another host, moved, and started again where it is now.
        Form::signed(
            "placement/a.service",
            concat!(
                r#"{"on":{"host":"3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a","since":5,"#,
                r#""tried":{"hosts":["3ec325e8bf0d4d5a9c6a7b8c9d0e1f2b","3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a"],"#,
                r#""times":2,"generation":2,"again":7},"by":{"host":"3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a"}}}"#,
            ),
            concat!(
                r#"{"on":{"host":"3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a","since":5,"#,
                r#""tried":{"hosts":["3ec325e8bf0d4d5a9c6a7b8c9d0e1f2b","3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a"],"#,
                r#""times":2,"generation":2,"again":7}}}"#,
            ),
        ),
        // Taken from another host by a drain, and not brought back.
        Form::signed(
            "placement/a.service",
            concat!(
                r#"{"on":{"host":"3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a","since":5,"#,
                r#""from":{"host":"3ec325e8bf0d4d5a9c6a7b8c9d0e1f2b","drain":3,"generation":2,"stays":4},"#,
                r#""by":{"host":"3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a"}}}"#,
            ),
            concat!(
                r#"{"on":{"host":"3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a","since":5,"#,
                r#""from":{"host":"3ec325e8bf0d4d5a9c6a7b8c9d0e1f2b","drain":3,"generation":2,"stays":4}}}"#,
            ),
        ),
        // About to leave for another host, as was asked.
        Form::signed(
            "placement/a.service",
            concat!(
                r#"{"on":{"host":"3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a","since":5,"#,
                r#""moved":{"generation":9,"to":"3ec325e8bf0d4d5a9c6a7b8c9d0e1f2b"},"#,
                r#""by":{"host":"3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a"}}}"#,
            ),
            concat!(
                r#"{"on":{"host":"3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a","since":5,"#,
                r#""moved":{"generation":9,"to":"3ec325e8bf0d4d5a9c6a7b8c9d0e1f2b"}}}"#,
            ),
        ),
        // It was asked to move, and stays.
        Form::signed(
            "placement/a.service",
            concat!(
                r#"{"on":{"host":"3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a","since":5,"#,
                r#""moved":{"generation":9,"why":"fits no other host"},"#,
                r#""by":{"host":"3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a"}}}"#,
            ),
            concat!(
                r#"{"on":{"host":"3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a","since":5,"#,
                r#""moved":{"generation":9,"why":"fits no other host"}}}"#,
            ),
        ),
        Form::signed(
            "placement/a.service",
            concat!(
                r#"{"waiting":{"why":"w","reasons":{"conflicts":2},"since":5,"#,
                r#""by":{"host":"3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a"}}}"#,
            ),
            r#"{"waiting":{"why":"w","reasons":{"conflicts":2},"since":5}}"#,
        ),
        // Of a unit that runs once, and has.
        Form::signed(
            "placement/job.service",
            concat!(
                r#"{"waiting":{"why":"it has run once, and is done","#,
                r#""done":{"host":"3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a","generation":7},"since":5,"#,
                r#""by":{"host":"3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a"}}}"#,
            ),
            concat!(
                r#"{"waiting":{"why":"it has run once, and is done","#,
                r#""done":{"host":"3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a","generation":7},"since":5}}"#,
            ),
        ),
        // Before reasons for programs were added.
        Form::today("placement/a.service", r#"{"waiting":{"why":"w","since":5}}"#),
        // From a later version that counts an unknown rule.
        Form::old(
            "placement/a.service",
            r#"{"waiting":{"why":"w","reasons":{"phase-of-the-moon":2},"since":5}}"#,
            r#"{"waiting":{"why":"w","since":5}}"#,
        ),
    ];

    fn change((unit,): (UnitName,), record: Option<Versioned<Placement>>) -> Result<Option<Change>, String> {
        Ok(Some(Change::Placement(unit, record)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_the_form_that_is_read() {
        let by = Author { host: "3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a".parse().ok(), ..Author::default() };
        for form in &Records::FORMS[..7] {
            let placement: Placement = serde_json::from_str(form.stored()).unwrap();
            assert_eq!(serde_json::to_string(&Signed::new(&placement, &by)).unwrap(), form.stored());
        }
    }
}
