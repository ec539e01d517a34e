//! What storing a new file of a unit would do, in words: for `diff` and `edit`. Pure; the cluster decides which hosts
//! fit.

use crate::api::wire::{HostReasons, UnitView};
use crate::cli::output::people::count;
use crate::model::unit::Desired;

/// The most hosts that are named.
const NAMED: usize = 3;

/// Why a unit whose file is replaced runs on.
const ONLY_SECTIONS: &str = "nothing is restarted, because only [X-...] sections differ";

/// A file that is about to be stored.
pub(super) struct Change<'a> {
    /// The unit as the cluster has it; `None` if it is new.
    pub(super) unit: Option<&'a UnitView>,
    /// Whether both files have the same hash: they differ in comments and white space only.
    pub(super) comments_only: bool,
    /// Whether systemd reads the same from both.
    pub(super) same_body: bool,
    /// The instances of a template that have its present file.
    pub(super) followers: usize,
    /// The registered hosts, and why the unit couldn't be there with the new file.
    pub(super) hosts: Option<&'a [HostReasons]>,
}

impl Change<'_> {
    /// Its effect, as the rest of a sentence about the unit.
    pub(super) fn effect(&self) -> String {
        let Some(unit) = self.unit else { return self.of_a_new_unit() };
        if self.comments_only {
            return "only comments or white space differ, nothing is restarted".into();
        }
        if unit.name.is_template() {
            return self.of_a_template(unit.replicas.is_some());
        }
        let host = unit.machine.as_ref().map(|machine| machine.hostname.as_str());
        match (unit.desired, host) {
            (Desired::Inactive, _) => "it is on no host, nothing is restarted".into(),
            _ if unit.global && self.same_body => self.of_a_global(unit),
            _ if unit.global => format!("restarts it on {}", count(unit.hosts.len(), "host")),
            (desired, Some(host)) => self.on(host, desired),
            (_, None) => format!("it waits for a host, {}", self.fits()),
        }
    }

    fn of_a_template(&self, is_set: bool) -> String {
        match self.followers {
            0 => "no instance has its present file".into(),
            more if is_set && self.same_body => {
                let instances = count(more, "instance");
                format!("{instances} with its present file: where it still fits, {ONLY_SECTIONS}")
            }
            more if is_set => {
                let instances = count(more, "instance");
                format!("{instances} with its present file: `fleetctl start --replace` restarts them one after another")
            }
            1 => "1 instance has its present file and keeps it, unless `--instances` is given".into(),
            more => format!("{more} instances have its present file and keep it, unless `--instances` is given"),
        }
    }

    fn of_a_new_unit(&self) -> String {
        format!("it is new, {}", self.fits())
    }

    /// A global unit, of which only sections differ that systemd doesn't read.
    fn of_a_global(&self, unit: &UnitView) -> String {
        let has_it = |reasons: &&HostReasons| unit.hosts.iter().any(|host| host.machine.id == reasons.machine.id);
        let misfits = self.hosts.unwrap_or_default().iter().filter(|reasons| !reasons.misfits.is_empty());
        let lose: Vec<&str> = misfits.filter(has_it).map(|reasons| reasons.machine.hostname.as_str()).collect();
        match &*lose {
            [] => format!("it stays up, {ONLY_SECTIONS}"),
            lose if lose.len() <= NAMED => format!("it stays up where it still fits, and leaves {}", lose.join(", ")),
            lose => format!("it stays up where it still fits, and leaves {}", count(lose.len(), "host")),
        }
    }

    /// A unit that is placed on `host`.
    fn on(&self, host: &str, desired: Desired) -> String {
        let stays = self.hosts.is_none_or(|hosts| {
            hosts.iter().any(|reasons| reasons.machine.hostname == host && reasons.misfits.is_empty())
        });
        match (stays, desired) {
            (true, Desired::Launched) if self.same_body => format!("it stays up on {host}, {ONLY_SECTIONS}"),
            (true, Desired::Launched) => format!("restarts it on {host}"),
            (true, _) => format!("its file is replaced on {host}, where it is loaded"),
            (false, _) if self.fitting().is_empty() => format!("takes it off {host}, and no other host fits"),
            (false, _) => format!("moves it from {host}, {}", self.fits()),
        }
    }

    fn fits(&self) -> String {
        let Some(hosts) = self.hosts else { return "and runs nowhere by itself".into() };
        match &*self.fitting() {
            [] => format!("and none of {} fits", count(hosts.len(), "host")),
            fitting if fitting.len() <= NAMED => format!("and fits {}", fitting.join(", ")),
            fitting => format!("and fits {} of {}", fitting.len(), count(hosts.len(), "host")),
        }
    }

    fn fitting(&self) -> Vec<&str> {
        let hosts = self.hosts.unwrap_or_default().iter();
        hosts.filter(|host| host.misfits.is_empty()).map(|host| host.machine.hostname.as_str()).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cli::condition::tests::{host, unit};

    fn placed(desired: Desired) -> UnitView {
        let mut placed = unit("a.service", desired, &[]);
        placed.machine = Some(host("n1", &[]).machine);
        placed
    }

    #[test]
    fn a_file_with_the_same_body_restarts_nothing_where_it_fits() {
        let (both, moves) = ([host("n1", &[]), host("n2", &[])], [host("n1", &["x"]), host("n2", &[])]);
        let (running, loaded) = (placed(Desired::Launched), placed(Desired::Loaded));
        let global = UnitView { global: true, machine: None, ..placed(Desired::Launched) };
        let order = |name: &str| {
            let machine = host(name, &[]).machine;
            serde_json::from_value(json!({ "machine": machine, "generation": 1, "target": "launched" })).unwrap()
        };
        let wide = UnitView { hosts: vec![order("n1")], ..global.clone() };
        let set = UnitView { replicas: Some(3), ..unit("a@.service", Desired::Inactive, &[]) };
        let cases = [
            (&running, &both, "it stays up on n1, nothing is restarted, because only [X-...] sections differ"),
            (&running, &moves, "moves it from n1, and fits n2"),
            (&loaded, &both, "its file is replaced on n1, where it is loaded"),
            (&global, &moves, "it stays up, nothing is restarted, because only [X-...] sections differ"),
            (&wide, &moves, "it stays up where it still fits, and leaves n1"),
            (
                &set,
                &both,
                "2 instances with its present file: where it still fits, nothing is restarted, because only [X-...] \
                 sections differ",
            ),
        ];
        for (unit, hosts, expected) in cases {
            let change =
                Change { unit: Some(unit), comments_only: false, same_body: true, followers: 2, hosts: Some(hosts) };
            assert_eq!(change.effect(), expected);
        }
    }

    /// The unit in the cluster, whether only comments differ, the hosts' reasons, and the effect.
    type Case<'a> = (Option<&'a UnitView>, bool, Option<&'a [HostReasons]>, &'static str);

    #[test]
    fn the_effect_follows_from_where_the_unit_is_and_what_fits() {
        let (both, moves, none) = (
            [host("n1", &[]), host("n2", &[])],
            [host("n1", &["x"]), host("n2", &[])],
            [host("n1", &["x"]), host("n2", &["x"])],
        );
        let (running, loaded, inactive) =
            (placed(Desired::Launched), placed(Desired::Loaded), unit("a.service", Desired::Inactive, &[]));
        let waiting = unit("a.service", Desired::Launched, &[]);
        let template = unit("a@.service", Desired::Inactive, &[]);
        let set = UnitView { replicas: Some(3), ..template.clone() };
        let cases: [Case<'_>; 12] = [
            (
                Some(&set),
                false,
                None,
                "2 instances with its present file: `fleetctl start --replace` restarts them one after another",
            ),
            (None, false, Some(&both), "it is new, and fits n1, n2"),
            (None, false, Some(&none), "it is new, and none of 2 hosts fits"),
            (None, false, None, "it is new, and runs nowhere by itself"),
            (Some(&running), true, Some(&both), "only comments or white space differ, nothing is restarted"),
            (Some(&running), false, Some(&both), "restarts it on n1"),
            (Some(&running), false, Some(&moves), "moves it from n1, and fits n2"),
            (Some(&running), false, Some(&none), "takes it off n1, and no other host fits"),
            (Some(&loaded), false, Some(&both), "its file is replaced on n1, where it is loaded"),
            (Some(&inactive), false, Some(&both), "it is on no host, nothing is restarted"),
            (Some(&waiting), false, Some(&moves), "it waits for a host, and fits n2"),
            (
                Some(&template),
                false,
                None,
                "2 instances have its present file and keep it, unless `--instances` is given",
            ),
        ];
        for (unit, comments_only, hosts, expected) in cases {
            let change = Change { unit, comments_only, same_body: false, followers: 2, hosts };
            assert_eq!(change.effect(), expected);
        }
    }
}
