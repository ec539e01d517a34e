//! Reports the daemon's status to systemd (`sd_notify(3)`: ready, reloading, status line, watchdog) and to the API
//! (whether it may answer). `status` owns the wording of the line.

use std::future::Future;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::agent::{Cause, Status as Agent, Unreachable};
use crate::api::server::health::{Health, Remedy};
use crate::clock::Clock;
use crate::engine::Status as Engine;
use crate::model::text::without_os_error;

use super::status::line;
use super::watchdog::{Finding, Watched};

/// How often the status line may change: it is for people.
const PACE: Duration = Duration::from_secs(1);

/// How often long work extends systemd's timeout, and by how many µs.
const EXTEND_EVERY: Duration = Duration::from_secs(2);
const EXTEND_BY_US: u32 = 15_000_000;

/// Tell systemd that startup or a reload is complete. Requests are answered from now on, if only with what the daemon
/// waits for.
pub(super) fn ready() {
    send(&[NotifyState::Ready]);
}

/// Tell systemd that the configuration is being reloaded, until [`ready`].
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        // `Type=notify-reload` of systemd 253 and later needs the time, to identify the reload.
        Ok(now) => send(&[NotifyState::Reloading, now]),
        Err(_) => send(&[NotifyState::Reloading]),
    }
}

/// Tell systemd that the daemon is stopping.
pub(super) fn stopping() {
    send(&[NotifyState::Stopping]);
}

/// Wait for work that may exceed systemd's timeout, and extend the timeout meanwhile.
pub(super) async fn extending<T>(work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    loop {
        match tokio::time::timeout(EXTEND_EVERY, work.as_mut()).await {
            Ok(done) => return done,
            Err(_) => send(&[NotifyState::ExtendTimeoutUsec(EXTEND_BY_US)]),
        }
    }
}

/// What is reported.
pub(super) struct Followed {
    /// The store's name.
    pub(super) store: &'static str,
    pub(super) agent: watch::Receiver<Agent>,
    /// `None` if this host never leads.
    pub(super) engine: watch::Receiver<Option<Engine>>,
    /// What the status line begins with after a configuration was refused.
    pub(super) refusal: watch::Receiver<Option<String>>,
    pub(super) health: watch::Sender<Health>,
    /// Since when the store has been unreachable, in ms since the epoch.
    pub(super) outage: watch::Sender<Option<u64>>,
    pub(super) watched: Watched,
    pub(super) clock: Clock,
}

/// Report the status of agent and engine whenever it changes, until `stop`.
pub(super) async fn follow(followed: Followed, stop: CancellationToken) {
    let Followed { store, mut agent, mut engine, mut refusal, health, outage, watched, clock } = followed;
    let limit = sd_notify::watchdog_enabled();
    let (mut shown, mut quiet_until, mut look_at) = (String::new(), Instant::now(), Instant::now());
    loop {
        let status = agent.borrow_and_update().clone();
        outage.send_modify(|since| *since = still_out(*since, &status, clock.now_ms()));
        tell(&health, &status, outage.borrow().unwrap_or_else(|| clock.now_ms()));
        let line = line(store, &status, engine.borrow_and_update().as_ref());
        let line = match &*refusal.borrow_and_update() {
            Some(refused) => format!("{refused}; {line}"),
            None => line,
        };
        let now = Instant::now();
        if line != shown && quiet_until <= now {
            send_status(&line);
            shown.clone_from(&line);
            quiet_until = now + PACE;
        }
        if let Some(limit) = limit.filter(|_| look_at <= now) {
            feed(&watched, limit);
            look_at = now + limit / 4;
        }
        let line_at = Some(quiet_until).filter(|_| line != shown);
        let wake = line_at.into_iter().chain(limit.map(|_| look_at)).min();
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            changed = agent.changed() => if changed.is_err() { break },
            changed = engine.changed() => if changed.is_err() { break },
            changed = refusal.changed() => if changed.is_err() { break },
            () = async { sleep_until(wake.unwrap_or_else(Instant::now)).await }, if wake.is_some() => {}
        }
    }
    // The agent may still be waiting for units to stop.
    while agent.changed().await.is_ok() {
        let status = agent.borrow_and_update().clone();
        if matches!(status, Agent::Leaving { .. }) {
            send_status(&super::status::line(store, &status, None));
        }
    }
}

fn feed(watched: &Watched, limit: Duration) {
    match watched.look(limit) {
        Finding::Alive => send(&[NotifyState::Watchdog]),
        // Without this, systemd would also detect the hang, but only after the same time again.
        Finding::Hangs { who, silence } => {
            tracing::error!("the {who} has hung for {} s; ending, so that systemd restarts fleetd", silence.as_secs());
            send(&[NotifyState::WatchdogTrigger]);
        }
    }
}

/// Since when the store has been unreachable, after `before` and with the agent's status of now.
fn still_out(before: Option<u64>, status: &Agent, now: u64) -> Option<u64> {
    match status {
        Agent::Present { unreachable: Some(Unreachable::Store(since)), .. } => Some(*since),
        Agent::Present { .. } | Agent::Away { cause: Cause::Systemd | Cause::Duplicate, .. } => None,
        Agent::Away { cause: Cause::Store, .. } => before.or(Some(now)),
        // Its lease has expired: the reason follows.
        Agent::Away { cause: Cause::Starting, .. } | Agent::Leaving { .. } => before,
    }
}

/// Tell the API whether it may answer; if it may not, since `since`.
fn tell(health: &watch::Sender<Health>, status: &Agent, since: u64) {
    health.send_if_modified(|health| {
        let next = match (status, &*health) {
            (Agent::Present { .. }, Health::Ready) => return false,
            (Agent::Present { .. }, Health::Waiting { .. }) => Health::Ready,
            (Agent::Leaving { .. }, _) => return false,
            (Agent::Away { why, cause }, before) => {
                let since = if let Health::Waiting { since, .. } = before { *since } else { since };
                Health::Waiting { what: away(why), since, remedy: remedy(*cause) }
            }
        };
        let changed = *health != next;
        *health = next;
        changed
    });
}

fn remedy(cause: Cause) -> Remedy {
    match cause {
        Cause::Starting => Remedy::Time,
        Cause::Store => Remedy::Store,
        Cause::Systemd => Remedy::Systemd,
        Cause::Duplicate => Remedy::Person,
    }
}

fn away(why: &str) -> String {
    format!("isn't registered with its cluster: {why}")
}

fn send_status(line: &str) {
    send(&[NotifyState::Status(&without_os_error(line))]);
}

fn send(states: &[NotifyState<'_>]) {
    // There may be no service manager.
    let _ = sd_notify::notify(states);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_lasts_from_its_first_failure_until_the_host_is_registered_and_answered() {
        let present = |unreachable| Agent::Present { units: 1, settled: true, unreachable };
        let away = |cause| Agent::Away { why: String::new(), cause };
        let course = [
            (present(None), None),
            (present(Some(Unreachable::Store(5))), Some(5)),
            (away(Cause::Starting), Some(5)),
            (away(Cause::Store), Some(5)),
            (present(Some(Unreachable::Systemd(8))), None),
            (away(Cause::Store), Some(9)),
            (away(Cause::Duplicate), None),
        ];
        let mut since = None;
        for (status, expected) in course {
            since = still_out(since, &status, 9);
            assert_eq!(since, expected, "{status:?}");
        }
    }
}
