//! Rows and columns of Python objects, as a table of the core.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyMapping, PyString, PyType};

use super::cells::push;
use super::convert::{TAKEN, type_name};
use super::{errors, exit};
use crate::account::Field;
use crate::plan::MatchOn;
use crate::plan::source::{Builder, Options, Table};

/// After how many rows from Python it is asked whether Ctrl-C was pressed.
const ROWS_BETWEEN_SIGNALS: u64 = 4096;

/// Reads a frame of pandas by its columns, for want of Arrow.
pub(super) fn from_frame(frame: &Bound<'_, PyAny>, options: &Options) -> PyResult<Table> {
    let py = frame.py();
    let mut builder = Builder::new(options);
    let mut add = |name: &Bound<'_, PyAny>, values: &Bound<'_, PyAny>| {
        let column = builder.add_column(&name.str()?.to_string_lossy());
        if builder.is_wanted(column) {
            for value in values.try_iter()? {
                push(&mut builder, column, &value?)?;
            }
        }
        py.check_signals()
    };
    let names: Vec<Bound<'_, PyAny>> = frame.getattr("columns")?.try_iter()?.collect::<PyResult<_>>()?;
    let cells = frame.getattr("iloc")?;
    for (place, name) in names.iter().enumerate() {
        add(name, &cells.get_item((py.Ellipsis(), place))?)?;
    }
    builder.finish(None).map_err(|error| errors::of_table(py, &error))
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
        if self.builder.rows().is_multiple_of(ROWS_BETWEEN_SIGNALS) {
            // Others who wait for the interpreter get their turn.
            exit::detached(row.py(), || ());
            row.py().check_signals()?;
        }
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
        let column = if self.builder.is_named(place, &name) { place } else { self.builder.column(&name) };
        if self.builder.is_wanted(column) { push(&mut self.builder, column, value) } else { Ok(()) }
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
