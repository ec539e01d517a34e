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

/// What is asked of a rollout is planned like a change of units, and is not asked.
#[tokio::test]
async fn what_is_asked_of_a_rollout_leads_to_what_its_members_do() {
    let daemon = Daemon::start().await;
    daemon.machine(N1, "n1", &[]).await;
    let file = format!("{FILE}[X-Fleet]\nReplicas=2\n[X-Rollout]\nCanary=1\n");
    daemon.apply(json!([{ "name": "web@.service", "text": FILE.replace("true", "false") }])).await;
    let before = daemon.get("/fleet/v2/units/web@.service").await.json()["hash"].clone();
    daemon.apply(json!([{ "name": "web@.service", "text": file, "replace": true, "desired": "launched" }])).await;
    let member = daemon.get("/fleet/v2/units/web@1.service").await.json();
    let (target, generation) = (member["hash"].clone(), member["generation"].clone());
    let rollout = json!({
        "target": target, "from": { "hash": before }, "phase": "waiting", "since": 7, "began": 5, "heeded": 0,
    });
    daemon.write_raw("rollout/web@.service", rollout.to_string().as_bytes()).await;
    let gate = json!({ "rollout": "web@.service", "target": target, "hash": before, "generation": 1,
        "asked": generation });
    daemon.write_raw("gate/web@1.service", gate.to_string().as_bytes()).await;
    for (unit, hash, generation) in [("web@1.service", &before, json!(1)), ("web@2.service", &target, generation)] {
        daemon.place(unit, N1, Target::Launched).await;
        let mut told = json!({ "hash": hash, "target": "launched", "generation": generation });
        daemon.write_raw(&format!("schedule/{N1}/{unit}"), told.to_string().as_bytes()).await;
        for (key, value) in [("load", "loaded"), ("active", "active"), ("sub", "running")] {
            told[key] = value.into();
        }
        told["since"] = 0.into();
        daemon.write_raw(&format!("state/{N1}/{unit}"), told.to_string().as_bytes()).await;
    }
    let commits = daemon.store.commits();
    let asks = async |name: &str, ask: &str| {
        let body = json!({ "asks": [{ "name": name, "ask": ask }] });
        daemon.send("POST", "/fleet/v2/plan", &body).await
    };
    let promoted = asks("web@.service", "promote").await.json();
    assert_eq!(effects(&promoted), [one("web@1.service", "restarts", "n1")], "{promoted}");
    assert_eq!((&promoted["changes"], &promoted["rollouts"][0]["phase"]), (&json!(true), &json!("done")));
    assert_eq!(promoted["rollouts"][0]["steps"], json!([["web@1.service"]]));
    let paused = asks("web@.service", "pause").await.json();
    assert_eq!(effects(&paused), [], "{paused}");
    for (name, ask, status, error) in [
        ("web@.service", "retry", 409, "the rollout of web@.service hasn't failed: it is waiting for promotion"),
        ("db.service", "retry", 409, "db.service has had no rollout"),
    ] {
        let refused = asks(name, ask).await;
        assert_eq!((refused.status, refused.error().as_str()), (status, error));
    }
    for body in [json!({}), json!({ "units": [], "asks": [] })] {
        let refused = daemon.send("POST", "/fleet/v2/plan", &body).await;
        let error = "can't read the batch: it has either `units`, `asks`, `hosts` or `moves`";
        assert_eq!((refused.status, refused.error().as_str()), (400, error));
    }
    assert_eq!(daemon.store.commits(), commits);
    let view = daemon.get("/fleet/v2/rollouts/web@.service").await.json();
    assert!(view.get("ask").is_none(), "{view}");
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
