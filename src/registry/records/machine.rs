//! `machine/<id>`: the hosts that are alive. Bound to the host's lease.

use crate::model::cluster::{Change, Versioned};
use crate::model::machine::Machine;
use crate::model::name::MachineId;

#[cfg(test)]
use super::tests::Form;
use super::{Family, Writer};

/// The family.
pub enum Records {}

impl Family for Records {
    const PATTERN: &'static str = "machine/<id>";
    const WRITER: Writer = Writer::Agent;
    type Names = (MachineId,);
    type Record = Machine;

    #[cfg(test)]
    const FORMS: &'static [Form] = &[
        Form::today(
            "machine/3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a",
            concat!(
                r#"{"id":"3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a","ip":"10.0.0.1","hostname":"n1","#,
                r#""metadata":{"zone":"a"},"builtin":{"@arch":"x86-64"},"version":"0.1.0","boot_id":"b","since":5,"#,
                r#""format":2}"#,
            ),
        ),
        // Before hosts reported anything of themselves.
        Form::today(
            "machine/3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a",
            concat!(
                r#"{"id":"3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a","ip":"10.0.0.1","hostname":"n1","#,
                r#""metadata":{"zone":"a"},"version":"0.1.0","boot_id":"b","since":5,"format":2}"#,
            ),
        ),
        Form::old(
            "machine/3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a",
            concat!(
                r#"{"id":"3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a","ip":"10.0.0.1","hostname":"n1","#,
                r#""version":"0.1.0","boot_id":"b"}"#,
            ),
            concat!(
                r#"{"id":"3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a","ip":"10.0.0.1","hostname":"n1","#,
                r#""metadata":{},"version":"0.1.0","boot_id":"b","since":0,"format":1}"#,
            ),
        ),
    ];

    /// A host is alive whatever its name, and its units stay. But its name and address are shown in tables, logs and
    /// generated files, so line ends and control characters in them are replaced.
    fn admit(mut machine: Machine) -> Result<Machine, String> {
        [&mut machine.hostname, &mut machine.ip].into_iter().chain(machine.builtin.values_mut()).for_each(printable);
        Ok(machine)
    }

    fn change((id,): (MachineId,), record: Option<Versioned<Machine>>) -> Result<Option<Change>, String> {
        Ok(Some(Change::Machine(id, record.map(|record| record.value))))
    }
}

/// Replace line ends and control characters.
pub(super) fn printable(text: &mut String) {
    if text.contains(char::is_control) {
        *text = text.replace(char::is_control, "\u{fffd}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_with_an_unprintable_name_is_alive_and_harms_no_table() {
        let json = concat!(
            r#"{"id":"3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a","ip":"10.0.0.1\n","#,
            r#""hostname":"n1\u001b[2J\nroot","version":"1","boot_id":"b"}"#,
        );
        let machine = Records::admit(serde_json::from_str(json).unwrap()).unwrap();
        assert_eq!((&*machine.hostname, &*machine.ip), ("n1\u{fffd}[2J\u{fffd}root", "10.0.0.1\u{fffd}"));
    }
}
