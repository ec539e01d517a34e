//! Which units a list shows: `--failed`, `--state`, `--host`, `--type`, `--not-running`. Owns what the options match.
//! Pure.

use crate::api::wire::{MachineRef, StateView};
use crate::cli::args::Filter;
use crate::cli::condition::{Condition, Kind};
use crate::model::name::UnitName;
use crate::model::unit::UnitReport;

impl Filter {
    /// Whether it leaves nothing out.
    pub(super) fn is_empty(&self) -> bool {
        let Self { failed, not_running, states, hosts, types } = self;
        !failed && !not_running && states.is_empty() && hosts.is_empty() && types.is_empty()
    }

    /// Whether the unit `name` is shown: in this condition, on this host, with this report.
    pub(super) fn shows(
        &self,
        name: &UnitName,
        condition: &Condition,
        host: Option<&MachineRef>,
        state: Option<&StateView>,
    ) -> bool {
        let is_in = |wanted: &String| {
            let words = |UnitReport { active, sub, load, .. }: &UnitReport| {
                [active.as_str(), sub, load.as_str()].contains(&&**wanted)
            };
            state.is_some_and(|state| words(&state.report)) || condition.kind.word() == wanted
        };
        let should_run = !matches!(condition.kind, Kind::Running | Kind::Done | Kind::Inactive);
        (!self.failed || condition.kind == Kind::Failed)
            && (!self.not_running || should_run)
            && (self.states.is_empty() || self.states.iter().any(is_in))
            && (self.hosts.is_empty() || host.is_some_and(|host| self.hosts.iter().any(|wanted| names(host, wanted))))
            && (self.types.is_empty() || self.types.iter().any(|wanted| wanted == name.kind()))
    }
}

/// A host can be named by its name, its address, its id or the beginning of that.
fn names(host: &MachineRef, wanted: &str) -> bool {
    const SHORTEST: usize = 4;
    let MachineRef { id, ip, hostname } = host;
    hostname == wanted || ip == wanted || (wanted.len() >= SHORTEST && id.as_str().starts_with(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::condition::tests::state;
    use crate::model::unit::Desired;

    #[test]
    fn each_option_leaves_out_what_it_says() {
        let rows = [
            ("a.service", "n1 active running"),
            ("b.service", "n2 failed failed"),
            ("c.socket", "n1 active listening"),
            ("d.service", "n2 inactive dead"),
        ];
        let list = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let none = Filter::default;
        for (filter, shown) in [
            (none(), "a b c d"),
            (Filter { failed: true, ..none() }, "b"),
            (Filter { not_running: true, ..none() }, "b d"),
            (Filter { states: list(&["active"]), ..none() }, "a c"),
            (Filter { states: list(&["failed", "listening"]), ..none() }, "b c"),
            (Filter { states: list(&["dead"]), ..none() }, "d"),
            (Filter { hosts: list(&["n1"]), ..none() }, "a c"),
            (Filter { hosts: list(&["10.0.0.2", "1111"]), ..none() }, "a b c d"),
            (Filter { hosts: list(&["111"]), ..none() }, ""),
            (Filter { types: list(&["socket"]), hosts: list(&["n1"]), ..none() }, "c"),
        ] {
            let named = rows.iter().filter_map(|(name, text)| {
                let (name, state): (UnitName, _) = (name.parse().unwrap(), state(text));
                let condition = Condition::reported(Some(Desired::Launched), &state);
                filter.shows(&name, &condition, Some(&state.machine), Some(&state)).then(|| name.prefix().to_owned())
            });
            let named: Vec<String> =
                named.map(|name| name.trim_end_matches(".service").trim_end_matches(".socket").into()).collect();
            assert_eq!(named.join(" "), shown, "{filter:?}");
        }
    }
}
