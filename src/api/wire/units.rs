//! The JSON of `/fleet/v2/units` and `/fleet/v2/watch`. Types only.

use serde::{Deserialize, Serialize};

use crate::model::author::Author;
use crate::model::name::{UnitHash, UnitName};
use crate::model::progress::Progress;
use crate::model::revision::Revision;
use crate::model::rollout::Phase;
use crate::model::unit::{Desired, Outcome, Target, UnitReport};

use super::machines::{MachineRef, Offline};
use super::rollouts::FileOutcomeView;

/// v2: what one host reports of a unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct StateView {
    /// The host.
    pub machine: MachineRef,
    /// What it reports.
    #[serde(flatten)]
    pub report: UnitReport,
    /// Whether its rollout previews it here (`Preview=`): it gets no new connections before it is promoted. A list
    /// shows this only of a rollout for which other units of the list wait.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub preview: bool,
}

impl StateView {
    /// Why the unit doesn't run as it should on this host, in one sentence, if the host says so.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        let UnitReport { error, failure, .. } = &self.report;
        error.clone().or_else(|| failure.as_ref().map(|failure| failure.sentence()))
    }
}

/// v2: the assignment of a global unit to one host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct HostOrder {
    /// The host.
    pub machine: MachineRef,
    /// The assigned generation of the unit; for `gone`, a number of its own.
    pub generation: Revision,
    /// The target; `gone` if the unit no longer fits the host.
    pub target: Target,
}

/// v2: when a unit that has failed is tried again by itself (`Reschedule=on-failure`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RetryView {
    /// When, in ms since the epoch, by the clock of its host. A leader that began to lead after it had failed waits
    /// longer.
    pub at: u64,
    /// The hosts on which it has failed, the one that it is on last.
    pub failed_on: Vec<MachineRef>,
    /// Whether it isn't moved any more, and is started again where it is.
    pub stays: bool,
}

/// v2: a unit in the whole cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct UnitView {
    /// Its name.
    pub name: UnitName,
    /// The hash of its file.
    pub hash: UnitHash,
    /// `Description=` of its file.
    #[serde(default)]
    pub description: String,
    /// Whether it runs on every host that fits.
    #[serde(default)]
    pub global: bool,
    /// How many members it should have, if it is a set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u32>,
    /// Its desired state.
    pub desired: Desired,
    /// Its current state: `inactive`, `loaded`, `launched`. Empty for global units.
    #[serde(default)]
    #[cfg_attr(test, schemars(extend("enum" = ["inactive", "loaded", "launched", ""])))]
    pub current: String,
    /// It grows with every change of the unit.
    pub generation: Revision,
    /// The host that it is placed on, or on which it ran, if it is done; for global units see `hosts`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<MachineRef>,
    /// Since when a unit with `RunOnce=yes` is done, in ms since the epoch: it has run to its end, and no host has it
    /// any longer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done: Option<u64>,
    /// Global units: the hosts that it is assigned to, sorted by machine id. The unit is settled when each host was
    /// assigned this generation (or a higher one) and has reported it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<HostOrder>,
    /// Why it isn't placed, in short.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<String>,
    /// When it is tried again by itself, if it has failed and its file says so (`Reschedule=on-failure`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Box<RetryView>>,
    /// The reports of the hosts, sorted by machine id. A host that has stopped and removed the unit has none.
    #[serde(default)]
    pub states: Vec<StateView>,
    /// The progress of the operation that a watch asks for, or else of the one that leads to the desired state, such as
    /// `start` for a unit that is to be launched. Missing in answers of older versions of `fleetd`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
}

/// v2: `GET /fleet/v2/units[?name=GLOB…]`.
// The server makes its `Units` one after the other while it writes them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "UnitList"))]
pub struct UnitList<Units = Vec<UnitView>> {
    /// The store's revision that this shows.
    pub revision: Revision,
    /// Sorted by name.
    pub units: Units,
    /// Units that aren't in `units` because their records in the store can't be decoded, sorted by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub damaged: Vec<DamagedUnit>,
    /// Only with `offline=true`: this is what one host knows, and not what the cluster has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offline: Option<Box<Offline>>,
}

/// v2: a unit whose record in the store can't be decoded, so that its desired state is unknown. Its hosts keep it as it
/// was last assigned, until it is submitted again with its file, or destroyed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct DamagedUnit {
    /// Its name.
    pub name: UnitName,
    /// What is wrong with the record.
    pub why: String,
    /// The host that it is placed on; missing for a global unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<MachineRef>,
    /// The reports of the hosts, sorted by machine id.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub states: Vec<StateView>,
}

/// v2: `GET /fleet/v2/units/NAME`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct UnitDetail {
    /// The unit.
    #[serde(flatten)]
    pub unit: UnitView,
    /// Its file, as it was submitted.
    pub text: String,
    /// The store's revision at which its record was last written. Earlier versions don't say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<Revision>,
    /// Who requested its present generation, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Author>,
    /// Why it isn't where it should be, as one sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The reasons, host by host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<HostReasons>,
    /// Of a unit with preferences that is placed: why its host is the best one, or which one would be now:
    /// `on n4: spread zone b 1 < a 2; runner-up n2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub choice: Option<String>,
    /// Only with `offline=true`: this is what one host knows of the unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offline: Option<Box<Offline>>,
}

/// v2: `GET /fleet/v2/sets[?name=GLOB…]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SetList {
    /// The revision of this state.
    pub revision: Revision,
    /// Sorted by name.
    pub sets: Vec<SetView>,
}

/// v2: a set: a template with a count. Its members are ordinary units, the instances whose names are numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SetView {
    /// The name of its template.
    pub name: UnitName,
    /// How many members there should be.
    pub replicas: u32,
    /// What its file says, which differs after a command or a request has changed the count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<u32>,
    /// The template that its file names instead of a number: it has as many members as that one, with the same numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lead: Option<UnitName>,
    /// The templates whose files name this one, sorted by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub riders: Vec<UnitName>,
    /// How many members are ready: active, and their probes pass if they have any.
    pub ready: usize,
    /// How many members should be on a host and are on none.
    pub waiting: usize,
    /// How many members are done: they run once (`RunOnce=`), and have.
    #[serde(default)]
    pub done: usize,
    /// The number of the template's present text, as in its history. Earlier versions don't say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
    /// How far its rollout has got, unless that is done or there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Phase>,
    /// The members that there are, sorted by number. There are fewer or more than `replicas` if a request that changed
    /// the count was interrupted: the same request again completes it. A rider also keeps members that somebody
    /// has changed by hand, which such a request names.
    pub members: Vec<UnitName>,
}

/// v2: `GET /fleet/v2/units/NAME/history`: the texts that a unit's file has and had. The last 10 of those that it had
/// are kept, until a week after the unit was destroyed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct UnitHistory {
    /// The unit's name.
    pub unit: UnitName,
    /// The present one. Missing if the unit was destroyed or its record is damaged; earlier versions don't say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub present: Option<PresentRevision>,
    /// The newest first.
    pub revisions: Vec<FormerRevision>,
    /// How far the rollout of the present file is, of the unit itself or of its set; missing if it has had none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// What became of files in rollouts, the latest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub outcomes: Vec<FileOutcomeView>,
}

impl UnitHistory {
    /// What became of this file in its last rollout.
    #[must_use]
    pub fn outcome(&self, hash: &UnitHash) -> Option<&FileOutcomeView> {
        self.outcomes.iter().find(|known| known.hash == *hash)
    }
}

/// v2: the text that a unit's file has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PresentRevision {
    /// Its number; each other text that the unit gets has the next one.
    pub revision: u64,
    /// The hash of the file.
    pub hash: UnitHash,
    /// Since when the unit has it, in ms since the epoch.
    pub since: u64,
    /// Who gave it to the unit, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<Author>,
    /// The text. Missing if the store has lost it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The store's revision at which the unit's record was last written, for `revision` of a change.
    pub written: Revision,
}

/// v2: a text that a unit's file had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct FormerRevision {
    /// Its number; a later text has a greater one.
    pub revision: u64,
    /// The hash of the file.
    pub hash: UnitHash,
    /// Since when the unit had it, in ms since the epoch. Missing if an earlier version has written the history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
    /// Who gave it to the unit, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<Author>,
    /// Until when the unit had it, in ms since the epoch.
    pub until: u64,
    /// Whether the unit was destroyed then; otherwise it got another text.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub destroyed: bool,
    /// Who asked for that, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Author>,
    /// The batch that replaced it, if that replaced the texts of several units.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<ReplacingBatch>,
    /// The text. Missing if the store has lost it: a leader of a version without histories deletes texts that no unit
    /// uses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// v2: a request that replaced the texts of 2 to 100 units. `unit` and `revision` are the same in the histories of all
/// of them, and no other request has the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ReplacingBatch {
    /// The first of the units.
    pub unit: UnitName,
    /// The revision of that unit that was replaced.
    pub revision: u64,
    /// The other units than the one whose history this is. Instances that got the file of their template are not among
    /// them. Empty if the history of the first unit no longer says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub with: Vec<UnitName>,
}

/// v2: every rule that a unit breaks on one host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct HostReasons {
    /// The host.
    pub machine: MachineRef,
    /// The broken rules; empty if the host fits.
    pub misfits: Vec<String>,
}

/// The most bytes that a request may have.
pub const BODY_LIMIT: usize = 4 * 1024 * 1024;

/// v2: `POST /fleet/v2/units`: change many units in one transaction (or, above the store's limit, in several, files
/// first).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Apply {
    /// What to do with each unit; each name occurs at most once.
    pub units: Vec<ApplyUnit>,
}

/// v2: what to do with one unit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ApplyUnit {
    /// Its name.
    #[cfg_attr(test, schemars(with = "UnitName"))]
    pub name: String,
    /// Its file. Without one, the unit must exist, or be an instance of an existing template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Its desired state. If omitted, it is `inactive` for a new unit and unchanged for an existing one. Of a set, that
    /// of its members. `launched` counts as omitted for a hook (`Before=`, `After=`) of another unit of the request:
    /// rollouts run it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired: Option<Desired>,
    /// Whether a file that differs replaces the stored one. Otherwise the stored file is kept, and the outcome is
    /// `differs`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub replace: bool,
    /// How many members the template has, 0 to 1000, whatever its file says: it is a set from now on, and members are
    /// created and destroyed. Without `desired`, new ones have the desired state of the others; if there are none,
    /// `inactive` with a file, and `launched` without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(range(max = 1000)))]
    pub replicas: Option<u32>,
    /// With `replace`, or `replicas` without a file: only if the unit's record was last written at this revision;
    /// otherwise it is an error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<Revision>,
    /// With `replace` and `revision`: whether the rollout of the file runs its hooks (`Before=`, `After=`), as it does
    /// if this is omitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hooks: Option<bool>,
    /// Stop it and start it in place, on every host that has it; start it if it is only loaded. Can't be combined with
    /// other fields.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub restart: bool,
    /// Destroy it. Can't be combined with other fields.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub destroy: bool,
}

/// v2: the result of an [`Apply`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Applied {
    /// The revision at which all of it is committed.
    pub revision: Revision,
    /// In the order of the request; then the members of sets that were created, changed or destroyed because of
    /// their template.
    pub units: Vec<AppliedUnit>,
}

/// v2: the result for one unit of an [`Apply`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct AppliedUnit {
    /// Its name.
    pub name: UnitName,
    /// What was done with it.
    pub outcome: Outcome,
    /// Its generation now: a host that reports it (or a higher one) has carried this out.
    pub generation: Revision,
    /// Whether its text was replaced by one that differs in comments and white space only. This restarts nothing, and
    /// is no part of `outcome`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub comments: bool,
    /// Whether its file was replaced by one from which systemd reads the same: only sections whose names begin with
    /// `X-` have changed. A host that the new file fits writes it and restarts nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub same_body: bool,
    /// Whether its file, which it has already, is rolled out again because its rollout had failed. This is no part of
    /// `outcome`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub retries: bool,
    /// Warnings, such as lines that systemd ignores.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// How many members it should have now, if it is a set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u32>,
    /// Its desired state, if it was created because of a set: the request doesn't say that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired: Option<Desired>,
    /// With `check=hosts`, for a unit with a file: every registered host, and why the unit couldn't be there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hosts: Option<Vec<HostReasons>>,
}

/// v2: one line of `GET /fleet/v2/watch[?name=GLOB…]` (NDJSON): first every unit, then `synced`, then the changes.
/// Empty lines are heartbeats.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum WatchLine {
    /// The current state of a unit.
    Unit(Box<UnitView>),
    /// A unit was destroyed, and a host has yet to stop and remove it. `removed` follows.
    Leaving(UnitName),
    /// A unit no longer exists: it was destroyed, and stopped and removed on all hosts.
    Removed(UnitName),
    /// Everything up to this revision has been sent.
    Synced(Revision),
    /// The stream ends for this reason; open another.
    Error(String),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::systemd::ActiveState;

    /// What hosts of earlier versions and later versions of systemd report is read and passed on unchanged.
    #[test]
    fn a_report_is_beside_its_host() {
        let all = concat!(
            r#"{"machine":{"id":"3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a","ip":"10.0.0.1","hostname":"n1"},"generation":7,"#,
            r#""target":"launched","hash":"3750b3e9","load":"loaded","active":"activating","sub":"auto-restart","#,
            r#""job":"start","result":"done","error":"e","since":5,"missing":true,"restarts":3,"#,
            r#""failure":{"result":"exit-code","retry_ms":100},"status":"loading","ready":false,"health":"x","#,
            r#""preview":true}"#,
        );
        let unknown = concat!(
            r#"{"machine":{"id":"3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a","ip":"","hostname":""},"generation":7,"#,
            r#""target":"gone","hash":"3750b3e9","load":"merged","active":"maintenance","sub":"hibernating","#,
            r#""job":"try-restart","result":"collected","since":5}"#,
        );
        for text in [all, unknown] {
            let view: StateView = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&view).unwrap(), text);
        }
        let view: StateView = serde_json::from_str(unknown).unwrap();
        assert_eq!(view.report.active, ActiveState::Other("maintenance".into()));
        assert!(view.report.active.is_up() && !view.report.is_ready() && !view.preview);
    }
}
