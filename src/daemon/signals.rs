//! What an operator asks of a running daemon, by signal.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// A wish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// End (`SIGTERM`, `SIGINT`).
    Stop,
    /// Read the configuration again (`SIGHUP`).
    Reload,
    /// Say what you know (`SIGUSR1`).
    Dump,
}

/// Take signals from now on.
///
/// # Errors
/// The system's, when it can't.
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
