//! The handle on a run: its progress, and how to stop it.

use std::collections::BTreeMap;
use std::future::pending;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

use crate::error::WaitReason;
use crate::lock::lock;
use crate::plan::Status;

/// How long a wait of unknown length lasts before the progress shows it: most are short.
pub(super) const UNSHOWN: Duration = Duration::from_secs(5);

/// The progress of a run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Progress {
    /// The number of rows, including those done by an earlier run.
    pub rows: u64,
    /// The number of rows done.
    pub done: u64,
    /// The number of requests sent.
    pub requests: u64,
    /// The number of requests left, as far as it is known.
    pub requests_left: u64,
    /// The rows done by this run, by status.
    pub counts: BTreeMap<Status, u64>,
    /// The current phase.
    pub phase: Phase,
    /// Whether the list differs from `GET`, so that the run reads each account with `GET`.
    pub items_are_incomplete: bool,
    /// The reason and the end of the current wait.
    pub waiting: Option<(WaitReason, Instant)>,
    /// The row at which the run stopped, and at which each later run stops too if it includes the row.
    pub obstacle: Option<u64>,
}

/// The phase of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Phase {
    /// Reading the accounts for the plan.
    #[default]
    Reading,
    /// Sending updates.
    Writing,
}

/// The handle on a run: shows the progress, and stops it.
#[derive(Debug, Default)]
pub struct Control {
    stopping: AtomicBool,
    stopped: Notify,
    progress: Mutex<Progress>,
}

impl Control {
    /// Makes the run start nothing new. Requests in flight finish.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.stopped.notify_waiters();
    }

    /// Returns whether it is to stop.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Returns the progress.
    pub fn progress(&self) -> Progress {
        self.state().clone()
    }

    pub(super) fn state(&self) -> MutexGuard<'_, Progress> {
        lock(&self.progress)
    }

    pub(super) fn count(&self, status: Status) {
        let mut progress = self.state();
        progress.done += 1;
        *progress.counts.entry(status).or_default() += 1;
    }

    /// Completes when the run is to stop.
    pub(super) async fn stopped(&self) {
        let stopped = self.stopped.notified();
        if !self.is_stopping() {
            stopped.await;
        }
    }

    /// Returns what an operation returns, or `None` if the run is to stop before that.
    pub(super) async fn unless_stopped<T>(&self, operation: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            outcome = operation => Some(outcome),
            () = self.stopped() => None,
        }
    }

    /// Shows what the run waits for until the result is dropped. The length of the wait is unknown.
    pub(super) fn show(&self, reason: WaitReason) -> Shown<'_> {
        self.state().waiting = Some((reason, Instant::now()));
        Shown(self)
    }

    /// Shows what the run waits for until this is dropped, unless the wait is short or another one is shown. Does not
    /// complete.
    pub(super) async fn show_later(&self, reason: WaitReason) {
        sleep(UNSHOWN).await;
        let is_free = self.state().waiting.is_none();
        let _shown = is_free.then(|| self.show(reason));
        pending::<()>().await;
    }

    /// Waits until a moment, or until the run is to stop.
    pub(super) async fn wait(&self, until: Instant, reason: WaitReason) {
        if self.is_stopping() || until <= Instant::now() {
            return;
        }
        self.state().waiting = Some((reason, until));
        let _shown = Shown(self);
        tokio::select! {
            () = sleep_until(until) => {}
            () = self.stopped() => {}
        }
    }
}

/// A wait that is shown until it ends, or is dropped because a result arrived.
pub(super) struct Shown<'a>(&'a Control);

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        self.0.state().waiting = None;
    }
}
