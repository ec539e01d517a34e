//! The API of a `fleetd` without an agent, which can be made unreachable; backends; sidecars and their output.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flotilla::api::client::{Client, Endpoint};
use flotilla::api::server::health::{self, Health};
use flotilla::api::server::listen::Listener;
use flotilla::api::server::serve;
use flotilla::api::server::state::{Api, Settings};
use flotilla::api::wire::services::{Announce, InstanceRef};
use flotilla::clock::Clock;
use flotilla::model::revision::Revision;
use flotilla::model::unit::{Desired, Outcome, Target};
use flotilla::store::embedded::Embedded;
use flotilla::store::{Op, Range, Store as _, Txn};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream, UnixDatagram};
use tokio::process::{Child, Command};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::records;

pub(crate) const HERE: &str = "3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a";
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A host with the API of its `fleetd`.
pub(crate) struct Host {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) store: Embedded,
    pub(crate) health: watch::Sender<Health>,
    serving: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl Host {
    pub(crate) async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (health, _) = health::channel(Health::Ready);
        let mut host = Self { dir, store: Embedded::in_memory(), health, serving: None };
        host.write(vec![records::machine(HERE, "n1", "127.0.0.1", &[])]).await;
        host.api_up().await;
        host
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("fleet.sock")
    }

    pub(crate) async fn api_up(&mut self) {
        let api = Api::new(self.store.clone(), Clock::system(), "n1", self.health.subscribe(), Settings::default());
        let address = format!("unix://{}", self.socket().display()).parse().unwrap();
        let listener = Listener::open(&address).await.unwrap();
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(serve(vec![listener], api.on(HERE.parse().unwrap()), async {
            let _ = stopped.await;
        }));
        self.serving = Some((stop, serving));
    }

    pub(crate) async fn api_down(&mut self) {
        let (stop, serving) = self.serving.take().unwrap();
        drop(stop);
        timeout(PATIENCE, serving).await.expect("the API ends").unwrap();
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(vec![Endpoint::Unix(self.socket())], Duration::from_secs(5))
    }

    pub(crate) async fn write(&self, ops: Vec<Op>) -> Revision {
        self.store.commit(Txn { guards: vec![], ops }).await.unwrap()
    }

    /// Store a unit of the cluster with a report of this host.
    pub(crate) async fn unit(&self, name: &str, active: &str) {
        let client = self.client();
        let list = client.units(&[]).await.unwrap();
        if !list.units.iter().any(|unit| unit.name.as_str() == name) {
            let text = Some("[Service]\nExecStart=/bin/true\n".to_owned());
            let unit = flotilla::api::wire::ApplyUnit {
                name: name.to_string(),
                text,
                desired: Some(Desired::Launched),
                ..Default::default()
            };
            let applied = client.apply(&flotilla::api::wire::Apply { units: vec![unit] }).await.unwrap();
            assert_eq!(applied.units[0].outcome, Outcome::Created);
        }
        self.write(vec![
            records::placed(name, HERE),
            records::state(name, HERE, Target::Launched, active, records::LATEST),
        ])
        .await;
    }

    /// The announced instances, sorted, as `instance=address:port`. Read from the store, so it works without the API.
    pub(crate) async fn announced(&self) -> Vec<String> {
        let page = self.store.range(Range { prefix: "service/".into(), ..Range::default() }).await.unwrap();
        let one = |kv: &flotilla::store::Kv| {
            let value: serde_json::Value = serde_json::from_slice(&kv.value).unwrap();
            let name = kv.key.strip_prefix("service/").unwrap();
            format!("{name}={}:{}", value["address"].as_str().unwrap(), value["port"])
        };
        page.kvs.iter().map(one).collect()
    }

    /// Announce an instance with a TTL longer than any test. Returns its lease.
    pub(crate) async fn announce(&self, service: &str, instance: &str, port: u16) -> String {
        self.announce_as(service, instance, port, 1).await
    }

    pub(crate) async fn announce_as(&self, service: &str, instance: &str, port: u16, weight: u16) -> String {
        let announce = Announce {
            address: "127.0.0.1".into(),
            port,
            weight,
            unit: None,
            metadata: [].into(),
            owner: "test".into(),
            ttl: 600,
            lease: None,
        };
        self.client().announce(&named(service, instance), &announce).await.unwrap().lease
    }

    pub(crate) async fn withdraw(&self, service: &str, instance: &str) {
        let by = flotilla::api::client::By::Owner("test");
        self.client().withdraw(&named(service, instance), by).await.unwrap();
    }

    /// A sidecar, started with `args`.
    pub(crate) fn sidecar(&self, args: &[&str]) -> Sidecar {
        Sidecar::start(self.dir.path(), &self.socket(), Command::new(env!("CARGO_BIN_EXE_fleet-sidecar")), args)
    }

    /// A sidecar, started with `args` by the first connection to one of `ports`, as a socket unit does.
    pub(crate) fn activated(&self, ports: &[u16], args: &[&str]) -> Sidecar {
        let mut command = Command::new("systemd-socket-activate");
        command.args(ports.iter().map(|port| format!("--listen=127.0.0.1:{port}")));
        // It passes on only the given environment.
        command.args(["-E", "FLEETCTL_ENDPOINT", "-E", "NOTIFY_SOCKET", env!("CARGO_BIN_EXE_fleet-sidecar")]);
        Sidecar::start(self.dir.path(), &self.socket(), command, args)
    }
}

pub(crate) fn named(service: &str, instance: &str) -> InstanceRef {
    InstanceRef { service: service.parse().unwrap(), instance: instance.parse().unwrap() }
}

/// A running `fleet-sidecar`.
pub(crate) struct Sidecar {
    child: Child,
    said: Arc<Mutex<Vec<String>>>,
    log: Arc<Mutex<String>>,
    name: String,
}

impl Sidecar {
    fn start(dir: &Path, api: &Path, mut command: Command, args: &[&str]) -> Self {
        static COUNT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
        let notify = dir.join(format!("notify.{}", COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)));
        let socket = UnixDatagram::bind(&notify).unwrap();
        let mut child = command
            .args(args)
            .env("FLEETCTL_ENDPOINT", api)
            .env("NOTIFY_SOCKET", &notify)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let (said, log) = (Arc::<Mutex<Vec<String>>>::default(), Arc::<Mutex<String>>::default());
        let hear = Arc::clone(&said);
        tokio::spawn(async move {
            let mut buffer = [0; 4096];
            while let Ok(read) = socket.recv(&mut buffer).await {
                let text = String::from_utf8_lossy(&buffer[..read]).into_owned();
                hear.lock().unwrap().extend(text.lines().map(ToOwned::to_owned));
            }
        });
        let write = Arc::clone(&log);
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                let mut log = write.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        Self { child, said, log, name: args.join(" ") }
    }

    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.said.lock().unwrap().iter().any(|line| line == "READY=1")
    }

    /// The last status line.
    pub(crate) fn status(&self) -> String {
        let said = self.said.lock().unwrap();
        said.iter().rev().find_map(|line| line.strip_prefix("STATUS=")).unwrap_or_default().to_owned()
    }

    fn picture(&self) -> String {
        format!("`{}` says {:?}\n{}", self.name, self.said.lock().unwrap(), self.log())
    }

    pub(crate) async fn ready(&self) {
        until("READY=1", async || (self.is_ready(), self.picture())).await;
    }

    pub(crate) async fn says(&self, status: &str) {
        until(&format!("the status `{status}`"), async || (self.status().contains(status), self.picture())).await;
    }

    pub(crate) async fn logs(&self, line: &str) {
        until(&format!("`{line}` in the log"), async || (self.log().contains(line), self.picture())).await;
    }

    /// Its memory (`VmRSS`), in KiB.
    pub(crate) fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id().unwrap())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id().expect("it still runs")).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    pub(crate) async fn end(&mut self) -> ExitStatus {
        match timeout(PATIENCE, self.child.wait()).await {
            Ok(status) => status.unwrap(),
            Err(_) => panic!("waited {PATIENCE:?} for the end of {}", self.picture()),
        }
    }

    pub(crate) async fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.end().await
    }
}

/// A server that answers each line with its name and that line. When it is dropped, open connections continue.
pub(crate) struct Backend {
    pub(crate) port: u16,
    accepting: JoinHandle<()>,
}

impl Backend {
    pub(crate) async fn new(name: &'static str) -> Self {
        Self::on(name, ([127, 0, 0, 1], 0).into()).await
    }

    pub(crate) async fn on(name: &'static str, address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(echo(name, stream));
            }
        });
        Self { port, accepting }
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn echo(name: &str, stream: TcpStream) {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if write.write_all(format!("{name} {line}\n").as_bytes()).await.is_err() {
            return;
        }
    }
    // Its last line, after the client has closed its direction.
    let _ = write.write_all(format!("{name} bye\n").as_bytes()).await;
}

/// A client that keeps its connection.
pub(crate) struct Caller(BufReader<TcpStream>);

impl Caller {
    pub(crate) async fn new(port: u16) -> Self {
        Self::connect(port).await.unwrap()
    }

    /// Fails if the connection is reset before it is established.
    async fn connect(port: u16) -> std::io::Result<Self> {
        Ok(Self(BufReader::new(TcpStream::connect(("127.0.0.1", port)).await?)))
    }

    /// Send `line` and return the answer; fails if the connection has ended.
    pub(crate) async fn ask(&mut self, line: &str) -> std::io::Result<String> {
        self.0.get_mut().write_all(format!("{line}\n").as_bytes()).await?;
        let mut answer = String::new();
        let read = timeout(PATIENCE, self.0.read_line(&mut answer));
        match read.await.unwrap_or_else(|_| panic!("waited {PATIENCE:?} for an answer to `{line}`"))? {
            0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(answer.trim_end().into()),
        }
    }

    /// Close the sending direction, and return what is still received.
    pub(crate) async fn finish(mut self) -> String {
        self.0.get_mut().shutdown().await.unwrap();
        let mut rest = String::new();
        timeout(PATIENCE, self.0.read_to_string(&mut rest)).await.expect("the end comes").unwrap();
        rest
    }
}

/// The name of the server that answers a new connection.
pub(crate) async fn ask(port: u16) -> std::io::Result<String> {
    let answer = Caller::connect(port).await?.ask("hi").await?;
    Ok(answer.split(' ').next().unwrap().to_owned())
}

/// Wait until `look` succeeds. Panics after the timeout, with what it saw last.
pub(crate) async fn until(what: &str, mut look: impl AsyncFnMut() -> (bool, String)) {
    let begun = Instant::now();
    loop {
        let (done, seen) = look().await;
        if done {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "waited {PATIENCE:?} for {what}; saw {seen}");
        sleep(Duration::from_millis(20)).await;
    }
}

pub(crate) async fn until_announced(host: &Host, expected: &[String]) {
    until(&format!("{expected:?} to be announced"), async || {
        let announced = host.announced().await;
        (announced == expected, format!("{announced:?}"))
    })
    .await;
}
