//! What `fleetctl --output json` prints, beside what the API answers. Owns these schemas; the tests of the command line
//! hold every document that is printed to them.

mod cluster;

use serde_json::{Value, json};

/// A schema of ours, by name.
fn of(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

fn text() -> Value {
    json!({ "type": "string" })
}

fn or_null(schema: Value) -> Value {
    json!({ "anyOf": [schema, { "type": "null" }] })
}

fn all_of(schema: Value) -> Value {
    json!({ "type": "array", "items": schema })
}

/// The rows of a list. Those fields that were asked for with `--fields`, or all of them.
fn rows(command: &str, fields: &[(&str, Value)]) -> Value {
    let properties: serde_json::Map<_, _> = fields.iter().map(|(name, of)| ((*name).to_owned(), of.clone())).collect();
    let row = json!({ "type": "object", "properties": properties, "additionalProperties": false, "minProperties": 1 });
    let description =
        format!("What `fleetctl {command} --output json` prints: the fields of `--fields`, or all of them.");
    json!({ "description": description, "type": "array", "items": row })
}

/// Hosts, each with how many units went, and what became of the others.
fn hosts_with(description: &str, (count, how_many): (&str, &str), unit: &str) -> Value {
    json!({
        "description": description,
        "type": "array",
        "items": {
            "type": "object",
            "properties": {
                "machine": of("MachineId"),
                "hostname": text(),
                count: { "type": "integer", "minimum": 0, "description": how_many },
                "units": all_of(of(unit)),
            },
            "required": ["machine", "hostname", count, "units"],
            "additionalProperties": false,
        },
    })
}

/// All of them, by name.
pub(super) fn schemas() -> Vec<(&'static str, Value)> {
    let (unit, machine, hash) = (of("UnitName"), of("MachineId"), of("UnitHash"));
    let offline = of("Offline");
    let units = [
        ("unit", unit.clone()),
        ("machine", machine.clone()),
        ("active", text()),
        ("sub", text()),
        ("load", text()),
        ("hash", hash.clone()),
        ("ip", text()),
        ("hostname", text()),
        ("job", or_null(text())),
        ("error", or_null(text())),
        ("missing", json!({ "type": "boolean" })),
        ("restarts", json!({ "type": "integer", "minimum": 0 })),
        ("failure", or_null(of("Failure"))),
        ("status", or_null(text())),
        ("ready", or_null(json!({ "type": "boolean" }))),
        ("health", or_null(text())),
        ("offline", offline.clone()),
    ];
    let target = json!({ "anyOf": [machine, { "const": "global" }, { "type": "null" }] });
    let files = [
        ("unit", unit.clone()),
        ("hash", or_null(hash.clone())),
        ("dstate", or_null(of("Desired"))),
        ("state", or_null(text())),
        ("target", target.clone()),
        ("tmachine", target),
        ("global", or_null(json!({ "type": "boolean" }))),
        ("desc", or_null(text())),
        ("waiting", or_null(text())),
        ("offline", offline.clone()),
    ];
    let metadata = json!({ "type": "object", "additionalProperties": text() });
    let number = json!({ "type": "integer", "minimum": 0 });
    let machines = [
        ("machine", machine.clone()),
        ("ip", text()),
        ("metadata", metadata.clone()),
        ("builtin", metadata.clone()),
        ("hostname", text()),
        ("version", text()),
        ("since", number.clone()),
        ("gone", or_null(of("Gone"))),
        ("state", json!({ "enum": ["up", "cordoned", "drained", "gone"] })),
        ("drain", or_null(of("Drain"))),
        ("memory", or_null(of("Amount"))),
        ("cpu", or_null(of("Amount"))),
        ("cordon", or_null(of("Cordon"))),
        ("offline", offline.clone()),
    ];
    let sets = [
        ("set", unit.clone()),
        ("wanted", number.clone()),
        ("ready", number.clone()),
        ("waiting", number.clone()),
        ("done", number.clone()),
        ("revision", or_null(number.clone())),
        ("rollout", or_null(of("Phase"))),
        ("members", number.clone()),
        ("file", or_null(number.clone())),
        ("lead", or_null(unit.clone())),
    ];
    let services = [
        ("service", of("ServiceName")),
        ("instances", number.clone()),
        ("addresses", all_of(text())),
        ("units", all_of(unit.clone())),
    ];
    let instances = [
        ("instance", of("InstanceName")),
        ("address", text()),
        ("port", number.clone()),
        ("weight", number.clone()),
        ("unit", or_null(unit.clone())),
        ("machine", or_null(machine)),
        ("hostname", text()),
        ("metadata", metadata),
        ("ttl", number.clone()),
        ("since", number.clone()),
    ];
    let done = json!({
        "allOf": [of("AppliedUnit")],
        "properties": {
            "end": { "enum": ["done", "failed", "timeout", "interrupted"], "description": "How waiting for it ended." },
            "error": { "type": "string", "description": "Why it failed, or what it still waited for." },
            "unit": of("UnitView"),
        },
        "unevaluatedProperties": false,
    });
    let waited = json!({
        "type": "object",
        "properties": {
            "name": unit.clone(),
            "end": { "enum": ["done", "failed", "timeout", "interrupted"], "description": "How waiting for it ended." },
            "error": { "type": "string", "description": "Why it isn't in that state." },
            "unit": of("UnitView"),
        },
        "required": ["name", "end"],
        "additionalProperties": false,
    });
    let state = json!({
        "allOf": [of("StateView")],
        "properties": { "unit": unit.clone(), "desired": or_null(of("Desired")), "offline": offline.clone() },
        "required": ["unit", "desired"],
        "unevaluatedProperties": false,
    });
    let file = json!({
        "type": "object",
        "properties": {
            "unit": unit.clone(), "hash": hash, "text": text(), "replicas": number.clone(), "by": of("Author"),
            "offline": offline.clone(),
        },
        "required": ["unit", "hash", "text"],
        "additionalProperties": false,
    });
    let option = json!({
        "description": "An option of a section that systemd skips, whose values differ.",
        "type": "object",
        "properties": {
            "section": text(),
            "option": text(),
            "before": all_of(text()),
            "after": all_of(text()),
            "restarts": {
                "enum": ["none", "unfit", "all"],
                "description": "Which units that run it restarts: none, those that no longer fit their host, or all.",
            },
        },
        "required": ["section", "option", "before", "after", "restarts"],
        "additionalProperties": false,
    });
    vec![
        ("PrintedUnits", rows("list-units", &units)),
        ("PrintedUnitFiles", rows("list-unit-files", &files)),
        ("PrintedMachines", rows("list-machines", &machines)),
        ("PrintedSets", rows("list-sets", &sets)),
        ("PrintedServices", rows("list-services", &services)),
        ("PrintedInstances", rows("service", &instances)),
        (
            "PrintedDone",
            json!({
                "description": "What `fleetctl submit`, `load`, `start`, `restart`, `stop`, `unload`, `destroy`, \
                    `scale`, `rollback` and `restore` print with `--output json`.",
                "type": "object",
                "properties": { "revision": of("Revision"), "units": all_of(done) },
                "required": ["revision", "units"],
                "additionalProperties": false,
            }),
        ),
        (
            "PrintedWaited",
            json!({
                "description": "What `fleetctl wait` prints with `--output json`.",
                "type": "object",
                "properties": {
                    "for": { "enum": ["active", "ready", "inactive", "settled"] },
                    "units": all_of(waited),
                },
                "required": ["for", "units"],
                "additionalProperties": false,
            }),
        ),
        (
            "PrintedRollouts",
            json!({
                "description": "What `fleetctl rollout --output json` prints: the one that is named, or all that \
                    aren't done.",
                "anyOf": [of("RolloutView"), all_of(of("RolloutView"))],
            }),
        ),
        (
            "PrintedFiles",
            json!({
                "description": "What `fleetctl cat --output json` prints: one, or for a pattern an array; \
                    `fleetctl history` prints a `UnitHistory`.",
                "anyOf": [file.clone(), all_of(file)],
            }),
        ),
        (
            "PrintedStatus",
            json!({
                "description": "What `fleetctl status --output json` prints: of the units that are named, each on \
                    each host; without any, the state of the cluster.",
                "anyOf": [all_of(state), cluster::overview()],
            }),
        ),
        ("PrintedDiagnosis", cluster::diagnosis()),
        (
            "PrintedMetadata",
            json!({
                "description": "What `fleetctl set-metadata` and `unset-metadata` print with `--output json`: the \
                    host, and its metadata after the change.",
                "type": "object",
                "properties": {
                    "machine": of("MachineId"),
                    "ip": text(),
                    "hostname": text(),
                    "metadata": { "type": "object", "additionalProperties": text() },
                },
                "required": ["machine", "ip", "hostname", "metadata"],
                "additionalProperties": false,
            }),
        ),
        (
            "PrintedForgotten",
            json!({
                "description": "What `fleetctl forget --output json` prints: the hosts that were forgotten.",
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": { "machine": of("MachineId"), "ip": text(), "hostname": text() },
                    "required": ["machine", "ip", "hostname"],
                    "additionalProperties": false,
                },
            }),
        ),
        (
            "PrintedAskedHosts",
            json!({
                "description": "What `fleetctl cordon` and `uncordon` print with `--output json`.",
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "machine": of("MachineId"),
                        "ip": text(),
                        "hostname": text(),
                        "changed": { "type": "boolean", "description": "Whether it wasn't so before." },
                        "cordon": or_null(of("Cordon")),
                    },
                    "required": ["machine", "ip", "hostname", "changed", "cordon"],
                    "additionalProperties": false,
                },
            }),
        ),
        (
            "PrintedSettings",
            json!({
                "description": "What `fleetctl settings`, `set` and `unset` print with `--output json`: all settings.",
                "type": "array",
                "items": of("SettingView"),
            }),
        ),
        (
            "PrintedDrained",
            hosts_with(
                "What `fleetctl drain` prints with `--output json`, when nothing more leaves.",
                ("left", "How many units left."),
                "DrainedUnit",
            ),
        ),
        (
            "PrintedUndrained",
            hosts_with(
                "What `fleetctl undrain` prints with `--output json`: with `--restore`, when nothing more comes back.",
                ("back", "How many units came back."),
                "ReturningUnit",
            ),
        ),
        (
            "PrintedMoves",
            json!({
                "description": "What `fleetctl move` and `rebalance` print with `--output json` when nothing moves.",
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "name": of("UnitName"),
                        "machine": or_null(of("MachineRef")),
                        "moved": { "type": "boolean", "description": "Whether it is where it was to go." },
                        "why": { "type": "string", "description": "Why not." },
                    },
                    "required": ["name", "machine", "moved"],
                    "additionalProperties": false,
                },
            }),
        ),
        (
            "PrintedReboots",
            json!({
                "description": "What `fleetctl reboot` prints with `--output json`, when no host goes on.",
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "machine": of("MachineId"),
                        "hostname": text(),
                        "state": { "enum": ["done", "stays", "cancelled"] },
                        "why": or_null(text()),
                    },
                    "required": ["machine", "hostname", "state", "why"],
                    "additionalProperties": false,
                },
            }),
        ),
        (
            "PrintedExport",
            json!({
                "description": "What `fleetctl export --output json` prints.",
                "type": "object",
                "properties": {
                    "folder": text(),
                    "units": { "type": "integer", "minimum": 0, "description": "How many units the folder has." },
                    "written": { "type": "integer", "minimum": 0, "description": "Files that are new or different." },
                    "deleted": { "type": "integer", "minimum": 0 },
                    "damaged": {
                        "type": "array",
                        "items": of("UnitName"),
                        "description": "Units whose records in the store are damaged: the folder keeps what it had.",
                    },
                },
                "required": ["folder", "units", "written", "deleted", "damaged"],
                "additionalProperties": false,
            }),
        ),
        (
            "PrintedDiffs",
            json!({
                "description": "What `fleetctl diff --output json` prints.",
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "unit": of("UnitName"),
                        "file": {
                            "type": "string",
                            "description": "The file here, or `cluster/` and a template, or also a revision.",
                        },
                        "from": { "type": "integer", "description": "The revision that is compared with `to`." },
                        "to": { "type": "integer", "description": "The other one." },
                        "same": { "type": "boolean" },
                        "diff": { "type": "string", "description": "The lines that differ, as `diff -u` prints them." },
                        "options": all_of(option),
                        "effect": {
                            "type": ["string", "null"],
                            "description": "What storing the file would do, as a sentence; of revisions, what the \
                                later file does to a unit that runs with the other one.",
                        },
                    },
                    "required": ["unit", "file", "same", "diff", "options", "effect"],
                    "additionalProperties": false,
                },
            }),
        ),
        (
            "PrintedFindings",
            json!({
                "description": "What `fleetctl verify --output json` prints.",
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "file": text(),
                        "line": { "type": ["integer", "null"], "minimum": 1 },
                        "column": { "type": ["integer", "null"], "minimum": 1 },
                        "severity": { "enum": ["error", "warning"] },
                        "message": text(),
                        "source": { "enum": ["fleetctl", "systemd", "cluster"] },
                    },
                    "required": ["file", "line", "column", "severity", "message", "source"],
                    "additionalProperties": false,
                },
            }),
        ),
        (
            "PrintedVersion",
            json!({
                "description": "What `fleetctl version --output json` prints.",
                "type": "object",
                "properties": { "version": text() },
                "required": ["version"],
                "additionalProperties": false,
            }),
        ),
    ]
}
