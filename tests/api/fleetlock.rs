//! FleetLock, by a client that knows nothing but the protocol's description: two operations, a header, two parameters,
//! 200 or an error with `kind` and `value`. Two hosts share a store; the daemon of each sees to its reboots.

use std::time::{Duration, Instant};

use flotilla::api::server::health::{self, Health};
use flotilla::api::server::listen::Listener;
use flotilla::api::server::serve;
use flotilla::api::server::state::{Api, Settings};
use flotilla::clock::Clock;
use flotilla::reboot::{Options, Rebooter};
use flotilla::systemd::fake::{self, Fake};
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::harness::{Daemon, Faulty, N1, N2};

const PRE: &str = "/v1/pre-reboot";
const STEADY: &str = "/v1/steady-state";

/// A host whose programs ask its daemon.
struct Host {
    store: Faulty,
    id: &'static str,
    name: &'static str,
    address: String,
    stop: CancellationToken,
}

/// What a client got.
type Answer = (u16, String, String);

impl Host {
    async fn start(store: &Faulty, id: &'static str, name: &'static str) -> Self {
        let listener = Listener::fleetlock("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.name.clone();
        let (health, asked) = health::channel(Health::Ready);
        let api = Api::new(store.clone(), Clock::system(), name, asked, Settings::default()).on(id.parse().unwrap());
        let stop = CancellationToken::new();
        tokio::spawn(serve(vec![listener], api, stop.clone().cancelled_owned()));
        let (ttl, clock) = (Duration::from_secs(10), Clock::system());
        let options = Options { id: id.parse().unwrap(), boot: "b".into(), ttl, clock };
        let rebooter = Rebooter::new(store.clone(), Fake::new(fake::Options::default()), options);
        let stopped = stop.clone();
        tokio::spawn(async move {
            let _kept = health;
            rebooter.run(stopped).await;
        });
        Self { store: store.clone(), id, name, address, stop }
    }

    /// Its daemon is restarted.
    async fn restart(self) -> Self {
        self.stop.cancel();
        Self::start(&self.store, self.id, self.name).await
    }

    async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let stream = TcpStream::connect(&self.address).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::copy_from_slice(body.as_bytes()))).unwrap();
        let response = sender.send_request(request).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        if status == 200 {
            return (status, String::new(), String::new());
        }
        let error: Value = serde_json::from_slice(&body).unwrap_or_else(|error| panic!("{status} {error}: {body:?}"));
        let word = |key: &str| error[key].as_str().unwrap_or_else(|| panic!("no {key}: {error}")).to_owned();
        (status, word("kind"), word("value"))
    }

    /// As the protocol has it, in the group `default`.
    async fn ask(&self, path: &str) -> Answer {
        self.ask_in("default", path).await
    }

    async fn ask_in(&self, group: &str, path: &str) -> Answer {
        let host = ("host", self.address.as_str());
        let body =
            json!({ "client_params": { "group": group, "id": format!("{}-as-its-program-calls-it", self.name) } });
        self.send("POST", path, &[host, ("fleet-lock-protocol", "true")], &body.to_string()).await
    }

    /// Ask until that is the answer.
    async fn until(&self, path: &str, expected: (u16, &str)) -> Answer {
        let (began, mut answer) = (Instant::now(), self.ask(path).await);
        while (answer.0, answer.1.as_str()) != expected {
            assert!(
                began.elapsed() < Duration::from_secs(30),
                "{}: {path} is to become {expected:?}: {answer:?}",
                self.name
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
            answer = self.ask(path).await;
        }
        answer
    }
}

/// Two hosts, of which nothing is asked, and the API of one of them.
async fn two() -> (Daemon, Host, Host) {
    let daemon = Daemon::start().await;
    daemon.machine(N1, "n1", &[]).await;
    daemon.machine(N2, "n2", &[]).await;
    let (n1, n2) = (Host::start(&daemon.store, N1, "n1").await, Host::start(&daemon.store, N2, "n2").await);
    (daemon, n1, n2)
}

async fn drain(daemon: &Daemon, host: &str) -> Value {
    let hosts = daemon.get("/fleet/v2/machines").await.json()["machines"].clone();
    let found = hosts.as_array().unwrap().iter().find(|view| view["id"] == json!(host)).cloned().unwrap();
    found["drain"].clone()
}

#[tokio::test]
async fn a_program_reboots_its_host_when_it_may_and_the_next_one_waits() {
    let (daemon, n1, n2) = two().await;
    // Nothing is held: a client begins with this.
    assert_eq!(n1.ask(STEADY).await.0, 200);
    let (status, kind, _) = n1.ask(PRE).await;
    assert_eq!((status, kind.as_str()), (409, "failed_lock_draining"));
    assert_eq!(drain(&daemon, N1).await["why"], json!("reboot, as a program on it has asked"));
    let (status, kind, value) = n2.ask(PRE).await;
    assert_eq!((status, kind.as_str()), (409, "failed_lock_semaphore_full"));
    assert!(value.starts_with("the slot of the group default is held by n1 since "), "{value}");
    assert_eq!(n1.until(PRE, (200, "")).await.0, 200);
    assert_eq!(n1.ask(PRE).await.0, 200, "asking again takes nothing more");
    // Its daemon is restarted before the host goes down.
    let n1 = n1.restart().await;
    assert_eq!(n1.ask(PRE).await.0, 200);
    assert_eq!(n2.ask(PRE).await.1, "failed_lock_semaphore_full");
    // What isn't held isn't released, whoever holds it.
    assert_eq!(n2.ask(STEADY).await.0, 200);
    assert_eq!(n2.ask(PRE).await.1, "failed_lock_semaphore_full");
    // It is back: also if its group has been changed meanwhile.
    assert_eq!(n1.ask_in("other", STEADY).await.0, 200);
    assert_eq!(n2.until(PRE, (409, "failed_lock_draining")).await.0, 409);
    assert_eq!(drain(&daemon, N1).await, Value::Null);
    let list = daemon.get("/fleet/v2/reboots").await.json()["reboots"].clone();
    assert_eq!((&list[0]["program"], &list[1]), (&json!("n2-as-its-program-calls-it"), &Value::Null));
}

#[tokio::test]
async fn of_two_hosts_that_ask_at_once_one_gets_the_slot() {
    let (daemon, n1, n2) = two().await;
    for round in 0..10 {
        let (first, second) = tokio::join!(n1.ask(PRE), n2.ask(PRE));
        let mut kinds = [first.1, second.1];
        kinds.sort();
        assert_eq!(kinds, ["failed_lock_draining", "failed_lock_semaphore_full"], "round {round}");
        for host in [N1, N2] {
            daemon.delete(&format!("/fleet/v2/reboots/{host}")).await;
        }
    }
    // In different groups, and with two slots, they don't wait for each other.
    assert_eq!(n1.ask_in("a", PRE).await.1, "failed_lock_draining");
    assert_eq!(n2.ask_in("b", PRE).await.1, "failed_lock_draining");
    for host in [N1, N2] {
        daemon.delete(&format!("/fleet/v2/reboots/{host}")).await;
    }
    daemon.send("POST", "/fleet/v2/settings", &json!({ "set": { "reboot-slots": "2" } })).await;
    assert_eq!(n1.ask(PRE).await.1, "failed_lock_draining");
    assert_eq!(n2.ask(PRE).await.1, "failed_lock_draining");
    // And with none, nobody may, whatever was taken before.
    daemon.delete(&format!("/fleet/v2/reboots/{N2}")).await;
    daemon.send("POST", "/fleet/v2/settings", &json!({ "set": { "reboot-slots": "0" } })).await;
    let (_, kind, value) = n2.ask(PRE).await;
    assert_eq!(kind, "failed_lock_semaphore_full");
    assert!(value.contains("held by n1"), "{value}");
    daemon.delete(&format!("/fleet/v2/reboots/{N1}")).await;
    assert_eq!(n2.ask(PRE).await.2, "no host may reboot (reboot-slots=0)");
}

#[tokio::test]
async fn a_window_that_closes_ends_nothing_that_has_begun() {
    let (daemon, n1, n2) = two().await;
    let open = |windows: &str| json!({ "set": { "reboot-windows": windows } });
    assert_eq!(daemon.send("POST", "/fleet/v2/settings", &open("always")).await.status, 200);
    assert_eq!(n1.ask(PRE).await.1, "failed_lock_draining");
    // A window of a minute that is never the present one.
    let minute = Clock::system().now_ms() / 60_000;
    let closed = format!("{:02}:{:02}/1min", (minute / 60 + 12) % 24, minute % 60);
    assert_eq!(daemon.send("POST", "/fleet/v2/settings", &open(&closed)).await.status, 200);
    assert_eq!(n1.until(PRE, (200, "")).await.0, 200);
    assert_eq!(n1.ask(STEADY).await.0, 200);
    let (status, kind, value) = n2.ask(PRE).await;
    assert_eq!((status, kind.as_str()), (409, "failed_lock_outside_window"));
    assert!(value.starts_with("no window for reboots is open (reboot-windows): the next window begins "), "{value}");
}

#[tokio::test]
async fn whoever_stays_away_keeps_its_slot_and_everybody_is_told() {
    let (daemon, n1, n2) = two().await;
    n1.until(PRE, (200, "")).await;
    // It is cut off from the store: it can't say that it is back.
    daemon.store.set_down(true);
    let (status, kind, value) = n1.ask(STEADY).await;
    assert!(status == 503 && kind == "unavailable" && value.contains("refuses connections"), "{value}");
    assert_eq!(n1.ask(PRE).await.0, 503);
    daemon.store.set_down(false);
    daemon.delete_raw(&format!("machine/{N1}")).await;
    daemon.write_raw(&format!("roster/{N1}"), br#"{"hostname":"n1","gone":{"since":840000}}"#).await;
    let (_, kind, value) = n2.ask(PRE).await;
    assert_eq!(kind, "failed_lock_semaphore_full");
    assert!(value.ends_with(", away since 00:14 UTC (`fleetctl forget n1` gives the slot up)"), "{value}");
    assert_eq!(daemon.delete(&format!("/fleet/v2/machines/{N1}")).await.status, 204);
    assert_eq!(n2.ask(PRE).await.1, "failed_lock_draining");
}

#[tokio::test]
async fn what_people_ask_comes_first_and_what_they_undo_is_not_rebooted() {
    let (daemon, n1, n2) = two().await;
    daemon.send("POST", "/fleet/v2/settings", &json!({ "set": { "reboot-slots": "0" } })).await;
    daemon.send("POST", "/fleet/v2/reboots", &json!({ "hosts": [N1] })).await;
    assert_eq!(n1.ask(PRE).await.1, "failed_lock_asked");
    // Its turn will come in the group of people.
    assert_eq!(n1.ask_in("rack", PRE).await.1, "failed_lock_asked");
    assert_eq!(n1.ask(STEADY).await.0, 200);
    assert_eq!(n1.ask(PRE).await.1, "failed_lock_asked", "a program doesn't undo what a person has asked");
    daemon.delete(&format!("/fleet/v2/reboots/{N1}")).await;
    daemon.send("POST", "/fleet/v2/settings", &json!({ "set": { "reboot-slots": "1" } })).await;
    n2.until(PRE, (200, "")).await;
    // A person undrains it, although its program may reboot it at any moment: then it is drained again first.
    daemon.send("POST", "/fleet/v2/machines", &json!({ "ask": "undrain", "hosts": [N2] })).await;
    assert_eq!(drain(&daemon, N2).await, Value::Null);
    assert_eq!(n1.ask(PRE).await.1, "failed_lock_semaphore_full", "the slot is kept meanwhile");
    assert_eq!(n2.ask(PRE).await.1, "failed_lock_draining");
    assert_ne!(drain(&daemon, N2).await, Value::Null);
    assert_eq!(n2.until(PRE, (200, "")).await.0, 200);
}

#[tokio::test]
async fn what_is_not_the_protocol_is_refused() {
    let (_daemon, n1, _n2) = two().await;
    let (host, header) = (("host", n1.address.as_str()), ("fleet-lock-protocol", "true"));
    let good = r#"{"client_params":{"id":"a","group":"default"}}"#;
    let long = format!(r#"{{"client_params":{{"id":"{}","group":"default"}}}}"#, "a".repeat(257));
    let group = "a group has 1 to 64 letters, digits, dots and dashes";
    let check = async |method: &str, path: &str, headers: &[(&str, &str)], body: &str, status: u16, value: &str| {
        let answer = n1.send(method, path, headers, body).await;
        assert!(answer.0 == status && answer.2.contains(value), "{method} {path} {headers:?} {body}: {answer:?}");
    };
    for path in [PRE, STEADY] {
        check("POST", path, &[host], good, 400, "the header `fleet-lock-protocol: true` is missing").await;
        check("POST", path, &[host, ("fleet-lock-protocol", "yes")], good, 400, "is missing").await;
        check("POST", path, &[host, header], "{", 400, "can't read the parameters of the client: EOF").await;
        check("POST", path, &[host, header], "{}", 400, "missing field `client_params`").await;
        let nameless = r#"{"client_params":{"id":"","group":"default"}}"#;
        check("POST", path, &[host, header], nameless, 400, "`id` must have 1 to 256 bytes").await;
        check("POST", path, &[host, header], &long, 400, "`id` must have 1 to 256 bytes").await;
        check("POST", path, &[host, header], r#"{"client_params":{"id":"a","group":"a b"}}"#, 400, group).await;
        check("POST", path, &[host, header], r#"{"client_params":{"id":"a","group":""}}"#, 400, group).await;
        check("GET", path, &[host, header], "", 405, "only POST is supported here").await;
        // A web page under a name that points to loopback.
        check("POST", path, &[("host", "evil.example"), header], good, 403, "isn't this host").await;
    }
    check("POST", "/v1/other", &[host, header], good, 404, "there are /v1/pre-reboot and /v1/steady-state").await;
    check("GET", "/fleet/v2/units", &[host], "", 404, "there are /v1/pre-reboot").await;
}
