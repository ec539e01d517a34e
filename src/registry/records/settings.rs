//! `cluster`: the settings of the whole cluster. A single key, which exists while any is set.

use serde_json::{Map, Value};

use crate::model::cluster::{Change, Versioned};
use crate::model::settings::Settings;
use crate::store::Kv;

#[cfg(test)]
use super::tests::Form;
use super::{Corrupt, Family, Writer, decode};

/// The family, which has one key.
pub enum Records {}

impl Family for Records {
    const PATTERN: &'static str = "cluster";
    const WRITER: Writer = Writer::Api;
    type Names = ();
    type Record = Settings;

    #[cfg(test)]
    const FORMS: &'static [Form] = &[
        Form::today("cluster", r#"{"overcommit_memory":150,"overcommit_cpu":200,"placement":"pack"}"#),
        Form::today("cluster", r#"{"placement":"spread"}"#),
        Form::today("cluster", r#"{"reboot_slots":2,"reboot_windows":"Sat,Sun 01:00/2h Europe/Berlin"}"#),
        Form::today("cluster", "{}"),
    ];

    /// Every field has a default, so that serde would also take an empty list for a record.
    fn read(kv: &Kv) -> Result<Settings, Corrupt> {
        let fields: Map<String, Value> = decode(kv)?;
        let corrupt = |why: String| Corrupt { key: kv.key.clone(), why };
        let settings = serde_json::from_value(Value::Object(fields)).map_err(|error| corrupt(error.to_string()))?;
        Self::admit(settings).map_err(corrupt)
    }

    fn change((): (), record: Option<Versioned<Settings>>) -> Result<Option<Change>, String> {
        Ok(Some(Change::Settings(record)))
    }
}
