//! The tables of a plan file, designed to be read in any SQLite browser, and the checksum of each row.

use rusqlite::types::{Value as SqlValue, ValueRef};
use rusqlite::{Connection, Row, Statement, params};

use super::super::{Change, Status, Value};
use super::state;
use super::sum::Sum;
use crate::account::{Field, Kind};

/// "RPLY".
pub(super) const APPLICATION_ID: i64 = 0x5250_4C59;
pub(super) const FORMAT: i64 = 5;

pub(super) const SCHEMA: &[&str] = &[
    "CREATE TABLE plan (key TEXT PRIMARY KEY, value) WITHOUT ROWID",
    "CREATE TABLE state (key TEXT PRIMARY KEY, value, checksum INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE log (number INTEGER PRIMARY KEY, present INTEGER NOT NULL, written INTEGER NOT NULL, \
     checksum INTEGER NOT NULL)",
    "CREATE TABLE rows (row INTEGER PRIMARY KEY, account_id INTEGER, matched_by TEXT, status TEXT NOT NULL, error \
     TEXT, position INTEGER, weight INTEGER NOT NULL, listed INTEGER NOT NULL, repeated INTEGER NOT NULL, \
     stored_otherwise INTEGER NOT NULL, can_overwrite INTEGER NOT NULL, finished_at_ms INTEGER, checksum INTEGER NOT \
     NULL)",
    "CREATE TABLE edits (row INTEGER NOT NULL, field TEXT NOT NULL, before, after, answered, planned INTEGER NOT NULL, \
     checksum INTEGER NOT NULL, PRIMARY KEY (row, field)) WITHOUT ROWID",
    "CREATE TABLE requests (number INTEGER PRIMARY KEY, sent_at INTEGER NOT NULL, checksum INTEGER NOT NULL)",
    "CREATE VIEW changes AS SELECT edits.row, rows.account_id AS id, field, before, after, answered, rows.status \
     FROM edits JOIN rows ON rows.row = edits.row WHERE planned OR before IS NOT after ORDER BY edits.row",
    "CREATE VIEW progress AS SELECT status, count(*) AS rows FROM rows GROUP BY status",
    "CREATE VIEW failures AS SELECT row, account_id AS id, matched_by, status, error, repeated, stored_otherwise FROM \
     rows WHERE status NOT IN ('unchanged', 'changed', 'pending')",
];

pub(super) const INSERT_ROW: &str = "INSERT INTO rows VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)";
pub(super) const INSERT_EDIT: &str = "INSERT INTO edits VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
/// Stores the value of a field that the row does not name, unless one is stored already.
pub(super) const INSERT_UNNAMED: &str = "INSERT OR IGNORE INTO edits VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
pub(super) const DELETE_UNNAMED: &str =
    "DELETE FROM edits WHERE row = ?1 AND NOT planned AND answered IS NULL AND before IS after RETURNING field";
pub(super) const DELETE_UNPLANNED: &str = "DELETE FROM edits WHERE row = ?1 AND field = ?2 AND NOT planned";
pub(super) const INSERT_REQUEST: &str = "INSERT INTO requests VALUES (?1, ?2, ?3)";
pub(super) const SELECT_REQUESTS: &str = "SELECT * FROM requests ORDER BY number";
// The schema of an opened file is exactly the one above, so `*` is these columns in this order.
pub(super) const SELECT_ROW: &str = "SELECT * FROM rows WHERE row = ?1";
pub(super) const SELECT_ROWS: &str = "SELECT * FROM rows WHERE row > ?1 ORDER BY row";
/// Selects rows of two statuses that change something.
pub(super) const SELECT_CHANGING_ROWS_OF: &str = "SELECT * FROM rows WHERE status IN (?1, ?2) AND row > ?3 \
     AND EXISTS (SELECT 1 FROM edits WHERE edits.row = rows.row) ORDER BY row LIMIT ?4";
/// Selects the first failures; see [`RowView::is_failure`](super::RowView::is_failure).
pub(super) const SELECT_FIRST_FAILURES: &str = "SELECT * FROM rows WHERE stored_otherwise \
     OR status NOT IN ('unchanged', 'changed', 'pending') ORDER BY row LIMIT ?1";
pub(super) const SELECT_EDITS: &str = "SELECT * FROM edits WHERE row = ?1 ORDER BY field";
pub(super) const SELECT_EDITS_BETWEEN: &str = "SELECT * FROM edits WHERE row BETWEEN ?1 AND ?2 ORDER BY row, field";
pub(super) const UPDATE_ROW: &str = "UPDATE rows SET status = ?2, error = ?3, repeated = ?4, stored_otherwise = ?5, \
     can_overwrite = ?6, finished_at_ms = ?7, listed = ?8, checksum = ?9 WHERE row = ?1";
pub(super) const UPDATE_EDIT: &str =
    "UPDATE edits SET before = ?3, answered = ?4, checksum = ?5 WHERE row = ?1 AND field = ?2";

/// A row in the form of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StoredRow {
    pub(super) row: i64,
    pub(super) account_id: Option<i64>,
    pub(super) matched_by: Option<String>,
    pub(super) status: String,
    pub(super) error: Option<String>,
    pub(super) position: Option<i64>,
    pub(super) weight: i64,
    /// The fields that a page of the list showed with a value, and that the update of the row did not change or clear.
    pub(super) listed: u32,
    pub(super) repeated: i64,
    pub(super) stored_otherwise: bool,
    /// Whether it is a conflict that a run may overwrite.
    pub(super) can_overwrite: bool,
    pub(super) finished_at_ms: Option<i64>,
}

impl StoredRow {
    /// Reads a row; `None` if it differs from what was written.
    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Option<Self>> {
        let stored = Self {
            row: row.get(0)?,
            account_id: row.get(1)?,
            matched_by: row.get(2)?,
            status: row.get(3)?,
            error: row.get(4)?,
            position: row.get(5)?,
            weight: row.get(6)?,
            listed: row.get(7)?,
            repeated: row.get(8)?,
            stored_otherwise: row.get(9)?,
            can_overwrite: row.get(10)?,
            finished_at_ms: row.get(11)?,
        };
        let checksum: u32 = row.get(12)?;
        Ok((stored.checksum() == checksum).then_some(stored))
    }

    /// Returns whether its content is valid for a row.
    pub(super) fn is_possible(&self) -> bool {
        let is_sent = Status::from_name(&self.status)
            .is_some_and(|status| !matches!(status, Status::Invalid | Status::NotFound | Status::Ambiguous));
        let counts = [self.row, self.position.unwrap_or_default(), self.weight, self.repeated];
        counts.iter().all(|count| *count >= 0) && (!is_sent || self.account_id.is_none_or(|id| id > 0))
    }

    /// Returns its approximate memory use.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>()
            + [&self.matched_by, &self.error].map(|text| text.as_ref().map_or(0, String::len)).iter().sum::<usize>()
    }

    pub(super) fn checksum(&self) -> u32 {
        let mut sum = Sum::default();
        sum.integer(Some(self.row)).integer(self.account_id).text(self.matched_by.as_deref());
        sum.text(Some(&self.status)).text(self.error.as_deref()).integer(self.position).integer(Some(self.weight));
        sum.integer(Some(i64::from(self.listed)));
        sum.integer(Some(self.repeated)).integer(Some(i64::from(self.stored_otherwise)));
        sum.integer(Some(i64::from(self.can_overwrite))).integer(self.finished_at_ms);
        sum.0.finalize()
    }

    /// Inserts it with a statement prepared from [`INSERT_ROW`].
    pub(super) fn insert(&self, insert: &mut Statement<'_>) -> rusqlite::Result<()> {
        let row = params![
            self.row,
            self.account_id,
            self.matched_by,
            self.status,
            self.error,
            self.position,
            self.weight,
            self.listed,
            self.repeated,
            self.stored_otherwise,
            self.can_overwrite,
            self.finished_at_ms,
            self.checksum()
        ];
        insert.execute(row).map(drop)
    }

    /// Writes its changeable columns.
    pub(super) fn update(&self, connection: &Connection) -> rusqlite::Result<()> {
        let mut update = connection.prepare_cached(UPDATE_ROW)?;
        let row = params![
            self.row,
            self.status,
            self.error,
            self.repeated,
            self.stored_otherwise,
            self.can_overwrite,
            self.finished_at_ms,
            self.listed,
            self.checksum()
        ];
        update.execute(row).map(drop)
    }
}

/// A change in the form of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StoredEdit {
    pub(super) row: i64,
    pub(super) change: Change,
    /// The value that the service returned, if it differs from the sent one.
    pub(super) answered: Option<Value>,
}

impl StoredEdit {
    /// Reads a change; `None` if it differs from what was written.
    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Option<Self>> {
        let number: i64 = row.get(0)?;
        let name: String = row.get(1)?;
        let (before, after) = (value(row.get_ref(2)?), value(row.get_ref(3)?));
        let answered = match row.get_ref(4)? {
            ValueRef::Null => Some(None),
            // An empty stored value differs from no stored value.
            ValueRef::Blob([]) => Some(Some(Value::Null)),
            answered => value(answered).map(Some),
        };
        let is_planned: bool = row.get(5)?;
        let checksum: u32 = row.get(6)?;
        let (Some(field), Some(before), Some(after), Some(answered)) =
            (Field::from_name(&name), before, after, answered)
        else {
            return Ok(None);
        };
        let is_of_kind = |value: &Value| match (value, field.kind()) {
            (Value::Null, _) => true,
            (Value::Integer(_), kind) => kind == Kind::Integer,
            (Value::Text(_), kind) => matches!(kind, Kind::Text | Kind::CompanySize),
        };
        if ![&before, &after].into_iter().chain(answered.as_ref()).all(is_of_kind) {
            return Ok(None);
        }
        let edit = Self { row: number, change: Change { field, before, after, is_planned }, answered };
        Ok((edit.checksum() == checksum && name == field.name()).then_some(edit))
    }

    /// Returns whether it is the value that a field had before an update that does not name it, and whose effect on the
    /// field is unknown.
    pub(super) fn is_unnamed(&self) -> bool {
        self.change.is_unnamed() && self.answered.is_none()
    }

    /// Returns the change that reverts this one, based on the stored value. An answer with the previous value does not
    /// tell whether the update was ignored or the answer was old, so the revert looks at the account.
    pub(super) fn reversed(self) -> Change {
        if self.is_unnamed() {
            return self.change;
        }
        let Change { field, before, after, is_planned } = self.change;
        let answered = self.answered.filter(|answered| !answered.is(self.change.field, before.as_field_value()));
        Change { field, before: answered.unwrap_or(after), after: before, is_planned }
    }

    /// Returns whether the answer to the update still had the previous value of a field that the row names: the service
    /// may have ignored the update.
    pub(super) fn was_ignored(&self) -> bool {
        let Change { field, before, after, is_planned } = &self.change;
        let has_previous = |answered: &Value| answered.is(*field, before.as_field_value());
        *is_planned && !before.is(*field, after.as_field_value()) && self.answered.as_ref().is_some_and(has_previous)
    }

    /// Returns whether the account got a value that another row wrote to the field, as sent or as stored.
    pub(super) fn writes_the_same(&self, other: &Self) -> bool {
        let Change { field, after, .. } = &self.change;
        *field == other.change.field
            && [Some(&other.change.after), other.answered.as_ref()]
                .into_iter()
                .flatten()
                .any(|value| after.is(*field, value.as_field_value()))
    }

    fn checksum(&self) -> u32 {
        edit_checksum(self.row, &self.change, self.answered.as_ref())
    }

    /// Writes its changeable columns.
    pub(super) fn update(&self, connection: &Connection) -> rusqlite::Result<()> {
        let answered = answer_to_sql(self.answered.as_ref());
        let mut update = connection.prepare_cached(UPDATE_EDIT)?;
        let before = to_sql(&self.change.before);
        update.execute(params![self.row, self.change.field.name(), before, answered, self.checksum()]).map(drop)
    }
}

fn edit_checksum(row: i64, change: &Change, answered: Option<&Value>) -> u32 {
    let mut sum = Sum::default();
    sum.integer(Some(row)).text(Some(change.field.name())).value(&change.before).value(&change.after);
    match answered {
        Some(answered) => sum.text(Some("answered")).value(answered),
        None => sum.integer(None),
    };
    sum.integer(Some(i64::from(change.is_planned)));
    sum.0.finalize()
}

/// Inserts a change with a prepared statement. Returns how many rows that added.
pub(super) fn insert_edit(
    insert: &mut Statement<'_>,
    row: i64,
    change: &Change,
    answered: Option<&Value>,
) -> rusqlite::Result<usize> {
    let edit = params![
        row,
        change.field.name(),
        to_sql(&change.before),
        to_sql(&change.after),
        answer_to_sql(answered),
        change.is_planned,
        edit_checksum(row, change, answered)
    ];
    insert.execute(edit)
}

/// An empty answer differs from no answer.
fn answer_to_sql(answered: Option<&Value>) -> SqlValue {
    match answered {
        None => SqlValue::Null,
        Some(Value::Null) => SqlValue::Blob(Vec::new()),
        Some(answered) => to_sql(answered),
    }
}

/// The time of the n-th sent request in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StoredRequest {
    pub(super) number: i64,
    pub(super) sent_at: i64,
}

impl StoredRequest {
    /// Reads all of them; `None` if one is missing or differs from what was written.
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
        let numbers = found.first().zip(found.last()).map(|(first, last)| (first.number, last.number));
        Ok((numbers == state::requests(connection)?).then_some(found))
    }

    /// Adds one at the end.
    pub(super) fn add(connection: &Connection, sent_at: i64) -> rusqlite::Result<()> {
        let numbers = state::requests(connection)?;
        let request = Self { number: numbers.map_or(1, |(_, last)| last.saturating_add(1)), sent_at };
        let mut insert = connection.prepare_cached(INSERT_REQUEST)?;
        insert.execute(params![request.number, request.sent_at, request.checksum()])?;
        state::set_requests(connection, Some((numbers.map_or(1, |(first, _)| first), request.number)))
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
