//! Files that others read: there whole, or as they were before.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// Where a new version of `path` is made before it takes its place: beside it, and hidden.
pub(super) fn candidate(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.new"))
}

/// Write `text` to a file that nobody reads yet, and make sure that it is on the disk.
pub(super) fn write(path: &Path, text: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path)?;
    // The umask has no say in it.
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(text)?;
    file.sync_all()
}

/// Let `new` take the place of `path`.
pub(super) fn rename(new: &Path, path: &Path) -> io::Result<()> {
    fs::rename(new, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

/// Put `text` in the place of `path`.
pub(super) fn replace(path: &Path, text: &[u8], mode: u32) -> io::Result<()> {
    let new = candidate(path);
    let done = write(&new, text, mode).and_then(|()| rename(&new, path));
    if done.is_err() {
        let _ = fs::remove_file(&new);
    }
    done
}
