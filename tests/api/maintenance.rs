//! What is asked of hosts: that they are cordoned.

use flotilla::model::unit::Target;
use serde_json::{Value, json};

use crate::harness::{Daemon, FILE, N1};

const N2: &str = "3ec325e8bf0d4d5a9c6a7b8c9d0e1f2b";
const MACHINES: &str = "/fleet/v2/machines";

async fn ask(daemon: &Daemon, body: Value) -> (u16, Value) {
    let answer = daemon.send("POST", MACHINES, &body).await;
    (answer.status, answer.json())
}

/// What the list says of the cordons of hosts that are alive, and of those that are gone.
async fn cordons(daemon: &Daemon) -> [Vec<Value>; 2] {
    let list = daemon.get(MACHINES).await.json();
    let status = daemon.get("/fleet/v2/status").await.json();
    ["machines", "gone"].map(|which| {
        assert_eq!(list[which], status[which]);
        list[which].as_array().into_iter().flatten().map(|host| host["cordon"]["why"].clone()).collect()
    })
}

#[tokio::test]
async fn a_host_is_cordoned_until_it_is_uncordoned_or_forgotten() {
    let daemon = Daemon::start().await;
    daemon.machine(N1, "n1", &[]).await;
    daemon.write_raw(&format!("roster/{N2}"), br#"{"hostname":"n2"}"#).await;
    let (status, asked) = ask(&daemon, json!({ "ask": "cordon", "hosts": [N2, N1], "why": "disk" })).await;
    assert_eq!(status, 200, "{asked}");
    let hosts = asked["hosts"].as_array().unwrap();
    assert_eq!(hosts.iter().map(|host| &host["id"]).collect::<Vec<_>>(), [N1, N2]);
    for host in hosts {
        assert_eq!((&host["changed"], &host["cordon"]["why"]), (&json!(true), &json!("disk")));
        assert!(host["cordon"]["since"].as_u64().unwrap() > 0 && host["cordon"]["by"]["uid"].is_u64(), "{host}");
    }
    let (_, again) = ask(&daemon, json!({ "ask": "cordon", "hosts": [N1] })).await;
    assert_eq!(again["hosts"][0], json!({ "id": N1, "changed": false, "cordon": hosts[0]["cordon"] }));
    assert_eq!(cordons(&daemon).await, [[json!("disk")], [json!("disk")]]);
    // v1 is as it was.
    let v1 = daemon.get("/fleet/v1/machines").await.json();
    assert_eq!(v1["machines"], json!([{ "id": N1, "primaryIP": "10.88.0.1" }]));
    let (_, free) = ask(&daemon, json!({ "ask": "uncordon", "hosts": [N1] })).await;
    assert_eq!(free["hosts"], json!([{ "id": N1, "changed": true }]));
    assert_eq!(cordons(&daemon).await, [[Value::Null], [json!("disk")]]);
    assert_eq!(daemon.delete(&format!("{MACHINES}/{N2}")).await.status, 204);
    daemon.machine(N2, "n2", &[]).await;
    assert_eq!(cordons(&daemon).await, [vec![Value::Null; 2], vec![]]);
}

#[tokio::test]
async fn what_can_not_be_asked_is_refused_and_changes_nothing() {
    let daemon = Daemon::start().await;
    daemon.machine(N1, "n1", &[]).await;
    for (body, status, why) in [
        (json!({ "ask": "cordon", "hosts": [N1, N2] }), 404, format!("no host {N2} is known")),
        (json!({ "ask": "drop", "hosts": [N1] }), 400, "can't read what is asked".to_owned()),
        (json!({ "ask": "cordon", "hosts": ["n1"] }), 400, "can't read what is asked".to_owned()),
        (json!({ "ask": "cordon", "hosts": [N1], "why": "x".repeat(257) }), 400, "`why` has at most".to_owned()),
        (json!({ "ask": "cordon", "hosts": [N1], "why": "a\nb" }), 400, "`why` has at most".to_owned()),
    ] {
        let answer = daemon.send("POST", MACHINES, &body).await;
        assert_eq!(answer.status, status, "{body}: {}", answer.text);
        assert!(answer.error().starts_with(&why), "{}", answer.error());
    }
    assert_eq!(cordons(&daemon).await, [vec![Value::Null], vec![]]);
}

/// The same rule for a batch that is only checked, for a forecast, and for a unit that waits.
#[tokio::test]
async fn reasons_and_plans_know_of_it() {
    let daemon = Daemon::start().await;
    daemon.machine(N1, "n1", &[]).await;
    ask(&daemon, json!({ "ask": "cordon", "hosts": [N1], "why": "disk" })).await;
    let batch = json!({ "units": [{ "name": "a.service", "text": FILE, "desired": "launched" }] });
    let checked = daemon.send("POST", "/fleet/v2/units?check=hosts", &batch).await.json();
    let misfit = |text: &str| text.starts_with("cordoned by ") && text.ends_with(": disk");
    let said = checked["units"][0]["hosts"][0]["misfits"][0].as_str().unwrap();
    assert!(misfit(said), "{checked}");
    let plan = daemon.send("POST", "/fleet/v2/plan", &batch).await.json();
    assert_eq!(plan["units"][0]["effects"][0]["what"], "waits", "{plan}");
    assert_eq!(plan["units"][0]["effects"][0]["why"], "1 of 1 host: cordoned", "{plan}");
    daemon.send("POST", "/fleet/v2/units", &batch).await;
    let unit = daemon.get("/fleet/v2/units/a.service").await.json();
    assert!(misfit(unit["reasons"][0]["misfits"][0].as_str().unwrap()), "{unit}");
}

#[tokio::test]
async fn what_becomes_of_the_units_on_a_drained_host_is_told() {
    let daemon = Daemon::start().await;
    daemon.machine(N1, "n1", &[]).await;
    daemon.machine(N2, "n2", &[]).await;
    let bound = format!("{FILE}[X-Fleet]\nMachineID={N1}\n");
    for (unit, text) in [("a.service", FILE), ("b.service", bound.as_str())] {
        daemon.apply(json!([{ "name": unit, "text": text, "desired": "launched" }])).await;
        daemon.place(unit, N1, Target::Launched).await;
    }
    let path = format!("{MACHINES}/{N1}/drain");
    assert_eq!(daemon.get(&path).await.status, 404, "it isn't drained");
    let asked = json!({ "ask": "drain", "hosts": [N1], "why": "kernel", "parallel": 3 });
    let (status, answer) = ask(&daemon, asked.clone()).await;
    let drain = &answer["hosts"][0]["drain"];
    assert_eq!((status, &drain["parallel"], &drain["deadline"]), (200, &json!(3), &json!(3600)), "{answer}");
    assert_eq!(ask(&daemon, asked).await.1["hosts"][0]["changed"], false);
    let view = daemon.get(&path).await.json();
    assert_eq!(view["units"][0], json!({ "name": "a.service", "what": "leaves" }), "{view}");
    assert_eq!((&view["units"][1]["name"], &view["units"][1]["what"]), (&json!("b.service"), &json!("stays")));
    let reasons = json!([format!("wants machine {N1}")]);
    assert_eq!(view["units"][1]["reasons"][0]["misfits"], reasons, "{view}");
    let plan = daemon.send("POST", "/fleet/v2/plan", &json!({ "hosts": { "ask": "undrain", "hosts": [N1] } })).await;
    assert_eq!(plan.json()["changes"], false, "{}", plan.text);
    assert_eq!(ask(&daemon, json!({ "ask": "undrain", "hosts": [N1] })).await.1["hosts"][0]["changed"], true);
}

#[tokio::test]
async fn what_becomes_of_the_units_that_come_back_is_told() {
    let daemon = Daemon::start().await;
    daemon.machine(N1, "n1", &[]).await;
    daemon.machine(N2, "n2", &[]).await;
    daemon.apply(json!([{ "name": "a.service", "text": FILE, "desired": "launched" }])).await;
    daemon.place("a.service", N2, Target::Launched).await;
    let path = format!("{MACHINES}/{N1}/restore");
    assert_eq!(daemon.get(&path).await.status, 404, "nothing was to come back");
    ask(&daemon, json!({ "ask": "drain", "hosts": [N1] })).await;
    let stored = async |key: &str| serde_json::from_slice::<Value>(&daemon.read_raw(key).await).unwrap();
    let drained = stored(&format!("host/{N1}")).await["drain"]["generation"].clone();
    let generation = stored("unit/a.service").await["generation"].clone();
    let from = json!({ "host": N1, "drain": drained, "generation": generation });
    let record = json!({ "on": { "host": N2, "since": 1, "from": from } });
    daemon.write_raw("placement/a.service", record.to_string().as_bytes()).await;
    let plan = json!({ "hosts": { "ask": "undrain", "hosts": [N1], "restore": true } });
    let plan = daemon.send("POST", "/fleet/v2/plan", &plan).await.json();
    assert_eq!(plan["units"][0]["name"], "a.service", "{plan}");
    let undrain = json!({ "ask": "undrain", "hosts": [N1], "restore": true, "parallel": 3 });
    assert_eq!(ask(&daemon, undrain).await.0, 200);
    let view = daemon.get(&path).await.json();
    let unit = &view["units"][0];
    assert_eq!(
        (&unit["name"], &unit["what"], &unit["machine"]["id"]),
        (&json!("a.service"), &json!("comes"), &json!(N2),),
        "{view}"
    );
    ask(&daemon, json!({ "ask": "cordon", "hosts": [N1], "why": "disk" })).await;
    let unit = daemon.get(&path).await.json()["units"][0].clone();
    assert_eq!(unit["what"], "stays", "{unit}");
    assert!(unit["why"].as_str().unwrap().ends_with(": disk"), "{unit}");
}
