//! The functions that Python calls by itself: at exit, and in a forked child.

use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict};

use super::exit;
use super::guard::guarded;
use crate::sabotage::{self, Guard};

/// Registers them. Call this when the module is loaded: Python calls the functions in reverse order, so that other
/// handlers can still use a client.
pub(super) fn register(py: Python<'_>) -> PyResult<()> {
    if sabotage::is_off(Guard::Exit) {
        return Ok(());
    }
    let hook = PyCFunction::new_closure(py, Some(c"stop_replyio"), None, |arguments, _| {
        guarded(arguments.py(), "exit", || {
            exit::stop(arguments.py());
            Ok(())
        })
    })?;
    py.import("atexit")?.call_method1("register", (hook,))?;
    if cfg!(unix) {
        // It does not enter: it resets the count.
        let hook = PyCFunction::new_closure(py, Some(c"forked_replyio"), None, |_, _| exit::forked())?;
        let keywords = PyDict::new(py);
        keywords.set_item("after_in_child", hook)?;
        py.import("posix")?.call_method("register_at_fork", (), Some(&keywords))?;
    }
    Ok(())
}
