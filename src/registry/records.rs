//! The families of keys, one file each: how its keys are spelled, who writes it, the JSON of its records, the forms in
//! which earlier versions wrote them, and what a record means for a cluster. A new family is a file here and a line in
//! [`keys`](super::keys).
//!
//! Owns how records are read: in every form that a version of Flotilla has written, and checked again, because the
//! store may have other writers. It must never write to the store (`commit` does).

pub mod assignment;
pub mod file;
pub mod gate;
pub mod history;
pub mod host;
pub mod leader;
pub mod machine;
pub mod metadata;
pub mod placement;
pub mod reboots;
pub mod report;
pub mod rollout;
pub mod roster;
pub mod service;
pub mod settings;
pub mod unit;

use std::fmt;
use std::str::FromStr;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::model::cluster::{Change, Versioned};
use crate::store::Kv;

use super::{Corrupt, decode};

/// The only part of a daemon that writes a family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writer {
    /// The API, at the request of a client, and what carries out such a request step by step (`reboot`).
    Api,
    /// The leader's engine.
    Engine,
    /// The agent of the host that the key names.
    Agent,
}

/// A family of keys.
pub trait Family {
    /// How its keys are spelled: the common prefix, then names in angle brackets, separated by slashes.
    const PATTERN: &'static str;
    /// Who writes its records.
    const WRITER: Writer;
    /// The names in a key, as a tuple.
    type Names: Names;
    /// What is stored under a key, as JSON. A field that is added later has a default, and no field is ever renamed:
    /// old records can be decoded, and old versions ignore unknown fields.
    type Record: Serialize + DeserializeOwned;

    /// Records as versions of Flotilla have written them. The first is the current form, with all of its fields.
    #[cfg(test)]
    const FORMS: &'static [tests::Form];

    /// Check a decoded record by the rules for writing it. Returns the record as it may be used.
    ///
    /// # Errors
    /// What is wrong with it.
    fn admit(record: Self::Record) -> Result<Self::Record, String> {
        Ok(record)
    }

    /// What a record, or its absence (`None`), means for a cluster; `None` for families that a cluster doesn't contain.
    ///
    /// # Errors
    /// What is wrong with the record.
    fn change(names: Self::Names, record: Option<Versioned<Self::Record>>) -> Result<Option<Change>, String>;

    /// Decode a record and check it.
    ///
    /// # Errors
    /// [`Corrupt`] if it isn't the JSON of a record, or breaks a rule.
    fn read(kv: &Kv) -> Result<Self::Record, Corrupt> {
        Self::admit(decode(kv)?).map_err(|why| Corrupt { key: kv.key.clone(), why })
    }
}

/// The names in a key.
pub trait Names: Sized {
    /// Parse them from what follows the prefix of the family.
    ///
    /// # Errors
    /// Why these aren't such names.
    fn read(rest: &str) -> Result<Self, String>;
}

impl Names for () {
    fn read(rest: &str) -> Result<Self, String> {
        if rest.is_empty() { Ok(()) } else { Err(UNKNOWN_FAMILY.into()) }
    }
}

impl<A: FromStr<Err: fmt::Display>> Names for (A,) {
    fn read(rest: &str) -> Result<Self, String> {
        Ok((name(rest)?,))
    }
}

impl<A: FromStr<Err: fmt::Display>, B: FromStr<Err: fmt::Display>> Names for (A, B) {
    fn read(rest: &str) -> Result<Self, String> {
        let (first, second) = rest.split_once('/').ok_or("half of the key is missing")?;
        Ok((name(first)?, name(second)?))
    }
}

/// Decode a record all of whose fields have defaults: serde would also take an empty list for one.
fn decode_fields<T: DeserializeOwned>(kv: &Kv) -> Result<T, Corrupt> {
    let fields: Map<String, Value> = decode(kv)?;
    let corrupt = |error: serde_json::Error| Corrupt { key: kv.key.clone(), why: error.to_string() };
    serde_json::from_value(Value::Object(fields)).map_err(corrupt)
}

fn name<A: FromStr<Err: fmt::Display>>(text: &str) -> Result<A, String> {
    text.parse().map_err(|error: A::Err| error.to_string())
}

/// What is wrong with a key of no family: it belongs to a later version, or isn't ours at all.
pub(super) const UNKNOWN_FAMILY: &str = "no such family of keys";

/// The common prefix of all keys of a pattern.
pub(super) const fn prefix(pattern: &str) -> &str {
    let (bytes, mut end) = (pattern.as_bytes(), 0);
    while end < bytes.len() && bytes[end] != b'<' {
        end += 1;
    }
    pattern.split_at(end).0
}

/// What a change of one key means for a cluster: `record` is the current value, if there is one.
pub(super) fn meaning<F: Family>(key: &str, names: F::Names, record: Option<&Kv>) -> Result<Option<Change>, Corrupt> {
    let record = match record {
        Some(kv) => Some(Versioned { value: F::read(kv)?, revision: kv.revision }),
        None => None,
    };
    F::change(names, record).map_err(|why| Corrupt { key: key.into(), why })
}

#[cfg(test)]
pub mod tests;
