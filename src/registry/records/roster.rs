//! `roster/<id>`: the hosts that the cluster has had. Bound to no lease: the record of a host that is gone remains
//! until the host is back, or until the API deletes it at the request of a person (`fleetctl forget`).

use crate::model::cluster::{Change, Versioned};
use crate::model::machine::KnownHost;
use crate::model::name::MachineId;

use super::machine::printable;
#[cfg(test)]
use super::tests::Form;
use super::{Family, Writer};

/// The family.
pub enum Records {}

impl Family for Records {
    const PATTERN: &'static str = "roster/<id>";
    const WRITER: Writer = Writer::Engine;
    type Names = (MachineId,);
    type Record = KnownHost;

    #[cfg(test)]
    const FORMS: &'static [Form] = &[
        Form::today(
            "roster/3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a",
            concat!(
                r#"{"hostname":"n1","ip":"10.0.0.1","version":"0.1.0","#,
                r#""gone":{"since":5,"moved":2,"waiting":1,"ended":0}}"#,
            ),
        ),
        Form::today(
            "roster/3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a",
            concat!(
                r#"{"hostname":"n1","ip":"10.0.0.1","version":"0.1.0","gone":{"since":5,"moved":0,"waiting":0,"#,
                r#""ended":0,"held":{"until":9,"mass_loss":true}}}"#,
            ),
        ),
        Form::today(
            "roster/3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a",
            r#"{"hostname":"n1","ip":"10.0.0.1","version":"0.1.0"}"#,
        ),
    ];

    /// As for a host that is registered: its name and address are shown in tables and logs.
    fn admit(mut host: KnownHost) -> Result<KnownHost, String> {
        [&mut host.hostname, &mut host.ip, &mut host.version].into_iter().for_each(printable);
        Ok(host)
    }

    fn change((id,): (MachineId,), record: Option<Versioned<KnownHost>>) -> Result<Option<Change>, String> {
        Ok(Some(Change::Roster(id, record)))
    }
}
