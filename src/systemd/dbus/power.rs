//! The host's power, through logind: it tells users, and waits for inhibitor locks, before it asks systemd to reboot.
//! Must never ask systemd itself, which would do neither.

use zbus::proxy::CacheProperties;

use super::Dbus;
use super::proxy::classify;
use crate::systemd::Error;

#[zbus::proxy(
    interface = "org.freedesktop.login1.Manager",
    default_service = "org.freedesktop.login1",
    default_path = "/org/freedesktop/login1"
)]
trait LoginManager {
    fn reboot(&self, interactive: bool) -> zbus::Result<()>;
}

impl Dbus {
    /// Ask for a reboot.
    pub(super) async fn ask_login_manager(&self) -> Result<(), Error> {
        if self.shared.options.user {
            return Err(Error::Refused("the systemd of a user can't reboot the host".into()));
        }
        let manager = self.manager().await?;
        let logind = LoginManagerProxy::builder(manager.inner().connection()).cache_properties(CacheProperties::No);
        let logind = logind.build().await.map_err(|error| classify(&error))?;
        logind.reboot(false).await.map_err(|error| match classify(&error) {
            Error::Unavailable(why) => Error::Unavailable(format!("logind doesn't answer: {why}")),
            other => other,
        })
    }
}
