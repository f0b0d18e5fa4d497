//! Converts panics, which are internal errors, to ordinary exceptions.
//!
//! pyo3 raises a `PanicException`, which is not an `Exception`: it passes `except Exception`, and would end a program
//! that can continue.

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

/// Runs a function that Python has called, under a name. A panic becomes an `InternalError`, and an exit of the
/// interpreter waits for it; see `exit.rs`. Every function that Python can call begins with it; `tests/architecture.rs`
/// checks that.
pub(super) fn guarded<T>(py: Python<'_>, name: &str, body: impl FnOnce() -> PyResult<T>) -> PyResult<T> {
    let _inside = Inside::enter(py);
    let body = || {
        sabotage::place(name);
        body()
    };
    caught(body).unwrap_or_else(|what| Err(errors::internal(py, &what)))
}

/// Runs a function; if it panics, returns the location.
pub(super) fn caught<T>(body: impl FnOnce() -> T) -> Result<T, String> {
    if sabotage::is_off(Guard::Panics) {
        return Ok(body());
    }
    catch_unwind(AssertUnwindSafe(body)).map_err(|_| last_panic())
}

/// The location of this thread's last panic.
pub(super) fn last_panic() -> String {
    let location = LAST.with_borrow_mut(Option::take);
    location.map_or_else(|| "a panic".to_owned(), |location| format!("a panic at {location}"))
}

/// Suppresses the output of panics: stderr belongs to the user, and the text of a panic may contain a field. The
/// exception contains the location. With `RUST_BACKTRACE` set, everything is printed as usual.
///
/// The hook belongs only to this extension, as does its copy of Rust's standard library.
pub(super) fn keep_panics_quiet() {
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |information| {
        LAST.with_borrow_mut(|last| *last = information.location().map(in_words));
        if std::env::var_os("RUST_BACKTRACE").is_some_and(|value| value != "0") {
            usual(information);
        }
    }));
}

/// Returns file and line, without the folders of the build machine.
fn in_words(location: &Location<'_>) -> String {
    let path = Path::new(location.file());
    let parts: Vec<_> = path.components().map(|part| part.as_os_str().to_string_lossy()).collect();
    let shown = parts.get(parts.len().saturating_sub(4)..).unwrap_or_default().join("/");
    format!("{}:{}", if path.is_absolute() { shown } else { path.display().to_string() }, location.line())
}
