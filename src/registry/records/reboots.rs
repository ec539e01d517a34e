//! `reboot/<group>`: which hosts may reboot now, and which wait. Exists while any do.

use crate::model::cluster::{Change, Versioned};
use crate::model::reboot::{Group, Reboots};
use crate::store::Kv;

use super::machine::printable;
#[cfg(test)]
use super::tests::Form;
use super::{Corrupt, Family, Writer, decode_fields};

/// The family.
pub enum Records {}

impl Family for Records {
    const PATTERN: &'static str = "reboot/<group>";
    const WRITER: Writer = Writer::Api;
    type Names = (Group,);
    type Record = Reboots;

    #[cfg(test)]
    const FORMS: &'static [Form] = &[
        Form::today(
            "reboot/default",
            concat!(
                r#"{"holders":[{"host":"3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a","since":5,"#,
                r#""request":{"host":"3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a","boot":"b","generation":3,"since":4,"#,
                r#""parallel":10,"deadline":3600,"force":true,"why":"kernel","by":{"uid":1001,"user":"ci"}},"#,
                r#""down":true,"back":true,"error":"no login manager"}],"#,
                r#""queue":[{"host":"83326a57bf0d4d5a9c6a7b8c9d0e1f2a","boot":"c","generation":3,"since":4,"#,
                r#""parallel":10,"deadline":3600}]}"#,
            ),
        ),
        Form::today("reboot/rack-7", r#"{"holders":[{"host":"3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a","since":5}]}"#),
    ];

    /// The words of people and of errors are shown in tables and logs.
    fn admit(mut reboots: Reboots) -> Result<Reboots, String> {
        reboots.holders.iter_mut().for_each(|holder| printable(&mut holder.error));
        let asked = reboots.holders.iter_mut().filter_map(|holder| holder.request.as_deref_mut());
        asked.chain(&mut reboots.queue).for_each(|request| printable(&mut request.why));
        Ok(reboots)
    }

    fn read(kv: &Kv) -> Result<Reboots, Corrupt> {
        Self::admit(decode_fields(kv)?).map_err(|why| Corrupt { key: kv.key.clone(), why })
    }

    /// Where units run doesn't depend on it: the drain of a host that is to reboot is in `host/<id>`.
    fn change(_: (Group,), _: Option<Versioned<Reboots>>) -> Result<Option<Change>, String> {
        Ok(None)
    }
}
