//! The real API over a store in memory, so that the scripted one can't drift from it. No engine and no agent: the test writes
//! what they would.

use flotilla::api::health::{self, Health};
use flotilla::api::listen::Listener;
use flotilla::api::server::serve;
use flotilla::api::state::{Api, Settings};
use flotilla::clock::Clock;
use flotilla::model::machine::Machine;
use flotilla::model::name::{MachineId, UnitHash, UnitName};
use flotilla::model::revision::Revision;
use flotilla::model::service::Instance;
use flotilla::model::unit::{Entry, Placement, State, Target};
use flotilla::registry::keys::Key;
use flotilla::registry::{delete, put};
use flotilla::store::embedded::Embedded;
use flotilla::store::{Op, Store as _, Txn};
use tempfile::TempDir;

use super::fake::{Ran, fleetctl, run};

/// A `fleetd` without hands.
pub(crate) struct Real {
    pub(crate) dir: TempDir,
    store: Embedded,
    runtime: tokio::runtime::Runtime,
    _health: tokio::sync::watch::Sender<Health>,
}

impl Real {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (store, (sender, health)) = (Embedded::in_memory(), health::channel(Health::Ready));
        let api = Api::new(store.clone(), Clock::system(), "n1", health, Settings::default());
        let listener = runtime.block_on(Listener::unix(&dir.path().join("fleet.sock"))).unwrap();
        runtime.spawn(serve(vec![listener], api, std::future::pending()));
        Self { dir, store, runtime, _health: sender }
    }

    pub(crate) fn run(&self, args: &str) -> Ran {
        let mut command = fleetctl(self.dir.path());
        run({
            command.args(args.split(' ')).arg("--endpoint").arg(self.dir.path().join("fleet.sock"));
            command
        })
    }

    #[track_caller]
    pub(crate) fn expect(&self, args: &str, code: i32, out: &str, err: &str) {
        assert_eq!(self.run(args), Ran { code: Some(code), out: out.into(), err: err.into() }, "fleetctl {args}");
    }

    pub(crate) fn host(&self, id: &str) {
        let machine = Machine {
            id: id.parse().unwrap(),
            ip: "10.88.0.11".into(),
            hostname: "n1".into(),
            metadata: [("zone".to_owned(), "a".to_owned())].into(),
            version: "1".into(),
            boot_id: String::new(),
            since: 0,
        };
        self.write(vec![put(&Key::Machine(machine.id.clone()), &machine, None)]);
    }

    /// The unit is on `host`, as engine and agent write it.
    pub(crate) fn place(&self, unit: &str, host: &str, active: &str) {
        let (name, host): (UnitName, MachineId) = (unit.parse().unwrap(), host.parse().unwrap());
        let (hash, generation) = (UnitHash::new("0"), Revision(u64::MAX >> 1));
        let entry = Entry { hash: hash.clone(), target: Target::Launched, global: false, generation, restart: None };
        let state = State {
            generation,
            target: Target::Launched,
            hash,
            load: "loaded".into(),
            active: active.into(),
            sub: "running".into(),
            job: None,
            result: None,
            error: None,
            since: 1,
        };
        self.write(vec![
            put(&Key::Schedule(host.clone(), name.clone()), &entry, None),
            put(&Key::Placement(name.clone()), &Placement::On { host: host.clone(), since: 1 }, None),
            put(&Key::State(name, host), &state, None),
        ]);
    }

    /// An instance is announced, as the API writes it.
    pub(crate) fn announce(&self, service: &str, instance: &str, host: &str, port: u16) {
        let is = Instance {
            address: "10.88.0.11".into(),
            port,
            weight: 1,
            unit: "web@1.service".parse().ok(),
            machine: host.parse().ok(),
            hostname: "n1".into(),
            metadata: [("zone".to_owned(), "a".to_owned())].into(),
            owner: String::new(),
            ttl: 10,
            since: 1,
        };
        self.write(vec![put(&Key::Service(service.parse().unwrap(), instance.parse().unwrap()), &is, None)]);
    }

    /// No host has it any more.
    pub(crate) fn take_away(&self, unit: &str, host: &str) {
        let (name, host): (UnitName, MachineId) = (unit.parse().unwrap(), host.parse().unwrap());
        self.write(vec![
            delete(&Key::Schedule(host.clone(), name.clone())),
            delete(&Key::Placement(name.clone())),
            delete(&Key::State(name, host)),
        ]);
    }

    fn write(&self, ops: Vec<Op>) {
        self.runtime.block_on(self.store.commit(Txn { guards: vec![], ops })).unwrap();
    }
}
