//! Texts that differ in comments only: they are written, and nothing else happens.

use super::super::*;
use super::Target;
use super::world::{ONCE, OTHER, PLAIN, World, assignment, hash, unit};

/// A text that differs from `text` in a comment, which the store has under this key.
fn explained(world: &mut World, text: &str, why: &str) -> (UnitHash, String) {
    let text = format!("# {why}\n{text}");
    let key = crate::model::file::UnitFile::parse(text.as_bytes()).unwrap().text_hash();
    world.texts.insert(key.clone(), text.clone());
    (key, text)
}

#[test]
fn another_comment_is_written_and_nothing_else_happens() {
    let mut world = World::new();
    let enabled = "[Service]\nExecStart=/bin/a\n[Install]\nWantedBy=a.target\n";
    world.texts.insert(hash(enabled), enabled.into());
    for (name, text) in [("a.service", PLAIN), ("i.service", enabled), ("o.service", ONCE)] {
        world.assign(name, assignment(text, Target::Launched, 1));
        world.settle();
    }
    world.running.remove(&unit("o.service"));
    world.input(Input::Event(Event::Changed(unit("o.service"))));
    world.settle();
    for (name, text) in [("a.service", PLAIN), ("i.service", enabled), ("o.service", ONCE)] {
        let (key, text) = explained(&mut world, text, "why");
        let known = world.assigned[&unit(name)].clone();
        world.assign(name, Assignment { text: Some(key), ..known });
        let written = world.written;
        assert!(matches!(world.next_change(), Action::Install(_)), "{name}");
        assert_eq!(world.settle(), [format!("install {name}")]);
        assert_eq!((&world.disk[&unit(name)], world.written), (&text, written), "{name}: no report changes");
        assert_eq!(world.state.reload(), None, "{name}");
        world.begin();
        assert!(world.settle().is_empty(), "{name}: a restarted daemon finds nothing to do");
    }
}

/// A comment that can't be written is tried again, and the unit isn't started once more for it.
#[test]
fn a_comment_that_cannot_be_written_changes_nothing_about_the_unit() {
    let mut world = World::new();
    world.assign("o.service", assignment(ONCE, Target::Launched, 1));
    world.settle();
    world.running.remove(&unit("o.service"));
    world.input(Input::Event(Event::Changed(unit("o.service"))));
    world.settle();
    let (key, text) = explained(&mut world, ONCE, "why");
    world.assign("o.service", Assignment { text: Some(key), ..assignment(ONCE, Target::Launched, 1) });
    let Action::Install(files) = world.next_change() else { panic!("the comment is written first") };
    let full = Error::Io("No space left on device".into());
    world.input(Input::Installed(files.into_iter().map(|(name, text)| (name, text, Err(full.clone()))).collect()));
    let written = world.written;
    assert_eq!(world.settle(), ["install o.service"], "when the back-off has ended");
    assert_eq!((&world.disk[&unit("o.service")], world.written), (&text, written));
}

#[test]
fn a_template_gets_another_comment_with_the_units_that_bring_it() {
    let mut world = World::new();
    let (key, text) = explained(&mut world, PLAIN, "why");
    let plain = Assignment {
        templates: [(unit("echo@.service"), hash(PLAIN))].into(),
        ..assignment(OTHER, Target::Launched, 1)
    };
    world.assign("echo.socket", plain.clone());
    world.settle();
    world.assign("echo.socket", Assignment { template_texts: [(unit("echo@.service"), key)].into(), ..plain });
    assert_eq!(world.settle(), ["install echo@.service"]);
    assert_eq!(world.disk[&unit("echo@.service")], text);
    world.begin();
    assert!(world.settle().is_empty());
}

/// A leader of an earlier version deletes a text that only a field names which it doesn't know.
#[test]
fn a_text_that_is_not_in_the_store_is_done_without() {
    let mut world = World::new();
    let lost = Some(UnitHash::new("lost"));
    world.assign("a.service", Assignment { text: lost.clone(), ..assignment(PLAIN, Target::Launched, 1) });
    assert_eq!(world.settle(), ["install a.service", "start a.service"]);
    assert_eq!(world.disk[&unit("a.service")], PLAIN);
    world.assign("a.service", Assignment { text: lost, ..assignment(PLAIN, Target::Launched, 1) });
    assert!(world.settle().is_empty(), "what is there will do");
    let said = world.state.take_log();
    assert_eq!(said.iter().filter(|line| **line == Log::TextLost(unit("a.service"))).count(), 2, "{said:?}");
}
