//! Records of the store, of every family: what is read is written and read again without a change, fields of later
//! versions change nothing, and texts that are shown have no control characters. The input is a key and a value, on
//! two lines.

use flotilla::model::revision::Revision;
use flotilla::registry::keys::{self, Key};
use flotilla::registry::records::{
    Family, assignment, file, gate, history, host, leader, machine, metadata, placement, reboots, report, rollout,
    roster, service, settings, unit,
};
use flotilla::registry::{Corrupt, decode};
use flotilla::store::{Event, Kv};
use serde_json::Value;

use super::{assert_refusal, halves};

pub fn target(data: &[u8]) {
    let (key, value) = halves(data);
    let Ok(key) = std::str::from_utf8(key) else { return };
    let kv = Kv { key: key.into(), value: value.into(), revision: Revision(7), lease: None };
    let change = keys::change(&Event::Put(kv.clone()));
    let deleted = keys::change(&Event::Delete(key.into()));
    let Ok(name) = Key::parse(key) else {
        assert!(change.is_err() && deleted.is_err());
        return;
    };
    assert!(deleted.is_ok(), "a key that is known can be deleted");
    let rewritten = match &name {
        Key::Unit(_) => rewrite::<unit::Records>(&kv),
        Key::File(_) => rewrite::<file::Records>(&kv),
        Key::Machine(_) => rewrite::<machine::Records>(&kv),
        Key::Roster(_) => rewrite::<roster::Records>(&kv),
        Key::Metadata(..) => rewrite::<metadata::Records>(&kv),
        Key::Host(_) => rewrite::<host::Records>(&kv),
        Key::Reboots(_) => rewrite::<reboots::Records>(&kv),
        Key::Gate(_) => rewrite::<gate::Records>(&kv),
        Key::Rollout(_) => rewrite::<rollout::Records>(&kv),
        Key::Placement(_) => rewrite::<placement::Records>(&kv),
        Key::Schedule(..) => rewrite::<assignment::Records>(&kv),
        Key::State(_) => rewrite::<report::Records>(&kv),
        Key::Service(..) => rewrite::<service::Records>(&kv),
        Key::Leader => rewrite::<leader::Records>(&kv),
        Key::Cluster => rewrite::<settings::Records>(&kv),
        Key::History(_) => rewrite::<history::Records>(&kv),
    };
    match rewritten {
        Ok(written) => shown(&name, &written),
        Err(corrupt) => {
            assert!(change.is_err(), "a cluster believes no record that can't be read");
            assert_eq!(corrupt.key, key);
            assert_refusal(&corrupt.to_string().escape_debug(), data.len());
        }
    }
}

/// A record as this version writes it.
fn rewrite<F: Family>(kv: &Kv) -> Result<Value, Corrupt> {
    let record = F::read(kv)?;
    let written = serde_json::to_value(&record).expect("a record is JSON");
    let read = |value: &Value| {
        let record = F::read(&Kv { value: value.to_string().into(), ..kv.clone() }).expect("what is written is read");
        serde_json::to_value(&record).expect("a record is JSON")
    };
    assert_eq!(read(&written), written, "a record that is read and written stays the same");
    // What a newer daemon adds.
    if let (Value::Object(mut fields), Ok(Value::Object(_))) = (written.clone(), decode::<Value>(kv))
        && !F::PATTERN.starts_with("placement/")
    {
        fields.insert("later".into(), serde_json::json!({ "a": [1] }));
        assert_eq!(read(&Value::Object(fields)), written, "unknown fields change nothing");
    }
    Ok(written)
}

/// The texts of other hosts and of programs that appear in tables and in generated files.
fn shown(key: &Key, written: &Value) {
    let harmless = |field: &Value| match field {
        Value::String(text) => assert!(!text.contains(char::is_control), "{key}: {text:?}"),
        Value::Array(_) | Value::Object(_) => assert!(!field.to_string().contains("\\u00"), "{key}: {field}"),
        _ => {}
    };
    let fields: &[&str] = match key {
        Key::Machine(_) | Key::Roster(_) => &["hostname", "ip"],
        Key::State(_) => &["status", "failure"],
        Key::Service(..) => &["address", "hostname"],
        _ => &[],
    };
    fields.iter().for_each(|field| harmless(&written[*field]));
    if let Key::State(_) = key {
        let length = |field: &str| written[field].to_string().len();
        assert!(length("status") <= 2 * 200 + 10 && length("failure") <= 2 * (1024 + 3 * 256) + 500, "{written}");
    }
}
