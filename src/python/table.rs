//! Converts Python data to a table of the core.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pyo3::exceptions::{PyException, PyIndexError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyIterator, PyString};
use pyo3::{PyTraverseError, PyVisit};

use super::arrow::{exportable, frame_of, from_array, from_stream, is_uniform, stream, with_named_index};
use super::convert::type_name;
use super::guard::guarded;
use super::rows::{from_frame, is_series, read_rows, rows_of};
use super::{errors, exit};
use crate::account::{FieldError, nearest};
use crate::lock::lock;
use crate::plan::source::{self, Builder, Key, Options, TableError};
use crate::plan::{Cell, MatchOn, Mode, Nulls};
use crate::private_file::open_linked;

/// Rows to apply to accounts, with their faults, and the options with which they were read.
#[pyclass(frozen, module = "replyio._replyio")]
pub(super) struct Table(Arc<source::Table>, Arc<Options>);

impl Table {
    /// The table itself, and its options.
    pub(super) fn inner(&self) -> (Arc<source::Table>, Arc<Options>) {
        (Arc::clone(&self.0), Arc::clone(&self.1))
    }
}

#[pymethods]
impl Table {
    #[new]
    fn new(py: Python<'_>, data: &Bound<'_, PyAny>, options: &Bound<'_, PyDict>) -> PyResult<Self> {
        guarded(py, "table", || {
            let options = options_from(options)?;
            Ok(Self(Arc::new(table_from(data, &options)?), Arc::new(options)))
        })
    }

    /// Starts to read a table.
    #[staticmethod]
    fn start(py: Python<'_>, data: &Bound<'_, PyAny>, options: &Bound<'_, PyDict>) -> PyResult<TableReader> {
        guarded(py, "start_table", || {
            let options = Arc::new(options_from(options)?);
            let source = if is_rows(data)? {
                Source::Rows(rows_of(data)?.unbind(), Box::new(Mutex::new(Some(Builder::new(&options)))))
            } else {
                Source::Whole(data.clone().unbind())
            };
            Ok(TableReader { source, options })
        })
    }

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        guarded(py, "len", || Ok(usize::try_from(self.0.len()).unwrap_or(usize::MAX)))
    }

    /// The name of the file, or a description of the size.
    #[getter]
    fn description(&self, py: Python<'_>) -> PyResult<&str> {
        guarded(py, "description", || Ok(self.0.description()))
    }

    /// The faults of cells: row, column and message.
    #[getter]
    fn faults(&self, py: Python<'_>) -> PyResult<Vec<(u64, &str, &str)>> {
        guarded(py, "faults", || {
            let faults = self.0.faults().iter();
            Ok(faults.map(|fault| (fault.row, fault.column.as_str(), fault.message.as_str())).collect())
        })
    }

    /// The columns with suspicious texts: column, number of such cells, first row.
    #[getter]
    fn suspicions(&self, py: Python<'_>) -> PyResult<Vec<(&str, u64, u64)>> {
        guarded(py, "suspicions", || {
            Ok(self.0.suspicions().iter().map(|found| (found.column.as_str(), found.cells, found.row)).collect())
        })
    }

    /// Returns the cells of a row by their fields, and its key.
    fn row<'py>(&self, py: Python<'py>, row: u64) -> PyResult<Bound<'py, PyDict>> {
        guarded(py, "row", || {
            if row >= self.0.len() {
                return Err(PyIndexError::new_err("there is no such row"));
            }
            let cells = PyDict::new(py);
            let key = self.0.match_on().as_str();
            match self.0.key(row) {
                Key::Id(id) => cells.set_item(key, id)?,
                Key::Text(text) => cells.set_item(key, text)?,
                Key::Missing => cells.set_item(key, py.None())?,
            }
            for (field, cell) in self.0.row(row) {
                match cell {
                    Cell::Empty => cells.set_item(field.name(), py.None())?,
                    Cell::Text(text) => cells.set_item(field.name(), text)?,
                    Cell::Integer(number) => cells.set_item(field.name(), number)?,
                }
            }
            Ok(cells)
        })
    }
}

/// Reads a table while other tasks of the thread get their turns.
#[pyclass(frozen, module = "replyio._replyio")]
pub(super) struct TableReader {
    source: Source,
    options: Arc<Options>,
}

enum Source {
    /// Rows of Python objects, which must be read in the thread that they belong to, with the rows read so far. Nothing
    /// after the end, and after an error.
    Rows(Py<PyIterator>, Box<Mutex<Option<Builder>>>),
    /// Any other table. Reading it needs the interpreter seldom, so that another thread can do it.
    Whole(Py<PyAny>),
}

fn take(py: Python<'_>, builder: &Mutex<Option<Builder>>) -> PyResult<Builder> {
    lock(builder).take().ok_or_else(|| errors::internal(py, "the rows were already read"))
}

#[pymethods]
impl TableReader {
    /// Reads for this number of seconds what must be read in this thread. Returns whether nothing of that is left.
    fn step(&self, py: Python<'_>, seconds: f64) -> PyResult<bool> {
        guarded(py, "step", || {
            let Source::Rows(rows, builder) = &self.source else { return Ok(true) };
            let patience = Duration::try_from_secs_f64(seconds).unwrap_or_default();
            let (read, has_ended) = read_rows(rows.bind(py), take(py, builder)?, &self.options, Some(patience))?;
            *lock(builder) = Some(read);
            Ok(has_ended)
        })
    }

    /// Returns the table, in any thread.
    fn table(&self, py: Python<'_>) -> PyResult<Table> {
        guarded(py, "table", || {
            let table = match &self.source {
                Source::Rows(_, builder) => {
                    let builder = take(py, builder)?;
                    exit::detached(py, || builder.finish(None)).map_err(|error| errors::of_table(py, &error))
                }
                Source::Whole(data) => table_from(data.bind(py), &self.options),
            };
            Ok(Table(Arc::new(table?), Arc::clone(&self.options)))
        })
    }

    #[expect(clippy::needless_pass_by_value, reason = "pyo3 passes it by value")]
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        match &self.source {
            Source::Rows(rows, _) => visit.call(rows),
            Source::Whole(data) => visit.call(data),
        }
    }
}

/// Reads the options of a table. Ignores other keys of the dictionary.
fn options_from(options: &Bound<'_, PyDict>) -> PyResult<Options> {
    let mut faults = Vec::new();
    let given = |name: &str| Ok::<_, PyErr>(options.get_item(name)?.filter(|value| !value.is_none()));
    let mode = word("mode", given("mode")?, Mode::ALL, Mode::as_str, &mut faults);
    let nulls = word("nulls", given("nulls")?, Nulls::ALL, Nulls::as_str, &mut faults);
    let match_on = word("match_on", given("match_on")?, MatchOn::ALL, MatchOn::as_str, &mut faults);
    let mut found = Options { mode, nulls, match_on, ..Options::default() };
    if let Some(ignore) = given("ignore")? {
        match texts(&ignore) {
            Some(names) => found.ignore = names,
            None if ignore.eq("unknown")? => found.ignore_unknown = true,
            None => faults.push(FieldError::new(
                "ignore",
                "must be a list of column names, which are text, such as \"0\", or \"unknown\" for all other columns",
            )),
        }
    }
    if let Some(columns) = given("columns")? {
        let pair = |(from, to): (Bound<'_, PyAny>, Bound<'_, PyAny>)| Some((from.extract().ok()?, to.extract().ok()?));
        match columns.cast::<PyDict>().ok().and_then(|columns| columns.iter().map(pair).collect()) {
            Some(columns) => found.columns = columns,
            None => faults.push(FieldError::new(
                "columns",
                "must be a dict from column names to field names, which are text, such as {\"0\": \"city\"}",
            )),
        }
    }
    if let Some(words) = given("null_values")? {
        match texts(&words) {
            Some(words) => found.null_values = words,
            None => faults.push(FieldError::new("null_values", "must be a list of strings")),
        }
    }
    if let Some(delimiter) = given("delimiter")? {
        match delimiter
            .extract::<char>()
            .ok()
            .and_then(|delimiter| u8::try_from(delimiter).ok())
            .filter(|byte| is_delimiter(*byte))
        {
            Some(delimiter) => found.delimiter = Some(delimiter),
            None => faults
                .push(FieldError::new("delimiter", "must be one ASCII character other than a quote or a line end")),
        }
    }
    if let Some(encoding) = given("encoding")? {
        let name = encoding.extract::<String>().map_err(|_| "must be the name of an encoding".to_owned());
        match name.and_then(|name| source::check_encoding(&name).map(|()| name)) {
            Ok(name) => found.encoding = Some(name),
            Err(message) => faults.push(FieldError::new("encoding", message)),
        }
    }
    if faults.is_empty() { Ok(found) } else { Err(errors::refused(options.py(), "table", &faults)) }
}

fn is_delimiter(byte: u8) -> bool {
    byte.is_ascii() && !matches!(byte, b'"' | b'\r' | b'\n' | 0)
}

/// Returns the strings of an iterable. A string is an iterable of its letters, which is never intended.
fn texts(values: &Bound<'_, PyAny>) -> Option<Vec<String>> {
    if values.is_instance_of::<PyString>() {
        return None;
    }
    values.try_iter().ok()?.map(|value| value?.extract::<String>()).collect::<PyResult<Vec<_>>>().ok()
}

/// Returns the given word out of several, or the default.
fn word<T: Copy + Default>(
    name: &str,
    given: Option<Bound<'_, PyAny>>,
    all: &[T],
    as_str: fn(T) -> &'static str,
    faults: &mut Vec<FieldError>,
) -> T {
    let Some(given) = given else { return T::default() };
    let words: Vec<_> = all.iter().map(|known| as_str(*known)).collect();
    let Ok(text) = given.extract::<String>() else {
        faults.push(FieldError::new(name, format!("must be one of {}, not {}", words.join(", "), type_name(&given))));
        return T::default();
    };
    let known = all.iter().copied().find(|known| as_str(*known) == text);
    known.unwrap_or_else(|| {
        let meant = nearest(&text, words.iter().copied()).map(|right| format!("; did you mean {right}?"));
        faults.push(FieldError::new(name, format!("must be one of {}{}", words.join(", "), meant.unwrap_or_default())));
        T::default()
    })
}

/// Returns whether an object is rows, if anything, and no other kind of table.
fn is_rows(data: &Bound<'_, PyAny>) -> PyResult<bool> {
    let is_table = data.is_instance_of::<PyString>()
        || data.hasattr("__fspath__")?
        || frame_of(data, "pandas")?.is_some()
        || frame_of(data, "polars")?.is_some()
        || data.hasattr("__arrow_c_stream__")?
        || data.hasattr("__arrow_c_array__")?;
    Ok(!is_table)
}

/// Reads a table from any supported object.
pub(super) fn table_from(data: &Bound<'_, PyAny>, options: &Options) -> PyResult<source::Table> {
    let py = data.py();
    if data.is_instance_of::<PyString>() || data.hasattr("__fspath__")? {
        return from_path(py, &data.extract::<PathBuf>()?, options);
    }
    if let Some(pandas) = frame_of(data, "pandas")? {
        return from_pandas(&with_named_index(data, options)?, &pandas, options);
    }
    let data = &match frame_of(data, "polars")? {
        Some(polars) => exportable(data, &polars, options)?,
        None => data.clone(),
    };
    if data.hasattr("__arrow_c_stream__")? && !is_series(data)? {
        return from_stream(py, None, stream(data)?, options);
    }
    if data.hasattr("__arrow_c_array__")? {
        return from_array(data, options);
    }
    let (builder, _) = read_rows(&rows_of(data)?, Builder::new(options), options, None)?;
    exit::detached(py, || builder.finish(None)).map_err(|error| errors::of_table(py, &error))
}

fn from_pandas(frame: &Bound<'_, PyAny>, pandas: &Bound<'_, PyAny>, options: &Options) -> PyResult<source::Table> {
    let py = frame.py();
    if !frame.hasattr("__arrow_c_stream__")? || !is_uniform(frame, pandas, options)? {
        return from_frame(frame, options);
    }
    match stream(frame) {
        Ok(stream) => from_stream(py, None, stream, options),
        // pyarrow is missing, or a column does not convert to Arrow: reading cell by cell shows which cell is at fault.
        Err(error) if error.is_instance_of::<PyException>(py) => from_frame(frame, options),
        Err(error) => Err(error),
    }
}

fn from_path(py: Python<'_>, path: &Path, options: &Options) -> PyResult<source::Table> {
    let ending = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let table = match ending.as_str() {
        "csv" | "tsv" => exit::detached(py, || source::Table::from_csv(path, options)),
        "jsonl" | "ndjson" => exit::detached(py, || source::Table::from_json_lines(path, options)),
        "parquet" => return from_parquet(py, path, options),
        ending => {
            let hint = match ending {
                "xlsx" | "xlsm" | "xls" | "ods" | "numbers" => {
                    "save the sheet as CSV UTF-8, or read its cells with openpyxl, as the page \"Update from an Excel \
                    file or a CRM export\" of the documentation shows"
                }
                "replyplan" => "a plan is no table: to apply it, use open_plan()",
                _ => "read other files with pandas or polars first, as text",
            };
            let reason = format!("the name must end in .csv, .tsv, .jsonl, .ndjson or .parquet; {hint}");
            Err(TableError::Read { path: path.to_owned(), line: None, reason })
        }
    };
    table.map_err(|error| errors::of_table(py, &error))
}

/// Reads a Parquet file with any installed library.
fn from_parquet(py: Python<'_>, path: &Path, options: &Options) -> PyResult<source::Table> {
    let found = open_linked(path).map_err(|error| TableError::Io { path: path.to_owned(), error });
    found.map_err(|error| errors::of_table(py, &error))?;
    let data = py.import("replyio._parquet")?.getattr("read")?.call1((path,))?;
    let data = match frame_of(&data, "polars")? {
        Some(polars) => exportable(&data, &polars, options)?,
        None => data,
    };
    from_stream(py, Some(path), stream(&data)?, options)
}
