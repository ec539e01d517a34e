//! A set that is named by its template → its members, and its riders: what commands on several units do with a
//! template. Changes nothing.

use std::collections::BTreeMap;

use super::instances;
use crate::api::client::ClientError;
use crate::cli::error::Error;
use crate::cli::input::names;
use crate::cli::session::Session;
use crate::model::name::UnitName;

/// `args` with the templates that ride with those that are named among them.
///
/// # Errors
/// The request failed.
pub(in crate::cli) async fn with_riders(session: &Session, args: &[String]) -> Result<Vec<String>, Error> {
    let templates: Vec<String> =
        args.iter().filter_map(|arg| template(arg)).map(|name| names::exactly(&name)).collect();
    if templates.is_empty() {
        return Ok(args.to_vec());
    }
    let sets = match session.client.sets(&templates).await {
        Ok(list) => list.sets,
        // A daemon of a version without sets.
        Err(ClientError::Api(detail)) if detail.code == 404 => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    let riders = sets.into_iter().flat_map(|set| set.riders).map(|rider| rider.to_string());
    Ok(args.iter().cloned().chain(riders).collect())
}

/// The template that an argument names.
pub(in crate::cli) fn template(arg: &str) -> Option<UnitName> {
    names::unit(arg).ok().filter(|name| name.is_template() && !names::is_pattern(arg))
}

/// The members of sets that are named by their templates, in the place of these.
///
/// # Errors
/// The request failed.
pub(in crate::cli) async fn of_sets(session: &Session, args: &[String]) -> Result<Vec<String>, Error> {
    let templates: Vec<UnitName> = args.iter().filter_map(|arg| template(arg)).collect();
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
