//! How a [`StateView`] is read: a report and what is said beside it, in one JSON object. Owns that nothing of a long
//! list is read twice: serde's `flatten` keeps each whole object in memory first. Must never read anything else than
//! that would.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IntoDeserializer as _, MapAccess, Visitor};

use super::{MachineRef, StateView};
use crate::model::unit::UnitReport;

impl<'de> Deserialize<'de> for StateView {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Fields)
    }
}

struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = StateView;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("what a host reports of a unit")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<StateView, A::Error> {
        let (mut machine, mut preview) = (None, None);
        let rest = Rest { map, machine: &mut machine, preview: &mut preview };
        let report = UnitReport::deserialize(MapAccessDeserializer::new(rest))?;
        let machine = machine.ok_or_else(|| A::Error::missing_field("machine"))?;
        Ok(StateView { machine, report, preview: preview.unwrap_or_default() })
    }
}

/// The fields of the report. Those beside it are taken out on the way.
struct Rest<'a, A> {
    map: A,
    machine: &'a mut Option<MachineRef>,
    preview: &'a mut Option<bool>,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Rest<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        while let Some(Name(name)) = self.map.next_key()? {
            match &*name {
                "machine" => *self.machine = Some(self.map.next_value()?),
                "preview" => *self.preview = Some(self.map.next_value()?),
                _ => return seed.deserialize(name.into_deserializer()).map(Some),
            }
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.map.next_value_seed(seed)
    }
}

/// The name of a field, as it stands in the text.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn view() -> serde_json::Value {
        json!({
            "machine": {"id": "3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a", "ip": "10.0.0.1", "hostname": "n1"},
            "generation": 7, "target": "launched", "hash": "3750b3e9", "load": "loaded", "active": "failed",
            "sub": "failed", "result": "failed", "since": 1_700_000_000_000_u64, "restarts": 2,
            "status": "a \"line\"", "ready": false, "preview": true,
        })
    }

    #[test]
    fn it_is_read_as_it_is_written() {
        let text = view().to_string();
        let read: StateView = serde_json::from_str(&text).unwrap();
        assert_eq!((read.machine.hostname.as_str(), read.report.restarts, read.preview), ("n1", 2, true));
        assert_eq!(serde_json::to_value(&read).unwrap(), view());
        let read_again: StateView = serde_json::from_value(view()).unwrap();
        assert_eq!(read_again, read);
    }

    #[test]
    fn unknown_fields_are_for_later_versions_and_missing_ones_are_named() {
        let read = |change: fn(&mut serde_json::Map<String, serde_json::Value>)| {
            let mut view = view();
            change(view.as_object_mut().unwrap());
            serde_json::from_value::<StateView>(view).map_err(|error| error.to_string())
        };
        assert!(read(|view| drop(view.insert("later".into(), json!({"a": [1]})))).is_ok());
        assert_eq!(read(|view| drop(view.remove("preview"))).map(|view| view.preview), Ok(false));
        assert_eq!(read(|view| drop(view.remove("machine"))), Err("missing field `machine`".into()));
        assert_eq!(read(|view| drop(view.remove("since"))), Err("missing field `since`".into()));
        assert!(serde_json::from_str::<StateView>("[]").is_err());
    }
}
