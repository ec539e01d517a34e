//! Clients that are slow, large, or don't speak HTTP: each is answered if it can be, and none harms another.

use std::time::Duration;

use flotilla::api::server::health::{self, Health};

use flotilla::api::server::places::Limits;
use flotilla::api::server::serve;
use flotilla::api::server::state::{Api, Settings};
use flotilla::clock::Clock;
use flotilla::store::embedded::Embedded;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};

use crate::description;
use crate::harness::{Daemon, FILE, listen};

const SHORT: Duration = Duration::from_millis(100);

/// Longer than anything here takes: a test that gets there hangs.
const HANG: Duration = Duration::from_secs(30);

/// Everything that comes until the server hangs up.
async fn all(stream: &mut UnixStream) -> String {
    let mut answer = String::new();
    let read = tokio::time::timeout(HANG, stream.read_to_string(&mut answer)).await;
    read.expect("the server hangs up").unwrap();
    answer
}

/// One answer on a connection that stays open: status and body.
async fn one(stream: &mut UnixStream) -> (u16, String) {
    let mut read = Vec::new();
    let whole = async {
        loop {
            let text = String::from_utf8_lossy(&read).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length =
                    head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
                if body.len() >= length.unwrap_or(0) {
                    return (head[9..12].parse().unwrap(), body.to_owned());
                }
            }
            let mut chunk = [0; 4096];
            let count = stream.read(&mut chunk).await.unwrap();
            assert!(count > 0, "the server hangs up after {text:?}");
            read.extend(&chunk[..count]);
        }
    };
    tokio::time::timeout(HANG, whole).await.expect("an answer comes")
}

/// An error's message, from an answer as it was sent.
fn message(answer: &str, status: u16) -> String {
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    assert!(answer.to_lowercase().contains("\r\nconnection: close\r\n"), "{answer}");
    let body: serde_json::Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    description::check("ErrorBody", &body);
    assert_eq!(body["error"]["code"], status);
    body["error"]["message"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_head_that_never_ends_is_answered() {
    let daemon = Daemon::start_with(Settings { head_timeout: SHORT, ..Settings::default() }).await;
    let mut stream = UnixStream::connect(&daemon.socket).await.unwrap();
    stream.write_all(b"GET /fleet/v1/units HTTP/1.1\r\nHos").await.unwrap();
    assert_eq!(message(&all(&mut stream).await, 408), "the request's head hasn't come within 100ms");
    // The second request of a connection has as long.
    let mut stream = UnixStream::connect(&daemon.socket).await.unwrap();
    stream.write_all(b"GET /fleet/v1/units HTTP/1.1\r\nHost: x\r\n\r\nGET /fl").await.unwrap();
    let both = all(&mut stream).await;
    assert!(both.starts_with("HTTP/1.1 200 ") && both.contains("HTTP/1.1 408 "), "{both}");
}

#[tokio::test]
async fn an_idle_connection_is_closed_without_a_word() {
    let daemon = Daemon::start_with(Settings { head_timeout: SHORT, ..Settings::default() }).await;
    let mut stream = UnixStream::connect(&daemon.socket).await.unwrap();
    assert_eq!(all(&mut stream).await, "");
    let mut stream = UnixStream::connect(&daemon.socket).await.unwrap();
    stream.write_all(b"GET /fleet/v1/units HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let answer = all(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && !answer.contains("408"), "{answer}");
}

#[tokio::test]
async fn a_body_that_trickles_is_answered() {
    let daemon = Daemon::start_with(Settings { body_timeout: SHORT, ..Settings::default() }).await;
    let mut stream = UnixStream::connect(&daemon.socket).await.unwrap();
    stream.write_all(b"POST /fleet/v2/units HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{").await.unwrap();
    assert_eq!(message(&all(&mut stream).await, 408), "the request's body hasn't come within 100ms");
}

#[tokio::test]
async fn a_batch_that_is_too_large_hears_the_limit_and_the_connection_goes_on() {
    let daemon = Daemon::start().await;
    let units: Vec<_> = (0..25)
        .map(|n| json!({ "name": format!("u{n}.service"), "text": format!("{FILE}#{}", "x".repeat(200_000)) }))
        .collect();
    let body = json!({ "units": units }).to_string();
    assert!(body.len() > 4 * 1024 * 1024);
    let mut stream = UnixStream::connect(&daemon.socket).await.unwrap();
    let head = |length: usize| {
        format!(
            "POST /fleet/v2/units HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n"
        )
    };
    for _ in 0..2 {
        // All of it is sent, by a client that doesn't listen meanwhile.
        stream.write_all(format!("{}{body}", head(body.len())).as_bytes()).await.unwrap();
        let (status, answer) = one(&mut stream).await;
        assert_eq!(status, 413);
        let told =
            "the request is larger than the limit of 4 MiB (4194304 bytes) allows; send the units in several requests";
        assert!(answer.contains(told), "{answer}");
    }
    let good = json!({ "units": [{ "name": "a.service", "text": FILE }] }).to_string();
    stream.write_all(format!("{}{good}", head(good.len())).as_bytes()).await.unwrap();
    assert_eq!(one(&mut stream).await.0, 200);
}

#[tokio::test]
async fn who_asks_before_sending_too_much_is_answered_before_it_does() {
    let daemon = Daemon::start().await;
    let mut stream = UnixStream::connect(&daemon.socket).await.unwrap();
    let head = "POST /fleet/v2/units HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5000000\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let answer = all(&mut stream).await;
    assert!(message(&answer, 413).contains("4 MiB"), "{answer}");
    // Nobody waits for the end of what would take a day.
    let mut stream = UnixStream::connect(&daemon.socket).await.unwrap();
    let head = "POST /fleet/v2/units HTTP/1.1\r\nHost: x\r\nContent-Length: 500000000000\r\n\r\n{";
    stream.write_all(head.as_bytes()).await.unwrap();
    assert!(message(&all(&mut stream).await, 413).contains("4 MiB"));
}

#[tokio::test]
async fn what_is_no_http_is_answered_and_hung_up_on() {
    let daemon = Daemon::start().await;
    let long = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(100_000));
    let heavy = format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "a".repeat(500_000));
    let many = format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "X: y\r\n".repeat(200));
    for (sent, status) in [
        (&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a TLS client\r\n\r\n"[..], 400),
        (b"hello\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\n\r\n", 400),
        (b"GET /fleet/v1/units HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"POST /fleet/v2/units HTTP/1.1\r\nHost: x\r\nContent-Length: many\r\n\r\n", 400),
        (b"POST /fleet/v2/units HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}", 400),
        (
            b"POST /fleet/v2/units HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\
              Content-Type: application/json\r\n\r\nzz\r\n",
            400,
        ),
        (long.as_bytes(), 414),
        (heavy.as_bytes(), 431),
        (many.as_bytes(), 431),
    ] {
        let mut stream = UnixStream::connect(&daemon.socket).await.unwrap();
        // It may hang up before all of it is sent.
        let _ = stream.write_all(sent).await;
        let mut answer = Vec::new();
        let _ = tokio::time::timeout(HANG, stream.read_to_end(&mut answer)).await.expect("the server hangs up");
        let answer = String::from_utf8(answer).unwrap();
        let shown = String::from_utf8_lossy(&sent[..sent.len().min(60)]).into_owned();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{shown:?}: {answer:?}");
    }
    assert_eq!(daemon.get("/fleet/v1/units").await.status, 200);
}

#[tokio::test]
async fn a_client_that_reads_nothing_of_its_watch_is_hung_up_on() {
    let settings = Settings { patience: SHORT, heartbeat: Duration::from_millis(1), ..Settings::default() };
    let daemon = Daemon::start_with(settings).await;
    let mut stream = UnixStream::connect(&daemon.socket).await.unwrap();
    stream.write_all(b"GET /fleet/v2/watch HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut first = [0; 12];
    stream.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    assert!(daemon.metrics.text().contains("fleet_api_watches 1\n"));
    // More than sockets and queues take.
    let fill = async {
        let mut round = 0;
        while daemon.metrics.text().contains("fleet_api_watches 1\n") {
            let text = format!("{FILE}Environment=R={round}\n");
            let unit = |n: usize| json!({ "name": format!("u{n}.service"), "text": text, "replace": true });
            daemon.apply(json!((0..200).map(unit).collect::<Vec<_>>())).await;
            round += 1;
        }
    };
    tokio::time::timeout(HANG, fill).await.expect("the watch ends");
}

fn bounded(limits: Limits) -> Settings {
    Settings { limits, ..Settings::default() }
}

async fn send(daemon: &Daemon, text: &str) -> UnixStream {
    let mut stream = UnixStream::connect(&daemon.socket).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    stream
}

/// Slow heads, slow bodies and idle connections, three times as many as there may be.
#[tokio::test]
async fn connections_without_a_request_give_way_to_new_ones() {
    let limits = Limits { connections: 10, requests: 2, watches: 2, sidecar_watches: 2, ..Limits::default() };
    let daemon = Daemon::start_with(bounded(limits)).await;
    let mut watch = send(&daemon, "GET /fleet/v2/watch HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let mut first = [0; 12];
    watch.read_exact(&mut first).await.unwrap();
    let mut slow = Vec::new();
    for head in ["", "GET /fle", "POST /fleet/v2/units HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{"] {
        for _ in 0..10 {
            slow.push(send(&daemon, head).await);
        }
        assert_eq!(daemon.get("/fleet/v1/units").await.status, 200, "{head:?}");
        assert_eq!(daemon.get("/metrics").await.status, 200, "{head:?}");
    }
    assert_eq!(all(&mut slow[0]).await, "", "the oldest is closed");
    // The watch went on.
    daemon.apply(json!([{ "name": "a.service", "text": FILE }])).await;
    let mut seen = String::new();
    let told = async {
        while !seen.contains("a.service") {
            let mut chunk = [0; 4096];
            let count = watch.read(&mut chunk).await.unwrap();
            assert!(count > 0, "the watch ended after {seen:?}");
            seen.push_str(&String::from_utf8_lossy(&chunk[..count]));
        }
    };
    tokio::time::timeout(HANG, told).await.expect("the watch tells of the unit");
}

#[tokio::test]
async fn watches_and_sidecars_and_requests_have_places_of_their_own() {
    let limits = Limits { watches: 1, sidecar_watches: 1, requests: 1, ..Limits::default() };
    let daemon = Daemon::start_with(bounded(limits)).await;
    let held = |path: &'static str| daemon.open("GET", path, &[], b"");
    let (watch, sidecar) = (held("/fleet/v2/watch").await, held("/fleet/v2/watch/services").await);
    assert_eq!((watch.status().as_u16(), sidecar.status().as_u16()), (200, 200));
    let refused = daemon.get("/fleet/v2/watch").await;
    let why = "1 watches of units are open on this socket, and more are not possible; try again later";
    assert_eq!((refused.status, refused.error()), (503, why.into()));
    for path in ["/fleet/v2/watch/services", "/fleet/v2/watch?name=a.service&host=3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a"] {
        let refused = daemon.get(path).await;
        assert_eq!((refused.status, refused.error().contains("watches of sidecars are open")), (503, true), "{path}");
    }
    // One that hangs takes the only place of a request.
    daemon.store.set_hangs(true);
    let hangs = send(&daemon, "GET /fleet/v1/units HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let full = async { while !daemon.get("/fleet/v1/machines").await.error().contains("requests are under way") {} };
    tokio::time::timeout(HANG, full).await.expect("a request is refused");
    assert_eq!(daemon.get("/metrics").await.status, 200);
    daemon.store.set_hangs(false);
    drop((watch, sidecar, hangs));
    let free = async {
        while daemon.open("GET", "/fleet/v2/watch", &[], b"").await.status() != 200 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(HANG, free).await.expect("a place is free again");
}

#[tokio::test]
async fn bodies_take_so_many_bytes_together() {
    let daemon = Daemon::start_with(bounded(Limits { body_bytes: 1000, ..Limits::default() })).await;
    let head = |length: usize| {
        format!(
            "POST /fleet/v2/units HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n"
        )
    };
    let large = send(&daemon, &format!("{}{}", head(901), "x".repeat(900))).await;
    let told = "the bodies of requests under way take all of the 1000 bytes there are for them; try again later";
    let body = json!({ "units": [{ "name": "a.service", "text": format!("{FILE}#{}", "x".repeat(200)) }] }).to_string();
    let full = async {
        loop {
            let mut answer = send(&daemon, &format!("{}{body}", head(body.len()))).await;
            let (status, text) = one(&mut answer).await;
            if status == 503 {
                return text;
            }
        }
    };
    assert!(tokio::time::timeout(HANG, full).await.expect("a body is refused").contains(told));
    // What has no body, or a small one, has room.
    assert_eq!(daemon.get("/fleet/v1/units").await.status, 200);
    assert_eq!(daemon.apply(json!([])).await["units"], json!([]));
    drop(large);
    let free = async { while one(&mut send(&daemon, &format!("{}{body}", head(body.len()))).await).await.0 != 200 {} };
    tokio::time::timeout(HANG, free).await.expect("there is room again");
}

/// Who fills one socket leaves the others alone.
#[tokio::test]
async fn each_listener_has_places_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fleet.sock");
    let tcp = listen("tcp://127.0.0.1:0").await.unwrap();
    let address = tcp.name.clone();
    let unix = listen(&format!("unix://{}", path.display())).await.unwrap();
    let (_health, asked) = health::channel(Health::Ready);
    let settings = bounded(Limits { watches: 1, ..Limits::default() });
    let api = Api::new(Embedded::in_memory(), Clock::system(), "n1", asked, settings);
    let serving = tokio::spawn(serve(vec![tcp, unix], api, std::future::pending()));
    let request = b"GET /fleet/v2/watch HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut status = [0; 12];
    let mut held = Vec::new();
    for expected in [b"HTTP/1.1 200", b"HTTP/1.1 503"] {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        stream.write_all(request).await.unwrap();
        stream.read_exact(&mut status).await.unwrap();
        assert_eq!(&status, expected);
        held.push(stream);
    }
    let mut stream = UnixStream::connect(&path).await.unwrap();
    stream.write_all(request).await.unwrap();
    stream.read_exact(&mut status).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 200");
    serving.abort();
}

#[tokio::test]
async fn a_daemon_that_stops_waits_only_so_long_for_requests_under_way() {
    let mut daemon = Daemon::start_with(Settings { grace: SHORT, ..Settings::default() }).await;
    daemon.store.set_hangs(true);
    let mut stream = UnixStream::connect(&daemon.socket).await.unwrap();
    stream.write_all(b"GET /fleet/v1/units HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let asked = async {
        while !daemon.metrics.text().contains("fleet_api_requests") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(HANG, asked).await.expect("the request is counted");
    // Before its answer is due.
    tokio::time::timeout(Duration::from_secs(4), daemon.stop()).await.expect("the server ends without it");
}
