//! The instances of templates that a unit file names. systemd starts them because of the unit (a timer's service, a
//! connection of a socket with `Accept=yes`, a dependency), so the template's file must be on the unit's host. Owns
//! which options name them; must never decide whether a host has to have the template.

use std::collections::BTreeSet;

use super::file::UnitFile;
use super::name::UnitName;

/// Options that name units to be started because of this one, with their sections.
const NAMING: [(&str, &str); 10] = [
    ("Unit", "Requires"),
    ("Unit", "BindsTo"),
    ("Unit", "Wants"),
    ("Unit", "Upholds"),
    ("Unit", "OnFailure"),
    ("Unit", "OnSuccess"),
    ("Service", "Sockets"),
    ("Socket", "Service"),
    ("Timer", "Unit"),
    ("Path", "Unit"),
];

/// The words of a unit file that may name an instance of a template, or a template; their specifiers are unresolved, so
/// that all units with one file share them. Empty for most files.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NamedInstances(BTreeSet<String>);

impl NamedInstances {
    /// Those of `file`.
    #[must_use]
    pub fn of(file: &UnitFile) -> Self {
        let named = file.options().iter().filter(|option| NAMING.contains(&(&*option.section, &*option.name)));
        let words = named.flat_map(|option| option.value.split_whitespace());
        // `%n` and `%N` contain the `@` of an instance.
        let may_name = |word: &&str| ["@", "%n", "%N"].iter().any(|part| word.contains(part));
        let mut found: BTreeSet<String> = words.filter(may_name).map(Into::into).collect();
        if file.is_set("Socket", "Accept") {
            found.insert("%p@.service".into());
        }
        // Without the option, the service has the name of its timer, path or socket.
        let triggers = [("Timer", "Unit"), ("Path", "Unit"), ("Socket", "Service")];
        let by_default = |(section, option): &(&str, &str)| {
            file.section(section).next().is_some() && file.value(section, option).is_none()
        };
        if triggers.iter().any(by_default) {
            found.insert("%N.service".into());
        }
        Self(found)
    }

    /// The instances and templates that the file names for the unit `name`.
    pub fn resolve(&self, name: &UnitName) -> impl Iterator<Item = UnitName> {
        let names = self.0.iter().filter_map(|word| name.expand(word).parse::<UnitName>().ok());
        names.filter(move |other| other != name && other.instance().is_some())
    }

    /// Also those of `other`. Returns whether there are any that weren't there.
    pub fn join(&mut self, other: &Self) -> bool {
        let before = self.0.len();
        self.0.extend(other.0.iter().cloned());
        self.0.len() > before
    }

    /// The templates of these.
    pub fn templates(&self, name: &UnitName) -> impl Iterator<Item = UnitName> {
        self.resolve(name).map(|other| other.template().unwrap_or(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str, text: &str) -> Vec<String> {
        let instances = NamedInstances::of(&UnitFile::parse(text.as_bytes()).unwrap());
        instances.resolve(&name.parse().unwrap()).map(|name| name.to_string()).collect()
    }

    #[test]
    fn files_name_instances() {
        let cases: [(&str, &str, &[&str]); 12] = [
            ("echo.socket", "[Socket]\nListenStream=1\nAccept=yes\n", &["echo@.service"]),
            ("echo.socket", "[Socket]\nListenStream=1\nAccept=no\n", &[]),
            ("echo.socket", "[Socket]\nListenStream=1\nService=echo@a.service\n", &["echo@a.service"]),
            ("echo@a.socket", "[Socket]\nListenStream=1\n", &["echo@a.service"]),
            ("echo@a.socket", "[Socket]\nListenStream=1\nAccept=true\n", &["echo@a.service", "echo@.service"]),
            ("b.timer", "[Timer]\nOnCalendar=daily\nUnit=backup@db.service\n", &["backup@db.service"]),
            ("b@db.timer", "[Timer]\nOnCalendar=daily\n", &["b@db.service"]),
            ("b.timer", "[Timer]\nOnCalendar=daily\n", &[]),
            ("b.path", "[Path]\nPathExists=/x\nUnit=b@%p.service\n", &["b@b.service"]),
            ("a.service", "[Unit]\nOnFailure=mail@%n.service\nWants=b.service\n", &["mail@a.service.service"]),
            // Only the host knows its name; the template is known.
            ("a.service", "[Unit]\nWants=x@%H.service\n", &["x@H.service"]),
            ("a@1.service", "[Unit]\nRequires=%n b@%i.service\n", &["b@1.service"]),
        ];
        for (name, text, expected) in cases {
            assert_eq!(named(name, text), expected, "{name}: {text}");
        }
        let instances = NamedInstances::of(&UnitFile::parse(b"[Unit]\nWants=a@1.service b@.service\n").unwrap());
        let templates: Vec<String> =
            instances.templates(&"c.service".parse().unwrap()).map(|name| name.to_string()).collect();
        assert_eq!(templates, ["a@.service", "b@.service"]);
    }
}
