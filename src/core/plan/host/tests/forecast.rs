//! What a forecast takes for granted of a host is what the host does.

use std::collections::BTreeMap;

use super::super::*;
use super::Target;
use super::world::{ONCE, OTHER, PLAIN, World, assignment, hash, unit};
use crate::model::file::UnitFile;
use crate::model::placement::Constraints;
use crate::model::systemd::ActiveState;
use crate::plan::forecast::{Deed, carry_out};

const NAME: &str = "a.service";

/// How a unit is that its host has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Is {
    AsTold,
    Failed,
    Ended,
}

/// What the host did with a unit that was up or wasn't. To start what is up changes nothing.
fn deed(done: &[String], (is_new, was_up): (bool, bool), target: Target) -> Option<Deed> {
    let has = |verb: &str| done.iter().any(|action| *action == format!("{verb} {NAME}"));
    let starts = has("start") && (has("stop") || !was_up);
    match (has("install"), has("stop"), starts, has("remove")) {
        (_, stopped, _, true) => Some(Deed::Leaves(stopped)),
        (true, ..) if is_new => Some(Deed::Arrives(target == Target::Launched)),
        (_, true, true, _) => Some(Deed::Restarts),
        (_, false, true, _) => Some(Deed::Starts),
        (_, true, false, _) => Some(Deed::Stops),
        (true, ..) => Some(Deed::Writes),
        (false, ..) => None,
    }
}

/// A host that has carried out `before`, after which its unit `is` so.
fn host(texts: &[String], before: Option<(&str, Target)>, is: Is) -> World {
    let mut world = World::new();
    world.texts.extend(texts.iter().map(|text| (hash(text), text.clone())));
    let Some((text, target)) = before else { return world };
    world.assign(NAME, assignment(text, target, 1));
    world.settle();
    if is != Is::AsTold {
        world.running.remove(&unit(NAME));
        world.signal(&[NAME]);
    }
    if is == Is::Failed {
        world.troubled.insert(unit(NAME), (ActiveState::Failed, "failed"));
    }
    world.settle();
    world
}

#[test]
fn a_host_does_what_a_forecast_takes_for_granted() {
    let noted = |text: &str| format!("{text}[X-Note]\nWhy=changed\n");
    let texts = [PLAIN.into(), noted(PLAIN), OTHER.into(), ONCE.into(), noted(ONCE)];
    let files: Vec<UnitFile> = texts.iter().map(|text: &String| UnitFile::parse(text.as_bytes()).unwrap()).collect();
    let read = |file: &UnitFile| (file.hash(), Constraints::parse(file).unwrap());
    let parsed: BTreeMap<UnitHash, Constraints> = files.iter().map(read).collect();
    let bodies = parsed.iter().map(|(hash, file)| (hash.clone(), file.body)).collect();
    let (launched, loaded, removed) = (Target::Launched, Target::Loaded, Target::Removed);
    let mut befores = vec![(None, Is::AsTold)];
    for text in &texts {
        befores.extend([Is::AsTold, Is::Failed, Is::Ended].map(|is| (Some((text.as_str(), launched)), is)));
        befores.push((Some((text.as_str(), loaded)), Is::AsTold));
    }
    let mut wrong = Vec::new();
    for (before, is) in befores {
        for (text, target, restart) in texts.iter().flat_map(|text| {
            [(text, launched, None), (text, launched, Some(Revision(2))), (text, loaded, None), (text, removed, None)]
        }) {
            let mut world = host(&texts, before, is);
            let assignment = Assignment { restart, ..assignment(text, target, 2) };
            let known = world.reports.get(&unit(NAME)).cloned();
            let ends = parsed[&assignment.hash].ends;
            let forecast = carry_out(&assignment, known.as_ref(), ends, &bodies).and_then(|(_, deed)| deed);
            let was_up = world.running.contains_key(&unit(NAME));
            world.assign(NAME, assignment);
            let done = world.settle();
            let happened = deed(&done, (before.is_none(), was_up), target);
            if forecast != happened {
                wrong.push(format!("{before:?} {is:?}, then {target:?} {text:?} {restart:?}: {forecast:?}, {done:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}
