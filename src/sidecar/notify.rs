//! What systemd hears of a sidecar (`sd_notify(3)`): ready, a status line, the end. Owns the pace of the status line;
//! never its words.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::watch;

/// How often the status line may change: it is for people.
const PACE: Duration = Duration::from_secs(1);

/// Says things to systemd. Without a service manager there is nobody to tell, and that is fine.
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

    /// What it does now, in a line. Saying the same again costs nothing.
    pub(super) fn status(&self, line: impl Into<String>) {
        let line = line.into().replace('\n', "; ");
        self.status.send_if_modified(|said| {
            let changed = *said != line;
            *said = line;
            changed
        });
    }

    /// It has started: what waits for it may go on. With the status line as it is now.
    pub(super) fn ready(&self) {
        let line = self.status.borrow().clone();
        send(&[NotifyState::Ready, NotifyState::Status(&line)]);
    }
}

/// It ends.
pub(super) fn stopping() {
    send(&[NotifyState::Stopping]);
}

fn send(states: &[NotifyState<'_>]) {
    let _ = sd_notify::notify(states);
}
