//! Synchronous calls: the calling thread drives each of them.
//!
//! A lane is a current-thread runtime with its own connections. A call borrows a lane until it ends, so a call needs no
//! other thread, and concurrent calls do not interfere.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use tokio::runtime::{Builder, Runtime};
use tokio::task::yield_now;
use tokio::time::{Instant, Sleep, sleep};

use super::events::{self, Line, Lines};
use super::guard::caught;
use super::{errors, exit};
use crate::client::Client;
use crate::lock::lock;
use crate::plan::file::interruptible;
use crate::sabotage::{self, Guard};

/// How often a call checks for signals. Ctrl-C must work within 0.2 s.
const SIGNAL_CHECK: Duration = Duration::from_millis(50);

/// After a longer pause, the server may have closed the connection.
const SHORT_PAUSE: Duration = Duration::from_millis(1);

/// A runtime and its connections, for one call at a time.
pub(super) struct Lane {
    runtime: Option<Runtime>,
    connections: Client,
    lines: Arc<Lines>,
    /// A periodic timer. It outlives the calls, because starting a timer for each costs more than the check.
    signal_check: Pin<Box<Sleep>>,
    last_used: Instant,
}

/// Why there is no result.
enum Stopped {
    /// A signal handler or a log handler raised an exception.
    Raised(PyErr),
    /// An internal error.
    Fault(String),
}

impl Lane {
    pub(super) fn new(py: Python<'_>, client: &Client) -> PyResult<Self> {
        let runtime = Builder::new_current_thread().enable_io().enable_time().build();
        let runtime = runtime.map_err(|error| errors::exhausted(py, error))?;
        let connections = client.with_own_connections().map_err(|error| errors::to_python(py, &error))?;
        let signal_check = {
            let _context = runtime.enter();
            Box::pin(sleep(SIGNAL_CHECK))
        };
        Ok(Self { runtime: Some(runtime), connections, lines: Arc::default(), signal_check, last_used: Instant::now() })
    }

    /// Returns how long it has been unused.
    pub(super) fn idle(&self) -> Duration {
        self.last_used.elapsed()
    }

    /// Drives an operation to its end with the interpreter released, checking for signals and passing on log lines.
    ///
    /// # Errors
    /// Returns the exception of a signal handler, such as `KeyboardInterrupt`, also during logging; or `InternalError`
    /// for a panic. The lane is then unusable, because its connection may be in the middle of an answer.
    pub(super) fn drive<T: Send, F: Future<Output = T> + Send>(
        &mut self,
        py: Python<'_>,
        client: &Client,
        operation: impl FnOnce(Client) -> F + Send,
    ) -> PyResult<T> {
        self.lines.set_verbose(events::is_verbose(py)?);
        let lines = Arc::clone(&self.lines);
        let client = client.over_connections_of(&self.connections, Arc::clone(&lines) as _);
        let outcome = exit::detached(py, || self.drive_detached(|| operation(client)));
        log(py, &lines)?;
        outcome.map_err(|stopped| match stopped {
            Stopped::Raised(error) => error,
            Stopped::Fault(what) => errors::internal(py, &what),
        })
    }

    fn drive_detached<T: Send, F: Future<Output = T> + Send>(
        &mut self,
        start: impl FnOnce() -> F,
    ) -> Result<T, Stopped> {
        let Some(runtime) = &self.runtime else {
            return Err(Stopped::Fault("a lane without a runtime".to_owned()));
        };
        if self.last_used.elapsed() > SHORT_PAUSE && !sabotage::is_off(Guard::Reuse) {
            // A closed connection looks alive until the runtime has polled its socket and its task has run.
            runtime.block_on(async {
                yield_now().await;
                yield_now().await;
            });
        }
        let future = caught(start).map_err(Stopped::Fault)?;
        let mut future = pin!(future);
        let signal_check = &mut self.signal_check;
        loop {
            // `None` when signals are due.
            let value = caught(|| {
                runtime.block_on(poll_fn(|context| {
                    if let Poll::Ready(value) = future.as_mut().poll(context) {
                        return Poll::Ready(Some(value));
                    }
                    signal_check.as_mut().poll(context).map(|()| None)
                }))
            });
            if let Some(value) = value.map_err(Stopped::Fault)? {
                self.last_used = Instant::now();
                return Ok(value);
            }
            signal_check.as_mut().reset(Instant::now() + SIGNAL_CHECK);
            check_signals(|py| log(py, &self.lines)).map_err(Stopped::Raised)?;
        }
    }
}

/// Runs the due signal handlers, then a function. For a thread that has released the interpreter.
fn check_signals(then: impl FnOnce(Python<'_>) -> PyResult<()>) -> PyResult<()> {
    exit::park_if_exiting();
    if sabotage::is_off(Guard::Signals) {
        return Ok(());
    }
    Python::attach(|py| py.check_signals().and_then(|()| then(py)))
}

/// Runs a function that reads plans with the interpreter released, checking for signals.
///
/// # Errors
/// Returns the exception of a signal handler; the reads of the function then failed.
pub(super) fn reading<T: Send>(py: Python<'_>, work: impl FnOnce() -> T + Send) -> PyResult<T> {
    let raised = Arc::new(Mutex::new(None));
    let result = exit::detached(py, || {
        let (raised, checked) = (Arc::clone(&raised), Cell::new(Instant::now()));
        let interrupt = move || {
            if checked.get().elapsed() >= SIGNAL_CHECK {
                let error = check_signals(|_| Ok(())).err();
                checked.set(Instant::now());
                // A function may go on after a read has failed.
                let mut raised = lock(&raised);
                *raised = raised.take().or(error);
            }
            lock(&raised).is_some()
        };
        interruptible(interrupt, work)
    });
    let raised = lock(&raised).take();
    raised.map_or(Ok(result), Err)
}

/// Passes on log lines. A failing handler must not discard the answer, least of all that of an applied update: the
/// failure goes to `sys.unraisablehook`, as an event loop passes it to its own handler. `KeyboardInterrupt` and
/// `SystemExit` are not failures of a handler, and propagate.
pub(super) fn log(py: Python<'_>, lines: &Lines) -> PyResult<()> {
    lines.take().iter().try_for_each(|line: &Line| match line.log(py) {
        Err(error) if error.is_instance_of::<PyException>(py) => {
            error.write_unraisable(py, None);
            Ok(())
        }
        other => other,
    })
}

impl Drop for Lane {
    fn drop(&mut self) {
        // Dropping a runtime would wait for a name that is still being resolved.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
