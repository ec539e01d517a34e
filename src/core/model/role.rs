//! Roles: what the clients of a socket may do. Owns the table of operations and roles, and how a grant is written in
//! `listen=` and in `FileDescriptorName=`. Pure; `api::server` applies it to requests.

use std::fmt;
use std::str::FromStr;

use super::glob::Glob;

/// The role of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Reads what is announced, and announces for its own unit. For sidecars.
    Announcer,
    /// Reads everything, changes nothing.
    Reader,
    /// Reads everything, and changes what is wanted of units whose files are there.
    Operator,
    /// Does everything.
    Admin,
}

/// All roles and their names.
const ROLES: [(Role, &str); 4] =
    [(Role::Announcer, "announcer"), (Role::Reader, "reader"), (Role::Operator, "operator"), (Role::Admin, "admin")];

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = ROLES.iter().find(|(role, _)| role == self).map_or("", |(_, name)| name);
        f.write_str(name)
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = ROLES.iter().find(|(_, name)| *name == text).map(|(role, _)| *role);
        found.ok_or_else(|| format!("`{text}` is no role; these are {}", listed(ROLES.iter().map(|(_, name)| *name))))
    }
}

/// What a request does, as far as roles are concerned. Every route of the API declares one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Read the description of the API.
    Describe,
    /// Read what is announced, and which hosts there are.
    Discover,
    /// Watch what hosts report of units. An announcer may do so for its own unit only.
    Follow,
    /// Read units with their files, reports, hosts and metrics.
    Read,
    /// Announce an instance of a service, or withdraw it. An announcer may do so for its own unit only.
    Announce,
    /// Change what is wanted of a unit: its desired state, or a restart.
    Operate,
    /// Submit a unit's file, or destroy a unit.
    Submit,
    /// Change the metadata of hosts, cordon hosts, and forget hosts that are gone.
    Administer,
}

impl Operation {
    /// The roles that permit it.
    #[must_use]
    pub fn roles(self) -> &'static [Role] {
        match self {
            Self::Describe | Self::Discover | Self::Follow => {
                &[Role::Announcer, Role::Reader, Role::Operator, Role::Admin]
            }
            Self::Read => &[Role::Reader, Role::Operator, Role::Admin],
            Self::Announce => &[Role::Announcer, Role::Admin],
            Self::Operate => &[Role::Operator, Role::Admin],
            Self::Submit | Self::Administer => &[Role::Admin],
        }
    }
}

/// As in `reading units needs the role reader`.
impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Describe => "reading the description of the API",
            Self::Discover => "reading services and hosts",
            Self::Follow => "watching units",
            Self::Read => "reading units",
            Self::Announce => "announcing a service",
            Self::Operate => "changing units",
            Self::Submit => "submitting and destroying units",
            Self::Administer => "administering hosts",
        })
    }
}

/// What a socket grants to its clients. Written as `role=ROLE[&name=GLOB…]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The role.
    pub role: Role,
    /// For an operator, the units that may be changed; for an announcer, the services that may be announced. Empty for
    /// all.
    pub names: Vec<Glob>,
}

impl Grant {
    /// The whole of a role.
    #[must_use]
    pub fn all(role: Role) -> Self {
        Self { role, names: Vec::new() }
    }

    /// Whether it permits `operation`, on some unit at least.
    #[must_use]
    pub fn permits(&self, operation: Operation) -> bool {
        operation.roles().contains(&self.role)
    }

    /// Whether its names include this one.
    #[must_use]
    pub fn includes(&self, name: &str) -> bool {
        self.names.is_empty() || self.names.iter().any(|glob| glob.matches(name))
    }

    /// A grant from `key=value` pairs.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn from_pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, String> {
        let (mut role, mut names) = (None, Vec::new());
        for (key, value) in pairs {
            match key {
                "role" if role.is_some() => return Err("`role` is given twice".into()),
                "role" => role = Some(value.parse()?),
                "name" => names.push(value.parse::<Glob>().map_err(|error| error.to_string())?),
                other => return Err(format!("`{other}` is unknown; `role` and `name` are known")),
            }
        }
        let role = role.ok_or("`role` is missing")?;
        if !matches!(role, Role::Operator | Role::Announcer) && !names.is_empty() {
            return Err(format!("`name` goes with the roles operator and announcer, not with {role}"));
        }
        Ok(Self { role, names })
    }
}

impl FromStr for Grant {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::from_pairs(pairs(text)?)
    }
}

/// `admin`, `operator of web@* and db.service`.
impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.role)?;
        if self.names.is_empty() { Ok(()) } else { write!(f, " of {}", listed(self.names.iter().map(Glob::as_str))) }
    }
}

/// The pairs of `key=value&key=value`. Nothing in it is percent-encoded.
pub(super) fn pairs(text: &str) -> Result<Vec<(&str, &str)>, String> {
    let pair = |pair: &'_ str| format!("`{pair}` must be key=value");
    text.split('&').map(|part| part.split_once('=').ok_or_else(|| pair(part))).collect()
}

/// `a`, `a and b`, `a, b and c`.
pub fn listed<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let words: Vec<&str> = words.into_iter().collect();
    match &words[..] {
        [] => String::new(),
        [one] => (*one).into(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_each_role_permits() {
        use Operation::{Administer, Announce, Describe, Discover, Follow, Operate, Read, Submit};
        let all = [Describe, Discover, Follow, Read, Announce, Operate, Submit, Administer];
        for (role, permitted) in [
            (Role::Announcer, &[Describe, Discover, Follow, Announce][..]),
            (Role::Reader, &[Describe, Discover, Follow, Read]),
            (Role::Operator, &[Describe, Discover, Follow, Read, Operate]),
            (Role::Admin, &all),
        ] {
            let grant = Grant::all(role);
            let found: Vec<Operation> = all.into_iter().filter(|operation| grant.permits(*operation)).collect();
            assert_eq!(found, permitted, "{role}");
        }
    }

    #[test]
    fn a_grant_is_written_as_pairs() {
        for (text, shown) in [
            ("role=reader", "reader"),
            ("role=admin", "admin"),
            ("role=operator", "operator"),
            ("role=announcer&name=web", "announcer of web"),
            ("name=web@*&role=operator&name=[ab].service", "operator of web@* and [ab].service"),
        ] {
            assert_eq!(text.parse::<Grant>().unwrap().to_string(), shown, "{text}");
        }
        for (text, what) in [
            ("", "`` must be key=value"),
            ("admin", "`admin` must be key=value"),
            ("role=root", "`root` is no role; these are announcer, reader, operator and admin"),
            ("role=admin&role=reader", "`role` is given twice"),
            ("name=a", "`role` is missing"),
            ("role=reader&name=a", "`name` goes with the roles operator and announcer, not with reader"),
            ("role=reader&unit=a", "`unit` is unknown; `role` and `name` are known"),
            ("role=operator&name=[", "`[` is no valid pattern: unclosed or empty [class], or a final backslash"),
        ] {
            assert_eq!(text.parse::<Grant>().unwrap_err(), what, "{text}");
        }
    }

    #[test]
    fn names_limit_a_grant() {
        let grant: Grant = "role=operator&name=web@*&name=db.service".parse().unwrap();
        assert!(grant.includes("web@1.service") && grant.includes("db.service") && !grant.includes("web.service"));
        assert!(Grant::all(Role::Operator).includes("a.service"));
    }
}
