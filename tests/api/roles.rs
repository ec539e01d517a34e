//! What the role of a socket permits, for every operation of the API, and how a refusal reads.

use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use crate::description::{self, DOCUMENT};
use crate::harness::{Daemon, FILE, N1};

/// A body with which each role that may send it is answered, rather than refused for what is in it.
fn body(pattern: &str, method: &str) -> Value {
    match (pattern, method) {
        ("/fleet/v1/units/{name}", "PUT") => json!({ "desiredState": "launched" }),
        ("/fleet/v2/units" | "/fleet/v2/plan", "POST") => {
            json!({ "units": [{ "name": "a.service", "desired": "launched" }] })
        }
        _ => {
            let body = &DOCUMENT["paths"][pattern][method.to_lowercase()]["requestBody"];
            body["content"]["application/json"]["example"].clone()
        }
    }
}

/// Together with the test that no operation is answered but those described, this shows that no route is without a
/// role.
#[tokio::test]
async fn every_operation_is_permitted_to_the_roles_that_the_description_names_and_to_no_other() {
    let mut daemon = Daemon::start_on(&["role=announcer", "role=reader", "role=operator", "role=admin"]).await;
    daemon.machine(N1, "n1", &[]).await;
    let sockets: Vec<_> =
        ["announcer", "reader", "operator", "admin"].into_iter().zip(daemon.sockets.clone()).collect();
    let admin = daemon.sockets[3].clone();
    let mut counted = [0, 0];
    for (pattern, method) in description::operations() {
        let roles = DOCUMENT["paths"][pattern][method.to_lowercase()]["x-roles"].as_array().unwrap();
        assert!(!roles.is_empty(), "{method} {pattern} is permitted to nobody");
        let path = pattern.replace("{name}", "a.service").replace("{instance}", "a-1").replace("{id}", N1);
        for (role, socket) in &sockets {
            daemon.socket.clone_from(&admin);
            daemon.apply(json!([{ "name": "a.service", "text": FILE }])).await;
            daemon.socket.clone_from(socket);
            let json = [("content-type", "application/json")];
            let answer = daemon.open(&method, &path, &json, body(pattern, &method).to_string().as_bytes()).await;
            let (permitted, status) = (roles.iter().any(|named| named == role), answer.status());
            // An announcer is refused all the same unless it asks for its own unit.
            let refused = status == 403 && {
                let text = answer.into_body().collect().await.unwrap().to_bytes();
                String::from_utf8(text.to_vec()).unwrap().contains(" needs the role ")
            };
            assert_eq!(!refused, permitted, "{method} {pattern} for {role}: {status}");
            counted[usize::from(permitted)] += 1;
        }
    }
    assert!(counted.iter().all(|count| *count > 10), "{counted:?}");
}

#[tokio::test]
async fn a_refusal_names_the_role_that_is_missing_and_the_socket_that_has_it() {
    let mut daemon = Daemon::start_on(&["role=reader", "role=operator&name=web@*", "role=admin"]).await;
    let [reader, operator, admin] = [0, 1, 2].map(|index| daemon.sockets[index].clone());
    let [read, operate, administer] = [&reader, &operator, &admin].map(|socket| socket.display().to_string());
    daemon.socket = reader;
    let refused = daemon.delete("/fleet/v1/units/a.service").await;
    assert_eq!(
        (refused.status, refused.error()),
        (
            403,
            format!(
                "submitting and destroying units needs the role admin, and {read} has the role reader; on this host, \
                 {administer} has the role admin"
            )
        )
    );
    let refused = daemon.send("POST", "/fleet/v2/units", &json!({ "units": [] })).await;
    assert_eq!(
        refused.error(),
        format!(
            "changing units needs the role operator or admin, and {read} has the role reader; on this host, {operate} \
             has the role operator of web@* and {administer} has the role admin"
        )
    );
    let alone = Daemon::start_on(&["role=reader"]).await;
    let refused = alone.send("PATCH", "/fleet/v1/machines", &json!([])).await.error();
    assert!(refused.ends_with("; no socket of this fleetd has it (see `listen` in fleet.conf(5))"), "{refused}");
}

#[tokio::test]
async fn an_operator_changes_what_is_wanted_of_its_units_and_no_file() {
    let mut daemon = Daemon::start_on(&["role=operator&name=web@*", "role=admin"]).await;
    let [operator, admin] = [0, 1].map(|index| daemon.sockets[index].clone());
    daemon.socket = admin;
    daemon.apply(json!([{ "name": "web@.service", "text": FILE }, { "name": "db.service", "text": FILE }])).await;
    daemon.socket = operator;
    // Also an instance of a template that an admin has submitted.
    for unit in [
        json!({ "name": "web@1.service", "desired": "launched" }),
        json!({ "name": "web@1.service", "restart": true }),
        json!({ "name": "web@1.service", "desired": "inactive" }),
    ] {
        daemon.apply(json!([unit])).await;
    }
    let put = daemon.send("PUT", "/fleet/v1/units/web@1.service", &json!({ "desiredState": "loaded" })).await;
    assert_eq!(put.status, 204, "{}", put.text);
    for (unit, why) in [
        (json!({ "name": "web@2.service", "text": FILE }), "submitting and destroying units needs the role admin"),
        (json!({ "name": "web@1.service", "destroy": true }), "submitting and destroying units needs the role admin"),
        (json!({ "name": "db.service", "desired": "launched" }), "db.service: "),
        (json!({ "name": "db.service", "restart": true }), "db.service: "),
    ] {
        for query in ["", "?check=true"] {
            let batch = json!({ "units": [{ "name": "web@5.service", "desired": "launched" }, unit] });
            let refused = daemon.send("POST", &format!("/fleet/v2/units{query}"), &batch).await;
            assert_eq!(refused.status, 403, "{}", refused.text);
            assert!(refused.error().starts_with(why), "{}", refused.error());
        }
    }
    let with_file = json!({ "options": [{ "section": "Service", "name": "ExecStart", "value": "/bin/id" }] });
    assert_eq!(daemon.send("PUT", "/fleet/v1/units/web@3.service", &with_file).await.status, 403);
    let listed = daemon.get("/fleet/v2/units?name=web@*").await.json();
    let wanted: Vec<&Value> = listed["units"].as_array().unwrap().iter().map(|unit| &unit["desired"]).collect();
    assert_eq!(wanted, ["inactive", "loaded"], "nothing of a refused batch is done: {listed}");
}

/// Which unit that is, the kernel says: of this test it says none, or another one.
#[tokio::test]
async fn an_announcer_speaks_for_its_own_unit_only() {
    let mut daemon = Daemon::start_on(&["role=announcer&name=web", "role=admin"]).await;
    let [announcer, admin] = [0, 1].map(|index| daemon.sockets[index].clone());
    let announcement = json!({ "address": "10.88.0.1", "port": 80, "unit": "a.service" });
    let path = "/fleet/v2/services/web/a-1";
    daemon.socket.clone_from(&admin);
    let lease = daemon.send("PUT", path, &announcement).await.json();
    daemon.socket = announcer;
    for path in [path, "/fleet/v2/services/web/other", "/fleet/v2/services/db/a-1"] {
        assert_eq!(daemon.send("PUT", path, &announcement).await.status, 403, "{path}");
    }
    let refused = daemon.send("PUT", "/fleet/v2/services/db/a-1", &announcement).await.error();
    assert!(refused.ends_with("has the role announcer of web, which doesn't include this service"), "{refused}");
    for path in ["/fleet/v2/watch", "/fleet/v2/watch?name=a*", &format!("/fleet/v2/watch?name=a.service&host={N1}")] {
        assert_eq!(daemon.get(path).await.status, 403, "{path}");
    }
    let kept = daemon.send("POST", &format!("{path}/keep-alive"), &json!({ "lease": lease["lease"] })).await;
    assert!(matches!(kept.status, 403 | 404), "{}", kept.text);
    assert!(matches!(daemon.delete(path).await.status, 403 | 409));
    let listed = daemon.get("/fleet/v2/services").await.json();
    assert_eq!(listed["services"][0]["instances"][0]["unit"], "a.service", "{listed}");
}
