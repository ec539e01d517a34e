//! Arguments for existing units: names, and quoted patterns. Owns what they match, and the messages about those that
//! match nothing. Changes nothing.

use std::collections::BTreeSet;
use std::path::Path;

use crate::api::client::Client;
use crate::api::wire::{DamagedUnit, UnitList, UnitView};
use crate::cli::error::{Error, Line};
use crate::cli::explain;
use crate::cli::input::names;
use crate::cli::session::Session;
use crate::model::glob::Glob;
use crate::model::name::UnitName;

/// The largest edit distance of a suggestion.
const NEAR: usize = 2;

/// The units that arguments select.
#[derive(Debug, Default)]
pub(in crate::cli) struct Selected {
    /// Each once, in the order of the arguments, and whether it was named rather than matched by a pattern.
    pub(in crate::cli) units: Vec<(UnitView, bool)>,
    /// Units with damaged records, each once.
    pub(in crate::cli) damaged: Vec<DamagedUnit>,
    /// Names of units that don't exist.
    pub(in crate::cli) missing: Vec<String>,
    /// Patterns that match nothing.
    pub(in crate::cli) unmatched: Vec<String>,
    /// The name of the host, if only the units of one are known.
    pub(in crate::cli) only_host: Option<String>,
}

impl Selected {
    /// A message for each argument that matches nothing, and for each damaged unit.
    pub(in crate::cli) fn nothing(&self) -> Vec<String> {
        let on = self.only_host.as_ref().map(|host| format!(" on {host}")).unwrap_or_default();
        let missing = self.missing.iter().map(|name| format!("Unit {name} not found{on}"));
        let unmatched = self.unmatched.iter().map(|pattern| unmatched(pattern) + &on);
        missing.chain(unmatched).chain(self.damaged.iter().map(explain::damaged)).collect()
    }
}

/// The message about a pattern that matches nothing.
pub(in crate::cli) fn unmatched(pattern: &str) -> String {
    format!("no unit matches `{pattern}`")
}

/// Select the units that `args` name.
///
/// # Errors
/// All invalid names and patterns, or the error of the request.
pub(in crate::cli) async fn select(client: &Client, args: &[String]) -> Result<Selected, Error> {
    let selectors = selectors(args)?;
    let list = client.units(&patterns(&selectors)).await?;
    Ok(among(list, selectors))
}

/// As [`select`], also while only one host can be asked.
///
/// # Errors
/// As [`select`].
pub(in crate::cli) async fn select_known(session: &Session, args: &[String]) -> Result<Selected, Error> {
    let selectors = selectors(args)?;
    let list = session.known_units(&patterns(&selectors)).await?;
    Ok(Selected { only_host: session.only_host(), ..among(list, selectors) })
}

/// The patterns of the units that `args` name, in the form of the API.
///
/// # Errors
/// All invalid names and patterns.
pub(in crate::cli) fn patterns_of(args: &[String]) -> Result<Vec<String>, Error> {
    Ok(patterns(&selectors(args)?))
}

/// An argument: whether it is a name, how messages call it, and its patterns.
type Selector = (bool, String, Vec<Glob>);

fn selectors(args: &[String]) -> Result<Vec<Selector>, Error> {
    let mut problems = Vec::new();
    let mut selectors: Vec<Selector> = Vec::new();
    for arg in args {
        let exact = !names::is_pattern(arg);
        let label = match names::unit(arg) {
            Ok(name) => name.to_string(),
            Err(_) if !exact => arg.clone(),
            Err(error) => {
                problems.push(format!("{arg}: {error}"));
                continue;
            }
        };
        match globs(arg) {
            Ok(globs) => selectors.push((exact, label, globs)),
            Err(why) => problems.push(why),
        }
    }
    if !problems.is_empty() {
        problems.push("nothing was changed".into());
        return Err(Error::failures(problems));
    }
    Ok(selectors)
}

fn patterns(selectors: &[Selector]) -> Vec<String> {
    selectors.iter().flat_map(|(_, _, globs)| globs.iter().map(ToString::to_string)).collect()
}

/// What `selectors` select of `list`.
fn among(list: UnitList, selectors: Vec<Selector>) -> Selected {
    let UnitList { units: known, damaged, .. } = list;
    let mut selected = Selected::default();
    let mut seen: BTreeSet<&UnitName> = BTreeSet::new();
    for (exact, label, globs) in selectors {
        let mut found = false;
        for unit in known.iter().filter(|unit| globs.iter().any(|glob| glob.matches(unit.name.as_str()))) {
            found = true;
            if seen.insert(&unit.name) {
                selected.units.push((unit.clone(), exact));
            }
        }
        for unit in damaged.iter().filter(|unit| globs.iter().any(|glob| glob.matches(unit.name.as_str()))) {
            found = true;
            if !selected.damaged.contains(unit) {
                selected.damaged.push(unit.clone());
            }
        }
        let list = if exact { &mut selected.missing } else { &mut selected.unmatched };
        if !found && !list.contains(&label) {
            list.push(label);
        }
    }
    selected
}

/// `args` with each pattern replaced by the names of matching units in the cluster, in the folder of the pattern: for
/// commands that also take files. A file whose name looks like a pattern is that file. `templates` is whether patterns
/// match templates. Within the answer of the cluster: what is wrong with the patterns, a line each.
///
/// # Errors
/// That of the request.
pub(in crate::cli) async fn expand(
    session: &Session,
    args: &[String],
    templates: bool,
) -> Result<Result<Vec<String>, Vec<Line>>, Error> {
    let is_pattern = |arg: &str| names::is_pattern(arg) && !Path::new(&names::with_type(arg)).exists();
    if !args.iter().any(|arg| is_pattern(arg)) {
        return Ok(Ok(args.to_vec()));
    }
    let mut problems = Vec::new();
    let mut asked: Vec<Glob> = Vec::new();
    for arg in args.iter().filter(|arg| is_pattern(arg)) {
        match globs(arg) {
            Ok(globs) => asked.extend(globs),
            Err(why) => problems.push(Line::Message(why)),
        }
    }
    let patterns: Vec<String> = asked.iter().map(ToString::to_string).collect();
    let known = if problems.is_empty() { session.client.units(&patterns).await?.units } else { Vec::new() };
    let mut expanded = Vec::new();
    for arg in args {
        if !is_pattern(arg) {
            expanded.push(arg.clone());
            continue;
        }
        let globs = globs(arg).unwrap_or_default();
        let matching: Vec<String> = known
            .iter()
            .filter(|unit| templates || !unit.name.is_template())
            .filter(|unit| globs.iter().any(|glob| glob.matches(unit.name.as_str())))
            .map(|unit| Path::new(arg).with_file_name(unit.name.as_str()).display().to_string())
            .collect();
        if matching.is_empty() && problems.is_empty() {
            problems.push(unmatched(arg).into());
            problems.push(Line::hint("a quoted pattern means units that the cluster has; one without quotes, files"));
        }
        expanded.extend(matching);
    }
    Ok(if problems.is_empty() { Ok(expanded) } else { Err(problems) })
}

/// At a terminal, suggestions for names of units that don't exist.
pub(in crate::cli) async fn hints(session: &Session, args: &[String]) -> Vec<Line> {
    let typed: Vec<UnitName> =
        args.iter().filter(|arg| !names::is_pattern(arg)).filter_map(|arg| names::unit(arg).ok()).collect();
    if !session.out.is_watched() || typed.is_empty() {
        return Vec::new();
    }
    // An error here would only distract from the first one.
    let known = session.client.units(&[]).await.map(|list| list.units).unwrap_or_default();
    let known: Vec<&UnitName> = known.iter().map(|unit| &unit.name).collect();
    let near = typed.iter().filter_map(|name| nearest(name, &known));
    near.map(|near| Line::hint(format!("did you mean `{near}`?"))).collect()
}

/// The one of `known` that `typed` is a misspelling of. Another instance of the same template isn't.
fn nearest<'a>(typed: &UnitName, known: &[&'a UnitName]) -> Option<&'a UnitName> {
    if known.contains(&typed) {
        return None;
    }
    let instance_of = |name: &UnitName| name.instance().map(|_| name.prefix().to_owned());
    let template = instance_of(typed);
    let other = known.iter().filter(|name| template.is_none() || instance_of(name) != template);
    let far = |name: &UnitName| strsim::osa_distance(typed.as_str(), name.as_str());
    let near = other.map(|name| (far(name), *name)).filter(|(far, name)| *far <= NEAR && *far < name.prefix().len());
    near.min().map(|(_, name)| name)
}

/// The patterns for an argument.
///
/// # Errors
/// What is wrong with it.
pub(in crate::cli) fn globs(arg: &str) -> Result<Vec<Glob>, String> {
    names::patterns(arg).iter().map(|pattern| pattern.parse::<Glob>().map_err(|error| error.to_string())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_told_from_another_unit() {
        let names = ["balancer.service", "db.service", "db.socket", "web@1.service", "web@2.service", "x.service"];
        let known: Vec<UnitName> = names.iter().map(|name| name.parse().unwrap()).collect();
        let known: Vec<&UnitName> = known.iter().collect();
        let near = |typed: &str| nearest(&typed.parse().unwrap(), &known).map(UnitName::as_str);
        for (typed, meant) in [
            ("balancr.service", Some("balancer.service")),
            ("blaancer.service", Some("balancer.service")),
            ("wbe@2.service", Some("web@2.service")),
            ("web@3.service", None),
            ("web.service", Some("web@1.service")),
            ("db.service", None),
            ("dn.service", Some("db.service")),
            ("y.service", None),
            ("cache.service", None),
        ] {
            assert_eq!(near(typed), meant, "{typed}");
        }
    }
}
