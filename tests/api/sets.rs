//! Sets: templates with a number of members.

use flotilla::model::unit::Target;
use flotilla::store::{Kv, Range, Store as _};
use serde_json::{Value, json};

use crate::harness::{Daemon, FILE, N1, N2};

/// The file of a template that says `replicas`.
fn file(replicas: u32) -> String {
    format!("{FILE}[X-Fleet]\nReplicas={replicas}\n")
}

/// The record of a template, and the numbers of the instances that there are.
async fn set(daemon: &Daemon) -> (Option<u64>, Vec<u32>) {
    let mut kvs = Vec::new();
    loop {
        let after = kvs.last().map(|kv: &Kv| kv.key.clone());
        let range = Range { prefix: "unit/web@".into(), after, ..Range::default() };
        let page = daemon.store.inner.range(range).await.unwrap();
        if page.kvs.is_empty() {
            break;
        }
        kvs.extend(page.kvs);
    }
    let mut numbers = Vec::new();
    let mut count = None;
    for kv in kvs {
        let name = kv.key.trim_start_matches("unit/web@").trim_end_matches(".service");
        if name.is_empty() {
            let record: Value = serde_json::from_slice(&kv.value).unwrap();
            assert_eq!(record["desired"], "inactive", "a template never runs");
            count = record["replicas"].as_u64();
        } else {
            numbers.extend(name.parse::<u32>());
        }
    }
    numbers.sort_unstable();
    (count, numbers)
}

async fn desired(daemon: &Daemon) -> Vec<String> {
    let list = daemon.get("/fleet/v2/units?name=web@?*.service").await.json();
    list["units"].as_array().unwrap().iter().map(|unit| unit["desired"].as_str().unwrap().to_owned()).collect()
}

fn done(applied: &Value) -> Vec<String> {
    let line = |unit: &Value| format!("{} {}", unit["name"].as_str().unwrap(), unit["outcome"].as_str().unwrap());
    applied["units"].as_array().unwrap().iter().map(line).collect()
}

#[tokio::test]
async fn a_template_with_a_count_brings_its_members() {
    let daemon = Daemon::start().await;
    let first = daemon.apply(json!([{ "name": "web@.service", "text": file(3) }])).await;
    let expected = ["web@.service created", "web@1.service created", "web@2.service created", "web@3.service created"];
    assert_eq!((done(&first), first["units"][0]["replicas"].clone()), (expected.map(String::from).to_vec(), json!(3)));
    assert_eq!((set(&daemon).await, daemon.store.commits()), ((Some(3), vec![1, 2, 3]), 1));
    assert_eq!(desired(&daemon).await, ["inactive"; 3]);
    // What is wanted of a set is wanted of its members.
    let started = daemon.apply(json!([{ "name": "web@.service", "desired": "launched" }])).await;
    assert_eq!(done(&started)[1..], ["web@1.service changed", "web@2.service changed", "web@3.service changed"]);
    assert_eq!(desired(&daemon).await, ["launched"; 3]);
    // New members have the desired state of the others.
    let scaled = daemon.apply(json!([{ "name": "web@.service", "replicas": 5 }])).await;
    assert_eq!(done(&scaled), ["web@.service changed", "web@4.service created", "web@5.service created"]);
    assert_eq!(desired(&daemon).await, ["launched"; 5]);
    let again = daemon.apply(json!([{ "name": "web@.service", "replicas": 5 }])).await;
    assert_eq!(done(&again), ["web@.service unchanged"]);
    let fewer = daemon.apply(json!([{ "name": "web@.service", "replicas": 2 }])).await;
    let gone = ["web@5.service destroyed", "web@4.service destroyed", "web@3.service destroyed"];
    assert_eq!(done(&fewer)[1..], gone);
    assert_eq!(set(&daemon).await, (Some(2), vec![1, 2]));
    // `web@blue` is a unit like any other.
    daemon.apply(json!([{ "name": "web@blue.service", "desired": "loaded" }])).await;
    assert_eq!(set(&daemon).await, (Some(2), vec![1, 2]));
    let all = daemon.apply(json!([{ "name": "web@.service", "destroy": true }])).await;
    assert_eq!(done(&all), ["web@.service destroyed", "web@1.service destroyed", "web@2.service destroyed"]);
    assert_eq!(set(&daemon).await, (None, vec![]));
    assert_eq!(desired(&daemon).await, ["loaded"], "no member, and left");
}

#[tokio::test]
async fn the_count_changes_with_the_file_only_if_that_was_edited() {
    for (scaled, second, expected) in [
        (None, file(3), (Some(3), 3)),
        (Some(5), file(3), (Some(5), 5)),
        (None, file(4), (Some(4), 4)),
        (Some(5), file(4), (Some(4), 4)),
        (Some(1), file(4), (Some(4), 4)),
        // Without a number it is no set any more, and its instances stay.
        (Some(5), FILE.to_owned(), (None, 5)),
    ] {
        let daemon = Daemon::start().await;
        daemon.apply(json!([{ "name": "web@.service", "text": file(3), "desired": "launched" }])).await;
        if let Some(count) = scaled {
            daemon.apply(json!([{ "name": "web@.service", "replicas": count }])).await;
        }
        // A deployment: another command, and perhaps another number.
        let text = second.replace("/bin/true", "/bin/false");
        daemon.apply(json!([{ "name": "web@.service", "text": text, "replace": true }])).await;
        let (count, members) = set(&daemon).await;
        assert_eq!((count, members.len()), expected, "{scaled:?} {second}");
        // Going back to the first file doesn't bring the first number back, unless the two files differ in it.
        daemon.apply(json!([{ "name": "web@.service", "text": file(3), "replace": true }])).await;
        let back = if second == file(3) { scaled.unwrap_or(3) } else { 3 };
        assert_eq!(set(&daemon).await.0, Some(back), "{scaled:?} {second}");
    }
}

#[tokio::test]
async fn a_member_that_is_destroyed_leaves_a_hole_that_is_filled_first() {
    let daemon = Daemon::start().await;
    daemon.apply(json!([{ "name": "web@.service", "text": file(4), "desired": "launched" }])).await;
    assert_eq!(daemon.delete("/fleet/v1/units/web@2.service").await.status, 204);
    assert_eq!(set(&daemon).await, (Some(3), vec![1, 3, 4]));
    // A start leaves the hole.
    let started = daemon.apply(json!([{ "name": "web@.service", "desired": "launched" }])).await;
    assert_eq!(done(&started).len(), 4, "{started}");
    daemon.apply(json!([{ "name": "web@.service", "replicas": 2 }])).await;
    assert_eq!(set(&daemon).await, (Some(2), vec![1, 3]));
    daemon.apply(json!([{ "name": "web@.service", "replicas": 4 }])).await;
    assert_eq!(set(&daemon).await, (Some(4), vec![1, 2, 3, 4]));
    // One that is created by its name is a member more, and several are counted together.
    daemon.apply(json!([{ "name": "web@9.service", "desired": "launched" }])).await;
    assert_eq!(set(&daemon).await, (Some(5), vec![1, 2, 3, 4, 9]));
    let both = json!([{ "name": "web@1.service", "destroy": true }, { "name": "web@9.service", "destroy": true }]);
    let both = daemon.apply(both).await;
    assert_eq!(done(&both), ["web@1.service destroyed", "web@9.service destroyed"], "the count isn't in the answer");
    assert_eq!(set(&daemon).await, (Some(3), vec![2, 3, 4]));
    // What isn't there lowers nothing.
    daemon.apply(json!([{ "name": "web@7.service", "destroy": true }])).await;
    assert_eq!(set(&daemon).await.0, Some(3));
}

/// Both requests read the same count; each of them counts.
#[tokio::test]
async fn members_that_go_at_the_same_time_are_all_counted() {
    let daemon = Daemon::start().await;
    daemon.apply(json!([{ "name": "web@.service", "text": file(8) }])).await;
    let delete = async |number: u32| daemon.delete(&format!("/fleet/v1/units/web@{number}.service")).await.status;
    let scale = daemon.apply(json!([{ "name": "web@.service", "replicas": 6 }]));
    let gone = futures_util::join!(delete(1), delete(2), delete(3), scale, delete(4));
    assert_eq!((gone.0, gone.1, gone.2, gone.4), (204, 204, 204, 204));
    let (count, members) = set(&daemon).await;
    assert_eq!(count, Some(members.len() as u64), "{members:?}");
    assert!((2..=6).contains(&members.len()), "{members:?}");
}

/// A commit whose answer is lost, or that conflicts, isn't counted twice.
#[tokio::test]
async fn a_count_is_changed_once() {
    for lost in [1, 2] {
        let daemon = Daemon::start().await;
        daemon.apply(json!([{ "name": "web@.service", "text": file(5) }])).await;
        daemon.store.lose_answers(lost);
        assert_eq!(daemon.delete("/fleet/v1/units/web@2.service").await.status, 204);
        assert_eq!(set(&daemon).await, (Some(4), vec![1, 3, 4, 5]));
        daemon.store.conflict(3);
        assert_eq!(daemon.delete("/fleet/v1/units/web@3.service").await.status, 204);
        assert_eq!(set(&daemon).await, (Some(3), vec![1, 4, 5]));
    }
}

#[tokio::test]
async fn a_thousand_members_are_created_in_several_transactions_and_the_same_again_heals() {
    let daemon = Daemon::start().await;
    daemon.apply(json!([{ "name": "web@.service", "text": file(0) }])).await;
    let scale = async |count: u32| {
        let batch = json!({ "units": [{ "name": "web@.service", "replicas": count }] });
        daemon.send("POST", "/fleet/v2/units", &batch).await
    };
    // The store goes away in the middle: the count is known already.
    daemon.store.go_down_after(Some(2));
    let broken = scale(1000).await;
    assert_eq!(broken.status, 503, "{}", broken.text);
    assert!(broken.error().contains("units were changed before that; send the batch again"), "{}", broken.text);
    daemon.store.go_down_after(None);
    let (count, members) = set(&daemon).await;
    assert_eq!(count, Some(1000));
    assert!(members.len() > 100 && members.len() < 300, "{}", members.len());
    let list = daemon.get("/fleet/v2/sets").await.json();
    assert_eq!(list["sets"][0]["replicas"], 1000);
    assert_eq!(list["sets"][0]["members"].as_array().unwrap().len(), members.len());
    let before = daemon.store.commits();
    assert_eq!(scale(1000).await.status, 200);
    assert_eq!(set(&daemon).await.1, (1..=1000).collect::<Vec<u32>>());
    assert!(daemon.store.commits() - before < 10);
    // Each transaction is guarded by the count as the one before has left it.
    let before = daemon.store.commits();
    assert_eq!(scale(1000).await.status, 200);
    assert_eq!(daemon.store.commits(), before);
    daemon.store.go_down_after(Some(3));
    assert_eq!(scale(10).await.status, 503);
    daemon.store.go_down_after(None);
    let (count, members) = set(&daemon).await;
    assert!(count == Some(10) && members.len() > 10, "{count:?} {}", members.len());
    assert_eq!(scale(10).await.status, 200);
    assert_eq!(set(&daemon).await, (Some(10), (1..=10).collect()));
}

#[tokio::test]
async fn sets_are_listed_with_how_many_members_are_up() {
    let daemon = Daemon::start().await;
    daemon.machine(N1, "n1", &[]).await;
    daemon.machine(N2, "n2", &[]).await;
    daemon.apply(json!([{ "name": "a@.service", "text": FILE }, { "name": "a@1.service" }])).await;
    daemon.apply(json!([{ "name": "web@.service", "text": file(3), "desired": "launched" }])).await;
    for (unit, host, active) in [("web@1.service", N1, "active"), ("web@2.service", N2, "failed")] {
        daemon.place(unit, host, Target::Launched).await;
        daemon.report(unit, host, Target::Launched, active, 1).await;
    }
    let list = daemon.get("/fleet/v2/sets").await.json();
    let members = ["web@1.service", "web@2.service", "web@3.service"];
    let set = json!({
        "name": "web@.service", "replicas": 3, "file": 3, "ready": 1, "waiting": 1, "done": 0, "revision": 1,
        "members": members,
    });
    assert_eq!(list["sets"], json!([set]));
    daemon.apply(json!([{ "name": "web@.service", "replicas": 4 }])).await;
    let list = daemon.get("/fleet/v2/sets?name=web@*").await.json();
    assert_eq!((&list["sets"][0]["replicas"], &list["sets"][0]["file"]), (&json!(4), &json!(3)));
    assert_eq!(daemon.get("/fleet/v2/sets?name=a@*").await.json()["sets"], json!([]));
    assert_eq!(daemon.get("/fleet/v2/sets?bogus=1").await.status, 400);
    // The template says that it is one; its members are ordinary units.
    assert_eq!(daemon.get("/fleet/v2/units/web@.service").await.json()["replicas"], 4);
    assert!(daemon.get("/fleet/v2/units/web@1.service").await.json().get("replicas").is_none());
    assert_eq!(daemon.get("/fleet/v1/units/web@.service").await.json()["desiredState"], "inactive");
}

#[tokio::test]
async fn a_set_says_how_many_are_done_which_revision_it_has_and_how_far_its_rollout_is() {
    let daemon = Daemon::start().await;
    daemon.machine(N1, "n1", &[]).await;
    let once = |start: &str| {
        let file = format!("[Service]\nType=oneshot\nExecStart={start}\n[X-Fleet]\nReplicas=3\nRunOnce=yes\n");
        json!([{ "name": "web@.service", "text": file, "desired": "launched", "replace": true }])
    };
    daemon.apply(once("/bin/true")).await;
    let told = async || {
        let set = daemon.get("/fleet/v2/sets").await.json()["sets"][0].clone();
        ["ready", "waiting", "done", "revision", "rollout"].map(|field| set[field].clone())
    };
    assert_eq!(told().await, [json!(0), json!(3), json!(0), json!(1), Value::Null]);
    let generation = daemon.get("/fleet/v2/units/web@1.service").await.json()["generation"].clone();
    for unit in ["web@1.service", "web@2.service"] {
        let done = json!({ "host": N1, "generation": generation });
        let done = json!({ "waiting": { "why": "it has run once, and is done", "done": done, "since": 5 } });
        daemon.write_raw(&format!("placement/{unit}"), done.to_string().as_bytes()).await;
    }
    assert_eq!(told().await, [json!(0), json!(1), json!(2), json!(1), Value::Null]);
    daemon.apply(once("/bin/false")).await;
    let rollout = async |phase: &str| {
        let record = json!({ "target": "a", "from": { "hash": "b" }, "phase": phase, "since": 7, "began": 5 });
        daemon.write_raw("rollout/web@.service", record.to_string().as_bytes()).await;
        told().await
    };
    assert_eq!(rollout("rolling").await[3..], [json!(2), json!("rolling")]);
    assert_eq!(rollout("done").await[3..], [json!(2), Value::Null]);
    // A history that can't be read hides the number only.
    daemon.write_raw("history/web@.service", b"{").await;
    assert_eq!(rollout("stuck").await[3..], [Value::Null, json!("stuck")]);
}

#[tokio::test]
async fn what_is_wrong_with_a_count_is_said() {
    let daemon = Daemon::start().await;
    daemon
        .apply(json!([{ "name": "web@.service", "text": FILE }, { "name": "g@.service", "text":
        format!("{FILE}[X-Fleet]\nGlobal=true\n") }]))
        .await;
    let text = |line: &str| format!("{FILE}[X-Fleet]\n{line}\n");
    for (unit, expected) in [
        (
            json!({ "name": "a.service", "text": text("Replicas=3") }),
            "a.service:6: `Replicas=` is for templates: call the file a@.service",
        ),
        (
            json!({ "name": "a@.service", "text": text("Replicas=-1") }),
            "a@.service:6: `Replicas=-1`: must be a number from 0 to 1000, or a template such as web@.service",
        ),
        (
            json!({ "name": "a@.service", "text": text("Replicas=2\nGlobal=true") }),
            "a@.service:6: Replicas cannot be used with Global",
        ),
        (
            json!({ "name": "web@1.service", "replicas": 2 }),
            "web@1.service: it is an instance; name its template, web@.service",
        ),
        (
            json!({ "name": "web.service", "replicas": 2 }),
            "web.service: only a template has replicas, such as web@.service",
        ),
        (json!({ "name": "no@.service", "replicas": 2 }), "no@.service: no such unit, and no file came with it"),
        (json!({ "name": "g@.service", "replicas": 2 }), "g@.service: Replicas cannot be used with Global"),
        (
            json!({ "name": "web@.service", "replicas": 1001 }),
            "web@.service: `replicas` 1001: must be a number from 0 to 1000",
        ),
        (
            json!({ "name": "web@.service", "replicas": 2, "destroy": true }),
            "web@.service: `destroy` goes with nothing else",
        ),
        (
            json!({ "name": "web@.service", "replicas": 2, "revision": 1 }),
            "web@.service: somebody else has changed it meanwhile",
        ),
        // A template without a count is what it was.
        (
            json!({ "name": "web@.service", "desired": "launched" }),
            "web@.service: cannot activate template \"web@.service\"",
        ),
    ] {
        assert_eq!(daemon.refuse(json!([unit])).await, [expected]);
    }
    assert_eq!(set(&daemon).await, (None, vec![]));
}

/// As a backup is restored: the count isn't that of the file, and the members are named.
#[tokio::test]
async fn members_that_come_with_their_template_are_all_kept() {
    let members = |numbers: &[u32]| -> Vec<Value> {
        numbers.iter().map(|number| json!({ "name": format!("web@{number}.service"), "desired": "loaded" })).collect()
    };
    for (replicas, named, expected) in [
        (None, vec![1, 2, 3, 4, 5], (Some(5), vec![1, 2, 3, 4, 5])),
        (None, vec![4], (Some(3), vec![1, 2, 4])),
        (Some(5), vec![1, 2, 3, 4, 9], (Some(5), vec![1, 2, 3, 4, 9])),
        (Some(1), vec![2], (Some(1), vec![2])),
    ] {
        let daemon = Daemon::start().await;
        let mut template = json!({ "name": "web@.service", "text": file(3) });
        if let Some(replicas) = replicas {
            template["replicas"] = json!(replicas);
        }
        let batch: Vec<Value> = members(&named).into_iter().chain([template]).collect();
        daemon.apply(json!(batch)).await;
        assert_eq!(set(&daemon).await, expected, "{replicas:?} {named:?}");
    }
}

/// A request that restarts or starts units may not create and destroy them.
#[tokio::test]
async fn an_operator_changes_no_count() {
    let daemon = Daemon::start_on(&["role=operator"]).await;
    let batch = json!({ "units": [{ "name": "web@.service", "replicas": 2 }] });
    let refused = daemon.send("POST", "/fleet/v2/units", &batch).await;
    assert_eq!(refused.status, 403, "{}", refused.text);
}
