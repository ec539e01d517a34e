//! `Port=`: the ports that a unit needs for itself on its host. Owns their syntax, and where `auto` finds them. Whether
//! a host has them free, `plan::fit` decides.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use super::words;
use crate::model::file::UnitFile;
use crate::model::name::UnitName;

/// The option.
pub const OPTION: &str = "Port";

/// The most ports of one unit.
pub const MAX_PORTS: usize = 64;

/// The value that stands for the ports of `[Socket]`.
const AUTO: &str = "auto";

/// A port of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    number: u16,
    udp: bool,
}

impl FromStr for Port {
    type Err = ();

    /// `8080` or `8080/tcp`, `53/udp`.
    fn from_str(text: &str) -> Result<Self, ()> {
        let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let udp = match protocol {
            "tcp" => false,
            "udp" => true,
            _ => return Err(()),
        };
        let digits = Some(number).filter(|number| number.bytes().all(|byte| byte.is_ascii_digit())).ok_or(())?;
        let number = digits.parse().ok().filter(|number| *number > 0).ok_or(())?;
        Ok(Self { number, udp })
    }
}

/// As it is written: `8080`, `53/udp`.
impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.number, if self.udp { "/udp" } else { "" })
    }
}

/// What a file says of ports. Most say nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ports {
    /// Ports with specifiers, which have numbers once they are resolved.
    unresolved: BTreeSet<String>,
    known: BTreeSet<Port>,
}

impl Ports {
    /// The ports; those with specifiers only after they are resolved for a unit.
    #[must_use]
    pub fn known(&self) -> &BTreeSet<Port> {
        &self.known
    }

    /// Take a value of the option. `auto` is left to `find`; whether it is among them is returned.
    pub(super) fn take(&mut self, value: &str) -> Result<bool, String> {
        let words = words(OPTION, value)?;
        if words.is_empty() {
            return Err("`Port=` is empty: it must be a port such as 8080 or 53/udp, or auto".into());
        }
        for word in words.iter().filter(|word| *word != AUTO) {
            if !self.add(word) {
                let must = "it must be a number from 1 to 65535, with /udp if it isn't of TCP, or auto";
                return Err(format!("`Port={value}`: `{word}` is no port; {must}"));
            }
        }
        if self.known.len() + self.unresolved.len() > MAX_PORTS {
            return Err(format!("`Port={value}`: more than {MAX_PORTS} ports"));
        }
        Ok(words.iter().any(|word| word == AUTO))
    }

    /// Add the ports on which a socket listens, as far as they are such of this host. Returns whether there are any.
    pub(super) fn find(&mut self, file: &UnitFile) -> bool {
        let before = self.clone();
        for option in file.section("Socket") {
            let protocol = match option.name.as_str() {
                "ListenStream" => "",
                "ListenDatagram" => "/udp",
                _ => continue,
            };
            // A number, or an address with one; anything else is the name of a file or of another kind of socket.
            let number = option.value.rsplit(':').next().unwrap_or_default();
            if !option.value.starts_with("vsock:") && !option.value.contains(['/', '@']) {
                self.add(&format!("{number}{protocol}"));
            }
        }
        *self != before
    }

    fn add(&mut self, word: &str) -> bool {
        if word.contains('%') {
            self.unresolved.insert(word.to_owned());
            return true;
        }
        word.parse().map(|port| self.known.insert(port)).is_ok()
    }

    /// Whether any has specifiers.
    pub(super) fn has_specifiers(&self) -> bool {
        !self.unresolved.is_empty()
    }

    /// Those of unit `name`. What is no port for it is left out.
    pub(super) fn resolve(&self, name: &UnitName) -> Self {
        let resolved = self.unresolved.iter().filter_map(|word| name.expand(word).parse().ok());
        Self { unresolved: BTreeSet::new(), known: self.known.iter().copied().chain(resolved).collect() }
    }

    /// The same, with the ports of `other` as well.
    pub(super) fn joined(&self, other: &Self) -> Self {
        let unresolved = self.unresolved.union(&other.unresolved).cloned().collect();
        Self { unresolved, known: self.known.union(&other.known).copied().collect() }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::placement::Constraints;

    fn parse(text: &str) -> Result<Constraints, String> {
        let file = UnitFile::parse(text.as_bytes()).unwrap();
        Constraints::parse(&file).map_err(|all| all.iter().map(|p| format!("{}: {p}", p.line)).collect())
    }

    fn ports(text: &str, name: &str) -> String {
        let constraints = Constraints::resolve(&Arc::new(parse(text).unwrap()), &name.parse().unwrap());
        let known: Option<Vec<String>> =
            constraints.ports.as_ref().map(|ports| ports.known().iter().map(ToString::to_string).collect());
        known.unwrap_or_default().join(" ")
    }

    #[test]
    fn all_forms_are_read() {
        for (text, expected) in [
            ("[X-Fleet]\nPort=8080 53/udp\nPort=\"53/tcp\" 8080\n", "53 53/udp 8080"),
            ("[X-Fleet]\nPort=80%i 9%i/udp\n", "91/udp 801"),
            ("[X-Fleet]\nGlobal=no\n", ""),
            (
                "[Socket]\nListenStream=80\nListenStream=127.0.0.1:81\nListenStream=[::]:82\nListenDatagram=53\n\
                 ListenStream=/run/a:83\nListenStream=@a:84\nListenStream=vsock:2:85\nListenFIFO=86\n\
                 ListenStream=808%i\n[X-Fleet]\nPort=auto 9\n",
                "9 53/udp 80 81 82 8081",
            ),
        ] {
            assert_eq!(ports(text, "a@1.socket"), expected, "{text}");
        }
        assert_eq!(ports("[X-Fleet]\nPort=80%i 7\n", "a@blue.service"), "7", "80blue is no port");
    }

    #[test]
    fn every_problem_is_named_with_its_line() {
        let must = "it must be a number from 1 to 65535, with /udp if it isn't of TCP, or auto";
        for bad in ["http", "0", "65536", "53/sctp", "+1", "-1", "80:81", "1.5", "auto/udp"] {
            let expected = format!("2: `Port={bad}`: `{bad}` is no port; {must}");
            assert_eq!(parse(&format!("[X-Fleet]\nPort={bad}\n")).unwrap_err(), expected);
        }
        let empty = "2: `Port=` is empty: it must be a port such as 8080 or 53/udp, or auto";
        assert_eq!(parse("[X-Fleet]\nPort=\n").unwrap_err(), empty);
        for socket in ["", "[Socket]\nListenStream=/run/a\n", "[Service]\nListenStream=80\n"] {
            let none = "`Port=auto`: [Socket] has no ListenStream= or ListenDatagram= with a port";
            let problem = parse(&format!("[X-Fleet]\nPort=auto\n{socket}")).unwrap_err();
            assert_eq!(problem, format!("2: {none}"));
        }
        let many: Vec<String> = (1..=MAX_PORTS + 1).map(|number| number.to_string()).collect();
        let problem = parse(&format!("[X-Fleet]\nPort={}\n", many.join(" "))).unwrap_err();
        assert!(problem.ends_with(": more than 64 ports"), "{problem}");
    }
}
