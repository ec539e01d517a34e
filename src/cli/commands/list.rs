//! list-units, list-unit-files, list-machines: the columns and their content. Owns the fields and their names; `table`
//! aligns them. Scripts parse this output.

use std::io::IsTerminal as _;

use serde_json::{Map, Value, json};

use crate::api::wire::{DamagedUnit, MachineRef, MachineView, StateView, UnitList, UnitView};
use crate::cli::args::{Columns, List};
use crate::cli::error::{Error, Exit};
use crate::cli::explain;
use crate::cli::input::select;
use crate::cli::output::table;
use crate::cli::session::Session;
use crate::model::glob::Glob;
use crate::model::name::{UnitHash, UnitName};

/// A column: its name, the text of a cell, and its value in JSON.
pub(in crate::cli) struct Field<T> {
    pub(in crate::cli) name: &'static str,
    pub(in crate::cli) text: fn(&T, bool) -> String,
    pub(in crate::cli) value: fn(&T) -> Value,
}

type UnitState = (UnitName, StateView);

/// A unit, or one whose record is damaged.
type UnitFile = Result<UnitView, DamagedUnit>;

const UNITS: &str = "unit,machine,active,sub";
const UNIT_FILES: &str = "unit,hash,dstate,state,target";
const MACHINES: &str = "machine,ip,metadata";

fn unit_fields() -> Vec<Field<UnitState>> {
    vec![
        Field { name: "unit", text: |row, _| row.0.to_string(), value: |row| json!(row.0) },
        Field { name: "machine", text: |row, full| row.1.machine.legend(full), value: |row| json!(row.1.machine.id) },
        Field { name: "active", text: |row, _| or_dash(&row.1.active), value: |row| json!(row.1.active) },
        Field { name: "sub", text: |row, _| or_dash(&row.1.sub), value: |row| json!(row.1.sub) },
        Field { name: "load", text: |row, _| or_dash(&row.1.load), value: |row| json!(row.1.load) },
        Field { name: "hash", text: |row, full| hash(&row.1.hash, full), value: |row| json!(row.1.hash) },
        Field { name: "ip", text: |row, _| or_dash(&row.1.machine.ip), value: |row| json!(row.1.machine.ip) },
        Field {
            name: "hostname",
            text: |row, _| or_dash(&row.1.machine.hostname),
            value: |row| json!(row.1.machine.hostname),
        },
        Field {
            name: "job",
            text: |row, _| or_dash(row.1.job.as_deref().unwrap_or("")),
            value: |row| json!(row.1.job),
        },
        Field {
            name: "error",
            text: |row, _| or_dash(&row.1.trouble().unwrap_or_default()),
            value: |row| json!(row.1.trouble()),
        },
        Field { name: "restarts", text: |row, _| row.1.restarts.to_string(), value: |row| json!(row.1.restarts) },
        Field { name: "failure", text: failure, value: |row| json!(row.1.failure) },
    ]
}

/// systemd's result of a unit that failed.
fn failure(row: &UnitState, _: bool) -> String {
    or_dash(row.1.failure.as_ref().map_or("", |failure| &failure.result))
}

/// What `list-unit-files` shows as the state of a unit with a damaged record.
const DAMAGED: &str = "damaged";

fn unit_file_fields() -> Vec<Field<UnitFile>> {
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
                Ok(unit) => or_dash(&unit.current),
                Err(_) => DAMAGED.into(),
            },
            value: |row| match row {
                Ok(unit) if unit.global => Value::Null,
                Ok(unit) => json!(unit.current),
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

fn name(row: &UnitFile) -> &UnitName {
    row.as_ref().map_or_else(|damaged| &damaged.name, |unit| &unit.name)
}

fn machine(row: &UnitFile) -> Option<&MachineRef> {
    row.as_ref().map_or_else(|damaged| damaged.machine.as_ref(), |unit| unit.machine.as_ref())
}

fn sound(row: &UnitFile, text: impl FnOnce(&UnitView) -> String) -> String {
    row.as_ref().map_or_else(|_| "-".into(), text)
}

fn machine_fields() -> Vec<Field<MachineView>> {
    vec![
        Field {
            name: "machine",
            text: |machine, full| if full { machine.id.to_string() } else { format!("{}...", machine.id.short()) },
            value: |machine| json!(machine.id),
        },
        Field { name: "ip", text: |machine, _| or_dash(&machine.ip), value: |machine| json!(machine.ip) },
        Field {
            name: "metadata",
            text: |machine, _| {
                or_dash(
                    &machine.metadata.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(","),
                )
            },
            value: |machine| json!(machine.metadata),
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
    ]
}

/// For how many waiting units the reasons of each host are shown.
const EXPLAINED: usize = 5;

/// `list-units`: a row for each unit on each host.
pub(in crate::cli) async fn units(session: &Session, args: &List) -> Result<Exit, Error> {
    let fields = pick(unit_fields(), session, &args.columns, UNITS)?;
    let (units, unmatched) = fetch(session, args).await?;
    let damaged = damaged(&units);
    let rows: Vec<UnitState> = units
        .into_iter()
        .map(|row| row.map_or_else(|damaged| (damaged.name, damaged.states), |unit| (unit.name, unit.states)))
        .flat_map(|(name, mut states)| {
            states.sort_by(|a, b| a.machine.id.cmp(&b.machine.id));
            states.into_iter().map(move |state| (name.clone(), state))
        })
        .collect();
    print(session, &args.columns, &fields, &rows);
    if is_shown_to_somebody(session) {
        let troubled = rows.iter().filter_map(|(name, state)| explain::trouble(name, state));
        session.out.messages(&troubled.collect::<Vec<_>>());
    }
    session.out.messages(&damaged);
    Ok(say(session, &unmatched))
}

/// Whether a table is shown on a terminal, so that notes may follow it.
fn is_shown_to_somebody(session: &Session) -> bool {
    session.out.is_watched() && std::io::stdout().is_terminal() && !session.is_json()
}

/// `list-unit-files`: a row for each unit of the cluster.
pub(in crate::cli) async fn unit_files(session: &Session, args: &List) -> Result<Exit, Error> {
    let fields = pick(unit_file_fields(), session, &args.columns, UNIT_FILES)?;
    if fields.iter().any(|field| field.name == "tmachine") && args.columns.fields.is_some() {
        session.out.message("WARNING: The field \"tmachine\" is deprecated, use \"target\" instead");
    }
    let (units, unmatched) = fetch(session, args).await?;
    print(session, &args.columns, &fields, &units);
    if is_shown_to_somebody(session) {
        let waiting = units.iter().flatten().filter_map(|unit| unit.waiting.as_ref().map(|why| (unit, why)));
        for (index, (unit, why)) in waiting.enumerate() {
            // The reasons of each host cost a request, so only the first few units are explained.
            if index < EXPLAINED {
                session.out.message(&format!("{} waits for a host that fits:", unit.name));
                let detail = session.client.unit(&unit.name).await.ok();
                for line in explain::reasons(why, detail.as_ref()) {
                    session.out.message(&line);
                }
            } else {
                session.out.message(&format!("{} waits for a host that fits: {why}", unit.name));
            }
        }
    }
    session.out.messages(&damaged(&units));
    Ok(say(session, &unmatched))
}

/// `list-machines`.
pub(in crate::cli) async fn machines(session: &Session, args: &List) -> Result<Exit, Error> {
    let fields = pick(machine_fields(), session, &args.columns, MACHINES)?;
    let globs = globs(&args.patterns)?;
    let mut machines = session.client.machines().await?.machines;
    // A host can be named by its id, the short form of it, its hostname or its address.
    let named = |machine: &MachineView, glob: &Glob| {
        [machine.id.as_str(), machine.id.short(), &machine.hostname, &machine.ip].iter().any(|name| glob.matches(name))
    };
    let unmatched = args.patterns.iter().zip(&globs).filter(|(_, glob)| !machines.iter().any(|m| named(m, glob)));
    let unmatched: Vec<String> = unmatched.map(|(arg, _)| format!("no host matches `{arg}`")).collect();
    machines.retain(|machine| globs.is_empty() || globs.iter().any(|glob| named(machine, glob)));
    print(session, &args.columns, &fields, &machines);
    Ok(say(session, &unmatched))
}

/// Print what matched nothing, after the table.
fn say(session: &Session, unmatched: &[String]) -> Exit {
    session.out.messages(unmatched);
    Exit::failed_if(!unmatched.is_empty())
}

/// The requested units, by name, and a message for each argument that matches nothing.
async fn fetch(session: &Session, args: &List) -> Result<(Vec<UnitFile>, Vec<String>), Error> {
    let (units, damaged, unmatched) = if args.patterns.is_empty() {
        let UnitList { units, damaged, .. } = session.client.units(&[]).await?;
        (units, damaged, Vec::new())
    } else {
        let mut selected = select::select(&session.client, &args.patterns).await?;
        let damaged = std::mem::take(&mut selected.damaged);
        let unmatched = selected.nothing();
        (selected.units.into_iter().map(|(unit, _)| unit).collect(), damaged, unmatched)
    };
    let mut rows: Vec<UnitFile> = units.into_iter().map(Ok).chain(damaged.into_iter().map(Err)).collect();
    rows.sort_by(|a, b| name(a).cmp(name(b)));
    Ok((rows, unmatched))
}

/// Messages about damaged units. Printed with JSON output too, since they go to stderr.
fn damaged(rows: &[UnitFile]) -> Vec<String> {
    rows.iter().filter_map(|row| row.as_ref().err()).map(explain::damaged).collect()
}

pub(in crate::cli) fn globs(patterns: &[String]) -> Result<Vec<Glob>, Error> {
    patterns
        .iter()
        .map(|pattern| {
            pattern.parse().map_err(|error: crate::model::glob::GlobError| Error::failure(error.to_string()))
        })
        .collect()
}

/// The requested fields, in that order; with JSON all of them by default.
pub(in crate::cli) fn pick<T>(
    fields: Vec<Field<T>>,
    session: &Session,
    columns: &Columns,
    default: &str,
) -> Result<Vec<Field<T>>, Error> {
    let asked = match &columns.fields {
        Some(asked) if asked.trim().is_empty() => return Err(Error::failure("Must define output format")),
        Some(asked) => asked.as_str(),
        None if session.is_json() => return Ok(fields.into_iter().filter(|field| field.name != "tmachine").collect()),
        None => default,
    };
    let find = |key: &str| match fields.iter().find(|field| field.name == key) {
        Some(Field { name, text, value }) => Ok(Field { name, text: *text, value: *value }),
        None => {
            let known: Vec<&str> = fields.iter().map(|field| field.name).collect();
            let hint = format!("{}there are {}", crate::cli::error::HINT, known.join(", "));
            Err(Error::failures(vec![format!("Invalid key in output format: \"{key}\""), hint]))
        }
    };
    asked.split(',').map(|key| find(key.trim())).collect()
}

pub(in crate::cli) fn print<T>(session: &Session, columns: &Columns, fields: &[Field<T>], rows: &[T]) {
    if session.is_json() {
        let object =
            |row| fields.iter().map(|field| (field.name.to_owned(), (field.value)(row))).collect::<Map<_, _>>();
        session.out.json(&rows.iter().map(object).collect::<Vec<_>>());
        return;
    }
    let legend = (!columns.no_legend).then(|| fields.iter().map(|field| field.name.to_ascii_uppercase()).collect());
    let cells = rows.iter().map(|row| fields.iter().map(|field| (field.text)(row, columns.full)).collect());
    session.out.data(&table::render(&legend.into_iter().chain(cells).collect::<Vec<Vec<String>>>()));
}

fn hash(hash: &UnitHash, full: bool) -> String {
    if full { hash.to_string() } else { hash.short().into() }
}

pub(in crate::cli) fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".into() } else { text.into() }
}
