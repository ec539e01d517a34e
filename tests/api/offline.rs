//! `offline=true`: what a host knows without the store, which is never taken for what the cluster knows.

use flotilla::api::server::health::{Health, Remedy};
use flotilla::model::unit::Target;
use serde_json::{Value, json};

use crate::harness::{Daemon, FILE, N1};

fn names(answer: &Value) -> Vec<&str> {
    answer["units"].as_array().unwrap().iter().map(|unit| unit["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_host_answers_for_itself_while_the_store_is_away() {
    let daemon = Daemon::start().await;
    let what = "isn't registered with its cluster: etcd at 10.88.0.1:2379 refuses connections";
    daemon.health.send_replace(Health::Waiting { what: what.into(), since: 0, remedy: Remedy::Store });
    daemon.store.set_down(true);
    let mark = json!({ "host": { "id": N1, "ip": "10.88.0.1", "hostname": "n1" }, "at": 9000, "since": 5000 });

    let list = daemon.get("/fleet/v2/units?offline=true").await;
    let list = list.json();
    assert_eq!((names(&list), &list["offline"]), (vec!["here.service"], &mark));
    let unit = &list["units"][0];
    assert_eq!(
        (&unit["desired"], &unit["generation"], &unit["description"]),
        (&json!("launched"), &json!(7), &json!("A test"))
    );
    assert_eq!((&unit["machine"]["id"], &unit["states"][0]["active"]), (&json!(N1), &json!("active")));
    assert_eq!(names(&daemon.get("/fleet/v2/units?name=h*&offline=true").await.json()), ["here.service"]);
    assert_eq!(names(&daemon.get("/fleet/v2/units?offline=true&name=x*").await.json()), [""; 0]);

    let detail = daemon.get("/fleet/v2/units/here.service?offline=true").await.json();
    assert_eq!((&detail["text"], &detail["offline"]), (&json!(FILE), &mark));
    assert_eq!(daemon.get("/fleet/v2/units/there.service?offline=true").await.status, 404);
    let hosts = daemon.get("/fleet/v2/machines?offline=true").await.json();
    assert_eq!((&hosts["machines"][0]["hostname"], &hosts["offline"]), (&json!("n1"), &mark));

    // Whatever is not asked for so, and all that changes something or lasts, is refused as before.
    for path in ["/fleet/v2/units", "/fleet/v1/units", "/fleet/v1/units?offline=true", "/fleet/v2/watch?offline=true"] {
        assert_eq!(daemon.get(path).await.status, 503, "{path}");
    }
    let batch = json!({ "units": [{ "name": "here.service", "desired": "inactive" }] });
    assert_eq!(daemon.send("POST", "/fleet/v2/units?offline=true", &batch).await.status, 503);
}

#[tokio::test]
async fn a_host_that_is_asked_for_itself_answers_for_nothing_else() {
    let daemon = Daemon::start().await;
    daemon.machine(N1, "n1", &[]).await;
    daemon.apply(json!([{ "name": "there.service", "text": FILE, "desired": "launched" }])).await;
    daemon.place("there.service", N1, Target::Launched).await;
    let all = daemon.get("/fleet/v2/units").await.json();
    assert_eq!((names(&all), all.get("offline")), (vec!["there.service"], None));
    assert_eq!(names(&daemon.get("/fleet/v2/units?offline=true").await.json()), ["here.service"]);
    for path in
        ["units?offline=false", "units?offline=true&offline=true", "units/here.service?offline=", "machines?offline=1"]
    {
        let answer = daemon.get(&format!("/fleet/v2/{path}")).await;
        assert_eq!((answer.status, answer.error()), (400, "`offline` is `true`, or left out".into()), "{path}");
    }
}
