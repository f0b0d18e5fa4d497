//! A run over a plan, in a thread of its own that never touches Python. Who started it asks how far it is.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use pyo3::prelude::*;
use pyo3::types::PyDict;
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::events::{self, Lines};
use super::guard::{caught, guarded};
use super::{errors, exit, lane, plan};
use crate::client::Client;
use crate::error::WaitReason;
use crate::per_process::Process;
use crate::plan::Status;
use crate::plan::file::PlanFile;
use crate::plan::run::{Control, Phase, RunError};

/// What a run gives in the end: the file that it made, where it makes one.
type Outcome = Result<Option<PlanFile>, RunError>;

/// What the thread and its starter share.
#[derive(Default)]
struct Meeting {
    outcome: Mutex<Option<Result<Outcome, String>>>,
    ended: Condvar,
}

/// A running job.
#[pyclass(frozen, module = "replyio._replyio")]
pub(super) struct Job {
    control: Arc<Control>,
    client: Client,
    lines: Arc<Lines>,
    meeting: Arc<Meeting>,
    abandoned: Mutex<Option<oneshot::Sender<()>>>,
    process: Process,
    started: Instant,
}

impl Job {
    /// Starts a run over connections of its own.
    pub(super) fn start<F: Future<Output = Outcome>>(
        py: Python<'_>,
        client: &Client,
        run: impl FnOnce(Client, Arc<Control>, Arc<Lines>) -> F + Send + 'static,
    ) -> PyResult<Self> {
        let refuse = |error: std::io::Error| {
            let message = format!("no thread can be started for the plan: {error}");
            errors::to_python(py, &crate::Error::Configuration(message))
        };
        let lines = Arc::new(Lines::default());
        lines.set_verbose(events::is_verbose(py)?);
        let client = client.with_own_connections().map_err(|error| errors::to_python(py, &error))?;
        let (abandon, abandoned) = oneshot::channel();
        let job = Self {
            control: Arc::default(),
            client: client.clone(),
            lines: Arc::clone(&lines),
            meeting: Arc::default(),
            abandoned: Mutex::new(Some(abandon)),
            process: Process::current(),
            started: Instant::now(),
        };
        let (control, meeting) = (Arc::clone(&job.control), Arc::clone(&job.meeting));
        let runtime = Builder::new_current_thread().enable_io().enable_time().build().map_err(refuse)?;
        let work = move || {
            let ended = caught(|| {
                runtime.block_on(async {
                    tokio::select! {
                        outcome = run(client, control, lines) => outcome,
                        _ = abandoned => Ok(None),
                    }
                })
            });
            runtime.shutdown_background();
            *lock(&meeting.outcome) = Some(ended);
            meeting.ended.notify_all();
        };
        thread::Builder::new().name("replyio-plan".to_owned()).spawn(work).map_err(refuse)?;
        Ok(job)
    }

    fn check_process(&self, py: Python<'_>) -> PyResult<()> {
        if Process::current() == self.process {
            return Ok(());
        }
        Err(errors::plan(
            py,
            "this job runs in the process that this one was forked from; a plan is applied where it was opened",
        ))
    }
}

#[pymethods]
impl Job {
    /// How far it is.
    fn progress<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        guarded(py, "progress", || {
            let progress = self.control.progress();
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
            result.set_item("waiting_until", progress.waiting.map(|(_, until)| left(until)))?;
            let forecast = self.client.forecast(progress.requests_left).map(|wait| wait.as_secs_f64());
            result.set_item("seconds_left", forecast)?;
            result.set_item("seconds", self.started.elapsed().as_secs_f64())?;
            Ok(result)
        })
    }

    /// Starts nothing new; what is in flight comes to its end.
    fn stop(&self) {
        self.control.stop();
    }

    /// Ends it at once, whatever is in flight.
    fn abandon(&self) {
        self.control.stop();
        drop(lock(&self.abandoned).take());
    }

    /// Waits for its end, and hands on what is to be logged. Gives whether it has ended.
    fn wait(&self, py: Python<'_>, seconds: f64) -> PyResult<bool> {
        guarded(py, "wait", || {
            self.check_process(py)?;
            let patience = Duration::try_from_secs_f64(seconds.clamp(0.0, 60.0)).unwrap_or_default();
            let has_ended = exit::detached(py, || {
                let outcome = lock(&self.meeting.outcome);
                let waits = |outcome: &mut Option<_>| outcome.is_none();
                let (outcome, _) = self
                    .meeting
                    .ended
                    .wait_timeout_while(outcome, patience, waits)
                    .unwrap_or_else(PoisonError::into_inner);
                outcome.is_some()
            });
            lane::log(py, &self.lines)?;
            Ok(has_ended)
        })
    }

    /// What it gave: a plan file, or `None`.
    fn result(&self, py: Python<'_>) -> PyResult<Option<plan::PlanFile>> {
        guarded(py, "result", || {
            self.check_process(py)?;
            let outcome = lock(&self.meeting.outcome).take();
            match outcome {
                None => Err(errors::internal(py, "a job has no result yet, or gave it already")),
                Some(Err(place)) => Err(errors::internal(py, &place)),
                Some(Ok(Err(RunError::Call(error)))) => Err(errors::to_python(py, &error)),
                Some(Ok(Err(error))) => Err(errors::plan(py, &error.to_string())),
                Some(Ok(Ok(file))) => Ok(file.map(plan::PlanFile::new)),
            }
        })
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.control.stop();
    }
}

fn waits_for(reason: WaitReason) -> String {
    match reason {
        WaitReason::BackOff => "the service to be back".to_owned(),
        reason => reason.to_string(),
    }
}

/// Counts by status, those of zero left out.
pub(super) fn counts_to_python<'py>(py: Python<'py>, counts: &BTreeMap<Status, u64>) -> PyResult<Bound<'py, PyDict>> {
    let result = PyDict::new(py);
    for (status, count) in counts.iter().filter(|(_, count)| **count > 0) {
        result.set_item(status.as_str(), count)?;
    }
    Ok(result)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
