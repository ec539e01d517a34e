//! Hosts that are to reboot. Nobody carries it out here.

use serde_json::{Value, json};

use crate::harness::{Daemon, N1};

const N2: &str = "3ec325e8bf0d4d5a9c6a7b8c9d0e1f2b";
const REBOOTS: &str = "/fleet/v2/reboots";

async fn ask(daemon: &Daemon, body: Value) -> (u16, Value) {
    let answer = daemon.send("POST", REBOOTS, &body).await;
    (answer.status, answer.json())
}

/// The stages of the hosts that are to reboot, as the list and the status have them.
async fn stages(daemon: &Daemon) -> Vec<(String, String)> {
    let list = daemon.get(REBOOTS).await.json()["reboots"].clone();
    let status = daemon.get("/fleet/v2/status").await.json()["reboots"].clone();
    assert_eq!(status, if list == json!([]) { Value::Null } else { list.clone() });
    let word = |value: &Value| value.as_str().unwrap().to_owned();
    let hosts = list.as_array().unwrap().iter();
    hosts.map(|host| (word(&host["machine"]["hostname"]), word(&host["stage"]))).collect()
}

fn stage(host: &str, stage: &str) -> (String, String) {
    (host.to_owned(), stage.to_owned())
}

#[tokio::test]
async fn hosts_wait_until_they_reboot_or_it_is_cancelled() {
    let daemon = Daemon::start().await;
    daemon.machine(N1, "n1", &[]).await;
    let (status, refused) = ask(&daemon, json!({ "hosts": [N1, N2] })).await;
    assert_eq!((status, stages(&daemon).await), (409, vec![]));
    let why = format!("the host {N2} isn't registered; nothing was asked");
    assert_eq!(refused["error"]["message"], json!(why));
    daemon.machine(N2, "n2", &[]).await;
    let (status, asked) = ask(&daemon, json!({ "hosts": [N2, N1], "why": "kernel" })).await;
    assert_eq!((status, asked), (200, json!({ "hosts": [N1, N2] })));
    assert_eq!(ask(&daemon, json!({ "hosts": [N1] })).await.1, json!({ "hosts": [] }));
    assert_eq!(stages(&daemon).await, [stage("n2", "waits"), stage("n1", "waits")]);
    let first = daemon.get(REBOOTS).await.json()["reboots"][0].clone();
    assert_eq!((&first["why"], &first["group"]), (&json!("kernel"), &json!("default")));
    assert!(first["by"]["uid"].is_u64() && first["since"].as_u64().unwrap() > 0, "{first}");
    assert_eq!(daemon.delete(&format!("{REBOOTS}/{N2}")).await.status, 204);
    assert_eq!(daemon.delete(&format!("{REBOOTS}/{N2}")).await.status, 404);
    assert_eq!(stages(&daemon).await, [stage("n1", "waits")]);
}

#[tokio::test]
async fn a_host_with_a_slot_leaves_is_away_and_returns() {
    let daemon = Daemon::start().await;
    daemon.machine(N1, "n1", &[]).await;
    for (back, expected) in [(false, "leaves"), (true, "returns")] {
        let request = json!({ "host": N1, "boot": "b" });
        let holder = json!({ "host": N1, "since": 5, "request": request, "back": back, "error": "no login manager" });
        daemon.write_raw("reboot/default", json!({ "holders": [holder] }).to_string().as_bytes()).await;
        assert_eq!(stages(&daemon).await, [stage("n1", expected)]);
    }
    let gone = format!(r#"{{"holders":[{{"host":"{N2}","since":5}}]}}"#);
    daemon.write_raw("reboot/rack-7", gone.as_bytes()).await;
    daemon.write_raw(&format!("roster/{N2}"), br#"{"hostname":"n2","gone":{"since":7}}"#).await;
    let both = daemon.get(REBOOTS).await.json()["reboots"].clone();
    assert_eq!((&both[0]["error"], &both[1]["stage"]), (&json!("no login manager"), &json!("away")));
    assert_eq!((&both[1]["gone"], &both[1]["group"]), (&json!(7), &json!("rack-7")));
    // A person says that it is gone for good.
    assert_eq!(daemon.delete(&format!("/fleet/v2/machines/{N2}")).await.status, 204);
    assert_eq!(stages(&daemon).await, [stage("n1", "returns")]);
}

#[tokio::test]
async fn what_can_not_be_asked_is_refused() {
    let daemon = Daemon::start().await;
    daemon.machine(N1, "n1", &[]).await;
    for (body, status, why) in [
        (json!({ "hosts": ["n1"] }), 400, "can't read what is asked"),
        (json!({ "hosts": [N1], "why": "a\nb" }), 400, "`why` has at most 256 bytes"),
    ] {
        let (found, answer) = ask(&daemon, body).await;
        assert!(found == status && answer["error"]["message"].as_str().unwrap().contains(why), "{answer}");
    }
    daemon.write_raw("reboot/default", b"{").await;
    let (status, answer) = ask(&daemon, json!({ "hosts": [N1] })).await;
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(status == 409 && message.starts_with("it isn't known who reboots: "), "{answer}");
    assert_eq!(daemon.delete(&format!("{REBOOTS}/{N1}")).await.status, 404);
    assert_eq!(ask(&daemon, json!({ "hosts": [N1] })).await.0, 200, "what can't be read was replaced");
}
