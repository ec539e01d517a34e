//! The words of `MachineMetadata=`: `zone=a`, which fleet has, and the operators. Owns their syntax, what each asks of
//! a host's value, and how that is said.

use std::cmp::Ordering;
use std::fmt;

use crate::model::glob::Glob;
use crate::model::machine::{BUILT_IN, BUILT_INS};
use crate::model::name::UnitName;
use crate::model::version::compare;

/// What is written in a word, for errors.
const FORMS: &str =
    "must be key=value, key!=value, key<value, key<=value, key>=value, key>value, key~pattern, key or !key";

/// An operator that is followed by a value.
type Comparison = (&'static str, fn(String) -> Test);

const COMPARISONS: [Comparison; 5] =
    [("!=", Test::Differs), ("<=", Test::AtMost), (">=", Test::AtLeast), ("<", Test::Below), (">", Test::Above)];

/// A word that isn't `key=value`. Such words of one key must all hold.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Condition {
    /// The key.
    pub key: String,
    /// What must hold of its value.
    pub test: Test,
}

/// What must hold of the value of a key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Test {
    /// `key!=value`: it is another one, or there is none.
    Differs(String),
    /// `key<value`, in the order of versions, as the next three.
    Below(String),
    /// `key<=value`.
    AtMost(String),
    /// `key>=value`.
    AtLeast(String),
    /// `key>value`.
    Above(String),
    /// `key~pattern`.
    Matches(Glob),
    /// `key`.
    Exists,
    /// `!key`.
    Missing,
}

/// A word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Word {
    /// `key=value`, of which several with one key are alternatives.
    Equal(String, String),
    /// Any other.
    Condition(Condition),
}

impl Condition {
    /// Whether a host with this value of the key, or without any, is as it asks.
    #[must_use]
    pub fn holds(&self, value: Option<&str>) -> bool {
        let ordered =
            |wanted: &String, orders: &[Ordering]| value.is_some_and(|v| orders.contains(&compare(v, wanted)));
        match &self.test {
            Test::Differs(other) => value != Some(other),
            Test::Below(wanted) => ordered(wanted, &[Ordering::Less]),
            Test::AtMost(wanted) => ordered(wanted, &[Ordering::Less, Ordering::Equal]),
            Test::AtLeast(wanted) => ordered(wanted, &[Ordering::Greater, Ordering::Equal]),
            Test::Above(wanted) => ordered(wanted, &[Ordering::Greater]),
            Test::Matches(pattern) => value.is_some_and(|value| pattern.matches(value)),
            Test::Exists => value.is_some(),
            Test::Missing => value.is_none(),
        }
    }

    /// What it wants, after `wanted`.
    #[must_use]
    pub fn wanted(&self) -> String {
        match &self.test {
            Test::Differs(_) => "any other".into(),
            Test::Below(value) => format!("less than {value}"),
            Test::AtMost(value) => format!("{value} or less"),
            Test::AtLeast(value) => format!("{value} or more"),
            Test::Above(value) => format!("more than {value}"),
            Test::Matches(pattern) => pattern.to_string(),
            Test::Exists => "any".into(),
            Test::Missing => "none".into(),
        }
    }

    /// That of unit `name`: its specifiers are replaced.
    pub(super) fn resolve(&self, name: &UnitName) -> Self {
        let plain = |text: &String| name.expand(text);
        let test = match &self.test {
            Test::Differs(value) => Test::Differs(plain(value)),
            Test::Below(value) => Test::Below(plain(value)),
            Test::AtMost(value) => Test::AtMost(plain(value)),
            Test::AtLeast(value) => Test::AtLeast(plain(value)),
            Test::Above(value) => Test::Above(plain(value)),
            // A pattern that is malformed for this unit only, which no file can be submitted with, matches nothing.
            Test::Matches(glob) => {
                let text = name.expand_with(glob.as_str(), |part| Glob::escape(part).into());
                text.parse().map_or_else(|_| self.test.clone(), Test::Matches)
            }
            Test::Exists => Test::Exists,
            Test::Missing => Test::Missing,
        };
        Self { key: plain(&self.key), test }
    }
}

/// As it is written.
impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.key;
        match &self.test {
            Test::Differs(value) => write!(f, "{key}!={value}"),
            Test::Below(value) => write!(f, "{key}<{value}"),
            Test::AtMost(value) => write!(f, "{key}<={value}"),
            Test::AtLeast(value) => write!(f, "{key}>={value}"),
            Test::Above(value) => write!(f, "{key}>{value}"),
            Test::Matches(pattern) => write!(f, "{key}~{pattern}"),
            Test::Exists => write!(f, "{key}"),
            Test::Missing => write!(f, "!{key}"),
        }
    }
}

impl Word {
    /// Read a word. What fleet read as `key=value` is never an error, however odd the key.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let condition = |key: &str, test| Ok(Self::Condition(Condition { key: key.into(), test }));
        let fleets = || match text.split_once('=') {
            Some((key, value)) if !key.is_empty() && !value.is_empty() => Ok(Self::Equal(key.into(), value.into())),
            _ => Err(format!("`{text}` {FORMS}")),
        };
        let Some(at) = text.find(['=', '!', '<', '>', '~']) else {
            return if is_key(text) { condition(text, Test::Exists) } else { fleets() };
        };
        let (key, rest) = text.split_at(at);
        if key.is_empty() {
            let missing = rest.strip_prefix('!').filter(|key| is_key(key));
            return missing.map_or_else(fleets, |key| condition(key, Test::Missing));
        }
        let found = COMPARISONS.iter().find_map(|(operator, test)| Some((rest.strip_prefix(operator)?, test)));
        match found {
            Some((value, test)) if is_key(key) && !value.is_empty() => condition(key, test(value.into())),
            None if rest.starts_with('~') && !rest.starts_with("~=") && rest.len() > 1 && is_key(key) => {
                let pattern = rest[1..].parse().map_err(|error| format!("`{text}`: {error}"))?;
                condition(key, Test::Matches(pattern))
            }
            None if rest.starts_with('!') && !rest.contains('=') => Err(format!("`{text}`: key!=value, or !key")),
            _ => fleets(),
        }
    }

    /// The pattern in it.
    pub(super) fn pattern(&self) -> Option<&Glob> {
        match self {
            Self::Condition(Condition { test: Test::Matches(pattern), .. }) => Some(pattern),
            _ => None,
        }
    }

    /// What is wrong with a word that a file is submitted with, although it can be read.
    pub(super) fn doubt(&self) -> Option<String> {
        let key = match self {
            Self::Equal(key, value) => {
                let pair = format!("{key}={value}");
                if let Some(key) = key.strip_prefix('!') {
                    return Some(format!("`{pair}`: did you mean `{key}!={value}`?"));
                }
                if let Some(key) = key.strip_suffix('~') {
                    return Some(format!("`{pair}`: did you mean `{key}~{value}`?"));
                }
                if key.contains(['!', '<', '>', '~']) {
                    return Some(format!("`{pair}` {FORMS}"));
                }
                key
            }
            Self::Condition(condition) => {
                if let Some(what) = condition.doubt() {
                    return Some(format!("`{condition}`: {what}"));
                }
                &condition.key
            }
        };
        let is_unknown = key.starts_with(BUILT_IN) && !BUILT_INS.contains(&key.as_str());
        is_unknown.then(|| format!("hosts report no `{key}`; there are {}", BUILT_INS.join(", ")))
    }
}

impl Condition {
    fn doubt(&self) -> Option<String> {
        let (operator, value) = match &self.test {
            Test::Below(value) => ("<", value),
            Test::AtMost(value) => ("<=", value),
            Test::AtLeast(value) => (">=", value),
            Test::Above(value) => (">", value),
            Test::Differs(_) | Test::Matches(_) | Test::Exists | Test::Missing => return None,
        };
        let is_number = value.contains(|c: char| c.is_ascii_digit() || c == '%');
        (!is_number).then(|| format!("{operator} compares numbers and versions"))
    }
}

/// Whether something can be a key in front of an operator: what can be set, the name of built-in metadata, or a
/// specifier.
fn is_key(text: &str) -> bool {
    let text = text.strip_prefix(BUILT_IN).unwrap_or(text);
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-%".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Word, String> {
        Word::parse(text)
    }

    fn condition(text: &str) -> Condition {
        match read(text) {
            Ok(Word::Condition(condition)) => condition,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn each_operator_holds_of_some_values() {
        let none: Option<&str> = None;
        let cases = [
            ("zone!=a", vec![none, Some("b"), Some("")], vec![Some("a")]),
            ("ram<64", vec![Some("7"), Some("63.9")], vec![none, Some("64"), Some("128")]),
            ("ram<=64", vec![Some("7"), Some("064")], vec![none, Some("64.1")]),
            ("ram>=64", vec![Some("64"), Some("128")], vec![none, Some("7"), Some("lots")]),
            ("@kernel>6.9", vec![Some("6.10"), Some("6.9.1")], vec![none, Some("6.9"), Some("6.8.12")]),
            ("zone~eu-*", vec![Some("eu-1"), Some("eu-")], vec![none, Some("us-1"), Some("eu-1/a")]),
            ("zone~[ab]=?", vec![Some("a=1")], vec![Some("a1")]),
            ("gpu", vec![Some("a100"), Some("no")], vec![none]),
            ("!gpu", vec![none], vec![Some("a100")]),
        ];
        for (text, holding, others) in cases {
            let condition = condition(text);
            assert_eq!(condition.to_string(), text);
            holding.iter().for_each(|value| assert!(condition.holds(*value), "{text} {value:?}"));
            others.iter().for_each(|value| assert!(!condition.holds(*value), "{text} {value:?}"));
        }
    }

    /// Those of files that fleet had, whatever their keys look like, mean what they meant.
    #[test]
    fn pairs_are_fleets() {
        for (text, key, value) in [
            ("zone=a", "zone", "a"),
            ("opts=a=b", "opts", "a=b"),
            ("disk=big ssd", "disk", "big ssd"),
            ("a=>=1", "a", ">=1"),
            ("a=!b", "a", "!b"),
            ("!a=b", "!a", "b"),
            ("a!b=c", "a!b", "c"),
            ("a~=c", "a~", "c"),
            ("a b!=c", "a b!", "c"),
        ] {
            assert_eq!(read(text), Ok(Word::Equal(key.into(), value.into())), "{text}");
        }
    }

    #[test]
    fn what_can_be_no_word_says_what_can() {
        for text in ["=a", "a=", "a!=", "a<", "a>=", "a~", "!", "!!a", "~a", "<5", "", "a b", "!a<b"] {
            assert!(read(text).unwrap_err().ends_with(FORMS), "{text}: {:?}", read(text));
        }
        assert_eq!(read("zone!a").unwrap_err(), "`zone!a`: key!=value, or !key");
        assert!(read("zone~[a").unwrap_err().starts_with("`zone~[a`: `[a` is no valid pattern"));
    }

    #[test]
    fn what_is_probably_meant_otherwise_is_refused_when_it_is_submitted() {
        let doubt = |text: &str| read(text).unwrap().doubt();
        for fine in ["a=b", "a!=b", "ram>=64", "ram>=%i", "@arch=arm64", "!@os", "a~b*", "v<v2", "%p=1"] {
            assert_eq!(doubt(fine), None, "{fine}");
        }
        let reported = "hosts report no `@ram`; there are @arch, @cpus, @kernel, @memory, @os, @os-version, @systemd";
        for (text, what) in [
            ("!zone=a", "`!zone=a`: did you mean `zone!=a`?"),
            ("zone~=eu-*", "`zone~=eu-*`: did you mean `zone~eu-*`?"),
            ("ram>=big", "`ram>=big`: >= compares numbers and versions"),
            ("ram<low", "`ram<low`: < compares numbers and versions"),
            ("@ram>=64", reported),
            ("@ram=64", reported),
        ] {
            assert_eq!(doubt(text).as_deref(), Some(what), "{text}");
        }
        assert!(doubt("a!b=c").unwrap().ends_with(FORMS));
    }

    #[test]
    fn specifiers_are_replaced_in_keys_values_and_patterns() {
        let name = "web@7.service".parse().unwrap();
        for (text, resolved) in
            [("%p!=%i", "web!=7"), ("rank>=%i", "rank>=7"), ("zone~%i-*", "zone~7-*"), ("!%p", "!web")]
        {
            assert_eq!(condition(text).resolve(&name).to_string(), resolved);
        }
    }
}
