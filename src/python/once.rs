//! Values that are looked up once, safe for forks.
//!
//! If one thread fills a cell while another thread forks, the cell stays half-filled in the child, which would wait for
//! it forever. So the value is created first and then stored in one step, with the interpreter held, during which no
//! thread forks.

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use super::exit;
use crate::sabotage::{self, Guard};

/// Returns the content of a cell, created on first use. Two threads may create it at the same time; one value is kept.
///
/// # Errors
/// Returns the errors of `make`; the next call tries again.
pub(super) fn once<'a, T>(
    py: Python<'_>,
    cell: &'a PyOnceLock<T>,
    make: impl FnOnce() -> PyResult<T>,
) -> PyResult<&'a T> {
    if let Some(value) = cell.get(py) {
        return Ok(value);
    }
    if sabotage::is_off(Guard::Once) {
        // A first import in `make` releases the interpreter, but a fork seldom hits that moment.
        return cell.get_or_try_init(py, || {
            exit::detached(py, || std::thread::sleep(std::time::Duration::from_millis(2)));
            make()
        });
    }
    // It fails if another thread was faster.
    let mut spare = cell.set(py, make()?).err();
    cell.get_or_try_init(py, || spare.take().ok_or_else(|| PyRuntimeError::new_err("a cell lost its value")))
}

/// A Python name, created once. Like `pyo3::intern!`.
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
