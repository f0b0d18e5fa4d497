//! One owner for each plan file.
//!
//! The lock is a tiny database beside the plan, held exclusively: SQLite's locks are freed when their process dies, are not
//! inherited by a fork, and work the same everywhere. A lock on the plan itself would shut out whoever looks at it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::error::{FileError, FileErrorKind};
use super::{create_private, describe_owner};

pub(super) struct Lock {
    /// Held, and never read: closing it frees the lock.
    _held: Connection,
}

impl Lock {
    /// Takes the lock of a plan.
    pub(super) fn take(plan: &Path) -> Result<Self, FileError> {
        let path = path_of(plan);
        create_private(&path).map_err(|error| FileError::new(plan, FileErrorKind::Io(error.to_string())))?;
        let held = Connection::open(&path).map_err(|error| FileError::of_sqlite(plan, &error))?;
        let taken = held.busy_timeout(Duration::ZERO).and_then(|()| held.execute_batch("BEGIN EXCLUSIVE"));
        match taken.map_err(|error| FileError::of_sqlite(plan, &error)) {
            Ok(()) => Ok(Self { _held: held }),
            Err(error) if matches!(error.kind(), FileErrorKind::Locked(_)) => {
                let owner = owner_of(plan).unwrap_or_else(|| "another program".to_owned());
                Err(FileError::new(plan, FileErrorKind::Locked(owner)))
            }
            Err(error) => Err(error),
        }
    }
}

pub(super) fn path_of(plan: &Path) -> PathBuf {
    let mut path = plan.as_os_str().to_owned();
    path.push(".lock");
    path.into()
}

/// Who has a plan open, as the plan itself says.
fn owner_of(plan: &Path) -> Option<String> {
    let connection = Connection::open_with_flags(plan, OpenFlags::SQLITE_OPEN_READ_ONLY).ok()?;
    connection.busy_timeout(Duration::from_millis(200)).ok()?;
    connection.query_row("SELECT value FROM plan WHERE key = 'owner'", [], |row| row.get(0)).ok()
}

/// What is written down about this process.
pub(super) fn this_owner() -> String {
    describe_owner(std::process::id(), &std::env::var("HOSTNAME").unwrap_or_default())
}
