//! Two hosts with their daemons over one store, and the client that sends a request. Each is a process that can die and
//! comes back a second later, as systemd or a person would have it. Owns these; knows no operation.

use std::time::Duration;

use flotilla::agent::{self, Agent};
use flotilla::clock::Clock;
use flotilla::engine::{self, Brake, Engine};
use flotilla::model::author::Author;
use flotilla::model::cluster::Cluster;
use flotilla::model::format::Format;
use flotilla::model::machine::Machine;
use flotilla::model::name::{MachineId, UnitName};
use flotilla::registry::apply::apply;
use flotilla::registry::keys;
use flotilla::registry::reader::Reader;
use flotilla::registry::units::Intent;
use flotilla::store::embedded::Embedded;
use flotilla::store::{Op, Range, Store as _, Txn};
use flotilla::systemd::fake::{Fake, What};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::process::{Bus, Line, Process};

const TTL: Duration = Duration::from_secs(10);

/// How soon a process that has died is there again.
const AGAIN: Duration = Duration::from_secs(1);

/// How often it is noticed that a process has died.
const LOOK: Duration = Duration::from_millis(50);

/// What a client asks for.
#[derive(Clone)]
pub(crate) enum Request {
    /// A change of units, as the API carries it out.
    Units(Vec<Intent>),
    /// Other records, in one transaction.
    Records(Vec<Op>),
}

/// A host. The first one leads until its daemon dies.
pub(crate) struct Host {
    pub(crate) id: MachineId,
    pub(crate) fake: Fake,
    pub(crate) daemon: Process,
    name: &'static str,
    zone: &'static str,
}

pub(crate) struct World {
    pub(crate) store: Embedded,
    pub(crate) hosts: Vec<Host>,
    pub(crate) client: Process,
    clock: Clock,
}

impl World {
    /// Host n1 in zone a, which leads, and n2 in zone b.
    pub(crate) async fn new() -> Self {
        let host = |name, zone, id: &str| {
            let id = id.repeat(32).parse().unwrap();
            Host { id, fake: Fake::default(), daemon: Process::default(), name, zone }
        };
        let mut world = Self {
            store: Embedded::in_memory(),
            hosts: vec![host("n1", "a", "1"), host("n2", "b", "2")],
            client: Process::default(),
            clock: Clock::simulated(0),
        };
        for at in 0..world.hosts.len() {
            world.start(at);
            sleep(Duration::from_secs(1)).await;
        }
        world
    }

    /// Start the daemon of a host.
    fn start(&mut self, at: usize) {
        let host = &mut self.hosts[at];
        host.daemon = Process::default();
        let machine = Machine {
            id: host.id.clone(),
            ip: format!("10.0.0.{at}"),
            hostname: host.name.into(),
            metadata: [("zone".into(), host.zone.into())].into(),
            builtin: Default::default(),
            reserved: Default::default(),
            version: "test".into(),
            boot_id: "boot".into(),
            since: 0,
            format: Format::CURRENT,
            leaving: false,
        };
        let line = Line { store: self.store.clone(), process: host.daemon.clone() };
        let bus = Bus { host: host.fake.clone(), process: host.daemon.clone() };
        let options = agent::Options { machine: machine.clone(), ttl: TTL, alone: false, clock: self.clock };
        let (agent, _) = Agent::new(line.clone(), bus, options);
        let (engine, _) =
            Engine::new(line, engine::Options { machine, ttl: TTL, brake: Brake::off(), clock: self.clock });
        host.daemon.has(tokio::spawn(agent.run(CancellationToken::new())).abort_handle());
        let engine = tokio::spawn(async move { engine.run(CancellationToken::new()).await });
        host.daemon.has(engine.abort_handle());
    }

    /// Send a request, without waiting for it.
    pub(crate) fn send(&self, request: Request) {
        let line = Line { store: self.store.clone(), process: self.client.clone() };
        let now = self.clock.now_ms();
        let sent = tokio::spawn(async move {
            match request {
                Request::Units(intents) => {
                    let reader = Reader::new(line);
                    drop(apply(&reader, &intents, &Author::default(), now).await.unwrap());
                }
                Request::Records(ops) => drop(line.commit(Txn { guards: Vec::new(), ops }).await.unwrap()),
            }
        });
        self.client.has(sent.abort_handle());
    }

    /// Let time pass. Processes that die meanwhile come back; a client asks again, if `request` had no effect.
    pub(crate) async fn pass(&mut self, time: Duration, request: &Request) {
        let before = self.content().await;
        let end = tokio::time::Instant::now() + time;
        while tokio::time::Instant::now() < end {
            sleep(LOOK).await;
            let dead: Vec<usize> = (0..self.hosts.len()).filter(|at| self.hosts[*at].daemon.is_dead()).collect();
            if !dead.is_empty() {
                sleep(AGAIN).await;
                dead.into_iter().for_each(|at| self.start(at));
            }
            if self.client.is_dead() {
                self.client = Process::default();
                sleep(AGAIN).await;
                if self.content().await == before {
                    self.send(request.clone());
                }
            }
        }
    }

    /// What users have asked for, as the store has it.
    async fn content(&self) -> Vec<(String, Vec<u8>)> {
        let mut all = Vec::new();
        for prefix in [keys::UNITS, keys::METADATA] {
            let page = self.store.range(Range { prefix: prefix.into(), limit: 100, ..Range::default() }).await.unwrap();
            all.extend(page.kvs.into_iter().map(|kv| (kv.key, kv.value.to_vec())));
        }
        all
    }

    /// The keys that name a unit, except those of its earlier texts.
    pub(crate) async fn keys_of(&self, unit: &UnitName) -> Vec<String> {
        let page = self.store.range(Range { limit: 1000, ..Range::default() }).await.unwrap();
        let keys = page.kvs.into_iter().map(|kv| kv.key);
        keys.filter(|key| key.contains(unit.as_str()) && !key.starts_with(keys::HISTORIES)).collect()
    }

    pub(crate) async fn cluster(&self) -> Cluster {
        let families = [
            keys::UNITS,
            keys::FILES,
            keys::PLACEMENTS,
            keys::SCHEDULE,
            keys::STATES,
            keys::MACHINES,
            keys::METADATA,
            keys::ROSTER,
            keys::GATES,
            keys::ROLLOUTS,
        ];
        Reader::new(self.store.clone()).whole(&families).await.unwrap().0
    }

    /// What happened to the processes of units: host, unit and event, in order.
    pub(crate) fn history(&self) -> Vec<(&'static str, UnitName, What)> {
        let mut all = Vec::new();
        for host in &self.hosts {
            for entry in host.fake.log() {
                let Some(unit) = entry.unit else { continue };
                if matches!(entry.what, What::Started | What::Stopped | What::Failed | What::Killed) {
                    all.push((entry.at, host.name, unit, entry.what));
                }
            }
        }
        all.sort_by_key(|(at, ..)| *at);
        all.into_iter().map(|(_, host, unit, what)| (host, unit, what)).collect()
    }
}
