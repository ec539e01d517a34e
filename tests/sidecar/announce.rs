//! `fleet-sidecar announce`: when an instance is announced, renewed and withdrawn.

use std::time::Duration;

use flotilla::api::server::health::{Health, Remedy};
use flotilla::registry::delete;
use flotilla::registry::keys::Key;
use flotilla::store::{Event, Op, Revision, Store as _};
use rustix::process::Signal;
use tokio::time::{Instant, sleep};

use crate::harness::{Backend, HERE, Host, until, until_announced};
use crate::port::Port;

const WEB: &str = "web/web-1.n1=127.0.0.1:8080";

/// The changes of services so far: `+` for announced, `-` for withdrawn.
async fn history(host: &Host) -> Vec<String> {
    let last = host.write(vec![delete(&Key::Leader)]).await;
    let marker = host.write(vec![flotilla::registry::put(&Key::Leader, &1, None)]).await;
    let mut watch = host.store.watch("", Revision(0));
    let mut seen = Vec::new();
    loop {
        let batch = watch.next().await.unwrap();
        for event in &batch.events {
            match event {
                Event::Put(kv) if kv.key.starts_with("service/") => seen.push("+"),
                Event::Delete(key) if key.starts_with("service/") => seen.push("-"),
                _ => {}
            }
        }
        if batch.revision >= marker.max(last) {
            return seen.into_iter().map(ToOwned::to_owned).collect();
        }
    }
}

#[tokio::test]
async fn it_is_ready_when_registered_and_gone_when_stopped() {
    let host = Host::new().await;
    host.unit("web@1.service", "active").await;
    let mut sidecar =
        host.sidecar(&["announce", "web", "--port", "8080", "--unit", "web@1.service", "--meta", "host=shop.example"]);
    sidecar.ready().await;
    until_announced(&host, &[WEB.into()]).await;
    sidecar.says("announced at 127.0.0.1 port 8080").await;
    let service = host.client().service(&"web".parse().unwrap()).await.unwrap();
    let is = &service.instances[0].is;
    assert_eq!((is.weight, is.ttl, is.hostname.as_str()), (1, 10, "n1"));
    assert_eq!(is.unit.as_ref().map(ToString::to_string), Some("web@1.service".into()));
    assert_eq!(is.machine.as_ref().map(ToString::to_string), Some(HERE.into()));
    assert_eq!(is.metadata["host"], "shop.example");

    assert!(sidecar.terminate().await.success(), "{}", sidecar.log());
    assert_eq!(host.announced().await, Vec::<String>::new(), "gone before the process is");
    assert_eq!(history(&host).await, ["+", "-"]);
}

#[tokio::test]
async fn it_follows_its_unit() {
    let host = Host::new().await;
    host.unit("web@1.service", "activating").await;
    let sidecar = host.sidecar(&["announce", "web", "--port", "8080", "--unit", "web@1.service"]);
    sidecar.says("not announced: web@1.service is activating").await;
    assert!(!sidecar.is_ready());
    host.unit("web@1.service", "active").await;
    sidecar.ready().await;
    until_announced(&host, &[WEB.into()]).await;
    host.unit("web@1.service", "reloading").await;
    host.unit("web@1.service", "failed").await;
    until_announced(&host, &[]).await;
    sidecar.says("web@1.service is failed").await;
    host.unit("web@1.service", "active").await;
    until_announced(&host, &[WEB.into()]).await;
    assert_eq!(history(&host).await, ["+", "-", "+"]);
}

#[tokio::test]
async fn what_a_rollout_previews_gets_no_new_connections() {
    let host = Host::new().await;
    host.unit("web@1.service", "active").await;
    let rollout = |target: &str, promoted: bool| {
        let record = serde_json::json!({
            "target": target, "from": { "hash": "old" }, "phase": if promoted { "rolling" } else { "waiting" },
            "since": 7, "began": 5, "promoted": promoted, "preview": true,
        });
        Op::Put { key: "rollout/web@.service".into(), value: record.to_string().into_bytes(), lease: None }
    };
    let until_weight = async |expected: u16| {
        until(&format!("weight {expected}"), async || {
            let service = host.client().service(&"web".parse().unwrap()).await;
            let weights = service.map(|service| service.instances.iter().map(|one| one.is.weight).collect::<Vec<_>>());
            (weights.as_ref().is_ok_and(|weights| *weights == [expected]), format!("{weights:?}"))
        })
        .await;
    };
    host.write(vec![rollout("abc", false)]).await;
    let sidecar = host.sidecar(&["announce", "web", "--port", "8080", "--unit", "web@1.service", "--weight", "7"]);
    sidecar.ready().await;
    sidecar.says("announced at 127.0.0.1 port 8080 with weight 0: its rollout previews it").await;
    until_weight(0).await;
    host.write(vec![rollout("abc", true)]).await;
    until_weight(7).await;
    // Another file is previewed than this host runs.
    host.write(vec![rollout("def", false)]).await;
    host.unit("web@1.service", "reloading").await;
    sidecar.says("announced at 127.0.0.1 port 8080").await;
    until_weight(7).await;
    assert_eq!(history(&host).await, ["+", "+"], "it is never withdrawn, and announced again only for another weight");
}

#[tokio::test]
async fn a_unit_of_this_host_only_is_taken_as_systemd_has_it() {
    let host = Host::new().await;
    let sidecar = host.sidecar(&["announce", "web", "--port", "8080", "--unit", "web@1.service"]);
    sidecar.ready().await;
    sidecar.logs("web@1.service is no unit of the cluster").await;
    until_announced(&host, &[WEB.into()]).await;
}

#[tokio::test]
async fn a_backslash_in_a_units_name_is_a_letter() {
    let host = Host::new().await;
    host.unit("a\\x2db.service", "active").await;
    let sidecar = host.sidecar(&["announce", "web", "--port", "1", "--unit", "a\\x2db.service"]);
    sidecar.ready().await;
    until_announced(&host, &["web/a-x2db.n1=127.0.0.1:1".into()]).await;
    host.unit("a\\x2db.service", "inactive").await;
    until_announced(&host, &[]).await;
}

#[tokio::test]
async fn checks_decide() {
    let host = Host::new().await;
    let reserved = Port::reserve();
    let (port, listen, number) = (reserved.number, reserved.address(), reserved.number.to_string());
    let up = [format!("db/port-{port}.n1=127.0.0.1:{port}")];
    let args = ["announce", "db", "--port", &number, "--check", "tcp", "--interval", "0.05", "--fall", "2"];
    let sidecar = host.sidecar(&args);
    sidecar.says("its check (tcp) fails").await;
    // If systemd ends the sidecar after its timeout, the journal contains the reason, once.
    sidecar.logs("WARN not announced yet: its check (tcp) fails: 127.0.0.1:").await;
    sleep(Duration::from_millis(200)).await;
    assert_eq!(sidecar.log().lines().count(), 1, "{}", sidecar.log());
    assert!(!sidecar.is_ready() && host.announced().await.is_empty());
    let backend = Backend::on("a", listen).await;
    sidecar.ready().await;
    until_announced(&host, &up).await;
    drop(backend);
    until_announced(&host, &[]).await;
    let _backend = Backend::on("a", listen).await;
    until_announced(&host, &up).await;
}

#[tokio::test]
async fn a_request_is_a_check_and_so_is_a_command() {
    let host = Host::new().await;
    let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = server.local_addr().unwrap().port();
    let answers = std::sync::Arc::new(std::sync::Mutex::new(("503 Not Yet", Vec::new())));
    let shared = std::sync::Arc::clone(&answers);
    tokio::spawn(async move {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        while let Ok((mut stream, _)) = server.accept().await {
            let mut buffer = [0; 1024];
            let read = stream.read(&mut buffer).await.unwrap_or_default();
            let request = String::from_utf8_lossy(&buffer[..read]).into_owned();
            let status = {
                let mut shared = shared.lock().unwrap();
                shared.1.push(request.lines().next().unwrap_or_default().to_owned());
                shared.0
            };
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    let number = port.to_string();
    let args = ["announce", "app", "--port", &number, "--check", "http:///health?x", "--interval", "0.05"];
    let http = host.sidecar(&args);
    http.says(&format!("fails: 127.0.0.1:{port}: 503 Service Unavailable")).await;
    answers.lock().unwrap().0 = "204 No Content";
    http.ready().await;
    assert_eq!(answers.lock().unwrap().1[0], "GET /health?x HTTP/1.1");

    let mark = host.dir.path().join("mark");
    let check = format!("cmd echo not yet >&2; test -e '{}'", mark.display());
    let command = host.sidecar(&["announce", "job", "--port", "1", "--check", &check, "--interval", "0.05"]);
    command.says("exit status: 1: not yet").await;
    std::fs::write(&mark, "").unwrap();
    command.ready().await;
}

#[tokio::test]
async fn a_crash_leaves_it_for_its_ttl_and_the_next_one_goes_on_with_it() {
    let host = Host::new().await;
    let args = ["announce", "web", "--port", "8080", "--unit", "web@1.service", "--ttl", "2"];
    let mut sidecar = host.sidecar(&args);
    sidecar.ready().await;
    sidecar.signal(Signal::KILL);
    sidecar.end().await;
    let mut next = host.sidecar(&args);
    next.ready().await;
    sleep(Duration::from_millis(2500)).await;
    assert_eq!(history(&host).await, ["+", "+"], "it never blinked");

    next.signal(Signal::KILL);
    next.end().await;
    let died = Instant::now();
    assert_eq!(host.announced().await.len(), 1);
    until_announced(&host, &[]).await;
    assert!(died.elapsed() < Duration::from_secs(4), "{:?}", died.elapsed());
}

#[tokio::test]
async fn a_restart_of_fleetd_isnt_noticed() {
    let mut host = Host::new().await;
    host.unit("web@1.service", "active").await;
    let mut sidecar = host.sidecar(&["announce", "web", "--port", "8080", "--unit", "web@1.service", "--ttl", "3"]);
    sidecar.ready().await;
    for _ in 0..2 {
        host.api_down().await;
        sleep(Duration::from_millis(700)).await;
        host.api_up().await;
        sleep(Duration::from_millis(2500)).await;
    }
    assert_eq!(history(&host).await, ["+"]);
    sidecar.terminate().await;
    assert_eq!(history(&host).await, ["+", "-"]);
}

#[tokio::test]
async fn after_a_long_outage_it_is_announced_again() {
    let mut host = Host::new().await;
    let sidecar = host.sidecar(&["announce", "web", "--port", "8080", "--unit", "web@1.service", "--ttl", "2"]);
    sidecar.ready().await;
    host.api_down().await;
    until_announced(&host, &[]).await;
    sidecar.says("the announcement may have ended").await;
    host.api_up().await;
    until_announced(&host, &[WEB.into()]).await;
    sidecar.says("announced at 127.0.0.1 port 8080").await;

    let what = "can't reach its store: etcd refuses connections".into();
    host.health.send_replace(Health::Waiting { what, since: 0, remedy: Remedy::Store });
    sidecar.says("fleetd on n1 can't reach its store").await;
    host.health.send_replace(Health::Ready);
    until("it to be well", async || (sidecar.status() == "announced at 127.0.0.1 port 8080", sidecar.status())).await;
}

#[tokio::test]
async fn it_waits_for_a_fleetd_that_isnt_there_yet() {
    let mut host = Host::new().await;
    host.api_down().await;
    let sidecar = host.sidecar(&["announce", "web", "--port", "8080", "--unit", "web@1.service"]);
    sidecar.says("waiting for fleetd: can't reach fleetd at").await;
    host.api_up().await;
    sidecar.ready().await;
    until_announced(&host, &[WEB.into()]).await;
}

#[tokio::test]
async fn what_another_announces_is_left_to_it() {
    let host = Host::new().await;
    host.announce("web", "one", 99).await;
    let sidecar = host.sidecar(&["announce", "web", "--port", "8080", "--instance", "one"]);
    sidecar.says("one of service `web` is announced by somebody else: 127.0.0.1 port 99 on n1").await;
    assert!(!sidecar.is_ready());
    assert_eq!(host.announced().await, ["web/one=127.0.0.1:99"]);
    host.withdraw("web", "one").await;
    sidecar.ready().await;
    until_announced(&host, &["web/one=127.0.0.1:8080".into()]).await;
}

#[tokio::test]
async fn nonsense_is_refused_at_once() {
    let host = Host::new().await;
    for (args, why) in [
        (&["announce", "Web", "--port", "1"][..], "invalid character 'W' in the name of a service"),
        (&["announce", "web", "--port", "0"], "0 is not in 1.."),
        (&["announce", "web", "--port", "1", "--address", "0.0.0.0"], "is no address that anybody could connect to"),
        (&["announce", "web", "--port", "1", "--meta", "x"], "write it as KEY=VALUE"),
        (
            &["announce", "web", "--port", "1", "--check", "ping"],
            "write http://HOST:PORT/PATH, tcp:PORT or exec:COMMAND",
        ),
        (&["announce", "web", "--port", "1", "--ttl", "1"], "1 is not in 2..=3600"),
        (&["announce", "web", "--port", "1", "--endpoint", "x:1"], "`x:1` is no endpoint"),
        (
            &["announce", "web", "--port", "1", "--endpoint", "https://n1:1", "--ca-file", "/nowhere/ca.pem"],
            "/nowhere/ca.pem: no certificate can be read from it",
        ),
        (
            &["announce", "web", "--port", "1", "--endpoint", "https://n1:1", "--cert-file", "x"],
            "a certificate and its key go together",
        ),
        (&["ambassador", "web"], "no address to listen on: use --listen PORT"),
        (&["ambassador", "web", "--listen", "n1"], "write a port, 127.0.0.1:PORT or [::1]:PORT"),
    ] {
        let mut sidecar = host.sidecar(args);
        assert!(!sidecar.end().await.success(), "{args:?}");
        sidecar.logs(why).await;
    }
}

#[tokio::test]
async fn the_journal_hears_how_much_a_line_matters() {
    use std::os::unix::fs::MetadataExt as _;
    let host = Host::new().await;
    let path = host.dir.path().join("stderr");
    let stderr = std::fs::File::create(&path).unwrap();
    let is = stderr.metadata().unwrap();
    for (stream, prefix) in [(format!("{}:{}", is.dev(), is.ino()), "<4>"), ("1:1".into(), "")] {
        std::fs::write(&path, "").unwrap();
        let mut child = tokio::process::Command::new(env!("CARGO_BIN_EXE_fleet-sidecar"))
            .args(["announce", "web", "--port", "1", "--endpoint", "/nowhere"])
            .env("JOURNAL_STREAM", stream)
            .stderr(stderr.try_clone().unwrap())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let log = || std::fs::read_to_string(&path).unwrap();
        until("a line", async || (log().ends_with('\n'), log())).await;
        child.kill().await.unwrap();
        assert!(log().trim_start_matches('\0').starts_with(&format!("{prefix} WARN ")), "{}", log());
    }
}
