//! `scale`: changes how many members a set has, and waits for those that come and go. Owns the arithmetic of `+2` and
//! `-1`; the cluster chooses the members.

use std::collections::BTreeSet;

use crate::api::wire::{Applied, ApplyUnit, Outcome, UnitDetail, UnitView};
use crate::cli::args::{Count, Scale};
use crate::cli::commands::units::{exit_of, goals, report, wait_or_trigger};
use crate::cli::commands::{counted, instances, plan, send};
use crate::cli::error::{Error, Exit, Line};
use crate::cli::input::{names, select};
use crate::cli::limit::Limit;
use crate::cli::session::Session;
use crate::model::name::UnitName;
use crate::model::placement::{MAX_REPLICAS, Replicas};
use crate::model::revision::Revision;
use crate::model::unit::Desired;

/// What is known of a set before it is changed.
struct Before {
    template: UnitName,
    /// How many members it should have; of a template without a count, how many there are.
    count: u32,
    /// What its file says.
    file: Option<Replicas>,
    /// The desired state of its members, and of new ones.
    desired: Desired,
    /// The commit that wrote its record.
    revision: Option<Revision>,
}

/// `scale`.
pub(in crate::cli) async fn run(session: &Session, args: &Scale) -> Result<Exit, Error> {
    let limit = Limit::begin(&args.block);
    let template = template(&args.name)?;
    let before = look(session, template, &args.name).await?;
    if let Some(lead) = before.file.as_ref().and_then(Replicas::lead) {
        let name = &before.template;
        let line = format!("scale: {name} has as many as {lead} has (Replicas={lead}); scale that");
        return Err(Error::failure(line));
    }
    let wanted = wanted(&before, args.count).map_err(Error::failure)?;
    let unit = ApplyUnit {
        name: before.template.to_string(),
        replicas: Some(wanted),
        // A difference is one to the number that was read.
        revision: before.revision.filter(|_| !matches!(args.count, Count::To(_))),
        ..ApplyUnit::default()
    };
    let batch = vec![unit];
    if args.plan.plan {
        return plan::instead(session, &batch, false).await;
    }
    let asked = send::names(&batch);
    let applied = session.apply(batch).await?;
    session.line(&said(&before, wanted, &applied));
    send::say_left(session, &applied.units, &asked);
    let operation = |name: &UnitName| instances::operation(before.desired).filter(|_| !name.is_template());
    let goals = goals(&applied, &asked, operation);
    let ended = wait_or_trigger(session, &applied, goals, args.block.no_block, limit).await?;
    report(session, &applied, &ended);
    Ok(exit_of(&ended))
}

/// The template that the argument names.
fn template(arg: &str) -> Result<UnitName, Error> {
    let name = names::unit(arg).map_err(|error| Error::failure(format!("{arg}: {error}")))?;
    match name.template() {
        _ if name.is_template() => Ok(name),
        Some(template) => Err(Error::failure(format!("scale: {name} is an instance; name its template, {template}"))),
        None => {
            let line = format!("scale: {name} is no template, and only a template has members, such as web@.service");
            Err(Error::failure(line))
        }
    }
}

async fn look(session: &Session, template: UnitName, arg: &str) -> Result<Before, Error> {
    let members = session.client.units(&[names::exactly(&template), instances::pattern(&template)]).await?.units;
    if !members.iter().any(|unit| unit.name == template) {
        let mut lines = vec![Line::Message(format!("Unit {template} not found"))];
        lines.extend(select::hints(session, &[arg.to_owned()]).await);
        lines.push(Line::hint(format!("submit its file first: `fleetctl submit {template}`")));
        return Err(Error::failures(lines));
    }
    let UnitDetail { unit, text, revision, .. } = session.client.unit(&template).await?;
    Ok(before(unit, &text, revision, &members))
}

fn before(unit: UnitView, text: &str, revision: Option<Revision>, others: &[UnitView]) -> Before {
    let members: Vec<&UnitView> = others.iter().filter(|other| other.name.number_in(&unit.name).is_some()).collect();
    let there = u32::try_from(members.len()).unwrap_or(u32::MAX);
    let file = counted::replicas_in(text);
    let desired = members.iter().map(|member| member.desired).max().unwrap_or(Desired::Launched);
    Before { count: unit.replicas.unwrap_or(there), template: unit.name, file, desired, revision }
}

/// How many members there should be.
fn wanted(before: &Before, count: Count) -> Result<u32, String> {
    let (now, name) = (before.count, &before.template);
    let wanted = match count {
        Count::To(wanted) => Some(wanted),
        Count::More(more) => now.checked_add(more).filter(|wanted| *wanted <= MAX_REPLICAS),
        Count::Fewer(fewer) => now.checked_sub(fewer),
    };
    wanted.ok_or_else(|| match count {
        Count::Fewer(fewer) => format!("scale: {name} has {now} members, which is fewer than {fewer}"),
        _ => format!("scale: {name} has {now} members; {MAX_REPLICAS} are the most"),
    })
}

/// `web@.service: 3 -> 5 (its file says Replicas=3)`.
fn said(before: &Before, wanted: u32, applied: &Applied) -> String {
    let (name, now) = (&before.template, before.count);
    let instances = counted::instances;
    // Of the set and its riders.
    let members = |outcome| applied.units.iter().filter(move |unit| unit.outcome == outcome);
    let (created, destroyed) = (members(Outcome::Created).count(), members(Outcome::Destroyed).count());
    let change = match (now == wanted, created, destroyed) {
        (false, ..) => format!("{now} -> {}", instances(wanted)),
        (true, 0, 0) => format!("{}, nothing to do", instances(wanted)),
        // An earlier change of the count was interrupted, or a rider's member was destroyed by its name.
        (true, created, 0) => format!("{}, {created} of them were missing", instances(wanted)),
        (true, _, destroyed) => format!("{}, there were {destroyed} more", instances(wanted)),
    };
    let file = before.file.as_ref().and_then(Replicas::number).filter(|file| *file != wanted);
    let file = file.map_or(String::new(), |file| format!(" (its file says Replicas={file})"));
    let changed = members(Outcome::Created).chain(members(Outcome::Destroyed));
    let others = changed.filter_map(|unit| unit.name.template()).filter(|template| template != name);
    let riders: BTreeSet<String> = others.map(|template| template.to_string()).collect();
    let riders: Vec<String> = riders.into_iter().collect();
    let with = if riders.is_empty() { String::new() } else { format!(", and {} with it", riders.join(" ")) };
    format!("{name}: {change}{file}{with}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::wire::AppliedUnit;

    fn set(count: u32) -> Before {
        let template = "web@.service".parse().unwrap();
        Before { template, count, file: Some(Replicas::Number(3)), desired: Desired::Launched, revision: None }
    }

    #[test]
    fn a_difference_is_one_to_what_is_there() {
        for (now, count, expected) in [
            (3, Count::To(5), Ok(5)),
            (3, Count::More(2), Ok(5)),
            (3, Count::Fewer(3), Ok(0)),
            (3, Count::Fewer(4), Err("scale: web@.service has 3 members, which is fewer than 4")),
            (999, Count::More(1), Ok(1000)),
            (999, Count::More(2), Err("scale: web@.service has 999 members; 1000 are the most")),
        ] {
            assert_eq!(wanted(&set(now), count), expected.map_err(str::to_owned), "{now} {count:?}");
        }
    }

    #[test]
    fn it_is_said_what_changes_and_when_the_file_says_something_else() {
        let applied = |outcomes: &[Outcome], names: &[&str]| {
            let unit = |(outcome, name): (&Outcome, &str)| AppliedUnit {
                name: name.parse().unwrap(),
                outcome: *outcome,
                generation: Revision(1),
                comments: false,
                same_body: false,
                retries: false,
                warnings: Vec::new(),
                replicas: None,
                desired: None,
                hosts: None,
            };
            let units = outcomes.iter().flat_map(|outcome| names.iter().map(move |name| (outcome, *name))).map(unit);
            Applied { revision: Revision(1), units: units.collect() }
        };
        for (now, wanted, outcomes, expected) in [
            (3, 5, vec![Outcome::Created], "web@.service: 3 -> 5 instances (its file says Replicas=3)"),
            (5, 3, vec![Outcome::Destroyed], "web@.service: 5 -> 3 instances"),
            (3, 1, vec![Outcome::Destroyed], "web@.service: 3 -> 1 instance (its file says Replicas=3)"),
            (3, 3, vec![Outcome::Unchanged], "web@.service: 3 instances, nothing to do"),
            (3, 3, vec![Outcome::Created; 2], "web@.service: 3 instances, 2 of them were missing"),
            (3, 3, vec![Outcome::Destroyed; 2], "web@.service: 3 instances, there were 2 more"),
        ] {
            assert_eq!(said(&set(now), wanted, &applied(&outcomes, &["web@1.service"])), expected);
        }
        let with = applied(&[Outcome::Created], &["web@4.service", "web-announce@4.service", "web-log@4.service"]);
        let expected = "web@.service: 3 -> 4 instances (its file says Replicas=3), and web-announce@.service \
                        web-log@.service with it";
        assert_eq!(said(&set(3), 4, &with), expected);
        let back = applied(&[Outcome::Created], &["web-log@3.service"]);
        let expected = "web@.service: 3 instances, 1 of them were missing, and web-log@.service with it";
        assert_eq!(said(&set(3), 3, &back), expected);
        let left = applied(&[Outcome::Differs], &["web-log@4.service"]);
        assert_eq!(said(&set(3), 3, &left), "web@.service: 3 instances, nothing to do");
    }

    #[test]
    fn only_a_template_is_scaled() {
        for (arg, expected) in [
            ("web@", Ok("web@.service")),
            ("web@.timer", Ok("web@.timer")),
            ("web@1", Err("scale: web@1.service is an instance; name its template, web@.service")),
            ("web", Err("scale: web.service is no template, and only a template has members, such as web@.service")),
        ] {
            let named = template(arg).map(|name| name.to_string()).map_err(|error| error.lines[0].to_string());
            assert_eq!(named, expected.map(str::to_owned).map_err(str::to_owned), "{arg}");
        }
    }
}
