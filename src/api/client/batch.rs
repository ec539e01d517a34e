//! Changes of any number of units: in one request if the API's limit allows it, otherwise in several. Owns the
//! guarantees of the latter: everything is checked before anything is done, and if a later request fails, what was done
//! is reported. Never retries by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use hyper::Method;
use serde::Serialize;

use super::{Client, ClientError};
use crate::api::wire::{Applied, AppliedUnit, Apply, ApplyUnit, BODY_LIMIT, ErrorDetail};
use crate::model::name::UnitName;

/// The additional timeout for each unit of a batch.
const PATIENCE_PER_UNIT: Duration = Duration::from_millis(10);

/// The size of a request without its units, and of a unit without its contents.
const AROUND: usize = r#"{"units":[]}"#.len();
const BETWEEN: usize = ",".len();

/// How much of a batch was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The number of its units that were done.
    pub done: usize,
    /// The number of its units.
    pub all: usize,
    /// The first unit that was done.
    pub first: String,
    /// The last.
    pub last: String,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { done, all, first, last } = self;
        write!(f, "{done} of {all} units were done before that, {first} to {last}")
    }
}

/// The part of a batch that fits one request.
#[derive(Debug, Default, Serialize)]
struct Request<'a> {
    units: Vec<&'a ApplyUnit>,
}

impl Client {
    /// Change units: all or none, in one request. A batch that is too large is sent in several requests, each of them
    /// all or none, after all of them were checked: a mistake in any unit still means that nothing is done.
    ///
    /// # Errors
    /// See [`ClientError`]. After [`ClientError::Unreachable`] it may have been done nevertheless.
    pub async fn apply(&self, apply: &Apply) -> Result<Applied, ClientError> {
        let requests = split(&apply.units, BODY_LIMIT)?;
        if let [one] = &*requests {
            return self.send_batch(one, None).await;
        }
        self.check(&requests).await?;
        let (mut applied, mut sent) = (Applied::default(), Vec::new());
        for request in &requests {
            match self.send_batch(request, None).await {
                Ok(Applied { revision, units }) => {
                    applied.revision = revision;
                    applied.units.extend(units);
                    sent.extend(request.units.iter().map(|unit| &unit.name));
                }
                Err(error) => {
                    let (Some(first), Some(last)) = (sent.first(), sent.last()) else { return Err(error) };
                    let (first, last) = ((*first).clone(), (*last).clone());
                    let done = Part { done: sent.len(), all: apply.units.len(), first, last };
                    return Err(ClientError::Partly { error: error.into(), done });
                }
            }
        }
        let places: BTreeMap<&str, usize> =
            apply.units.iter().enumerate().map(|(at, unit)| (&*unit.name, at)).collect();
        applied.units.sort_by_key(|unit| places.get(unit.name.as_str()).copied());
        Ok(applied)
    }

    /// What the units would become, and which hosts they would fit; nothing is changed. `hosts` is `None` for those
    /// without a file, and for templates.
    ///
    /// # Errors
    /// See [`ClientError`]. A `fleetd` that doesn't know this question refuses it.
    pub async fn try_out(&self, units: &[ApplyUnit]) -> Result<Vec<AppliedUnit>, ClientError> {
        let mut applied = Vec::new();
        for request in split(units, BODY_LIMIT)? {
            applied.extend(self.send_batch(&request, Some("hosts")).await?.units);
        }
        Ok(applied)
    }

    /// Have all of them checked; all mistakes are one error.
    async fn check(&self, requests: &[Request<'_>]) -> Result<(), ClientError> {
        let named: BTreeSet<&str> = requests.iter().flat_map(|r| &r.units).map(|unit| &*unit.name).collect();
        let mut wrong = ErrorDetail::default();
        for request in requests {
            // Without its template beside it, an instance can't be checked.
            let alone = |unit: &&&ApplyUnit| !follows(unit, &named);
            let request = Request { units: request.units.iter().filter(alone).copied().collect() };
            match self.send_batch(&request, Some("true")).await {
                Err(ClientError::Api(detail)) if !detail.problems.is_empty() => {
                    wrong.code = detail.code;
                    let line = if wrong.message.is_empty() { "" } else { "\n" };
                    wrong.message += &format!("{line}{}", detail.message);
                    wrong.problems.extend(detail.problems);
                }
                Err(error) => return Err(error),
                Ok(_) => {}
            }
        }
        if wrong.problems.is_empty() { Ok(()) } else { Err(ClientError::Api(wrong)) }
    }

    async fn send_batch(&self, request: &Request<'_>, check: Option<&str>) -> Result<Applied, ClientError> {
        let query = check.map_or(String::new(), |check| format!("?check={check}"));
        let path = format!("/fleet/v2/units{query}");
        let units = u32::try_from(request.units.len()).unwrap_or(u32::MAX);
        let patience = self.patience + PATIENCE_PER_UNIT * units;
        self.call(&Method::POST, &path, json(request)?.into(), patience).await
    }
}

pub(super) fn json(value: &impl Serialize) -> Result<Vec<u8>, ClientError> {
    serde_json::to_vec(value).map_err(|error| ClientError::Protocol(error.to_string()))
}

/// The fewest requests of at most `limit` bytes that keep the order, except for instances that take their file from a
/// template among `units`: those are sent last. A unit that is larger by itself is sent alone, and refused by the
/// server.
fn split(units: &[ApplyUnit], limit: usize) -> Result<Vec<Request<'_>>, ClientError> {
    let whole = Request { units: units.iter().collect() };
    if json(&whole)?.len() <= limit {
        return Ok(vec![whole]);
    }
    let named: BTreeSet<&str> = units.iter().map(|unit| &*unit.name).collect();
    let (followers, others): (Vec<_>, Vec<_>) = units.iter().partition(|unit| follows(unit, &named));
    let (mut requests, mut bytes): (Vec<Request<'_>>, usize) = (Vec::new(), 0);
    for unit in others.into_iter().chain(followers) {
        let size = json(unit)?.len() + BETWEEN;
        match requests.last_mut() {
            Some(request) if bytes + size <= limit => {
                request.units.push(unit);
                bytes += size;
            }
            _ => {
                requests.push(Request { units: vec![unit] });
                bytes = AROUND + size;
            }
        }
    }
    Ok(requests)
}

/// Whether `unit` may take its file from a template among `named`.
fn follows(unit: &ApplyUnit, named: &BTreeSet<&str>) -> bool {
    let takes = unit.text.is_none() && !unit.destroy && !unit.restart;
    let template = || unit.name.parse::<UnitName>().ok().and_then(|name| name.template());
    takes && template().is_some_and(|template| named.contains(template.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(name: &str, text: Option<&str>) -> ApplyUnit {
        ApplyUnit { name: name.into(), text: text.map(Into::into), ..ApplyUnit::default() }
    }

    #[test]
    fn requests_are_as_large_as_they_may_be_and_no_larger() {
        let units: Vec<ApplyUnit> = (0..9).map(|n| unit(&format!("{n}.service"), Some("text\n"))).collect();
        let of = |number: usize| json(&Request { units: units[..number].iter().collect() }).unwrap().len();
        let sizes = |limit: usize| split(&units, limit).unwrap().iter().map(|r| r.units.len()).collect::<Vec<_>>();
        assert_eq!((sizes(of(9)), sizes(of(4) + BETWEEN), sizes(1)), (vec![9], vec![4, 4, 1], vec![1; 9]));
        for request in split(&units, of(4)).unwrap() {
            assert!(json(&request).unwrap().len() <= of(4));
        }
    }

    #[test]
    fn instances_go_after_the_template_they_take_their_file_from() {
        let units = [
            unit("t@1.service", None),
            unit("a.service", Some("x")),
            unit("u@1.service", None),
            unit("t@.service", Some("x")),
        ];
        let requests = split(&units, 60).unwrap();
        let names: Vec<&str> = requests.iter().flat_map(|r| &r.units).map(|unit| &*unit.name).collect();
        assert_eq!(names, ["a.service", "u@1.service", "t@.service", "t@1.service"]);
    }
}
