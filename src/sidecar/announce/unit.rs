//! Whether a unit is ready on this host, according to the cluster's API: its probes say so, or it is active if it has
//! none. systemd starts a sidecar after its unit and stops it before (`BindsTo=` and `After=`); this covers what
//! systemd doesn't tell a sidecar: that the unit is still starting, has failed and is about to be restarted, isn't
//! ready, or isn't bound to it at all.

use tokio::sync::watch;

use super::Stand;
use crate::api::client::{Client, For, News};
use crate::api::wire::{UnitView, WatchLine};
use crate::model::name::{MachineId, UnitName};
use crate::sidecar::{Api, REQUEST_TIMEOUT, brief};

/// Watch `unit` on the host `here`. While the API is unreachable, the last known state stays valid.
pub(super) fn follow(api: &Api, unit: UnitName, here: MachineId) -> watch::Receiver<Stand> {
    let first = Stand::down(format!("waiting for the state of {unit}"));
    let (tell, stand) = watch::channel(first);
    let client = api.client(REQUEST_TIMEOUT);
    tokio::spawn(async move {
        let mut follower = Follower { unit, here, tell, known: false };
        let gone = follower.tell.clone();
        tokio::select! {
            () = gone.closed() => {}
            () = follower.run(&client) => {}
        }
    });
    stand
}

struct Follower {
    unit: UnitName,
    here: MachineId,
    tell: watch::Sender<Stand>,
    /// The cluster has, or had, this unit.
    known: bool,
}

/// What one stream has reported.
#[derive(Debug, Default)]
struct Reported {
    /// Whether it reported the unit.
    has_unit: bool,
    /// Whether its initial list is complete.
    whole: bool,
}

impl Follower {
    async fn run(&mut self, client: &Client) {
        let mut watch = client.follow_on(&self.here, &self.unit, For::ADaemon);
        let mut reported = Reported::default();
        loop {
            match watch.next().await {
                Ok(News::Begun) => reported = Reported::default(),
                Ok(News::Line(line)) => self.take(line, &mut reported),
                Ok(News::Lost(error)) => tracing::debug!("{}: {}", self.unit, brief(&error)),
                Ok(News::Broken | News::Back) => {}
                // Never returned to a daemon.
                Err(error) => return tracing::warn!("{}: {}", self.unit, brief(&error)),
            }
        }
    }

    fn take(&mut self, line: WatchLine, reported: &mut Reported) {
        match line {
            WatchLine::Unit(view) if view.name == self.unit => {
                (reported.has_unit, self.known) = (true, true);
                self.say(stand(&view, &self.here));
            }
            WatchLine::Removed(name) if name == self.unit => {
                self.say(Stand::down(format!("{name} has been destroyed")));
            }
            // Only the first one means that a unit that wasn't reported doesn't exist. If the stream's position was
            // compacted, the same stream is synced again without reporting unchanged units; a unit that was deleted
            // meanwhile is reported as removed.
            WatchLine::Synced(_) => {
                let first = !std::mem::replace(&mut reported.whole, true);
                if first && !reported.has_unit {
                    self.missing();
                }
            }
            _ => {}
        }
    }

    fn missing(&self) {
        let unit = &self.unit;
        if self.known {
            self.say(Stand::down(format!("{unit} has been destroyed")));
            return;
        }
        // It is a unit of this host only. Presumably systemd has started it, since it started this sidecar.
        if !self.tell.borrow().up {
            tracing::warn!(
                "{unit} is no unit of the cluster: announcing it until this sidecar is stopped (set BindsTo={unit} \
                 and After={unit} in its unit)"
            );
        }
        self.say(Stand::up());
    }

    fn say(&self, stand: Stand) {
        self.tell.send_if_modified(|said| {
            let changed = *said != stand;
            *said = stand;
            changed
        });
    }
}

/// The verdict according to the host's report.
fn stand(view: &UnitView, here: &MachineId) -> Stand {
    let unit = &view.name;
    let Some(state) = view.states.iter().find(|state| state.machine.id == *here) else {
        return Stand::down(format!("{unit} isn't on this host"));
    };
    if state.report.is_ready() {
        return Stand { preview: state.preview, ..Stand::up() };
    }
    let why = match &state.report.health {
        _ if !state.report.active.is_active() => format!("{unit} is {} ({})", state.report.active, state.report.sub),
        Some(why) => format!("{unit} isn't ready: {why}"),
        None => format!("{unit} isn't ready"),
    };
    Stand::down(why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::revision::Revision;

    fn follower() -> (Follower, watch::Receiver<Stand>) {
        let (tell, stand) = watch::channel(Stand::down("waiting".into()));
        let here = "3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a".parse().unwrap();
        (Follower { unit: "web.service".parse().unwrap(), here, tell, known: false }, stand)
    }

    fn active() -> WatchLine {
        let view = serde_json::json!({
            "name": "web.service", "hash": "0", "desired": "launched", "generation": 1,
            "states": [{
                "machine": { "id": "3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a" },
                "generation": 1, "target": "launched", "hash": "0",
                "load": "loaded", "active": "active", "sub": "running", "since": 1,
            }],
        });
        WatchLine::Unit(Box::new(serde_json::from_value(view).unwrap()))
    }

    fn synced() -> WatchLine {
        WatchLine::Synced(Revision(1))
    }

    #[test]
    fn a_stream_that_is_synced_again_destroys_nothing() {
        let (mut follower, stand) = follower();
        let mut reported = Reported::default();
        for line in [active(), synced(), synced()] {
            follower.take(line, &mut reported);
            assert!(stand.borrow().up, "{:?}", stand.borrow());
        }
        follower.take(WatchLine::Removed("web.service".parse().unwrap()), &mut reported);
        assert!(!stand.borrow().up);
        follower.take(synced(), &mut reported);
        assert!(!stand.borrow().up, "and it stays so");
    }

    #[test]
    fn what_a_new_stream_doesnt_tell_is_gone() {
        let (mut follower, stand) = follower();
        let mut reported = Reported::default();
        follower.take(active(), &mut reported);
        follower.take(synced(), &mut reported);
        follower.take(synced(), &mut Reported::default());
        assert_eq!(*stand.borrow(), Stand::down("web.service has been destroyed".into()));
    }

    #[test]
    fn a_unit_with_probes_is_announced_while_it_is_ready() {
        let here: MachineId = "3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a".parse().unwrap();
        let WatchLine::Unit(view) = active() else { panic!("no unit") };
        for (state, ready, health, expected) in [
            ("active", None, None, ""),
            ("active", Some(true), None, ""),
            ("reloading", Some(true), None, ""),
            ("active", Some(false), None, "web.service isn't ready"),
            ("active", Some(false), Some("tcp:80: refused"), "web.service isn't ready: tcp:80: refused"),
            ("failed", Some(false), None, "web.service is failed (running)"),
            ("activating", None, None, "web.service is activating (running)"),
        ] {
            let mut view = view.clone();
            (view.states[0].report.active, view.states[0].report.ready) = (state.into(), ready);
            view.states[0].report.health = health.map(Into::into);
            let expected = if expected.is_empty() { Stand::up() } else { Stand::down(expected.into()) };
            assert_eq!(super::stand(&view, &here), expected);
            // It makes no difference to a unit that isn't ready.
            view.states[0].preview = true;
            assert_eq!(super::stand(&view, &here), Stand { preview: expected.up, ..expected });
        }
    }
}
