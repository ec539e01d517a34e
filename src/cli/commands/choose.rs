//! The arguments of `journal` → units. Owns the messages about units that don't exist.

use crate::api::wire::{UnitList, UnitView};
use crate::cli::error::Error;
use crate::cli::explain;
use crate::cli::input::names;
use crate::cli::session::Session;
use crate::journal::{self, Units};
use crate::model::glob::Glob;
use crate::model::name::UnitName;

/// The units that the arguments name.
#[derive(Debug)]
pub(super) struct Chosen {
    /// The units.
    pub(super) units: Units,
    /// Messages about what can't be shown.
    pub(super) missing: Vec<String>,
}

/// One argument.
struct Selector {
    patterns: Vec<Glob>,
    /// What messages call it.
    label: String,
    /// The message if no unit matches.
    missing: String,
    /// The message if units match and none is on a host.
    nowhere: String,
    /// Whether it names a single unit.
    exact: bool,
}

/// Request the units that `args` name.
///
/// # Errors
/// An argument is neither a name nor a pattern, or the request fails.
pub(super) async fn choose(session: &Session, args: &[String]) -> Result<Chosen, Error> {
    let selectors = args.iter().map(|arg| selector(arg)).collect::<Result<Vec<_>, _>>()?;
    let mut patterns: Vec<String> =
        selectors.iter().flat_map(|selector| &selector.patterns).map(ToString::to_string).collect();
    patterns.sort();
    patterns.dedup();
    let UnitList { mut units, damaged, .. } = session.units_to_ask(&patterns, args).await?;
    units.retain(|unit| !unit.name.is_template() && selectors.iter().any(|selector| selector.matches(unit)));
    units.sort_by(|a, b| a.name.cmp(&b.name));
    let mut missing = Vec::new();
    for selector in &selectors {
        let mut found = units.iter().filter(|unit| selector.matches(unit)).peekable();
        let mut damaged = damaged.iter().filter(|unit| selector.names(&unit.name)).map(explain::damaged).peekable();
        if found.peek().is_none() {
            let missed = || match session.only_host() {
                Some(host) => format!("{} is not on {host}", selector.label),
                None => selector.missing.clone(),
            };
            missing.extend(damaged.peek().is_none().then(missed));
        } else if found.all(|unit| journal::hosts(unit).is_empty()) {
            missing.push(selector.nowhere.clone());
        }
        missing.extend(damaged);
    }
    missing.dedup();
    let one = selectors.len() == 1 && selectors[0].exact && units.iter().all(|unit| !unit.global);
    Ok(Chosen { units: Units { patterns, units, one }, missing })
}

fn selector(arg: &str) -> Result<Selector, Error> {
    let parse = |patterns: Vec<String>| {
        let globs: Result<Vec<Glob>, _> = patterns.iter().map(|pattern| pattern.parse()).collect();
        globs.map_err(|error| Error::failure(error.to_string()))
    };
    if names::is_pattern(arg) {
        return Ok(Selector {
            patterns: parse(names::patterns(arg))?,
            label: format!("a unit that matches `{arg}`"),
            missing: format!("no unit matches `{arg}`"),
            nowhere: format!("no unit that matches `{arg}` appears to be running"),
            exact: false,
        });
    }
    let name = names::unit(arg).map_err(|error| Error::failure(format!("{arg}: {error}")))?;
    if name.is_template() {
        let instances = format!("{}@*.{}", Glob::escape(name.prefix()), name.kind());
        return Ok(Selector {
            patterns: parse(vec![instances])?,
            label: format!("an instance of template {name}"),
            missing: format!("Template {name} has no instances."),
            nowhere: format!("No instance of template {name} appears to be running."),
            exact: false,
        });
    }
    Ok(Selector {
        patterns: parse(vec![names::exactly(&name)])?,
        label: format!("unit {name}"),
        missing: format!("Unit {name} does not exist."),
        nowhere: format!("Unit {name} does not appear to be running."),
        exact: true,
    })
}

impl Selector {
    fn matches(&self, unit: &UnitView) -> bool {
        self.names(&unit.name)
    }

    fn names(&self, name: &UnitName) -> bool {
        self.patterns.iter().any(|pattern| pattern.matches(name.as_str()))
    }
}
