//! Services: the endpoints in a cluster. A sidecar announces an instance, which lives as long as its lease is renewed.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::name::{MachineId, UnitName};

/// The longest service name in bytes: that of a DNS label (RFC 1035).
pub const MAX_SERVICE: usize = 63;

/// The longest instance name in bytes. It may consist of a unit's and a host's name.
pub const MAX_INSTANCE: usize = 200;

/// The longest address in bytes: that of a DNS name.
pub const MAX_ADDRESS: usize = 253;

/// The most metadata pairs of an instance.
pub const MAX_METADATA: usize = 64;

/// The most bytes of an instance's metadata, including keys.
pub const MAX_METADATA_BYTES: usize = 16 * 1024;

/// The highest weight, as in HAProxy.
pub const MAX_WEIGHT: u16 = 256;

/// The allowed TTLs of an announcement in seconds. etcd grants no shorter leases.
pub const TTL: std::ops::RangeInclusive<u32> = 2..=3600;

/// A regular expression for both kinds of names.
#[cfg(feature = "testing")]
pub const NAME_PATTERN: &str = "^[a-z0-9]([a-z0-9._-]*[a-z0-9])?$";

/// A service: `web`. Lower-case letters, digits, `-`, `_` and `.`, with a letter or digit at both ends: what fits into
/// a DNS name, a variable and a configuration file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(
    feature = "testing",
    derive(schemars::JsonSchema),
    schemars(extend("pattern" = NAME_PATTERN, "maxLength" = MAX_SERVICE))
)]
#[serde(try_from = "String", into = "String")]
pub struct ServiceName(Arc<str>);

/// One of a service's instances: `web-1.n1`. The same letters as [`ServiceName`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(
    feature = "testing",
    derive(schemars::JsonSchema),
    schemars(extend("pattern" = NAME_PATTERN, "maxLength" = MAX_INSTANCE))
)]
#[serde(try_from = "String", into = "String")]
pub struct InstanceName(Arc<str>);

/// Why a string isn't the name of a service or an instance.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The string is empty.
    #[error("the name of {0} cannot be empty")]
    Empty(&'static str),
    /// The string is too long.
    #[error("the name of {0} is longer than {1} bytes")]
    TooLong(&'static str, usize),
    /// A character that isn't allowed.
    #[error("invalid character {1:?} in the name of {0}: lower-case letters, digits, `-`, `_` and `.` are allowed")]
    Character(&'static str, char),
    /// It doesn't begin and end with a letter or digit.
    #[error("the name of {0} must begin and end with a letter or a digit")]
    Ends(&'static str),
}

fn check(what: &'static str, name: &str, longest: usize) -> Result<(), NameError> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if name.is_empty() {
        return Err(NameError::Empty(what));
    }
    if name.len() > longest {
        return Err(NameError::TooLong(what, longest));
    }
    if let Some(bad) = name.chars().find(|c| !(plain(*c) || "-_.".contains(*c))) {
        return Err(NameError::Character(what, bad));
    }
    if !name.starts_with(plain) || !name.ends_with(plain) {
        return Err(NameError::Ends(what));
    }
    Ok(())
}

macro_rules! name {
    ($type:ident, $what:literal, $longest:expr) => {
        impl $type {
            /// The name.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = NameError;
            fn from_str(name: &str) -> Result<Self, NameError> {
                check($what, name, $longest)?;
                Ok(Self(name.into()))
            }
        }

        impl TryFrom<String> for $type {
            type Error = NameError;
            fn try_from(name: String) -> Result<Self, NameError> {
                name.parse()
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> Self {
                (*name.0).into()
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(ServiceName, "a service", MAX_SERVICE);
name!(InstanceName, "an instance", MAX_INSTANCE);

impl InstanceName {
    /// The name of the instance for `unit` on `host`, such as `web-1.n1` for `web@1.service`. Characters that aren't
    /// allowed become `-`.
    ///
    /// # Errors
    /// The result is too long, or contains no letter or digit.
    pub fn of(unit: Option<&UnitName>, host: &str, port: u16) -> Result<Self, NameError> {
        let what = unit.map_or_else(|| format!("port-{port}"), |unit| unit.stem().to_owned());
        let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c.to_ascii_lowercase() } else { '-' };
        let part = |text: &str| text.chars().map(plain).collect::<String>();
        let (what, host) = (part(&what), part(host));
        let ends = |c: char| "-_.".contains(c);
        let (what, host) = (what.trim_matches(ends), host.trim_matches(ends));
        if host.is_empty() { what.parse() } else { format!("{what}.{host}").parse() }
    }
}

/// One instance of a service (`service/<name>/<instance>`; written by the API for its announcer, bound to a lease of
/// its own).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "testing", derive(schemars::JsonSchema))]
pub struct Instance {
    /// Where it is reached: an IP address or a DNS name.
    pub address: String,
    /// And on which port.
    pub port: u16,
    /// Its share of new connections relative to the others; 0 for none: it is to be drained.
    pub weight: u16,
    /// The unit that it stands for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<UnitName>,
    /// The unit that announced it, if it did so over a socket for announcers: only that unit, on that host, may renew
    /// or withdraw it there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub announcer: Option<UnitName>,
    /// The host it was announced on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<MachineId>,
    /// That host's name.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hostname: String,
    /// Whatever else its consumers want to know.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// Distinguishes announcers: an announcer with the same owner takes over this instance. If empty, none can.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub owner: String,
    /// Its time to live in s: it expires after this time without being renewed.
    pub ttl: u32,
    /// Since when it is announced without a break, ms since the epoch.
    pub since: u64,
}

impl Instance {
    /// One that is reached here: with a weight of 1, a time to live of 10 s, and nothing else that anybody has said.
    #[must_use]
    pub fn new(address: impl Into<String>, port: u16) -> Self {
        Self {
            address: address.into(),
            port,
            weight: 1,
            unit: None,
            announcer: None,
            machine: None,
            hostname: String::new(),
            metadata: BTreeMap::new(),
            owner: String::new(),
            ttl: 10,
            since: 0,
        }
    }

    /// All errors in an announcement, one sentence each.
    #[must_use]
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let dns = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if self.address.is_empty() {
            problems.push("`address` is missing: an IP address or a DNS name".into());
        } else if self.address.len() > MAX_ADDRESS
            || self.address.parse::<IpAddr>().is_err() && !self.address.chars().all(dns)
        {
            problems.push(format!("`{}` is neither an IP address nor a DNS name", self.address.escape_debug()));
        } else if self.address.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified()) {
            problems.push(format!("{} is no address that anybody could connect to", self.address));
        }
        if self.port == 0 {
            problems.push("`port` must be from 1 to 65535".into());
        }
        if self.weight > MAX_WEIGHT {
            problems.push(format!("`weight` must be from 0 to {MAX_WEIGHT}, not {}", self.weight));
        }
        if !TTL.contains(&self.ttl) {
            problems.push(format!("`ttl` must be from {} to {} seconds, not {}", TTL.start(), TTL.end(), self.ttl));
        }
        let bytes: usize = self.metadata.iter().map(|(key, value)| key.len() + value.len()).sum();
        if self.metadata.len() > MAX_METADATA || bytes > MAX_METADATA_BYTES {
            let count = self.metadata.len();
            problems.push(format!(
                "`metadata` has {count} pairs and {bytes} bytes; at most {MAX_METADATA} pairs and \
                 {MAX_METADATA_BYTES} bytes are allowed"
            ));
        }
        for key in self.metadata.keys().filter(|key| key.is_empty() || key.chars().any(|c| !dns(c))) {
            problems.push(format!(
                "`{}` is no key of metadata: letters, digits, `-`, `_` and `.` are allowed",
                key.escape_debug()
            ));
        }
        if self.owner.len() > MAX_ADDRESS {
            problems.push(format!("`owner` is longer than {MAX_ADDRESS} bytes"));
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance() -> Instance {
        Instance::new("10.88.0.11", 8080)
    }

    #[test]
    fn names_fit_everywhere() {
        for good in ["web", "a", "db-1", "web_2.example", "1st", &"x".repeat(63)] {
            assert_eq!(good.parse::<ServiceName>().map(|name| name.to_string()), Ok(good.into()));
        }
        for bad in ["", "Web", "web/1", "a b", "-a", "a-", ".", "ä", &"x".repeat(64)] {
            assert!(bad.parse::<ServiceName>().is_err(), "{bad}");
        }
        assert!("x".repeat(64).parse::<InstanceName>().is_ok());
    }

    #[test]
    fn instances_are_named_after_unit_and_host() {
        let name = |unit: &str, host: &str| {
            InstanceName::of(unit.parse().ok().as_ref(), host, 80).map(|name| name.to_string()).unwrap_or_default()
        };
        assert_eq!(name("web@1.service", "n1"), "web-1.n1");
        assert_eq!(name("App\\x2dx.service", "N1.example"), "app-x2dx.n1.example");
        assert_eq!(name("", "n1"), "port-80.n1");
        assert_eq!(name("web.service", ""), "web");
    }

    #[test]
    fn everything_wrong_is_said() {
        assert_eq!(instance().problems(), Vec::<String>::new());
        let mut all = Instance { address: "x y".into(), port: 0, weight: 257, ttl: 1, ..instance() };
        all.metadata.insert("a b".into(), "x".repeat(20_000));
        assert_eq!(all.problems().len(), 6, "{:?}", all.problems());
        for bad in ["", "0.0.0.0", "::", "a\nb", "http://x"] {
            assert_eq!(Instance { address: bad.into(), ..instance() }.problems().len(), 1, "{bad}");
        }
        for good in ["::1", "db.example", "fe80::1"] {
            assert_eq!(Instance { address: good.into(), ..instance() }.problems(), Vec::<String>::new(), "{good}");
        }
    }
}
