//! The folder that `export` writes and `restore` reads:
//!
//! ```text
//! units.json           format, and the desired state and the hash of each unit; of a set, how many members it has
//! units/web.service    the file of each unit, as it was submitted
//! ```
//!
//! Owns this layout, which people read, compare and keep in git: it contains nothing that changes by itself, so two
//! exports of an unchanged cluster are equal. Other files beside these, such as `.git` and a README, are left alone. A
//! folder that isn't whole must never be read as if it were: the hashes and the list reveal what is missing.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::model::file::UnitFile;
use crate::model::name::{UnitHash, UnitName};
use crate::model::unit::Desired;

/// The list of the units.
const LIST: &str = "units.json";

/// The folder of their files.
const FILES: &str = "units";

/// A file that is being written. It is renamed when it is complete, and no unit can have this name.
const UNFINISHED: &str = ".unfinished";

/// The layout that is written. A later one isn't read.
const FORMAT: u32 = 1;

/// What the list says of a unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::cli) struct ListedUnit {
    /// Its desired state.
    pub(in crate::cli) desired: Desired,
    /// The hash of its file, as `list-unit-files` shows it.
    pub(in crate::cli) hash: UnitHash,
    /// How many members it has, if it is a set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) replicas: Option<u32>,
}

/// A unit of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct Saved {
    /// Its desired state.
    pub(in crate::cli) desired: Desired,
    /// Its file.
    pub(in crate::cli) text: String,
    /// How many members it has, if it is a set.
    pub(in crate::cli) replicas: Option<u32>,
}

/// How many files writing has changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(in crate::cli) struct Changes {
    /// Files of units that are new or different.
    pub(in crate::cli) written: usize,
    /// Files of units that are no longer in the list.
    pub(in crate::cli) deleted: usize,
}

#[derive(Serialize, Deserialize)]
struct List {
    format: u32,
    units: BTreeMap<UnitName, ListedUnit>,
}

/// What the folder lists, if an export can be written into it: nothing if it is new or empty.
///
/// # Errors
/// One line, if it is neither, nor the folder of an export.
pub(in crate::cli) fn listed(folder: &Path) -> Result<BTreeMap<UnitName, ListedUnit>, String> {
    match read_list(folder)? {
        Some(list) => Ok(list),
        None if is_empty(folder)? => Ok(BTreeMap::new()),
        None => Err(format!("{} is neither empty nor the folder of an earlier export", folder.display())),
    }
}

/// Read all units of the folder.
///
/// # Errors
/// A line for each thing that is wrong: no unit of such a folder may be used.
pub(in crate::cli) fn read(folder: &Path) -> Result<BTreeMap<UnitName, Saved>, Vec<String>> {
    let list = read_list(folder).map_err(|why| vec![why])?;
    let Some(list) = list else {
        return Err(vec![if folder.is_dir() {
            format!("{} is not the folder of an export: it has no {LIST}", folder.display())
        } else {
            format!("{}: there is no such folder", folder.display())
        }]);
    };
    let (mut units, mut wrong) = (BTreeMap::new(), Vec::new());
    for name in files(folder).map_err(|why| vec![why])?.into_iter().filter(|name| !list.contains_key(name)) {
        wrong.push(format!("{}: {LIST} doesn't list it", path_of(folder, &name).display()));
    }
    for (name, entry) in list {
        match read_unit(&path_of(folder, &name), &entry) {
            Ok(text) => drop(units.insert(name, Saved { desired: entry.desired, text, replicas: entry.replicas })),
            Err(why) => wrong.push(format!("{}: {why}", path_of(folder, &name).display())),
        }
    }
    if wrong.is_empty() { Ok(units) } else { Err(wrong) }
}

/// The text of a unit, if it is the one that was exported.
fn read_unit(path: &Path, entry: &ListedUnit) -> Result<String, String> {
    let bytes = fs::read(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => format!("missing, though {LIST} lists it"),
        _ => error.to_string(),
    })?;
    let file = UnitFile::parse(&bytes).map_err(|error| error.to_string())?;
    if file.hash() != entry.hash {
        return Err(format!("its hash is {}, and {LIST} says {}", file.hash(), entry.hash));
    }
    Ok(file.text().to_owned())
}

/// Write a folder in which [`listed`] found nothing wrong. Files that stay the same aren't touched. Units of `list`
/// without a text keep the file that is there. If this is interrupted, [`read`] finds that the folder isn't whole until
/// it is written again.
///
/// # Errors
/// One line that names the file.
pub(in crate::cli) fn write(
    folder: &Path,
    list: BTreeMap<UnitName, ListedUnit>,
    texts: &BTreeMap<UnitName, String>,
) -> Result<Changes, String> {
    let mut changes = Changes::default();
    let units = folder.join(FILES);
    // Unit files may contain secrets.
    fs::DirBuilder::new().recursive(true).mode(0o700).create(&units).map_err(|error| failed(&units, &error))?;
    for (name, text) in texts {
        changes.written += usize::from(replace(folder, &path_of(folder, name), text)?);
    }
    let old = files(folder)?.into_iter().filter(|name| !list.contains_key(name)).collect::<Vec<_>>();
    let document = serde_json::to_string_pretty(&List { format: FORMAT, units: list }).unwrap_or_default() + "\n";
    replace(folder, &folder.join(LIST), &document)?;
    for name in old {
        let path = path_of(folder, &name);
        fs::remove_file(&path).map_err(|error| failed(&path, &error))?;
        changes.deleted += 1;
    }
    Ok(changes)
}

fn read_list(folder: &Path) -> Result<Option<BTreeMap<UnitName, ListedUnit>>, String> {
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let path = folder.join(LIST);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(&path, &error)),
    };
    let foreign = |error| format!("{}: not the list of an export: {error}", path.display());
    let Format { format } = serde_json::from_slice(&text).map_err(foreign)?;
    if format > FORMAT {
        return Err(format!("{}: written by a later version of fleetctl (format {format})", path.display()));
    }
    let List { units, .. } = serde_json::from_slice(&text).map_err(foreign)?;
    Ok(Some(units))
}

/// Whether the folder doesn't exist or has only hidden files.
fn is_empty(folder: &Path) -> Result<bool, String> {
    Ok(names(folder)?.iter().all(|name| name.starts_with('.')))
}

/// The units that have a file in the folder.
fn files(folder: &Path) -> Result<Vec<UnitName>, String> {
    let visible = names(&folder.join(FILES))?.into_iter().filter(|name| !name.starts_with('.'));
    Ok(visible.filter_map(|name| name.parse().ok()).collect())
}

/// The names in a folder, in order; none if it doesn't exist.
fn names(folder: &Path) -> Result<Vec<String>, String> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries.collect::<Result<Vec<_>, _>>(),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    };
    let entries = entries.map_err(|error| failed(folder, &error))?;
    let mut names: Vec<String> = entries.iter().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    Ok(names)
}

fn path_of(folder: &Path, name: &UnitName) -> PathBuf {
    folder.join(FILES).join(name.as_str())
}

/// Whether the content differed. The file is never half written.
fn replace(folder: &Path, path: &Path, text: &str) -> Result<bool, String> {
    if fs::read(path).is_ok_and(|known| known == text.as_bytes()) {
        return Ok(false);
    }
    let unfinished = folder.join(UNFINISHED);
    let written = fs::write(&unfinished, text).and_then(|()| fs::rename(&unfinished, path));
    written.map_err(|error| failed(path, &error)).map(|()| true)
}

fn failed(path: &Path, error: &io::Error) -> String {
    format!("{}: {error}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text of a unit, and its entry.
    fn unit(desired: Desired, text: &str) -> (ListedUnit, String) {
        (
            ListedUnit { desired, hash: UnitFile::parse(text.as_bytes()).unwrap().hash(), replicas: Some(3) },
            text.to_owned(),
        )
    }

    fn write_all(folder: &Path, units: &[(&str, Desired, &str)]) -> Result<Changes, String> {
        let (mut list, mut texts) = (BTreeMap::new(), BTreeMap::new());
        for (name, desired, text) in units {
            let name: UnitName = name.parse().unwrap();
            let (entry, text) = unit(*desired, text);
            list.insert(name.clone(), entry);
            texts.insert(name, text);
        }
        write(folder, list, &texts)
    }

    const A: (&str, Desired, &str) = ("a.service", Desired::Launched, "# a\n[Service]\nExecStart=/a\n");
    const W: (&str, Desired, &str) = ("w@.service", Desired::Inactive, "[Service]\nExecStart=/w %i\n");

    #[test]
    fn a_folder_is_read_as_it_was_written_and_is_brought_up_to_date() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = temporary.path().join("new/backup");
        assert_eq!(listed(&folder), Ok(BTreeMap::new()));
        assert_eq!(write_all(&folder, &[A, W]), Ok(Changes { written: 2, deleted: 0 }));
        assert_eq!(write_all(&folder, &[A, W]), Ok(Changes::default()), "nothing differs");
        let saved = |(name, desired, text): (&str, _, &str)| {
            (name.parse().unwrap(), Saved { desired, text: text.into(), replicas: Some(3) })
        };
        assert_eq!(read(&folder), Ok([A, W].map(saved).into()));
        let loaded = ("a.service", Desired::Loaded, "[Service]\nExecStart=/b\n");
        assert_eq!(write_all(&folder, &[loaded]), Ok(Changes { written: 1, deleted: 1 }));
        assert_eq!(read(&folder), Ok([loaded].map(saved).into()));
        assert_eq!(names(&folder), Ok(vec!["units".into(), LIST.into()]), "nothing unfinished is left");
    }

    #[test]
    fn what_belongs_to_others_is_left_alone() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = temporary.path();
        fs::create_dir(folder.join(".git")).unwrap();
        assert_eq!(listed(folder), Ok(BTreeMap::new()));
        write_all(folder, &[A]).unwrap();
        for name in ["README.md", "units/notes.txt"] {
            fs::write(folder.join(name), "mine").unwrap();
        }
        write_all(folder, &[W]).unwrap();
        assert!(read(folder).is_ok_and(|units| units.len() == 1));
        assert_eq!(names(&folder.join(FILES)), Ok(vec!["notes.txt".into(), "w@.service".into()]));

        let foreign = tempfile::tempdir().unwrap();
        fs::write(foreign.path().join("thesis.tex"), "").unwrap();
        let why = listed(foreign.path()).unwrap_err();
        assert!(why.ends_with("is neither empty nor the folder of an earlier export"), "{why}");
    }

    #[test]
    fn everything_that_is_wrong_with_a_folder_is_named() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = temporary.path();
        let wrong = |folder: &Path| read(folder).unwrap_err().join("\n");
        assert!(wrong(&folder.join("nowhere")).ends_with("nowhere: there is no such folder"));
        assert!(wrong(folder).ends_with("is not the folder of an export: it has no units.json"));
        write_all(folder, &[A, W, ("x.service", Desired::Inactive, "[Service]\nExecStart=/x\n")]).unwrap();
        fs::remove_file(folder.join("units/x.service")).unwrap();
        fs::write(folder.join("units/w@.service"), "[Service]\nExecStart=/v\n").unwrap();
        fs::write(folder.join("units/y.service"), "").unwrap();
        let lines = wrong(folder);
        let ends =
            ["units/y.service: units.json doesn't list it", "units/x.service: missing, though units.json lists it"];
        assert!(ends.iter().all(|end| lines.lines().any(|line| line.ends_with(end))), "{lines}");
        assert!(lines.contains("units/w@.service: its hash is ") && lines.lines().count() == 3, "{lines}");
        for (list, why) in [
            ("[]", "not the list of an export"),
            (r#"{"format":1}"#, "not the list of an export: missing field `units`"),
            (r#"{"format":2,"units":[]}"#, "written by a later version of fleetctl (format 2)"),
        ] {
            fs::write(folder.join(LIST), list).unwrap();
            assert!(wrong(folder).contains(why), "{list}");
            assert!(listed(folder).is_err_and(|refusal| refusal.contains(why)), "{list}");
        }
    }
}
