//! Which reports the API shows: those that are bound to the lease of their host's key, on every route.

use std::time::Duration;

use flotilla::model::unit::Target;
use flotilla::store::{LeaseId, Op, Store as _};
use serde_json::json;

use crate::description;
use crate::harness::{Daemon, FILE, N1, N2};
use crate::watch::Lines;

/// In the report that is looked for.
const MARK: &str = "marked";

/// What fleet's API shows of it in the list of units.
const LAUNCHED: &str = r#""currentState":"launched""#;

/// The keys of a report of `unit` by N1: as it is written now, and as the first format spelled it.
fn keys(unit: &str) -> [String; 2] {
    [format!("state/{N1}/{unit}"), format!("state/{unit}/{N1}")]
}

fn put(key: &str, value: &str, lease: LeaseId) -> Op {
    Op::Put { key: key.into(), value: value.into(), lease: Some(lease) }
}

/// Two hosts, n1 under the first of the two leases. `a.service` is placed on it, `g.service` is global, and
/// `left.service` was destroyed.
async fn cluster() -> (Daemon, [LeaseId; 2]) {
    let daemon = Daemon::start().await;
    let grant = async || daemon.store.grant(Duration::from_secs(600)).await.unwrap();
    let leases = [grant().await, grant().await];
    daemon.machine(N2, "n2", &[]).await;
    let machine = json!({ "id": N1, "ip": "10.88.0.1", "hostname": "n1", "metadata": {}, "version": "1" }).to_string();
    daemon.write(put(&format!("machine/{N1}"), &machine, leases[0])).await;
    let global = format!("{FILE}[X-Fleet]\nGlobal=true\n");
    daemon
        .apply(json!([
            { "name": "a.service", "text": FILE, "desired": "launched" },
            { "name": "g.service", "text": global, "desired": "launched" },
        ]))
        .await;
    daemon.place("a.service", N1, Target::Launched).await;
    daemon.order("g.service", N1, Target::Launched, 1).await;
    (daemon, leases)
}

/// Report all units for n1, under the form of key with this index.
async fn report(daemon: &Daemon, form: usize, lease: LeaseId) {
    for (unit, target) in [("a.service", "launched"), ("g.service", "launched"), ("left.service", "gone")] {
        let report = json!({
            "generation": 9000, "target": target, "hash": "0", "since": 5,
            "load": "loaded", "active": "failed", "sub": MARK, "error": MARK, "status": MARK,
        });
        daemon.write(put(&keys(unit)[form], &report.to_string(), lease)).await;
    }
}

/// The paths of all operations that read, and more for those that read reports in several ways.
fn paths() -> Vec<String> {
    let reads = description::operations().filter(|(path, method)| method == "GET" && !path.contains("/watch"));
    let of_units = |path: &str| ["a.service", "g.service"].map(|unit| path.replace("{name}", unit));
    let also = ["/fleet/v1/state?unitName={name}", "/fleet/v2/units?name={name}", "/fleet/v2/units?name=*e"];
    let mut paths: Vec<String> = reads.map(|(path, _)| path).chain(also).flat_map(of_units).collect();
    paths.sort_unstable();
    paths.dedup();
    paths
}

/// Whether the answer to this path is made from reports. For fleet's API a global unit has no state of its own.
fn shows_reports(path: &str) -> bool {
    let other = path == "/fleet/v1/units/g.service" || path.ends_with("/history");
    !other && ["/units", "/state", "/v2/status"].iter().any(|part| path.contains(part))
}

/// Watches of all units, of one on a host at a time, of a global one, of a pattern, and on one host.
fn watches() -> impl Iterator<Item = String> {
    let on_host = format!("?name=a.service&host={N1}&operation=restart");
    ["", "?name=a.service", "?name=g.service", "?name=*e"].map(str::to_owned).into_iter().chain([on_host])
}

/// The paths of `daemon` whose answer shows a marked report, and the watches that do.
async fn shown(daemon: &Daemon) -> Vec<String> {
    let mut shown = Vec::new();
    for path in paths() {
        let text = daemon.get(&path).await.text;
        if text.contains(MARK) || text.contains(LAUNCHED) {
            shown.push(path);
        }
    }
    for query in watches() {
        let mut lines = Lines::open(daemon, &query).await;
        while let Some(line) = lines.next().await.filter(|line| line.get("synced").is_none()) {
            if line.to_string().contains(MARK) {
                shown.push(format!("watch{query}"));
            }
        }
    }
    shown.dedup();
    shown
}

#[tokio::test]
async fn a_report_under_another_lease_is_shown_by_no_route() {
    for form in [0, 1] {
        let (daemon, [own, other]) = cluster().await;
        report(&daemon, form, other).await;
        assert_eq!(shown(&daemon).await, Vec::<String>::new(), "form {form}, another lease");
        let destroyed = daemon.delete("/fleet/v1/units/left.service").await;
        assert_eq!(destroyed.status, 404, "no host has it: {}", destroyed.text);

        report(&daemon, form, own).await;
        let shown = shown(&daemon).await;
        let expected = paths().into_iter().filter(|path| shows_reports(path));
        let expected: Vec<String> = expected.chain(watches().map(|query| format!("watch{query}"))).collect();
        assert_eq!(shown, expected, "form {form}, its own lease");
    }
}
