//! What systemd tells by itself, over a connection of its own, as [`Event`]s.
//!
//! Owns one task for each subscription: it drains the connection whatever happens (zbus stops a connection whose
//! messages nobody takes), drops what isn't ours by the object path alone, before any body is read, and joins what
//! comes in bursts. It must never ask systemd about a unit: events carry no state.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};
use zbus::message::Type;
use zbus::{Message, MessageStream};

use super::Options;
use super::proxy::{self, MANAGER, PATH, SERVICE, classify};
use crate::model::name::UnitName;
use crate::model::systemd::JobResult;
use crate::systemd::{Error, Event};

/// Changes of one unit within so long are one event: systemd tells of each step (`activating`, `active`, the job's end)
/// by itself.
const JOIN: Duration = Duration::from_millis(10);
/// Longest wait between two attempts to reach the bus.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// What the bus sends us; it filters better than we could. Paths by namespace and not by unit: the bus tries every rule
/// on every message, and a thousand rules would cost it more than the other units' signals cost us. A unit's state
/// stands in its `Unit` interface; its type's own interface (`Service`, …) is as chatty and is left away.
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

/// Follow systemd until the receiver is dropped: through the bus's death and return, each return told as a
/// [`Event::Resync`].
pub(super) async fn follow(options: Arc<Options>, ours: Ours, events: mpsc::UnboundedSender<Event>) {
    let mut wait = Duration::ZERO;
    loop {
        let closed = tokio::select! {
            () = events.closed() => return,
            closed = attempt(&options, &ours, &events, &mut wait) => closed,
        };
        if let Err(error) = closed {
            if wait.is_zero() {
                tracing::warn!(%error, "systemd can't be followed");
            } else {
                tracing::debug!(%error, "systemd still can't be followed");
            }
        }
        wait = (wait * 2).clamp(Duration::from_millis(50), LONGEST_WAIT);
        tokio::select! {
            () = events.closed() => return,
            () = sleep(wait) => {}
        }
    }
}

/// One connection's life. `wait` goes back to nothing once systemd is followed.
async fn attempt(
    options: &Options,
    ours: &Ours,
    events: &mpsc::UnboundedSender<Event>,
    wait: &mut Duration,
) -> Result<(), Error> {
    let connection = proxy::connect(options).await?;
    // Before the first rule, so that not even the first signal is missed.
    let mut messages = MessageStream::from(&connection);
    // The calls below are answered while their answers also wait in `messages`, which has room for many more.
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
    let mut joined = Joined::new(events.clone());
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
            Signal::Event(Event::Changed(unit)) => joined.changed(unit),
            Signal::Event(Event::JobDone { unit, result }) => joined.job_done(unit, result),
            Signal::Event(Event::Resync) => joined.resync(),
            // Away: wait for its return. Come back, perhaps as another process: it knows no subscribers.
            Signal::Owner(new) if new.is_empty() => owner = new,
            Signal::Owner(new) => {
                owner = new;
                subscribe(&manager, &mut messages).await?;
                joined.resync();
            }
        }
    }
}

/// Subscribe, dropping what comes meanwhile: the answer comes behind it on the same connection, and a [`Event::Resync`]
/// follows.
async fn subscribe(manager: &proxy::ManagerProxy<'static>, messages: &mut MessageStream) -> Result<(), Error> {
    let subscribed = manager.subscribe();
    tokio::pin!(subscribed);
    loop {
        let message = tokio::select! {
            result = &mut subscribed => return match result {
                // It remembers us from before it executed itself anew.
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

/// What one message means.
enum Signal {
    Event(Event),
    /// systemd's name on the bus has another owner: empty for none.
    Owner(String),
    Other,
}

/// The new owner of systemd's name, if that is what the message tells.
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
    // Anybody on the bus may send us a signal in systemd's name.
    if sender.as_str() != owner {
        return Signal::Other;
    }
    let event = match (member.as_str(), header.interface().map(|i| i.as_str())) {
        ("PropertiesChanged", _) => ours.at(path.as_str()).map(Event::Changed),
        ("JobRemoved", Some(MANAGER)) if path.as_str() == PATH => {
            let body = message.body();
            let Ok((_, _, unit, result)) = body.deserialize::<proxy::JobRemoved<'_>>() else { return Signal::Other };
            ours.at(&proxy::unit_path(unit)).map(|unit| Event::JobDone { unit, result: result.into() })
        }
        // `true` when it begins, `false` when it has ended.
        ("Reloading", Some(MANAGER)) => match message.body().deserialize::<bool>() {
            Ok(false) => Some(Event::Resync),
            _ => None,
        },
        _ => None,
    };
    event.map_or(Signal::Other, Signal::Event)
}

/// Events on their way to the subscriber, changes joined.
struct Joined {
    events: mpsc::UnboundedSender<Event>,
    changed: BTreeSet<UnitName>,
    due: Option<Instant>,
}

impl Joined {
    fn new(events: mpsc::UnboundedSender<Event>) -> Self {
        Self { events, changed: BTreeSet::new(), due: None }
    }

    fn changed(&mut self, unit: UnitName) {
        self.changed.insert(unit);
        self.due.get_or_insert_with(|| Instant::now() + JOIN);
    }

    /// Goes out at once, after the change of its unit that came before it.
    fn job_done(&mut self, unit: UnitName, result: JobResult) {
        if let Some(unit) = self.changed.take(&unit) {
            self.send(Event::Changed(unit));
        }
        self.send(Event::JobDone { unit, result });
    }

    /// Says more than all changes that are waiting.
    fn resync(&mut self) {
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

    /// A subscriber that is gone ends the task by itself: see [`follow`].
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
        let mut joined = Joined::new(sender);
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
    }
}
