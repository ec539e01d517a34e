//! list-services and service: what is announced in the cluster. Owns the fields; `list` selects and prints them.

use serde_json::json;

use crate::api::client::ClientError;
use crate::api::wire::services::{InstanceView, ServiceView};
use crate::cli::args::{List, Service};
use crate::cli::commands::list::{Field, globs, or_dash, pick, print};
use crate::cli::error::{Error, Exit, Line};
use crate::cli::session::Session;
use crate::model::service::ServiceName;

const SERVICES: &str = "service,instances,addresses";
const INSTANCES: &str = "instance,address,weight,unit,machine,hostname";

/// Of `list-services`.
pub(super) fn service_fields() -> Vec<Field<ServiceView>> {
    vec![
        Field { name: "service", text: |service, _| service.name.to_string(), value: |service| json!(service.name) },
        Field {
            name: "instances",
            text: |service, _| service.instances.len().to_string(),
            value: |service| json!(service.instances.len()),
        },
        Field {
            name: "addresses",
            text: |service, full| shortened(&service.instances, full),
            value: |service| json!(service.instances.iter().map(address).collect::<Vec<_>>()),
        },
        Field {
            name: "units",
            text: |service, _| {
                let units = service.instances.iter().filter_map(|view| Some(view.is.unit.as_ref()?.to_string()));
                or_dash(&units.collect::<Vec<_>>().join(","))
            },
            value: |service| {
                json!(service.instances.iter().filter_map(|view| view.is.unit.as_ref()).collect::<Vec<_>>())
            },
        },
    ]
}

/// Of `service`.
pub(super) fn instance_fields() -> Vec<Field<InstanceView>> {
    vec![
        Field { name: "instance", text: |view, _| view.instance.to_string(), value: |view| json!(view.instance) },
        Field { name: "address", text: |view, _| address(view), value: |view| json!(view.is.address) },
        Field { name: "port", text: |view, _| view.is.port.to_string(), value: |view| json!(view.is.port) },
        Field { name: "weight", text: |view, _| view.is.weight.to_string(), value: |view| json!(view.is.weight) },
        Field {
            name: "unit",
            text: |view, _| or_dash(view.is.unit.as_ref().map_or("", |unit| unit.as_str())),
            value: |view| json!(view.is.unit),
        },
        Field { name: "machine", text: machine, value: |view| json!(view.is.machine) },
        Field { name: "hostname", text: |view, _| or_dash(&view.is.hostname), value: |view| json!(view.is.hostname) },
        Field { name: "metadata", text: |view, _| metadata(view), value: |view| json!(view.is.metadata) },
        Field { name: "ttl", text: |view, _| view.is.ttl.to_string(), value: |view| json!(view.is.ttl) },
        Field { name: "since", text: |view, _| view.is.since.to_string(), value: |view| json!(view.is.since) },
    ]
}

/// `list-services`: a row for each service.
pub(in crate::cli) async fn list(session: &Session, args: &List) -> Result<Exit, Error> {
    let fields = pick(service_fields(), session, &args.columns, SERVICES)?;
    let globs = globs(&args.patterns)?;
    let mut services = session.client.services(&args.patterns).await?.services;
    services.retain(|service| globs.is_empty() || globs.iter().any(|glob| glob.matches(service.name.as_str())));
    print(session, &args.columns, &fields, &services);
    Ok(Exit::Ok)
}

/// `service NAME`: a row for each instance.
pub(in crate::cli) async fn show(session: &Session, args: &Service) -> Result<Exit, Error> {
    let fields = pick(instance_fields(), session, &args.columns, INSTANCES)?;
    let name: ServiceName = args.name.parse().map_err(|error: crate::model::service::NameError| {
        Error::usage(error.to_string(), "`fleetctl list-services` says which there are")
    })?;
    match session.client.service(&name).await {
        Ok(service) => {
            print(session, &args.columns, &fields, &service.instances);
            Ok(Exit::Ok)
        }
        Err(ClientError::Api(detail)) if detail.code == 404 => Err(Error::failures([
            detail.message.into(),
            Line::hint("`fleetctl list-services` says which services there are"),
        ])),
        Err(error) => Err(error.into()),
    }
}

/// `10.88.0.11:8080`, `[fe80::1]:8080`.
fn address(view: &InstanceView) -> String {
    let (address, port) = (&view.is.address, view.is.port);
    if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
}

/// The most addresses in one line.
const SHOWN: usize = 3;

fn shortened(instances: &[InstanceView], full: bool) -> String {
    let shown = if full { instances.len() } else { SHOWN };
    let mut line = instances.iter().take(shown).map(address).collect::<Vec<_>>().join(",");
    if instances.len() > shown {
        line.push_str(",...");
    }
    line
}

fn machine(view: &InstanceView, full: bool) -> String {
    match &view.is.machine {
        None => "-".into(),
        Some(id) if full => id.to_string(),
        Some(id) => format!("{}...", id.short()),
    }
}

fn metadata(view: &InstanceView) -> String {
    or_dash(&view.is.metadata.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(","))
}
