//! What is looked up once, in a way that a fork cannot get stuck in.
//!
//! A cell that one thread fills while another thread forks stays half filled in the child, which would wait for it for
//! ever. So the value is made first and then put in at once, with the interpreter held: nobody forks meanwhile.

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use super::exit;
use crate::sabotage::{self, Guard};

/// What is in a cell, made when it is empty. Two threads may make it at the same time; one value is kept.
///
/// # Errors
/// Those of `make`; the next call tries again.
pub(super) fn once<'a, T>(
    py: Python<'_>,
    cell: &'a PyOnceLock<T>,
    make: impl FnOnce() -> PyResult<T>,
) -> PyResult<&'a T> {
    if let Some(value) = cell.get(py) {
        return Ok(value);
    }
    if sabotage::is_off(Guard::Once) {
        // What `make` imports for the first time releases the interpreter meanwhile, for a moment that a fork seldom hits.
        return cell.get_or_try_init(py, || {
            exit::detached(py, || std::thread::sleep(std::time::Duration::from_millis(2)));
            make()
        });
    }
    // It is refused when another thread was faster.
    let mut spare = cell.set(py, make()?).err();
    cell.get_or_try_init(py, || spare.take().ok_or_else(|| PyRuntimeError::new_err("a cell lost its value")))
}

/// A name of Python's, made once. Like `pyo3::intern!`.
macro_rules! name {
    ($py:expr, $text:expr) => {{
        static NAME: pyo3::sync::PyOnceLock<pyo3::Py<pyo3::types::PyString>> = pyo3::sync::PyOnceLock::new();
        if NAME.get($py).is_none() {
            let _ = NAME.set($py, pyo3::types::PyString::intern($py, $text).unbind());
        }
        NAME.get_or_init($py, || pyo3::types::PyString::intern($py, $text).unbind()).bind($py)
    }};
}
pub(super) use name;
