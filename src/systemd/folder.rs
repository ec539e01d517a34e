//! Files on a real host: our folder of unit files, the boot state, and what `dbus::lease` writes for systemd.
//!
//! Owns every read and write there. All of it blocks: callers run it outside the async threads. It must never ask
//! systemd anything, or make a link (systemd makes them).

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use crate::model::body::is_same_to_systemd;
use crate::model::name::UnitName;
use crate::systemd::Error;

/// Numbers the temporary files of this process, so that two writers never share one. Leftovers of an earlier process
/// are overwritten.
static TEMPORARY: AtomicU64 = AtomicU64::new(0);

/// Whether a file must be synced to disk before it is renamed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Durable {
    Yes,
    No,
}

/// One directory.
#[derive(Debug, Clone)]
pub(super) struct Folder {
    path: PathBuf,
}

/// What was there before a write, to detect changes and to restore it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Before {
    /// There was no file.
    Nothing,
    /// There was a file with this text.
    Text(String),
    /// There was a file with the same text; nothing was written.
    Same,
}

impl Folder {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Every unit file and its text. A file that can't be read, or isn't a unit file, is skipped.
    pub(super) fn read_units(&self) -> Result<BTreeMap<UnitName, String>, Error> {
        let mut units = BTreeMap::new();
        let entries = match fs::read_dir(&self.path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(units),
            Err(error) => return Err(failed("read the folder", &self.path, &error)),
        };
        for entry in entries {
            let entry = entry.map_err(|error| failed("read the folder", &self.path, &error))?;
            let file = entry.file_name();
            let Some(file) = file.to_str() else { continue };
            let name = match file.parse::<UnitName>() {
                Ok(name) => name,
                // For instance a temporary file. A hidden file whose name is a valid unit name is a unit file.
                Err(_) if file.starts_with('.') => continue,
                Err(error) => {
                    tracing::warn!(path = %entry.path().display(), %error, "not a unit file, skipped");
                    continue;
                }
            };
            match fs::read_to_string(entry.path()) {
                Ok(text) => {
                    units.insert(name, text);
                }
                Err(error) => tracing::warn!(unit = %name, %error, "unit file can't be read, skipped"),
            }
        }
        Ok(units)
    }

    /// Write each file beside the one that its unit has: [`Folder::write_units`] of the same text only renames it.
    pub(super) fn stage_units(&self, units: &[(UnitName, String)]) -> Vec<Result<(), Error>> {
        let staged = self.staged();
        let ready = self.create().and_then(|()| staged.create());
        let stage = |(name, text): &(UnitName, String)| {
            ready.clone()?;
            staged.replace(&staged.file(name.as_str()), text, Durable::No, None)
        };
        units.iter().map(stage).collect()
    }

    /// Where the next files of units are staged.
    fn staged(&self) -> Self {
        Self::new(self.file(".staged"))
    }

    /// Write each file completely or not at all; all are on disk when this returns.
    pub(super) fn write_units(&self, units: &[(UnitName, String)]) -> Vec<Result<Before, Error>> {
        if let Err(error) = self.create() {
            return units.iter().map(|_| Err(error.clone())).collect();
        }
        let written: Vec<_> = units.iter().map(|(name, text)| self.write_unit(name, text)).collect();
        if !written.iter().any(|result| matches!(result, Ok(Before::Nothing | Before::Text(_)))) {
            return written;
        }
        match File::open(&self.path).and_then(|folder| folder.sync_all()) {
            Ok(()) => written,
            // It is unknown which of the new names are on disk.
            Err(error) => {
                let error = failed("sync the folder", &self.path, &error);
                written.into_iter().map(|result| result.and(Err(error.clone()))).collect()
            }
        }
    }

    fn write_unit(&self, name: &UnitName, text: &str) -> Result<Before, Error> {
        let path = self.file(name.as_str());
        let before = match fs::read_to_string(&path) {
            Ok(before) if before == text => return Ok(Before::Same),
            Ok(before) => Before::Text(before),
            Err(error) if error.kind() == ErrorKind::NotFound => Before::Nothing,
            // It isn't text, so it isn't worth restoring.
            Err(error) if error.kind() == ErrorKind::InvalidData => Before::Nothing,
            Err(error) => return Err(failed("read", &path, &error)),
        };
        let modified = time_to_keep(&path, &before, text);
        let staged = self.staged().file(name.as_str());
        match fs::read_to_string(&staged) {
            Ok(next) if next == text => put(&staged, &path, modified)?,
            Ok(_) => {
                self.replace(&path, text, Durable::Yes, modified)?;
                self.staged().remove(name)?;
            }
            Err(_) => self.replace(&path, text, Durable::Yes, modified)?,
        }
        Ok(before)
    }

    /// Undo one write.
    pub(super) fn restore(&self, name: &UnitName, before: &Before) {
        let done = match before {
            Before::Same => Ok(()),
            Before::Text(text) => self.replace(&self.file(name.as_str()), text, Durable::Yes, None),
            Before::Nothing => self.remove(name),
        };
        if let Err(error) = done {
            tracing::warn!(unit = %name, %error, "unit file can't be restored");
        }
    }

    /// Remove a unit file, if it exists, and the one that is staged.
    pub(super) fn remove(&self, name: &UnitName) -> Result<(), Error> {
        for path in [self.file(name.as_str()), self.staged().file(name.as_str())] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed("remove", &path, &error)),
                _ => {}
            }
        }
        Ok(())
    }

    pub(super) fn read_boot_file(&self, key: &str) -> Result<Option<String>, Error> {
        let path = self.note(key)?;
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("read", &path, &error)),
        }
    }

    /// Completely or not at all, but not synced: the folder is a tmpfs.
    pub(super) fn write_boot_file(&self, key: &str, text: &str) -> Result<(), Error> {
        let path = self.note(key)?;
        self.create()?;
        self.replace(&path, text, Durable::No, None)
    }

    /// The folder of a unit's drop-ins, if this is one of systemd's own.
    pub(super) fn drop_ins(&self, name: &UnitName) -> Self {
        Self::new(self.file(&format!("{name}.d")))
    }

    /// Write one file that lasts until the next boot; nothing happens if it has this text.
    pub(super) fn write(&self, file: &str, text: &str) -> Result<Before, Error> {
        let path = self.file(file);
        let before = match fs::read_to_string(&path) {
            Ok(before) if before == text => return Ok(Before::Same),
            Ok(before) => Before::Text(before),
            Err(error) if error.kind() == ErrorKind::NotFound => Before::Nothing,
            Err(error) => return Err(failed("read", &path, &error)),
        };
        self.create()?;
        self.replace(&path, text, Durable::No, None)?;
        Ok(before)
    }

    /// Remove one file, if it exists, and the folder if it is empty then.
    pub(super) fn take_away(&self, file: &str) -> Result<(), Error> {
        let path = self.file(file);
        match fs::remove_file(&path) {
            // There may be other files in it.
            Ok(()) => drop(fs::remove_dir(&self.path)),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(failed("remove", &path, &error)),
        }
        Ok(())
    }

    fn note(&self, key: &str) -> Result<PathBuf, Error> {
        if key.is_empty() || key.starts_with('.') || key.contains('/') {
            return Err(Error::Io(format!("{key:?} can't name a boot file: it must be a plain file name")));
        }
        Ok(self.file(key))
    }

    fn create(&self) -> Result<(), Error> {
        if self.path.is_dir() {
            return Ok(());
        }
        let make = || {
            DirBuilder::new().recursive(true).mode(0o755).create(&self.path)?;
            // Independently of the umask: every user may read the units.
            fs::set_permissions(&self.path, Permissions::from_mode(0o755))
        };
        make().map_err(|error| failed("make the folder", &self.path, &error))
    }

    /// Replace a file; its time of modification is `modified`, or now.
    fn replace(&self, path: &Path, text: &str, durable: Durable, modified: Option<SystemTime>) -> Result<(), Error> {
        let temporary = self.file(&format!(".{}.new", TEMPORARY.fetch_add(1, Ordering::Relaxed)));
        let write = || -> io::Result<()> {
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(&temporary)?;
            file.write_all(text.as_bytes())?;
            // Independently of the umask: systemd warns about unit files that aren't world-readable.
            file.set_permissions(Permissions::from_mode(0o644))?;
            if let Some(modified) = modified {
                file.set_modified(modified)?;
            }
            if durable == Durable::Yes {
                file.sync_all()?;
            }
            fs::rename(&temporary, path)
        };
        write().map_err(|error| {
            // The error of the write is what matters; a leftover is overwritten next time.
            let _ = fs::remove_file(&temporary);
            failed("write", path, &error)
        })
    }
}

/// Put a staged file in its place; its time of modification is `modified`, or when it was staged.
fn put(staged: &Path, path: &Path, modified: Option<SystemTime>) -> Result<(), Error> {
    let rename = || -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(staged)?;
        modified.map_or(Ok(()), |modified| file.set_modified(modified))?;
        file.sync_all()?;
        fs::rename(staged, path)
    };
    rename().map_err(|error| failed("write", path, &error))
}

/// The time of a file's last modification, if systemd reads the same from `text` as from what was there `before`. It
/// reports `NeedDaemonReload` for a unit whose file is newer than what it has read, and here there is nothing to read.
fn time_to_keep(path: &Path, before: &Before, text: &str) -> Option<SystemTime> {
    let Before::Text(before) = before else { return None };
    let modified = || fs::metadata(path).and_then(|file| file.modified()).ok();
    is_same_to_systemd(before, text).then(modified).flatten()
}

fn failed(what: &str, path: &Path, error: &io::Error) -> Error {
    Error::Io(format!("cannot {what} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> UnitName {
        name.parse().unwrap()
    }

    #[test]
    fn files_are_written_read_restored_and_removed() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::new(root.path().join("a/units"));
        // As fleetd.service has it.
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
        assert_eq!(folder.read_units(), Ok(BTreeMap::new()));
        let unit = |text: &str| [(name("a.service"), text.to_owned())];
        assert_eq!(folder.write_units(&unit("one")), [Ok(Before::Nothing)]);
        assert_eq!(folder.write_units(&unit("one")), [Ok(Before::Same)]);
        let before = folder.write_units(&unit("two")).remove(0).unwrap();
        assert_eq!(before, Before::Text("one".into()));
        folder.restore(&name("a.service"), &before);
        assert_eq!(folder.read_units().unwrap()[&name("a.service")], "one");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode(&folder.path), mode(&folder.file("a.service"))), (0o755, 0o644));
        folder.remove(&name("a.service")).unwrap();
        folder.remove(&name("a.service")).unwrap();
        assert_eq!(fs::read_dir(&folder.path).unwrap().count(), 0);
    }

    #[test]
    fn a_file_is_newer_only_if_systemd_reads_something_else_from_it() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::new(root.path().into());
        let write = |text: &str| {
            folder.write_units(&[(name("a.service"), text.to_owned())]).remove(0).unwrap();
            fs::metadata(folder.file("a.service")).unwrap().modified().unwrap()
        };
        write("[Service]\nExecStart=/a\n");
        let long_ago = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1000);
        File::open(folder.file("a.service")).unwrap().set_modified(long_ago).unwrap();
        assert_eq!(write("# why\n[Service]\nExecStart=/a\n"), long_ago);
        assert_eq!(write("[Service]\nExecStart=/a\n[X-Fleet]\nGlobal=true\n"), long_ago);
        // A drop-in is written with it.
        assert!(write("[Service]\nExecStart=/a\n[X-Fleet]\nOnDisconnect=stop\n") > long_ago);
        assert!(write("[Service]\nExecStart=/b\n[X-Fleet]\nGlobal=true\n") > long_ago);
    }

    #[test]
    fn a_staged_file_takes_its_place_and_nothing_else_sees_it() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::new(root.path().join("units"));
        let unit = |text: &str| [(name("a.service"), text.to_owned())];
        let staged = || fs::read_to_string(folder.staged().file("a.service")).ok();
        folder.write_units(&unit("one")).remove(0).unwrap();
        assert_eq!(folder.stage_units(&unit("two")), [Ok(())]);
        assert_eq!(folder.read_units().unwrap(), BTreeMap::from([(name("a.service"), "one".to_owned())]));
        assert_eq!(folder.write_units(&unit("two")), [Ok(Before::Text("one".into()))]);
        let path = folder.file("a.service");
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), staged()), ("two", None));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o644);
        // Another text is installed, or the unit is removed: it is dropped.
        for other in [Some("four"), None] {
            assert_eq!(folder.stage_units(&unit("three")), [Ok(())]);
            match other {
                Some(text) => drop(folder.write_units(&unit(text)).remove(0).unwrap()),
                None => folder.remove(&name("a.service")).unwrap(),
            }
            assert_eq!(staged(), None, "{other:?}");
        }
        assert_eq!(folder.read_units(), Ok(BTreeMap::new()));
    }

    #[test]
    fn one_bad_file_harms_only_itself() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::new(root.path().into());
        fs::create_dir(root.path().join("bad.service")).unwrap();
        fs::write(root.path().join("README"), "no unit").unwrap();
        fs::write(root.path().join("binary.service"), b"\xff\xfe").unwrap();
        fs::write(root.path().join(".7.new"), "left over").unwrap();
        let units = [(name("bad.service"), "x".to_owned()), (name("good.service"), "y".to_owned())];
        let written = folder.write_units(&units);
        assert!(matches!(&written[0], Err(Error::Io(text)) if text.contains("bad.service")), "{written:?}");
        assert_eq!(written[1], Ok(Before::Nothing));
        assert_eq!(folder.read_units().unwrap().into_keys().collect::<Vec<_>>(), [name("good.service")]);
    }

    /// New units can't have such a name, but old ones must be seen to be removed.
    #[test]
    fn a_unit_whose_name_begins_with_a_dot_is_seen() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::new(root.path().into());
        let hidden = name(".hidden.service");
        assert_eq!(folder.write_units(&[(hidden.clone(), "x".to_owned())]), [Ok(Before::Nothing)]);
        assert!(folder.read_units().unwrap().contains_key(&hidden));
        folder.remove(&hidden).unwrap();
        assert_eq!(folder.read_units(), Ok(BTreeMap::new()));
    }

    #[test]
    fn boot_files_have_plain_names() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::new(root.path().join("fleet"));
        assert_eq!(folder.read_boot_file("lease"), Ok(None));
        folder.write_boot_file("lease", "7").unwrap();
        assert_eq!(folder.read_boot_file("lease"), Ok(Some("7".into())));
        assert!(folder.write_boot_file("../lease", "7").is_err());
    }
}
