//! Files that only their owner can read.

use std::fs::{self, File, Metadata};
use std::io;
use std::path::{Path, PathBuf};

use super::header::random;
use super::simulation;
use crate::private_file;
use crate::text::hex;

/// Creates an empty file that only its owner can read, without following a link. Returns `None` if a file exists; it
/// does not touch that file.
pub(super) fn create_private(path: &Path) -> io::Result<Option<File>> {
    match private_file::create(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(None),
        Err(error) => Err(error),
    }
}

/// Creates an empty file with a random name in the folder of another file, readable only by its owner. The caller
/// renames it to that file.
pub(super) fn create_beside(path: &Path) -> io::Result<PathBuf> {
    loop {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        let random = random().map_err(|_| io::Error::other("the operating system provides no random numbers"))?;
        name.push(format!(".{}.new", hex(&random)));
        let beside = path.with_file_name(name);
        if create_private(&beside)?.is_some() {
            return Ok(beside);
        }
    }
}

/// Deletes an unfinished plan, and the files that SQLite may have created next to it.
pub(super) fn remove(path: &Path) {
    if simulation::is_dead(path) {
        return;
    }
    for suffix in ["", "-journal", "-wal", "-shm"] {
        let _ = fs::remove_file(with_suffix(path, suffix));
    }
}

/// Returns a path with a suffix.
pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

/// Identifies a file, independent of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileId(u64, u64);

impl FileId {
    /// Returns the file at a path, if there is one that is not a link.
    pub(super) fn at(path: &Path) -> Option<Self> {
        fs::symlink_metadata(path).ok().filter(Metadata::is_file).map(|found| Self::of(&found))
    }

    #[cfg(unix)]
    fn of(found: &Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        Self(found.dev(), found.ino())
    }

    /// On this system an open file cannot be deleted or replaced.
    #[cfg(not(unix))]
    fn of(_: &Metadata) -> Self {
        Self(0, 0)
    }
}

/// Returns the number of names of the file at a path.
pub(super) fn links(path: &Path) -> u64 {
    fs::symlink_metadata(path).map_or(0, |found| private_file::links(&found))
}
