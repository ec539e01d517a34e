//! list-sets: templates with a number of members. Owns its columns, for scripts and for people.

use serde_json::json;

use super::people::Shown;
use super::{Field, is_for_people, or_dash, pick, print, say, show};
use crate::api::wire::SetView;
use crate::cli::args::List;
use crate::cli::commands::counted;
use crate::cli::condition::Kind;
use crate::cli::error::{Error, Exit};
use crate::cli::input::select;
use crate::cli::output::fitted::{Cell, Tone};
use crate::cli::output::people::{count, natural};
use crate::cli::session::Session;
use crate::model::rollout::Phase;

/// The columns without `--fields`.
const SETS: &str = "set,wanted,ready,waiting,done,revision,rollout";

pub(super) fn fields() -> Vec<Field<SetView>> {
    vec![
        Field { name: "set", text: |set, _| set.name.to_string(), value: |set| json!(set.name) },
        Field { name: "wanted", text: |set, _| set.replicas.to_string(), value: |set| json!(set.replicas) },
        Field { name: "ready", text: |set, _| set.ready.to_string(), value: |set| json!(set.ready) },
        Field { name: "waiting", text: |set, _| set.waiting.to_string(), value: |set| json!(set.waiting) },
        Field { name: "done", text: |set, _| set.done.to_string(), value: |set| json!(set.done) },
        Field { name: "revision", text: |set, _| or_dash(&revision(set)), value: |set| json!(set.revision) },
        Field { name: "rollout", text: |set, _| or_dash(rollout(set)), value: |set| json!(set.rollout) },
        Field { name: "members", text: |set, _| set.members.len().to_string(), value: |set| json!(set.members.len()) },
        Field { name: "file", text: |set, _| or_dash(&file(set)), value: |set| json!(set.file) },
        Field { name: "lead", text: |set, _| or_dash(&lead(set)), value: |set| json!(set.lead) },
    ]
}

fn file(set: &SetView) -> String {
    set.file.map(|count| count.to_string()).unwrap_or_default()
}

fn revision(set: &SetView) -> String {
    set.revision.map(|number| number.to_string()).unwrap_or_default()
}

fn rollout(set: &SetView) -> &'static str {
    set.rollout.map(Phase::key).unwrap_or_default()
}

fn lead(set: &SetView) -> String {
    set.lead.as_ref().map(ToString::to_string).unwrap_or_default()
}

/// `list-sets`: a row for each set.
pub(in crate::cli) async fn sets(session: &Session, args: &List) -> Result<Exit, Error> {
    let fields = pick(fields(), session, &args.columns, SETS)?;
    let patterns = select::patterns_of(&args.patterns)?;
    let mut sets = session.client.sets(&patterns).await?.sets;
    let mut unmatched = Vec::new();
    for arg in &args.patterns {
        let globs = select::globs(arg).unwrap_or_default();
        if !sets.iter().any(|set| globs.iter().any(|glob| glob.matches(set.name.as_str()))) {
            unmatched.push(format!("no set matches `{arg}`"));
        }
    }
    sets.sort_by(|a, b| natural(a.name.as_str(), b.name.as_str()));
    if is_for_people(session, &args.columns) {
        show(session, &args.columns, &table(&sets));
    } else {
        print(session, &args.columns, &fields, &sets);
    }
    session.out.messages(remarks(&sets));
    Ok(say(session, args, &unmatched).await)
}

/// The table for a terminal.
fn table(sets: &[SetView]) -> Shown {
    let kind = |set: &SetView| match set.replicas {
        wanted if set.ready == 0 && set.done > 0 && set.done >= wanted as usize => Kind::Done,
        wanted if set.ready + set.done >= wanted as usize => Kind::Running,
        _ if set.waiting > 0 => Kind::Waiting,
        _ => Kind::Inactive,
    };
    let row = |set: &SetView| {
        let waiting = if set.waiting > 0 { Kind::Waiting.tone() } else { Tone::Plain };
        vec![
            Cell::new(kind(set).mark(), kind(set).tone()),
            Cell::unit(set.name.as_str()),
            Cell::plain(set.replicas.to_string()),
            Cell::plain(set.ready.to_string()),
            Cell::new(set.waiting.to_string(), waiting),
            Cell::plain(set.done.to_string()),
            Cell::plain(or_dash(&revision(set))),
            Cell::new(or_dash(rollout(set)), tone_of(set.rollout)),
            set.lead.as_ref().map_or_else(|| Cell::plain(or_dash(&file(set))), |lead| Cell::unit(lead.as_str())),
        ]
    };
    let members: usize = sets.iter().map(|set| set.members.len()).sum();
    Shown {
        head: &["", "SET", "WANTED", "READY", "WAITING", "DONE", "REVISION", "ROLLOUT", "FILE"],
        rows: sets.iter().map(row).collect(),
        kinds: sets.iter().map(kind).collect(),
        footer: format!("{}, {}", count(sets.len(), "set"), count(members, "member")),
    }
}

/// The emphasis of a rollout in this phase: whether somebody has to look after it.
fn tone_of(phase: Option<Phase>) -> Tone {
    match phase {
        Some(Phase::Stuck | Phase::Reverting | Phase::Reverted) => Tone::Bad,
        Some(Phase::Waiting | Phase::Paused) => Tone::Busy,
        Some(Phase::Before | Phase::Canary | Phase::Rolling | Phase::After | Phase::Done) | None => Tone::Plain,
    }
}

/// What the numbers alone don't say.
fn remarks(sets: &[SetView]) -> Vec<String> {
    let incomplete = |set: &&SetView| set.members.len() != set.replicas as usize;
    let line = |set: &SetView| {
        let (name, wanted) = (&set.name, set.replicas);
        let members = count(set.members.len(), "member");
        let scaled = set.lead.as_ref().unwrap_or(name);
        let hint = format!("`fleetctl scale {scaled} {wanted}` again completes it");
        let left = if set.lead.is_some() { ", or names those that are left" } else { "" };
        format!("{name} has {members}, not {wanted}: {hint}{left}")
    };
    let scaled = |set: &SetView| counted::remark(&set.name, Some(set.replicas), set.file);
    sets.iter().filter(incomplete).map(line).chain(sets.iter().filter_map(scaled)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::fitted::render;

    fn set(replicas: u32, ready: usize, waiting: usize, members: u32) -> SetView {
        let name = "web@.service".parse().unwrap();
        let members = (1..=members).map(|number| format!("web@{number}.service").parse().unwrap()).collect();
        SetView {
            name,
            replicas,
            file: Some(3),
            lead: None,
            riders: Vec::new(),
            ready,
            waiting,
            done: 0,
            revision: Some(7),
            rollout: None,
            members,
        }
    }

    #[test]
    fn the_mark_says_whether_all_are_up() {
        for (set, kind) in [
            (set(3, 3, 0, 3), Kind::Running),
            (set(0, 0, 0, 0), Kind::Running),
            (set(3, 2, 1, 3), Kind::Waiting),
            (set(3, 2, 0, 3), Kind::Inactive),
            (SetView { done: 1, ..set(3, 2, 0, 3) }, Kind::Running),
            (SetView { done: 1, ..set(3, 1, 0, 3) }, Kind::Inactive),
            (SetView { done: 3, ..set(3, 0, 0, 3) }, Kind::Done),
        ] {
            assert_eq!(table(std::slice::from_ref(&set)).kinds, [kind], "{set:?}");
        }
    }

    #[test]
    fn a_row_fits_on_eighty_columns() {
        let waiting = SetView { rollout: Some(Phase::Reverting), ..set(1000, 998, 2, 1000) };
        let jobs = SetView {
            name: "nightly-reports@.service".parse().unwrap(),
            done: 20,
            revision: Some(1),
            file: None,
            lead: Some("nightly-inputs@.service".parse().unwrap()),
            ..set(20, 0, 0, 20)
        };
        let table = table(&[waiting, jobs]);
        assert_eq!(
            render(table.head, &table.rows, Some(80), false),
            "   SET           WANTED  READY  WAITING  DONE  REVISION  ROLLOUT    FILE\n\
             …  web@          1000    998    2        0     7         reverting  3\n\
             ✓  nightl…orts@  20      0      0        20    1         -          night…puts@\n"
        );
    }

    #[test]
    fn a_change_that_was_interrupted_is_named() {
        assert!(remarks(&[set(3, 3, 0, 3)]).is_empty());
        let line = "web@.service has 127 members, not 200: `fleetctl scale web@.service 200` again completes it";
        let file = "web@.service: 200 instances, its file says Replicas=3";
        assert_eq!(remarks(&[set(200, 0, 0, 127)]), [line, file]);
        let lead = Some("pull@.service".parse().unwrap());
        let line = "web@.service has 3 members, not 2: `fleetctl scale pull@.service 2` again completes it, \
                    or names those that are left";
        assert_eq!(remarks(&[SetView { file: None, lead, ..set(2, 2, 0, 3) }]), [line]);
    }
}
