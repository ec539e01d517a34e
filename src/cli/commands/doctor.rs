//! `fleetctl doctor`: everything about the cluster that needs a person, and what to do about it. Owns what is asked and
//! how it is printed; what needs a person is `overview`'s, `store`'s and `daemon`'s, what to do is `advice`'s.

mod advice;
mod daemon;
mod store;

use serde::Serialize;

use crate::api::client::ClientError;
use crate::api::wire::StoreView;
use crate::cli::error::{Error, Exit};
use crate::cli::output::filled::filled;
use crate::cli::output::fitted::{Cell, render};
use crate::cli::output::people::ago;
use crate::cli::session::Session;
use crate::clock::Clock;
use crate::journal::Output as _;

use super::overview::{Finding, Overview, sort};

/// How far what belongs to a line is indented below it.
const INDENT: usize = 3;

/// Something that needs a person, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Advised {
    #[serde(flatten)]
    finding: Finding,
    /// What to do.
    advice: String,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Diagnosis {
    /// Whether nothing needs a person.
    healthy: bool,
    /// The worst first.
    findings: Vec<Advised>,
    /// The members of the store, and the `fleetd` that was asked; `null` if that has an older version.
    store: Option<StoreView>,
}

impl Diagnosis {
    fn of(mut findings: Vec<Finding>, store: Option<StoreView>) -> Self {
        findings.extend(store.iter().flat_map(store::findings));
        findings.extend(store.iter().filter_map(|store| store.daemon.as_ref()).flat_map(daemon::findings));
        sort(&mut findings);
        let advised = |finding: Finding| Advised { advice: advice::of(&finding), finding };
        Self { healthy: findings.is_empty(), findings: findings.into_iter().map(advised).collect(), store }
    }
}

/// Run the command. If the cluster can't be asked, the store is examined nevertheless: it is often why.
pub(in crate::cli) async fn run(session: &Session) -> Result<Exit, Error> {
    let now = Clock::system().now_ms();
    let (store, cluster) = tokio::join!(session.client.store(), session.known_cluster());
    let store = match store {
        Ok(store) => Some(store),
        Err(ClientError::Api(detail)) if detail.code == 404 => None,
        Err(error) => return Err(error.into()),
    };
    let cluster = match cluster {
        Ok(cluster) => cluster,
        Err(error) => {
            print(session, &Diagnosis::of(Vec::new(), store), &[], now);
            return Err(error.into());
        }
    };
    let overview = Overview::of(cluster, now);
    let (mut head, skew) = (overview.head(now), overview.skew());
    let diagnosis = Diagnosis::of(overview.findings.into_iter().chain(skew).collect(), store);
    head.extend(diagnosis.store.as_ref().and_then(store::head));
    print(session, &diagnosis, &head, now);
    Ok(match session.offline.get() {
        Some(_) => Exit::Failure,
        None if diagnosis.healthy => Exit::Ok,
        None => Exit::Findings,
    })
}

fn print(session: &Session, diagnosis: &Diagnosis, head: &[Vec<Cell>], now: u64) {
    let out = &session.out;
    if session.is_json() {
        return out.json(diagnosis);
    }
    if !out.is_seen() {
        return diagnosis.findings.iter().for_each(|advised| out.line(&line(advised)));
    }
    let (width, colours) = (out.width(), out.has_colours());
    out.data(&render(&[], head, width, colours));
    for Advised { finding, advice } in &diagnosis.findings {
        let (mark, tone) = finding.problem.mark();
        out.data(&render(&[], &[vec![Cell::new(mark, tone), Cell::new(title(finding, now), tone)]], None, colours));
        for text in [&finding.text, advice] {
            out.data(&filled(text, INDENT, width.unwrap_or(usize::MAX)));
        }
    }
}

/// `web@1.service on n2, for 3 min`
fn title(finding: &Finding, now: u64) -> String {
    let Finding { name, host, since, .. } = finding;
    let place = if host.is_empty() { String::new() } else { format!(" ({host})") };
    let lasts = if *since == 0 { String::new() } else { format!(", for {}", ago(*since, now)) };
    let name = if name == "-" { "the cluster" } else { name };
    format!("{name}{place}{lasts}")
}

/// For programs: `problem`, its kind, its name, its host, since when, what is wrong and what to do, separated by tabs.
fn line(advised: &Advised) -> String {
    let Advised { finding: Finding { problem, name, host, text, since }, advice } = advised;
    let host = if host.is_empty() { "-" } else { host };
    let words = ["problem", problem.word(), name, host, &since.to_string(), text, advice];
    words.map(|word| word.replace(char::is_control, " ")).join("\t")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::commands::overview::Problem;

    #[test]
    fn a_finding_says_what_it_is_about_what_is_wrong_and_what_to_do() {
        let found = |name: &str, host: &str, since| Finding {
            problem: Problem::Failed,
            name: name.into(),
            host: host.into(),
            text: "failed:\texit status 1".into(),
            since,
        };
        let now = 1_000_000;
        assert_eq!(title(&found("a.service", "n1", now - 61_000), now), "a.service (n1), for 1 min");
        assert_eq!(title(&found("-", "", 0), now), "the cluster");
        let diagnosis = Diagnosis::of(vec![found("a.service", "", 5)], None);
        let advice = &diagnosis.findings[0].advice;
        let printed = format!("problem\tfailed\ta.service\t-\t5\tfailed: exit status 1\t{advice}");
        assert_eq!((diagnosis.healthy, line(&diagnosis.findings[0])), (false, printed));
    }
}
