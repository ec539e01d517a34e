//! Walks the table of families: what each of them promises is tested here for all of them.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::*;
use crate::model::cluster::Cluster;
use crate::model::revision::Revision;
use crate::registry::keys::{self, Key, table};
use crate::registry::reader::Reader;
use crate::registry::scope::Scope;
use crate::store::embedded::Embedded;
use crate::store::{Event, Op, Store, Txn};

/// A record as some version writes it.
pub struct Form {
    key: &'static str,
    stored: &'static str,
    /// What this version writes for it.
    now: &'static str,
}

impl Form {
    /// As this version writes it.
    pub const fn today(key: &'static str, stored: &'static str) -> Self {
        Self { key, stored, now: stored }
    }

    /// As this version writes it, with an author that the value doesn't hold: read, and written as the value, it is
    /// `value`.
    pub const fn signed(key: &'static str, stored: &'static str, value: &'static str) -> Self {
        Self { key, stored, now: value }
    }

    /// The JSON in the store.
    pub fn stored(&self) -> &'static str {
        self.stored
    }

    /// As another version wrote it; this one would write `now`.
    pub const fn old(key: &'static str, stored: &'static str, now: &'static str) -> Self {
        Self { key, stored, now }
    }
}

/// A family, without its types.
pub struct Row {
    pattern: &'static str,
    writer: Writer,
    forms: &'static [Form],
    /// Reads a record and writes it again.
    rewrite: fn(&Kv) -> Result<String, Corrupt>,
}

impl Row {
    pub fn of<F: Family>() -> Self {
        let rewrite = |kv: &Kv| F::read(kv).map(|record| serde_json::to_string(&record).unwrap());
        Self { pattern: F::PATTERN, writer: F::WRITER, forms: F::FORMS, rewrite }
    }

    /// What a record reads as, written again.
    fn reads_as(&self, key: &str, stored: &str) -> String {
        (self.rewrite)(&record(key, stored)).unwrap_or_else(|corrupt| panic!("{stored}: {corrupt}"))
    }
}

fn record(key: &str, stored: &str) -> Kv {
    Kv { key: key.into(), value: stored.into(), revision: Revision(1), lease: None }
}

#[test]
fn keys_are_spelled_as_their_patterns_say_and_read_back() {
    for row in table() {
        assert!(!row.forms.is_empty(), "{}: no record to test with", row.pattern);
        for form in row.forms {
            assert_eq!(Key::parse(form.key).unwrap().to_string(), form.key);
            // The last name may have slashes in it: a key of metadata is any string.
            let names = row.pattern.split('/').count();
            let parts: Vec<&str> = form.key.splitn(names, '/').collect();
            assert_eq!(parts.len(), names, "{} is no {}", form.key, row.pattern);
            for (part, name) in parts.iter().zip(row.pattern.split('/')) {
                assert!(name.starts_with('<') || name == *part, "{} is no {}", form.key, row.pattern);
            }
        }
    }
}

#[test]
fn no_key_is_of_two_families() {
    let prefixes: Vec<&str> = table().iter().map(|row| prefix(row.pattern)).collect();
    for (at, one) in prefixes.iter().enumerate() {
        let others = prefixes.iter().enumerate().filter(|(other, _)| *other != at);
        assert!(!others.clone().any(|(_, other)| other.starts_with(one)), "{one} of {prefixes:?}");
    }
}

#[test]
fn records_of_every_version_are_read_and_todays_read_back() {
    for row in table() {
        for form in row.forms {
            assert_eq!(row.reads_as(form.key, form.stored), form.now);
            assert_eq!(row.reads_as(form.key, form.now), form.now);
        }
    }
}

/// Hosts are upgraded one by one, so this version reads what the next one writes.
#[test]
fn fields_of_a_later_version_are_passed_over() {
    for row in table() {
        for form in row.forms {
            let Value::Object(mut fields) = serde_json::from_str(form.now).unwrap() else { continue };
            let inner = fields.values_mut().next().filter(|_| row.pattern == "placement/<unit>");
            let fields_of_record = match inner {
                // A placement is one of two records, by its only key.
                Some(Value::Object(inner)) => inner,
                _ => &mut fields,
            };
            fields_of_record.insert("later".into(), json!({ "a": [1] }));
            let stored = Value::Object(fields).to_string();
            assert_eq!(row.reads_as(form.key, &stored), form.now, "{stored}");
        }
    }
}

#[test]
fn damaged_records_name_their_key() {
    for row in table() {
        let form = &row.forms[0];
        for stored in ["", "{", "[]", "7"] {
            let corrupt = (row.rewrite)(&record(form.key, stored)).unwrap_err();
            assert_eq!(corrupt.key, form.key, "{stored}");
        }
    }
}

/// All of the table in a store, with keys of a later version and of others among them.
#[tokio::test]
async fn unknown_keys_are_kept_and_change_nothing() {
    let unknown = ["a", "event/7", "leader/x", "unit/a.service/x", "schedule/x", "state/a.service/x/y", "zone/1"];
    let cluster = async |foreign: &[&str]| {
        let store = Embedded::in_memory();
        let ours = table().into_iter().flat_map(|row| row.forms.iter().map(|form| (form.key, form.stored)));
        for (key, value) in ours.chain(foreign.iter().map(|key| (*key, "?"))) {
            let op = Op::Put { key: key.into(), value: value.into(), lease: None };
            store.commit(Txn { guards: vec![], ops: vec![op] }).await.unwrap();
        }
        let reader = Reader::new(store);
        let read = reader.cluster(&[""], &Scope::All).await.unwrap();
        for key in foreign {
            assert!(crate::registry::point(reader.store(), key, None).await.unwrap().1.is_some(), "{key} is kept");
        }
        Cluster { revision: Revision(0), ..read }
    };
    let plain = cluster(&[]).await;
    assert!(!plain.units.is_empty() && !plain.states.is_empty());
    assert_eq!(cluster(&unknown).await, plain);
    for key in unknown {
        assert!(keys::change(&Event::Delete(key.into())).is_err(), "{key}");
    }
}

/// The page has the same families in the same order, with their writers, and names every field of today's records.
#[test]
fn the_page_lists_what_the_table_has() {
    let page = include_str!("../../../docs/architecture.md");
    let (_, list) = page.split_once("\n### Keys\n").unwrap();
    let list = list.split("\n\n").find(|part| part.trim_start().starts_with("* `")).unwrap();
    let entries: Vec<&str> = list.trim().split("* `").filter(|entry| !entry.is_empty()).collect();
    let table = table();
    let patterns = |entry: &&str| entry.split('`').next().unwrap_or_default().to_owned();
    let in_page: Vec<String> = entries.iter().map(patterns).collect();
    assert_eq!(in_page, table.iter().map(|row| row.pattern).collect::<Vec<_>>());
    for (row, entry) in table.iter().zip(entries) {
        let (value, rest) = entry.split_once("- writer: ").unwrap();
        let writer = match row.writer {
            Writer::Api => "API",
            Writer::Engine => "engine",
            Writer::Agent => "agent",
        };
        assert!(rest.starts_with(writer), "{}: {rest}", row.pattern);
        assert!(rest.contains("- lives: "), "{}: {rest}", row.pattern);
        let words: BTreeSet<&str> = value.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').collect();
        for field in row.forms.iter().flat_map(|form| fields(&serde_json::from_str(form.stored).unwrap())) {
            assert!(words.contains(&*field), "{}: `{field}` isn't in the page", row.pattern);
        }
    }
}

/// The fields of a record; of a placement, those of what it is too.
fn fields(record: &Value) -> Vec<String> {
    let Value::Object(fields) = record else { return Vec::new() };
    let inner = fields.iter().filter(|(name, _)| ["on", "waiting"].contains(&name.as_str()));
    let inner = inner.flat_map(|(_, value)| self::fields(value));
    fields.keys().cloned().chain(inner).collect()
}
