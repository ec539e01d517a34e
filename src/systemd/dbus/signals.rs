//! systemd's signals, received over a separate connection, as [`Event`]s.
//!
//! Owns one task for each subscription. It always drains the connection (zbus stalls a connection whose messages aren't
//! taken), drops changes of units that aren't ours by their object path, without decoding the message, and coalesces
//! bursts. It must never ask systemd about a unit: events carry no state.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};
use zbus::message::Type;
use zbus::{Message, MessageStream};

use super::Options;
use super::probes::Probes;
use super::proxy::{self, MANAGER, PATH, SERVICE, classify};
use crate::model::exec_probe;
use crate::model::name::UnitName;
use crate::model::systemd::JobResult;
use crate::systemd::{Error, Event};

/// Changes of one unit within this time become one event: systemd signals each step (`activating`, `active`, the end of
/// the job) separately.
const JOIN: Duration = Duration::from_millis(10);
/// The longest wait between two attempts to connect.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// The match rules for the bus, which filters more cheaply than we could. They match units by path namespace and not
/// one by one: the bus tries every rule on every message, and a thousand rules would cost it more than the other units'
/// signals cost us. A unit's state is in its `Unit` interface; the interface of its type (`Service`, …) sends many
/// more signals and isn't matched.
const RULES: [&str; 4] = [
    "type='signal',sender='org.freedesktop.systemd1',path='/org/freedesktop/systemd1',\
     interface='org.freedesktop.systemd1.Manager',member='JobRemoved'",
    "type='signal',sender='org.freedesktop.systemd1',path='/org/freedesktop/systemd1',\
     interface='org.freedesktop.systemd1.Manager',member='Reloading'",
    "type='signal',sender='org.freedesktop.systemd1',path_namespace='/org/freedesktop/systemd1/unit',\
     interface='org.freedesktop.DBus.Properties',member='PropertiesChanged',arg0='org.freedesktop.systemd1.Unit'",
    "type='signal',sender='org.freedesktop.DBus',interface='org.freedesktop.DBus',member='NameOwnerChanged',\
     arg0='org.freedesktop.systemd1'",
];

/// The units whose events are wanted, by object path.
#[derive(Debug, Clone, Default)]
pub(super) struct Ours {
    by_path: Arc<Mutex<HashMap<String, UnitName>>>,
}

impl Ours {
    pub(super) fn add<'a>(&self, names: impl IntoIterator<Item = &'a UnitName>) {
        let mut by_path = self.by_path.lock().unwrap_or_else(PoisonError::into_inner);
        by_path.extend(names.into_iter().map(|name| (proxy::unit_path(name.as_str()), name.clone())));
    }

    pub(super) fn forget(&self, names: &[UnitName]) {
        let mut by_path = self.by_path.lock().unwrap_or_else(PoisonError::into_inner);
        for name in names {
            by_path.remove(&proxy::unit_path(name.as_str()));
        }
    }

    fn at(&self, path: &str) -> Option<UnitName> {
        self.by_path.lock().unwrap_or_else(PoisonError::into_inner).get(path).cloned()
    }
}

/// Receive signals until the receiver is dropped, reconnecting when the bus goes away. Each new connection begins with
/// an [`Event::Resync`].
pub(super) async fn follow(options: Arc<Options>, ours: Ours, probes: Probes, events: mpsc::UnboundedSender<Event>) {
    let mut wait = Duration::ZERO;
    loop {
        let closed = tokio::select! {
            () = events.closed() => return,
            closed = attempt(&options, &ours, &probes, &events, &mut wait) => closed,
        };
        if let Err(error) = closed {
            if wait.is_zero() {
                tracing::warn!(%error, "can't receive systemd's signals");
            } else {
                tracing::debug!(%error, "still can't receive systemd's signals");
            }
        }
        wait = (wait * 2).clamp(Duration::from_millis(50), LONGEST_WAIT);
        tokio::select! {
            () = events.closed() => return,
            () = sleep(wait) => {}
        }
    }
}

/// One connection, from connecting until it fails. Resets `wait` once the subscription is active.
async fn attempt(
    options: &Options,
    ours: &Ours,
    probes: &Probes,
    events: &mpsc::UnboundedSender<Event>,
    wait: &mut Duration,
) -> Result<(), Error> {
    let connection = proxy::connect(options).await?;
    // Created before the first match rule, so that no signal is missed.
    let mut messages = MessageStream::from(&connection);
    // The replies of the calls below are also queued in `messages`, which has room for many more.
    let bus = zbus::fdo::DBusProxy::new(&connection).await.map_err(|error| classify(&error))?;
    for rule in RULES {
        let rule = zbus::MatchRule::try_from(rule).map_err(|error| classify(&error))?;
        bus.add_match_rule(rule).await.map_err(|error| classify(&error.into()))?;
    }
    let name = zbus::names::BusName::try_from(SERVICE).map_err(|error| classify(&error))?;
    let mut owner = match bus.get_name_owner(name).await {
        Ok(owner) => owner.to_string(),
        Err(error) => return Err(classify(&error.into())),
    };
    let manager = proxy::manager(&connection).await?;
    subscribe(&manager, &mut messages).await?;
    *wait = Duration::ZERO;
    let mut joined = Joined::new(events.clone(), probes.clone());
    joined.resync();
    loop {
        let message = tokio::select! {
            message = messages.next() => message,
            () = joined.due() => {
                joined.flush();
                continue;
            }
        };
        let message = match message {
            Some(Ok(message)) => message,
            Some(Err(error)) => return Err(classify(&error)),
            None => return Err(Error::Unavailable("the bus closed the connection".into())),
        };
        match read(&message, &owner, ours) {
            Signal::Other => {}
            Signal::Probe(unit) => probes.job_ended(&unit),
            Signal::Event(Event::Changed(unit)) => joined.changed(unit),
            Signal::Event(Event::JobDone { unit, result }) => joined.job_done(unit, result),
            Signal::Event(Event::Resync) => joined.resync(),
            // An empty name: wait until systemd returns. A new name: it may be a new process, which has no subscribers.
            Signal::Owner(new) if new.is_empty() => owner = new,
            Signal::Owner(new) => {
                owner = new;
                subscribe(&manager, &mut messages).await?;
                joined.resync();
            }
        }
    }
}

/// Subscribe, dropping the messages that arrive before the reply: an [`Event::Resync`] follows.
async fn subscribe(manager: &proxy::ManagerProxy<'static>, messages: &mut MessageStream) -> Result<(), Error> {
    let subscribed = manager.subscribe();
    tokio::pin!(subscribed);
    loop {
        let message = tokio::select! {
            result = &mut subscribed => return match result {
                // systemd still has the subscription from before it re-executed itself.
                Err(zbus::Error::MethodError(name, ..)) if name.as_str().ends_with(".AlreadySubscribed") => Ok(()),
                result => result.map_err(|error| classify(&error)),
            },
            message = messages.next() => message,
        };
        match message {
            Some(Ok(message)) if owner_changed(&message).is_some() => {
                return Err(Error::Unavailable("systemd left the bus just now".into()));
            }
            Some(_) => {}
            None => return Err(Error::Unavailable("the bus closed the connection".into())),
        }
    }
}

/// The meaning of a message.
enum Signal {
    Event(Event),
    /// A job of a unit in which a probe runs has ended.
    Probe(String),
    /// systemd's name on the bus has a new owner; empty if it has none.
    Owner(String),
    Other,
}

/// The new owner of systemd's name, if the message announces one.
fn owner_changed(message: &Message) -> Option<String> {
    let header = message.header();
    let by_bus = header.sender().is_some_and(|sender| sender.as_str() == "org.freedesktop.DBus");
    if !by_bus || header.member().is_none_or(|member| member.as_str() != "NameOwnerChanged") {
        return None;
    }
    let body = message.body();
    let (name, _, new) = body.deserialize::<(&str, &str, &str)>().ok()?;
    (name == SERVICE).then(|| new.to_owned())
}

fn read(message: &Message, owner: &str, ours: &Ours) -> Signal {
    if message.message_type() != Type::Signal {
        return Signal::Other;
    }
    if let Some(new) = owner_changed(message) {
        return Signal::Owner(new);
    }
    let header = message.header();
    let (Some(path), Some(member), Some(sender)) = (header.path(), header.member(), header.sender()) else {
        return Signal::Other;
    };
    // Any client of the bus may send signals that look like systemd's.
    if sender.as_str() != owner {
        return Signal::Other;
    }
    let event = match (member.as_str(), header.interface().map(|i| i.as_str())) {
        ("PropertiesChanged", _) => ours.at(path.as_str()).map(Event::Changed),
        ("JobRemoved", Some(MANAGER)) if path.as_str() == PATH => {
            let body = message.body();
            let Ok((_, _, unit, result)) = body.deserialize::<proxy::JobRemoved<'_>>() else { return Signal::Other };
            if unit.starts_with(exec_probe::PREFIX) {
                return Signal::Probe(unit.to_owned());
            }
            ours.at(&proxy::unit_path(unit)).map(|unit| Event::JobDone { unit, result: result.into() })
        }
        // `true` at the beginning of a reload, `false` at its end.
        ("Reloading", Some(MANAGER)) => match message.body().deserialize::<bool>() {
            Ok(false) => Some(Event::Resync),
            _ => None,
        },
        _ => None,
    };
    event.map_or(Signal::Other, Signal::Event)
}

/// Events to be sent to the subscriber; changes are coalesced. Probes are told at once.
struct Joined {
    events: mpsc::UnboundedSender<Event>,
    probes: Probes,
    changed: BTreeSet<UnitName>,
    due: Option<Instant>,
}

impl Joined {
    fn new(events: mpsc::UnboundedSender<Event>, probes: Probes) -> Self {
        Self { events, probes, changed: BTreeSet::new(), due: None }
    }

    fn changed(&mut self, unit: UnitName) {
        self.probes.changed(&unit);
        self.changed.insert(unit);
        self.due.get_or_insert_with(|| Instant::now() + JOIN);
    }

    /// Sent at once, after a pending change of the same unit.
    fn job_done(&mut self, unit: UnitName, result: JobResult) {
        if let Some(unit) = self.changed.take(&unit) {
            self.send(Event::Changed(unit));
        }
        self.send(Event::JobDone { unit, result });
    }

    /// Replaces all pending changes.
    fn resync(&mut self) {
        self.probes.resync();
        self.changed.clear();
        self.send(Event::Resync);
    }

    fn flush(&mut self) {
        self.due = None;
        for unit in std::mem::take(&mut self.changed) {
            self.send(Event::Changed(unit));
        }
    }

    async fn due(&self) {
        match self.due {
            Some(at) => sleep_until(at).await,
            None => std::future::pending().await,
        }
    }

    /// If the subscriber has gone away, [`follow`] ends the task.
    fn send(&self, event: Event) {
        let _ = self.events.send(event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> UnitName {
        name.parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn changes_join_and_job_ends_neither_wait_nor_overtake() {
        let (sender, mut receiver) = mpsc::unbounded_channel();
        let mut joined = Joined::new(sender, Probes::default());
        for unit in ["b.service", "a.service", "b.service", "a.service"] {
            joined.changed(name(unit));
        }
        joined.job_done(name("b.service"), "done".into());
        let done = Event::JobDone { unit: name("b.service"), result: "done".into() };
        assert_eq!(receiver.try_recv(), Ok(Event::Changed(name("b.service"))));
        assert_eq!(receiver.try_recv(), Ok(done));
        assert!(receiver.try_recv().is_err());
        let before = Instant::now();
        joined.due().await;
        assert_eq!(before.elapsed(), JOIN);
        joined.flush();
        assert_eq!(receiver.try_recv(), Ok(Event::Changed(name("a.service"))));
        assert!(receiver.try_recv().is_err());
    }

    #[test]
    fn every_rule_is_one() {
        for rule in RULES {
            zbus::MatchRule::try_from(rule).unwrap();
        }
    }

    #[test]
    fn signals_of_others_and_by_others_are_dropped() {
        let ours = Ours::default();
        ours.add([&name("a.service")]);
        let job = |sender: &str, unit: &str| {
            let job = zbus::ObjectPath::try_from("/org/freedesktop/systemd1/job/1").unwrap();
            let signal = Message::signal(PATH, MANAGER, "JobRemoved").sender(sender);
            signal.build(&(1_u32, job, unit, "failed")).unwrap()
        };
        let done = Event::JobDone { unit: name("a.service"), result: "failed".into() };
        assert!(matches!(read(&job(":1.1", "a.service"), ":1.1", &ours), Signal::Event(event) if event == done));
        assert!(matches!(read(&job(":1.9", "a.service"), ":1.1", &ours), Signal::Other));
        assert!(matches!(read(&job(":1.1", "b.service"), ":1.1", &ours), Signal::Other));
        let probe = read(&job(":1.1", "fleet-probe-a-0.service"), ":1.1", &ours);
        assert!(matches!(probe, Signal::Probe(unit) if unit == "fleet-probe-a-0.service"));
    }
}
