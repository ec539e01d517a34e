//! v2: services. Owns requests and answers; `registry::services` decides who may announce what.

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::{Extension, Json};
use serde::de::DeserializeOwned;

use crate::api::server::caller::Caller;
use crate::api::server::error::Failure;
use crate::api::server::extract::{must_be_json, query};
use crate::api::server::state::Api;
use crate::api::wire::services::{Announce, Announced, InstanceView, KeepAlive, ServiceList, ServiceView};
use crate::model::glob::Glob;
use crate::model::service::{InstanceName, ServiceName};
use crate::registry::services::{self, By, Instances, Refusal};
use crate::store::{Error, LeaseId, Store};

use super::{names, no_parameters, unknown};

pub(super) mod watch;

/// The services that a question is about.
#[derive(Debug)]
struct Wanted(Vec<Glob>);

impl Wanted {
    /// What `?name=GLOB&name=…` selects; all without it.
    fn of(uri: &Uri) -> Result<Self, Failure> {
        names(uri).map(Self)
    }

    /// The only service that it is about: nothing else need be read.
    fn one(&self) -> Option<ServiceName> {
        match &self.0[..] {
            [glob] if glob.is_literal() => glob.literal_prefix().parse().ok(),
            _ => None,
        }
    }

    fn has(&self, service: &ServiceName) -> bool {
        self.0.is_empty() || self.0.iter().any(|glob| glob.matches(service.as_str()))
    }
}

pub(super) async fn list<S: Store>(State(api): State<Api<S>>, uri: Uri) -> Result<Json<ServiceList>, Failure> {
    let wanted = Wanted::of(&uri)?;
    let listed = services::list(&api.reader, wanted.one().as_ref()).await;
    let (revision, mut instances) = listed.map_err(|error| api.failed(&error))?;
    instances.retain(|(service, _), _| wanted.has(service));
    Ok(Json(ServiceList { revision, services: joined(instances) }))
}

pub(super) async fn get<S: Store>(
    State(api): State<Api<S>>,
    Path(service): Path<String>,
    uri: Uri,
) -> Result<Json<ServiceView>, Failure> {
    no_parameters(&uri)?;
    let none = || Failure::new(StatusCode::NOT_FOUND, format!("no instance of `{service}` is announced"));
    let name: ServiceName = service.parse().map_err(|_| none())?;
    let (_, instances) = services::list(&api.reader, Some(&name)).await.map_err(|error| api.failed(&error))?;
    joined(instances).pop().map(Json).ok_or_else(none)
}

pub(super) async fn put<S: Store>(
    State(api): State<Api<S>>,
    Extension(caller): Extension<Caller>,
    Path(names): Path<(String, String)>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Announced>, Failure> {
    let (service, instance, announce): (_, _, Announce) = renewed(&uri, &names, &headers, &body)?;
    let held = announce.lease.as_deref().map(lease).transpose()?;
    let (machine, hostname) = api.here();
    let mut wanted = announce.instance(machine, hostname, api.clock.now_ms());
    let problems = wanted.problems();
    if !problems.is_empty() {
        return Err(Failure::bad_request(problems.join("\n")));
    }
    caller.check_announcement(&api, &service, &mut wanted).await?;
    let authority = caller.authority(&api)?;
    let granted = services::announce(&api.reader, &service, &instance, &wanted, held, &authority).await;
    let granted = granted.map_err(|refusal| refused(&api, &names, refusal))?;
    Ok(Json(announced(granted.lease, granted.ttl)))
}

pub(super) async fn keep_alive<S: Store>(
    State(api): State<Api<S>>,
    Extension(caller): Extension<Caller>,
    Path(names): Path<(String, String)>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Announced>, Failure> {
    let (service, instance, held): (_, _, KeepAlive) = renewed(&uri, &names, &headers, &body)?;
    let lease = lease(&held.lease)?;
    match services::keep_alive(&api.reader, &service, &instance, lease, &caller.authority(&api)?).await {
        Ok(ttl) => Ok(Json(announced(lease, ttl))),
        Err(Error::LeaseLost) => Err(not_announced(&names, "; announce it again")),
        Err(error) => Err(api.failed(&error)),
    }
}

pub(super) async fn delete<S: Store>(
    State(api): State<Api<S>>,
    Extension(caller): Extension<Caller>,
    Path(names): Path<(String, String)>,
    uri: Uri,
) -> Result<StatusCode, Failure> {
    let (service, instance) = parse(&names)?;
    let mut by = By::Anybody;
    for (key, value) in query(&uri)? {
        match key.as_str() {
            "lease" => by = By::Holder(lease(&value)?),
            "owner" => by = By::Owner(value),
            other => return Err(unknown(other, "; `lease` and `owner` are known")),
        }
    }
    match services::withdraw(&api.reader, &service, &instance, &by, &caller.authority(&api)?).await {
        Ok(true) => Ok(StatusCode::NO_CONTENT),
        Ok(false) => Err(not_announced(&names, "")),
        Err(refusal) => Err(refused(&api, &names, refusal)),
    }
}

fn parse((service, instance): &(String, String)) -> Result<(ServiceName, InstanceName), Failure> {
    let service = service.parse().map_err(|error: crate::model::service::NameError| error.to_string());
    let instance = instance.parse().map_err(|error: crate::model::service::NameError| error.to_string());
    match (service, instance) {
        (Ok(service), Ok(instance)) => Ok((service, instance)),
        (Err(error), _) | (_, Err(error)) => Err(Failure::bad_request(error)),
    }
}

/// The path and body of `put` and `keep_alive`.
fn renewed<T: DeserializeOwned>(
    uri: &Uri,
    names: &(String, String),
    headers: &HeaderMap,
    body: &[u8],
) -> Result<(ServiceName, InstanceName, T), Failure> {
    no_parameters(uri)?;
    let (service, instance) = parse(names)?;
    must_be_json(headers)?;
    let asked = serde_json::from_slice(body);
    let asked = asked.map_err(|error| Failure::bad_request(format!("can't read the announcement: {error}")))?;
    Ok((service, instance, asked))
}

fn lease(text: &str) -> Result<LeaseId, Failure> {
    let bad = || {
        Failure::bad_request(format!(
            "`{}` is no lease: send what the announcement was answered with",
            text.escape_debug()
        ))
    };
    text.parse().map(LeaseId).map_err(|_| bad())
}

fn announced(lease: LeaseId, ttl: std::time::Duration) -> Announced {
    Announced { lease: lease.0.to_string(), ttl: u32::try_from(ttl.as_secs()).unwrap_or(u32::MAX) }
}

fn not_announced((service, instance): &(String, String), hint: &str) -> Failure {
    Failure::new(StatusCode::NOT_FOUND, format!("{instance} of service `{service}` isn't announced{hint}"))
}

fn refused<S: Store>(api: &Api<S>, (service, instance): &(String, String), refusal: Refusal) -> Failure {
    let conflict = |message: String| Failure::new(StatusCode::CONFLICT, message);
    match refusal {
        Refusal::Taken(other) => {
            let unit = other.unit.as_ref().map(|unit| format!(" for {unit}")).unwrap_or_default();
            let host = if other.hostname.is_empty() { String::new() } else { format!(" on {}", other.hostname) };
            let (address, port) = (&other.address, other.port);
            conflict(format!(
                "{instance} of service `{service}` is announced by somebody else: {address} port {port}{unit}{host}\n\
                 it is free again when that announcement ends; or choose another name for the instance"
            ))
        }
        Refusal::Contended => conflict("others change this announcement all the time; try again".into()),
        Refusal::Store(error) => api.failed(&error),
        Refusal::Unknown(error) => api.failed_maybe(&error),
    }
}

fn joined(instances: Instances) -> Vec<ServiceView> {
    let mut services: Vec<ServiceView> = Vec::new();
    for ((service, instance), is) in instances {
        let view = InstanceView { service: service.clone(), instance, is };
        match services.last_mut() {
            Some(last) if last.name == service => last.instances.push(view),
            _ => services.push(ServiceView { name: service, instances: vec![view] }),
        }
    }
    services
}
