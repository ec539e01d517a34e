//! Reboots for which a program on the host asks, as FleetLock has them: whether it may reboot the host now, and that
//! the host is back. Owns the order in which that is looked at; `plan::reboot` has the rules, and the host's daemon
//! sees to it that its units leave and come back (`reboot`).

use crate::clock::Clock;
use crate::model::maintenance::Maintenance;
use crate::model::name::{MachineId, UnitName};
use crate::model::reboot::{Group, Holder, Reboots};
use crate::model::revision::Revision;
use crate::plan::drain::Verdict;
use crate::plan::reboot::{Standing, Turn, standing};
use crate::registry::drains::looked;
use crate::registry::reader::Reader;
use crate::registry::{maintenance, settings};
use crate::store::{Error, Store};

use super::{Refusal, all, bring_back, edit, take, turn_of};

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    /// The host on which it runs.
    pub host: MachineId,
    /// The group of hosts whose slots it takes.
    pub group: Group,
    /// How it calls its host.
    pub name: String,
}

/// Why a program may not reboot its host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denied {
    /// The host has a slot, and these units are still to leave.
    Leaves(Vec<UnitName>),
    /// The host has a slot, and can't go on, for this reason.
    Stuck(String),
    /// The units of the host are coming back from its last reboot.
    Returns,
    /// A person has asked for the reboot, which comes by itself.
    Asked,
    /// No window is open, in the words of [`Settings::reboots_closed`].
    ///
    /// [`Settings::reboots_closed`]: crate::model::settings::Settings::reboots_closed
    Closed(String),
    /// These have all slots.
    Full(Vec<Holder>),
    /// This one is to take the slot first, since a person has asked for its reboot.
    After(MachineId),
    /// It couldn't be looked at.
    Failed(Refusal),
}

impl From<Refusal> for Denied {
    fn from(refusal: Refusal) -> Self {
        Self::Failed(refusal)
    }
}

impl From<Error> for Denied {
    fn from(error: Error) -> Self {
        Self::Failed(Refusal::Store(error))
    }
}

/// Whether `program` may reboot its host at the time of `clock`. If a slot is free, it is taken, and the host
/// is drained. To be asked again until it may; then, the slot is kept until the program says that the host is back.
///
/// # Errors
/// See [`Denied`].
pub async fn pre_reboot<S: Store>(reader: &Reader<S>, program: &Program, clock: Clock) -> Result<(), Denied> {
    let (host, now) = (&program.host, clock.now_ms());
    let groups = all(reader).await?;
    let asked = maintenance::asked_of(reader, host).await?.map_err(Refusal::Damaged)?;
    match standing(&groups, host, &asked) {
        Standing::Granted => return Ok(()),
        Standing::Stuck(why) => return Err(Denied::Stuck(why)),
        Standing::Returns => return Err(Denied::Returns),
        Standing::Asked => return Err(Denied::Asked),
        Standing::Undrained(group) => drain_again(reader, (&group, host), now).await?,
        Standing::Leaves => {}
        Standing::Outside => take_slot(reader, groups, program, now).await?,
    }
    Err(Denied::Leaves(leaving(reader, host, clock).await?))
}

/// A slot for the host of `program`, if a window is open and a slot is free; `groups` are the reboots of all groups.
async fn take_slot<S: Store>(
    reader: &Reader<S>,
    groups: Vec<(Group, Reboots)>,
    program: &Program,
    now: u64,
) -> Result<(), Denied> {
    let Program { host, group, name } = program;
    let settings = settings::read(reader).await?;
    if let Some(closed) = settings.reboots_closed(now) {
        return Err(Denied::Closed(closed));
    }
    let known = groups.into_iter().find(|(known, _)| known == group).map(|(_, known)| known).unwrap_or_default();
    let slots = settings.reboot_slots();
    match turn_of(reader, &known, host, slots).await? {
        Turn::Full => return Err(Denied::Full(known.holders)),
        Turn::After(other) => return Err(Denied::After(other)),
        Turn::Now => {}
    }
    let claim = |_: &Reboots, began: Option<Revision>, revision: Revision| {
        let holder = Holder::of_program(host.clone(), name, now);
        Some((holder, Holder::drain_for_program(began, (now, revision))))
    };
    let taken = take(reader, (group, host), (slots, claim)).await?;
    if taken.holder(host).is_none() {
        return Err(Denied::Full(taken.holders));
    }
    tracing::info!(%group, program = name, "a program is to reboot this host, which is drained");
    Ok(())
}

/// The host of this program is back, or isn't to be rebooted any more: it takes units again, and those come back that
/// its drain for the reboot took. Then its daemon gives up the slot.
///
/// # Errors
/// See [`Refusal`].
pub async fn steady_state<S: Store>(reader: &Reader<S>, host: &MachineId) -> Result<(), Refusal> {
    let groups = all(reader).await.map_err(Refusal::Store)?;
    let is_programs = |all: &Reboots| all.holder(host).is_some_and(|holder| holder.request.is_none() && !holder.back);
    let Some((group, _)) = groups.iter().find(|(_, all)| is_programs(all)) else { return Ok(()) };
    bring_back(reader, group, host).await?;
    tracing::info!(%group, "the program that has rebooted this host says that it is back: it takes its units back");
    Ok(())
}

/// A person has undrained the host since its program was told that it may reboot it: it may no longer, and is drained
/// once more.
async fn drain_again<S: Store>(
    reader: &Reader<S>,
    (group, host): (&Group, &MachineId),
    now: u64,
) -> Result<(), Refusal> {
    let again = edit(reader, (group, host), false, |(all, asked), revision| {
        let mut all = all.clone();
        let holder = all.holders.iter_mut().find(|holder| holder.host == *host && asked.drain.is_none())?;
        holder.down = false;
        let drain = Holder::drain_for_program(asked.drain_began(), (now, revision));
        Some((all, Maintenance { drain: Some(Box::new(drain)), restore: None, ..asked.clone() }))
    });
    again.await.map(drop)
}

/// The units that are still to leave a host.
async fn leaving<S: Store>(reader: &Reader<S>, host: &MachineId, clock: Clock) -> Result<Vec<UnitName>, Error> {
    let id = host.clone();
    let look = looked(
        reader,
        clock,
        |_| true,
        move |_, found| {
            let verdicts = found.drained.get(&id).into_iter().flatten();
            let is_there =
                |verdict: &Verdict| matches!(verdict, Verdict::Leaves | Verdict::Leaving | Verdict::Waits(_));
            verdicts.filter(|(_, verdict)| is_there(verdict)).map(|(unit, _)| unit.clone()).collect()
        },
    );
    Ok(look.await?.unwrap_or_default())
}
