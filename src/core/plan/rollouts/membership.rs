//! Who takes part in one rollout, kept from look to look: its members, with the units that ride with them, and its
//! spares. Owns that only those are looked up again to which something has happened, and that the result is the same as
//! if all were. Must never decide what follows for a member (`pace` does).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::model::cluster::Cluster;
use crate::model::name::{MachineId, UnitHash, UnitName};
use crate::model::placement::Constraints;
use crate::model::rollout::riding::RiderFiles;
use crate::model::rollout::{File, MemberName, Phase, Rollout};
use crate::model::unit::{Desired, Unit};

use super::super::gate::hosts::{is_launched_on, launched_on};
use super::super::gate::riding::riders_of;
use super::super::gate::{instances, is_global, is_spare};
use super::super::pace::{Member, MemberState, Timers};
use super::riding::{self, Group};
use super::{Rollouts, spares};

/// The number of a member of a set, or the host of a global unit.
type Slot = (Option<u32>, Option<MachineId>);

fn slot(name: &MemberName) -> Slot {
    (name.number(), name.host.clone())
}

/// The members of a rollout, and what this leader saw of them.
#[derive(Debug, Clone, Default)]
pub(super) struct Membership {
    /// The template or unit, and the riders that take part, each with the hash of the file that its members are to
    /// have. Another list, and all members are found again.
    templates: Vec<(UnitName, UnitHash)>,
    members: BTreeMap<Slot, Group>,
    /// How many units of each template wait behind gates for its file.
    awaited: Vec<usize>,
    /// Those that something has happened to since they were found.
    touched: BTreeSet<Slot>,
    /// Those of which `timers` have yet to be told.
    news: BTreeSet<Slot>,
    /// Whether they are the hosts of a global unit.
    are_hosts: bool,
    /// The hosts that something has happened to since the gate of the global unit was compared with them.
    unseen: BTreeSet<MachineId>,
    /// The phase in which it was; in another one, it is compared with all of them.
    seen_in: Option<Phase>,
    /// The files that members were seen with, new and before. Others, and all members are told again.
    files: Option<(UnitHash, File, BTreeMap<UnitName, RiderFiles>)>,
    /// The hashes of the files that members had when they were told.
    hashes: BTreeSet<UnitHash>,
    /// The spares and members that `timers` know, by their slots.
    known: BTreeMap<Slot, Vec<MemberName>>,
    /// What was seen of them.
    pub(super) timers: Timers,
    /// How many members were looked up since the beginning, each as often as it was.
    found: usize,
}

impl Membership {
    /// Something has happened to unit `name`, on `host` or as a whole.
    pub(super) fn touch(&mut self, name: &UnitName, host: Option<&MachineId>) {
        if self.templates.iter().any(|(template, _)| name.number_in(template).is_some()) {
            self.touched.insert((name.number(), None));
        } else if self.templates.first().is_some_and(|(of, _)| of == name && !of.is_template()) {
            match host {
                Some(host) if self.are_hosts => self.host_changed(host),
                Some(_) => drop(self.touched.insert((None, None))),
                None => self.know_nothing(),
            }
        }
    }

    /// Something has happened to a host.
    pub(super) fn host_changed(&mut self, host: &MachineId) {
        if self.are_hosts {
            self.touched.insert((None, Some(host.clone())));
            self.unseen.insert(host.clone());
        }
    }

    /// The hosts with which the gate of the global unit has yet to be compared in this phase, in which it is then.
    /// `None` are all of them.
    pub(super) fn unseen(&mut self, phase: Phase) -> Option<BTreeSet<MachineId>> {
        let unseen = std::mem::take(&mut self.unseen);
        (self.seen_in.replace(phase) == Some(phase)).then_some(unseen)
    }

    /// What is known of a file, or whether it is, has changed.
    pub(super) fn file_changed(&mut self, hash: &UnitHash) {
        if self.hashes.contains(hash) || self.templates.iter().any(|(_, known)| known == hash) {
            self.know_nothing();
        }
    }

    /// All members are found again, and all hosts compared with the gate.
    fn know_nothing(&mut self) {
        self.templates.clear();
        self.seen_in = None;
    }

    /// Another rollout begins: nothing that was seen of members counts any longer.
    pub(super) fn begin_again(&mut self) {
        self.timers = Timers::default();
        self.news.extend(std::mem::take(&mut self.known).into_keys());
        self.files = None;
    }

    /// The members in the order of their names.
    pub(super) fn groups(&self) -> Vec<&Group> {
        let mut groups: Vec<&Group> = self.members.values().collect();
        groups.sort_by(|one, other| one.name.cmp(&other.name));
        groups
    }

    /// The member of this name that is no spare.
    pub(super) fn member(&self, name: &MemberName) -> Option<&Group> {
        self.members.get(&slot(name)).filter(|group| group.name == *name)
    }

    /// Whether a unit is a member, or rides with one.
    pub(super) fn has(&self, unit: &UnitName) -> bool {
        let group = self.members.get(&(unit.number(), None));
        group.is_some_and(|group| group.units.contains(unit))
    }

    /// Whether units of the template or unit, or of the rider, wait behind gates for its file.
    pub(super) fn is_awaited(&self, template: &UnitName) -> bool {
        let at = self.templates.iter().position(|(name, _)| name == template);
        at.is_some_and(|at| self.awaited[at] > 0)
    }

    /// Whether a unit that takes part waits behind a gate.
    pub(super) fn is_waiting(&self, unit: &UnitName) -> bool {
        let waits = |group: &Group| !group.awaits.is_empty() && group.units.contains(unit);
        let group = self.members.get(&(unit.number(), None));
        if self.are_hosts { self.members.values().any(waits) } else { group.is_some_and(waits) }
    }

    /// Whether a member waits behind a gate, and its host is there and has reported it as it was told to run it so far.
    pub(super) fn is_any_heard(&self, cluster: &Cluster, rollout: &Rollout) -> bool {
        let waiting = self.members.values().filter(|group| !group.awaits.is_empty());
        let mut states = waiting.map(|group| riding::member(cluster, group, rollout, None, false).0.state);
        states.any(|state| !state.is_silent() && state != MemberState::Away)
    }

    /// How many members were examined since the beginning, each as often as it was.
    pub(super) fn examined(&self) -> usize {
        self.found + self.timers.examined()
    }

    /// Find the members again to which something has happened. Those that have the file of `subject`, or are to get it,
    /// with the units that ride with them; those of a global unit are the hosts that have it.
    pub(super) fn find(&mut self, rollouts: &Rollouts, cluster: &Cluster, name: &UnitName, subject: &Unit) {
        let riders = riders_of(cluster, name).filter_map(|rider| Some((rider, &cluster.units.get(rider)?.hash)));
        let templates: Vec<(&UnitName, &UnitHash)> = std::iter::once((name, &subject.hash)).chain(riders).collect();
        let known = self.templates.iter().map(|(template, hash)| (template, hash));
        if !known.eq(templates.iter().copied()) {
            let templates = templates.into_iter().map(|(template, hash)| (template.clone(), hash.clone()));
            self.begin_with(templates.collect(), cluster, subject);
        }
        for slot in std::mem::take(&mut self.touched) {
            self.find_slot(slot, rollouts, cluster, subject);
        }
    }

    /// With these templates, find all of them.
    fn begin_with(&mut self, templates: Vec<(UnitName, UnitHash)>, cluster: &Cluster, subject: &Unit) {
        self.touched = std::mem::take(&mut self.members).into_keys().chain(self.known.keys().cloned()).collect();
        self.awaited = vec![0; templates.len()];
        self.templates = templates;
        let name = &self.templates[0].0;
        self.are_hosts = !name.is_template() && is_global(cluster, subject);
        if name.is_template() {
            let numbered = self.templates.iter().flat_map(|(template, _)| instances(cluster, template));
            self.touched.extend(numbered.map(|unit| (unit.number(), None)));
            self.touched.extend(spares::of(cluster, name).into_iter().map(|spare| (spare.number(), None)));
        } else if self.are_hosts {
            self.touched.extend(launched_on(cluster, name).map(|(host, _)| (None, Some(host.clone()))));
        } else {
            self.touched.insert((None, None));
        }
    }

    fn find_slot(&mut self, slot: Slot, rollouts: &Rollouts, cluster: &Cluster, subject: &Unit) {
        self.found += 1;
        if let Some(group) = self.members.remove(&slot) {
            group.awaits.iter().for_each(|at| self.awaited[*at] -= 1);
        }
        let group = match &slot {
            (Some(number), _) => self.numbered(*number, rollouts, cluster),
            (None, host) => self.by_itself(host.as_ref(), cluster, subject),
        };
        if let Some(group) = group {
            group.awaits.iter().for_each(|at| self.awaited[*at] += 1);
            self.members.insert(slot.clone(), group);
        }
        self.news.insert(slot);
    }

    /// The member of a set with this number.
    fn numbered(&self, number: u32, rollouts: &Rollouts, cluster: &Cluster) -> Option<Group> {
        let (mut units, mut awaits) = (Vec::new(), Vec::new());
        for (at, (template, hash)) in self.templates.iter().enumerate() {
            let Some((unit, _)) = template.numbered(number).ok().and_then(|unit| cluster.units.get_key_value(&unit))
            else {
                continue;
            };
            let is_member = |record: &Unit| record.desired == Desired::Launched && record.hash == *hash;
            if rollouts.record(cluster, unit).is_some_and(is_member) {
                let gate = cluster.gates.get(unit).map(|gate| &gate.value);
                awaits.extend(gate.filter(|gate| gate.target == *hash).map(|_| at));
                units.push(unit.clone());
            }
        }
        Some(Group { name: units.first()?.clone().into(), units, awaits })
    }

    /// The unit that is rolled out by itself, on this host if it is global.
    fn by_itself(&self, host: Option<&MachineId>, cluster: &Cluster, subject: &Unit) -> Option<Group> {
        let (name, hash) = self.templates.first()?;
        let is_there = match host {
            Some(host) => is_global(cluster, subject) && is_launched_on(cluster, name, host),
            None => !name.is_template() && !is_global(cluster, subject),
        };
        if !is_there || subject.desired != Desired::Launched {
            return None;
        }
        let gate = cluster.gates.get(name).map(|gate| &gate.value).filter(|gate| gate.target == *hash);
        let gate = gate.filter(|gate| host.is_none_or(|host| gate.held_on(host).is_some()));
        let name = MemberName { unit: name.clone(), host: host.cloned() };
        Some(Group { units: vec![name.unit.clone()], name, awaits: gate.map(|_| 0).into_iter().collect() })
    }

    /// Tell the timers of the members and spares that aren't as they were told, with the `rollout`, whose new file is
    /// `new`.
    pub(super) fn tell(&mut self, cluster: &Cluster, rollout: &Rollout, new: Option<&Arc<Constraints>>) {
        let Some((name, _)) = self.templates.first().cloned() else { return };
        let files = (&rollout.target, &rollout.from, &rollout.riders);
        if self.files.as_ref().map(|(target, from, riders)| (target, from, riders)) != Some(files) {
            self.files = Some((rollout.target.clone(), rollout.from.clone(), rollout.riders.clone()));
            self.news.extend(self.members.keys().chain(self.known.keys()).cloned());
        }
        for slot in std::mem::take(&mut self.news) {
            let (spare, member) = (self.spare(cluster, &name, rollout, &slot), self.members.get(&slot));
            let mut names = Vec::new();
            for (group, is_spare) in
                member.map(|group| (group, false)).into_iter().chain(spare.as_ref().map(|it| (it, true)))
            {
                let (member, _) = riding::member(cluster, group, rollout, new, is_spare);
                names.push(member.name.clone());
                self.timers.tell(member);
                let hashes = group.units.iter().filter_map(|unit| cluster.units.get(unit)).map(|unit| &unit.hash);
                for hash in hashes {
                    if !self.hashes.contains(hash) {
                        self.hashes.insert(hash.clone());
                    }
                }
            }
            let before =
                if names.is_empty() { self.known.remove(&slot) } else { self.known.insert(slot, names.clone()) };
            let gone = before.into_iter().flatten().filter(|name| !names.contains(name));
            gone.for_each(|name| self.timers.forget(&name));
        }
    }

    /// The spare with this number.
    fn spare(&self, cluster: &Cluster, name: &UnitName, rollout: &Rollout, (number, _): &Slot) -> Option<Group> {
        let spare = name.numbered((*number)?).ok().filter(|unit| is_spare(cluster, unit))?;
        let gate = cluster.gates.get(&spare).filter(|gate| gate.value.rollout == *name);
        gate.map(|_| riding::spare(cluster, name, rollout, &spare))
    }

    /// The member or spare of this name, with the units that ride with it.
    pub(super) fn group(&self, cluster: &Cluster, rollout: &Rollout, name: &MemberName) -> Option<Group> {
        let of = &self.templates.first()?.0;
        let spare = || self.spare(cluster, of, rollout, &slot(name)).filter(|group| group.name == *name);
        self.member(name).cloned().or_else(spare)
    }

    /// What is known of each unit of a member.
    pub(super) fn units(&self, cluster: &Cluster, rollout: &Rollout, member: &Member) -> Vec<Member> {
        let group = self.member(&member.name);
        group.map(|group| riding::member(cluster, group, rollout, None, false).1).unwrap_or_default()
    }

    /// What would be known otherwise if all members were looked up again, as a sentence.
    pub(super) fn fault(&self, rollouts: &Rollouts, cluster: &Cluster, name: &UnitName) -> Option<String> {
        let rollout = &cluster.rollouts.get(name)?.value;
        let subject = rollouts.record(cluster, name)?;
        let mut kept = self.clone();
        kept.find(rollouts, cluster, name, subject);
        let mut again = kept.clone();
        again.begin_with(kept.templates.clone(), cluster, subject);
        again.find(rollouts, cluster, name, subject);
        let new = cluster.files.get(&rollout.target).map(|file| &file.value);
        for them in [&mut kept, &mut again] {
            them.tell(cluster, rollout, new);
        }
        if (&kept.members, &kept.awaited) != (&again.members, &again.awaited) {
            return Some(format!("the members of the rollout of {name} aren't those that a look at all would find"));
        }
        let fault = kept.timers.differs_from(&again.timers).or_else(|| self.timers.fault());
        fault.map(|fault| format!("of the rollout of {name}, {fault}"))
    }
}
