//! The settings of the whole cluster, and what units take of hosts.

use flotilla::model::unit::Target;
use serde_json::{Value, json};

use crate::harness::{Daemon, N1};

const SETTINGS: &str = "/fleet/v2/settings";

async fn change(daemon: &Daemon, body: Value) -> (u16, Value) {
    let answer = daemon.send("POST", SETTINGS, &body).await;
    (answer.status, answer.json())
}

/// What they are, by name.
fn values(list: &Value) -> Vec<(&str, &str)> {
    let settings = list["settings"].as_array().unwrap();
    settings.iter().map(|it| (it["name"].as_str().unwrap(), it["value"].as_str().unwrap())).collect()
}

#[tokio::test]
async fn settings_are_changed_together_and_have_their_defaults_again() {
    let daemon = Daemon::start().await;
    let reboots = [("reboot-slots", "1"), ("reboot-windows", "always")];
    let placement = [("overcommit-cpu", "100%"), ("overcommit-memory", "100%"), ("placement", "spread")];
    let defaults = [&placement[..], &reboots].concat();
    let list = daemon.get(SETTINGS).await.json();
    assert_eq!(values(&list), defaults);
    assert!(list["settings"].as_array().unwrap().iter().all(|setting| setting["set"] == false));
    let (status, changed) = change(&daemon, json!({ "set": { "placement": "pack", "overcommit-cpu": "250%" } })).await;
    assert_eq!(status, 200, "{changed}");
    let placement = [("overcommit-cpu", "250%"), ("overcommit-memory", "100%"), ("placement", "pack")];
    let now = [&placement[..], &reboots].concat();
    assert_eq!(values(&changed), now);
    let was: Vec<&Value> = changed["settings"].as_array().unwrap().iter().map(|setting| &setting["was"]).collect();
    assert_eq!(was, [&json!("100%"), &Value::Null, &json!("spread"), &Value::Null, &Value::Null]);
    assert_eq!(values(&daemon.get(SETTINGS).await.json()), now);
    for (body, why) in [
        (json!({ "set": { "placement": "spread", "overcommit-cpu": "much" } }), "`overcommit-cpu=much`: must be a "),
        (json!({ "set": { "x": "1" } }), "there is no setting `x`; there are overcommit-cpu, "),
        (json!({ "unset": ["x"] }), "there is no setting `x`"),
        (json!({ "set": { "placement": "pack" }, "unset": ["placement"] }), "`placement` can't be set and unset"),
        (json!({ "set": "placement" }), "can't read which settings to change"),
    ] {
        let (status, answer) = change(&daemon, body).await;
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(status == 400 && message.starts_with(why), "{status} {message}");
        assert_eq!(values(&daemon.get(SETTINGS).await.json()), now, "all or none");
    }
    let (_, changed) = change(&daemon, json!({ "unset": ["placement", "overcommit-cpu"] })).await;
    assert_eq!(values(&changed), defaults);
}

#[tokio::test]
async fn what_units_take_of_a_host_is_what_their_files_declare() {
    let daemon = Daemon::start().await;
    daemon.machine(N1, "n1", &[]).await;
    let machine = format!(
        r#"{{"id":"{N1}","ip":"10.0.0.1","hostname":"n1","builtin":{{"@memory":"1000","@cpus":"4"}},
            "reserved":{{"memory":1048576}},"version":"1","boot_id":"b"}}"#
    );
    daemon.write_raw(&format!("machine/{N1}"), machine.as_bytes()).await;
    let options = json!([
        { "section": "Service", "name": "ExecStart", "value": "/bin/a" },
        { "section": "X-Fleet", "name": "Memory", "value": "2M" },
        { "section": "X-Fleet", "name": "CPU", "value": "150%" },
    ]);
    let unit = json!({ "desiredState": "launched", "options": options });
    let put = daemon.send("PUT", "/fleet/v1/units/a.service", &unit).await;
    assert_eq!(put.status, 201, "{}", put.json());
    daemon.place("a.service", N1, Target::Launched).await;
    let host = daemon.get("/fleet/v2/resources").await.json()["hosts"][0].clone();
    let memory = json!({ "has": 1000 << 20, "reserved": 1 << 20, "offered": 999 << 20, "taken": 2 << 20 });
    let cpu = json!({ "has": 400, "reserved": 0, "offered": 400, "taken": 150 });
    assert_eq!(host, json!({ "id": N1, "memory": memory, "cpu": cpu, "units": 1 }));
}
