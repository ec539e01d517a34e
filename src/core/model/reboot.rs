//! The reboots of hosts: who may reboot now, because it holds a slot, and who waits. Owns how this is worded, and that
//! no host is among them twice; must never decide whose turn it is (`plan::reboot` does).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::author::Author;
use super::maintenance::Drain;
use super::name::MachineId;
use super::revision::Revision;

/// The most hosts that may wait in a group: all of them are in one record.
pub const MAX_QUEUE: usize = 500;

/// A group of hosts that share slots, as FleetLock names it: `default`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(
    feature = "testing",
    derive(schemars::JsonSchema),
    schemars(extend("pattern" = r"^[A-Za-z0-9.-]+$", "maxLength" = 64))
)]
#[serde(try_from = "String", into = "String")]
pub struct Group(String);

/// Why a text isn't the name of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a group has 1 to {} letters, digits, dots and dashes", Group::MAX_LEN)]
pub struct NotAGroup;

impl Group {
    /// The longest name, in bytes.
    const MAX_LEN: usize = 64;
}

/// The group in which people ask for reboots.
impl Default for Group {
    fn default() -> Self {
        Self("default".into())
    }
}

impl FromStr for Group {
    type Err = NotAGroup;

    fn from_str(text: &str) -> Result<Self, NotAGroup> {
        let known = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
        let is_group = !text.is_empty() && text.len() <= Self::MAX_LEN && text.chars().all(known);
        if is_group { Ok(Self(text.into())) } else { Err(NotAGroup) }
    }
}

impl TryFrom<String> for Group {
    type Error = NotAGroup;

    fn try_from(text: String) -> Result<Self, NotAGroup> {
        text.parse()
    }
}

impl From<Group> for String {
    fn from(group: Group) -> Self {
        group.0
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The reboots of a group (`reboot/<group>`; written by the API). Later versions may add fields, which have defaults.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Reboots {
    /// The hosts that may reboot now, each with a slot. One keeps its slot until it is back, or until a person gives it
    /// up: it isn't known of a host that is away whether it needs help, and the next one might need the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub holders: Vec<Holder>,
    /// What people have asked and has yet to begin, in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub queue: Vec<Request>,
}

/// A host with a slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The host.
    pub host: MachineId,
    /// Since when, in ms since the epoch.
    #[serde(default)]
    pub since: u64,
    /// What a person has asked. Without it, a program on the host has, which reboots it by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Box<Request>>,
    /// How the program calls its host; empty if a person has asked. Only noted.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub program: String,
    /// Whether its reboot was begun, or its program may begin it. What a person has asked is begun again until its
    /// `/run` is empty.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub down: bool,
    /// Whether it has rebooted, and takes its units back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub back: bool,
    /// Why it can't go on, if it can't.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub error: String,
}

/// That a host is to reboot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The host.
    pub host: MachineId,
    /// The boot that is to end, as in [`Machine::boot_id`](super::machine::Machine::boot_id).
    pub boot: String,
    /// The revision of the store at which it was asked.
    #[serde(default)]
    pub generation: Revision,
    /// When it was asked, in ms since the epoch.
    #[serde(default)]
    pub since: u64,
    /// How many units that belong to no set may be on their way at once.
    #[serde(default = "Drain::parallel")]
    pub parallel: u32,
    /// After so many seconds, no budget counts any more.
    #[serde(default = "Drain::deadline")]
    pub deadline: u64,
    /// Whether units are stopped that no other host fits.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
    /// Why, in the words of whoever asked for it; empty if nothing was said.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// Who asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Box<Author>>,
}

impl Request {
    /// The drain of the host for its reboot, from `now` on, in ms since the epoch, asked at this revision.
    #[must_use]
    pub fn drain(&self, began: Option<Revision>, (now, generation): (u64, Revision)) -> Drain {
        let Self { parallel, deadline, force, .. } = *self;
        Drain { parallel, deadline, force, by: self.by.clone(), ..drain(&self.why, began, (now, generation)) }
    }
}

/// The drain of a host for its reboot, without what was asked of it in particular.
fn drain(why: &str, began: Option<Revision>, (since, generation): (u64, Revision)) -> Drain {
    let (parallel, deadline) = (Drain::parallel(), Drain::deadline());
    let (globals, force, reboot, by) = (false, false, true, None);
    let why = if why.is_empty() { REBOOT.into() } else { format!("{REBOOT}, {why}") };
    Drain { generation, began, since, parallel, deadline, globals, force, reboot, why, by }
}

/// The reason of a drain for a reboot: `drained by ci: reboot, kernel`.
pub const REBOOT: &str = "reboot";

impl Holder {
    /// A host that gets a slot at `now`, in ms since the epoch, because a person has asked for it.
    #[must_use]
    pub fn of(request: Request, now: u64) -> Self {
        Self { request: Some(Box::new(request.clone())), ..Self::new(request.host, now) }
    }

    /// A host that gets a slot at `now`, in ms since the epoch, because a program on it has asked, which calls the host
    /// `program`.
    #[must_use]
    pub fn of_program(host: MachineId, program: &str, now: u64) -> Self {
        Self { program: program.into(), ..Self::new(host, now) }
    }

    fn new(host: MachineId, since: u64) -> Self {
        let (request, program, down, back, error) = Default::default();
        Self { host, since, request, program, down, back, error }
    }

    /// The drain of a host for a program on it, from `now` on, in ms since the epoch, asked at this revision.
    #[must_use]
    pub fn drain_for_program(began: Option<Revision>, (now, generation): (u64, Revision)) -> Drain {
        drain("as a program on it has asked", began, (now, generation))
    }
}

impl Reboots {
    /// Whether there is nothing to keep: then there is no record.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.holders.is_empty() && self.queue.is_empty()
    }

    /// Whether a host has a slot, or waits for one.
    #[must_use]
    pub fn has(&self, host: &MachineId) -> bool {
        self.holder(host).is_some() || self.queued(host).is_some()
    }

    /// The slot of a host.
    #[must_use]
    pub fn holder(&self, host: &MachineId) -> Option<&Holder> {
        self.holders.iter().find(|holder| holder.host == *host)
    }

    /// What a host waits for.
    #[must_use]
    pub fn queued(&self, host: &MachineId) -> Option<&Request> {
        self.queue.iter().find(|request| request.host == *host)
    }

    /// Without a host, whatever it had.
    #[must_use]
    pub fn without(mut self, host: &MachineId) -> Self {
        self.holders.retain(|holder| holder.host != *host);
        self.queue.retain(|request| request.host != *host);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_named_as_fleetlock_names_them() {
        for good in ["default", "rack-7.b", "A"] {
            assert_eq!(good.parse::<Group>().unwrap().to_string(), good);
        }
        for bad in ["", "a b", "a/b", "ä", &"a".repeat(65)] {
            assert_eq!(bad.parse::<Group>(), Err(NotAGroup), "{bad:?}");
        }
        assert_eq!(NotAGroup.to_string(), "a group has 1 to 64 letters, digits, dots and dashes");
    }

    #[test]
    fn the_drain_for_a_reboot_says_so() {
        let host = "3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a".parse().unwrap();
        let by = Some(Box::new(Author { uid: Some(1001), user: "ci".into(), ..Author::default() }));
        let (boot, generation) = ("b".into(), Revision(3));
        let request =
            Request { host, boot, generation, since: 1, parallel: 2, deadline: 3, force: true, why: "".into(), by };
        let drain = request.drain(None, (5, Revision(7)));
        assert_eq!(drain.to_string(), "drained by ci: reboot");
        assert_eq!((drain.reboot, drain.force, drain.parallel, drain.since), (true, true, 2, 5));
        let kernel = Request { why: "kernel".into(), ..request };
        assert_eq!(kernel.drain(None, (5, Revision(7))).to_string(), "drained by ci: reboot, kernel");
    }
}
