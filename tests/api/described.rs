//! Compares the API with its description, `docs/openapi.json`. The harness validates each answer in all of these
//! tests.

use std::collections::BTreeSet;

use flotilla::api::server::health::{Health, Remedy};
use flotilla::model::unit::Target;
use serde_json::json;

use crate::description::{self, DOCUMENT};
use crate::harness::{Daemon, FILE, N1, N2};

/// A path of a pattern.
fn path(pattern: &str) -> String {
    // Only a host that is gone can be forgotten.
    let host = if pattern.ends_with("{id}") { N2 } else { N1 };
    pattern.replace("{name}", "a.service").replace("{instance}", "a-1").replace("{id}", host)
}

#[tokio::test]
async fn every_operation_answers_as_described_and_no_other_does() {
    let daemon = Daemon::start().await;
    daemon.machine(N1, "n1", &[("zone", "a")]).await;
    let global = format!("{FILE}[X-Fleet]\nGlobal=true\n");
    // For what moves.
    daemon.machine("3ec325e8bf0d4d5a9c6a7b8c9d0e1f2c", "n3", &[]).await;
    daemon.place("a.service", N1, Target::Launched).await;
    daemon.order("g.service", N1, Target::Launched, 1).await;
    daemon.report("a.service", N1, Target::Launched, "active", 9).await;
    let described: BTreeSet<(&str, String)> = description::operations().collect();
    let mut patterns: Vec<&str> = described.iter().map(|(pattern, _)| *pattern).collect();
    patterns.dedup();
    for pattern in patterns {
        // Another operation may have destroyed it.
        let units = json!([
            { "name": "a.service", "text": FILE, "desired": "launched" },
            { "name": "g.service", "text": global },
        ]);
        daemon.apply(units).await;
        let instance = "/fleet/v2/services/a.service/a-1";
        daemon.delete(instance).await;
        daemon.write_raw(&format!("roster/{N2}"), br#"{"hostname":"n2"}"#).await;
        let rollout = br#"{"target":"b","from":{"hash":"a"},"phase":"waiting","since":1,"began":1}"#;
        daemon.write_raw("rollout/a.service", rollout).await;
        let waits = |id: &str| json!({ "host": id, "boot": "b" });
        let reboots = json!({ "queue": [waits(N1), waits(N2)] });
        daemon.write_raw("reboot/default", reboots.to_string().as_bytes()).await;
        // Drained no longer, if it is asked what comes back.
        let is_restored = pattern.ends_with("/restore");
        let drained: &[u8] =
            if is_restored { br#"{"restore":{"generation":2,"drain":1}}"# } else { br#"{"drain":{"generation":1}}"# };
        daemon.write_raw(&format!("host/{N1}"), drained).await;
        daemon.write_raw(&format!("host/{N2}"), drained).await;
        let mut lease = json!(null);
        if pattern.contains("/services") && !pattern.ends_with("{instance}") {
            lease = daemon.send("PUT", instance, &json!({ "address": "10.88.0.1", "port": 80 })).await.json();
        }
        let mut allowed = BTreeSet::new();
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
            if pattern.starts_with("/fleet/v2/watch") && method == "GET" {
                allowed.extend([method.to_owned(), "HEAD".into()]);
                continue;
            }
            // The example of each body has an effect.
            let body = &DOCUMENT["paths"][pattern][method.to_lowercase()]["requestBody"];
            let mut example = body["content"]["application/json"]["example"].clone();
            if pattern.ends_with("/keep-alive") && method == "POST" {
                example["lease"] = lease["lease"].clone();
            }
            let answer = daemon.send(method, &path(pattern), &example).await;
            if described.contains(&(pattern, method.to_owned())) {
                assert!((200..300).contains(&answer.status), "{method} {pattern}: {}", answer.text);
                allowed.insert(method.to_owned());
                if method == "GET" {
                    allowed.insert("HEAD".into());
                    let head = daemon.call("HEAD", &path(pattern), &[], b"").await;
                    assert_eq!((head.status, &*head.text), (200, ""), "HEAD {pattern}");
                    assert_eq!(head.headers.get("content-type"), answer.headers.get("content-type"), "HEAD {pattern}");
                    // Requests that are counted meanwhile make the next answer longer.
                    if pattern != "/metrics" {
                        assert_eq!(head.headers["content-length"], answer.text.len().to_string(), "HEAD {pattern}");
                    }
                }
            }
        }
        if pattern == "/discovery" {
            continue;
        }
        let refused = daemon.call("OPTIONS", &path(pattern), &[], b"").await;
        let allow: BTreeSet<String> =
            refused.headers["allow"].to_str().unwrap().split(',').map(|method| method.trim().to_owned()).collect();
        assert_eq!((refused.status, allow), (405, allowed), "{pattern}");
    }
}

#[tokio::test]
async fn the_description_is_served_and_so_is_fleets() {
    let daemon = Daemon::start().await;
    let served = daemon.get("/fleet/openapi.json").await;
    assert_eq!(served.json(), *DOCUMENT);
    let discovery = daemon.get("/discovery").await.json();
    assert_eq!(
        (&discovery["kind"], &discovery["rootUrl"], &discovery["servicePath"]),
        (&json!("discovery#restDescription"), &json!("$ENDPOINT/"), &json!("fleet/v1/"))
    );
    for method in ["POST", "PUT", "DELETE"] {
        let refused = daemon.call(method, "/discovery", &[], b"").await;
        assert_eq!((refused.status, &*refused.error()), (400, "only HTTP GET supported against this resource"));
    }
    assert_eq!(daemon.get("/fleet/v1/discovery").await.status, 404);
}

#[tokio::test]
async fn what_asks_the_cluster_nothing_is_answered_before_it_can_be_asked() {
    let daemon = Daemon::start().await;
    let waiting = |remedy| Health::Waiting { what: "isn't registered".into(), since: 0, remedy };
    for (remedy, last) in [
        (Remedy::Store, "Try again when the store is back"),
        (Remedy::Time, "Try again in a moment"),
        (Remedy::Systemd, "Try again when systemd on that host answers"),
        (Remedy::Person, "Until that is mended, ask the fleetd of another host"),
    ] {
        daemon.health.send_replace(waiting(remedy));
        for path in ["/discovery", "/fleet/v1/units", "/fleet/v2/units", "/"] {
            let answer = daemon.get(path).await;
            assert_eq!(answer.status, 503);
            assert!(answer.error().ends_with(&format!("nothing was changed. {last}")), "{}", answer.error());
        }
    }
    assert_eq!(daemon.get("/metrics").await.status, 200);
    assert_eq!(daemon.get("/fleet/openapi.json").await.status, 200);
}

/// The schemas reject invalid values.
#[test]
fn the_check_sees_what_is_wrong() {
    let wrong = |check: fn()| assert!(std::panic::catch_unwind(check).is_err());
    description::check("UnitList", &json!({ "revision": 1, "units": [] }));
    wrong(|| description::check("UnitList", &json!({ "revision": "1", "units": [] })));
    wrong(|| description::check("UnitList", &json!({ "units": [] })));
    wrong(|| description::check("NoSuchSchema", &json!({})));
    wrong(|| description::check_answer("GET", "/fleet/v1/units", 418, Some("application/json"), "{}"));
    wrong(|| description::check_answer("GET", "/fleet/v1/units", 200, Some("text/plain"), "{}"));
    wrong(|| description::check_answer("GET", "/fleet/v3/units", 200, Some("application/json"), "{}"));
    wrong(|| description::check_answer("DELETE", "/fleet/v2/units", 204, None, ""));
}
