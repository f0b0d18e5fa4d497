//! Validates a plan file before its use.

use rusqlite::Connection;
use rusqlite::types::Value as SqlValue;

use super::connect;
use super::error::{FileErrorKind, Half};
use super::header::{Facts, Header};
use super::schema::{self, StoredEdit, StoredRequest, StoredRow};
use super::state::{self, Log};
use crate::plan::Status;

/// The faults of a damaged plan that several functions find.
pub(super) const STATE: &str = "the state of its job differs from what replyio wrote";
pub(super) const ROW: &str = "a row differs from what replyio wrote";
pub(super) const STATUS: &str = "a row has an unknown status";
pub(super) const CHANGE: &str = "a change differs from what replyio wrote";
pub(super) const CHANGE_WITHOUT_ROW: &str = "a change has no row";

pub(super) type Found<T> = rusqlite::Result<Result<T, FileErrorKind>>;

fn damage(what: &str) -> FileErrorKind {
    FileErrorKind::Damaged(what.to_owned())
}

/// The facts that a plan stores about itself.
pub(super) struct Head {
    pub(super) header: Header,
    pub(super) log: Log,
    /// The file name at its creation.
    pub(super) name: String,
    /// The number of its rows.
    rows: u64,
    /// The number of its changes.
    edits: u64,
    /// The number of changes that empty a field.
    pub(super) cleared: u64,
}

impl Head {
    /// Refuses a file whose log is missing. The error has the name of the file at its creation, until
    /// [`elsewhere`](super::elsewhere) knows more.
    pub(super) fn with_log(self) -> Result<Self, FileErrorKind> {
        if self.log == Log::Missing { Err(FileErrorKind::NeedsLog(self.name)) } else { Ok(self) }
    }
}

/// Checks the format and the exact schema. Before that, a table name may stand for anything.
pub(super) fn check_schema(connection: &Connection) -> Found<()> {
    if connect::numbers_of(connection)? != (schema::APPLICATION_ID, schema::FORMAT) {
        return Ok(Err(FileErrorKind::NotAPlan));
    }
    let mut select = connection.prepare_cached("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY rowid")?;
    let mut found = select.query([])?;
    let mut expected = schema::SCHEMA.iter();
    while let Some(row) = found.next()? {
        if Some(&row.get_ref(0)?.as_str()?) != expected.next() {
            return Ok(Err(damage("its tables are not those of a plan")));
        }
    }
    Ok(if expected.next().is_none() { Ok(()) } else { Err(damage("its tables are not those of a plan")) })
}

/// Reads the header of a file with the schema of a plan.
pub(super) fn check_head(connection: &Connection) -> Found<Head> {
    if let Err(kind) = check_schema(connection)? {
        return Ok(Err(kind));
    }
    let differs = || damage("its header differs from what replyio wrote");
    let Some(facts) = Facts::read(connection)? else { return Ok(Err(differs())) };
    let Some(sealed) = facts.get("sealed") else { return Ok(Err(FileErrorKind::HalfWritten(Half::Plan))) };
    if *sealed != SqlValue::Integer(i64::from(facts.checksum())) {
        return Ok(Err(differs()));
    }
    let count = |key| facts.integer(key).and_then(|count| u64::try_from(count).ok());
    let (Some(header), Some(name)) = (Header::read(&facts), facts.text("name")) else { return Ok(Err(differs())) };
    let (Some(rows), Some(edits), Some(cleared)) = (count("rows"), count("edits"), count("cleared")) else {
        return Ok(Err(differs()));
    };
    let Some((_, log)) = state::read(connection)? else {
        return Ok(Err(damage(STATE)));
    };
    Ok(Ok(Head { header, log, name, rows, edits, cleared }))
}

/// Checks every row, every change and every request.
pub(super) fn check_rows(connection: &Connection, head: &Head) -> Found<()> {
    let sound: String = connection.prepare_cached("PRAGMA quick_check(1)")?.query_row([], |row| row.get(0))?;
    if sound != "ok" {
        // A temporary read error is no reason to give up the plan.
        let could_not_read = error_code(&sound).is_some_and(|code| code & 0xFF != rusqlite::ffi::SQLITE_CORRUPT);
        return Ok(Err(if could_not_read {
            FileErrorKind::Io(sound)
        } else {
            damage("SQLite's integrity check failed")
        }));
    }
    let (mut rows, mut edits, mut cleared) = (0_u64, 0_u64, 0_u64);
    let mut select = connection.prepare_cached("SELECT row FROM rows WHERE row < 0 LIMIT 1")?;
    if select.exists([])? {
        return Ok(Err(damage(ROW)));
    }
    let mut select = connection.prepare_cached(schema::SELECT_EDITS_BETWEEN)?;
    let mut changes = select.query_map([i64::MIN, i64::MAX], StoredEdit::read)?;
    let mut next = changes.next().transpose()?;
    let mut select = connection.prepare_cached(schema::SELECT_ROWS)?;
    for row in select.query_map([-1], StoredRow::read)? {
        let Some(row) = row?.filter(StoredRow::is_possible) else {
            return Ok(Err(damage(ROW)));
        };
        if Status::from_name(&row.status).is_none() {
            return Ok(Err(damage(STATUS)));
        }
        rows += 1;
        // Both arrive in the order of the rows, so a change without a row is left over.
        while let Some(change) = next {
            let Some(edit) = change else { return Ok(Err(damage(CHANGE))) };
            if edit.row != row.row {
                next = Some(Some(edit));
                break;
            }
            edits += u64::from(edit.change.is_planned);
            cleared += u64::from(edit.change.is_planned && edit.change.after.is_empty(edit.change.field));
            next = changes.next().transpose()?;
        }
    }
    match next {
        None => {}
        Some(None) => return Ok(Err(damage(CHANGE))),
        Some(Some(_)) => return Ok(Err(damage(CHANGE_WITHOUT_ROW))),
    }
    if StoredRequest::read_all(connection)?.is_none() {
        return Ok(Err(damage("the stored time of a request differs from what replyio wrote")));
    }
    let is_whole = (head.rows, head.edits, head.cleared) == (rows, edits, cleared);
    Ok(if is_whole { Ok(()) } else { Err(damage("rows are missing")) })
}

/// Returns the error code for an unreadable page, as in `quick_check`.
fn error_code(report: &str) -> Option<i32> {
    let (_, rest) = report.split_once("error code")?;
    let digits = rest.trim_start_matches(['=', ' ']);
    digits.split(|character: char| !character.is_ascii_digit()).next()?.parse().ok()
}
