//! The tables of a plan file, made to be read in any SQLite browser, and what each row is checked by.

use crc32fast::Hasher;
use rusqlite::types::{Value as SqlValue, ValueRef};
use rusqlite::{Connection, Row};

use super::super::{Change, Value};
use crate::account::Field;

/// "RPLY".
pub(super) const APPLICATION_ID: i64 = 0x5250_4C59;
pub(super) const FORMAT: i64 = 1;

pub(super) const SCHEMA: &[&str] = &[
    "CREATE TABLE plan (key TEXT PRIMARY KEY, value) WITHOUT ROWID",
    "CREATE TABLE rows (row INTEGER PRIMARY KEY, account_id INTEGER, matched_by TEXT, status TEXT NOT NULL, error TEXT, \
     position INTEGER, repeated INTEGER NOT NULL, checksum INTEGER NOT NULL)",
    "CREATE TABLE edits (row INTEGER NOT NULL, field TEXT NOT NULL, before, after, checksum INTEGER NOT NULL, \
     PRIMARY KEY (row, field)) WITHOUT ROWID",
    "CREATE TABLE requests (number INTEGER PRIMARY KEY, sent_at INTEGER NOT NULL, checksum INTEGER NOT NULL)",
    "CREATE VIEW changes AS SELECT edits.row, rows.account_id AS id, field, before, after, rows.status \
     FROM edits JOIN rows ON rows.row = edits.row ORDER BY edits.row",
    "CREATE VIEW progress AS SELECT status, count(*) AS rows FROM rows GROUP BY status",
    "CREATE VIEW failures AS SELECT row, account_id AS id, matched_by, status, error, repeated FROM rows \
     WHERE status NOT IN ('unchanged', 'changed', 'pending', 'sending')",
];

pub(super) const INSERT_ROW: &str = "INSERT INTO rows VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
pub(super) const INSERT_EDIT: &str = "INSERT INTO edits VALUES (?1, ?2, ?3, ?4, ?5)";
pub(super) const INSERT_REQUEST: &str = "INSERT INTO requests VALUES (?1, ?2, ?3)";
pub(super) const LAST_REQUEST: &str = "SELECT coalesce(max(number), 0) FROM requests";
pub(super) const SELECT_REQUESTS: &str = "SELECT number, sent_at, checksum FROM requests ORDER BY number";
pub(super) const SELECT_ROW: &str =
    "SELECT row, account_id, matched_by, status, error, position, repeated, checksum FROM rows WHERE row = ?1";
pub(super) const SELECT_ROWS: &str = "SELECT row, account_id, matched_by, status, error, position, repeated, checksum \
     FROM rows WHERE row > ?1 ORDER BY row LIMIT ?2";
pub(super) const SELECT_EDITS: &str =
    "SELECT row, field, before, after, checksum FROM edits WHERE row = ?1 ORDER BY field";
pub(super) const SELECT_EDITS_BETWEEN: &str =
    "SELECT row, field, before, after, checksum FROM edits WHERE row BETWEEN ?1 AND ?2 ORDER BY row, field";
pub(super) const UPDATE_ROW: &str =
    "UPDATE rows SET status = ?2, error = ?3, repeated = ?4, checksum = ?5 WHERE row = ?1";

/// The state of a row that is in flight. It is none of the statuses: whoever reads it after a crash sees `unknown`.
pub(super) const SENDING: &str = "sending";

/// A row as the file has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StoredRow {
    pub(super) row: i64,
    pub(super) account_id: Option<i64>,
    pub(super) matched_by: Option<String>,
    pub(super) status: String,
    pub(super) error: Option<String>,
    pub(super) position: Option<i64>,
    pub(super) repeated: i64,
}

impl StoredRow {
    /// Reads a row; `None` when it is not as it was written.
    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Option<Self>> {
        let stored = Self {
            row: row.get(0)?,
            account_id: row.get(1)?,
            matched_by: row.get(2)?,
            status: row.get(3)?,
            error: row.get(4)?,
            position: row.get(5)?,
            repeated: row.get(6)?,
        };
        let checksum: u32 = row.get(7)?;
        Ok((stored.checksum() == checksum).then_some(stored))
    }

    pub(super) fn checksum(&self) -> u32 {
        let mut sum = Sum::default();
        sum.integer(Some(self.row)).integer(self.account_id).text(self.matched_by.as_deref());
        sum.text(Some(&self.status)).text(self.error.as_deref()).integer(self.position).integer(Some(self.repeated));
        sum.0.finalize()
    }
}

/// Reads a change; `None` when it is not as it was written.
pub(super) fn read_edit(row: &Row<'_>) -> rusqlite::Result<Option<(i64, Change)>> {
    let number: i64 = row.get(0)?;
    let name: String = row.get(1)?;
    let (before, after) = (value(row.get_ref(2)?), value(row.get_ref(3)?));
    let checksum: u32 = row.get(4)?;
    let (Some(field), Some(before), Some(after)) = (Field::from_name(&name), before, after) else { return Ok(None) };
    let change = Change { field, before, after };
    Ok((edit_checksum(number, &change) == checksum && name == field.name()).then_some((number, change)))
}

pub(super) fn edit_checksum(row: i64, change: &Change) -> u32 {
    let mut sum = Sum::default();
    sum.integer(Some(row)).text(Some(change.field.name())).value(&change.before).value(&change.after);
    sum.0.finalize()
}

/// A moment at which a request was sent, of those in the file the n-th.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StoredRequest {
    pub(super) number: i64,
    pub(super) sent_at: i64,
}

impl StoredRequest {
    /// Reads all of them; `None` when one is not as it was written, or is missing between two others.
    pub(super) fn read_all(connection: &Connection) -> rusqlite::Result<Option<Vec<Self>>> {
        let mut select = connection.prepare_cached(SELECT_REQUESTS)?;
        let mut rows = select.query([])?;
        let mut found: Vec<Self> = Vec::new();
        while let Some(row) = rows.next()? {
            let request = Self { number: row.get(0)?, sent_at: row.get(1)? };
            let follows = found.last().is_none_or(|last| last.number.checked_add(1) == Some(request.number));
            if !follows || request.checksum() != row.get::<_, u32>(2)? {
                return Ok(None);
            }
            found.push(request);
        }
        Ok(Some(found))
    }

    pub(super) fn checksum(&self) -> u32 {
        let mut sum = Sum::default();
        sum.integer(Some(self.number)).integer(Some(self.sent_at));
        sum.0.finalize()
    }
}

fn value(value: ValueRef<'_>) -> Option<Value> {
    match value {
        ValueRef::Null => Some(Value::Null),
        ValueRef::Integer(number) => Some(Value::Integer(number)),
        ValueRef::Text(text) => std::str::from_utf8(text).ok().map(|text| Value::Text(text.to_owned())),
        ValueRef::Real(_) | ValueRef::Blob(_) => None,
    }
}

pub(super) fn to_sql(value: &Value) -> SqlValue {
    match value {
        Value::Null => SqlValue::Null,
        Value::Text(text) => SqlValue::Text(text.clone()),
        Value::Integer(number) => SqlValue::Integer(*number),
    }
}

/// A checksum over values that says where each of them ends.
#[derive(Default)]
pub(super) struct Sum(pub(super) Hasher);

impl Sum {
    pub(super) fn integer(&mut self, value: Option<i64>) -> &mut Self {
        match value {
            Some(number) => {
                self.0.update(b"i");
                self.0.update(&number.to_le_bytes());
            }
            None => self.0.update(b"n"),
        }
        self
    }

    pub(super) fn text(&mut self, value: Option<&str>) -> &mut Self {
        match value {
            Some(text) => {
                self.0.update(b"t");
                self.0.update(&(text.len() as u64).to_le_bytes());
                self.0.update(text.as_bytes());
            }
            None => self.0.update(b"n"),
        }
        self
    }

    fn value(&mut self, value: &Value) -> &mut Self {
        match value {
            Value::Null => self.integer(None),
            Value::Integer(number) => self.integer(Some(*number)),
            Value::Text(text) => self.text(Some(text)),
        }
    }
}
