//! `OnDisconnect=`: what happens to a unit when its host can't renew its lease. Owns the option's values.

use std::str::FromStr;

use super::file::UnitFile;
use super::section::FLEET;

/// The option's name.
pub(super) const OPTION: &str = "OnDisconnect";

/// What happens to a unit when its host can't renew its lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnDisconnect {
    /// It keeps running. While the cluster treats the host as dead, it may run on another host too.
    #[default]
    Keep,
    /// systemd stops it before the lease can have expired, so that it never runs on two hosts.
    Stop,
}

impl FromStr for OnDisconnect {
    type Err = String;
    fn from_str(value: &str) -> Result<Self, String> {
        match value {
            "keep" => Ok(Self::Keep),
            "stop" => Ok(Self::Stop),
            _ => Err(format!("`{OPTION}={value}`: must be keep or stop")),
        }
    }
}

/// Whether systemd must stop the unit with this text before its host's lease can have expired.
#[must_use]
pub fn stops_on_disconnect(text: &str) -> bool {
    UnitFile::parse(text.as_bytes()).is_ok_and(|file| ends_with_lease(&file))
}

/// The same of a file. Other options of the section don't count: a file from a newer version may have unknown ones.
#[must_use]
pub fn ends_with_lease(file: &UnitFile) -> bool {
    file.value(FLEET, OPTION).is_some_and(|value| value.parse() == Ok(OnDisconnect::Stop))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_value_counts_whatever_else_the_section_has() {
        for (section, expected) in [
            ("Global=no", false),
            ("OnDisconnect=stop", true),
            ("OnDisconnect=stop\nOfALaterVersion=yes", true),
            ("OnDisconnect=stop\nOnDisconnect=keep", false),
            ("OnDisconnect=kill", false),
        ] {
            let text = format!("[Service]\nExecStart=/a\n[X-Fleet]\n{section}\n");
            assert_eq!(stops_on_disconnect(&text), expected, "{section}");
        }
        assert!(!stops_on_disconnect("[Unit"));
    }
}
