//! `fleet-sidecar`: helpers that run beside a unit and connect services. `announce` announces where an instance is,
//! `ambassador` forwards connections on this host to the instances of a service, `render` keeps a file up to date with
//! what is announced, `wait` waits until a service is announced.
//!
//! ```text
//!  args -+-> announce -- unit, probe -----------------> API: announce while it is up, renew
//!        +-> ambassador -- pool, forward <-+
//!        +-> render -- template, shell <---+- service_watch <-- API: what is announced, as it changes
//!        +-> wait <------------------------+
//! ```
//!
//! Uses `api::wire`, `api::client`, `cli_docs`, `probe` and `model`: a sidecar knows the API of its own host and
//! nothing else of a cluster. While that API is unreachable, the last known state stays valid. It is run by systemd:
//! `Type=notify`, a status line, SIGTERM.

mod ambassador;
mod announce;
mod args;
mod file;
mod notify;
mod render;
mod service_watch;
mod shell;
mod wait;

use std::future::Future;
use std::time::Duration;

use anyhow::Result;
use tokio_util::sync::CancellationToken;

use crate::api::client::{Client, ClientError, Endpoint, Tls, TlsError};

pub use args::Arguments;
use args::Command;

/// How long fleetd may take to answer: it reports a timeout of its store after 5 s.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(6);

/// The longest wait before another attempt to reach the API is about a fifth of this (`reconcile::Backoff`).
const RECONNECT_BACKOFF: Duration = Duration::from_secs(10);

/// Carry out `arguments` until done, or until `shutdown`.
///
/// # Errors
/// Arguments that can't be used, and errors that a retry can't resolve. An unreachable API is neither.
pub async fn run(arguments: Arguments, shutdown: impl Future<Output = ()> + Send + 'static) -> Result<()> {
    let api = Api::new(Endpoint::list(&arguments.endpoint)?, &arguments.trust)?;
    let stop = CancellationToken::new();
    let stopping = stop.clone();
    tokio::spawn(async move {
        shutdown.await;
        notify::stopping();
        stopping.cancel();
    });
    match arguments.command {
        Command::Announce(options) => announce::run(api, options, stop).await,
        Command::Ambassador(options) => ambassador::run(api, options, stop).await,
        Command::Render(options) => render::run(api, options, stop).await,
        Command::Wait(options) => wait::run(api, options, stop).await,
        // Nothing to do: it was printed already (`Arguments::printed`).
        Command::Manual(_) => Ok(()),
    }
}

/// How to reach the API.
#[derive(Debug, Clone)]
struct Api {
    endpoints: Vec<Endpoint>,
    tls: Option<Tls>,
}

impl Api {
    fn new(endpoints: Vec<Endpoint>, trust: &args::Trust) -> Result<Self, TlsError> {
        let args::Trust { ca_file, cert_file, key_file } = trust;
        // Otherwise no certificate is needed, and a system without any must work.
        let secure = endpoints.iter().any(|endpoint| matches!(endpoint, Endpoint::Https(_)));
        let tls =
            secure.then(|| Tls::load(ca_file.as_deref(), cert_file.as_deref(), key_file.as_deref())).transpose()?;
        Ok(Self { endpoints, tls })
    }

    /// A client with this request timeout.
    fn client(&self, patience: Duration) -> Client {
        let client = Client::new(self.endpoints.clone(), patience);
        match &self.tls {
            Some(tls) => client.with_tls(tls.clone()),
            None => client,
        }
    }
}

/// An error in one line, for the log and the status line.
fn brief(error: &ClientError) -> String {
    let ClientError::Unreachable(tried) = error else {
        return error.to_string().lines().next().unwrap_or_default().to_owned();
    };
    format!("can't reach fleetd at {}", tried.iter().map(ToString::to_string).collect::<Vec<_>>().join(", nor at "))
}
