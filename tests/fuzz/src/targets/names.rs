//! Names: of units, hosts, files, services, their instances, sockets and keys. What is read is printed as it was, in
//! JSON too, and a name is safe wherever it becomes part of a path.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use flotilla::model::format::Format;
use flotilla::model::listen::{Listen, Place};
use flotilla::model::name::{self, MachineId, UnitHash, UnitName};
use flotilla::model::role::{Grant, Role};
use flotilla::model::service::{InstanceName, ServiceName};
use flotilla::registry::keys::Key;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::assert_refusal;

pub fn target(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Some(unit) = name::<UnitName>(text) {
        is_consistent(&unit);
    }
    name::<MachineId>(text);
    name::<ServiceName>(text);
    name::<InstanceName>(text);
    if let Ok(hash) = text.parse::<UnitHash>() {
        assert_eq!(hash.to_string(), text);
    }
    if let Ok(key) = Key::parse(text) {
        assert_eq!((key.to_string().as_str(), key.len()), (text, text.len()));
    }
    if let Ok(format) = text.parse::<Format>() {
        assert_eq!(format.to_string().parse(), Ok(format));
    }
    if let Ok(Listen { place: Place::Tcp(_), grant }) = text.parse() {
        assert!(grant.role != Role::Announcer, "of a client on TCP it isn't known which unit it is");
    }
    if let Ok(grant) = text.parse::<Grant>() {
        assert!(
            grant.names.is_empty() || matches!(grant.role, Role::Operator | Role::Announcer),
            "{text:?} is {grant:?}"
        );
        assert!(grant.to_string().starts_with(&grant.role.to_string()));
    }
    if let Ok(instance) = InstanceName::of(None, text, 80) {
        assert_eq!(instance.as_str().parse(), Ok(instance.clone()));
    }
}

/// A name that is one component of a path, and a string in JSON.
fn name<N>(text: &str) -> Option<N>
where
    N: FromStr<Err: Display> + Display + Debug + PartialEq + Serialize + DeserializeOwned,
{
    let name: N = match text.parse() {
        Ok(name) => name,
        Err(error) => {
            assert_refusal(&error.to_string().escape_debug(), text.len());
            return None;
        }
    };
    assert_eq!(name.to_string(), text);
    assert!(text.len() <= name::MAX_LEN && !text.contains(['/', '\0', '\n']) && text != "." && text != "..");
    let json = serde_json::to_string(&name).expect("a name is JSON");
    assert_eq!(serde_json::from_str::<N>(&json).expect("and is read from it"), name);
    Some(name)
}

fn is_consistent(unit: &UnitName) {
    assert_eq!(format!("{}.{}", unit.stem(), unit.kind()), unit.as_str());
    let joined = match unit.instance() {
        Some(instance) => format!("{}@{instance}", unit.prefix()),
        None => unit.prefix().to_owned(),
    };
    assert_eq!(joined, unit.stem());
    if let Some(template) = unit.template() {
        assert!(template.is_template() && !unit.is_template());
        assert_eq!(template.as_str().parse::<UnitName>().as_ref(), Ok(&template));
    }
    assert_eq!(unit.expand("%n"), unit.as_str());
    assert_eq!(unit.expand("%N|%p|%i"), format!("{}|{}|{}", unit.stem(), unit.prefix(), unit.instance().unwrap_or("")));
    if let Ok(instance) = InstanceName::of(Some(unit), "n1.example", 80) {
        assert_eq!(instance.as_str().parse(), Ok(instance.clone()));
    }
}
