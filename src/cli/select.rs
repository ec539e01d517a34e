//! What people type for units that the cluster has: names, and quoted patterns of names. Owns what they match, and the words about
//! those that match nothing. Changes nothing.

use std::collections::BTreeSet;
use std::path::Path;

use super::error::{Error, HINT};
use super::session::Session;
use super::{explain, names};
use crate::api::client::Client;
use crate::api::wire::{DamagedUnit, UnitList, UnitView};
use crate::model::glob::Glob;
use crate::model::name::UnitName;

/// The units that arguments name.
#[derive(Debug, Default)]
pub(super) struct Selected {
    /// Each once, in the order of the arguments, and whether it was named, not matched by a pattern.
    pub(super) units: Vec<(UnitView, bool)>,
    /// Those whose records can't be read, each once.
    pub(super) damaged: Vec<DamagedUnit>,
    /// Names of units that there are none of.
    pub(super) missing: Vec<String>,
    /// Patterns that match nothing.
    pub(super) unmatched: Vec<String>,
}

impl Selected {
    /// A line for each argument that there is nothing of, and for each unit that nothing can be done with.
    pub(super) fn nothing(&self) -> Vec<String> {
        let missing = self.missing.iter().map(|name| format!("Unit {name} not found"));
        let unmatched = self.unmatched.iter().map(|pattern| unmatched(pattern));
        missing.chain(unmatched).chain(self.damaged.iter().map(explain::damaged)).collect()
    }
}

/// What is said of a pattern that matches nothing.
pub(super) fn unmatched(pattern: &str) -> String {
    format!("no unit matches `{pattern}`")
}

/// The units that `args` name.
///
/// # Errors
/// All names and patterns that can't be, or a cluster that can't be asked.
pub(super) async fn select(client: &Client, args: &[String]) -> Result<Selected, Error> {
    let mut problems = Vec::new();
    let mut wishes: Vec<(bool, String, Vec<Glob>)> = Vec::new();
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
            Ok(globs) => wishes.push((exact, label, globs)),
            Err(why) => problems.push(why),
        }
    }
    if !problems.is_empty() {
        problems.push("nothing was changed".into());
        return Err(Error::failures(problems));
    }
    let ask: Vec<String> = wishes.iter().flat_map(|(_, _, globs)| globs.iter().map(ToString::to_string)).collect();
    let UnitList { units: known, damaged, .. } = client.units(&ask).await?;
    let mut selected = Selected::default();
    let mut seen: BTreeSet<&UnitName> = BTreeSet::new();
    for (exact, label, globs) in wishes {
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
    Ok(selected)
}

/// `args` with each pattern replaced by the names of the cluster's units that match, in the folder that the pattern names: for the
/// commands that take files too. A file whose name looks like a pattern is that file. `templates`: whether a pattern means them.
///
/// # Errors
/// Patterns that can't be, as lines, and a cluster that can't be asked.
pub(super) async fn expand(session: &Session, args: &[String], templates: bool) -> Result<Vec<String>, Error> {
    let is_pattern = |arg: &str| names::is_pattern(arg) && !Path::new(&names::with_type(arg)).exists();
    if !args.iter().any(|arg| is_pattern(arg)) {
        return Ok(args.to_vec());
    }
    let mut problems = Vec::new();
    let mut asked: Vec<Glob> = Vec::new();
    for arg in args.iter().filter(|arg| is_pattern(arg)) {
        match globs(arg) {
            Ok(globs) => asked.extend(globs),
            Err(why) => problems.push(why),
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
            problems.push(unmatched(arg));
            problems
                .push(format!("{HINT}a quoted pattern means units that the cluster has; one without quotes, files"));
        }
        expanded.extend(matching);
    }
    if problems.is_empty() {
        Ok(expanded)
    } else {
        problems.push("nothing was submitted".into());
        Err(Error::failures(problems))
    }
}

fn globs(arg: &str) -> Result<Vec<Glob>, String> {
    names::patterns(arg).iter().map(|pattern| pattern.parse::<Glob>().map_err(|error| error.to_string())).collect()
}
