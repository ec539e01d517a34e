//! Units that the host has from elsewhere: from a package, an administrator, a generator, or another program. Owns how
//! they are distinguished from ours, and which of them were requested. It must never change one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::Dbus;
use super::proxy::classify;
use crate::model::name::UnitName;
use crate::systemd::{Error, host_has};

impl Dbus {
    /// Those of `names` that the host has from elsewhere, and why they are refused. Until the next call about one of
    /// them, it is treated as if it didn't exist.
    pub(super) async fn refuse_host_units(&self, names: Vec<UnitName>) -> Result<BTreeMap<UnitName, Error>, Error> {
        let folders = self.manager().await?.unit_path().await.map_err(|error| classify(&error))?;
        self.blocking(move |shared| {
            let folders: Vec<PathBuf> = folders.into_iter().map(PathBuf::from).collect();
            let mut refused = BTreeMap::new();
            let mut host_units = shared.host_units();
            for name in names {
                let ours = shared.units.file("");
                match find(&folders, &ours, &name) {
                    Some(path) => {
                        refused.insert(name.clone(), host_has(&name, &path));
                        host_units.insert(name, path);
                    }
                    None => drop(host_units.remove(&name)),
                }
            }
            Ok(refused)
        })
        .await
    }

    /// Whether a unit can be probed: a service that isn't the host's own.
    pub(super) fn is_service_of_ours(&self, name: &UnitName) -> bool {
        name.kind() == "service" && !self.shared.host_units().contains_key(name)
    }

    /// Why a refused unit can't be started.
    pub(super) fn refusal(&self, name: &UnitName) -> Option<Error> {
        self.shared.host_units().get(name).map(|path| host_has(name, path))
    }
}

/// The file that makes `name` a unit of the host's own: its file, or that of its template. systemd searches `folders`;
/// `ours` is the folder that we link from.
fn find(folders: &[PathBuf], ours: &Path, name: &UnitName) -> Option<PathBuf> {
    file_of(folders, ours, name).or_else(|| name.template().and_then(|template| file_of(folders, ours, &template)))
}

/// The host's file of this name. If one of the folders contains our link, the unit is ours, whatever the others
/// contain: an earlier daemon linked it.
fn file_of(folders: &[PathBuf], ours: &Path, name: &UnitName) -> Option<PathBuf> {
    let mut found = None;
    for path in folders.iter().filter(|folder| folder.as_path() != ours).map(|folder| folder.join(name.as_str())) {
        let Ok(about) = path.symlink_metadata() else { continue };
        let target = if about.is_symlink() { std::fs::read_link(&path).ok() } else { None };
        match target {
            Some(target) if target == ours.join(name.as_str()) => return None,
            // A masked unit isn't a unit; systemd reports the mask when the unit is started.
            Some(target) if target == Path::new("/dev/null") => {}
            _ => found = found.or(Some(path)),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_unit_is_the_hosts_if_a_file_from_elsewhere_has_its_name_or_its_templates() {
        let root = tempfile::tempdir().unwrap();
        let folders = ["etc", "run", "lib"].map(|name| root.path().join(name));
        let ours = root.path().join("ours");
        for folder in folders.iter().chain([&ours]) {
            fs::create_dir(folder).unwrap();
        }
        let [etc, run, lib] = &folders;
        for unit in ["packaged.service", "own@.service", "masked-packaged.service", "shadowed.service"] {
            fs::write(lib.join(unit), "").unwrap();
        }
        symlink("/elsewhere/made.service", run.join("made.service")).unwrap();
        symlink(lib.join("packaged.service"), etc.join("alias.service")).unwrap();
        for unit in ["masked.service", "masked-packaged.service"] {
            symlink("/dev/null", etc.join(unit)).unwrap();
        }
        for unit in ["ours.service", "ours@.service", "shadowed.service"] {
            fs::write(ours.join(unit), "").unwrap();
            symlink(ours.join(unit), run.join(unit)).unwrap();
        }
        let cases = [
            ("packaged.service", Some(lib.join("packaged.service"))),
            ("own@.service", Some(lib.join("own@.service"))),
            ("own@1.service", Some(lib.join("own@.service"))),
            ("made.service", Some(run.join("made.service"))),
            ("alias.service", Some(etc.join("alias.service"))),
            ("masked-packaged.service", Some(lib.join("masked-packaged.service"))),
            ("masked.service", None),
            ("ours.service", None),
            ("ours@1.service", None),
            ("shadowed.service", None),
            ("new.service", None),
        ];
        for (name, expected) in cases {
            assert_eq!(find(&folders, &ours, &name.parse().unwrap()), expected, "{name}");
        }
    }
}
