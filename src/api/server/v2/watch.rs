//! v2: units as they change, one JSON object a line. Owns what is told when: every unit, `synced`, then only what
//! differs from what was told; a unit's end only when no host has it any more.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::str::FromStr;

use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;

use crate::api::server::error::Failure;
use crate::api::server::extract::query;
use crate::api::server::state::Api;
use crate::api::server::views;
use crate::api::wire::WatchLine;
use crate::model::glob::Glob;
use crate::model::name::{MachineId, UnitName};
use crate::model::progress::Operation;
use crate::plan::progress::{Presence, leaving, presence};
use crate::registry::scope::Scope;
use crate::registry::watch::units::UnitWatch;
use crate::registry::watch::{MAX_UNITS, Touched};
use crate::store::{Error, Store};

use super::globs;
use super::lines::{self, Gone, Lines, line};

pub(super) async fn get<S: Store>(State(api): State<Api<S>>, uri: Uri) -> Result<Response, Failure> {
    let (follower, operation) = asked(&api, &uri)?;
    let mut telling = Telling { follower, api, operation, told: BTreeMap::new() };
    // The first picture is read before the answer begins: what goes wrong until then still has a status.
    let first = telling.follower.next().await.map_err(|error| telling.api.failed(&error))?;
    let (api, last) = (telling.api.clone(), line(&WatchLine::Error("this fleetd is stopping".into())));
    Ok(lines::answer(&api, last, |lines| telling.tell_all(first, lines)))
}

/// What is followed, and the operation whose progress is asked for. `?name=UNIT&host=ID` is about what one host has of
/// some units, and costs no more than that. Anything else is about the cluster.
fn asked<S: Store>(api: &Api<S>, uri: &Uri) -> Result<(UnitWatch<S>, Option<Operation>), Failure> {
    let (operations, others): (Vec<_>, Vec<_>) = query(uri)?.into_iter().partition(|(key, _)| key == "operation");
    let (hosts, others): (Vec<_>, Vec<_>) = others.into_iter().partition(|(key, _)| key == "host");
    let globs = globs(others, "; `name`, `host` and `operation` are known")?;
    let host = at_most_once::<MachineId>("host", &hosts)?;
    Ok((follower(api, globs, host)?, at_most_once("operation", &operations)?))
}

fn at_most_once<T: FromStr<Err: Display>>(key: &str, given: &[(String, String)]) -> Result<Option<T>, Failure> {
    match given {
        [] => Ok(None),
        [(_, value)] => value.parse().map(Some).map_err(|error: T::Err| Failure::bad_request(error.to_string())),
        _ => Err(Failure::bad_request(format!("`{key}` can be given once"))),
    }
}

fn follower<S: Store>(api: &Api<S>, globs: Vec<Glob>, host: Option<MachineId>) -> Result<UnitWatch<S>, Failure> {
    let Some(host) = host else { return Ok(UnitWatch::new(api.reader.clone(), Scope::of(globs))) };
    if globs.is_empty() || globs.len() > MAX_UNITS || !globs.iter().all(Glob::is_literal) {
        return Err(Failure::bad_request(format!(
            "`host` wants 1 to {MAX_UNITS} `name`s beside it, none of them a pattern"
        )));
    }
    let name = |glob: &Glob| {
        glob.literal_prefix().parse::<UnitName>().map_err(|error| Failure::bad_request(error.to_string()))
    };
    Ok(UnitWatch::on(api.reader.clone(), globs.iter().map(name).collect::<Result<_, _>>()?, host))
}

struct Telling<S> {
    api: Api<S>,
    follower: UnitWatch<S>,
    operation: Option<Operation>,
    /// What was told of each unit last, as a hash of its line; `None`: that it is leaving.
    told: BTreeMap<UnitName, Option<u64>>,
}

impl<S: Store> Telling<S> {
    async fn tell_all(mut self, first: Touched, mut lines: Lines) -> Result<(), Gone> {
        let mut touched = first;
        loop {
            if let Err(error) = self.tell(touched, &mut lines).await? {
                return self.end(&error, &mut lines).await;
            }
            touched = loop {
                match tokio::time::timeout(self.api.settings.heartbeat, self.follower.next()).await {
                    Ok(Ok(touched)) => break touched,
                    Ok(Err(error)) => return self.end(&error, &mut lines).await,
                    Err(_) => lines.beat().await?,
                }
            };
        }
    }

    /// Tell what has become of the units touched; the inner error is the store's.
    async fn tell(&mut self, touched: Touched, lines: &mut Lines) -> Result<Result<(), Error>, Gone> {
        let (names, all) = match touched {
            Touched::Units(names) => (names, false),
            Touched::All => {
                let units = self.follower.cluster().units.keys();
                (units.chain(self.told.keys()).chain(leaving(self.follower.cluster())).cloned().collect(), true)
            }
        };
        let cluster = self.follower.cluster();
        let hashes = names.iter().filter_map(|name| Some(cluster.units.get(name)?.hash.clone())).collect();
        let summaries = match self.api.reader.summaries(&hashes).await {
            Ok(summaries) => summaries,
            Err(error) => return Ok(Err(error)),
        };
        for name in names {
            self.tell_one(&summaries, name, lines);
            lines.flush_if_full().await?;
        }
        if all {
            lines.push(&line(&WatchLine::Synced(self.follower.cluster().revision)));
        }
        lines.flush().await.map(Ok)
    }

    fn tell_one(&mut self, summaries: &views::FileSummaries, name: UnitName, lines: &mut Lines) {
        let cluster = self.follower.cluster();
        let Some(unit) = cluster.units.get(&name) else {
            if presence(cluster, &name) == Presence::Leaving {
                if self.told.insert(name.clone(), None) != Some(None) {
                    lines.push(&line(&WatchLine::Leaving(name)));
                }
            } else if self.told.remove(&name).is_some() {
                lines.push(&line(&WatchLine::Removed(name)));
            }
            return;
        };
        let text = line(&WatchLine::Unit(Box::new(views::unit(cluster, summaries, &name, unit, self.operation))));
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        let hash = Some(hasher.finish());
        if self.told.insert(name, hash) != Some(hash) {
            lines.push(&text);
        }
    }

    async fn end(&self, error: &Error, lines: &mut Lines) -> Result<(), Gone> {
        lines.push(&line(&WatchLine::Error(self.api.failed(error).message)));
        lines.flush().await
    }
}
