//! One run for each plan file.
//!
//! The lock is the operating system's, on a file beside the plan: it is freed when its process dies, and no SQLite is
//! involved, so a foreign file at that path is neither read nor written. A lock on the plan itself would shut out readers,
//! and closing a plain handle on the plan would drop the locks that SQLite has on it in this process.

use std::fs::{self, File, Metadata, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use super::private::create_private;

/// The lock of a plan, held until this is dropped.
pub(super) struct Lock {
    path: PathBuf,
    /// Whether there was no lock file before.
    is_new: bool,
    held: File,
}

/// Why a lock was not taken.
pub(super) enum Refusal {
    /// Another run holds it.
    Held,
    Io(io::Error),
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Lock {
    /// Takes the lock of a plan whose path has no symbolic link in it.
    pub(super) fn take(plan: &Path) -> Result<Self, Refusal> {
        let path = path_of(plan);
        let mut is_new = false;
        loop {
            is_new |= create_private(&path)?.is_some();
            let found = match fs::symlink_metadata(&path) {
                Ok(found) => found,
                // An abandoned lock took its file with it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error.into()),
            };
            if !found.is_file() {
                let what = format!("{} is not an ordinary file; remove it", path.display());
                return Err(io::Error::new(io::ErrorKind::InvalidInput, what).into());
            }
            let held = OpenOptions::new().read(true).open(&path)?;
            match held.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(Refusal::Held),
                Err(TryLockError::Error(error)) => return Err(error.into()),
            }
            // A lock on a file that is gone, or was reached through a link, keeps nobody out.
            if is_at(&held, &path) {
                return Ok(Self { path, is_new, held });
            }
        }
    }

    /// Whether the file at the lock's path is the one that is locked.
    pub(super) fn is_in_place(&self) -> bool {
        is_at(&self.held, &self.path)
    }

    /// Whether somebody holds the lock of a plan just now. Creates nothing.
    pub(super) fn is_held(plan: &Path) -> bool {
        let path = path_of(plan);
        let is_file = fs::symlink_metadata(&path).is_ok_and(|found| found.is_file());
        is_file && File::open(path).is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }

    /// Frees the lock of a file that is not a plan, or not any more. The lock file is removed while it is held: after that
    /// it may be another run's.
    pub(super) fn abandon(self) {
        if self.is_new {
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Drop for Lock {
    /// A process that is just being started has a copy of the handle until it runs its program, and would hold the lock so
    /// long.
    fn drop(&mut self) {
        let _ = self.held.unlock();
    }
}

/// Whether a file that is open is the one at a path.
fn is_at(file: &File, path: &Path) -> bool {
    let held = file.metadata().ok().map(|found| FileId::of(&found));
    held.is_some() && held == fs::symlink_metadata(path).ok().map(|found| FileId::of(&found))
}

fn path_of(plan: &Path) -> PathBuf {
    let mut path = plan.as_os_str().to_owned();
    path.push(".lock");
    path.into()
}

/// Which file it is, whatever it is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileId(u64, u64);

impl FileId {
    #[cfg(unix)]
    pub(super) fn of(found: &Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        Self(found.dev(), found.ino())
    }

    /// A file that is open cannot be removed or replaced.
    #[cfg(not(unix))]
    pub(super) fn of(_: &Metadata) -> Self {
        Self(0, 0)
    }
}
