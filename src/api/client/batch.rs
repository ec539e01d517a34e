//! Changes of units, as many as there are: in one request as long as the API takes it, else in several. Owns what is
//! promised then: all of it is looked at before any is done, and what was done when a later part fails is told. Never
//! tries again by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use hyper::Method;
use serde::Serialize;

use super::{Client, ClientError};
use crate::api::wire::{Applied, Apply, ApplyUnit, BODY_LIMIT, ErrorDetail};
use crate::model::name::UnitName;

/// What a server may take longer for each unit of a batch.
const PATIENCE_PER_UNIT: Duration = Duration::from_millis(10);

/// What a request has besides its units, and each unit besides itself.
const AROUND: usize = r#"{"units":[]}"#.len();
const BETWEEN: usize = ",".len();

/// How much of a batch was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// So many units of it.
    pub done: usize,
    /// And so many are in it.
    pub all: usize,
    /// The first that was done.
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

/// A request's worth of a batch.
#[derive(Debug, Default, Serialize)]
struct Request<'a> {
    units: Vec<&'a ApplyUnit>,
}

impl Client {
    /// Change units: all or none, in one request. A batch that is too large for one goes in several, each of them all
    /// or none, after all of them were looked at: what is wrong with any unit still means that nothing is done.
    ///
    /// # Errors
    /// See [`ClientError`]. After [`ClientError::Unreachable`] it may have been done all the same.
    pub async fn apply(&self, apply: &Apply) -> Result<Applied, ClientError> {
        let requests = split(&apply.units, BODY_LIMIT)?;
        if let [one] = &*requests {
            return self.send_batch(one, false).await;
        }
        self.check(&requests).await?;
        let (mut applied, mut sent) = (Applied::default(), Vec::new());
        for request in &requests {
            match self.send_batch(request, false).await {
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

    /// Have all of them looked at; everything that is wrong is one error.
    async fn check(&self, requests: &[Request<'_>]) -> Result<(), ClientError> {
        let named: BTreeSet<&str> = requests.iter().flat_map(|r| &r.units).map(|unit| &*unit.name).collect();
        let mut wrong = ErrorDetail::default();
        for request in requests {
            // Without its template beside it, an instance can't be judged.
            let alone = |unit: &&&ApplyUnit| !follows(unit, &named);
            let request = Request { units: request.units.iter().filter(alone).copied().collect() };
            match self.send_batch(&request, true).await {
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

    async fn send_batch(&self, request: &Request<'_>, check: bool) -> Result<Applied, ClientError> {
        let path = if check { "/fleet/v2/units?check=true" } else { "/fleet/v2/units" };
        let units = u32::try_from(request.units.len()).unwrap_or(u32::MAX);
        let patience = self.patience + PATIENCE_PER_UNIT * units;
        self.call(&Method::POST, path, json(request)?.into(), patience).await
    }
}

pub(super) fn json(value: &impl Serialize) -> Result<Vec<u8>, ClientError> {
    serde_json::to_vec(value).map_err(|error| ClientError::Protocol(error.to_string()))
}

/// The fewest requests of at most `limit` bytes that keep the order, but for instances that take their file from a
/// template among `units`: those go after all others. A unit that is larger by itself goes alone, for the server to
/// refuse.
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

/// Whether `unit` may take its file from a template that is among `named`.
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
