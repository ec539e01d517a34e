//! Whether a unit is active on this host, as the cluster's API tells it. That it is started after its unit and stopped
//! before it is systemd's business (`BindsTo=` and `After=`); this is for what systemd doesn't tell a sidecar: that the
//! unit is still starting, has failed and is about to be restarted, or isn't bound to it at all.

use tokio::sync::watch;

use super::Stand;
use crate::api::client::{Client, For, News};
use crate::api::wire::{UnitView, WatchLine};
use crate::model::name::{MachineId, UnitName};
use crate::sidecar::{Api, REQUEST_TIMEOUT, brief};

/// Follow `unit` on the host `here`. While the API is away, what was heard last holds.
pub(super) fn follow(api: &Api, unit: UnitName, here: MachineId) -> watch::Receiver<Stand> {
    let first = Stand { up: false, why: format!("waiting for word of {unit}") };
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
    /// The cluster has, or had, such a unit.
    known: bool,
}

/// What one stream has told.
#[derive(Debug, Default)]
struct Picture {
    /// Of the unit.
    told: bool,
    /// All that there was.
    whole: bool,
}

impl Follower {
    async fn run(&mut self, client: &Client) {
        let mut watch = client.follow_on(&self.here, &self.unit, For::ADaemon);
        let mut picture = Picture::default();
        loop {
            match watch.next().await {
                Ok(News::Begun) => picture = Picture::default(),
                Ok(News::Line(line)) => self.take(line, &mut picture),
                Ok(News::Lost(error)) => tracing::debug!("{}: {}", self.unit, brief(&error)),
                Ok(News::Broken | News::Back) => {}
                // Never on behalf of a daemon.
                Err(error) => return tracing::warn!("{}: {}", self.unit, brief(&error)),
            }
        }
    }

    fn take(&mut self, line: WatchLine, picture: &mut Picture) {
        match line {
            WatchLine::Unit(view) if view.name == self.unit => {
                (picture.told, self.known) = (true, true);
                self.say(stand(&view, &self.here));
            }
            WatchLine::Removed(name) if name == self.unit => {
                self.say(Stand { up: false, why: format!("{name} has been destroyed") });
            }
            // Only the first one says that what wasn't told isn't there. When the store has forgotten where the stream
            // was, the same stream is synced again, without what is as it was; what is gone since is told as removed.
            WatchLine::Synced(_) => {
                let first = !std::mem::replace(&mut picture.whole, true);
                if first && !picture.told {
                    self.missing();
                }
            }
            _ => {}
        }
    }

    fn missing(&self) {
        let unit = &self.unit;
        if self.known {
            self.say(Stand { up: false, why: format!("{unit} has been destroyed") });
            return;
        }
        // A unit of this host only, which systemd has started for all we know: it started us.
        if !self.tell.borrow().up {
            tracing::warn!(
                "{unit} is no unit of the cluster: announcing it until this sidecar is stopped (say BindsTo={unit} \
                 and After={unit} in its unit)"
            );
        }
        self.say(Stand { up: true, why: String::new() });
    }

    fn say(&self, stand: Stand) {
        self.tell.send_if_modified(|said| {
            let changed = *said != stand;
            *said = stand;
            changed
        });
    }
}

/// What the host says of the unit.
fn stand(view: &UnitView, here: &MachineId) -> Stand {
    let unit = &view.name;
    let Some(state) = view.states.iter().find(|state| state.machine.id == *here) else {
        return Stand { up: false, why: format!("{unit} isn't on this host") };
    };
    // One that reloads its configuration goes on serving.
    let up = matches!(state.active.as_str(), "active" | "reloading" | "refreshing");
    let why = if up { String::new() } else { format!("{unit} is {} ({})", state.active, state.sub) };
    Stand { up, why }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::revision::Revision;

    fn follower() -> (Follower, watch::Receiver<Stand>) {
        let (tell, stand) = watch::channel(Stand { up: false, why: "waiting".into() });
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
        let mut picture = Picture::default();
        for line in [active(), synced(), synced()] {
            follower.take(line, &mut picture);
            assert!(stand.borrow().up, "{:?}", stand.borrow());
        }
        follower.take(WatchLine::Removed("web.service".parse().unwrap()), &mut picture);
        assert!(!stand.borrow().up);
        follower.take(synced(), &mut picture);
        assert!(!stand.borrow().up, "and it stays so");
    }

    #[test]
    fn what_a_new_stream_doesnt_tell_is_gone() {
        let (mut follower, stand) = follower();
        let mut picture = Picture::default();
        follower.take(active(), &mut picture);
        follower.take(synced(), &mut picture);
        follower.take(synced(), &mut Picture::default());
        assert_eq!(*stand.borrow(), Stand { up: false, why: "web.service has been destroyed".into() });
    }
}
