//! `--plan`: what a batch, or what is asked of a rollout, would lead to, instead of carrying it out. Owns the
//! sentences; the cluster plans.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::wire::{AppliedUnit, ApplyUnit, MachineRef, Outcome, Plan, PlannedEffect, PlannedRollout, PlannedUnit};
use crate::cli::commands::{counted, send};
use crate::cli::error::{Error, Exit};
use crate::cli::output::people::count;
use crate::cli::session::Session;
use crate::model::forecast::What;
use crate::model::name::UnitName;
use crate::model::rollout::Phase;

/// Print what `units` would lead to. `files` has the names of their local files, by unit.
///
/// # Errors
/// The request failed, the batch is wrong, or the daemon knows no plans.
pub(super) async fn show(
    session: &Session,
    units: &[ApplyUnit],
    files: &BTreeMap<String, String>,
) -> Result<(Exit, Plan), Error> {
    let asked = send::names(units);
    let plan = if units.is_empty() {
        Plan { complete: true, ..Plan::default() }
    } else {
        let plan = session.client.plan(units).await.map_err(|error| Error::of_apply(error, files))?;
        plan.ok_or_else(too_old)?
    };
    Ok((print(session, &plan, &asked), plan))
}

/// Print what it would lead to to ask something of a rollout.
///
/// # Errors
/// The daemon knows no plans.
pub(super) fn of_ask(session: &Session, plan: Option<Plan>) -> Result<Exit, Error> {
    Ok(print(session, &plan.ok_or_else(too_old)?, &BTreeSet::new()))
}

fn too_old() -> Error {
    Error::failures(["this fleetd is too old for --plan: upgrade it", "nothing was changed"])
}

fn print(session: &Session, plan: &Plan, asked: &BTreeSet<String>) -> Exit {
    if session.is_json() {
        session.out.json(plan);
    } else {
        lines(plan, asked).iter().for_each(|line| session.out.line(line));
    }
    if plan.changes { Exit::Findings } else { Exit::Ok }
}

/// The same, for a command that sends no files, and which has `failed` as far as units can't be found.
///
/// # Errors
/// As [`show`].
pub(super) async fn instead(session: &Session, units: &[ApplyUnit], failed: bool) -> Result<Exit, Error> {
    let (exit, _) = show(session, units, &BTreeMap::new()).await?;
    Ok(Exit::failed_if(failed).and(exit))
}

/// Whether a unit keeps a file that differs from the one that was sent.
pub(super) fn differs(plan: &Plan, units: &[ApplyUnit]) -> bool {
    let asked = send::names(units);
    let applied = plan.units.iter().filter_map(|unit| unit.applied.as_ref());
    applied.into_iter().any(|unit| unit.outcome == Outcome::Differs && !send::is_left(unit, &asked))
}

fn lines(plan: &Plan, asked: &BTreeSet<String>) -> Vec<String> {
    let mut lines: Vec<String> = plan.rollouts.iter().flat_map(rollout).collect();
    let held: BTreeSet<&UnitName> = plan.rollouts.iter().flat_map(|rollout| &rollout.held).collect();
    for unit in &plan.units {
        lines.push(format!("{}  {}", unit.name, said(unit, held.contains(&unit.name), asked)));
    }
    if !plan.complete {
        lines.push("more follows, which takes too long to be planned".into());
    }
    if !plan.changes {
        lines.push("nothing would change".into());
    }
    lines
}

/// `web@.service  rolls out to 3 members, one at a time, never fewer than 2 ready, in at most 30 min`.
fn rollout(rollout: &PlannedRollout) -> Vec<String> {
    let has_hosts = !(rollout.step_machines.is_empty() && rollout.held_machines.is_empty());
    let members = match has_hosts {
        true => rollout.steps.iter().map(Vec::len).sum::<usize>() + rollout.held.len(),
        // Those that ride with a member have its number.
        false => {
            rollout.steps.iter().flatten().chain(&rollout.held).map(UnitName::number).collect::<BTreeSet<_>>().len()
        }
    };
    let pace = match rollout.parallel {
        1 => "one at a time".to_owned(),
        parallel if parallel >= members => "all together".to_owned(),
        parallel => format!("{parallel} at a time"),
    };
    let members = count(members, if has_hosts { "host" } else { "member" });
    let ready = match rollout.least_ready {
        0 => String::new(),
        least => format!(", never fewer than {least} ready"),
    };
    let longest = rollout.longest.map_or_else(String::new, |seconds| format!(", in at most {}", time(seconds)));
    let mut lines = vec![format!("{}  rolls out to {members}, {pace}{ready}{longest}", rollout.name)];
    if !rollout.before.is_empty() {
        lines.push(format!("  before it runs, once: {}", names(&rollout.before, &[])));
    }
    if !rollout.steps.is_empty() {
        let machines = |at: usize| rollout.step_machines.get(at).map_or(&[][..], Vec::as_slice);
        let steps: Vec<String> = rollout.steps.iter().enumerate().map(|(at, step)| names(step, machines(at))).collect();
        lines.push(format!("  in this order: {}", steps.join("; ")));
    }
    if !rollout.after.is_empty() {
        lines.push(format!("  after it runs, once: {}", names(&rollout.after, &[])));
    }
    let held = names(&rollout.held, &rollout.held_machines);
    match (rollout.phase, &rollout.why) {
        (Phase::Done, _) => {}
        (Phase::Waiting, _) => lines.push(format!("  then it waits to be promoted; until then as now: {held}")),
        (_, Some(why)) => lines.push(format!("  then it stops: {why}")),
        (_, None) => lines.push(format!("  then it stops; as now: {held}")),
    }
    lines
}

fn time(seconds: u64) -> String {
    if seconds < 120 { format!("{seconds} s") } else { format!("{} min", seconds.div_ceil(60)) }
}

/// `web@3.service, web@2.service`; of a global unit, `n1, n2`.
fn names(units: &[UnitName], machines: &[MachineRef]) -> String {
    let name = |(at, unit): (usize, &UnitName)| machines.get(at).map_or_else(|| unit.to_string(), host);
    units.iter().enumerate().map(name).collect::<Vec<_>>().join(", ")
}

/// What would become of a unit.
fn said(unit: &PlannedUnit, is_held: bool, asked: &BTreeSet<String>) -> String {
    let applied = unit.applied.as_ref();
    if unit.effects.is_empty() {
        return applied.map_or_else(|| "stays as it is".into(), |applied| record(applied, is_held, asked));
    }
    let same_body = applied.is_some_and(|applied| applied.same_body);
    // Of a global unit, the same may happen on many hosts.
    let mut groups: Vec<(&PlannedEffect, Vec<String>)> = Vec::new();
    for effect in &unit.effects {
        let on = effect.machine.as_ref().map(host).unwrap_or_default();
        match groups.last_mut().filter(|(last, _)| last.what == effect.what && effect.from.is_none()) {
            Some((_, hosts)) => hosts.push(on),
            None => groups.push((effect, vec![on])),
        }
    }
    let why = |effect: &PlannedEffect| match &effect.why {
        // Why a unit leaves its host is known to who asks for it.
        Some(_) if applied.is_some() && effect.what == What::Leaves => String::new(),
        Some(why) => format!(": {why}"),
        None => String::new(),
    };
    let one = |(effect, hosts): &(&PlannedEffect, Vec<String>)| {
        format!("{}{}", happens(effect, &hosts.join(", "), same_body), why(effect))
    };
    groups.iter().map(one).collect::<Vec<_>>().join("; ")
}

fn happens(effect: &PlannedEffect, on: &str, same_body: bool) -> String {
    match effect.what {
        What::Placed => format!("is placed on {on}"),
        What::Loaded => format!("is loaded on {on}, and not started"),
        What::Moves => format!("moves from {} to {on}", effect.from.as_ref().map(host).unwrap_or_default()),
        What::Starts => format!("starts on {on}"),
        What::Restarts => format!("restarts on {on}"),
        What::Stops => format!("stops on {on}, and stays loaded there"),
        What::Leaves => format!("stops on {on}"),
        What::Unloaded => format!("leaves {on}, where it doesn't run"),
        What::Rewritten if same_body => format!("only [X-...] sections change on {on}: restarts nothing"),
        What::Rewritten => format!("gets its new file on {on}: restarts nothing"),
        What::Waits => "waits".into(),
    }
}

/// What would become of the record of a unit to which nothing happens on a host.
fn record(unit: &AppliedUnit, is_held: bool, asked: &BTreeSet<String>) -> String {
    let members = |replicas| counted::instances(replicas);
    match (unit.outcome, unit.replicas) {
        _ if send::is_left(unit, asked) => "has a file of its own, and is left as it is".into(),
        _ if unit.retries => "its file had failed, and is tried again".into(),
        (Outcome::Differs, _) => "keeps the cluster's file, which differs from the one here, without --replace".into(),
        (Outcome::Created, Some(replicas)) => format!("is submitted, with {}", members(replicas)),
        (Outcome::Created, None) => "is submitted, and runs nowhere".into(),
        (Outcome::Replaced, _) if is_held => "keeps the file that it has, until the rollout reaches it".into(),
        (Outcome::Replaced, Some(replicas)) => format!("gets its new file, with {}", members(replicas)),
        (Outcome::Replaced, None) if unit.same_body => "only [X-...] sections change: restarts nothing".into(),
        (Outcome::Replaced, None) => "gets its new file, and runs nowhere".into(),
        (Outcome::Changed, Some(replicas)) => format!("has {} then", members(replicas)),
        (Outcome::Changed, None) => "is asked for another state; nothing happens on a host".into(),
        (Outcome::Restarted, _) => "is asked for a restart; nothing happens on a host".into(),
        (Outcome::Destroyed, _) => "is destroyed; it runs nowhere".into(),
        (Outcome::Leaving, _) => "was destroyed before, and is still being stopped".into(),
        (Outcome::Unchanged | Outcome::Absent, _) if unit.comments => "only comments change: restarts nothing".into(),
        (Outcome::Unchanged | Outcome::Absent, _) => "stays as it is".into(),
    }
}

/// A host by its name; by its id if it is gone.
fn host(machine: &MachineRef) -> String {
    if machine.hostname.is_empty() { machine.id.short().to_owned() } else { machine.hostname.clone() }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn machine(name: &str) -> Value {
        json!({ "id": "3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a", "ip": "10.0.0.1", "hostname": name })
    }

    fn unit(name: &str, outcome: Option<&str>, effects: &[(&str, &str, Option<&str>)]) -> Value {
        let effect = |(what, hosts, why): &(&str, &str, Option<&str>)| {
            let mut effect = json!({ "what": what });
            let (from, to) = hosts.split_once('>').map_or((None, *hosts), |(from, to)| (Some(from), to));
            from.iter().for_each(|from| effect["from"] = machine(from));
            Some(to).filter(|to| !to.is_empty()).iter().for_each(|to| effect["machine"] = machine(to));
            why.iter().for_each(|why| effect["why"] = (*why).into());
            effect
        };
        let mut unit = json!({ "name": name, "effects": effects.iter().map(effect).collect::<Vec<_>>() });
        if let Some(outcome) = outcome {
            unit["applied"] = json!({ "name": name, "outcome": outcome, "generation": 7 });
        }
        unit
    }

    fn shown(units: Vec<Value>, rollouts: &Value) -> Vec<String> {
        let changes = !units.is_empty();
        let plan = json!({
            "revision": 9, "changes": changes, "complete": true, "units": units, "rollouts": rollouts,
        });
        let asked = BTreeSet::from(["a.service".to_owned()]);
        lines(&serde_json::from_value(plan).unwrap(), &asked)
    }

    #[test]
    fn each_unit_is_a_sentence() {
        let least = Some("the least loaded host");
        for (unit, expected) in [
            (unit("a.service", Some("created"), &[]), "is submitted, and runs nowhere"),
            (unit("a.service", Some("created"), &[("placed", "n2", least)]), "is placed on n2: the least loaded host"),
            (unit("a.service", Some("replaced"), &[("restarts", "n1", None)]), "restarts on n1"),
            (
                unit("a.service", Some("replaced"), &[("rewritten", "n1", None)]),
                "gets its new file on n1: restarts nothing",
            ),
            (unit("a.service", Some("changed"), &[("stops", "n1", None)]), "stops on n1, and stays loaded there"),
            (unit("a.service", Some("destroyed"), &[("leaves", "n1", Some("it was destroyed"))]), "stops on n1"),
            (
                unit("a.service", Some("created"), &[("waits", "", Some("3 of 3 hosts: conflict"))]),
                "waits: 3 of 3 hosts: conflict",
            ),
            (
                unit("a.service", None, &[("moves", "n1>n2", Some("b.service replaces it"))]),
                "moves from n1 to n2: b.service replaces it",
            ),
            (
                unit(
                    "a.service",
                    Some("changed"),
                    &[("starts", "n1", None), ("starts", "n2", None), ("placed", "n3", None)],
                ),
                "starts on n1, n2; is placed on n3",
            ),
            (
                unit("a.service", Some("differs"), &[]),
                "keeps the cluster's file, which differs from the one here, without --replace",
            ),
            (unit("a.service", Some("destroyed"), &[]), "is destroyed; it runs nowhere"),
        ] {
            assert_eq!(shown(vec![unit], &json!([])), [format!("a.service  {expected}")]);
        }
        assert_eq!(shown(vec![], &json!([])), ["nothing would change"]);
    }

    #[test]
    fn a_rollout_is_described_before_its_members() {
        let rollout = |steps: Value, held: Value, phase: &str| {
            json!([{
                "name": "web@.service", "target": "3f2a91c", "steps": steps, "held": held, "parallel": 1, "canaries": 0,
                "least_ready": 2, "phase": phase, "longest": 1800,
            }])
        };
        let all = json!([["web@3.service"], ["web@2.service"], ["web@1.service"]]);
        let member = || vec![unit("web@3.service", Some("replaced"), &[("restarts", "n3", None)])];
        assert_eq!(
            shown(member(), &rollout(all, json!([]), "done")),
            [
                "web@.service  rolls out to 3 members, one at a time, never fewer than 2 ready, in at most 30 min",
                "  in this order: web@3.service; web@2.service; web@1.service",
                "web@3.service  restarts on n3",
            ]
        );
        let mut host = rollout(json!([["web@.service"], ["web@.service"]]), json!(["web@.service"]), "waiting");
        host[0]["step_machines"] = json!([[machine("n1")], [machine("n2")]]);
        host[0]["held_machines"] = json!([machine("n3")]);
        assert_eq!(
            shown(vec![], &host),
            [
                "web@.service  rolls out to 3 hosts, one at a time, never fewer than 2 ready, in at most 30 min",
                "  in this order: n1; n2",
                "  then it waits to be promoted; until then as now: n3",
                "nothing would change",
            ]
        );
        let mut hooked = rollout(json!([["web@1.service"]]), json!([]), "done");
        (hooked[0]["before"], hooked[0]["after"]) = (json!(["migrate.service"]), json!(["a.service", "b.service"]));
        assert_eq!(
            shown(vec![], &hooked)[1..4],
            [
                "  before it runs, once: migrate.service",
                "  in this order: web@1.service",
                "  after it runs, once: a.service, b.service",
            ]
        );
        let mut units = member();
        units.push(unit("web@1.service", Some("replaced"), &[]));
        assert_eq!(
            shown(units, &rollout(json!([["web@3.service"]]), json!(["web@1.service"]), "waiting"))[1..],
            [
                "  in this order: web@3.service",
                "  then it waits to be promoted; until then as now: web@1.service",
                "web@3.service  restarts on n3",
                "web@1.service  keeps the file that it has, until the rollout reaches it",
            ]
        );
    }
}
