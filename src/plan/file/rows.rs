//! A row of a plan: as it is planned, as it is still to be done, and as it is told.

use crate::account::Field;
use crate::plan::{Change, Status, Value};

/// A row as it is planned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedRow {
    /// Its number in the table, from 0.
    pub row: u64,
    /// The account that it is for, where that is known.
    pub account_id: Option<i64>,
    /// The domain or name that it was matched by.
    pub key: Option<String>,
    /// What became of it in planning.
    pub status: Status,
    /// What is wrong with it.
    pub error: Option<String>,
    /// The place of its account in the list.
    pub position: Option<u64>,
    /// How many bytes of text the writable fields of its account had when it was read.
    pub weight: u64,
    /// What it changes.
    pub changes: Vec<Change>,
}

/// A row that is still to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenRow {
    /// Its number in the table.
    pub row: u64,
    /// The account that it is for.
    pub account_id: Option<i64>,
    /// The place of its account in the list, when it was planned.
    pub position: Option<u64>,
    /// How many bytes of text the writable fields of its account had when it was planned.
    pub weight: u64,
    /// Whether an update of it may have been applied, and no answer tells.
    pub was_sent: bool,
}

/// A row in a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowView {
    /// Its number in the table.
    pub row: u64,
    /// The account that it is for.
    pub account_id: Option<i64>,
    /// The domain or name that it was matched by.
    pub key: Option<String>,
    /// What became of it; [`Status::Unknown`] while it is in flight.
    pub status: Status,
    /// What is wrong with it.
    pub error: Option<String>,
    /// How often it was sent again while nobody knew what had become of the time before: after a crash, or a lost answer.
    pub repeated: u64,
    /// Whether the service answered something else than was sent.
    pub stored_otherwise: bool,
    /// When it was done, in milliseconds since 1970.
    pub finished_at_ms: Option<i64>,
}

/// What became of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// Its status.
    pub status: Status,
    /// What is wrong with it.
    pub error: Option<String>,
    /// Whether the service answered something else than was sent.
    pub stored_otherwise: bool,
    /// What the service answered for the fields that the row changes, where that is not what was sent.
    pub answered: Vec<(Field, Value)>,
    /// When it was done, in milliseconds since 1970.
    pub at_ms: Option<i64>,
}

impl Finished {
    /// A row that was done as it was planned.
    pub fn new(status: Status, at_ms: i64) -> Self {
        Self { status, error: None, stored_otherwise: false, answered: Vec::new(), at_ms: Some(at_ms) }
    }
}

/// A change in a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeView {
    /// The row's number in the table.
    pub row: u64,
    /// The account.
    pub account_id: Option<i64>,
    /// What became of the row.
    pub status: Status,
    /// The field.
    pub field: Field,
    /// What it was when the plan was made, or what was overwritten.
    pub before: Value,
    /// What it is to be.
    pub after: Value,
    /// What the service answered, where that is not what was sent.
    pub answered: Option<Value>,
}
