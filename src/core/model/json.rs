//! How JSON is read fast: as a whole, and types that are a text in it without a copy of the text. serde's `try_from`
//! and `into` make one each time, and a list has ten such texts for each unit. Owns no spelling.

use std::fmt;

use serde::de::{DeserializeOwned, Deserializer, Error, Visitor};

/// Read a value from bytes. As a whole they are checked for UTF-8 once; `serde_json::from_slice` would check each text
/// in them by itself.
///
/// # Errors
/// If the bytes aren't UTF-8, or not the JSON of such a value.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> serde_json::Result<T> {
    serde_json::from_str(str::from_utf8(bytes).map_err(Error::custom)?)
}

/// Read a text as `parse` understands it.
pub(super) fn read<'de, D, T, E>(deserializer: D, parse: fn(&str) -> Result<T, E>) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    E: fmt::Display,
{
    deserializer.deserialize_str(Text(parse))
}

struct Text<T, E>(fn(&str) -> Result<T, E>);

impl<T, E: fmt::Display> Visitor<'_> for Text<T, E> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<F: Error>(self, text: &str) -> Result<T, F> {
        (self.0)(text).map_err(F::custom)
    }
}

/// Implement serde's traits for types with `as_str`, each with the function that parses it.
macro_rules! quoted {
    ($($type:ident by $parse:expr),+ $(,)?) => {$(
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $crate::model::json::read(deserializer, $parse)
            }
        }
    )+};
}

pub(super) use quoted;
