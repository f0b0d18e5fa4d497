//! Plans for the Python layer: a file, reports of its rows, and jobs.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use arrow_array::types::TimestampMillisecondType;
use arrow_array::{
    Array, ArrayRef, BooleanArray, Int64Array, PrimitiveArray, RecordBatch, RecordBatchOptions, StringArray,
    UInt64Array,
};
use arrow_schema::{Field as ArrowField, Schema};
use pyo3::exceptions::{PyIndexError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyCapsule, PyDict};

use super::client::Client;
use super::convert::{ToPython, member_to_python};
use super::guard::guarded;
use super::job::{Job, counts_to_python};
use super::lane;
use super::overview::{Known, Requests, Stamp, Tally};
use super::table::Table;
use super::{arrow, errors};
use crate::account::{DateTime, MemberValue};
use crate::config::Config;
use crate::lock::lock;
use crate::plan::Value;
use crate::plan::file::{self, ChangeView, FileError, RowView};
use crate::plan::run::{self, ApplyOptions, OnConflict, OnUnknownMember, Selection};
use crate::plan::source::is_suspicious;

/// A plan: a view of its file.
#[pyclass(frozen, module = "replyio._replyio")]
pub(super) struct PlanFile {
    file: file::PlanFile,
    /// Whether a missing log of the plan or of its revert is accepted.
    recovers: bool,
    known: Mutex<Known>,
}

impl PlanFile {
    fn new(file: file::PlanFile, known: Known) -> Self {
        Self { file, recovers: false, known: Mutex::new(known) }
    }

    /// Returns what is known of this state of the file, or finds it. The lock is held with the interpreter only, so
    /// that no fork can copy a held one.
    fn recall<T: Clone + Send>(
        &self,
        py: Python<'_>,
        slot: impl Fn(&mut Known) -> &mut Option<T>,
        fits: impl Fn(&T) -> bool,
        find: impl FnOnce(&file::PlanFile) -> Result<T, FileError> + Send,
    ) -> PyResult<T> {
        let known = || lock(&self.known);
        let stamp = Stamp::of(self.file.real_path());
        if known().is_of(stamp.as_ref()) {
            if let Some(found) = slot(&mut known()).clone().filter(fits) {
                return Ok(found);
            }
        } else {
            known().renew(stamp);
        }
        let found = self.with(py, find)?;
        if known().is_of(Stamp::of(self.file.real_path()).as_ref()) {
            *slot(&mut known()) = Some(found.clone());
        }
        Ok(found)
    }

    fn tally(&self, py: Python<'_>) -> PyResult<Tally> {
        self.recall(py, |known| &mut known.tally, |_| true, Tally::of)
    }

    fn with<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&file::PlanFile) -> Result<T, FileError> + Send,
    ) -> PyResult<T> {
        lane::reading(py, || work(&self.file))?.map_err(|error| refused(py, &error))
    }
}

#[pymethods]
impl PlanFile {
    /// Returns the file that blocks runs of the plan.
    fn blocked_by(&self, py: Python<'_>) -> PyResult<Option<PathBuf>> {
        guarded(py, "blocked_by", || self.with(py, file::PlanFile::blocked_by))
    }

    /// Starts to plan the updates of a table, into a new file.
    #[staticmethod]
    fn plan(client: &Bound<'_, Client>, table: &Table, path: PathBuf) -> PyResult<Job> {
        guarded(client.py(), "plan", || {
            let (table, options) = table.inner();
            Job::start(client, move |client, control, lines| async move {
                let file = run::plan(&client, &table, &options, &path, &control, Some(lines)).await?;
                let known = file.as_ref().map(|file| Known::in_advance(Some(&client), file)).transpose()?;
                Ok(file.map(|file| (file, known.unwrap_or_default())))
            })
        })
    }

    /// Opens the plan that planning this table would create again. Returns `None` if there is none, or only an
    /// incomplete one.
    #[staticmethod]
    #[expect(clippy::needless_pass_by_value, reason = "pyo3 passes it by value")]
    fn resume(py: Python<'_>, client: &Client, table: &Table, path: PathBuf) -> PyResult<Option<Self>> {
        guarded(py, "resume_plan", || {
            let (table, _) = table.inner();
            let target = Target::of(client.here(py)?.config(), false);
            let opened = lane::reading(py, || {
                let file = file::PlanFile::resume(&path, table.digest())?;
                file.as_ref().map_or(Ok(()), |file| target.check(file)).map(|()| file)
            })?;
            opened.map(|file| file.map(|file| Self::new(file, Known::default()))).map_err(|error| refused(py, &error))
        })
    }

    /// Deletes an incomplete plan. Returns whether a plan is left, which may be replaced. Raises an error if the file
    /// is not a plan, or if a run uses it.
    #[staticmethod]
    #[expect(clippy::needless_pass_by_value, reason = "pyo3 passes it by value")]
    fn make_way(py: Python<'_>, path: PathBuf) -> PyResult<bool> {
        guarded(py, "replace_plan", || {
            lane::reading(py, || file::PlanFile::make_way(&path))?.map_err(|error| refused(py, &error))
        })
    }

    /// Returns whether a run uses the plan of a file, or plans it.
    #[staticmethod]
    #[expect(clippy::needless_pass_by_value, reason = "pyo3 passes it by value")]
    fn is_in_use(py: Python<'_>, path: PathBuf) -> PyResult<bool> {
        guarded(py, "is_plan_in_use", || lane::reading(py, || file::PlanFile::is_in_use(&path)))
    }

    /// Opens a plan. With a client, the plan must belong to its base URL, user and team, and can be applied; without
    /// one, it is read-only. `recover` opens a plan whose log is missing, `new_key` one that was created with another
    /// API key of the same user.
    #[staticmethod]
    #[expect(clippy::needless_pass_by_value, reason = "pyo3 passes it by value")]
    #[pyo3(signature = (client, path, *, recover=false, new_key=false))]
    fn open(py: Python<'_>, client: Option<&Client>, path: PathBuf, recover: bool, new_key: bool) -> PyResult<Self> {
        guarded(py, "open_plan", || {
            let client = client.map(|client| client.here(py)).transpose()?;
            let target = client.map(|client| Target::of(client.config(), new_key));
            let opened = lane::reading(py, || {
                let file = if recover { file::PlanFile::recover(&path)? } else { file::PlanFile::open(&path)? };
                target.map_or(Ok(()), |target| target.check(&file))?;
                let known = Known::in_advance(client, &file)?;
                Ok::<_, FileError>((file, known))
            })?;
            let opened = opened.map_err(|error| refused(py, &error));
            opened.map(|(file, known)| Self { recovers: recover, ..Self::new(file, known) })
        })
    }

    /// Starts to apply the rest of the plan, including failed rows if `retry_failed` is true. Raises an error
    /// immediately if another run uses the plan.
    #[expect(clippy::too_many_arguments, reason = "each is an option of one call")]
    #[pyo3(signature = (
        client, *, overwrite, clear_unknown_members, retry_failed, rows, limit, max_changes, max_cleared
    ))]
    fn apply(
        &self,
        client: &Bound<'_, Client>,
        overwrite: bool,
        clear_unknown_members: bool,
        retry_failed: bool,
        rows: Option<BTreeSet<u64>>,
        limit: Option<u64>,
        max_changes: Option<u64>,
        max_cleared: Option<u64>,
    ) -> PyResult<Job> {
        let selection = Selection { rows, limit, max_changes, max_cleared };
        let options = ApplyOptions {
            on_conflict: if overwrite { OnConflict::Overwrite } else { OnConflict::Skip },
            on_unknown_member: if clear_unknown_members { OnUnknownMember::Clear } else { OnUnknownMember::Stop },
            retry_failed,
            ..ApplyOptions::default()
        };
        guarded(client.py(), "apply", || {
            let run = self.with(client.py(), file::PlanFile::start_run)?;
            Job::start(client, move |client, control, lines| async move {
                run::apply(&client, run, options, &selection, &control, Some(lines)).await
            })
        })
    }

    /// Returns the number of requests that apply the rest of the plan, and their duration in seconds.
    fn estimate(&self, py: Python<'_>, client: &Client) -> PyResult<(u64, Option<f64>)> {
        guarded(py, "estimate", || {
            let client = client.here(py)?;
            let rows_at_once = run::rows_on_a_look(client);
            let fits = |known: &Requests| known.rows_at_once == rows_at_once;
            let requests = self.recall(py, |known| &mut known.requests, fits, |file| Requests::of(client, file))?.count;
            Ok((requests, client.forecast(requests).map(|wait| wait.as_secs_f64())))
        })
    }

    /// The path.
    #[getter]
    fn path(&self, py: Python<'_>) -> PyResult<PathBuf> {
        guarded(py, "path", || Ok(self.file.path().to_path_buf()))
    }

    /// The purpose of the plan.
    fn header<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        guarded(py, "header", || {
            let header = self.file.header();
            let result = PyDict::new(py);
            result.set_item("base_url", &header.base_url)?;
            result.set_item("mode", header.mode.as_str())?;
            result.set_item("nulls", header.nulls.as_str())?;
            result.set_item("match_on", header.match_on.as_str())?;
            result.set_item("created_at_ms", header.created_at_ms)?;
            result.set_item("source", &header.source)?;
            result.set_item("is_revert", header.is_revert())?;
            result.set_item("act_as", header.act_as.as_deref())?;
            result.set_item("team_id", header.team_id)?;
            result.set_item("cleared", self.file.cleared())?;
            let suspicious = header.suspicions.iter().map(|found| (found.column.as_str(), found.cells, found.row));
            result.set_item("suspicious", suspicious.collect::<Vec<_>>())?;
            Ok(result)
        })
    }

    /// The number of rows by status.
    fn counts<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        guarded(py, "counts", || counts_to_python(py, &self.tally(py)?.counts))
    }

    /// The number of rows that the service stored with a different value.
    fn stored_otherwise(&self, py: Python<'_>) -> PyResult<u64> {
        guarded(py, "stored_otherwise", || Ok(self.tally(py)?.stored_otherwise))
    }

    /// Every row: its number, the account, the status, the error, and how often it was sent again.
    fn rows(&self, py: Python<'_>) -> PyResult<Report> {
        guarded(py, "rows", || self.report_rows(py, |_| true))
    }

    /// The rows that were not done, except pending rows, and those that the service stored with a different value.
    fn failures(&self, py: Python<'_>) -> PyResult<Report> {
        guarded(py, "failures", || self.report_rows(py, RowView::is_failure))
    }

    /// Every field that changes or has changed, with the value before and after.
    fn changes(&self, py: Python<'_>) -> PyResult<Report> {
        guarded(py, "changes", || {
            let mut changes = Vec::new();
            self.with(py, |file| file.for_each_change(|change| changes.push(change)))?;
            Report::of_changes(&changes)
        })
    }

    /// The changes to a value that may be a mistake.
    fn suspicious_changes(&self, py: Python<'_>) -> PyResult<Report> {
        guarded(py, "suspicious_changes", || {
            let mut changes = Vec::new();
            self.with(py, |file| {
                file.for_each_change(|change| {
                    if matches!(&change.after, Value::Text(text) if is_suspicious(text)) {
                        changes.push(change);
                    }
                })
            })?;
            Report::of_changes(&changes)
        })
    }

    /// The first failures as dictionaries. Reads no others.
    fn first_failures<'py>(&self, py: Python<'py>, limit: u32) -> PyResult<Vec<Bound<'py, PyDict>>> {
        guarded(py, "first_failures", || {
            Report::of_rows(&self.with(py, |file| file.first_failures(limit))?)?.records(py, None, 0)
        })
    }

    /// The first changes as dictionaries, and their total. Reads no others.
    fn first_changes<'py>(&self, py: Python<'py>, limit: u32) -> PyResult<(Vec<Bound<'py, PyDict>>, u64)> {
        guarded(py, "first_changes", || {
            let changes = self.with(py, |file| file.first_changes(limit))?;
            let total = self.tally(py)?.changes;
            Ok((Report::of_changes(&changes)?.records(py, None, 0)?, total))
        })
    }

    /// The plan that reverts this one, in a file next to it: a new one for the key of this client, or an existing one
    /// with open rows.
    fn revert_file(&self, py: Python<'_>, client: &Client) -> PyResult<Self> {
        guarded(py, "revert_file", || {
            let key = &client.here(py)?.config().api_key;
            let file = self.with(py, |file| file.revert_file_with(Some(key), self.recovers))?;
            Ok(Self::new(file, Known::default()))
        })
    }

    /// Returns the name that a plan, its reverts and their reverts have in common.
    #[staticmethod]
    #[expect(clippy::needless_pass_by_value, reason = "pyo3 passes it by value")]
    fn origin(py: Python<'_>, path: PathBuf) -> PyResult<String> {
        guarded(py, "origin", || Ok(file::PlanFile::origin(&path)))
    }
}

/// The purpose that a plan must have.
struct Target<'a> {
    base_url: String,
    act_as: Option<String>,
    config: &'a Config,
    new_key: bool,
}

impl<'a> Target<'a> {
    fn of(config: &'a Config, new_key: bool) -> Self {
        let act_as = config.act_as.as_ref().map(ToString::to_string);
        Self { base_url: config.base_url.to_string(), act_as, config, new_key }
    }

    fn check(&self, file: &file::PlanFile) -> Result<(), FileError> {
        let (act_as, team, key) = (self.act_as.as_deref(), self.config.team_id, &self.config.api_key);
        file.check_target(&self.base_url, act_as, team, key, self.new_key)
    }
}

impl PlanFile {
    fn report_rows(&self, py: Python<'_>, wanted: impl Fn(&RowView) -> bool + Send + Sync) -> PyResult<Report> {
        let mut rows = Vec::new();
        self.with(py, |file| file.for_each_row(|row| rows.extend(Some(row).filter(&wanted))))?;
        Report::of_rows(&rows)
    }
}

impl ToPython for Option<(file::PlanFile, Known)> {
    fn to_python(self, py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        Ok(self.map(|(file, known)| PlanFile::new(file, known)).into_pyobject(py)?.into_any())
    }
}

fn refused(py: Python<'_>, error: &FileError) -> PyErr {
    errors::plan(py, &error.to_string())
}

/// A table of a plan's rows or changes.
#[pyclass(frozen, module = "replyio._replyio")]
pub(super) struct Report(RecordBatch);

#[pymethods]
impl Report {
    /// Returns the table, as the Arrow PyCapsule interface defines it.
    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_stream__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyCapsule>> {
        guarded(py, "arrow", || {
            // The interface allows a producer to ignore a requested schema.
            let _ = requested_schema;
            arrow::exported(py, vec![self.0.clone()], self.0.schema())
        })
    }

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        guarded(py, "len", || Ok(self.0.num_rows()))
    }

    /// Returns a number of rows as dictionaries, from a given row on.
    #[pyo3(signature = (limit=None, first=0))]
    fn records<'py>(&self, py: Python<'py>, limit: Option<usize>, first: usize) -> PyResult<Vec<Bound<'py, PyDict>>> {
        guarded(py, "records", || {
            let end = first.saturating_add(limit.unwrap_or(usize::MAX)).min(self.0.num_rows());
            (first..end).map(|row| self.record(py, row)).collect()
        })
    }

    /// Returns the rows at these positions, in this order.
    #[expect(clippy::needless_pass_by_value, reason = "pyo3 passes it by value")]
    fn select(&self, py: Python<'_>, places: Vec<usize>) -> PyResult<Self> {
        guarded(py, "select", || self.taken(&places))
    }

    /// Returns the rows that have one of these statuses.
    #[expect(clippy::needless_pass_by_value, reason = "pyo3 passes it by value")]
    fn of_status(&self, py: Python<'_>, statuses: Vec<String>) -> PyResult<Self> {
        guarded(py, "of_status", || {
            let column =
                self.0.column_by_name("status").and_then(|column| column.as_any().downcast_ref::<StringArray>());
            let column = column.ok_or_else(|| PyValueError::new_err("the table has no column status"))?;
            let is_wanted = |place: &usize| statuses.iter().any(|status| status == column.value(*place));
            self.taken(&(0..self.0.num_rows()).filter(is_wanted).collect::<Vec<_>>())
        })
    }
}

type Moments = PrimitiveArray<TimestampMillisecondType>;

/// Returns the values at these positions. Other types than those of a report do not occur.
fn taken(column: &dyn Array, places: &[usize]) -> Option<ArrayRef> {
    let is_there = |place: &usize| column.is_valid(*place);
    let column_of = column.as_any();
    if let Some(texts) = column_of.downcast_ref::<StringArray>() {
        let values = places.iter().map(|place| is_there(place).then(|| texts.value(*place)));
        return Some(Arc::new(values.collect::<StringArray>()));
    }
    if let Some(numbers) = column_of.downcast_ref::<Int64Array>() {
        let values = places.iter().map(|place| is_there(place).then(|| numbers.value(*place)));
        return Some(Arc::new(values.collect::<Int64Array>()));
    }
    if let Some(numbers) = column_of.downcast_ref::<UInt64Array>() {
        let values = places.iter().map(|place| is_there(place).then(|| numbers.value(*place)));
        return Some(Arc::new(values.collect::<UInt64Array>()));
    }
    if let Some(flags) = column_of.downcast_ref::<BooleanArray>() {
        let values = places.iter().map(|place| is_there(place).then(|| flags.value(*place)));
        return Some(Arc::new(values.collect::<BooleanArray>()));
    }
    let moments = column_of.downcast_ref::<Moments>()?;
    let values = places.iter().map(|place| is_there(place).then(|| moments.value(*place)));
    Some(Arc::new(values.collect::<Moments>().with_timezone("UTC")))
}

impl Report {
    fn taken(&self, places: &[usize]) -> PyResult<Self> {
        if places.iter().any(|place| *place >= self.0.num_rows()) {
            return Err(PyIndexError::new_err("there is no such row"));
        }
        let columns = self.0.columns().iter().map(|column| taken(&**column, places)).collect::<Option<Vec<_>>>();
        let columns = columns.ok_or_else(|| PyValueError::new_err("a column has another type"))?;
        let size = RecordBatchOptions::new().with_row_count(Some(places.len()));
        let batch = RecordBatch::try_new_with_options(self.0.schema(), columns, &size);
        batch.map(Self).map_err(|error| PyValueError::new_err(error.to_string()))
    }

    fn record<'py>(&self, py: Python<'py>, row: usize) -> PyResult<Bound<'py, PyDict>> {
        let record = PyDict::new(py);
        for (field, column) in self.0.schema().fields().iter().zip(self.0.columns()) {
            let column = column.as_any();
            if self.0.column_by_name(field.name()).is_some_and(|column| column.is_null(row)) {
                record.set_item(field.name(), py.None())?;
            } else if let Some(texts) = column.downcast_ref::<StringArray>() {
                record.set_item(field.name(), texts.value(row))?;
            } else if let Some(numbers) = column.downcast_ref::<Int64Array>() {
                record.set_item(field.name(), numbers.value(row))?;
            } else if let Some(numbers) = column.downcast_ref::<UInt64Array>() {
                record.set_item(field.name(), numbers.value(row))?;
            } else if let Some(flags) = column.downcast_ref::<BooleanArray>() {
                record.set_item(field.name(), flags.value(row))?;
            } else if let Some(moments) = column.downcast_ref::<Moments>() {
                let moment = DateTime::of_microsecond(moments.value(row).saturating_mul(1_000));
                record.set_item(field.name(), member_to_python(py, MemberValue::DateTime(moment))?)?;
            }
        }
        Ok(record)
    }

    fn of_rows(rows: &[RowView]) -> PyResult<Self> {
        let moments = rows.iter().map(|row| row.finished_at_ms).collect::<Moments>();
        Self::new(vec![
            ("row", Arc::new(UInt64Array::from_iter_values(rows.iter().map(|row| row.row)))),
            ("id", Arc::new(rows.iter().map(|row| row.account_id).collect::<Int64Array>())),
            ("key", Arc::new(rows.iter().map(|row| row.key.as_deref()).collect::<StringArray>())),
            ("status", Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.status.as_str())))),
            ("error", Arc::new(rows.iter().map(|row| row.error.as_deref()).collect::<StringArray>())),
            ("repeated", Arc::new(UInt64Array::from_iter_values(rows.iter().map(|row| row.repeated)))),
            ("stored_otherwise", Arc::new(rows.iter().map(|row| Some(row.stored_otherwise)).collect::<BooleanArray>())),
            ("done_at", Arc::new(moments.with_timezone("UTC"))),
        ])
    }

    fn of_changes(changes: &[ChangeView]) -> PyResult<Self> {
        Self::new(vec![
            ("row", Arc::new(UInt64Array::from_iter_values(changes.iter().map(|change| change.row)))),
            ("id", Arc::new(changes.iter().map(|change| change.account_id).collect::<Int64Array>())),
            ("field", Arc::new(StringArray::from_iter_values(changes.iter().map(|change| change.field.name())))),
            ("before", Arc::new(changes.iter().map(|change| text(&change.before)).collect::<StringArray>())),
            ("after", Arc::new(changes.iter().map(|change| text(&change.after)).collect::<StringArray>())),
            ("status", Arc::new(StringArray::from_iter_values(changes.iter().map(|change| change.status.as_str())))),
        ])
    }

    fn new(columns: Vec<(&str, ArrayRef)>) -> PyResult<Self> {
        let fields = columns.iter().map(|(name, column)| ArrowField::new(*name, column.data_type().clone(), true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let batch = RecordBatch::try_new(schema, columns.into_iter().map(|(_, column)| column).collect());
        batch.map(Self).map_err(|error| PyValueError::new_err(error.to_string()))
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::Text(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
    }
}
