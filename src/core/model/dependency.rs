//! The dependencies in a unit file that a host must know before it starts or stops units. Owns which options pull in
//! other units and which bind a unit to others; must never decide what follows from that.

use std::collections::BTreeSet;

use super::file::UnitFile;
use super::name::UnitName;

/// Options that make systemd start other units with this one.
const PULLS: [&str; 4] = ["Requires", "BindsTo", "Wants", "Upholds"];

/// Options that make systemd stop this unit together with the units they name.
const BINDS: [&str; 4] = ["Requires", "BindsTo", "Requisite", "PartOf"];

/// The dependencies of one unit. Most units have few or none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Dependencies {
    /// Units that are started with this one.
    pub pulls: Box<[UnitName]>,
    /// Units that stop this one when they are stopped.
    pub binds: Box<[UnitName]>,
}

impl Dependencies {
    /// The dependencies of `name` in `file`; specifiers are expanded.
    #[must_use]
    pub fn of(name: &UnitName, file: &UnitFile) -> Self {
        let named = |options: &[&str]| -> Box<[UnitName]> {
            let values = file.section("Unit").filter(|option| options.contains(&&*option.name));
            let words = values.flat_map(|option| option.value.split_whitespace());
            // A word that isn't a unit name can't name one of our units.
            let names: BTreeSet<UnitName> = words.filter_map(|word| name.expand(word).parse().ok()).collect();
            names.into_iter().collect()
        };
        Self { pulls: named(&PULLS), binds: named(&BINDS) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_names_the_units_it_needs() {
        let text = b"[Unit]\nRequires=db@%i.service net.target\nWants=log.service\nRequisite=disk.mount\n\
            After=x.service\n[Service]\nExecStart=/a\n";
        let name: UnitName = "app@1.service".parse().unwrap();
        let dependencies = Dependencies::of(&name, &UnitFile::parse(text).unwrap());
        let names = |names: &[UnitName]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(names(&dependencies.pulls), ["db@1.service", "log.service", "net.target"]);
        assert_eq!(names(&dependencies.binds), ["db@1.service", "disk.mount", "net.target"]);
    }
}
