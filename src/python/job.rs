//! A job: a run of a plan, in its own thread that never touches Python. Its starter polls the progress.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, Weak};
use std::thread;
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::PyDict;
use tokio::runtime::Builder;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::client::Client;
use super::convert::ToPython;
use super::events::{self, Lines};
use super::exit::{self, StopsAtExit};
use super::guard::{caught, guarded};
use super::{errors, lane};
use crate::client;
use crate::error::WaitReason;
use crate::lock::lock;
use crate::per_process::Process;
use crate::plan::Status;
use crate::plan::run::{Control, Phase, RunError};

/// How long a stopped job may take to finish its requests in flight.
const GRACE: Duration = Duration::from_millis(4_500);

/// The result of a job, not yet converted to Python.
type Completion = Box<dyn FnOnce(Python<'_>) -> PyResult<Py<PyAny>> + Send>;

/// An order to a job.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Run,
    Stop,
    Abandon,
}

/// The state that the thread and its starter share.
struct Shared {
    control: Arc<Control>,
    order: watch::Sender<Order>,
    ended: watch::Sender<bool>,
    completion: Mutex<Option<Completion>>,
}

impl Shared {
    /// Completes when the job must end even if its run has not.
    async fn abandoned(&self) {
        let mut order = self.order.subscribe();
        // This struct owns the sender, so the channel is open.
        let _ = order.wait_for(|order| *order != Order::Run).await;
        let _ = timeout(GRACE, order.wait_for(|order| *order == Order::Abandon)).await;
    }

    fn give(&self, order: Order) {
        self.control.stop();
        self.order.send_if_modified(|known| {
            let changes = *known != Order::Abandon && *known != order;
            if changes {
                *known = order;
            }
            changes
        });
    }
}

impl StopsAtExit for Shared {
    fn stop(&self) {
        self.give(Order::Stop);
    }

    fn has_ended(&self) -> bool {
        *self.ended.borrow()
    }
}

/// A running job.
#[pyclass(frozen, module = "replyio._replyio")]
pub(super) struct Job {
    client: Py<Client>,
    connections: client::Client,
    lines: Arc<Lines>,
    shared: Arc<Shared>,
    process: Process,
    started: Instant,
}

impl Job {
    /// Starts a run with its own connections.
    pub(super) fn start<T: ToPython, F: Future<Output = Result<T, RunError>>>(
        client: &Bound<'_, Client>,
        run: impl FnOnce(client::Client, Arc<Control>, Arc<Lines>) -> F + Send + 'static,
    ) -> PyResult<Self> {
        let py = client.py();
        let refused = |error: std::io::Error| errors::exhausted(py, error);
        let lines = Arc::new(Lines::default());
        lines.set_verbose(events::is_verbose(py)?);
        let connections = client.get().here(py)?.with_own_connections();
        let connections = connections.map_err(|error| errors::to_python(py, &error))?;
        let shared = Arc::new(Shared {
            control: Arc::default(),
            order: watch::Sender::new(Order::Run),
            ended: watch::Sender::new(false),
            completion: Mutex::default(),
        });
        let job = Self {
            client: client.clone().unbind(),
            connections: connections.clone(),
            lines: Arc::clone(&lines),
            shared: Arc::clone(&shared),
            process: Process::current(),
            started: Instant::now(),
        };
        let runtime = Builder::new_current_thread().enable_io().enable_time().build().map_err(refused)?;
        let stopped_at_exit: Weak<Shared> = Arc::downgrade(&shared);
        exit::stop_at_exit(stopped_at_exit);
        let work = move || {
            let outcome = caught(|| {
                runtime.block_on(async {
                    tokio::select! {
                        biased;
                        outcome = run(connections, Arc::clone(&shared.control), lines) => Some(outcome),
                        () = shared.abandoned() => None,
                    }
                })
            });
            runtime.shutdown_background();
            *lock(&shared.completion) = Some(completion(outcome));
            shared.ended.send_replace(true);
        };
        thread::Builder::new().name("replyio-plan".to_owned()).spawn(work).map_err(refused)?;
        Ok(job)
    }

    /// A forked child has a copy of this, whose locks may be held forever, but not the thread.
    fn is_here(&self) -> bool {
        Process::current() == self.process
    }

    fn check_process(&self, py: Python<'_>) -> PyResult<()> {
        if self.is_here() {
            return Ok(());
        }
        Err(errors::plan(py, "this job belongs to the parent process; apply a plan in the process that opened it"))
    }
}

/// Returns the result of a run, or nothing if it was abandoned or panicked.
fn completion<T: ToPython>(outcome: Result<Option<Result<T, RunError>>, String>) -> Completion {
    Box::new(move |py| match outcome {
        Ok(Some(Ok(value))) => value.to_python(py).map(Bound::unbind),
        Ok(Some(Err(RunError::Call(error)))) => Err(errors::to_python(py, &error)),
        Ok(Some(Err(error @ RunError::Acquire(_)))) => {
            let message = error.to_string();
            let RunError::Acquire(failure) = error else { return Err(errors::plan(py, &message)) };
            Err(errors::not_granted(py, &message, &failure))
        }
        Ok(Some(Err(error))) => Err(errors::plan(py, &error.to_string())),
        Ok(None) => Ok(py.None()),
        Err(location) => Err(errors::internal(py, &location)),
    })
}

#[pymethods]
impl Job {
    /// Returns the progress.
    fn progress<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        guarded(py, "progress", || {
            self.check_process(py)?;
            let progress = self.shared.control.progress();
            let now = Instant::now();
            let result = PyDict::new(py);
            result.set_item("rows", progress.rows)?;
            result.set_item("done", progress.done)?;
            result.set_item("requests", progress.requests)?;
            result.set_item("requests_left", progress.requests_left)?;
            result.set_item("counts", counts_to_python(py, &progress.counts)?)?;
            let phase = match (progress.waiting, progress.phase) {
                (Some(_), _) => "waiting",
                (None, Phase::Reading) => "reading",
                (None, Phase::Writing) => "writing",
            };
            result.set_item("phase", phase)?;
            result.set_item("items_are_incomplete", progress.items_are_incomplete)?;
            result.set_item("waiting", progress.waiting.map(|(reason, _)| waits_for(reason)))?;
            let left = |until: Instant| until.saturating_duration_since(now).as_secs_f64();
            let known =
                progress.waiting.filter(|(reason, _)| !matches!(reason, WaitReason::Acquire | WaitReason::Turn));
            result.set_item("waiting_until", known.map(|(_, until)| left(until)))?;
            let forecast = self.connections.forecast(progress.requests_left).map(|wait| wait.as_secs_f64());
            result.set_item("seconds_left", forecast)?;
            result.set_item("seconds", self.started.elapsed().as_secs_f64())?;
            result.set_item("obstacle", progress.obstacle)?;
            Ok(result)
        })
    }

    /// Makes it start nothing new. Requests in flight finish, within five seconds.
    fn stop(&self, py: Python<'_>) -> PyResult<()> {
        guarded(py, "stop", || {
            self.check_process(py)?;
            self.shared.give(Order::Stop);
            Ok(())
        })
    }

    /// Ends it immediately, whatever is in flight.
    fn abandon(&self, py: Python<'_>) -> PyResult<()> {
        guarded(py, "abandon", || {
            self.check_process(py)?;
            self.shared.give(Order::Abandon);
            Ok(())
        })
    }

    /// Waits for its end, for at most this number of seconds, like a call: signal handlers run, and an event loop is
    /// not blocked. Returns whether it has ended. Passes on log lines first.
    #[pyo3(signature = (seconds, event_loop=None))]
    fn wait<'py>(
        &self,
        py: Python<'py>,
        seconds: f64,
        event_loop: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        guarded(py, "wait", || {
            self.check_process(py)?;
            lane::log(py, &self.lines)?;
            let patience = Duration::try_from_secs_f64(seconds.clamp(0.0, 60.0)).unwrap_or_default();
            let mut ended = self.shared.ended.subscribe();
            let operation = move |_| async move {
                let _ = timeout(patience, ended.wait_for(|ended| *ended)).await;
                let has_ended = *ended.borrow();
                Ok(has_ended)
            };
            self.client.get().run(py, event_loop, operation)
        })
    }

    /// Returns its result: a plan file, or `None`.
    fn result(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        guarded(py, "result", || {
            self.check_process(py)?;
            lane::log(py, &self.lines)?;
            let completion = lock(&self.shared.completion).take();
            match completion {
                None => Err(errors::internal(py, "the job has no result yet, or has already returned it")),
                Some(completion) => completion(py),
            }
        })
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if self.is_here() {
            self.shared.give(Order::Stop);
        }
    }
}

fn waits_for(reason: WaitReason) -> String {
    match reason {
        WaitReason::BackOff => "the service is unavailable".to_owned(),
        reason => reason.to_string(),
    }
}

/// Returns the counts by status, without zeros.
pub(super) fn counts_to_python<'py>(py: Python<'py>, counts: &BTreeMap<Status, u64>) -> PyResult<Bound<'py, PyDict>> {
    let result = PyDict::new(py);
    for (status, count) in counts.iter().filter(|(_, count)| **count > 0) {
        result.set_item(status.as_str(), count)?;
    }
    Ok(result)
}
