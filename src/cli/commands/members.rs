//! A set that is named by its template → its members: what commands on several units do with a template. Changes
//! nothing.

use std::collections::BTreeMap;

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
        let numbered = units.iter().filter_map(|unit| Some((unit.name.number_in(name)?, unit.name.to_string())));
        let members: BTreeMap<u32, String> = numbered.filter(|_| is_set).collect();
        members.into_values().collect::<Vec<String>>()
    };
    let expanded = |arg: &String| {
        let members = template(arg).map(|name| of(&name)).unwrap_or_default();
        if members.is_empty() { vec![arg.clone()] } else { members }
    };
    Ok(args.iter().flat_map(expanded).collect())
}
