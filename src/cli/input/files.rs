//! The arguments of submit, load and start → a batch. Owns where a unit's text comes from, in fleet's order: the unit
//! in the cluster; a local file; its template in the cluster; a local template file. All files are checked before any
//! is sent. Sends nothing itself.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::api::wire::{ApplyUnit, UnitView};
use crate::cli::error::Line;
use crate::cli::input::batch::{Batch, Renewed};
use crate::cli::input::check::{self, Checked};
use crate::cli::input::names;
use crate::model::file::UnitFile;
use crate::model::name::{UnitHash, UnitName};
use crate::model::placement::SECTION;
use crate::model::unit::Desired;

/// A unit that an argument names, and the path of its file.
#[derive(Debug, Clone)]
pub(in crate::cli) struct Wanted {
    /// The unit.
    pub(in crate::cli) name: UnitName,
    path: PathBuf,
    template: Option<(UnitName, PathBuf)>,
}

/// What the cluster has of the requested units and their templates.
#[derive(Debug, Default)]
pub(in crate::cli) struct Known {
    units: BTreeMap<UnitName, (UnitHash, Desired)>,
    /// The templates that are sets.
    sets: BTreeSet<UnitName>,
}

/// How a command treats existing units.
#[derive(Debug, Clone, Copy)]
pub(in crate::cli) struct Policy {
    /// The desired state that the command sets.
    pub(in crate::cli) desired: Desired,
    /// Whether it replaces different files.
    pub(in crate::cli) replace: bool,
}

/// The units that `args` name, each once.
///
/// # Errors
/// All invalid names, one on each line.
pub(in crate::cli) fn wanted(args: &[String]) -> Result<Vec<Wanted>, Vec<String>> {
    let (mut wanted, mut problems): (Vec<Wanted>, Vec<String>) = (Vec::new(), Vec::new());
    for arg in args {
        let path = PathBuf::from(names::with_type(arg));
        let name = match names::unit(arg) {
            Ok(name) => name,
            Err(error) => {
                problems.push(format!("{arg}: {error}"));
                continue;
            }
        };
        match wanted.iter().find(|other| other.name == name) {
            Some(other) if other.path != path && other.path.exists() && path.exists() => {
                problems.push(format!("{} and {} are both {name}", other.path.display(), path.display()));
            }
            Some(_) => {}
            None => {
                let template = name.template().map(|template| (template.clone(), beside(&path, &template)));
                wanted.push(Wanted { name, path, template });
            }
        }
    }
    if problems.is_empty() { Ok(wanted) } else { Err(problems) }
}

fn beside(path: &Path, template: &UnitName) -> PathBuf {
    path.with_file_name(template.as_str())
}

/// The patterns to request what the cluster has of `wanted`.
pub(in crate::cli) fn patterns(wanted: &[Wanted]) -> Vec<String> {
    let names: BTreeSet<&UnitName> =
        wanted.iter().flat_map(|w| std::iter::once(&w.name).chain(w.template.iter().map(|(name, _)| name))).collect();
    names.into_iter().map(names::exactly).collect()
}

impl Wanted {
    /// Its file here: its own, or its template's.
    pub(in crate::cli) fn file(&self) -> Option<&Path> {
        let template = self.template.as_ref().map(|(_, path)| path);
        std::iter::once(&self.path).chain(template).map(PathBuf::as_path).find(|path| path.exists())
    }
}

impl Known {
    /// From the cluster's answer to [`patterns`].
    pub(in crate::cli) fn new(units: &[UnitView]) -> Self {
        let sets = units.iter().filter(|unit| unit.replicas.is_some()).map(|unit| unit.name.clone());
        let known = |unit: &UnitView| (unit.name.clone(), (unit.hash.clone(), unit.desired));
        Self { units: units.iter().map(known).collect(), sets: sets.collect() }
    }
}

/// The batch for `wanted`.
pub(in crate::cli) fn batch(wanted: &[Wanted], known: &Known, policy: Policy) -> Batch {
    let mut batch = Batch::default();
    let mut read: BTreeMap<PathBuf, Option<Checked>> = BTreeMap::new();
    for unit in wanted {
        let here = known.units.get(&unit.name);
        let source = match (&unit.template, here) {
            _ if unit.path.exists() => Some((&unit.path, false)),
            // For a new unit, the cluster's template takes precedence over a local one.
            (Some((template, _)), None) if known.units.contains_key(template) => None,
            (Some((_, path)), _) if path.exists() => Some((path, true)),
            (_, Some(_)) => None,
            (_, None) => {
                batch.has_unknown = true;
                batch.problems.push(missing(unit).into());
                continue;
            }
        };
        let is_set = known.sets.contains(&unit.name) || is_set(&unit.path);
        if unit.name.is_template() && policy.desired != Desired::Inactive && !is_set {
            batch.problems.push(format!("cannot activate template \"{}\"", unit.name).into());
            batch.problems.push(Line::hint(format!(
                "name an instance of it, such as {}@1.{}",
                unit.name.prefix(),
                unit.name.kind()
            )));
            continue;
        }
        if here.is_some() {
            batch.known.insert(unit.name.clone());
        }
        let checked = source.and_then(|(path, template)| {
            if template {
                batch.from_template.insert(unit.name.clone());
            }
            batch.files.insert(unit.name.to_string(), path.display().to_string());
            if !read.contains_key(path) {
                let label = path.display().to_string();
                let checked = check::file(path, &unit.name);
                match &checked {
                    Ok(checked) => batch.warnings.extend(checked.warnings.iter().map(|warning| warning.of(&label))),
                    Err(problems) => {
                        batch.problems.extend(problems.iter().map(|problem| Line::Message(problem.of(&label))))
                    }
                }
                read.insert(path.clone(), checked.ok());
            }
            read.get(path).and_then(Option::as_ref)
        });
        batch.add(&unit.name, checked, here, policy);
    }
    batch
}

/// Whether the file of a template has `Replicas=`, right or wrong: a set can be started.
fn is_set(path: &Path) -> bool {
    std::fs::read(path).is_ok_and(|text| has_replicas(&text))
}

/// Whether a template with this file is a set.
pub(in crate::cli) fn has_replicas(text: &[u8]) -> bool {
    UnitFile::parse(text).is_ok_and(|file| file.section(SECTION).any(|option| option.name == "Replicas"))
}

/// The message about a unit that is neither in the cluster nor a file, and about what was named instead of a unit.
fn missing(unit: &Wanted) -> String {
    // A `.service` that was added isn't what was typed.
    let typed = unit.path.with_extension("");
    let name = typed.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let shown = typed.display();
    if typed.is_dir() {
        return format!("{shown} is a directory: name its files, {shown}/*.service");
    }
    match name.rsplit_once('.').map(|(_, end)| end) {
        Some("yml" | "yaml") => format!("{name} is no unit file: units are systemd's, such as web.service"),
        Some("container" | "pod" | "kube" | "volume" | "network" | "image" | "build") => {
            format!("{name} is a Quadlet file, from which podman generates a unit on each host: submit a unit file")
        }
        _ if name == "-" => "unit files can't be read from stdin: name a file".into(),
        _ => format!("no unit {} in the cluster, and no file of that name here", unit.name),
    }
}

impl Batch {
    fn add(&mut self, name: &UnitName, checked: Option<&Checked>, here: Option<&(UnitHash, Desired)>, policy: Policy) {
        let desired = (policy.desired != Desired::Inactive).then_some(policy.desired);
        let replace = policy.replace && checked.is_some();
        // A new file restarts a running unit. `submit` and `load` must not do that, as in fleet.
        if let (true, Some(checked), Some((hash, now))) = (replace, checked, here)
            && checked.file.hash() != *hash
            && *now > policy.desired
        {
            self.untouchable.push((name.clone(), *now));
            self.units.push(ApplyUnit { name: name.to_string(), desired, ..ApplyUnit::default() });
            return;
        }
        if let (true, true, Some(checked), Some((old, _))) = (replace, name.is_template(), checked, here)
            && checked.file.hash() != *old
        {
            let (new, text) = (checked.file.hash(), checked.file.text().to_owned());
            self.renewed.push(Renewed { name: name.clone(), old: old.clone(), new, text });
        }
        if let (true, Some(checked), Some((old, Desired::Launched))) = (replace, checked, here)
            && checked.file.hash() != *old
        {
            self.restarted.insert(name.to_string());
        }
        let text = checked.map(|checked| checked.file.text().to_owned());
        self.units.push(ApplyUnit { name: name.to_string(), text, desired, replace, ..ApplyUnit::default() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "[Service]\nExecStart=/bin/a\n";
    const B: &str = "[Service]\nExecStart=/bin/b\n";

    struct Dir(tempfile::TempDir);

    impl Dir {
        fn with(files: &[(&str, &str)]) -> Self {
            let dir = tempfile::tempdir().unwrap();
            for (name, text) in files {
                std::fs::write(dir.path().join(name), text).unwrap();
            }
            Self(dir)
        }

        fn batch(&self, args: &[&str], known: &[(&str, &str, Desired)], desired: Desired, replace: bool) -> Batch {
            let args: Vec<String> = args.iter().map(|arg| self.0.path().join(arg).display().to_string()).collect();
            let known = known.iter().map(|(name, text, desired)| {
                let hash = crate::model::file::UnitFile::parse(text.as_bytes()).unwrap().hash();
                (name.parse().unwrap(), (hash, *desired))
            });
            let known = Known { units: known.collect(), ..Known::default() };
            batch(&wanted(&args).unwrap(), &known, Policy { desired, replace })
        }
    }

    fn texts(batch: &Batch) -> Vec<(&str, Option<&str>)> {
        batch.units.iter().map(|unit| (unit.name.as_str(), unit.text.as_deref())).collect()
    }

    #[test]
    fn text_comes_from_where_fleet_took_it() {
        let dir = Dir::with(&[("web.service", A), ("db@.service", A), ("db@2.service", B)]);
        let launch = |args: &[&str], known: &[(&str, &str, Desired)]| dir.batch(args, known, Desired::Launched, false);
        assert_eq!(texts(&launch(&["web"], &[])), [("web.service", Some(A))]);
        assert_eq!(texts(&launch(&["db@1", "db@2"], &[])), [("db@1.service", Some(A)), ("db@2.service", Some(B))]);
        // The cluster's template takes precedence over the template's file, not over the instance's own file.
        let template = [("db@.service", B, Desired::Inactive)];
        assert_eq!(texts(&launch(&["db@1", "db@2"], &template)), [("db@1.service", None), ("db@2.service", Some(B))]);
        // An existing unit needs no file; a local one is sent along to be compared.
        let there = [("x.service", A, Desired::Inactive), ("db@1.service", A, Desired::Loaded)];
        let batch = launch(&["x", "db@1"], &there);
        assert_eq!(texts(&batch), [("x.service", None), ("db@1.service", Some(A))]);
        assert_eq!((batch.known.len(), batch.from_template.len(), batch.problems.len()), (2, 1, 0));
    }

    #[test]
    fn every_problem_of_every_file_is_found_once() {
        let bad = "[Service]\nExecStart=/bin/a\n[X-Fleet]\nGlobal=eh\n";
        let dir = Dir::with(&[("a@.service", bad), ("b.service", bad)]);
        let batch = dir.batch(&["a@1", "a@2", "b", "c", "a@"], &[], Desired::Launched, false);
        let ends = |index: usize, end: &str| batch.problems[index].to_string().ends_with(end);
        assert_eq!(batch.problems.len(), 5, "{:?}", batch.problems);
        assert!(
            ends(0, "a@.service:4: `Global=eh`: must be true or false")
                && ends(1, "b.service:4: `Global=eh`: must be true or false")
        );
        assert!(ends(2, "no unit c.service in the cluster, and no file of that name here"));
        assert!(ends(3, "cannot activate template \"a@.service\"") && ends(4, "such as a@1.service"));
    }

    #[test]
    fn what_is_no_unit_file_is_called_what_it_is() {
        let dir = Dir::with(&[("compose.yml", "services:"), ("redis.container", "[Container]")]);
        std::fs::create_dir(dir.0.path().join("units")).unwrap();
        for (typed, said) in [
            ("compose.yml", "compose.yml is no unit file: units are systemd's, such as web.service"),
            ("redis.container", "redis.container is a Quadlet file, "),
            ("units", "/units is a directory: name its files, "),
            ("-", "unit files can't be read from stdin: name a file"),
        ] {
            let batch = dir.batch(&[typed], &[], Desired::Launched, false);
            assert!(batch.problems[0].to_string().contains(said), "{typed}: {:?}", batch.problems);
        }
    }

    #[test]
    fn submit_and_load_dont_replace_what_runs() {
        let dir = Dir::with(&[("a.service", A)]);
        for (desired, now, refused) in [
            (Desired::Inactive, Desired::Inactive, false),
            (Desired::Inactive, Desired::Loaded, true),
            (Desired::Loaded, Desired::Launched, true),
            (Desired::Loaded, Desired::Loaded, false),
            (Desired::Launched, Desired::Launched, false),
        ] {
            let batch = dir.batch(&["a"], &[("a.service", B, now)], desired, true);
            assert_eq!((batch.untouchable.len() == 1, batch.units[0].replace), (refused, !refused), "{desired} {now}");
            assert_eq!(batch.restarted.len() == 1, !refused && now == Desired::Launched, "{desired} {now}");
            let same = dir.batch(&["a"], &[("a.service", A, now)], desired, true);
            assert!(same.untouchable.is_empty() && same.restarted.is_empty());
        }
    }

    #[test]
    fn names_are_taken_once() {
        let dir = Dir::with(&[("a.service", A)]);
        assert_eq!(dir.batch(&["a", "a.service"], &[], Desired::Inactive, false).units.len(), 1);
        let other = Dir::with(&[("a.service", B)]);
        let args = [&dir, &other].map(|dir| dir.0.path().join("a.service").display().to_string());
        assert!(wanted(&args).unwrap_err()[0].ends_with("are both a.service"));
        assert_eq!(wanted(&["a b".into(), "@".into()]).unwrap_err().len(), 2);
    }
}
