//! Which of a plan, its reverts and their reverts has written a row last.

use std::collections::HashMap;

use super::schema::StoredRow;
use super::{FileError, PlanFile};
use crate::plan::Status;

/// The last update of a row, according to the reverts of a plan.
#[derive(Debug, Clone, Copy)]
enum Last {
    /// A revert sent it. Its depth is 1 for a revert of the plan, 2 for a revert of that, and so on.
    Of { revert: usize, depth: u32 },
    /// A revert may have written it, and no answer says so.
    InDoubt,
}

impl Last {
    /// Returns the same, as the plan that this one reverts has to see it.
    fn one_deeper(self) -> Self {
        match self {
            Self::Of { revert, depth } => Self::Of { revert, depth: depth + 1 },
            Self::InDoubt => Self::InDoubt,
        }
    }
}

/// The file that has the current values of a row.
pub(super) enum Holder<'a> {
    /// The plan itself.
    Plan,
    /// A revert of a revert, which has written the values of the plan again.
    Again(&'a PlanFile),
    /// A revert, which has restored the values of before the plan.
    Restored,
}

/// What the reverts of a plan have done to its rows.
pub(super) struct History {
    reverts: Vec<PlanFile>,
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
        Ok(Self { reverts, rows })
    }

    /// Returns the file that has the current values of a row of the plan.
    pub(super) fn holder(&self, row: &StoredRow) -> Holder<'_> {
        match last_of(&self.rows, row) {
            Some(Last::Of { depth, .. }) if depth % 2 == 1 => Holder::Restored,
            Some(Last::Of { revert, .. }) => self.reverts.get(revert).map_or(Holder::Plan, Holder::Again),
            Some(Last::InDoubt) | None => Holder::Plan,
        }
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
                (Status::Changed, None) => Last::Of { revert: reverts.len(), depth: 1 },
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
