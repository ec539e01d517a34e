//! The lists as a terminal shows them: names of hosts, one word for a state with its reason, natural order, counts.
//! Pure: the cluster's answers in, rows out. Owns the columns for people; `fields` has those that scripts parse.

use std::collections::BTreeMap;

use super::fields::taken;
use super::{Host, UnitFile, fields};
use crate::api::wire::{DamagedUnit, MachineRef, StateView, UnitView};
use crate::cli::args::Filter;
use crate::cli::condition::{Condition, Kind, summary};
use crate::cli::output::fitted::{Cell, Tone};
use crate::cli::output::people::{ago, count, natural};
use crate::model::name::{UnitHash, UnitName};
use crate::model::resources;
use crate::model::unit::Desired;

/// A table and the line below it.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) head: &'static [&'static str],
    pub(super) rows: Vec<Vec<Cell>>,
    /// The kind of state of each row.
    pub(super) kinds: Vec<Kind>,
    pub(super) footer: String,
}

/// A unit on a host, or on none.
#[derive(Debug, Clone)]
pub(in crate::cli) struct Line<'a> {
    pub(in crate::cli) name: &'a UnitName,
    pub(in crate::cli) condition: Condition,
    pub(super) machine: Option<&'a MachineRef>,
    pub(in crate::cli) state: Option<&'a StateView>,
    /// What is shown as its host.
    pub(in crate::cli) host: String,
}

/// `list-units`: each unit that is on a host or should be on one.
pub(super) fn units(units: &[UnitFile], filter: &Filter, now: u64) -> Shown {
    let mut lines: Vec<Line<'_>> = units.iter().flat_map(|unit| retried(of_unit(unit, filter), unit, now)).collect();
    lines.sort_by(|a, b| natural(a.name.as_str(), b.name.as_str()).then_with(|| natural(&a.host, &b.host)));
    let row = |line: &Line<'_>| {
        let Condition { kind, text, since } = &line.condition;
        vec![
            Cell::new(kind.mark(), kind.tone()),
            Cell::unit(line.name.as_str()),
            Cell::plain(&line.host),
            Cell::new(text, if *kind == Kind::Running { Tone::Plain } else { kind.tone() }),
            Cell::plain(ago(*since, now)),
        ]
    };
    let kinds: Vec<Kind> = lines.iter().map(|line| line.condition.kind).collect();
    let footer = summary(&count(lines.len(), "unit"), kinds.iter().copied());
    Shown { head: &["", "UNIT", "HOST", "STATE", "SINCE"], rows: lines.iter().map(row).collect(), kinds, footer }
}

/// The lines of one unit.
pub(in crate::cli) fn of_unit<'a>(unit: &'a UnitFile, filter: &Filter) -> Vec<Line<'a>> {
    let (desired, states) = match unit {
        Ok(unit) => (Some(unit.desired), &unit.states),
        Err(damaged) => (None, &damaged.states),
    };
    let name = fields::name(unit);
    let line = |state: &'a StateView| Line {
        name,
        condition: Condition::reported(desired, state),
        machine: Some(&state.machine),
        state: Some(state),
        host: state.machine.name(),
    };
    let mut lines: Vec<Line<'_>> = states.iter().map(line).collect();
    if let (true, Ok(view)) = (lines.is_empty(), unit)
        && view.desired != Desired::Inactive
    {
        let host = view.machine.as_ref().map_or_else(|| "-".into(), MachineRef::name);
        let condition = Condition::without_report(view);
        lines.push(Line { name, condition, machine: view.machine.as_ref(), state: None, host });
    }
    lines.retain(|line| filter.shows(line.name, &line.condition, line.machine, line.state));
    match unit {
        Ok(view) if view.global => folded(view, lines),
        _ => lines,
    }
}

/// The same lines at `now`, with when the unit is tried again if it has failed.
pub(in crate::cli) fn retried<'a>(mut lines: Vec<Line<'a>>, unit: &UnitFile, now: u64) -> Vec<Line<'a>> {
    if let Ok(view) = unit
        && view.retry.is_some()
    {
        lines.iter_mut().for_each(|line| line.condition = line.condition.clone().tried_again(view, now));
    }
    lines
}

/// A global unit that is in the same state on all its hosts, as one line: `3/3`.
fn folded<'a>(unit: &UnitView, mut lines: Vec<Line<'a>>) -> Vec<Line<'a>> {
    let hosts = unit.hosts.len().max(unit.states.len());
    let same = lines.windows(2).all(|two| two[0].condition.text == two[1].condition.text);
    if lines.len() < 2 || lines.len() != hosts || !same {
        return lines;
    }
    let latest = lines.iter().map(|line| line.condition.since).max().unwrap_or(0);
    lines.truncate(1);
    for line in &mut lines {
        line.host = format!("{hosts}/{hosts}");
        line.condition.since = latest;
    }
    lines
}

/// `list-unit-files`: each unit of the cluster, with what is wanted and what is.
pub(super) fn unit_files(units: &[UnitFile], filter: &Filter) -> Shown {
    let mut units: Vec<&UnitFile> = units.iter().collect();
    units.sort_by(|a, b| natural(fields::name(a).as_str(), fields::name(b).as_str()));
    let differing = differing(units.iter().copied().flatten());
    let (kinds, rows): (Vec<Kind>, Vec<Vec<Cell>>) =
        units.into_iter().filter_map(|unit| unit_file(unit, filter)).unzip();
    let mut footer = summary(&count(rows.len(), "unit"), kinds.iter().copied());
    match differing {
        0 => {}
        1 => footer += "; 1 instance differs from its template",
        several => footer += &format!("; {several} instances differ from their templates"),
    }
    Shown { head: &["", "UNIT", "WANTED", "IS", "HOST"], rows, kinds, footer }
}

/// The number of instances whose file isn't that of their template, as far as the template is among `units`.
fn differing<'a>(units: impl Iterator<Item = &'a UnitView> + Clone) -> usize {
    let files: BTreeMap<&UnitName, &UnitHash> = units.clone().map(|unit| (&unit.name, &unit.hash)).collect();
    let differs = |unit: &&UnitView| {
        let template = unit.name.template();
        template.and_then(|template| files.get(&template)).is_some_and(|hash| **hash != unit.hash)
    };
    units.filter(differs).count()
}

/// A row, unless nothing of the unit is shown. The worst state of a global unit's hosts counts.
fn unit_file(unit: &UnitFile, filter: &Filter) -> Option<(Kind, Vec<Cell>)> {
    let wanted = match unit {
        Ok(unit) => unit.desired.to_string(),
        Err(DamagedUnit { .. }) => "damaged".into(),
    };
    let lines = of_unit(unit, filter);
    let worst = lines.iter().min_by_key(|line| line.condition.kind);
    let (kind, text, host) = match worst {
        Some(line) if lines.len() == 1 => (line.condition.kind, line.condition.text.clone(), line.host.clone()),
        Some(line) => (line.condition.kind, line.condition.text.clone(), count(lines.len(), "host")),
        // Nothing is wanted of it, or the filter leaves all of it out.
        None if filter.is_empty() => (Kind::Inactive, "inactive".into(), "-".into()),
        None => return None,
    };
    let tone = if kind == Kind::Running { Tone::Plain } else { kind.tone() };
    let name = Cell::unit(fields::name(unit).as_str());
    let row =
        vec![Cell::new(kind.mark(), kind.tone()), name, Cell::plain(wanted), Cell::new(text, tone), Cell::plain(host)];
    Some((kind, row))
}

/// `list-machines`. `units` are all units of the cluster.
pub(super) fn machines(machines: &[Host], units: &[UnitView], now: u64) -> Shown {
    let is_taken = |host: &Host| host.resources.as_ref().is_some_and(|resources| resources.units > 0);
    let has_amounts = machines.iter().any(is_taken);
    let mut machines: Vec<&Host> = machines.iter().collect();
    machines.sort_by(|a, b| natural(&a.hostname, &b.hostname).then_with(|| a.id.cmp(&b.id)));
    let row = |machine: &&Host| {
        let on = units.iter().filter(|unit| unit.states.iter().any(|state| state.machine.id == machine.id)).count();
        let metadata: Vec<String> = machine.metadata.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let or_dash = |text: &str| Cell::plain(super::or_dash(text));
        let (on, since) = match machine.gone {
            Some(gone) => {
                let held = if gone.held.is_some() { ", units held" } else { "" };
                ("-".into(), Cell::new(for_so_long(gone.since, now) + held, Tone::Bad))
            }
            None if machine.closed().is_some() => {
                let word = if machine.drain.is_some() { ", drained" } else { ", cordoned" };
                (on.to_string(), Cell::new(ago(machine.since, now) + word, Tone::Busy))
            }
            None => (on.to_string(), Cell::plain(ago(machine.since, now))),
        };
        let kinds = resources::Kind::ALL.into_iter().filter(|_| has_amounts);
        let amounts = kinds.map(|kind| Cell::plain(taken(machine, kind)));
        let name = or_dash(if machine.hostname.is_empty() { machine.id.short() } else { &machine.hostname });
        let before = [name, or_dash(&machine.ip), Cell::plain(on)];
        let after = [since, or_dash(&machine.version), or_dash(&metadata.join(","))];
        before.into_iter().chain(amounts).chain(after).collect()
    };
    let rows: Vec<_> = machines.iter().map(row).collect();
    let kind = |machine: &&Host| if machine.gone.is_some() { Kind::Failed } else { Kind::Running };
    let kinds: Vec<Kind> = machines.iter().map(kind).collect();
    let gone = kinds.iter().filter(|kind| **kind == Kind::Failed).count();
    let present = count(rows.len() - gone, "host");
    let up = || machines.iter().filter(|machine| machine.gone.is_none());
    let drained = up().filter(|machine| machine.drain.is_some()).count();
    let cordoned = up().filter(|machine| machine.closed().is_some()).count() - drained;
    let parts =
        [(gone, "gone"), (cordoned, "cordoned"), (drained, "drained")].into_iter().filter(|(number, _)| *number > 0);
    let footer = parts.fold(present, |footer, (number, word)| format!("{footer}, {number} {word}"));
    let head: &[&str] = match has_amounts {
        true => &["HOST", "ADDRESS", "UNITS", "MEMORY", "CPU", "SINCE", "VERSION", "METADATA"],
        false => &["HOST", "ADDRESS", "UNITS", "SINCE", "VERSION", "METADATA"],
    };
    Shown { head, rows, kinds, footer }
}

/// `gone for 2 min`.
fn for_so_long(since: u64, now: u64) -> String {
    if since == 0 { "gone".into() } else { format!("gone for {}", ago(since, now)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::wire::{Amount, HostResources, MachineView};
    use crate::cli::condition::tests::unit;
    use crate::cli::output::fitted::render;
    use crate::model::machine::Gone;
    use crate::model::maintenance::Cordon;

    const NOW: u64 = 300_000;

    fn cluster() -> Vec<UnitFile> {
        use Desired::{Inactive, Launched};
        let mut exporter = unit("exporter.service", Launched, &["n2 active running", "n1 active running"]);
        exporter.global = true;
        let mut agent = unit("agent.service", Launched, &["n2 failed failed", "n1 active running"]);
        agent.global = true;
        let mut waiting = unit("web@4.service", Launched, &[]);
        waiting.waiting = Some("2 of 2 hosts: conflict".into());
        let units = vec![
            unit("batch@10.service", Launched, &["n1 active running"]),
            unit("batch@2.service", Launched, &["n2 inactive dead"]),
            exporter,
            agent,
            waiting,
            unit("template@.service", Inactive, &[]),
            unit("order-backend-recalculation-worker@eu-west-1.service", Launched, &["n1 activating start"]),
        ];
        units.into_iter().map(Ok).collect()
    }

    fn text(shown: &Shown, width: usize) -> String {
        render(shown.head, &shown.rows, Some(width), false) + &shown.footer
    }

    #[test]
    fn units_have_their_host_and_one_word() {
        let shown = units(&cluster(), &Filter::default(), NOW);
        assert_eq!(
            text(&shown, 80),
            "   UNIT                             HOST  STATE                           SINCE\n\
             ●  agent                            n1    running                         4 min\n\
             ×  agent                            n2    failed                          4 min\n\
             !  batch@2                          n2    dead: it should run             4 min\n\
             ●  batch@10                         n1    running                         4 min\n\
             ●  exporter                         2/2   running                         4 min\n\
             ↑  order-backend-r…orker@eu-west-1  n1    starting                        4 min\n\
             …  web@4                            -     waiting: 2 of 2 hosts: confli…  -\n\
             7 units: 1 failed, 1 dead, 1 waiting, 1 starting, 3 running"
        );
        let narrow = text(&shown, 45);
        assert!(narrow.lines().all(|line| line.chars().count() < 45 || line.starts_with("7 units")), "{narrow}");
        for name in ["batch@2 ", "batch@10 ", "exporter ", "order-…"] {
            assert!(narrow.contains(name), "{narrow}");
        }
        assert!(text(&shown, 120).contains("order-backend-recalculation-worker@eu-west-1.service  n1"));
    }

    #[test]
    fn unit_files_have_what_is_wanted_and_what_is() {
        let shown = unit_files(&cluster(), &Filter::default());
        let lines = text(&shown, 120);
        for line in [
            "×  agent.service launched failed 2 hosts",
            "●  exporter.service launched running 2/2",
            "○  template@.service inactive inactive -",
        ] {
            let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
            let line = words(line);
            assert!(lines.lines().any(|other| words(other) == line), "{line}\n{lines}");
        }
        let with = |hash: &str| {
            let view =
                |name: &str, hash: &str| UnitView { hash: UnitHash::new(hash), ..unit(name, Desired::Inactive, &[]) };
            vec![Ok(view("w@.service", "new")), Ok(view("w@1.service", hash)), Ok(view("x@1.service", "old"))]
        };
        assert_eq!(unit_files(&with("new"), &Filter::default()).footer, "3 units: 3 inactive");
        let footer = "3 units: 3 inactive; 1 instance differs from its template";
        assert_eq!(unit_files(&with("old"), &Filter::default()).footer, footer);
        let failed = Filter { failed: true, ..Filter::default() };
        assert_eq!(unit_files(&cluster(), &failed).footer, "1 unit: 1 failed");
    }

    #[test]
    fn hosts_are_in_the_order_of_their_names() {
        let machine = |digit: char, hostname: &str| MachineView {
            id: digit.to_string().repeat(32).parse().unwrap(),
            ip: format!("10.0.0.{digit}"),
            hostname: hostname.into(),
            metadata: [("zone".to_owned(), "a".to_owned())].into(),
            builtin: [("@arch".to_owned(), "x86-64".to_owned())].into(),
            version: "0.1.0".into(),
            since: 60_000,
            gone: None,
            cordon: None,
            drain: None,
        };
        let units: Vec<UnitView> = cluster().into_iter().flatten().collect();
        let machines = |all: &[MachineView], units: &[UnitView], now: u64| {
            let hosts: Vec<Host> = all.iter().map(|view| Host { view: view.clone(), resources: None }).collect();
            super::machines(&hosts, units, now)
        };
        let shown = machines(&[machine('2', "n10"), machine('1', "n2")], &units, NOW);
        assert_eq!(
            text(&shown, 80),
            "HOST  ADDRESS   UNITS  SINCE  VERSION  METADATA\n\
             n2    10.0.0.1  4      4 min  0.1.0    zone=a\n\
             n10   10.0.0.2  3      4 min  0.1.0    zone=a\n\
             2 hosts"
        );
        let gone = Some(Gone { since: 180_000, ..Gone::default() });
        let shown = machines(&[machine('2', "n10"), MachineView { gone, ..machine('1', "n2") }], &units, NOW);
        assert_eq!(
            text(&shown, 80),
            "HOST  ADDRESS   UNITS  SINCE           VERSION  METADATA\n\
             n2    10.0.0.1  -      gone for 2 min  0.1.0    zone=a\n\
             n10   10.0.0.2  3      4 min           0.1.0    zone=a\n\
             1 host, 1 gone"
        );
        let cordon = Some(Cordon::default());
        let shown = machines(&[machine('2', "n10"), MachineView { cordon, ..machine('1', "n2") }], &units, NOW);
        assert_eq!(
            text(&shown, 80),
            "HOST  ADDRESS   UNITS  SINCE            VERSION  METADATA\n\
             n2    10.0.0.1  4      4 min, cordoned  0.1.0    zone=a\n\
             n10   10.0.0.2  3      4 min            0.1.0    zone=a\n\
             2 hosts, 1 cordoned"
        );
        let amount = |has, taken| Amount { has: Some(has), reserved: 0, offered: has, taken };
        let (memory, cpu) = (amount(8 << 30, 512 << 20), amount(400, 50));
        let view = machine('1', "n2");
        let resources = Some(HostResources { id: view.id.clone(), memory, cpu, units: 1 });
        let hosts = [Host { view, resources }, Host { view: machine('2', "n10"), resources: None }];
        assert_eq!(
            text(&super::machines(&hosts, &units, NOW), 80),
            "HOST  ADDRESS   UNITS  MEMORY            CPU          SINCE  VERSION  METADATA\n\
             n2    10.0.0.1  4      512 MiB of 8 GiB  50% of 400%  4 min  0.1.0    zone=a\n\
             n10   10.0.0.2  3      -                 -            4 min  0.1.0    zone=a\n\
             2 hosts"
        );
    }
}
