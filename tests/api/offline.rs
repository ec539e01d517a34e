//! `offline=true`: what a host knows without the store, which is never taken for what the cluster knows.

use std::sync::Arc;

use flotilla::api::server::health::{Health, Remedy};
use flotilla::model::machine::{Gone, KnownHost};
use flotilla::model::unit::Target;
use flotilla::registry::keys::{self, Key};
use flotilla::registry::put;
use flotilla::registry::reader::Reader;
use flotilla::registry::records::leader::LeaderRecord;
use flotilla::registry::sight::{LastSeen, Sight};
use serde_json::{Value, json};

use crate::harness::{Daemon, FILE, N1, N2};
use crate::watch::Lines;

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

/// A third host, which is gone.
const N3: &str = "a2d7e4a6000000000000000000000001";

/// Units on two hosts, and a third host that is gone. The store's state of `here.service`, which is on n1, is outdated.
async fn cluster() -> Daemon {
    let daemon = Daemon::start().await;
    daemon.machine(N1, "n1", &[]).await;
    daemon.machine(N2, "n2", &[("zone", "b")]).await;
    let known = KnownHost {
        hostname: "n3".into(),
        ip: "10.88.0.3".into(),
        version: "0.1.0".into(),
        gone: Some(Gone { since: 4000, moved: 1, waiting: 0, ended: 0, kept: 0, held: None }),
    };
    daemon.write(put(&Key::Roster(N3.parse().unwrap()), &known, None)).await;
    for (unit, host, active) in [("here.service", N1, "failed"), ("there.service", N2, "active")] {
        daemon.apply(json!([{ "name": unit, "text": FILE, "desired": "launched" }])).await;
        daemon.place(unit, host, Target::Launched).await;
        daemon.report(unit, host, Target::Launched, active, 7).await;
    }
    daemon
}

async fn lose_store(daemon: &Daemon) {
    let what = "can't reach its store".into();
    daemon.health.send_replace(Health::Waiting { what, since: 0, remedy: Remedy::Store });
    daemon.store.set_down(true);
    daemon.store.cut();
}

/// Every unit, where it is placed, and the state there.
fn states<'a>(answer: &'a Value) -> Vec<(&'a str, &'a str, &'a str)> {
    let units = answer["units"].as_array().unwrap().iter();
    let of = |value: &'a Value| value.as_str().unwrap_or("-");
    units.map(|unit| (of(&unit["name"]), of(&unit["machine"]["hostname"]), of(&unit["states"][0]["active"]))).collect()
}

/// All of the cluster, with what is on n1 as it is now.
fn check_whole(list: &Value) {
    let whole = [("here.service", "n1", "active"), ("there.service", "n2", "active")];
    assert_eq!(states(list), whole, "{list}");
}

#[tokio::test]
async fn what_the_leader_saw_last_is_shown_while_the_store_is_away() {
    let daemon = cluster().await;
    let families = [keys::UNITS, keys::PLACEMENTS, keys::STATES, keys::SCHEDULE, keys::MACHINES, keys::ROSTER];
    let (seen, _) = Reader::new(daemon.store.clone()).whole(&families).await.unwrap();
    let (hostname, ip, format) = ("n1".into(), "10.88.0.1".into(), Default::default());
    let leader = LeaderRecord { machine: N1.parse().unwrap(), hostname, ip, since: 3, format };
    let cluster = Some(LastSeen { cluster: Arc::new(seen), at: 6000 });
    daemon.sight.send_replace(Sight { leader: Some(leader), cluster });
    lose_store(&daemon).await;

    let host = json!({ "id": N1, "ip": "10.88.0.1", "hostname": "n1" });
    // Seen no later than the store was reachable.
    let mark = json!({ "host": host, "at": 9000, "since": 5000, "seen": 5000, "leader": host });
    let list = daemon.get("/fleet/v2/units?offline=true").await.json();
    check_whole(&list);
    assert_eq!(list["offline"], mark);
    assert_eq!(list["units"][1]["description"], "A test");
    assert_eq!(names(&daemon.get("/fleet/v2/units?name=t*&offline=true").await.json()), ["there.service"]);

    let hosts = daemon.get("/fleet/v2/machines?offline=true").await.json();
    let named = |list: &Value| -> Vec<String> {
        list.as_array().unwrap().iter().map(|host| host["hostname"].as_str().unwrap().into()).collect()
    };
    assert_eq!((named(&hosts["machines"]), named(&hosts["gone"])), (vec!["n1".into(), "n2".into()], vec!["n3".into()]));
    assert_eq!((&hosts["gone"][0]["gone"]["since"], &hosts["offline"]), (&json!(4000), &mark));

    let all = daemon.get("/fleet/v2/status?offline=true").await.json();
    check_whole(&all);
    assert_eq!((named(&all["machines"]), &all["leader"]["machine"]), (vec!["n1".into(), "n2".into()], &host));
    assert_eq!((&all["leader"]["since"], &all["offline"]), (&json!(3), &mark));
    assert_eq!(daemon.get("/fleet/v2/status").await.status, 503);
    // The file of a unit is only on its host.
    assert_eq!(daemon.get("/fleet/v2/units/there.service?offline=true").await.status, 404);
}

#[tokio::test]
async fn what_watchers_saw_last_is_shown_while_the_store_is_away() {
    let daemon = cluster().await;
    let (hostname, ip, format) = ("n2".into(), "10.88.0.2".into(), Default::default());
    let leader = LeaderRecord { machine: N2.parse().unwrap(), hostname, ip, since: 3, format };
    daemon.sight.send_replace(Sight { leader: Some(leader), cluster: None });
    let mut lines = Lines::open(&daemon, "?name=*").await;
    while lines.short().await != "synced" {}
    lose_store(&daemon).await;
    while lines.next().await.is_some() {}
    drop(lines);
    let list = daemon.get("/fleet/v2/units?offline=true").await.json();
    check_whole(&list);
    assert_eq!((&list["offline"]["seen"], &list["offline"]["leader"]["hostname"]), (&json!(5000), &json!("n2")));
    let hosts = daemon.get("/fleet/v2/machines?offline=true").await.json();
    assert_eq!((hosts["machines"].as_array().unwrap().len(), &hosts["gone"][0]["hostname"]), (2, &json!("n3")));
}

/// A host that has no copy of the cluster says which one may have one.
#[tokio::test]
async fn a_host_without_a_copy_names_the_leader() {
    let daemon = cluster().await;
    let (hostname, ip, format) = ("n2".into(), "10.88.0.2".into(), Default::default());
    let leader = LeaderRecord { machine: N2.parse().unwrap(), hostname, ip, since: 3, format };
    daemon.sight.send_replace(Sight { leader: Some(leader), cluster: None });
    lose_store(&daemon).await;
    let list = daemon.get("/fleet/v2/units?offline=true").await.json();
    assert_eq!((names(&list), list["offline"].get("seen")), (vec!["here.service"], None));
    assert_eq!(list["offline"]["leader"], json!({ "id": N2, "ip": "10.88.0.2", "hostname": "n2" }));
    let all = daemon.get("/fleet/v2/status?offline=true").await.json();
    assert_eq!((names(&all), all["machines"].as_array().unwrap().len()), (vec!["here.service"], 1));
}
