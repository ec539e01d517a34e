//! `list-units -w` and `list-unit-files -w`: a list that is kept up to date until Ctrl-C. Owns the pace of the screen,
//! which rows it has room for, and the lines for programs; the rows are those of the list without `-w`.

use std::collections::BTreeMap;
use std::pin::pin;
use std::time::Duration;

use serde_json::Value;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

use super::people::Shown;
use super::{Field, UnitFile, rendered, table_of_chosen};
use crate::cli::args::{Filter, ListUnits};
use crate::cli::error::{Error, Exit};
use crate::cli::follow::current::{Changed, Current};
use crate::cli::follow::{interrupted, until};
use crate::cli::input::select;
use crate::cli::session::Session;
use crate::clock::Clock;
use crate::journal::Output as _;
use crate::model::name::UnitName;

/// The shortest time between two updates of the screen.
const PACE: Duration = Duration::from_millis(250);
/// How often the times on the screen are updated.
const TICK: Duration = Duration::from_secs(1);

/// A list of units.
pub(super) struct View<T> {
    /// The columns for programs.
    pub(super) fields: Vec<Field<T>>,
    /// The rows of a unit, each with what tells it from the unit's others.
    pub(super) rows: fn(&UnitFile, &Filter) -> Vec<(String, T)>,
    /// The table for people, at a time in ms since the epoch.
    pub(super) table: fn(&[UnitFile], &Filter, u64) -> Shown,
}

/// Show the list, and every change of it, until Ctrl-C is pressed or nobody reads it any more.
pub(super) async fn run<T>(session: &Session, args: &ListUnits, view: View<T>) -> Result<Exit, Error> {
    let mut current = Current::follow(session, &select::patterns_of(&args.list.patterns)?);
    let mut interrupts = signal(SignalKind::interrupt()).ok();
    let mut resizes = signal(SignalKind::window_change()).ok();
    let mut closed = pin!(session.out.closed());
    let mut lines = Lines { session, args, view: &view, printed: BTreeMap::new(), begun: false };
    let on_screen = session.out.is_live() && !session.is_json();
    // When the screen is to be drawn, and when it was drawn.
    let (mut due, mut drawn): (Option<Instant>, Option<Instant>) = (None, None);
    loop {
        tokio::select! {
            changed = current.next() => {
                let changed = changed?;
                if on_screen {
                    // A change is drawn as soon as the pace allows, and not only with the next tick.
                    let soon = drawn.map_or_else(Instant::now, |drawn| Instant::now().max(drawn + PACE));
                    due = Some(due.map_or(soon, |due| due.min(soon)));
                } else {
                    lines.print(&current, &changed);
                }
                continue;
            }
            () = until(due) => {}
            () = resized(resizes.as_mut()) => {}
            () = interrupted(interrupts.as_mut()) => {
                if drawn.is_some() {
                    // As data, it stays where it is.
                    session.out.data(&screen(session, args, &view, &current));
                }
                return Ok(Exit::Interrupted);
            }
            () = &mut closed => return Ok(Exit::Ok),
        }
        // After a resize there may be nothing to draw yet.
        if due.is_some() {
            session.out.picture(&screen(session, args, &view, &current));
            let now = Instant::now();
            (drawn, due) = (Some(now), Some(now + TICK));
        }
    }
}

async fn resized(resizes: Option<&mut Signal>) {
    match resizes {
        Some(resizes) => drop(resizes.recv().await),
        None => std::future::pending().await,
    }
}

/// The list as a text for the terminal.
fn screen<T>(session: &Session, args: &ListUnits, view: &View<T>, current: &Current<'_>) -> String {
    let units: Vec<UnitFile> = current.units().values().cloned().map(Ok).collect();
    let (columns, filter) = (&args.list.columns, &args.filter);
    // The cursor needs a row as well.
    let rows = session.out.height().saturating_sub(1);
    if columns.fields.is_none() {
        let around = if columns.no_legend { 0 } else { 2 };
        let shown = cut((view.table)(&units, filter, Clock::system().now_ms()), rows.saturating_sub(around));
        return rendered(session, columns, &shown);
    }
    let chosen: Vec<T> = units.iter().flat_map(|unit| (view.rows)(unit, filter)).map(|(_, row)| row).collect();
    let text = table_of_chosen(session, columns, &view.fields, &chosen);
    text.lines().take(rows.max(1)).map(|line| format!("{line}\n")).collect()
}

/// As many rows as there is room for, at least one: those that need attention most, in the order of all.
fn cut(mut shown: Shown, room: usize) -> Shown {
    let left_out = shown.rows.len().saturating_sub(room.max(1));
    if left_out == 0 {
        return shown;
    }
    let mut order: Vec<usize> = (0..shown.rows.len()).collect();
    order.sort_by_key(|index| shown.kinds[*index]);
    let mut kept = order[..shown.rows.len() - left_out].to_vec();
    kept.sort_unstable();
    shown.rows = kept.iter().map(|index| std::mem::take(&mut shown.rows[*index])).collect();
    shown.kinds = kept.iter().map(|index| shown.kinds[*index]).collect();
    shown.footer = format!("{left_out} not shown; {}", shown.footer);
    shown
}

/// The list for programs: all rows, and then each row that changes.
struct Lines<'a, T> {
    session: &'a Session,
    args: &'a ListUnits,
    view: &'a View<T>,
    /// The rows that were printed last, by unit and by what tells them apart.
    printed: BTreeMap<UnitName, BTreeMap<String, Row>>,
    /// Whether the names of the columns were printed.
    begun: bool,
}

/// The texts of a row's columns, or their values in JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Row(Vec<(&'static str, Value)>);

/// The columns that say what a row is about. The others are `-` in the line about its end.
const SUBJECT: [&str; 4] = ["unit", "machine", "hostname", "ip"];

impl<T> Lines<'_, T> {
    fn print(&mut self, current: &Current<'_>, changed: &Changed) {
        let columns = &self.args.list.columns;
        if !std::mem::replace(&mut self.begun, true) && !self.session.is_json() && !columns.no_legend {
            let names: Vec<String> = self.view.fields.iter().map(|field| field.name.to_ascii_uppercase()).collect();
            self.session.out.line(&names.join("\t"));
        }
        let names: Vec<UnitName> = match changed {
            Changed::Unit(name) => vec![name.clone()],
            Changed::All => {
                let gone = self.printed.keys().filter(|name| !current.units().contains_key(*name));
                current.units().keys().chain(gone).cloned().collect()
            }
        };
        for name in names {
            let unit = current.units().get(&name).cloned().map(Ok);
            let rows = unit.map(|unit| (self.view.rows)(&unit, &self.args.filter)).unwrap_or_default();
            let rows = rows.into_iter().map(|(key, row)| (key, self.row(&row))).collect();
            let before = self.printed.remove(&name).unwrap_or_default();
            for line in changes(&before, &rows, self.session.is_json()) {
                self.session.out.line(&line);
            }
            if !rows.is_empty() {
                self.printed.insert(name, rows);
            }
        }
    }

    fn row(&self, row: &T) -> Row {
        let (json, full) = (self.session.is_json(), self.args.list.columns.full);
        let value = |field: &Field<T>| if json { (field.value)(row) } else { (field.text)(row, full).into() };
        Row(self.view.fields.iter().map(|field| (field.name, value(field))).collect())
    }
}

/// A line for each row that is new, has changed, or has ended.
fn changes(before: &BTreeMap<String, Row>, now: &BTreeMap<String, Row>, json: bool) -> Vec<String> {
    let ended = before.iter().filter(|(key, _)| !now.contains_key(*key)).map(|(_, row)| row.line(json, true));
    let changed = now.iter().filter(|(key, row)| before.get(*key) != Some(row)).map(|(_, row)| row.line(json, false));
    ended.chain(changed).collect()
}

impl Row {
    /// As JSON, one that has ended has `removed`; as text, its columns are separated by one tab each.
    fn line(&self, json: bool, ended: bool) -> String {
        let Self(columns) = self;
        if json {
            let removed = ended.then(|| ("removed".to_owned(), Value::Bool(true)));
            let columns = columns.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
            return Value::Object(columns.chain(removed).collect()).to_string();
        }
        let text = |(name, value): &(&str, Value)| match value.as_str() {
            Some(text) if !ended || SUBJECT.contains(name) => text.replace(char::is_control, " "),
            _ => "-".into(),
        };
        columns.iter().map(text).collect::<Vec<_>>().join("\t")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::commands::list::people;
    use crate::cli::condition::tests::unit;
    use crate::model::unit::Desired::Launched;

    fn rows(rows: &[(&str, &str)]) -> BTreeMap<String, Row> {
        let row = |host: &str, active: &str| {
            Row(vec![("unit", "a".into()), ("machine", host.into()), ("active", active.into())])
        };
        rows.iter().map(|(host, active)| ((*host).to_owned(), row(host, active))).collect()
    }

    #[test]
    fn programs_get_a_line_for_each_row_that_changes_or_ends() {
        let (nothing, running) = (rows(&[]), rows(&[("n1", "active")]));
        assert_eq!(changes(&nothing, &running, false), ["a\tn1\tactive"]);
        assert_eq!(changes(&running, &running, false), Vec::<String>::new());
        let moved = rows(&[("n2", "active")]);
        assert_eq!(changes(&running, &moved, false), ["a\tn1\t-", "a\tn2\tactive"]);
        assert_eq!(
            changes(&running, &nothing, true),
            [r#"{"active":"active","machine":"n1","removed":true,"unit":"a"}"#]
        );
        assert_eq!(changes(&running, &rows(&[("n1", "b\tc\n")]), false), ["a\tn1\tb c "]);
    }

    #[test]
    fn what_needs_attention_has_room_first() {
        let running = |number: usize| unit(&format!("b@{number}.service"), Launched, &["n1 active running"]);
        let mut units: Vec<UnitFile> = (0..30).map(running).map(Ok).collect();
        units.push(Ok(unit("z.service", Launched, &["n1 failed failed"])));
        let table = || people::units(&units, &Filter::default(), 0);
        let all = cut(table(), 31);
        assert_eq!((all.rows.len(), all.footer.as_str()), (31, "31 units: 1 failed, 30 running"));
        let some = cut(table(), 5);
        assert_eq!((some.rows.len(), some.footer.as_str()), (5, "26 not shown; 31 units: 1 failed, 30 running"));
        assert_eq!(some.rows[..4], table().rows[..4]);
        assert_eq!(some.rows[4], table().rows[30]);
        assert_eq!(cut(table(), 0).rows.len(), 1);
    }
}
