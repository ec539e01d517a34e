//! `/fleet/v2/watch`: the stream of changes.

use std::time::Duration;

use flotilla::api::server::health::Health;
use flotilla::api::server::state::Settings;
use flotilla::model::unit::Target;
use flotilla::store::{Op, Store as _, Txn};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde_json::{Value, json};

use crate::description;
use crate::harness::{Daemon, FILE, N1, N2};

/// The lines of a watch.
pub struct Lines {
    body: Incoming,
    read: Vec<u8>,
    beats: usize,
    /// What the description calls a line.
    kind: &'static str,
}

impl Lines {
    pub async fn open(daemon: &Daemon, query: &str) -> Self {
        let kind = if query.starts_with("/rollouts") { "RolloutLine" } else { "WatchLine" };
        let response = daemon.open("GET", &format!("/fleet/v2/watch{query}"), &[], b"").await;
        assert_eq!(
            (response.status().as_u16(), &response.headers()["content-type"]),
            (200, &"application/x-ndjson".parse().unwrap())
        );
        Self { body: response.into_body(), read: Vec::new(), beats: 0, kind }
    }

    /// The next line that isn't empty; `None` at the end.
    pub async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.read.drain(..=end).collect();
                if line == b"\n" {
                    self.beats += 1;
                    continue;
                }
                let line = serde_json::from_slice(&line).unwrap();
                description::check(self.kind, &line);
                return Some(line);
            }
            let frame = tokio::time::timeout(Duration::from_secs(30), self.body.frame()).await.expect("a line comes");
            self.read.extend(frame?.unwrap().into_data().unwrap());
        }
    }

    /// The next line, in short.
    pub async fn short(&mut self) -> String {
        let line = self.next().await.expect("the stream continues");
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
    let units = json!([
        { "name": "a.service", "text": FILE },
        { "name": "b.service", "text": FILE, "desired": "launched" },
    ]);
    daemon.apply(units).await;
    let mut lines = Lines::open(&daemon, "").await;
    assert_eq!(lines.short().await, "a.service inactive inactive");
    assert_eq!(lines.short().await, "b.service launched inactive");
    assert_eq!(lines.short().await, "synced");
    daemon.place("b.service", N1, Target::Launched).await;
    let placed = lines.next().await.unwrap();
    assert_eq!(placed["unit"]["machine"], json!({ "id": N1, "ip": "10.88.0.1", "hostname": "n1" }));
    daemon.report("b.service", N1, Target::Launched, "activating", 2).await;
    assert_eq!(lines.next().await.unwrap()["unit"]["states"][0]["active"], "activating");
    // Changes without an effect aren't sent: the same report again, metadata, a file, unrelated or damaged keys.
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
    // When a host gets another name, its units are sent again.
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
    // A later watch gets the new name, too.
    let mut late = Lines::open(&daemon, "?name=a.service").await;
    assert_eq!((late.short().await, late.short().await), ("leaving a.service".into(), "synced".into()));
    daemon.report("a.service", N1, Target::Removed, "inactive", 9).await;
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
    // A unit whose file must be fetched is affected by the failure of the store.
    daemon.store.set_down(true);
    let hash = "3750b3e9f3962a56c7582929426e9abb012754cf";
    let unit = json!({ "desired": "loaded", "hash": hash, "generation": 1, "submitted": 1 });
    daemon.write_raw("unit/a.service", unit.to_string().as_bytes()).await;
    let error = lines.next().await.unwrap();
    assert!(
        error["error"]
            .as_str()
            .unwrap()
            .starts_with("fleetd on n1 can't reach its store: etcd at 10.88.0.1:2379 refuses")
    );
    assert_eq!(lines.next().await, None);
    // If the store is unreachable from the beginning, the answer has an error status.
    let answer = daemon.get("/fleet/v2/watch").await;
    assert_eq!(answer.status, 503);
    daemon.health.send_replace(Health::Ready);
}

/// After a compaction, the watch lists again: it sends what has changed and what was removed, and `synced` again.
#[tokio::test]
async fn a_gap_in_the_history_is_told_over() {
    let daemon = Daemon::start().await;
    let units = json!([
        { "name": "a.service", "text": FILE },
        { "name": "b.service", "text": FILE },
        { "name": "c.service", "text": FILE },
    ]);
    daemon.apply(units).await;
    daemon.place("c.service", N1, Target::Launched).await;
    let mut lines = Lines::open(&daemon, "").await;
    for expected in
        ["a.service inactive inactive", "b.service inactive inactive", "c.service inactive inactive", "synced"]
    {
        assert_eq!(lines.short().await, expected);
    }
    // On a single thread nobody reads between these.
    daemon.store.compact();
    let changes = [
        Op::Delete("unit/b.service".into()),
        Op::Delete("unit/c.service".into()),
        Op::Put {
            key: "unit/a.service".into(),
            value: json!({ "desired": "loaded", "hash": "0", "generation": 9, "submitted": 1 }).to_string().into(),
            lease: None,
        },
    ];
    daemon.store.inner.commit(Txn { guards: vec![], ops: changes.to_vec() }).await.unwrap();
    for expected in ["a.service loaded inactive", "removed b.service", "leaving c.service", "synced"] {
        assert_eq!(lines.short().await, expected);
    }
    // Then the stream continues.
    daemon.apply(json!([{ "name": "d.service", "text": FILE }])).await;
    assert_eq!(lines.short().await, "d.service inactive inactive");
}

/// The watch of a sidecar: it must cost only the changes of its unit on its host, whatever else changes in the cluster.
#[tokio::test]
async fn a_watch_of_one_host_hears_nothing_of_the_rest() {
    let daemon = Daemon::start().await;
    daemon.machine(N1, "n1", &[]).await;
    daemon.machine(N2, "n2", &[]).await;
    daemon.apply(json!([{ "name": r"a\x2db.service", "text": FILE, "desired": "launched" }])).await;
    let mut lines = Lines::open(&daemon, &format!("?name=a%5C%5Cx2db.service&host={N1}")).await;
    assert_eq!(
        (lines.short().await, lines.short().await),
        (r"a\x2db.service launched inactive".into(), "synced".into())
    );
    let read = daemon.store.read();
    for n in 0..20 {
        let unit = format!("u{n}.service");
        daemon.apply(json!([{ "name": unit, "text": FILE, "desired": "launched" }])).await;
        daemon.place(&unit, N1, Target::Launched).await;
        daemon.report(&unit, N1, Target::Launched, "active", 9).await;
    }
    daemon.apply(json!([{ "name": r"a\x2db.service.timer", "text": "[Timer]\nOnBootSec=1\n" }])).await;
    daemon.report(r"a\x2db.service", N2, Target::Launched, "active", 9).await;
    let reading = daemon.store.read() - read;
    // A watch receives all keys with its prefix, and thus the timer's.
    assert!(daemon.store.heard() <= 1, "{} events", daemon.store.heard());

    // Placements, here and elsewhere, with the name of that host; reports of other hosts aren't sent.
    daemon.place(r"a\x2db.service", N1, Target::Launched).await;
    let placed = lines.next().await.unwrap();
    assert_eq!((&placed["unit"]["machine"]["hostname"], &placed["unit"]["states"]), (&json!("n1"), &json!([])));
    daemon.report(r"a\x2db.service", N1, Target::Launched, "active", 9).await;
    let active = lines.next().await.unwrap();
    let states = active["unit"]["states"].as_array().unwrap();
    assert_eq!((states.len(), &states[0]["active"], &states[0]["machine"]["id"]), (1, &json!("active"), &json!(N1)));
    daemon.place(r"a\x2db.service", N2, Target::Launched).await;
    assert_eq!(lines.next().await.unwrap()["unit"]["machine"]["hostname"], "n2");
    daemon.machine(N2, "n7", &[]).await;
    assert_eq!(lines.next().await.unwrap()["unit"]["machine"]["hostname"], "n7");
    let all = daemon.store.read() - read - reading;
    assert!(daemon.store.heard() <= 7 && all < 40, "{} events, {all} keys read", daemon.store.heard());
}

/// For any number of watches, the store is read and watched once.
#[tokio::test]
async fn many_watchers_share_one_picture() {
    let settings = Settings { linger: Duration::from_millis(100), ..Settings::default() };
    let daemon = Daemon::start_with(settings).await;
    daemon.machine(N1, "n1", &[]).await;
    daemon.apply(json!([{ "name": "a.service", "text": FILE }])).await;
    let mut first = Lines::open(&daemon, "").await;
    assert_eq!((first.short().await, first.short().await), ("a.service inactive inactive".into(), "synced".into()));
    let read = daemon.store.read();
    let mut watchers = vec![first];
    for query in ["", "?name=*", "?name=a*", "?name=a*&name=b*"] {
        let mut lines = Lines::open(&daemon, query).await;
        assert_eq!((lines.short().await, lines.short().await), ("a.service inactive inactive".into(), "synced".into()));
        watchers.push(lines);
    }
    assert!(daemon.store.read() - read <= watchers.len(), "no more than whether the store is there");
    let heard = daemon.store.heard();
    daemon.place("a.service", N1, Target::Launched).await;
    daemon.report("a.service", N1, Target::Launched, "active", 9).await;
    for lines in &mut watchers {
        while lines.next().await.unwrap()["unit"]["states"] == json!([]) {}
    }
    assert_eq!(daemon.store.heard() - heard, 3, "an assignment, a placement, a report");

    // When the last watch has ended, nothing is received from the store any more.
    drop(watchers);
    for number in 1.. {
        assert!(number < 100, "the store is heard for ever");
        let heard = daemon.store.heard();
        daemon.report("a.service", N1, Target::Launched, "active", 9 + number).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        if daemon.store.heard() == heard {
            break;
        }
    }
}

/// When the connection to the store breaks, all streams end, with the reason; a new watch gets everything.
#[tokio::test]
async fn a_watch_of_the_store_that_breaks_ends_all_streams_and_the_next_begin_anew() {
    let daemon = Daemon::start().await;
    daemon.apply(json!([{ "name": "a.service", "text": FILE }, { "name": "b.service", "text": FILE }])).await;
    let begin = async |query: &str| {
        let mut lines = Lines::open(&daemon, query).await;
        while lines.short().await != "synced" {}
        lines
    };
    let mut watchers = vec![begin("").await, begin("?name=a*").await, begin("?name=a.service").await];
    // On a single thread nobody reads between these.
    daemon.store.cut();
    let change = Op::Delete("unit/a.service".into());
    daemon.store.inner.commit(Txn { guards: vec![], ops: vec![change] }).await.unwrap();
    for lines in &mut watchers {
        assert!(lines.short().await.starts_with("error fleetd on n1 can't reach its store: the connection broke"));
        assert_eq!(lines.next().await, None);
    }
    let mut lines = Lines::open(&daemon, "").await;
    assert_eq!((lines.short().await, lines.short().await), ("b.service inactive inactive".into(), "synced".into()));
    daemon.apply(json!([{ "name": "c.service", "text": FILE }])).await;
    assert_eq!(lines.short().await, "c.service inactive inactive");
}

/// The watch of `fleetctl start`: it must cost only the changes of its units, whatever else changes in the cluster.
#[tokio::test]
async fn a_watch_of_a_few_units_hears_nothing_of_the_rest() {
    let daemon = Daemon::start().await;
    daemon.machine(N1, "n1", &[]).await;
    daemon.machine(N2, "n2", &[]).await;
    let run = async |number: usize| {
        let unit = format!("u{number}.service");
        daemon.apply(json!([{ "name": unit, "text": FILE, "desired": "launched" }])).await;
        daemon.place(&unit, N1, Target::Launched).await;
        daemon.report(&unit, N1, Target::Launched, "active", 9).await;
    };
    for number in 0..50 {
        run(number).await;
    }
    daemon.apply(json!([{ "name": "a.service", "text": FILE, "desired": "launched" }])).await;
    let read = daemon.store.read();
    let mut lines = Lines::open(&daemon, "?name=a.service").await;
    assert_eq!((lines.short().await, lines.short().await), ("a.service launched inactive".into(), "synced".into()));
    for number in 50..70 {
        run(number).await;
    }
    daemon.place("a.service", N1, Target::Launched).await;
    assert_eq!(lines.next().await.unwrap()["unit"]["machine"]["hostname"], "n1");
    daemon.report("a.service", N1, Target::Launched, "active", 9).await;
    assert_eq!(lines.next().await.unwrap()["unit"]["states"][0]["active"], "active");
    // A host has its new name, and a unit that moves is reported by its new host.
    daemon.machine(N1, "n7", &[]).await;
    assert_eq!(lines.next().await.unwrap()["unit"]["states"][0]["machine"]["hostname"], "n7");
    daemon.place("a.service", N2, Target::Launched).await;
    assert_eq!(lines.next().await.unwrap()["unit"]["machine"]["hostname"], "n2");
    daemon.report("a.service", N2, Target::Launched, "failed", 9).await;
    let states = lines.next().await.unwrap()["unit"]["states"].clone();
    let active: Vec<&Value> = states.as_array().unwrap().iter().map(|state| &state["active"]).collect();
    assert_eq!(active, ["active", "failed"], "the first host still reports it");
    let (read, heard) = (daemon.store.read() - read, daemon.store.heard());
    assert!(heard <= 5 && read < 80, "{heard} events, {read} keys read: the rest are 150 units' keys");
}

#[tokio::test]
async fn a_watch_of_a_few_units_tells_ends_and_gaps_and_keeps_what_it_cannot_read() {
    let daemon = Daemon::start().await;
    daemon.machine(N1, "n1", &[]).await;
    daemon.apply(json!([{ "name": "a.service", "text": FILE, "desired": "launched" }])).await;
    daemon.place("a.service", N1, Target::Launched).await;
    daemon.report("a.service", N1, Target::Launched, "active", 9).await;
    let mut lines = Lines::open(&daemon, "?name=a.service").await;
    assert_eq!((lines.short().await, lines.short().await), ("a.service launched launched".into(), "synced".into()));
    daemon.write_raw(&format!("state/{N1}/a.service"), b"{").await;
    daemon.write_raw("unit/a.service", b"{").await;
    daemon.store.compact();
    assert_eq!(lines.short().await, "synced", "nothing has changed that can be read");
    daemon.apply(json!([{ "name": "a.service", "destroy": true }])).await;
    assert_eq!(lines.short().await, "leaving a.service");
    daemon.unplace("a.service", N1).await;
    daemon.write(Op::Delete(format!("state/{N1}/a.service"))).await;
    assert_eq!(lines.short().await, "removed a.service");
    let read = daemon.store.read();
    daemon.apply(json!([{ "name": "a.service", "text": FILE }])).await;
    assert_eq!(lines.short().await, "a.service inactive inactive");
    assert!(daemon.store.read() - read < 10, "it is still followed by its own keys");
}

/// No key of a global unit itself lists the hosts that it is assigned to.
#[tokio::test]
async fn a_unit_that_turns_out_to_be_global_is_followed_everywhere() {
    let daemon = Daemon::start().await;
    daemon.machine(N1, "n1", &[]).await;
    daemon.apply(json!([{ "name": "g.service", "text": FILE, "desired": "launched" }])).await;
    let mut lines = Lines::open(&daemon, "?name=g.service&operation=destroy").await;
    assert_eq!((lines.short().await, lines.short().await), ("g.service launched inactive".into(), "synced".into()));
    let global = format!("{FILE}[X-Fleet]\nGlobal=true\n");
    daemon.apply(json!([{ "name": "g.service", "text": global, "replace": true }])).await;
    assert_eq!(lines.next().await.unwrap()["unit"]["global"], true);
    assert_eq!(lines.short().await, "synced");
    daemon.order("g.service", N1, Target::Launched, 9).await;
    assert_eq!(lines.next().await.unwrap()["unit"]["hosts"][0]["target"], "launched");
    daemon.apply(json!([{ "name": "g.service", "destroy": true }])).await;
    assert_eq!(lines.short().await, "leaving g.service");
    // This unit was destroyed before the watch began: only the assignment to a host is left.
    let mut late = Lines::open(&daemon, "?name=g.service&operation=destroy").await;
    assert_eq!((late.short().await, late.short().await), ("leaving g.service".into(), "synced".into()));
    daemon.write(Op::Delete(format!("schedule/{N1}/g.service"))).await;
    assert_eq!((lines.short().await, late.short().await), ("removed g.service".into(), "removed g.service".into()));
}

#[tokio::test]
async fn a_watch_of_one_host_tells_ends_and_gaps_and_keeps_what_it_cannot_read() {
    let daemon = Daemon::start().await;
    daemon.machine(N1, "n1", &[]).await;
    let global = format!("{FILE}[X-Fleet]\nGlobal=true\n");
    let mut lines = Lines::open(&daemon, &format!("?name=g.service&host={N1}")).await;
    assert_eq!(lines.short().await, "synced");
    daemon.apply(json!([{ "name": "g.service", "text": global, "desired": "launched" }])).await;
    assert_eq!(lines.next().await.unwrap()["unit"]["global"], true);
    daemon.order("g.service", N1, Target::Launched, 9).await;
    assert_eq!(lines.next().await.unwrap()["unit"]["hosts"][0]["target"], "launched");
    daemon.order("g.service", N2, Target::Launched, 9).await;
    daemon.report("g.service", N1, Target::Launched, "active", 9).await;
    let active = lines.next().await.unwrap();
    let length = |what: &str| active["unit"][what].as_array().unwrap().len();
    assert_eq!((length("states"), length("hosts")), (1, 1), "{active}");

    daemon.write_raw(&format!("state/{N1}/g.service"), b"{").await;
    daemon.store.compact();
    assert_eq!(lines.short().await, "synced", "nothing has changed that can be read");
    daemon.apply(json!([{ "name": "g.service", "destroy": true }])).await;
    assert_eq!(lines.short().await, "leaving g.service");
    daemon.write(Op::Delete(format!("schedule/{N2}/g.service"))).await;
    daemon.write(Op::Delete(format!("schedule/{N1}/g.service"))).await;
    assert_eq!(lines.short().await, "removed g.service");
}

#[tokio::test]
async fn one_host_is_asked_about_by_names() {
    let daemon = Daemon::start().await;
    let many: String = (0..9).map(|n| format!("&name=u{n}.service")).collect();
    for (query, error) in [
        (format!("host={N1}"), "`host` wants 1 to 8 `name`s beside it, none of them a pattern"),
        (format!("host={N1}&name=a*"), "`host` wants 1 to 8 `name`s beside it, none of them a pattern"),
        (format!("host={N1}{many}"), "`host` wants 1 to 8 `name`s beside it, none of them a pattern"),
        (format!("host={N1}&host={N2}&name=a.service"), "`host` can be given once"),
        ("colour=red".into(), "unknown query parameter `colour`; `name`, `host` and `operation` are known"),
    ] {
        let answer = daemon.get(&format!("/fleet/v2/watch?{query}")).await;
        assert_eq!((answer.status, answer.error()), (400, error.into()), "{query}");
    }
    assert_eq!(daemon.get("/fleet/v2/watch?host=n1&name=a.service").await.status, 400);
}

/// `progress` refers to the requested operation, or else to the one that leads to the desired state.
#[tokio::test]
async fn progress_is_that_of_the_operation_asked_for() {
    let daemon = Daemon::start().await;
    daemon.apply(json!([{ "name": "a.service", "text": FILE, "desired": "loaded" }])).await;
    for (query, state) in [
        ("", "waiting"),
        ("?operation=load", "waiting"),
        ("?operation=stop", "done"),
        ("?name=a.service&operation=destroy", "waiting"),
    ] {
        let mut lines = Lines::open(&daemon, query).await;
        let line = lines.next().await.unwrap();
        assert_eq!(line["unit"]["progress"]["state"], state, "{query}: {line}");
    }
    let listed = daemon.get("/fleet/v2/units").await;
    let progress = &listed.json()["units"][0]["progress"];
    assert_eq!(*progress, json!({ "state": "waiting", "why": "waiting for a host" }));
    for query in ["?operation=reload", "?operation=stop&operation=stop"] {
        assert_eq!(daemon.get(&format!("/fleet/v2/watch{query}")).await.status, 400, "{query}");
    }
}
