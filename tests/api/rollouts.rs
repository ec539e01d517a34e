//! Rollouts: how they are shown, and what can be asked of them. The leader's records are written as it writes them.

use flotilla::model::unit::Target;
use flotilla::store::Op;
use serde_json::{Value, json};

use crate::harness::{Daemon, FILE, N1};
use crate::watch::Lines;

/// A set of two, whose rollout from a file `abc` has let web@2 through.
async fn rolling(phase: &str) -> Daemon {
    let daemon = Daemon::start().await;
    daemon.machine(N1, "n1", &[]).await;
    let file = format!("{FILE}[X-Fleet]\nReplicas=2\n");
    daemon.apply(json!([{ "name": "web@.service", "text": file, "desired": "launched" }])).await;
    let target = daemon.get("/fleet/v2/units/web@1.service").await.json()["hash"].clone();
    let rollout = json!({
        "target": target, "from": { "hash": "abc" }, "phase": phase, "since": 7, "began": 5, "heeded": 0,
        "outcomes": [{ "hash": "abc", "verdict": "stable" }],
    });
    daemon.write_raw("rollout/web@.service", rollout.to_string().as_bytes()).await;
    let gate = json!({ "rollout": "web@.service", "target": target, "hash": "abc", "generation": 1, "asked": 2 });
    daemon.write_raw("gate/web@1.service", gate.to_string().as_bytes()).await;
    for unit in ["web@1.service", "web@2.service"] {
        daemon.place(unit, N1, Target::Launched).await;
        daemon.report(unit, N1, Target::Launched, "active", 1).await;
    }
    daemon
}

async fn ask(daemon: &Daemon, name: &str, what: &str) -> (u16, String) {
    let answer = daemon.send("POST", &format!("/fleet/v2/rollouts/{name}"), &json!({ "ask": what })).await;
    let error = if answer.status == 204 { String::new() } else { answer.error() };
    (answer.status, error)
}

#[tokio::test]
async fn a_rollout_is_shown_with_its_members() {
    let daemon = rolling("waiting").await;
    let list = daemon.get("/fleet/v2/rollouts").await.json();
    let view = daemon.get("/fleet/v2/rollouts/web@.service").await.json();
    assert_eq!(list["rollouts"], json!([view]));
    assert_eq!((&view["phase"], &view["since"], &view["from"]), (&json!("waiting"), &json!(7), &json!("abc")));
    assert_eq!(view["accepts"], json!(["pause", "promote"]));
    assert_eq!(view["outcomes"], json!([{ "hash": "abc", "verdict": "stable" }]));
    let member = |index: usize| {
        let member = &view["members"][index];
        (member["name"].clone(), member["machine"]["hostname"].clone(), member["ready"].clone())
    };
    assert_eq!(member(0), (json!("web@1.service"), json!("n1"), json!(true)));
    // Its host still runs the file before.
    assert_eq!(member(1), (json!("web@2.service"), json!("n1"), json!(false)));
    let files = [0, 1].map(|index: usize| view["members"][index]["hash"].clone());
    assert_eq!(files, [json!("abc"), view["target"].clone()]);
    // Others aren't members, and a rollout that nobody has is none.
    daemon.apply(json!([{ "name": "db.service", "text": FILE }])).await;
    let none = daemon.get("/fleet/v2/rollouts/db.service").await;
    assert_eq!((none.status, none.error()), (404, "db.service has had no rollout".into()));
    let listed = async |pattern: &str| {
        let list = daemon.get(&format!("/fleet/v2/rollouts?name={pattern}")).await.json();
        list["rollouts"].as_array().unwrap().len()
    };
    assert_eq!((listed("web*").await, listed("db*").await), (1, 0));
}

/// What `GET /fleet/v2/status` says of rollouts.
async fn open(daemon: &Daemon) -> Value {
    daemon.get("/fleet/v2/status").await.json().get("rollouts").cloned().unwrap_or(json!([]))
}

#[tokio::test]
async fn the_state_of_the_cluster_names_the_rollouts_that_are_not_done() {
    for (phase, shown, after_another_file) in
        [("rolling", true, true), ("waiting", true, true), ("done", false, false), ("reverted", true, false)]
    {
        let daemon = rolling(phase).await;
        let expected = json!([{ "name": "web@.service", "phase": phase, "since": 7 }]);
        assert_eq!(open(&daemon).await, if shown { expected.clone() } else { json!([]) }, "{phase}");
        // The leader hasn't seen it yet; one that went back is over then.
        let text = format!("{}[X-Fleet]\nReplicas=2\n", FILE.replace("true", "false"));
        daemon.apply(json!([{ "name": "web@.service", "text": text, "replace": true }])).await;
        assert_eq!(open(&daemon).await, if after_another_file { expected } else { json!([]) }, "{phase}");
    }
    let daemon = rolling("rolling").await;
    daemon.apply(json!([{ "name": "web@.service", "destroy": true }])).await;
    assert_eq!(open(&daemon).await, json!([]), "it goes with its set");
}

#[tokio::test]
async fn a_rollout_that_promotes_itself_says_so() {
    for (promote, itself) in [("manual", false), ("auto", true), ("10min", true)] {
        let daemon = Daemon::start().await;
        let file = format!("{FILE}[X-Rollout]\nCanary=1\nPromote={promote}\n");
        daemon.apply(json!([{ "name": "db.service", "text": file, "desired": "launched" }])).await;
        let target = daemon.get("/fleet/v2/units/db.service").await.json()["hash"].clone();
        let rollout =
            json!({ "target": target, "from": { "hash": "abc" }, "phase": "waiting", "since": 7, "began": 5 });
        daemon.write_raw("rollout/db.service", rollout.to_string().as_bytes()).await;
        assert_eq!(open(&daemon).await[0]["promotes_itself"] == true, itself, "{promote}");
    }
}

#[tokio::test]
async fn what_is_asked_is_in_the_record_and_restarts_nothing() {
    let daemon = rolling("waiting").await;
    let generation =
        async |name: &str| daemon.get(&format!("/fleet/v2/units/{name}")).await.json()["generation"].clone();
    let before = (generation("web@.service").await, generation("web@1.service").await);
    assert_eq!(ask(&daemon, "web@.service", "promote").await, (204, String::new()));
    let view = daemon.get("/fleet/v2/rollouts/web@.service").await.json();
    assert_eq!((&view["ask"]["what"], &view["ask"]["heeded"]), (&json!("promote"), &json!(false)));
    assert!(view["ask"]["by"].is_object(), "{view}");
    assert_eq!((generation("web@.service").await, generation("web@1.service").await), before);
    // A later change of the set keeps it.
    daemon.apply(json!([{ "name": "web@.service", "replicas": 3 }])).await;
    let view: Value = daemon.get("/fleet/v2/rollouts/web@.service").await.json();
    assert_eq!(view["ask"]["what"], "promote");
}

#[tokio::test]
async fn a_file_that_has_failed_and_is_sent_again_is_tried_again() {
    let file = format!("{FILE}[X-Fleet]\nReplicas=2\n");
    let sent = |replace: bool| json!([{ "name": "web@.service", "text": file, "replace": replace }]);
    for (phase, verdict, replace, retries) in [
        ("reverted", "failed", true, true),
        ("stuck", "failed", true, true),
        // Without `replace`, nobody meant to change anything.
        ("reverted", "failed", false, false),
        // Somebody has begun again already, or another file went back.
        ("canary", "failed", true, false),
        ("paused", "stable", true, false),
    ] {
        let daemon = rolling(phase).await;
        let target = daemon.get("/fleet/v2/rollouts/web@.service").await.json()["target"].clone();
        let rollout = json!({
            "target": target, "from": { "hash": "abc" }, "phase": phase, "since": 7, "began": 5, "heeded": 0,
            "outcomes": [{ "hash": target, "verdict": verdict }],
        });
        daemon.write_raw("rollout/web@.service", rollout.to_string().as_bytes()).await;
        let before = daemon.get("/fleet/v2/units/web@.service").await.json();
        let applied = daemon.apply(sent(replace)).await;
        assert_eq!(applied["units"][0]["outcome"], "unchanged", "{applied}");
        assert_eq!(applied["units"][0]["retries"] == true, retries, "{phase} {verdict} {replace}: {applied}");
        let view = daemon.get("/fleet/v2/rollouts/web@.service").await.json();
        assert_eq!(view["ask"]["what"] == "retry" && view["ask"]["by"].is_object(), retries, "{view}");
        let after = daemon.get("/fleet/v2/units/web@.service").await.json();
        assert_eq!(before["generation"], after["generation"], "no host is told anything");
    }
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let daemon = rolling("rolling").await;
    let refused = (409, "web@.service waits for no promotion: it is rolling".to_owned());
    assert_eq!(ask(&daemon, "web@.service", "promote").await, refused);
    assert_eq!(ask(&daemon, "nothing.service", "pause").await, (404, "unit does not exist".into()));
    assert_eq!(ask(&daemon, "web@1.service", "pause").await, (409, "web@1.service has had no rollout".into()));
    let (status, error) = ask(&daemon, "web@.service", "stop").await;
    assert!(status == 400 && error.starts_with("can't read what is asked: unknown variant `stop`"), "{error}");
    // It is tried again if somebody else changes the set meanwhile.
    daemon.store.conflict(2);
    assert_eq!(ask(&daemon, "web@.service", "pause").await.0, 204);
    daemon.store.set_down(true);
    assert_eq!(ask(&daemon, "web@.service", "pause").await.0, 503);
}

#[tokio::test]
async fn a_watch_tells_how_a_rollout_goes_on() {
    let daemon = rolling("rolling").await;
    let mut watch = Lines::open(&daemon, "/rollouts?name=web@.service").await;
    let first = watch.next().await.unwrap();
    assert_eq!(first["rollout"], daemon.get("/fleet/v2/rollouts/web@.service").await.json());
    assert!(watch.next().await.unwrap()["synced"].is_u64());
    // What concerns no member is not told.
    daemon.apply(json!([{ "name": "db.service", "text": FILE }])).await;
    let hash = first["rollout"]["target"].as_str().unwrap().to_owned();
    daemon.write(Op::Delete("gate/web@1.service".into())).await;
    let let_through = watch.next().await.unwrap();
    assert_eq!(let_through["rollout"]["members"][0]["hash"], hash.as_str());
    let done = json!({
        "target": hash, "from": { "hash": "abc" }, "phase": "done", "since": 9, "began": 5, "heeded": 0,
    });
    daemon.write_raw("rollout/web@.service", done.to_string().as_bytes()).await;
    assert_eq!(watch.next().await.unwrap()["rollout"]["phase"], "done");
    daemon.write(Op::Delete("rollout/web@.service".into())).await;
    assert_eq!(watch.next().await.unwrap(), json!({ "removed": "web@.service" }));
}

#[tokio::test]
async fn a_spare_is_part_of_its_rollout_and_no_unit_among_others() {
    let daemon = rolling("rolling").await;
    let rollout = daemon.get("/fleet/v2/rollouts/web@.service").await.json();
    let spare = |unit: &str, hash: &Value| {
        let gate = json!({
            "spare": true, "rollout": "web@.service", "target": hash, "hash": hash, "generation": 1, "asked": 1,
        });
        (format!("gate/{unit}"), gate.to_string())
    };
    // One on a host, one that fits none, and one whose place a unit has taken.
    for unit in ["web@3.service", "web@4.service", "web@2.service"] {
        let (key, gate) = spare(unit, &rollout["target"]);
        daemon.write_raw(&key, gate.as_bytes()).await;
    }
    daemon.place("web@3.service", N1, Target::Launched).await;
    daemon.report("web@3.service", N1, Target::Launched, "active", 1).await;
    let waits = json!({ "waiting": { "why": "1 of 1 hosts: conflict", "since": 1 } });
    daemon.write_raw("placement/web@4.service", waits.to_string().as_bytes()).await;

    let members = daemon.get("/fleet/v2/rollouts/web@.service").await.json()["members"].clone();
    let told = |index: usize| {
        let member = &members[index];
        (member["name"].as_str().unwrap().to_owned(), member.get("spare").is_some(), member["why"].clone())
    };
    assert_eq!(members.as_array().unwrap().len(), 4, "{members}");
    assert_eq!(told(1), ("web@2.service".into(), false, Value::Null));
    assert_eq!(told(2), ("web@3.service".into(), true, Value::Null));
    assert_eq!(told(3), ("web@4.service".into(), true, json!("1 of 1 hosts: conflict")));
    // It isn't listed, but whoever knows its name sees it.
    let units = daemon.get("/fleet/v2/units").await.json()["units"].clone();
    let names: Vec<&str> = units.as_array().unwrap().iter().filter_map(|unit| unit["name"].as_str()).collect();
    assert_eq!(names, ["web@.service", "web@1.service", "web@2.service"]);
    let one = daemon.get("/fleet/v2/units/web@3.service").await.json();
    assert_eq!((&one["desired"], &one["current"]), (&json!("launched"), &json!("launched")), "{one}");
    let sets = daemon.get("/fleet/v2/sets").await.json();
    assert_eq!(sets["sets"][0]["members"], json!(["web@1.service", "web@2.service"]));
    let v1 = daemon.get("/fleet/v1/units").await.json();
    assert_eq!(v1["units"].as_array().unwrap().len(), 3, "{v1}");
    // What is requested of units isn't about spares.
    let gone = daemon.send("DELETE", "/fleet/v1/units/web@3.service", &Value::Null).await;
    assert_eq!(gone.status, 404);
}

/// Each host that has the unit is a member, with the file that it is told to run.
#[tokio::test]
async fn the_members_of_a_global_unit_are_its_hosts() {
    const N2: &str = "844a1f3b6c0e4d2f8a9b7c6d5e4f3a2b";
    let daemon = Daemon::start().await;
    daemon.machine(N1, "n1", &[]).await;
    daemon.machine(N2, "n2", &[]).await;
    let file = format!("{FILE}[X-Fleet]\nGlobal=true\n[X-Rollout]\nParallel=1\n");
    daemon.apply(json!([{ "name": "agent.service", "text": file, "desired": "launched" }])).await;
    let unit = daemon.get("/fleet/v2/units/agent.service").await.json();
    let (target, generation) = (unit["hash"].clone(), unit["generation"].clone());
    let rollout = json!({
        "target": target, "from": { "hash": "abc" }, "phase": "reverting", "since": 7, "began": 5, "heeded": 0,
        "failed": "agent.service", "failed_on": N1,
    });
    daemon.write_raw("rollout/agent.service", rollout.to_string().as_bytes()).await;
    let gate = json!({
        "rollout": "agent.service", "target": target, "hash": "abc", "generation": 1, "asked": generation,
        "hosts": { N1: null },
    });
    daemon.write_raw("gate/agent.service", gate.to_string().as_bytes()).await;
    for (host, hash, active) in [(N1, &target, "failed"), (N2, &json!("abc"), "active")] {
        let told = json!({ "hash": hash, "target": "launched", "generation": generation, "global": true });
        daemon.write_raw(&format!("schedule/{host}/agent.service"), told.to_string().as_bytes()).await;
        let report = json!({
            "generation": generation, "target": "launched", "hash": hash, "load": "loaded", "active": active,
            "sub": "x", "since": 3,
        });
        daemon.write_raw(&format!("state/{host}/agent.service"), report.to_string().as_bytes()).await;
    }
    let view = daemon.get("/fleet/v2/rollouts/agent.service").await.json();
    assert_eq!((&view["failed"], &view["failed_on"]["hostname"]), (&json!("agent.service"), &json!("n1")));
    let member = |index: usize| {
        let member = &view["members"][index];
        let keys = ["name", "global", "hash", "ready"].map(|key| member[key].clone());
        (member["machine"]["hostname"].clone(), keys)
    };
    assert_eq!(member(0), (json!("n1"), [json!("agent.service"), json!(true), target, json!(false)]));
    assert_eq!(member(1), (json!("n2"), [json!("agent.service"), json!(true), json!("abc"), json!(true)]));
    assert_eq!(view["members"].as_array().unwrap().len(), 2);
    let list = daemon.get("/fleet/v2/rollouts").await.json();
    assert_eq!(list["rollouts"], json!([view]));
    let mut watch = Lines::open(&daemon, "/rollouts?name=agent.service").await;
    assert_eq!(watch.next().await.unwrap()["rollout"], view);
    // Whoever waits for the unit is told why it has yet to get its file.
    let unit = daemon.get("/fleet/v2/units/agent.service").await.json();
    assert_eq!(unit["progress"], json!({ "state": "waiting", "why": "its rollout failed and is taken back" }));
}

#[tokio::test]
async fn members_of_riders_are_shown_beside_those_that_they_ride_with() {
    let daemon = rolling("rolling").await;
    let rider = format!("{FILE}[X-Fleet]\nReplicas=web@.service\n");
    daemon.apply(json!([{ "name": "log@.service", "text": rider, "desired": "launched" }])).await;
    let target = daemon.get("/fleet/v2/units/log@1.service").await.json()["hash"].clone();
    let mut rollout = daemon.get("/fleet/v2/rollouts/web@.service").await.json();
    assert_eq!(rollout["riders"], Value::Null, "the leader has yet to see the rider");
    let record = json!({
        "target": rollout["target"], "from": { "hash": "abc" },
        "riders": { "log@.service": { "target": target, "from": { "hash": "abc" } } },
        "phase": "rolling", "since": 7, "began": 5, "heeded": 0,
    });
    let mut watch = Lines::open(&daemon, "/rollouts?name=web@.service").await;
    watch.next().await.unwrap();
    daemon.write_raw("rollout/web@.service", record.to_string().as_bytes()).await;
    let gate = json!({ "rollout": "web@.service", "target": target, "hash": "abc", "generation": 1, "asked": 2 });
    daemon.write_raw("gate/log@1.service", gate.to_string().as_bytes()).await;
    for unit in ["log@1.service", "log@2.service"] {
        daemon.place(unit, N1, Target::Launched).await;
        daemon.report(unit, N1, Target::Launched, "active", 1).await;
    }
    rollout = daemon.get("/fleet/v2/rollouts/web@.service").await.json();
    assert_eq!(rollout["riders"], json!([{ "name": "log@.service", "target": target, "from": "abc" }]));
    let riding = |index: usize| {
        let riders = rollout["members"][index]["riders"].as_array().unwrap();
        (riders.len(), riders[0]["name"].clone(), riders[0]["hash"].clone(), riders[0]["ready"].clone())
    };
    assert_eq!(rollout["members"].as_array().unwrap().len(), 2);
    assert_eq!(riding(0), (1, json!("log@1.service"), json!("abc"), json!(true)));
    // Its host still runs the file before.
    assert_eq!(riding(1), (1, json!("log@2.service"), target, json!(false)));
    // A change of a rider's member is one of the rollout.
    while let Some(line) = watch.next().await {
        if line["rollout"] == rollout {
            return;
        }
    }
    panic!("the watch tells nothing of riders");
}
