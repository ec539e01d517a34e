//! list-units, list-unit-files, list-machines: what is requested, and which table is printed: that of CoreOS fleet,
//! which scripts parse, or on a terminal the one for people.

mod fields;
mod filter;
mod live;
pub(in crate::cli) mod people;
mod sets;

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::api::wire::{Amount, DamagedUnit, HostResources, MachineList, MachineView, StateView, UnitList, UnitView};
use crate::cli::args::{Columns, Filter, List, ListMachines, ListUnits};
use crate::cli::condition::Condition;
use crate::cli::error::{Error, Exit, Line};
use crate::cli::explain;
use crate::cli::input::select;
use crate::cli::mass_loss::MassLoss;
use crate::cli::output::fitted::{self, Cell};
use crate::cli::output::table;
use crate::cli::session::Session;
use crate::clock::Clock;
use crate::journal::Output as _;
use crate::model::glob::Glob;
use crate::model::name::UnitName;
use crate::model::resources::Kind;
use live::View;
pub(in crate::cli) use sets::sets;

/// A column: its name, the text of a cell, and its value in JSON.
pub(in crate::cli) struct Field<T> {
    pub(in crate::cli) name: &'static str,
    pub(in crate::cli) text: fn(&T, bool) -> String,
    pub(in crate::cli) value: fn(&T) -> Value,
}

/// A host, and what units take of it, if that is known and asked for.
pub(in crate::cli) struct Host {
    view: MachineView,
    resources: Option<HostResources>,
}

impl Host {
    fn amount(&self, kind: Kind) -> Option<&Amount> {
        let resources = self.resources.as_ref()?;
        Some(match kind {
            Kind::Memory => &resources.memory,
            Kind::Cpu => &resources.cpu,
        })
    }
}

impl std::ops::Deref for Host {
    type Target = MachineView;

    fn deref(&self) -> &MachineView {
        &self.view
    }
}

type UnitState = (UnitName, StateView);

/// A unit, or one whose record is damaged.
pub(in crate::cli) type UnitFile = Result<UnitView, DamagedUnit>;

/// For how many waiting units the reasons of each host are shown.
const EXPLAINED: usize = 5;

/// `list-units`: a row for each unit on each host.
pub(in crate::cli) async fn units(session: &Session, args: &ListUnits) -> Result<Exit, Error> {
    let ListUnits { list, filter, watch } = args;
    let fields = pick(fields::unit_fields(), session, &list.columns, fields::UNITS)?;
    if *watch {
        let rows = |unit: &UnitFile, filter: &Filter| {
            states(unit.clone(), filter).into_iter().map(|row| (row.1.machine.id.to_string(), row)).collect()
        };
        return live::run(session, args, View { fields, rows, table: people::units }).await;
    }
    let (units, unmatched) = fetch(session, list).await?;
    let damaged = damaged(&units);
    let is_for_people = is_for_people(session, &list.columns);
    let shown = is_for_people.then(|| people::units(&units, filter, Clock::system().now_ms()));
    let rows: Vec<UnitState> = units.into_iter().flat_map(|unit| states(unit, filter)).collect();
    match shown {
        Some(shown) => show(session, &list.columns, &shown),
        None => print(session, &list.columns, &fields, &rows),
    }
    if session.out.is_seen() && !session.is_json() {
        if let Ok(hosts) = session.known_machines().await {
            session.out.messages(mass_loss(&hosts));
        }
        let troubled = rows.iter().filter_map(|(name, state)| explain::trouble(name, state));
        session.out.messages(troubled);
    }
    session.out.messages(&damaged);
    Ok(say(session, list, &unmatched).await)
}

/// That units of hosts that vanished together are held.
fn mass_loss(hosts: &MachineList) -> Vec<Line> {
    MassLoss::of(hosts).map(|loss| loss.lines()).unwrap_or_default()
}

/// The reports of a unit that `filter` shows, by host.
fn states(unit: UnitFile, filter: &Filter) -> Vec<UnitState> {
    let (name, desired, mut states) = match unit {
        Ok(unit) => (unit.name, Some(unit.desired), unit.states),
        Err(damaged) => (damaged.name, None, damaged.states),
    };
    let shows = |state: &StateView| {
        filter.shows(&name, &Condition::reported(desired, state), Some(&state.machine), Some(state))
    };
    states.retain(|state| filter.is_empty() || shows(state));
    states.sort_by(|a, b| a.machine.id.cmp(&b.machine.id));
    states.into_iter().map(|state| (name.clone(), state)).collect()
}

/// `list-unit-files`: a row for each unit of the cluster.
pub(in crate::cli) async fn unit_files(session: &Session, args: &ListUnits) -> Result<Exit, Error> {
    let ListUnits { list, filter, watch } = args;
    let fields = pick(fields::unit_file_fields(), session, &list.columns, fields::UNIT_FILES)?;
    if fields.iter().any(|field| field.name == "tmachine") && list.columns.fields.is_some() {
        session.out.message("WARNING: The field \"tmachine\" is deprecated, use \"target\" instead");
    }
    if *watch {
        let rows = |unit: &UnitFile, filter: &Filter| {
            is_shown(unit, filter).then(|| (String::new(), unit.clone())).into_iter().collect()
        };
        let table = |units: &[UnitFile], filter: &Filter, _| people::unit_files(units, filter);
        return live::run(session, args, View { fields, rows, table }).await;
    }
    let (mut units, unmatched) = fetch(session, list).await?;
    units.retain(|unit| is_shown(unit, filter));
    if is_for_people(session, &list.columns) {
        show(session, &list.columns, &people::unit_files(&units, filter));
        explain_waiting(session, &units).await;
    } else {
        print(session, &list.columns, &fields, &units);
    }
    session.out.messages(damaged(&units));
    Ok(say(session, list, &unmatched).await)
}

/// Whether `list-unit-files` has a row for the unit.
fn is_shown(unit: &UnitFile, filter: &Filter) -> bool {
    filter.is_empty() || !people::of_unit(unit, filter).is_empty()
}

/// Below a table on a terminal: why units wait, host by host.
async fn explain_waiting(session: &Session, units: &[UnitFile]) {
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

/// `list-machines`. Scripts count its lines, so without a terminal hosts that are gone are shown on request.
pub(in crate::cli) async fn machines(session: &Session, args: &ListMachines) -> Result<Exit, Error> {
    let ListMachines { list, all } = args;
    let fields = pick(fields::machine_fields(), session, &list.columns, fields::MACHINES)?;
    let globs = globs(&list.patterns)?;
    let hosts = session.known_machines().await?;
    let loss = mass_loss(&hosts);
    let MachineList { mut machines, gone, .. } = hosts;
    let is_for_people = is_for_people(session, &list.columns);
    if *all || is_for_people || fields.iter().any(|field| field.name == "gone") {
        machines.extend(gone);
    }
    // A host can be named by its id, the short form of it, its hostname or its address.
    let named = |machine: &MachineView, glob: &Glob| {
        [machine.id.as_str(), machine.id.short(), &machine.hostname, &machine.ip].iter().any(|name| glob.matches(name))
    };
    let unmatched = list.patterns.iter().zip(&globs).filter(|(_, glob)| !machines.iter().any(|m| named(m, glob)));
    let unmatched: Vec<String> = unmatched.map(|(arg, _)| format!("no host matches `{arg}`")).collect();
    machines.retain(|machine| globs.is_empty() || globs.iter().any(|glob| named(machine, glob)));
    let has_amounts = is_for_people || fields.iter().any(|field| ["memory", "cpu"].contains(&field.name));
    let machines = with_resources(session, machines, has_amounts).await;
    if is_for_people {
        let units = session.known_units(&[]).await?.units;
        show(session, &list.columns, &people::machines(&machines, &units, Clock::system().now_ms()));
        let closed = machines.iter().filter_map(|machine| Some((machine.name(), machine.closed()?.0)));
        session.out.messages(closed.map(|(name, closed)| format!("{name} is {closed}")));
        let gone = machines.iter().find(|machine| machine.gone.is_some()).map(|machine| machine.name());
        let hint = gone.map(|name| Line::hint(format!("if {name} won't be back: `fleetctl forget {name}`")));
        session.out.messages(&if loss.is_empty() { hint.into_iter().collect() } else { loss });
    } else {
        print(session, &list.columns, &fields, &machines);
    }
    session.out.messages(&unmatched);
    Ok(complete(session, &unmatched))
}

/// Hosts with what units take of them, as far as that is asked for and can be known.
async fn with_resources(session: &Session, machines: Vec<MachineView>, wanted: bool) -> Vec<Host> {
    let wanted = wanted && session.offline.get().is_none();
    // A fleetd of an earlier version doesn't count them.
    let found = if wanted { session.client.resources().await.unwrap_or_default().hosts } else { Vec::new() };
    let mut found: BTreeMap<_, _> = found.into_iter().map(|host| (host.id.clone(), host)).collect();
    machines.into_iter().map(|view| Host { resources: found.remove(&view.id), view }).collect()
}

/// Whether the table is for a terminal, and its columns weren't chosen.
fn is_for_people(session: &Session, columns: &Columns) -> bool {
    !session.is_json() && columns.fields.is_none() && session.out.is_seen()
}

/// Print a table for people.
fn show(session: &Session, columns: &Columns, shown: &people::Shown) {
    session.out.data(&rendered(session, columns, shown));
}

/// A table for people, and the line below it.
fn rendered(session: &Session, columns: &Columns, shown: &people::Shown) -> String {
    let width = if columns.full { None } else { session.out.width() };
    let head = if columns.no_legend { &[][..] } else { shown.head };
    let footer: Vec<_> = (!columns.no_legend).then(|| vec![Cell::plain(&shown.footer)]).into_iter().collect();
    fitted::render(head, &shown.rows, width, session.out.has_colours()) + &fitted::render(&[], &footer, width, false)
}

/// Print what matched nothing, after the table, and what may have been meant.
async fn say(session: &Session, list: &List, unmatched: &[String]) -> Exit {
    session.out.messages(unmatched);
    if !unmatched.is_empty() && session.offline.get().is_none() {
        session.out.messages(&select::hints(session, &list.patterns).await);
    }
    complete(session, unmatched)
}

/// A list of one host's units, where the cluster's were asked for, is a failure, as is what matches nothing.
fn complete(session: &Session, unmatched: &[String]) -> Exit {
    Exit::failed_if(!unmatched.is_empty() || session.offline.get().is_some())
}

/// The requested units, by name, and a message for each argument that matches nothing.
async fn fetch(session: &Session, args: &List) -> Result<(Vec<UnitFile>, Vec<String>), Error> {
    let (units, damaged, unmatched) = if args.patterns.is_empty() {
        let UnitList { units, damaged, .. } = session.known_units(&[]).await?;
        (units, damaged, Vec::new())
    } else {
        let mut selected = select::select_known(session, &args.patterns).await?;
        let damaged = std::mem::take(&mut selected.damaged);
        let unmatched = selected.nothing();
        (selected.units.into_iter().map(|(unit, _)| unit).collect(), damaged, unmatched)
    };
    let mut rows: Vec<UnitFile> = units.into_iter().map(Ok).chain(damaged.into_iter().map(Err)).collect();
    rows.sort_by(|a, b| fields::name(a).cmp(fields::name(b)));
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
            let hint = Line::hint(format!("there are {}", known.join(", ")));
            Err(Error::failures([format!("Invalid key in output format: \"{key}\"").into(), hint]))
        }
    };
    asked.split(',').map(|key| find(key.trim())).collect()
}

pub(in crate::cli) fn print<T>(session: &Session, columns: &Columns, fields: &[Field<T>], rows: &[T]) {
    if session.is_json() {
        let mark = session.offline.get().map(|offline| ("offline".to_owned(), json!(offline)));
        let values = |row| fields.iter().map(move |field| (field.name.to_owned(), (field.value)(row)));
        let object = |row| values(row).chain(mark.clone()).collect::<Map<_, _>>();
        session.out.json(&rows.iter().map(object).collect::<Vec<_>>());
        return;
    }
    session.out.data(&if session.out.is_seen() {
        table_of_chosen(session, columns, fields, rows)
    } else {
        table::render(&cells(columns, fields, rows))
    });
}

/// Columns that were chosen, on a terminal: aligned to its width.
fn table_of_chosen<T>(session: &Session, columns: &Columns, fields: &[Field<T>], rows: &[T]) -> String {
    let width = if columns.full { None } else { session.out.width() };
    let cells = cells(columns, fields, rows);
    let cells: Vec<Vec<Cell>> = cells.iter().map(|row| row.iter().map(Cell::plain).collect()).collect();
    fitted::render(&[], &cells, width, false)
}

/// The names of the columns, unless unwanted, and the rows.
fn cells<T>(columns: &Columns, fields: &[Field<T>], rows: &[T]) -> Vec<Vec<String>> {
    let legend = (!columns.no_legend).then(|| fields.iter().map(|field| field.name.to_ascii_uppercase()).collect());
    let cells = rows.iter().map(|row| fields.iter().map(|field| (field.text)(row, columns.full)).collect());
    legend.into_iter().chain(cells).collect()
}

pub(in crate::cli) fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".into() } else { text.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::FIELDS;

    fn names<T>(fields: Vec<Field<T>>) -> Vec<&'static str> {
        fields.into_iter().map(|field| field.name).filter(|name| *name != "tmachine").collect()
    }

    #[test]
    fn help_names_the_fields_that_there_are() {
        let documented = |list: &str| FIELDS.iter().find(|(name, _)| *name == list).map(|(_, fields)| fields.to_vec());
        assert_eq!(documented("list-units"), Some(names(fields::unit_fields())));
        assert_eq!(documented("list-unit-files"), Some(names(fields::unit_file_fields())));
        assert_eq!(documented("list-machines"), Some(names(fields::machine_fields())));
        assert_eq!(documented("list-sets"), Some(names(sets::fields())));
        assert_eq!(documented("list-services"), Some(names(super::super::services::service_fields())));
        assert_eq!(documented("service"), Some(names(super::super::services::instance_fields())));
    }
}
