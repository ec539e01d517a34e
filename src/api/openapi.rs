//! The API's description for machines, `docs/openapi.json`, made from the wire types; held to it by a test.
//! `FLOTILLA_BLESS=1` writes it. Owns the list of operations, and of the statuses that each may answer with;
//! tests/api compares both with what is answered.

mod hosts;
mod parts;
mod printed;
mod services;

use serde_json::{Value, json};

use super::wire::{self, v1};
use crate::model::role::Operation as Need;

use parts::{CHANGE, Operation, READ, Types, body, globs, json_of, lines, list, name, offline, one, query, token};

const DESCRIPTION: &str = "What every fleetd serves for its whole cluster. v1 is CoreOS fleet's API, also served \
    under `/v1-alpha`; v2 is for what v1 can't say. `HEAD` works wherever `GET` does. A socket has a role, and \
    `x-roles` names those that permit an operation. docs/api.md says the same in prose.";

fn description() -> Value {
    let mut types = Types::new();
    let error = types.answer::<wire::ErrorBody>();
    let of_page = |more: &[(&str, &str)]| -> Vec<Value> {
        [token()].into_iter().chain(more.iter().map(|(name, text)| query(name, text))).collect()
    };
    let unit = json!({
        "desiredState": "loaded",
        "options": [{ "section": "Service", "name": "ExecStart", "value": "/bin/sleep 1000" }],
    });
    let metadata = json!([{ "op": "add", "path": "/3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a/metadata/disk", "value": "ssd" }]);
    let batch = json!({ "units": [
        { "name": "web@.service", "text": "[Service]\nExecStart=/bin/sleep 1000\n" },
        { "name": "web@1.service", "desired": "launched" },
        { "name": "old.service", "destroy": true },
    ] });
    let supposed = json!({ "lose": ["3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a"], "add": [{ "count": 1 }] });
    let filters = [("unitName", "Only reports of this unit."), ("machineID", "Only reports of this host.")];
    let line = types.answer::<wire::WatchLine>();
    let rollout_line = types.answer::<wire::RolloutLine>();
    let operations: Vec<(&str, &str, Operation)> = vec![
        (
            "/fleet/v1/units",
            "get",
            list("listUnits", "A page of units, sorted by name.", of_page(&[]), types.answer::<v1::Units>()),
        ),
        ("/fleet/v1/units/{name}", "get", one("getUnit", "One unit.", types.answer::<v1::Unit>())),
        (
            "/fleet/v1/units/{name}",
            "put",
            Operation {
                id: "putUnit",
                summary: "Create a unit, replace it, or say what is wanted of it.",
                needs: Need::Operate,
                parameters: vec![name()],
                request: body(types.nullable::<v1::Unit>("UnitToPut"), unit),
                done: vec![(201, "Created or replaced.", None), (204, "Changed, or so already.", None)],
                refused: CHANGE,
            },
        ),
        (
            "/fleet/v1/units/{name}",
            "delete",
            Operation {
                id: "deleteUnit",
                summary: "Destroy a unit.",
                needs: Need::Submit,
                parameters: vec![name()],
                request: None,
                done: vec![(204, "Destroyed.", None)],
                refused: &[400, 404, 408, 409, 413, 500, 503],
            },
        ),
        (
            "/fleet/v1/state",
            "get",
            list(
                "listStates",
                "A page of what hosts report, sorted by unit and host.",
                of_page(&filters),
                types.answer::<v1::States>(),
            ),
        ),
        (
            "/fleet/v1/state/{name}",
            "get",
            one("getState", "The first report of one unit.", types.answer::<v1::State>()),
        ),
        (
            "/fleet/v1/machines",
            "get",
            Operation {
                needs: Need::Discover,
                ..list(
                    "listMachines",
                    "A page of hosts that are alive, sorted by id.",
                    of_page(&[]),
                    types.answer::<v1::Machines>(),
                )
            },
        ),
        (
            "/fleet/v1/machines",
            "patch",
            Operation {
                id: "patchMachines",
                summary: "Change the dynamic metadata of hosts: all of it, or none.",
                needs: Need::Administer,
                parameters: vec![],
                request: body(types.request::<Vec<v1::MetadataChange>>(), metadata),
                done: vec![(204, "Changed.", None)],
                refused: &[400, 408, 413, 500, 503],
            },
        ),
        (
            "/fleet/v2/units",
            "get",
            list(
                "units",
                "Units as they are, at one revision of the store.",
                vec![globs(), offline()],
                types.answer::<wire::UnitList>(),
            ),
        ),
        (
            "/fleet/v2/units",
            "post",
            Operation {
                id: "apply",
                summary: "Change many units, all or none.",
                needs: Need::Operate,
                parameters: vec![query(
                    "check",
                    "`true`: only report what would become of them, or what is wrong. `hosts`: also which hosts each \
                     unit would fit.",
                )],
                request: body(types.request::<wire::Apply>(), batch.clone()),
                done: vec![(200, "Done.", json_of(types.answer::<wire::Applied>()))],
                refused: CHANGE,
            },
        ),
        (
            "/fleet/v2/units/{name}",
            "get",
            Operation {
                parameters: vec![name(), offline()],
                ..one(
                    "unit",
                    "One unit, with its file and why it isn't where it should be.",
                    types.answer::<wire::UnitDetail>(),
                )
            },
        ),
        (
            "/fleet/v2/units/{name}/history",
            "get",
            one(
                "history",
                "The texts that a unit's file has and had, also of a unit that was destroyed within a week.",
                types.answer::<wire::UnitHistory>(),
            ),
        ),
        (
            "/fleet/v2/sets",
            "get",
            list(
                "sets",
                "Sets: templates with a number of members, and how many of these are up.",
                vec![globs()],
                types.answer::<wire::SetList>(),
            ),
        ),
        (
            "/fleet/v2/plan",
            "post",
            Operation {
                id: "plan",
                summary: "What a batch, or what is asked of rollouts, would lead to, decided by the scheduler and the \
                          rollouts on a copy of the cluster. Nothing is changed.",
                needs: Need::Operate,
                parameters: vec![],
                request: body(types.request::<wire::PlanRequest>(), batch),
                done: vec![(200, "The plan.", json_of(types.answer::<wire::Plan>()))],
                refused: &[400, 404, 408, 409, 413, 415, 500, 503],
            },
        ),
        (
            "/fleet/v2/rollouts",
            "get",
            list(
                "rollouts",
                "Rollouts: how new files reach the members of sets, and units whose files have [X-Rollout].",
                vec![globs()],
                types.answer::<wire::RolloutList>(),
            ),
        ),
        (
            "/fleet/v2/rollouts/{name}",
            "get",
            one("rollout", "The last rollout of a set's template or of a unit.", types.answer::<wire::RolloutView>()),
        ),
        (
            "/fleet/v2/rollouts/{name}",
            "post",
            Operation {
                id: "askRollout",
                summary: "Ask something of a rollout: pause, resume, promote, retry.",
                needs: Need::Operate,
                parameters: vec![name()],
                request: body(types.request::<wire::AskRollout>(), json!({ "ask": "promote" })),
                done: vec![(204, "Asked. The leader acts on it after the answer.", None)],
                refused: &[400, 404, 408, 409, 413, 415, 500, 503],
            },
        ),
        (
            "/fleet/v2/moves",
            "get",
            list(
                "moves",
                "What becomes of units that a person wants on other hosts.",
                vec![],
                types.answer::<wire::MovesView>(),
            ),
        ),
        (
            "/fleet/v2/moves",
            "post",
            Operation {
                id: "moveUnits",
                summary: "Move units to other hosts, with those that must be with them: all or none.",
                needs: Need::Operate,
                parameters: vec![],
                request: body(types.request::<wire::MoveUnits>(), json!({ "units": ["a.service"] })),
                done: vec![(
                    200,
                    "Asked. The leader acts on it after the answer.",
                    json_of(types.answer::<wire::MovesView>()),
                )],
                refused: &[400, 403, 408, 409, 413, 415, 500, 503],
            },
        ),
        (
            "/fleet/v2/rebalance",
            "get",
            list(
                "rebalance",
                "Which units would be better on other hosts, and why. Changes nothing.",
                vec![globs(), query("max_moves", "How many moves to show at most; without it, 10.")],
                types.answer::<wire::RebalanceView>(),
            ),
        ),
        (
            "/fleet/v2/explain",
            "get",
            list(
                "explain",
                "Why units wait, or are where they are: every rule of every host. Changes nothing.",
                vec![globs()],
                types.answer::<wire::Explanations>(),
            ),
        ),
        (
            "/fleet/v2/what-if",
            "post",
            Operation {
                id: "whatIf",
                summary: "Where units would be if hosts were lost or added, or units started, decided by the scheduler \
                          on a copy of the cluster. Nothing is changed.",
                needs: Need::Read,
                parameters: vec![],
                request: body(types.request::<wire::WhatIfRequest>(), supposed),
                done: vec![(200, "What would follow.", json_of(types.answer::<wire::WhatIf>()))],
                refused: &[400, 408, 409, 413, 415, 500, 503],
            },
        ),
        (
            "/fleet/v2/status",
            "get",
            list(
                "status",
                "The whole cluster at one revision of the store: leader, hosts, units.",
                vec![offline()],
                types.answer::<wire::ClusterView>(),
            ),
        ),
        (
            "/fleet/v2/watch",
            "get",
            Operation {
                id: "watch",
                summary: "Units as they change, without end: one `WatchLine` a line.",
                needs: Need::Follow,
                parameters: vec![
                    globs(),
                    query(
                        "host",
                        "Only what the host with this id has of the units, of which 1 to 8 must be named, without \
                         patterns. Costs the cluster nothing but that.",
                    ),
                    query(
                        "operation",
                        "The operation whose progress is told: load, start, restart, stop, unload or destroy. \
                         Without it, the one that leads to what is wanted.",
                    ),
                ],
                request: None,
                done: vec![(200, "Lines of JSON; an empty one says that the stream lives.", lines(line))],
                refused: READ,
            },
        ),
        (
            "/fleet/v2/watch/rollouts",
            "get",
            Operation {
                id: "watchRollouts",
                summary: "Rollouts as they change, without end: one `RolloutLine` a line.",
                needs: Need::Follow,
                parameters: vec![globs()],
                request: None,
                done: vec![(200, "Lines of JSON; an empty one says that the stream lives.", lines(rollout_line))],
                refused: READ,
            },
        ),
        (
            "/discovery",
            "get",
            Operation {
                id: "discovery",
                summary: "v1, as Google's API discovery service describes APIs.",
                needs: Need::Describe,
                parameters: vec![],
                request: None,
                done: vec![(200, "The document.", json_of(json!({ "type": "object" })))],
                refused: &[503],
            },
        ),
        (
            "/fleet/openapi.json",
            "get",
            Operation {
                id: "openapi",
                summary: "This document. Answered whatever state the cluster is in.",
                needs: Need::Describe,
                parameters: vec![],
                request: None,
                done: vec![(200, "The document.", json_of(json!({ "type": "object" })))],
                refused: &[],
            },
        ),
        (
            "/metrics",
            "get",
            Operation {
                id: "metrics",
                summary: "What this fleetd counts, for Prometheus. Answered whatever state the cluster is in.",
                needs: Need::Read,
                parameters: vec![],
                request: None,
                done: vec![(
                    200,
                    "OpenMetrics text.",
                    Some(("application/openmetrics-text", json!({ "type": "string" }))),
                )],
                refused: &[],
            },
        ),
    ];
    let mut paths = serde_json::Map::new();
    let of_services = services::operations(&mut types);
    let of_hosts = hosts::operations(&mut types);
    for (path, method, operation) in operations.into_iter().chain(of_services).chain(of_hosts) {
        let path = paths.entry(path).or_insert_with(|| json!({}));
        assert!(path.get(method).is_none(), "an operation twice");
        path[method] = operation.value(&error);
    }
    let mut schemas = types.finish();
    for (name, schema) in printed::schemas() {
        schemas[name] = schema;
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Flotilla",
            "description": DESCRIPTION,
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "paths": paths,
        "components": { "schemas": schemas },
    })
}

fn described() -> Value {
    serde_json::from_str(include_str!("../../docs/openapi.json")).unwrap_or_default()
}

#[test]
fn the_description_is_of_the_wire_types() {
    let now = description();
    if std::env::var_os("FLOTILLA_BLESS").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/openapi.json");
        std::fs::write(path, format!("{now:#}\n")).unwrap();
        return;
    }
    assert!(
        now == described(),
        "docs/openapi.json is not what the wire types are; read what `FLOTILLA_BLESS=1 cargo test --lib openapi` \
         makes of it"
    );
}

/// What `/discovery` says is what the other description says.
#[test]
fn the_discovery_document_is_true() {
    let discovery: Value = serde_json::from_str(include_str!("server/v1/discovery.json")).unwrap();
    let (ours, schemas) = (description(), &discovery["schemas"]);
    let mut described = std::collections::BTreeSet::new();
    for method in
        discovery["resources"].as_object().unwrap().values().flat_map(|r| r["methods"].as_object().unwrap().values())
    {
        let path = format!("/{}{}", discovery["servicePath"].as_str().unwrap(), method["path"].as_str().unwrap());
        let (path, verb) =
            (path.replace("{unitName}", "{name}"), method["httpMethod"].as_str().unwrap().to_lowercase());
        let operation = &ours["paths"][&path][&verb];
        assert!(operation.is_object(), "{verb} {path}");
        let names = |values: &Value| -> std::collections::BTreeSet<String> {
            values.as_array().into_iter().flatten().map(|p| p["name"].as_str().unwrap().to_owned()).collect()
        };
        let theirs = method["parameters"].as_object().into_iter().flat_map(|p| p.keys());
        let theirs = theirs
            .map(|name| if path.contains("{name}") && name == "unitName" { "name".into() } else { name.clone() })
            .collect();
        assert_eq!(names(&operation["parameters"]), theirs, "{verb} {path}");
        assert_eq!(operation.get("requestBody").is_some(), method.get("request").is_some(), "{verb} {path}");
        described.insert((path, verb));
    }
    for (path, item) in ours["paths"].as_object().unwrap().iter().filter(|(path, _)| path.starts_with("/fleet/v1/")) {
        for verb in item.as_object().unwrap().keys() {
            assert!(described.contains(&(path.clone(), verb.clone())), "{verb} {path} is missing");
        }
    }
    for (theirs, name) in [
        ("Machine", "Machine"),
        ("MachinePage", "Machines"),
        ("UnitOption", "UnitOption"),
        ("Unit", "Unit"),
        ("UnitPage", "Units"),
        ("UnitState", "State"),
        ("UnitStatePage", "States"),
        ("MetadataChange", "MetadataChange"),
    ] {
        let keys = |schema: &Value| {
            schema["properties"].as_object().unwrap().keys().cloned().collect::<std::collections::BTreeSet<_>>()
        };
        assert_eq!(keys(&schemas[theirs]), keys(&ours["components"]["schemas"][name]), "{name}");
    }
}
