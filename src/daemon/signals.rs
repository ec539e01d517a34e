//! The signals by which an operator controls a running daemon.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// A request of the operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// Stop (`SIGTERM`, `SIGINT`).
    Stop,
    /// Reload the configuration (`SIGHUP`).
    Reload,
    /// Dump the state (`SIGUSR1`).
    Dump,
}

/// Handle signals from now on.
///
/// # Errors
/// The system's error.
pub fn follow() -> std::io::Result<mpsc::UnboundedReceiver<Request>> {
    use Request::{Dump, Reload, Stop};
    let (requests, receiver) = mpsc::unbounded_channel();
    let kinds = [
        (SignalKind::terminate(), Stop),
        (SignalKind::interrupt(), Stop),
        (SignalKind::hangup(), Reload),
        (SignalKind::user_defined1(), Dump),
    ];
    for (kind, request) in kinds {
        let (mut signals, requests) = (signal(kind)?, requests.clone());
        tokio::spawn(async move { while signals.recv().await.is_some() && requests.send(request).is_ok() {} });
    }
    Ok(receiver)
}
