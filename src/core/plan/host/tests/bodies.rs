//! Files that differ only in sections that systemd skips: they are written, and their units are neither stopped nor
//! started.

use super::super::*;
use super::Target;
use super::world::{ID, NEEDY, ONCE, OTHER, PLAIN, STOPS, World, assignment, hash, unit};
use crate::model::systemd::{ActiveState, JobResult};

/// A text with the same body, which the store has.
fn noted(world: &mut World, text: &str, more: &str) -> String {
    let text = format!("{text}[X-Note]\nWhy={more}\n");
    world.texts.insert(hash(&text), text.clone());
    text
}

fn with_file(text: &str, generation: u64) -> Assignment {
    assignment(text, Target::Launched, generation)
}

/// It ends as a oneshot does.
fn ends(world: &mut World, name: &str) {
    world.running.remove(&unit(name));
    world.signal(&[name]);
    world.settle();
}

/// The oneshot `o.service` has finished, and is assigned another file with the same body, of this text.
fn finished_and_changed() -> (World, String) {
    let mut world = World::new();
    world.assign("o.service", with_file(ONCE, 1));
    world.settle();
    ends(&mut world, "o.service");
    let text = noted(&mut world, ONCE, "changed");
    world.assign("o.service", with_file(&text, 2));
    (world, text)
}

#[test]
fn other_sections_are_written_and_nothing_else_happens() {
    let mut world = World::new();
    let enabled = "[Service]\nExecStart=/bin/a\n[Install]\nWantedBy=a.target\n";
    world.texts.insert(hash(enabled), enabled.into());
    let units = [("a.service", PLAIN), ("i.service", enabled), ("o.service", ONCE), ("s.service", STOPS)];
    for (name, text) in units {
        world.assign(name, with_file(text, 1));
        world.settle();
    }
    ends(&mut world, "o.service");
    for (name, text) in units {
        let text = noted(&mut world, text, "changed");
        world.assign(name, with_file(&text, 2));
        assert_eq!(world.settle(), [format!("install {name}")]);
        assert_eq!((&world.disk[&unit(name)], world.state.reload()), (&text, None), "{name}");
        let report = &world.reports[&unit(name)];
        assert_eq!((report.generation, &report.hash), (Revision(2), &hash(&text)), "{name}");
        assert!(!report.missing && report.error.is_none(), "{report:?}");
        world.begin();
        let again = world.settle();
        assert!(again.iter().all(|done| done == "hold the lease"), "{name}: a restarted daemon has {again:?} to do");
    }
    assert_eq!(world.runs(), ["a.service", "i.service", "s.service"]);
}

#[test]
fn a_loaded_unit_that_another_one_has_started_keeps_running() {
    let mut world = World::new();
    world.assign("a.service", assignment(PLAIN, Target::Loaded, 1));
    world.settle();
    world.running.insert(unit("a.service"), (hash(PLAIN), None));
    world.signal(&["a.service"]);
    let text = noted(&mut world, PLAIN, "changed");
    world.assign("a.service", assignment(&text, Target::Loaded, 2));
    assert_eq!(world.settle(), ["install a.service"]);
    assert_eq!(world.reports[&unit("a.service")].generation, Revision(2));
}

#[test]
fn what_else_is_asked_for_is_done() {
    let mut world = World::new();
    world.assign("a.service", assignment(PLAIN, Target::Loaded, 1));
    world.settle();
    let text = noted(&mut world, PLAIN, "started");
    world.assign("a.service", with_file(&text, 2));
    assert_eq!(world.settle(), ["install a.service", "start a.service"]);
    let text = noted(&mut world, PLAIN, "restarted");
    world.assign("a.service", Assignment { restart: Some(Revision(3)), ..with_file(&text, 3) });
    assert_eq!(world.settle(), ["install a.service", "stop a.service", "start a.service"]);
    let text = noted(&mut world, PLAIN, "stopped");
    world.assign("a.service", assignment(&text, Target::Loaded, 4));
    assert_eq!(world.settle(), ["install a.service", "stop a.service"]);
    let text = noted(&mut world, OTHER, "another body");
    world.assign("a.service", with_file(&text, 5));
    assert_eq!(world.settle(), ["install a.service", "start a.service"]);
}

/// systemd gets a drop-in for such a unit, and so it is replaced.
#[test]
fn the_lease_is_part_of_the_body() {
    let mut world = World::new();
    let keeps = STOPS.replace("OnDisconnect=stop", "OnDisconnect=keep");
    world.texts.insert(hash(&keeps), keeps.clone());
    world.assign("s.service", with_file(&keeps, 1));
    world.settle();
    world.assign("s.service", with_file(STOPS, 2));
    assert_eq!(world.settle(), ["stop s.service", "install s.service", "hold the lease", "start s.service"]);
}

/// `a.service` was started with the file `PLAIN`, and has failed.
fn failed() -> World {
    let mut world = World::new();
    world.assign("a.service", with_file(PLAIN, 1));
    world.settle();
    world.running.remove(&unit("a.service"));
    world.troubled.insert(unit("a.service"), (ActiveState::Failed, "failed"));
    world.signal(&["a.service"]);
    world.settle();
    world
}

#[test]
fn a_unit_that_failed_is_started_again() {
    let mut world = failed();
    let text = noted(&mut world, PLAIN, "changed");
    world.assign("a.service", with_file(&text, 2));
    assert_eq!(world.settle(), ["install a.service", "reset-failed a.service", "start a.service"]);
}

/// What systemd counts is about the file that it has read.
#[test]
fn failures_are_forgotten_when_all_else_is_ready_for_the_start() {
    let mut world = failed();
    world.assign("a.service", with_file(OTHER, 2));
    world.input(Input::PassBegins);
    let mut changes = Vec::new();
    loop {
        let action = world.state.next(world.at(), true);
        match &action {
            Action::Wait(_) => break,
            Action::Install(_) => changes.push("install"),
            Action::Reload => changes.push("reload"),
            Action::ResetFailed(_) => changes.push("reset-failed"),
            Action::Start(_) => changes.push("start"),
            _ => {}
        }
        let outcome = world.carry_out(action);
        world.input(outcome);
    }
    assert_eq!(changes, ["install", "reload", "reset-failed", "start"]);
}

/// A daemon that is killed at any step starts nothing again, whether the file is written by then or not.
#[test]
fn a_oneshot_that_has_finished_is_never_started_again() {
    for steps in 0..12 {
        let (mut world, text) = finished_and_changed();
        world.done.clear();
        world.input(Input::PassBegins);
        for _ in 0..steps {
            let action = world.state.next(world.at(), true);
            if matches!(action, Action::Wait(_)) {
                break;
            }
            let outcome = world.carry_out(action);
            world.input(outcome);
        }
        let before = std::mem::take(&mut world.done);
        world.begin();
        let after = world.settle();
        assert_eq!(before.len() + after.len(), 1, "{steps} steps: {before:?} {after:?}");
        assert_eq!((&world.disk[&unit("o.service")], world.runs().len()), (&text, 0));
        assert_eq!(world.reports[&unit("o.service")].generation, Revision(2));
    }
}

/// The file that is to be written next can't be.
fn cannot_be_written(world: &mut World) {
    let Action::Install(files) = world.next_change() else { panic!("the file is written first") };
    let full = Error::Io("No space left on device".into());
    world.input(Input::Installed(files.into_iter().map(|(name, text)| (name, text, Err(full.clone()))).collect()));
    world.pass();
}

#[test]
fn a_file_that_cannot_be_written_is_reported_and_tried_again() {
    let (mut world, text) = finished_and_changed();
    cannot_be_written(&mut world);
    let report = &world.reports[&unit("o.service")];
    assert_eq!((report.generation, report.error.as_deref()), (Revision(2), Some("No space left on device")));
    assert_eq!(world.settle(), ["install o.service"], "when the back-off has ended");
    assert_eq!((&world.disk[&unit("o.service")], &world.reports[&unit("o.service")].error), (&text, &None));
}

/// It was neither carried out when the file couldn't be had, nor by the file itself.
#[test]
fn what_else_was_asked_for_with_such_a_file_is_done_when_it_is_there() {
    for is_stored in [true, false] {
        let mut world = World::new();
        world.assign("a.service", with_file(PLAIN, 1));
        world.settle();
        let text = noted(&mut world, PLAIN, "restarted");
        world.assign("a.service", Assignment { restart: Some(Revision(3)), ..with_file(&text, 3) });
        if is_stored {
            cannot_be_written(&mut world);
        } else {
            world.texts.remove(&hash(&text));
            world.pass();
            world.texts.insert(hash(&text), text.clone());
        }
        assert!(world.reports[&unit("a.service")].error.is_some());
        assert_eq!(world.settle(), ["install a.service", "stop a.service", "start a.service"], "{is_stored}");
        let report = &world.reports[&unit("a.service")];
        assert_eq!((report.generation, &report.error, &report.hash), (Revision(3), &None, &hash(&text)));
    }
}

/// Nor is it started for the next such file, because it has finished: only the file couldn't be written.
#[test]
fn a_oneshot_that_has_finished_is_not_started_after_a_file_that_could_not_be_written() {
    let (mut world, _) = finished_and_changed();
    let text = noted(&mut world, ONCE, "changed again");
    for generation in [3, 4] {
        cannot_be_written(&mut world);
        assert!(world.reports[&unit("o.service")].error.is_some());
        world.assign("o.service", with_file(&text, generation));
    }
    assert_eq!(world.settle(), ["install o.service"]);
    let report = &world.reports[&unit("o.service")];
    assert_eq!((report.generation, &report.error, &world.disk[&unit("o.service")]), (Revision(4), &None, &text));
}

/// Nothing is stopped before it is known what comes instead.
#[test]
fn a_unit_whose_new_file_cannot_be_read_runs_on() {
    let mut world = World::new();
    world.assign("a.service", with_file(PLAIN, 1));
    world.settle();
    let missing = "[Service]\nExecStart=/bin/missing\n";
    world.assign("a.service", with_file(missing, 2));
    assert!(world.pass().is_some(), "it is tried again");
    assert!(world.done.is_empty(), "{:?}", world.done);
    assert!(world.reports[&unit("a.service")].error.is_some());
    world.texts.insert(hash(missing), missing.into());
    assert_eq!(world.settle(), ["stop a.service", "install a.service", "start a.service"]);
}

#[test]
fn a_unit_whose_new_file_cannot_be_written_runs_on() {
    let mut world = World::new();
    world.assign("a.service", with_file(PLAIN, 1));
    world.settle();
    world.full = true;
    world.assign("a.service", with_file(OTHER, 2));
    assert!(world.pass().is_some(), "it is tried again");
    assert!(world.done.is_empty(), "{:?}", world.done);
    assert_eq!(world.reports[&unit("a.service")].error.as_deref(), Some("No space left on device"));
    // It goes back to the file that it has, as its gate says, of the same generation. Nothing is done for that either.
    for (at, restarts) in [(3, false), (4, true)] {
        world.assign("a.service", with_file(OTHER, at));
        world.pass();
        assert_eq!(world.reports[&unit("a.service")].error.as_deref(), Some("No space left on device"));
        if restarts {
            world.begin();
        }
        world.assign("a.service", with_file(PLAIN, at));
        world.pass();
        assert_eq!(world.reports[&unit("a.service")].error, None, "{restarts}");
    }
    assert_eq!(world.runs(), ["a.service"]);
    world.done.clear();
    // A restart that was asked for with the other file is yet to be done.
    let restart = |text| Assignment { restart: Some(Revision(5)), ..with_file(text, 5) };
    world.assign("a.service", restart(OTHER));
    world.pass();
    world.assign("a.service", restart(PLAIN));
    assert_eq!(world.settle(), ["stop a.service", "start a.service"]);
    assert_eq!(world.reports[&unit("a.service")].error, None);
    world.assign("a.service", with_file(OTHER, 8));
    world.pass();
    world.full = false;
    assert_eq!(world.settle(), ["stop a.service", "install a.service", "start a.service"]);
    // Nothing is started for a file with the same body either.
    world.full = true;
    world.assign("a.service", with_file(PLAIN, 9));
    world.pass();
    let same = format!("{OTHER}[X-Note]\nWhy=other\n");
    world.texts.insert(hash(&same), same.clone());
    world.assign("a.service", with_file(&same, 10));
    assert_eq!(world.settle(), ["install a.service"]);
    // A stop that was asked for needs no file.
    world.full = true;
    world.assign("a.service", assignment(PLAIN, Target::Loaded, 11));
    assert_eq!(world.settle()[0], "stop a.service");
}

/// Its rollout lets it through again to the file that it has, which was requested before the other one.
#[test]
fn a_unit_that_never_had_another_file_is_not_started_again_for_its_own() {
    for restarts in [false, true] {
        let mut world = World::new();
        let other = noted(&mut world, ONCE, "other");
        let different = ONCE.replace("/bin/o", "/bin/other");
        world.texts.insert(hash(&different), different.clone());
        world.assign("o.service", with_file(ONCE, 1));
        world.settle();
        ends(&mut world, "o.service");
        for text in [&different, &other] {
            for generation in [7, 8] {
                world.assign("o.service", with_file(text, generation));
                cannot_be_written(&mut world);
                let report = &world.reports[&unit("o.service")];
                assert_eq!((report.generation.0, report.error.is_some()), (generation, true), "{report:?}");
            }
            if restarts {
                world.begin();
            }
            world.assign("o.service", with_file(ONCE, 1));
            assert_eq!(world.settle(), [""; 0], "{text}");
            let report = &world.reports[&unit("o.service")];
            assert_eq!((report.generation, &report.error, &report.hash), (Revision(1), &None, &hash(ONCE)));
            assert_eq!(report.result, Some(JobResult::Done));
        }
        world.assign("o.service", with_file(ONCE, 9));
        assert_eq!(world.settle(), ["start o.service"], "it is requested again");

        world.assign("a.service", with_file(PLAIN, 10));
        world.settle();
        world.full = true;
        world.assign("a.service", with_file(OTHER, 11));
        assert!(world.pass().is_some(), "it is tried again");
        if restarts {
            world.begin();
        }
        world.assign("a.service", with_file(PLAIN, 10));
        assert_eq!(world.settle(), [""; 0], "it runs on");
    }
}

/// An earlier version has noted that a file couldn't be had, and not what was carried out before.
#[test]
fn what_an_earlier_version_has_noted_of_such_a_file_leads_to_another_start() {
    let mut world = World::new();
    let other = noted(&mut world, ONCE, "other");
    world.assign("o.service", with_file(ONCE, 1));
    world.settle();
    ends(&mut world, "o.service");
    world.assign("o.service", with_file(&other, 7));
    cannot_be_written(&mut world);
    let saved = world.saved.0.as_mut().unwrap().get_mut(&unit("o.service")).unwrap();
    let mut note = serde_json::to_value(&*saved).unwrap();
    assert!(note.as_object_mut().unwrap().remove("kept").is_some(), "{note}");
    *saved = serde_json::from_value(note).unwrap();
    world.begin();
    world.assign("o.service", with_file(ONCE, 1));
    assert_eq!(world.settle(), ["start o.service"], "as that version would");
    let report = &world.reports[&unit("o.service")];
    assert_eq!((report.generation, &report.error, &report.hash), (Revision(1), &None, &hash(ONCE)));
}

#[test]
fn what_needs_such_a_unit_runs_on_too() {
    let mut world = World::new();
    world.assign("base.service", with_file(PLAIN, 1));
    world.assign("needy.service", with_file(NEEDY, 1));
    world.settle();
    let text = noted(&mut world, PLAIN, "changed");
    world.assign("base.service", with_file(&text, 2));
    assert_eq!(world.settle(), ["install base.service"]);
    assert_eq!(world.runs(), ["base.service", "needy.service"]);
}

#[test]
fn a_template_is_not_loaded_again_either() {
    let mut world = World::new();
    let brings = |text: &str, generation| Assignment {
        templates: [(unit("echo@.service"), hash(text))].into(),
        ..with_file(OTHER, generation)
    };
    world.assign("echo.socket", brings(PLAIN, 1));
    world.settle();
    let text = noted(&mut world, PLAIN, "changed");
    world.assign("echo.socket", brings(&text, 1));
    assert_eq!(world.settle(), ["install echo@.service"]);
    assert_eq!((&world.disk[&unit("echo@.service")], world.state.reload()), (&text, None));
}

/// Its host was treated as dead while its file changed: it runs on until the leader assigns the new one.
#[test]
fn a_host_that_returns_keeps_what_has_the_same_body() {
    let global = "[Service]\nExecStart=/bin/g\n[X-Fleet]\nGlobal=true\n";
    let pinned = format!("[Service]\nExecStart=/bin/g\n[X-Fleet]\nMachineID={ID}\n");
    let placed = "[Service]\nExecStart=/bin/g\n".to_owned();
    let other = "[Service]\nExecStart=/bin/h\n[X-Fleet]\nGlobal=true\n".to_owned();
    for (text, stays) in [(pinned, true), (placed, false), (other, false)] {
        let mut world = World::new();
        world.texts.insert(hash(&text), text.clone());
        world.assign("g.service", with_file(global, 1));
        world.settle();
        world.input(Input::Registered);
        world.assigned.clear();
        world.wanted.insert(unit("g.service"), hash(&text));
        world.list();
        world.pass();
        assert_eq!(world.done.is_empty(), stays, "{text}: {:?}", world.done);
        if stays {
            world.assign("g.service", with_file(&text, 2));
            assert_eq!(world.settle(), ["install g.service"]);
        }
    }
}
