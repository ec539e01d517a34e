//! What a planning round writes about hosts, and how operators read it. Plain values; must never decide anything.

use std::fmt;

use crate::model::cluster::{Change, Versioned};
use crate::model::machine::KnownHost;
use crate::model::name::{MachineId, UnitName};
use crate::model::revision::Revision;

use super::{Host, Write};

/// How many units of a host that is gone are named.
const NAMED: usize = 3;

/// What to write about one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostDecision {
    /// The host.
    pub host: MachineId,
    /// Its record.
    pub write: Write<KnownHost>,
    /// Why.
    pub why: HostEvent,
}

/// What happened to a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostEvent {
    /// It is new.
    Joined,
    /// It has another name, address or version.
    Changed,
    /// It is gone since now: an earlier leader, whose clock was ahead, had noted a moment that is yet to come.
    Dated,
    /// Its lease has ended.
    Gone {
        /// The record of the host, as it was.
        known: KnownHost,
        /// Its units, and what became of each.
        units: Vec<(UnitName, Fate)>,
    },
    /// Its lease has ended, and its units stay assigned to it for a while.
    Held(KnownHost),
    /// It was gone for so many seconds, and is registered again.
    Back(KnownHost, u64),
    /// It has been gone for longer than too many others.
    Dropped(KnownHost),
}

/// What became of a unit whose host is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It is placed on this host now.
    Moved(Host),
    /// No other host fits, for these reasons.
    Waiting(String),
    /// It runs nowhere in its place: it is global, or was to be removed.
    Ended,
    /// It waits for the host (`MoveAfterSec=`).
    Kept,
}

impl HostDecision {
    /// The change that the store's watch will deliver once this is committed as `revision`.
    #[must_use]
    pub fn change(&self, revision: Revision) -> Change {
        let known = self.write.after.clone().map(|value| Versioned { value, revision });
        Change::Roster(self.host.clone(), known)
    }

    /// Whether the host is one of many that vanished together.
    #[must_use]
    pub fn is_mass_loss(&self) -> bool {
        let gone = self.write.after.as_ref().and_then(|known| known.gone);
        gone.and_then(|gone| gone.held).is_some_and(|held| held.mass_loss)
    }

    /// How operators refer to the host: its name, its address and the beginning of its id.
    #[must_use]
    pub fn title(&self) -> String {
        let known = match &self.why {
            HostEvent::Gone { known, .. }
            | HostEvent::Held(known)
            | HostEvent::Back(known, _)
            | HostEvent::Dropped(known) => Some(known),
            HostEvent::Joined | HostEvent::Changed | HostEvent::Dated => self.write.after.as_ref(),
        };
        let (name, ip) = known.map(|known| (known.hostname.as_str(), known.ip.as_str())).unwrap_or_default();
        let id = self.host.short();
        if ip.is_empty() { format!("{name} ({id})") } else { format!("{name} ({ip}, {id})") }
    }
}

/// As a line of the log: `n2 (10.0.0.2, d0c212b0) is gone: its lease has ended; of its 2 units …`.
impl fmt::Display for HostDecision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let title = self.title();
        match &self.why {
            HostEvent::Joined => write!(f, "{title} has joined"),
            HostEvent::Changed => write!(f, "{title} has another name, address or version"),
            HostEvent::Dated => {
                write!(f, "{title} was noted as gone since a moment that is yet to come; it counts from now")
            }
            HostEvent::Gone { units, .. } => write!(f, "{title} is gone: its lease has ended; {}", Outcome(units)),
            HostEvent::Held(_) if self.is_mass_loss() => {
                write!(f, "{title} is gone, as are many other hosts: its lease has ended; its units are held")
            }
            HostEvent::Held(_) => {
                write!(
                    f,
                    "{title} is gone: its lease has ended; its units are held until it is known whether others follow"
                )
            }
            HostEvent::Back(_, seconds) => write!(f, "{title} is back after {seconds} s"),
            HostEvent::Dropped(_) => write!(f, "{title} is forgotten: too many hosts went after it"),
        }
    }
}

/// `of its 4 units 2 were moved (a.service to n1, b.service to n3), 1 waits (c.service: 2 of 2 hosts: conflict), 1
/// ended (d.service)`.
struct Outcome<'a>(&'a [(UnitName, Fate)]);

impl fmt::Display for Outcome<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut groups = [const { Vec::new() }; 4];
        for (unit, fate) in self.0 {
            match fate {
                Fate::Moved(host) => groups[0].push(format!("{unit} to {}", host.name.as_deref().unwrap_or("?"))),
                Fate::Waiting(why) => groups[1].push(format!("{unit}: {why}")),
                Fate::Ended => groups[2].push(unit.to_string()),
                Fate::Kept => groups[3].push(unit.to_string()),
            }
        }
        match self.0.len() {
            0 => return f.write_str("it had no units"),
            1 => f.write_str("of its 1 unit ")?,
            all => write!(f, "of its {all} units ")?,
        }
        let words =
            [["was moved", "were moved"], ["waits", "wait"], ["ended", "ended"], ["waits for it", "wait for it"]];
        let mut comma = "";
        for (units, words) in groups.iter().zip(words).filter(|(units, _)| !units.is_empty()) {
            let named: Vec<&str> = units.iter().take(NAMED).map(String::as_str).collect();
            let word = words[usize::from(units.len() > 1)];
            write!(f, "{comma}{} {word} ({}", units.len(), named.join(", "))?;
            match units.len() - named.len() {
                0 => f.write_str(")")?,
                more => write!(f, " and {more} more)")?,
            }
            comma = ", ";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_became_of_its_units_is_counted_and_the_first_are_named() {
        let unit = |name: &str, fate| (format!("{name}.service").parse().unwrap(), fate);
        let to = |name: &str| Fate::Moved(Host { id: "9".repeat(32).parse().unwrap(), name: Some(name.into()) });
        let waits = Fate::Waiting("2 of 2 hosts: conflict".into());
        let cases = [
            (vec![], "it had no units"),
            (vec![unit("a", to("n1"))], "of its 1 unit 1 was moved (a.service to n1)"),
            (
                vec![
                    unit("a", to("n1")),
                    unit("b", waits),
                    unit("c", Fate::Ended),
                    unit("d", to("n3")),
                    unit("e", to("n1")),
                    unit("f", to("n1")),
                    unit("g", Fate::Ended),
                ],
                "of its 7 units 4 were moved (a.service to n1, d.service to n3, e.service to n1 and 1 more), 1 waits \
                 (b.service: 2 of 2 hosts: conflict), 2 ended (c.service, g.service)",
            ),
        ];
        for (units, text) in cases {
            assert_eq!(Outcome(&units).to_string(), text);
        }
    }
}
