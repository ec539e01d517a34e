//! `fleet-sidecar`: small helpers that stand beside a unit and tie services together. `announce` says where an instance
//! is, `ambassador` stands in for a service on this host, `render` keeps a file up to date with what is announced.
//!
//! ```text
//!  args ─┬─▶ announce ── unit, check            ──▶ API: is it up? say so, renew
//!        ├─▶ ambassador ── pool, forward ◀─┐
//!        └─▶ render ── commands, files  ◀──┴─ live ◀── API: what is announced, as it changes
//! ```
//!
//! Sees `api::wire`, `api::client`, `cli_docs` and `model`: a sidecar knows the API of its own host and nothing else of
//! a cluster. Whatever it has heard stays good while that API is away. Its user is systemd: `Type=notify`, a status
//! line, SIGTERM.

mod ambassador;
mod announce;
mod args;
mod check;
mod file;
mod notify;
mod render;
mod service_watch;
mod shell;

use std::future::Future;
use std::time::Duration;

use anyhow::Result;
use tokio_util::sync::CancellationToken;

use crate::api::client::{Client, ClientError, Endpoint, Tls, TlsError};

pub use args::Arguments;
use args::Command;

/// How long fleetd may take to answer. It gives up on its store after 5 seconds, and says so.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(6);

/// Before another attempt to reach the API a sidecar waits at most about a fifth of this (`reconcile::Backoff`).
const RECONNECT_BACKOFF: Duration = Duration::from_secs(10);

/// Do what `arguments` say until it is done, or until `shutdown`.
///
/// # Errors
/// What can't be used as it was given, and what makes going on senseless. An API that is away is neither.
pub async fn run(arguments: Arguments, shutdown: impl Future<Output = ()> + Send + 'static) -> Result<()> {
    let api = Api::new(Endpoint::list(&arguments.endpoint)?, &arguments.trust)?;
    let stop = CancellationToken::new();
    let told = stop.clone();
    tokio::spawn(async move {
        shutdown.await;
        notify::stopping();
        told.cancel();
    });
    match arguments.command {
        Command::Announce(options) => announce::run(api, options, stop).await,
        Command::Ambassador(options) => ambassador::run(api, options, stop).await,
        Command::Render(options) => render::run(api, options, stop).await,
        // Nothing to do: it was only to be printed (`Arguments::printed`).
        Command::Manual(_) => Ok(()),
    }
}

/// Where the API is.
#[derive(Debug, Clone)]
struct Api {
    endpoints: Vec<Endpoint>,
    tls: Option<Tls>,
}

impl Api {
    fn new(endpoints: Vec<Endpoint>, trust: &args::Trust) -> Result<Self, TlsError> {
        let args::Trust { ca_file, cert_file, key_file } = trust;
        // Otherwise nobody asks for certificates, and a system without any is fine.
        let secure = endpoints.iter().any(|endpoint| matches!(endpoint, Endpoint::Https(_)));
        let tls =
            secure.then(|| Tls::load(ca_file.as_deref(), cert_file.as_deref(), key_file.as_deref())).transpose()?;
        Ok(Self { endpoints, tls })
    }

    /// A client that waits so long for an answer.
    fn client(&self, patience: Duration) -> Client {
        let client = Client::new(self.endpoints.clone(), patience);
        match &self.tls {
            Some(tls) => client.with_tls(tls.clone()),
            None => client,
        }
    }
}

/// A failure in one line, for the log and the status line.
fn brief(error: &ClientError) -> String {
    let ClientError::Unreachable(tried) = error else {
        return error.to_string().lines().next().unwrap_or_default().to_owned();
    };
    format!("can't reach fleetd at {}", tried.iter().map(ToString::to_string).collect::<Vec<_>>().join(", nor at "))
}
