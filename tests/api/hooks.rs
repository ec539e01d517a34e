//! Hooks of rollouts: what is refused, that they aren't started with the batch that names them, and how they are shown.

use flotilla::model::unit::Target;
use serde_json::{Value, json};

use crate::harness::{Daemon, FILE, N1, N2};

const ONCE: &str = "[Service]\nType=oneshot\nExecStart=/bin/true\n";

/// The file of a set of two with these hooks.
fn web(hooks: &str) -> String {
    format!("{FILE}[X-Fleet]\nReplicas=2\n[X-Rollout]\n{hooks}\n")
}

#[tokio::test]
async fn what_can_be_no_hook_is_refused_with_its_line() {
    let daemon = Daemon::start().await;
    let stays = format!("{ONCE}RemainAfterExit=yes\n");
    daemon
        .apply(json!([
            { "name": "once.service", "text": ONCE },
            { "name": "stays.service", "text": stays },
            { "name": "long.service", "text": FILE },
            { "name": "all.service", "text": format!("{ONCE}[X-Fleet]\nGlobal=yes\n") },
        ]))
        .await;
    for (hooks, expected) in [
        ("Before=none.service", "8: `Before=none.service`: there is no such unit here or in the cluster"),
        ("After=long.service", "8: `After=long.service`: Type=oneshot is needed, or it never ends"),
        ("Before=stays.service", "8: `Before=stays.service`: RemainAfterExit=yes never ends"),
        ("Before=all.service", "8: `Before=all.service`: it is global, and can't run once"),
        ("Before=m@.service", "8: `Before=m@.service`: m@.service is a template; name an instance"),
        ("Before=web@1.service", "8: `Before=` names web@1.service, a member of this very set"),
    ] {
        let refused = daemon.refuse(json!([{ "name": "web@.service", "text": web(hooks) }])).await;
        assert_eq!(refused, [format!("web@.service:{expected}")]);
    }
    // Two are wrong, and one of them is destroyed with the same request.
    let wrong = daemon
        .refuse(json!([
            { "name": "once.service", "destroy": true },
            { "name": "web@.service", "text": web("Before=once.service none.service") },
        ]))
        .await;
    assert_eq!(
        wrong,
        [
            "web@.service:8: `Before=once.service`: it is destroyed with this request",
            "web@.service:8: `Before=none.service`: there is no such unit here or in the cluster",
        ]
    );
    // One that is new with the same request will do, and what isn't new is no longer asked for.
    let both = json!([
        { "name": "web@.service", "text": web("Before=new.service once.service"), "desired": "launched" },
        { "name": "new.service", "text": ONCE },
    ]);
    daemon.apply(both.clone()).await;
    daemon.apply(json!([{ "name": "new.service", "destroy": true }])).await;
    daemon.apply(json!([both[0]])).await;
}

#[tokio::test]
async fn a_hook_is_not_started_with_the_batch_that_names_it() {
    let daemon = Daemon::start().await;
    let batch = |file: &str| {
        json!([
            { "name": "web@.service", "text": web("Before=once.service"), "desired": "launched", "replace": true },
            { "name": "once.service", "text": file, "desired": "launched", "replace": true },
        ])
    };
    let desired = async |name: &str| daemon.get(&format!("/fleet/v2/units/{name}")).await.json()["desired"].clone();
    daemon.apply(batch(ONCE)).await;
    assert_eq!((desired("once.service").await, desired("web@1.service").await), (json!("inactive"), json!("launched")));
    daemon.apply(batch(&format!("{ONCE}# another\nUser=web\n"))).await;
    assert_eq!(desired("once.service").await, "inactive");
    // Somebody who names it alone starts it.
    daemon.apply(json!([{ "name": "once.service", "desired": "launched" }])).await;
    assert_eq!(desired("once.service").await, "launched");
}

#[tokio::test]
async fn a_rollout_can_be_asked_for_without_its_hooks() {
    let daemon = Daemon::start().await;
    daemon.apply(json!([{ "name": "once.service", "text": ONCE }])).await;
    daemon.apply(json!([{ "name": "web@.service", "text": web("Before=once.service") }])).await;
    let record = async || -> Value { serde_json::from_slice(&daemon.read_raw("unit/web@.service").await).unwrap() };
    assert_eq!(record().await["without_hooks"], Value::Null);
    let written = daemon.get("/fleet/v2/units/web@.service").await.json()["revision"].clone();
    let file = web("Before=once.service\nParallel=2");
    let back = json!([{ "name": "web@.service", "text": file, "replace": true, "revision": written, "hooks": false }]);
    daemon.apply(back).await;
    assert_eq!(record().await["without_hooks"], true);
    // It is for this file.
    daemon.apply(json!([{ "name": "web@.service", "replicas": 3 }])).await;
    assert_eq!(record().await["without_hooks"], true);
    daemon.apply(json!([{ "name": "web@.service", "text": web("Before=once.service"), "replace": true }])).await;
    assert_eq!(record().await["without_hooks"], Value::Null);
    let alone = json!([{ "name": "web@.service", "text": file, "replace": true, "hooks": false }]);
    assert_eq!(daemon.refuse(alone).await, ["web@.service: `hooks` goes with `replace` and `revision`"]);
}

#[tokio::test]
async fn a_rollout_shows_the_hooks_that_it_has_run() {
    let daemon = Daemon::start().await;
    daemon.machine(N1, "n1", &[]).await;
    daemon.machine(N2, "n2", &[]).await;
    daemon.apply(json!([{ "name": "a.service", "text": ONCE }, { "name": "b.service", "text": ONCE }])).await;
    daemon.apply(json!([{ "name": "web@.service", "text": web("Before=a.service b.service") }])).await;
    let target = daemon.get("/fleet/v2/units/web@.service").await.json()["hash"].clone();
    let rollout = json!({
        "target": target, "from": { "hash": "abc" }, "phase": "before", "since": 7, "began": 5, "heeded": 0,
        "hooks": [
            { "unit": "a.service", "generation": 9, "since": 8, "host": N2, "took": 3450 },
            { "unit": "b.service", "generation": 9, "since": 11 },
        ],
    });
    daemon.write_raw("rollout/web@.service", rollout.to_string().as_bytes()).await;
    daemon.place("b.service", N1, Target::Launched).await;
    let view = daemon.get("/fleet/v2/rollouts/web@.service").await.json();
    let hook = |index: usize| {
        let hook = &view["hooks"][index];
        (hook["name"].clone(), hook["machine"]["hostname"].clone(), hook["took"].clone())
    };
    assert_eq!(view["hooks"].as_array().unwrap().len(), 2, "{view}");
    assert_eq!(hook(0), (json!("a.service"), json!("n2"), json!(3450)));
    assert_eq!(hook(1), (json!("b.service"), json!("n1"), Value::Null));
    assert_eq!((&view["phase"], &view["accepts"]), (&json!("before"), &json!(["pause"])));
}
