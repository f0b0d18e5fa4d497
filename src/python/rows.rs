//! Converts rows and columns of Python objects to a table of the core.

use std::rc::Rc;
use std::time::{Duration, Instant};

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyIterator, PyList, PyMapping, PyString, PyTuple, PyType};

use super::cells::{float_of, push, refused};
use super::convert::{TAKEN, type_name};
use super::{errors, exit};
use crate::account::Field;
use crate::plan::MatchOn;
use crate::plan::source::{Builder, Float, Options, Table};

/// The number of rows between two checks for Ctrl-C.
const ROWS_BETWEEN_SIGNALS: u64 = 256;

/// How long other threads wait for the interpreter. An event loop is such a thread.
///
/// `CPython` passes the interpreter on only to a thread that has waited for 5 ms without a change. A release before
/// that wakes the thread in vain, and its wait begins again.
const TURN: Duration = Duration::from_millis(6);

/// The number of rows between two looks at the clock.
const ROWS_BETWEEN_LOOKS: u64 = 16;

/// Reads a pandas frame cell by cell: if Arrow is missing, or would convert several types to one.
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
            let float = float_in(values.getattr("dtype")?)?;
            columns.push((column, float, values.try_iter()?));
        }
    }
    let mut pauses = Pauses::new();
    for _ in 0..frame.len()? {
        pauses.after(py, builder.rows())?;
        for (column, float, values) in &mut columns {
            let value = values.next().ok_or_else(|| errors::internal(py, "a column of pandas is too short"))??;
            push(&mut builder, *column, &value, *float)?;
        }
        builder.end_row();
    }
    exit::detached(py, || builder.finish(None)).map_err(|error| errors::of_table(py, &error))
}

/// Returns the precision of the floats of a column: pandas converts each to a Python float, also those that a
/// categorical, a sparse column or a type of Arrow contains.
fn float_in<'py>(dtype: Bound<'py, PyAny>) -> PyResult<Float> {
    let inner = |dtype: &Bound<'py, PyAny>| {
        let of_categories = dtype.getattr("categories").and_then(|values| values.getattr("dtype")).ok();
        let mut names = ["subtype", "pyarrow_dtype", "value_type", "storage_type"].into_iter();
        of_categories.or_else(|| names.find_map(|name| dtype.getattr(name).ok()))
    };
    let innermost = std::iter::successors(Some(dtype), inner).last();
    innermost.map_or(Ok(Float::Double), |dtype| float_of(&dtype))
}

/// Returns whether an object is a Series of pandas. One that is a row has values of several types, which Arrow refuses.
pub(super) fn is_series(data: &Bound<'_, PyAny>) -> PyResult<bool> {
    let class = data.get_type();
    Ok(class.name()? == "Series" && class.module()?.to_string_lossy().split('.').next() == Some("pandas"))
}

/// Returns how to get a table from an object that is not one.
fn hint(data: &Bound<'_, PyAny>) -> PyResult<Option<&'static str>> {
    let class = data.get_type();
    let module = class.module()?.to_string_lossy().into_owned();
    let library = module.split('.').next().unwrap_or_default();
    Ok(match (library, &*class.name()?.to_string_lossy()) {
        ("dask" | "dask_expr", _) => Some("; call its compute() first"),
        ("ray", _) => Some("; call its to_pandas() first"),
        _ if is_series(data)? => {
            Some("; a Series is one column, or one row: pass a DataFrame, or series.to_dict() in a list")
        }
        ("numpy", "ndarray") => Some("; pass the array and its column names to pandas.DataFrame()"),
        ("pandas" | "polars", "DataFrame") | ("pyarrow", "Table" | "RecordBatch") => {
            Some("; this version of the library has no __arrow_c_stream__: install a newer one")
        }
        _ if data.hasattr("collect")? => Some("; call its collect() first"),
        _ if data.is_instance_of::<PyBytes>() => Some("; pass the path as a str"),
        _ if data.hasattr("__aiter__")? => Some("; collect its rows first: [row async for row in rows]"),
        _ if data.hasattr("readable")? => Some("; pass the path of the file"),
        _ => None,
    })
}

/// Interrupts the reading of rows for other threads and for Ctrl-C.
struct Pauses {
    next: Instant,
}

impl Pauses {
    fn new() -> Self {
        Self { next: Instant::now() + TURN }
    }

    fn after(&mut self, py: Python<'_>, rows: u64) -> PyResult<()> {
        if !rows.is_multiple_of(ROWS_BETWEEN_SIGNALS) {
            return Ok(());
        }
        if Instant::now() >= self.next {
            exit::detached(py, || ());
            *self = Self::new();
        }
        py.check_signals()
    }
}

/// Returns the iterator over the rows of an object that is no other table.
pub(super) fn rows_of<'py>(data: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyIterator>> {
    let py = data.py();
    let refusal = |hint: &str| PyTypeError::new_err(format!("a table must be {TAKEN}, not {}{hint}", type_name(data)));
    if data.cast::<PyMapping>().is_ok() {
        return Err(refusal(
            "; for one row, pass a list: [row]; pass a dict of columns to pandas.DataFrame() or polars.DataFrame()",
        ));
    }
    if let Some(hint) = hint(data)? {
        return Err(refusal(hint));
    }
    data.try_iter().map_err(|error| if error.is_instance_of::<PyTypeError>(py) { refusal("") } else { error })
}

/// Reads rows one by one, for at most this time. Returns whether there are no more. Propagates the exceptions of the
/// iterator.
pub(super) fn read_rows(
    rows: &Bound<'_, PyIterator>,
    builder: Builder,
    options: &Options,
    patience: Option<Duration>,
) -> PyResult<(Builder, bool)> {
    let begun = Instant::now();
    let mut reader = RowReader::new(rows.py(), builder, options)?;
    for row in rows {
        reader.add(&row?)?;
        let is_look = reader.builder.rows().is_multiple_of(ROWS_BETWEEN_LOOKS);
        if is_look && patience.is_some_and(|patience| begun.elapsed() >= patience) {
            return Ok((reader.builder, false));
        }
    }
    Ok((reader.builder, true))
}

/// The accepted kinds of rows.
const ROW: &str = "a mapping, a named tuple, or an instance of a dataclass, an attrs class or a pydantic model";

/// How to read rows of a class.
#[derive(Clone)]
enum Shape<'py> {
    /// By the position of its values: a named tuple, or a row of `SQLAlchemy`. Two columns of a query may have the same
    /// name.
    Values,
    /// The same for a row of sqlite3, which stores its names elsewhere.
    Sqlite,
    /// By these attributes.
    Fields(Rc<[Bound<'py, PyString>]>),
    /// By these attributes of a pydantic model, and its extra attributes.
    Model(Rc<[Bound<'py, PyString>]>),
}

/// The names of fields that are objects.
fn names_of<'py>(fields: &Bound<'py, PyAny>) -> PyResult<Vec<Bound<'py, PyString>>> {
    fields.try_iter()?.map(|field| Ok(field?.getattr("name")?.cast_into::<PyString>()?)).collect()
}

fn texts<'py>(names: &Bound<'py, PyAny>) -> PyResult<Vec<Bound<'py, PyString>>> {
    names.try_iter()?.map(|name| Ok(name?.cast_into::<PyString>()?)).collect()
}

struct RowReader<'py> {
    builder: Builder,
    account: Bound<'py, PyAny>,
    account_names: Rc<[Bound<'py, PyString>]>,
    /// The class of the previous row.
    class: Option<(Bound<'py, PyType>, Shape<'py>)>,
    pauses: Pauses,
}

impl<'py> RowReader<'py> {
    fn new(py: Python<'py>, builder: Builder, options: &Options) -> PyResult<Self> {
        let id = (options.match_on == MatchOn::Id).then_some("id");
        let names = id.into_iter().chain(Field::ALL.iter().map(|field| field.name()));
        Ok(Self {
            builder,
            account: py.import("replyio.models")?.getattr("ContactAccount")?,
            account_names: names.map(|name| PyString::new(py, name)).collect(),
            class: None,
            pauses: Pauses::new(),
        })
    }

    fn add(&mut self, row: &Bound<'py, PyAny>) -> PyResult<()> {
        self.pauses.after(row.py(), self.builder.rows())?;
        if let Ok(cells) = row.cast::<PyMapping>() {
            // Reading a cell may run code that changes the mapping.
            for (place, item) in cells.items()?.iter().enumerate() {
                let (name, value) = item.extract::<(Bound<'_, PyAny>, Bound<'_, PyAny>)>()?;
                self.cell(place, &name, &value)?;
            }
        } else {
            self.object(row)?;
        }
        self.builder.end_row();
        Ok(())
    }

    fn object(&mut self, row: &Bound<'py, PyAny>) -> PyResult<()> {
        match self.shape(row)? {
            Shape::Values => self.values(row, &row.getattr("_fields")?),
            Shape::Sqlite => self.values(row, &row.call_method0("keys")?),
            Shape::Fields(names) => {
                for (place, name) in names.iter().enumerate() {
                    self.cell(place, name.as_any(), &row.getattr(name)?)?;
                }
                Ok(())
            }
            Shape::Model(names) => {
                let set = row.getattr("model_fields_set")?;
                for (place, name) in names.iter().enumerate() {
                    let value = row.getattr(name)?;
                    // A model that was created without a field has no value for it, unless the field has a default.
                    if !value.is_none() || set.contains(name)? {
                        self.cell(place, name.as_any(), &value)?;
                    }
                }
                if let Ok(extra) = row.getattr("model_extra")?.cast::<PyDict>() {
                    for (place, (name, value)) in extra.iter().enumerate() {
                        self.cell(names.len() + place, &name, &value)?;
                    }
                }
                Ok(())
            }
        }
    }

    fn values(&mut self, row: &Bound<'py, PyAny>, names: &Bound<'py, PyAny>) -> PyResult<()> {
        if names.len()? != row.len()? {
            return Err(PyTypeError::new_err(format!(
                "row {} has a different number of values than names",
                self.builder.rows()
            )));
        }
        for (place, (name, value)) in names.try_iter()?.zip(row.try_iter()?).enumerate() {
            self.cell(place, &name?, &value?)?;
        }
        Ok(())
    }

    fn cell(&mut self, place: usize, name: &Bound<'py, PyAny>, value: &Bound<'py, PyAny>) -> PyResult<()> {
        let Ok(name) = name.cast::<PyString>() else {
            let (row, found) = (self.builder.rows(), type_name(name));
            return Err(PyTypeError::new_err(format!("row {row} has a column whose name is {found}, not text")));
        };
        let name = name.to_string_lossy();
        // Most rows have their columns in the same order.
        let column = if self.builder.is_named(place, &name) { Ok(place) } else { self.builder.column(&name) };
        let column = column.map_err(|error| refused(value.py(), &self.builder, &error))?;
        if self.builder.is_wanted(column) { push(&mut self.builder, column, value, Float::Double) } else { Ok(()) }
    }

    /// Returns how to read a row: of an account, only the writable fields.
    fn shape(&mut self, row: &Bound<'py, PyAny>) -> PyResult<Shape<'py>> {
        let class = row.get_type();
        match &self.class {
            Some((known, shape)) if known.is(&class) => return Ok(shape.clone()),
            _ => {}
        }
        let shape = if row.is_instance(&self.account)? {
            Shape::Fields(Rc::clone(&self.account_names))
        } else if class.hasattr("__dataclass_fields__")? {
            let fields = row.py().import("dataclasses")?.call_method1("fields", (&class,))?;
            Shape::Fields(names_of(&fields)?.into())
        } else if class.hasattr("__attrs_attrs__")? {
            Shape::Fields(names_of(&class.getattr("__attrs_attrs__")?)?.into())
        } else if class.hasattr("model_fields")? && row.hasattr("model_fields_set")? {
            Shape::Model(texts(&class.getattr("model_fields")?)?.into())
        } else if class.hasattr("_fields")? && row.hasattr("_asdict")? {
            Shape::Values
        } else if class.name()? == "Row" && class.module()? == "sqlite3" {
            Shape::Sqlite
        } else {
            let (number, found) = (self.builder.rows(), type_name(row));
            let is_bare = row.cast::<PyTuple>().is_ok() || row.cast::<PyList>().is_ok();
            let hint = if is_bare {
                "; make a DataFrame of the rows and their column names first, or have sqlite3 name them with \
                    connection.row_factory = sqlite3.Row"
            } else if is_series(row)? {
                "; pass the DataFrame itself"
            } else {
                ""
            };
            let message = format!("row {number} must be {ROW}, not {found}{hint}");
            return Err(PyTypeError::new_err(message));
        };
        self.class = Some((class, shape.clone()));
        Ok(shape)
    }
}
