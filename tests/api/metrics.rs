//! `/metrics`, in the format that Prometheus reads.

use std::time::Duration;

use serde_json::json;

use crate::harness::{Daemon, FILE};

async fn value(daemon: &Daemon, series: &str) -> f64 {
    let answer = daemon.get("/metrics").await;
    assert_eq!(answer.headers["content-type"], "application/openmetrics-text; version=1.0.0; charset=utf-8");
    assert!(answer.text.ends_with("# EOF\n"));
    let line = answer.text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map_or(0.0, |value| value.parse().unwrap())
}

#[tokio::test]
async fn requests_are_counted_by_route_and_status() {
    let daemon = Daemon::start().await;
    daemon.apply(json!([{ "name": "a.service", "text": FILE }])).await;
    for path in [
        "/fleet/v1/units/a.service",
        "/fleet/v1/units/b.service",
        "/fleet/v1/units/c.service",
        "/nowhere/1",
        "/nowhere/2",
    ] {
        daemon.get(path).await;
    }
    daemon.call("FROBNICATE", "/fleet/v1/units", &[], b"").await;
    daemon.call("PUT", "/fleet/v1/units/a.service", &[], b"").await;
    for (route, method, status, count) in [
        ("/fleet/v1/units/{name}", "GET", 200, 1.0),
        ("/fleet/v1/units/{name}", "GET", 404, 2.0),
        ("/fleet/v1/units/{name}", "PUT", 415, 1.0),
        ("/fleet/v2/units", "POST", 200, 1.0),
        // No request adds a series.
        ("other", "GET", 404, 2.0),
        ("/fleet/v1/units", "other", 405, 1.0),
    ] {
        let series = format!("fleet_api_requests_total{{route=\"{route}\",method=\"{method}\",status=\"{status}\"}}");
        assert_eq!(value(&daemon, &series).await, count, "{series}");
    }
    assert_eq!(value(&daemon, "fleet_api_request_duration_seconds_count{route=\"other\"}").await, 2.0);
}

#[tokio::test]
async fn open_watches_are_counted_until_they_end() {
    let daemon = Daemon::start().await;
    let watch = daemon.open("GET", "/fleet/v2/watch", &[], b"").await;
    assert_eq!(watch.status().as_u16(), 200);
    assert_eq!(value(&daemon, "fleet_api_watches").await, 1.0);
    drop(watch);
    let gone = async {
        while value(&daemon, "fleet_api_watches").await > 0.0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), gone).await.expect("a watch whose client is gone ends");
}
