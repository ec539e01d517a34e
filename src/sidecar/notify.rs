//! Notifies systemd (`sd_notify(3)`): ready, the status line, stopping. Owns how often the status line changes; never
//! its words.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::watch;

use crate::model::text::without_os_error;

/// How often the status line may change: it is for people.
const PACE: Duration = Duration::from_secs(1);

/// Sends notifications to systemd; does nothing without a service manager.
#[derive(Debug, Clone)]
pub(super) struct Notifier {
    status: watch::Sender<String>,
}

impl Notifier {
    /// Must be called within a runtime.
    pub(super) fn new() -> Self {
        let (status, mut said) = watch::channel(String::new());
        tokio::spawn(async move {
            while said.changed().await.is_ok() {
                let line = said.borrow_and_update().clone();
                send(&[NotifyState::Status(&line)]);
                tokio::time::sleep(PACE).await;
            }
        });
        Self { status }
    }

    /// Set the status line. Setting the same line again costs nothing.
    pub(super) fn status(&self, line: impl Into<String>) {
        let line = without_os_error(&line.into()).replace('\n', "; ");
        self.status.send_if_modified(|said| {
            let changed = *said != line;
            *said = line;
            changed
        });
    }

    /// Startup is complete. Sent with the current status line.
    pub(super) fn ready(&self) {
        let line = self.status.borrow().clone();
        send(&[NotifyState::Ready, NotifyState::Status(&line)]);
    }
}

/// The sidecar is stopping.
pub(super) fn stopping() {
    send(&[NotifyState::Stopping]);
}

fn send(states: &[NotifyState<'_>]) {
    let _ = sd_notify::notify(states);
}
