//! Reads a plan file: counts, remaining rows, reports, and the rows of a revert.

use std::collections::{BTreeMap, HashMap};

use super::error::{FileError, FileErrorKind};
use super::history::{Family, History, Holder};
use super::schema::{self, StoredEdit, StoredRow};
use super::state::{self, State};
use super::{ChangeView, OpenRow, PlanFile, PlannedRow, Reader, RowView, check};
use crate::account::{Field, FieldSet};
use crate::plan::{Change, Status};
use crate::sabotage::{Guard, is_off};

/// Rows are read in steps of this many rows or bytes, so that a report of a million rows takes little memory and does
/// not delay a run.
const STEP: usize = 10_000;
const STEP_BYTES: usize = 4 * 1_024 * 1_024;

impl PlanFile {
    /// Returns the number of rows by status.
    ///
    /// # Errors
    /// Returns [`FileError`] if the file cannot be read.
    pub fn counts(&self) -> Result<BTreeMap<Status, u64>, FileError> {
        let counted = self.ask(|connection| {
            let mut select = connection.prepare_cached("SELECT status, count(*) FROM rows GROUP BY status")?;
            let pairs = select.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, u64>(1)?)))?;
            pairs.collect::<rusqlite::Result<Vec<_>>>()
        })?;
        let mut counts = BTreeMap::new();
        for (status, count) in counted {
            *counts.entry(self.status(&status)?).or_default() += count;
        }
        Ok(counts)
    }

    /// Returns whether a row has no outcome of a run: it is pending, or its update was in flight when a process died.
    pub(super) fn has_untried(&self) -> Result<bool, FileError> {
        const UNTRIED: &str = "SELECT EXISTS (SELECT 1 FROM rows WHERE status = ?1 OR (status = ?2 AND error IS NULL))";
        let statuses = [Status::Pending, Status::Unknown].map(Status::as_str);
        self.ask(|connection| connection.prepare_cached(UNTRIED)?.query_row(statuses, |row| row.get(0)))
    }

    /// Returns whether another run may write a row: it is pending, unknown or failed, or a conflict that can be
    /// overwritten.
    pub(super) fn has_writable(&self) -> Result<bool, FileError> {
        const WRITABLE: &str = "SELECT EXISTS (SELECT 1 FROM rows WHERE status IN (?1, ?2, ?3) \
             OR (status = ?4 AND can_overwrite))";
        let statuses = [Status::Pending, Status::Unknown, Status::Failed, Status::Conflict].map(Status::as_str);
        self.ask(|connection| connection.prepare_cached(WRITABLE)?.query_row(statuses, |row| row.get(0)))
    }

    /// Returns when a run last sent or ended a row, in milliseconds since 1970.
    pub(super) fn last_run_ms(&self) -> Result<Option<i64>, FileError> {
        const LAST: &str = "SELECT max(finished_at_ms) FROM rows";
        self.ask(|connection| connection.prepare_cached(LAST)?.query_row([], |row| row.get(0)))
    }

    /// Returns the facts about the job as a whole.
    ///
    /// # Errors
    /// Returns [`FileError`] if the file cannot be read.
    pub fn state(&self) -> Result<State, FileError> {
        let found = self.ask(state::read)?;
        found.map(|(state, _)| state).ok_or_else(|| self.damaged(check::STATE))
    }

    /// Returns the rows that are still open, in the order of their position in the list: pending and unknown rows, and
    /// those of the given statuses.
    ///
    /// # Errors
    /// Returns [`FileError`] if the file cannot be read.
    pub fn open_rows(&self, also: &[Status]) -> Result<Vec<OpenRow>, FileError> {
        self.ask(|connection| {
            let mut select = connection.prepare_cached(&format!(
                "SELECT row, account_id, position, weight, listed, status FROM rows WHERE status IN ({}) \
                 ORDER BY position, row",
                open_statuses(also)
            ))?;
            let rows = select.query_map([], |row| {
                let status = row.get_ref(5)?.as_str()?;
                Ok(OpenRow {
                    row: row.get(0)?,
                    account_id: row.get(1)?,
                    position: row.get(2)?,
                    weight: row.get(3)?,
                    listed: FieldSet::from_bits(row.get(4)?),
                    was_sent: status == Status::Unknown.as_str(),
                    is_pending: status == Status::Pending.as_str(),
                    has_older_values: status == Status::Unknown.as_str(),
                })
            })?;
            rows.collect()
        })
    }

    /// Returns the names or domains that matched the open rows, conflicts and failed rows.
    ///
    /// # Errors
    /// Returns [`FileError`] if the file cannot be read.
    pub fn open_keys(&self) -> Result<HashMap<u64, String>, FileError> {
        self.ask(|connection| {
            let mut select = connection.prepare_cached(
                "SELECT row, matched_by FROM rows WHERE status IN ('pending', 'unknown', 'conflict', 'failed') \
                 AND matched_by IS NOT NULL",
            )?;
            select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
        })
    }

    /// Returns how many of the rows with changes are done. Those of the given statuses are not.
    ///
    /// # Errors
    /// Returns [`FileError`] if the file cannot be read.
    pub fn rows_done(&self, also: &[Status]) -> Result<u64, FileError> {
        self.ask(|connection| {
            let mut select = connection.prepare_cached(&format!(
                "SELECT count(*) FROM rows WHERE row IN (SELECT row FROM edits) AND status NOT IN ({})",
                open_statuses(also)
            ))?;
            select.query_row([], |row| row.get(0))
        })
    }

    /// Returns how many rows the service stored with a different value.
    ///
    /// # Errors
    /// Returns [`FileError`] if the file cannot be read.
    pub fn stored_otherwise(&self) -> Result<u64, FileError> {
        self.ask(|connection| {
            let mut select = connection.prepare_cached("SELECT count(*) FROM rows WHERE stored_otherwise")?;
            select.query_row([], |row| row.get(0))
        })
    }

    /// Returns the changes of rows, and the values of unnamed fields of which it is unknown what an update did to them.
    ///
    /// # Errors
    /// Returns [`FileError`] if the file cannot be read.
    pub fn changes_of(&self, rows: &[u64]) -> Result<HashMap<u64, Vec<Change>>, FileError> {
        let reader = self.reader()?;
        let counts = |edit: &StoredEdit| !edit.change.is_unnamed() || edit.is_unnamed();
        let changes =
            |edits: Vec<StoredEdit>| edits.into_iter().filter(counts).map(|edit| edit.change).collect::<Vec<_>>();
        rows.iter().map(|row| Ok((*row, changes(self.edits_of_row(&reader, *row)?)))).collect()
    }

    pub(super) fn edits_of_row(&self, reader: &Reader, row: u64) -> Result<Vec<StoredEdit>, FileError> {
        let read = || {
            let mut select = reader.connection.prepare_cached(schema::SELECT_EDITS)?;
            let edits = select.query_map([i64::try_from(row).unwrap_or(i64::MAX)], StoredEdit::read)?;
            edits.collect::<rusqlite::Result<Option<Vec<_>>>>()
        };
        let edits = read().map_err(|error| FileError::of_sqlite(self.path(), &error))?;
        let mut edits = edits.ok_or_else(|| self.damaged(check::CHANGE))?;
        edits.sort_unstable_by_key(|edit| edit.change.field);
        Ok(edits)
    }

    /// Passes every row to `take`, in order.
    ///
    /// # Errors
    /// Returns [`FileError`] if the file cannot be read.
    pub fn for_each_row(&self, mut take: impl FnMut(RowView)) -> Result<(), FileError> {
        self.for_each_stored(|row| {
            take(self.view(row)?);
            Ok(())
        })
    }

    pub(super) fn for_each_stored(
        &self,
        mut take: impl FnMut(StoredRow) -> Result<(), FileError>,
    ) -> Result<(), FileError> {
        let reader = self.reader()?;
        let mut last = -1;
        loop {
            let rows = self.step(&reader, last)?;
            let Some(end) = rows.last() else { return Ok(()) };
            last = end.row;
            rows.into_iter().try_for_each(&mut take)?;
        }
    }

    /// Returns the rows after a given one.
    fn step(&self, reader: &Reader, last: i64) -> Result<Vec<StoredRow>, FileError> {
        let read = || {
            let mut select = reader.connection.prepare_cached(schema::SELECT_ROWS)?;
            let (mut found, mut bytes) = (Vec::new(), 0);
            for row in select.query_map([last], StoredRow::read)? {
                let Some(row) = row? else { return Ok(None) };
                bytes += row.bytes();
                found.push(row);
                if found.len() >= STEP || bytes >= STEP_BYTES {
                    break;
                }
            }
            Ok(Some(found))
        };
        let rows = read().map_err(|error| FileError::of_sqlite(self.path(), &error))?;
        rows.ok_or_else(|| self.damaged(check::ROW))
    }

    /// Passes every change to `take`, in the order of the rows.
    ///
    /// # Errors
    /// Returns [`FileError`] if the file cannot be read.
    pub fn for_each_change(&self, mut take: impl FnMut(ChangeView)) -> Result<(), FileError> {
        let reader = self.reader()?;
        let mut last = -1;
        loop {
            let rows = self.step(&reader, last)?;
            let (Some(first), Some(end)) = (rows.first(), rows.last()) else { return Ok(()) };
            last = end.row;
            self.changes_between(&reader, first.row, last, &rows, &mut take)?;
        }
    }

    /// Returns the first rows that are failures. Reads no others.
    ///
    /// # Errors
    /// Returns [`FileError`] if the file cannot be read.
    pub fn first_failures(&self, limit: u32) -> Result<Vec<RowView>, FileError> {
        let rows = self.ask(|connection| {
            let mut select = connection.prepare_cached(schema::SELECT_FIRST_FAILURES)?;
            select.query_map([limit], StoredRow::read)?.collect::<rusqlite::Result<Option<Vec<_>>>>()
        })?;
        let rows = rows.ok_or_else(|| self.damaged(check::ROW))?;
        rows.into_iter().map(|row| self.view(row)).collect()
    }

    /// Returns the number of changes.
    ///
    /// # Errors
    /// Returns [`FileError`] if the file cannot be read.
    pub fn count_changes(&self) -> Result<u64, FileError> {
        self.ask(|connection| {
            let select = "SELECT count(*) FROM edits WHERE planned OR before IS NOT after";
            connection.prepare_cached(select)?.query_row([], |row| row.get(0))
        })
    }

    /// Returns the first changes, in the order of the rows. Reads no others.
    ///
    /// # Errors
    /// Returns [`FileError`] if the file cannot be read.
    pub fn first_changes(&self, limit: u32) -> Result<Vec<ChangeView>, FileError> {
        let reader = self.reader()?;
        let of_sqlite = |error: rusqlite::Error| FileError::of_sqlite(self.path(), &error);
        let numbers = || {
            let select = "SELECT row FROM edits WHERE planned OR before IS NOT after ORDER BY row, field LIMIT ?1";
            let mut select = reader.connection.prepare_cached(select)?;
            select.query_map([limit], |row| row.get::<_, i64>(0))?.collect::<rusqlite::Result<Vec<_>>>()
        };
        let numbers = numbers().map_err(of_sqlite)?;
        let mut found = Vec::new();
        let mut last = None;
        for number in numbers {
            if last.replace(number) == Some(number) {
                continue;
            }
            let row = reader.connection.query_row(schema::SELECT_ROW, [number], StoredRow::read).map_err(of_sqlite)?;
            let row = row.ok_or_else(|| self.damaged(check::ROW))?;
            self.changes_between(&reader, number, number, &[row], &mut |change| found.push(change))?;
        }
        found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(found)
    }

    fn changes_between(
        &self,
        reader: &Reader,
        first: i64,
        last: i64,
        rows: &[StoredRow],
        take: &mut impl FnMut(ChangeView),
    ) -> Result<(), FileError> {
        let of_sqlite = |error: rusqlite::Error| FileError::of_sqlite(self.path(), &error);
        let mut select = reader.connection.prepare_cached(schema::SELECT_EDITS_BETWEEN).map_err(of_sqlite)?;
        let mut rows = rows.iter().peekable();
        for edit in select.query_map([first, last], StoredEdit::read).map_err(of_sqlite)? {
            let edit = edit.map_err(of_sqlite)?.ok_or_else(|| self.damaged(check::CHANGE))?;
            while rows.next_if(|row| row.row < edit.row).is_some() {}
            let row =
                rows.peek().filter(|row| row.row == edit.row).ok_or_else(|| self.damaged(check::CHANGE_WITHOUT_ROW))?;
            // A plan also stores fields that an update sent as they were.
            if edit.change.is_unnamed() {
                continue;
            }
            let StoredEdit { change: Change { field, before, after, is_planned }, answered, .. } = edit;
            let (number, status) = (row.row.unsigned_abs(), self.status(&row.status)?);
            let account_id = row.account_id;
            take(ChangeView { row: number, account_id, status, field, before, after, answered, is_planned });
        }
        Ok(())
    }

    /// Passes on the rows that revert what this plan changed or may have changed. They expect the values that the
    /// service returned, if it returned any that differ from the previous ones, and otherwise the values that were
    /// sent. Leaves out the rows that an earlier revert has restored. A row that a revert of a revert has written again
    /// expects and restores what that one has stored.
    ///
    /// # Errors
    /// Returns the errors of `take`, and [`FileError`] if the file cannot be read.
    pub fn revert_rows(&self, take: impl FnMut(PlannedRow) -> Result<(), FileError>) -> Result<(), FileError> {
        self.revert_rows_after(&History::of(Family::of(self, self.root()?)?)?, take)
    }

    /// The same, if the reverts were read before.
    pub(super) fn revert_rows_after(
        &self,
        history: &History,
        mut take: impl FnMut(PlannedRow) -> Result<(), FileError>,
    ) -> Result<(), FileError> {
        let reader = self.reader()?;
        self.for_each_stored(|row| {
            let mut status = self.status(&row.status)?;
            if status != Status::Changed && (status != Status::Unknown || is_off(Guard::Unknown)) {
                return Ok(());
            }
            let number = row.row.unsigned_abs();
            // A revert of a revert does not undo the restoration of fields that an update had spoiled: no row named
            // them.
            let is_own = |edit: &StoredEdit| edit.change.is_planned || edit.change.is_unnamed();
            let mut listed = row.listed;
            let edits = match history.holder(&row)? {
                Holder::Restored => return Ok(()),
                Holder::Plan => self.edits_of_row(&reader, number)?,
                Holder::Again(again) => {
                    status = again.status();
                    listed &= again.listed;
                    merged(&self.edits_of_row(&reader, number)?, history.edits(again, &row)?)
                }
            };
            let listed = FieldSet::from_bits(listed);
            // An update without an answer has kept the values of the unnamed fields. What the list showed in another
            // field says nothing about it now.
            let is_kept = |field: &Field| {
                let of_field = edits.iter().find(|edit| edit.change.field == *field);
                of_field.map_or(status != Status::Unknown, |edit| edit.change.is_unnamed())
            };
            let listed = Field::ALL.iter().copied().filter(|field| listed.contains(*field) && is_kept(field)).collect();
            let changes = edits.into_iter().filter(is_own).map(StoredEdit::reversed);
            // The run of the revert names the fields that an update without an answer may have altered.
            let is_unnamed = |change: &Change| status == Status::Unknown && change.is_unnamed();
            let counts =
                |change: &Change| is_unnamed(change) || !change.before.is(change.field, change.after.as_field_value());
            let changes: Vec<Change> = changes.filter(counts).collect();
            if changes.iter().all(Change::is_unnamed) {
                return Ok(());
            }
            take(PlannedRow {
                row: number,
                account_id: row.account_id,
                key: row.matched_by,
                status: Status::Pending,
                error: None,
                position: row.position.and_then(|position| u64::try_from(position).ok()),
                weight: row.weight.unsigned_abs(),
                listed,
                changes,
            })
        })
    }

    fn damaged(&self, what: &str) -> FileError {
        FileError::new(self.path(), FileErrorKind::Damaged(what.to_owned()))
    }

    pub(super) fn status(&self, name: &str) -> Result<Status, FileError> {
        Status::from_name(name).ok_or_else(|| self.damaged(check::STATUS))
    }

    fn view(&self, row: StoredRow) -> Result<RowView, FileError> {
        let status = self.status(&row.status)?;
        let untold = row.error.is_none() && status == Status::Unknown;
        let on = if self.header().is_revert() { ON_REVERT } else { "" };
        let error = if untold { Some(format!("{UNTOLD}{on}")) } else { row.error };
        Ok(RowView {
            row: row.row.unsigned_abs(),
            account_id: row.account_id,
            key: row.matched_by,
            status,
            error,
            repeated: row.repeated.unsigned_abs(),
            stored_otherwise: row.stored_otherwise,
            // While it is unknown, this is when it was sent.
            finished_at_ms: row.finished_at_ms.filter(|_| status != Status::Unknown),
        })
    }
}

/// Returns what the plan has of the fields of a row that another file has written again. That file knows which values
/// it overwrote, unless it wrote another value than the plan: it may have restored what someone else had written.
fn merged(own: &[StoredEdit], again: Vec<StoredEdit>) -> Vec<StoredEdit> {
    let is_the_same = |edit: &StoredEdit| {
        let mut of_field = own.iter().filter(|own| own.change.field == edit.change.field);
        !edit.change.is_planned || of_field.any(|own| edit.writes_the_same(own))
    };
    let mut edits: Vec<StoredEdit> = again.into_iter().filter(is_the_same).collect();
    let is_new = |own: &StoredEdit| edits.iter().all(|edit| edit.change.field != own.change.field);
    let rest: Vec<StoredEdit> = own.iter().filter(|own| own.change.is_planned && is_new(own)).cloned().collect();
    edits.extend(rest);
    edits
}

/// Returns the statuses of open rows as a list of SQL.
fn open_statuses(also: &[Status]) -> String {
    let all = [Status::Pending, Status::Unknown].iter().chain(also);
    all.map(|status| format!("'{}'", status.as_str())).collect::<Vec<_>>().join(", ")
}

/// The text for a row that was sent and has no other error.
const UNTOLD: &str = "the update was sent, but no answer confirmed it; to send it again, use apply()";

/// Follows a call in the error of a row of a revert: its reader may have the result of the plan that was reverted.
pub(crate) const ON_REVERT: &str = " on the plan of the revert";
