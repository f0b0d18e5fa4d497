//! Checks whether the log next to a plan file belongs to the file.
//!
//! SQLite replays any valid log with the right name. So before SQLite sees the two together, this module compares the
//! file alone with the file and the log together: the last run, and the number of its logs. Each log begins with a
//! commit of both, and with the number that the file had then.

use std::fs::{self, File, Metadata};
use std::io::Read;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode};

use super::error::{FileError, FileErrorKind};
use super::private::with_suffix;
use super::state::{self, Log, Mark};
use super::{check, connect, owner};

/// While a run starts, ends or checkpoints, file and log differ for less than this time.
const MOMENT: Duration = Duration::from_millis(500);

/// The bytes of a log before its first frame. A power failure may leave only these; such a log has nothing to replay.
const HEADER: u64 = 32;

/// The ends of the names of the files that SQLite keeps next to a plan.
pub(super) const BESIDE: [&str; 3] = ["-journal", "-wal", "-shm"];

/// Refuses a file next to another kind of file with such a name. SQLite would write through a link, wait forever for a
/// FIFO, and delete what it does not recognize.
fn refuse_others(path: &Path) -> Result<(), FileError> {
    for suffix in BESIDE {
        let beside = with_suffix(path, suffix);
        let is_other = |found: Metadata| !found.is_file() || !is_of_sqlite(&beside, suffix, found.len());
        if beside.symlink_metadata().is_ok_and(is_other) {
            let name = beside.file_name().unwrap_or_default().to_string_lossy().into_owned();
            return Err(FileError::new(path, FileErrorKind::NotALog(name)));
        }
    }
    Ok(())
}

fn is_of_sqlite(path: &Path, suffix: &str, length: u64) -> bool {
    /// A `-shm` consists of such pages, or of three bytes when it is new.
    const PAGE: u64 = 4_096;
    const JOURNAL: &[u8] = &[0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];
    if suffix == "-shm" {
        // To close it would drop the locks that SQLite has on it.
        return length == 3 || length.is_multiple_of(PAGE);
    }
    let mut start = Vec::new();
    // If it cannot be read, SQLite says why.
    let is_read = File::open(path).and_then(|file| file.take(JOURNAL.len() as u64).read_to_end(&mut start)).is_ok();
    let is_known = match suffix {
        "-wal" => start.starts_with(&[0x37, 0x7f, 0x06, 0x82]) || start.starts_with(&[0x37, 0x7f, 0x06, 0x83]),
        _ => start == JOURNAL,
    };
    // A power failure can leave zeros.
    !is_read || is_known || start.iter().all(|byte| *byte == 0)
}

/// Refuses a file next to a log of another plan, or next to another kind of file with the name of its log.
pub(super) fn check(path: &Path) -> Result<(), FileError> {
    refuse_others(path)?;
    let begun = Instant::now();
    // A lock says nothing about the log, and the run that had it may have changed both.
    let mut foreign_since = None;
    loop {
        match is_own(path) {
            Ok(true) => return Ok(()),
            Ok(false) => {
                let since: Instant = *foreign_since.get_or_insert_with(Instant::now);
                if since.elapsed() >= connect::patience(MOMENT) {
                    return Err(FileError::new(path, FileErrorKind::ForeignLog));
                }
            }
            // A run moves a large log into the file, say.
            Err(error) if !connect::is_busy(&error) || begun.elapsed() >= connect::patience(connect::PATIENCE) => {
                return Err(owner::refusal_of(path, &error));
            }
            Err(_) => foreign_since = None,
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Returns the kind of an error of a file without its log. Beside a reader, SQLite can move a part of a log into the
/// file, which looks damaged until the log is there.
pub(super) fn without(path: &Path, kind: FileErrorKind) -> FileErrorKind {
    let needs_log = || {
        let alone = connect::immutable(path).and_then(|connection| mark(&connection));
        matches!(alone, Ok(Some(mark)) if mark.log() == Log::Missing)
    };
    if matches!(kind, FileErrorKind::Damaged(_)) && is_empty(path) && needs_log() {
        FileErrorKind::NeedsLog(path.file_name().unwrap_or_default().to_string_lossy().into_owned())
    } else {
        kind
    }
}

/// Returns whether there is nothing to replay. SQLite creates an empty log when it reads the file.
fn is_empty(path: &Path) -> bool {
    fs::metadata(with_suffix(path, "-wal")).map_or(0, |log| log.len()) <= HEADER
}

/// Returns the error of such a file if it cannot be recovered.
pub(super) fn halved(path: &Path) -> FileError {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let what = format!("cannot be recovered: a part of it is only in its log, {name}-wal; copy both files here");
    FileError::new(path, FileErrorKind::Lost(what))
}

/// Refuses a log where no plan, or an unfinished one, can have one: it may be the only record of what a run did.
/// Another kind of file with such a name is refused, too.
pub(super) fn refuse_stray(path: &Path) -> Result<(), FileError> {
    refuse_others(path)?;
    let log = with_suffix(path, "-wal");
    if log.symlink_metadata().is_err() {
        return Ok(());
    }
    let name = log.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Err(FileError::new(path, FileErrorKind::StrayLog(name)))
}

/// Returns whether the log belongs to the file. Fails if SQLite cannot read the two together for another reason than
/// what they contain: then this says nothing about the log.
fn is_own(path: &Path) -> rusqlite::Result<bool> {
    if is_empty(path) {
        return Ok(true);
    }
    // In this order: the file alone is never ahead of the two together.
    let alone = match connect::immutable(path).and_then(|connection| mark(&connection)) {
        Ok(Some(alone)) => alone,
        Err(error) if is_of_system(&error) => return Err(error),
        // Either the power failed during a checkpoint, which the log repairs, or the file is damaged and is refused.
        Ok(None) | Err(_) => return Ok(true),
    };
    match connect::only_reading(path).and_then(|connection| mark(&connection)) {
        Ok(Some(together)) => {
            Ok(alone.writer == together.writer && (together.base..=together.needed).contains(&alone.needed))
        }
        Err(error) if is_of_system(&error) => Err(error),
        Ok(None) | Err(_) => Ok(false),
    }
}

fn mark(connection: &Connection) -> rusqlite::Result<Option<Mark>> {
    connection.busy_timeout(connect::patience(Duration::from_millis(200)))?;
    let transaction = connection.unchecked_transaction()?;
    if check::check_schema(&transaction)?.is_err() {
        return Ok(None);
    }
    state::mark(&transaction)
}

/// Returns whether an error comes from the system or another process, and not from what a file contains.
fn is_of_system(error: &rusqlite::Error) -> bool {
    use ErrorCode::{
        CannotOpen, DatabaseBusy, DatabaseLocked, DiskFull, FileLockingProtocolFailed, OutOfMemory, PermissionDenied,
        ReadOnly, SystemIoFailure,
    };
    matches!(
        error.sqlite_error_code(),
        Some(
            CannotOpen
                | DatabaseBusy
                | DatabaseLocked
                | DiskFull
                | FileLockingProtocolFailed
                | OutOfMemory
                | PermissionDenied
                | ReadOnly
                | SystemIoFailure
        )
    )
}
