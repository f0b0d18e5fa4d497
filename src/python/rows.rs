//! Rows and columns of Python objects, as a table of the core.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyMapping, PyString, PyType};

use super::cells::{float_of, push, refused};
use super::convert::type_name;
use super::errors;
use super::table::TAKEN;
use crate::account::Field;
use crate::plan::MatchOn;
use crate::plan::source::{Builder, Float, Options, Table};

/// After how many rows from Python it is asked whether Ctrl-C was pressed.
const ROWS_BETWEEN_SIGNALS: u64 = 4096;

/// Reads a frame of pandas cell by cell: for want of Arrow, or where Arrow would make one type of several.
pub(super) fn from_frame(frame: &Bound<'_, PyAny>, options: &Options) -> PyResult<Table> {
    let py = frame.py();
    let mut builder = Builder::new(options);
    let mut columns = Vec::new();
    let cells = frame.getattr("iloc")?;
    for (place, name) in frame.getattr("columns")?.try_iter()?.enumerate() {
        let name = name?.str()?;
        let column = builder.add_column(&name.to_string_lossy()).map_err(|error| refused(py, &builder, &error))?;
        if builder.is_wanted(column) {
            let values = cells.get_item((py.Ellipsis(), place))?;
            // Pandas makes a float of Python of every float.
            let dtype = values.getattr("dtype")?;
            let dtype = dtype.getattr("categories").and_then(|values| values.getattr("dtype")).unwrap_or(dtype);
            let is_float = dtype.getattr("kind").is_ok_and(|kind| kind.eq("f").unwrap_or(false));
            let float = if is_float { float_of(&dtype)? } else { Float::Double };
            columns.push((column, float, values.try_iter()?));
        }
    }
    for _ in 0..frame.len()? {
        check_signals(py, &builder)?;
        for (column, float, values) in &mut columns {
            let value = values.next().ok_or_else(|| errors::internal(py, "a column of pandas is too short"))??;
            push(&mut builder, *column, &value, *float)?;
        }
        builder.end_row();
    }
    builder.finish(None).map_err(|error| errors::of_table(py, &error))
}

fn check_signals(py: Python<'_>, builder: &Builder) -> PyResult<()> {
    if builder.rows().is_multiple_of(ROWS_BETWEEN_SIGNALS) {
        // Others who wait for the interpreter get their turn.
        py.detach(|| ());
        py.check_signals()?;
    }
    Ok(())
}

/// Reads rows one by one. What the iterable raises is passed on.
pub(super) fn from_rows(data: &Bound<'_, PyAny>, options: &Options) -> PyResult<Table> {
    let py = data.py();
    let refusal = |hint: &str| PyTypeError::new_err(format!("a table must be {TAKEN}, not {}{hint}", type_name(data)));
    if data.cast::<PyMapping>().is_ok() {
        return Err(refusal("; give the columns of a dict to pandas.DataFrame() or polars.DataFrame()"));
    }
    if data.hasattr("collect")? {
        return Err(refusal("; call its collect() first"));
    }
    if data.is_instance_of::<PyBytes>() {
        return Err(refusal("; give a path as text"));
    }
    let rows =
        data.try_iter().map_err(|error| if error.is_instance_of::<PyTypeError>(py) { refusal("") } else { error })?;
    let mut reader = RowReader::new(py, options)?;
    for row in rows {
        reader.add(&row?)?;
    }
    reader.builder.finish(None).map_err(|error| errors::of_table(py, &error))
}

struct RowReader<'py> {
    builder: Builder,
    account: Bound<'py, PyAny>,
    account_names: Vec<Bound<'py, PyString>>,
    /// The dataclass of the row before, and the names of its fields.
    class: Option<(Bound<'py, PyType>, Vec<Bound<'py, PyString>>)>,
}

impl<'py> RowReader<'py> {
    fn new(py: Python<'py>, options: &Options) -> PyResult<Self> {
        let id = (options.match_on == MatchOn::Id).then_some("id");
        let names = id.into_iter().chain(Field::ALL.iter().map(|field| field.name()));
        Ok(Self {
            builder: Builder::new(options),
            account: py.import("replyio.models")?.getattr("ContactAccount")?,
            account_names: names.map(|name| PyString::new(py, name)).collect(),
            class: None,
        })
    }

    fn add(&mut self, row: &Bound<'py, PyAny>) -> PyResult<()> {
        check_signals(row.py(), &self.builder)?;
        if let Ok(cells) = row.cast_exact::<PyDict>() {
            for (place, (name, value)) in cells.iter().enumerate() {
                self.cell(place, &name, &value)?;
            }
        } else if let Ok(cells) = row.cast::<PyMapping>() {
            for (place, item) in cells.items()?.iter().enumerate() {
                let (name, value) = item.extract::<(Bound<'_, PyAny>, Bound<'_, PyAny>)>()?;
                self.cell(place, &name, &value)?;
            }
        } else {
            for (place, name) in self.names(row)?.into_iter().enumerate() {
                self.cell(place, name.as_any(), &row.getattr(&name)?)?;
            }
        }
        self.builder.end_row();
        Ok(())
    }

    fn cell(&mut self, place: usize, name: &Bound<'py, PyAny>, value: &Bound<'py, PyAny>) -> PyResult<()> {
        let Ok(name) = name.cast::<PyString>() else {
            let (row, found) = (self.builder.rows(), type_name(name));
            return Err(PyTypeError::new_err(format!("row {row} has a column that is named by {found}, not by text")));
        };
        let name = name.to_string_lossy();
        // Most rows name their columns in the same order.
        let column = if self.builder.is_named(place, &name) { Ok(place) } else { self.builder.column(&name) };
        let column = column.map_err(|error| refused(value.py(), &self.builder, &error))?;
        if self.builder.is_wanted(column) { push(&mut self.builder, column, value, Float::Double) } else { Ok(()) }
    }

    /// The names of the fields of a dataclass instance: of an account those that can be sent.
    fn names(&mut self, row: &Bound<'py, PyAny>) -> PyResult<Vec<Bound<'py, PyString>>> {
        let class = row.get_type();
        match &self.class {
            Some((known, names)) if known.is(&class) => return Ok(names.clone()),
            _ => {}
        }
        let names = if row.is_instance(&self.account)? {
            self.account_names.clone()
        } else if class.hasattr("__dataclass_fields__")? {
            let fields = row.py().import("dataclasses")?.call_method1("fields", (&class,))?;
            fields
                .try_iter()?
                .map(|field| Ok(field?.getattr("name")?.cast_into::<PyString>()?))
                .collect::<PyResult<Vec<_>>>()?
        } else {
            let (number, found) = (self.builder.rows(), type_name(row));
            let message = format!("row {number} must be a mapping or a dataclass instance, not {found}");
            return Err(PyTypeError::new_err(message));
        };
        self.class = Some((class, names.clone()));
        Ok(names)
    }
}
