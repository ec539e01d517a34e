//! CoreOS fleet's API: status codes, messages and bodies.

use flotilla::api::server::state::Settings;
use flotilla::model::unit::Target;
use serde_json::{Value, json};

use crate::harness::{Daemon, FILE, N1, N2};

fn options(start: &str) -> Value {
    json!([{ "section": "Service", "name": "ExecStart", "value": start }])
}

#[tokio::test]
async fn an_empty_cluster_is_empty_pages() {
    let daemon = Daemon::start().await;
    for base in ["/fleet/v1", "/v1-alpha"] {
        for path in ["units", "state", "machines"] {
            let answer = daemon.get(&format!("{base}/{path}")).await;
            assert_eq!((answer.status, &*answer.text), (200, "{}"));
            assert_eq!(answer.headers["content-type"], "application/json");
        }
        assert_eq!(daemon.get(&format!("{base}/units/a.service")).await.error(), "unit does not exist");
    }
}

#[tokio::test]
async fn a_unit_is_created_shown_changed_and_deleted() {
    let daemon = Daemon::start().await;
    let unit = json!({ "name": "a.service", "desiredState": "launched", "options": options("/bin/a") });
    let created = daemon.send("PUT", "/fleet/v1/units/a.service", &unit).await;
    assert_eq!((created.status, &*created.text), (201, ""));
    let shown = concat!(
        r#"{"currentState":"inactive","desiredState":"launched","name":"a.service","#,
        r#""options":[{"name":"ExecStart","section":"Service","value":"/bin/a"}]}"#
    );
    assert_eq!(daemon.get("/fleet/v1/units/a.service").await.text, shown);
    assert_eq!(daemon.get("/fleet/v1/units").await.text, format!("{{\"units\":[{shown}]}}"));

    // Neither the same request again nor a desired state that is set already writes anything.
    let before = daemon.store.commits();
    assert_eq!(daemon.send("PUT", "/fleet/v1/units/a.service", &unit).await.status, 204);
    let same = json!({ "desiredState": "launched" });
    assert_eq!(daemon.send("PUT", "/fleet/v1/units/a.service", &same).await.status, 204);
    assert_eq!(daemon.store.commits(), before);

    let loaded = json!({ "desiredState": "loaded" });
    assert_eq!(daemon.send("PUT", "/fleet/v1/units/a.service", &loaded).await.status, 204);
    assert_eq!(daemon.get("/fleet/v1/units/a.service").await.json()["desiredState"], "loaded");

    // Other options replace it, and the desired state becomes inactive.
    let other = json!({ "name": "a.service", "options": options("/bin/b") });
    assert_eq!(daemon.send("PUT", "/fleet/v1/units/a.service", &other).await.status, 201);
    let now = daemon.get("/fleet/v1/units/a.service").await.json();
    assert_eq!(
        (&now["desiredState"], &now["options"]),
        (&json!("inactive"), &json!([{ "name": "ExecStart", "section": "Service", "value": "/bin/b" }]))
    );

    assert_eq!(daemon.delete("/fleet/v1/units/a.service").await.status, 204);
    let gone = daemon.delete("/fleet/v1/units/a.service").await;
    assert_eq!((gone.status, gone.error()), (404, "unit does not exist".into()));
}

#[tokio::test]
async fn what_is_wrong_with_a_put_is_said_in_fleets_words() {
    let daemon = Daemon::start().await;
    let put = |path: &'static str, body: Value| {
        let daemon = &daemon;
        async move {
            let answer = daemon.send("PUT", &format!("/fleet/v1/units/{path}"), &body).await;
            (answer.status, answer.error())
        }
    };
    let says = |status: u16, message: &str| (status, message.to_owned());
    let missing = says(409, "unit does not exist and options field empty");
    assert_eq!(put("a.service", json!({ "desiredState": "launched" })).await, missing);
    assert_eq!(put("a.service", json!({ "desiredState": "launched", "options": [], "name": null })).await, missing);
    let differs = r#"name in URL "a.service" differs from unit name in request body "b.service""#;
    assert_eq!(put("a.service", json!({ "name": "b.service" })).await, says(400, differs));
    assert_eq!(put("a%20b.service", json!({})).await, says(400, "invalid character ' ' in unit name"));
    assert_eq!(put("@.service", json!({})).await, says(400, "unit name cannot start in \"@\""));
    let (status, message) = put("a.service", json!({ "desiredState": "foo", "options": options("/a") })).await;
    assert_eq!((status, message.contains("`foo` is no desired state")), (400, true));
    let fleet = |options: &[(&str, &str)]| -> Value {
        options.iter().map(|(name, value)| json!({ "section": "X-Fleet", "name": name, "value": value })).collect()
    };
    for (options, message) in [
        (fleet(&[("MachineID", N1), ("Conflicts", "x*")]), "MachineID cannot be used with Conflicts"),
        (fleet(&[("Global", "true"), ("MachineOf", "b.service")]), "Global cannot be used with Peers"),
        (
            fleet(&[("MachineMetdata", "a=b")]),
            "unknown option `MachineMetdata` in [X-Fleet]; did you mean `MachineMetadata`?",
        ),
        (fleet(&[("MachineOf", "a.service")]), "`MachineOf` names a.service itself: it must name other units"),
    ] {
        assert_eq!(put("a.service", json!({ "options": options })).await, says(400, message));
    }
    let own = "the name belongs to one of systemd's own units (see systemd.special(7)): choose another";
    assert_eq!(put("multi-user.target", json!({ "options": options("/a") })).await, says(400, own));
    let smuggled = json!({ "options": [{ "section": "Service", "name": "A", "value": "b\nExecStart=/evil" }] });
    assert_eq!(put("a.service", smuggled).await.0, 400);

    let template = json!({ "options": options("/a"), "desiredState": "launched" });
    let refused = says(400, "cannot activate template \"x@.service\"");
    assert_eq!(put("x@.service", template).await, refused);
    assert_eq!(
        daemon.send("PUT", "/fleet/v1/units/x@.service", &json!({ "options": options("/a") })).await.status,
        201
    );
    assert_eq!(put("x@.service", json!({ "desiredState": "loaded" })).await, refused);
    let needs = says(409, "must provide DesiredState to update existing unit");
    assert_eq!(put("x@.service", json!({})).await, needs);
    assert_eq!(put("x@.service", json!({ "options": options("/a") })).await, needs);
    // Only v2 makes instances from templates.
    assert_eq!(put("x@1.service", json!({ "desiredState": "loaded" })).await, missing);
    assert_eq!(daemon.get("/fleet/v1/units").await.json()["units"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_put_must_be_json() {
    let daemon = Daemon::start().await;
    let put = |headers: &'static [(&'static str, &'static str)], body: &'static [u8]| {
        let daemon = &daemon;
        async move {
            let answer = daemon.call("PUT", "/fleet/v1/units/a.service", headers, body).await;
            (answer.status, answer.error())
        }
    };
    assert_eq!(put(&[], b"{}").await, (415, "expected 1 Content-Type, got 0".into()));
    let two = &[("content-type", "application/json"), ("content-type", "application/json")];
    assert_eq!(put(two, b"{}").await, (415, "expected 1 Content-Type, got 2".into()));
    let text = put(&[("content-type", "text/plain")], b"{}").await;
    assert_eq!(text, (415, "only acceptable Content-Type is application/json".into()));
    const JSON: &[(&str, &str)] = &[("content-type", "application/json; charset=utf-8")];
    for body in [&b"{"[..], b"[]", b"\xff\xfe", b"", b"{\"options\":7}"] {
        let (status, message) = put(JSON, body).await;
        assert_eq!((status, message.starts_with("unable to decode body: ")), (400, true), "{message}");
    }
}

#[tokio::test]
async fn where_a_unit_is_and_what_hosts_say() {
    let daemon = Daemon::start().await;
    daemon.machine(N1, "n1", &[]).await;
    daemon.machine(N2, "n2", &[]).await;
    let units = json!([
        { "name": "a.service", "text": FILE, "desired": "launched" },
        { "name": "b.service", "text": FILE },
    ]);
    daemon.apply(units).await;
    let current = || async {
        let unit = daemon.get("/fleet/v1/units/a.service").await.json();
        (unit["currentState"].as_str().unwrap().to_owned(), unit["machineID"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(current().await, ("inactive".into(), String::new()));
    daemon.place("a.service", N1, Target::Launched).await;
    assert_eq!(current().await, ("inactive".into(), N1.into()));
    daemon.report("a.service", N1, Target::Launched, "active", 1).await;
    assert_eq!(current().await, ("launched".into(), N1.into()));
    daemon.report("a.service", N2, Target::Launched, "failed", 1).await;
    daemon.report("b.service", N2, Target::Loaded, "inactive", 1).await;

    let first = concat!(
        r#"{"hash":"abc","machineID":"3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a","name":"a.service","#,
        r#""systemdActiveState":"active","systemdLoadState":"loaded","systemdSubState":"running"}"#
    );
    assert_eq!(daemon.get("/fleet/v1/state/a.service").await.text, first);
    let states = |query: &'static str| {
        let daemon = &daemon;
        async move {
            let json = daemon.get(&format!("/fleet/v1/state{query}")).await.json();
            let short = |state: &Value| {
                let text = |key: &str| state[key].as_str().unwrap().to_owned();
                format!("{} {} {}", text("name"), &text("machineID")[..2], text("systemdActiveState"))
            };
            json["states"].as_array().map(|states| states.iter().map(short).collect::<Vec<_>>()).unwrap_or_default()
        }
    };
    assert_eq!(states("").await, ["a.service 3e active", "a.service 84 failed", "b.service 84 inactive"]);
    assert_eq!(states("?unitName=a.service").await.len(), 2);
    assert_eq!(states("?machineID=844a981f0a1b4c2d8e3f4a5b6c7d8e9f").await.len(), 2);
    assert_eq!(states("?unitName=b.service&machineID=3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a").await.len(), 0);
    assert_eq!(states("?unitName=no+name").await.len(), 0);
    // A host that has stopped and removed it reports nothing.
    daemon.report("a.service", N1, Target::Removed, "inactive", 2).await;
    daemon.report("a.service", N2, Target::Removed, "inactive", 2).await;
    assert_eq!(states("").await, ["b.service 84 inactive"]);
    assert_eq!(current().await.0, "inactive");
    for path in ["a.service", "unknown.service", "no%20name"] {
        let answer = daemon.get(&format!("/fleet/v1/state/{path}")).await;
        assert_eq!((answer.status, answer.error()), (404, "unit does not exist".into()));
    }
}

#[tokio::test]
async fn pages_go_on_where_they_were_and_none_is_empty() {
    let daemon = Daemon::start_with(Settings { page_limit: 2, ..Settings::default() }).await;
    let units: Vec<Value> = (1..=4).map(|n| json!({ "name": format!("u{n}.service"), "text": FILE })).collect();
    daemon.apply(json!(units)).await;
    let names = |json: &Value| -> Vec<String> {
        json["units"].as_array().unwrap().iter().map(|unit| unit["name"].as_str().unwrap().into()).collect()
    };
    let first = daemon.get("/fleet/v1/units").await.json();
    assert_eq!(
        (names(&first), &first["nextPageToken"]),
        (vec!["u1.service".into(), "u2.service".into()], &json!("AgACAA=="))
    );
    let second = daemon.get("/fleet/v1/units?nextPageToken=AgACAA%3D%3D").await.json();
    assert_eq!((names(&second), second.get("nextPageToken")), (vec!["u3.service".into(), "u4.service".into()], None));
    // A unit that is added between two pages doesn't invalidate the second token.
    daemon.apply(json!([{ "name": "u0.service", "text": FILE }])).await;
    let second = daemon.get("/fleet/v1/units?nextPageToken=AgACAA==").await.json();
    assert_eq!(
        (names(&second), &second["nextPageToken"]),
        (vec!["u2.service".into(), "u3.service".into()], &json!("AgADAA=="))
    );
    // If units are deleted, a page may be empty.
    let units = json!([
        { "name": "u0.service", "destroy": true },
        { "name": "u1.service", "destroy": true },
        { "name": "u2.service", "destroy": true },
    ]);
    daemon.apply(units).await;
    assert_eq!(daemon.get("/fleet/v1/units?nextPageToken=AgADAA==").await.text, "{}");
    for (query, message) in [
        ("nextPageToken=AwACAA==", "token limit must be 2"),
        ("nextPageToken=AgAAAA==", "token page must be greater than zero"),
        ("nextPageToken=AgACAA==&nextPageToken=AgACAA==", "too many values for page token"),
    ] {
        for list in ["units", "state", "machines"] {
            let answer = daemon.get(&format!("/fleet/v1/{list}?{query}")).await;
            assert_eq!((answer.status, answer.error()), (400, message.into()));
        }
    }
    assert_eq!(daemon.get("/fleet/v1/units?nextPageToken=foo").await.status, 400);
}

#[tokio::test]
async fn machines_and_their_metadata() {
    let daemon = Daemon::start().await;
    daemon.machine(N2, "n2", &[("zone", "a"), ("disk", "ssd")]).await;
    daemon.machine(N1, "n1", &[]).await;
    let patch = |body: Value| {
        let daemon = &daemon;
        async move { daemon.send("PATCH", "/fleet/v1/machines", &body).await }
    };
    let path = |key: &str| format!("/{N2}/metadata/{key}");
    let done = patch(json!([
        { "op": "add", "path": path("rack"), "value": "r1" },
        { "op": "replace", "path": path("zone"), "value": { "value": "b" } },
        { "op": "remove", "path": path("disk") },
    ]))
    .await;
    assert_eq!((done.status, &*done.text), (204, ""));
    let machines = daemon.get("/fleet/v1/machines").await.text;
    let first = format!(r#"{{"id":"{N1}","primaryIP":"10.88.0.1"}}"#);
    let metadata = r#"{"rack":"r1","zone":"b"}"#;
    let second = format!(r#"{{"id":"{N2}","metadata":{metadata},"primaryIP":"10.88.0.2"}}"#);
    assert_eq!(machines, format!(r#"{{"machines":[{first},{second}]}}"#));
    let builtin = "`@arch` can't be set: each host reports what begins with @ by itself";
    let (op, metadata, value) = (
        "invalid op: expect add, remove, or replace",
        "machine metadata path invalid",
        "invalid value: add and replace require a value",
    );
    for (change, message) in [
        (json!({ "op": "move", "path": path("a"), "value": "b" }), op),
        (json!({ "op": "add", "path": path("a b"), "value": "b" }), metadata),
        (json!({ "op": "add", "path": path(""), "value": "b" }), metadata),
        (json!({ "op": "add", "path": "/n1/metadata/a", "value": "b" }), metadata),
        (json!({ "op": "add", "path": path("@arch"), "value": "b" }), builtin),
        (json!({ "op": "remove", "path": path("@arch") }), builtin),
        (json!({ "op": "add", "path": format!("/{N1}/metadata/a/b"), "value": "b" }), metadata),
        (json!({ "op": "add", "path": path("a") }), value),
        (json!({ "op": "replace", "path": path("a"), "value": { "value": "" } }), value),
    ] {
        // If one change is invalid, none is made.
        let refused = patch(json!([{ "op": "add", "path": path("good"), "value": "x" }, change])).await;
        assert_eq!((refused.status, refused.error()), (400, message.into()));
    }
    assert_eq!(patch(json!({ "op": "add" })).await.status, 400);
    // Changes that exceed one commit aren't made in several.
    let add = |n: usize| json!({ "op": "add", "path": path(&format!("k{n}")), "value": "x" });
    let large = json!([{ "op": "add", "path": path("large"), "value": "x".repeat(1024 * 1024) }]);
    for many in [json!((0..129).map(add).collect::<Vec<_>>()), large] {
        let refused = patch(many).await;
        assert_eq!(refused.status, 413);
        let told = "at most 128 values and 1 MiB can be changed at once, all or none; nothing was changed.";
        assert!(refused.error().starts_with(told), "{}", refused.text);
    }
    assert_eq!(patch(json!([])).await.status, 204);
    assert_eq!(daemon.get("/fleet/v1/machines").await.text, machines);
    assert_eq!(patch(json!((0..128).map(add).collect::<Vec<_>>())).await.status, 204);
}

#[tokio::test]
async fn paths_and_methods() {
    let daemon = Daemon::start().await;
    for path in [
        "/fleet/v1/units/",
        "/fleet/v1/units/a.service/b",
        "/fleet",
        "/x",
        "/fleet/v1/machines/",
        "/fleet/v1/discovery",
        "/fleet/v3",
    ] {
        let answer = daemon.get(path).await;
        assert_eq!((answer.status, answer.error().is_empty()), (404, false), "{path}");
    }
    for (method, path, message) in [
        ("GET", "/", ""),
        ("GET", "/fleet/v1", ""),
        ("POST", "/v1-alpha", ""),
        ("POST", "/fleet/v1/units", "only GET supported against this resource"),
        ("POST", "/fleet/v1/units/a.service", "only GET, PUT and DELETE supported against this resource"),
        ("DELETE", "/fleet/v1/state", "only GET supported against this resource"),
        ("PUT", "/fleet/v1/state/a.service", "only GET supported against this resource"),
        ("PUT", "/fleet/v1/machines", "only GET and PATCH supported against this resource"),
        ("DELETE", "/fleet/v2/units", "only GET and POST supported against this resource"),
    ] {
        let answer = daemon.call(method, path, &[], b"").await;
        assert_eq!((answer.status, &*answer.error()), (405, message), "{method} {path}");
    }
    let head = daemon.call("HEAD", "/fleet/v1/units", &[], b"").await;
    assert_eq!((head.status, &*head.text), (200, ""));
    assert_eq!(head.headers["server"], concat!("fleetd/", env!("CARGO_PKG_VERSION")));
}

#[tokio::test]
async fn metadata_of_a_host_that_is_away_waits_for_it_and_survives_it() {
    let daemon = Daemon::start().await;
    let patch = json!([
        { "op": "add", "path": format!("/{N1}/metadata/disk"), "value": "ssd" },
        { "op": "remove", "path": format!("/{N1}/metadata/zone") },
        { "op": "add", "path": format!("/{N1}/metadata/rack"), "value": "r1" },
        { "op": "add", "path": format!("/{N1}/metadata/rack"), "value": "r2" },
    ]);
    // Without a Content-Type: fleet's clients send none.
    let done = daemon.call("PATCH", "/fleet/v1/machines", &[], patch.to_string().as_bytes()).await;
    assert_eq!((done.status, &*done.text), (204, ""));
    assert_eq!(daemon.get("/fleet/v1/machines").await.text, "{}");
    for _ in 0..2 {
        daemon.machine(N1, "n1", &[("zone", "a"), ("disk", "hdd")]).await;
        let machines = daemon.get("/fleet/v1/machines").await.json();
        assert_eq!(machines["machines"][0]["metadata"], json!({ "disk": "ssd", "rack": "r2" }));
        daemon.write(flotilla::registry::delete(&flotilla::registry::keys::Key::Machine(N1.parse().unwrap()))).await;
        assert_eq!(daemon.get("/fleet/v1/machines").await.text, "{}");
    }
}

/// The only limit on data about hosts that never existed.
#[tokio::test]
async fn metadata_are_bounded_by_host_and_by_hosts_that_are_away_and_can_be_deleted() {
    let daemon = Daemon::start().await;
    daemon.machine(N1, "n1", &[("zone", "a")]).await;
    let add = |id: &str, key: &str, value: String| {
        let path = format!("/{id}/metadata/{key}");
        json!([{ "op": "add", "path": path, "value": value }])
    };
    let patch = async |body: Value| daemon.send("PATCH", "/fleet/v1/machines", &body).await;
    let forget = async |id: &str| daemon.delete(&format!("/fleet/v2/machines/{id}/metadata")).await.status;

    // One host: 64 KiB. Existing values can be replaced by smaller ones.
    assert_eq!(patch(add(N1, "note", "x".repeat(60_000))).await.status, 204);
    let refused = patch(add(N1, "more", "x".repeat(6_000))).await;
    assert_eq!(refused.status, 400);
    assert!(refused.error().ends_with("bytes long, at most 65536 are possible"), "{}", refused.text);
    assert_eq!(patch(add(N1, "note", "y".repeat(50_000))).await.status, 204);
    assert_eq!(patch(add(N1, "zone", "b".into())).await.status, 204);

    // Hosts that aren't registered: 256; hosts that have metadata can get more.
    let host = |n: usize| format!("{n:032x}");
    for n in 1..=256 {
        assert_eq!(patch(add(&host(n), "a", "b".into())).await.status, 204, "{n}");
    }
    let refused = patch(add(&host(257), "a", "b".into())).await;
    assert_eq!(refused.status, 400);
    assert!(refused.error().starts_with("257 hosts that aren't registered would have metadata"), "{}", refused.text);
    assert_eq!(patch(add(&host(256), "a", "c".into())).await.status, 204);
    assert_eq!(patch(add(N1, "a", "b".into())).await.status, 204);

    assert_eq!((forget(&host(7)).await, forget(&host(7)).await, forget("n7").await), (204, 404, 404));
    assert_eq!(patch(add(&host(257), "a", "b".into())).await.status, 204);
    // The host's own value applies again.
    assert_eq!(forget(N1).await, 204);
    let machines = daemon.get("/fleet/v1/machines").await.json();
    assert_eq!(machines["machines"], json!([{ "id": N1, "metadata": { "zone": "a" }, "primaryIP": "10.88.0.1" }]));
}

/// Every page of a list, by its tokens.
async fn pages(daemon: &Daemon, list: &str) -> Vec<Vec<Value>> {
    let (mut pages, mut query) = (Vec::new(), String::new());
    loop {
        let mut page = daemon.get(&format!("/fleet/v1/{list}{query}")).await.json();
        let Value::Array(entries) = page[list].take() else { panic!("{page}") };
        pages.push(entries);
        let Some(token) = page["nextPageToken"].as_str() else { return pages };
        query = format!("?nextPageToken={token}");
    }
}

#[tokio::test]
async fn a_page_says_what_the_unit_says_whatever_its_neighbours_are_called() {
    let daemon = Daemon::start_with(Settings { page_limit: 40, ..Settings::default() }).await;
    daemon.machine(N1, "n1", &[]).await;
    // Names that are prefixes of others: their reports are not in the order of the names.
    let mut names: Vec<String> = (0..100).map(|n| format!("u{n:03}.service")).collect();
    names.extend(
        ["u050.service.service", "u050.service.socket", "u050.service@1.service", "u050-x.service"].map(Into::into),
    );
    names.sort();
    let units: Vec<Value> =
        names.iter().map(|name| json!({ "name": name, "text": FILE, "desired": "launched" })).collect();
    daemon.apply(json!(units)).await;
    for (n, name) in names.iter().enumerate() {
        if n % 3 > 0 {
            daemon.place(name, N1, Target::Launched).await;
            // A report of another host, which is ignored.
            daemon.report(name, N2, Target::Loaded, "inactive", 1).await;
        }
        if n % 3 == 2 {
            daemon.report(name, N1, Target::Launched, "active", 1).await;
        }
    }
    daemon.write_raw("unit/u010.service", b"{").await;
    daemon.write_raw("unit/no name", b"{").await;
    names.retain(|name| name != "u010.service");
    let pages = pages(&daemon, "units").await;
    assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [40, 40, 23]);
    let units: Vec<Value> = pages.into_iter().flatten().collect();
    assert_eq!(units.iter().map(|unit| unit["name"].as_str().unwrap()).collect::<Vec<_>>(), names);
    for unit in units {
        let alone = daemon.get(&format!("/fleet/v1/units/{}", unit["name"].as_str().unwrap())).await.json();
        assert_eq!(unit, alone);
    }
}

#[tokio::test]
async fn a_page_reads_what_it_shows_and_counts_what_is_before_it() {
    let daemon = Daemon::start_with(Settings { page_limit: 50, ..Settings::default() }).await;
    daemon.machine(N1, "n1", &[]).await;
    let units: Vec<Value> =
        (0..1000).map(|n| json!({ "name": format!("u{n:04}.service"), "text": FILE, "desired": "launched" })).collect();
    for part in units.chunks(200) {
        daemon.apply(json!(part)).await;
    }
    for n in 0..1000 {
        let name = format!("u{n:04}.service");
        daemon.place(&name, N1, Target::Launched).await;
        daemon.report(&name, N1, Target::Launched, "active", 1).await;
    }
    let before = daemon.store.read();
    let first = daemon.get("/fleet/v1/units").await.json();
    let read = daemon.store.read() - before;
    assert_eq!(first["units"].as_array().unwrap().len(), 50);
    assert!(first["units"].as_array().unwrap().iter().all(|unit| unit["currentState"] == "launched"));
    // Its units, their placements and reports, and a little more; everything would be 3,000.
    assert!(read < 500, "{read} records for a page of 50");
    assert_eq!(pages(&daemon, "units").await.len(), 20);
}

#[tokio::test]
async fn a_page_reads_no_files_but_its_own() {
    let daemon = Daemon::start_with(Settings { page_limit: 50, ..Settings::default() }).await;
    let units: Vec<Value> = (0..1000)
        .map(|n| json!({ "name": format!("u{n:04}.service"), "text": format!("{FILE}Environment=N={n}\n") }))
        .collect();
    for part in units.chunks(200) {
        daemon.apply(json!(part)).await;
    }
    let before = daemon.store.read();
    let first = daemon.get("/fleet/v1/units").await.json();
    let read = daemon.store.read() - before;
    assert_eq!(first["units"].as_array().unwrap().len(), 50);
    assert!(first["units"].as_array().unwrap().iter().all(|unit| unit["options"].as_array().unwrap().len() == 3));
    // Its units and files, the units before the next page, and one request for the keys between the files.
    assert!(read < 350, "{read} records for a page of 50");
}
