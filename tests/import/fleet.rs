//! The API of CoreOS fleet 1.0 as far as moving in needs it: what it answered, byte for byte, its oddities included. A
//! fixture.

use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::http::{Method, StatusCode, Uri};
use axum::response::Response;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

/// A unit as fleet has it: `options` are section, name and value.
#[derive(Clone)]
pub(crate) struct Unit {
    pub(crate) name: &'static str,
    pub(crate) desired: &'static str,
    pub(crate) machine: &'static str,
    pub(crate) options: Vec<(&'static str, &'static str, &'static str)>,
    /// Name, machine, hash, active, sub: what hosts say.
    pub(crate) states: Vec<(&'static str, &'static str, &'static str, &'static str)>,
}

/// A running one.
pub(crate) struct OldFleet {
    dir: TempDir,
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
    runtime: tokio::runtime::Runtime,
}

impl OldFleet {
    /// With so many entries on a page, behind a socket.
    pub(crate) fn new(units: Vec<Unit>, machines: Value, limit: u16) -> Self {
        let (fleet, app) = Self::prepare(units, machines, limit, 0);
        let listener = {
            let _inside = fleet.runtime.enter();
            tokio::net::UnixListener::bind(fleet.dir.path().join("fleet.sock")).unwrap()
        };
        fleet.runtime.spawn(async move { axum::serve(listener, app).await });
        fleet
    }

    /// As [`OldFleet::new`], on a TCP port of all addresses.
    pub(crate) fn on_tcp(units: Vec<Unit>, machines: Value, limit: u16) -> Self {
        let listener = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let (fleet, app) = Self::prepare(units, machines, limit, listener.local_addr().unwrap().port());
        let listener = {
            let _inside = fleet.runtime.enter();
            tokio::net::TcpListener::from_std(listener).unwrap()
        };
        fleet.runtime.spawn(async move { axum::serve(listener, app).await });
        fleet
    }

    fn prepare(units: Vec<Unit>, machines: Value, limit: u16, port: u16) -> (Self, axum::Router) {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        let app = axum::Router::new().fallback(move |method: Method, uri: Uri| {
            log.lock().unwrap().push(format!("{method} {uri}"));
            let answer = answer(&units, &machines, limit, &method, &uri);
            async move { answer }
        });
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        (Self { dir: tempfile::tempdir().unwrap(), port, asked, runtime }, app)
    }

    /// Where it listens on TCP.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("unix://{}/fleet.sock", self.dir.path().display())
    }

    /// `METHOD /path?query`
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn answer(units: &[Unit], machines: &Value, limit: u16, method: &Method, uri: &Uri) -> Response {
    if method != Method::GET {
        return error(405, "only GET supported against this resource");
    }
    let page = match uri.query().and_then(|query| query.strip_prefix("nextPageToken=")) {
        None => 1,
        Some(token) => match number(&token.replace("%3D", "="), limit) {
            Some(page) => page,
            None => return error(400, &format!("token limit must be {limit}")),
        },
    };
    let list = |key: &str, all: Vec<Value>| {
        let (limit, start) = (usize::from(limit), (usize::from(page) - 1) * usize::from(limit));
        let items: Vec<Value> = all.iter().skip(start).take(limit).cloned().collect();
        let mut body = Map::new();
        // A full page points to another, also where there is none.
        if items.len() == limit {
            body.insert("nextPageToken".into(), token(u16::try_from(limit).unwrap(), page + 1).into());
        }
        if !items.is_empty() {
            body.insert(key.into(), items.into());
        }
        json_answer(200, &Value::Object(body))
    };
    match uri.path() {
        "/fleet/v1/units" => {
            // A unit whose wanted state isn't one fails to be read, and is left out.
            let readable = units.iter().filter(|unit| ["inactive", "loaded", "launched"].contains(&unit.desired));
            list("units", readable.map(as_unit).collect())
        }
        "/fleet/v1/state" => list("states", units.iter().flat_map(as_states).collect()),
        "/fleet/v1/machines" => list("machines", machines.as_array().unwrap().clone()),
        path => match path.strip_prefix("/fleet/v1/units/") {
            Some(name) => match units.iter().find(|unit| unit.name == name) {
                Some(unit) if ["inactive", "loaded", "launched"].contains(&unit.desired) => {
                    json_answer(200, &as_unit(unit))
                }
                Some(_) => error(500, ""),
                None => error(404, "unit does not exist"),
            },
            None => error(404, ""),
        },
    }
}

fn as_unit(unit: &Unit) -> Value {
    let options = unit.options.iter().map(|(section, name, value)| {
        let mut option = json!({ "name": name, "section": section });
        if !value.is_empty() {
            option["value"] = (*value).into();
        }
        option
    });
    let mut view = json!({ "desiredState": unit.desired, "name": unit.name, "options": options.collect::<Vec<_>>() });
    let current = if unit.states.is_empty() { "inactive" } else { unit.desired };
    view["currentState"] = current.into();
    if !unit.machine.is_empty() {
        view["machineID"] = unit.machine.into();
    }
    view
}

fn as_states(unit: &Unit) -> Vec<Value> {
    let one = |(machine, hash, active, sub): &(&str, &str, &str, &str)| {
        json!({
            "hash": hash, "machineID": machine, "name": unit.name,
            "systemdActiveState": active, "systemdLoadState": "loaded",
            "systemdSubState": sub,
        })
    };
    unit.states.iter().map(one).collect()
}

/// Base64url of four bytes, little-endian: the limit and the page.
fn token(limit: u16, page: u16) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let bytes = [limit.to_le_bytes(), page.to_le_bytes()].concat();
    let bits = bytes.iter().fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte)) << 4;
    let digit = |index: u32| char::from(ALPHABET[usize::try_from(bits >> (30 - 6 * index) & 63).unwrap()]);
    (0..6).map(digit).chain("==".chars()).collect()
}

fn number(text: &str, limit: u16) -> Option<u16> {
    (1..1000).find(|page| token(limit, *page) == text)
}

fn error(code: u16, message: &str) -> Response {
    json_answer(code, &json!({ "error": { "code": code, "message": message } }))
}

fn json_answer(code: u16, value: &Value) -> Response {
    Response::builder()
        .status(StatusCode::from_u16(code).unwrap())
        .header("content-type", "application/json")
        .header("server", "fleetd/1.0.0")
        .body(Body::from(value.to_string()))
        .unwrap()
}

#[test]
fn tokens_are_fleets() {
    assert_eq!(token(3, 2), "AwACAA==");
}
