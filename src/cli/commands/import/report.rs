//! A plan as text. Pure: the plan in, lines out.

use std::collections::BTreeMap;

use super::plan::{Action, Host, Plan, Row};
use crate::cli::output::table;
use crate::remote::shell_line;

/// The table, and all sentences about units and hosts.
pub(super) fn lines(plan: &Plan) -> String {
    let mut text = table::render(&rows(plan));
    let mut say = |line: String| {
        text.push_str(&line);
        text.push('\n');
    };
    for row in &plan.units {
        for problem in &row.problems {
            say(format!("{}: refused: {problem}", row.unit));
        }
        for note in &row.notes {
            say(format!("{}: {note}", row.unit));
        }
    }
    for (unit, hosts) in &plan.unlisted {
        let hosts: Vec<String> = hosts.iter().map(|host| legend(plan, host)).collect();
        say(format!(
            "{unit}: runs on {}, and the cluster there doesn't list it: its record is damaged. Take its file from \
             /run/fleet/units on that host",
            hosts.join(" and ")
        ));
    }
    for host in &plan.machines {
        if let Some(line) = metadata(plan, host) {
            say(line);
        }
    }
    text
}

fn rows(plan: &Plan) -> Vec<Vec<String>> {
    let legend_row = ["UNIT", "DSTATE", "MACHINE", "PLAN"].map(str::to_owned).to_vec();
    let row = |row: &Row| {
        let machine = match (row.global, row.machine.as_str()) {
            (true, _) => "global".into(),
            (_, "") => "-".into(),
            (_, id) => legend(plan, id),
        };
        let plan = match row.action {
            Action::Submit => "submit",
            Action::Same => "same",
            Action::Differs => "differs",
            Action::Replace => "replace",
            Action::Refused => "refused",
        };
        vec![row.unit.clone(), row.desired.clone(), machine, plan.into()]
    };
    std::iter::once(legend_row).chain(plan.units.iter().map(row)).collect()
}

/// The steps that hand the units over without restarting them.
pub(super) fn handover(plan: &Plan) -> String {
    if plan.handover.is_empty() {
        return String::new();
    }
    let mut lines = vec![
        "# To hand over what runs, without restarting it (docs/from-fleet.md has each step):".to_owned(),
        "# stop the old daemons on all hosts at once, so that they stop no unit; then start fleetd on one host after"
            .to_owned(),
        "# the other, in this order, and give each its units when `fleetctl list-machines` shows it".to_owned(),
    ];
    for step in &plan.handover {
        lines.push(match step.machine.as_str() {
            "" => "# when all hosts have joined".into(),
            id => format!("# {}: {} unit{}", legend(plan, id), step.size(), if step.size() == 1 { "" } else { "s" }),
        });
        for (verb, units) in [("start", &step.start), ("load", &step.load)] {
            if !units.is_empty() {
                lines.push(format!("fleetctl {verb} {}", shell_line(units)));
            }
        }
    }
    lines.push(String::new());
    lines.join("\n")
}

fn metadata(plan: &Plan, host: &Host) -> Option<String> {
    if host.missing.is_empty() {
        return None;
    }
    let pairs = |pairs: &BTreeMap<String, String>| {
        pairs.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
    };
    let name = legend(plan, &host.machine);
    Some(if host.here {
        format!("{name}: has no {} here; put it into metadata= of its fleet.conf", pairs(&host.missing))
    } else {
        format!("{name}: isn't a host here yet; its metadata there: {}", pairs(&host.metadata))
    })
}

fn legend(plan: &Plan, id: &str) -> String {
    let short: String = id.chars().take(8).collect();
    match plan.machines.iter().find(|host| host.machine == id) {
        Some(host) if !host.ip.is_empty() => format!("{short}.../{}", host.ip),
        _ => format!("{short}..."),
    }
}
