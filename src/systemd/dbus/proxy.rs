//! systemd's `Manager` over D-Bus: the methods used, how to connect, and the classification of errors. Owns the
//! signature of every call. It must never retry or choose: that is the caller's decision.

use std::num::NonZeroUsize;
use std::time::Duration;

use zbus::fdo;
use zbus::proxy::CacheProperties;
use zbus::{ObjectPath, OwnedObjectPath, Variant};

use super::Options;
use crate::systemd::{Error, UnitState};

/// systemd's name on the bus.
pub(super) const SERVICE: &str = "org.freedesktop.systemd1";
/// The manager's object.
pub(super) const PATH: &str = "/org/freedesktop/systemd1";
/// The manager's interface.
pub(super) const MANAGER: &str = "org.freedesktop.systemd1.Manager";

/// How long a call may take: 25 s, the default of D-Bus and systemctl. zbus has no timeout by default.
const METHOD_TIMEOUT: Duration = Duration::from_secs(25);
/// How long a reload may take, as in systemctl. systemd does nothing else meanwhile.
pub(super) const RELOAD_TIMEOUT: Duration = Duration::from_secs(180);
/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Messages that zbus buffers for the reader of signals. When the buffer is full, the connection stalls.
const QUEUE: NonZeroUsize = NonZeroUsize::MIN.saturating_add(1023);

/// A row of `ListUnitsByNames` and `ListUnitsByPatterns`.
#[derive(Debug, serde::Deserialize, zbus::zvariant::Type)]
pub(super) struct Row {
    /// The primary name, which may differ from the requested one.
    pub(super) id: String,
    _description: String,
    pub(super) load: String,
    pub(super) active: String,
    pub(super) sub: String,
    _following: String,
    _path: OwnedObjectPath,
    /// 0 for none.
    pub(super) job: u32,
    pub(super) job_type: String,
    _job_path: OwnedObjectPath,
}

impl Row {
    /// The primary name and the state of the unit.
    pub(super) fn into_unit(self) -> (String, UnitState) {
        let job = (self.job != 0).then(|| self.job_type.into());
        (self.id, UnitState { load: self.load.into(), active: self.active.into(), sub: self.sub, job })
    }
}

/// The properties of a transient unit.
pub(super) type Properties<'v> = Vec<(&'v str, Variant<'v>)>;

/// Changes of unit files: kind, link, target. Part of the signature, not used.
type Changes = Vec<(String, String, String)>;

#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
pub(super) trait Manager {
    fn subscribe(&self) -> zbus::Result<()>;
    fn reload(&self) -> zbus::Result<()>;
    fn start_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn stop_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn reset_failed_unit(&self, name: &str) -> zbus::Result<()>;
    fn kill_unit(&self, name: &str, whom: &str, signal: i32) -> zbus::Result<()>;
    fn unref_unit(&self, name: &str) -> zbus::Result<()>;
    fn list_units_by_names(&self, names: &[&str]) -> zbus::Result<Vec<Row>>;
    fn list_units_by_patterns(&self, states: &[&str], patterns: &[&str]) -> zbus::Result<Vec<Row>>;
    fn start_transient_unit(
        &self,
        name: &str,
        mode: &str,
        properties: &[(&str, Variant<'_>)],
        aux: &[(&str, Properties<'_>)],
    ) -> zbus::Result<OwnedObjectPath>;
    fn link_unit_files(&self, files: &[&str], runtime: bool, force: bool) -> zbus::Result<Changes>;
    fn enable_unit_files(&self, files: &[&str], runtime: bool, force: bool) -> zbus::Result<(bool, Changes)>;
    fn disable_unit_files(&self, files: &[&str], runtime: bool) -> zbus::Result<Changes>;
    #[zbus(property)]
    fn version(&self) -> zbus::Result<String>;
    #[zbus(property)]
    fn userspace_timestamp_monotonic(&self) -> zbus::Result<u64>;
    #[zbus(property)]
    fn unit_path(&self) -> zbus::Result<Vec<String>>;
    #[zbus(property)]
    fn system_state(&self) -> zbus::Result<String>;
}

/// A connection to systemd's bus.
pub(super) async fn connect(options: &Options) -> Result<zbus::Connection, Error> {
    connect_for(options, METHOD_TIMEOUT).await
}

/// As [`connect`], with another timeout for its calls: a timeout applies to a whole connection.
pub(super) async fn connect_for(options: &Options, timeout: Duration) -> Result<zbus::Connection, Error> {
    let builder = match (&options.address, options.user) {
        (Some(address), _) => zbus::connection::Builder::address(address.as_str()),
        (None, true) => zbus::connection::Builder::session(),
        (None, false) => zbus::connection::Builder::system(),
    };
    let builder = builder.method_timeout(timeout).max_queued(QUEUE);
    match tokio::time::timeout(CONNECT_TIMEOUT, builder.build()).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(error)) => Err(no_bus(options, &error.to_string())),
        Err(_) => Err(no_bus(options, "no answer within 5 seconds")),
    }
}

/// The manager, over a connection. Its properties are read rarely, so none is cached.
pub(super) async fn manager(connection: &zbus::Connection) -> Result<ManagerProxy<'static>, Error> {
    let built = ManagerProxy::builder(connection).cache_properties(CacheProperties::No).build().await;
    built.map_err(|error| classify(&error))
}

fn no_bus(options: &Options, why: &str) -> Error {
    let (socket, cure) = match (&options.address, options.user) {
        (Some(address), _) => (address.as_str(), "is it running?"),
        (None, true) => (
            "the session bus ($DBUS_SESSION_BUS_ADDRESS, or $XDG_RUNTIME_DIR/bus)",
            "a user's systemd needs `dbus-user-session`, and its bus running: `systemctl --user start dbus.socket`",
        ),
        (None, false) => (
            "/run/dbus/system_bus_socket",
            "install and start `dbus` (or dbus-broker): `systemctl start dbus.socket`; systemd's private socket can't \
             be used",
        ),
    };
    Error::Unavailable(format!("no D-Bus daemon at {socket} ({why}); {cure}"))
}

/// Classify a failed call.
pub(super) fn classify(error: &zbus::Error) -> Error {
    classify_after(METHOD_TIMEOUT, error)
}

/// As [`classify`], after a call that may take as long as `timeout`.
pub(super) fn classify_after(timeout: Duration, error: &zbus::Error) -> Error {
    match error {
        zbus::Error::MethodError(name, text, _) => {
            let sentence = text.clone().unwrap_or_else(|| name.to_string());
            match name.as_str() {
                "org.freedesktop.systemd1.NoSuchUnit" => Error::Missing(sentence),
                // systemd's answer while it shuts down or re-executes itself.
                "org.freedesktop.systemd1.ShuttingDown" => Error::Unavailable(sentence),
                _ => Error::Refused(sentence),
            }
        }
        zbus::Error::FDO(error) => match &**error {
            fdo::Error::ZBus(error) => classify_after(timeout, error),
            fdo::Error::NoReply(text) | fdo::Error::Timeout(text) | fdo::Error::TimedOut(text) => {
                Error::Unavailable(format!("no answer in time: {text}"))
            }
            fdo::Error::ServiceUnknown(text)
            | fdo::Error::NameHasNoOwner(text)
            | fdo::Error::NoServer(text)
            | fdo::Error::NoNetwork(text)
            | fdo::Error::Disconnected(text)
            | fdo::Error::IOError(text)
            | fdo::Error::NoMemory(text)
            | fdo::Error::LimitsExceeded(text)
            | fdo::Error::SpawnChildExited(text)
            | fdo::Error::SpawnFailed(text) => Error::Unavailable(text.clone()),
            fdo::Error::Failed(text)
            | fdo::Error::AccessDenied(text)
            | fdo::Error::InteractiveAuthorizationRequired(text)
            | fdo::Error::InvalidArgs(text)
            | fdo::Error::FileNotFound(text)
            | fdo::Error::FileExists(text) => Error::Refused(text.clone()),
            other => Error::Refused(other.to_string()),
        },
        zbus::Error::InputOutput(error) if error.kind() == std::io::ErrorKind::TimedOut => {
            Error::Unavailable(format!("no answer within {} seconds", timeout.as_secs()))
        }
        other => Error::Unavailable(other.to_string()),
    }
}

/// The object path of a unit (`sd_bus_path_encode`): every byte except letters and digits (and a leading digit) becomes
/// `_` and two hexadecimal digits.
pub(super) fn unit_path(name: &str) -> String {
    use std::fmt::Write as _;
    let mut path = format!("{PATH}/unit/");
    for (index, byte) in name.bytes().enumerate() {
        if byte.is_ascii_alphabetic() || (byte.is_ascii_digit() && index > 0) {
            path.push(char::from(byte));
        } else {
            let _ = write!(path, "_{byte:02x}");
        }
    }
    path
}

/// `JobRemoved`: id, job, unit (its primary name), result.
pub(super) type JobRemoved<'m> = (u32, ObjectPath<'m>, &'m str, &'m str);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unit_paths_are_systemds() {
        assert_eq!(unit_path("web@1-a.service"), "/org/freedesktop/systemd1/unit/web_401_2da_2eservice");
        assert_eq!(unit_path("0_x.timer"), "/org/freedesktop/systemd1/unit/_30_5fx_2etimer");
    }

    #[test]
    fn errors_are_classed_by_what_to_do() {
        let refused = zbus::Error::FDO(Box::new(fdo::Error::AccessDenied("no".into())));
        assert_eq!(classify(&refused), Error::Refused("no".into()));
        let gone = zbus::Error::FDO(Box::new(fdo::Error::NameHasNoOwner("gone".into())));
        assert_eq!(classify(&gone), Error::Unavailable("gone".into()));
        let late = zbus::Error::InputOutput(std::sync::Arc::new(std::io::ErrorKind::TimedOut.into()));
        assert_eq!(classify(&late), Error::Unavailable("no answer within 25 seconds".into()));
    }

    #[tokio::test]
    async fn a_host_without_a_bus_says_what_to_do() {
        let options = Options { address: Some("unix:path=/nonexistent/bus".into()), ..Options::default() };
        let Err(Error::Unavailable(sentence)) = connect(&options).await else { panic!("connected to nothing") };
        assert!(sentence.starts_with("no D-Bus daemon at unix:path=/nonexistent/bus ("), "{sentence}");
        let Error::Unavailable(sentence) = no_bus(&Options::default(), "why") else { panic!() };
        assert!(sentence.contains("/run/dbus/system_bus_socket") && sentence.contains("systemctl start"), "{sentence}");
    }
}
