//! A server in this process, a store that fails on demand, and a client that hides nothing.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flotilla::api::server::health::{self, Health};
use flotilla::api::server::listen::{ListenError, Listener};
use flotilla::api::server::serve;
use flotilla::api::server::state::{Api, AskHost, Own, Settings};
use flotilla::clock::Clock;
use flotilla::metrics::Metrics;
use flotilla::model::revision::Revision;
use flotilla::model::unit::Target;
use flotilla::registry::sight::Sight;
use flotilla::store::embedded::Embedded;
use flotilla::store::{Error, LeaseId, Op, Page, Range, Store, Txn, Watch};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::records;

/// Two hosts.
pub const N1: &str = "3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a";
pub const N2: &str = "844a981f0a1b4c2d8e3f4a5b6c7d8e9f";

/// A small unit file, and the options it is made of.
pub const FILE: &str = "[Unit]\nDescription=A test\n[Service]\nExecStart=/bin/true\n";

/// A store that fails on demand.
#[derive(Debug, Clone)]
pub struct Faulty {
    pub inner: Embedded,
    faults: Arc<Faults>,
}

#[derive(Debug, Default)]
struct Faults {
    down: AtomicBool,
    hangs: AtomicBool,
    /// So many commits are done, and their answers lost.
    lost: AtomicUsize,
    /// So many commits conflict.
    conflicts: AtomicUsize,
    /// So many more commits are done, and no other one; `None` for all.
    left: Mutex<Option<usize>>,
    commits: AtomicUsize,
    ranges: AtomicUsize,
    /// Keys that ranges have answered with.
    read: AtomicUsize,
    /// Events that watches have delivered.
    heard: AtomicUsize,
    /// Ends every watch that is open, as a compaction does.
    compact: Notify,
    /// Ends every watch that is open, as a connection that breaks does.
    cut: Notify,
}

impl Faulty {
    fn new() -> Self {
        Self { inner: Embedded::in_memory(), faults: Arc::default() }
    }

    pub fn set_down(&self, down: bool) {
        self.faults.down.store(down, Ordering::SeqCst);
    }

    pub fn set_hangs(&self, hangs: bool) {
        self.faults.hangs.store(hangs, Ordering::SeqCst);
    }

    pub fn lose_answers(&self, commits: usize) {
        self.faults.lost.store(commits, Ordering::SeqCst);
    }

    pub fn conflict(&self, commits: usize) {
        self.faults.conflicts.store(commits, Ordering::SeqCst);
    }

    /// The store is unreachable after so many more commits; `None` makes it reachable again.
    pub fn go_down_after(&self, commits: Option<usize>) {
        *self.faults.left.lock().unwrap() = commits;
        self.set_down(false);
    }

    pub fn commits(&self) -> usize {
        self.faults.commits.load(Ordering::SeqCst)
    }

    pub fn ranges(&self) -> usize {
        self.faults.ranges.load(Ordering::SeqCst)
    }

    pub fn read(&self) -> usize {
        self.faults.read.load(Ordering::SeqCst)
    }

    pub fn heard(&self) -> usize {
        self.faults.heard.load(Ordering::SeqCst)
    }

    /// End the watches that are open: what they wanted is compacted.
    pub fn compact(&self) {
        self.faults.compact.notify_waiters();
    }

    /// End the watches that are open: the connection breaks.
    pub fn cut(&self) {
        self.faults.cut.notify_waiters();
    }

    async fn pass(&self) -> Result<(), Error> {
        if self.faults.hangs.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        if self.faults.down.load(Ordering::SeqCst) {
            return Err(Error::Unavailable("etcd at 10.88.0.1:2379 refuses connections".into()));
        }
        Ok(())
    }
}

fn take_one(count: &AtomicUsize) -> bool {
    count.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}

impl Store for Faulty {
    async fn range(&self, range: Range) -> Result<Page, Error> {
        self.pass().await?;
        self.faults.ranges.fetch_add(1, Ordering::SeqCst);
        let page = self.inner.range(range).await?;
        self.faults.read.fetch_add(page.kvs.len(), Ordering::SeqCst);
        Ok(page)
    }

    async fn commit(&self, txn: Txn) -> Result<Revision, Error> {
        self.pass().await?;
        self.faults.commits.fetch_add(1, Ordering::SeqCst);
        if let Some(left) = self.faults.left.lock().unwrap().as_mut() {
            if *left == 0 {
                self.set_down(true);
                return Err(Error::Unavailable("etcd at 10.88.0.1:2379 refuses connections".into()));
            }
            *left -= 1;
        }
        if take_one(&self.faults.conflicts) {
            return Err(Error::Conflict);
        }
        let done = self.inner.commit(txn).await;
        if done.is_ok() && take_one(&self.faults.lost) {
            return Err(Error::Unavailable("the connection broke".into()));
        }
        done
    }

    fn watch(&self, prefix: &str, from: Revision) -> Watch {
        let (mut watch, faults) = (self.inner.watch(prefix, from), Arc::clone(&self.faults));
        let (send, batches) = mpsc::channel(1);
        tokio::spawn(async move {
            loop {
                let batch = tokio::select! {
                    biased;
                    () = faults.compact.notified() => Err(Error::Compacted),
                    () = faults.cut.notified() => Err(Error::Unavailable("the connection broke".into())),
                    batch = watch.next() => batch,
                };
                if let Ok(batch) = &batch {
                    faults.heard.fetch_add(batch.events.len(), Ordering::SeqCst);
                }
                let over = batch.is_err();
                if send.send(batch).await.is_err() || over {
                    return;
                }
            }
        });
        Watch::new(batches)
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, Error> {
        self.inner.grant(ttl).await
    }

    async fn keep_alive(&self, lease: LeaseId, within: Duration) -> Result<Duration, Error> {
        self.inner.keep_alive(lease, within).await
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), Error> {
        self.inner.revoke(lease).await
    }
}

/// A socket, as `listen=` names it.
pub async fn listen(address: &str) -> Result<Listener, ListenError> {
    Listener::open(&address.parse().unwrap()).await
}

/// A daemon, as far as its API goes.
pub struct Daemon {
    pub store: Faulty,
    pub health: watch::Sender<Health>,
    /// What its engine knows while the store is unreachable.
    pub sight: watch::Sender<Sight>,
    pub metrics: Metrics,
    /// Where it is asked.
    pub socket: PathBuf,
    /// All of its sockets.
    pub sockets: Vec<PathBuf>,
    stop: Option<oneshot::Sender<()>>,
    serving: JoinHandle<()>,
    _dir: tempfile::TempDir,
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {:?}", self.text))
    }

    /// The error's message, after a look at its form.
    pub fn error(&self) -> String {
        let json = self.json();
        assert_eq!(json["error"]["code"], self.status, "{json}");
        assert_eq!(self.headers["content-type"], "application/json");
        json["error"]["message"].as_str().unwrap().to_owned()
    }
}

impl Daemon {
    pub async fn start() -> Self {
        Self::start_with(Settings::default()).await
    }

    pub async fn start_with(settings: Settings) -> Self {
        Self::start_with_sockets(settings, &["role=admin"]).await
    }

    /// With a socket for each of these grants.
    pub async fn start_on(grants: &[&str]) -> Self {
        Self::start_with_sockets(Settings::default(), grants).await
    }

    async fn start_with_sockets(settings: Settings, grants: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (mut sockets, mut listeners) = (Vec::new(), Vec::new());
        for (index, grant) in grants.iter().enumerate() {
            let socket = dir.path().join(format!("fleet{index}.sock"));
            listeners.push(listen(&format!("unix://{}?group=fleet&{grant}", socket.display())).await.unwrap());
            sockets.push(socket);
        }
        let store = Faulty::new();
        let (health, asked) = health::channel(Health::Ready);
        let metrics = Metrics::default();
        let api = Api::new(store.clone(), Clock::system(), "n1", asked, settings).measured(metrics.clone());
        // What n1 has, whatever the store says.
        let api = api.asking_host(AskHost::new(|| async {
            let view = records::host_view(N1, "n1", "10.88.0.1", &[("here.service", FILE)]);
            Ok(Own { view, at: 9000, since: Some(5000) })
        }));
        let sight = watch::Sender::default();
        let api = api.with_sight(sight.subscribe());
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(serve(listeners, api, async {
            let _ = stopped.await;
        }));
        let socket = sockets[0].clone();
        Self { store, health, sight, metrics, socket, sockets, stop: Some(stop), serving, _dir: dir }
    }

    pub async fn stop(&mut self) {
        drop(self.stop.take());
        tokio::time::timeout(Duration::from_secs(30), &mut self.serving).await.expect("the server ends").unwrap();
    }

    pub async fn open(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Response<Incoming> {
        let stream = UnixStream::connect(&self.socket).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header("host", "fleet");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        sender.send_request(request.body(Full::new(Bytes::copy_from_slice(body))).unwrap()).await.unwrap()
    }

    pub async fn call(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let response = self.open(method, path, headers, body).await;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let answer = Answer { status, headers, text: String::from_utf8(body.to_vec()).unwrap() };
        // Whatever a test is about: nothing is answered that isn't described.
        let kind = answer.headers.get("content-type").map(|kind| kind.to_str().unwrap());
        crate::description::check_answer(method, path, status, kind, &answer.text);
        answer
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, &[], b"").await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.call("DELETE", path, &[], b"").await
    }

    /// `PUT` or `POST` or `PATCH` of JSON.
    pub async fn send(&self, method: &str, path: &str, body: &Value) -> Answer {
        self.call(method, path, &[("content-type", "application/json")], body.to_string().as_bytes()).await
    }

    /// A batch, which must be done; its outcomes.
    pub async fn apply(&self, units: Value) -> Value {
        let answer = self.send("POST", "/fleet/v2/units", &serde_json::json!({ "units": units })).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.json()
    }

    /// A batch, which must be refused; its problems as `unit:line: what`.
    pub async fn refuse(&self, units: Value) -> Vec<String> {
        let answer = self.send("POST", "/fleet/v2/units", &serde_json::json!({ "units": units })).await;
        assert_eq!(answer.status, 400, "{}", answer.text);
        let json = answer.json();
        let problems = json["error"]["problems"].as_array().unwrap().iter();
        let line = |p: &Value| {
            let (unit, what) = (p["unit"].as_str().unwrap(), p["what"].as_str().unwrap());
            p["line"].as_u64().map_or(format!("{unit}: {what}"), |line| format!("{unit}:{line}: {what}"))
        };
        let lines: Vec<String> = problems.map(line).collect();
        assert_eq!(answer.error(), lines.join("\n"));
        lines
    }

    /// Write to the store as an engine or an agent would.
    pub async fn write(&self, op: Op) {
        self.store.inner.commit(Txn { guards: vec![], ops: vec![op] }).await.unwrap();
    }

    pub async fn write_raw(&self, key: &str, value: &[u8]) {
        self.write(Op::Put { key: key.into(), value: value.into(), lease: None }).await;
    }

    pub async fn delete_raw(&self, key: &str) {
        self.write(Op::Delete(key.into())).await;
    }

    pub async fn read_raw(&self, key: &str) -> Vec<u8> {
        let range = Range { prefix: key.into(), after: None, limit: 1, at: None };
        self.store.inner.range(range).await.unwrap().kvs[0].value.clone()
    }

    pub async fn machine(&self, id: &str, hostname: &str, metadata: &[(&str, &str)]) {
        let ip = format!("10.88.0.{}", hostname.trim_start_matches('n'));
        self.write(records::machine(id, hostname, &ip, metadata)).await;
    }

    /// Place a unit, as an engine does.
    pub async fn place(&self, unit: &str, host: &str, target: Target) {
        self.write(records::entry(unit, host, target, false, 1)).await;
        self.write(records::placed(unit, host)).await;
    }

    /// A unit runs on a host as it is asked for.
    pub async fn runs(&self, unit: &str, host: &str) {
        let record = self.read_raw(&format!("unit/{unit}")).await;
        let ops = records::running(unit, host, &record);
        self.store.inner.commit(Txn { guards: vec![], ops }).await.unwrap();
    }

    /// Tell a host to have a global unit, as an engine does.
    pub async fn order(&self, unit: &str, host: &str, target: Target, generation: u64) {
        self.write(records::entry(unit, host, target, true, generation)).await;
    }

    /// Take a unit off its host.
    pub async fn unplace(&self, unit: &str, host: &str) {
        self.store.inner.commit(Txn { guards: vec![], ops: records::unplaced(unit, host) }).await.unwrap();
    }

    /// Report a unit's state, as an agent does.
    pub async fn report(&self, unit: &str, host: &str, target: Target, active: &str, generation: u64) {
        self.write(records::state(unit, host, target, active, generation)).await;
    }
}
