//! The daemon's state as one line of JSON, for troubleshooting (`SIGUSR1`, as in CoreOS fleet). Owns its format, on
//! which programs must not rely. Never contains a password.

use serde_json::{Value, json};

use crate::api::server::health::Health;
use crate::config::{Settings, StoreSettings};
use crate::engine;
use crate::store::Store;
use crate::systemd::Systemd;

use super::roles::{Roles, described};
use super::watchdog::Watched;

/// The whole state, as text without a line break.
pub(super) async fn text<S: Store, H: Systemd>(
    settings: &Settings,
    roles: &Roles<S, H>,
    health: &Health,
    watched: &Watched,
) -> String {
    let health = match health {
        Health::Ready => json!({ "ready": true }),
        Health::Waiting { what, since, .. } => json!({ "ready": false, "why": what, "since": since }),
    };
    let engine = match &*roles.engine_status().borrow() {
        None => json!("disabled"),
        Some(engine::Status::Candidate) => json!("candidate"),
        Some(engine::Status::Leading { since, hosts, units, waiting, braked }) => {
            let braked = braked.map(|braked| json!({ "hosts": braked.hosts, "until": braked.until }));
            json!({
                "leadingSince": since, "hosts": hosts, "units": units, "waiting": waiting, "massLoss": braked,
            })
        }
    };
    let inside = match roles.inspector() {
        Some(inspector) => inspector.look().await,
        None => Value::Null,
    };
    let silences: serde_json::Map<_, _> =
        watched.silences().into_iter().map(|(who, silence)| (who.to_owned(), json!(silence.as_secs_f64()))).collect();
    let status = described(&roles.agent_status().borrow());
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "api": health,
        "engine": engine,
        "agent": { "status": status, "inside": inside },
        "secondsSilent": silences,
        "configuration": configuration(settings),
    })
    .to_string()
}

fn configuration(settings: &Settings) -> Value {
    let store = match &settings.store {
        StoreSettings::Etcd(etcd) => json!({
            "etcd_servers": etcd.endpoints,
            "etcd_username": etcd.user.as_ref().map(|(name, _)| name),
            "etcd_keyfile": etcd.keyfile,
            "etcd_certfile": etcd.certfile,
            "etcd_cafile": etcd.cafile,
            "etcd_key_prefix": etcd.prefix,
            "etcd_request_timeout": etcd.request_timeout.as_secs_f64(),
        }),
        StoreSettings::Standalone { directory } => json!({ "standalone": true, "state_directory": directory }),
    };
    json!({
        "store": store,
        "verbosity": settings.verbosity,
        "public_ip": settings.public_ip,
        "metadata": settings.metadata,
        "reserve_memory": settings.reserved.memory,
        "reserve_cpu": settings.reserved.cpu,
        "agent_ttl": settings.agent_ttl.as_secs_f64(),
        "mass_loss_share": settings.mass_loss_share,
        "mass_loss_grace": settings.mass_loss_grace.as_secs_f64(),
        "units_directory": settings.units_directory,
        "systemd_user": settings.systemd_user,
        "disable_engine": settings.disable_engine,
        "token_limit": settings.token_limit,
        "listen": settings.listen.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}
