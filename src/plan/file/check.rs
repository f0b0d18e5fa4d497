//! What is looked at before a plan file is used.

use std::path::Path;
use std::time::Duration;

use rusqlite::types::Value as SqlValue;
use rusqlite::{Connection, OpenFlags, OptionalExtension};

use super::error::FileErrorKind;
use super::header::{Header, header_checksum};
use super::schema::{self, SENDING, StoredRequest, StoredRow};
use crate::plan::Status;

pub(super) fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.execute_batch("PRAGMA trusted_schema=OFF; PRAGMA cell_size_check=ON")?;
    Ok(connection)
}

/// What need not be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trust {
    /// The file may have been anywhere.
    Nothing,
    /// This process has just written the rows, and has had the lock ever since. To read them back would show what the system
    /// remembers, not what the disk has; each is still compared with its checksum when it is used.
    Rows,
}

/// What is wrong with a moment that nobody wrote down so.
pub(super) const REQUESTS: &str = "the moment of a request is not what was written";

type Found<T> = rusqlite::Result<Result<T, FileErrorKind>>;

/// Looks whether a file is a plan, whole and as it was written; then it is made ready to run.
pub(super) fn check(connection: &Connection, trust: Trust) -> Found<Header> {
    let header = match check_head(connection)? {
        Ok(header) => header,
        Err(kind) => return Ok(Err(kind)),
    };
    if trust == Trust::Nothing
        && let Err(kind) = check_rows(connection)?
    {
        return Ok(Err(kind));
    }
    connection.execute_batch("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL")?;
    Ok(Ok(header))
}

fn damage(what: &str) -> FileErrorKind {
    FileErrorKind::Damaged(what.to_owned())
}

fn check_head(connection: &Connection) -> Found<Header> {
    let number = |pragma: &str| connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    // What a process leaves that dies before the first of it is kept.
    if number("page_count")? == 0 {
        return Ok(Err(FileErrorKind::HalfWritten));
    }
    if number("application_id")? != schema::APPLICATION_ID {
        return Ok(Err(FileErrorKind::NotAPlan));
    }
    match number("user_version")? {
        schema::FORMAT => {}
        version if version > schema::FORMAT => return Ok(Err(FileErrorKind::Newer)),
        _ => return Ok(Err(FileErrorKind::NotAPlan)),
    }
    let sealed = connection
        .query_row("SELECT value FROM plan WHERE key = 'sealed'", [], |row| row.get::<_, SqlValue>(0))
        .optional()?;
    let Some(sealed) = sealed else { return Ok(Err(FileErrorKind::HalfWritten)) };
    if sealed != SqlValue::Integer(i64::from(header_checksum(connection)?)) {
        return Ok(Err(damage("its head is not what was written")));
    }
    let mut select = connection.prepare("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY rowid")?;
    let found = select.query_map([], |row| row.get::<_, String>(0))?.collect::<rusqlite::Result<Vec<_>>>()?;
    if found != schema::SCHEMA {
        return Ok(Err(damage("its tables are not a plan's")));
    }
    match Header::read(connection)? {
        Some(header) => Ok(Ok(header)),
        None => Ok(Err(damage("its head is not what was written"))),
    }
}

fn check_rows(connection: &Connection) -> Found<()> {
    let sound: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if sound != "ok" {
        // A disk that cannot be read now is no reason to give the plan up.
        let could_not_read = error_code(&sound).is_some_and(|code| code & 0xFF != rusqlite::ffi::SQLITE_CORRUPT);
        return Ok(Err(if could_not_read { FileErrorKind::Io(sound) } else { damage("SQLite finds it unsound") }));
    }
    let (mut rows, mut edits) = (0_i64, 0_i64);
    let mut select = connection.prepare(schema::SELECT_ROWS)?;
    for row in select.query_map([-1, i64::MAX], StoredRow::read)? {
        let Some(row) = row? else { return Ok(Err(damage("a row is not what was written"))) };
        if row.status != SENDING && Status::from_name(&row.status).is_none() {
            return Ok(Err(damage("a row has a status that is none")));
        }
        rows += 1;
    }
    let mut select = connection.prepare(schema::SELECT_EDITS_BETWEEN)?;
    for edit in select.query_map([i64::MIN, i64::MAX], schema::read_edit)? {
        if edit?.is_none() {
            return Ok(Err(damage("a change is not what was written")));
        }
        edits += 1;
    }
    if StoredRequest::read_all(connection)?.is_none() {
        return Ok(Err(damage(REQUESTS)));
    }
    let count =
        |key: &str| connection.query_row("SELECT value FROM plan WHERE key = ?1", [key], |row| row.get::<_, i64>(0));
    let is_whole = (count("rows")?, count("edits")?) == (rows, edits);
    Ok(if is_whole { Ok(()) } else { Err(damage("rows are missing")) })
}

/// With what a page could not be read, as `quick_check` says it.
fn error_code(report: &str) -> Option<i32> {
    let (_, rest) = report.split_once("error code")?;
    let digits = rest.trim_start_matches(['=', ' ']);
    digits.split(|character: char| !character.is_ascii_digit()).next()?.parse().ok()
}
