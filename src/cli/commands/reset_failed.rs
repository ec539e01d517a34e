//! `reset-failed`: starts units again that have failed, and forgets where they failed before. Owns which units these
//! are; whatever runs is left alone.

use crate::api::wire::{ApplyUnit, Operation, UnitView};
use crate::cli::args::Change;
use crate::cli::commands::units::{self, goals};
use crate::cli::commands::{members, plan, send};
use crate::cli::error::{Error, Exit};
use crate::cli::input::select::{self, Selected};
use crate::cli::limit::Limit;
use crate::cli::session::Session;
use crate::model::unit::Desired;

/// `reset-failed`.
pub(in crate::cli) async fn run(session: &Session, args: &Change) -> Result<Exit, Error> {
    let limit = Limit::begin(&args.block);
    let selected = select::select(&session.client, &members::of_sets(session, &args.units).await?).await?;
    let missing = selected.nothing();
    session.out.messages(&missing);
    if !selected.missing.is_empty() {
        session.out.messages(&select::hints(session, &args.units).await);
    }
    let (failed, others) = choose(&selected);
    for unit in others {
        session.out.message(&format!("{} hasn't failed", unit.name));
    }
    let batch: Vec<ApplyUnit> = failed.iter().map(|unit| request(unit)).collect();
    let refused = !missing.is_empty();
    if args.plan.plan {
        return plan::instead(session, &batch, refused).await;
    }
    let asked = send::names(&batch);
    let applied = session.apply(batch).await?;
    let goals = goals(&applied, &asked, |_| Some(Operation::Start));
    let ended = units::wait_or_trigger(session, &applied, goals, args.block.no_block, limit).await?;
    units::report(session, &applied, &ended);
    let exit = units::exit_of(&ended);
    Ok(if exit == Exit::Ok { Exit::failed_if(refused) } else { exit })
}

/// The units that have failed, and those that were named and haven't.
fn choose(selected: &Selected) -> (Vec<&UnitView>, Vec<&UnitView>) {
    let (failed, others): (Vec<_>, Vec<_>) = selected.units.iter().partition(|(unit, _)| has_failed(unit));
    let named = others.into_iter().filter(|(_, named)| *named);
    (failed.into_iter().map(|(unit, _)| unit).collect(), named.map(|(unit, _)| unit).collect())
}

fn has_failed(unit: &UnitView) -> bool {
    unit.desired == Desired::Launched && unit.states.iter().any(|state| state.report.has_failed())
}

/// What is started by this only if it doesn't run: the cluster decides that, by what it knows then.
fn request(unit: &UnitView) -> ApplyUnit {
    ApplyUnit { name: unit.name.to_string(), desired: Some(Desired::Launched), ..ApplyUnit::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::condition::tests::unit;

    #[test]
    fn only_what_has_failed_is_started_and_only_what_was_named_is_mentioned() {
        use Desired::{Launched, Loaded};
        let one = |name: &str, desired, state: &str, named| (unit(name, desired, &[state]), named);
        let units = vec![
            one("a.service", Launched, "n1 failed failed", false),
            one("b.service", Launched, "n1 active running", false),
            one("c.service", Launched, "n1 active running", true),
            one("d.service", Loaded, "n1 failed failed", true),
            one("e.service", Launched, "n1 inactive dead error=disk", true),
        ];
        let selected = Selected { units, ..Selected::default() };
        let (failed, others) = choose(&selected);
        let names = |units: &[&UnitView]| units.iter().map(|unit| unit.name.to_string()).collect::<Vec<_>>();
        assert_eq!(names(&failed), ["a.service", "e.service"]);
        assert_eq!(names(&others), ["c.service", "d.service"]);
        assert_eq!(request(failed[0]).desired, Some(Launched));
    }
}
