//! The real API over a store in memory, so that differences from the scripted one are found. There is no engine and no
//! agent: the test writes what they would write.

use flotilla::api::server::health::{self, Health, Remedy};
use flotilla::api::server::listen::Listener;
use flotilla::api::server::serve;
use flotilla::api::server::state::{Api, AskHost, Own, Settings};
use flotilla::clock::Clock;
use flotilla::model::unit::Target;
use flotilla::store::embedded::Embedded;
use flotilla::store::{Op, Range, Store as _, Txn};
use tempfile::TempDir;

use super::fake::{Ran, fleetctl, run, terminal, typed_at};
use super::records::{self, LATEST};

/// A `fleetd` without hands.
pub(crate) struct Real {
    pub(crate) dir: TempDir,
    store: Embedded,
    runtime: tokio::runtime::Runtime,
    health: tokio::sync::watch::Sender<Health>,
}

impl Real {
    pub(crate) fn new() -> Self {
        Self::on("a2d7e4a6000000000000000000000001", &[])
    }

    /// On the host n1 with machine id `id`, which has `units` with these files, whatever the store says.
    pub(crate) fn on(id: &'static str, units: &'static [(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (store, (sender, health)) = (Embedded::in_memory(), health::channel(Health::Ready));
        let api = Api::new(store.clone(), Clock::system(), "n1", health, Settings::default());
        let api = api.asking_host(AskHost::new(move || async move {
            let view = records::host_view(id, "n1", "10.88.0.11", units);
            Ok(Own { view, at: (3 * 3600 + 14 * 60 + 5) * 1000, since: Some((3 * 3600 + 12 * 60 + 4) * 1000) })
        }));
        let address = format!("unix://{}/fleet.sock", dir.path().display()).parse().unwrap();
        let listener = runtime.block_on(Listener::open(&address)).unwrap();
        runtime.spawn(serve(vec![listener], api, std::future::pending()));
        Self { dir, store, runtime, health: sender }
    }

    /// The store is unreachable from now on.
    pub(crate) fn cut_off(&self) {
        let what = "can't reach its store: etcd at 10.88.0.1:2379 refuses connections".into();
        self.health.send_replace(Health::Waiting { what, since: 0, remedy: Remedy::Store });
    }

    /// Another live host has its machine id.
    pub(crate) fn is_refused(&self) {
        let what =
            "isn't registered with its cluster: another live host has the machine id a2d7e4a6: n9 (10.88.0.19), \
                    and this is n1 (10.88.0.11); give one of them its own"
                .into();
        self.health.send_replace(Health::Waiting { what, since: 7, remedy: Remedy::Person });
    }

    /// A file in the folder in which `fleetctl` runs.
    pub(crate) fn file(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir.path().join(name)).unwrap()
    }

    pub(crate) fn run(&self, args: &str) -> Ran {
        run(self.command(args))
    }

    pub(crate) fn command(&self, args: &str) -> std::process::Command {
        let mut command = fleetctl(self.dir.path());
        command.args(args.split(' ')).arg("--endpoint").arg(self.dir.path().join("fleet.sock"));
        command
    }

    /// On a terminal, on which `typed` is typed when it shows `seen`.
    pub(crate) fn on_terminal(&self, args: &str, typed: &str, seen: &str) -> (Option<i32>, String) {
        let mut command = terminal(self.dir.path(), args, 80);
        command.env("FLEETCTL_ENDPOINT", format!("unix://{}/fleet.sock", self.dir.path().display()));
        typed_at(command.env("NO_COLOR", "1"), typed, seen)
    }

    #[track_caller]
    pub(crate) fn expect(&self, args: &str, code: i32, out: &str, err: &str) {
        assert_eq!(self.run(args), Ran { code: Some(code), out: out.into(), err: err.into() }, "fleetctl {args}");
    }

    pub(crate) fn host(&self, id: &str) {
        self.write(vec![records::machine(id, "n1", "10.88.0.11", &[("zone", "a")])]);
    }

    /// Another host.
    pub(crate) fn named_alike(&self, id: &str, name: &str) {
        self.write(vec![records::machine(id, name, "10.88.0.13", &[])]);
    }

    /// The host reports this of itself.
    pub(crate) fn reporting(&self, id: &str, builtin: &[(&str, &str)]) {
        self.write(vec![records::reporting(id, "n1", "10.88.0.11", builtin)]);
    }

    /// The unit is on `host`, as engine and agent write it.
    pub(crate) fn place(&self, unit: &str, host: &str, active: &str) {
        self.write(vec![
            records::entry(unit, host, Target::Launched, false, LATEST),
            records::placed(unit, host),
            records::state(unit, host, Target::Launched, active, LATEST),
        ]);
    }

    /// The unit runs on the host as it is asked for.
    pub(crate) fn runs(&self, unit: &str, host: &str) {
        let range = Range { prefix: format!("unit/{unit}"), after: None, limit: 1, at: None };
        let found = self.runtime.block_on(self.store.range(range)).unwrap();
        self.write(records::running(unit, host, &found.kvs[0].value));
    }

    /// A record that can't be read.
    pub(crate) fn damage(&self, unit: &str) {
        self.write(vec![records::damaged(unit)]);
    }

    /// An instance is announced, as the API writes it.
    pub(crate) fn announce(&self, service: &str, instance: &str, host: &str, port: u16) {
        self.write(vec![records::instance(service, instance, host, port)]);
    }

    /// No host has it any more.
    pub(crate) fn take_away(&self, unit: &str, host: &str) {
        let mut ops = records::unplaced(unit, host);
        ops.push(records::unreported(unit, host));
        self.write(ops);
    }

    /// A record as somebody else writes it.
    pub(crate) fn record(&self, key: &str, value: &serde_json::Value) {
        self.write(vec![Op::Put { key: key.into(), value: value.to_string().into(), lease: None }]);
    }

    /// A record as somebody else deletes it.
    pub(crate) fn erase(&self, key: &str) {
        self.write(vec![Op::Delete(key.into())]);
    }

    fn write(&self, ops: Vec<Op>) {
        self.runtime.block_on(self.store.commit(Txn { guards: vec![], ops })).unwrap();
    }
}
