//! Checks whether the log next to a plan file belongs to the file.
//!
//! SQLite replays any valid log with the right name. So before SQLite sees the two together, this module compares the
//! file alone with the file and the log together: the last run, and the number of its logs. Each log begins with a
//! commit of both, and with the number that the file had then.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::error::{FileError, FileErrorKind};
use super::private::with_suffix;
use super::state::{self, Mark};
use super::{check, connect};

/// While a run starts, ends or checkpoints, file and log differ for less than this time.
const MOMENT: Duration = Duration::from_millis(500);

/// The bytes of a log before its first frame. A power failure may leave only these; such a log has nothing to replay.
const HEADER: u64 = 32;

/// Refuses a file next to a log of another plan, or next to another kind of file with the name of its log. SQLite would
/// write through a link, and wait forever for a FIFO.
pub(super) fn check(path: &Path) -> Result<(), FileError> {
    for suffix in ["-journal", "-wal", "-shm"] {
        let beside = with_suffix(path, suffix);
        if beside.symlink_metadata().is_ok_and(|found| !found.is_file()) {
            let name = beside.file_name().unwrap_or_default().to_string_lossy().into_owned();
            return Err(FileError::new(path, FileErrorKind::NotALog(name)));
        }
    }
    let until = Instant::now() + connect::patience(MOMENT);
    while !is_own(path) {
        if Instant::now() >= until {
            return Err(FileError::new(path, FileErrorKind::ForeignLog));
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Refuses a log where no plan, or an unfinished one, can have one. It may be the only record of what a run did.
pub(super) fn refuse_stray(path: &Path) -> Result<(), FileError> {
    let log = with_suffix(path, "-wal");
    if log.symlink_metadata().is_err() {
        return Ok(());
    }
    let name = log.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Err(FileError::new(path, FileErrorKind::StrayLog(name)))
}

fn is_own(path: &Path) -> bool {
    if fs::metadata(with_suffix(path, "-wal")).map_or(0, |log| log.len()) <= HEADER {
        return true;
    }
    // In this order: the file alone is never ahead of the two together.
    let alone = connect::immutable(path).ok().and_then(|connection| mark(&connection));
    let together = connect::only_reading(path).ok().and_then(|connection| mark(&connection));
    match (alone, together) {
        (Some(alone), Some(together)) => {
            alone.writer == together.writer && (together.base..=together.needed).contains(&alone.needed)
        }
        (Some(_), None) => false,
        // Either the power failed during a checkpoint, which the log repairs, or the file is damaged and is refused.
        (None, _) => true,
    }
}

fn mark(connection: &Connection) -> Option<Mark> {
    connection.busy_timeout(connect::patience(Duration::from_millis(200))).ok()?;
    let transaction = connection.unchecked_transaction().ok()?;
    check::check_schema(&transaction).ok()?.ok()?;
    state::mark(&transaction).ok()?
}
