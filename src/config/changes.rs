//! The effect of a reload: the keys whose value differs, and whether a running daemon can apply them. Pure.

use super::{EtcdSettings, Settings, StoreSettings};

/// The difference between two configurations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Keys that take effect at once.
    pub live: Vec<&'static str>,
    /// Keys that require a restart.
    pub restart: Vec<&'static str>,
}

impl Changes {
    /// From `old` to `new`.
    #[must_use]
    pub fn between(old: &Settings, new: &Settings) -> Self {
        let mut changes = Self::default();
        let mut live = |key, differs| changes.live.extend(Some(key).filter(|_| differs));
        live("verbosity", old.verbosity != new.verbosity);
        live("public_ip", old.public_ip != new.public_ip);
        live("metadata", old.metadata != new.metadata);
        live("reserve_memory", old.reserved.memory != new.reserved.memory);
        live("reserve_cpu", old.reserved.cpu != new.reserved.cpu);
        live("agent_ttl", old.agent_ttl != new.agent_ttl);
        live("mass_loss_share", old.mass_loss_share != new.mass_loss_share);
        live("mass_loss_grace", old.mass_loss_grace != new.mass_loss_grace);
        live("disable_engine", old.disable_engine != new.disable_engine);
        live("token_limit", old.token_limit != new.token_limit);
        if let (StoreSettings::Etcd(old), StoreSettings::Etcd(new)) = (&old.store, &new.store) {
            live("etcd_servers", old.endpoints != new.endpoints);
            live("etcd_username, etcd_password", old.user != new.user);
            live("etcd_keyfile", old.keyfile != new.keyfile);
            live("etcd_certfile", old.certfile != new.certfile);
            live("etcd_cafile", old.cafile != new.cafile);
            live("etcd_request_timeout", old.request_timeout != new.request_timeout);
        }
        let mut restart = |key, differs| changes.restart.extend(Some(key).filter(|_| differs));
        match (&old.store, &new.store) {
            (StoreSettings::Etcd(EtcdSettings { prefix: old, .. }), StoreSettings::Etcd(new)) => {
                restart("etcd_key_prefix", *old != new.prefix);
            }
            (StoreSettings::Standalone { directory: old }, StoreSettings::Standalone { directory: new }) => {
                restart("state_directory", old != new);
            }
            _ => restart("standalone", true),
        }
        restart("units_directory", old.units_directory != new.units_directory);
        restart("systemd_user", old.systemd_user != new.systemd_user);
        restart("listen", old.listen != new.listen);
        restart("fleetlock", old.fleetlock != new.fleetlock);
        changes
    }
}

impl Settings {
    /// These settings as a daemon that runs with `running` can apply them: those that require a restart stay the same.
    #[must_use]
    pub fn taken_up_by(mut self, running: &Self) -> Self {
        self.store = match (self.store, &running.store) {
            (StoreSettings::Etcd(new), StoreSettings::Etcd(old)) => {
                StoreSettings::Etcd(EtcdSettings { prefix: old.prefix.clone(), ..new })
            }
            (_, old) => old.clone(),
        };
        Self {
            units_directory: running.units_directory.clone(),
            runtime_directory: running.runtime_directory.clone(),
            systemd_user: running.systemd_user,
            listen: running.listen.clone(),
            fleetlock: running.fleetlock,
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::config::{KEYS, settings};

    fn read(text: &str) -> Settings {
        settings("f", text, &BTreeMap::new(), false).unwrap()
    }

    /// A new key that is missing here would be reloaded without a message and without effect.
    #[test]
    fn every_key_is_known_to_a_reload() {
        let values = [
            ("etcd_username", "u\netcd_password=p"),
            ("etcd_password", "p\netcd_username=u"),
            ("etcd_keyfile", "/k\netcd_certfile=/c"),
            ("etcd_certfile", "/c\netcd_keyfile=/k"),
            ("etcd_cafile", "/ca"),
            ("etcd_servers", "http://x:1"),
            ("etcd_key_prefix", "/x/"),
            ("state_directory", "/x\nstandalone=true"),
            ("public_ip", "10.0.0.9"),
            ("metadata", "a=b"),
            ("reserve_cpu", "7%"),
            ("agent_ttl", "77s"),
            ("mass_loss_grace", "77s"),
            ("units_directory", "/x"),
            ("listen", "unix:///x"),
            ("fleetlock", "127.0.0.1:7979"),
            ("token_limit", "7"),
            ("etcd_request_timeout", "7"),
        ];
        for key in KEYS {
            let value = values.iter().find(|(known, _)| *known == key).map_or("1", |(_, value)| value);
            let text = format!("{key}={value}");
            let old = if key == "state_directory" { read("standalone=true") } else { read("") };
            let changes = Changes::between(&old, &read(&text));
            let named =
                changes.live.iter().chain(&changes.restart).any(|named| named.split(", ").any(|name| name == key));
            assert!(named, "{key}: {changes:?}");
            assert_eq!(Changes::between(&old, &old), Changes::default());
        }
    }

    #[test]
    fn what_needs_a_restart_stays() {
        let old = read("metadata=a=b\nunits_directory=/old\netcd_key_prefix=/old/");
        let new = read("units_directory=/new\netcd_key_prefix=/new/\netcd_servers=http://n:1");
        let changes = Changes::between(&old, &new);
        assert_eq!(changes.live, ["metadata", "etcd_servers"]);
        assert_eq!(changes.restart, ["etcd_key_prefix", "units_directory"]);
        let running = new.taken_up_by(&old);
        assert_eq!(Changes::between(&old, &running).restart, [""; 0]);
        assert_eq!(Changes::between(&old, &running).live, ["metadata", "etcd_servers"]);
    }
}
