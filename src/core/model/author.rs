//! Who asked for a change: by what the kernel says of a connection, never by what a client says of itself.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::name::MachineId;

/// Who asked for a change. A client on a unix socket has a user, one on TCP an address. A field that isn't known is
/// left out.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "testing", derive(schemars::JsonSchema))]
pub struct Author {
    /// The host whose daemon was asked: users and processes are that host's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<MachineId>,
    /// The user's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// The user's name, if that host has the user in `/etc/passwd`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// The unit of systemd that the process belongs to: a session or a service.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub unit: String,
    /// The address of a client on TCP.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub address: String,
}

impl Author {
    /// The shortest words for it: the user's name or id, or else the address; `None` if nothing is known.
    #[must_use]
    pub fn name(&self) -> Option<String> {
        match (self.uid, &*self.user) {
            (Some(uid), "") => Some(format!("uid {uid}")),
            (Some(_), user) => Some(user.to_owned()),
            (None, _) => Some(self.address.clone()).filter(|address| !address.is_empty()),
        }
    }
}

/// `root (uid 0) in session-4.scope`, `uid 1000`, `127.0.0.1`, `unknown`.
impl fmt::Display for Author {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.uid, &*self.user) {
            (Some(uid), "") => write!(f, "uid {uid}")?,
            (Some(uid), user) => write!(f, "{user} (uid {uid})")?,
            (None, _) if self.address.is_empty() => f.write_str("unknown")?,
            (None, _) => f.write_str(&self.address)?,
        }
        if self.unit.is_empty() { Ok(()) } else { write!(f, " in {}", self.unit) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_log_names_the_author() {
        let root = Author { uid: Some(0), user: "root".into(), unit: "session-4.scope".into(), ..Author::default() };
        assert_eq!(root.to_string(), "root (uid 0) in session-4.scope");
        assert_eq!(Author { uid: Some(1000), ..Author::default() }.to_string(), "uid 1000");
        assert_eq!(Author { address: "127.0.0.1".into(), ..Author::default() }.to_string(), "127.0.0.1");
        assert_eq!(Author::default().to_string(), "unknown");
    }

    #[test]
    fn a_sentence_names_the_author_in_short() {
        let name = |uid, user: &str, address: &str| {
            Author { uid, user: user.into(), address: address.into(), ..Author::default() }.name()
        };
        assert_eq!(name(Some(0), "root", "").as_deref(), Some("root"));
        assert_eq!(name(Some(1000), "", "").as_deref(), Some("uid 1000"));
        assert_eq!(name(None, "", "10.0.0.7").as_deref(), Some("10.0.0.7"));
        assert_eq!(name(None, "", ""), None);
    }
}
