//! The status line of `systemctl status fleetd`: the state of agent and engine in one sentence. Pure.

use crate::agent::{Status as Agent, Unreachable};
use crate::clock::{utc, utc_minute};
use crate::engine::{Braked, Status as Engine};

/// `leading since 10:01 UTC; 3 hosts, 212 units, 1 waiting; agent: 71 units, settled`. `store` is the store's name:
/// `etcd`.
pub(super) fn line(store: &str, agent: &Agent, engine: Option<&Engine>) -> String {
    let agent = match agent {
        Agent::Away { why, .. } => format!("not registered: {why}"),
        // What the engine knows may be outdated then, so it isn't shown.
        Agent::Present { units, unreachable: Some(Unreachable::Store(since)), .. } => {
            return format!("{store} unreachable since {}; {}", utc(*since), run_on(*units));
        }
        Agent::Present { units, unreachable: Some(Unreachable::Systemd(since)), .. } => {
            format!("systemd unreachable since {}; {}", utc(*since), run_on(*units))
        }
        Agent::Present { units, unreachable: Some(Unreachable::Files { since, why }), .. } => {
            format!("{why} (since {}); {}", utc(*since), run_on(*units))
        }
        Agent::Present { units, settled, unreachable: None } => {
            format!("agent: {}, {}", count(*units, "unit"), if *settled { "settled" } else { "at work" })
        }
        Agent::Leaving { units } => {
            return format!("the system is shutting down; waiting for {} to stop", count(*units, "unit"));
        }
    };
    match engine {
        Some(Engine::Leading { since, hosts, units, waiting, braked }) => {
            let (hosts, units) = (count(*hosts, "host"), count(*units, "unit"));
            let held = braked.map_or_else(String::new, |Braked { hosts, until }| {
                format!("; {hosts} more vanished together, their units are held until {}", utc(until))
            });
            format!("leading since {}; {hosts}, {units}, {waiting} waiting{held}; {agent}", utc_minute(*since))
        }
        Some(Engine::Candidate) | None => agent,
    }
}

/// `configuration refused at 10:04:17 UTC (fleet.conf:4), the old one is in force`: a reload at `at` failed with
/// `error`.
pub(super) fn refused(error: &str, at: u64) -> String {
    let first = error.lines().next().unwrap_or_default();
    let place = first.split(": ").next().unwrap_or_default();
    let place = place.rsplit('/').next().unwrap_or_default();
    format!("configuration refused at {} ({place}), the old one is in force", utc(at))
}

fn run_on(units: usize) -> String {
    if units == 1 { "1 unit keeps running".into() } else { format!("{units} units keep running") }
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::Cause;

    #[test]
    fn a_refused_configuration_is_named_by_its_place() {
        let at = (10 * 3600 + 4 * 60 + 17) * 1000;
        let refused = |error| refused(error, at);
        let head = "configuration refused at 10:04:17 UTC";
        assert_eq!(
            refused("/etc/fleet/fleet.conf:4: unknown key `metadta`\n/etc/fleet/fleet.conf:9: `x` isn't key=value"),
            format!("{head} (fleet.conf:4), the old one is in force")
        );
        assert_eq!(refused("FLEET_AGENT_TTL=x: no"), format!("{head} (FLEET_AGENT_TTL=x), the old one is in force"));
    }

    #[test]
    fn it_says_what_matters() {
        let since = (10 * 60 + 1) * 60_000;
        let engine = |hosts, units| Engine::Leading { since, hosts, units, waiting: 1, braked: None };
        let braked = Some(Braked { hosts: 8, until: since + 17_000 });
        let agent = |units, unreachable| Agent::Present { units, settled: true, unreachable };
        let at = (10 * 3600 + 4 * 60 + 17) * 1000 + 999;
        let cases = [
            (
                agent(71, None),
                Some(engine(3, 212)),
                "leading since 10:01 UTC; 3 hosts, 212 units, 1 waiting; agent: 71 units, settled",
            ),
            (
                agent(1, None),
                Some(engine(1, 1)),
                "leading since 10:01 UTC; 1 host, 1 unit, 1 waiting; agent: 1 unit, settled",
            ),
            (
                agent(1, None),
                Some(Engine::Leading { since, hosts: 12, units: 9, waiting: 0, braked }),
                "leading since 10:01 UTC; 12 hosts, 9 units, 0 waiting; 8 more vanished together, their units are held \
                 until 10:01:17 UTC; agent: 1 unit, settled",
            ),
            (agent(71, None), Some(Engine::Candidate), "agent: 71 units, settled"),
            (agent(0, None), None, "agent: 0 units, settled"),
            (
                agent(71, Some(Unreachable::Store(at))),
                Some(engine(3, 212)),
                "etcd unreachable since 10:04:17 UTC; 71 units keep running",
            ),
            (agent(1, Some(Unreachable::Store(at))), None, "etcd unreachable since 10:04:17 UTC; 1 unit keeps running"),
            (
                agent(2, Some(Unreachable::Systemd(at))),
                None,
                "systemd unreachable since 10:04:17 UTC; 2 units keep running",
            ),
            (
                agent(2, Some(Unreachable::Files { since: at, why: "cannot write /run/x: No space left".into() })),
                None,
                "cannot write /run/x: No space left (since 10:04:17 UTC); 2 units keep running",
            ),
            (Agent::Away { why: "why".into(), cause: Cause::Store }, None, "not registered: why"),
            (Agent::Leaving { units: 1 }, None, "the system is shutting down; waiting for 1 unit to stop"),
        ];
        for (agent, engine, expected) in cases {
            assert_eq!(line("etcd", &agent, engine.as_ref()), expected);
        }
    }
}
