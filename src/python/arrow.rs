//! The Arrow C interface: reads tables from it, and passes batches on.

use std::path::Path;

use arrow_array::cast::AsArray;
use arrow_array::ffi_stream::FFI_ArrowArrayStream;
use arrow_array::{Array, ArrayRef, RecordBatch, RecordBatchIterator, RecordBatchOptions};
use arrow_schema::{ArrowError, DataType, FieldRef, Schema, SchemaRef};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{IntoPyDict, PyCapsule, PyDict};
use pyo3_arrow::ffi::ArrayReader;
use pyo3_arrow::{PyArray, PyArrayReader};

use super::convert::{TAKEN, type_name};
use super::{errors, exit};
use crate::account::FieldError;
use crate::plan::source::{Options, Table};

/// Returns batches as the stream of the Arrow PyCapsule interface.
pub(super) fn exported(py: Python<'_>, batches: Vec<RecordBatch>, schema: SchemaRef) -> PyResult<Bound<'_, PyCapsule>> {
    let reader = RecordBatchIterator::new(batches.into_iter().map(Ok), schema);
    PyCapsule::new_with_value(py, FFI_ArrowArrayStream::new(Box::new(reader)), c"arrow_array_stream")
}

/// Returns the library if the data is one of its `DataFrame`s. Imports no library for this.
pub(super) fn frame_of<'py>(data: &Bound<'py, PyAny>, library: &str) -> PyResult<Option<Bound<'py, PyAny>>> {
    let modules = data.py().import("sys")?.getattr("modules")?.cast_into::<PyDict>()?;
    let Some(library) = modules.get_item(library)? else { return Ok(None) };
    match library.getattr("DataFrame") {
        Ok(class) if data.is_instance(&class)? => Ok(Some(library)),
        _ => Ok(None),
    }
}

/// Returns whether a type of polars contains the type Null.
fn has_null(kind: &Bound<'_, PyAny>, nothing: &Bound<'_, PyAny>) -> PyResult<bool> {
    if kind.eq(nothing)? {
        return Ok(true);
    }
    if let Some(inner) = kind.getattr_opt("inner")? {
        return has_null(&inner, nothing);
    }
    let Some(fields) = kind.getattr_opt("fields")? else { return Ok(false) };
    for field in fields.try_iter()? {
        if has_null(&field?.getattr("dtype")?, nothing)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Returns a frame of polars that exports to Arrow: the columns that the table does not use have no values, because one
/// that does not convert would refuse them all. For a column of the type Null, polars exports one buffer too many,
/// which is refused (polars issue 22934).
pub(super) fn exportable<'py>(
    frame: &Bound<'py, PyAny>,
    polars: &Bound<'py, PyAny>,
    options: &Options,
) -> PyResult<Bound<'py, PyAny>> {
    let (nothing, text) = (polars.getattr("Null")?, polars.getattr("String")?);
    let (mut empty, mut exact, mut faults) = (Vec::new(), Vec::new(), Vec::new());
    for (name, kind) in frame.getattr("schema")?.cast_into::<PyDict>()?.iter() {
        let column: String = name.extract()?;
        if !options.wants(&column) || kind.eq(&nothing)? {
            empty.push(polars.call_method1("lit", (frame.py().None(), &text))?.call_method1("alias", (name,))?);
            continue;
        }
        match kind.str()?.to_string_lossy().as_ref() {
            "Int128" | "UInt128" => exact.push((name, &text)),
            text if text == "Object" || has_null(&kind, &nothing)? => {
                faults.push(FieldError::new(column, format!("has the type {text}, which does not convert to Arrow")));
            }
            _ => {}
        }
    }
    if !faults.is_empty() {
        return Err(errors::refused(frame.py(), "table", &faults));
    }
    let frame = if empty.is_empty() { frame.clone() } else { frame.call_method1("with_columns", (empty,))? };
    if exact.is_empty() { Ok(frame) } else { frame.call_method1("cast", (exact.into_py_dict(frame.py())?,)) }
}

/// Returns a frame that includes its named index as a column. pyarrow would do this, but not for an index that it
/// considers a range: the presence of ids must not depend on whether they are consecutive.
pub(super) fn with_named_index<'py>(frame: &Bound<'py, PyAny>, options: &Options) -> PyResult<Bound<'py, PyAny>> {
    let py = frame.py();
    let columns = frame.getattr("columns")?;
    let (mut levels, mut names, mut faults) = (Vec::new(), Vec::<Bound<'py, PyAny>>::new(), Vec::new());
    for (level, name) in frame.getattr("index")?.getattr("names")?.try_iter()?.enumerate() {
        let name = name?;
        let text = name.str()?.to_string_lossy().into_owned();
        let is_repeated = names.iter().any(|other| other.eq(&name).unwrap_or(false));
        let has_other = is_repeated || columns.contains(&name)?;
        // A level that is ignored as unknown counts where fields without a column are cleared.
        if name.is_none() || (has_other && !options.wants(&text)) {
            continue;
        }
        if has_other {
            let other = if is_repeated { "another level of the index" } else { "a column" };
            let message =
                format!("is a level of the index and {other}; drop one with reset_index(level={level}, drop=True)");
            faults.push(FieldError::new(text, message));
        }
        levels.push(level);
        names.push(name);
    }
    if !faults.is_empty() {
        return Err(errors::refused(py, "table", &faults));
    }
    if levels.is_empty() {
        return Ok(frame.clone());
    }
    let arguments = PyDict::new(py);
    arguments.set_item("level", levels)?;
    frame.call_method("reset_index", (), Some(&arguments))
}

/// Returns whether every column of a frame has values of one type. Arrow converts a column of objects to one type:
/// `True` becomes the integer 1 next to other integers.
pub(super) fn is_uniform(frame: &Bound<'_, PyAny>, pandas: &Bound<'_, PyAny>, options: &Options) -> PyResult<bool> {
    let infer = pandas.getattr("api")?.getattr("types")?.getattr("infer_dtype")?;
    let cells = frame.getattr("iloc")?;
    for (place, name) in frame.getattr("columns")?.try_iter()?.enumerate() {
        if !options.wants(&name?.str()?.to_string_lossy()) {
            continue;
        }
        let values = cells.get_item((frame.py().Ellipsis(), place))?;
        let dtype = values.getattr("dtype")?;
        let (values, dtype) = match dtype.getattr("categories") {
            Ok(categories) => (categories.clone(), categories.getattr("dtype")?),
            Err(_) => (values, dtype),
        };
        if dtype.str()?.to_string_lossy().starts_with("Sparse") {
            return Ok(false);
        }
        if dtype.eq("object")? {
            let kind = infer.call1((values,))?.extract::<String>()?;
            if !matches!(kind.as_str(), "string" | "integer" | "empty") {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// Reads a stream of arrays of structs, each a batch of rows.
pub(super) struct Stream {
    arrays: Box<dyn ArrayReader + Send>,
    schema: Schema,
}

/// Returns the stream of an object that has one.
pub(super) fn stream(data: &Bound<'_, PyAny>) -> PyResult<Stream> {
    let capsule = data.call_method0("__arrow_c_stream__")?.cast_into::<PyCapsule>()?;
    let arrays = PyArrayReader::from_arrow_pycapsule(&capsule).and_then(PyArrayReader::into_reader);
    let arrays = arrays.map_err(|error| no_table(data, &error.value(data.py()).to_string()))?;
    let schema = schema(data, &arrays.field())?;
    Ok(Stream { arrays, schema })
}

/// Reads a stream to its end. Its producer may need the interpreter in another thread.
pub(super) fn from_stream(py: Python<'_>, file: Option<&Path>, stream: Stream, options: &Options) -> PyResult<Table> {
    let read = exit::detached(py, move || {
        let Stream { arrays, schema } = stream;
        let batches = arrays.map(|array| batch(&schema, &array?)).collect::<Result<Vec<_>, _>>()?;
        Ok::<_, ArrowError>(Table::from_named_batches(file, &schema, batches, options))
    });
    let table =
        read.map_err(|error| PyValueError::new_err(format!("reading the rows from their source failed: {error}")))?;
    table.map_err(|error| errors::of_table(py, &error))
}

/// Reads a single array of structs.
pub(super) fn from_array(data: &Bound<'_, PyAny>, options: &Options) -> PyResult<Table> {
    let py = data.py();
    let (array, field) = data.extract::<PyArray>()?.into_inner();
    let schema = schema(data, &field)?;
    let batch = batch(&schema, &array).map_err(|error| PyValueError::new_err(error.to_string()))?;
    Table::from_batches(&schema, vec![batch], options).map_err(|error| errors::of_table(py, &error))
}

fn no_table(data: &Bound<'_, PyAny>, why: &str) -> PyErr {
    PyTypeError::new_err(format!("a table must be {TAKEN}; this {} is not one: {why}", type_name(data)))
}

fn schema(data: &Bound<'_, PyAny>, field: &FieldRef) -> PyResult<Schema> {
    match field.data_type() {
        DataType::Struct(fields) => Ok(Schema::new(fields.clone())),
        _ => Err(no_table(data, "it is a single column; put it into a DataFrame with the others")),
    }
}

fn batch(schema: &Schema, array: &ArrayRef) -> Result<RecordBatch, ArrowError> {
    let rows = array.as_struct_opt().filter(|rows| rows.null_count() == 0);
    // The values of a null row are undefined.
    let rows = rows.ok_or_else(|| ArrowError::InvalidArgumentError("a whole row is null".to_owned()))?;
    let size = RecordBatchOptions::new().with_row_count(Some(rows.len()));
    RecordBatch::try_new_with_options(schema.clone().into(), rows.columns().to_vec(), &size)
}
