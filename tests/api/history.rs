//! The texts that units have and had, and which of them were replaced in one batch.

use serde_json::{Value, json};

use crate::harness::{Daemon, FILE};

async fn history(daemon: &Daemon, unit: &str) -> Value {
    daemon.get(&format!("/fleet/v2/units/{unit}/history")).await.json()
}

/// A batch that gives each of these units the text `text`, with a comment that names the unit.
fn replaced(units: &[&str], text: &str) -> Value {
    let one = |unit: &&str| json!({ "name": unit, "text": format!("# {unit}\n{FILE}{text}"), "replace": true });
    units.iter().map(one).collect()
}

fn numbers(history: &Value) -> Vec<u64> {
    let former = history["revisions"].as_array().unwrap().iter();
    std::iter::once(&history["present"]).chain(former).filter_map(|one| one["revision"].as_u64()).collect()
}

#[tokio::test]
async fn the_present_text_has_the_next_number_and_its_beginning() {
    let daemon = Daemon::start().await;
    daemon.apply(replaced(&["a.service"], "")).await;
    let first = history(&daemon, "a.service").await;
    let present = &first["present"];
    assert_eq!((numbers(&first), &present["text"]), (vec![1], &format!("# a.service\n{FILE}").into()));
    let (since, author) = (present["since"].clone(), present["author"].clone());
    assert!(since.as_u64().is_some_and(|at| at > 0) && author["uid"].is_number(), "{first}");
    // A new unit has no history, and what changes nothing of its text has none either.
    daemon.apply(json!([{ "name": "a.service", "desired": "loaded" }])).await;
    let loaded = history(&daemon, "a.service").await;
    assert!(loaded["present"]["written"].as_u64() > present["written"].as_u64());
    assert_eq!((numbers(&loaded), &loaded["present"]["since"]), (vec![1], &since));
    for text in ["Environment=A=1\n", "Environment=A=2\n", ""] {
        daemon.apply(replaced(&["a.service"], text)).await;
    }
    let now = history(&daemon, "a.service").await;
    assert_eq!((numbers(&now), &now["present"]["hash"]), (vec![4, 3, 2, 1], &now["revisions"][2]["hash"]));
    assert_eq!(now["present"]["since"], now["revisions"][0]["until"]);
    assert_eq!((&now["revisions"][2]["since"], &now["revisions"][2]["author"]), (&since, &author));
    assert_eq!(now["present"]["written"], daemon.get("/fleet/v2/units/a.service").await.json()["revision"]);
    // Each of them was replaced alone.
    assert!(now["revisions"].as_array().unwrap().iter().all(|former| former.get("batch").is_none()), "{now}");
}

#[tokio::test]
async fn an_older_daemons_history_is_read() {
    let daemon = Daemon::start().await;
    daemon.apply(replaced(&["a.service"], "")).await;
    let old = json!({ "revisions": [
        { "n": 4, "hash": "3750b3e9", "until": 50, "by": { "uid": 7 } },
        { "n": 5, "hash": "5b1e0b2f", "until": 70, "by": { "uid": 8 } },
    ]});
    daemon.write_raw("history/a.service", old.to_string().as_bytes()).await;
    let now = history(&daemon, "a.service").await;
    assert_eq!(numbers(&now), [6, 5, 4]);
    assert_eq!((&now["present"]["since"], &now["present"]["author"]["uid"]), (&70.into(), &8.into()));
    assert_eq!((&now["revisions"][0]["since"], &now["revisions"][0]["author"]["uid"]), (&50.into(), &7.into()));
    assert!(now["revisions"][1].get("since").is_none(), "{now}");
}

#[tokio::test]
async fn units_that_were_replaced_together_name_each_other() {
    let daemon = Daemon::start().await;
    let three = ["web@.service", "image@.service", "log@.service"];
    daemon.apply(replaced(&three, "")).await;
    daemon.apply(replaced(&["image@.service"], "Environment=A=1\n")).await;
    // The answer of the first attempt is lost, and that attempt wasn't done.
    daemon.store.conflict(1);
    let mut batch = replaced(&three, "Environment=A=2\n");
    batch.as_array_mut().unwrap().push(json!({ "name": "new.service", "text": FILE }));
    daemon.apply(batch).await;
    let batch = async |unit: &str| history(&daemon, unit).await["revisions"][0]["batch"].clone();
    let of = |with: [&str; 2]| json!({ "unit": "web@.service", "revision": 1, "with": with });
    assert_eq!(batch("web@.service").await, of(["image@.service", "log@.service"]));
    assert_eq!(batch("image@.service").await, of(["web@.service", "log@.service"]));
    assert_eq!(batch("log@.service").await, of(["web@.service", "image@.service"]));
    assert_eq!(numbers(&history(&daemon, "image@.service").await), [3, 2, 1]);
    assert_eq!(numbers(&history(&daemon, "new.service").await), [1]);
    // What was done although the answer was lost is the same batch.
    daemon.store.lose_answers(1);
    daemon.apply(replaced(&three, "Environment=A=3\n")).await;
    assert_eq!(batch("log@.service").await["revision"], 2);
}

#[tokio::test]
async fn a_batch_of_several_transactions_is_one() {
    let daemon = Daemon::start().await;
    let names: Vec<String> = (0..90).map(|n| format!("u{n:02}.service")).collect();
    let units: Vec<&str> = names.iter().map(String::as_str).collect();
    daemon.apply(replaced(&units, "")).await;
    let before = daemon.store.commits();
    daemon.apply(replaced(&units, "Environment=A=1\n")).await;
    assert!(daemon.store.commits() > before + 1, "it fits one transaction");
    for unit in ["u00.service", "u89.service"] {
        let batch = history(&daemon, unit).await["revisions"][0]["batch"].clone();
        assert_eq!((&batch["unit"], batch["with"].as_array().unwrap().len()), (&"u00.service".into(), 89), "{batch}");
    }
    // The first one's history no longer says: what the others were together with isn't known.
    daemon.write_raw("history/u00.service", br#"{"revisions":[]}"#).await;
    let batch = history(&daemon, "u89.service").await["revisions"][0]["batch"].clone();
    assert_eq!(batch, json!({ "unit": "u00.service", "revision": 1 }));
}

/// What goes back together is changed together, or not at all.
#[tokio::test]
async fn a_batch_goes_back_only_if_none_of_its_units_was_changed_meanwhile() {
    let daemon = Daemon::start().await;
    let two = ["a.service", "b@.service"];
    daemon.apply(replaced(&two, "")).await;
    daemon.apply(replaced(&two, "Environment=A=1\n")).await;
    let mut back = Vec::new();
    for unit in two {
        let history = history(&daemon, unit).await;
        let (text, written) = (&history["revisions"][0]["text"], &history["present"]["written"]);
        back.push(json!({ "name": unit, "text": text, "replace": true, "revision": written }));
    }
    daemon.apply(replaced(&["b@.service"], "Environment=A=2\n")).await;
    let refused = daemon.refuse(Value::from(back)).await;
    assert_eq!(refused, ["b@.service: somebody else has changed it meanwhile"]);
    assert_eq!(numbers(&history(&daemon, "a.service").await), [2, 1]);
    assert_eq!(numbers(&history(&daemon, "b@.service").await), [3, 2, 1]);
}
