//! Validates answers of the API and output of `fleetctl` against `docs/openapi.json`. For any test: `#[path =
//! "support/description.rs"] mod description;`
//!
//! * [`check`]: validates a value against a schema, given by its name (`UnitList`, `MachineList`, `UnitDetail`, …);
//! * [`check_answer`]: validates an answer against the operation of its request.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use jsonschema::Validator;
use serde_json::{Value, json};

/// The description.
pub(crate) static DOCUMENT: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("../../docs/openapi.json")).unwrap());

static VALIDATORS: LazyLock<Mutex<HashMap<String, Arc<Validator>>>> = LazyLock::new(Mutex::default);

/// Check that `value` is valid by the schema `name`.
///
/// # Panics
/// If it isn't, with all differences.
#[track_caller]
pub(crate) fn check(name: &str, value: &Value) {
    assert!(DOCUMENT["components"]["schemas"][name].is_object(), "there is no schema `{name}` in docs/openapi.json");
    matches(&json!({ "$ref": format!("#/components/schemas/{name}") }), value, name);
}

/// The operations: path (a pattern) and method, in capitals.
pub(crate) fn operations() -> impl Iterator<Item = (&'static str, String)> {
    let paths = DOCUMENT["paths"].as_object().unwrap();
    paths.iter().flat_map(|(path, item)| item.as_object().unwrap().keys().map(|m| (path.as_str(), m.to_uppercase())))
}

/// The path of the description that `path` matches.
pub(crate) fn pattern(path: &str) -> Option<&'static str> {
    let path = path.split('?').next().unwrap();
    let path = path.strip_prefix("/v1-alpha").map_or(path.to_owned(), |rest| format!("/fleet/v1{rest}"));
    let fits = |pattern: &str| {
        let (pattern, path): (Vec<&str>, Vec<&str>) = (pattern.split('/').collect(), path.split('/').collect());
        pattern.len() == path.len()
            && pattern.iter().zip(path).all(|(p, part)| *p == part || (p.starts_with('{') && !part.is_empty()))
    };
    let mut paths = DOCUMENT["paths"].as_object().unwrap().keys().map(String::as_str);
    paths.find(|pattern| fits(pattern))
}

/// Check that the description allows this answer.
///
/// # Panics
/// If it doesn't, with the reason.
#[track_caller]
pub(crate) fn check_answer(method: &str, path: &str, status: u16, kind: Option<&str>, body: &str) {
    let request = format!("{method} {path}: {status}");
    let head = method == "HEAD";
    let error = || {
        assert_eq!(kind, Some("application/json"), "{request}");
        if !head {
            check("ErrorBody", &parse(body));
        }
    };
    let Some(pattern) = pattern(path) else {
        assert!(matches!(status, 400 | 403 | 404 | 405 | 413 | 503), "{request}: the path isn't described");
        return error();
    };
    let item = &DOCUMENT["paths"][pattern];
    let operation = &item[if head { "get".to_owned() } else { method.to_lowercase() }];
    if !operation.is_object() {
        // `/discovery` answers as fleet did.
        let refused = status == if pattern == "/discovery" { 400 } else { 405 };
        assert!(refused || matches!(status, 403 | 408 | 413 | 503), "{request}: the method isn't described");
        return error();
    }
    let response = &operation["responses"][status.to_string()];
    if !response.is_object() {
        // Any request over TCP may be refused for its `Host:`, and any request for its time or its size.
        assert!(matches!(status, 403 | 408 | 413), "{request}: the status isn't described");
        return error();
    }
    let Some(content) = response["content"].as_object() else {
        return assert_eq!(body, "", "{request}: no body is described");
    };
    let said = kind.and_then(|kind| kind.split(';').next()).unwrap_or_default();
    let described = content.get(said).unwrap_or_else(|| panic!("{request}: `{said}` isn't described"));
    if head {
        assert_eq!(body, "", "{request}");
    } else if said == "application/json" {
        matches(&described["schema"], &parse(body), &request);
    }
}

fn parse(body: &str) -> Value {
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {body:?}"))
}

#[track_caller]
fn matches(schema: &Value, value: &Value, what: &str) {
    let validator = {
        let mut known = VALIDATORS.lock().unwrap_or_else(PoisonError::into_inner);
        let make = || {
            let mut whole = schema.clone();
            whole["components"] = DOCUMENT["components"].clone();
            Arc::new(jsonschema::draft202012::new(&whole).unwrap())
        };
        Arc::clone(known.entry(schema.to_string()).or_insert_with(make))
    };
    let wrong: Vec<String> =
        validator.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(wrong.is_empty(), "{what} is not as described:\n{}\n{value:#}", wrong.join("\n"));
}
