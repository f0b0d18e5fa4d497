//! What a plan file tells: counts, what is left, reports, and what takes it back.

use std::collections::{BTreeMap, HashMap};

use super::error::{FileError, FileErrorKind};
use super::schema::{self, StoredEdit, StoredRow};
use super::state::{self, State};
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

    /// What is known about the job as a whole.
    ///
    /// # Errors
    /// [`FileError`] when the file cannot be read.
    pub fn state(&self) -> Result<State, FileError> {
        let found = self.ask(state::read)?;
        found.map(|(state, _)| state).ok_or_else(|| self.damaged("the state of its job is not what was written"))
    }

    /// The rows that are still to be done, in the order of their place in the list: those that are pending or unknown, and
    /// conflicts where they are wanted.
    ///
    /// # Errors
    /// [`FileError`] when the file cannot be read.
    pub fn open_rows(&self, include_conflicts: bool) -> Result<Vec<OpenRow>, FileError> {
        let third = if include_conflicts { Status::Conflict } else { Status::Pending };
        self.ask(|connection| {
            let mut select = connection.prepare(
                "SELECT row, account_id, position, weight, status FROM rows WHERE status IN ('pending', 'unknown', ?1) \
                 ORDER BY position, row",
            )?;
            let rows = select.query_map([third.as_str()], |row| {
                Ok(OpenRow {
                    row: row.get(0)?,
                    account_id: row.get(1)?,
                    position: row.get(2)?,
                    weight: row.get(3)?,
                    was_sent: row.get_ref(4)?.as_str()? == Status::Unknown.as_str(),
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
                "SELECT count(*) FROM rows WHERE row IN (SELECT row FROM edits) AND status NOT IN ('pending', 'unknown')",
            )?;
            select.query_row([], |row| row.get(0))
        })
    }

    /// How many rows were written, or may have been.
    ///
    /// # Errors
    /// [`FileError`] when the file cannot be read.
    pub fn rows_written(&self) -> Result<u64, FileError> {
        self.ask(|connection| {
            let mut select = connection.prepare("SELECT count(*) FROM rows WHERE status IN ('changed', 'unknown')")?;
            select.query_row([], |row| row.get(0))
        })
    }

    /// How many rows were changed to something else than was sent.
    ///
    /// # Errors
    /// [`FileError`] when the file cannot be read.
    pub fn stored_otherwise(&self) -> Result<u64, FileError> {
        self.ask(|connection| {
            connection.query_row("SELECT count(*) FROM rows WHERE stored_otherwise", [], |row| row.get(0))
        })
    }

    /// What rows change.
    ///
    /// # Errors
    /// [`FileError`] when the file cannot be read.
    pub fn changes_of(&self, rows: &[u64]) -> Result<HashMap<u64, Vec<Change>>, FileError> {
        let edits = self.edits_of(rows)?.into_iter();
        Ok(edits.map(|(row, edits)| (row, edits.into_iter().map(|edit| edit.change).collect())).collect())
    }

    fn edits_of(&self, rows: &[u64]) -> Result<HashMap<u64, Vec<StoredEdit>>, FileError> {
        let found = self.ask(|connection| {
            let mut select = connection.prepare_cached(schema::SELECT_EDITS)?;
            let mut found = Vec::new();
            for row in rows.iter().filter_map(|row| i64::try_from(*row).ok()) {
                let edits = select.query_map([row], StoredEdit::read)?;
                found.extend(edits.collect::<rusqlite::Result<Vec<_>>>()?);
            }
            Ok(found)
        })?;
        let mut edits: HashMap<u64, Vec<StoredEdit>> = HashMap::new();
        for edit in found {
            let edit = edit.ok_or_else(|| self.damaged("a change is not what was written"))?;
            edits.entry(edit.row.unsigned_abs()).or_default().push(edit);
        }
        for edits in edits.values_mut() {
            edits.sort_unstable_by_key(|edit| edit.change.field);
        }
        Ok(edits)
    }

    /// Every row, in order.
    ///
    /// # Errors
    /// [`FileError`] when the file cannot be read.
    pub fn for_each_row(&self, mut take: impl FnMut(RowView)) -> Result<(), FileError> {
        self.for_each_stored(|row| {
            take(self.view(row)?);
            Ok(())
        })
    }

    fn for_each_stored(&self, mut take: impl FnMut(StoredRow) -> Result<(), FileError>) -> Result<(), FileError> {
        let reader = self.reader()?;
        let mut last = -1;
        loop {
            let step = |last: i64| {
                let mut select = reader.connection.prepare_cached(schema::SELECT_ROWS)?;
                let rows = select.query_map([last, STEP], StoredRow::read)?;
                rows.collect::<rusqlite::Result<Vec<_>>>()
            };
            let rows = step(last).map_err(|error| FileError::of_sqlite(self.path(), &error))?;
            if rows.is_empty() {
                return Ok(());
            }
            for row in rows {
                let row = row.ok_or_else(|| self.damaged("a row is not what was written"))?;
                last = row.row;
                take(row)?;
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
            let edits = self.ask(|connection| {
                let mut select = connection.prepare_cached(schema::SELECT_EDITS_BETWEEN)?;
                let edits = select.query_map([first, last], StoredEdit::read)?;
                edits.collect::<rusqlite::Result<Vec<_>>>()
            })?;
            let mut step = step.iter().peekable();
            for edit in edits {
                let edit = edit.ok_or_else(|| self.damaged("a change is not what was written"))?;
                while step.next_if(|(number, ..)| number.cast_signed() < edit.row).is_some() {}
                let Some(&&(number, account_id, status)) = step.peek() else { break };
                let StoredEdit { change: Change { field, before, after }, answered, .. } = edit;
                take(ChangeView { row: number, account_id, status, field, before, after, answered });
            }
        }
        Ok(())
    }

    /// The rows that revert what this plan has changed, or may have changed. What they expect to find is what the service
    /// answered, where it did.
    ///
    /// # Errors
    /// Those of `take`, and [`FileError`] when the file cannot be read.
    pub fn revert_rows(&self, mut take: impl FnMut(PlannedRow) -> Result<(), FileError>) -> Result<(), FileError> {
        let mut written = Vec::new();
        self.for_each_stored(|row| {
            if [Status::Changed, Status::Unknown].contains(&self.status(&row.status)?) {
                written.push(row);
            }
            Ok(())
        })?;
        for rows in written.chunks(usize::try_from(STEP).unwrap_or(1)) {
            let numbers: Vec<u64> = rows.iter().map(|row| row.row.unsigned_abs()).collect();
            let mut edits = self.edits_of(&numbers)?;
            for row in rows {
                let number = row.row.unsigned_abs();
                let edits = edits.remove(&number).unwrap_or_default().into_iter();
                take(PlannedRow {
                    row: number,
                    account_id: row.account_id,
                    key: row.matched_by.clone(),
                    status: Status::Pending,
                    error: None,
                    position: row.position.and_then(|position| u64::try_from(position).ok()),
                    weight: row.weight.unsigned_abs(),
                    changes: edits.map(StoredEdit::reversed).collect(),
                })?;
            }
        }
        Ok(())
    }

    fn damaged(&self, what: &str) -> FileError {
        FileError::new(self.path(), FileErrorKind::Damaged(what.to_owned()))
    }

    fn status(&self, name: &str) -> Result<Status, FileError> {
        Status::from_name(name).ok_or_else(|| self.damaged("a row has an unknown status"))
    }

    fn view(&self, row: StoredRow) -> Result<RowView, FileError> {
        let status = self.status(&row.status)?;
        let untold = row.error.is_none() && status == Status::Unknown;
        let error = if untold { Some(UNTOLD.to_owned()) } else { row.error };
        Ok(RowView {
            row: row.row.unsigned_abs(),
            account_id: row.account_id,
            key: row.matched_by,
            status,
            error,
            repeated: row.repeated.unsigned_abs(),
            stored_otherwise: row.stored_otherwise,
            finished_at_ms: row.finished_at_ms,
        })
    }
}

/// What is said of a row that was sent, and of which nothing else is known.
const UNTOLD: &str = "it was sent, and no answer tells whether it was applied; apply() looks and sends it again";
