//! The columns of list-units, list-unit-files and list-machines: their names, the text of a cell as CoreOS fleet
//! printed it, and its value in JSON. Scripts parse this output.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Field, Host, UnitFile, UnitState, or_dash};
use crate::api::wire::{MachineRef, MachineView, UnitView};
use crate::clock::utc;
use crate::model::name::{UnitHash, UnitName};
use crate::model::resources::Kind;
use crate::model::systemd::JobKind;

/// The columns without `--fields`.
pub(super) const UNITS: &str = "unit,machine,active,sub";
/// The columns without `--fields`.
pub(super) const UNIT_FILES: &str = "unit,hash,dstate,state,target";
/// The columns without `--fields`.
pub(super) const MACHINES: &str = "machine,ip,metadata";

/// Of `list-units`.
pub(super) fn unit_fields() -> Vec<Field<UnitState>> {
    vec![
        Field { name: "unit", text: |row, _| row.0.as_str().to_owned(), value: |row| json!(row.0) },
        Field { name: "machine", text: |row, full| row.1.machine.legend(full), value: |row| json!(row.1.machine.id) },
        Field {
            name: "active",
            text: |row, _| or_dash(row.1.report.active.as_str()),
            value: |row| json!(row.1.report.active),
        },
        Field { name: "sub", text: |row, _| or_dash(&row.1.report.sub), value: |row| json!(row.1.report.sub) },
        Field {
            name: "load",
            text: |row, _| or_dash(row.1.report.load.as_str()),
            value: |row| json!(row.1.report.load),
        },
        Field { name: "hash", text: |row, full| hash(&row.1.report.hash, full), value: |row| json!(row.1.report.hash) },
        Field { name: "ip", text: |row, _| or_dash(&row.1.machine.ip), value: |row| json!(row.1.machine.ip) },
        Field {
            name: "hostname",
            text: |row, _| or_dash(&row.1.machine.hostname),
            value: |row| json!(row.1.machine.hostname),
        },
        Field {
            name: "job",
            text: |row, _| or_dash(row.1.report.job.as_ref().map_or("", JobKind::as_str)),
            value: |row| json!(row.1.report.job),
        },
        Field {
            name: "error",
            text: |row, _| or_dash(&row.1.trouble().unwrap_or_default()),
            value: |row| json!(row.1.trouble()),
        },
        Field {
            name: "missing",
            text: |row, _| row.1.report.missing.to_string(),
            value: |row| json!(row.1.report.missing),
        },
        Field {
            name: "restarts",
            text: |row, _| row.1.report.restarts.to_string(),
            value: |row| json!(row.1.report.restarts),
        },
        Field { name: "failure", text: failure, value: |row| json!(row.1.report.failure) },
        Field {
            name: "status",
            text: |row, _| or_dash(row.1.report.status.as_deref().unwrap_or("")),
            value: |row| json!(row.1.report.status),
        },
        Field { name: "ready", text: ready, value: |row| json!(row.1.report.ready) },
        Field {
            name: "health",
            text: |row, _| or_dash(row.1.report.health.as_deref().unwrap_or("")),
            value: |row| json!(row.1.report.health),
        },
    ]
}

/// What the probes of a unit say; a dash if it has none.
fn ready(row: &UnitState, _: bool) -> String {
    row.1.report.ready.map_or("-", |ready| if ready { "yes" } else { "no" }).into()
}

/// systemd's result of a unit that failed.
fn failure(row: &UnitState, _: bool) -> String {
    or_dash(row.1.report.failure.as_ref().map_or("", |failure| &failure.result))
}

/// What `list-unit-files` shows as the state of a unit with a damaged record.
const DAMAGED: &str = "damaged";

/// Of `list-unit-files`.
pub(super) fn unit_file_fields() -> Vec<Field<UnitFile>> {
    let target = |row: &UnitFile, full: bool| match (machine(row), row.as_ref().is_ok_and(|unit| unit.global)) {
        (_, true) => "global".into(),
        (Some(machine), _) => machine.legend(full),
        (None, _) => "-".into(),
    };
    let target_value = |row: &UnitFile| match (machine(row), row.as_ref().is_ok_and(|unit| unit.global)) {
        (_, true) => json!("global"),
        (machine, _) => json!(machine.map(|machine| &machine.id)),
    };
    vec![
        Field { name: "unit", text: |row, _| name(row).to_string(), value: |row| json!(name(row)) },
        Field {
            name: "hash",
            text: |row, full| sound(row, |unit| hash(&unit.hash, full)),
            value: |row| json!(row.as_ref().ok().map(|unit| &unit.hash)),
        },
        Field {
            name: "dstate",
            text: |row, _| sound(row, |unit| unit.desired.to_string()),
            value: |row| json!(row.as_ref().ok().map(|unit| unit.desired)),
        },
        Field {
            name: "state",
            text: |row, _| match row {
                Ok(unit) if unit.global => "-".into(),
                Ok(unit) => or_dash(current(unit)),
                Err(_) => DAMAGED.into(),
            },
            value: |row| match row {
                Ok(unit) if unit.global => Value::Null,
                Ok(unit) => json!(current(unit)),
                Err(_) => json!(DAMAGED),
            },
        },
        Field { name: "target", text: target, value: target_value },
        Field { name: "tmachine", text: target, value: target_value },
        Field {
            name: "global",
            text: |row, _| sound(row, |unit| unit.global.to_string()),
            value: |row| json!(row.as_ref().ok().map(|unit| unit.global)),
        },
        Field {
            name: "desc",
            text: |row, _| sound(row, |unit| or_dash(&unit.description)),
            value: |row| json!(row.as_ref().ok().map(|unit| &unit.description)),
        },
        Field {
            name: "waiting",
            text: |row, _| sound(row, |unit| or_dash(unit.waiting.as_deref().unwrap_or(""))),
            value: |row| json!(row.as_ref().ok().and_then(|unit| unit.waiting.as_ref())),
        },
    ]
}

/// The current state of a unit; `done` if it runs once, and has.
fn current(unit: &UnitView) -> &str {
    if unit.done.is_some() { "done" } else { &unit.current }
}

/// The name of the unit in `row`.
pub(super) fn name(row: &UnitFile) -> &UnitName {
    row.as_ref().map_or_else(|damaged| &damaged.name, |unit| &unit.name)
}

fn machine(row: &UnitFile) -> Option<&MachineRef> {
    row.as_ref().map_or_else(|damaged| damaged.machine.as_ref(), |unit| unit.machine.as_ref())
}

fn sound(row: &UnitFile, text: impl FnOnce(&UnitView) -> String) -> String {
    row.as_ref().map_or_else(|_| "-".into(), text)
}

/// Of `list-machines`.
pub(super) fn machine_fields() -> Vec<Field<Host>> {
    vec![
        Field {
            name: "machine",
            text: |machine, full| if full { machine.id.to_string() } else { format!("{}...", machine.id.short()) },
            value: |machine| json!(machine.id),
        },
        Field { name: "ip", text: |machine, _| or_dash(&machine.ip), value: |machine| json!(machine.ip) },
        Field {
            name: "metadata",
            text: |machine, _| or_dash(&pairs(&machine.metadata)),
            value: |machine| json!(machine.metadata),
        },
        Field {
            name: "builtin",
            text: |machine, _| or_dash(&pairs(&machine.builtin)),
            value: |machine| json!(machine.builtin),
        },
        Field {
            name: "hostname",
            text: |machine, _| or_dash(&machine.hostname),
            value: |machine| json!(machine.hostname),
        },
        Field {
            name: "version",
            text: |machine, _| or_dash(&machine.version),
            value: |machine| json!(machine.version),
        },
        Field { name: "since", text: |machine, _| machine.since.to_string(), value: |machine| json!(machine.since) },
        Field {
            name: "gone",
            text: |machine, _| machine.gone.map_or_else(|| "-".into(), |gone| gone.since.to_string()),
            value: |machine| json!(machine.gone),
        },
        Field { name: "state", text: |machine, _| state(machine), value: |machine| json!(state_word(machine)) },
        Field {
            name: "drain",
            text: |machine, _| or_dash(machine.drain.as_ref().map_or("", |drain| &drain.why)),
            value: |machine| json!(machine.drain),
        },
        Field {
            name: "cordon",
            text: |machine, _| or_dash(machine.cordon.as_ref().map_or("", |cordon| &cordon.why)),
            value: |machine| json!(machine.cordon),
        },
        Field {
            name: "memory",
            text: |machine, _| taken(machine, Kind::Memory),
            value: |machine| json!(machine.amount(Kind::Memory)),
        },
        Field {
            name: "cpu",
            text: |machine, _| taken(machine, Kind::Cpu),
            value: |machine| json!(machine.amount(Kind::Cpu)),
        },
    ]
}

/// `512 MiB of 7.7 GiB`: what units take of what they can take.
pub(super) fn taken(host: &Host, kind: Kind) -> String {
    let amount = host.amount(kind);
    amount
        .map_or_else(|| "-".into(), |amount| format!("{} of {}", kind.shown(amount.taken), kind.shown(amount.offered)))
}

/// `disk=ssd,zone=a`.
fn pairs(metadata: &BTreeMap<String, String>) -> String {
    metadata.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

/// The state of a host in one word.
fn state_word(machine: &MachineView) -> &'static str {
    match (&machine.gone, &machine.drain, &machine.cordon) {
        (Some(_), ..) => "gone",
        (None, Some(_), _) => "drained",
        (None, None, Some(_)) => "cordoned",
        (None, None, None) => "up",
    }
}

/// `cordoned since 2026-11-28 10:01:00 UTC by ci: kernel`, `gone since …`, `up`.
fn state(machine: &MachineView) -> String {
    let closed = machine.closed().map(|(said, since)| {
        let (word, rest) = said.split_at(said.find([' ', ':']).unwrap_or(said.len()));
        format!("{word} since {}{rest}", utc(since))
    });
    match machine.gone {
        Some(gone) if gone.since > 0 => [Some(format!("gone since {}", utc(gone.since))), closed],
        Some(_) => [Some("gone".into()), closed],
        None => [None, closed],
    }
    .into_iter()
    .flatten()
    .reduce(|one, other| format!("{one}, {other}"))
    .unwrap_or_else(|| "up".into())
}

fn hash(hash: &UnitHash, full: bool) -> String {
    if full { hash.to_string() } else { hash.short().into() }
}
