//! What Python calls by itself: when it exits, and in a forked child.

use pyo3::prelude::*;
use pyo3::types::{PyCFunction, PyDict};

use super::exit;
use super::guard::guarded;
use crate::sabotage::{self, Guard};

/// Registers them. To be called when the module is loaded: what is registered first is called last, so that handlers which
/// use a client find it as it always was.
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
        // It enters nothing: the count is what it puts right.
        let hook = PyCFunction::new_closure(py, Some(c"forked_replyio"), None, |_, _| exit::forked())?;
        let keywords = PyDict::new(py);
        keywords.set_item("after_in_child", hook)?;
        py.import("posix")?.call_method("register_at_fork", (), Some(&keywords))?;
    }
    Ok(())
}
