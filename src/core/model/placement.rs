//! `[X-Fleet]`: a unit's constraints on its host, and the rest of what the leader keeps of a file. Owns the syntax of
//! the options, their specifiers, and which of them can be combined. `plan::fit` decides whether a host fits.

pub mod condition;
pub mod limits;
pub mod port;
pub mod preference;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::body::BodyHash;
use super::disconnect::{self, OnDisconnect};
use super::file::{UnitFile, WHITESPACE};
use super::glob::Glob;
use super::instance::NamedInstances;
use super::move_after::{self, MoveAfter};
use super::name::UnitName;
use super::reschedule::{self, Reschedule};
use super::resources::{self, Resources};
use super::rollout::policy::Policy;
use super::section::{FLEET, Problem, Section, boolean};
use condition::Word;
pub use condition::{Condition, Test};
use port::Ports;
use preference::Preferences;

/// The section's name.
pub const SECTION: &str = FLEET;

/// Its options.
const OPTIONS: Section = Section {
    name: SECTION,
    options: &[
        "MachineID",
        "MachineMetadata",
        "MachineOf",
        "Conflicts",
        "Replaces",
        "Global",
        disconnect::OPTION,
        move_after::OPTION,
        "Replicas",
        "RunOnce",
        "Spread",
        "MaxSkew",
        "Avoids",
        "MachinePrefers",
        "Priority",
        port::OPTION,
        reschedule::OPTIONS[0],
        reschedule::OPTIONS[1],
        reschedule::OPTIONS[2],
        resources::OPTIONS[0],
        resources::OPTIONS[1],
    ],
    legacy: &[
        "X-ConditionMachineID",
        "X-ConditionMachineBootID",
        "X-ConditionMachineMetadata",
        "X-ConditionMachineOf",
        "X-Conflicts",
    ],
    specifiers: true,
    plain: &resources::OPTIONS,
};

/// The most members of a set that `Replicas=` and a request can ask for.
pub const MAX_REPLICAS: u32 = 1000;

/// The constraints in a unit file, and how its changes get through. Strings may contain specifiers until
/// [`Constraints::resolve`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Constraints {
    /// `MachineID=`: the host's id, or its first eight digits.
    pub machine_id: Option<String>,
    /// `MachineMetadata=key=value`: for each key, the accepted values.
    pub metadata: BTreeMap<String, BTreeSet<String>>,
    /// The other words of `MachineMetadata=`.
    pub conditions: BTreeSet<Condition>,
    /// `MachineOf=`: units that must be placed on the same host.
    pub machine_of: BTreeSet<String>,
    /// `Conflicts=`: units that must not be on the same host, whichever of them has the option.
    pub conflicts: Vec<Glob>,
    /// `Replaces=`: units that are evicted from the host where this one is placed.
    pub replaces: Vec<Glob>,
    /// `Global=`: the unit runs on every host that fits.
    pub global: bool,
    /// `OnDisconnect=`: what happens to the unit when its host's lease is not renewed.
    pub on_disconnect: OnDisconnect,
    /// `MoveAfterSec=`: how long its host may be gone before it is placed elsewhere.
    pub move_after: MoveAfter,
    /// `Reschedule=` and its times, if the file has any of them.
    pub reschedule: Option<Box<Reschedule>>,
    /// `Replicas=`: how many members the template has, which is then a set. In the file of an instance it says nothing
    /// of that instance.
    pub replicas: Option<Replicas>,
    /// `RunOnce=`: once the unit has run to its end, nothing starts it again until somebody asks for it.
    pub run_once: bool,
    /// `Spread=`, `MaxSkew=`, `Avoids=`, `MachinePrefers=` and `Priority=`, if the file has any of them.
    pub preferences: Option<Box<Preferences>>,
    /// `Port=`, if the file has it.
    pub ports: Option<Box<Ports>>,
    /// `Memory=` and `CPU=`.
    pub resources: Resources,
    /// The instances of templates that the file's other sections name. Specifiers in them are never resolved here.
    pub instances: NamedInstances,
    /// What systemd has of the file.
    pub body: BodyHash,
    /// Whether the unit is meant to end by itself ([`UnitFile::ends_by_itself`]).
    pub ends: bool,
    /// `[X-Rollout]`, if the file has the section.
    pub rollout: Option<Box<Policy>>,
    specifiers: bool,
    /// Whether the id was set by the legacy option.
    legacy_id: bool,
}

/// How many members a template has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replicas {
    /// So many, until a command changes it.
    Number(u32),
    /// As many as another template has, its lead, and with the same numbers: this one is its rider.
    Of(UnitName),
}

impl Replicas {
    /// The number, if it is one.
    #[must_use]
    pub fn number(&self) -> Option<u32> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Of(_) => None,
        }
    }

    /// The lead, if it is a rider.
    #[must_use]
    pub fn lead(&self) -> Option<&UnitName> {
        match self {
            Self::Number(_) => None,
            Self::Of(lead) => Some(lead),
        }
    }
}

impl Constraints {
    /// Whether the unit stays on the host that it has, whatever becomes of that (`MoveAfterSec=infinity`).
    #[must_use]
    pub fn belongs_to_its_host(&self) -> bool {
        self.move_after == MoveAfter::NEVER
    }

    /// `Reschedule=on-failure` and its times.
    #[must_use]
    pub fn reschedule(&self) -> Option<&Reschedule> {
        self.reschedule.as_deref().filter(|reschedule| reschedule.on_failure)
    }

    /// Read `file`. What is wrong with its `[X-Rollout]` doesn't count ([`Policy::stored`]).
    ///
    /// # Errors
    /// All errors of its `[X-Fleet]`: unknown options, malformed values, options that can't be combined.
    pub fn parse(file: &UnitFile) -> Result<Self, Vec<Problem>> {
        let mut constraints = Self {
            instances: NamedInstances::of(file),
            body: BodyHash::of(file),
            ends: file.ends_by_itself(),
            rollout: Policy::stored(file).map(Box::new),
            ..Self::default()
        };
        let (mut auto, mut amounts) = (false, resources::Reader::default());
        let mut problems = OPTIONS.read(file, |name, value| {
            if resources::OPTIONS.contains(&name) {
                return amounts.take(name, value);
            }
            constraints.specifiers |= value.contains('%');
            if name != port::OPTION {
                return constraints.take(name, value);
            }
            constraints.ports.get_or_insert_default().take(value).map(|found| auto |= found)
        });
        if auto && !constraints.ports.get_or_insert_default().find(file) {
            let what = "`Port=auto`: [Socket] has no ListenStream= or ListenDatagram= with a port";
            problems.push(Problem { line: line_of(file, port::OPTION), what: what.into() });
        }
        let (resources, missing) = amounts.finish(file);
        constraints.resources = resources;
        problems.extend(missing);
        constraints.specifiers |= constraints.ports.as_ref().is_some_and(|ports| ports.has_specifiers());
        problems.extend(constraints.contradictions(file));
        if problems.is_empty() { Ok(constraints) } else { Err(problems) }
    }

    /// The constraints of unit `name`, given those of its file: `%n`, `%N`, `%p`, `%i` and `%%` are replaced.
    #[must_use]
    pub fn resolve(constraints: &Arc<Self>, name: &UnitName) -> Arc<Self> {
        if !constraints.specifiers {
            return Arc::clone(constraints);
        }
        let plain = |text: &String| name.expand(text);
        // An instance may contain a backslash (systemd-escape(1)), which is an escape in a pattern.
        let globs = |globs: &[Glob]| -> Vec<Glob> {
            globs
                .iter()
                .filter_map(|glob| name.expand_with(glob.as_str(), |part| Glob::escape(part).into()).parse().ok())
                .collect()
        };
        Arc::new(Self {
            machine_id: constraints.machine_id.as_ref().map(plain),
            metadata: constraints
                .metadata
                .iter()
                .map(|(k, values)| (plain(k), values.iter().map(plain).collect()))
                .collect(),
            conditions: constraints.conditions.iter().map(|condition| condition.resolve(name)).collect(),
            machine_of: constraints.machine_of.iter().map(plain).collect(),
            conflicts: globs(&constraints.conflicts),
            replaces: globs(&constraints.replaces),
            global: constraints.global,
            on_disconnect: constraints.on_disconnect,
            move_after: constraints.move_after,
            reschedule: constraints.reschedule.clone(),
            replicas: constraints.replicas.clone(),
            run_once: constraints.run_once,
            preferences: constraints.preferences.as_ref().map(|preferences| Box::new(preferences.resolve(name))),
            ports: constraints.ports.as_ref().map(|ports| Box::new(ports.resolve(name))),
            resources: constraints.resources,
            instances: constraints.instances.clone(),
            body: constraints.body,
            ends: constraints.ends,
            rollout: constraints.rollout.clone(),
            specifiers: false,
            legacy_id: constraints.legacy_id,
        })
    }

    /// The same, with the conflicts, the ports and the instances of `others` as well, and with the most memory and CPU
    /// of all; `None` if it has all of that itself.
    #[must_use]
    pub fn joined(&self, others: &[Arc<Self>]) -> Option<Self> {
        let (mut joined, mut is_more) = (self.clone(), false);
        for other in others {
            for glob in &other.conflicts {
                if !joined.conflicts.contains(glob) {
                    joined.conflicts.push(glob.clone());
                    is_more = true;
                }
            }
            if let Some(ports) = &other.ports {
                let all = joined.ports.as_deref().cloned().unwrap_or_default().joined(ports);
                is_more |= joined.ports.as_deref() != Some(&all);
                joined.ports = Some(Box::new(all));
            }
            let most = joined.resources.max(other.resources);
            is_more |= most != joined.resources;
            joined.resources = most;
            is_more |= joined.instances.join(&other.instances);
        }
        is_more.then_some(joined)
    }

    /// `Priority=`.
    #[must_use]
    pub fn priority(&self) -> i32 {
        self.preferences.as_ref().map_or(0, |preferences| preferences.priority)
    }

    /// How many patterns it has.
    #[must_use]
    pub fn patterns(&self) -> usize {
        let preferred = self.preferences.as_ref().map_or(0, |preferences| preferences.patterns());
        self.conflicts.len() + self.replaces.len() + preferred
    }

    fn take(&mut self, name: &str, value: &str) -> Result<(), String> {
        let modern = name.trim_start_matches("X-Condition").trim_start_matches("X-");
        match modern {
            "MachineID" | "MachineBootID" => self.take_machine_id(name, value),
            "MachineMetadata" => self.take_metadata(value),
            "MachineOf" => self.take_machine_of(value),
            "Conflicts" => globs(name, value).map(|globs| self.conflicts.extend(globs)),
            "Replaces" => globs(name, value).map(|globs| self.replaces.extend(globs)),
            disconnect::OPTION => value.parse().map(|on_disconnect| self.on_disconnect = on_disconnect),
            move_after::OPTION => value.parse().map(|move_after| self.move_after = move_after),
            "Replicas" => self.take_replicas(value),
            option if reschedule::OPTIONS.contains(&option) => {
                self.reschedule.get_or_insert_default().take(option, value)
            }
            option if preference::OPTIONS.contains(&option) => {
                self.preferences.get_or_insert_default().take(option, value)
            }
            _ => {
                let option = if modern == "RunOnce" { &mut self.run_once } else { &mut self.global };
                boolean(value)
                    .map(|yes| *option = yes)
                    .ok_or_else(|| format!("`{modern}={value}`: must be true or false"))
            }
        }
    }

    /// The first value takes effect, and `MachineID=` takes precedence over its legacy spelling, as in CoreOS fleet.
    fn take_machine_id(&mut self, name: &str, value: &str) -> Result<(), String> {
        if name == "X-ConditionMachineBootID" {
            return Err("`X-ConditionMachineBootID` never matched a host in fleet either; use `MachineID`".into());
        }
        let digits = value.bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase());
        let valid = value.contains('%') || digits && matches!(value.len(), 8 | 32);
        if !valid {
            return Err(format!("`{name}={value}`: a machine id has 32 lower-case hexadecimal digits, or its first 8"));
        }
        let legacy = name != "MachineID";
        if self.machine_id.is_none() || (self.legacy_id && !legacy) {
            (self.machine_id, self.legacy_id) = (Some(value.into()), legacy);
        }
        Ok(())
    }

    fn take_metadata(&mut self, value: &str) -> Result<(), String> {
        let pairs = words("MachineMetadata", value)?;
        if pairs.is_empty() {
            return Err("`MachineMetadata=` is empty: it must be key=value".into());
        }
        for pair in pairs {
            match Word::parse(&pair).map_err(|what| format!("`MachineMetadata={value}`: {what}"))? {
                Word::Equal(key, value) => drop(self.metadata.entry(key).or_default().insert(value)),
                Word::Condition(condition) => drop(self.conditions.insert(condition)),
            }
        }
        Ok(())
    }

    /// The last value counts.
    fn take_replicas(&mut self, value: &str) -> Result<(), String> {
        let count = Some(value).filter(|value| value.bytes().all(|b| b.is_ascii_digit())).and_then(|v| v.parse().ok());
        let number = || count.filter(|count| *count <= MAX_REPLICAS).map(Replicas::Number);
        let lead = || value.parse().ok().filter(UnitName::is_template).map(Replicas::Of);
        self.replicas = Some(number().or_else(lead).ok_or_else(|| {
            format!("`Replicas={value}`: must be a number from 0 to {MAX_REPLICAS}, or a template such as web@.service")
        })?);
        Ok(())
    }

    fn take_machine_of(&mut self, value: &str) -> Result<(), String> {
        let names = words("MachineOf", value)?;
        if names.is_empty() {
            return Err("`MachineOf=` is empty: it must name a unit".into());
        }
        for name in names {
            if !name.contains('%')
                && let Err(error) = name.parse::<UnitName>()
            {
                return Err(format!("`MachineOf={value}`: {error}"));
            }
            self.machine_of.insert(name);
        }
        Ok(())
    }

    /// Options that can't be combined: with CoreOS fleet's messages, and without a line, where it had both.
    fn contradictions(&self, file: &UnitFile) -> Vec<Problem> {
        let line = |option: &str| line_of(file, option);
        let (pinned, waits) = (self.machine_id.is_some(), self.move_after > MoveAfter::AT_ONCE);
        let (peers, conflicts, replaces) =
            (!self.machine_of.is_empty(), !self.conflicts.is_empty(), !self.replaces.is_empty());
        let rules = [
            (pinned && peers, "MachineID cannot be used with Peers", 0),
            (pinned && conflicts, "MachineID cannot be used with Conflicts", 0),
            (pinned && self.global, "MachineID cannot be used with Global", 0),
            (pinned && replaces, "MachineID cannot be used with Replaces", 0),
            (self.global && peers, "Global cannot be used with Peers", 0),
            (self.global && replaces, "Global cannot be used with Replaces", 0),
            (self.global && self.replicas.is_some(), "Replicas cannot be used with Global", line("Replicas")),
            (
                waits && self.global,
                "MoveAfterSec cannot be used with Global: it is on every host",
                line(move_after::OPTION),
            ),
            (
                waits && pinned,
                "MoveAfterSec cannot be used with MachineID: it has only one host",
                line(move_after::OPTION),
            ),
            (self.global && self.run_once, "RunOnce cannot be used with Global", line("RunOnce")),
            (conflicts && replaces, "Conflicts cannot be used with Replaces", 0),
        ];
        let problem = |(_, what, line): (bool, &str, usize)| Problem { line, what: what.into() };
        let mut found: Vec<Problem> = rules.into_iter().filter(|(broken, ..)| *broken).map(problem).collect();
        let preferred = self.preferences.iter().flat_map(|preferred| preferred.contradictions(pinned, self.global));
        found.extend(preferred.map(|(option, what)| Problem { line: line(option), what }));
        let (peer, bound) = (self.machine_of.first(), self.belongs_to_its_host());
        let rescheduled = self.reschedule.iter().flat_map(|it| it.contradictions(self.global, peer, bound));
        found.extend(rescheduled.map(|(option, what)| Problem { line: line(option), what }));
        for peer in &self.machine_of {
            for (globs, what) in [(&self.conflicts, "conflict"), (&self.replaces, "replace")] {
                let matching = globs.iter().filter(|glob| glob.matches(peer));
                found.extend(matching.map(|glob| {
                    let what = format!("unresolvable requirements: peer \"{peer}\" matches {what} \"{glob}\"");
                    Problem { line: 0, what }
                }));
            }
        }
        found
    }
}

/// Where `file` has an option of the section last; 0 if it hasn't.
fn line_of(file: &UnitFile, option: &str) -> usize {
    file.section(FLEET).filter(|found| found.name == option).last().map_or(0, |found| found.line)
}

/// Words separated by white space; double quotes group words (`"a=b" "c=d"`, `"region=us east"`). `Err` if a quote
/// isn't closed.
fn words(name: &str, value: &str) -> Result<Vec<String>, String> {
    let (mut words, mut word, mut quoted, mut open) = (Vec::new(), String::new(), false, false);
    for c in value.chars() {
        match c {
            '"' => {
                quoted = !quoted;
                open = true;
            }
            c if WHITESPACE.contains(&c) && !quoted => {
                if std::mem::take(&mut open) {
                    words.push(std::mem::take(&mut word));
                }
            }
            c => {
                word.push(c);
                open = true;
            }
        }
    }
    if quoted {
        return Err(format!("`{name}={value}`: a quotation mark is missing"));
    }
    if open {
        words.push(word);
    }
    words.retain(|word| !word.is_empty());
    Ok(words)
}

fn globs(name: &str, value: &str) -> Result<Vec<Glob>, String> {
    let words = words(name, value)?;
    if words.is_empty() {
        return Err(format!("`{name}=` is empty: it must name a unit or a pattern of units"));
    }
    words.iter().map(|word| word.parse().map_err(|error| format!("`{name}={value}`: {error}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(section: &str) -> Result<Constraints, Vec<Problem>> {
        Constraints::parse(
            &UnitFile::parse(format!("[Service]\nExecStart=/bin/true\n[X-Fleet]\n{section}").as_bytes()).unwrap(),
        )
    }

    fn problem(section: &str) -> String {
        parse(section).unwrap_err().iter().map(|p| format!("{}: {p}", p.line)).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn all_options_are_read() {
        let constraints = parse(
            "MachineMetadata=a=1 \"b=x y\"\nMachineMetadata=a=2\nMachineOf=db.service\n\
             Conflicts=web@* x.service\nX-Conflicts=y*\nGlobal=no",
        )
        .unwrap();
        let values = |key: &str| constraints.metadata[key].iter().cloned().collect::<Vec<_>>();
        assert_eq!((values("a"), values("b")), (vec!["1".into(), "2".into()], vec!["x y".to_owned()]));
        assert_eq!(constraints.machine_of.iter().collect::<Vec<_>>(), ["db.service"]);
        assert_eq!(constraints.conflicts.iter().map(Glob::as_str).collect::<Vec<_>>(), ["web@*", "x.service", "y*"]);
        assert!(!constraints.global);
        assert_eq!(parse("MachineID=3ec325e8\nMachineID=aaaaaaaa").unwrap().machine_id.as_deref(), Some("3ec325e8"));
    }

    #[test]
    fn every_problem_is_named_with_its_line() {
        assert_eq!(
            problem("MachineMetdata=a=b"),
            "4: unknown option `MachineMetdata` in [X-Fleet]; did you mean `MachineMetadata`?"
        );
        assert_eq!(
            problem("Bogus=1\nGlobal=maybe"),
            "4: unknown option `Bogus` in [X-Fleet]; 5: `Global=maybe`: must be true or false"
        );
        assert!(problem("MachineMetadata=a=").starts_with("4: `MachineMetadata=a=`: `a=` must be key=value, "));
        assert_eq!(
            problem("MachineMetadata=b=c zone!a"),
            "4: `MachineMetadata=b=c zone!a`: `zone!a`: key!=value, or !key"
        );
        assert_eq!(problem("MachineMetadata=\"a=b"), "4: `MachineMetadata=\"a=b`: a quotation mark is missing");
        assert_eq!(problem("Conflicts=a\" b"), "4: `Conflicts=a\" b`: a quotation mark is missing");
        assert!(problem("MachineID=n1").contains("32 lower-case"));
        assert_eq!(problem("OnDisconnect=kill"), "4: `OnDisconnect=kill`: must be keep or stop");
        assert_eq!(
            problem("OnDisconect=stop"),
            "4: unknown option `OnDisconect` in [X-Fleet]; did you mean `OnDisconnect`?"
        );
        assert!(problem("Conflicts=[a").contains("no valid pattern"));
        assert_eq!(problem("Replica=3"), "4: unknown option `Replica` in [X-Fleet]; did you mean `Replicas`?");
        for bad in ["-1", "1001", "+3", "3 4", "", "many", "99999999999", "%i", "web@1.service", "web@", "a@.mount"] {
            let expected =
                format!("4: `Replicas={bad}`: must be a number from 0 to 1000, or a template such as web@.service");
            assert_eq!(problem(&format!("Replicas={bad}")), expected);
        }
        assert!(problem("MachineOf=%H.service").contains("only the specifiers"));
        assert!(problem("MachineOf=db").contains("has no type"));
        // One name, since only systemd's white space separates words.
        assert!(problem("MachineOf=a.service\u{2003}b.service").contains("invalid character"));
        assert_eq!(problem("Global=true\nMachineOf=a.service"), "0: Global cannot be used with Peers");
        assert_eq!(
            problem("MachineOf=a.service\nConflicts=a*"),
            "0: unresolvable requirements: peer \"a.service\" matches conflict \"a*\""
        );
    }

    #[test]
    fn a_unit_keeps_running_on_disconnection_unless_its_last_value_is_stop() {
        for (section, expected) in [
            ("Global=no", OnDisconnect::Keep),
            ("OnDisconnect=keep", OnDisconnect::Keep),
            ("OnDisconnect=stop", OnDisconnect::Stop),
            ("OnDisconnect=stop\nOnDisconnect=keep", OnDisconnect::Keep),
            ("OnDisconnect=stop\nConflicts=%p@*", OnDisconnect::Stop),
        ] {
            let constraints = Arc::new(parse(section).unwrap());
            assert_eq!(constraints.on_disconnect, expected, "{section}");
            let resolved = Constraints::resolve(&constraints, &"web@1.service".parse().unwrap());
            assert_eq!(resolved.on_disconnect, expected, "{section}");
        }
    }

    #[test]
    fn a_template_says_how_many_members_it_has() {
        let web: UnitName = "web@.service".parse().unwrap();
        for (section, expected) in [
            ("Global=no", None),
            ("Replicas=0", Some(Replicas::Number(0))),
            ("Replicas=3\nReplicas=1000\nConflicts=%p@*", Some(Replicas::Number(1000))),
            ("Replicas=3\nReplicas=web@.service\nConflicts=%p@*", Some(Replicas::Of(web))),
        ] {
            let constraints = Arc::new(parse(section).unwrap());
            assert_eq!(constraints.replicas, expected, "{section}");
            let resolved = Constraints::resolve(&constraints, &"web@.service".parse().unwrap());
            assert_eq!(resolved.replicas, expected, "{section}");
        }
    }

    #[test]
    fn the_first_machine_id_counts_and_any_before_its_legacy_spelling() {
        let id = |section: &str| parse(section).unwrap().machine_id;
        let (a, b) = ("a".repeat(8), "b".repeat(8));
        assert_eq!(id(&format!("MachineID={a}\nMachineID={b}")), Some(a.clone()));
        assert_eq!(id(&format!("X-ConditionMachineID={b}\nMachineID={a}")), Some(a.clone()));
        assert_eq!(id(&format!("MachineID={a}\nX-ConditionMachineID={b}")), Some(a.clone()));
        assert_eq!(id(&format!("X-ConditionMachineID={a}\nX-ConditionMachineID={b}")), Some(a));
    }

    #[test]
    fn legacy_spellings_mean_the_same_and_booleans_are_fleets() {
        let legacy =
            "X-ConditionMachineOf=a.service\nX-ConditionMachineMetadata=\"zone=a\" \"zone=b c\"\nX-Conflicts=b.* c@*";
        assert_eq!(parse(legacy), parse(&legacy.replace("X-Condition", "").replace("X-", "")));
        for yes in ["true", "True", "yes", "1", "on", "ON", "t", "T"] {
            assert!(parse(&format!("Global={yes}")).unwrap().global, "{yes}");
        }
        assert!(!parse("Global=true\nGlobal=no").unwrap().global, "the last counts");
        for bad in ["", "maybe", "2"] {
            assert!(problem(&format!("Global={bad}")).contains("must be true or false"), "{bad}");
        }
    }

    #[test]
    fn what_does_not_go_together_is_said_in_fleets_words() {
        let id = "MachineID=3ec325e8";
        let cases = [
            (format!("{id}\nMachineOf=a.service"), "MachineID cannot be used with Peers"),
            (format!("{id}\nConflicts=a.service"), "MachineID cannot be used with Conflicts"),
            (format!("{id}\nGlobal=true"), "MachineID cannot be used with Global"),
            (format!("{id}\nReplaces=a.service"), "MachineID cannot be used with Replaces"),
            ("Global=true\nMachineOf=a.service".into(), "Global cannot be used with Peers"),
            ("Global=true\nReplaces=a.service".into(), "Global cannot be used with Replaces"),
            ("Conflicts=a.service\nReplaces=b.service".into(), "Conflicts cannot be used with Replaces"),
            (
                "MachineOf=a.service\nConflicts=a.*".into(),
                "unresolvable requirements: peer \"a.service\" matches conflict \"a.*\"",
            ),
            (
                "MachineOf=a.service\nReplaces=a.*".into(),
                "unresolvable requirements: peer \"a.service\" matches replace \"a.*\"",
            ),
        ];
        for (section, what) in cases {
            assert_eq!(problem(&section), format!("0: {what}"));
        }
        assert_eq!(problem("Global=true\nReplicas=0"), "5: Replicas cannot be used with Global");
        assert_eq!(problem("RunOnce=yes\nGlobal=true"), "4: RunOnce cannot be used with Global");
        let global = "5: MoveAfterSec cannot be used with Global: it is on every host";
        assert_eq!(problem("Global=true\nMoveAfterSec=5min"), global);
        let pinned = "4: MoveAfterSec cannot be used with MachineID: it has only one host";
        assert_eq!(problem("MoveAfterSec=infinity\nMachineID=0123abcd"), pinned);
        assert_eq!(problem("MoveAfterSec=soon"), "4: `MoveAfterSec=soon`: must be a time such as 10min, or infinity");
        assert_eq!(problem("MoveAfter=5"), "4: unknown option `MoveAfter` in [X-Fleet]; did you mean `MoveAfterSec`?");
        assert!(parse("MoveAfterSec=0\nGlobal=true").is_ok(), "it is what holds anyway");
        assert!(parse("MoveAfterSec=infinity").unwrap().belongs_to_its_host());
    }

    #[test]
    fn specifiers_resolve_for_each_instance() {
        let constraints =
            Arc::new(parse("MachineOf=%p-data@%i.service\nConflicts=%p@*\nMachineMetadata=disk=%i%%").unwrap());
        let resolved = Constraints::resolve(&constraints, &"web@7.service".parse().unwrap());
        assert_eq!(resolved.machine_of.iter().collect::<Vec<_>>(), ["web-data@7.service"]);
        assert!(resolved.conflicts[0].matches("web@8.service"));
        assert!(resolved.metadata["disk"].contains("7%"));
        let escaped = Arc::new(parse("Conflicts=x@%i.service").unwrap());
        assert!(
            Constraints::resolve(&escaped, &"web@a\\x2d.service".parse().unwrap()).conflicts[0]
                .matches("x@a\\x2d.service")
        );
    }
}
