//! `host/<id>`: what people have asked of a host. Exists until they take it back, also while the host is gone.

use crate::model::cluster::{Change, Versioned};
use crate::model::maintenance::Maintenance;
use crate::model::name::MachineId;
use crate::store::Kv;

use super::machine::printable;
#[cfg(test)]
use super::tests::Form;
use super::{Corrupt, Family, Writer, decode_fields};

/// The family.
pub enum Records {}

impl Family for Records {
    const PATTERN: &'static str = "host/<id>";
    const WRITER: Writer = Writer::Api;
    type Names = (MachineId,);
    type Record = Maintenance;

    #[cfg(test)]
    const FORMS: &'static [Form] = &[
        Form::today(
            "host/3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a",
            r#"{"cordon":{"since":5,"why":"kernel","by":{"uid":1001,"user":"ci"}}}"#,
        ),
        Form::today("host/3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a", r#"{"cordon":{"since":5}}"#),
        Form::today(
            "host/3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a",
            concat!(
                r#"{"drain":{"generation":7,"since":5,"parallel":3,"deadline":60,"globals":true,"force":true,"#,
                r#""why":"kernel","by":{"uid":1001,"user":"ci"}}}"#,
            ),
        ),
        Form::today(
            "host/3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a",
            r#"{"drain":{"generation":7,"began":5,"since":0,"parallel":10,"deadline":3600,"reboot":true}}"#,
        ),
        Form::today(
            "host/3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a",
            r#"{"restore":{"generation":9,"drain":7,"parallel":3,"by":{"uid":1001,"user":"ci"}}}"#,
        ),
        // With what this version takes for granted.
        Form::old(
            "host/3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a",
            r#"{"drain":{"generation":7}}"#,
            r#"{"drain":{"generation":7,"since":0,"parallel":10,"deadline":3600}}"#,
        ),
    ];

    /// The words of a person are shown in tables and logs.
    fn admit(mut asked: Maintenance) -> Result<Maintenance, String> {
        asked.cordon.iter_mut().for_each(|cordon| printable(&mut cordon.why));
        asked.drain.iter_mut().for_each(|drain| printable(&mut drain.why));
        Ok(asked)
    }

    fn read(kv: &Kv) -> Result<Maintenance, Corrupt> {
        Self::admit(decode_fields(kv)?).map_err(|why| Corrupt { key: kv.key.clone(), why })
    }

    fn change((id,): (MachineId,), record: Option<Versioned<Maintenance>>) -> Result<Option<Change>, String> {
        Ok(Some(Change::Maintenance(id, record)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_with_control_characters_harms_no_table() {
        let record = serde_json::from_str(r#"{"cordon":{"since":5,"why":"a\nb\u001b[2J"}}"#).unwrap();
        let cordon = Records::admit(record).unwrap().cordon.unwrap();
        assert_eq!(cordon.to_string(), "cordoned: a\u{fffd}b\u{fffd}[2J");
    }
}
