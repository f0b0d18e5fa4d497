//! The handle on a run: how far it is, and how it is ended.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::error::WaitReason;
use crate::plan::Status;

/// How far a run is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Progress {
    /// How many rows there are to do, with those that an earlier run has done.
    pub rows: u64,
    /// How many are done.
    pub done: u64,
    /// How many requests were sent.
    pub requests: u64,
    /// How many are left, as far as that is known.
    pub requests_left: u64,
    /// The rows that this run has done, by what became of them.
    pub counts: BTreeMap<Status, u64>,
    /// What it does now.
    pub phase: Phase,
    /// Whether the list does not show accounts as `GET` does, so that each account is read by itself.
    pub items_are_incomplete: bool,
    /// What it waits for, and until when.
    pub waiting: Option<(WaitReason, Instant)>,
}

/// What a run does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Phase {
    /// It reads the accounts to plan.
    #[default]
    Reading,
    /// It writes.
    Writing,
}

/// The handle on a run: tells how far it is, and ends it.
#[derive(Debug, Default)]
pub struct Control {
    stopping: AtomicBool,
    stopped: Notify,
    progress: Mutex<Progress>,
}

impl Control {
    /// Starts nothing new. What is in flight comes to its end.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.stopped.notify_waiters();
    }

    /// Whether it is to stop.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        self.state().clone()
    }

    pub(super) fn state(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn count(&self, status: Status) {
        let mut progress = self.state();
        progress.done += 1;
        *progress.counts.entry(status).or_default() += 1;
    }

    /// Is ready when it is to stop.
    pub(super) async fn stopped(&self) {
        let stopped = self.stopped.notified();
        if !self.is_stopping() {
            stopped.await;
        }
    }

    /// What an operation comes to; `None` when the run is to stop before.
    pub(super) async fn unless_stopped<T>(&self, operation: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            outcome = operation => Some(outcome),
            () = self.stopped() => None,
        }
    }

    /// Shows what the run waits for, for a time that nobody knows, until this is dropped.
    pub(super) fn show(&self, reason: WaitReason) -> impl Drop {
        self.state().waiting = Some((reason, Instant::now()));
        Shown(self)
    }

    /// Waits until a moment, or until it is to stop.
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

/// A wait that is shown until it ends, or is dropped because something came back.
struct Shown<'a>(&'a Control);

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        self.0.state().waiting = None;
    }
}
