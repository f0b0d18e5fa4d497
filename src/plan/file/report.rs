//! What a plan file tells: counts, what is left, reports, and what takes it back.

use std::collections::{BTreeMap, HashMap};

use super::error::{FileError, FileErrorKind};
use super::schema::{self, SENDING, StoredRow};
use super::{ChangeView, OpenRow, PlanFile, PlannedRow, RowView};
use crate::plan::{Change, Status};

/// Rows are read in steps of this many, so that a report of a million takes little memory.
const STEP: i64 = 10_000;

impl PlanFile {
    /// How many rows there are of each status.
    ///
    /// # Errors
    /// [`FileError`] when the file cannot be read.
    pub fn counts(&self) -> Result<BTreeMap<Status, u64>, FileError> {
        let counted = self.ask(|connection| {
            let mut select = connection.prepare("SELECT status, count(*) FROM rows GROUP BY status")?;
            let pairs = select.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, u64>(1)?)))?;
            pairs.collect::<rusqlite::Result<Vec<_>>>()
        })?;
        let mut counts = BTreeMap::new();
        for (status, count) in counted {
            *counts.entry(self.status(&status)?).or_default() += count;
        }
        Ok(counts)
    }

    /// The rows that are still to be done, those in flight at a crash included, in the order of their place in the list.
    ///
    /// # Errors
    /// [`FileError`] when the file cannot be read.
    pub fn open_rows(&self) -> Result<Vec<OpenRow>, FileError> {
        self.ask(|connection| {
            let mut select = connection.prepare(
                "SELECT row, account_id, position, status FROM rows WHERE status IN ('pending', 'sending') \
                 ORDER BY position, row",
            )?;
            let rows = select.query_map([], |row| {
                Ok(OpenRow {
                    row: row.get(0)?,
                    account_id: row.get(1)?,
                    position: row.get(2)?,
                    was_sending: row.get::<_, String>(3)? == SENDING,
                })
            })?;
            rows.collect()
        })
    }

    /// How many of the rows that were to change something have been dealt with.
    ///
    /// # Errors
    /// [`FileError`] when the file cannot be read.
    pub fn rows_done(&self) -> Result<u64, FileError> {
        self.ask(|connection| {
            let mut select = connection.prepare(
                "SELECT count(*) FROM rows WHERE row IN (SELECT row FROM edits) AND status NOT IN ('pending', 'sending')",
            )?;
            select.query_row([], |row| row.get(0))
        })
    }

    /// What rows change.
    ///
    /// # Errors
    /// [`FileError`] when the file cannot be read.
    pub fn changes_of(&self, rows: &[u64]) -> Result<HashMap<u64, Vec<Change>>, FileError> {
        let rows: Vec<i64> = rows.iter().filter_map(|row| i64::try_from(*row).ok()).collect();
        let found = self.ask(move |connection| {
            let mut select = connection.prepare_cached(schema::SELECT_EDITS)?;
            let mut found = Vec::new();
            for row in rows {
                let edits = select.query_map([row], schema::read_edit)?;
                found.extend(edits.collect::<rusqlite::Result<Vec<_>>>()?);
            }
            Ok(found)
        })?;
        let mut changes: HashMap<u64, Vec<Change>> = HashMap::new();
        for edit in found {
            let (row, change) = edit.ok_or_else(|| self.damaged("a change is not what was written"))?;
            changes.entry(row.unsigned_abs()).or_default().push(change);
        }
        for changes in changes.values_mut() {
            changes.sort_unstable_by_key(|change| change.field);
        }
        Ok(changes)
    }

    /// Every row, in order.
    ///
    /// # Errors
    /// [`FileError`] when the file cannot be read.
    pub fn for_each_row(&self, mut take: impl FnMut(RowView)) -> Result<(), FileError> {
        let mut last = -1;
        loop {
            let rows = self.ask(move |connection| {
                let mut select = connection.prepare_cached(schema::SELECT_ROWS)?;
                let rows = select.query_map([last, STEP], StoredRow::read)?;
                rows.collect::<rusqlite::Result<Vec<_>>>()
            })?;
            if rows.is_empty() {
                return Ok(());
            }
            for row in rows {
                let row = row.ok_or_else(|| self.damaged("a row is not what was written"))?;
                last = row.row;
                take(self.view(row)?);
            }
        }
    }

    /// Every change, in the order of the rows.
    ///
    /// # Errors
    /// [`FileError`] when the file cannot be read.
    pub fn for_each_change(&self, mut take: impl FnMut(ChangeView)) -> Result<(), FileError> {
        let mut rows = Vec::new();
        self.for_each_row(|row| rows.push((row.row, row.account_id, row.status)))?;
        for step in rows.chunks(usize::try_from(STEP).unwrap_or(1)) {
            let (Some(first), Some(last)) = (step.first(), step.last()) else { continue };
            let (first, last) = (first.0.cast_signed(), last.0.cast_signed());
            let edits = self.ask(move |connection| {
                let mut select = connection.prepare_cached(schema::SELECT_EDITS_BETWEEN)?;
                let edits = select.query_map([first, last], schema::read_edit)?;
                edits.collect::<rusqlite::Result<Vec<_>>>()
            })?;
            let mut step = step.iter().peekable();
            for edit in edits {
                let (row, change) = edit.ok_or_else(|| self.damaged("a change is not what was written"))?;
                while step.next_if(|(number, ..)| number.cast_signed() < row).is_some() {}
                let Some(&&(number, account_id, status)) = step.peek() else { break };
                let Change { field, before, after } = change;
                take(ChangeView { row: number, account_id, status, field, before, after });
            }
        }
        Ok(())
    }

    /// The rows that take back what this plan has changed.
    ///
    /// # Errors
    /// Those of `take`, and [`FileError`] when the file cannot be read.
    pub fn revert_rows(&self, mut take: impl FnMut(PlannedRow) -> Result<(), FileError>) -> Result<(), FileError> {
        let mut done = Vec::new();
        self.for_each_row(|row| {
            if row.status == Status::Changed {
                done.push(row);
            }
        })?;
        let mut positions: HashMap<u64, Option<u64>> = self
            .ask(|connection| {
                let mut select = connection.prepare("SELECT row, position FROM rows WHERE status = 'changed'")?;
                let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
                rows.collect::<rusqlite::Result<Vec<_>>>()
            })?
            .into_iter()
            .collect();
        for rows in done.chunks(usize::try_from(STEP).unwrap_or(1)) {
            let numbers: Vec<u64> = rows.iter().map(|row| row.row).collect();
            let mut changes = self.changes_of(&numbers)?;
            for row in rows {
                let changes = changes.remove(&row.row).unwrap_or_default();
                take(PlannedRow {
                    row: row.row,
                    account_id: row.account_id,
                    key: row.key.clone(),
                    status: Status::Pending,
                    error: None,
                    position: positions.remove(&row.row).flatten(),
                    weight: 0,
                    changes: changes.into_iter().map(Change::reversed).collect(),
                })?;
            }
        }
        Ok(())
    }

    fn damaged(&self, what: &str) -> FileError {
        FileError::new(self.path(), FileErrorKind::Damaged(what.to_owned()))
    }

    fn status(&self, name: &str) -> Result<Status, FileError> {
        if name == SENDING {
            return Ok(Status::Unknown);
        }
        Status::from_name(name).ok_or_else(|| self.damaged("a row has a status that is none"))
    }

    fn view(&self, row: StoredRow) -> Result<RowView, FileError> {
        let in_flight = row.status == SENDING;
        let error =
            if in_flight { Some("was in flight when the job ended; it is sent again".to_owned()) } else { row.error };
        Ok(RowView {
            row: row.row.unsigned_abs(),
            account_id: row.account_id,
            key: row.matched_by,
            status: self.status(&row.status)?,
            error,
            repeated: row.repeated.unsigned_abs(),
        })
    }
}
