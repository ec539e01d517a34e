//! v2: units as they change, one JSON object per line. Owns what is sent when: every unit, `synced`, then only what
//! differs from what was sent before; a unit's end only when no host has it any more.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::str::FromStr;

use axum::Extension;
use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;

use crate::api::server::caller::Caller;
use crate::api::server::error::Failure;
use crate::api::server::extract::query;
use crate::api::server::state::Api;
use crate::api::server::views;
use crate::api::wire::WatchLine;
use crate::model::cluster::Cluster;
use crate::model::glob::Glob;
use crate::model::name::{MachineId, UnitHash, UnitName};
use crate::model::progress::Operation;
use crate::plan::progress::{Presence, leaving, presence};
use crate::registry::reader::Reader;
use crate::registry::scope::Scope;
use crate::registry::summaries::FileSummaries;
use crate::registry::watch::units::UnitWatch;
use crate::registry::watch::{MAX_UNITS, Touched};
use crate::store::{Error, Store};

use super::globs;
use super::lines::{self, End, Lines, Story, fingerprint, line};

/// The number of units whose files are looked up together.
const FILES: usize = 1000;

pub(super) async fn get<S: Store>(
    State(api): State<Api<S>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Result<Response, Failure> {
    let Asked { globs, host, operation } = asked(&uri)?;
    let units = globs.iter().map(|glob| glob.is_literal().then(|| glob.literal_prefix().parse().ok()).flatten());
    let units: Option<BTreeSet<UnitName>> = units.collect();
    caller.check_watch(&api, units.as_ref().filter(|units| !units.is_empty()), host.as_ref()).await?;
    let watch = unit_watch(&api, globs, host)?;
    let sent = Sent { operation, lines: BTreeMap::new() };
    lines::answer(&api, Units { watch, reader: api.reader.clone(), sent }).await
}

/// What is followed, and the operation whose progress is requested. `?name=UNIT&host=ID` is about these units on one
/// host, and costs no more than that. Anything else is about the whole cluster.
struct Asked {
    globs: Vec<Glob>,
    host: Option<MachineId>,
    operation: Option<Operation>,
}

fn asked(uri: &Uri) -> Result<Asked, Failure> {
    let (operations, others): (Vec<_>, Vec<_>) = query(uri)?.into_iter().partition(|(key, _)| key == "operation");
    let (hosts, others): (Vec<_>, Vec<_>) = others.into_iter().partition(|(key, _)| key == "host");
    let globs = globs(others, "; `name`, `host` and `operation` are known")?;
    let host = at_most_once::<MachineId>("host", &hosts)?;
    Ok(Asked { globs, host, operation: at_most_once("operation", &operations)? })
}

fn at_most_once<T: FromStr<Err: Display>>(key: &str, given: &[(String, String)]) -> Result<Option<T>, Failure> {
    match given {
        [] => Ok(None),
        [(_, value)] => value.parse().map(Some).map_err(|error: T::Err| Failure::bad_request(error.to_string())),
        _ => Err(Failure::bad_request(format!("`{key}` can be given once"))),
    }
}

fn unit_watch<S: Store>(api: &Api<S>, globs: Vec<Glob>, host: Option<MachineId>) -> Result<UnitWatch<S>, Failure> {
    let Some(host) = host else { return Ok(UnitWatch::new(&api.shared, Scope::of(globs))) };
    if globs.is_empty() || globs.len() > MAX_UNITS || !globs.iter().all(Glob::is_literal) {
        return Err(Failure::bad_request(format!(
            "`host` wants 1 to {MAX_UNITS} `name`s beside it, none of them a pattern"
        )));
    }
    let name = |glob: &Glob| {
        glob.literal_prefix().parse::<UnitName>().map_err(|error| Failure::bad_request(error.to_string()))
    };
    let names = globs.iter().map(name).collect::<Result<_, _>>()?;
    Ok(UnitWatch::on(&api.shared, names, host))
}

struct Units<S> {
    watch: UnitWatch<S>,
    reader: Reader<S>,
    sent: Sent,
}

impl<S: Store> Story for Units<S> {
    type Update = Touched;
    type Line = WatchLine;

    async fn next(&mut self) -> Result<Touched, Error> {
        self.watch.next().await
    }

    /// Send what has changed of these units.
    async fn tell(&mut self, touched: Touched, lines: &mut Lines) -> Result<(), End> {
        let (names, synced) = match touched {
            Touched::Units(names) => (names, None),
            Touched::All => self.watch.read(|cluster| {
                let there = cluster.units.keys().chain(leaving(cluster)).filter(|name| self.watch.scope().has(name));
                let names = self.watch.scope().names(usize::MAX).unwrap_or_else(|| there.cloned().collect());
                (names.into_iter().chain(self.sent.lines.keys().cloned()).collect(), Some(cluster.revision))
            }),
        };
        let names: Vec<UnitName> = names.into_iter().collect();
        for names in names.chunks(FILES) {
            self.tell_some(names.iter().collect(), lines).await?;
        }
        if let Some(revision) = synced {
            lines.push(&line(&WatchLine::Synced(revision)));
        }
        Ok(())
    }

    fn error(message: String) -> WatchLine {
        WatchLine::Error(message)
    }
}

impl<S: Store> Units<S> {
    /// Send the current state of `names`. The cluster may change between two reads; intermediate states are not sent.
    async fn tell_some(&mut self, mut names: Vec<&UnitName>, lines: &mut Lines) -> Result<(), End> {
        while !names.is_empty() {
            let hash = |cluster: &Cluster, name: &UnitName| cluster.units.get(name).map(|unit| unit.hash.clone());
            let hashes: BTreeSet<UnitHash> =
                self.watch.read(|cluster| names.iter().filter_map(|name| hash(cluster, name)).collect());
            let summaries = self.reader.summaries(&hashes).await.map_err(End::Store)?;
            let mut again = Vec::new();
            let mut rest = names.into_iter();
            while rest.len() > 0 {
                self.watch.read(|cluster| {
                    for name in rest.by_ref() {
                        if hash(cluster, name).is_some_and(|hash| !hashes.contains(&hash)) {
                            // It has got another file meanwhile.
                            again.push(name);
                        } else {
                            self.sent.tell(cluster, &summaries, name, lines);
                        }
                        if lines.is_full() {
                            break;
                        }
                    }
                });
                lines.flush_if_full().await?;
            }
            names = again;
        }
        Ok(())
    }
}

/// What was sent.
struct Sent {
    operation: Option<Operation>,
    /// The last line of each unit, as a hash; `None` if it was sent as leaving.
    lines: BTreeMap<UnitName, Option<u64>>,
}

impl Sent {
    fn tell(&mut self, cluster: &Cluster, summaries: &FileSummaries, name: &UnitName, lines: &mut Lines) {
        let Some(unit) = cluster.units.get(name) else {
            if presence(cluster, name) == Presence::Leaving {
                if self.lines.insert(name.clone(), None) != Some(None) {
                    lines.push(&line(&WatchLine::Leaving(name.clone())));
                }
            } else if self.lines.remove(name).is_some() {
                lines.push(&line(&WatchLine::Removed(name.clone())));
            }
            return;
        };
        let text = line(&WatchLine::Unit(Box::new(views::unit(cluster, summaries, name, unit, self.operation))));
        let hash = Some(fingerprint(&text));
        if self.lines.insert(name.clone(), hash) != Some(hash) {
            lines.push(&text);
        }
    }
}
