//! Single values of Python as cells of a table.

use pyo3::exceptions::PyOverflowError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBool, PyFloat, PyInt, PyString, PyType};

use super::convert::type_name;
use super::once::once;
use crate::plan::source::{Builder, Given, Number};

/// A decimal with more digits than this before the point is no 64-bit integer.
const MOST_DIGITS: i64 = 20;

/// Adds a value to a column.
pub(super) fn push(builder: &mut Builder, column: usize, value: &Bound<'_, PyAny>) -> PyResult<()> {
    if value.is_none() {
        builder.push(column, Given::Empty);
    } else if let Ok(text) = value.cast::<PyString>() {
        builder.push(column, text.to_str().map_or(Given::HalfText, Given::Text));
    } else if value.is_instance_of::<PyBool>() {
        builder.push(column, Given::Other("bool"));
    } else if value.is_exact_instance_of::<PyInt>() {
        builder.push(column, Given::Number(integer(value)?, "int"));
    } else if let Ok(number) = value.cast::<PyFloat>() {
        builder.push(column, Given::from(number.value()));
    } else {
        let name = type_name(value);
        builder.push(column, unusual(value, &name)?);
    }
    Ok(())
}

fn unusual<'a>(value: &Bound<'_, PyAny>, name: &'a str) -> PyResult<Given<'a>> {
    let py = value.py();
    if value.is_instance(decimal(py)?)? {
        return Ok(of_decimal(value)?.map_or(Given::Empty, |number| Given::Number(number, name)));
    }
    let module = value.get_type().module().map(|module| module.to_string_lossy().into_owned()).unwrap_or_default();
    let kind =
        if module == "numpy" { value.getattr("dtype")?.getattr("kind")?.extract::<String>()? } else { String::new() };
    if kind == "f" {
        return Ok(match Given::from(value.extract::<f64>()?) {
            Given::Number(number, _) => Given::Number(number, name),
            given => given,
        });
    }
    // What has no value says so by its name (pandas.NA), or, as NaN does, by not being equal to itself.
    let is_nothing = name == "NAType" || value.ne(value).unwrap_or(false);
    if is_nothing {
        Ok(Given::Empty)
    } else if kind != "b" && value.hasattr("__index__")? {
        Ok(Given::Number(integer(value)?, name))
    } else {
        Ok(Given::Other(name))
    }
}

fn integer(value: &Bound<'_, PyAny>) -> PyResult<Number> {
    match value.extract::<i64>() {
        Ok(number) => Ok(Number::Integer(number)),
        Err(error) if error.is_instance_of::<PyOverflowError>(value.py()) => Ok(Number::TooLarge),
        Err(error) => Err(error),
    }
}

fn decimal(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static DECIMAL: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let class = || Ok(py.import("decimal")?.getattr("Decimal")?.cast_into::<PyType>()?.unbind());
    Ok(once(py, &DECIMAL, class)?.bind(py))
}

fn of_decimal(value: &Bound<'_, PyAny>) -> PyResult<Option<Number>> {
    let is = |question: &str| value.call_method0(question)?.extract::<bool>();
    if is("is_nan")? {
        return Ok(None);
    }
    if is("is_infinite")? {
        return Ok(Some(Number::NotWhole));
    }
    if value.call_method0("adjusted")?.extract::<i64>()? > MOST_DIGITS {
        return Ok(Some(Number::TooLarge));
    }
    let (whole, parts) = value.call_method0("as_integer_ratio")?.extract::<(Bound<'_, PyAny>, Bound<'_, PyAny>)>()?;
    Ok(Some(if parts.eq(1)? { integer(&whole)? } else { Number::NotWhole }))
}
