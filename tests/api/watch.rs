//! The stream of changes.

use std::time::Duration;

use flotilla::api::health::Health;
use flotilla::api::state::Settings;
use flotilla::model::unit::Target;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde_json::{Value, json};

use crate::harness::{Daemon, FILE, N1};

/// The lines of a watch.
struct Lines {
    body: Incoming,
    read: Vec<u8>,
    beats: usize,
}

impl Lines {
    async fn open(daemon: &Daemon, query: &str) -> Self {
        let response = daemon.open("GET", &format!("/fleet/v2/watch{query}"), &[], b"").await;
        assert_eq!(
            (response.status().as_u16(), &response.headers()["content-type"]),
            (200, &"application/x-ndjson".parse().unwrap())
        );
        Self { body: response.into_body(), read: Vec::new(), beats: 0 }
    }

    /// The next line that says something; `None` at the end.
    async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.read.drain(..=end).collect();
                if line == b"\n" {
                    self.beats += 1;
                    continue;
                }
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let frame = tokio::time::timeout(Duration::from_secs(30), self.body.frame()).await.expect("a line comes");
            self.read.extend(frame?.unwrap().into_data().unwrap());
        }
    }

    /// The next line, in short.
    async fn short(&mut self) -> String {
        let line = self.next().await.expect("the stream goes on");
        let (kind, value) = line.as_object().unwrap().iter().next().unwrap();
        match kind.as_str() {
            "unit" => format!(
                "{} {} {}",
                value["name"].as_str().unwrap(),
                value["desired"].as_str().unwrap(),
                value["current"].as_str().unwrap()
            ),
            "synced" => "synced".into(),
            kind => format!("{kind} {}", value.as_str().unwrap()),
        }
    }
}

#[tokio::test]
async fn every_unit_then_what_changes() {
    let daemon = Daemon::start().await;
    daemon.machine(N1, "n1", &[]).await;
    daemon.apply(json!([{ "name": "a.service", "text": FILE }, { "name": "b.service", "text": FILE, "desired": "launched" }])).await;
    let mut lines = Lines::open(&daemon, "").await;
    assert_eq!(lines.short().await, "a.service inactive inactive");
    assert_eq!(lines.short().await, "b.service launched inactive");
    assert_eq!(lines.short().await, "synced");
    daemon.place("b.service", N1, Target::Launched).await;
    let placed = lines.next().await.unwrap();
    assert_eq!(placed["unit"]["machine"], json!({ "id": N1, "ip": "10.88.0.1", "hostname": "n1" }));
    daemon.report("b.service", N1, Target::Launched, "activating", 2).await;
    assert_eq!(lines.next().await.unwrap()["unit"]["states"][0]["active"], "activating");
    // What says nothing new isn't told: the same report again, metadata, a file, keys of no concern, damage.
    daemon.report("b.service", N1, Target::Launched, "activating", 2).await;
    daemon.write_raw(&format!("metadata/{N1}/zone"), b"\"a\"").await;
    daemon.write_raw("leader", b"{}").await;
    daemon.write_raw("unit/b.service", b"{").await;
    daemon.write_raw("unit/c d", b"{").await;
    daemon.report("b.service", N1, Target::Launched, "active", 2).await;
    assert_eq!(lines.next().await.unwrap()["unit"]["states"][0]["active"], "active");
    let global = format!("{FILE}[X-Fleet]\nGlobal=true\n");
    daemon.apply(json!([{ "name": "c.service", "text": global }])).await;
    assert_eq!(lines.next().await.unwrap()["unit"]["global"], true);
    // A host that gets another name is told with its units.
    daemon.machine(N1, "n9", &[]).await;
    assert_eq!(lines.next().await.unwrap()["unit"]["machine"]["hostname"], "n9");
}

#[tokio::test]
async fn a_unit_is_gone_when_no_host_has_it() {
    let daemon = Daemon::start().await;
    daemon.apply(json!([{ "name": "a.service", "text": FILE }, { "name": "b.service", "text": FILE }])).await;
    daemon.place("a.service", N1, Target::Launched).await;
    let mut lines = Lines::open(&daemon, "?name=a*").await;
    assert_eq!((lines.short().await, lines.short().await), ("a.service inactive inactive".into(), "synced".into()));
    daemon.apply(json!([{ "name": "a.service", "destroy": true }, { "name": "b.service", "destroy": true }])).await;
    assert_eq!(lines.short().await, "leaving a.service");
    // Who comes later learns that too.
    let mut late = Lines::open(&daemon, "?name=a.service").await;
    assert_eq!((late.short().await, late.short().await), ("leaving a.service".into(), "synced".into()));
    daemon.report("a.service", N1, Target::Gone, "inactive", 9).await;
    daemon.unplace("a.service", N1).await;
    assert_eq!((lines.short().await, late.short().await), ("removed a.service".into(), "removed a.service".into()));
    daemon.apply(json!([{ "name": "a.service", "text": FILE }])).await;
    assert_eq!(lines.short().await, "a.service inactive inactive");
    daemon.apply(json!([{ "name": "a.service", "destroy": true }])).await;
    assert_eq!(lines.short().await, "removed a.service");
}

#[tokio::test]
async fn a_storm_of_changes_arrives_whole() {
    let daemon = Daemon::start().await;
    let mut lines = Lines::open(&daemon, "").await;
    assert_eq!(lines.short().await, "synced");
    for round in 0..20 {
        let units: Vec<Value> =
            (0..100).map(|n| json!({ "name": format!("u{round}-{n}.service"), "text": FILE })).collect();
        daemon.apply(json!(units)).await;
    }
    let mut seen = std::collections::BTreeSet::new();
    while seen.len() < 2000 {
        seen.insert(lines.short().await);
    }
}

#[tokio::test]
async fn a_quiet_stream_says_that_it_lives_and_ends_with_the_server() {
    let mut daemon = Daemon::start_with(Settings { heartbeat: Duration::from_millis(5), ..Settings::default() }).await;
    let mut lines = Lines::open(&daemon, "").await;
    assert_eq!(lines.short().await, "synced");
    tokio::time::sleep(Duration::from_millis(100)).await;
    daemon.stop().await;
    assert_eq!(lines.short().await, "error this fleetd is stopping");
    assert_eq!(lines.next().await, None);
    assert!(lines.beats > 0);
}

#[tokio::test]
async fn a_store_that_is_gone_ends_the_stream_with_a_reason() {
    let daemon = Daemon::start().await;
    let mut lines = Lines::open(&daemon, "").await;
    assert_eq!(lines.short().await, "synced");
    // A unit whose file must be fetched meets the store's failure.
    daemon.store.set_down(true);
    let unit = json!({ "desired": "loaded", "hash": "3750b3e9f3962a56c7582929426e9abb012754cf", "generation": 1, "submitted": 1 });
    daemon.write_raw("unit/a.service", unit.to_string().as_bytes()).await;
    let error = lines.next().await.unwrap();
    assert!(
        error["error"]
            .as_str()
            .unwrap()
            .starts_with("fleetd on n1 can't reach its store: etcd at 10.88.0.1:2379 refuses")
    );
    assert_eq!(lines.next().await, None);
    // One that is down from the start has a status.
    let answer = daemon.get("/fleet/v2/watch").await;
    assert_eq!(answer.status, 503);
    daemon.health.send_replace(Health::Ready);
}
