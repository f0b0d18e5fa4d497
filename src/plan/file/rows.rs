//! The forms of a row: planned, open, and reported.

use super::state::Members;
use crate::account::{Field, FieldSet};
use crate::plan::{Change, Status, Value};

/// A planned row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedRow {
    /// Its number in the table, from 0.
    pub row: u64,
    /// Its account, if known.
    pub account_id: Option<i64>,
    /// The domain or name that it was matched by.
    pub key: Option<String>,
    /// The status after planning.
    pub status: Status,
    /// The error, if any.
    pub error: Option<String>,
    /// The position of its account in the list.
    pub position: Option<u64>,
    /// The bytes of text in the writable fields of its account when it was read.
    pub weight: u64,
    /// The fields that a page of the list showed with a value.
    pub listed: FieldSet,
    /// The changes.
    pub changes: Vec<Change>,
}

/// An open row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenRow {
    /// Its number in the table.
    pub row: u64,
    /// Its account.
    pub account_id: Option<i64>,
    /// The position of its account in the list at planning.
    pub position: Option<u64>,
    /// The bytes of text in the writable fields of its account at planning.
    pub weight: u64,
    /// The fields that a page of the list showed with a value at planning.
    pub listed: FieldSet,
    /// Whether an update of it may have been applied without a confirming answer.
    pub was_sent: bool,
    /// Whether no run has ended it: it has no outcome, not even an unknown one.
    pub is_pending: bool,
    /// Whether the file had values of fields that the row does not name before this run: from an earlier run, or from
    /// the plan that this one reverts.
    pub has_older_values: bool,
}

/// A row in a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowView {
    /// Its number in the table.
    pub row: u64,
    /// Its account.
    pub account_id: Option<i64>,
    /// The domain or name that it was matched by.
    pub key: Option<String>,
    /// The status; [`Status::Unknown`] while it is in flight.
    pub status: Status,
    /// The error, if any.
    pub error: Option<String>,
    /// How often it was sent again without knowing the outcome of the previous attempt: after a crash, or a lost
    /// answer.
    pub repeated: u64,
    /// Whether the answer of the service differs from what was sent.
    pub stored_otherwise: bool,
    /// When it was done, in milliseconds since 1970.
    pub finished_at_ms: Option<i64>,
}

impl RowView {
    /// Returns whether it has ended, but not as planned, or the service stored a different value.
    pub fn is_failure(&self) -> bool {
        self.stored_otherwise || !matches!(self.status, Status::Unchanged | Status::Changed | Status::Pending)
    }
}

/// A field that a row does not name, and that the service stored with another value than it had. Its update sent the
/// value that the account had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unplanned {
    /// The field.
    pub field: Field,
    /// The value that the account had.
    pub before: Value,
    /// The value that the service returned.
    pub answered: Value,
}

/// What is stored of an update before it is sent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Attempt {
    /// The values that the update overwrites, where they differ from the values at planning.
    pub overwritten: Vec<(Field, Value)>,
    /// The values of the fields that the row does not name, and that have one: if no answer arrives, nothing else shows
    /// what the update did to them.
    pub unnamed: Vec<(Field, Value)>,
    /// The members of the account that the update may clear, with their values.
    pub at_risk: Members,
}

/// The outcome of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// Its status.
    pub status: Status,
    /// The error, if any.
    pub error: Option<String>,
    /// Whether the answer of the service differs from what was sent.
    pub stored_otherwise: bool,
    /// Whether it is a conflict that a run may overwrite.
    pub can_overwrite: bool,
    /// The values that the service returned for the changed fields, if they differ from what was sent.
    pub answered: Vec<(Field, Value)>,
    /// The fields that the row does not name and that the service stored with another value than they had.
    pub unplanned: Vec<Unplanned>,
    /// The fields that the row does not name and that had another value before an earlier attempt, which got no answer,
    /// with that value: the attempt altered them, or someone changed them since.
    pub altered: Vec<(Field, Value)>,
    /// The fields that the row does not name and that a revert has not restored, because they have another value now.
    pub left: Vec<Field>,
    /// When it was done, in milliseconds since 1970.
    pub at_ms: Option<i64>,
}

impl Finished {
    /// Returns an outcome without an answer.
    pub fn of(status: Status) -> Self {
        Self {
            status,
            error: None,
            stored_otherwise: false,
            can_overwrite: false,
            answered: Vec::new(),
            unplanned: Vec::new(),
            altered: Vec::new(),
            left: Vec::new(),
            at_ms: None,
        }
    }

    /// Returns the outcome of a row that was done as planned.
    pub fn new(status: Status, at_ms: i64) -> Self {
        Self { at_ms: Some(at_ms), ..Self::of(status) }
    }
}

/// A change in a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeView {
    /// The row's number in the table.
    pub row: u64,
    /// The account.
    pub account_id: Option<i64>,
    /// The status of the row.
    pub status: Status,
    /// The field.
    pub field: Field,
    /// The value when the plan was created, or the overwritten value.
    pub before: Value,
    /// The new value.
    pub after: Value,
    /// The value that the service returned, if it differs from the sent one.
    pub answered: Option<Value>,
    /// Whether the row names the field.
    pub is_planned: bool,
}
