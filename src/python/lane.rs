//! Synchronous calls: each is driven by the thread that makes it.
//!
//! A lane is a current-thread runtime with connections of its own. A call borrows a lane for as long as it takes, so a
//! call needs no other thread, and threads that call at once do not meet.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pyo3::prelude::*;
use tokio::runtime::{Builder, Runtime};

use super::errors;
use super::events::{Line, Lines};
use super::exit::Away;
use crate::client::Client;
use crate::error::Error;

/// How often a waiting call looks for signals. Ctrl-C is to be noticed within 0.2 s.
const SIGNAL_CHECK: Duration = Duration::from_millis(50);

/// A runtime and its connections, for one call at a time.
pub(super) struct Lane {
    runtime: Option<Runtime>,
    connections: Client,
    pub(super) lines: Arc<Lines>,
    pub(super) last_used: Instant,
}

enum Step<T> {
    Done(T),
    Lines,
    Tick,
    Panicked,
}

impl Lane {
    pub(super) fn new(client: &Client) -> Result<Self, Error> {
        let runtime = Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .map_err(|error| Error::Configuration(format!("no runtime can be started: {error}")))?;
        let connections = client.with_own_connections()?;
        Ok(Self { runtime: Some(runtime), connections, lines: Arc::default(), last_used: Instant::now() })
    }

    /// A client over the connections of this lane.
    pub(super) fn client(&self, client: &Client) -> Client {
        client.over_connections_of(&self.connections).observed(Arc::clone(&self.lines) as _)
    }

    /// Drives a future to its end with the interpreter released, looking for signals and handing on what is to be logged.
    ///
    /// # Errors
    /// What a signal handler raised, `KeyboardInterrupt` above all; or `InternalError` for a panic. Then the lane is spoilt:
    /// its connection may be in the middle of an answer.
    pub(super) fn drive<T: Send>(&self, py: Python<'_>, future: impl Future<Output = T> + Send) -> PyResult<T> {
        let Some(runtime) = &self.runtime else { return Err(errors::internal(py, "a lane without a runtime")) };
        let away = Away::new();
        let outcome = py.detach(|| {
            away.park_if_exiting();
            let outcome = self.drive_detached(runtime, future, &away);
            away.park_if_exiting();
            outcome
        });
        drop(away);
        for line in self.lines.take() {
            line.log(py)?;
        }
        outcome
    }

    fn drive_detached<T: Send>(
        &self,
        runtime: &Runtime,
        future: impl Future<Output = T> + Send,
        away: &Away,
    ) -> PyResult<T> {
        let mut future = pin!(future);
        loop {
            let step = catch_unwind(AssertUnwindSafe(|| {
                runtime.block_on(async {
                    tokio::select! {
                        biased;
                        value = future.as_mut() => Step::Done(value),
                        () = self.lines.arrived() => Step::Lines,
                        () = tokio::time::sleep(SIGNAL_CHECK) => Step::Tick,
                    }
                })
            }));
            match step.unwrap_or(Step::Panicked) {
                Step::Done(value) => return Ok(value),
                Step::Lines => {
                    away.park_if_exiting();
                    Python::attach(|py| self.lines.take().iter().try_for_each(|line: &Line| line.log(py)))?;
                }
                Step::Tick => {
                    away.park_if_exiting();
                    Python::attach(|py| -> PyResult<()> { py.check_signals() })?;
                }
                Step::Panicked => return Err(Python::attach(|py| errors::internal(py, "a panic"))),
            }
        }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        // Dropping a runtime would wait for a name that is still being resolved.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
