//! One owner for each plan file.
//!
//! The lock is a tiny database beside the plan: SQLite's locks are freed when their process dies, are not inherited by a
//! fork, and work the same everywhere. A lock on the plan itself would shut out whoever looks at it. What is held is the
//! right to write, so that others can still read there who holds it.

use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, thread};

use rusqlite::{Connection, ErrorCode, OptionalExtension};

use super::create_private;
use super::error::{FileError, FileErrorKind};
use super::presence::Presence;

/// How long the owner may take to write down its name, and a reader to read it.
const A_MOMENT: Duration = Duration::from_millis(200);

pub(super) struct Lock {
    path: PathBuf,
    /// Whether there was no file of it before.
    is_new: bool,
    /// Held, and never used: closing it frees the lock.
    _held: Connection,
    /// Goes last, when SQLite is not used any more.
    _presence: Presence,
}

impl Lock {
    /// Takes the lock of a plan.
    pub(super) fn take(plan: &Path) -> Result<Self, FileError> {
        let presence = Presence::enter().ok_or_else(|| FileError::new(plan, FileErrorKind::Forked))?;
        let path = path_of(plan);
        let io = |error: std::io::Error| FileError::new(plan, FileErrorKind::Io(error.to_string()));
        let mut is_new = false;
        loop {
            is_new |= create_private(&path).map_err(io)?;
            let before = identity(&path);
            let held = Connection::open(&path).map_err(|error| FileError::of_sqlite(plan, &error))?;
            if let Some(owner) = hold(&held).map_err(|error| FileError::of_sqlite(plan, &error))? {
                return Err(FileError::new(plan, FileErrorKind::Locked(owner)));
            }
            // An abandoned lock takes its file with it; a lock on a file that is gone keeps nobody out.
            if before.is_some() && before == identity(&path) {
                return Ok(Self { path, is_new, _held: held, _presence: presence });
            }
        }
    }

    /// Frees the lock of what is no plan, or none any more. Its file goes while it is held: after that it may be another's.
    pub(super) fn abandon(self) {
        if self.is_new {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn path_of(plan: &Path) -> PathBuf {
    let mut path = plan.as_os_str().to_owned();
    path.push(".lock");
    path.into()
}

/// Which file is at a path, without opening it.
#[cfg(unix)]
fn identity(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().map(|found| std::os::unix::fs::MetadataExt::ino(&found))
}

/// A file that is open cannot be removed.
#[cfg(not(unix))]
fn identity(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().map(|_| 0)
}

/// Begins to hold the lock, or gives who does.
fn hold(connection: &Connection) -> rusqlite::Result<Option<String>> {
    let mut tried_before = false;
    loop {
        connection.busy_timeout(Duration::ZERO)?;
        match connection.execute_batch("BEGIN IMMEDIATE") {
            Ok(()) => {}
            Err(error) if is_busy(&error) && tried_before => return read_owner(connection).map(Some),
            Err(error) if is_busy(&error) => {
                // The new owner may not have written down its name yet.
                tried_before = true;
                thread::sleep(A_MOMENT);
                continue;
            }
            Err(error) => return Err(error),
        }
        let owner = this_owner();
        connection.execute_batch("CREATE TABLE IF NOT EXISTS owner (name TEXT NOT NULL)")?;
        let named = connection.query_row("SELECT name FROM owner", [], |row| row.get::<_, String>(0)).optional()?;
        if named.as_ref() == Some(&owner) {
            return Ok(None);
        }
        connection.execute("DELETE FROM owner", [])?;
        connection.execute("INSERT INTO owner VALUES (?1)", [owner])?;
        // Others read only what is committed. Whoever comes in between writes down another name, and this one sees it.
        connection.busy_timeout(A_MOMENT)?;
        connection.execute_batch("COMMIT")?;
    }
}

fn read_owner(connection: &Connection) -> rusqlite::Result<String> {
    connection.busy_timeout(A_MOMENT)?;
    let named = connection.query_row("SELECT name FROM owner", [], |row| row.get(0));
    match named {
        Err(error) if is_busy(&error) => Ok("another program".to_owned()),
        named => named,
    }
}

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// What is written down about this process.
fn this_owner() -> String {
    let (process, host) = (std::process::id(), std::env::var("HOSTNAME").unwrap_or_default());
    if host.is_empty() { format!("process {process}") } else { format!("process {process} on {host}") }
}
