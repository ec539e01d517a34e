//! How late a lease is renewed while a leader plans a whole cluster: the engine over the embedded store in memory, on a
//! runtime with one thread, as in `fleetd`. The reference is the same engine with nothing to plan, in the same run.
//!
//! `cargo bench --bench lease [hosts] [units]`

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use flotilla::clock::Clock;
use flotilla::engine::{Brake, Engine, Options, Status};
use flotilla::model::file::UnitFile;
use flotilla::model::machine::Machine;
use flotilla::model::revision::Revision;
use flotilla::store::embedded::Embedded;
use flotilla::store::{Error, LeaseId, Op, Page, Range, Store, Txn, Watch};
use tokio_util::sync::CancellationToken;

/// Renewed every third of it.
const TTL: Duration = Duration::from_secs(3);

/// How long the engine is watched while it has nothing to do.
const IDLE: Duration = Duration::from_secs(6);

/// The operations of one transaction while the store is filled.
const AT_ONCE: usize = 128;

/// A store that records when each lease is renewed.
#[derive(Clone)]
struct Noting {
    store: Embedded,
    renewals: Arc<Mutex<Vec<(LeaseId, Instant)>>>,
}

impl Noting {
    fn note(&self, lease: LeaseId) {
        self.renewals.lock().unwrap_or_else(|broken| panic!("{broken}")).push((lease, Instant::now()));
    }

    /// The longest delay of a renewal so far, and how many leases there were.
    fn found(&self) -> (Duration, usize) {
        let renewals = self.renewals.lock().unwrap_or_else(|broken| panic!("{broken}"));
        let same_lease = renewals.windows(2).filter(|pair| pair[0].0 == pair[1].0);
        let delays = same_lease.map(|pair| (pair[1].1 - pair[0].1).saturating_sub(TTL / 3));
        let leases: std::collections::BTreeSet<_> = renewals.iter().map(|(lease, _)| lease.0).collect();
        (delays.max().unwrap_or_default(), leases.len())
    }
}

impl Store for Noting {
    async fn range(&self, range: Range) -> Result<Page, Error> {
        self.store.range(range).await
    }

    async fn commit(&self, txn: Txn) -> Result<Revision, Error> {
        self.store.commit(txn).await
    }

    fn watch(&self, prefix: &str, from: Revision) -> Watch {
        self.store.watch(prefix, from)
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, Error> {
        let lease = self.store.grant(ttl).await?;
        self.note(lease);
        Ok(lease)
    }

    async fn keep_alive(&self, lease: LeaseId, within: Duration) -> Result<Duration, Error> {
        self.note(lease);
        self.store.keep_alive(lease, within).await
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), Error> {
        self.store.revoke(lease).await
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let numbers: Vec<usize> = std::env::args().filter_map(|arg| arg.parse().ok()).collect();
    let hosts = numbers.first().copied().unwrap_or(5_000);
    let units = numbers.get(1).copied().unwrap_or(150_000);
    let (idle, _, _) = lead(&Embedded::in_memory(), 0, 0).await;
    println!("nothing to plan: a renewal was at most {idle:.1?} late");
    let store = Embedded::in_memory();
    fill(&store, hosts, units).await;
    let (late, leases, took) = lead(&store, hosts, units).await;
    let ratio = late.as_secs_f64() / idle.as_secs_f64();
    println!(
        "{hosts} hosts, {units} units placed in {took:.1?}: a renewal was at most {late:.1?} late, {ratio:.1} times as \
         much; leadership was lost {} times",
        leases - 1
    );
}

/// Lead until all units are placed, and for a while at least. The longest delay of a renewal, the number of leases, and
/// how long placing took.
async fn lead(store: &Embedded, hosts: usize, units: usize) -> (Duration, usize, Duration) {
    let store = Noting { store: store.clone(), renewals: Arc::default() };
    let options = Options { machine: machine(0), ttl: TTL, brake: Brake::off(), clock: Clock::system() };
    let (engine, mut status) = Engine::new(store.clone(), options);
    let (stop, begin) = (CancellationToken::new(), Instant::now());
    let until = stop.clone();
    let task = tokio::spawn(async move { engine.run(until).await });
    let all =
        |status: &Status| matches!(status, Status::Leading { hosts: h, units: u, .. } if (*h, *u) == (hosts, units));
    status.wait_for(all).await.unwrap_or_else(|ended| panic!("{ended}"));
    let took = begin.elapsed();
    tokio::time::sleep(IDLE.saturating_sub(took)).await;
    stop.cancel();
    task.await.unwrap_or_else(|error| panic!("{error}"));
    let (late, leases) = store.found();
    (late, leases, took)
}

fn machine(at: usize) -> Machine {
    let id = format!("{:032x}", at + 1).parse().unwrap_or_else(|error| panic!("{error}"));
    Machine::new(id, format!("n{at}"))
}

/// The cluster as hosts and users write it.
async fn fill(store: &Embedded, hosts: usize, units: usize) {
    let text = "[Service]\nExecStart=/bin/true\n[X-Fleet]\nConflicts=%p@*\n";
    let hash = UnitFile::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{error}")).hash();
    let unit = format!(r#"{{"desired":"launched","hash":"{hash}","generation":1,"submitted":0}}"#);
    let put = |key: String, value: String| Op::Put { key, value: value.into_bytes(), lease: None };
    let mut ops = vec![put(format!("file/{hash}"), serde_json::json!({ "text": text }).to_string())];
    for at in 0..hosts {
        let machine = machine(at);
        let value = serde_json::to_string(&machine).unwrap_or_else(|error| panic!("{error}"));
        ops.push(put(format!("machine/{}", machine.id), value));
    }
    ops.extend((0..units).map(|at| put(format!("unit/s{}@{}.service", at / 30, at % 30), unit.clone())));
    for ops in ops.chunks(AT_ONCE) {
        let txn = Txn { guards: vec![], ops: ops.to_vec() };
        store.commit(txn).await.unwrap_or_else(|error| panic!("{error}"));
    }
}
