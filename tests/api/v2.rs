//! Batches, lists and reasons.

use std::collections::BTreeMap;

use flotilla::model::unit::{Placement, Target};
use flotilla::registry::keys::Key;
use flotilla::registry::put;
use flotilla::store::{Range, Store as _};
use serde_json::{Value, json};

use crate::harness::{Daemon, FILE, N1, N2};

fn outcomes(applied: &Value) -> Vec<&str> {
    applied["units"].as_array().unwrap().iter().map(|unit| unit["outcome"].as_str().unwrap()).collect()
}

async fn keys(daemon: &Daemon, prefix: &str) -> Vec<String> {
    let page = daemon.store.inner.range(Range { prefix: prefix.into(), ..Range::default() }).await.unwrap();
    page.kvs.into_iter().map(|kv| kv.key).collect()
}

/// The author comes from the kernel, not from the request. A request that changes nothing doesn't change the author.
#[tokio::test]
async fn a_unit_says_who_asked_for_it() {
    let daemon = Daemon::start().await;
    daemon.apply(json!([{ "name": "a.service", "text": FILE }])).await;
    let record = async || {
        let range = Range { prefix: "unit/a.service".into(), ..Range::default() };
        let page = daemon.store.inner.range(range).await.unwrap();
        serde_json::from_slice::<Value>(&page.kvs[0].value).unwrap()
    };
    let written = record().await;
    assert_eq!(written["by"]["uid"], rustix::process::getuid().as_raw(), "{written}");
    assert_eq!(daemon.get("/fleet/v2/units/a.service").await.json()["by"], written["by"]);

    // Written by a version that didn't record authors; the same request again is not a change.
    let mut old = written.clone();
    old.as_object_mut().unwrap().remove("by");
    daemon.write_raw("unit/a.service", old.to_string().as_bytes()).await;
    daemon.apply(json!([{ "name": "a.service", "text": FILE }])).await;
    assert_eq!(record().await, old);
    assert!(daemon.get("/fleet/v2/units/a.service").await.json().get("by").is_none());

    daemon.apply(json!([{ "name": "a.service", "desired": "loaded" }])).await;
    assert_eq!(record().await["by"], written["by"]);
}

/// A name or an address that was not written through the API must not reach terminals and files of other users.
#[tokio::test]
async fn records_are_checked_when_they_are_read() {
    let daemon = Daemon::start().await;
    let machine = json!({ "id": N1, "ip": "10.88.0.11", "hostname": "n1\nroot", "version": "1", "boot_id": "b" });
    daemon.write_raw(&format!("machine/{N1}"), machine.to_string().as_bytes()).await;
    let machines = daemon.get("/fleet/v2/machines").await.json();
    assert_eq!(machines["machines"][0]["hostname"], "n1\u{fffd}root", "{machines}");

    let instance = |address: &str| {
        json!({ "address": address, "port": 80, "weight": 1, "ttl": 10, "since": 1 }).to_string().into_bytes()
    };
    daemon.write_raw("service/web/good", &instance("10.88.0.11")).await;
    daemon.write_raw("service/web/bad", &instance("10.88.0.11\nserver evil")).await;
    let services = daemon.get("/fleet/v2/services/web").await.json().to_string();
    assert!(services.contains("good") && !services.contains("bad"), "{services}");
}

#[tokio::test]
async fn a_batch_tells_what_became_of_each_unit() {
    let daemon = Daemon::start().await;
    let other = FILE.replace("true", "false");
    let first = daemon
        .apply(json!([
            { "name": "b.service", "text": FILE },
            { "name": "a.service", "text": FILE, "desired": "launched" },
            { "name": "c.service", "destroy": true },
        ]))
        .await;
    assert_eq!(outcomes(&first), ["created", "created", "absent"]);
    assert_eq!(first["units"][0]["name"], "b.service");
    let second = daemon
        .apply(json!([
            { "name": "a.service", "text": FILE, "desired": "launched" },
            { "name": "b.service", "text": other, "desired": "loaded" },
        ]))
        .await;
    assert_eq!(outcomes(&second), ["unchanged", "differs"]);
    assert_eq!(second["units"][0]["generation"], first["units"][1]["generation"]);
    assert!(second["units"][1]["generation"].as_u64() > first["units"][0]["generation"].as_u64());
    let third = daemon
        .apply(json!([
            { "name": "a.service", "desired": "inactive" },
            { "name": "b.service", "text": other, "replace": true },
        ]))
        .await;
    assert_eq!(outcomes(&third), ["changed", "replaced"]);
    let list = daemon.get("/fleet/v2/units").await.json();
    let desired: Vec<_> =
        list["units"].as_array().unwrap().iter().map(|unit| unit["desired"].as_str().unwrap()).collect();
    assert_eq!(desired, ["inactive", "loaded"]);
    assert_eq!(outcomes(&daemon.apply(json!([{ "name": "a.service", "destroy": true }])).await), ["destroyed"]);
    let again = daemon.apply(json!([{ "name": "a.service", "text": FILE, "desired": "launched" }])).await;
    assert!(again["units"][0]["generation"].as_u64() > third["units"][0]["generation"].as_u64());
    assert_eq!(outcomes(&daemon.apply(json!([])).await), Vec::<&str>::new());
}

#[tokio::test]
async fn the_same_batch_again_writes_nothing() {
    let daemon = Daemon::start().await;
    let text = |n: usize| format!("{FILE}# {n}\nEnvironment=N={n}\n");
    let unit = |n| json!({ "name": format!("u{n}.service"), "text": text(n), "desired": "loaded" });
    let units: Vec<Value> = (0..300).map(unit).collect();
    let first = daemon.apply(json!(units)).await;
    assert_eq!(outcomes(&first), ["created"; 300]);
    // 300 units and as many files: no commit holds more than 128.
    assert_eq!(daemon.store.commits(), 5);
    let again = daemon.apply(json!(units)).await;
    assert_eq!((outcomes(&again), daemon.store.commits()), (vec!["unchanged"; 300], 5));
    let generations = |applied: &Value| {
        applied["units"].as_array().unwrap().iter().map(|u| u["generation"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(generations(&again), generations(&first));
}

/// A file within the limit of bytes whose patterns would keep every leader busy.
#[tokio::test]
async fn a_file_with_thousands_of_patterns_is_refused() {
    let daemon = Daemon::start().await;
    let patterns: String = (0..9_000).map(|at| format!("Conflicts=*a*a*a*a*a*b{at}x\n")).collect();
    let text = format!("{FILE}[X-Fleet]\n{patterns}");
    let problems = daemon.refuse(json!([{ "name": "poison.service", "text": text, "desired": "launched" }])).await;
    let line = FILE.lines().count() + 1 + 257;
    assert_eq!(
        problems,
        [format!("poison.service:{line}: more than 256 patterns in `Conflicts=`, `Replaces=` and `Avoids=`")]
    );
    assert_eq!(daemon.get("/fleet/v2/units/poison.service").await.status, 404);
}

#[tokio::test]
async fn everything_wrong_is_said_at_once_and_nothing_is_written() {
    let daemon = Daemon::start().await;
    let problems = daemon
        .refuse(json!([
            { "name": "good.service", "text": FILE },
            { "name": "garbage.service", "text": "hello" },
            { "name": "missing.service", "desired": "launched" },
            { "name": "typo.service", "text": format!("{FILE}[X-Fleet]\nMachineMetdata=a=b\nGlobal=maybe\n") },
            { "name": "sick.service", "text": format!("{FILE}[X-Fleet]\nGlob=1\n[X-Health]\nRedy=tcp:1\nReady=80\n") },
            { "name": "sick.timer", "text": "[X-Health]\nReady=tcp:80\n" },
            { "name": "sick@.service", "text": format!("{FILE}[X-Health]\nReady=tcp:%i\n"), "desired": "inactive" },
            { "name": "header.service", "text": "[Unit]\n[Service\nExecStart=/a\n" },
            { "name": "x@.service", "text": FILE, "desired": "launched" },
            { "name": "y@1.service" },
            { "name": "bad name.service", "text": FILE },
            { "name": "nul.service", "text": "[Service]\nExecStart=/bin/\u{0}\n" },
            { "name": "good.service", "text": FILE },
            { "name": "own.service", "text": format!("{FILE}[X-Fleet]\nMachineOf=%n\n") },
            { "name": "d.service", "destroy": true, "replace": true },
            { "name": "empty.service", "text": "" },
            { "name": ".hidden.service", "text": FILE },
            { "name": "multi-user.target", "text": FILE },
            { "name": "fleetd.service", "text": FILE },
        ]))
        .await;
    assert_eq!(
        problems,
        [
            "good.service: named more than once in this batch",
            "garbage.service: no options in it: not a unit file",
            "missing.service: no such unit, and no file came with it",
            "typo.service:6: unknown option `MachineMetdata` in [X-Fleet]; did you mean `MachineMetadata`?",
            "typo.service:7: `Global=maybe`: must be true or false",
            "sick.service:6: unknown option `Glob` in [X-Fleet]; did you mean `Global`?",
            "sick.service:8: unknown option `Redy` in [X-Health]; did you mean `Ready`?",
            "sick.service:9: `Ready=80`: write http://HOST:PORT/PATH, tcp:PORT or exec:COMMAND",
            "sick.timer:2: [X-Health] in sick.timer: probes are for services",
            "header.service:2: bad section header \"[Service\": it must be [Name], alone on its line",
            "x@.service: cannot activate template \"x@.service\"",
            "y@1.service: no such unit, no file came with it, and there is no template y@.service",
            "bad name.service: invalid character ' ' in unit name",
            "nul.service:2: not a text file (byte 0x00)",
            "own.service:6: `MachineOf` names own.service itself: it must name other units",
            "d.service: `destroy` goes with nothing else",
            "empty.service: no options in it: not a unit file",
            ".hidden.service: a unit's name cannot begin with a dot: tools that list a host's files skip it, systemd's \
             among them",
            "multi-user.target: the name belongs to one of systemd's own units (see systemd.special(7)): choose \
             another",
            "fleetd.service: the name belongs to the cluster's own daemon on every host: choose another",
        ]
    );
    assert_eq!((daemon.store.commits(), keys(&daemon, "").await), (0, vec![]));
    let too_long = "#".repeat(300 * 1024);
    assert!(daemon.refuse(json!([{ "name": "a.service", "text": too_long }])).await[0].contains("at most 262144"));
}

/// A unit that an earlier version accepted.
#[tokio::test]
async fn a_stored_unit_of_a_reserved_name_is_still_shown_and_destroyed() {
    let daemon = Daemon::start().await;
    let stored = daemon.apply(json!([{ "name": "x.service", "text": FILE }])).await;
    let record = json!({
        "desired": "launched", "hash": daemon.get("/fleet/v2/units/x.service").await.json()["hash"],
        "generation": stored["units"][0]["generation"], "submitted": 1,
    });
    for name in [".hidden.service", "dbus.service"] {
        daemon.write_raw(&format!("unit/{name}"), record.to_string().as_bytes()).await;
        let shown = daemon.get(&format!("/fleet/v2/units/{name}")).await;
        assert_eq!((shown.status, &shown.json()["desired"]), (200, &json!("launched")), "{name}");
        assert_eq!(outcomes(&daemon.apply(json!([{ "name": name, "desired": "inactive" }])).await), ["changed"]);
        assert_eq!(outcomes(&daemon.apply(json!([{ "name": name, "destroy": true }])).await), ["destroyed"]);
    }
}

#[tokio::test]
async fn a_batch_must_be_one() {
    const JSON: &[(&str, &str)] = &[("content-type", "application/json")];
    let daemon = Daemon::start().await;
    // What a browser sends for any web page without asking.
    let plain = daemon.call("POST", "/fleet/v2/units", &[("content-type", "text/plain")], b"{\"units\":[]}").await;
    assert_eq!((plain.status, plain.error()), (415, "only acceptable Content-Type is application/json".into()));
    for (body, message) in [
        ("", "can't read the batch"),
        ("{}", "missing field `units`"),
        ("\u{fffd}", "can't read the batch"),
        ("[", "can't read the batch"),
        (r#"{"units":[],"force":true}"#, "unknown field `force`"),
        (r#"{"units":[{"name":"a.service","txt":""}]}"#, "unknown field `txt`"),
        (r#"{"units":[{"name":"a.service","desired":"running"}]}"#, "unknown variant `running`"),
    ] {
        let answer = daemon.call("POST", "/fleet/v2/units", JSON, body.as_bytes()).await;
        assert_eq!((answer.status, answer.error().contains(message)), (400, true), "{}", answer.text);
    }
    let answer = daemon.call("POST", "/fleet/v2/units", JSON, b"\xff\xfe\x00").await;
    assert_eq!((answer.status, answer.error().is_empty()), (400, false));
}

#[tokio::test]
async fn instances_are_made_of_templates_and_share_their_file() {
    let daemon = Daemon::start().await;
    let applied = daemon
        .apply(json!([
            { "name": "web@1.service", "desired": "launched" },
            { "name": "web@.service", "text": FILE },
            { "name": "web@2.service", "desired": "loaded" },
        ]))
        .await;
    assert_eq!(outcomes(&applied), ["created"; 3]);
    assert_eq!(keys(&daemon, "file/").await.len(), 1);
    assert_eq!(outcomes(&daemon.apply(json!([{ "name": "web@3.service" }])).await), ["created"]);
    assert_eq!(daemon.get("/fleet/v2/units/web@3.service").await.json()["text"], FILE);
    // The template is valid by itself, but its constraints are invalid for this instance, which is refused.
    let peers = format!("{FILE}[X-Fleet]\nMachineOf=%p@1.service\n");
    daemon.apply(json!([{ "name": "peer@.service", "text": peers }, { "name": "peer@2.service" }])).await;
    assert!(daemon.refuse(json!([{ "name": "peer@1.service" }])).await[0].contains("names peer@1.service itself"));
}

#[tokio::test]
async fn a_units_file_is_written_with_it_even_if_it_is_there() {
    let daemon = Daemon::start().await;
    daemon.apply(json!([{ "name": "a.service", "text": FILE }])).await;
    let file = keys(&daemon, "file/").await.remove(0);
    let revision = async || {
        daemon.store.inner.range(Range { prefix: file.clone(), ..Range::default() }).await.unwrap().kvs[0].revision
    };
    let before = revision().await;
    daemon.apply(json!([{ "name": "b.service", "text": FILE }])).await;
    assert!(revision().await > before);
}

#[tokio::test]
async fn a_text_that_was_damaged_in_the_store_is_mended_by_its_file() {
    let daemon = Daemon::start().await;
    let comments = format!("# first\n{FILE}");
    let unit = async |text: &str| {
        let sent = json!([{ "name": "a.service", "text": text, "replace": true }]);
        outcomes(&daemon.apply(sent).await)[0].to_owned()
    };
    let shown = async || daemon.get("/fleet/v2/units/a.service").await.json()["text"].clone();
    for text in [FILE, &comments] {
        unit(text).await;
        for file in keys(&daemon, "file/").await {
            daemon.write_raw(&file, json!({ "text": "[Service]\nExecStart=/another\n" }).to_string().as_bytes()).await;
        }
        assert_ne!(shown().await, text);
        assert_eq!(unit(text).await, "unchanged");
        assert_eq!(shown().await, text);
    }
}

#[tokio::test]
async fn lists_can_be_narrowed() {
    let daemon = Daemon::start().await;
    let names = ["db.service", "web@1.service", "web@2.service", "web@10.service", "a.service.service", "a.service"];
    let units: Vec<Value> = names.iter().map(|name| json!({ "name": name, "text": FILE })).collect();
    daemon.apply(json!(units)).await;
    let list = |query: &'static str| {
        let daemon = &daemon;
        async move {
            let json = daemon.get(&format!("/fleet/v2/units{query}")).await.json();
            json["units"].as_array().unwrap().iter().map(|u| u["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        }
    };
    assert_eq!(list("").await.len(), names.len());
    assert_eq!(list("?name=web@?.service&name=db*").await, ["db.service", "web@1.service", "web@2.service"]);
    assert_eq!(list("?name=a.service").await, ["a.service"]);
    assert_eq!(list("?name=web%40%5B12%5D.service").await, ["web@1.service", "web@2.service"]);
    assert_eq!(list("?name=nothing").await, Vec::<String>::new());
    for (path, message) in [
        ("units?nmae=a", "unknown query parameter `nmae`; `name` and `offline` are known"),
        ("units?name=[", "`[` is no valid pattern: unclosed or empty [class], or a final backslash"),
        ("watch?all=1", "unknown query parameter `all`; `name`, `host` and `operation` are known"),
        ("machines?name=a", "unknown query parameter `name`; `offline` is known"),
        ("units/a.service?x", "unknown query parameter `x`; `offline` is known"),
    ] {
        let answer = daemon.get(&format!("/fleet/v2/{path}")).await;
        assert_eq!((answer.status, answer.error()), (400, message.into()), "{path}");
    }
}

#[tokio::test]
async fn a_list_costs_few_ranges_however_long_it_is() {
    let daemon = Daemon::start().await;
    let units: Vec<Value> = (0..500)
        .map(|n| json!({ "name": format!("u{n}.service"), "text": format!("{FILE}Environment=N={n}\n") }))
        .collect();
    daemon.apply(json!(units)).await;
    let cost = async || {
        let before = daemon.store.ranges();
        assert_eq!(daemon.get("/fleet/v2/units").await.json()["units"].as_array().unwrap().len(), 500);
        daemon.store.ranges() - before
    };
    // The hosts, whose leases say which reports count; units, placements, gates and reports. And once the files.
    assert_eq!((cost().await, cost().await), (6, 5));
}

#[tokio::test]
async fn a_list_shows_where_units_are() {
    let daemon = Daemon::start().await;
    daemon.machine(N1, "n1", &[("zone", "a")]).await;
    let global = format!("{FILE}[X-Fleet]\nGlobal=true\n");
    let units = json!([
        { "name": "a.service", "text": FILE, "desired": "launched" },
        { "name": "g.service", "text": global },
        { "name": "w.service", "text": FILE },
    ]);
    daemon.apply(units).await;
    daemon.place("a.service", N1, Target::Launched).await;
    daemon.report("a.service", N1, Target::Launched, "active", 9).await;
    daemon.place("w.service", N2, Target::Loaded).await;
    daemon.report("w.service", N2, Target::Removed, "inactive", 9).await;
    let list = daemon.get("/fleet/v2/units").await.json();
    let unit = |index: usize| &list["units"][index];
    let n1 = json!({ "id": N1, "ip": "10.88.0.1", "hostname": "n1" });
    assert_eq!(
        (&unit(0)["description"], &unit(0)["current"], &unit(0)["machine"]),
        (&json!("A test"), &json!("launched"), &n1)
    );
    assert_eq!(
        unit(0)["states"],
        json!([{
            "machine": n1, "generation": 9, "target": "launched", "hash": "abc",
            "load": "loaded", "active": "active", "sub": "running", "since": 5,
        }])
    );
    assert_eq!((&unit(1)["global"], &unit(1)["current"], unit(1).get("machine")), (&json!(true), &json!(""), None));
    // Its host is dead, and its last report is hidden.
    assert_eq!(
        (&unit(2)["machine"]["id"], &unit(2)["machine"]["hostname"], &unit(2)["current"], &unit(2)["states"]),
        (&json!(N2), &json!(""), &json!("inactive"), &json!([]))
    );
    let machines = daemon.get("/fleet/v2/machines").await.json();
    let metadata = json!({ "zone": "a" });
    let n1 =
        json!({ "id": N1, "ip": "10.88.0.1", "hostname": "n1", "metadata": metadata, "version": "1.2.3", "since": 0 });
    assert_eq!(machines, json!({ "machines": [n1] }));
}

#[tokio::test]
async fn a_unit_says_why_it_waits_host_by_host() {
    let daemon = Daemon::start().await;
    daemon.machine(N1, "n1", &[]).await;
    daemon.machine(N2, "n2", &[]).await;
    let text = format!("{FILE}[X-Fleet]\nMachineMetadata=disk=ssd\n");
    daemon.apply(json!([{ "name": "a.service", "text": text, "desired": "launched" }])).await;
    let waiting = Placement::Waiting { why: "2 of 2 hosts: metadata".into(), reasons: None, tried: None, since: 1 };
    daemon.write(put(&Key::Placement("a.service".parse().unwrap()), &waiting, None)).await;
    let detail = daemon.get("/fleet/v2/units/a.service").await.json();
    assert_eq!((&detail["waiting"], &detail["text"]), (&json!("2 of 2 hosts: metadata"), &json!(text)));
    assert_eq!(detail["why"], "can't run anywhere yet");
    let reasons: BTreeMap<&str, usize> = detail["reasons"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| (r["machine"]["hostname"].as_str().unwrap(), r["misfits"].as_array().unwrap().len()))
        .collect();
    assert_eq!(reasons, [("n1", 1), ("n2", 1)].into());
    daemon.machine(N2, "n2", &[("disk", "ssd")]).await;
    assert_eq!(daemon.get("/fleet/v2/units/a.service").await.json()["why"], "it is about to be placed");
    daemon.place("a.service", N2, Target::Launched).await;
    daemon.report("a.service", N2, Target::Launched, "active", 99).await;
    let settled = daemon.get("/fleet/v2/units/a.service").await.json();
    assert_eq!((settled.get("why"), settled.get("reasons")), (None, None));
    let missing = daemon.get("/fleet/v2/units/b.service").await;
    assert_eq!((missing.status, missing.error()), (404, "unit does not exist".into()));
}

/// A later version may hash files by another algorithm. Nothing is compared with such a hash.
#[tokio::test]
async fn a_hash_by_an_unknown_algorithm_is_refused_by_its_name() {
    let daemon = Daemon::start().await;
    daemon.apply(json!([{ "name": "a.service", "text": FILE, "desired": "launched" }])).await;
    let hash = daemon.get("/fleet/v2/units/a.service").await.json()["hash"].as_str().unwrap().to_owned();
    for (name, hash) in [("named.service", format!("sha1:{hash}")), ("later.service", "sha256:9f86d081".into())] {
        let unit = json!({ "desired": "launched", "hash": hash, "generation": 1, "submitted": 5 });
        daemon.write_raw(&format!("unit/{name}"), unit.to_string().as_bytes()).await;
    }
    daemon.write_raw("file/sha256:9f86d081", json!({ "text": FILE }).to_string().as_bytes()).await;
    let later = daemon.get("/fleet/v2/units/later.service").await;
    assert_eq!(later.status, 500);
    let why = r#""sha256:9f86d081" is the hash of a unit file by an algorithm that this version doesn't know"#;
    assert!(later.error().contains(why), "{}", later.error());
    let units = daemon.get("/fleet/v2/units").await.json();
    assert_eq!(units["damaged"][0]["name"], "later.service");
    let hashes: Vec<_> = units["units"].as_array().unwrap().iter().map(|unit| &unit["hash"]).collect();
    assert_eq!(hashes, [&hash, &hash]);
}

#[tokio::test]
async fn damaged_and_foreign_keys_break_nothing() {
    let daemon = Daemon::start().await;
    daemon.apply(json!([{ "name": "a.service", "text": FILE, "desired": "launched" }])).await;
    for key in [
        "unit/x.service",
        "unit/a b",
        "unit/",
        "file/12",
        "placement/a.service",
        "state/a.service",
        "state/a.service/n1",
        "state/n1/a.service",
        "machine/n1",
        "metadata/x",
        "schedule/a",
        "strange",
        "file/0000000000000000000000000000000000000000",
    ] {
        daemon.write_raw(key, b"{").await;
    }
    daemon.write_raw("unit/y.service", &[0xff, 0]).await;
    for path in ["/fleet/v1/units", "/fleet/v2/units", "/fleet/v2/units?name=*"] {
        let units = daemon.get(path).await.json();
        assert_eq!(units["units"].as_array().unwrap().len(), 1, "{path}");
    }
    for path in ["/fleet/v1/state", "/fleet/v1/machines"] {
        assert_eq!(daemon.get(path).await.text, "{}");
    }
    assert_eq!(daemon.get("/fleet/v2/units/a.service").await.status, 200);
    assert_eq!(daemon.get("/fleet/v1/units/x.service").await.status, 404);
    // v2 names these units to clients that ask about them; a key that names no unit is left out.
    let damaged = async |path: &str| {
        let list = daemon.get(path).await.json();
        let damaged = list["damaged"].as_array().cloned().unwrap_or_default();
        damaged.iter().map(|unit| unit["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(damaged("/fleet/v2/units").await, ["x.service", "y.service"]);
    assert_eq!(damaged("/fleet/v2/units?name=x*").await, ["x.service"]);
    assert_eq!(damaged("/fleet/v2/units?name=a*").await, [""; 0]);
    let one = daemon.get("/fleet/v2/units/x.service").await;
    assert_eq!(one.status, 500);
    let said = "x.service: its record in the store is damaged; submit it again with its file, or destroy it (";
    assert!(one.error().starts_with(said), "{}", one.error());
    // Its placement and the report of its host are in other records.
    daemon.machine(N1, "n1", &[]).await;
    daemon.place("x.service", N1, Target::Launched).await;
    daemon.report("x.service", N1, Target::Launched, "active", 1).await;
    let list = daemon.get("/fleet/v2/units?name=x.service").await.json();
    let unit = &list["damaged"][0];
    assert_eq!((&unit["machine"]["hostname"], &unit["states"][0]["active"]), (&json!("n1"), &json!("active")));
    assert!(daemon.refuse(json!([{ "name": "x.service", "desired": "loaded" }])).await[0].contains("is damaged"));
    let mended =
        daemon.apply(json!([{ "name": "x.service", "text": FILE }, { "name": "y.service", "destroy": true }])).await;
    assert_eq!(outcomes(&mended), ["replaced", "destroyed"]);
    let whole = daemon.get("/fleet/v2/units").await.json();
    assert_eq!((whole["units"].as_array().unwrap().len(), whole.get("damaged")), (2, None));
}

#[tokio::test]
async fn a_check_says_what_would_become_of_a_batch_and_does_nothing() {
    let daemon = Daemon::start().await;
    daemon.apply(json!([{ "name": "a.service", "text": FILE }])).await;
    let check =
        async |units: Value| daemon.send("POST", "/fleet/v2/units?check=true", &json!({ "units": units })).await;
    let commits = daemon.store.commits();
    let good =
        check(json!([{ "name": "a.service", "desired": "launched" }, { "name": "b.service", "text": FILE }])).await;
    assert_eq!((good.status, outcomes(&good.json())), (200, vec!["changed", "created"]));
    let bad = check(json!([{ "name": "c.service" }, { "name": "b.service", "text": FILE }])).await;
    assert_eq!((bad.status, bad.error()), (400, "c.service: no such unit, and no file came with it".into()));
    assert_eq!(daemon.store.commits(), commits);
    assert_eq!(daemon.get("/fleet/v2/units").await.json()["units"].as_array().unwrap().len(), 1);
    let unknown = daemon.send("POST", "/fleet/v2/units?check=maybe", &json!({ "units": [] })).await;
    assert_eq!((unknown.status, unknown.error()), (400, "`check` can only be `true`, `hosts` or `false`".into()));
    assert_eq!(daemon.send("POST", "/fleet/v2/units?dry=true", &json!({ "units": [] })).await.status, 400);
}

/// Of those with preferences only: nobody else is interested, and it takes a look at the whole cluster.
#[tokio::test]
async fn a_unit_with_preferences_says_why_it_is_where_it_is() {
    let daemon = Daemon::start().await;
    daemon.machine(N1, "n1", &[("zone", "a")]).await;
    daemon.machine(N2, "n2", &[("zone", "b")]).await;
    let text = |rule: &str| format!("{FILE}[X-Fleet]\n{rule}\n");
    let spread = text("Spread=zone web@*");
    daemon.apply(json!([{ "name": "web@1.service", "text": spread, "desired": "launched" }])).await;
    daemon.apply(json!([{ "name": "web@2.service", "text": spread, "desired": "launched" }])).await;
    daemon.apply(json!([{ "name": "a.service", "text": FILE, "desired": "launched" }])).await;
    daemon.place("web@1.service", N1, Target::Launched).await;
    daemon.place("web@2.service", N2, Target::Launched).await;
    daemon.place("a.service", N2, Target::Launched).await;
    let choice = async |unit: &str| {
        daemon
            .get(&format!("/fleet/v2/units/{unit}"))
            .await
            .json()
            .get("choice")
            .and_then(Value::as_str)
            .map(str::to_owned)
    };
    for unit in ["web@2.service", "a.service"] {
        let expected = (unit != "a.service").then_some("on n2: spread zone b 0 < a 1; runner-up n1");
        assert_eq!(choice(unit).await.as_deref(), expected);
        daemon.report(unit, N2, Target::Launched, "active", 99).await;
        assert_eq!(choice(unit).await.as_deref(), expected);
    }
}

#[tokio::test]
async fn a_check_says_which_hosts_would_fit() {
    let daemon = Daemon::start().await;
    daemon.machine(N1, "n1", &[("zone", "a")]).await;
    let text = |rule: &str| format!("[Service]\nExecStart=/a\n[X-Fleet]\n{rule}\n");
    let units = json!([
        { "name": "a.service", "text": text("MachineMetadata=zone=b") },
        { "name": "b.service", "text": text("MachineOf=a.service") },
        { "name": "c@.service", "text": text("Conflicts=%p@*") },
        { "name": "c@1.service", "desired": "loaded" },
    ]);
    let answer = daemon.send("POST", "/fleet/v2/units?check=hosts", &json!({ "units": units })).await.json();
    let hosts = |at: usize| answer["units"][at].get("hosts").map(|hosts| hosts[0]["misfits"].clone());
    assert_eq!(hosts(0), Some(json!(["metadata zone is a, wanted b"])));
    assert_eq!(hosts(1), Some(json!([])), "it would arrive together with the other one");
    assert_eq!(
        (hosts(2), hosts(3)),
        (None, None),
        "a template runs nowhere, and what has no file was asked about before"
    );
    assert_eq!(daemon.get("/fleet/v2/units").await.json()["units"], json!([]));
}

#[tokio::test]
async fn lost_answers_and_conflicts_are_sorted_out() {
    let daemon = Daemon::start().await;
    daemon.store.lose_answers(1);
    let created =
        daemon.apply(json!([{ "name": "a.service", "text": FILE }, { "name": "b.service", "text": FILE }])).await;
    assert_eq!((outcomes(&created), daemon.store.commits()), (vec!["created"; 2], 1));
    daemon.store.lose_answers(1);
    assert_eq!(outcomes(&daemon.apply(json!([{ "name": "a.service", "destroy": true }])).await), ["destroyed"]);
    assert_eq!(daemon.store.commits(), 2);
    daemon.store.conflict(3);
    assert_eq!(outcomes(&daemon.apply(json!([{ "name": "b.service", "desired": "loaded" }])).await), ["changed"]);
    assert_eq!(daemon.store.commits(), 6);
    daemon.store.conflict(1000);
    let answer = daemon
        .send("POST", "/fleet/v2/units", &json!({ "units": [{ "name": "b.service", "desired": "launched" }] }))
        .await;
    assert_eq!((answer.status, answer.error().contains("others change the same units")), (409, true));
}

#[tokio::test]
async fn of_two_conflicting_puts_both_are_done_one_after_the_other() {
    let daemon = Daemon::start().await;
    for round in 0..20 {
        let put = |start: &str| {
            let option = json!({ "section": "Service", "name": "ExecStart", "value": format!("{start}{round}") });
            json!({ "desiredState": "launched", "options": [option] })
        };
        let (a, b) = (put("/a"), put("/b"));
        let (first, second) = tokio::join!(
            daemon.send("PUT", "/fleet/v1/units/a.service", &a),
            daemon.send("PUT", "/fleet/v1/units/a.service", &b),
        );
        assert_eq!((first.status, second.status), (201, 201));
        let now = daemon.get("/fleet/v1/units/a.service").await.json();
        let start = now["options"][0]["value"].as_str().unwrap().to_owned();
        assert!(start == format!("/a{round}") || start == format!("/b{round}"), "{start}");
    }
}

/// Masked and unmasked, stopped with `systemctl`, failed: a start request starts it in each case.
#[tokio::test]
async fn a_start_of_a_unit_that_does_not_run_is_a_new_request() {
    let daemon = Daemon::start().await;
    daemon.machine(N1, "n1", &[]).await;
    let once = "[Service]\nType=oneshot\nExecStart=/bin/true\n";
    let start = json!([
        { "name": "a.service", "text": FILE, "desired": "launched" },
        { "name": "once.service", "text": once, "desired": "launched" },
    ]);
    let first = daemon.apply(start.clone()).await["units"][1]["generation"].as_u64().unwrap();
    let again =
        json!([{ "name": "a.service", "desired": "launched" }, { "name": "once.service", "desired": "launched" }]);
    let cases = [
        ("active", ["unchanged", "unchanged"]),
        // A oneshot that has finished is done.
        ("inactive", ["changed", "unchanged"]),
        ("failed", ["changed", "changed"]),
    ];
    let mut generation = first;
    for (active, expected) in cases {
        for unit in ["a.service", "once.service"] {
            daemon.report(unit, N1, Target::Launched, active, generation).await;
        }
        let applied = daemon.apply(again.clone()).await;
        assert_eq!(outcomes(&applied), expected, "{active}");
        // Until the host has carried out the request, another one is the same request.
        assert_eq!(outcomes(&daemon.apply(again.clone()).await)[0], "unchanged", "{active}");
        generation = applied["revision"].as_u64().unwrap();
    }
    // A request that only submits a file doesn't request a start.
    daemon.report("a.service", N1, Target::Launched, "failed", u64::MAX >> 1).await;
    assert_eq!(outcomes(&daemon.apply(json!([{ "name": "a.service", "text": FILE }])).await), ["unchanged"]);
}

/// With `RunOnce=`, the leader takes a oneshot off its host when it has ended, and its placement says so.
#[tokio::test]
async fn a_unit_that_has_run_once_is_done_until_it_is_asked_for_again() {
    let daemon = Daemon::start().await;
    daemon.machine(N1, "n1", &[]).await;
    let once = "[Service]\nType=oneshot\nExecStart=/bin/true\n[X-Fleet]\nRunOnce=yes\n";
    let applied = daemon.apply(json!([{ "name": "job.service", "text": once, "desired": "launched" }])).await;
    let generation = applied["units"][0]["generation"].clone();
    let done = json!({ "host": N1, "generation": generation });
    let done = json!({ "waiting": { "why": "it has run once, and is done", "done": done, "since": 5 } });
    daemon.write_raw("placement/job.service", done.to_string().as_bytes()).await;
    let unit = daemon.get("/fleet/v2/units/job.service").await.json();
    assert_eq!((&unit["done"], &unit["current"], &unit["waiting"]), (&json!(5), &json!("launched"), &Value::Null));
    assert_eq!((&unit["machine"]["hostname"], &unit["why"]), (&json!("n1"), &Value::Null), "{unit}");
    assert_eq!(unit["progress"], json!({ "state": "done" }));
    let v1 = daemon.get("/fleet/v1/units/job.service").await.json();
    assert_eq!((&v1["currentState"], &v1["desiredState"]), (&json!("launched"), &json!("launched")));
    // Any request to start it is a new one.
    let start = json!([{ "name": "job.service", "desired": "launched" }]);
    assert_eq!(outcomes(&daemon.apply(start.clone()).await), ["changed"]);
    let unit = daemon.get("/fleet/v2/units/job.service").await.json();
    assert_eq!((&unit["done"], &unit["current"]), (&Value::Null, &json!("inactive")));
    assert_eq!(unit["progress"], json!({ "state": "waiting", "why": "waiting for a host" }));
    assert_eq!(outcomes(&daemon.apply(start).await), ["unchanged"]);
    // What can't be done once is refused, with the line.
    let wrong = json!([{ "name": "a.service", "text": FILE.to_owned() + "[X-Fleet]\nRunOnce=yes\n" }]);
    let refused = daemon.refuse(wrong).await;
    assert_eq!(refused, ["a.service:6: `RunOnce=yes`: Type=oneshot is needed, or it never ends"]);
}

#[tokio::test]
async fn destroying_what_is_leaving_already_is_no_mistake() {
    let daemon = Daemon::start().await;
    daemon.machine(N1, "n1", &[]).await;
    let global = format!("{FILE}[X-Fleet]\nGlobal=true\n");
    let units = json!([
        { "name": "a.service", "text": FILE },
        { "name": "a.service.service", "text": FILE },
        { "name": "g.service", "text": global },
    ]);
    daemon.apply(units).await;
    daemon.place("a.service", N1, Target::Launched).await;
    daemon.report("g.service", N1, Target::Launched, "active", 1).await;
    let names = ["a.service", "a.service.service", "g.service", "never.service"];
    let batch = json!(names.map(|name| json!({ "name": name, "destroy": true })));
    assert_eq!(outcomes(&daemon.apply(batch.clone()).await), ["destroyed", "destroyed", "destroyed", "absent"]);
    let commits = daemon.store.commits();
    assert_eq!(outcomes(&daemon.apply(batch.clone()).await), ["leaving", "absent", "leaving", "absent"]);
    // v1 doesn't show units that are leaving.
    assert_eq!(daemon.delete("/fleet/v1/units/a.service").await.status, 404);
    daemon.report("g.service", N1, Target::Removed, "inactive", 2).await;
    daemon.unplace("a.service", N1).await;
    assert_eq!(outcomes(&daemon.apply(batch).await), ["absent"; 4]);
    assert_eq!(daemon.store.commits(), commits);
    // More units than are read one by one.
    daemon.report("u7.service", N1, Target::Launched, "active", 2).await;
    let many: Vec<Value> = (0..100).map(|n| json!({ "name": format!("u{n}.service"), "destroy": true })).collect();
    let many = daemon.apply(json!(many)).await;
    assert_eq!(outcomes(&many).iter().filter(|outcome| **outcome == "leaving").count(), 1);
}

#[tokio::test]
async fn a_global_says_which_hosts_are_told_to_have_it() {
    let daemon = Daemon::start().await;
    daemon.machine(N1, "n1", &[]).await;
    daemon.machine(N2, "n2", &[]).await;
    let global = format!("{FILE}[X-Fleet]\nGlobal=true\n");
    let units = json!([
        { "name": "g.service", "text": global, "desired": "launched" },
        { "name": "a.service", "text": FILE, "desired": "launched" },
    ]);
    let applied = daemon.apply(units).await;
    let generation = applied["units"][0]["generation"].as_u64().unwrap();
    let hosts = async |name: &str| {
        let list = daemon.get("/fleet/v2/units").await.json();
        let listed = list["units"].as_array().unwrap().iter().find(|unit| unit["name"] == name).unwrap().clone();
        let alone = daemon.get(&format!("/fleet/v2/units/{name}")).await.json();
        assert_eq!(listed.get("hosts"), alone.get("hosts"));
        listed.get("hosts").cloned()
    };
    assert_eq!(hosts("g.service").await, None);
    daemon.order("g.service", N1, Target::Launched, generation).await;
    daemon.order("g.service", N2, Target::Removed, 77).await;
    daemon.place("a.service", N1, Target::Launched).await;
    let order = |id: &str, n: u8, generation: u64, target: &str| {
        let machine = json!({ "id": id, "ip": format!("10.88.0.{n}"), "hostname": format!("n{n}") });
        json!({ "machine": machine, "generation": generation, "target": target })
    };
    let told = json!([order(N1, 1, generation, "launched"), order(N2, 2, 77, "gone")]);
    assert_eq!(hosts("g.service").await, Some(told.clone()));
    assert_eq!(hosts("a.service").await, None);
    // More hosts than are read at once.
    for n in 10..60 {
        daemon.machine(&format!("{n:032x}"), "n9", &[]).await;
    }
    daemon.order("g.service", &format!("{:032x}", 50), Target::Launched, generation).await;
    let all = hosts("g.service").await.unwrap();
    assert_eq!(all.as_array().unwrap().len(), 3);
    // A watch sends the same, and sends it again when a host gets an assignment.
    let mut lines = crate::watch::Lines::open(&daemon, "?name=g.service").await;
    assert_eq!(lines.next().await.unwrap()["unit"]["hosts"], all);
    assert_eq!(lines.short().await, "synced");
    daemon.order("g.service", N2, Target::Launched, generation).await;
    assert_eq!(lines.next().await.unwrap()["unit"]["hosts"][2], order(N2, 2, generation, "launched"));
}

#[tokio::test]
async fn a_global_on_many_hosts_costs_its_own_entries() {
    let daemon = Daemon::start().await;
    let global = format!("{FILE}[X-Fleet]\nGlobal=true\n");
    daemon.apply(json!([{ "name": "m.service", "text": global, "desired": "launched" }])).await;
    let hosts: Vec<String> = (1..=100).map(|n| format!("{n:032x}")).collect();
    for host in &hosts {
        daemon.machine(host, "n1", &[]).await;
        // The keys of other units are before and after those of the global one.
        for n in 0..30 {
            daemon.order(&format!("{}{n}.service", if n < 15 { "a" } else { "z" }), host, Target::Launched, 1).await;
        }
        daemon.order("m.service", host, Target::Launched, 7).await;
    }
    let before = daemon.store.read();
    let list = daemon.get("/fleet/v2/units").await.json();
    let read = daemon.store.read() - before;
    assert_eq!(list["units"][0]["hosts"].as_array().unwrap().len(), 100);
    // Each host, its assignment, and one request for the keys between them; everything would be 3,200.
    assert!(read < 500, "{read} records");
}

#[tokio::test]
async fn a_large_batch_costs_its_own_units() {
    let daemon = Daemon::start().await;
    for part in 0..10 {
        let units: Vec<Value> =
            (0..200).map(|n| json!({ "name": format!("u{n:03}-{part}.service"), "text": FILE })).collect();
        daemon.apply(json!(units)).await;
    }
    let batch: Vec<Value> =
        (0..100).map(|n| json!({ "name": format!("u{n:03}-5.service"), "desired": "loaded" })).collect();
    let before = daemon.store.read();
    daemon.apply(json!(batch)).await;
    let read = daemon.store.read() - before;
    assert!(read < 500, "{read} records for 100 units of 2,000");
}

/// A host that is gone as a leader writes it, and one of which no leader has seen yet that it is.
#[tokio::test]
async fn hosts_that_are_gone_are_listed_until_they_are_forgotten() {
    let daemon = Daemon::start().await;
    daemon.machine(N1, "n1", &[("zone", "a")]).await;
    let n3 = "f".repeat(32);
    let known = json!({ "hostname": "n2", "ip": "10.88.0.2", "version": "0.1.0", "gone": { "since": 5, "moved": 2 } });
    daemon.write_raw(&format!("roster/{N1}"), br#"{"hostname":"n1"}"#).await;
    daemon.write_raw(&format!("roster/{N2}"), known.to_string().as_bytes()).await;
    daemon.write_raw(&format!("roster/{n3}"), br#"{"hostname":"n3"}"#).await;
    for key in 0..200 {
        daemon.write_raw(&format!("metadata/{N2}/k{key}"), br#""v""#).await;
    }
    let gone = async || {
        let hosts = daemon.get("/fleet/v2/machines").await.json();
        assert_eq!(hosts["machines"].as_array().unwrap().len(), 1, "{hosts}");
        hosts["gone"].clone()
    };
    let listed = gone().await;
    assert_eq!((&listed[0]["hostname"], &listed[1]["hostname"]), (&json!("n2"), &json!("n3")));
    assert_eq!(listed[0]["gone"], json!({ "since": 5, "moved": 2, "waiting": 0, "ended": 0 }));
    assert_eq!(listed[1]["gone"]["since"], 0);
    // v1 has only hosts that are alive.
    assert_eq!(daemon.get("/fleet/v1/machines").await.json()["machines"].as_array().unwrap().len(), 1);

    let forget = async |id: &str| daemon.delete(&format!("/fleet/v2/machines/{id}")).await;
    let refused = forget(N1).await;
    assert_eq!(refused.status, 409);
    assert!(refused.error().ends_with("only a host that is gone can be forgotten"), "{}", refused.text);
    assert_eq!((forget("n2").await.status, forget(&"4".repeat(32)).await.status), (404, 404));
    assert_eq!((forget(N2).await.status, forget(N2).await.status), (204, 404));
    assert_eq!(gone().await.as_array().unwrap().len(), 1);
    assert_eq!(keys(&daemon, &format!("metadata/{N2}")).await, [""; 0]);
    assert_eq!(keys(&daemon, "roster/").await, [format!("roster/{N1}"), format!("roster/{n3}")]);
}

#[tokio::test]
async fn the_status_is_leader_hosts_and_units_at_one_revision() {
    let daemon = Daemon::start().await;
    daemon.machine(N1, "n1", &[]).await;
    daemon.apply(json!([{ "name": "a.service", "text": FILE, "desired": "launched" }])).await;
    daemon.place("a.service", N1, Target::Launched).await;
    daemon.report("a.service", N1, Target::Launched, "active", 9).await;
    daemon.write_raw("unit/b.service", b"{").await;
    let status = daemon.get("/fleet/v2/status").await.json();
    assert_eq!((&status["leader"], &status["gone"]), (&json!(null), &json!(null)), "{status}");
    daemon.write_raw(&format!("roster/{N2}"), br#"{"hostname":"n2"}"#).await;
    let leader = json!({ "machine": N1, "hostname": "n1", "ip": "10.88.0.1", "since": 5 });
    daemon.write_raw("leader", leader.to_string().as_bytes()).await;
    let status = daemon.get("/fleet/v2/status").await.json();
    assert_eq!(status["leader"], json!({ "machine": { "id": N1, "ip": "10.88.0.1", "hostname": "n1" }, "since": 5 }));
    assert_eq!(status["units"], daemon.get("/fleet/v2/units").await.json()["units"]);
    let hosts = daemon.get("/fleet/v2/machines").await.json();
    assert_eq!((&status["machines"], &status["gone"]), (&hosts["machines"], &hosts["gone"]));
    assert_eq!(status["damaged"][0]["name"], "b.service");
}
