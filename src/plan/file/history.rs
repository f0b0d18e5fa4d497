//! Which of a plan, its reverts and their reverts has written a row last.

use std::cell::OnceCell;
use std::collections::HashMap;

use super::schema::{StoredEdit, StoredRow};
use super::{FileError, PlanFile, Reader};
use crate::plan::Status;

/// The last update of a row, according to the reverts of a plan.
#[derive(Debug, Clone, Copy)]
enum Last {
    /// A revert sent it. Its depth is 1 for a revert of the plan, 2 for a revert of that, and so on. `listed` is that
    /// of the row in the revert.
    Of { revert: usize, depth: u32, listed: u32 },
    /// A revert may have written it, and no answer says so.
    InDoubt,
}

impl Last {
    /// Returns the same, as the plan that this one reverts has to see it.
    fn one_deeper(self) -> Self {
        match self {
            Self::Of { revert, depth, listed } => Self::Of { revert, depth: depth + 1, listed },
            Self::InDoubt => Self::InDoubt,
        }
    }
}

/// The file that has the current values of a row.
pub(super) enum Holder {
    /// The plan itself.
    Plan,
    /// A revert of a revert, which has written the values of the plan again: its number, and `listed` of its row.
    Again(usize, u32),
    /// A revert, which has restored the values of before the plan.
    Restored,
}

/// What the reverts of a plan have done to its rows.
pub(super) struct History {
    reverts: Vec<(PlanFile, OnceCell<Reader>)>,
    rows: Rows,
}

/// The last updates, each with the time after which the plan has not sent the row; `None` if it has sent nothing since.
type Rows = HashMap<u64, (Last, Option<i64>)>;

impl History {
    /// Reads the reverts of a plan.
    ///
    /// # Errors
    /// Returns [`FileError`] if one of the files cannot be read.
    pub(super) fn of(plan: &PlanFile) -> Result<Self, FileError> {
        let mut reverts = Vec::new();
        let rows = collect(plan, &mut reverts)?;
        Ok(Self { reverts: reverts.into_iter().map(|revert| (revert, OnceCell::new())).collect(), rows })
    }

    /// Returns the file that has the current values of a row of the plan.
    pub(super) fn holder(&self, row: &StoredRow) -> Holder {
        match last_of(&self.rows, row) {
            Some(Last::Of { depth, .. }) if depth % 2 == 1 => Holder::Restored,
            Some(Last::Of { revert, listed, .. }) => Holder::Again(revert, listed),
            Some(Last::InDoubt) | None => Holder::Plan,
        }
    }

    /// Returns what the file of a revert has of the fields of a row.
    ///
    /// # Errors
    /// Returns [`FileError`] if the file cannot be read.
    pub(super) fn edits_of_row(&self, revert: usize, row: u64) -> Result<Vec<StoredEdit>, FileError> {
        let Some((file, reader)) = self.reverts.get(revert) else { return Ok(Vec::new()) };
        if reader.get().is_none() {
            let _ = reader.set(file.reader()?);
        }
        reader.get().map_or_else(|| Ok(Vec::new()), |reader| file.edits_of_row(reader, row))
    }
}

/// Returns the last update of a row, unless the plan has sent the row after it.
fn last_of(rows: &Rows, row: &StoredRow) -> Option<Last> {
    let (last, at_ms) = rows.get(&row.row.unsigned_abs())?;
    let is_last = at_ms.is_none_or(|at_ms| row.finished_at_ms.is_some_and(|finished| finished <= at_ms));
    is_last.then_some(*last)
}

fn collect(plan: &PlanFile, reverts: &mut Vec<PlanFile>) -> Result<Rows, FileError> {
    let writes = plan.state()?.writes();
    let mut rows = Rows::new();
    for revert in plan.own_reverts()? {
        let of_revert = collect(&revert, reverts)?;
        let is_current = revert.header().parent_writes.as_ref() == Some(&writes);
        revert.for_each_stored(|row| {
            let last = match (revert.status(&row.status)?, last_of(&of_revert, &row)) {
                (Status::Changed | Status::Unknown, Some(later)) => later.one_deeper(),
                // The service may have ignored the update.
                (Status::Changed, None) if row.stored_otherwise => Last::InDoubt,
                (Status::Changed, None) => Last::Of { revert: reverts.len(), depth: 1, listed: row.listed },
                (Status::Unknown, None) => Last::InDoubt,
                _ => return Ok(()),
            };
            let at_ms = if is_current { None } else { row.finished_at_ms.or(Some(i64::MIN)) };
            rows.insert(row.row.unsigned_abs(), (last, at_ms));
            Ok(())
        })?;
        reverts.push(revert);
    }
    Ok(rows)
}
