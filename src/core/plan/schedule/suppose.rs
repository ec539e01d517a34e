//! What would be if units left their hosts: the questions of `plan::drain`, answered with the rules and the order by
//! which units are placed. Owns what a copy of the scheduler supposes; such a copy never plans.

use crate::model::cluster::Versioned;
use crate::model::name::{MachineId, UnitName};
use crate::model::revision::Revision;
use crate::model::unit::{Assignment, Target};

use super::super::fit::{Misfit, Question, Stance, first_misfit_indexed};
use super::Scheduler;
use super::wishes::Candidates;

impl Scheduler {
    /// The best host for units that are on `home` together and leave it: the one that they are to return to, if any.
    #[must_use]
    pub fn elsewhere(&self, group: &[UnitName], home: &MachineId) -> Option<MachineId> {
        if let Some(host) = self.way_back(group).filter(|host| host != home) {
            return Some(host);
        }
        self.untried(group, home).or_else(|| self.best(group, None, &|host| host != home))
    }

    /// The best of the hosts for which `counts` holds and that fit these units. It holds for none of which as much as
    /// the share `below` is taken, if that is given; which hosts are tried first must be those with the least load.
    #[must_use]
    pub fn best(
        &self,
        group: &[UnitName],
        below: Option<u64>,
        counts: &dyn Fn(&MachineId) -> bool,
    ) -> Option<MachineId> {
        let view = self.view();
        let members = view.members(group);
        let fits = |host: &MachineId| counts(host) && view.group_violation(&members, host, group).is_none();
        let ranked = || -> Candidates<'_> {
            let (count, hosts) = view.candidates(&members, group);
            let Some(below) = below else { return (count, hosts) };
            (count, Box::new(hosts.take_while(move |host| self.load(host).share < below)))
        };
        view.preferred(group, &members, &ranked, &fits).map(|(host, _)| host)
    }

    /// Whether a unit no longer fits the host that it is placed on, and so is about to leave it.
    #[must_use]
    pub fn no_longer_fits(&self, unit: &UnitName) -> bool {
        self.cluster.placed_on(unit).zip(self.cluster.constraints(unit)).is_some_and(|(host, constraints)| {
            let question = Question { unit, constraints: &constraints, host, stance: Stance::Stay, with: &[] };
            self.first_misfit(&question).is_some()
        })
    }

    /// Why a unit that is planned may not be on a host, if it may not.
    pub(super) fn first_misfit(&self, question: &Question<'_>) -> Option<Misfit> {
        let view = self.view();
        first_misfit_indexed(&view, question, &view.others(view.index.nodes.get(question.unit)?))
    }

    /// Suppose that these units are on `host` as well.
    pub fn suppose(&mut self, group: &[UnitName], host: &MachineId) {
        for unit in group {
            let Some(record) = self.cluster.units.get(unit) else { continue };
            let value = Assignment::new(record.hash.clone(), Target::Launched, record.generation);
            self.set_assignment(host, unit, Some(Versioned { value, revision: Revision::default() }));
        }
    }
}
