//! Which units would be better on other hosts, and that they are asked to move. There is no engine, so that none moves.

use serde_json::{Value, json};

use crate::harness::{Daemon, N1, N2};

const REBALANCE: &str = "/fleet/v2/rebalance";
const MOVES: &str = "/fleet/v2/moves";
const FILE: &str = "[Service]\nExecStart=/bin/true\n";

/// Units on the first of two hosts.
async fn daemon(units: &[&str]) -> Daemon {
    let daemon = Daemon::start().await;
    daemon.machine(N1, "n1", &[]).await;
    for unit in units {
        daemon.apply(json!([{ "name": unit, "text": FILE, "desired": "launched" }])).await;
        daemon.runs(unit, N1).await;
    }
    daemon.machine(N2, "n2", &[]).await;
    daemon
}

fn moves(answer: &Value) -> Vec<(String, &str)> {
    let moves = answer["moves"].as_array().unwrap();
    let host = |machine: &Value| machine["hostname"].as_str().unwrap().to_owned();
    let one = |it: &Value| -> String {
        format!("{} {} -> {}", it["units"][0].as_str().unwrap(), host(&it["from"]), host(&it["to"]))
    };
    moves.iter().map(|it: &Value| (one(it), it["why"].as_str().unwrap())).collect()
}

#[tokio::test]
async fn what_would_be_better_is_told_and_moved_as_it_was_told() {
    let daemon = daemon(&["a.service", "b.service", "c.service", "d.service"]).await;
    let answer = daemon.get(REBALANCE).await.json();
    let both = [("a.service n1 -> n2".to_owned(), "units 1 < 4"), ("b.service n1 -> n2".to_owned(), "units 2 < 3")];
    assert_eq!(moves(&answer), both);
    let counts = |answer: &Value, at: usize| (answer["hosts"][at]["now"].clone(), answer["hosts"][at]["then"].clone());
    assert_eq!((counts(&answer, 0), counts(&answer, 1)), ((4.into(), 2.into()), (0.into(), 2.into())), "{answer}");
    let first = daemon.get(&format!("{REBALANCE}?max_moves=1")).await.json();
    assert_eq!((moves(&first), &first["all"]), (both[..1].to_vec(), &json!(2)));
    let named = daemon.get(&format!("{REBALANCE}?name=c*&name=d*&max_moves=1")).await.json();
    assert_eq!(moves(&named), [("c.service n1 -> n2".to_owned(), "units 1 < 4")]);
    let each = json!({ "each": { "a.service": N2, "b.service": N2 } });
    let plan = daemon.send("POST", "/fleet/v2/plan", &json!({ "moves": each })).await.json();
    assert_eq!(plan["units"].as_array().unwrap().len(), 2, "{plan}");
    let asked = daemon.send("POST", MOVES, &each).await;
    assert_eq!(asked.status, 200, "{}", asked.text);
    let to: Vec<Value> =
        asked.json()["units"].as_array().unwrap().iter().map(|unit| unit["to"]["hostname"].clone()).collect();
    assert_eq!(to, ["n2", "n2"]);
    let record: Value = serde_json::from_slice(&daemon.read_raw("unit/b.service").await).unwrap();
    assert_eq!((&record["move"]["from"], &record["move"]["to"]), (&json!(N1), &json!(N2)));
    assert_eq!(moves(&daemon.get(REBALANCE).await.json()), [], "as if it had been done");
}

#[tokio::test]
async fn what_is_not_understood_or_not_known_is_refused() {
    let daemon = daemon(&["a.service", "b.service"]).await;
    for (query, why) in [
        ("?max_moves=x", "`max_moves` is a number"),
        ("?max_moves=1&max_moves=2", "`max_moves` is given once"),
        ("?names=a", "unknown query parameter `names`; `name` and `max_moves` are known"),
    ] {
        let answer = daemon.get(&format!("{REBALANCE}{query}")).await;
        assert_eq!((answer.status, answer.error()), (400, why.to_owned()));
    }
    let unknown = "1".repeat(32);
    for (body, why) in [
        (json!({ "each": { "a.service": unknown } }), format!("no host {unknown} is known")),
        (json!({ "units": [] }), "no unit is named".to_owned()),
        (json!({ "each": { "a.service": N2, "x.service": N2 } }), "move x.service: there is no such unit".to_owned()),
    ] {
        let answer = daemon.send("POST", MOVES, &body).await;
        assert_eq!(answer.status, 400, "{}", answer.text);
        assert!(answer.error().starts_with(&why), "{}", answer.error());
    }
    let still = [("a.service n1 -> n2".to_owned(), "units 1 < 2")];
    assert_eq!(moves(&daemon.get(REBALANCE).await.json()), still, "nothing was asked");
}
