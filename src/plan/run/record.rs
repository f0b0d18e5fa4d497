//! What a run writes to the plan file, and how a row says what became of it. Pure.

use super::policy::{Kind, Refusal};
use crate::account::Field;
use crate::change::Value;
use crate::plan::Status;
use crate::plan::file::{Finished, ItemsProof, OpenRow};

/// Something to write to the plan file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Record {
    /// What became of a row.
    Finish { row: u64, finished: Finished },
    /// An update that was marked as sent is known not to have been applied. What it would have overwritten is still there, so
    /// that these fields have the value again that they had when the plan was made.
    NotSent { row: u64, before: Vec<(Field, Value)> },
    /// Whether the items of the list are complete.
    Items(ItemsProof),
    /// Members that an update has cleared, since it cannot carry them.
    Cleared(Vec<String>),
}

pub(super) fn finish(row: OpenRow, status: Status, error: Option<String>) -> Record {
    let error = error.map(|error| in_row(row, &error));
    Record::Finish {
        row: row.row,
        finished: Finished { status, error, stored_otherwise: false, answered: Vec::new(), at_ms: None },
    }
}

/// What became of a row whose request failed for good.
pub(super) fn given_up(row: OpenRow, refusal: &Refusal) -> Record {
    let status = match refusal.kind {
        Kind::NotFound => Status::NotFound,
        _ if row.was_sent => Status::Unknown,
        _ => Status::Failed,
    };
    finish(row, status, Some(refusal.error.to_string()))
}

pub(super) fn in_row(row: OpenRow, text: &str) -> String {
    format!("row {}: {text}", row.row)
}

/// What a row says when the service's answer is not what was sent.
pub(super) fn said_of(differing: &[Field], lost: &[String]) -> Option<String> {
    let mut parts = Vec::new();
    if !differing.is_empty() {
        let names: Vec<&str> = differing.iter().map(|field| field.name()).collect();
        parts.push(format!("the answer of the service differs from what was sent in {}", names.join(", ")));
    }
    if !lost.is_empty() {
        parts.push(format!("the update cleared {}, which an update cannot include", lost.join(", ")));
    }
    (!parts.is_empty()).then(|| format!("written, but {}", parts.join("; ")))
}
