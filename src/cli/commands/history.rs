//! `history`: the texts that a unit's file has and had; and `cat --revision`, which prints one of them. Both also of a
//! unit that was destroyed. Changes nothing.

use crate::api::client::ClientError;
use crate::api::wire::{FileOutcomeView, FormerRevision, PresentRevision, UnitHistory};
use crate::cli::args::History;
use crate::cli::error::{Error, Exit, Line};
use crate::cli::input::{names, select};
use crate::cli::output::fitted::{self, Cell, Tone};
use crate::cli::output::people::{ago, count};
use crate::cli::session::Session;
use crate::clock::Clock;
use crate::journal::Output as _;
use crate::model::author::Author;
use crate::model::name::{UnitHash, UnitName};
use crate::model::rollout::Verdict;

const HEAD: [&str; 6] = ["REVISION", "WHEN", "BY", "HASH", "ROLLOUT", "THEN"];

/// Why the present text of a unit that wasn't destroyed isn't known.
pub(super) const NO_PRESENT: &str =
    "its present text is not known: its record is damaged, or this fleetd is older than fleetctl";

/// `history`.
pub(in crate::cli) async fn run(session: &Session, args: &History) -> Result<Exit, Error> {
    let name = names::unit(&args.unit).map_err(|error| Error::failure(format!("{}: {error}", args.unit)))?;
    let history = of(session, &name).await?;
    if session.is_json() {
        session.out.json(&history);
        return Ok(Exit::Ok);
    }
    if history.present.is_none() && history.revisions.first().is_none_or(|last| !last.destroyed) {
        session.out.message(&format!("{name}: {NO_PRESENT}"));
    }
    let (head, rows) = table(&history, Clock::system().now_ms());
    session.out.data(&fitted::render(&head, &rows, session.out.width(), session.out.has_colours()));
    Ok(Exit::Ok)
}

/// `cat --revision`.
pub(super) async fn cat(session: &Session, name: &UnitName, number: u64) -> Result<Exit, Error> {
    let history = of(session, name).await?;
    let text = Text::numbered(&history, number).map_err(|why| Error::failure(format!("{name}: {why}")))?;
    if session.is_json() {
        session.out.json(&serde_json::json!({ "unit": name, "hash": text.hash, "text": text.text }));
    } else {
        session.out.data(text.text);
    }
    Ok(Exit::Ok)
}

/// The texts of a unit, from the cluster.
///
/// # Errors
/// The cluster knows none.
pub(super) async fn of(session: &Session, name: &UnitName) -> Result<UnitHistory, Error> {
    match session.client.history(name).await {
        Err(ClientError::Api(detail)) if detail.code == 404 => {
            let mut lines = vec![Line::Message(format!("Unit {name} not found, and no earlier text of it is kept"))];
            lines.extend(select::hints(session, &[name.to_string()]).await);
            Err(Error::failures(lines))
        }
        answer => Ok(answer?),
    }
}

/// How to print the last text of a unit that was destroyed, if it is kept.
pub(super) async fn hint(session: &Session, name: &UnitName) -> Option<Line> {
    if !session.out.is_watched() {
        return None;
    }
    // An error here would only distract from the first one.
    let history = session.client.history(name).await.ok()?;
    let last = history.revisions.first()?;
    let then = ago(last.until, Clock::system().now_ms());
    Some(Line::hint(format!(
        "it was destroyed {then} ago; `fleetctl cat --revision {} {name}` prints its file",
        last.revision
    )))
}

/// One of the texts of a unit.
pub(super) struct Text<'a> {
    /// The hash of the file.
    pub(super) hash: &'a UnitHash,
    /// The text.
    pub(super) text: &'a str,
}

impl<'a> Text<'a> {
    /// Revision `number`, the present one or an earlier one.
    ///
    /// # Errors
    /// There is none, or the store has lost it: the end of a sentence.
    pub(super) fn numbered(history: &'a UnitHistory, number: u64) -> Result<Self, String> {
        let found = all(history).find(|(revision, ..)| *revision == number);
        let (_, hash, text) = found.ok_or_else(|| missing(history, number))?;
        let lost = || format!("the store has lost the text of revision {number}");
        Ok(Self { hash, text: text.ok_or_else(lost)? })
    }
}

/// Number, hash and text of each, the newest first.
fn all(history: &UnitHistory) -> impl Iterator<Item = (u64, &UnitHash, Option<&str>)> {
    let present = history.present.iter().map(|one| (one.revision, &one.hash, one.text.as_deref()));
    present.chain(history.revisions.iter().map(|one| (one.revision, &one.hash, one.text.as_deref())))
}

/// That there is no such revision, and which there are: `revision 3 is gone; 5 to 9 are there`.
fn missing(history: &UnitHistory, number: u64) -> String {
    let newest = all(history).next().map_or(0, |(number, ..)| number);
    let oldest = all(history).last().map_or(0, |(number, ..)| number);
    let there = if oldest == newest { format!("{newest} is there") } else { format!("{oldest} to {newest} are there") };
    let what = if number > 0 && number < oldest { "is gone" } else { "does not exist" };
    format!("revision {number} {what}; {there}")
}

/// The earliest of the other revisions of `history` that has the file of revision `number`, if it is an older one.
fn first_with_file_of(history: &UnitHistory, number: u64) -> Option<u64> {
    let (_, hash, text) = all(history).find(|(revision, ..)| *revision == number)?;
    // Texts of one file may differ in comments.
    let is_same = |(_, other, its): &(u64, &UnitHash, Option<&str>)| *other == hash && *its == text;
    all(history).filter(|other| other.0 < number && is_same(other)).last().map(|(revision, ..)| revision)
}

/// The columns, and a row for each text, the newest first. Without a rollout, there is no column for rollouts.
fn table(history: &UnitHistory, now: u64) -> (Vec<&'static str>, Vec<Vec<Cell>>) {
    let has_rollouts = history.phase.is_some() || !history.outcomes.is_empty();
    let head = HEAD.into_iter().filter(|column| has_rollouts || *column != "ROLLOUT").collect();
    (head, rows(history).into_iter().map(|row| row.cells(has_rollouts.then_some(history), now)).collect())
}

/// A text in the table.
struct Row<'a> {
    revision: u64,
    since: Option<u64>,
    author: Option<&'a Author>,
    hash: &'a UnitHash,
    /// What became of it: since when it was replaced (ms since the epoch) and how; `None` if it is the present one.
    ended: Option<(u64, String)>,
    /// What else there is to say.
    notes: String,
}

fn rows(history: &UnitHistory) -> Vec<Row<'_>> {
    let (mut rows, mut former) = (Vec::new(), history.revisions.as_slice());
    // What brought a text is noted with the one before.
    let before = |former: &[FormerRevision]| former.first().map(with).unwrap_or_default();
    if let Some(present) = &history.present {
        let PresentRevision { revision, hash, since, author, .. } = present;
        let notes = again(history, *revision) + &before(former);
        let (revision, since, author) = (*revision, Some(*since), author.as_ref());
        rows.push(Row { revision, since, author, hash, ended: None, notes });
    }
    while let [one, rest @ ..] = former {
        let lost = if one.text.is_none() { ", the store has lost its text" } else { "" };
        let what = if one.destroyed { "destroyed" } else { "replaced" };
        let by = one.by.as_ref().filter(|_| one.destroyed).map(|by| format!(" by {}", brief(by))).unwrap_or_default();
        let notes = format!("{by}{}{}{lost}", again(history, one.revision), before(rest));
        let (revision, since, author) = (one.revision, one.since, one.author.as_ref());
        rows.push(Row { revision, since, author, hash: &one.hash, ended: Some((one.until, what.into())), notes });
        former = rest;
    }
    rows
}

impl Row<'_> {
    /// The cells, at `now` (ms since the epoch), with what the history says about rollouts.
    fn cells(&self, rollouts: Option<&UnitHistory>, now: u64) -> Vec<Cell> {
        let outcome = rollouts.and_then(|history| history.outcome(self.hash));
        let why = outcome.and_then(|known| known.why.as_ref()).map(|why| format!("; {why}")).unwrap_or_default();
        let (then, tone) = match &self.ended {
            None => ("present".into(), Tone::Good),
            Some((until, what)) => (format!("{what} {} ago", ago(*until, now)), Tone::Plain),
        };
        let mut cells = vec![
            Cell::plain(self.revision.to_string()),
            Cell::plain(self.since.map_or_else(|| "-".into(), |since| format!("{} ago", ago(since, now)))),
            Cell::plain(self.author.map_or_else(|| "-".into(), brief)),
            Cell::plain(self.hash.short()),
        ];
        cells.extend(rollouts.map(|history| self.rollout(history, outcome)));
        cells.push(Cell::new(format!("{then}{}{why}", self.notes), tone));
        cells
    }

    /// How far the rollout of the file is, or what became of it.
    fn rollout(&self, history: &UnitHistory, outcome: Option<&FileOutcomeView>) -> Cell {
        let phase = history.phase.filter(|phase| self.ended.is_none() && !phase.is_over());
        match (phase, outcome.map(|known| known.verdict)) {
            (Some(phase), _) => Cell::plain(phase.key()),
            (None, Some(Verdict::Failed)) => Cell::new("failed", Tone::Bad),
            (None, Some(Verdict::Stable)) => Cell::plain("stable"),
            (None, None) => Cell::plain("-"),
        }
    }
}

/// Who it was, without the session.
fn brief(author: &Author) -> String {
    Author { unit: String::new(), ..author.clone() }.to_string()
}

/// `, the file of 7`.
fn again(history: &UnitHistory, revision: u64) -> String {
    first_with_file_of(history, revision).map(|first| format!(", the file of {first}")).unwrap_or_default()
}

/// The other units whose texts were replaced together with `former`.
fn with(former: &FormerRevision) -> String {
    match former.batch.as_ref().map(|batch| &*batch.with).unwrap_or_default() {
        [] => String::new(),
        [one] => format!(", with {one}"),
        more => format!(", with {}", count(more.len(), "other unit")),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::api::wire::ReplacingBatch;
    use crate::model::revision::Revision;
    use crate::model::rollout::Phase;

    fn by(user: &str) -> Option<Author> {
        Some(Author { uid: Some(0), user: user.into(), unit: "session-4.scope".into(), ..Author::default() })
    }

    /// A unit that has had the texts `former`, the newest first, and has `present`. Equal texts have equal hashes.
    pub(in crate::cli::commands) fn history(unit: &str, present: &str, former: &[&str]) -> UnitHistory {
        let number = |index: usize| u64::try_from(former.len() - index).unwrap();
        let hash = |text: &str| UnitHash::new(&format!("{text:a<40}"));
        let one = |(index, text): (usize, &&str)| FormerRevision {
            revision: number(index),
            hash: hash(text),
            since: Some(number(index) * 60_000),
            author: by("ann"),
            until: (number(index) + 1) * 60_000,
            destroyed: false,
            by: by("ann"),
            batch: None,
            text: Some((*text).into()),
        };
        let revisions: Vec<FormerRevision> = former.iter().enumerate().map(one).collect();
        let n = revisions.len() as u64 + 1;
        let (author, text, written) = (by("ann"), Some(present.into()), Revision(n));
        let present = PresentRevision { revision: n, hash: hash(present), since: n * 60_000, author, text, written };
        let unit = unit.parse().unwrap();
        UnitHistory { unit, present: Some(present), revisions, phase: None, outcomes: Vec::new() }
    }

    #[test]
    fn a_line_says_since_when_and_by_whom_and_what_became_of_it() {
        let mut web = history("web@.service", "b", &["c", "b", "a"]);
        web.revisions[0].author = by("ci");
        let with = ["image@.service", "log@.service"].map(|name| name.parse().unwrap()).into();
        web.revisions[0].batch = Some(ReplacingBatch { unit: "web@.service".parse().unwrap(), revision: 3, with });
        web.revisions[2].text = None;
        (web.revisions[2].since, web.revisions[2].author) = (None, None);
        let shown = |history: &UnitHistory, width| {
            let (head, rows) = table(history, 360_000);
            fitted::render(&head, &rows, width, false)
        };
        let table = |history: &UnitHistory| shown(history, None);
        let expected = "\
REVISION  WHEN       BY           HASH     THEN
4         2 min ago  ann (uid 0)  baaaaaa  present, the file of 2, with 2 other units
3         3 min ago  ci (uid 0)   caaaaaa  replaced 2 min ago
2         4 min ago  ann (uid 0)  baaaaaa  replaced 3 min ago
1         -          -            aaaaaaa  replaced 4 min ago, the store has lost its text
";
        assert_eq!(table(&web), expected);
        // Destroyed, and submitted again by somebody else.
        web.revisions[0].destroyed = true;
        web.present = None;
        let destroyed = "3         3 min ago  ci (uid 0)   caaaaaa  destroyed 2 min ago by ann (uid 0)";
        assert_eq!(table(&web).lines().nth(1), Some(destroyed));
        let narrow = shown(&web, Some(80));
        assert!(narrow.lines().all(|line| line.chars().count() < 80), "{narrow}");
    }

    #[test]
    fn what_became_of_files_in_rollouts_has_a_column() {
        let mut web = history("web@.service", "c", &["b", "a"]);
        let outcome = |hash: &UnitHash, verdict, why: Option<&str>| FileOutcomeView {
            hash: hash.clone(),
            verdict,
            why: why.map(str::to_owned),
        };
        let [bad, good] = [0, 1].map(|index: usize| web.revisions[index].hash.clone());
        web.outcomes = vec![
            outcome(&good, Verdict::Stable, None),
            outcome(&bad, Verdict::Failed, Some("web@2.service on n2: failed (failed)")),
        ];
        web.phase = Some(Phase::Canary);
        let shown = |history: &UnitHistory| {
            let (head, rows) = table(history, 360_000);
            fitted::render(&head, &rows, None, false)
        };
        let expected = "\
REVISION  WHEN       BY           HASH     ROLLOUT  THEN
3         3 min ago  ann (uid 0)  caaaaaa  canary   present
2         4 min ago  ann (uid 0)  baaaaaa  failed   replaced 3 min ago; web@2.service on n2: failed (failed)
1         5 min ago  ann (uid 0)  aaaaaaa  stable   replaced 4 min ago
";
        assert_eq!(shown(&web), expected);
        // Over, and its outcome is forgotten.
        web.phase = Some(Phase::Done);
        assert!(shown(&web).contains("caaaaaa  -        present"), "{}", shown(&web));
    }

    #[test]
    fn a_revision_that_is_not_there_is_said_with_those_that_are() {
        let mut web = history("web.service", "e", &["d", "c", "b", "a"]);
        web.revisions.truncate(3);
        web.revisions[2].text = None;
        let said = |number| Text::numbered(&web, number).err();
        assert_eq!(said(1).as_deref(), Some("revision 1 is gone; 2 to 5 are there"));
        assert_eq!(said(6).as_deref(), Some("revision 6 does not exist; 2 to 5 are there"));
        assert_eq!(said(0).as_deref(), Some("revision 0 does not exist; 2 to 5 are there"));
        assert_eq!(said(2).as_deref(), Some("the store has lost the text of revision 2"));
        let present = Text::numbered(&web, 5).unwrap();
        assert_eq!((present.hash.short(), present.text), ("eaaaaaa", "e"));
        let only = history("web.service", "a", &[]);
        let said = Text::numbered(&only, 2).err();
        assert_eq!(said.as_deref(), Some("revision 2 does not exist; 1 is there"));
    }
}
