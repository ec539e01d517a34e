//! What `verify` says of a unit file that can be submitted: what is allowed and probably not meant. Owns these rules.
//! Pure.

use std::collections::BTreeSet;

use super::check::Remark;
use crate::model::dependency::Dependencies;
use crate::model::file::UnitFile;
use crate::model::name::UnitName;
use crate::model::placement::Constraints;

/// The options of `[Install]`. systemd reads this section only when it enables the unit, and reports other options in
/// the journal of the host.
const INSTALL: [&str; 6] = ["Alias", "WantedBy", "RequiredBy", "UpheldBy", "Also", "DefaultInstance"];

/// Options of `[Install]` that systemd doesn't know.
pub(in crate::cli) fn install(file: &UnitFile) -> Vec<Remark> {
    let unknown = file.section("Install").filter(|option| !INSTALL.contains(&&*option.name));
    let remark = |name: &str| format!("unknown option `{name}` in [Install]; there are {}", INSTALL.join(", "));
    unknown.map(|option| Remark { line: Some(option.line), what: remark(&option.name) }).collect()
}

/// Units of the cluster that this one needs on its host without requiring that they are placed there.
pub(in crate::cli) fn apart(name: &UnitName, file: &UnitFile, cluster: &BTreeSet<UnitName>) -> Vec<Remark> {
    let placed_with = Constraints::parse(file).map(|constraints| constraints.machine_of).unwrap_or_default();
    let placed_with: BTreeSet<String> = placed_with.iter().map(|peer| name.expand(peer)).collect();
    let mut remarks = Vec::new();
    for needed in Dependencies::of(name, file).binds.iter() {
        if !cluster.contains(needed) || placed_with.contains(needed.as_str()) {
            continue;
        }
        let names_it = |value: &str| value.split_whitespace().any(|word| name.expand(word) == needed.as_str());
        let option = file.section("Unit").find(|option| option.name != "After" && names_it(&option.value));
        let key = option.map_or("Requires", |option| &option.name);
        remarks.push(Remark {
            line: option.map(|option| option.line),
            what: format!("{key}={needed} without MachineOf={needed}: it may be on another host"),
        });
    }
    remarks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> UnitFile {
        UnitFile::parse(text.as_bytes()).unwrap()
    }

    fn printed(remarks: &[Remark]) -> Vec<String> {
        remarks.iter().map(|remark| remark.of("a")).collect()
    }

    #[test]
    fn options_of_install_are_known() {
        let odd = file("[Unit]\nWantedby=x\n[Install]\nWantedBy=multi-user.target\nWantedby=multi-user.target\n");
        assert_eq!(
            printed(&install(&odd)),
            ["a:5: unknown option `Wantedby` in [Install]; there are Alias, WantedBy, RequiredBy, UpheldBy, Also, \
              DefaultInstance"]
        );
    }

    #[test]
    fn a_needed_unit_of_the_cluster_should_be_on_the_same_host() {
        let name = "app@1.service".parse().unwrap();
        let cluster: BTreeSet<UnitName> = ["db@1.service".parse().unwrap(), "log.service".parse().unwrap()].into();
        let needs = "[Unit]\nAfter=db@1.service\nRequires=db@%i.service network.target\nWants=log.service\n";
        assert_eq!(
            printed(&apart(&name, &file(needs), &cluster)),
            ["a:3: Requires=db@1.service without MachineOf=db@1.service: it may be on another host"]
        );
        let together = format!("{needs}[X-Fleet]\nMachineOf=db@%i.service\n");
        assert_eq!(apart(&name, &file(&together), &cluster), []);
    }
}
