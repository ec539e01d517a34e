//! Where units would be if hosts were lost or added, or units started. There is no engine, so that units are where they
//! are placed by hand.

use serde_json::{Value, json};

use crate::harness::{Daemon, N1, N2};

const WHAT_IF: &str = "/fleet/v2/what-if";

fn file(section: &str) -> String {
    format!("[Service]\nExecStart=/bin/true\n[X-Fleet]\n{section}\n")
}

/// Two hosts in different zones: `web@` excludes itself, and `db` needs zone a.
async fn daemon() -> Daemon {
    let daemon = Daemon::start().await;
    daemon.machine(N1, "n1", &[("zone", "a"), ("site", "x")]).await;
    daemon.machine(N2, "n2", &[("zone", "b"), ("site", "x")]).await;
    for (unit, section, host) in [
        ("db.service", "MachineMetadata=zone=a", N1),
        ("free.service", "", N1),
        ("log.service", "Global=true", N1),
        ("pin.service", &*format!("MachineID={N1}"), N1),
        ("web@1.service", "Conflicts=web@*", N1),
        ("web@2.service", "Conflicts=web@*", N2),
    ] {
        daemon.apply(json!([{ "name": unit, "text": file(section), "desired": "launched" }])).await;
        if unit != "log.service" {
            daemon.runs(unit, host).await;
        }
    }
    daemon
}

/// What would follow; nothing is written.
async fn what_if(daemon: &Daemon, supposed: Value) -> Value {
    let commits = daemon.store.commits();
    let answer = daemon.send("POST", WHAT_IF, &supposed).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(daemon.store.commits(), commits);
    answer.json()
}

fn moves(answer: &Value) -> Vec<String> {
    let host = |host: &Value| host["hostname"].as_str().unwrap_or("-").to_owned();
    let one = |it: &Value| format!("{} {} {}", it["name"].as_str().unwrap(), host(&it["from"]), host(&it["to"]));
    answer["moves"].as_array().unwrap().iter().map(one).collect()
}

fn waits(waits: &Value) -> Vec<String> {
    let one = |it: &Value| format!("{}: {}", it["name"].as_str().unwrap(), it["why"].as_str().unwrap());
    waits.as_array().map(|waits| waits.iter().map(one).collect()).unwrap_or_default()
}

#[tokio::test]
async fn units_of_a_lost_host_move_or_wait_or_stay_with_it() {
    let daemon = daemon().await;
    let answer = what_if(&daemon, json!({ "lose": [N1] })).await;
    assert_eq!(moves(&answer), ["free.service n1 n2"]);
    let waiting = ["db.service: 1 of 1 host: metadata", "web@1.service: 1 of 1 host: conflict"];
    assert_eq!(waits(&answer["waits"]), waiting);
    assert_eq!(answer["waits"][0]["from"]["hostname"], json!("n1"));
    assert_eq!(waits(&answer["bound"]), ["pin.service: it runs on that host only (MachineID=)"]);
    assert_eq!(answer["globals_lost"][0]["name"], json!("log.service"));
    assert_eq!((&answer["complete"], &answer["waited"]), (&json!(true), &Value::Null));
}

#[tokio::test]
async fn hosts_are_added_and_units_started() {
    let daemon = daemon().await;
    let answer = what_if(&daemon, json!({ "lose": [N1], "add": [{ "count": 2, "metadata": { "zone": "a" } }] })).await;
    assert_eq!(waits(&answer["waits"]), [""; 0]);
    let names: Vec<&Value> = answer["added"].as_array().unwrap().iter().map(|host| &host["hostname"]).collect();
    assert_eq!(names, ["new-1", "new-2"]);
    assert_eq!(answer["globals_gained"].as_array().unwrap().len(), 2);
    let start = |section: &str| json!([{ "name": "new.service", "text": file(section), "desired": "launched" }]);
    let answer = what_if(&daemon, json!({ "start": start("MachineMetadata=zone=b site=x") })).await;
    assert_eq!(moves(&answer), ["new.service - n2"]);
    let answer = what_if(&daemon, json!({ "start": start("MachineMetadata=zone=c") })).await;
    assert_eq!(waits(&answer["waits"]).len(), 1);
    let add = json!([{ "count": 1, "metadata": { "zone": "c" } }]);
    let added = json!({ "start": start("MachineMetadata=zone=c site=x"), "add": add });
    assert_eq!(moves(&what_if(&daemon, added).await), ["new.service - new-1"]);
    assert_eq!(daemon.get("/fleet/v2/units/new.service").await.status, 404, "nothing is stored");
}

#[tokio::test]
async fn each_loss_is_looked_at_alone() {
    let daemon = daemon().await;
    let answer = what_if(&daemon, json!({ "each": [[N2], [N1], [N1, N2]] })).await;
    assert_eq!((moves(&answer).len(), waits(&answer["waits"]).len()), (0, 0));
    let of = |at: usize| {
        let loss = &answer["each"][at];
        let hosts = loss["machines"].as_array().unwrap().len();
        format!("{hosts} hosts, {} units, {} move, {} wait", loss["units"], loss["moves"], waits(&loss["waits"]).len())
    };
    assert_eq!(of(0), "1 hosts, 1 units, 0 move, 1 wait");
    assert_eq!(of(1), "1 hosts, 4 units, 1 move, 2 wait");
    // The global unit has no host any more either.
    assert_eq!(of(2), "2 hosts, 5 units, 0 move, 5 wait");
}

#[tokio::test]
async fn what_cannot_be_supposed_is_refused() {
    let daemon = daemon().await;
    let unknown = "f".repeat(32);
    let many: Vec<Vec<&str>> = vec![vec![N1]; 501];
    for (supposed, why) in [
        (json!({ "lose": [unknown] }), format!("no host {unknown} is known")),
        (json!({ "each": [[N1], [unknown]] }), format!("no host {unknown} is known")),
        (json!({ "each": many }), "`each` has more than 500 losses: ask for fewer at once".into()),
        (json!({ "add": [{ "count": 600 }, { "count": 600 }] }), "more than 1000 hosts are added".into()),
        (
            json!({ "add": [{ "count": 1, "metadata": { "@arch": "arm64" } }] }),
            "`@arch` can't be set: each host reports what begins with @ by itself".into(),
        ),
    ] {
        let answer = daemon.send("POST", WHAT_IF, &supposed).await;
        assert_eq!((answer.status, answer.error()), (400, why));
    }
    let wrong = json!({ "start": [{ "name": "a.service", "text": file("Nonsense=1"), "desired": "launched" }] });
    let answer = daemon.send("POST", WHAT_IF, &wrong).await;
    assert!(answer.status == 400 && answer.text.contains("Nonsense"), "{}", answer.text);
    assert_eq!(daemon.send("POST", WHAT_IF, &json!({ "loose": [N1] })).await.status, 400);
    assert_eq!(daemon.send("POST", &format!("{WHAT_IF}?a=b"), &json!({})).await.status, 400);
    assert_eq!(daemon.get(WHAT_IF).await.status, 405);
}
