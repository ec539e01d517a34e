//! Files that are replaced atomically. Owns how a new version is written and put in place; never follows a link that
//! was planted in its way, and leaves no temporary file behind.

use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// The suffix of a new version's name, after 16 random hexadecimal digits.
const SUFFIX: &str = ".new";

/// A new version of a file, hidden in the same folder until it is put in place. Dropping it before deletes it.
#[derive(Debug)]
pub(super) struct Candidate {
    path: PathBuf,
    target: PathBuf,
    placed: bool,
}

impl Candidate {
    /// Write `text` to a new file and sync it to disk.
    ///
    /// # Errors
    /// The file system's error.
    pub(super) fn write(target: &Path, text: &[u8], mode: u32) -> io::Result<Self> {
        let mut tries = 0;
        let (mut file, new) = loop {
            let path = target.with_file_name(format!("{}{:016x}{SUFFIX}", prefix(target), chance()));
            // An existing file of this name, and above all a link, belongs to another program.
            match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
                Ok(file) => break (file, Self { path, target: target.into(), placed: false }),
                Err(error) if error.kind() == ErrorKind::AlreadyExists && tries < 10 => tries += 1,
                Err(error) => return Err(error),
            }
        };
        // Independently of the umask.
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.write_all(text)?;
        file.sync_all()?;
        Ok(new)
    }

    /// Its temporary path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Put it in the target's place.
    ///
    /// # Errors
    /// The file system's error.
    pub(super) fn place(mut self) -> io::Result<()> {
        fs::rename(&self.path, &self.target)?;
        self.placed = true;
        File::open(folder(&self.target))?.sync_all()
    }
}

impl Drop for Candidate {
    fn drop(&mut self) {
        if !self.placed {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Remove new versions of `target` that a killed process left behind.
pub(super) fn sweep(target: &Path) {
    let prefix = prefix(target);
    let left = |name: &str| {
        let digits = name.strip_prefix(&prefix).and_then(|rest| rest.strip_suffix(SUFFIX));
        digits.is_some_and(|digits| digits.len() == 16 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
    };
    for entry in fs::read_dir(folder(target)).into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(left) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Replace the content of `path` with `text`.
///
/// # Errors
/// The file system's error.
pub(super) fn replace(path: &Path, text: &[u8], mode: u32) -> io::Result<()> {
    sweep(path);
    Candidate::write(path, text, mode)?.place()
}

fn prefix(target: &Path) -> String {
    format!(".{}.", target.file_name().unwrap_or_default().to_string_lossy())
}

fn folder(target: &Path) -> &Path {
    target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A number that can't be guessed: its hasher is seeded by the kernel's random generator.
fn chance() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }

    #[test]
    fn a_link_in_its_way_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (victim, target) = (dir.path().join("victim"), dir.path().join("x.cfg"));
        fs::write(&victim, "precious").unwrap();
        // The predictable name, and the file itself.
        std::os::unix::fs::symlink(&victim, dir.path().join(".x.cfg.new")).unwrap();
        std::os::unix::fs::symlink(&victim, &target).unwrap();
        replace(&target, b"new", 0o640).unwrap();
        assert_eq!(
            (fs::read_to_string(&victim).unwrap(), fs::read_to_string(&target).unwrap()),
            ("precious".into(), "new".into())
        );
        let about = fs::symlink_metadata(&target).unwrap();
        assert!(about.is_file() && about.permissions().mode() & 0o777 == 0o640);
        assert_eq!(names(dir.path()), [".x.cfg.new", "victim", "x.cfg"]);
    }

    #[test]
    fn nothing_is_left_behind() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("x.cfg");
        let candidate = Candidate::write(&target, b"new", 0o644).unwrap();
        assert_ne!(candidate.path(), Candidate::write(&target, b"new", 0o644).unwrap().path(), "each has its own name");
        drop(candidate);
        assert_eq!(names(dir.path()), Vec::<String>::new());
        // A file can't replace a folder.
        fs::create_dir(&target).unwrap();
        assert!(replace(&target, b"new", 0o644).is_err());
        assert_eq!(names(dir.path()), ["x.cfg"]);
        // Left by a killed process.
        fs::write(dir.path().join(".x.cfg.0123456789abcdef.new"), "half").unwrap();
        fs::write(dir.path().join(".x.cfg.mine.new"), "another's").unwrap();
        sweep(&target);
        assert_eq!(names(dir.path()), [".x.cfg.mine.new", "x.cfg"]);
    }
}
