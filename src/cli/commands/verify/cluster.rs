//! Unit files against the cluster: would any host fit, and are the units that they need placed with them? Owns the
//! words; the cluster decides.

use std::collections::{BTreeMap, BTreeSet};

use super::Candidate;
use crate::api::client::{Client, ClientError};
use crate::api::wire::{AppliedUnit, ApplyUnit, HostReasons};
use crate::cli::error::Error;
use crate::cli::input::check::Remark;
use crate::cli::input::finding::{Finding, Severity, Source};
use crate::cli::input::lint;
use crate::model::placement::SECTION;
use crate::model::unit::Desired;

/// Hosts that are named for one reason.
const NAMED: usize = 3;

/// What the cluster says of `candidates`.
///
/// # Errors
/// Why it isn't known, for people.
pub(super) async fn ask(client: Result<Client, Error>, candidates: &[Candidate]) -> Result<Vec<Finding>, String> {
    let first = |error: Error| error.lines.first().map(ToString::to_string).unwrap_or_default();
    let client = client.map_err(first)?;
    let units: Vec<ApplyUnit> = candidates.iter().map(unit).collect();
    let asked = async {
        let known = client.units(&[]).await?.units.into_iter().map(|unit| unit.name).collect::<BTreeSet<_>>();
        Ok((known, client.try_out(&units).await?))
    };
    let (mut known, answers) = asked.await.map_err(|error: ClientError| first(error.into()))?;
    known.extend(candidates.iter().map(|candidate| candidate.name.clone()));
    let mut findings = Vec::new();
    for candidate in candidates {
        let of = |severity, source| move |remark| Finding::new(&candidate.label, severity, source, remark);
        let apart = lint::apart(&candidate.name, &candidate.checked.file, &known);
        findings.extend(apart.into_iter().map(of(Severity::Warning, Source::Cluster)));
        let answer = answers.iter().find(|answer| answer.name == candidate.name);
        findings.extend(answer.and_then(|answer| misfit(candidate, answer)).map(of(Severity::Error, Source::Cluster)));
    }
    Ok(findings)
}

/// The request to start the unit with this file.
fn unit(candidate: &Candidate) -> ApplyUnit {
    ApplyUnit {
        name: candidate.name.to_string(),
        text: Some(candidate.checked.file.text().to_owned()),
        desired: (!candidate.name.is_template()).then_some(Desired::Launched),
        replace: true,
        ..ApplyUnit::default()
    }
}

fn misfit(candidate: &Candidate, answer: &AppliedUnit) -> Option<Remark> {
    let what = no_host(answer.hosts.as_ref()?)?;
    let line = candidate.checked.file.section(SECTION).next().map(|option| option.line);
    Some(Remark { line, what })
}

/// Why no host fits; `None` if one does.
fn no_host(hosts: &[HostReasons]) -> Option<String> {
    if hosts.is_empty() {
        return Some("no host is registered".into());
    }
    if hosts.iter().any(|host| host.misfits.is_empty()) {
        return None;
    }
    let mut by_reason: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for host in hosts {
        let name = if host.machine.hostname.is_empty() { host.machine.id.short() } else { &host.machine.hostname };
        by_reason.entry(host.misfits.join(", ")).or_default().push(name);
    }
    let reasons = by_reason.iter().map(|(reason, names)| {
        let (named, rest) = names.split_at(names.len().min(NAMED));
        let more = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
        format!("{}{more}: {reason}", named.join(", "))
    });
    Some(format!("no host fits: {}", reasons.collect::<Vec<_>>().join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::condition::tests::host;

    #[test]
    fn hosts_with_the_same_reason_are_named_together() {
        let none: Vec<HostReasons> = ["n1", "n2", "n3", "n4"].map(|name| host(name, &["no metadata gpu"])).into();
        let odd = host("n5", &["no metadata gpu", "a"]);
        assert_eq!(no_host(&none).unwrap(), "no host fits: n1, n2, n3 and 1 more: no metadata gpu");
        assert_eq!(
            no_host(&[none[0].clone(), odd.clone()]).unwrap(),
            "no host fits: n1: no metadata gpu; n5: no metadata gpu, a"
        );
        assert_eq!(no_host(&[odd, host("n6", &[])]), None);
        assert_eq!(no_host(&[]).unwrap(), "no host is registered");
    }
}
