//! Connections to a plan file: each with the fewest rights that it needs, and without features that a foreign file
//! could abuse.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::limits::Limit;
use rusqlite::{Connection, ErrorCode, OpenFlags, ffi};

use super::error::{FileError, FileErrorKind, Half};
use super::{interrupt, schema, simulation};

/// How long a statement waits for another connection.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// The longest row of a plan, in bytes.
const LONGEST_ROW: i32 = 64 * 1_024 * 1_024;
/// The longest statement of a plan's schema, in bytes.
const LONGEST_STATEMENT: i32 = 10_000;
/// The most SQLite instructions of a statement that reads a file's schema or header. A plan needs far fewer. In a
/// hostile file, a few pages can refer to each other, so that SQLite reads rows without end.
const MOST_INSTRUCTIONS: i32 = 10_000;
/// The number of instructions between two checks whether to stop; some milliseconds.
const INSTRUCTIONS: i32 = 20_000;
/// More than the statements that one connection can use.
const STATEMENTS: usize = 64;

/// Returns the path of a plan without symbolic links, so that every name leads to the same log.
pub(super) fn resolve(path: &Path) -> Result<PathBuf, FileError> {
    let real = fs::canonicalize(path).map_err(|error| {
        let missing = error.kind() == std::io::ErrorKind::NotFound;
        let kind = if missing { FileErrorKind::Missing } else { FileErrorKind::of_io(&error) };
        FileError::new(path, kind)
    })?;
    file_name(&real).map_err(|kind| FileError::new(path, kind))?;
    Ok(real)
}

/// Returns the name of a plan without its folder. A file and its reverts are recognized by their names.
pub(super) fn file_name(path: &Path) -> Result<&str, FileErrorKind> {
    let name = path.file_name().unwrap_or_default().to_str();
    name.ok_or_else(|| FileErrorKind::Foreign("has a name that is not valid UTF-8; give it another name".to_owned()))
}

/// Returns how long to wait for other processes. In a simulation no other process could make progress during the wait.
pub(super) fn patience(patience: Duration) -> Duration {
    if simulation::is_on() {
        return Duration::ZERO;
    }
    patience
}

/// Opens a plan for reading. Each statement waits at most this long for another connection.
pub(super) fn for_reading(path: &Path, wait: Duration) -> rusqlite::Result<Connection> {
    let connection = only_reading(path)?;
    connection.busy_timeout(patience(wait))?;
    let touched = connection.query_row("SELECT 1 FROM sqlite_schema LIMIT 1", [], |_| Ok(()));
    match touched {
        Err(error) if is_bound(&error) => Err(endless(error)),
        // A process died in the middle of a transaction, which only a writer can roll back.
        Err(rusqlite::Error::SqliteFailure(error, _)) if error.extended_code == ffi::SQLITE_READONLY_ROLLBACK => {
            let connection = for_writing(path)?;
            connection.pragma_update(None, "query_only", true)?;
            Ok(connection)
        }
        Err(error) if is_busy(&error) => Err(error),
        _ => Ok(connection),
    }
}

/// Returns the error of a file that SQLite reads without end. Before [`trust`], nothing else interrupts.
pub(super) fn endless(error: rusqlite::Error) -> rusqlite::Error {
    if is_bound(&error) {
        return rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_CORRUPT), None);
    }
    error
}

fn is_bound(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted)
}

/// Removes the limit on instructions after the plan was identified.
pub(super) fn trust(connection: &mut Connection) -> rusqlite::Result<()> {
    connection.progress_handler(0, None::<fn() -> bool>)
}

/// The same; from then on, the thread can interrupt the connection.
pub(super) fn trust_interruptibly(connection: &mut Connection) -> rusqlite::Result<()> {
    connection.progress_handler(INSTRUCTIONS, Some(interrupt::is_due))
}

/// Opens a plan for reading, and never writes: not even to roll back the transaction of a dead process.
pub(super) fn only_reading(path: &Path) -> rusqlite::Result<Connection> {
    open(path, OpenFlags::SQLITE_OPEN_READ_ONLY)
}

/// Opens a plan for writing.
pub(super) fn for_writing(path: &Path) -> rusqlite::Result<Connection> {
    let connection = open(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    // Only the end of a run moves its log into the file: a run that has lost its claim must not.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    Ok(connection)
}

fn open(path: &Path, access: OpenFlags) -> rusqlite::Result<Connection> {
    // The path is absolute, so SQLite never treats it as a URI.
    let flags = access | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let mut connection = Connection::open_with_flags(path, flags).map_err(|error| without_path(error, path))?;
    secure(&mut connection)?;
    Ok(connection)
}

/// Every error of a plan file already contains its path.
fn without_path(error: rusqlite::Error, path: &Path) -> rusqlite::Error {
    match error {
        rusqlite::Error::SqliteFailure(error, Some(message)) => {
            let suffix = format!(": {}", path.display());
            let short = message.strip_suffix(&suffix).map(str::to_owned);
            rusqlite::Error::SqliteFailure(error, Some(short.unwrap_or(message)))
        }
        other => other,
    }
}

/// Returns whether another connection has the plan open, under any name.
pub(super) fn is_in_use(path: &Path) -> bool {
    let try_alone = || {
        let connection = for_writing(path)?;
        connection.busy_timeout(Duration::ZERO)?;
        connection.execute_batch("PRAGMA locking_mode=EXCLUSIVE; BEGIN EXCLUSIVE; ROLLBACK")
    };
    try_alone().is_err_and(|error| is_busy(&error))
}

fn secure(connection: &mut Connection) -> rusqlite::Result<()> {
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection.busy_timeout(patience(PATIENCE))?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    // Otherwise SQLite compiles a statement with `LIMIT ?` again whenever the parameter is bound.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    for config in [
        DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA,
        DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW,
        DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER,
        DbConfig::SQLITE_DBCONFIG_WRITABLE_SCHEMA,
    ] {
        connection.set_db_config(config, false)?;
    }
    for (limit, most) in [
        (Limit::SQLITE_LIMIT_LENGTH, LONGEST_ROW),
        (Limit::SQLITE_LIMIT_SQL_LENGTH, LONGEST_STATEMENT),
        (Limit::SQLITE_LIMIT_ATTACHED, 0),
        (Limit::SQLITE_LIMIT_TRIGGER_DEPTH, 0),
        (Limit::SQLITE_LIMIT_FUNCTION_ARG, 8),
        (Limit::SQLITE_LIMIT_EXPR_DEPTH, 50),
        (Limit::SQLITE_LIMIT_WORKER_THREADS, 0),
    ] {
        connection.set_limit(limit, most)?;
    }
    connection.progress_handler(MOST_INSTRUCTIONS, Some(|| true))?;
    connection.execute_batch("PRAGMA cell_size_check=ON")
}

/// Checks whether a file identifies itself as a plan of this format. Reads only the file: takes no lock, reads no log
/// and creates nothing next to it, because it may be any file.
pub(super) fn recognize(path: &Path) -> Result<(), FileError> {
    let refuse = |kind| Err(FileError::new(path, kind));
    let found = fs::metadata(path).map_err(|error| FileError::new(path, FileErrorKind::Io(error.to_string())))?;
    if !found.is_file() {
        return refuse(FileErrorKind::NotAPlan);
    }
    // This is the state if a process dies before its first commit.
    if found.len() == 0 {
        return refuse(FileErrorKind::HalfWritten(Half::Plan));
    }
    match numbers(path) {
        Ok((schema::APPLICATION_ID, schema::FORMAT)) => Ok(()),
        Ok((schema::APPLICATION_ID, format)) if format > schema::FORMAT => refuse(FileErrorKind::Newer),
        Ok((schema::APPLICATION_ID, format)) if format > 0 => refuse(FileErrorKind::Older),
        // To SQLite, a file of one byte is an empty database.
        Ok((0, 0)) if found.len() > 1 && is_cut_off(path) => refuse(FileErrorKind::HalfWritten(Half::Plan)),
        Ok(_) => refuse(FileErrorKind::NotAPlan),
        Err(error) => Err(FileError::of_sqlite(path, &error)),
    }
}

fn is_cut_off(path: &Path) -> bool {
    immutable(path).is_ok_and(|connection| {
        connection.prepare("SELECT 1 FROM sqlite_schema").and_then(|mut select| select.exists([])).is_ok_and(|any| !any)
    })
}

fn numbers(path: &Path) -> rusqlite::Result<(i64, i64)> {
    numbers_of(&immutable(path)?)
}

/// Returns the two numbers by which a file says that it is a plan, and of which format.
pub(super) fn numbers_of(connection: &Connection) -> rusqlite::Result<(i64, i64)> {
    let number = |pragma| connection.prepare_cached(pragma)?.query_row([], |row| row.get(0));
    Ok((number("PRAGMA application_id")?, number("PRAGMA user_version")?))
}

/// Returns a connection that reads only the file itself. Plain file access would drop SQLite's locks in this process.
pub(super) fn immutable(path: &Path) -> rusqlite::Result<Connection> {
    use std::fmt::Write as _;
    let mut uri = String::from("file:");
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' | b'~' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => uri.push(char::from(*byte)),
            _ => {
                let _ = write!(uri, "%{byte:02X}");
            }
        }
    }
    uri.push_str("?immutable=1");
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let opened = Connection::open_with_flags(&uri, flags);
    let mut connection = opened.map_err(|error| without_path(error, Path::new(&uri)))?;
    secure(&mut connection)?;
    // If the last pages of a file are only in its log, because a reader was active during the checkpoint, the file is
    // readable up to there.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_WRITABLE_SCHEMA, true)?;
    Ok(connection)
}

pub(super) fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}
