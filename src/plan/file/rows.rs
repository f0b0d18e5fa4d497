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
    /// How many bytes the texts in the account's writable fields have.
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
    /// Whether it was in flight when the file was last used.
    pub was_sending: bool,
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
    /// What it was when the plan was made.
    pub before: Value,
    /// What it is to be.
    pub after: Value,
}
