//! Riders: templates that have as many members as another one, with the same numbers.

use std::collections::BTreeMap;

use flotilla::store::{Kv, Range, Store as _};
use serde_json::{Value, json};

use crate::harness::{Daemon, FILE};

fn file(replicas: &str) -> String {
    format!("{FILE}[X-Fleet]\nReplicas={replicas}\n")
}

/// The records of all units by their names.
async fn records(daemon: &Daemon) -> BTreeMap<String, Value> {
    let mut kvs: Vec<Kv> = Vec::new();
    loop {
        let after = kvs.last().map(|kv| kv.key.clone());
        let page = daemon.store.inner.range(Range { prefix: "unit/".into(), after, ..Range::default() }).await.unwrap();
        if page.kvs.is_empty() {
            break;
        }
        kvs.extend(page.kvs);
    }
    let record = |kv: &Kv| (kv.key["unit/".len()..].to_owned(), serde_json::from_slice(&kv.value).unwrap());
    kvs.iter().map(record).collect()
}

/// The count of a template, the numbers of its members, and its riders.
async fn set(daemon: &Daemon, prefix: &str) -> (Option<u64>, Vec<u32>, Vec<String>) {
    let records = records(daemon).await;
    let template = records.get(&format!("{prefix}@.service")).cloned().unwrap_or_default();
    let number = |name: &String| name.strip_prefix(&format!("{prefix}@"))?.strip_suffix(".service")?.parse().ok();
    let mut numbers: Vec<u32> = records.keys().filter_map(number).collect();
    numbers.sort_unstable();
    let riders = template["riders"].as_array().cloned().unwrap_or_default();
    let riders = riders.iter().map(|rider| rider.as_str().unwrap().to_owned());
    (template["replicas"].as_u64(), numbers, riders.collect())
}

async fn has(daemon: &Daemon, expected: &[u32]) {
    let count = Some(expected.len() as u64);
    assert_eq!(set(daemon, "web").await, (count, expected.to_vec(), vec!["log@.service".to_owned()]));
    assert_eq!(set(daemon, "log").await, (count, expected.to_vec(), vec![]));
}

fn done(applied: &Value) -> Vec<String> {
    let line = |unit: &Value| format!("{} {}", unit["name"].as_str().unwrap(), unit["outcome"].as_str().unwrap());
    applied["units"].as_array().unwrap().iter().map(line).collect()
}

/// `web@.service` has three members, launched, and `log@.service` rides with it.
async fn pair() -> Daemon {
    let daemon = Daemon::start().await;
    let templates = json!([
        { "name": "log@.service", "text": file("web@.service"), "desired": "launched" },
        { "name": "web@.service", "text": file("3"), "desired": "launched" },
    ]);
    daemon.apply(templates).await;
    has(&daemon, &[1, 2, 3]).await;
    daemon
}

async fn scale(daemon: &Daemon, count: u32) -> Value {
    daemon.apply(json!([{ "name": "web@.service", "replicas": count }])).await
}

#[tokio::test]
async fn riders_come_and_go_with_the_members_of_their_lead() {
    let daemon = pair().await;
    assert_eq!(daemon.store.commits(), 1, "each pair arrives together");
    let scaled = done(&scale(&daemon, 5).await);
    let new = ["web@.service changed", "web@4.service created", "log@4.service created", "web@5.service created"];
    assert_eq!(scaled[..4], new);
    has(&daemon, &[1, 2, 3, 4, 5]).await;
    assert!(records(&daemon).await.iter().all(|(name, unit)| name.contains("@.") || unit["desired"] == "launched"));
    assert_eq!(done(&scale(&daemon, 5).await), ["web@.service unchanged"]);
    assert_eq!(daemon.store.commits(), 2);
    // A member that is destroyed by its name, in v1 as well, takes the one that rides with it along.
    assert_eq!(daemon.delete("/fleet/v1/units/web@2.service").await.status, 204);
    has(&daemon, &[1, 3, 4, 5]).await;
    let named = done(&daemon.apply(json!([{ "name": "web@4.service", "destroy": true }])).await);
    assert_eq!(named, ["web@4.service destroyed", "log@4.service destroyed"]);
    has(&daemon, &[1, 3, 5]).await;
    // One that is created by its name brings one.
    let named = done(&daemon.apply(json!([{ "name": "web@9.service", "desired": "loaded" }])).await);
    assert_eq!(named, ["web@9.service created", "log@9.service created"]);
    has(&daemon, &[1, 3, 5, 9]).await;
    scale(&daemon, 5).await;
    has(&daemon, &[1, 2, 3, 5, 9]).await;
    let gone = done(&scale(&daemon, 3).await);
    let expected = ["web@9.service destroyed", "log@9.service destroyed", "web@5.service destroyed"];
    assert_eq!(gone[1..4], expected);
    has(&daemon, &[1, 2, 3]).await;
    // All of it goes in one batch.
    let both = ["web@.service", "log@.service"].map(|name| json!({ "name": name, "destroy": true }));
    daemon.apply(json!(both)).await;
    assert!(records(&daemon).await.is_empty());
}

#[tokio::test]
async fn what_is_wanted_of_a_set_is_wanted_of_its_riders() {
    let daemon = Daemon::start().await;
    daemon.apply(json!([{ "name": "web@.service", "text": file("2"), "desired": "launched" }])).await;
    // A rider that is submitted is inactive, as any unit.
    daemon.apply(json!([{ "name": "log@.service", "text": file("web@.service") }])).await;
    has(&daemon, &[1, 2]).await;
    let desired = async |name: &str| records(&daemon).await[name]["desired"].clone();
    assert_eq!(desired("log@1.service").await, "inactive");
    daemon.apply(json!([{ "name": "web@.service", "desired": "launched" }])).await;
    assert_eq!((desired("log@1.service").await, desired("log@.service").await), (json!("launched"), json!("inactive")));
    // By itself, it is a set like any other.
    daemon.apply(json!([{ "name": "log@.service", "desired": "loaded" }])).await;
    assert_eq!((desired("log@2.service").await, desired("web@2.service").await), (json!("loaded"), json!("launched")));
    scale(&daemon, 3).await;
    assert_eq!(desired("log@3.service").await, "loaded", "as the other riders");
    // Without others, they have what the lead's members have.
    scale(&daemon, 0).await;
    daemon.apply(json!([{ "name": "web@.service", "replicas": 1, "desired": "loaded" }])).await;
    assert_eq!((desired("web@1.service").await, desired("log@1.service").await), (json!("loaded"), json!("loaded")));
    // A member that somebody destroys comes back when the set is changed, not when another one is started.
    daemon.apply(json!([{ "name": "log@1.service", "destroy": true }])).await;
    daemon.apply(json!([{ "name": "web@1.service", "desired": "launched" }])).await;
    assert_eq!((set(&daemon, "log").await.0, set(&daemon, "log").await.1), (Some(1), vec![]));
    scale(&daemon, 1).await;
    has(&daemon, &[1]).await;
    assert_eq!(desired("log@1.service").await, "launched");
}

#[tokio::test]
async fn riders_of_a_set_that_does_not_change_are_not_read() {
    let (pair, alone) = (pair().await, Daemon::start().await);
    alone.apply(json!([{ "name": "web@.service", "text": file("3"), "desired": "launched" }])).await;
    let read = async |daemon: &Daemon, name: &str| {
        let before = daemon.store.read();
        daemon.apply(json!([{ "name": name, "desired": "loaded" }])).await;
        daemon.store.read() - before
    };
    assert_eq!(read(&pair, "web@1.service").await, read(&alone, "web@1.service").await);
    assert!(read(&pair, "web@4.service").await > read(&alone, "web@4.service").await);
    has(&pair, &[1, 2, 3, 4]).await;
}

#[tokio::test]
async fn a_rider_that_somebody_has_changed_by_hand_is_left_and_named() {
    let daemon = pair().await;
    let own = FILE.replace("/bin/true", "/bin/false");
    daemon.apply(json!([{ "name": "log@3.service", "text": own, "replace": true }])).await;
    // The others have an earlier file of their template; that is no change by hand.
    let text = file("web@.service").replace("/bin/true", "/bin/echo");
    daemon.apply(json!([{ "name": "log@.service", "text": text, "replace": true }])).await;
    let gone = done(&scale(&daemon, 1).await);
    let expected = ["web@3.service destroyed", "log@3.service differs", "web@2.service destroyed"];
    assert_eq!((&gone[1..4], gone.len()), (&expected.map(String::from)[..], 5));
    assert_eq!(set(&daemon, "log").await.1, [1, 3]);
    assert_eq!(records(&daemon).await["log@3.service"]["desired"], "launched", "untouched");
    let list = daemon.get("/fleet/v2/sets?name=log@*").await.json();
    assert_eq!(list["sets"][0]["members"], json!(["log@1.service", "log@3.service"]));
    // Named each time, destroyed by its name, and a member again if the number comes back.
    assert_eq!(done(&scale(&daemon, 1).await), ["web@.service unchanged", "log@3.service differs"]);
    scale(&daemon, 3).await;
    has(&daemon, &[1, 2, 3]).await;
    scale(&daemon, 2).await;
    daemon.apply(json!([{ "name": "log@3.service", "destroy": true }])).await;
    has(&daemon, &[1, 2]).await;
}

#[tokio::test]
async fn a_rider_can_change_its_lead_or_become_a_set_of_its_own() {
    let daemon = pair().await;
    daemon.apply(json!([{ "name": "api@.service", "text": file("1") }])).await;
    let replace = async |replicas: &str| {
        daemon.apply(json!([{ "name": "log@.service", "text": file(replicas), "replace": true }])).await;
        let (count, numbers, _) = set(&daemon, "log").await;
        (count, numbers, set(&daemon, "web").await.2.len(), set(&daemon, "api").await.2.len())
    };
    assert_eq!(replace("api@.service").await, (Some(1), vec![1], 0, 1));
    assert_eq!(replace("web@.service").await, (Some(3), vec![1, 2, 3], 1, 0));
    assert_eq!(replace("2").await, (Some(2), vec![1, 2], 0, 0));
    scale(&daemon, 4).await;
    assert_eq!(set(&daemon, "log").await.0, Some(2));
    assert_eq!(replace("web@.service").await, (Some(4), vec![1, 2, 3, 4], 1, 0));
    // Without `Replicas=` it is no set, and its instances stay.
    daemon.apply(json!([{ "name": "log@.service", "text": FILE, "replace": true }])).await;
    assert_eq!(set(&daemon, "log").await, (None, vec![1, 2, 3, 4], vec![]));
    assert!(set(&daemon, "web").await.2.is_empty());
    daemon.apply(json!([{ "name": "web@.service", "destroy": true }])).await;
}

#[tokio::test]
async fn what_is_wrong_with_a_rider_is_said() {
    let daemon = pair().await;
    daemon.apply(json!([{ "name": "plain@.service", "text": FILE }])).await;
    let rider = |name: &str, of: &str| json!({ "name": name, "text": file(of) });
    let replaced = |name: &str, of: &str| json!({ "name": name, "text": file(of), "replace": true });
    for (batch, expected) in [
        (
            vec![rider("a@.service", "b@.service")],
            "a@.service:6: `Replicas=b@.service`: there is no such template here or in the cluster",
        ),
        (
            vec![rider("a@.service", "a@.service")],
            "a@.service:6: `Replicas=a@.service` names the template itself: it must be a number, or another template",
        ),
        (
            vec![rider("a@.service", "plain@.service")],
            "a@.service:6: `Replicas=plain@.service`: plain@.service has no number of members: give it `Replicas=`, \
             or scale it first",
        ),
        (
            vec![rider("a@.service", "log@.service")],
            "a@.service:6: `Replicas=log@.service`: log@.service has as many as web@.service has: name that",
        ),
        (
            vec![replaced("web@.service", "log@.service")],
            "web@.service:6: `Replicas=log@.service`: log@.service has as many as web@.service has: one of them must \
             have a number",
        ),
        (
            vec![json!({ "name": "web@.service", "text": FILE, "replace": true })],
            "log@.service: `Replicas=web@.service`: web@.service has no number of members: give it `Replicas=`, or \
             scale it first",
        ),
        (
            vec![json!({ "name": "web@.service", "destroy": true })],
            "web@.service: log@.service has as many as web@.service: destroy both",
        ),
        (
            vec![json!({ "name": "log@.service", "replicas": 4 })],
            "log@.service: it has as many as web@.service has (Replicas=web@.service); scale that",
        ),
        (
            vec![rider("a.service", "web@.service")],
            "a.service:6: `Replicas=` is for templates: call the file a@.service",
        ),
    ] {
        let refused = daemon.refuse(json!(batch)).await;
        assert_eq!(refused.first().map(String::as_str), Some(expected), "{refused:?}");
    }
    let cycle = json!([rider("a@.service", "b@.service"), rider("b@.service", "a@.service")]);
    assert_eq!(daemon.refuse(cycle).await.len(), 2);
    assert_eq!(daemon.delete("/fleet/v1/units/web@.service").await.status, 400);
    has(&daemon, &[1, 2, 3]).await;
    // The number that it has is no change: a backup says it too.
    daemon.apply(json!([{ "name": "log@.service", "replicas": 3 }])).await;
    assert_eq!(daemon.get("/fleet/v2/sets?name=log@*").await.json()["sets"][0]["lead"], "web@.service");
    assert_eq!(daemon.get("/fleet/v2/sets?name=web@*").await.json()["sets"][0]["riders"], json!(["log@.service"]));
}

/// The daemon dies between two transactions: no pair is torn, and the same request again completes it.
#[tokio::test]
async fn a_change_that_breaks_off_leaves_whole_pairs_and_the_same_again_heals() {
    for (from, to) in [(0, 300), (300, 10)] {
        for commits in 1..5 {
            let daemon = pair().await;
            scale(&daemon, from).await;
            daemon.store.go_down_after(Some(commits));
            let batch = json!({ "units": [{ "name": "web@.service", "replicas": to }] });
            assert_eq!(daemon.send("POST", "/fleet/v2/units", &batch).await.status, 503, "{from} {to} {commits}");
            daemon.store.go_down_after(None);
            let (web, log) = (set(&daemon, "web").await, set(&daemon, "log").await);
            assert_eq!((web.0, log.0), (Some(u64::from(to)), Some(u64::from(to))), "the counts come first");
            assert_eq!(web.1, log.1, "{from} {to} {commits}");
            assert!(web.1.len() != from as usize && web.1.len() != to as usize, "{}", web.1.len());
            scale(&daemon, to).await;
            has(&daemon, &(1..=to).collect::<Vec<u32>>()).await;
        }
    }
}

/// A commit whose answer is lost, or that conflicts, isn't carried out twice.
#[tokio::test]
async fn a_change_is_carried_out_once() {
    for lost in [1, 2] {
        let daemon = pair().await;
        daemon.store.lose_answers(lost);
        let created = json!([{ "name": "web@4.service" }, { "name": "web@1.service", "desired": "loaded" }]);
        let created = done(&daemon.apply(created).await);
        assert_eq!(created, ["web@4.service created", "web@1.service changed", "log@4.service created"]);
        has(&daemon, &[1, 2, 3, 4]).await;
        assert_eq!(daemon.delete("/fleet/v1/units/web@4.service").await.status, 204);
        daemon.store.lose_answers(lost);
        assert_eq!(daemon.delete("/fleet/v1/units/web@2.service").await.status, 204);
        has(&daemon, &[1, 3]).await;
        daemon.store.conflict(3);
        scale(&daemon, 4).await;
        has(&daemon, &[1, 2, 3, 4]).await;
    }
}

#[tokio::test]
async fn requests_at_the_same_time_leave_the_same_numbers() {
    let daemon = pair().await;
    scale(&daemon, 8).await;
    let delete = async |number: u32| daemon.delete(&format!("/fleet/v1/units/web@{number}.service")).await.status;
    let again = daemon.apply(json!([{ "name": "log@.service", "text": file("web@.service"), "replace": true }]));
    let gone = futures_util::join!(delete(1), delete(2), scale(&daemon, 6), again, delete(4));
    assert_eq!((gone.0, gone.1, gone.4), (204, 204, 204));
    let (web, log) = (set(&daemon, "web").await, set(&daemon, "log").await);
    assert_eq!((web.0, &web.1), (log.0, &log.1));
    assert_eq!(web.0, Some(web.1.len() as u64));
}

/// A daemon of an earlier version has written the record of the lead, and lost its riders.
#[tokio::test]
async fn a_rider_that_its_lead_has_forgotten_is_submitted_again() {
    let daemon = pair().await;
    let mut record = records(&daemon).await["web@.service"].clone();
    record.as_object_mut().unwrap().remove("riders");
    daemon.write_raw("unit/web@.service", &serde_json::to_vec(&record).unwrap()).await;
    scale(&daemon, 4).await;
    assert_eq!(set(&daemon, "log").await.1, [1, 2, 3]);
    daemon.apply(json!([{ "name": "log@.service", "text": file("web@.service") }])).await;
    has(&daemon, &[1, 2, 3, 4]).await;
}
