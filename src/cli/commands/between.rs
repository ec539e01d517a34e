//! `diff UNIT N [M]`: one text that a unit's file had against another, or against the present one. Changes nothing.

use super::history::{self, Text};
use super::option_changes::{between, for_systemd};
use super::unified::{painted, unified};
use crate::cli::error::{Error, Exit, Line};
use crate::cli::input::names;
use crate::cli::session::Session;
use crate::journal::Output as _;
use crate::model::file::UnitFile;
use crate::model::name::UnitName;

/// The unit and the numbers, if that is what was typed: `web@ 7 9`. A unit that is called by a number has its type.
pub(super) fn asked(words: &[String]) -> Option<(&str, u64, Option<u64>)> {
    let number = |word: &String| word.bytes().all(|b| b.is_ascii_digit()).then(|| word.parse().ok()).flatten();
    match words {
        [unit, one] => Some((unit, number(one)?, None)),
        [unit, one, other] => Some((unit, number(one)?, Some(number(other)?))),
        _ => None,
    }
}

/// Whether they differ.
pub(super) async fn run(session: &Session, (unit, one, other): (&str, u64, Option<u64>)) -> Result<Exit, Error> {
    let name = names::unit(unit).map_err(|error| Error::failure(format!("{unit}: {error}")))?;
    let history = history::of(session, &name).await?;
    let present = history.present.as_ref().map(|present| present.revision);
    let Some(other) = other.or(present) else {
        return Err(Error::failure(format!("{name} has no present text: name two of its revisions")));
    };
    let text = |number| Text::numbered(&history, number).map_err(|why| Error::failure(format!("{name}: {why}")));
    let (old, new) = (text(one)?, text(other)?);
    let lines = unified(old.text, new.text, &label(&name, one), &label(&name, other));
    let files = parsed(old.text).zip(parsed(new.text));
    let options = files.as_ref().map(|(old, new)| between(old, new)).unwrap_or_default();
    let effect = files.filter(|_| !lines.is_empty()).map(|(old, new)| for_systemd(&old, &new));
    if session.is_json() {
        session.out.json(&serde_json::json!([{
            "unit": name, "from": one, "to": other, "file": label(&name, other), "same": lines.is_empty(),
            "diff": lines, "options": options, "effect": effect,
        }]));
        return Ok(Exit::failed_if(!lines.is_empty()));
    }
    session.out.data(&painted(&lines, session.out.has_colours()));
    options.iter().for_each(|option| session.out.message(&option.to_string()));
    if let Some(effect) = effect {
        session.out.message(&format!("{name}: from revision {one} to {other}: {effect}"));
        if Some(other) == present {
            session.out.messages([Line::hint(format!("`fleetctl rollback {name} {one}` goes back to revision {one}"))]);
        }
    }
    Ok(Exit::failed_if(!lines.is_empty()))
}

fn label(name: &UnitName, revision: u64) -> String {
    format!("cluster/{name}, revision {revision}")
}

fn parsed(text: &str) -> Option<UnitFile> {
    UnitFile::parse(text.as_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_after_a_unit_are_its_revisions() {
        let words = |typed: &str| typed.split(' ').map(str::to_owned).collect::<Vec<_>>();
        for (typed, expected) in [
            ("web@ 7 9", Some(("web@", 7, Some(9)))),
            ("web.service 7", Some(("web.service", 7, None))),
            ("web", None),
            ("web 7.service", None),
            ("web db", None),
            ("web 7 db", None),
            ("web 1 2 3", None),
            ("web 99999999999999999999", None),
        ] {
            assert_eq!(asked(&words(typed)), expected, "{typed}");
        }
    }
}
