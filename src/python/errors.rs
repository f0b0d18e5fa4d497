//! Converts errors of the core to exceptions of the package.

use std::io;
use std::time::Duration;

use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyList, PyModule};

use super::once::once;
use crate::account::FieldError;
use crate::error::{Error, ErrorKind, Failure, internal_error};
use crate::plan::source::TableError;
use crate::text::{listed, safe_text};

/// Returns the exception class of a kind, in `replyio.errors`.
pub(super) fn class_name(kind: ErrorKind) -> String {
    match kind {
        ErrorKind::Tls => "TLSError".to_owned(),
        ErrorKind::Api => "APIError".to_owned(),
        _ => format!("{kind:?}Error"),
    }
}

/// Returns the module of the exceptions and of the warning.
pub(super) fn module(py: Python<'_>) -> PyResult<&Bound<'_, PyModule>> {
    static MODULE: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    Ok(once(py, &MODULE, || py.import("replyio.errors").map(Bound::unbind))?.bind(py))
}

/// Returns the exception of an error, or the exception that prevented it.
pub(super) fn to_python(py: Python<'_>, error: &Error) -> PyErr {
    raise(py, error).unwrap_or_else(|failed| failed)
}

/// Returns the exception for an internal error.
pub(super) fn internal(py: Python<'_>, what: &str) -> PyErr {
    instance(py, ErrorKind::Internal, &internal_error(what), &PyDict::new(py)).unwrap_or_else(|failed| failed)
}

/// Returns the exception for a client or a sandbox that cannot be used in this way.
pub(super) fn configuration(py: Python<'_>, message: &str) -> PyErr {
    instance(py, ErrorKind::Configuration, message, &PyDict::new(py)).unwrap_or_else(|failed| failed)
}

/// Returns the exception for a run that ended because `acquire` of the quota failed.
pub(super) fn not_granted(py: Python<'_>, message: &str, failure: &Failure) -> PyErr {
    let message = safe_text(message, usize::MAX);
    let attributes = PyDict::new(py);
    let raised =
        failure_attributes(&attributes, failure).and_then(|()| instance(py, failure.kind(), &message, &attributes));
    caused_by(py, raised.unwrap_or_else(|failed| failed), failure)
}

/// Sets the exception of a Python function as the cause of an exception of this package.
fn caused_by(py: Python<'_>, raised: PyErr, failure: &Failure) -> PyErr {
    if let Failure::Acquire { source: Some(source), .. } = failure
        && let Some(cause) = source.downcast_ref::<PyErr>()
    {
        raised.set_cause(py, Some(cause.clone_ref(py)));
    }
    raised
}

/// Returns the exception for a plan file that cannot be used.
pub(super) fn plan(py: Python<'_>, message: &str) -> PyErr {
    let message = safe_text(message, usize::MAX);
    let make = || PyResult::Ok(PyErr::from_value(module(py)?.getattr("PlanError")?.call1((&*message,))?));
    make().unwrap_or_else(|failed| failed)
}

/// Returns the exception for a call whose client was closed during the call.
pub(super) fn closed(py: Python<'_>, may_have_been_applied: bool) -> PyErr {
    let attributes = PyDict::new(py);
    let mut message = "the client was closed during the call".to_owned();
    let mut make = || {
        if may_have_been_applied {
            message += "; the update may have been applied; sending it again is safe";
            attributes.set_item("may_have_been_applied", true)?;
        }
        instance(py, ErrorKind::Transport, &message, &attributes)
    };
    make().unwrap_or_else(|failed| failed)
}

/// Returns the exception for a call for which the operating system has no thread, file descriptor or memory left.
/// Nothing was sent.
pub(super) fn exhausted(py: Python<'_>, error: io::Error) -> PyErr {
    to_python(py, &Error::Exhausted(error))
}

/// Returns the exception for a call refused before any request, with every problem.
pub(super) fn refused(py: Python<'_>, what: &str, faults: &[FieldError]) -> PyErr {
    let listed = listed(faults, |fault| format!("{} {}", fault.field, fault.message));
    let message = format!("{what} refused before any request:{listed}");
    validation(py, &message, faults).unwrap_or_else(|failed| failed)
}

/// EINVAL, which is the same number everywhere.
const INVALID: i32 = 22;

/// Returns the exception for an invalid table.
pub(super) fn of_table(py: Python<'_>, error: &TableError) -> PyErr {
    let raised = match error {
        TableError::Faults { faults, .. } => validation(py, &error.to_string(), faults),
        TableError::Read { line, reason, .. } => {
            let reason = line.map_or_else(|| reason.clone(), |line| format!("line {line} {reason}"));
            validation(py, &error.to_string(), &[FieldError::new("", reason)])
        }
        TableError::Row { row, reason } => {
            validation(py, &error.to_string(), &[FieldError::new("", format!("row {row} {reason}"))])
        }
        TableError::Io { path, error } => match error.raw_os_error() {
            // With number and file name, Python chooses the class, such as FileNotFoundError.
            Some(number) => {
                let reason = error.to_string();
                let reason = reason.split(" (os error").next().unwrap_or_default().to_owned();
                Ok(PyOSError::new_err((number, reason, path.as_os_str().to_owned())))
            }
            None => Ok(PyOSError::new_err((INVALID, error.to_string(), path.as_os_str().to_owned()))),
        },
    };
    raised.unwrap_or_else(|failed| failed)
}

/// Returns the exception for an invalid row.
pub(super) fn of_row(py: Python<'_>, row: u64, reason: &impl ToString) -> PyErr {
    of_table(py, &TableError::Row { row, reason: reason.to_string() })
}

fn validation(py: Python<'_>, message: &str, faults: &[FieldError]) -> PyResult<PyErr> {
    let attributes = PyDict::new(py);
    attributes.set_item("errors", field_errors(py, faults)?)?;
    instance(py, ErrorKind::Validation, message, &attributes)
}

fn raise(py: Python<'_>, error: &Error) -> PyResult<PyErr> {
    let attributes = PyDict::new(py);
    match error {
        Error::Configuration(_) | Error::Exhausted(_) => {}
        Error::Validation { errors, .. } => attributes.set_item("errors", field_errors(py, errors)?)?,
        Error::Call(call) => {
            attributes.set_item("attempts", call.attempts)?;
            attributes.set_item("elapsed", call.elapsed.as_secs_f64())?;
            if call.may_have_been_applied {
                attributes.set_item("may_have_been_applied", true)?;
            }
            failure_attributes(&attributes, &call.failure)?;
        }
    }
    let raised = instance(py, error.kind(), &error.to_string(), &attributes)?;
    Ok(match error {
        Error::Call(call) => caused_by(py, raised, &call.failure),
        _ => raised,
    })
}

fn failure_attributes(attributes: &Bound<'_, PyDict>, failure: &Failure) -> PyResult<()> {
    let seconds = |duration: Option<Duration>| duration.map(|duration| duration.as_secs_f64());
    match failure {
        Failure::Deadline { last, .. } => attributes.set_item("last_error", last),
        Failure::Unexpected(unexpected) => {
            attributes.set_item("status", unexpected.status)?;
            attributes.set_item("excerpt", &unexpected.excerpt)
        }
        Failure::Api(answer) => {
            attributes.set_item("status", answer.status)?;
            attributes.set_item("title", &answer.problem.title)?;
            attributes.set_item("detail", &answer.problem.detail)?;
            attributes.set_item("code", &answer.problem.code)?;
            attributes.set_item("errors", field_errors(attributes.py(), &answer.problem.errors)?)?;
            attributes.set_item("request_id", &answer.request_id)?;
            attributes.set_item("retry_after", seconds(answer.retry_after))
        }
        Failure::Quota { retry_after, .. } => {
            attributes.set_item("status", 429)?;
            attributes.set_item("retry_after", seconds(Some(*retry_after)))
        }
        Failure::Apart { .. } | Failure::Acquire { .. } => attributes.set_item("status", 429),
        Failure::Transport(_)
        | Failure::Turn { .. }
        | Failure::AcquireDeadline { .. }
        | Failure::Unsettled { .. }
        | Failure::Internal(_) => Ok(()),
    }
}

fn field_errors<'py>(py: Python<'py>, errors: &[FieldError]) -> PyResult<Bound<'py, PyList>> {
    let class = module(py)?.getattr("FieldError")?;
    let list = PyList::empty(py);
    for error in errors {
        list.append(class.call1((&error.field, &error.message))?)?;
    }
    Ok(list)
}

fn instance(py: Python<'_>, kind: ErrorKind, message: &str, attributes: &Bound<'_, PyDict>) -> PyResult<PyErr> {
    let class = module(py)?.getattr(class_name(kind))?;
    Ok(PyErr::from_value(class.call((message,), Some(attributes))?))
}
