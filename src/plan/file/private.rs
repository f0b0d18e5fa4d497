//! Files that only their owner can read.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

/// Creates an empty file that only its owner can read, without following a link. Gives nothing where one exists already;
/// that one is not touched.
pub(super) fn create_private(path: &Path) -> io::Result<Option<File>> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(None),
        Err(error) => Err(error),
    }
}

/// Creates an empty file of a random name, that only its owner can read, in the folder of another one; it is to be renamed
/// to that one.
pub(super) fn create_beside(path: &Path) -> io::Result<PathBuf> {
    loop {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{:016x}.new", fastrand::u64(..)));
        let beside = path.with_file_name(name);
        if create_private(&beside)?.is_some() {
            return Ok(beside);
        }
    }
}

/// Removes a plan that was never finished, and what SQLite may have put beside it.
pub(super) fn remove(path: &Path) {
    for suffix in ["", "-journal", "-wal", "-shm"] {
        let mut path = path.as_os_str().to_owned();
        path.push(suffix);
        let _ = fs::remove_file(path);
    }
}
