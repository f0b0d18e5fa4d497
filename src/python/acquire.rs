//! `Quota(acquire=…)`: connects a call, which must not wait for the interpreter, with a Python function, which may
//! block.
//!
//! A Python thread calls the function, for one request after the other. A call adds itself to a queue and wakes that
//! thread through a socket. So no runtime thread ever runs Python code, and the thread that an exit ends waits in
//! Python and not in this module.

use std::collections::VecDeque;
use std::fmt;
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use tokio::sync::oneshot;

use super::bridge::{Socket, into_descriptor, socket_pair};
use super::errors;
use super::guard::guarded;
use crate::acquire::{Acquire, Acquiring};
use crate::error::Failure;
use crate::lock::lock;
use crate::per_process::{PerProcess, Process};

/// How long an unused permission is valid for another request. The function that granted it may count by time.
const FRESH: Duration = Duration::from_secs(1);

type Outcome = Result<Granted, Failure>;

/// A permission that is sent to a request. If the request does not take it, it is returned.
struct Granted {
    line: Arc<Line>,
    is_taken: bool,
}

impl Granted {
    fn take(mut self) {
        self.is_taken = true;
    }
}

impl Drop for Granted {
    fn drop(&mut self) {
        if !self.is_taken {
            self.line.grant();
        }
    }
}

/// The waiting requests of one process, and the socket that wakes the thread that calls the function.
struct Line {
    state: Mutex<State>,
    wake: Socket,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<oneshot::Sender<Outcome>>,
    /// The times at which unused permissions were granted.
    spare: VecDeque<Instant>,
    /// The thread that calls the function.
    thread: Option<ThreadId>,
    is_closed: bool,
}

impl Line {
    /// Joins the queue. Returns `None` if an unused permission is available.
    fn join(&self) -> Option<oneshot::Receiver<Outcome>> {
        let mut state = lock(&self.state);
        state.spare.retain(|granted| granted.elapsed() < FRESH);
        if state.spare.pop_front().is_some() {
            return None;
        }
        let (sender, receiver) = oneshot::channel();
        let was_empty = state.waiting.is_empty();
        state.waiting.push_back(sender);
        drop(state);
        if was_empty {
            self.wake();
        }
        Some(receiver)
    }

    fn wake(&self) {
        // If the socket is full, the thread is already awake.
        let _ = (&self.wake).write(&[1]);
    }

    /// Returns whether a request waits. Removes canceled requests from the queue.
    fn is_wanted(&self) -> bool {
        let mut state = lock(&self.state);
        state.thread = Some(thread::current().id());
        while state.waiting.front().is_some_and(oneshot::Sender::is_closed) {
            state.waiting.pop_front();
        }
        !state.is_closed && !state.waiting.is_empty()
    }

    /// Passes a permission to the first request that still waits, or keeps it for the next one.
    fn grant(self: &Arc<Self>) {
        let granted = Granted { line: Arc::clone(self), is_taken: false };
        if let Some(Ok(granted)) = self.hand_on(Ok(granted)) {
            granted.take();
            lock(&self.state).spare.push_back(Instant::now());
        }
    }

    /// Passes the function's outcome to the first request that still waits. Returns the outcome if no request waits.
    fn hand_on(&self, mut outcome: Outcome) -> Option<Outcome> {
        while let Some(first) = self.next_waiting() {
            match first.send(outcome) {
                Ok(()) => return None,
                Err(unheard) => outcome = unheard,
            }
        }
        Some(outcome)
    }

    fn next_waiting(&self) -> Option<oneshot::Sender<Outcome>> {
        lock(&self.state).waiting.pop_front()
    }

    fn close(&self) {
        lock(&self.state).is_closed = true;
        self.wake();
    }
}

/// The access of clients to a `Quota` with `acquire=`. It has a weak reference to the quota, which has the function.
pub(super) struct Gate {
    quota: Py<PyAny>,
    lines: PerProcess<Arc<Line>>,
}

impl Gate {
    /// Starts the thread of this process that calls the function.
    ///
    /// # Errors
    /// Returns the Python exception if the thread cannot start, or if the function itself calls this client.
    pub(super) fn prepare(&self, py: Python<'_>, process: Process) -> PyResult<()> {
        if let Some(line) = self.lines.get(process) {
            if lock(&line.state).thread != Some(thread::current().id()) {
                return Ok(());
            }
            let message =
                "Quota(acquire=...) must not call a client of the same quota: that call would wait for itself";
            return Err(errors::configuration(py, message));
        }
        let (signal, wake) = socket_pair().map_err(|error| errors::exhausted(py, error))?;
        let line = Arc::new(Line { state: Mutex::default(), wake });
        let asked = Bound::new(py, Asked(Arc::clone(&line)))?;
        let start = py.import("replyio._acquire")?.getattr("start")?;
        if let Err(error) = start.call1((asked, into_descriptor(signal), &self.quota)) {
            return Err(errors::exhausted(py, std::io::Error::other(error.value(py).to_string())));
        }
        let kept = self.lines.get_or_try_init(process, || Ok::<_, PyErr>(Arc::clone(&line)))?;
        if !Arc::ptr_eq(kept, &line) {
            line.close();
        }
        Ok(())
    }
}

impl Acquire for Gate {
    fn acquire(&self) -> Acquiring<'_> {
        Box::pin(async {
            let Some(line) = self.lines.get(Process::current()) else {
                return Err(Failure::Internal("the thread of Quota(acquire=...) was not started".to_owned()));
            };
            let Some(answer) = line.join() else { return Ok(()) };
            let answer =
                answer.await.map_err(|_| Failure::Internal("the thread of Quota(acquire=...) ended".to_owned()))?;
            answer.map(Granted::take)
        })
    }

    fn give_back(&self) {
        if let Some(line) = self.lines.get(Process::current()) {
            line.grant();
        }
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Quota(acquire=...)")
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        if let Some(line) = self.lines.get(Process::current()) {
            line.close();
        }
    }
}

/// The [`Gate`] of a `Quota`.
#[pyclass(frozen, name = "Gate", module = "replyio._replyio")]
pub(super) struct QuotaGate(Arc<Gate>);

impl QuotaGate {
    pub(super) fn gate(&self) -> Arc<Gate> {
        Arc::clone(&self.0)
    }
}

#[pymethods]
impl QuotaGate {
    /// Creates a gate from a weak reference to the quota.
    #[new]
    fn new(py: Python<'_>, quota: Py<PyAny>) -> PyResult<Self> {
        guarded(py, "gate", || Ok(Self(Arc::new(Gate { quota, lines: PerProcess::new() }))))
    }
}

/// The [`Line`] for the thread that calls the function.
#[pyclass(frozen, module = "replyio._replyio")]
pub(super) struct Asked(Arc<Line>);

#[pymethods]
impl Asked {
    /// Returns whether a request waits.
    fn is_wanted(&self, py: Python<'_>) -> PyResult<bool> {
        guarded(py, "is_wanted", || Ok(self.0.is_wanted()))
    }

    /// Returns whether no further requests can come.
    fn is_closed(&self, py: Python<'_>) -> PyResult<bool> {
        guarded(py, "is_closed", || Ok(lock(&self.0.state).is_closed))
    }

    /// Records that the function has granted a request.
    fn grant(&self, py: Python<'_>) -> PyResult<()> {
        guarded(py, "grant", || {
            self.0.grant();
            Ok(())
        })
    }

    /// Records that the function has failed, with or without an exception.
    #[pyo3(signature = (reason, exception=None))]
    fn refuse(&self, py: Python<'_>, reason: String, exception: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        guarded(py, "refuse", || {
            let source = exception.map(|exception| Box::new(PyErr::from_value(exception)) as _);
            // If no request waits, the failure is dropped: it does not concern the next request.
            let _ = self.0.hand_on(Err(Failure::Acquire { reason, source }));
            Ok(())
        })
    }
}
