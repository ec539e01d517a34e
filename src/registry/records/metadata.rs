//! `metadata/<id>/<key>`: metadata of a host that were set while the cluster runs. An empty value hides the value in
//! the host's configuration. Exists until the API deletes it.

use crate::model::cluster::{Change, Versioned};
use crate::model::name::MachineId;

#[cfg(test)]
use super::tests::Form;
use super::{Family, Writer};

/// The family.
pub enum Records {}

impl Family for Records {
    const PATTERN: &'static str = "metadata/<id>/<key>";
    const WRITER: Writer = Writer::Api;
    type Names = (MachineId, String);
    type Record = String;

    #[cfg(test)]
    const FORMS: &'static [Form] = &[
        Form::today("metadata/3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a/zone", r#""a""#),
        Form::today("metadata/3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a/a/b", r#""""#),
    ];

    fn change((id, key): Self::Names, record: Option<Versioned<String>>) -> Result<Option<Change>, String> {
        Ok(Some(Change::Metadata(id, key, record.map(|record| record.value))))
    }
}
