//! Panics, which are faults of this package, as ordinary exceptions.
//!
//! pyo3 raises a `PanicException` of its own, which is no `Exception`: it passes `except Exception`, and would end a
//! program that is right to go on.

use std::cell::RefCell;
use std::panic::{self, AssertUnwindSafe, Location, catch_unwind};
use std::path::Path;

use pyo3::prelude::*;

use super::errors;
use super::exit::Inside;
use crate::sabotage::{self, Guard};

thread_local! {
    static LAST: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs what Python has called, under a name. A panic becomes an `InternalError`, and an exit of the interpreter waits for
/// it; see `exit.rs`. Every function that Python can call begins with it; `tests/architecture.rs` holds them to that.
pub(super) fn guarded<T>(py: Python<'_>, name: &str, body: impl FnOnce() -> PyResult<T>) -> PyResult<T> {
    let _inside = Inside::enter(py);
    let body = || {
        sabotage::place(name);
        body()
    };
    caught(body).unwrap_or_else(|what| Err(errors::internal(py, &what)))
}

/// Runs something; where it panics, says where.
pub(super) fn caught<T>(body: impl FnOnce() -> T) -> Result<T, String> {
    if sabotage::is_off(Guard::Panics) {
        return Ok(body());
    }
    catch_unwind(AssertUnwindSafe(body)).map_err(|_| last_panic())
}

/// Where this thread panicked last.
pub(super) fn last_panic() -> String {
    let location = LAST.with_borrow_mut(Option::take);
    location.map_or_else(|| "a panic".to_owned(), |location| format!("a panic at {location}"))
}

/// Keeps what panics print to themselves: stderr is the user's, and a panic's own text may hold a field. The exception says
/// where it was. With `RUST_BACKTRACE` set everything is printed as usual.
///
/// The hook is this extension's own, as is its copy of Rust's standard library.
pub(super) fn keep_panics_quiet() {
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |information| {
        LAST.with_borrow_mut(|last| *last = information.location().map(in_words));
        if std::env::var_os("RUST_BACKTRACE").is_some_and(|value| value != "0") {
            usual(information);
        }
    }));
}

/// File and line, without the folders of the machine that built it.
fn in_words(location: &Location<'_>) -> String {
    let path = Path::new(location.file());
    let parts: Vec<_> = path.components().map(|part| part.as_os_str().to_string_lossy()).collect();
    let shown = parts.get(parts.len().saturating_sub(4)..).unwrap_or_default().join("/");
    format!("{}:{}", if path.is_absolute() { shown } else { path.display().to_string() }, location.line())
}
