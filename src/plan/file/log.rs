//! Whether the log beside a plan file is the file's own.
//!
//! SQLite replays any valid log that has the right name. So before SQLite may see the two together, this compares what the
//! file alone says with what both say together: the last run that had the file, and the count of its logs. Each log
//! begins with a commit of both, and with the count that the file had then.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::error::{FileError, FileErrorKind};
use super::private::with_suffix;
use super::state::{self, Mark};
use super::{check, connect};

/// A run that starts, ends or moves its log into the file lets file and log differ for less than this.
const MOMENT: Duration = Duration::from_millis(500);

/// The bytes of a log before its first frame. Power may be lost between the two; such a log has nothing to replay.
const HEADER: u64 = 32;

/// Refuses a file beside a log that is not its own, or beside something else that has the name of one. SQLite would write
/// through a link, and wait for ever for a FIFO.
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
        // Power was lost while the log was moved into the file, which the log mends; or the file is damaged, and is refused.
        (None, _) => true,
    }
}

fn mark(connection: &Connection) -> Option<Mark> {
    connection.busy_timeout(connect::patience(Duration::from_millis(200))).ok()?;
    let transaction = connection.unchecked_transaction().ok()?;
    check::check_schema(&transaction).ok()?.ok()?;
    state::mark(&transaction).ok()?
}
