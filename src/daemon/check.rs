//! `fleetd --check`: whether a configuration is valid, and what this host would do with it. Only the configuration
//! decides the exit status: a store that doesn't answer now may answer later. Changes nothing.

use std::fmt::Write as _;
use std::time::Duration;

use tokio::time::timeout;

use crate::config::{self, Overrides, Settings, StoreSettings};
use crate::store::etcd::Etcd;
use crate::store::{Range, Store as _};
use crate::systemd::Systemd as _;
use crate::systemd::dbus::{self, Dbus};

use super::{host, options};

/// How long the store and systemd may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// Check the configuration. Returns what to print, and the exit status: 0 if it is valid, 1 if not.
#[must_use]
pub fn run(overrides: &Overrides) -> (String, u8) {
    let settings = match config::load(overrides) {
        Ok(settings) => settings,
        Err(error) => return (format!("{error}\n"), 1),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let host = match runtime {
        Ok(runtime) => runtime.block_on(circumstances(&settings)),
        Err(error) => format!("the identity of this host can't be determined: {error}\n"),
    };
    let mut text = String::new();
    for warning in &settings.warnings {
        let _ = writeln!(text, "warning: {warning}");
    }
    (format!("{text}the configuration is valid\n{host}"), 0)
}

/// The state of this host, its store and its systemd, a line for each.
async fn circumstances(settings: &Settings) -> String {
    let machine = match host::machine(settings) {
        Ok(machine) => format!("machine id {}, address {}", machine.id, machine.ip),
        Err(error) => format!("{error:#}"),
    };
    let (store, systemd) = tokio::join!(store(&settings.store), systemd(settings));
    format!("{machine}\n{systemd}\n{store}\n")
}

async fn store(settings: &StoreSettings) -> String {
    let etcd = match settings {
        StoreSettings::Etcd(etcd) => etcd,
        StoreSettings::Standalone { directory } => {
            return format!("standalone: the state is in {}", directory.display());
        }
    };
    let name = etcd.endpoints.join(", ");
    let store = match Etcd::new(&options(etcd)) {
        Ok(store) => store,
        Err(error) => return format!("etcd at {name} can't be used: {error}"),
    };
    // The version alone wouldn't show that this user may read what is below the prefix.
    let answer = async {
        store.range(Range { limit: 1, ..Range::default() }).await?;
        store.version().await
    };
    match timeout(ANSWER_TIMEOUT, answer).await {
        Ok(Ok(version)) => format!("etcd at {name} answers (version {version})"),
        Ok(Err(error)) => format!("etcd can't be used now: {error}"),
        Err(_) => format!("etcd at {name} doesn't answer within {} s", ANSWER_TIMEOUT.as_secs()),
    }
}

async fn systemd(settings: &Settings) -> String {
    let systemd = Dbus::new(dbus::Options { user: settings.systemd_user, ..dbus::Options::default() });
    match timeout(ANSWER_TIMEOUT, systemd.version()).await {
        Ok(Ok(version)) => format!("systemd {version}"),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("systemd doesn't answer within {} s", ANSWER_TIMEOUT.as_secs()),
    }
}
