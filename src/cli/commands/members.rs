//! A set that is named by its template → its members: what commands on several units do with a template. Changes
//! nothing.

use super::instances;
use crate::cli::error::Error;
use crate::cli::input::names;
use crate::cli::session::Session;
use crate::model::name::UnitName;

/// The members of sets that are named by their templates, in the place of these.
///
/// # Errors
/// The request failed.
pub(in crate::cli) async fn of_sets(session: &Session, args: &[String]) -> Result<Vec<String>, Error> {
    let template = |arg: &String| names::unit(arg).ok().filter(|name| name.is_template() && !names::is_pattern(arg));
    let templates: Vec<UnitName> = args.iter().filter_map(template).collect();
    if templates.is_empty() {
        return Ok(args.to_vec());
    }
    let patterns = |name: &UnitName| [names::exactly(name), instances::pattern(name)];
    let units = session.known_units(&templates.iter().flat_map(patterns).collect::<Vec<_>>()).await?.units;
    let of = |name: &UnitName| {
        let is_set = units.iter().any(|unit| unit.name == *name && unit.replicas.is_some());
        let mut members: Vec<&UnitName> = units.iter().map(|unit| &unit.name).collect();
        members.retain(|unit| is_set && unit.number().is_some() && unit.template().as_ref() == Some(name));
        members.sort_by_key(|unit| unit.number());
        members.into_iter().map(ToString::to_string).collect::<Vec<String>>()
    };
    let expanded = |arg: &String| {
        let members = template(arg).map(|name| of(&name)).unwrap_or_default();
        if members.is_empty() { vec![arg.clone()] } else { members }
    };
    Ok(args.iter().flat_map(expanded).collect())
}
