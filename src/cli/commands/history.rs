//! `cat --history` and `cat --revision`: the texts that a unit's file had before, also of a unit that was destroyed.
//! Changes nothing.

use crate::api::client::ClientError;
use crate::api::wire::{FormerRevision, UnitHistory};
use crate::cli::args::Cat;
use crate::cli::error::{Error, Exit, HINT};
use crate::cli::input::select;
use crate::cli::output::fitted::{self, Cell};
use crate::cli::output::people::ago;
use crate::cli::session::Session;
use crate::clock::Clock;
use crate::journal::Output as _;
use crate::model::name::UnitName;

const HEAD: [&str; 4] = ["REVISION", "HASH", "UNTIL", "THEN"];

/// Print the list, or one of the texts.
pub(super) async fn run(session: &Session, name: &UnitName, args: &Cat) -> Result<Exit, Error> {
    let history = match session.client.history(name).await {
        Err(ClientError::Api(detail)) if detail.code == 404 => {
            let mut lines = vec![format!("Unit {name} not found, and no earlier text of it is kept")];
            lines.extend(select::hints(session, &args.units).await);
            return Err(Error::failures(lines));
        }
        answer => answer?,
    };
    match args.revision {
        Some(number) => text(session, &history, number),
        None => {
            list(session, &history);
            Ok(Exit::Ok)
        }
    }
}

/// How to print the last text of a unit that was destroyed, if it is kept.
pub(super) async fn hint(session: &Session, name: &UnitName) -> Option<String> {
    if !session.out.is_watched() {
        return None;
    }
    // An error here would only distract from the first one.
    let history = session.client.history(name).await.ok()?;
    let last = history.revisions.first()?;
    let then = ago(last.until, Clock::system().now_ms());
    Some(format!(
        "{HINT}it was destroyed {then} ago; `fleetctl cat --revision {} {name}` prints its file",
        last.revision
    ))
}

fn list(session: &Session, history: &UnitHistory) {
    if session.is_json() {
        return session.out.json(history);
    }
    if history.revisions.is_empty() {
        return session.out.message(&format!("{} has had no other text", history.unit));
    }
    let rows: Vec<Vec<Cell>> = history.revisions.iter().map(|former| row(former, Clock::system().now_ms())).collect();
    session.out.data(&fitted::render(&HEAD, &rows, session.out.width(), session.out.has_colours()));
}

fn row(former: &FormerRevision, now: u64) -> Vec<Cell> {
    let what = if former.destroyed { "destroyed" } else { "replaced" };
    let by = former.by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
    let lost = if former.text.is_none() { ", the store has lost its text" } else { "" };
    vec![
        Cell::plain(former.revision.to_string()),
        Cell::plain(former.hash.short()),
        Cell::plain(format!("{} ago", ago(former.until, now))),
        Cell::plain(format!("{what}{by}{lost}")),
    ]
}

fn text(session: &Session, history: &UnitHistory, number: u64) -> Result<Exit, Error> {
    let unit = &history.unit;
    let Some(former) = history.revisions.iter().find(|former| former.revision == number) else {
        let numbers: Vec<String> = history.revisions.iter().map(|former| former.revision.to_string()).collect();
        let kept = if numbers.is_empty() { "none".into() } else { numbers.join(", ") };
        return Err(Error::failure(format!("{unit} has no revision {number}; kept: {kept}")));
    };
    let Some(text) = &former.text else {
        return Err(Error::failure(format!("the store has lost the text of revision {number} of {unit}")));
    };
    if session.is_json() {
        session.out.json(&serde_json::json!({ "unit": unit, "hash": former.hash, "text": text }));
    } else {
        session.out.data(text);
    }
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::author::Author;
    use crate::model::name::UnitHash;

    #[test]
    fn a_line_says_until_when_and_who_ended_it() {
        let by = Author { uid: Some(0), user: "root".into(), ..Author::default() };
        let (hash, text) = (UnitHash::new("3750b3e9f3962a56c7582929426e9abb012754cf"), Some(String::new()));
        let replaced = FormerRevision { revision: 3, hash, until: 60_000, destroyed: false, by: Some(by), text };
        let lost = FormerRevision { revision: 2, destroyed: true, by: None, text: None, ..replaced.clone() };
        let rows = [replaced, lost].map(|former| row(&former, 180_000));
        let expected = "REVISION  HASH     UNTIL      THEN\n\
                        3         3750b3e  2 min ago  replaced by root (uid 0)\n\
                        2         3750b3e  2 min ago  destroyed, the store has lost its text\n";
        assert_eq!(fitted::render(&HEAD, &rows, None, false), expected);
    }
}
