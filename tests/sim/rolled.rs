//! What random seeds roll out: a set with a rider, a unit and a global unit, with the hooks of their rollouts. Owns
//! their files, and what people ask of them; a seed decides how often. Must never judge what follows (`rollouts` does).

use flotilla::model::cluster::Cluster;
use flotilla::model::name::UnitName;
use flotilla::model::rollout::Request;
use flotilla::model::unit::Desired;
use flotilla::registry::units::Intent;

use super::health::SECTION;
use super::random::Random;
use super::world::{destroy, have, restart, scale};

const SET: &str = "tier@.service";
const RIDER: &str = "tier-rider@.service";
const UNIT: &str = "solo.service";
const GLOBAL: &str = "guard.service";

/// Units that run once in some of their rollouts: before the members, and after them.
const BEFORE: &str = "tier-hook.service";
const AFTER: &str = "tier-check.service";

/// How long a rollout of them waits for a member, in seconds.
const DEADLINE_SEC: u64 = 20;

/// What happens next.
#[derive(Debug)]
pub(crate) enum Event {
    /// Somebody makes this request, as one batch.
    Batch(Vec<Intent>),
    /// Somebody asks this of the rollout of a set or a unit.
    Ask(UnitName, Request),
    /// This unit answers to its probes no more on any host, or does so again.
    Sicken(UnitName, bool),
}

/// What happens to the set or the unit.
pub(crate) fn next(cluster: &Cluster, random: &mut Random) -> Event {
    let name: UnitName = random.pick(&[SET, SET, UNIT]).parse().unwrap();
    let is_known = cluster.units.contains_key(&name);
    let text = text(name.as_str(), random, is_known);
    let members = cluster.units.keys().filter(|member| member.number_in(&name).is_some());
    let one = members.clone().next().unwrap_or(&name);
    // Drawn from a generator of its own, so that other choices don't depend on it.
    let mut riding = random.fork("riders");
    let has_rider = name.as_str() == SET && cluster.units.contains_key(RIDER);
    let rides = name.as_str() == SET && riding.chance(if has_rider { 600 } else { 250 });
    let of_rider = if rides { rider(cluster, &mut riding, has_rider) } else { Vec::new() };
    match random.within(0..=12) {
        0 if has_rider => Event::Batch(vec![destroy(&name), destroy(&RIDER.parse().unwrap())]),
        0 if is_known => Event::Batch(vec![destroy(&name)]),
        _ if has_rider && rides && riding.chance(200) => Event::Batch(of_rider),
        1 if is_known => Event::Batch(vec![have(one, None, Some(Desired::Loaded))]),
        2 if is_known => Event::Batch(vec![restart(one)]),
        3 if is_known && name.is_template() => {
            Event::Batch(vec![scale(&name, u32::try_from(random.within(1..=4)).unwrap())])
        }
        4..=5 if is_known => ask(cluster, &name, random),
        6 if is_known => Event::Sicken(one.clone(), random.chance(600)),
        _ => Event::Batch([given(std::iter::once(&name).chain(members), &text, random), of_rider].concat()),
    }
}

/// A request that the rider of the set and its members have another file and run. Most versions follow the set, and
/// some are rolled out by themselves.
fn rider(cluster: &Cluster, random: &mut Random, or_broken: bool) -> Vec<Intent> {
    let program = match random.within(0..=4) {
        0 if or_broken => "ExecStart=\n".to_owned(),
        version => format!("ExecStart=/bin/rider {version}\n"),
    };
    let place = random.pick(&["MachineOf=tier@%i.service\n", "MachineOf=tier@%i.service\n", ""]);
    let own = random.pick(&["", "", "", "[X-Rollout]\nHealthySec=2\nDeadlineSec=20\n"]);
    let text = format!("[Service]\n{program}[X-Fleet]\nReplicas={SET}\n{place}{own}");
    let template: UnitName = RIDER.parse().unwrap();
    let members = cluster.units.keys().filter(|member| member.number_in(&template).is_some());
    let all = std::iter::once(&template).chain(members);
    all.map(|name| have(name, Some(&text), Some(Desired::Launched))).collect()
}

/// What happens to the global unit.
pub(crate) fn next_of_global(cluster: &Cluster, random: &mut Random) -> Event {
    let name: UnitName = GLOBAL.parse().unwrap();
    let is_known = cluster.units.contains_key(&name);
    let text = text(GLOBAL, random, is_known);
    match random.within(0..=13) {
        0 if is_known => Event::Batch(vec![destroy(&name)]),
        1 if is_known => Event::Batch(vec![have(&name, None, Some(Desired::Loaded))]),
        2 if is_known => Event::Batch(vec![restart(&name)]),
        3 if is_known => ask(cluster, &name, random),
        4 if is_known => Event::Sicken(name, random.chance(600)),
        _ => Event::Batch(given(std::iter::once(&name), &text, random)),
    }
}

/// Mostly something that makes sense now.
fn ask(cluster: &Cluster, name: &UnitName, random: &mut Random) -> Event {
    let all = [Request::Pause, Request::Resume, Request::Promote, Request::Retry];
    let accepted = cluster.rollouts.get(name).map_or(&[][..], |rollout| rollout.value.phase.accepts());
    let from = if accepted.is_empty() || random.chance(150) { &all } else { accepted };
    Event::Ask(name.clone(), *random.pick(from))
}

/// A request that these have the file `text` and run, and that its hooks are there, one of which may fail.
fn given<'a>(names: impl Iterator<Item = &'a UnitName>, text: &str, random: &mut Random) -> Vec<Intent> {
    let mut random = random.fork("files of hooks");
    let hooks = [BEFORE, AFTER].into_iter().filter(|hook| text.contains(*hook));
    let hooks: Vec<Intent> =
        hooks.map(|hook| have(&hook.parse().unwrap(), Some(&hook_text(&mut random)), None)).collect();
    hooks.into_iter().chain(names.map(|name| have(name, Some(text), Some(Desired::Launched)))).collect()
}

fn hook_text(random: &mut Random) -> String {
    let behaviour =
        random.pick(&["", "", "[X-Fake]\nStartSec=10\n", "[X-Fake]\nStartSec=10\n", "[X-Fake]\nOutcome=fail\n"]);
    format!("[Service]\nType=oneshot\nExecStart=/bin/hook\n{behaviour}")
}

/// A file of one of them: a few versions, one of which can't be started if that is wanted, and some policies. Some fit
/// no host, or not all of them.
fn text(name: &str, random: &mut Random, or_broken: bool) -> String {
    let program = match random.within(0..=3) {
        0 if or_broken => "ExecStart=\n".to_owned(),
        version => format!("ExecStart=/bin/tier {version}\n"),
    };
    let parallel = random.pick(&["", "Parallel=2\n", "Parallel=50%\n"]);
    let spare = random.pick(&["", "Spare=1\n", "Spare=50%\n"]);
    let spare = if name == SET { spare } else { "" };
    let canary = random.pick(&[
        "",
        "",
        "Canary=1\nPromote=auto\n",
        "Canary=1\nPromote=5\n",
        "Canary=1\n",
        "Canary=1\nPreview=yes\n",
        "Canary=1\nPreview=yes\nPromote=5\n",
    ]);
    let failure = random.pick(&["", "", "OnFailure=pause\n"]);
    // Drawn from generators of their own, so that other choices don't depend on them.
    let mut hooks = random.fork("hooks");
    let before = if hooks.chance(300) { format!("Before={BEFORE}\n") } else { String::new() };
    let after = if hooks.chance(300) { format!("After={AFTER}\n") } else { String::new() };
    let health = if random.fork("health").chance(300) { SECTION } else { "" };
    let place = random.fork("place").pick(places(name));
    let fleet = match name {
        SET => format!("Replicas=3\n{place}"),
        GLOBAL => format!("Global=true\n{place}"),
        _ => (*place).to_owned(),
    };
    format!(
        "[Service]\n{program}{health}[X-Fleet]\n{fleet}[X-Rollout]\nHealthySec=2\nDeadlineSec={DEADLINE_SEC}\n\
         {parallel}{spare}{canary}{failure}{before}{after}"
    )
}

/// Where a file may run; nothing is in zone c.
fn places(name: &str) -> &'static [&'static str] {
    match name {
        SET => {
            &["", "", "", "", "", "MachineMetadata=zone=a\n", "MachineMetadata=zone=c\n", "Conflicts=tier@*.service\n"]
        }
        GLOBAL => &["", "", "", "MachineMetadata=zone=a\n", "MachineMetadata=zone=c\n", "Conflicts=solo.service\n"],
        _ => &["", "", "", "", "MachineMetadata=zone=a\n", "MachineMetadata=zone=c\n", "Conflicts=tier@*.service\n"],
    }
}
