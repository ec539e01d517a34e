//! `POST /fleet/v2/plan`: what a batch would lead to. There is no engine: the leader's records are written as it writes
//! them.

use flotilla::model::unit::Target;
use serde_json::{Value, json};

use crate::harness::{Daemon, FILE, N1};

async fn plan(daemon: &Daemon, units: Value) -> Value {
    let answer = daemon.send("POST", "/fleet/v2/plan", &json!({ "units": units })).await;
    assert_eq!(answer.status, 200, "{}", answer.error());
    answer.json()
}

/// Name, what happens, and the host's name.
fn effects(plan: &Value) -> Vec<(String, String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let units = plan["units"].as_array().unwrap().iter();
    let all = units.flat_map(|unit| unit["effects"].as_array().unwrap().iter().map(move |effect| (unit, effect)));
    let all = all.map(|(unit, effect)| (&unit["name"], &effect["what"], &effect["machine"]["hostname"]));
    all.map(|(name, what, host)| (text(name), text(what), text(host))).collect()
}

fn one(name: &str, what: &str, host: &str) -> (String, String, String) {
    (name.into(), what.into(), host.into())
}

#[tokio::test]
async fn a_plan_is_made_with_one_revision_and_changes_nothing() {
    let daemon = Daemon::start().await;
    daemon.machine(N1, "n1", &[("zone", "a")]).await;
    daemon.apply(json!([{ "name": "old.service", "text": FILE, "desired": "launched" }])).await;
    let commits = daemon.store.commits();
    let revision = daemon.get("/fleet/v2/units").await.json()["revision"].clone();
    let zone = |zone: &str| format!("{FILE}[X-Fleet]\nMachineMetadata=zone={zone}\n");
    let planned = plan(
        &daemon,
        json!([
            { "name": "a.service", "text": zone("a"), "desired": "launched" },
            { "name": "b.service", "text": zone("b"), "desired": "launched" },
            { "name": "c.service", "text": FILE },
            { "name": "old.service", "desired": "launched" },
        ]),
    )
    .await;
    // That old.service is about to be placed isn't the batch's doing.
    assert_eq!(effects(&planned), [one("a.service", "placed", "n1"), one("b.service", "waits", "")]);
    assert_eq!(planned["units"][1]["effects"][0]["why"], "1 of 1 host: metadata");
    let outcomes: Vec<&str> =
        planned["units"].as_array().unwrap().iter().map(|u| u["applied"]["outcome"].as_str().unwrap()).collect();
    assert_eq!((outcomes, &planned["revision"]), (vec!["created"; 3], &revision));
    let nothing = plan(&daemon, json!([{ "name": "old.service", "desired": "launched" }])).await;
    assert_eq!((&nothing["changes"], &nothing["units"]), (&json!(false), &json!([])));
    assert_eq!(daemon.store.commits(), commits);
    assert_eq!(daemon.get("/fleet/v2/units").await.json()["units"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn what_runs_is_restarted_or_stopped() {
    let daemon = Daemon::start().await;
    daemon.machine(N1, "n1", &[]).await;
    daemon.apply(json!([{ "name": "a.service", "text": FILE, "desired": "launched" }])).await;
    let unit = daemon.get("/fleet/v2/units/a.service").await.json();
    let told = json!({ "hash": unit["hash"], "target": "launched", "generation": unit["generation"] });
    daemon.place("a.service", N1, Target::Launched).await;
    daemon.write_raw(&format!("schedule/{N1}/a.service"), told.to_string().as_bytes()).await;
    let mut report = told.clone();
    for (key, value) in [("load", "loaded"), ("active", "active"), ("sub", "running")] {
        report[key] = value.into();
    }
    report["since"] = 0.into();
    daemon.write_raw(&format!("state/{N1}/a.service"), report.to_string().as_bytes()).await;
    let other = FILE.replace("ExecStart=", "Environment=A=1\nExecStart=");
    for (change, what) in [
        (json!({ "restart": true }), "restarts"),
        (json!({ "text": other, "replace": true }), "restarts"),
        (json!({ "text": format!("{FILE}[X-Fleet]\nConflicts=b*\n"), "replace": true }), "rewritten"),
        (json!({ "desired": "loaded" }), "stops"),
        (json!({ "desired": "inactive" }), "leaves"),
        (json!({ "destroy": true }), "leaves"),
    ] {
        let mut named = change.clone();
        named["name"] = "a.service".into();
        assert_eq!(effects(&plan(&daemon, json!([named])).await), [one("a.service", what, "n1")], "{change}");
    }
}

#[tokio::test]
async fn a_plan_is_refused_as_the_change_would_be() {
    let daemon = Daemon::start().await;
    let bad = json!({ "units": [{ "name": "c.service" }, { "name": "b.service", "text": FILE }] });
    let refused = daemon.send("POST", "/fleet/v2/plan", &bad).await;
    let changed = daemon.send("POST", "/fleet/v2/units", &bad).await;
    assert_eq!((refused.status, refused.error()), (changed.status, changed.error()));
    assert_eq!(refused.status, 400);
    let units = json!({ "units": [] });
    assert_eq!(daemon.send("POST", "/fleet/v2/plan?check=true", &units).await.status, 400);
    assert_eq!(daemon.get("/fleet/v2/plan").await.status, 405);
    // What an earlier version answers to a path that it doesn't know, by which `fleetctl` tells that it is too old.
    assert_eq!(daemon.send("POST", "/fleet/v2/forecast", &units).await.status, 404);
}
