//! Makes foreign text safe, for Python.

use std::borrow::Cow;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

use super::guard::guarded;

/// Makes foreign text safe for people: one line, at most `limit` characters, without characters that control a
/// terminal.
#[pyfunction]
#[pyo3(signature = (text, limit=None))]
pub(super) fn safe_text<'py>(text: &Bound<'py, PyString>, limit: Option<usize>) -> PyResult<Bound<'py, PyString>> {
    guarded(text.py(), "safe_text", || shown(text, limit, crate::text::safe_text))
}

/// `safe_text` for a value: shows every space, doubles each backslash, and puts a text that begins or ends with a space
/// in quotes.
#[pyfunction]
#[pyo3(signature = (text, limit=None))]
pub(super) fn exact_text<'py>(text: &Bound<'py, PyString>, limit: Option<usize>) -> PyResult<Bound<'py, PyString>> {
    guarded(text.py(), "exact_text", || shown(text, limit, crate::text::exact_text))
}

/// Returns whether a text of a table often means an empty value.
#[pyfunction]
pub(super) fn means_nothing(py: Python<'_>, text: &str) -> PyResult<bool> {
    guarded(py, "means_nothing", || Ok(crate::plan::source::means_nothing(text)))
}

fn shown<'py>(
    text: &Bound<'py, PyString>,
    limit: Option<usize>,
    show: fn(&str, usize) -> Cow<'_, str>,
) -> PyResult<Bound<'py, PyString>> {
    let limit = limit.unwrap_or(usize::MAX);
    let Ok(utf8) = text.to_cow() else {
        // Lone surrogates, as in the names of files that are not valid UTF-8, are written as Python writes them.
        let escaped = text.call_method1("encode", ("utf-8", "backslashreplace"))?.cast_into::<PyBytes>()?;
        let utf8 = String::from_utf8_lossy(escaped.as_bytes()).into_owned();
        return Ok(PyString::new(text.py(), &show(&utf8, limit)));
    };
    match show(&utf8, limit) {
        Cow::Borrowed(_) => Ok(text.clone()),
        Cow::Owned(safe) => Ok(PyString::new(text.py(), &safe)),
    }
}
