//! Passes the events of a call to Python's logging.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyDict;

use super::once::{name, once};
use crate::client::{Event, Observer};
use crate::error::WaitReason;
use crate::lock::lock;
use crate::text::safe_text;

const INFO: u8 = 20;
const WARNING: u8 = 30;

/// A longer wait is logged as a warning.
const LONG_WAIT: Duration = Duration::from_secs(5);

/// A log line.
#[derive(Debug)]
pub(super) struct Line {
    level: u8,
    text: String,
}

impl Line {
    /// Returns the line for an event, or `None` if no logger wants it.
    pub(super) fn of(event: &Event<'_>, verbose: bool) -> Option<Self> {
        match event {
            Event::Waiting { wait, reason: WaitReason::Acquire, call } => {
                let text = format!("{call}: waiting at most {:.0} s for {}", wait.as_secs_f64(), WaitReason::Acquire);
                Some(Self { level: WARNING, text })
            }
            Event::Waiting { wait, reason, call } => {
                let level = if *wait > LONG_WAIT { WARNING } else { INFO };
                let text = format!("{call}: waiting {:.0} s ({reason})", wait.as_secs_f64().ceil());
                (verbose || level == WARNING).then_some(Self { level, text })
            }
            Event::Attempted { method, path, outcome, attempt, sent } if verbose => {
                let seconds = sent.elapsed().as_secs_f64();
                let text = match outcome {
                    Ok(status) => format!("{method} {path} {status} attempt {attempt} in {seconds:.3} s"),
                    Err(failure) => format!("{method} {path} failed: {failure}, attempt {attempt} in {seconds:.3} s"),
                };
                Some(Self { level: INFO, text })
            }
            Event::QuotaNotShared { reason } => Some(Self { level: WARNING, text: (*reason).to_owned() }),
            Event::Attempted { .. } | Event::Unconfirmed { .. } => None,
        }
    }

    /// Passes the line to `logging.getLogger("replyio")`.
    pub(super) fn log(&self, py: Python<'_>) -> PyResult<()> {
        let logger = py.import("logging")?.call_method1("getLogger", ("replyio",))?;
        logger.call_method1("log", (self.level, "%s", &*safe_text(&self.text, usize::MAX)))?;
        Ok(())
    }
}

/// Returns whether the logger `replyio` is enabled for INFO. It is not in a program that has not imported logging, and
/// `import logging` takes as long as a hundred calls.
pub(super) fn is_verbose(py: Python<'_>) -> PyResult<bool> {
    static LOGGER: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    static MODULES: PyOnceLock<Py<PyDict>> = PyOnceLock::new();
    let logger = if let Some(logger) = LOGGER.get(py) {
        logger
    } else {
        let find = || Ok::<_, PyErr>(py.import("sys")?.getattr("modules")?.cast_into::<PyDict>()?.unbind());
        let modules = once(py, &MODULES, find)?.bind(py);
        let Some(logging) = modules.get_item(name!(py, "logging"))? else { return Ok(false) };
        let Ok(get_logger) = logging.getattr("getLogger") else { return Ok(false) };
        let logger = get_logger.call1(("replyio",))?.unbind();
        once(py, &LOGGER, || Ok(logger))?
    };
    logger.bind(py).call_method1(name!(py, "isEnabledFor"), (INFO,))?.is_truthy()
}

/// The lines of a call that waits in its own thread.
#[derive(Debug, Default)]
pub(super) struct Lines {
    verbose: AtomicBool,
    waiting: Mutex<Vec<Line>>,
}

impl Lines {
    pub(super) fn set_verbose(&self, verbose: bool) {
        self.verbose.store(verbose, Ordering::Relaxed);
    }

    pub(super) fn take(&self) -> Vec<Line> {
        std::mem::take(&mut *lock(&self.waiting))
    }
}

impl Observer for Lines {
    fn observe(&self, event: Event<'_>) {
        if let Some(line) = Line::of(&event, self.verbose.load(Ordering::Relaxed)) {
            lock(&self.waiting).push(line);
        }
    }
}
