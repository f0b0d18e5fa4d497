//! Which of the open rows a run includes, and how much it may change.

use std::collections::BTreeSet;

use super::RunError;
use crate::plan::file::{FileError, OpenRow, PlanFile};

/// Which of the open rows a run includes. The other rows stay as they are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// The numbers of the rows; `None` for every open row.
    pub rows: Option<BTreeSet<u64>>,
    /// The most rows to include, in the order of their numbers: pending rows come before those that a run has tried.
    pub limit: Option<u64>,
    /// The run fails if it would include more rows than this.
    pub max_changes: Option<u64>,
    /// The run fails if its rows would empty more fields than this.
    pub max_cleared: Option<u64>,
}

impl Selection {
    /// Keeps the open rows that the run includes, in their order. If a limit leaves out rows, `first` is not one of
    /// them.
    ///
    /// # Errors
    /// Returns [`RunError::TooManyChanges`] or [`RunError::TooManyCleared`] if the run would exceed a limit, and
    /// [`RunError::File`] if the file cannot be read.
    pub(super) fn of(
        &self,
        file: &PlanFile,
        mut open: Vec<OpenRow>,
        first: Option<u64>,
    ) -> Result<Vec<OpenRow>, RunError> {
        if let Some(rows) = &self.rows {
            open.retain(|row| rows.contains(&row.row));
        }
        if let Some(limit) =
            self.limit.and_then(|limit| usize::try_from(limit).ok()).filter(|limit| *limit < open.len())
        {
            // Otherwise rows that no run can end would use up the limit of each run.
            let rank = |row: &OpenRow| (first != Some(row.row), !row.is_pending, row.row);
            let mut ranks: Vec<_> = open.iter().map(rank).collect();
            ranks.sort_unstable();
            open.retain(|row| ranks.get(limit).is_some_and(|first_left| rank(row) < *first_left));
        }
        let changes = open.len() as u64;
        if let Some(most) = self.max_changes.filter(|most| changes > *most) {
            return Err(RunError::TooManyChanges { changes, most });
        }
        if let Some(most) = self.max_cleared {
            let cleared = cleared(file, &open)?;
            if cleared > most {
                return Err(RunError::TooManyCleared { cleared, most });
            }
        }
        Ok(open)
    }
}

/// Returns the number of fields that the rows empty.
fn cleared(file: &PlanFile, rows: &[OpenRow]) -> Result<u64, FileError> {
    let rows: BTreeSet<u64> = rows.iter().map(|row| row.row).collect();
    let mut cleared = 0;
    file.for_each_change(|change| {
        cleared += u64::from(change.is_planned && change.after.is_empty(change.field) && rows.contains(&change.row));
    })?;
    Ok(cleared)
}
