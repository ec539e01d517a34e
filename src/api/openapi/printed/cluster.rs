//! What `fleetctl status` and `fleetctl doctor` print of the whole cluster. Owns these schemas.

use serde_json::{Value, json};

use super::{all_of, of, or_null, text};

/// Something that needs a person, with these further properties.
fn finding(further: Value) -> Value {
    let problems = [
        "leaderless",
        "store-full",
        "store-corrupt",
        "mass-loss",
        "damaged",
        "stuck",
        "failed",
        "dead",
        "restarting",
        "unready",
        "reverted",
        "machine-id",
        "gone",
        "store-silent",
        "store-alarm",
        "reboot",
        "clock",
        "open-files",
        "waiting",
        "paused",
        "unpromoted",
        "slow",
        "store-large",
        "versions",
    ];
    let mut properties = json!({
        "problem": { "enum": problems },
        "name": { "type": "string", "description": "The unit, the set, the host or the member of etcd." },
        "host": { "type": "string", "description": "The host of the unit, or the address of the host." },
        "text": text(),
        "since": { "type": "integer", "minimum": 0, "description": "In ms since the epoch; 0 if unknown." },
    });
    if let (Some(properties), Value::Object(further)) = (properties.as_object_mut(), further) {
        properties.extend(further);
    }
    let required: Vec<&String> = properties.as_object().into_iter().flat_map(|all| all.keys()).collect();
    json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false })
}

/// The state of the cluster.
pub(super) fn overview() -> Value {
    let number = || json!({ "type": "integer", "minimum": 0 });
    let numbers = || json!({ "type": "object", "additionalProperties": number() });
    let leader = json!({
        "type": "object",
        "properties": { "host": text(), "since": number() },
        "required": ["host", "since"],
        "additionalProperties": false,
    });
    let finding = finding(json!({}));
    let cordoned = json!({
        "type": "object",
        "properties": { "name": text(), "host": text(), "text": text(), "since": number() },
        "required": ["name", "host", "text", "since"],
        "additionalProperties": false,
    });
    json!({
        "type": "object",
        "properties": {
            "healthy": { "type": "boolean", "description": "Whether nothing needs a person." },
            "leader": or_null(leader),
            "hosts": number(),
            "gone": number(),
            "cordoned": all_of(cordoned),
            "versions": numbers(),
            "units": number(),
            "states": numbers(),
            "rollouts": numbers(),
            "findings": all_of(finding),
            "offline": of("Offline"),
        },
        "required": [
            "healthy", "leader", "hosts", "gone", "cordoned", "versions", "units", "states", "rollouts", "findings",
        ],
        "additionalProperties": false,
    })
}

/// What the doctor prints.
pub(super) fn diagnosis() -> Value {
    let advised = finding(json!({ "advice": { "type": "string", "description": "What to do about it." } }));
    json!({
        "description": "What `fleetctl doctor --output json` prints: what needs a person, and what to do. `store` is \
            null if the fleetd that was asked has an older version.",
        "type": "object",
        "properties": {
            "healthy": { "type": "boolean", "description": "Whether nothing needs a person." },
            "findings": all_of(advised),
            "store": or_null(of("StoreView")),
        },
        "required": ["healthy", "findings", "store"],
        "additionalProperties": false,
    })
}
