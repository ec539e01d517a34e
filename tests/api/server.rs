//! What holds for every request: limits, failures, sockets.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use flotilla::api::server::health::{self, Health, Remedy};
use flotilla::api::server::listen::ListenError;
use flotilla::api::server::serve;
use flotilla::api::server::state::{Api, Settings};
use flotilla::clock::Clock;
use flotilla::store::embedded::Embedded;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};

use crate::harness::{Daemon, FILE, listen};

#[tokio::test]
async fn nothing_is_answered_before_the_daemon_is_registered() {
    let daemon = Daemon::start().await;
    let what = "can't reach its store: etcd at 10.88.0.1:2379 refuses connections";
    daemon.health.send_replace(Health::Waiting { what: what.into(), since: 0, remedy: Remedy::Store });
    for path in ["/", "/fleet/v1/units", "/fleet/v2/watch", "/nowhere"] {
        let answer = daemon.get(path).await;
        assert_eq!(answer.status, 503);
        let message = answer.error();
        assert!(message.starts_with(&format!("fleetd on n1 {what} since 00:00:00 UTC (")), "{message}");
        assert!(
            message.ends_with("\nunits that run go on running; nothing was changed. Try again when the store is back")
        );
    }
    daemon.health.send_replace(Health::Ready);
    assert_eq!(daemon.get("/fleet/v1/units").await.status, 200);
}

/// A daemon that starts is registered in a moment: whoever asks before that, waits.
#[tokio::test]
async fn a_request_to_a_daemon_that_starts_waits_until_it_is_registered() {
    let daemon = Daemon::start().await;
    let now = Clock::system().now_ms();
    daemon.health.send_replace(Health::Waiting { what: "is starting".into(), since: now, remedy: Remedy::Time });
    let mut asked = Box::pin(daemon.get("/fleet/v1/machines"));
    let early = tokio::time::timeout(Duration::from_millis(300), &mut asked).await;
    assert!(early.is_err(), "answered before: {early:?}");
    daemon.health.send_replace(Health::Ready);
    assert_eq!(asked.await.status, 200);
    // But not for ever: one that has been on its way for long answers what it waits for.
    let since = now - u64::try_from(health::READY_TIMEOUT.as_millis()).unwrap() + 200;
    daemon.health.send_replace(Health::Waiting { what: "is starting".into(), since, remedy: Remedy::Time });
    assert_eq!(daemon.get("/fleet/v1/machines").await.status, 503);
}

/// A client that has just been accepted when the daemon stops has its request on the way.
#[tokio::test]
async fn a_connection_that_was_accepted_is_answered_though_the_daemon_stops() {
    let mut daemon = Daemon::start().await;
    let mut stream = UnixStream::connect(&daemon.socket).await.unwrap();
    // Another request has been answered since, so this connection was accepted.
    assert_eq!(daemon.get("/fleet/v1/machines").await.status, 200);
    let late = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        stream.write_all(b"GET /fleet/v1/machines HTTP/1.1\r\nHost: fleet\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let ((), answer) = tokio::join!(daemon.stop(), late);
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer:?}");
}

#[tokio::test]
async fn a_store_that_fails_is_said_at_once_for_every_request() {
    let daemon = Daemon::start().await;
    daemon.store.set_down(true);
    let unit = json!({ "desiredState": "loaded", "options": [{ "section": "Service", "name": "A", "value": "b" }] });
    let batch = json!({ "units": [{ "name": "a.service", "text": FILE }] });
    let answers = [
        daemon.get("/fleet/v1/units").await,
        daemon.get("/fleet/v1/units/a.service").await,
        daemon.get("/fleet/v1/state").await,
        daemon.get("/fleet/v1/machines").await,
        daemon.get("/fleet/v2/units").await,
        daemon.get("/fleet/v2/units/a.service").await,
        daemon.get("/fleet/v2/machines").await,
        daemon.get("/fleet/v2/watch").await,
        daemon.delete("/fleet/v1/units/a.service").await,
        daemon.send("PUT", "/fleet/v1/units/a.service", &unit).await,
        daemon.send("POST", "/fleet/v2/units", &batch).await,
    ];
    for answer in answers {
        assert_eq!(answer.status, 503, "{}", answer.text);
        assert_eq!(
            answer.error(),
            "fleetd on n1 can't reach its store: etcd at 10.88.0.1:2379 refuses connections\nunits that run go on \
             running; nothing was changed. Try again when the store is back"
        );
    }
    daemon.store.set_down(false);
    assert_eq!(daemon.get("/fleet/v1/units").await.text, "{}");
}

#[tokio::test]
async fn a_store_that_hangs_is_not_waited_for() {
    let daemon =
        Daemon::start_with(Settings { request_timeout: Duration::from_millis(50), ..Settings::default() }).await;
    daemon.store.set_hangs(true);
    let answer = daemon.get("/fleet/v2/units").await;
    assert_eq!(
        (
            answer.status,
            answer.error().contains("no answer within 50ms\nunits that run go on running; nothing was changed")
        ),
        (503, true)
    );
    let answer = daemon.delete("/fleet/v1/units/a.service").await;
    assert_eq!((answer.status, answer.error().contains("whether the change was made is not known")), (503, true));
}

#[tokio::test]
async fn large_requests_are_refused() {
    let daemon = Daemon::start_with(Settings { body_limit: 1000, ..Settings::default() }).await;
    assert_eq!(daemon.get("/fleet/v1/units").await.status, 200);
    for path in ["/fleet/v1/units/a.service", "/fleet/v2/units"] {
        let method = if path.contains("v1") { "PUT" } else { "POST" };
        let answer = daemon.send(method, path, &json!({ "name": "a".repeat(2000) })).await;
        assert_eq!((answer.status, answer.error().contains("larger than the limit of 1000 bytes allows")), (413, true));
    }
    // Chunked, so that nothing announces its length.
    let mut stream = UnixStream::connect(&daemon.socket).await.unwrap();
    let head = "POST /fleet/v2/units HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
        Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n";
    let chunk = format!("7d0\r\n{}\r\n0\r\n\r\n", "a".repeat(2000));
    stream.write_all(format!("{head}{chunk}").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("{\"error\":{\"code\":413"), "{answer}");
}

#[tokio::test]
async fn a_body_that_never_comes_is_not_waited_for() {
    let daemon = Daemon::start_with(Settings { body_timeout: Duration::from_millis(50), ..Settings::default() }).await;
    let mut stream = UnixStream::connect(&daemon.socket).await.unwrap();
    let head = "POST /fleet/v2/units HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\nConnection: close\r\n\r\n{";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
}

#[tokio::test]
async fn a_bad_path_is_an_error_like_others() {
    let daemon = Daemon::start().await;
    let answer = daemon.get("/fleet/v1/units/%ff").await;
    assert_eq!((answer.status, answer.error().is_empty()), (400, false));
}

#[tokio::test]
async fn the_socket_is_for_root_and_the_group_and_is_left_behind_by_nobody() {
    let mut daemon = Daemon::start().await;
    let mode = std::fs::metadata(&daemon.socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    let address = format!("unix://{}", daemon.socket.display());
    let taken = listen(&address).await.unwrap_err();
    assert!(matches!(taken, ListenError::Taken(_)), "{taken}");
    daemon.stop().await;
    assert!(!daemon.socket.exists());
    // A daemon that was killed leaves a socket that nobody listens on.
    drop(std::os::unix::net::UnixListener::bind(&daemon.socket).unwrap());
    assert!(listen(&address).await.is_ok());
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "mine").unwrap();
    assert!(matches!(listen(&format!("unix://{}", file.display())).await.unwrap_err(), ListenError::NoSocket(_)));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
}

#[tokio::test]
async fn tcp_is_for_loopback() {
    let listener = listen("127.0.0.1:0").await.unwrap();
    let address = listener.name.clone();
    let (_health, asked) = health::channel(Health::Ready);
    let api = Api::new(Embedded::in_memory(), Clock::system(), "n1", asked, Settings::default());
    let serving = tokio::spawn(serve(vec![listener], api, std::future::pending()));
    // A web page whose own name was made to point here is no client of ours.
    for (host, status) in
        [("localhost:1", 200), ("127.0.0.1", 200), ("[::1]:80", 200), ("evil.example", 403), ("", 403)]
    {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        let request = format!("GET /fleet/v1/units HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{host}: {answer}");
    }
    serving.abort();
    for address in ["0.0.0.0:0", "10.0.0.1:49153", "[::]:0"] {
        let error = listen(address).await.unwrap_err().to_string();
        assert!(error.contains("plain TCP is for loopback addresses only"), "{error}");
    }
}
