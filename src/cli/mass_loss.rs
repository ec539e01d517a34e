//! What operators read while the units of hosts that vanished together are held. Owns these words; pure.

use crate::api::wire::{MachineList, MachineView};
use crate::cli::error::Line;
use crate::clock::utc;
use crate::model::machine::Held;

/// The most hosts whose names are shown.
const NAMED: usize = 3;

/// A mass loss: hosts that vanished together and whose units aren't moved yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct MassLoss {
    /// The names of the hosts.
    names: Vec<String>,
    /// How many hosts there were before.
    of: usize,
    /// Since when the first of them is gone, in ms since the epoch.
    pub(in crate::cli) since: u64,
    /// Until when the units are held.
    until: u64,
}

impl MassLoss {
    /// The one that `hosts` show, if there is one.
    pub(in crate::cli) fn of(hosts: &MachineList) -> Option<Self> {
        let mut held: Vec<(&MachineView, u64, Held)> = hosts.gone.iter().filter_map(is_one_of_many).collect();
        held.sort_by(|(a, ..), (b, ..)| a.hostname.cmp(&b.hostname));
        Some(Self {
            names: held.iter().map(|(host, ..)| host.name()).collect(),
            of: hosts.machines.len() + held.len(),
            since: held.iter().map(|(_, since, _)| *since).min()?,
            until: held.iter().map(|(.., held)| held.until).max()?,
        })
    }

    /// What has happened and what the leader does about it.
    pub(in crate::cli) fn sentence(&self) -> String {
        let (hosts, of, until) = (self.names.len(), self.of, utc(self.until));
        format!(
            "{hosts} of {of} hosts vanished together, so the store or the network may have failed: their units are \
             held until {until}"
        )
    }

    /// What a person can do about it.
    pub(in crate::cli) fn hint(&self) -> Line {
        let named = self.names.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
        let more = match self.names.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        Line::hint(format!("if {named}{more} are really gone: `fleetctl forget --held` moves their units now"))
    }

    /// Both, as lines of a message.
    pub(in crate::cli) fn lines(&self) -> Vec<Line> {
        vec![self.sentence().into(), self.hint()]
    }
}

/// A host that vanished together with others and is held: since when it is gone, and the hold.
pub(in crate::cli) fn is_one_of_many(host: &MachineView) -> Option<(&MachineView, u64, Held)> {
    let gone = host.gone?;
    gone.held.filter(|held| held.mass_loss).map(|held| (host, gone.since, held))
}

#[cfg(test)]
pub(in crate::cli) mod tests {
    use super::*;
    use crate::model::machine::Gone;

    /// A host, and if it is gone, since when and its hold.
    pub(in crate::cli) fn host(number: usize, gone: Option<(u64, Option<Held>)>) -> MachineView {
        MachineView {
            id: format!("{number:032x}").parse().unwrap(),
            ip: format!("10.0.0.{number}"),
            hostname: format!("n{number}"),
            metadata: Default::default(),
            builtin: Default::default(),
            version: "0.1.0".into(),
            since: 0,
            gone: gone.map(|(since, held)| Gone { since, held, ..Gone::default() }),
            cordon: None,
            drain: None,
        }
    }

    #[test]
    fn it_counts_the_hosts_that_vanished_together_and_says_what_to_do() {
        let held = |mass_loss| Some(Held { until: 300_000, mass_loss });
        let machines: Vec<MachineView> = (1..=5).map(|number| host(number, None)).collect();
        let gone = vec![
            host(9, Some((0, held(true)))),
            host(6, Some((2_000, held(true)))),
            host(7, Some((1_000, held(true)))),
            host(8, Some((1_000, held(true)))),
            host(20, Some((500, None))),
            host(21, Some((500, held(false)))),
        ];
        let mut hosts = MachineList { here: None, machines, gone, offline: None };
        let loss = MassLoss::of(&hosts).unwrap();
        assert_eq!((loss.since, loss.names.len()), (0, 4));
        assert_eq!(
            loss.lines(),
            [
                "4 of 9 hosts vanished together, so the store or the network may have failed: their units are held \
                 until 00:05:00 UTC",
                "hint: if n6, n7, n8 and 1 more are really gone: `fleetctl forget --held` moves their units now"
            ]
        );
        hosts.gone.drain(..4);
        assert_eq!(MassLoss::of(&hosts), None);
    }
}
