//! What others hear of the daemon: systemd (`sd_notify(3)`: ready, status line, watchdog) and the API (whether it may answer).
//! Owns the words of the status line.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::agent::Status as Agent;
use crate::api::health::Health;
use crate::clock::Clock;
use crate::engine::Status as Engine;

/// How often the status line may change: it is for people.
const PACE: Duration = Duration::from_secs(1);

/// Tell systemd that the daemon has started. It answers from now on, if only to say what it waits for.
pub(super) fn ready() {
    send(&[NotifyState::Ready]);
}

/// Tell systemd that the daemon ends.
pub(super) fn stopping() {
    send(&[NotifyState::Stopping]);
}

/// Follow how agent and engine stand and pass it on, until `stop`.
pub(super) async fn follow(
    mut agent: watch::Receiver<Agent>,
    mut engine: Option<watch::Receiver<Engine>>,
    health: watch::Sender<Health>,
    clock: Clock,
    stop: CancellationToken,
) {
    let watchdog = sd_notify::watchdog_enabled();
    let mut shown = String::new();
    loop {
        let status = agent.borrow_and_update().clone();
        let leading = engine.as_mut().map(|engine| engine.borrow_and_update().clone());
        tell(&health, &status, clock);
        let line = line(&status, leading.as_ref());
        if line != shown {
            send(&[NotifyState::Status(&line)]);
            shown = line;
        }
        if watchdog.is_some() {
            send(&[NotifyState::Watchdog]);
        }
        // The API's readiness is passed on at once, the line for people at their pace.
        let wait = async {
            tokio::time::sleep(PACE).await;
            let changed = async {
                match &mut engine {
                    Some(engine) => engine.changed().await.is_ok(),
                    None => std::future::pending().await,
                }
            };
            let beat = watchdog.map_or(Duration::from_secs(3600), |limit| limit / 3);
            let _ = tokio::time::timeout(beat, changed).await;
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            changed = agent.changed() => if changed.is_err() { return },
            () = wait => {}
        }
    }
}

fn tell(health: &watch::Sender<Health>, status: &Agent, clock: Clock) {
    health.send_if_modified(|health| {
        let next = match (status, &*health) {
            (Agent::Present { .. }, Health::Ready) => return false,
            (Agent::Present { .. }, Health::Waiting { .. }) => Health::Ready,
            (Agent::Away(why), Health::Waiting { since, .. }) => Health::Waiting { what: away(why), since: *since },
            (Agent::Away(why), Health::Ready) => Health::Waiting { what: away(why), since: clock.now_ms() },
        };
        let changed = *health != next;
        *health = next;
        changed
    });
}

fn away(why: &str) -> String {
    format!("isn't registered with its cluster: {why}")
}

/// `leading since 10:01; 3 hosts, 212 units, 1 waiting; agent: 71 units, settled`.
fn line(agent: &Agent, engine: Option<&Engine>) -> String {
    let agent = match agent {
        Agent::Away(why) => format!("not registered: {why}"),
        Agent::Present { units, settled } => {
            format!("agent: {units} units, {}", if *settled { "settled" } else { "at work" })
        }
    };
    match engine {
        Some(Engine::Leading { since, hosts, units, waiting }) => {
            let minute = since / 60_000;
            let (hour, minute) = (minute / 60 % 24, minute % 60);
            format!("leading since {hour:02}:{minute:02} UTC; {hosts} hosts, {units} units, {waiting} waiting; {agent}")
        }
        Some(Engine::Candidate) | None => agent,
    }
}

fn send(states: &[NotifyState<'_>]) {
    // Without a service manager there is nobody to tell, and that is fine.
    let _ = sd_notify::notify(states);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_line_says_what_matters() {
        let engine = Engine::Leading { since: (10 * 60 + 1) * 60_000, hosts: 3, units: 212, waiting: 1 };
        let agent = Agent::Present { units: 71, settled: true };
        assert_eq!(
            line(&agent, Some(&engine)),
            "leading since 10:01 UTC; 3 hosts, 212 units, 1 waiting; agent: 71 units, settled"
        );
        assert_eq!(line(&agent, Some(&Engine::Candidate)), "agent: 71 units, settled");
    }
}
