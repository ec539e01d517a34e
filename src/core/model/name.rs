//! Names of units, machines and unit files. A value of these types is valid by construction and cheap to clone, and
//! equal ones share their text: the scheduler has each name in a dozen indexes.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::intern;
use super::json::quoted;

/// Unit types that systemd loads from a file (`systemd.unit(5)`).
pub const TYPES: [&str; 10] =
    ["service", "socket", "device", "target", "mount", "automount", "swap", "timer", "path", "slice"];

/// Types that may be templates or instances, from CoreOS fleet's list.
const TEMPLATE_TYPES: [&str; 5] = ["path", "service", "socket", "target", "timer"];

/// The longest name in bytes: systemd's `UNIT_NAME_MAX` without the final NUL.
pub const MAX_LEN: usize = 255;

/// A regular expression that matches all valid names, and no name without a known type.
#[cfg(feature = "testing")]
pub const NAME_PATTERN: &str =
    r"^[A-Za-z0-9:_.\\-][A-Za-z0-9:_.\\@-]*\.(service|socket|device|target|mount|automount|swap|timer|path|slice)$";

/// A valid unit name: `web@1.service`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(
    feature = "testing",
    derive(schemars::JsonSchema),
    schemars(extend("pattern" = NAME_PATTERN, "maxLength" = MAX_LEN))
)]
pub struct UnitName(Arc<str>);

quoted! { UnitName by str::parse, MachineId by str::parse, UnitHash by UnitHash::of_record }

/// Why a string isn't a unit name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The string is empty.
    #[error("unit name cannot be empty")]
    Empty,
    /// Longer than [`MAX_LEN`].
    #[error("unit name is longer than {MAX_LEN} bytes")]
    TooLong,
    /// There is no `.type` at the end.
    #[error("unit name `{0}` has no type: it must end in .service, .socket, .timer or another of systemd's unit types")]
    NoType(String),
    /// A type that systemd doesn't load from a file.
    #[error(
        "invalid unit type `{1}` in unit name `{0}`: it must be one of service, socket, device, target, mount, \
         automount, swap, timer, path, slice{hint}", hint = hint(.1)
    )]
    Type(String, String),
    /// A type that can't be a template.
    #[error("invalid unit type for template: \"{0}\"")]
    TemplateType(String),
    /// A character that systemd doesn't allow.
    #[error("invalid character {0:?} in unit name")]
    Character(char),
    /// There is nothing before the `@`.
    #[error("unit name cannot start in \"@\"")]
    NoPrefix,
}

/// Why a type that fleet accepted can't have a file.
fn hint(kind: &str) -> &'static str {
    match kind {
        "scope" => "; scopes are made by programs while they run, never from a file",
        "busname" | "snapshot" => "; systemd has dropped this type",
        _ => "",
    }
}

impl UnitName {
    /// The whole name: the value of `%n`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The type, such as `service`.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.0.rsplit_once('.').map_or("", |(_, kind)| kind)
    }

    /// The name without its type: the value of `%N`.
    #[must_use]
    pub fn stem(&self) -> &str {
        self.0.rsplit_once('.').map_or(&self.0, |(stem, _)| stem)
    }

    /// The part before the first `@`, or else the stem: the value of `%p`.
    #[must_use]
    pub fn prefix(&self) -> &str {
        self.stem().split_once('@').map_or(self.stem(), |(prefix, _)| prefix)
    }

    /// The part after the first `@`: the value of `%i`. Empty for a template, `None` without an `@`.
    #[must_use]
    pub fn instance(&self) -> Option<&str> {
        self.stem().split_once('@').map(|(_, instance)| instance)
    }

    /// Whether this is a template such as `foo@.service`, which can be instantiated but not run.
    #[must_use]
    pub fn is_template(&self) -> bool {
        self.instance() == Some("")
    }

    /// `foo@.service` for `foo@1.service`; `None` if this isn't an instance.
    #[must_use]
    pub fn template(&self) -> Option<Self> {
        match self.instance() {
            Some("") | None => None,
            Some(_) => Some(Self(format!("{}@.{}", self.prefix(), self.kind()).into())),
        }
    }
}

impl UnitName {
    /// The number of an instance that is named by one, from 1 and without leading zeros: a member, if its template is a
    /// set.
    #[must_use]
    pub fn number(&self) -> Option<u32> {
        let instance = self.instance().filter(|instance| instance.bytes().all(|b| b.is_ascii_digit()))?;
        instance.parse().ok().filter(|number| *number > 0 && !instance.starts_with('0'))
    }

    /// The template of an instance that is named by a number: its set, if that is one.
    #[must_use]
    pub fn set(&self) -> Option<Self> {
        self.number().and_then(|_| self.template())
    }

    /// The number of an instance of `template` that is named by one: a member, if that is a set.
    #[must_use]
    pub fn number_in(&self, template: &Self) -> Option<u32> {
        let is_of = template.is_template() && self.prefix() == template.prefix() && self.kind() == template.kind();
        self.number().filter(|_| is_of)
    }

    /// The instance of this template that is named `number`.
    ///
    /// # Errors
    /// Its name would be too long.
    pub fn numbered(&self, number: u32) -> Result<Self, NameError> {
        format!("{}@{number}.{}", self.prefix(), self.kind()).parse()
    }

    /// `text` with the specifiers `%n`, `%N`, `%p`, `%i` replaced by their values for this unit.
    #[must_use]
    pub fn expand(&self, text: &str) -> String {
        self.expand_with(text, Cow::Borrowed)
    }

    /// The same, with `quote` applied to each value.
    #[must_use]
    pub fn expand_with<'a>(&'a self, text: &str, quote: impl Fn(&'a str) -> Cow<'a, str>) -> String {
        let mut out = String::with_capacity(text.len());
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            match (c == '%').then(|| chars.next()).flatten() {
                Some('n') => out.push_str(&quote(self.as_str())),
                Some('N') => out.push_str(&quote(self.stem())),
                Some('p') => out.push_str(&quote(self.prefix())),
                Some('i') => out.push_str(&quote(self.instance().unwrap_or_default())),
                Some(other) => out.push(other),
                None => out.push(c),
            }
        }
        out
    }
}

impl FromStr for UnitName {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        if name.is_empty() {
            return Err(NameError::Empty);
        }
        if name.len() > MAX_LEN {
            return Err(NameError::TooLong);
        }
        let known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b':' | b'_' | b'.' | b'\\' | b'@' | b'-');
        if let Some(at) = name.bytes().position(|b| !known(b)) {
            // All characters before it have one byte.
            return Err(NameError::Character(name[at..].chars().next().unwrap_or_default()));
        }
        let (stem, kind) = name.rsplit_once('.').ok_or_else(|| NameError::NoType(name.into()))?;
        if kind.is_empty() || stem.is_empty() {
            return Err(NameError::NoType(name.into()));
        }
        if !TYPES.contains(&kind) {
            return Err(NameError::Type(name.into(), kind.into()));
        }
        if stem.starts_with('@') {
            return Err(NameError::NoPrefix);
        }
        if stem.contains('@') && !TEMPLATE_TYPES.contains(&kind) {
            return Err(NameError::TemplateType(kind.into()));
        }
        Ok(Self(intern::shared(name)))
    }
}

impl fmt::Display for UnitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl std::borrow::Borrow<str> for UnitName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// A machine's identity: `/etc/machine-id`, 32 lower-case hexadecimal digits (`machine-id(5)`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "testing", derive(schemars::JsonSchema), schemars(extend("pattern" = "^[0-9a-f]{32}$")))]
pub struct MachineId(Arc<str>);

impl MachineId {
    /// All 32 digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first eight digits, which people type and tables show.
    #[must_use]
    pub fn short(&self) -> &str {
        &self.0[..8]
    }
}

/// The error for a string that isn't a machine id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no machine id: it must be 32 lower-case hexadecimal digits (see machine-id(5))")]
pub struct MachineIdError(String);

impl FromStr for MachineId {
    type Err = MachineIdError;

    fn from_str(id: &str) -> Result<Self, MachineIdError> {
        let valid = id.len() == 32
            && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
            && id.bytes().any(|b| b != b'0');
        if valid { Ok(Self(intern::shared(id))) } else { Err(MachineIdError(id.chars().take(64).collect())) }
    }
}

impl fmt::Display for MachineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Identifies the meaning of a unit file: SHA-1 of its canonical text, 40 hexadecimal digits, as CoreOS fleet's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "testing", derive(schemars::JsonSchema))]
pub struct UnitHash(Arc<str>);

/// The name of the algorithm. A hash in a record or a key may begin with the name of its algorithm and a colon. Without
/// a name it is by this one, and so is each that is written, so that every version reads it. A hash by another one is
/// refused, because there is no file here that it can be compared with.
const ALGORITHM: &str = "sha1";

/// Why a string isn't the hash of a unit file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// It doesn't look like one.
    #[error("a unit file's hash must be a SHA-1: 40 hexadecimal digits")]
    Form,
    /// It is by another algorithm.
    #[error(
        "{0:?} is the hash of a unit file by an algorithm that this version doesn't know; it knows {ALGORITHM} only"
    )]
    Algorithm(String),
}

/// The digits in `text`, which may name the algorithm.
fn digits(text: &str) -> Result<&str, HashError> {
    match text.split_once(':') {
        None => Ok(text),
        Some((ALGORITHM, digits)) if !digits.contains(':') => Ok(digits),
        Some(_) => Err(HashError::Algorithm(text.chars().take(64).collect())),
    }
}

/// For what a key or a request contains.
impl FromStr for UnitHash {
    type Err = HashError;
    fn from_str(text: &str) -> Result<Self, HashError> {
        // A file has one key only.
        if text.len() == 40 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Ok(Self::new(text));
        }
        digits(text).and(Err(HashError::Form))
    }
}

impl UnitHash {
    /// Of a record: its digits were checked when it was written.
    fn of_record(text: &str) -> Result<Self, HashError> {
        digits(text).map(Self::new)
    }

    /// Wrap a hash in hexadecimal.
    #[must_use]
    pub fn new(hex: &str) -> Self {
        Self(intern::shared(hex))
    }

    /// All 40 digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first seven digits, which tables show.
    #[must_use]
    pub fn short(&self) -> &str {
        self.0.get(..7).unwrap_or(&self.0)
    }
}

impl fmt::Display for UnitHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_an_instance_that_is_named_by_a_number() {
        let name = |text: &str| text.parse::<UnitName>().unwrap();
        for (unit, template, expected) in [
            ("web@1.service", "web@.service", Some(1)),
            ("web@40.service", "web@.service", Some(40)),
            ("web@0.service", "web@.service", None),
            ("web@01.service", "web@.service", None),
            ("web@blue.service", "web@.service", None),
            ("web@99999999999.service", "web@.service", None),
            ("web@.service", "web@.service", None),
            ("web@1.timer", "web@.service", None),
            ("api@1.service", "web@.service", None),
            ("web.service", "web@.service", None),
            ("web@1.service", "web.service", None),
            ("web@1.service", "web@2.service", None),
        ] {
            assert_eq!(name(unit).number_in(&name(template)), expected, "{unit} of {template}");
        }
        assert_eq!(name("web@.service").numbered(7), Ok(name("web@7.service")));
    }

    #[test]
    fn valid_names_split() {
        let name: UnitName = "web@1-a.service".parse().unwrap();
        assert_eq!(
            (name.prefix(), name.instance(), name.stem(), name.kind()),
            ("web", Some("1-a"), "web@1-a", "service")
        );
        assert_eq!(name.template().unwrap().as_str(), "web@.service");
        let template: UnitName = "web@.service".parse().unwrap();
        assert!(template.is_template());
        assert_eq!(template.template(), None);
        let plain: UnitName = "a.b.timer".parse().unwrap();
        assert_eq!((plain.prefix(), plain.instance(), plain.kind()), ("a.b", None, "timer"));
    }

    #[test]
    fn equal_ones_share_their_text_however_they_came_to_be() {
        fn shares<T: FromStr<Err: fmt::Debug> + serde::de::DeserializeOwned>(text: &str, of: fn(&T) -> &str) {
            let (parsed, read): (T, T) = (text.parse().unwrap(), serde_json::from_value(text.into()).unwrap());
            assert!(std::ptr::eq(of(&parsed), of(&read)), "{text}");
        }
        shares("web@1.service", UnitName::as_str);
        shares("3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a", MachineId::as_str);
        shares("3750b3e9f3962a56c7582929426e9abb012754cf", UnitHash::as_str);
    }

    #[test]
    fn a_hash_is_by_the_algorithm_that_it_names() {
        const HEX: &str = "3750b3e9f3962a56c7582929426e9abb012754cf";
        let read = |text: String| serde_json::from_value::<UnitHash>(text.into()).map_err(|error| error.to_string());
        for text in [HEX.to_owned(), format!("sha1:{HEX}")] {
            let hash = read(text).unwrap();
            assert_eq!(hash.as_str(), HEX);
            assert_eq!(serde_json::to_value(&hash).unwrap(), HEX, "every version reads what this one writes");
        }
        let unknown = |what: &str| {
            format!(
                "{what:?} is the hash of a unit file by an algorithm that this version doesn't know; it knows sha1 only"
            )
        };
        for text in ["sha256:9f86d081884c7d65", "SHA1:3750b3e9", "sha1:sha1:3750b3e9", ":"] {
            assert_eq!(read(text.into()), Err(unknown(text)));
            assert_eq!(text.parse::<UnitHash>().unwrap_err().to_string(), unknown(text));
        }
        assert_eq!(HEX.parse::<UnitHash>().unwrap().as_str(), HEX);
        for key in ["3750b3e9", "", &format!("sha1:{HEX}"), &HEX.replace('3', "x")] {
            assert_eq!(key.parse::<UnitHash>(), Err(HashError::Form), "{key}: a file has one key");
        }
    }

    #[test]
    fn invalid_names_say_why() {
        let cases = [
            ("", NameError::Empty),
            ("a b.service", NameError::Character(' ')),
            ("../x.service", NameError::Character('/')),
            ("web", NameError::NoType("web".into())),
            (".service", NameError::NoType(".service".into())),
            ("web.", NameError::NoType("web.".into())),
            ("web.scope", NameError::Type("web.scope".into(), "scope".into())),
            ("@1.service", NameError::NoPrefix),
            ("a@1.mount", NameError::TemplateType("mount".into())),
        ];
        for (name, error) in cases {
            assert_eq!(name.parse::<UnitName>(), Err(error), "{name}");
        }
        for (name, why) in [("a.scope", "made by programs"), ("a.busname", "dropped"), ("a.snapshot", "dropped")] {
            assert!(name.parse::<UnitName>().unwrap_err().to_string().contains(why), "{name}");
        }
        for kind in TYPES {
            assert_eq!(format!("a.{kind}").parse::<UnitName>().map(|name| name.kind() == kind), Ok(true));
        }
        assert_eq!(format!("{}.service", "x".repeat(300)).parse::<UnitName>(), Err(NameError::TooLong));
    }

    #[test]
    fn machine_ids_are_32_digits() {
        assert!("3ec325e8bf0d4d5a9c6a7b8c9d0e1f2a".parse::<MachineId>().is_ok());
        for bad in ["", "uninitialized", "3EC325E8BF0D4D5A9C6A7B8C9D0E1F2A", "00000000000000000000000000000000"] {
            assert!(bad.parse::<MachineId>().is_err(), "{bad}");
        }
    }
}
