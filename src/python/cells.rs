//! Converts single Python values to cells of a table.
//!
//! The accepted types are a fixed list, not a guess based on behavior: a tensor with a truth value can also be an
//! index.

use pyo3::exceptions::PyOverflowError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyFloat, PyInt, PyString, PyType};

use super::convert::type_name;
use super::errors;
use super::once::once;
use crate::plan::source::{Builder, CellError, Float, Given, IntegerFault, Number};

/// A decimal with more digits before the point than this is not a 64-bit integer.
const MOST_DIGITS: i64 = 20;

/// Adds a value to a column. `float` is the type of a Python float before a library converted it.
pub(super) fn push(builder: &mut Builder, column: usize, value: &Bound<'_, PyAny>, float: Float) -> PyResult<()> {
    let name;
    let cell = if value.is_none() {
        Given::Empty
    } else if let Ok(text) = value.cast::<PyString>() {
        text.to_str().map_or(Given::HalfText, Given::Text)
    } else if value.is_instance_of::<PyBool>() {
        Given::Other("bool")
    } else if value.is_exact_instance_of::<PyInt>() {
        Given::Number(integer(value)?, "int")
    } else if let Ok(number) = value.cast::<PyFloat>() {
        Given::float(number.value(), float, "float")
    } else {
        name = type_name(value);
        unusual(value, &name)?
    };
    builder.push(column, cell).map_err(|error| refused(value.py(), builder, &error))
}

/// Returns the exception for an invalid row.
pub(super) fn refused(py: Python<'_>, builder: &Builder, error: &CellError) -> PyErr {
    errors::of_row(py, builder.rows(), error)
}

fn unusual<'a>(value: &Bound<'_, PyAny>, name: &'a str) -> PyResult<Given<'a>> {
    let py = value.py();
    if value.is_instance(abstract_class(py, &DECIMAL, "decimal", "Decimal")?)? {
        return Ok(of_decimal(value)?.map_or(Given::Empty, |number| Given::Number(number, name)));
    }
    let module = value.get_type().module().map(|module| module.to_string_lossy().into_owned()).unwrap_or_default();
    if module == "numpy" {
        return of_numpy(value, name);
    }
    if module.starts_with("pandas.") && matches!(name, "NAType" | "NaTType") {
        return Ok(Given::Empty);
    }
    if value.is_instance(abstract_class(py, &INTEGRAL, "numbers", "Integral")?)? {
        return Ok(Given::Number(integer(value)?, name));
    }
    Ok(Given::Other(name))
}

/// Returns a numpy scalar. An array of any shape is not a value.
fn of_numpy<'a>(value: &Bound<'_, PyAny>, name: &'a str) -> PyResult<Given<'a>> {
    let scalar = value.py().import("numpy")?.getattr("generic")?;
    if !value.is_instance(&scalar)? {
        return Ok(Given::Other(name));
    }
    let kind = value.getattr("dtype")?.getattr("kind")?.extract::<char>()?;
    Ok(match kind {
        'f' => of_numpy_float(value, name)?,
        'i' | 'u' => Given::Number(integer(value)?, name),
        'm' | 'M' if value.ne(value)? => Given::Empty,
        _ => Given::Other(name),
    })
}

fn of_numpy_float<'a>(value: &Bound<'_, PyAny>, name: &'a str) -> PyResult<Given<'a>> {
    let number = value.extract::<f64>()?;
    // Longer floats do not come from Python; their loss of precision is detected here.
    if !number.is_nan() && value.ne(number)? {
        return Ok(Given::Number(Number::Fault(IntegerFault::NotWhole), name));
    }
    Ok(Given::float(number, float_of(&value.getattr("dtype")?)?, name))
}

/// Returns the precision of a float type of numpy, pandas or Arrow; any other type contains Python's floats, if any.
pub(super) fn float_of(dtype: &Bound<'_, PyAny>) -> PyResult<Float> {
    let bytes = match dtype.getattr("kind") {
        Ok(kind) if kind.eq("f")? => dtype.getattr("itemsize")?.extract::<usize>()?,
        Ok(_) => 8,
        Err(_) => match dtype.str()?.to_string_lossy().as_ref() {
            "halffloat" => 2,
            "float" => 4,
            _ => 8,
        },
    };
    Ok(match bytes {
        2 => Float::Half,
        4 => Float::Single,
        _ => Float::Double,
    })
}

fn integer(value: &Bound<'_, PyAny>) -> PyResult<Number> {
    match value.extract::<i64>() {
        Ok(number) => Ok(Number::Integer(number)),
        Err(error) if error.is_instance_of::<PyOverflowError>(value.py()) => Ok(Number::Fault(IntegerFault::TooLarge)),
        Err(error) => Err(error),
    }
}

static DECIMAL: PyOnceLock<Py<PyType>> = PyOnceLock::new();
static INTEGRAL: PyOnceLock<Py<PyType>> = PyOnceLock::new();

fn abstract_class<'py>(
    py: Python<'py>,
    cell: &'static PyOnceLock<Py<PyType>>,
    module: &str,
    name: &str,
) -> PyResult<&'py Bound<'py, PyType>> {
    let class = || Ok(py.import(module)?.getattr(name)?.cast_into::<PyType>()?.unbind());
    Ok(once(py, cell, class)?.bind(py))
}

fn of_decimal(value: &Bound<'_, PyAny>) -> PyResult<Option<Number>> {
    let is = |question: &str| value.call_method0(question)?.extract::<bool>();
    if is("is_nan")? {
        return Ok(None);
    }
    if is("is_infinite")? {
        return Ok(Some(Number::Fault(IntegerFault::NotWhole)));
    }
    if is("is_zero")? {
        return Ok(Some(Number::Integer(0)));
    }
    // Its ratio may have as many digits as its exponent says.
    match value.call_method0("adjusted")?.extract::<i64>()? {
        ..0 => return Ok(Some(Number::Fault(IntegerFault::NotWhole))),
        MOST_DIGITS.. => return Ok(Some(Number::Fault(IntegerFault::TooLarge))),
        _ => {}
    }
    let (whole, parts) = value.call_method0("as_integer_ratio")?.extract::<(Bound<'_, PyAny>, Bound<'_, PyAny>)>()?;
    Ok(Some(if parts.eq(1)? { integer(&whole)? } else { Number::Fault(IntegerFault::NotWhole) }))
}
