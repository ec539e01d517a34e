//! What a unit prefers among the hosts that fit: `Spread=`, `Avoids=`, `MachinePrefers=`, and `Priority=` among units.
//! Owns their syntax. An order, never weights: what comes first decides, and what follows only among equals.

use std::collections::{BTreeMap, BTreeSet};

use super::condition::{Condition, Word};
use super::{globs, words};
use crate::model::glob::Glob;
use crate::model::name::UnitName;

/// The options.
pub const OPTIONS: [&str; 5] = ["Spread", "MaxSkew", "Avoids", "MachinePrefers", "Priority"];

/// The largest `MaxSkew=`.
const LARGEST_SKEW: u32 = 1000;

/// The largest `Priority=`, and with a minus sign the smallest.
const HIGHEST: i32 = 1000;

/// What a file says of preferences. Most say nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Preferences {
    /// `Spread=`, with `MaxSkew=`.
    pub spread: Option<Spread>,
    /// `Avoids=`: hosts with fewer units that match come first.
    pub avoids: Vec<Glob>,
    /// `MachinePrefers=`: hosts for which a line holds come first; each line decides among those that are equal by the
    /// lines before it.
    pub prefers: Vec<Wanted>,
    /// `Priority=`: of units that wait together, which is placed first.
    pub priority: i32,
}

/// `Spread=`: hosts come first whose value of a key fewer other units have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spread {
    /// The key. Hosts without it have one value in common.
    pub key: String,
    /// The units that are counted; otherwise the instances of the unit's template.
    pub of: Option<Glob>,
    /// `MaxSkew=`: by how many a value may have more of them than the value with the fewest.
    pub max_skew: Option<u32>,
}

/// A line of `MachinePrefers=`, which reads like one of `MachineMetadata=`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wanted {
    /// For each key, the accepted values.
    pub values: BTreeMap<String, BTreeSet<String>>,
    /// The other words.
    pub conditions: BTreeSet<Condition>,
}

impl Wanted {
    /// Whether a host is as the line wants it. `value` has its metadata.
    pub fn holds<'a>(&self, value: impl Fn(&str) -> Option<&'a str>) -> bool {
        let has = |(key, wanted): (&String, &BTreeSet<String>)| value(key).is_some_and(|found| wanted.contains(found));
        self.values.iter().all(has) && self.conditions.iter().all(|condition| condition.holds(value(&condition.key)))
    }

    fn parse(value: &str) -> Result<Self, String> {
        let mut wanted = Self::default();
        for word in words("MachinePrefers", value)? {
            match Word::parse(&word).map_err(|what| format!("`MachinePrefers={value}`: {what}"))? {
                Word::Equal(key, value) => drop(wanted.values.entry(key).or_default().insert(value)),
                Word::Condition(condition) => drop(wanted.conditions.insert(condition)),
            }
        }
        if wanted == Self::default() {
            return Err("`MachinePrefers=` is empty: it must be key=value, or another condition".into());
        }
        Ok(wanted)
    }

    fn resolve(&self, name: &UnitName) -> Self {
        let plain = |text: &String| name.expand(text);
        let pair = |(key, values): (&String, &BTreeSet<String>)| (plain(key), values.iter().map(plain).collect());
        let conditions = self.conditions.iter().map(|condition| condition.resolve(name));
        Self { values: self.values.iter().map(pair).collect(), conditions: conditions.collect() }
    }
}

/// As it is written.
impl std::fmt::Display for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let pairs = self.values.iter().flat_map(|(key, all)| all.iter().map(move |value| format!("{key}={value}")));
        let words: Vec<String> = pairs.chain(self.conditions.iter().map(ToString::to_string)).collect();
        f.write_str(&words.join(" "))
    }
}

impl Preferences {
    /// Take the value of an option.
    pub(super) fn take(&mut self, option: &str, value: &str) -> Result<(), String> {
        match option {
            "Spread" => self.take_spread(value),
            "MaxSkew" => {
                let number = value.parse().ok().filter(|skew| (1..=LARGEST_SKEW).contains(skew));
                let number =
                    number.ok_or_else(|| format!("`MaxSkew={value}`: must be a number from 1 to {LARGEST_SKEW}"))?;
                // Its `Spread=` may follow; `Self::contradictions` finds out.
                self.spread.get_or_insert_with(Spread::nothing).max_skew = Some(number);
                Ok(())
            }
            "Avoids" => globs(option, value).map(|globs| self.avoids.extend(globs)),
            "MachinePrefers" => Wanted::parse(value).map(|wanted| self.prefers.push(wanted)),
            _ => {
                let number = value.parse().ok().filter(|priority| (-HIGHEST..=HIGHEST).contains(priority));
                self.priority = number
                    .ok_or_else(|| format!("`Priority={value}`: must be a number from -{HIGHEST} to {HIGHEST}"))?;
                Ok(())
            }
        }
    }

    /// The last value counts.
    fn take_spread(&mut self, value: &str) -> Result<(), String> {
        let mut found = words("Spread", value)?.into_iter();
        let key = found.next().ok_or("`Spread=` names no key: it must be a key of metadata, such as zone")?;
        if key.contains(['=', '!', '<', '>', '~', '*']) {
            return Err(format!("`Spread={value}`: `{key}` is no key of metadata; it must be such as zone"));
        }
        let of = found.next().map(|glob| glob.parse().map_err(|error| format!("`Spread={value}`: {error}")));
        let of = of.transpose()?;
        if found.next().is_some() {
            return Err(format!("`Spread={value}`: must be a key, and one pattern at most"));
        }
        let spread = self.spread.get_or_insert_with(Spread::nothing);
        (spread.key, spread.of) = (key, of);
        Ok(())
    }

    /// What doesn't go together, and which option is wrong.
    pub(super) fn contradictions(&self, is_pinned: bool, is_global: bool) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        let spreads = self.spread.as_ref().is_some_and(|spread| !spread.key.is_empty());
        if self.spread.is_some() && !spreads {
            found.push(("MaxSkew", "MaxSkew= without Spread=".into()));
        }
        let used =
            [("Spread", spreads), ("Avoids", !self.avoids.is_empty()), ("MachinePrefers", !self.prefers.is_empty())];
        for (option, _) in used.into_iter().filter(|(_, is_used)| *is_used) {
            for (other, _) in [("MachineID", is_pinned), ("Global", is_global)].into_iter().filter(|(_, is)| *is) {
                found.push((option, format!("{option} cannot be used with {other}")));
            }
        }
        found
    }

    /// Those of unit `name`.
    pub(super) fn resolve(&self, name: &UnitName) -> Self {
        let glob = |glob: &Glob| name.expand_with(glob.as_str(), |part| Glob::escape(part).into()).parse().ok();
        let spread = self.spread.as_ref().map(|spread| Spread {
            key: name.expand(&spread.key),
            of: spread.of.as_ref().and_then(glob),
            max_skew: spread.max_skew,
        });
        let prefers = self.prefers.iter().map(|wanted| wanted.resolve(name)).collect();
        Self { spread, avoids: self.avoids.iter().filter_map(glob).collect(), prefers, priority: self.priority }
    }

    /// How many patterns are compared with the name of every unit.
    pub(super) fn patterns(&self) -> usize {
        self.avoids.len() + usize::from(self.spread.as_ref().is_some_and(|spread| spread.of.is_some()))
    }
}

impl Spread {
    fn nothing() -> Self {
        Self { key: String::new(), of: None, max_skew: None }
    }

    /// The units that `unit` is kept apart from.
    #[must_use]
    pub fn crowd(&self, unit: &UnitName) -> Option<Crowd> {
        match &self.of {
            Some(glob) => Some(Crowd::Matching(glob.clone())),
            None => unit.template().map(Crowd::Instances),
        }
    }
}

/// Units that are counted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Crowd {
    /// The instances of a template.
    Instances(UnitName),
    /// Those that match a pattern.
    Matching(Glob),
}

impl Crowd {
    /// Whether a unit is one of them.
    #[must_use]
    pub fn has(&self, name: &UnitName) -> bool {
        match self {
            Self::Instances(template) => {
                let is_instance = name.instance().is_some_and(|instance| !instance.is_empty());
                is_instance && (name.prefix(), name.kind()) == (template.prefix(), template.kind())
            }
            Self::Matching(glob) => glob.matches(name.as_str()),
        }
    }
}

/// As people would write it: `web@*.service`.
impl std::fmt::Display for Crowd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Instances(template) => f.write_str(&template.as_str().replacen('@', "@*", 1)),
            Self::Matching(glob) => glob.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::file::UnitFile;
    use crate::model::placement::{Constraints, limits};

    fn file(section: &str) -> UnitFile {
        UnitFile::parse(format!("[Service]\nExecStart=/bin/true\n[X-Fleet]\n{section}").as_bytes()).unwrap()
    }

    fn preferences(section: &str) -> Preferences {
        *Constraints::parse(&file(section)).unwrap().preferences.unwrap()
    }

    fn problem(section: &str) -> String {
        let problems = limits::parse(&file(section)).unwrap_err();
        problems.iter().map(|p| format!("{}: {p}", p.line)).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn all_options_are_read() {
        let read = preferences(
            "Spread=rack\nMaxSkew=3\nSpread=zone web@*\nAvoids=a* b*\nAvoids=c.service\n\
             MachinePrefers=disk=ssd disk=nvme !old\nMachinePrefers=zone!=a\nPriority=-7",
        );
        let spread = read.spread.unwrap();
        assert_eq!((&*spread.key, spread.of.unwrap().as_str(), spread.max_skew), ("zone", "web@*", Some(3)));
        assert_eq!(read.avoids.iter().map(Glob::as_str).collect::<Vec<_>>(), ["a*", "b*", "c.service"]);
        let lines: Vec<String> = read.prefers.iter().map(ToString::to_string).collect();
        assert_eq!((lines, read.priority), (vec!["disk=nvme disk=ssd !old".to_owned(), "zone!=a".to_owned()], -7));
        assert_eq!(Constraints::parse(&file("Global=no")).unwrap().preferences, None);
    }

    #[test]
    fn a_line_holds_if_all_of_its_words_do() {
        let wanted = &preferences("MachinePrefers=disk=ssd disk=nvme zone!=a").prefers[0];
        let holds = |disk: Option<&'static str>, zone: &'static str| {
            wanted.holds(|key| if key == "disk" { disk } else { Some(zone) })
        };
        assert!(holds(Some("ssd"), "b") && holds(Some("nvme"), "c"));
        assert!(!holds(Some("hdd"), "b") && !holds(None, "b") && !holds(Some("ssd"), "a"));
    }

    #[test]
    fn every_problem_is_named_with_its_line() {
        for (section, what) in [
            ("Spread=", "4: `Spread=` names no key: it must be a key of metadata, such as zone"),
            ("Spread=zone=a", "4: `Spread=zone=a`: `zone=a` is no key of metadata; it must be such as zone"),
            ("Spread=web@*", "4: `Spread=web@*`: `web@*` is no key of metadata; it must be such as zone"),
            ("Spread=zone a* b*", "4: `Spread=zone a* b*`: must be a key, and one pattern at most"),
            (
                "Spread=@zone",
                "4: `Spread=`: hosts report no `@zone`; there are @arch, @cpus, @kernel, @memory, @os, \
                @os-version, @systemd",
            ),
            ("Spread=zone\nMaxSkew=0", "5: `MaxSkew=0`: must be a number from 1 to 1000"),
            ("MaxSkew=1", "4: MaxSkew= without Spread="),
            ("Priority=high", "4: `Priority=high`: must be a number from -1000 to 1000"),
            ("Priority=1001", "4: `Priority=1001`: must be a number from -1000 to 1000"),
            ("Avoids=[a", "4: `Avoids=[a`: `[a` is no valid pattern: unclosed or empty [class], or a final backslash"),
            ("MachinePrefers=", "4: `MachinePrefers=` is empty: it must be key=value, or another condition"),
            ("MachinePrefers=zone!a", "4: `MachinePrefers=zone!a`: `zone!a`: key!=value, or !key"),
            ("MachinePrefers=ram>=big", "4: `MachinePrefers=`: `ram>=big`: >= compares numbers and versions"),
            ("MachineID=3ec325e8\nMachinePrefers=a=b", "5: MachinePrefers cannot be used with MachineID"),
            ("Global=true\nSpread=zone", "5: Spread cannot be used with Global"),
            ("MachineID=3ec325e8\nAvoids=a*", "5: Avoids cannot be used with MachineID"),
            ("Spred=zone", "4: unknown option `Spred` in [X-Fleet]; did you mean `Spread`?"),
        ] {
            assert_eq!(problem(section), what, "{section}");
        }
    }

    #[test]
    fn specifiers_resolve_and_crowds_are_those_of_the_unit() {
        let constraints =
            Arc::new(Constraints::parse(&file("Spread=zone\nAvoids=%p-log@*\nMachinePrefers=rack=%i !%p")).unwrap());
        let name: UnitName = "web@7.service".parse().unwrap();
        let resolved = Constraints::resolve(&constraints, &name);
        let read = resolved.preferences.as_deref().unwrap();
        assert_eq!((read.avoids[0].as_str(), read.prefers[0].to_string()), ("web-log@*", "rack=7 !web".to_owned()));
        let crowd = read.spread.as_ref().unwrap().crowd(&name).unwrap();
        assert_eq!(crowd.to_string(), "web@*.service");
        let has = |name: &str| crowd.has(&name.parse().unwrap());
        assert!(has("web@1.service") && has("web@blue.service"));
        assert!(!has("web@.service") && !has("web.service") && !has("web@1.socket") && !has("web2@1.service"));
        assert_eq!(read.spread.as_ref().unwrap().crowd(&"web.service".parse().unwrap()), None);
    }
}
