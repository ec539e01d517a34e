//! Records as engine, agents and API write them, for tests with a store and an API, but without engine and agents. Owns
//! the values of the fields that don't matter to the tests; writes nothing itself. For any test: `#[path =
//! "support/records.rs"] mod records;`

use flotilla::model::format::{Format, ReportKeyForm};
use flotilla::model::machine::Machine;
use flotilla::model::name::{MachineId, UnitHash, UnitName};
use flotilla::model::revision::Revision;
use flotilla::model::service::Instance;
use flotilla::model::systemd::{ActiveState, LoadState, UnitState};
use flotilla::model::unit::{Assignment, Placement, Target, Unit, UnitReport};
use flotilla::plan::host::local::{HostView, LocalUnits};
use flotilla::plan::host::{Disk, Now};
use flotilla::registry::keys::Key;
use flotilla::registry::{delete, put};
use flotilla::store::Op;

/// A generation above all that a test requests.
pub(crate) const LATEST: u64 = u64::MAX >> 1;

fn names(unit: &str, host: &str) -> (UnitName, MachineId) {
    (unit.parse().unwrap(), host.parse().unwrap())
}

/// A host.
pub(crate) fn machine(id: &str, hostname: &str, ip: &str, metadata: &[(&str, &str)]) -> Op {
    let machine = host(id, hostname, ip, metadata);
    put(&Key::Machine(machine.id.clone()), &machine, None)
}

/// A host in the zone a, with built-in metadata.
pub(crate) fn reporting(id: &str, hostname: &str, ip: &str, builtin: &[(&str, &str)]) -> Op {
    let mut machine = host(id, hostname, ip, &[("zone", "a")]);
    machine.builtin = builtin.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
    put(&Key::Machine(machine.id.clone()), &machine, None)
}

fn host(id: &str, hostname: &str, ip: &str, metadata: &[(&str, &str)]) -> Machine {
    Machine {
        id: id.parse().unwrap(),
        ip: ip.into(),
        hostname: hostname.into(),
        metadata: metadata.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect(),
        builtin: Default::default(),
        reserved: Default::default(),
        version: "1.2.3".into(),
        boot_id: "b".into(),
        since: 0,
        format: Format::CURRENT,
        leaving: false,
    }
}

/// What a host knows without the store: `units`, each with its file, were started at generation 7 and run.
pub(crate) fn host_view(id: &str, hostname: &str, ip: &str, units: &[(&str, &str)]) -> HostView {
    let named = |unit: &str| -> UnitName { unit.parse().unwrap() };
    let executed = |_| serde_json::from_str(r#"{"generation":7,"target":"launched"}"#).unwrap();
    let disk = Disk {
        files: units.iter().map(|(unit, text)| (named(unit), (*text).to_owned())).collect(),
        executed: Some(units.iter().map(|(unit, _)| (named(unit), executed(()))).collect()),
        foreign: None,
    };
    let runs = UnitState { load: LoadState::Loaded, active: ActiveState::Active, sub: "running".into(), job: None };
    let mut local = LocalUnits::new(host(id, hostname, ip, &[]), disk);
    let seen = local.names().into_iter().map(|name| (name, runs.clone())).collect();
    local.observed(seen, Now { monotonic: std::time::Duration::ZERO, wall_ms: 1 });
    local.view()
}

/// Where a unit is placed.
pub(crate) fn placed(unit: &str, host: &str) -> Op {
    let (name, host) = names(unit, host);
    put(&Key::Placement(name), &Placement::On { host, since: 1, from: None, tried: None, moved: None }, None)
}

/// The assignment of a unit to a host.
pub(crate) fn entry(unit: &str, host: &str, target: Target, global: bool, generation: u64) -> Op {
    let (name, host) = names(unit, host);
    let entry = Assignment { global, ..Assignment::new(UnitHash::new(""), target, Revision(generation)) };
    put(&Key::Schedule(host, name), &entry, None)
}

/// What a host reports of a unit.
pub(crate) fn state(unit: &str, host: &str, target: Target, active: &str, generation: u64) -> Op {
    let (name, host) = names(unit, host);
    let told = Assignment::new(UnitHash::new("abc"), target, Revision(generation));
    let (load, sub) = ("loaded".into(), "running".into());
    let state = UnitReport { load, active: active.into(), sub, since: 5, ..UnitReport::of(&told) };
    put(&Key::state(&host, &name, ReportKeyForm::HostFirst), &state, None)
}

/// The unit of this record runs on a host as it is asked for.
#[allow(dead_code, reason = "not every test that has these records needs it")]
pub(crate) fn running(unit: &str, host: &str, record: &[u8]) -> Vec<Op> {
    let unit_: Unit = serde_json::from_slice(record).unwrap();
    let told = Assignment::new(unit_.hash, Target::Launched, unit_.generation);
    let (load, sub) = ("loaded".into(), "running".into());
    let state = UnitReport { load, active: "active".into(), sub, since: 5, ..UnitReport::of(&told) };
    let (name, id) = names(unit, host);
    let key = Key::state(&id, &name, ReportKeyForm::HostFirst);
    vec![put(&Key::Schedule(id, name), &told, None), placed(unit, host), put(&key, &state, None)]
}

/// Delete the placement of the unit, and its assignment to the host.
pub(crate) fn unplaced(unit: &str, host: &str) -> Vec<Op> {
    let (name, host) = names(unit, host);
    vec![delete(&Key::Schedule(host, name.clone())), delete(&Key::Placement(name))]
}

/// Delete the host's report of the unit.
pub(crate) fn unreported(unit: &str, host: &str) -> Op {
    let (name, host) = names(unit, host);
    delete(&Key::state(&host, &name, ReportKeyForm::HostFirst))
}

/// A unit's record that can't be read.
pub(crate) fn damaged(unit: &str) -> Op {
    Op::Put { key: Key::Unit(unit.parse().unwrap()).to_string(), value: b"{".to_vec(), lease: None }
}

/// An instance of a service, announced on a host for `web@1.service`.
pub(crate) fn instance(service: &str, instance: &str, host: &str, port: u16) -> Op {
    let is = Instance {
        unit: "web@1.service".parse().ok(),
        machine: host.parse().ok(),
        hostname: "n1".into(),
        metadata: [("zone".to_owned(), "a".to_owned())].into(),
        since: 1,
        ..Instance::new("10.88.0.11", port)
    };
    put(&Key::Service(service.parse().unwrap(), instance.parse().unwrap()), &is, None)
}
