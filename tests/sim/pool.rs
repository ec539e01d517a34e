//! The units of a simulation: a few with each kind of constraint, so that they often conflict. Owns their texts.

use flotilla::model::name::UnitName;

use super::health::{COMMAND_SECTION, LIVE_SECTION, SECTION};

/// Name, `[Unit]`, `[X-Fleet]` and the rest, a line for each.
const UNITS: [(&str, &str, &str, &str); 28] = [
    ("a.service", "", "", ""),
    ("b.service", "", "MoveAfterSec=40", ""),
    (
        "c.service",
        "",
        "MachineMetadata=!gpu\nAvoids=db* web@*\nMachinePrefers=zone=b",
        "[Install]\nWantedBy=multi-user.target\n",
    ),
    ("web@.service", "", "Conflicts=%p@*\nSpread=zone\nMaxSkew=2", ""),
    ("web@1.service", "", "Conflicts=%p@*\nSpread=zone\nMaxSkew=2", ""),
    ("web@2.service", "", "Conflicts=%p@*\nSpread=zone\nMaxSkew=2", ""),
    ("web@3.service", "", "Conflicts=%p@*\nSpread=zone\nMaxSkew=2", ""),
    ("mate@1.service", "BindsTo=web@%i.service\nAfter=web@%i.service", "MachineOf=web@%i.service", ""),
    ("db.service", "", "", ""),
    ("app.service", "Requires=db.service\nAfter=db.service", "MachineOf=db.service", ""),
    ("front.service", "Requires=app.service\nAfter=app.service", "MachineOf=app.service", ""),
    ("needy.service", "Requires=db.service\nAfter=db.service", "", ""),
    ("every.service", "", "Global=true", ""),
    ("some.service", "", "Global=true\nMachineMetadata=zone=a", ""),
    ("shy.service", "", "Conflicts=some.service", ""),
    ("zone-a.service", "", "MachineMetadata=zone=a", ""),
    ("zone-b.service", "", "MachineMetadata=zone~b* zone!=a zone<c", ""),
    ("pinned.service", "", "MachineID=11111111", ""),
    ("old.service", "", "", ""),
    ("new.service", "", "Replaces=old.service", ""),
    ("once.service", "", "", "[Service]\nType=oneshot\n"),
    ("lasting.service", "", "", "[Service]\nType=oneshot\nRemainAfterExit=yes\n"),
    ("broken.service", "", "", "[Service]\nExecStart=\n"),
    ("lone.service", "", "Conflicts=*.service", ""),
    ("sole.service", "", "OnDisconnect=stop\nMoveAfterSec=30", ""),
    ("lively.service", "", "", "[Service]\nRestart=on-abnormal\nRestartSec=1\n"),
    ("tired.service", "", "MoveAfterSec=infinity", ""),
    ("sole-mate.service", "Requires=sole.service\nAfter=sole.service", "MachineOf=sole.service", ""),
];

/// Those that go to another host when they have failed, with one that must be with it. Only some seeds have them.
const RETRIED: [(&str, &str, &str, &str); 2] = [
    ("roamer.service", "", "Reschedule=on-failure\nRescheduleSec=2\nRescheduleMaxDelaySec=9", ""),
    ("roamer-mate.service", "BindsTo=roamer.service\nAfter=roamer.service", "MachineOf=roamer.service", ""),
];

/// Those of them that are probed by connections.
const PROBED: [&str; 5] = ["web@.service", "web@1.service", "web@2.service", "web@3.service", "sole.service"];

/// The one that is probed by a command.
const PROBED_BY_COMMAND: &str = "every.service";

/// Those that are ended when they no longer work; systemd starts the first one again.
const ENDED: [&str; 2] = ["lively.service", "tired.service"];

/// One of these units.
#[derive(Debug, Clone)]
pub(crate) struct Kind {
    pub(crate) name: UnitName,
    unit: &'static str,
    fleet: &'static str,
    rest: &'static str,
}

pub(crate) fn pool() -> Vec<Kind> {
    kinds(&UNITS)
}

/// The units that go to another host when they have failed.
pub(crate) fn retried() -> Vec<Kind> {
    kinds(&RETRIED)
}

fn kinds(units: &[(&'static str, &'static str, &'static str, &'static str)]) -> Vec<Kind> {
    let kind = |(name, unit, fleet, rest): &(&'static str, &'static str, &'static str, &'static str)| Kind {
        name: name.parse().unwrap(),
        unit,
        fleet,
        rest,
    };
    units.iter().map(kind).collect()
}

impl Kind {
    /// The text of the file. Versions 1 and 2 run different programs, and 3 differs from 2 in a comment only; all
    /// instances of a template have the same text.
    pub(crate) fn text(&self, version: u64) -> String {
        let Self { unit, fleet, rest, .. } = self;
        let program = version.min(2);
        let exec = if rest.contains("ExecStart=") { String::new() } else { format!("ExecStart=/bin/run {program}\n") };
        let comment = if version > 2 { "# why\n" } else { "" };
        let health = match self.name.as_str() {
            PROBED_BY_COMMAND => COMMAND_SECTION,
            name if PROBED.contains(&name) => SECTION,
            name if ENDED.contains(&name) => LIVE_SECTION,
            _ => "",
        };
        format!("{comment}[Unit]\n{unit}\n[Service]\n{exec}{rest}{health}[X-Fleet]\n{fleet}\n")
    }

    /// The same file with something else in the sections that systemd skips.
    pub(crate) fn with_other_sections(&self, text: &str) -> String {
        // A host's id excludes conflicts.
        let more = if self.fleet.contains("MachineID=") { "" } else { "Conflicts=nobody.service\n" };
        format!("{text}{more}[X-Note]\nWhy=other\n")
    }

    /// Units it needs on its host, so that a user starts them together.
    pub(crate) fn is_broken(&self) -> bool {
        self.name.as_str() == "broken.service"
    }
}
