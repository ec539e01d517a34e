//! The host's lease as units of systemd, so that it ends without this process. Owns these units and the drop-ins that
//! bind others to them. It must never decide when the lease ends, or which units end with it.
//!
//! `fleetd-lease.target` is active while the host holds its lease. A unit with `OnDisconnect=stop` gets a drop-in that
//! makes it stop with this target, and makes its start fail without it. Two transient timers have the deadlines as
//! times of the monotonic clock, so that a call that is delayed doesn't move them. When the first one elapses, systemd
//! starts a service that conflicts with the target; the service of the second one kills what is not down.
//!
//! There are two sets of these timers, `a` and `b`, which are used in turn: starting one set stops the other, in the
//! same transaction of systemd. A single set would have to name its predecessor, and systemd would keep all of them.

use super::proxy::{Properties, Row, classify};
use super::{Dbus, Deadlines, Error};
use crate::clock::monotonic_us;
use crate::model::disconnect::stops_on_disconnect;
use crate::model::name::UnitName;
use crate::systemd::folder::{Before, Folder};

/// Active while the host holds its lease.
pub(super) const TARGET: &str = "fleetd-lease.target";

/// The file of a unit's drop-in.
const DROP_IN: &str = "10-fleetd-lease.conf";

/// What binds a unit to the lease. `Requisite=` doesn't start the target, unlike `Requires=`.
const BOUND: &str = "# Written by fleetd, because of OnDisconnect=stop.\n\
                     [Unit]\nRequisite=fleetd-lease.target\nAfter=fleetd-lease.target\n";

/// One of the two sets of timers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Set {
    A,
    B,
}

impl Set {
    fn letter(self) -> char {
        match self {
            Self::A => 'a',
            Self::B => 'b',
        }
    }

    fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    /// Its target, which is active while its timers are.
    fn target(self) -> String {
        format!("fleetd-lease-{}.target", self.letter())
    }
}

/// What this process knows of the units, once their files are written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Armed {
    /// The set that was used last.
    set: Set,
    /// When systemd was started, as µs of the monotonic clock. `OnStartupSec=` counts from then.
    started: u64,
}

/// The state of the units.
pub(super) struct LeaseUnits {
    /// Whether the lease is held, and not being let go of.
    pub(super) held: bool,
    /// The set whose timers run.
    set: Option<Set>,
}

impl Dbus {
    /// Let go of the lease at these times.
    pub(super) async fn set_lease_deadlines(&self, deadlines: Option<Deadlines>) -> Result<(), Error> {
        // Held during the calls: each one must name the set that the last one didn't.
        let mut armed = self.shared.lease.lock().await;
        let Armed { set, started } = match *armed {
            Some(armed) => armed,
            None => self.prepare_lease().await?,
        };
        let manager = self.manager().await?;
        let Some(Deadlines { stop, kill }) = deadlines else {
            for set in [Set::A, Set::B] {
                manager.stop_unit(&set.target(), "replace").await.map_err(|error| classify(&error))?;
            }
            *armed = Some(Armed { set, started });
            return Ok(());
        };
        let next = set.other();
        let (letter, target) = (next.letter(), next.target());
        let (stop, kill) = (after(started, monotonic_us(stop)), after(started, monotonic_us(kill)));
        let names = ["stop", "kill"].map(|what| format!("fleetd-lease-{what}-{letter}@{stop}.timer"));
        let wanted = vec![target.as_str(), names[1].as_str()];
        let main = timer(stop, &target).into_iter().chain([("Wants", wanted.into())]).collect::<Properties<'_>>();
        let aux = [(names[1].as_str(), timer(kill, &target))];
        let started_timers = manager.start_transient_unit(&names[0], "replace", &main, &aux).await;
        // If it isn't known which set is used now, the next call asks.
        *armed = started_timers.is_ok().then_some(Armed { set: next, started });
        started_timers.map(drop).map_err(|error| classify(&error))
    }

    /// Write the files of the units, and learn which of the units are active.
    async fn prepare_lease(&self) -> Result<Armed, Error> {
        let (runtime, user) = (self.runtime().await?, self.shared.options.user);
        let changed = self.blocking(move |_| write_files(&runtime, user)).await?;
        if changed {
            // An earlier version has written other files, which systemd may have loaded.
            super::Systemd::reload(self).await?;
        }
        let manager = self.manager().await?;
        let started = manager.userspace_timestamp_monotonic().await.map_err(|error| classify(&error))?;
        Ok(Armed { set: self.lease_units().await?.set.unwrap_or(Set::B), started })
    }

    pub(super) async fn lease_units(&self) -> Result<LeaseUnits, Error> {
        let sets = [Set::A, Set::B].map(|set| (set, set.target()));
        let names = [TARGET, &sets[0].1, &sets[1].1];
        let manager = self.manager().await?;
        let rows = manager.list_units_by_patterns(&[], &names).await.map_err(|error| classify(&error))?;
        // systemd answers before it runs a job that it has queued, and what needs the unit waits for the job.
        let is_or_will_be_active = |row: &Row| match (row.job, row.job_type.as_str()) {
            (0, _) => row.active == "active",
            (_, kind) => kind == "start" || (kind != "stop" && row.active == "active"),
        };
        let active = |name: &str| rows.iter().any(|row| row.id == name && is_or_will_be_active(row));
        let set = sets.iter().find(|(_, target)| active(target)).map(|(set, _)| *set);
        Ok(LeaseUnits { held: active(TARGET), set })
    }

    /// systemd's folder for units until the next boot, beside the one for transient units.
    pub(super) async fn runtime(&self) -> Result<Folder, Error> {
        let find = || async {
            let folders = self.manager().await?.unit_path().await.map_err(|error| classify(&error))?;
            let name = if self.shared.options.user { "user" } else { "system" };
            let folder = folders.iter().find_map(|folder| folder.strip_suffix("/transient"));
            let folder = folder.map(|parent| Folder::new(format!("{parent}/{name}").into()));
            folder.ok_or_else(|| Error::Refused("systemd names no folder for transient units".into()))
        };
        self.shared.runtime.get_or_try_init(find).await.cloned()
    }
}

/// A timer that elapses once, this many µs after systemd was started, and ends with `target`. It also works while the
/// system shuts down.
fn timer(after_start: u64, target: &str) -> Properties<'static> {
    vec![
        ("Description", "The end of this host's lease in its cluster".into()),
        ("DefaultDependencies", false.into()),
        ("PartOf", vec![target.to_owned()].into()),
        ("AccuracyUSec", 1_u64.into()),
        ("TimersMonotonic", vec![("OnStartupSec".to_owned(), after_start)].into()),
    ]
}

/// How long after `started` a time is, at least 1: both in µs of the monotonic clock. A time that has passed elapses
/// at once.
fn after(started: u64, at: u64) -> u64 {
    at.saturating_sub(started).max(1)
}

/// Write the files of all units; returns whether one had another text before.
fn write_files(runtime: &Folder, user: bool) -> Result<bool, Error> {
    let mut changed = false;
    for (name, text) in files(user) {
        changed |= matches!(runtime.write(&name, &text)?, Before::Text(_));
    }
    Ok(changed)
}

/// The names and texts of the units.
fn files(user: bool) -> Vec<(String, String)> {
    let about = "# Written by fleetd for units with OnDisconnect=stop, see flotilla.unit(5).\n[Unit]\n\
                 DefaultDependencies=no\n";
    // A host that is suspended can't renew its lease, and its monotonic clock stands still.
    let held = format!(
        "{about}Description=This host holds its lease in its cluster\nConflicts=sleep.target\nBefore=sleep.target\n"
    );
    let mut files = vec![(TARGET.to_owned(), held)];
    for set in [Set::A, Set::B] {
        let (letter, target, other) = (set.letter(), set.target(), set.other().target());
        let timers = format!("{about}Description=The end of this host's lease is known\nConflicts={other}\n");
        let stop = format!(
            "{about}Description=Stop what must not outlive this host's lease\nConflicts={TARGET}\n\
             [Service]\nType=oneshot\nExecStart=-/bin/echo The lease of this host has not been renewed in time: \
             stopping the units with OnDisconnect=stop\n"
        );
        let kill = format!(
            "{about}Description=Kill what must not outlive this host's lease\nPartOf={target}\n\
             [Service]\nType=oneshot\nExecStart=/bin/sh -c '{}'\n",
            kill_script(user)
        );
        files.push((target, timers));
        files.push((format!("fleetd-lease-stop-{letter}@.service"), stop));
        files.push((format!("fleetd-lease-kill-{letter}@.service"), kill));
    }
    files
}

/// Kills the units bound to the lease that are not down, also one whose stop waits for that of another unit, and which
/// is still active therefore. It does so for a second, because each of their commands (`ExecStopPost=`) may begin after
/// the one before was killed. In a unit file, `$$` is a dollar sign.
fn kill_script(user: bool) -> String {
    let systemctl = if user { "systemctl --user" } else { "systemctl" };
    format!(
        "units=$$({systemctl} show --property=RequisiteOf --value {TARGET}); [ -n \"$$units\" ] || exit 0; \
         for turn in 1 2 3 4 5 6 7 8 9 10; do \
         {systemctl} list-units --no-legend --plain --full --state=active,reloading,activating,deactivating $$units | \
         while read unit rest; do {systemctl} kill --signal=SIGKILL \"$$unit\"; done; sleep 0.1; done"
    )
}

/// Bind those of `units` to the lease that are to end with it, and write all files.
pub(super) fn write(
    ours: &Folder,
    runtime: &Folder,
    user: bool,
    units: &[(UnitName, String)],
) -> Vec<Result<Before, Error>> {
    let ends: Vec<bool> = units.iter().map(|(_, text)| stops_on_disconnect(text)).collect();
    // Without the target's file, systemd would refuse a start as that of a unit that lacks another one.
    let target = if ends.contains(&true) { write_files(runtime, user).map(drop) } else { Ok(()) };
    // The drop-in before the file: systemd must never read the one without the other.
    let bind = |(ends, (name, _)): (bool, &(UnitName, String))| match ends {
        true => target.clone().and_then(|()| bind(runtime, name, true)),
        false => bind(runtime, name, false),
    };
    let bound: Vec<_> = ends.into_iter().zip(units).map(bind).collect();
    let mut outcomes = Vec::with_capacity(units.len());
    for ((written, bound), (name, _)) in ours.write_units(units).into_iter().zip(bound).zip(units) {
        outcomes.push(written.and_then(|before| match bound {
            Ok(()) => Ok(before),
            Err(error) => {
                ours.restore(name, &before);
                Err(error)
            }
        }));
    }
    outcomes
}

/// Undo the binding of a unit whose file is what it was `before`.
pub(super) fn restore(runtime: Option<&Folder>, name: &UnitName, before: &Before) {
    let Some(runtime) = runtime else { return };
    let done = match before {
        Before::Same => Ok(()),
        Before::Text(text) => bind(runtime, name, stops_on_disconnect(text)),
        Before::Nothing => unbind(runtime, name),
    };
    if let Err(error) = done {
        tracing::warn!(unit = %name, %error, "the drop-in of the unit can't be restored");
    }
}

fn bind(runtime: &Folder, name: &UnitName, bound: bool) -> Result<(), Error> {
    match bound {
        true => runtime.drop_ins(name).write(DROP_IN, BOUND).map(drop),
        false => unbind(runtime, name),
    }
}

/// The unit no longer ends with the lease.
pub(super) fn unbind(runtime: &Folder, name: &UnitName) -> Result<(), Error> {
    runtime.drop_ins(name).take_away(DROP_IN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_counts_from_the_start_of_systemd_and_one_that_has_passed_is_due() {
        assert_eq!((after(100, 350), after(100, 100), after(100, 7)), (250, 1, 1));
    }

    #[test]
    fn a_unit_is_bound_by_its_text_and_nothing_is_left_of_it() {
        let root = tempfile::tempdir().unwrap();
        let (ours, runtime) = (Folder::new(root.path().join("ours")), Folder::new(root.path().join("system")));
        let name: UnitName = "db.service".parse().unwrap();
        let text = |more: &str| format!("[Service]\nExecStart=/bin/db\n{more}");
        let stops = text("[X-Fleet]\nOnDisconnect=stop\n");
        let folder = root.path().join("system/db.service.d");
        for (text, bound) in [(text(""), false), (stops.clone(), true), (stops.clone(), true), (text(""), false)] {
            let written = write(&ours, &runtime, false, &[(name.clone(), text)]);
            assert!(written[0].is_ok(), "{written:?}");
            assert_eq!((folder.join(DROP_IN).exists(), folder.exists()), (bound, bound));
        }
        restore(Some(&runtime), &name, &Before::Text(stops));
        assert!(folder.join(DROP_IN).exists());
        std::fs::write(folder.join("mine.conf"), "").unwrap();
        restore(Some(&runtime), &name, &Before::Nothing);
        assert!(!folder.join(DROP_IN).exists() && folder.join("mine.conf").exists(), "an administrator's file is kept");
    }

    #[test]
    fn each_set_of_timers_ends_the_other() {
        for (user, systemctl) in [(false, "$$(systemctl show"), (true, "$$(systemctl --user show")] {
            let files = files(user);
            let text = |name: &str| &files.iter().find(|(file, _)| file == name).unwrap().1;
            assert!(text("fleetd-lease-a.target").contains("Conflicts=fleetd-lease-b.target\n"));
            assert!(text("fleetd-lease-b.target").contains("Conflicts=fleetd-lease-a.target\n"));
            assert!(text("fleetd-lease-stop-b@.service").contains("Conflicts=fleetd-lease.target\n"));
            assert!(text("fleetd-lease-kill-b@.service").contains("PartOf=fleetd-lease-b.target\n"));
            assert!(text("fleetd-lease-kill-a@.service").contains(systemctl));
        }
    }
}
