//! Which units are probed, and what is reported of their health.

use super::super::*;
use super::Target;
use super::world::{OTHER, PLAIN, World, assignment, hash, unit};
use crate::model::systemd::ActiveState;

const A: &str = "a.service";
const PROBED: &str = "[Service]\nExecStart=/bin/a\n[X-Health]\nReady=tcp:80\n";
const CHANGED: &str = "[Service]\nExecStart=/bin/a\n[X-Health]\nReady=tcp:81\n";
const LIVE: &str = "[Service]\nExecStart=/bin/a\n[X-Health]\nLive=tcp:80\n";
const RESTARTS: &str = "[Service]\nExecStart=/bin/a\nRestart=always\n[X-Health]\nReady=tcp:80\n";

/// A host with `a.service`, which has just been started.
fn started(text: &str) -> World {
    let mut world = World::new();
    for text in [PLAIN, OTHER, PROBED, CHANGED, LIVE, RESTARTS] {
        world.texts.insert(hash(text), text.into());
    }
    world.assign(A, assignment(text, Target::Launched, 1));
    world.settle();
    world
}

impl World {
    /// The probes of `a.service` say this.
    fn says(&mut self, ready: bool, why: &str) {
        let id = self.probed[&unit(A)].id;
        self.says_of(id, ready, why);
    }

    fn says_of(&mut self, id: u64, ready: bool, why: &str) {
        let stand = Stand { ready, why: (!why.is_empty()).then(|| why.into()), not_alive: None };
        self.input(Input::Probed([(unit(A), (id, stand))].into()));
        self.settle();
    }

    fn turns_into(&mut self, active: ActiveState, sub: &'static str) {
        self.troubled.insert(unit(A), (active, sub));
        self.signal(&[A]);
        self.settle();
    }

    /// What is reported of `a.service`.
    fn health(&self) -> (Option<bool>, Option<&str>) {
        let report = &self.reports[&unit(A)];
        (report.ready, report.health.as_deref())
    }
}

#[test]
fn a_unit_is_ready_while_it_is_active_and_its_probes_say_so() {
    let mut world = started(PROBED);
    assert_eq!(world.health(), (Some(false), None));
    let probing = world.probed[&unit(A)].clone();
    assert_eq!((probing.ready, probing.health.ready.len()), (false, 1));
    let before = world.written;
    world.says(true, "");
    assert_eq!(world.health(), (Some(true), None));
    world.says(false, "tcp:80: connection refused (os error 111)\n");
    assert_eq!(world.health(), (Some(false), Some("tcp:80: connection refused")));
    assert_eq!(world.written, before + 2);
    world.says(true, "");
    // A unit that reloads still serves, and is probed as before.
    world.turns_into(ActiveState::Reloading, "reload");
    assert_eq!(world.health(), (Some(true), None));
    world.turns_into(ActiveState::Active, "running");
    assert_eq!(world.health(), (Some(true), None));
    assert_eq!(world.probed[&unit(A)].id, probing.id);
    world.turns_into(ActiveState::Failed, "failed");
    assert_eq!((world.health(), world.probed.len()), ((Some(false), None), 0));
    world.turns_into(ActiveState::Active, "running");
    assert_eq!((world.health(), world.probed[&unit(A)].ready), ((Some(false), None), false), "it begins again");
    // A late result of the first start.
    world.says_of(probing.id, true, "");
    assert_eq!(world.health(), (Some(false), None));
}

#[test]
fn a_unit_without_probes_reports_nothing_of_its_health() {
    let mut world = started(PLAIN);
    assert_eq!((world.health(), world.probed.len()), ((None, None), 0));
    let saved = serde_json::to_string(&world.saved.0).unwrap();
    assert!(!saved.contains("ready"), "{saved}");
    world.turns_into(ActiveState::Failed, "failed");
    assert_eq!((world.health(), world.probed.len()), ((None, None), 0));
    let report = serde_json::to_string(&world.reports[&unit(A)]).unwrap();
    assert!(!report.contains("ready") && !report.contains("health"), "{report}");
}

#[test]
fn a_unit_is_probed_whoever_has_started_it() {
    let mut world = World::new();
    world.texts.insert(hash(PROBED), PROBED.into());
    world.assign(A, assignment(PROBED, Target::Loaded, 1));
    world.settle();
    assert_eq!(world.probed.len(), 0);
    world.running.insert(unit(A), (hash(PROBED), None));
    world.signal(&[A]);
    world.settle();
    assert_eq!(world.probed.len(), 1);
}

#[test]
fn a_restart_of_the_daemon_makes_nothing_unready() {
    let mut world = started(PROBED);
    world.now += Duration::from_secs(100);
    world.says(true, "");
    world.begin();
    world.settle();
    let probing = &world.probed[&unit(A)];
    assert_eq!((probing.ready, probing.age), (true, Duration::from_secs(100)));
    assert_eq!(world.health(), (Some(true), None));
    // What isn't ready doesn't get ready by it either.
    world.says(false, "tcp:80: connection refused");
    world.begin();
    world.settle();
    assert_eq!((world.health(), world.probed[&unit(A)].ready), ((Some(false), None), false));
    // Nor what has been started again meanwhile.
    world.says(true, "");
    world.turns_into(ActiveState::Failed, "failed");
    world.begin();
    world.turns_into(ActiveState::Active, "running");
    assert_eq!(world.health(), (Some(false), None));
}

#[test]
fn a_restart_that_is_too_quick_to_be_seen_begins_again() {
    let mut world = started(RESTARTS);
    let restarted = |world: &mut World, restarts| {
        world.details.insert(unit(A), Details { restarts, result: "success".into(), ..Details::default() });
        world.signal(&[A]);
        world.settle();
        world.health().0
    };
    world.says(true, "");
    assert_eq!(restarted(&mut world, 0), Some(true));
    assert_eq!(restarted(&mut world, 1), Some(false));
    world.says(true, "");
    assert_eq!(restarted(&mut world, 1), Some(true));
    // A daemon that has just begun doesn't know the number before it asks.
    world.begin();
    world.settle();
    assert_eq!((world.health().0, world.probed[&unit(A)].ready), (Some(true), true));
}

#[test]
fn another_section_is_taken_up_by_a_unit_that_runs_on() {
    let mut world = started(PLAIN);
    let changes_to = |world: &mut World, text, generation| {
        world.assign(A, assignment(text, Target::Launched, generation));
        assert_eq!(world.settle(), ["install a.service"]);
        (
            world.health().0,
            world.probed.get(&unit(A)).map(|probing| (probing.ready, probing.health.ready[0].to_string())),
        )
    };
    let probed = |ready, probe: &str| Some((ready, probe.to_owned()));
    assert_eq!(changes_to(&mut world, PROBED, 2), (Some(true), probed(true, "tcp:80")), "it was ready without probes");
    assert_eq!(changes_to(&mut world, CHANGED, 3), (Some(true), probed(true, "tcp:81")));
    world.says(false, "");
    assert_eq!(changes_to(&mut world, PROBED, 4), (Some(false), probed(false, "tcp:80")));
    assert_eq!(changes_to(&mut world, PLAIN, 5), (None, None));
}

#[test]
fn why_a_unit_was_ended_is_reported_until_its_next_start() {
    let mut world = started(LIVE);
    assert_eq!(world.health(), (None, None), "nothing is known of its readiness");
    let id = world.probed[&unit(A)].id;
    let not_alive = Some("tcp:80: 503 Service Unavailable".into());
    let stand = Stand { ready: true, not_alive, ..Stand::default() };
    world.input(Input::Probed([(unit(A), (id, stand))].into()));
    world.settle();
    let told = (None, Some("not alive: tcp:80: 503 Service Unavailable"));
    assert_eq!(world.health(), told);
    world.turns_into(ActiveState::Failed, "failed");
    assert_eq!((world.health(), world.probed.len()), (told, 0));
    world.turns_into(ActiveState::Active, "running");
    assert_eq!(world.health(), (None, None));
    // Its end may be observed first; a start makes the reason void.
    let (first, id) = (id, world.probed[&unit(A)].id);
    world.turns_into(ActiveState::Failed, "failed");
    for (of, expected) in [(first, (None, None)), (id, told)] {
        let stand = Stand { not_alive: Some("tcp:80: 503 Service Unavailable".into()), ..Stand::default() };
        world.input(Input::Probed([(unit(A), (of, stand))].into()));
        world.settle();
        assert_eq!(world.health(), expected);
    }
    world.turns_into(ActiveState::Active, "running");
    world.assign(A, assignment(PROBED, Target::Launched, 2));
    world.settle();
    assert_eq!(world.health(), (Some(true), None), "it was ready without such probes");
}

#[test]
fn a_reason_that_keeps_changing_is_reported_at_a_bounded_rate_and_readiness_at_once() {
    let mut world = started(PROBED);
    world.says(false, "tcp:80: first");
    assert_eq!(world.health(), (Some(false), Some("tcp:80: first")));
    let (before, id) = (world.written, world.probed[&unit(A)].id);
    for number in 0..600 {
        let stand = Stand { ready: false, why: Some(format!("tcp:80: {number}")), not_alive: None };
        world.input(Input::Probed([(unit(A), (id, stand))].into()));
        world.pass();
        world.now += Duration::from_millis(100);
    }
    let written = world.written - before;
    assert!((5..=6).contains(&written), "{written} writes in a minute");
    let stand = Stand { ready: true, ..Stand::default() };
    world.input(Input::Probed([(unit(A), (id, stand))].into()));
    world.pass();
    assert_eq!(world.health(), (Some(true), None));
}

#[test]
fn a_section_that_an_earlier_version_has_accepted_is_named_and_not_used() {
    let mut world = World::new();
    let text = "[Service]\nExecStart=/bin/a\n[X-Health]\nReady=8080\n";
    world.texts.insert(hash(text), text.into());
    world.assign(A, assignment(text, Target::Launched, 1));
    assert_eq!(world.settle(), ["install a.service", "start a.service"]);
    let (ready, health) = world.health();
    assert_eq!((ready, world.probed.len()), (None, 0));
    assert!(health.unwrap().starts_with("[X-Health] can't be used: `Ready=8080`: write http://"), "{health:?}");
}
