//! Why units wait, or are where they are. There is no engine, so that what isn't placed by hand waits.

use serde_json::{Value, json};

use crate::harness::{Daemon, N1, N2};

const EXPLAIN: &str = "/fleet/v2/explain";

fn file(section: &str) -> String {
    format!("[Service]\nExecStart=/bin/true\n\n[X-Fleet]\n# a comment\n{section}\n")
}

async fn daemon() -> Daemon {
    let daemon = Daemon::start().await;
    daemon.machine(N1, "n1", &[("zone", "a")]).await;
    daemon.machine(N2, "n2", &[("zone", "b")]).await;
    for (unit, section) in
        [("web@1.service", "Conflicts=web@*"), ("web@2.service", "Conflicts=web@*\nMachineMetadata=zone=a")]
    {
        daemon.apply(json!([{ "name": unit, "text": file(section), "desired": "launched" }])).await;
    }
    daemon.runs("web@1.service", N1).await;
    daemon
}

async fn explain(daemon: &Daemon, query: &str) -> Value {
    let answer = daemon.get(&format!("{EXPLAIN}?{query}")).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()
}

#[tokio::test]
async fn a_unit_that_waits_is_told_every_rule_with_its_line_and_what_would_help() {
    let daemon = daemon().await;
    let answer = explain(&daemon, "name=web@2.service").await;
    let unit = &answer["units"][0];
    assert_eq!((&unit["standing"], &unit["why"]), (&json!("waiting"), &json!("can't run anywhere yet")));
    let against = |at: usize| {
        let hosts = &unit["hosts"][at];
        let name = hosts["machines"][0]["hostname"].as_str().unwrap();
        let obstacles = hosts["obstacles"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| format!("{} {} {}:{}", it["rule"], it["why"], it["option"]["line"], it["option"]["text"]));
        (name.to_owned(), obstacles.collect::<Vec<_>>())
    };
    let conflict =
        r#""conflicts" "conflicts with web@1.service, which runs there (Conflicts=web@*)" 6:"Conflicts=web@*""#;
    let zone = r#""metadata" "metadata zone is b, wanted a" 7:"MachineMetadata=zone=a""#;
    assert_eq!(against(0), ("n1".to_owned(), vec![conflict.to_owned()]));
    assert_eq!(against(1), ("n2".to_owned(), vec![zone.to_owned()]));
    let commands: Vec<&Value> =
        unit["remedies"].as_array().unwrap().iter().map(|remedy| &remedy["steps"][0]["commands"][0]).collect();
    assert_eq!(
        commands,
        ["fleetctl set-metadata n2 zone=a", "fleetctl move web@1.service n2", "fleetctl edit web@2.service"]
    );
    let to: Vec<&Value> = unit["remedies"].as_array().unwrap().iter().map(|it| &it["machine"]["hostname"]).collect();
    assert_eq!(to, ["n2", "n1", "n2"]);
}

#[tokio::test]
async fn a_unit_that_runs_is_told_why_it_is_there() {
    let daemon = daemon().await;
    let answer = explain(&daemon, "name=web@1.service").await;
    let unit = &answer["units"][0];
    assert_eq!((&unit["standing"], &unit["why"]), (&json!("placed"), &json!("on n1")));
    assert_eq!(unit["machine"]["id"], json!(N1));
    assert_eq!(unit["place"]["because"], json!("equal, but for the machine id"));
    assert_eq!(unit["place"]["runner_up"]["hostname"], json!("n2"));
    assert_eq!(unit["moves"], json!(["n1 is gone", "n1 is drained", "a person moves it (`fleetctl move`)"]));
    assert_eq!(unit["remedies"], Value::Null);
}

#[tokio::test]
async fn what_holds_a_unit_up_is_told() {
    let daemon = daemon().await;
    let drain = json!({ "ask": "drain", "hosts": [N1], "why": "disk" });
    assert_eq!(daemon.send("POST", "/fleet/v2/machines", &drain).await.status, 200);
    let cordon = json!({ "ask": "cordon", "hosts": [N2] });
    assert_eq!(daemon.send("POST", "/fleet/v2/machines", &cordon).await.status, 200);
    let answer = explain(&daemon, "name=web@1.service").await;
    assert_eq!(answer["units"][0]["held"], json!(["n1 is drained: no such host fits it"]));
}

#[tokio::test]
async fn patterns_and_several_units() {
    let daemon = daemon().await;
    daemon.apply(json!([{ "name": "idle.service", "text": file("") }])).await;
    let answer = explain(&daemon, "name=web@*&name=idle.service&name=x.service").await;
    let names: Vec<&str> = answer["units"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["idle.service", "web@1.service", "web@2.service"]);
    assert_eq!(answer["units"][0]["standing"], json!("inactive"));
    assert_eq!(answer["left_out"], Value::Null);
    let answer = daemon.get(&format!("{EXPLAIN}?names=a")).await;
    let why = "unknown query parameter `names`; `name` is known".to_owned();
    assert_eq!((answer.status, answer.error()), (400, why));
    let waiting = explain(&daemon, "").await;
    assert_eq!(waiting["units"], json!([]), "no leader has found out that any waits");
    for at in 0..60 {
        daemon.apply(json!([{ "name": format!("many@{at}.service"), "text": file("") }])).await;
    }
    let answer = explain(&daemon, "name=many@*").await;
    assert_eq!((answer["units"].as_array().unwrap().len(), &answer["left_out"]), (50, &json!(10)));
}
