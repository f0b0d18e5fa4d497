//! One interpreter: the objects that this module keeps belong to the interpreter that created them.

use pyo3::exceptions::PyImportError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use super::once::once;

/// Refuses a second interpreter of the process. It would get exceptions and accounts of the first one's classes, so
/// that `except` would not catch them, and Python would crash after one of the two had ended.
pub(super) fn refuse_a_second(py: Python<'_>) -> PyResult<()> {
    static FIRST: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    // Each interpreter has its own.
    let sys = py.import("sys")?;
    if once(py, &FIRST, || Ok(sys.clone().unbind()))?.bind(py).is(&sys) {
        return Ok(());
    }
    Err(PyImportError::new_err(
        "replyio works in one interpreter of a process, and another interpreter of this process has already imported \
        it; hint: for mod_wsgi, set `WSGIApplicationGroup %{GLOBAL}`; for uWSGI, set `single-interpreter = true`",
    ))
}
