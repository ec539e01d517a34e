//! Hooks: the units that the files of a batch name in `Before=` and `After=`. Owns what is refused because of them, and
//! that the batch of a set or a unit starts none of its hooks, since its rollouts run them. Pure; must never decide
//! when one runs (`plan::rollouts` does).

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::model::file::{UnitFile, UnitOption};
use crate::model::name::UnitName;
use crate::model::placement::Constraints;
use crate::model::rollout::policy::hooks_of;
use crate::model::unit::Desired;

use super::units::{Intent, Problem, Read, UnitChange};

/// The units that the files of `intents` name as hooks.
pub(super) fn named(intents: &[Intent]) -> BTreeSet<UnitName> {
    let files = intents.iter().filter_map(file_of);
    files.flat_map(|file| hooks_of(file)).map(|(_, hook)| hook).collect()
}

/// `intents`, which start no unit that is a hook of another one of them.
pub(super) fn held(intents: &[Intent]) -> Vec<Intent> {
    let hooks = named(intents);
    let mut intents = intents.to_vec();
    for Intent { name, change } in &mut intents {
        if let UnitChange::Ensure { desired, .. } = change
            && *desired == Some(Desired::Launched)
            && hooks.contains(name)
        {
            *desired = None;
        }
    }
    intents
}

/// What is wrong with the hooks of `intents[index]`, if its file is new to the unit.
pub(super) fn check(intents: &[Intent], index: usize, read: &Read) -> Vec<Problem> {
    let Intent { name, .. } = &intents[index];
    let Some(file) = file_of(&intents[index]) else { return Vec::new() };
    let known = read.units.get(name).and_then(|found| found.unit.as_ref());
    // Of an instance that gets the file of its template, the template tells.
    let template = name.template().and_then(|template| intents.iter().find(|intent| intent.name == template));
    let is_told = template.and_then(file_of).is_some_and(|template| template.hash() == file.hash());
    if is_told || known.is_some_and(|known| known.hash == file.hash()) {
        return Vec::new();
    }
    let problem = |(option, hook): (&UnitOption, UnitName)| {
        let what = format!("`{}={hook}`: {}", option.name, why(&hook, intents, read)?);
        Some(Problem { unit: name.to_string(), line: Some(option.line), what })
    };
    hooks_of(file).filter_map(problem).collect()
}

/// Why a unit can't be a hook.
fn why(hook: &UnitName, intents: &[Intent], read: &Read) -> Option<String> {
    let sent = intents.iter().find(|intent| intent.name == *hook);
    if sent.is_some_and(|intent| matches!(intent.change, UnitChange::Destroy)) {
        return Some("it is destroyed with this request".into());
    }
    let template = || file_of(intents.iter().find(|intent| Some(&intent.name) == hook.template().as_ref())?);
    let sent = sent.and_then(file_of).or_else(|| sent.and_then(|_| template()));
    let Some(file) = sent.or_else(|| read.hooks.get(hook)) else {
        return Some("there is no such unit here or in the cluster".into());
    };
    if !file.ends_by_itself() {
        let remains = file.value("Service", "Type") == Some("oneshot");
        let why = if remains { "RemainAfterExit=yes never ends" } else { "Type=oneshot is needed, or it never ends" };
        return Some(why.into());
    }
    Constraints::parse(file).is_ok_and(|known| known.global).then(|| "it is global, and can't run once".into())
}

fn file_of(intent: &Intent) -> Option<&Arc<UnitFile>> {
    match &intent.change {
        UnitChange::Ensure { file, .. } => file.as_ref(),
        UnitChange::Destroy | UnitChange::Restart => None,
    }
}
